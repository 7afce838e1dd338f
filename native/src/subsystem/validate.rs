//! Checks of the desired state that types cannot carry. Every problem names the field, as it is written in the
//! object, and says what to change.

use std::collections::HashSet;
use std::hash::Hash;

use super::authentication::SecretRefSpec;
use super::spec::{
    AccessPolicy, AccessSpec, AddressFromSpec, BackendSpec, DesiredState, ListenerSpec, NamespaceSpec, NodeSpec,
    SubsystemSpec,
};
use crate::nvme::qualified_name::{self, DISCOVERY_NQN};

/// Most listeners.
const LISTENERS_MAX: usize = 16;
/// Most subsystems.
const SUBSYSTEMS_MAX: usize = 16;
/// Most namespaces of a subsystem.
const NAMESPACES_MAX: usize = super::model::NAMESPACES_MAX as usize;
/// Most hosts on an allow-list.
const HOSTS_MAX: usize = 256;
/// Longest path of a backend.
const PATH_BYTES_MAX: usize = 1024;
/// Problems told at once; the rest is only counted.
const PROBLEMS_SHOWN_MAX: usize = 8;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, for example `spec.listeners[0].port`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

/// Why a desired state is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecError {
    /// The text is not JSON at all.
    NotJson(String),
    /// It is JSON, but not a desired state: at least one problem.
    Invalid(Vec<Problem>),
}

impl std::fmt::Display for SpecError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotJson(message) => formatter.write_str(message),
            Self::Invalid(problems) => {
                for (index, problem) in problems.iter().take(PROBLEMS_SHOWN_MAX).enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(formatter, "{separator}{problem}")?;
                }
                match problems.len().saturating_sub(PROBLEMS_SHOWN_MAX) {
                    0 => Ok(()),
                    hidden => write!(formatter, "\n… and {hidden} more"),
                }
            }
        }
    }
}

impl std::error::Error for SpecError {}

impl DesiredState {
    /// Reads and checks a desired state.
    ///
    /// # Errors
    /// [`SpecError`]; a desired state that is returned is good to be applied, as far as can be told without looking
    /// at the machine.
    pub fn from_json(json: &[u8]) -> Result<Self, SpecError> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let state: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let field = error.path().to_string();
            let inner = error.into_inner();
            if inner.is_data() {
                let message = without_position(&inner);
                SpecError::Invalid(vec![Problem { field, message }])
            } else {
                SpecError::NotJson(format!("is not JSON: {inner}"))
            }
        })?;
        reader
            .end()
            .map_err(|error| SpecError::NotJson(format!("is not JSON: {error}")))?;
        state.spec.validate()?;
        Ok(state)
    }
}

/// Positions in the JSON mean nothing to someone who wrote YAML: the field's path says more.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&suffix).unwrap_or(&text).to_owned()
}

impl NodeSpec {
    /// Checks everything.
    ///
    /// # Errors
    /// [`SpecError::Invalid`] with every problem, in the order of the fields.
    pub fn validate(&self) -> Result<(), SpecError> {
        let mut problems = Problems::default();
        problems.node(self);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(SpecError::Invalid(problems.0))
        }
    }
}

/// Collects problems.
#[derive(Debug, Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }

    fn require(&mut self, holds: bool, field: impl Into<String>, message: impl Into<String>) {
        if !holds {
            self.add(field, message);
        }
    }

    fn count(&mut self, field: &str, count: usize, min: usize, max: usize) {
        self.require(
            (min..=max).contains(&count),
            field,
            format!("must have {min} to {max} items, not {count}"),
        );
    }

    fn unique<T: Hash + Eq>(&mut self, field: &str, key: &str, values: impl Iterator<Item = T>, advice: &str) {
        let mut seen = HashSet::new();
        for (index, value) in values.enumerate() {
            if !seen.insert(value) {
                self.add(format!("{field}[{index}]{key}"), advice);
            }
        }
    }

    fn text(&mut self, field: &str, text: &str, length_max: usize) {
        self.require(!text.is_empty(), field, "must not be empty");
        self.require(
            text.len() <= length_max,
            field,
            format!("must be at most {length_max} characters"),
        );
    }

    fn ascii(&mut self, field: &str, text: &str, length_max: usize) {
        self.text(field, text, length_max);
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        self.require(printable, field, "must be printable ASCII");
    }

    fn node(&mut self, spec: &NodeSpec) {
        self.text("spec.nodeName", &spec.node_name, 253);
        self.text("spec.target", &spec.target, 317);
        self.count("spec.listeners", spec.listeners.len(), 1, LISTENERS_MAX);
        for (index, listener) in spec.listeners.iter().enumerate() {
            self.listener(&format!("spec.listeners[{index}]"), listener);
        }
        let names = spec.listeners.iter().map(|listener| listener.name.as_str());
        self.unique(
            "spec.listeners",
            ".name",
            names,
            "is the name of another listener: give each its own",
        );
        let bindings = spec.listeners.iter().map(|listener| {
            // A fixed address says its family itself.
            let family = listener
                .address_from
                .address
                .is_none()
                .then_some(listener.address_family);
            (&listener.address_from, family, listener.port)
        });
        let advice = "another listener has the same address and port: give each its own port or address";
        self.unique("spec.listeners", ".port", bindings, advice);
        self.count("spec.subsystems", spec.subsystems.len(), 1, SUBSYSTEMS_MAX);
        for (index, subsystem) in spec.subsystems.iter().enumerate() {
            self.subsystem(&format!("spec.subsystems[{index}]"), subsystem);
        }
        let nqns = spec.subsystems.iter().map(|subsystem| subsystem.nqn.as_str());
        self.unique(
            "spec.subsystems",
            ".nqn",
            nqns,
            "is the NQN of another subsystem: give each its own",
        );
        self.uuids(spec);
        let size = spec.queues.max_io_size_bytes;
        let message = format!("must be a power of two from 4096 to 1048576, not {size}");
        self.require(size.is_power_of_two(), "spec.queues.maxIOSizeBytes", message);
    }

    /// Hosts drop a namespace whose UUID they know from another namespace.
    fn uuids(&mut self, spec: &NodeSpec) {
        let mut seen = HashSet::new();
        for (index, subsystem) in spec.subsystems.iter().enumerate() {
            for (position, namespace) in subsystem.namespaces.iter().enumerate() {
                if !seen.insert(namespace.uuid_in(&subsystem.nqn)) {
                    self.add(
                        format!("spec.subsystems[{index}].namespaces[{position}].uuid"),
                        "is the UUID of another namespace: give each its own, or leave it out",
                    );
                }
            }
        }
    }

    fn listener(&mut self, field: &str, listener: &ListenerSpec) {
        let name = listener.name.as_bytes();
        let label = !name.is_empty()
            && name.len() <= 63
            && name
                .iter()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
            && name.first() != Some(&b'-')
            && name.last() != Some(&b'-');
        self.require(
            label,
            format!("{field}.name"),
            "must be 1 to 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit",
        );
        let from = &listener.address_from;
        let from_field = format!("{field}.addressFrom");
        let AddressFromSpec {
            address,
            interface,
            rdma_device,
            cidr,
        } = from;
        let set = [
            address.is_some(),
            interface.is_some(),
            rdma_device.is_some(),
            cidr.is_some(),
        ];
        self.exactly_one(&from_field, &set, "address, interface, rdmaDevice, cidr");
        if let Some(address) = address {
            let usable = !address.is_unspecified() && !address.is_multicast();
            self.require(
                usable,
                format!("{from_field}.address"),
                "must be an address of one interface, like 10.9.0.1",
            );
        }
        if let Some(interface) = interface {
            let valid = (1..=15).contains(&interface.len())
                && !interface
                    .contains(|character: char| character == '/' || character == ':' || character.is_whitespace());
            self.require(
                valid,
                format!("{from_field}.interface"),
                "must be the name of a network interface, like eth0",
            );
        }
        if let Some(device) = rdma_device {
            let valid = (1..=63).contains(&device.len())
                && device
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
            self.require(
                valid,
                format!("{from_field}.rdmaDevice"),
                "must be the name of an RDMA device, like mlx5_0 or rxe0",
            );
        }
        let ipv4 = address
            .map(|address| address.is_ipv4())
            .or(cidr.map(|cidr| cidr.is_ipv4()));
        let agrees = ipv4.is_none_or(|ipv4| ipv4 == (listener.address_family == super::spec::AddressFamily::IPv4));
        self.require(
            agrees,
            format!("{field}.addressFamily"),
            "disagrees with the address: set addressFamily: IPv6 for an IPv6 address or network, IPv4 otherwise",
        );
    }

    fn exactly_one(&mut self, field: &str, set: &[bool], names: &str) {
        let count = set.iter().filter(|set| **set).count();
        self.require(count == 1, field, format!("set exactly one of {names}"));
    }

    fn qualified_name(&mut self, field: &str, nqn: &str) {
        if let Err(error) = qualified_name::validate(nqn) {
            self.add(field, error.to_string());
        }
        let reserved = "is the discovery subsystem's name, which every target has already: choose another";
        self.require(nqn != DISCOVERY_NQN, field, reserved);
    }

    fn subsystem(&mut self, field: &str, subsystem: &SubsystemSpec) {
        self.qualified_name(&format!("{field}.nqn"), &subsystem.nqn);
        if let Some(serial) = &subsystem.serial {
            self.ascii(&format!("{field}.serial"), serial, 20);
        }
        self.ascii(&format!("{field}.modelNumber"), &subsystem.model_number, 40);
        self.access(&format!("{field}.access"), &subsystem.access);
        let ids = subsystem.controller_ids;
        let message = format!("first ({}) must not be greater than last ({})", ids.first, ids.last);
        self.require(ids.first <= ids.last, format!("{field}.controllerIDs"), message);
        let namespaces = format!("{field}.namespaces");
        self.count(&namespaces, subsystem.namespaces.len(), 0, NAMESPACES_MAX);
        for (index, namespace) in subsystem.namespaces.iter().enumerate() {
            self.namespace(&format!("{namespaces}[{index}]"), namespace);
        }
        let ids = subsystem.namespaces.iter().map(|namespace| namespace.nsid);
        self.unique(
            &namespaces,
            ".nsid",
            ids,
            "is the id of another namespace of the subsystem: give each its own",
        );
    }

    fn access(&mut self, field: &str, access: &AccessSpec) {
        let hosts = format!("{field}.hosts");
        self.count(&hosts, access.hosts.len(), 0, HOSTS_MAX);
        for (index, host) in access.hosts.iter().enumerate() {
            self.qualified_name(&format!("{hosts}[{index}].nqn"), &host.nqn);
            if let Some(dhchap) = &host.dhchap {
                self.secret(&format!("{hosts}[{index}].dhchap.secretRef"), &dhchap.secret_ref);
            }
        }
        let nqns = access.hosts.iter().map(|host| host.nqn.as_str());
        self.unique(&hosts, ".nqn", nqns, "is on the list already: remove it");
        let effective = access.policy == AccessPolicy::AllowList || access.hosts.is_empty();
        self.require(
            effective,
            hosts,
            "has no effect with policy AnyHost: remove hosts, or set policy: AllowList",
        );
    }

    /// The name becomes a part of a path: it must not climb out of it.
    fn secret(&mut self, field: &str, secret: &SecretRefSpec) {
        let name = &secret.name;
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        let usable = (1..=253).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
        let message = "must be the name of a Secret: 1 to 253 lower-case letters, digits, dashes and dots";
        self.require(usable, format!("{field}.name"), message);
    }

    fn namespace(&mut self, field: &str, namespace: &NamespaceSpec) {
        let uuid = format!("{field}.uuid");
        self.require(
            namespace.uuid.is_none_or(|uuid| !uuid.is_nil()),
            uuid,
            "must not be all zeroes",
        );
        let field = format!("{field}.backend");
        let BackendSpec {
            block_device,
            file,
            memory,
            null,
        } = &namespace.backend;
        let set = [block_device.is_some(), file.is_some(), memory.is_some(), null.is_some()];
        self.exactly_one(&field, &set, "blockDevice, file, memory, null");
        if let Some(device) = block_device {
            let path = format!("{field}.blockDevice.path");
            let message = "must be a path below /dev without empty or .. parts, like /dev/disk/by-id/nvme-…";
            self.require(
                is_clean_path(&device.path) && device.path.starts_with("/dev/"),
                path,
                message,
            );
        }
        if let Some(file) = file {
            let path = format!("{field}.file.path");
            let message = "must be an absolute path without empty or .. parts, like /var/lib/weir/fast.img";
            self.require(is_clean_path(&file.path), path, message);
        }
    }
}

/// An absolute path in printable ASCII that cannot climb out of the directory it names.
fn is_clean_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX
        && path.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(|part| !part.is_empty() && part != ".."))
}

#[cfg(test)]
mod tests;
