//! Which backings the poller's queue knows, and how many requests still need each.

use crate::backend::BackingId;
use crate::engine::integer_hash::IntegerMap;

#[derive(Debug, Default)]
struct Usage {
    /// Requests that were planned on it and have not ended.
    requests: u32,
    /// The control thread wants it back.
    detaching: bool,
}

/// The attached backings.
#[derive(Debug, Default)]
pub struct Backings {
    usages: IntegerMap<BackingId, Usage>,
    detaching: u32,
}

impl Backings {
    /// A backing may be used.
    pub fn attach(&mut self, id: BackingId) {
        let previous = self.usages.insert(id, Usage::default());
        assert!(previous.is_none(), "a backing is attached once");
    }

    /// A request will use it. False if it is unknown or on its way out.
    pub fn acquire(&mut self, id: BackingId) -> bool {
        match self.usages.get_mut(&id) {
            Some(usage) if !usage.detaching => {
                usage.requests += 1;
                true
            }
            _ => false,
        }
    }

    /// A request has ended with it.
    pub fn release(&mut self, id: BackingId) {
        let usage = self.usages.get_mut(&id).expect("a used backing stays attached");
        assert!(usage.requests > 0, "a backing is released as often as acquired");
        usage.requests -= 1;
    }

    /// No new request may use it. False if it is unknown.
    pub fn detach(&mut self, id: BackingId) -> bool {
        match self.usages.get_mut(&id) {
            Some(usage) if !usage.detaching => {
                usage.detaching = true;
                self.detaching += 1;
                true
            }
            _ => false,
        }
    }

    /// Takes out one backing whose last request has ended.
    pub fn take_detached(&mut self) -> Option<BackingId> {
        if self.detaching == 0 {
            return None;
        }
        let ended = |(id, usage): (&BackingId, &Usage)| (usage.detaching && usage.requests == 0).then_some(*id);
        let id = self.usages.iter().filter_map(ended).min()?;
        self.usages.remove(&id);
        self.detaching -= 1;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backing_is_given_back_only_after_its_last_request() {
        let mut backings = Backings::default();
        backings.attach(BackingId(1));
        assert!(backings.acquire(BackingId(1)));
        assert!(backings.detach(BackingId(1)));
        assert!(!backings.acquire(BackingId(1)), "no new request on a detaching backing");
        assert_eq!(backings.take_detached(), None);
        backings.release(BackingId(1));
        assert_eq!(backings.take_detached(), Some(BackingId(1)));
        assert_eq!(backings.take_detached(), None);
    }

    #[test]
    fn an_unknown_backing_is_neither_used_nor_detached() {
        let mut backings = Backings::default();
        assert!(!backings.acquire(BackingId(9)));
        assert!(!backings.detach(BackingId(9)));
    }
}
