//! What the poller does for a command.

use crate::backend::{BackingId, IoOperation};
use crate::nvme::bytes::{u32_at, u64_at};
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode::DataDirection;
use crate::nvme::status::{Status, StatusCode};

/// What the poller does next for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Plan {
    /// Answer now, without data.
    Complete(Completion),
    /// Fetch this many bytes from the host (in the capsule, or by RDMA READ), then call `received`.
    Receive {
        /// Bytes; equals the data pointer's length.
        length: u32,
    },
    /// Reserve a buffer, call `produce`, RDMA WRITE it to the host, then answer.
    Produce {
        /// Bytes; equals the data pointer's length.
        length: u32,
    },
    /// I/O on a backing.
    Io(IoPlan),
    /// Deallocate ranges of a backing; keep the data given to `received` until they are done.
    Deallocate(DeallocatePlan),
    /// An Async Event Request: answered later through `next_event`.
    Hold,
    /// Answer, then close this queue (Fabrics Disconnect).
    CompleteAndClose(Completion),
}

impl Plan {
    /// Answers with a status.
    pub fn fail(command: &Command, status: Status) -> Self {
        Self::Complete(Completion::with_status(command, status))
    }

    /// Answers with success.
    pub fn succeed(command: &Command) -> Self {
        Self::Complete(Completion::success(command))
    }

    /// Bytes that move between host and target, and which way.
    #[must_use]
    pub fn transfer(&self) -> (DataDirection, u32) {
        match *self {
            Self::Receive { length } => (DataDirection::FromHost, length),
            Self::Produce { length } => (DataDirection::ToHost, length),
            Self::Io(ref plan) => (plan.direction(), plan.transfer_bytes()),
            Self::Complete(_) | Self::Deallocate(_) | Self::Hold | Self::CompleteAndClose(_) => {
                (DataDirection::None, 0)
            }
        }
    }

    /// The plan, or the failure when the command's data pointer does not fit it: a length other than the transfer's,
    /// data of the wrong place, in-capsule data outside of the capsule.
    pub(super) fn checked_against_data_pointer(self, command: &Command, in_capsule_bytes: u32) -> Self {
        if matches!(self, Self::Complete(completion) if !completion.status.is_success()) {
            return self;
        }
        let (direction, length) = self.transfer();
        // Commands without data carry a descriptor of zeroes; its type is of no interest.
        if direction == DataDirection::None {
            return self;
        }
        match check_data_pointer(command, direction, length, in_capsule_bytes) {
            Ok(()) => self,
            Err(status) => Self::fail(command, status),
        }
    }
}

/// Checks that the data pointer describes exactly the transfer's bytes, in a place the direction can use.
pub(super) fn check_data_pointer(
    command: &Command,
    direction: DataDirection,
    length: u32,
    in_capsule_bytes: u32,
) -> Result<(), Status> {
    let pointer = command.data_pointer()?;
    if pointer.length() != length {
        return Err(StatusCode::DataSglLengthInvalid.permanent());
    }
    match pointer {
        DataPointer::Keyed { .. } => Ok(()),
        DataPointer::InCapsule { .. } if direction == DataDirection::FromHost => {
            pointer.in_capsule_range(in_capsule_bytes).map(|_| ())
        }
        DataPointer::InCapsule { .. } => Err(StatusCode::SglDescriptorTypeInvalid.permanent()),
    }
}

/// Kind of an I/O, with what the backend must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// Backing → host.
    Read,
    /// Host → backing.
    Write {
        /// On stable storage when it completes (FUA, or the volatile write cache is switched off).
        durable: bool,
    },
    /// Host's data against the backing's: the engine reads the backing into a second buffer and compares.
    Compare,
    /// Makes earlier writes durable.
    Flush,
    /// Zeroes blocks.
    WriteZeroes {
        /// Space may be given back.
        deallocate: bool,
        /// A backend Flush must follow before the command is answered.
        durable: bool,
    },
    /// Gives blocks back (one range of a [`DeallocatePlan`]).
    Deallocate,
}

/// One I/O on a backing. Bounds, access and sizes are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPlan {
    /// Namespace id.
    pub namespace_id: u32,
    /// Backing of the namespace.
    pub backing: BackingId,
    /// Kind.
    pub kind: IoKind,
    /// First byte on the backing.
    pub offset: u64,
    /// Bytes on the backing; 0 for Flush.
    pub length: u64,
}

impl IoPlan {
    /// Which way the host's data moves.
    #[must_use]
    pub const fn direction(&self) -> DataDirection {
        match self.kind {
            IoKind::Read => DataDirection::ToHost,
            IoKind::Write { .. } | IoKind::Compare => DataDirection::FromHost,
            IoKind::Flush | IoKind::WriteZeroes { .. } | IoKind::Deallocate => DataDirection::None,
        }
    }

    /// Bytes that move between host and target.
    #[must_use]
    pub const fn transfer_bytes(&self) -> u32 {
        match self.direction() {
            DataDirection::None => 0,
            // At most the largest transfer, which fits 32 bits.
            DataDirection::FromHost | DataDirection::ToHost => self.length as u32,
        }
    }

    /// The backend's operation; Compare reads.
    #[must_use]
    pub const fn backend_operation(&self) -> IoOperation {
        match self.kind {
            IoKind::Read | IoKind::Compare => IoOperation::Read,
            IoKind::Write { durable } => IoOperation::Write { durable },
            IoKind::Flush => IoOperation::Flush,
            IoKind::WriteZeroes { deallocate, .. } => IoOperation::WriteZeroes { deallocate },
            IoKind::Deallocate => IoOperation::Deallocate,
        }
    }

    /// The answer to the command when the backend ended with `errno` (0: success).
    #[must_use]
    pub fn completion(&self, command: &Command, errno: i32) -> Completion {
        Completion::with_status(command, self.status_of_errno(errno))
    }

    /// The answer to a Compare whose data differ.
    #[must_use]
    pub fn compare_failure(command: &Command) -> Completion {
        Completion::with_status(command, StatusCode::CompareFailure.permanent())
    }

    /// Status of a backend's `errno`. Only what another try cannot mend carries DNR.
    #[must_use]
    pub fn status_of_errno(&self, errno: i32) -> Status {
        match errno {
            0 => Status::SUCCESS,
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => StatusCode::CapacityExceeded.permanent(),
            libc::EROFS | libc::EPERM => StatusCode::NamespaceWriteProtected.permanent(),
            libc::EACCES | libc::ENODATA => StatusCode::AccessDenied.permanent(),
            libc::EOPNOTSUPP => StatusCode::InvalidOpcode.permanent(),
            libc::EREMOTEIO => StatusCode::LbaOutOfRange.permanent(),
            libc::EAGAIN | libc::ENOMEM | libc::EINTR | libc::ENOBUFS => StatusCode::InternalError.retryable(),
            _ => match self.kind {
                IoKind::Read | IoKind::Compare => StatusCode::UnrecoveredReadError.retryable(),
                IoKind::Write { .. } | IoKind::WriteZeroes { .. } => StatusCode::WriteFault.retryable(),
                IoKind::Flush | IoKind::Deallocate => StatusCode::InternalError.retryable(),
            },
        }
    }
}

/// Bytes of a Dataset Management range: context attributes, length in blocks, first block.
pub const RANGE_BYTES: usize = 16;
/// Most ranges of one Dataset Management.
pub const RANGES_MAX: u16 = 256;

/// Deallocation of the ranges of one Dataset Management. All of them are checked; the ranges themselves stay in the
/// data that the host sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeallocatePlan {
    /// Namespace id.
    pub namespace_id: u32,
    /// Backing of the namespace.
    pub backing: BackingId,
    /// Ranges in the data.
    pub ranges: u16,
    /// Logical block size as a power of two.
    pub block_shift: u8,
}

impl DeallocatePlan {
    /// The I/O of range `index` (0 to `ranges` - 1), from the data that was given to `received`. `None` for a range
    /// of no blocks, which is skipped, and beyond the last.
    #[must_use]
    pub fn range(&self, data: &[u8], index: u16) -> Option<IoPlan> {
        if index >= self.ranges {
            return None;
        }
        let range = data.chunks_exact(RANGE_BYTES).nth(usize::from(index))?;
        let (starting_lba, blocks) = parse_range(range);
        (blocks > 0).then(|| IoPlan {
            namespace_id: self.namespace_id,
            backing: self.backing,
            kind: IoKind::Deallocate,
            offset: starting_lba << self.block_shift,
            length: u64::from(blocks) << self.block_shift,
        })
    }
}

/// First block and number of blocks of a range of 16 bytes.
pub(super) fn parse_range(range: &[u8]) -> (u64, u32) {
    (u64_at(range, 8), u32_at(range, 4))
}
