//! Memory namespaces whose I/O a test can hold back, refuse or fail.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::backend::host::{HostBackend, HostBacking, HostQueue};
use crate::backend::{
    Backend, BackingFacts, BackingId, BackingSpec, IoCompletion, IoOperation, IoRequest, OpenError, Queue, QueueFull,
};

#[derive(Debug, Default)]
struct State {
    holding: bool,
    /// I/Os let through although the rest is held.
    released: usize,
    room: Option<usize>,
    errno: i32,
    held: VecDeque<IoRequest>,
    failed: VecDeque<IoCompletion>,
    executed: Vec<(BackingId, IoOperation, u64, u64)>,
    stray: Option<IoCompletion>,
}

/// The test's hand on the backend.
#[derive(Debug, Clone)]
pub struct TestBackend {
    inner: HostBackend,
    state: Arc<Mutex<State>>,
}

impl TestBackend {
    pub fn new() -> Self {
        Self {
            inner: HostBackend::with_engine(crate::backend::host::DiskEngine::Threads),
            state: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// I/O stays in the backend until called with `false`.
    pub fn hold(&self, holding: bool) {
        self.state().holding = holding;
    }

    /// I/O that is held back now.
    pub fn held(&self) -> usize {
        self.state().held.len()
    }

    /// Lets the oldest I/O through.
    pub fn release_one(&self) {
        self.state().released += 1;
    }

    /// At most so many I/Os in the queue at once.
    pub fn limit_room(&self, room: usize) {
        self.state().room = Some(room);
    }

    /// Every I/O fails from now on; 0 ends it.
    pub fn fail(&self, errno: i32) {
        self.state().errno = errno;
    }

    /// What reached the storage: (backing, operation, offset, length), in order.
    pub fn executed(&self) -> Vec<(BackingId, IoOperation, u64, u64)> {
        self.state().executed.clone()
    }

    /// The queue reports a completion that nobody asked for.
    pub fn inject(&self, completion: IoCompletion) {
        self.state().stray = Some(completion);
    }
}

impl Backend for TestBackend {
    type Backing = HostBacking;
    type Queue = TestQueue;

    fn open(&self, spec: &BackingSpec) -> Result<Arc<HostBacking>, OpenError> {
        self.inner.open(spec)
    }

    fn facts(&self, backing: &HostBacking) -> BackingFacts {
        self.inner.facts(backing)
    }

    fn queue(&self, depth: u32) -> std::io::Result<TestQueue> {
        Ok(TestQueue {
            inner: self.inner.queue(depth)?,
            test: self.clone(),
        })
    }
}

/// See [`TestBackend`].
#[derive(Debug)]
pub struct TestQueue {
    inner: HostQueue,
    test: TestBackend,
}

impl TestQueue {
    fn release(&mut self) {
        let mut state = self.test.state.lock().unwrap();
        while !state.holding || state.released > 0 {
            let Some(io) = state.held.pop_front() else { break };
            state.released = state.released.saturating_sub(1);
            state.executed.push((io.backing, io.operation, io.offset, io.length));
            self.inner.push(&io).unwrap();
        }
        drop(state);
        self.inner.submit();
    }
}

impl Queue for TestQueue {
    type Backing = HostBacking;

    fn attach(&mut self, id: BackingId, backing: Arc<HostBacking>) {
        self.inner.attach(id, backing);
    }

    fn detach(&mut self, id: BackingId) {
        self.inner.detach(id);
    }

    fn push(&mut self, request: &IoRequest) -> Result<(), QueueFull> {
        let in_flight = self.in_flight();
        let mut state = self.test.state();
        if state.room.is_some_and(|room| in_flight >= room) {
            return Err(QueueFull);
        }
        if state.errno != 0 {
            let errno = state.errno;
            state.failed.push_back(IoCompletion {
                token: request.token,
                errno,
            });
        } else {
            state.held.push_back(*request);
        }
        Ok(())
    }

    fn submit(&mut self) {
        self.release();
    }

    fn poll(&mut self, completions: &mut [IoCompletion]) -> usize {
        self.release();
        let mut count = self.inner.poll(completions);
        let mut state = self.test.state();
        while count < completions.len() {
            let Some(completion) = state.failed.pop_front() else {
                break;
            };
            completions[count] = completion;
            count += 1;
        }
        if let Some(stray) = state.stray.take() {
            completions[count] = stray;
            count += 1;
        }
        count
    }

    fn in_flight(&self) -> usize {
        let state = self.test.state();
        self.inner.in_flight() + state.held.len() + state.failed.len()
    }

    fn completion_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self, _armed: bool) {}
}
