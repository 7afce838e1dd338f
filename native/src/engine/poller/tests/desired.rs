//! Changes of the desired state under I/O.

use std::sync::Arc;

use super::bench::{BLOCK, Bench, HOST, PORT, ToTestPoller, Told, model};
use super::host::{TestHost, pattern};
use crate::backend::BackingId;
use crate::engine::messages::{CloseReason, Epoch, PollerEvent, ToPoller};
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::fabrics::CONTROLLER_ID_DYNAMIC;
use crate::nvme::opcode::{admin, io};
use crate::nvme::status::StatusCode;
use crate::subsystem::model::{Access, Model, Paths};

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

fn with_paths(revision: u64, paths: Paths) -> ToTestPoller {
    ToPoller::Model(Arc::new(Model {
        paths,
        ..Model::clone(&model(revision, Access::AnyHost, &[1, 2]))
    }))
}

fn read_ana_log(bench: &mut Bench, host: &TestHost) {
    let region = host.sim.register(64);
    let command = CommandBuilder::new(admin::GET_LOG_PAGE, host.command_id())
        .namespace(u32::MAX)
        .dword(10, 0x0c | 15 << 16)
        .data(super::host::keyed(region))
        .build();
    assert!(host.command(bench, host.admin, command, &[]).status.is_success());
}

fn path_reports(bench: &mut Bench) -> Vec<u64> {
    let told = bench.take_told();
    let revision = |told| match told {
        Told::PathsClear(revision) => Some(revision),
        _ => None,
    };
    told.into_iter().filter_map(revision).collect()
}

#[test]
fn paths_are_clear_once_hosts_have_read_so_and_nothing_is_in_flight() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    enable_events(&mut bench, &host);
    let request = event_request(&host);
    host.post(host.admin, &request, &[]);
    bench.backend.hold(true);
    host.post(queue, &host.write_command(0, &pattern(1, 1)).0, &[]);
    bench.run();
    bench.send(with_paths(2, Paths::Inaccessible));
    bench.run();
    let told = host.responses(host.admin);
    assert_eq!(told.len(), 1, "the host is told that there is something to read");
    let (read, _) = host.read_command(0, 1);
    let completion = host.command(&mut bench, queue, read, &[]);
    assert_eq!(completion.status, StatusCode::AsymmetricAccessInaccessible.retryable());
    assert_eq!(
        path_reports(&mut bench),
        [0; 0],
        "neither was read nor is the write done"
    );
    bench.backend.hold(false);
    bench.run();
    assert!(
        host.responses(queue)[0].status.is_success(),
        "what was begun is finished"
    );
    assert_eq!(path_reports(&mut bench), [0; 0], "the host has not read the log");
    read_ana_log(&mut bench, &host);
    assert_eq!(path_reports(&mut bench), [2]);
    bench.send(with_paths(3, Paths::Leaving));
    bench.run();
    assert_eq!(path_reports(&mut bench), [0; 0], "said once");
    assert!(host.sim.is_connected(host.admin.connection));
}

#[test]
fn paths_that_are_accessible_again_serve_and_are_cleared_anew_the_next_time() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    bench.send(with_paths(2, Paths::Inaccessible));
    bench.run();
    assert_eq!(
        path_reports(&mut bench),
        [2],
        "nobody waits for a host that asked for no notices"
    );
    bench.send(with_paths(3, Paths::Accessible));
    let (read, _) = host.read_command(0, 1);
    assert!(host.command(&mut bench, queue, read, &[]).status.is_success());
    assert_eq!(path_reports(&mut bench), [0; 0]);
    bench.send(with_paths(4, Paths::Inaccessible));
    bench.run();
    assert_eq!(path_reports(&mut bench), [4]);
}

#[test]
fn a_host_that_cannot_be_reached_is_not_waited_for() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    enable_events(&mut bench, &host);
    bench.send(ToPoller::Hold(PORT, Epoch(1)));
    bench.send(with_paths(2, Paths::Inaccessible));
    bench.run();
    assert_eq!(path_reports(&mut bench), [2]);
}

fn event_request(host: &TestHost) -> Command {
    CommandBuilder::new(admin::ASYNC_EVENT_REQUEST, host.command_id()).build()
}

fn enable_events(bench: &mut Bench, host: &TestHost) {
    let (namespace_attribute, asymmetric_access) = (1 << 8, 1 << 11);
    let command = CommandBuilder::new(admin::SET_FEATURES, host.command_id())
        .dword(10, 0x0b)
        .dword(11, namespace_attribute | asymmetric_access)
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
