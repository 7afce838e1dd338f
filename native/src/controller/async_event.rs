//! Async Event Requests and the events that answer them (NVMe base 2.0 section 5.2).

use arrayvec::ArrayVec;

use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::status::{Status, StatusCode};

use super::{Controller, Plan};

/// Async Event Requests that may be outstanding (AERL + 1).
pub const ASYNC_EVENT_REQUESTS_MAX: usize = 4;

/// Outstanding requests and events to come.
#[derive(Debug, Default)]
pub(super) struct AsyncEvents {
    outstanding: ArrayVec<u16, ASYNC_EVENT_REQUESTS_MAX>,
    aborted: ArrayVec<u16, ASYNC_EVENT_REQUESTS_MAX>,
}

impl AsyncEvents {
    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        let command_id = self.aborted.pop_at(0)?;
        Some(Completion {
            result: 0,
            status: StatusCode::AbortRequested.retryable(),
            command_id,
        })
    }

    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Controller {
    /// Async Event Request: held until there is an event.
    pub(super) fn async_event_request(&mut self, command: &Command) -> Plan {
        match self.events.outstanding.try_push(command.command_id()) {
            Ok(()) => Plan::Hold,
            Err(_) => Plan::fail(command, LIMIT_EXCEEDED),
        }
    }
}

const LIMIT_EXCEEDED: Status = StatusCode::AsyncEventRequestLimitExceeded.permanent();
