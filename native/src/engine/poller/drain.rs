//! What a port does while its link is down: hold, resume, drain, quarantine.

use std::time::Instant;

use crate::backend::Backend;
use crate::engine::messages::{CloseReason, Handle, ToControl};
use crate::engine::poller::Poller;
use crate::engine::queue_pair::Service;
use crate::engine::share::PortService;
use crate::provider::Provider;
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Posts nothing from now on; what is answered meanwhile waits in the send lists.
    pub(super) fn hold(&mut self, share: Handle) {
        if self.shares[share].service != PortService::Serving {
            return self.counters.stale_messages.increment();
        }
        self.shares[share].service = PortService::Holding;
        for (_, association) in self
            .associations
            .iter_mut()
            .filter(|(_, association)| association.share == share)
        {
            #[cfg(feature = "simulation")]
            if DeliberateFault::KeepAliveClockRunsOn.is_built_in() {
                continue;
            }
            association.controller.pause_clock(self.now);
        }
    }

    /// Goes on where it stood.
    pub(super) fn resume(&mut self, share: Handle) {
        if self.shares[share].service != PortService::Holding {
            return self.counters.stale_messages.increment();
        }
        self.shares[share].service = PortService::Serving;
        for (_, association) in self
            .associations
            .iter_mut()
            .filter(|(_, association)| association.share == share)
        {
            #[cfg(feature = "simulation")]
            if DeliberateFault::KeepAliveClockRunsOn.is_built_in() {
                continue;
            }
            association.controller.resume_clock(self.now);
        }
        self.schedule(self.now);
        for slot in self.queue_pairs.slots() {
            let Some(handle) = self.queue_pairs.handle(slot) else {
                continue;
            };
            // Whether there is something to send, and whether it may be sent, is seen when it is flushed.
            if self.queue_pairs[handle].share == share {
                self.mark_dirty(handle);
            }
        }
    }

    /// Takes everything of the port down. What is unfinished at the deadline is quarantined.
    pub(super) fn drain(&mut self, share: Handle, deadline: Instant) {
        if self.shares[share].is_draining() {
            return self.counters.stale_messages.increment();
        }
        self.shares[share].service = PortService::Draining {
            deadline,
            quarantined: false,
        };
        for slot in self.associations.slots() {
            let Some(association) = self.associations.handle(slot) else {
                continue;
            };
            if self.associations[association].share == share {
                self.end_association(association, CloseReason::PortDraining, None);
            }
        }
        for slot in self.queue_pairs.slots() {
            let Some(handle) = self.queue_pairs.handle(slot) else {
                continue;
            };
            let queue_pair = &self.queue_pairs[handle];
            if queue_pair.share == share && queue_pair.is_active() {
                self.take_down(handle, CloseReason::PortDraining);
            }
        }
        self.schedule(deadline);
    }

    /// Gives back the ports that are drained, and reports those that are not in time.
    pub(super) fn finish_draining(&mut self) -> bool {
        let mut worked = false;
        for slot in self.shares.slots() {
            let Some(handle) = self.shares.handle(slot) else {
                continue;
            };
            let share = &self.shares[handle];
            let PortService::Draining { deadline, quarantined } = share.service else {
                continue;
            };
            if share.numbers.is_empty() {
                assert!(share.requests() == 0, "requests end with their queue pairs");
                let share = self.shares.remove(handle).expect("it was just there");
                self.outbox.send(ToControl::PortDrained(share.into_resources()));
                worked = true;
            } else if !quarantined && self.now >= deadline {
                self.quarantine(handle);
                worked = true;
            }
        }
        worked
    }

    fn quarantine(&mut self, handle: Handle) {
        let share = &mut self.shares[handle];
        share.quarantine();
        let (mut queue_pairs, mut before) = (0, 0);
        for (_, queue_pair) in self
            .queue_pairs
            .iter_mut()
            .filter(|(_, queue_pair)| queue_pair.share == handle)
        {
            let Service::Closing { quarantined, .. } = &mut queue_pair.service else {
                unreachable!("a draining port has no active queue pair")
            };
            before += u32::from(*quarantined);
            *quarantined = true;
            queue_pairs += 1;
        }
        let counters = &share.resources.counters;
        counters.queue_pairs_draining.subtract(u64::from(queue_pairs - before));
        counters.queue_pairs_quarantined.add(u64::from(queue_pairs - before));
        let in_backend = self
            .requests
            .iter()
            .filter(|(_, request)| request.share == handle && request.backend_io);
        let backend_ios = u32::try_from(in_backend.count()).expect("requests fit a token");
        let (port, epoch) = (share.resources.port, share.resources.epoch);
        self.outbox.send(ToControl::PortQuarantined {
            port,
            epoch,
            queue_pairs,
            backend_ios,
        });
    }
}
