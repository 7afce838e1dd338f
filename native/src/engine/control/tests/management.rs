//! A management queue pair that dies: noticed, reported, nothing said while the link is down, healed by a new device.

use super::*;
use crate::provider::DeviceDriver;
use crate::soft_device::{Recreation, SoftDevice};

/// Longest time from the death until the port says so, with no host connecting: the pace of looks, and two requests.
const NOTICED_WITHIN: Duration = Duration::from_secs(60 + 2 * 3 + 1);

impl Node {
    /// Until the listener is in this phase for this reason; how long it took.
    fn run_until(&mut self, name: &str, phase: &str, reason: &str, limit: Duration) -> Duration {
        let begin = self.elapsed;
        while self.phase(name) != (phase.to_owned(), reason.to_owned()) {
            assert!(
                self.elapsed - begin < limit,
                "not {phase} ({reason}) within {limit:?}: {:#?}",
                self.listener(name)
            );
            self.run(Duration::from_millis(10));
        }
        self.elapsed - begin
    }

    fn identifiers(&self, name: &str) -> u64 {
        self.listener(name)["verbsObjects"]["connectionIds"].as_u64().unwrap()
    }

    fn device_fatal_messages(&self) -> Vec<&str> {
        let messages = self.reports.iter().filter_map(|report| match &report.event {
            Event::DeviceFatal { message, .. } => Some(message.as_str()),
            _ => None,
        });
        messages.collect()
    }
}

#[test]
fn a_port_without_hosts_looks_at_its_management_queue_pair_and_leaves_no_trace() {
    let mut node = Node::serving(STORAGE);
    node.run(Duration::from_secs(1));
    assert_eq!(
        node.sim.calls(FaultPoint::Connect),
        1,
        "one look after it began to serve"
    );
    node.run(Duration::from_secs(57));
    assert_eq!(node.sim.calls(FaultPoint::Connect), 1);
    node.run(Duration::from_secs(3));
    assert_eq!(node.sim.calls(FaultPoint::Connect), 2, "and one a minute later");
    let listener = node.listener("storage");
    assert_eq!(listener["phase"], "Serving");
    assert_eq!(
        listener["connectsRejected"],
        serde_json::json!({}),
        "a probe is no host's connect"
    );
    assert_eq!(node.identifiers("storage"), 1, "the listener's only");
    assert_eq!(
        node.sim.calls(FaultPoint::CreateQueuePair),
        0,
        "a probe gets no queue pair"
    );
    let about_connects = |report: &&Report| matches!(report.event, Event::ConnectRejected { .. });
    assert_eq!(node.reports.iter().filter(about_connects).count(), 0);
}

#[test]
fn hosts_that_connect_make_looks_unnecessary() {
    let mut node = Node::serving_in(SimWorld::in_order(), STORAGE);
    let looks = node.sim.calls(FaultPoint::Connect);
    for _ in 0..20 {
        let connection = node.connected(at(A));
        node.host.disconnect(connection);
        node.run(Duration::from_secs(10));
    }
    assert_eq!(node.sim.calls(FaultPoint::Connect), looks);
}

#[test]
fn a_management_queue_pair_that_dies_is_noticed_reported_and_healed_by_a_new_device() {
    let mut node = Node::serving(BOTH);
    let connection = node.connected(at(A));
    let second = node.connected(at(B));
    node.sim.kill_management("rxe0");
    // A flap makes the port look soon; the connections survive it.
    node.link("rdma0", false);
    node.run(Duration::from_millis(50));
    node.link("rdma0", true);
    node.run_until("storage", "Failed", "ManagementQueuePairDead", Duration::from_secs(10));
    let message = node.listener("storage")["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("rdma link delete rxe0; rdma link add rxe0 type rxe netdev rdma0"),
        "{message}"
    );
    assert!(message.contains("recreateSoftDevice"), "{message}");
    assert_eq!(node.device_fatal_messages(), [message]);
    assert_eq!(
        node.phases("storage"),
        ["Arming", "Serving", "Holding", "Serving", "Draining", "Failed"],
        "by way of a drain"
    );
    let disconnects = node.sim.calls(FaultPoint::Disconnect);
    assert_eq!(disconnects, 0, "nobody can be told");
    assert_eq!(node.sim.live_objects().queue_pairs, 1, "the other port's");
    node.assert_phase("second", "Serving", "Serving");
    assert!(node.host.is_connected(second));
    assert!(node.host.is_connected(connection), "it heard nothing");

    // Looked at again and again; it never serves meanwhile.
    node.run(Duration::from_secs(120));
    assert_eq!(
        node.phases("storage")
            .iter()
            .filter(|phase| **phase == "Serving")
            .count(),
        2
    );
    assert!(
        node.phases("storage")
            .iter()
            .filter(|phase| **phase == "Failed")
            .count()
            >= 4
    );
    assert_eq!(node.device_fatal_messages().len(), 1, "said once");
    assert_eq!(
        node.phases("second"),
        ["Arming", "Serving"],
        "the other port is not touched"
    );

    node.sim.remove_device("rxe0");
    node.settle();
    node.sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip(A)));
    let took = node.run_until("storage", "Serving", "Serving", Duration::from_secs(5));
    assert!(took < Duration::from_secs(2), "{took:?}");
    node.connected(at(A));
    assert_eq!(node.sim.violations(), []);
}

#[test]
fn a_dead_management_queue_pair_is_found_soon_after_link_up() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.link("rdma0", false);
    node.run(Duration::from_millis(100));
    // Somebody else's message kills it; the flap is short, and the host's connection survives it.
    node.sim.kill_management("rxe0");
    node.link("rdma0", true);
    let took = node.run_until("storage", "Failed", "ManagementQueuePairDead", Duration::from_secs(10));
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert_eq!(node.sim.violations(), []);
}

#[test]
fn a_told_host_that_does_not_answer_makes_the_port_look_at_once() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.run(Duration::from_secs(1));
    node.sim.kill_management("rxe0");
    // The host stops answering: keep-alive is not what is tested, so its queue pair fails.
    node.sim
        .inject_async_event("rxe0", crate::provider::AsyncEvent::QueuePairFatal(17));
    let took = node.run_until("storage", "Failed", "ManagementQueuePairDead", Duration::from_secs(20));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn nothing_of_a_probe_is_sent_while_the_link_is_down() {
    // The link goes at every moment around a probe's steps, for long and for short, with and without an answer.
    for wait in 20..34 {
        for (outage, hold) in [(100, false), (100, true), (3_000, false), (3_000, true)] {
            let mut node = Node::in_world(SimWorld::in_order());
            node.sim.hold_events(false);
            node.apply(&spec(1, STORAGE, MEMORY));
            node.run(Duration::from_millis(150 + 10 * wait));
            node.sim.hold_events(hold);
            node.run(Duration::from_millis(20));
            node.link("rdma0", false);
            node.run(Duration::from_millis(outage));
            node.sim.hold_events(false);
            node.link("rdma0", true);
            node.run(Duration::from_millis(2_000));
            assert_eq!(node.sim.violations(), [], "wait {wait}, outage {outage}, hold {hold}");
            node.assert_phase("storage", "Serving", &node.phase("storage").1);
            assert_eq!(
                node.identifiers("storage"),
                1,
                "wait {wait}, outage {outage}, hold {hold}"
            );
        }
    }
}

#[test]
fn a_link_that_goes_down_during_the_looks_is_no_verdict() {
    let mut node = Node::serving(STORAGE);
    node.run(Duration::from_secs(1));
    node.sim.kill_management("rxe0");
    for _ in 0..8 {
        node.link("rdma0", false);
        node.run(Duration::from_millis(100));
        node.link("rdma0", true);
        node.run(Duration::from_millis(4_000));
        assert_eq!(node.listener("storage")["phase"], "Serving");
    }
    node.run_until("storage", "Failed", "ManagementQueuePairDead", Duration::from_secs(10));
}

#[test]
fn the_verdict_outlives_flaps_and_a_request_of_any_host_ends_it() {
    let mut node = Node::serving(STORAGE);
    node.sim.kill_management("rxe0");
    node.run_until("storage", "Failed", "ManagementQueuePairDead", NOTICED_WITHIN);
    node.link("rdma0", false);
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Down", "LinkDown");
    node.link("rdma0", true);
    node.run_until("storage", "Failed", "ManagementQueuePairDead", Duration::from_secs(10));
    assert_eq!(
        node.phases("storage")
            .iter()
            .filter(|phase| **phase == "Serving")
            .count(),
        1
    );
    assert_eq!(node.sim.violations(), []);
}

#[test]
fn what_cannot_be_looked_at_is_not_called_dead() {
    let mut node = Node::serving(STORAGE);
    node.sim.fail_always(FaultPoint::Resolve, Some(libc::ENODEV));
    node.run(Duration::from_secs(120));
    node.assert_phase("storage", "Serving", "Serving");
    node.sim.fail_always(FaultPoint::Resolve, None);
    node.sim.fail_always(FaultPoint::Connect, Some(libc::EINVAL));
    node.run(Duration::from_secs(120));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.identifiers("storage"), 1);
}

#[test]
fn while_the_verdict_stands_a_look_that_cannot_be_made_is_tried_again() {
    let mut node = Node::serving(STORAGE);
    node.sim.kill_management("rxe0");
    node.run_until("storage", "Failed", "ManagementQueuePairDead", NOTICED_WITHIN);
    node.sim.fail_always(FaultPoint::Resolve, Some(libc::ENOMEM));
    node.run(Duration::from_secs(60));
    assert_eq!(node.phase("storage").1, "ManagementQueuePairDead");
    node.sim.fail_always(FaultPoint::Resolve, None);
    node.sim.fail_always(FaultPoint::Listen, Some(libc::EADDRINUSE));
    node.run(Duration::from_secs(60));
    node.sim.fail_always(FaultPoint::Listen, None);
    node.run(Duration::from_secs(60));
    assert_eq!(node.phase("storage").1, "ManagementQueuePairDead");
    node.sim.remove_device("rxe0");
    node.settle();
    node.sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip(A)));
    node.run_until("storage", "Serving", "Serving", Duration::from_secs(5));
}

#[test]
fn a_device_that_is_not_soft_is_never_probed() {
    let sim = SimWorld::in_order();
    let mut node = Node::in_world(sim);
    node.sim.remove_device("rxe0");
    node.sim.add_device(SimDeviceSpec {
        driver: DeviceDriver::Other,
        ..SimDeviceSpec::new("mlx5_0", "rdma0", ip(A))
    });
    node.apply(&spec(1, STORAGE, MEMORY));
    node.run(Duration::from_secs(130));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.sim.calls(FaultPoint::Resolve), 0);
}

#[test]
fn two_ports_of_a_device_fail_together_and_both_come_back() {
    let sim = SimWorld::in_order();
    let mut node = Node::in_world(sim);
    let two = r#"{"name": "storage", "addressFrom": {"interface": "rdma0"}},
        {"name": "discovery", "port": 8009, "addressFrom": {"interface": "rdma0"}}"#;
    node.apply(&spec(1, two, MEMORY));
    node.run(Duration::from_secs(1));
    node.sim.kill_management("rxe0");
    node.run_until("storage", "Failed", "ManagementQueuePairDead", NOTICED_WITHIN);
    node.run_until("discovery", "Failed", "ManagementQueuePairDead", NOTICED_WITHIN);
    node.sim.remove_device("rxe0");
    node.settle();
    node.sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip(A)));
    node.run_until("storage", "Serving", "Serving", Duration::from_secs(5));
    node.run_until("discovery", "Serving", "Serving", Duration::from_secs(5));
}

#[test]
fn leaving_with_a_dead_management_queue_pair_waits_for_nobody() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.sim.kill_management("rxe0");
    node.run_until("storage", "Failed", "ManagementQueuePairDead", NOTICED_WITHIN);
    node.drained();
}

#[derive(Debug, Clone)]
struct Requests {
    seen: Arc<Mutex<Vec<SoftDevice>>>,
    refusal: Option<String>,
}

impl Recreation for Requests {
    fn request(&mut self, device: &SoftDevice, _: u64) -> Result<(), String> {
        self.seen.lock().unwrap().push(device.clone());
        self.refusal.clone().map_or(Ok(()), Err)
    }
}

fn dead_with(setting: &str, recreation: Option<Requests>) -> Node {
    let mut node = Node::new();
    node.control.recreation = recreation.map(|one| Box::new(one) as _);
    let link = format!(r#", "link": {{"recreateSoftDevice": "{setting}"}}"#);
    node.apply(&spec_with(1, BOTH, MEMORY, &link));
    node.run(Duration::from_secs(1));
    node.connected(at(B));
    node.sim.kill_management("rxe0");
    node.run(NOTICED_WITHIN + Duration::from_secs(20));
    node
}

fn recreations(node: &Node) -> Vec<(&str, &str)> {
    let shown = node.reports.iter().filter_map(|report| match &report.event {
        Event::SoftDeviceRecreation { result, message, .. } => Some((*result, message.as_str())),
        _ => None,
    });
    shown.collect()
}

#[test]
fn a_device_is_made_anew_by_the_next_process_only_when_the_setting_says_so() {
    let requests = Requests {
        seen: Arc::default(),
        refusal: None,
    };
    let node = dead_with("Never", Some(requests.clone()));
    assert_eq!(node.control.exit_code(), None);
    assert!(requests.seen.lock().unwrap().is_empty());
    assert_eq!(recreations(&node), []);

    let node = dead_with("WhenManagementQueuePairDead", Some(requests.clone()));
    assert_eq!(node.control.exit_code(), Some(super::super::EXIT_RECREATE_DEVICE));
    let device = SoftDevice {
        device: "rxe0".to_owned(),
        netdev: "rdma0".to_owned(),
    };
    assert_eq!(*requests.seen.lock().unwrap(), [device]);
    assert_eq!(recreations(&node)[0].0, "requested");
    assert_eq!(node.sim.violations(), []);
    assert_eq!(
        node.sim.live_objects().queue_pairs,
        0,
        "everything is drained before the process ends"
    );
}

#[test]
fn a_device_that_cannot_be_made_anew_fails_its_port_and_no_other() {
    let refusing = Requests {
        seen: Arc::default(),
        refusal: Some("it was tried too often".to_owned()),
    };
    for (recreation, cause) in [(Some(refusing), "too often"), (None, "--state-directory")] {
        let node = dead_with("WhenManagementQueuePairDead", recreation);
        assert_eq!(node.control.exit_code(), None);
        assert_eq!(node.phase("storage").1, "ManagementQueuePairDead");
        node.assert_phase("second", "Serving", "Serving");
        let said = recreations(&node);
        assert_eq!((said.len(), said[0].0), (1, "refused"), "said once");
        assert!(said[0].1.contains(cause), "{said:?}");
    }
}
