//! Identify data structures (NVMe base 2.0 section 5.17; NVM command set 1.0 section 4.1.5). All are 4096 bytes.

use uuid::Uuid;

use super::bytes::{put_padded, put_terminated, put_u16, put_u32, put_u64, put_u128};
use super::properties::VERSION;

/// Bytes of every Identify data structure.
pub const IDENTIFY_BYTES: usize = 4096;

/// Values of CNS (dword 10, bits 7:0).
pub mod cns {
    /// Namespace, NVM command set.
    pub const NAMESPACE: u8 = 0x00;
    /// Controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active namespace ids above NSID.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// Namespace identification descriptors.
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    /// Namespace, of a command set.
    pub const COMMAND_SET_NAMESPACE: u8 = 0x05;
    /// Controller, of a command set.
    pub const COMMAND_SET_CONTROLLER: u8 = 0x06;
    /// Active namespace ids of a command set.
    pub const COMMAND_SET_ACTIVE_NAMESPACES: u8 = 0x07;
    /// Namespace, independent of its command set.
    pub const INDEPENDENT_NAMESPACE: u8 = 0x08;
    /// Combinations of command sets.
    pub const COMMAND_SETS: u8 = 0x1c;
}

/// The NVM command set's identifier (CSI).
pub const COMMAND_SET_NVM: u8 = 0;

/// CNTRLTYPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ControllerType {
    /// I/O controller.
    Io = 1,
    /// Discovery controller.
    Discovery = 2,
}

/// What Identify Controller tells; the rest is the same for every controller of this target.
#[derive(Debug, Clone, Copy)]
pub struct IdentifyController<'a> {
    /// Serial number, at most 20 ASCII characters.
    pub serial: &'a str,
    /// Model number, at most 40 ASCII characters.
    pub model_number: &'a str,
    /// Firmware revision, at most 8 ASCII characters.
    pub firmware_revision: &'a str,
    /// Subsystem's NQN.
    pub subsystem_nqn: &'a str,
    /// Controller id.
    pub controller_id: u16,
    /// Type.
    pub controller_type: ControllerType,
    /// Largest transfer as a power of two of 4 KiB pages (MDTS); not 0, which means no limit.
    pub transfer_pages_log2: u8,
    /// Optional async events supported (OAES).
    pub async_events: u32,
    /// Abort commands at once, 0's based (ACL).
    pub abort_limit: u8,
    /// Async Event Requests at once, 0's based (AERL).
    pub async_event_limit: u8,
    /// Keep-alive granularity in 100 ms (KAS).
    pub keep_alive_granularity: u16,
    /// Entries of an I/O queue (MAXCMD).
    pub queue_depth: u16,
    /// In-capsule data of I/O queues in bytes.
    pub in_capsule_data_bytes: u32,
    /// Largest namespace id (NN).
    pub namespace_id_max: u32,
    /// Most namespaces (MNAN).
    pub namespaces_max: u32,
    /// Largest ANA group id, and number of ANA groups (ANAGRPMAX, NANAGRPID).
    pub ana_groups_max: u32,
}

/// Seconds an ANA group may stay in the Change state (ANATT).
pub const ANA_TRANSITION_SECONDS: u8 = 10;
/// Pause before a host without multipath tries a command again whose path is inaccessible, in 100 ms (CRDT1). Linux tries
/// five times more: 50 s in all, more than most drains take.
pub const RETRY_DELAY_100_MS: u16 = 100;
/// Entries of the error log, 0's based (ELPE).
pub const ERROR_LOG_ENTRIES: u8 = 127;

impl IdentifyController<'_> {
    /// Writes the structure. `out` holds zeroes.
    pub fn write(&self, out: &mut [u8; IDENTIFY_BYTES]) {
        put_padded(out, 4, 20, self.serial);
        put_padded(out, 24, 40, self.model_number);
        put_padded(out, 64, 8, self.firmware_revision);
        out[77] = self.transfer_pages_log2;
        put_u16(out, 78, self.controller_id);
        put_u32(out, 80, VERSION);
        put_u32(out, 92, self.async_events);
        // CTRATT: 128-bit host identifiers; any command restarts the keep-alive timer (TBKAS).
        put_u32(out, 96, 1 | 1 << 6);
        out[111] = self.controller_type as u8;
        out[258] = self.abort_limit;
        out[259] = self.async_event_limit;
        // FRMW: one firmware slot, read only.
        out[260] = 1 | 1 << 1;
        // LPA: extended data (offset, NUMDU).
        out[261] = 1 << 2;
        out[262] = ERROR_LOG_ENTRIES;
        put_u16(out, 320, self.keep_alive_granularity);
        out[512] = 0x66;
        out[513] = 0x44;
        put_u16(out, 514, self.queue_depth);
        // SGLS: SGLs without alignment, keyed data blocks; offsets into the capsule where in-capsule data is offered.
        let in_capsule = u32::from(self.in_capsule_data_bytes > 0);
        put_u32(out, 536, 1 | 1 << 2 | in_capsule << 20);
        put_terminated(out, 768, 256, self.subsystem_nqn);
        // IOCCSZ and IORCSZ in units of 16 bytes; ICDOFF 0.
        put_u32(out, 1792, (64 + self.in_capsule_data_bytes) / 16);
        put_u32(out, 1796, 1);
        // MSDBD: one descriptor, in the command.
        out[1803] = 1;
        match self.controller_type {
            ControllerType::Io => self.write_io(out),
            // DCTYPE: direct discovery controller.
            ControllerType::Discovery => out[1806] = 1,
        }
    }

    fn write_io(&self, out: &mut [u8; IDENTIFY_BYTES]) {
        // CMIC: several ports, several controllers, ANA reporting.
        out[76] = 1 | 1 << 1 | 1 << 3;
        // LPA: SMART per namespace, commands supported and effects log.
        out[261] |= 1 | 1 << 1;
        put_u16(out, 128, RETRY_DELAY_100_MS);
        out[342] = ANA_TRANSITION_SECONDS;
        // ANACAP: optimized, non-optimized, inaccessible, persistent loss, change.
        out[343] = 0x1f;
        put_u32(out, 344, self.ana_groups_max);
        put_u32(out, 348, self.ana_groups_max);
        put_u32(out, 516, self.namespace_id_max);
        // ONCS: Compare, Dataset Management, Write Zeroes, Timestamp.
        put_u16(out, 520, 1 | 1 << 2 | 1 << 3 | 1 << 6);
        // VWC: a cache may be present; Flush of all namespaces at once (FFFFFFFFh) is not supported.
        out[525] = 1 | 0b10 << 1;
        put_u32(out, 540, self.namespaces_max);
        // OFCS: Disconnect.
        put_u16(out, 1804, 1);
    }
}

/// What Identify tells of a namespace.
#[derive(Debug, Clone, Copy)]
pub struct IdentifyNamespace {
    /// Capacity in logical blocks.
    pub size_blocks: u64,
    /// Logical block size as a power of two.
    pub block_shift: u8,
    /// ANA group.
    pub ana_group: u32,
    /// Writes are refused.
    pub read_only: bool,
}

/// NMIC: attached to several controllers.
const SHARED: u8 = 1;

impl IdentifyNamespace {
    /// Writes the NVM command set's structure (CNS 00h). `out` holds zeroes.
    pub fn write(&self, out: &mut [u8; IDENTIFY_BYTES]) {
        put_u64(out, 0, self.size_blocks);
        put_u64(out, 8, self.size_blocks);
        put_u64(out, 16, self.size_blocks);
        out[30] = SHARED;
        // DLFEAT: the Deallocate bit of Write Zeroes; what deallocated blocks read as is not reported.
        out[33] = 1 << 3;
        put_u128(out, 48, u128::from(self.size_blocks) << self.block_shift);
        put_u32(out, 92, self.ana_group);
        out[99] = u8::from(self.read_only);
        // LBAF 0: no metadata, LBADS.
        put_u32(out, 128, u32::from(self.block_shift) << 16);
    }

    /// Writes the structure that is independent of command sets (CNS 08h). `out` holds zeroes.
    pub fn write_independent(&self, out: &mut [u8; IDENTIFY_BYTES]) {
        out[1] = SHARED;
        put_u32(out, 4, self.ana_group);
        out[8] = u8::from(self.read_only);
        // NSTAT: ready.
        out[14] = 1;
    }
}

/// Writes the namespace identification descriptors (CNS 03h): UUID (type 3) and command set (type 4). `out` holds
/// zeroes; a descriptor of length 0 ends the list.
pub fn write_descriptors(out: &mut [u8; IDENTIFY_BYTES], uuid: Uuid) {
    out[0] = 3;
    out[1] = 16;
    out[4..20].copy_from_slice(uuid.as_bytes());
    out[20] = 4;
    out[21] = 1;
    out[24] = COMMAND_SET_NVM;
}

/// Writes a list of namespace ids: ascending, at most 1024. `out` holds zeroes.
pub fn write_namespace_list(out: &mut [u8; IDENTIFY_BYTES], ids: impl Iterator<Item = u32>) {
    for (index, id) in ids.take(IDENTIFY_BYTES / 4).enumerate() {
        put_u32(out, index * 4, id);
    }
}

/// Writes the combinations of command sets (CNS 1Ch): one, with the NVM command set. `out` holds zeroes.
pub fn write_command_sets(out: &mut [u8; IDENTIFY_BYTES]) {
    put_u64(out, 0, 1 << COMMAND_SET_NVM);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::bytes::{u16_at, u32_at, u64_at};

    fn controller(controller_type: ControllerType) -> Box<[u8; IDENTIFY_BYTES]> {
        let mut out = Box::new([0; IDENTIFY_BYTES]);
        IdentifyController {
            serial: "S",
            model_number: "Weir",
            firmware_revision: "0.1.0",
            subsystem_nqn: "nqn.2026-11.dev.weir:fast",
            controller_id: 7,
            controller_type,
            transfer_pages_log2: 5,
            async_events: 0x900,
            abort_limit: 3,
            async_event_limit: 3,
            keep_alive_granularity: 10,
            queue_depth: 128,
            in_capsule_data_bytes: 4096,
            namespace_id_max: 65535,
            namespaces_max: 1024,
            ana_groups_max: 128,
        }
        .write(&mut out);
        out
    }

    #[test]
    fn a_linux_host_accepts_the_controller() {
        let out = controller(ControllerType::Io);
        assert_eq!(u16_at(&*out, 78), 7);
        assert_ne!(u16_at(&*out, 320), 0, "KAS");
        assert_eq!(u16_at(&*out, 1800), 0, "ICDOFF");
        assert_eq!(u32_at(&*out, 536), 0x0010_0005, "SGLS");
        assert!(u32_at(&*out, 1792) >= 4 && u32_at(&*out, 1796) >= 1, "IOCCSZ, IORCSZ");
        let (namespaces_max, id_max) = (u32_at(&*out, 540), u32_at(&*out, 516));
        assert!(namespaces_max > 0 && namespaces_max <= id_max, "MNAN, NN");
        assert_eq!((out[76], out[261]), (0b1011, 0b111), "CMIC, LPA");
        assert_ne!(
            u16_at(&*out, 128),
            0,
            "CRDT1, without which Linux does not ask for delays"
        );
        assert_eq!(&out[4..24], b"S                   ");
        assert_eq!(out[111], 1);
    }

    #[test]
    fn a_discovery_controller_has_no_namespaces_and_says_its_type() {
        let out = controller(ControllerType::Discovery);
        assert_eq!((out[111], out[1806]), (2, 1));
        assert_eq!(u32_at(&*out, 516), 0);
        assert_eq!((out[76], out[261]), (0, 0b100), "no effects log to ask for");
    }

    #[test]
    fn a_namespace_says_size_format_group_and_protection() {
        let namespace = IdentifyNamespace {
            size_blocks: 1 << 18,
            block_shift: 12,
            ana_group: 3,
            read_only: true,
        };
        let mut out = [0; IDENTIFY_BYTES];
        namespace.write(&mut out);
        assert_eq!(u64_at(&out, 0), 1 << 18);
        assert_eq!(u64_at(&out, 48), 1 << 30);
        assert_eq!(u32_at(&out, 92), 3);
        assert_eq!((out[99], out[130]), (1, 12));
        let mut out = [0; IDENTIFY_BYTES];
        namespace.write_independent(&mut out);
        assert_eq!((u32_at(&out, 4), out[8], out[14]), (3, 1, 1));
    }

    #[test]
    fn descriptors_hold_uuid_and_command_set_as_multiple_command_sets_demand() {
        let mut out = [0; IDENTIFY_BYTES];
        write_descriptors(&mut out, Uuid::from_u128(0x0102));
        assert_eq!(out[..4], [3, 16, 0, 0]);
        assert_eq!(out[18..20], [1, 2]);
        assert_eq!(out[20..26], [4, 1, 0, 0, 0, 0]);
    }
}
