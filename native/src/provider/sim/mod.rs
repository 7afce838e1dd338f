//! The deterministic provider: RDMA in this process, adversarial, and the judge of the engine.
//!
//! A [`SimWorld`] holds devices, their links, and hosts. [`SimWorld::provider`] gives the engine its
//! [`Provider`](crate::provider::Provider); [`SimHost`] plays an NVMe host against it. Nothing happens by itself:
//! posted work, capsules and connection manager messages wait until the test calls [`SimWorld::step`] or
//! [`SimWorld::run_until_idle`]. There is no clock and no thread, so the seed alone decides the run.
//!
//! ```
//! use weir_core::provider::sim::{SimDeviceSpec, SimWorld};
//! use weir_core::provider::Provider;
//!
//! let world = SimWorld::in_order();
//! world.add_device(SimDeviceSpec::new("rxe0", "rdma0", "10.9.0.1".parse().unwrap()));
//! let provider = world.provider();
//! let listener = provider.listen("10.9.0.1:4420".parse().unwrap(), 1, 16).unwrap();
//! let host = world.add_host("10.9.0.2".parse().unwrap());
//! let connection = host.connect("10.9.0.1:4420".parse().unwrap(), &[0; 32]);
//! world.run_until_idle();
//! assert!(provider.next_connection_event().is_some());
//! # let _ = (listener, connection);
//! ```
//!
//! The oracle checks the provider's rules at every call and panics (outside its lock) with a [`Violation`];
//! [`SimWorld::record_violations`] makes it only record them.
//!
//! By default there are no descriptors, and a test calls the engine's `step()`s itself. With
//! [`SimWorld::use_descriptors`] completion queues, async events and connection manager events have real ones with the
//! semantics of verbs (one notification per arming, and none for what was there before), so that threads which sleep
//! can be run against the simulator.
//!
//! Simplifications, each on the safe side or stated: a capsule or data transfer happens in one step (two with
//! [`SimWorld::split_arrivals`]); a message of the engine's that was sent while the link was up survives an outage
//! without harm; the host always has a receive for the answer to each of its capsules, and answers disconnects at once.

mod capsule;
mod connection;
mod descriptor;
mod device;
mod faults;
mod host;
mod initiator;
mod oracle;
mod provider;
mod queue_pair;
mod random;
mod world;

#[cfg(test)]
mod tests;

pub use device::{LinkState, SimDeviceSpec};
pub use faults::{EventKind, FaultPoint, InterruptedReceive, TransmitWhileDown};
pub use host::{ConnectOutcome, HostConnection, HostRegion, HostResponse, SimHost};
pub use oracle::{Violation, ViolationKind};
pub use provider::{
    SimCompletionQueue, SimConnectionId, SimDevice, SimListener, SimMemoryRegion, SimProtectionDomain, SimProvider,
    SimQueuePair, SimSharedReceiveQueue,
};
pub use world::{KEYS_OF_A_KIND, LiveObjects, SimWorld};

use super::ProviderError;

fn provider_error(operation: &'static str, errno: i32, message: impl Into<String>) -> ProviderError {
    ProviderError {
        operation,
        errno,
        message: message.into(),
    }
}
