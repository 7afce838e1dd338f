//! Changes of the desired state under I/O.

use super::bench::{BLOCK, Bench, HOST, Told, model};
use super::host::{TestHost, pattern};
use crate::backend::BackingId;
use crate::engine::messages::{CloseReason, PollerEvent, ToPoller};
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::fabrics::CONTROLLER_ID_DYNAMIC;
use crate::nvme::opcode::{admin, io};
use crate::nvme::status::StatusCode;
use crate::subsystem::model::Access;

#[test]
fn a_namespace_removed_under_io_refuses_new_io_and_is_given_back_after_its_last() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    bench.run();
    bench.send(ToPoller::Model(model(2, Access::AnyHost, &[2])));
    bench.send(ToPoller::DetachBacking(BackingId(1)));
    let (read, _) = host.read_command(0, 1);
    let completion = host.command(&mut bench, queue, read, &[]);
    assert_eq!(completion.status, StatusCode::InvalidNamespace.permanent());
    assert!(!bench.take_told().contains(&Told::Detached(BackingId(1))));
    bench.backend.hold(false);
    bench.run();
    assert!(
        host.responses(queue)[0].status.is_success(),
        "what was accepted is finished"
    );
    assert!(bench.take_told().contains(&Told::Detached(BackingId(1))));
    let other = host.io(io::READ, 0, 1).namespace(2);
    let region = host.sim.register(BLOCK as usize);
    let completion = host.command(&mut bench, queue, other.data(super::host::keyed(region)).build(), &[]);
    assert!(completion.status.is_success());
}

#[test]
fn a_namespace_added_is_served_at_once() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.send(ToPoller::Model(model(2, Access::AnyHost, &[1, 2, 3])));
    let region = host.sim.register(BLOCK as usize);
    let command = host
        .io(io::READ, 0, 1)
        .namespace(3)
        .data(super::host::keyed(region))
        .build();
    assert!(host.command(&mut bench, queue, command, &[]).status.is_success());
}

#[test]
fn a_host_taken_off_the_list_is_taken_down_and_others_stay() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    host.io_queue(&mut bench, 1);
    let sim = bench.add_host();
    let other = TestHost::connect_as(&mut bench, sim, "nqn.2026-11.dev.weir:host-b", 5000);
    bench.take_told();
    bench.send(ToPoller::Model(model(
        2,
        Access::AllowList(vec![other.nqn.clone()]),
        &[1, 2],
    )));
    bench.run();
    assert!(!host.sim.is_connected(host.admin.connection));
    assert!(other.sim.is_connected(other.admin.connection));
    let told = bench.take_told();
    assert_eq!(
        told.iter()
            .filter(|told| **told == Told::Drained(CloseReason::NotAllowed))
            .count(),
        2
    );
    let queue = super::host::open_queue(&mut bench, &host.sim, 0, 32);
    let completion = host.connect_command(&mut bench, queue, 0, 31, CONTROLLER_ID_DYNAMIC, 5000);
    assert_eq!(completion.status.code, StatusCode::ConnectInvalidHost);
    let refused = bench.take_told().into_iter().any(|told| {
        matches!(told, Told::Event(PollerEvent::ConnectRefused { host_nqn, reason: "HostNotAllowed", .. })
            if host_nqn == HOST)
    });
    assert!(refused);
}

#[test]
fn an_unknown_backing_is_not_detached() {
    let mut bench = Bench::new();
    bench.send(ToPoller::DetachBacking(BackingId(77)));
    bench.run();
    assert_eq!(bench.counters.stale_messages.get(), 1);
}

#[test]
fn quiescing_refuses_new_io_with_a_path_error_and_finishes_the_rest() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.backend.hold(true);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    bench.run();
    bench.send(ToPoller::Quiesce);
    let (read, _) = host.read_command(0, 1);
    let completion = host.command(&mut bench, queue, read, &[]);
    assert_eq!(completion.status, StatusCode::AsymmetricAccessInaccessible.retryable());
    assert!(!bench.take_told().contains(&Told::Quiet));
    bench.backend.hold(false);
    bench.run();
    assert!(host.responses(queue)[0].status.is_success());
    assert_eq!(bench.take_told(), [Told::Quiet]);
}

fn event_request(host: &TestHost) -> Command {
    CommandBuilder::new(admin::ASYNC_EVENT_REQUEST, host.command_id()).build()
}

fn enable_events(bench: &mut Bench, host: &TestHost) {
    let namespace_attribute = 1 << 8;
    let command = CommandBuilder::new(admin::SET_FEATURES, host.command_id())
        .dword(10, 0x0b)
        .dword(11, namespace_attribute)
        .build();
    assert!(host.command(bench, host.admin, command, &[]).status.is_success());
}

#[test]
fn a_waiting_event_request_is_answered_when_namespaces_change() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    enable_events(&mut bench, &host);
    let request = event_request(&host);
    host.post(host.admin, &request, &[]);
    bench.run();
    assert!(host.responses(host.admin).is_empty());
    assert_eq!(
        bench.poller.request_count(),
        0,
        "a waiting event request takes no request slot"
    );
    bench.send(ToPoller::Model(model(2, Access::AnyHost, &[1, 2, 3])));
    bench.run();
    let answers = host.responses(host.admin);
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].command_id, request.command_id());
    let changed_namespace_list = 0x04;
    assert_eq!(answers[0].result >> 16 & 0xff, changed_namespace_list);
}

#[test]
fn an_event_that_came_first_waits_for_its_request() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    enable_events(&mut bench, &host);
    bench.send(ToPoller::Model(model(2, Access::AnyHost, &[1])));
    bench.run();
    assert!(
        host.command(&mut bench, host.admin, event_request(&host), &[])
            .status
            .is_success()
    );
}

#[test]
fn event_requests_beyond_the_limit_are_refused() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    for _ in 0..4 {
        host.post(host.admin, &event_request(&host), &[]);
    }
    bench.run();
    assert!(host.responses(host.admin).is_empty());
    host.post(host.admin, &event_request(&host), &[]);
    bench.run();
    assert_eq!(
        host.responses(host.admin)[0].status.code,
        StatusCode::AsyncEventRequestLimitExceeded
    );
}
