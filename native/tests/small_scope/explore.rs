//! All interleavings: a search through every state that can be reached, each visited once.
//!
//! The engine cannot be copied, so a state is returned to by making the same choices again from the start; the machine is
//! deterministic. Which choices there are in a state: everybody's turn, every thing on the wire, every I/O in the volume,
//! the link for as long as it may flap. Time passes when everybody had a turn and found nothing to do and nothing is on
//! the wire, whatever the volume still holds back: a disk is free to be late, for ever. A thread that is late for a timer
//! is in the scope as often as [`Scope::late`] says.
//!
//! With [`Scope::delays`] the search is of all schedules that depart from the order of turns at most so often, and in which
//! the link changes at any moment: complete within that bound. With [`Scope::midst`] the link changes whenever everybody
//! waits for something (which is at every moment of the clock that anybody waits for), and in the midst of work at most so
//! often: small enough for several flaps.
//!
//! One reduction: a participant that found nothing to do is not asked again until something happened that it can see.
//! This is sound because a step reads only the participant's own state, its mailbox, the device and the clock.

use std::collections::HashMap;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use weir_core::simulation::deliberate_fault::{self, DeliberateFault};

use crate::machine::{Choice, Machine};

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
    /// Threads.
    pub workers: usize,
    /// A search that finds more states is given up.
    pub states_max: usize,
    /// Built into everything that runs.
    pub fault: Option<DeliberateFault>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// States.
    pub states: usize,
    /// Transitions: choices that changed the state.
    pub transitions: usize,
    /// Most choices one after the other.
    pub depth_max: usize,
    /// States in which all is well and nothing is left to happen but the link going down. From each, reads and leaving
    /// were tried.
    pub ends: usize,
}

/// Who was seen to have nothing to do, and cannot have got anything since.
#[derive(Debug, Clone, Copy, Default)]
struct Idle {
    control: bool,
    poller: bool,
    host: bool,
}

impl Idle {
    fn knows(self, choice: Choice) -> bool {
        match choice {
            Choice::Control => self.control,
            Choice::Poller => self.poller,
            Choice::Host => self.host,
            _ => false,
        }
    }

    fn learns(&mut self, choice: Choice) {
        match choice {
            Choice::Control => self.control = true,
            Choice::Poller => self.poller = true,
            Choice::Host => self.host = true,
            _ => {}
        }
    }

    /// What is still known after a choice that changed the state.
    fn after(mut self, choice: Choice) -> Self {
        match choice {
            Choice::Control => {
                self.poller = false;
                self.control = false;
            }
            Choice::Poller => {
                self.control = false;
                self.poller = false;
            }
            // It acts on the wire only.
            Choice::Host => self.host = false,
            Choice::Volume(_) => self.poller = false,
            Choice::Wire(_) | Choice::Link | Choice::Time => self = Self::default(),
        }
        self
    }
}

/// What may still happen so many times; it decides what can follow, as the state does.
#[derive(Debug, Clone, Copy)]
struct Budget {
    late: u32,
    delays: u32,
    midst: u32,
}

impl Budget {
    fn of(scope: &Scope) -> Self {
        Self {
            late: scope.late,
            delays: scope.delays.unwrap_or(0),
            midst: scope.midst.unwrap_or(0),
        }
    }

    /// The fingerprint of a state with this budget.
    fn with(self, fingerprint: u64) -> u64 {
        let all = u64::from(self.late) << 32 | u64::from(self.midst) << 16 | u64::from(self.delays);
        fingerprint.wrapping_add(all.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// A state to return to, and the first of its choices that is still to be made.
#[derive(Clone)]
struct Task {
    path: Vec<Choice>,
    /// Number of the state.
    state: u32,
    /// Its fingerprint, without what may still be late or delayed.
    fingerprint: u64,
    idle: Idle,
    budget: Budget,
    /// The choice that is in turn was made.
    first_made: bool,
    next: usize,
}

#[derive(Default)]
struct Found {
    /// Number of each state, by fingerprint.
    states: HashMap<u64, u32>,
    edges: Vec<Edge>,
    ends: Vec<u32>,
    depth_max: usize,
    tasks: Vec<Task>,
    /// Workers at work.
    busy: usize,
    failure: Option<String>,
    /// A path to each state.
    paths: Vec<(u32, Choice)>,
}

#[derive(Clone, Copy)]
struct Edge {
    from: u32,
    to: u32,
    link_down: bool,
}

impl Found {
    /// The state's number, and whether it is new.
    fn insert(&mut self, fingerprint: u64, from: u32, choice: Choice) -> (u32, bool) {
        let next = u32::try_from(self.states.len()).expect("states fit 32 bits");
        let number = *self.states.entry(fingerprint).or_insert(next);
        if number == next {
            self.paths.push((from, choice));
        }
        (number, number == next)
    }
}

/// Explores everything.
///
/// # Errors
/// The first violation, with what led to it.
pub fn explore(scope: &Scope) -> Result<Figures, String> {
    let found = Mutex::new(Found::default());
    {
        let mut machine = (scope.start)();
        let first = machine.fingerprint();
        assert_eq!((scope.start)().fingerprint(), first, "the start is the same every time");
        let budget = Budget::of(scope);
        let mut found = locked(&found);
        let (state, _) = found.insert(budget.with(first), 0, Choice::Time);
        found.tasks.push(Task {
            path: Vec::new(),
            state,
            fingerprint: first,
            idle: Idle::default(),
            budget,
            first_made: false,
            next: 0,
        });
    }
    std::thread::scope(|threads| {
        for _ in 0..scope.workers {
            threads.spawn(|| {
                deliberate_fault::build_in(scope.fault);
                work(scope, &found);
            });
        }
        say_how_far(&found);
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = found.failure {
        return Err(failure);
    }
    check_that_all_recover(scope, &found)?;
    Ok(Figures {
        states: found.states.len(),
        transitions: found.edges.len(),
        depth_max: found.depth_max,
        ends: found.ends.len(),
    })
}

fn locked(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_over(found: &Found) -> bool {
    found.failure.is_some() || (found.tasks.is_empty() && found.busy == 0)
}

fn say_how_far(found: &Mutex<Found>) {
    let mut news = Instant::now() + NEWS;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let found = locked(found);
        if is_over(&found) {
            return;
        }
        if Instant::now() >= news {
            news += NEWS;
            let (states, transitions, depth) = (found.states.len(), found.edges.len(), found.depth_max);
            let _ = writeln!(
                std::io::stderr(),
                "small scope: {states} states, {transitions} transitions, depth {depth}, {} to return to",
                found.tasks.len()
            );
        }
    }
}

fn work(scope: &Scope, found: &Mutex<Found>) {
    loop {
        let task = {
            let mut found = locked(found);
            if is_over(&found) {
                return;
            }
            let task = found.tasks.pop();
            found.busy += usize::from(task.is_some());
            task
        };
        let Some(task) = task else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        let outcome = follow(scope, found, task);
        let mut found = locked(found);
        found.busy -= 1;
        if let Err(failure) = outcome {
            found.failure.get_or_insert(failure);
        }
    }
}

/// Runs `action` on the machine; a panic of it is the violation, which is then looked at again with all that happens.
fn attempt<R>(
    scope: &Scope,
    machine: &mut Option<Machine>,
    path: &[Choice],
    action: impl Fn(&mut Machine) -> R,
) -> Result<R, String> {
    let running = machine.as_mut().expect("it is there until it fails");
    catch_unwind(AssertUnwindSafe(|| action(running))).map_err(|panic| {
        // What is broken is not to be torn down in order.
        std::mem::forget(machine.take());
        let mut again = (scope.start)();
        again.keep_log();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            path.iter().for_each(|choice| again.take(*choice));
            action(&mut again);
        }));
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic");
        let report = format!("{}\n{text}\n{} choices: {path:?}", again.log(), path.len());
        std::mem::forget(again);
        report
    })
}

fn replay(scope: &Scope, path: &[Choice]) -> Result<Option<Machine>, String> {
    let mut machine = Some((scope.start)());
    attempt(scope, &mut machine, &[], |machine| {
        path.iter().for_each(|choice| machine.take(*choice))
    })?;
    Ok(machine)
}

/// Makes the choices that are left of a task, and goes on from the first new state, leaving what is left there for later.
fn follow(scope: &Scope, found: &Mutex<Found>, mut task: Task) -> Result<(), String> {
    let mut machine = replay(scope, &task.path)?;
    loop {
        let choices = attempt(scope, &mut machine, &task.path, |machine| {
            choices(scope, machine, &task)
        })?;
        let Some(&choice) = choices.get(task.next) else {
            return finish(scope, found, machine, &task);
        };
        task.next += 1;
        let is_delay = scope.delays.is_some() && task.first_made && choice != Choice::Link;
        if task.idle.knows(choice) || is_delay && task.budget.delays == 0 {
            continue;
        }
        let mut rest = task.clone();
        let at_rest = is_at_rest(&task, machine.as_ref().expect("there"));
        // Where everybody rests, it remains to be seen whether all is well.
        let to_return_to = task.next < choices.len() || at_rest;
        let mut budget = task.budget;
        budget.delays -= u32::from(is_delay);
        budget.late -= u32::from(choice == Choice::Time && !at_rest);
        budget.midst -= u32::from(choice == Choice::Link && !at_rest && scope.midst.is_some());
        let link_down = choice == Choice::Link && machine.as_ref().expect("there").link_is_up();
        task.path.push(choice);
        let fingerprint = attempt(scope, &mut machine, &rest.path, |machine| {
            machine.take(choice);
            machine.fingerprint()
        })?;
        if fingerprint == task.fingerprint {
            task = rest;
            task.idle.learns(choice);
            continue;
        }
        rest.first_made |= choice != Choice::Link;
        let mut found_so_far = locked(found);
        let (state, is_new) = found_so_far.insert(budget.with(fingerprint), task.state, choice);
        found_so_far.edges.push(Edge {
            from: task.state,
            to: state,
            link_down,
        });
        found_so_far.depth_max = found_so_far.depth_max.max(task.path.len());
        if found_so_far.states.len() > scope.states_max {
            return Err(format!("more than {} states", scope.states_max));
        }
        if is_new {
            if to_return_to {
                found_so_far.tasks.push(rest);
            }
            task.idle = task.idle.after(choice);
            task.budget = budget;
            task.first_made = false;
            task.fingerprint = fingerprint;
            task.state = state;
            task.next = 0;
        } else if to_return_to {
            drop(found_so_far);
            task = rest;
            machine = replay(scope, &task.path)?;
        } else {
            return Ok(());
        }
    }
}

fn is_at_rest(task: &Task, machine: &Machine) -> bool {
    let Idle { control, poller, host } = task.idle;
    control && poller && host && machine.wire_choices() == 0
}

/// The choices of a state, always in the same order. What may happen only when everybody waits comes last: whether they do
/// is known by then.
fn choices(scope: &Scope, machine: &mut Machine, task: &Task) -> Vec<Choice> {
    let mut choices = vec![Choice::Control, Choice::Poller, Choice::Host];
    choices.extend((0..machine.wire_choices()).map(Choice::Wire));
    choices.extend((0..machine.volume_choices()).map(Choice::Volume));
    let at_rest = is_at_rest(task, machine);
    if machine.link_can_change() && (at_rest || scope.midst.is_none() || task.budget.midst > 0) {
        choices.push(Choice::Link);
    }
    if at_rest && machine.next_moment().is_some() || !at_rest && task.budget.late > 0 && machine.time_can_pass() {
        choices.push(Choice::Time);
    }
    choices
}

/// All choices of a state were made: if it is one in which all is well, it is taken to the end.
fn finish(scope: &Scope, found: &Mutex<Found>, mut machine: Option<Machine>, task: &Task) -> Result<(), String> {
    let ends = machine
        .as_ref()
        .is_some_and(|machine| is_at_rest(task, machine) && machine.volume_choices() == 0 && machine.is_well());
    if ends {
        locked(found).ends.push(task.state);
        attempt(scope, &mut machine, &task.path, Machine::check_the_end)?;
    }
    Ok(())
}

/// Every state leads to one in which all is well, if the link only stays up: found backwards from those.
fn check_that_all_recover(scope: &Scope, found: &Found) -> Result<(), String> {
    let mut back: Vec<(u32, u32)> = found
        .edges
        .iter()
        .filter(|edge| !edge.link_down)
        .map(|edge| (edge.to, edge.from))
        .collect();
    back.sort_unstable();
    let mut recovers = vec![false; found.states.len()];
    let mut queue = found.ends.clone();
    queue.iter().for_each(|state| recovers[*state as usize] = true);
    while let Some(state) = queue.pop() {
        let from = back.partition_point(|edge| edge.0 < state);
        for (_, source) in back[from..].iter().take_while(|edge| edge.0 == state) {
            if !std::mem::replace(&mut recovers[*source as usize], true) {
                queue.push(*source);
            }
        }
    }
    let Some(first) = recovers.iter().position(|recovers| !recovers) else {
        return Ok(());
    };
    let count = recovers.iter().filter(|recovers| !**recovers).count();
    let mut path = Vec::new();
    let mut state = first;
    while state != 0 {
        let (from, choice) = found.paths[state];
        path.push(choice);
        state = from as usize;
    }
    path.reverse();
    let mut machine = (scope.start)();
    machine.keep_log();
    path.iter().for_each(|choice| machine.take(*choice));
    machine.go_on_in_turn();
    let log = machine.log();
    Err(format!(
        "{log}\nfrom {count} states, this one among them, the port never comes to serve its host again, however long \
         the link stays up\n{} choices: {path:?}",
        path.len()
    ))
}
