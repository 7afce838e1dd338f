//! Queue pairs, their queues, and the execution of posted work.

use std::collections::VecDeque;

use super::capsule::Capsule;
use super::connection::HostState;
use super::descriptor::Signal;
use super::device::{LinkState, fingerprint};
use super::faults::{FaultPoint, InterruptedReceive, TransmitWhileDown};
use super::oracle::ViolationKind;
use super::provider_error;
use super::world::{Candidate, ObjectKind, World};
use crate::provider::{
    AsyncEvent, CompletionKind, CompletionStatus, ConnectParameters, ProviderError, ReceiveWorkRequest, SendOperation,
    SendWorkRequest, Sge, WorkCompletion,
};

/// `ibv_wc_status` numbers.
const LOCAL_LENGTH_ERROR: u32 = 1;
const LOCAL_OPERATION_ERROR: u32 = 2;
const LOCAL_PROTECTION_ERROR: u32 = 4;
const REMOTE_INVALID_REQUEST: u32 = 9;
const REMOTE_ACCESS_ERROR: u32 = 10;
const RETRY_EXCEEDED: u32 = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairState {
    Reset,
    Ready,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Posted,
    /// The host has it; its acknowledgement is lost again and again.
    Unacknowledged,
    /// Executed; its completion is in the queue, or a later one will stand for it.
    Executed,
}

#[derive(Debug)]
pub(super) struct PostedSend {
    pub(super) age: u64,
    pub(super) request: SendWorkRequest,
    pub(super) stage: Stage,
    /// Of the local bytes, as the device left or found them.
    fingerprint: u64,
}

#[derive(Debug)]
pub(super) struct PostedReceive {
    pub(super) request: ReceiveWorkRequest,
    fingerprint: u64,
    domain: u64,
    /// Capsule and age, once it is in arrival.
    arrival: Option<(u64, Capsule)>,
}

#[derive(Debug)]
pub(super) struct QueuePair {
    pub(super) device: u64,
    pub(super) domain: u64,
    pub(super) completion_queue: u64,
    pub(super) receive_queue: u64,
    depth: u32,
    pub(super) state: PairState,
    /// Largest payload of a packet that it was made ready for.
    mtu: u32,
    pub(super) connection: Option<u64>,
    pub(super) sends: VecDeque<PostedSend>,
    pub(super) arriving: Option<PostedReceive>,
    /// The engine failed it, or has polled again since it reaped an error of it: posting is now a violation.
    error_known: bool,
    /// The last poll gave the engine an error of it, perhaps not yet looked at.
    error_reaped: bool,
    pub(super) forced_error: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Entry {
    completion: WorkCompletion,
    /// Age of the send it completes.
    send: Option<u64>,
    pub(super) receive: Option<PostedReceive>,
}

#[derive(Debug)]
pub(super) struct CompletionQueue {
    pub(super) device: u64,
    capacity: u32,
    pub(super) entries: VecDeque<Entry>,
    /// The next completion makes a notification.
    pub(super) armed: bool,
    pub(super) signal: Option<Signal>,
    overrun: bool,
}

#[derive(Debug)]
pub(super) struct ReceiveQueue {
    pub(super) domain: u64,
    capacity: u32,
    pub(super) posted: VecDeque<PostedReceive>,
}

impl QueuePair {
    /// The send that is transmitted, acknowledged or flushed next. Over a link that loses acknowledgements the next ones
    /// go out all the same.
    fn next_send_index(&self, link: LinkState) -> Option<usize> {
        let waits = |send: &PostedSend| match send.stage {
            Stage::Posted => true,
            Stage::Unacknowledged => self.state == PairState::Error || link != LinkState::LosesIncoming,
            Stage::Executed => false,
        };
        self.sends.iter().position(waits)
    }

    fn next_send(&self, link: LinkState) -> Option<&PostedSend> {
        self.next_send_index(link).map(|index| &self.sends[index])
    }
}

impl World {
    pub(super) fn queue_pairs_of(&self, device: u64) -> Vec<u32> {
        let pairs = self.queue_pairs.iter().filter(|(_, pair)| pair.device == device);
        pairs.map(|(number, _)| *number).collect()
    }

    pub(super) fn create_completion_queue(&mut self, device: u64, entries: u32) -> Result<u64, ProviderError> {
        self.faults.check(FaultPoint::CreateCompletionQueue)?;
        self.check_device(device, "ibv_create_cq")?;
        if entries == 0 || entries > self.device(device).spec.limits.completion_entries_max {
            return Err(provider_error(
                "ibv_create_cq",
                libc::EINVAL,
                "more entries than the device has",
            ));
        }
        let key = self.next_key(ObjectKind::CompletionQueue);
        let queue = CompletionQueue {
            device,
            capacity: entries,
            entries: VecDeque::new(),
            armed: false,
            signal: self.descriptors.then(Signal::new),
            overrun: false,
        };
        self.completion_queues.insert(key, queue);
        Ok(key)
    }

    pub(super) fn destroy_completion_queue(&mut self, key: u64) {
        let pairs = self
            .queue_pairs
            .values()
            .filter(|pair| pair.completion_queue == key)
            .count();
        if pairs > 0 {
            let message = format!("completion queue {key} destroyed with {pairs} queue pairs on it");
            self.oracle.report(ViolationKind::DestroyedBeforeChildren, message);
        }
        self.completion_queues.remove(&key);
    }

    pub(super) fn create_receive_queue(&mut self, domain: u64, entries: u32) -> Result<u64, ProviderError> {
        self.faults.check(FaultPoint::CreateSharedReceiveQueue)?;
        let device = self.domains[&domain].device;
        self.check_device(device, "ibv_create_srq")?;
        if entries == 0 || entries > self.device(device).spec.limits.shared_receive_max {
            return Err(provider_error(
                "ibv_create_srq",
                libc::EINVAL,
                "more receives than the device has",
            ));
        }
        let key = self.next_key(ObjectKind::ReceiveQueue);
        let queue = ReceiveQueue {
            domain,
            capacity: entries,
            posted: VecDeque::new(),
        };
        self.receive_queues.insert(key, queue);
        Ok(key)
    }

    pub(super) fn destroy_receive_queue(&mut self, key: u64) {
        let pairs = self
            .queue_pairs
            .values()
            .filter(|pair| pair.receive_queue == key)
            .count();
        if pairs > 0 {
            let message = format!("shared receive queue {key} destroyed with {pairs} queue pairs on it");
            self.oracle.report(ViolationKind::DestroyedBeforeChildren, message);
        }
        self.receive_queues.remove(&key);
    }

    pub(super) fn create_queue_pair(
        &mut self,
        domain: u64,
        completion_queue: u64,
        receive_queue: u64,
        depth: u32,
    ) -> Result<u32, ProviderError> {
        self.faults.check(FaultPoint::CreateQueuePair)?;
        let device = self.domains[&domain].device;
        self.check_device(device, "ibv_create_qp")?;
        let fits = depth > 0 && depth <= self.device(device).spec.limits.work_requests_max;
        if !fits || self.completion_queues[&completion_queue].device != device {
            let message = "send queue too deep, or completion queue of another device";
            return Err(provider_error("ibv_create_qp", libc::EINVAL, message));
        }
        self.last_queue_pair_number += 1;
        let number = self.last_queue_pair_number;
        let pair = QueuePair {
            device,
            domain,
            completion_queue,
            receive_queue,
            depth,
            state: PairState::Reset,
            mtu: 0,
            connection: None,
            sends: VecDeque::new(),
            arriving: None,
            error_known: false,
            error_reaped: false,
            forced_error: None,
        };
        self.queue_pairs.insert(number, pair);
        Ok(number)
    }

    pub(super) fn destroy_queue_pair(&mut self, number: u32) {
        let pair = &self.queue_pairs[&number];
        // A chain that was posted in part can end in unsignaled requests. Whether they complete depends on whether they
        // were executed before the failure, so nobody can wait for them.
        let last_signaled = pair.sends.iter().rev().find(|send| send.request.signaled);
        let accountable = |age: u64| last_signaled.is_some_and(|last| age <= last.age);
        let unposted = pair.sends.iter().filter(|send| send.stage != Stage::Executed);
        let unposted = unposted.filter(|send| accountable(send.age)).count();
        let unreaped = self.completion_queues[&pair.completion_queue].entries.iter();
        let unreaped = unreaped
            .filter(|entry| entry.completion.queue_pair_number == number && entry.send.is_none_or(accountable))
            .count();
        let silent = self.device(pair.device).silent_death;
        if unposted + unreaped > 0 && !silent {
            self.oracle.report(
                ViolationKind::QueuePairDestroyedWithWork,
                format!(
                    "queue pair {number} destroyed with {unposted} sends to do and {unreaped} completions unreaped"
                ),
            );
        }
        self.queue_pairs.remove(&number);
    }

    pub(super) fn ready_queue_pair(
        &mut self,
        number: u32,
        connection: u64,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        self.faults.check(FaultPoint::ReadyQueuePair)?;
        let device = self.queue_pairs[&number].device;
        self.check_device(device, "ibv_modify_qp")?;
        let limits = self.device(device).spec.limits;
        let mtu = self.device(device).mtu;
        let peer = &self.connections[&connection];
        if parameters.initiator_depth > limits.read_initiator_max
            || parameters.responder_resources > limits.read_responder_max
            || parameters.initiator_depth > peer.host_responder_resources
        {
            let message = format!("queue pair {number} made ready beyond the device's or host's RDMA READ limits");
            self.oracle.report(ViolationKind::LimitExceeded, message);
        }
        if parameters.retry_count > 7 || parameters.rnr_retry_count > 7 || parameters.ack_timeout > 31 {
            return Err(provider_error(
                "ibv_modify_qp",
                libc::EINVAL,
                "retry count or timeout out of range",
            ));
        }
        if peer.device != device {
            return Err(provider_error(
                "ibv_modify_qp",
                libc::EINVAL,
                "connection is on another device",
            ));
        }
        let pair = self.queue_pairs.get_mut(&number).expect("handle keeps it");
        if pair.state != PairState::Reset {
            let message = format!("queue pair {number} made ready in state {:?}", pair.state);
            self.oracle.report(ViolationKind::WrongState, message);
            return Err(provider_error("ibv_modify_qp", libc::EINVAL, "not in the reset state"));
        }
        pair.state = PairState::Ready;
        pair.mtu = mtu;
        pair.connection = Some(connection);
        self.connections
            .get_mut(&connection)
            .expect("handle keeps it")
            .queue_pair = Some(number);
        Ok(())
    }

    pub(super) fn fail_queue_pair(&mut self, number: u32) {
        let pair = self.queue_pairs.get_mut(&number).expect("handle keeps it");
        pair.error_known = true;
        self.queue_pair_to_error(number);
    }

    pub(super) fn queue_pair_to_error(&mut self, number: u32) {
        let interrupted = self.faults.interrupted_receive;
        let last_events = self.faults.last_work_request_events;
        let pair = self.queue_pairs.get_mut(&number).expect("known number");
        if pair.state == PairState::Error {
            return;
        }
        pair.state = PairState::Error;
        let device = pair.device;
        if let Some(receive) = pair.arriving.take() {
            if interrupted == InterruptedReceive::Flushed {
                self.complete_receive(number, receive, CompletionStatus::Flushed, 0);
            }
        }
        if last_events {
            let event = AsyncEvent::LastWorkRequestReached(number);
            self.device_mut(device).notify(event);
        }
    }

    pub(super) fn post_receives(
        &mut self,
        key: u64,
        requests: &[ReceiveWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        self.faults
            .check(FaultPoint::PostReceives)
            .map_err(|error| (0, error))?;
        for (index, request) in requests.iter().enumerate() {
            let queue = &self.receive_queues[&key];
            let domain = queue.domain;
            if queue.posted.len() >= queue.capacity as usize {
                let message = format!("shared receive queue {key} has only {} entries", queue.capacity);
                self.oracle.report(ViolationKind::WorkQueueOverflow, message);
                let error = provider_error("ibv_post_srq_recv", libc::ENOMEM, "shared receive queue is full");
                return Err((index, error));
            }
            let Some(fingerprint) = self.fingerprint_of(domain, &request.sge) else {
                self.report_unregistered("receive", request.token, &request.sge);
                return Err((
                    index,
                    provider_error("ibv_post_srq_recv", libc::EINVAL, "memory not registered"),
                ));
            };
            let receive = PostedReceive {
                request: *request,
                fingerprint,
                domain,
                arrival: None,
            };
            let queue = self.receive_queues.get_mut(&key).expect("handle keeps it");
            queue.posted.push_back(receive);
        }
        Ok(())
    }

    pub(super) fn post_sends(
        &mut self,
        number: u32,
        requests: &[SendWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        self.faults.check(FaultPoint::PostSends).map_err(|error| (0, error))?;
        let partial = self.faults.partial_send.take();
        let pair = &self.queue_pairs[&number];
        if pair.error_known || pair.state == PairState::Reset {
            let message = format!("send posted to queue pair {number}, state {:?}", pair.state);
            self.oracle.report(ViolationKind::PostedToUnusableQueuePair, message);
            return Err((
                0,
                provider_error("ibv_post_send", libc::EINVAL, "queue pair is not usable"),
            ));
        }
        for (index, request) in requests.iter().enumerate() {
            if let Some((posted, errno)) = partial.filter(|(posted, _)| *posted == index) {
                return Err((posted, provider_error("ibv_post_send", errno, "injected fault")));
            }
            let pair = &self.queue_pairs[&number];
            let domain = pair.domain;
            if pair.sends.len() >= pair.depth as usize {
                let message = format!("send queue of queue pair {number} has only {} entries", pair.depth);
                self.oracle.report(ViolationKind::WorkQueueOverflow, message);
                return Err((
                    index,
                    provider_error("ibv_post_send", libc::ENOMEM, "send queue is full"),
                ));
            }
            let Some(fingerprint) = self.fingerprint_of(domain, &request.sge) else {
                self.report_unregistered("send", request.token, &request.sge);
                return Err((
                    index,
                    provider_error("ibv_post_send", libc::EINVAL, "memory not registered"),
                ));
            };
            let send = PostedSend {
                age: self.next_age(),
                request: *request,
                stage: Stage::Posted,
                fingerprint,
            };
            let pair = self.queue_pairs.get_mut(&number).expect("handle keeps it");
            pair.sends.push_back(send);
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, key: u64, completions: &mut [WorkCompletion]) -> Result<usize, ProviderError> {
        self.faults.check(FaultPoint::PollCompletions)?;
        for pair in self
            .queue_pairs
            .values_mut()
            .filter(|pair| pair.completion_queue == key)
        {
            pair.error_known |= pair.error_reaped;
        }
        let taken = self.completion_queues[&key].entries.len().min(completions.len());
        for slot in &mut completions[..taken] {
            let queue = self.completion_queues.get_mut(&key).expect("handle keeps it");
            let entry = queue.entries.pop_front().expect("counted above");
            *slot = entry.completion;
            self.reap(entry);
        }
        Ok(taken)
    }

    /// Accounts for one completion: the memory it and those before it named is the engine's again.
    fn reap(&mut self, entry: Entry) {
        let number = entry.completion.queue_pair_number;
        if let Some(receive) = entry.receive {
            self.check_untouched(receive.domain, &receive.request.sge, receive.fingerprint, "receive");
        }
        let Some(pair) = self.queue_pairs.get_mut(&number) else {
            return;
        };
        pair.error_reaped |= entry.completion.status != CompletionStatus::Success;
        let Some(age) = entry.send else { return };
        let domain = pair.domain;
        let mut done = Vec::new();
        while pair.sends.front().is_some_and(|send| send.age <= age) {
            done.extend(pair.sends.pop_front());
        }
        for send in done {
            self.check_untouched(domain, &send.request.sge, send.fingerprint, "send");
        }
    }

    fn fingerprint_of(&self, domain: u64, sge: &Sge) -> Option<u64> {
        self.local_memory(domain, sge).map(|bytes| fingerprint(bytes))
    }

    fn check_untouched(&mut self, domain: u64, sge: &Sge, expected: u64, what: &str) {
        if self.fingerprint_of(domain, sge).is_some_and(|now| now != expected) {
            let message = format!(
                "{} bytes at {:#x} changed while a {what} owned them",
                sge.length, sge.address
            );
            self.oracle.report(ViolationKind::BufferTouchedWhileOwned, message);
        }
    }

    fn report_unregistered(&mut self, what: &str, token: u64, sge: &Sge) {
        let message = format!(
            "{what} {token:#x} names {} bytes at {:#x} with key {:#x}: not registered in its domain",
            sge.length, sge.address, sge.local_key
        );
        self.oracle.report(ViolationKind::UnregisteredMemory, message);
    }

    pub(super) fn queue_pair_candidates(&self, candidates: &mut Vec<Candidate>) {
        for (number, pair) in &self.queue_pairs {
            let device = self.device(pair.device);
            if device.silent_death {
                continue;
            }
            if let Some((age, _)) = pair.arriving.as_ref().and_then(|receive| receive.arrival.as_ref()) {
                if device.receives() {
                    candidates.push(Candidate::Arrival(*age, *number));
                }
            }
            let Some(send) = pair.next_send(device.link) else {
                continue;
            };
            match pair.state {
                PairState::Error => candidates.push(Candidate::Flush(send.age, *number)),
                PairState::Ready if self.can_transmit(pair, send) => {
                    candidates.push(Candidate::Send(send.age, *number));
                }
                _ => {}
            }
        }
    }

    fn can_transmit(&self, pair: &QueuePair, send: &PostedSend) -> bool {
        let device = self.device(pair.device);
        let host_listens = pair
            .connection
            .and_then(|key| self.connections.get(&key))
            .is_some_and(|connection| connection.host_state == HostState::Connected);
        match device.link {
            // Packets that are too large are lost, and sent again for ever.
            LinkState::Up if device.mtu < pair.mtu => false,
            LinkState::Up => host_listens || pair.forced_error.is_some(),
            LinkState::Down => self.faults.transmit_while_down != TransmitWhileDown::Stuck,
            // What the host sends back does not arrive.
            LinkState::LosesIncoming => {
                host_listens && !matches!(send.request.operation, SendOperation::RdmaRead { .. })
            }
            LinkState::Silent | LinkState::LosesOutgoing => false,
        }
    }

    pub(super) fn execute_send(&mut self, number: u32) {
        let random_error = match self.faults.random_send_errors {
            Some((per_mille, status)) if self.random.chance(per_mille) => Some(status),
            _ => None,
        };
        let link = self.device(self.queue_pairs[&number].device).link;
        let unacknowledged = link == LinkState::LosesIncoming;
        let pair = self.queue_pairs.get_mut(&number).expect("candidate");
        let forced = if unacknowledged {
            None
        } else {
            pair.forced_error.take().or(random_error)
        };
        let domain = pair.domain;
        let index = pair.next_send_index(link).expect("candidate");
        let arrived_before = pair.sends[index].stage == Stage::Unacknowledged;
        let (request, expected) = (pair.sends[index].request, pair.sends[index].fingerprint);
        let connection = pair.connection.expect("ready queue pairs have one");
        if !matches!(request.operation, SendOperation::RdmaRead { .. }) {
            self.check_untouched(domain, &request.sge, expected, "send");
        }
        let down_error = match self.faults.transmit_while_down {
            TransmitWhileDown::RetryExceeded => RETRY_EXCEEDED,
            _ => LOCAL_OPERATION_ERROR,
        };
        let failure = forced.or((link == LinkState::Down).then_some(down_error));
        let delivered = failure.is_none() || {
            let host_listens = self.connections[&connection].host_state == HostState::Connected;
            host_listens && self.random.chance(self.faults.delivered_despite_error)
        };
        let transferred = if delivered && !arrived_before {
            self.transfer(connection, domain, &request)
        } else {
            Ok(())
        };
        let result = failure.map_or(transferred, Err);
        let fingerprint = self.fingerprint_of(domain, &request.sge).unwrap_or(expected);
        let pair = self.queue_pairs.get_mut(&number).expect("candidate");
        pair.sends[index].fingerprint = fingerprint;
        if unacknowledged && result.is_ok() {
            pair.sends[index].stage = Stage::Unacknowledged;
            return;
        }
        pair.sends[index].stage = Stage::Executed;
        match result {
            Ok(()) if request.signaled => self.complete_send(number, index, CompletionStatus::Success),
            Ok(()) => {}
            Err(status) => {
                self.complete_send(number, index, CompletionStatus::Error(status));
                self.queue_pair_to_error(number);
                // A negative acknowledgement comes from the peer, whose queue pair fails too.
                if matches!(status, REMOTE_ACCESS_ERROR | REMOTE_INVALID_REQUEST) {
                    self.host_queue_pair_failed(connection, &format!("work completion status {status}"));
                }
            }
        }
    }

    /// Moves the bytes of one request; the error is the `ibv_wc_status`.
    fn transfer(&mut self, connection: u64, domain: u64, request: &SendWorkRequest) -> Result<(), u32> {
        let Some(local) = self.local_memory(domain, &request.sge) else {
            return Err(LOCAL_PROTECTION_ERROR);
        };
        let host = self.connections[&connection].host;
        match request.operation {
            SendOperation::Send => {
                let bytes = local.to_vec();
                self.host_receives(connection, bytes, None);
                Ok(())
            }
            SendOperation::SendWithInvalidate { remote_key } => {
                let bytes = local.to_vec();
                let memory = &mut self.hosts.get_mut(&host).expect("hosts are never removed").memory;
                if !memory.invalidate(remote_key) {
                    return Err(REMOTE_INVALID_REQUEST);
                }
                self.host_receives(connection, bytes, Some(remote_key));
                Ok(())
            }
            SendOperation::RdmaWrite {
                remote_address,
                remote_key,
            } => {
                let bytes = local.to_vec();
                let memory = &mut self.hosts.get_mut(&host).expect("hosts are never removed").memory;
                let target = memory.slice(remote_key, remote_address, bytes.len());
                target.ok_or(REMOTE_ACCESS_ERROR)?.copy_from_slice(&bytes);
                Ok(())
            }
            SendOperation::RdmaRead {
                remote_address,
                remote_key,
            } => {
                let length = local.len();
                let memory = &mut self.hosts.get_mut(&host).expect("hosts are never removed").memory;
                let source = memory.slice(remote_key, remote_address, length);
                let bytes = source.ok_or(REMOTE_ACCESS_ERROR)?.to_vec();
                let local = self.local_memory(domain, &request.sge).ok_or(LOCAL_PROTECTION_ERROR)?;
                local.copy_from_slice(&bytes);
                Ok(())
            }
        }
    }

    /// One unit of flushing: the oldest unexecuted send.
    pub(super) fn flush_one(&mut self, number: u32) {
        let pair = self.queue_pairs.get_mut(&number).expect("candidate");
        let index = pair.sends.iter().position(|send| send.stage != Stage::Executed);
        let index = index.expect("candidate");
        pair.sends[index].stage = Stage::Executed;
        self.complete_send(number, index, CompletionStatus::Flushed);
    }

    fn complete_send(&mut self, number: u32, index: usize, status: CompletionStatus) {
        let pair = &self.queue_pairs[&number];
        let send = &pair.sends[index];
        let kind = match send.request.operation {
            SendOperation::Send | SendOperation::SendWithInvalidate { .. } => CompletionKind::Send,
            SendOperation::RdmaWrite { .. } => CompletionKind::RdmaWrite,
            SendOperation::RdmaRead { .. } => CompletionKind::RdmaRead,
        };
        let entry = Entry {
            completion: WorkCompletion {
                token: send.request.token,
                status,
                kind,
                byte_length: 0,
                queue_pair_number: number,
            },
            send: Some(send.age),
            receive: None,
        };
        self.push_completion(pair.completion_queue, entry);
    }

    fn complete_receive(&mut self, number: u32, receive: PostedReceive, status: CompletionStatus, byte_length: u32) {
        let entry = Entry {
            completion: WorkCompletion {
                token: receive.request.token,
                status,
                kind: CompletionKind::Receive,
                byte_length,
                queue_pair_number: number,
            },
            send: None,
            receive: Some(receive),
        };
        self.push_completion(self.queue_pairs[&number].completion_queue, entry);
    }

    fn push_completion(&mut self, key: u64, entry: Entry) {
        let queue = self.completion_queues.get_mut(&key).expect("queue pairs hold it");
        if std::mem::take(&mut queue.armed) {
            if let Some(signal) = &queue.signal {
                signal.set();
            }
        }
        queue.entries.push_back(entry);
        if queue.entries.len() > queue.capacity as usize && !queue.overrun {
            queue.overrun = true;
            let (device, capacity) = (queue.device, queue.capacity);
            let message = format!("completion queue {key} overran its {capacity} entries");
            self.oracle.report(ViolationKind::CompletionQueueOverrun, message);
            let event = AsyncEvent::CompletionQueueError;
            self.device_mut(device).notify(event);
        }
    }

    pub(super) fn capsule_candidates(&self, candidates: &mut Vec<Candidate>) {
        for (key, connection) in &self.connections {
            let Some((age, _)) = connection.capsules.front() else {
                continue;
            };
            let pair = connection.queue_pair.and_then(|number| self.queue_pairs.get(&number));
            let Some(pair) = pair else { continue };
            let has_receive = !self.receive_queues[&pair.receive_queue].posted.is_empty();
            if connection.host_state == HostState::Connected
                && pair.state == PairState::Ready
                && pair.arriving.is_none()
                && has_receive
                && self.device(pair.device).receives()
            {
                candidates.push(Candidate::Capsule(*age, *key));
            }
        }
    }

    pub(super) fn deliver_capsule(&mut self, key: u64) {
        let connection = self.connections.get_mut(&key).expect("candidate");
        let (age, capsule) = connection.capsules.pop_front().expect("candidate");
        let number = connection.queue_pair.expect("candidate");
        let pair = self.queue_pairs.get_mut(&number).expect("candidate");
        let queue = self.receive_queues.get_mut(&pair.receive_queue).expect("held");
        let mut receive = queue.posted.pop_front().expect("candidate");
        receive.arrival = Some((age, capsule));
        pair.arriving = Some(receive);
        if !self.faults.split_arrivals {
            self.finish_arrival(number);
        }
    }

    pub(super) fn finish_arrival(&mut self, number: u32) {
        let pair = self.queue_pairs.get_mut(&number).expect("candidate");
        let connection = pair.connection;
        let mut receive = pair.arriving.take().expect("candidate");
        let (_, capsule) = receive.arrival.take().expect("candidate");
        let sge = receive.request.sge;
        self.check_untouched(receive.domain, &sge, receive.fingerprint, "receive");
        let local = self.local_memory(receive.domain, &sge).unwrap_or(&mut []);
        if capsule.len() > local.len() {
            self.complete_receive(number, receive, CompletionStatus::Error(LOCAL_LENGTH_ERROR), 0);
            self.queue_pair_to_error(number);
            if let Some(connection) = connection {
                self.host_queue_pair_failed(connection, "capsule longer than the target's receive");
            }
            return;
        }
        local[..capsule.len()].copy_from_slice(&capsule);
        receive.fingerprint = fingerprint(local);
        self.complete_receive(number, receive, CompletionStatus::Success, capsule.len() as u32);
    }
}
