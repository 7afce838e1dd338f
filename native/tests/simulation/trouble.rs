//! Carries out what goes wrong, and makes it good again when its time is over.

use std::net::IpAddr;
use std::time::Duration;

use weir_core::provider::AsyncEvent;
use weir_core::provider::sim::{FaultPoint, LinkState, SimDeviceSpec};

use crate::machine::{Machine, Wishes};
use crate::stimulus::{Change, Stimulus};
use crate::support::host::Host;
use crate::support::storage::Mood;
use crate::support::target::Target;

/// `IBV_WC_REM_ACCESS_ERR`.
const REMOTE_ACCESS_ERROR: u32 = 10;

const PREFIX_LENGTH: u8 = 24;

/// A process that is told to leave is killed after this time, as its pod is.
const LEAVING_PATIENCE: Duration = Duration::from_secs(10);

/// Threads that can stall: pollers, and last the control loop.
pub const THREADS: usize = 4;

/// What is to be made good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cure {
    Link(usize),
    Address(usize),
    Device(usize),
    Registration,
    Events { reordered: bool },
    Sends,
    Acknowledgements,
    Storage,
}

/// A device as it is now.
#[derive(Debug)]
struct Nic {
    link: LinkState,
    address: Option<IpAddr>,
    present: bool,
    fatal: bool,
}

/// Where the engine's process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    Runs,
    /// Told to leave; killed at this time.
    Leaves {
        until: Duration,
        pause: Duration,
    },
    /// Started at this time.
    Off {
        until: Duration,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct Trouble {
    nics: Vec<Nic>,
    cures: Vec<(Duration, Cure)>,
    wishes: Wishes,
    first_wishes: Wishes,
    process: Process,
    /// Until when a host does nothing.
    frozen: Vec<Duration>,
    /// Until when a thread does nothing.
    stalled: [Duration; THREADS],
}

impl Trouble {
    /// None yet.
    pub fn new(machine: &Machine, wishes: Wishes) -> Self {
        let nics = machine.nics.iter().map(|nic| Nic {
            link: LinkState::Up,
            address: Some(nic.address),
            present: true,
            fatal: false,
        });
        Self {
            nics: nics.collect(),
            cures: Vec::new(),
            first_wishes: wishes.clone(),
            wishes,
            process: Process::Runs,
            frozen: vec![Duration::ZERO; machine.hosts.len()],
            stalled: [Duration::ZERO; THREADS],
        }
    }

    /// Whether a host does anything now.
    pub fn host_acts(&self, host: usize, now: Duration) -> bool {
        self.frozen[host] <= now
    }

    /// Whether a poller gets to run now.
    pub fn poller_runs(&self, poller: usize, now: Duration) -> bool {
        self.stalled[poller.min(THREADS - 2)] <= now
    }

    /// Whether the control loop gets to run now.
    pub fn control_runs(&self, now: Duration) -> bool {
        self.stalled[THREADS - 1] <= now
    }

    /// Makes good what has lasted long enough, and looks after the process.
    pub fn pass(&mut self, target: &mut Target, machine: &Machine) {
        let now = target.now();
        let mut index = 0;
        while index < self.cures.len() {
            if self.cures[index].0 <= now {
                let (_, cure) = self.cures.swap_remove(index);
                self.cure(cure, target, machine);
            } else {
                index += 1;
            }
        }
        self.look_after_process(target);
    }

    fn look_after_process(&mut self, target: &mut Target) {
        let now = target.now();
        match self.process {
            Process::Runs => {
                if let Some(code) = target.exit_code() {
                    target.note(&format!("-- the process leaves with code {code}"));
                    target.kill();
                    self.process = Process::Off {
                        until: now + Duration::from_secs(1),
                    };
                }
            }
            Process::Leaves { until, pause } => {
                if now >= until || (target.has_left() && target.poller_count() == 0) {
                    target.note("-- the process has left");
                    target.kill();
                    self.process = Process::Off { until: now + pause };
                }
            }
            Process::Off { until } => {
                if now >= until {
                    target.note("-- the process is started");
                    target.start();
                    self.process = Process::Runs;
                }
            }
        }
    }

    fn lasts(&mut self, target: &Target, lasts: Duration, cure: Cure) {
        self.cures.push((target.now() + lasts, cure));
    }

    /// Makes something go wrong. False: it cannot, as things are now.
    pub fn apply(&mut self, stimulus: &Stimulus, target: &mut Target, machine: &Machine, hosts: &mut [Host]) -> bool {
        let now = target.now();
        match *stimulus {
            Stimulus::LinkDown { nic, lasts } => {
                if self.nics[nic].link != LinkState::Up {
                    return false;
                }
                self.set_link(nic, LinkState::Down, target, machine);
                self.lasts(target, lasts, Cure::Link(nic));
            }
            Stimulus::Silence { nic, link, lasts } => {
                if self.nics[nic].link != LinkState::Up {
                    return false;
                }
                self.set_link(nic, link, target, machine);
                self.lasts(target, lasts, Cure::Link(nic));
            }
            Stimulus::Flap { nic } => {
                if self.nics[nic].link != LinkState::Up {
                    return false;
                }
                self.set_link(nic, LinkState::Down, target, machine);
                self.set_link(nic, LinkState::Up, target, machine);
            }
            Stimulus::AddressLost { nic, lasts } => {
                if self.nics[nic].address != Some(machine.nics[nic].address) {
                    return false;
                }
                self.set_address(nic, None, target, machine);
                self.lasts(target, lasts, Cure::Address(nic));
            }
            Stimulus::AddressMoved { nic, lasts } => {
                if self.nics[nic].address != Some(machine.nics[nic].address) {
                    return false;
                }
                self.set_address(nic, Some(machine.nics[nic].other_address), target, machine);
                self.lasts(target, lasts, Cure::Address(nic));
            }
            Stimulus::AddressFlap { nic } => {
                let Some(address) = self.nics[nic].address else {
                    return false;
                };
                self.set_address(nic, None, target, machine);
                self.set_address(nic, Some(address), target, machine);
            }
            Stimulus::DeviceRemoved { nic, reported, lasts } => {
                if !self.nics[nic].present || self.nics[nic].fatal {
                    return false;
                }
                self.nics[nic].present = false;
                if reported {
                    target.world.remove_device(&machine.nics[nic].device);
                } else {
                    target.world.remove_device_unreported(&machine.nics[nic].device);
                }
                self.lasts(target, lasts, Cure::Device(nic));
            }
            Stimulus::DeviceFatal {
                nic,
                silent_death,
                lasts,
            } => {
                if !self.nics[nic].present || self.nics[nic].fatal {
                    return false;
                }
                self.nics[nic].fatal = true;
                target.world.fail_device(&machine.nics[nic].device, silent_death);
                self.lasts(target, lasts, Cure::Device(nic));
            }
            Stimulus::ManagementDead { nic, outage, lasts } => {
                let state = &self.nics[nic];
                if !state.present || state.fatal || state.link != LinkState::Up {
                    return false;
                }
                if outage {
                    self.set_link(nic, LinkState::Down, target, machine);
                    self.lasts(target, lasts / 16, Cure::Link(nic));
                }
                target.world.kill_management(&machine.nics[nic].device);
                self.lasts(target, lasts, Cure::Device(nic));
            }
            Stimulus::QueuePairFatal { nic, nth } => {
                return self.nics[nic].present && target.world.fail_queue_pair(&machine.nics[nic].device, nth);
            }
            Stimulus::AsyncEvent { nic, event } => return self.async_event(nic, event, target, machine),
            Stimulus::CallFails { point, call, errno } => target.world.fail_call(point, call, errno),
            Stimulus::RegistrationFails { after, lasts } => {
                if self.cures.iter().any(|(_, cure)| *cure == Cure::Registration) {
                    return false;
                }
                let point = FaultPoint::RegisterMemory;
                target.world.fail_calls_from(point, after, libc::ENOMEM);
                self.lasts(target, lasts, Cure::Registration);
            }
            Stimulus::EventsLost { kind, count } => target.world.lose_events(kind, count),
            Stimulus::EventsDoubled { kind, count } => target.world.duplicate_events(kind, count),
            Stimulus::EventsHeld { lasts, reordered } => {
                if self.cures.iter().any(|(_, cure)| matches!(cure, Cure::Events { .. })) {
                    return false;
                }
                target.world.hold_events(true);
                self.lasts(target, lasts, Cure::Events { reordered });
            }
            Stimulus::SendsFail {
                per_mille,
                after,
                lasts,
            } => {
                target.world.fail_completions_randomly(per_mille, REMOTE_ACCESS_ERROR);
                target.world.fail_sends_after(after, libc::ENOMEM);
                self.lasts(target, lasts, Cure::Sends);
            }
            Stimulus::AcknowledgementsLost { per_mille, lasts } => {
                target.world.deliver_despite_errors(per_mille);
                self.lasts(target, lasts, Cure::Acknowledgements);
            }
            Stimulus::Storage { mood, lasts } => {
                target.storage.set_mood(mood);
                self.lasts(target, lasts, Cure::Storage);
            }
            Stimulus::HostLost { host } => hosts[host].lose(now),
            Stimulus::HostsReconnect { nic } => {
                let address = machine.nics[nic].address;
                let of_nic = |host: &&mut Host| host.settings().targets[0].ip() == address;
                for host in hosts.iter_mut().filter(of_nic) {
                    host.reconnect(now);
                }
            }
            Stimulus::HostFrozen { host, lasts } => {
                if self.frozen[host] > now {
                    return false;
                }
                self.frozen[host] = now + lasts;
            }
            Stimulus::Stall { thread, lasts } => self.stalled[thread] = now + lasts,
            Stimulus::LinkReadsFail { count } => target.links.fail_reads(count),
            Stimulus::Apply(change) => return self.change(change, target, machine),
            Stimulus::Restart { killed, pause } => {
                if self.process != Process::Runs {
                    return false;
                }
                if killed {
                    target.kill();
                    self.process = Process::Off { until: now + pause };
                } else {
                    target.close();
                    let until = now + LEAVING_PATIENCE;
                    self.process = Process::Leaves { until, pause };
                }
            }
        }
        true
    }

    fn async_event(&self, nic: usize, event: AsyncEvent, target: &Target, machine: &Machine) -> bool {
        if self.nics[nic].present {
            target.world.inject_async_event(&machine.nics[nic].device, event);
        }
        self.nics[nic].present
    }

    fn change(&mut self, change: Change, target: &mut Target, machine: &Machine) -> bool {
        let before = self.wishes.clone();
        match change {
            Change::Namespace => self.wishes.last_namespace ^= true,
            Change::Pollers(cores) => self.wishes.cores = cores,
            Change::Listener(port) => {
                self.wishes.listeners[port] ^= true;
                if !self.wishes.listeners.contains(&true) {
                    self.wishes.listeners[port] = true;
                }
            }
            Change::LargeBuffers(count) => self.wishes.large_buffers = count,
        }
        let changes = before != self.wishes;
        if changes {
            target.apply(&machine.spec(&self.wishes));
        }
        changes
    }

    fn set_link(&mut self, nic: usize, link: LinkState, target: &Target, machine: &Machine) {
        let one = &machine.nics[nic];
        self.nics[nic].link = link;
        if self.nics[nic].present {
            target.world.set_link(&one.device, link);
        }
        target.links.set_up(&one.netdev, link != LinkState::Down);
    }

    fn set_address(&mut self, nic: usize, address: Option<IpAddr>, target: &Target, machine: &Machine) {
        let one = &machine.nics[nic];
        if let Some(before) = std::mem::replace(&mut self.nics[nic].address, address) {
            if self.nics[nic].present {
                target.world.remove_address(&one.device, before);
            }
            target.links.remove_address(before);
        }
        if let Some(address) = address {
            if self.nics[nic].present {
                target.world.add_address(&one.device, address);
            }
            target.links.add_address(&one.netdev, address, PREFIX_LENGTH);
        }
    }

    fn cure(&mut self, cure: Cure, target: &mut Target, machine: &Machine) {
        match cure {
            Cure::Link(nic) => self.set_link(nic, LinkState::Up, target, machine),
            Cure::Address(nic) => {
                let address = machine.nics[nic].address;
                if self.nics[nic].address != Some(address) {
                    self.set_address(nic, Some(address), target, machine);
                }
            }
            Cure::Device(nic) => self.renew_device(nic, target, machine),
            Cure::Registration => target.world.fail_always(FaultPoint::RegisterMemory, None),
            Cure::Events { reordered } => {
                if reordered {
                    target.world.reorder_events();
                }
                target.world.hold_events(false);
            }
            Cure::Sends => target.world.fail_completions_randomly(0, 0),
            Cure::Acknowledgements => target.world.deliver_despite_errors(0),
            Cure::Storage => {
                target.storage.set_mood(Mood::CALM);
                target.storage.release();
            }
        }
        target.note(&format!("-- {cure:?} is good again"));
    }

    /// The device comes back as a new one, with the link and the addresses its interface has now.
    fn renew_device(&mut self, nic: usize, target: &Target, machine: &Machine) {
        let (one, state) = (&machine.nics[nic], &mut self.nics[nic]);
        if state.present {
            target.world.remove_device(&one.device);
        }
        state.present = true;
        state.fatal = false;
        let mut spec = SimDeviceSpec::new(&one.device, &one.netdev, one.address);
        spec.addresses = state.address.into_iter().collect();
        target.world.add_device(spec);
        target.world.set_link(&one.device, state.link);
    }

    /// Makes everything good, for good.
    pub fn end(&mut self, target: &mut Target, machine: &Machine) {
        target.note("-- all trouble ends");
        for (_, cure) in std::mem::take(&mut self.cures) {
            self.cure(cure, target, machine);
        }
        target.world.clear_faults();
        target.links.fail_reads(0);
        self.stalled.fill(Duration::ZERO);
        self.frozen.fill(Duration::ZERO);
        let all_listeners = vec![true; machine.ports.len()];
        if !self.wishes.last_namespace || self.wishes.listeners != all_listeners {
            self.wishes.last_namespace = self.first_wishes.last_namespace;
            self.wishes.listeners = all_listeners;
            target.apply(&machine.spec(&self.wishes));
        }
    }
}
