//! Many seeds on several threads, with progress on the way, a summary and a report at the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_core::simulation::coverage::Pairs;
use weir_core::simulation::deliberate_fault::{self, DeliberateFault};

use crate::lifecycle_coverage;
use crate::machine::Machine;
use crate::run::{Plan, Summary, tally};
use crate::shrink::{Shrunk, shrink};
use crate::stimulus::Stimulus;
use crate::verdict::{Violation, run};

/// Time between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What is to be run, and how.
#[derive(Debug, Clone)]
pub struct Campaign {
    pub plans: Vec<Plan>,
    pub threads: usize,
    pub fault: Option<DeliberateFault>,
    /// Time to spend on making a failing run shorter.
    pub shrinking: Duration,
    /// The first failure ends it.
    pub stop_at_first: bool,
    pub quiet: bool,
}

/// A seed that failed.
#[derive(Debug, Clone)]
pub struct Failed {
    pub plan: Plan,
    pub violation: Violation,
    pub shrunk: Option<Shrunk>,
    /// Stimuli of the whole run, which those of the shrunk one are counted by.
    pub kept: Vec<usize>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Results {
    pub seconds: f64,
    pub steps: u64,
    pub passed: BTreeMap<u64, Summary>,
    pub failed: Vec<Failed>,
    pub pairs: Pairs,
    pub stimuli: BTreeMap<&'static str, u64>,
}

impl Results {
    pub fn steps_per_second(&self) -> f64 {
        self.steps as f64 / self.seconds.max(1e-9)
    }

    /// The longest time a target and its hosts took to recover, simulated.
    pub fn slowest_recovery(&self) -> Duration {
        self.passed
            .values()
            .map(|summary| summary.recovery)
            .max()
            .unwrap_or_default()
    }
}

/// Runs it.
pub fn conduct(campaign: &Campaign) -> Results {
    let started = Instant::now();
    let waiting: Mutex<VecDeque<Plan>> = Mutex::new(campaign.plans.iter().cloned().collect());
    let results = Mutex::new(Results::default());
    let (stop, steps, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let total = campaign.plans.len();
    let last_said = Mutex::new(Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..campaign.threads.max(1) {
            scope.spawn(|| {
                deliberate_fault::build_in(campaign.fault);
                while !stop.load(Ordering::Relaxed) {
                    let next = waiting.lock().expect("no panic holds it").pop_front();
                    let Some(plan) = next else { return };
                    let failed = conduct_one(campaign, &plan, &results, &steps);
                    if failed && campaign.stop_at_first {
                        stop.store(true, Ordering::Relaxed);
                    }
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    let mut last_said = last_said.lock().expect("no panic holds it");
                    if !campaign.quiet && last_said.elapsed() >= PROGRESS_EVERY {
                        *last_said = Instant::now();
                        let steps = steps.load(Ordering::Relaxed);
                        let rate = steps as f64 / started.elapsed().as_secs_f64();
                        println!("{done} of {total} seeds, {steps} steps, {rate:.0} steps/s");
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no panic holds it");
    results.seconds = started.elapsed().as_secs_f64();
    results.steps = steps.into_inner();
    results
}

/// Runs one seed and keeps what came of it. Whether it failed.
fn conduct_one(campaign: &Campaign, plan: &Plan, results: &Mutex<Results>, steps: &AtomicU64) -> bool {
    let outcome = run(plan);
    steps.fetch_add(outcome.steps, Ordering::Relaxed);
    let failed = outcome.violation.clone().map(|violation| {
        if !campaign.quiet {
            println!(
                "simulation: seed {}: {}: {}",
                plan.seed, violation.kind, violation.message
            );
        }
        let hosts = Machine::new(plan.seed).0.hosts.len();
        let shrunk = (!campaign.shrinking.is_zero()).then(|| shrink(plan, &outcome, hosts, campaign.shrinking));
        let (mut left, sooner) = shrunk
            .as_ref()
            .map(|shrunk| (shrunk.plan.stimuli.clone().unwrap_or_default(), shrunk.sooner))
            .unwrap_or_default();
        left.iter_mut().for_each(|planned| planned.step += sooner);
        let kept = (0..outcome.stimuli.len())
            .filter(|index| left.contains(&outcome.stimuli[*index]))
            .collect();
        Failed {
            plan: plan.clone(),
            violation,
            shrunk,
            kept,
        }
    });
    let mut results = results.lock().expect("no panic holds it");
    for (pair, count) in &outcome.pairs {
        *results.pairs.entry(pair.clone()).or_default() += count;
    }
    for (name, count) in tally(&outcome.stimuli) {
        *results.stimuli.entry(name).or_default() += count;
    }
    if let Some(summary) = outcome.summary {
        results.passed.insert(plan.seed, summary);
    }
    let has_failed = failed.is_some();
    results.failed.extend(failed);
    has_failed
}

/// For people: the shortest trace of a failure and how to see it again.
pub fn explain(failed: &Failed) -> String {
    let mut lines = Vec::new();
    let plan = &failed.plan;
    let base = format!("npm run simulate -- --seed {} --steps {}", plan.seed, plan.steps);
    let violation = failed
        .shrunk
        .as_ref()
        .and_then(|shrunk| shrunk.outcome.violation.as_ref())
        .unwrap_or(&failed.violation);
    lines.push(format!("seed {} failed at step {}", plan.seed, failed.violation.step));
    lines.push(format!("  {}: {}", failed.violation.kind, failed.violation.message));
    if let Some(shrunk) = &failed.shrunk {
        let stimuli = shrunk.plan.stimuli.clone().unwrap_or_default();
        lines.push(format!(
            "shortest run found in {} tries: {} steps, {} stimuli, {} hosts left out",
            shrunk.tries,
            shrunk.plan.steps,
            stimuli.len(),
            shrunk.plan.without_hosts.len()
        ));
        for planned in &stimuli {
            lines.push(format!("  step {:>8}: {:?}", planned.step, planned.stimulus));
        }
    }
    lines.push("what happened last:".to_owned());
    lines.extend(
        violation
            .log
            .iter()
            .rev()
            .take(40)
            .rev()
            .map(|line| format!("  {line:.220}")),
    );
    lines.push("see it again with".to_owned());
    lines.push(format!("  {base}"));
    if let Some(shrunk) = &failed.shrunk {
        let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut short = format!(
            "  {base} --stop-after {} --stimuli {}",
            shrunk.plan.steps,
            list(&failed.kept)
        );
        if shrunk.sooner != 0 {
            short += &format!(" --sooner {}", shrunk.sooner);
        }
        if shrunk.plan.schedule != 0 {
            short += &format!(" --schedule {}", shrunk.plan.schedule);
        }
        if !shrunk.plan.without_hosts.is_empty() {
            short += &format!(" --without-hosts {}", list(&shrunk.plan.without_hosts));
        }
        lines.push(short);
    }
    lines.join("\n")
}

/// For machines.
pub fn report(campaign: &Campaign, results: &Results) -> Value {
    let seeds: Vec<Value> = results
        .passed
        .iter()
        .map(|(seed, summary)| {
            json!({
                "seed": seed,
                "steps": summary.steps,
                "simulatedSeconds": summary.simulated.as_secs_f64(),
                "recoverySeconds": summary.recovery.as_secs_f64(),
                "hosts": summary.hosts,
                "ports": summary.ports,
                "commands": summary.commands,
                "associations": summary.associations,
                "losses": summary.losses,
                "commandErrors": summary.errors,
                "backendIos": summary.backend_ios,
            })
        })
        .collect();
    let violations: Vec<Value> = results
        .failed
        .iter()
        .map(|failed| {
            json!({
                "seed": failed.plan.seed,
                "step": failed.violation.step,
                "kind": failed.violation.kind,
                "message": failed.violation.message,
                "trace": explain(failed),
            })
        })
        .collect();
    let stimuli: serde_json::Map<String, Value> = Stimulus::NAMES
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                json!(results.stimuli.get(name).copied().unwrap_or(0)),
            )
        })
        .collect();
    let (possible, met) = lifecycle_coverage::counts(&results.pairs);
    json!({
        "steps": results.steps,
        "seconds": results.seconds,
        "stepsPerSecond": results.steps_per_second(),
        "threads": campaign.threads,
        "fault": campaign.fault.map(|fault| format!("{fault:?}")),
        "seeds": seeds,
        "violations": violations,
        "stimuli": stimuli,
        "coverage": {
            "possible": possible,
            "met": met,
            "problems": lifecycle_coverage::problems(&results.pairs),
            "phases": lifecycle_coverage::json(&results.pairs),
        },
    })
}
