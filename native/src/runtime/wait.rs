//! Sleeping until a descriptor is readable or time is up.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longest sleep: nothing depends on it, but a lost wake-up would heal.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Sleeps until one of the descriptors is readable, or `timeout` is over (`None`: as long as it takes).
///
/// Descriptors must stay open meanwhile; an error of the system call wakes at once.
pub(super) fn wait(descriptors: &[RawFd], timeout: Option<Duration>) {
    let timeout = timeout.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(1),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let mut polled: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|fd| {
            // SAFETY: the callers' own objects (queues, channels, sockets) keep these descriptors open, and only the
            // calling thread, asleep in here, could close them.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            PollFd::from_borrowed_fd(fd, PollFlags::IN)
        })
        .collect();
    // Interrupted or refused: the caller looks at everything anyway.
    let _ = poll(&mut polled, Some(&timeout));
}
