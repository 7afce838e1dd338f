//! A host, and the part of a poller that carries out plans without any transport.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::controller::{Controller, IoPlan, Plan};
use crate::nvme::bytes::u32_at;
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::completion::Completion;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, PropertyAccess};
use crate::nvme::opcode::{DataDirection, admin};
use crate::nvme::properties::{Configuration, offset};
use crate::nvme::status::Status;
use crate::subsystem::fixture;
use crate::subsystem::model::Model;

/// Controller id the test's poller gives out.
pub const CONTROLLER_ID: u16 = 7;

/// An admin queue's Connect as Linux sends it.
pub fn admin_connect() -> ConnectCommand {
    ConnectCommand {
        command_id: 0x1001,
        record_format: 0,
        queue_id: 0,
        queue_size: 31,
        attributes: 0,
        keep_alive_timeout_ms: 5000,
    }
}

/// An I/O queue's Connect as Linux sends it.
pub fn io_connect(queue_id: u16) -> ConnectCommand {
    ConnectCommand {
        queue_id,
        queue_size: 127,
        keep_alive_timeout_ms: 0,
        ..admin_connect()
    }
}

/// Connect data of the fixture's host.
pub fn connect_data(subsystem_nqn: &str) -> ConnectData {
    ConnectData {
        host_id: [0xa5; 16],
        controller_id: CONTROLLER_ID_DYNAMIC,
        subsystem_nqn: subsystem_nqn.into(),
        host_nqn: fixture::HOST_NQN.into(),
    }
}

/// A keyed data pointer of this length.
pub fn keyed(length: u32) -> DataPointer {
    DataPointer::Keyed {
        address: 0x10_0000,
        length,
        key: 0x77,
        invalidate: false,
    }
}

/// A connected host.
#[derive(Debug)]
pub struct Host {
    pub controller: Controller,
    pub model: Arc<Model>,
    pub now: Instant,
    next_command_id: u16,
}

impl Host {
    /// Connects an admin queue.
    pub fn connect(model: Model, subsystem_nqn: &str) -> Self {
        let (model, now) = (Arc::new(model), Instant::now());
        let data = connect_data(subsystem_nqn);
        let (controller, completion) =
            Controller::connect_admin(&model, &admin_connect(), &data, 32, Some(CONTROLLER_ID), now).unwrap();
        assert_eq!(completion.result, u64::from(CONTROLLER_ID));
        Self {
            controller,
            model,
            now,
            next_command_id: 0,
        }
    }

    /// Connects and enables as Linux does.
    pub fn enabled(model: Model, subsystem_nqn: &str) -> Self {
        let mut host = Self::connect(model, subsystem_nqn);
        host.set_configuration(Configuration::DISABLE).unwrap();
        host.set_configuration(Configuration::ENABLE).unwrap();
        assert_eq!(host.property(offset::CSTS, false).unwrap(), 1);
        host
    }

    /// Connects, enables and adds I/O queue 1 to the fixture's subsystem.
    pub fn ready(model: Model) -> Self {
        let mut host = Self::enabled(model, fixture::SUBSYSTEM_NQN);
        host.connect_io(1).unwrap();
        host
    }

    pub fn connect_io(&mut self, queue_id: u16) -> Result<Completion, crate::controller::connect::ConnectRefusal> {
        let data = ConnectData {
            controller_id: CONTROLLER_ID,
            ..connect_data(fixture::SUBSYSTEM_NQN)
        };
        self.controller.connect_io(&io_connect(queue_id), &data, 128, self.now)
    }

    pub fn advance(&mut self, duration: Duration) {
        self.now += duration;
    }

    /// Takes a new model over.
    pub fn apply(&mut self, change: impl FnOnce(&mut Model)) -> crate::controller::Standing {
        let mut model = Model::clone(&self.model);
        model.revision += 1;
        change(&mut model);
        self.model = Arc::new(model);
        self.controller.apply_model(&self.model)
    }

    pub fn property(&mut self, offset: u32, wide: bool) -> Result<u64, Status> {
        let command = PropertyAccess { wide, offset, value: 0 }.build_get(1);
        outcome(self.begin(0, &command)).map(|completion| completion.result)
    }

    pub fn set_configuration(&mut self, configuration: Configuration) -> Result<(), Status> {
        let access = PropertyAccess {
            wide: false,
            offset: offset::CC,
            value: u64::from(configuration.0),
        };
        outcome(self.begin(0, &access.build_set(1))).map(|_| ())
    }

    pub fn begin(&mut self, queue_id: u16, command: &Command) -> Plan {
        self.controller.begin(queue_id, command, 0, self.now)
    }

    fn command_id(&mut self) -> u16 {
        self.next_command_id += 1;
        self.next_command_id
    }

    /// Carries out an admin command whose data, if any, goes to the host; the result and the data.
    pub fn admin(&mut self, builder: CommandBuilder, length: u32) -> Result<(u64, Vec<u8>), Status> {
        let command = builder.data(keyed(length)).build();
        match self.begin(0, &command) {
            Plan::Produce { length: planned } => {
                assert_eq!(planned, length);
                let mut out = vec![0xee; length as usize];
                let completion = self.controller.produce(0, &command, &mut out, self.now);
                outcome(Plan::Complete(completion)).map(|completion| (completion.result, out))
            }
            plan => outcome(plan).map(|completion| (completion.result, Vec::new())),
        }
    }

    pub fn identify(&mut self, cns: u8, namespace: u32) -> Result<Vec<u8>, Status> {
        let builder = CommandBuilder::new(admin::IDENTIFY, self.command_id())
            .namespace(namespace)
            .dword(10, u32::from(cns));
        self.admin(builder, 4096).map(|(_, data)| data)
    }

    /// Get Log Page with offset and length; `retain` sets RAE.
    pub fn log(&mut self, log: u8, offset: u64, length: u32, retain: bool) -> Result<Vec<u8>, Status> {
        let dwords = length / 4 - 1;
        let builder = CommandBuilder::new(admin::GET_LOG_PAGE, self.command_id())
            .namespace(u32::MAX)
            .dword(10, u32::from(log) | u32::from(retain) << 15 | dwords << 16)
            .dword(11, dwords >> 16)
            .dword(12, offset as u32)
            .dword(13, (offset >> 32) as u32);
        self.admin(builder, length).map(|(_, data)| data)
    }

    pub fn get_feature(&mut self, feature: u8, length: u32) -> Result<(u64, Vec<u8>), Status> {
        let builder = CommandBuilder::new(admin::GET_FEATURES, self.command_id()).dword(10, u32::from(feature));
        self.admin(builder, length)
    }

    pub fn set_feature(&mut self, feature: u8, value: u32) -> Result<u64, Status> {
        let builder = CommandBuilder::new(admin::SET_FEATURES, self.command_id())
            .dword(10, u32::from(feature))
            .dword(11, value);
        self.admin(builder, 0).map(|(result, _)| result)
    }

    pub fn set_feature_data(&mut self, feature: u8, data: &[u8]) -> Result<u64, Status> {
        let command = CommandBuilder::new(admin::SET_FEATURES, self.command_id())
            .dword(10, u32::from(feature))
            .data(keyed(data.len() as u32))
            .build();
        match self.begin(0, &command) {
            Plan::Receive { length } => {
                assert_eq!(length as usize, data.len());
                outcome(self.controller.received(0, &command, data, self.now)).map(|completion| completion.result)
            }
            plan => outcome(plan).map(|completion| completion.result),
        }
    }

    /// Issues an Async Event Request, which must be held.
    pub fn request_event(&mut self, command_id: u16) {
        let command = CommandBuilder::new(admin::ASYNC_EVENT_REQUEST, command_id).build();
        assert_eq!(self.begin(0, &command), Plan::Hold);
    }

    /// Begins an I/O command on queue 1; a command that ends at once gives its status.
    pub fn io(&mut self, builder: CommandBuilder, length: u32) -> Result<IoPlan, Status> {
        match self.begin(1, &builder.data(keyed(length)).build()) {
            Plan::Io(plan) => {
                let moves = plan.direction() != DataDirection::None;
                assert_eq!(plan.transfer_bytes(), if moves { length } else { 0 });
                Ok(plan)
            }
            plan => Err(outcome(plan).map_or_else(|status| status, |completion| completion.status)),
        }
    }
}

/// The completion of a plan that ends the command.
#[track_caller]
pub fn outcome(plan: Plan) -> Result<Completion, Status> {
    match plan {
        Plan::Complete(completion) | Plan::CompleteAndClose(completion) => {
            if completion.status.is_success() {
                Ok(completion)
            } else {
                Err(completion.status)
            }
        }
        other => panic!("{other:?} does not end the command"),
    }
}

/// Ids of a list of dwords that ends with 0.
pub fn ids(data: &[u8]) -> Vec<u32> {
    (0..data.len() / 4)
        .map(|index| u32_at(data, index * 4))
        .take_while(|id| *id != 0)
        .collect()
}
