//! One poller without a control thread: builds its resources at once and admits every connection. For measuring the
//! poller alone; whatever goes wrong is a panic.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use weir_core::backend::{Backend, BackingId, BackingSpec};
use weir_core::engine::association::Place;
use weir_core::engine::buffers::BufferRegion;
use weir_core::engine::counters::{PollerCounters, PortCounters};
use weir_core::engine::mailbox::{NeverAsleep, Receiver, Sender, mailbox};
use weir_core::engine::messages::{
    ConnectionKey, Epoch, Handle, NewQueuePair, PortId, PortResources, PortSizing, ToControl, ToPoller,
};
use weir_core::engine::poller::{Poller, PollerParts, Progress};
use weir_core::nvme::private_data::{ConnectRequestData, encode_accept};
use weir_core::provider::{
    AcceptParameters, Arena, ConnectParameters, ConnectionEvent, DEFAULT_CONNECT_RETRY, MemoryAccess, Provider,
    QueuePairParameters,
};
use weir_core::subsystem::model::{Access, Listener, Model, Namespace, Paths, QueueLimits, Subsystem};

const PORT: PortId = PortId(1);
const EPOCH: Epoch = Epoch(1);
const BACKING: BackingId = BackingId(1);
const QUEUE_DEPTH: u16 = 128;
const READ_DEPTH: u8 = 16;
const REQUESTS: u32 = 512;
const RECEIVES: u32 = 512;

/// NQN of the one subsystem; namespace 1 is the one namespace.
pub const SUBSYSTEM_NQN: &str = "nqn.2026-11.dev.weir:bench";

/// Poller and stand-in for the control thread.
#[derive(Debug)]
pub struct Rig<P: Provider, B: Backend> {
    pub poller: Poller<P, B>,
    pub counters: Arc<PollerCounters>,
    to_poller: Sender<ToPoller<P, B>>,
    from_poller: Receiver<ToControl<P>>,
    /// Connections that wait for the poller to own their queue pair, with the queue pair's number.
    adopting: BTreeMap<ConnectionKey, (P::ConnectionId, u32, u16)>,
    accepted: Vec<P::ConnectionId>,
    _listener: P::Listener,
    completion_queue: P::CompletionQueue,
    receive_queue: P::SharedReceiveQueue,
    domain: P::ProtectionDomain,
    _device: P::Device,
    provider: P,
    start: Instant,
}

fn regions<P: Provider>(provider: &P, domain: &P::ProtectionDomain, bytes: u32, count: u32) -> Vec<BufferRegion<P>> {
    let length = bytes as usize * count as usize;
    let arena = Arena::allocate(length).expect("memory");
    let region = provider
        .register_memory(domain, &arena, 0, length, MemoryAccess::Local)
        .expect("registered");
    vec![BufferRegion {
        region,
        arena,
        offset: 0,
        buffer_bytes: bytes,
        buffer_count: count,
    }]
}

fn model<B: Backend>(backend: &B, backing: &B::Backing, address: SocketAddr) -> Model {
    let facts = backend.facts(backing);
    let namespace = Namespace {
        id: 1,
        uuid: Uuid::from_u128(1),
        ana_group: 1,
        read_only: facts.read_only,
        backing: BACKING,
        size_blocks: facts.size_bytes >> facts.block_shift,
        block_shift: facts.block_shift,
        write_cache: facts.write_cache,
    };
    Model {
        revision: 1,
        subsystems: vec![Arc::new(Subsystem {
            nqn: SUBSYSTEM_NQN.to_owned(),
            serial: "1".to_owned(),
            model_number: "Weir".to_owned(),
            access: Access::AnyHost,
            authentication: Vec::new(),
            controller_ids: (1, 65519),
            namespaces: vec![namespace],
        })],
        listeners: vec![Listener {
            name: Arc::from("bench"),
            address,
        }],
        limits: QueueLimits {
            io_queues_max: 16,
            queue_depth: QUEUE_DEPTH,
            in_capsule_data_bytes: 4096,
            io_size_max_bytes: 131_072,
        },
        keep_alive_minimum_ms: 5000,
        drain_timeout: Duration::from_secs(15),
        paths: Paths::Accessible,
    }
}

impl<P: Provider, B: Backend> Rig<P, B> {
    /// A poller that serves `spec` as namespace 1 at `address` on `device`.
    pub fn new(provider: P, backend: &B, spec: &BackingSpec, device: &str, address: SocketAddr) -> Self {
        let start = Instant::now();
        let device = provider.open_device(device).expect("device");
        let domain = provider.allocate_protection_domain(&device).expect("domain");
        let sizing = PortSizing {
            receive_count: RECEIVES,
            receive_bytes: 64 + 4096,
            small_buffer_bytes: 16_384,
            small_buffer_count: 256,
            large_buffer_bytes: 131_072,
            large_buffer_count: 32,
            request_count: REQUESTS,
            completion_entries: 8192,
            send_with_invalidate: true,
        };
        let completion_queue = provider
            .create_completion_queue(&device, sizing.completion_entries)
            .expect("queue");
        let receive_queue = provider.create_shared_receive_queue(&domain, RECEIVES).expect("queue");
        let resources = PortResources {
            port: PORT,
            epoch: EPOCH,
            shared_receive_queue: receive_queue.clone(),
            completion_queue: completion_queue.clone(),
            receive_regions: regions(&provider, &domain, sizing.receive_bytes, sizing.receive_count),
            small_regions: regions(&provider, &domain, sizing.small_buffer_bytes, sizing.small_buffer_count),
            large_regions: regions(&provider, &domain, sizing.large_buffer_bytes, sizing.large_buffer_count),
            sizing,
            listener: Arc::from("bench"),
            counters: Arc::new(PortCounters::default()),
        };
        let listener = provider.listen(address, 1, 16).expect("listener");
        let backing = backend.open(spec).expect("backing");
        let counters = Arc::new(PollerCounters::default());
        let (to_poller, inbox) = mailbox(64, Arc::new(NeverAsleep));
        let (outbox, from_poller) = mailbox(64, Arc::new(NeverAsleep));
        let parts = PollerParts {
            provider: provider.clone(),
            backend: backend.queue(REQUESTS).expect("backend queue"),
            place: Place { index: 0, count: 1 },
            model: Arc::new(model(backend, &backing, address)),
            inbox,
            outbox,
            counters: Arc::clone(&counters),
        };
        let poller = Poller::new(parts, start);
        let this = Self {
            poller,
            counters,
            to_poller,
            from_poller,
            adopting: BTreeMap::new(),
            accepted: Vec::new(),
            _listener: listener,
            completion_queue,
            receive_queue,
            domain,
            _device: device,
            provider,
            start,
        };
        this.tell(ToPoller::AttachBacking(BACKING, backing));
        this.tell(ToPoller::AttachPort(Box::new(resources)));
        this
    }

    fn tell(&self, message: ToPoller<P, B>) {
        self.to_poller
            .send(message)
            .map_err(|_| "the mailbox is full")
            .expect("room in the mailbox");
    }

    /// One step of the poller at `now`.
    #[inline(never)]
    pub fn step_poller(&mut self, now: Duration) -> Progress {
        self.poller.step(self.start + now)
    }

    /// What the control thread would do: admits connections.
    pub fn step_control(&mut self) {
        while let Some(event) = self.provider.next_connection_event() {
            if let ConnectionEvent::Request(request) = event {
                self.admit(*request);
            }
        }
        while let Some(message) = self.from_poller.take() {
            match message {
                ToControl::Adopted(key, _) => self.accept(key),
                ToControl::Event(_) => {}
                other => panic!("the poller says {other:?}"),
            }
        }
    }

    fn admit(&mut self, request: weir_core::provider::ConnectRequest<P>) {
        let wanted = ConnectRequestData::parse(&request.private_data).expect("private data");
        let queue_size = wanted.queue_entries(16, QUEUE_DEPTH).expect("sizes");
        let send_work_requests_max = 4 * u32::from(queue_size);
        let parameters = QueuePairParameters {
            completion_queue: &self.completion_queue,
            shared_receive_queue: &self.receive_queue,
            send_work_requests_max,
        };
        let mut queue_pair = self
            .provider
            .create_queue_pair(&self.domain, &parameters)
            .expect("queue pair");
        let mut connection = request.connection;
        let key = ConnectionKey(Handle {
            slot: (self.adopting.len() + self.accepted.len()) as u32 + 1,
            generation: 1,
        });
        self.provider
            .set_connection_token(&mut connection, u64::from(key.0.slot));
        self.provider
            .ready_queue_pair(&mut queue_pair, &connection, &connect_parameters())
            .expect("RTS");
        let number = self.provider.queue_pair_number(&queue_pair);
        self.adopting.insert(key, (connection, number, queue_size));
        self.tell(ToPoller::Adopt(Box::new(NewQueuePair {
            connection: key,
            port: PORT,
            epoch: EPOCH,
            queue_pair,
            queue_id: wanted.queue_id,
            queue_size,
            send_work_requests_max,
            read_depth: READ_DEPTH,
            source: request.source,
            local: request.source,
        })));
    }

    fn accept(&mut self, key: ConnectionKey) {
        let (connection, number, queue_size) = self.adopting.remove(&key).expect("it was asked for");
        let parameters = AcceptParameters {
            connect: connect_parameters(),
            private_data: &encode_accept(queue_size),
        };
        self.provider
            .accept(&connection, number, &parameters)
            .expect("accepted");
        self.accepted.push(connection);
    }
}

fn connect_parameters() -> ConnectParameters {
    ConnectParameters {
        initiator_depth: READ_DEPTH,
        ..DEFAULT_CONNECT_RETRY
    }
}
