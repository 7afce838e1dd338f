//! Runs a plan and says how it ended: every broken promise is a panic somewhere, caught here with all that is known.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::PoisonError;

use weir_core::simulation::coverage::{self, Pairs};

use crate::run::{Plan, Progress, Run, Summary};
use crate::stimulus::Planned;
use crate::support::target::Log;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What kind: the provider's rule, `liveness`, or the place of the assertion. Two runs with the same kind failed for
    /// the same reason, as far as a machine can tell.
    pub kind: String,
    pub message: String,
    /// Step it happened at.
    pub step: u64,
    /// What happened last.
    pub log: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// `None` after a violation.
    pub summary: Option<Summary>,
    pub steps: u64,
    pub stimuli: Vec<Planned>,
    pub pairs: Pairs,
    pub violation: Option<Violation>,
}

thread_local! {
    /// Place and text of the first panic of a run.
    static FIRST_PANIC: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Keeps panics to be looked at here instead of printing them. Call it once.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info.location().map_or_else(String::new, |place| {
            format!(
                "{}:{}",
                place.file().rsplit("native/").next().unwrap_or(""),
                place.line()
            )
        });
        let text = info
            .payload()
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| info.payload().downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        FIRST_PANIC.with_borrow_mut(|first| match first {
            // A panic on the way out of a panic ends the process: say at least what was first.
            Some((first_place, first_text)) => {
                eprintln!("violation: {first_place}: {first_text}\n  and on the way out {place}: {text}");
            }
            None => *first = Some((place, text)),
        });
    }));
}

/// Runs a plan.
pub fn run(plan: &Plan) -> Outcome {
    let (log, progress) = (Log::default(), Progress::default());
    let _ = coverage::take();
    FIRST_PANIC.set(None);
    let (kept_log, kept_progress) = (Log::clone(&log), progress.clone());
    let plan = plan.clone();
    let steps = plan.steps;
    let result = catch_unwind(AssertUnwindSafe(move || {
        Run::new(plan, log, progress).into_summary(steps)
    }));
    let violation = result.is_err().then(|| {
        let (place, message) = FIRST_PANIC.take().unwrap_or_default();
        let log = kept_log.lock().unwrap_or_else(PoisonError::into_inner);
        Violation {
            kind: kind_of(&place, &message),
            message,
            step: kept_progress.steps(),
            log: log.iter().cloned().collect(),
        }
    });
    Outcome {
        summary: result.ok(),
        steps: kept_progress.steps(),
        stimuli: kept_progress.stimuli(),
        pairs: coverage::take(),
        violation,
    }
}

/// A provider's rule has its name in front; what the simulator itself checks begins with a word; all else is told by its
/// place.
fn kind_of(place: &str, message: &str) -> String {
    let first = message.split(':').next().unwrap_or("");
    let is_name = !first.is_empty() && first.chars().all(char::is_alphanumeric);
    match (is_name, place) {
        (true, place) if place.contains("provider/sim") => first.to_owned(),
        (true, _) if first == "liveness" => {
            // What was waited for is part of the kind, what was found is not.
            message.split(':').take(2).collect::<Vec<_>>().join(":")
        }
        _ => place.to_owned(),
    }
}
