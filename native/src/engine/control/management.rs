//! Is the device's management queue pair (QP1) alive? On soft RDMA it dies for good of one message sent while the link
//! is down, by whomever: the target then listens, and no host can ever connect.
//!
//! Whatever a host says through the connection manager proves that it lives. When nobody says anything, the port
//! connects to its own listener: the request is recognised by its private data, never counted as a host's, and
//! rejected. If it is not seen, nor a second one, while the link stayed up all the time, the queue pair is dead: the
//! port fails, with the cure in its message, and is looked at again, this way, before it serves again.
//!
//! Nothing of this is sent while the link is down, and nothing of it is ever waited for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::connections::{LINK_NEWS, LISTENER_TOKEN, listener_token};
use super::port::{Endpoint, Port, Reason};
use super::{Control, EXIT_RECREATE_DEVICE, Now, PollerHost, arming};
use crate::backend::Backend;
use crate::engine::control::events::Event as Reported;
use crate::engine::messages::PortId;
use crate::lifecycle::{Event, Phase};
use crate::provider::{DeviceDriver, Provider};
use crate::soft_device::SoftDevice;
use crate::subsystem::spec::RecreateSoftDevice;

/// From the moment a port serves until it looks: hosts that come back by themselves make it unnecessary.
const FIRST_LOOK: Duration = Duration::from_millis(200);

/// Between looks while no host says anything.
const NEXT_LOOK: Duration = Duration::from_secs(60);

/// After an attempt that failed before anything was sent.
const RETRY: Duration = Duration::from_secs(2);

/// How long a request inside the device may take: it takes less than a millisecond, and a starved machine is no dead
/// device.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Requests of which none was seen until the verdict.
const ATTEMPTS: u32 = 2;

/// `RDMA_CM_EVENT_REJECTED`.
pub const EVENT_REJECTED: u32 = 8;

/// Stands for an event when a probe ends because its device is gone.
pub const DEVICE_GONE: u32 = u32::MAX;

/// Bit of a token, beside the listener's, that names an identifier of a probe.
const PROBE_TOKEN: u64 = 1 << 62;

/// Begins the private data of a probe's request. No host sends it: NVMe's begins with a record format of 0.
const MAGIC: [u8; 16] = *b"\xffweir QP1 probe\x01";

/// How far a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Resolving,
    Requested,
    /// Its request was seen; its end is awaited, so that dropping it sends nothing.
    Seen,
}

#[derive(Debug)]
struct Probe<P: Provider> {
    id: P::ConnectionId,
    token: u64,
    stage: Stage,
    until: Instant,
}

/// What a port knows of its device's management queue pair.
#[derive(Debug)]
pub struct Management<P: Provider> {
    /// The verdict stands: it is dead.
    pub dead: bool,
    /// When to look next.
    due: Option<Instant>,
    probe: Option<Probe<P>>,
    /// Requests in a row that were not seen.
    unseen: u32,
    /// When something of the port failed last: a link that goes down is heard of only a moment later.
    failure: Option<Instant>,
    /// Identifiers of probes that are over: dropping one whose request is unanswered sends a message, so they wait for
    /// a usable path.
    spent: Vec<(u64, P::ConnectionId)>,
}

impl<P: Provider> Default for Management<P> {
    fn default() -> Self {
        Self {
            dead: false,
            due: None,
            probe: None,
            unseen: 0,
            failure: None,
            spent: Vec::new(),
        }
    }
}

impl<P: Provider> Management<P> {
    /// When something is to be done here, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.probe {
            Some(probe) => Some(probe.until),
            None => self.due,
        }
    }

    /// Connection identifiers held here.
    #[must_use]
    pub fn identifiers(&self) -> u64 {
        u64::from(self.probe.is_some()) + self.spent.len() as u64
    }

    /// Looks then, or earlier if that was said already.
    fn look_by(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The probe is over, whatever became of it.
    fn retire(&mut self) {
        // Before its request was sent, an identifier goes without a message.
        if let Some(probe) = self.probe.take().filter(|probe| probe.stage != Stage::Resolving) {
            self.spent.push((probe.token, probe.id));
        }
    }

    /// Something failed: the link may be going down.
    pub fn failed(&mut self, now: Instant) {
        self.failure = Some(now);
    }

    /// The path is gone: what is under way says nothing any more.
    pub fn path_lost(&mut self) {
        self.retire();
        self.due = None;
        self.unseen = 0;
    }

    /// The device is gone, and what was known of it.
    pub fn device_lost(&mut self) {
        self.path_lost();
        self.dead = false;
    }

    /// The identifier's connect is over: dropping it sends nothing. Whether it was one of these.
    fn ended(&mut self, token: u64) -> bool {
        if self.probe.as_ref().is_some_and(|probe| probe.token == token) {
            self.probe = None;
            return true;
        }
        let before = self.spent.len();
        self.spent.retain(|(spent, _)| *spent != token);
        self.spent.len() < before
    }
}

/// Whether a token names an identifier of a probe.
#[must_use]
pub fn is_probe_token(token: u64) -> bool {
    token & (LISTENER_TOKEN | PROBE_TOKEN) == LISTENER_TOKEN | PROBE_TOKEN
}

/// Whether a request from `source` at the listener at `own` is a probe's.
#[must_use]
pub fn is_probe_request(private_data: &[u8], source: SocketAddr, own: SocketAddr) -> bool {
    source.ip() == own.ip() && private_data.starts_with(&MAGIC)
}

pub(super) fn dead_message<P: Provider>(port: &Port<P>) -> String {
    let (device, netdev) = port
        .endpoint
        .as_ref()
        .map_or(("", ""), |endpoint| (&*endpoint.device, &*endpoint.netdev));
    format!(
        "the management queue pair of RDMA device {device} is dead: the device listens, but no connect request gets \
         through, not even its own; a message sent while the link was down does that to soft RDMA devices, for good; \
         re-create the device: rdma link delete {device}; rdma link add {device} type rxe netdev {netdev}; or let Weir \
         do it: link.recreateSoftDevice: WhenManagementQueuePairDead"
    )
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// The port serves: if no host says anything, it looks soon.
    pub(super) fn watch_management(&mut self, id: PortId, now: Now) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.management.look_by(now.instant + FIRST_LOOK);
        }
    }

    /// A host that should have answered did not.
    pub(super) fn suspect_management(&mut self, id: PortId, now: Now) {
        if let Some(port) = self.ports.get_mut(&id).filter(|port| port.admits()) {
            port.management.look_by(now.instant);
        }
    }

    /// Something came through the management queue pair of the port's device: it lives.
    pub(super) fn management_lives(&mut self, id: PortId, now: Now) {
        let device = |port: &Port<P>| port.endpoint.as_ref().map(|endpoint| endpoint.device.clone());
        let Some(of) = self.ports.get(&id).map(device) else {
            return;
        };
        let on_device: Vec<PortId> = self
            .ports
            .values()
            .filter(|port| port.id == id || (of.is_some() && device(port) == of))
            .map(|port| port.id)
            .collect();
        for id in on_device {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            let management = &mut port.management;
            management.unseen = 0;
            if let Some(probe) = management.probe.as_mut().filter(|one| one.stage == Stage::Requested) {
                probe.stage = Stage::Seen;
            }
            management.due = port.state.phase.serves().then_some(now.instant + NEXT_LOOK);
            if std::mem::take(&mut management.dead) {
                self.tell_hosts(id, now);
            }
        }
    }

    /// An identifier of a probe was resolved: the request is sent, if the path still allows it.
    pub(super) fn probe_resolved(&mut self, token: u64, now: Now) {
        let of_probe = |port: &&Port<P>| {
            let probe = port.management.probe.as_ref();
            probe.is_some_and(|probe| probe.token == token && probe.stage == Stage::Resolving)
        };
        let Some(id) = self.ports.values().find(of_probe).map(|port| port.id) else {
            return;
        };
        self.verify_links();
        let waits = self.may_probe(id, now);
        let Some(port) = self.ports.get_mut(&id) else { return };
        let Some(probe) = &mut port.management.probe else {
            return;
        };
        let sent = match waits {
            Ok(()) => self
                .provider
                .connect(&probe.id, &MAGIC)
                .map_err(|error| error.to_string()),
            Err(_) => Err("the link went down meanwhile".to_owned()),
        };
        match sent {
            Ok(()) => {
                probe.stage = Stage::Requested;
                probe.until = now.instant + ATTEMPT;
            }
            Err(cause) => {
                port.management.retire();
                self.could_not_look(id, &cause, now);
            }
        }
    }

    /// Nothing was sent: not a word about the queue pair.
    fn could_not_look(&mut self, id: PortId, cause: &str, now: Now) {
        let gated = self.ports.get(&id).is_some_and(|port| self.is_gated(port));
        let Some(port) = self.ports.get_mut(&id) else { return };
        if gated {
            port.management.due = None;
            port.arming = None;
            let message = format!("{}; it could not be looked at again: {cause}", dead_message(port));
            let reason = Reason::new("ManagementQueuePairDead", message);
            self.feed(id, Event::ArmFailed, Some(reason), now);
        } else {
            port.management.look_by(now.instant + RETRY);
        }
    }

    /// The connect of a probe is over, with this event of the connection manager or [`DEVICE_GONE`].
    pub(super) fn probe_ended(&mut self, token: u64, event: u32, now: Now) {
        let ids: Vec<PortId> = self.ports.keys().copied().collect();
        for id in ids {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            let management = &mut port.management;
            let stage = management.probe.as_ref().filter(|probe| probe.token == token);
            let stage = stage.map(|probe| probe.stage);
            if !management.ended(token) {
                continue;
            }
            match stage {
                // Whoever rejected it, the answer came through.
                Some(Stage::Requested) if event == EVENT_REJECTED => self.management_lives(id, now),
                Some(Stage::Requested) if event != DEVICE_GONE => self.probe_unseen(id, now),
                Some(Stage::Resolving) => {
                    let cause = format!("the way to its own address was not found (event {event})");
                    self.could_not_look(id, &cause, now);
                }
                Some(Stage::Requested | Stage::Seen) | None => {}
            }
            return;
        }
    }

    fn probe_unseen(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        let management = &mut port.management;
        management.retire();
        management.unseen += 1;
        if management.unseen < ATTEMPTS {
            management.look_by(now.instant);
            return;
        }
        management.unseen = 0;
        let first = !std::mem::replace(&mut management.dead, true);
        management.due = None;
        let message = dead_message(port);
        let endpoint = port.endpoint.clone();
        if first {
            let event = Reported::DeviceFatal {
                device: endpoint
                    .as_ref()
                    .map_or_else(String::new, |endpoint| endpoint.device.clone()),
                message: message.clone(),
            };
            self.journal.report(event, now);
        }
        let reason = Reason::new("ManagementQueuePairDead", message);
        self.feed(id, Event::ManagementQueuePairDead, Some(reason), now);
        if let Some(endpoint) = endpoint.filter(|_| first) {
            self.ask_for_recreation(endpoint, now);
        }
    }

    /// If the desired state allows it, leaves a note for the next process and ends this one: a device is deleted only
    /// when nobody has it open, and this process has, as long as it lives.
    fn ask_for_recreation(&mut self, endpoint: Endpoint, now: Now) {
        let allowed = self.desired.as_ref().map(|spec| spec.link.recreate_soft_device);
        if allowed != Some(RecreateSoftDevice::WhenManagementQueuePairDead) || self.quiesce.is_some() {
            return;
        }
        let device = SoftDevice {
            device: endpoint.device,
            netdev: endpoint.netdev,
        };
        let asked = match &mut self.recreation {
            Some(recreation) => recreation.request(&device, now.unix_ms),
            None => Err("there is no state directory to leave a note in: give --state-directory".to_owned()),
        };
        let (result, message) = match asked {
            Ok(()) => (
                "requested",
                "the process ends, and the next one re-creates the device".to_owned(),
            ),
            Err(cause) => ("refused", cause),
        };
        let event = Reported::SoftDeviceRecreation {
            device: device.device,
            netdev: device.netdev,
            result,
            message,
        };
        self.journal.report(event, now);
        if result == "requested" {
            self.exit_code = Some(EXIT_RECREATE_DEVICE);
            let timeout = self.drain_timeout();
            self.begin_quiesce(timeout, now);
        }
    }

    /// Looks where it is time to, and ends what is over. Comes after the connection manager's events of this step, so
    /// that nothing is given up that has arrived; `more_events`: not all of them were taken.
    pub(super) fn advance_management(&mut self, more_events: bool, now: Now) {
        let ids: Vec<PortId> = self.ports.keys().copied().collect();
        for id in ids {
            self.drop_spent_probes(id);
            let Some(port) = self.ports.get(&id) else { continue };
            let awaited = port.admits() || self.is_gated(port);
            let Some(port) = self.ports.get_mut(&id) else { continue };
            let management = &mut port.management;
            if !awaited {
                management.retire();
            }
            if management.deadline().is_none_or(|at| at > now.instant) {
                continue;
            }
            match management.probe.as_ref().map(|probe| probe.stage) {
                Some(Stage::Requested) if more_events => {}
                Some(Stage::Requested) => self.probe_unseen(id, now),
                Some(Stage::Resolving) => {
                    management.retire();
                    self.could_not_look(id, "the way to its own address was not found in time", now);
                }
                Some(Stage::Seen) => management.retire(),
                None => self.begin_probe(id, now),
            }
        }
    }

    fn drop_spent_probes(&mut self, id: PortId) {
        let waits = |port: &Port<P>| !port.management.spent.is_empty() && port.may_speak();
        if !self.ports.get(&id).is_some_and(waits) {
            return;
        }
        self.verify_links();
        if self.path_is_up(id) {
            if let Some(port) = self.ports.get_mut(&id) {
                port.management.spent.clear();
            }
        }
    }

    /// Link and address are there, as far as can be known.
    fn path_is_up(&self, id: PortId) -> bool {
        let Some(port) = self.ports.get(&id).filter(|port| port.path_usable()) else {
            return false;
        };
        let link = port
            .endpoint
            .as_ref()
            .and_then(|endpoint| self.links.view().by_address(endpoint.ip));
        self.links_known && link.is_some_and(crate::link::Link::is_up)
    }

    /// Whether a request may be sent now; if not, when it may, if nothing else happens (`None`: not at all).
    fn may_probe(&self, id: PortId, now: Now) -> Result<(), Option<Instant>> {
        let port = self.ports.get(&id).ok_or(None)?;
        let awaited = port.admits() || self.is_gated(port);
        let soft = port.endpoint.as_ref().is_some_and(|endpoint| {
            let mut devices = self.devices.iter();
            devices.any(|one| one.name == endpoint.device && one.driver == DeviceDriver::SoftRoce)
        });
        if !awaited || !soft || self.quiesce.is_some() || !self.path_is_up(id) {
            return Err(None);
        }
        if port.state.untold {
            return Err(port.state.stable_at(&port.settings));
        }
        let news = [port.state.up_since, port.management.failure];
        let since = news.into_iter().flatten().max().ok_or(None)?;
        if since + LINK_NEWS > now.instant {
            return Err(Some(since + LINK_NEWS));
        }
        Ok(())
    }

    /// It arms only after its device's management queue pair was found alive.
    pub(super) fn is_gated(&self, port: &Port<P>) -> bool {
        port.management.dead && port.arming.is_some() && matches!(port.state.phase, Phase::Arming { .. })
    }

    /// An attempt to arm begins while the verdict stands: look first.
    pub(super) fn gate_arming(&mut self, id: PortId, now: Now) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.management.look_by(now.instant);
        }
    }

    fn begin_probe(&mut self, id: PortId, now: Now) {
        self.verify_links();
        let allowed = self.may_probe(id, now);
        let gated = self.ports.get(&id).is_some_and(|port| self.is_gated(port));
        let Some(port) = self.ports.get_mut(&id) else { return };
        match allowed {
            Ok(()) => {}
            Err(None) if gated => return self.could_not_look(id, "its link is down", now),
            Err(at) => {
                port.management.due = at;
                return;
            }
        }
        let Some(endpoint) = &port.endpoint else { return };
        let own = SocketAddr::new(endpoint.ip, port.spec.port);
        if gated {
            // What hosts sent to the old listener was taken in this same step.
            port.listener = None;
            match self.provider.listen(own, listener_token(id), arming::LISTEN_BACKLOG) {
                Ok(listener) => port.listener = Some(listener),
                Err(error) => {
                    port.management.due = None;
                    port.arming = None;
                    let reason = Reason::new("ListenFailed", format!("cannot listen at {own}: {error}"));
                    self.feed(id, Event::ArmFailed, Some(reason), now);
                    return;
                }
            }
        }
        self.last_probe = (self.last_probe + 1) & (PROBE_TOKEN - 1);
        let token = LISTENER_TOKEN | PROBE_TOKEN | self.last_probe;
        port.management.due = None;
        match self.provider.resolve(own, token) {
            Ok(identifier) => {
                port.management.probe = Some(Probe {
                    id: identifier,
                    token,
                    stage: Stage::Resolving,
                    until: now.instant + ATTEMPT,
                });
            }
            // No address, no memory, no descriptors.
            Err(error) => self.could_not_look(id, &error.to_string(), now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::private_data::ConnectRequestData;

    #[test]
    fn a_probes_request_comes_from_the_listeners_own_address_and_is_no_hosts() {
        let own: SocketAddr = "10.9.0.1:4420".parse().unwrap();
        let from = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(is_probe_request(&MAGIC, from("10.9.0.1:40000"), own));
        let padded = [&MAGIC[..], &[0; 40]].concat();
        assert!(is_probe_request(&padded, from("10.9.0.1:40000"), own));
        assert!(!is_probe_request(&MAGIC, from("10.9.0.2:40000"), own));
        assert!(!is_probe_request(&MAGIC[..15], from("10.9.0.1:40000"), own));
        assert!(!is_probe_request(&[], from("10.9.0.1:40000"), own));
        assert!(ConnectRequestData::parse(&padded).is_err());
    }

    #[test]
    fn tokens_of_probes_and_listeners_never_meet() {
        assert!(is_probe_token(LISTENER_TOKEN | PROBE_TOKEN | 7));
        assert!(!is_probe_token(listener_token(PortId(u32::MAX))));
        assert!(!is_probe_token(PROBE_TOKEN | 7));
    }
}
