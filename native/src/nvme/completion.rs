//! Completion queue entry, 16 bytes (NVMe base 2.0 section 3.3.3.2).

use crate::nvme::bytes::{put_u16, put_u64, u16_at, u64_at};
use crate::nvme::command::Command;
use crate::nvme::status::Status;

/// Bytes of a completion queue entry.
pub const COMPLETION_BYTES: usize = 16;

/// What the controller answers to one command. The engine adds the submission queue head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// Dwords 0 and 1, command specific.
    pub result: u64,
    /// Outcome.
    pub status: Status,
    /// The command's identifier, all 16 bits as the host sent them.
    pub command_id: u16,
}

impl Completion {
    /// Success without a result.
    #[must_use]
    pub fn success(command: &Command) -> Self {
        Self::with_status(command, Status::SUCCESS)
    }

    /// Success with a result in dword 0 (and 1).
    #[must_use]
    pub fn with_result(command: &Command, result: u64) -> Self {
        Self {
            result,
            status: Status::SUCCESS,
            command_id: command.command_id(),
        }
    }

    /// Any status without a result.
    #[must_use]
    pub fn with_status(command: &Command, status: Status) -> Self {
        Self {
            result: 0,
            status,
            command_id: command.command_id(),
        }
    }

    /// The entry as sent. `queue_head` is SQHD, or [`NO_FLOW_CONTROL`] for a queue that was connected without flow
    /// control. The queue identifier and the phase bit are reserved in fabrics.
    #[must_use]
    pub fn encode(&self, queue_head: u16) -> [u8; COMPLETION_BYTES] {
        let mut bytes = [0; COMPLETION_BYTES];
        put_u64(&mut bytes, 0, self.result);
        put_u16(&mut bytes, 8, queue_head);
        put_u16(&mut bytes, 12, self.command_id);
        put_u16(&mut bytes, 14, self.status.field() << 1);
        bytes
    }

    /// Reads an entry: (completion, SQHD). `None` when the status is not one this target sends. For tests and tools.
    #[must_use]
    pub fn decode(bytes: &[u8; COMPLETION_BYTES]) -> Option<(Self, u16)> {
        let status = Status::from_field(u16_at(bytes, 14) >> 1)?;
        Some((
            Self {
                result: u64_at(bytes, 0),
                status,
                command_id: u16_at(bytes, 12),
            },
            u16_at(bytes, 8),
        ))
    }
}

/// SQHD of queues connected with submission queue flow control disabled (Connect attribute bit 2).
pub const NO_FLOW_CONTROL: u16 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::status::StatusCode;

    #[test]
    fn status_is_shifted_past_the_phase_bit_and_command_id_is_echoed() {
        let completion = Completion {
            result: 0x1122_3344_5566_7788,
            status: StatusCode::InvalidField.permanent(),
            command_id: 0xbeef,
        };
        let bytes = completion.encode(7);
        assert_eq!(bytes[..8], [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        assert_eq!(bytes[8..10], [7, 0]);
        assert_eq!(bytes[10..12], [0, 0]);
        assert_eq!(bytes[12..14], [0xef, 0xbe]);
        assert_eq!(u16_at(&bytes, 14), (0x4002_u16) << 1);
        assert_eq!(Completion::decode(&bytes), Some((completion, 7)));
    }
}
