//! Memory namespaces whose I/O a test can hold back, refuse or fail.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard};

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
    state: Arc<Mutex<State>>,
}

impl TestBackend {
    pub fn new() -> Self {
        Self { state: Arc::default() }
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
    type Backing = TestDisk;
    type Queue = TestQueue;

    fn open(&self, spec: &BackingSpec) -> Result<Arc<TestDisk>, OpenError> {
        let BackingSpec::Memory { size_bytes } = *spec else {
            panic!("only memory is tested with")
        };
        Ok(Arc::new(TestDisk(Mutex::new(vec![0; size_bytes as usize]))))
    }

    fn facts(&self, backing: &TestDisk) -> BackingFacts {
        BackingFacts {
            size_bytes: backing.0.lock().unwrap().len() as u64,
            block_shift: 12,
            volatile: true,
            read_only: false,
            write_cache: true,
        }
    }

    fn queue(&self, _depth: u32) -> std::io::Result<TestQueue> {
        Ok(TestQueue {
            disks: HashMap::new(),
            done: VecDeque::new(),
            test: self.clone(),
        })
    }
}

/// A namespace's bytes.
#[derive(Debug)]
pub struct TestDisk(Mutex<Vec<u8>>);

impl TestDisk {
    fn execute(&self, io: &IoRequest) {
        let mut bytes = self.0.lock().unwrap();
        let range = io.offset as usize..(io.offset + io.length) as usize;
        let bytes = &mut bytes[range];
        match io.operation {
            IoOperation::Read => {
                // SAFETY: the poller keeps `length` bytes at `memory` untouched until the completion.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), io.memory as *mut u8, bytes.len()) }
            }
            IoOperation::Write { .. } => {
                // SAFETY: as above.
                unsafe { std::ptr::copy_nonoverlapping(io.memory as *const u8, bytes.as_mut_ptr(), bytes.len()) }
            }
            IoOperation::WriteZeroes { .. } | IoOperation::Deallocate => bytes.fill(0),
            IoOperation::Flush => {}
        }
    }
}

/// See [`TestBackend`].
#[derive(Debug)]
pub struct TestQueue {
    disks: HashMap<BackingId, Arc<TestDisk>>,
    done: VecDeque<IoCompletion>,
    test: TestBackend,
}

impl TestQueue {
    fn release(&mut self) {
        let mut state = self.test.state.lock().unwrap();
        while !state.holding || state.released > 0 {
            let Some(io) = state.held.pop_front() else { break };
            state.released = state.released.saturating_sub(1);
            state.executed.push((io.backing, io.operation, io.offset, io.length));
            self.disks[&io.backing].execute(&io);
            self.done.push_back(IoCompletion {
                token: io.token,
                errno: 0,
            });
        }
    }
}

impl Queue for TestQueue {
    type Backing = TestDisk;

    fn attach(&mut self, id: BackingId, backing: Arc<TestDisk>) {
        self.disks.insert(id, backing);
    }

    fn detach(&mut self, id: BackingId) {
        self.disks.remove(&id).expect("an attached backing is detached");
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
        let mut count = 0;
        let mut state = self.test.state.lock().unwrap();
        while count < completions.len() {
            let Some(completion) = self.done.pop_front().or_else(|| state.failed.pop_front()) else {
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
        self.done.len() + state.held.len() + state.failed.len()
    }

    fn completion_fd(&self) -> Option<RawFd> {
        None
    }

    fn arm(&mut self, _armed: bool) {}
}
