//! The backend that serves: files, block devices, memory and null behind one queue per poller.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::device_changes::DeviceChanges;
use super::disk::{Disk, check_size};
use super::memory::MemoryBacking;
use super::notifier::Notifier;
use super::null::NullBacking;
use super::threads::Threads;
use super::uring::Uring;
use super::{
    Backend, BackingFacts, BackingId, BackingSpec, IoCompletion, IoOperation, IoRequest, OpenError, Queue, QueueFull,
};

/// Memory left for the process itself when memory namespaces are weighed against the limit.
const MEMORY_RESERVE_BYTES: u64 = 64 << 20;

/// How disk I/O reaches the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskEngine {
    /// `io_uring`, or threads with a warning where it is not to be had.
    Automatic,
    /// `io_uring` or an error.
    Uring,
    /// A few threads and ordinary system calls.
    Threads,
}

/// Opens files, block devices, memory and null backings.
#[derive(Debug, Clone)]
pub struct HostBackend {
    engine: DiskEngine,
    warning: Arc<OnceLock<String>>,
    /// Bytes of all memory namespaces that are open.
    promised: Arc<AtomicU64>,
    /// Bytes that memory namespaces may take altogether.
    memory_limit_bytes: u64,
    /// `None` where the kernel's announcements cannot be had: then a device is looked at when the desired state changes.
    device_changes: Option<Arc<DeviceChanges>>,
}

impl HostBackend {
    /// The backend of this system: finds out at once whether `io_uring` can be used (see [`Backend::warning`]).
    #[must_use]
    pub fn new() -> Self {
        Self::with_engine(DiskEngine::Automatic)
    }

    /// A backend with a chosen engine.
    #[must_use]
    pub fn with_engine(engine: DiskEngine) -> Self {
        let this = Self {
            engine,
            warning: Arc::default(),
            promised: Arc::default(),
            memory_limit_bytes: memory_limit_bytes(),
            device_changes: DeviceChanges::open().ok().map(Arc::new),
        };
        if engine == DiskEngine::Automatic {
            if let Err(e) = Notifier::new().and_then(|notifier| Uring::new(1, &notifier)) {
                this.warn(&e);
            }
        }
        this
    }

    fn warn(&self, e: &io::Error) {
        self.warning.get_or_init(|| {
            format!(
                "{}; disk I/O goes through a thread pool, which is slower. {}",
                uring_failure(e),
                "Allow io_uring to the process (seccomp profile, kernel.io_uring_disabled) to use it"
            )
        });
    }

    fn disk_queue(&self, depth: u32, notifier: &Arc<Notifier>) -> io::Result<DiskQueue> {
        let threads = || Threads::new(depth, Arc::clone(notifier)).map(DiskQueue::Threads);
        match self.engine {
            DiskEngine::Threads => threads(),
            DiskEngine::Uring => Uring::new(depth, notifier)
                .map(DiskQueue::Uring)
                .map_err(|e| io::Error::new(e.kind(), uring_failure(&e))),
            DiskEngine::Automatic if self.warning.get().is_some() => threads(),
            DiskEngine::Automatic => Uring::new(depth, notifier).map(DiskQueue::Uring).or_else(|e| {
                self.warn(&e);
                threads()
            }),
        }
    }

    fn open_memory(&self, size_bytes: u64) -> Result<HostBacking, OpenError> {
        check_size("backend.memory", size_bytes)?;
        let room = self.memory_limit_bytes.saturating_sub(MEMORY_RESERVE_BYTES);
        let promise = self
            .promised
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |promised| {
                promised.checked_add(size_bytes).filter(|sum| *sum <= room)
            })
            .map(|_| Promise {
                promised: Arc::clone(&self.promised),
                bytes: size_bytes,
            })
            .map_err(|promised| OpenError {
                reason: "InsufficientMemory",
                message: format!(
                    "backend.memory: {size_bytes} bytes do not fit: the memory limit is {} bytes, {promised} are taken by \
                     other memory namespaces and {MEMORY_RESERVE_BYTES} are kept for the process: raise the limit or ask for \
                     less",
                    self.memory_limit_bytes
                ),
            })?;
        let memory = MemoryBacking::new(size_bytes).map_err(|e| OpenError {
            reason: "InsufficientMemory",
            message: format!("backend.memory: {size_bytes} bytes cannot be mapped ({e}): ask for less"),
        })?;
        Ok(HostBacking {
            kind: Kind::Memory(memory),
            _promise: Some(promise),
        })
    }
}

impl Default for HostBackend {
    fn default() -> Self {
        Self::new()
    }
}

fn uring_failure(e: &io::Error) -> String {
    match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "io_uring is not permitted here".to_owned(),
        Some(libc::ENOSYS) => "the kernel has no io_uring".to_owned(),
        Some(libc::ENOMEM) => "io_uring found no memory (memory limit, or ulimit -l on old kernels)".to_owned(),
        _ => format!("io_uring cannot be used ({e})"),
    }
}

/// The smaller of the machine's memory and the limits of the control groups this process is in.
fn memory_limit_bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(u64::MAX, |kibibytes| kibibytes.saturating_mul(1024));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    control_group_limits(Path::new("/sys/fs/cgroup"), &groups).fold(machine, u64::min)
}

/// Memory limits found in the control groups that `groups` (the text of `/proc/self/cgroup`) names and all above them.
/// In a container the named path may not exist but for its root, which then is the container's own group.
fn control_group_limits(root: &Path, groups: &str) -> impl Iterator<Item = u64> {
    let root = root.to_owned();
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            let path = parts.next()?.trim_start_matches('/').to_owned();
            match controllers {
                "" => Some((String::new(), "memory.max", path)),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    Some(("memory".to_owned(), "memory.limit_in_bytes", path))
                }
                _ => None,
            }
        })
        .flat_map(move |(hierarchy, file, path)| {
            let top = root.join(hierarchy);
            Path::new(&path)
                .ancestors()
                .filter_map(|part| std::fs::read_to_string(top.join(part).join(file)).ok())
                .filter_map(|text| text.trim().parse::<u64>().ok())
                .collect::<Vec<_>>()
        })
}

/// Gives promised memory back when its namespace is gone.
#[derive(Debug)]
struct Promise {
    promised: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum Kind {
    Disk(Arc<Disk>),
    Memory(MemoryBacking),
    Null(NullBacking),
}

/// An open file, block device, memory or null backing.
#[derive(Debug)]
pub struct HostBacking {
    kind: Kind,
    /// Given back with the backing.
    _promise: Option<Promise>,
}

impl From<Kind> for HostBacking {
    fn from(kind: Kind) -> Self {
        Self { kind, _promise: None }
    }
}

impl HostBacking {
    fn size_bytes(&self) -> u64 {
        match &self.kind {
            Kind::Disk(disk) => disk.size_bytes(),
            Kind::Memory(memory) => memory.size_bytes(),
            Kind::Null(null) => null.size_bytes(),
        }
    }

    fn read_only(&self) -> bool {
        match &self.kind {
            Kind::Disk(disk) => disk.read_only(),
            Kind::Memory(_) | Kind::Null(_) => false,
        }
    }

    /// 0, or the `errno` of a request that must not reach the storage.
    fn refusal(&self, request: &IoRequest) -> i32 {
        if request.operation == IoOperation::Flush {
            return 0;
        }
        if self.read_only() && request.operation != IoOperation::Read {
            return libc::EROFS;
        }
        match request.offset.checked_add(request.length) {
            Some(end) if end <= self.size_bytes() => 0,
            _ => libc::EINVAL,
        }
    }
}

impl Backend for HostBackend {
    type Backing = HostBacking;
    type Queue = HostQueue;

    fn open(&self, spec: &BackingSpec) -> Result<Arc<HostBacking>, OpenError> {
        Ok(Arc::new(match spec {
            BackingSpec::BlockDevice { path, read_only, .. } => {
                Kind::Disk(Arc::new(Disk::open_block_device(path, *read_only)?)).into()
            }
            BackingSpec::File {
                path,
                size_bytes,
                read_only,
            } => Kind::Disk(Arc::new(Disk::open_file(path, *size_bytes, *read_only)?)).into(),
            BackingSpec::Memory { size_bytes } => self.open_memory(*size_bytes)?,
            BackingSpec::Null { size_bytes } => {
                check_size("backend.null", *size_bytes)?;
                Kind::Null(NullBacking::new(*size_bytes)).into()
            }
        }))
    }

    fn facts(&self, backing: &HostBacking) -> BackingFacts {
        match &backing.kind {
            Kind::Disk(disk) => disk.facts(),
            Kind::Memory(memory) => memory.facts(),
            Kind::Null(null) => null.facts(),
        }
    }

    fn changes_fd(&self) -> Option<RawFd> {
        self.device_changes.as_ref().map(|changes| changes.raw_fd())
    }

    fn take_changes(&self) -> bool {
        self.device_changes.as_ref().is_some_and(|changes| changes.take())
    }

    fn grow(&self, backing: &HostBacking, spec: &BackingSpec) -> Result<BackingFacts, OpenError> {
        let current = backing.size_bytes();
        match (&backing.kind, spec) {
            (Kind::Disk(disk), BackingSpec::File { path, size_bytes, .. }) if disk.is_file() && disk.path() == path => {
                disk.grow_file(*size_bytes)?;
            }
            (Kind::Disk(disk), BackingSpec::BlockDevice { path, .. }) if !disk.is_file() && disk.path() == path => {}
            (Kind::Memory(_), BackingSpec::Memory { size_bytes }) if *size_bytes == current => {}
            (Kind::Null(null), BackingSpec::Null { size_bytes }) if *size_bytes >= current => null.grow(*size_bytes),
            _ => {
                return Err(OpenError {
                    reason: "ResizeRefused",
                    message: format!(
                        "a backing of {current} bytes that is in use cannot be turned into what is asked for now: remove the \
                         namespace and add another"
                    ),
                });
            }
        }
        Ok(self.facts(backing))
    }

    fn queue(&self, depth: u32) -> io::Result<HostQueue> {
        let depth = depth.max(1);
        let notifier = Arc::new(Notifier::new()?);
        Ok(HostQueue {
            disk: self.disk_queue(depth, &notifier)?,
            entries: Vec::new(),
            by_id: Vec::new(),
            immediate: VecDeque::with_capacity(depth as usize),
            depth: depth as usize,
            notifier,
            armed: false,
        })
    }

    fn warning(&self) -> Option<String> {
        self.warning.get().cloned()
    }
}

/// There is one per poller, so the room the smaller variant wastes is nothing beside an indirection on every I/O.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)]
enum DiskQueue {
    Uring(Uring),
    Threads(Threads),
}

impl DiskQueue {
    fn in_flight(&self) -> usize {
        match self {
            Self::Uring(queue) => queue.in_flight(),
            Self::Threads(queue) => queue.in_flight(),
        }
    }
}

/// A backing as a queue knows it.
#[derive(Debug)]
struct Entry {
    id: BackingId,
    backing: Arc<HostBacking>,
    in_flight: u32,
    detached: bool,
}

/// An I/O that needs no disk: carried out, or refused, at the next poll.
#[derive(Debug, Clone, Copy)]
struct Immediate {
    request: IoRequest,
    /// `None`: refused with `errno`.
    entry: Option<u32>,
    errno: i32,
}

/// One poller's queue for backings of every kind. Allocates nothing once its backings are attached.
#[derive(Debug)]
pub struct HostQueue {
    /// First, so that it is dropped (and its I/Os waited for) before the backings.
    disk: DiskQueue,
    entries: Vec<Option<Entry>>,
    /// Places in `entries` by ascending id.
    by_id: Vec<(BackingId, u32)>,
    immediate: VecDeque<Immediate>,
    depth: usize,
    notifier: Arc<Notifier>,
    armed: bool,
}

impl HostQueue {
    fn place(&self, id: BackingId) -> Option<u32> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.by_id[at].1)
    }
}

/// Counts an I/O of a backing as taken; forgets a detached backing with its last one.
fn release(entries: &mut [Option<Entry>], place: u32) {
    let slot = &mut entries[place as usize];
    let entry = slot.as_mut().expect("a backing stays until its last I/O is taken");
    entry.in_flight -= 1;
    if entry.detached && entry.in_flight == 0 {
        *slot = None;
    }
}

impl Queue for HostQueue {
    type Backing = HostBacking;

    fn attach(&mut self, id: BackingId, backing: Arc<HostBacking>) {
        let entry = Entry {
            id,
            backing,
            in_flight: 0,
            detached: false,
        };
        let place = match self.entries.iter().position(Option::is_none) {
            Some(free) => {
                self.entries[free] = Some(entry);
                free
            }
            None => {
                self.entries.push(Some(entry));
                self.entries.len() - 1
            }
        };
        let place = u32::try_from(place).expect("far fewer backings than 2^32");
        match self.by_id.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => {
                let former = std::mem::replace(&mut self.by_id[at].1, place);
                self.forget(former);
            }
            Err(at) => self.by_id.insert(at, (id, place)),
        }
    }

    fn detach(&mut self, id: BackingId) {
        if let Ok(at) = self.by_id.binary_search_by_key(&id, |(id, _)| *id) {
            let (_, place) = self.by_id.remove(at);
            self.forget(place);
        }
    }

    fn push(&mut self, request: &IoRequest) -> Result<(), QueueFull> {
        if self.in_flight() >= self.depth {
            return Err(QueueFull);
        }
        let Some(place) = self.place(request.backing) else {
            self.immediate.push_back(Immediate {
                request: *request,
                entry: None,
                errno: libc::ENODEV,
            });
            return Ok(());
        };
        let entry = self.entries[place as usize]
            .as_mut()
            .expect("a place named by id is taken");
        debug_assert_eq!(entry.id, request.backing, "the index names the backing");
        let errno = entry.backing.refusal(request);
        let nothing = request.length == 0 && request.operation != IoOperation::Flush;
        if let (Kind::Disk(disk), 0, false) = (&entry.backing.kind, errno, nothing) {
            let taken = match &mut self.disk {
                DiskQueue::Uring(queue) => queue.push(request, place, disk),
                DiskQueue::Threads(queue) => queue.push(request, place, disk),
            };
            if !taken {
                return Err(QueueFull);
            }
        } else {
            self.immediate.push_back(Immediate {
                request: *request,
                entry: Some(place),
                errno,
            });
        }
        entry.in_flight += 1;
        Ok(())
    }

    fn submit(&mut self) {
        match &mut self.disk {
            DiskQueue::Uring(queue) => queue.submit(),
            DiskQueue::Threads(queue) => queue.submit(),
        }
    }

    fn poll(&mut self, completions: &mut [IoCompletion]) -> usize {
        let mut count = 0;
        while count < completions.len() {
            let Some(io) = self.immediate.pop_front() else {
                break;
            };
            let mut errno = io.errno;
            if let Some(place) = io.entry {
                if errno == 0 && io.request.length > 0 {
                    let entry = self.entries[place as usize].as_ref();
                    match &entry.expect("a backing stays until its last I/O is taken").backing.kind {
                        Kind::Memory(memory) => errno = memory.execute(&io.request),
                        Kind::Null(null) => errno = null.execute(&io.request),
                        Kind::Disk(_) => {}
                    }
                }
                release(&mut self.entries, place);
            }
            completions[count] = IoCompletion {
                token: io.request.token,
                errno,
            };
            count += 1;
        }
        if self.disk.in_flight() > 0 {
            let limit = completions.len() - count;
            let entries = &mut self.entries;
            let take = |token, place, errno| {
                release(entries, place);
                completions[count] = IoCompletion { token, errno };
                count += 1;
            };
            match &mut self.disk {
                DiskQueue::Uring(queue) => queue.poll(limit, take),
                DiskQueue::Threads(queue) => queue.poll(limit, take),
            }
        }
        count
    }

    fn in_flight(&self) -> usize {
        self.immediate.len() + self.disk.in_flight()
    }

    fn completion_fd(&self) -> Option<RawFd> {
        Some(self.notifier.raw_fd())
    }

    fn arm(&mut self, armed: bool) {
        match &mut self.disk {
            DiskQueue::Uring(queue) => queue.arm(armed),
            DiskQueue::Threads(queue) => queue.arm(armed),
        }
        if armed && !self.immediate.is_empty() {
            self.notifier.notify();
        }
        if self.armed && !armed {
            self.notifier.clear();
        }
        self.armed = armed;
    }
}

impl HostQueue {
    fn forget(&mut self, place: u32) {
        let slot = &mut self.entries[place as usize];
        match slot {
            Some(entry) if entry.in_flight > 0 => entry.detached = true,
            _ => *slot = None,
        }
    }
}

#[cfg(test)]
mod tests;
