//! Building a port's resources, completely, before anybody else sees them.
//!
//! One [`Arming::advance`] does one bounded piece of work (a queue, a piece of memory), so that one port's arming
//! never keeps the control loop from another port. Memory is registered in pieces; a piece that fails is tried again
//! at half its size. A minimum for every poller comes first; then the rest, of which as much as possible.

use std::net::SocketAddr;
use std::sync::Arc;

use super::port::{Endpoint, PollerShare, Reason, Service};
use crate::engine::buffers::BufferRegion;
use crate::engine::counters::PortCounters;
use crate::engine::messages::{Epoch, PortId, PortResources, PortSizing};
use crate::provider::{Arena, DeviceLimits, MemoryAccess, PortState, Provider, ProviderError};
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

/// Largest piece of memory registered at once: small enough that a fragmented or tight system still has room for it,
/// large enough that a port needs few.
pub const PIECE_BYTES_MAX: usize = 8 << 20;

/// Smallest piece that is worth a region of its own; below it, registering has failed.
const PIECE_BYTES_MIN: usize = 64 << 10;

/// Fewest receives, small and large buffers that a poller can serve with.
const RECEIVES_MIN: u32 = 64;
const SMALL_BUFFERS_MIN: u32 = 32;
const LARGE_BUFFERS_MIN: u32 = 4;

/// Bytes of a small data buffer.
const SMALL_BUFFER_BYTES: u32 = 16 << 10;

/// Command bytes in front of in-capsule data.
const COMMAND_BYTES: u32 = 64;

/// Work requests of a request at a time: RDMA WRITE and SEND.
const SENDS_PER_REQUEST: u32 = 2;

/// Completion queue entries beyond the computed need.
const COMPLETION_ENTRIES_SPARE: u32 = 256;

/// Connect requests the connection manager keeps for us.
pub const LISTEN_BACKLOG: u32 = 256;

/// What a port is to be built with; from the desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSizes {
    /// In-capsule data of I/O queues in bytes.
    pub in_capsule_bytes: u32,
    /// Bytes of a large buffer: the maximum I/O size.
    pub large_buffer_bytes: u32,
    /// Small buffers per poller.
    pub small_buffers: u32,
    /// Large buffers per poller.
    pub large_buffers: u32,
    /// Receives per poller.
    pub receives: u32,
    /// Serving with less is allowed.
    pub allow_degraded: bool,
}

/// Kind of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Capsules land here.
    Receive,
    /// Small data buffers.
    Small,
    /// Large data buffers.
    Large,
}

/// Memory to be registered for a poller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryJob {
    /// Poller's index.
    pub poller: usize,
    /// Kind.
    pub kind: MemoryKind,
    /// Bytes of one buffer.
    pub buffer_bytes: u32,
    /// Buffers still missing.
    pub buffers: u32,
    /// The port cannot serve without it.
    required: bool,
    /// Largest piece to try.
    piece_bytes: usize,
}

/// How registering a piece went.
#[derive(Debug)]
pub enum Registered<P: Provider> {
    /// A region; the job lacks that much less.
    Region(BufferRegion<P>),
    /// It failed and will be tried smaller.
    Smaller,
    /// It failed at the smallest size.
    Failed(ProviderError),
}

impl MemoryJob {
    fn new(poller: usize, kind: MemoryKind, buffer_bytes: u32, buffers: u32, required: bool) -> Self {
        Self {
            poller,
            kind,
            buffer_bytes,
            buffers,
            required,
            piece_bytes: PIECE_BYTES_MAX,
        }
    }

    /// Bytes still missing.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(self.buffers) * u64::from(self.buffer_bytes)
    }

    /// A new attempt starts at the full size again.
    pub fn reset_piece_size(&mut self) {
        self.piece_bytes = PIECE_BYTES_MAX;
    }

    /// Registers the next piece.
    pub fn register<P: Provider>(&mut self, provider: &P, domain: &P::ProtectionDomain) -> Registered<P> {
        let buffer_bytes = self.buffer_bytes as usize;
        let fit = (self.piece_bytes / buffer_bytes).max(1);
        let count = u32::try_from(fit).unwrap_or(u32::MAX).min(self.buffers);
        let length = count as usize * buffer_bytes;
        let outcome = Arena::allocate(length)
            .map_err(|error| ProviderError {
                operation: "mmap",
                errno: error.raw_os_error().unwrap_or(0),
                message: error.to_string(),
            })
            .and_then(|arena| {
                let region = provider.register_memory(domain, &arena, 0, length, MemoryAccess::Local)?;
                Ok(BufferRegion {
                    region,
                    arena,
                    offset: 0,
                    buffer_bytes: self.buffer_bytes,
                    buffer_count: count,
                })
            });
        match outcome {
            Ok(region) => {
                self.buffers -= count;
                Registered::Region(region)
            }
            Err(_) if length / 2 >= PIECE_BYTES_MIN.max(buffer_bytes) => {
                self.piece_bytes = length / 2;
                Registered::Smaller
            }
            Err(error) => Registered::Failed(error),
        }
    }
}

/// What became of one piece of work.
#[derive(Debug)]
pub enum Progress<P: Provider> {
    /// There is more to do.
    More,
    /// Everything needed is built.
    Done(Box<Built<P>>),
    /// It failed; what was built is destroyed when the arming is dropped.
    Failed(Reason),
}

/// A port's resources, complete, not yet seen by anybody. Field order is destruction order.
#[derive(Debug)]
pub struct Built<P: Provider> {
    /// Its listener.
    pub listener: P::Listener,
    /// By poller.
    pub resources: Vec<PortResources<P>>,
    /// What the control thread keeps.
    pub service: Service<P>,
}

#[derive(Debug)]
struct Opened<P: Provider> {
    domain: P::ProtectionDomain,
    device: P::Device,
    limits: DeviceLimits,
    mtu: u32,
    sizing: PortSizing,
}

/// An attempt to arm a port. Field order is destruction order.
#[derive(Debug)]
pub struct Arming<P: Provider> {
    port: PortId,
    epoch: Epoch,
    name: Arc<str>,
    endpoint: Endpoint,
    address: SocketAddr,
    token: u64,
    wanted: WantedSizes,
    counters: Vec<Arc<PortCounters>>,
    resources: Vec<PortResources<P>>,
    opened: Option<Opened<P>>,
    jobs: Vec<MemoryJob>,
    shortage: Vec<MemoryJob>,
    /// Regions registered, and attempts that failed.
    pub registrations: (u64, u64),
    /// The last failure to register memory.
    pub registration_error: Option<ProviderError>,
}

/// What an attempt is for.
#[derive(Debug)]
pub struct ArmingRequest {
    /// Port.
    pub port: PortId,
    /// Epoch.
    pub epoch: Epoch,
    /// Listener's name.
    pub name: Arc<str>,
    /// Where.
    pub endpoint: Endpoint,
    /// TCP-style port number.
    pub port_number: u16,
    /// Names the listener in events.
    pub token: u64,
    /// Sizes.
    pub wanted: WantedSizes,
    /// By poller.
    pub counters: Vec<Arc<PortCounters>>,
}

impl<P: Provider> Arming<P> {
    /// An attempt that has done nothing yet.
    #[must_use]
    pub fn new(request: ArmingRequest) -> Self {
        Self {
            port: request.port,
            epoch: request.epoch,
            name: request.name,
            address: SocketAddr::new(request.endpoint.ip, request.port_number),
            endpoint: request.endpoint,
            token: request.token,
            wanted: request.wanted,
            counters: request.counters,
            resources: Vec::new(),
            opened: None,
            jobs: Vec::new(),
            shortage: Vec::new(),
            registrations: (0, 0),
            registration_error: None,
        }
    }

    /// The device, once opened.
    #[must_use]
    pub fn device(&self) -> Option<&P::Device> {
        self.opened.as_ref().map(|opened| &opened.device)
    }

    /// Name of the device.
    #[must_use]
    pub fn device_name(&self) -> &str {
        &self.endpoint.device
    }

    /// Does the next piece of work. `listener` is the port's earlier one, given up right before listening anew.
    pub fn advance(&mut self, provider: &P, listener: &mut Option<P::Listener>) -> Progress<P> {
        #[cfg(feature = "simulation")]
        if DeliberateFault::PublishedHalfBuilt.is_built_in() && self.resources.len() == self.counters.len() {
            self.jobs.clear();
        }
        let step = match &self.opened {
            None => self.open(provider),
            Some(opened) if self.resources.len() < self.counters.len() => {
                build_queues(provider, opened, self).map(|resources| self.resources.push(resources))
            }
            Some(_) if !self.jobs.is_empty() => self.register_next(provider),
            Some(_) => return self.listen(provider, listener),
        };
        match step {
            Ok(()) => Progress::More,
            Err(reason) => Progress::Failed(reason),
        }
    }

    fn open(&mut self, provider: &P) -> Result<(), Reason> {
        let name = self.endpoint.device.clone();
        let failed = |error: ProviderError| Reason::new("DeviceOpenFailed", format!("device {name}: {error}"));
        let device = provider.open_device(&self.endpoint.device).map_err(failed)?;
        if provider.port_state(&device).map_err(failed)? != PortState::Active {
            let message = format!("the port of device {name} is not active although interface {} is up", {
                &self.endpoint.netdev
            });
            return Err(Reason::new("DevicePortNotActive", message));
        }
        let limits = provider.limits(&device).map_err(failed)?;
        if limits.shared_receive_max == 0 {
            let message = format!("device {name} has no shared receive queues, which the target needs");
            return Err(Reason::new("DeviceNotSuitable", message));
        }
        let mtu = provider.active_mtu(&device).map_err(failed)?;
        let sizing = sizing(&self.wanted, &limits);
        self.jobs = memory_jobs(self.counters.len(), &sizing);
        let domain = provider.allocate_protection_domain(&device).map_err(failed)?;
        self.opened = Some(Opened {
            domain,
            device,
            limits,
            mtu,
            sizing,
        });
        Ok(())
    }

    fn register_next(&mut self, provider: &P) -> Result<(), Reason> {
        let Some((opened, mut job)) = self.opened.as_ref().zip(self.jobs.pop()) else {
            return Ok(());
        };
        match job.register(provider, &opened.domain) {
            Registered::Region(region) => {
                self.registrations.0 += 1;
                regions_of(&mut self.resources[job.poller], job.kind).push(region);
                if job.buffers > 0 {
                    self.jobs.push(job);
                }
            }
            Registered::Smaller => {
                self.registrations.1 += 1;
                self.jobs.push(job);
            }
            Registered::Failed(error) => {
                self.registrations.1 += 1;
                if job.required || !self.wanted.allow_degraded {
                    let message = format!(
                        "{error}; of the memory of listener {} at least {} more bytes must be registered; raise the \
                         memlock limit or the memory limit, or ask for fewer or smaller buffers",
                        self.name,
                        job.bytes()
                    );
                    self.registration_error = Some(error);
                    return Err(Reason::new("MemoryRegistrationFailed", message));
                }
                self.registration_error = Some(error);
                self.shortage.push(job);
            }
        }
        Ok(())
    }

    fn listen(&mut self, provider: &P, listener: &mut Option<P::Listener>) -> Progress<P> {
        // The address can be listened at once only. What hosts sent to the old listener was taken in this same step.
        *listener = None;
        let fresh = match provider.listen(self.address, self.token, LISTEN_BACKLOG) {
            Ok(fresh) => fresh,
            Err(error) => return Progress::Failed(self.listen_failed(&error)),
        };
        let Some(opened) = self.opened.take() else {
            return Progress::Failed(Reason::new("ArmingFailed", "the device is not open"));
        };
        let resources = std::mem::take(&mut self.resources);
        let shares = resources.iter().map(share_of).collect();
        let service = Service {
            shares,
            domain: opened.domain,
            device: opened.device,
            device_name: self.endpoint.device.clone(),
            limits: opened.limits,
            mtu: opened.mtu,
            sizing: opened.sizing,
            shortage: std::mem::take(&mut self.shortage),
            address: self.address,
            drain: None,
            quarantined: false,
        };
        Progress::Done(Box::new(Built {
            listener: fresh,
            resources,
            service,
        }))
    }

    fn listen_failed(&self, error: &ProviderError) -> Reason {
        let address = self.address;
        match error.errno {
            libc::EADDRINUSE => Reason::new(
                "PortInUse",
                format!("another target or process of this node listens at {address}; choose another port: {error}"),
            ),
            libc::EADDRNOTAVAIL => Reason::new(
                "AddressNotAvailable",
                format!("{address} is not an address of this node now: {error}"),
            ),
            libc::ENODEV => Reason::new(
                "DeviceNotFound",
                format!("no RDMA device serves {address} now: {error}"),
            ),
            _ => Reason::new("ListenFailed", format!("cannot listen at {address}: {error}")),
        }
    }
}

fn build_queues<P: Provider>(provider: &P, opened: &Opened<P>, arming: &Arming<P>) -> Result<PortResources<P>, Reason> {
    let failed = |error: ProviderError| {
        Reason::new(
            "QueueCreationFailed",
            format!("device {}: {error}", arming.endpoint.device),
        )
    };
    let sizing = opened.sizing;
    let completion_queue = provider
        .create_completion_queue(&opened.device, sizing.completion_entries)
        .map_err(failed)?;
    let shared_receive_queue = provider
        .create_shared_receive_queue(&opened.domain, sizing.receive_count)
        .map_err(failed)?;
    Ok(PortResources {
        port: arming.port,
        epoch: arming.epoch,
        shared_receive_queue,
        completion_queue,
        receive_regions: Vec::new(),
        small_regions: Vec::new(),
        large_regions: Vec::new(),
        sizing,
        listener: Arc::clone(&arming.name),
        counters: Arc::clone(&arming.counters[arming.resources.len()]),
    })
}

/// What a poller's share is built with, within the device's limits.
fn sizing(wanted: &WantedSizes, limits: &DeviceLimits) -> PortSizing {
    let entries_per_receive = 1 + SENDS_PER_REQUEST;
    let by_completions = limits.completion_entries_max.saturating_sub(COMPLETION_ENTRIES_SPARE) / entries_per_receive;
    let receives = wanted
        .receives
        .min(limits.shared_receive_max)
        .min(by_completions)
        .max(1);
    PortSizing {
        receive_count: receives,
        receive_bytes: COMMAND_BYTES + wanted.in_capsule_bytes,
        small_buffer_bytes: SMALL_BUFFER_BYTES,
        small_buffer_count: wanted.small_buffers,
        large_buffer_bytes: wanted.large_buffer_bytes,
        large_buffer_count: wanted.large_buffers,
        request_count: receives,
        completion_entries: (receives * entries_per_receive + COMPLETION_ENTRIES_SPARE)
            .min(limits.completion_entries_max),
        send_with_invalidate: limits.send_with_invalidate,
    }
}

/// What to register, last first: the required minimum of every poller, then the rest.
fn memory_jobs(pollers: usize, sizing: &PortSizing) -> Vec<MemoryJob> {
    let kinds = [
        (
            MemoryKind::Receive,
            sizing.receive_bytes,
            sizing.receive_count,
            RECEIVES_MIN,
        ),
        (
            MemoryKind::Small,
            sizing.small_buffer_bytes,
            sizing.small_buffer_count,
            SMALL_BUFFERS_MIN,
        ),
        (
            MemoryKind::Large,
            sizing.large_buffer_bytes,
            sizing.large_buffer_count,
            LARGE_BUFFERS_MIN,
        ),
    ];
    let mut jobs = Vec::new();
    for required in [false, true] {
        for poller in (0..pollers).rev() {
            for (kind, bytes, count, minimum) in kinds.iter().rev() {
                let minimum = (*minimum).min(*count);
                let buffers = if required { minimum } else { count - minimum };
                if buffers > 0 {
                    jobs.push(MemoryJob::new(poller, *kind, *bytes, buffers, required));
                }
            }
        }
    }
    jobs
}

fn regions_of<P: Provider>(resources: &mut PortResources<P>, kind: MemoryKind) -> &mut Vec<BufferRegion<P>> {
    match kind {
        MemoryKind::Receive => &mut resources.receive_regions,
        MemoryKind::Small => &mut resources.small_regions,
        MemoryKind::Large => &mut resources.large_regions,
    }
}

fn share_of<P: Provider>(resources: &PortResources<P>) -> PollerShare<P> {
    let regions = || {
        resources
            .receive_regions
            .iter()
            .chain(&resources.small_regions)
            .chain(&resources.large_regions)
    };
    PollerShare {
        queues: Some((
            resources.completion_queue.clone(),
            resources.shared_receive_queue.clone(),
        )),
        memory_regions: regions().count() as u64,
        memory_bytes: regions()
            .map(|one| u64::from(one.buffer_bytes) * u64::from(one.buffer_count))
            .sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DeviceLimits = DeviceLimits {
        work_requests_max: 16384,
        sge_max: 32,
        completion_entries_max: 32767,
        shared_receive_max: 8192,
        read_responder_max: 16,
        read_initiator_max: 16,
        send_with_invalidate: true,
    };

    fn wanted() -> WantedSizes {
        WantedSizes {
            in_capsule_bytes: 4096,
            large_buffer_bytes: 131_072,
            small_buffers: 512,
            large_buffers: 64,
            receives: 1024,
            allow_degraded: true,
        }
    }

    #[test]
    fn completions_of_everything_that_can_be_posted_at_once_fit_the_queue() {
        let sizing = sizing(&wanted(), &LIMITS);
        assert_eq!(sizing.receive_count, 1024);
        assert!(sizing.completion_entries >= sizing.receive_count + SENDS_PER_REQUEST * sizing.request_count);
        let small = DeviceLimits {
            completion_entries_max: 1024,
            ..LIMITS
        };
        let sizing = super::sizing(&wanted(), &small);
        assert!(sizing.receive_count < 1024);
        assert!(sizing.completion_entries <= 1024);
        assert!(sizing.completion_entries >= sizing.receive_count + SENDS_PER_REQUEST * sizing.request_count);
    }

    #[test]
    fn every_pollers_minimum_is_registered_before_any_rest_and_nothing_is_forgotten() {
        let sizing = sizing(&wanted(), &LIMITS);
        let mut jobs = memory_jobs(2, &sizing);
        jobs.reverse();
        let first_rest = jobs.iter().position(|job| !job.required).unwrap();
        assert!(jobs[first_rest..].iter().all(|job| !job.required));
        assert_eq!(first_rest, 6);
        for poller in 0..2 {
            let total = |kind| -> u32 {
                jobs.iter()
                    .filter(|job| job.poller == poller && job.kind == kind)
                    .map(|job| job.buffers)
                    .sum()
            };
            assert_eq!(
                (
                    total(MemoryKind::Receive),
                    total(MemoryKind::Small),
                    total(MemoryKind::Large)
                ),
                (1024, 512, 64)
            );
        }
    }
}
