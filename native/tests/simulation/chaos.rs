//! Chooses what goes wrong, by a seed and aimed at ports that are just changing; or repeats a list.

use std::time::Duration;

use weir_core::provider::AsyncEvent;
use weir_core::provider::sim::{EventKind, FaultPoint, LinkState};

use crate::machine::Machine;
use crate::stimulus::{Change, Planned, Stimulus};
use crate::support::random::Random;
use crate::support::storage::Mood;

/// Calls that fail on real systems. A disconnect fails only when there is nothing to disconnect.
const FAULT_POINTS: [FaultPoint; 13] = [
    FaultPoint::OpenDevice,
    FaultPoint::AllocateProtectionDomain,
    FaultPoint::RegisterMemory,
    FaultPoint::CreateCompletionQueue,
    FaultPoint::CreateSharedReceiveQueue,
    FaultPoint::CreateQueuePair,
    FaultPoint::ReadyQueuePair,
    FaultPoint::PostReceives,
    FaultPoint::PostSends,
    FaultPoint::PollCompletions,
    FaultPoint::Listen,
    FaultPoint::Accept,
    FaultPoint::Reject,
];

/// A request that arrived is in the kernel's hands and is not lost; one that did not arrive is silence.
const LOSABLE: [EventKind; 4] = [
    EventKind::Established,
    EventKind::Disconnected,
    EventKind::Failed,
    EventKind::TimewaitExit,
];

/// Phases that pass: what happens just then is what is seldom tried.
const PASSING: [&str; 6] = ["Arming", "Degraded", "Holding", "Draining", "Quarantined", "Failed"];

/// So long that it is found out before it is over.
const MANAGEMENT_DEAD_AT_LEAST: Duration = Duration::from_secs(15);

/// Storage hangs longer than drains wait.
const STORAGE_HANGS: (u64, u64) = (3_000, 12_000);

/// How much more often something goes wrong while a port is in such a phase.
const AIM: u64 = 6;

/// The source of trouble.
#[derive(Debug)]
pub enum Chaos {
    /// By a seed: trouble of 1000 looks.
    Seeded { random: Random, per_mille: u64 },
    /// What was planned, in order.
    Repeated(std::vec::IntoIter<Planned>),
}

impl Chaos {
    /// Trouble of a seed.
    pub fn seeded(seed: u64) -> Self {
        let mut random = Random::new(seed, "chaos");
        let per_mille = random.pick(&[20, 40, 80, 120]);
        Self::Seeded { random, per_mille }
    }

    /// What happens at this step, if anything. `phases` are those of the ports.
    pub fn choose(&mut self, step: u64, machine: &Machine, phases: &[(String, &'static str)]) -> Option<Stimulus> {
        match self {
            Self::Repeated(planned) => {
                let next = planned.as_slice().first()?;
                assert!(next.step >= step, "a repeated run meets every step of its plan");
                if next.step == step {
                    planned.next().map(|planned| planned.stimulus)
                } else {
                    None
                }
            }
            Self::Seeded { random, per_mille } => {
                let passing: Vec<usize> = phases
                    .iter()
                    .filter(|(_, phase)| PASSING.contains(phase))
                    .filter_map(|(name, _)| machine.ports.iter().position(|port| port.name == *name))
                    .collect();
                let odds = if passing.is_empty() { *per_mille } else { *per_mille * AIM };
                if !random.chance(odds.min(1000)) {
                    return None;
                }
                if !passing.is_empty() && random.chance(600) {
                    let port = random.pick(&passing);
                    return Some(strike(random, machine, port));
                }
                Some(anything(random, machine))
            }
        }
    }
}

fn duration(random: &mut Random) -> Duration {
    let longest_ms = random.pick(&[20, 300, 2000, 8000]);
    Duration::from_millis(random.between(1, longest_ms))
}

/// Something that a port on its way from one phase to another notices.
fn strike(random: &mut Random, machine: &Machine, port: usize) -> Stimulus {
    let nic = machine.ports[port].nic;
    let lasts = duration(random);
    match random.below(18) {
        16 => Stimulus::ManagementDead {
            nic,
            lasts: lasts + MANAGEMENT_DEAD_AT_LEAST,
        },
        17 => Stimulus::RegistrationFails {
            after: random.between(1, 24),
            lasts,
        },
        0..4 => Stimulus::LinkDown { nic, lasts },
        4 => Stimulus::Flap { nic },
        5 => Stimulus::AddressLost { nic, lasts },
        6 => Stimulus::AddressMoved { nic, lasts },
        7 => Stimulus::AddressFlap { nic },
        8 => Stimulus::DeviceRemoved { nic, lasts },
        9 => Stimulus::DeviceFatal {
            nic,
            silent_death: random.chance(300),
            lasts,
        },
        10 => queue_error(random, nic),
        11 => Stimulus::Apply(Change::Listener(port)),
        12 => Stimulus::Apply(Change::LargeBuffers(random.between(4, 8))),
        13 => Stimulus::RegistrationFails {
            after: random.between(1, 12),
            lasts,
        },
        14 => Stimulus::Storage {
            mood: Mood {
                stuck_per_mille: 1000,
                ..Mood::CALM
            },
            lasts: Duration::from_millis(random.between(STORAGE_HANGS.0, STORAGE_HANGS.1)),
        },
        _ => Stimulus::Apply(Change::Pollers(random.between(1, 3))),
    }
}

fn queue_error(random: &mut Random, nic: usize) -> Stimulus {
    let event = random.pick(&[AsyncEvent::CompletionQueueError, AsyncEvent::SharedReceiveQueueError]);
    Stimulus::AsyncEvent { nic, event }
}

fn anything(random: &mut Random, machine: &Machine) -> Stimulus {
    let lasts = duration(random);
    let nic = random.below(machine.nics.len() as u64) as usize;
    match random.below(100) {
        0..18 => Stimulus::LinkDown { nic, lasts },
        18..22 => Stimulus::Flap { nic },
        22..30 => Stimulus::Silence {
            nic,
            link: random.pick(&[LinkState::Silent, LinkState::LosesIncoming, LinkState::LosesOutgoing]),
            lasts,
        },
        30..35 => Stimulus::AddressLost { nic, lasts },
        35..38 => Stimulus::AddressMoved { nic, lasts },
        38..40 => Stimulus::AddressFlap { nic },
        40..43 => Stimulus::DeviceRemoved { nic, lasts },
        43..46 => Stimulus::DeviceFatal {
            nic,
            silent_death: random.chance(300),
            lasts,
        },
        46 => Stimulus::ManagementDead {
            nic,
            lasts: lasts + MANAGEMENT_DEAD_AT_LEAST,
        },
        47..49 => Stimulus::QueuePairFatal {
            nic,
            nth: random.below(16) as usize,
        },
        49..51 => queue_error(random, nic),
        51..53 => Stimulus::AsyncEvent {
            nic,
            event: random.pick(&[
                AsyncEvent::PortError,
                AsyncEvent::PortActive,
                AsyncEvent::GidChange,
                AsyncEvent::Other(17),
            ]),
        },
        53 => Stimulus::Storage {
            mood: Mood {
                stuck_per_mille: 1000,
                ..Mood::CALM
            },
            lasts: Duration::from_millis(random.between(STORAGE_HANGS.0, STORAGE_HANGS.1)),
        },
        54..61 => Stimulus::CallFails {
            point: random.pick(&FAULT_POINTS),
            call: random.between(1, 4),
            errno: random.pick(&[libc::ENOMEM, libc::EAGAIN, libc::EIO]),
        },
        61..65 => Stimulus::RegistrationFails {
            after: random.between(1, 24),
            lasts,
        },
        65..67 => Stimulus::EventsLost {
            kind: random.pick(&LOSABLE),
            count: random.between(1, 3) as u32,
        },
        67..69 => Stimulus::EventsDoubled {
            kind: random.pick(&LOSABLE),
            count: random.between(1, 3) as u32,
        },
        69..72 => Stimulus::EventsHeld {
            lasts,
            reordered: random.chance(600),
        },
        72..74 => Stimulus::SendsFail {
            per_mille: random.between(1, 50) as u32,
            after: random.below(3) as usize,
            lasts,
        },
        74..76 => Stimulus::AcknowledgementsLost {
            per_mille: random.between(100, 1000) as u32,
            lasts,
        },
        76..84 => Stimulus::Storage {
            mood: Mood {
                errors_per_mille: random.pick(&[0, 0, 20, 200]),
                completions_per_mille: random.pick(&[20, 300, 1000]),
                stuck_per_mille: random.pick(&[0, 50, 500]),
                full_per_mille: random.pick(&[0, 100]),
                open_errors_per_mille: random.pick(&[0, 500]),
            },
            lasts,
        },
        84..87 => Stimulus::HostLost {
            host: random.below(machine.hosts.len() as u64) as usize,
        },
        87..89 => Stimulus::HostFrozen {
            host: random.below(machine.hosts.len() as u64) as usize,
            // A third of them for good, as far as the target can tell.
            lasts: if random.chance(330) {
                Duration::from_secs(600)
            } else {
                lasts
            },
        },
        89..91 => Stimulus::Stall {
            thread: random.below(4) as usize,
            lasts: lasts.min(Duration::from_millis(700)),
        },
        91..93 => Stimulus::LinkReadsFail {
            count: random.between(1, 40) as u32,
        },
        93 => Stimulus::Apply(Change::Namespace),
        94 => Stimulus::Apply(Change::Pollers(random.between(1, 3))),
        95 => Stimulus::Apply(Change::Listener(
            random.below(machine.ports.len() as u64) as usize
        )),
        96 => Stimulus::Apply(Change::LargeBuffers(random.between(4, 8))),
        _ => Stimulus::Restart {
            killed: random.chance(500),
            pause: lasts,
        },
    }
}
