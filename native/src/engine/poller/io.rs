//! Backend I/O of requests.

#[cfg(feature = "simulation")]
use crate::backend::IoOperation;
use crate::backend::{Backend, BackingId, IoCompletion, IoRequest, Queue};
use crate::controller::{IoKind, IoPlan};
use crate::engine::messages::{Handle, PollerEvent};
use crate::engine::poller::{Poller, Quiesce};
use crate::engine::request::{HostData, Request, State, Work};
use crate::engine::token::{self, TokenKind};
use crate::nvme::completion::Completion;
use crate::nvme::opcode::DataDirection;
use crate::nvme::status::StatusCode;
use crate::provider::Provider;
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

/// Backend completions taken in one step.
const BATCH: usize = 64;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Begins work on a backing: holds on to it, and waits at the fence if there is one.
    pub(super) fn begin_io(&mut self, handle: Handle, backing: BackingId) {
        let request = &mut self.requests[handle];
        if self.quiesce != Quiesce::No {
            let status = StatusCode::AsymmetricAccessInaccessible.retryable();
            let completion = Completion::with_status(&request.command, status);
            return self.respond(handle, completion);
        }
        if !self.backings.acquire(backing) {
            // The namespace went away between the model and this command; the next try finds it gone.
            let status = StatusCode::NamespaceNotReady.retryable();
            let completion = Completion::with_status(&request.command, status);
            return self.respond(handle, completion);
        }
        request.backing = Some(backing);
        if !self.park_at_fence(handle) {
            self.continue_io(handle);
        }
    }

    /// Goes on with an I/O that stood at a fence, or found none.
    fn continue_io(&mut self, handle: Handle) {
        let request = &self.requests[handle];
        let has_buffers = request.buffers.iter().any(Option::is_some);
        // A Deallocate has its ranges already; an I/O that was stopped on its way to the backend has its data.
        if has_buffers || matches!(request.work, Work::Deallocate(_)) {
            self.submit(handle);
        } else {
            self.obtain_buffers(handle);
        }
    }

    /// Whether the request has to wait for writes of an earlier association of its host.
    fn park_at_fence(&mut self, handle: Handle) -> bool {
        #[cfg(feature = "simulation")]
        if DeliberateFault::FenceSkipped.is_built_in() {
            return false;
        }
        let request = &mut self.requests[handle];
        // What others wait for does not wait itself.
        if request.fenced.is_some() {
            return false;
        }
        let association = self.queue_pairs[request.queue_pair].association;
        let Some(association) = association.and_then(|association| self.associations.get_mut(association)) else {
            return false;
        };
        let Some(fence_handle) = association.fence else {
            return false;
        };
        let Some(fence) = self.fences.get_mut(fence_handle) else {
            association.fence = None;
            return false;
        };
        let question = fence.last_question();
        if !request.backing.is_some_and(|backing| fence.covers(backing, question)) {
            return false;
        }
        request.state = State::Parked {
            fence: fence_handle,
            question,
        };
        fence.parked.push_back(&mut self.requests, handle);
        true
    }

    /// After a write behind a fence ended: lets go who need not wait any more, in order.
    pub(super) fn serve_fence(&mut self, fence: Handle) {
        let several = self.several_associations_wait(fence);
        let Some(found) = self.fences.get(fence) else { return };
        let mut next = found.parked.front(&self.requests);
        while let Some(handle) = next {
            let Some(found) = self.fences.get_mut(fence) else {
                return;
            };
            next = found.parked.next(&self.requests, handle);
            let request = &mut self.requests[handle];
            let backing = request.backing.expect("parked requests hold their backing");
            let State::Parked { question, .. } = request.state else {
                unreachable!("who waits at a fence is parked")
            };
            if found.covers(backing, question) {
                continue;
            }
            request.state = State::Planned;
            if (several || found.is_awaited(question)) && request.writes() && request.has_host_data() {
                // The host came back more than once, here or at another poller: what its newer association wants waits
                // for this write too. (One whose data is not here yet needs its host alive, or will never be executed.)
                request.fenced = Some((fence, found.add(backing)));
            }
            found.parked.remove(&mut self.requests, handle);
            self.continue_io(handle);
            // A request that has nothing to do ends at once, and may have let others go.
            let waits = |next: &Handle| self.requests.get(*next).is_some_and(|next| next.is_parked_at(fence));
            next = next
                .filter(waits)
                .or_else(|| self.fences.get(fence)?.parked.front(&self.requests));
        }
        self.answer_askers(fence);
        self.fences.remove_if_clear(fence);
    }

    /// The earliest question of the fence that a write at it came after.
    pub(super) fn earliest_parked_write(&self, fence: Handle) -> Option<u64> {
        let found = self.fences.get(fence)?;
        let first = found.parked.front(&self.requests);
        let parked = std::iter::successors(first, |handle| found.parked.next(&self.requests, *handle));
        let writes = parked.map(|handle| &self.requests[handle]);
        let questions = writes
            .filter(|request| request.writes() && request.has_host_data())
            .filter_map(|request| match request.state {
                State::Parked { question, .. } => Some(question),
                _ => None,
            });
        questions.min()
    }

    fn several_associations_wait(&self, fence: Handle) -> bool {
        let Some(found) = self.fences.get(fence) else {
            return false;
        };
        let association = |handle: Handle| self.queue_pairs[self.requests[handle].queue_pair].association;
        let mut waiting = std::iter::successors(found.parked.front(&self.requests), |handle| {
            found.parked.next(&self.requests, *handle)
        })
        .map(association);
        let first = waiting.next();
        waiting.any(|other| Some(other) != first)
    }

    /// Hands the request's next I/O to the backend, or lets it wait for room there.
    pub(super) fn submit(&mut self, handle: Handle) {
        if self.park_at_fence(handle) {
            return;
        }
        if self.backend_waiting.is_empty() && self.push(handle) {
            return;
        }
        self.requests[handle].state = State::WaitingBackend;
        self.backend_waiting.push_back(&mut self.requests, handle);
    }

    pub(super) fn serve_backend_queue(&mut self) {
        while let Some(handle) = self.backend_waiting.pop_front(&mut self.requests) {
            self.requests[handle].state = State::Planned;
            if !self.push(handle) {
                self.requests[handle].state = State::WaitingBackend;
                self.backend_waiting.push_front(&mut self.requests, handle);
                return;
            }
        }
    }

    /// Pushes the request's next I/O; a request that has none left is answered. False if the backend has no room.
    fn push(&mut self, handle: Handle) -> bool {
        let Some((stage, plan)) = self.next_io(handle) else {
            self.finish_io(handle, 0);
            return true;
        };
        let request = &mut self.requests[handle];
        let io = IoRequest {
            token: token::pack(TokenKind::Backend, handle),
            backing: plan.backing,
            operation: plan.backend_operation(),
            offset: plan.offset,
            length: plan.length,
            memory: memory_of(request, &plan, |receive, at| {
                self.shares[request.share].receives.address(receive, at)
            }),
        };
        #[cfg(feature = "simulation")]
        let io = match io.operation {
            IoOperation::Write { .. } if DeliberateFault::DurabilityForgotten.is_built_in() => IoRequest {
                operation: IoOperation::Write { durable: false },
                ..io
            },
            _ => io,
        };
        if self.backend.push(&io).is_err() {
            return false;
        }
        request.state = State::Backend;
        request.backend_io = true;
        request.backend_stage = stage + 1;
        self.unsubmitted = true;
        #[cfg(feature = "simulation")]
        if DeliberateFault::AcknowledgedTooEarly.is_built_in() && self.requests[handle].writes() {
            self.requests[handle].backend_io = false;
            self.finish_io(handle, 0);
        }
        true
    }

    /// The request's next I/O and its stage.
    fn next_io(&mut self, handle: Handle) -> Option<(u16, IoPlan)> {
        let stage = self.requests[handle].backend_stage;
        match self.requests[handle].work {
            Work::Io(plan) if stage == 0 => Some((0, plan)),
            // Zeroes have no durable form of their own.
            Work::Io(
                plan @ IoPlan {
                    kind: IoKind::WriteZeroes { durable: true, .. },
                    ..
                },
            ) if stage == 1 => Some((
                1,
                IoPlan {
                    kind: IoKind::Flush,
                    offset: 0,
                    length: 0,
                    ..plan
                },
            )),
            Work::Deallocate(plan) => self.with_host_data(handle, |data| {
                (stage..plan.ranges).find_map(|index| plan.range(data, index).map(|io| (index, io)))
            }),
            Work::Io(_) | Work::Respond | Work::Connect(_) | Work::Receive | Work::Produce => None,
        }
    }

    pub(super) fn submit_backend(&mut self) {
        if std::mem::take(&mut self.unsubmitted) {
            self.backend.submit();
        }
    }

    pub(super) fn poll_backend(&mut self) -> bool {
        let mut batch = [IoCompletion { token: 0, errno: 0 }; BATCH];
        let count = self.backend.poll(&mut batch);
        for completion in &batch[..count] {
            match token::unpack(completion.token) {
                Some((TokenKind::Backend, handle)) if self.is_in_backend(handle) => {
                    self.complete_io(handle, completion.errno);
                }
                _ => self.counters.stale_completions.increment(),
            }
        }
        count > 0
    }

    fn is_in_backend(&self, handle: Handle) -> bool {
        self.requests.get(handle).is_some_and(|request| request.backend_io)
    }

    fn complete_io(&mut self, handle: Handle, errno: i32) {
        let request = &mut self.requests[handle];
        request.backend_io = false;
        if request.abandoned {
            return self.release(handle);
        }
        request.state = State::Planned;
        if errno != 0 || self.next_io(handle).is_none() {
            self.finish_io(handle, errno);
        } else {
            self.submit(handle);
        }
    }

    fn finish_io(&mut self, handle: Handle, errno: i32) {
        let plan = match self.requests[handle].work {
            Work::Io(plan) => plan,
            Work::Deallocate(plan) => IoPlan {
                namespace_id: plan.namespace_id,
                backing: plan.backing,
                kind: IoKind::Deallocate,
                offset: 0,
                length: 0,
            },
            Work::Respond | Work::Connect(_) | Work::Receive | Work::Produce => {
                unreachable!("only work on a backing is finished by the backend")
            }
        };
        self.end_fenced_write(handle);
        if let Some(backing) = self.requests[handle].backing.take() {
            self.backings.release(backing);
        }
        let command = self.requests[handle].command;
        let mut completion = plan.completion(&command, errno);
        if errno != 0 {
            self.report_backend_error(handle, plan.namespace_id, errno);
        } else if plan.kind == IoKind::Compare && !self.compares_equal(handle) {
            completion = IoPlan::compare_failure(&command);
        }
        let request = &mut self.requests[handle];
        request.sends_data = completion.status.is_success() && plan.direction() == DataDirection::ToHost;
        self.respond(handle, completion);
    }

    /// The host's data against the backing's, which was read into the last buffer.
    fn compares_equal(&mut self, handle: Handle) -> bool {
        let request = &mut self.requests[handle];
        let length = request.data_bytes as usize;
        let share = &mut self.shares[request.share];
        let Some(mut read) = request.buffers[comparison_buffer(request)].take() else {
            return false;
        };
        let [host_buffer, _] = &mut request.buffers;
        let equal = match (request.host_data, request.receive, host_buffer) {
            (HostData::InCapsule { at }, Some(receive), _) => {
                share.capsule_equals(receive, at as usize, &mut read, length)
            }
            (HostData::Keyed { .. }, _, Some(buffer)) => share.bytes(buffer, length) == share.bytes(&mut read, length),
            _ => false,
        };
        share.give_back(read);
        equal
    }

    fn report_backend_error(&mut self, handle: Handle, namespace_id: u32, errno: i32) {
        let association = self.queue_pairs[self.requests[handle].queue_pair].association;
        let Some(association) = association.and_then(|association| self.associations.get(association)) else {
            return;
        };
        let subsystem_nqn = association.identity.subsystem_nqn.clone();
        self.outbox.report(
            PollerEvent::BackendError {
                subsystem_nqn,
                namespace_id,
                errno,
            },
            &self.counters,
        );
    }
}

/// Which buffer the backing's data is read into for a Compare: behind the host's, if that has one.
fn comparison_buffer(request: &Request) -> usize {
    request.buffers_needed() - 1
}

/// Address of the memory of an I/O; 0 if it has none.
fn memory_of(request: &Request, plan: &IoPlan, in_receive: impl FnOnce(u32, u32) -> u64) -> u64 {
    let address = |index: usize| request.buffers[index].as_ref().map_or(0, |buffer| buffer.address());
    let memory = match (plan.kind, request.host_data, request.receive) {
        (IoKind::Write { .. }, HostData::InCapsule { at }, Some(receive)) => in_receive(receive, at),
        (IoKind::Read | IoKind::Write { .. }, ..) => address(0),
        (IoKind::Compare, ..) => address(comparison_buffer(request)),
        (IoKind::Flush | IoKind::WriteZeroes { .. } | IoKind::Deallocate, ..) => return 0,
    };
    assert!(memory != 0, "an I/O that moves data has memory");
    memory
}
