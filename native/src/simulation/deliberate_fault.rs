//! Faults built in on purpose, one at a time and per thread: a simulator that does not find them is worth nothing.

use std::cell::Cell;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliberateFault {
    /// A connect that arrives in the flap window gets a queue pair on the epoch that is already on its way out, whose
    /// teardown has passed by (the first crash of the old target).
    ConnectDuringDrain,
    /// A port is published before all of it is built (the second crash of the old target).
    PublishedHalfBuilt,
    /// A handle is followed to whatever is in its slot now (the second crash of the old target, its other half).
    StaleHandleFollowed,
    /// Memory that cannot be registered at link-up is never tried again (the stuck registration of the old target).
    RegistrationFailureIsFinal,
    /// A host that comes back does not wait for writes of its earlier association.
    FenceSkipped,
    /// The keep-alive clock runs on while the port is down.
    KeepAliveClockRunsOn,
    /// Hosts are told although the link is down.
    DisconnectWhileDown,
    /// A queue pair is destroyed as soon as it is in the error state.
    QueuePairNotReaped,
    /// A request whose association ended gives its buffers back although the backend still has them.
    BackendNotAwaited,
    /// A write is acknowledged when the backend has it, not when it is done.
    AcknowledgedTooEarly,
    /// A write that was to be durable is only written.
    DurabilityForgotten,
    /// The link comes back within the hold time, and pollers are not told.
    ResumeForgotten,
}

impl DeliberateFault {
    /// Every fault.
    pub const ALL: [Self; 12] = [
        Self::ConnectDuringDrain,
        Self::PublishedHalfBuilt,
        Self::StaleHandleFollowed,
        Self::RegistrationFailureIsFinal,
        Self::FenceSkipped,
        Self::KeepAliveClockRunsOn,
        Self::DisconnectWhileDown,
        Self::QueuePairNotReaped,
        Self::BackendNotAwaited,
        Self::AcknowledgedTooEarly,
        Self::DurabilityForgotten,
        Self::ResumeForgotten,
    ];

    /// Whether it is built in, on this thread.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        BUILT_IN.get() == Some(self)
    }
}

thread_local! {
    static BUILT_IN: Cell<Option<DeliberateFault>> = const { Cell::new(None) };
}

/// Builds a fault into everything that runs on this thread, or takes it out again.
pub fn build_in(fault: Option<DeliberateFault>) {
    BUILT_IN.set(fault);
}
