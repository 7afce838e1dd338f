//! Weir's native core: an NVMe-oF target over RDMA verbs that rides through link flaps.
//!
//! Modules, from pure to impure; nothing in the first four does I/O, reads a clock or spawns a thread.

pub mod authentication;
pub mod backend;
pub mod controller;
pub mod engine;
pub mod ffi;
pub mod lifecycle;
pub mod link;
pub mod nvme;
pub mod provider;
pub mod runtime;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod soft_device;
pub mod subsystem;

#[cfg(all(feature = "simulation", not(debug_assertions)))]
compile_error!("the feature `simulation` is for tests: faults can be built in with it; no release build has it");
