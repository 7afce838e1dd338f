//! The desired state of one node as it arrives: the spec of a `NvmeofTargetNode`, in JSON. Field for field what the
//! zod schema of that object says; unknown fields are refused, missing ones have the same defaults.
//!
//! Reading checks types, bounds of numbers and defaults; [`super::validate`] checks the rest.

use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use uuid::Uuid;

use super::authentication::DhchapSpec;
use super::cidr::Cidr;
use super::integer::{integer, multiple};

/// A generation of the desired state, as `weir_apply` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DesiredState {
    /// `metadata.generation` of the object, or a count of file versions in standalone mode.
    pub generation: u64,
    /// The desired state.
    pub spec: NodeSpec,
}

/// Desired state of one node.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSpec {
    /// Node that serves this.
    pub node_name: String,
    /// `<namespace>/<name>` of the target: label of metrics and logs.
    pub target: String,
    /// Keep serving what is served; changes wait.
    #[serde(default)]
    pub paused: bool,
    /// Where hosts reach the target, 1 to 16, by name.
    pub listeners: Vec<ListenerSpec>,
    /// Subsystems, 1 to 16, by NQN.
    pub subsystems: Vec<SubsystemSpec>,
    /// Queue limits.
    #[serde(default)]
    pub queues: QueuesSpec,
    /// Keep-alive limits.
    #[serde(default)]
    pub keep_alive: KeepAliveSpec,
    /// Behaviour when a link goes down and comes back.
    #[serde(default)]
    pub link: LinkSpec,
    /// How pollers wait for work.
    #[serde(default)]
    pub polling: PollingSpec,
    /// Memory registered per listener and poller.
    #[serde(default)]
    pub buffers: BuffersSpec,
    /// Whether hosts may use the paths through this node.
    #[serde(default)]
    pub paths: PathsSpec,
}

/// Whether hosts may use the paths through this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PathsSpec {
    /// Whether they may.
    #[serde(default)]
    pub state: PathsState,
    /// Pod that this is meant for. Whoever hands the state over looks at it: the core does not know its pod.
    pub of_pod: Option<String>,
}

/// Whether hosts may use the paths through this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum PathsState {
    /// They may.
    #[default]
    Accessible,
    /// Namespaces report ANA inaccessible: hosts use other paths, or wait.
    Inaccessible,
}

/// By whose it is: all of it is the object that the user wrote.
impl fmt::Debug for NodeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NodeSpec");
        shown.field("node_name", &self.node_name).field("target", &self.target);
        shown.finish_non_exhaustive()
    }
}

/// An address and port on which hosts reach the target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ListenerSpec {
    /// Name, a DNS label.
    pub name: String,
    /// Where the address comes from.
    pub address_from: AddressFromSpec,
    /// Family of the address.
    #[serde(default)]
    pub address_family: AddressFamily,
    /// RDMA port, 1 to 65535.
    #[serde(default = "default_port", deserialize_with = "integer::<_, u16, 1, 65535>")]
    pub port: u16,
}

/// Where a listener's address comes from: exactly one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AddressFromSpec {
    /// This IP address.
    pub address: Option<IpAddr>,
    /// First usable address of this network interface.
    pub interface: Option<String>,
    /// First usable address of this RDMA device's network interface.
    pub rdma_device: Option<String>,
    /// The one address of the node in this network.
    pub cidr: Option<Cidr>,
}

/// Address family of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
pub enum AddressFamily {
    /// IPv4.
    #[default]
    IPv4,
    /// IPv6.
    IPv6,
}

impl AddressFamily {
    /// Whether the address is of this family.
    #[must_use]
    pub const fn contains(self, address: IpAddr) -> bool {
        matches!(
            (self, address),
            (Self::IPv4, IpAddr::V4(_)) | (Self::IPv6, IpAddr::V6(_))
        )
    }
}

/// An NVM subsystem.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SubsystemSpec {
    /// NQN.
    pub nqn: String,
    /// Serial number, 1 to 20 ASCII characters; derived from the NQN when absent.
    pub serial: Option<String>,
    /// Model number, 1 to 40 ASCII characters.
    #[serde(default = "default_model_number")]
    pub model_number: String,
    /// Who may connect.
    #[serde(default)]
    pub access: AccessSpec,
    /// Controller ids that this node may give out.
    #[serde(rename = "controllerIDs", default)]
    pub controller_ids: ControllerIdsSpec,
    /// Namespaces, 0 to 1024, by nsid.
    #[serde(default)]
    pub namespaces: Vec<NamespaceSpec>,
}

/// Which hosts may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessSpec {
    /// Allow-list or anyone.
    #[serde(default)]
    pub policy: AccessPolicy,
    /// Hosts of the allow-list, 0 to 256; none when empty.
    #[serde(default)]
    pub hosts: Vec<HostSpec>,
}

/// Access policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum AccessPolicy {
    /// Only the hosts on the list.
    #[default]
    AllowList,
    /// Every host that reaches a listener.
    AnyHost,
}

/// A host that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HostSpec {
    /// Host NQN.
    pub nqn: String,
    /// It must authenticate itself.
    pub dhchap: Option<DhchapSpec>,
}

/// Controller ids that a node may give out, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ControllerIdsSpec {
    /// First id, 1 to 65519 (FFEFh; ids above are reserved).
    #[serde(deserialize_with = "integer::<_, u16, 1, 65519>")]
    pub first: u16,
    /// Last id, 1 to 65519.
    #[serde(deserialize_with = "integer::<_, u16, 1, 65519>")]
    pub last: u16,
}

impl Default for ControllerIdsSpec {
    fn default() -> Self {
        Self { first: 1, last: 65519 }
    }
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NamespaceSpec {
    /// Namespace id, 1 to 65535.
    #[serde(deserialize_with = "integer::<_, u32, 1, 65535>")]
    pub nsid: u32,
    /// UUID; derived from NQN and nsid when absent.
    pub uuid: Option<Uuid>,
    /// Writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// ANA group, 1 to 128.
    #[serde(default = "default_ana_group", deserialize_with = "integer::<_, u32, 1, 128>")]
    pub ana_group: u32,
    /// Where the data is.
    pub backend: BackendSpec,
}

/// Where a namespace's data is: exactly one field is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendSpec {
    /// A block device of the node.
    pub block_device: Option<BlockDeviceSpec>,
    /// A file: created sparse if absent, never truncated.
    pub file: Option<FileSpec>,
    /// Volatile memory of the process.
    pub memory: Option<CapacitySpec>,
    /// Discards writes, reads zeroes: for benchmarks.
    pub null: Option<CapacitySpec>,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BlockDeviceSpec {
    /// Path below `/dev`.
    pub path: String,
    /// Capacity that whoever provides the device says it has by now. A change of it has the device's own read anew,
    /// which is what hosts see.
    pub expected_size_bytes: Option<u64>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FileSpec {
    /// Absolute path.
    pub path: String,
    /// Capacity in bytes.
    #[serde(deserialize_with = "multiple::<_, 4096, CAPACITY_BYTES_MAX, 4096>")]
    pub size_bytes: u64,
}

/// A capacity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CapacitySpec {
    /// Capacity in bytes.
    #[serde(deserialize_with = "multiple::<_, 4096, CAPACITY_BYTES_MAX, 4096>")]
    pub size_bytes: u64,
}

/// Largest capacity of a namespace, 4 PiB: beyond any device, and exact in every number type on the way.
pub const CAPACITY_BYTES_MAX: u64 = 1 << 52;

/// Queue limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct QueuesSpec {
    /// Most I/O queues of a controller, 1 to 128.
    #[serde(rename = "maxIOQueues", deserialize_with = "integer::<_, u16, 1, 128>")]
    pub max_io_queues: u16,
    /// Entries of an I/O queue, 16 to 1024.
    #[serde(deserialize_with = "integer::<_, u16, 16, 1024>")]
    pub queue_depth: u16,
    /// In-capsule data of I/O queues, 0 to 16384, a multiple of 16.
    #[serde(deserialize_with = "multiple::<_, 0, 16384, 16>")]
    pub in_capsule_data_size_bytes: u64,
    /// Largest transfer, a power of two from 4096 to 1048576.
    #[serde(rename = "maxIOSizeBytes", deserialize_with = "integer::<_, u32, 4096, 1048576>")]
    pub max_io_size_bytes: u32,
}

impl Default for QueuesSpec {
    fn default() -> Self {
        Self {
            max_io_queues: 16,
            queue_depth: 128,
            in_capsule_data_size_bytes: 4096,
            max_io_size_bytes: 131_072,
        }
    }
}

/// Keep-alive limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct KeepAliveSpec {
    /// Shortest keep-alive timeout granted, 1 to 300 seconds.
    #[serde(deserialize_with = "integer::<_, u32, 1, 300>")]
    pub minimum_seconds: u32,
}

impl Default for KeepAliveSpec {
    fn default() -> Self {
        Self { minimum_seconds: 5 }
    }
}

/// Behaviour when a link goes down and comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct LinkSpec {
    /// Shorter flaps are ridden through, 0 to 10000 ms.
    #[serde(deserialize_with = "integer::<_, u32, 0, 10000>")]
    pub hold_milliseconds: u32,
    /// Longest wait for I/O in flight when a port drains, 1 to 300 s.
    #[serde(deserialize_with = "integer::<_, u32, 1, 300>")]
    pub drain_timeout_seconds: u32,
    /// How long a link must be up before the port serves again, 0 to 60000 ms.
    #[serde(deserialize_with = "integer::<_, u32, 0, 60000>")]
    pub up_stabilization_milliseconds: u32,
    /// Registration of memory after link-up.
    pub memory_registration: MemoryRegistrationSpec,
    /// Whether a soft RDMA device is deleted and added when that is the only cure.
    pub recreate_soft_device: RecreateSoftDevice,
}

/// When a soft RDMA device is deleted and added, which takes a restart of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum RecreateSoftDevice {
    /// Never: a person does it.
    #[default]
    Never,
    /// When its management queue pair is dead.
    WhenManagementQueuePairDead,
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self {
            hold_milliseconds: 500,
            drain_timeout_seconds: 15,
            up_stabilization_milliseconds: 200,
            memory_registration: MemoryRegistrationSpec::default(),
            recreate_soft_device: RecreateSoftDevice::default(),
        }
    }
}

/// Registration of memory with the RDMA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct MemoryRegistrationSpec {
    /// Longest pause between two attempts, 1 to 300 s.
    #[serde(deserialize_with = "integer::<_, u32, 1, 300>")]
    pub max_backoff_seconds: u32,
    /// Serve with fewer buffers when only part could be registered.
    pub allow_degraded: bool,
}

impl Default for MemoryRegistrationSpec {
    fn default() -> Self {
        Self {
            max_backoff_seconds: 3,
            allow_degraded: true,
        }
    }
}

/// How pollers wait for work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PollingSpec {
    /// Mode.
    pub mode: PollingMode,
    /// Poller threads, 1 to 64.
    #[serde(deserialize_with = "integer::<_, u16, 1, 64>")]
    pub cores: u16,
}

impl Default for PollingSpec {
    fn default() -> Self {
        Self {
            mode: PollingMode::default(),
            cores: 1,
        }
    }
}

/// Polling mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum PollingMode {
    /// Never sleeps.
    Busy,
    /// Polls under load, sleeps when idle.
    #[default]
    Adaptive,
    /// Always sleeps until something happens.
    Event,
}

/// Memory registered with the RDMA device, for each listener and poller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct BuffersSpec {
    /// Data buffers of 16 KiB, 16 to 65536.
    #[serde(deserialize_with = "integer::<_, u32, 16, 65536>")]
    pub small_count: u32,
    /// Data buffers of the largest transfer, 4 to 8192.
    #[serde(deserialize_with = "integer::<_, u32, 4, 8192>")]
    pub large_count: u32,
    /// Receive buffers, 64 to 32768.
    #[serde(deserialize_with = "integer::<_, u32, 64, 32768>")]
    pub receive_count: u32,
}

impl Default for BuffersSpec {
    fn default() -> Self {
        Self {
            small_count: 512,
            large_count: 64,
            receive_count: 1024,
        }
    }
}

/// IANA's port for NVMe over RDMA.
const fn default_port() -> u16 {
    4420
}

const fn default_ana_group() -> u32 {
    1
}

fn default_model_number() -> String {
    "Weir".to_owned()
}
