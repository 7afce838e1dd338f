//! Disk I/O through a few threads and ordinary system calls: for systems where `io_uring` is not permitted, such as a
//! container under containerd's default seccomp profile. Slower than a ring; same behaviour, from the same state machine.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::IoRequest;
use super::disk::Disk;
use super::memory::Pages;
use super::notifier::Notifier;
use super::transfer::{BOUNCE_BYTES, Step, Transfer};

/// Threads of one queue: enough to keep a disk busy, few enough for every poller to have its own.
const THREADS_MAX: u32 = 8;

/// Stack of a thread; its deepest call is a system call.
const STACK_BYTES: usize = 128 * 1024;

/// How long a dropped queue waits for its threads.
const DROP_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Job {
    request: IoRequest,
    entry: u32,
    /// Keeps the descriptor open however the queue ends.
    disk: Arc<Disk>,
}

#[derive(Debug, Clone, Copy)]
struct Finished {
    token: u64,
    entry: u32,
    errno: i32,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    finished: VecDeque<Finished>,
    threads: u32,
    stop: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Jobs were added, or the queue stops.
    work: Condvar,
    /// A thread left.
    left: Condvar,
    /// Length of `finished`, so that an idle poll takes no lock.
    finished: AtomicUsize,
    armed: AtomicBool,
    notifier: Arc<Notifier>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bounded queue served by threads.
#[derive(Debug)]
pub(super) struct Threads {
    shared: Arc<Shared>,
    /// Pushed and not yet handed to the threads.
    pushed: VecDeque<Job>,
    depth: usize,
    in_flight: usize,
}

impl Threads {
    /// Starts the threads of a queue with room for `depth` I/Os.
    pub(super) fn new(depth: u32, notifier: Arc<Notifier>) -> io::Result<Self> {
        let room = depth as usize;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                jobs: VecDeque::with_capacity(room),
                finished: VecDeque::with_capacity(room),
                threads: 0,
                stop: false,
            }),
            work: Condvar::new(),
            left: Condvar::new(),
            finished: AtomicUsize::new(0),
            armed: AtomicBool::new(false),
            notifier,
        });
        let this = Self {
            shared,
            pushed: VecDeque::with_capacity(room),
            depth: room,
            in_flight: 0,
        };
        for _ in 0..depth.clamp(1, THREADS_MAX) {
            let bounce = Pages::allocate(BOUNCE_BYTES)?;
            let shared = Arc::clone(&this.shared);
            std::thread::Builder::new()
                .name("weir-backend".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || serve(&shared, &bounce))?;
            this.shared.lock().threads += 1;
        }
        Ok(this)
    }

    /// Queues an I/O; `false` when there is no room.
    pub(super) fn push(&mut self, request: &IoRequest, entry: u32, disk: &Arc<Disk>) -> bool {
        if self.in_flight == self.depth {
            return false;
        }
        self.in_flight += 1;
        self.pushed.push_back(Job {
            request: *request,
            entry,
            disk: Arc::clone(disk),
        });
        true
    }

    /// Hands everything queued to the threads.
    pub(super) fn submit(&mut self) {
        if self.pushed.is_empty() {
            return;
        }
        let one = self.pushed.len() == 1;
        self.shared.lock().jobs.extend(self.pushed.drain(..));
        if one {
            self.shared.work.notify_one();
        } else {
            self.shared.work.notify_all();
        }
    }

    /// Takes at most `limit` finished I/Os as `(token, entry, errno)`.
    pub(super) fn poll(&mut self, limit: usize, mut finished: impl FnMut(u64, u32, i32)) {
        self.submit();
        if limit == 0 || self.shared.finished.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut state = self.shared.lock();
        let count = state.finished.len().min(limit);
        for done in state.finished.drain(..count) {
            finished(done.token, done.entry, done.errno);
        }
        self.shared.finished.store(state.finished.len(), Ordering::Release);
        self.in_flight -= count;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Switches announcing on or off.
    pub(super) fn arm(&mut self, armed: bool) {
        // Sequentially consistent on both sides: either the thread sees `armed`, or the poll after arming sees the I/O.
        self.shared.armed.store(armed, Ordering::SeqCst);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Begun I/O writes into memory that callers lent: wait for it. A thread that hangs in the kernel is left to itself;
        // what it uses of ours it holds a share of.
        let deadline = Instant::now() + DROP_WAIT;
        let mut state = self.shared.lock();
        state.stop = true;
        state.jobs.clear();
        self.shared.work.notify_all();
        while state.threads > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return;
            };
            state = self
                .shared
                .left
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn serve(shared: &Shared, bounce: &Pages) {
    let mut state = shared.lock();
    loop {
        if state.stop {
            break;
        }
        let Some(job) = state.jobs.pop_front() else {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let errno = carry_out(&job, bounce.address(0));
        let done = Finished {
            token: job.request.token,
            entry: job.entry,
            errno,
        };
        drop(job);
        state = shared.lock();
        state.finished.push_back(done);
        shared.finished.store(state.finished.len(), Ordering::SeqCst);
        if shared.armed.load(Ordering::SeqCst) {
            shared.notifier.notify();
        }
    }
    state.threads -= 1;
    drop(state);
    shared.left.notify_all();
}

fn carry_out(job: &Job, bounce: u64) -> i32 {
    let mut transfer = Transfer::new(&job.request, job.disk.memory_alignment(), bounce);
    while let Some(step) = transfer.step() {
        if let Some(errno) = transfer.advance(call(job.disk.raw_fd(), step)) {
            return errno;
        }
    }
    0
}

/// Carries out one step: bytes, or a negative `errno`.
fn call(fd: RawFd, step: Step) -> i32 {
    let result = match step {
        Step::Read {
            address,
            length,
            offset,
        } => {
            let target = libc::iovec {
                iov_base: address as *mut libc::c_void,
                iov_len: length as usize,
            };
            // SAFETY: `length` bytes at `address` are lent until completion, or the thread's own bounce buffer.
            unsafe { libc::preadv(fd, &raw const target, 1, offset as libc::off_t) }
        }
        Step::Write {
            address,
            length,
            offset,
            durable,
        } => {
            let source = libc::iovec {
                iov_base: address as *mut libc::c_void,
                iov_len: length as usize,
            };
            let flags = if durable { libc::RWF_DSYNC } else { 0 };
            // SAFETY: as above, or static zeroes; the memory is only read.
            unsafe { libc::pwritev2(fd, &raw const source, 1, offset as libc::off_t, flags) }
        }
        // SAFETY: an open descriptor, no memory.
        Step::Sync => unsafe { libc::fsync(fd) as libc::ssize_t },
        Step::Fallocate { mode, offset, length } => {
            // SAFETY: an open descriptor, no memory.
            unsafe { libc::fallocate(fd, mode, offset as libc::off_t, length as libc::off_t) as libc::ssize_t }
        }
    };
    if result < 0 {
        -io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
    } else {
        i32::try_from(result).unwrap_or(i32::MAX)
    }
}
