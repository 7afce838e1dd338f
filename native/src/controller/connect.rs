//! Fabrics Connect: who may have an association, and which queues it may have (NVMe base 2.0 section 6.3).

use std::sync::Arc;
use std::time::Instant;

use crate::authentication::Requirement;
use crate::authentication::exchange::KEY_UNUSABLE;
use crate::nvme::authentication::AUTHENTICATION_REQUIRED;
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::{
    CONNECT_DATA_BYTES, CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, InvalidParameter, connect_offset,
};
use crate::nvme::log_page::IoCounters;
use crate::nvme::opcode::DataDirection;
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::model::{Model, Paths};

use super::async_event::AsyncEvents;
use super::authentication::Authentication;
use super::features::Settings;
use super::identity::Identity;
use super::keep_alive::{DISCOVERY_SILENCE, KeepAlive};
use super::plan::check_data_pointer;
use super::property::Registers;
use super::queues::{IO_QUEUES_MAX, Queues};
use super::{Controller, Kind};

/// A Connect that is refused: send the completion, then close the queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectRefusal {
    /// The answer.
    pub completion: Completion,
    /// CamelCase, for events and counters: `HostNotAllowed`, `UnknownSubsystem`, `InvalidParameter`, `Busy`, …
    pub reason: &'static str,
}

impl ConnectRefusal {
    fn new(command_id: u16, status: Status, result: u64, reason: &'static str) -> Self {
        Self {
            completion: Completion {
                result,
                status,
                command_id,
            },
            reason,
        }
    }

    /// Connect data or command with an invalid parameter.
    #[must_use]
    pub fn invalid_parameter(connect: &ConnectCommand, parameter: InvalidParameter) -> Self {
        let status = StatusCode::ConnectInvalidParameters.permanent();
        Self::new(connect.command_id, status, parameter.result(), "InvalidParameter")
    }

    /// The subsystem is not served. Final, unless nothing at all is served: then the desired state has not arrived
    /// yet, and a host that reconnects after our restart must be able to try again.
    fn unknown_subsystem(connect: &ConnectCommand, model: &Model) -> Self {
        let code = StatusCode::ConnectInvalidParameters;
        let status = if model.subsystems.is_empty() {
            code.retryable()
        } else {
            code.permanent()
        };
        Self::new(
            connect.command_id,
            status,
            connect_offset::SUBSYSTEM_NQN.result(),
            "UnknownSubsystem",
        )
    }

    /// An I/O queue's Connect names a controller that is not (or no longer) there. Retryable: the host may have
    /// raced with the end of its association and must be able to reconnect.
    #[must_use]
    pub fn unknown_controller(connect: &ConnectCommand) -> Self {
        let status = StatusCode::ConnectInvalidParameters.retryable();
        Self::new(
            connect.command_id,
            status,
            connect_offset::CONTROLLER_ID.result(),
            "UnknownController",
        )
    }

    /// No controller to be had now; hosts try again.
    #[must_use]
    pub fn busy(connect: &ConnectCommand) -> Self {
        Self::new(
            connect.command_id,
            StatusCode::ConnectControllerBusy.retryable(),
            0,
            "Busy",
        )
    }
}

/// Checks the first command of a queue pair: it must be a Connect of a format we know, whose data pointer describes
/// [`CONNECT_DATA_BYTES`]. The caller fetches those, then calls [`ConnectData::parse`].
///
/// # Errors
/// The refusal to send before the queue pair is closed.
pub fn first_command(command: &Command, in_capsule_bytes: u32) -> Result<ConnectCommand, ConnectRefusal> {
    let id = command.command_id();
    let Some(connect) = ConnectCommand::parse(command) else {
        let status = StatusCode::CommandSequenceError.permanent();
        return Err(ConnectRefusal::new(id, status, 0, "NotConnected"));
    };
    if command.is_fused() || !command.uses_sgl() {
        return Err(ConnectRefusal::new(
            id,
            StatusCode::InvalidField.permanent(),
            0,
            "InvalidField",
        ));
    }
    if connect.record_format != 0 {
        let status = StatusCode::ConnectIncompatibleFormat.permanent();
        return Err(ConnectRefusal::new(id, status, 0, "IncompatibleFormat"));
    }
    check_data_pointer(
        command,
        DataDirection::FromHost,
        CONNECT_DATA_BYTES as u32,
        in_capsule_bytes,
    )
    .map_err(|status| ConnectRefusal::new(id, status, 0, "InvalidDataPointer"))?;
    Ok(connect)
}

/// Reads Connect data.
///
/// # Errors
/// The refusal that names the parameter.
pub fn parse_data(connect: &ConnectCommand, data: &[u8]) -> Result<ConnectData, ConnectRefusal> {
    ConnectData::parse(data).map_err(|parameter| ConnectRefusal::invalid_parameter(connect, parameter))
}

impl Controller {
    /// Creates the association of an admin queue's Connect. `queue_entries` is the size the queue was built with;
    /// `controller_id` is a free id of the subsystem's range on this node, or `None` when there is none.
    ///
    /// # Errors
    /// The refusal. Never with DNR while the process is leaving: DNR would end the host's reconnection.
    pub fn connect_admin(
        model: &Arc<Model>,
        connect: &ConnectCommand,
        data: &ConnectData,
        queue_entries: u16,
        controller_id: Option<u16>,
        now: Instant,
    ) -> Result<(Self, Completion), ConnectRefusal> {
        if model.paths == Paths::Leaving {
            return Err(ConnectRefusal::busy(connect));
        }
        if connect.queue_id != 0 {
            return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::QUEUE_ID));
        }
        check_queue_size(connect, queue_entries)?;
        if data.controller_id != CONTROLLER_ID_DYNAMIC {
            return Err(ConnectRefusal::invalid_parameter(
                connect,
                connect_offset::CONTROLLER_ID,
            ));
        }
        let kind = if data.subsystem_nqn == DISCOVERY_NQN {
            Kind::Discovery
        } else {
            let Some(subsystem) = model.subsystem(&data.subsystem_nqn) else {
                return Err(ConnectRefusal::unknown_subsystem(connect, model));
            };
            if !subsystem.access.allows(&data.host_nqn) {
                let status = StatusCode::ConnectInvalidHost.permanent();
                return Err(ConnectRefusal::new(connect.command_id, status, 0, "HostNotAllowed"));
            }
            Kind::Subsystem(Arc::clone(subsystem))
        };
        let requirement = match &kind {
            Kind::Subsystem(subsystem) => subsystem.requirement(&data.host_nqn),
            Kind::Discovery => None,
        };
        let credentials = match requirement {
            None => None,
            Some(Requirement::Credentials(credentials)) => Some(Arc::clone(credentials)),
            // Retryable: the key may be there the next time.
            Some(Requirement::NoUsableKey) => {
                let status = StatusCode::ConnectInvalidHost.retryable();
                return Err(ConnectRefusal::new(connect.command_id, status, 0, KEY_UNUSABLE));
            }
        };
        let Some(controller_id) = controller_id else {
            return Err(ConnectRefusal::busy(connect));
        };
        let silence = matches!(kind, Kind::Discovery).then_some(DISCOVERY_SILENCE);
        let mut queues = Queues::default();
        queues.connect(0, connect.disables_flow_control());
        let mut authentication = Authentication::new(credentials);
        authentication.queue_connected(0);
        let controller = Self {
            model: Arc::clone(model),
            kind,
            limits: model.limits,
            identity: Identity {
                controller_id,
                subsystem_nqn: data.subsystem_nqn.clone(),
                host_nqn: data.host_nqn.clone(),
                host_id: data.host_id,
            },
            registers: Registers::default(),
            queues,
            authentication,
            keep_alive: KeepAlive::new(connect.keep_alive_timeout_ms, model.keep_alive_minimum_ms, silence, now),
            events: AsyncEvents::default(),
            settings: Settings::default(),
            counters: IoCounters::default(),
            ana_changes: 0,
            ana_changes_known: 0,
            discovery_generation: model.revision,
            local_address: None,
            created: now,
        };
        let completion = controller.connected(connect);
        Ok((controller, completion))
    }

    /// Adds an I/O queue to the association. `queue_entries` is the size the queue was built with.
    ///
    /// # Errors
    /// The refusal: other parties than the association's, a queue id beyond those granted or in use, a controller
    /// that is not ready, a size that does not fit.
    pub fn connect_io(
        &mut self,
        connect: &ConnectCommand,
        data: &ConnectData,
        queue_entries: u16,
        now: Instant,
    ) -> Result<Completion, ConnectRefusal> {
        if data.controller_id != self.identity.controller_id {
            return Err(ConnectRefusal::unknown_controller(connect));
        }
        if data.subsystem_nqn != self.identity.subsystem_nqn {
            return Err(ConnectRefusal::invalid_parameter(
                connect,
                connect_offset::SUBSYSTEM_NQN,
            ));
        }
        if data.host_nqn != self.identity.host_nqn {
            return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::HOST_NQN));
        }
        if data.host_id != self.identity.host_id {
            return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::HOST_ID));
        }
        let queues_max = self.limits.io_queues_max.min(IO_QUEUES_MAX);
        if self.is_discovery() || connect.queue_id == 0 || connect.queue_id > queues_max {
            return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::QUEUE_ID));
        }
        check_queue_size(connect, queue_entries.min(self.limits.queue_depth))?;
        if !self.registers.ready() || self.queues.is_connected(connect.queue_id) {
            let status = StatusCode::CommandSequenceError.retryable();
            let reason = if self.registers.ready() {
                "QueueInUse"
            } else {
                "ControllerNotReady"
            };
            return Err(ConnectRefusal::new(connect.command_id, status, 0, reason));
        }
        self.queues.connect(connect.queue_id, connect.disables_flow_control());
        self.authentication.queue_connected(connect.queue_id);
        self.keep_alive.restart(now);
        Ok(self.connected(connect))
    }

    /// Success: the controller id in bits 15:0, and whether the queue has to authenticate. Bit 18, a secure channel, is
    /// never set.
    fn connected(&self, connect: &ConnectCommand) -> Completion {
        let required = if self.authentication.is_required() {
            AUTHENTICATION_REQUIRED
        } else {
            0
        };
        Completion {
            result: u64::from(self.identity.controller_id) | required,
            status: Status::SUCCESS,
            command_id: connect.command_id,
        }
    }
}

/// SQSIZE is 0's based: at least two entries, at most what the queue was built with.
fn check_queue_size(connect: &ConnectCommand, queue_entries: u16) -> Result<(), ConnectRefusal> {
    if connect.queue_size == 0 || connect.queue_size >= queue_entries {
        return Err(ConnectRefusal::invalid_parameter(connect, connect_offset::QUEUE_SIZE));
    }
    Ok(())
}
