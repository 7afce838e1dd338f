//! Taking queue pairs and associations down.

use crate::backend::{Backend, BackingId};
use crate::engine::fence::Asker;
use crate::engine::messages::{CloseReason, Handle, PollerEvent, ToControl};
use crate::engine::poller::Poller;
use crate::engine::queue_pair::Service;
use crate::engine::request::State;
use crate::engine::share::{Moment, Polling};
use crate::provider::Provider;
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Takes a queue pair down, with what its end means for its association: an I/O queue that its host disconnects
    /// goes alone (hosts close I/O queues first, then shut the controller down); anything else ends them all.
    pub(super) fn close_queue_pair(&mut self, handle: Handle, reason: CloseReason) {
        let queue_pair = &self.queue_pairs[handle];
        if !queue_pair.is_active() {
            return;
        }
        match queue_pair.association {
            None => self.take_down(handle, reason),
            Some(association) if queue_pair.queue_id != 0 && reason == CloseReason::HostDisconnected => {
                self.close_io_queue(association, handle, reason);
            }
            Some(association) => self.end_association(association, reason, Some(handle)),
        }
    }

    /// Takes one I/O queue down; the association goes on.
    pub(super) fn close_io_queue(&mut self, association: Handle, handle: Handle, reason: CloseReason) {
        let queue_id = self.queue_pairs[handle].queue_id;
        assert!(queue_id != 0, "an association does not go on without its admin queue");
        self.report_unauthenticated(handle, association, reason);
        self.take_down(handle, reason);
        let found = &mut self.associations[association];
        found.controller.queue_closed(queue_id);
        let place = &mut found.queue_pairs[usize::from(queue_id)];
        assert!(place.take() == Some(handle), "an association knows its queue pairs");
        self.report_queues(association);
    }

    /// Takes all queue pairs of an association down and forgets it. `culprit` is the queue pair the reason is about;
    /// the others end because it did, unless the reason is about them all.
    pub(super) fn end_association(&mut self, association: Handle, reason: CloseReason, culprit: Option<Handle>) {
        let others = match reason {
            CloseReason::HostDisconnected
            | CloseReason::TransportError
            | CloseReason::ProtocolError
            | CloseReason::AuthenticationFailed
            | CloseReason::ConnectFailed
            | CloseReason::AssociationEnded => CloseReason::AssociationEnded,
            CloseReason::KeepAliveExpired
            | CloseReason::PortDraining
            | CloseReason::NotAllowed
            | CloseReason::Shutdown => reason,
        };
        let queue_pairs = std::mem::take(&mut self.associations[association].queue_pairs);
        if let Some(culprit) = culprit {
            self.report_unauthenticated(culprit, association, reason);
        }
        for queue_pair in queue_pairs.into_iter().flatten() {
            self.take_down(queue_pair, if Some(queue_pair) == culprit { reason } else { others });
        }
        let ended = self.associations.remove(association).expect("an association ends once");
        if ended.admitted {
            self.outbox
                .report(PollerEvent::HostDisconnected(ended.identity, reason), &self.counters);
        }
    }

    /// Puts a queue pair into the error state and drops what is not in the device's or the backend's hands.
    pub(super) fn take_down(&mut self, handle: Handle, reason: CloseReason) {
        let queue_pair = &mut self.queue_pairs[handle];
        assert!(queue_pair.is_active(), "a queue pair is taken down once");
        let share = &self.shares[queue_pair.share];
        let deadline = self.now + self.model.drain_timeout;
        queue_pair.service = Service::Closing {
            reason,
            since: share.look.moment(self.step),
            deadline,
            quarantined: false,
        };
        // If even that fails, nothing is flushed: the drain's deadline then quarantines it.
        let _ = self.provider.fail_queue_pair(&mut queue_pair.verbs);
        let counters = &share.resources.counters;
        counters.queue_pairs_active.subtract(1);
        counters.queue_pairs_draining.increment();
        self.schedule(deadline);
        let mut fence = None;
        let mut next = self.queue_pairs[handle].requests.front(&self.requests);
        while let Some(request) = next {
            next = self.queue_pairs[handle].requests.next(&self.requests, request);
            self.abandon(request, &mut fence);
        }
        if let Some(fence) = fence {
            self.fence_associations(handle, fence);
        }
        self.queue_pairs[handle].association = None;
        self.note_settled(handle);
    }

    /// The request ends without a response, now or when the device and the backend are done with it.
    fn abandon(&mut self, handle: Handle, fence: &mut Option<Handle>) {
        let request = &mut self.requests[handle];
        assert!(!request.abandoned, "a request is abandoned once");
        request.abandoned = true;
        let owner = request.queue_pair;
        match request.state {
            State::Parked { fence: behind, .. } => {
                let found = self
                    .fences
                    .get_mut(behind)
                    .expect("a fence stands while someone waits for it");
                found.parked.remove(&mut self.requests, handle);
                if found.has_askers() {
                    // It may be what they waited for.
                    self.answer_askers(behind);
                    self.fences.remove_if_clear(behind);
                }
            }
            State::WaitingBuffer(class) => {
                let (share, privileged) = (request.share, request.privileged);
                self.shares[share]
                    .waiting(class, privileged)
                    .remove(&mut self.requests, handle);
            }
            State::FetchQueued | State::ResponseQueued => {
                self.queue_pairs[owner].sends.remove(&mut self.requests, handle);
            }
            State::WaitingBackend => self.backend_waiting.remove(&mut self.requests, handle),
            #[cfg(feature = "simulation")]
            State::Backend if DeliberateFault::BackendNotAwaited.is_built_in() => {
                self.requests[handle].backend_io = false;
            }
            State::Backend => self.fence_write(handle, fence),
            State::Fetching | State::Responding => {}
            State::Planned => unreachable!("a queue pair is not taken down in the middle of planning its request"),
        }
        self.release_if_idle(handle);
    }

    /// A write that is still in the backend: the host's later I/O on this backing waits for it. `fence` is the host's
    /// once it is known, so that it is looked for once a queue pair and not once a write.
    fn fence_write(&mut self, handle: Handle, fence: &mut Option<Handle>) {
        let request = &self.requests[handle];
        let association = self.queue_pairs[request.queue_pair].association;
        let (Some(backing), Some(association)) = (request.backing.filter(|_| request.writes()), association) else {
            return;
        };
        *fence = match (request.fenced, *fence) {
            (Some((fence, _)), _) => Some(fence),
            (None, Some(fence)) => {
                self.requests[handle].fenced = Some((fence, self.fences.add_to(fence, backing)));
                Some(fence)
            }
            (None, None) => {
                let identity = &self.associations[association].identity;
                let (host_nqn, subsystem_nqn) = (identity.host_nqn.clone(), identity.subsystem_nqn.clone());
                Some(self.add_fenced_write(handle, &host_nqn, &subsystem_nqn, backing))
            }
        };
    }

    /// Every association of a queue pair's host waits at this fence from now on.
    fn fence_associations(&mut self, handle: Handle, fence: Handle) {
        let Some(association) = self.queue_pairs[handle].association else {
            return;
        };
        let identity = &self.associations[association].identity;
        for other in self.associations.of_host(&identity.host_nqn, &identity.subsystem_nqn) {
            self.associations[other].fence = Some(fence);
        }
    }

    fn add_fenced_write(&mut self, handle: Handle, host_nqn: &str, subsystem_nqn: &str, backing: BackingId) -> Handle {
        let (fence, write) = self.fences.add_write(host_nqn, subsystem_nqn, backing);
        self.requests[handle].fenced = Some((fence, write));
        fence
    }

    /// A host connects: its earlier association may look alive although the host has given it up. Writes of it that
    /// will be executed without hearing of the host again are fenced, so that none lands after what the new
    /// association writes. For a host that really uses both, the new one's first I/O is only a little late.
    pub(super) fn fence_earlier_writes(&mut self, host_nqn: &str, subsystem_nqn: &str) {
        for association in self.associations.of_host(host_nqn, subsystem_nqn) {
            for index in 0..self.associations[association].queue_pairs.len() {
                let Some(queue_pair) = self.associations[association].queue_pairs[index] else {
                    continue;
                };
                let mut next = self.queue_pairs[queue_pair].requests.front(&self.requests);
                while let Some(handle) = next {
                    next = self.queue_pairs[queue_pair].requests.next(&self.requests, handle);
                    let request = &self.requests[handle];
                    let unfenced = request.backing.filter(|_| request.fenced.is_none());
                    if let Some(backing) = unfenced.filter(|_| request.writes() && request.is_independent_of_host()) {
                        self.add_fenced_write(handle, host_nqn, subsystem_nqn, backing);
                    }
                }
            }
        }
    }

    /// A host connected here: its earlier associations may have been on other pollers, for a host with several addresses
    /// or ports has associations on several. The fence covers everything until all of them say that nothing is left.
    pub(super) fn ask_other_pollers(&mut self, host_nqn: &str, subsystem_nqn: &str) {
        if self.controller_ids.place().count < 2 {
            return;
        }
        let fence = self.fences.find_or_make(host_nqn, subsystem_nqn);
        self.fence_questions += 1;
        let question = self.fence_questions;
        if let Some(found) = self.fences.get_mut(fence) {
            found.asked(question);
        }
        self.outbox.send(ToControl::FenceAsked {
            fence,
            question,
            host_nqn: host_nqn.to_owned(),
            subsystem_nqn: subsystem_nqn.to_owned(),
        });
    }

    /// Another poller's host: the answer waits for the writes of it that are in the backend, and for those that wait at
    /// its fence here since before it connected there. What came later may wait for the asker itself.
    pub(super) fn fence_queried(&mut self, asker: Asker, host_nqn: &str, subsystem_nqn: &str) {
        self.fence_earlier_writes(host_nqn, subsystem_nqn);
        let Some(own) = self.fences.find(host_nqn, subsystem_nqn) else {
            return self.outbox.send(ToControl::FenceClear(asker));
        };
        if let Some(found) = self.fences.get_mut(own) {
            found.add_asker(asker);
        }
        self.answer_askers(own);
        self.fences.remove_if_clear(own);
    }

    /// Tells the other pollers that wait for nothing here any more.
    pub(super) fn answer_askers(&mut self, fence: Handle) {
        let asked = self.fences.get(fence).is_some_and(|found| found.has_askers());
        let waiting = if asked {
            self.earliest_parked_write(fence)
        } else {
            return;
        };
        let Some(found) = self.fences.get_mut(fence) else {
            return;
        };
        for asker in found.take_askers(waiting) {
            self.outbox.send(ToControl::FenceClear(asker));
        }
    }

    /// The other pollers have nothing left of what was asked about.
    pub(super) fn fence_lifted(&mut self, fence: Handle, question: u64) {
        if self.fences.get_mut(fence).is_some_and(|found| found.answered(question)) {
            self.serve_fence(fence);
        } else {
            self.counters.stale_messages.increment();
        }
    }

    /// The request's write has left the backend, or will never get there.
    pub(super) fn end_fenced_write(&mut self, handle: Handle) {
        if let Some((fence, write)) = self.requests[handle].fenced.take() {
            if self.fences.write_ended(fence, write) {
                self.serve_fence(fence);
            }
        }
    }

    /// A queue pair that is being taken down may have lost the last of what is in flight on it.
    pub(super) fn note_settled(&mut self, handle: Handle) {
        let queue_pair = &mut self.queue_pairs[handle];
        let Service::Closing { since, .. } = queue_pair.service else {
            return;
        };
        if !queue_pair.settled && queue_pair.sends_reaped() && queue_pair.requests.is_empty() {
            queue_pair.settled = true;
            self.shares[queue_pair.share].settled.push(since, handle);
        }
    }

    /// Gives back the queue pairs that nothing is in flight on any more.
    pub(super) fn finish_closing(&mut self) -> bool {
        let mut worked = false;
        for slot in self.shares.slots() {
            let Some(share) = self.shares.handle(slot) else {
                continue;
            };
            while let Some((since, handle)) = self.shares[share].settled.first() {
                if !self.is_swept(share, since) {
                    // One more look at the completion queue may be all that is missing. One that cannot be polled now
                    // is tried again a little later, not at once.
                    worked |= self.shares[share].polling == Polling::Works;
                    break;
                }
                self.shares[share].settled.take_first();
                self.give_back_queue_pair(handle);
                worked = true;
            }
        }
        worked
    }

    /// Queue pairs that were taken down by themselves and should be done by now: kept aside, and reported. Those of a
    /// port that drains have its deadline.
    pub(super) fn quarantine_overdue(&mut self) {
        for slot in self.queue_pairs.slots() {
            let Some(handle) = self.queue_pairs.handle(slot) else {
                continue;
            };
            let queue_pair = &mut self.queue_pairs[handle];
            let share = &self.shares[queue_pair.share];
            let Service::Closing {
                reason,
                deadline,
                quarantined,
                ..
            } = &mut queue_pair.service
            else {
                continue;
            };
            if *quarantined || share.is_draining() {
                continue;
            }
            let (reason, deadline) = (*reason, *deadline);
            if deadline > self.now {
                self.schedule(deadline);
                continue;
            }
            *quarantined = true;
            let counters = &share.resources.counters;
            counters.queue_pairs_draining.subtract(1);
            counters.queue_pairs_quarantined.increment();
            let requests = &self.requests;
            let first = queue_pair.requests.front(requests);
            let own = std::iter::successors(first, |request| queue_pair.requests.next(requests, *request));
            let in_backend = own.filter(|request| requests[*request].backend_io);
            let event = PollerEvent::QueuePairQuarantined {
                listener: share.resources.listener.clone(),
                source: queue_pair.source,
                queue_id: queue_pair.queue_id,
                reason,
                work_requests: queue_pair.send_credits_max - queue_pair.send_credits,
                backend_ios: u32::try_from(in_backend.count()).expect("requests fit a token"),
            };
            self.outbox.report(event, &self.counters);
        }
    }

    /// Capsules that arrived before the error state may still stand in the completion queue; then it is not. What was
    /// taken down earlier is swept earlier.
    fn is_swept(&self, share: Handle, since: Moment) -> bool {
        #[cfg(feature = "simulation")]
        if DeliberateFault::QueuePairNotReaped.is_built_in() {
            return true;
        }
        let share = &self.shares[share];
        share.look.has_passed(since, share.resources.sizing.completion_entries)
    }

    fn give_back_queue_pair(&mut self, handle: Handle) {
        let queue_pair = self
            .queue_pairs
            .remove(handle)
            .expect("a queue pair is given back once");
        let Service::Closing {
            reason, quarantined, ..
        } = queue_pair.service
        else {
            unreachable!("only closing queue pairs are given back")
        };
        let share = &mut self.shares[queue_pair.share];
        assert!(
            share.numbers.remove(&queue_pair.number) == Some(handle),
            "a queue pair is found by its number"
        );
        let counters = &share.resources.counters;
        let gauge = if quarantined {
            &counters.queue_pairs_quarantined
        } else {
            &counters.queue_pairs_draining
        };
        gauge.subtract(1);
        self.outbox.send(ToControl::QueuePairDrained {
            connection: queue_pair.connection,
            queue_pair: queue_pair.verbs,
            reason,
        });
    }
}
