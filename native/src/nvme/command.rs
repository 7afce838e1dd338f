//! Submission queue entry, 64 bytes, and the capsule it comes in (NVMe base 2.0 section 3.3.3.1; Fabrics section 2.1).

use crate::nvme::bytes::{put_u16, put_u32, put_u64, u16_at, u32_at, u64_at};
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode;
use crate::nvme::status::Status;

/// Bytes of a submission queue entry; in-capsule data starts right behind it (ICDOFF 0).
pub const COMMAND_BYTES: usize = 64;

/// PSDT (bits 7:6 of the flags): SGLs are used for the data, metadata pointer is an address. The only form in fabrics.
const PSDT_SGL: u8 = 0x40;

/// A command as the host sent it: nothing is trusted, every accessor is total.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Command([u8; COMMAND_BYTES]);

impl Command {
    /// The command of a capsule. `None` when the capsule is shorter than a command: the connection is broken then.
    #[must_use]
    pub fn from_capsule(capsule: &[u8]) -> Option<Self> {
        capsule.first_chunk().map(|bytes| Self(*bytes))
    }

    /// A command from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; COMMAND_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; COMMAND_BYTES] {
        &self.0
    }

    /// Opcode.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// A Fabrics command (Connect, Property Get/Set, Disconnect, authentication).
    #[must_use]
    pub const fn is_fabrics(&self) -> bool {
        self.0[0] == opcode::FABRICS
    }

    /// Fabrics command type; byte 4, where other commands have the namespace id.
    #[must_use]
    pub const fn fabrics_type(&self) -> u8 {
        self.0[4]
    }

    /// Part of a fused operation (bits 1:0 of the flags); not supported.
    #[must_use]
    pub const fn is_fused(&self) -> bool {
        self.0[1] & 3 != 0
    }

    /// PSDT says SGL, as fabrics demands.
    #[must_use]
    pub const fn uses_sgl(&self) -> bool {
        self.0[1] & 0xc0 == PSDT_SGL
    }

    /// Command identifier; echoed in full.
    #[must_use]
    pub fn command_id(&self) -> u16 {
        u16_at(&self.0, 2)
    }

    /// Namespace identifier.
    #[must_use]
    pub fn namespace_id(&self) -> u32 {
        u32_at(&self.0, 4)
    }

    /// Command dword 10 to 15; 2 and 3 too.
    ///
    /// # Panics
    /// If `number` is above 15.
    #[must_use]
    pub fn dword(&self, number: usize) -> u32 {
        u32_at(&self.0, number * 4)
    }

    /// Dwords 10 and 11 of a Read, Write, Compare or Write Zeroes: first logical block.
    #[must_use]
    pub fn starting_lba(&self) -> u64 {
        u64_at(&self.0, 40)
    }

    /// Number of logical blocks, 1-based (the field is 0's based): 1 to 65536.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        u32::from(u16_at(&self.0, 48)) + 1
    }

    /// Where the data is.
    ///
    /// # Errors
    /// SGL Descriptor Type Invalid with DNR for a type that the RDMA transport does not have.
    pub fn data_pointer(&self) -> Result<DataPointer, Status> {
        DataPointer::parse(&self.0[24..40])
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Command")
            .field("opcode", &format_args!("{:#04x}", self.opcode()))
            .field("command_id", &self.command_id())
            .field("namespace_id", &self.namespace_id())
            .field("dword10", &format_args!("{:#x}", self.dword(10)))
            .field("dword11", &format_args!("{:#x}", self.dword(11)))
            .field("dword12", &format_args!("{:#x}", self.dword(12)))
            .finish_non_exhaustive()
    }
}

/// Builds commands as a host does: for tests, the simulator's hosts and tools.
#[derive(Debug, Clone, Copy)]
pub struct CommandBuilder([u8; COMMAND_BYTES]);

impl CommandBuilder {
    /// A command without data: PSDT SGL, an all-zero keyed descriptor of length 0.
    #[must_use]
    pub fn new(opcode: u8, command_id: u16) -> Self {
        let mut bytes = [0; COMMAND_BYTES];
        bytes[0] = opcode;
        bytes[1] = PSDT_SGL;
        put_u16(&mut bytes, 2, command_id);
        bytes[39] = 0x40;
        Self(bytes)
    }

    /// A Fabrics command of this type.
    #[must_use]
    pub fn fabrics(fabrics_type: u8, command_id: u16) -> Self {
        let mut builder = Self::new(opcode::FABRICS, command_id);
        builder.0[4] = fabrics_type;
        builder
    }

    /// Sets the namespace id.
    #[must_use]
    pub fn namespace(mut self, id: u32) -> Self {
        put_u32(&mut self.0, 4, id);
        self
    }

    /// Sets a command dword.
    #[must_use]
    pub fn dword(mut self, number: usize, value: u32) -> Self {
        put_u32(&mut self.0, number * 4, value);
        self
    }

    /// Sets one byte.
    #[must_use]
    pub fn byte(mut self, at: usize, value: u8) -> Self {
        self.0[at] = value;
        self
    }

    /// Sets first block and number of blocks (1 to 65536).
    #[must_use]
    pub fn blocks(mut self, starting_lba: u64, count: u32) -> Self {
        put_u64(&mut self.0, 40, starting_lba);
        put_u16(&mut self.0, 48, (count.wrapping_sub(1) & 0xffff) as u16);
        self
    }

    /// Sets the data pointer.
    #[must_use]
    pub fn data(mut self, pointer: DataPointer) -> Self {
        self.0[24..40].copy_from_slice(&pointer.encode());
        self
    }

    /// The command.
    #[must_use]
    pub fn build(self) -> Command {
        Command(self.0)
    }
}
