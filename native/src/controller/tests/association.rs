//! Life of an association: the whole sequence of a Linux host, reset, shutdown, keep-alive.

use std::time::Duration;

use super::host::{CONTROLLER_ID, Host, ids, outcome};
use crate::controller::Plan;
use crate::nvme::bytes::{u16_at, u32_at, u64_at};
use crate::nvme::command::CommandBuilder;
use crate::nvme::fabrics::{PropertyAccess, fabrics_type};
use crate::nvme::opcode::{admin, io};
use crate::nvme::properties::{Configuration, offset};
use crate::nvme::status::StatusCode;
use crate::subsystem::fixture;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_linux_host_connects_enables_identifies_and_scans() {
    // Connect, CAP, CC, CAP, CRTO, enable, CSTS, VS.
    let mut host = Host::connect(fixture::model(), fixture::SUBSYSTEM_NQN);
    let cap = host.property(offset::CAP, true).unwrap();
    assert_eq!(cap & 0xffff, 127, "MQES");
    assert_eq!(cap >> 24 & 0xff, 15, "TO");
    assert!(cap & 1 << 37 != 0 && cap & 1 << 43 != 0, "command sets");
    host.set_configuration(Configuration::DISABLE).unwrap();
    assert_eq!(host.property(offset::CSTS, false).unwrap(), 0);
    assert!(cap & 1 << 59 != 0);
    assert_eq!(host.property(offset::CRTO, false).unwrap() & 0xffff, 15);
    host.set_configuration(Configuration::ENABLE).unwrap();
    assert_eq!(host.property(offset::CSTS, false).unwrap(), 1);
    assert_eq!(host.property(offset::VS, false).unwrap(), 0x2_0000);

    // Identify Controller must agree with Connect.
    let controller = host.identify(0x01, 0).unwrap();
    assert_eq!(u16_at(&controller, 78), CONTROLLER_ID);
    assert_eq!(controller[77], 5, "MDTS: 128 KiB");
    // What was advertised is there: effects, ANA, timestamp, SMART, non-MDTS limits.
    let effects = host.log(0x05, 0, 4096, false).unwrap();
    assert_eq!(u32_at(&effects, 1024 + 4) & 3, 3, "Write");
    let ana = host.log(0x0c, 0, 16 + 128 * 32 + 1024 * 4, false).unwrap();
    assert_eq!(u16_at(&ana, 8), 1, "groups");
    assert_eq!(
        (u32_at(&ana, 16), u32_at(&ana, 20), ana[32]),
        (1, 2, 1),
        "group 1, two namespaces, optimized"
    );
    assert_eq!((u32_at(&ana, 48), u32_at(&ana, 52)), (1, 2));
    host.set_feature_data(0x0e, &1_700_000_000_000_u64.to_le_bytes())
        .unwrap();
    host.log(0x02, 0, 512, false).unwrap();
    host.identify(0x06, 0).unwrap();

    // Queues, then events.
    let queues = host.set_feature(0x07, 0x0003_0003).unwrap();
    assert_eq!((queues & 0xffff, queues >> 16), (15, 15));
    for queue_id in 1..=4 {
        host.connect_io(queue_id).unwrap();
    }
    let supported = u32_at(&controller, 92);
    assert_eq!(supported, 1 << 8 | 1 << 11);
    host.set_feature(0x0b, supported).unwrap();
    host.request_event(31);

    // Scan.
    assert_eq!(ids(&host.identify(0x02, 0).unwrap()), [1, 2]);
    for id in [1, 2] {
        let descriptors = host.identify(0x03, id).unwrap();
        assert_eq!(descriptors[..2], [3, 16]);
        assert_eq!(&descriptors[4..20], fixture::namespace(id).uuid.as_bytes());
        let namespace = host.identify(0x00, id).unwrap();
        assert_eq!(u64_at(&namespace, 0), fixture::namespace(id).size_blocks);
        assert_eq!(u32_at(&namespace, 92), 1);
    }
    assert!(
        host.io(CommandBuilder::new(io::READ, 1).namespace(1).blocks(0, 8), 4096)
            .is_ok()
    );
}

#[test]
fn commands_before_enable_and_after_shutdown_are_out_of_sequence() {
    let mut host = Host::connect(fixture::model(), fixture::SUBSYSTEM_NQN);
    let early = host.identify(0x01, 0).unwrap_err();
    assert_eq!(early.code, StatusCode::CommandSequenceError);
    let mut host = Host::ready(fixture::model());
    host.set_configuration(Configuration::SHUTDOWN).unwrap();
    assert_eq!(host.property(offset::CSTS, false).unwrap() >> 2 & 3, 2);
    assert_eq!(
        host.identify(0x01, 0).unwrap_err().code,
        StatusCode::CommandSequenceError
    );
}

#[test]
fn reset_and_shutdown_close_the_io_queues() {
    for configuration in [Configuration::SHUTDOWN, Configuration::DISABLE] {
        let mut host = Host::ready(fixture::model());
        host.connect_io(2).unwrap();
        assert!(host.controller.take_io_queues_to_close().is_empty());
        host.set_configuration(configuration).unwrap();
        assert_eq!(host.controller.take_io_queues_to_close().collect::<Vec<_>>(), [1, 2]);
        assert!(host.controller.take_io_queues_to_close().is_empty());
        let read = CommandBuilder::new(io::READ, 1).namespace(1).blocks(0, 8);
        assert_eq!(
            host.io(read, 4096).unwrap_err(),
            StatusCode::CommandSequenceError.retryable()
        );
    }
}

#[test]
fn a_reset_forgets_settings_and_outstanding_requests() {
    let mut host = Host::ready(fixture::model());
    host.set_feature(0x06, 0).unwrap();
    host.set_feature(0x0b, 1 << 8).unwrap();
    host.request_event(31);
    host.set_configuration(Configuration::DISABLE).unwrap();
    host.set_configuration(Configuration::ENABLE).unwrap();
    assert_eq!(host.get_feature(0x06, 0).unwrap().0, 1);
    assert_eq!(host.get_feature(0x0b, 0).unwrap().0, 0);
    for command_id in 0..4 {
        host.request_event(command_id);
    }
    assert_eq!(host.controller.next_event(), None);
}

#[test]
fn properties_have_one_size_and_only_the_configuration_can_be_set() {
    let mut host = Host::connect(fixture::model(), fixture::SUBSYSTEM_NQN);
    let invalid = StatusCode::InvalidField.permanent();
    assert_eq!(host.property(offset::CAP, false), Err(invalid));
    assert_eq!(host.property(offset::CSTS, true), Err(invalid));
    assert_eq!(host.property(0x1000, false), Err(invalid));
    for (wide, offset) in [(false, offset::CSTS), (true, offset::CC), (false, offset::NSSR)] {
        let command = PropertyAccess { wide, offset, value: 1 }.build_set(1);
        assert_eq!(outcome(host.begin(0, &command)), Err(invalid));
    }
}

#[test]
fn any_command_restarts_the_keep_alive_timer() {
    let mut host = Host::ready(fixture::model());
    assert_eq!(host.controller.deadline(), Some(host.now + 5 * SECOND));
    host.advance(4 * SECOND);
    let _ = host.begin(0, &CommandBuilder::new(admin::KEEP_ALIVE, 1).build());
    host.advance(4 * SECOND);
    assert!(!host.controller.expired(host.now));
    let flush = CommandBuilder::new(io::FLUSH, 1).namespace(1);
    host.io(flush, 0).unwrap();
    host.advance(5 * SECOND);
    assert!(host.controller.expired(host.now));
}

#[test]
fn the_keep_alive_clock_stands_still_while_the_port_is_down() {
    let mut host = Host::ready(fixture::model());
    host.advance(SECOND);
    host.controller.pause_clock(host.now);
    host.advance(60 * SECOND);
    assert_eq!(host.controller.deadline(), None);
    host.controller.resume_clock(host.now);
    assert_eq!(host.controller.deadline(), Some(host.now + 4 * SECOND));
}

#[test]
fn disconnect_ends_an_io_queue_but_not_the_admin_queue() {
    let mut host = Host::ready(fixture::model());
    let disconnect = CommandBuilder::fabrics(fabrics_type::DISCONNECT, 3).build();
    assert!(matches!(host.begin(1, &disconnect), Plan::CompleteAndClose(completion) if completion.command_id == 3));
    assert_eq!(
        outcome(host.begin(0, &disconnect)).unwrap_err().code,
        StatusCode::InvalidQueueType
    );
}

#[test]
fn a_second_connect_on_a_connected_queue_is_out_of_sequence() {
    let mut host = Host::ready(fixture::model());
    let connect = CommandBuilder::fabrics(fabrics_type::CONNECT, 3).build();
    for queue_id in [0, 1] {
        assert_eq!(
            outcome(host.begin(queue_id, &connect)).unwrap_err().code,
            StatusCode::CommandSequenceError
        );
    }
}
