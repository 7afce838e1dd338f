//! Poller threads: one poller each, waiting for work in the mode that is asked for.

use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::bell::Bell;
use super::fatal::Fatal;
use super::wait::wait;
use crate::backend::Backend;
use crate::engine::association::Place;
use crate::engine::control::port::Reason;
use crate::engine::control::{Mailboxes, PollerHost, PollerLink, wire};
use crate::engine::counters::PollerCounters;
use crate::engine::mailbox::Wake;
use crate::engine::poller::Poller;
use crate::provider::Provider;
use crate::subsystem::model::Model;
use crate::subsystem::spec::PollingMode;

/// Messages to a poller, and messages to the control thread.
const MAILBOX_ROOM: usize = 4096;

/// I/Os a poller may have with its backend; more wait in the poller.
const BACKEND_DEPTH: u32 = 1024;

/// Idle time after which an adaptive poller sleeps: about what falling asleep and being woken costs.
const ADAPTIVE_SPIN: Duration = Duration::from_micros(30);

/// The mode as pollers read it.
#[derive(Debug)]
struct SharedMode(AtomicU8);

impl SharedMode {
    fn set(&self, mode: PollingMode) {
        let number = match mode {
            PollingMode::Busy => 0,
            PollingMode::Adaptive => 1,
            PollingMode::Event => 2,
        };
        self.0.store(number, Ordering::Relaxed);
    }

    /// How long to go on polling without work; `None`: for ever.
    fn spin(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(ADAPTIVE_SPIN),
            _ => Some(Duration::ZERO),
        }
    }
}

/// Starts poller threads, and joins them when dropped.
#[derive(Debug)]
pub(super) struct PollerThreads<P: Provider, B: Backend> {
    provider: P,
    backend: B,
    control: Arc<Bell>,
    fatal: Fatal,
    /// Processors to pin pollers to, round and round; none: not pinned.
    processors: Vec<usize>,
    mode: Arc<SharedMode>,
    threads: Vec<(Arc<Bell>, JoinHandle<()>)>,
}

impl<P: Provider, B: Backend> PollerThreads<P, B> {
    pub(super) fn new(provider: P, backend: B, control: Arc<Bell>, fatal: Fatal, processors: Vec<usize>) -> Self {
        let mode = Arc::new(SharedMode(AtomicU8::new(0)));
        mode.set(PollingMode::default());
        Self {
            provider,
            backend,
            control,
            fatal,
            processors,
            mode,
            threads: Vec::new(),
        }
    }
}

impl<P: Provider, B: Backend> PollerHost<P, B> for PollerThreads<P, B> {
    fn start(&mut self, place: Place, mode: PollingMode, model: &Arc<Model>) -> Result<PollerLink<P, B>, Reason> {
        self.mode.set(mode);
        self.threads.retain(|(_, thread)| !thread.is_finished());
        let failed = |what: &str, error: std::io::Error| {
            Reason::new("PollerNotStarted", format!("poller {}: {what}: {error}", place.index))
        };
        let bell = Arc::new(Bell::new().map_err(|error| failed("no descriptor to be woken by", error))?);
        let queue = self
            .backend
            .queue(BACKEND_DEPTH)
            .map_err(|error| failed("no backend queue", error))?;
        let mailboxes = Mailboxes {
            room: MAILBOX_ROOM,
            wake_poller: Arc::clone(&bell) as Arc<dyn Wake>,
            wake_control: Arc::clone(&self.control) as Arc<dyn Wake>,
        };
        let (parts, link) = wire(self.provider.clone(), queue, place, model, mailboxes);
        let (mode, fatal) = (Arc::clone(&self.mode), self.fatal.clone());
        let processor = match self.processors.len() {
            0 => None,
            count => Some(self.processors[usize::from(place.index) % count]),
        };
        let name = format!("weir-poller-{}", place.index);
        let (own_bell, own_counters) = (Arc::clone(&bell), Arc::clone(&link.counters));
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                pin(processor);
                let mut poller: Poller<P, B> = Poller::new(parts, Instant::now());
                let run = || run(&mut poller, &mode, &own_bell, &own_counters);
                if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
                    // Its state is not to be trusted any more, and neither are its destructors.
                    std::mem::forget(poller);
                    fatal.panicked(&name, &*payload);
                }
            })
            .map_err(|error| failed("no thread", error))?;
        self.threads.push((bell, thread));
        Ok(link)
    }

    fn set_mode(&mut self, mode: PollingMode) {
        self.mode.set(mode);
        for (bell, _) in &self.threads {
            bell.wake();
        }
    }
}

impl<P: Provider, B: Backend> Drop for PollerThreads<P, B> {
    fn drop(&mut self) {
        for (_, thread) in self.threads.drain(..) {
            // A panic was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

fn pin(processor: Option<usize>) {
    if let Some(processor) = processor.filter(|processor| *processor < CpuSet::MAX_CPU) {
        let mut set = CpuSet::new();
        set.set(processor);
        // Not allowed here: it runs anywhere, which is only slower.
        let _ = sched_setaffinity(None, &set);
    }
}

fn run<P: Provider, B: Backend>(poller: &mut Poller<P, B>, mode: &SharedMode, bell: &Bell, counters: &PollerCounters) {
    let mut idle_since: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let progress = poller.step(now);
        if progress.stopped {
            return;
        }
        if progress.worked {
            idle_since = None;
            continue;
        }
        let idle_for = now.saturating_duration_since(*idle_since.get_or_insert(now));
        match mode.spin() {
            Some(spin) if idle_for >= spin => {
                if !sleep(poller, bell, counters) {
                    return;
                }
                idle_since = None;
            }
            _ => std::hint::spin_loop(),
        }
    }
}

/// Asks for notifications, looks once more, sleeps. False: the poller has stopped.
fn sleep<P: Provider, B: Backend>(poller: &mut Poller<P, B>, bell: &Bell, counters: &PollerCounters) -> bool {
    bell.about_to_sleep();
    let armed = poller.arm().is_ok();
    let now = Instant::now();
    let progress = poller.step(now);
    if armed && !progress.worked && !progress.stopped {
        let descriptors: Vec<RawFd> = poller.completion_fds().chain([bell.fd()]).collect();
        counters.sleeps.increment();
        wait(
            &descriptors,
            progress.deadline.map(|at| at.saturating_duration_since(now)),
        );
    }
    bell.awake();
    poller.disarm();
    !progress.stopped
}
