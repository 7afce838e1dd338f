//! Identify, as far as hosts ask for it.

use crate::nvme::async_event::Notice;
use crate::nvme::command::Command;
use crate::nvme::identify::{
    COMMAND_SET_NVM, ControllerType, IDENTIFY_BYTES, IdentifyController, IdentifyNamespace, cns, write_command_sets,
    write_descriptors, write_namespace_list,
};
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::model::{
    ANA_GROUP_MAX, NAMESPACE_ID_MAX, NAMESPACES_MAX, Namespace, Subsystem, TRANSFER_BYTES_MAX_FLOOR,
};

use super::async_event::ASYNC_EVENT_REQUESTS_MAX;
use super::keep_alive::GRANULARITY_100_MS;
use super::{Controller, Kind, Plan};

/// Firmware revision that hosts show: the version of this build.
pub const FIRMWARE_REVISION: &str = env!("CARGO_PKG_VERSION");
/// Serial number of discovery controllers.
const DISCOVERY_SERIAL: &str = "WEIR-DISCOVERY";
/// Model number of discovery controllers.
const DISCOVERY_MODEL_NUMBER: &str = "Weir";
/// Abort commands at once.
const ABORTS_MAX: u8 = 4;

const INVALID_FIELD: Status = StatusCode::InvalidField.permanent();
const INVALID_NAMESPACE: Status = StatusCode::InvalidNamespace.permanent();
const _: () = assert!(TRANSFER_BYTES_MAX_FLOOR > 4096, "MDTS 0 would mean no limit");

impl Controller {
    /// Identify always transfers 4096 bytes; what they hold is decided when they are produced.
    pub(super) fn begin_identify(&self) -> Plan {
        Plan::Produce {
            length: IDENTIFY_BYTES as u32,
        }
    }

    /// Fills an Identify data structure.
    pub(super) fn produce_identify(&self, command: &Command, out: &mut [u8]) -> Result<(), Status> {
        let out: &mut [u8; IDENTIFY_BYTES] = out.try_into().map_err(|_| INVALID_FIELD)?;
        let which = command.dword(10) as u8;
        let subsystem = match &self.kind {
            Kind::Subsystem(subsystem) => subsystem,
            Kind::Discovery if which == cns::CONTROLLER => {
                self.write_controller(out, DISCOVERY_SERIAL, DISCOVERY_MODEL_NUMBER, ControllerType::Discovery);
                return Ok(());
            }
            Kind::Discovery => return Err(INVALID_FIELD),
        };
        let command_set = (command.dword(11) >> 24) as u8;
        let of_command_set = matches!(
            which,
            cns::COMMAND_SET_NAMESPACE | cns::COMMAND_SET_CONTROLLER | cns::COMMAND_SET_ACTIVE_NAMESPACES
        );
        if of_command_set && command_set != COMMAND_SET_NVM {
            return Err(INVALID_FIELD);
        }
        match which {
            cns::NAMESPACE => {
                if let Some(namespace) = find_namespace(subsystem, command)? {
                    identify(namespace).write(out);
                }
            }
            cns::INDEPENDENT_NAMESPACE => {
                if let Some(namespace) = find_namespace(subsystem, command)? {
                    identify(namespace).write_independent(out);
                }
            }
            cns::CONTROLLER => {
                self.write_controller(out, &subsystem.serial, &subsystem.model_number, ControllerType::Io);
            }
            cns::ACTIVE_NAMESPACES | cns::COMMAND_SET_ACTIVE_NAMESPACES => {
                let above = command.namespace_id();
                // FFFFFFFEh and FFFFFFFFh: no id can be above.
                if above >= u32::MAX - 1 {
                    return Err(INVALID_NAMESPACE);
                }
                let ids = subsystem.namespaces.iter().map(|namespace| namespace.id);
                write_namespace_list(out, ids.filter(|id| *id > above));
            }
            cns::NAMESPACE_DESCRIPTORS => {
                let namespace = find_namespace(subsystem, command)?.ok_or(INVALID_NAMESPACE)?;
                write_descriptors(out, namespace.uuid);
            }
            // No variable formats, no limits beside MDTS: zeroes say so.
            cns::COMMAND_SET_NAMESPACE => {
                find_namespace(subsystem, command)?;
            }
            cns::COMMAND_SET_CONTROLLER => {}
            cns::COMMAND_SETS => write_command_sets(out),
            _ => return Err(INVALID_FIELD),
        }
        Ok(())
    }

    /// Notices that this controller can send (OAES).
    pub(super) fn supported_notices(&self) -> u32 {
        match self.kind {
            Kind::Subsystem(_) => Notice::NamespaceAttributeChanged.bit() | Notice::AsymmetricAccessChanged.bit(),
            Kind::Discovery => Notice::DiscoveryLogChanged.bit(),
        }
    }

    fn write_controller(
        &self,
        out: &mut [u8; IDENTIFY_BYTES],
        serial: &str,
        model_number: &str,
        controller_type: ControllerType,
    ) {
        let limits = &self.limits;
        IdentifyController {
            serial,
            model_number,
            firmware_revision: FIRMWARE_REVISION,
            subsystem_nqn: &self.identity.subsystem_nqn,
            controller_id: self.identity.controller_id,
            controller_type,
            // At most 1 MiB: 256 pages.
            transfer_pages_log2: (limits.transfer_bytes_max() / 4096).ilog2() as u8,
            async_events: self.supported_notices(),
            abort_limit: ABORTS_MAX - 1,
            async_event_limit: ASYNC_EVENT_REQUESTS_MAX as u8 - 1,
            keep_alive_granularity: GRANULARITY_100_MS,
            queue_depth: limits.queue_depth,
            in_capsule_data_bytes: limits.in_capsule_data_bytes,
            namespace_id_max: NAMESPACE_ID_MAX,
            namespaces_max: NAMESPACES_MAX,
            ana_groups_max: ANA_GROUP_MAX,
        }
        .write(out);
    }
}

/// The namespace a command names: `None` for an id that is possible but not in use.
fn find_namespace<'a>(subsystem: &'a Subsystem, command: &Command) -> Result<Option<&'a Namespace>, Status> {
    match command.namespace_id() {
        1..=NAMESPACE_ID_MAX => Ok(subsystem.namespace(command.namespace_id())),
        _ => Err(INVALID_NAMESPACE),
    }
}

fn identify(namespace: &Namespace) -> IdentifyNamespace {
    IdentifyNamespace {
        size_blocks: namespace.size_blocks,
        block_shift: namespace.block_shift,
        ana_group: namespace.ana_group,
        read_only: namespace.read_only,
    }
}
