//! I/O commands allocate nothing in the controller: counted by the test's own global allocator, per thread.

#[path = "support/allocations.rs"]
#[expect(
    dead_code,
    reason = "shared with tests that leave parts of their work out of the count"
)]
mod allocations;

use std::sync::Arc;
use std::time::Instant;

use allocations::{CountingAllocator, counted, total};
use uuid::Uuid;
use weir_core::backend::BackingId;
use weir_core::controller::Controller;
use weir_core::nvme::command::CommandBuilder;
use weir_core::nvme::data_pointer::DataPointer;
use weir_core::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, PropertyAccess};
use weir_core::nvme::opcode::io;
use weir_core::nvme::properties::{Configuration, offset};
use weir_core::subsystem::model::{Access, Model, Namespace, Paths, QueueLimits, Subsystem};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const NQN: &str = "nqn.2026-11.dev.weir:fast";

fn model() -> Arc<Model> {
    let namespace = Namespace {
        id: 1,
        uuid: Uuid::from_u128(1),
        ana_group: 1,
        read_only: false,
        backing: BackingId(1),
        size_blocks: 1 << 20,
        block_shift: 9,
        write_cache: true,
    };
    let subsystem = Subsystem {
        nqn: NQN.into(),
        serial: "1".into(),
        model_number: "Weir".into(),
        access: Access::AnyHost,
        authentication: Vec::new(),
        controller_ids: (1, 100),
        namespaces: vec![namespace],
    };
    Arc::new(Model {
        revision: 1,
        subsystems: vec![Arc::new(subsystem)],
        listeners: Vec::new(),
        limits: QueueLimits {
            io_queues_max: 16,
            queue_depth: 128,
            in_capsule_data_bytes: 4096,
            io_size_max_bytes: 131_072,
        },
        keep_alive_minimum_ms: 5000,
        drain_timeout: std::time::Duration::from_secs(15),
        paths: Paths::Accessible,
    })
}

/// A controller with I/O queue 1.
fn ready(now: Instant) -> Controller {
    let connect = ConnectCommand {
        command_id: 1,
        record_format: 0,
        queue_id: 0,
        queue_size: 31,
        attributes: 0,
        keep_alive_timeout_ms: 5000,
    };
    let data = ConnectData {
        host_id: [1; 16],
        controller_id: CONTROLLER_ID_DYNAMIC,
        subsystem_nqn: NQN.into(),
        host_nqn: "nqn.2026-11.dev.weir:host-a".into(),
    };
    let (mut controller, _) =
        Controller::connect_admin(&model(), &connect, &data, 32, Some(7), now).expect("any host may connect");
    let enable = PropertyAccess {
        wide: false,
        offset: offset::CC,
        value: u64::from(Configuration::ENABLE.0),
    };
    let _ = controller.begin(0, &enable.build_set(1), 0, now);
    let connect = ConnectCommand {
        queue_id: 1,
        queue_size: 127,
        ..connect
    };
    let data = ConnectData {
        controller_id: 7,
        ..data
    };
    controller
        .connect_io(&connect, &data, 128, now)
        .expect("the controller is ready");
    controller
}

#[test]
fn io_commands_allocate_nothing() {
    let now = Instant::now();
    let mut controller = ready(now);
    let of = |opcode| CommandBuilder::new(opcode, 1).namespace(1).blocks(0, 8);
    let keyed = |length| DataPointer::Keyed {
        address: 0x1000,
        length,
        key: 1,
        invalidate: true,
    };
    let commands = [
        of(io::READ).data(keyed(4096)).build(),
        of(io::WRITE).data(keyed(4096)).build(),
        of(io::WRITE)
            .data(DataPointer::InCapsule {
                offset: 0,
                length: 4096,
            })
            .build(),
        of(io::COMPARE).data(keyed(4096)).build(),
        of(io::WRITE_ZEROES).build(),
        CommandBuilder::new(io::FLUSH, 1).namespace(1).build(),
        of(io::READ).data(keyed(1)).build(),
        CommandBuilder::new(io::READ, 1).namespace(9).build(),
    ];
    let ranges = CommandBuilder::new(io::DATASET_MANAGEMENT, 1)
        .namespace(1)
        .dword(11, 4)
        .data(keyed(16))
        .build();
    let data = [0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    counted(|| {
        for command in &commands {
            let _ = controller.begin(1, command, 4096, now);
        }
        let _ = controller.begin(1, &ranges, 0, now);
        let _ = controller.received(1, &ranges, &data, now);
    });
    assert_eq!(total(), 0);
    drop(counted(|| Box::new(1)));
    assert_eq!(total(), 1, "the counter counts");
}
