//! What ports' lifecycles ask for, and what is counted and reported of it.

use super::*;
use crate::engine::messages::{Epoch, PortId};

impl Node {
    fn port_id(&self, name: &str) -> PortId {
        let mut ports = self.control.ports.values();
        ports.find(|port| *port.name == *name).unwrap().id
    }

    /// What a listener's memory is counted as.
    fn memory(&self, name: &str) -> [Value; 4] {
        let listener = self.listener(name);
        let succeeded = listener["memoryRegistrations"]["succeeded"].clone();
        [
            listener["memoryRegions"].clone(),
            succeeded,
            listener["memoryRegisteredBytes"].clone(),
            listener["buffers"]["free"].clone(),
        ]
    }
}

#[test]
fn memory_that_was_missing_at_first_is_all_there_and_counted_in_the_end() {
    let healthy = Node::serving(STORAGE);
    assert_eq!(healthy.memory("storage")[0], healthy.memory("storage")[1]);
    let mut node = Node::new();
    node.apply(&spec(1, STORAGE, MEMORY));
    for call in 4..60 {
        node.sim.fail_call(FaultPoint::RegisterMemory, call, libc::ENOMEM);
    }
    node.run(Duration::from_millis(400));
    node.assert_phase("storage", "Degraded", "MemoryPartlyRegistered");
    let registrations = |node: &Node| node.listener("storage")["memoryRegistrations"].clone();
    let before = registrations(&node);
    assert_eq!(before["succeeded"], 3);
    assert!(before["failed"].as_u64().unwrap() > 0);
    node.run(Duration::from_secs(60));
    node.assert_phase("storage", "Serving", "Serving");
    assert_eq!(registrations(&node)["failed"], 56, "each call that failed is counted");
    let [regions, succeeded, bytes, buffers] = node.memory("storage");
    assert_eq!(regions, succeeded);
    assert_eq!([bytes, buffers], healthy.memory("storage")[2..]);
    let live = node.sim.live_objects().memory_regions;
    assert_eq!(regions, live);
}

#[test]
fn recoveries_and_drains_are_timed() {
    let mut node = Node::serving(STORAGE);
    let counts = |node: &Node| {
        let listener = node.listener("storage");
        ["recoveryDuration", "drainDuration"].map(|name| listener[name]["count"].as_u64().unwrap())
    };
    assert_eq!(counts(&node), [1, 0]);
    node.link("rdma0", false);
    node.run(Duration::from_millis(300));
    node.link("rdma0", true);
    node.run(Duration::from_secs(1));
    assert_eq!(counts(&node), [2, 0], "held");
    node.link("rdma0", false);
    node.run(Duration::from_secs(3));
    node.link("rdma0", true);
    node.run(Duration::from_secs(1));
    assert_eq!(counts(&node), [3, 1], "drained");
}

#[test]
fn what_a_poller_could_not_finish_is_told_of_the_epoch_that_is_quarantined_and_of_no_other() {
    let mut node = Node::serving(STORAGE);
    node.connected(at(A));
    let id = node.port_id("storage");
    node.control.share_quarantined(id, Epoch(1), 7, 7);
    node.assert_phase("storage", "Serving", "Serving");
    // Queue pairs are only given back once their completion queue was looked at.
    node.sim.fail_always(FaultPoint::PollCompletions, Some(libc::EIO));
    node.link("rdma0", false);
    node.run(Duration::from_secs(20));
    node.assert_phase("storage", "Quarantined", "DrainTimedOut");
    let message = |node: &Node| node.listener("storage")["message"].as_str().unwrap().to_owned();
    let told = message(&node);
    assert!(
        told.starts_with("1 queue pairs and 0 backend I/Os of epoch 1"),
        "{told}"
    );
    node.control.share_quarantined(id, Epoch(0), 7, 7);
    assert_eq!(message(&node), told, "an earlier epoch's");
    node.sim.fail_always(FaultPoint::PollCompletions, None);
}

#[test]
fn an_epoch_lives_until_every_poller_gave_its_share_back() {
    let mut node = Node::new();
    node.apply(&spec_with(1, STORAGE, MEMORY, r#", "polling": {"cores": 3}"#));
    node.run(Duration::from_secs(1));
    node.assert_phase("storage", "Serving", "Serving");
    node.pollers_stuck = true;
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    for left in [2, 1, 0] {
        assert_eq!(node.phase("storage").0, "Draining");
        let now = node.now().instant;
        let poller = &mut node.pollers.lock().unwrap()[left];
        poller.as_mut().unwrap().step(now);
        node.control.step(node.now());
        assert_eq!(node.listener("storage")["verbsObjects"]["completionQueues"], left);
    }
    assert_eq!(node.phase("storage").0, "Down");
    assert_eq!(
        node.sim.live_objects(),
        LiveObjects {
            listeners: 1,
            ..LiveObjects::default()
        }
    );
}

#[test]
fn discovery_shows_a_port_while_it_serves_and_over_short_flaps() {
    let mut node = Node::serving(STORAGE);
    let shown = |node: &Node| node.control.model.listeners.len();
    assert_eq!(shown(&node), 1);
    node.link("rdma0", false);
    node.run(Duration::from_millis(100));
    assert_eq!((node.phase("storage").0.as_str(), shown(&node)), ("Holding", 1));
    node.run(Duration::from_secs(3));
    assert_eq!((node.phase("storage").0.as_str(), shown(&node)), ("Down", 0));
    node.link("rdma0", true);
    node.run(Duration::from_secs(1));
    assert_eq!((node.phase("storage").0.as_str(), shown(&node)), ("Serving", 1));
}

#[test]
fn a_device_that_is_down_under_a_link_that_is_up_is_tried_again_once_it_is_closed() {
    let mut node = Node::serving(STORAGE);
    node.sim.set_link("rxe0", LinkState::Down);
    node.run(Duration::from_secs(3));
    assert_eq!(node.phases("storage")[2..], ["Holding", "Draining", "Down", "Arming"]);
    node.sim.set_link("rxe0", LinkState::Up);
    node.run(Duration::from_secs(30));
    node.assert_phase("storage", "Serving", "Serving");
}
