//! Keep-alive, Connect, close and drain deadlines: looked at only when the earliest of them may have passed.

use std::time::Instant;

use crate::backend::Backend;
use crate::engine::messages::CloseReason;
use crate::engine::poller::Poller;
use crate::engine::share::PortService;
use crate::provider::Provider;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Looks at the timers no later than at this time.
    pub(super) fn schedule(&mut self, at: Instant) {
        self.timer = Some(self.timer.map_or(at, |timer| timer.min(at)));
    }

    /// Ends what ran out of time. Timers only ever move later between two looks, so the earliest is a safe bound.
    pub(super) fn run_timers(&mut self) -> bool {
        if self.timer.is_none_or(|timer| self.now < timer) {
            return false;
        }
        self.timer = None;
        self.end_orphans();
        let expired = self.expire_associations();
        let silent = self.expire_unconnected();
        self.quarantine_overdue();
        for slot in self.shares.slots() {
            let service = self.shares.handle(slot).map(|share| self.shares[share].service);
            if let Some(PortService::Draining {
                deadline,
                quarantined: false,
            }) = service
            {
                if deadline > self.now {
                    self.schedule(deadline);
                }
            }
        }
        expired || silent
    }

    fn expire_associations(&mut self) -> bool {
        let mut worked = false;
        for slot in self.associations.slots() {
            let Some(association) = self.associations.handle(slot) else {
                continue;
            };
            let controller = &self.associations[association].controller;
            if controller.expired(self.now) {
                self.counters.keep_alive_timeouts.increment();
                self.end_association(association, CloseReason::KeepAliveExpired, None);
                worked = true;
            } else if let Some(deadline) = controller.deadline() {
                self.schedule(deadline);
            }
        }
        worked
    }

    /// Queue pairs whose host never sent a Connect command, or did not authenticate itself.
    fn expire_unconnected(&mut self) -> bool {
        let mut worked = false;
        for slot in self.queue_pairs.slots() {
            let Some(handle) = self.queue_pairs.handle(slot) else {
                continue;
            };
            let queue_pair = &self.queue_pairs[handle];
            let (deadline, reason) = match (queue_pair.association, queue_pair.authentication_deadline) {
                _ if !queue_pair.is_active() => continue,
                (None, _) => (queue_pair.connect_deadline, CloseReason::ProtocolError),
                (Some(_), Some(deadline)) => (deadline, CloseReason::AuthenticationFailed),
                (Some(_), None) => continue,
            };
            if self.now >= deadline {
                self.close_queue_pair(handle, reason);
                worked = true;
            } else {
                self.schedule(deadline);
            }
        }
        worked
    }
}
