//! Makes a failing run shorter: fewer stimuli, fewer hosts, fewer steps, as long as it fails in the same way.

use std::time::{Duration, Instant};

use crate::run::Plan;
use crate::stimulus::Planned;
use crate::verdict::{Outcome, run};

/// Steps that a run with less in it may take longer to fail, before its trouble ends.
const SLACK: u64 = 5_000;

/// Orders of turns that are tried before a plan counts as one that does not fail.
const SCHEDULES: u64 = 3;

/// The shortest failing run found.
#[derive(Debug, Clone)]
pub struct Shrunk {
    pub plan: Plan,
    pub outcome: Outcome,
    /// Steps that the stimuli came earlier than in the whole run.
    pub sooner: u64,
    /// Runs it took.
    pub tries: usize,
}

struct Search {
    kind: String,
    best: Plan,
    outcome: Outcome,
    deadline: Instant,
    sooner: u64,
    tries: usize,
}

impl Search {
    fn time_is_up(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Takes the plan over if it fails in the same way, in this order of turns or another: what is left out changes when
    /// everything after it happens, so that a failure that needs little but good timing would be missed.
    fn accepts(&mut self, plan: Plan) -> bool {
        (0..SCHEDULES).any(|other| {
            let schedule = plan.schedule + other;
            !self.time_is_up()
                && self.accepts_as_it_is(Plan {
                    schedule,
                    ..plan.clone()
                })
        })
    }

    fn accepts_as_it_is(&mut self, plan: Plan) -> bool {
        self.tries += 1;
        let outcome = run(&plan);
        let same = outcome
            .violation
            .as_ref()
            .is_some_and(|violation| violation.kind == self.kind);
        if same {
            self.best = plan;
            self.outcome = outcome;
            self.cut_after_failure();
        }
        same
    }

    /// What is planned for later than the failure does not matter.
    fn cut_after_failure(&mut self) {
        let failed_at = self
            .outcome
            .violation
            .as_ref()
            .map_or(u64::MAX, |violation| violation.step);
        // What fails after the trouble needs its end.
        if failed_at <= self.best.steps {
            self.best.steps = failed_at + SLACK;
        }
        if let Some(stimuli) = &mut self.best.stimuli {
            stimuli.retain(|planned| planned.step <= failed_at);
        }
    }

    fn stimuli(&self) -> Vec<Planned> {
        self.best.stimuli.clone().unwrap_or_default()
    }

    /// Most failures need only what came right before them.
    fn only_the_last_stimuli(&mut self) {
        let mut count = 1;
        while count < self.stimuli().len() && !self.time_is_up() {
            let stimuli = self.stimuli();
            let last = stimuli[stimuli.len() - count..].to_vec();
            let plan = Plan {
                stimuli: Some(last),
                ..self.best.clone()
            };
            if self.accepts(plan) {
                return;
            }
            count *= 2;
        }
    }

    /// Leaves out ever smaller parts of the stimuli.
    fn fewer_stimuli(&mut self) {
        let mut part = self.stimuli().len().div_ceil(2);
        while part > 0 && !self.time_is_up() {
            let mut from = 0;
            while from < self.stimuli().len() && !self.time_is_up() {
                let mut fewer = self.stimuli();
                fewer.drain(from..(from + part).min(fewer.len()));
                let plan = Plan {
                    stimuli: Some(fewer),
                    ..self.best.clone()
                };
                if !self.accepts(plan) {
                    from += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }

    fn fewer_hosts(&mut self, hosts: usize) {
        for host in 0..hosts {
            if self.time_is_up() || self.best.without_hosts.len() + 1 >= hosts {
                return;
            }
            let mut plan = self.best.clone();
            plan.without_hosts.push(host);
            self.accepts(plan);
        }
    }

    /// Long peace before the first stimulus rarely matters.
    fn sooner(&mut self) {
        let Some(first) = self.stimuli().first().map(|planned| planned.step) else {
            return;
        };
        for begin in [1_000, 5_000, 20_000] {
            if begin >= first || self.time_is_up() {
                return;
            }
            let mut stimuli = self.stimuli();
            stimuli.iter_mut().for_each(|planned| planned.step -= first - begin);
            let steps = self.best.steps - (first - begin);
            let plan = Plan {
                stimuli: Some(stimuli),
                steps,
                ..self.best.clone()
            };
            if self.accepts(plan) {
                self.sooner = first - begin;
                return;
            }
        }
    }

    /// What would have come after the failure makes no difference to it.
    fn end_with_failure(&mut self) {
        if let Some(violation) = &self.outcome.violation {
            self.best.steps = self.best.steps.min(violation.step + 1);
        }
    }

    /// For what is only noticed after the trouble: as little of it as will do.
    fn fewer_steps(&mut self) {
        let last = self.stimuli().last().map_or(0, |planned| planned.step);
        for steps in [last + 1, last + 1000, last + 10_000] {
            if steps < self.best.steps && !self.time_is_up() {
                let plan = Plan {
                    steps,
                    ..self.best.clone()
                };
                if self.accepts(plan) {
                    return;
                }
            }
        }
    }
}

/// Looks for a shorter run than the one that ended in `outcome`, for at most so long.
///
/// # Panics
/// If the run did not fail.
pub fn shrink(plan: &Plan, outcome: &Outcome, hosts: usize, at_most: Duration) -> Shrunk {
    let violation = outcome.violation.as_ref().expect("only a failing run is shrunk");
    let mut search = Search {
        kind: violation.kind.clone(),
        best: Plan {
            stimuli: Some(outcome.stimuli.clone()),
            ..plan.clone()
        },
        outcome: outcome.clone(),
        deadline: Instant::now() + at_most,
        sooner: 0,
        tries: 0,
    };
    search.cut_after_failure();
    search.only_the_last_stimuli();
    search.fewer_stimuli();
    search.fewer_steps();
    search.fewer_hosts(hosts);
    search.fewer_stimuli();
    search.sooner();
    search.end_with_failure();
    Shrunk {
        plan: search.best,
        outcome: search.outcome,
        sooner: search.sooner,
        tries: search.tries,
    }
}
