//! Tests on a real device. They need `WEIR_TEST_RDMA_ADDRESS`, an IP address of an RDMA device of this machine (soft
//! RoCE will do), and run only when asked for:
//!
//! `WEIR_TEST_RDMA_ADDRESS=10.9.0.1 cargo test --lib provider::verbs::device_tests -- --ignored --test-threads 1`
//!
//! Target and host are both here: the target through [`VerbsProvider`], the host on a thread with plain librdmacm.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use self::host::{Answer, Host};
use super::*;
use crate::provider::{CompletionKind, CompletionStatus, ConnectRequest, DEFAULT_CONNECT_RETRY, SendOperation, Sge};

const LISTENER: u64 = 0x1_0000_0007;
const CONNECTION: u64 = 0x8000_0003_0000_002a;
const PORT: u16 = 4427;
const RECEIVES: u32 = 8;
const RECEIVE_BYTES: u32 = 4160;
const ARENA_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

fn address() -> IpAddr {
    let text = std::env::var("WEIR_TEST_RDMA_ADDRESS").expect("WEIR_TEST_RDMA_ADDRESS is set");
    text.parse().expect("WEIR_TEST_RDMA_ADDRESS is an IP address")
}

fn patiently<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Field order is destruction order.
struct Target {
    listener: VerbsListener,
    receive_queue: VerbsSharedReceiveQueue,
    completion_queue: VerbsCompletionQueue,
    region: VerbsMemoryRegion,
    domain: VerbsProtectionDomain,
    device: VerbsDevice,
    arena: Arena,
    provider: VerbsProvider,
}

struct Link {
    queue_pair: VerbsQueuePair,
    connection: VerbsConnectionId,
}

impl Target {
    fn new() -> Self {
        let provider = VerbsProvider::new();
        let listener = provider.listen(SocketAddr::new(address(), PORT), LISTENER, 16).unwrap();
        let name = provider.listener_device(&listener).unwrap();
        let device = provider.open_device(&name).unwrap();
        let domain = provider.allocate_protection_domain(&device).unwrap();
        let arena = Arena::allocate(ARENA_BYTES).unwrap();
        let region = provider
            .register_memory(&domain, &arena, 0, ARENA_BYTES, MemoryAccess::Local)
            .unwrap();
        let completion_queue = provider.create_completion_queue(&device, 256).unwrap();
        let receive_queue = provider.create_shared_receive_queue(&domain, 64).unwrap();
        let target = Self {
            listener,
            receive_queue,
            completion_queue,
            region,
            domain,
            device,
            arena,
            provider,
        };
        let receives: Vec<_> = (0..RECEIVES)
            .map(|index| ReceiveWorkRequest {
                token: u64::from(index),
                sge: target.sge(index as usize * 8192, RECEIVE_BYTES),
            })
            .collect();
        target.provider.post_receives(&target.receive_queue, &receives).unwrap();
        target
    }

    fn sge(&self, offset: usize, length: u32) -> Sge {
        Sge {
            address: self.arena.address(offset),
            length,
            local_key: self.provider.local_key(&self.region),
        }
    }

    #[allow(clippy::mut_from_ref)]
    fn bytes(&self, offset: usize, length: usize) -> &mut [u8] {
        // SAFETY: each test looks only at memory whose completion it has reaped, or that it has not posted yet.
        unsafe { self.arena.slice(offset, length) }
    }

    fn event(&self) -> ConnectionEvent<VerbsProvider> {
        patiently("a connection manager event", || self.provider.next_connection_event())
    }

    fn request(&self) -> Box<ConnectRequest<VerbsProvider>> {
        match self.event() {
            ConnectionEvent::Request(request) => request,
            other => panic!("no request but {other:?}"),
        }
    }

    fn accept(&self, mut request: ConnectRequest<VerbsProvider>) -> Link {
        let connect = ConnectParameters {
            initiator_depth: request.initiator_depth.min(8),
            ..DEFAULT_CONNECT_RETRY
        };
        let parameters = QueuePairParameters {
            completion_queue: &self.completion_queue,
            shared_receive_queue: &self.receive_queue,
            send_work_requests_max: 64,
        };
        let mut queue_pair = self.provider.create_queue_pair(&self.domain, &parameters).unwrap();
        self.provider.set_connection_token(&mut request.connection, CONNECTION);
        self.provider
            .ready_queue_pair(&mut queue_pair, &request.connection, &connect)
            .unwrap();
        let parameters = AcceptParameters {
            connect,
            private_data: &[7; 32],
        };
        let number = self.provider.queue_pair_number(&queue_pair);
        self.provider.accept(&request.connection, number, &parameters).unwrap();
        Link {
            queue_pair,
            connection: request.connection,
        }
    }

    fn completions(&self, count: usize) -> Vec<WorkCompletion> {
        let mut all = Vec::new();
        patiently("a completion", || {
            let mut some = [WorkCompletion::EMPTY; 16];
            let taken = self
                .provider
                .poll_completions(&self.completion_queue, &mut some)
                .unwrap();
            all.extend_from_slice(&some[..taken]);
            (all.len() >= count).then_some(())
        });
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    fn none_left(&self) {
        let mut some = [WorkCompletion::EMPTY; 1];
        let taken = self
            .provider
            .poll_completions(&self.completion_queue, &mut some)
            .unwrap();
        assert_eq!(taken, 0, "{some:?}");
    }
}

fn send(token: u64, operation: SendOperation, sge: Sge, signaled: bool) -> SendWorkRequest {
    SendWorkRequest {
        token,
        operation,
        sge,
        signaled,
    }
}

fn connected() -> (Target, Host, Link) {
    let target = Target::new();
    let host = Host::connect(SocketAddr::new(address(), PORT));
    let request = target.request();
    assert_eq!(request.listener, LISTENER);
    assert_eq!(&request.private_data[..32], &[3; 32]);
    assert_eq!(request.initiator_depth, host::RESPONDER_RESOURCES);
    let link = target.accept(*request);
    match target.event() {
        ConnectionEvent::Established(CONNECTION) => {}
        other => panic!("not established but {other:?}"),
    }
    let data = match host.answer() {
        Answer::Connected(data) => data,
        Answer::Rejected(data) => panic!("rejected with {data:?}"),
        Answer::Other { event, status } => panic!("event {event}, status {status}"),
    };
    assert_eq!(&data[..32], &[7; 32]);
    (target, host, link)
}

/// The engine's way down; the host answers the disconnect, as the kernel's does.
fn take_down(target: &Target, host: &Host, link: Link) {
    let Link {
        mut queue_pair,
        connection,
    } = link;
    target.provider.fail_queue_pair(&mut queue_pair).unwrap();
    target.provider.fail_queue_pair(&mut queue_pair).unwrap();
    drop(queue_pair);
    target.provider.disconnect(&connection).unwrap();
    host.answer_disconnect();
    match target.event() {
        ConnectionEvent::Disconnected(CONNECTION) => {}
        other => panic!("not disconnected but {other:?}"),
    }
    drop(connection);
}

#[test]
#[ignore = "needs an RDMA device"]
fn the_device_is_listed_with_its_interface_address_and_limits() {
    let target = Target::new();
    let name = target.provider.listener_device(&target.listener).unwrap();
    let devices = target.provider.devices().unwrap();
    let device = devices.iter().find(|device| device.name == name).unwrap();
    assert!(device.addresses.contains(&address()), "{device:?}");
    assert!(!device.netdevs.is_empty());
    let limits = target.provider.limits(&target.device).unwrap();
    assert!(limits.work_requests_max > 0 && limits.shared_receive_max > 0 && limits.read_initiator_max > 0);
    assert_eq!(target.provider.port_state(&target.device).unwrap(), PortState::Active);
}

#[test]
#[ignore = "needs an RDMA device"]
fn listening_tells_its_errors_apart() {
    let target = Target::new();
    let errno = |text: &str| {
        let address = text.parse().unwrap();
        target.provider.listen(address, 1, 8).unwrap_err().errno
    };
    assert_eq!(errno(&SocketAddr::new(address(), PORT).to_string()), libc::EADDRINUSE);
    assert_eq!(errno("192.0.2.77:4420"), libc::EADDRNOTAVAIL);
    assert_eq!(errno("0.0.0.0:4428"), libc::ENODEV);
    assert_eq!(target.provider.open_device("absent").unwrap_err().errno, libc::ENODEV);
}

#[test]
#[ignore = "needs an RDMA device"]
fn capsules_and_data_go_both_ways() {
    let (target, host, mut link) = connected();
    let limits = target.provider.limits(&target.device).unwrap();
    host.send();
    let arrived = target.completions(1)[0];
    assert_eq!(
        (arrived.kind, arrived.status),
        (CompletionKind::Receive, CompletionStatus::Success)
    );
    assert_eq!(arrived.byte_length, host::CAPSULE_BYTES);
    assert_eq!(
        arrived.queue_pair_number,
        target.provider.queue_pair_number(&link.queue_pair)
    );
    let capsule = target.bytes(arrived.token as usize * 8192, host::CAPSULE_BYTES as usize);
    let (remote_address, remote_key) = host::parse(capsule);

    let half = host::DATA_BYTES / 2;
    target.bytes(200_000, half).fill(0xbb);
    target.bytes(400_000, 16).fill(0xcc);
    let read = SendOperation::RdmaRead {
        remote_address,
        remote_key,
    };
    let write = SendOperation::RdmaWrite {
        remote_address: remote_address + half as u64,
        remote_key,
    };
    let chain = [
        send(11, read, target.sge(300_000, half as u32), true),
        send(12, write, target.sge(200_000, half as u32), false),
        send(13, SendOperation::Send, target.sge(400_000, 16), true),
    ];
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    let done: Vec<_> = target
        .completions(2)
        .iter()
        .map(|one| (one.token, one.status))
        .collect();
    assert_eq!(done, [(11, CompletionStatus::Success), (13, CompletionStatus::Success)]);
    assert!(target.bytes(300_000, half).iter().all(|byte| *byte == 0xaa));
    let received = host.receive();
    assert_eq!(received.bytes, [0xcc; 16]);
    assert!(host.data()[half..].iter().all(|byte| *byte == 0xbb));
    assert!(limits.send_with_invalidate, "rxe and every current adapter have it");
    take_down(&target, &host, link);
    target.none_left();
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_failed_queue_pair_flushes_everything_posted_once() {
    let (target, host, mut link) = connected();
    // The host has posted no receive, so these wait (RNR) until the queue pair fails.

    let chain: Vec<_> = (0..40)
        .map(|index| send(index, SendOperation::Send, target.sge(400_000, 16), index % 2 == 1))
        .collect();
    target.provider.post_sends(&mut link.queue_pair, &chain).unwrap();
    target.provider.fail_queue_pair(&mut link.queue_pair).unwrap();
    let flushed = patiently("the last flush", {
        let mut all: Vec<WorkCompletion> = Vec::new();
        let (provider, queue) = (&target.provider, &target.completion_queue);
        move || {
            let mut some = [WorkCompletion::EMPTY; 7];
            let taken = provider.poll_completions(queue, &mut some).unwrap();
            all.extend_from_slice(&some[..taken]);
            let last = all.last().is_some_and(|one| one.token == 39);
            last.then(|| std::mem::take(&mut all))
        }
    });
    let tokens: Vec<_> = flushed.iter().map(|one| one.token).collect();
    let mut ordered = tokens.clone();
    ordered.sort_unstable();
    ordered.dedup();
    assert_eq!(tokens, ordered, "in order, each once");
    assert_eq!(flushed.last().unwrap().status, CompletionStatus::Flushed);
    take_down(&target, &host, link);
}

#[test]
#[ignore = "needs an RDMA device"]
fn an_armed_completion_queue_makes_its_descriptor_readable() {
    let (target, host, link) = connected();
    let fd = target.provider.completion_fd(&target.completion_queue).unwrap();
    let readable = || {
        let mut poll = libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&mut poll, 1, 0) == 1 }
    };
    target.provider.take_completion_notifications(&target.completion_queue);
    target.provider.arm_completion_queue(&target.completion_queue).unwrap();
    assert!(!readable());
    host.send();
    patiently("a notification", || readable().then_some(()));
    target.provider.take_completion_notifications(&target.completion_queue);
    assert!(!readable());
    assert_eq!(target.completions(1)[0].kind, CompletionKind::Receive);
    take_down(&target, &host, link);
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_reject_reaches_the_host_with_its_data_and_a_dropped_request_rejects_too() {
    let target = Target::new();
    let host = Host::connect(SocketAddr::new(address(), PORT));
    let request = target.request();
    target.provider.reject(&request.connection, &[0, 0, 6, 0]).unwrap();
    let Answer::Rejected(data) = host.answer() else {
        panic!("not rejected")
    };
    assert_eq!(&data[..4], &[0, 0, 6, 0]);
    drop(request);

    let host = Host::connect(SocketAddr::new(address(), PORT));
    drop(target.request());
    assert!(matches!(host.answer(), Answer::Rejected(_)));
}

#[test]
#[ignore = "needs an RDMA device"]
fn the_host_disconnects_and_the_target_hears_of_it() {
    let (target, host, link) = connected();
    host.disconnect();
    match target.event() {
        ConnectionEvent::Disconnected(CONNECTION) => {}
        other => panic!("not disconnected but {other:?}"),
    }
    let Link {
        mut queue_pair,
        connection,
    } = link;
    target.provider.fail_queue_pair(&mut queue_pair).unwrap();
    drop(queue_pair);
    drop(connection);
}

#[test]
#[ignore = "needs an RDMA device, its interface's name in WEIR_TEST_RDMA_NETDEV, and the right to take it down"]
fn the_link_going_down_and_up_is_told_by_async_events_and_by_the_port() {
    let netdev = std::env::var("WEIR_TEST_RDMA_NETDEV").expect("WEIR_TEST_RDMA_NETDEV is set");
    let set = |state: &str| {
        let mut command = std::process::Command::new("ip");
        let done = command.args(["link", "set", &netdev, state]).status().unwrap();
        assert!(done.success());
    };
    let target = Target::new();
    let wait_for = |wanted: AsyncEvent| {
        patiently("the async event", || {
            let event = target.provider.next_async_event(&target.device)?;
            (event == wanted).then_some(())
        });
    };
    while target.provider.next_async_event(&target.device).is_some() {}
    set("down");
    wait_for(AsyncEvent::PortError);
    assert_eq!(target.provider.port_state(&target.device).unwrap(), PortState::Down);
    set("up");
    wait_for(AsyncEvent::PortActive);
    assert_eq!(target.provider.port_state(&target.device).unwrap(), PortState::Active);
    assert_eq!(target.provider.next_async_event(&target.device), None);
}

const OWN: u64 = 0xc000_0000_0000_0001;

/// A connect of our own, to the moment before its request is sent.
fn resolved(target: &Target) -> VerbsConnectionId {
    let id = target.provider.resolve(SocketAddr::new(address(), PORT), OWN).unwrap();
    match target.event() {
        ConnectionEvent::Resolved(OWN) => id,
        other => panic!("not resolved but {other:?}"),
    }
}

/// The request of a connect of our own, if it arrives within 3 s; what else was heard meanwhile.
fn own_request(target: &Target) -> (Option<Box<ConnectRequest<VerbsProvider>>>, Vec<String>) {
    let began = Instant::now();
    let mut heard = Vec::new();
    while began.elapsed() < Duration::from_secs(3) {
        match target.provider.next_connection_event() {
            Some(ConnectionEvent::Request(request)) => return (Some(request), heard),
            Some(other) => heard.push(format!("{other:?} after {:?}", began.elapsed())),
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    (None, heard)
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_connect_of_our_own_reaches_our_own_listener_and_leaves_nothing_behind() {
    let target = Target::new();
    for _ in 0..50 {
        let id = resolved(&target);
        let began = Instant::now();
        target.provider.connect(&id, b"a probe").unwrap();
        let (request, heard) = own_request(&target);
        let took = began.elapsed();
        let request = request.unwrap_or_else(|| panic!("not seen; heard {heard:?}"));
        assert_eq!((request.listener, request.source.ip()), (LISTENER, address()));
        assert!(
            request.private_data.starts_with(b"a probe"),
            "{:?}",
            request.private_data
        );
        target.provider.reject(&request.connection, &[]).unwrap();
        match target.event() {
            ConnectionEvent::Failed(OWN, 8) => {}
            other => panic!("not rejected but {other:?}"),
        }
        eprintln!("seen after {took:?}");
    }
    let id = resolved(&target);
    target.provider.connect(&id, b"a probe").unwrap();
    let (request, _) = own_request(&target);
    drop(id);
    assert!(request.is_some());
}

/// Leaves the device useless: run it last, then delete and add the device.
#[test]
#[ignore = "needs a soft RDMA device to ruin, WEIR_TEST_RDMA_NETDEV, and the right to take it down"]
fn a_message_while_the_link_is_down_ruins_the_device_and_a_connect_of_our_own_shows_it() {
    let netdev = std::env::var("WEIR_TEST_RDMA_NETDEV").expect("WEIR_TEST_RDMA_NETDEV is set");
    let set = |state: &str| {
        let mut command = std::process::Command::new("ip");
        let done = command.args(["link", "set", &netdev, state]).status().unwrap();
        assert!(done.success());
    };
    let target = Target::new();
    let fatal = resolved(&target);
    set("down");
    patiently("the port going down", || {
        (target.provider.port_state(&target.device).unwrap() == PortState::Down).then_some(())
    });
    eprintln!("connect while down: {:?}", target.provider.connect(&fatal, b"fatal"));
    std::thread::sleep(Duration::from_millis(500));
    set("up");
    patiently("the port coming up", || {
        (target.provider.port_state(&target.device).unwrap() == PortState::Active).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    while let Some(event) = target.provider.next_connection_event() {
        eprintln!("after link-up: {event:?}");
    }
    for attempt in 1..=2 {
        let id = resolved(&target);
        target.provider.connect(&id, b"a probe").unwrap();
        let (request, heard) = own_request(&target);
        eprintln!("attempt {attempt}: seen {}, heard {heard:?}", request.is_some());
        assert!(request.is_none(), "the management queue pair lives");
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn fifty_associations_leave_nothing_behind() {
    for _ in 0..50 {
        let (target, host, link) = connected();
        take_down(&target, &host, link);
    }
    assert_eq!(leaked_objects(), 0);
}

/// The other end, blocking, on its own thread where the connection manager needs it.
mod host {
    use std::cell::Cell;
    use std::net::SocketAddr;
    use std::ptr;
    use std::sync::mpsc::{Receiver, channel};

    use rdma_mummy_sys as sys;

    use super::super::inventory::to_socket_address;
    use super::{PATIENCE, patiently};

    pub const CAPSULE_BYTES: u32 = 64;
    pub const DATA_BYTES: usize = 128 * 1024;
    pub const RESPONDER_RESOURCES: u8 = 8;
    const RECEIVE_OFFSET: usize = DATA_BYTES + 4096;

    #[derive(Debug)]
    pub enum Answer {
        Connected(Vec<u8>),
        Rejected(Vec<u8>),
        Other { event: u32, status: i32 },
    }

    pub struct Received {
        pub bytes: Vec<u8>,
    }

    pub fn parse(capsule: &[u8]) -> (u64, u32) {
        let address = u64::from_le_bytes(capsule[..8].try_into().unwrap());
        let key = u32::from_le_bytes(capsule[8..12].try_into().unwrap());
        (address, key)
    }

    struct Raw {
        channel: *mut sys::rdma_event_channel,
        id: *mut sys::rdma_cm_id,
        pd: *mut sys::ibv_pd,
        cq: *mut sys::ibv_cq,
        mr: *mut sys::ibv_mr,
        memory: *mut u8,
    }

    // SAFETY: used by one thread at a time: the connecting thread hands it over with the answer.
    unsafe impl Send for Raw {}

    pub struct Host {
        raw: Cell<Option<Raw>>,
        answers: Receiver<(Raw, Answer)>,
    }

    fn check(what: &str, code: i32) {
        assert_eq!(code, 0, "{what}: {}", std::io::Error::last_os_error());
    }

    impl Raw {
        /// The next event's kind, status and private data.
        ///
        /// # Safety
        /// The channel is alive.
        unsafe fn event(&self) -> (u32, i32, Vec<u8>) {
            let mut event = ptr::null_mut();
            // SAFETY: the channel is alive by the caller's promise, and an event is valid until acknowledged.
            unsafe {
                check("rdma_get_cm_event", sys::rdma_get_cm_event(self.channel, &mut event));
                let parameters = &(*event).param.conn;
                let data = if parameters.private_data.is_null() {
                    Vec::new()
                } else {
                    let length = usize::from(parameters.private_data_len);
                    std::slice::from_raw_parts(parameters.private_data.cast::<u8>(), length).to_vec()
                };
                let result = ((*event).event, (*event).status, data);
                sys::rdma_ack_cm_event(event);
                result
            }
        }

        /// # Safety
        /// The queue pair exists.
        unsafe fn post_receive(&self) {
            // SAFETY: the memory is registered and larger than this; the queue pair exists by the caller's promise.
            unsafe {
                let mut entry = sys::ibv_sge {
                    addr: self.memory.add(RECEIVE_OFFSET) as u64,
                    length: 4096,
                    lkey: (*self.mr).lkey,
                };
                let mut request = sys::ibv_recv_wr {
                    wr_id: 1,
                    next: ptr::null_mut(),
                    sg_list: &mut entry,
                    num_sge: 1,
                };
                let mut bad = ptr::null_mut();
                let post = (*(*(*self.id).qp).context).ops.post_recv.unwrap();
                check("post_recv", post((*self.id).qp, &mut request, &mut bad));
            }
        }

        fn connect(target: SocketAddr) -> (Self, Answer) {
            use sys::rdma_cm_event_type as kind;
            let bytes = RECEIVE_OFFSET + 8192;
            let memory = crate::provider::Arena::allocate(bytes).unwrap();
            let base = memory.address(0) as *mut u8;
            // The tests' hosts are few: their memory stays.
            std::mem::forget(memory);
            // SAFETY: plain use of librdmacm in its documented order; every pointer comes from the call before.
            unsafe {
                let mut raw = Self {
                    channel: sys::rdma_create_event_channel(),
                    id: ptr::null_mut(),
                    pd: ptr::null_mut(),
                    cq: ptr::null_mut(),
                    mr: ptr::null_mut(),
                    memory: base,
                };
                let space = sys::rdma_port_space::RDMA_PS_TCP;
                let created = sys::rdma_create_id(raw.channel, &mut raw.id, ptr::null_mut(), space);
                check("rdma_create_id", created);
                let mut address = to_socket_address(target);
                let wait_ms = 5000;
                let address = ptr::from_mut(&mut address).cast();
                let resolved = sys::rdma_resolve_addr(raw.id, ptr::null_mut(), address, wait_ms);
                check("rdma_resolve_addr", resolved);
                assert_eq!(raw.event().0, kind::RDMA_CM_EVENT_ADDR_RESOLVED);
                check("rdma_resolve_route", sys::rdma_resolve_route(raw.id, wait_ms));
                assert_eq!(raw.event().0, kind::RDMA_CM_EVENT_ROUTE_RESOLVED);
                let verbs = (*raw.id).verbs;
                raw.pd = sys::ibv_alloc_pd(verbs);
                raw.cq = sys::ibv_create_cq(verbs, 64, ptr::null_mut(), ptr::null_mut(), 0);
                let access = sys::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0
                    | sys::ibv_access_flags::IBV_ACCESS_REMOTE_READ.0
                    | sys::ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0;
                raw.mr = sys::ibv_reg_mr(raw.pd, base.cast(), bytes, access as i32);
                base.write_bytes(0xaa, DATA_BYTES);
                let mut attributes: sys::ibv_qp_init_attr = std::mem::zeroed();
                attributes.send_cq = raw.cq;
                attributes.recv_cq = raw.cq;
                attributes.qp_type = sys::ibv_qp_type::IBV_QPT_RC;
                attributes.cap.max_send_wr = 8;
                attributes.cap.max_recv_wr = 8;
                attributes.cap.max_send_sge = 1;
                attributes.cap.max_recv_sge = 1;
                check("rdma_create_qp", sys::rdma_create_qp(raw.id, raw.pd, &mut attributes));
                let data = [3_u8; 32];
                let mut parameters: sys::rdma_conn_param = std::mem::zeroed();
                parameters.private_data = data.as_ptr().cast();
                parameters.private_data_len = 32;
                parameters.responder_resources = RESPONDER_RESOURCES;
                parameters.retry_count = 7;
                parameters.rnr_retry_count = 7;
                check("rdma_connect", sys::rdma_connect(raw.id, &mut parameters));
                let (event, status, data) = raw.event();
                let answer = match event {
                    kind::RDMA_CM_EVENT_ESTABLISHED => Answer::Connected(data),
                    kind::RDMA_CM_EVENT_REJECTED => Answer::Rejected(data),
                    event => Answer::Other { event, status },
                };
                (raw, answer)
            }
        }
    }

    impl Drop for Raw {
        fn drop(&mut self) {
            // SAFETY: children first; all of them were created by `connect`.
            unsafe {
                sys::rdma_destroy_qp(self.id);
                sys::ibv_destroy_cq(self.cq);
                sys::ibv_dereg_mr(self.mr);
                sys::ibv_dealloc_pd(self.pd);
                sys::rdma_destroy_id(self.id);
                sys::rdma_destroy_event_channel(self.channel);
            }
        }
    }

    impl Host {
        pub fn connect(target: SocketAddr) -> Self {
            let (sender, answers) = channel();
            std::thread::spawn(move || sender.send(Raw::connect(target)));
            Self {
                raw: Cell::new(None),
                answers,
            }
        }

        pub fn answer(&self) -> Answer {
            let (raw, answer) = self.answers.recv_timeout(PATIENCE).expect("an answer to the connect");
            self.raw.set(Some(raw));
            answer
        }

        fn with<R>(&self, action: impl FnOnce(&Raw) -> R) -> R {
            let raw = self.raw.take().expect("answered");
            let result = action(&raw);
            self.raw.set(Some(raw));
            result
        }

        /// Sends a capsule that names the data region, and posts a receive for the answer.
        pub fn send(&self) {
            self.with(|raw| {
                // SAFETY: connected; memory registered and large enough.
                unsafe {
                    raw.post_receive();
                    let capsule = raw.memory.add(DATA_BYTES);
                    capsule.write_bytes(0, CAPSULE_BYTES as usize);
                    let fields = (raw.memory as u64).to_le_bytes();
                    capsule.copy_from_nonoverlapping(fields.as_ptr(), 8);
                    let key = (*raw.mr).rkey.to_le_bytes();
                    capsule.add(8).copy_from_nonoverlapping(key.as_ptr(), 4);
                    let mut entry = sys::ibv_sge {
                        addr: capsule as u64,
                        length: CAPSULE_BYTES,
                        lkey: (*raw.mr).lkey,
                    };
                    let mut request: sys::ibv_send_wr = std::mem::zeroed();
                    request.sg_list = &mut entry;
                    request.num_sge = 1;
                    request.opcode = sys::ibv_wr_opcode::IBV_WR_SEND;
                    let mut bad = ptr::null_mut();
                    check(
                        "ibv_post_send",
                        sys::ibv_post_send((*raw.id).qp, &mut request, &mut bad),
                    );
                }
            });
        }

        pub fn receive(&self) -> Received {
            self.with(|raw| {
                patiently("a capsule at the host", || {
                    // SAFETY: the queue is alive; the entry has room; the bytes are the device's no more.
                    unsafe {
                        let mut entry: sys::ibv_wc = std::mem::zeroed();
                        if sys::ibv_poll_cq(raw.cq, 1, &mut entry) != 1 {
                            return None;
                        }
                        assert_eq!(entry.status, sys::ibv_wc_status::IBV_WC_SUCCESS);
                        let length = entry.byte_len as usize;
                        let start = raw.memory.add(RECEIVE_OFFSET);
                        let bytes = std::slice::from_raw_parts(start, length).to_vec();
                        (entry.opcode == sys::ibv_wc_opcode::IBV_WC_RECV).then_some(Received { bytes })
                    }
                })
            })
        }

        pub fn data(&self) -> Vec<u8> {
            // SAFETY: the data region is registered memory of this process, and the target's writes are complete.
            self.with(|raw| unsafe { std::slice::from_raw_parts(raw.memory, DATA_BYTES).to_vec() })
        }

        pub fn disconnect(&self) {
            // SAFETY: connected.
            self.with(|raw| check("rdma_disconnect", unsafe { sys::rdma_disconnect(raw.id) }));
        }

        /// Waits for the target's disconnect and answers it.
        pub fn answer_disconnect(&self) {
            self.with(|raw| {
                // SAFETY: the channel and the identifier are alive.
                unsafe {
                    assert_eq!(raw.event().0, sys::rdma_cm_event_type::RDMA_CM_EVENT_DISCONNECTED);
                    check("rdma_disconnect", sys::rdma_disconnect(raw.id));
                }
            });
        }
    }
}
