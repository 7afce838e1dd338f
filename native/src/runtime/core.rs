//! The running core: what the C ABI holds.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::bell::Bell;
use super::control_thread::{self, Command, Shared};
use super::event_ring::{BufferTooSmall, EventRing};
use super::fatal::{Fatal, ProcessExit};
use super::poller_threads::PollerThreads;
use super::secrets;
use super::snapshot::Snapshot;
use crate::backend::Backend;
use crate::engine::control::events::Event;
use crate::engine::control::{Control, ControlParts};
use crate::engine::mailbox::Wake;
use crate::link::LinkSource;
use crate::provider::Provider;
use crate::soft_device::Recreation;
use crate::subsystem::spec::DesiredState;

/// How long closing may take before what does not finish is left behind.
const CLOSE_MAX: Duration = Duration::from_secs(8);

/// How a core runs.
#[derive(Debug)]
pub struct CoreOptions {
    /// Bytes of the event ring.
    pub event_ring_bytes: usize,
    /// Processors to pin pollers to, round and round; none: not pinned.
    pub poller_processors: Vec<usize>,
    /// Ends the process.
    pub exit: Arc<dyn ProcessExit>,
    /// Makes soft RDMA devices anew.
    pub recreation: Option<Box<dyn Recreation>>,
    /// What there is to report from before the start: told with the first desired state.
    pub reports: Vec<Event>,
    /// Where keys of hosts are: `<Secret's name>/<key's name>`.
    pub secrets_directory: Option<PathBuf>,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoreError {
    /// A drain was asked for: no desired state is taken any more.
    #[error("the core is draining or drained and takes no new desired state")]
    Draining,
}

/// A running core: one control thread, and the pollers it started.
#[derive(Debug)]
pub struct Core {
    shared: Arc<Shared>,
    draining: AtomicBool,
    secrets_directory: Option<PathBuf>,
    finished: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Core {
    /// Starts the control thread.
    ///
    /// # Errors
    /// The system's, when there are no descriptors or threads left.
    pub fn start<P: Provider, B: Backend>(
        provider: P,
        backend: B,
        links: Box<dyn LinkSource>,
        options: CoreOptions,
    ) -> io::Result<Self> {
        let bell = Arc::new(Bell::new()?);
        let ring = Arc::new(EventRing::new(options.event_ring_bytes)?);
        let fatal = Fatal::new(Arc::clone(&ring), options.exit);
        let poller_host = PollerThreads::new(
            provider.clone(),
            backend.clone(),
            Arc::clone(&bell),
            fatal.clone(),
            options.poller_processors,
        );
        let control = Control::new(ControlParts {
            provider,
            backend,
            links,
            poller_host,
            exit_when_device_removed: true,
            recreation: options.recreation,
            reports: options.reports,
        });

        let snapshot = Snapshot::new(control.statistics(0).to_string());
        let shared = Arc::new(Shared {
            commands: Mutex::default(),
            bell,
            ring,
            snapshot,
        });
        let (finish, finished) = mpsc::channel();
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("weir-control".to_owned())
            .spawn(move || {
                control_thread::run(control, &own, &fatal);
                let _ = finish.send(());
            })?;
        Ok(Self {
            shared,
            draining: AtomicBool::new(false),
            secrets_directory: options.secrets_directory,
            finished,
            thread: Some(thread),
        })
    }

    fn send(&self, command: Command) {
        self.shared.lock().push_back(command);
        self.shared.bell.wake();
    }

    /// Takes over a validated desired state, with the keys that its hosts' Secrets have now; what becomes of it is told by events and statistics.
    ///
    /// # Errors
    /// When the core is draining.
    pub fn apply(&self, mut desired: DesiredState) -> Result<(), CoreError> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(CoreError::Draining);
        }
        secrets::load(&mut desired.spec, self.secrets_directory.as_deref());
        self.send(Command::Apply(Box::new(desired)));
        Ok(())
    }

    /// Drains the whole core; ends with the event `drained`.
    pub fn drain(&self, timeout: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        self.send(Command::Drain(timeout));
    }

    /// Readable when there are events.
    #[must_use]
    pub fn event_fd(&self) -> RawFd {
        self.shared.ring.fd()
    }

    /// Takes whole event lines; the bytes written.
    ///
    /// # Errors
    /// When not even one line fits.
    pub fn take_events(&self, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
        self.shared.ring.take(buffer)
    }

    /// The statistics as JSON, a few milliseconds old at most, unless the control thread is held up by the system.
    #[must_use]
    pub fn statistics(&self) -> Arc<str> {
        self.shared.snapshot.read(|| self.shared.bell.wake())
    }

    /// Drains shortly if nobody did, stops every thread and waits for them. What does not finish in time is left
    /// behind, alive: memory that a device may still write to is never freed.
    pub fn close(mut self) {
        self.send(Command::Close);
        if self.finished.recv_timeout(CLOSE_MAX).is_ok() {
            if let Some(thread) = self.thread.take() {
                let _ = thread.join();
            }
        }
    }
}
