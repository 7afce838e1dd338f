use std::sync::Arc;

use super::host::{Host, admin_connect, connect_data};
use crate::controller::{Controller, Standing};
use crate::nvme::bytes::{u16_at, u64_at};
use crate::nvme::command::CommandBuilder;
use crate::nvme::fabrics::ConnectData;
use crate::nvme::opcode::io;
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::nvme::status::StatusCode;
use crate::subsystem::fixture;
use crate::subsystem::model::{Access, Listener, Model, Subsystem};

const OTHER_NQN: &str = "nqn.2026-11.dev.weir:other";

/// Two listeners; the fixture's subsystem, and one of other hosts.
fn model() -> Model {
    let mut model = fixture::model();
    model.listeners.push(Listener {
        name: "v6".into(),
        address: "[fd00::1]:4420".parse().unwrap(),
    });
    let hidden = Access::AllowList(vec!["nqn.2026-11.dev.weir:host-b".into()]);
    model.subsystems.push(Arc::new(Subsystem {
        nqn: OTHER_NQN.into(),
        access: hidden,
        ..fixture::subsystem()
    }));
    model
}

fn host() -> Host {
    let mut host = Host::enabled(model(), DISCOVERY_NQN);
    host.controller.set_local_address("10.9.0.1:4420".parse().unwrap());
    host
}

/// Reads the log as libnvme does: header, entries in pieces of at most 4 KiB, header again.
fn read_log(host: &mut Host) -> Vec<(u8, String, String)> {
    let header = host.log(0x70, 0, 20, true).unwrap();
    let (generation, count) = (u64_at(&header, 0), u64_at(&header, 8));
    let mut entries = Vec::new();
    let (mut offset, end) = (1024, 1024 + count * 1024);
    while offset < end {
        let length = (end - offset).min(4096);
        entries.extend(host.log(0x70, offset, length as u32, true).unwrap());
        offset += length;
    }
    let again = host.log(0x70, 0, 20, false).unwrap();
    assert_eq!(u64_at(&again, 0), generation);
    let text = |bytes: &[u8]| String::from_utf8(bytes.iter().copied().take_while(|byte| *byte != 0).collect()).unwrap();
    entries
        .chunks(1024)
        .map(|entry| (entry[2], text(&entry[256..512]), text(&entry[512..768])))
        .collect()
}

fn entry(kind: u8, nqn: &str, address: &str) -> (u8, String, String) {
    (kind, nqn.into(), address.into())
}

#[test]
fn a_host_sees_itself_and_what_it_may_connect_to_at_every_listener() {
    let mut host = host();
    assert_eq!(
        read_log(&mut host),
        [
            entry(3, DISCOVERY_NQN, "10.9.0.1"),
            entry(2, fixture::SUBSYSTEM_NQN, "10.9.0.1"),
            entry(2, fixture::SUBSYSTEM_NQN, "fd00::1"),
        ]
    );
}

#[test]
fn a_stranger_sees_the_discovery_subsystem_only() {
    let (model, now) = (Arc::new(model()), std::time::Instant::now());
    let data = ConnectData {
        host_nqn: "nqn.2026-11.dev.weir:stranger".into(),
        ..connect_data(DISCOVERY_NQN)
    };
    let (controller, _) = Controller::connect_admin(&model, &admin_connect(), &data, 32, Some(1), now).unwrap();
    let mut host = Host::enabled(fixture::model(), DISCOVERY_NQN);
    host.controller = controller;
    host.controller.set_local_address("10.9.0.1:4420".parse().unwrap());
    host.set_configuration(crate::nvme::properties::Configuration::ENABLE)
        .unwrap();
    assert_eq!(read_log(&mut host), [entry(3, DISCOVERY_NQN, "10.9.0.1")]);
}

#[test]
fn the_generation_counter_changes_with_what_this_host_sees() {
    let mut host = host();
    host.set_feature(0x0b, 1 << 31).unwrap();
    host.request_event(31);
    let generation = |host: &mut Host| u64_at(&host.log(0x70, 0, 16, false).unwrap(), 0);
    let first = generation(&mut host);
    assert_ne!(first, 0);
    // A namespace of a subsystem is no part of the log.
    let _ = host.apply(|model| {
        let grown = Subsystem {
            namespaces: vec![fixture::namespace(1)],
            ..fixture::subsystem()
        };
        model.subsystems[0] = Arc::new(grown);
    });
    assert_eq!(host.controller.next_event(), None);
    assert_eq!(generation(&mut host), first);
    let standing = host.apply(|model| {
        let open = Subsystem {
            nqn: OTHER_NQN.into(),
            ..fixture::subsystem()
        };
        model.subsystems[1] = Arc::new(open);
    });
    assert_eq!(standing, Standing::Stays);
    assert_eq!(host.controller.next_event().unwrap().result, 0x70_f002);
    assert_ne!(generation(&mut host), first);
    assert_eq!(read_log(&mut host).len(), 5);
}

#[test]
fn a_discovery_controller_says_so_and_takes_no_io() {
    let mut host = host();
    let controller = host.identify(0x01, 0).unwrap();
    assert_eq!(controller[111], 2);
    assert_ne!(u16_at(&controller, 320), 0, "KAS");
    assert_eq!(u64_at(&controller, 88) >> 32, 1 << 31, "OAES");
    assert_eq!(
        host.identify(0x02, 0).unwrap_err(),
        StatusCode::InvalidField.permanent()
    );
    assert_eq!(
        host.log(0x02, 0, 512, false).unwrap_err().code,
        StatusCode::InvalidLogPage
    );
    assert_eq!(
        host.connect_io(1).unwrap_err().completion.status.code,
        StatusCode::ConnectInvalidParameters
    );
    let read = CommandBuilder::new(io::READ, 1).namespace(1).blocks(0, 8);
    assert!(host.io(read, 4096).is_err());
}

#[test]
fn reading_beyond_the_log_is_refused() {
    let mut host = host();
    assert_eq!(host.log(0x70, 4096, 4, false), Ok(vec![0; 4]));
    assert_eq!(
        host.log(0x70, 4100, 4, false),
        Err(StatusCode::InvalidField.permanent())
    );
}

#[test]
fn the_entry_of_the_discovery_subsystem_itself_is_where_the_host_is_connected() {
    let mut host = host();
    host.controller.set_local_address("[fd00::1%3]:4420".parse().unwrap());
    let addresses = |host: &mut Host| -> Vec<String> {
        let log = read_log(host);
        log.into_iter()
            .filter(|entry| entry.0 == 3)
            .map(|entry| entry.2)
            .collect()
    };
    assert_eq!(addresses(&mut host), ["fd00::1"]);
    host.controller.set_local_address("10.9.0.99:4420".parse().unwrap());
    assert_eq!(
        addresses(&mut host),
        ["10.9.0.1", "fd00::1"],
        "not a listener of the model: everywhere"
    );
}
