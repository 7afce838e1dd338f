//! Hosts that have to prove who they are: until they do nothing is served, on any queue.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, Told, model};
use super::host::{HostQueue, TestHost, keyed, open_queue};
use crate::authentication::Requirement;
use crate::authentication::exchange::tests::{CONTROLLER_KEY, HOST_KEY, Host as Prover, PARTIES, credentials};
use crate::authentication::group::Group;
use crate::authentication::hash::Hash;
use crate::engine::messages::{CloseReason, PollerEvent, ToPoller};
use crate::nvme::authentication::{AUTHENTICATION_REQUIRED, ControllerMessage, build_receive, build_send};
use crate::nvme::command::CommandBuilder;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::CONTROLLER_ID_DYNAMIC;
use crate::nvme::opcode::admin;
use crate::nvme::properties::Configuration;
use crate::nvme::status::StatusCode;
use crate::subsystem::model::{Access, Model};

/// A model in which the host has to authenticate itself.
fn requiring(revision: u64, requirement: Requirement) -> Arc<Model> {
    let mut model = Model::clone(&model(
        revision,
        Access::AllowList(vec![PARTIES.host_nqn.to_owned()]),
        &[1],
    ));
    let subsystem = Arc::make_mut(&mut model.subsystems[0]);
    PARTIES.subsystem_nqn.clone_into(&mut subsystem.nqn);
    subsystem.authentication = vec![(PARTIES.host_nqn.to_owned(), requirement)];
    Arc::new(model)
}

fn bench() -> Bench {
    let bench = Bench::new();
    let credentials = credentials(Hash::Sha256, Some(Group::Ffdhe2048));
    bench.send(ToPoller::Model(requiring(2, Requirement::Credentials(credentials))));
    bench
}

/// Connects the admin queue; nothing more.
fn connect(bench: &mut Bench) -> (TestHost, Completion) {
    let sim = bench.add_host();
    let admin = open_queue(bench, &sim, 0, 32);
    let mut host = TestHost {
        sim,
        nqn: PARTIES.host_nqn.to_owned(),
        subsystem: PARTIES.subsystem_nqn.to_owned(),
        admin,
        controller_id: 0,
        next_command_id: Cell::new(0),
    };
    let completion = host.connect_command(bench, admin, 0, 31, CONTROLLER_ID_DYNAMIC, 5000);
    host.controller_id = completion.result as u16;
    (host, completion)
}

fn send(bench: &mut Bench, host: &TestHost, queue: HostQueue, message: &[u8]) -> Completion {
    let region = host.sim.register_bytes(message);
    let command = build_send(host.command_id(), message.len() as u32)
        .data(keyed(region))
        .build();
    host.command(bench, queue, command, &[])
}

fn receive(bench: &mut Bench, host: &TestHost, queue: HostQueue) -> Vec<u8> {
    let region = host.sim.register(4096);
    let command = build_receive(host.command_id(), 4096).data(keyed(region)).build();
    let completion = host.command(bench, queue, command, &[]);
    assert!(completion.status.is_success(), "{}", completion.status);
    host.sim.read(region)
}

fn authenticate(bench: &mut Bench, host: &TestHost, queue: HostQueue, key: &str) -> Vec<u8> {
    let mut prover = Prover::new(key, None);
    assert!(send(bench, host, queue, &Prover::negotiate()).status.is_success());
    let reply = prover.reply(&receive(bench, host, queue));
    assert!(send(bench, host, queue, &reply).status.is_success());
    receive(bench, host, queue)
}

fn succeeded(message: &[u8]) -> bool {
    matches!(
        ControllerMessage::parse(message),
        Some(ControllerMessage::Success1 { .. })
    )
}

fn refusals(told: &[Told]) -> Vec<&'static str> {
    let reasons = told.iter().filter_map(|told| match told {
        Told::Event(PollerEvent::ConnectRefused { reason, .. }) => Some(*reason),
        _ => None,
    });
    reasons.collect()
}

fn connected(told: &[Told]) -> usize {
    let connected = |told: &&Told| matches!(told, Told::Event(PollerEvent::HostConnected(_)));
    told.iter().filter(connected).count()
}

#[test]
fn every_queue_is_served_once_its_host_has_proved_who_it_is() {
    let mut bench = bench();
    let (host, completion) = connect(&mut bench);
    assert_eq!(completion.result & AUTHENTICATION_REQUIRED, AUTHENTICATION_REQUIRED);
    let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
    let refused = host.command(&mut bench, host.admin, keep_alive, &[]);
    assert_eq!(refused.status, StatusCode::AuthenticationRequired.permanent());
    assert_eq!(connected(&bench.take_told()), 0, "nobody hears of it before");

    assert!(succeeded(&authenticate(&mut bench, &host, host.admin, HOST_KEY)));
    assert_eq!(connected(&bench.take_told()), 1);
    host.configure(&mut bench, Configuration::ENABLE);

    let queue = open_queue(&mut bench, &host.sim, 1, 128);
    let completion = host.connect_in_capsule(&mut bench, queue, 1);
    assert_eq!(completion.result & AUTHENTICATION_REQUIRED, AUTHENTICATION_REQUIRED);
    let (read, _) = host.read_command(0, 1);
    let refused = host.command(&mut bench, queue, read, &[]);
    assert_eq!(refused.status, StatusCode::AuthenticationRequired.permanent());
    assert!(succeeded(&authenticate(&mut bench, &host, queue, HOST_KEY)));
    assert_eq!(host.read(&mut bench, queue, 0, 1).len(), 4096);
    assert_eq!(bench.counters.authentication_failures.get(), 0);

    // Again, on the running admin queue.
    assert!(succeeded(&authenticate(&mut bench, &host, host.admin, HOST_KEY)));
    assert_eq!(connected(&bench.take_told()), 0, "it was connected already");
}

#[test]
fn a_host_with_another_key_is_told_so_counted_and_closed() {
    let mut bench = bench();
    let (host, _) = connect(&mut bench);
    let message = authenticate(&mut bench, &host, host.admin, CONTROLLER_KEY);
    let failed = matches!(
        ControllerMessage::parse(&message),
        Some(ControllerMessage::Failure1 { .. })
    );
    assert!(failed);
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
    assert!(!host.sim.is_connected(host.admin.connection));
    assert_eq!(bench.counters.authentication_failures.get(), 1);
    let told = bench.take_told();
    assert_eq!(refusals(&told), ["AuthenticationWrongResponse"]);
    assert_eq!(connected(&told), 0);
    assert!(
        told.iter()
            .any(|told| matches!(told, Told::Drained(CloseReason::AuthenticationFailed)))
    );
}

#[test]
fn an_io_queue_with_another_key_ends_the_association() {
    let mut bench = bench();
    let (host, _) = connect(&mut bench);
    authenticate(&mut bench, &host, host.admin, HOST_KEY);
    host.configure(&mut bench, Configuration::ENABLE);
    let queue = open_queue(&mut bench, &host.sim, 1, 128);
    host.connect_in_capsule(&mut bench, queue, 1);
    authenticate(&mut bench, &host, queue, CONTROLLER_KEY);
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
    assert_eq!(bench.counters.authentication_failures.get(), 1);
}

#[test]
fn a_host_that_does_not_authenticate_itself_is_closed_and_counted_in_the_end() {
    let mut bench = bench();
    let (host, _) = connect(&mut bench);
    bench.pass(Duration::from_secs(119));
    assert_eq!(
        bench.poller.association_count(),
        1,
        "its keep-alive time is not what counts"
    );
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.poller.association_count(), 0);
    assert!(!host.sim.is_connected(host.admin.connection));
    assert_eq!(bench.counters.authentication_failures.get(), 1);
    assert_eq!(refusals(&bench.take_told()), ["AuthenticationTimedOut"]);
}

/// Lets time pass for a host that shows in time that it is alive.
fn pass_alive(bench: &mut Bench, host: &TestHost, seconds: u64) {
    for _ in 0..seconds / 4 {
        bench.pass(Duration::from_secs(4));
        if bench.poller.association_count() > 0 {
            let keep_alive = CommandBuilder::new(admin::KEEP_ALIVE, host.command_id()).build();
            assert!(host.command(bench, host.admin, keep_alive, &[]).status.is_success());
        }
    }
}

/// A host that authenticated itself and is served.
fn served() -> (Bench, TestHost) {
    let mut bench = bench();
    let (host, _) = connect(&mut bench);
    assert!(succeeded(&authenticate(&mut bench, &host, host.admin, HOST_KEY)));
    host.configure(&mut bench, Configuration::ENABLE);
    bench.take_told();
    (bench, host)
}

#[test]
fn a_host_that_begins_anew_and_does_not_finish_is_closed_and_counted_in_the_end() {
    let (mut bench, host) = served();
    assert!(
        send(&mut bench, &host, host.admin, &Prover::negotiate())
            .status
            .is_success()
    );
    pass_alive(&mut bench, &host, 60);
    let again = send(&mut bench, &host, host.admin, &Prover::negotiate());
    assert!(again.status.is_success(), "it may begin again, in the same time");
    pass_alive(&mut bench, &host, 56);
    assert_eq!(bench.poller.association_count(), 1);
    assert_eq!(bench.counters.authentication_failures.get(), 0);
    pass_alive(&mut bench, &host, 8);
    assert_eq!(bench.poller.association_count(), 0);
    assert!(!host.sim.is_connected(host.admin.connection));
    assert_eq!(bench.counters.authentication_failures.get(), 1);
    assert_eq!(refusals(&bench.take_told()), ["AuthenticationTimedOut"]);
}

#[test]
fn a_host_that_fails_anew_and_does_not_ask_what_became_of_it_is_closed_in_the_end() {
    let (mut bench, host) = served();
    let mut prover = Prover::new(CONTROLLER_KEY, None);
    assert!(
        send(&mut bench, &host, host.admin, &Prover::negotiate())
            .status
            .is_success()
    );
    let reply = prover.reply(&receive(&mut bench, &host, host.admin));
    assert!(send(&mut bench, &host, host.admin, &reply).status.is_success());
    pass_alive(&mut bench, &host, 124);
    assert_eq!(bench.poller.association_count(), 0);
    assert_eq!(bench.counters.authentication_failures.get(), 1, "it is counted once");
    assert_eq!(refusals(&bench.take_told()), ["AuthenticationWrongResponse"]);
}

#[test]
fn a_host_that_finished_anew_or_began_nothing_has_no_time_limit() {
    let (mut bench, host) = served();
    assert!(succeeded(&authenticate(&mut bench, &host, host.admin, HOST_KEY)));
    let region = host.sim.register(4096);
    let fetch = build_receive(host.command_id(), 4096).data(keyed(region)).build();
    let nothing = host.command(&mut bench, host.admin, fetch, &[]);
    assert_eq!(nothing.status, StatusCode::CommandSequenceError.permanent());
    pass_alive(&mut bench, &host, 132);
    assert_eq!(bench.poller.association_count(), 1);
    assert_eq!(bench.counters.authentication_failures.get(), 0);
}

#[test]
fn without_a_usable_key_the_host_is_refused_at_once() {
    let mut bench = bench();
    bench.send(ToPoller::Model(requiring(3, Requirement::NoUsableKey)));
    let (_, completion) = connect(&mut bench);
    assert_eq!(completion.status, StatusCode::ConnectInvalidHost.retryable());
    assert_eq!(bench.counters.authentication_failures.get(), 1);
    assert_eq!(refusals(&bench.take_told()), ["AuthenticationKeyUnusable"]);
}

#[test]
fn a_new_key_holds_for_new_connections_and_running_ones_go_on() {
    let mut bench = bench();
    let (host, _) = connect(&mut bench);
    authenticate(&mut bench, &host, host.admin, HOST_KEY);
    let mut rotated = (*credentials(Hash::Sha256, None)).clone();
    rotated.host_key = crate::authentication::key::Key::parse(CONTROLLER_KEY).unwrap();
    bench.send(ToPoller::Model(requiring(
        3,
        Requirement::Credentials(Arc::new(rotated)),
    )));
    host.configure(&mut bench, Configuration::ENABLE);
    // Its I/O queues still come with the key that its admin queue came with.
    let queue = open_queue(&mut bench, &host.sim, 1, 128);
    host.connect_in_capsule(&mut bench, queue, 1);
    assert!(succeeded(&authenticate(&mut bench, &host, queue, HOST_KEY)));

    let (second, _) = connect(&mut bench);
    assert!(!succeeded(&authenticate(&mut bench, &second, second.admin, HOST_KEY)));
    let (third, _) = connect(&mut bench);
    assert!(succeeded(&authenticate(
        &mut bench,
        &third,
        third.admin,
        CONTROLLER_KEY
    )));
}

#[test]
fn a_host_that_came_in_without_must_come_again_once_it_has_to_authenticate_itself() {
    let mut bench = Bench::new();
    let mut open = Model::clone(&requiring(2, Requirement::NoUsableKey));
    Arc::make_mut(&mut open.subsystems[0]).authentication.clear();
    bench.send(ToPoller::Model(Arc::new(open)));
    let (_host, completion) = connect(&mut bench);
    assert_eq!(completion.result & AUTHENTICATION_REQUIRED, 0);
    let credentials = credentials(Hash::Sha256, None);
    bench.send(ToPoller::Model(requiring(3, Requirement::Credentials(credentials))));
    bench.run();
    assert_eq!(bench.poller.association_count(), 0);
}
