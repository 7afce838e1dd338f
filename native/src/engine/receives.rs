//! The receives of one shared receive queue: which capsule buffer is posted, which holds a command or its data.

use crate::engine::buffers::{BufferRegion, RegisteredSlot};
use crate::engine::messages::Handle;
use crate::engine::token::{self, TokenKind};
use crate::provider::{Provider, ProviderError, ReceiveWorkRequest};

/// Receives posted with one call.
const POST_BATCH: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be posted.
    Idle,
    /// The device may write to it.
    Posted,
    /// A capsule is in it that is still needed.
    Held,
}

#[derive(Debug)]
struct Receive {
    memory: RegisteredSlot,
    state: State,
    /// Counts postings, so that a completion of an earlier one is recognised.
    generation: u32,
}

/// Every receive of a port's share.
#[derive(Debug, Default)]
pub struct Receives {
    receives: Vec<Receive>,
    idle: Vec<u32>,
}

impl Receives {
    /// Cuts registered pieces into receives, idle at first.
    pub fn add<P: Provider>(&mut self, provider: &P, pieces: &[BufferRegion<P>]) {
        let more: usize = pieces.iter().map(|piece| piece.buffer_count as usize).sum();
        // At once: grown piece by piece they would be copied again and again, at every link-up.
        self.receives.reserve(more);
        self.idle.reserve(self.receives.len() + more - self.idle.len());
        let mut slots = Vec::with_capacity(more);
        for piece in pieces {
            RegisteredSlot::cut(provider, piece, &mut slots);
        }
        for memory in slots {
            self.idle
                .push(u32::try_from(self.receives.len()).expect("few receives"));
            self.receives.push(Receive {
                memory,
                state: State::Idle,
                generation: 1,
            });
        }
    }

    /// Receives there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.receives.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receives.is_empty()
    }

    /// A completion took this receive: it is held from now on. False if it is stale.
    pub fn complete(&mut self, handle: Handle) -> bool {
        match self.receives.get_mut(handle.slot as usize) {
            Some(receive) if receive.state == State::Posted && receive.generation == handle.generation => {
                receive.state = State::Held;
                receive.generation = receive.generation.wrapping_add(1);
                true
            }
            _ => false,
        }
    }

    /// The first `length` bytes of a held receive.
    pub fn capsule(&mut self, slot: u32, length: usize) -> &mut [u8] {
        let receive = &mut self.receives[slot as usize];
        assert!(receive.state == State::Held, "a capsule is read while it is held");
        receive.memory.slice(length)
    }

    /// Address of a byte of a held receive, for a backend write from it.
    #[must_use]
    pub fn address(&self, slot: u32, at: u32) -> u64 {
        let receive = &self.receives[slot as usize];
        assert!(receive.state == State::Held, "in-capsule data is used while it is held");
        receive.memory.address(at)
    }

    /// Bytes of one receive.
    #[must_use]
    pub fn bytes(&self, slot: u32) -> u32 {
        self.receives[slot as usize].memory.bytes()
    }

    /// The capsule is no longer needed: post the receive again, with the next batch.
    pub fn release(&mut self, slot: u32) {
        let receive = &mut self.receives[slot as usize];
        assert!(receive.state == State::Held, "only a held receive is released");
        receive.state = State::Idle;
        self.idle.push(slot);
    }

    /// Receives that wait to be posted.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Posts every idle receive.
    ///
    /// # Errors
    /// The provider's; what was not posted stays idle.
    pub fn post<P: Provider>(&mut self, provider: &P, queue: &P::SharedReceiveQueue) -> Result<(), ProviderError> {
        while !self.idle.is_empty() {
            let mut batch = [ReceiveWorkRequest {
                token: 0,
                sge: Default::default(),
            }; POST_BATCH];
            let count = self.idle.len().min(POST_BATCH);
            let start = self.idle.len() - count;
            for (entry, slot) in batch.iter_mut().zip(&self.idle[start..]) {
                let receive = &self.receives[*slot as usize];
                let handle = Handle {
                    slot: *slot,
                    generation: receive.generation,
                };
                entry.token = token::pack(TokenKind::Receive, handle);
                entry.sge = receive.memory.sge(receive.memory.bytes());
            }
            let (posted, result) = match provider.post_receives(queue, &batch[..count]) {
                Ok(()) => (count, Ok(())),
                Err((posted, error)) => (posted, Err(error)),
            };
            for slot in self.idle.drain(start..start + posted) {
                self.receives[slot as usize].state = State::Posted;
            }
            result?;
        }
        Ok(())
    }
}
