//! What simulation, allocation test and benchmark share: seeded choices, a hostile backend, hosts, and the judge.
#![allow(dead_code, missing_docs)] // Each test binary uses its part.

pub mod allocations;
pub mod history;
pub mod host;
pub mod metered;
pub mod random;
pub mod rig;
pub mod steady;
pub mod storage;
pub mod target;
