//! The connection manager: event channel, identifiers, listeners.
//!
//! An identifier's C context holds the caller's token, never a pointer. Events are copied and acknowledged at once, so
//! destroying an identifier never waits for us.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdma_mummy_sys as sys;

use super::{VerbsProvider, error, inventory};
use crate::provider::{AcceptParameters, ConnectRequest, ConnectionEvent, ProviderError};

/// `RDMA_OPTION_ID` and `RDMA_OPTION_ID_AFONLY` of `rdma_set_option`.
const OPTION_LEVEL_ID: i32 = 0;
const OPTION_ID_FAMILY_ONLY: i32 = 2;

/// Failed reads of the event channel in a row after which it is left alone until it is next readable.
const FAILED_READS_MAX: u32 = 16;

/// Longest search for the way to one of our own addresses.
const RESOLVE_TIMEOUT_MS: i32 = 1000;

/// Queue pair number in connect requests of our own: there is none behind them, and the listener rejects them.
const NO_QUEUE_PAIR: u32 = 1;

/// Stands for a host without an IP address.
const UNKNOWN_SOURCE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The token is kept in a pointer-sized field.
const _: () = assert!(size_of::<usize>() == 8);

/// The process's event channel, opened when it is first needed and can be had.
#[derive(Debug, Default)]
pub(super) struct LazyChannel(Mutex<Option<Arc<EventChannel>>>);

impl LazyChannel {
    pub(super) fn get(&self) -> Result<Arc<EventChannel>, ProviderError> {
        let mut channel = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channel.as_ref() {
            return Ok(channel.clone());
        }
        let opened = Arc::new(EventChannel::open()?);
        *channel = Some(opened.clone());
        Ok(opened)
    }
}

#[derive(Debug)]
pub(super) struct EventChannel(NonNull<sys::rdma_event_channel>);

// SAFETY: librdmacm's channels may be used from any thread, several at once.
unsafe impl Send for EventChannel {}
// SAFETY: as above.
unsafe impl Sync for EventChannel {}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: ours alone; identifiers hold the channel, so none is left.
        unsafe { sys::rdma_destroy_event_channel(self.0.as_ptr()) };
    }
}

impl EventChannel {
    fn open() -> Result<Self, ProviderError> {
        error::require_libraries("rdma_create_event_channel")?;
        // SAFETY: no preconditions.
        let channel = unsafe { sys::rdma_create_event_channel() };
        let channel = NonNull::new(channel).ok_or_else(|| error::last("rdma_create_event_channel"))?;
        let channel = Self(channel);
        error::set_non_blocking(channel.fd())?;
        Ok(channel)
    }

    pub(super) fn fd(&self) -> RawFd {
        // SAFETY: alive as long as this value.
        unsafe { self.0.as_ref().fd }
    }

    /// The next event that means something to the engine.
    pub(super) fn next(self: &Arc<Self>) -> Option<ConnectionEvent<VerbsProvider>> {
        let mut failed = 0;
        loop {
            let mut event = ptr::null_mut();
            // SAFETY: the channel is alive and does not block; the answer has room.
            if unsafe { sys::rdma_get_cm_event(self.0.as_ptr(), &mut event) } != 0 {
                let errno = std::io::Error::last_os_error().raw_os_error();
                failed += 1;
                if errno == Some(libc::EAGAIN) || failed >= FAILED_READS_MAX {
                    return None;
                }
                // An interrupted read, or a request whose own processing failed: the next may be good.
                continue;
            }
            let event = NonNull::new(event)?;
            // SAFETY: a fresh event, not yet acknowledged, so it and what it names are alive.
            let copied = unsafe { self.copy(event.as_ref()) };
            // SAFETY: acknowledged once; everything needed was copied out of it.
            unsafe { sys::rdma_ack_cm_event(event.as_ptr()) };
            if let Some(copied) = copied {
                return Some(copied);
            }
        }
    }

    /// # Safety
    /// `event` is not yet acknowledged.
    unsafe fn copy(self: &Arc<Self>, event: &sys::rdma_cm_event) -> Option<ConnectionEvent<VerbsProvider>> {
        use sys::rdma_cm_event_type as kind;
        // SAFETY: identifiers named by an unacknowledged event are alive: destroying one waits for the acknowledgement.
        let token = || unsafe { token(event.id) };
        Some(match event.event {
            kind::RDMA_CM_EVENT_CONNECT_REQUEST => {
                // SAFETY: as above.
                return unsafe { self.copy_request(event) };
            }
            kind::RDMA_CM_EVENT_ESTABLISHED => ConnectionEvent::Established(token()),
            kind::RDMA_CM_EVENT_DISCONNECTED => ConnectionEvent::Disconnected(token()),
            kind::RDMA_CM_EVENT_TIMEWAIT_EXIT => ConnectionEvent::TimewaitExit(token()),
            kind::RDMA_CM_EVENT_DEVICE_REMOVAL => ConnectionEvent::DeviceRemoval(token()),
            kind::RDMA_CM_EVENT_ADDR_CHANGE => ConnectionEvent::AddressChange(token()),
            kind::RDMA_CM_EVENT_ADDR_RESOLVED => {
                // SAFETY: as above. The second half of `resolve`: finds a route and sends nothing.
                if unsafe { sys::rdma_resolve_route(event.id, RESOLVE_TIMEOUT_MS) } == 0 {
                    return None;
                }
                ConnectionEvent::Failed(token(), kind::RDMA_CM_EVENT_ROUTE_ERROR)
            }
            kind::RDMA_CM_EVENT_ROUTE_RESOLVED => ConnectionEvent::Resolved(token()),
            kind::RDMA_CM_EVENT_ADDR_ERROR
            | kind::RDMA_CM_EVENT_ROUTE_ERROR
            | kind::RDMA_CM_EVENT_CONNECT_ERROR
            | kind::RDMA_CM_EVENT_UNREACHABLE
            | kind::RDMA_CM_EVENT_REJECTED => ConnectionEvent::Failed(token(), event.event),
            // Of the initiating side with a queue pair, and of multicast: never ours.
            _ => return None,
        })
    }

    /// # Safety
    /// `event` is a connect request, not yet acknowledged.
    unsafe fn copy_request(self: &Arc<Self>, event: &sys::rdma_cm_event) -> Option<ConnectionEvent<VerbsProvider>> {
        let connection = VerbsConnectionId {
            identifier: NonNull::new(event.id)?,
            _channel: self.clone(),
        };
        // librdmacm copies the listener's context into the new identifier.
        connection.set_token(0);
        // SAFETY: both identifiers are alive; a connect request carries connection parameters, whose private data is
        // `private_data_len` bytes or null; the new identifier is bound to a device and has its peer's address.
        unsafe {
            let parameters = &event.param.conn;
            let identifier = connection.identifier.as_ref();
            // Nothing here may drop the new identifier: that has to wait for the acknowledgement. A request without a
            // device or an address, which librdmacm does not make, matches no port and is rejected by the engine.
            let device = NonNull::new(identifier.verbs).map_or(ptr::null_mut(), |context| context.as_ref().device);
            let source = inventory::socket_address(&raw const identifier.route.addr.dst_addr_union.dst_addr);
            let private_data = if parameters.private_data.is_null() {
                Vec::new()
            } else {
                let length = usize::from(parameters.private_data_len);
                std::slice::from_raw_parts(parameters.private_data.cast::<u8>(), length).to_vec()
            };
            Some(ConnectionEvent::Request(Box::new(ConnectRequest {
                listener: token(event.listen_id),
                device: inventory::device_name(device),
                source: source.unwrap_or(UNKNOWN_SOURCE),
                private_data,
                initiator_depth: parameters.initiator_depth,
                responder_resources: parameters.responder_resources,
                connection,
            })))
        }
    }

    fn create_identifier(self: &Arc<Self>, token: u64) -> Result<VerbsConnectionId, ProviderError> {
        let mut identifier = ptr::null_mut();
        let context = ptr::without_provenance_mut(token as usize);
        let space = sys::rdma_port_space::RDMA_PS_TCP;
        // SAFETY: the channel is alive, and the answer has room; the context is a number.
        if unsafe { sys::rdma_create_id(self.0.as_ptr(), &mut identifier, context, space) } != 0 {
            return Err(error::last("rdma_create_id"));
        }
        let identifier = NonNull::new(identifier).ok_or_else(|| error::last("rdma_create_id"))?;
        Ok(VerbsConnectionId {
            identifier,
            _channel: self.clone(),
        })
    }

    pub(super) fn listen(
        self: &Arc<Self>,
        address: SocketAddr,
        token: u64,
        backlog: u32,
    ) -> Result<VerbsListener, ProviderError> {
        let identifier = self.create_identifier(token)?;
        let raw = identifier.as_ptr();
        if address.is_ipv6() {
            let mut only: i32 = 1;
            // SAFETY: the identifier is alive; the option's value is an int of this size.
            let set = unsafe {
                sys::rdma_set_option(
                    raw,
                    OPTION_LEVEL_ID,
                    OPTION_ID_FAMILY_ONLY,
                    (&raw mut only).cast(),
                    size_of::<i32>(),
                )
            };
            if set != 0 {
                return Err(error::last("rdma_set_option"));
            }
        }
        let mut storage = inventory::to_socket_address(address);
        // SAFETY: the identifier is alive; the address is as long as its family needs.
        if unsafe { sys::rdma_bind_addr(raw, (&raw mut storage).cast()) } != 0 {
            return Err(error::last("rdma_bind_addr"));
        }
        // SAFETY: the identifier is alive.
        if unsafe { (*raw).verbs }.is_null() {
            let message = format!("{address} is on no single RDMA device");
            return Err(error::own("rdma_bind_addr", libc::ENODEV, message));
        }
        // SAFETY: the identifier is alive and bound.
        if unsafe { sys::rdma_listen(raw, i32::try_from(backlog).unwrap_or(i32::MAX)) } != 0 {
            return Err(error::last("rdma_listen"));
        }
        Ok(VerbsListener(identifier))
    }
}

impl EventChannel {
    pub(super) fn resolve(self: &Arc<Self>, own: SocketAddr, token: u64) -> Result<VerbsConnectionId, ProviderError> {
        let identifier = self.create_identifier(token)?;
        let mut source = inventory::to_socket_address(SocketAddr::new(own.ip(), 0));
        let mut target = inventory::to_socket_address(own);
        let (source, target) = ((&raw mut source).cast(), (&raw mut target).cast());
        // SAFETY: the identifier is alive; both addresses are as long as their family needs, and are copied.
        if unsafe { sys::rdma_resolve_addr(identifier.as_ptr(), source, target, RESOLVE_TIMEOUT_MS) } != 0 {
            return Err(error::last("rdma_resolve_addr"));
        }
        Ok(identifier)
    }
}

/// The token in an identifier's context.
///
/// # Safety
/// `identifier` is null or alive.
unsafe fn token(identifier: *mut sys::rdma_cm_id) -> u64 {
    if identifier.is_null() {
        return 0;
    }
    // SAFETY: alive by the caller's promise; the field is only ever accessed atomically by us.
    let context = unsafe { AtomicPtr::from_ptr(&raw mut (*identifier).context) };
    context.load(Ordering::Relaxed) as u64
}

/// A connection manager identifier. Dropping it calls `rdma_destroy_id`, which sends a message if it is connected or
/// not yet answered.
#[derive(Debug)]
pub struct VerbsConnectionId {
    identifier: NonNull<sys::rdma_cm_id>,
    _channel: Arc<EventChannel>,
}

// SAFETY: librdmacm's identifiers may be used from any thread.
unsafe impl Send for VerbsConnectionId {}

impl Drop for VerbsConnectionId {
    fn drop(&mut self) {
        // SAFETY: ours alone. Taken events are acknowledged at once, so this does not wait; events not yet taken are
        // dropped by the kernel.
        unsafe { sys::rdma_destroy_id(self.as_ptr()) };
    }
}

impl VerbsConnectionId {
    fn as_ptr(&self) -> *mut sys::rdma_cm_id {
        self.identifier.as_ptr()
    }

    pub(super) fn set_token(&self, token: u64) {
        // SAFETY: alive; the field is only ever accessed atomically by us, and librdmacm leaves it alone.
        let context = unsafe { AtomicPtr::from_ptr(&raw mut (*self.as_ptr()).context) };
        context.store(ptr::without_provenance_mut(token as usize), Ordering::Relaxed);
    }

    /// What the connection manager negotiated for the move of a queue pair into this state, and which fields are set.
    pub(super) fn queue_pair_attributes(
        &self,
        state: sys::ibv_qp_state::Type,
    ) -> Result<(sys::ibv_qp_attr, i32), ProviderError> {
        // SAFETY: plain numbers: all-zero is a value.
        let mut attributes: sys::ibv_qp_attr = unsafe { MaybeUninit::zeroed().assume_init() };
        attributes.qp_state = state;
        let mut mask = 0;
        // SAFETY: alive, and both answers have room.
        if unsafe { sys::rdma_init_qp_attr(self.as_ptr(), &mut attributes, &mut mask) } != 0 {
            return Err(error::last("rdma_init_qp_attr"));
        }
        Ok((attributes, mask))
    }

    pub(super) fn accept(
        &self,
        queue_pair_number: u32,
        parameters: &AcceptParameters<'_>,
    ) -> Result<(), ProviderError> {
        let Ok(length) = u8::try_from(parameters.private_data.len()) else {
            return Err(error::own("rdma_accept", libc::EINVAL, "private data too long"));
        };
        let mut answer = sys::rdma_conn_param {
            private_data: parameters.private_data.as_ptr().cast(),
            private_data_len: length,
            responder_resources: parameters.connect.responder_resources,
            initiator_depth: parameters.connect.initiator_depth,
            flow_control: 0,
            // Only meaningful on the connecting side; ours is set on the queue pair.
            retry_count: 0,
            rnr_retry_count: parameters.connect.rnr_retry_count,
            srq: 1,
            qp_num: queue_pair_number,
        };
        // SAFETY: alive; the private data outlives the call.
        if unsafe { sys::rdma_accept(self.as_ptr(), &mut answer) } != 0 {
            return Err(error::last("rdma_accept"));
        }
        Ok(())
    }

    pub(super) fn reject(&self, private_data: &[u8]) -> Result<(), ProviderError> {
        let Ok(length) = u8::try_from(private_data.len()) else {
            return Err(error::own("rdma_reject", libc::EINVAL, "private data too long"));
        };
        // SAFETY: alive; the private data outlives the call.
        if unsafe { sys::rdma_reject(self.as_ptr(), private_data.as_ptr().cast(), length) } != 0 {
            return Err(error::last("rdma_reject"));
        }
        Ok(())
    }

    pub(super) fn connect(&self, private_data: &[u8]) -> Result<(), ProviderError> {
        let Ok(length) = u8::try_from(private_data.len()) else {
            return Err(error::own("rdma_connect", libc::EINVAL, "private data too long"));
        };
        let mut request = sys::rdma_conn_param {
            private_data: private_data.as_ptr().cast(),
            private_data_len: length,
            responder_resources: 0,
            initiator_depth: 0,
            flow_control: 0,
            retry_count: 0,
            rnr_retry_count: 0,
            srq: 0,
            qp_num: NO_QUEUE_PAIR,
        };
        // SAFETY: alive; the private data outlives the call.
        if unsafe { sys::rdma_connect(self.as_ptr(), &mut request) } != 0 {
            return Err(error::last("rdma_connect"));
        }
        Ok(())
    }

    pub(super) fn disconnect(&self) -> Result<(), ProviderError> {
        // SAFETY: alive.
        if unsafe { sys::rdma_disconnect(self.as_ptr()) } != 0 {
            return Err(error::last("rdma_disconnect"));
        }
        Ok(())
    }
}

/// A listening identifier. Dropping it rejects requests that were not taken.
#[derive(Debug)]
pub struct VerbsListener(VerbsConnectionId);

impl VerbsListener {
    pub(super) fn device(&self) -> Result<String, ProviderError> {
        // SAFETY: alive, and bound to a device since `listen`.
        unsafe {
            match NonNull::new((*self.0.as_ptr()).verbs) {
                Some(context) => Ok(inventory::device_name(context.as_ref().device)),
                None => Err(error::own("rdma_bind_addr", libc::ENODEV, "bound to no device")),
            }
        }
    }
}
