//! Connects of the engine's own, to its own listeners: no queue pair is behind them. They pass inside the device, so
//! only the device's own state matters and not what lies beyond it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::connection::{Connection, Direction, HostState, MessageKind, QueuedEvent, TargetState};
use super::device::LinkState;
use super::faults::FaultPoint;
use super::oracle::ViolationKind;
use super::provider_error;
use super::world::{ObjectKind, World};
use crate::provider::ProviderError;

/// Private data bytes of a request that the connection manager takes (92 less its own header's 36).
const REQUEST_DATA_MAX: usize = 56;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Resolved,
    /// The request is sent and not answered.
    Connecting,
    /// Answered, or never to be.
    Closed,
}

#[derive(Debug)]
pub(super) struct Initiator {
    pub(super) token: u64,
    pub(super) held: bool,
    pub(super) device: u64,
    own: SocketAddr,
    /// The connect, once it was sent.
    pub(super) connection: Option<u64>,
    state: State,
}

impl World {
    pub(super) fn resolve(&mut self, own: SocketAddr, token: u64) -> Result<u64, ProviderError> {
        self.faults.check(FaultPoint::Resolve)?;
        let device = self.device_by_address(own.ip()).ok_or_else(|| {
            let message = format!("{} is on no RDMA device", own.ip());
            provider_error("rdma_resolve_addr", libc::ENODEV, message)
        })?;
        let key = self.next_key(ObjectKind::Initiator);
        let initiator = Initiator {
            token,
            held: true,
            device,
            own,
            connection: None,
            state: State::Resolved,
        };
        self.initiators.insert(key, initiator);
        self.push_event(QueuedEvent::Resolved(key));
        Ok(key)
    }

    pub(super) fn connect_own(&mut self, key: u64, private_data: &[u8]) -> Result<(), ProviderError> {
        self.faults.check(FaultPoint::Connect)?;
        let initiator = &self.initiators[&key];
        if initiator.state != State::Resolved {
            let message = format!("rdma_connect on initiator {key} in state {:?}", initiator.state);
            self.oracle.report(ViolationKind::WrongState, message.clone());
            return Err(provider_error("rdma_connect", libc::EINVAL, message));
        }
        if private_data.len() > REQUEST_DATA_MAX {
            return Err(provider_error("rdma_connect", libc::EINVAL, "private data too long"));
        }
        let (own, device) = (initiator.own, initiator.device);
        let connection = self.next_key(ObjectKind::OwnConnection);
        self.connections.insert(
            connection,
            Connection {
                host: 0,
                initiator: Some(key),
                source: SocketAddr::new(own.ip(), 0),
                target: own,
                device,
                request_data: private_data.to_vec(),
                host_initiator_depth: 0,
                host_responder_resources: 0,
                listener: None,
                token: 0,
                identifier_held: false,
                target_state: TargetState::Unknown,
                host_state: HostState::Connecting,
                answer_data: Vec::new(),
                queue_pair: None,
                capsules: VecDeque::new(),
                receives_posted: 0,
                responses: VecDeque::new(),
                host_forgot_it: true,
            },
        );
        let initiator = self.initiators.get_mut(&key).expect("it was just there");
        initiator.state = State::Connecting;
        initiator.connection = Some(connection);
        self.send_own(connection, MessageKind::Request, "connect of our own");
        Ok(())
    }

    /// Sends a message of the engine's to itself; while the link is down this kills QP1 for good, as on rxe.
    fn send_own(&mut self, connection: u64, kind: MessageKind, cause: &str) {
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
        self.enqueue(connection, Direction::ToTarget, kind);
    }

    /// The listener answered: with a reject, for there is nothing it could accept.
    pub(super) fn initiator_answered(&mut self, key: u64, number: u32) {
        let Some(initiator) = self.initiators.get_mut(&key) else {
            return;
        };
        if initiator.state == State::Connecting {
            initiator.state = State::Closed;
            if initiator.held {
                self.push_event(QueuedEvent::InitiatorFailed(key, number));
            }
        }
    }

    /// The engine dropped an identifier of its own: one whose request is unanswered takes it back, with a message.
    pub(super) fn drop_initiator(&mut self, key: u64) {
        self.events.retain(|event| event.initiator() != Some(key));
        self.signal_events();
        let Some(initiator) = self.initiators.get_mut(&key) else {
            return;
        };
        initiator.held = false;
        let unanswered = std::mem::replace(&mut initiator.state, State::Closed) == State::Connecting;
        if let Some(connection) = initiator.connection.filter(|_| unanswered) {
            self.connection_mut(connection).host_state = HostState::GaveUp;
            self.send_own(
                connection,
                MessageKind::Reject(Vec::new()),
                "dropping an unanswered connect of our own",
            );
        }
    }
}
