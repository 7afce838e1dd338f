//! What can go wrong, as values: a run's trouble is a list of them, which can be repeated with some left out.

use std::time::Duration;

use weir_core::provider::AsyncEvent;
use weir_core::provider::sim::{EventKind, FaultPoint, LinkState};

use crate::support::storage::Mood;

/// A change of the desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The last namespace goes or comes back.
    Namespace,
    /// So many pollers.
    Pollers(u64),
    /// A listener goes or comes back.
    Listener(usize),
    /// So many large buffers for each poller.
    LargeBuffers(u64),
}

/// One thing that goes wrong. `nic` is the index of a device; what has a duration is made good after it.
#[derive(Debug, Clone, PartialEq)]
pub enum Stimulus {
    /// The link goes down (interface and device's port).
    LinkDown { nic: usize, lasts: Duration },
    /// The link goes down and comes back before anybody looks.
    Flap { nic: usize },
    /// Packets are lost beyond the device, in one direction or both.
    Silence {
        nic: usize,
        link: LinkState,
        lasts: Duration,
    },
    /// The interface loses its address.
    AddressLost { nic: usize, lasts: Duration },
    /// The interface gets another address instead.
    AddressMoved { nic: usize, lasts: Duration },
    /// The address is removed and added again before anybody looks.
    AddressFlap { nic: usize },
    /// The device goes away and comes back as a new one. Only some devices report it themselves.
    DeviceRemoved {
        nic: usize,
        reported: bool,
        lasts: Duration,
    },
    /// The device reports a fatal error, and is a new one after a while.
    DeviceFatal {
        nic: usize,
        silent_death: bool,
        lasts: Duration,
    },
    /// The device's management queue pair dies, as of a message that somebody else sends in an outage (which is shown or
    /// not); after a while the device is replaced by a new one.
    ManagementDead { nic: usize, outage: bool, lasts: Duration },
    /// A queue pair fails, and the device says so.
    QueuePairFatal { nic: usize, nth: usize },
    /// A completion queue or shared receive queue is in error, or some other event comes for no reason.
    AsyncEvent { nic: usize, event: AsyncEvent },
    /// One call fails, counted from now.
    CallFails { point: FaultPoint, call: u64, errno: i32 },
    /// After some more calls memory cannot be registered for a while.
    RegistrationFails { after: u64, lasts: Duration },
    /// Connection manager events are lost.
    EventsLost { kind: EventKind, count: u32 },
    /// Connection manager events come twice.
    EventsDoubled { kind: EventKind, count: u32 },
    /// Connection manager events are held back, and then come in order or out of it.
    EventsHeld { lasts: Duration, reordered: bool },
    /// Sends fail at random and a chain breaks in the middle.
    SendsFail {
        per_mille: u32,
        after: usize,
        lasts: Duration,
    },
    /// Failed sends arrive all the same: only their acknowledgements were lost.
    AcknowledgementsLost { per_mille: u32, lasts: Duration },
    /// Storage is slow, full, failing or stuck.
    Storage { mood: Mood, lasts: Duration },
    /// A host drops its association.
    HostLost { host: usize },
    /// Every host of a device gives up its association and connects again at once.
    HostsReconnect { nic: usize },
    /// A host does nothing for a while.
    HostFrozen { host: usize, lasts: Duration },
    /// A thread does not run for a while: a poller, or the control loop (the last one).
    Stall { thread: usize, lasts: Duration },
    /// Links cannot be read a few times.
    LinkReadsFail { count: u32 },
    /// The desired state changes.
    Apply(Change),
    /// The process ends and is started anew: in good order, or killed.
    Restart { killed: bool, pause: Duration },
}

impl Stimulus {
    /// Name for tables: what kind it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LinkDown { .. } => "link down",
            Self::Flap { .. } => "flap between two reads",
            Self::Silence { link, .. } => match link {
                LinkState::LosesIncoming => "silent loss, incoming",
                LinkState::LosesOutgoing => "silent loss, outgoing",
                _ => "silent loss, both ways",
            },
            Self::AddressLost { .. } => "address removed",
            Self::AddressMoved { .. } => "address changed",
            Self::AddressFlap { .. } => "address removed and added",
            Self::DeviceRemoved { .. } => "device removed",
            Self::DeviceFatal { .. } => "device fatal",
            Self::ManagementDead { .. } => "management queue pair dead",
            Self::QueuePairFatal { .. } => "queue pair fatal",
            Self::AsyncEvent { event, .. } => match event {
                AsyncEvent::CompletionQueueError => "completion queue error",
                AsyncEvent::SharedReceiveQueueError => "shared receive queue error",
                _ => "event for no reason",
            },
            Self::CallFails { .. } => "call fails",
            Self::RegistrationFails { .. } => "registration fails",
            Self::EventsLost { .. } => "CM events lost",
            Self::EventsDoubled { .. } => "CM events doubled",
            Self::EventsHeld { reordered: false, .. } => "CM events late",
            Self::EventsHeld { reordered: true, .. } => "CM events late and reordered",
            Self::SendsFail { .. } => "sends fail",
            Self::AcknowledgementsLost { .. } => "acknowledgements lost",
            Self::Storage { .. } => "storage disturbed",
            Self::HostLost { .. } => "host lost",
            Self::HostsReconnect { .. } => "hosts reconnect at once",
            Self::HostFrozen { .. } => "host frozen",
            Self::Stall { .. } => "thread stalled",
            Self::LinkReadsFail { .. } => "link reads fail",
            Self::Apply(Change::Namespace) => "namespace changed",
            Self::Apply(Change::Pollers(_)) => "pollers changed",
            Self::Apply(Change::Listener(_)) => "listener changed",
            Self::Apply(Change::LargeBuffers(_)) => "buffers changed",
            Self::Restart { killed: false, .. } => "process drained and restarted",
            Self::Restart { killed: true, .. } => "process killed and restarted",
        }
    }

    /// Every name there is, so that a report shows what never happened, too.
    pub const NAMES: [&'static str; 35] = [
        "link down",
        "flap between two reads",
        "silent loss, both ways",
        "silent loss, incoming",
        "silent loss, outgoing",
        "address removed",
        "address changed",
        "address removed and added",
        "device removed",
        "device fatal",
        "management queue pair dead",
        "queue pair fatal",
        "completion queue error",
        "shared receive queue error",
        "event for no reason",
        "call fails",
        "registration fails",
        "CM events lost",
        "CM events doubled",
        "CM events late",
        "CM events late and reordered",
        "sends fail",
        "acknowledgements lost",
        "storage disturbed",
        "host lost",
        "hosts reconnect at once",
        "host frozen",
        "thread stalled",
        "link reads fail",
        "namespace changed",
        "pollers changed",
        "listener changed",
        "buffers changed",
        "process drained and restarted",
        "process killed and restarted",
    ];
}

/// A stimulus and the step at which it happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub step: u64,
    pub stimulus: Stimulus,
}
