//! libibverbs and librdmacm.
//!
//! The libraries are loaded when the process starts, if they are there; without them, or without an RDMA device, every
//! call fails with an error that says what is missing, and nothing else.
//!
//! How the C world is kept in order:
//! - Each verbs object is a value that holds its parents, and is destroyed when dropped. When the kernel refuses a
//!   destruction, the parents, memory included, are kept for ever ([`leaked_objects`]).
//! - Queue pairs are ours, not the identifiers': retry counts, timeouts and the error transition are in our hands.
//! - Events of all three kinds are acknowledged by the call that takes them.
//! - Async events belong to the device, not to a handle: whoever opens a device twice must read them in one place.
//! - Posting and polling use arrays on the stack, [`CHAIN_MAX`] entries per call to the device.

mod connection;
mod device;
#[cfg(test)]
mod device_tests;
mod error;
mod inventory;
mod queues;

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

pub use connection::{VerbsConnectionId, VerbsListener};
pub use device::{VerbsDevice, VerbsMemoryRegion, VerbsProtectionDomain, leaked_objects};
pub use queues::{CHAIN_MAX, VerbsCompletionQueue, VerbsQueuePair, VerbsSharedReceiveQueue};

use self::connection::LazyChannel;
use super::{
    AcceptParameters, Arena, AsyncEvent, ConnectParameters, ConnectionEvent, DeviceInfo, DeviceLimits, MemoryAccess,
    PortState, Provider, ProviderError, QueuePairParameters, ReceiveWorkRequest, SendWorkRequest, WorkCompletion,
};

/// RDMA by the system's libraries. Clones share one connection manager event channel.
///
/// The channel is opened by the first call that needs it, so a machine whose RDMA device appears later works without a
/// restart: until then [`Provider::connection_event_fd`] is `None`, and has to be asked again.
#[derive(Debug, Clone, Default)]
pub struct VerbsProvider {
    channel: Arc<LazyChannel>,
}

impl VerbsProvider {
    /// A provider; does not touch the system yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Provider for VerbsProvider {
    type Device = VerbsDevice;
    type ProtectionDomain = VerbsProtectionDomain;
    type MemoryRegion = VerbsMemoryRegion;
    type CompletionQueue = VerbsCompletionQueue;
    type SharedReceiveQueue = VerbsSharedReceiveQueue;
    type QueuePair = VerbsQueuePair;
    type ConnectionId = VerbsConnectionId;
    type Listener = VerbsListener;

    fn leaked_objects(&self) -> u64 {
        leaked_objects()
    }

    fn devices(&self) -> Result<Vec<DeviceInfo>, ProviderError> {
        inventory::devices()
    }

    fn open_device(&self, name: &str) -> Result<VerbsDevice, ProviderError> {
        VerbsDevice::open(name)
    }

    fn limits(&self, device: &VerbsDevice) -> Result<DeviceLimits, ProviderError> {
        device.limits()
    }

    fn port_state(&self, device: &VerbsDevice) -> Result<PortState, ProviderError> {
        device.port_state()
    }

    fn active_mtu(&self, device: &VerbsDevice) -> Result<u32, ProviderError> {
        device.active_mtu()
    }

    fn async_event_fd(&self, device: &VerbsDevice) -> Option<RawFd> {
        Some(device.async_event_fd())
    }

    fn next_async_event(&self, device: &VerbsDevice) -> Option<AsyncEvent> {
        device.next_async_event()
    }

    fn allocate_protection_domain(&self, device: &VerbsDevice) -> Result<VerbsProtectionDomain, ProviderError> {
        VerbsProtectionDomain::allocate(device)
    }

    fn register_memory(
        &self,
        domain: &VerbsProtectionDomain,
        arena: &Arena,
        offset: usize,
        length: usize,
        access: MemoryAccess,
    ) -> Result<VerbsMemoryRegion, ProviderError> {
        VerbsMemoryRegion::register(domain, arena, offset, length, access)
    }

    fn local_key(&self, region: &VerbsMemoryRegion) -> u32 {
        region.local_key()
    }

    fn create_completion_queue(
        &self,
        device: &VerbsDevice,
        entries: u32,
    ) -> Result<VerbsCompletionQueue, ProviderError> {
        VerbsCompletionQueue::create(device, entries)
    }

    fn create_shared_receive_queue(
        &self,
        domain: &VerbsProtectionDomain,
        entries: u32,
    ) -> Result<VerbsSharedReceiveQueue, ProviderError> {
        VerbsSharedReceiveQueue::create(domain, entries)
    }

    fn create_queue_pair(
        &self,
        domain: &VerbsProtectionDomain,
        parameters: &QueuePairParameters<'_, Self>,
    ) -> Result<VerbsQueuePair, ProviderError> {
        VerbsQueuePair::create(
            domain,
            parameters.completion_queue,
            parameters.shared_receive_queue,
            parameters.send_work_requests_max,
        )
    }

    fn queue_pair_number(&self, queue_pair: &VerbsQueuePair) -> u32 {
        queue_pair.number()
    }

    fn ready_queue_pair(
        &self,
        queue_pair: &mut VerbsQueuePair,
        connection: &VerbsConnectionId,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        queue_pair.ready(connection, parameters)
    }

    fn fail_queue_pair(&self, queue_pair: &mut VerbsQueuePair) -> Result<(), ProviderError> {
        queue_pair.fail()
    }

    fn post_receives(
        &self,
        queue: &VerbsSharedReceiveQueue,
        requests: &[ReceiveWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        queue.post(requests)
    }

    fn post_sends(
        &self,
        queue_pair: &mut VerbsQueuePair,
        requests: &[SendWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        queue_pair.post(requests)
    }

    fn poll_completions(
        &self,
        queue: &VerbsCompletionQueue,
        completions: &mut [WorkCompletion],
    ) -> Result<usize, ProviderError> {
        queue.poll(completions)
    }

    fn arm_completion_queue(&self, queue: &VerbsCompletionQueue) -> Result<(), ProviderError> {
        queue.arm()
    }

    fn completion_fd(&self, queue: &VerbsCompletionQueue) -> Option<RawFd> {
        Some(queue.fd())
    }

    fn take_completion_notifications(&self, queue: &VerbsCompletionQueue) {
        queue.take_notifications();
    }

    fn connection_event_fd(&self) -> Option<RawFd> {
        self.channel.get().ok().map(|channel| channel.fd())
    }

    fn next_connection_event(&self) -> Option<ConnectionEvent<Self>> {
        self.channel.get().ok()?.next()
    }

    fn listen(&self, address: SocketAddr, token: u64, backlog: u32) -> Result<VerbsListener, ProviderError> {
        self.channel.get()?.listen(address, token, backlog)
    }

    fn listener_device(&self, listener: &VerbsListener) -> Result<String, ProviderError> {
        listener.device()
    }

    fn set_connection_token(&self, connection: &mut VerbsConnectionId, token: u64) {
        connection.set_token(token);
    }

    fn accept(
        &self,
        connection: &VerbsConnectionId,
        queue_pair_number: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        connection.accept(queue_pair_number, parameters)
    }

    fn reject(&self, connection: &VerbsConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        connection.reject(private_data)
    }

    fn disconnect(&self, connection: &VerbsConnectionId) -> Result<(), ProviderError> {
        connection.disconnect()
    }

    fn resolve(&self, own: SocketAddr, token: u64) -> Result<VerbsConnectionId, ProviderError> {
        self.channel.get()?.resolve(own, token)
    }

    fn connect(&self, connection: &VerbsConnectionId, private_data: &[u8]) -> Result<(), ProviderError> {
        connection.connect(private_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs only where there is no RDMA device, which is where these errors matter.
    fn without_rdma() -> Option<VerbsProvider> {
        let provider = VerbsProvider::new();
        match provider.devices() {
            Ok(devices) if !devices.is_empty() => None,
            _ => Some(provider),
        }
    }

    #[test]
    fn without_rdma_every_entry_point_says_what_is_missing() {
        let Some(provider) = without_rdma() else { return };
        let mut errors = vec![
            provider.open_device("rxe0").unwrap_err(),
            provider.listen("127.0.0.1:4420".parse().unwrap(), 1, 1).unwrap_err(),
        ];
        errors.extend(provider.devices().err());
        for error in errors {
            assert!(error.message.contains("RDMA"), "{error}");
            assert_ne!(error.errno, 0, "{error}");
        }
        assert!(provider.connection_event_fd().is_none());
        assert!(provider.next_connection_event().is_none());
    }
}
