//! Devices: their link, their addresses, their memory registrations.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::descriptor::Signal;
use super::faults::FaultPoint;
use super::oracle::ViolationKind;
use super::provider_error;
use super::world::{ObjectKind, World};
use crate::provider::{Arena, AsyncEvent, DeviceDriver, DeviceInfo, DeviceLimits, PortState, ProviderError, Sge};

/// State of a device's link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Traffic flows.
    Up,
    /// The device's own link is down: port down, transmits fail, connection manager messages kill QP1.
    Down,
    /// Loss beyond the device: the port stays active, packets are lost and retried until the link is up.
    Silent,
    /// As `Silent`, but only what comes in is lost: the host gets what is sent, and its acknowledgements do not arrive.
    LosesIncoming,
    /// As `Silent`, but only what goes out is lost.
    LosesOutgoing,
}

/// A device to simulate.
#[derive(Debug, Clone)]
pub struct SimDeviceSpec {
    /// Device name, for example `rxe0`.
    pub name: String,
    /// What the system lists as its driver.
    pub driver: DeviceDriver,
    /// Its network interface.
    pub netdev: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its limits.
    pub limits: DeviceLimits,
}

impl SimDeviceSpec {
    /// A device with the limits of rxe.
    #[must_use]
    pub fn new(name: &str, netdev: &str, address: IpAddr) -> Self {
        Self {
            name: name.to_owned(),
            driver: DeviceDriver::SoftRoce,
            netdev: netdev.to_owned(),
            addresses: vec![address],
            limits: DeviceLimits {
                work_requests_max: 1 << 20,
                sge_max: 32,
                completion_entries_max: (1 << 15) - 1,
                shared_receive_max: 1 << 20,
                read_responder_max: 128,
                read_initiator_max: 128,
                send_with_invalidate: true,
            },
        }
    }
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) spec: SimDeviceSpec,
    pub(super) link: LinkState,
    /// Largest payload of a packet in bytes.
    pub(super) mtu: u32,
    /// False once removed: the entry stays for what still refers to it.
    pub(super) present: bool,
    pub(super) fatal: bool,
    /// No completion is ever made any more (some devices after a fatal error).
    pub(super) silent_death: bool,
    /// QP1 is in error: no connection manager message gets in or out.
    pub(super) management_dead: bool,
    pub(super) async_events: VecDeque<AsyncEvent>,
    /// Readable while there are async events.
    pub(super) async_signal: Option<Signal>,
    pub(super) open: u32,
}

impl Device {
    pub(super) fn notify(&mut self, event: AsyncEvent) {
        self.async_events.push_back(event);
        if let Some(signal) = &self.async_signal {
            signal.set();
        }
    }

    pub(super) fn take_async_event(&mut self) -> Option<AsyncEvent> {
        let event = self.async_events.pop_front();
        if let Some(signal) = self.async_signal.as_ref().filter(|_| self.async_events.is_empty()) {
            signal.clear();
        }
        event
    }

    fn works(&self) -> bool {
        self.present && !self.fatal
    }

    /// Packets of hosts arrive.
    pub(super) fn receives(&self) -> bool {
        self.works() && matches!(self.link, LinkState::Up | LinkState::LosesOutgoing)
    }

    /// Packets arrive at hosts.
    pub(super) fn transmits(&self) -> bool {
        self.works() && matches!(self.link, LinkState::Up | LinkState::LosesIncoming)
    }

    /// Connection manager messages from the device to itself pass: loss beyond the device does not matter.
    pub(super) fn carries_own_messages(&self) -> bool {
        self.present && !self.fatal && self.link != LinkState::Down && !self.management_dead
    }
}

#[derive(Debug)]
pub(super) struct Domain {
    pub(super) device: u64,
}

#[derive(Debug)]
pub(super) struct Region {
    pub(super) domain: u64,
    pub(super) arena: Arena,
    pub(super) offset: usize,
    pub(super) length: usize,
}

impl Region {
    fn offset_of(&self, sge: &Sge) -> Option<usize> {
        let start = self.arena.address(self.offset);
        let end = start + self.length as u64;
        let last = sge.address.checked_add(u64::from(sge.length))?;
        (sge.address >= start && last <= end).then(|| self.offset + (sge.address - start) as usize)
    }
}

/// Mixes bytes into 64 bits; good enough to notice a change.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }
    for byte in chunks.remainder() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

impl World {
    pub(super) fn device_list(&self) -> Vec<DeviceInfo> {
        let present = self.devices.values().filter(|device| device.present);
        present
            .map(|device| DeviceInfo {
                name: device.spec.name.clone(),
                driver: device.spec.driver,
                netdevs: vec![device.spec.netdev.clone()],
                addresses: device.spec.addresses.clone(),
            })
            .collect()
    }

    /// The device of this name that is present now.
    pub(super) fn device_by_name(&self, name: &str) -> Option<u64> {
        let mut present = self.devices.iter().filter(|(_, device)| device.present);
        present
            .find(|(_, device)| device.spec.name == name)
            .map(|(key, _)| *key)
    }

    pub(super) fn device_by_address(&self, address: IpAddr) -> Option<u64> {
        let mut present = self.devices.iter().filter(|(_, device)| device.present);
        present
            .find(|(_, device)| device.spec.addresses.contains(&address))
            .map(|(key, _)| *key)
    }

    pub(super) fn open_device(&mut self, name: &str) -> Result<u64, ProviderError> {
        self.faults.check(FaultPoint::OpenDevice)?;
        let key = self
            .device_by_name(name)
            .ok_or_else(|| provider_error("ibv_open_device", libc::ENODEV, format!("no RDMA device named {name}")))?;
        self.device_mut(key).open += 1;
        Ok(key)
    }

    pub(super) fn close_device(&mut self, key: u64) {
        let users = self.domains.values().filter(|domain| domain.device == key).count()
            + self
                .completion_queues
                .values()
                .filter(|queue| queue.device == key)
                .count();
        let device = self.device_mut(key);
        device.open -= 1;
        let name = device.spec.name.clone();
        if users > 0 && self.device(key).open == 0 {
            let message = format!("device {name} closed with {users} domains or completion queues on it");
            self.oracle.report(ViolationKind::DestroyedBeforeChildren, message);
        }
    }

    pub(super) fn device(&self, key: u64) -> &Device {
        self.devices
            .get(&key)
            .expect("devices are never removed from the table")
    }

    pub(super) fn device_mut(&mut self, key: u64) -> &mut Device {
        self.devices
            .get_mut(&key)
            .expect("devices are never removed from the table")
    }

    /// EIO once the device is gone or dead.
    pub(super) fn check_device(&self, key: u64, operation: &'static str) -> Result<(), ProviderError> {
        let device = self.device(key);
        if device.present && !device.fatal {
            return Ok(());
        }
        Err(provider_error(
            operation,
            libc::EIO,
            format!("device {} is gone or dead", device.spec.name),
        ))
    }

    pub(super) fn port_state(&self, key: u64) -> Result<PortState, ProviderError> {
        self.check_device(key, "ibv_query_port")?;
        Ok(match self.device(key).link {
            LinkState::Down => PortState::Down,
            _ => PortState::Active,
        })
    }

    pub(super) fn set_link(&mut self, key: u64, link: LinkState) {
        let device = self.device_mut(key);
        let was_down = device.link == LinkState::Down;
        device.link = link;
        match (was_down, link == LinkState::Down) {
            (false, true) => device.notify(AsyncEvent::PortError),
            (true, false) => device.notify(AsyncEvent::PortActive),
            _ => {}
        }
    }

    pub(super) fn fail_device(&mut self, key: u64, silent_death: bool) {
        self.device_mut(key).notify(AsyncEvent::DeviceFatal);
        self.break_device(key, silent_death);
    }

    pub(super) fn break_device(&mut self, key: u64, silent_death: bool) {
        let device = self.device_mut(key);
        device.fatal = true;
        device.silent_death = silent_death;
        let numbers: Vec<u32> = self.queue_pairs_of(key);
        for number in numbers {
            self.queue_pair_to_error(number);
        }
    }

    pub(super) fn allocate_domain(&mut self, device: u64) -> Result<u64, ProviderError> {
        self.faults.check(FaultPoint::AllocateProtectionDomain)?;
        self.check_device(device, "ibv_alloc_pd")?;
        let key = self.next_key(ObjectKind::Domain);
        self.domains.insert(key, Domain { device });
        Ok(key)
    }

    pub(super) fn free_domain(&mut self, key: u64) {
        let regions = self.regions.values().filter(|region| region.domain == key).count();
        let queues = self.receive_queues.values().filter(|queue| queue.domain == key).count();
        let pairs = self.queue_pairs.values().filter(|pair| pair.domain == key).count();
        if regions + queues + pairs > 0 {
            let message = format!(
                "protection domain {key} freed with {regions} memory regions, {queues} receive queues, {pairs} queue pairs"
            );
            self.oracle.report(ViolationKind::DestroyedBeforeChildren, message);
        }
        self.domains.remove(&key);
    }

    pub(super) fn register(
        &mut self,
        domain: u64,
        arena: &Arena,
        offset: usize,
        length: usize,
    ) -> Result<u32, ProviderError> {
        self.faults.check(FaultPoint::RegisterMemory)?;
        self.check_device(self.domains[&domain].device, "ibv_reg_mr")?;
        let in_bounds = offset.checked_add(length).is_some_and(|end| end <= arena.len());
        if length == 0 || !in_bounds {
            return Err(provider_error(
                "ibv_reg_mr",
                libc::EINVAL,
                "range is empty or beyond the arena",
            ));
        }
        // Keys are scattered so that a stale key never hits a newer region by chance of counting.
        let key = loop {
            let key = self.random.next() as u32;
            if key != 0 && !self.regions.contains_key(&key) {
                break key;
            }
        };
        let region = Region {
            domain,
            arena: arena.clone(),
            offset,
            length,
        };
        self.regions.insert(key, region);
        Ok(key)
    }

    pub(super) fn deregister(&mut self, key: u32) {
        if let Some(user) = self.user_of_region(key) {
            self.oracle.report(
                ViolationKind::MemoryDeregisteredInUse,
                format!("memory region {key:#x} deregistered while {user} refers to it"),
            );
        }
        self.regions.remove(&key);
    }

    /// Describes a piece of unaccounted work that names this region.
    fn user_of_region(&self, key: u32) -> Option<String> {
        for (number, pair) in &self.queue_pairs {
            let mut sends = pair.sends.iter().filter(|send| send.request.sge.local_key == key);
            if let Some(send) = sends.find(|send| send.request.sge.length > 0) {
                return Some(format!("send {:#x} of queue pair {number}", send.request.token));
            }
            if let Some(receive) = pair.arriving.as_ref().filter(|one| one.request.sge.local_key == key) {
                return Some(format!("receive {:#x} in arrival", receive.request.token));
            }
        }
        for (id, queue) in &self.receive_queues {
            if let Some(receive) = queue.posted.iter().find(|one| one.request.sge.local_key == key) {
                return Some(format!("receive {:#x} of receive queue {id}", receive.request.token));
            }
        }
        for (id, queue) in &self.completion_queues {
            let mut receives = queue.entries.iter().filter_map(|entry| entry.receive.as_ref());
            if let Some(receive) = receives.find(|one| one.request.sge.local_key == key) {
                return Some(format!(
                    "unreaped receive {:#x} of completion queue {id}",
                    receive.request.token
                ));
            }
        }
        None
    }

    /// The memory an entry names, if it is registered in this domain.
    // The memory is the engine's, not the world's: a borrow of the world only finds it.
    #[allow(clippy::mut_from_ref)]
    pub(super) fn local_memory(&self, domain: u64, sge: &Sge) -> Option<&mut [u8]> {
        if sge.length == 0 {
            return Some(&mut []);
        }
        let region = self.regions.get(&sge.local_key)?;
        if region.domain != domain {
            return None;
        }
        let offset = region.offset_of(sge)?;
        // SAFETY: in bounds of the region; the engine gave this range to the device by posting it, and the oracle
        // reports when it touches it before it has reaped the completion. Nothing keeps the borrow beyond one call.
        Some(unsafe { region.arena.slice(offset, sge.length as usize) })
    }
}
