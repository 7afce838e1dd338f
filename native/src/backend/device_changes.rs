//! The kernel's announcements (uevents) that a block device has changed, for example grown.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with};

/// Multicast group of what the kernel itself says; 2 is what udev makes of it, which a container does not need.
const KERNEL_GROUP: u32 = 1;

/// The kernel's own limit: 2 KiB of variables after a path.
const DATAGRAM_BYTES: usize = 8 * 1024;

/// A netlink socket for uevents. It needs no privilege.
#[derive(Debug)]
pub(super) struct DeviceChanges {
    socket: OwnedFd,
}

impl DeviceChanges {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(netlink::KOBJECT_UEVENT);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether a block device may have changed since the last call.
    pub(super) fn take(&self) -> bool {
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut changed = false;
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) if length > 0 => changed |= is_block_change(&buffer[..length.min(DATAGRAM_BYTES)]),
                Err(Errno::INTR) => {}
                // Announcements were lost: any of them may have been one.
                Err(Errno::NOBUFS) => changed = true,
                Ok(_) | Err(_) => return changed,
            }
        }
    }
}

/// Whether a uevent (a line `ACTION@PATH`, then `KEY=VALUE`, each ended by a zero byte) says that a block device is not
/// what it was. `RESIZE=1` is not waited for: not every driver says so much.
fn is_block_change(datagram: &[u8]) -> bool {
    let has = |wanted: &[u8]| datagram.split(|byte| *byte == 0).any(|variable| variable == wanted);
    has(b"ACTION=change") && has(b"SUBSYSTEM=block")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROWN: &[u8] = b"change@/devices/virtual/block/loop0\0ACTION=change\0DEVPATH=/devices/virtual/block/loop0\0\
        SUBSYSTEM=block\0RESIZE=1\0MAJOR=7\0MINOR=0\0DEVNAME=loop0\0DEVTYPE=disk\0DISKSEQ=3\0SEQNUM=4711\0";

    #[test]
    fn a_block_device_that_changed_is_told_from_other_events() {
        assert!(is_block_change(GROWN));
        let text = String::from_utf8_lossy(GROWN);
        assert!(!is_block_change(text.replace("ACTION=change", "ACTION=add").as_bytes()));
        assert!(!is_block_change(
            text.replace("SUBSYSTEM=block", "SUBSYSTEM=net").as_bytes()
        ));
        assert!(!is_block_change(b""));
    }
}
