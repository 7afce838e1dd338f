//! A provider around a provider: keeps the inner one's allocations and instructions apart from the engine's.
//!
//! The simulator allocates as it likes; the engine must not. Calls are never inlined, so that a profile shows where the
//! engine ends.

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

    #[inline(never)]
    fn devices(&self) -> Result<Vec<DeviceInfo>, ProviderError> {
        self.0.devices()
    }

    #[inline(never)]
    fn open_device(&self, name: &str) -> Result<Self::Device, ProviderError> {
        self.0.open_device(name)
    }

    #[inline(never)]
    fn limits(&self, device: &Self::Device) -> Result<DeviceLimits, ProviderError> {
        self.0.limits(device)
    }

    #[inline(never)]
    fn port_state(&self, device: &Self::Device) -> Result<PortState, ProviderError> {
        self.0.port_state(device)
    }

    #[inline(never)]
    fn active_mtu(&self, device: &Self::Device) -> Result<u32, ProviderError> {
        self.0.active_mtu(device)
    }

    #[inline(never)]
    fn async_event_fd(&self, device: &Self::Device) -> Option<RawFd> {
        self.0.async_event_fd(device)
    }

    #[inline(never)]
    fn next_async_event(&self, device: &Self::Device) -> Option<AsyncEvent> {
        self.0.next_async_event(device)
    }

    #[inline(never)]
    fn allocate_protection_domain(&self, device: &Self::Device) -> Result<Self::ProtectionDomain, ProviderError> {
        self.0.allocate_protection_domain(device)
    }

    #[inline(never)]
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

    #[inline(never)]
    fn local_key(&self, region: &Self::MemoryRegion) -> u32 {
        self.0.local_key(region)
    }

    #[inline(never)]
    fn create_completion_queue(
        &self,
        device: &Self::Device,
        entries: u32,
    ) -> Result<Self::CompletionQueue, ProviderError> {
        self.0.create_completion_queue(device, entries)
    }

    #[inline(never)]
    fn create_shared_receive_queue(
        &self,
        domain: &Self::ProtectionDomain,
        entries: u32,
    ) -> Result<Self::SharedReceiveQueue, ProviderError> {
        self.0.create_shared_receive_queue(domain, entries)
    }

    #[inline(never)]
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

    #[inline(never)]
    fn queue_pair_number(&self, queue_pair: &Self::QueuePair) -> u32 {
        self.0.queue_pair_number(queue_pair)
    }

    #[inline(never)]
    fn ready_queue_pair(
        &self,
        queue_pair: &mut Self::QueuePair,
        connection: &Self::ConnectionId,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        self.0.ready_queue_pair(queue_pair, connection, parameters)
    }

    #[inline(never)]
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

    #[inline(never)]
    fn arm_completion_queue(&self, queue: &Self::CompletionQueue) -> Result<(), ProviderError> {
        self.0.arm_completion_queue(queue)
    }

    #[inline(never)]
    fn completion_fd(&self, queue: &Self::CompletionQueue) -> Option<RawFd> {
        self.0.completion_fd(queue)
    }

    #[inline(never)]
    fn take_completion_notifications(&self, queue: &Self::CompletionQueue) {
        self.0.take_completion_notifications(queue);
    }

    #[inline(never)]
    fn connection_event_fd(&self) -> Option<RawFd> {
        self.0.connection_event_fd()
    }

    #[inline(never)]
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

    #[inline(never)]
    fn listen(&self, address: SocketAddr, token: u64, backlog: u32) -> Result<Self::Listener, ProviderError> {
        self.0.listen(address, token, backlog)
    }

    #[inline(never)]
    fn listener_device(&self, listener: &Self::Listener) -> Result<String, ProviderError> {
        self.0.listener_device(listener)
    }

    #[inline(never)]
    fn set_connection_token(&self, connection: &mut Self::ConnectionId, token: u64) {
        self.0.set_connection_token(connection, token);
    }

    #[inline(never)]
    fn accept(
        &self,
        connection: &Self::ConnectionId,
        queue_pair_number: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        self.0.accept(connection, queue_pair_number, parameters)
    }

    #[inline(never)]
    fn reject(&self, connection: &Self::ConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        self.0.reject(connection, private_data)
    }

    #[inline(never)]
    fn disconnect(&self, connection: &Self::ConnectionId) -> Result<(), ProviderError> {
        self.0.disconnect(connection)
    }

    #[inline(never)]
    fn resolve(&self, own: SocketAddr, token: u64) -> Result<Self::ConnectionId, ProviderError> {
        self.0.resolve(own, token)
    }

    #[inline(never)]
    fn connect(&self, connection: &Self::ConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        self.0.connect(connection, private_data)
    }
}
