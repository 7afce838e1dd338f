//! Identifiers derived from the desired state, and the parts of the model that follow from it alone. Hosts refuse a
//! namespace whose UUID changed across a restart: nothing here depends on a process's life.

use std::net::SocketAddr;
use std::sync::Arc;

use uuid::Uuid;

use super::authentication::LoadedKeys;
use super::model::{Access, Listener, Namespace, QueueLimits, Subsystem};
use super::spec::{AccessPolicy, AccessSpec, BackendSpec, ListenerSpec, NamespaceSpec, NodeSpec, SubsystemSpec};
use crate::authentication::Requirement;
use crate::backend::{BackingFacts, BackingId, BackingSpec};

/// Name space of derived identifiers (UUID version 5); the schema of the API derives with the same one.
const DERIVATION_NAMESPACE: Uuid = Uuid::from_u128(0x7b2f_1c1e_6f5e_5c0a_9a52_0d5e_1b2a_4c77);

/// UUID of a namespace that names none: a function of NQN and namespace id.
#[must_use]
pub fn derived_uuid(nqn: &str, nsid: u32) -> Uuid {
    Uuid::new_v5(&DERIVATION_NAMESPACE, format!("{nqn}/{nsid}").as_bytes())
}

/// Serial number of a subsystem that names none: 20 upper-case hexadecimal digits, a function of the NQN. Equal on
/// all nodes of a shared subsystem, as hosts demand.
#[must_use]
pub fn derived_serial(nqn: &str) -> String {
    let mut digits = format!("{:X}", Uuid::new_v5(&DERIVATION_NAMESPACE, nqn.as_bytes()).simple());
    digits.truncate(20);
    digits
}

impl NamespaceSpec {
    /// The namespace's UUID in the subsystem with this NQN.
    #[must_use]
    pub fn uuid_in(&self, nqn: &str) -> Uuid {
        self.uuid.unwrap_or_else(|| derived_uuid(nqn, self.nsid))
    }

    /// What to open for it; `None` when no backend is set, which validation refuses.
    #[must_use]
    pub fn backing_spec(&self) -> Option<BackingSpec> {
        let read_only = self.read_only;
        match &self.backend {
            BackendSpec {
                block_device: Some(device),
                ..
            } => Some(BackingSpec::BlockDevice {
                path: device.path.clone(),
                read_only,
                expected_size_bytes: device.expected_size_bytes,
            }),
            BackendSpec { file: Some(file), .. } => Some(BackingSpec::File {
                path: file.path.clone(),
                size_bytes: file.size_bytes,
                read_only,
            }),
            BackendSpec {
                memory: Some(memory), ..
            } => Some(BackingSpec::Memory {
                size_bytes: memory.size_bytes,
            }),
            BackendSpec { null: Some(null), .. } => Some(BackingSpec::Null {
                size_bytes: null.size_bytes,
            }),
            BackendSpec {
                block_device: None,
                file: None,
                memory: None,
                null: None,
            } => None,
        }
    }

    /// The namespace as it is served from an open backing.
    #[must_use]
    pub fn served_from(&self, nqn: &str, backing: BackingId, facts: &BackingFacts) -> Namespace {
        Namespace {
            id: self.nsid,
            uuid: self.uuid_in(nqn),
            ana_group: self.ana_group,
            read_only: self.read_only || facts.read_only,
            backing,
            size_blocks: facts.size_bytes >> facts.block_shift,
            block_shift: facts.block_shift,
            write_cache: facts.write_cache,
        }
    }
}

impl SubsystemSpec {
    /// The subsystem with the namespaces that can be served now, in any order.
    #[must_use]
    pub fn served_with(&self, mut namespaces: Vec<Namespace>) -> Subsystem {
        namespaces.sort_unstable_by_key(|namespace| namespace.id);
        Subsystem {
            nqn: self.nqn.clone(),
            serial: self.serial.clone().unwrap_or_else(|| derived_serial(&self.nqn)),
            model_number: self.model_number.clone(),
            access: self.access.to_access(),
            authentication: self.access.requirements(),
            controller_ids: (self.controller_ids.first, self.controller_ids.last),
            namespaces,
        }
    }
}

impl AccessSpec {
    /// Hosts that must authenticate themselves. One whose keys were not loaded is refused.
    fn requirements(&self) -> Vec<(String, Requirement)> {
        let required = self.hosts.iter().filter_map(|host| {
            let requirement = match &host.dhchap.as_ref()?.keys {
                LoadedKeys::Loaded(credentials) => Requirement::Credentials(Arc::clone(credentials)),
                LoadedKeys::NotLoaded | LoadedKeys::Unusable(_) => Requirement::NoUsableKey,
            };
            Some((host.nqn.clone(), requirement))
        });
        let mut required: Vec<_> = required.collect();
        required.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        required
    }

    fn to_access(&self) -> Access {
        match self.policy {
            AccessPolicy::AnyHost => Access::AnyHost,
            AccessPolicy::AllowList => {
                let mut hosts: Vec<String> = self.hosts.iter().map(|host| host.nqn.clone()).collect();
                hosts.sort_unstable();
                Access::AllowList(hosts)
            }
        }
    }
}

impl ListenerSpec {
    /// The listener at its resolved address.
    #[must_use]
    pub fn resolved(&self, address: SocketAddr) -> Listener {
        Listener {
            name: Arc::from(self.name.as_str()),
            address,
        }
    }
}

impl NodeSpec {
    /// Limits that hosts are told.
    #[must_use]
    pub fn queue_limits(&self) -> QueueLimits {
        QueueLimits {
            io_queues_max: self.queues.max_io_queues,
            queue_depth: self.queues.queue_depth,
            // At most 16384.
            in_capsule_data_bytes: self.queues.in_capsule_data_size_bytes as u32,
            io_size_max_bytes: self.queues.max_io_size_bytes,
        }
    }

    /// Shortest keep-alive timeout granted, in milliseconds.
    #[must_use]
    pub fn keep_alive_minimum_ms(&self) -> u32 {
        self.keep_alive.minimum_seconds.saturating_mul(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_uuids_equal_those_of_the_api() {
        // The same value stands in the tests of the API's schema.
        assert_eq!(
            derived_uuid("nqn.2026-11.dev.weir:fast", 1).to_string(),
            "4cb1ef5d-b672-5cb5-8e07-dc7859254df1"
        );
        assert_ne!(
            derived_uuid("nqn.2026-11.dev.weir:fast", 2),
            derived_uuid("nqn.2026-11.dev.weir:fast", 1)
        );
    }

    #[test]
    fn derived_serials_are_20_digits_and_a_function_of_the_nqn() {
        let serial = derived_serial("nqn.2026-11.dev.weir:fast");
        assert_eq!(serial.len(), 20);
        assert_eq!(serial, derived_serial("nqn.2026-11.dev.weir:fast"));
        assert_ne!(serial, derived_serial("nqn.2026-11.dev.weir:slow"));
    }
}
