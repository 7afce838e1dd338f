//! Writes docs/reference/port-lifecycle.md from the reducer itself: every situation that can be reached is fed every
//! event, and what comes of it is what the page says. A page that says anything else fails the test below.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

/// The environment variable with which the test writes the page instead of comparing it.
const WRITE: &str = "WEIR_WRITE_REFERENCE";

/// Unfinished epochs told apart; more make no difference.
const UNFINISHED_MAX: u32 = 2;

fn settings() -> Settings {
    Settings {
        hold: Duration::from_millis(500),
        drain_timeout: Duration::from_secs(15),
        up_stabilization: Duration::from_millis(200),
        backoff_max: Duration::from_secs(30),
        seed: 42,
    }
}

/// What tells one situation of a port from another: a name, and what it is in this one.
type Traits = BTreeMap<&'static str, &'static str>;

/// What an event does: the next phase or that nothing changes, and the actions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Outcome {
    next: &'static str,
    changes: bool,
    actions: Vec<&'static str>,
}

/// Whether the phase's own time is over.
fn is_due(phase: &Phase, now: Instant) -> bool {
    let at = match *phase {
        Phase::Arming { retry_at } | Phase::Degraded { retry_at } => retry_at,
        Phase::Holding { until, .. } => Some(until),
        Phase::Draining { deadline, .. } => Some(deadline),
        Phase::Failed { retry_at } => Some(retry_at),
        Phase::Down | Phase::Serving | Phase::Quarantined => None,
    };
    at.is_some_and(|at| at <= now)
}

fn is_stable(state: &PortState, now: Instant) -> bool {
    state.stable_at(&settings()).is_some_and(|at| at <= now)
}

/// The state with every time as plain as what it means at `now`, so that there are finitely many.
fn plain(state: &PortState, now: Instant) -> PortState {
    let hour = Duration::from_secs(3600);
    let mut plain = *state;
    let at = |at: Instant| if at <= now { now } else { now + hour };
    plain.phase = match state.phase {
        Phase::Arming { retry_at } => Phase::Arming {
            retry_at: retry_at.map(at),
        },
        Phase::Degraded { retry_at } => Phase::Degraded {
            retry_at: retry_at.map(at),
        },
        Phase::Holding { until, degraded } => Phase::Holding {
            until: at(until),
            degraded,
        },
        Phase::Draining { deadline, fatal } => Phase::Draining {
            deadline: at(deadline),
            fatal,
        },
        Phase::Failed { retry_at } => Phase::Failed { retry_at: at(retry_at) },
        other => other,
    };
    plain.up_since = match state.up_since {
        Some(_) if is_stable(state, now) => now.checked_sub(hour),
        Some(_) => Some(now),
        None => None,
    };
    // More than once makes only the time longer.
    plain.restless = state.restless.min(1);
    plain.epoch = 3;
    plain.attempts = state.attempts.min(ARMING_ATTEMPTS_MAX);
    plain.unfinished_epochs = state.unfinished_epochs.min(UNFINISHED_MAX);
    plain
}

/// The state once so much time has passed that its phase's timer is due; and once the link was up long enough.
fn later(state: &PortState, now: Instant) -> [PortState; 2] {
    let mut due = *state;
    match &mut due.phase {
        Phase::Arming {
            retry_at: Some(retry_at),
        }
        | Phase::Degraded {
            retry_at: Some(retry_at),
        }
        | Phase::Failed { retry_at } => *retry_at = now,
        Phase::Holding { until, .. } => *until = now,
        Phase::Draining { deadline, .. } => *deadline = now,
        Phase::Down
        | Phase::Serving
        | Phase::Quarantined
        | Phase::Arming { retry_at: None }
        | Phase::Degraded { retry_at: None } => {}
    }
    let mut stable = *state;
    if stable.up_since.is_some() {
        stable.up_since = now.checked_sub(Duration::from_secs(3600));
    }
    [due, stable]
}

/// Every state that can be reached from a port's first one by any events at any time.
fn reachable(now: Instant) -> Vec<PortState> {
    let first = plain(&PortState::new(), now);
    let mut found = vec![first];
    let mut seen = HashSet::from([first]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        let events = Event::ALL.map(|event| reduce(&settings(), &state, event, now).0);
        for next in events.into_iter().chain(later(&state, now)) {
            let next = plain(&next, now);
            if seen.insert(next) {
                found.push(next);
                queue.push_back(next);
            }
        }
    }
    found
}

/// What the reader may have to know of a situation to tell what an event does in it.
fn traits(state: &PortState, now: Instant) -> Traits {
    let either = |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
    let mut traits = Traits::from([
        ("link", either(state.up_since.is_some(), "link up", "link down")),
        (
            "stable",
            either(is_stable(state, now), "link stable", "link not stable"),
        ),
        ("restless", either(state.restless > 0, "path restless", "path calm")),
        ("untold", either(state.untold, "hosts untold", "nobody to tell")),
        ("wanted", either(state.wanted, "wanted", "not wanted")),
        (
            "quarantine",
            either(
                state.unfinished_epochs > 0,
                "work in quarantine",
                "nothing in quarantine",
            ),
        ),
        (
            "last quarantine",
            either(
                state.unfinished_epochs == 1,
                "the last epoch in quarantine",
                "not the last one",
            ),
        ),
        (
            "timer",
            either(is_due(&state.phase, now), "its time over", "its time not over"),
        ),
    ]);
    match state.phase {
        Phase::Arming { .. } => {
            let last = state.attempts + 1 >= ARMING_ATTEMPTS_MAX;
            traits.insert("attempts", either(last, "last attempt", "attempts left"));
        }
        Phase::Holding { degraded, .. } => {
            traits.insert("degraded", either(degraded, "was `Degraded`", "was `Serving`"));
        }
        Phase::Draining { fatal, .. } => {
            traits.insert("fatal", either(fatal, "device fatal", "device not fatal"));
        }
        _ => {}
    }
    traits
}

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Arm { .. } => "Arm",
        Action::AbandonArming => "AbandonArming",
        Action::Publish { .. } => "Publish",
        Action::CompleteRegistration { .. } => "CompleteRegistration",
        Action::Hold { .. } => "Hold",
        Action::Resume { .. } => "Resume",
        Action::Drain { .. } => "Drain",
        Action::Quarantine { .. } => "Quarantine",
        Action::TellHosts => "TellHosts",
    }
}

fn outcome(state: &PortState, event: Event, now: Instant) -> Outcome {
    let (next, actions) = reduce(&settings(), state, event, now);
    Outcome {
        next: next.phase.name(),
        changes: next != *state || !actions.is_empty(),
        actions: actions.iter().map(action_name).collect(),
    }
}

/// Situations that lead to one outcome, described by what they have in common and others have not.
struct Rule {
    conditions: Vec<&'static str>,
    outcome: Outcome,
}

/// Splits situations by one trait after the other, that which tells most first, until each part has one outcome.
fn rules(cases: &[(Traits, Outcome)], conditions: &[&'static str], out: &mut Vec<Rule>) {
    if uncertainty(cases.iter()) == 0.0 {
        let conditions = conditions.to_vec();
        let outcome = cases[0].1.clone();
        out.push(Rule { conditions, outcome });
        return;
    }
    let parts_by = |name: &'static str| {
        let mut parts: BTreeMap<&'static str, Vec<&(Traits, Outcome)>> = BTreeMap::new();
        for case in cases {
            parts.entry(case.0[name]).or_default().push(case);
        }
        let left: f64 = parts.values().map(|part| uncertainty(part.iter().copied())).sum();
        (left, parts)
    };
    let splits = cases[0]
        .0
        .keys()
        .map(|name| parts_by(name))
        .filter(|(_, parts)| parts.len() > 1);
    let (_, parts) = splits
        .min_by(|(one, _), (other, _)| one.total_cmp(other))
        .expect("what an event does follows from the traits of the situation");
    for (value, part) in parts {
        let part: Vec<(Traits, Outcome)> = part.into_iter().cloned().collect();
        rules(&part, &[conditions, &[value]].concat(), out);
    }
}

/// Entropy of the outcomes times the number of situations: 0 when there is one outcome only.
fn uncertainty<'a>(cases: impl Iterator<Item = &'a (Traits, Outcome)>) -> f64 {
    let mut counts: BTreeMap<&Outcome, f64> = BTreeMap::new();
    for (_, outcome) in cases {
        *counts.entry(outcome).or_default() += 1.0;
    }
    let all: f64 = counts.values().sum();
    counts.values().map(|count| count * (all / count).ln()).sum()
}

/// What the passing of time means in a phase.
fn time_over(phase: &str) -> &'static str {
    match phase {
        "Down" | "Quarantined" => "link stable",
        "Arming" | "Failed" => "next attempt due",
        "Degraded" => "retry due",
        "Holding" => "hold time over",
        "Draining" => "drain timeout",
        other => panic!("time does nothing in {other}"),
    }
}

const PHASES: [(&str, &str); 8] = [
    (
        "Down",
        "Link, address or device absent, or the port is not wanted. Nothing is held.",
    ),
    ("Arming", "Builds resources. Its time: the next attempt."),
    ("Serving", "Listens, with all resources."),
    (
        "Degraded",
        "Listens, with less memory than wanted. Its time: the next attempt to register the rest.",
    ),
    ("Holding", "The link went down moments ago. Its time: the hold time."),
    ("Draining", "Safe drain. Its time: the drain timeout."),
    (
        "Quarantined",
        "As `Down`, while work of an earlier epoch has not finished.",
    ),
    (
        "Failed",
        "The device reported a fatal error, its management queue pair is dead, or arming failed too often. Its time: the next attempt.",
    ),
];

/// What every event does in every phase, by conditions.
fn table(states: &[PortState], now: Instant) -> BTreeMap<(&'static str, usize), Vec<Rule>> {
    let mut table = BTreeMap::new();
    for (phase, _) in PHASES {
        let here: Vec<&PortState> = states.iter().filter(|state| state.phase.name() == phase).collect();
        assert!(!here.is_empty(), "{phase} can be reached");
        for (index, event) in Event::ALL.into_iter().enumerate() {
            let cases: Vec<(Traits, Outcome)> = here
                .iter()
                .map(|state| (traits(state, now), outcome(state, event, now)))
                .collect();
            let mut found = Vec::new();
            rules(&cases, &[], &mut found);
            table.insert((phase, index), found);
        }
    }
    table
}

fn diagram(table: &BTreeMap<(&'static str, usize), Vec<Rule>>) -> String {
    let mut edges: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    let place = |name: &str| PHASES.iter().position(|(phase, _)| *phase == name).expect("a phase");
    for ((phase, event), rules) in table {
        for rule in rules.iter().filter(|rule| rule.outcome.next != *phase) {
            let event = Event::ALL[*event];
            let label = match event {
                Event::Tick => time_over(phase).to_owned(),
                _ => format!("{event:?}"),
            };
            let labels = edges.entry((place(phase), place(rule.outcome.next))).or_default();
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Down\n".to_owned();
    for ((from, to), labels) in edges {
        let (from, to, labels) = (PHASES[from].0, PHASES[to].0, labels.join(", "));
        writeln!(text, "    {from} --> {to} : {labels}").expect("text");
    }
    text + "```\n"
}

fn phase_table(phase: &'static str, table: &BTreeMap<(&'static str, usize), Vec<Rule>>) -> String {
    let mut text = "| Event | When | Next | Actions |\n| --- | --- | --- | --- |\n".to_owned();
    let mut ignored = Vec::new();
    for (index, event) in Event::ALL.into_iter().enumerate() {
        let rules = &table[&(phase, index)];
        if rules.iter().all(|rule| !rule.outcome.changes) {
            ignored.push(format!("`{event:?}`"));
            continue;
        }
        for rule in rules {
            let when = rule.conditions.join(", ");
            let next = match &rule.outcome {
                outcome if outcome.next != phase => format!("**{}**", outcome.next),
                outcome if outcome.changes => "stays".to_owned(),
                _ => "nothing".to_owned(),
            };
            let actions = rule.outcome.actions.join(", ");
            writeln!(text, "| `{event:?}` | {when} | {next} | {actions} |").expect("text");
        }
    }
    if !ignored.is_empty() {
        writeln!(text, "\nChange nothing here: {}.", ignored.join(", ")).expect("text");
    }
    text
}

fn page() -> String {
    let now = Instant::now() + Duration::from_secs(7200);
    let states = reachable(now);
    let table = table(&states, now);
    let mut text = format!(
        "# The life of a port, as it is built\n\n\
         Generated from the reducer in `native/src/lifecycle/` by feeding every event to every one of the {} situations\n\
         that can be reached; `npm run generate` writes it anew. What it means for operators is in\n\
         [link-lifecycle.md](../explanation/link-lifecycle.md).\n\n",
        states.len()
    );
    text += &diagram(&table);
    text += "\nAn edge names the events that can lead along it; on which conditions, and with which actions, the tables say.\n\
             Link events are levels: the control loop reads the link on every hint and says what it found, so they repeat.\n\
             `AbandonArming` reports `Drained` at once, for nothing of an epoch that was never published is in use.\n\n\
             In the tables, *stays* means that the phase remains and something is remembered, such as the level of the link\n\
             or the time of the next attempt; *nothing* means that the event changes nothing at all.\n";
    for (phase, meaning) in PHASES {
        write!(text, "\n## {phase}\n\n{meaning}\n\n{}", phase_table(phase, &table)).expect("text");
    }
    text
}

#[test]
fn the_reference_page_says_what_the_reducer_does() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/port-lifecycle.md");
    let page = page();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, page).expect("docs/reference can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/port-lifecycle.md is not what the reducer does: run npm run generate"
    );
}
