//! RDMA links of the kernel, by RDMA netlink.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use super::message::{self, Answer, Command};
use super::{RdmaLinks, SoftDevice};

/// Bytes of the largest answer: a dump's datagrams are at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Only one request is made on each socket.
const SEQUENCE: u32 = 1;

/// Bit of `CapEff` in `/proc/self/status`.
const CAP_NET_ADMIN: u32 = 12;

/// The kernel's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelLinks;

impl RdmaLinks for KernelLinks {
    fn is_soft(&self, device: &str) -> Result<bool, String> {
        let index = index_of(device)?;
        let uverbs = message::text("uverbs");
        let asked = [
            (message::ATTR_DEV_INDEX, &index.to_ne_bytes()[..]),
            (message::ATTR_CHARDEV_TYPE, &uverbs[..]),
        ];
        let drivers = ask(Command::CharacterDevice, &asked, |body| {
            message::attribute(body, message::ATTR_UVERBS_DRIVER_ID).and_then(message::number)
        });
        let drivers = drivers.map_err(|error| format!("the driver of {device} cannot be read: {error}"))?;
        Ok(drivers.first() == Some(&u64::from(message::DRIVER_RXE)))
    }

    fn may_change(&self) -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut lines = status.lines().filter_map(|line| line.strip_prefix("CapEff:"));
        let effective = lines.next().and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        effective.is_some_and(|bits| bits & (1 << CAP_NET_ADMIN) != 0)
    }

    fn contexts(&self, device: &str) -> Result<u64, String> {
        let index = index_of(device)?;
        let asked = [(message::ATTR_DEV_INDEX, &index.to_ne_bytes()[..])];
        let counts = ask(Command::Resources, &asked, |body| message::resource_count(body, "ctx"));
        let counts = counts.map_err(|error| format!("what is open on {device} cannot be read: {error}"))?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    fn delete(&self, device: &str) -> Result<(), String> {
        let index = index_of(device)?;
        let asked = [(message::ATTR_DEV_INDEX, &index.to_ne_bytes()[..])];
        ask(Command::DeleteLink, &asked, |_| Some(()))
            .map(drop)
            .map_err(|error| format!("{device} cannot be deleted: {error}"))
    }

    fn add(&self, device: &SoftDevice) -> Result<(), String> {
        let SoftDevice { device, netdev } = device;
        let (name, kind, on) = (message::text(device), message::text("rxe"), message::text(netdev));
        let asked = [
            (message::ATTR_DEV_NAME, &name[..]),
            (message::ATTR_LINK_TYPE, &kind[..]),
            (message::ATTR_NDEV_NAME, &on[..]),
        ];
        ask(Command::NewLink, &asked, |_| Some(()))
            .map(drop)
            .map_err(|error| format!("{device} cannot be added to {netdev}: {error}"))
    }
}

fn index_of(device: &str) -> Result<u32, String> {
    let found = ask(Command::ListDevices, &[], |body| {
        let name = message::attribute(body, message::ATTR_DEV_NAME).map(message::string)?;
        let index = message::attribute(body, message::ATTR_DEV_INDEX).and_then(message::number)?;
        (name == device.as_bytes()).then_some(index)
    });
    let found = found.map_err(|error| format!("RDMA devices cannot be listed: {error}"))?;
    let index = found.first().and_then(|index| u32::try_from(*index).ok());
    index.ok_or_else(|| format!("there is no RDMA device named {device}"))
}

/// Asks the kernel and takes what `pick` finds in its answers. The kernel answers while it is asked.
fn ask<T>(command: Command, attributes: &[(u16, &[u8])], pick: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::RDMA),
    )?;
    send(
        &socket,
        &message::request(command, SEQUENCE, attributes),
        SendFlags::empty(),
    )?;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut picked = Vec::new();
    loop {
        let length = match recv(&socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((length, _)) => length.min(DATAGRAM_BYTES),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for answer in message::answers(&buffer[..length], SEQUENCE) {
            match answer {
                Answer::Data(body) => picked.extend(pick(body)),
                Answer::End { errno: 0 } => return Ok(picked),
                Answer::End { errno } => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_said_to_be_missing() {
        let error = KernelLinks.is_soft("no-such-device").unwrap_err();
        assert!(
            error.contains("no-such-device") || error.contains("cannot be listed"),
            "{error}"
        );
    }

    /// Run it where the device may be ruined: `WEIR_TEST_RDMA_DEVICE` is deleted and added to `WEIR_TEST_RDMA_NETDEV`.
    #[test]
    #[ignore = "needs a soft RDMA device to delete, and the right to"]
    fn a_soft_device_is_deleted_and_added() {
        let name = |key: &str| std::env::var(key).unwrap_or_else(|_| panic!("{key} is set"));
        let device = SoftDevice {
            device: name("WEIR_TEST_RDMA_DEVICE"),
            netdev: name("WEIR_TEST_RDMA_NETDEV"),
        };
        assert_eq!(KernelLinks.is_soft(&device.device), Ok(true));
        assert!(KernelLinks.may_change());
        assert_eq!(KernelLinks.contexts(&device.device), Ok(0));
        KernelLinks.delete(&device.device).unwrap();
        assert!(
            KernelLinks
                .is_soft(&device.device)
                .unwrap_err()
                .contains("no RDMA device")
        );
        KernelLinks.add(&device).unwrap();
        assert_eq!(KernelLinks.is_soft(&device.device), Ok(true));
        assert!(KernelLinks.add(&device).is_err(), "it is there already");
    }
}
