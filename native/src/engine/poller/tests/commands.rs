//! Commands that go well.

use super::bench::{BLOCK, Bench, IN_CAPSULE_BYTES};
use super::host::{TestHost, keyed, pattern};
use crate::backend::IoOperation;
use crate::engine::counters::Operation;
use crate::nvme::command::CommandBuilder;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode::{admin, io};
use crate::nvme::status::StatusCode;

#[test]
fn a_host_connects_writes_and_reads_back() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    for blocks in [1, 4, 5, 32] {
        let data = pattern(blocks as u8, blocks);
        assert!(host.write(&mut bench, queue, 10, &data).status.is_success());
        assert_eq!(host.read(&mut bench, queue, 10, blocks), data, "{blocks} blocks");
    }
    assert_eq!(bench.poller.request_count(), 0);
}

#[test]
fn a_host_identifies_its_controller() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let region = host.sim.register(4096);
    let identify = CommandBuilder::new(admin::IDENTIFY, host.command_id())
        .dword(10, 1)
        .data(keyed(region))
        .build();
    assert!(host.command(&mut bench, host.admin, identify, &[]).status.is_success());
    assert_eq!(host.sim.read(region)[78..80], host.controller_id.to_le_bytes());
}

#[test]
fn in_capsule_data_is_written_from_the_receive_itself() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let data = pattern(3, 1);
    let used_before = bench.port_counters.buffers_used.get();
    bench.backend.hold(true);
    let command = host
        .io(io::WRITE, 7, 1)
        .data(DataPointer::InCapsule {
            offset: 0,
            length: BLOCK,
        })
        .build();
    host.post(queue, &command, &data);
    bench.run();
    assert_eq!(bench.backend.held(), 1);
    assert_eq!(
        bench.port_counters.buffers_used.get(),
        used_before,
        "no data buffer is taken"
    );
    bench.backend.hold(false);
    bench.run();
    assert!(host.responses(queue)[0].status.is_success());
    assert_eq!(host.read(&mut bench, queue, 7, 1), data);
}

#[test]
fn in_capsule_data_may_stand_at_an_offset() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    // A range list of one entry, 100 bytes into the capsule.
    let mut capsule = vec![0; 116];
    capsule[104..108].copy_from_slice(&2_u32.to_le_bytes());
    capsule[108..116].copy_from_slice(&5_u64.to_le_bytes());
    let command = CommandBuilder::new(io::DATASET_MANAGEMENT, host.command_id())
        .namespace(1)
        .dword(11, 4)
        .data(DataPointer::InCapsule {
            offset: 100,
            length: 16,
        })
        .build();
    assert!(host.command(&mut bench, queue, command, &capsule).status.is_success());
    let (_, operation, offset, length) = *bench.backend.executed().last().unwrap();
    assert_eq!(
        (operation, offset, length),
        (IoOperation::Deallocate, 5 * 4096, 2 * 4096)
    );
}

#[test]
fn the_key_is_invalidated_only_when_the_host_asks_for_it() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let (command, region) = host.read_command(0, 1);
    host.post(queue, &command, &[]);
    bench.run();
    assert_eq!(
        host.sim.take_responses(queue.connection)[0].invalidated,
        Some(region.key)
    );
    assert!(!host.sim.is_valid(region));

    let region = host.sim.register(BLOCK as usize);
    let plain = DataPointer::Keyed {
        address: region.address,
        length: BLOCK,
        key: region.key,
        invalidate: false,
    };
    host.post(queue, &host.io(io::READ, 0, 1).data(plain).build(), &[]);
    bench.run();
    assert_eq!(host.sim.take_responses(queue.connection)[0].invalidated, None);
    assert!(host.sim.is_valid(region));
}

#[test]
fn without_the_device_s_help_no_key_is_invalidated() {
    let sizing = crate::engine::messages::PortSizing {
        send_with_invalidate: false,
        ..super::bench::sizing()
    };
    let mut bench = Bench::with_sizing(sizing);
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let (command, region) = host.read_command(0, 1);
    host.post(queue, &command, &[]);
    bench.run();
    assert_eq!(host.sim.take_responses(queue.connection)[0].invalidated, None);
    assert!(host.sim.is_valid(region));
}

#[test]
fn compare_tells_equal_from_different_data_keyed_and_in_the_capsule() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let data = pattern(9, 1);
    assert!(host.write(&mut bench, queue, 3, &data).status.is_success());
    let mut other = data.clone();
    other[4095] ^= 1;
    for (sent, expected) in [(&data, StatusCode::Success), (&other, StatusCode::CompareFailure)] {
        let region = host.sim.register_bytes(sent);
        let command = host.io(io::COMPARE, 3, 1).data(keyed(region)).build();
        assert_eq!(host.command(&mut bench, queue, command, &[]).status.code, expected);
        let pointer = DataPointer::InCapsule {
            offset: 0,
            length: IN_CAPSULE_BYTES,
        };
        let command = host.io(io::COMPARE, 3, 1).data(pointer).build();
        assert_eq!(host.command(&mut bench, queue, command, sent).status.code, expected);
    }
    assert_eq!(bench.poller.request_count(), 0);
}

#[test]
fn a_durable_write_zeroes_is_followed_by_a_flush() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    assert!(host.write(&mut bench, queue, 0, &pattern(1, 2)).status.is_success());
    let fua = 1 << 30;
    let command = host.io(io::WRITE_ZEROES, 0, 1).dword(12, fua).build();
    assert!(host.command(&mut bench, queue, command, &[]).status.is_success());
    let operations: Vec<_> = bench.backend.executed().iter().map(|executed| executed.1).collect();
    assert_eq!(
        operations[1..],
        [IoOperation::WriteZeroes { deallocate: false }, IoOperation::Flush]
    );
    assert_eq!(host.read(&mut bench, queue, 0, 1), vec![0; 4096]);
}

#[test]
fn every_range_of_a_deallocate_reaches_the_backend_and_empty_ones_are_skipped() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let mut ranges = Vec::new();
    for (block, blocks) in [(1_u64, 1_u32), (8, 0), (4, 2)] {
        ranges.extend_from_slice(&0_u32.to_le_bytes());
        ranges.extend_from_slice(&blocks.to_le_bytes());
        ranges.extend_from_slice(&block.to_le_bytes());
    }
    let region = host.sim.register_bytes(&ranges);
    let command = CommandBuilder::new(io::DATASET_MANAGEMENT, host.command_id())
        .namespace(1)
        .dword(10, 2)
        .dword(11, 4)
        .data(keyed(region))
        .build();
    assert!(host.command(&mut bench, queue, command, &[]).status.is_success());
    let executed: Vec<_> = bench
        .backend
        .executed()
        .iter()
        .map(|executed| (executed.2, executed.3))
        .collect();
    assert_eq!(executed, [(4096, 4096), (4 * 4096, 2 * 4096)]);
}

#[test]
fn backend_errors_become_statuses_and_events() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.fail(libc::EIO);
    assert_eq!(
        host.write(&mut bench, queue, 0, &pattern(1, 1)).status.code,
        StatusCode::WriteFault
    );
    let (command, region) = host.read_command(0, 1);
    assert_eq!(
        host.command(&mut bench, queue, command, &[]).status.code,
        StatusCode::UnrecoveredReadError
    );
    assert_eq!(host.sim.read(region), vec![0; 4096], "nothing is written to the host");
    let errors = format!("{:?}", bench.take_told());
    assert_eq!(errors.matches("BackendError").count(), 2);
}

#[test]
fn a_full_send_queue_makes_responses_wait_in_order() {
    let mut bench = Bench::new();
    bench.send_work_requests_max = 3;
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let commands: Vec<_> = (0..20).map(|block| host.read_command(block, 1).0).collect();
    for command in &commands {
        host.post(queue, command, &[]);
    }
    bench.run();
    let ids: Vec<_> = host
        .responses(queue)
        .iter()
        .map(|response| response.command_id)
        .collect();
    assert_eq!(
        ids,
        commands.iter().map(|command| command.command_id()).collect::<Vec<_>>()
    );
}

#[test]
fn a_batch_of_responses_takes_one_doorbell() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    for block in 0..8 {
        host.post(queue, &host.read_command(block, 1).0, &[]);
    }
    bench.run();
    let before = (bench.counters.doorbells.get(), bench.counters.send_work_requests.get());
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 8);
    let after = (bench.counters.doorbells.get(), bench.counters.send_work_requests.get());
    assert_eq!((after.0 - before.0, after.1 - before.1), (1, 16));
}

#[test]
fn operations_are_counted_with_bytes_and_time() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.read_command(0, 2).0, &[]);
    bench.run();
    bench.pass(std::time::Duration::from_millis(3));
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 1);
    let counters = std::sync::Arc::clone(&bench.counters);
    let reads = &counters.operations[Operation::Read as usize];
    assert_eq!((reads.count.get(), reads.bytes.get()), (1, 8192));
    assert_eq!(reads.duration.sum_nanoseconds.get(), 3_000_000);
    let (command, _) = host.read_command(1 << 40, 1);
    assert_eq!(
        host.command(&mut bench, queue, command, &[]).status.code,
        StatusCode::LbaOutOfRange
    );
    assert_eq!(bench.counters.errors[StatusCode::LbaOutOfRange.index()].get(), 1);
    assert_eq!(reads.bytes.get(), 8192);
    assert_eq!(bench.counters.operations[Operation::Fabrics as usize].count.get(), 3);
}
