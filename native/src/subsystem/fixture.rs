//! A small model that tests start from.

use std::sync::Arc;

use super::derive::derived_uuid;
use super::model::{Access, Listener, Model, Namespace, Paths, QueueLimits, Subsystem};
use crate::backend::BackingId;

/// NQN of the subsystem.
pub const SUBSYSTEM_NQN: &str = "nqn.2026-11.dev.weir:fast";
/// NQN of the host that may connect.
pub const HOST_NQN: &str = "nqn.2026-11.dev.weir:host-a";

/// A namespace of 1 GiB with blocks of 512 bytes and a write cache.
pub fn namespace(id: u32) -> Namespace {
    Namespace {
        id,
        uuid: derived_uuid(SUBSYSTEM_NQN, id),
        ana_group: 1,
        read_only: false,
        backing: BackingId(100 + id),
        size_blocks: 1 << 21,
        block_shift: 9,
        write_cache: true,
    }
}

/// A subsystem with namespaces 1 and 2, open to [`HOST_NQN`] only.
pub fn subsystem() -> Subsystem {
    Subsystem {
        nqn: SUBSYSTEM_NQN.into(),
        serial: "SERIAL".into(),
        model_number: "Weir".into(),
        access: Access::AllowList(vec![HOST_NQN.into()]),
        authentication: Vec::new(),
        controller_ids: (1, 100),
        namespaces: vec![namespace(1), namespace(2)],
    }
}

/// A model with one listener and [`subsystem`].
pub fn model() -> Model {
    Model {
        revision: 1,
        subsystems: vec![Arc::new(subsystem())],
        listeners: vec![Listener {
            name: "storage".into(),
            address: "10.9.0.1:4420".parse().unwrap(),
        }],
        limits: QueueLimits {
            io_queues_max: 16,
            queue_depth: 128,
            in_capsule_data_bytes: 4096,
            io_size_max_bytes: 131_072,
        },
        keep_alive_minimum_ms: 5000,
        drain_timeout: std::time::Duration::from_secs(15),
        paths: Paths::Accessible,
    }
}
