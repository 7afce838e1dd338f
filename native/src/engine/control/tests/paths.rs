//! Paths that hosts are to leave, and may use again.

use super::*;

const INACCESSIBLE: &str = r#", "paths": {"state": "Inaccessible", "ofPod": "fast-x2x9k"}"#;

impl Node {
    fn paths(&self) -> String {
        self.control.statistics(0)["paths"].as_str().unwrap().to_owned()
    }

    fn paths_changes(&self) -> Vec<(&'static str, &'static str)> {
        let of = |report: &Report| match report.event {
            Event::PathsChanged { from, to } => Some((from, to)),
            _ => None,
        };
        self.reports.iter().filter_map(of).collect()
    }
}

#[test]
fn paths_become_inaccessible_when_every_poller_says_so_and_nothing_is_torn_down() {
    let mut node = Node::serving(STORAGE);
    let connection = node.connected(at(A));
    assert_eq!(node.paths(), "Accessible");
    node.pollers_stuck = true;
    node.apply(&spec_with(2, STORAGE, MEMORY, INACCESSIBLE));
    node.settle();
    assert_eq!(node.paths(), "Leaving");
    node.pollers_stuck = false;
    node.settle();
    assert_eq!(node.paths(), "Inaccessible");
    node.assert_phase("storage", "Serving", "Serving");
    assert!(node.host.is_connected(connection));
    node.connected(at(A));

    node.apply(&spec(3, STORAGE, MEMORY));
    node.settle();
    assert_eq!(node.paths(), "Accessible");
    let changes = [
        ("Accessible", "Leaving"),
        ("Leaving", "Inaccessible"),
        ("Inaccessible", "Accessible"),
    ];
    assert_eq!(node.paths_changes(), changes);
}

#[test]
fn a_process_that_leaves_does_not_open_its_paths_again() {
    let mut node = Node::serving(STORAGE);
    node.apply(&spec_with(2, STORAGE, MEMORY, INACCESSIBLE));
    node.settle();
    node.drained();
    assert_eq!(node.paths(), "Inaccessible");
    assert_eq!(node.paths_changes().len(), 2, "{:?}", node.paths_changes());
}

#[test]
fn more_pollers_than_before_say_so_too() {
    let mut node = Node::serving(STORAGE);
    node.apply(&spec_with(2, STORAGE, MEMORY, INACCESSIBLE));
    node.settle();
    let more = format!(r#"{INACCESSIBLE}, "polling": {{"cores": 2}}"#);
    node.apply(&spec_with(3, STORAGE, MEMORY, &more));
    node.run(Duration::from_secs(2));
    assert_eq!(node.paths(), "Inaccessible");
}
