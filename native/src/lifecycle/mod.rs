//! The port's life under a flapping link: a pure, total reducer `(state, event, now) -> (state, actions)`.
//!
//! One [`PortState`] per port (a listener's address on an RDMA device). Nothing here does I/O or reads a clock: the
//! control loop feeds events with the time they are handled at, executes the actions in order, and calls again with
//! [`Event::Tick`] at [`deadline`].

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

mod backoff;
mod reducer;
#[cfg(test)]
mod reference;

pub use backoff::backoff;
pub use reducer::{deadline, reduce};

/// First pause after a failed attempt to arm or to register the rest.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Failed attempts in a row after which a port is `Failed` and only tried at the longest pause.
pub const ARMING_ATTEMPTS_MAX: u32 = 8;

/// A path that is lost again within this time of its coming up is restless. It is about as long as a Linux host needs to
/// connect: a connection that dies while the host sets its controller up costs the host its admin time-out of 60 s.
pub const CALM: Duration = Duration::from_secs(5);

/// Most doublings of the stabilization time of a restless path.
pub const RESTLESS_MAX: u8 = 2;

/// Most actions that one event causes.
pub const ACTIONS_MAX: usize = 3;

/// What to do, in order.
pub type Actions = ArrayVec<Action, ACTIONS_MAX>;

/// Times of a port, from the desired state's `link`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a port whose link went down waits for it before it drains.
    pub hold: Duration,
    /// How long a drain may take before the rest is quarantined.
    pub drain_timeout: Duration,
    /// How long the link must have been up before the port arms; longer where it comes and goes, see
    /// [`PortState::restless`].
    pub up_stabilization: Duration,
    /// Longest pause between attempts.
    pub backoff_max: Duration,
    /// Seed of the back-off's jitter: different for each port, so that ports do not retry in step.
    pub seed: u64,
}

/// Where a port stands. Times are those of the next step the phase takes on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Link, address or device absent, or not wanted: nothing held but the desired state.
    Down,
    /// Building resources; with `retry_at`, waiting for the next attempt.
    Arming {
        /// Next attempt; `None` while one is under way.
        retry_at: Option<Instant>,
    },
    /// Listening, all resources.
    Serving,
    /// Listening with less memory than wanted; with `retry_at`, waiting to register the rest.
    Degraded {
        /// Next attempt to register the rest; `None` while one is under way.
        retry_at: Option<Instant>,
    },
    /// The link went down moments ago: no new work is posted, nothing is torn down.
    Holding {
        /// When to give up and drain.
        until: Instant,
        /// The port was `Degraded`.
        degraded: bool,
    },
    /// Safe drain under way.
    Draining {
        /// When the unfinished rest is quarantined.
        deadline: Instant,
        /// The device is broken: `Failed` comes next.
        fatal: bool,
    },
    /// As `Down`, while work of an earlier epoch still would not finish; its buffers are kept.
    Quarantined,
    /// The device reported a fatal error, its management queue pair is dead, or arming failed too often: tried again at
    /// long intervals.
    Failed {
        /// Next attempt.
        retry_at: Instant,
    },
}

impl Phase {
    /// Name as events, statistics and metrics show it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Down => "Down",
            Self::Arming { .. } => "Arming",
            Self::Serving => "Serving",
            Self::Degraded { .. } => "Degraded",
            Self::Holding { .. } => "Holding",
            Self::Draining { .. } => "Draining",
            Self::Quarantined => "Quarantined",
            Self::Failed { .. } => "Failed",
        }
    }

    /// Hosts can connect and do I/O.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self, Self::Serving | Self::Degraded { .. })
    }

    /// Pollers hold resources of the port's current epoch.
    #[must_use]
    pub fn holds_epoch(&self) -> bool {
        matches!(
            self,
            Self::Serving | Self::Degraded { .. } | Self::Holding { .. } | Self::Draining { .. }
        )
    }
}

/// Everything the reducer knows about a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortState {
    /// Phase.
    pub phase: Phase,
    /// Since when the path (link, address and device) is usable; `None` while it is not.
    pub up_since: Option<Instant>,
    /// The desired state wants this port to serve.
    pub wanted: bool,
    /// How often in a row the path was lost again within [`CALM`] of its coming up, up to [`RESTLESS_MAX`].
    pub restless: u8,
    /// The path came up restless: nothing is said to hosts until it has stabilized.
    pub untold: bool,
    /// Epoch being armed or served, or the last one that was; 0 before the first. Never reused.
    pub epoch: u64,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Earlier epochs with work that has not finished.
    pub unfinished_epochs: u32,
}

impl PortState {
    /// A wanted port whose link is not known yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            phase: Phase::Down,
            up_since: None,
            wanted: true,
            restless: 0,
            untold: false,
            epoch: 0,
            attempts: 0,
            unfinished_epochs: 0,
        }
    }

    /// When the path will have been up long enough to arm on; `None` while it is down. A restless path needs twice as
    /// long at each repetition, so that hosts are not called back just to be cut off again.
    #[must_use]
    pub fn stable_at(&self, settings: &Settings) -> Option<Instant> {
        let needed = settings.up_stabilization * (1 << self.restless.min(RESTLESS_MAX));
        self.up_since.map(|since| since + needed)
    }
}

impl Default for PortState {
    fn default() -> Self {
        Self::new()
    }
}

/// What happened to a port. Link events are levels: the control loop re-reads on every hint and says what it found, so
/// duplicates are normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Link up, address there, device's port active.
    LinkUp,
    /// Link down, or the device's port not active.
    LinkDown,
    /// The address went away or moved: what is bound to it is lost.
    AddressLost,
    /// The device went away.
    DeviceRemoved,
    /// The device reported a fatal error.
    DeviceFatal,
    /// The device's management queue pair is dead: no host can connect until the device is made anew.
    ManagementQueuePairDead,
    /// Time passed.
    Tick,
    /// Everything wanted is built.
    Armed,
    /// Less memory than wanted could be registered; all else is built.
    ArmedPartly,
    /// An attempt to arm failed; what it had built is gone.
    ArmFailed,
    /// The memory that was missing is registered.
    RegistrationCompleted,
    /// Memory is still missing.
    RegistrationStalled,
    /// Every resource of the epoch came back and is destroyed.
    Drained,
    /// Work of an earlier, quarantined epoch finished and its resources are destroyed.
    LateWorkFinished,
    /// Built-in parameters changed: drain, then arm afresh.
    Restart,
    /// No longer wanted: drain and stay down.
    Stop,
    /// Wanted again.
    Start,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 17] = [
        Self::LinkUp,
        Self::LinkDown,
        Self::AddressLost,
        Self::DeviceRemoved,
        Self::DeviceFatal,
        Self::ManagementQueuePairDead,
        Self::Tick,
        Self::Armed,
        Self::ArmedPartly,
        Self::ArmFailed,
        Self::RegistrationCompleted,
        Self::RegistrationStalled,
        Self::Drained,
        Self::LateWorkFinished,
        Self::Restart,
        Self::Stop,
        Self::Start,
    ];
}

/// What the control loop is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin (or try again) to build the resources of this epoch.
    Arm {
        /// The epoch.
        epoch: u64,
    },
    /// Destroy what was built for an epoch that was never published, then report [`Event::Drained`] if draining.
    AbandonArming,
    /// Hand the built resources to the pollers and accept connections.
    Publish {
        /// The epoch.
        epoch: u64,
    },
    /// Try to register the missing memory.
    CompleteRegistration {
        /// The epoch.
        epoch: u64,
    },
    /// Pollers post nothing and tear nothing down.
    Hold {
        /// The epoch.
        epoch: u64,
    },
    /// Pollers go on.
    Resume {
        /// The epoch.
        epoch: u64,
    },
    /// Pollers drain; what is unfinished at the deadline is quarantined.
    Drain {
        /// The epoch.
        epoch: u64,
        /// Deadline.
        deadline: Instant,
    },
    /// Stop waiting for this epoch: what is unfinished is kept aside until it finishes.
    Quarantine {
        /// The epoch.
        epoch: u64,
    },
    /// The path is usable again: disconnect the identifiers of dropped associations, so that hosts reconnect now.
    TellHosts,
}
