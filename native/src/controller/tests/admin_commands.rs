use std::sync::Arc;
use std::time::Duration;

use super::host::{Host, ids, keyed, outcome};
use crate::nvme::bytes::{u16_at, u32_at, u64_at};
use crate::nvme::command::CommandBuilder;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode::admin;
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::fixture;
use crate::subsystem::model::{Model, QueueLimits, Subsystem};

const INVALID_FIELD: Status = StatusCode::InvalidField.permanent();
const INVALID_NAMESPACE: Status = StatusCode::InvalidNamespace.permanent();

fn host() -> Host {
    Host::enabled(fixture::model(), fixture::SUBSYSTEM_NQN)
}

#[test]
fn unknown_identify_values_are_answered_and_the_association_lives() {
    let mut host = host();
    for cns in [0x04, 0x09, 0x10, 0x13, 0x20, 0xff] {
        assert_eq!(host.identify(cns, 1), Err(INVALID_FIELD), "CNS {cns:#x}");
    }
    assert!(host.identify(0x01, 0).is_ok());
}

#[test]
fn namespaces_not_in_use_are_zeroes_and_impossible_ids_an_error() {
    let mut host = host();
    for cns in [0x00, 0x08, 0x05] {
        assert_eq!(host.identify(cns, 3), Ok(vec![0; 4096]), "CNS {cns:#x}");
        assert_eq!(host.identify(cns, 0), Err(INVALID_NAMESPACE));
        assert_eq!(host.identify(cns, u32::MAX), Err(INVALID_NAMESPACE));
    }
    assert_eq!(host.identify(0x03, 3), Err(INVALID_NAMESPACE));
}

#[test]
fn active_namespaces_are_listed_above_the_id_asked_for() {
    let mut host = host();
    assert_eq!(ids(&host.identify(0x02, 1).unwrap()), [2]);
    assert_eq!(ids(&host.identify(0x02, 2).unwrap()), [0; 0]);
    assert_eq!(ids(&host.identify(0x07, 0).unwrap()), [1, 2]);
    assert_eq!(host.identify(0x02, u32::MAX - 1), Err(INVALID_NAMESPACE));
}

#[test]
fn other_command_sets_than_nvm_are_refused() {
    let mut host = host();
    for cns in [0x05, 0x06, 0x07] {
        let command = CommandBuilder::new(admin::IDENTIFY, 1)
            .namespace(1)
            .dword(10, cns)
            .dword(11, 2 << 24);
        assert_eq!(host.admin(command, 4096), Err(INVALID_FIELD));
    }
    assert_eq!(host.identify(0x1c, 0).unwrap()[0], 1);
}

#[test]
fn identify_of_another_length_than_4096_is_refused() {
    let command = CommandBuilder::new(admin::IDENTIFY, 1)
        .dword(10, 1)
        .data(keyed(4092))
        .build();
    assert_eq!(
        outcome(host().begin(0, &command)),
        Err(StatusCode::DataSglLengthInvalid.permanent())
    );
    let pointer = DataPointer::InCapsule {
        offset: 0,
        length: 4096,
    };
    let command = CommandBuilder::new(admin::IDENTIFY, 1)
        .dword(10, 1)
        .data(pointer)
        .build();
    assert_eq!(
        outcome(host().begin(0, &command)),
        Err(StatusCode::SglDescriptorTypeInvalid.permanent())
    );
}

#[test]
fn logs_are_read_in_pieces_and_end_with_zeroes() {
    let mut host = host();
    let whole = host.log(0x05, 0, 4096, false).unwrap();
    assert_eq!(host.log(0x05, 1024, 8, false).unwrap(), whole[1024..1032]);
    assert_eq!(host.log(0x05, 4092, 8, false).unwrap()[4..], [0; 4]);
    assert_eq!(host.log(0x05, 4096, 4, false), Ok(vec![0; 4]));
    assert_eq!(host.log(0x05, 4100, 4, false), Err(INVALID_FIELD));
    assert_eq!(host.log(0x05, u64::MAX - 3, 4, false), Err(INVALID_FIELD));
    assert_eq!(host.log(0x05, 2, 4, false), Err(INVALID_FIELD));
    assert_eq!(host.log(0x01, 0, 8192, false), Ok(vec![0; 8192]));
    assert_eq!(
        &host.log(0x03, 8, 8, false).unwrap()[..5],
        &env!("CARGO_PKG_VERSION").as_bytes()[..5]
    );
    let supported = host.log(0x00, 0, 1024, false).unwrap();
    assert_eq!((u32_at(&supported, 0x0c * 4), u32_at(&supported, 0x70 * 4)), (1, 0));
}

#[test]
fn unknown_logs_and_transfers_beyond_the_limit_are_refused() {
    let mut host = host();
    for log in [0x06, 0x0d, 0x70, 0x80, 0xff] {
        assert_eq!(
            host.log(log, 0, 512, false),
            Err(StatusCode::InvalidLogPage.permanent()),
            "log {log:#x}"
        );
    }
    assert_eq!(host.log(0x05, 0, 131_072 + 4, false), Err(INVALID_FIELD));
    let all = CommandBuilder::new(admin::GET_LOG_PAGE, 1)
        .dword(10, 0xffff_0005)
        .dword(11, 0xffff);
    assert_eq!(host.admin(all, 0), Err(INVALID_FIELD));
}

#[test]
fn the_ana_log_has_ascending_groups_or_groups_only() {
    let mut subsystem = fixture::subsystem();
    for (id, group) in [(3, 9), (4, 2)] {
        let mut namespace = fixture::namespace(id);
        namespace.ana_group = group;
        subsystem.namespaces.push(namespace);
    }
    let model = Model {
        subsystems: vec![Arc::new(subsystem)],
        ..fixture::model()
    };
    let mut host = Host::enabled(model, fixture::SUBSYSTEM_NQN);
    let log = host.log(0x0c, 0, 256, false).unwrap();
    assert_eq!(u16_at(&log, 8), 3);
    let groups = [(16, 1, 2), (16 + 40, 2, 1), (16 + 40 + 36, 9, 1)];
    for (at, group, namespaces) in groups {
        assert_eq!((u32_at(&log, at), u32_at(&log, at + 4)), (group, namespaces));
    }
    assert_eq!(u32_at(&log, 16 + 40 + 32), 4);
    let groups_only = CommandBuilder::new(admin::GET_LOG_PAGE, 1).dword(10, 0x0c | 1 << 8 | 31 << 16);
    let (_, log) = host.admin(groups_only, 128).unwrap();
    assert_eq!((u32_at(&log, 16), u32_at(&log, 20)), (1, 0));
    assert_eq!(u32_at(&log, 48), 2);
}

#[test]
fn the_smart_log_counts_this_associations_io() {
    let mut host = Host::ready(fixture::model());
    let read = CommandBuilder::new(crate::nvme::opcode::io::READ, 1)
        .namespace(1)
        .blocks(0, 8);
    host.io(read, 4096).unwrap();
    let log = host.log(0x02, 0, 512, false).unwrap();
    assert_eq!(
        (log[3], u64_at(&log, 32), u64_at(&log, 64), u64_at(&log, 80)),
        (100, 1, 1, 0)
    );
}

#[test]
fn features_read_back_as_set() {
    let mut host = host();
    for (feature, value) in [
        (0x01, 0x0707_0705),
        (0x04, 0x0150),
        (0x05, 9),
        (0x06, 0),
        (0x0a, 1),
        (0x0b, 1 << 8),
    ] {
        host.set_feature(feature, value).unwrap();
        assert_eq!(
            host.get_feature(feature, 0).unwrap().0,
            u64::from(value),
            "feature {feature:#x}"
        );
    }
    assert_eq!(host.set_feature(0x0f, 1), Ok(0));
    assert_eq!(host.get_feature(0x0f, 0).unwrap().0, 5000, "raised to the minimum");
    assert_eq!(host.get_feature(0x81, 16).unwrap().1, [0xa5; 16]);
    let mut behavior = [0; 512];
    behavior[0] = 1;
    host.set_feature_data(0x16, &behavior).unwrap();
    assert_eq!(host.get_feature(0x16, 512).unwrap().1, behavior);
}

#[test]
fn the_timestamp_goes_on_from_what_was_set() {
    let mut host = host();
    host.advance(Duration::from_millis(250));
    assert_eq!(u64_at(&host.get_feature(0x0e, 8).unwrap().1, 0), 250);
    host.set_feature_data(0x0e, &1_700_000_000_000_u64.to_le_bytes())
        .unwrap();
    host.advance(Duration::from_millis(1500));
    assert_eq!(
        u64_at(&host.get_feature(0x0e, 8).unwrap().1, 0),
        1_700_000_001_500 | 1 << 49
    );
}

#[test]
fn features_that_do_not_exist_or_cannot_be_set_are_refused() {
    let mut host = host();
    for feature in [0x00, 0x03, 0x08, 0x0c, 0x10, 0x80, 0xc0, 0xff] {
        assert_eq!(host.get_feature(feature, 0), Err(INVALID_FIELD), "feature {feature:#x}");
        assert_eq!(host.set_feature(feature, 0), Err(INVALID_FIELD), "feature {feature:#x}");
    }
    assert_eq!(host.set_feature(0x0b, 1 << 31), Err(INVALID_FIELD));
    assert_eq!(host.set_feature(0x02, 1), Err(INVALID_FIELD));
    assert_eq!(
        host.set_feature(0x81, 1).unwrap_err().code,
        StatusCode::CommandSequenceError
    );
    let save = CommandBuilder::new(admin::SET_FEATURES, 1).dword(10, 0x06 | 1 << 31);
    assert_eq!(host.admin(save, 0), Err(StatusCode::FeatureNotSaveable.permanent()));
    let default = CommandBuilder::new(admin::GET_FEATURES, 1).dword(10, 0x06 | 1 << 8);
    assert_eq!(host.admin(default, 0), Err(INVALID_FIELD));
}

#[test]
fn queues_are_counted_before_any_is_connected() {
    let mut host = host();
    assert_eq!(host.set_feature(0x07, 0xffff_0000), Err(INVALID_FIELD));
    assert_eq!(host.set_feature(0x07, 0), Ok(0x000f_000f));
    host.connect_io(1).unwrap();
    assert_eq!(
        host.set_feature(0x07, 0),
        Err(StatusCode::CommandSequenceError.permanent())
    );
    assert_eq!(host.get_feature(0x07, 0).unwrap().0, 0x000f_000f);
}

fn host_with_limits(change: impl FnOnce(&mut QueueLimits)) -> Host {
    let mut model = fixture::model();
    change(&mut model.limits);
    Host::enabled(model, fixture::SUBSYSTEM_NQN)
}

#[test]
fn the_smallest_transfer_limit_still_holds_every_log_and_is_not_told_as_unlimited() {
    let mut host = host_with_limits(|limits| limits.io_size_max_bytes = 4096);
    assert_eq!(host.identify(0x01, 0).unwrap()[77], 2, "MDTS: 16 KiB");
    assert!(host.log(0x0c, 0, 16 + 128 * 32 + 1024 * 4, false).is_ok());
}

#[test]
fn without_in_capsule_data_offsets_into_the_capsule_are_not_offered() {
    let mut host = host_with_limits(|limits| limits.in_capsule_data_bytes = 0);
    let controller = host.identify(0x01, 0).unwrap();
    assert_eq!((u32_at(&controller, 536), u32_at(&controller, 1792)), (5, 4));
}

#[test]
fn abort_says_that_nothing_was_aborted() {
    let command = CommandBuilder::new(admin::ABORT, 9).dword(10, 1 | 5 << 16);
    assert_eq!(host().admin(command, 0).unwrap().0, 1);
}

#[test]
fn unknown_opcodes_and_fused_or_prp_commands_are_refused() {
    let mut host = host();
    for opcode in [0x00, 0x01, 0x04, 0x05, 0x10, 0x14, 0x80, 0xff] {
        let status = host.admin(CommandBuilder::new(opcode, 1), 0).unwrap_err();
        assert_eq!(status, StatusCode::InvalidOpcode.permanent(), "opcode {opcode:#x}");
    }
    for flags in [0x00, 0x41, 0x80, 0xc0] {
        let status = host
            .admin(CommandBuilder::new(admin::KEEP_ALIVE, 1).byte(1, flags), 0)
            .unwrap_err();
        assert_eq!(status, INVALID_FIELD, "flags {flags:#x}");
    }
}

#[test]
fn an_identifier_that_disappeared_before_its_data_was_produced_is_answered() {
    let mut host = host();
    let command = CommandBuilder::new(admin::IDENTIFY, 1)
        .namespace(2)
        .dword(10, 3)
        .data(keyed(4096))
        .build();
    let plan = host.begin(0, &command);
    assert_eq!(plan, crate::controller::Plan::Produce { length: 4096 });
    let _ = host.apply(|model| {
        let subsystem = Subsystem {
            namespaces: vec![fixture::namespace(1)],
            ..fixture::subsystem()
        };
        model.subsystems = vec![Arc::new(subsystem)];
    });
    let completion = host.controller.produce(0, &command, &mut [0; 4096], host.now);
    assert_eq!(completion.status, INVALID_NAMESPACE);
}
