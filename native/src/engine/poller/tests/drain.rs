//! Safe drain: with nothing, with I/O, with a backend that hangs.

use std::time::Duration;

use super::bench::{Bench, PORT, Told};
use super::host::{HostQueue, TestHost, pattern};
use crate::engine::messages::{CloseReason, Epoch, PollerEvent, ToPoller};
use crate::nvme::command::CommandBuilder;
use crate::nvme::opcode::admin;
use crate::provider::sim::LinkState;

fn drain(bench: &mut Bench, epoch: u64, seconds: u64) {
    bench.send(ToPoller::Drain(
        PORT,
        Epoch(epoch),
        bench.now + Duration::from_secs(seconds),
    ));
    bench.run();
}

fn busy_host(bench: &mut Bench) -> (TestHost, HostQueue) {
    let host = TestHost::connect(bench);
    let queue = host.io_queue(bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    host.post(queue, &host.write_command(32, &pattern(1, 32)).0, &[]);
    host.post(queue, &host.read_command(0, 1).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 3);
    bench.take_told();
    (host, queue)
}

#[test]
fn an_idle_port_is_given_back_at_once() {
    let mut bench = Bench::new();
    drain(&mut bench, 1, 15);
    assert_eq!(bench.take_told(), [Told::PortDrained(Epoch(1))]);
    assert_eq!(bench.world.live_objects().memory_regions, 0);
}

#[test]
fn io_in_flight_is_waited_for_and_nothing_is_answered() {
    let mut bench = Bench::new();
    let (host, queue) = busy_host(&mut bench);
    drain(&mut bench, 1, 15);
    let told = bench.take_told();
    let drained = told
        .iter()
        .filter(|told| **told == Told::Drained(CloseReason::PortDraining))
        .count();
    assert_eq!(drained, 1, "the admin queue pair only: {told:?}");
    assert!(!told.contains(&Told::PortDrained(Epoch(1))));
    bench.backend.hold(false);
    bench.run();
    let told = bench.take_told();
    assert_eq!(
        told,
        [Told::Drained(CloseReason::PortDraining), Told::PortDrained(Epoch(1))]
    );
    assert!(host.responses(queue).is_empty());
}

#[test]
fn a_write_whose_data_had_not_arrived_is_dropped() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let (command, _) = host.write_command(0, &pattern(1, 32));
    host.post(queue, &command, &[]);
    // The capsule arrives and the RDMA READ is posted; then the link goes.
    while host.sim.capsules_waiting(queue.connection) > 0 {
        assert!(bench.world.step());
    }
    bench.step();
    assert_eq!(bench.poller.request_count(), 1);
    bench.set_link(LinkState::Silent);
    drain(&mut bench, 1, 15);
    assert!(bench.take_told().contains(&Told::PortDrained(Epoch(1))));
    assert!(bench.backend.executed().is_empty());
}

#[test]
fn a_backend_that_hangs_past_the_deadline_is_quarantined_once_and_freed_later() {
    let mut bench = Bench::new();
    let (_host, _queue) = busy_host(&mut bench);
    drain(&mut bench, 1, 5);
    let used = bench.port_counters.buffers_used.get();
    bench.take_told();
    bench.pass(Duration::from_secs(6));
    assert_eq!(
        bench.take_told(),
        [Told::Quarantined {
            queue_pairs: 1,
            backend_ios: 3
        }]
    );
    assert_eq!(bench.port_counters.queue_pairs_quarantined.get(), 1);
    assert_eq!(bench.port_counters.buffers_quarantined.get(), used);
    assert_eq!(bench.port_counters.buffers_used.get(), 0);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.take_told(), [], "reported once");

    // The port goes on in a fresh epoch, apart from what is quarantined.
    bench.attach_port(Epoch(2));
    bench.run();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let newer = pattern(9, 1);
    host.post(queue, &host.write_command(0, &newer).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 3, "the fence holds over epochs");
    bench.take_told();
    bench.backend.hold(false);
    bench.run();
    assert!(bench.take_told().contains(&Told::PortDrained(Epoch(1))));
    assert!(host.responses(queue)[0].status.is_success());
    assert_eq!(host.read(&mut bench, queue, 0, 1), newer);
}

#[test]
fn each_epoch_that_is_quarantined_counts_its_own_work() {
    let mut bench = Bench::new();
    let (_host, _queue) = busy_host(&mut bench);
    drain(&mut bench, 1, 5);
    bench.pass(Duration::from_secs(6));
    bench.attach_port(Epoch(2));
    bench.run();
    let sim = bench.add_host();
    let other = TestHost::connect_as(&mut bench, sim, "nqn.2026-11.dev.weir:host-b", 5000);
    let queue = other.io_queue(&mut bench, 1);
    other.post(queue, &other.read_command(0, 1).0, &[]);
    bench.run();
    assert_eq!(bench.backend.held(), 4);
    drain(&mut bench, 2, 5);
    bench.take_told();
    bench.pass(Duration::from_secs(6));
    assert_eq!(
        bench.take_told(),
        [Told::Quarantined {
            queue_pairs: 1,
            backend_ios: 1
        }]
    );
}

/// Time passes, and the host keeps its association alive.
fn pass_alive(bench: &mut Bench, host: &TestHost, time: Duration) {
    let end = bench.now + time;
    while bench.now < end {
        bench.pass(Duration::from_secs(1));
        let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
        assert!(host.command(bench, host.admin, keep_alive, &[]).status.is_success());
    }
}

fn quarantined_alone(told: &[Told]) -> Vec<(u16, u32, u32)> {
    let shown = told.iter().filter_map(|told| match told {
        Told::Event(PollerEvent::QueuePairQuarantined {
            queue_id,
            work_requests,
            backend_ios,
            ..
        }) => Some((*queue_id, *work_requests, *backend_ios)),
        _ => None,
    });
    shown.collect()
}

#[test]
fn a_queue_pair_closed_by_itself_that_never_finishes_is_quarantined_reported_and_freed_later() {
    let mut bench = Bench::new();
    let (host, queue) = busy_host(&mut bench);
    host.sim.disconnect(queue.connection);
    bench.run();
    assert_eq!(bench.port_counters.queue_pairs_draining.get(), 1);
    bench.take_told();
    pass_alive(&mut bench, &host, Duration::from_secs(14));
    assert_eq!(quarantined_alone(&bench.take_told()), []);
    pass_alive(&mut bench, &host, Duration::from_secs(2));
    assert_eq!(quarantined_alone(&bench.take_told()), [(1, 0, 3)]);
    let gauges = |bench: &Bench| {
        let counters = &bench.port_counters;
        (
            counters.queue_pairs_active.get(),
            counters.queue_pairs_draining.get(),
            counters.queue_pairs_quarantined.get(),
        )
    };
    assert_eq!(gauges(&bench), (1, 0, 1));
    pass_alive(&mut bench, &host, Duration::from_secs(60));
    assert_eq!(quarantined_alone(&bench.take_told()), [], "reported once");
    bench.backend.hold(false);
    bench.run();
    assert!(
        bench
            .take_told()
            .contains(&Told::Drained(CloseReason::HostDisconnected))
    );
    assert_eq!(gauges(&bench), (1, 0, 0));
}

#[test]
fn a_queue_pair_that_is_quarantined_already_is_counted_once_when_its_port_is() {
    let mut bench = Bench::new();
    let (host, queue) = busy_host(&mut bench);
    host.sim.disconnect(queue.connection);
    bench.run();
    pass_alive(&mut bench, &host, Duration::from_secs(16));
    assert_eq!(bench.port_counters.queue_pairs_quarantined.get(), 1);
    drain(&mut bench, 1, 5);
    bench.take_told();
    bench.pass(Duration::from_secs(6));
    assert_eq!(
        bench.take_told(),
        [Told::Quarantined {
            queue_pairs: 1,
            backend_ios: 3
        }]
    );
    assert_eq!(bench.port_counters.queue_pairs_quarantined.get(), 1);
    assert_eq!(bench.port_counters.queue_pairs_draining.get(), 0);
    bench.backend.hold(false);
    bench.run();
    assert_eq!(bench.port_counters.queue_pairs_quarantined.get(), 0);
}

#[test]
fn work_that_a_device_never_gives_back_does_not_leak_silently() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.take_told();
    for block in [0, 32] {
        host.post(queue, &host.write_command(block, &pattern(1, 32)).0, &[]);
    }
    while host.sim.capsules_waiting(queue.connection) > 0 {
        assert!(bench.world.step());
    }
    bench.step();
    bench.world.fail_device("rxe0", true);
    // The host vanishes: its keep-alive runs out, and nothing is flushed any more.
    bench.pass(Duration::from_secs(10));
    bench.take_told();
    bench.pass(Duration::from_secs(16));
    let told = quarantined_alone(&bench.take_told());
    assert_eq!(told, [(1, 2, 0)], "the admin queue pair had nothing posted");
    bench.world.record_violations();
    std::mem::forget(bench);
}

#[test]
fn a_queue_pair_that_arrives_while_the_port_drains_is_refused() {
    let mut bench = Bench::new();
    let (host, _queue) = busy_host(&mut bench);
    drain(&mut bench, 1, 15);
    bench.take_told();
    let data = crate::nvme::private_data::ConnectRequestData {
        queue_id: 0,
        host_receive_queue_size: 32,
        host_send_queue_size: 31,
        controller_id: 0,
    };
    let connection = host.sim.connect(super::bench::target(), &data.encode());
    bench.run();
    assert_eq!(bench.take_told(), [Told::Refused]);
    assert!(!host.sim.is_connected(connection));
}

#[test]
fn capsules_that_wait_for_a_request_slot_are_dropped_with_the_port() {
    let sizing = crate::engine::messages::PortSizing {
        request_count: 16,
        ..super::bench::sizing()
    };
    let mut bench = Bench::with_sizing(sizing);
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    for block in 0..30 {
        host.post(queue, &host.read_command(block, 1).0, &[]);
    }
    bench.run();
    drain(&mut bench, 1, 15);
    bench.backend.hold(false);
    bench.run();
    assert!(bench.take_told().contains(&Told::PortDrained(Epoch(1))));
}

#[test]
fn many_epochs_leave_nothing_behind() {
    let mut bench = Bench::new();
    for epoch in 1..20 {
        let host = TestHost::connect(&mut bench);
        let queue = host.io_queue(&mut bench, 1);
        let data = pattern(epoch as u8, 40);
        for part in data.chunks(32 * 4096) {
            host.post(queue, &host.write_command(0, part).0, &[]);
        }
        bench.step();
        drain(&mut bench, epoch, 15);
        assert!(bench.take_told().contains(&Told::PortDrained(Epoch(epoch))));
        assert_eq!(bench.world.live_objects().memory_regions, 0);
        bench.attach_port(Epoch(epoch + 1));
        bench.run();
    }
}
