use std::sync::Arc;

use super::host::{Host, keyed, outcome};
use crate::backend::{BackingId, IoOperation};
use crate::controller::{DeallocatePlan, IoKind, IoPlan, Plan};
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::features::{HOST_BEHAVIOR_BYTES, feature};
use crate::nvme::opcode::io;
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::fixture;
use crate::subsystem::model::{Model, Namespace, Paths, Subsystem};

/// Blocks of the fixture's namespaces.
const SIZE_BLOCKS: u64 = 1 << 21;
const FORCED_UNIT_ACCESS: u32 = 1 << 30;

fn host() -> Host {
    Host::ready(fixture::model())
}

fn with_namespace(change: impl FnOnce(&mut Namespace)) -> Host {
    let mut subsystem = fixture::subsystem();
    change(&mut subsystem.namespaces[0]);
    Host::ready(Model {
        subsystems: vec![Arc::new(subsystem)],
        ..fixture::model()
    })
}

fn command(opcode: u8) -> CommandBuilder {
    CommandBuilder::new(opcode, 1).namespace(1)
}

/// Sets bits of dword 12, which also holds the number of blocks.
fn with_bits(builder: CommandBuilder, bits: u32) -> CommandBuilder {
    let dword12 = builder.build().dword(12);
    builder.dword(12, dword12 | bits)
}

fn plan(kind: IoKind, offset: u64, length: u64) -> IoPlan {
    IoPlan {
        namespace_id: 1,
        backing: BackingId(101),
        kind,
        offset,
        length,
    }
}

#[test]
fn reads_and_writes_become_byte_ranges_of_the_backing() {
    let mut host = host();
    assert_eq!(
        host.io(command(io::READ).blocks(8, 8), 4096),
        Ok(plan(IoKind::Read, 4096, 4096))
    );
    let write = plan(IoKind::Write { durable: false }, 0, 131_072);
    assert_eq!(host.io(command(io::WRITE).blocks(0, 256), 131_072), Ok(write));
    assert_eq!(
        host.io(command(io::COMPARE).blocks(1, 1), 512),
        Ok(plan(IoKind::Compare, 512, 512))
    );
}

#[test]
fn forced_unit_access_and_a_disabled_cache_make_writes_durable_where_there_is_a_cache() {
    let write = with_bits(command(io::WRITE).blocks(0, 1), FORCED_UNIT_ACCESS);
    let kind = |host: &mut Host, builder| host.io(builder, 512).unwrap().kind;
    assert_eq!(kind(&mut host(), write), IoKind::Write { durable: true });
    let mut uncached = with_namespace(|namespace| namespace.write_cache = false);
    assert_eq!(kind(&mut uncached, write), IoKind::Write { durable: false });
    let mut disabled = host();
    disabled.set_feature(0x06, 0).unwrap();
    assert_eq!(
        kind(&mut disabled, command(io::WRITE).blocks(0, 1)),
        IoKind::Write { durable: true }
    );
}

#[test]
fn flush_reaches_a_cache_and_is_done_at_once_without_one() {
    assert_eq!(host().io(command(io::FLUSH), 0), Ok(plan(IoKind::Flush, 0, 0)));
    let mut uncached = with_namespace(|namespace| namespace.write_cache = false);
    assert_eq!(uncached.io(command(io::FLUSH), 0), Err(Status::SUCCESS));
    let all = CommandBuilder::new(io::FLUSH, 1).namespace(u32::MAX);
    assert_eq!(host().io(all, 0), Err(StatusCode::InvalidNamespace.permanent()));
}

#[test]
fn write_zeroes_may_exceed_the_largest_transfer() {
    let zeroes = command(io::WRITE_ZEROES).blocks(0, 65536);
    let kind = IoKind::WriteZeroes {
        deallocate: false,
        durable: false,
    };
    assert_eq!(host().io(zeroes, 0), Ok(plan(kind, 0, 65536 * 512)));
    let zeroes = with_bits(zeroes, FORCED_UNIT_ACCESS | 1 << 25);
    let kind = IoKind::WriteZeroes {
        deallocate: true,
        durable: true,
    };
    assert_eq!(host().io(zeroes, 0).unwrap().kind, kind);
}

#[test]
fn blocks_beyond_the_end_are_refused_without_overflow() {
    let out_of_range = Err(StatusCode::LbaOutOfRange.permanent());
    let mut host = host();
    for opcode in [io::READ, io::WRITE, io::COMPARE, io::WRITE_ZEROES] {
        for first in [SIZE_BLOCKS - 7, SIZE_BLOCKS, u64::MAX - 7, u64::MAX, 1 << 55] {
            assert_eq!(
                host.io(command(opcode).blocks(first, 8), 4096),
                out_of_range,
                "opcode {opcode} at {first}"
            );
        }
    }
    assert!(host.io(command(io::READ).blocks(SIZE_BLOCKS - 8, 8), 4096).is_ok());
}

#[test]
fn transfers_beyond_the_limit_are_refused() {
    let read = command(io::READ).blocks(0, 257);
    assert_eq!(host().io(read, 257 * 512), Err(StatusCode::InvalidField.permanent()));
}

#[test]
fn the_data_pointer_must_describe_exactly_the_blocks() {
    let mut host = host();
    for length in [0, 4095, 8192] {
        let status = host.io(command(io::READ).blocks(0, 8), length).unwrap_err();
        assert_eq!(status, StatusCode::DataSglLengthInvalid.permanent(), "{length}");
    }
}

fn begin_with(host: &mut Host, builder: CommandBuilder, pointer: DataPointer, in_capsule_bytes: u32) -> Plan {
    host.controller
        .begin(1, &builder.data(pointer).build(), in_capsule_bytes, host.now)
}

#[test]
fn writes_may_come_in_the_capsule_and_reads_may_not() {
    let mut host = host();
    let write = command(io::WRITE).blocks(0, 8);
    let pointer = DataPointer::InCapsule {
        offset: 0,
        length: 4096,
    };
    assert!(matches!(begin_with(&mut host, write, pointer, 4096), Plan::Io(_)));
    let status = outcome(begin_with(&mut host, write, pointer, 4095)).unwrap_err();
    assert_eq!(status, StatusCode::SglOffsetInvalid.permanent());
    let overflowing = DataPointer::InCapsule {
        offset: u64::MAX - 4095,
        length: 4096,
    };
    let status = outcome(begin_with(&mut host, write, overflowing, 4096)).unwrap_err();
    assert_eq!(status, StatusCode::SglOffsetInvalid.permanent());
    let read = command(io::READ).blocks(0, 8);
    let status = outcome(begin_with(&mut host, read, pointer, 4096)).unwrap_err();
    assert_eq!(status, StatusCode::SglDescriptorTypeInvalid.permanent());
}

#[test]
fn read_only_namespaces_refuse_whatever_writes() {
    let mut host = with_namespace(|namespace| namespace.read_only = true);
    let protected = Err(StatusCode::NamespaceWriteProtected.permanent());
    assert_eq!(host.io(command(io::WRITE).blocks(0, 8), 4096), protected);
    assert_eq!(host.io(command(io::WRITE_ZEROES).blocks(0, 8), 0), protected);
    assert_eq!(host.io(command(io::DATASET_MANAGEMENT).dword(11, 4), 16), protected);
    assert!(host.io(command(io::READ).blocks(0, 8), 4096).is_ok());
    assert!(host.io(command(io::FLUSH), 0).is_ok());
}

#[test]
fn unknown_namespaces_and_opcodes_are_refused_for_good() {
    let mut host = host();
    for id in [0, 3, u32::MAX] {
        let read = CommandBuilder::new(io::READ, 1).namespace(id).blocks(0, 8);
        assert_eq!(host.io(read, 4096), Err(StatusCode::InvalidNamespace.permanent()));
    }
    for opcode in [0x04, 0x0d, 0x11, 0x79, 0xff] {
        assert_eq!(host.io(command(opcode), 0), Err(StatusCode::InvalidOpcode.permanent()));
    }
}

#[test]
fn while_leaving_io_fails_with_a_path_error_that_may_be_retried() {
    let mut host = host();
    let _ = host.apply(|model| model.paths = Paths::Inaccessible);
    for builder in [
        command(io::READ).blocks(0, 8),
        command(io::FLUSH),
        CommandBuilder::new(io::READ, 1).namespace(9),
    ] {
        assert_eq!(
            host.io(builder, 4096),
            Err(StatusCode::AsymmetricAccessInaccessible.retryable())
        );
    }
}

#[test]
fn while_leaving_a_host_that_heeds_delays_is_told_to_wait_before_it_tries_again() {
    let mut host = host();
    let mut behavior = [0; HOST_BEHAVIOR_BYTES as usize];
    for (acre, wants_delay) in [(1, true), (0, false)] {
        behavior[0] = acre;
        host.set_feature_data(feature::HOST_BEHAVIOR, &behavior).expect("known");
        let _ = host.apply(|model| model.paths = Paths::Inaccessible);
        let status = host.io(command(io::READ).blocks(0, 8), 4096).expect_err("inaccessible");
        assert_eq!(
            (status.code, status.delayed),
            (StatusCode::AsymmetricAccessInaccessible, wants_delay)
        );
        assert!(!status.do_not_retry);
    }
}

#[test]
fn io_on_a_queue_that_is_not_connected_is_out_of_sequence() {
    let mut host = host();
    let read = command(io::READ).blocks(0, 8).data(keyed(4096)).build();
    let status = outcome(host.begin(2, &read)).unwrap_err();
    assert_eq!(status.code, StatusCode::CommandSequenceError);
}

fn deallocate(ranges: &[(u64, u32)]) -> (Command, Vec<u8>) {
    let mut data = Vec::new();
    for (first, blocks) in ranges {
        data.extend(0_u32.to_le_bytes());
        data.extend(blocks.to_le_bytes());
        data.extend(first.to_le_bytes());
    }
    let command = command(io::DATASET_MANAGEMENT)
        .dword(10, ranges.len() as u32 - 1)
        .dword(11, 4)
        .data(keyed(data.len() as u32))
        .build();
    (command, data)
}

#[test]
fn deallocation_yields_one_io_for_each_range_and_skips_empty_ones() {
    let mut host = host();
    let (command, data) = deallocate(&[(8, 8), (0, 0), (SIZE_BLOCKS - 1, 1)]);
    assert_eq!(host.begin(1, &command), Plan::Receive { length: 48 });
    let Plan::Deallocate(plan) = host.controller.received(1, &command, &data, host.now) else {
        panic!("ranges are valid");
    };
    assert_eq!(
        plan,
        DeallocatePlan {
            namespace_id: 1,
            backing: BackingId(101),
            ranges: 3,
            block_shift: 9
        }
    );
    let ranges: Vec<_> = (0..4)
        .map(|index| plan.range(&data, index).map(|io| (io.offset, io.length)))
        .collect();
    assert_eq!(
        ranges,
        [Some((4096, 4096)), None, Some(((SIZE_BLOCKS - 1) * 512, 512)), None]
    );
    assert_eq!(
        plan.range(&data, 0).unwrap().backend_operation(),
        IoOperation::Deallocate
    );
}

#[test]
fn one_bad_range_refuses_them_all() {
    let mut host = host();
    for bad in [(SIZE_BLOCKS, 1), (u64::MAX, 1), (0, u32::MAX)] {
        let (command, data) = deallocate(&[(0, 8), bad]);
        assert_eq!(host.begin(1, &command), Plan::Receive { length: 32 });
        let status = outcome(host.controller.received(1, &command, &data, host.now)).unwrap_err();
        assert_eq!(status, StatusCode::LbaOutOfRange.permanent());
    }
    let (command, data) = deallocate(&[(0, 8)]);
    let status = outcome(host.controller.received(1, &command, &data[..12], host.now)).unwrap_err();
    assert_eq!(status, StatusCode::DataSglLengthInvalid.permanent());
}

#[test]
fn hints_without_deallocation_are_done_without_reading_them() {
    let hint = command(io::DATASET_MANAGEMENT).dword(11, 3);
    assert_eq!(host().io(hint, 16), Err(Status::SUCCESS));
}

#[test]
fn backend_errors_become_statuses_that_say_whether_to_try_again() {
    let status = |kind, errno| plan(kind, 0, 512).status_of_errno(errno);
    let write = IoKind::Write { durable: false };
    assert_eq!(status(IoKind::Read, 0), Status::SUCCESS);
    assert_eq!(
        status(IoKind::Read, libc::EIO),
        StatusCode::UnrecoveredReadError.retryable()
    );
    assert_eq!(status(write, libc::EIO), StatusCode::WriteFault.retryable());
    assert_eq!(status(write, libc::ENOSPC), StatusCode::CapacityExceeded.permanent());
    assert_eq!(
        status(write, libc::EROFS),
        StatusCode::NamespaceWriteProtected.permanent()
    );
    assert_eq!(status(IoKind::Flush, libc::EIO), StatusCode::InternalError.retryable());
    assert_eq!(
        status(IoKind::Deallocate, libc::EOPNOTSUPP),
        StatusCode::InvalidOpcode.permanent()
    );
}

#[test]
fn a_compare_that_differs_is_a_miscompare_and_echoes_the_command() {
    let command = CommandBuilder::new(io::COMPARE, 0xabcd).build();
    let completion = IoPlan::compare_failure(&command);
    assert_eq!((completion.command_id, completion.status.code as u16), (0xabcd, 0x285));
}

#[test]
fn large_blocks_shift_by_their_own_size() {
    let mut host = with_namespace(|namespace| {
        namespace.block_shift = 12;
        namespace.size_blocks = 1 << 18;
    });
    assert_eq!(
        host.io(command(io::READ).blocks(2, 1), 4096),
        Ok(plan(IoKind::Read, 8192, 4096))
    );
    let subsystem: &Subsystem = &host.model.subsystems[0];
    assert_eq!(subsystem.namespaces[0].block_shift, 12);
}
