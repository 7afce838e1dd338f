//! The descriptor that wakes a sleeping poller.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking `eventfd`.
#[derive(Debug)]
pub(super) struct Notifier {
    fd: OwnedFd,
}

impl Notifier {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: `eventfd` has no preconditions.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Makes the descriptor readable.
    pub(super) fn notify(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: 8 readable bytes. It can only fail when the counter is full, and then it is readable anyway.
        unsafe { libc::write(self.raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable.
    pub(super) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: 8 writable bytes. `EAGAIN` means there was nothing to clear.
        unsafe { libc::read(self.raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}
