//! Commands of I/O queues (NVM command set 1.0). Nothing here allocates.

use crate::nvme::command::Command;
use crate::nvme::fabrics::fabrics_type;
use crate::nvme::opcode::io;
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::model::Namespace;

use super::plan::{DeallocatePlan, IoKind, IoPlan, RANGE_BYTES, parse_range};
use super::{Controller, Kind, Plan};

/// FUA, bit 30 of dword 12.
const FORCED_UNIT_ACCESS: u32 = 1 << 30;
/// DEAC, bit 25 of dword 12 of Write Zeroes.
const DEALLOCATE_ZEROES: u32 = 1 << 25;
/// AD, bit 2 of dword 11 of Dataset Management.
const ATTRIBUTE_DEALLOCATE: u32 = 1 << 2;

impl Controller {
    pub(super) fn begin_io(&mut self, queue_id: u16, command: &Command) -> Plan {
        if command.is_fabrics() {
            return begin_fabrics_io(command);
        }
        let plan = self.plan_io(queue_id, command);
        if let Ok(Plan::Io(io)) = &plan {
            self.count(io);
        }
        plan.unwrap_or_else(|status| Plan::fail(command, status))
    }

    fn count(&mut self, io: &IoPlan) {
        match io.kind {
            IoKind::Read | IoKind::Compare => {
                self.counters.read_commands += 1;
                self.counters.bytes_read += io.length;
            }
            IoKind::Write { .. } => {
                self.counters.write_commands += 1;
                self.counters.bytes_written += io.length;
            }
            IoKind::Flush | IoKind::WriteZeroes { .. } | IoKind::Deallocate => {}
        }
    }

    pub(super) fn received_io(&mut self, command: &Command, data: &[u8]) -> Plan {
        let plan = match command.opcode() {
            io::DATASET_MANAGEMENT => self.plan_deallocate(command, data),
            _ => Err(StatusCode::InvalidOpcode.permanent()),
        };
        plan.unwrap_or_else(|status| Plan::fail(command, status))
    }

    fn plan_io(&self, queue_id: u16, command: &Command) -> Result<Plan, Status> {
        if !self.registers.ready() || !self.queues.is_connected(queue_id) {
            return Err(StatusCode::CommandSequenceError.retryable());
        }
        let opcode = command.opcode();
        if !matches!(
            opcode,
            io::FLUSH | io::READ | io::WRITE | io::COMPARE | io::WRITE_ZEROES | io::DATASET_MANAGEMENT
        ) {
            return Err(StatusCode::InvalidOpcode.permanent());
        }
        let namespace = self.namespace_for_io(command)?;
        let writes = matches!(opcode, io::WRITE | io::WRITE_ZEROES | io::DATASET_MANAGEMENT);
        if writes && namespace.read_only {
            return Err(StatusCode::NamespaceWriteProtected.permanent());
        }
        match opcode {
            io::FLUSH if namespace.write_cache => Ok(io_plan(namespace, IoKind::Flush, 0, 0)),
            io::FLUSH => Ok(Plan::succeed(command)),
            io::DATASET_MANAGEMENT => Ok(plan_dataset_management(command)),
            io::WRITE_ZEROES => {
                let (offset, length) = block_range(namespace, command)?;
                let deallocate = command.dword(12) & DEALLOCATE_ZEROES != 0;
                let kind = IoKind::WriteZeroes {
                    deallocate,
                    durable: self.durable(namespace, command),
                };
                Ok(io_plan(namespace, kind, offset, length))
            }
            _ => {
                let (offset, length) = block_range(namespace, command)?;
                if length > u64::from(self.limits.transfer_bytes_max()) {
                    return Err(StatusCode::InvalidField.permanent());
                }
                let kind = match opcode {
                    io::READ => IoKind::Read,
                    io::WRITE => IoKind::Write {
                        durable: self.durable(namespace, command),
                    },
                    _ => IoKind::Compare,
                };
                Ok(io_plan(namespace, kind, offset, length))
            }
        }
    }

    /// Whether a write must be on stable storage when it completes: FUA, or the host switched the cache off; where the
    /// backing has a cache at all.
    fn durable(&self, namespace: &Namespace, command: &Command) -> bool {
        let forced = command.dword(12) & FORCED_UNIT_ACCESS != 0;
        namespace.write_cache && (forced || !self.settings.write_cache)
    }

    fn namespace_for_io(&self, command: &Command) -> Result<&Namespace, Status> {
        let Kind::Subsystem(subsystem) = &self.kind else {
            return Err(StatusCode::InvalidOpcode.permanent());
        };
        if !self.model.paths.accessible() {
            // A path error without DNR: multipath goes elsewhere at once, a single path waits. A host without multipath
            // tries again on this path, and gives up after a few times: they are spread out.
            let status = StatusCode::AsymmetricAccessInaccessible.retryable();
            return Err(if self.settings.retries_after_delay() {
                status.after_delay()
            } else {
                status
            });
        }
        subsystem
            .namespace(command.namespace_id())
            .ok_or(StatusCode::InvalidNamespace.permanent())
    }

    fn plan_deallocate(&self, command: &Command, data: &[u8]) -> Result<Plan, Status> {
        let namespace = self.namespace_for_io(command)?;
        if namespace.read_only {
            return Err(StatusCode::NamespaceWriteProtected.permanent());
        }
        let ranges = range_count(command);
        if data.len() != usize::from(ranges) * RANGE_BYTES {
            return Err(StatusCode::DataSglLengthInvalid.permanent());
        }
        for range in data.chunks_exact(RANGE_BYTES) {
            let (starting_lba, blocks) = parse_range(range);
            check_blocks(namespace, starting_lba, u64::from(blocks))?;
        }
        Ok(Plan::Deallocate(DeallocatePlan {
            namespace_id: namespace.id,
            backing: namespace.backing,
            ranges,
            block_shift: namespace.block_shift,
        }))
    }
}

fn begin_fabrics_io(command: &Command) -> Plan {
    match command.fabrics_type() {
        fabrics_type::DISCONNECT if command.dword(10) & 0xffff != 0 => {
            Plan::fail(command, StatusCode::ConnectIncompatibleFormat.permanent())
        }
        fabrics_type::DISCONNECT => Plan::CompleteAndClose(crate::nvme::completion::Completion::success(command)),
        fabrics_type::CONNECT => Plan::fail(command, StatusCode::CommandSequenceError.permanent()),
        _ => Plan::fail(command, StatusCode::InvalidOpcode.permanent()),
    }
}

/// Ranges of a Dataset Management: 1 to 256.
fn range_count(command: &Command) -> u16 {
    (command.dword(10) & 0xff) as u16 + 1
}

/// Deallocation needs the ranges; the other attributes are hints that may be ignored without reading them.
fn plan_dataset_management(command: &Command) -> Plan {
    if command.dword(11) & ATTRIBUTE_DEALLOCATE == 0 {
        return Plan::succeed(command);
    }
    Plan::Receive {
        length: u32::from(range_count(command)) * RANGE_BYTES as u32,
    }
}

/// Byte offset and length of the command's blocks.
fn block_range(namespace: &Namespace, command: &Command) -> Result<(u64, u64), Status> {
    let (starting_lba, blocks) = (command.starting_lba(), u64::from(command.block_count()));
    check_blocks(namespace, starting_lba, blocks)?;
    Ok((starting_lba << namespace.block_shift, blocks << namespace.block_shift))
}

/// All blocks lie in the namespace. What passes cannot overflow when shifted to bytes: a namespace's size in bytes
/// fits 64 bits.
fn check_blocks(namespace: &Namespace, starting_lba: u64, blocks: u64) -> Result<(), Status> {
    match starting_lba.checked_add(blocks) {
        Some(end) if end <= namespace.size_blocks => Ok(()),
        _ => Err(StatusCode::LbaOutOfRange.permanent()),
    }
}

fn io_plan(namespace: &Namespace, kind: IoKind, offset: u64, length: u64) -> Plan {
    Plan::Io(IoPlan {
        namespace_id: namespace.id,
        backing: namespace.backing,
        kind,
        offset,
        length,
    })
}
