//! All interleavings: a search through every state that can be reached, each visited once.
//!
//! Which choices there are in a state: everybody's turn, every thing on the wire, every I/O in the volume, the link for as
//! long as it may flap. Time passes when everybody had a turn and found nothing to do and nothing is on the wire, whatever
//! the volume still holds back: a disk is free to be late, for ever. A thread that is late for a timer is in the scope as
//! often as [`Scope::late`] says.
//!
//! With [`Scope::delays`] the search is of all schedules that depart from the order of turns at most so often, and in which
//! the link changes at any moment: complete within that bound. With [`Scope::midst`] the link changes whenever everybody
//! waits for something (which is at every moment of the clock that anybody waits for), and in the midst of work at most so
//! often: small enough for several flaps.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_core::simulation::deliberate_fault::{self, DeliberateFault};

use crate::fingerprint::Fingerprinter;
use crate::found::{Figures, Found};
use crate::machine::{Choice, Machine};
use crate::search::{Search, Task};

/// How often it is said how far the search is.
const NEWS: Duration = Duration::from_secs(10);

/// What is explored.
pub struct Scope {
    /// Makes the machine as it is at the start.
    pub start: Box<dyn Fn() -> Machine + Send + Sync>,
    /// Times that time may pass although somebody has something to do.
    pub late: u32,
    /// Choices that may be other than the first in turn (control loop, poller, host, wire, volume, time); `None` is any
    /// number. The link's are free: it changes at every moment.
    pub delays: Option<u32>,
    /// Times that the link may change in the midst of work, rather than when everybody waits; `None` is any number.
    pub midst: Option<u32>,
    /// Whether who was seen to have nothing to do is asked again, to see that this is still true.
    pub distrust: bool,
    /// Threads.
    pub workers: usize,
    /// A search that finds more states is given up.
    pub states_max: usize,
    /// Built into everything that runs.
    pub fault: Option<DeliberateFault>,
}

#[derive(Default)]
struct Progress {
    found: Found,
    tasks: Vec<Task>,
    /// Workers at work.
    busy: usize,
    failure: Option<String>,
}

/// What the workers share.
#[derive(Default)]
pub struct Shared {
    progress: Mutex<Progress>,
    /// Workers that have nothing to do.
    hungry: AtomicUsize,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what was found, or reads from it.
    pub fn found<R>(&self, action: impl FnOnce(&mut Found) -> R) -> R {
        action(&mut self.progress().found)
    }

    /// Somebody could take a task.
    pub fn wants_tasks(&self) -> bool {
        self.hungry.load(Ordering::Relaxed) > 0
    }

    /// Leaves something for whoever has nothing to do.
    pub fn leave(&self, task: Task) {
        self.progress().tasks.push(task);
    }

    /// Another worker found a violation.
    pub fn has_failed(&self) -> bool {
        self.progress().failure.is_some()
    }

    /// The next task; `None` when all is done or has failed.
    fn next_task(&self) -> Option<Task> {
        let mut waits = false;
        loop {
            let mut progress = self.progress();
            let is_over = progress.is_over();
            let task = progress.tasks.pop().filter(|_| !is_over);
            progress.busy += usize::from(task.is_some());
            drop(progress);
            if waits != (task.is_none() && !is_over) {
                waits = !waits;
                let change = if waits { 1 } else { usize::MAX };
                self.hungry.fetch_add(change, Ordering::Relaxed);
            }
            if is_over || task.is_some() {
                return task;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Progress {
    fn is_over(&self) -> bool {
        self.failure.is_some() || (self.tasks.is_empty() && self.busy == 0)
    }
}

/// Explores everything.
///
/// # Errors
/// The first violation, with what led to it.
pub fn explore(scope: &Scope) -> Result<Figures, String> {
    let shared = Shared::default();
    let mut fingerprinter = Fingerprinter::default();
    let mut first = || Task::start(scope, (scope.start)().fingerprint(&mut fingerprinter));
    let start = first();
    assert_eq!(
        first().fingerprint(),
        start.fingerprint(),
        "the start is the same every time"
    );
    shared.found(|found| found.start(start.fingerprint()));
    shared.leave(start);
    std::thread::scope(|threads| {
        for _ in 0..scope.workers {
            threads.spawn(|| {
                deliberate_fault::build_in(scope.fault);
                work(scope, &shared);
            });
        }
        say_how_far(&shared);
    });
    let progress = shared.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = progress.failure {
        return Err(failure);
    }
    match progress.found.stuck() {
        None => Ok(progress.found.figures()),
        Some(stuck) => Err(shown_from(scope, stuck.count, &stuck.path)),
    }
}

fn work(scope: &Scope, shared: &Shared) {
    let mut search = Search::new(scope, shared);
    while let Some(task) = shared.next_task() {
        let outcome = search.follow(task);
        let mut progress = shared.progress();
        progress.busy -= 1;
        if let Err(failure) = outcome {
            progress.failure.get_or_insert(failure);
            return;
        }
    }
}

fn say_how_far(shared: &Shared) {
    let mut news = Instant::now() + NEWS;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let progress = shared.progress();
        if progress.is_over() {
            return;
        }
        if Instant::now() >= news {
            news += NEWS;
            let _ = writeln!(std::io::stderr(), "small scope: {:?}", progress.found.figures());
        }
    }
}

/// A way to a state from which nothing leads to an end, and what follows there.
fn shown_from(scope: &Scope, count: usize, path: &[Choice]) -> String {
    let mut machine = (scope.start)();
    machine.keep_log();
    path.iter().for_each(|choice| machine.take(*choice));
    machine.go_on_in_turn();
    let log = machine.log();
    format!(
        "{log}\nfrom {count} states, this one among them, the port never comes to serve its host again, however long \
         the link stays up\n{} choices: {path:?}",
        path.len()
    )
}
