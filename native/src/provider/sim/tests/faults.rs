//! Each fault, armed once.

use super::*;

#[test]
fn the_nth_registration_fails_and_the_next_succeeds() {
    let sim = SimWorld::in_order();
    let (target, _host) = target_in(&sim);
    sim.fail_call(FaultPoint::RegisterMemory, 2, libc::ENOMEM);
    let register = || {
        let (domain, arena) = (&target.domain, &target.arena);
        target
            .provider
            .register_memory(domain, arena, 0, 4096, MemoryAccess::Local)
            .map(|_| ())
            .map_err(|error| error.errno)
    };
    assert_eq!(register(), Ok(()));
    assert_eq!(register(), Err(libc::ENOMEM));
    assert_eq!(register(), Ok(()));
    sim.fail_always(FaultPoint::RegisterMemory, Some(libc::ENOMEM));
    assert_eq!((register(), register()), (Err(libc::ENOMEM), Err(libc::ENOMEM)));
    sim.fail_always(FaultPoint::RegisterMemory, None);
    assert_eq!(register(), Ok(()));
    assert_eq!(sim.calls(FaultPoint::RegisterMemory), 7);
}

#[test]
fn a_chain_can_fail_in_its_middle() {
    let sim = SimWorld::in_order();
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    sim.fail_sends_after(1, libc::ENOMEM);
    let chain = [
        send(1, SendOperation::Send, target.sge(65536, 16), true),
        send(2, SendOperation::Send, target.sge(65536, 16), true),
    ];
    let (posted, error) = target.provider.post_sends(&mut link.queue_pair, &chain).unwrap_err();
    assert_eq!((posted, error.errno), (1, libc::ENOMEM));
    sim.run_until_idle();
    assert_eq!(host.take_responses(connection).len(), 1);
    take_down(&sim, &target, link);
}

#[test]
fn an_unsignaled_end_of_a_broken_chain_need_not_be_waited_for() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, mut link) = connected(&sim);
    sim.fail_sends_after(1, libc::ENOMEM);
    let chain = [
        send(1, SendOperation::Send, target.sge(65536, 16), false),
        send(2, SendOperation::Send, target.sge(65536, 16), true),
    ];
    assert!(target.provider.post_sends(&mut link.queue_pair, &chain).is_err());
    target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
    drop(link.queue_pair);
    target.provider.disconnect(&link.connection).unwrap();
    sim.run_until_idle();
    assert_eq!(sim.violations(), []);
}

#[test]
fn a_finite_retry_count_ends_in_its_own_error() {
    let sim = SimWorld::in_order();
    sim.set_transmit_while_down(TransmitWhileDown::RetryExceeded);
    let (target, _host, _connection, mut link) = connected(&sim);
    sim.set_link("rxe0", LinkState::Down);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    assert_eq!(target.poll()[0].status, CompletionStatus::Error(12));
    sim.set_link("rxe0", LinkState::Up);
    take_down(&sim, &target, link);
}

#[test]
fn sends_that_wait_for_the_link_go_on_when_it_is_back() {
    let sim = SimWorld::in_order();
    sim.set_transmit_while_down(TransmitWhileDown::Stuck);
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    sim.set_link("rxe0", LinkState::Down);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    assert_eq!(sim.run_until_idle(), 0);
    sim.set_link("rxe0", LinkState::Up);
    sim.run_until_idle();
    assert_eq!(host.take_responses(connection).len(), 1);
    take_down(&sim, &target, link);
}

#[test]
fn a_failed_send_may_have_reached_the_host() {
    let sim = SimWorld::in_order();
    sim.deliver_despite_errors(1000);
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    let number = host.queue_pair_number(connection).unwrap();
    sim.fail_next_completion(number, 12);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    assert_eq!(host.take_responses(connection).len(), 1);
    let statuses: Vec<_> = target.poll().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [CompletionStatus::Success, CompletionStatus::Error(12)]);
    take_down(&sim, &target, link);
}

#[test]
fn an_interrupted_arrival_flushes_or_loses_its_receive() {
    for (interrupted, expected) in [(InterruptedReceive::Flushed, 1), (InterruptedReceive::Lost, 0)] {
        let sim = SimWorld::in_order();
        let (target, host, connection, mut link) = connected(&sim);
        sim.split_arrivals(interrupted);
        host.send(connection, b"capsule");
        assert!(sim.step());
        target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
        let flushed = target.poll();
        assert_eq!(flushed.len(), expected);
        assert!(flushed.iter().all(|one| one.status == CompletionStatus::Flushed));
        take_down(&sim, &target, link);
    }
}

#[test]
fn events_can_be_lost_doubled_and_held() {
    let sim = SimWorld::in_order();
    let (target, host) = target_in(&sim);
    sim.lose_events(EventKind::Established, 1);
    sim.duplicate_events(EventKind::Disconnected, 1);
    let connection = host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    let link = target.answer_request(42);
    sim.run_until_idle();
    assert!(host.is_connected(connection));
    assert!(target.provider.next_connection_event().is_none());
    sim.hold_events(true);
    host.disconnect(connection);
    sim.run_until_idle();
    assert!(target.provider.next_connection_event().is_none());
    sim.hold_events(false);
    for _ in 0..2 {
        let event = target.provider.next_connection_event();
        assert!(matches!(event, Some(ConnectionEvent::Disconnected(42))));
    }
    assert!(target.provider.next_connection_event().is_none());
    take_down(&sim, &target, link);
}

#[test]
fn a_fatal_device_flushes_reports_and_refuses() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, mut link) = connected(&sim);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.fail_device("rxe0", false);
    assert_eq!(
        target.provider.next_async_event(&target.device),
        Some(AsyncEvent::DeviceFatal)
    );
    let error = target.provider.allocate_protection_domain(&target.device).unwrap_err();
    assert_eq!(error.errno, libc::EIO);
    sim.run_until_idle();
    assert_eq!(target.poll()[0].status, CompletionStatus::Flushed);
    drop((link, target));
    assert_eq!(sim.live_objects(), LiveObjects::default());
}

#[test]
fn a_silently_dead_device_never_completes_and_its_objects_can_still_go() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, mut link) = connected(&sim);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.fail_device("rxe0", true);
    assert_eq!(sim.run_until_idle(), 0);
    assert_eq!(target.poll().len(), 0);
    drop((link, target));
    assert_eq!(sim.violations(), []);
}

#[test]
fn removing_a_device_tells_its_identifiers_and_listeners() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, link) = connected(&sim);
    sim.remove_device("rxe0");
    for expected in [42, 7] {
        match target.provider.next_connection_event() {
            Some(ConnectionEvent::DeviceRemoval(token)) => assert_eq!(token, expected),
            other => panic!("no removal but {other:?}"),
        }
    }
    assert_eq!(target.provider.devices().unwrap(), []);
    drop((link, target));
    assert_eq!(sim.live_objects(), LiveObjects::default());
}

#[test]
fn a_connect_during_an_outage_arrives_after_it() {
    let sim = SimWorld::in_order();
    let (target, host) = target_in(&sim);
    sim.set_link("rxe0", LinkState::Down);
    let connection = host.connect(address(), &[1; 32]);
    assert_eq!(sim.run_until_idle(), 0);
    assert_eq!(host.outcome(connection), ConnectOutcome::Pending);
    sim.set_link("rxe0", LinkState::Up);
    sim.run_until_idle();
    assert!(target.provider.next_connection_event().is_some());
}

#[test]
fn a_host_that_gave_up_is_reported_as_failed() {
    let sim = SimWorld::in_order();
    let (target, host) = target_in(&sim);
    let connection = host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    let link = target.answer_request(42);
    host.give_up(connection);
    sim.run_until_idle();
    assert!(matches!(
        target.provider.next_connection_event(),
        Some(ConnectionEvent::Failed(42, 8))
    ));
    assert_eq!(host.outcome(connection), ConnectOutcome::GaveUp);
    take_down(&sim, &target, link);
}

#[test]
fn a_stale_host_key_is_a_remote_access_error_on_both_sides() {
    let sim = SimWorld::in_order();
    let (target, host, connection, mut link) = connected(&sim);
    let region = host.register(4096);
    host.release(region);
    let write = SendOperation::RdmaWrite {
        remote_address: region.address,
        remote_key: region.key,
    };
    let chain = [send(1, write, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    assert_eq!(target.poll()[0].status, CompletionStatus::Error(10));
    assert!(matches!(host.outcome(connection), ConnectOutcome::Failed(_)));
    take_down(&sim, &target, link);
}

#[test]
fn a_capsule_longer_than_the_receive_fails_the_queue_pair() {
    let sim = SimWorld::in_order();
    let (target, host, connection, link) = connected(&sim);
    host.send(connection, &[0; CAPSULE_BYTES as usize + 1]);
    sim.run_until_idle();
    assert_eq!(target.poll()[0].status, CompletionStatus::Error(1));
    take_down(&sim, &target, link);
}

#[test]
fn descriptors_follow_the_rules_of_verbs() {
    let sim = SimWorld::in_order();
    sim.use_descriptors();
    let (target, host, connection, link) = connected(&sim);
    let provider = &target.provider;
    let readable = |fd: Option<std::os::fd::RawFd>| {
        let mut poll = libc::pollfd {
            fd: fd.unwrap(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    };
    let completions = provider.completion_fd(&target.completion_queue);
    host.send(connection, b"first");
    sim.run_until_idle();
    assert!(!readable(completions), "not armed");
    provider.arm_completion_queue(&target.completion_queue).unwrap();
    assert!(
        !readable(completions),
        "what was there before the arming does not count"
    );
    host.send(connection, b"second");
    sim.run_until_idle();
    assert!(readable(completions));
    provider.take_completion_notifications(&target.completion_queue);
    host.send(connection, b"third");
    sim.run_until_idle();
    assert!(!readable(completions), "one notification per arming");
    assert_eq!(target.poll().len(), 3);

    assert!(!readable(provider.connection_event_fd()));
    host.disconnect(connection);
    sim.run_until_idle();
    assert!(readable(provider.connection_event_fd()));
    assert!(provider.next_connection_event().is_some());
    assert!(!readable(provider.connection_event_fd()));

    assert!(!readable(provider.async_event_fd(&target.device)));
    sim.set_link("rxe0", LinkState::Down);
    assert!(readable(provider.async_event_fd(&target.device)));
    sim.set_link("rxe0", LinkState::Up);
    while provider.next_async_event(&target.device).is_some() {}
    assert!(!readable(provider.async_event_fd(&target.device)));
    take_down(&sim, &target, link);
}
