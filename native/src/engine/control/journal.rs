//! Events waiting for the runtime to take them, and the limit on those that hosts can cause at will.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Now;
use super::events::{Event, Level, Report};

/// Events kept until the runtime takes them; it does so after every step.
const REPORTS_MAX: usize = 4096;

/// Of events that hosts can cause at will, so many in a window; the rest is only counted.
const LIMITED_PER_WINDOW: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Events in the order things happened.
#[derive(Debug, Default)]
pub struct Journal {
    reports: VecDeque<Report>,
    dropped: u64,
    /// By kind of event, so that a flood of one hides no other.
    windows: BTreeMap<&'static str, Window>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    reported: u32,
}

impl Journal {
    /// Reports an event at its own level.
    pub fn report(&mut self, event: Event, now: Now) {
        self.report_as(event.level(), event, now);
    }

    /// Reports an event at this level.
    pub fn report_as(&mut self, level: Level, event: Event, now: Now) {
        if self.reports.len() >= REPORTS_MAX && !event.is_critical() {
            self.dropped += 1;
            return;
        }
        self.reports.push_back(Report {
            time_ms: now.unix_ms,
            level,
            event,
        });
    }

    /// Reports an event of a kind that may come in a flood.
    pub fn report_limited(&mut self, event: Event, now: Now) {
        let fresh = || Window {
            since: now.instant,
            reported: 0,
        };
        let window = self.windows.entry(event.kind()).or_insert_with(fresh);
        if now.instant.saturating_duration_since(window.since) >= WINDOW {
            *window = fresh();
        }
        if window.reported < LIMITED_PER_WINDOW {
            window.reported += 1;
            self.report(event, now);
        }
    }

    /// Takes everything reported since the last call.
    pub fn take(&mut self) -> Vec<Report> {
        self.reports.drain(..).collect()
    }

    /// Events dropped because nobody took them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_rejects_is_reported_a_few_times_per_window() {
        let mut journal = Journal::default();
        let start = Instant::now();
        let flood = |journal: &mut Journal, at: Duration| {
            for _ in 0..100 {
                let event = Event::ConnectRejected {
                    reason: "NotServing",
                    source: "10.9.0.2:1".parse().unwrap(),
                    host_nqn: None,
                    subsystem: None,
                };
                journal.report_limited(
                    event,
                    Now {
                        instant: start + at,
                        unix_ms: 0,
                    },
                );
            }
        };
        flood(&mut journal, Duration::ZERO);
        assert_eq!(journal.take().len(), LIMITED_PER_WINDOW as usize);
        flood(&mut journal, WINDOW);
        assert_eq!(journal.take().len(), LIMITED_PER_WINDOW as usize);
    }
}
