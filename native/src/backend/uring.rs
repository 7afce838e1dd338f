//! Disk I/O through `io_uring`: one ring per poller, one call to hand over a batch, none to take completions.

use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use io_uring::{EnterFlags, IoUring, Probe, opcode, squeue, types};

use super::IoRequest;
use super::disk::Disk;
use super::memory::Pages;
use super::notifier::Notifier;
use super::transfer::{BOUNCE_BYTES, Step, Transfer};

/// Most entries a ring can have (`IORING_MAX_ENTRIES`).
const ENTRIES_MAX: u32 = 32768;

/// How long a dropped ring waits for the kernel to let go of memory.
const DROP_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
struct Slot {
    token: u64,
    /// The queue's own index of the backing.
    entry: u32,
    fd: RawFd,
    transfer: Transfer,
}

/// A ring and the I/Os on it. Each I/O has at most one entry in the ring, so the ring never overflows.
pub(super) struct Uring {
    /// `None` only while dropping.
    ring: Option<IoUring>,
    slots: Box<[Option<Slot>]>,
    /// Free slots; the last one used is used next, so that few bounce buffers are ever touched.
    free: Vec<u32>,
    /// Bounce buffer of each slot; memory is taken from the system when first used.
    bounce: Option<Pages>,
    /// Entries in the submission queue that the kernel has not taken.
    unsubmitted: u32,
    armed: bool,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("depth", &self.slots.len())
            .field("in_flight", &self.in_flight())
            .field("armed", &self.armed)
            .finish_non_exhaustive()
    }
}

impl Uring {
    /// A ring with room for `depth` I/Os that announces completions on `notifier` while armed.
    pub(super) fn new(depth: u32, notifier: &Notifier) -> io::Result<Self> {
        if depth > ENTRIES_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a queue depth of {depth} is more than a ring can have ({ENTRIES_MAX})"),
            ));
        }
        let ring = build(depth)?;
        check_operations(&ring)?;
        ring.submitter().register_eventfd(notifier.raw_fd())?;
        let mut this = Self {
            ring: Some(ring),
            slots: vec![None; depth as usize].into_boxed_slice(),
            free: (0..depth).rev().collect(),
            bounce: Some(Pages::allocate(depth as usize * BOUNCE_BYTES)?),
            unsubmitted: 0,
            armed: true,
        };
        this.arm(false);
        Ok(this)
    }

    fn ring(&mut self) -> &mut IoUring {
        self.ring.as_mut().expect("only a dropped queue has no ring")
    }

    /// Queues an I/O; `false` when no slot is free. An I/O with nothing to do is refused by the caller beforehand.
    pub(super) fn push(&mut self, request: &IoRequest, entry: u32, disk: &Disk) -> bool {
        let Some(index) = self.free.pop() else {
            return false;
        };
        let bounce = self
            .bounce
            .as_ref()
            .map_or(0, |pages| pages.address(index as usize * BOUNCE_BYTES));
        let transfer = Transfer::new(request, disk.memory_alignment(), bounce);
        let step = transfer.step().expect("an I/O of length 0 never gets here");
        let slot = Slot {
            token: request.token,
            entry,
            fd: disk.raw_fd(),
            transfer,
        };
        self.slots[index as usize] = Some(slot);
        let sqe = submission(slot.fd, step, index);
        enqueue(&mut self.ring().submission(), &sqe);
        self.unsubmitted += 1;
        true
    }

    /// Hands everything queued to the kernel. What it does not take now (out of memory, interrupted) stays queued and
    /// goes with the next call.
    pub(super) fn submit(&mut self) {
        if self.unsubmitted == 0 {
            return;
        }
        let ring = self.ring();
        let _ = ring.submit();
        let left = ring.submission().len();
        self.unsubmitted = u32::try_from(left).unwrap_or(u32::MAX);
    }

    /// Takes at most `limit` finished I/Os as `(token, entry, errno)`.
    pub(super) fn poll(&mut self, limit: usize, mut finished: impl FnMut(u64, u32, i32)) {
        if self.unsubmitted > 0 {
            self.submit();
        }
        let ring = self.ring.as_mut().expect("only a dropped queue has no ring");
        let (submitter, mut submissions, mut completions) = ring.split();
        completions.sync();
        if completions.is_empty() && (submissions.taskrun() || submissions.cq_overflow()) {
            // Finished work waits for this thread to enter the kernel.
            // SAFETY: no argument memory is passed.
            let _ = unsafe { submitter.enter::<libc::sigset_t>(0, 0, EnterFlags::GETEVENTS.bits(), None) };
            completions.sync();
        }
        let mut taken = 0;
        while taken < limit {
            let Some(completion) = completions.next() else {
                break;
            };
            let index = completion.user_data() as u32;
            let place = &mut self.slots[index as usize];
            let slot = place.as_mut().expect("the kernel completes what was submitted, once");
            match slot.transfer.advance(completion.result()) {
                Some(errno) => {
                    finished(slot.token, slot.entry, errno);
                    *place = None;
                    self.free.push(index);
                    taken += 1;
                }
                None => {
                    let step = slot.transfer.step().expect("an unfinished I/O has a next step");
                    enqueue(&mut submissions, &submission(slot.fd, step, index));
                    self.unsubmitted += 1;
                }
            }
        }
        drop((submissions, completions));
        self.submit();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Switches announcing on or off; no system call.
    pub(super) fn arm(&mut self, armed: bool) {
        if self.armed == armed {
            return;
        }
        self.armed = armed;
        let completions = self.ring().completion();
        if armed {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel still writes into memory that callers lent: wait for it. What does not end in time keeps its ring and
        // bounce buffers for ever, so that at least nothing of ours is written after it was freed.
        let deadline = Instant::now() + DROP_WAIT;
        while self.in_flight() > 0 && Instant::now() < deadline {
            self.poll(usize::MAX, |_, _, _| {});
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.in_flight() > 0 {
            std::mem::forget(self.ring.take());
            std::mem::forget(self.bounce.take());
        }
    }
}

/// A ring with completions delivered when this thread enters the kernel anyway (5.19), or by interrupt (before).
fn build(depth: u32) -> io::Result<IoUring> {
    let entries = depth.max(1);
    IoUring::builder()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .build(entries)
        .or_else(|e| match e.raw_os_error() {
            Some(libc::EINVAL) => IoUring::new(entries),
            _ => Err(e),
        })
}

/// Every operation used must exist (5.6).
fn check_operations(ring: &IoUring) -> io::Result<()> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        opcode::Read::CODE,
        opcode::Write::CODE,
        opcode::Fsync::CODE,
        opcode::Fallocate::CODE,
    ];
    if needed.iter().all(|code| probe.is_supported(*code)) {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel's io_uring is too old (5.6 or later is needed)",
        ))
    }
}

fn submission(fd: RawFd, step: Step, index: u32) -> squeue::Entry {
    let fd = types::Fd(fd);
    let entry = match step {
        Step::Read {
            address,
            length,
            offset,
        } => opcode::Read::new(fd, address as *mut u8, length).offset(offset).build(),
        Step::Write {
            address,
            length,
            offset,
            durable,
        } => opcode::Write::new(fd, address as *const u8, length)
            .offset(offset)
            .rw_flags(if durable { libc::RWF_DSYNC } else { 0 })
            .build(),
        Step::Sync => opcode::Fsync::new(fd).build(),
        Step::Fallocate { mode, offset, length } => {
            opcode::Fallocate::new(fd, length).offset(offset).mode(mode).build()
        }
    };
    entry.user_data(u64::from(index))
}

fn enqueue(submissions: &mut io_uring::SubmissionQueue<'_>, entry: &squeue::Entry) {
    // SAFETY: the memory named is lent by the caller of `push` until completion, or is a bounce buffer or static zeroes;
    // the descriptor's backing stays attached until its last I/O is taken.
    unsafe { submissions.push(entry) }.expect("a ring has at least as many entries as there are slots");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of `struct io_uring_sqe` as 32-bit words: 0 holds the opcode, 7 the operation's flags.
    fn words(step: Step) -> [u32; 16] {
        let entry = submission(3, step, 5);
        // SAFETY: an entry is the 64 plain bytes of `struct io_uring_sqe`.
        unsafe { std::mem::transmute_copy(&entry) }
    }

    #[test]
    fn forced_unit_access_reaches_the_kernel() {
        let step = |durable| Step::Write {
            address: 4096,
            length: 4096,
            offset: 0,
            durable,
        };
        assert_eq!(words(step(true))[7], libc::RWF_DSYNC as u32);
        assert_eq!(words(step(false))[7], 0);
    }

    #[test]
    fn flush_is_a_full_fsync_not_only_of_data() {
        let words = words(Step::Sync);
        assert_eq!(words[0] & 0xff, u32::from(opcode::Fsync::CODE));
        assert_eq!(words[7], 0, "IORING_FSYNC_DATASYNC must not be set");
    }
}
