//! A volume of a few blocks whose I/Os complete when they are told to, or never.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_core::backend::{
    Backend, BackingFacts, BackingId, BackingSpec, IoCompletion, IoOperation, IoRequest, OpenError, Queue, QueueFull,
};

use crate::host::{BLOCK_BYTES, value_of};

/// Blocks of the volume that are used.
pub const BLOCKS: usize = 2;
/// I/Os in flight at most; never reached with two I/Os of a host in a few epochs.
const DEPTH: usize = 64;

#[derive(Debug)]
struct Pending {
    request: IoRequest,
    /// Of what is written: lent memory must not change.
    value: u64,
}

#[derive(Debug, Default)]
struct State {
    blocks: [u64; BLOCKS],
    pending: Vec<Pending>,
    /// Tokens of what is completed and not yet polled.
    done: Vec<u64>,
}

/// The volume, and the backend that has it.
#[derive(Clone, Default)]
pub struct Storage {
    state: Arc<Mutex<State>>,
}

/// Everything of it is shown once, by [`Storage::describe`].
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

#[allow(clippy::mut_from_ref)] // The memory is named by address, not borrowed from the request.
fn lent(request: &IoRequest) -> &mut [u8] {
    // SAFETY: `push` lends `length` bytes at `memory` until completion; memory that is gone is a crash that the
    // exploration reports with its path.
    unsafe { std::slice::from_raw_parts_mut(request.memory as *mut u8, request.length as usize) }
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// I/Os that can complete.
    pub fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    /// Completed I/Os wait to be polled.
    pub fn has_completions(&self) -> bool {
        !self.lock().done.is_empty()
    }

    /// One of them in words.
    pub fn shown(&self, index: usize) -> String {
        format!("{:?}", self.lock().pending[index])
    }

    /// Carries out one of them, and completes it.
    ///
    /// # Panics
    /// If memory lent for a write was touched.
    pub fn complete(&self, index: usize) {
        let mut state = self.lock();
        let Pending { request, value } = state.pending.remove(index);
        let block = request.offset as usize / BLOCK_BYTES;
        match request.operation {
            IoOperation::Read => {
                for word in lent(&request).chunks_exact_mut(8) {
                    word.copy_from_slice(&state.blocks[block].to_le_bytes());
                }
            }
            IoOperation::Write { .. } => {
                let now = value_of(lent(&request));
                assert_eq!(now, Ok(value), "memory lent to the backend was touched: {request:?}");
                state.blocks[block] = value;
            }
            other => panic!("{other:?} is not in the scope"),
        }
        state.done.push(request.token);
    }

    /// What a block holds.
    pub fn block(&self, index: usize) -> u64 {
        self.lock().blocks[index]
    }

    /// Everything that decides what can happen next.
    pub fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let state = self.lock();
        let done = state.done.iter();
        // As a field, so that tokens are known for what they are.
        let done: Vec<IoCompletion> = done
            .map(|token| IoCompletion {
                token: *token,
                errno: 0,
            })
            .collect();
        write!(
            out,
            "State {{ blocks: {:?}, pending: {:?}, done: {done:?} }}",
            state.blocks, state.pending
        )
    }
}

/// The volume, open.
#[derive(Debug)]
pub struct Opened;

impl Backend for Storage {
    type Backing = Opened;
    type Queue = StorageQueue;

    fn open(&self, _spec: &BackingSpec) -> Result<Arc<Opened>, OpenError> {
        Ok(Arc::new(Opened))
    }

    fn facts(&self, _backing: &Opened) -> BackingFacts {
        BackingFacts {
            size_bytes: 4096,
            block_shift: BLOCK_BYTES.ilog2() as u8,
            volatile: false,
            read_only: false,
            write_cache: true,
        }
    }

    fn queue(&self, _depth: u32) -> std::io::Result<StorageQueue> {
        Ok(StorageQueue(self.clone()))
    }
}

/// The one poller's queue.
#[derive(Debug)]
pub struct StorageQueue(Storage);

impl Queue for StorageQueue {
    type Backing = Opened;

    fn attach(&mut self, _id: BackingId, _backing: Arc<Opened>) {}

    fn detach(&mut self, _id: BackingId) {
        assert!(self.0.lock().pending.is_empty(), "the backing is detached under I/O");
    }

    fn push(&mut self, request: &IoRequest) -> Result<(), QueueFull> {
        let mut state = self.0.lock();
        assert!(state.pending.len() < DEPTH, "the scope has few I/Os");
        let value = match request.operation {
            IoOperation::Write { .. } => value_of(lent(request)).expect("a host writes whole blocks"),
            _ => 0,
        };
        let request = *request;
        state.pending.push(Pending { request, value });
        Ok(())
    }

    fn submit(&mut self) {}

    fn poll(&mut self, completions: &mut [IoCompletion]) -> usize {
        let mut state = self.0.lock();
        let count = state.done.len().min(completions.len());
        for (completion, token) in completions.iter_mut().zip(state.done.drain(..count)) {
            *completion = IoCompletion { token, errno: 0 };
        }
        count
    }

    fn in_flight(&self) -> usize {
        let state = self.0.lock();
        state.pending.len() + state.done.len()
    }

    fn completion_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self, _armed: bool) {}
}
