//! From C's errors to [`ProviderError`], with the way out where there is one.

use std::io;
use std::os::fd::RawFd;

use rdma_mummy_sys as sys;

use crate::provider::ProviderError;

/// An error with this `errno`.
pub(super) fn from_errno(operation: &'static str, errno: i32) -> ProviderError {
    let mut message = io::Error::from_raw_os_error(errno).to_string();
    if let Some(hint) = hint(operation, errno) {
        message = format!("{message}: {hint}");
    }
    ProviderError {
        operation,
        errno,
        message,
    }
}

/// An error with the thread's `errno`.
pub(super) fn last(operation: &'static str) -> ProviderError {
    from_errno(operation, io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

/// An error of our own making.
pub(super) fn own(operation: &'static str, errno: i32, message: impl Into<String>) -> ProviderError {
    ProviderError {
        operation,
        errno,
        message: message.into(),
    }
}

fn hint(operation: &'static str, errno: i32) -> Option<&'static str> {
    match (operation, errno) {
        ("ibv_reg_mr" | "ibv_create_cq" | "ibv_create_qp" | "ibv_create_srq", libc::ENOMEM) => {
            Some("out of memory, or over the locked-memory limit (memlock; CAP_IPC_LOCK lifts it)")
        }
        (_, libc::EADDRINUSE) => Some("another listener has this address and port"),
        (_, libc::EADDRNOTAVAIL) => Some("this machine does not have the address"),
        ("rdma_bind_addr", libc::ENODEV) => Some("the address is on no RDMA device"),
        ("ibv_get_device_list" | "rdma_get_devices", libc::ENOSYS | libc::ENODEV | libc::ENOENT) => {
            Some("no RDMA: load the adapter's driver, or rdma_rxe, and ib_uverbs")
        }
        ("rdma_create_event_channel", libc::ENODEV | libc::ENOENT | libc::ENOSYS) => {
            Some("no RDMA: load rdma_ucm; in a container, /dev/infiniband/rdma_cm must be there")
        }
        (_, libc::EACCES | libc::EPERM) => Some("no permission for /dev/infiniband"),
        _ => None,
    }
}

/// Whether the C libraries were found when the process started.
pub(super) fn require_libraries(operation: &'static str) -> Result<(), ProviderError> {
    // SAFETY: both take a number and return a static string; without the library, the stand-in returns null.
    let (verbs, manager) = unsafe {
        (
            !sys::ibv_wc_status_str(sys::ibv_wc_status::IBV_WC_SUCCESS).is_null(),
            !sys::rdma_event_str(sys::rdma_cm_event_type::RDMA_CM_EVENT_ESTABLISHED).is_null(),
        )
    };
    let missing = match (verbs, manager) {
        (true, true) => return Ok(()),
        (false, _) => "no RDMA: install libibverbs1 and ibverbs-providers (libibverbs.so.1 was not found)",
        (true, false) => "no RDMA: install librdmacm1 (librdmacm.so.1 was not found)",
    };
    Err(own(operation, libc::EOPNOTSUPP, missing))
}

/// Makes a descriptor non-blocking.
pub(super) fn set_non_blocking(fd: RawFd) -> Result<(), ProviderError> {
    // SAFETY: fcntl with these commands touches no memory of ours.
    let done = unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) == 0
    };
    if done { Ok(()) } else { Err(last("fcntl")) }
}
