//! Get and Set Features.

use std::time::Instant;

use crate::nvme::bytes::put_u64;
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::features::{
    HOST_BEHAVIOR_BYTES, HOST_IDENTIFIER_BYTES, TIMESTAMP_BYTES, data_bytes, feature, parse_get, parse_set,
};
use crate::nvme::status::{Status, StatusCode};

use super::queues::IO_QUEUES_MAX;
use super::{Controller, Plan};

const INVALID_FIELD: Status = StatusCode::InvalidField.permanent();

/// Features that a host may set and that have no home elsewhere. A reset puts them back to their defaults.
#[derive(Debug)]
pub(super) struct Settings {
    /// Arbitration, as set: there is one priority.
    arbitration: u32,
    /// Time limited error recovery, as set: backends have limits of their own.
    error_recovery: u32,
    /// Temperature threshold over, as set: no temperature is reported.
    temperature_over: u16,
    /// Temperature threshold under, as set.
    temperature_under: u16,
    /// Write Atomicity Normal, as set: a block is always written atomically, more is never promised.
    write_atomicity: u32,
    /// Off: every write is durable when it completes.
    pub(super) write_cache: bool,
    /// Host Behavior Support: ACRE, ETDAS, LBAFEE.
    host_behavior: [u8; 3],
    timestamp: Option<Timestamp>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbitration: 0,
            error_recovery: 0,
            temperature_over: u16::MAX,
            temperature_under: 0,
            write_atomicity: 0,
            write_cache: true,
            host_behavior: [0; 3],
            timestamp: None,
        }
    }
}

impl Settings {
    /// Whether the host heeds a delay before it tries a command again (ACRE).
    pub(super) fn retries_after_delay(&self) -> bool {
        let [acre, ..] = self.host_behavior;
        acre == 1
    }
}

/// The time a host set.
#[derive(Debug, Clone, Copy)]
struct Timestamp {
    /// Milliseconds since 1970, 48 bits.
    milliseconds: u64,
    set: Instant,
}

/// Milliseconds of a timestamp, bits 47:0.
const TIMESTAMP_MASK: u64 = (1 << 48) - 1;
/// Timestamp Origin: set by a Set Features.
const TIMESTAMP_ORIGIN_SET: u64 = 1 << 49;

impl Controller {
    /// Get Features: with data for some, else the value in the result.
    pub(super) fn begin_get_features(&self, command: &Command) -> Result<Plan, Status> {
        let feature = parse_get(command)?;
        let length = data_bytes(feature);
        if length > 0 {
            self.require_feature(feature)?;
            return Ok(Plan::Produce { length });
        }
        let value = self.feature_value(feature, command)?;
        Ok(Plan::Complete(Completion::with_result(command, u64::from(value))))
    }

    /// Set Features.
    pub(super) fn begin_set_features(&mut self, command: &Command, now: Instant) -> Result<Plan, Status> {
        let feature = parse_set(command)?;
        self.require_feature(feature)?;
        match feature {
            feature::TIMESTAMP | feature::HOST_BEHAVIOR => Ok(Plan::Receive {
                length: data_bytes(feature),
            }),
            // Fixed by Connect.
            feature::HOST_IDENTIFIER => Err(StatusCode::CommandSequenceError.permanent()),
            _ => {
                let result = self.set_feature_value(feature, command, now)?;
                Ok(Plan::Complete(Completion::with_result(command, u64::from(result))))
            }
        }
    }

    /// Set Features whose data has arrived.
    pub(super) fn received_feature(&mut self, command: &Command, data: &[u8], now: Instant) -> Result<Plan, Status> {
        match parse_set(command)? {
            feature::TIMESTAMP => {
                let bytes = data
                    .first_chunk::<{ TIMESTAMP_BYTES as usize }>()
                    .ok_or(INVALID_FIELD)?;
                let milliseconds = u64::from_le_bytes(*bytes) & TIMESTAMP_MASK;
                self.settings.timestamp = Some(Timestamp { milliseconds, set: now });
            }
            feature::HOST_BEHAVIOR => {
                let bytes = data.first_chunk::<3>().ok_or(INVALID_FIELD)?;
                if bytes.iter().any(|byte| *byte > 1) {
                    return Err(INVALID_FIELD);
                }
                self.settings.host_behavior = *bytes;
            }
            _ => return Err(INVALID_FIELD),
        }
        Ok(Plan::succeed(command))
    }

    /// Data of a Get Features.
    pub(super) fn produce_feature(&self, command: &Command, out: &mut [u8], now: Instant) -> Result<(), Status> {
        let feature = parse_get(command)?;
        if out.len() != data_bytes(feature) as usize {
            return Err(INVALID_FIELD);
        }
        match feature {
            feature::TIMESTAMP => put_u64(out, 0, self.timestamp(now)),
            feature::HOST_BEHAVIOR => {
                const _: () = assert!(HOST_BEHAVIOR_BYTES >= 3);
                out[..3].copy_from_slice(&self.settings.host_behavior);
            }
            feature::HOST_IDENTIFIER => {
                const _: () = assert!(HOST_IDENTIFIER_BYTES == 16);
                out.copy_from_slice(&self.identity.host_id);
            }
            _ => return Err(INVALID_FIELD),
        }
        Ok(())
    }

    fn timestamp(&self, now: Instant) -> u64 {
        let (base, since, origin) = match self.settings.timestamp {
            Some(timestamp) => (timestamp.milliseconds, timestamp.set, TIMESTAMP_ORIGIN_SET),
            None => (0, self.created, 0),
        };
        let elapsed = u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX);
        base.saturating_add(elapsed) & TIMESTAMP_MASK | origin
    }

    /// A discovery controller has the features of its queue only.
    fn require_feature(&self, feature: u8) -> Result<(), Status> {
        let of_discovery = matches!(
            feature,
            feature::ASYNC_EVENT_CONFIGURATION | feature::KEEP_ALIVE_TIMER | feature::HOST_IDENTIFIER
        );
        if self.is_discovery() && !of_discovery {
            Err(INVALID_FIELD)
        } else {
            Ok(())
        }
    }

    fn feature_value(&self, feature: u8, command: &Command) -> Result<u32, Status> {
        self.require_feature(feature)?;
        match feature {
            feature::ARBITRATION => Ok(self.settings.arbitration),
            feature::POWER_MANAGEMENT | feature::COMMAND_SET_PROFILE => Ok(0),
            feature::TEMPERATURE_THRESHOLD => match temperature_select(command) {
                TEMPERATURE_OVER => Ok(u32::from(self.settings.temperature_over)),
                TEMPERATURE_UNDER => Ok(u32::from(self.settings.temperature_under)),
                _ => Err(INVALID_FIELD),
            },
            feature::ERROR_RECOVERY => Ok(self.settings.error_recovery),
            feature::VOLATILE_WRITE_CACHE => Ok(u32::from(self.settings.write_cache)),
            feature::NUMBER_OF_QUEUES => Ok(self.queues_granted()),
            feature::WRITE_ATOMICITY => Ok(self.settings.write_atomicity),
            feature::ASYNC_EVENT_CONFIGURATION => Ok(self.events.configuration()),
            feature::KEEP_ALIVE_TIMER => Ok(self.keep_alive.timeout_ms()),
            _ => Err(INVALID_FIELD),
        }
    }

    /// Sets a feature; the result's dword 0.
    fn set_feature_value(&mut self, feature: u8, command: &Command, now: Instant) -> Result<u32, Status> {
        let value = command.dword(11);
        match feature {
            feature::ARBITRATION => self.settings.arbitration = value,
            // The only power state, and the only combination of command sets, is 0.
            feature::POWER_MANAGEMENT if value & 0x1f == 0 => {}
            feature::COMMAND_SET_PROFILE if value & 0x1ff == 0 => {}
            feature::TEMPERATURE_THRESHOLD => match temperature_select(command) {
                TEMPERATURE_OVER => self.settings.temperature_over = value as u16,
                TEMPERATURE_UNDER => self.settings.temperature_under = value as u16,
                _ => return Err(INVALID_FIELD),
            },
            // Bit 16: an error for deallocated blocks, which no namespace has.
            feature::ERROR_RECOVERY if value & 1 << 16 == 0 => self.settings.error_recovery = value,
            feature::VOLATILE_WRITE_CACHE => self.settings.write_cache = value & 1 != 0,
            feature::NUMBER_OF_QUEUES => return self.set_number_of_queues(value),
            feature::WRITE_ATOMICITY => self.settings.write_atomicity = value & 1,
            feature::ASYNC_EVENT_CONFIGURATION => {
                let supported = self.supported_notices();
                self.events.configure(value, supported)?;
            }
            feature::KEEP_ALIVE_TIMER => self
                .keep_alive
                .set_timeout(value, self.model.keep_alive_minimum_ms, now),
            _ => return Err(INVALID_FIELD),
        }
        Ok(0)
    }

    /// Number of Queues: what is granted does not depend on what is asked for, hosts take the smaller.
    fn set_number_of_queues(&self, value: u32) -> Result<u32, Status> {
        const RESERVED: u32 = 0xffff;
        if value & 0xffff == RESERVED || value >> 16 == RESERVED {
            return Err(INVALID_FIELD);
        }
        if self.queues.io_connected() {
            return Err(StatusCode::CommandSequenceError.permanent());
        }
        Ok(self.queues_granted())
    }

    /// I/O submission queues in bits 15:0, completion queues in bits 31:16, both 0's based.
    fn queues_granted(&self) -> u32 {
        let queues = u32::from(self.limits.io_queues_max.clamp(1, IO_QUEUES_MAX)) - 1;
        queues | queues << 16
    }
}

const TEMPERATURE_OVER: u32 = 0;
const TEMPERATURE_UNDER: u32 = 1;

/// THSEL, for the composite temperature (TMPSEL 0) only.
fn temperature_select(command: &Command) -> u32 {
    let (sensor, kind) = (command.dword(11) >> 16 & 0xf, command.dword(11) >> 20 & 3);
    if sensor == 0 { kind } else { u32::MAX }
}
