//! Messages to the control thread: never lost, never waited for. What the mailbox has no room for waits here.

use std::collections::VecDeque;

use crate::engine::counters::PollerCounters;
use crate::engine::mailbox::{SendError, Sender};
use crate::engine::messages::{PollerEvent, ToControl};
use crate::provider::Provider;

/// Waiting messages above which events are dropped. Other messages are bounded by the objects they name.
const EVENTS_WAITING_MAX: usize = 256;

/// A mailbox's writing end and what it had no room for.
#[derive(Debug)]
pub struct Outbox<P: Provider> {
    sender: Sender<ToControl<P>>,
    waiting: VecDeque<ToControl<P>>,
}

impl<P: Provider> Outbox<P> {
    /// In front of this mailbox.
    #[must_use]
    pub fn new(sender: Sender<ToControl<P>>) -> Self {
        Self {
            sender,
            waiting: VecDeque::new(),
        }
    }

    /// Sends, in order.
    pub fn send(&mut self, message: ToControl<P>) {
        self.waiting.push_back(message);
        self.flush();
    }

    /// Reports something; dropped and counted if the control thread is far behind.
    pub fn report(&mut self, event: PollerEvent, counters: &PollerCounters) {
        if self.waiting.len() < EVENTS_WAITING_MAX {
            self.send(ToControl::Event(Box::new(event)));
        } else {
            counters.events_dropped.increment();
        }
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            match self.sender.send(message) {
                // Nobody is left to tell: the process is leaving.
                Ok(()) | Err(SendError::Disconnected(_)) => {}
                Err(SendError::Full(message)) => {
                    self.waiting.push_front(message);
                    return;
                }
            }
        }
    }

    /// Everything is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
