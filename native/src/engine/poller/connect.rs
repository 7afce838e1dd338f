//! Connect commands: the birth of associations, and queues that join them.

use crate::authentication::exchange::KEY_UNUSABLE;
use crate::backend::Backend;
use crate::controller::Controller;
use crate::controller::connect::{ConnectRefusal, parse_data};
use crate::engine::association::Association;
use crate::engine::messages::{CloseReason, Handle, HostIdentity, PollerEvent};
use crate::engine::poller::Poller;
use crate::engine::request::After;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::{ConnectCommand, ConnectData, connect_offset};
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::provider::Provider;

/// Controller ids of the discovery subsystem: all that are not reserved (NVMe base 2.0 section 3.1.1: FFF0h up are).
const DISCOVERY_CONTROLLER_IDS: (u16, u16) = (1, 0xffef);

impl<P: Provider, B: Backend> Poller<P, B> {
    /// The data of a Connect is here.
    pub(super) fn connect(&mut self, handle: Handle, connect: &ConnectCommand) {
        // Parsed before anything else: the data's place is only lent.
        let parsed = self.with_host_data(handle, |data| parse_data(connect, data));
        let outcome = match &parsed {
            Ok(data) => self.join_association(handle, connect, data),
            Err(refusal) => Err(*refusal),
        };
        match outcome {
            Ok(completion) => self.respond(handle, completion),
            Err(refusal) => {
                self.report_refusal(handle, parsed.as_ref().ok(), &refusal);
                self.requests[handle].after = After::Close(CloseReason::NotAllowed);
                self.respond(handle, refusal.completion);
            }
        }
    }

    fn join_association(
        &mut self,
        handle: Handle,
        connect: &ConnectCommand,
        data: &ConnectData,
    ) -> Result<Completion, ConnectRefusal> {
        let queue_pair = &self.queue_pairs[self.requests[handle].queue_pair];
        if queue_pair.association.is_some() {
            // A second Connect overtook this one's data.
            return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::QUEUE_ID));
        }
        // The connection manager's private data named the queue before: both must agree.
        if connect.queue_id != queue_pair.queue_id {
            return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::QUEUE_ID));
        }
        if connect.queue_id == 0 {
            self.connect_admin(handle, connect, data)
        } else {
            self.connect_io(handle, connect, data)
        }
    }

    fn connect_admin(
        &mut self,
        handle: Handle,
        connect: &ConnectCommand,
        data: &ConnectData,
    ) -> Result<Completion, ConnectRefusal> {
        let owner = self.requests[handle].queue_pair;
        let (queue_size, share, source, local) = {
            let queue_pair = &self.queue_pairs[owner];
            (
                queue_pair.queue_size,
                queue_pair.share,
                queue_pair.source,
                queue_pair.local,
            )
        };
        let controller_id = self.allocate_controller_id(data);
        let (mut controller, completion) =
            Controller::connect_admin(&self.model, connect, data, queue_size, controller_id, self.now)?;
        controller.set_local_address(local);
        let identity = HostIdentity {
            host_nqn: data.host_nqn.clone(),
            subsystem_nqn: data.subsystem_nqn.clone(),
            controller_id: controller.id(),
            source,
            listener: self.shares[share].resources.listener.clone(),
            discovery: controller.is_discovery(),
        };
        let authenticates = controller.authentication_pending(0);
        let association = self.associations.insert(Association {
            controller,
            identity,
            share,
            queue_pairs: vec![Some(owner)],
            admitted: false,
            fence: None,
        });
        self.queue_pairs[owner].association = Some(association);
        self.set_flow_control(owner, connect);
        if authenticates {
            self.expect_authentication(owner, association);
        } else {
            self.admit(association);
        }
        Ok(completion)
    }

    /// The host is who it says it is, or need not prove it: from now on it counts, and its earlier writes are waited for.
    pub(super) fn admit(&mut self, association: Handle) {
        if self.associations[association].admitted {
            return;
        }
        let identity = self.associations[association].identity.clone();
        self.fence_earlier_writes(&identity.host_nqn, &identity.subsystem_nqn);
        if !identity.discovery {
            self.ask_other_pollers(&identity.host_nqn, &identity.subsystem_nqn);
        }
        let fence = self.fences.find(&identity.host_nqn, &identity.subsystem_nqn);
        let found = &mut self.associations[association];
        found.admitted = true;
        found.fence = fence;
        if let Some(deadline) = found.controller.deadline() {
            self.schedule(deadline);
        }
        self.outbox.report(PollerEvent::HostConnected(identity), &self.counters);
    }

    fn connect_io(
        &mut self,
        handle: Handle,
        connect: &ConnectCommand,
        data: &ConnectData,
    ) -> Result<Completion, ConnectRefusal> {
        let owner = self.requests[handle].queue_pair;
        let (queue_size, share) = (self.queue_pairs[owner].queue_size, self.queue_pairs[owner].share);
        let found = self
            .associations
            .of_controller(&data.subsystem_nqn, data.controller_id)
            .filter(|association| self.associations[*association].share == share);
        let Some(association) = found else {
            return Err(ConnectRefusal::unknown_controller(connect));
        };
        let found = &mut self.associations[association];
        let completion = found.controller.connect_io(connect, data, queue_size, self.now)?;
        let queue_id = usize::from(connect.queue_id);
        if found.queue_pairs.len() <= queue_id {
            found.queue_pairs.resize(queue_id + 1, None);
        }
        assert!(
            found.queue_pairs[queue_id].is_none(),
            "the controller refuses a queue id in use"
        );
        found.queue_pairs[queue_id] = Some(owner);
        self.queue_pairs[owner].association = Some(association);
        self.set_flow_control(owner, connect);
        self.expect_authentication(owner, association);
        self.report_queues(association);
        Ok(completion)
    }

    fn set_flow_control(&mut self, queue_pair: Handle, connect: &ConnectCommand) {
        if connect.disables_flow_control() {
            self.queue_pairs[queue_pair].disable_flow_control();
        }
    }

    /// A free controller id; `None` when there is none, or no such subsystem (the controller then says which).
    fn allocate_controller_id(&mut self, data: &ConnectData) -> Option<u16> {
        let ids = if data.subsystem_nqn == DISCOVERY_NQN {
            DISCOVERY_CONTROLLER_IDS
        } else {
            self.model.subsystem(&data.subsystem_nqn)?.controller_ids
        };
        self.controller_ids
            .allocate(&data.subsystem_nqn, ids, &self.associations)
    }

    pub(super) fn report_queues(&mut self, association: Handle) {
        let found = &self.associations[association];
        let event = PollerEvent::HostQueues {
            subsystem_nqn: found.identity.subsystem_nqn.clone(),
            controller_id: found.identity.controller_id,
            queue_pairs: found.queue_pair_count(),
        };
        self.outbox.report(event, &self.counters);
    }

    fn report_refusal(&mut self, handle: Handle, data: Option<&ConnectData>, refusal: &ConnectRefusal) {
        if refusal.reason == KEY_UNUSABLE {
            self.counters.authentication_failures.increment();
        }
        let name = |nqn: Option<&String>| nqn.cloned().unwrap_or_default();
        let event = PollerEvent::ConnectRefused {
            host_nqn: name(data.map(|data| &data.host_nqn)),
            subsystem_nqn: name(data.map(|data| &data.subsystem_nqn)),
            source: self.queue_pairs[self.requests[handle].queue_pair].source,
            reason: refusal.reason,
        };
        self.outbox.report(event, &self.counters);
    }
}
