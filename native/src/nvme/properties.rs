//! Controller properties that fabrics hosts read and set (NVMe base 2.0 section 3.1.3).

/// Offsets of the properties.
pub mod offset {
    /// Controller Capabilities, 8 bytes.
    pub const CAP: u32 = 0x00;
    /// Version, 4 bytes.
    pub const VS: u32 = 0x08;
    /// Controller Configuration, 4 bytes.
    pub const CC: u32 = 0x14;
    /// Controller Status, 4 bytes.
    pub const CSTS: u32 = 0x1c;
    /// NVM Subsystem Reset, 4 bytes; not supported.
    pub const NSSR: u32 = 0x20;
    /// Controller Ready Timeouts, 4 bytes.
    pub const CRTO: u32 = 0x68;
}

/// Version 2.0.0, as VS and Identify tell it.
pub const VERSION: u32 = 2 << 16;
/// Time to become ready, in units of 500 ms (CAP.TO).
const READY_TIMEOUT_500_MS: u64 = 15;

/// Controller Capabilities for queues of `queue_depth` entries.
#[must_use]
pub const fn capabilities(queue_depth: u16) -> u64 {
    let queue_entries = queue_depth.saturating_sub(1) as u64;
    let contiguous_queues = 1 << 16;
    let nvm_command_set = 1 << 37;
    let io_command_sets = 1 << 43;
    let ready_with_media = 1 << 59;
    queue_entries
        | contiguous_queues
        | READY_TIMEOUT_500_MS << 24
        | nvm_command_set
        | io_command_sets
        | ready_with_media
}

/// Controller Ready Timeouts: with media in bits 15:0, independent of media in bits 31:16.
pub const READY_TIMEOUTS: u32 = READY_TIMEOUT_500_MS as u32 | (READY_TIMEOUT_500_MS as u32) << 16;

/// Controller Configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Configuration(pub u32);

impl Configuration {
    /// EN.
    #[must_use]
    pub const fn enabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// SHN is normal or abrupt.
    #[must_use]
    pub const fn wants_shutdown(self) -> bool {
        matches!(self.0 >> 14 & 3, 1 | 2)
    }

    /// What an enabled controller must be configured to: NVM or all command sets, 4 KiB pages, round robin, entries
    /// of 64 and 16 bytes.
    #[must_use]
    pub const fn is_supported(self) -> bool {
        let command_sets = self.0 >> 4 & 7;
        let page_size = self.0 >> 7 & 0xf;
        let arbitration = self.0 >> 11 & 7;
        let submission_entry = self.0 >> 16 & 0xf;
        let completion_entry = self.0 >> 20 & 0xf;
        (command_sets == 0 || command_sets == 6)
            && page_size == 0
            && arbitration == 0
            && submission_entry == 6
            && completion_entry == 4
    }

    /// Enabled, with the entry sizes that fabrics uses; what a Linux host sets.
    pub const ENABLE: Self = Self(0x0046_0001);
    /// Not enabled, entry sizes set: the first thing a Linux host sets.
    pub const DISABLE: Self = Self(0x0046_0000);
    /// Normal shutdown of an enabled controller.
    pub const SHUTDOWN: Self = Self(0x0046_4001);
}

/// Bits of Controller Status.
pub mod status {
    /// RDY.
    pub const READY: u32 = 1;
    /// CFS: controller fatal status.
    pub const FATAL: u32 = 1 << 1;
    /// SHST: shutdown complete.
    pub const SHUTDOWN_COMPLETE: u32 = 2 << 2;
}
