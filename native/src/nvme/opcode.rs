//! Opcodes of the queues and the direction their data moves in (bits 1:0 of every opcode).

/// Fabrics commands, on every queue.
pub const FABRICS: u8 = 0x7f;

/// Opcodes of the admin queue.
pub mod admin {
    /// Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request.
    pub const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    /// Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;
}

/// Opcodes of I/O queues (NVM command set).
pub mod io {
    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
}

/// Which way a command's data moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDirection {
    /// The command has no data.
    None,
    /// From the host's memory: the target reads it (RDMA READ, or it came in the capsule).
    FromHost,
    /// To the host's memory (RDMA WRITE).
    ToHost,
}

impl DataDirection {
    /// From bits 1:0 of an opcode, or of the type of a Fabrics command. `None` for the bidirectional form, which no
    /// supported command uses.
    #[must_use]
    pub const fn of_opcode(opcode: u8) -> Option<Self> {
        match opcode & 3 {
            0 => Some(Self::None),
            1 => Some(Self::FromHost),
            2 => Some(Self::ToHost),
            _ => None,
        }
    }
}
