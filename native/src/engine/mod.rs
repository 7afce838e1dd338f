//! Pollers, queue pairs, requests, buffers, registry, mailboxes; generic over the provider and the backend. Every loop
//! is a `step()` that a test can call.

pub mod association;
pub mod backings;
pub mod buffers;
pub mod control;
pub mod counters;
pub mod fence;
pub mod handle_index;
pub mod integer_hash;
pub mod list;
pub mod mailbox;
pub mod messages;
pub mod outbox;
pub mod poller;
pub mod queue_pair;
pub mod receives;
pub mod request;
pub mod share;
pub mod table;
pub mod token;
