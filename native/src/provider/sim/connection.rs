//! Connection manager: identifiers, listeners, messages on the wire, events in the queue.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::capsule::Capsule;
use super::device::LinkState;
use super::faults::{EventKind, FaultPoint, Faults};
use super::host::{ConnectOutcome, HostResponse};
use super::oracle::ViolationKind;
use super::provider_error;
use super::queue_pair::PairState;
use super::world::{Candidate, ObjectKind, World};
use crate::provider::{AcceptParameters, ProviderError};

/// `RDMA_CM_EVENT_REJECTED`.
const EVENT_REJECTED: u32 = 8;
/// Private data bytes of a reply and of a reject.
const REPLY_DATA_MAX: usize = 196;
const REJECT_DATA_MAX: usize = 148;

/// The engine's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetState {
    /// The request is on its way, or was lost.
    Unknown,
    /// The request event waits to be taken.
    Queued,
    /// The engine holds the identifier and has not answered.
    Requested,
    Accepted,
    Established,
    DisconnectSent,
    /// The host's disconnect is not answered yet.
    PeerDisconnected,
    TimeWait,
    /// Nothing more will happen.
    Closed,
}

/// The host's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostState {
    Connecting,
    Connected,
    Disconnecting,
    Disconnected,
    Rejected,
    GaveUp,
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) host: u64,
    /// It is a connect of the engine's own: `host` means nothing.
    pub(super) initiator: Option<u64>,
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) device: u64,
    pub(super) request_data: Vec<u8>,
    pub(super) host_initiator_depth: u8,
    pub(super) host_responder_resources: u8,
    pub(super) listener: Option<u64>,
    pub(super) token: u64,
    pub(super) identifier_held: bool,
    pub(super) target_state: TargetState,
    pub(super) host_state: HostState,
    pub(super) answer_data: Vec<u8>,
    pub(super) queue_pair: Option<u32>,
    pub(super) capsules: VecDeque<(u64, Capsule)>,
    /// Capsules the host sent and answers it may still get: it posts one receive for each.
    pub(super) receives_posted: u32,
    pub(super) responses: VecDeque<HostResponse>,
    /// The host will not ask for it again.
    pub(super) host_forgot_it: bool,
}

impl Connection {
    /// Nothing more will happen at the host's end.
    pub(super) fn host_is_done(&self) -> bool {
        use HostState::{Disconnected, GaveUp, Rejected};
        matches!(self.host_state, Disconnected | Rejected | GaveUp)
    }

    pub(super) fn outcome(&self) -> ConnectOutcome {
        match &self.host_state {
            HostState::Connecting => ConnectOutcome::Pending,
            HostState::Connected => ConnectOutcome::Accepted(self.answer_data.clone()),
            HostState::Rejected => ConnectOutcome::Rejected(self.answer_data.clone()),
            HostState::Disconnecting | HostState::Disconnected => ConnectOutcome::Disconnected,
            HostState::GaveUp => ConnectOutcome::GaveUp,
            HostState::Failed(reason) => ConnectOutcome::Failed(reason.clone()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) device: u64,
    pub(super) token: u64,
    backlog: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToTarget,
    ToHost,
    /// The target's own timer.
    Local,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MessageKind {
    Request,
    Reply(Vec<u8>),
    ReadyToUse,
    Reject(Vec<u8>),
    DisconnectRequest,
    DisconnectReply,
    TimewaitOver,
}

#[derive(Debug)]
pub(super) struct Message {
    age: u64,
    pub(super) connection: u64,
    direction: Direction,
    kind: MessageKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueuedEvent {
    Request(u64),
    Established(u64),
    Disconnected(u64),
    Failed(u64, u32),
    TimewaitExit(u64),
    ConnectionRemoval(u64),
    ListenerRemoval(u64),
    AddressChange(u64),
    /// Of an initiator, by its own key, as the rest.
    Resolved(u64),
    InitiatorFailed(u64, u32),
    InitiatorRemoval(u64),
}

impl QueuedEvent {
    fn kind(self) -> Option<EventKind> {
        match self {
            Self::Request(_) => Some(EventKind::Request),
            Self::Established(_) => Some(EventKind::Established),
            Self::Disconnected(_) => Some(EventKind::Disconnected),
            Self::Failed(..) | Self::InitiatorFailed(..) => Some(EventKind::Failed),
            Self::TimewaitExit(_) => Some(EventKind::TimewaitExit),
            Self::ConnectionRemoval(_)
            | Self::ListenerRemoval(_)
            | Self::AddressChange(_)
            | Self::Resolved(_)
            | Self::InitiatorRemoval(_) => None,
        }
    }

    fn connection(self) -> Option<u64> {
        match self {
            Self::Request(key)
            | Self::Established(key)
            | Self::Disconnected(key)
            | Self::Failed(key, _)
            | Self::TimewaitExit(key)
            | Self::ConnectionRemoval(key)
            | Self::AddressChange(key) => Some(key),
            Self::ListenerRemoval(_) | Self::Resolved(_) | Self::InitiatorFailed(..) | Self::InitiatorRemoval(_) => {
                None
            }
        }
    }

    pub(super) fn initiator(self) -> Option<u64> {
        match self {
            Self::Resolved(key) | Self::InitiatorFailed(key, _) | Self::InitiatorRemoval(key) => Some(key),
            _ => None,
        }
    }
}

impl World {
    pub(super) fn listen(&mut self, address: SocketAddr, token: u64, backlog: u32) -> Result<u64, ProviderError> {
        self.faults.check(FaultPoint::Listen)?;
        let device = match self.device_by_address(address.ip()) {
            Some(device) => device,
            None if self.plain_addresses.contains(&address.ip()) => {
                let message = format!("{} is on no RDMA device", address.ip());
                return Err(provider_error("rdma_bind_addr", libc::ENODEV, message));
            }
            None => {
                let message = format!("{} is not an address of this machine", address.ip());
                return Err(provider_error("rdma_bind_addr", libc::EADDRNOTAVAIL, message));
            }
        };
        if self.listeners.values().any(|listener| listener.address == address) {
            let message = format!("{address} is in use");
            return Err(provider_error("rdma_bind_addr", libc::EADDRINUSE, message));
        }
        let key = self.next_key(ObjectKind::Listener);
        let listener = Listener {
            address,
            device,
            token,
            backlog,
        };
        self.listeners.insert(key, listener);
        Ok(key)
    }

    pub(super) fn stop_listening(&mut self, key: u64) {
        // Requests nobody took are rejected by the connection manager: a message like any other.
        let orphans: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, one)| one.listener == Some(key) && one.target_state == TargetState::Queued)
            .map(|(connection, _)| *connection)
            .collect();
        for connection in orphans {
            self.forget_events(connection);
            self.connection_mut(connection).target_state = TargetState::Closed;
            self.send_message(
                connection,
                MessageKind::Reject(Vec::new()),
                "listener dropped with a request queued",
            );
        }
        self.events.retain(|event| *event != QueuedEvent::ListenerRemoval(key));
        self.signal_events();
        self.listeners.remove(&key);
    }

    pub(super) fn connection_mut(&mut self, key: u64) -> &mut Connection {
        self.connections
            .get_mut(&key)
            .expect("a connection that somebody refers to is there")
    }

    fn forget_events(&mut self, connection: u64) {
        self.events.retain(|event| event.connection() != Some(connection));
        self.signal_events();
    }

    pub(super) fn push_event(&mut self, event: QueuedEvent) {
        if let Some(kind) = event.kind() {
            if Faults::take(&mut self.faults.lose_next, kind) {
                return;
            }
            if kind != EventKind::Request && Faults::take(&mut self.faults.duplicate_next, kind) {
                self.events.push_back(event);
            }
        }
        self.events.push_back(event);
        self.signal_events();
    }

    /// Makes the descriptor say whether there are events to take.
    pub(super) fn signal_events(&self) {
        if let Some(signal) = &self.event_signal {
            if self.events.iter().any(|event| self.can_be_taken(*event)) {
                signal.set();
            } else {
                signal.clear();
            }
        }
    }

    pub(super) fn reorder_events(&mut self) {
        for last in (1..self.events.len()).rev() {
            let other = self.random.below(last + 1);
            self.events.swap(last, other);
        }
        let requests: Vec<u64> = self
            .events
            .iter()
            .filter_map(|event| match event {
                QueuedEvent::Request(key) => Some(*key),
                _ => None,
            })
            .collect();
        for key in requests {
            let first = self.events.iter().position(|event| event.connection() == Some(key));
            let request = self.events.iter().position(|event| *event == QueuedEvent::Request(key));
            if let (Some(first), Some(request)) = (first, request) {
                self.events.swap(first, request);
            }
        }
    }

    /// The engine's process died: the kernel closes what it had, and tells hosts where it can.
    pub(super) fn close_identifiers(&mut self) {
        self.events.clear();
        self.signal_events();
        self.listeners.clear();
        self.initiators.clear();
        let keys: Vec<u64> = self.connections.keys().copied().collect();
        for key in keys {
            let connection = self.connection_mut(key);
            connection.queue_pair = None;
            connection.identifier_held = false;
            connection.listener = None;
            let before = std::mem::replace(&mut connection.target_state, TargetState::Closed);
            let last_words = match before {
                TargetState::Queued | TargetState::Requested => MessageKind::Reject(Vec::new()),
                TargetState::Accepted | TargetState::Established => MessageKind::DisconnectRequest,
                TargetState::PeerDisconnected => MessageKind::DisconnectReply,
                TargetState::Unknown => {
                    // On its way: whoever listens then hears it.
                    self.connection_mut(key).target_state = TargetState::Unknown;
                    continue;
                }
                TargetState::DisconnectSent | TargetState::TimeWait | TargetState::Closed => continue,
            };
            let device = self.connections[&key].device;
            let heard = self.devices.get(&device);
            if heard.is_some_and(|device| device.transmits() && !device.management_dead) {
                self.enqueue(key, Direction::ToHost, last_words);
            }
        }
    }

    /// Drops connections that the host has given up and nothing of the engine refers to.
    pub(super) fn forget_connections(&mut self) {
        let mut used: BTreeSet<u64> = self.messages.iter().map(|message| message.connection).collect();
        used.extend(self.events.iter().filter_map(|event| event.connection()));
        used.extend(self.queue_pairs.values().filter_map(|pair| pair.connection));
        self.initiators.retain(|_, one| one.held);
        used.extend(self.initiators.values().filter_map(|one| one.connection));
        self.connections
            .retain(|key, one| !one.host_forgot_it || one.identifier_held || used.contains(key));
    }

    /// Requests are not held back: the kernel answers those that nobody takes, and one that it has can be taken.
    fn can_be_taken(&self, event: QueuedEvent) -> bool {
        !self.faults.hold_events || matches!(event, QueuedEvent::Request(_))
    }

    pub(super) fn next_event(&mut self) -> Option<QueuedEvent> {
        let index = self.events.iter().position(|event| self.can_be_taken(*event))?;
        let event = self.events.remove(index)?;
        self.signal_events();
        if let QueuedEvent::Request(key) = event {
            let connection = self.connection_mut(key);
            connection.target_state = TargetState::Requested;
            connection.identifier_held = true;
        }
        Some(event)
    }

    pub(super) fn enqueue(&mut self, connection: u64, direction: Direction, kind: MessageKind) {
        let age = self.next_age();
        self.messages.push_back(Message {
            age,
            connection,
            direction,
            kind,
        });
    }

    /// Sends a message of the engine's; while the link is down this kills QP1 for good, as on rxe.
    fn send_message(&mut self, connection: u64, kind: MessageKind, cause: &str) {
        let key = self.connections[&connection].device;
        let Some(device) = self.devices.get_mut(&key) else {
            return;
        };
        if !device.present || device.fatal || device.management_dead {
            return;
        }
        if device.link == LinkState::Down {
            device.management_dead = true;
            let message = format!("{cause} on connection {connection} while {} is down", device.spec.name);
            self.oracle.report(ViolationKind::MessageWhileLinkDown, message);
            return;
        }
        self.enqueue(connection, Direction::ToHost, kind);
    }

    /// Takes a connection's undelivered messages off the wire.
    pub(super) fn cancel_messages(&mut self, connection: u64) {
        self.messages.retain(|message| message.connection != connection);
    }

    fn wrong_state(&mut self, operation: &'static str, connection: u64) -> ProviderError {
        let state = self.connections[&connection].target_state;
        let message = format!("{operation} on connection {connection} in state {state:?}");
        self.oracle.report(ViolationKind::WrongState, message.clone());
        provider_error(operation, libc::EINVAL, message)
    }

    pub(super) fn accept(
        &mut self,
        key: u64,
        queue_pair: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        self.faults.check(FaultPoint::Accept)?;
        let connection = &self.connections[&key];
        match connection.target_state {
            TargetState::Requested => {}
            // The host gave up meanwhile: an error, not the engine's fault.
            TargetState::Closed | TargetState::PeerDisconnected => {
                return Err(provider_error("rdma_accept", libc::EINVAL, "the host gave up"));
            }
            _ => return Err(self.wrong_state("rdma_accept", key)),
        }
        let usable = self
            .queue_pairs
            .get(&queue_pair)
            .is_some_and(|pair| pair.connection == Some(key) && pair.state != PairState::Reset);
        if !usable {
            let message = format!("connection {key} accepted with queue pair {queue_pair} that is not ready for it");
            self.oracle.report(ViolationKind::WrongState, message);
            return Err(provider_error(
                "rdma_accept",
                libc::EINVAL,
                "queue pair is not ready for this connection",
            ));
        }
        if parameters.private_data.len() > REPLY_DATA_MAX {
            return Err(provider_error("rdma_accept", libc::EINVAL, "private data too long"));
        }
        let connection = &self.connections[&key];
        if parameters.connect.initiator_depth > connection.host_responder_resources
            || parameters.connect.responder_resources > connection.host_initiator_depth
        {
            let message = format!("connection {key} accepted with more RDMA READs than the host offered");
            self.oracle.report(ViolationKind::LimitExceeded, message);
        }
        self.connection_mut(key).target_state = TargetState::Accepted;
        self.send_message(key, MessageKind::Reply(parameters.private_data.to_vec()), "accept");
        Ok(())
    }

    pub(super) fn reject(&mut self, key: u64, private_data: &[u8]) -> Result<(), ProviderError> {
        self.faults.check(FaultPoint::Reject)?;
        match self.connections[&key].target_state {
            TargetState::Requested => {}
            TargetState::Closed | TargetState::PeerDisconnected => {
                return Err(provider_error("rdma_reject", libc::EINVAL, "the host gave up"));
            }
            _ => return Err(self.wrong_state("rdma_reject", key)),
        }
        if private_data.len() > REJECT_DATA_MAX {
            return Err(provider_error("rdma_reject", libc::EINVAL, "private data too long"));
        }
        self.connection_mut(key).target_state = TargetState::Closed;
        self.send_message(key, MessageKind::Reject(private_data.to_vec()), "reject");
        Ok(())
    }

    pub(super) fn disconnect(&mut self, key: u64) -> Result<(), ProviderError> {
        self.faults.check(FaultPoint::Disconnect)?;
        match self.connections[&key].target_state {
            TargetState::Accepted | TargetState::Established => {
                self.connection_mut(key).target_state = TargetState::DisconnectSent;
                self.send_message(key, MessageKind::DisconnectRequest, "disconnect");
            }
            TargetState::PeerDisconnected => {
                self.enter_timewait(key);
                self.send_message(key, MessageKind::DisconnectReply, "disconnect");
            }
            // A race with the host, as the connection manager answers it.
            TargetState::DisconnectSent | TargetState::TimeWait | TargetState::Closed => {
                return Err(provider_error("rdma_disconnect", libc::EINVAL, "not connected"));
            }
            _ => return Err(self.wrong_state("rdma_disconnect", key)),
        }
        Ok(())
    }

    fn enter_timewait(&mut self, key: u64) {
        self.connection_mut(key).target_state = TargetState::TimeWait;
        self.enqueue(key, Direction::Local, MessageKind::TimewaitOver);
    }

    /// The engine dropped the identifier: what the connection manager says then depends on the state.
    pub(super) fn drop_identifier(&mut self, key: u64) {
        self.forget_events(key);
        let connection = self.connection_mut(key);
        connection.identifier_held = false;
        let state = connection.target_state;
        connection.target_state = TargetState::Closed;
        match state {
            TargetState::Requested => {
                self.send_message(key, MessageKind::Reject(Vec::new()), "dropping an unanswered request");
            }
            TargetState::Accepted | TargetState::Established => {
                let device = self.connections[&key].device;
                let reachable = self.devices.get(&device).is_some_and(|one| one.present && !one.fatal);
                if reachable {
                    let message = format!("connection {key} dropped without a disconnect");
                    self.oracle.report(ViolationKind::ConnectedIdentifierDropped, message);
                }
                self.send_message(key, MessageKind::DisconnectRequest, "dropping a connected identifier");
            }
            TargetState::PeerDisconnected => {
                self.send_message(
                    key,
                    MessageKind::DisconnectReply,
                    "dropping an identifier whose disconnect is unanswered",
                );
            }
            _ => {}
        }
    }

    /// Removal events for everything on a device.
    pub(super) fn announce_removal(&mut self, device: u64) {
        let connections: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, one)| one.device == device && one.identifier_held)
            .map(|(key, _)| *key)
            .collect();
        let listeners: Vec<u64> = self
            .listeners
            .iter()
            .filter(|(_, one)| one.device == device)
            .map(|(key, _)| *key)
            .collect();
        for key in connections {
            self.push_event(QueuedEvent::ConnectionRemoval(key));
        }
        for key in listeners {
            self.push_event(QueuedEvent::ListenerRemoval(key));
        }
        let initiators = self.initiators.iter();
        let initiators: Vec<u64> = initiators
            .filter(|(_, one)| one.device == device && one.held)
            .map(|(key, _)| *key)
            .collect();
        for key in initiators {
            self.push_event(QueuedEvent::InitiatorRemoval(key));
        }
    }

    pub(super) fn announce_address_change(&mut self, device: u64) {
        let connections: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, one)| one.device == device && one.identifier_held)
            .map(|(key, _)| *key)
            .collect();
        for key in connections {
            self.push_event(QueuedEvent::AddressChange(key));
        }
    }

    /// Only the oldest message of each connection and direction can arrive next.
    pub(super) fn message_candidates(&self, candidates: &mut Vec<Candidate>) {
        let mut seen: Vec<(u64, Direction)> = Vec::new();
        for message in &self.messages {
            let lane = (message.connection, message.direction);
            if seen.contains(&lane) {
                continue;
            }
            seen.push(lane);
            let passes = match message.direction {
                Direction::Local => true,
                _ => self.messages_pass(message),
            };
            if passes {
                candidates.push(Candidate::Message(message.age));
            }
        }
    }

    fn messages_pass(&self, message: &Message) -> bool {
        let connection = &self.connections[&message.connection];
        // A request finds the device that has the address now: it may have been re-created.
        let device = if message.kind == MessageKind::Request {
            self.device_by_address(connection.target.ip())
        } else {
            Some(connection.device)
        };
        let Some(device) = device.and_then(|key| self.devices.get(&key)) else {
            return false;
        };
        let passes = match (message.direction, connection.initiator) {
            (_, Some(_)) => device.carries_own_messages(),
            (Direction::ToTarget, None) => device.receives() && !device.management_dead,
            (Direction::ToHost, None) => device.transmits() && !device.management_dead,
            (Direction::Local, None) => true,
        };
        if !passes {
            return false;
        }
        message.kind != MessageKind::Request || !self.backlog_full(connection.target)
    }

    fn backlog_full(&self, address: SocketAddr) -> bool {
        let listener = self.listeners.iter().find(|(_, one)| one.address == address);
        listener.is_some_and(|(key, listener)| {
            let queued = self.connections.values();
            let queued = queued.filter(|one| one.listener == Some(*key) && one.target_state == TargetState::Queued);
            queued.count() >= listener.backlog as usize
        })
    }

    pub(super) fn deliver_message(&mut self, age: u64) {
        let index = self.messages.iter().position(|message| message.age == age);
        let message = self.messages.remove(index.expect("candidate")).expect("candidate");
        let key = message.connection;
        match (message.direction, message.kind) {
            (Direction::ToTarget, MessageKind::Request) => self.request_arrives(key),
            (Direction::ToTarget, kind) => self.target_hears(key, &kind),
            (Direction::ToHost, kind) => self.host_hears(key, kind),
            (Direction::Local, _) => {
                if self.connections[&key].target_state == TargetState::TimeWait {
                    self.connection_mut(key).target_state = TargetState::Closed;
                    self.push_event(QueuedEvent::TimewaitExit(key));
                }
            }
        }
    }

    fn request_arrives(&mut self, key: u64) {
        let address = self.connections[&key].target;
        let device = self.device_by_address(address.ip()).expect("messages_pass");
        let listener = self
            .listeners
            .iter()
            .find(|(_, one)| one.address == address && one.device == device);
        let listener = listener.map(|(listener, _)| *listener);
        let connection = self.connection_mut(key);
        connection.device = device;
        connection.listener = listener;
        if listener.is_none() {
            connection.target_state = TargetState::Closed;
            self.enqueue(key, Direction::ToHost, MessageKind::Reject(Vec::new()));
            return;
        }
        connection.target_state = TargetState::Queued;
        self.push_event(QueuedEvent::Request(key));
    }

    fn target_hears(&mut self, key: u64, kind: &MessageKind) {
        let state = self.connections[&key].target_state;
        match (kind, state) {
            (MessageKind::ReadyToUse, TargetState::Accepted) => {
                self.connection_mut(key).target_state = TargetState::Established;
                self.push_event(QueuedEvent::Established(key));
            }
            (MessageKind::DisconnectRequest, TargetState::Accepted | TargetState::Established) => {
                self.connection_mut(key).target_state = TargetState::PeerDisconnected;
                self.push_event(QueuedEvent::Disconnected(key));
            }
            // Both sides at once.
            (MessageKind::DisconnectRequest, TargetState::DisconnectSent)
            | (MessageKind::DisconnectReply, TargetState::DisconnectSent) => {
                self.enter_timewait(key);
                self.push_event(QueuedEvent::Disconnected(key));
                if *kind == MessageKind::DisconnectRequest {
                    self.enqueue(key, Direction::ToHost, MessageKind::DisconnectReply);
                }
            }
            (MessageKind::DisconnectRequest, _) => {
                self.enqueue(key, Direction::ToHost, MessageKind::DisconnectReply);
            }
            (MessageKind::Reject(_), TargetState::Queued) => {
                self.connection_mut(key).target_state = TargetState::Closed;
                self.forget_events(key);
            }
            (MessageKind::Reject(_), TargetState::Requested | TargetState::Accepted) => {
                self.connection_mut(key).target_state = TargetState::Closed;
                self.push_event(QueuedEvent::Failed(key, EVENT_REJECTED));
            }
            _ => {}
        }
    }

    fn host_hears(&mut self, key: u64, kind: MessageKind) {
        let connection = self.connection_mut(key);
        let state = connection.host_state.clone();
        match (kind, state) {
            (MessageKind::Reply(data), HostState::Connecting) => {
                connection.answer_data = data;
                connection.host_state = HostState::Connected;
                self.enqueue(key, Direction::ToTarget, MessageKind::ReadyToUse);
            }
            (MessageKind::Reply(_), HostState::GaveUp) => {
                self.enqueue(key, Direction::ToTarget, MessageKind::Reject(Vec::new()));
            }
            (MessageKind::Reject(data), HostState::Connecting) => {
                connection.answer_data = data;
                connection.host_state = HostState::Rejected;
                if let Some(initiator) = connection.initiator {
                    self.initiator_answered(initiator, EVENT_REJECTED);
                }
            }
            (MessageKind::DisconnectRequest, _) => {
                if connection.host_state == HostState::Connected {
                    connection.host_state = HostState::Disconnected;
                }
                self.enqueue(key, Direction::ToTarget, MessageKind::DisconnectReply);
            }
            (MessageKind::DisconnectReply, HostState::Disconnecting) => {
                connection.host_state = HostState::Disconnected;
            }
            _ => {}
        }
    }
}
