use std::sync::Arc;

use super::host::{Host, ids};
use crate::controller::Standing;
use crate::nvme::bytes::u64_at;
use crate::nvme::command::CommandBuilder;
use crate::nvme::opcode::admin;
use crate::nvme::status::StatusCode;
use crate::subsystem::fixture;
use crate::subsystem::model::{Model, Paths, Subsystem};

fn set_namespaces(model: &mut Model, ids: &[u32]) {
    let namespaces = ids.iter().map(|id| fixture::namespace(*id)).collect();
    model.subsystems = vec![Arc::new(Subsystem {
        namespaces,
        ..fixture::subsystem()
    })];
}

fn listening() -> Host {
    let mut host = Host::ready(fixture::model());
    host.set_feature(0x0b, 1 << 8 | 1 << 11).unwrap();
    host.request_event(31);
    host
}

#[test]
fn a_namespace_added_live_is_announced_with_the_list_of_what_changed() {
    let mut host = listening();
    assert_eq!(host.apply(|model| set_namespaces(model, &[1, 2, 3])), Standing::Stays);
    let event = host.controller.next_event().unwrap();
    assert_eq!((event.command_id, event.result), (31, 0x04_0002));
    assert_eq!(ids(&host.log(0x04, 0, 4096, true).unwrap()), [3]);
    assert_eq!(ids(&host.log(0x04, 0, 4096, false).unwrap()), [3]);
    assert_eq!(ids(&host.log(0x04, 0, 4096, false).unwrap()), [0; 0]);
    assert_eq!(ids(&host.identify(0x02, 0).unwrap()), [1, 2, 3]);
}

#[test]
fn changes_before_the_list_is_read_are_announced_once_and_listed_together() {
    let mut host = listening();
    let _ = host.apply(|model| set_namespaces(model, &[1, 2, 3]));
    assert!(host.controller.next_event().is_some());
    host.log(0x0c, 0, 4096, false).unwrap();
    host.request_event(30);
    let _ = host.apply(|model| set_namespaces(model, &[2, 3]));
    let event = host.controller.next_event().unwrap();
    assert_eq!(
        event.result, 0x0c_0302,
        "the list was not read: only the ANA log is announced again"
    );
    assert_eq!(ids(&host.log(0x04, 0, 4096, false).unwrap()), [1, 3]);
}

fn ana_state(host: &mut Host) -> (u64, u8) {
    let log = host.log(0x0c, 0, 64, false).unwrap();
    (u64_at(&log, 0), log[32])
}

#[test]
fn inaccessible_paths_are_announced_in_every_group_and_so_is_their_return() {
    let mut host = listening();
    let _ = host.apply(|model| model.paths = Paths::Inaccessible);
    assert_eq!(host.controller.next_event().unwrap().result, 0x0c_0302);
    assert_eq!(ana_state(&mut host), (1, 3), "change count, state");
    host.request_event(31);
    let _ = host.apply(|model| model.paths = Paths::Leaving);
    assert_eq!(host.controller.next_event(), None, "nothing changed for the host");
    let _ = host.apply(|model| model.paths = Paths::Accessible);
    assert_eq!(host.controller.next_event().unwrap().result, 0x0c_0302);
    assert_eq!(ana_state(&mut host), (2, 1));
}

#[test]
fn a_host_knows_of_inaccessible_paths_once_it_has_read_the_log() {
    let mut host = listening();
    assert!(
        host.controller.knows_ana_states(),
        "nothing has changed since it connected"
    );
    let _ = host.apply(|model| model.paths = Paths::Inaccessible);
    assert!(!host.controller.knows_ana_states());
    assert!(host.controller.next_event().is_some());
    assert!(
        !host.controller.knows_ana_states(),
        "it was told that there is something to read"
    );
    host.log(0x04, 0, 4096, false).unwrap();
    assert!(!host.controller.knows_ana_states());
    host.log(0x0c, 0, 64, true).unwrap();
    assert!(host.controller.knows_ana_states(), "also when it retains the event");
}

#[test]
fn nobody_waits_for_a_host_that_asked_for_no_notices() {
    let mut host = Host::ready(fixture::model());
    let _ = host.apply(|model| model.paths = Paths::Inaccessible);
    assert!(host.controller.knows_ana_states());
}

#[test]
fn what_does_not_concern_the_host_is_not_announced() {
    let mut host = listening();
    let _ = host.apply(|model| {
        let other = Subsystem {
            nqn: "nqn.2026-11.dev.weir:other".into(),
            ..fixture::subsystem()
        };
        model.subsystems.push(Arc::new(other));
        model.listeners.clear();
    });
    assert_eq!(host.controller.next_event(), None);
}

#[test]
fn an_aborted_request_is_answered() {
    let mut host = listening();
    let abort = CommandBuilder::new(admin::ABORT, 9).dword(10, 31 << 16);
    assert_eq!(host.admin(abort, 0).unwrap().0, 0);
    let event = host.controller.next_event().unwrap();
    assert_eq!((event.command_id, event.status.code), (31, StatusCode::AbortRequested));
}
