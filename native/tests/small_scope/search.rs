//! One worker's part of the search, depth first: the machine goes on as long as what comes is new, and is put back to the
//! last state in which a choice is left.
//!
//! One reduction: a participant that found nothing to do is not asked again until something happened that it can see.
//! This is sound because a step reads only the participant's own state, its mailbox, what the device has for it, and
//! whether its deadline has come. With [`Scope::distrust`] it is asked all the same, and must still have nothing to do.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::explore::{Scope, Shared};
use crate::fingerprint::Fingerprinter;
use crate::heap::{Held, Snapshot};
use crate::machine::{Choice, Machine};

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

    /// What is still known after a choice that changed the state to what the machine is now.
    fn after(mut self, choice: Choice, machine: &Machine) -> Self {
        match choice {
            // Each writes to the other's mailbox and to the wire.
            Choice::Control | Choice::Poller => {
                self.poller = false;
                self.control = false;
            }
            // It acts on the wire only.
            Choice::Host => self.host = false,
            Choice::Volume(_) => self.poller = false,
            Choice::Wire(_) | Choice::Time | Choice::Late => {
                self.control &= !machine.control_has_news();
                self.poller &= !machine.poller_has_news();
                self.host = false;
            }
            Choice::Link => self = Self::default(),
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

/// What the machine offers in a state.
#[derive(Debug, Clone, Copy, Default)]
struct Offer {
    /// The host has turns of its own.
    host: bool,
    wire: u8,
    volume: u8,
    link: bool,
    link_is_up: bool,
    /// Somebody waits for a moment.
    moment: bool,
    /// And it is yet to come.
    time: bool,
    is_well: bool,
}

impl Offer {
    fn of(machine: &Machine) -> Self {
        Self {
            host: machine.host_is_free(),
            wire: machine.wire_choices(),
            volume: machine.volume_choices(),
            link: machine.link_can_change(),
            link_is_up: machine.link_is_up(),
            moment: machine.somebody_waits(),
            time: machine.time_can_pass(),
            is_well: machine.is_well(),
        }
    }
}

/// A state, and how far its choices are made.
#[derive(Debug, Clone, Copy)]
struct Visit {
    /// Choices that led here.
    depth: usize,
    /// Number of the state.
    state: u32,
    /// Its fingerprint, without the budget.
    fingerprint: u64,
    budget: Budget,
    idle: Idle,
    offer: Offer,
    /// The choice that is in turn was made.
    first_made: bool,
    /// The first choice that is still to be made.
    next: u8,
}

impl Visit {
    fn is_at_rest(&self) -> bool {
        let host_rests = self.idle.host || !self.offer.host;
        self.idle.control && self.idle.poller && host_rests && self.offer.wire == 0
    }

    /// The choice at a position, always in the same order. What may happen only when everybody waits comes last: whether
    /// they do is known by then.
    fn choice(&self, position: u8) -> Option<Choice> {
        let Offer { wire, volume, .. } = self.offer;
        Some(match position {
            0 => Choice::Control,
            1 => Choice::Poller,
            2 => Choice::Host,
            _ if position - 3 < wire => Choice::Wire(position - 3),
            _ if position - 3 - wire < volume => Choice::Volume(position - 3 - wire),
            _ if position - 3 - wire == volume => Choice::Link,
            _ if position - 4 - wire == volume && self.is_at_rest() => Choice::Time,
            _ if position - 4 - wire == volume => Choice::Late,
            _ => return None,
        })
    }

    fn is_delay(&self, scope: &Scope, choice: Choice) -> bool {
        scope.delays.is_some() && self.first_made && choice != Choice::Link
    }

    fn can_be_made(&self, scope: &Scope, choice: Choice) -> bool {
        let at_rest = self.is_at_rest();
        let is_there = match choice {
            Choice::Link => self.offer.link && (at_rest || scope.midst.is_none() || self.budget.midst > 0),
            Choice::Time => self.offer.moment,
            Choice::Late => self.offer.time && self.budget.late > 0,
            Choice::Host if !self.offer.host => false,
            _ => scope.distrust || !self.idle.knows(choice),
        };
        is_there && (self.budget.delays > 0 || !self.is_delay(scope, choice))
    }

    /// Goes on to the next choice that is to be made, without making it.
    fn advance(&mut self, scope: &Scope) -> Option<Choice> {
        while let Some(choice) = self.choice(self.next) {
            if self.can_be_made(scope, choice) {
                return Some(choice);
            }
            self.next += 1;
        }
        None
    }

    /// What may still happen after a choice.
    fn budget_after(&self, scope: &Scope, choice: Choice) -> Budget {
        let at_rest = self.is_at_rest();
        let mut budget = self.budget;
        budget.delays -= u32::from(self.is_delay(scope, choice));
        budget.late -= u32::from(choice == Choice::Late);
        budget.midst -= u32::from(choice == Choice::Link && !at_rest && scope.midst.is_some());
        budget
    }

    /// All is well, and nothing is left to happen but the link going down.
    fn is_end(&self) -> bool {
        self.is_at_rest() && self.offer.volume == 0 && self.offer.is_well
    }
}

/// A state whose choices are to be made, and the way to it.
pub struct Task {
    path: Vec<Choice>,
    visit: Visit,
}

impl Task {
    /// Everything.
    pub fn start(scope: &Scope, fingerprint: u64) -> Self {
        let visit = Visit {
            depth: 0,
            state: 0,
            fingerprint,
            budget: Budget::of(scope),
            idle: Idle::default(),
            offer: Offer::of(&(scope.start)()),
            first_made: false,
            next: 0,
        };
        Self {
            path: Vec::new(),
            visit,
        }
    }

    /// That of the state it begins with.
    pub fn fingerprint(&self) -> u64 {
        self.visit.budget.with(self.visit.fingerprint)
    }
}

/// A visit to return to; the machine as it was then, once it has gone on.
struct Frame {
    visit: Visit,
    snapshot: Option<Snapshot>,
}

/// See the module's text.
pub struct Search<'a> {
    scope: &'a Scope,
    shared: &'a Shared,
    machine: Held<Machine>,
    fingerprinter: Fingerprinter,
    start: Snapshot,
    /// Choices made from the start.
    path: Vec<Choice>,
    frames: Vec<Frame>,
}

impl<'a> Search<'a> {
    /// A worker of a scope.
    pub fn new(scope: &'a Scope, shared: &'a Shared) -> Self {
        let mut machine = Held::new(|| (scope.start)());
        let start = machine.save();
        Self {
            scope,
            shared,
            machine,
            fingerprinter: Fingerprinter::default(),
            start,
            path: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Makes all choices that are left of a task, and all that follow, but for what it leaves to others.
    ///
    /// # Errors
    /// The violation, with what led to it.
    pub fn follow(&mut self, task: Task) -> Result<(), String> {
        self.machine.put_back(&self.start);
        self.path.clear();
        for choice in task.path {
            self.take(choice)?;
        }
        self.enter(task.visit);
        while let Some(frame) = self.frames.last_mut() {
            match frame.visit.advance(self.scope) {
                Some(choice) => self.make(choice)?,
                None => self.finish()?,
            }
            self.share();
        }
        Ok(())
    }

    fn enter(&mut self, visit: Visit) {
        self.frames.push(Frame { visit, snapshot: None });
    }

    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a visit is under way")
    }

    /// Goes back to the last visit that has choices left.
    fn go_back(&mut self) {
        if let Some(Frame { visit, snapshot }) = self.frames.last() {
            self.path.truncate(visit.depth);
            let snapshot = snapshot.as_ref().expect("it was saved before the machine went on");
            self.machine.put_back(snapshot);
        }
    }

    /// Makes the next choice of the last visit.
    fn make(&mut self, choice: Choice) -> Result<(), String> {
        let scope = self.scope;
        let visit = self.top().visit;
        let mut rest = visit;
        rest.next += 1;
        rest.first_made |= choice != Choice::Link;
        // At an end, it remains to be seen whether all is well.
        let is_left = rest.advance(scope).is_some() || rest.is_end();
        if is_left && self.top().snapshot.is_none() {
            let snapshot = self.machine.save();
            self.top().snapshot = Some(snapshot);
        }
        if choice == Choice::Time {
            self.attempt(|machine| machine.next_moment().is_some())?;
        }
        self.take(choice)?;
        let fingerprinter = &mut self.fingerprinter;
        let fingerprint = self.machine.look(|machine| machine.fingerprint(fingerprinter));
        if visit.idle.knows(choice) && fingerprint != visit.fingerprint {
            return Err(format!(
                "{choice:?} was thought idle, and was not, after {:?}",
                self.path
            ));
        }
        if fingerprint == visit.fingerprint {
            let offer = self.machine.look(Offer::of);
            let top = &mut self.top().visit;
            top.next = visit.next + 1;
            top.idle.learns(choice);
            top.offer = offer;
            self.path.pop();
            return Ok(());
        }
        self.top().visit = rest;
        let budget = visit.budget_after(scope, choice);
        let link_down = choice == Choice::Link && visit.offer.link_is_up;
        let depth = self.path.len();
        let (count, (state, is_new)) = self.shared.found(|found| {
            found.reached(depth);
            let led = found.led_to(visit.state, choice, link_down, budget.with(fingerprint));
            (found.figures().states, led)
        });
        if count > scope.states_max {
            return Err(format!("more than {} states", scope.states_max));
        }
        if !is_left {
            self.frames.pop();
        }
        if is_new {
            self.enter(Visit {
                depth,
                state,
                fingerprint,
                budget,
                idle: self.machine.look(|machine| visit.idle.after(choice, machine)),
                offer: self.machine.look(Offer::of),
                first_made: false,
                next: 0,
            });
        } else {
            self.go_back();
        }
        Ok(())
    }

    /// All choices of the last visit were made: if it is one in which all is well, it is taken to the end.
    fn finish(&mut self) -> Result<(), String> {
        let visit = self.top().visit;
        if visit.is_end() {
            self.shared.found(|found| found.ends_at(visit.state));
            self.attempt(Machine::check_the_end)?;
        }
        self.frames.pop();
        self.go_back();
        Ok(())
    }

    /// Leaves the first visit that has choices left to somebody who has nothing to do.
    fn share(&mut self) {
        if self.frames.len() > 1 && self.shared.wants_tasks() {
            let visit = self.frames.remove(0).visit;
            let path = self.path[..visit.depth].to_vec();
            self.shared.leave(Task { path, visit });
        }
        if self.shared.has_failed() {
            self.frames.clear();
        }
    }

    fn take(&mut self, choice: Choice) -> Result<(), String> {
        self.attempt(|machine| machine.take(choice))?;
        self.path.push(choice);
        Ok(())
    }

    /// Runs `action` on the machine; a panic of it is the violation, which is then looked at again with all that happens.
    fn attempt<R: Copy>(&mut self, action: impl Fn(&mut Machine) -> R) -> Result<R, String> {
        let machine = &mut self.machine;
        catch_unwind(AssertUnwindSafe(|| machine.run(&action))).map_err(|panic| {
            let mut again = (self.scope.start)();
            again.keep_log();
            let _ = catch_unwind(AssertUnwindSafe(|| {
                self.path.iter().for_each(|choice| again.take(*choice));
                action(&mut again);
            }));
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic");
            let report = format!("{}\n{text}\n{} choices: {:?}", again.log(), self.path.len(), self.path);
            // What is broken is not to be torn down in order.
            std::mem::forget(again);
            report
        })
    }
}
