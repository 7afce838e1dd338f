//! A host that speaks NVMe-oF to the bench's poller.

use std::cell::Cell;

use super::bench::{BLOCK, Bench, HOST, SUBSYSTEM, target};
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::completion::Completion;
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, PropertyAccess};
use crate::nvme::opcode::io;
use crate::nvme::private_data::ConnectRequestData;
use crate::nvme::properties::{Configuration, offset};
use crate::nvme::status::StatusCode;
use crate::provider::sim::{HostConnection, HostRegion, HostResponse, SimHost};

/// One queue of the host.
#[derive(Debug, Clone, Copy)]
pub struct HostQueue {
    pub connection: HostConnection,
}

/// A host with an association.
pub struct TestHost {
    pub sim: SimHost,
    pub nqn: String,
    pub subsystem: String,
    pub admin: HostQueue,
    pub controller_id: u16,
    pub next_command_id: Cell<u16>,
}

pub fn keyed(region: HostRegion) -> DataPointer {
    DataPointer::Keyed {
        address: region.address,
        length: region.length as u32,
        key: region.key,
        invalidate: true,
    }
}

/// Opens a queue pair; no Connect command yet.
pub fn open_queue(bench: &mut Bench, sim: &SimHost, queue_id: u16, entries: u16) -> HostQueue {
    try_open_queue(bench, sim, queue_id, entries).expect("the target accepts")
}

/// As [`open_queue`], where the target may be in trouble.
pub fn try_open_queue(bench: &mut Bench, sim: &SimHost, queue_id: u16, entries: u16) -> Option<HostQueue> {
    let data = ConnectRequestData {
        queue_id,
        host_receive_queue_size: entries,
        host_send_queue_size: entries - 1,
        controller_id: 0,
    };
    let connection = sim.connect(target(), &data.encode());
    bench.run();
    sim.is_connected(connection).then_some(HostQueue { connection })
}

pub fn decode(response: &HostResponse) -> Completion {
    let bytes: &[u8; 16] = response.bytes[..].try_into().unwrap();
    Completion::decode(bytes).unwrap().0
}

impl TestHost {
    /// Connects with the usual names and enables the controller.
    pub fn connect(bench: &mut Bench) -> Self {
        let sim = bench.add_host();
        Self::connect_as(bench, sim, HOST, 5000)
    }

    pub fn connect_as(bench: &mut Bench, sim: SimHost, nqn: &str, keep_alive_timeout_ms: u32) -> Self {
        Self::try_connect_as(bench, sim, nqn, keep_alive_timeout_ms).expect("the target takes the host")
    }

    /// As [`Self::connect_as`], where the target may be in trouble.
    pub fn try_connect_as(bench: &mut Bench, sim: SimHost, nqn: &str, keep_alive_timeout_ms: u32) -> Option<Self> {
        let admin = try_open_queue(bench, &sim, 0, 32)?;
        let mut host = Self {
            sim,
            nqn: nqn.to_owned(),
            subsystem: SUBSYSTEM.to_owned(),
            admin,
            controller_id: 0,
            next_command_id: Cell::new(0),
        };
        let connect = host.connect_command_of(0, 31, CONTROLLER_ID_DYNAMIC, keep_alive_timeout_ms);
        let completion = host.try_command(bench, admin, connect, &[])?;
        host.controller_id = completion.result as u16;
        let enable = host.configure_command(Configuration::ENABLE);
        host.try_command(bench, admin, enable, &[])?;
        Some(host)
    }

    fn configure_command(&self, configuration: Configuration) -> Command {
        let access = PropertyAccess {
            wide: false,
            offset: offset::CC,
            value: u64::from(configuration.0),
        };
        access.build_set(self.command_id())
    }

    pub fn configure(&self, bench: &mut Bench, configuration: Configuration) {
        let completion = self.command(bench, self.admin, self.configure_command(configuration), &[]);
        assert!(completion.status.is_success(), "{}", completion.status);
    }

    pub fn command_id(&self) -> u16 {
        self.next_command_id.set(self.next_command_id.get().wrapping_add(1));
        self.next_command_id.get()
    }

    /// A Connect whose data the target fetches.
    pub fn connect_command(
        &self,
        bench: &mut Bench,
        queue: HostQueue,
        queue_id: u16,
        queue_size: u16,
        controller_id: u16,
        keep_alive_timeout_ms: u32,
    ) -> Completion {
        let connect = self.connect_command_of(queue_id, queue_size, controller_id, keep_alive_timeout_ms);
        self.command(bench, queue, connect, &[])
    }

    fn connect_command_of(
        &self,
        queue_id: u16,
        queue_size: u16,
        controller_id: u16,
        keep_alive_timeout_ms: u32,
    ) -> Command {
        let connect = ConnectCommand {
            command_id: self.command_id(),
            record_format: 0,
            queue_id,
            queue_size,
            attributes: 0,
            keep_alive_timeout_ms,
        };
        let region = self.sim.register_bytes(&self.connect_data(controller_id));
        connect.build().data(keyed(region)).build()
    }

    pub fn connect_data(&self, controller_id: u16) -> [u8; 1024] {
        ConnectData {
            host_id: [7; 16],
            controller_id,
            subsystem_nqn: self.subsystem.clone(),
            host_nqn: self.nqn.clone(),
        }
        .encode()
    }

    /// Connects an I/O queue of 128 entries, where the target may be in trouble.
    pub fn try_io_queue(&self, bench: &mut Bench, queue_id: u16) -> Option<HostQueue> {
        let queue = try_open_queue(bench, &self.sim, queue_id, 128)?;
        let connect = self.connect_command_of(queue_id, 127, self.controller_id, 0);
        self.try_command(bench, queue, connect, &[])?;
        Some(queue)
    }

    /// Connects an I/O queue of 128 entries, its data in the capsule.
    pub fn io_queue(&self, bench: &mut Bench, queue_id: u16) -> HostQueue {
        let queue = open_queue(bench, &self.sim, queue_id, 128);
        let completion = self.connect_in_capsule(bench, queue, queue_id);
        assert!(completion.status.is_success(), "{}", completion.status);
        queue
    }

    pub fn connect_in_capsule(&self, bench: &mut Bench, queue: HostQueue, queue_id: u16) -> Completion {
        let connect = ConnectCommand {
            command_id: self.command_id(),
            record_format: 0,
            queue_id,
            queue_size: 127,
            attributes: 4,
            keep_alive_timeout_ms: 0,
        };
        let data = self.connect_data(self.controller_id);
        let pointer = DataPointer::InCapsule {
            offset: 0,
            length: 1024,
        };
        self.command(bench, queue, connect.build().data(pointer).build(), &data)
    }

    /// Sends a command and waits for its one response.
    pub fn command(&self, bench: &mut Bench, queue: HostQueue, command: Command, in_capsule: &[u8]) -> Completion {
        self.post(queue, &command, in_capsule);
        bench.run();
        let responses = self.responses(queue);
        assert_eq!(responses.len(), 1, "one response to {command:?}");
        assert_eq!(responses[0].command_id, command.command_id());
        responses[0]
    }

    /// The completion of a command that succeeds; `None` if it does not, or is never answered.
    fn try_command(
        &self,
        bench: &mut Bench,
        queue: HostQueue,
        command: Command,
        in_capsule: &[u8],
    ) -> Option<Completion> {
        self.post(queue, &command, in_capsule);
        bench.run();
        self.responses(queue)
            .pop()
            .filter(|completion| completion.status.is_success())
    }

    pub fn post(&self, queue: HostQueue, command: &Command, in_capsule: &[u8]) {
        let mut capsule = command.as_bytes().to_vec();
        capsule.extend_from_slice(in_capsule);
        self.sim.send(queue.connection, &capsule);
    }

    pub fn responses(&self, queue: HostQueue) -> Vec<Completion> {
        self.sim.take_responses(queue.connection).iter().map(decode).collect()
    }

    /// A command of `opcode` over whole blocks.
    pub fn io(&self, opcode: u8, block: u64, blocks: u32) -> CommandBuilder {
        CommandBuilder::new(opcode, self.command_id())
            .namespace(1)
            .blocks(block, blocks)
    }

    pub fn write_command(&self, block: u64, data: &[u8]) -> (Command, HostRegion) {
        let region = self.sim.register_bytes(data);
        (
            self.io(io::WRITE, block, data.len() as u32 / BLOCK)
                .data(keyed(region))
                .build(),
            region,
        )
    }

    pub fn read_command(&self, block: u64, blocks: u32) -> (Command, HostRegion) {
        let region = self.sim.register(blocks as usize * BLOCK as usize);
        (self.io(io::READ, block, blocks).data(keyed(region)).build(), region)
    }

    /// Writes whole blocks; the data is fetched by the target.
    pub fn write(&self, bench: &mut Bench, queue: HostQueue, block: u64, data: &[u8]) -> Completion {
        let (command, _) = self.write_command(block, data);
        self.command(bench, queue, command, &[])
    }

    /// Reads whole blocks, where the target may be in trouble.
    pub fn try_read(&self, bench: &mut Bench, queue: HostQueue, block: u64, blocks: u32) -> Option<Vec<u8>> {
        let (command, region) = self.read_command(block, blocks);
        self.try_command(bench, queue, command, &[])?;
        Some(self.sim.read(region))
    }

    /// Reads whole blocks.
    pub fn read(&self, bench: &mut Bench, queue: HostQueue, block: u64, blocks: u32) -> Vec<u8> {
        let (command, region) = self.read_command(block, blocks);
        let completion = self.command(bench, queue, command, &[]);
        assert_eq!(completion.status.code, StatusCode::Success);
        self.sim.read(region)
    }
}

/// Bytes that differ from block to block and from seed to seed.
pub fn pattern(seed: u8, blocks: u32) -> Vec<u8> {
    (0..blocks * BLOCK)
        .map(|at| seed ^ (at % 251) as u8 ^ (at / BLOCK) as u8)
        .collect()
}
