//! From a capsule to a plan.

use crate::backend::Backend;
use crate::controller::Plan;
use crate::controller::connect::first_command;
use crate::engine::list::Link;
use crate::engine::messages::{CloseReason, Handle};
use crate::engine::poller::Poller;
use crate::engine::request::{After, HostData, Posted, Request, State, Work, operation_of};
use crate::engine::share::WaitingCapsule;
use crate::nvme::command::{COMMAND_BYTES, Command};
use crate::nvme::completion::Completion;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::fabrics::CONNECT_DATA_BYTES;
use crate::provider::Provider;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Makes a request of a capsule, or lets it wait for a request slot, first come first served.
    pub(super) fn admit_capsule(&mut self, share: Handle, capsule: WaitingCapsule) {
        let privileged = self.queue_pairs[capsule.queue_pair].is_privileged();
        let share_state = &mut self.shares[share];
        if share_state.has_backlog(privileged) {
            return share_state.push_backlog(privileged, capsule);
        }
        match share_state.take_response(privileged) {
            Some(response) => self.begin(share, capsule, response),
            None => self.shares[share].push_backlog(privileged, capsule),
        }
    }

    /// Takes waiting capsules as far as there are request slots.
    pub(super) fn serve_backlog(&mut self, share: Handle) {
        for privileged in [true, false] {
            while self.shares[share].has_backlog(privileged) {
                let Some(response) = self.shares[share].take_response(privileged) else {
                    break;
                };
                let capsule = self.shares[share]
                    .pop_backlog(privileged)
                    .expect("the backlog is not empty");
                let alive = self
                    .queue_pairs
                    .get(capsule.queue_pair)
                    .is_some_and(|owner| owner.is_active());
                if alive {
                    self.begin(share, capsule, response);
                } else {
                    self.shares[share].return_response(response);
                    self.shares[share].receives.release(capsule.receive);
                }
            }
        }
    }

    fn begin(&mut self, share: Handle, capsule: WaitingCapsule, response: u32) {
        let bytes = self.shares[share]
            .receives
            .capsule(capsule.receive, capsule.length as usize);
        let command = Command::from_capsule(bytes).expect("capsules shorter than a command are not admitted");
        let handle = self.new_request(capsule.queue_pair, command, response);
        let in_capsule_bytes = capsule.length - u32::try_from(COMMAND_BYTES).expect("64");
        self.attach_data_pointer(handle, capsule.receive, in_capsule_bytes);
        let queue_pair = &self.queue_pairs[capsule.queue_pair];
        let Some(association) = queue_pair.association else {
            return self.begin_connect(handle, in_capsule_bytes);
        };
        let queue_id = queue_pair.queue_id;
        let controller = &mut self.associations[association].controller;
        let plan = controller.begin(queue_id, &command, in_capsule_bytes, self.now);
        self.carry_out(handle, plan);
    }

    /// A request without a plan yet.
    pub(super) fn new_request(&mut self, owner: Handle, command: Command, response: u32) -> Handle {
        let queue_pair = &mut self.queue_pairs[owner];
        let request = Request {
            queue_pair: owner,
            share: queue_pair.share,
            command,
            received_at: self.now,
            operation: operation_of(&command, queue_pair.queue_id),
            state: State::Planned,
            abandoned: false,
            privileged: queue_pair.is_privileged(),
            links: [Link::NONE; 2],
            work: Work::Respond,
            host_data: HostData::None,
            data_bytes: 0,
            invalidate: None,
            receive: None,
            buffers: [None, None],
            posted: Posted::default(),
            backing: None,
            backend_io: false,
            backend_stage: 0,
            fenced: None,
            completion: Completion::success(&command),
            sends_data: false,
            response,
            after: After::Continue,
        };
        let handle = self.requests.insert(request);
        queue_pair.requests.push_back(&mut self.requests, handle);
        handle
    }

    /// Notes where the host's data is. The receive is kept only if data is in it. A pointer that cannot be read is
    /// left to the plan, which says what is wrong with it.
    fn attach_data_pointer(&mut self, handle: Handle, receive: u32, in_capsule_bytes: u32) {
        let request = &mut self.requests[handle];
        let share = &mut self.shares[request.share];
        match request.command.data_pointer() {
            Ok(pointer @ DataPointer::Keyed { address, key, .. }) => {
                request.host_data = HostData::Keyed { address, key };
                if share.resources.sizing.send_with_invalidate {
                    request.invalidate = pointer.invalidate_key();
                }
            }
            Ok(pointer @ DataPointer::InCapsule { length: 1.., .. }) => {
                if let Ok(range) = pointer.in_capsule_range(in_capsule_bytes) {
                    let at = u32::try_from(COMMAND_BYTES + range.start).expect("within a receive");
                    request.host_data = HostData::InCapsule { at };
                    request.receive = Some(receive);
                }
            }
            Ok(DataPointer::InCapsule { .. }) | Err(_) => {}
        }
        if request.receive.is_none() {
            share.receives.release(receive);
        }
    }

    fn begin_connect(&mut self, handle: Handle, in_capsule_bytes: u32) {
        let request = &mut self.requests[handle];
        match first_command(&request.command, in_capsule_bytes) {
            Ok(connect) => {
                request.work = Work::Connect(connect);
                request.data_bytes = u32::try_from(CONNECT_DATA_BYTES).expect("1024");
                self.obtain_buffers(handle);
            }
            Err(refusal) => {
                request.after = After::Close(CloseReason::ProtocolError);
                self.respond(handle, refusal.completion);
            }
        }
    }

    /// Does what the controller planned.
    pub(super) fn carry_out(&mut self, handle: Handle, plan: Plan) {
        let request = &mut self.requests[handle];
        let admin = self.queue_pairs[request.queue_pair].queue_id == 0;
        let association = self.queue_pairs[request.queue_pair].association;
        match plan {
            Plan::Complete(completion) => self.respond(handle, completion),
            Plan::CompleteAndClose(completion) => {
                request.after = After::Close(CloseReason::HostDisconnected);
                self.respond(handle, completion);
            }
            // Answered through `next_event`; it stays outstanding.
            Plan::Hold => self.release(handle),
            Plan::Receive { length } => {
                request.work = Work::Receive;
                request.data_bytes = length;
                self.obtain_buffers(handle);
            }
            Plan::Produce { length } => {
                request.work = Work::Produce;
                request.data_bytes = length;
                self.obtain_buffers(handle);
            }
            Plan::Io(plan) => {
                request.work = Work::Io(plan);
                request.data_bytes = plan.transfer_bytes();
                self.begin_io(handle, plan.backing);
            }
            Plan::Deallocate(plan) => {
                request.work = Work::Deallocate(plan);
                self.begin_io(handle, plan.backing);
            }
        }
        if let Some(association) = association.filter(|_| admin) {
            self.after_admin_command(association);
        }
    }

    /// Events and queues that an admin command may have set free.
    fn after_admin_command(&mut self, association: Handle) {
        self.send_association_events(association);
        let Some(found) = self.associations.get_mut(association) else {
            return;
        };
        for queue_id in found.controller.take_io_queues_to_close() {
            let queue_pair = self.associations[association]
                .queue_pairs
                .get(usize::from(queue_id))
                .copied()
                .flatten();
            if let Some(queue_pair) = queue_pair {
                self.close_io_queue(association, queue_pair, CloseReason::AssociationEnded);
            }
        }
    }
}
