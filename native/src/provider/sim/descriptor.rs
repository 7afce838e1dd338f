//! Descriptors that become readable, for tests that run the engine's threads and their sleeping paths.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Readable while set.
#[derive(Debug)]
pub(super) struct Signal(OwnedFd);

impl Signal {
    pub(super) fn new() -> Self {
        // SAFETY: takes no memory of ours; the result is checked, and owned from here on.
        let fd = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            assert!(fd >= 0, "eventfd: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        Self(fd)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn set(&self) {
        let one = 1_u64;
        // SAFETY: eight bytes of a live value. A full counter (EAGAIN) is readable, which is all that is wanted.
        let _ = unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    pub(super) fn clear(&self) {
        let mut count = 0_u64;
        // SAFETY: room for eight bytes. An unset descriptor (EAGAIN) is what is wanted.
        let _ = unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }
}
