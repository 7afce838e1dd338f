//! Small scope, exhaustively: one port, one association of two queue pairs, two I/Os, a link that flaps, and every
//! interleaving of who may do something next, on the production control loop and poller. Most mistakes of a design show
//! in small cases, if really all of them are tried; the seeded simulation tries large ones.
//!
//! Checked in every state: the provider's rules (what is destroyed in use, posted to the dead, said while the link is
//! down), what each block may hold (no acknowledged write lost, no ghost write), memory lent to volume and device, every
//! assertion of the engine. Checked over all of them: from each state, if the link only stays up, the port comes to serve
//! its host again and the host does its I/Os. At each end: what is read, and that everything is given back.
//!
//! Without arguments: the scopes of the test. With some: one scope; `--help` names them.

#[path = "../support/mod.rs"]
mod support;

mod explore;
mod fingerprint;
mod found;
mod heap;
mod host;
mod machine;
mod search;
mod storage;

use std::process::ExitCode;
use std::time::Instant;

use explore::Scope;
use found::Figures;
use host::Script;
use machine::{Freedom, Machine};
use weir_core::simulation::deliberate_fault::{self, DeliberateFault};

/// Faults that are built in on purpose, one after the other: an exploration that does not find them proves nothing.
const FAULTS_TO_BE_FOUND: [DeliberateFault; 2] =
    [DeliberateFault::DisconnectWhileDown, DeliberateFault::ResumeForgotten];

#[global_allocator]
static ALLOCATOR: heap::Allocator = heap::Allocator;

const HELP: &str = "\
options:
  --flaps N      times the link goes down (1)
  --two-writes   two writes, one by RDMA READ; else a write and a read
  --starting     from the desired state on; else from a connected host on
  --late N       times that threads may be late for a timer (0)
  --delays N     turns that may be taken out of order; any number without it
  --midst N      times that the link changes in the midst of work, not when everybody waits; any number without it
  --free-host    the host may be late; else it acts as soon as something arrives
  --free-wire    the wire and the device may reorder what is not ordered; else first come, first served
  --distrust     who is known to have nothing to do is asked all the same, to see that this is true
  --states N     give up beyond so many states (20000000)
  --workers N    threads (as many as the machine has)
  --fault NAME   builds in a deliberate fault, which is to be found";

/// One scope, by its options.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    flaps: u32,
    script: Script,
    starting: bool,
    late: u32,
    delays: Option<u32>,
    midst: Option<u32>,
    freedom: Freedom,
    distrust: bool,
    states_max: usize,
    workers: usize,
    fault: Option<DeliberateFault>,
}

impl Wanted {
    fn new(script: Script, flaps: u32) -> Self {
        Self {
            flaps,
            script,
            starting: false,
            late: 0,
            delays: None,
            midst: None,
            freedom: Freedom::default(),
            distrust: false,
            states_max: 20_000_000,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            fault: None,
        }
    }

    /// What the command line says; `None` if it says nothing.
    fn from_arguments() -> Result<Option<Self>, String> {
        let mut arguments = std::env::args().skip(1).peekable();
        if arguments.peek().is_none() {
            return Ok(None);
        }
        let mut wanted = Self::new(Script::WriteAndRead, 1);
        while let Some(option) = arguments.next() {
            if option == "--fault" {
                let name = arguments.next().unwrap_or_default();
                let known = DeliberateFault::ALL
                    .into_iter()
                    .find(|fault| format!("{fault:?}") == name);
                let all = DeliberateFault::ALL;
                wanted.fault = Some(known.ok_or_else(|| format!("no fault {name:?}; there are {all:?}"))?);
                continue;
            }
            let mut number = || {
                let text = arguments.next().ok_or(format!("{option} needs a number"))?;
                text.parse::<usize>()
                    .map_err(|_| format!("{option}: {text} is no number"))
            };
            match option.as_str() {
                "--flaps" => wanted.flaps = number()? as u32,
                "--late" => wanted.late = number()? as u32,
                "--delays" => wanted.delays = Some(number()? as u32),
                "--midst" => wanted.midst = Some(number()? as u32),
                "--states" => wanted.states_max = number()?,
                "--workers" => wanted.workers = number()?,
                "--two-writes" => wanted.script = Script::TwoWrites,
                "--starting" => wanted.starting = true,
                "--free-host" => wanted.freedom.host = true,
                "--free-wire" => wanted.freedom.wire = true,
                "--distrust" => wanted.distrust = true,
                _ => return Err(HELP.to_owned()),
            }
        }
        Ok(Some(wanted))
    }

    fn explore(self) -> Result<Figures, String> {
        let Self {
            script, flaps, freedom, ..
        } = self;
        deliberate_fault::build_in(self.fault);
        let way = if self.starting {
            Vec::new()
        } else {
            Machine::way_to_connected(script)
        };
        explore::explore(&Scope {
            start: Box::new(move || Machine::after(&way, script, flaps, freedom)),
            late: self.late,
            delays: self.delays,
            midst: self.midst,
            distrust: self.distrust,
            workers: self.workers,
            states_max: self.states_max,
            fault: self.fault,
        })
    }
}

/// Explores a scope and says what came of it. Whether it is as it should be: no violation, or the built-in fault found.
fn run(wanted: Wanted) -> bool {
    let began = Instant::now();
    let outcome = wanted.explore();
    let seconds = began.elapsed().as_secs_f64();
    match (&outcome, wanted.fault) {
        (Ok(figures), None) => println!("small scope: {wanted:?}: {figures:?} in {seconds:.1} s"),
        (Err(violation), None) => println!("{violation}\nsmall scope: {wanted:?}: VIOLATED after {seconds:.1} s"),
        (Err(violation), Some(fault)) => {
            let first = violation.lines().next().unwrap_or_default();
            println!("small scope: fault {fault:?} found in {seconds:.1} s: {first}");
        }
        (Ok(figures), Some(fault)) => println!("small scope: fault {fault:?} NOT FOUND: {figures:?} in {seconds:.1} s"),
    }
    outcome.is_err() == wanted.fault.is_some()
}

/// One flap and every interleaving; with two writes, the link changes when everybody waits, as that takes half the time.
/// Three flaps, at every moment that anybody waits for, each in its turn. Faults are found with one turn out of order.
fn scopes_of_the_test() -> Vec<Wanted> {
    let when_everybody_waits = Wanted {
        midst: Some(0),
        ..Wanted::new(Script::TwoWrites, 1)
    };
    let three_flaps = Wanted {
        delays: Some(0),
        midst: Some(0),
        ..Wanted::new(Script::WriteAndRead, 3)
    };
    let sound = [Wanted::new(Script::WriteAndRead, 1), when_everybody_waits, three_flaps];
    let broken = FAULTS_TO_BE_FOUND.map(|fault| Wanted {
        fault: Some(fault),
        delays: Some(1),
        ..Wanted::new(Script::WriteAndRead, 1)
    });
    sound.into_iter().chain(broken).collect()
}

fn main() -> ExitCode {
    // Violations are panics, and are told with what led to them.
    std::panic::set_hook(Box::new(|_| {}));
    if std::env::args().any(|argument| argument == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let scopes = match Wanted::from_arguments() {
        Ok(Some(wanted)) => vec![wanted],
        Ok(None) => scopes_of_the_test(),
        Err(help) => {
            println!("{help}");
            return ExitCode::FAILURE;
        }
    };
    let passed = scopes.iter().filter(|scope| run(**scope)).count();
    let failed = scopes.len() - passed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
