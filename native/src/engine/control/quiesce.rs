//! Leaving in good order: namespaces become inaccessible; hosts read so and use their other paths, while I/O in flight
//! finishes; then hosts are told to disconnect and ports drain. Bounded in time, and silent over links that are down.

use std::time::{Duration, Instant};

use super::port::{Port, Reason};
use super::{Control, Now, PollerHost};
use crate::backend::Backend;
use crate::engine::control::events::Event as Reported;
use crate::engine::messages::{PortId, ToPoller};
use crate::lifecycle::Event;
use crate::provider::Provider;

/// Least time for hosts to see the new ANA state before their queues go: some ask for no notice of it.
const GRACE: Duration = Duration::from_millis(250);

/// Longest wait for hosts to read the new ANA state. One that answers at all does so in milliseconds; a host without
/// another path waits for the next process the longer the longer this is.
const TOLD_MAX: Duration = Duration::from_secs(2);

/// Of the whole time, the part in which I/O in flight may finish before queues are closed over it.
const QUIETING_SHARE: u32 = 2;

/// Time kept for telling hosts after the ports have drained.
const TELLING: Duration = Duration::from_millis(500);

/// Longest drain when the core is closed without one.
const CLOSING: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No I/O is accepted any more; what is in flight finishes, and hosts read that their paths are inaccessible.
    Quieting(Quieting),
    /// Ports drain and hosts are told.
    Draining,
    /// Over.
    Drained,
}

/// How long the first stage takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quieting {
    not_before: Instant,
    told_until: Instant,
    until: Instant,
}

impl Quieting {
    fn begun(now: Instant, timeout: Duration) -> Self {
        let until = now + timeout / QUIETING_SHARE;
        Self {
            not_before: (now + GRACE).min(until),
            told_until: (now + TOLD_MAX).min(until),
            until,
        }
    }

    /// Takes no longer than until then.
    fn shorten_to(&mut self, until: Instant) {
        for moment in [&mut self.not_before, &mut self.told_until, &mut self.until] {
            *moment = until.min(*moment);
        }
    }

    /// When it is over, as things are: nothing is in flight; hosts know that their paths are inaccessible.
    fn over_at(self, quiet: bool, hosts_know: bool) -> Instant {
        match (quiet, hosts_know) {
            (false, _) => self.until,
            (true, false) => self.told_until,
            (true, true) => self.not_before,
        }
    }
}

/// A drain of the whole process.
#[derive(Debug, Clone, Copy)]
pub struct Quiesce {
    stage: Stage,
    deadline: Instant,
}

impl Quiesce {
    fn begun(now: Instant, timeout: Duration) -> Self {
        Self {
            stage: Stage::Quieting(Quieting::begun(now, timeout)),
            deadline: now + timeout,
        }
    }

    /// Takes no longer than this one, whatever it waits for.
    fn shorten_to(&mut self, other: Self) {
        self.deadline = self.deadline.min(other.deadline);
        if let (Stage::Quieting(quieting), Stage::Quieting(other)) = (&mut self.stage, other.stage) {
            quieting.shorten_to(other.until);
        }
    }
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// Begins to leave; ends with the event `drained`. A second call only shortens the time.
    pub fn begin_quiesce(&mut self, timeout: Duration, now: Now) {
        let asked = Quiesce::begun(now.instant, timeout);
        if let Some(quiesce) = &mut self.quiesce {
            quiesce.shorten_to(asked);
            return;
        }
        self.quiesce = Some(asked);
        self.model_stale = true;
        self.publish_model(now);
        self.pollers.tell_all(|| ToPoller::Quiesce);
        let ports: Vec<PortId> = self.ports.keys().copied().collect();
        for id in ports {
            self.reject_waiting(id, now);
        }
    }

    /// Drains if nobody did, then makes the pollers leave. [`Control::has_left`] says when that is done.
    pub fn begin_closing(&mut self, now: Now) {
        self.begin_quiesce(CLOSING, now);
        self.closing = true;
    }

    /// After [`Control::begin_closing`]: every poller has left, nothing is held.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.pollers.have_left()
    }

    /// The drain of the whole process is over.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.quiesce.is_some_and(|quiesce| quiesce.stage == Stage::Drained)
    }

    /// `Running`, `Draining` or `Drained`.
    #[must_use]
    pub fn state_name(&self) -> &'static str {
        match &self.quiesce {
            None => "Running",
            Some(_) if self.is_drained() => "Drained",
            Some(_) => "Draining",
        }
    }

    pub(super) fn quiesce_deadline(&self) -> Option<Instant> {
        match self.quiesce?.stage {
            Stage::Quieting(quieting) => Some(quieting.over_at(self.pollers.all_quiet(), self.paths_clear())),
            Stage::Draining => Some(self.quiesce?.deadline),
            Stage::Drained => None,
        }
    }

    pub(super) fn advance_quiesce(&mut self, now: Now) {
        let Some(quiesce) = self.quiesce else { return };
        let stage = match quiesce.stage {
            Stage::Quieting(quieting) => {
                if now.instant < quieting.over_at(self.pollers.all_quiet(), self.paths_clear()) {
                    return;
                }
                self.stop_ports(quiesce.deadline, now);
                Stage::Draining
            }
            Stage::Draining => {
                let drained = self.ports.values().all(Port::is_at_rest);
                let completed = drained && !self.unsaid() && self.backings_settled();
                if !completed && now.instant < quiesce.deadline {
                    return;
                }
                let result = if completed { "completed" } else { "timedOut" };
                self.journal.report(Reported::Drained { result }, now);
                Stage::Drained
            }
            Stage::Drained => {
                if self.closing && !self.pollers.is_leaving() {
                    self.pollers.leave();
                }
                return;
            }
        };
        if let Some(quiesce) = &mut self.quiesce {
            quiesce.stage = stage;
        }
        self.advance_quiesce(now);
    }

    fn stop_ports(&mut self, deadline: Instant, now: Now) {
        let left = deadline.saturating_duration_since(now.instant);
        let ports: Vec<PortId> = self.ports.keys().copied().collect();
        for id in ports {
            if let Some(port) = self.ports.get_mut(&id) {
                port.settings.drain_timeout = port.settings.drain_timeout.min(left.saturating_sub(TELLING));
            }
            let reason = Reason::new("ShuttingDown", "the target is leaving");
            self.feed(id, Event::Stop, Some(reason), now);
        }
    }

    fn backings_settled(&self) -> bool {
        self.backings.leaving() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_go_when_hosts_know_and_nothing_is_in_flight_and_in_the_end_anyway() {
        let now = Instant::now();
        let quieting = Quieting::begun(now, Duration::from_secs(15));
        let after = |quiet, hosts_know| quieting.over_at(quiet, hosts_know) - now;
        assert_eq!(after(true, true), GRACE);
        assert_eq!(
            after(true, false),
            TOLD_MAX,
            "a host that does not read is not waited for longer"
        );
        assert_eq!(
            after(false, true),
            Duration::from_millis(7500),
            "half of the whole time"
        );
        assert_eq!(after(false, false), Duration::from_millis(7500));
    }

    #[test]
    fn a_short_drain_shortens_all_of_it() {
        let now = Instant::now();
        let quieting = Quieting::begun(now, Duration::from_millis(200));
        for (quiet, hosts_know) in [(true, true), (true, false), (false, false)] {
            assert_eq!(quieting.over_at(quiet, hosts_know) - now, Duration::from_millis(100));
        }
    }

    #[test]
    fn a_second_call_can_only_shorten_it() {
        let now = Instant::now();
        let first = Quieting::begun(now, Duration::from_secs(10));
        let mut quieting = first;
        quieting.shorten_to(now + Duration::from_secs(60));
        assert_eq!(quieting, first);
        quieting.shorten_to(now + Duration::from_secs(1));
        assert_eq!(quieting.over_at(true, true) - now, GRACE);
        assert_eq!(quieting.over_at(true, false) - now, Duration::from_secs(1));
        assert_eq!(quieting.over_at(false, true) - now, Duration::from_secs(1));
    }
}
