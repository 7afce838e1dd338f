//! The poller against the simulated provider and a backend that can be held back. No clock, no thread: a test moves
//! the time and steps the world.

mod authentication;
mod backend;
mod bench;
mod host;

mod associations;
mod backpressure;
mod commands;
mod desired;
mod drain;
mod fences;
mod hostile;
mod link;
mod random;
