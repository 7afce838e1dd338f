//! Behaviour of a controller as a host sees it.

mod admin_commands;
mod association;
mod async_events;
mod connecting;
mod discovery;
mod host;
mod io_commands;
mod live_changes;
mod robustness;
