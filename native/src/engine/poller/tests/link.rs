//! Hold and resume, and devices that fail.

use std::time::Duration;

use super::bench::{Bench, PORT, Told};
use super::host::{TestHost, pattern};
use crate::engine::messages::{CloseReason, Epoch, ToPoller};
use crate::provider::sim::{FaultPoint, LinkState};

#[test]
fn nothing_is_posted_while_held_and_what_is_ready_goes_out_on_resume() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    for block in 0..6 {
        host.post(queue, &host.read_command(block, 1).0, &[]);
    }
    bench.run();
    bench.send(ToPoller::Hold(PORT, Epoch(1)));
    bench.run();
    bench.set_link(LinkState::Down);
    let posted = (
        bench.world.calls(FaultPoint::PostSends),
        bench.world.calls(FaultPoint::PostReceives),
    );
    bench.backend.hold(false);
    bench.run();
    bench.pass(Duration::from_millis(400));
    assert_eq!(
        (
            bench.world.calls(FaultPoint::PostSends),
            bench.world.calls(FaultPoint::PostReceives)
        ),
        posted
    );
    assert!(host.responses(queue).is_empty());
    bench.set_link(LinkState::Up);
    bench.send(ToPoller::Resume(PORT, Epoch(1)));
    bench.run();
    assert_eq!(host.responses(queue).len(), 6);
    assert_eq!(bench.poller.association_count(), 1);
}

#[test]
fn the_keep_alive_clock_stands_still_while_held() {
    let mut bench = Bench::new();
    TestHost::connect(&mut bench);
    bench.pass(Duration::from_secs(3));
    bench.send(ToPoller::Hold(PORT, Epoch(1)));
    bench.run();
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.poller.association_count(), 1);
    bench.send(ToPoller::Resume(PORT, Epoch(1)));
    bench.run();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.poller.association_count(), 1);
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.poller.association_count(), 0);
}

#[test]
fn a_response_that_fails_while_the_link_is_down_takes_its_association_down() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.read_command(0, 1).0, &[]);
    bench.run();
    bench.take_told();
    bench.set_link(LinkState::Down);
    bench.backend.hold(false);
    bench.step();
    bench.step();
    bench.world.run_until_idle();
    bench.step();
    bench.set_link(LinkState::Up);
    bench.run();
    assert!(bench.take_told().contains(&Told::Drained(CloseReason::TransportError)));
    assert_eq!(bench.poller.queue_pair_count(), 0);
}

#[test]
fn a_hold_that_ends_in_a_drain_drops_what_was_ready() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.read_command(0, 32).0, &[]);
    bench.run();
    bench.send(ToPoller::Hold(PORT, Epoch(1)));
    bench.backend.hold(false);
    bench.run();
    bench.send(ToPoller::Drain(PORT, Epoch(1), bench.now + Duration::from_secs(15)));
    bench.run();
    assert!(bench.take_told().contains(&Told::PortDrained(Epoch(1))));
    assert!(host.responses(queue).is_empty());
}

#[test]
fn a_chain_that_is_posted_in_part_takes_its_queue_pair_down_and_leaks_nothing() {
    for posted in 0..4 {
        let mut bench = Bench::new();
        let host = TestHost::connect(&mut bench);
        let queue = host.io_queue(&mut bench, 1);
        bench.backend.hold(true);
        for block in 0..2 {
            host.post(queue, &host.read_command(block, 1).0, &[]);
        }
        bench.run();
        bench.backend.hold(false);
        bench.world.fail_sends_after(posted, libc::ENOMEM);
        bench.run();
        assert_eq!(bench.poller.association_count(), 0, "{posted} posted");
        assert_eq!(bench.poller.queue_pair_count(), 0, "{posted} posted");
        assert!(bench.take_told().contains(&Told::Drained(CloseReason::TransportError)));
    }
}

#[test]
fn receives_that_could_not_be_posted_are_posted_later() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.world.fail_call(FaultPoint::PostReceives, 1, libc::ENOMEM);
    for index in 0..100 {
        assert!(host.write(&mut bench, queue, index, &pattern(1, 1)).status.is_success());
    }
}

#[test]
fn a_completion_that_fails_in_the_middle_of_many_is_followed_by_an_orderly_end() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let handle = bench.handles()[1];
    for block in 0..20 {
        host.post(queue, &host.write_command(block, &pattern(1, 1)).0, &[]);
    }
    bench
        .world
        .fail_next_completion(bench.poller.queue_pairs[handle].number, 12);
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
    assert_eq!(bench.poller.request_count(), 0);
    assert_eq!(bench.poller.queue_pair_count(), 0);
}

#[test]
fn a_completion_queue_that_cannot_be_polled_for_a_moment_is_polled_on() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.take_told();
    for _ in 0..50 {
        bench.world.fail_call(FaultPoint::PollCompletions, 1, libc::EIO);
        host.post(queue, &host.read_command(0, 1).0, &[]);
        bench.run();
        bench.pass(Duration::from_millis(150));
        assert_eq!(host.responses(queue).len(), 1);
    }
    assert!(!bench.take_told().contains(&Told::QueueBroken(Epoch(1))));
}

#[test]
fn a_completion_queue_that_cannot_be_polled_any_more_is_reported_once_and_soon() {
    let mut bench = Bench::new();
    TestHost::connect(&mut bench);
    bench.take_told();
    bench.world.fail_always(FaultPoint::PollCompletions, Some(libc::EIO));
    let began = bench.now;
    let mut broken = Vec::new();
    for _ in 0..1000 {
        let deadline = bench.poller.step(bench.now).deadline;
        bench.run();
        broken.extend(
            bench
                .take_told()
                .contains(&Told::QueueBroken(Epoch(1)))
                .then_some(bench.now),
        );
        // The poller sleeps until it wants to be called.
        let next = deadline.filter(|at| *at > bench.now);
        bench.now = next.unwrap_or(bench.now + Duration::from_millis(100));
    }
    assert_eq!(broken.len(), 1, "reported once");
    assert!(broken[0] - began < Duration::from_millis(200));
    bench.world.fail_always(FaultPoint::PollCompletions, None);
}
