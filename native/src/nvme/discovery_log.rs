//! Discovery log page, 70h (NVMe base 2.0 section 5.16.1.23): a header of 1024 bytes, then entries of 1024 bytes.

use std::net::SocketAddr;

use super::bytes::{put_terminated, put_u16, put_u64};
use super::fabrics::CONTROLLER_ID_DYNAMIC;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 1024;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 1024;
/// Bytes of the header that carry something.
pub const HEADER_USED_BYTES: usize = 18;

/// The header: generation counter and number of entries.
#[must_use]
pub fn header(generation: u64, entries: u64) -> [u8; HEADER_USED_BYTES] {
    let mut bytes = [0; HEADER_USED_BYTES];
    put_u64(&mut bytes, 0, generation);
    put_u64(&mut bytes, 8, entries);
    bytes
}

/// What an entry names (SUBTYPE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A subsystem with namespaces.
    Subsystem = 2,
    /// The discovery subsystem that is asked: hosts may keep a connection to it.
    Current = 3,
}

/// A subsystem at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Kind.
    pub kind: EntryKind,
    /// Port id: one for each listener.
    pub port_id: u16,
    /// Address and port.
    pub address: SocketAddr,
    /// NQN to connect to.
    pub subsystem_nqn: &'a str,
}

impl Entry<'_> {
    /// The entry as sent: RDMA, reliable connected, RoCEv2, RDMA connection manager.
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_BYTES] {
        const TRANSPORT_RDMA: u8 = 1;
        const ADDRESS_IPV4: u8 = 1;
        const ADDRESS_IPV6: u8 = 2;
        const SECURE_CHANNEL_NOT_REQUIRED: u8 = 2;
        const ADMIN_QUEUE_ENTRIES: u16 = 32;
        /// EPCSD: the connection to this discovery subsystem may be kept.
        const PERSISTENT_CONNECTION: u16 = 1 << 1;
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0] = TRANSPORT_RDMA;
        bytes[1] = if self.address.is_ipv4() {
            ADDRESS_IPV4
        } else {
            ADDRESS_IPV6
        };
        bytes[2] = self.kind as u8;
        bytes[3] = SECURE_CHANNEL_NOT_REQUIRED;
        put_u16(&mut bytes, 4, self.port_id);
        put_u16(&mut bytes, 6, CONTROLLER_ID_DYNAMIC);
        put_u16(&mut bytes, 8, ADMIN_QUEUE_ENTRIES);
        if self.kind == EntryKind::Current {
            put_u16(&mut bytes, 10, PERSISTENT_CONNECTION);
        }
        put_terminated(&mut bytes, 32, 32, &self.address.port().to_string());
        put_terminated(&mut bytes, 256, 256, self.subsystem_nqn);
        put_terminated(&mut bytes, 512, 256, &self.address.ip().to_string());
        // TSAS: QPTYPE reliable connected, PRTYPE RoCEv2, CMS RDMA connection manager.
        bytes[768..771].copy_from_slice(&[1, 4, 1]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_transport_address_and_subsystem() {
        let entry = Entry {
            kind: EntryKind::Subsystem,
            port_id: 1,
            address: "10.9.0.1:4420".parse().unwrap(),
            subsystem_nqn: "nqn.2026-11.dev.weir:fast",
        };
        let bytes = entry.encode();
        assert_eq!(bytes[..10], [1, 1, 2, 2, 1, 0, 0xff, 0xff, 32, 0]);
        assert_eq!(&bytes[32..37], b"4420\0");
        assert_eq!(&bytes[256..281], b"nqn.2026-11.dev.weir:fast");
        assert_eq!(&bytes[512..521], b"10.9.0.1\0");
        assert_eq!(bytes[768..771], [1, 4, 1]);
        let current = Entry {
            kind: EntryKind::Current,
            address: "[fd00::1]:4420".parse().unwrap(),
            ..entry
        };
        let bytes = current.encode();
        assert_eq!(bytes[1..3], [2, 3]);
        assert_eq!(bytes[10], 2);
        assert_eq!(&bytes[512..520], b"fd00::1\0");
    }
}
