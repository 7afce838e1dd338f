//! The end of the process: a fatal event, time for it to leave, an exit code that says why.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::event_ring::EventRing;
use crate::engine::control::events::{Event, Level, Report};

/// Exit code after a panic (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_PANIC: i32 = 70;

/// Time for the last events to be taken.
const FLUSH: Duration = Duration::from_secs(1);

/// Time for the host program to tell others why the process ends, where that is no accident.
const FAREWELL: Duration = Duration::from_secs(3);

/// How often is looked whether the host program is done with it.
const FAREWELL_LOOK: Duration = Duration::from_millis(10);

/// Ends the process; replaced in tests.
pub trait ProcessExit: fmt::Debug + Send + Sync {
    /// Ends it with this code.
    fn exit(&self, code: i32);
}

/// Really ends the process, without the host program's own handlers: they are not ours to run from a thread of ours.
#[derive(Debug, Clone, Copy)]
pub struct ExitProcess;

impl ProcessExit for ExitProcess {
    fn exit(&self, code: i32) {
        // SAFETY: `_exit` has no preconditions.
        unsafe { libc::_exit(code) }
    }
}

/// How threads end the process.
#[derive(Debug, Clone)]
pub(super) struct Fatal {
    ring: Arc<EventRing>,
    exit: Arc<dyn ProcessExit>,
}

impl Fatal {
    pub(super) fn new(ring: Arc<EventRing>, exit: Arc<dyn ProcessExit>) -> Self {
        Self { ring, exit }
    }

    /// A thread of ours panicked.
    pub(super) fn panicked(&self, thread: &str, payload: &(dyn Any + Send)) {
        self.end(
            EXIT_PANIC,
            format!("thread {thread} panicked: {}", panic_message(payload)),
        );
    }

    /// Reports and ends. Nothing is waited for but the events: after a panic no state is to be trusted.
    fn end(&self, code: i32, message: String) {
        self.tell(code, message);
        self.exit.exit(code);
    }

    /// Reports, lets the host program say its last word, and ends: when `is_done` says so, and soon in any case.
    pub(super) fn leave(&self, code: i32, message: String, is_done: impl Fn() -> bool) {
        self.tell(code, message);
        let last_moment = Instant::now() + FAREWELL;
        while !is_done() && Instant::now() < last_moment {
            std::thread::sleep(FAREWELL_LOOK);
        }
        self.exit.exit(code);
    }

    fn tell(&self, code: i32, message: String) {
        let event = Event::Fatal {
            message,
            exit_code: code,
        };
        self.ring.push(&Report {
            time_ms: unix_ms(),
            level: Level::Error,
            event,
        });
        self.ring.wait_until_empty(FLUSH);
    }
}

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Unix time in milliseconds.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
