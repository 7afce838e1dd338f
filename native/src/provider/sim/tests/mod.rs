//! A small target and its hosts, for the simulator's own tests.

use std::net::SocketAddr;

mod exchange;
mod faults;
mod oracle;
mod soak;

use super::*;
use crate::provider::{
    AcceptParameters, Arena, AsyncEvent, CompletionKind, CompletionStatus, ConnectParameters, ConnectionEvent,
    DEFAULT_CONNECT_RETRY, MemoryAccess, PortState, Provider, QueuePairParameters, ReceiveWorkRequest, SendOperation,
    SendWorkRequest, Sge, WorkCompletion,
};

const CAPSULE_BYTES: u32 = 4160;
const RECEIVES: u32 = 4;

fn address() -> SocketAddr {
    "10.9.0.1:4420".parse().unwrap()
}

/// A target with everything posted. Field order is destruction order.
struct Target {
    listener: SimListener,
    receive_queue: SimSharedReceiveQueue,
    completion_queue: SimCompletionQueue,
    region: SimMemoryRegion,
    domain: SimProtectionDomain,
    device: SimDevice,
    arena: Arena,
    provider: SimProvider,
}

struct Link {
    queue_pair: SimQueuePair,
    connection: SimConnectionId,
}

fn target_in(world: &SimWorld) -> (Target, SimHost) {
    world.add_device(SimDeviceSpec::new("rxe0", "rdma0", address().ip()));
    let provider = world.provider();
    let device = provider.open_device("rxe0").unwrap();
    let domain = provider.allocate_protection_domain(&device).unwrap();
    let arena = Arena::allocate(1 << 20).unwrap();
    let region = provider
        .register_memory(&domain, &arena, 0, 1 << 20, MemoryAccess::Local)
        .unwrap();
    let completion_queue = provider.create_completion_queue(&device, 64).unwrap();
    let receive_queue = provider.create_shared_receive_queue(&domain, 16).unwrap();
    let listener = provider.listen(address(), 7, 8).unwrap();
    let target = Target {
        listener,
        receive_queue,
        completion_queue,
        region,
        domain,
        device,
        arena,
        provider,
    };
    for index in 0..RECEIVES {
        target.post_receive(index);
    }
    let host = world.add_host("10.9.0.2".parse().unwrap());
    (target, host)
}

impl Target {
    fn sge(&self, offset: usize, length: u32) -> Sge {
        Sge {
            address: self.arena.address(offset),
            length,
            local_key: self.provider.local_key(&self.region),
        }
    }

    fn post_receive(&self, index: u32) {
        let request = ReceiveWorkRequest {
            token: u64::from(index),
            sge: self.sge(index as usize * 8192, CAPSULE_BYTES),
        };
        self.provider.post_receives(&self.receive_queue, &[request]).unwrap();
    }

    fn parameters(&self) -> ConnectParameters {
        ConnectParameters {
            initiator_depth: 16,
            ..DEFAULT_CONNECT_RETRY
        }
    }

    fn answer_request(&self, token: u64) -> Link {
        let Some(ConnectionEvent::Request(request)) = self.provider.next_connection_event() else {
            panic!("no request");
        };
        assert_eq!(request.listener, 7);
        let mut connection = request.connection;
        self.provider.set_connection_token(&mut connection, token);
        let parameters = QueuePairParameters {
            completion_queue: &self.completion_queue,
            shared_receive_queue: &self.receive_queue,
            send_work_requests_max: 16,
        };
        let mut queue_pair = self.provider.create_queue_pair(&self.domain, &parameters).unwrap();
        self.provider
            .ready_queue_pair(&mut queue_pair, &connection, &self.parameters())
            .unwrap();
        let accept = AcceptParameters {
            connect: self.parameters(),
            private_data: &[9; 32],
        };
        self.provider
            .accept(&connection, self.provider.queue_pair_number(&queue_pair), &accept)
            .unwrap();
        Link { queue_pair, connection }
    }

    fn poll(&self) -> Vec<WorkCompletion> {
        let mut all = Vec::new();
        let mut some = [WorkCompletion::EMPTY; 8];
        loop {
            let count = self
                .provider
                .poll_completions(&self.completion_queue, &mut some)
                .unwrap();
            if count == 0 {
                return all;
            }
            all.extend_from_slice(&some[..count]);
        }
    }

    #[allow(clippy::mut_from_ref)]
    fn bytes(&self, offset: usize, length: usize) -> &mut [u8] {
        // SAFETY: tests run in one thread, and each looks only at memory it owns by the rules under test.
        unsafe { self.arena.slice(offset, length) }
    }
}

fn connected(sim: &SimWorld) -> (Target, SimHost, HostConnection, Link) {
    let (target, host) = target_in(sim);
    let connection = host.connect(address(), &[1; 32]);
    sim.run_until_idle();
    let link = target.answer_request(42);
    sim.run_until_idle();
    assert_eq!(host.outcome(connection), ConnectOutcome::Accepted(vec![9; 32]));
    assert!(matches!(
        target.provider.next_connection_event(),
        Some(ConnectionEvent::Established(42))
    ));
    (target, host, connection, link)
}

fn send(token: u64, operation: SendOperation, sge: Sge, signaled: bool) -> SendWorkRequest {
    SendWorkRequest {
        token,
        operation,
        sge,
        signaled,
    }
}

/// Takes a link down as the engine must: fail, reap all, destroy, disconnect, drop.
fn take_down(sim: &SimWorld, target: &Target, link: Link) {
    let Link {
        mut queue_pair,
        connection,
    } = link;
    target.provider.fail_queue_pair(&mut queue_pair).unwrap();
    sim.run_until_idle();
    target.poll();
    drop(queue_pair);
    let _ = target.provider.disconnect(&connection);
    sim.run_until_idle();
}
