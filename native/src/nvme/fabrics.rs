//! Fabrics commands: Connect with its data, Property Get and Set, Disconnect (NVMe base 2.0 section 6).

use crate::nvme::bytes::{put_terminated, put_u16, u16_at, u32_at, u64_at};
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::opcode::DataDirection;
use crate::nvme::qualified_name;

/// Types of Fabrics commands (byte 4).
pub mod fabrics_type {
    /// Property Set.
    pub const PROPERTY_SET: u8 = 0x00;
    /// Connect.
    pub const CONNECT: u8 = 0x01;
    /// Property Get.
    pub const PROPERTY_GET: u8 = 0x04;
    /// Authentication Send.
    pub const AUTHENTICATION_SEND: u8 = 0x05;
    /// Authentication Receive.
    pub const AUTHENTICATION_RECEIVE: u8 = 0x06;
    /// Disconnect.
    pub const DISCONNECT: u8 = 0x08;
}

/// Bytes of Connect data.
pub const CONNECT_DATA_BYTES: usize = 1024;
/// Controller id that asks for any controller (dynamic controller model).
pub const CONTROLLER_ID_DYNAMIC: u16 = 0xffff;

/// Where an invalid parameter of a Connect stands; becomes the result of status 0x182.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidParameter {
    /// Byte offset in the command.
    Command(u16),
    /// Byte offset in the Connect data.
    Data(u16),
}

impl InvalidParameter {
    /// Dword 0: IATTR in bit 16 (1: in the data), IPO in bits 15:0.
    #[must_use]
    pub const fn result(self) -> u64 {
        match self {
            Self::Command(offset) => offset as u64,
            Self::Data(offset) => 1 << 16 | offset as u64,
        }
    }
}

/// Offsets of parameters, for [`InvalidParameter`].
pub mod connect_offset {
    use super::InvalidParameter;
    /// QID.
    pub const QUEUE_ID: InvalidParameter = InvalidParameter::Command(42);
    /// SQSIZE.
    pub const QUEUE_SIZE: InvalidParameter = InvalidParameter::Command(44);
    /// HOSTID.
    pub const HOST_ID: InvalidParameter = InvalidParameter::Data(0);
    /// CNTLID.
    pub const CONTROLLER_ID: InvalidParameter = InvalidParameter::Data(16);
    /// SUBNQN.
    pub const SUBSYSTEM_NQN: InvalidParameter = InvalidParameter::Data(256);
    /// HOSTNQN.
    pub const HOST_NQN: InvalidParameter = InvalidParameter::Data(512);
}

/// The Connect command. Its fields are as the host sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectCommand {
    /// Command identifier, for the answer.
    pub command_id: u16,
    /// Record format; 0 is the only one.
    pub record_format: u16,
    /// Queue id; 0 is the admin queue.
    pub queue_id: u16,
    /// Entries of the submission queue, 0's based.
    pub queue_size: u16,
    /// Connect attributes.
    pub attributes: u8,
    /// Keep-alive timeout in milliseconds; 0: none (admin queue only).
    pub keep_alive_timeout_ms: u32,
}

impl ConnectCommand {
    /// Attribute bit 2: no submission queue flow control, SQHD is 0xffff.
    const DISABLE_FLOW_CONTROL: u8 = 1 << 2;

    /// Reads a Connect; `None` for any other command.
    #[must_use]
    pub fn parse(command: &Command) -> Option<Self> {
        if !command.is_fabrics() || command.fabrics_type() != fabrics_type::CONNECT {
            return None;
        }
        let bytes = command.as_bytes();
        Some(Self {
            command_id: command.command_id(),
            record_format: u16_at(bytes, 40),
            queue_id: u16_at(bytes, 42),
            queue_size: u16_at(bytes, 44),
            attributes: bytes[46],
            keep_alive_timeout_ms: u32_at(bytes, 48),
        })
    }

    /// The host wants no submission queue flow control.
    #[must_use]
    pub const fn disables_flow_control(&self) -> bool {
        self.attributes & Self::DISABLE_FLOW_CONTROL != 0
    }

    /// Builds the command as a host does.
    #[must_use]
    pub fn build(&self) -> CommandBuilder {
        CommandBuilder::fabrics(fabrics_type::CONNECT, self.command_id)
            .dword(10, u32::from(self.record_format) | u32::from(self.queue_id) << 16)
            .dword(11, u32::from(self.queue_size) | u32::from(self.attributes) << 16)
            .dword(12, self.keep_alive_timeout_ms)
    }
}

/// Data of a Connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectData {
    /// Host identifier, 128 bits.
    pub host_id: [u8; 16],
    /// Controller id: [`CONTROLLER_ID_DYNAMIC`] on the admin queue, the association's on I/O queues.
    pub controller_id: u16,
    /// Subsystem the host connects to.
    pub subsystem_nqn: String,
    /// The host's name.
    pub host_nqn: String,
}

impl ConnectData {
    /// Reads the data.
    ///
    /// # Errors
    /// The parameter that is wrong: a name that is not terminated within 224 bytes, empty, or not printable UTF-8;
    /// data that is short.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidParameter> {
        let Some(bytes) = bytes.first_chunk::<CONNECT_DATA_BYTES>() else {
            return Err(connect_offset::HOST_ID);
        };
        let subsystem_nqn = qualified_name::parse_field(&bytes[256..512])
            .ok_or(connect_offset::SUBSYSTEM_NQN)?
            .to_owned();
        let host_nqn = qualified_name::parse_field(&bytes[512..768])
            .ok_or(connect_offset::HOST_NQN)?
            .to_owned();
        let mut host_id = [0; 16];
        host_id.copy_from_slice(&bytes[..16]);
        Ok(Self {
            host_id,
            controller_id: u16_at(bytes, 16),
            subsystem_nqn,
            host_nqn,
        })
    }

    /// The data as a host sends it.
    #[must_use]
    pub fn encode(&self) -> [u8; CONNECT_DATA_BYTES] {
        let mut bytes = [0; CONNECT_DATA_BYTES];
        bytes[..16].copy_from_slice(&self.host_id);
        put_u16(&mut bytes, 16, self.controller_id);
        put_terminated(&mut bytes, 256, 256, &self.subsystem_nqn);
        put_terminated(&mut bytes, 512, 256, &self.host_nqn);
        bytes
    }
}

/// A Property Get or Set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PropertyAccess {
    /// Eight bytes wide; else four.
    pub wide: bool,
    /// Offset of the property.
    pub offset: u32,
    /// Value to set.
    pub value: u64,
}

impl PropertyAccess {
    /// Reads the command; `None` for a size that is neither four nor eight bytes.
    #[must_use]
    pub fn parse(command: &Command) -> Option<Self> {
        let bytes = command.as_bytes();
        let wide = match bytes[40] & 7 {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self {
            wide,
            offset: u32_at(bytes, 44),
            value: u64_at(bytes, 48),
        })
    }

    /// Builds a Property Get as a host does.
    #[must_use]
    pub fn build_get(&self, command_id: u16) -> Command {
        CommandBuilder::fabrics(fabrics_type::PROPERTY_GET, command_id)
            .byte(40, u8::from(self.wide))
            .dword(11, self.offset)
            .build()
    }

    /// Builds a Property Set as a host does.
    #[must_use]
    pub fn build_set(&self, command_id: u16) -> Command {
        CommandBuilder::fabrics(fabrics_type::PROPERTY_SET, command_id)
            .byte(40, u8::from(self.wide))
            .dword(11, self.offset)
            .dword(12, self.value as u32)
            .dword(13, (self.value >> 32) as u32)
            .build()
    }
}

/// Direction of a command's data, by opcode or, for Fabrics commands, by type. `None`: bidirectional, unsupported.
#[must_use]
pub fn data_direction(command: &Command) -> Option<DataDirection> {
    let code = if command.is_fabrics() {
        command.fabrics_type()
    } else {
        command.opcode()
    };
    DataDirection::of_opcode(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn connect_command_and_data_read_back_as_a_host_builds_them() {
        let connect = ConnectCommand {
            command_id: 9,
            record_format: 0,
            queue_id: 3,
            queue_size: 127,
            attributes: 4,
            keep_alive_timeout_ms: 5000,
        };
        assert_eq!(ConnectCommand::parse(&connect.build().build()), Some(connect));
        assert!(connect.disables_flow_control());
        let data = ConnectData {
            host_id: [7; 16],
            controller_id: CONTROLLER_ID_DYNAMIC,
            subsystem_nqn: "nqn.2026-11.dev.weir:fast".into(),
            host_nqn: "nqn.2026-11.dev.weir:host-a".into(),
        };
        assert_eq!(ConnectData::parse(&data.encode()), Ok(data));
    }

    #[test]
    fn connect_data_names_the_offset_of_what_is_wrong() {
        assert_eq!(ConnectData::parse(&[0; 1023]), Err(connect_offset::HOST_ID));
        let mut bytes = [b'n'; 1024];
        assert_eq!(ConnectData::parse(&bytes), Err(connect_offset::SUBSYSTEM_NQN));
        bytes[300] = 0;
        assert_eq!(ConnectData::parse(&bytes), Err(connect_offset::HOST_NQN));
        assert_eq!(connect_offset::HOST_NQN.result(), 0x1_0200);
        assert_eq!(connect_offset::QUEUE_SIZE.result(), 44);
    }

    #[test]
    fn property_access_is_four_or_eight_bytes_wide() {
        let access = PropertyAccess {
            wide: true,
            offset: 0,
            value: 0,
        };
        assert_eq!(PropertyAccess::parse(&access.build_get(1)), Some(access));
        let set = PropertyAccess {
            wide: false,
            offset: 0x14,
            value: 0x0046_0001,
        };
        assert_eq!(PropertyAccess::parse(&set.build_set(1)), Some(set));
        let bad = CommandBuilder::fabrics(fabrics_type::PROPERTY_GET, 1)
            .byte(40, 2)
            .build();
        assert_eq!(PropertyAccess::parse(&bad), None);
    }

    #[test]
    fn direction_of_a_fabrics_command_is_that_of_its_type() {
        let of = |kind| data_direction(&CommandBuilder::fabrics(kind, 1).build());
        assert_eq!(of(fabrics_type::CONNECT), Some(DataDirection::FromHost));
        assert_eq!(of(fabrics_type::PROPERTY_GET), Some(DataDirection::None));
        assert_eq!(of(fabrics_type::AUTHENTICATION_RECEIVE), Some(DataDirection::ToHost));
    }

    proptest! {
        #[test]
        fn no_capsule_panics(
            capsule in prop::collection::vec(any::<u8>(), 0..1200),
            data in prop::collection::vec(any::<u8>(), 0..1200),
        ) {
            if let Some(command) = Command::from_capsule(&capsule) {
                let _ = ConnectCommand::parse(&command);
                let _ = PropertyAccess::parse(&command);
                let _ = data_direction(&command);
                let _ = command.data_pointer();
                let _ = command.block_count();
            }
            let _ = ConnectData::parse(&data);
        }
    }
}
