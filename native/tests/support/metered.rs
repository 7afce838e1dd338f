//! A provider around a provider: keeps the inner one's allocations and instructions apart from the engine's.
//!
//! The simulator allocates as it likes; the engine must not. Calls of the hot path are never inlined, so that a profile
//! shows where the engine ends.

use std::net::SocketAddr;
use std::os::fd::RawFd;

use weir_core::provider::{
    AcceptParameters, Arena, AsyncEvent, ConnectParameters, ConnectRequest, ConnectionEvent, DeviceInfo, DeviceLimits,
    MemoryAccess, PortState, Provider, ProviderError, QueuePairParameters, ReceiveWorkRequest, SendWorkRequest,
    WorkCompletion,
};

use super::allocations::uncounted;

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Metered<P: Provider>(pub P);

impl<P: Provider> Provider for Metered<P> {
    type Device = P::Device;
    type ProtectionDomain = P::ProtectionDomain;
    type MemoryRegion = P::MemoryRegion;
    type CompletionQueue = P::CompletionQueue;
    type SharedReceiveQueue = P::SharedReceiveQueue;
    type QueuePair = P::QueuePair;
    type ConnectionId = P::ConnectionId;
    type Listener = P::Listener;

    fn devices(&self) -> Result<Vec<DeviceInfo>, ProviderError> {
        self.0.devices()
    }

    fn open_device(&self, name: &str) -> Result<Self::Device, ProviderError> {
        self.0.open_device(name)
    }

    fn limits(&self, device: &Self::Device) -> Result<DeviceLimits, ProviderError> {
        self.0.limits(device)
    }

    fn port_state(&self, device: &Self::Device) -> Result<PortState, ProviderError> {
        self.0.port_state(device)
    }

    fn active_mtu(&self, device: &Self::Device) -> Result<u32, ProviderError> {
        self.0.active_mtu(device)
    }

    fn async_event_fd(&self, device: &Self::Device) -> Option<RawFd> {
        self.0.async_event_fd(device)
    }

    fn next_async_event(&self, device: &Self::Device) -> Option<AsyncEvent> {
        self.0.next_async_event(device)
    }

    fn allocate_protection_domain(&self, device: &Self::Device) -> Result<Self::ProtectionDomain, ProviderError> {
        self.0.allocate_protection_domain(device)
    }

    fn register_memory(
        &self,
        domain: &Self::ProtectionDomain,
        arena: &Arena,
        offset: usize,
        length: usize,
        access: MemoryAccess,
    ) -> Result<Self::MemoryRegion, ProviderError> {
        self.0.register_memory(domain, arena, offset, length, access)
    }

    fn local_key(&self, region: &Self::MemoryRegion) -> u32 {
        self.0.local_key(region)
    }

    fn create_completion_queue(
        &self,
        device: &Self::Device,
        entries: u32,
    ) -> Result<Self::CompletionQueue, ProviderError> {
        self.0.create_completion_queue(device, entries)
    }

    fn create_shared_receive_queue(
        &self,
        domain: &Self::ProtectionDomain,
        entries: u32,
    ) -> Result<Self::SharedReceiveQueue, ProviderError> {
        self.0.create_shared_receive_queue(domain, entries)
    }

    fn create_queue_pair(
        &self,
        domain: &Self::ProtectionDomain,
        parameters: &QueuePairParameters<'_, Self>,
    ) -> Result<Self::QueuePair, ProviderError> {
        let parameters = QueuePairParameters::<P> {
            completion_queue: parameters.completion_queue,
            shared_receive_queue: parameters.shared_receive_queue,
            send_work_requests_max: parameters.send_work_requests_max,
        };
        self.0.create_queue_pair(domain, &parameters)
    }

    fn queue_pair_number(&self, queue_pair: &Self::QueuePair) -> u32 {
        self.0.queue_pair_number(queue_pair)
    }

    fn ready_queue_pair(
        &self,
        queue_pair: &mut Self::QueuePair,
        connection: &Self::ConnectionId,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        self.0.ready_queue_pair(queue_pair, connection, parameters)
    }

    fn fail_queue_pair(&self, queue_pair: &mut Self::QueuePair) -> Result<(), ProviderError> {
        self.0.fail_queue_pair(queue_pair)
    }

    #[inline(never)]
    fn post_receives(
        &self,
        queue: &Self::SharedReceiveQueue,
        requests: &[ReceiveWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        uncounted(|| self.0.post_receives(queue, requests))
    }

    #[inline(never)]
    fn post_sends(
        &self,
        queue_pair: &mut Self::QueuePair,
        requests: &[SendWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        uncounted(|| self.0.post_sends(queue_pair, requests))
    }

    #[inline(never)]
    fn poll_completions(
        &self,
        queue: &Self::CompletionQueue,
        completions: &mut [WorkCompletion],
    ) -> Result<usize, ProviderError> {
        uncounted(|| self.0.poll_completions(queue, completions))
    }

    fn arm_completion_queue(&self, queue: &Self::CompletionQueue) -> Result<(), ProviderError> {
        self.0.arm_completion_queue(queue)
    }

    fn completion_fd(&self, queue: &Self::CompletionQueue) -> Option<RawFd> {
        self.0.completion_fd(queue)
    }

    fn take_completion_notifications(&self, queue: &Self::CompletionQueue) {
        self.0.take_completion_notifications(queue);
    }

    fn connection_event_fd(&self) -> Option<RawFd> {
        self.0.connection_event_fd()
    }

    fn next_connection_event(&self) -> Option<ConnectionEvent<Self>> {
        Some(match self.0.next_connection_event()? {
            ConnectionEvent::Request(request) => ConnectionEvent::Request(Box::new(ConnectRequest {
                listener: request.listener,
                connection: request.connection,
                device: request.device,
                source: request.source,
                private_data: request.private_data,
                initiator_depth: request.initiator_depth,
                responder_resources: request.responder_resources,
            })),
            ConnectionEvent::Established(token) => ConnectionEvent::Established(token),
            ConnectionEvent::Disconnected(token) => ConnectionEvent::Disconnected(token),
            ConnectionEvent::Failed(token, event) => ConnectionEvent::Failed(token, event),
            ConnectionEvent::Resolved(token) => ConnectionEvent::Resolved(token),
            ConnectionEvent::TimewaitExit(token) => ConnectionEvent::TimewaitExit(token),
            ConnectionEvent::DeviceRemoval(token) => ConnectionEvent::DeviceRemoval(token),
            ConnectionEvent::AddressChange(token) => ConnectionEvent::AddressChange(token),
        })
    }

    fn listen(&self, address: SocketAddr, token: u64, backlog: u32) -> Result<Self::Listener, ProviderError> {
        self.0.listen(address, token, backlog)
    }

    fn listener_device(&self, listener: &Self::Listener) -> Result<String, ProviderError> {
        self.0.listener_device(listener)
    }

    fn set_connection_token(&self, connection: &mut Self::ConnectionId, token: u64) {
        self.0.set_connection_token(connection, token);
    }

    fn accept(
        &self,
        connection: &Self::ConnectionId,
        queue_pair_number: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        self.0.accept(connection, queue_pair_number, parameters)
    }

    fn reject(&self, connection: &Self::ConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        self.0.reject(connection, private_data)
    }

    fn disconnect(&self, connection: &Self::ConnectionId) -> Result<(), ProviderError> {
        self.0.disconnect(connection)
    }

    fn resolve(&self, own: SocketAddr, token: u64) -> Result<Self::ConnectionId, ProviderError> {
        self.0.resolve(own, token)
    }

    fn connect(&self, connection: &Self::ConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        self.0.connect(connection, private_data)
    }
}
