use std::sync::Arc;

use super::host::Host;
use crate::controller::Standing;
use crate::nvme::command::CommandBuilder;
use crate::nvme::opcode::io;
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::nvme::status::StatusCode;
use crate::subsystem::fixture;
use crate::subsystem::model::{Access, Subsystem};

fn read(namespace: u32) -> CommandBuilder {
    CommandBuilder::new(io::READ, 1).namespace(namespace).blocks(0, 8)
}

#[test]
fn a_removed_namespace_refuses_new_io_and_others_go_on() {
    let mut host = Host::ready(fixture::model());
    let standing = host.apply(|model| {
        let subsystem = Subsystem {
            namespaces: vec![fixture::namespace(2)],
            ..fixture::subsystem()
        };
        model.subsystems = vec![Arc::new(subsystem)];
    });
    assert_eq!(standing, Standing::Stays);
    assert_eq!(host.io(read(1), 4096), Err(StatusCode::InvalidNamespace.permanent()));
    assert!(host.io(read(2), 4096).is_ok());
}

#[test]
fn a_host_taken_off_the_list_and_a_removed_subsystem_end_the_association() {
    let mut host = Host::ready(fixture::model());
    let standing = host.apply(|model| {
        let subsystem = Subsystem {
            access: Access::AllowList(vec![]),
            ..fixture::subsystem()
        };
        model.subsystems = vec![Arc::new(subsystem)];
    });
    assert_eq!(standing, Standing::NotAllowed);
    let mut host = Host::ready(fixture::model());
    assert_eq!(host.apply(|model| model.subsystems.clear()), Standing::NotAllowed);
}

#[test]
fn discovery_outlives_every_subsystem() {
    let mut host = Host::enabled(fixture::model(), DISCOVERY_NQN);
    assert_eq!(host.apply(|model| model.subsystems.clear()), Standing::Stays);
}

#[test]
fn a_namespace_that_grew_takes_io_at_its_new_end() {
    let mut host = Host::ready(fixture::model());
    let last = CommandBuilder::new(io::READ, 1)
        .namespace(1)
        .blocks(fixture::namespace(1).size_blocks, 8);
    assert_eq!(host.io(last, 4096), Err(StatusCode::LbaOutOfRange.permanent()));
    let _ = host.apply(|model| {
        let mut subsystem = fixture::subsystem();
        subsystem.namespaces[0].size_blocks += 8;
        model.subsystems = vec![Arc::new(subsystem)];
    });
    assert!(host.io(last, 4096).is_ok());
}

#[test]
fn limits_hold_for_the_association_they_were_told_to() {
    let mut host = Host::ready(fixture::model());
    let read = CommandBuilder::new(io::READ, 1).namespace(1).blocks(0, 256);
    let _ = host.apply(|model| {
        model.limits.io_size_max_bytes = 16_384;
        model.limits.io_queues_max = 1;
    });
    assert!(host.io(read, 131_072).is_ok());
    assert!(host.connect_io(16).is_ok());
    assert_eq!(host.identify(0x01, 0).unwrap()[77], 5);
}
