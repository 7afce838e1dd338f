//! The world: all state behind one lock, the choice of the next thing to happen, and the test's controls.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::connection::{Connection, Listener, Message, QueuedEvent, TargetState};
use super::descriptor::Signal;
use super::device::{Device, Domain, LinkState, Region, SimDeviceSpec};
use super::faults::{EventKind, FaultPoint, Faults, InterruptedReceive, TransmitWhileDown};
use super::host::{Host, SimHost};
use super::initiator::Initiator;
use super::oracle::{Oracle, Violation};
use super::provider::SimProvider;
use super::queue_pair::{CompletionQueue, QueuePair, ReceiveQueue};
use super::random::Random;
use crate::provider::AsyncEvent;

/// Steps after which `run_until_idle` gives up: something keeps making work for itself.
const STEPS_MAX: usize = 10_000_000;

/// Steps between two looks at connections that nobody will ask for again.
const FORGET_EVERY: u64 = 256;

/// Objects that exist now, for baseline checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveObjects {
    /// Open device handles.
    pub devices: usize,
    /// Protection domains.
    pub protection_domains: usize,
    /// Memory regions.
    pub memory_regions: usize,
    /// Completion queues.
    pub completion_queues: usize,
    /// Shared receive queues.
    pub shared_receive_queues: usize,
    /// Queue pairs.
    pub queue_pairs: usize,
    /// Connection identifiers the engine holds.
    pub connection_ids: usize,
    /// Listeners.
    pub listeners: usize,
}

/// Something that can happen next. The first field is the age: lower is older.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Candidate {
    /// Execute the oldest unexecuted send of a queue pair.
    Send(u64, u32),
    /// Flush the oldest work of a queue pair in error.
    Flush(u64, u32),
    /// Deliver the oldest capsule of a connection.
    Capsule(u64, u64),
    /// Complete a half-arrived capsule.
    Arrival(u64, u32),
    /// Deliver a connection manager message.
    Message(u64),
}

impl Candidate {
    fn age(self) -> u64 {
        match self {
            Self::Send(age, _)
            | Self::Flush(age, _)
            | Self::Capsule(age, _)
            | Self::Arrival(age, _)
            | Self::Message(age) => age,
        }
    }
}

/// A key is so many times the number of the object's [`ObjectKind`], and the object's own number: one that a person can
/// read. Only keys of one kind are ever compared.
pub const KEYS_OF_A_KIND: u64 = 1_000_000_000;

/// What a key is the key of.
#[derive(Debug, Clone, Copy)]
pub(super) enum ObjectKind {
    Device,
    Domain,
    CompletionQueue,
    ReceiveQueue,
    Listener,
    Connection,
    /// What an initiator of our own asks a listener for.
    OwnConnection,
    Initiator,
    Host,
}

#[derive(Debug)]
pub(super) struct World {
    seed: u64,
    steps: u64,
    pub(super) random: Random,
    in_order: bool,
    pub(super) descriptors: bool,
    /// Readable while there are connection manager events.
    pub(super) event_signal: Option<Signal>,
    last_key: u64,
    last_age: u64,
    pub(super) last_queue_pair_number: u32,
    pub(super) devices: BTreeMap<u64, Device>,
    pub(super) domains: BTreeMap<u64, Domain>,
    pub(super) regions: BTreeMap<u32, Region>,
    pub(super) completion_queues: BTreeMap<u64, CompletionQueue>,
    pub(super) receive_queues: BTreeMap<u64, ReceiveQueue>,
    pub(super) queue_pairs: BTreeMap<u32, QueuePair>,
    pub(super) listeners: BTreeMap<u64, Listener>,
    pub(super) connections: BTreeMap<u64, Connection>,
    pub(super) initiators: BTreeMap<u64, Initiator>,
    pub(super) messages: VecDeque<Message>,
    pub(super) events: VecDeque<QueuedEvent>,
    pub(super) hosts: BTreeMap<u64, Host>,
    /// Addresses of the machine without an RDMA device: listening there is ENODEV.
    pub(super) plain_addresses: Vec<IpAddr>,
    pub(super) faults: Faults,
    pub(super) oracle: Oracle,
    /// The engine's process: objects of an earlier one are gone, whoever still holds a handle.
    pub(super) process: u64,
    /// Reused from step to step.
    candidates: Vec<Candidate>,
}

impl World {
    fn new(seed: u64, in_order: bool) -> Self {
        Self {
            seed,
            steps: 0,
            random: Random::new(seed),
            in_order,
            descriptors: false,
            event_signal: None,
            last_key: 0,
            last_age: 0,
            last_queue_pair_number: 16,
            devices: BTreeMap::new(),
            domains: BTreeMap::new(),
            regions: BTreeMap::new(),
            completion_queues: BTreeMap::new(),
            receive_queues: BTreeMap::new(),
            queue_pairs: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            initiators: BTreeMap::new(),
            messages: VecDeque::new(),
            events: VecDeque::new(),
            hosts: BTreeMap::new(),
            plain_addresses: Vec::new(),
            faults: Faults::new(),
            oracle: Oracle::new(),
            process: 0,
            candidates: Vec::new(),
        }
    }

    /// A key that no object had before.
    pub(super) fn next_key(&mut self, kind: ObjectKind) -> u64 {
        self.last_key += 1;
        kind as u64 * KEYS_OF_A_KIND + self.last_key
    }

    pub(super) fn next_age(&mut self) -> u64 {
        self.last_age += 1;
        self.last_age
    }

    fn step(&mut self) -> bool {
        let mut candidates = std::mem::take(&mut self.candidates);
        self.list_candidates(&mut candidates);
        let chosen = if candidates.is_empty() {
            None
        } else if self.in_order {
            candidates.iter().copied().min_by_key(|candidate| candidate.age())
        } else {
            Some(candidates[self.random.below(candidates.len())])
        };
        self.candidates = candidates;
        let Some(chosen) = chosen else { return false };
        self.steps += 1;
        if self.steps % FORGET_EVERY == 0 {
            self.forget_connections();
        }
        self.execute(chosen);
        true
    }

    /// Everything that can happen next, into a list that is used again and again.
    fn list_candidates(&self, candidates: &mut Vec<Candidate>) {
        candidates.clear();
        self.queue_pair_candidates(candidates);
        self.capsule_candidates(candidates);
        self.message_candidates(candidates);
    }

    fn all_candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        self.list_candidates(&mut candidates);
        candidates
    }

    fn execute(&mut self, candidate: Candidate) {
        match candidate {
            Candidate::Send(_, number) => self.execute_send(number),
            Candidate::Flush(_, number) => self.flush_one(number),
            Candidate::Capsule(_, connection) => self.deliver_capsule(connection),
            Candidate::Arrival(_, number) => self.finish_arrival(number),
            Candidate::Message(age) => self.deliver_message(age),
        }
    }

    fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let regions: Vec<&u32> = self.regions.keys().collect();
        let receive_queues: Vec<&u64> = self.receive_queues.keys().collect();
        let connections = self.connections.iter().filter(|(key, one)| {
            let engine_is_done = !one.identifier_held && one.target_state == TargetState::Closed;
            let silent = self.messages.iter().all(|message| message.connection != **key);
            !(engine_is_done && silent && one.host_is_done())
        });
        write!(
            out,
            "World {{ devices: {:?}, domains: {:?}, regions: {regions:?}, completion_queues: {:?}, \
             receive_queues: {receive_queues:?}, queue_pairs: {:?}, listeners: {:?}, connections: ",
            self.devices, self.domains, self.completion_queues, self.queue_pairs, self.listeners
        )?;
        write!(out, "{:?}", connections.collect::<BTreeMap<_, _>>())?;
        write!(out, ", messages: {:?}, events: {:?} }}", self.messages, self.events)
    }

    fn kill_process(&mut self) {
        self.process += 1;
        self.queue_pairs.clear();
        self.completion_queues.clear();
        self.receive_queues.clear();
        self.regions.clear();
        self.domains.clear();
        for device in self.devices.values_mut() {
            device.open = 0;
            while device.take_async_event().is_some() {}
        }
        self.close_identifiers();
    }

    fn live_objects(&self) -> LiveObjects {
        LiveObjects {
            devices: self.devices.values().map(|device| device.open as usize).sum(),
            protection_domains: self.domains.len(),
            memory_regions: self.regions.len(),
            completion_queues: self.completion_queues.len(),
            shared_receive_queues: self.receive_queues.len(),
            queue_pairs: self.queue_pairs.len(),
            connection_ids: self.connections.values().filter(|one| one.identifier_held).count()
                + self.initiators.values().filter(|one| one.held).count(),
            listeners: self.listeners.len(),
        }
    }
}

/// The test's handle on the world.
#[derive(Clone)]
pub struct SimWorld {
    world: Arc<Mutex<World>>,
}

/// Every object of the engine holds a handle: what is behind it is not shown again with each.
impl fmt::Debug for SimWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimWorld")
    }
}

impl SimWorld {
    /// A world in which the seed chooses what happens next.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(seed, false))),
        }
    }

    /// A seeded world with every fault that a correct engine must not notice more than a real network's: capsules that
    /// arrive in two steps, receives lost or flushed when a queue pair fails, any behaviour of sends while the link is
    /// down, lost acknowledgements, and `LAST_WQE_REACHED` events or none.
    #[must_use]
    pub fn adversarial(seed: u64) -> Self {
        let world = Self::new(seed);
        world.with(|world| {
            let mut random = Random::new(!seed);
            let mut coin = || random.below(2) == 0;
            let faults = &mut world.faults;
            faults.split_arrivals = coin();
            faults.last_work_request_events = coin();
            faults.interrupted_receive = if coin() {
                InterruptedReceive::Lost
            } else {
                InterruptedReceive::Flushed
            };
            faults.transmit_while_down = match (coin(), coin()) {
                (true, _) => TransmitWhileDown::LocalOperationError,
                (false, true) => TransmitWhileDown::RetryExceeded,
                (false, false) => TransmitWhileDown::Stuck,
            };
            faults.delivered_despite_error = if coin() { 300 } else { 0 };
        });
        world
    }

    /// A world in which what was asked for first happens first.
    #[must_use]
    pub fn in_order() -> Self {
        Self {
            world: Arc::new(Mutex::new(World::new(1, true))),
        }
    }

    /// Runs `action` under the lock; raises the first violation outside it, unless this thread already panics.
    pub(super) fn with<R>(&self, action: impl FnOnce(&mut World) -> R) -> R {
        let (result, violation, seed, steps) = {
            let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
            let result = action(&mut world);
            (result, world.oracle.take_unraised(), world.seed, world.steps)
        };
        if let Some(Violation { kind, message }) = violation {
            if !std::thread::panicking() {
                panic!("{kind:?}: {message} (seed {seed}, step {steps})");
            }
        }
        result
    }

    /// The engine's side.
    #[must_use]
    pub fn provider(&self) -> SimProvider {
        SimProvider::new(self.clone())
    }

    /// Gives completion queues, async events and connection manager events descriptors that become readable. Call it
    /// before anything else.
    ///
    /// # Panics
    /// If a device was already added, or the system has no descriptors left.
    pub fn use_descriptors(&self) {
        self.with(|world| {
            assert!(world.devices.is_empty(), "descriptors come before devices");
            world.descriptors = true;
            world.event_signal = Some(Signal::new());
        });
    }

    /// Adds a device with its link up. A removed device comes back healthy under its old name this way.
    ///
    /// # Panics
    /// If a device of this name is present.
    pub fn add_device(&self, spec: SimDeviceSpec) {
        self.with(|world| {
            assert!(
                world.device_by_name(&spec.name).is_none(),
                "device {} exists",
                spec.name
            );
            let key = world.next_key(ObjectKind::Device);
            let device = Device {
                spec,
                link: LinkState::Up,
                mtu: 4096,
                present: true,
                fatal: false,
                silent_death: false,
                management_dead: false,
                async_events: VecDeque::new(),
                async_signal: world.descriptors.then(Signal::new),
                open: 0,
            };
            world.devices.insert(key, device);
        });
    }

    fn with_device<R>(&self, name: &str, action: impl FnOnce(&mut World, u64) -> R) -> R {
        self.with(|world| {
            let key = world.device_by_name(name);
            action(world, key.unwrap_or_else(|| panic!("no device {name}")))
        })
    }

    /// Takes a device away: queue pairs go to error, its identifiers and listeners get `DeviceRemoval`.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn remove_device(&self, name: &str) {
        self.with_device(name, |world, key| {
            world.announce_removal(key);
            world.fail_device(key, false);
            world.device_mut(key).present = false;
        });
    }

    /// As [`SimWorld::remove_device`], but without the device's own report: as rxe, which only the connection manager
    /// tells of.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn remove_device_unreported(&self, name: &str) {
        self.with_device(name, |world, key| {
            world.announce_removal(key);
            world.break_device(key, false);
            world.device_mut(key).present = false;
        });
    }

    /// The device reports a fatal error and does nothing more. With `silent_death` posted work never completes.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn fail_device(&self, name: &str, silent_death: bool) {
        self.with_device(name, |world, key| world.fail_device(key, silent_death));
    }

    /// Sets a device's link; going down or up makes the async event.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn set_link(&self, name: &str, link: LinkState) {
        self.with_device(name, |world, key| world.set_link(key, link));
    }

    /// Sets the largest payload of a device's packets: queue pairs made for larger ones send nothing any more.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn set_mtu(&self, name: &str, bytes: u32) {
        self.with_device(name, |world, key| world.device_mut(key).mtu = bytes);
    }

    /// Adds an address to a device (`GID_CHANGE`).
    ///
    /// # Panics
    /// If there is no such device.
    pub fn add_address(&self, name: &str, address: IpAddr) {
        self.with_device(name, |world, key| {
            let device = world.device_mut(key);
            device.spec.addresses.push(address);
            device.notify(AsyncEvent::GidChange);
        });
    }

    /// Takes an address from a device (`GID_CHANGE`, `AddressChange` on its connections). Listeners on it hear nothing
    /// more.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn remove_address(&self, name: &str, address: IpAddr) {
        self.with_device(name, |world, key| {
            let device = world.device_mut(key);
            device.spec.addresses.retain(|one| *one != address);
            device.notify(AsyncEvent::GidChange);
            world.announce_address_change(key);
        });
    }

    /// Names an address of the machine that no RDMA device has: listening there fails with ENODEV.
    pub fn add_plain_address(&self, address: IpAddr) {
        self.with(|world| world.plain_addresses.push(address));
    }

    /// Whether the device's QP1 died of a message sent while its link was down.
    ///
    /// # Panics
    /// If there is no such device.
    #[must_use]
    pub fn management_dead(&self, name: &str) -> bool {
        self.with_device(name, |world, key| world.device(key).management_dead)
    }

    /// Kills the device's QP1, as a message of somebody else's does that is sent while the link is down. Only a device
    /// that is removed and added again has a new one.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn kill_management(&self, name: &str) {
        self.with_device(name, |world, key| world.device_mut(key).management_dead = true);
    }

    /// Adds an NVMe host with this source address.
    #[must_use]
    pub fn add_host(&self, address: IpAddr) -> SimHost {
        let key = self.with(|world| {
            let key = world.next_key(ObjectKind::Host);
            world.hosts.insert(key, Host::new(address));
            key
        });
        SimHost::new(self.clone(), key)
    }

    /// Lets one thing happen. False: nothing can happen now.
    pub fn step(&self) -> bool {
        self.with(World::step)
    }

    /// Steps until nothing can happen; the number of steps.
    ///
    /// # Panics
    /// If the world does not come to rest.
    pub fn run_until_idle(&self) -> usize {
        for steps in 0..STEPS_MAX {
            if !self.step() {
                return steps;
            }
        }
        panic!("the world is not idle after {STEPS_MAX} steps");
    }

    /// Drops what hosts gave up for good and nobody refers to any more. It happens by itself now and then; an exploration
    /// asks for it at once, for what is remembered tells states apart that are the same.
    pub fn forget_connections(&self) {
        self.with(World::forget_connections);
    }

    /// How many things can happen next.
    #[must_use]
    pub fn choices(&self) -> usize {
        self.with(|world| world.all_candidates().len())
    }

    /// One of them in words.
    ///
    /// # Panics
    /// If there are no more than `index`.
    #[must_use]
    pub fn choice(&self, index: usize) -> String {
        self.with(|world| format!("{:?}", world.all_candidates()[index]))
    }

    /// Lets one of them happen.
    ///
    /// # Panics
    /// If there are no more than `index`.
    pub fn choose(&self, index: usize) {
        self.with(|world| {
            let candidate = world.all_candidates()[index];
            world.execute(candidate);
        });
    }

    /// Work completions wait in a completion queue for whoever polls it.
    #[must_use]
    pub fn completions_wait(&self) -> bool {
        self.with(|world| world.completion_queues.values().any(|queue| !queue.entries.is_empty()))
    }

    /// Connection manager events or a device's async events wait for whoever takes them.
    #[must_use]
    pub fn events_wait(&self) -> bool {
        self.with(|world| {
            let mut devices = world.devices.values();
            !world.events.is_empty() || devices.any(|device| !device.async_events.is_empty())
        })
    }

    /// Everything that decides what can happen next, for telling states apart: no counters, no receives that wait, no
    /// connections that both ends are done with.
    pub fn describe(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.with(|world| world.describe(out))
    }

    /// What exists now.
    #[must_use]
    pub fn live_objects(&self) -> LiveObjects {
        self.with(|world| world.live_objects())
    }

    /// Every violation so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.with(|world| world.oracle.violations.clone())
    }

    /// Violations are recorded and no longer raised as panics.
    pub fn record_violations(&self) {
        self.with(|world| world.oracle.panics = false);
    }

    /// Fails one call: 1 is the next one.
    ///
    /// # Panics
    /// If `calls_from_now` is 0.
    pub fn fail_call(&self, point: FaultPoint, calls_from_now: u64, errno: i32) {
        self.with(|world| world.faults.fail_call(point, calls_from_now, errno));
    }

    /// Fails every call until called again with `None`.
    pub fn fail_always(&self, point: FaultPoint, errno: Option<i32>) {
        self.with(|world| match errno {
            Some(errno) => world.faults.fail_calls_from(point, 1, errno),
            None => world.faults.fail_no_more(point),
        });
    }

    /// Fails every call from one of the next on (1 is the next one), until [`SimWorld::fail_always`] ends it.
    ///
    /// # Panics
    /// If `calls_from_now` is 0.
    pub fn fail_calls_from(&self, point: FaultPoint, calls_from_now: u64, errno: i32) {
        self.with(|world| world.faults.fail_calls_from(point, calls_from_now, errno));
    }

    /// Disarms everything that is armed for calls, sends and connection manager events.
    pub fn clear_faults(&self) {
        self.with(|world| world.faults.clear());
    }

    /// Calls of this kind so far, failed ones included.
    #[must_use]
    pub fn calls(&self, point: FaultPoint) -> u64 {
        self.with(|world| world.faults.calls(point))
    }

    /// The next chain of sends is posted only up to `posted` requests, then fails.
    pub fn fail_sends_after(&self, posted: usize, errno: i32) {
        self.with(|world| world.faults.partial_send = Some((posted, errno)));
    }

    /// A queue pair of this device goes to error, and the device reports it (`QP_FATAL`). `nth` chooses among those there
    /// are. False: there is none.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn fail_queue_pair(&self, device: &str, nth: usize) -> bool {
        self.with_device(device, |world, key| {
            let numbers = world.queue_pairs_of(key);
            let Some(number) = numbers.get(nth % numbers.len().max(1)) else {
                return false;
            };
            world.queue_pair_to_error(*number);
            world.device_mut(key).notify(AsyncEvent::QueuePairFatal(*number));
            true
        })
    }

    /// The next send of this queue pair completes with this `ibv_wc_status`.
    ///
    /// # Panics
    /// If there is no such queue pair.
    pub fn fail_next_completion(&self, queue_pair_number: u32, status: u32) {
        self.with(|world| {
            let pair = world.queue_pairs.get_mut(&queue_pair_number);
            pair.expect("no such queue pair").forced_error = Some(status);
        });
    }

    /// Sends complete with this `ibv_wc_status`, `per_mille` times in 1000; 0 ends it.
    pub fn fail_completions_randomly(&self, per_mille: u32, status: u32) {
        self.with(|world| world.faults.random_send_errors = (per_mille > 0).then_some((per_mille, status)));
    }

    /// Sends that fail reach the host all the same, `per_mille` times in 1000: the acknowledgement was lost, not the
    /// packet.
    pub fn deliver_despite_errors(&self, per_mille: u32) {
        self.with(|world| world.faults.delivered_despite_error = per_mille);
    }

    /// Puts an async event in a device's queue.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn inject_async_event(&self, device: &str, event: AsyncEvent) {
        self.with_device(device, |world, key| world.device_mut(key).notify(event));
    }

    /// Loses the next `count` connection manager events of a kind (a lost request is never seen by the engine).
    pub fn lose_events(&self, kind: EventKind, count: u32) {
        self.with(|world| world.faults.lose_next.insert(kind, count));
    }

    /// Doubles the next `count` connection manager events of a kind; requests cannot be doubled.
    pub fn duplicate_events(&self, kind: EventKind, count: u32) {
        self.with(|world| world.faults.duplicate_next.insert(kind, count));
    }

    /// Holds connection manager events back until called with `false`, but for requests.
    pub fn hold_events(&self, hold: bool) {
        self.with(|world| {
            world.faults.hold_events = hold;
            world.signal_events();
        });
    }

    /// Puts the connection manager events that wait in another order. Only a request stays before what else there is
    /// of its connection: its identifier does not exist before it is taken.
    pub fn reorder_events(&self) {
        self.with(World::reorder_events);
    }

    /// The engine's process is killed: the kernel takes back everything it held, and says so to connected hosts where
    /// the link is up. Handles that are dropped later find nothing any more.
    pub fn kill_process(&self) {
        self.with(World::kill_process);
    }

    /// What a send does while the link is down; as rxe by default.
    pub fn set_transmit_while_down(&self, behaviour: TransmitWhileDown) {
        self.with(|world| world.faults.transmit_while_down = behaviour);
    }

    /// Capsules arrive in two steps; one whose queue pair fails in between leaves its receive as told.
    pub fn split_arrivals(&self, interrupted: InterruptedReceive) {
        self.with(|world| {
            world.faults.split_arrivals = true;
            world.faults.interrupted_receive = interrupted;
        });
    }

    /// Makes `LAST_WQE_REACHED` events when a queue pair goes to error; off by default, as rxe of kernel 6.1.
    pub fn send_last_work_request_events(&self, on: bool) {
        self.with(|world| world.faults.last_work_request_events = on);
    }
}
