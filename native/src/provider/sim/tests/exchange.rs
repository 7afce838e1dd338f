//! What a healthy or a flapping world does.

use super::*;

#[test]
fn a_capsule_arrives_and_its_answer_reaches_the_host() {
    let sim = SimWorld::in_order();
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    sim.run_until_idle();
    let completions = target.poll();
    assert_eq!(completions.len(), 1);
    assert_eq!(completions[0].kind, CompletionKind::Receive);
    assert_eq!(completions[0].byte_length, 7);
    assert_eq!(target.bytes(0, 7), b"capsule");

    let read_from = host.register_bytes(&[5; 4096]);
    let write_to = host.register(4096);
    target.bytes(65536, 4096).fill(6);
    target.bytes(131_072, 16).fill(8);
    let chain = [
        send(
            1,
            SendOperation::RdmaRead {
                remote_address: read_from.address,
                remote_key: read_from.key,
            },
            target.sge(200_000, 4096),
            false,
        ),
        send(
            2,
            SendOperation::RdmaWrite {
                remote_address: write_to.address,
                remote_key: write_to.key,
            },
            target.sge(65536, 4096),
            false,
        ),
        send(
            3,
            SendOperation::SendWithInvalidate {
                remote_key: write_to.key,
            },
            target.sge(131_072, 16),
            true,
        ),
    ];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    let completions = target.poll();
    assert_eq!(completions.len(), 1);
    assert_eq!(
        (completions[0].token, completions[0].status),
        (3, CompletionStatus::Success)
    );
    assert_eq!(target.bytes(200_000, 4096), [5; 4096]);
    assert_eq!(host.read(write_to), [6; 4096]);
    assert!(!host.is_valid(write_to));
    let responses = host.take_responses(connection);
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].bytes, [8; 16]);
    assert_eq!(responses[0].invalidated, Some(write_to.key));
    take_down(&sim, &target, link);
    drop(target);
    assert_eq!(sim.live_objects(), LiveObjects::default());
}

#[test]
fn a_send_while_the_link_is_down_fails_and_the_rest_is_flushed() {
    let sim = SimWorld::in_order();
    let (target, _host, _connection, mut link) = connected(&sim);
    sim.set_link("rxe0", LinkState::Down);
    assert_eq!(
        target.provider.next_async_event(&target.device),
        Some(AsyncEvent::PortError)
    );
    assert_eq!(target.provider.port_state(&target.device), Ok(PortState::Down));
    let chain = [
        send(1, SendOperation::Send, target.sge(65536, 16), true),
        send(2, SendOperation::Send, target.sge(65536, 16), false),
    ];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    sim.run_until_idle();
    let statuses: Vec<_> = target.poll().iter().map(|one| one.status).collect();
    assert_eq!(statuses, [CompletionStatus::Error(2), CompletionStatus::Flushed]);
    sim.set_link("rxe0", LinkState::Up);
    take_down(&sim, &target, link);
    assert_eq!(sim.violations(), []);
}

#[test]
fn sends_to_a_silent_peer_wait_for_the_link() {
    let sim = SimWorld::in_order();
    let (target, host, connection, mut link) = connected(&sim);
    host.send(connection, b"capsule");
    sim.run_until_idle();
    target.poll();
    sim.set_link("rxe0", LinkState::Silent);
    let chain = [send(1, SendOperation::Send, target.sge(65536, 16), true)];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    assert_eq!(sim.run_until_idle(), 0);
    assert_eq!(target.provider.port_state(&target.device), Ok(PortState::Active));
    sim.set_link("rxe0", LinkState::Up);
    sim.run_until_idle();
    assert_eq!(target.poll().len(), 1);
    assert_eq!(host.take_responses(connection).len(), 1);
    take_down(&sim, &target, link);
}

#[test]
fn a_message_while_the_link_is_down_kills_the_management_queue_pair_until_the_device_is_recreated() {
    let sim = SimWorld::in_order();
    sim.record_violations();
    let (target, host, _connection, mut link) = connected(&sim);
    sim.set_link("rxe0", LinkState::Down);
    target.provider.disconnect(&link.connection).unwrap();
    sim.set_link("rxe0", LinkState::Up);
    assert_eq!(sim.violations()[0].kind, ViolationKind::MessageWhileLinkDown);
    assert!(sim.management_dead("rxe0"));
    let second = host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    assert!(target.provider.next_connection_event().is_none());
    assert_eq!(host.outcome(second), ConnectOutcome::Pending);

    target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
    sim.remove_device("rxe0");
    drop((link, target));
    sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", address().ip()));
    let _listener = sim.provider().listen(address(), 7, 8).unwrap();
    sim.run_until_idle();
    assert!(matches!(
        sim.provider().next_connection_event(),
        Some(ConnectionEvent::Request(_))
    ));
    assert_eq!(sim.violations().len(), 1);
}

#[test]
fn the_host_disconnects_and_the_answer_ends_in_timewait() {
    let sim = SimWorld::in_order();
    let (target, host, connection, link) = connected(&sim);
    host.disconnect(connection);
    sim.run_until_idle();
    assert!(matches!(
        target.provider.next_connection_event(),
        Some(ConnectionEvent::Disconnected(42))
    ));
    target.provider.disconnect(&link.connection).unwrap();
    sim.run_until_idle();
    assert!(matches!(
        target.provider.next_connection_event(),
        Some(ConnectionEvent::TimewaitExit(42))
    ));
    assert_eq!(host.outcome(connection), ConnectOutcome::Disconnected);
    take_down(&sim, &target, link);
}

#[test]
fn a_reject_reaches_the_host_with_its_data() {
    let sim = SimWorld::in_order();
    let (target, host) = target_in(&sim);
    let connection = host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    let Some(ConnectionEvent::Request(request)) = target.provider.next_connection_event() else {
        panic!("no request");
    };
    assert_eq!(request.private_data, [1; 32]);
    assert_eq!(request.initiator_depth, 16);
    target.provider.reject(&request.connection, &[0, 0, 6, 0]).unwrap();
    sim.run_until_idle();
    assert_eq!(host.outcome(connection), ConnectOutcome::Rejected(vec![0, 0, 6, 0]));
}

#[test]
fn listening_tells_its_errors_apart() {
    let sim = SimWorld::in_order();
    let (target, _host) = target_in(&sim);
    sim.add_plain_address("192.0.2.1".parse().unwrap());
    let errno = |address: &str| {
        target
            .provider
            .listen(address.parse().unwrap(), 1, 8)
            .unwrap_err()
            .errno
    };
    assert_eq!(errno("10.9.0.1:4420"), libc::EADDRINUSE);
    assert_eq!(errno("10.9.0.9:4420"), libc::EADDRNOTAVAIL);
    assert_eq!(errno("192.0.2.1:4420"), libc::ENODEV);
    assert_eq!(target.provider.listener_device(&target.listener).unwrap(), "rxe0");
}
