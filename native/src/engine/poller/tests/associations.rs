//! Associations: who may join them, and what ends them.

use std::time::Duration;

use super::bench::{Bench, HOST, SUBSYSTEM, Told};
use super::host::{HostQueue, TestHost, keyed, open_queue, pattern};
use crate::engine::messages::{CloseReason, HostIdentity, PollerEvent};
use crate::nvme::command::CommandBuilder;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, fabrics_type};
use crate::nvme::opcode::admin;
use crate::nvme::properties::Configuration;
use crate::nvme::status::StatusCode;

fn closed(bench: &mut Bench) -> Vec<CloseReason> {
    let reasons = bench.take_told().into_iter().filter_map(|told| match told {
        Told::Drained(reason) => Some(reason),
        _ => None,
    });
    reasons.collect()
}

fn disconnections(told: &[Told]) -> Vec<CloseReason> {
    let reasons = told.iter().filter_map(|told| match told {
        Told::Event(PollerEvent::HostDisconnected(_, reason)) => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

#[test]
fn the_control_thread_hears_of_hosts_and_their_queues() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    host.io_queue(&mut bench, 1);
    let told = bench.take_told();
    let Some(Told::Event(PollerEvent::HostConnected(identity))) = told.first() else {
        panic!("{told:?}")
    };
    let expected = HostIdentity {
        host_nqn: HOST.to_owned(),
        subsystem_nqn: SUBSYSTEM.to_owned(),
        controller_id: host.controller_id,
        source: identity.source,
        listener: "storage".into(),
        discovery: false,
    };
    assert_eq!(*identity, expected);
    assert!(
        matches!(told[1], Told::Event(PollerEvent::HostQueues { queue_pairs: 2, .. })),
        "{told:?}"
    );
    assert_eq!(bench.port_counters.queue_pairs_active.get(), 2);
}

#[test]
fn controller_ids_go_round_and_are_never_shared() {
    let mut bench = Bench::new();
    let first = TestHost::connect(&mut bench);
    let second = TestHost::connect(&mut bench);
    assert_ne!(first.controller_id, second.controller_id);
    second.sim.disconnect(second.admin.connection);
    bench.run();
    let third = TestHost::connect(&mut bench);
    assert!(![first.controller_id, second.controller_id].contains(&third.controller_id));
}

#[test]
fn a_queue_id_in_use_is_refused_and_only_the_second_queue_pair_goes() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let first = host.io_queue(&mut bench, 1);
    let second = open_queue(&mut bench, &host.sim, 1, 128);
    let completion = host.connect_in_capsule(&mut bench, second, 1);
    assert_eq!(completion.status.code, StatusCode::CommandSequenceError);
    bench.run();
    assert!(!host.sim.is_connected(second.connection));
    assert!(host.write(&mut bench, first, 0, &pattern(1, 1)).status.is_success());
}

fn connect_io_to(bench: &mut Bench, host: &TestHost, controller_id: u16, queue_id: u16) -> (HostQueue, Completion) {
    let queue = open_queue(bench, &host.sim, queue_id, 128);
    let completion = host.connect_command(bench, queue, queue_id, 127, controller_id, 0);
    (queue, completion)
}

#[test]
fn an_io_queue_joins_only_its_own_host_s_controller() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let sim = bench.add_host();
    let other = TestHost::connect_as(&mut bench, sim, "nqn.2026-11.dev.weir:host-b", 5000);
    let (_, completion) = connect_io_to(&mut bench, &other, host.controller_id, 1);
    assert_eq!(completion.status.code, StatusCode::ConnectInvalidParameters);
    let (_, completion) = connect_io_to(&mut bench, &other, 99, 1);
    assert_eq!(completion.status, StatusCode::ConnectInvalidParameters.retryable());
    let refused = bench.take_told().into_iter().filter(
        |told| matches!(told, Told::Event(PollerEvent::ConnectRefused { host_nqn, .. }) if host_nqn == &other.nqn),
    );
    assert_eq!(refused.count(), 2);
}

#[test]
fn a_queue_id_other_than_the_connection_s_is_refused() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = open_queue(&mut bench, &host.sim, 2, 128);
    let completion = host.connect_command(&mut bench, queue, 1, 127, host.controller_id, 0);
    assert_eq!(
        (completion.status.code, completion.result),
        (StatusCode::ConnectInvalidParameters, 42)
    );
}

#[test]
fn a_command_before_connect_is_refused_and_the_queue_pair_closed() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = open_queue(&mut bench, &host.sim, 1, 128);
    let (read, _) = host.read_command(0, 1);
    assert_eq!(
        host.command(&mut bench, queue, read, &[]).status.code,
        StatusCode::CommandSequenceError
    );
    assert!(!host.sim.is_connected(queue.connection));
    assert!(host.sim.is_connected(host.admin.connection));
}

#[test]
fn a_second_connect_while_the_first_s_data_is_fetched_is_refused() {
    let mut bench = Bench::new();
    let sim = bench.add_host();
    let host = TestHost::connect(&mut bench);
    let queue = open_queue(&mut bench, &sim, 0, 32);
    for _ in 0..2 {
        let connect = ConnectCommand {
            command_id: host.command_id(),
            record_format: 0,
            queue_id: 0,
            queue_size: 31,
            attributes: 0,
            keep_alive_timeout_ms: 5000,
        };
        let region = sim.register_bytes(&host.connect_data(CONTROLLER_ID_DYNAMIC));
        sim.send(queue.connection, &{
            let command = connect.build().data(keyed(region)).build();
            command.as_bytes().to_vec()
        });
    }
    bench.run();
    let statuses: Vec<_> = sim
        .take_responses(queue.connection)
        .iter()
        .map(super::host::decode)
        .collect();
    assert_eq!(statuses.len(), 2);
    assert!(
        statuses[0].status.is_success() && !statuses[1].status.is_success(),
        "{statuses:?}"
    );
}

#[test]
fn a_queue_pair_without_a_connect_is_taken_down_in_time() {
    let mut bench = Bench::new();
    let sim = bench.add_host();
    let queue = open_queue(&mut bench, &sim, 0, 32);
    bench.pass(Duration::from_secs(29));
    assert!(sim.is_connected(queue.connection));
    bench.pass(Duration::from_secs(2));
    assert!(!sim.is_connected(queue.connection));
    assert_eq!(bench.poller.queue_pair_count(), 0);
}

#[test]
fn a_silent_host_s_association_ends_with_its_keep_alive() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    host.io_queue(&mut bench, 1);
    bench.pass(Duration::from_secs(3));
    let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
    host.post(host.admin, &keep_alive, &[]);
    bench.run();
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.poller.association_count(), 1, "a command restarts the timer");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.poller.association_count(), 0);
    assert_eq!(bench.counters.keep_alive_timeouts.get(), 1);
    assert_eq!(closed(&mut bench), [CloseReason::KeepAliveExpired; 2]);
}

#[test]
fn the_step_tells_when_the_next_timer_runs_out() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    bench.pass(Duration::from_secs(2));
    let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
    host.command(&mut bench, host.admin, keep_alive, &[]);
    let first = bench.step().deadline.expect("a keep-alive runs");
    assert_eq!(first, bench.now + Duration::from_secs(3), "early, but never late");
    bench.now = first;
    bench.run();
    assert_eq!(bench.step().deadline, Some(first + Duration::from_secs(2)));
}

#[test]
fn an_io_queue_that_the_host_disconnects_goes_alone() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    host.sim.disconnect(queue.connection);
    bench.run();
    assert_eq!(bench.poller.association_count(), 1);
    host.configure(&mut bench, Configuration::SHUTDOWN);
    host.sim.disconnect(host.admin.connection);
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
    let told = bench.take_told();
    assert_eq!(disconnections(&told), [CloseReason::HostDisconnected]);
}

#[test]
fn the_end_of_the_admin_queue_ends_every_queue() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queues = [host.io_queue(&mut bench, 1), host.io_queue(&mut bench, 2)];
    host.sim.disconnect(host.admin.connection);
    bench.run();
    assert_eq!(bench.poller.queue_pair_count(), 0);
    assert!(queues.iter().all(|queue| !host.sim.is_connected(queue.connection)));
}

#[test]
fn a_transport_error_on_one_queue_ends_the_association() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let (command, region) = host.read_command(0, 1);
    host.sim.release(region);
    host.post(queue, &command, &[]);
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
    let mut reasons = closed(&mut bench);
    reasons.sort_unstable_by_key(|reason| format!("{reason:?}"));
    assert_eq!(reasons, [CloseReason::AssociationEnded, CloseReason::TransportError]);
}

#[test]
fn a_reset_closes_io_queues_and_keeps_the_admin_queue() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    host.configure(&mut bench, Configuration::DISABLE);
    bench.run();
    assert!(!host.sim.is_connected(queue.connection));
    assert_eq!(bench.poller.association_count(), 1);
    host.configure(&mut bench, Configuration::ENABLE);
    let queue = host.io_queue(&mut bench, 1);
    assert!(host.write(&mut bench, queue, 0, &pattern(1, 1)).status.is_success());
}

#[test]
fn a_fabrics_disconnect_is_answered_before_the_queue_pair_goes() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    let disconnect = CommandBuilder::fabrics(fabrics_type::DISCONNECT, host.command_id()).build();
    assert!(host.command(&mut bench, queue, disconnect, &[]).status.is_success());
    assert!(!host.sim.is_connected(queue.connection));
    assert_eq!(bench.poller.association_count(), 1);
}

#[test]
fn flow_control_is_off_when_the_connect_says_so() {
    let mut bench = Bench::new();
    let host = TestHost::connect(&mut bench);
    let queue = host.io_queue(&mut bench, 1);
    host.post(queue, &host.read_command(0, 1).0, &[]);
    host.configure(&mut bench, Configuration::ENABLE);
    let head = |bytes: &[u8]| u16::from_le_bytes([bytes[8], bytes[9]]);
    assert_eq!(head(&host.sim.take_responses(queue.connection)[0].bytes), 0xffff);
    let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
    host.post(host.admin, &keep_alive, &[]);
    bench.run();
    assert_eq!(
        head(&host.sim.take_responses(host.admin.connection)[0].bytes),
        4,
        "three commands came before"
    );
}
