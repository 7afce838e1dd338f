//! Faults a test can arm. Calls are counted per point, so a fault hits the same call in every run of a seed.

use std::collections::BTreeMap;

use super::provider_error;
use crate::provider::ProviderError;

/// Provider call at which a fault can be armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultPoint {
    /// `devices`.
    ListDevices,
    /// `open_device`.
    OpenDevice,
    /// `allocate_protection_domain`.
    AllocateProtectionDomain,
    /// `register_memory`.
    RegisterMemory,
    /// `create_completion_queue`.
    CreateCompletionQueue,
    /// `create_shared_receive_queue`.
    CreateSharedReceiveQueue,
    /// `create_queue_pair`.
    CreateQueuePair,
    /// `ready_queue_pair`.
    ReadyQueuePair,
    /// `post_receives`.
    PostReceives,
    /// `post_sends`.
    PostSends,
    /// `poll_completions`.
    PollCompletions,
    /// `listen`.
    Listen,
    /// `accept`.
    Accept,
    /// `reject`.
    Reject,
    /// `disconnect`.
    Disconnect,
    /// `resolve`.
    Resolve,
    /// `connect`.
    Connect,
}

impl FaultPoint {
    fn operation(self) -> &'static str {
        match self {
            Self::ListDevices => "ibv_get_device_list",
            Self::OpenDevice => "ibv_open_device",
            Self::AllocateProtectionDomain => "ibv_alloc_pd",
            Self::RegisterMemory => "ibv_reg_mr",
            Self::CreateCompletionQueue => "ibv_create_cq",
            Self::CreateSharedReceiveQueue => "ibv_create_srq",
            Self::CreateQueuePair => "ibv_create_qp",
            Self::ReadyQueuePair => "ibv_modify_qp",
            Self::PostReceives => "ibv_post_srq_recv",
            Self::PostSends => "ibv_post_send",
            Self::PollCompletions => "ibv_poll_cq",
            Self::Listen => "rdma_listen",
            Self::Accept => "rdma_accept",
            Self::Reject => "rdma_reject",
            Self::Disconnect => "rdma_disconnect",
            Self::Resolve => "rdma_resolve_addr",
            Self::Connect => "rdma_connect",
        }
    }
}

/// Connection manager events that can be lost, doubled or held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// Connect request. It cannot be doubled.
    Request,
    /// Established.
    Established,
    /// Disconnected.
    Disconnected,
    /// Failed.
    Failed,
    /// Time-wait exit.
    TimewaitExit,
}

/// What a send does while the device's own link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransmitWhileDown {
    /// As rxe: completes with `IBV_WC_LOC_QP_OP_ERR` and the queue pair goes to error.
    LocalOperationError,
    /// As hardware with a finite retry count: completes with `IBV_WC_RETRY_EXC_ERR`.
    RetryExceeded,
    /// As hardware with retries still to go: nothing happens until the link is back.
    Stuck,
}

/// What becomes of a receive that a half-arrived capsule had taken when its queue pair goes to error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptedReceive {
    /// It completes with a flush error on that queue pair.
    Flushed,
    /// It is lost until the shared receive queue is destroyed (rxe).
    Lost,
}

#[derive(Debug, Default)]
struct CallFaults {
    calls: u64,
    at: BTreeMap<u64, i32>,
    /// Every call from this one on.
    from: Option<(u64, i32)>,
}

#[derive(Debug)]
pub(super) struct Faults {
    points: BTreeMap<FaultPoint, CallFaults>,
    /// (posted before the failure, errno) for the next chain.
    pub(super) partial_send: Option<(usize, i32)>,
    pub(super) lose_next: BTreeMap<EventKind, u32>,
    pub(super) duplicate_next: BTreeMap<EventKind, u32>,
    pub(super) hold_events: bool,
    pub(super) transmit_while_down: TransmitWhileDown,
    /// Capsules take a receive in one step and complete it in another.
    pub(super) split_arrivals: bool,
    pub(super) interrupted_receive: InterruptedReceive,
    pub(super) last_work_request_events: bool,
    /// Sends fail with this status, so many times in 1000.
    pub(super) random_send_errors: Option<(u32, u32)>,
    /// Failed sends reach the host all the same, so many times in 1000.
    pub(super) delivered_despite_error: u32,
}

impl Faults {
    pub(super) fn new() -> Self {
        Self {
            points: BTreeMap::new(),
            partial_send: None,
            lose_next: BTreeMap::new(),
            duplicate_next: BTreeMap::new(),
            hold_events: false,
            transmit_while_down: TransmitWhileDown::LocalOperationError,
            split_arrivals: false,
            interrupted_receive: InterruptedReceive::Lost,
            last_work_request_events: false,
            random_send_errors: None,
            delivered_despite_error: 0,
        }
    }

    pub(super) fn fail_call(&mut self, point: FaultPoint, calls_from_now: u64, errno: i32) {
        assert!(calls_from_now > 0, "call 1 is the next one");
        let faults = self.points.entry(point).or_default();
        faults.at.insert(faults.calls + calls_from_now, errno);
    }

    pub(super) fn fail_calls_from(&mut self, point: FaultPoint, calls_from_now: u64, errno: i32) {
        assert!(calls_from_now > 0, "call 1 is the next one");
        let faults = self.points.entry(point).or_default();
        faults.from = Some((faults.calls + calls_from_now, errno));
    }

    pub(super) fn fail_no_more(&mut self, point: FaultPoint) {
        if let Some(faults) = self.points.get_mut(&point) {
            faults.from = None;
        }
    }

    /// Disarms everything that is armed for calls, sends and events; what holds for the whole run stays.
    pub(super) fn clear(&mut self) {
        for faults in self.points.values_mut() {
            faults.at.clear();
            faults.from = None;
        }
        self.partial_send = None;
        self.random_send_errors = None;
        self.lose_next.clear();
        self.duplicate_next.clear();
        self.hold_events = false;
    }

    pub(super) fn calls(&self, point: FaultPoint) -> u64 {
        self.points.get(&point).map_or(0, |faults| faults.calls)
    }

    /// Counts a call and fails it if a fault is armed for it.
    pub(super) fn check(&mut self, point: FaultPoint) -> Result<(), ProviderError> {
        let faults = self.points.entry(point).or_default();
        faults.calls += 1;
        let lasting = faults
            .from
            .filter(|(from, _)| *from <= faults.calls)
            .map(|(_, errno)| errno);
        match faults.at.remove(&faults.calls).or(lasting) {
            Some(errno) => Err(provider_error(point.operation(), errno, "injected fault")),
            None => Ok(()),
        }
    }

    /// Takes one unit from a counter of the next events to treat.
    pub(super) fn take(counters: &mut BTreeMap<EventKind, u32>, kind: EventKind) -> bool {
        match counters.get_mut(&kind) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}
