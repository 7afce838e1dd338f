//! Safe drain: with nothing, with I/O, with a backend that hangs.

use std::time::Duration;

use super::bench::{Bench, PORT, Told};
use super::host::{HostQueue, TestHost, pattern};
use crate::engine::messages::{CloseReason, Epoch, ToPoller};
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
