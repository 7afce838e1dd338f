//! A port as the control loop owns it: its lifecycle, what it is bound to, and the resources of its epochs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arming::{Arming, MemoryJob};
use super::management::Management;
use super::stats::DurationHistogram;
use crate::engine::counters::PortCounters;
use crate::engine::messages::{PortId, PortResources, PortSizing};
use crate::lifecycle::{Phase, PortState, Settings};
use crate::provider::{AsyncEvent, DeviceLimits, Provider};
use crate::subsystem::spec::ListenerSpec;

/// Where a port is: an address of this machine and the device behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Address.
    pub ip: IpAddr,
    /// Network interface that has it.
    pub netdev: String,
    /// RDMA device on that interface.
    pub device: String,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// CamelCase, stable.
    pub code: &'static str,
    /// In words, with the way out where there is one.
    pub message: String,
}

impl Reason {
    /// A reason.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

/// What one poller has of a port for one epoch.
#[derive(Debug)]
pub struct PollerShare<P: Provider> {
    /// Queues that new queue pairs are made on; `None` once the poller gave its share back.
    pub queues: Option<(P::CompletionQueue, P::SharedReceiveQueue)>,
    /// Memory regions.
    pub memory_regions: u64,
    /// Their bytes.
    pub memory_bytes: u64,
}

/// What the control thread keeps of an epoch from its publication until every poller gave its share back. Field order
/// is destruction order.
#[derive(Debug)]
pub struct Service<P: Provider> {
    /// By poller.
    pub shares: Vec<PollerShare<P>>,
    /// Protection domain.
    pub domain: P::ProtectionDomain,
    /// Device, opened for this epoch: a device that was taken away and came back under its name is a new one.
    pub device: P::Device,
    /// Its name.
    pub device_name: String,
    /// Its limits.
    pub limits: DeviceLimits,
    /// Largest payload of a packet that its queue pairs may have been made for.
    pub mtu: u32,
    /// Sizes of every poller's share.
    pub sizing: PortSizing,
    /// Memory that could not be registered yet.
    pub shortage: Vec<MemoryJob>,
    /// Address served.
    pub address: SocketAddr,
    /// When the drain began, with the number of queue pairs then.
    pub drain: Option<(Instant, u64)>,
    /// The drain's deadline passed.
    pub quarantined: bool,
}

impl<P: Provider> Service<P> {
    /// Pollers that still hold a share.
    #[must_use]
    pub fn shares_out(&self) -> usize {
        self.shares.iter().filter(|share| share.queues.is_some()).count()
    }
}

/// Counts of a port over the process's life.
#[derive(Default)]
pub struct PortStatistics {
    /// Times the link came up.
    pub link_ups: u64,
    /// Times the link went down.
    pub link_downs: u64,
    /// Drains that ended in time.
    pub drains_completed: u64,
    /// Drains that did not.
    pub drains_timed_out: u64,
    /// How long drains took.
    pub drain_duration: DurationHistogram,
    /// From link-up until the port served.
    pub recovery_duration: DurationHistogram,
    /// Memory regions registered.
    pub registrations_succeeded: u64,
    /// Attempts that failed.
    pub registrations_failed: u64,
    /// Fatal errors of its device; that it was removed is one.
    pub device_fatal: u64,
    /// Async events by name.
    pub async_events: BTreeMap<&'static str, u64>,
    /// Connects rejected, by reason.
    pub connects_rejected: BTreeMap<&'static str, u64>,
}

/// What is counted is no part of what a port does next.
impl fmt::Debug for PortStatistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortStatistics").finish_non_exhaustive()
    }
}

/// A port. Field order is destruction order.
#[derive(Debug)]
pub struct Port<P: Provider> {
    /// Id.
    pub id: PortId,
    /// Listener's name.
    pub name: Arc<str>,
    /// Desired state.
    pub spec: ListenerSpec,
    /// The desired state has it no more: it goes when everything of it is gone.
    pub removed: bool,
    /// Lifecycle's parameters.
    pub settings: Settings,
    /// Lifecycle.
    pub state: PortState,
    /// Unix milliseconds of the last change of phase.
    pub since_unix_ms: u64,
    /// Why it is in its phase.
    pub reason: Reason,
    /// Where it is, as last resolved; kept while the address is gone.
    pub endpoint: Option<Endpoint>,
    /// Why the address cannot be resolved now.
    pub unresolved: Option<Reason>,
    /// Flaps of the link and removals of the address as last looked at.
    pub seen_flaps: (u64, u64),
    /// MTU of its interface as last looked at.
    pub seen_mtu: u32,
    /// Its listener. Kept while the link is down, so that requests find somebody right at link-up; replaced when the
    /// port arms.
    pub listener: Option<P::Listener>,
    /// What it knows of its device's management queue pair.
    pub management: Management<P>,
    /// Resources that are complete and about to be handed to the pollers.
    pub publishing: Vec<PortResources<P>>,
    /// Resources being built.
    pub arming: Option<Arming<P>>,
    /// A retry for missing memory is under way.
    pub completing: bool,
    /// Epochs that pollers hold something of, the current one last.
    pub epochs: BTreeMap<u64, Service<P>>,
    /// By poller, the same for every epoch.
    pub counters: Vec<Arc<PortCounters>>,
    /// Counts.
    pub statistics: PortStatistics,
}

impl<P: Provider> Port<P> {
    /// A port that holds nothing yet.
    #[must_use]
    pub fn new(id: PortId, spec: ListenerSpec, settings: Settings, now_unix_ms: u64) -> Self {
        Self {
            id,
            name: Arc::from(spec.name.as_str()),
            spec,
            removed: false,
            settings,
            state: PortState::new(),
            since_unix_ms: now_unix_ms,
            reason: Reason::new("Starting", "the address is being resolved"),
            endpoint: None,
            unresolved: None,
            seen_flaps: (0, 0),
            seen_mtu: 0,
            listener: None,
            management: Management::default(),
            publishing: Vec::new(),
            arming: None,
            completing: false,
            epochs: BTreeMap::new(),
            counters: Vec::new(),
            statistics: PortStatistics::default(),
        }
    }

    /// The epoch that serves, holds or drains.
    #[must_use]
    pub fn service(&self) -> Option<&Service<P>> {
        if self.state.phase.holds_epoch() {
            self.epochs.get(&self.state.epoch)
        } else {
            None
        }
    }

    /// Messages may be sent through the connection manager: the link is up, the address is there.
    #[must_use]
    pub fn path_usable(&self) -> bool {
        self.state.up_since.is_some()
    }

    /// Messages are sent now: the path is usable, and not one that came back only to go again.
    #[must_use]
    pub fn may_speak(&self) -> bool {
        self.path_usable() && !self.state.untold
    }

    /// Connect requests are admitted now.
    #[must_use]
    pub fn admits(&self) -> bool {
        self.state.phase.serves() && self.path_usable()
    }

    /// Everything that has a descriptor for async events now.
    pub fn devices(&self) -> impl Iterator<Item = &P::Device> {
        let arming = self.arming.as_ref().and_then(Arming::device);
        self.epochs.values().map(|service| &service.device).chain(arming)
    }

    /// Its link is down.
    #[must_use]
    pub fn link_down_reason(&self) -> Reason {
        let netdev = self.endpoint.as_ref().map_or("", |endpoint| &endpoint.netdev);
        Reason::new("LinkDown", format!("interface {netdev} is down or has no carrier"))
    }

    /// Name of the device it has open.
    #[must_use]
    pub fn device_name(&self) -> Option<String> {
        let served = self
            .epochs
            .values()
            .next_back()
            .map(|service| service.device_name.clone());
        let arming = || self.arming.as_ref().filter(|arming| arming.device().is_some());
        served.or_else(|| arming().map(|arming| arming.device_name().to_owned()))
    }

    /// Nothing of it is left but its statistics.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.epochs.is_empty() && self.arming.is_none() && !matches!(self.state.phase, Phase::Draining { .. })
    }

    /// Queue pairs that pollers hold.
    #[must_use]
    pub fn queue_pairs(&self) -> u64 {
        let held = |counters: &Arc<PortCounters>| {
            counters.queue_pairs_active.get()
                + counters.queue_pairs_draining.get()
                + counters.queue_pairs_quarantined.get()
        };
        self.counters.iter().map(held).sum()
    }

    /// Since when the path has been usable, for the recovery time.
    #[must_use]
    pub fn up_for(&self, now: Instant) -> Option<Duration> {
        self.state.up_since.map(|since| now.saturating_duration_since(since))
    }
}

/// Name of an async event in statistics.
#[must_use]
pub fn async_event_name(event: AsyncEvent) -> &'static str {
    match event {
        AsyncEvent::PortError => "PORT_ERR",
        AsyncEvent::PortActive => "PORT_ACTIVE",
        AsyncEvent::GidChange => "GID_CHANGE",
        AsyncEvent::DeviceFatal => "DEVICE_FATAL",
        AsyncEvent::QueuePairFatal(_) => "QP_FATAL",
        AsyncEvent::LastWorkRequestReached(_) => "QP_LAST_WQE_REACHED",
        AsyncEvent::CompletionQueueError => "CQ_ERR",
        AsyncEvent::SharedReceiveQueueError => "SRQ_ERR",
        AsyncEvent::Other(_) => "OTHER",
    }
}
