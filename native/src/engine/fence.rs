//! Fences: a host that comes back waits, per namespace, until the writes of its earlier association have left the
//! backend. Otherwise an old write could land after a newer, acknowledged one.

use std::fmt;

use arrayvec::ArrayVec;

use crate::backend::BackingId;
use crate::engine::handle_index::HandleIndex;
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
    questions: Vec<u64>,
    /// The last question that was asked; 0 before the first.
    last_question: u64,
    /// Other pollers that wait for the writes here.
    askers: Vec<Asker>,
    /// Requests of the host's newer association that wait.
    pub parked: RequestList,
}

/// Another poller that wants to hear when nothing is left here that was begun before its host connected there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// Its index.
    pub poller: usize,
    /// Its fence.
    pub fence: Handle,
    /// Its question.
    pub question: u64,
    /// Of what waits at the fence here it waits for what waits for questions up to this one, and for no other: what
    /// waits for a later question may wait for the asker itself.
    pub until: u64,
}

impl Fence {
    /// Whether I/O on this backing has to wait, if it came after this question (as [`Fence::last_question`] said then).
    #[must_use]
    pub fn covers(&self, backing: BackingId, question: u64) -> bool {
        self.questions.iter().any(|open| *open <= question)
            || self.writes_elsewhere > 0
            || self.writes.iter().any(|(id, count)| *id == backing && *count > 0)
    }

    /// The last question that was asked: I/O that comes now waits for the answers up to it, and for none to a later one.
    #[must_use]
    pub fn last_question(&self) -> u64 {
        self.last_question
    }

    /// Whether another poller waits for what came after this question, if it is a write.
    #[must_use]
    pub fn is_awaited(&self, question: u64) -> bool {
        self.askers.iter().any(|asker| question <= asker.until)
    }

    /// Other pollers wait for writes here.
    #[must_use]
    pub fn has_askers(&self) -> bool {
        !self.askers.is_empty()
    }

    /// Writes of the host's ended associations are in flight on this poller.
    #[must_use]
    pub fn has_writes(&self) -> bool {
        self.writes_elsewhere > 0 || self.writes.iter().any(|(_, count)| *count > 0)
    }

    fn is_clear(&self) -> bool {
        !self.has_writes() && self.questions.is_empty() && self.askers.is_empty()
    }

    /// The other pollers were asked this; questions are numbered in ascending order.
    pub fn asked(&mut self, question: u64) {
        assert!(question > self.last_question, "questions are numbered in order");
        self.last_question = question;
        self.questions.push(question);
    }

    /// All of them have answered it. False: it was not open.
    pub fn answered(&mut self, question: u64) -> bool {
        let before = self.questions.len();
        self.questions.retain(|open| *open != question);
        self.questions.len() < before
    }

    /// Another poller waits for the writes here.
    pub fn add_asker(&mut self, asker: Asker) {
        self.askers.push(asker);
    }

    /// Who waited and need not wait any more: there are no writes in the backend, and none of those that wait at the
    /// fence came before the asker. `waiting` is the earliest question that a write at the fence came after.
    pub fn take_askers(&mut self, waiting: Option<u64>) -> Vec<Asker> {
        if self.has_writes() {
            return Vec::new();
        }
        let waits = |asker: &Asker| waiting.is_some_and(|question| question <= asker.until);
        let (done, still): (Vec<_>, Vec<_>) = self.askers.drain(..).partition(|asker| !waits(asker));
        self.askers = still;
        done
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
#[derive(Default)]
pub struct Fences {
    fences: Table<Fence>,
    /// By host NQN: one for each subsystem that the host has a fence at.
    by_host: HandleIndex<String>,
}

/// Without the index, which says nothing that the table does not.
impl fmt::Debug for Fences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fences").field("fences", &self.fences).finish()
    }
}

impl Fences {
    /// The fence of a host at a subsystem, if there is one.
    #[must_use]
    pub fn find(&self, host_nqn: &str, subsystem_nqn: &str) -> Option<Handle> {
        let mut of_host = self.by_host.of(host_nqn);
        of_host.find(|handle| self.fences[*handle].subsystem_nqn == subsystem_nqn)
    }

    /// The fence of a host at a subsystem, made if there is none.
    pub fn find_or_make(&mut self, host_nqn: &str, subsystem_nqn: &str) -> Handle {
        if let Some(found) = self.find(host_nqn, subsystem_nqn) {
            return found;
        }
        let made = self.fences.insert(Fence {
            host_nqn: host_nqn.to_owned(),
            subsystem_nqn: subsystem_nqn.to_owned(),
            writes: ArrayVec::new(),
            writes_elsewhere: 0,
            questions: Vec::new(),
            last_question: 0,
            askers: Vec::new(),
            parked: RequestList::new(LinkKind::Wait),
        });
        self.by_host.insert(host_nqn.to_owned(), made);
        made
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

    /// A fenced write left the backend. Whether the fence may cover less than before, so that what waits at it can be
    /// looked at again.
    pub fn write_ended(&mut self, handle: Handle, write: FencedWrite) -> bool {
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
        *count == 0
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
        let Some(fence) = self.fences.get(handle) else {
            return true;
        };
        if !fence.is_clear() || !fence.parked.is_empty() {
            return false;
        }
        if let Some(fence) = self.fences.remove(handle) {
            self.by_host.remove(&fence.host_nqn, handle);
        }
        true
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

    const ASKER: Asker = Asker {
        poller: 3,
        fence: Handle { slot: 4, generation: 2 },
        question: 1,
        until: 0,
    };

    fn covers(fences: &Fences, fence: Handle, backing: u32) -> bool {
        let fence = fences.get(fence).unwrap();
        fence.covers(BackingId(backing), fence.last_question())
    }

    #[test]
    fn a_fence_stands_until_the_last_write_of_its_backing_has_ended() {
        let mut fences = Fences::default();
        let (fence, first) = fences.add_write("host", "subsystem", BackingId(1));
        let (same, second) = fences.add_write("host", "subsystem", BackingId(1));
        assert_eq!(fence, same);
        assert_eq!((fences.len(), fences.is_empty()), (1, false));
        assert!(!fences.write_ended(fence, first), "another one is left");
        assert!(covers(&fences, fence, 1));
        assert!(fences.get(fence).unwrap().has_writes());
        assert!(!covers(&fences, fence, 2));
        assert!(!fences.remove_if_clear(fence));
        assert!(fences.write_ended(fence, second));
        assert!(!covers(&fences, fence, 1));
        assert!(!fences.get(fence).unwrap().has_writes());
        assert!(fences.remove_if_clear(fence));
        assert!(fences.remove_if_clear(fence), "it is down already");
        assert_eq!((fences.len(), fences.is_empty()), (0, true));
        assert_eq!(fences.find("host", "subsystem"), None);
        assert!(fences.get(fence).is_none() && fences.get_mut(fence).is_none());
    }

    #[test]
    fn more_backings_than_a_fence_tells_apart_close_it_for_all() {
        let mut fences = Fences::default();
        let (fence, _) = fences.add_write("host", "subsystem", BackingId(0));
        for id in 1..BACKINGS_MAX as u32 {
            assert_eq!(fences.add_to(fence, BackingId(id)), FencedWrite::Backing(BackingId(id)));
        }
        let elsewhere = BackingId(BACKINGS_MAX as u32);
        let writes = [fences.add_to(fence, elsewhere), fences.add_to(fence, elsewhere)];
        assert_eq!(writes, [FencedWrite::Elsewhere; 2]);
        assert!(covers(&fences, fence, 1000));
        assert!(!fences.write_ended(fence, writes[0]));
        assert!(covers(&fences, fence, 1000));
        assert!(fences.write_ended(fence, writes[1]));
        assert!(!covers(&fences, fence, 1000));
        assert!(covers(&fences, fence, 3));
    }

    #[test]
    fn a_fence_with_writes_without_a_place_of_their_own_has_writes() {
        let mut fences = Fences::default();
        let (fence, _) = fences.add_write("host", "subsystem", BackingId(0));
        for id in 1..BACKINGS_MAX as u32 {
            fences.add_to(fence, BackingId(id));
        }
        let last = fences.add_to(fence, BackingId(99));
        for id in 0..BACKINGS_MAX as u32 {
            fences.write_ended(fence, FencedWrite::Backing(BackingId(id)));
        }
        assert!(fences.get(fence).unwrap().has_writes());
        assert!(!fences.remove_if_clear(fence));
        fences.write_ended(fence, last);
        assert!(!fences.get(fence).unwrap().has_writes());
        assert!(fences.remove_if_clear(fence));
    }

    #[test]
    fn a_fence_that_others_are_asked_about_covers_everything_until_all_have_answered() {
        let mut fences = Fences::default();
        let fence = fences.find_or_make("host", "subsystem");
        assert_eq!(fences.find_or_make("host", "subsystem"), fence);
        fences.get_mut(fence).unwrap().asked(1);
        fences.get_mut(fence).unwrap().asked(4);
        assert!(covers(&fences, fence, 7));
        assert!(fences.get_mut(fence).unwrap().answered(1));
        assert!(!fences.get_mut(fence).unwrap().answered(1), "once");
        assert!(covers(&fences, fence, 7));
        assert!(!fences.remove_if_clear(fence));
        assert!(fences.get_mut(fence).unwrap().answered(4));
        assert!(!covers(&fences, fence, 7));
        assert!(fences.remove_if_clear(fence));
    }

    #[test]
    fn what_came_before_a_question_does_not_wait_for_its_answer() {
        let mut fences = Fences::default();
        let fence = fences.find_or_make("host", "subsystem");
        let fence = fences.get_mut(fence).unwrap();
        fence.asked(2);
        let before = fence.last_question();
        fence.asked(3);
        assert!(fence.covers(BackingId(1), before));
        fence.answered(2);
        assert!(!fence.covers(BackingId(1), before));
        assert!(fence.covers(BackingId(1), fence.last_question()));
    }

    #[test]
    fn who_asks_hears_when_the_writes_here_are_over_whatever_else_the_fence_waits_for() {
        let mut fences = Fences::default();
        let (fence, write) = fences.add_write("host", "subsystem", BackingId(1));
        let found = fences.get_mut(fence).unwrap();
        found.asked(1);
        assert!(!found.has_askers());
        found.add_asker(ASKER);
        assert!(found.has_askers());
        assert_eq!(found.take_askers(None), []);
        fences.write_ended(fence, write);
        fences.get_mut(fence).unwrap().answered(1);
        assert!(!fences.remove_if_clear(fence), "somebody waits for an answer");
        assert_eq!(fences.get_mut(fence).unwrap().take_askers(None), [ASKER]);
        assert_eq!(fences.get_mut(fence).unwrap().take_askers(None), []);
        assert!(fences.remove_if_clear(fence));
    }

    #[test]
    fn who_asks_waits_for_what_waits_for_earlier_questions_and_not_for_what_waits_for_later_ones() {
        let mut fences = Fences::default();
        let fence = fences.find_or_make("host", "subsystem");
        let fence = fences.get_mut(fence).unwrap();
        let (early, late) = (Asker { until: 2, ..ASKER }, Asker { until: 5, ..ASKER });
        fence.add_asker(early);
        fence.add_asker(late);
        assert!(fence.is_awaited(2) && fence.is_awaited(5) && !fence.is_awaited(6));
        assert_eq!(fence.take_askers(Some(2)), []);
        assert_eq!(fence.take_askers(Some(3)), [early]);
        assert!(fence.is_awaited(5));
        assert_eq!(fence.take_askers(Some(5)), []);
        assert_eq!(fence.take_askers(Some(6)), [late]);
        assert!(!fence.is_awaited(0));
    }

    #[test]
    fn fences_of_different_hosts_are_apart() {
        let mut fences = Fences::default();
        let (one, _) = fences.add_write("one", "subsystem", BackingId(1));
        assert_eq!(fences.find("two", "subsystem"), None);
        assert_eq!(fences.find("one", "subsystem"), Some(one));
        let (other, write) = fences.add_write("one", "other", BackingId(1));
        assert_ne!(one, other);
        assert_eq!(fences.len(), 2);
        fences.write_ended(other, write);
        assert!(fences.remove_if_clear(other));
        assert_eq!(fences.find("one", "other"), None);
        assert_eq!(fences.find("one", "subsystem"), Some(one));
    }
}
