//! Log pages (NVMe base 2.0 section 5.16) and the part of one that a Get Log Page asks for.

use super::bytes::{put_padded, put_u16, put_u32, put_u64, put_u128};
use super::command::Command;
use super::opcode::{admin, io};
use super::status::{Status, StatusCode};

/// Log page identifiers.
pub mod log {
    /// Supported log pages.
    pub const SUPPORTED_LOG_PAGES: u8 = 0x00;
    /// Error information.
    pub const ERROR_INFORMATION: u8 = 0x01;
    /// SMART / health information.
    pub const SMART: u8 = 0x02;
    /// Firmware slot information.
    pub const FIRMWARE_SLOT: u8 = 0x03;
    /// Changed namespace list.
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands supported and effects.
    pub const COMMAND_EFFECTS: u8 = 0x05;
    /// Asymmetric namespace access.
    pub const ASYMMETRIC_NAMESPACE_ACCESS: u8 = 0x0c;
    /// Discovery.
    pub const DISCOVERY: u8 = 0x70;
}

/// What a Get Log Page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRequest {
    /// Log page.
    pub log: u8,
    /// Log specific field (LSP, 7 bits).
    pub specific: u8,
    /// Leave the async event masked (RAE).
    pub retain_event: bool,
    /// First byte wanted; a multiple of 4.
    pub offset: u64,
    /// Bytes wanted; a multiple of 4, at least 4.
    pub length: u64,
    /// Command set (CSI).
    pub command_set: u8,
}

impl LogRequest {
    /// Reads the command.
    ///
    /// # Errors
    /// Invalid Field with DNR: an offset that is not dword aligned, or counted in entries.
    pub fn parse(command: &Command) -> Result<Self, Status> {
        let (dword10, dword11, dword14) = (command.dword(10), command.dword(11), command.dword(14));
        let offset = u64::from(command.dword(12)) | u64::from(command.dword(13)) << 32;
        let dwords = u64::from(dword10 >> 16) | u64::from(dword11 & 0xffff) << 16;
        let offset_in_entries = dword14 & 1 << 23 != 0;
        if offset % 4 != 0 || offset_in_entries {
            return Err(StatusCode::InvalidField.permanent());
        }
        Ok(Self {
            log: dword10 as u8,
            specific: (dword10 >> 8) as u8 & 0x7f,
            retain_event: dword10 & 1 << 15 != 0,
            offset,
            length: (dwords + 1) * 4,
            command_set: (dword14 >> 24) as u8,
        })
    }
}

/// The part of a log page that is wanted: the log writes all of itself at its own positions, and what lies in the
/// window lands in the buffer.
#[derive(Debug)]
pub struct LogWindow<'a> {
    offset: u64,
    out: &'a mut [u8],
}

impl<'a> LogWindow<'a> {
    /// A window on a log of `log_bytes`. `out` holds zeroes: that is what lies beyond the log's end.
    ///
    /// # Errors
    /// Invalid Field with DNR for an offset beyond the end.
    pub fn new(offset: u64, out: &'a mut [u8], log_bytes: u64) -> Result<Self, Status> {
        if offset > log_bytes {
            return Err(StatusCode::InvalidField.permanent());
        }
        Ok(Self { offset, out })
    }

    /// Whether any of `length` bytes at `position` is wanted.
    #[must_use]
    pub fn wants(&self, position: u64, length: usize) -> bool {
        position < self.offset.saturating_add(self.out.len() as u64)
            && position.saturating_add(length as u64) > self.offset
    }

    /// Writes what is wanted of `bytes` at `position` of the log.
    pub fn put(&mut self, position: u64, bytes: &[u8]) {
        if !self.wants(position, bytes.len()) {
            return;
        }
        // Both differences are smaller than a buffer's length, because the ranges overlap.
        let skipped = self.offset.saturating_sub(position) as usize;
        let start = position.saturating_sub(self.offset) as usize;
        let count = (bytes.len() - skipped).min(self.out.len() - start);
        self.out[start..start + count].copy_from_slice(&bytes[skipped..skipped + count]);
    }
}

/// Bytes of the supported log pages log.
pub const SUPPORTED_LOG_PAGES_BYTES: usize = 1024;

/// Supported log pages: bit 0 of each one's dword.
#[must_use]
pub fn supported_log_pages(logs: &[u8]) -> [u8; SUPPORTED_LOG_PAGES_BYTES] {
    let mut bytes = [0; SUPPORTED_LOG_PAGES_BYTES];
    for log in logs {
        put_u32(&mut bytes, usize::from(*log) * 4, 1);
    }
    bytes
}

/// Bytes of an error log entry.
pub const ERROR_LOG_ENTRY_BYTES: u64 = 64;

/// Counters of the SMART log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoCounters {
    /// Bytes read by the host.
    pub bytes_read: u64,
    /// Bytes written by the host.
    pub bytes_written: u64,
    /// Read and Compare commands.
    pub read_commands: u64,
    /// Write commands.
    pub write_commands: u64,
}

/// Bytes of the SMART log.
pub const SMART_BYTES: usize = 512;

/// SMART / health information of a device that does not wear.
#[must_use]
pub fn smart(counters: &IoCounters) -> [u8; SMART_BYTES] {
    /// A data unit is a thousand units of 512 bytes, rounded up.
    const DATA_UNIT_BYTES: u64 = 512_000;
    let mut bytes = [0; SMART_BYTES];
    // Available spare 100 %, its threshold 0 %.
    bytes[3] = 100;
    put_u128(
        &mut bytes,
        32,
        u128::from(counters.bytes_read.div_ceil(DATA_UNIT_BYTES)),
    );
    put_u128(
        &mut bytes,
        48,
        u128::from(counters.bytes_written.div_ceil(DATA_UNIT_BYTES)),
    );
    put_u128(&mut bytes, 64, u128::from(counters.read_commands));
    put_u128(&mut bytes, 80, u128::from(counters.write_commands));
    bytes
}

/// Bytes of the firmware slot log.
pub const FIRMWARE_SLOT_BYTES: usize = 512;

/// Firmware slot information: slot 1 is active and holds this revision.
#[must_use]
pub fn firmware_slot(revision: &str) -> [u8; FIRMWARE_SLOT_BYTES] {
    let mut bytes = [0; FIRMWARE_SLOT_BYTES];
    bytes[0] = 1;
    put_padded(&mut bytes, 8, 8, revision);
    bytes
}

/// Bytes of the changed namespace list.
pub const CHANGED_NAMESPACES_BYTES: usize = 4096;
/// Ids the changed namespace list has room for.
pub const CHANGED_NAMESPACES_MAX: usize = CHANGED_NAMESPACES_BYTES / 4;

/// Changed namespace list. `None`: more than fit, the host looks at all.
#[must_use]
pub fn changed_namespaces(ids: Option<&[u32]>) -> [u8; CHANGED_NAMESPACES_BYTES] {
    let mut bytes = [0; CHANGED_NAMESPACES_BYTES];
    match ids {
        Some(ids) => {
            for (index, id) in ids.iter().take(CHANGED_NAMESPACES_MAX).enumerate() {
                put_u32(&mut bytes, index * 4, *id);
            }
        }
        None => put_u32(&mut bytes, 0, u32::MAX),
    }
    bytes
}

/// Bytes of the commands supported and effects log.
pub const COMMAND_EFFECTS_BYTES: usize = 4096;

/// Commands supported and effects, of an I/O controller: admin commands by opcode, then I/O commands by opcode.
#[must_use]
pub fn command_effects() -> [u8; COMMAND_EFFECTS_BYTES] {
    const SUPPORTED: u32 = 1;
    const CHANGES_CONTENT: u32 = 1 << 1;
    let mut bytes = [0; COMMAND_EFFECTS_BYTES];
    for opcode in [
        admin::GET_LOG_PAGE,
        admin::IDENTIFY,
        admin::ABORT,
        admin::SET_FEATURES,
        admin::GET_FEATURES,
        admin::ASYNC_EVENT_REQUEST,
        admin::KEEP_ALIVE,
    ] {
        put_u32(&mut bytes, usize::from(opcode) * 4, SUPPORTED);
    }
    for opcode in [io::FLUSH, io::READ, io::COMPARE] {
        put_u32(&mut bytes, 1024 + usize::from(opcode) * 4, SUPPORTED);
    }
    for opcode in [io::WRITE, io::WRITE_ZEROES, io::DATASET_MANAGEMENT] {
        put_u32(&mut bytes, 1024 + usize::from(opcode) * 4, SUPPORTED | CHANGES_CONTENT);
    }
    bytes
}

/// Bytes of the ANA log's header.
pub const ANA_HEADER_BYTES: usize = 16;
/// Bytes of an ANA group descriptor, without its namespace ids.
pub const ANA_GROUP_BYTES: usize = 32;

/// State of an ANA group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AnaState {
    /// Optimized.
    Optimized = 1,
    /// Inaccessible: hosts use another path.
    Inaccessible = 3,
}

/// The ANA log's header.
#[must_use]
pub fn ana_header(change_count: u64, groups: u16) -> [u8; ANA_HEADER_BYTES] {
    let mut bytes = [0; ANA_HEADER_BYTES];
    put_u64(&mut bytes, 0, change_count);
    put_u16(&mut bytes, 8, groups);
    bytes
}

/// An ANA group descriptor; `namespaces` ids follow it, ascending.
#[must_use]
pub fn ana_group(group: u32, namespaces: u32, change_count: u64, state: AnaState) -> [u8; ANA_GROUP_BYTES] {
    let mut bytes = [0; ANA_GROUP_BYTES];
    put_u32(&mut bytes, 0, group);
    put_u32(&mut bytes, 4, namespaces);
    put_u64(&mut bytes, 8, change_count);
    bytes[16] = state as u8;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::command::CommandBuilder;
    use proptest::prelude::*;

    fn get_log(dword10: u32) -> CommandBuilder {
        CommandBuilder::new(admin::GET_LOG_PAGE, 1).dword(10, dword10)
    }

    #[test]
    fn length_and_offset_span_both_of_their_dwords() {
        let command = get_log(0x0003_8170).dword(11, 1).dword(12, 0x400).dword(13, 2).build();
        let request = LogRequest::parse(&command).unwrap();
        assert_eq!((request.log, request.specific, request.retain_event), (0x70, 1, true));
        assert_eq!(request.offset, 0x2_0000_0400);
        assert_eq!(request.length, 0x1_0004 * 4);
    }

    #[test]
    fn offsets_that_are_not_dword_aligned_or_count_entries_are_refused() {
        let unaligned = get_log(0x70).dword(12, 2).build();
        assert_eq!(LogRequest::parse(&unaligned), Err(StatusCode::InvalidField.permanent()));
        let entries = get_log(0x70).dword(14, 1 << 23).build();
        assert_eq!(LogRequest::parse(&entries), Err(StatusCode::InvalidField.permanent()));
    }

    #[test]
    fn a_window_may_begin_at_the_end_but_not_beyond() {
        let mut out = [0; 4];
        assert!(LogWindow::new(512, &mut out, 512).is_ok());
        assert_eq!(
            LogWindow::new(516, &mut out, 512).unwrap_err(),
            StatusCode::InvalidField.permanent()
        );
    }

    proptest! {
        #[test]
        fn a_window_shows_what_a_copy_of_the_whole_log_would(
            pieces in prop::collection::vec(prop::collection::vec(1_u8.., 0..40), 0..6),
            offset in 0_usize..150,
            length in 0_usize..150,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut expected = vec![0; length];
            for (index, byte) in expected.iter_mut().enumerate() {
                *byte = whole.get(offset + index).copied().unwrap_or(0);
            }
            let mut out = vec![0; length];
            let mut window = LogWindow::new(offset as u64, &mut out, 200).unwrap();
            let mut position = 0;
            for piece in &pieces {
                window.put(position, piece);
                position += piece.len() as u64;
            }
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn no_window_overflows(offset in any::<u64>(), position in any::<u64>(), length in 0_usize..64) {
            let mut out = [0; 16];
            if let Ok(mut window) = LogWindow::new(offset, &mut out, u64::MAX) {
                window.put(position, &vec![1; length]);
            }
        }
    }
}
