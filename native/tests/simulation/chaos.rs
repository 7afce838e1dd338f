//! Chooses what goes wrong, by a seed and aimed at ports that are just changing; or repeats a list.

use std::collections::VecDeque;
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

/// Storage hangs longer than drains wait.
const STORAGE_HANGS: (u64, u64) = (3_000, 12_000);

/// How much more often something goes wrong while a port is in such a phase.
const AIM: u64 = 6;

/// A look in so many begins an act: several things in a row that together lead where one alone seldom does.
const ACTS_PER_MILLE: u64 = 5;

/// The last act begins when so many steps are left.
const LAST_ACT_STEPS: u64 = 30_000;

/// The source of trouble.
#[derive(Debug)]
pub enum Chaos {
    /// By a seed.
    Seeded(Seeded),
    /// What was planned, in order.
    Repeated(std::vec::IntoIter<Planned>),
}

/// See [`Chaos::Seeded`].
#[derive(Debug)]
pub struct Seeded {
    random: Random,
    /// Trouble of 1000 looks.
    per_mille: u64,
    steps: u64,
    /// The rest of an act, and when it is due.
    act: VecDeque<(Duration, Stimulus)>,
    last_act_begun: bool,
    /// An act goes on: nothing else happens until then.
    act_ends: Duration,
}

/// What trouble goes by.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub step: u64,
    pub now: Duration,
    pub machine: &'a Machine,
    /// Names and phases of the ports.
    pub phases: &'a [(String, &'static str)],
}

impl Chaos {
    /// Trouble of a seed for so many steps.
    pub fn seeded(seed: u64, steps: u64) -> Self {
        let mut random = Random::new(seed, "chaos");
        let per_mille = random.pick(&[5, 20, 60, 120]);
        Self::Seeded(Seeded {
            random,
            per_mille,
            steps,
            act: VecDeque::new(),
            last_act_begun: false,
            act_ends: Duration::ZERO,
        })
    }

    /// What happens at this step, if anything.
    pub fn choose(&mut self, look: &Look<'_>) -> Option<Stimulus> {
        match self {
            Self::Repeated(planned) => {
                // With less going wrong before it, trouble may look at other steps than it was planned at.
                if planned.as_slice().first()?.step <= look.step {
                    planned.next().map(|planned| planned.stimulus)
                } else {
                    None
                }
            }
            Self::Seeded(seeded) => seeded.choose(look),
        }
    }
}

impl Seeded {
    fn choose(&mut self, look: &Look<'_>) -> Option<Stimulus> {
        if let Some((due, _)) = self.act.front() {
            if *due <= look.now {
                return self.act.pop_front().map(|(_, stimulus)| stimulus);
            }
        } else if !self.last_act_begun && look.step + LAST_ACT_STEPS >= self.steps {
            // What is only wrong once all is over must not be hidden by a later flap.
            self.last_act_begun = true;
            self.begin_act(look, |random| random.below(2));
        } else if look.now >= self.act_ends && self.random.chance(ACTS_PER_MILLE) {
            self.begin_act(look, |random| random.pick(&[0, 1, 2, 2, 2, 3, 4, 5, 6, 7]));
        }
        if look.now < self.act_ends {
            return None;
        }
        let random = &mut self.random;
        let passing: Vec<usize> = look
            .phases
            .iter()
            .filter(|(_, phase)| PASSING.contains(phase))
            .filter_map(|(name, _)| look.machine.ports.iter().position(|port| port.name == *name))
            .collect();
        let aim = if passing.is_empty() { 1 } else { AIM };
        if self.last_act_begun || !random.chance((self.per_mille * aim).min(1000)) {
            return None;
        }
        if !passing.is_empty() && random.chance(600) {
            let port = random.pick(&passing);
            return Some(strike(random, look.machine, port));
        }
        Some(anything(random, look.machine))
    }

    fn begin_act(&mut self, look: &Look<'_>, which: impl FnOnce(&mut Random) -> u64) {
        let which = which(&mut self.random);
        let random = &mut self.random;
        let nic = random.below(look.machine.nics.len() as u64) as usize;
        let mut at = look.now;
        let mut then = |after_ms: u64, stimulus: Stimulus| {
            at += Duration::from_millis(after_ms);
            self.act.push_back((at, stimulus));
        };
        let ms = Duration::from_millis;
        let hang = |milliseconds| Stimulus::Storage {
            mood: Mood {
                stuck_per_mille: 1000,
                ..Mood::CALM
            },
            lasts: ms(milliseconds),
        };
        let down = |milliseconds| Stimulus::LinkDown {
            nic,
            lasts: ms(milliseconds),
        };
        let no_memory = |after, milliseconds| Stimulus::RegistrationFails {
            after,
            lasts: ms(milliseconds),
        };
        let mut goes_on = Duration::ZERO;
        match which {
            // A port whose link comes back finds no memory for a while.
            0 => {
                let outage = random.between(500, 4000);
                goes_on = ms(5000);
                then(0, down(outage));
                then(
                    outage - 100,
                    no_memory(random.between(1, 3), random.between(1000, 6000)),
                );
            }
            // An outage longer than a keep-alive timeout: ridden through, or not.
            1 => {
                goes_on = ms(9000);
                then(0, down(random.between(7000, 8500)));
            }
            // Work that finishes after its epoch, while the next one comes, holds, drains or lacks memory.
            2 => {
                let hangs = random.between(6000, 9000);
                then(0, hang(hangs));
                then(200, Stimulus::HostsReconnect { nic });
                then(100, queue_error(random, nic));
                goes_on = ms(2000);
                let last = match random.below(4) {
                    0 => down(4000),
                    1 => queue_error(random, nic),
                    2 => Stimulus::DeviceFatal {
                        nic,
                        silent_death: false,
                        lasts: ms(4000),
                    },
                    _ => no_memory(random.between(4, 20), 4000),
                };
                if matches!(last, Stimulus::RegistrationFails { .. }) {
                    then(hangs - 2500, last);
                    then(100, queue_error(random, nic));
                } else {
                    then(hangs - random.between(350, 1400), last);
                }
            }
            // The management queue pair dies while the port comes up, with all of its memory or part of it.
            3 => {
                then(0, no_memory(random.between(4, 18), random.between(8000, 14_000)));
                goes_on = ms(10_000);
                then(0, queue_error(random, nic));
                then(
                    random.between(0, 20),
                    Stimulus::ManagementDead {
                        nic,
                        outage: false,
                        lasts: ms(random.between(9000, 30_000)),
                    },
                );
            }
            // The same in an outage, for so long that the port looks again.
            4 => {
                goes_on = ms(20_000);
                then(
                    0,
                    Stimulus::ManagementDead {
                        nic,
                        outage: true,
                        lasts: ms(random.between(20_000, 40_000)),
                    },
                );
            }
            // A link comes back while work of the last epoch is still stuck.
            6 => {
                goes_on = ms(9000);
                then(0, hang(10_000));
                then(200, Stimulus::HostsReconnect { nic });
                then(50, down(random.between(5000, 7000)));
            }
            // A device fails while work on it is stuck, and says so again when the port has failed.
            7 => {
                goes_on = ms(2000);
                then(0, hang(9000));
                then(200, Stimulus::HostsReconnect { nic });
                then(
                    random.between(50, 300),
                    Stimulus::DeviceFatal {
                        nic,
                        silent_death: false,
                        lasts: ms(7000),
                    },
                );
                let event = AsyncEvent::DeviceFatal;
                then(random.between(2500, 4500), Stimulus::AsyncEvent { nic, event });
            }
            // Hosts come while a port goes.
            _ => {
                then(0, hang(random.between(50, 1500)));
                then(random.between(1, 30), queue_error(random, nic));
                then(random.between(0, 10), Stimulus::HostsReconnect { nic });
            }
        }
        self.act_ends = at + goes_on;
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
        16 => Stimulus::HostsReconnect { nic },
        17 => Stimulus::RegistrationFails {
            after: random.between(1, 24),
            lasts,
        },
        0..4 => Stimulus::LinkDown { nic, lasts },
        4 => Stimulus::Flap { nic },
        5 => Stimulus::AddressLost { nic, lasts },
        6 => Stimulus::AddressMoved { nic, lasts },
        7 => Stimulus::AddressFlap { nic },
        8 => Stimulus::DeviceRemoved {
            nic,
            reported: random.chance(400),
            lasts,
        },
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
        40..43 => Stimulus::DeviceRemoved {
            nic,
            reported: random.chance(400),
            lasts,
        },
        43..46 => Stimulus::DeviceFatal {
            nic,
            silent_death: random.chance(300),
            lasts,
        },
        46 => Stimulus::HostsReconnect { nic },
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
        95 => Stimulus::Apply(Change::Listener(random.below(machine.ports.len() as u64) as usize)),
        96 => Stimulus::Apply(Change::LargeBuffers(random.between(4, 8))),
        _ => Stimulus::Restart {
            killed: random.chance(500),
            pause: lasts,
        },
    }
}
