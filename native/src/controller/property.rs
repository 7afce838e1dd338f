//! Property Get and Set: enable, ready, shutdown and reset of a controller.

use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::PropertyAccess;
use crate::nvme::properties::{Configuration, READY_TIMEOUTS, VERSION, capabilities, offset, status};
use crate::nvme::status::{Status, StatusCode};

use super::{Controller, Plan};

/// What a Property Set did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transition {
    /// Nothing of consequence.
    None,
    /// CC.EN went from 0 to 1.
    Enabled,
    /// CC.EN went from 1 to 0: the controller is reset.
    Reset,
    /// CC.SHN was set: the controller is shut down.
    ShutDown,
}

/// CC and CSTS.
#[derive(Debug, Default)]
pub(super) struct Registers {
    configuration: Configuration,
    status: u32,
}

impl Registers {
    /// Enabled, ready and not shut down: commands other than Fabrics ones are taken.
    pub(super) fn ready(&self) -> bool {
        self.configuration.enabled() && self.status & (status::READY | status::SHUTDOWN_COMPLETE) == status::READY
    }

    fn configure(&mut self, new: Configuration) -> Transition {
        let old = std::mem::replace(&mut self.configuration, new);
        let mut transition = Transition::None;
        if new.enabled() && !old.enabled() {
            self.status = if new.is_supported() {
                status::READY
            } else {
                status::FATAL
            };
            transition = Transition::Enabled;
        }
        if !new.enabled() && old.enabled() {
            self.status = 0;
            transition = Transition::Reset;
        }
        if new.wants_shutdown() && !old.wants_shutdown() {
            self.status |= status::SHUTDOWN_COMPLETE;
            transition = Transition::ShutDown;
        }
        if !new.wants_shutdown() && old.wants_shutdown() {
            self.status &= !status::SHUTDOWN_COMPLETE;
        }
        transition
    }
}

impl Controller {
    /// Property Get.
    pub(super) fn property_get(&self, command: &Command) -> Plan {
        let value = PropertyAccess::parse(command).and_then(|access| match (access.offset, access.wide) {
            (offset::CAP, true) => Some(capabilities(self.limits.queue_depth)),
            (offset::VS, false) => Some(u64::from(VERSION)),
            (offset::CC, false) => Some(u64::from(self.registers.configuration.0)),
            (offset::CSTS, false) => Some(u64::from(self.registers.status)),
            (offset::NSSR, false) => Some(0),
            (offset::CRTO, false) => Some(u64::from(READY_TIMEOUTS)),
            _ => None,
        });
        match value {
            Some(value) => Plan::Complete(Completion::with_result(command, value)),
            None => Plan::fail(command, INVALID_PROPERTY),
        }
    }

    /// Property Set; only CC can be set.
    pub(super) fn property_set(&mut self, command: &Command) -> Plan {
        let Some(PropertyAccess {
            wide: false,
            offset: offset::CC,
            value,
        }) = PropertyAccess::parse(command)
        else {
            return Plan::fail(command, INVALID_PROPERTY);
        };
        // The upper half of the value is reserved for properties of four bytes.
        match self.registers.configure(Configuration(value as u32)) {
            Transition::None | Transition::Enabled => {}
            Transition::Reset => {
                self.queues.close_all_io();
                self.reset_settings();
            }
            Transition::ShutDown => self.queues.close_all_io(),
        }
        Plan::succeed(command)
    }
}

/// Unknown property, or one that has another size.
const INVALID_PROPERTY: Status = StatusCode::InvalidField.permanent();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enable_makes_ready_and_disable_resets() {
        let mut registers = Registers::default();
        assert_eq!(registers.configure(Configuration::DISABLE), Transition::None);
        assert!(!registers.ready());
        assert_eq!(registers.configure(Configuration::ENABLE), Transition::Enabled);
        assert!(registers.ready());
        assert_eq!(registers.configure(Configuration::DISABLE), Transition::Reset);
        assert_eq!(registers.status, 0);
    }

    #[test]
    fn shutdown_completes_at_once_and_ends_readiness() {
        let mut registers = Registers::default();
        registers.configure(Configuration::ENABLE);
        assert_eq!(registers.configure(Configuration::SHUTDOWN), Transition::ShutDown);
        assert_eq!(registers.status >> 2 & 3, 2);
        assert!(!registers.ready());
        assert_eq!(registers.configure(Configuration::DISABLE), Transition::Reset);
        assert_eq!(registers.status, 0);
    }

    #[test]
    fn an_unsupported_configuration_is_fatal_not_ready() {
        let mut registers = Registers::default();
        registers.configure(Configuration(0x0045_0001));
        assert_eq!(registers.status, status::FATAL);
        assert!(!registers.ready());
    }
}
