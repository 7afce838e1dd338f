//! Threads, clocks and descriptors: what the engine's loops need to run for real.
//!
//! One control thread sleeps in `poll` until a descriptor, a message or a deadline calls it; each poller thread waits
//! for work in the mode that is asked for. A panic on any of them becomes a fatal event, and the process ends.

mod bell;
mod control_thread;
mod core;
mod event_ring;
mod fatal;
mod poller_threads;
mod secrets;
mod snapshot;
mod wait;

#[cfg(test)]
mod tests;

pub use self::core::{Core, CoreError, CoreOptions};
pub use event_ring::{BufferTooSmall, EventRing};
pub(crate) use fatal::panic_message;
pub use fatal::{EXIT_PANIC, ExitProcess, ProcessExit};
