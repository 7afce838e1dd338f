//! Which pairs of phase and event the lifecycle reducer must have met, and which cannot happen.

use std::fmt::Write;

use weir_core::simulation::coverage::Pairs;

const PHASES: [&str; 8] = [
    "Down",
    "Arming",
    "Serving",
    "Degraded",
    "Holding",
    "Draining",
    "Quarantined",
    "Failed",
];

const EVENTS: [&str; 17] = [
    "LinkUp",
    "LinkDown",
    "AddressLost",
    "DeviceRemoved",
    "DeviceFatal",
    "ManagementQueuePairDead",
    "Tick",
    "Armed",
    "ArmedPartly",
    "ArmFailed",
    "RegistrationCompleted",
    "RegistrationStalled",
    "Drained",
    "LateWorkFinished",
    "Restart",
    "Stop",
    "Start",
];

/// Why the control loop never feeds this event in this phase; `None`: it does.
pub fn impossible(phase: &str, event: &str) -> Option<&'static str> {
    match (event, phase) {
        ("LinkUp", "Arming" | "Serving" | "Degraded") => {
            Some("said only when the path was not usable; in this phase it is, or the port leaves it at once")
        }
        ("LinkDown", "Holding") => Some("said once per outage; a port holds because it was said"),
        ("DeviceFatal", "Down") => Some("a port that is down has no device open, so none reports to it"),
        ("ManagementQueuePairDead", phase) if !matches!(phase, "Arming" | "Serving" | "Degraded") => {
            Some("looked for only where hosts are to connect, or before that once it was dead; over with the phase")
        }
        ("Armed" | "ArmedPartly" | "ArmFailed", phase) if phase != "Arming" => {
            Some("an attempt to arm is abandoned in the step in which its phase ends")
        }
        ("RegistrationCompleted" | "RegistrationStalled", phase) if phase != "Degraded" => {
            Some("memory is completed only while the port is degraded")
        }
        ("Drained", phase) if phase != "Draining" => {
            Some("pollers give back what they were told to drain; later than its deadline it is LateWorkFinished")
        }
        ("LateWorkFinished", "Down") => Some("a port with unfinished epochs is Quarantined, not Down"),
        ("Start", phase) if !matches!(phase, "Down" | "Failed") => {
            Some("ports are started with the pollers, and come to rest before pollers change")
        }
        _ => None,
    }
}

/// What is wrong with what was met: pairs that can happen and did not, pairs that cannot and did, unknown names.
pub fn problems(pairs: &Pairs) -> Vec<String> {
    let mut problems = Vec::new();
    for phase in PHASES {
        for event in EVENTS {
            let met = pairs.get(&(phase, event.to_owned())).copied().unwrap_or(0);
            match impossible(phase, event) {
                None if met == 0 => problems.push(format!("{event} in {phase} was never met")),
                Some(reason) if met > 0 => {
                    problems.push(format!(
                        "{event} in {phase} was met {met} times, but cannot happen: {reason}"
                    ));
                }
                _ => {}
            }
        }
    }
    for (phase, event) in pairs.keys() {
        if !PHASES.contains(phase) || !EVENTS.contains(&event.as_str()) {
            problems.push(format!("{event} in {phase} is not in the table of what can be met"));
        }
    }
    problems
}

/// How many pairs can happen, and how many of them were met.
pub fn counts(pairs: &Pairs) -> (usize, usize) {
    let possible = PHASES
        .iter()
        .flat_map(|phase| EVENTS.iter().map(move |event| (*phase, *event)))
        .filter(|(phase, event)| impossible(phase, event).is_none());
    let (mut all, mut met) = (0, 0);
    for (phase, event) in possible {
        all += 1;
        met += usize::from(pairs.contains_key(&(phase, event.to_owned())));
    }
    (all, met)
}

/// The table for people: events down, phases across; `·` cannot happen, `0` should have.
pub fn table(pairs: &Pairs) -> String {
    const WIDTH: usize = 12;
    let mut text = format!("{:22}", "");
    for phase in PHASES {
        let _ = write!(text, "{phase:>WIDTH$}");
    }
    for event in EVENTS {
        let _ = write!(text, "\n{event:22}");
        for phase in PHASES {
            let met = pairs.get(&(phase, event.to_owned())).copied().unwrap_or(0);
            let shown = match impossible(phase, event) {
                Some(_) if met == 0 => "·".to_owned(),
                _ => met.to_string(),
            };
            let _ = write!(text, "{shown:>WIDTH$}");
        }
    }
    text
}

/// The same for machines: by phase and event how often, and why not where it cannot.
pub fn json(pairs: &Pairs) -> serde_json::Value {
    let mut phases = serde_json::Map::new();
    for phase in PHASES {
        let mut events = serde_json::Map::new();
        for event in EVENTS {
            let met = pairs.get(&(phase, event.to_owned())).copied().unwrap_or(0);
            let value = match impossible(phase, event) {
                None => serde_json::json!({ "met": met }),
                Some(reason) => serde_json::json!({ "met": met, "impossible": reason }),
            };
            events.insert(event.to_owned(), value);
        }
        phases.insert(phase.to_owned(), events.into());
    }
    phases.into()
}
