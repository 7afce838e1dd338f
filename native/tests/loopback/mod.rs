//! A device without a network: what is posted completes at once, capsules are put into posted receives by the test.
//! It allocates nothing after it was made, so that what a poller allocates can be counted.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use weir_core::provider::{
    AcceptParameters, Arena, AsyncEvent, CompletionKind, CompletionStatus, ConnectParameters, ConnectionEvent,
    DeviceInfo, DeviceLimits, MemoryAccess, PortState, Provider, ProviderError, QueuePairParameters,
    ReceiveWorkRequest, SendOperation, SendWorkRequest, WorkCompletion,
};

/// Room for everything that can be posted at once.
const ROOM: usize = 4096;

#[derive(Debug, Default)]
struct Wire {
    receives: VecDeque<ReceiveWorkRequest>,
    completions: VecDeque<WorkCompletion>,
    responses: u64,
    last_response: [u8; 16],
}

/// The device.
#[derive(Debug, Clone)]
pub struct Loopback(Arc<Mutex<Wire>>);

/// A queue pair: its number.
#[derive(Debug)]
pub struct LoopbackQueuePair(pub u32);

/// A registration keeps its memory.
#[derive(Debug)]
pub struct LoopbackRegion(#[expect(dead_code, reason = "held, not read")] Arena);

impl Loopback {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Wire {
            receives: VecDeque::with_capacity(ROOM),
            completions: VecDeque::with_capacity(ROOM),
            ..Wire::default()
        })))
    }

    /// A capsule arrives on a queue pair.
    pub fn deliver(&self, queue_pair_number: u32, command: &[u8; 64], in_capsule: &[u8]) {
        let mut wire = self.0.lock().unwrap();
        let receive = wire.receives.pop_front().expect("a receive is posted");
        let length = command.len() + in_capsule.len();
        assert!(length <= receive.sge.length as usize);
        let at = receive.sge.address as *mut u8;
        // SAFETY: the poller posted this memory as a receive: it is registered, long enough, and not touched by anyone
        // else until the completion below is taken.
        unsafe {
            std::ptr::copy_nonoverlapping(command.as_ptr(), at, command.len());
            std::ptr::copy_nonoverlapping(in_capsule.as_ptr(), at.add(command.len()), in_capsule.len());
        }
        wire.completions.push_back(WorkCompletion {
            token: receive.token,
            status: CompletionStatus::Success,
            kind: CompletionKind::Receive,
            byte_length: length as u32,
            queue_pair_number,
        });
    }

    /// Responses sent so far, and the last one.
    pub fn responses(&self) -> (u64, [u8; 16]) {
        let wire = self.0.lock().unwrap();
        (wire.responses, wire.last_response)
    }
}

fn not_here<T>(operation: &'static str) -> Result<T, ProviderError> {
    let message = "not part of this device".to_owned();
    Err(ProviderError {
        operation,
        errno: 0,
        message,
    })
}

impl Provider for Loopback {
    type Device = ();
    type ProtectionDomain = ();
    type MemoryRegion = LoopbackRegion;
    type CompletionQueue = ();
    type SharedReceiveQueue = ();
    type QueuePair = LoopbackQueuePair;
    type ConnectionId = ();
    type Listener = ();

    fn devices(&self) -> Result<Vec<DeviceInfo>, ProviderError> {
        Ok(Vec::new())
    }

    fn open_device(&self, _name: &str) -> Result<(), ProviderError> {
        Ok(())
    }

    fn limits(&self, _device: &()) -> Result<DeviceLimits, ProviderError> {
        not_here("limits")
    }

    fn port_state(&self, _device: &()) -> Result<PortState, ProviderError> {
        Ok(PortState::Active)
    }

    fn active_mtu(&self, _device: &()) -> Result<u32, ProviderError> {
        not_here("active_mtu")
    }

    fn async_event_fd(&self, _device: &()) -> Option<RawFd> {
        None
    }

    fn next_async_event(&self, _device: &()) -> Option<AsyncEvent> {
        None
    }

    fn allocate_protection_domain(&self, _device: &()) -> Result<(), ProviderError> {
        Ok(())
    }

    fn register_memory(
        &self,
        _domain: &(),
        arena: &Arena,
        _offset: usize,
        _length: usize,
        _access: MemoryAccess,
    ) -> Result<LoopbackRegion, ProviderError> {
        Ok(LoopbackRegion(arena.clone()))
    }

    fn local_key(&self, _region: &LoopbackRegion) -> u32 {
        1
    }

    fn create_completion_queue(&self, _device: &(), _entries: u32) -> Result<(), ProviderError> {
        Ok(())
    }

    fn create_shared_receive_queue(&self, _domain: &(), _entries: u32) -> Result<(), ProviderError> {
        Ok(())
    }

    fn create_queue_pair(
        &self,
        _domain: &(),
        _parameters: &QueuePairParameters<'_, Self>,
    ) -> Result<LoopbackQueuePair, ProviderError> {
        not_here("create_queue_pair")
    }

    fn queue_pair_number(&self, queue_pair: &LoopbackQueuePair) -> u32 {
        queue_pair.0
    }

    fn ready_queue_pair(
        &self,
        _queue_pair: &mut LoopbackQueuePair,
        _connection: &(),
        _parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    fn fail_queue_pair(&self, _queue_pair: &mut LoopbackQueuePair) -> Result<(), ProviderError> {
        Ok(())
    }

    fn post_receives(&self, _queue: &(), requests: &[ReceiveWorkRequest]) -> Result<(), (usize, ProviderError)> {
        self.0.lock().unwrap().receives.extend(requests);
        Ok(())
    }

    fn post_sends(
        &self,
        queue_pair: &mut LoopbackQueuePair,
        requests: &[SendWorkRequest],
    ) -> Result<(), (usize, ProviderError)> {
        let mut wire = self.0.lock().unwrap();
        for request in requests {
            let kind = match request.operation {
                SendOperation::Send | SendOperation::SendWithInvalidate { .. } => CompletionKind::Send,
                SendOperation::RdmaWrite { .. } => CompletionKind::RdmaWrite,
                SendOperation::RdmaRead { .. } => CompletionKind::RdmaRead,
            };
            if kind == CompletionKind::Send {
                let at = request.sge.address as *const [u8; 16];
                // SAFETY: the poller posted this memory as a response of 16 bytes.
                wire.last_response = unsafe { at.read_unaligned() };
                wire.responses += 1;
            }
            if request.signaled {
                wire.completions.push_back(WorkCompletion {
                    token: request.token,
                    status: CompletionStatus::Success,
                    kind,
                    byte_length: 0,
                    queue_pair_number: queue_pair.0,
                });
            }
        }
        Ok(())
    }

    fn poll_completions(&self, _queue: &(), completions: &mut [WorkCompletion]) -> Result<usize, ProviderError> {
        let mut wire = self.0.lock().unwrap();
        let count = wire.completions.len().min(completions.len());
        for (entry, completion) in completions.iter_mut().zip(wire.completions.drain(..count)) {
            *entry = completion;
        }
        Ok(count)
    }

    fn arm_completion_queue(&self, _queue: &()) -> Result<(), ProviderError> {
        Ok(())
    }

    fn completion_fd(&self, _queue: &()) -> Option<RawFd> {
        None
    }

    fn take_completion_notifications(&self, _queue: &()) {}

    fn connection_event_fd(&self) -> Option<RawFd> {
        None
    }

    fn next_connection_event(&self) -> Option<ConnectionEvent<Self>> {
        None
    }

    fn listen(&self, _address: SocketAddr, _token: u64, _backlog: u32) -> Result<(), ProviderError> {
        Ok(())
    }

    fn listener_device(&self, _listener: &()) -> Result<String, ProviderError> {
        not_here("listener_device")
    }

    fn set_connection_token(&self, _connection: &mut (), _token: u64) {}

    fn accept(
        &self,
        _connection: &(),
        _queue_pair_number: u32,
        _parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        Ok(())
    }

    fn reject(&self, _connection: &(), _private_data: &[u8]) -> Result<(), ProviderError> {
        Ok(())
    }

    fn disconnect(&self, _connection: &()) -> Result<(), ProviderError> {
        Ok(())
    }

    fn resolve(&self, _own: SocketAddr, _token: u64) -> Result<(), ProviderError> {
        not_here("resolve")
    }

    fn connect(&self, _connection: &(), _private_data: &[u8]) -> Result<(), ProviderError> {
        not_here("connect")
    }
}
