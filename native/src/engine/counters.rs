//! What a poller counts. Only the poller writes; the control thread reads at any time without a lock, so values of one
//! snapshot may be a few operations apart.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::nvme::status::{Status, StatusCode};

/// Upper bounds of the latency histogram's buckets: 2^4 µs (16 µs) to 2^24 µs (16.8 s), each double the one before.
pub const DURATION_BOUNDS: usize = 21;

const FIRST_BOUND_EXPONENT: u32 = 4;

/// The upper bounds in seconds.
#[must_use]
pub fn duration_bounds_seconds() -> [f64; DURATION_BOUNDS] {
    std::array::from_fn(|index| f64::from(1_u32 << (FIRST_BOUND_EXPONENT as usize + index)) / 1e6)
}

/// A number that only its owner changes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; by the owner only (not an atomic read-modify-write).
    pub fn add(&self, amount: u64) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Takes away; by the owner only. For gauges.
    pub fn subtract(&self, amount: u64) {
        let value = self.0.load(Ordering::Relaxed);
        assert!(value >= amount, "a gauge does not go below zero");
        self.0.store(value - amount, Ordering::Relaxed);
    }

    /// The value now; any thread.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long operations took.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One count per bound, not cumulated, and one for what was longer than the last.
    pub counts: [Counter; DURATION_BOUNDS + 1],
    /// Sum of all durations in nanoseconds.
    pub sum_nanoseconds: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        self.counts[bucket(duration)].increment();
        self.sum_nanoseconds
            .add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// The first bucket whose bound is not below the duration.
fn bucket(duration: Duration) -> usize {
    let microseconds = u64::try_from(duration.as_nanos().div_ceil(1000))
        .unwrap_or(u64::MAX)
        .max(1);
    let exponent = u64::BITS - (microseconds - 1).leading_zeros();
    (exponent.saturating_sub(FIRST_BOUND_EXPONENT) as usize).min(DURATION_BOUNDS)
}

/// What operations are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read.
    Read,
    /// Write.
    Write,
    /// Flush.
    Flush,
    /// Write Zeroes.
    WriteZeroes,
    /// Dataset Management with deallocate.
    Deallocate,
    /// Compare.
    Compare,
    /// Admin commands, and I/O commands of unknown opcode.
    Admin,
    /// Fabrics commands.
    Fabrics,
}

impl Operation {
    /// All of them, in the order of [`PollerCounters::operations`].
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Flush,
        Self::WriteZeroes,
        Self::Deallocate,
        Self::Compare,
        Self::Admin,
        Self::Fabrics,
    ];

    /// The name in statistics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::WriteZeroes => "writeZeroes",
            Self::Deallocate => "deallocate",
            Self::Compare => "compare",
            Self::Admin => "admin",
            Self::Fabrics => "fabrics",
        }
    }
}

/// Counts of one operation.
#[derive(Debug, Default)]
pub struct OperationCounters {
    /// Responses sent.
    pub count: Counter,
    /// Data bytes of those that succeeded.
    pub bytes: Counter,
    /// From capsule received to response handed to the device.
    pub duration: Histogram,
}

/// What a poller counts over its whole life.
pub struct PollerCounters {
    /// By [`Operation`].
    pub operations: [OperationCounters; Operation::ALL.len()],
    /// Responses that were not successful, by [`StatusCode::index`].
    pub errors: Box<[Counter]>,
    /// Completions whose request, receive or queue pair is gone; backend completions too.
    pub stale_completions: Counter,
    /// Messages for a port, epoch or queue pair that is gone.
    pub stale_messages: Counter,
    /// Events dropped because the control thread did not keep up.
    pub events_dropped: Counter,
    /// Steps that found work.
    pub polls_busy: Counter,
    /// Steps that found none.
    pub polls_idle: Counter,
    /// Times the thread slept (counted by the runtime, on the poller's thread).
    pub sleeps: Counter,
    /// Work requests posted to send queues.
    pub send_work_requests: Counter,
    /// Calls that posted them.
    pub doorbells: Counter,
    /// Associations ended because the host was silent too long.
    pub keep_alive_timeouts: Counter,
    /// Hosts that could not prove who they are.
    pub authentication_failures: Counter,
}

/// Figures are for statistics; in a poller shown whole they would hide all else.
impl std::fmt::Debug for PollerCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollerCounters").finish_non_exhaustive()
    }
}

impl Default for PollerCounters {
    fn default() -> Self {
        Self {
            operations: Default::default(),
            errors: StatusCode::ALL.iter().map(|_| Counter::default()).collect(),
            stale_completions: Counter::default(),
            stale_messages: Counter::default(),
            events_dropped: Counter::default(),
            polls_busy: Counter::default(),
            polls_idle: Counter::default(),
            sleeps: Counter::default(),
            send_work_requests: Counter::default(),
            doorbells: Counter::default(),
            keep_alive_timeouts: Counter::default(),
            authentication_failures: Counter::default(),
        }
    }
}

impl PollerCounters {
    /// Counts one response: what it answers, its status, the bytes that moved, how long it took.
    pub fn record(&self, operation: Operation, status: Status, bytes: u32, duration: Duration) {
        let counters = &self.operations[operation as usize];
        counters.count.increment();
        counters.duration.record(duration);
        if status.is_success() {
            counters.bytes.add(u64::from(bytes));
        } else {
            self.errors[status.code.index()].increment();
        }
    }
}

/// What a poller counts for its share of one port, over all epochs: made by the control thread once per (port, poller),
/// handed over with each epoch's resources. Gauges are the sum over epochs that still hold something.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Queue pairs that serve.
    pub queue_pairs_active: Counter,
    /// Queue pairs being taken down.
    pub queue_pairs_draining: Counter,
    /// Queue pairs that were not drained at the deadline.
    pub queue_pairs_quarantined: Counter,
    /// Data buffers that are free.
    pub buffers_free: Counter,
    /// Data buffers that carry a request's data, or the responses.
    pub buffers_used: Counter,
    /// Data buffers kept alive past a drain's deadline.
    pub buffers_quarantined: Counter,
    /// Stale completions that came from this port's completion queue.
    pub stale_completions: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_whose_bound_is_not_below_it() {
        let bounds = duration_bounds_seconds();
        for (index, bound) in bounds.iter().enumerate() {
            let at = Duration::from_secs_f64(*bound);
            assert_eq!(bucket(at), index);
            assert_eq!(bucket(at + Duration::from_nanos(1)), index + 1);
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::MAX), DURATION_BOUNDS);
    }

    #[test]
    fn bounds_run_from_sixteen_microseconds_to_sixteen_seconds() {
        let bounds = duration_bounds_seconds();
        assert!((bounds[0] - 16e-6).abs() < 1e-12);
        assert!((bounds[DURATION_BOUNDS - 1] - 16.777_216).abs() < 1e-9);
    }

    #[test]
    fn a_histogram_keeps_the_sum() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(10));
        histogram.record(Duration::from_micros(40));
        assert_eq!(histogram.sum_nanoseconds.get(), 50_000);
        assert_eq!(histogram.counts.iter().map(Counter::get).sum::<u64>(), 2);
    }
}
