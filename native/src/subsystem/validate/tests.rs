use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::subsystem::spec::{BuffersSpec, LinkSpec, PathsState, PollingSpec, QueuesSpec};

fn minimal() -> Value {
    json!({
        "nodeName": "node-a",
        "target": "storage/fast",
        "listeners": [{"name": "storage", "addressFrom": {"address": "10.9.0.1"}}],
        "subsystems": [{
            "nqn": "nqn.2026-11.dev.weir:fast",
            "namespaces": [{"nsid": 1, "backend": {"memory": {"sizeBytes": 4096}}}],
        }],
    })
}

fn read(spec: &Value) -> Result<NodeSpec, SpecError> {
    let state = json!({"generation": 3, "spec": spec});
    DesiredState::from_json(state.to_string().as_bytes()).map(|state| state.spec)
}

/// The minimal spec with the value at `pointer` (a JSON pointer) replaced or added.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = minimal();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match spec.pointer_mut(parent).unwrap() {
        Value::Object(object) => {
            object.insert(key.to_owned(), value);
        }
        Value::Array(array) => array.push(value),
        other => panic!("{pointer}: {other} has no members"),
    }
    spec
}

/// Asserts that the spec is refused, naming `field` first, with `words` in the message.
#[track_caller]
fn assert_refused(spec: &Value, field: &str, words: &str) {
    match read(spec) {
        Err(SpecError::Invalid(problems)) => {
            let found = problems
                .iter()
                .any(|problem| problem.field == field && problem.message.contains(words));
            assert!(found, "wanted `{field}: …{words}…`, got {problems:?}");
        }
        other => panic!("wanted `{field}: …{words}…`, got {other:?}"),
    }
}

#[test]
fn the_smallest_spec_gets_the_documented_defaults() {
    let spec = read(&minimal()).unwrap();
    assert_eq!(spec.queues, QueuesSpec::default());
    assert_eq!(spec.link, LinkSpec::default());
    assert_eq!(spec.polling, PollingSpec::default());
    assert_eq!(spec.buffers, BuffersSpec::default());
    assert_eq!(spec.listeners[0].port, 4420);
    assert_eq!(spec.subsystems[0].model_number, "Weir");
    assert_eq!(spec.subsystems[0].controller_ids.last, 65519);
    assert_eq!(spec.subsystems[0].namespaces[0].ana_group, 1);
    assert_eq!(spec.subsystems[0].access.policy, AccessPolicy::AllowList);
    assert_eq!(spec.queue_limits().transfer_bytes_max(), 131_072);
}

#[test]
fn by_default_a_port_asks_for_memory_often_enough_to_serve_within_five_seconds_of_its_being_there() {
    // A pause and then building resources, for which a second is ample.
    let spec = read(&minimal()).unwrap();
    assert!(spec.link.memory_registration.max_backoff_seconds <= 4);
}

#[test]
fn a_complete_spec_is_taken() {
    let spec = json!({
        "nodeName": "node-a", "target": "storage/fast", "paused": true,
        "listeners": [
            {"name": "a", "addressFrom": {"interface": "rdma0"}, "addressFamily": "IPv6", "port": 1},
            {"name": "b", "addressFrom": {"rdmaDevice": "rxe0"}},
            {"name": "c", "addressFrom": {"cidr": "fd00::/64"}, "addressFamily": "IPv6"},
        ],
        "subsystems": [{
            "nqn": "nqn.2026-11.dev.weir:fast", "serial": "1", "modelNumber": "M",
            "access": {"policy": "AllowList", "hosts": [{"nqn": "nqn.2026-11.dev.weir:host-a"}]},
            "controllerIDs": {"first": 1, "last": 1},
            "namespaces": [
                {"nsid": 1, "uuid": "6b1f7f0e-2a52-4f0f-8f2f-0e5b8f3c1a10", "readOnly": true, "anaGroup": 128,
                 "backend": {"blockDevice": {"path": "/dev/disk/by-id/nvme-1"}}},
                {"nsid": 2, "backend": {"file": {"path": "/var/lib/weir/fast.img", "sizeBytes": 8192}}},
                {"nsid": 65535, "backend": {"null": {"sizeBytes": 4096}}},
            ],
        }],
        "queues": {"maxIOQueues": 128, "queueDepth": 1024, "inCapsuleDataSizeBytes": 0, "maxIOSizeBytes": 1_048_576},
        "keepAlive": {"minimumSeconds": 1},
        "link": {"holdMilliseconds": 0, "drainTimeoutSeconds": 1, "upStabilizationMilliseconds": 0,
                 "memoryRegistration": {"maxBackoffSeconds": 1, "allowDegraded": false}},
        "polling": {"mode": "Busy", "cores": 64},
        "buffers": {"smallCount": 16, "largeCount": 4, "receiveCount": 64},
    });
    let spec = read(&spec).unwrap();
    assert!(spec.paused);
    assert_eq!(spec.subsystems[0].namespaces.len(), 3);
}

#[test]
fn unknown_fields_are_named() {
    assert_refused(&with("/bogus", json!(1)), "spec.bogus", "unknown field");
    assert_refused(
        &with("/listeners/0/prot", json!(1)),
        "spec.listeners[0].prot",
        "unknown field `prot`",
    );
}

#[test]
fn paths_are_accessible_unless_it_is_said_that_they_are_not() {
    assert_eq!(read(&minimal()).unwrap().paths.state, PathsState::Accessible);
    let paths = json!({"state": "Inaccessible", "ofPod": "fast-x2x9k"});
    assert_eq!(
        read(&with("/paths", paths)).unwrap().paths.state,
        PathsState::Inaccessible
    );
    assert_refused(
        &with("/paths", json!({"state": "Shut"})),
        "spec.paths.state",
        "unknown variant",
    );
    assert_refused(&with("/paths", json!({"pod": "x"})), "spec.paths.pod", "unknown field");
}

#[test]
fn wrong_types_and_numbers_out_of_bounds_name_field_and_bounds() {
    assert_refused(
        &with("/listeners/0/port", json!(70_000)),
        "spec.listeners[0].port",
        "from 1 to 65535, not 70000",
    );
    assert_refused(
        &with("/listeners/0/port", json!("4420")),
        "spec.listeners[0].port",
        "whole number",
    );
    assert_refused(
        &with("/queues", json!({"queueDepth": 8})),
        "spec.queues.queueDepth",
        "from 16 to 1024",
    );
    assert_refused(
        &with("/queues", json!({"maxIOQueues": 129})),
        "spec.queues.maxIOQueues",
        "from 1 to 128",
    );
    let in_capsule = json!({"inCapsuleDataSizeBytes": 100});
    assert_refused(
        &with("/queues", in_capsule),
        "spec.queues.inCapsuleDataSizeBytes",
        "multiple of 16",
    );
    assert_refused(
        &with("/queues", json!({"maxIOSizeBytes": 12288})),
        "spec.queues.maxIOSizeBytes",
        "power of two",
    );
    assert_refused(&with("/nodeName", json!(7)), "spec.nodeName", "string");
    assert_refused(
        &with("/polling", json!({"mode": "Lazy"})),
        "spec.polling.mode",
        "Adaptive",
    );
}

#[test]
fn sizes_of_zero_and_odd_sizes_are_refused() {
    for (size, words) in [
        (json!(0), "from 4096"),
        (json!(5000), "multiple of 4096"),
        (json!(-1), "from 4096"),
    ] {
        let backend = json!({"memory": {"sizeBytes": size}});
        assert_refused(
            &with("/subsystems/0/namespaces/0/backend", backend),
            "spec.subsystems[0].namespaces[0].backend.memory.sizeBytes",
            words,
        );
    }
}

#[test]
fn exactly_one_backend_and_exactly_one_address_source() {
    let both = json!({"memory": {"sizeBytes": 4096}, "null": {"sizeBytes": 4096}});
    let field = "spec.subsystems[0].namespaces[0].backend";
    assert_refused(
        &with("/subsystems/0/namespaces/0/backend", both),
        field,
        "exactly one of blockDevice",
    );
    assert_refused(
        &with("/subsystems/0/namespaces/0/backend", json!({})),
        field,
        "exactly one",
    );
    let two = json!({"interface": "rdma0", "address": "10.9.0.1"});
    assert_refused(
        &with("/listeners/0/addressFrom", two),
        "spec.listeners[0].addressFrom",
        "exactly one of address",
    );
}

#[test]
fn duplicates_are_named_at_their_second_place() {
    let second = json!({"name": "other", "addressFrom": {"address": "10.9.0.1"}});
    assert_refused(
        &with("/listeners/1", second),
        "spec.listeners[1].port",
        "same address and port",
    );
    let second = json!({"name": "storage", "addressFrom": {"address": "10.9.0.2"}});
    assert_refused(
        &with("/listeners/1", second),
        "spec.listeners[1].name",
        "name of another listener",
    );
    let second = json!({"nqn": "nqn.2026-11.dev.weir:fast"});
    assert_refused(
        &with("/subsystems/1", second),
        "spec.subsystems[1].nqn",
        "another subsystem",
    );
    let second = json!({"nsid": 1, "backend": {"memory": {"sizeBytes": 4096}}});
    assert_refused(
        &with("/subsystems/0/namespaces/1", second),
        "spec.subsystems[0].namespaces[1].nsid",
        "another namespace",
    );
    let uuid = crate::subsystem::derive::derived_uuid("nqn.2026-11.dev.weir:fast", 1);
    let second = json!({"nsid": 2, "uuid": uuid, "backend": {"memory": {"sizeBytes": 4096}}});
    assert_refused(
        &with("/subsystems/0/namespaces/1", second),
        "spec.subsystems[0].namespaces[1].uuid",
        "UUID of another namespace",
    );
}

#[test]
fn one_address_on_two_ports_is_no_conflict() {
    let second = json!({"name": "other", "addressFrom": {"address": "10.9.0.1"}, "port": 4421});
    assert!(read(&with("/listeners/1", second)).is_ok());
}

#[test]
fn malformed_names_are_refused() {
    let long = format!("nqn.2026-11.dev.weir:{}", "a".repeat(203));
    for (nqn, words) in [
        ("fast", "nqn.yyyy-mm"),
        (long.as_str(), "223"),
        (DISCOVERY_NQN, "discovery"),
    ] {
        assert_refused(&with("/subsystems/0/nqn", json!(nqn)), "spec.subsystems[0].nqn", words);
    }
    let access = json!({"hosts": [{"nqn": "host-a"}]});
    assert_refused(
        &with("/subsystems/0/access", access),
        "spec.subsystems[0].access.hosts[0].nqn",
        "nqn.yyyy-mm",
    );
    assert_refused(
        &with("/listeners/0/name", json!("Storage")),
        "spec.listeners[0].name",
        "lower-case",
    );
}

#[test]
fn an_open_policy_with_a_list_is_refused_because_the_list_would_mislead() {
    let access = json!({"policy": "AnyHost", "hosts": [{"nqn": "nqn.2026-11.dev.weir:host-a"}]});
    assert_refused(
        &with("/subsystems/0/access", access),
        "spec.subsystems[0].access.hosts",
        "no effect",
    );
}

#[test]
fn addresses_networks_and_families_agree() {
    let from = |from: Value| with("/listeners/0/addressFrom", from);
    assert_refused(
        &from(json!({"address": "10.9.0"})),
        "spec.listeners[0].addressFrom.address",
        "IP address",
    );
    assert_refused(
        &from(json!({"address": "0.0.0.0"})),
        "spec.listeners[0].addressFrom.address",
        "one interface",
    );
    assert_refused(
        &from(json!({"cidr": "10.9.0.0"})),
        "spec.listeners[0].addressFrom.cidr",
        "CIDR",
    );
    assert_refused(
        &from(json!({"interface": "a b"})),
        "spec.listeners[0].addressFrom.interface",
        "interface",
    );
    assert_refused(
        &from(json!({"address": "fd00::1"})),
        "spec.listeners[0].addressFamily",
        "disagrees",
    );
}

#[test]
fn paths_cannot_climb() {
    for path in ["/var/../etc/passwd", "relative", "/var//x", "/", "/a/", ""] {
        let backend = json!({"file": {"path": path, "sizeBytes": 4096}});
        assert_refused(
            &with("/subsystems/0/namespaces/0/backend", backend),
            "spec.subsystems[0].namespaces[0].backend.file.path",
            "absolute path",
        );
    }
    let backend = json!({"blockDevice": {"path": "/etc/passwd"}});
    assert_refused(
        &with("/subsystems/0/namespaces/0/backend", backend),
        "spec.subsystems[0].namespaces[0].backend.blockDevice.path",
        "below /dev",
    );
}

#[test]
fn what_is_not_json_is_told_apart_from_what_is_not_valid() {
    assert!(matches!(DesiredState::from_json(b"{"), Err(SpecError::NotJson(_))));
    assert!(matches!(DesiredState::from_json(b""), Err(SpecError::NotJson(_))));
    let trailing = format!("{} x", json!({"generation": 1, "spec": minimal()}));
    assert!(matches!(
        DesiredState::from_json(trailing.as_bytes()),
        Err(SpecError::NotJson(_))
    ));
    assert!(matches!(DesiredState::from_json(b"{}"), Err(SpecError::Invalid(_))));
    assert!(matches!(DesiredState::from_json(b"null"), Err(SpecError::Invalid(_))));
}

#[test]
fn many_problems_are_told_at_once_but_not_without_end() {
    let hosts: Vec<Value> = (0..20).map(|index| json!({"nqn": format!("host-{index}")})).collect();
    let error = read(&with("/subsystems/0/access", json!({"hosts": hosts}))).unwrap_err();
    assert_eq!(error.to_string().lines().count(), PROBLEMS_SHOWN_MAX + 1);
    assert!(error.to_string().ends_with("… and 12 more"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any::<String>()) {
        let _ = DesiredState::from_json(&bytes);
        let _ = read(&with("/listeners/0/addressFrom", json!({"cidr": text, "interface": text})));
        let _ = read(&with("/subsystems/0/nqn", json!(text)));
    }
}
