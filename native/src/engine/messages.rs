//! What the control thread and the pollers tell each other. Messages own what they carry and name things by
//! generational handles; a message for a dead generation is dropped and counted by its receiver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::{Backend, BackingId};
use crate::engine::buffers::BufferRegion;
use crate::engine::counters::PortCounters;
use crate::engine::fence::Asker;
use crate::provider::{Provider, ProviderError};
use crate::subsystem::model::Model;

/// Position and generation of a value in a table: stale when the generation differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    /// Index in the table.
    pub slot: u32,
    /// Count of values that lived in this slot.
    pub generation: u32,
}

/// A port (a listener of the desired state) for its whole life in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// One term of service of a port. Starts at 1, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// A connection in the control thread's table (its connection identifier lives there).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub Handle);

/// Sizes every poller's share of a port is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSizing {
    /// Receives kept posted in the shared receive queue.
    pub receive_count: u32,
    /// Bytes of one receive: 64-byte command + in-capsule data.
    pub receive_bytes: u32,
    /// Bytes of a small data buffer.
    pub small_buffer_bytes: u32,
    /// Count of small data buffers. The first `request_count × 16 / small_buffer_bytes` of them (rounded up) hold the
    /// response capsules.
    pub small_buffer_count: u32,
    /// Bytes of a large data buffer (the maximum I/O size).
    pub large_buffer_bytes: u32,
    /// Count of large data buffers.
    pub large_buffer_count: u32,
    /// Requests in progress at once.
    pub request_count: u32,
    /// Completion queue entries.
    pub completion_entries: u32,
    /// SEND_WITH_INV is available.
    pub send_with_invalidate: bool,
}

/// A poller's share of a port for one epoch: completely built by the control thread, then owned by the poller, then
/// given back for destruction. Field order is destruction order.
#[derive(Debug)]
pub struct PortResources<P: Provider> {
    /// The port.
    pub port: PortId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Shared receive queue.
    pub shared_receive_queue: P::SharedReceiveQueue,
    /// Completion queue.
    pub completion_queue: P::CompletionQueue,
    /// Receive buffers, registered, by piece.
    pub receive_regions: Vec<BufferRegion<P>>,
    /// Small data buffers, registered, by piece.
    pub small_regions: Vec<BufferRegion<P>>,
    /// Large data buffers, registered, by piece.
    pub large_regions: Vec<BufferRegion<P>>,
    /// Sizes.
    pub sizing: PortSizing,
    /// Listener's name, for host lists.
    pub listener: Arc<str>,
    /// Counters of this port on this poller, the same for every epoch.
    pub counters: Arc<PortCounters>,
}

/// A queue pair in RTS, ready to be owned by a poller.
#[derive(Debug)]
pub struct NewQueuePair<P: Provider> {
    /// The control thread's record of it.
    pub connection: ConnectionKey,
    /// Port it belongs to.
    pub port: PortId,
    /// Epoch it belongs to.
    pub epoch: Epoch,
    /// The verbs object.
    pub queue_pair: P::QueuePair,
    /// Queue id from the private data (0: admin).
    pub queue_id: u16,
    /// Queue size in entries: the host's, capped by ours.
    pub queue_size: u16,
    /// Send-queue depth in work requests.
    pub send_work_requests_max: u32,
    /// RDMA READs that may be outstanding.
    pub read_depth: u8,
    /// The host's address.
    pub source: SocketAddr,
    /// Address and port the host connected to.
    pub local: SocketAddr,
}

/// Why a queue pair is taken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseReason {
    /// The host disconnected.
    HostDisconnected,
    /// Keep-alive expired.
    KeepAliveExpired,
    /// Another queue of the association died, or the controller was reset or shut down.
    AssociationEnded,
    /// A work request failed.
    TransportError,
    /// The host broke the protocol.
    ProtocolError,
    /// The host did not prove who it is.
    AuthenticationFailed,
    /// The port drains (link down, device gone, address gone).
    PortDraining,
    /// The desired state no longer allows it (subsystem, host or listener removed).
    NotAllowed,
    /// The process shuts down.
    Shutdown,
    /// The connection manager reported a failure before or after it was established.
    ConnectFailed,
}

/// Control thread → poller.
#[derive(Debug)]
pub enum ToPoller<P: Provider, B: Backend> {
    /// A new desired state; hosts are told what changed for them.
    Model(Arc<Model>),
    /// A backing may be used from now on (sent before the model that names it).
    AttachBacking(BackingId, Arc<B::Backing>),
    /// No model names this backing any more: answered by [`ToControl::BackingDetached`] after its last I/O.
    DetachBacking(BackingId),
    /// A port begins an epoch.
    AttachPort(Box<PortResources<P>>),
    /// More registered memory for a port served degraded: (port, epoch, small, large, receive).
    AddRegions {
        /// Port.
        port: PortId,
        /// Epoch.
        epoch: Epoch,
        /// Small data buffers.
        small: Vec<BufferRegion<P>>,
        /// Large data buffers.
        large: Vec<BufferRegion<P>>,
        /// Receives.
        receive: Vec<BufferRegion<P>>,
    },
    /// The link went down moments ago: post nothing, tear nothing down.
    Hold(PortId, Epoch),
    /// The link came back within the hold time: go on.
    Resume(PortId, Epoch),
    /// Safe drain of the port; what is unfinished at the deadline is quarantined.
    Drain(PortId, Epoch, Instant),
    /// Own this queue pair: answered by [`ToControl::Adopted`] or [`ToControl::Refused`].
    Adopt(Box<NewQueuePair<P>>),
    /// The connection manager reported it established.
    Established(Handle),
    /// Take one queue pair down.
    Close(Handle, CloseReason),
    /// A host connected to another poller: are writes of an earlier association of it on their way here? Answered by
    /// [`ToControl::FenceClear`] once there are none.
    FenceQuery {
        /// Who asks.
        asker: Asker,
        /// Host's NQN.
        host_nqn: String,
        /// Subsystem's NQN.
        subsystem_nqn: String,
    },
    /// Every other poller answered a question about this fence.
    FenceLifted {
        /// The fence.
        fence: Handle,
        /// The question.
        question: u64,
    },
    /// Stop accepting I/O with a path error, finish what is in flight, report [`ToControl::Quiet`].
    Quiesce,
    /// Leave the thread after everything is given back.
    Stop,
}

/// Poller → control thread.
#[derive(Debug)]
pub enum ToControl<P: Provider> {
    /// The queue pair lives in the poller's table under this handle.
    Adopted(ConnectionKey, Handle),
    /// The port or epoch is gone: here it is back, unused.
    Refused(ConnectionKey, P::QueuePair),
    /// Every work request of the queue pair is reaped and no backend I/O of it is in flight: destroy it; then
    /// disconnect the identifier (at once, or when the link is back).
    QueuePairDrained {
        /// Its record.
        connection: ConnectionKey,
        /// The verbs object.
        queue_pair: P::QueuePair,
        /// Why it was taken down.
        reason: CloseReason,
    },
    /// The port's share of this poller is drained: destroy and deregister.
    PortDrained(Box<PortResources<P>>),
    /// The drain deadline passed: (port, epoch) has unfinished work; [`ToControl::PortDrained`] follows when it ends.
    PortQuarantined {
        /// Port.
        port: PortId,
        /// Epoch.
        epoch: Epoch,
        /// Queue pairs not yet drained.
        queue_pairs: u32,
        /// Backend I/Os still in flight.
        backend_ios: u32,
    },
    /// The port's completion queue cannot be polled, and not for a moment only: nothing of its epoch can go on.
    QueueBroken {
        /// Port.
        port: PortId,
        /// Epoch.
        epoch: Epoch,
        /// What the provider said last.
        error: ProviderError,
    },
    /// A host connected: its I/O waits here until no other poller has writes of its earlier associations.
    FenceAsked {
        /// The fence; its poller is the one that says this.
        fence: Handle,
        /// Its number: every question of a poller has a higher one than those before.
        question: u64,
        /// Host's NQN.
        host_nqn: String,
        /// Subsystem's NQN.
        subsystem_nqn: String,
    },
    /// The answer to [`ToPoller::FenceQuery`]: no such write is on its way here any more.
    FenceClear(Asker),
    /// No I/O uses this backing any more.
    BackingDetached(BackingId),
    /// Something to report (hosts, errors); becomes a line of the event ring.
    Event(Box<PollerEvent>),
    /// After [`ToPoller::Quiesce`]: nothing is in flight.
    Quiet,
    /// Paths are inaccessible since this model or an earlier one: nothing is in flight, and every host that can be
    /// reached has read so.
    PathsClear {
        /// The model's.
        revision: u64,
    },
    /// The thread is leaving.
    Stopped,
}

/// What a poller reports for people and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollerEvent {
    /// An association's controller was created.
    HostConnected(HostIdentity),
    /// An association ended.
    HostDisconnected(HostIdentity, CloseReason),
    /// The number of an association's queue pairs changed.
    HostQueues {
        /// Subsystem NQN.
        subsystem_nqn: String,
        /// Controller id.
        controller_id: u16,
        /// Queue pairs now, the admin queue's included.
        queue_pairs: u16,
    },
    /// A Connect command was refused, or the authentication that followed it failed.
    ConnectRefused {
        /// NQN the host gave (may be hostile: at most 223 printable bytes are kept).
        host_nqn: String,
        /// NQN of the subsystem it asked for.
        subsystem_nqn: String,
        /// Host's address.
        source: SocketAddr,
        /// CamelCase: `HostNotAllowed`, `UnknownSubsystem`, `InvalidParameter`, `Busy`, `AuthenticationWrongResponse`, …
        reason: &'static str,
    },
    /// A queue pair that was taken down by itself did not give everything back in time: it is kept aside until it does.
    QueuePairQuarantined {
        /// Listener's name.
        listener: Arc<str>,
        /// Host's address.
        source: SocketAddr,
        /// Queue id; 0: admin.
        queue_id: u16,
        /// Why it was taken down.
        reason: CloseReason,
        /// Work requests that the device has not given back.
        work_requests: u32,
        /// I/Os that the backend has not given back.
        backend_ios: u32,
    },
    /// A backend I/O failed.
    BackendError {
        /// Subsystem.
        subsystem_nqn: String,
        /// Namespace.
        namespace_id: u32,
        /// errno.
        errno: i32,
    },
}

/// Who is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// Host NQN.
    pub host_nqn: String,
    /// Subsystem NQN.
    pub subsystem_nqn: String,
    /// Controller id.
    pub controller_id: u16,
    /// Host's address.
    pub source: SocketAddr,
    /// Listener's name.
    pub listener: Arc<str>,
    /// A discovery controller.
    pub discovery: bool,
}
