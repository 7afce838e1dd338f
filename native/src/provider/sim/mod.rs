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

mod connection;
mod device;
mod faults;
mod host;
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
pub use world::{LiveObjects, SimWorld};

use super::ProviderError;

fn provider_error(operation: &'static str, errno: i32, message: impl Into<String>) -> ProviderError {
    ProviderError {
        operation,
        errno,
        message: message.into(),
    }
}
