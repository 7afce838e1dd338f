use std::sync::Arc;
use std::time::Instant;

use super::host::{CONTROLLER_ID, Host, admin_connect, connect_data, io_connect, keyed};
use crate::controller::Controller;
use crate::controller::connect::{ConnectRefusal, first_command, parse_data};
use crate::nvme::command::CommandBuilder;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::fabrics::{ConnectCommand, ConnectData};
use crate::nvme::opcode::io;
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::fixture;
use crate::subsystem::model::{Access, Model, Paths, Subsystem};

const INVALID: Status = StatusCode::ConnectInvalidParameters.permanent();

fn connect(model: &Model, connect: &ConnectCommand, data: &ConnectData) -> Result<u64, ConnectRefusal> {
    Controller::connect_admin(
        &Arc::new(model.clone()),
        connect,
        data,
        32,
        Some(CONTROLLER_ID),
        Instant::now(),
    )
    .map(|(_, completion)| completion.result)
}

#[track_caller]
fn assert_refused(outcome: Result<u64, ConnectRefusal>, status: Status, result: u64, reason: &str) {
    let refusal = outcome.unwrap_err();
    assert_eq!(
        (refusal.completion.status, refusal.completion.result, refusal.reason),
        (status, result, reason)
    );
}

#[test]
fn an_allowed_host_gets_the_controller_id_and_no_wish_for_authentication() {
    let outcome = connect(
        &fixture::model(),
        &admin_connect(),
        &connect_data(fixture::SUBSYSTEM_NQN),
    );
    assert_eq!(outcome, Ok(u64::from(CONTROLLER_ID)));
}

#[test]
fn the_first_command_must_be_a_connect_of_1024_bytes() {
    let good = admin_connect().build().data(keyed(1024)).build();
    assert_eq!(first_command(&good, 0), Ok(admin_connect()));
    let in_capsule = DataPointer::InCapsule {
        offset: 0,
        length: 1024,
    };
    let good = io_connect(1).build().data(in_capsule).build();
    assert_eq!(first_command(&good, 1024), Ok(io_connect(1)));

    let status = |command, bytes| first_command(command, bytes).unwrap_err().completion.status;
    assert_eq!(status(&good, 1023), StatusCode::SglOffsetInvalid.permanent());
    let short = admin_connect().build().data(keyed(1023)).build();
    assert_eq!(status(&short, 0), StatusCode::DataSglLengthInvalid.permanent());
    let read = CommandBuilder::new(io::READ, 5).build();
    assert_eq!(status(&read, 0), StatusCode::CommandSequenceError.permanent());
    let format = ConnectCommand {
        record_format: 1,
        ..admin_connect()
    }
    .build()
    .data(keyed(1024))
    .build();
    assert_eq!(status(&format, 0), StatusCode::ConnectIncompatibleFormat.permanent());
    let prp = admin_connect().build().data(keyed(1024)).byte(1, 0).build();
    assert_eq!(status(&prp, 0), StatusCode::InvalidField.permanent());
}

#[test]
fn invalid_parameters_are_named_by_their_offset() {
    let (model, data) = (fixture::model(), connect_data(fixture::SUBSYSTEM_NQN));
    let small = ConnectCommand {
        queue_size: 0,
        ..admin_connect()
    };
    assert_refused(connect(&model, &small, &data), INVALID, 44, "InvalidParameter");
    let large = ConnectCommand {
        queue_size: 32,
        ..admin_connect()
    };
    assert_refused(connect(&model, &large, &data), INVALID, 44, "InvalidParameter");
    let fixed_id = ConnectData {
        controller_id: 1,
        ..data.clone()
    };
    assert_refused(
        connect(&model, &admin_connect(), &fixed_id),
        INVALID,
        0x1_0010,
        "InvalidParameter",
    );
    let unknown = connect_data("nqn.2026-11.dev.weir:none");
    assert_refused(
        connect(&model, &admin_connect(), &unknown),
        INVALID,
        0x1_0100,
        "UnknownSubsystem",
    );
    let refusal = parse_data(&admin_connect(), &[0; 1024]).unwrap_err();
    assert_eq!(
        (refusal.completion.status, refusal.completion.result),
        (INVALID, 0x1_0100)
    );
}

#[test]
fn a_host_that_is_not_on_the_list_is_refused_and_a_closed_list_admits_nobody() {
    let status = StatusCode::ConnectInvalidHost.permanent();
    let data = connect_data(fixture::SUBSYSTEM_NQN);
    let stranger = ConnectData {
        host_nqn: "nqn.2026-11.dev.weir:stranger".into(),
        ..data.clone()
    };
    assert_refused(
        connect(&fixture::model(), &admin_connect(), &stranger),
        status,
        0,
        "HostNotAllowed",
    );
    let with_access = |access| {
        let subsystem = Subsystem {
            access,
            ..fixture::subsystem()
        };
        Model {
            subsystems: vec![Arc::new(subsystem)],
            ..fixture::model()
        }
    };
    let closed = with_access(Access::AllowList(vec![]));
    assert_refused(connect(&closed, &admin_connect(), &data), status, 0, "HostNotAllowed");
    assert!(connect(&with_access(Access::AnyHost), &admin_connect(), &stranger).is_ok());
}

#[test]
fn while_leaving_no_refusal_forbids_another_try() {
    let model = Model {
        paths: Paths::Leaving,
        ..fixture::model()
    };
    let busy = StatusCode::ConnectControllerBusy.retryable();
    for nqn in [fixture::SUBSYSTEM_NQN, "nqn.2026-11.dev.weir:none", DISCOVERY_NQN] {
        assert_refused(connect(&model, &admin_connect(), &connect_data(nqn)), busy, 0, "Busy");
    }
}

#[test]
fn before_the_desired_state_arrived_no_refusal_forbids_another_try() {
    let model = Model {
        subsystems: vec![],
        ..fixture::model()
    };
    let refusal = connect(&model, &admin_connect(), &connect_data(fixture::SUBSYSTEM_NQN)).unwrap_err();
    assert_eq!(
        refusal.completion.status,
        StatusCode::ConnectInvalidParameters.retryable()
    );
}

#[test]
fn without_a_free_controller_id_the_host_is_told_to_come_back() {
    let (model, now) = (Arc::new(fixture::model()), Instant::now());
    let data = connect_data(fixture::SUBSYSTEM_NQN);
    let refusal = Controller::connect_admin(&model, &admin_connect(), &data, 32, None, now).unwrap_err();
    assert_eq!(refusal.completion.status, StatusCode::ConnectControllerBusy.retryable());
}

#[test]
fn io_queues_connect_once_each_and_again_after_they_closed() {
    let mut host = Host::ready(fixture::model());
    assert_eq!(host.controller.queue_count(), 2);
    let refusal = host.connect_io(1).unwrap_err();
    assert_eq!(refusal.completion.status.code, StatusCode::CommandSequenceError);
    assert_eq!(refusal.reason, "QueueInUse");
    host.controller.queue_closed(1);
    assert!(host.connect_io(1).is_ok());
    assert!(host.connect_io(16).is_ok());
    assert_eq!(host.connect_io(17).unwrap_err().completion.result, 42);
}

#[test]
fn io_queues_wait_for_the_controller_to_be_ready() {
    let mut host = Host::connect(fixture::model(), fixture::SUBSYSTEM_NQN);
    assert_eq!(host.connect_io(1).unwrap_err().reason, "ControllerNotReady");
}

#[test]
fn an_io_queue_belongs_to_the_associations_parties() {
    let mut host = Host::enabled(fixture::model(), fixture::SUBSYSTEM_NQN);
    let data = ConnectData {
        controller_id: CONTROLLER_ID,
        ..connect_data(fixture::SUBSYSTEM_NQN)
    };
    let mut refused = |data: &ConnectData| {
        let refusal = host
            .controller
            .connect_io(&io_connect(1), data, 128, host.now)
            .unwrap_err();
        (refusal.completion.status.code, refusal.completion.result)
    };
    let code = StatusCode::ConnectInvalidParameters;
    assert_eq!(
        refused(&ConnectData {
            controller_id: 8,
            ..data.clone()
        }),
        (code, 0x1_0010)
    );
    assert_eq!(
        refused(&ConnectData {
            host_id: [0; 16],
            ..data.clone()
        }),
        (code, 0x1_0000)
    );
    assert_eq!(
        refused(&ConnectData {
            host_nqn: "nqn.2026-11.dev.weir:b".into(),
            ..data.clone()
        }),
        (code, 0x1_0200)
    );
    assert_eq!(
        refused(&ConnectData {
            subsystem_nqn: DISCOVERY_NQN.into(),
            ..data
        }),
        (code, 0x1_0100)
    );
}

#[test]
fn io_queue_sizes_are_held_to_the_limit() {
    let mut host = Host::enabled(fixture::model(), fixture::SUBSYSTEM_NQN);
    let data = ConnectData {
        controller_id: CONTROLLER_ID,
        ..connect_data(fixture::SUBSYSTEM_NQN)
    };
    for queue_size in [0, 128, u16::MAX] {
        let connect = ConnectCommand {
            queue_size,
            ..io_connect(1)
        };
        let refusal = host.controller.connect_io(&connect, &data, 1024, host.now).unwrap_err();
        assert_eq!((refusal.completion.status, refusal.completion.result), (INVALID, 44));
    }
}

#[test]
fn queues_without_flow_control_are_remembered() {
    let mut host = Host::enabled(fixture::model(), fixture::SUBSYSTEM_NQN);
    let data = ConnectData {
        controller_id: CONTROLLER_ID,
        ..connect_data(fixture::SUBSYSTEM_NQN)
    };
    let connect = ConnectCommand {
        attributes: 1 << 2,
        ..io_connect(2)
    };
    host.controller.connect_io(&connect, &data, 128, host.now).unwrap();
    assert!(host.controller.flow_control_disabled(2));
    assert!(!host.controller.flow_control_disabled(0));
}

#[test]
fn an_unknown_controller_leaves_the_host_free_to_reconnect() {
    let refusal = ConnectRefusal::unknown_controller(&io_connect(1));
    assert!(!refusal.completion.status.do_not_retry);
    assert_eq!(refusal.completion.result, 0x1_0010);
}
