//! An association: a controller and the queue pairs of its queues, all of them owned by this poller.

use std::collections::HashMap;

use crate::controller::Controller;
use crate::engine::messages::{Handle, HostIdentity};
use crate::engine::table::Table;

/// A controller and its queue pairs.
#[derive(Debug)]
pub struct Association {
    /// The controller.
    pub controller: Controller,
    /// Who is connected.
    pub identity: HostIdentity,
    /// Share of the port all its queue pairs belong to.
    pub share: Handle,
    /// Queue pairs by queue id; the admin queue's is the first.
    pub queue_pairs: Vec<Option<Handle>>,
    /// Fence its I/O may have to wait for; stale once that is down.
    pub fence: Option<Handle>,
}

impl Association {
    /// Queue pairs it has now.
    #[must_use]
    pub fn queue_pair_count(&self) -> u16 {
        let count = self.queue_pairs.iter().flatten().count();
        u16::try_from(count).expect("queue ids fit 16 bits")
    }
}

/// Which of how many pollers this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// 0…
    pub index: u16,
    /// Pollers of the process.
    pub count: u16,
}

/// Gives out controller ids: from this poller's slice of a subsystem's ids, round and round, so that an id is not used
/// again soon after its association ended, and never while it lives.
#[derive(Debug)]
pub struct ControllerIds {
    place: Place,
    /// Next offset in the slice, by subsystem NQN.
    next: HashMap<String, u32>,
}

impl ControllerIds {
    /// For the poller at this place.
    #[must_use]
    pub fn new(place: Place) -> Self {
        assert!(place.index < place.count, "a poller is one of them all");
        Self {
            place,
            next: HashMap::new(),
        }
    }

    /// Which of how many pollers.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// An id of this poller for `subsystem_nqn`, whose ids are `ids` (first and last); `None` when all are in use.
    pub fn allocate(&mut self, subsystem_nqn: &str, ids: (u16, u16), associations: &Table<Association>) -> Option<u16> {
        let (first, last) = (u32::from(ids.0), u32::from(ids.1));
        let all = (last + 1).checked_sub(first)?;
        let (index, count) = (u32::from(self.place.index), u32::from(self.place.count));
        let start = all * index / count;
        let length = all * (index + 1) / count - start;
        if !self.next.contains_key(subsystem_nqn) {
            self.next.insert(subsystem_nqn.to_owned(), 0);
        }
        let next = self.next.get_mut(subsystem_nqn)?;
        for attempt in 0..length {
            let offset = (*next + attempt) % length;
            let id = u16::try_from(first + start + offset).expect("at most the last id");
            let in_use = |association: &Association| {
                association.identity.controller_id == id && association.identity.subsystem_nqn == subsystem_nqn
            };
            if !associations.iter().any(|(_, association)| in_use(association)) {
                *next = (offset + 1) % length;
                return Some(id);
            }
        }
        None
    }
}
