//! Everything that takes part: control loop and poller of production, the simulated device and wire, the volume, the host,
//! the link and time. Each can be given its turn.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use weir_core::backend::Backend;
use weir_core::engine::association::Place;
use weir_core::engine::control::port::Reason;
use weir_core::engine::control::{Control, ControlParts, Mailboxes, Now, PollerHost, PollerLink, wire};
use weir_core::engine::poller::Poller;
use weir_core::lifecycle::Phase;
use weir_core::link::scripted::ScriptedLinks;
use weir_core::provider::sim::{LinkState, LiveObjects, SimDeviceSpec, SimProvider, SimWorld};
use weir_core::subsystem::model::Model;
use weir_core::subsystem::spec::{DesiredState, PollingMode};

use crate::fingerprint::{Fingerprinter, Parts};
use crate::host::{BLOCK_BYTES, Host, Script};
use crate::storage::{BLOCKS, Storage};

const DEVICE: &str = "rxe0";
const NETDEV: &str = "rdma0";
const ADDRESS: &str = "10.9.0.1";
const PORT: u16 = 4420;
const SUBSYSTEM_NQN: &str = "nqn.2026-11.dev.weir:scope";
const MAILBOX_ROOM: usize = 64;
/// Receives of the port, and requests: more than the two I/Os and what hosts say on the admin queue beside them need.
const RECEIVES: u32 = 8;
/// Lines kept of what happened.
const LOG_LINES: usize = 400;
/// Turns of everybody that are shown of what follows a state.
const ROUNDS_SHOWN: usize = 30;
/// Turns of everybody within which a machine left alone comes to rest.
const ROUNDS_MAX: usize = 1000;

type ScopePoller = Poller<SimProvider, Storage>;

/// The one poller, once it is started.
#[derive(Clone)]
struct SteppedPoller {
    provider: SimProvider,
    storage: Storage,
    poller: Arc<Mutex<Option<ScopePoller>>>,
    start: Instant,
    now: Arc<Mutex<Duration>>,
}

impl fmt::Debug for SteppedPoller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SteppedPoller")
    }
}

/// A device on which few receives can be posted: what nobody uses makes a state larger and no difference to it.
fn device(ip: IpAddr) -> SimDeviceSpec {
    let mut device = SimDeviceSpec::new(DEVICE, NETDEV, ip);
    device.limits.shared_receive_max = RECEIVES;
    device
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PollerHost<SimProvider, Storage> for SteppedPoller {
    fn start(
        &mut self,
        place: Place,
        _mode: PollingMode,
        model: &Arc<Model>,
    ) -> Result<PollerLink<SimProvider, Storage>, Reason> {
        let queue = self.storage.queue(0).expect("a queue");
        let mailboxes = Mailboxes::stepped(MAILBOX_ROOM);
        let (parts, link) = wire(self.provider.clone(), queue, place, model, mailboxes);
        let now = self.start + *locked(&self.now);
        *locked(&self.poller) = Some(Poller::new(parts, now));
        Ok(link)
    }

    fn set_mode(&mut self, _mode: PollingMode) {}
}

/// Somebody's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A step of the control loop.
    Control,
    /// A step of the poller.
    Poller,
    /// The host looks at what arrived and does the next thing.
    Host,
    /// One of the things on the wire or in the device happens.
    Wire(u8),
    /// One of the I/Os in the volume is carried out and completes.
    Volume(u8),
    /// The link goes down, or comes up.
    Link,
    /// Everybody is seen to have nothing to do, and time passes up to the next moment somebody waits for.
    Time,
    /// Time passes up to that moment although somebody has something to do.
    Late,
}

/// Who may do things in any order, beside control loop, poller, volume and link, who always may.
#[derive(Debug, Clone, Copy, Default)]
pub struct Freedom {
    /// The host; else it does what there is to do as soon as something arrives or its time comes.
    pub host: bool,
    /// What is on the wire and in the device; else it happens in the order it was asked for, at any time.
    pub wire: bool,
}

/// See the module's text.
pub struct Machine {
    world: SimWorld,
    links: ScriptedLinks,
    storage: Storage,
    control: Control<SimProvider, Storage, SteppedPoller>,
    poller: SteppedPoller,
    pub host: Host,
    link_up: bool,
    freedom: Freedom,
    /// Times the link may still go down.
    pub flaps_left: u32,
    control_deadline: Option<Duration>,
    poller_deadline: Option<Duration>,
    /// What happened, where that is wanted.
    log: Option<VecDeque<String>>,
    /// Choices made, where they are to be made again.
    way: Option<Vec<Choice>>,
}

impl Machine {
    /// The choices that lead to a port that serves and a host that is connected.
    pub fn way_to_connected(script: Script) -> Vec<Choice> {
        let mut machine = Self::new(script, 0);
        machine.way = Some(Vec::new());
        machine.settle("the host is connected", |machine| machine.host.is_live());
        machine.come_to_rest();
        machine.way.take().expect("it was just put there")
    }

    /// A machine that has gone a way before its host begins its I/Os and its link to flap. With none it has just taken
    /// over its desired state.
    pub fn after(way: &[Choice], script: Script, flaps: u32, freedom: Freedom) -> Self {
        let mut machine = Self::new(script, flaps);
        way.iter().for_each(|choice| machine.take(*choice));
        machine.host.begun = true;
        machine.freedom = freedom;
        machine.step_host();
        machine
    }

    fn new(script: Script, flaps: u32) -> Self {
        let world = SimWorld::in_order();
        let ip: IpAddr = ADDRESS.parse().expect("an address");
        world.add_device(device(ip));
        let links = ScriptedLinks::with(&[(NETDEV, ip, 24)]);
        let storage = Storage::default();
        let poller = SteppedPoller {
            provider: world.provider(),
            storage: storage.clone(),
            poller: Arc::default(),
            start: Instant::now(),
            now: Arc::default(),
        };
        let control = Control::new(ControlParts {
            provider: world.provider(),
            backend: storage.clone(),
            links: Box::new(links.clone()),
            poller_host: poller.clone(),
            exit_when_device_removed: false,
            recreation: None,
            reports: Vec::new(),
        });
        let sim = world.add_host("10.9.0.2".parse().expect("an address"));
        let host = Host::new(sim, SocketAddr::new(ip, PORT), SUBSYSTEM_NQN, script, poller.start);
        let mut machine = Self {
            world,
            links,
            storage,
            control,
            poller,
            host,
            link_up: true,
            freedom: Freedom::default(),
            flaps_left: flaps,
            control_deadline: None,
            poller_deadline: None,
            log: None,
            way: None,
        };
        machine.apply();
        machine
    }

    fn apply(&mut self) {
        let spec = json!({
            "nodeName": "node-a",
            "target": "scope/target",
            "listeners": [{ "name": NETDEV, "addressFrom": { "address": ADDRESS }, "port": PORT }],
            "subsystems": [{ "nqn": SUBSYSTEM_NQN, "access": { "policy": "AnyHost" }, "namespaces": [
                { "nsid": 1, "backend": { "file": { "path": "/simulated", "sizeBytes": 4096 } } },
            ] }],
            "queues": {
                "queueDepth": 32, "maxIOQueues": 1, "inCapsuleDataSizeBytes": BLOCK_BYTES, "maxIOSizeBytes": 4096,
            },
            // With the host's pauses all are multiples of half a second, so that moments coincide.
            "link": { "holdMilliseconds": 1000, "drainTimeoutSeconds": 2, "upStabilizationMilliseconds": 500 },
            "polling": { "cores": 1 },
            "buffers": { "smallCount": 16, "largeCount": 4, "receiveCount": 64 },
        });
        let text = json!({ "generation": 1, "spec": spec }).to_string();
        let desired = DesiredState::from_json(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        let now = self.moment();
        self.control.apply(desired, now).expect("the engine is not draining");
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        *locked(&self.poller.now)
    }

    fn moment(&self) -> Now {
        let now = self.now();
        Now {
            instant: self.poller.start + now,
            unix_ms: now.as_millis() as u64,
        }
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.poller.start)
    }

    /// Things on the wire and in the device that can happen now.
    pub fn wire_choices(&self) -> u8 {
        let all = self.world.choices();
        let choices = if self.freedom.wire { all } else { all.min(1) };
        u8::try_from(choices).expect("the scope is small")
    }

    /// I/Os in the volume that can complete now.
    pub fn volume_choices(&self) -> u8 {
        u8::try_from(self.storage.pending()).expect("the scope is small")
    }

    /// The link can change now.
    pub fn link_can_change(&self) -> bool {
        !self.link_up || self.flaps_left > 0
    }

    /// The link is up.
    pub fn link_is_up(&self) -> bool {
        self.link_up
    }

    /// The next moment that somebody waits for.
    ///
    /// # Panics
    /// If somebody asks for a turn at once although it was just seen to have nothing to do.
    pub fn next_moment(&self) -> Option<Duration> {
        let (now, moments) = (self.now(), self.moments());
        let next = moments.into_iter().flatten().min()?;
        assert!(
            next > now,
            "somebody spins: control, poller and host wait for {moments:?}, and it is {now:?}"
        );
        Some(next)
    }

    fn has_come(&self, deadline: Option<Duration>) -> bool {
        deadline.is_some_and(|at| at <= self.now())
    }

    /// The control loop's deadline has come, or the device has something for it. What is in its mailbox is not asked.
    pub fn control_has_news(&self) -> bool {
        self.has_come(self.control_deadline) || self.world.events_wait()
    }

    /// The poller's deadline has come, or the device or the volume has something for it. What is in its mailbox is not
    /// asked.
    pub fn poller_has_news(&self) -> bool {
        self.has_come(self.poller_deadline) || self.world.completions_wait() || self.storage.has_completions()
    }

    /// Somebody waits for a moment.
    pub fn somebody_waits(&self) -> bool {
        self.moments().into_iter().flatten().next().is_some()
    }

    /// Somebody waits for a moment that is not here yet.
    pub fn time_can_pass(&self) -> bool {
        self.moments().into_iter().flatten().any(|at| at > self.now())
    }

    /// Gives somebody a turn. A broken promise is a panic.
    pub fn take(&mut self, choice: Choice) {
        self.way.iter_mut().for_each(|way| way.push(choice));
        if self.log.is_some() {
            let line = match choice {
                Choice::Wire(index) if self.freedom.wire => format!("wire: {}", self.world.choice(index.into())),
                Choice::Volume(index) => format!("volume: {}", self.storage.shown(index.into())),
                other => format!("{other:?}"),
            };
            self.note(line);
        }
        match choice {
            Choice::Control => self.step_control(),
            Choice::Poller => self.step_poller(),
            Choice::Host => self.step_host(),
            Choice::Wire(index) if self.freedom.wire => self.world.choose(index.into()),
            Choice::Wire(_) => {
                self.world.step();
            }
            Choice::Volume(index) => self.storage.complete(index.into()),
            Choice::Link => self.change_link(),
            Choice::Time => {
                // Who is asked again says anew how long it can wait.
                self.step_control();
                self.step_poller();
                self.pass_time();
            }
            Choice::Late => self.pass_time(),
        }
        // Once is enough: what it does is to ask for something on the wire, and that does not happen by itself.
        if !self.freedom.host {
            self.step_host();
        }
        self.world.forget_connections();
    }

    /// The host has turns of its own.
    pub fn host_is_free(&self) -> bool {
        self.freedom.host
    }

    fn pass_time(&mut self) {
        let next = self.moments().into_iter().flatten().filter(|at| *at > self.now()).min();
        *locked(&self.poller.now) = next.expect("somebody waits");
    }

    fn step_host(&mut self) {
        let now = self.moment().instant;
        self.host.step(now);
    }

    /// When control loop, poller and host want to be stepped although nothing arrives.
    fn moments(&self) -> [Option<Duration>; 3] {
        let host = self.host.deadline().map(|at| self.since_start(at));
        [self.control_deadline, self.poller_deadline, host]
    }

    fn step_control(&mut self) {
        let now = self.moment();
        let deadline = self.control.step(now);
        self.control_deadline = deadline.map(|at| self.since_start(at));
        let reports = self.control.take_reports();
        if self.log.is_some() {
            for report in reports {
                self.note(serde_json::to_string(&report).expect("reports are JSON"));
            }
        }
    }

    fn step_poller(&mut self) {
        let now = self.moment().instant;
        let mut poller = locked(&self.poller.poller);
        let Some(stepped) = poller.as_mut() else { return };
        let progress = stepped.step(now);
        self.poller_deadline = progress.deadline.map(|at| self.since_start(at));
        if progress.stopped {
            *poller = None;
            self.poller_deadline = None;
        }
    }

    fn change_link(&mut self) {
        self.link_up = !self.link_up;
        self.flaps_left -= u32::from(!self.link_up);
        self.links.set_up(NETDEV, self.link_up);
        self.world
            .set_link(DEVICE, if self.link_up { LinkState::Up } else { LinkState::Down });
    }

    fn note(&mut self, line: String) {
        let at = self.now().as_secs_f64();
        if let Some(log) = &mut self.log {
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(format!("{at:>10.3}  {line}"));
        }
    }

    /// Keeps from now on what happens.
    pub fn keep_log(&mut self) {
        self.log = Some(VecDeque::new());
    }

    /// What happened since then.
    pub fn log(&self) -> String {
        let lines = self.log.iter().flatten();
        lines.fold(String::new(), |text, line| text + line + "\n")
    }

    /// Everything that decides what can happen next, as text.
    fn describe(&self, text: &mut Parts<'_>) -> fmt::Result {
        write!(text, "Control {:?}", self.control)?;
        text.end();
        write!(text, "{:?}", *locked(&self.poller.poller))?;
        text.end();
        self.world.describe(text)?;
        text.end();
        write!(text, "{:?} {} {} ", self.links, self.link_up, self.flaps_left)?;
        self.storage.describe(text)?;
        text.end();
        write!(text, "{:?}", self.host)?;
        text.end();
        Ok(())
    }

    /// Tells this state from others.
    pub fn fingerprint(&self, fingerprinter: &mut Fingerprinter) -> u64 {
        fingerprinter.fingerprint(self.moment().instant, |text| self.describe(text))
    }

    /// The port serves and the host is connected and done.
    pub fn is_well(&self) -> bool {
        let serves = |phase: Phase| matches!(phase, Phase::Serving);
        self.link_up
            && self.control.phases().all(|(_, phase, ..)| serves(phase))
            && self.host.is_live()
            && self.host.is_done()
    }

    /// Gives everybody turns, in order, until `done`.
    fn settle(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let mut fingerprinter = Fingerprinter::default();
        for _ in 0..ROUNDS_MAX {
            if done(self) {
                return;
            }
            self.round(&mut fingerprinter);
        }
        panic!("{what}: not within {ROUNDS_MAX} rounds");
    }

    /// Gives everybody turns until nothing changes but the time.
    fn come_to_rest(&mut self) {
        let mut fingerprinter = Fingerprinter::default();
        for _ in 0..ROUNDS_MAX {
            let before = self.fingerprint(&mut fingerprinter);
            self.turns();
            if self.fingerprint(&mut fingerprinter) == before {
                return;
            }
        }
        panic!("the machine does not come to rest within {ROUNDS_MAX} rounds");
    }

    /// Shows what follows when everybody has its turn, one after the other.
    pub fn go_on_in_turn(&mut self) {
        self.note("--- from here on, everybody in turn".to_owned());
        let mut fingerprinter = Fingerprinter::default();
        for _ in 0..ROUNDS_SHOWN {
            self.round(&mut fingerprinter);
        }
    }

    fn turns(&mut self) {
        self.take(Choice::Control);
        self.take(Choice::Poller);
        self.take(Choice::Host);
        while self.world.choices() > 0 {
            self.take(Choice::Wire(0));
        }
        while self.storage.pending() > 0 {
            self.take(Choice::Volume(0));
        }
    }

    fn round(&mut self, fingerprinter: &mut Fingerprinter) {
        let before = self.fingerprint(fingerprinter);
        self.turns();
        if self.fingerprint(fingerprinter) == before && self.next_moment().is_some() {
            self.take(Choice::Time);
        }
    }

    /// At the end: what the host reads is what it may read and what the volume holds, and once the host and then the
    /// target have left nothing is held any more.
    ///
    /// # Panics
    /// If not.
    pub fn check_the_end(&mut self) {
        for block in 0..BLOCKS {
            let held = self.storage.block(block);
            assert!(
                self.host.history.allows(block, held),
                "block {block} of the volume holds {held:#x}, but only {} is possible",
                self.host.history.expectation(block)
            );
            self.host.read_again(block);
            self.settle("the host reads", |machine| machine.host.is_done());
        }
        self.host.leave();
        self.settle("the host leaves", |machine| {
            let objects = machine.world.live_objects();
            machine.host.is_gone() && objects.queue_pairs == 0 && objects.connection_ids == 0
        });
        let now = self.moment();
        self.control.begin_closing(now);
        self.settle("the target leaves", |machine| {
            machine.control.has_left() && locked(&machine.poller.poller).is_none()
        });
        let held = self.world.live_objects();
        assert_eq!(held, LiveObjects::default(), "everything is given back");
        assert_eq!(self.world.violations(), [], "the provider's rules were kept");
    }
}

/// A machine that is let go in the middle of something is not torn down in order, and that is no violation.
impl Drop for Machine {
    fn drop(&mut self) {
        self.world.record_violations();
    }
}
