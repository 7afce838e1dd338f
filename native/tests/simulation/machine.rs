//! The simulated machine of a seed: its devices, interfaces and addresses, what it serves, and the hosts around it.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use weir_core::nvme::qualified_name::DISCOVERY_NQN;

use crate::support::host::HostSettings;
use crate::support::random::Random;

/// Bytes of a block of every namespace.
const BLOCK_BYTES: usize = 4096;
/// Blocks around each host's part that nobody uses.
const GAP_BLOCKS: usize = 5;

/// A device with its interface.
#[derive(Debug, Clone)]
pub struct Nic {
    pub device: String,
    pub netdev: String,
    /// The address it has when all is well.
    pub address: IpAddr,
    /// The address it has instead for a while when it is told to move.
    pub other_address: IpAddr,
}

/// How a listener is told where to listen.
#[derive(Debug, Clone, Copy)]
enum AddressFrom {
    Address,
    Interface,
    Device,
    Cidr,
}

/// A listener of the desired state.
#[derive(Debug, Clone)]
pub struct Port {
    pub name: String,
    /// Index of its device.
    pub nic: usize,
    pub port: u16,
    from: AddressFrom,
}

/// What can be changed in the desired state while it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    pub cores: u64,
    /// The last namespace is wanted.
    pub last_namespace: bool,
    /// By listener.
    pub listeners: Vec<bool>,
    pub large_buffers: u64,
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Machine {
    pub nics: Vec<Nic>,
    pub ports: Vec<Port>,
    /// By namespace, its blocks.
    namespaces: Vec<usize>,
    subsystems: usize,
    pub hosts: Vec<HostSettings>,
    pub hostile_hosts: usize,
    /// The process leaves when a device is removed, as in production, and is started anew.
    pub exits_when_device_removed: bool,
    link: Value,
    small_buffers: u64,
    receives: u64,
    queue_depth: u16,
}

fn subsystem_nqn(index: usize) -> String {
    format!("nqn.2026-11.dev.weir:simulation-{index}")
}

/// Where a namespace's storage is.
pub fn namespace_path(id: u32) -> String {
    format!("/simulated/{id}")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Machine {
    /// The machine of a seed, and what it serves at first.
    pub fn new(seed: u64) -> (Self, Wishes) {
        let mut random = Random::new(seed, "machine");
        let nics: Vec<Nic> = (0..random.between(2, 3))
            .map(|index| Nic {
                device: format!("rxe{index}"),
                netdev: format!("rdma{index}"),
                address: ip(&format!("10.9.{index}.1")),
                other_address: ip(&format!("10.9.{index}.9")),
            })
            .collect();
        let mut ports = Vec::new();
        for (index, nic) in nics.iter().enumerate() {
            for number in 0..random.between(1, 2) as u16 {
                ports.push(Port {
                    name: format!("{}-{number}", nic.netdev),
                    nic: index,
                    port: 4420 + number,
                    from: random.pick(&[
                        AddressFrom::Address,
                        AddressFrom::Interface,
                        AddressFrom::Device,
                        AddressFrom::Cidr,
                    ]),
                });
            }
        }
        let queue_depth = random.pick(&[16, 32]);
        let subsystems = random.between(1, 2) as usize;
        let mut namespaces = vec![0; random.between(2, 4) as usize];
        let mut hosts: Vec<HostSettings> = (0..random.between(8, 16) as usize)
            .map(|index| {
                // The last namespace comes and goes; some live with that.
                let namespace = random.below(namespaces.len() as u64) as usize;
                let blocks = random.between(8, 40) as usize;
                let first = namespaces[namespace] + GAP_BLOCKS;
                namespaces[namespace] = first + blocks;
                let port = &ports[random.below(ports.len() as u64) as usize];
                let nic = &nics[port.nic];
                HostSettings {
                    nqn: format!("nqn.2026-11.dev.weir:host-{index}"),
                    subsystem_nqn: subsystem_nqn(namespace % subsystems),
                    targets: vec![
                        SocketAddr::new(nic.address, port.port),
                        SocketAddr::new(nic.other_address, port.port),
                    ],
                    io_queues: random.between(1, 3) as u16,
                    queue_entries: random.pick(&[8, 16, queue_depth]),
                    namespace_id: namespace as u32 + 1,
                    first_block: first as u64,
                    blocks,
                }
            })
            .collect();
        for blocks in &mut namespaces {
            *blocks += GAP_BLOCKS;
        }
        let addresses = |port: &Port| [nics[port.nic].address, nics[port.nic].other_address];
        hosts.push(HostSettings {
            nqn: "nqn.2026-11.dev.weir:discoverer".to_owned(),
            subsystem_nqn: DISCOVERY_NQN.to_owned(),
            targets: ports
                .iter()
                .flat_map(|port| addresses(port).map(|address| SocketAddr::new(address, port.port)))
                .collect(),
            io_queues: 0,
            queue_entries: 16,
            namespace_id: 0,
            first_block: 0,
            blocks: 0,
        });
        let link = json!({
            // Some hold longer than a keep-alive timeout, some not at all.
            "holdMilliseconds": random.pick(&[0, 100, 500, 2000, 9000]),
            "upStabilizationMilliseconds": random.pick(&[0, 200, 200, 1000]),
            "drainTimeoutSeconds": random.between(1, 3),
            "memoryRegistration": { "maxBackoffSeconds": random.between(1, 2) },
        });
        let wishes = Wishes {
            cores: random.between(1, 3),
            last_namespace: true,
            listeners: vec![true; ports.len()],
            large_buffers: random.between(4, 8),
        };
        let machine = Self {
            nics,
            ports,
            namespaces,
            subsystems,
            hosts,
            hostile_hosts: random.below(3) as usize,
            exits_when_device_removed: random.chance(300),
            link,
            // Few, so that requests wait for buffers; more than the least, so that a port can serve with less.
            small_buffers: random.pick(&[24, 40, 64]),
            receives: random.pick(&[64, 96]),
            queue_depth,
        };
        (machine, wishes)
    }

    /// The desired state.
    pub fn spec(&self, wishes: &Wishes) -> Value {
        let count = self.namespaces.len() - usize::from(!wishes.last_namespace);
        let namespace = |index: usize| {
            let (id, size) = (index + 1, self.namespaces[index] * BLOCK_BYTES);
            json!({ "nsid": id, "backend": { "file": { "path": namespace_path(id as u32), "sizeBytes": size } } })
        };
        let subsystems: Vec<Value> = (0..self.subsystems)
            .map(|subsystem| {
                let namespaces: Vec<Value> = (0..count)
                    .filter(|index| index % self.subsystems == subsystem)
                    .map(namespace)
                    .collect();
                json!({
                    "nqn": subsystem_nqn(subsystem),
                    "access": { "policy": "AnyHost" },
                    "namespaces": namespaces,
                })
            })
            .collect();
        let listeners: Vec<Value> = self
            .ports
            .iter()
            .zip(&wishes.listeners)
            .filter(|(_, wanted)| **wanted)
            .map(|(port, _)| {
                let nic = &self.nics[port.nic];
                let from = match port.from {
                    AddressFrom::Address => json!({ "address": nic.address }),
                    AddressFrom::Interface => json!({ "interface": nic.netdev }),
                    AddressFrom::Device => json!({ "rdmaDevice": nic.device }),
                    AddressFrom::Cidr => json!({ "cidr": format!("10.9.{}.0/24", port.nic) }),
                };
                json!({ "name": port.name, "addressFrom": from, "port": port.port })
            })
            .collect();
        json!({
            "nodeName": "node-a",
            "target": "simulation/target",
            "listeners": listeners,
            "subsystems": subsystems,
            "queues": { "queueDepth": self.queue_depth },
            "link": self.link,
            "polling": { "cores": wishes.cores },
            "buffers": {
                "smallCount": self.small_buffers,
                "largeCount": wishes.large_buffers,
                "receiveCount": self.receives,
            },
        })
    }
}
