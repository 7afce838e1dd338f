//! When links, addresses and devices are looked at, and what is made of what is seen.

use super::*;
use crate::engine::control::RECHECK;
use crate::provider::AsyncEvent;

impl Node {
    fn device_lists(&self) -> u64 {
        self.sim.calls(FaultPoint::ListDevices)
    }

    /// How often a listener was reported to be in this state.
    fn reported(&self, reason: &str) -> usize {
        let of = |report: &&Report| matches!(&report.event, Event::PortPhase { reason: found, .. } if *found == reason);
        self.reports.iter().filter(of).count()
    }
}

#[test]
fn a_loop_that_waits_for_nothing_sleeps() {
    let mut node = Node::serving(BOTH);
    node.run(Duration::from_secs(1));
    assert_eq!(node.sleep(Duration::from_secs(50)), 0);
}

#[test]
fn a_device_that_nothing_announces_is_found_by_a_loop_that_sleeps() {
    let mut node = Node::serving(STORAGE);
    node.sim.remove_device("rxe0");
    node.sleep(Duration::from_secs(2));
    node.assert_phase("storage", "Down", "NoRdmaDevice");
    assert_eq!(node.sleep(10 * RECHECK + RECHECK / 2), 10, "a look a second");
    node.sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip(A)));
    node.sleep(2 * RECHECK);
    node.assert_phase("storage", "Serving", "Serving");
}

#[test]
fn a_reason_that_stands_is_reported_once() {
    let mut node = Node::new();
    node.apply(&spec(
        1,
        r#"{"name": "late", "addressFrom": {"cidr": "10.77.0.0/16"}}"#,
        MEMORY,
    ));
    node.run(5 * RECHECK);
    node.assert_phase("late", "Down", "AddressNotFound");
    assert_eq!(node.reported("AddressNotFound"), 1);
}

#[test]
fn links_that_cannot_be_read_are_read_again_after_a_second_at_the_latest() {
    let mut node = Node::serving(STORAGE);
    node.run(Duration::from_secs(1));
    node.links.fail_reads(1);
    let deadline = node.settle();
    assert_eq!(deadline, Some(node.now().instant + RECHECK));
    node.sleep(RECHECK);
    assert_eq!(node.sleep(10 * RECHECK), 0, "and no more once they could be");
}

#[test]
fn a_flap_lists_no_devices() {
    let mut node = Node::serving(BOTH);
    node.connected(at(A));
    let listed = node.device_lists();
    node.link("rdma0", false);
    node.run(Duration::from_secs(3));
    node.link("rdma0", true);
    node.run(Duration::from_secs(3));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.device_lists(), listed, "it takes long, and a port waits for it");
}

#[test]
fn an_address_that_is_not_there_lists_no_devices() {
    let mut node = Node::serving(STORAGE);
    node.links.remove_address(ip(A));
    node.sim.remove_address("rxe0", ip(A));
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Down", "AddressNotFound");
    let listed = node.device_lists();
    node.run(10 * RECHECK);
    assert_eq!(node.device_lists(), listed, "no device would change that");
}

#[test]
fn devices_that_cannot_be_listed_are_the_reason_only_where_a_device_is_missing() {
    let mut node = Node::new();
    node.sim.fail_always(FaultPoint::ListDevices, Some(libc::ENOSYS));
    let listeners = format!(r#"{STORAGE}, {{"name": "late", "addressFrom": {{"cidr": "10.77.0.0/16"}}}}"#);
    node.apply(&spec(1, &listeners, MEMORY));
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Down", "RdmaUnavailable");
    node.assert_phase("late", "Down", "AddressNotFound");
    node.sim.fail_always(FaultPoint::ListDevices, None);
    node.run(2 * RECHECK);
    node.assert_phase("storage", "Serving", "Serving");
}

#[test]
fn devices_that_cannot_be_listed_take_nothing_away_that_serves() {
    let mut node = Node::serving(BOTH);
    let connection = node.connected(at(A));
    node.sim.fail_always(FaultPoint::ListDevices, Some(libc::EMFILE));
    // A second port that loses its device makes the loop list them.
    node.sim.remove_device("rxe1");
    node.run(Duration::from_secs(5));
    assert_eq!(node.phase("second").0, "Down");
    assert_eq!(node.phases("storage"), ["Arming", "Serving"]);
    assert!(node.host.is_connected(connection));
}

#[test]
fn async_events_of_a_device_are_counted_by_name_for_its_ports_only() {
    let mut node = Node::serving(BOTH);
    for _ in 0..2 {
        node.sim.inject_async_event("rxe0", AsyncEvent::PortError);
    }
    node.sim.inject_async_event("rxe0", AsyncEvent::GidChange);
    node.settle();
    assert_eq!(
        node.listener("storage")["asyncEvents"],
        serde_json::json!({"PORT_ERR": 2, "GID_CHANGE": 1})
    );
    assert_eq!(node.listener("second")["asyncEvents"], serde_json::json!({}));
}

#[test]
fn links_that_could_not_be_read_are_looked_at_every_second_until_they_can_be() {
    let mut node = Node::serving(STORAGE);
    node.run(Duration::from_secs(1));
    // Something is to be said, so the links are read, which fails; then there is nothing left to be said.
    let connection = node.host.connect(at(A), b"hostile");
    node.sim.run_until_idle();
    // The step's first look comes before the request.
    node.links.fail_reads(u32::MAX);
    node.settle();
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Pending);
    node.host.give_up(connection);
    node.settle();
    assert_eq!(
        node.listener("storage")["verbsObjects"]["connectionIds"],
        1,
        "the listener's"
    );
    assert_eq!(node.sleep(5 * RECHECK + RECHECK / 2), 5);
    node.links.fail_reads(0);
    node.sleep(2 * RECHECK);
    assert_eq!(node.sleep(10 * RECHECK), 0);
}
