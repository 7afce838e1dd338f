//! The whole engine on one thread: control loop and pollers as in production, stepped by hand, on a simulated machine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_core::backend::Backend;
use weir_core::engine::association::Place;
use weir_core::engine::control::events::Report;
use weir_core::engine::control::port::Reason;
use weir_core::engine::control::{Control, ControlParts, Now, PollerHost, PollerLink};
use weir_core::engine::counters::PollerCounters;
use weir_core::engine::mailbox::{NeverAsleep, mailbox};
use weir_core::engine::poller::{Poller, PollerParts};
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

type SimPoller = Poller<SimProvider, Storage>;

/// Pollers that the test steps.
#[derive(Debug, Clone)]
struct SteppedPollers {
    provider: SimProvider,
    storage: Storage,
    pollers: Arc<Mutex<Vec<SimPoller>>>,
    start: Instant,
    now: Arc<Mutex<Duration>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PollerHost<SimProvider, Storage> for SteppedPollers {
    fn start(
        &mut self,
        place: Place,
        _mode: PollingMode,
        model: &Arc<Model>,
    ) -> Result<PollerLink<SimProvider, Storage>, Reason> {
        let (to, inbox) = mailbox(MAILBOX_ROOM, Arc::new(NeverAsleep));
        let (outbox, from) = mailbox(MAILBOX_ROOM, Arc::new(NeverAsleep));
        let counters = Arc::new(PollerCounters::default());
        let parts = PollerParts {
            provider: self.provider.clone(),
            backend: self
                .storage
                .queue(BACKEND_DEPTH)
                .expect("the simulated backend has queues"),
            place,
            model: Arc::clone(model),
            inbox,
            outbox,
            counters: Arc::clone(&counters),
        };
        let now = self.start + *locked(&self.now);
        locked(&self.pollers).push(Poller::new(parts, now));
        Ok(PollerLink { to, from, counters })
    }

    fn set_mode(&mut self, _mode: PollingMode) {}
}

/// The engine and the machine it runs on.
#[derive(Debug)]
pub struct Target {
    pub world: SimWorld,
    pub links: ScriptedLinks,
    pub storage: Storage,
    control: Control<SimProvider, Storage, SteppedPollers>,
    pollers: SteppedPollers,
    generation: u64,
    log: Arc<Mutex<VecDeque<String>>>,
    /// Digest of everything reported, to compare runs of one seed.
    pub digest: u64,
}

impl Target {
    /// An engine that serves nothing yet.
    pub fn new(world: SimWorld, links: ScriptedLinks, storage: Storage, log: Arc<Mutex<VecDeque<String>>>) -> Self {
        let pollers = SteppedPollers {
            provider: world.provider(),
            storage: storage.clone(),
            pollers: Arc::default(),
            start: Instant::now(),
            now: Arc::default(),
        };
        let control = Control::new(ControlParts {
            provider: world.provider(),
            backend: storage.clone(),
            links: Box::new(links.clone()),
            poller_host: pollers.clone(),
            exit_when_device_removed: false,
            recreation: None,
            reports: Vec::new(),
        });
        Self {
            world,
            links,
            storage,
            control,
            pollers,
            generation: 0,
            log,
            digest: 0,
        }
    }

    /// Time since the start of the run.
    pub fn now(&self) -> Duration {
        *locked(&self.pollers.now)
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        *locked(&self.pollers.now) += by;
    }

    fn moment(&self) -> Now {
        let now = self.now();
        Now {
            instant: self.pollers.start + now,
            unix_ms: EPOCH_UNIX_MS + now.as_millis() as u64,
        }
    }

    /// Takes over a desired state.
    pub fn apply(&mut self, spec: &Value) {
        self.generation += 1;
        let text = serde_json::json!({ "generation": self.generation, "spec": spec }).to_string();
        let desired = DesiredState::from_json(text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        self.control
            .apply(desired, self.moment())
            .expect("the engine is not draining");
    }

    /// One step of the control loop; what it reported is logged and returned.
    pub fn step_control(&mut self) -> Vec<Report> {
        self.control.step(self.moment());
        let reports = self.control.take_reports();
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
        let now = self.pollers.start + self.now();
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

    /// Statistics, as production gives them out.
    pub fn statistics(&self) -> Value {
        self.control.statistics(0)
    }

    /// Names and phases of all ports.
    pub fn phases(&self) -> Vec<(String, &'static str)> {
        self.control
            .phases()
            .map(|(name, phase, ..)| (name.to_owned(), phase.name()))
            .collect()
    }

    /// Begins to leave for good.
    pub fn close(&mut self) {
        self.control.begin_closing(self.moment());
    }

    /// Everything is given back.
    pub fn has_left(&self) -> bool {
        self.control.has_left()
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
