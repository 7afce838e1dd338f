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
    /// Requests of the host's newer association that wait.
    pub parked: RequestList,
}

impl Fence {
    /// Whether I/O on this backing has to wait.
    #[must_use]
    pub fn covers(&self, backing: BackingId) -> bool {
        self.writes_elsewhere > 0 || self.writes.iter().any(|(id, count)| *id == backing && *count > 0)
    }

    fn is_clear(&self) -> bool {
        self.writes_elsewhere == 0 && self.writes.iter().all(|(_, count)| *count == 0)
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

    /// Counts a write of an ended association; makes the fence if it is the first.
    pub fn add_write(&mut self, host_nqn: &str, subsystem_nqn: &str, backing: BackingId) -> (Handle, FencedWrite) {
        let handle = self.find(host_nqn, subsystem_nqn).unwrap_or_else(|| {
            self.fences.insert(Fence {
                host_nqn: host_nqn.to_owned(),
                subsystem_nqn: subsystem_nqn.to_owned(),
                writes: ArrayVec::new(),
                writes_elsewhere: 0,
                parked: RequestList::new(LinkKind::Wait),
            })
        });
        (handle, self.fences[handle].add(backing))
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
    fn fences_of_different_hosts_are_apart() {
        let mut fences = Fences::default();
        let (one, _) = fences.add_write("one", "subsystem", BackingId(1));
        assert_eq!(fences.find("two", "subsystem"), None);
        assert_eq!(fences.find("one", "subsystem"), Some(one));
    }
}
