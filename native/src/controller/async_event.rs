//! Async Event Requests and the notices that answer them (NVMe base 2.0 section 5.2). A notice that was sent is masked
//! until the host reads its log page: what changes in between is in that log anyway.

use arrayvec::ArrayVec;

use crate::nvme::async_event::Notice;
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::log_page::CHANGED_NAMESPACES_MAX;
use crate::nvme::status::{Status, StatusCode};

use super::{Controller, Plan};

/// Async Event Requests that may be outstanding (AERL + 1).
pub const ASYNC_EVENT_REQUESTS_MAX: usize = 4;

/// Bits 7:0 of the configuration: SMART critical warnings, which never occur here.
const CRITICAL_WARNINGS: u32 = 0xff;

/// A set of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct NoticeSet(u32);

impl NoticeSet {
    fn insert(&mut self, notice: Notice) {
        self.0 |= notice.bit();
    }

    fn remove(&mut self, notice: Notice) {
        self.0 &= !notice.bit();
    }

    fn contains(self, notice: Notice) -> bool {
        self.0 & notice.bit() != 0
    }
}

/// Namespaces that changed since the host last read the changed namespace list.
#[derive(Debug, Default)]
pub(super) struct ChangedNamespaces {
    /// Ascending.
    ids: Vec<u32>,
    overflowed: bool,
}

impl ChangedNamespaces {
    pub(super) fn add(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.ids.sort_unstable();
        self.ids.dedup();
        if self.ids.len() > CHANGED_NAMESPACES_MAX {
            self.ids.clear();
            self.overflowed = true;
        }
    }

    /// The ids, or `None` when there were more than the list holds.
    pub(super) fn ids(&self) -> Option<&[u32]> {
        (!self.overflowed).then_some(self.ids.as_slice())
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.overflowed = false;
    }
}

/// Outstanding requests and notices to come.
#[derive(Debug, Default)]
pub(super) struct AsyncEvents {
    /// Async Event Configuration (feature 0Bh).
    configuration: u32,
    outstanding: ArrayVec<u16, ASYNC_EVENT_REQUESTS_MAX>,
    aborted: ArrayVec<u16, ASYNC_EVENT_REQUESTS_MAX>,
    pending: NoticeSet,
    masked: NoticeSet,
    pub(super) changed_namespaces: ChangedNamespaces,
}

impl AsyncEvents {
    pub(super) fn configuration(&self) -> u32 {
        self.configuration
    }

    /// Sets the configuration; `supported` is OAES.
    pub(super) fn configure(&mut self, configuration: u32, supported: u32) -> Result<(), Status> {
        if configuration & !(supported | CRITICAL_WARNINGS) != 0 {
            return Err(StatusCode::InvalidField.permanent());
        }
        self.configuration = configuration;
        Ok(())
    }

    /// Whether the host enabled this notice.
    pub(super) fn announces(&self, notice: Notice) -> bool {
        self.configuration & notice.bit() != 0
    }

    /// Something happened that the host wants to know, if it enabled the notice and was not told already.
    pub(super) fn raise(&mut self, notice: Notice) {
        if self.announces(notice) && !self.masked.contains(notice) {
            self.pending.insert(notice);
        }
    }

    /// The host read the log page, without asking to retain the event.
    pub(super) fn log_was_read(&mut self, log: u8) {
        for notice in Notice::ALL.into_iter().filter(|notice| notice.log() == log) {
            self.pending.remove(notice);
            self.masked.remove(notice);
        }
    }

    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        if let Some(command_id) = self.aborted.pop_at(0) {
            return Some(Completion {
                result: 0,
                status: StatusCode::AbortRequested.retryable(),
                command_id,
            });
        }
        let notice = Notice::ALL.into_iter().find(|notice| self.pending.contains(*notice))?;
        let command_id = self.outstanding.pop_at(0)?;
        self.pending.remove(notice);
        self.masked.insert(notice);
        Some(Completion {
            result: notice.result(),
            status: Status::SUCCESS,
            command_id,
        })
    }

    fn request(&mut self, command_id: u16) -> Result<(), Status> {
        let free = ASYNC_EVENT_REQUESTS_MAX - self.aborted.len();
        if self.outstanding.len() >= free {
            return Err(StatusCode::AsyncEventRequestLimitExceeded.permanent());
        }
        self.outstanding.push(command_id);
        Ok(())
    }

    /// Aborts an outstanding request; whether there was one.
    fn abort(&mut self, command_id: u16) -> bool {
        let Some(index) = self
            .outstanding
            .iter()
            .position(|outstanding| *outstanding == command_id)
        else {
            return false;
        };
        self.outstanding.remove(index);
        self.aborted.push(command_id);
        true
    }

    /// Controller reset: outstanding requests are gone, notices are off until configured again.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

impl Controller {
    /// Async Event Request: held until there is an event.
    pub(super) fn async_event_request(&mut self, command: &Command) -> Plan {
        match self.events.request(command.command_id()) {
            Ok(()) => Plan::Hold,
            Err(status) => Plan::fail(command, status),
        }
    }

    /// Abort: an Async Event Request can be aborted; anything else runs to its end, which the result's bit 0 says.
    pub(super) fn abort(&mut self, command: &Command) -> Plan {
        let (queue_id, command_id) = (command.dword(10) as u16, (command.dword(10) >> 16) as u16);
        let aborted = queue_id == 0 && self.events.abort(command_id);
        Plan::Complete(Completion::with_result(command, u64::from(!aborted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_NOTICES: u32 = 0x8000_0900;

    fn enabled() -> AsyncEvents {
        let mut events = AsyncEvents::default();
        events.configure(ALL_NOTICES, ALL_NOTICES).unwrap();
        events
    }

    #[test]
    fn a_notice_waits_for_a_request_and_a_request_for_a_notice() {
        let mut events = enabled();
        events.raise(Notice::NamespaceAttributeChanged);
        assert_eq!(events.next_completion(), None);
        events.request(31).unwrap();
        let completion = events.next_completion().unwrap();
        assert_eq!((completion.command_id, completion.result), (31, 0x04_0002));
        events.request(31).unwrap();
        assert_eq!(events.next_completion(), None);
        events.raise(Notice::AsymmetricAccessChanged);
        assert_eq!(events.next_completion().unwrap().result, 0x0c_0302);
    }

    #[test]
    fn a_notice_is_sent_once_until_its_log_is_read() {
        let mut events = enabled();
        for id in 0..4 {
            events.request(id).unwrap();
        }
        events.raise(Notice::NamespaceAttributeChanged);
        assert!(events.next_completion().is_some());
        events.raise(Notice::NamespaceAttributeChanged);
        assert_eq!(events.next_completion(), None);
        events.log_was_read(0x0c);
        events.raise(Notice::NamespaceAttributeChanged);
        assert_eq!(events.next_completion(), None);
        events.log_was_read(0x04);
        events.raise(Notice::NamespaceAttributeChanged);
        assert!(events.next_completion().is_some());
    }

    #[test]
    fn notices_the_host_did_not_enable_are_not_sent() {
        let mut events = AsyncEvents::default();
        events.request(0).unwrap();
        events.raise(Notice::NamespaceAttributeChanged);
        assert_eq!(events.next_completion(), None);
        assert!(events.configure(1 << 9, ALL_NOTICES).is_err());
        assert!(events.configure(0x1ff, ALL_NOTICES).is_ok());
    }

    #[test]
    fn requests_beyond_the_limit_are_refused_aborted_ones_included() {
        let mut events = enabled();
        for id in 0..4 {
            events.request(id).unwrap();
        }
        assert_eq!(
            events.request(4),
            Err(StatusCode::AsyncEventRequestLimitExceeded.permanent())
        );
        assert!(events.abort(2));
        assert!(!events.abort(2));
        assert!(events.request(4).is_err());
        let completion = events.next_completion().unwrap();
        assert_eq!(
            (completion.command_id, completion.status.code),
            (2, StatusCode::AbortRequested)
        );
        assert!(events.request(4).is_ok());
    }

    #[test]
    fn changed_namespaces_are_ascending_unique_and_overflow_to_all() {
        let mut changed = ChangedNamespaces::default();
        changed.add(&[5, 7]);
        changed.add(&[1, 5]);
        assert_eq!(changed.ids(), Some([1, 5, 7].as_slice()));
        let many: Vec<u32> = (1..=1025).collect();
        changed.add(&many);
        assert_eq!(changed.ids(), None);
        changed.clear();
        assert_eq!(changed.ids(), Some([].as_slice()));
    }
}
