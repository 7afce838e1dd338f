//! Each rule, broken once.

use super::*;

fn kinds(sim: &SimWorld) -> Vec<ViolationKind> {
    sim.violations().iter().map(|one| one.kind).collect()
}

fn recorded() -> SimWorld {
    let sim = SimWorld::in_order();
    sim.record_violations();
    sim
}

#[test]
#[should_panic(expected = "QueuePairDestroyedWithWork: queue pair 17 destroyed with 1 sends to do")]
fn a_violation_panics_with_what_and_where() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, mut link) = connected(&sim);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    drop(link.queue_pair);
}

#[test]
fn destroying_a_queue_pair_with_an_unreaped_completion_is_a_violation() {
    let sim = recorded();
    let (target, host, connection, link) = connected(&sim);
    host.send(connection, b"capsule");
    sim.run_until_idle();
    drop(link.queue_pair);
    assert_eq!(kinds(&sim), [ViolationKind::QueuePairDestroyedWithWork]);
    drop(target);
}

#[test]
fn deregistering_memory_under_posted_work_is_a_violation() {
    let sim = recorded();
    let (target, _host) = target_in(&sim);
    drop(target.region);
    assert_eq!(kinds(&sim), [ViolationKind::MemoryDeregisteredInUse]);
}

#[test]
fn deregistering_memory_under_an_unreaped_send_is_a_violation() {
    let sim = recorded();
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    let arena = Arena::allocate(4096).unwrap();
    let region = target
        .provider
        .register_memory(&target.domain, &arena, 0, 4096, MemoryAccess::Local)
        .unwrap();
    let sge = Sge {
        address: arena.address(0),
        length: 16,
        local_key: target.provider.local_key(&region),
    };
    let chain = [send(1, SendOperation::Send, sge, true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    drop(region);
    assert_eq!(kinds(&sim), [ViolationKind::MemoryDeregisteredInUse]);
}

#[test]
fn posting_to_a_queue_pair_known_to_be_in_error_is_a_violation() {
    let sim = recorded();
    let (target, _host, _connection, mut link) = connected(&sim);
    target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    let (posted, error) = target.provider.post_sends(&mut link.queue_pair, &chain).unwrap_err();
    assert_eq!((posted, error.errno), (0, libc::EINVAL));
    assert_eq!(kinds(&sim), [ViolationKind::PostedToUnusableQueuePair]);
}

#[test]
fn posting_before_the_error_is_known_is_a_race_and_is_flushed() {
    let sim = SimWorld::in_order();
    let (target, host, _connection, mut link) = connected(&sim);
    let number = target.provider.queue_pair_number(&link.queue_pair);
    sim.fail_next_completion(number, 12);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    let statuses: Vec<_> = target.poll().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [CompletionStatus::Error(12), CompletionStatus::Flushed]);
    take_down(&sim, &target, link);
    drop(host);
}

#[test]
fn work_that_names_unregistered_memory_is_a_violation() {
    let sim = recorded();
    let (target, _host, _connection, mut link) = connected(&sim);
    let beyond = Sge {
        address: target.arena.address(1 << 20) - 8,
        ..target.sge(0, 16)
    };
    let chain = [send(1, SendOperation::Send, beyond, true)];
    assert!(target.provider.post_sends(&mut link.queue_pair, &chain).is_err());
    assert_eq!(kinds(&sim), [ViolationKind::UnregisteredMemory]);
}

#[test]
fn touching_a_posted_receive_is_a_violation() {
    let sim = recorded();
    let (target, host, connection, _link) = connected(&sim);
    target.bytes(0, 4160)[4000] = 1;
    host.send(connection, b"capsule");
    sim.run_until_idle();
    assert_eq!(kinds(&sim), [ViolationKind::BufferTouchedWhileOwned]);
}

#[test]
fn reusing_a_send_buffer_before_its_completion_is_reaped_is_a_violation() {
    let sim = recorded();
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    target.bytes(65536, 16).fill(9);
    target.poll();
    assert_eq!(kinds(&sim), [ViolationKind::BufferTouchedWhileOwned]);
}

#[test]
fn dropping_a_connected_identifier_is_a_violation() {
    let sim = recorded();
    let (target, _host, _connection, link) = connected(&sim);
    drop(link.connection);
    assert_eq!(kinds(&sim), [ViolationKind::ConnectedIdentifierDropped]);
    drop(target);
}

#[test]
fn dropping_an_unanswered_request_while_the_link_is_down_kills_the_management_queue_pair() {
    let sim = recorded();
    let (target, host) = target_in(&sim);
    host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    let event = target.provider.next_connection_event();
    sim.set_link("rxe0", LinkState::Down);
    drop(event);
    assert_eq!(kinds(&sim), [ViolationKind::MessageWhileLinkDown]);
    assert!(sim.management_dead("rxe0"));
}

#[test]
fn dropping_a_listener_with_a_queued_request_while_the_link_is_down_kills_the_management_queue_pair() {
    let sim = recorded();
    let (target, host) = target_in(&sim);
    host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    sim.set_link("rxe0", LinkState::Down);
    drop(target.listener);
    assert_eq!(kinds(&sim), [ViolationKind::MessageWhileLinkDown]);
}

#[test]
fn an_identifier_in_timewait_may_go_while_the_link_is_down() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, mut link) = connected(&sim);
    target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
    target.provider.disconnect(&link.connection).unwrap();
    sim.run_until_idle();
    sim.set_link("rxe0", LinkState::Down);
    drop(link);
    assert!(!sim.management_dead("rxe0"));
}

#[test]
fn overrunning_a_completion_queue_is_a_violation_and_an_async_event() {
    let sim = recorded();
    let (target, host, connection, mut link) = connected(&sim);
    let small = target.provider.create_completion_queue(&target.device, 1).unwrap();
    drop(small);
    for _ in 0..80 {
        host.send(connection, b"capsule");
    }
    // Completion queue of 64 entries: receives and sends together are too many.
    for round in 0..20 {
        for index in 0..RECEIVES {
            if round > 0 {
                target.post_receive(index);
            }
        }
        sim.run_until_idle();
    }
    assert_eq!(kinds(&sim), [ViolationKind::CompletionQueueOverrun]);
    assert_eq!(
        target.provider.next_async_event(&target.device),
        Some(AsyncEvent::CompletionQueueError)
    );
    target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
}

#[test]
fn posting_more_than_a_queue_holds_is_a_violation() {
    let sim = recorded();
    let (target, _host, _connection, mut link) = connected(&sim);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), false); 17];
    let (posted, error) = target.provider.post_sends(&mut link.queue_pair, &chain).unwrap_err();
    assert_eq!((posted, error.errno), (16, libc::ENOMEM));
    assert_eq!(kinds(&sim), [ViolationKind::WorkQueueOverflow]);
}

#[test]
fn more_answers_than_capsules_are_a_violation() {
    let sim = recorded();
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true); 2];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    assert_eq!(kinds(&sim), [ViolationKind::UnexpectedResponse]);
}

#[test]
fn granting_more_reads_than_the_host_offered_is_a_violation() {
    let sim = recorded();
    let (target, host) = target_in(&sim);
    host.connect_with_depths(address(), &[1; 32], 4, 0);
    sim.run_until_idle();
    let _link = target.answer_request(42);
    assert_eq!(
        kinds(&sim),
        [ViolationKind::LimitExceeded, ViolationKind::LimitExceeded]
    );
}

#[test]
fn disconnecting_a_request_instead_of_rejecting_it_is_a_violation() {
    let sim = recorded();
    let (target, host) = target_in(&sim);
    host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    let Some(ConnectionEvent::Request(request)) = target.provider.next_connection_event() else {
        panic!("no request")
    };
    assert!(target.provider.disconnect(&request.connection).is_err());
    assert_eq!(kinds(&sim), [ViolationKind::WrongState]);
}
