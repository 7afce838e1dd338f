//! Instructions, work requests, doorbells and allocations of a 4 KiB read: poller, controller and backend of production on
//! the simulated provider, at a steady pace. Instructions are counted by valgrind (callgrind), so they do not depend on
//! the machine's load; each figure is the difference of two runs of different length, so set-up does not count.
//!
//! `cargo bench --bench read_loop` prints a table; `-- --report FILE` writes the same as JSON. `-- --count null 32 100`
//! only does the work once (backend, reads at once, rounds) and prints its counts: what is run under valgrind.

mod callgrind;
#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;

use callgrind::{Profile, is_provider};
use serde_json::{Value, json};
use support::allocations::{CountingAllocator, total};
use support::steady::{Pace, Steady};
use weir_core::backend::BackingSpec;
use weir_core::backend::host::{DiskEngine, HostBackend};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const SIZE_BYTES: u64 = 4 << 20;
/// Reads at once: what a queue depth of 1 and of 32 costs.
const DEPTHS: [usize; 2] = [1, 32];
const BACKENDS: [&str; 2] = ["null", "memory"];
/// Reads in the shorter and the longer run.
const READS: [usize; 2] = [640, 1280];

/// Instructions by where they were executed.
#[derive(Debug, Clone, Copy, Default)]
struct Instructions {
    all: u64,
    /// In calls of the simulated provider.
    provider: u64,
    /// Copying and filling of data by the engine and the backend.
    data: u64,
}

/// Does the work once, for the counters.
fn work(backend: &str, depth: usize, rounds: usize) -> Result<Value, String> {
    let spec = match backend {
        "null" => BackingSpec::Null { size_bytes: SIZE_BYTES },
        "memory" => BackingSpec::Memory { size_bytes: SIZE_BYTES },
        _ => return Err(format!("backend {backend} is neither null nor memory")),
    };
    let mut steady = Steady::reads_only(&HostBackend::with_engine(DiskEngine::Threads), &spec);
    let counts = |steady: &Steady| {
        let counters = &steady.rig.counters;
        [counters.send_work_requests.get(), counters.doorbells.get(), total()]
    };
    let before = counts(&steady);
    (0..rounds).for_each(|_| steady.round(Pace::Reads, depth));
    let after = counts(&steady);
    // The simulator forgives nothing that is torn down out of order, and tearing down is not the subject here.
    std::mem::forget(steady);
    let [requests, doorbells, allocations] = std::array::from_fn(|index| after[index] - before[index]);
    let reads = (rounds * depth) as f64;
    Ok(json!({
        "workRequestsPerRead": requests as f64 / reads,
        "doorbellsPerRead": doorbells as f64 / reads,
        "allocationsPerRead": allocations as f64 / reads,
    }))
}

/// Runs the work under callgrind, collecting only inside of the poller's step.
fn profile(backend: &str, depth: usize, reads: usize) -> Result<Instructions, String> {
    let arguments = ["--count", backend, &depth.to_string(), &(reads / depth).to_string()];
    let profile = Profile::collect("*step_poller*", &arguments)?;
    let is_data = |name: &str| ["memset", "memcpy", "memmove"].iter().any(|one| name.contains(one));
    Ok(Instructions {
        all: profile.all,
        provider: profile.entered(is_provider),
        data: profile
            .calls(|caller, callee| is_data(callee) && (caller.contains("backend::") || caller.contains("engine::"))),
    })
}

fn measure(backend: &str, depth: usize) -> Result<Value, String> {
    let [short, long] = [profile(backend, depth, READS[0])?, profile(backend, depth, READS[1])?];
    let per_read =
        |field: fn(&Instructions) -> u64| (field(&long) - field(&short)) as f64 / (READS[1] - READS[0]) as f64;
    let (all, provider, data) = (
        per_read(|one| one.all),
        per_read(|one| one.provider),
        per_read(|one| one.data),
    );
    let mut figures = work(backend, depth, READS[1] / depth)?;
    figures["backend"] = json!(backend);
    figures["queueDepth"] = json!(depth);
    figures["instructionsPerRead"] = json!({
        "all": all,
        "simulatedProvider": provider,
        "data": data,
        "engineAndBackend": all - provider - data,
    });
    Ok(figures)
}

fn bench(report: Option<&str>) -> Result<(), String> {
    println!(
        "4 KiB read, instructions: engine and backend | moving data | simulated provider; work requests, doorbells, allocations"
    );
    let mut all = Vec::new();
    for backend in BACKENDS {
        for depth in DEPTHS {
            let figures = measure(backend, depth)?;
            let instructions = &figures["instructionsPerRead"];
            let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
            println!(
                "{backend:>7} depth {depth:>2}: {:>6.0} | {:>6.0} | {:>6.0}; {:.2}, {:.3}, {:.2}",
                number(&instructions["engineAndBackend"]),
                number(&instructions["data"]),
                number(&instructions["simulatedProvider"]),
                number(&figures["workRequestsPerRead"]),
                number(&figures["doorbellsPerRead"]),
                number(&figures["allocationsPerRead"]),
            );
            all.push(figures);
        }
    }
    if let Some(path) = report {
        let text = format!("{:#}\n", json!({ "reads": all }));
        std::fs::write(path, text).map_err(|e| format!("{path}: {e}"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{text} is no number"));
    let outcome = match words.as_slice() {
        ["--count", backend, depth, rounds] => number(depth)
            .and_then(|depth| Ok((depth, number(rounds)?)))
            .and_then(|(depth, rounds)| work(backend, depth.clamp(1, 127), rounds))
            .map(|counts| println!("{counts}")),
        ["--report", path] => bench(Some(path)),
        [] => bench(None),
        other => Err(format!("unknown arguments {other:?}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
