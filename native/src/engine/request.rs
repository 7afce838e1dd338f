//! A request: one command from its capsule to its response.
//!
//! ```text
//! capsule ──▶ Planned ──▶ Parked (fence) ──▶ WaitingBuffer ──▶ FetchQueued ──▶ Fetching ──▶ WaitingBackend ──▶ Backend
//!                │                                 │                              │                              │
//!                └─────────────────────────────────┴──────────────────────────────┴──▶ ResponseQueued ──▶ Responding ──▶ gone
//! ```
//! A request lives until nothing posted and no backend I/O names its memory, whatever became of its queue pair.

use std::time::Instant;

use crate::backend::BackingId;
use crate::controller::{DeallocatePlan, IoKind, IoPlan};
use crate::engine::buffers::{Buffer, BufferClass};
use crate::engine::counters::Operation;
use crate::engine::fence::FencedWrite;
use crate::engine::list::Link;
use crate::engine::messages::{CloseReason, Handle};
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::ConnectCommand;
use crate::nvme::opcode::{self, DataDirection};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Being planned, in this very step.
    Planned,
    /// Behind a fence.
    Parked {
        /// The fence.
        fence: Handle,
        /// The fence's last question then: the answers to later ones are not waited for.
        question: u64,
    },
    /// In the queue for data buffers of this class.
    WaitingBuffer(BufferClass),
    /// In its queue pair's send list, for an RDMA READ.
    FetchQueued,
    /// The RDMA READ is posted.
    Fetching,
    /// In the queue for room in the backend's queue.
    WaitingBackend,
    /// Backend I/O is in flight.
    Backend,
    /// In its queue pair's send list, for its response.
    ResponseQueued,
    /// The response is posted.
    Responding,
}

/// What a request does once it has its buffers and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing but the response.
    Respond,
    /// Handle a Connect with its data.
    Connect(ConnectCommand),
    /// Hand the host's data to the controller.
    Receive,
    /// Let the controller fill data for the host.
    Produce,
    /// Backend I/O.
    Io(IoPlan),
    /// Backend I/Os, one after the other, of the ranges in the host's data.
    Deallocate(DeallocatePlan),
}

/// Where the host's data is, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostData {
    /// The command has none.
    None,
    /// Host memory.
    Keyed {
        /// Host's virtual address.
        address: u64,
        /// Host's key.
        key: u32,
    },
    /// In the receive, this far behind its first byte.
    InCapsule {
        /// Bytes from the start of the receive.
        at: u32,
    },
}

/// Work requests that the device still owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Posted {
    /// RDMA READ.
    pub fetch: bool,
    /// RDMA WRITE.
    pub data: bool,
    /// SEND.
    pub response: bool,
}

impl Posted {
    /// The device owns none.
    #[must_use]
    pub fn is_none(self) -> bool {
        !(self.fetch || self.data || self.response)
    }
}

/// What to do after the response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nothing.
    Continue,
    /// Take the queue pair down: the host asked for it, or was refused.
    Close(CloseReason),
}

/// One command in progress.
#[derive(Debug)]
pub struct Request {
    /// Its queue pair.
    pub queue_pair: Handle,
    /// Its port's share.
    pub share: Handle,
    /// The command.
    pub command: Command,
    /// When its capsule was taken.
    pub received_at: Instant,
    /// What it is counted as.
    pub operation: Operation,
    /// Where it stands.
    pub state: State,
    /// Its queue pair is being taken down: it ends without a response.
    pub abandoned: bool,
    /// Admin and Connect: may use the reserves.
    pub privileged: bool,
    /// Places in lists, by [`crate::engine::list::LinkKind`].
    pub links: [Link; 2],
    /// What is to be done.
    pub work: Work,
    /// Where the host's data is.
    pub host_data: HostData,
    /// Bytes moved between host and buffer.
    pub data_bytes: u32,
    /// Key to invalidate with the response.
    pub invalidate: Option<u32>,
    /// Receive that is still needed for its in-capsule data.
    pub receive: Option<u32>,
    /// Data buffers. Compare needs two: the host's data, then the backing's.
    pub buffers: [Option<Buffer>; 2],
    /// Work requests the device owns.
    pub posted: Posted,
    /// Backing it holds on to.
    pub backing: Option<BackingId>,
    /// A backend I/O is in flight; never more than one at a time.
    pub backend_io: bool,
    /// Backend I/Os looked at so far, of work that takes several.
    pub backend_stage: u16,
    /// Fence that counts its write: its association ended, or its host connected anew.
    pub fenced: Option<(Handle, FencedWrite)>,
    /// What the host is told.
    pub completion: Completion,
    /// Whether `data_bytes` are written to the host before the response.
    pub sends_data: bool,
    /// Slot of the response capsule.
    pub response: u32,
    /// What follows the response.
    pub after: After,
}

impl Request {
    /// Send-queue entries its next chain takes.
    #[must_use]
    pub fn send_credits(&self) -> u32 {
        match self.state {
            State::ResponseQueued if self.sends_data => 2,
            _ => 1,
        }
    }

    /// Nothing outside of the poller names its memory.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.posted.is_none() && !self.backend_io
    }

    /// It waits at this fence.
    #[must_use]
    pub fn is_parked_at(&self, fence: Handle) -> bool {
        matches!(self.state, State::Parked { fence: at, .. } if at == fence)
    }

    /// Its backend I/O changes the backing.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self.work {
            Work::Io(plan) => !matches!(plan.kind, IoKind::Read | IoKind::Compare | IoKind::Flush),
            Work::Deallocate(_) => true,
            Work::Respond | Work::Connect(_) | Work::Receive | Work::Produce => false,
        }
    }

    /// All it needs of its host has arrived and nothing holds it up: it will be executed even if nothing is heard of
    /// the host any more.
    #[must_use]
    pub fn is_independent_of_host(&self) -> bool {
        matches!(self.state, State::Backend | State::WaitingBackend)
    }

    /// The host's data is here, or none is needed.
    #[must_use]
    pub fn has_host_data(&self) -> bool {
        let fetched = matches!(self.host_data, HostData::Keyed { .. }) && self.buffers[0].is_some();
        let came_along = matches!(self.host_data, HostData::InCapsule { .. });
        !self.needs_host_data() || fetched || came_along
    }

    /// The host's data has to be there before the work can be done.
    #[must_use]
    pub fn needs_host_data(&self) -> bool {
        match self.work {
            Work::Connect(_) | Work::Receive => true,
            Work::Io(plan) => plan.direction() == DataDirection::FromHost,
            Work::Deallocate(_) | Work::Respond | Work::Produce => false,
        }
    }

    /// Data buffers the work takes: one for data on its way between host and target, unless it came in the capsule;
    /// one more to compare with.
    #[must_use]
    pub fn buffers_needed(&self) -> usize {
        let transfer = match self.host_data {
            HostData::Keyed { .. } if self.data_bytes > 0 => 1,
            HostData::Keyed { .. } | HostData::InCapsule { .. } | HostData::None => 0,
        };
        let compare = matches!(
            self.work,
            Work::Io(IoPlan {
                kind: IoKind::Compare,
                ..
            })
        );
        transfer + usize::from(compare)
    }
}

/// What a command is counted as.
#[must_use]
pub fn operation_of(command: &Command, queue_id: u16) -> Operation {
    if command.is_fabrics() {
        return Operation::Fabrics;
    }
    if queue_id == 0 {
        return Operation::Admin;
    }
    match command.opcode() {
        opcode::io::READ => Operation::Read,
        opcode::io::WRITE => Operation::Write,
        opcode::io::FLUSH => Operation::Flush,
        opcode::io::WRITE_ZEROES => Operation::WriteZeroes,
        opcode::io::DATASET_MANAGEMENT => Operation::Deallocate,
        opcode::io::COMPARE => Operation::Compare,
        _ => Operation::Admin,
    }
}
