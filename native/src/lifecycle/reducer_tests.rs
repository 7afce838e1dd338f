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

/// One state per phase, in epoch 3, long after its last change; every timer of it is due at `now`.
fn due_states(now: Instant) -> Vec<(&'static str, PortState)> {
    let up = PortState {
        phase: Phase::Down,
        up_since: now.checked_sub(Duration::from_secs(60)),
        wanted: true,
        restless: 0,
        untold: false,
        epoch: 3,
        attempts: 0,
        unfinished_epochs: 0,
    };
    let down = PortState { up_since: None, ..up };
    vec![
        ("Down", down),
        (
            "Arming",
            PortState {
                phase: Phase::Arming { retry_at: Some(now) },
                ..up
            },
        ),
        (
            "Serving",
            PortState {
                phase: Phase::Serving,
                ..up
            },
        ),
        (
            "Degraded",
            PortState {
                phase: Phase::Degraded { retry_at: Some(now) },
                ..up
            },
        ),
        (
            "Holding",
            PortState {
                phase: Phase::Holding {
                    until: now,
                    degraded: false,
                },
                ..down
            },
        ),
        (
            "Draining",
            PortState {
                phase: Phase::Draining {
                    deadline: now,
                    fatal: false,
                },
                ..down
            },
        ),
        (
            "Quarantined",
            PortState {
                phase: Phase::Quarantined,
                unfinished_epochs: 1,
                ..down
            },
        ),
        (
            "Failed",
            PortState {
                phase: Phase::Failed { retry_at: now },
                ..up
            },
        ),
    ]
}

fn shown(state: &PortState, actions: &Actions) -> String {
    let mut text = state.phase.name().to_owned();
    for action in actions {
        text.push_str(match action {
            Action::Arm { .. } => " +Arm",
            Action::AbandonArming => " +AbandonArming",
            Action::Publish { .. } => " +Publish",
            Action::CompleteRegistration { .. } => " +CompleteRegistration",
            Action::Hold { .. } => " +Hold",
            Action::Resume { .. } => " +Resume",
            Action::Drain { .. } => " +Drain",
            Action::Quarantine { .. } => " +Quarantine",
            Action::TellHosts => " +TellHosts",
        });
    }
    text
}

/// What every event does in every phase. Columns: Down, Arming, Serving, Degraded, Holding, Draining, Quarantined,
/// Failed. "=" changes nothing.
#[rustfmt::skip]
const TABLE: [(Event, [&str; 8]); 17] = [
    (Event::LinkUp, ["Down +TellHosts", "=", "=", "=", "Serving +TellHosts +Resume", "Draining +TellHosts", "Quarantined +TellHosts", "="]),
    (Event::LinkDown, ["=", "Draining +AbandonArming", "Holding +Hold", "Holding +Hold", "=", "=", "=", "Down"]),
    (Event::AddressLost, ["=", "Draining +AbandonArming", "Draining +Drain", "Draining +Drain", "Draining +Drain", "=", "=", "Down"]),
    (Event::DeviceRemoved, ["=", "Draining +AbandonArming", "Draining +Drain", "Draining +Drain", "Draining +Drain", "=", "=", "Down"]),
    (Event::DeviceFatal, ["Failed", "Failed +AbandonArming", "Draining +Drain", "Draining +Drain", "Draining +Drain", "Draining", "Failed", "Failed"]),
    (Event::ManagementQueuePairDead, ["Failed", "Failed +AbandonArming", "Draining +Drain", "Draining +Drain", "Draining +Drain", "Draining", "Failed", "Failed"]),
    (Event::Tick, ["=", "Arming +Arm", "=", "Degraded +CompleteRegistration", "Draining +Drain", "Quarantined +Quarantine", "=", "Arming +Arm"]),
    (Event::Armed, ["=", "Serving +Publish", "=", "=", "=", "=", "=", "="]),
    (Event::ArmedPartly, ["=", "Degraded +Publish", "=", "=", "=", "=", "=", "="]),
    (Event::ArmFailed, ["=", "Arming", "=", "=", "=", "=", "=", "="]),
    (Event::RegistrationCompleted, ["=", "=", "=", "Serving", "=", "=", "=", "="]),
    (Event::RegistrationStalled, ["=", "=", "=", "Degraded", "=", "=", "=", "="]),
    (Event::Drained, ["=", "=", "=", "=", "=", "Down", "=", "="]),
    (Event::LateWorkFinished, ["=", "=", "=", "=", "=", "=", "Down", "="]),
    (Event::Restart, ["=", "Draining +AbandonArming", "Draining +Drain", "Draining +Drain", "Draining +Drain", "=", "=", "Arming +Arm"]),
    (Event::Stop, ["Down", "Draining +AbandonArming", "Draining +Drain", "Draining +Drain", "Draining +Drain", "Draining", "Quarantined", "Down"]),
    (Event::Start, ["=", "=", "=", "=", "=", "=", "=", "="]),
];

#[test]
fn every_event_in_every_phase_does_what_the_table_says() {
    let now = Instant::now() + Duration::from_secs(3600);
    for (event, expected) in TABLE {
        for ((name, state), expected) in due_states(now).into_iter().zip(expected) {
            let (next, actions) = reduce(&settings(), &state, event, now);
            if expected == "=" {
                assert_eq!((next, actions.len()), (state, 0), "{event:?} in {name}");
            } else {
                assert_eq!(shown(&next, &actions), expected, "{event:?} in {name}");
                assert!(
                    next != state || !actions.is_empty(),
                    "{event:?} in {name} is a no-op: write \"=\""
                );
            }
        }
    }
    assert_eq!(TABLE.map(|(event, _)| event), Event::ALL, "every event has a row");
}

/// A scripted run: returns what was shown after each event.
fn run(state: &mut PortState, start: Instant, script: &[(u64, Event)]) -> Vec<String> {
    script
        .iter()
        .map(|&(at_ms, event)| {
            let (next, actions) = reduce(&settings(), state, event, start + Duration::from_millis(at_ms));
            *state = next;
            shown(&next, &actions)
        })
        .collect()
}

#[test]
fn a_port_arms_only_after_the_link_was_up_for_the_stabilization_time() {
    let start = Instant::now();
    let mut state = PortState::new();
    let seen = run(
        &mut state,
        start,
        &[(0, Event::LinkUp), (199, Event::Tick), (200, Event::Tick)],
    );
    assert_eq!(seen, ["Down +TellHosts", "Down", "Arming +Arm"]);
    assert_eq!(state.epoch, 1);
}

#[test]
fn a_short_flap_resumes_the_same_epoch_and_a_long_one_begins_a_new_one() {
    let start = Instant::now();
    let mut state = PortState::new();
    run(
        &mut state,
        start,
        &[(0, Event::LinkUp), (200, Event::Tick), (210, Event::Armed)],
    );
    let short = run(
        &mut state,
        start,
        &[
            (10_000, Event::LinkDown),
            (10_499, Event::Tick),
            (10_499, Event::LinkUp),
        ],
    );
    assert_eq!(short, ["Holding +Hold", "Holding", "Serving +TellHosts +Resume"]);
    assert_eq!(state.epoch, 1);
    let long = run(
        &mut state,
        start,
        &[
            (20_000, Event::LinkDown),
            (20_500, Event::Tick),
            (20_600, Event::Drained),
            (23_000, Event::LinkUp),
            (23_200, Event::Tick),
            (23_210, Event::Armed),
        ],
    );
    assert_eq!(
        long,
        [
            "Holding +Hold",
            "Draining +Drain",
            "Down",
            "Down +TellHosts",
            "Arming +Arm",
            "Serving +Publish"
        ]
    );
    assert_eq!(state.epoch, 2);
}

#[test]
fn a_drain_that_ends_with_the_link_up_and_stable_arms_at_once() {
    let start = Instant::now();
    let mut state = PortState {
        phase: Phase::Serving,
        up_since: start.checked_sub(CALM),
        epoch: 1,
        ..PortState::new()
    };
    let seen = run(
        &mut state,
        start,
        &[
            (0, Event::LinkDown),
            (500, Event::Tick),
            (600, Event::LinkUp),
            (900, Event::Drained),
        ],
    );
    assert_eq!(seen.last().map(String::as_str), Some("Arming +Arm"));
}

#[test]
fn a_zero_hold_time_drains_at_the_next_tick() {
    let now = Instant::now();
    let none = Settings {
        hold: Duration::ZERO,
        ..settings()
    };
    let state = PortState {
        phase: Phase::Serving,
        up_since: Some(now),
        epoch: 1,
        ..PortState::new()
    };
    let (held, _) = reduce(&none, &state, Event::LinkDown, now);
    assert_eq!(deadline(&none, &held), Some(now));
    let (drained, actions) = reduce(&none, &held, Event::Tick, now);
    assert_eq!(shown(&drained, &actions), "Draining +Drain");
}

#[test]
fn a_quarantined_port_serves_again_in_a_fresh_epoch_and_forgets_when_the_late_work_ends() {
    let start = Instant::now();
    let mut state = PortState {
        phase: Phase::Serving,
        up_since: start.checked_sub(CALM),
        epoch: 1,
        ..PortState::new()
    };
    run(
        &mut state,
        start,
        &[(0, Event::LinkDown), (500, Event::Tick), (15_500, Event::Tick)],
    );
    assert_eq!((state.phase, state.unfinished_epochs), (Phase::Quarantined, 1));
    run(
        &mut state,
        start,
        &[(20_000, Event::LinkUp), (20_200, Event::Tick), (20_300, Event::Armed)],
    );
    assert_eq!(
        (state.phase, state.epoch, state.unfinished_epochs),
        (Phase::Serving, 2, 1)
    );
    run(&mut state, start, &[(21_000, Event::LateWorkFinished)]);
    assert_eq!((state.phase, state.unfinished_epochs), (Phase::Serving, 0));
}

#[test]
fn arming_that_keeps_failing_ends_in_failed_and_is_still_tried_for_ever() {
    let mut now = Instant::now();
    let mut state = PortState {
        up_since: Some(now),
        ..PortState::new()
    };
    let mut attempts = 0;
    let mut failed_at = None;
    for _ in 0..100 {
        now = deadline(&settings(), &state)
            .expect("a port that wants to serve always has a next step")
            .max(now);
        let (next, actions) = reduce(&settings(), &state, Event::Tick, now);
        state = next;
        if actions.iter().any(|action| matches!(action, Action::Arm { .. })) {
            attempts += 1;
            state = reduce(&settings(), &state, Event::ArmFailed, now).0;
            if matches!(state.phase, Phase::Failed { .. }) {
                failed_at.get_or_insert(attempts);
            }
        }
    }
    assert_eq!(failed_at, Some(ARMING_ATTEMPTS_MAX));
    assert!(attempts > ARMING_ATTEMPTS_MAX * 2, "{attempts}");
    now = deadline(&settings(), &state).expect("next").max(now);
    state = reduce(&settings(), &state, Event::Tick, now).0;
    let (served, _) = reduce(&settings(), &state, Event::Armed, now);
    assert_eq!((served.phase, served.attempts), (Phase::Serving, 0));
}

#[test]
fn a_failed_port_is_tried_soon_when_its_link_comes_back() {
    let now = Instant::now();
    let state = PortState {
        phase: Phase::Failed {
            retry_at: now + Duration::from_secs(30),
        },
        epoch: 1,
        ..PortState::new()
    };
    let (next, _) = reduce(&settings(), &state, Event::LinkUp, now);
    assert_eq!(deadline(&settings(), &next), Some(now + settings().up_stabilization));
}

#[test]
fn a_fatal_device_drains_and_then_fails_loudly() {
    let now = Instant::now();
    let state = PortState {
        phase: Phase::Serving,
        up_since: Some(now),
        epoch: 1,
        ..PortState::new()
    };
    let (draining, actions) = reduce(&settings(), &state, Event::DeviceFatal, now);
    assert_eq!(shown(&draining, &actions), "Draining +Drain");
    let (failed, _) = reduce(&settings(), &draining, Event::Drained, now);
    assert!(matches!(failed.phase, Phase::Failed { .. }));
}

#[test]
fn a_stopped_port_stays_down_whatever_the_link_does() {
    let now = Instant::now();
    let mut state = PortState {
        phase: Phase::Serving,
        up_since: Some(now),
        epoch: 1,
        ..PortState::new()
    };
    state = reduce(&settings(), &state, Event::Stop, now).0;
    state = reduce(&settings(), &state, Event::Drained, now).0;
    for seconds in 1..10 {
        for event in Event::ALL.into_iter().filter(|event| {
            !matches!(
                event,
                Event::Start | Event::DeviceFatal | Event::ManagementQueuePairDead
            )
        }) {
            state = reduce(&settings(), &state, event, now + Duration::from_secs(seconds)).0;
            assert_eq!(state.phase, Phase::Down, "after {event:?}");
        }
    }
    state = reduce(&settings(), &state, Event::LinkUp, now).0;
    state = reduce(&settings(), &state, Event::Start, now + Duration::from_secs(20)).0;
    assert!(matches!(state.phase, Phase::Arming { .. }));
}

/// Random walks hold the invariants: at most one epoch held, epochs only grow, an epoch is published once and only
/// after it was armed, every held epoch that ends is drained, and a port that wants to serve always has a next step.
#[test]
fn random_walks_keep_the_invariants() {
    for seed in 0..200u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % limit as u64).expect("small")
        };
        let mut now = Instant::now();
        let mut state = PortState::new();
        let mut published = 0;
        for step in 0..500 {
            now += Duration::from_millis(draw(400) as u64);
            let event = Event::ALL[draw(Event::ALL.len())];
            let (next, actions) = reduce(&settings(), &state, event, now);
            assert!(
                next.epoch >= state.epoch && next.epoch <= state.epoch + 1,
                "seed {seed} step {step}"
            );
            for action in &actions {
                match *action {
                    Action::Publish { epoch } => {
                        assert!(epoch > published && epoch == next.epoch, "seed {seed} step {step}");
                        assert!(next.phase.serves());
                        published = epoch;
                    }
                    Action::Arm { .. } => assert!(next.wanted && next.up_since.is_some(), "seed {seed} step {step}"),
                    Action::Drain { epoch, .. } | Action::Hold { epoch } | Action::Resume { epoch } => {
                        assert_eq!(epoch, published, "seed {seed} step {step}");
                    }
                    _ => {}
                }
            }
            let left = state.phase.holds_epoch() && !next.phase.holds_epoch();
            let drained = event == Event::Drained || actions.iter().any(|a| matches!(a, Action::Quarantine { .. }));
            assert!(
                !left || drained,
                "seed {seed} step {step}: {event:?} left {:?} for {:?}",
                state.phase,
                next.phase
            );
            let idle = deadline(&settings(), &next).is_none();
            let waits_for_others = matches!(
                next.phase,
                Phase::Serving | Phase::Arming { retry_at: None } | Phase::Degraded { retry_at: None }
            );
            if idle && next.wanted && next.up_since.is_some() {
                assert!(waits_for_others, "seed {seed} step {step}: stuck in {:?}", next.phase);
            }
            state = next;
        }
    }
}

#[test]
fn a_path_that_comes_and_goes_needs_longer_at_each_repetition_until_hosts_are_called_back() {
    let start = Instant::now();
    let mut state = PortState::new();
    let seen = run(
        &mut state,
        start,
        &[
            (0, Event::LinkUp),
            (100, Event::LinkDown),
            (200, Event::LinkUp),
            (599, Event::Tick),
            (599, Event::LinkDown),
            (700, Event::LinkUp),
            (1499, Event::Tick),
            (1499, Event::LinkDown),
            (2000, Event::LinkUp),
            (2799, Event::Tick),
            (2800, Event::Tick),
        ],
    );
    assert_eq!(
        seen,
        [
            "Down +TellHosts",
            "Down",
            "Down",
            "Down",
            "Down",
            "Down",
            "Down",
            "Down",
            "Down",
            "Down",
            "Arming +TellHosts +Arm"
        ]
    );
}

#[test]
fn a_path_that_stayed_up_for_long_is_calm_again() {
    let start = Instant::now();
    let mut state = PortState {
        up_since: Some(start),
        restless: RESTLESS_MAX,
        ..PortState::new()
    };
    let calm_ms = u64::try_from(CALM.as_millis()).unwrap();
    let seen = run(
        &mut state,
        start,
        &[(calm_ms, Event::LinkDown), (calm_ms + 3000, Event::LinkUp)],
    );
    assert_eq!(seen, ["Down", "Down +TellHosts"]);
    assert_eq!(state.restless, 0);
}

#[test]
fn a_restless_path_resumes_held_connections_at_once_but_says_nothing_to_hosts_until_it_is_stable() {
    let start = Instant::now();
    let mut state = PortState {
        phase: Phase::Serving,
        up_since: Some(start),
        epoch: 1,
        ..PortState::new()
    };
    let seen = run(
        &mut state,
        start,
        &[(1000, Event::LinkDown), (1100, Event::LinkUp), (1499, Event::Tick)],
    );
    assert_eq!(seen, ["Holding +Hold", "Serving +Resume", "Serving"]);
    assert!(state.untold);
    assert_eq!(
        deadline(&settings(), &state),
        Some(start + Duration::from_millis(1500)),
        "hosts are told then"
    );
    let told = run(&mut state, start, &[(1500, Event::Tick), (1600, Event::Tick)]);
    assert_eq!(told, ["Serving +TellHosts", "Serving"]);
}

#[test]
fn an_address_that_comes_and_goes_is_restless_too_and_repeated_news_of_a_lost_path_count_once() {
    let start = Instant::now();
    let mut state = PortState::new();
    run(
        &mut state,
        start,
        &[
            (0, Event::LinkUp),
            (50, Event::AddressLost),
            (60, Event::LinkDown),
            (70, Event::DeviceRemoved),
        ],
    );
    assert_eq!(state.restless, 1);
}
