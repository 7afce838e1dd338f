//! Hosts that know no manners: garbage for private data, garbage for capsules, and away without a word.

use std::net::SocketAddr;

use weir_core::nvme::opcode;
use weir_core::nvme::private_data::ConnectRequestData;
use weir_core::provider::sim::{HostConnection, SimHost};

use crate::support::random::Random;

/// Connections one of them has at a time.
const CONNECTIONS_MAX: usize = 3;
/// Capsules it has under way on one of them.
const CAPSULES_MAX: usize = 6;
/// Longest capsule: more than the target's receives hold.
const CAPSULE_BYTES_MAX: u64 = 5000;

/// See the module's text.
#[derive(Debug)]
pub struct HostileHost {
    sim: SimHost,
    random: Random,
    targets: Vec<SocketAddr>,
    connections: Vec<HostConnection>,
}

impl HostileHost {
    /// One that attacks these listeners.
    pub fn new(sim: SimHost, targets: Vec<SocketAddr>, random: Random) -> Self {
        Self {
            sim,
            random,
            targets,
            connections: Vec::new(),
        }
    }

    /// Does one bad thing.
    pub fn step(&mut self) {
        if self.connections.len() < CONNECTIONS_MAX && self.random.chance(200) {
            let target = self.random.pick(&self.targets);
            let private_data = self.private_data();
            self.connections.push(self.sim.connect(target, &private_data));
            return;
        }
        if self.connections.is_empty() {
            return;
        }
        let index = self.random.below(self.connections.len() as u64) as usize;
        let connection = self.connections[index];
        self.sim.take_responses(connection);
        if self.sim.is_connected(connection) && self.random.chance(900) {
            if self.sim.capsules_waiting(connection) < CAPSULES_MAX {
                let capsule = self.capsule();
                self.sim.send(connection, &capsule);
            }
        } else if self.random.chance(300) {
            self.give_up(index);
        }
    }

    fn give_up(&mut self, index: usize) {
        let connection = self.connections.swap_remove(index);
        self.sim.give_up(connection);
        if self.random.chance(500) {
            self.sim.disconnect(connection);
        } else {
            self.sim.crash(connection);
        }
        self.sim.forget(connection);
    }

    /// Gives up everything, with a word.
    pub fn leave(&mut self) {
        for connection in std::mem::take(&mut self.connections) {
            self.sim.give_up(connection);
            self.sim.disconnect(connection);
            self.sim.forget(connection);
        }
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.random.next() as u8).collect()
    }

    fn private_data(&mut self) -> Vec<u8> {
        if self.random.chance(300) {
            let length = self.random.below(92);
            return self.bytes(length);
        }
        let request = ConnectRequestData {
            queue_id: self.random.pick(&[0, 0, 1, 200, u16::MAX]),
            host_receive_queue_size: self.random.pick(&[0, 1, 16, 32, u16::MAX]),
            host_send_queue_size: self.random.pick(&[0, 1, 15, 31, u16::MAX]),
            controller_id: self.random.pick(&[0, 1, u16::MAX]),
        };
        request.encode().to_vec()
    }

    /// Noise, or noise that begins as a command does.
    fn capsule(&mut self) -> Vec<u8> {
        let length = match self.random.below(4) {
            0 => self.random.below(64),
            1 => self.random.between(64, CAPSULE_BYTES_MAX),
            _ => self.random.between(64, 1088),
        };
        let mut capsule = self.bytes(length);
        if capsule.len() >= 64 && self.random.chance(700) {
            capsule[0] = self.random.pick(&[
                opcode::FABRICS,
                opcode::FABRICS,
                opcode::io::READ,
                opcode::io::WRITE,
                opcode::admin::IDENTIFY,
                opcode::admin::GET_LOG_PAGE,
            ]);
            // SGLs, as NVMe over Fabrics wants them.
            capsule[1] = 0x40;
            // Fabrics command type: Connect, properties, or anything.
            capsule[4] = self.random.pick(&[0, 1, 4, 8, 77]);
            // SGL descriptor type: keyed, in-capsule, or anything.
            capsule[39] = self.random.pick(&[0x40, 0x4f, 0x01, 0xff]);
        }
        capsule
    }
}
