//! The production engine (control loop, pollers, controllers) on the simulated provider and hostile storage, on one
//! thread and by a seed: hosts connect, do I/O, are lost and come back while links, devices, calls and disks fail.
//!
//! Checked: no acknowledged write is lost and no ghost write appears (per block), durable means durable, the provider's
//! rules are kept, lent memory is left alone; after the trouble everything serves again within a bound; after the drain
//! everything is given back. The first violation ends the run and prints how to see it again.
//!
//! Environment: `WEIR_SIM_SEED` runs only that seed; `WEIR_SIM_SEEDS` is the number of fixed seeds; `WEIR_SIM_STEPS` the
//! steps of trouble in each.

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod run;

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Fixed seeds unless told otherwise: what a debug build does in a minute; `npm run simulate` runs as many as one likes.
const SEEDS: u64 = 5;
/// Steps of trouble unless told otherwise.
const STEPS: usize = 1200;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}

fn steps() -> usize {
    number("WEIR_SIM_STEPS").map_or(STEPS, |steps| steps as usize)
}

/// Past the capture of the test harness: a seed is to be seen when all goes well, too.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn fixed_seeds_keep_every_promise() {
    if number("WEIR_SIM_SEED").is_some() {
        return;
    }
    let seeds = number("WEIR_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 1..=seeds {
        let summary = run::run(seed, steps());
        assert!(
            summary.commands >= 400 && summary.associations >= 4,
            "the run did something: {summary:?}"
        );
    }
}

#[test]
fn a_fresh_seed_keeps_every_promise() {
    if number("WEIR_SIM_SEED").is_some() {
        return;
    }
    let clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    let seed = u64::from(clock.subsec_nanos()) << 20 | clock.as_secs() & 0xf_ffff;
    say(&format!("simulation: fresh seed {seed}"));
    let summary = run::run(seed, steps());
    say(&format!("simulation: {summary:?}"));
}

#[test]
fn the_seed_of_the_environment_keeps_every_promise() {
    if let Some(seed) = number("WEIR_SIM_SEED") {
        say(&format!("simulation: {:?}", run::run(seed, steps())));
    }
}

#[test]
fn a_seed_makes_the_same_run_every_time() {
    if number("WEIR_SIM_SEED").is_some() {
        return;
    }
    assert_eq!(run::run(3, 500), run::run(3, 500));
}
