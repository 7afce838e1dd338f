//! An NVMe host as Linux plays it: connects, enables the controller, opens I/O queues, keeps them busy, and comes back
//! after every loss. Checks every answer against the protocol and every block against its [`History`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use weir_core::nvme::command::{Command, CommandBuilder};
use weir_core::nvme::completion::Completion;
use weir_core::nvme::data_pointer::DataPointer;
use weir_core::nvme::discovery_log::{ENTRY_BYTES, HEADER_BYTES};
use weir_core::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, PropertyAccess};
use weir_core::nvme::identify::IDENTIFY_BYTES;
use weir_core::nvme::opcode;
use weir_core::nvme::private_data::ConnectRequestData;
use weir_core::nvme::properties::{Configuration, offset};
use weir_core::nvme::qualified_name::DISCOVERY_NQN;
use weir_core::nvme::status::StatusCode;
use weir_core::provider::sim::{ConnectOutcome, HostConnection, HostRegion, SimHost};

use super::history::{History, ReadMark, Value};
use super::random::Random;
use super::storage::BLOCK_BYTES;

/// A host's connection manager waits this long for an answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// A host resets its controller when a command takes longer.
const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// Keep-alive timeout asked for.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Longest pause before a host tries again.
const RECONNECT_PAUSE_MS_MAX: u64 = 2000;
/// Entries of the admin queue.
const ADMIN_QUEUE_ENTRIES: u16 = 32;
/// In-capsule data of I/O queues.
const IN_CAPSULE_BYTES: usize = 4096;
/// Longest I/O in blocks.
const IO_BLOCKS_MAX: u64 = 8;
/// Number of Queues feature.
const FEATURE_NUMBER_OF_QUEUES: u32 = 7;

/// Bytes of the discovery log a host reads at once.
const DISCOVERY_LOG_BYTES: usize = 8192;

/// What a host is told.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// Its NQN.
    pub nqn: String,
    /// Subsystem it connects to.
    pub subsystem_nqn: String,
    /// Listeners it connects to: after each failed attempt the next.
    pub targets: Vec<SocketAddr>,
    /// I/O queues it opens.
    pub io_queues: u16,
    /// Entries of each.
    pub queue_entries: u16,
    /// Namespace it works on.
    pub namespace_id: u32,
    /// First block that is its own.
    pub first_block: u64,
    /// Blocks that are its own; with none it only reads the discovery log.
    pub blocks: usize,
}

impl HostSettings {
    fn is_discovery(&self) -> bool {
        self.subsystem_nqn == DISCOVERY_NQN
    }
}

/// What a command in flight was.
#[derive(Debug, Clone)]
enum Kind {
    Connect,
    Enable,
    QueryReady,
    SetQueues,
    KeepAlive,
    AsyncEvent,
    Read {
        first: usize,
        marks: Vec<ReadMark>,
    },
    Write {
        first: usize,
        count: usize,
    },
    WriteZeroes {
        first: usize,
        count: usize,
    },
    Deallocate {
        first: usize,
        count: usize,
    },
    Compare {
        block: usize,
        mark: ReadMark,
        value: Value,
    },
    Flush,
    /// Identify, namespace identification descriptors.
    Identify,
    DiscoveryLog,
    Abort,
    Shutdown,
}

#[derive(Debug)]
struct InFlight {
    kind: Kind,
    region: Option<HostRegion>,
    /// The target was asked to invalidate the region's key.
    invalidate: bool,
    since: Duration,
}

#[derive(Debug)]
struct HostQueue {
    id: u16,
    entries: u16,
    connection: HostConnection,
    since: Duration,
    established: bool,
    /// Its Connect command was answered.
    ready: bool,
    next_command_id: u16,
    in_flight: BTreeMap<u16, InFlight>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not connected; tries at this time.
    Away(Duration),
    /// Building the association.
    Connecting,
    /// Doing I/O.
    Live,
    /// Shutting down; nothing new is sent.
    Leaving,
    /// Gone for good.
    Gone,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    sim: SimHost,
    settings: HostSettings,
    random: Random,
    /// What its blocks may hold.
    pub history: History,
    phase: Phase,
    queues: Vec<HostQueue>,
    controller_id: u16,
    last_value: Value,
    next_keep_alive: Duration,
    /// Attempts to connect so far.
    attempts: usize,
    /// What the namespace called itself first.
    identity: Option<Vec<u8>>,
    /// I/O commands answered with success.
    pub completed: u64,
    /// Associations that became live.
    pub associations: u64,
    /// Associations lost.
    pub losses: u64,
    /// I/O commands answered with an error that the target may give.
    pub errors: u64,
    /// Blocks from here on are written with FUA only.
    pub durable_from: usize,
}

fn fill(value: Value, out: &mut [u8]) {
    for word in out.chunks_exact_mut(8) {
        word.copy_from_slice(&value.to_le_bytes());
    }
}

/// The value a block holds.
///
/// # Errors
/// When it is not one value throughout: a torn block.
pub fn value_of(block: &[u8]) -> Result<Value, String> {
    let mut words = block
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
    let first = words.next().expect("a block is not empty");
    match words.find(|word| *word != first) {
        None => Ok(first),
        Some(other) => Err(format!("a torn block: {first:#x} and {other:#x}")),
    }
}

impl Host {
    /// A host that has not connected yet.
    pub fn new(sim: SimHost, settings: HostSettings, seed: u64) -> Self {
        Self {
            random: Random::new(seed, &settings.nqn),
            history: History::new(settings.blocks),
            sim,
            phase: Phase::Away(Duration::ZERO),
            queues: Vec::new(),
            controller_id: 0,
            last_value: 0,
            next_keep_alive: Duration::ZERO,
            attempts: 0,
            identity: None,
            completed: 0,
            associations: 0,
            losses: 0,
            errors: 0,
            durable_from: settings.blocks - settings.blocks / 4,
            settings,
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &HostSettings {
        &self.settings
    }

    /// Connected with all queues.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Left for good.
    pub fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Commands in flight on I/O queues.
    pub fn io_in_flight(&self) -> usize {
        self.queues
            .iter()
            .filter(|queue| queue.id > 0)
            .map(|queue| queue.in_flight.len())
            .sum()
    }

    /// Shuts the controller down and disconnects.
    pub fn leave(&mut self, now: Duration) {
        match self.phase {
            Phase::Live => {
                self.phase = Phase::Leaving;
                let set = PropertyAccess {
                    wide: false,
                    offset: offset::CC,
                    value: u64::from(Configuration::SHUTDOWN.0),
                };
                self.send_admin(Kind::Shutdown, now, |id| set.build_set(id));
            }
            Phase::Leaving | Phase::Gone => {}
            Phase::Away(_) | Phase::Connecting => {
                self.tear_down();
                self.phase = Phase::Gone;
            }
        }
    }

    /// Drops the association without a word, or with one.
    pub fn lose(&mut self, now: Duration) {
        if self.phase == Phase::Gone {
            return;
        }
        let leaving = self.phase == Phase::Leaving;
        self.tear_down();
        self.losses += 1;
        let pause = Duration::from_millis(self.random.between(50, RECONNECT_PAUSE_MS_MAX));
        self.phase = if leaving { Phase::Gone } else { Phase::Away(now + pause) };
    }

    /// Gives up its association and connects again at once.
    pub fn reconnect(&mut self, now: Duration) {
        self.lose(now);
        if let Phase::Away(until) = &mut self.phase {
            *until = now;
        }
    }

    fn tear_down(&mut self) {
        for queue in std::mem::take(&mut self.queues) {
            match self.sim.outcome(queue.connection) {
                ConnectOutcome::Pending => self.sim.give_up(queue.connection),
                ConnectOutcome::Accepted(_) | ConnectOutcome::Failed(_) => {
                    if self.random.chance(300) {
                        self.sim.crash(queue.connection);
                    } else {
                        self.sim.disconnect(queue.connection);
                    }
                }
                _ => {}
            }
            self.sim.forget(queue.connection);
            for (_, command) in queue.in_flight {
                self.forget(command);
            }
        }
    }

    /// The outcome of a command will never be known.
    fn forget(&mut self, command: InFlight) {
        match command.kind {
            Kind::Write { first, count } | Kind::WriteZeroes { first, count } => {
                (first..first + count).for_each(|block| self.history.write_is_uncertain(block));
            }
            Kind::Deallocate { first, count } => {
                (first..first + count).for_each(|block| self.history.write_is_uncertain(block));
            }
            _ => {}
        }
        if let Some(region) = command.region {
            self.sim.release(region);
        }
    }

    /// Looks at what arrived, and does the next thing. `io`: how many I/O commands it may begin now.
    pub fn step(&mut self, now: Duration, io: u64) {
        match self.phase {
            Phase::Gone => return,
            Phase::Away(until) => {
                if now >= until {
                    self.phase = Phase::Connecting;
                    self.attempts += 1;
                    self.connect_queue(0, now);
                }
                return;
            }
            Phase::Connecting | Phase::Live | Phase::Leaving => {}
        }
        for index in 0..self.queues.len() {
            if index >= self.queues.len() || !self.watch_queue(index, now) {
                self.lose(now);
                return;
            }
        }
        if self.phase == Phase::Connecting && self.associated() {
            self.phase = Phase::Live;
            self.associations += 1;
            self.next_keep_alive = now + KEEP_ALIVE / 2;
            // The address works: after a loss it is tried again first.
            self.attempts -= 1;
            if !self.settings.is_discovery() {
                self.send_admin(Kind::AsyncEvent, now, |id| {
                    CommandBuilder::new(opcode::admin::ASYNC_EVENT_REQUEST, id).build()
                });
                self.identify(now);
            }
        }
        if self.phase == Phase::Live {
            if now >= self.next_keep_alive {
                self.next_keep_alive = now + KEEP_ALIVE / 2;
                self.send_admin(Kind::KeepAlive, now, |id| {
                    CommandBuilder::new(opcode::admin::KEEP_ALIVE, id).build()
                });
            }
            (0..io).for_each(|_| self.begin_io(now));
        }
    }

    /// When this host wants to be stepped again although nothing arrives.
    pub fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Away(until) => Some(until),
            Phase::Live => Some(self.next_keep_alive),
            _ => None,
        }
    }

    fn associated(&self) -> bool {
        self.queues.len() == usize::from(self.settings.io_queues) + 1 && self.queues.iter().all(|queue| queue.ready)
    }

    fn connect_queue(&mut self, id: u16, now: Duration) {
        let entries = if id == 0 {
            ADMIN_QUEUE_ENTRIES
        } else {
            self.settings.queue_entries
        };
        let request = ConnectRequestData {
            queue_id: id,
            host_receive_queue_size: entries,
            host_send_queue_size: entries - 1,
            controller_id: if id == 0 { 0 } else { self.controller_id },
        };
        let targets = &self.settings.targets;
        let target = targets[(self.attempts - 1) % targets.len()];
        let connection = self.sim.connect(target, &request.encode());
        self.queues.push(HostQueue {
            id,
            entries,
            connection,
            since: now,
            established: false,
            ready: false,
            next_command_id: 0,
            in_flight: BTreeMap::new(),
        });
    }

    /// False: the association is lost.
    fn watch_queue(&mut self, index: usize, now: Duration) -> bool {
        let queue = &mut self.queues[index];
        match self.sim.outcome(queue.connection) {
            ConnectOutcome::Pending => return now < queue.since + CONNECT_PATIENCE,
            ConnectOutcome::Accepted(_) if !queue.established => {
                queue.established = true;
                self.send_connect(index, now);
            }
            ConnectOutcome::Accepted(_) => {}
            ConnectOutcome::Rejected(_)
            | ConnectOutcome::Disconnected
            | ConnectOutcome::GaveUp
            | ConnectOutcome::Failed(_) => return false,
        }
        let connection = self.queues[index].connection;
        for response in self.sim.take_responses(connection) {
            if !self.answered(index, &response.bytes, response.invalidated, now) {
                return false;
            }
            if self.queues.is_empty() {
                return true;
            }
        }
        let queue = &self.queues[index];
        let patience = |command: &InFlight| match command.kind {
            Kind::AsyncEvent => Duration::MAX,
            Kind::KeepAlive => KEEP_ALIVE,
            _ => COMMAND_PATIENCE,
        };
        queue
            .in_flight
            .values()
            .all(|command| now.saturating_sub(command.since) < patience(command))
    }

    fn send_connect(&mut self, index: usize, now: Duration) {
        let (id, entries) = (self.queues[index].id, self.queues[index].entries);
        let data = ConnectData {
            host_id: {
                let mut host_id = [0; 16];
                let number = self.settings.nqn.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                });
                fill(number, &mut host_id);
                host_id
            },
            controller_id: if id == 0 {
                CONTROLLER_ID_DYNAMIC
            } else {
                self.controller_id
            },
            subsystem_nqn: self.settings.subsystem_nqn.clone(),
            host_nqn: self.settings.nqn.clone(),
        }
        .encode();
        let keep_alive_timeout_ms = if id == 0 { KEEP_ALIVE.as_millis() as u32 } else { 0 };
        let command = |command_id| {
            ConnectCommand {
                command_id,
                record_format: 0,
                queue_id: id,
                queue_size: entries - 1,
                attributes: 0,
                keep_alive_timeout_ms,
            }
            .build()
        };
        let in_capsule = id > 0 && self.random.chance(500);
        self.send_with_data(index, Kind::Connect, now, &data, in_capsule, command);
    }

    fn next_id(&mut self, index: usize) -> u16 {
        let queue = &mut self.queues[index];
        loop {
            let id = queue.next_command_id;
            queue.next_command_id = id.wrapping_add(1);
            if !queue.in_flight.contains_key(&id) {
                return id;
            }
        }
    }

    fn send(
        &mut self,
        index: usize,
        kind: Kind,
        now: Duration,
        capsule: &[u8],
        region: Option<HostRegion>,
        invalidate: bool,
    ) {
        let id = u16::from_le_bytes([capsule[2], capsule[3]]);
        let queue = &mut self.queues[index];
        let command = InFlight {
            kind,
            region,
            invalidate,
            since: now,
        };
        queue.in_flight.insert(id, command);
        self.sim.send(queue.connection, capsule);
    }

    fn send_plain(&mut self, index: usize, kind: Kind, now: Duration, build: impl FnOnce(u16) -> Command) {
        let id = self.next_id(index);
        let command = build(id);
        self.send(index, kind, now, command.as_bytes(), None, false);
    }

    fn send_admin(&mut self, kind: Kind, now: Duration, build: impl FnOnce(u16) -> Command) {
        if self.queues[0].in_flight.len() + 1 < usize::from(ADMIN_QUEUE_ENTRIES) {
            self.send_plain(0, kind, now, build);
        }
    }

    fn send_with_data(
        &mut self,
        index: usize,
        kind: Kind,
        now: Duration,
        data: &[u8],
        in_capsule: bool,
        build: impl FnOnce(u16) -> CommandBuilder,
    ) {
        let id = self.next_id(index);
        if in_capsule {
            assert!(data.len() <= IN_CAPSULE_BYTES);
            let pointer = DataPointer::InCapsule {
                offset: 0,
                length: data.len() as u32,
            };
            let mut capsule = build(id).data(pointer).build().as_bytes().to_vec();
            capsule.extend_from_slice(data);
            self.send(index, kind, now, &capsule, None, false);
        } else {
            let region = self.sim.register_bytes(data);
            self.send_keyed(index, kind, now, region, build(id));
        }
    }

    fn send_keyed(&mut self, index: usize, kind: Kind, now: Duration, region: HostRegion, builder: CommandBuilder) {
        let invalidate = self.random.chance(500);
        let pointer = DataPointer::Keyed {
            address: region.address,
            length: region.length as u32,
            key: region.key,
            invalidate,
        };
        let command = builder.data(pointer).build();
        self.send(index, kind, now, command.as_bytes(), Some(region), invalidate);
    }

    /// Asks what the namespace is called: never anything else than before.
    fn identify(&mut self, now: Duration) {
        const CNS_DESCRIPTORS: u32 = 3;
        let region = self.sim.register(IDENTIFY_BYTES);
        let id = self.next_id(0);
        let builder = CommandBuilder::new(opcode::admin::IDENTIFY, id)
            .namespace(self.settings.namespace_id)
            .dword(10, CNS_DESCRIPTORS);
        self.send_keyed(0, Kind::Identify, now, region, builder);
    }

    fn read_discovery_log(&mut self, now: Duration) {
        const LOG_DISCOVERY: u32 = 0x70;
        if self.queues[0]
            .in_flight
            .values()
            .any(|one| matches!(one.kind, Kind::DiscoveryLog))
        {
            return;
        }
        let region = self.sim.register(DISCOVERY_LOG_BYTES);
        let id = self.next_id(0);
        let dwords = DISCOVERY_LOG_BYTES as u32 / 4 - 1;
        let builder = CommandBuilder::new(opcode::admin::GET_LOG_PAGE, id).dword(10, LOG_DISCOVERY | dwords << 16);
        self.send_keyed(0, Kind::DiscoveryLog, now, region, builder);
    }

    /// Asks to abort some command that may be in flight. It is answered all the same.
    fn abort(&mut self, now: Duration) {
        let index = 1 + self.random.below(u64::from(self.settings.io_queues)) as usize;
        let victim = self.queues[index].next_command_id.wrapping_sub(1);
        let which = u32::from(victim) << 16 | index as u32;
        self.send_admin(Kind::Abort, now, |id| {
            CommandBuilder::new(opcode::admin::ABORT, id).dword(10, which).build()
        });
    }

    /// Compares a block whose content is known.
    fn compare(&mut self, index: usize, block: usize, now: Duration) {
        let Some(value) = self
            .history
            .acknowledged(block)
            .filter(|_| !self.history.is_busy(block))
        else {
            return;
        };
        let mark = self.history.read_begins(block);
        let mut data = vec![0; BLOCK_BYTES];
        fill(value, &mut data);
        let in_capsule = self.random.chance(500);
        let (namespace, lba) = (self.settings.namespace_id, self.settings.first_block + block as u64);
        let kind = Kind::Compare { block, mark, value };
        self.send_with_data(index, kind, now, &data, in_capsule, |id| {
            CommandBuilder::new(opcode::io::COMPARE, id)
                .namespace(namespace)
                .blocks(lba, 1)
        });
    }

    fn begin_io(&mut self, now: Duration) {
        if self.settings.is_discovery() {
            return self.read_discovery_log(now);
        }
        if self.random.chance(5) {
            return self.abort(now);
        }
        let index = 1 + self.random.below(u64::from(self.settings.io_queues)) as usize;
        // One entry of a queue always stays empty.
        if self.queues[index].in_flight.len() + 1 >= usize::from(self.queues[index].entries) {
            return;
        }
        let blocks = self.history.len() as u64;
        let first = self.random.below(blocks) as usize;
        let count = self.random.between(1, IO_BLOCKS_MAX).min(blocks - first as u64) as usize;
        let choice = self.random.below(1000);
        if choice < 20 {
            self.compare(index, first, now);
        } else if choice < 400 {
            self.read(index, first, count, now);
        } else if choice < 970 {
            if (first..first + count).any(|block| self.history.is_busy(block)) {
                return;
            }
            self.begin_write(index, first, count, choice, now);
        } else {
            let command = |id| CommandBuilder::new(opcode::io::FLUSH, id);
            let namespace = self.settings.namespace_id;
            self.send_plain(index, Kind::Flush, now, |id| command(id).namespace(namespace).build());
        }
    }

    /// Reads every block once, for the end.
    pub fn read_all(&mut self, now: Duration) {
        for first in (0..self.history.len()).step_by(IO_BLOCKS_MAX as usize) {
            let count = (self.history.len() - first).min(IO_BLOCKS_MAX as usize);
            self.read(
                1 + first / IO_BLOCKS_MAX as usize % usize::from(self.settings.io_queues),
                first,
                count,
                now,
            );
        }
    }

    /// Sends one Flush.
    pub fn flush(&mut self, now: Duration) {
        if self.settings.is_discovery() {
            return;
        }
        let namespace = self.settings.namespace_id;
        self.send_plain(1, Kind::Flush, now, |id| {
            CommandBuilder::new(opcode::io::FLUSH, id).namespace(namespace).build()
        });
    }

    fn io_command(&self, code: u8, id: u16, first: usize, count: usize) -> CommandBuilder {
        CommandBuilder::new(code, id)
            .namespace(self.settings.namespace_id)
            .blocks(self.settings.first_block + first as u64, count as u32)
    }

    /// Sends a read on the I/O queue `index`.
    pub fn read(&mut self, index: usize, first: usize, count: usize, now: Duration) {
        let marks = (first..first + count)
            .map(|block| self.history.read_begins(block))
            .collect();
        let region = self.sim.register(count * BLOCK_BYTES);
        let id = self.next_id(index);
        let builder = self.io_command(opcode::io::READ, id, first, count);
        self.send_keyed(index, Kind::Read { first, marks }, now, region, builder);
    }

    fn begin_write(&mut self, index: usize, first: usize, count: usize, choice: u64, now: Duration) {
        // Blocks of the durable part are only ever written, and with FUA.
        let durable = first + count > self.durable_from;
        if !durable && choice >= 940 {
            (first..first + count).for_each(|block| self.history.write_begins(block, 0));
            let (kind, id) = (Kind::Deallocate { first, count }, self.next_id(index));
            let mut range = [0; 16];
            range[4..8].copy_from_slice(&(count as u32).to_le_bytes());
            range[8..].copy_from_slice(&(self.settings.first_block + first as u64).to_le_bytes());
            let region = self.sim.register_bytes(&range);
            let builder = CommandBuilder::new(opcode::io::DATASET_MANAGEMENT, id)
                .namespace(self.settings.namespace_id)
                .dword(10, 0)
                .dword(11, 1 << 2);
            self.send_keyed(index, kind, now, region, builder);
            return;
        }
        if !durable && choice >= 900 {
            (first..first + count).for_each(|block| self.history.write_begins(block, 0));
            let id = self.next_id(index);
            let command = self.io_command(opcode::io::WRITE_ZEROES, id, first, count).build();
            self.send(
                index,
                Kind::WriteZeroes { first, count },
                now,
                command.as_bytes(),
                None,
                false,
            );
            return;
        }
        let in_capsule = count == 1 && self.random.chance(700);
        self.write(index, first, count, in_capsule, now);
    }

    /// Sends a write on the I/O queue `index`; FUA for blocks of the durable part.
    pub fn write(&mut self, index: usize, first: usize, count: usize, in_capsule: bool, now: Duration) {
        let mut data = vec![0; count * BLOCK_BYTES];
        for (at, part) in data.chunks_mut(BLOCK_BYTES).enumerate() {
            self.last_value += 1;
            let value = self.settings.first_block << 40 | self.last_value << 8 | 1;
            fill(value, part);
            self.history.write_begins(first + at, value);
        }
        let durable = first + count > self.durable_from;
        let (namespace, lba) = (self.settings.namespace_id, self.settings.first_block + first as u64);
        let force = u32::from(durable) << 30;
        self.send_with_data(index, Kind::Write { first, count }, now, &data, in_capsule, |id| {
            CommandBuilder::new(opcode::io::WRITE, id)
                .namespace(namespace)
                .blocks(lba, count as u32)
                .dword(12, (count as u32 - 1) | force)
        });
    }

    /// False: the association is lost.
    fn answered(&mut self, index: usize, bytes: &[u8], invalidated: Option<u32>, now: Duration) -> bool {
        let entry: &[u8; 16] = bytes.try_into().expect("an answer is one completion queue entry");
        let (completion, queue_head) = Completion::decode(entry).expect("a status of the protocol");
        let name = self.settings.nqn.clone();
        let queue = &mut self.queues[index];
        let command = queue.in_flight.remove(&completion.command_id);
        let command = command.unwrap_or_else(|| {
            panic!(
                "{name}: queue {} was answered command {} that is not in flight",
                queue.id, completion.command_id
            )
        });
        assert!(
            queue_head < queue.entries || queue_head == 0xffff,
            "{name}: submission queue head {queue_head} of {} entries",
            queue.entries
        );
        if let Some(key) = invalidated {
            assert!(
                command.invalidate && command.region.is_some_and(|region| region.key == key),
                "{name}: a key was invalidated that was not this command's to invalidate: {command:?}"
            );
        }
        let id = queue.id;
        if id > 0 && queue.ready {
            self.io_answered(command, &completion);
            return true;
        }
        let region = command.region;
        let goes_on = self.admin_answered(index, command.kind, region, &completion, now);
        if let Some(region) = region {
            self.sim.release(region);
        }
        goes_on
    }

    fn io_answered(&mut self, command: InFlight, completion: &Completion) {
        let status = completion.status;
        if status.is_success() {
            self.completed += 1;
            match &command.kind {
                Kind::Write { first, count } | Kind::WriteZeroes { first, count } => {
                    (*first..first + count).for_each(|block| self.history.write_succeeds(block));
                }
                Kind::Deallocate { first, count } => {
                    // Zeroes, or what was there.
                    (*first..first + count).for_each(|block| self.history.write_is_uncertain(block));
                }
                Kind::Read { first, marks } => self.check_read(&command, *first, marks),
                Kind::Compare { block, mark, value } => {
                    if let Err(violation) = self.history.read_ends(*block, *mark, *value) {
                        panic!("{}: {violation}", self.settings.nqn);
                    }
                }
                _ => {}
            }
            if let Some(region) = command.region {
                self.sim.release(region);
            }
        } else {
            if let (StatusCode::CompareFailure, Kind::Compare { block, mark, value }) = (status.code, &command.kind) {
                assert!(
                    !self.history.is_unchanged(*block, *mark),
                    "{}: block {block} does not compare equal to {value:#x}, which was acknowledged",
                    self.settings.nqn
                );
                return self.forget(command);
            }
            assert!(
                matches!(
                    status.code,
                    StatusCode::InternalError
                        | StatusCode::WriteFault
                        | StatusCode::UnrecoveredReadError
                        | StatusCode::DataTransferError
                        | StatusCode::TransientTransportError
                        | StatusCode::AbortedQueueDeleted
                        | StatusCode::AsymmetricAccessInaccessible
                        | StatusCode::AsymmetricAccessTransition
                        | StatusCode::InternalPathError
                        | StatusCode::ControllerPathingError
                        | StatusCode::NamespaceNotReady
                        | StatusCode::InvalidNamespace
                ),
                "{}: a correct command was answered {status:?}: {command:?}",
                self.settings.nqn
            );
            self.errors += 1;
            self.forget(command);
        }
    }

    fn check_read(&mut self, command: &InFlight, first: usize, marks: &[ReadMark]) {
        let data = self.sim.read(command.region.expect("a read has memory"));
        for (at, (part, mark)) in data.chunks(BLOCK_BYTES).zip(marks).enumerate() {
            let block = first + at;
            let outcome = value_of(part).and_then(|value| self.history.read_ends(block, *mark, value));
            if let Err(violation) = outcome {
                panic!("{}: {violation}", self.settings.nqn);
            }
        }
    }

    fn admin_answered(
        &mut self,
        index: usize,
        kind: Kind,
        region: Option<HostRegion>,
        completion: &Completion,
        now: Duration,
    ) -> bool {
        let status = completion.status;
        match kind {
            Kind::Connect => {
                if !status.is_success() {
                    assert!(
                        matches!(
                            status.code,
                            StatusCode::ConnectControllerBusy
                                | StatusCode::CommandSequenceError
                                | StatusCode::InternalError
                                | StatusCode::DataTransferError
                                | StatusCode::ConnectInvalidParameters
                        ),
                        "{}: a correct Connect was answered {status:?}",
                        self.settings.nqn
                    );
                    return false;
                }
                if self.queues[index].id > 0 {
                    self.queues[index].ready = true;
                    return true;
                }
                self.controller_id = completion.result as u16;
                let set = PropertyAccess {
                    wide: false,
                    offset: offset::CC,
                    value: u64::from(Configuration::ENABLE.0),
                };
                self.send_plain(index, Kind::Enable, now, |id| set.build_set(id));
            }
            Kind::Enable => {
                assert!(
                    status.is_success(),
                    "{}: enable was answered {status:?}",
                    self.settings.nqn
                );
                self.query_ready(index, now);
            }
            Kind::QueryReady => {
                assert!(
                    status.is_success(),
                    "{}: CSTS was answered {status:?}",
                    self.settings.nqn
                );
                if completion.result & 1 == 0 {
                    self.query_ready(index, now);
                } else if self.settings.is_discovery() {
                    self.queues[0].ready = true;
                } else {
                    let count = u32::from(self.settings.io_queues) - 1;
                    self.send_plain(index, Kind::SetQueues, now, |id| {
                        CommandBuilder::new(opcode::admin::SET_FEATURES, id)
                            .dword(10, FEATURE_NUMBER_OF_QUEUES)
                            .dword(11, count | count << 16)
                            .build()
                    });
                }
            }
            Kind::SetQueues => {
                assert!(
                    status.is_success(),
                    "{}: Number of Queues was answered {status:?}",
                    self.settings.nqn
                );
                self.queues[0].ready = true;
                (1..=self.settings.io_queues).for_each(|id| self.connect_queue(id, now));
            }
            Kind::AsyncEvent => {
                if status.is_success() {
                    self.send_admin(Kind::AsyncEvent, now, |id| {
                        CommandBuilder::new(opcode::admin::ASYNC_EVENT_REQUEST, id).build()
                    });
                }
            }
            Kind::Identify if status.is_success() => {
                let region = region.expect("Identify has memory");
                let mut found = self.sim.read(region);
                found.truncate(64);
                let first = self.identity.get_or_insert_with(|| found.clone());
                assert_eq!(
                    *first, found,
                    "{}: the namespace changed its identifiers",
                    self.settings.nqn
                );
            }
            // It may not be there now.
            Kind::Identify => {}
            Kind::DiscoveryLog => {
                assert!(status.is_success(), "the discovery log was answered {status:?}");
                self.check_discovery_log(&self.sim.read(region.expect("a log has memory")));
                self.completed += 1;
            }
            Kind::Shutdown => {
                self.tear_down();
                self.phase = Phase::Gone;
            }
            Kind::KeepAlive | Kind::Abort => assert!(
                status.is_success(),
                "{}: {kind:?} was answered {status:?}",
                self.settings.nqn
            ),
            Kind::Read { .. }
            | Kind::Write { .. }
            | Kind::WriteZeroes { .. }
            | Kind::Deallocate { .. }
            | Kind::Compare { .. }
            | Kind::Flush => panic!("{}: {kind:?} is no admin command", self.settings.nqn),
        }
        true
    }

    fn check_discovery_log(&self, log: &[u8]) {
        let entries = u64::from_le_bytes(log[8..16].try_into().expect("8 bytes"));
        assert!(entries <= 64, "{entries} entries in the discovery log");
        for entry in log[HEADER_BYTES..].chunks(ENTRY_BYTES).take(entries as usize) {
            let address: Vec<u8> = entry[512..768].iter().copied().take_while(|byte| *byte != 0).collect();
            let address = String::from_utf8_lossy(&address);
            let known = self
                .settings
                .targets
                .iter()
                .any(|target| target.ip().to_string() == address);
            assert!(known, "the discovery log names {address:?}, which no listener has");
        }
    }

    fn query_ready(&mut self, index: usize, now: Duration) {
        let get = PropertyAccess {
            wide: false,
            offset: offset::CSTS,
            value: 0,
        };
        self.send_plain(index, Kind::QueryReady, now, |id| get.build_get(id));
    }
}
