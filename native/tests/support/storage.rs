//! A hostile backend: completes in any order and as late as it likes, fails at random, can get stuck, forgets what was not
//! flushed, and watches the memory it was lent.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_core::backend::{
    Backend, BackingFacts, BackingId, BackingSpec, IoCompletion, IoOperation, IoRequest, OpenError, Queue, QueueFull,
};

use super::random::Random;

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;

/// What lent memory is filled with while a read is under way: the device may write anything at any time.
const SCRIBBLE: u8 = 0xd7;

#[derive(Debug, Clone)]
struct Volume {
    blocks: Vec<[u8; BLOCK_BYTES]>,
    /// What a power failure leaves.
    stable: Vec<[u8; BLOCK_BYTES]>,
    /// Blocks whose stable form is older.
    unflushed: BTreeSet<usize>,
}

/// How hostile it is now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mood {
    /// I/Os that fail, of 1000.
    pub errors_per_mille: u64,
    /// I/Os that complete at a poll, of 1000.
    pub completions_per_mille: u64,
    /// I/Os that get stuck until [`Storage::release`], of 1000.
    pub stuck_per_mille: u64,
    /// Pushes that are refused as if the queue were full, of 1000.
    pub full_per_mille: u64,
    /// Opens that fail, of 1000.
    pub open_errors_per_mille: u64,
}

impl Mood {
    /// Everything completes at the next poll.
    pub const CALM: Self = Self {
        errors_per_mille: 0,
        completions_per_mille: 1000,
        stuck_per_mille: 0,
        full_per_mille: 0,
        open_errors_per_mille: 0,
    };
}

#[derive(Debug)]
struct State {
    random: Random,
    mood: Mood,
    volumes: BTreeMap<String, Volume>,
    open: usize,
    /// I/Os with this mark are let go when `released` reaches it.
    stuck: u64,
    released: u64,
    executed: u64,
    flushes: u64,
}

/// All volumes of a simulated machine.
#[derive(Debug, Clone)]
pub struct Storage {
    state: Arc<Mutex<State>>,
}

impl Storage {
    /// Calm storage.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                random: Random::new(seed, "storage"),
                mood: Mood::CALM,
                volumes: BTreeMap::new(),
                open: 0,
                stuck: 0,
                released: 0,
                executed: 0,
                flushes: 0,
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the mood.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Lets every stuck I/O go.
    pub fn release(&self) {
        let mut state = self.lock();
        state.released = state.stuck;
    }

    /// Backings open now.
    pub fn open_backings(&self) -> usize {
        self.lock().open
    }

    /// I/Os carried out, and flushes among them.
    pub fn executed(&self) -> (u64, u64) {
        let state = self.lock();
        (state.executed, state.flushes)
    }

    /// A block as it is now, and as a power failure would leave it.
    pub fn block(&self, path: &str, block: usize) -> ([u8; BLOCK_BYTES], [u8; BLOCK_BYTES]) {
        let state = self.lock();
        let volume = &state.volumes[path];
        (volume.blocks[block], volume.stable[block])
    }
}

/// An open volume.
#[derive(Debug)]
pub struct Opened {
    storage: Storage,
    path: String,
    size_bytes: u64,
    read_only: bool,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.storage.lock().open -= 1;
    }
}

impl Backend for Storage {
    type Backing = Opened;
    type Queue = StorageQueue;

    fn open(&self, spec: &BackingSpec) -> Result<Arc<Opened>, OpenError> {
        let (path, size_bytes, read_only) = match spec {
            BackingSpec::File {
                path,
                size_bytes,
                read_only,
            } => (path.clone(), *size_bytes, *read_only),
            _ => {
                return Err(OpenError {
                    reason: "NotSimulated",
                    message: format!("{spec:?} is not simulated"),
                });
            }
        };
        let mut state = self.lock();
        let odds = state.mood.open_errors_per_mille;
        if state.random.chance(odds) {
            return Err(OpenError {
                reason: "OpenFailed",
                message: format!("{path}: injected fault"),
            });
        }
        let blocks = (size_bytes as usize).div_ceil(BLOCK_BYTES);
        let volume = state.volumes.entry(path.clone()).or_insert_with(|| Volume {
            blocks: Vec::new(),
            stable: Vec::new(),
            unflushed: BTreeSet::new(),
        });
        if volume.blocks.len() < blocks {
            volume.blocks.resize(blocks, [0; BLOCK_BYTES]);
            volume.stable.resize(blocks, [0; BLOCK_BYTES]);
        }
        state.open += 1;
        drop(state);
        Ok(Arc::new(Opened {
            storage: self.clone(),
            path,
            size_bytes,
            read_only,
        }))
    }

    fn facts(&self, backing: &Opened) -> BackingFacts {
        BackingFacts {
            size_bytes: backing.size_bytes,
            block_shift: 12,
            volatile: false,
            read_only: backing.read_only,
            write_cache: true,
        }
    }

    fn queue(&self, depth: u32) -> std::io::Result<StorageQueue> {
        Ok(StorageQueue {
            storage: self.clone(),
            depth: depth as usize,
            backings: BTreeMap::new(),
            pending: Vec::new(),
        })
    }
}

#[derive(Debug)]
struct Pending {
    request: IoRequest,
    path: String,
    submitted: bool,
    /// Value of the stuck counter that lets it go; 0 when it is not stuck.
    stuck: u64,
    /// Digest of lent memory: it must not change while it is ours.
    digest: u64,
    /// Carried out, not yet reported.
    outcome: Option<i32>,
}

/// A process that is killed leaves each of its I/Os carried out or not; the kernel does not let it go before that.
impl Drop for StorageQueue {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut state = self.storage.lock();
        for mut io in std::mem::take(&mut self.pending) {
            if io.outcome.is_none() && io.submitted && state.random.chance(500) {
                io.execute(&mut state);
            }
        }
    }
}

/// One poller's queue.
#[derive(Debug)]
pub struct StorageQueue {
    storage: Storage,
    depth: usize,
    backings: BTreeMap<BackingId, Arc<Opened>>,
    pending: Vec<Pending>,
}

#[allow(clippy::mut_from_ref)] // The memory is named by address, not borrowed from the request.
fn lent(request: &IoRequest) -> &mut [u8] {
    // SAFETY: `push` lends `length` bytes at `memory` until completion. That they stay mapped is part of what the
    // simulation proves: a buffer freed too early is a crash of this test.
    unsafe { std::slice::from_raw_parts_mut(request.memory as *mut u8, request.length as usize) }
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |state, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (state ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn has_memory(request: &IoRequest) -> bool {
    matches!(request.operation, IoOperation::Read | IoOperation::Write { .. })
}

impl Pending {
    fn check_memory(&self) {
        if has_memory(&self.request) {
            assert_eq!(
                digest(lent(&self.request)),
                self.digest,
                "memory lent to the backend was touched before the I/O completed: {:?}",
                self.request
            );
        }
    }

    fn execute(&mut self, state: &mut State) {
        self.check_memory();
        let odds = state.mood.errors_per_mille;
        let fails = state.random.chance(odds);
        // A failed write may have been carried out or not.
        let happens = !fails || state.random.chance(500);
        let errno = if fails {
            state.random.pick(&[libc::EIO, libc::EAGAIN])
        } else {
            0
        };
        let request = self.request;
        let State {
            volumes,
            random,
            flushes,
            ..
        } = state;
        let volume = volumes.get_mut(&self.path).expect("an open volume exists");
        let first = request.offset as usize / BLOCK_BYTES;
        let count = request.length as usize / BLOCK_BYTES;
        match request.operation {
            IoOperation::Read => {
                for (index, part) in lent(&request).chunks_mut(BLOCK_BYTES).enumerate() {
                    part.copy_from_slice(&volume.blocks[first + index]);
                }
                self.digest = digest(lent(&request));
            }
            IoOperation::Write { durable } if happens => {
                for (index, part) in lent(&request).chunks(BLOCK_BYTES).enumerate() {
                    volume.blocks[first + index].copy_from_slice(part);
                    if durable && !fails {
                        volume.stable[first + index].copy_from_slice(part);
                        volume.unflushed.remove(&(first + index));
                    } else {
                        volume.unflushed.insert(first + index);
                    }
                }
            }
            IoOperation::WriteZeroes { .. } if happens => {
                volume.blocks[first..first + count].fill([0; BLOCK_BYTES]);
                volume.unflushed.extend(first..first + count);
            }
            IoOperation::Deallocate if happens => {
                volume.unflushed.extend(first..first + count);
                for block in &mut volume.blocks[first..first + count] {
                    if random.chance(500) {
                        *block = [0; BLOCK_BYTES];
                    }
                }
            }
            IoOperation::Flush if !fails => {
                for block in std::mem::take(&mut volume.unflushed) {
                    volume.stable[block] = volume.blocks[block];
                }
                *flushes += 1;
            }
            _ => {}
        }
        state.executed += 1;
        self.outcome = Some(errno);
    }
}

impl Queue for StorageQueue {
    type Backing = Opened;

    fn attach(&mut self, id: BackingId, backing: Arc<Opened>) {
        let former = self.backings.insert(id, backing);
        assert!(former.is_none(), "{id:?} is attached twice");
    }

    fn detach(&mut self, id: BackingId) {
        assert!(
            self.pending.iter().all(|io| io.request.backing != id),
            "{id:?} is detached under I/O"
        );
        let backing = self.backings.remove(&id);
        assert!(backing.is_some(), "{id:?} is detached without being attached");
    }

    fn push(&mut self, request: &IoRequest) -> Result<(), QueueFull> {
        let mut state = self.storage.lock();
        let odds = state.mood.full_per_mille;
        if self.pending.len() >= self.depth || state.random.chance(odds) {
            return Err(QueueFull);
        }
        let backing = self
            .backings
            .get(&request.backing)
            .expect("I/O goes to an attached backing");
        let end = request.offset.checked_add(request.length).expect("no overflow");
        assert!(end <= backing.size_bytes, "I/O stays inside the namespace: {request:?}");
        assert!(
            !backing.read_only || matches!(request.operation, IoOperation::Read | IoOperation::Flush),
            "nothing is written to a read-only namespace"
        );
        assert!(
            request.offset % BLOCK_BYTES as u64 == 0 && request.length % BLOCK_BYTES as u64 == 0,
            "I/O is whole blocks: {request:?}"
        );
        let twice = self.pending.iter().any(|io| io.request.token == request.token);
        assert!(!twice, "a token names one I/O at a time");
        let odds = state.mood.stuck_per_mille;
        let stuck = if state.random.chance(odds) {
            state.stuck += 1;
            state.stuck
        } else {
            0
        };
        self.pending.push(Pending {
            request: *request,
            path: backing.path.clone(),
            submitted: false,
            stuck,
            digest: if has_memory(request) { digest(lent(request)) } else { 0 },
            outcome: None,
        });
        Ok(())
    }

    fn submit(&mut self) {
        for io in self.pending.iter_mut().filter(|io| !io.submitted) {
            io.submitted = true;
            if io.request.operation == IoOperation::Read {
                io.check_memory();
                lent(&io.request).fill(SCRIBBLE);
                io.digest = digest(lent(&io.request));
            }
        }
    }

    fn poll(&mut self, completions: &mut [IoCompletion]) -> usize {
        let mut state = self.storage.lock();
        let mut count = 0;
        let mut index = 0;
        while index < self.pending.len() {
            let io = &mut self.pending[index];
            let free = io.submitted && io.stuck <= state.released;
            let odds = state.mood.completions_per_mille;
            if free && io.outcome.is_none() && state.random.chance(odds) {
                io.execute(&mut state);
            }
            let done = io.outcome.filter(|_| count < completions.len());
            match done.filter(|_| state.random.chance(odds)) {
                Some(errno) => {
                    io.check_memory();
                    completions[count] = IoCompletion {
                        token: io.request.token,
                        errno,
                    };
                    count += 1;
                    // Any order will do.
                    self.pending.swap_remove(index);
                }
                None => index += 1,
            }
        }
        count
    }

    fn in_flight(&self) -> usize {
        self.pending.len()
    }

    fn completion_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self, _armed: bool) {}
}
