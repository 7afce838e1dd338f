//! What the engine must never do: every breach is recorded with its kind and a sentence that names the object.

use std::collections::VecDeque;

/// Kind of a breach of the provider's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// A queue pair was destroyed while posted work was not reaped.
    QueuePairDestroyedWithWork,
    /// A memory region was deregistered while posted or unreaped work refers to it.
    MemoryDeregisteredInUse,
    /// An object was destroyed before what depends on it.
    DestroyedBeforeChildren,
    /// Work was posted to a queue pair known to be in error, or not yet ready.
    PostedToUnusableQueuePair,
    /// Work names memory that is not registered, or not in this protection domain.
    UnregisteredMemory,
    /// Bytes changed while the device owned them.
    BufferTouchedWhileOwned,
    /// A connection manager message was caused while the link is down: the device's QP1 dies.
    MessageWhileLinkDown,
    /// A connected identifier was dropped without a disconnect.
    ConnectedIdentifierDropped,
    /// More completions than the completion queue has entries.
    CompletionQueueOverrun,
    /// More receives or sends than the queue has entries.
    WorkQueueOverflow,
    /// A call that the connection's or queue pair's state does not allow.
    WrongState,
    /// The host got more capsules than it sent commands: it has no receive for them.
    UnexpectedResponse,
    /// Send or accept parameters that break the host's or device's limits.
    LimitExceeded,
}

/// One breach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Kind.
    pub kind: ViolationKind,
    /// Which object and why.
    pub message: String,
}

#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) violations: Vec<Violation>,
    pub(super) panics: bool,
    unraised: VecDeque<Violation>,
}

impl Oracle {
    pub(super) fn new() -> Self {
        Self {
            violations: Vec::new(),
            panics: true,
            unraised: VecDeque::new(),
        }
    }

    pub(super) fn report(&mut self, kind: ViolationKind, message: String) {
        let violation = Violation { kind, message };
        self.violations.push(violation.clone());
        self.unraised.push_back(violation);
    }

    /// Breaches since the last call; the caller panics with the first one, outside the world's lock.
    pub(super) fn take_unraised(&mut self) -> Option<Violation> {
        let first = self.unraised.pop_front();
        self.unraised.clear();
        first.filter(|_| self.panics)
    }
}
