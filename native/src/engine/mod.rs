//! Pollers, queue pairs, requests, buffers, registry, mailboxes; generic over the provider and the backend. Every loop
//! is a `step()` that a test can call.

pub mod buffers;
pub mod counters;
pub mod mailbox;
pub mod messages;
pub mod table;
pub mod token;
