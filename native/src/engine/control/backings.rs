//! Backings of the desired namespaces: opened one at a time, retried on their own, closed after their last I/O. One
//! namespace's trouble is its own.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Now;
use super::events::{Event, Level};
use super::journal::Journal;
use crate::backend::{Backend, BackingFacts, BackingId, BackingSpec, OpenError};
use crate::subsystem::spec::NodeSpec;

/// First pause after a failed opening; doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// Which namespace: subsystem NQN and namespace id.
pub type NamespaceKey = (String, u32);

/// How a namespace's backing stands.
#[derive(Debug)]
pub enum State<B: Backend> {
    /// To be opened.
    Opening,
    /// Open and served.
    Ready {
        /// Its id.
        id: BackingId,
        /// It.
        backing: Arc<B::Backing>,
        /// Its facts.
        facts: BackingFacts,
    },
    /// Could not be opened.
    Failed {
        /// CamelCase.
        reason: &'static str,
        /// In words.
        message: String,
        /// Next attempt.
        retry_at: Instant,
        /// Failures in a row.
        failures: u32,
    },
}

/// A desired namespace.
#[derive(Debug)]
pub struct Entry<B: Backend> {
    /// What is or is to be open.
    pub spec: BackingSpec,
    /// Its UUID.
    pub uuid: Uuid,
    /// How it stands.
    pub state: State<B>,
    /// What it is to be replaced by once that can be opened: until then the old one goes on serving.
    pub replacement: Option<Replacement>,
}

/// Another backing for a namespace that serves.
#[derive(Debug)]
pub struct Replacement {
    spec: BackingSpec,
    uuid: Uuid,
    /// Why it could not be opened, CamelCase and in words.
    pub problem: Option<(&'static str, String)>,
    retry_at: Option<Instant>,
    failures: u32,
}

/// A backing on its way out: closed when no poller has I/O on it.
#[derive(Debug)]
struct Leaving<B: Backend> {
    backing: Arc<B::Backing>,
    pollers_left: usize,
    /// The namespace that is gone with it; `None` if the namespace only moved to another backing.
    namespace: Option<(NamespaceKey, Uuid)>,
}

/// Every backing.
#[derive(Debug)]
pub struct Backings<B: Backend> {
    backend: B,
    entries: BTreeMap<NamespaceKey, Entry<B>>,
    queue: VecDeque<NamespaceKey>,
    /// Replaced or removed since the last model, to be detached after the next one.
    retired: Vec<Retired<B>>,
    leaving: BTreeMap<BackingId, Leaving<B>>,
    last_id: u32,
}

/// Backings replaced or removed since the last model.
type Retired<B> = (BackingId, Arc<<B as Backend>::Backing>, Option<(NamespaceKey, Uuid)>);

impl<B: Backend> Backings<B> {
    /// None yet.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            entries: BTreeMap::new(),
            queue: VecDeque::new(),
            retired: Vec::new(),
            leaving: BTreeMap::new(),
            last_id: 0,
        }
    }

    /// Every desired namespace.
    pub fn entries(&self) -> impl Iterator<Item = (&NamespaceKey, &Entry<B>)> {
        self.entries.iter()
    }

    /// Id, facts and UUID of a namespace that can be served.
    #[must_use]
    pub fn ready(&self, key: &NamespaceKey) -> Option<(BackingId, BackingFacts, Uuid)> {
        let entry = self.entries.get(key)?;
        match entry.state {
            State::Ready { id, facts, .. } => Some((id, facts, entry.uuid)),
            _ => None,
        }
    }

    /// Every open backing, for a poller that is new.
    pub fn open_ones(&self) -> impl Iterator<Item = (BackingId, Arc<B::Backing>)> {
        self.entries.values().filter_map(|entry| match &entry.state {
            State::Ready { id, backing, .. } => Some((*id, Arc::clone(backing))),
            _ => None,
        })
    }

    /// Openings that have not been tried yet.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Backings that pollers may still use although no model names them.
    #[must_use]
    pub fn leaving(&self) -> usize {
        self.leaving.len() + self.retired.len()
    }

    /// Takes over a desired state: what is new or different is queued for opening, what is gone is retired.
    pub fn apply(&mut self, spec: &NodeSpec, journal: &mut Journal, now: Now) {
        let mut wanted = BTreeMap::new();
        for subsystem in &spec.subsystems {
            for namespace in &subsystem.namespaces {
                if let Some(backing) = namespace.backing_spec() {
                    let key = (subsystem.nqn.clone(), namespace.nsid);
                    wanted.insert(key, (backing, namespace.uuid_in(&subsystem.nqn)));
                }
            }
        }
        let gone: Vec<NamespaceKey> = self
            .entries
            .keys()
            .filter(|key| !wanted.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            self.remove(&key, journal, now);
        }
        for (key, (backing, uuid)) in wanted {
            self.want(key, backing, uuid, journal, now);
        }
    }

    fn remove(&mut self, key: &NamespaceKey, journal: &mut Journal, now: Now) {
        let Some(entry) = self.entries.remove(key) else { return };
        match entry.state {
            State::Ready { id, backing, .. } => {
                report(journal, now, key, entry.uuid, "Removing", ("", String::new()), 0);
                self.retired.push((id, backing, Some((key.clone(), entry.uuid))));
            }
            State::Opening | State::Failed { .. } => {
                report(journal, now, key, entry.uuid, "Removed", ("", String::new()), 0);
            }
        }
    }

    fn want(&mut self, key: NamespaceKey, spec: BackingSpec, uuid: Uuid, journal: &mut Journal, now: Now) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.queue.push_back(key.clone());
            self.entries.insert(
                key,
                Entry {
                    spec,
                    uuid,
                    state: State::Opening,
                    replacement: None,
                },
            );
            return;
        };
        let unchanged = entry.spec == spec;
        let State::Ready { backing, facts, .. } = &mut entry.state else {
            entry.uuid = uuid;
            if !unchanged {
                entry.spec = spec;
                entry.state = State::Opening;
                self.enqueue(key);
            }
            return;
        };
        if unchanged {
            entry.uuid = uuid;
            entry.replacement = None;
        } else if only_size_differs(&entry.spec, &spec) {
            entry.uuid = uuid;
            entry.replacement = None;
            match self.backend.grow(backing, &spec) {
                Ok(found) => {
                    entry.spec = spec;
                    take_facts(facts, found, journal, now, (&key, uuid));
                }
                // It goes on as it was: nothing is torn down because of a bad edit.
                Err(error) => {
                    let size = facts.size_bytes;
                    report(journal, now, &key, uuid, "Ready", (error.reason, error.message), size);
                }
            }
        } else if entry
            .replacement
            .as_ref()
            .is_none_or(|replacement| replacement.spec != spec)
        {
            entry.replacement = Some(Replacement {
                spec,
                uuid,
                problem: None,
                retry_at: None,
                failures: 0,
            });
            self.enqueue(key);
        }
    }

    /// Descriptor that becomes readable when [`Backings::follow_devices`] has something to look at.
    #[must_use]
    pub fn changes_fd(&self) -> Option<RawFd> {
        self.backend.changes_fd()
    }

    /// Looks at every open backing again if a device may have changed; whether one has.
    pub fn follow_devices(&mut self, journal: &mut Journal, now: Now) -> bool {
        if !self.backend.take_changes() {
            return false;
        }
        let mut changed = false;
        for (key, entry) in &mut self.entries {
            if let State::Ready { backing, facts, .. } = &mut entry.state {
                let found = self.backend.facts(backing);
                changed |= take_facts(facts, found, journal, now, (key, entry.uuid));
            }
        }
        changed
    }

    fn enqueue(&mut self, key: NamespaceKey) {
        if !self.queue.contains(&key) {
            self.queue.push_back(key);
        }
    }

    /// Opens the next queued backing; the one that pollers are to be told of. Opening may block, so one at a time.
    pub fn open_next(&mut self, journal: &mut Journal, now: Now) -> Option<(BackingId, Arc<B::Backing>)> {
        let key = self.queue.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        let spec = match (&entry.state, &entry.replacement) {
            (_, Some(replacement)) => &replacement.spec,
            (State::Ready { .. }, None) => return None,
            (_, None) => &entry.spec,
        };
        match self.backend.open(spec) {
            Ok(backing) => {
                self.last_id += 1;
                let id = BackingId(self.last_id);
                let facts = self.backend.facts(&backing);
                let ready = State::Ready {
                    id,
                    backing: Arc::clone(&backing),
                    facts,
                };
                if let State::Ready { id, backing, .. } = std::mem::replace(&mut entry.state, ready) {
                    self.retired.push((id, backing, None));
                }
                if let Some(replacement) = entry.replacement.take() {
                    (entry.spec, entry.uuid) = (replacement.spec, replacement.uuid);
                }
                report(
                    journal,
                    now,
                    &key,
                    entry.uuid,
                    "Ready",
                    ("", String::new()),
                    facts.size_bytes,
                );
                Some((id, backing))
            }
            Err(error) => {
                entry.open_failed(&key, error, journal, now);
                None
            }
        }
    }

    /// Queues what is to be tried again.
    pub fn retry_due(&mut self, now: Instant) {
        for (key, entry) in &self.entries {
            if entry.retry_at().is_some_and(|at| at <= now) && !self.queue.contains(key) {
                self.queue.push_back(key.clone());
            }
        }
    }

    /// When something is to be tried again.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.entries.values().filter_map(Entry::retry_at).min()
    }

    /// A model without the retired backings is published: their ids, for the pollers to let go of.
    pub fn take_retired(&mut self, pollers: usize, journal: &mut Journal, now: Now) -> Vec<BackingId> {
        let mut ids = Vec::new();
        for (id, backing, namespace) in std::mem::take(&mut self.retired) {
            if pollers == 0 {
                removed(journal, now, namespace);
                continue;
            }
            ids.push(id);
            self.leaving.insert(
                id,
                Leaving {
                    backing,
                    pollers_left: pollers,
                    namespace,
                },
            );
        }
        ids
    }

    /// A poller has no I/O on it any more.
    pub fn detached(&mut self, id: BackingId, journal: &mut Journal, now: Now) {
        let Some(leaving) = self.leaving.get_mut(&id) else {
            return;
        };
        leaving.pollers_left = leaving.pollers_left.saturating_sub(1);
        if leaving.pollers_left > 0 {
            return;
        }
        if let Some(Leaving { backing, namespace, .. }) = self.leaving.remove(&id) {
            drop(backing);
            removed(journal, now, namespace);
        }
    }

    /// Every poller thread is gone, and with it all I/O.
    pub fn all_detached(&mut self, journal: &mut Journal, now: Now) {
        for (_, Leaving { backing, namespace, .. }) in std::mem::take(&mut self.leaving) {
            drop(backing);
            removed(journal, now, namespace);
        }
    }
}

impl<B: Backend> Entry<B> {
    fn retry_at(&self) -> Option<Instant> {
        match (&self.replacement, &self.state) {
            (Some(replacement), _) => replacement.retry_at,
            (None, State::Failed { retry_at, .. }) => Some(*retry_at),
            _ => None,
        }
    }

    fn open_failed(&mut self, key: &NamespaceKey, error: OpenError, journal: &mut Journal, now: Now) {
        if let (Some(replacement), State::Ready { facts, .. }) = (&mut self.replacement, &self.state) {
            replacement.failures = replacement.failures.saturating_add(1);
            replacement.retry_at = Some(now.instant + pause(replacement.failures));
            if replacement.failures == 1 {
                let why = (
                    error.reason,
                    format!("goes on with its earlier backend: {}", error.message),
                );
                report(journal, now, key, self.uuid, "Ready", why, facts.size_bytes);
            }
            replacement.problem = Some((error.reason, error.message));
            return;
        }
        let failures = match self.state {
            State::Failed { failures, .. } => failures.saturating_add(1),
            _ => 1,
        };
        if failures == 1 {
            report(
                journal,
                now,
                key,
                self.uuid,
                "Failed",
                (error.reason, error.message.clone()),
                0,
            );
        }
        let retry_at = now.instant + pause(failures);
        self.state = State::Failed {
            reason: error.reason,
            message: error.message,
            retry_at,
            failures,
        };
    }
}

fn pause(failures: u32) -> Duration {
    (RETRY_FIRST * (1 << failures.saturating_sub(1).min(16))).min(RETRY_LONGEST)
}

/// Takes over what was found at an open backing, and says so if it is another size; whether anything differs.
fn take_facts(
    facts: &mut BackingFacts,
    found: BackingFacts,
    journal: &mut Journal,
    now: Now,
    (key, uuid): (&NamespaceKey, Uuid),
) -> bool {
    let before = std::mem::replace(facts, found);
    let size = found.size_bytes;
    if size > before.size_bytes {
        report(journal, now, key, uuid, "Ready", ("Grown", String::new()), size);
    } else if size < before.size_bytes {
        let message = format!(
            "the device has {size} bytes, it had {}: what lay beyond is lost to hosts; give the device its size back",
            before.size_bytes
        );
        report(journal, now, key, uuid, "Ready", ("Shrunk", message), size);
    }
    found != before
}

fn only_size_differs(old: &BackingSpec, new: &BackingSpec) -> bool {
    let without_size = |spec: &BackingSpec| {
        let mut spec = spec.clone();
        match &mut spec {
            BackingSpec::File { size_bytes, .. }
            | BackingSpec::Memory { size_bytes }
            | BackingSpec::Null { size_bytes } => *size_bytes = 0,
            BackingSpec::BlockDevice {
                expected_size_bytes, ..
            } => *expected_size_bytes = None,
        }
        spec
    };
    without_size(old) == without_size(new)
}

fn removed(journal: &mut Journal, now: Now, namespace: Option<(NamespaceKey, Uuid)>) {
    if let Some((key, uuid)) = namespace {
        report(journal, now, &key, uuid, "Removed", ("", String::new()), 0);
    }
}

fn report(
    journal: &mut Journal,
    now: Now,
    key: &NamespaceKey,
    uuid: Uuid,
    state: &'static str,
    (reason, message): (&'static str, String),
    size_bytes: u64,
) {
    let event = Event::NamespaceState {
        subsystem: key.0.clone(),
        nsid: key.1,
        state,
        reason,
        message,
        uuid: uuid.to_string(),
        size_bytes,
    };
    let level = if state == "Failed" || (state == "Ready" && !matches!(reason, "" | "Grown")) {
        Level::Error
    } else {
        Level::Info
    };
    journal.report_as(level, event, now);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;
    use crate::backend::host::{HostBackend, HostBacking, HostQueue};
    use crate::engine::control::events::Report;
    use crate::subsystem::spec::DesiredState;

    const MIB: u64 = 1 << 20;

    /// One block device, of the size that the test gives it.
    #[derive(Debug, Clone, Default)]
    struct OneDevice {
        size_bytes: Arc<AtomicU64>,
        announced: Arc<AtomicBool>,
    }

    impl OneDevice {
        fn resize(&self, size_bytes: u64) {
            self.size_bytes.store(size_bytes, Ordering::Relaxed);
        }

        fn announce(&self) {
            self.announced.store(true, Ordering::Relaxed);
        }
    }

    impl Backend for OneDevice {
        type Backing = HostBacking;
        type Queue = HostQueue;

        fn open(&self, spec: &BackingSpec) -> Result<Arc<HostBacking>, OpenError> {
            assert!(matches!(spec, BackingSpec::BlockDevice { .. }));
            HostBackend::new().open(&BackingSpec::Null { size_bytes: MIB })
        }

        fn facts(&self, _: &HostBacking) -> BackingFacts {
            BackingFacts {
                size_bytes: self.size_bytes.load(Ordering::Relaxed),
                block_shift: 9,
                volatile: false,
                read_only: false,
                write_cache: true,
            }
        }

        fn take_changes(&self) -> bool {
            self.announced.swap(false, Ordering::Relaxed)
        }

        fn queue(&self, depth: u32) -> std::io::Result<HostQueue> {
            HostBackend::new().queue(depth)
        }
    }

    struct Bench {
        device: OneDevice,
        backings: Backings<OneDevice>,
        journal: Journal,
        id: BackingId,
    }

    impl Bench {
        fn serving(size_bytes: u64) -> Self {
            let device = OneDevice::default();
            device.resize(size_bytes);
            let mut bench = Self {
                backings: Backings::new(device.clone()),
                device,
                journal: Journal::default(),
                id: BackingId(0),
            };
            bench.apply(None);
            bench.id = bench.backings.open_next(&mut bench.journal, now()).unwrap().0;
            bench.reports();
            bench
        }

        fn apply(&mut self, expected: Option<u64>) {
            let expected = expected.map_or_else(String::new, |size| format!(r#", "expectedSizeBytes": {size}"#));
            let json = format!(
                r#"{{"generation": 1, "spec": {{"nodeName": "node-a", "target": "storage/fast",
                    "listeners": [{{"name": "storage", "addressFrom": {{"cidr": "10.9.0.0/24"}}}}],
                    "subsystems": [{{"nqn": "nqn.2026-11.dev.weir:fast", "namespaces":
                        [{{"nsid": 1, "backend": {{"blockDevice": {{"path": "/dev/weir/data"{expected}}}}}}}]}}]}}}}"#
            );
            let spec = DesiredState::from_json(json.as_bytes()).unwrap().spec;
            self.backings.apply(&spec, &mut self.journal, now());
        }

        fn follow(&mut self) -> bool {
            self.backings.follow_devices(&mut self.journal, now())
        }

        /// What is served: always from the backing that was opened first, so that no I/O is interrupted.
        fn size_bytes(&self) -> u64 {
            let (id, facts, _) = self
                .backings
                .ready(&("nqn.2026-11.dev.weir:fast".to_owned(), 1))
                .unwrap();
            assert_eq!((id, self.backings.leaving()), (self.id, 0));
            facts.size_bytes
        }

        fn reports(&mut self) -> Vec<(&'static str, u64)> {
            let said = |report: Report| match report.event {
                Event::NamespaceState { reason, size_bytes, .. } => Some((reason, size_bytes)),
                _ => None,
            };
            self.journal.take().into_iter().filter_map(said).collect()
        }
    }

    fn now() -> Now {
        Now {
            instant: Instant::now(),
            unix_ms: 0,
        }
    }

    #[test]
    fn a_device_that_grows_is_served_with_its_new_size_as_soon_as_the_kernel_says_so() {
        let mut bench = Bench::serving(MIB);
        assert!(!bench.follow());
        bench.device.resize(2 * MIB);
        bench.device.announce();
        assert!(bench.follow());
        assert_eq!(bench.size_bytes(), 2 * MIB);
        assert_eq!(bench.reports(), [("Grown", 2 * MIB)]);
        bench.device.announce();
        assert!(!bench.follow(), "another device changed");
        assert_eq!(bench.reports(), []);
    }

    #[test]
    fn a_device_that_is_said_to_have_grown_is_looked_at_without_the_kernel_saying_so() {
        let mut bench = Bench::serving(MIB);
        bench.device.resize(2 * MIB);
        bench.apply(Some(3 * MIB));
        assert_eq!(bench.size_bytes(), 2 * MIB, "the device's own size is what counts");
        assert_eq!(bench.reports(), [("Grown", 2 * MIB)]);
        bench.apply(Some(4 * MIB));
        assert_eq!(bench.reports(), []);
    }

    #[test]
    fn a_device_that_shrinks_is_told_as_trouble() {
        let mut bench = Bench::serving(2 * MIB);
        bench.device.resize(MIB);
        bench.device.announce();
        assert!(bench.follow());
        assert_eq!(bench.size_bytes(), MIB);
        assert_eq!(bench.reports(), [("Shrunk", MIB)]);
    }
}
