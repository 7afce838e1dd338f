//! Namespaces' storage: `uring` (block device, file), `memory`, `null` (benchmarks).
//!
//! Opening is done by the control thread and may block; I/O is done by each poller's own [`Queue`] and never blocks.
//!
//! [`host::HostBackend`] is the one that serves; the seam exists so that the simulator can put a hostile one in its place.

use std::os::fd::RawFd;
use std::sync::Arc;

mod device_changes;
mod disk;
pub mod host;
mod memory;
mod notifier;
mod null;
mod threads;
mod transfer;
mod uring;

/// Which backing an I/O goes to; chosen by the control thread, unique for the process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackingId(pub u32);

/// Where a namespace's data is kept, as the desired state says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackingSpec {
    /// A block device by its path.
    BlockDevice {
        /// Path, for example `/dev/disk/by-id/…`.
        path: String,
        /// Open for reading only.
        read_only: bool,
        /// Capacity that it should have by now, if anybody says so: only a reason to look, never what is served.
        expected_size_bytes: Option<u64>,
    },
    /// A file: created sparse if absent, grown if shorter, never shrunk or truncated.
    File {
        /// Path.
        path: String,
        /// Size in bytes.
        size_bytes: u64,
        /// Open for reading only.
        read_only: bool,
    },
    /// Volatile memory.
    Memory {
        /// Size in bytes.
        size_bytes: u64,
    },
    /// Discards writes, reads zeroes: for benchmarks.
    Null {
        /// Size in bytes.
        size_bytes: u64,
    },
}

/// Why a backing could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct OpenError {
    /// CamelCase, for conditions: `BackendNotFound`, `NotABlockDevice`, `PermissionDenied`, `NoSpace`, `InvalidSize`…
    pub reason: &'static str,
    /// What is wrong and what to change; names the path.
    pub message: String,
}

/// Facts of an open backing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingFacts {
    /// Capacity in bytes, a multiple of the block size.
    pub size_bytes: u64,
    /// Logical block size as a power of two (9 or 12).
    pub block_shift: u8,
    /// Data does not survive the process.
    pub volatile: bool,
    /// Refuses writes.
    pub read_only: bool,
    /// Has a write cache: Flush does real work.
    pub write_cache: bool,
}

/// What a backend I/O does. Memory is named by address because the device and the kernel write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoOperation {
    /// Reads into `memory`.
    Read,
    /// Writes from `memory`; with `durable`, it is on stable storage when it completes (FUA).
    Write {
        /// Forced unit access.
        durable: bool,
    },
    /// Everything completed before is on stable storage when this completes.
    Flush,
    /// Zeroes `length` bytes.
    WriteZeroes {
        /// Space may be given back.
        deallocate: bool,
    },
    /// Gives `length` bytes back; they read as zeroes or old data after.
    Deallocate,
}

/// One backend I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoRequest {
    /// Caller's token (a packed generational handle), given back in the completion.
    pub token: u64,
    /// Which backing.
    pub backing: BackingId,
    /// What to do.
    pub operation: IoOperation,
    /// First byte on the backing.
    pub offset: u64,
    /// Bytes on the backing.
    pub length: u64,
    /// Address of `length` bytes for Read and Write; 0 otherwise. The caller keeps them untouched until completion.
    pub memory: u64,
}

/// Outcome of a backend I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoCompletion {
    /// Token of the request.
    pub token: u64,
    /// 0, or a positive `errno`. A short transfer is an error (`EIO`).
    pub errno: i32,
}

impl IoCompletion {
    /// A value to fill arrays with before `poll`.
    pub const EMPTY: Self = Self { token: 0, errno: 0 };
}

/// The queue is full: try again after completions. Back-pressure, not an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("backend queue is full")]
pub struct QueueFull;

/// One poller's I/O queue. Owned by one thread.
pub trait Queue: std::fmt::Debug + Send + 'static {
    /// What `open` made.
    type Backing: std::fmt::Debug + Send + Sync + 'static;
    /// Makes a backing known to this queue.
    fn attach(&mut self, id: BackingId, backing: Arc<Self::Backing>);
    /// Forgets a backing. Only when none of its I/O is in flight.
    fn detach(&mut self, id: BackingId);
    /// Queues an I/O; nothing reaches the kernel before [`Queue::submit`].
    ///
    /// # Errors
    /// [`QueueFull`] when no room is left.
    fn push(&mut self, request: &IoRequest) -> Result<(), QueueFull>;
    /// Hands queued I/O to the kernel, in one call for all.
    fn submit(&mut self);
    /// Takes finished I/O into `completions`; the number filled in.
    fn poll(&mut self, completions: &mut [IoCompletion]) -> usize;
    /// I/O pushed and not yet taken by `poll`.
    fn in_flight(&self) -> usize;
    /// Descriptor that becomes readable on completions while `arm` is set; `None` if it needs none.
    fn completion_fd(&self) -> Option<RawFd>;
    /// Switches notification on the descriptor on or off (off while polling: no system call for nobody). After
    /// switching it on, `poll` once more before sleeping: what finished before is not announced.
    fn arm(&mut self, armed: bool);
}

/// Opens backings and makes queues.
pub trait Backend: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// An open backing, shared by all pollers.
    type Backing: std::fmt::Debug + Send + Sync + 'static;
    /// A poller's queue.
    type Queue: Queue<Backing = Self::Backing>;
    /// Opens (and where allowed creates) a backing. May block; control thread only.
    ///
    /// # Errors
    /// [`OpenError`] with a reason and the way out.
    fn open(&self, spec: &BackingSpec) -> Result<Arc<Self::Backing>, OpenError>;
    /// Facts of an open backing, read anew (a grown device shows its new size).
    fn facts(&self, backing: &Self::Backing) -> BackingFacts;
    /// Descriptor that becomes readable when the size of a device may have changed; `None` where nothing tells.
    fn changes_fd(&self) -> Option<RawFd> {
        None
    }
    /// Takes what [`Backend::changes_fd`] announced: whether facts of open backings may be others now. Never blocks;
    /// control thread only.
    fn take_changes(&self) -> bool {
        false
    }
    /// Grows an open backing in place to what `spec` now says, under I/O; everything else of `spec` must be as opened.
    /// A smaller size is refused: nothing ever shrinks. Control thread only.
    ///
    /// # Errors
    /// [`OpenError`] with a reason and the way out; the backing goes on as it was.
    fn grow(&self, backing: &Self::Backing, spec: &BackingSpec) -> Result<BackingFacts, OpenError> {
        let _ = spec;
        Ok(self.facts(backing))
    }
    /// What is not as it should be although I/O works, in words for an event of level warning: for example that
    /// `io_uring` is not permitted and a thread pool is used in its place. `None` when all is well. Known from the
    /// start of the process.
    fn warning(&self) -> Option<String> {
        None
    }
    /// A new queue for one poller, with room for `depth` I/Os.
    ///
    /// # Errors
    /// The system's error, for example when `io_uring` is not permitted.
    fn queue(&self, depth: u32) -> std::io::Result<Self::Queue>;
}
