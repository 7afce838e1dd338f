//! What it costs to take queue pairs down with everything that is in flight on them: control loop and poller of
//! production on the simulated provider, 32 writes in the backend on each queue pair. The cost has to be linear in what
//! is in flight. Instructions are counted by valgrind (callgrind), so they do not depend on the machine's load.
//!
//! | part | from | until |
//! |---|---|---|
//! | `drain` | the link goes down | the port is `Down`: held, drained, everything given back |
//! | `tell` | the link comes back | the port serves and every host was told |
//! | `fatal` | the device reports every queue pair as fatal | all are given back and their hosts were told |
//! | `return` | every host comes back while its writes are in the backend | they have served what waited at their fences |
//!
//! `cargo bench --bench drain` prints a table for 10, 100 and 1,000 queue pairs; `-- --report FILE` writes the same as
//! JSON; `-- --check` does it for fewer of them; each fails if what one more queue pair costs grows with their number.
//! `-- --count drain 100` only does the work once (part, queue pairs): what is run under valgrind.

mod callgrind;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use callgrind::{Profile, is_provider};
use serde_json::json;
use support::host::{Host, HostSettings};
use support::metered::Metered;
use weir_core::backend::{
    Backend, BackingFacts, BackingId, BackingSpec, IoCompletion, IoRequest, OpenError, Queue, QueueFull,
};
use weir_core::engine::association::Place;
use weir_core::engine::control::port::Reason;
use weir_core::engine::control::{Control, ControlParts, Mailboxes, Now, PollerHost, PollerLink, wire};
use weir_core::engine::poller::{Poller, Progress};
use weir_core::link::scripted::ScriptedLinks;
use weir_core::provider::sim::{LinkState, SimDeviceSpec, SimProvider, SimWorld};
use weir_core::subsystem::model::Model;
use weir_core::subsystem::spec::{DesiredState, PollingMode};

/// I/O queue pairs that are taken down. Each of their hosts has an admin queue pair beside them.
const SIZES: [usize; 3] = [10, 100, 1000];
/// I/O queue pairs of a host.
const QUEUES_PER_HOST: usize = 10;
/// Writes in flight on each.
const IOS_PER_QUEUE: usize = 32;
/// Entries of an I/O queue.
const QUEUE_ENTRIES: u16 = 64;
const BLOCK_BYTES: u64 = 4096;
/// Room of the mailboxes between control loop and poller, as in production.
const MAILBOX_ROOM: usize = 4096;
/// Fewer, to check the growth in every test run. Four times as many queue pairs at the end as in the middle.
const CHECKED_SIZES: [usize; 3] = [10, 100, 400];
/// What one more queue pair costs may grow by so much from the first two sizes to the last two: ordered tables get a
/// little deeper (measured: 1.02 to 1.08). A scan of a few instructions over every connection at each step of the control
/// loop made 1.15 of it, one at each failed queue pair 1.26.
const GROWTH_MAX: f64 = 1.1;
/// Moments a part may take.
const MOMENTS_MAX: usize = 20_000;

const DEVICE: &str = "rxe0";
const NETDEV: &str = "rdma0";
const SUBSYSTEM_NQN: &str = "nqn.2026-11.dev.weir:bench";

/// What is measured; see the module's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Drain,
    Tell,
    Fatal,
    Return,
}

impl Part {
    const ALL: [Self; 4] = [Self::Drain, Self::Tell, Self::Fatal, Self::Return];

    fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Tell => "tell",
            Self::Fatal => "fatal",
            Self::Return => "return",
        }
    }
}

/// A backend that keeps every I/O until it is let go, and does nothing with it then.
#[derive(Debug, Clone, Default)]
struct HeldBackend {
    released: Arc<AtomicBool>,
}

#[derive(Debug)]
struct HeldBacking {
    size_bytes: u64,
}

#[derive(Debug)]
struct HeldQueue {
    released: Arc<AtomicBool>,
    pending: VecDeque<u64>,
}

impl Backend for HeldBackend {
    type Backing = HeldBacking;
    type Queue = HeldQueue;

    fn open(&self, spec: &BackingSpec) -> Result<Arc<HeldBacking>, OpenError> {
        match spec {
            BackingSpec::Null { size_bytes } => Ok(Arc::new(HeldBacking {
                size_bytes: *size_bytes,
            })),
            other => panic!("{other:?} is not what the benchmark serves"),
        }
    }

    fn facts(&self, backing: &HeldBacking) -> BackingFacts {
        BackingFacts {
            size_bytes: backing.size_bytes,
            block_shift: 12,
            volatile: false,
            read_only: false,
            write_cache: false,
        }
    }

    fn queue(&self, _depth: u32) -> std::io::Result<HeldQueue> {
        Ok(HeldQueue {
            released: Arc::clone(&self.released),
            pending: VecDeque::new(),
        })
    }
}

impl Queue for HeldQueue {
    type Backing = HeldBacking;

    fn attach(&mut self, _id: BackingId, _backing: Arc<HeldBacking>) {}

    fn detach(&mut self, _id: BackingId) {}

    #[inline(never)]
    fn push(&mut self, request: &IoRequest) -> Result<(), QueueFull> {
        self.pending.push_back(request.token);
        Ok(())
    }

    fn submit(&mut self) {}

    #[inline(never)]
    fn poll(&mut self, completions: &mut [IoCompletion]) -> usize {
        if !self.released.load(Ordering::Relaxed) {
            return 0;
        }
        let count = completions.len().min(self.pending.len());
        for (completion, token) in completions.iter_mut().zip(self.pending.drain(..count)) {
            *completion = IoCompletion { token, errno: 0 };
        }
        count
    }

    fn in_flight(&self) -> usize {
        self.pending.len()
    }

    fn completion_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self, _armed: bool) {}
}

type BenchProvider = Metered<SimProvider>;
type BenchPoller = Poller<BenchProvider, HeldBackend>;
type BenchControl = Control<BenchProvider, HeldBackend, SteppedPollers>;

/// Keeps the poller where the benchmark can step it.
#[derive(Debug, Clone)]
struct SteppedPollers {
    provider: BenchProvider,
    backend: HeldBackend,
    pollers: Arc<Mutex<Vec<BenchPoller>>>,
    start: Instant,
}

impl SteppedPollers {
    fn lock(&self) -> MutexGuard<'_, Vec<BenchPoller>> {
        self.pollers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollerHost<BenchProvider, HeldBackend> for SteppedPollers {
    fn start(
        &mut self,
        place: Place,
        _mode: PollingMode,
        model: &Arc<Model>,
    ) -> Result<PollerLink<BenchProvider, HeldBackend>, Reason> {
        let queue = self.backend.queue(0).expect("room without end");
        let mailboxes = Mailboxes::stepped(MAILBOX_ROOM);
        let (parts, link) = wire(self.provider.clone(), queue, place, model, mailboxes);
        self.lock().push(Poller::new(parts, self.start));
        Ok(link)
    }

    fn set_mode(&mut self, _mode: PollingMode) {}
}

/// The control loop's work that is counted.
#[inline(never)]
fn counted_control(control: &mut BenchControl, now: Now) -> Option<Instant> {
    control.step(now)
}

/// The poller's work that is counted.
#[inline(never)]
fn counted_poller(poller: &mut BenchPoller, now: Instant) -> Progress {
    poller.step(now)
}

/// One engine with one port and one poller, and its hosts.
#[derive(Debug)]
struct Engine {
    world: SimWorld,
    links: ScriptedLinks,
    backend: HeldBackend,
    control: BenchControl,
    pollers: SteppedPollers,
    hosts: Vec<Host>,
    elapsed: Duration,
    /// From now on, work is counted.
    counting: bool,
}

fn address() -> IpAddr {
    IpAddr::from([10, 9, 0, 1])
}

fn desired_state(hosts: usize, receives: usize) -> DesiredState {
    let blocks = hosts * QUEUES_PER_HOST * IOS_PER_QUEUE;
    let desired = json!({ "generation": 1, "spec": {
        "nodeName": "node-a",
        "target": "bench/target",
        "listeners": [{ "name": "bench", "addressFrom": { "interface": NETDEV } }],
        "subsystems": [{
            "nqn": SUBSYSTEM_NQN,
            "access": { "policy": "AnyHost" },
            "namespaces": [{ "nsid": 1, "backend": { "null": { "sizeBytes": blocks as u64 * BLOCK_BYTES } } }],
        }],
        "queues": { "queueDepth": QUEUE_ENTRIES },
        "buffers": { "receiveCount": receives },
    }});
    DesiredState::from_json(desired.to_string().as_bytes()).expect("a desired state")
}

impl Engine {
    /// An engine that `queue_pairs` I/O queue pairs are connected to.
    fn connected(queue_pairs: usize) -> Self {
        let host_count = queue_pairs / QUEUES_PER_HOST;
        // Room for all I/O, for each host's admin commands, and for what is reserved to them.
        let receives = queue_pairs * IOS_PER_QUEUE + host_count * 4 + 64;
        let world = SimWorld::in_order();
        let mut device = SimDeviceSpec::new(DEVICE, NETDEV, address());
        device.limits.completion_entries_max = 1 << 20;
        world.add_device(device);
        let links = ScriptedLinks::with(&[(NETDEV, address(), 16)]);
        let backend = HeldBackend::default();
        let pollers = SteppedPollers {
            provider: Metered(world.provider()),
            backend: backend.clone(),
            pollers: Arc::default(),
            start: Instant::now(),
        };
        let control = Control::new(ControlParts {
            provider: Metered(world.provider()),
            backend: backend.clone(),
            links: Box::new(links.clone()),
            poller_host: pollers.clone(),
            exit_when_device_removed: false,
            recreation: None,
            reports: Vec::new(),
        });
        let hosts = (0..host_count).map(|index| {
            let ip = IpAddr::from([10, 9, 1 + (index / 200) as u8, 1 + (index % 200) as u8]);
            let blocks = QUEUES_PER_HOST * IOS_PER_QUEUE;
            let settings = HostSettings {
                nqn: format!("nqn.2026-11.dev.weir:host-{index}"),
                subsystem_nqn: SUBSYSTEM_NQN.to_owned(),
                targets: vec![SocketAddr::new(address(), 4420)],
                io_queues: QUEUES_PER_HOST as u16,
                queue_entries: QUEUE_ENTRIES,
                namespace_id: 1,
                first_block: (index * blocks) as u64,
                blocks,
            };
            Host::new(world.add_host(ip), settings, 1)
        });
        let mut this = Self {
            hosts: hosts.collect(),
            world,
            links,
            backend,
            control,
            pollers,
            elapsed: Duration::ZERO,
            counting: false,
        };
        let now = this.now();
        this.control
            .apply(desired_state(host_count, receives), now)
            .expect("applied");
        this.until("the port serves", |this| this.phase() == "Serving");
        this.until_hosts_are_live();
        this
    }

    fn now(&self) -> Now {
        Now {
            instant: self.pollers.start + self.elapsed,
            unix_ms: 1_700_000_000_000,
        }
    }

    fn phase(&self) -> &'static str {
        self.control.phases().next().map_or("", |(_, phase, ..)| phase.name())
    }

    /// Everything that happens at one moment; when there is more to do.
    fn settle(&mut self) -> Instant {
        let now = self.now();
        loop {
            let control = if self.counting {
                counted_control(&mut self.control, now)
            } else {
                self.control.step(now)
            };
            self.control.take_reports();
            let mut busy = self.world.run_until_idle() > 0;
            let mut deadline = control;
            for poller in self.pollers.lock().iter_mut() {
                let progress = if self.counting {
                    counted_poller(poller, now.instant)
                } else {
                    poller.step(now.instant)
                };
                busy |= progress.worked;
                deadline = [deadline, progress.deadline].into_iter().flatten().min();
            }
            busy |= self.world.run_until_idle() > 0;
            busy |= self.control.has_messages();
            let deadline = deadline.unwrap_or(now.instant + Duration::from_millis(10));
            if !busy && deadline > now.instant {
                return deadline;
            }
        }
    }

    /// Lets time pass from one deadline to the next.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..MOMENTS_MAX {
            let deadline = self.settle();
            if is_so(self) {
                return;
            }
            self.elapsed = deadline - self.pollers.start;
        }
        panic!(
            "it never comes that {what}: {:#}",
            self.control.statistics(0)["listeners"]
        );
    }

    fn until_hosts_are_live(&mut self) {
        for _ in 0..MOMENTS_MAX {
            let now = self.elapsed;
            self.hosts.iter_mut().for_each(|host| host.step(now, 0));
            self.settle();
            if self.hosts.iter().all(Host::is_live) {
                return;
            }
            self.elapsed += Duration::from_micros(10);
        }
        panic!("hosts do not connect: {:#}", self.control.statistics(0)["listeners"]);
    }

    /// So many writes on each I/O queue; they stay in the backend or at a fence.
    fn write(&mut self, ios: std::ops::Range<usize>) {
        let now = self.elapsed;
        for host in &mut self.hosts {
            for queue in 0..QUEUES_PER_HOST {
                for io in ios.clone() {
                    host.write(1 + queue, queue * IOS_PER_QUEUE + io, 1, true, now);
                }
            }
        }
        self.settle();
    }

    fn requests(&self) -> usize {
        self.pollers.lock().iter().map(Poller::request_count).sum()
    }

    fn release(&self) {
        self.backend.released.store(true, Ordering::Relaxed);
    }

    fn set_link(&self, up: bool) {
        self.links.set_up(NETDEV, up);
        self.world
            .set_link(DEVICE, if up { LinkState::Up } else { LinkState::Down });
    }

    fn drain(&mut self) {
        self.set_link(false);
        self.until("the port drains", |this| this.phase() == "Draining");
        self.release();
        self.until("the port is drained", |this| this.phase() == "Down");
        assert_eq!(self.world.live_objects().queue_pairs, 0, "all is given back");
    }

    fn tell(&mut self) {
        self.set_link(true);
        self.until("every host was told", |this| {
            this.phase() == "Serving" && this.world.live_objects().connection_ids == 0
        });
    }

    fn fail_all(&mut self) {
        for index in 0..self.world.live_objects().queue_pairs {
            assert!(self.world.fail_queue_pair(DEVICE, index), "there are queue pairs");
        }
        self.settle();
        self.release();
        self.until("every host was told", |this| {
            let live = this.world.live_objects();
            live.queue_pairs == 0 && live.connection_ids == 0
        });
    }

    fn come_back(&mut self, ios: usize) {
        let now = self.elapsed;
        self.hosts.iter_mut().for_each(|host| host.reconnect(now));
        self.until_hosts_are_live();
        self.write(ios..2 * ios);
        self.release();
        self.settle();
        let now = self.elapsed;
        self.hosts.iter_mut().for_each(|host| host.step(now, 0));
        assert_eq!(
            self.hosts.iter().map(Host::io_in_flight).sum::<usize>(),
            0,
            "all is answered"
        );
    }
}

/// Does the work once, counting one part of it. How many I/Os it is about.
fn work(part: Part, queue_pairs: usize) -> usize {
    let mut engine = Engine::connected(queue_pairs);
    let ios = if part == Part::Return {
        IOS_PER_QUEUE / 2
    } else {
        IOS_PER_QUEUE
    };
    engine.write(0..ios);
    assert!(engine.requests() >= queue_pairs * ios, "all writes are in the backend");
    if part == Part::Tell {
        engine.drain();
    }
    engine.counting = true;
    callgrind::start();
    match part {
        Part::Drain => engine.drain(),
        Part::Tell => engine.tell(),
        Part::Fatal => engine.fail_all(),
        Part::Return => engine.come_back(ios),
    }
    // The simulator forgives nothing that is torn down out of order, and tearing down is not the subject here.
    std::mem::forget(engine);
    queue_pairs * IOS_PER_QUEUE
}

/// Instructions of one part.
#[derive(Debug, Clone, Copy)]
struct Cost {
    engine: u64,
    provider: u64,
}

impl Cost {
    fn measure(part: Part, queue_pairs: usize) -> Result<Self, String> {
        let arguments = ["--count", part.name(), &queue_pairs.to_string()];
        let profile = Profile::collect_from_start("*drain::counted_*", &arguments)?;
        let provider = profile.entered(is_provider);
        let backend = profile.entered(|name| name.contains("HeldQueue"));
        Ok(Self {
            engine: profile.all - provider - backend,
            provider,
        })
    }

    fn per_io(self, queue_pairs: usize) -> f64 {
        self.engine as f64 / (queue_pairs * IOS_PER_QUEUE) as f64
    }
}

/// What one more queue pair costs with many of them, as a multiple of what it costs with few. What does not depend on
/// their number does not count.
fn growth(sizes: [usize; 3], costs: [u64; 3]) -> f64 {
    let more = |index: usize| {
        let cost = costs[index + 1] as f64 - costs[index] as f64;
        cost / (sizes[index + 1] - sizes[index]) as f64
    };
    more(1) / more(0)
}

/// Measures all parts. Those whose cost is not linear.
fn bench(report: Option<&str>, sizes: [usize; 3]) -> Result<Vec<String>, String> {
    println!("instructions: part, queue pairs with {IOS_PER_QUEUE} I/Os each: engine (of an I/O) | simulated provider");
    let mut figures = Vec::new();
    let mut grown = Vec::new();
    for part in Part::ALL {
        let name = part.name();
        let mut costs = [0; 3];
        for (queue_pairs, engine) in sizes.into_iter().zip(&mut costs) {
            let cost = Cost::measure(part, queue_pairs)?;
            *engine = cost.engine;
            let per_io = cost.per_io(queue_pairs);
            println!(
                "{name:>6} {queue_pairs:>5}: {:>12} ({per_io:>6.0}) | {:>12}",
                cost.engine, cost.provider
            );
            figures.push(json!({
                "part": name,
                "queuePairs": queue_pairs,
                "iosPerQueuePair": IOS_PER_QUEUE,
                "engineInstructions": cost.engine,
                "engineInstructionsPerIo": per_io,
                "simulatedProviderInstructions": cost.provider,
            }));
        }
        let growth = growth(sizes, costs);
        println!("{name:>6}: one more queue pair costs {growth:.3} times as much with many as with few");
        if growth > GROWTH_MAX {
            grown.push(format!("{name}: {growth:.3}, and {GROWTH_MAX} is allowed"));
        }
    }
    if let Some(path) = report {
        let text = format!("{:#}\n", json!({ "drain": figures }));
        std::fs::write(path, text).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(grown)
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--count", part, queue_pairs] => {
            let part = Part::ALL.into_iter().find(|one| one.name() == *part);
            match (part, queue_pairs.parse()) {
                (Some(part), Ok(queue_pairs)) => {
                    println!("{} I/Os", work(part, queue_pairs));
                    Ok(Vec::new())
                }
                _ => Err(format!("no such part or number: {words:?}")),
            }
        }
        ["--check"] => bench(None, CHECKED_SIZES),
        ["--report", path] => bench(Some(path), SIZES),
        [] => bench(None, SIZES),
        other => Err(format!("unknown arguments {other:?}")),
    };
    match outcome {
        Ok(grown) if grown.is_empty() => ExitCode::SUCCESS,
        Ok(grown) => {
            eprintln!("the cost is not linear in what is in flight:\n{}", grown.join("\n"));
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
