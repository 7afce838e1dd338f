//! One run of a seed: trouble under I/O, then no trouble and everything must serve again, then everything must be given
//! back.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use weir_core::link::scripted::ScriptedLinks;
use weir_core::provider::sim::{LiveObjects, SimWorld};

use crate::chaos::{Chaos, MACHINES};
use crate::support::host::{Host, HostSettings, value_of};
use crate::support::random::Random;
use crate::support::storage::Storage;
use crate::support::target::Target;

const SUBSYSTEM_NQN: &str = "nqn.2026-11.dev.weir:simulation";
const PORT: u16 = 4420;
/// Blocks of each namespace, and of each host's part of it.
const NAMESPACE_BLOCKS: usize = 128;
const HOST_BLOCKS: usize = 48;
/// After the trouble, every host does this many commands.
const COMMANDS_AFTER: u64 = 100;
/// Simulated time within which everything serves, and is given back: keep-alive, connect time-outs and the longest
/// back-off together, with room to spare.
const LIVENESS: Duration = Duration::from_secs(120);
/// Steps of one waiting at most: a loop that makes no progress ends too.
const LIVENESS_STEPS: usize = 400_000;

/// What a run did, to compare runs of one seed and to see that it did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub commands: u64,
    pub associations: u64,
    pub losses: u64,
    pub errors: u64,
    pub backend_ios: u64,
    pub digest: u64,
}

struct Run {
    target: Target,
    hosts: Vec<Host>,
    chaos: Chaos,
    random: Random,
    cores: u64,
    with_third_namespace: bool,
    /// Who does not get to run now: pollers, and last the control loop.
    stalled_until: Vec<Duration>,
}

fn namespace_path(id: u64) -> String {
    format!("/simulated/{id}")
}

fn spec(cores: u64, third: bool) -> Value {
    let ids = if third { vec![1, 2, 3] } else { vec![1, 2] };
    let namespaces: Vec<Value> = ids
        .into_iter()
        .map(|id| {
            let size = NAMESPACE_BLOCKS * 4096;
            json!({ "nsid": id, "backend": { "file": { "path": namespace_path(id), "sizeBytes": size } } })
        })
        .collect();
    let listeners: Vec<Value> = MACHINES
        .iter()
        .map(|machine| json!({ "name": machine.netdev, "addressFrom": { "address": machine.address }, "port": PORT }))
        .collect();
    json!({
        "nodeName": "node-a",
        "target": "simulation/target",
        "listeners": listeners,
        "subsystems": [{ "nqn": SUBSYSTEM_NQN, "access": { "policy": "AnyHost" }, "namespaces": namespaces }],
        "queues": { "queueDepth": 32 },
        "link": { "drainTimeoutSeconds": 2, "memoryRegistration": { "maxBackoffSeconds": 2 } },
        "polling": { "cores": cores },
        // Few, so that requests wait for buffers.
        "buffers": { "smallCount": 24, "largeCount": 4, "receiveCount": 64 },
    })
}

impl Run {
    fn new(seed: u64, log: Arc<Mutex<VecDeque<String>>>) -> Self {
        let mut random = Random::new(seed, "run");
        let world = SimWorld::new(seed);
        let links: Vec<(&str, std::net::IpAddr, u8)> = MACHINES
            .iter()
            .map(|machine| (machine.netdev, machine.ip(), 24))
            .collect();
        for machine in MACHINES {
            world.add_device(machine.spec());
        }
        let hosts = [(0, 1, 0), (1, 1, 1), (0, 2, 0), (1, 3, 0)]
            .into_iter()
            .enumerate()
            .map(|(index, (machine, namespace_id, part))| {
                let machine = MACHINES[machine];
                let sim = world.add_host(
                    format!("10.9.{}.{}", index % 2, 100 + index)
                        .parse()
                        .expect("an address"),
                );
                let settings = HostSettings {
                    nqn: format!("nqn.2026-11.dev.weir:host-{index}"),
                    subsystem_nqn: SUBSYSTEM_NQN.to_owned(),
                    target: SocketAddr::new(machine.ip(), PORT),
                    io_queues: random.between(1, 3) as u16,
                    queue_entries: 16,
                    namespace_id,
                    first_block: part * HOST_BLOCKS as u64 + 5,
                    blocks: HOST_BLOCKS,
                };
                Host::new(sim, settings, seed)
            })
            .collect();
        let mut target = Target::new(world, ScriptedLinks::with(&links), Storage::new(seed), log);
        let chaos = Chaos::new(seed, &target);
        let cores = random.between(1, 3);
        target.apply(&spec(cores, true));
        Self {
            target,
            hosts,
            chaos,
            random,
            cores,
            with_third_namespace: true,
            stalled_until: vec![Duration::ZERO; 4],
        }
    }

    fn pass_time(&mut self) {
        let microseconds = match self.random.below(1000) {
            0..800 => self.random.below(200),
            800..980 => self.random.between(1000, 5000),
            980..999 => self.random.between(10_000, 60_000),
            _ => self.random.between(500_000, 2_000_000),
        };
        self.target.advance(Duration::from_micros(microseconds));
    }

    /// Everybody who is not stalled does a little, in an order that changes.
    fn turn(&mut self, io: u64) {
        let now = self.target.now();
        for _ in 0..self.random.below(12) {
            self.target.world.step();
        }
        let control = self.stalled_until.len() - 1;
        for _ in 0..6 {
            match self.random.below(3) {
                0 => {
                    let index = self.random.below(self.hosts.len() as u64) as usize;
                    self.hosts[index].step(now, io);
                }
                1 => {
                    if self.stalled_until[control] <= now {
                        self.target.step_control();
                    }
                }
                _ => {
                    let count = self.target.poller_count() as u64;
                    if count > 0 {
                        let index = self.random.below(count) as usize;
                        if self.stalled_until[index] <= now {
                            self.target.step_poller(index);
                        }
                    }
                }
            }
        }
    }

    fn trouble(&mut self, steps: usize) {
        for _ in 0..steps {
            self.pass_time();
            self.chaos.step(&self.target);
            match self.random.below(4000) {
                0..4 => {
                    let index = self.random.below(self.hosts.len() as u64) as usize;
                    self.target
                        .note(&format!("-- {} is lost", self.hosts[index].settings().nqn));
                    self.hosts[index].lose(self.target.now());
                }
                4..8 => {
                    let index = self.random.below(self.stalled_until.len() as u64) as usize;
                    let lasts = Duration::from_millis(self.random.between(1, 700));
                    self.target.note(&format!("-- thread {index} stalls for {lasts:?}"));
                    self.stalled_until[index] = self.target.now() + lasts;
                }
                8..10 => {
                    self.with_third_namespace = !self.with_third_namespace;
                    self.change();
                }
                10 => {
                    self.cores = self.random.between(1, 3);
                    self.change();
                }
                11..20 => {
                    let statistics = self.target.statistics();
                    assert!(statistics["listeners"].is_array(), "statistics are always there");
                }
                _ => {}
            }
            let io = self.random.below(4);
            self.turn(io);
        }
    }

    fn change(&mut self) {
        self.target.note(&format!(
            "-- {} pollers, namespace 3: {}",
            self.cores, self.with_third_namespace
        ));
        self.target.apply(&spec(self.cores, self.with_third_namespace));
    }

    /// Goes on without trouble until `done`.
    ///
    /// # Panics
    /// If that takes too long.
    fn until(&mut self, what: &str, io: u64, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.target.now() + LIVENESS;
        for _ in 0..LIVENESS_STEPS {
            if done(self) {
                return;
            }
            assert!(
                self.target.now() < deadline,
                "{what}: not within {LIVENESS:?}; {}",
                self.state()
            );
            let microseconds = self.random.between(100, 3000);
            self.target.advance(Duration::from_micros(microseconds));
            self.turn(io);
        }
        panic!("{what}: not within {LIVENESS_STEPS} steps; {}", self.state());
    }

    fn state(&self) -> String {
        let hosts: Vec<String> = self
            .hosts
            .iter()
            .map(|host| {
                format!(
                    "{} live {} in flight {}",
                    host.settings().nqn,
                    host.is_live(),
                    host.io_in_flight()
                )
            })
            .collect();
        format!(
            "{:?}; {hosts:?}; {:?}",
            self.target.phases(),
            self.target.world.live_objects()
        )
    }

    fn recover(&mut self) {
        self.chaos.end(&self.target);
        self.stalled_until.fill(Duration::ZERO);
        if !self.with_third_namespace {
            self.with_third_namespace = true;
            self.change();
        }
        let before: Vec<u64> = self.hosts.iter().map(|host| host.completed).collect();
        self.until("every host does I/O again", 2, |run| {
            run.hosts
                .iter()
                .zip(&before)
                .all(|(host, before)| host.completed >= before + COMMANDS_AFTER)
        });
        let serving = self.target.phases();
        assert!(
            serving
                .iter()
                .all(|(_, phase)| matches!(*phase, "Serving" | "Degraded")),
            "hosts do I/O, so every port serves: {serving:?}"
        );
        self.until("I/O in flight ends", 0, |run| {
            run.hosts.iter().all(|host| host.io_in_flight() == 0)
        });
    }

    fn check_storage(&mut self) {
        for host in &self.hosts {
            let settings = host.settings();
            let path = namespace_path(u64::from(settings.namespace_id));
            for block in 0..settings.blocks {
                let (current, stable) = self.target.storage.block(&path, settings.first_block as usize + block);
                let value = value_of(&current).unwrap_or_else(|e| panic!("{path}, block {block}: {e}"));
                assert!(
                    host.history.allows(block, value),
                    "{}: block {block} of storage holds {value:#x}, but only {} is possible",
                    settings.nqn,
                    host.history.expectation(block)
                );
                if block >= host.durable_from {
                    if let Some(acknowledged) = host.history.acknowledged(block) {
                        assert_eq!(
                            value_of(&stable),
                            Ok(acknowledged),
                            "{}: block {block} was acknowledged as durable, and a power failure would lose it",
                            settings.nqn
                        );
                    }
                }
            }
        }
        let now = self.target.now();
        self.hosts.iter_mut().for_each(|host| host.flush(now));
        self.until("flushes are answered", 0, |run| {
            run.hosts.iter().all(|host| host.io_in_flight() == 0)
        });
        for host in &self.hosts {
            let settings = host.settings();
            let path = namespace_path(u64::from(settings.namespace_id));
            for block in 0..settings.blocks {
                let (current, stable) = self.target.storage.block(&path, settings.first_block as usize + block);
                assert_eq!(current, stable, "{}: block {block} was flushed", settings.nqn);
            }
        }
        let errors: u64 = self.hosts.iter().map(|host| host.errors).sum();
        let now = self.target.now();
        self.hosts.iter_mut().for_each(|host| host.read_all(now));
        self.until("all blocks are read", 0, |run| {
            run.hosts.iter().all(|host| host.io_in_flight() == 0)
        });
        assert_eq!(
            self.hosts.iter().map(|host| host.errors).sum::<u64>(),
            errors,
            "reads at rest succeed"
        );
    }

    fn leave(&mut self) {
        let now = self.target.now();
        self.hosts.iter_mut().for_each(|host| host.leave(now));
        self.until("hosts leave and nothing of them stays", 0, |run| {
            let objects = run.target.world.live_objects();
            run.hosts.iter().all(Host::is_gone)
                && objects.queue_pairs == 0
                && objects.connection_ids == 0
                && run.target.load() == (0, 0)
        });
        self.target.close();
        self.until("the engine leaves", 0, |run| {
            run.target.has_left() && run.target.poller_count() == 0
        });
    }

    fn summary(&self) -> Summary {
        let sum = |field: fn(&Host) -> u64| self.hosts.iter().map(field).sum();
        Summary {
            commands: sum(|host| host.completed),
            associations: sum(|host| host.associations),
            losses: sum(|host| host.losses),
            errors: sum(|host| host.errors),
            backend_ios: self.target.storage.executed().0,
            digest: self.target.digest,
        }
    }
}

fn run_to_the_end(seed: u64, steps: usize, log: Arc<Mutex<VecDeque<String>>>) -> Summary {
    let mut run = Run::new(seed, log);
    run.trouble(steps);
    run.recover();
    run.check_storage();
    run.leave();
    let summary = run.summary();
    let (world, storage) = (run.target.world.clone(), run.target.storage.clone());
    drop(run);
    assert_eq!(world.live_objects(), LiveObjects::default(), "everything is given back");
    assert_eq!(storage.open_backings(), 0, "every backing is closed");
    assert_eq!(world.violations(), [], "the provider's rules were kept");
    summary
}

/// Runs a seed.
///
/// # Panics
/// On any violation, after printing what happened last and how to see it again.
pub fn run(seed: u64, steps: usize) -> Summary {
    let log: Arc<Mutex<VecDeque<String>>> = Arc::default();
    let kept = Arc::clone(&log);
    catch_unwind(AssertUnwindSafe(move || run_to_the_end(seed, steps, log))).unwrap_or_else(|panic| {
        for line in kept.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            eprintln!("{line}");
        }
        eprintln!("seed {seed} failed; see it again with");
        eprintln!(
            "  WEIR_SIM_SEED={seed} WEIR_SIM_STEPS={steps} cargo test --test simulation the_seed_of_the_environment"
        );
        resume_unwind(panic)
    })
}
