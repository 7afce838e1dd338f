//! Fences: a host that comes back waits, per namespace, until the writes of its earlier association have left the
//! backend. Otherwise an old write could land after a newer, acknowledged one.

use arrayvec::ArrayVec;

use crate::backend::BackingId;
use crate::engine::list::{LinkKind, RequestList};
use crate::engine::messages::Handle;
use crate::engine::table::Table;

/// Backings told apart by one fence; writes beyond them close the fence for all I/O of the host.
const BACKINGS_MAX: usize = 8;

/// One host's fence at one subsystem.
#[derive(Debug)]
pub struct Fence {
    host_nqn: String,
    subsystem_nqn: String,
    /// Writes in flight, by backing.
    writes: ArrayVec<(BackingId, u32), BACKINGS_MAX>,
    /// Writes in flight on backings that found no room above.
    writes_elsewhere: u32,
    /// Questions to the other pollers that are not answered: until they are, they may have writes of the host.
    questions: u32,
    /// Other pollers (by index, with their fence) that wait for the writes here.
    askers: Vec<(usize, Handle)>,
    /// Requests of the host's newer association that wait.
    pub parked: RequestList,
}

impl Fence {
    /// Whether I/O on this backing has to wait.
    #[must_use]
    pub fn covers(&self, backing: BackingId) -> bool {
        self.questions > 0
            || self.writes_elsewhere > 0
            || self.writes.iter().any(|(id, count)| *id == backing && *count > 0)
    }

    /// Writes of the host's ended associations are in flight on this poller.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        self.writes_elsewhere > 0 || self.writes.iter().any(|(_, count)| *count > 0)
    }

    fn is_clear(&self) -> bool {
        !self.has_writes() && self.questions == 0 && self.askers.is_empty()
    }

    /// The other pollers were asked.
    pub fn asked(&mut self) {
        self.questions += 1;
    }

    /// So many questions are answered by all of them.
    pub fn answered(&mut self, questions: u32) {
        self.questions -= questions;
    }

    /// Another poller waits for the writes here.
    pub fn add_asker(&mut self, poller: usize, fence: Handle) {
        self.askers.push((poller, fence));
    }

    /// Who waited, once there are no writes any more.
    pub fn take_askers(&mut self) -> Vec<(usize, Handle)> {
        if self.has_writes() {
            Vec::new()
        } else {
            std::mem::take(&mut self.askers)
        }
    }

    /// Counts a write.
    pub fn add(&mut self, backing: BackingId) -> FencedWrite {
        if let Some(entry) = self.writes.iter_mut().find(|(id, _)| *id == backing) {
            entry.1 += 1;
        } else if self.writes.try_push((backing, 1)).is_err() {
            self.writes_elsewhere += 1;
            return FencedWrite::Elsewhere;
        }
        FencedWrite::Backing(backing)
    }
}

/// How a fence counts a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FencedWrite {
    /// By its backing.
    Backing(BackingId),
    /// With all that found no room.
    Elsewhere,
}

/// Every fence of a poller.
#[derive(Debug, Default)]
pub struct Fences {
    fences: Table<Fence>,
}

impl Fences {
    /// The fence of a host at a subsystem, if there is one.
    #[must_use]
    pub fn find(&self, host_nqn: &str, subsystem_nqn: &str) -> Option<Handle> {
        let matches = |fence: &Fence| fence.host_nqn == host_nqn && fence.subsystem_nqn == subsystem_nqn;
        self.fences
            .iter()
            .find(|(_, fence)| matches(fence))
            .map(|(handle, _)| handle)
    }

    /// The fence of a host at a subsystem, made if there is none.
    pub fn find_or_make(&mut self, host_nqn: &str, subsystem_nqn: &str) -> Handle {
        self.find(host_nqn, subsystem_nqn).unwrap_or_else(|| {
            self.fences.insert(Fence {
                host_nqn: host_nqn.to_owned(),
                subsystem_nqn: subsystem_nqn.to_owned(),
                writes: ArrayVec::new(),
                writes_elsewhere: 0,
                questions: 0,
                askers: Vec::new(),
                parked: RequestList::new(LinkKind::Wait),
            })
        })
    }

    /// Counts a write of an ended association; makes the fence if it is the first.
    pub fn add_write(&mut self, host_nqn: &str, subsystem_nqn: &str, backing: BackingId) -> (Handle, FencedWrite) {
        let handle = self.find_or_make(host_nqn, subsystem_nqn);
        (handle, self.fences[handle].add(backing))
    }

    /// Counts one more write of the host of a fence that stands.
    pub fn add_to(&mut self, fence: Handle, backing: BackingId) -> FencedWrite {
        self.fences[fence].add(backing)
    }

    /// A fenced write left the backend. Its parked requests can be looked at again.
    pub fn write_ended(&mut self, handle: Handle, write: FencedWrite) {
        let fence = &mut self.fences[handle];
        let count = match write {
            FencedWrite::Elsewhere => &mut fence.writes_elsewhere,
            FencedWrite::Backing(backing) => {
                let entry = fence.writes.iter_mut().find(|(id, _)| *id == backing);
                &mut entry.expect("a fenced write's backing is listed").1
            }
        };
        assert!(*count > 0, "a fenced write ends once");
        *count -= 1;
    }

    /// The fence, if it still stands.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut Fence> {
        self.fences.get_mut(handle)
    }

    /// The fence, if it still stands.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&Fence> {
        self.fences.get(handle)
    }

    /// Takes the fence down if no write is left behind it and nobody waits. Whether it is down.
    pub fn remove_if_clear(&mut self, handle: Handle) -> bool {
        match self.fences.get(handle) {
            Some(fence) if fence.is_clear() && fence.parked.is_empty() => self.fences.remove(handle).is_some(),
            Some(_) => false,
            None => true,
        }
    }

    /// Fences that stand.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fences.len()
    }

    /// None stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fences.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_stands_until_the_last_write_of_its_backing_has_ended() {
        let mut fences = Fences::default();
        let (fence, first) = fences.add_write("host", "subsystem", BackingId(1));
        let (same, second) = fences.add_write("host", "subsystem", BackingId(1));
        assert_eq!(fence, same);
        fences.write_ended(fence, first);
        assert!(fences.get(fence).unwrap().covers(BackingId(1)));
        assert!(!fences.get(fence).unwrap().covers(BackingId(2)));
        assert!(!fences.remove_if_clear(fence));
        fences.write_ended(fence, second);
        assert!(!fences.get(fence).unwrap().covers(BackingId(1)));
        assert!(fences.remove_if_clear(fence));
        assert!(fences.is_empty());
    }

    #[test]
    fn more_backings_than_a_fence_tells_apart_close_it_for_all() {
        let mut fences = Fences::default();
        let mut last = None;
        for id in 0..=BACKINGS_MAX as u32 {
            last = Some(fences.add_write("host", "subsystem", BackingId(id)));
        }
        let (fence, write) = last.unwrap();
        assert_eq!(write, FencedWrite::Elsewhere);
        assert!(fences.get(fence).unwrap().covers(BackingId(1000)));
        fences.write_ended(fence, write);
        assert!(!fences.get(fence).unwrap().covers(BackingId(1000)));
    }

    #[test]
    fn a_fence_that_others_are_asked_about_covers_everything_until_all_have_answered() {
        let mut fences = Fences::default();
        let fence = fences.find_or_make("host", "subsystem");
        assert_eq!(fences.find_or_make("host", "subsystem"), fence);
        fences.get_mut(fence).unwrap().asked();
        fences.get_mut(fence).unwrap().asked();
        assert!(fences.get(fence).unwrap().covers(BackingId(7)));
        fences.get_mut(fence).unwrap().answered(1);
        assert!(fences.get(fence).unwrap().covers(BackingId(7)));
        assert!(!fences.remove_if_clear(fence));
        fences.get_mut(fence).unwrap().answered(1);
        assert!(!fences.get(fence).unwrap().covers(BackingId(7)));
        assert!(fences.remove_if_clear(fence));
    }

    #[test]
    fn who_asks_hears_when_the_writes_here_are_over_whatever_else_the_fence_waits_for() {
        let mut fences = Fences::default();
        let (fence, write) = fences.add_write("host", "subsystem", BackingId(1));
        let theirs = Handle { slot: 4, generation: 2 };
        fences.get_mut(fence).unwrap().asked();
        fences.get_mut(fence).unwrap().add_asker(3, theirs);
        assert_eq!(fences.get_mut(fence).unwrap().take_askers(), []);
        fences.write_ended(fence, write);
        assert!(!fences.remove_if_clear(fence), "somebody waits for an answer");
        assert_eq!(fences.get_mut(fence).unwrap().take_askers(), [(3, theirs)]);
        fences.get_mut(fence).unwrap().answered(1);
        assert!(fences.remove_if_clear(fence));
    }

    #[test]
    fn fences_of_different_hosts_are_apart() {
        let mut fences = Fences::default();
        let (one, _) = fences.add_write("one", "subsystem", BackingId(1));
        assert_eq!(fences.find("two", "subsystem"), None);
        assert_eq!(fences.find("one", "subsystem"), Some(one));
    }
}
