//! Commands of the admin queue, by opcode.

use std::time::Instant;

use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::fabrics_type;
use crate::nvme::opcode::admin;
use crate::nvme::status::{Status, StatusCode};

use super::{Controller, Plan};

const INVALID_OPCODE: Status = StatusCode::InvalidOpcode.permanent();

impl Controller {
    pub(super) fn begin_admin(&mut self, command: &Command, _now: Instant) -> Plan {
        if command.is_fabrics() {
            return self.begin_fabrics_admin(command);
        }
        if !self.registers.ready() {
            return Plan::fail(command, StatusCode::CommandSequenceError.permanent());
        }
        match command.opcode() {
            admin::ASYNC_EVENT_REQUEST => self.async_event_request(command),
            admin::KEEP_ALIVE => Plan::succeed(command),
            _ => Plan::fail(command, INVALID_OPCODE),
        }
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

    pub(super) fn received_admin(&mut self, command: &Command, _data: &[u8], _now: Instant) -> Plan {
        Plan::fail(command, INVALID_OPCODE)
    }

    pub(super) fn produce_admin(&mut self, command: &Command, _out: &mut [u8], _now: Instant) -> Completion {
        Completion::with_status(command, INVALID_OPCODE)
    }

    /// What a reset (CC.EN 1 → 0) puts back to its default.
    pub(super) fn reset_settings(&mut self) {
        self.events.reset();
    }
}
