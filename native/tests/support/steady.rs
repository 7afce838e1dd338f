//! One host at a steady pace on one poller: the hot path and nothing else, for counting.

use std::net::SocketAddr;
use std::time::Duration;

use weir_core::backend::BackingSpec;
use weir_core::backend::host::HostBackend;
use weir_core::provider::sim::{SimDeviceSpec, SimProvider, SimWorld};

use super::allocations::counted;
use super::host::{Host, HostSettings};
use super::metered::Metered;
use super::rig::{Rig, SUBSYSTEM_NQN};

/// Blocks of the namespace.
const BLOCKS: usize = 1024;
/// Rounds until every table and list has its size.
const WARM_UP_ROUNDS: usize = 8;

/// What a round does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Reads of 4 KiB.
    Reads,
    /// Writes of 4 KiB in the capsule.
    InCapsuleWrites,
    /// Writes of 8 KiB by RDMA READ.
    KeyedWrites,
    /// Flushes.
    Flushes,
}

/// Host, world and poller.
#[derive(Debug)]
pub struct Steady {
    pub rig: Rig<Metered<SimProvider>, HostBackend>,
    host: Host,
    world: SimWorld,
    now: Duration,
    next_block: usize,
}

impl Steady {
    /// A host that is connected and has done enough I/O for everything to have its size.
    pub fn new(backend: &HostBackend, spec: &BackingSpec) -> Self {
        let all = [Pace::Reads, Pace::InCapsuleWrites, Pace::KeyedWrites, Pace::Flushes];
        Self::warmed_up(backend, spec, &all)
    }

    /// The same, but nothing is ever written.
    pub fn reads_only(backend: &HostBackend, spec: &BackingSpec) -> Self {
        Self::warmed_up(backend, spec, &[Pace::Reads])
    }

    fn warmed_up(backend: &HostBackend, spec: &BackingSpec, paces: &[Pace]) -> Self {
        let world = SimWorld::in_order();
        let address: SocketAddr = "10.9.0.1:4420".parse().expect("an address");
        world.add_device(SimDeviceSpec::new("rxe0", "rdma0", address.ip()));
        let rig = Rig::new(Metered(world.provider()), backend, spec, "rxe0", address);
        let settings = HostSettings {
            nqn: "nqn.2026-11.dev.weir:host".to_owned(),
            subsystem_nqn: SUBSYSTEM_NQN.to_owned(),
            targets: vec![address],
            io_queues: 1,
            queue_entries: 128,
            namespace_id: 1,
            first_block: 0,
            blocks: BLOCKS,
        };
        let host = Host::new(world.add_host("10.9.0.2".parse().expect("an address")), settings, 1);
        let mut this = Self {
            rig,
            host,
            world,
            now: Duration::ZERO,
            next_block: 0,
        };
        while !this.host.is_live() {
            this.tick();
        }
        for pace in paces {
            (0..WARM_UP_ROUNDS).for_each(|_| this.round(*pace, 64));
        }
        this
    }

    fn tick(&mut self) {
        self.now += Duration::from_micros(1);
        self.host.step(self.now, 0);
        self.world.run_until_idle();
        self.rig.step_control();
        counted(|| self.rig.step_poller(self.now));
        self.world.run_until_idle();
    }

    /// `depth` commands at once, until all are answered.
    pub fn round(&mut self, pace: Pace, depth: usize) {
        for _ in 0..depth {
            let block = self.next_block;
            self.next_block = (block + 2) % BLOCKS;
            match pace {
                Pace::Reads => self.host.read(1, block, 1, self.now),
                Pace::InCapsuleWrites => self.host.write(1, block, 1, true, self.now),
                Pace::KeyedWrites => self.host.write(1, block, 2, false, self.now),
                Pace::Flushes => self.host.flush(self.now),
            }
        }
        self.world.run_until_idle();
        while self.host.io_in_flight() > 0 {
            self.tick();
        }
        assert_eq!(self.host.errors + self.host.losses, 0, "nothing goes wrong here");
    }
}
