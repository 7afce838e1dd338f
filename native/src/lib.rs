//! Weir's native core: an NVMe-oF target over RDMA verbs that rides through link flaps.
//!
//! Modules, from pure to impure; nothing in the first four does I/O, reads a clock or spawns a thread.

pub mod backend;
pub mod controller;
pub mod engine;
pub mod ffi;
pub mod lifecycle;
pub mod link;
pub mod nvme;
pub mod provider;
pub mod runtime;
pub mod soft_device;
pub mod subsystem;
