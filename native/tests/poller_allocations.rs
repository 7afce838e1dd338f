//! I/O allocates nothing in the poller, its controller and the null backend: counted by this test's own global
//! allocator, per thread.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "support/allocations.rs"]
#[expect(
    dead_code,
    reason = "shared with tests that leave parts of their work out of the count"
)]
mod allocations;
mod loopback;

use std::sync::Arc;
use std::time::{Duration, Instant};

use allocations::{CountingAllocator, counted, total};
use loopback::{Loopback, LoopbackQueuePair};
use uuid::Uuid;
use weir_core::backend::host::{DiskEngine, HostBackend};
use weir_core::backend::{Backend, BackingId, BackingSpec};
use weir_core::engine::association::Place;
use weir_core::engine::buffers::BufferRegion;
use weir_core::engine::counters::PollerCounters;
use weir_core::engine::mailbox::{NeverAsleep, Receiver, Sender, mailbox};
use weir_core::engine::messages::{
    ConnectionKey, Epoch, Handle, NewQueuePair, PortId, PortResources, PortSizing, ToControl, ToPoller,
};
use weir_core::engine::poller::{Poller, PollerParts};
use weir_core::nvme::command::{Command, CommandBuilder};
use weir_core::nvme::completion::Completion;
use weir_core::nvme::data_pointer::DataPointer;
use weir_core::nvme::fabrics::{CONTROLLER_ID_DYNAMIC, ConnectCommand, ConnectData, PropertyAccess};
use weir_core::nvme::opcode::io;
use weir_core::nvme::properties::{Configuration, offset};
use weir_core::provider::{Arena, MemoryAccess, Provider};
use weir_core::subsystem::model::{Access, Model, Namespace, Paths, QueueLimits, Subsystem};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const NQN: &str = "nqn.2026-11.dev.weir:fast";
const ADMIN: u32 = 17;
const IO: u32 = 18;
const SIZING: PortSizing = PortSizing {
    receive_count: 256,
    receive_bytes: 64 + 4096,
    small_buffer_bytes: 16384,
    small_buffer_count: 64,
    large_buffer_bytes: 131_072,
    large_buffer_count: 8,
    request_count: 256,
    completion_entries: 1024,
    send_with_invalidate: true,
};

struct Bench {
    poller: Poller<Loopback, HostBackend>,
    wire: Loopback,
    inbox: Sender<ToPoller<Loopback, HostBackend>>,
    outbox: Receiver<ToControl<Loopback>>,
    now: Instant,
    command_id: u16,
}

fn model() -> Arc<Model> {
    let namespace = Namespace {
        id: 1,
        uuid: Uuid::from_u128(1),
        ana_group: 1,
        read_only: false,
        backing: BackingId(1),
        size_blocks: 1 << 18,
        block_shift: 12,
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
        drain_timeout: Duration::from_secs(15),
        paths: Paths::Accessible,
    })
}

fn regions(wire: &Loopback, bytes: u32, count: u32) -> Vec<BufferRegion<Loopback>> {
    let length = bytes as usize * count as usize;
    let arena = Arena::allocate(length).unwrap();
    let region = wire
        .register_memory(&(), &arena, 0, length, MemoryAccess::Local)
        .unwrap();
    vec![BufferRegion {
        region,
        arena,
        offset: 0,
        buffer_bytes: bytes,
        buffer_count: count,
    }]
}

impl Bench {
    fn new() -> Self {
        let wire = Loopback::new();
        let backend = HostBackend::with_engine(DiskEngine::Threads);
        let (inbox, poller_inbox) = mailbox(64, Arc::new(NeverAsleep));
        let (poller_outbox, outbox) = mailbox(64, Arc::new(NeverAsleep));
        let now = Instant::now();
        let parts = PollerParts {
            provider: wire.clone(),
            backend: backend.queue(256).unwrap(),
            place: Place { index: 0, count: 1 },
            model: model(),
            inbox: poller_inbox,
            outbox: poller_outbox,
            counters: Arc::new(PollerCounters::default()),
        };
        let mut bench = Self {
            poller: Poller::new(parts, now),
            wire,
            inbox,
            outbox,
            now,
            command_id: 0,
        };
        let backing = backend.open(&BackingSpec::Null { size_bytes: 1 << 30 }).unwrap();
        bench.send(ToPoller::AttachBacking(BackingId(1), backing));
        let resources = PortResources {
            port: PortId(1),
            epoch: Epoch(1),
            shared_receive_queue: (),
            completion_queue: (),
            receive_regions: regions(&bench.wire, SIZING.receive_bytes, SIZING.receive_count),
            small_regions: regions(&bench.wire, SIZING.small_buffer_bytes, SIZING.small_buffer_count),
            large_regions: regions(&bench.wire, SIZING.large_buffer_bytes, SIZING.large_buffer_count),
            sizing: SIZING,
            listener: "storage".into(),
            counters: Arc::default(),
        };
        bench.send(ToPoller::AttachPort(Box::new(resources)));
        bench.adopt(ADMIN, 0, 32);
        bench.connect(ADMIN, 0, 31, CONTROLLER_ID_DYNAMIC);
        let enable = PropertyAccess {
            wide: false,
            offset: offset::CC,
            value: u64::from(Configuration::ENABLE.0),
        };
        let enable = enable.build_set(bench.next_id());
        let controller_id = 1;
        bench.run(ADMIN, &enable, &[]);
        bench.adopt(IO, 1, 128);
        bench.connect(IO, 1, 127, controller_id);
        bench
    }

    fn send(&self, message: ToPoller<Loopback, HostBackend>) {
        self.inbox.send(message).map_err(|_| "the mailbox is full").unwrap();
    }

    fn next_id(&mut self) -> u16 {
        self.command_id = self.command_id.wrapping_add(1);
        self.command_id
    }

    fn step(&mut self) {
        self.now += Duration::from_micros(1);
        self.poller.step(self.now);
    }

    fn adopt(&mut self, number: u32, queue_id: u16, queue_size: u16) {
        let address = "10.9.0.2:1".parse().unwrap();
        self.send(ToPoller::Adopt(Box::new(NewQueuePair {
            connection: ConnectionKey(Handle {
                slot: number,
                generation: 1,
            }),
            port: PortId(1),
            epoch: Epoch(1),
            queue_pair: LoopbackQueuePair(number),
            queue_id,
            queue_size,
            send_work_requests_max: 256,
            read_depth: 16,
            source: address,
            local: address,
        })));
        self.step();
    }

    fn connect(&mut self, number: u32, queue_id: u16, queue_size: u16, controller_id: u16) {
        let connect = ConnectCommand {
            command_id: self.next_id(),
            record_format: 0,
            queue_id,
            queue_size,
            attributes: 0,
            keep_alive_timeout_ms: 0,
        };
        let data = ConnectData {
            host_id: [7; 16],
            controller_id,
            subsystem_nqn: NQN.into(),
            host_nqn: NQN.into(),
        };
        let pointer = DataPointer::InCapsule {
            offset: 0,
            length: 1024,
        };
        self.run(number, &connect.build().data(pointer).build(), &data.encode());
    }

    /// Carries out one command that succeeds.
    fn run(&mut self, number: u32, command: &Command, in_capsule: &[u8]) {
        let before = self.wire.responses().0;
        self.wire.deliver(number, command.as_bytes(), in_capsule);
        for _ in 0..16 {
            self.step();
        }
        let (responses, last) = self.wire.responses();
        assert_eq!(responses, before + 1, "{command:?}");
        let (completion, _) = Completion::decode(&last).expect("a status this target sends");
        assert!(completion.status.is_success(), "{command:?}: {}", completion.status);
    }

    /// Reads, writes both ways, a flush and large transfers, one by one and many at once.
    fn round(&mut self) {
        let keyed = |blocks: u32| DataPointer::Keyed {
            address: 4096,
            length: blocks * 4096,
            key: 9,
            invalidate: true,
        };
        let in_capsule = DataPointer::InCapsule {
            offset: 0,
            length: 4096,
        };
        let io = |id, opcode, blocks| CommandBuilder::new(opcode, id).namespace(1).blocks(8, blocks);
        for blocks in [1, 32] {
            let read = io(self.next_id(), io::READ, blocks).data(keyed(blocks)).build();
            self.run(IO, &read, &[]);
            let write = io(self.next_id(), io::WRITE, blocks).data(keyed(blocks)).build();
            self.run(IO, &write, &[]);
        }
        let write = io(self.next_id(), io::WRITE, 1).data(in_capsule).build();
        self.run(IO, &write, &[1; 4096]);
        let flush = CommandBuilder::new(io::FLUSH, self.next_id()).namespace(1).build();
        self.run(IO, &flush, &[]);
        let before = self.wire.responses().0;
        for index in 0..120 {
            let blocks = if index % 4 == 0 { 32 } else { 1 };
            let read = io(self.next_id(), io::READ, blocks).data(keyed(blocks)).build();
            self.wire.deliver(IO, read.as_bytes(), &[]);
        }
        for _ in 0..64 {
            self.step();
        }
        assert_eq!(self.wire.responses().0, before + 120);
    }
}

#[test]
fn io_allocates_nothing_once_a_port_serves() {
    let mut bench = Bench::new();
    // Whatever grows to its working size does so here.
    bench.round();
    counted(|| {
        for _ in 0..50 {
            bench.round();
        }
    });
    assert_eq!(total(), 0);
    drop(counted(|| Box::new(1)));
    assert_eq!(total(), 1, "the counter counts");
    while bench.outbox.take().is_some() {}
}
