//! When things are due: nothing before its time, and every time exactly as far ahead as the settings say.

use std::time::{Duration, Instant};

use super::*;
use crate::lifecycle::{PortState, Settings};

fn settings() -> Settings {
    Settings {
        hold: Duration::from_millis(500),
        drain_timeout: Duration::from_secs(15),
        up_stabilization: Duration::from_millis(200),
        backoff_max: Duration::from_secs(30),
        seed: 42,
    }
}

/// A port in this phase whose link has been up for an hour.
fn up(phase: Phase, now: Instant) -> PortState {
    PortState {
        phase,
        up_since: now.checked_sub(Duration::from_secs(3600)),
        epoch: 3,
        ..PortState::new()
    }
}

/// A clock that has run for long enough to look back.
fn now() -> Instant {
    Instant::now() + Duration::from_secs(7200)
}

fn phase_after(state: &PortState, event: Event, now: Instant) -> Phase {
    reduce(&settings(), state, event, now).0.phase
}

#[test]
fn a_tick_before_the_time_of_a_phase_changes_nothing() {
    let now = now();
    let later = now + Duration::from_nanos(1);
    let phases = [
        Phase::Arming { retry_at: Some(later) },
        Phase::Degraded { retry_at: Some(later) },
        Phase::Holding {
            until: later,
            degraded: false,
        },
        Phase::Draining {
            deadline: later,
            fatal: false,
        },
        Phase::Failed { retry_at: later },
    ];
    for phase in phases {
        let state = up(phase, now);
        let (next, actions) = reduce(&settings(), &state, Event::Tick, now);
        assert_eq!((next, actions.len()), (state, 0), "{phase:?}");
        assert_eq!(deadline(&settings(), &state), Some(later), "{phase:?}");
        assert_ne!(
            phase_after(&state, Event::Tick, later),
            phase,
            "{phase:?} when its time has come"
        );
    }
}

#[test]
fn missing_memory_is_tried_again_after_the_first_pause() {
    let now = now();
    let retry_at = Some(now + backoff(&settings(), 3, 1));
    let arming = up(Phase::Arming { retry_at: None }, now);
    assert_eq!(
        phase_after(&arming, Event::ArmedPartly, now),
        Phase::Degraded { retry_at }
    );
    let mut held = up(
        Phase::Holding {
            until: now + Duration::from_millis(1),
            degraded: true,
        },
        now,
    );
    held.up_since = None;
    assert_eq!(phase_after(&held, Event::LinkUp, now), Phase::Degraded { retry_at });
}

#[test]
fn pauses_follow_the_number_of_failures_in_a_row() {
    let now = now();
    let mut arming = up(Phase::Arming { retry_at: None }, now);
    let mut degraded = up(Phase::Degraded { retry_at: None }, now);
    for failures in 1..ARMING_ATTEMPTS_MAX {
        arming = reduce(&settings(), &arming, Event::ArmFailed, now).0;
        let retry_at = Some(now + backoff(&settings(), 3, failures));
        assert_eq!(arming.phase, Phase::Arming { retry_at });
        degraded = reduce(&settings(), &degraded, Event::RegistrationStalled, now).0;
        let retry_at = Some(now + backoff(&settings(), 3, failures + 1));
        assert_eq!(degraded.phase, Phase::Degraded { retry_at });
    }
    let retry_at = now + backoff(&settings(), 3, u32::MAX);
    assert_eq!(phase_after(&arming, Event::ArmFailed, now), Phase::Failed { retry_at });
}

#[test]
fn a_drain_has_the_drain_timeout_whatever_it_begins_in() {
    let now = now();
    let deadline = now + settings().drain_timeout;
    for phase in [Phase::Serving, Phase::Arming { retry_at: None }] {
        let drained = phase_after(&up(phase, now), Event::Stop, now);
        assert_eq!(drained, Phase::Draining { deadline, fatal: false }, "{phase:?}");
    }
}

#[test]
fn a_drained_port_rests_in_quarantine_while_work_of_an_earlier_epoch_goes_on() {
    let now = now();
    let draining = Phase::Draining {
        deadline: now + Duration::from_secs(1),
        fatal: false,
    };
    for (unfinished_epochs, rests_in) in [(0, Phase::Down), (1, Phase::Quarantined)] {
        let state = PortState {
            up_since: None,
            unfinished_epochs,
            ..up(draining, now)
        };
        assert_eq!(phase_after(&state, Event::Drained, now), rests_in);
    }
}

#[test]
fn a_stable_link_that_is_reported_again_arms_a_port_that_rests() {
    let now = now();
    for phase in [Phase::Down, Phase::Quarantined] {
        let armed = phase_after(&up(phase, now), Event::LinkUp, now);
        assert_eq!(armed, Phase::Arming { retry_at: None }, "{phase:?}");
    }
}

#[test]
fn a_failed_port_is_not_tried_sooner_because_its_link_is_reported_up_again() {
    let now = now();
    let state = up(
        Phase::Failed {
            retry_at: now + Duration::from_secs(30),
        },
        now,
    );
    assert_eq!(reduce(&settings(), &state, Event::LinkUp, now).0, state);
}

#[test]
fn hosts_are_served_in_two_phases_and_an_epoch_is_held_in_four() {
    let at = now();
    let phases = [
        (Phase::Down, false, false),
        (Phase::Arming { retry_at: None }, false, false),
        (Phase::Serving, true, true),
        (Phase::Degraded { retry_at: None }, true, true),
        (
            Phase::Holding {
                until: at,
                degraded: false,
            },
            false,
            true,
        ),
        (
            Phase::Draining {
                deadline: at,
                fatal: false,
            },
            false,
            true,
        ),
        (Phase::Quarantined, false, false),
        (Phase::Failed { retry_at: at }, false, false),
    ];
    for (phase, serves, holds_epoch) in phases {
        assert_eq!(
            (phase.serves(), phase.holds_epoch()),
            (serves, holds_epoch),
            "{phase:?}"
        );
    }
}
