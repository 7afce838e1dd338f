//! What goes wrong, when, and how it is made good again.

use std::net::IpAddr;
use std::time::Duration;

use weir_core::provider::sim::{
    EventKind, FaultPoint, InterruptedReceive, LinkState, SimDeviceSpec, TransmitWhileDown,
};

use crate::support::random::Random;
use crate::support::storage::Mood;
use crate::support::target::Target;

/// A device of the simulated machine.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    pub device: &'static str,
    pub netdev: &'static str,
    pub address: &'static str,
}

/// Its devices.
pub const MACHINES: [Machine; 2] = [
    Machine {
        device: "rxe0",
        netdev: "rdma0",
        address: "10.9.0.1",
    },
    Machine {
        device: "rxe1",
        netdev: "rdma1",
        address: "10.9.1.1",
    },
];

impl Machine {
    pub fn ip(&self) -> IpAddr {
        self.address.parse().expect("an address")
    }

    pub fn spec(&self) -> SimDeviceSpec {
        SimDeviceSpec::new(self.device, self.netdev, self.ip())
    }
}

/// What ails a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ailment {
    LinkDown,
    Silent,
    NoAddress,
    Fatal,
    Removed,
}

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

/// `IBV_WC_REM_ACCESS_ERR`.
const REMOTE_ACCESS_ERROR: u32 = 10;

/// The source of trouble.
#[derive(Debug)]
pub struct Chaos {
    random: Random,
    /// By device: what ails it, and until when.
    ailments: [Option<(Ailment, Duration)>; MACHINES.len()],
    /// When ongoing faults of calls, events and storage end.
    faults_until: Duration,
    storage_until: Duration,
    /// Trouble of 1000 steps.
    per_mille: u64,
}

impl Chaos {
    /// Trouble of a seed; some of it holds for the whole run.
    pub fn new(seed: u64, target: &Target) -> Self {
        let mut random = Random::new(seed, "chaos");
        let world = &target.world;
        world.set_transmit_while_down(random.pick(&[
            TransmitWhileDown::LocalOperationError,
            TransmitWhileDown::RetryExceeded,
            TransmitWhileDown::Stuck,
        ]));
        if random.chance(500) {
            world.split_arrivals(random.pick(&[InterruptedReceive::Flushed, InterruptedReceive::Lost]));
        }
        world.send_last_work_request_events(random.chance(500));
        Self {
            per_mille: random.pick(&[5, 10, 30]),
            random,
            ailments: [None; MACHINES.len()],
            faults_until: Duration::ZERO,
            storage_until: Duration::ZERO,
        }
    }

    /// Makes good what has lasted long enough, and maybe breaks something.
    pub fn step(&mut self, target: &Target) {
        let now = target.now();
        for index in 0..MACHINES.len() {
            if self.ailments[index].is_some_and(|(_, until)| until <= now) {
                self.cure(index, target);
            }
        }
        if self.faults_until != Duration::ZERO && self.faults_until <= now {
            self.end_faults(target);
        }
        if self.storage_until != Duration::ZERO && self.storage_until <= now {
            self.calm_storage(target);
        }
        if self.random.chance(self.per_mille) {
            match self.random.below(10) {
                0..=4 => self.ail(target),
                5..=7 => self.break_calls(target),
                _ => self.disturb_storage(target),
            }
        }
    }

    fn duration(&mut self) -> Duration {
        let longest_ms = self.random.pick(&[20, 300, 2000, 8000]);
        Duration::from_millis(self.random.between(1, longest_ms))
    }

    fn ail(&mut self, target: &Target) {
        let index = self.random.below(MACHINES.len() as u64) as usize;
        if self.ailments[index].is_some() {
            return;
        }
        let machine = MACHINES[index];
        let ailment = match self.random.below(100) {
            0..50 => Ailment::LinkDown,
            50..70 => Ailment::Silent,
            70..85 => Ailment::NoAddress,
            85..92 => Ailment::Fatal,
            _ => Ailment::Removed,
        };
        let lasts = self.duration();
        target.note(&format!("-- {} of {} for {lasts:?}", name(ailment), machine.device));
        let world = &target.world;
        match ailment {
            Ailment::LinkDown => {
                world.set_link(machine.device, LinkState::Down);
                target.links.set_up(machine.netdev, false);
            }
            Ailment::Silent => world.set_link(machine.device, LinkState::Silent),
            Ailment::NoAddress => {
                world.remove_address(machine.device, machine.ip());
                target.links.remove_address(machine.ip());
            }
            Ailment::Fatal => world.fail_device(machine.device, self.random.chance(300)),
            Ailment::Removed => world.remove_device(machine.device),
        }
        self.ailments[index] = Some((ailment, target.now() + lasts));
    }

    fn cure(&mut self, index: usize, target: &Target) {
        let Some((ailment, _)) = self.ailments[index].take() else {
            return;
        };
        let machine = MACHINES[index];
        target.note(&format!("-- {} of {} is over", name(ailment), machine.device));
        let world = &target.world;
        match ailment {
            Ailment::LinkDown => {
                world.set_link(machine.device, LinkState::Up);
                target.links.set_up(machine.netdev, true);
            }
            Ailment::Silent => world.set_link(machine.device, LinkState::Up),
            Ailment::NoAddress => {
                world.add_address(machine.device, machine.ip());
                target.links.add_address(machine.netdev, machine.ip(), 24);
            }
            Ailment::Fatal => {
                world.remove_device(machine.device);
                world.add_device(machine.spec());
            }
            Ailment::Removed => world.add_device(machine.spec()),
        }
    }

    fn break_calls(&mut self, target: &Target) {
        let world = &target.world;
        let errno = self.random.pick(&[libc::ENOMEM, libc::EAGAIN, libc::EIO]);
        self.faults_until = target.now() + self.duration();
        match self.random.below(7) {
            0..=2 => {
                let point = self.random.pick(&FAULT_POINTS);
                let calls = self.random.between(1, 4);
                target.note(&format!("-- call {calls} from now of {point:?} fails with {errno}"));
                world.fail_call(point, calls, errno);
            }
            3 => {
                target.note("-- memory cannot be registered");
                world.fail_always(FaultPoint::RegisterMemory, Some(libc::ENOMEM));
            }
            4 => {
                let kind = self.random.pick(&LOSABLE);
                target.note(&format!("-- the next {kind:?} is lost"));
                world.lose_events(kind, 1);
            }
            5 => {
                let kind = self.random.pick(&LOSABLE);
                target.note(&format!("-- the next {kind:?} comes twice"));
                world.duplicate_events(kind, 1);
            }
            _ => {
                target.note("-- sends fail at random, and a chain breaks");
                world.fail_completions_randomly(self.random.between(1, 50) as u32, REMOTE_ACCESS_ERROR);
                world.fail_sends_after(self.random.below(3) as usize, errno);
            }
        }
    }

    fn end_faults(&mut self, target: &Target) {
        self.faults_until = Duration::ZERO;
        let world = &target.world;
        world.fail_always(FaultPoint::RegisterMemory, None);
        world.fail_completions_randomly(0, 0);
    }

    fn disturb_storage(&mut self, target: &Target) {
        let mood = Mood {
            errors_per_mille: self.random.pick(&[0, 0, 20, 200]),
            completions_per_mille: self.random.pick(&[20, 300, 1000]),
            stuck_per_mille: self.random.pick(&[0, 0, 50, 500]),
            full_per_mille: self.random.pick(&[0, 100]),
            open_errors_per_mille: self.random.pick(&[0, 500]),
        };
        target.note(&format!("-- {mood:?}"));
        target.storage.set_mood(mood);
        self.storage_until = target.now() + self.duration();
    }

    fn calm_storage(&mut self, target: &Target) {
        target.note("-- storage is calm");
        self.storage_until = Duration::ZERO;
        target.storage.set_mood(Mood::CALM);
        target.storage.release();
    }

    /// Makes everything good, for good.
    pub fn end(&mut self, target: &Target) {
        target.note("-- all trouble ends");
        (0..MACHINES.len()).for_each(|index| self.cure(index, target));
        self.end_faults(target);
        self.calm_storage(target);
        target.world.clear_faults();
    }
}

fn name(ailment: Ailment) -> &'static str {
    match ailment {
        Ailment::LinkDown => "link down",
        Ailment::Silent => "silence",
        Ailment::NoAddress => "loss of the address",
        Ailment::Fatal => "fatal error",
        Ailment::Removed => "removal",
    }
}
