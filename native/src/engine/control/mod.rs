//! The control loop: ports, devices, connections, backings and the desired state. One thread drives it by
//! [`Control::step`]; it reads no clock, starts no thread and never sleeps.
//!
//! | file | concern |
//! |---|---|
//! | `apply` | what a new desired state changes |
//! | `levels` | links, addresses, devices: what is up now |
//! | `address` | from `addressFrom` to an address and its device |
//! | `drive` | the actions of the ports' lifecycles |
//! | `arming` | building a port's resources |
//! | `port` | what a port is |
//! | `connections` | connection identifiers and what may be said through them |
//! | `management` | whether the device's management queue pair is alive |
//! | `backings` | opening and closing namespaces' storage |
//! | `model_builder` | the model that is published |
//! | `pollers` | starting, telling and hearing pollers |
//! | `hosts` | who is connected |
//! | `paths` | whether hosts may use the paths through this node |
//! | `quiesce` | leaving in good order |
//! | `events`, `journal` | what is reported |
//! | `stats` | what is counted |

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::engine::messages::PortId;
use crate::lifecycle;
use crate::link::LinkSource;
use crate::provider::{DeviceInfo, Provider};
use crate::soft_device::Recreation;
use crate::subsystem::model::Model;
use crate::subsystem::spec::NodeSpec;

pub mod address;
mod apply;
pub mod arming;
mod backings;
pub mod connections;
mod drive;
pub mod events;
mod hosts;
pub mod journal;
mod levels;
pub mod management;
mod model_builder;
mod paths;
mod pollers;
pub mod port;
mod quiesce;
pub mod stats;

#[cfg(test)]
mod tests;

use backings::Backings;
use connections::Connections;
use events::Report;
use hosts::Hosts;
use journal::Journal;
use paths::PathsPhase;
use pollers::Pollers;
pub use pollers::{Mailboxes, PollerHost, PollerLink, wire};
use port::{Port, Reason};
use quiesce::Quiesce;

/// How soon links and devices are looked at again while a port's address cannot be resolved: the system announces new
/// links and addresses, but not new RDMA devices.
const RECHECK: Duration = Duration::from_secs(1);

/// How soon a message that found a poller's mailbox full is tried again.
const MAILBOX_RETRY: Duration = Duration::from_millis(1);

/// Exit code after an RDMA device was removed: only a new process lets go of it.
pub const EXIT_DEVICE_REMOVED: i32 = 75;

/// Exit code after a note was left to make a soft RDMA device anew: the next process does it.
pub const EXIT_RECREATE_DEVICE: i32 = 76;

/// A moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Unix time in milliseconds, for people.
    pub unix_ms: u64,
}

/// What a control loop is built with.
#[derive(Debug)]
pub struct ControlParts<P: Provider, B: Backend, H: PollerHost<P, B>> {
    /// RDMA.
    pub provider: P,
    /// Storage.
    pub backend: B,
    /// Links.
    pub links: Box<dyn LinkSource>,
    /// Starts pollers.
    pub poller_host: H,
    /// Ask for the process to end when a device is removed: the kernel waits for every descriptor on it, and one of
    /// them is the connection manager library's for the life of the process. A simulation goes on.
    pub exit_when_device_removed: bool,
    /// Makes soft RDMA devices anew, if the desired state allows it; `None`: there is nowhere to leave a note.
    pub recreation: Option<Box<dyn Recreation>>,
    /// What there is to report from before the start: told with the first desired state, when everybody listens.
    pub reports: Vec<events::Event>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Control<P: Provider, B: Backend, H: PollerHost<P, B>> {
    provider: P,
    links: Box<dyn LinkSource>,
    pollers: Pollers<P, B, H>,
    ports: BTreeMap<PortId, Port<P>>,
    last_port: u32,
    connections: Connections<P>,
    /// Serial number of the last probe of a management queue pair.
    last_probe: u64,
    backings: Backings<B>,
    hosts: Hosts,
    journal: Journal,
    desired: Option<Arc<NodeSpec>>,
    generation: u64,
    /// A generation is in force once the next model is published.
    applied_pending: bool,
    model: Arc<Model>,
    model_stale: bool,
    /// Links, addresses or devices may have changed.
    levels_stale: bool,
    /// The links were read anew in this step, so that something may be sent.
    links_verified: bool,
    /// The last attempt to read the links anew succeeded: what is known of them can be trusted.
    links_known: bool,
    /// RDMA devices as last listed.
    devices: Vec<DeviceInfo>,
    /// Why they could not be listed.
    devices_problem: Option<Reason>,
    /// They are to be listed anew.
    devices_stale: bool,
    recheck_at: Option<Instant>,
    quiesce: Option<Quiesce>,
    /// Revision of the model since which paths are inaccessible.
    inaccessible_since: Option<u64>,
    /// Where the paths stood when that was last reported.
    paths_reported: PathsPhase,
    /// The pollers leave after the drain.
    closing: bool,
    exit_when_device_removed: bool,
    recreation: Option<Box<dyn Recreation>>,
    early_reports: Vec<events::Event>,
    exit_code: Option<i32>,
    backend_warning: Option<String>,
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// A control loop that serves nothing yet.
    #[must_use]
    pub fn new(parts: ControlParts<P, B, H>) -> Self {
        let backend_warning = parts.backend.warning();
        Self {
            provider: parts.provider,
            links: parts.links,
            pollers: Pollers::new(parts.poller_host),
            ports: BTreeMap::new(),
            last_port: 0,
            connections: Connections::new(),
            last_probe: 0,
            backings: Backings::new(parts.backend),
            hosts: Hosts::default(),
            journal: Journal::default(),
            desired: None,
            generation: 0,
            applied_pending: false,
            model: Arc::new(model_builder::empty()),
            model_stale: false,
            levels_stale: true,
            links_verified: false,
            links_known: true,
            devices: Vec::new(),
            devices_problem: None,
            devices_stale: true,
            recheck_at: None,
            quiesce: None,
            inaccessible_since: None,
            paths_reported: PathsPhase::Accessible,
            closing: false,
            exit_when_device_removed: parts.exit_when_device_removed,
            recreation: parts.recreation,
            early_reports: parts.reports,
            exit_code: None,
            backend_warning,
        }
    }

    /// Does everything there is to do now; when to be called again even if no descriptor becomes readable.
    ///
    /// Links come first, so that nothing is said to hosts over a link that is known to be down; hosts' requests come
    /// before the ports' own steps, so that no listener goes with a request in it.
    pub fn step(&mut self, now: Now) -> Option<Instant> {
        self.links_verified = false;
        self.report_backend_warning(now);
        self.take_async_events(now);
        self.follow_levels(now);
        let more_connection_events = self.take_connection_events(now);
        self.take_poller_messages(now);
        self.run_port_timers(now);
        self.advance_arming(now);
        self.connection_deadlines(now);
        self.advance_management(more_connection_events, now);
        self.follow_devices(now);
        self.open_backings(now);
        self.advance_pollers(now);
        self.advance_quiesce(now);
        self.publish_model(now);
        self.follow_paths(now);
        self.release_finished(now);
        self.pollers.flush();
        if !self.links_known {
            self.recheck_at.get_or_insert(now.instant + RECHECK);
        }
        if more_connection_events {
            Some(now.instant)
        } else {
            self.next_deadline(now)
        }
    }

    fn next_deadline(&self, now: Now) -> Option<Instant> {
        let busy = self.backings.is_opening()
            || self.levels_stale
            || self.model_stale
            || self
                .ports
                .values()
                .any(|port| (port.arming.is_some() && !self.is_gated(port)) || port.completing);
        if busy {
            return Some(now.instant);
        }
        let ports = self
            .ports
            .values()
            .filter_map(|port| lifecycle::deadline(&port.settings, &port.state));
        let management = self.ports.values().filter_map(|port| port.management.deadline());
        let mailboxes = self.pollers.has_waiting().then(|| now.instant + MAILBOX_RETRY);
        let others = [
            self.connections.deadline(),
            self.backings.deadline(),
            self.recheck_at,
            self.quiesce_deadline(),
            self.pollers.deadline(),
            mailboxes,
        ];
        ports.chain(management).chain(others.into_iter().flatten()).min()
    }

    /// Descriptors that become readable when there is something to do.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        let fixed = [
            self.provider.connection_event_fd(),
            self.links.fd(),
            self.backings.changes_fd(),
        ];
        let devices = self.ports.values().flat_map(Port::devices);
        let devices = devices.filter_map(|device| self.provider.async_event_fd(device));
        fixed.into_iter().flatten().chain(devices).collect()
    }

    /// A poller has said something that no step has heard yet.
    #[must_use]
    pub fn has_messages(&mut self) -> bool {
        self.pollers.has_messages()
    }

    /// What was reported since the last call, oldest first.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.journal.take()
    }

    /// With which code the process is to end, once it is.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        self.exit_code.filter(|_| self.is_drained())
    }

    /// Settings and lifecycles of every listener, for tests and logs: name, phase, epoch, reason.
    pub fn phases(&self) -> impl Iterator<Item = (&str, lifecycle::Phase, u64, &str)> {
        let shown = self.ports.values().filter(|port| !port.removed);
        shown.map(|port| (&*port.name, port.state.phase, port.state.epoch, port.reason.code))
    }

    fn report_backend_warning(&mut self, now: Now) {
        if let Some(message) = self.backend_warning.take() {
            let event = events::Event::ApplyProblem {
                generation: self.generation,
                field: "spec.subsystems".to_owned(),
                reason: "BackendLimited",
                message,
            };
            self.journal.report_as(events::Level::Warning, event, now);
        }
    }

    /// Lets go of listeners that are not wanted any more and of ports that the desired state has no more.
    fn release_finished(&mut self, now: Now) {
        let finished = |port: &Port<P>| port.is_at_rest() && !port.state.wanted;
        if self
            .ports
            .values()
            .any(|port| finished(port) && port.listener.is_some())
        {
            // A listener that goes with a request in it would answer it, whatever the link does.
            while self.take_connection_events(now) {}
            for port in self.ports.values_mut().filter(|port| finished(port)) {
                port.listener = None;
            }
            self.reject_unwanted(now);
        }
        let connections = &self.connections;
        self.ports.retain(|id, port| {
            let held = || connections.of_port(*id) + port.management.identifiers();
            !(port.removed && finished(port) && held() == 0)
        });
    }

    fn reject_unwanted(&mut self, now: Now) {
        let unwanted: Vec<PortId> = self
            .ports
            .values()
            .filter(|port| !port.state.wanted)
            .map(|port| port.id)
            .collect();
        for id in unwanted {
            self.reject_waiting(id, now);
        }
    }
}
