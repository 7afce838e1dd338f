//! Messages of the control thread.

use std::time::Duration;

use crate::backend::{Backend, Queue};
use crate::engine::messages::{Epoch, Handle, NewQueuePair, PortId, ToControl, ToPoller};
use crate::engine::poller::{Poller, Quiesce};
use crate::engine::queue_pair::QueuePair;
use crate::engine::share::Share;
use crate::provider::Provider;
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

/// Messages taken in one step, so that a burst does not hold up I/O.
const MESSAGES_PER_STEP: usize = 64;

/// A queue pair whose host sends no Connect command is taken down after this time (reference targets: 120 s for a
/// whole association).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A response may take two entries: the data's RDMA WRITE and the SEND.
pub const SEND_WORK_REQUESTS_MIN: u32 = 2;

impl<P: Provider, B: Backend> Poller<P, B> {
    pub(super) fn take_messages(&mut self) -> bool {
        for taken in 0..MESSAGES_PER_STEP {
            let Some(message) = self.inbox.take() else {
                return taken > 0;
            };
            self.handle_message(message);
        }
        true
    }

    fn handle_message(&mut self, message: ToPoller<P, B>) {
        match message {
            ToPoller::Model(model) => self.apply_model(model),
            ToPoller::AttachBacking(id, backing) => {
                self.backings.attach(id);
                self.backend.attach(id, backing);
            }
            ToPoller::DetachBacking(id) => self.detach_backing(id),
            ToPoller::AttachPort(resources) => {
                assert!(
                    self.find_share(resources.port, resources.epoch).is_none(),
                    "an epoch begins once"
                );
                let share = Share::new(&self.provider, resources);
                let requests_max = share.requests_max();
                self.shares.insert(share);
                self.reserve_requests();
                assert!(
                    self.requests.slots().len() >= requests_max,
                    "requests have room before the first capsule"
                );
            }
            ToPoller::AddRegions {
                port,
                epoch,
                small,
                large,
                receive,
            } => match self.find_share(port, epoch) {
                Some(share) if !self.shares[share].is_draining() => {
                    self.shares[share].add_regions(&self.provider, small, large, receive);
                }
                // Late for its epoch: the regions are deregistered right here.
                _ => self.counters.stale_messages.increment(),
            },
            ToPoller::Hold(port, epoch) => self.with_share(port, epoch, Self::hold),
            ToPoller::Resume(port, epoch) => self.with_share(port, epoch, Self::resume),
            ToPoller::Drain(port, epoch, deadline) => {
                self.with_share(port, epoch, |poller, share| poller.drain(share, deadline));
            }
            ToPoller::Adopt(new) => self.adopt(*new),
            ToPoller::Established(queue_pair) => {
                // Capsules are taken from the moment of adoption: the host may send before this event arrives.
                if self.queue_pairs.get(queue_pair).is_none() {
                    self.counters.stale_messages.increment();
                }
            }
            ToPoller::Close(queue_pair, reason) => match self.queue_pairs.get(queue_pair) {
                Some(_) => self.close_queue_pair(queue_pair, reason),
                None => self.counters.stale_messages.increment(),
            },
            ToPoller::FenceQuery {
                asker,
                host_nqn,
                subsystem_nqn,
            } => self.fence_queried(asker, &host_nqn, &subsystem_nqn),
            ToPoller::FenceLifted { fence, question } => self.fence_lifted(fence, question),
            ToPoller::Quiesce => {
                if self.quiesce == Quiesce::No {
                    self.quiesce = Quiesce::Asked;
                }
            }
            ToPoller::Stop => self.stopping = true,
        }
    }

    fn reserve_requests(&mut self) {
        let wanted: usize = self.shares.iter().map(|(_, share)| share.requests_max()).sum();
        self.requests.reserve(wanted.saturating_sub(self.requests.len()));
    }

    pub(super) fn find_share(&self, port: PortId, epoch: Epoch) -> Option<Handle> {
        let matches = |share: &Share<P>| share.resources.port == port && share.resources.epoch == epoch;
        self.shares
            .iter()
            .find(|(_, share)| matches(share))
            .map(|(handle, _)| handle)
    }

    fn with_share(&mut self, port: PortId, epoch: Epoch, action: impl FnOnce(&mut Self, Handle)) {
        match self.find_share(port, epoch) {
            Some(share) => action(self, share),
            None => self.counters.stale_messages.increment(),
        }
    }

    fn adopt(&mut self, new: NewQueuePair<P>) {
        let leaving = |share: Handle| self.shares[share].is_draining();
        #[cfg(feature = "simulation")]
        let leaving = |share: Handle| leaving(share) && !DeliberateFault::ConnectDuringDrain.is_built_in();
        let share = self.find_share(new.port, new.epoch).filter(|share| !leaving(*share));
        let usable = new.send_work_requests_max >= SEND_WORK_REQUESTS_MIN && new.queue_size > 0 && new.read_depth > 0;
        let Some(share) = share.filter(|_| usable) else {
            self.outbox.send(ToControl::Refused(new.connection, new.queue_pair));
            return;
        };
        let connection = new.connection;
        let number = self.provider.queue_pair_number(&new.queue_pair);
        let connect_deadline = self.now + CONNECT_TIMEOUT;
        let handle = self
            .queue_pairs
            .insert(QueuePair::new(new, number, share, connect_deadline));
        let previous = self.shares[share].numbers.insert(number, handle);
        assert!(
            previous.is_none(),
            "a queue pair's number is not used again before it is drained"
        );
        self.shares[share].resources.counters.queue_pairs_active.increment();
        let queue_pairs = self.queue_pairs.len();
        self.dirty.reserve(queue_pairs.saturating_sub(self.dirty.len()));
        let share = &mut self.shares[share];
        share.settled.reserve(share.numbers.len());
        self.schedule(connect_deadline);
        self.outbox.send(ToControl::Adopted(connection, handle));
    }
}
