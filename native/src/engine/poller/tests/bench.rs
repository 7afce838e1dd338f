//! One poller, one simulated device, and a control thread that does only what the poller needs of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::backend::TestBackend;
use crate::backend::{Backend, BackingId, BackingSpec};
use crate::engine::association::Place;
use crate::engine::buffers::BufferRegion;
use crate::engine::counters::{PollerCounters, PortCounters};
use crate::engine::fence::Asker;
use crate::engine::mailbox::{NeverAsleep, Receiver, Sender, mailbox};
use crate::engine::messages::{
    CloseReason, ConnectionKey, Epoch, Handle, NewQueuePair, PollerEvent, PortId, PortResources, PortSizing, ToControl,
    ToPoller,
};
use crate::engine::poller::{Poller, PollerParts, Progress};
use crate::nvme::private_data::{ConnectRequestData, encode_accept};
use crate::provider::sim::{LinkState, SimConnectionId, SimDeviceSpec, SimHost, SimListener, SimProvider, SimWorld};
use crate::provider::{
    AcceptParameters, Arena, ConnectParameters, ConnectRequest, ConnectionEvent, DEFAULT_CONNECT_RETRY, MemoryAccess,
    Provider, QueuePairParameters,
};
use crate::subsystem::model::{Access, Listener, Model, Namespace, Paths, QueueLimits, Subsystem};

pub const SUBSYSTEM: &str = "nqn.2026-11.dev.weir:fast";
pub const HOST: &str = "nqn.2026-11.dev.weir:host-a";
pub const PORT: PortId = PortId(3);
pub const NAMESPACE_BYTES: u64 = 16 << 20;
pub const BLOCK: u32 = 4096;
pub const IN_CAPSULE_BYTES: u32 = 4096;
/// Room for receives that a test adds.
const RECEIVES_LATER: u32 = 16;

pub type ToTestPoller = ToPoller<SimProvider, TestBackend>;

pub fn target() -> SocketAddr {
    "10.9.0.1:4420".parse().unwrap()
}

/// Sizes that most tests are content with.
pub fn sizing() -> PortSizing {
    PortSizing {
        receive_count: 64,
        receive_bytes: 64 + IN_CAPSULE_BYTES,
        small_buffer_bytes: 16384,
        small_buffer_count: 32,
        large_buffer_bytes: 131_072,
        large_buffer_count: 8,
        request_count: 128,
        completion_entries: 1024,
        send_with_invalidate: true,
    }
}

pub fn namespace(id: u32) -> Namespace {
    Namespace {
        id,
        uuid: Uuid::from_u128(u128::from(id)),
        ana_group: 1,
        read_only: false,
        backing: BackingId(id),
        size_blocks: NAMESPACE_BYTES >> 12,
        block_shift: 12,
        write_cache: true,
    }
}

/// One subsystem with these namespaces.
pub fn model(revision: u64, access: Access, namespaces: &[u32]) -> Arc<Model> {
    Arc::new(Model {
        revision,
        subsystems: vec![Arc::new(Subsystem {
            nqn: SUBSYSTEM.to_owned(),
            serial: "S1".to_owned(),
            model_number: "Weir".to_owned(),
            access,
            authentication: Vec::new(),
            controller_ids: (1, 100),
            namespaces: namespaces.iter().copied().map(namespace).collect(),
        })],
        listeners: vec![Listener {
            name: "storage".into(),
            address: target(),
        }],
        limits: QueueLimits {
            io_queues_max: 4,
            queue_depth: 128,
            in_capsule_data_bytes: IN_CAPSULE_BYTES,
            io_size_max_bytes: 131_072,
        },
        keep_alive_minimum_ms: 1000,
        drain_timeout: Duration::from_secs(15),
        paths: Paths::Accessible,
    })
}

struct Connection {
    id: SimConnectionId,
    poller: Option<Handle>,
    queue_size: u16,
}

/// What the control thread was told, besides what the bench itself handles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Drained(CloseReason),
    PortDrained(Epoch),
    QueueBroken(Epoch),
    FenceAsked {
        fence: Handle,
        question: u64,
        host_nqn: String,
        subsystem_nqn: String,
    },
    FenceClear(Asker),
    Quarantined {
        queue_pairs: u32,
        backend_ios: u32,
    },
    Detached(BackingId),
    Event(PollerEvent),
    Refused,
    Quiet,
    PathsClear(u64),
    Stopped,
}

/// Field order is destruction order.
pub struct Bench {
    pub poller: Poller<SimProvider, TestBackend>,
    pub backend: TestBackend,
    pub counters: Arc<PollerCounters>,
    pub port_counters: Arc<PortCounters>,
    pub told: Vec<Told>,
    pub now: Instant,
    /// New queue pairs are handed over with this many send-queue entries.
    pub send_work_requests_max: u32,
    connections: HashMap<u32, Connection>,
    /// Identifiers of dropped associations, to be told when the link is up again.
    kept: Vec<SimConnectionId>,
    link_up: bool,
    connections_so_far: u32,
    inbox: Sender<ToTestPoller>,
    outbox: Receiver<ToControl<SimProvider>>,
    _listener: SimListener,
    port: Option<PortObjects>,
    sizing: PortSizing,
    provider: SimProvider,
    pub world: SimWorld,
}

/// What queue pairs of the present epoch are made with.
struct PortObjects {
    epoch: Epoch,
    domain: <SimProvider as Provider>::ProtectionDomain,
    completion_queue: <SimProvider as Provider>::CompletionQueue,
    receive_queue: <SimProvider as Provider>::SharedReceiveQueue,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_sizing(sizing())
    }

    pub fn with_sizing(sizing: PortSizing) -> Self {
        Self::in_world(SimWorld::in_order(), sizing)
    }

    pub fn in_world(world: SimWorld, sizing: PortSizing) -> Self {
        Self::at_place(world, sizing, Place { index: 0, count: 1 })
    }

    /// One poller of several; the test plays the others.
    pub fn one_of_two() -> Self {
        Self::at_place(SimWorld::in_order(), sizing(), Place { index: 0, count: 2 })
    }

    fn at_place(world: SimWorld, sizing: PortSizing, place: Place) -> Self {
        world.add_device(SimDeviceSpec::new("rxe0", "rdma0", target().ip()));
        let provider = world.provider();
        let listener = provider.listen(target(), 1, 64).unwrap();
        let backend = TestBackend::new();
        let (inbox, poller_inbox) = mailbox(1024, Arc::new(NeverAsleep));
        let (poller_outbox, outbox) = mailbox(4, Arc::new(NeverAsleep));
        let counters = Arc::new(PollerCounters::default());
        let now = Instant::now();
        let parts = PollerParts {
            provider: provider.clone(),
            backend: backend.queue(256).unwrap(),
            place,
            model: model(1, Access::AnyHost, &[1, 2]),
            inbox: poller_inbox,
            outbox: poller_outbox,
            counters: Arc::clone(&counters),
        };
        let mut bench = Self {
            poller: Poller::new(parts, now),
            backend,
            counters,
            port_counters: Arc::default(),
            told: Vec::new(),
            now,
            send_work_requests_max: 256,
            connections: HashMap::new(),
            kept: Vec::new(),
            link_up: true,
            connections_so_far: 0,
            inbox,
            outbox,
            _listener: listener,
            port: None,
            sizing,
            provider,
            world,
        };
        for id in [1, 2, 3] {
            bench.attach_backing(id);
        }
        bench.attach_port(Epoch(1));
        bench
    }

    fn attach_backing(&mut self, id: u32) {
        let spec = BackingSpec::Memory {
            size_bytes: NAMESPACE_BYTES,
        };
        let backing = self.backend.open(&spec).unwrap();
        self.send(ToPoller::AttachBacking(BackingId(id), backing));
    }

    /// Builds and hands over a port's share.
    pub fn attach_port(&mut self, epoch: Epoch) {
        let provider = self.provider.clone();
        let device = provider.open_device("rxe0").unwrap();
        let domain = provider.allocate_protection_domain(&device).unwrap();
        let sizing = self.sizing;
        let region = |bytes, count| register(&provider, &domain, bytes, count);
        let completion_queue = provider
            .create_completion_queue(&device, sizing.completion_entries)
            .unwrap();
        let receive_queue = provider
            .create_shared_receive_queue(&domain, sizing.receive_count + RECEIVES_LATER)
            .unwrap();
        let resources = PortResources {
            port: PORT,
            epoch,
            shared_receive_queue: receive_queue.clone(),
            completion_queue: completion_queue.clone(),
            receive_regions: region(sizing.receive_bytes, sizing.receive_count),
            small_regions: region(sizing.small_buffer_bytes, sizing.small_buffer_count),
            large_regions: region(sizing.large_buffer_bytes, sizing.large_buffer_count),
            sizing,
            listener: "storage".into(),
            counters: Arc::clone(&self.port_counters),
        };
        self.port = Some(PortObjects {
            epoch,
            domain,
            completion_queue,
            receive_queue,
        });
        self.send(ToPoller::AttachPort(Box::new(resources)));
    }

    /// Registers and hands over more memory: counts of small, large and receive buffers.
    pub fn add_regions(&mut self, small: u32, large: u32, receive: u32) {
        let port = self.port.as_ref().expect("the port is attached");
        let region = |bytes, count| register(&self.provider, &port.domain, bytes, count);
        self.send(ToPoller::AddRegions {
            port: PORT,
            epoch: port.epoch,
            small: region(self.sizing.small_buffer_bytes, small),
            large: region(self.sizing.large_buffer_bytes, large),
            receive: region(self.sizing.receive_bytes, receive),
        });
        self.run();
    }

    pub fn send(&self, message: ToTestPoller) {
        self.inbox.send(message).map_err(|_| "the mailbox is full").unwrap();
    }

    pub fn add_host(&self) -> SimHost {
        self.world.add_host("10.9.0.2".parse().unwrap())
    }

    /// Lets everything happen that can, at this moment.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            let mut busy = self.world.run_until_idle() > 0;
            busy |= self.step().worked;
            busy |= self.control();
            if !busy {
                return;
            }
        }
        panic!("the poller never comes to rest");
    }

    pub fn step(&mut self) -> Progress {
        self.poller.step(self.now)
    }

    /// Lets time pass, a second at most between two steps.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_secs(1));
            self.run();
        }
    }

    /// Events the poller reported since the last call.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Handles of all queue pairs the poller has, by age.
    pub fn handles(&self) -> Vec<Handle> {
        let mut known: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(key, one)| Some((*key, one.poller?)))
            .collect();
        known.sort_unstable_by_key(|(key, _)| *key);
        known.into_iter().map(|(_, handle)| handle).collect()
    }

    /// Brings the device's own link up or down.
    pub fn set_link(&mut self, link: LinkState) {
        self.world.set_link("rxe0", link);
        self.link_up = link != LinkState::Down;
        if self.link_up {
            for id in std::mem::take(&mut self.kept) {
                self.let_go(id);
            }
        }
    }

    /// Tells the host of a dropped association; silent while the link is down.
    fn let_go(&mut self, id: SimConnectionId) {
        if self.link_up {
            // It may be disconnected already, from the other side.
            let _ = self.provider.disconnect(&id);
        } else {
            self.kept.push(id);
        }
    }

    /// Whether the port is attached and not yet given back.
    pub fn has_port(&self) -> bool {
        self.port.is_some()
    }

    /// What the control thread does when it gets its turn.
    pub fn control(&mut self) -> bool {
        let mut busy = false;
        while let Some(event) = self.provider.next_connection_event() {
            busy = true;
            self.on_connection_event(event);
        }
        while let Some(message) = self.outbox.take() {
            busy = true;
            self.on_message(message);
        }
        busy
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<SimProvider>) {
        match event {
            ConnectionEvent::Request(request) => self.on_request(*request),
            ConnectionEvent::Established(token) => self.tell(token, ToPoller::Established),
            ConnectionEvent::Disconnected(token) => {
                self.tell(token, |handle| ToPoller::Close(handle, CloseReason::HostDisconnected));
            }
            _ => {}
        }
    }

    fn tell(&self, token: u64, message: impl FnOnce(Handle) -> ToTestPoller) {
        let key = u32::try_from(token).unwrap();
        if let Some(handle) = self.connections.get(&key).and_then(|connection| connection.poller) {
            self.send(message(handle));
        }
    }

    fn on_request(&mut self, request: ConnectRequest<SimProvider>) {
        let Some(port) = &self.port else { return };
        let data = ConnectRequestData::parse(&request.private_data).unwrap();
        let queue_size = data.queue_entries(4, 128).unwrap();
        self.connections_so_far += 1;
        let key = self.connections_so_far;
        let mut id = request.connection;
        self.provider.set_connection_token(&mut id, u64::from(key));
        let parameters = QueuePairParameters {
            completion_queue: &port.completion_queue,
            shared_receive_queue: &port.receive_queue,
            send_work_requests_max: self.send_work_requests_max,
        };
        let mut queue_pair = self.provider.create_queue_pair(&port.domain, &parameters).unwrap();
        self.provider
            .ready_queue_pair(&mut queue_pair, &id, &connect_parameters())
            .unwrap();
        self.connections.insert(
            key,
            Connection {
                id,
                poller: None,
                queue_size,
            },
        );
        self.send(ToPoller::Adopt(Box::new(NewQueuePair {
            connection: ConnectionKey(Handle {
                slot: key,
                generation: 1,
            }),
            port: PORT,
            epoch: port.epoch,
            queue_pair,
            queue_id: data.queue_id,
            queue_size,
            send_work_requests_max: self.send_work_requests_max,
            read_depth: 16,
            source: request.source,
            local: target(),
        })));
    }

    fn on_message(&mut self, message: ToControl<SimProvider>) {
        match message {
            ToControl::Adopted(key, handle) => {
                let connection = self.connections.get_mut(&key.0.slot).unwrap();
                connection.poller = Some(handle);
                let accept = AcceptParameters {
                    connect: connect_parameters(),
                    private_data: &encode_accept(connection.queue_size),
                };
                let number = self.poller.queue_pairs[handle].number;
                self.provider.accept(&connection.id, number, &accept).unwrap();
            }
            ToControl::Refused(key, queue_pair) => {
                drop(queue_pair);
                self.connections.remove(&key.0.slot);
                self.told.push(Told::Refused);
            }
            ToControl::QueuePairDrained {
                connection,
                queue_pair,
                reason,
            } => {
                drop(queue_pair);
                let connection = self.connections.remove(&connection.0.slot).unwrap();
                self.let_go(connection.id);
                self.told.push(Told::Drained(reason));
            }
            ToControl::PortDrained(resources) => {
                self.told.push(Told::PortDrained(resources.epoch));
                // The bench's own handles first, so that the queues go before the memory they refer to.
                if self.port.as_ref().is_some_and(|port| port.epoch == resources.epoch) {
                    self.port = None;
                }
            }
            ToControl::PortQuarantined {
                port,
                queue_pairs,
                backend_ios,
                ..
            } => {
                assert_eq!(port, PORT);
                self.told.push(Told::Quarantined {
                    queue_pairs,
                    backend_ios,
                });
            }
            ToControl::FenceAsked {
                fence,
                question,
                host_nqn,
                subsystem_nqn,
            } => self.told.push(Told::FenceAsked {
                fence,
                question,
                host_nqn,
                subsystem_nqn,
            }),
            ToControl::FenceClear(asker) => self.told.push(Told::FenceClear(asker)),
            ToControl::QueueBroken { port, epoch, .. } => {
                assert_eq!(port, PORT);
                self.told.push(Told::QueueBroken(epoch));
            }
            ToControl::BackingDetached(id) => self.told.push(Told::Detached(id)),
            ToControl::Event(event) => self.told.push(Told::Event(*event)),
            ToControl::Quiet => self.told.push(Told::Quiet),
            ToControl::PathsClear { revision } => self.told.push(Told::PathsClear(revision)),
            ToControl::Stopped => self.told.push(Told::Stopped),
        }
    }
}

/// Every test ends with a drain that must leave nothing behind.
impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.set_link(LinkState::Up);
        self.backend.hold(false);
        self.backend.fail(0);
        if let Some(port) = &self.port {
            self.send(ToPoller::Drain(PORT, port.epoch, self.now + Duration::from_secs(15)));
        }
        self.send(ToPoller::Stop);
        self.run();
        assert!(
            self.told.contains(&Told::Stopped),
            "the poller gives everything back: {:?}",
            self.told
        );
        assert!(self.connections.is_empty(), "every queue pair comes back");
        let live = self.world.live_objects();
        assert_eq!(
            (live.queue_pairs, live.memory_regions, live.completion_queues),
            (0, 0, 0)
        );
        let port = &self.port_counters;
        for gauge in [
            &port.queue_pairs_active,
            &port.queue_pairs_draining,
            &port.queue_pairs_quarantined,
            &port.buffers_free,
            &port.buffers_used,
            &port.buffers_quarantined,
        ] {
            assert_eq!(gauge.get(), 0);
        }
    }
}

fn register(
    provider: &SimProvider,
    domain: &<SimProvider as Provider>::ProtectionDomain,
    bytes: u32,
    count: u32,
) -> Vec<BufferRegion<SimProvider>> {
    let length = bytes as usize * count as usize;
    let arena = Arena::allocate(length).unwrap();
    let region = provider
        .register_memory(domain, &arena, 0, length, MemoryAccess::Local)
        .unwrap();
    vec![BufferRegion {
        region,
        arena,
        offset: 0,
        buffer_bytes: bytes,
        buffer_count: count,
    }]
}

fn connect_parameters() -> ConnectParameters {
    ConnectParameters {
        initiator_depth: 16,
        ..DEFAULT_CONNECT_RETRY
    }
}
