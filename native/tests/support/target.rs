//! The whole engine on one thread: control loop and pollers as in production, stepped by hand, on a simulated machine.
//! Its process can end, in good order or not, and start anew on what the machine kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_core::backend::Backend;
use weir_core::engine::association::Place;
use weir_core::engine::control::events::Report;
use weir_core::engine::control::port::Reason;
use weir_core::engine::control::{Control, ControlParts, Mailboxes, Now, PollerHost, PollerLink, wire};
use weir_core::engine::poller::Poller;
use weir_core::link::scripted::ScriptedLinks;
use weir_core::provider::sim::{SimProvider, SimWorld};
use weir_core::subsystem::model::Model;
use weir_core::subsystem::spec::{DesiredState, PollingMode};

use super::storage::Storage;

/// Messages a mailbox has room for: few, so that running out of room is part of every run.
const MAILBOX_ROOM: usize = 16;
/// Backend I/Os a poller can have in flight.
const BACKEND_DEPTH: u32 = 64;
/// Unix time at the start of every run, in milliseconds.
const EPOCH_UNIX_MS: u64 = 1_700_000_000_000;
/// Lines kept of what happened.
const LOG_LINES: usize = 200;

/// Lines of what happened last, also for those who look after a panic.
pub type Log = Arc<Mutex<VecDeque<String>>>;

type SimPoller = Poller<SimProvider, Storage>;

/// Pollers that the test steps.
#[derive(Debug, Clone)]
struct SteppedPollers {
    provider: SimProvider,
    storage: Storage,
    pollers: Arc<Mutex<Vec<SimPoller>>>,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Debug)]
struct Clock {
    start: Instant,
    now: Duration,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SteppedPollers {
    fn instant(&self) -> Instant {
        let clock = locked(&self.clock);
        clock.start + clock.now
    }
}

impl PollerHost<SimProvider, Storage> for SteppedPollers {
    fn start(
        &mut self,
        place: Place,
        _mode: PollingMode,
        model: &Arc<Model>,
    ) -> Result<PollerLink<SimProvider, Storage>, Reason> {
        let queue = self.storage.queue(BACKEND_DEPTH);
        let queue = queue.expect("the simulated backend has queues");
        let mailboxes = Mailboxes::stepped(MAILBOX_ROOM);
        let (parts, link) = wire(self.provider.clone(), queue, place, model, mailboxes);
        let now = self.instant();
        locked(&self.pollers).push(Poller::new(parts, now));
        Ok(link)
    }

    fn set_mode(&mut self, _mode: PollingMode) {}
}

type SimControl = Control<SimProvider, Storage, SteppedPollers>;

/// The engine and the machine it runs on.
#[derive(Debug)]
pub struct Target {
    pub world: SimWorld,
    pub links: ScriptedLinks,
    pub storage: Storage,
    /// The process's one; `None` while no process runs.
    control: Option<SimControl>,
    pollers: SteppedPollers,
    /// A process leaves when a device was removed, as in production.
    exits: bool,
    desired: Value,
    generation: u64,
    log: Log,
    /// Digest of everything reported, to compare runs of one seed.
    pub digest: u64,
}

impl Target {
    /// An engine that serves nothing yet. `exits_when_device_removed`: as in production; it is then to be started anew.
    pub fn new(
        world: SimWorld,
        links: ScriptedLinks,
        storage: Storage,
        exits_when_device_removed: bool,
        log: Log,
    ) -> Self {
        let pollers = SteppedPollers {
            provider: world.provider(),
            storage: storage.clone(),
            pollers: Arc::default(),
            clock: Arc::new(Mutex::new(Clock {
                start: Instant::now(),
                now: Duration::ZERO,
            })),
        };
        let mut this = Self {
            world,
            links,
            storage,
            control: None,
            pollers,
            exits: exits_when_device_removed,
            desired: Value::Null,
            generation: 0,
            log,
            digest: 0,
        };
        this.start();
        this
    }

    /// Starts a process, with the desired state as last applied.
    pub fn start(&mut self) {
        assert!(self.control.is_none(), "one process runs at a time");
        self.control = Some(Control::new(ControlParts {
            provider: self.world.provider(),
            backend: self.storage.clone(),
            links: Box::new(self.links.clone()),
            poller_host: self.pollers.clone(),
            exit_when_device_removed: self.exits,
            recreation: None,
            reports: Vec::new(),
        }));
        if self.generation > 0 {
            let desired = self.desired.clone();
            self.apply(&desired);
        }
    }

    /// The process is gone at once, whatever it was doing.
    pub fn kill(&mut self) {
        self.world.kill_process();
        locked(&self.pollers.pollers).clear();
        self.control = None;
    }

    /// A process runs.
    pub fn is_running(&self) -> bool {
        self.control.is_some()
    }

    /// Time since the start of the run.
    pub fn now(&self) -> Duration {
        locked(&self.pollers.clock).now
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        locked(&self.pollers.clock).now += by;
    }

    fn moment(&self) -> Now {
        Now {
            instant: self.pollers.instant(),
            unix_ms: EPOCH_UNIX_MS + self.now().as_millis() as u64,
        }
    }

    /// Takes over a desired state, or has the next process take it over.
    pub fn apply(&mut self, spec: &Value) {
        self.generation += 1;
        self.desired.clone_from(spec);
        let text = serde_json::json!({ "generation": self.generation, "spec": spec }).to_string();
        let desired = DesiredState::from_json(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        let now = self.moment();
        if let Some(control) = &mut self.control {
            // One that is leaving takes none any more; the next process does.
            let _ = control.apply(desired, now);
        }
    }

    /// One step of the control loop; what it reported is logged and returned.
    pub fn step_control(&mut self) -> Vec<Report> {
        let now = self.moment();
        let Some(control) = &mut self.control else {
            return Vec::new();
        };
        control.step(now);
        let reports = control.take_reports();
        for report in &reports {
            let line = serde_json::to_string(report).expect("reports are JSON");
            for byte in line.bytes() {
                self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            self.note(&line);
        }
        reports
    }

    /// Pollers there are; those that left are dropped.
    pub fn poller_count(&self) -> usize {
        locked(&self.pollers.pollers).len()
    }

    /// One step of a poller.
    pub fn step_poller(&mut self, index: usize) {
        let now = self.pollers.instant();
        let mut pollers = locked(&self.pollers.pollers);
        if let Some(poller) = pollers.get_mut(index) {
            if poller.step(now).stopped {
                pollers.remove(index);
            }
        }
    }

    /// Associations and requests of all pollers.
    pub fn load(&self) -> (usize, usize) {
        let pollers = locked(&self.pollers.pollers);
        let sum = |count: fn(&SimPoller) -> usize| pollers.iter().map(count).sum();
        (sum(Poller::association_count), sum(Poller::request_count))
    }

    /// Statistics, as production gives them out; null while no process runs.
    pub fn statistics(&self) -> Value {
        self.control
            .as_ref()
            .map_or(Value::Null, |control| control.statistics(0))
    }

    /// Names and phases of all ports.
    pub fn phases(&self) -> Vec<(String, &'static str)> {
        let ports = self.control.iter().flat_map(Control::phases);
        ports.map(|(name, phase, ..)| (name.to_owned(), phase.name())).collect()
    }

    /// Begins to leave for good.
    pub fn close(&mut self) {
        let now = self.moment();
        if let Some(control) = &mut self.control {
            control.begin_closing(now);
        }
    }

    /// Everything is given back, or nothing was ever had.
    pub fn has_left(&self) -> bool {
        self.control.as_ref().is_none_or(Control::has_left)
    }

    /// The process asks to be ended.
    pub fn exit_code(&self) -> Option<i32> {
        self.control.as_ref().and_then(Control::exit_code)
    }

    /// Adds a line to the log.
    pub fn note(&self, line: &str) {
        let mut log = locked(&self.log);
        if log.len() == LOG_LINES {
            log.pop_front();
        }
        log.push_back(format!("{:>12.6}  {line}", self.now().as_secs_f64()));
    }
}
