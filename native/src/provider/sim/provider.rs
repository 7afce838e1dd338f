//! [`Provider`] over a world: handles that destroy their object when dropped, and nothing else.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use super::connection::QueuedEvent;
use super::descriptor::Signal;
use super::faults::FaultPoint;
use super::world::{SimWorld, World};
use crate::provider::{
    AcceptParameters, Arena, AsyncEvent, ConnectParameters, ConnectRequest, ConnectionEvent, DeviceInfo, DeviceLimits,
    MemoryAccess, PortState, Provider, ProviderError, QueuePairParameters, ReceiveWorkRequest, SendWorkRequest,
    WorkCompletion,
};

/// The engine's side of a [`SimWorld`].
#[derive(Debug, Clone)]
pub struct SimProvider {
    world: SimWorld,
}

impl SimProvider {
    pub(super) fn new(world: SimWorld) -> Self {
        Self { world }
    }
}

struct DeviceHandle {
    world: SimWorld,
    process: u64,
    key: u64,
}

impl DeviceHandle {
    /// Destroys an object of this device, if the process it belonged to still lives.
    fn destroy(&self, action: impl FnOnce(&mut World)) {
        in_process(&self.world, self.process, action);
    }
}

/// Handles are shown by what the world knows their objects by; what an object belongs to is shown with the world.
macro_rules! shown_by {
    ($($handle:ident: $name:ident = $of:expr;)*) => {
        $(impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let of: fn(&Self) -> u64 = $of;
                f.debug_struct(stringify!($handle)).field(stringify!($name), &of(self)).finish()
            }
        })*
    };
}

shown_by! {
    SimDevice: key = |device| device.0.key;
    SimProtectionDomain: key = |domain| domain.0.key;
    SimMemoryRegion: key = |region| region.key.into();
    SimCompletionQueue: key = |queue| queue.0.key;
    SimSharedReceiveQueue: key = |queue| queue.0.key;
    SimQueuePair: number = |pair| pair.number.into();
    SimConnectionId: key = |identifier| identifier.key;
}

/// What a process did not destroy itself before it was killed, the kernel has destroyed.
fn in_process(world: &SimWorld, process: u64, action: impl FnOnce(&mut World)) {
    world.with(|world| {
        if world.process == process {
            action(world);
        }
    });
}

impl Drop for DeviceHandle {
    fn drop(&mut self) {
        self.destroy(|world| world.close_device(self.key));
    }
}

/// An open device.
#[derive(Clone)]
pub struct SimDevice(Arc<DeviceHandle>);

struct DomainHandle {
    device: SimDevice,
    key: u64,
}

impl Drop for DomainHandle {
    fn drop(&mut self) {
        self.device.0.destroy(|world| world.free_domain(self.key));
    }
}

/// A protection domain.
#[derive(Clone)]
pub struct SimProtectionDomain(Arc<DomainHandle>);

impl SimProtectionDomain {
    fn destroy(&self, action: impl FnOnce(&mut World)) {
        self.0.device.0.destroy(action);
    }
}

/// A registered memory region.
pub struct SimMemoryRegion {
    domain: SimProtectionDomain,
    key: u32,
}

impl Drop for SimMemoryRegion {
    fn drop(&mut self) {
        self.domain.destroy(|world| world.deregister(self.key));
    }
}

struct CompletionQueueHandle {
    device: SimDevice,
    key: u64,
}

impl Drop for CompletionQueueHandle {
    fn drop(&mut self) {
        self.device.0.destroy(|world| world.destroy_completion_queue(self.key));
    }
}

/// A completion queue.
#[derive(Clone)]
pub struct SimCompletionQueue(Arc<CompletionQueueHandle>);

struct ReceiveQueueHandle {
    domain: SimProtectionDomain,
    key: u64,
}

impl Drop for ReceiveQueueHandle {
    fn drop(&mut self) {
        self.domain.destroy(|world| world.destroy_receive_queue(self.key));
    }
}

/// A shared receive queue.
#[derive(Clone)]
pub struct SimSharedReceiveQueue(Arc<ReceiveQueueHandle>);

/// A queue pair.
pub struct SimQueuePair {
    number: u32,
    domain: SimProtectionDomain,
    _completion_queue: SimCompletionQueue,
    _receive_queue: SimSharedReceiveQueue,
}

impl Drop for SimQueuePair {
    fn drop(&mut self) {
        self.domain.destroy(|world| world.destroy_queue_pair(self.number));
    }
}

/// A connection manager identifier.
pub struct SimConnectionId {
    world: SimWorld,
    process: u64,
    key: u64,
}

impl Drop for SimConnectionId {
    fn drop(&mut self) {
        in_process(&self.world, self.process, |world| {
            if world.initiators.contains_key(&self.key) {
                world.drop_initiator(self.key);
            } else {
                world.drop_identifier(self.key);
            }
        });
    }
}

/// A listening identifier.
#[derive(Debug)]
pub struct SimListener {
    world: SimWorld,
    process: u64,
    key: u64,
}

impl Drop for SimListener {
    fn drop(&mut self) {
        in_process(&self.world, self.process, |world| world.stop_listening(self.key));
    }
}

impl Provider for SimProvider {
    type Device = SimDevice;
    type ProtectionDomain = SimProtectionDomain;
    type MemoryRegion = SimMemoryRegion;
    type CompletionQueue = SimCompletionQueue;
    type SharedReceiveQueue = SimSharedReceiveQueue;
    type QueuePair = SimQueuePair;
    type ConnectionId = SimConnectionId;
    type Listener = SimListener;

    fn devices(&self) -> Result<Vec<DeviceInfo>, ProviderError> {
        self.world.with(|world| {
            world.faults.check(FaultPoint::ListDevices)?;
            Ok(world.device_list())
        })
    }

    fn open_device(&self, name: &str) -> Result<SimDevice, ProviderError> {
        let (key, process) = self.world.with(|world| Ok((world.open_device(name)?, world.process)))?;
        Ok(SimDevice(Arc::new(DeviceHandle {
            world: self.world.clone(),
            process,
            key,
        })))
    }

    fn limits(&self, device: &SimDevice) -> Result<DeviceLimits, ProviderError> {
        self.world.with(|world| {
            world.check_device(device.0.key, "ibv_query_device")?;
            Ok(world.device(device.0.key).spec.limits)
        })
    }

    fn port_state(&self, device: &SimDevice) -> Result<PortState, ProviderError> {
        self.world.with(|world| world.port_state(device.0.key))
    }

    fn active_mtu(&self, device: &SimDevice) -> Result<u32, ProviderError> {
        self.world.with(|world| {
            world.check_device(device.0.key, "ibv_query_port")?;
            Ok(world.device(device.0.key).mtu)
        })
    }

    fn async_event_fd(&self, device: &SimDevice) -> Option<RawFd> {
        self.world.with(|world| {
            let signal = world.device(device.0.key).async_signal.as_ref();
            signal.map(Signal::fd)
        })
    }

    fn next_async_event(&self, device: &SimDevice) -> Option<AsyncEvent> {
        self.world
            .with(|world| world.device_mut(device.0.key).take_async_event())
    }

    fn allocate_protection_domain(&self, device: &SimDevice) -> Result<SimProtectionDomain, ProviderError> {
        let key = self.world.with(|world| world.allocate_domain(device.0.key))?;
        Ok(SimProtectionDomain(Arc::new(DomainHandle {
            device: device.clone(),
            key,
        })))
    }

    fn register_memory(
        &self,
        domain: &SimProtectionDomain,
        arena: &Arena,
        offset: usize,
        length: usize,
        access: MemoryAccess,
    ) -> Result<SimMemoryRegion, ProviderError> {
        let MemoryAccess::Local = access;
        let key = self
            .world
            .with(|world| world.register(domain.0.key, arena, offset, length))?;
        Ok(SimMemoryRegion {
            domain: domain.clone(),
            key,
        })
    }

    fn local_key(&self, region: &SimMemoryRegion) -> u32 {
        region.key
    }

    fn create_completion_queue(&self, device: &SimDevice, entries: u32) -> Result<SimCompletionQueue, ProviderError> {
        let key = self
            .world
            .with(|world| world.create_completion_queue(device.0.key, entries))?;
        Ok(SimCompletionQueue(Arc::new(CompletionQueueHandle {
            device: device.clone(),
            key,
        })))
    }

    fn create_shared_receive_queue(
        &self,
        domain: &SimProtectionDomain,
        entries: u32,
    ) -> Result<SimSharedReceiveQueue, ProviderError> {
        let key = self
            .world
            .with(|world| world.create_receive_queue(domain.0.key, entries))?;
        Ok(SimSharedReceiveQueue(Arc::new(ReceiveQueueHandle {
            domain: domain.clone(),
            key,
        })))
    }

    fn create_queue_pair(
        &self,
        domain: &SimProtectionDomain,
        parameters: &QueuePairParameters<'_, Self>,
    ) -> Result<SimQueuePair, ProviderError> {
        let (completion_queue, receive_queue) = (parameters.completion_queue, parameters.shared_receive_queue);
        let depth = parameters.send_work_requests_max;
        let number = self
            .world
            .with(|world| world.create_queue_pair(domain.0.key, completion_queue.0.key, receive_queue.0.key, depth))?;
        Ok(SimQueuePair {
            number,
            domain: domain.clone(),
            _completion_queue: completion_queue.clone(),
            _receive_queue: receive_queue.clone(),
        })
    }

    fn queue_pair_number(&self, queue_pair: &SimQueuePair) -> u32 {
        queue_pair.number
    }

    fn ready_queue_pair(
        &self,
        queue_pair: &mut SimQueuePair,
        connection: &SimConnectionId,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        self.world
            .with(|world| world.ready_queue_pair(queue_pair.number, connection.key, parameters))
    }

    fn fail_queue_pair(&self, queue_pair: &mut SimQueuePair) -> Result<(), ProviderError> {
        self.world.with(|world| world.fail_queue_pair(queue_pair.number));
        Ok(())
    }

    fn post_receives(
        &self,
        queue: &SimSharedReceiveQueue,
        requests: &[ReceiveWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        self.world.with(|world| world.post_receives(queue.0.key, requests))
    }

    fn post_sends(
        &self,
        queue_pair: &mut SimQueuePair,
        requests: &[SendWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        self.world.with(|world| world.post_sends(queue_pair.number, requests))
    }

    fn poll_completions(
        &self,
        queue: &SimCompletionQueue,
        completions: &mut [WorkCompletion],
    ) -> Result<usize, ProviderError> {
        self.world.with(|world| world.poll(queue.0.key, completions))
    }

    fn arm_completion_queue(&self, queue: &SimCompletionQueue) -> Result<(), ProviderError> {
        self.world.with(|world| {
            let queue = world.completion_queues.get_mut(&queue.0.key);
            queue.expect("a handle keeps its object").armed = true;
        });
        Ok(())
    }

    fn completion_fd(&self, queue: &SimCompletionQueue) -> Option<RawFd> {
        self.world.with(|world| {
            let signal = world.completion_queues[&queue.0.key].signal.as_ref();
            signal.map(Signal::fd)
        })
    }

    fn take_completion_notifications(&self, queue: &SimCompletionQueue) {
        self.world.with(|world| {
            if let Some(signal) = &world.completion_queues[&queue.0.key].signal {
                signal.clear();
            }
        });
    }

    fn connection_event_fd(&self) -> Option<RawFd> {
        self.world.with(|world| world.event_signal.as_ref().map(Signal::fd))
    }

    fn next_connection_event(&self) -> Option<ConnectionEvent<Self>> {
        self.world.with(|world| {
            let event = world.next_event()?;
            let token = |key: u64| world.connections[&key].token;
            Some(match event {
                QueuedEvent::Request(key) => {
                    let connection = &world.connections[&key];
                    let listener = connection.listener.and_then(|listener| world.listeners.get(&listener));
                    ConnectionEvent::Request(Box::new(ConnectRequest {
                        listener: listener.map_or(0, |listener| listener.token),
                        connection: SimConnectionId {
                            world: self.world.clone(),
                            process: world.process,
                            key,
                        },
                        device: world.device(connection.device).spec.name.clone(),
                        source: connection.source,
                        private_data: connection.request_data.clone(),
                        initiator_depth: connection.host_responder_resources,
                        responder_resources: connection.host_initiator_depth,
                    }))
                }
                QueuedEvent::Established(key) => ConnectionEvent::Established(token(key)),
                QueuedEvent::Disconnected(key) => ConnectionEvent::Disconnected(token(key)),
                QueuedEvent::Failed(key, number) => ConnectionEvent::Failed(token(key), number),
                QueuedEvent::TimewaitExit(key) => ConnectionEvent::TimewaitExit(token(key)),
                QueuedEvent::ConnectionRemoval(key) => ConnectionEvent::DeviceRemoval(token(key)),
                QueuedEvent::ListenerRemoval(key) => ConnectionEvent::DeviceRemoval(world.listeners[&key].token),
                QueuedEvent::AddressChange(key) => ConnectionEvent::AddressChange(token(key)),
                QueuedEvent::Resolved(key) => ConnectionEvent::Resolved(world.initiators[&key].token),
                QueuedEvent::InitiatorFailed(key, number) => {
                    ConnectionEvent::Failed(world.initiators[&key].token, number)
                }
                QueuedEvent::InitiatorRemoval(key) => ConnectionEvent::DeviceRemoval(world.initiators[&key].token),
            })
        })
    }

    fn listen(&self, address: SocketAddr, token: u64, backlog: u32) -> Result<SimListener, ProviderError> {
        let (key, process) = self
            .world
            .with(|world| Ok((world.listen(address, token, backlog)?, world.process)))?;
        Ok(SimListener {
            world: self.world.clone(),
            process,
            key,
        })
    }

    fn listener_device(&self, listener: &SimListener) -> Result<String, ProviderError> {
        self.world.with(|world| {
            let device = world.listeners[&listener.key].device;
            world.check_device(device, "rdma_bind_addr")?;
            Ok(world.device(device).spec.name.clone())
        })
    }

    fn set_connection_token(&self, connection: &mut SimConnectionId, token: u64) {
        self.world
            .with(|world| world.connection_mut(connection.key).token = token);
    }

    fn accept(
        &self,
        connection: &SimConnectionId,
        queue_pair_number: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        self.world
            .with(|world| world.accept(connection.key, queue_pair_number, parameters))
    }

    fn reject(&self, connection: &SimConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        self.world.with(|world| world.reject(connection.key, private_data))
    }

    fn disconnect(&self, connection: &SimConnectionId) -> Result<(), ProviderError> {
        self.world.with(|world| world.disconnect(connection.key))
    }

    fn resolve(&self, own: SocketAddr, token: u64) -> Result<SimConnectionId, ProviderError> {
        let (key, process) = self
            .world
            .with(|world| Ok((world.resolve(own, token)?, world.process)))?;
        Ok(SimConnectionId {
            world: self.world.clone(),
            process,
            key,
        })
    }

    fn connect(&self, connection: &SimConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        self.world.with(|world| world.connect_own(connection.key, private_data))
    }
}
