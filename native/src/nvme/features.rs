//! Feature identifiers and the data of features that have any (NVMe base 2.0 section 5.27).

use super::command::Command;
use super::status::{Status, StatusCode};

/// Feature identifiers.
pub mod feature {
    /// Arbitration.
    pub const ARBITRATION: u8 = 0x01;
    /// Power Management.
    pub const POWER_MANAGEMENT: u8 = 0x02;
    /// Temperature Threshold.
    pub const TEMPERATURE_THRESHOLD: u8 = 0x04;
    /// Error Recovery (NVM command set).
    pub const ERROR_RECOVERY: u8 = 0x05;
    /// Volatile Write Cache.
    pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
    /// Number of Queues.
    pub const NUMBER_OF_QUEUES: u8 = 0x07;
    /// Write Atomicity Normal.
    pub const WRITE_ATOMICITY: u8 = 0x0a;
    /// Asynchronous Event Configuration.
    pub const ASYNC_EVENT_CONFIGURATION: u8 = 0x0b;
    /// Timestamp.
    pub const TIMESTAMP: u8 = 0x0e;
    /// Keep Alive Timer.
    pub const KEEP_ALIVE_TIMER: u8 = 0x0f;
    /// Host Behavior Support.
    pub const HOST_BEHAVIOR: u8 = 0x16;
    /// I/O Command Set Profile.
    pub const COMMAND_SET_PROFILE: u8 = 0x19;
    /// Host Identifier.
    pub const HOST_IDENTIFIER: u8 = 0x81;
}

/// Bytes of the Timestamp.
pub const TIMESTAMP_BYTES: u32 = 8;
/// Bytes of Host Behavior Support.
pub const HOST_BEHAVIOR_BYTES: u32 = 512;
/// Bytes of the Host Identifier, in its extended form, the only one in fabrics.
pub const HOST_IDENTIFIER_BYTES: u32 = 16;

/// Bytes a feature has beside its value in dword 11; 0 for most.
#[must_use]
pub const fn data_bytes(feature: u8) -> u32 {
    match feature {
        feature::TIMESTAMP => TIMESTAMP_BYTES,
        feature::HOST_BEHAVIOR => HOST_BEHAVIOR_BYTES,
        feature::HOST_IDENTIFIER => HOST_IDENTIFIER_BYTES,
        _ => 0,
    }
}

/// The feature of a Get Features.
///
/// # Errors
/// Invalid Field with DNR when another value than the current one is asked for: saving and selecting is not supported.
pub fn parse_get(command: &Command) -> Result<u8, Status> {
    let select = command.dword(10) >> 8 & 7;
    if select != 0 {
        return Err(StatusCode::InvalidField.permanent());
    }
    Ok(command.dword(10) as u8)
}

/// The feature of a Set Features.
///
/// # Errors
/// Feature Identifier Not Saveable with DNR when it is to be saved.
pub fn parse_set(command: &Command) -> Result<u8, Status> {
    let save = command.dword(10) >> 31 != 0;
    if save {
        return Err(StatusCode::FeatureNotSaveable.permanent());
    }
    Ok(command.dword(10) as u8)
}
