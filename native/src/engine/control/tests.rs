//! The control loop with the simulator, real pollers stepped by hand, scripted links and a clock of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::events::{Event, Report};
use super::port::Reason;
use super::{Control, ControlParts, Mailboxes, Now, PollerHost, PollerLink, wire};
use crate::backend::Backend;
use crate::backend::host::HostBackend;
use crate::engine::association::Place;
use crate::engine::poller::Poller;
use crate::lifecycle::CALM;
use crate::link::scripted::ScriptedLinks;
use crate::nvme::private_data::ConnectRequestData;
use crate::provider::sim::{
    ConnectOutcome, FaultPoint, HostConnection, LinkState, LiveObjects, SimDeviceSpec, SimHost, SimProvider, SimWorld,
};
use crate::subsystem::model::Model;
use crate::subsystem::spec::{DesiredState, PollingMode};

mod connections;
mod drive;
mod levels;
mod management;
mod paths;
mod quiesce;

type SimPoller = Poller<SimProvider, HostBackend>;
type Slots = Arc<Mutex<Vec<Option<SimPoller>>>>;

/// Keeps pollers where the test can step them.
#[derive(Debug)]
struct SteppedPollers {
    provider: SimProvider,
    backend: HostBackend,
    pollers: Slots,
    start: Instant,
    fail: Arc<Mutex<bool>>,
}

impl PollerHost<SimProvider, HostBackend> for SteppedPollers {
    fn start(
        &mut self,
        place: Place,
        _: PollingMode,
        model: &Arc<Model>,
    ) -> Result<PollerLink<SimProvider, HostBackend>, Reason> {
        if *self.fail.lock().unwrap() {
            return Err(Reason::new("PollerNotStarted", "as told"));
        }
        let queue = self.backend.queue(64).unwrap();
        let (parts, link) = wire(self.provider.clone(), queue, place, model, Mailboxes::stepped(64));
        self.pollers.lock().unwrap().push(Some(Poller::new(parts, self.start)));
        Ok(link)
    }

    fn set_mode(&mut self, _: PollingMode) {}
}

const A: &str = "10.9.0.1";
const B: &str = "10.9.1.1";
const HOST: &str = "10.9.0.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    SocketAddr::new(ip(text), 4420)
}

struct Node {
    sim: SimWorld,
    links: ScriptedLinks,
    control: Control<SimProvider, HostBackend, SteppedPollers>,
    pollers: Slots,
    fail_pollers: Arc<Mutex<bool>>,
    start: Instant,
    elapsed: Duration,
    reports: Vec<Report>,
    host: SimHost,
    /// Pollers stand still: what they should finish does not finish.
    pollers_stuck: bool,
}

impl Node {
    /// Two devices: rxe0 on rdma0 (10.9.0.1), rxe1 on rdma1 (10.9.1.1).
    fn new() -> Self {
        Self::in_world(SimWorld::in_order())
    }

    fn in_world(sim: SimWorld) -> Self {
        sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip(A)));
        sim.add_device(SimDeviceSpec::new("rxe1", "rdma1", ip(B)));
        let links = ScriptedLinks::with(&[
            ("eth0", ip("192.168.1.5"), 24),
            ("rdma0", ip(A), 24),
            ("rdma1", ip(B), 24),
        ]);
        let start = Instant::now();
        let pollers = Slots::default();
        let fail_pollers = Arc::new(Mutex::new(false));
        let backend = HostBackend::new();
        let poller_host = SteppedPollers {
            provider: sim.provider(),
            backend: backend.clone(),
            pollers: Arc::clone(&pollers),
            start,
            fail: Arc::clone(&fail_pollers),
        };
        let control = Control::new(ControlParts {
            provider: sim.provider(),
            backend,
            links: Box::new(links.clone()),
            poller_host,
            exit_when_device_removed: false,
            recreation: None,
            reports: Vec::new(),
        });
        let host = sim.add_host(ip(HOST));
        Self {
            sim,
            links,
            control,
            pollers,
            fail_pollers,
            start,
            elapsed: Duration::ZERO,
            reports: Vec::new(),
            host,
            pollers_stuck: false,
        }
    }

    fn serving(listeners: &str) -> Self {
        Self::serving_in(SimWorld::in_order(), listeners)
    }

    fn serving_in(sim: SimWorld, listeners: &str) -> Self {
        let mut node = Self::in_world(sim);
        node.apply(&spec(1, listeners, MEMORY));
        // Also past the first look at the management queue pair.
        node.run(Duration::from_millis(500));
        node
    }

    fn now(&self) -> Now {
        Now {
            instant: self.start + self.elapsed,
            unix_ms: 1_000_000 + u64::try_from(self.elapsed.as_millis()).unwrap(),
        }
    }

    fn apply(&mut self, json: &str) {
        let desired = DesiredState::from_json(json.as_bytes()).unwrap();
        self.control.apply(desired, self.now()).unwrap();
    }

    /// Everything that happens at one moment; when the control loop is to be called again.
    fn settle(&mut self) -> Option<Instant> {
        for _ in 0..200 {
            let now = self.now();
            let deadline = self.control.step(now);
            self.reports.extend(self.control.take_reports());
            let mut busy = self.sim.run_until_idle() > 0;
            if !self.pollers_stuck {
                for slot in self.pollers.lock().unwrap().iter_mut() {
                    let Some(poller) = slot else { continue };
                    let progress = poller.step(now.instant);
                    busy |= progress.worked;
                    if progress.stopped {
                        *slot = None;
                    }
                }
            }
            if !busy && deadline.is_none_or(|at| at > now.instant) {
                return deadline;
            }
        }
        panic!("busy for ever: {:#?}", self.control.statistics(0)["listeners"]);
    }

    /// Time passes, in steps of 10 ms.
    fn run(&mut self, time: Duration) {
        self.settle();
        let end = self.elapsed + time;
        while self.elapsed < end {
            self.elapsed += Duration::from_millis(10);
            self.settle();
        }
    }

    /// Time passes, and nobody calls the control loop but when it asked for it; how often that was.
    fn sleep(&mut self, time: Duration) -> usize {
        let end = self.elapsed + time;
        for called in 0.. {
            let asked = self.settle().map_or(end, |at| at.duration_since(self.start));
            self.elapsed = asked.min(end);
            if asked > end || self.elapsed == end {
                self.settle();
                return called;
            }
        }
        unreachable!("time passes")
    }

    fn link(&mut self, netdev: &str, up: bool) {
        let device = if netdev == "rdma0" { "rxe0" } else { "rxe1" };
        self.links.set_up(netdev, up);
        self.sim
            .set_link(device, if up { LinkState::Up } else { LinkState::Down });
    }

    fn listener(&self, name: &str) -> Value {
        let statistics = self.control.statistics(0);
        let found = statistics["listeners"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == name)
            .cloned();
        found.unwrap_or_else(|| panic!("no listener {name}"))
    }

    fn phase(&self, name: &str) -> (String, String) {
        let listener = self.listener(name);
        let text = |key: &str| listener[key].as_str().unwrap().to_owned();
        (text("phase"), text("reason"))
    }

    fn assert_phase(&self, name: &str, phase: &str, reason: &str) {
        assert_eq!(
            self.phase(name),
            (phase.to_owned(), reason.to_owned()),
            "{:#?}",
            self.listener(name)
        );
    }

    /// Phases a listener went through, from its events.
    fn phases(&self, name: &str) -> Vec<&'static str> {
        let of = |report: &Report| match &report.event {
            Event::PortPhase { listener, from, to, .. } if listener == name && from != to => Some(*to),
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }

    fn namespace(&self, nsid: u32) -> Value {
        let statistics = self.control.statistics(0);
        let found = statistics["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["nsid"] == nsid)
            .cloned();
        found.unwrap_or_else(|| panic!("no namespace {nsid}"))
    }

    fn connect(&self, target: SocketAddr, queue_id: u16) -> HostConnection {
        let entries = if queue_id == 0 { 32 } else { 128 };
        let data = ConnectRequestData {
            queue_id,
            host_receive_queue_size: entries,
            host_send_queue_size: entries - 1,
            controller_id: 0,
        };
        self.host.connect(target, &data.encode())
    }

    fn connected(&mut self, target: SocketAddr) -> HostConnection {
        let connection = self.connect(target, 0);
        self.settle();
        assert!(
            self.host.is_connected(connection),
            "{:?}",
            self.host.outcome(connection)
        );
        connection
    }

    fn drained(&mut self) {
        self.control.begin_quiesce(Duration::from_secs(10), self.now());
        self.run(Duration::from_secs(3));
        assert_eq!(self.control.state_name(), "Drained");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A test may end in the middle of things.
        self.sim.record_violations();
    }
}

const STORAGE: &str = r#"{"name": "storage", "addressFrom": {"interface": "rdma0"}}"#;
const BOTH: &str = r#"{"name": "storage", "addressFrom": {"interface": "rdma0"}},
    {"name": "second", "addressFrom": {"address": "10.9.1.1"}}"#;
const MEMORY: &str = r#"{"nsid": 1, "backend": {"memory": {"sizeBytes": 1048576}}}"#;

fn spec(generation: u64, listeners: &str, namespaces: &str) -> String {
    spec_with(generation, listeners, namespaces, "")
}

fn spec_with(generation: u64, listeners: &str, namespaces: &str, more: &str) -> String {
    format!(
        r#"{{"generation": {generation}, "spec": {{"nodeName": "node-a", "target": "storage/fast",
            "listeners": [{listeners}],
            "subsystems": [{{"nqn": "nqn.2026-11.dev.weir:fast", "access": {{"policy": "AnyHost"}},
                "namespaces": [{namespaces}]}}]{more}}}}}"#
    )
}

#[test]
fn a_port_comes_up_by_way_of_arming_and_hosts_connect() {
    let mut node = Node::serving(STORAGE);
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.phases("storage"), ["Arming", "Serving"]);
    let connection = node.connected(at(A));
    assert_eq!(node.listener("storage")["queuePairs"]["active"], 1);
    assert_eq!(node.listener("storage")["verbsObjects"]["connectionIds"], 2);
    assert_eq!(node.namespace(1)["state"], "Ready");
    node.host.disconnect(connection);
    node.settle();
    assert_eq!(node.sim.live_objects().queue_pairs, 0);
    assert!(
        node.reports
            .iter()
            .any(|report| report.event == Event::Applied { generation: 1 })
    );
}

#[test]
fn a_long_flap_drains_and_serves_again_and_hosts_are_told_right_at_link_up() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    let other = node.connected(at(A));
    node.run(CALM);
    node.link("rdma0", false);
    node.run(Duration::from_millis(100));
    assert_eq!(node.phase("storage").0, "Holding");
    assert_eq!(node.sim.live_objects().queue_pairs, 2, "nothing is torn down yet");
    node.run(Duration::from_secs(3));
    node.assert_phase("storage", "Down", "LinkDown");
    let held = node.sim.live_objects();
    assert_eq!(
        (held.queue_pairs, held.memory_regions, held.protection_domains),
        (0, 0, 0)
    );
    assert_eq!(held.connection_ids, 2, "the dropped associations' identifiers are kept");
    assert!(
        node.host.is_connected(connection),
        "nothing was sent while the link was down"
    );
    node.link("rdma0", true);
    node.settle();
    for told in [connection, other] {
        assert_eq!(
            node.host.outcome(told),
            ConnectOutcome::Disconnected,
            "told at once, before the port serves"
        );
    }
    assert_ne!(node.phase("storage").0, "Serving");
    node.run(Duration::from_millis(300));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.listener("storage")["epoch"], 2);
    assert_eq!(
        node.phases("storage"),
        ["Arming", "Serving", "Holding", "Draining", "Down", "Arming", "Serving"]
    );
    node.connected(at(A));
    node.run(Duration::from_secs(3));
    assert_eq!(node.sim.live_objects().connection_ids, 1, "the kept ones are released");
    assert!(!node.sim.management_dead("rxe0"));
    assert_eq!(
        node.listener("storage")["linkTransitions"],
        serde_json::json!({"up": 2, "down": 1})
    );
    assert_eq!(node.listener("storage")["drains"]["completed"], 1);
}

#[test]
fn connections_survive_a_flap_shorter_than_the_hold_time() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.link("rdma0", false);
    node.run(Duration::from_millis(300));
    assert_eq!(node.phase("storage").0, "Holding");
    node.link("rdma0", true);
    node.run(Duration::from_millis(50));
    node.assert_phase("storage", "Serving", "LinkBackInTime");
    assert_eq!(node.listener("storage")["epoch"], 1);
    assert!(node.host.is_connected(connection));
    assert_eq!(node.listener("storage")["queuePairs"]["active"], 1);
}

#[test]
fn a_flap_between_two_looks_is_not_missed() {
    let mut node = Node::serving(STORAGE);
    node.links.flap("rdma0");
    node.run(Duration::from_millis(50));
    assert_eq!(node.phases("storage"), ["Arming", "Serving", "Holding", "Serving"]);
}

#[test]
fn ports_fail_alone() {
    let mut node = Node::serving(BOTH);
    let second = node.connected(at(B));
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    assert_eq!(node.phase("storage").0, "Down");
    node.assert_phase("second", "Serving", "Serving");
    assert!(node.host.is_connected(second));
    assert_eq!(node.phases("second"), ["Arming", "Serving"]);
}

#[test]
fn a_queue_pair_that_fails_before_the_news_of_the_link_is_not_disconnected_over_a_dead_link() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    // The poller closes it while the device is down already; interface and device say so only later.
    node.host.crash(connection);
    for number in 0..100 {
        node.sim
            .inject_async_event("rxe0", crate::provider::AsyncEvent::QueuePairFatal(number));
    }
    node.settle();
    assert_eq!(node.sim.live_objects().queue_pairs, 0);
    assert_eq!(node.sim.live_objects().connection_ids, 1, "kept for a moment");
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    assert!(!node.sim.management_dead("rxe0"));
    node.link("rdma0", true);
    node.run(Duration::from_secs(5));
    assert_eq!(node.sim.live_objects().connection_ids, 0);
}

#[test]
fn a_request_that_arrives_while_the_port_arms_is_admitted_when_it_serves() {
    let mut node = Node::serving(STORAGE);
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    let early = node.connect(at(A), 0);
    node.run(Duration::from_secs(2));
    assert_eq!(node.host.outcome(early), ConnectOutcome::Pending);
    node.link("rdma0", true);
    node.run(Duration::from_millis(100));
    assert_eq!(
        node.host.outcome(early),
        ConnectOutcome::Pending,
        "the port is not serving yet"
    );
    node.run(Duration::from_millis(300));
    assert!(node.host.is_connected(early), "{:?}", node.host.outcome(early));
}

#[test]
fn a_request_that_would_wait_too_long_is_rejected_so_that_the_host_tries_again() {
    let mut node = Node::serving(STORAGE);
    node.sim.fail_always(FaultPoint::RegisterMemory, Some(libc::ENOMEM));
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    node.link("rdma0", true);
    node.run(Duration::from_millis(100));
    let connection = node.connect(at(A), 0);
    node.run(Duration::from_millis(3000));
    let ConnectOutcome::Rejected(data) = node.host.outcome(connection) else {
        panic!("{:?}", node.host.outcome(connection));
    };
    assert_eq!(data[2..4], [6, 0], "no resources");
    assert_eq!(node.listener("storage")["connectsRejected"]["NotServing"], 1);
}

#[test]
fn an_accept_that_the_link_overtakes_is_never_sent() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connect(at(A), 0);
    // The request is taken and its queue pair handed over, but the poller's answer comes after the link is down.
    node.sim.run_until_idle();
    let now = node.now();
    node.control.step(now);
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Pending);
    assert_eq!(node.sim.live_objects().queue_pairs, 0);
    node.link("rdma0", true);
    node.run(Duration::from_secs(1));
    assert!(matches!(node.host.outcome(connection), ConnectOutcome::Rejected(_)));
    assert_eq!(node.sim.live_objects().connection_ids, 0);
}

#[test]
fn hostile_private_data_is_rejected_with_its_status_and_costs_nothing() {
    let mut node = Node::serving(STORAGE);
    let before = node.sim.live_objects();
    let wrong_size = ConnectRequestData {
        queue_id: 1,
        host_receive_queue_size: 128,
        host_send_queue_size: 5000,
        controller_id: 0,
    };
    let wrong_queue = ConnectRequestData {
        queue_id: 999,
        host_receive_queue_size: 32,
        host_send_queue_size: 31,
        controller_id: 0,
    };
    for (data, status) in [
        (vec![0; 10], 1),
        (vec![0xff; 32], 2),
        (wrong_size.encode().to_vec(), 4),
        (wrong_queue.encode().to_vec(), 3),
    ] {
        let connection = node.host.connect(at(A), &data);
        node.settle();
        let ConnectOutcome::Rejected(answer) = node.host.outcome(connection) else {
            panic!("status {status}")
        };
        assert_eq!(answer[2], status);
    }
    assert_eq!(node.sim.live_objects(), before);
    assert_eq!(node.listener("storage")["connectsRejected"]["InvalidLength"], 1);
}

#[test]
fn memory_that_cannot_be_registered_at_all_is_retried_until_it_can() {
    let mut node = Node::new();
    node.sim.fail_always(FaultPoint::RegisterMemory, Some(libc::ENOMEM));
    node.apply(&spec(1, STORAGE, MEMORY));
    node.run(Duration::from_secs(2));
    let (phase, reason) = node.phase("storage");
    assert_eq!(
        (phase.as_str(), reason.as_str()),
        ("Arming", "MemoryRegistrationFailed")
    );
    assert_eq!(
        node.sim.live_objects(),
        LiveObjects::default(),
        "a failed attempt leaves nothing"
    );
    node.run(Duration::from_secs(60));
    assert_eq!(node.phase("storage").0, "Failed");
    node.sim.fail_always(FaultPoint::RegisterMemory, None);
    node.run(Duration::from_secs(31));
    node.assert_phase("storage", "Serving", "Serving");
}

#[test]
fn a_port_serves_degraded_with_part_of_its_memory_and_heals_by_itself() {
    let mut node = Node::new();
    // The minimum of one poller is three pieces; everything after them fails for a while.
    node.apply(&spec(1, STORAGE, MEMORY));
    for call in 4..60 {
        node.sim.fail_call(FaultPoint::RegisterMemory, call, libc::ENOMEM);
    }
    node.run(Duration::from_millis(400));
    node.assert_phase("storage", "Degraded", "MemoryPartlyRegistered");
    node.connected(at(A));
    let degraded = node.listener("storage")["memoryRegisteredBytes"].as_u64().unwrap();
    node.run(Duration::from_secs(60));
    node.assert_phase("storage", "Serving", "Serving");
    assert!(node.listener("storage")["memoryRegisteredBytes"].as_u64().unwrap() > degraded);
    assert_eq!(node.listener("storage")["epoch"], 1);
}

#[test]
fn a_piece_that_fails_is_registered_in_smaller_ones() {
    let mut node = Node::new();
    node.apply(&spec(1, STORAGE, MEMORY));
    node.sim.fail_call(FaultPoint::RegisterMemory, 4, libc::ENOMEM);
    node.run(Duration::from_millis(400));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.listener("storage")["memoryRegistrations"]["failed"], 1);
}

#[test]
fn a_port_in_use_says_so_and_serves_when_it_is_free() {
    let mut node = Node::new();
    let other = node.sim.provider();
    let squatter = crate::provider::Provider::listen(&other, at(A), 77, 1).unwrap();
    node.apply(&spec(1, BOTH, MEMORY));
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Arming", "PortInUse");
    node.assert_phase("second", "Serving", "Serving");
    drop(squatter);
    node.run(Duration::from_secs(15));
    node.assert_phase("storage", "Serving", "Serving");
}

#[test]
fn an_interface_that_is_not_there_is_named_and_found_when_it_comes() {
    let mut node = Node::new();
    node.apply(&spec(
        1,
        r#"{"name": "late", "addressFrom": {"cidr": "10.77.0.0/16"}}"#,
        MEMORY,
    ));
    node.run(Duration::from_secs(1));
    node.assert_phase("late", "Down", "AddressNotFound");
    node.links.add_address("rdma1", ip("10.77.0.1"), 24);
    node.sim.add_address("rxe1", ip("10.77.0.1"));
    node.run(Duration::from_secs(2));
    node.assert_phase("late", "Serving", "Serving");
    assert_eq!(node.listener("late")["address"], "10.77.0.1");
}

#[test]
fn an_interface_without_rdma_is_named_with_the_way_out() {
    let mut node = Node::new();
    node.apply(&spec(
        1,
        r#"{"name": "plain", "addressFrom": {"interface": "eth0"}}"#,
        MEMORY,
    ));
    node.run(Duration::from_secs(1));
    node.assert_phase("plain", "Down", "NoRdmaDevice");
    assert!(
        node.listener("plain")["message"]
            .as_str()
            .unwrap()
            .contains("rdma link add")
    );
}

#[test]
fn an_address_that_goes_and_comes_back_drains_at_once_and_hosts_are_told_when_it_is_back() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.links.remove_address(ip(A));
    node.sim.remove_address("rxe0", ip(A));
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Down", "AddressNotFound");
    assert!(
        node.host.is_connected(connection),
        "nothing can be said without an address"
    );
    node.links.add_address("rdma0", ip(A), 24);
    node.sim.add_address("rxe0", ip(A));
    node.run(Duration::from_millis(500));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
}

#[test]
fn nothing_is_kept_for_an_address_that_the_port_went_on_without() {
    let by_network = r#"{"name": "storage", "addressFrom": {"cidr": "10.9.0.0/24"}}"#;
    let other = ip("10.9.0.101");
    let mut node = Node::serving(by_network);
    let identifiers = |node: &mut Node| node.listener("storage")["verbsObjects"]["connectionIds"].as_u64();
    let without_hosts = identifiers(&mut node);
    node.connected(at(A));
    let with_host = identifiers(&mut node);
    assert!(with_host > without_hosts);
    node.link("rdma0", false);
    node.links.remove_address(ip(A));
    node.sim.remove_address("rxe0", ip(A));
    node.links.add_address("rdma0", other, 24);
    node.sim.add_address("rxe0", other);
    node.run(Duration::from_secs(10));
    assert!(
        identifiers(&mut node) >= Some(1),
        "kept while the interface is down: nothing may be said"
    );
    node.link("rdma0", true);
    node.run(Duration::from_secs(10));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.listener("storage")["address"], "10.9.0.101");
    assert_eq!(identifiers(&mut node), without_hosts);
    assert!(!node.sim.management_dead("rxe0"));
}

#[test]
fn a_drain_that_does_not_finish_is_quarantined_and_the_port_serves_again_meanwhile() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.pollers_stuck = true;
    node.link("rdma0", false);
    node.run(Duration::from_secs(17));
    node.assert_phase("storage", "Quarantined", "DrainTimedOut");
    assert_eq!(node.listener("storage")["drains"]["timedOut"], 1);
    node.pollers_stuck = false;
    node.run(Duration::from_millis(100));
    assert_eq!(node.phase("storage").0, "Down");
    assert_eq!(
        node.sim.live_objects().memory_regions,
        0,
        "freed when the late work ended"
    );
    node.link("rdma0", true);
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Serving", "Serving");
    node.connected(at(A));
}

#[test]
fn a_queue_that_its_device_gives_up_makes_its_port_anew_and_no_other() {
    for event in [
        crate::provider::AsyncEvent::CompletionQueueError,
        crate::provider::AsyncEvent::SharedReceiveQueueError,
    ] {
        let mut node = Node::serving(BOTH);
        node.connected(at(A));
        let second = node.connected(at(B));
        node.sim.inject_async_event("rxe0", event);
        node.run(Duration::from_secs(2));
        node.assert_phase("storage", "Serving", "Serving");
        assert_eq!(
            node.phases("storage"),
            ["Arming", "Serving", "Draining", "Arming", "Serving"],
            "{event:?}"
        );
        assert_eq!(node.phases("second"), ["Arming", "Serving"]);
        assert!(node.host.is_connected(second));
        node.connected(at(A));
        assert_eq!(node.sim.live_objects().completion_queues, 2);
    }
}

#[test]
fn a_completion_queue_that_cannot_be_polled_any_more_makes_its_port_anew() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.sim.fail_always(FaultPoint::PollCompletions, Some(libc::EIO));
    node.run(Duration::from_millis(500));
    assert_eq!(node.phase("storage"), ("Draining".to_owned(), "QueueError".to_owned()));
    assert!(
        node.listener("storage")["message"]
            .as_str()
            .unwrap()
            .contains("cannot be polled")
    );
    // It works again before the drain's deadline: nothing is left behind.
    node.sim.fail_always(FaultPoint::PollCompletions, None);
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.sim.live_objects().completion_queues, 1);
    node.connected(at(A));

    // And one that never does: the epoch is kept aside, the port serves in a new one.
    node.sim.fail_always(FaultPoint::PollCompletions, Some(libc::EIO));
    node.run(Duration::from_millis(16_000));
    assert_eq!(node.listener("storage")["drains"]["timedOut"], 1);
    node.sim.fail_always(FaultPoint::PollCompletions, None);
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Serving", "Serving");
}

#[test]
fn a_fence_is_lifted_once_every_other_poller_has_answered() {
    let mut node = Node::new();
    let polling = r#", "polling": {"cores": 3}"#;
    node.apply(&spec_with(1, STORAGE, MEMORY, polling));
    node.run(Duration::from_secs(1));
    let fence = crate::engine::messages::Handle { slot: 9, generation: 9 };
    // Nobody has that fence: the poller that is told counts the message as stale.
    let lifted = |node: &Node| -> Vec<u64> {
        let counters = node.control.pollers.counters();
        counters.map(|counters| counters.stale_messages.get()).collect()
    };
    let ask = |node: &mut Node, question| {
        let pollers = &mut node.control.pollers;
        pollers.ask_others(1, fence, question, "nqn.host", "nqn.subsystem");
    };
    ask(&mut node, 1);
    ask(&mut node, 2);
    assert_eq!((lifted(&node), node.control.pollers.fences_asked()), (vec![0, 0, 0], 2));
    node.settle();
    assert_eq!((lifted(&node), node.control.pollers.fences_asked()), (vec![0, 2, 0], 0));
}

#[test]
fn an_mtu_that_grows_changes_nothing_and_one_that_shrinks_makes_connections_anew() {
    let mut node = Node::serving(BOTH);
    let mtu = |node: &mut Node, netdev: u32, device: u32| {
        node.links.set_mtu("rdma0", netdev);
        // The device follows a moment later, as the kernel tells it last.
        node.run(Duration::from_millis(20));
        node.sim.set_mtu("rxe0", device);
        node.run(Duration::from_millis(3_000));
    };
    mtu(&mut node, 1500, 1024);
    assert_eq!(
        node.phases("storage"),
        ["Arming", "Serving", "Draining", "Arming", "Serving"],
        "smaller"
    );
    let small = node.connected(at(A));
    mtu(&mut node, 4200, 4096);
    assert_eq!(node.phases("storage").len(), 5, "larger");
    assert!(node.host.is_connected(small));
    let large = node.connected(at(A));
    mtu(&mut node, 3000, 2048);
    let message = node.reports.iter().rev().find_map(|report| match &report.event {
        Event::PortPhase {
            reason: "MtuReduced",
            message,
            ..
        } => Some(message.clone()),
        _ => None,
    });
    assert!(message.unwrap().contains("2048 bytes now, and 4096 before"));
    for connection in [small, large] {
        assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    }
    node.connected(at(A));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.phases("second"), ["Arming", "Serving"]);
}

#[test]
fn a_fatal_device_is_loud_and_its_port_is_tried_again() {
    let mut node = Node::serving(BOTH);
    node.sim
        .inject_async_event("rxe0", crate::provider::AsyncEvent::DeviceFatal);
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Failed", "DeviceFatal");
    node.assert_phase("second", "Serving", "Serving");
    let said = |report: &Report| match &report.event {
        Event::DeviceFatal { device, message } if device == "rxe0" => message.contains("rxe0 reported a fatal error"),
        _ => false,
    };
    assert!(node.reports.iter().any(said));
    node.run(Duration::from_secs(31));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.listener("storage")["deviceFatal"], 1);
}

#[test]
fn a_removed_device_is_drained_and_serves_again_when_it_is_back() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.sim.remove_device("rxe0");
    node.run(Duration::from_secs(2));
    assert_eq!(node.phase("storage").0, "Down");
    assert_eq!(node.sim.live_objects(), LiveObjects::default());
    node.sim.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip(A)));
    node.run(Duration::from_secs(2));
    node.assert_phase("storage", "Serving", "Serving");
    node.connected(at(A));
}

#[test]
fn a_removed_device_counts_as_a_fatal_error_each_time_it_is_reported_as_one() {
    // Some devices report a fatal error as they go; of soft RDMA only the connection manager tells.
    for reports in [2, 1] {
        let mut node = Node::serving(BOTH);
        if reports == 2 {
            node.sim.remove_device("rxe0");
        } else {
            node.sim.remove_device_unreported("rxe0");
        }
        node.run(Duration::from_secs(3));
        let is_fatal =
            |report: &&Report| matches!(&report.event, Event::DeviceFatal { device, .. } if device == "rxe0");
        assert_eq!(node.reports.iter().filter(is_fatal).count(), reports);
        assert_eq!(node.listener("storage")["deviceFatal"], reports);
        assert_eq!(node.listener("second")["deviceFatal"], 0);
    }
}

#[test]
fn a_removed_device_ends_the_process_where_the_kernel_needs_that_but_only_after_a_drain() {
    let mut node = Node::serving(BOTH);
    node.control.exit_when_device_removed = true;
    let other = node.connected(at(B));
    node.sim.remove_device("rxe0");
    node.settle();
    assert_eq!(
        node.control.exit_code(),
        None,
        "hosts of the other device are told first"
    );
    node.run(Duration::from_secs(16));
    assert_eq!(node.control.exit_code(), Some(super::EXIT_DEVICE_REMOVED));
    assert_eq!(node.host.outcome(other), ConnectOutcome::Disconnected);
}

#[test]
fn only_what_changed_is_touched() {
    let mut node = Node::serving(BOTH);
    let first = node.connected(at(A));
    let second = node.connected(at(B));
    let moved = r#"{"name": "storage", "addressFrom": {"interface": "rdma0"}, "port": 4421},
        {"name": "second", "addressFrom": {"address": "10.9.1.1"}}"#;
    node.apply(&spec(2, moved, MEMORY));
    node.run(Duration::from_millis(500));
    assert_eq!(node.host.outcome(first), ConnectOutcome::Disconnected);
    assert!(node.host.is_connected(second));
    assert_eq!(node.listener("storage")["port"], 4421);
    node.connected(SocketAddr::new(ip(A), 4421));
    let more = format!(r#"{MEMORY}, {{"nsid": 2, "backend": {{"memory": {{"sizeBytes": 4096}}}}}}"#);
    node.apply(&spec(3, moved, &more));
    node.run(Duration::from_millis(100));
    assert_eq!(node.namespace(2)["state"], "Ready");
    assert!(node.host.is_connected(second));
    node.apply(&spec(4, STORAGE, MEMORY));
    node.run(Duration::from_secs(3));
    assert_eq!(node.host.outcome(second), ConnectOutcome::Disconnected);
    assert_eq!(node.control.statistics(0)["listeners"].as_array().unwrap().len(), 1);
    let removed =
        |report: &Report| matches!(&report.event, Event::NamespaceState { nsid: 2, state, .. } if *state == "Removed");
    assert!(node.reports.iter().any(removed));
    assert_eq!(node.sim.live_objects().listeners, 1);
}

#[test]
fn a_paused_desired_state_changes_nothing_until_it_is_not_paused() {
    let mut node = Node::serving(STORAGE);
    node.apply(&spec_with(2, BOTH, MEMORY, r#", "paused": true"#));
    node.run(Duration::from_millis(500));
    assert_eq!(node.control.statistics(0)["listeners"].as_array().unwrap().len(), 1);
    node.apply(&spec(3, BOTH, MEMORY));
    node.run(Duration::from_millis(500));
    node.assert_phase("second", "Serving", "Serving");
}

#[test]
fn a_namespace_whose_backend_fails_is_alone_with_it_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later").join("disk");
    let namespaces = format!(
        r#"{MEMORY}, {{"nsid": 2, "backend": {{"file": {{"path": "{}", "sizeBytes": 1048576}}}}}}"#,
        path.display()
    );
    let mut node = Node::new();
    node.apply(&spec(1, STORAGE, &namespaces));
    node.run(Duration::from_millis(400));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.namespace(1)["state"], "Ready");
    assert_eq!(node.namespace(2)["state"], "Failed");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    node.run(Duration::from_secs(40));
    assert_eq!(node.namespace(2)["state"], "Ready", "{:#}", node.namespace(2));
    assert_eq!(node.namespace(2)["sizeBytes"], 1_048_576);
}

#[test]
fn a_backend_that_cannot_be_replaced_goes_on_serving() {
    let mut node = Node::serving(STORAGE);
    let uuid = node.namespace(1)["uuid"].clone();
    let bad = r#"{"nsid": 1, "backend": {"blockDevice": {"path": "/dev/weir-none"}}}"#;
    node.apply(&spec(2, STORAGE, bad));
    node.run(Duration::from_millis(100));
    let namespace = node.namespace(1);
    assert_eq!((&namespace["state"], &namespace["uuid"]), (&"Ready".into(), &uuid));
    assert!(!namespace["reason"].as_str().unwrap().is_empty());
    assert_eq!(namespace["sizeBytes"], 1_048_576);
    node.apply(&spec(3, STORAGE, MEMORY));
    node.run(Duration::from_millis(100));
    assert_eq!(node.namespace(1)["reason"], "");
}

#[test]
fn the_number_of_pollers_changes_by_way_of_a_drain() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.apply(&spec_with(2, STORAGE, MEMORY, r#", "polling": {"cores": 3}"#));
    node.run(Duration::from_secs(1));
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    assert_eq!(node.control.statistics(0)["pollers"].as_array().unwrap().len(), 3);
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(node.listener("storage")["verbsObjects"]["completionQueues"], 3);
    node.connected(at(A));
}

#[test]
fn pollers_that_cannot_start_are_reported_and_tried_again() {
    let mut node = Node::new();
    *node.fail_pollers.lock().unwrap() = true;
    node.apply(&spec(1, STORAGE, MEMORY));
    node.run(Duration::from_secs(1));
    assert!(
        node.reports
            .iter()
            .any(|report| matches!(&report.event, Event::ApplyProblem { reason, .. } if *reason == "PollerNotStarted"))
    );
    *node.fail_pollers.lock().unwrap() = false;
    node.run(Duration::from_secs(3));
    node.assert_phase("storage", "Serving", "Serving");
}

#[test]
fn a_drain_tells_hosts_and_leaves_nothing() {
    let mut node = Node::serving(BOTH);
    let connection = node.connected(at(A));
    node.drained();
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    assert!(
        node.reports
            .iter()
            .any(|report| report.event == Event::Drained { result: "completed" })
    );
    assert_eq!(node.sim.live_objects(), LiveObjects::default());
    let refused = node.control.apply(
        DesiredState::from_json(spec(9, STORAGE, MEMORY).as_bytes()).unwrap(),
        node.now(),
    );
    assert!(refused.is_err());
}

#[test]
fn a_link_that_comes_back_only_to_go_again_calls_no_host_back_until_it_stays() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.run(CALM);
    node.link("rdma0", false);
    node.run(Duration::from_secs(3));
    // Told at once, and the answer is there before the link goes again: what follows is about a second host.
    node.link("rdma0", true);
    node.run(Duration::from_millis(300));
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    let second = node.connected(at(A));
    for _ in 0..3 {
        node.link("rdma0", false);
        node.run(Duration::from_secs(1));
        node.link("rdma0", true);
        node.run(Duration::from_millis(350));
        assert!(node.host.is_connected(second), "not told: the path is restless");
        assert_eq!(node.phase("storage").0, "Down");
    }
    node.run(Duration::from_millis(460));
    assert_eq!(
        node.host.outcome(second),
        ConnectOutcome::Disconnected,
        "told once it stayed"
    );
    node.run(Duration::from_millis(50));
    assert_eq!(node.phase("storage").0, "Serving");
    node.connected(at(A));
    assert!(!node.sim.management_dead("rxe0"));
}

#[test]
fn while_links_cannot_be_read_nothing_is_said_to_anybody_and_all_of_it_once_they_can() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.run(CALM);
    // Only the device tells of the outage; after the drain it is closed, and the links as last read are up.
    node.sim.set_link("rxe0", LinkState::Down);
    node.links.fail_reads(u32::MAX);
    node.run(Duration::from_secs(3));
    assert_eq!(node.sim.live_objects().queue_pairs, 0, "drained");
    assert!(node.host.is_connected(connection), "nothing was said");
    assert_eq!(node.sim.violations(), []);
    node.sim.set_link("rxe0", LinkState::Up);
    node.links.fail_reads(0);
    node.run(Duration::from_secs(2));
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    node.run(Duration::from_secs(10));
    node.assert_phase("storage", "Serving", "Serving");
    assert!(!node.sim.management_dead("rxe0"));
}

#[test]
fn a_drain_while_the_link_is_down_says_nothing_to_anybody() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.run(CALM);
    node.link("rdma0", false);
    node.run(Duration::from_millis(100));
    node.drained();
    assert!(node.host.is_connected(connection));
    assert!(!node.sim.management_dead("rxe0"));
    assert_eq!(node.sim.live_objects().queue_pairs, 0);
    node.links.set_up("rdma0", true);
    node.sim.set_link("rxe0", LinkState::Up);
    node.settle();
    assert_eq!(
        node.host.outcome(connection),
        ConnectOutcome::Disconnected,
        "told once the link is back"
    );
}

#[test]
fn closing_ends_with_every_poller_gone() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    node.control.begin_closing(node.now());
    node.run(Duration::from_secs(4));
    assert!(node.control.has_left());
    assert!(node.pollers.lock().unwrap().iter().all(Option::is_none));
    assert_eq!(node.sim.live_objects(), LiveObjects::default());
}

#[test]
fn the_statistics_have_every_key_from_the_start() {
    let node = Node::new();
    let statistics = node.control.statistics(0);
    for key in [
        "generation",
        "state",
        "listeners",
        "namespaces",
        "hosts",
        "hostsTotal",
        "operations",
        "errors",
        "keepAliveTimeouts",
        "authenticationFailures",
        "pollers",
        "eventRingDropped",
    ] {
        assert!(!statistics[key].is_null(), "{key}");
    }
    assert_eq!(statistics["operations"]["read"]["duration"]["count"], 0);
    assert_eq!(statistics["errors"]["InvalidField"], 0);
}

/// Random flaps, faults and hosts, judged by the simulator's own rules at every call; afterwards everything heals.
#[test]
fn random_weather_ends_in_service() {
    for seed in 1..=8_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut draw = move |limit: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % limit
        };
        let mut node = Node::serving_in(SimWorld::new(seed), BOTH);
        let mut connections = Vec::new();
        for _ in 0..60 {
            match draw(10) {
                0 | 1 => node.link("rdma0", draw(2) == 0),
                2 => node.link("rdma1", draw(2) == 0),
                3 | 4 => connections.push(node.connect(at(if draw(2) == 0 { A } else { B }), 0)),
                5 => {
                    let point = [
                        FaultPoint::RegisterMemory,
                        FaultPoint::Listen,
                        FaultPoint::CreateQueuePair,
                        FaultPoint::Accept,
                    ];
                    let point = point[usize::try_from(draw(4)).unwrap()];
                    node.sim.fail_call(point, 1 + draw(4), libc::ENOMEM);
                }
                6 => {
                    if let Some(connection) = connections.pop() {
                        node.host.disconnect(connection);
                    }
                }
                7 => {
                    if let Some(connection) = connections.last() {
                        node.host.give_up(*connection);
                    }
                }
                _ => node.run(Duration::from_millis(draw(900))),
            }
            node.settle();
        }
        node.link("rdma0", true);
        node.link("rdma1", true);
        node.run(Duration::from_secs(60));
        for name in ["storage", "second"] {
            let (phase, reason) = node.phase(name);
            assert_eq!(phase, "Serving", "seed {seed}: {name} is {phase} ({reason})");
        }
        assert!(
            !node.sim.management_dead("rxe0") && !node.sim.management_dead("rxe1"),
            "seed {seed}"
        );
        node.drained();
        assert_eq!(node.sim.live_objects(), LiveObjects::default(), "seed {seed}");
    }
}
