//! One association: a host, its admin queue and its I/O queues, against one subsystem. Pure: commands, models and
//! the time come in, plans and completions go out. No I/O, no clock, no threads; I/O commands allocate nothing.
//!
//! The poller that owns the association's queue pairs owns its [`Controller`]:
//! 1. The first capsule of a queue pair must be a Connect: [`connect::first_command`], then fetch
//!    [`crate::nvme::fabrics::CONNECT_DATA_BYTES`] by its data pointer, then [`Controller::connect_admin`] or
//!    [`Controller::connect_io`].
//! 2. Every later capsule goes to [`Controller::begin`]; the poller carries out the [`Plan`].
//! 3. A new desired state goes to [`Controller::apply_model`]; then, and after every admin command,
//!    [`Controller::next_event`] is called until it gives `None`.
//! 4. After every admin command [`Controller::take_io_queues_to_close`] says which I/O queues end.

pub mod admin;
pub mod async_event;
mod authentication;
pub mod connect;
mod discovery;
mod features;
pub mod identify;
pub mod identity;
pub mod io;
pub mod keep_alive;
mod log_page;
pub mod plan;
pub mod property;
pub mod queues;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::nvme::async_event::Notice;
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::log_page::IoCounters;
use crate::nvme::status::StatusCode;
use crate::subsystem::difference::{ana_changed, changed_namespaces, discovery_changed};
use crate::subsystem::model::{Model, QueueLimits, Subsystem};

use async_event::AsyncEvents;
use authentication::{Authentication, is_authentication};
use features::Settings;
use identity::Identity;
use keep_alive::KeepAlive;
pub use plan::{DeallocatePlan, IoKind, IoPlan, Plan};
use property::Registers;
use queues::{QueueIds, Queues};

/// What a controller belongs to.
#[derive(Debug)]
enum Kind {
    /// A subsystem with namespaces.
    Subsystem(Arc<Subsystem>),
    /// The discovery subsystem.
    Discovery,
}

/// Whether an association may go on under a new desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Standing {
    /// It goes on.
    Stays,
    /// Its subsystem is gone, its host no longer allowed, or has to authenticate itself from now on: close all of its queues.
    NotAllowed,
}

/// One association.
#[derive(Debug)]
pub struct Controller {
    model: Arc<Model>,
    kind: Kind,
    /// Limits that the host was told when it connected; newer ones hold for the next association.
    limits: QueueLimits,
    identity: Identity,
    registers: Registers,
    queues: Queues,
    authentication: Authentication,
    keep_alive: KeepAlive,
    events: AsyncEvents,
    settings: Settings,
    /// I/O of this association, for the SMART log.
    counters: IoCounters,
    /// Counts changes of the ANA log.
    ana_changes: u64,
    /// The same when the host last read it.
    ana_changes_known: u64,
    /// Revision of the model in which the discovery log of this host last changed.
    discovery_generation: u64,
    /// Where the host connected to.
    local_address: Option<SocketAddr>,
    created: Instant,
}

impl Controller {
    /// Takes a command that arrived on a queue of this association. `in_capsule_bytes` is what followed the command
    /// in its capsule.
    pub fn begin(&mut self, queue_id: u16, command: &Command, in_capsule_bytes: u32, now: Instant) -> Plan {
        self.keep_alive.restart(now);
        let plan = if command.is_fused() || !command.uses_sgl() {
            Plan::fail(command, StatusCode::InvalidField.permanent())
        } else if self.authentication.is_pending(queue_id) || is_authentication(command) {
            self.begin_authentication(command)
        } else if queue_id == 0 {
            self.begin_admin(command, now)
        } else {
            self.begin_io(queue_id, command)
        };
        plan.checked_against_data_pointer(command, in_capsule_bytes)
    }

    /// Goes on with a command whose plan was [`Plan::Receive`]: `data` is what the host sent, of exactly the length
    /// the plan named.
    pub fn received(&mut self, queue_id: u16, command: &Command, data: &[u8], now: Instant) -> Plan {
        if is_authentication(command) {
            self.received_authentication(queue_id, command, data)
        } else if queue_id == 0 {
            self.received_admin(command, data, now)
        } else {
            self.received_io(command, data)
        }
    }

    /// Goes on with a command whose plan was [`Plan::Produce`]: fills `out`, of exactly the length the plan named.
    /// On a status other than success nothing of `out` is sent.
    pub fn produce(&mut self, queue_id: u16, command: &Command, out: &mut [u8], now: Instant) -> Completion {
        out.fill(0);
        if is_authentication(command) {
            return self.produce_authentication(queue_id, command, out);
        }
        self.produce_admin(command, out, now)
    }

    /// Takes over a new desired state and queues the async events that tell the host what changed for it.
    pub fn apply_model(&mut self, model: &Arc<Model>) -> Standing {
        let old_model = std::mem::replace(&mut self.model, Arc::clone(model));
        match &mut self.kind {
            Kind::Subsystem(subsystem) => {
                let new = match model.subsystem(&subsystem.nqn) {
                    Some(new) if new.access.allows(&self.identity.host_nqn) => new,
                    _ => return Standing::NotAllowed,
                };
                if new.requirement(&self.identity.host_nqn).is_some() && !self.authentication.is_required() {
                    return Standing::NotAllowed;
                }
                let old = std::mem::replace(subsystem, Arc::clone(new));
                let changed = changed_namespaces(&old, new);
                if !changed.is_empty() {
                    self.events.changed_namespaces.add(&changed);
                    self.events.raise(Notice::NamespaceAttributeChanged);
                }
                if ana_changed((&old_model, &old), (model, new)) {
                    self.ana_changes += 1;
                    self.events.raise(Notice::AsymmetricAccessChanged);
                }
            }
            Kind::Discovery => {
                if discovery_changed(&old_model, model, &self.identity.host_nqn) {
                    self.discovery_generation = model.revision;
                    self.events.raise(Notice::DiscoveryLogChanged);
                }
            }
        }
        Standing::Stays
    }

    /// Says where the host connected to: the discovery log then names the discovery subsystem itself only there.
    pub fn set_local_address(&mut self, local: SocketAddr) {
        self.local_address = Some(local);
    }

    /// The next completion of an Async Event Request, to be sent on the admin queue.
    pub fn next_event(&mut self) -> Option<Completion> {
        self.events.next_completion()
    }

    /// The host has read the ANA log since it changed last, or will not: it asked for no notice of changes.
    #[must_use]
    pub fn knows_ana_states(&self) -> bool {
        self.ana_changes_known == self.ana_changes || !self.events.announces(Notice::AsymmetricAccessChanged)
    }

    /// A queue of the association is gone.
    pub fn queue_closed(&mut self, queue_id: u16) {
        self.queues.close(queue_id);
        self.authentication.queue_closed(queue_id);
    }

    /// I/O queues that must be closed because the controller was reset or shut down. Each is named once.
    pub fn take_io_queues_to_close(&mut self) -> QueueIds {
        self.queues.take_to_close()
    }

    /// When the keep-alive timer runs out; `None` when there is none, or while its clock stands still, or before the
    /// host has authenticated itself: that has a time limit of its own, and computing may take a host long.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.authentication.is_pending(0) {
            return None;
        }
        self.keep_alive.deadline()
    }

    /// Whether the keep-alive timer has run out: the association ends.
    #[must_use]
    pub fn expired(&self, now: Instant) -> bool {
        !self.authentication.is_pending(0) && self.keep_alive.expired(now)
    }

    /// The port is down: the host cannot reach us, the keep-alive clock stands still.
    pub fn pause_clock(&mut self, now: Instant) {
        self.keep_alive.pause(now);
    }

    /// The port serves again: the keep-alive clock goes on where it stood.
    pub fn resume_clock(&mut self, now: Instant) {
        self.keep_alive.resume(now);
    }

    /// Controller id.
    #[must_use]
    pub fn id(&self) -> u16 {
        self.identity.controller_id
    }

    /// Host NQN of the association.
    #[must_use]
    pub fn host_nqn(&self) -> &str {
        &self.identity.host_nqn
    }

    /// NQN the host connected to.
    #[must_use]
    pub fn subsystem_nqn(&self) -> &str {
        &self.identity.subsystem_nqn
    }

    /// Whether this is a controller of the discovery subsystem.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        matches!(self.kind, Kind::Discovery)
    }

    /// Queues connected now, the admin queue included.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.queues.count()
    }

    /// The queue was connected without submission queue flow control: SQHD of its completions is
    /// [`crate::nvme::completion::NO_FLOW_CONTROL`].
    #[must_use]
    pub fn flow_control_disabled(&self, queue_id: u16) -> bool {
        self.queues.flow_control_disabled(queue_id)
    }
}

#[cfg(test)]
mod tests;
