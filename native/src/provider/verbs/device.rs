//! Open devices, protection domains, memory regions.

use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rdma_mummy_sys as sys;

use super::{error, inventory};
use crate::provider::{Arena, AsyncEvent, DeviceLimits, MemoryAccess, PortState, ProviderError};

static LEAKED_OBJECTS: AtomicU64 = AtomicU64::new(0);

/// Verbs objects whose destruction the kernel refused, since the process started. They and everything they refer to are
/// kept for ever: memory that a device may still write must not be reused. Anything but 0 is a bug or a dead device.
#[must_use]
pub fn leaked_objects() -> u64 {
    LEAKED_OBJECTS.load(Ordering::Relaxed)
}

/// Keeps `parents` alive for ever if destroying their child failed with this `errno` (0: it did not).
pub(super) fn keep_if_refused<T>(errno: i32, parents: T) {
    if errno != 0 {
        LEAKED_OBJECTS.fetch_add(1, Ordering::Relaxed);
        mem::forget(parents);
    }
}

/// An open device. The context is librdmacm's own, so that queue pairs and identifiers agree; it stays open until the
/// last handle goes.
#[derive(Debug, Clone)]
pub struct VerbsDevice(pub(super) Arc<OpenDevice>);

#[derive(Debug)]
pub(super) struct OpenDevice {
    pub(super) context: NonNull<sys::ibv_context>,
    /// librdmacm's list: it counts as a use of every context in it.
    list: NonNull<*mut sys::ibv_context>,
}

// SAFETY: libibverbs' contexts may be used from any thread, several at once.
unsafe impl Send for OpenDevice {}
// SAFETY: as above.
unsafe impl Sync for OpenDevice {}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        // SAFETY: the list came from rdma_get_devices, and no handle to its contexts is left here.
        unsafe { sys::rdma_free_devices(self.list.as_ptr()) };
    }
}

impl VerbsDevice {
    pub(super) fn open(name: &str) -> Result<Self, ProviderError> {
        error::require_libraries("rdma_get_devices")?;
        let mut count = 0;
        // SAFETY: `count` outlives the call.
        let list = unsafe { sys::rdma_get_devices(&mut count) };
        let Some(list) = NonNull::new(list) else {
            return Err(error::last("rdma_get_devices"));
        };
        let mut contexts = (0..usize::try_from(count).unwrap_or(0)).filter_map(|index| {
            // SAFETY: the list has `count` entries.
            NonNull::new(unsafe { *list.as_ptr().add(index) })
        });
        let found = contexts.find(|context| {
            // SAFETY: contexts of the list are open.
            unsafe { inventory::device_name(context.as_ref().device) == name }
        });
        let Some(context) = found else {
            // SAFETY: the list came from rdma_get_devices, and is not used again.
            unsafe { sys::rdma_free_devices(list.as_ptr()) };
            let message = format!("no RDMA device named {name}");
            return Err(error::own("rdma_get_devices", libc::ENODEV, message));
        };
        let device = Self(Arc::new(OpenDevice { context, list }));
        error::set_non_blocking(device.async_event_fd())?;
        Ok(device)
    }

    pub(super) fn context(&self) -> *mut sys::ibv_context {
        self.0.context.as_ptr()
    }

    pub(super) fn async_event_fd(&self) -> RawFd {
        // SAFETY: the context is open as long as this handle lives.
        unsafe { self.0.context.as_ref().async_fd }
    }

    fn attributes(&self) -> Result<sys::ibv_device_attr, ProviderError> {
        let mut attributes = MaybeUninit::<sys::ibv_device_attr>::zeroed();
        // SAFETY: open context, and room for the answer.
        let errno = unsafe { sys::ibv_query_device(self.context(), attributes.as_mut_ptr()) };
        if errno != 0 {
            return Err(error::from_errno("ibv_query_device", errno));
        }
        // SAFETY: plain numbers, zeroed above and filled in by the call.
        Ok(unsafe { attributes.assume_init() })
    }

    pub(super) fn limits(&self) -> Result<DeviceLimits, ProviderError> {
        let attributes = self.attributes()?;
        let count = |value: i32| u32::try_from(value).unwrap_or(0);
        let depth = |value: i32| u8::try_from(value.clamp(0, 255)).unwrap_or(0);
        let invalidate = sys::ibv_device_cap_flags::IBV_DEVICE_MEM_MGT_EXTENSIONS.0;
        Ok(DeviceLimits {
            work_requests_max: count(attributes.max_qp_wr),
            sge_max: count(attributes.max_sge),
            completion_entries_max: count(attributes.max_cqe),
            shared_receive_max: if attributes.max_srq > 0 {
                count(attributes.max_srq_wr)
            } else {
                0
            },
            read_responder_max: depth(attributes.max_qp_rd_atom),
            read_initiator_max: depth(attributes.max_qp_init_rd_atom),
            send_with_invalidate: attributes.device_cap_flags & invalidate != 0,
        })
    }

    /// Active if any of the device's ports is: every current adapter has one port per device.
    pub(super) fn port_state(&self) -> Result<PortState, ProviderError> {
        let active = |port: &sys::ibv_port_attr| port.state == sys::ibv_port_state::IBV_PORT_ACTIVE;
        let any = self.ports()?.iter().any(active);
        Ok(if any { PortState::Active } else { PortState::Down })
    }

    /// The smallest of the device's ports, in bytes.
    pub(super) fn active_mtu(&self) -> Result<u32, ProviderError> {
        let smallest = self.ports()?.iter().map(|port| mtu_bytes(port.active_mtu)).min();
        smallest.ok_or_else(|| error::own("ibv_query_port", libc::ENODEV, "the device has no port"))
    }

    fn ports(&self) -> Result<Vec<sys::ibv_port_attr>, ProviderError> {
        let mut ports = Vec::new();
        for port in 1..=self.attributes()?.phys_port_cnt {
            let mut attributes = MaybeUninit::<sys::ibv_port_attr>::zeroed();
            // SAFETY: open context, a port it has, and zeroed room for the answer.
            let errno = unsafe { sys::ibv_query_port(self.context(), port, attributes.as_mut_ptr()) };
            if errno != 0 {
                return Err(error::from_errno("ibv_query_port", errno));
            }
            // SAFETY: plain numbers, zeroed above and filled in by the call.
            ports.push(unsafe { attributes.assume_init() });
        }
        Ok(ports)
    }

    pub(super) fn next_async_event(&self) -> Option<AsyncEvent> {
        let mut event = MaybeUninit::<sys::ibv_async_event>::zeroed();
        // SAFETY: open context, and room for the answer; the descriptor does not block.
        if unsafe { sys::ibv_get_async_event(self.context(), event.as_mut_ptr()) } != 0 {
            return None;
        }
        let event = event.as_mut_ptr();
        // SAFETY: the call filled the event in. The type is read as a number, because a newer library may send one that
        // the binding's enumeration does not have. A queue pair named by an event lives until the event is
        // acknowledged. After the acknowledgement nothing of it is used.
        unsafe {
            let number = (&raw const (*event).event_type).cast::<u32>().read();
            let element = &raw const (*event).element;
            let translated = translate(number, || (*(*element).qp).qp_num);
            sys::ibv_ack_async_event(event);
            Some(translated)
        }
    }
}

/// Bytes of an `ibv_mtu`: 1 is 256, and each next one the double.
pub(super) fn mtu_bytes(mtu: u32) -> u32 {
    128_u32.checked_shl(mtu.min(16)).unwrap_or(0)
}

fn translate(number: u32, queue_pair: impl FnOnce() -> u32) -> AsyncEvent {
    use sys::ibv_event_type as kind;
    const CQ_ERR: u32 = kind::IBV_EVENT_CQ_ERR as u32;
    const QP_FATAL: u32 = kind::IBV_EVENT_QP_FATAL as u32;
    const QP_REQ_ERR: u32 = kind::IBV_EVENT_QP_REQ_ERR as u32;
    const QP_ACCESS_ERR: u32 = kind::IBV_EVENT_QP_ACCESS_ERR as u32;
    const DEVICE_FATAL: u32 = kind::IBV_EVENT_DEVICE_FATAL as u32;
    const PORT_ACTIVE: u32 = kind::IBV_EVENT_PORT_ACTIVE as u32;
    const PORT_ERR: u32 = kind::IBV_EVENT_PORT_ERR as u32;
    const SRQ_ERR: u32 = kind::IBV_EVENT_SRQ_ERR as u32;
    const LAST_WQE: u32 = kind::IBV_EVENT_QP_LAST_WQE_REACHED as u32;
    const GID_CHANGE: u32 = kind::IBV_EVENT_GID_CHANGE as u32;
    match number {
        CQ_ERR => AsyncEvent::CompletionQueueError,
        QP_FATAL | QP_REQ_ERR | QP_ACCESS_ERR => AsyncEvent::QueuePairFatal(queue_pair()),
        DEVICE_FATAL => AsyncEvent::DeviceFatal,
        PORT_ACTIVE => AsyncEvent::PortActive,
        PORT_ERR => AsyncEvent::PortError,
        SRQ_ERR => AsyncEvent::SharedReceiveQueueError,
        LAST_WQE => AsyncEvent::LastWorkRequestReached(queue_pair()),
        GID_CHANGE => AsyncEvent::GidChange,
        other => AsyncEvent::Other(other),
    }
}

/// A protection domain.
#[derive(Debug, Clone)]
pub struct VerbsProtectionDomain(pub(super) Arc<Domain>);

#[derive(Debug)]
pub(super) struct Domain {
    pub(super) domain: NonNull<sys::ibv_pd>,
    pub(super) device: VerbsDevice,
}

// SAFETY: libibverbs' objects may be used from any thread, several at once.
unsafe impl Send for Domain {}
// SAFETY: as above.
unsafe impl Sync for Domain {}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: ours alone; regions, queues and queue pairs hold this domain, so none is left.
        let errno = unsafe { sys::ibv_dealloc_pd(self.domain.as_ptr()) };
        keep_if_refused(errno, self.device.clone());
    }
}

impl VerbsProtectionDomain {
    pub(super) fn allocate(device: &VerbsDevice) -> Result<Self, ProviderError> {
        // SAFETY: open context.
        let domain = unsafe { sys::ibv_alloc_pd(device.context()) };
        let domain = NonNull::new(domain).ok_or_else(|| error::last("ibv_alloc_pd"))?;
        Ok(Self(Arc::new(Domain {
            domain,
            device: device.clone(),
        })))
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ibv_pd {
        self.0.domain.as_ptr()
    }
}

/// A registered memory region; holds its memory.
#[derive(Debug)]
pub struct VerbsMemoryRegion {
    region: NonNull<sys::ibv_mr>,
    domain: VerbsProtectionDomain,
    arena: Arena,
}

// SAFETY: libibverbs' objects may be used from any thread.
unsafe impl Send for VerbsMemoryRegion {}

impl Drop for VerbsMemoryRegion {
    fn drop(&mut self) {
        // SAFETY: ours alone. The engine reaps all work on it first; a refusal keeps the memory for ever.
        let errno = unsafe { sys::ibv_dereg_mr(self.region.as_ptr()) };
        keep_if_refused(errno, (self.arena.clone(), self.domain.clone()));
    }
}

impl VerbsMemoryRegion {
    pub(super) fn register(
        domain: &VerbsProtectionDomain,
        arena: &Arena,
        offset: usize,
        length: usize,
        access: MemoryAccess,
    ) -> Result<Self, ProviderError> {
        let in_bounds = offset.checked_add(length).is_some_and(|end| end <= arena.len());
        if length == 0 || !in_bounds {
            let message = "range is empty or beyond the arena";
            return Err(error::own("ibv_reg_mr", libc::EINVAL, message));
        }
        let access = match access {
            MemoryAccess::Local => sys::ibv_access_flags::IBV_ACCESS_LOCAL_WRITE,
        };
        let address = ptr::with_exposed_provenance_mut(arena.address(offset) as usize);
        // SAFETY: the range is mapped, and stays so because the region holds the arena.
        let region = unsafe { sys::ibv_reg_mr(domain.as_ptr(), address, length, access.0 as i32) };
        let region = NonNull::new(region).ok_or_else(|| error::last("ibv_reg_mr"))?;
        Ok(Self {
            region,
            domain: domain.clone(),
            arena: arena.clone(),
        })
    }

    pub(super) fn local_key(&self) -> u32 {
        // SAFETY: alive until dropped; the key never changes.
        unsafe { self.region.as_ref().lkey }
    }
}
