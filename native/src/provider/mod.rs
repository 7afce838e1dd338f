//! The seam to RDMA: everything the engine asks of verbs and the connection manager.
//!
//! Two providers exist: `verbs` (libibverbs + librdmacm) and `sim` (deterministic, in process, adversarial).
//! The engine is generic over [`Provider`], so the same code runs on both.
//!
//! Ownership rules, by construction:
//! - A child value holds its parents (QP → CQ/SRQ → PD → device; MR → PD and memory), so no destruction order
//!   can be written wrongly. Dropping a value destroys the verbs object; handles that are `Clone` are counted.
//! - Work requests, listeners and connections are named by 64-bit tokens chosen by the caller
//!   (generational handles), never by pointers.
//! - Every descriptor is non-blocking. No call waits for the peer.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

pub mod memory;
pub mod sim;
pub mod verbs;

pub use memory::Arena;

/// Why a provider call failed: what was tried, the `errno`, and what a user can do about it.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{operation} failed: {message} (errno {errno})")]
pub struct ProviderError {
    /// The verbs or connection manager call, for example `ibv_reg_mr`.
    pub operation: &'static str,
    /// Positive `errno` value; 0 when the call gave none.
    pub errno: i32,
    /// The cause in words, with the way out where there is one.
    pub message: String,
}

/// What drives an RDMA device, as far as the engine treats devices differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DeviceDriver {
    /// Soft RoCE (`rxe`): its management queue pair dies for good of a message sent while the link is down.
    SoftRoce,
    /// Anything else.
    #[default]
    Other,
}

/// One RDMA device as the system lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Device name, for example `rxe0` or `mlx5_0`.
    pub name: String,
    /// Driver.
    pub driver: DeviceDriver,
    /// Network interface behind each GID, without duplicates, for example `eth1`.
    pub netdevs: Vec<String>,
    /// Addresses the device can be bound to.
    pub addresses: Vec<IpAddr>,
}

/// Limits of a device that the engine's sizing depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Most work requests of one queue (`max_qp_wr`).
    pub work_requests_max: u32,
    /// Most scatter/gather entries of a work request (`max_sge`).
    pub sge_max: u32,
    /// Most entries of a completion queue (`max_cqe`).
    pub completion_entries_max: u32,
    /// Most receives of a shared receive queue (`max_srq_wr`); 0: no shared receive queues.
    pub shared_receive_max: u32,
    /// Most outstanding RDMA READs as responder (`max_qp_rd_atom`).
    pub read_responder_max: u8,
    /// Most outstanding RDMA READs as initiator (`max_qp_init_rd_atom`).
    pub read_initiator_max: u8,
    /// `IBV_DEVICE_MEM_MGT_EXTENSIONS`: SEND_WITH_INV is available.
    pub send_with_invalidate: bool,
}

/// Level of a device's port, from `ibv_query_port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// Port can carry traffic.
    Active,
    /// Port cannot carry traffic now.
    Down,
}

/// Access that a registered region grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryAccess {
    /// Local read and write only (capsules, data buffers: the target is always the RDMA initiator).
    Local,
}

/// A part of registered memory named in a work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sge {
    /// Virtual address in this process.
    pub address: u64,
    /// Length in bytes.
    pub length: u32,
    /// Local key of the memory region.
    pub local_key: u32,
}

/// What a send-queue work request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOperation {
    /// SEND.
    Send,
    /// SEND_WITH_INV of this remote key.
    SendWithInvalidate {
        /// Host's key to invalidate.
        remote_key: u32,
    },
    /// RDMA WRITE to the host's memory.
    RdmaWrite {
        /// Host's virtual address.
        remote_address: u64,
        /// Host's key.
        remote_key: u32,
    },
    /// RDMA READ from the host's memory.
    RdmaRead {
        /// Host's virtual address.
        remote_address: u64,
        /// Host's key.
        remote_key: u32,
    },
}

/// One work request of a send queue; a slice of them is posted with one doorbell, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendWorkRequest {
    /// Caller's token (a packed generational handle), given back in the completion.
    pub token: u64,
    /// What to do.
    pub operation: SendOperation,
    /// Local memory; a length of 0 means none.
    pub sge: Sge,
    /// Whether success yields a completion (failure always does).
    pub signaled: bool,
}

/// One receive for a shared receive queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveWorkRequest {
    /// Caller's token, given back in the completion.
    pub token: u64,
    /// Where the capsule lands.
    pub sge: Sge,
}

/// Outcome of a work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionStatus {
    /// `IBV_WC_SUCCESS`.
    Success,
    /// `IBV_WC_WR_FLUSH_ERR`: the queue pair was in the error state.
    Flushed,
    /// Any other status, by its `ibv_wc_status` number.
    Error(u32),
}

/// What kind of work completed. Only meaningful with [`CompletionStatus::Success`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompletionKind {
    /// A receive: a capsule arrived.
    Receive,
    /// A SEND.
    Send,
    /// An RDMA WRITE.
    RdmaWrite,
    /// An RDMA READ.
    RdmaRead,
}

/// One completion queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkCompletion {
    /// Token of the work request.
    pub token: u64,
    /// Outcome.
    pub status: CompletionStatus,
    /// Kind of work.
    pub kind: CompletionKind,
    /// Bytes received (receives only).
    pub byte_length: u32,
    /// Number of the queue pair it belongs to.
    pub queue_pair_number: u32,
}

impl WorkCompletion {
    /// A value to fill arrays with before `poll_completions`.
    pub const EMPTY: Self = Self {
        token: 0,
        status: CompletionStatus::Success,
        kind: CompletionKind::Send,
        byte_length: 0,
        queue_pair_number: 0,
    };
}

/// What a queue pair is built with.
#[derive(Debug)]
pub struct QueuePairParameters<'a, P: Provider> {
    /// Completion queue of both directions.
    pub completion_queue: &'a P::CompletionQueue,
    /// Receives come from here.
    pub shared_receive_queue: &'a P::SharedReceiveQueue,
    /// Depth of the send queue in work requests.
    pub send_work_requests_max: u32,
}

/// How a connecting queue pair is brought to RTR and RTS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectParameters {
    /// RDMA READs the peer may have outstanding here.
    pub responder_resources: u8,
    /// RDMA READs we may have outstanding at the peer.
    pub initiator_depth: u8,
    /// Transport retry count (0–7): ours, not the connection manager's.
    pub retry_count: u8,
    /// RNR retry count (0–7; 7 is for ever).
    pub rnr_retry_count: u8,
    /// Local ACK timeout exponent: 4.096 µs × 2^n.
    pub ack_timeout: u8,
}

/// Answer to a connect request.
#[derive(Debug)]
pub struct AcceptParameters<'a> {
    /// Resources as granted.
    pub connect: ConnectParameters,
    /// NVMe/RDMA accept private data (32 bytes).
    pub private_data: &'a [u8],
}

/// Asynchronous device events (`ibv_get_async_event`), already acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AsyncEvent {
    /// `IBV_EVENT_PORT_ERR`.
    PortError,
    /// `IBV_EVENT_PORT_ACTIVE`.
    PortActive,
    /// `IBV_EVENT_GID_CHANGE`.
    GidChange,
    /// `IBV_EVENT_DEVICE_FATAL`.
    DeviceFatal,
    /// `IBV_EVENT_QP_FATAL` and its kin, with the queue pair's number.
    QueuePairFatal(u32),
    /// `IBV_EVENT_QP_LAST_WQE_REACHED`, with the queue pair's number: a hint only.
    LastWorkRequestReached(u32),
    /// `IBV_EVENT_CQ_ERR`.
    CompletionQueueError,
    /// `IBV_EVENT_SRQ_ERR`.
    SharedReceiveQueueError,
    /// Anything else, by its `ibv_event_type` number: counted only.
    Other(u32),
}

/// A connect request as the connection manager delivered it.
#[derive(Debug)]
pub struct ConnectRequest<P: Provider> {
    /// Token of the listener it arrived at.
    pub listener: u64,
    /// The new connection's identifier; dropping it unanswered destroys it without a message of ours.
    pub connection: P::ConnectionId,
    /// Name of the device it arrived at.
    pub device: String,
    /// The host's address.
    pub source: SocketAddr,
    /// NVMe/RDMA request private data, as sent (may be short or hostile).
    pub private_data: Vec<u8>,
    /// RDMA READs the host can answer (we may issue so many).
    pub initiator_depth: u8,
    /// RDMA READs the host wants to issue.
    pub responder_resources: u8,
}

/// Connection manager events, already acknowledged. Tokens are those set with
/// [`Provider::set_connection_token`] or [`Provider::listen`].
#[derive(Debug)]
pub enum ConnectionEvent<P: Provider> {
    /// A host wants to connect.
    Request(Box<ConnectRequest<P>>),
    /// The host confirmed: the connection is up.
    Established(u64),
    /// The host disconnected, or answered our disconnect.
    Disconnected(u64),
    /// The connect failed (unreachable, rejected, address, route or connect error), with the event's number.
    Failed(u64, u32),
    /// An identifier of [`Provider::resolve`] knows its way: it can connect.
    Resolved(u64),
    /// The old connection's packets can no longer arrive.
    TimewaitExit(u64),
    /// The device under this identifier or listener goes away.
    DeviceRemoval(u64),
    /// The address under this identifier changed.
    AddressChange(u64),
}

/// RDMA as the engine sees it. See the module's text for the ownership rules.
pub trait Provider: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// An open device.
    type Device: std::fmt::Debug + Clone + Send + Sync + 'static;
    /// A protection domain.
    type ProtectionDomain: std::fmt::Debug + Clone + Send + Sync + 'static;
    /// A registered memory region; holds its memory.
    type MemoryRegion: std::fmt::Debug + Send + 'static;
    /// A completion queue with its own completion channel.
    type CompletionQueue: std::fmt::Debug + Clone + Send + Sync + 'static;
    /// A shared receive queue.
    type SharedReceiveQueue: std::fmt::Debug + Clone + Send + Sync + 'static;
    /// A queue pair.
    type QueuePair: std::fmt::Debug + Send + 'static;
    /// A connection manager identifier. Dropping it may send a message: keep it while the link is down.
    type ConnectionId: std::fmt::Debug + Send + 'static;
    /// A listening identifier.
    type Listener: std::fmt::Debug + Send + 'static;

    /// Objects of this process whose destruction the system refused, with all they refer to: kept for ever. Anything but
    /// 0 is a bug or a dead device.
    fn leaked_objects(&self) -> u64 {
        0
    }

    /// Every RDMA device of the system. An empty list is not an error.
    fn devices(&self) -> Result<Vec<DeviceInfo>, ProviderError>;
    /// Opens a device by its name.
    fn open_device(&self, name: &str) -> Result<Self::Device, ProviderError>;
    /// Limits of the device.
    fn limits(&self, device: &Self::Device) -> Result<DeviceLimits, ProviderError>;
    /// The port's level now.
    fn port_state(&self, device: &Self::Device) -> Result<PortState, ProviderError>;
    /// Largest payload of a packet in bytes now: queue pairs made for larger ones cannot go on.
    fn active_mtu(&self, device: &Self::Device) -> Result<u32, ProviderError>;
    /// Descriptor that becomes readable on async events; `None` if the provider has none (`sim`, unless told to).
    fn async_event_fd(&self, device: &Self::Device) -> Option<RawFd>;
    /// The next async event, acknowledged; `None` when there is none now. Events belong to the device and not to a
    /// handle: whoever opens a device twice must read them in one place.
    fn next_async_event(&self, device: &Self::Device) -> Option<AsyncEvent>;

    /// `ibv_alloc_pd`.
    fn allocate_protection_domain(&self, device: &Self::Device) -> Result<Self::ProtectionDomain, ProviderError>;
    /// `ibv_reg_mr` over `length` bytes from `offset` of the arena; the region keeps the arena alive.
    fn register_memory(
        &self,
        domain: &Self::ProtectionDomain,
        arena: &Arena,
        offset: usize,
        length: usize,
        access: MemoryAccess,
    ) -> Result<Self::MemoryRegion, ProviderError>;
    /// Local key of a region.
    fn local_key(&self, region: &Self::MemoryRegion) -> u32;
    /// `ibv_create_cq` with a completion channel of its own.
    fn create_completion_queue(
        &self,
        device: &Self::Device,
        entries: u32,
    ) -> Result<Self::CompletionQueue, ProviderError>;
    /// `ibv_create_srq`.
    fn create_shared_receive_queue(
        &self,
        domain: &Self::ProtectionDomain,
        entries: u32,
    ) -> Result<Self::SharedReceiveQueue, ProviderError>;
    /// `ibv_create_qp` (reliable connected, not owned by the connection identifier).
    fn create_queue_pair(
        &self,
        domain: &Self::ProtectionDomain,
        parameters: &QueuePairParameters<'_, Self>,
    ) -> Result<Self::QueuePair, ProviderError>;
    /// The queue pair's number.
    fn queue_pair_number(&self, queue_pair: &Self::QueuePair) -> u32;
    /// INIT → RTR → RTS for this connection, with our own retry counts and timeout. Call it before the accept.
    fn ready_queue_pair(
        &self,
        queue_pair: &mut Self::QueuePair,
        connection: &Self::ConnectionId,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError>;
    /// Moves the queue pair to the error state: everything posted will be flushed. Idempotent.
    fn fail_queue_pair(&self, queue_pair: &mut Self::QueuePair) -> Result<(), ProviderError>;

    /// Posts receives, in order. On error the count that was posted is in the error.
    fn post_receives(
        &self,
        queue: &Self::SharedReceiveQueue,
        requests: &[ReceiveWorkRequest],
    ) -> Result<(), (usize, ProviderError)>;
    /// Posts a chain of sends with one doorbell (`verbs`: one for each 32). On error the count that was posted is in the
    /// error: fail the queue pair then. A posted unsignaled request that was executed before the failure makes no
    /// completion of its own, ever; one that was not is flushed.
    fn post_sends(
        &self,
        queue_pair: &mut Self::QueuePair,
        requests: &[SendWorkRequest],
    ) -> Result<(), (usize, ProviderError)>;
    /// `ibv_poll_cq` into `completions`; the number filled in. Fewer than asked for: the queue was empty then.
    fn poll_completions(
        &self,
        queue: &Self::CompletionQueue,
        completions: &mut [WorkCompletion],
    ) -> Result<usize, ProviderError>;
    /// Asks for one notification at the next completion (`ibv_req_notify_cq`). Poll once more after it.
    fn arm_completion_queue(&self, queue: &Self::CompletionQueue) -> Result<(), ProviderError>;
    /// Descriptor that becomes readable on notification; `None` if the provider has none (`sim`, unless told to).
    fn completion_fd(&self, queue: &Self::CompletionQueue) -> Option<RawFd>;
    /// Takes and acknowledges pending notifications.
    fn take_completion_notifications(&self, queue: &Self::CompletionQueue);

    /// Descriptor of the connection manager's event channel; `None` if the provider has none (`sim`, unless told to), or
    /// RDMA is not there yet: ask again after a successful [`Provider::listen`].
    fn connection_event_fd(&self) -> Option<RawFd>;
    /// The next connection manager event, acknowledged; `None` when there is none now.
    fn next_connection_event(&self) -> Option<ConnectionEvent<Self>>;
    /// Binds and listens. `token` names the listener in events. Errors tell address-in-use, address-not-available
    /// and no-device apart by `errno`.
    fn listen(&self, address: SocketAddr, token: u64, backlog: u32) -> Result<Self::Listener, ProviderError>;
    /// Name of the device the listener is bound to.
    fn listener_device(&self, listener: &Self::Listener) -> Result<String, ProviderError>;
    /// Names a connection in later events. A fresh request has token 0.
    fn set_connection_token(&self, connection: &mut Self::ConnectionId, token: u64);
    /// Accepts with the queue pair of this number (a poller owns it by now); it must be in RTS with receives posted.
    fn accept(
        &self,
        connection: &Self::ConnectionId,
        queue_pair_number: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError>;
    /// Rejects with private data (`recfmt`, `sts`).
    fn reject(&self, connection: &Self::ConnectionId, private_data: &[u8]) -> Result<(), ProviderError>;
    /// Sends a disconnect, or answers the peer's. Never call it while the link is down. The `Disconnected` that follows
    /// ours comes when the peer answers or the connection manager's retries run out (many seconds): do not wait for it
    /// before dropping the identifier.
    fn disconnect(&self, connection: &Self::ConnectionId) -> Result<(), ProviderError>;

    /// Begins a connect of our own to a listener at one of this machine's addresses: finds the device and the way.
    /// Nothing is sent. `token` names the identifier in events; [`ConnectionEvent::Resolved`] or
    /// [`ConnectionEvent::Failed`] follows.
    fn resolve(&self, own: SocketAddr, token: u64) -> Result<Self::ConnectionId, ProviderError>;
    /// Sends the connect request of a resolved identifier. There is no queue pair behind it: the listener must reject it,
    /// and [`ConnectionEvent::Failed`] follows. Never call it while the link is down, nor drop the identifier before that
    /// event while the link is down.
    fn connect(&self, connection: &Self::ConnectionId, private_data: &[u8]) -> Result<(), ProviderError>;
}

/// Reject reasons and defaults that belong to the transport, not to one provider.
pub const DEFAULT_CONNECT_RETRY: ConnectParameters = ConnectParameters {
    responder_resources: 0,
    initiator_depth: 1,
    retry_count: 7,
    rnr_retry_count: 7,
    ack_timeout: 16,
};

/// Longest time a provider call may take before the engine reports it as stuck.
pub const PROVIDER_CALL_WARN: Duration = Duration::from_secs(2);
