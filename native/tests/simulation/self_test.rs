//! What `npm test` counts: the seeds, the coverage, and that the simulator finds what it must find.

use std::process::ExitCode;

use crate::campaign::Results;
use crate::lifecycle_coverage;
use crate::run::Plan;
use crate::verdict::run;

type Test = (&'static str, fn(&Results) -> Result<(), String>);

const TESTS: [Test; 4] = [
    ("every_seed_keeps_every_promise", every_seed_keeps_every_promise),
    ("every_seed_does_something", every_seed_does_something),
    ("every_phase_meets_every_event_it_can", every_phase_meets_every_event_it_can),
    ("a_seed_makes_the_same_run_every_time", a_seed_makes_the_same_run_every_time),
];

fn every_seed_keeps_every_promise(results: &Results) -> Result<(), String> {
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

fn every_seed_does_something(results: &Results) -> Result<(), String> {
    for (seed, summary) in &results.passed {
        if summary.commands < 1000 || summary.associations < summary.hosts {
            return Err(format!("seed {seed} did too little: {summary:?}"));
        }
    }
    Ok(())
}

fn every_phase_meets_every_event_it_can(results: &Results) -> Result<(), String> {
    let problems = lifecycle_coverage::problems(&results.pairs);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("\n"))
    }
}

fn a_seed_makes_the_same_run_every_time(_: &Results) -> Result<(), String> {
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

/// Runs every test, with the output of libtest, so that it is counted as any other.
pub fn check(results: &Results) -> ExitCode {
    println!("\nrunning {} tests", TESTS.len());
    let mut failures = Vec::new();
    for (name, test) in TESTS {
        match test(results) {
            Ok(()) => println!("test {name} ... ok"),
            Err(problem) => {
                println!("test {name} ... FAILED");
                failures.push(format!("---- {name} ----\n{problem}"));
            }
        }
    }
    for failure in &failures {
        println!("\n{failure}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        TESTS.len() - failures.len(),
        failures.len()
    );
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
