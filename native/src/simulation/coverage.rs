//! Which events the lifecycle reducer met in which phase, per thread: a simulation runs on one thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::lifecycle::{Event, Phase};

/// How often each pair of phase and event was met.
pub type Pairs = BTreeMap<(&'static str, String), u64>;

thread_local! {
    static PAIRS: RefCell<Pairs> = const { RefCell::new(BTreeMap::new()) };
}

/// The reducer is about to answer `event` in `phase`.
pub fn record(phase: &Phase, event: Event) {
    PAIRS.with_borrow_mut(|pairs| *pairs.entry((phase.name(), format!("{event:?}"))).or_default() += 1);
}

/// What this thread met since the last call.
#[must_use]
pub fn take() -> Pairs {
    PAIRS.take()
}
