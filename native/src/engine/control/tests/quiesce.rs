//! Leaving in good order, moment by moment.

use super::*;

/// What is in flight may finish in half of it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The smallest step of time here.
const MOMENT: Duration = Duration::from_millis(10);

impl Node {
    fn begin_quiesce(&mut self, timeout: Duration) {
        self.control.begin_quiesce(timeout, self.now());
        self.settle();
    }

    /// When the drain of the process wants to go on by itself, from now.
    fn goes_on_in(&self) -> Option<Duration> {
        let at = self.control.quiesce_deadline()?;
        Some(at.duration_since(self.now().instant))
    }

    /// How the drain of the process ended, if it did.
    fn drain_results(&self) -> Vec<&'static str> {
        let result = |report: &Report| match report.event {
            Event::Drained { result } => Some(result),
            _ => None,
        };
        self.reports.iter().filter_map(result).collect()
    }

    fn pollers_left(&self) -> usize {
        self.pollers.lock().unwrap().iter().flatten().count()
    }
}

#[test]
fn hosts_have_a_moment_to_change_paths_before_quiet_ports_drain() {
    let grace = Duration::from_millis(250);
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.begin_quiesce(TIMEOUT);
    assert_eq!(node.goes_on_in(), Some(grace));
    node.run(grace - MOMENT);
    assert_eq!(node.phase("storage").0, "Serving");
    assert!(node.host.is_connected(connection));
    node.run(MOMENT);
    assert_eq!(node.phases("storage").last(), Some(&"Down"));
    node.run(Duration::from_secs(3));
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    assert_eq!(node.drain_results(), ["completed"]);
}

#[test]
fn io_that_never_ends_is_waited_for_until_half_time_and_for_its_port_until_the_end() {
    let mut node = Node::serving(STORAGE);
    node.pollers_stuck = true;
    node.begin_quiesce(TIMEOUT);
    assert_eq!(node.goes_on_in(), Some(TIMEOUT / 2));
    node.run(TIMEOUT / 2 - MOMENT);
    assert_eq!(node.phase("storage").0, "Serving");
    node.run(MOMENT);
    assert_eq!(node.phase("storage").0, "Draining");
    assert_eq!(node.goes_on_in(), Some(TIMEOUT / 2));
    node.run(TIMEOUT / 2 - MOMENT);
    assert_eq!(
        node.phase("storage").0,
        "Quarantined",
        "there is still time to tell hosts"
    );
    assert_eq!(node.control.state_name(), "Draining");
    assert_eq!(node.drain_results(), [""; 0]);
    node.run(MOMENT);
    assert_eq!(node.control.state_name(), "Drained");
    assert_eq!(node.drain_results(), ["timedOut"]);
    assert_eq!(node.goes_on_in(), None);
}

#[test]
fn a_second_call_shortens_the_time_and_never_lengthens_it() {
    let shorter = Duration::from_secs(2);
    for (first, second) in [(TIMEOUT, shorter), (shorter, TIMEOUT)] {
        let mut node = Node::serving(STORAGE);
        node.pollers_stuck = true;
        node.begin_quiesce(first);
        node.begin_quiesce(second);
        node.run(shorter / 2 - MOMENT);
        assert_eq!(node.phase("storage").0, "Serving");
        node.run(MOMENT);
        assert_eq!(node.phase("storage").0, "Draining");
        node.run(shorter / 2 - MOMENT);
        assert_eq!(node.control.state_name(), "Draining");
        node.run(MOMENT);
        assert_eq!(node.drain_results(), ["timedOut"]);
    }
}

#[test]
fn a_backing_that_a_poller_still_holds_is_waited_for() {
    let mut node = Node::serving(STORAGE);
    let nowhere = r#"{"name": "storage", "addressFrom": {"interface": "rdma7"}}"#;
    node.apply(&spec(2, nowhere, MEMORY));
    node.run(Duration::from_secs(3));
    assert_eq!(node.phase("storage").0, "Down");
    node.pollers_stuck = true;
    node.apply(&spec(3, nowhere, ""));
    node.begin_quiesce(TIMEOUT);
    node.run(TIMEOUT / 2 + MOMENT);
    assert_eq!(node.control.state_name(), "Draining");
    node.pollers_stuck = false;
    node.settle();
    assert_eq!(node.control.state_name(), "Drained");
    assert_eq!(node.drain_results(), ["completed"]);
}

#[test]
fn a_drain_is_over_once_every_host_that_can_be_told_was_told() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    node.begin_quiesce(TIMEOUT);
    while node.control.state_name() != "Drained" {
        assert_eq!(node.drain_results(), [""; 0]);
        node.run(MOMENT);
    }
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Disconnected);
    assert_eq!(node.sim.live_objects().connection_ids, 0);
}

#[test]
fn a_request_that_waits_for_its_port_is_rejected_at_once() {
    let mut node = Node::serving(STORAGE);
    node.sim.fail_always(FaultPoint::RegisterMemory, Some(libc::ENOMEM));
    node.link("rdma0", false);
    node.run(Duration::from_secs(2));
    node.link("rdma0", true);
    node.run(Duration::from_millis(500));
    let connection = node.connect(at(A), 0);
    node.settle();
    assert_eq!(node.host.outcome(connection), ConnectOutcome::Pending);
    node.begin_quiesce(TIMEOUT);
    assert!(matches!(node.host.outcome(connection), ConnectOutcome::Rejected(_)));
}

#[test]
fn pollers_leave_only_when_the_core_is_closed_after_the_drain() {
    let mut node = Node::serving(STORAGE);
    let pollers = node.pollers_left();
    assert!(pollers > 0);
    node.drained();
    node.run(Duration::from_secs(1));
    assert_eq!(node.pollers_left(), pollers);
    assert!(!node.control.has_left());
    node.control.begin_closing(node.now());
    assert!(!node.control.has_left(), "they were not told yet");
    node.settle();
    assert_eq!(node.pollers_left(), 0);
    assert!(node.control.has_left());
}
