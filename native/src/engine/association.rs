//! An association: a controller and the queue pairs of its queues, all of them owned by this poller.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Index, IndexMut};

use crate::controller::Controller;
use crate::engine::handle_index::HandleIndex;
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
    /// Its host is who it says it is, as far as it has to prove that; before, nobody hears of it.
    pub admitted: bool,
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

/// Every association of a poller, found by handle, by host and by controller id. Who an association belongs to never
/// changes.
#[derive(Default)]
pub struct Associations {
    table: Table<Association>,
    by_host: HandleIndex<String>,
    by_controller: HandleIndex<u16>,
}

/// Without the indexes, which say nothing that the table does not.
impl fmt::Debug for Associations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

impl Associations {
    /// Puts one in and names it.
    pub fn insert(&mut self, association: Association) -> Handle {
        let (host_nqn, controller_id) = (
            association.identity.host_nqn.clone(),
            association.identity.controller_id,
        );
        let handle = self.table.insert(association);
        self.by_host.insert(host_nqn, handle);
        self.by_controller.insert(controller_id, handle);
        handle
    }

    /// Takes one out.
    pub fn remove(&mut self, handle: Handle) -> Option<Association> {
        let association = self.table.remove(handle)?;
        self.by_host.remove(&association.identity.host_nqn, handle);
        self.by_controller.remove(&association.identity.controller_id, handle);
        Some(association)
    }

    /// Those of a host at a subsystem, oldest first.
    #[must_use]
    pub fn of_host(&self, host_nqn: &str, subsystem_nqn: &str) -> Vec<Handle> {
        self.by_host
            .of(host_nqn)
            .filter(|handle| self.table[*handle].identity.subsystem_nqn == subsystem_nqn)
            .collect()
    }

    /// The one of a controller.
    #[must_use]
    pub fn of_controller(&self, subsystem_nqn: &str, controller_id: u16) -> Option<Handle> {
        let mut of_id = self.by_controller.of(&controller_id);
        of_id.find(|handle| self.table[*handle].identity.subsystem_nqn == subsystem_nqn)
    }

    /// The association of a handle; `None` if it is stale.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&Association> {
        self.table.get(handle)
    }

    /// The association of a handle; `None` if it is stale.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut Association> {
        self.table.get_mut(handle)
    }

    /// Handle of the association in a slot, if there is one.
    #[must_use]
    pub fn handle(&self, slot: u32) -> Option<Handle> {
        self.table.handle(slot)
    }

    /// Every slot number there is, vacant ones too.
    pub fn slots(&self) -> std::ops::Range<u32> {
        self.table.slots()
    }

    /// Every association.
    pub fn iter(&self) -> impl Iterator<Item = &Association> {
        self.table.iter().map(|(_, association)| association)
    }

    /// Every association, changeable.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut Association)> {
        self.table.iter_mut()
    }

    /// Associations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// There is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl Index<Handle> for Associations {
    type Output = Association;
    fn index(&self, handle: Handle) -> &Association {
        &self.table[handle]
    }
}

impl IndexMut<Handle> for Associations {
    fn index_mut(&mut self, handle: Handle) -> &mut Association {
        &mut self.table[handle]
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
    pub fn allocate(&mut self, subsystem_nqn: &str, ids: (u16, u16), associations: &Associations) -> Option<u16> {
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
            if associations.of_controller(subsystem_nqn, id).is_none() {
                *next = (offset + 1) % length;
                return Some(id);
            }
        }
        None
    }
}
