//! One run of a seed: trouble under I/O, then no trouble and everything must serve again, then everything must be given
//! back.
//!
//! A step is one scheduling decision: one participant (a poller, the control loop, a host, the wire, the clock, trouble,
//! an operator who reads statistics) gets to do one thing. Nothing else counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir_core::engine::control::events::{Event, Report};
use weir_core::link::scripted::ScriptedLinks;
use weir_core::provider::sim::{InterruptedReceive, LiveObjects, SimDeviceSpec, SimWorld, TransmitWhileDown};

use crate::chaos::{Chaos, Look};
use crate::hostile::HostileHost;
use crate::machine::{Machine, namespace_path};
use crate::stimulus::{Planned, Stimulus};
use crate::support::host::{Host, value_of};
use crate::support::random::Random;
use crate::support::storage::Storage;
use crate::support::target::{Log, Target};
use crate::trouble::Trouble;

/// After the trouble, every host does this many commands.
const COMMANDS_AFTER: u64 = 40;
/// Simulated time within which everything serves, and is given back: keep-alive, connect time-outs and the longest
/// back-off together, with room to spare.
const LIVENESS: Duration = Duration::from_secs(90);
/// Steps of one waiting at most: a loop that makes no progress ends too.
const LIVENESS_STEPS: u64 = 3_000_000;
/// Steps between two looks at whether a waiting is over.
const LOOK_EVERY: u64 = 64;
/// A keep-alive that ran out before its port held is heard of within this time.
const OLD_NEWS: Duration = Duration::from_millis(1500);

/// What a run is made of beside its seed.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub seed: u64,
    /// Steps of trouble.
    pub steps: u64,
    /// Who runs when: another number is another order of turns with everything else the same.
    pub schedule: u64,
    /// What goes wrong; `None`: what the seed says.
    pub stimuli: Option<Vec<Planned>>,
    /// Hosts that never do anything.
    pub without_hosts: Vec<usize>,
}

/// What a run did, to compare runs of one seed and to see that it did something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Steps, those after the trouble included.
    pub steps: u64,
    pub simulated: Duration,
    pub hosts: u64,
    pub ports: u64,
    pub commands: u64,
    pub associations: u64,
    pub losses: u64,
    pub errors: u64,
    pub backend_ios: u64,
    /// From the end of the trouble until every host had done I/O again.
    pub recovery: Duration,
    pub digest: u64,
}

/// A run under way, and what is known of it if it ends in a panic.
#[derive(Debug)]
pub struct Run {
    target: Target,
    machine: Machine,
    hosts: Vec<Host>,
    hostile: Vec<HostileHost>,
    chaos: Chaos,
    trouble: Trouble,
    random: Random,
    without_hosts: Vec<usize>,
    /// Trouble is over.
    quiet: bool,
    /// By listener: its phase as last reported, and since when.
    phases: BTreeMap<String, (&'static str, Duration)>,
    /// UUIDs by subsystem and namespace id.
    identifiers: BTreeMap<(String, u32), String>,
    summary: Summary,
    progress: Progress,
}

/// What is known of a run from outside, also when it panics.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    shared: std::sync::Arc<std::sync::Mutex<(u64, Vec<Planned>)>>,
}

impl Progress {
    fn with<R>(&self, action: impl FnOnce(&mut (u64, Vec<Planned>)) -> R) -> R {
        action(&mut self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.with(|shared| shared.0)
    }

    /// What went wrong so far.
    pub fn stimuli(&self) -> Vec<Planned> {
        self.with(|shared| shared.1.clone())
    }
}

fn world_of(seed: u64, machine: &Machine) -> SimWorld {
    let mut random = Random::new(seed, "world");
    let world = SimWorld::new(seed);
    for nic in &machine.nics {
        world.add_device(SimDeviceSpec::new(&nic.device, &nic.netdev, nic.address));
    }
    world.set_transmit_while_down(random.pick(&[
        TransmitWhileDown::LocalOperationError,
        TransmitWhileDown::RetryExceeded,
        TransmitWhileDown::Stuck,
    ]));
    if random.chance(500) {
        world.split_arrivals(random.pick(&[InterruptedReceive::Flushed, InterruptedReceive::Lost]));
    }
    world.send_last_work_request_events(random.chance(500));
    world
}

impl Run {
    /// A run that has not begun.
    pub fn new(plan: Plan, log: Log, progress: Progress) -> Self {
        let seed = plan.seed;
        let (machine, wishes) = Machine::new(seed);
        let world = world_of(seed, &machine);
        let links: Vec<(&str, IpAddr, u8)> = machine
            .nics
            .iter()
            .map(|nic| (nic.netdev.as_str(), nic.address, 24))
            .collect();
        let address = |index: usize| -> IpAddr {
            format!("10.8.{}.{}", index / 200, 2 + index % 200)
                .parse()
                .expect("an address")
        };
        let hosts: Vec<Host> = machine
            .hosts
            .iter()
            .enumerate()
            .map(|(index, settings)| Host::new(world.add_host(address(index)), settings.clone(), seed))
            .collect();
        let targets: Vec<SocketAddr> = machine
            .ports
            .iter()
            .map(|port| SocketAddr::new(machine.nics[port.nic].address, port.port))
            .collect();
        let hostile = (0..machine.hostile_hosts)
            .map(|index| {
                let random = Random::new(seed ^ index as u64, "hostile");
                HostileHost::new(world.add_host(address(hosts.len() + index)), targets.clone(), random)
            })
            .collect();
        let mut target = Target::new(
            world,
            ScriptedLinks::with(&links),
            Storage::new(seed),
            machine.exits_when_device_removed,
            log,
        );
        target.apply(&machine.spec(&wishes));
        let chaos = match plan.stimuli {
            None => Chaos::seeded(seed, plan.steps),
            Some(planned) => Chaos::Repeated(planned.into_iter()),
        };
        Self {
            trouble: Trouble::new(&machine, wishes),
            target,
            machine,
            hosts,
            hostile,
            chaos,
            random: Random::new(seed.wrapping_add(plan.schedule << 32), "schedule"),
            without_hosts: plan.without_hosts,
            quiet: false,
            phases: BTreeMap::new(),
            identifiers: BTreeMap::new(),
            summary: Summary::default(),
            progress,
        }
    }

    /// One scheduling decision.
    fn step(&mut self, io: bool) {
        let now = self.target.now();
        loop {
            // A participant that cannot act now is no step: somebody else is chosen.
            let acted = match self.random.below(100) {
                0..38 => self.target.world.step(),
                38..62 => self.step_host(io, now),
                62..74 => self.step_control(now),
                74..91 => self.step_poller(now),
                91..97 => self.step_clock(),
                97..99 => self.step_trouble(),
                _ => self.step_other(),
            };
            if acted {
                break;
            }
        }
        self.summary.steps += 1;
        self.progress.with(|shared| shared.0 = self.summary.steps);
    }

    fn step_host(&mut self, io: bool, now: Duration) -> bool {
        let index = self.random.below(self.hosts.len() as u64) as usize;
        let commands = if io { self.random.below(4) } else { 0 };
        if self.without_hosts.contains(&index) || !self.trouble.host_acts(index, now) {
            return false;
        }
        self.hosts[index].step(now, commands);
        true
    }

    fn step_control(&mut self, now: Duration) -> bool {
        if !self.trouble.control_runs(now) || !self.target.is_running() {
            return false;
        }
        for report in self.target.step_control() {
            self.judge(&report, now);
        }
        true
    }

    fn step_poller(&mut self, now: Duration) -> bool {
        let count = self.target.poller_count() as u64;
        if count == 0 {
            return false;
        }
        let index = self.random.below(count) as usize;
        if !self.trouble.poller_runs(index, now) {
            return false;
        }
        self.target.step_poller(index);
        true
    }

    fn step_clock(&mut self) -> bool {
        let microseconds = match self.random.below(1000) {
            _ if self.quiet => self.random.between(100, 20_000),
            0..700 => self.random.below(200),
            700..955 => self.random.between(1000, 5000),
            955..997 => self.random.between(10_000, 60_000),
            _ => self.random.between(500_000, 2_000_000),
        };
        self.target.advance(Duration::from_micros(microseconds));
        self.trouble.pass(&mut self.target, &self.machine);
        true
    }

    fn step_trouble(&mut self) -> bool {
        if self.quiet {
            return false;
        }
        let phases = self.target.phases();
        let step = self.summary.steps;
        let look = Look {
            step,
            now: self.target.now(),
            machine: &self.machine,
            phases: &phases,
        };
        let Some(stimulus) = self.chaos.choose(&look) else {
            return true;
        };
        self.target.note(&format!("-- {stimulus:?}"));
        // Before it is carried out: it may be what ends the run.
        self.progress.with(|shared| {
            shared.1.push(Planned {
                step,
                stimulus: stimulus.clone(),
            });
        });
        let happened = self
            .trouble
            .apply(&stimulus, &mut self.target, &self.machine, &mut self.hosts);
        if !happened {
            self.progress.with(|shared| shared.1.pop());
        }
        true
    }

    /// A hostile host, or an operator who looks at statistics.
    fn step_other(&mut self) -> bool {
        if self.hostile.is_empty() || self.quiet || self.random.chance(200) {
            let statistics = self.target.statistics();
            assert!(
                statistics.is_null() || statistics["listeners"].is_array(),
                "statistics are always there"
            );
        } else {
            let index = self.random.below(self.hostile.len() as u64) as usize;
            self.hostile[index].step();
        }
        true
    }

    /// Looks at what the engine reports about itself.
    fn judge(&mut self, report: &Report, now: Duration) {
        match &report.event {
            Event::PortPhase { listener, to, .. } => {
                self.phases.insert(listener.clone(), (to, now));
            }
            Event::HostDisconnected(fields) if fields.reason == Some("KeepAliveExpired") => {
                if let Some(("Holding", since)) = self.phases.get(&fields.listener) {
                    assert!(
                        now - *since < OLD_NEWS,
                        "the keep-alive of {} ran out while its port held for {:?}",
                        fields.host_nqn,
                        now - *since
                    );
                }
            }
            Event::NamespaceState {
                subsystem, nsid, uuid, ..
            } => {
                let known = self
                    .identifiers
                    .entry((subsystem.clone(), *nsid))
                    .or_insert_with(|| uuid.clone());
                assert_eq!(known, uuid, "namespace {nsid} of {subsystem} changed its UUID");
            }
            _ => {}
        }
    }

    /// Goes on without trouble until `done`.
    ///
    /// # Panics
    /// If that takes too long.
    fn until(&mut self, what: &str, io: bool, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = self.target.now() + LIVENESS;
        for step in 0..LIVENESS_STEPS {
            if step % LOOK_EVERY == 0 {
                if done(self) {
                    return;
                }
                assert!(
                    self.target.now() < deadline,
                    "liveness: {what}: not within {LIVENESS:?}; {}",
                    self.state()
                );
            }
            self.step(io);
        }
        panic!("liveness: {what}: not within {LIVENESS_STEPS} steps; {}", self.state());
    }

    /// The hosts that take part.
    fn present(&self) -> impl Iterator<Item = &Host> {
        self.hosts
            .iter()
            .enumerate()
            .filter(|(index, _)| !self.without_hosts.contains(index))
            .map(|(_, host)| host)
    }

    fn state(&self) -> String {
        let waiting: Vec<String> = self
            .present()
            .map(|host| {
                format!(
                    "{} live {} gone {} in flight {}",
                    host.settings().nqn,
                    host.is_live(),
                    host.is_gone(),
                    host.io_in_flight()
                )
            })
            .collect();
        format!(
            "{:?}; {waiting:?}; {:?}; associations and requests {:?}; {}",
            self.target.phases(),
            self.target.world.live_objects(),
            self.target.load(),
            self.target.statistics()["listeners"]
        )
    }

    fn recover(&mut self) {
        self.trouble.end(&mut self.target, &self.machine);
        self.hostile.iter_mut().for_each(HostileHost::leave);
        self.quiet = true;
        let since = self.target.now();
        let before: Vec<u64> = self.present().map(|host| host.completed).collect();
        self.until("every host does I/O again", true, |run| {
            run.present()
                .zip(&before)
                .all(|(host, before)| host.completed >= before + COMMANDS_AFTER)
        });
        self.summary.recovery = self.target.now() - since;
        self.until("every port serves", true, |run| {
            let phases = run.target.phases();
            phases.len() == run.machine.ports.len()
                && phases.iter().all(|(_, phase)| matches!(*phase, "Serving" | "Degraded"))
        });
        self.until("I/O in flight ends", false, |run| {
            run.present().all(|host| host.io_in_flight() == 0)
        });
    }

    fn check_storage(&mut self) {
        for host in self.present() {
            let settings = host.settings();
            let path = namespace_path(settings.namespace_id);
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
        self.all_hosts(|host, now| host.flush(now));
        self.until("flushes are answered", false, |run| {
            run.present().all(|host| host.io_in_flight() == 0)
        });
        for host in self.present() {
            let settings = host.settings();
            let path = namespace_path(settings.namespace_id);
            for block in 0..settings.blocks {
                let (current, stable) = self.target.storage.block(&path, settings.first_block as usize + block);
                assert!(current == stable, "{}: block {block} was flushed", settings.nqn);
            }
        }
        let errors: u64 = self.hosts.iter().map(|host| host.errors).sum();
        self.all_hosts(|host, now| host.read_all(now));
        self.until("all blocks are read", false, |run| {
            run.present().all(|host| host.io_in_flight() == 0)
        });
        assert_eq!(
            self.hosts.iter().map(|host| host.errors).sum::<u64>(),
            errors,
            "reads at rest succeed"
        );
    }

    fn all_hosts(&mut self, act: impl Fn(&mut Host, Duration)) {
        let now = self.target.now();
        let without = &self.without_hosts;
        for (_, host) in self
            .hosts
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| !without.contains(index))
        {
            act(host, now);
        }
    }

    fn leave(&mut self) {
        self.all_hosts(Host::leave);
        self.until("hosts leave and nothing of them stays", false, |run| {
            let objects = run.target.world.live_objects();
            run.present().all(Host::is_gone)
                && objects.queue_pairs == 0
                && objects.connection_ids == 0
                && run.target.load() == (0, 0)
        });
        self.target.close();
        self.until("the engine leaves", false, |run| {
            run.target.has_left() && run.target.poller_count() == 0
        });
    }

    fn summarize(&mut self) {
        let sum = |field: fn(&Host) -> u64| self.hosts.iter().map(field).sum();
        self.summary.simulated = self.target.now();
        self.summary.hosts = self.hosts.len() as u64;
        self.summary.ports = self.machine.ports.len() as u64;
        self.summary.commands = sum(|host| host.completed);
        self.summary.associations = sum(|host| host.associations);
        self.summary.losses = sum(|host| host.losses);
        self.summary.errors = sum(|host| host.errors);
        self.summary.backend_ios = self.target.storage.executed().0;
        self.summary.digest = self.target.digest;
    }

    /// Runs it.
    ///
    /// # Panics
    /// On any violation.
    pub fn into_summary(mut self, steps: u64) -> Summary {
        while self.summary.steps < steps {
            self.step(true);
        }
        self.recover();
        self.check_storage();
        self.leave();
        self.summarize();
        let summary = self.summary.clone();
        let (world, storage) = (self.target.world.clone(), self.target.storage.clone());
        drop(self);
        assert_eq!(world.live_objects(), LiveObjects::default(), "everything is given back");
        assert_eq!(storage.open_backings(), 0, "every backing is closed");
        assert_eq!(world.violations(), [], "the provider's rules were kept");
        summary
    }
}

/// How often each kind of stimulus happened.
pub fn tally(stimuli: &[Planned]) -> BTreeMap<&'static str, u64> {
    let mut tally = BTreeMap::new();
    for Planned { stimulus, .. } in stimuli {
        *tally.entry(Stimulus::name(stimulus)).or_default() += 1;
    }
    tally
}
