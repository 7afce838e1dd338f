//! The control thread.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::event_ring::EventRing;
use super::fatal::{Fatal, unix_ms};
use super::snapshot::Snapshot;
use super::wait::wait;
use crate::backend::Backend;
use crate::engine::control::events::{Event, Level, Report};
use crate::engine::control::{Control, EXIT_DEVICE_REMOVED, EXIT_RECREATE_DEVICE, Now, PollerHost};
use crate::provider::Provider;
use crate::subsystem::spec::DesiredState;

/// What other threads ask of it.
#[derive(Debug)]
pub(super) enum Command {
    /// A desired state.
    Apply(Box<DesiredState>),
    /// A drain of the whole process.
    Drain(Duration),
    /// Drain shortly and leave.
    Close,
}

/// What the control thread shares with callers.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) commands: Mutex<VecDeque<Command>>,
    pub(super) bell: Arc<Bell>,
    pub(super) ring: Arc<EventRing>,
    pub(super) snapshot: Snapshot,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the host program has asked for the end.
    fn is_closing(&self) -> bool {
        self.lock().iter().any(|command| matches!(command, Command::Close))
    }
}

/// The thread's life: until it is closed, or the process ends.
pub(super) fn run<P: Provider, B: Backend, H: PollerHost<P, B>>(
    mut control: Control<P, B, H>,
    shared: &Shared,
    fatal: &Fatal,
) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run_loop(&mut control, shared, fatal)));
    if let Err(payload) = outcome {
        // Its state is not to be trusted any more, and neither are its destructors.
        std::mem::forget(control);
        fatal.panicked("weir-control", &*payload);
    }
}

fn run_loop<P: Provider, B: Backend, H: PollerHost<P, B>>(
    control: &mut Control<P, B, H>,
    shared: &Shared,
    fatal: &Fatal,
) {
    loop {
        let now = now();
        take_commands(control, shared, now);
        let deadline = control.step(now);
        for report in control.take_reports() {
            shared.ring.push(&report);
        }
        if shared.snapshot.is_wanted() {
            shared
                .snapshot
                .put(control.statistics(shared.ring.dropped()).to_string());
        }
        if let Some(code) = control.exit_code() {
            // The host program asks for statistics once more, and nobody renders them from here on.
            shared
                .snapshot
                .put(control.statistics(shared.ring.dropped()).to_string());
            fatal.leave(code, exit_message(code), || shared.is_closing());
            return;
        }
        if control.has_left() {
            return;
        }
        let wait_for = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        if wait_for.is_some_and(|time| time.is_zero()) {
            continue;
        }
        sleep(control, shared, deadline);
    }
}

/// Asks to be woken, looks once more for what came meanwhile, sleeps.
fn sleep<P: Provider, B: Backend, H: PollerHost<P, B>>(
    control: &mut Control<P, B, H>,
    shared: &Shared,
    deadline: Option<Instant>,
) {
    shared.bell.about_to_sleep();
    let nothing_came = shared.lock().is_empty() && !shared.snapshot.is_wanted() && !control.has_messages();
    if nothing_came {
        let mut descriptors = control.descriptors();
        descriptors.push(shared.bell.fd());
        wait(
            &descriptors,
            deadline.map(|at| at.saturating_duration_since(Instant::now())),
        );
    }
    shared.bell.awake();
}

fn take_commands<P: Provider, B: Backend, H: PollerHost<P, B>>(
    control: &mut Control<P, B, H>,
    shared: &Shared,
    now: Now,
) {
    loop {
        // The lock is not held while a command is carried out.
        let Some(command) = shared.lock().pop_front() else {
            return;
        };
        match command {
            Command::Apply(desired) => {
                let generation = desired.generation;
                if let Err(error) = control.apply(*desired, now) {
                    let event = Event::ApplyProblem {
                        generation,
                        field: "spec".to_owned(),
                        reason: "Draining",
                        message: error.to_string(),
                    };
                    shared.ring.push(&Report {
                        time_ms: now.unix_ms,
                        level: Level::Warning,
                        event,
                    });
                }
            }
            Command::Drain(timeout) => control.begin_quiesce(timeout, now),
            Command::Close => control.begin_closing(now),
        }
    }
}

fn exit_message(code: i32) -> String {
    match code {
        EXIT_DEVICE_REMOVED => {
            "an RDMA device was removed; the process ends so that the kernel can let go of it".to_owned()
        }
        EXIT_RECREATE_DEVICE => {
            "the management queue pair of a soft RDMA device is dead; the process ends so that the next one can make \
             the device anew"
                .to_owned()
        }
        _ => format!("the process ends with code {code}"),
    }
}

fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix_ms: unix_ms(),
    }
}
