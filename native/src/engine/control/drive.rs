//! The ports' lifecycles: events in, actions carried out.

use std::sync::Arc;
use std::time::Instant;

use super::arming::{Arming, ArmingRequest, Built, MemoryKind, Progress, Registered, WantedSizes};
use super::connections::listener_token;
use super::events::Event as Reported;
use super::management::dead_message;
use super::port::{Port, Reason};
use super::{Control, EXIT_DEVICE_REMOVED, Now, PollerHost};
use crate::backend::Backend;
use crate::engine::messages::{Epoch, PortId, PortResources, ToPoller};
use crate::lifecycle::{Action, Event, Phase, deadline, reduce};
use crate::provider::{Provider, ProviderError};
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;
use crate::subsystem::spec::NodeSpec;

/// What a port of this desired state is built with.
pub(super) fn wanted_sizes(spec: &NodeSpec) -> WantedSizes {
    let limits = spec.queue_limits();
    WantedSizes {
        in_capsule_bytes: limits.in_capsule_data_bytes,
        large_buffer_bytes: limits.io_size_max_bytes,
        small_buffers: spec.buffers.small_count,
        large_buffers: spec.buffers.large_count,
        receives: spec.buffers.receive_count,
        allow_degraded: spec.link.memory_registration.allow_degraded,
    }
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// Feeds a port's lifecycle and carries out what it asks for. A reason given explains the phase it leads to.
    pub(super) fn feed(&mut self, id: PortId, event: Event, reason: Option<Reason>, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        if event == Event::DeviceRemoved {
            port.management.device_lost();
        }
        let before = port.state;
        #[cfg(feature = "simulation")]
        crate::simulation::coverage::record(&before.phase, event);
        let (state, actions) = reduce(&port.settings, &before, event, now.instant);
        port.state = state;
        let changed = before.phase.name() != state.phase.name();
        let explained = reason.as_ref().is_some_and(|reason| *reason != port.reason);
        if let Some(reason) = reason {
            port.reason = reason;
        } else if changed {
            port.reason = default_reason(&before.phase, &state.phase, port);
        }
        if changed {
            port.since_unix_ms = now.unix_ms;
        }
        if changed || explained {
            let event = phase_event(port, &before.phase);
            self.journal.report(event, now);
        }
        self.model_stale |= changed;
        // What an open device says of its port counts only until it is closed: look again then, nobody will tell.
        self.levels_stale |= changed;
        for action in actions {
            self.execute(id, action, now);
        }
    }

    fn execute(&mut self, id: PortId, action: Action, now: Now) {
        match action {
            Action::Arm { epoch } => self.begin_arming(id, epoch, now),
            Action::AbandonArming => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                port.arming = None;
                if matches!(port.state.phase, Phase::Draining { .. }) {
                    let reason = port.reason.clone();
                    self.feed(id, Event::Drained, Some(reason), now);
                }
            }
            Action::Publish { .. } => self.publish_port(id, now),
            Action::CompleteRegistration { .. } => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                port.completing = true;
                if let Some(service) = port.epochs.get_mut(&port.state.epoch) {
                    service
                        .shortage
                        .iter_mut()
                        .for_each(super::arming::MemoryJob::reset_piece_size);
                }
            }
            Action::Hold { epoch } => self.pollers.tell_all(|| ToPoller::Hold(id, Epoch(epoch))),
            Action::Resume { epoch } => {
                #[cfg(feature = "simulation")]
                if DeliberateFault::ResumeForgotten.is_built_in() {
                    return;
                }
                self.pollers.tell_all(|| ToPoller::Resume(id, Epoch(epoch)));
                self.recovered(id, now.instant);
                self.admit_waiting(id, now);
                self.watch_management(id, now);
            }
            Action::Drain { epoch, deadline } => {
                let Some(port) = self.ports.get_mut(&id) else { return };
                port.completing = false;
                let queue_pairs = port.queue_pairs();
                if let Some(service) = port.epochs.get_mut(&epoch) {
                    service.drain = Some((now.instant, queue_pairs));
                }
                self.pollers.tell_all(|| ToPoller::Drain(id, Epoch(epoch), deadline));
            }
            Action::Quarantine { epoch } => self.quarantine(id, epoch, now),
            Action::TellHosts => {
                self.tell_hosts(id, now);
                if self.ports.get(&id).is_some_and(Port::admits) {
                    self.admit_waiting(id, now);
                }
            }
        }
    }

    fn begin_arming(&mut self, id: PortId, epoch: u64, now: Now) {
        let pollers_serve = self.pollers.serve();
        let Some((port, spec)) = self.ports.get_mut(&id).zip(self.desired.as_ref()) else {
            return;
        };
        match &port.endpoint {
            Some(endpoint) if pollers_serve => {
                port.arming = Some(Arming::new(ArmingRequest {
                    port: id,
                    epoch: Epoch(epoch),
                    name: Arc::clone(&port.name),
                    endpoint: endpoint.clone(),
                    port_number: port.spec.port,
                    token: listener_token(id),
                    wanted: wanted_sizes(spec),
                    counters: port.counters.clone(),
                }));
                if port.management.dead {
                    self.gate_arming(id, now);
                }
            }
            _ => {
                let reason = Reason::new("PollersNotRunning", "poller threads do not run yet");
                self.feed(id, Event::ArmFailed, Some(reason), now);
            }
        }
    }

    /// One piece of work for every port that is being built, or whose memory is being completed.
    pub(super) fn advance_arming(&mut self, now: Now) {
        let busy: Vec<PortId> = self
            .ports
            .values()
            .filter(|port| (port.arming.is_some() && !self.is_gated(port)) || port.completing)
            .map(|port| port.id)
            .collect();
        for id in busy {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            if port.completing {
                self.complete_registration(id, now);
                continue;
            }
            let Some(arming) = port.arming.as_mut() else { continue };
            match arming.advance(&self.provider, &mut port.listener) {
                Progress::More => {}
                Progress::Done(built) => self.armed(id, *built, now),
                Progress::Failed(reason) => {
                    let failed = count_registrations(port);
                    let listener = port.name.to_string();
                    port.arming = None;
                    if failed {
                        let message = reason.message.clone();
                        let event = Reported::MemoryRegistration {
                            listener,
                            result: "failed",
                            message,
                        };
                        self.journal.report(event, now);
                    }
                    #[cfg(feature = "simulation")]
                    if failed && DeliberateFault::RegistrationFailureIsFinal.is_built_in() {
                        continue;
                    }
                    // The device may have gone, or the address moved.
                    self.levels_stale = true;
                    self.devices_stale = true;
                    self.feed(id, Event::ArmFailed, Some(reason), now);
                }
            }
        }
    }

    fn armed(&mut self, id: PortId, built: Built<P>, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        count_registrations(port);
        let error = port
            .arming
            .as_ref()
            .and_then(|arming| arming.registration_error.clone());
        port.arming = None;
        let missing: u64 = built.service.shortage.iter().map(super::arming::MemoryJob::bytes).sum();
        let registered: u64 = built.service.shares.iter().map(|share| share.memory_bytes).sum();
        let epoch = port.state.epoch;
        port.listener = Some(built.listener);
        port.epochs.insert(epoch, built.service);
        port.publishing = built.resources;
        let listener = port.name.to_string();
        if missing == 0 {
            let message = format!("{registered} bytes registered");
            let event = Reported::MemoryRegistration {
                listener,
                result: "succeeded",
                message,
            };
            self.journal.report(event, now);
            let reason = Reason::new("Serving", "all resources are there");
            self.feed(id, Event::Armed, Some(reason), now);
        } else {
            let cause = error.map_or_else(String::new, |error| format!(": {error}"));
            let message = format!("{registered} bytes registered, {missing} still missing{cause}");
            let event = Reported::MemoryRegistration {
                listener,
                result: "partial",
                message: message.clone(),
            };
            self.journal.report(event, now);
            self.feed(
                id,
                Event::ArmedPartly,
                Some(Reason::new("MemoryPartlyRegistered", message)),
                now,
            );
        }
    }

    fn publish_port(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        let resources = std::mem::take(&mut port.publishing);
        for (poller, share) in resources.into_iter().enumerate() {
            self.pollers.tell(poller, ToPoller::AttachPort(Box::new(share)));
        }
        self.recovered(id, now.instant);
        self.admit_waiting(id, now);
        self.watch_management(id, now);
    }

    fn recovered(&mut self, id: PortId, now: Instant) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        if let Some(duration) = port.up_for(now) {
            port.statistics.recovery_duration.record(duration);
        }
    }

    /// Registers one more piece of the memory that a degraded port lacks.
    fn complete_registration(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        let epoch = port.state.epoch;
        let degraded = matches!(port.state.phase, Phase::Degraded { .. });
        let Some(service) = port.epochs.get_mut(&epoch).filter(|_| degraded) else {
            port.completing = false;
            return;
        };
        let Some(mut job) = service.shortage.pop() else {
            port.completing = false;
            let listener = port.name.to_string();
            let message = "the missing memory is registered".to_owned();
            self.journal.report(
                Reported::MemoryRegistration {
                    listener,
                    result: "succeeded",
                    message,
                },
                now,
            );
            let reason = Reason::new("Serving", "all resources are there");
            self.feed(id, Event::RegistrationCompleted, Some(reason), now);
            return;
        };
        let outcome = job.register(&self.provider, &service.domain);
        let (poller, kind) = (job.poller, job.kind);
        let failed = matches!(outcome, Registered::Failed(_));
        if failed || job.buffers > 0 {
            service.shortage.push(job);
        }
        match outcome {
            Registered::Region(region) => {
                port.statistics.registrations_succeeded += 1;
                let share = &mut service.shares[poller];
                share.memory_regions += 1;
                share.memory_bytes += u64::from(region.buffer_bytes) * u64::from(region.buffer_count);
                let regions = |wanted| if kind == wanted { Some(()) } else { None };
                let (mut small, mut large, mut receive) = (Vec::new(), Vec::new(), Vec::new());
                match (regions(MemoryKind::Small), regions(MemoryKind::Large)) {
                    (Some(()), _) => small.push(region),
                    (_, Some(())) => large.push(region),
                    _ => receive.push(region),
                }
                let epoch = Epoch(epoch);
                self.tell(
                    poller,
                    ToPoller::AddRegions {
                        port: id,
                        epoch,
                        small,
                        large,
                        receive,
                    },
                );
            }
            Registered::Smaller => port.statistics.registrations_failed += 1,
            Registered::Failed(error) => {
                port.statistics.registrations_failed += 1;
                port.completing = false;
                let listener = port.name.to_string();
                let missing: u64 = service.shortage.iter().map(super::arming::MemoryJob::bytes).sum();
                let message = format!("{missing} bytes are still missing: {error}");
                let reason = Reason::new("MemoryPartlyRegistered", message.clone());
                let event = Reported::MemoryRegistration {
                    listener,
                    result: "failed",
                    message,
                };
                self.journal.report(event, now);
                self.feed(id, Event::RegistrationStalled, Some(reason), now);
            }
        }
    }

    /// A poller gave back its share of an epoch: all of it is destroyed here.
    pub(super) fn share_returned(&mut self, poller: usize, resources: Box<PortResources<P>>, now: Now) {
        let (id, epoch) = (resources.port, resources.epoch.0);
        let Some(port) = self.ports.get_mut(&id) else { return };
        let Some(service) = port.epochs.get_mut(&epoch) else {
            return;
        };
        if let Some(share) = service.shares.get_mut(poller) {
            share.queues = None;
            share.memory_regions = 0;
            share.memory_bytes = 0;
        }
        drop(resources);
        if service.shares_out() > 0 {
            return;
        }
        let Some(service) = port.epochs.remove(&epoch) else {
            return;
        };
        if service.quarantined {
            self.feed(id, Event::LateWorkFinished, None, now);
            return;
        }
        port.statistics.drains_completed += 1;
        let event = drain_ended(port, epoch, service.drain, "completed", now);
        self.journal.report(event, now);
        drop(service);
        self.feed(id, Event::Drained, None, now);
    }

    fn quarantine(&mut self, id: PortId, epoch: u64, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        let Some(service) = port.epochs.get_mut(&epoch) else {
            return;
        };
        service.quarantined = true;
        let drain = service.drain;
        port.statistics.drains_timed_out += 1;
        let event = drain_ended(port, epoch, drain, "timedOut", now);
        self.journal.report(event, now);
    }

    /// What a poller could not finish by the deadline, for people.
    pub(super) fn share_quarantined(&mut self, id: PortId, epoch: Epoch, queue_pairs: u32, backend_ios: u32) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        if port.state.epoch == epoch.0 && port.state.phase == Phase::Quarantined {
            let message = format!(
                "{queue_pairs} queue pairs and {backend_ios} backend I/Os of epoch {} did not finish by the drain's \
                 deadline; their memory is kept until they do",
                epoch.0
            );
            port.reason = Reason::new("DrainTimedOut", message);
        }
    }

    /// A poller cannot poll the port's completion queue any more: everything is built anew.
    pub(super) fn queue_broken(&mut self, id: PortId, epoch: Epoch, error: &ProviderError, now: Now) {
        if self.ports.get(&id).is_some_and(|port| port.state.epoch == epoch.0) {
            let message = format!("a completion queue cannot be polled: {error}; the port is built anew");
            self.feed(id, Event::Restart, Some(Reason::new("QueueError", message)), now);
        }
    }

    /// A port's device is gone.
    pub(super) fn lose_device(&mut self, id: PortId, reason: Reason, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        port.statistics.device_fatal += 1;
        let device = port
            .endpoint
            .as_ref()
            .map_or_else(String::new, |endpoint| endpoint.device.clone());
        let message = reason.message.clone();
        self.journal.report(Reported::DeviceFatal { device, message }, now);
        self.feed(id, Event::DeviceRemoved, Some(reason), now);
        self.levels_stale = true;
        self.devices_stale = true;
        if self.exit_when_device_removed {
            self.exit_code = Some(EXIT_DEVICE_REMOVED);
            let timeout = self.drain_timeout();
            self.begin_quiesce(timeout, now);
        }
    }

    pub(super) fn run_port_timers(&mut self, now: Now) {
        let is_due = |port: &&Port<P>| {
            port.arming.is_none() && deadline(&port.settings, &port.state).is_some_and(|at| at <= now.instant)
        };
        let due: Vec<PortId> = self.ports.values().filter(is_due).map(|port| port.id).collect();
        for id in due {
            self.feed(id, Event::Tick, None, now);
        }
    }
}

/// Takes over the counts of an attempt; whether registering memory is what failed in it.
fn count_registrations<P: Provider>(port: &mut Port<P>) -> bool {
    let Some(arming) = &port.arming else { return false };
    let (succeeded, failed) = arming.registrations;
    port.statistics.registrations_succeeded += succeeded;
    port.statistics.registrations_failed += failed;
    arming.registration_error.is_some()
}

fn default_reason<P: Provider>(before: &Phase, after: &Phase, port: &Port<P>) -> Reason {
    let epoch = port.state.epoch;
    match (before, after) {
        (Phase::Holding { .. }, Phase::Serving | Phase::Degraded { .. }) => Reason::new(
            "LinkBackInTime",
            "the link came back within the hold time; connections go on",
        ),
        (_, Phase::Serving) => Reason::new("Serving", "all resources are there"),
        (_, Phase::Degraded { .. }) => Reason::new("MemoryPartlyRegistered", "memory is still missing"),
        (_, Phase::Arming { .. } | Phase::Failed { .. }) if port.management.dead => {
            Reason::new("ManagementQueuePairDead", dead_message(port))
        }
        (_, Phase::Arming { .. }) => Reason::new("Arming", "building resources"),
        (Phase::Holding { .. }, Phase::Draining { .. }) => {
            Reason::new("HoldTimeOver", "the link did not come back within the hold time")
        }
        (_, Phase::Down) if !port.state.wanted => port.reason.clone(),
        (_, Phase::Down) if !port.path_usable() => port.unresolved.clone().unwrap_or_else(|| port.link_down_reason()),
        (_, Phase::Down) => Reason::new("LinkStabilizing", "waiting until the link was up for a while"),
        (_, Phase::Quarantined) => Reason::new(
            "DrainTimedOut",
            format!("work of epoch {epoch} did not finish by the drain's deadline; its memory is kept until it does"),
        ),
        (_, Phase::Failed { .. }) => Reason::new(
            "DeviceFatal",
            "the device reported a fatal error; it is tried again at long intervals",
        ),
        (_, Phase::Holding { .. }) => port.link_down_reason(),
        (_, Phase::Draining { .. }) => port.reason.clone(),
    }
}

fn phase_event<P: Provider>(port: &Port<P>, before: &Phase) -> Reported {
    let endpoint = port.endpoint.as_ref();
    Reported::PortPhase {
        listener: port.name.to_string(),
        address: endpoint.map(|endpoint| endpoint.ip.to_string()),
        device: endpoint.map(|endpoint| endpoint.device.clone()),
        netdev: endpoint.map(|endpoint| endpoint.netdev.clone()),
        from: before.name(),
        to: port.state.phase.name(),
        epoch: port.state.epoch,
        reason: port.reason.code,
        message: port.reason.message.clone(),
    }
}

/// Records how long a drain took, and what is reported of its end. `drain` is its start and how many queue pairs it had.
fn drain_ended<P: Provider>(
    port: &mut Port<P>,
    epoch: u64,
    drain: Option<(Instant, u64)>,
    result: &'static str,
    now: Now,
) -> Reported {
    let (since, queue_pairs) = drain.unwrap_or((now.instant, 0));
    let duration = now.instant.saturating_duration_since(since);
    port.statistics.drain_duration.record(duration);
    Reported::DrainFinished {
        listener: port.name.to_string(),
        epoch,
        result,
        duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        queue_pairs,
    }
}
