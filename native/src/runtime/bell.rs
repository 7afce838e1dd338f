//! Waking a thread that may be asleep, without a system call while it is not.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

use crate::engine::mailbox::Wake;

/// One sleeper, any number of wakers.
#[derive(Debug)]
pub(super) struct Bell {
    descriptor: OwnedFd,
    asleep: AtomicBool,
}

impl Bell {
    /// A bell nobody has rung.
    ///
    /// # Errors
    /// The system's, when there are no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            descriptor,
            asleep: AtomicBool::new(false),
        })
    }

    /// Readable after a ring.
    pub(super) fn fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// The sleeper is about to sleep: rings count from now on. It must look for messages once more before it sleeps.
    pub(super) fn about_to_sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        // Either the waker sees that we sleep, or we see its message.
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake: rings are of no use until it sleeps again.
    pub(super) fn awake(&self) {
        if !self.asleep.swap(false, Ordering::SeqCst) {
            // It was rung: take the ring, so that the next sleep is one.
            let mut count = [0; 8];
            let _ = rustix::io::read(&self.descriptor, &mut count);
        }
    }
}

impl Wake for Bell {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst) {
            // It can only fail when the counter is full, and then the sleeper is woken anyway.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::runtime::wait::wait;

    #[test]
    fn a_sleeper_is_woken_and_a_ring_before_sleeping_costs_nothing() {
        let bell = Arc::new(Bell::new().unwrap());
        bell.wake();
        bell.about_to_sleep();
        wait(&[bell.fd()], Some(Duration::from_millis(1)));
        bell.awake();
        bell.about_to_sleep();
        let waker = Arc::clone(&bell);
        let thread = std::thread::spawn(move || waker.wake());
        let start = Instant::now();
        wait(&[bell.fd()], Some(Duration::from_secs(20)));
        bell.awake();
        assert!(start.elapsed() < Duration::from_secs(10));
        thread.join().unwrap();
        bell.about_to_sleep();
        let start = Instant::now();
        wait(&[bell.fd()], Some(Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(4), "the ring was taken");
    }
}
