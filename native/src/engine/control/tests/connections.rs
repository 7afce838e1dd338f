//! What is kept of connections, and what their ends are called.

use super::*;
use crate::engine::control::connections::LINK_NEWS;

impl Node {
    fn rejected(&self, name: &str) -> Value {
        self.listener(name)["connectsRejected"].clone()
    }
}

/// The device reports a fatal error of each of its queue pairs.
fn break_queue_pairs(node: &Node) {
    for number in 0..100 {
        let fatal = crate::provider::AsyncEvent::QueuePairFatal(number);
        node.sim.inject_async_event("rxe0", fatal);
    }
}

#[test]
fn nothing_is_kept_of_queue_pairs_that_are_gone() {
    let mut node = Node::serving(STORAGE);
    let [left, ..] = [0; 3].map(|_| node.connected(at(A)));
    assert_eq!(node.control.connections.queue_pairs(), 3);
    node.host.disconnect(left);
    node.settle();
    assert_eq!(node.control.connections.queue_pairs(), 2);
    break_queue_pairs(&node);
    node.settle();
    assert_eq!(node.control.connections.queue_pairs(), 0);
}

#[test]
fn a_host_that_disconnected_is_answered_at_once_and_one_that_did_not_after_news_of_the_link() {
    let mut node = Node::serving(STORAGE);
    let own = node.connected(at(A));
    node.settle();
    let disconnects = |node: &Node| node.sim.calls(FaultPoint::Disconnect);
    let before = disconnects(&node);
    node.host.disconnect(own);
    node.settle();
    assert_eq!(disconnects(&node), before + 1);
    node.run(Duration::from_secs(5));

    let other = node.connected(at(A));
    break_queue_pairs(&node);
    node.run(LINK_NEWS - Duration::from_millis(10));
    assert_eq!(node.sim.live_objects().queue_pairs, 0);
    assert_eq!(disconnects(&node), before + 1, "the link may be going down");
    node.run(Duration::from_millis(10));
    assert_eq!(disconnects(&node), before + 2);
    assert_eq!(node.host.outcome(other), ConnectOutcome::Disconnected);
}

#[test]
fn an_accept_that_fails_is_counted_as_that() {
    let mut node = Node::serving(STORAGE);
    node.sim.fail_call(FaultPoint::Accept, 1, libc::EINVAL);
    let connection = node.connect(at(A), 0);
    node.run(Duration::from_secs(1));
    assert!(matches!(node.host.outcome(connection), ConnectOutcome::Rejected(_)));
    assert_eq!(node.rejected("storage"), serde_json::json!({"AcceptFailed": 1}));
}
