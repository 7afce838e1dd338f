//! Connection identifiers: every one of them lives here, from the request until nothing more may be said through it.
//!
//! The rule above all others: nothing is sent through the connection manager while the path to the host is not
//! usable, for a message sent then kills the device's management queue pair on some devices. So identifiers of dropped
//! associations and unanswered requests are kept, and disconnected or rejected right when the path is back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Control, Now, PollerHost};
use crate::backend::Backend;
use crate::engine::control::events::Event;
use crate::engine::control::management::{DEVICE_GONE, EVENT_REJECTED, is_probe_request, is_probe_token};
use crate::engine::control::port::Reason;
use crate::engine::messages::{CloseReason, ConnectionKey, Epoch, Handle, NewQueuePair, PortId, ToPoller};
use crate::engine::table::Table;
use crate::nvme::private_data::{ConnectRequestData, RejectStatus, encode_accept};
use crate::provider::{
    AcceptParameters, ConnectParameters, ConnectRequest, ConnectionEvent, DEFAULT_CONNECT_RETRY, Provider,
    QueuePairParameters,
};
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

/// Most connections of all ports together, unanswered requests included.
const CONNECTIONS_MAX: usize = 16_384;

/// Events of the connection manager taken in one step; the rest waits for the next, so that links are looked at.
const EVENTS_PER_STEP: usize = 256;

/// How long a request waits for its port to serve. The Linux host gives up after 3 s and tries again; a reject makes it
/// try again only little sooner, but at a port that serves a moment later it would have been let in.
const WAIT_FOR_SERVICE: Duration = Duration::from_millis(2_800);

/// How long an identifier stays after its disconnect was sent: shorter than the connection manager's own retry (4 s
/// on soft RDMA), which might fall into the next outage.
const WAIT_FOR_DISCONNECTED: Duration = Duration::from_millis(2_000);

/// How long a disconnect of our own waits for news of the link. A queue pair often fails because the link is just going
/// down, and is heard of first.
pub const LINK_NEWS: Duration = Duration::from_millis(150);

/// How long an accepted connection may take to be confirmed.
const WAIT_FOR_ESTABLISHED: Duration = Duration::from_secs(30);

/// Send-queue entries of a command at a time: RDMA WRITE and SEND.
const SENDS_PER_COMMAND: u32 = 2;

/// Bit of a token that names a listener.
pub const LISTENER_TOKEN: u64 = 1 << 63;

/// Token of a port's listener.
#[must_use]
pub fn listener_token(port: PortId) -> u64 {
    LISTENER_TOKEN | u64::from(port.0)
}

fn connection_token(handle: Handle) -> u64 {
    (u64::from(handle.generation) << 32 | u64::from(handle.slot)) & !LISTENER_TOKEN
}

fn handle_of(token: u64) -> Option<Handle> {
    let slot = u32::try_from(token & u64::from(u32::MAX)).ok()?;
    let generation = u32::try_from(token >> 32).ok()?;
    (token & LISTENER_TOKEN == 0 && token != 0).then_some(Handle { slot, generation })
}

/// How far a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Requested; its port does not serve now.
    Waiting { request: RequestFacts, until: Instant },
    /// A poller was asked to own its queue pair; accepted when it does.
    Adopting { accept: AcceptFacts },
    /// A poller owns its queue pair, but the path went away before it was accepted.
    Unaccepted { accept: AcceptFacts, handle: Handle },
    /// Accepted.
    Accepted { handle: Handle, until: Instant },
    /// Confirmed by the host.
    Established { handle: Handle },
    /// To be rejected as soon as the path allows it.
    Rejecting { status: RejectStatus },
    /// Its queue pair is gone; to be disconnected as soon as the path allows it, but not before.
    Dropped { not_before: Instant },
    /// The disconnect is sent.
    Disconnecting { until: Instant },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RequestFacts {
    private_data: Vec<u8>,
    initiator_depth: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AcceptFacts {
    connect: ConnectParameters,
    queue_entries: u16,
}

#[derive(Debug)]
struct Connection<P: Provider> {
    id: P::ConnectionId,
    port: PortId,
    epoch: Epoch,
    poller: usize,
    source: SocketAddr,
    local: Option<IpAddr>,
    /// Network interface that `local` was on.
    netdev: String,
    stage: Stage,
    /// 0 until it has a queue pair.
    queue_pair_number: u32,
    /// Its device went away: nothing can be sent any more.
    device_gone: bool,
}

impl Stage {
    /// When something is to be done about it although nothing happens.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Waiting { until, .. } | Self::Accepted { until, .. } | Self::Disconnecting { until } => Some(*until),
            // Later than that, only a usable path makes a difference.
            Self::Dropped { not_before } => Some(*not_before),
            Self::Adopting { .. } | Self::Unaccepted { .. } | Self::Established { .. } | Self::Rejecting { .. } => None,
        }
    }

    /// Its host is to be told something as soon as the path allows it.
    fn owes(&self) -> bool {
        matches!(
            self,
            Self::Dropped { .. } | Self::Rejecting { .. } | Self::Unaccepted { .. }
        )
    }
}

/// Every connection, found by handle, by port, by queue pair, by when something is due, and by what is owed to hosts.
pub struct Connections<P: Provider> {
    table: Table<Connection<P>>,
    by_port: BTreeMap<PortId, BTreeSet<Handle>>,
    by_queue_pair: BTreeMap<(PortId, u32), Handle>,
    due: BTreeSet<(Instant, Handle)>,
    owing: BTreeSet<Handle>,
}

/// Without the indexes that say nothing that the table does not. What was due and was looked at is due no more, which only
/// `due` tells.
impl<P: Provider> fmt::Debug for Connections<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("table", &self.table)
            .field("due", &self.due)
            .finish()
    }
}

impl<P: Provider> Connections<P> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self {
            table: Table::default(),
            by_port: BTreeMap::new(),
            by_queue_pair: BTreeMap::new(),
            due: BTreeSet::new(),
            owing: BTreeSet::new(),
        }
    }

    /// Identifiers held for a port.
    #[must_use]
    pub fn of_port(&self, port: PortId) -> u64 {
        self.by_port.get(&port).map_or(0, |handles| handles.len() as u64)
    }

    /// Queue pairs that a connection is found by.
    #[cfg(test)]
    pub(super) fn queue_pairs(&self) -> usize {
        self.by_queue_pair.len()
    }

    /// A port's, ascending by slot.
    fn handles_of(&self, port: PortId) -> Vec<Handle> {
        self.by_port.get(&port).into_iter().flatten().copied().collect()
    }

    /// When something here may be due next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn insert(&mut self, connection: Connection<P>) -> Handle {
        let (port, due, owes) = (connection.port, connection.stage.due(), connection.stage.owes());
        let handle = self.table.insert(connection);
        self.by_port.entry(port).or_default().insert(handle);
        self.due.extend(due.map(|at| (at, handle)));
        if owes {
            self.owing.insert(handle);
        }
        handle
    }

    /// Lets go of an identifier.
    fn remove(&mut self, handle: Handle) {
        self.forget_queue_pair(handle);
        let Some(connection) = self.table.remove(handle) else {
            return;
        };
        if let Some(at) = connection.stage.due() {
            self.due.remove(&(at, handle));
        }
        self.owing.remove(&handle);
        if let Some(handles) = self.by_port.get_mut(&connection.port) {
            handles.remove(&handle);
            if handles.is_empty() {
                self.by_port.remove(&connection.port);
            }
        }
    }

    /// The connection goes on to this stage.
    fn set_stage(&mut self, handle: Handle, stage: Stage) {
        let Some(connection) = self.table.get_mut(handle) else {
            return;
        };
        if let Some(at) = connection.stage.due() {
            self.due.remove(&(at, handle));
        }
        if let Some(at) = stage.due() {
            self.due.insert((at, handle));
        }
        if stage.owes() {
            self.owing.insert(handle);
        } else {
            self.owing.remove(&handle);
        }
        connection.stage = stage;
    }

    /// Takes the next one that something is due for. It is due no more, whatever is done about it.
    fn take_due(&mut self, now: Instant) -> Option<Handle> {
        let (at, handle) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(handle)
    }

    /// The connection has this queue pair from now on.
    fn has_queue_pair(&mut self, handle: Handle, number: u32) {
        let connection = &mut self.table[handle];
        connection.queue_pair_number = number;
        self.by_queue_pair.insert((connection.port, number), handle);
    }

    /// Its queue pair is destroyed: the number may be another one's soon.
    fn forget_queue_pair(&mut self, handle: Handle) {
        let Some(connection) = self.table.get(handle) else {
            return;
        };
        let key = (connection.port, connection.queue_pair_number);
        if self.by_queue_pair.get(&key) == Some(&handle) {
            self.by_queue_pair.remove(&key);
        }
    }
}

impl<P: Provider> Default for Connections<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The poller of a host: all its queue pairs live there.
fn poller_of(source: IpAddr, pollers: usize) -> usize {
    const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const FNV_PRIME: u64 = 0x0100_0000_01b3;
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    let hash = match source.to_canonical() {
        IpAddr::V4(ip) => ip.octets().into_iter().fold(FNV_OFFSET, fold),
        IpAddr::V6(ip) => ip.octets().into_iter().fold(FNV_OFFSET, fold),
    };
    // The low bits of FNV mix badly for addresses that differ in one byte only.
    usize::try_from((hash ^ (hash >> 32)) % pollers.max(1) as u64).unwrap_or(0)
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// Takes what the connection manager has to say; whether there may be more.
    pub(super) fn take_connection_events(&mut self, now: Now) -> bool {
        for _ in 0..EVENTS_PER_STEP {
            match self.provider.next_connection_event() {
                Some(event) => self.connection_event(event, now),
                None => return false,
            }
        }
        true
    }

    fn connection_event(&mut self, event: ConnectionEvent<P>, now: Now) {
        match event {
            ConnectionEvent::Request(request) => self.connect_requested(*request, now),
            ConnectionEvent::Established(token) => {
                self.heard_of(token, now);
                self.established(token);
            }
            ConnectionEvent::Resolved(token) => self.probe_resolved(token, now),
            ConnectionEvent::Failed(token, event) if is_probe_token(token) => self.probe_ended(token, event, now),
            ConnectionEvent::Disconnected(token) => self.host_gone(token, CloseReason::HostDisconnected),
            ConnectionEvent::Failed(token, event) => {
                if event == EVENT_REJECTED {
                    self.heard_of(token, now);
                }
                self.host_gone(token, CloseReason::ConnectFailed);
            }
            ConnectionEvent::TimewaitExit(token) => {
                let Some(handle) = handle_of(token) else { return };
                let waits = self.connections.table.get(handle);
                if waits.is_some_and(|one| matches!(one.stage, Stage::Disconnecting { .. })) {
                    self.connections.remove(handle);
                }
            }
            ConnectionEvent::DeviceRemoval(token) if is_probe_token(token) => {
                self.probe_ended(token, DEVICE_GONE, now);
            }
            ConnectionEvent::DeviceRemoval(token) => self.device_removed(token, now),
            // A hint only: the address is resolved anew.
            ConnectionEvent::AddressChange(_) => self.levels_stale = true,
        }
    }

    /// A message of a host arrived: the device's management queue pair lives. A disconnect is no proof, for the
    /// connection manager reports its own timeout as one.
    fn heard_of(&mut self, token: u64, now: Now) {
        let connection = handle_of(token).and_then(|handle| self.connections.table.get(handle));
        if let Some(port) = connection.map(|connection| connection.port) {
            self.management_lives(port, now);
        }
    }

    fn connect_requested(&mut self, request: ConnectRequest<P>, now: Now) {
        let port = u32::try_from(request.listener & !LISTENER_TOKEN).ok().map(PortId);
        let Some(port) = port.and_then(|id| self.ports.get(&id)) else {
            // Its listener is gone, and with it what it belonged to. The identifier's own drop answers the host.
            return;
        };
        let id = port.id;
        let local = port.endpoint.as_ref().map(|endpoint| endpoint.ip);
        let netdev = port
            .endpoint
            .as_ref()
            .map_or_else(String::new, |endpoint| endpoint.netdev.clone());
        let probe =
            local.is_some_and(|ip| is_probe_request(&request.private_data, request.source, SocketAddr::new(ip, 0)));
        let wanted = port.state.wanted && self.quiesce.is_none();
        let epoch = Epoch(port.state.epoch);
        self.management_lives(id, now);
        let handle = self.connections.insert(Connection {
            id: request.connection,
            port: id,
            epoch,
            poller: 0,
            source: request.source,
            local,
            netdev,
            stage: Stage::Waiting {
                request: RequestFacts {
                    private_data: request.private_data,
                    initiator_depth: request.initiator_depth,
                },
                until: now.instant + WAIT_FOR_SERVICE,
            },
            queue_pair_number: 0,
            device_gone: false,
        });
        let connection = &mut self.connections.table[handle];
        self.provider
            .set_connection_token(&mut connection.id, connection_token(handle));
        if probe {
            // Our own: answered, and not counted as anybody's.
            let status = RejectStatus::NoResources;
            self.connections.set_stage(handle, Stage::Rejecting { status });
            self.tell_host(handle, now);
        } else if self.connections.table.len() > CONNECTIONS_MAX {
            self.reject(handle, RejectStatus::NoResources, "TooManyConnections", now);
        } else if !wanted {
            self.reject(handle, RejectStatus::NoResources, "NotServing", now);
        } else if self.admits(id) {
            self.admit(handle, now);
        }
    }

    fn admits(&self, port: PortId) -> bool {
        #[cfg(feature = "simulation")]
        if DeliberateFault::ConnectDuringDrain.is_built_in() {
            return self.ports.get(&port).is_some_and(|port| port.service().is_some());
        }
        self.quiesce.is_none() && self.ports.get(&port).is_some_and(super::port::Port::admits)
    }

    /// Gives a waiting request a queue pair and asks a poller to own it.
    fn admit(&mut self, handle: Handle, now: Now) {
        let Some(connection) = self.connections.table.get(handle) else {
            return;
        };
        let Stage::Waiting { request, .. } = &connection.stage else {
            return;
        };
        let limits = self.model.limits;
        let asked = ConnectRequestData::parse(&request.private_data).and_then(|data| {
            let entries = data.queue_entries(limits.io_queues_max, limits.queue_depth)?;
            if request.initiator_depth == 0 {
                Err(RejectStatus::InvalidInboundReadDepth)
            } else {
                Ok((data, entries))
            }
        });
        match asked {
            Ok((data, entries)) => {
                if let Err(reason) = self.build_queue_pair(handle, data.queue_id, entries) {
                    self.journal.report_limited(
                        Event::ApplyProblem {
                            generation: self.generation,
                            field: "spec.listeners".to_owned(),
                            reason: reason.code,
                            message: reason.message,
                        },
                        now,
                    );
                    self.reject(handle, RejectStatus::NoResources, reason.code, now);
                }
            }
            Err(status) => self.reject(handle, status, status.name(), now),
        }
    }

    fn build_queue_pair(&mut self, handle: Handle, queue_id: u16, queue_entries: u16) -> Result<(), Reason> {
        let connection = &mut self.connections.table[handle];
        let Stage::Waiting { request, .. } = &connection.stage else {
            return Err(Reason::new("NotServing", "the request is answered already"));
        };
        let not_serving = || Reason::new("NotServing", "the port does not serve now");
        let port = self.ports.get(&connection.port).ok_or_else(not_serving)?;
        let service = port.service().ok_or_else(not_serving)?;
        let poller = poller_of(connection.source.ip(), self.pollers.len());
        let share = service.shares.get(poller).ok_or_else(not_serving)?;
        let (completion_queue, shared_receive_queue) = share.queues.as_ref().ok_or_else(not_serving)?;
        let sends = (u32::from(queue_entries) * SENDS_PER_COMMAND).min(service.limits.work_requests_max);
        let read_depth = request.initiator_depth.min(service.limits.read_initiator_max);
        let connect = ConnectParameters {
            responder_resources: 0,
            initiator_depth: read_depth,
            ..DEFAULT_CONNECT_RETRY
        };
        let failed = |error| Reason::new("QueuePairFailed", format!("device {}: {error}", service.device_name));
        let parameters = QueuePairParameters {
            completion_queue,
            shared_receive_queue,
            send_work_requests_max: sends,
        };
        let mut queue_pair = self
            .provider
            .create_queue_pair(&service.domain, &parameters)
            .map_err(failed)?;
        self.provider
            .ready_queue_pair(&mut queue_pair, &connection.id, &connect)
            .map_err(failed)?;
        connection.epoch = Epoch(port.state.epoch);
        connection.poller = poller;
        connection.local = Some(service.address.ip());
        let number = self.provider.queue_pair_number(&queue_pair);
        let new = NewQueuePair {
            connection: ConnectionKey(handle),
            port: connection.port,
            epoch: connection.epoch,
            queue_pair,
            queue_id,
            queue_size: queue_entries,
            send_work_requests_max: sends,
            read_depth,
            source: connection.source,
            local: service.address,
        };
        self.connections.has_queue_pair(handle, number);
        let accept = AcceptFacts { connect, queue_entries };
        self.connections.set_stage(handle, Stage::Adopting { accept });
        self.pollers.tell(poller, ToPoller::Adopt(Box::new(new)));
        Ok(())
    }

    /// A poller owns the queue pair: the host may hear of it.
    pub(super) fn adopted(&mut self, key: ConnectionKey, queue_pair: Handle, now: Now) {
        let Some(connection) = self.connections.table.get(key.0) else {
            return;
        };
        if let Stage::Adopting { accept } = connection.stage {
            let stage = Stage::Unaccepted {
                accept,
                handle: queue_pair,
            };
            self.connections.set_stage(key.0, stage);
            self.accept(key.0, now);
        }
    }

    /// Accepts if the port still serves the epoch the queue pair belongs to; else waits for what becomes of it.
    fn accept(&mut self, handle: Handle, now: Now) {
        self.verify_links();
        if !self
            .connections
            .table
            .get(handle)
            .is_some_and(|connection| self.may_send(connection))
        {
            return;
        }
        let Some(connection) = self.connections.table.get_mut(handle) else {
            return;
        };
        let Stage::Unaccepted {
            accept,
            handle: queue_pair,
        } = connection.stage
        else {
            return;
        };
        let port = self.ports.get(&connection.port);
        if !port.is_some_and(|port| port.admits() && Epoch(port.state.epoch) == connection.epoch) {
            return;
        }
        let private_data = encode_accept(accept.queue_entries);
        let parameters = AcceptParameters {
            connect: accept.connect,
            private_data: &private_data,
        };
        match self
            .provider
            .accept(&connection.id, connection.queue_pair_number, &parameters)
        {
            Ok(()) => {
                let stage = Stage::Accepted {
                    handle: queue_pair,
                    until: now.instant + WAIT_FOR_ESTABLISHED,
                };
                self.connections.set_stage(handle, stage);
            }
            // The host gave up, or the device refused: what can be said of it is said when the queue pair is back.
            Err(_) => {
                let poller = connection.poller;
                self.tell(poller, ToPoller::Close(queue_pair, CloseReason::ConnectFailed));
            }
        }
    }

    /// The poller did not take the queue pair; it is destroyed here.
    pub(super) fn refused(&mut self, key: ConnectionKey, queue_pair: P::QueuePair, now: Now) {
        drop(queue_pair);
        self.connections.forget_queue_pair(key.0);
        self.reject(key.0, RejectStatus::NoResources, "NotServing", now);
    }

    fn established(&mut self, token: u64) {
        let Some(handle) = handle_of(token) else { return };
        let Some(connection) = self.connections.table.get(handle) else {
            return;
        };
        if let Stage::Accepted { handle: queue_pair, .. } = connection.stage {
            let poller = connection.poller;
            let stage = Stage::Established { handle: queue_pair };
            self.connections.set_stage(handle, stage);
            self.tell(poller, ToPoller::Established(queue_pair));
        }
    }

    fn host_gone(&mut self, token: u64, reason: CloseReason) {
        let Some(handle) = handle_of(token) else { return };
        let Some(connection) = self.connections.table.get_mut(handle) else {
            return;
        };
        let poller = connection.poller;
        match connection.stage {
            Stage::Established { handle: queue_pair }
            | Stage::Accepted { handle: queue_pair, .. }
            | Stage::Unaccepted { handle: queue_pair, .. } => self.tell(poller, ToPoller::Close(queue_pair, reason)),
            // The poller's answer comes first; accepting then fails and ends it.
            Stage::Adopting { .. } => {}
            // The host gave up, or answered: nothing is left to be said.
            Stage::Waiting { .. } | Stage::Rejecting { .. } | Stage::Disconnecting { .. } => {
                self.connections.remove(handle);
            }
            Stage::Dropped { .. } => {}
        }
    }

    fn device_removed(&mut self, token: u64, now: Now) {
        let gone = |device: &str| {
            let message = format!(
                "RDMA device {device} was removed; what can be drained is drained, and the process then restarts"
            );
            Reason::new("DeviceRemoved", message)
        };
        if token & LISTENER_TOKEN != 0 {
            let Some(id) = u32::try_from(token & !LISTENER_TOKEN).ok().map(PortId) else {
                return;
            };
            let Some(port) = self.ports.get_mut(&id) else { return };
            let device = port
                .endpoint
                .as_ref()
                .map_or_else(String::new, |endpoint| endpoint.device.clone());
            port.listener = None;
            self.lose_device(id, gone(&device), now);
            return;
        }
        let Some(handle) = handle_of(token) else { return };
        let Some(connection) = self.connections.table.get_mut(handle) else {
            return;
        };
        connection.device_gone = true;
        match connection.stage {
            Stage::Waiting { .. } | Stage::Rejecting { .. } | Stage::Dropped { .. } | Stage::Disconnecting { .. } => {
                self.connections.remove(handle);
            }
            Stage::Established { handle: queue_pair }
            | Stage::Accepted { handle: queue_pair, .. }
            | Stage::Unaccepted { handle: queue_pair, .. } => {
                let poller = connection.poller;
                self.tell(poller, ToPoller::Close(queue_pair, CloseReason::PortDraining));
            }
            Stage::Adopting { .. } => {}
        }
    }

    /// The device reported a queue pair's fatal error.
    pub(super) fn queue_pair_fatal(&mut self, port: PortId, number: u32) {
        let named = self.connections.by_queue_pair.get(&(port, number));
        let Some(connection) = named.and_then(|handle| self.connections.table.get(*handle)) else {
            return;
        };
        if let Stage::Established { handle } | Stage::Accepted { handle, .. } | Stage::Unaccepted { handle, .. } =
            connection.stage
        {
            let poller = connection.poller;
            self.tell(poller, ToPoller::Close(handle, CloseReason::TransportError));
        }
    }

    /// A poller gave a queue pair back: it is destroyed, then its host is told if it can be.
    pub(super) fn queue_pair_drained(
        &mut self,
        key: ConnectionKey,
        queue_pair: P::QueuePair,
        reason: CloseReason,
        now: Now,
    ) {
        drop(queue_pair);
        self.connections.forget_queue_pair(key.0);
        let Some(connection) = self.connections.table.get(key.0) else {
            return;
        };
        if connection.device_gone {
            self.connections.remove(key.0);
            return;
        }
        match connection.stage {
            Stage::Accepted { .. } | Stage::Established { .. } => {
                let host_told_us = reason == CloseReason::HostDisconnected;
                let not_before = if host_told_us {
                    now.instant
                } else {
                    now.instant + LINK_NEWS
                };
                let port = connection.port;
                self.connections.set_stage(key.0, Stage::Dropped { not_before });
                if let Some(port) = self.ports.get_mut(&port).filter(|_| !host_told_us) {
                    port.management.failed(now.instant);
                }
                self.tell_host(key.0, now);
            }
            Stage::Adopting { .. } | Stage::Unaccepted { .. } => {
                let why = if reason == CloseReason::ConnectFailed {
                    "AcceptFailed"
                } else {
                    "NotServing"
                };
                self.reject(key.0, RejectStatus::NoResources, why, now);
            }
            _ => {}
        }
    }

    /// Counts a reject, reports it, and sends it as soon as the path allows.
    fn reject(&mut self, handle: Handle, status: RejectStatus, reason: &'static str, now: Now) {
        let Some(connection) = self.connections.table.get(handle) else {
            return;
        };
        let (id, source) = (connection.port, connection.source);
        self.connections.set_stage(handle, Stage::Rejecting { status });
        if let Some(port) = self.ports.get_mut(&id) {
            *port.statistics.connects_rejected.entry(reason).or_default() += 1;
        }
        let event = Event::ConnectRejected {
            reason,
            source,
            host_nqn: None,
            subsystem: None,
        };
        self.journal.report_limited(event, now);
        self.tell_host(handle, now);
    }

    /// Sends a reject or disconnect that is due, if the path allows.
    fn tell_host(&mut self, handle: Handle, now: Now) {
        let due = |connection: &Connection<P>| match connection.stage {
            Stage::Rejecting { .. } => true,
            Stage::Dropped { not_before } => not_before <= now.instant,
            _ => false,
        };
        if !self.connections.table.get(handle).is_some_and(due) {
            return;
        }
        self.verify_links();
        if !self.may_send(&self.connections.table[handle]) {
            return;
        }
        let connection = &self.connections.table[handle];
        match connection.stage {
            Stage::Rejecting { status } => {
                // If the host gave up meanwhile there is nothing left to be said.
                let _ = self.provider.reject(&connection.id, &status.encode());
                self.connections.remove(handle);
            }
            Stage::Dropped { .. } => match self.provider.disconnect(&connection.id) {
                Ok(()) => {
                    let until = now.instant + WAIT_FOR_DISCONNECTED;
                    self.connections.set_stage(handle, Stage::Disconnecting { until });
                }
                // The host disconnected at the same time, or the connection is gone already.
                Err(_) => {
                    self.connections.remove(handle);
                }
            },
            _ => {}
        }
    }

    /// The path is usable again, or the port serves: everything that waited for it is said.
    pub(super) fn tell_hosts(&mut self, port: PortId, now: Now) {
        for handle in self.connections.handles_of(port) {
            if let Some(Stage::Dropped { .. }) = self.connections.table.get(handle).map(|one| &one.stage) {
                // There is news of the link: it is up.
                let not_before = now.instant;
                self.connections.set_stage(handle, Stage::Dropped { not_before });
            }
            self.tell_host(handle, now);
        }
    }

    /// Says what can be said over paths that are usable now.
    pub(super) fn tell_all_hosts(&mut self, now: Now) {
        let owing: Vec<Handle> = self.connections.owing.iter().copied().collect();
        for handle in owing {
            self.accept(handle, now);
            self.tell_host(handle, now);
        }
    }

    /// The port serves (again): requests that waited are admitted, adopted ones accepted.
    pub(super) fn admit_waiting(&mut self, port: PortId, now: Now) {
        for handle in self.connections.handles_of(port) {
            match self.connections.table.get(handle).map(|one| &one.stage) {
                Some(Stage::Waiting { .. }) => self.admit(handle, now),
                Some(Stage::Unaccepted { .. }) => self.accept(handle, now),
                _ => {}
            }
        }
    }

    /// Identifiers that have something to say to a host over a path that is usable now.
    pub(super) fn unsaid(&self) -> bool {
        self.connections
            .table
            .iter()
            .any(|(_, connection)| match connection.stage {
                Stage::Dropped { .. } | Stage::Rejecting { .. } => self.may_send(connection),
                _ => true,
            })
    }

    /// Before anything is sent: is the link really still up? Hints come late, errors that a dying link causes do not.
    pub(super) fn verify_links(&mut self) {
        if std::mem::replace(&mut self.links_verified, true) {
            return;
        }
        match self.links.reread() {
            Ok(changed) => {
                self.links_known = true;
                self.levels_stale |= changed;
            }
            // Nothing is said then; they are read again soon.
            Err(_) => self.links_known = false,
        }
    }

    fn may_send(&self, connection: &Connection<P>) -> bool {
        #[cfg(feature = "simulation")]
        if DeliberateFault::DisconnectWhileDown.is_built_in() {
            return true;
        }
        let Some(ip) = connection.local else { return false };
        if !self.links_known {
            return false;
        }
        let view = self.links.view();
        let port = self.ports.get(&connection.port);
        // A port that moved to another address says nothing about the old one.
        let elsewhere = port.is_none_or(|port| port.endpoint.as_ref().map(|endpoint| endpoint.ip) != connection.local);
        let link = view.by_address(ip).or_else(|| {
            // The port waits for its address, and its connections with it. When it went on without it nobody does: what
            // is owed is tried over the interface, so that nothing is kept for an address that never comes back.
            elsewhere.then(|| view.by_name(&connection.netdev)).flatten()
        });
        // Through a dead management queue pair nothing gets out: what is to be said waits for a new one.
        link.is_some_and(crate::link::Link::is_up)
            && port.is_none_or(|port| !port.management.dead && (elsewhere || port.may_speak()))
    }

    /// The port will not serve any more: requests that waited are rejected.
    pub(super) fn reject_waiting(&mut self, port: PortId, now: Now) {
        for handle in self.connections.handles_of(port) {
            if let Some(Stage::Waiting { .. }) = self.connections.table.get(handle).map(|one| &one.stage) {
                self.reject(handle, RejectStatus::NoResources, "NotServing", now);
            }
        }
    }

    /// What is due here.
    pub(super) fn connection_deadlines(&mut self, now: Now) {
        while let Some(handle) = self.connections.take_due(now.instant) {
            let Some(connection) = self.connections.table.get(handle) else {
                continue;
            };
            match connection.stage {
                Stage::Waiting { .. } => self.reject(handle, RejectStatus::NoResources, "NotServing", now),
                Stage::Accepted { handle: queue_pair, .. } => {
                    let poller = connection.poller;
                    // A capsule may have arrived although the confirmation was lost: from now on it is waited for no
                    // more, and the poller's own rules decide.
                    let stage = Stage::Established { handle: queue_pair };
                    self.connections.set_stage(handle, stage);
                    self.tell(poller, ToPoller::Established(queue_pair));
                }
                Stage::Disconnecting { .. } => {
                    let port = connection.port;
                    self.connections.remove(handle);
                    self.suspect_management(port, now);
                }
                Stage::Dropped { .. } => self.tell_host(handle, now),
                Stage::Adopting { .. }
                | Stage::Unaccepted { .. }
                | Stage::Established { .. }
                | Stage::Rejecting { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_listeners_and_connections_never_meet() {
        let handle = Handle { slot: 7, generation: 3 };
        assert_eq!(handle_of(connection_token(handle)), Some(handle));
        assert_eq!(handle_of(listener_token(PortId(7))), None);
        assert_eq!(handle_of(0), None, "a fresh request has no name yet");
    }

    #[test]
    fn a_host_always_meets_the_same_poller_and_neighbours_spread() {
        let pollers = 4;
        let mut seen = vec![0; pollers];
        for last in 1..=200 {
            let ip = IpAddr::from([10, 9, 0, last]);
            assert_eq!(poller_of(ip, pollers), poller_of(ip, pollers));
            seen[poller_of(ip, pollers)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
        let mapped: IpAddr = "::ffff:10.9.0.2".parse().unwrap();
        assert_eq!(poller_of(mapped, 4), poller_of("10.9.0.2".parse().unwrap(), 4));
    }
}
