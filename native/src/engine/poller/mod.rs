//! A poller: the one owner of its queue pairs, requests, buffers and associations.
//!
//! It is a state machine that is stepped: [`Poller::step`] takes messages and completions, does what they ask for,
//! rings each doorbell once and returns. It reads no clock, starts no thread and never sleeps; the runtime does.
//! On the way of an I/O it allocates nothing, locks nothing and makes no system call but doorbells and the backend's
//! submission. One file per concern:
//!
//! | file | concern |
//! |---|---|
//! | `inbox` | messages of the control thread |
//! | `completions` | completion queues: what came in, what was sent |
//! | `capsule` | from a capsule to a plan |
//! | `connect` | Connect commands, associations |
//! | `data` | buffers and the host's data |
//! | `io` | backend I/O |
//! | `respond` | responses and doorbells |
//! | `close` | taking queue pairs and associations down |
//! | `drain` | hold, resume, drain, quarantine |
//! | `desired` | new desired states, detaching backings, quiescing |
//! | `timers` | keep-alive, Connect and drain deadlines |

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Queue};
use crate::engine::association::{Associations, ControllerIds, Place};
use crate::engine::backings::Backings;
use crate::engine::counters::PollerCounters;
use crate::engine::fence::Fences;
use crate::engine::list::{LinkKind, RequestList};
use crate::engine::mailbox::{Receiver, Sender};
use crate::engine::messages::{Handle, ToControl, ToPoller};
use crate::engine::outbox::Outbox;
use crate::engine::queue_pair::QueuePair;
use crate::engine::request::Request;
use crate::engine::share::{Polling, Share};
use crate::engine::table::Table;
use crate::provider::{Provider, ProviderError};
use crate::subsystem::model::Model;

mod authentication;
mod capsule;
mod close;
mod completions;
mod connect;
mod data;
mod desired;
mod drain;
mod inbox;
mod io;
mod respond;
mod timers;

#[cfg(test)]
mod tests;

/// What nothing announces is tried again this soon: messages without room in the control thread's mailbox, receives
/// that could not be posted, completion queues that could not be polled.
const RETRY: Duration = Duration::from_millis(1);

/// A completion queue that could not be polled for long is looked at so often: it may be only that.
const BROKEN_RETRY: Duration = Duration::from_millis(100);

/// What a poller is built with.
#[derive(Debug)]
pub struct PollerParts<P: Provider, B: Backend> {
    /// RDMA.
    pub provider: P,
    /// This poller's own backend queue.
    pub backend: B::Queue,
    /// Which of how many pollers.
    pub place: Place,
    /// Desired state to begin with.
    pub model: Arc<Model>,
    /// Messages from the control thread.
    pub inbox: Receiver<ToPoller<P, B>>,
    /// Messages to the control thread.
    pub outbox: Sender<ToControl<P>>,
    /// Read by the control thread.
    pub counters: Arc<PollerCounters>,
}

/// Outcome of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Something was done: step again soon.
    pub worked: bool,
    /// Step again by then, even if nothing wakes the thread. May be early, never late.
    pub deadline: Option<Instant>,
    /// Everything is given back after `Stop`: leave the thread.
    pub stopped: bool,
}

/// See the module's text.
#[derive(Debug)]
pub struct Poller<P: Provider, B: Backend> {
    provider: P,
    backend: B::Queue,
    inbox: Receiver<ToPoller<P, B>>,
    outbox: Outbox<P>,
    counters: Arc<PollerCounters>,
    model: Arc<Model>,
    shares: Table<Share<P>>,
    queue_pairs: Table<QueuePair<P>>,
    requests: Table<Request>,
    associations: Associations,
    fences: Fences,
    /// Questions that the other pollers were asked about fences, so far.
    fence_questions: u64,
    backings: Backings,
    controller_ids: ControllerIds,
    /// Requests that the backend's queue had no room for.
    backend_waiting: RequestList,
    /// I/O was pushed and not yet submitted.
    unsubmitted: bool,
    /// Queue pairs with something to send.
    dirty: Vec<Handle>,
    /// Requests whose RDMA WRITE was posted and whose SEND was not, and until when that may still fail.
    orphans: Vec<(Handle, Instant)>,
    /// An event request could not be answered for want of a request slot.
    events_blocked: bool,
    /// No I/O is accepted any more.
    quiesce: Quiesce,
    /// Paths are inaccessible and the control thread was told that every host knows.
    paths_cleared: bool,
    stopping: bool,
    stopped: bool,
    /// Steps so far; 0 before the first.
    step: u64,
    /// Time of this step.
    now: Instant,
    /// No timer runs out earlier.
    timer: Option<Instant>,
}

/// Whether I/O is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quiesce {
    /// It is.
    No,
    /// It is not; the last ones are in flight.
    Asked,
    /// It is not, nothing is in flight, and the control thread knows.
    Reported,
}

impl<P: Provider, B: Backend> Poller<P, B> {
    /// A poller that owns nothing yet.
    #[must_use]
    pub fn new(parts: PollerParts<P, B>, now: Instant) -> Self {
        Self {
            provider: parts.provider,
            backend: parts.backend,
            inbox: parts.inbox,
            outbox: Outbox::new(parts.outbox),
            counters: parts.counters,
            model: parts.model,
            shares: Table::default(),
            queue_pairs: Table::default(),
            requests: Table::default(),
            associations: Associations::default(),
            fences: Fences::default(),
            fence_questions: 0,
            backings: Backings::default(),
            controller_ids: ControllerIds::new(parts.place),
            backend_waiting: RequestList::new(LinkKind::Wait),
            unsubmitted: false,
            dirty: Vec::new(),
            orphans: Vec::new(),
            events_blocked: false,
            quiesce: Quiesce::No,
            paths_cleared: false,
            stopping: false,
            stopped: false,
            step: 0,
            now,
            timer: None,
        }
    }

    /// Does everything there is to do now. `now` never goes back.
    pub fn step(&mut self, now: Instant) -> Progress {
        assert!(now >= self.now, "time does not go back");
        self.now = now;
        self.step += 1;
        let mut worked = self.take_messages();
        worked |= self.poll_completion_queues();
        worked |= self.poll_backend();
        worked |= self.run_timers();
        self.serve_waiting();
        self.send_events();
        self.flush_sends();
        self.post_receives();
        self.submit_backend();
        worked |= self.finish_closing();
        worked |= self.finish_draining();
        worked |= self.finish_detaching();
        self.report_quiet();
        self.report_paths_clear();
        self.report_stopped();
        self.outbox.flush();
        let polls = if worked {
            &self.counters.polls_busy
        } else {
            &self.counters.polls_idle
        };
        polls.increment();
        Progress {
            worked,
            deadline: self.next_deadline(),
            stopped: self.stopped,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let unposted = |share: &Share<P>| share.may_post() && share.receives.idle() > 0;
        let failing = |share: &Share<P>| matches!(share.polling, Polling::Fails { .. });
        let broken = self.shares.iter().any(|(_, share)| share.polling == Polling::Broken);
        let retries = !self.outbox.is_empty() || self.shares.iter().any(|(_, share)| unposted(share) || failing(share));
        let retry = retries.then(|| self.now + RETRY);
        let look = broken.then(|| self.now + BROKEN_RETRY);
        [self.timer, retry, look].into_iter().flatten().min()
    }

    /// Descriptors that become readable on completions once [`Poller::arm`] was called: one per completion queue, and
    /// the backend's. They change only in a step that took `AttachPort` or gave `PortDrained`.
    pub fn completion_fds(&self) -> impl Iterator<Item = RawFd> {
        let queues = self
            .shares
            .iter()
            .filter_map(|(_, share)| self.provider.completion_fd(&share.resources.completion_queue));
        queues.chain(self.backend.completion_fd())
    }

    /// Asks for notification of the next completions. Step once more before sleeping: what completed before is not
    /// announced.
    ///
    /// # Errors
    /// The provider's: poll instead of sleeping.
    pub fn arm(&mut self) -> Result<(), ProviderError> {
        self.backend.arm(true);
        for (_, share) in self.shares.iter() {
            self.provider.arm_completion_queue(&share.resources.completion_queue)?;
        }
        Ok(())
    }

    /// After sleeping: takes the notifications, and asks for no more.
    pub fn disarm(&mut self) {
        self.backend.arm(false);
        for (_, share) in self.shares.iter() {
            self.provider
                .take_completion_notifications(&share.resources.completion_queue);
        }
    }

    /// Queue pairs in the poller's table.
    #[must_use]
    pub fn queue_pair_count(&self) -> usize {
        self.queue_pairs.len()
    }

    /// Requests in progress.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.requests.len()
    }

    /// Associations.
    #[must_use]
    pub fn association_count(&self) -> usize {
        self.associations.len()
    }

    fn report_stopped(&mut self) {
        if self.stopping && !self.stopped && self.shares.is_empty() && self.backend.in_flight() == 0 {
            assert!(
                self.queue_pairs.is_empty() && self.requests.is_empty(),
                "a port's share goes last"
            );
            self.stopped = true;
            self.outbox.send(ToControl::Stopped);
        }
    }
}
