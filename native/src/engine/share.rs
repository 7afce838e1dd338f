//! A poller's share of a port for one epoch: its receives, buffers and response slots, and who waits for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::time::Instant;

use crate::engine::buffers::{Buffer, BufferClass, BufferPool, BufferRegion, RegisteredSlot};
use crate::engine::integer_hash::IntegerMap;
use crate::engine::list::{LinkKind, RequestList};
use crate::engine::messages::{Handle, PortResources};
use crate::engine::receives::Receives;
use crate::nvme::completion::COMPLETION_BYTES;
use crate::provider::Provider;

/// Small buffers that only admin commands and Connect may take.
const SMALL_RESERVED: usize = 4;
/// Large buffers that only admin commands may take (long log pages).
const LARGE_RESERVED: usize = 1;
/// Response slots, and so requests, that only admin commands and Connect may take.
pub const REQUESTS_RESERVED: usize = 8;

/// Whether the port serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortService {
    /// It does.
    Serving,
    /// The link went down moments ago: nothing is posted.
    Holding,
    /// Everything is being given back.
    Draining {
        /// When what is unfinished is quarantined.
        deadline: Instant,
        /// It was.
        quarantined: bool,
    },
}

/// Whether a completion queue can be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    /// It can.
    Works,
    /// It failed each time since then.
    Fails {
        /// The first time.
        since: Instant,
    },
    /// It failed for too long, which the control thread was told.
    Broken,
}

/// A capsule that waits for a request slot.
#[derive(Debug, Clone, Copy)]
pub struct WaitingCapsule {
    /// Its receive.
    pub receive: u32,
    /// Its queue pair.
    pub queue_pair: Handle,
    /// Bytes received.
    pub length: u32,
}

/// What was seen of a completion queue, to know when everything that stood in it at some moment was taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct CompletionQueueLook {
    /// Completions taken so far.
    taken: u64,
    /// The last step that found the queue empty.
    empty_in_step: u64,
}

impl CompletionQueueLook {
    /// `count` completions were taken. Only none at all says that the queue is empty: a device may give fewer than it
    /// has.
    pub fn taken(&mut self, count: usize, step: u64) {
        self.taken += count as u64;
        if count == 0 {
            self.empty_in_step = step;
        }
    }

    /// A moment to compare with.
    #[must_use]
    pub fn moment(&self, step: u64) -> Moment {
        Moment {
            step,
            taken: self.taken,
        }
    }

    /// Whether all that stood in the queue (of `entries` at most) at the moment was taken: it was empty since, or as
    /// many were taken as it holds.
    #[must_use]
    pub fn has_passed(&self, moment: Moment, entries: u32) -> bool {
        self.empty_in_step > moment.step || self.taken - moment.taken >= u64::from(entries)
    }
}

/// A moment in the life of a completion queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    step: u64,
    taken: u64,
}

/// Queue pairs being taken down that nothing is in flight on any more, the one that was taken down first in front.
#[derive(Default)]
pub struct Settled {
    heap: BinaryHeap<Reverse<(Moment, Handle)>>,
}

/// In order of handles: when each was taken down is said by the queue pair itself.
impl fmt::Debug for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut handles: Vec<Handle> = self.heap.iter().map(|Reverse((_, handle))| *handle).collect();
        handles.sort_unstable();
        f.debug_list().entries(handles).finish()
    }
}

impl Settled {
    /// Makes room for so many, so that joining allocates nothing.
    pub fn reserve(&mut self, count: usize) {
        self.heap.reserve(count.saturating_sub(self.heap.len()));
    }

    /// One joins that was taken down at this moment.
    pub fn push(&mut self, since: Moment, queue_pair: Handle) {
        self.heap.push(Reverse((since, queue_pair)));
    }

    /// The one in front.
    #[must_use]
    pub fn first(&self) -> Option<(Moment, Handle)> {
        self.heap.peek().map(|Reverse(first)| *first)
    }

    /// Takes the one in front out.
    pub fn take_first(&mut self) {
        self.heap.pop();
    }
}

/// One port, one epoch, one poller.
#[derive(Debug)]
pub struct Share<P: Provider> {
    /// What the control thread built, kept whole to be given back.
    pub resources: Box<PortResources<P>>,
    /// Whether it serves.
    pub service: PortService,
    /// Receives.
    pub receives: Receives,
    /// Requests that wait for a buffer, by class; privileged ones first.
    waiting: [[RequestList; 2]; 2],
    /// Capsules that wait for a request slot; privileged ones first.
    backlog: [VecDeque<WaitingCapsule>; 2],
    /// Queue pairs by their number.
    pub numbers: IntegerMap<u32, Handle>,
    /// What was seen of the completion queue.
    pub look: CompletionQueueLook,
    /// Whether the completion queue can be polled.
    pub polling: Polling,
    /// Queue pairs that only wait for the completion queue to be swept.
    pub settled: Settled,
    pools: [BufferPool; 2],
    response_slots: Vec<RegisteredSlot>,
    response_free: Vec<u32>,
    /// Small buffers that the response slots are cut from.
    response_memory: Vec<Buffer>,
    /// Buffers whose RDMA WRITE may or may not have been executed (its chain broke in the middle of posting): out of
    /// use for the rest of the epoch.
    stranded: Vec<Buffer>,
}

impl<P: Provider> Share<P> {
    /// Lays out everything. The only place of a share's life that allocates, besides added memory.
    pub fn new(provider: &P, resources: Box<PortResources<P>>) -> Self {
        let sizing = resources.sizing;
        let mut pools = [
            BufferPool::new(BufferClass::Small, sizing.small_buffer_bytes, SMALL_RESERVED),
            BufferPool::new(BufferClass::Large, sizing.large_buffer_bytes, LARGE_RESERVED),
        ];
        for (pool, pieces) in pools
            .iter_mut()
            .zip([&resources.small_regions, &resources.large_regions])
        {
            for piece in pieces {
                pool.add(provider, piece);
            }
        }
        let mut receives = Receives::default();
        receives.add(provider, &resources.receive_regions);
        let waiting_list = || RequestList::new(LinkKind::Wait);
        let mut share = Self {
            service: PortService::Serving,
            waiting: [[waiting_list(), waiting_list()], [waiting_list(), waiting_list()]],
            backlog: [
                VecDeque::with_capacity(receives.len()),
                VecDeque::with_capacity(receives.len()),
            ],
            receives,
            numbers: IntegerMap::default(),
            look: CompletionQueueLook::default(),
            polling: Polling::Works,
            settled: Settled::default(),
            pools,
            response_slots: Vec::new(),
            response_free: Vec::new(),
            response_memory: Vec::new(),
            stranded: Vec::new(),
            resources,
        };
        share.count_added_buffers(share.pools.iter().map(BufferPool::total).sum());
        share.cut_response_slots();
        share
    }

    fn cut_response_slots(&mut self) {
        let wanted = self.resources.sizing.request_count as usize;
        let slot_bytes = u32::try_from(COMPLETION_BYTES).expect("16");
        self.response_slots.reserve(wanted);
        while self.response_slots.len() < wanted {
            let Some(buffer) = self.take_buffer(BufferClass::Small, true) else {
                break;
            };
            let whole = self.pools[BufferClass::Small as usize].slot(&buffer);
            let fit = (whole.bytes() / slot_bytes) as usize;
            for index in 0..fit.min(wanted - self.response_slots.len()) {
                let at = u32::try_from(index).expect("few slots") * slot_bytes;
                self.response_slots.push(whole.part(at, slot_bytes));
            }
            self.response_memory.push(buffer);
        }
        assert!(
            !self.response_slots.is_empty(),
            "a port is armed with at least one small buffer"
        );
        let count = u32::try_from(self.response_slots.len()).expect("requests fit a token");
        self.response_free = (0..count).rev().collect();
    }

    /// Adds memory that was registered later.
    pub fn add_regions(
        &mut self,
        provider: &P,
        small: Vec<BufferRegion<P>>,
        large: Vec<BufferRegion<P>>,
        receive: Vec<BufferRegion<P>>,
    ) {
        let mut added = 0;
        for piece in &small {
            added += self.pools[BufferClass::Small as usize].add(provider, piece);
        }
        for piece in &large {
            added += self.pools[BufferClass::Large as usize].add(provider, piece);
        }
        self.receives.add(provider, &receive);
        for backlog in &mut self.backlog {
            backlog.reserve(self.receives.len() - backlog.len());
        }
        self.resources.small_regions.extend(small);
        self.resources.large_regions.extend(large);
        self.resources.receive_regions.extend(receive);
        self.count_added_buffers(added);
    }

    fn count_added_buffers(&self, added: usize) {
        self.resources.counters.buffers_free.add(added as u64);
    }

    /// Whether work requests may be posted.
    #[must_use]
    pub fn may_post(&self) -> bool {
        self.service == PortService::Serving
    }

    /// Whether the port is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.service, PortService::Draining { .. })
    }

    fn is_quarantined(&self) -> bool {
        matches!(self.service, PortService::Draining { quarantined: true, .. })
    }

    /// Takes a data buffer.
    pub fn take_buffer(&mut self, class: BufferClass, privileged: bool) -> Option<Buffer> {
        let buffer = self.pools[class as usize].take(privileged)?;
        self.resources.counters.buffers_free.subtract(1);
        self.resources.counters.buffers_used.add(1);
        Some(buffer)
    }

    /// Buffers that could be taken now.
    #[must_use]
    pub fn buffers_available(&self, class: BufferClass, privileged: bool) -> usize {
        self.pools[class as usize].available(privileged)
    }

    /// Gives a data buffer back.
    pub fn give_back(&mut self, buffer: Buffer) {
        let counters = &self.resources.counters;
        let held = if self.is_quarantined() {
            &counters.buffers_quarantined
        } else {
            &counters.buffers_used
        };
        held.subtract(1);
        counters.buffers_free.add(1);
        self.pools[buffer.class() as usize].give_back(buffer);
    }

    /// Keeps a buffer out of use until the epoch ends.
    pub fn strand(&mut self, buffer: Buffer) {
        self.stranded.push(buffer);
    }

    /// The bytes of a data buffer, between posted work.
    pub fn bytes<'a>(&'a self, buffer: &'a mut Buffer, length: usize) -> &'a mut [u8] {
        self.pools[buffer.class() as usize].bytes(buffer, length)
    }

    /// Whether `length` bytes of a held receive, from byte `at`, equal a buffer's first.
    pub fn capsule_equals(&mut self, receive: u32, at: usize, buffer: &mut Buffer, length: usize) -> bool {
        let Self { receives, pools, .. } = self;
        receives.capsule(receive, at + length)[at..] == *pools[buffer.class() as usize].bytes(buffer, length)
    }

    /// The class of buffers for `needed` pieces of `length` bytes: the smallest that can ever have so many. `None` if
    /// none can.
    #[must_use]
    pub fn class_for(&self, length: u32, needed: usize, privileged: bool) -> Option<BufferClass> {
        let smallest = BufferClass::for_length(length, &self.resources.sizing)?;
        let classes = BufferClass::ALL
            .into_iter()
            .filter(|class| *class as usize >= smallest as usize);
        classes
            .into_iter()
            .find(|class| self.buffers_obtainable(*class, privileged) >= needed)
    }

    /// Buffers there would be for requests if none had any.
    fn buffers_obtainable(&self, class: BufferClass, privileged: bool) -> usize {
        let kept = if class == BufferClass::Small {
            self.response_memory.len()
        } else {
            0
        };
        self.pools[class as usize].obtainable(privileged).saturating_sub(kept)
    }

    /// Who waits for a buffer.
    pub fn waiting(&mut self, class: BufferClass, privileged: bool) -> &mut RequestList {
        &mut self.waiting[class as usize][usize::from(!privileged)]
    }

    /// Takes a response slot, and with it the right to be a request.
    pub fn take_response(&mut self, privileged: bool) -> Option<u32> {
        let reserved = if privileged {
            0
        } else {
            REQUESTS_RESERVED.min(self.response_slots.len() - 1)
        };
        if self.response_free.len() <= reserved {
            None
        } else {
            self.response_free.pop()
        }
    }

    /// Gives a response slot back.
    pub fn return_response(&mut self, slot: u32) {
        self.response_free.push(slot);
        assert!(
            self.response_free.len() <= self.response_slots.len(),
            "a response slot came back twice"
        );
    }

    /// A response slot's memory.
    pub fn response(&mut self, slot: u32) -> &mut RegisteredSlot {
        &mut self.response_slots[slot as usize]
    }

    /// Requests in progress.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.response_slots.len() - self.response_free.len()
    }

    /// Requests that can be in progress.
    #[must_use]
    pub fn requests_max(&self) -> usize {
        self.response_slots.len()
    }

    /// A capsule found no request slot.
    pub fn push_backlog(&mut self, privileged: bool, capsule: WaitingCapsule) {
        self.backlog[usize::from(!privileged)].push_back(capsule);
    }

    /// The capsule that has waited longest, privileged ones first.
    pub fn pop_backlog(&mut self, privileged: bool) -> Option<WaitingCapsule> {
        self.backlog[usize::from(!privileged)].pop_front()
    }

    /// Whether capsules wait.
    #[must_use]
    pub fn has_backlog(&self, privileged: bool) -> bool {
        !self.backlog[usize::from(!privileged)].is_empty()
    }

    /// The drain's deadline passed: what is in use is quarantined from now on.
    pub fn quarantine(&mut self) {
        let PortService::Draining { quarantined, .. } = &mut self.service else {
            unreachable!("only a draining port is quarantined")
        };
        assert!(!*quarantined, "a port is quarantined once");
        *quarantined = true;
        let used = self.pools.iter().map(|pool| pool.total() - pool.free()).sum::<usize>() as u64;
        self.resources.counters.buffers_used.subtract(used);
        self.resources.counters.buffers_quarantined.add(used);
    }

    /// Nothing is in flight any more: what the control thread built comes back.
    pub fn into_resources(mut self) -> Box<PortResources<P>> {
        assert!(self.numbers.is_empty(), "queue pairs are given back before their port");
        assert!(self.requests() == 0, "requests end before their port");
        for buffer in std::mem::take(&mut self.response_memory)
            .into_iter()
            .chain(std::mem::take(&mut self.stranded))
        {
            self.give_back(buffer);
        }
        for pool in &self.pools {
            assert!(
                pool.free() == pool.total(),
                "every buffer is back before its memory is deregistered"
            );
            self.resources.counters.buffers_free.subtract(pool.total() as u64);
        }
        self.resources
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_passed_once_the_queue_was_empty_or_its_length_was_taken() {
        let mut look = CompletionQueueLook::default();
        look.taken(3, 1);
        let moment = look.moment(1);
        look.taken(5, 2);
        assert!(!look.has_passed(moment, 8), "fewer than asked for does not mean empty");
        look.taken(3, 3);
        assert!(look.has_passed(moment, 8));
        let moment = look.moment(3);
        look.taken(0, 3);
        assert!(!look.has_passed(moment, 8), "empty before the moment, in the same step");
        look.taken(0, 4);
        assert!(look.has_passed(moment, 8));
    }
}
