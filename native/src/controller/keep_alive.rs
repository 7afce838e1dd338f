//! Keep-alive timer of an association (NVMe base 2.0 section 3.9). Any command restarts it (CTRATT.TBKAS).

use std::time::{Duration, Instant};

/// Granularity of the timer that is told to hosts, in units of 100 ms (KAS): one second.
pub const GRANULARITY_100_MS: u16 = 10;
const GRANULARITY_MS: u32 = GRANULARITY_100_MS as u32 * 100;
/// A discovery controller whose host asked for no keep-alive ends after this much silence.
pub const DISCOVERY_SILENCE: Duration = Duration::from_secs(120);

/// The timer.
#[derive(Debug)]
pub(super) struct KeepAlive {
    /// Granted timeout; zero: none.
    timeout_ms: u32,
    /// Limit on silence when the timeout is zero.
    silence: Option<Duration>,
    restarted: Instant,
    paused: Option<Instant>,
}

impl KeepAlive {
    pub(super) fn new(requested_ms: u32, minimum_ms: u32, silence: Option<Duration>, now: Instant) -> Self {
        Self {
            timeout_ms: granted_ms(requested_ms, minimum_ms),
            silence,
            restarted: now,
            paused: None,
        }
    }

    /// Granted timeout in milliseconds; 0: none.
    pub(super) fn timeout_ms(&self) -> u32 {
        self.timeout_ms
    }

    pub(super) fn set_timeout(&mut self, requested_ms: u32, minimum_ms: u32, now: Instant) {
        self.timeout_ms = granted_ms(requested_ms, minimum_ms);
        self.restart(now);
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.restarted = now;
        if let Some(paused) = &mut self.paused {
            *paused = now;
        }
    }

    fn limit(&self) -> Option<Duration> {
        if self.timeout_ms == 0 {
            self.silence
        } else {
            Some(Duration::from_millis(u64::from(self.timeout_ms)))
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.paused.is_some() {
            return None;
        }
        self.restarted.checked_add(self.limit()?)
    }

    pub(super) fn expired(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    pub(super) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    pub(super) fn resume(&mut self, now: Instant) {
        if let Some(paused) = self.paused.take() {
            self.restarted += now.saturating_duration_since(paused);
        }
    }
}

/// The timeout that is granted: at least the minimum, in whole units of the granularity. 0 stays 0.
fn granted_ms(requested_ms: u32, minimum_ms: u32) -> u32 {
    if requested_ms == 0 {
        return 0;
    }
    let wanted = requested_ms.max(minimum_ms);
    wanted.checked_next_multiple_of(GRANULARITY_MS).unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_timer_runs_out_a_timeout_after_the_last_command() {
        let start = Instant::now();
        let mut timer = KeepAlive::new(5000, 5000, None, start);
        assert_eq!(timer.deadline(), Some(start + 5 * SECOND));
        timer.restart(start + 4 * SECOND);
        assert!(!timer.expired(start + 8 * SECOND));
        assert!(timer.expired(start + 9 * SECOND));
    }

    #[test]
    fn the_clock_stands_still_while_the_port_is_down() {
        let start = Instant::now();
        let mut timer = KeepAlive::new(5000, 5000, None, start);
        timer.pause(start + 3 * SECOND);
        timer.pause(start + 4 * SECOND);
        assert_eq!(timer.deadline(), None);
        assert!(!timer.expired(start + 100 * SECOND));
        timer.resume(start + 103 * SECOND);
        assert_eq!(timer.deadline(), Some(start + 105 * SECOND));
        timer.resume(start + 104 * SECOND);
        assert_eq!(timer.deadline(), Some(start + 105 * SECOND));
    }

    #[test]
    fn a_command_during_a_pause_leaves_the_whole_timeout() {
        let start = Instant::now();
        let mut timer = KeepAlive::new(5000, 5000, None, start);
        timer.pause(start + SECOND);
        timer.restart(start + 2 * SECOND);
        timer.resume(start + 10 * SECOND);
        assert_eq!(timer.deadline(), Some(start + 15 * SECOND));
    }

    #[test]
    fn the_granted_timeout_is_at_least_the_minimum_in_whole_seconds() {
        assert_eq!(granted_ms(0, 5000), 0);
        assert_eq!(granted_ms(1, 5000), 5000);
        assert_eq!(granted_ms(5001, 5000), 6000);
        assert_eq!(granted_ms(u32::MAX, 5000), u32::MAX);
    }

    #[test]
    fn no_timeout_means_no_deadline_but_silence_ends_a_discovery_controller() {
        let start = Instant::now();
        assert_eq!(KeepAlive::new(0, 5000, None, start).deadline(), None);
        let timer = KeepAlive::new(0, 5000, Some(DISCOVERY_SILENCE), start);
        assert_eq!(timer.deadline(), Some(start + DISCOVERY_SILENCE));
    }
}
