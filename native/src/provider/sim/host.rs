//! The NVMe host's side, played by the test.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::capsule::Capsule;
use super::connection::{Connection, Direction, HostState, MessageKind, TargetState};
use super::oracle::ViolationKind;
use super::world::{ObjectKind, SimWorld, World};

/// A connection as the host knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostConnection(u64);

/// Registered memory of the host, for SGL descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRegion {
    /// Virtual address on the host.
    pub address: u64,
    /// Remote key.
    pub key: u32,
    /// Bytes.
    pub length: usize,
}

/// A capsule the host received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostResponse {
    /// Its bytes, normally one 16-byte completion.
    pub bytes: Vec<u8>,
    /// Key that came with SEND_WITH_INV.
    pub invalidated: Option<u32>,
}

/// Where a connect stands, from the host's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectOutcome {
    /// No answer yet.
    Pending,
    /// Connected; the private data of the answer.
    Accepted(Vec<u8>),
    /// Rejected; the private data, empty when nothing listens there.
    Rejected(Vec<u8>),
    /// Was connected, and either side disconnected.
    Disconnected,
    /// The host gave up waiting.
    GaveUp,
    /// The host's queue pair failed.
    Failed(String),
}

#[derive(Debug)]
struct HostMemoryRegion {
    address: u64,
    bytes: Vec<u8>,
    valid: bool,
}

#[derive(Debug)]
pub(super) struct HostMemory {
    regions: BTreeMap<u32, HostMemoryRegion>,
    next_address: u64,
}

impl HostMemory {
    /// The bytes, if the key is valid and covers them.
    pub(super) fn slice(&mut self, key: u32, address: u64, length: usize) -> Option<&mut [u8]> {
        let region = self.regions.get_mut(&key).filter(|region| region.valid)?;
        let start = usize::try_from(address.checked_sub(region.address)?).ok()?;
        region.bytes.get_mut(start..start.checked_add(length)?)
    }

    /// False if the key is not valid.
    pub(super) fn invalidate(&mut self, key: u32) -> bool {
        match self.regions.get_mut(&key) {
            Some(region) if region.valid => {
                region.valid = false;
                true
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
pub(super) struct Host {
    address: IpAddr,
    last_port: u16,
    pub(super) memory: HostMemory,
}

impl Host {
    pub(super) fn new(address: IpAddr) -> Self {
        Self {
            address,
            last_port: 32_768,
            memory: HostMemory {
                regions: BTreeMap::new(),
                next_address: 0x7f00_0000_0000,
            },
        }
    }
}

impl World {
    /// A capsule of the target arrives.
    pub(super) fn host_receives(&mut self, connection: u64, bytes: Vec<u8>, invalidated: Option<u32>) {
        let response = HostResponse { bytes, invalidated };
        let key = connection;
        let connection = self.connection_mut(key);
        connection.responses.push_back(response);
        match connection.receives_posted.checked_sub(1) {
            Some(left) => connection.receives_posted = left,
            None => {
                let message = format!("the host of connection {key} got more capsules than it sent");
                self.oracle.report(ViolationKind::UnexpectedResponse, message);
            }
        }
    }

    /// The host's queue pair fails; it says nothing through the connection manager.
    pub(super) fn host_queue_pair_failed(&mut self, connection: u64, reason: &str) {
        let connection = self.connection_mut(connection);
        if connection.host_state == HostState::Connected {
            connection.host_state = HostState::Failed(reason.to_owned());
        }
    }
}

/// The test's handle on one host.
#[derive(Debug, Clone)]
pub struct SimHost {
    world: SimWorld,
    key: u64,
}

impl SimHost {
    pub(super) fn new(world: SimWorld, key: u64) -> Self {
        Self { world, key }
    }

    fn with<R>(&self, action: impl FnOnce(&mut Host) -> R) -> R {
        self.world
            .with(|world| action(world.hosts.get_mut(&self.key).expect("hosts are never removed")))
    }

    fn with_connection<R>(&self, connection: HostConnection, action: impl FnOnce(&mut Connection) -> R) -> R {
        self.world.with(|world| action(world.connection_mut(connection.0)))
    }

    /// Sends a connect request with room for 16 RDMA READs in both directions.
    pub fn connect(&self, target: SocketAddr, private_data: &[u8]) -> HostConnection {
        self.connect_with_depths(target, private_data, 16, 16)
    }

    /// Sends a connect request. `responder_resources`: RDMA READs the target may have outstanding at this host;
    /// `initiator_depth`: those the host wants to issue.
    pub fn connect_with_depths(
        &self,
        target: SocketAddr,
        private_data: &[u8],
        responder_resources: u8,
        initiator_depth: u8,
    ) -> HostConnection {
        self.world.with(|world| {
            let host = world.hosts.get_mut(&self.key).expect("hosts are never removed");
            host.last_port = host.last_port.wrapping_add(1).max(32_768);
            let source = SocketAddr::new(host.address, host.last_port);
            let key = world.next_key(ObjectKind::Connection);
            let connection = Connection {
                host: self.key,
                initiator: None,
                source,
                target,
                device: 0,
                request_data: private_data.to_vec(),
                host_initiator_depth: initiator_depth,
                host_responder_resources: responder_resources,
                listener: None,
                token: 0,
                identifier_held: false,
                target_state: TargetState::Unknown,
                host_state: HostState::Connecting,
                answer_data: Vec::new(),
                queue_pair: None,
                capsules: VecDeque::new(),
                receives_posted: 0,
                responses: VecDeque::new(),
                host_forgot_it: false,
            };
            world.connections.insert(key, connection);
            world.enqueue(key, Direction::ToTarget, MessageKind::Request);
            HostConnection(key)
        })
    }

    /// Where the connect stands.
    #[must_use]
    pub fn outcome(&self, connection: HostConnection) -> ConnectOutcome {
        self.with_connection(connection, |one| one.outcome())
    }

    /// Whether the connection is up from the host's side.
    #[must_use]
    pub fn is_connected(&self, connection: HostConnection) -> bool {
        self.with_connection(connection, |one| one.host_state == HostState::Connected)
    }

    /// Stops waiting for an answer, as a host does after its connection manager's timeout (3 s).
    pub fn give_up(&self, connection: HostConnection) {
        self.world.with(|world| {
            if world.connection_mut(connection.0).host_state != HostState::Connecting {
                return;
            }
            world.connection_mut(connection.0).host_state = HostState::GaveUp;
            let arrived = world.connections[&connection.0].target_state != TargetState::Unknown;
            if arrived {
                world.enqueue(connection.0, Direction::ToTarget, MessageKind::Reject(Vec::new()));
            } else {
                world.cancel_messages(connection.0);
            }
        });
    }

    /// Sends a capsule. It arrives once the connection is up, the target has a receive, and the link carries it; before
    /// all that it waits and the host retries for ever.
    pub fn send(&self, connection: HostConnection, capsule: &[u8]) {
        self.world.with(|world| {
            let age = world.next_age();
            let connection = world.connection_mut(connection.0);
            connection.capsules.push_back((age, Capsule::new(capsule)));
            connection.receives_posted += 1;
        });
    }

    /// Capsules not yet delivered.
    #[must_use]
    pub fn capsules_waiting(&self, connection: HostConnection) -> usize {
        self.with_connection(connection, |one| one.capsules.len())
    }

    /// Number of the target's queue pair for this connection, for faults aimed at it.
    #[must_use]
    pub fn queue_pair_number(&self, connection: HostConnection) -> Option<u32> {
        self.with_connection(connection, |one| one.queue_pair)
    }

    /// Takes the capsules received since the last call.
    pub fn take_responses(&self, connection: HostConnection) -> Vec<HostResponse> {
        self.with_connection(connection, |one| one.responses.drain(..).collect())
    }

    /// Disconnects; the target gets `Disconnected`.
    pub fn disconnect(&self, connection: HostConnection) {
        self.world.with(|world| {
            let one = world.connection_mut(connection.0);
            if matches!(one.host_state, HostState::Connected | HostState::Failed(_)) {
                one.host_state = HostState::Disconnecting;
                world.enqueue(connection.0, Direction::ToTarget, MessageKind::DisconnectRequest);
            }
        });
    }

    /// The host dies without a word.
    pub fn crash(&self, connection: HostConnection) {
        self.world
            .with(|world| world.host_queue_pair_failed(connection.0, "crashed"));
    }

    /// Gives a connection up for good: it must not be named again. Without this a world remembers every connection there
    /// ever was.
    pub fn forget(&self, connection: HostConnection) {
        self.with_connection(connection, |one| one.host_forgot_it = true);
    }

    /// Registers `length` zero bytes under a fresh key.
    pub fn register(&self, length: usize) -> HostRegion {
        self.register_bytes(&vec![0; length])
    }

    /// Registers a copy of these bytes under a fresh key.
    pub fn register_bytes(&self, bytes: &[u8]) -> HostRegion {
        self.world.with(|world| {
            let key = world.random.next() as u32 | 1;
            let host = world.hosts.get_mut(&self.key).expect("hosts are never removed");
            let address = host.memory.next_address;
            host.memory.next_address += (bytes.len() as u64).next_multiple_of(4096) + 4096;
            let region = HostMemoryRegion {
                address,
                bytes: bytes.to_vec(),
                valid: true,
            };
            host.memory.regions.insert(key, region);
            HostRegion {
                address,
                key,
                length: bytes.len(),
            }
        })
    }

    /// The region's bytes now, also after its key was invalidated.
    ///
    /// # Panics
    /// If the region was released.
    #[must_use]
    pub fn read(&self, region: HostRegion) -> Vec<u8> {
        self.with(|host| host.memory.regions[&region.key].bytes.clone())
    }

    /// Overwrites the region from its start.
    ///
    /// # Panics
    /// If the region was released or is shorter.
    pub fn write(&self, region: HostRegion, bytes: &[u8]) {
        self.with(|host| {
            let one = host.memory.regions.get_mut(&region.key).expect("released region");
            one.bytes[..bytes.len()].copy_from_slice(bytes);
        });
    }

    /// Whether the region's key is still valid.
    #[must_use]
    pub fn is_valid(&self, region: HostRegion) -> bool {
        self.with(|host| host.memory.regions.get(&region.key).is_some_and(|one| one.valid))
    }

    /// Invalidates the key locally and forgets the memory: later RDMA to it is a remote access error.
    pub fn release(&self, region: HostRegion) {
        self.with(|host| host.memory.regions.remove(&region.key));
    }
}
