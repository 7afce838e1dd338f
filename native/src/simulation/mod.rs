//! What the simulator (`tests/simulation`) needs inside the core: which lifecycle transitions ran, and faults that are
//! built in on purpose to see that it finds them. Only with the feature `simulation`, which no product build can enable.

pub mod coverage;
pub mod deliberate_fault;
