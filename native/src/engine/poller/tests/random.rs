//! Random runs: hosts that come and go, a link that flaps, a backend that stalls, posts that fail, in any order. Every
//! run checks that acknowledged writes are never lost, never torn and never overtaken by older ones, that every
//! invariant of the poller and of the provider holds, and that nothing is left behind. The seed alone decides a run.

use std::collections::HashMap;
use std::time::Duration;

use super::bench::{BLOCK, Bench, PORT, Told, sizing};
use super::host::{HostQueue, TestHost};
use crate::engine::messages::{Epoch, PortSizing, ToPoller};
use crate::nvme::data_pointer::DataPointer;
use crate::nvme::opcode::io;
use crate::provider::sim::{FaultPoint, HostRegion, InterruptedReceive, LinkState, SimWorld};

const STEPS: usize = 3000;
const SEEDS: u64 = 12;
/// Tries to read after the faults stopped: those still armed are used up one by one.
const TRIES: usize = 20;
const CLIENTS: usize = 3;
/// Blocks of the cells a client writes, each as a whole.
const CELL_BLOCKS: [u32; 6] = [1, 2, 5, 32, 1, 4];

/// Splitmix64, as the simulator's.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// Versions of a cell's content, which is its version over and over.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    issued: u32,
    acknowledged: u32,
    writing: bool,
}

#[derive(Debug)]
enum Operation {
    Write {
        cell: usize,
        version: u32,
    },
    Read {
        cell: usize,
        at_least: u32,
        region: HostRegion,
    },
}

struct Client {
    number: usize,
    live: Option<(TestHost, HostQueue)>,
    cells: [Cell; CELL_BLOCKS.len()],
    outstanding: HashMap<u16, Operation>,
}

impl Client {
    fn block_of(&self, cell: usize) -> u64 {
        (self.number * CELL_BLOCKS.len() + cell) as u64 * 32
    }

    fn issue(&mut self, random: &mut Random) {
        let Some((host, queue)) = &self.live else { return };
        if self.outstanding.len() >= 100 {
            return;
        }
        let cell = random.below(CELL_BLOCKS.len());
        let blocks = CELL_BLOCKS[cell];
        if self.cells[cell].writing {
            return;
        }
        let block = self.block_of(cell);
        if random.below(2) == 0 {
            let version = self.cells[cell].issued + 1;
            self.cells[cell].issued = version;
            self.cells[cell].writing = true;
            let data = version.to_le_bytes().repeat(blocks as usize * BLOCK as usize / 4);
            let command_id = if blocks == 1 && random.below(2) == 0 {
                let pointer = DataPointer::InCapsule {
                    offset: 0,
                    length: BLOCK,
                };
                let command = host.io(io::WRITE, block, 1).data(pointer).build();
                host.post(*queue, &command, &data);
                command.command_id()
            } else {
                let (command, _) = host.write_command(block, &data);
                host.post(*queue, &command, &[]);
                command.command_id()
            };
            self.outstanding.insert(command_id, Operation::Write { cell, version });
        } else {
            let (command, region) = host.read_command(block, blocks);
            host.post(*queue, &command, &[]);
            let at_least = self.cells[cell].acknowledged;
            self.outstanding
                .insert(command.command_id(), Operation::Read { cell, at_least, region });
        }
    }

    /// Takes what was answered; notices when the connection is gone.
    fn look(&mut self) {
        let Some((host, queue)) = &self.live else { return };
        for completion in host.responses(*queue) {
            let operation = self
                .outstanding
                .remove(&completion.command_id)
                .expect("each command is answered once");
            let success = completion.status.is_success();
            match operation {
                Operation::Write { cell, version } => {
                    self.cells[cell].writing = false;
                    if success {
                        assert!(self.cells[cell].acknowledged < version);
                        self.cells[cell].acknowledged = version;
                    }
                }
                Operation::Read { cell, at_least, region } if success => {
                    let bytes = host.sim.read(region);
                    let words: Vec<_> = bytes
                        .chunks_exact(4)
                        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
                        .collect();
                    let found = words[0];
                    // A write of this association issued after the read may show in part.
                    if words.iter().any(|word| *word != found) {
                        assert!(self.cells[cell].issued > at_least, "a cell is torn without a write");
                        continue;
                    }
                    assert!(
                        (at_least..=self.cells[cell].issued).contains(&found),
                        "client {} cell {cell} shows version {found}, not {at_least} to {}",
                        self.number,
                        self.cells[cell].issued
                    );
                }
                Operation::Read { .. } => {}
            }
        }
        if !host.sim.is_connected(queue.connection) || !host.sim.is_connected(host.admin.connection) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.live = None;
        self.outstanding.clear();
        for cell in &mut self.cells {
            cell.writing = false;
        }
    }

    fn connect(&mut self, bench: &mut Bench) {
        let sim = bench.add_host();
        let nqn = format!("nqn.2026-11.dev.weir:client-{}", self.number);
        let Some(host) = TestHost::try_connect_as(bench, sim, &nqn, 120_000) else {
            return;
        };
        let Some(queue) = host.try_io_queue(bench, 1) else {
            return;
        };
        self.live = Some((host, queue));
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Port {
    Serving,
    Held,
    Draining,
}

struct Run {
    random: Random,
    bench: Bench,
    clients: Vec<Client>,
    port: Port,
    epoch: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let sizing = PortSizing {
            receive_count: 32,
            small_buffer_count: 12,
            large_buffer_count: 3,
            request_count: 40,
            ..sizing()
        };
        let world = SimWorld::new(seed);
        world.deliver_despite_errors(500);
        match seed % 3 {
            0 => world.split_arrivals(InterruptedReceive::Lost),
            1 => world.split_arrivals(InterruptedReceive::Flushed),
            _ => {}
        }
        let mut bench = Bench::in_world(world, sizing);
        bench.send_work_requests_max = 8;
        let client = |number| Client {
            number,
            live: None,
            cells: Default::default(),
            outstanding: HashMap::new(),
        };
        Self {
            random: Random(seed),
            bench,
            clients: (0..CLIENTS).map(client).collect(),
            port: Port::Serving,
            epoch: 1,
        }
    }

    fn step(&mut self) {
        self.bench.now += Duration::from_micros(500);
        match self.random.below(1000) {
            0..300 => {
                self.bench.world.step();
            }
            300..550 => {
                self.bench.step();
            }
            550..650 => {
                self.bench.control();
            }
            650..920 => {
                let client = self.random.below(CLIENTS);
                self.clients[client].issue(&mut self.random);
            }
            920..960 => self.disturb_backend(),
            960..970 => self.lose_client(),
            970..985 => self.disturb_posts(),
            985..993 => self.connect_client(),
            _ => self.move_link(),
        }
        for client in &mut self.clients {
            client.look();
        }
        if self.port == Port::Draining && !self.bench.has_port() {
            self.begin_epoch();
        }
    }

    fn disturb_backend(&mut self) {
        match self.random.below(4) {
            0 => self.bench.backend.hold(true),
            1 | 2 => self.bench.backend.hold(false),
            _ => self.bench.backend.release_one(),
        }
    }

    fn disturb_posts(&mut self) {
        match self.random.below(6) {
            0 => self.bench.world.fail_sends_after(self.random.below(4), libc::ENOMEM),
            1 => self.bench.world.fail_call(FaultPoint::PostReceives, 1, libc::ENOMEM),
            2 => self.bench.world.fail_call(FaultPoint::PollCompletions, 1, libc::EIO),
            _ => {
                let handles = self.bench.handles();
                if !handles.is_empty() {
                    let handle = handles[self.random.below(handles.len())];
                    if let Some(queue_pair) = self.bench.poller.queue_pairs.get(handle) {
                        self.bench.world.fail_next_completion(queue_pair.number, 12);
                    }
                }
            }
        }
    }

    fn lose_client(&mut self) {
        let client = self.random.below(CLIENTS);
        if let Some((host, queue)) = &self.clients[client].live {
            match self.random.below(3) {
                0 => host.sim.disconnect(queue.connection),
                1 => host.sim.disconnect(host.admin.connection),
                _ => host.sim.crash(queue.connection),
            }
        }
    }

    fn connect_client(&mut self) {
        let client = self.random.below(CLIENTS);
        if self.port == Port::Serving && self.clients[client].live.is_none() {
            let bench = &mut self.bench;
            self.clients[client].connect(bench);
        }
    }

    fn move_link(&mut self) {
        match self.port {
            Port::Serving => {
                // Connects in progress are not the poller's business here.
                self.bench.run();
                self.bench.set_link(LinkState::Down);
                self.bench.send(ToPoller::Hold(PORT, Epoch(self.epoch)));
                self.port = Port::Held;
            }
            Port::Held if self.random.below(2) == 0 => {
                self.bench.set_link(LinkState::Up);
                self.bench.send(ToPoller::Resume(PORT, Epoch(self.epoch)));
                self.port = Port::Serving;
            }
            Port::Held => self.drain(),
            Port::Draining => {}
        }
    }

    fn drain(&mut self) {
        let deadline = self.bench.now + Duration::from_millis(20);
        self.bench.send(ToPoller::Drain(PORT, Epoch(self.epoch), deadline));
        self.port = Port::Draining;
        if self.random.below(2) == 0 {
            // As if the deadline passed: the next epoch begins beside the quarantined one.
            self.begin_epoch();
        }
    }

    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.bench.set_link(LinkState::Up);
        self.bench.attach_port(Epoch(self.epoch));
        self.port = Port::Serving;
    }

    /// The version a cell shows; `None` if a fault that was still armed came in between.
    fn try_read(&mut self, number: usize, cell: usize) -> Option<u32> {
        let (client, bench) = (&mut self.clients[number], &mut self.bench);
        client.look();
        if client.live.is_none() {
            client.connect(bench);
        }
        let block = client.block_of(cell);
        let (host, queue) = client.live.as_ref()?;
        let bytes = host.try_read(bench, *queue, block, CELL_BLOCKS[cell])?;
        Some(u32::from_le_bytes(bytes[..4].try_into().unwrap()))
    }

    /// Faults stop: everything must be served again, and every cell hold what was acknowledged.
    fn finish(mut self) {
        if self.port == Port::Held {
            self.bench.set_link(LinkState::Up);
            self.bench.send(ToPoller::Resume(PORT, Epoch(self.epoch)));
        } else if self.port == Port::Draining {
            self.begin_epoch();
        }
        self.bench.backend.hold(false);
        self.bench.run();
        for number in 0..CLIENTS {
            for cell in 0..CELL_BLOCKS.len() {
                let found = (0..TRIES)
                    .find_map(|_| self.try_read(number, cell))
                    .expect("every host is served again");
                let cell = self.clients[number].cells[cell];
                assert!(
                    (cell.acknowledged..=cell.issued).contains(&found),
                    "{found} is none of {cell:?}"
                );
            }
        }
        let told = self.bench.take_told();
        assert!(!told.contains(&Told::Stopped));
    }
}

fn run(seed: u64) {
    let mut run = Run::new(seed);
    for client in 0..CLIENTS {
        run.clients[client].connect(&mut run.bench);
    }
    for _ in 0..STEPS {
        run.step();
    }
    run.finish();
}

#[test]
fn acknowledged_writes_survive_whatever_happens() {
    let seeds = match std::env::var("WEIR_SIM_SEED") {
        Ok(seed) => seed
            .parse()
            .map(|seed| seed..seed + 1)
            .expect("WEIR_SIM_SEED is a number"),
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        println!("seed {seed}");
        run(seed);
    }
}
