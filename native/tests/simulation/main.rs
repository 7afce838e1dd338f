//! The production engine (control loop, pollers, controllers) on simulated RDMA and hostile storage, on one thread and by
//! a seed: hosts connect, do I/O, are lost and come back while links, devices, calls, disks, threads and the process
//! itself fail.
//!
//! Checked: no acknowledged write is lost and no ghost write appears (per block), durable means durable, the provider's
//! rules are kept, lent memory is left alone; after the trouble everything serves again within a bound; after the drain
//! everything is given back; every pair of phase and event of the lifecycle was met. A violation is shrunk to a short run
//! and printed with how to see it again. `docs/explanation/simulation.md` says more.
//!
//! | file | concern |
//! |---|---|
//! | `arguments` | the command line |
//! | `campaign` | many seeds: progress, summary, report |
//! | `verdict` | one run and how it ended |
//! | `run` | one run: who does something next, and the judgement |
//! | `machine` | devices, desired state and hosts of a seed |
//! | `stimulus` | what can go wrong, as values |
//! | `chaos` | what goes wrong when |
//! | `trouble` | carrying it out and making it good |
//! | `hostile` | hosts without manners |
//! | `lifecycle_coverage` | what the lifecycle must have met |
//! | `shrink` | shorter runs that fail in the same way |
//! | `self_test` | the simulator finds what it must find |

#[path = "../support/mod.rs"]
mod support;

mod arguments;
mod campaign;
mod chaos;
mod hostile;
mod lifecycle_coverage;
mod machine;
mod run;
mod self_test;
mod shrink;
mod stimulus;
mod trouble;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arguments::{Arguments, HELP};
use campaign::{Campaign, Results, conduct, explain, report};
use run::Plan;
use stimulus::Planned;

/// Fixed seeds unless told otherwise.
pub const SEEDS: u64 = 120;
/// Steps of trouble of each unless told otherwise: together more than ten million.
pub const STEPS: u64 = 150_000;
/// Time to spend on making a failing run shorter.
const SHRINKING: Duration = Duration::from_secs(60);

fn fresh_seed() -> u64 {
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    u64::from(clock.subsec_nanos()) << 20 | clock.as_secs() & 0xf_ffff
}

/// Threads to run on.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The plans that are asked for.
fn plans(arguments: &Arguments) -> Vec<Plan> {
    let steps = arguments.steps.unwrap_or(STEPS);
    let plan = |seed| Plan {
        seed,
        steps,
        without_hosts: arguments.without_hosts.clone(),
        ..Plan::default()
    };
    match (arguments.seed, arguments.seeds) {
        (Some(seed), count) => (0..count.unwrap_or(1))
            .map(|next| plan(seed.wrapping_add(next)))
            .collect(),
        (None, Some(count)) => (1..=count).map(plan).collect(),
        (None, None) => {
            let fresh = fresh_seed();
            println!("simulation: fresh seed {fresh}");
            (1..=SEEDS).chain([fresh]).map(plan).collect()
        }
    }
}

/// Of what goes wrong in the whole run only what is asked for.
fn with_fewer_stimuli(plan: Plan, arguments: &Arguments) -> Plan {
    let Some(kept) = &arguments.stimuli else {
        return plan;
    };
    weir_core::simulation::deliberate_fault::build_in(arguments.fault);
    let whole = verdict::run(&Plan {
        without_hosts: Vec::new(),
        ..plan.clone()
    });
    let stimuli = whole.stimuli.into_iter().enumerate();
    let stimuli = stimuli
        .filter(|(index, _)| kept.contains(index))
        .map(|(_, planned)| Planned {
            step: planned.step.saturating_sub(arguments.sooner),
            ..planned
        });
    Plan {
        steps: arguments.stop_after.unwrap_or(plan.steps),
        stimuli: Some(stimuli.collect()),
        schedule: arguments.schedule,
        ..plan
    }
}

fn campaign_of(arguments: &Arguments) -> Campaign {
    let plans = plans(arguments)
        .into_iter()
        .map(|plan| with_fewer_stimuli(plan, arguments));
    Campaign {
        plans: plans.collect(),
        threads: arguments.threads.unwrap_or_else(threads),
        fault: arguments.fault,
        shrinking: arguments.shrinking.unwrap_or(SHRINKING),
        stop_at_first: arguments.fault.is_some(),
        quiet: false,
    }
}

fn summarize(results: &Results) {
    for failed in &results.failed {
        println!("\n{}\n", explain(failed));
    }
    let (possible, met) = lifecycle_coverage::counts(&results.pairs);
    println!("{}", lifecycle_coverage::table(&results.pairs));
    for (name, count) in &results.stimuli {
        println!("{count:>8}  {name}");
    }
    let sum = |field: fn(&run::Summary) -> u64| results.passed.values().map(field).sum::<u64>();
    println!(
        "simulation: {} seeds, {} steps in {:.1} s ({:.0} steps/s), {} commands, {} associations, slowest recovery {:.1} s",
        results.passed.len() + results.failed.len(),
        results.steps,
        results.seconds,
        results.steps_per_second(),
        sum(|summary| summary.commands),
        sum(|summary| summary.associations),
        results.slowest_recovery().as_secs_f64(),
    );
    println!(
        "simulation: {met} of {possible} pairs of phase and event met, {} violations",
        results.failed.len()
    );
}

fn write_report(path: &str, campaign: &Campaign, results: &Results) -> Result<(), String> {
    let text = serde_json::to_string_pretty(&report(campaign, results)).expect("a report is JSON");
    std::fs::write(path, text + "\n").map_err(|error| format!("{path}: {error}"))
}

fn simulate(arguments: &Arguments) -> Result<Results, String> {
    let campaign = campaign_of(arguments);
    let results = conduct(&campaign);
    summarize(&results);
    if let Some(path) = &arguments.report {
        write_report(path, &campaign, &results)?;
    }
    Ok(results)
}

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) if arguments.help => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    verdict::catch_panics();
    let results = match simulate(&arguments) {
        Ok(results) => results,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        return self_test::check(&results);
    }
    if results.failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
