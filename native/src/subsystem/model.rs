//! The desired state as the core serves it: pure data, immutable once published, shared by all threads as
//! `Arc<Model>`. Built by the control thread from the node's spec and the facts of the opened backings.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::authentication::Requirement;
use crate::backend::BackingId;

/// Everything that is served, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Counts published models; never 0. Also the base of the discovery generation counter.
    pub revision: u64,
    /// Subsystems by ascending NQN.
    pub subsystems: Vec<Arc<Subsystem>>,
    /// Listeners that serve now, with their resolved addresses, by ascending name.
    pub listeners: Vec<Listener>,
    /// Queue limits.
    pub limits: QueueLimits,
    /// Shortest keep-alive timeout granted, in milliseconds.
    pub keep_alive_minimum_ms: u32,
    /// How long what is taken down may take before it is quarantined and reported.
    pub drain_timeout: Duration,
    /// Whether hosts may use the paths through this node.
    pub paths: Paths,
}

/// Whether hosts may use the paths through this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// They may.
    Accessible,
    /// Every namespace reports ANA inaccessible: hosts use their other paths, or wait. They may connect.
    Inaccessible,
    /// The same, and nobody connects any more: the process leaves.
    Leaving,
}

impl Paths {
    /// Whether I/O is served.
    #[must_use]
    pub const fn accessible(self) -> bool {
        matches!(self, Self::Accessible)
    }
}

/// A listener's resolved address, for the discovery log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Name in the desired state.
    pub name: Arc<str>,
    /// Address and port hosts connect to.
    pub address: SocketAddr,
}

/// Limits that hosts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most I/O queues of a controller.
    pub io_queues_max: u16,
    /// Entries of an I/O queue (CAP.MQES + 1).
    pub queue_depth: u16,
    /// In-capsule data of I/O queues, bytes.
    pub in_capsule_data_bytes: u32,
    /// Largest transfer (MDTS) in bytes: a power of two times 4096.
    pub io_size_max_bytes: u32,
}

/// An NVM subsystem.
#[derive(Clone, PartialEq, Eq)]
pub struct Subsystem {
    /// NQN.
    pub nqn: String,
    /// Serial number, at most 20 ASCII characters.
    pub serial: String,
    /// Model number, at most 40 ASCII characters.
    pub model_number: String,
    /// Who may connect.
    pub access: Access,
    /// Hosts that must authenticate themselves, by ascending NQN.
    pub authentication: Vec<(String, Requirement)>,
    /// First and last controller id this node may give out (disjoint between the nodes of a shared subsystem).
    pub controller_ids: (u16, u16),
    /// Namespaces by ascending id.
    pub namespaces: Vec<Namespace>,
}

/// By its name and what is in it: models and controllers show it again and again.
impl fmt::Debug for Subsystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Subsystem");
        shown.field("nqn", &self.nqn).field("namespaces", &self.namespaces);
        shown.finish_non_exhaustive()
    }
}

/// Host access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Only these host NQNs (sorted).
    AllowList(Vec<String>),
    /// Anyone.
    AnyHost,
}

/// A namespace that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Namespace id, 1…
    pub id: u32,
    /// UUID; derived from the desired state, never from a process's life.
    pub uuid: Uuid,
    /// ANA group.
    pub ana_group: u32,
    /// Writes are refused.
    pub read_only: bool,
    /// Where its data is.
    pub backing: BackingId,
    /// Capacity in logical blocks.
    pub size_blocks: u64,
    /// Logical block size as a power of two.
    pub block_shift: u8,
    /// Flush does real work.
    pub write_cache: bool,
}

impl Model {
    /// The subsystem with this NQN.
    #[must_use]
    pub fn subsystem(&self, nqn: &str) -> Option<&Arc<Subsystem>> {
        let index = self
            .subsystems
            .binary_search_by(|subsystem| subsystem.nqn.as_str().cmp(nqn))
            .ok()?;
        self.subsystems.get(index)
    }

    /// Subsystems that this host may connect to, by ascending NQN.
    pub fn subsystems_of<'a>(&'a self, host_nqn: &'a str) -> impl Iterator<Item = &'a Arc<Subsystem>> + Clone + 'a {
        self.subsystems
            .iter()
            .filter(move |subsystem| subsystem.access.allows(host_nqn))
    }
}

impl Subsystem {
    /// How this host must authenticate itself, if it must.
    #[must_use]
    pub fn requirement(&self, host_nqn: &str) -> Option<&Requirement> {
        let found = self
            .authentication
            .binary_search_by(|(host, _)| host.as_str().cmp(host_nqn));
        self.authentication.get(found.ok()?).map(|(_, requirement)| requirement)
    }

    /// The namespace with this id.
    #[must_use]
    pub fn namespace(&self, id: u32) -> Option<&Namespace> {
        let index = self
            .namespaces
            .binary_search_by_key(&id, |namespace| namespace.id)
            .ok()?;
        self.namespaces.get(index)
    }
}

impl Access {
    /// Whether this host may connect. NQNs compare by byte.
    #[must_use]
    pub fn allows(&self, host_nqn: &str) -> bool {
        match self {
            Self::AllowList(hosts) => hosts.binary_search_by(|host| host.as_str().cmp(host_nqn)).is_ok(),
            Self::AnyHost => true,
        }
    }
}

/// Largest namespace id (NN).
pub const NAMESPACE_ID_MAX: u32 = 65535;
/// Most namespaces of a subsystem (MNAN).
pub const NAMESPACES_MAX: u32 = 1024;
/// Largest ANA group id (ANAGRPMAX).
pub const ANA_GROUP_MAX: u32 = 128;

/// Smallest limit on transfers that hosts are told. MDTS cannot express less than 8 KiB (0 means no limit), and the
/// longest ANA log must fit one transfer. It is also the size of a small data buffer, so such a transfer needs no
/// large one.
pub const TRANSFER_BYTES_MAX_FLOOR: u32 = 16 * 1024;

impl QueueLimits {
    /// Largest transfer in bytes that hosts are told and held to.
    #[must_use]
    pub fn transfer_bytes_max(&self) -> u32 {
        self.io_size_max_bytes.max(TRANSFER_BYTES_MAX_FLOOR)
    }
}
