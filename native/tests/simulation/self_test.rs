//! What `npm test` counts: the seeds, the coverage, and that the simulator finds what it must find.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Duration;

use weir_core::simulation::deliberate_fault::{self, DeliberateFault};

use crate::campaign::Results;
use crate::lifecycle_coverage;
use crate::machine::Machine;
use crate::run::Plan;
use crate::shrink::shrink;
use crate::verdict::run;

type Outcome = Result<(), String>;

/// By what each deliberate fault must give itself away: any of these is in the violation. A fault that makes the engine
/// break its own assertion first is found as well as one that the provider, a host or the storage notices.
const FOUND_BY: [(DeliberateFault, &[&str]); DeliberateFault::ALL.len()] = [
    (
        DeliberateFault::ConnectDuringDrain,
        &[
            "a draining port has no active queue pair",
            "MemoryDeregisteredInUse",
            "liveness",
            "src/engine/",
        ],
    ),
    (
        DeliberateFault::PublishedHalfBuilt,
        &["a port is armed with at least one small buffer"],
    ),
    (DeliberateFault::StaleHandleFollowed, &["src/engine/", "provider/sim"]),
    (DeliberateFault::RegistrationFailureIsFinal, &["liveness"]),
    (DeliberateFault::FenceSkipped, &["is possible"]),
    (DeliberateFault::KeepAliveClockRunsOn, &["ran out while its port held"]),
    (DeliberateFault::DisconnectWhileDown, &["MessageWhileLinkDown"]),
    (DeliberateFault::QueuePairNotReaped, &["QueuePairDestroyedWithWork"]),
    (DeliberateFault::BackendNotAwaited, &["memory lent to the backend"]),
    (DeliberateFault::AcknowledgedTooEarly, &["memory lent to the backend"]),
    (DeliberateFault::DurabilityForgotten, &["acknowledged as durable"]),
    (DeliberateFault::ResumeForgotten, &["liveness"]),
];

fn every_seed_keeps_every_promise(results: &Results) -> Outcome {
    match results.failed.first() {
        None => Ok(()),
        Some(failed) => Err(format!(
            "{} seeds failed, the first is {}: {}",
            results.failed.len(),
            failed.plan.seed,
            failed.violation.message
        )),
    }
}

fn every_seed_does_something(results: &Results) -> Outcome {
    for (seed, summary) in &results.passed {
        if summary.commands < 1000 || summary.associations < summary.hosts {
            return Err(format!("seed {seed} did too little: {summary:?}"));
        }
    }
    Ok(())
}

fn every_phase_meets_every_event_it_can(results: &Results) -> Outcome {
    let problems = lifecycle_coverage::problems(&results.pairs);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn every_stimulus_happens(results: &Results) -> Outcome {
    let names = crate::stimulus::Stimulus::NAMES;
    let missing: Vec<&str> = names
        .into_iter()
        .filter(|name| !results.stimuli.contains_key(name))
        .collect();
    if missing.is_empty() && results.stimuli.keys().all(|name| names.contains(name)) {
        Ok(())
    } else {
        Err(format!("never happened: {missing:?}"))
    }
}

fn a_seed_makes_the_same_run_every_time(_: &Results) -> Outcome {
    let plan = Plan {
        seed: 3,
        steps: 20_000,
        ..Plan::default()
    };
    let (first, second) = (run(&plan), run(&plan));
    let repeated = run(&Plan {
        stimuli: Some(first.stimuli.clone()),
        ..plan
    });
    if first.summary.is_none() || first.summary != second.summary {
        return Err(format!("{:?} and then {:?}", first.summary, second.summary));
    }
    if first.summary != repeated.summary {
        return Err(format!(
            "{:?}, but with the same stimuli from a list {:?}",
            first.summary, repeated.summary
        ));
    }
    Ok(())
}

/// A run that breaks the rule of silence while a link is down needs one outage to do so, and not all else there was.
fn a_failing_run_is_shrunk_to_what_matters(_: &Results) -> Outcome {
    deliberate_fault::build_in(Some(DeliberateFault::DisconnectWhileDown));
    let found = (1..).map(|seed| Plan {
        seed,
        steps: 60_000,
        ..Plan::default()
    });
    let mut found = found.map(|plan| (run(&plan), plan));
    let verdict = found
        .find(|(outcome, _)| outcome.violation.is_some() && outcome.stimuli.len() >= 8)
        .map(|(outcome, plan)| {
            let hosts = Machine::new(plan.seed).0.hosts.len();
            let shrunk = shrink(&plan, &outcome, hosts, Duration::from_secs(60));
            let (before, after) = (outcome.stimuli.len(), shrunk.plan.stimuli.clone().unwrap_or_default());
            let again = run(&shrunk.plan);
            let same = again.violation.map(|violation| violation.kind) == outcome.violation.map(|one| one.kind);
            if same && after.len() <= 3.max(before / 4) && shrunk.plan.steps <= plan.steps {
                Ok(())
            } else {
                Err(format!("{before} stimuli became {after:?}; the same failure: {same}"))
            }
        });
    deliberate_fault::build_in(None);
    verdict.expect("seeds do not end")
}

/// Runs the default seeds with a fault built in until one fails, in a process of its own: a fault may well crash it.
fn is_found(fault: DeliberateFault, clues: &[&str]) -> Outcome {
    let (seeds, steps) = (crate::SEEDS.to_string(), crate::STEPS.to_string());
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(executable)
        .args(["--fault", &format!("{fault:?}"), "--seeds", &seeds, "--steps", &steps])
        .args(["--threads", "1", "--shrink-seconds", "0"])
        .output()
        .map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let said = |line: &&str| line.starts_with("simulation: seed") || line.starts_with("violation:");
    let violation = text.lines().find(said).unwrap_or("").to_owned();
    match output.status.signal() {
        _ if output.status.success() => Err(format!("not found in {seeds} seeds of {steps} steps")),
        // Memory that the device or the backend owned was gone.
        Some(6 | 7 | 11) => Ok(()),
        _ if clues.iter().any(|clue| violation.contains(clue)) => {
            println!("{fault:?}: {violation:.200}");
            Ok(())
        }
        _ => Err(format!("found by something else than {clues:?}: {violation}")),
    }
}

/// `FenceSkipped` → `fence_skipped`.
fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The faults, two at a time.
fn deliberate_faults() -> Vec<(String, Outcome)> {
    let waiting = Mutex::new(FOUND_BY.to_vec());
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..crate::threads().min(FOUND_BY.len()) {
            scope.spawn(|| {
                loop {
                    let Some((fault, clues)) = waiting.lock().expect("no panic holds it").pop() else {
                        return;
                    };
                    let name = format!("deliberate_fault_{}_is_found", snake_case(&format!("{fault:?}")));
                    let outcome = is_found(fault, clues);
                    found.lock().expect("no panic holds it").push((name, outcome));
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no panic holds it");
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// Runs every test, with the output of libtest, so that it is counted as any other.
pub fn check(results: &Results) -> ExitCode {
    type Test = fn(&Results) -> Outcome;
    let tests: [(&str, Test); 6] = [
        ("every_seed_keeps_every_promise", every_seed_keeps_every_promise),
        ("every_seed_does_something", every_seed_does_something),
        ("every_stimulus_happens", every_stimulus_happens),
        (
            "every_phase_meets_every_event_it_can",
            every_phase_meets_every_event_it_can,
        ),
        (
            "a_seed_makes_the_same_run_every_time",
            a_seed_makes_the_same_run_every_time,
        ),
        (
            "a_failing_run_is_shrunk_to_what_matters",
            a_failing_run_is_shrunk_to_what_matters,
        ),
    ];
    let mut outcomes: Vec<(String, Outcome)> = Vec::new();
    outcomes.extend(tests.map(|(name, test)| (name.to_owned(), test(results))));
    outcomes.extend(deliberate_faults());
    println!("\nrunning {} tests", outcomes.len());
    for (name, outcome) in &outcomes {
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
    }
    let failed: Vec<_> = outcomes.iter().filter(|(_, outcome)| outcome.is_err()).collect();
    for (name, outcome) in &failed {
        println!("\n---- {name} ----\n{}", outcome.as_ref().err().map_or("", |text| text));
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        outcomes.len() - failed.len(),
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
