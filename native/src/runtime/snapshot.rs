//! Statistics on demand: rendered by the control thread, read by anybody.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A snapshot so young is given without asking for another: a caller asks for the length first, then for the text.
const FRESH: Duration = Duration::from_millis(50);

/// Longest wait for the control thread, which normally answers within microseconds; it is only busy longer while the
/// system blocks it (opening a backing, registering memory), and then the last snapshot is given.
const WAIT_MAX: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct Shared {
    text: Arc<str>,
    taken: Option<Instant>,
    wanted: bool,
}

/// The last snapshot, and the wish for a new one.
#[derive(Debug)]
pub(super) struct Snapshot {
    shared: Mutex<Shared>,
    renewed: Condvar,
}

impl Snapshot {
    /// Begins with this text.
    pub(super) fn new(text: String) -> Self {
        let shared = Shared {
            text: Arc::from(text),
            taken: None,
            wanted: false,
        };
        Self {
            shared: Mutex::new(shared),
            renewed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The statistics, as fresh as can be had within a bounded wait. `wake` wakes the control thread.
    pub(super) fn read(&self, wake: impl Fn()) -> Arc<str> {
        let mut shared = self.lock();
        if shared.taken.is_some_and(|taken| taken.elapsed() < FRESH) {
            return Arc::clone(&shared.text);
        }
        shared.wanted = true;
        drop(shared);
        wake();
        let shared = self.lock();
        let (shared, _) = self
            .renewed
            .wait_timeout_while(shared, WAIT_MAX, |shared| shared.wanted)
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&shared.text)
    }

    /// Somebody waits for a new one.
    pub(super) fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// Here it is.
    pub(super) fn put(&self, text: String) {
        let mut shared = self.lock();
        shared.text = Arc::from(text);
        shared.taken = Some(Instant::now());
        shared.wanted = false;
        self.renewed.notify_all();
    }
}
