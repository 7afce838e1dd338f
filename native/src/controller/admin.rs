//! Commands of the admin queue, by opcode.

use std::time::Instant;

use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::fabrics_type;
use crate::nvme::opcode::admin;
use crate::nvme::status::{Status, StatusCode};

use super::features::Settings;
use super::{Controller, Plan};

const INVALID_OPCODE: Status = StatusCode::InvalidOpcode.permanent();

impl Controller {
    pub(super) fn begin_admin(&mut self, command: &Command, now: Instant) -> Plan {
        if command.is_fabrics() {
            return self.begin_fabrics_admin(command);
        }
        if !self.registers.ready() {
            return Plan::fail(command, StatusCode::CommandSequenceError.permanent());
        }
        let plan = match command.opcode() {
            admin::GET_LOG_PAGE => self.begin_get_log_page(command),
            admin::IDENTIFY => Ok(self.begin_identify()),
            admin::ABORT => Ok(self.abort(command)),
            admin::SET_FEATURES => self.begin_set_features(command, now),
            admin::GET_FEATURES => self.begin_get_features(command),
            admin::ASYNC_EVENT_REQUEST => Ok(self.async_event_request(command)),
            // Every command restarts the timer.
            admin::KEEP_ALIVE => Ok(Plan::succeed(command)),
            _ => Err(INVALID_OPCODE),
        };
        plan.unwrap_or_else(|status| Plan::fail(command, status))
    }

    fn begin_fabrics_admin(&mut self, command: &Command) -> Plan {
        match command.fabrics_type() {
            fabrics_type::PROPERTY_GET => self.property_get(command),
            fabrics_type::PROPERTY_SET => self.property_set(command),
            // The queue is connected already.
            fabrics_type::CONNECT => Plan::fail(command, StatusCode::CommandSequenceError.permanent()),
            // Disconnect deletes I/O queues only.
            fabrics_type::DISCONNECT => Plan::fail(command, StatusCode::InvalidQueueType.permanent()),
            _ => Plan::fail(command, INVALID_OPCODE),
        }
    }

    pub(super) fn received_admin(&mut self, command: &Command, data: &[u8], now: Instant) -> Plan {
        let plan = match command.opcode() {
            admin::SET_FEATURES => self.received_feature(command, data, now),
            _ => Err(INVALID_OPCODE),
        };
        plan.unwrap_or_else(|status| Plan::fail(command, status))
    }

    pub(super) fn produce_admin(&mut self, command: &Command, out: &mut [u8], now: Instant) -> Completion {
        let filled = match command.opcode() {
            admin::GET_LOG_PAGE => self.produce_log_page(command, out),
            admin::IDENTIFY => self.produce_identify(command, out),
            admin::GET_FEATURES => self.produce_feature(command, out, now),
            _ => Err(INVALID_OPCODE),
        };
        match filled {
            Ok(()) => Completion::success(command),
            Err(status) => Completion::with_status(command, status),
        }
    }

    /// What a reset (CC.EN 1 → 0) puts back to its default.
    pub(super) fn reset_settings(&mut self) {
        self.events.reset();
        self.settings = Settings::default();
    }
}
