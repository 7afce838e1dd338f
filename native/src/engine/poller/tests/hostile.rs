//! Hosts that break the rules: only they suffer.

use super::bench::{Bench, Told};
use super::host::{HostQueue, TestHost, keyed, open_queue, pattern};
use crate::backend::IoCompletion;
use crate::engine::messages::{CloseReason, Handle};
use crate::engine::token::{self, TokenKind};
use crate::nvme::command::CommandBuilder;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode::io;
use crate::nvme::status::StatusCode;

/// A bench with an innocent host and a culprit, each with an I/O queue.
fn two_hosts() -> (Bench, (TestHost, HostQueue), (TestHost, HostQueue)) {
    let mut bench = Bench::new();
    let innocent = TestHost::connect(&mut bench);
    let innocent_queue = innocent.io_queue(&mut bench, 1);
    let sim = bench.add_host();
    let culprit = TestHost::connect_as(&mut bench, sim, "nqn.2026-11.dev.weir:culprit", 5000);
    let culprit_queue = culprit.io_queue(&mut bench, 1);
    bench.take_told();
    (bench, (innocent, innocent_queue), (culprit, culprit_queue))
}

fn assert_only_culprit_is_gone(bench: &mut Bench, innocent: &(TestHost, HostQueue), culprit: &(TestHost, HostQueue)) {
    bench.run();
    assert!(!culprit.0.sim.is_connected(culprit.1.connection));
    assert!(!culprit.0.sim.is_connected(culprit.0.admin.connection));
    assert!(bench.take_told().contains(&Told::Drained(CloseReason::ProtocolError)));
    assert_eq!(bench.poller.association_count(), 1);
    let data = pattern(5, 3);
    assert!(innocent.0.write(bench, innocent.1, 0, &data).status.is_success());
    assert_eq!(innocent.0.read(bench, innocent.1, 0, 3), data);
}

#[test]
fn a_capsule_shorter_than_a_command_ends_its_association() {
    let (mut bench, innocent, culprit) = two_hosts();
    culprit.0.sim.send(culprit.1.connection, &[0; 63]);
    assert_only_culprit_is_gone(&mut bench, &innocent, &culprit);
}

#[test]
fn an_empty_capsule_ends_its_association() {
    let (mut bench, innocent, culprit) = two_hosts();
    culprit.0.sim.send(culprit.1.connection, &[]);
    assert_only_culprit_is_gone(&mut bench, &innocent, &culprit);
}

#[test]
fn a_capsule_longer_than_a_receive_ends_its_association() {
    let (mut bench, innocent, culprit) = two_hosts();
    culprit.0.sim.send(culprit.1.connection, &vec![0; 64 + 4096 + 1]);
    assert_only_culprit_is_gone(&mut bench, &innocent, &culprit);
}

#[test]
fn more_commands_than_the_queue_has_entries_end_the_association() {
    let (mut bench, innocent, culprit) = two_hosts();
    bench.backend.hold(true);
    for _ in 0..129 {
        culprit
            .0
            .post(culprit.1, &CommandBuilder::new(io::FLUSH, 1).namespace(1).build(), &[]);
    }
    bench.run();
    bench.backend.hold(false);
    assert_only_culprit_is_gone(&mut bench, &innocent, &culprit);
}

#[test]
fn in_capsule_data_beyond_the_capsule_is_refused_by_status() {
    let (mut bench, _, culprit) = two_hosts();
    for (offset, length) in [(1, 4096), (4096, 4096), (u64::MAX, 4096), (u64::MAX - 4095, 4096)] {
        let pointer = DataPointer::InCapsule { offset, length };
        let command = culprit.0.io(io::WRITE, 0, 1).data(pointer).build();
        let completion = culprit.0.command(&mut bench, culprit.1, command, &[1; 4096]);
        assert_eq!(
            completion.status,
            StatusCode::SglOffsetInvalid.permanent(),
            "{offset} {length}"
        );
    }
    assert!(culprit.0.sim.is_connected(culprit.1.connection));
    assert_eq!(bench.poller.request_count(), 0);
}

#[test]
fn wrong_lengths_and_types_of_data_pointers_are_refused_by_status() {
    let (mut bench, _, culprit) = two_hosts();
    let host = &culprit.0;
    let region = host.sim.register(8192);
    let two_blocks_for_one = host.io(io::WRITE, 0, 1).data(keyed(region)).build();
    let completion = host.command(&mut bench, culprit.1, two_blocks_for_one, &[]);
    assert_eq!(completion.status, StatusCode::DataSglLengthInvalid.permanent());
    let read_into_capsule = host
        .io(io::READ, 0, 1)
        .data(DataPointer::InCapsule {
            offset: 0,
            length: 4096,
        })
        .build();
    let completion = host.command(&mut bench, culprit.1, read_into_capsule, &[0; 4096]);
    assert_eq!(completion.status, StatusCode::SglDescriptorTypeInvalid.permanent());
    let unknown_type = host.io(io::READ, 0, 1).byte(39, 0x5a).build();
    let completion = host.command(&mut bench, culprit.1, unknown_type, &[]);
    assert_eq!(completion.status, StatusCode::SglDescriptorTypeInvalid.permanent());
    let not_sgl = host.io(io::READ, 0, 1).byte(1, 0).build();
    let completion = host.command(&mut bench, culprit.1, not_sgl, &[]);
    assert_eq!(completion.status, StatusCode::InvalidField.permanent());
}

#[test]
fn a_transfer_larger_than_hosts_were_told_is_refused() {
    let (mut bench, _, culprit) = two_hosts();
    let (command, _) = culprit.0.read_command(0, 33);
    let completion = culprit.0.command(&mut bench, culprit.1, command, &[]);
    assert_eq!(completion.status, StatusCode::InvalidField.permanent());
}

#[test]
fn a_write_whose_memory_is_gone_ends_the_culprit_only_and_is_not_executed() {
    let (mut bench, innocent, culprit) = two_hosts();
    let (command, region) = culprit.0.write_command(100, &pattern(1, 4));
    culprit.0.sim.release(region);
    culprit.0.post(culprit.1, &command, &[]);
    bench.run();
    assert!(!culprit.0.sim.is_connected(culprit.1.connection));
    assert!(bench.backend.executed().is_empty());
    assert!(
        innocent
            .0
            .write(&mut bench, innocent.1, 0, &pattern(5, 3))
            .status
            .is_success()
    );
}

#[test]
fn connect_data_of_the_wrong_length_or_without_names_is_refused() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let names_missing = host.sim.register_bytes(&[b'x'; 1024]);
    let short = host.sim.register(512);
    let statuses = [
        (names_missing, StatusCode::ConnectInvalidParameters),
        (short, StatusCode::DataSglLengthInvalid),
    ];
    for (region, expected) in statuses {
        let queue = open_queue(&mut bench, &host.sim, 0, 32);
        let command = CommandBuilder::fabrics(1, 7).dword(11, 31).data(keyed(region)).build();
        let completion = host.command(&mut bench, queue, command, &[]);
        assert_eq!(completion.status.code, expected);
        assert!(!host.sim.is_connected(queue.connection));
    }
    assert_eq!(bench.poller.association_count(), 1);
}

#[test]
fn backend_completions_that_nobody_waits_for_are_counted_and_dropped() {
    let (mut bench, innocent, _) = two_hosts();
    let never = Handle {
        slot: 5,
        generation: 77,
    };
    for token in [
        0,
        u64::MAX,
        token::pack(TokenKind::Backend, never),
        token::pack(TokenKind::Response, never),
    ] {
        bench.backend.inject(IoCompletion { token, errno: 0 });
        bench.run();
    }
    assert_eq!(bench.counters.stale_completions.get(), 4);
    assert!(
        innocent
            .0
            .write(&mut bench, innocent.1, 0, &pattern(5, 1))
            .status
            .is_success()
    );
}

#[test]
fn messages_for_what_is_gone_are_counted_and_dropped() {
    use crate::engine::messages::{Epoch, ToPoller};
    let (mut bench, innocent, _) = two_hosts();
    let gone = Handle {
        slot: 0,
        generation: 999,
    };
    bench.send(ToPoller::Close(gone, CloseReason::HostDisconnected));
    bench.send(ToPoller::Established(gone));
    bench.send(ToPoller::Hold(super::bench::PORT, Epoch(99)));
    bench.send(ToPoller::Resume(super::bench::PORT, Epoch(1)));
    bench.send(ToPoller::Drain(super::bench::PORT, Epoch(99), bench.now));
    bench.run();
    assert_eq!(bench.counters.stale_messages.get(), 5);
    assert!(
        innocent
            .0
            .write(&mut bench, innocent.1, 0, &pattern(5, 1))
            .status
            .is_success()
    );
}
