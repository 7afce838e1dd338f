//! The threads for real, on the simulator.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Core, CoreOptions, EXIT_PANIC, ProcessExit};
use crate::backend::host::HostBackend;
use crate::backend::{Backend, BackingFacts, BackingSpec, OpenError};
use crate::engine::control::EXIT_DEVICE_REMOVED;
use crate::link::scripted::ScriptedLinks;
use crate::nvme::private_data::ConnectRequestData;
use crate::provider::sim::{ConnectOutcome, SimDeviceSpec, SimWorld};
use crate::subsystem::spec::DesiredState;

#[derive(Debug, Default)]
struct Exits(Mutex<Vec<i32>>);

impl ProcessExit for Exits {
    fn exit(&self, code: i32) {
        self.0.lock().unwrap().push(code);
    }
}

fn options(exits: &Arc<Exits>) -> CoreOptions {
    CoreOptions {
        event_ring_bytes: 1 << 20,
        poller_processors: vec![0],
        exit: Arc::clone(exits) as _,
        recreation: None,
        reports: Vec::new(),
        secrets_directory: None,
    }
}

fn ip() -> IpAddr {
    "10.9.0.1".parse().unwrap()
}

fn desired(mode: &str) -> DesiredState {
    let json = format!(
        r#"{{"generation": 1, "spec": {{"nodeName": "node-a", "target": "storage/fast",
            "polling": {{"mode": "{mode}", "cores": 2}},
            "listeners": [{{"name": "storage", "addressFrom": {{"interface": "rdma0"}}}}],
            "subsystems": [{{"nqn": "nqn.2026-11.dev.weir:fast", "access": {{"policy": "AnyHost"}},
                "namespaces": [{{"nsid": 1, "backend": {{"memory": {{"sizeBytes": 1048576}}}}}}]}}]}}}}"#
    );
    DesiredState::from_json(json.as_bytes()).unwrap()
}

fn wait_for(core: &Core, world: &SimWorld, what: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        world.run_until_idle();
        // The simulator has no descriptors; asking for statistics wakes the control thread.
        let statistics: Value = serde_json::from_str(&core.statistics()).unwrap();
        if what(&statistics) {
            return statistics;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{statistics:#}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_core_serves_in_every_poll_mode_and_closes_to_nothing() {
    for mode in ["Busy", "Adaptive", "Event"] {
        let world = SimWorld::in_order();
        world.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip()));
        let links = ScriptedLinks::with(&[("rdma0", ip(), 24)]);
        let exits = Arc::new(Exits::default());
        let core = Core::start(world.provider(), HostBackend::new(), Box::new(links), options(&exits)).unwrap();
        core.apply(desired(mode)).unwrap();
        wait_for(&core, &world, |now| now["listeners"][0]["phase"] == "Serving");
        let host = world.add_host("10.9.0.2".parse().unwrap());
        let request = ConnectRequestData {
            queue_id: 0,
            host_receive_queue_size: 32,
            host_send_queue_size: 31,
            controller_id: 0,
        };
        let connection = host.connect("10.9.0.1:4420".parse().unwrap(), &request.encode());
        wait_for(&core, &world, |now| now["listeners"][0]["queuePairs"]["active"] == 1);
        wait_for(&core, &world, |_| host.is_connected(connection));
        core.close();
        world.run_until_idle();
        assert_eq!(host.outcome(connection), ConnectOutcome::Disconnected, "{mode}");
        assert_eq!(
            world.live_objects(),
            crate::provider::sim::LiveObjects::default(),
            "{mode}"
        );
        assert!(exits.0.lock().unwrap().is_empty());
    }
}

/// Panics where a backing is opened, on the control thread.
#[derive(Debug, Clone)]
struct PanickingBackend(HostBackend);

impl Backend for PanickingBackend {
    type Backing = <HostBackend as Backend>::Backing;
    type Queue = <HostBackend as Backend>::Queue;

    fn open(&self, _: &BackingSpec) -> Result<Arc<Self::Backing>, OpenError> {
        panic!("the backend broke its promise")
    }

    fn facts(&self, backing: &Self::Backing) -> BackingFacts {
        self.0.facts(backing)
    }

    fn queue(&self, depth: u32) -> std::io::Result<Self::Queue> {
        self.0.queue(depth)
    }
}

#[test]
fn a_panic_becomes_a_fatal_event_and_an_exit_code() {
    let world = SimWorld::in_order();
    let exits = Arc::new(Exits::default());
    let links = Box::new(ScriptedLinks::default());
    let backend = PanickingBackend(HostBackend::new());
    let core = Core::start(world.provider(), backend, links, options(&exits)).unwrap();
    core.apply(desired("Adaptive")).unwrap();
    let start = Instant::now();
    let mut text = String::new();
    while exits.0.lock().unwrap().is_empty() {
        let mut buffer = vec![0; 64 << 10];
        let length = core.take_events(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(*exits.0.lock().unwrap(), [EXIT_PANIC]);
    assert!(
        text.contains("\"type\":\"fatal\"") && text.contains("the backend broke its promise"),
        "{text}"
    );
    core.close();
}

#[test]
fn a_process_that_leaves_by_itself_says_so_and_waits_for_the_last_word_of_its_host_program() {
    let world = SimWorld::in_order();
    world.add_device(SimDeviceSpec::new("rxe0", "rdma0", ip()));
    let links = ScriptedLinks::with(&[("rdma0", ip(), 24)]);
    let exits = Arc::new(Exits::default());
    let core = Core::start(world.provider(), HostBackend::new(), Box::new(links), options(&exits)).unwrap();
    core.apply(desired("Adaptive")).unwrap();
    wait_for(&core, &world, |now| now["listeners"][0]["phase"] == "Serving");
    world.remove_device("rxe0");
    let start = Instant::now();
    let mut text = String::new();
    while !text.contains("\"type\":\"fatal\"") {
        world.run_until_idle();
        let _ = core.statistics();
        let mut buffer = vec![0; 64 << 10];
        let length = core.take_events(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        assert!(start.elapsed() < Duration::from_secs(20), "{text}");
    }
    assert!(text.contains("\"exitCode\":75"), "{text}");
    assert!(exits.0.lock().unwrap().is_empty(), "the last word was not waited for");
    let statistics: Value = serde_json::from_str(&core.statistics()).unwrap();
    assert_eq!(statistics["state"], "Drained");
    core.close();
    assert_eq!(*exits.0.lock().unwrap(), [EXIT_DEVICE_REMOVED]);
}
