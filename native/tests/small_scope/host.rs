//! A host with an admin queue, one I/O queue and two I/Os to do. It comes back after every loss, and does again what
//! was not done. Nothing about it is random: what it does follows from what it sees.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_core::nvme::command::{Command, CommandBuilder};
use weir_core::nvme::completion::Completion;
use weir_core::nvme::data_pointer::DataPointer;
use weir_core::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, PropertyAccess};
use weir_core::nvme::opcode;
use weir_core::nvme::private_data::ConnectRequestData;
use weir_core::nvme::properties::{Configuration, offset};
use weir_core::provider::sim::{ConnectOutcome, HostConnection, HostRegion, SimHost};

use crate::support::history::{History, ReadMark};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 512;
/// The host's connection manager waits this long for an answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Pause before it connects anew.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Entries of each queue.
const QUEUE_ENTRIES: u16 = 32;
/// Number of Queues feature.
const FEATURE_NUMBER_OF_QUEUES: u32 = 7;

/// What the two I/Os are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// A write of block 0 with its data in the capsule and a read of block 1, at once.
    WriteAndRead,
    /// A write of block 0 with its data in the capsule and one of block 1 by RDMA READ, at once.
    TwoWrites,
}

#[derive(Debug)]
enum Kind {
    Connect,
    Enable,
    QueryReady,
    SetQueues,
    Write { block: usize },
    Read { block: usize, mark: ReadMark },
    Shutdown,
}

#[derive(Debug)]
struct HostQueue {
    id: u16,
    connection: HostConnection,
    /// When it stops waiting for its connect, for as long as it waits.
    until: Option<Instant>,
    ready: bool,
    /// Commands. It waits for them for ever: that it is told of every loss is the target's business.
    in_flight: BTreeMap<u16, Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Away(Instant),
    Connecting,
    Live,
    Leaving,
    Gone,
}

/// See the module's text.
#[derive(Debug)]
pub struct Host {
    sim: SimHost,
    target: SocketAddr,
    subsystem_nqn: &'static str,
    script: Script,
    /// It may begin its I/Os.
    pub begun: bool,
    /// What the blocks may hold.
    pub history: History,
    phase: Phase,
    queues: Vec<HostQueue>,
    controller_id: u16,
    last_value: u64,
    /// Which of the two I/Os are done.
    done: [bool; 2],
    /// Connect data, and data of keyed I/O: registered once, so that keys are the same in every state.
    connect_region: HostRegion,
    data_region: HostRegion,
}

/// The value a block holds.
///
/// # Errors
/// When it is not one value throughout: a torn block.
pub fn value_of(block: &[u8]) -> Result<u64, String> {
    let words = block
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
    let mut words = words.peekable();
    let first = *words.peek().expect("a block is not empty");
    match words.find(|word| *word != first) {
        None => Ok(first),
        Some(other) => Err(format!("a torn block: {first:#x} and {other:#x}")),
    }
}

impl Host {
    /// A host that has not connected yet.
    pub fn new(sim: SimHost, target: SocketAddr, subsystem_nqn: &'static str, script: Script, now: Instant) -> Self {
        Self {
            connect_region: sim.register(1024),
            data_region: sim.register(BLOCK_BYTES),
            sim,
            target,
            subsystem_nqn,
            script,
            begun: false,
            history: History::new(2),
            phase: Phase::Away(now),
            queues: Vec::new(),
            controller_id: 0,
            last_value: 0,
            done: [false; 2],
        }
    }

    /// Connected with both queues.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Both I/Os are done.
    pub fn is_done(&self) -> bool {
        self.done == [true; 2]
    }

    /// Left for good.
    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// When it wants to be stepped although nothing arrives.
    pub fn deadline(&self) -> Option<Instant> {
        if let Phase::Away(until) = self.phase {
            return Some(until);
        }
        self.queues.iter().filter_map(|queue| queue.until).min()
    }

    /// Shuts the controller down and disconnects.
    pub fn leave(&mut self) {
        assert!(self.is_live(), "only a live host shuts its controller down");
        self.phase = Phase::Leaving;
        let set = PropertyAccess {
            wide: false,
            offset: offset::CC,
            value: u64::from(Configuration::SHUTDOWN.0),
        };
        self.send(0, Kind::Shutdown, |id| set.build_set(id));
    }

    /// Reads a block anew, to see what everybody would see.
    pub fn read_again(&mut self, block: usize) {
        self.done[block] = false;
        self.begin_read(block);
    }

    fn lose(&mut self, now: Instant) {
        self.tear_down();
        self.phase = Phase::Away(now + RECONNECT_PAUSE);
    }

    fn tear_down(&mut self) {
        for queue in std::mem::take(&mut self.queues) {
            match self.sim.outcome(queue.connection) {
                ConnectOutcome::Pending => self.sim.give_up(queue.connection),
                ConnectOutcome::Accepted(_) | ConnectOutcome::Failed(_) => self.sim.disconnect(queue.connection),
                _ => {}
            }
            // Else every try there ever was would stay in the state, and no outage lead back to what was before it.
            self.sim.forget(queue.connection);
            for kind in queue.in_flight.into_values() {
                if let Kind::Write { block } = kind {
                    self.history.write_is_uncertain(block);
                }
            }
        }
    }

    /// Looks at what arrived, and does the next thing.
    pub fn step(&mut self, now: Instant) {
        match self.phase {
            Phase::Gone => return,
            Phase::Away(until) => {
                if now >= until {
                    self.phase = Phase::Connecting;
                    self.connect_queue(0, now);
                }
                return;
            }
            Phase::Connecting | Phase::Live | Phase::Leaving => {}
        }
        for index in 0..self.queues.len() {
            if index < self.queues.len() && !self.watch_queue(index, now) {
                return self.lose(now);
            }
        }
        if self.phase == Phase::Connecting && self.queues.len() == 2 && self.queues.iter().all(|queue| queue.ready) {
            self.phase = Phase::Live;
        }
        if self.phase == Phase::Live && self.begun {
            self.begin_io();
        }
    }

    fn connect_queue(&mut self, id: u16, now: Instant) {
        let request = ConnectRequestData {
            queue_id: id,
            host_receive_queue_size: QUEUE_ENTRIES,
            host_send_queue_size: QUEUE_ENTRIES - 1,
            controller_id: if id == 0 { 0 } else { self.controller_id },
        };
        let connection = self.sim.connect(self.target, &request.encode());
        self.queues.push(HostQueue {
            id,
            connection,
            until: Some(now + CONNECT_PATIENCE),
            ready: false,
            in_flight: BTreeMap::new(),
        });
    }

    /// False: the association is lost.
    fn watch_queue(&mut self, index: usize, now: Instant) -> bool {
        let queue = &mut self.queues[index];
        let connection = queue.connection;
        match self.sim.outcome(connection) {
            ConnectOutcome::Pending => return queue.until.is_none_or(|until| now < until),
            ConnectOutcome::Accepted(_) if queue.until.is_some() => {
                queue.until = None;
                self.send_connect(index);
            }
            ConnectOutcome::Accepted(_) => {}
            _ => return false,
        }
        for response in self.sim.take_responses(connection) {
            if !self.answered(index, &response.bytes, now) {
                return false;
            }
            if self.queues.is_empty() {
                return true;
            }
        }
        true
    }

    fn send_connect(&mut self, index: usize) {
        let id = self.queues[index].id;
        let data = ConnectData {
            host_id: [7; 16],
            controller_id: if id == 0 {
                CONTROLLER_ID_DYNAMIC
            } else {
                self.controller_id
            },
            subsystem_nqn: self.subsystem_nqn.to_owned(),
            host_nqn: "nqn.2026-11.dev.weir:host".to_owned(),
        }
        .encode();
        self.sim.write(self.connect_region, &data);
        let pointer = keyed(self.connect_region);
        self.send(index, Kind::Connect, |command_id| {
            ConnectCommand {
                command_id,
                record_format: 0,
                queue_id: id,
                queue_size: QUEUE_ENTRIES - 1,
                attributes: 0,
                // Without a keep-alive clock: an idle association then changes nothing, for ever.
                keep_alive_timeout_ms: 0,
            }
            .build()
            .data(pointer)
            .build()
        });
    }

    fn send(&mut self, index: usize, kind: Kind, build: impl FnOnce(u16) -> Command) {
        self.send_with(index, kind, build, &[]);
    }

    fn send_with(&mut self, index: usize, kind: Kind, build: impl FnOnce(u16) -> Command, data: &[u8]) {
        let queue = &mut self.queues[index];
        let is_free = |id: &u16| !queue.in_flight.contains_key(id);
        let id = (0..QUEUE_ENTRIES)
            .find(is_free)
            .expect("a queue has room for all that is in the scope");
        let mut capsule = build(id).as_bytes().to_vec();
        capsule.extend_from_slice(data);
        queue.in_flight.insert(id, kind);
        self.sim.send(queue.connection, &capsule);
    }

    fn begin_io(&mut self) {
        if !self.queues[1].in_flight.is_empty() {
            return;
        }
        if !self.done[0] {
            self.begin_write(0);
        }
        if !self.done[1] {
            match self.script {
                Script::WriteAndRead => self.begin_read(1),
                Script::TwoWrites => self.begin_write(1),
            }
        }
    }

    fn begin_write(&mut self, block: usize) {
        self.last_value += 1;
        let value = self.last_value;
        self.history.write_begins(block, value);
        let data: Vec<u8> = value.to_le_bytes().repeat(BLOCK_BYTES / 8);
        let command = |id| {
            CommandBuilder::new(opcode::io::WRITE, id)
                .namespace(1)
                .blocks(block as u64, 1)
        };
        let kind = Kind::Write { block };
        if block == 0 {
            let pointer = DataPointer::InCapsule {
                offset: 0,
                length: BLOCK_BYTES as u32,
            };
            self.send_with(1, kind, |id| command(id).data(pointer).build(), &data);
        } else {
            self.sim.write(self.data_region, &data);
            let pointer = keyed(self.data_region);
            self.send(1, kind, |id| command(id).data(pointer).build());
        }
    }

    fn begin_read(&mut self, block: usize) {
        let mark = self.history.read_begins(block);
        let pointer = keyed(self.data_region);
        self.send(1, Kind::Read { block, mark }, |id| {
            CommandBuilder::new(opcode::io::READ, id)
                .namespace(1)
                .blocks(block as u64, 1)
                .data(pointer)
                .build()
        });
    }

    /// False: the association is lost.
    fn answered(&mut self, index: usize, bytes: &[u8], now: Instant) -> bool {
        let entry: &[u8; 16] = bytes.try_into().expect("an answer is one completion queue entry");
        let (completion, _) = Completion::decode(entry).expect("a status of the protocol");
        let command = self.queues[index].in_flight.remove(&completion.command_id);
        let kind = command.expect("only a command in flight is answered");
        let success = completion.status.is_success();
        match kind {
            Kind::Connect if !success => return false,
            Kind::Connect if self.queues[index].id > 0 => self.queues[index].ready = true,
            Kind::Connect => {
                self.controller_id = completion.result as u16;
                let set = PropertyAccess {
                    wide: false,
                    offset: offset::CC,
                    value: u64::from(Configuration::ENABLE.0),
                };
                self.send(index, Kind::Enable, |id| set.build_set(id));
            }
            Kind::Enable => self.query_ready(index),
            Kind::QueryReady if completion.result & 1 == 0 => self.query_ready(index),
            Kind::QueryReady => self.send(index, Kind::SetQueues, |id| {
                CommandBuilder::new(opcode::admin::SET_FEATURES, id)
                    .dword(10, FEATURE_NUMBER_OF_QUEUES)
                    .dword(11, 0)
                    .build()
            }),
            Kind::SetQueues => {
                self.queues[0].ready = true;
                self.connect_queue(1, now);
            }
            Kind::Write { block } if success => {
                self.history.write_succeeds(block);
                self.done[block] = true;
            }
            Kind::Write { block } => self.history.write_is_uncertain(block),
            Kind::Read { block, mark } if success => {
                let value = value_of(&self.sim.read(self.data_region)[..BLOCK_BYTES]);
                let seen = value.and_then(|value| self.history.read_ends(block, mark, value));
                seen.unwrap_or_else(|violation| panic!("{violation}"));
                self.done[block] = true;
            }
            Kind::Read { .. } => {}
            Kind::Shutdown => {
                self.tear_down();
                self.phase = Phase::Gone;
            }
        }
        assert!(
            success || index == 1,
            "a correct admin command was answered {:?}",
            completion.status
        );
        true
    }

    fn query_ready(&mut self, index: usize) {
        let get = PropertyAccess {
            wide: false,
            offset: offset::CSTS,
            value: 0,
        };
        self.send(index, Kind::QueryReady, |id| get.build_get(id));
    }
}

fn keyed(region: HostRegion) -> DataPointer {
    DataPointer::Keyed {
        address: region.address,
        length: region.length as u32,
        key: region.key,
        invalidate: false,
    }
}
