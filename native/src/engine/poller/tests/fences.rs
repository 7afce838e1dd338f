//! A host that comes back waits for the writes of its earlier association.

use super::bench::{Bench, HOST, NAMESPACE_BYTES, SUBSYSTEM, ToTestPoller, Told};
use super::host::{HostQueue, TestHost, pattern};
use crate::engine::fence::Asker;
use crate::engine::messages::{Handle, ToPoller};
use crate::nvme::command::Command;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode::io;
use crate::nvme::properties::Configuration;

fn read_of(host: &TestHost, namespace_id: u32) -> Command {
    let region = host.sim.register(4096);
    host.io(io::READ, 0, 1)
        .namespace(namespace_id)
        .data(super::host::keyed(region))
        .build()
}

/// A host that left with a write in the backend, and has come back.
fn come_back(bench: &mut Bench) -> TestHost {
    let host = TestHost::connect(bench);
    let queue = host.io_queue(bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 1);
    host.sim.disconnect(host.admin.connection);
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
    let sim = bench.add_host();
    TestHost::connect_as(bench, sim, HOST, 5000)
}

#[test]
fn io_of_the_new_association_waits_for_the_old_one_s_write() {
    let mut bench = Bench::new();
    let host = come_back(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let newer = pattern(2, 1);
    host.post(queue, &host.write_command(0, &newer).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 1, "only the old write is in the backend");
    bench.backend.hold(false);
    bench.run();
    assert!(host.responses(queue)[0].status.is_success());
    assert_eq!(
        host.read(&mut bench, queue, 0, 1),
        newer,
        "the old write did not land after the newer one"
    );
    assert!(bench.poller.fences.is_empty());
}

#[test]
fn io_on_other_namespaces_and_of_other_hosts_does_not_wait() {
    let mut bench = Bench::new();
    let host = come_back(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let sim = bench.add_host();
    let other = TestHost::connect_as(&mut bench, sim, "nqn.2026-11.dev.weir:host-b", 5000);
    let other_queue = other.io_queue(&mut bench, 1);
    host.post(queue, &read_of(&host, 2), &[]);
    other.post(other_queue, &read_of(&other, 1), &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 3);
}

#[test]
fn reads_in_flight_make_no_fence() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.read_command(0, 1).0, &[]);
    bench.run();
    host.sim.disconnect(host.admin.connection);
    bench.run();
    assert!(bench.poller.fences.is_empty());
}

#[test]
fn a_reset_controller_s_io_waits_for_the_writes_before_the_reset() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    bench.run();
    host.configure(&mut bench, Configuration::DISABLE);
    host.configure(&mut bench, Configuration::ENABLE);
    let queue = host.io_queue(&mut bench, 2);
    let newer = pattern(2, 1);
    host.post(queue, &host.write_command(0, &newer).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 1);
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 1);
    assert_eq!(host.read(&mut bench, queue, 0, 1), newer);
}

#[test]
fn a_host_that_leaves_again_while_it_waits_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let host = come_back(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    host.post(queue, &read_of(&host, 1), &[]);
    bench.run();
    host.sim.disconnect(host.admin.connection);
    bench.run();
    assert_eq!(bench.poller.request_count(), 1, "the old write");
    bench.backend.hold(false);
    bench.run();
    assert!(bench.poller.fences.is_empty());
    assert_eq!(bench.backend.executed().len(), 1);
}

#[test]
fn a_parked_request_passes_once_its_namespace_is_clear_although_another_is_not() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    let zeroes = (NAMESPACE_BYTES >> 12) as u32;
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    host.post(queue, &host.io(io::WRITE_ZEROES, 0, zeroes).namespace(2).build(), &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 2);
    host.sim.disconnect(host.admin.connection);
    bench.run();
    let sim = bench.add_host();
    let host = TestHost::connect_as(&mut bench, sim, HOST, 5000);
    let queue = host.io_queue(&mut bench, 1);
    host.post(queue, &read_of(&host, 1), &[]);
    host.post(queue, &read_of(&host, 2), &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 2);
    bench.backend.release_one();
    bench.run();
    assert_eq!(
        bench.backend.held(),
        2,
        "namespace 2's write and the read of namespace 1"
    );
    bench.backend.hold(false);
    bench.run();
    assert_eq!(host.responses(queue).len(), 2);
}

#[test]
fn a_host_that_comes_back_before_its_old_association_is_known_dead_waits_too() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    bench.backend.limit_room(1);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    host.post(queue, &host.write_command(0, &pattern(2, 1)).0, &[]);
    bench.run();
    host.sim.crash(queue.connection);
    host.sim.crash(host.admin.connection);
    bench.run();
    assert_eq!(bench.poller.association_count(), 1, "nobody has told the target");
    let sim = bench.add_host();
    let again = TestHost::connect_as(&mut bench, sim, HOST, 5000);
    let queue = again.io_queue(&mut bench, 1);
    let newer = pattern(3, 1);
    again.post(queue, &again.write_command(0, &newer).0, &[]);
    bench.run();
    bench.backend.release_one();
    bench.run();
    assert_eq!(bench.backend.executed().len(), 1);
    assert!(again.responses(queue).is_empty());
    bench.backend.hold(false);
    bench.run();
    assert!(again.responses(queue)[0].status.is_success());
    assert_eq!(bench.backend.executed().len(), 3);
    assert_eq!(again.read(&mut bench, queue, 0, 1), newer);
}

#[test]
fn a_host_that_comes_back_twice_waits_for_what_its_second_association_had_waiting() {
    let mut bench = Bench::new();
    let second = come_back(&mut bench);
    let queue = second.io_queue(&mut bench, 1);
    let pointer = DataPointer::InCapsule {
        offset: 0,
        length: 4096,
    };
    second.post(queue, &second.io(io::WRITE, 0, 1).data(pointer).build(), &pattern(2, 1));
    second.post(queue, &second.write_command(0, &pattern(2, 1)).0, &[]);
    bench.run();
    second.sim.crash(queue.connection);
    let sim = bench.add_host();
    let third = TestHost::connect_as(&mut bench, sim, HOST, 5000);
    let queue = third.io_queue(&mut bench, 1);
    let newest = pattern(3, 1);
    third.post(queue, &third.write_command(0, &newest).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 1, "the first association's write");
    bench.backend.release_one();
    bench.run();
    assert_eq!(bench.backend.held(), 1, "the second one's");
    bench.backend.release_one();
    bench.run();
    assert_eq!(bench.backend.held(), 1, "the third one's");
    bench.backend.hold(false);
    bench.run();
    assert!(third.responses(queue)[0].status.is_success());
    assert_eq!(third.read(&mut bench, queue, 0, 1), newest);
}

fn fences_asked(told: &[Told]) -> Vec<(Handle, u64)> {
    let asked = told.iter().filter_map(|told| match told {
        Told::FenceAsked {
            fence,
            question,
            host_nqn,
            subsystem_nqn,
        } if host_nqn == HOST && subsystem_nqn == SUBSYSTEM => Some((*fence, *question)),
        _ => None,
    });
    asked.collect()
}

#[test]
fn io_of_a_host_waits_until_the_other_pollers_have_none_of_its_writes() {
    let mut bench = Bench::one_of_two();
    let host = TestHost::connect(&mut bench);
    let asked = fences_asked(&bench.take_told());
    let [(fence, first)] = asked[..] else {
        panic!("asked {asked:?}")
    };
    let queue = host.io_queue(&mut bench, 1);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    host.post(queue, &read_of(&host, 2), &[]);
    bench.run();
    assert!(bench.backend.executed().is_empty());
    assert!(host.responses(queue).is_empty());
    // Admin commands do not wait.
    TestHost::connect(&mut bench);
    let again = fences_asked(&bench.take_told());
    let [(same, second)] = again[..] else {
        panic!("asked {again:?}")
    };
    assert_eq!(same, fence, "a second association of the host waits at the same fence");
    let lifted = |question| ToPoller::FenceLifted { fence, question };
    bench.send(lifted(first));
    bench.run();
    assert!(host.responses(queue).is_empty(), "the second question is open");
    bench.send(lifted(first));
    bench.run();
    assert_eq!(bench.counters.stale_messages.get(), 1, "answered already");
    bench.send(lifted(second));
    bench.run();
    assert_eq!(host.responses(queue).len(), 2);
    assert!(bench.poller.fences.is_empty());
    bench.send(lifted(second));
    bench.run();
    assert_eq!(bench.counters.stale_messages.get(), 2);
}

#[test]
fn a_host_that_goes_while_the_others_are_asked_leaves_nothing_behind() {
    let mut bench = Bench::one_of_two();
    let host = TestHost::connect(&mut bench);
    let (fence, question) = fences_asked(&bench.take_told())[0];
    let queue = host.io_queue(&mut bench, 1);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    bench.run();
    host.sim.disconnect(host.admin.connection);
    bench.run();
    assert_eq!((bench.poller.association_count(), bench.poller.request_count()), (0, 0));
    bench.send(ToPoller::FenceLifted { fence, question });
    bench.run();
    assert!(bench.poller.fences.is_empty());
    assert!(bench.backend.executed().is_empty());
}

const ASKER: Asker = Asker {
    poller: 1,
    fence: Handle { slot: 3, generation: 9 },
    question: 7,
    until: 0,
};

fn query(asker: Asker, host_nqn: &str) -> ToTestPoller {
    ToPoller::FenceQuery {
        asker,
        host_nqn: host_nqn.to_owned(),
        subsystem_nqn: SUBSYSTEM.to_owned(),
    }
}

#[test]
fn another_poller_is_answered_once_the_host_s_writes_here_have_left_the_backend() {
    let answer = Told::FenceClear(ASKER);
    for dropped in [true, false] {
        let mut bench = Bench::one_of_two();
        let host = TestHost::connect(&mut bench);
        let (fence, question) = fences_asked(&bench.take_told())[0];
        bench.send(ToPoller::FenceLifted { fence, question });
        let queue = host.io_queue(&mut bench, 1);
        bench.backend.hold(true);
        host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
        bench.run();
        assert_eq!(bench.backend.held(), 1);
        if dropped {
            host.sim.disconnect(host.admin.connection);
            bench.run();
        }
        bench.take_told();
        bench.send(query(ASKER, "nqn.2026-11.dev.weir:other"));
        bench.run();
        assert_eq!(bench.take_told(), std::slice::from_ref(&answer), "of another host");
        bench.send(query(ASKER, HOST));
        bench.run();
        assert_eq!(bench.take_told(), [], "dropped: {dropped}");
        if !dropped {
            // What the host writes on does not hold the answer up: it uses both associations.
            host.post(queue, &host.write_command(8, &pattern(2, 1)).0, &[]);
            bench.run();
        }
        bench.backend.release_one();
        bench.run();
        assert!(bench.take_told().contains(&answer), "dropped: {dropped}");
        bench.backend.hold(false);
        bench.run();
        assert!(bench.poller.fences.is_empty());
    }
}

/// A host that waits at its fence here for the other poller's answer, with a write whose data is here.
fn parked_for_an_answer(bench: &mut Bench) -> (TestHost, HostQueue, Handle, u64) {
    let host = TestHost::connect(bench);
    let (fence, question) = fences_asked(&bench.take_told())[0];
    let queue = host.io_queue(bench, 1);
    let pointer = DataPointer::InCapsule {
        offset: 0,
        length: 4096,
    };
    for block in [0, 8] {
        let command = host.io(io::WRITE, block, 1).data(pointer).build();
        host.post(queue, &command, &pattern(1, 1));
    }
    bench.run();
    assert_eq!((bench.backend.held(), bench.backend.executed().len()), (0, 0));
    bench.take_told();
    (host, queue, fence, question)
}

#[test]
fn another_poller_waits_for_writes_that_wait_here_since_before_its_host_connected_there() {
    let mut bench = Bench::one_of_two();
    bench.backend.hold(true);
    let (_host, _, fence, question) = parked_for_an_answer(&mut bench);
    let asker = Asker {
        until: question,
        ..ASKER
    };
    bench.send(query(asker, HOST));
    bench.run();
    assert_eq!(
        bench.take_told(),
        [],
        "they will be executed, whatever becomes of their host"
    );
    bench.send(ToPoller::FenceLifted { fence, question });
    bench.run();
    while bench.backend.held() > 0 {
        assert_eq!(bench.take_told(), [], "they are in the backend");
        bench.backend.release_one();
        bench.run();
    }
    assert_eq!(bench.backend.executed().len(), 2);
    assert_eq!(bench.take_told(), [Told::FenceClear(asker)]);
    assert!(bench.poller.fences.is_empty());
}

#[test]
fn another_poller_does_not_wait_for_what_waits_for_a_later_question_than_its_own() {
    let mut bench = Bench::one_of_two();
    let (host, queue, fence, question) = parked_for_an_answer(&mut bench);
    // Its own question came to the control thread first: what waits here waits for it.
    bench.send(query(ASKER, HOST));
    bench.run();
    assert_eq!(bench.take_told(), [Told::FenceClear(ASKER)]);
    bench.send(ToPoller::FenceLifted { fence, question });
    bench.run();
    assert_eq!(host.responses(queue).len(), 2);
    assert!(bench.poller.fences.is_empty());
}

#[test]
fn another_poller_does_not_wait_for_writes_that_are_dropped_with_their_association() {
    let mut bench = Bench::one_of_two();
    let (host, _, fence, question) = parked_for_an_answer(&mut bench);
    let asker = Asker {
        until: question,
        ..ASKER
    };
    bench.send(query(asker, HOST));
    bench.run();
    assert_eq!(bench.take_told(), []);
    host.sim.disconnect(host.admin.connection);
    bench.run();
    let clear = Told::FenceClear(asker);
    assert_eq!(bench.take_told().iter().filter(|told| **told == clear).count(), 1);
    bench.send(ToPoller::FenceLifted { fence, question });
    bench.run();
    assert!(bench.poller.fences.is_empty());
    assert!(bench.backend.executed().is_empty());
}

#[test]
fn a_request_that_ends_as_soon_as_it_is_let_go_holds_nobody_up() {
    let mut bench = Bench::new();
    let second = come_back(&mut bench);
    let queue = second.io_queue(&mut bench, 1);
    let pointer = DataPointer::InCapsule { offset: 0, length: 16 };
    for _ in 0..2 {
        // A Deallocate of no blocks.
        let command = second
            .io(io::DATASET_MANAGEMENT, 0, 1)
            .dword(10, 0)
            .dword(11, 1 << 2)
            .dword(12, 0)
            .data(pointer)
            .build();
        second.post(queue, &command, &[0; 16]);
    }
    let sim = bench.add_host();
    let third = TestHost::connect_as(&mut bench, sim, HOST, 5000);
    let third_queue = third.io_queue(&mut bench, 1);
    third.post(third_queue, &third.write_command(0, &pattern(3, 1)).0, &[]);
    bench.run();
    bench.backend.hold(false);
    bench.run();
    assert_eq!(second.responses(queue).len(), 2);
    assert!(third.responses(third_queue)[0].status.is_success());
    assert!(bench.poller.fences.is_empty());
}

#[test]
fn a_poller_that_is_alone_asks_nobody() {
    let mut bench = Bench::new();
    TestHost::connect(&mut bench);
    assert_eq!(
        fences_asked(&bench.take_told()),
        [],
        "the only poller has nobody to ask"
    );
}
