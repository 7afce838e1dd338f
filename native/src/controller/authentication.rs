//! Authentication of a controller's queues: which have to, and how far they are.

use std::sync::Arc;

use crate::authentication::exchange::{Exchange, FetchError, Outcome, Parties};
use crate::authentication::{Credentials, Requirement, system_entropy};
use crate::nvme::authentication::transfer_length;
use crate::nvme::command::Command;
use crate::nvme::completion::Completion;
use crate::nvme::fabrics::fabrics_type;
use crate::nvme::status::{Status, StatusCode};

use super::queues::QueueIds;
use super::{Controller, Kind, Plan};

/// Authentication of a controller's queues. Of one that needs none nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Authentication {
    /// What the host authenticates itself with; those of a later negotiation on the admin queue replace them.
    credentials: Option<Arc<Credentials>>,
    /// Queues that must authenticate before anything else.
    pending: QueueIds,
    /// Exchanges that are under way, or failed.
    exchanges: Vec<(u16, Exchange)>,
}

impl Authentication {
    pub(super) fn new(credentials: Option<Arc<Credentials>>) -> Self {
        Self {
            credentials,
            ..Self::default()
        }
    }

    /// The host authenticates itself on each of its queues.
    pub(super) fn is_required(&self) -> bool {
        self.credentials.is_some()
    }

    pub(super) fn queue_connected(&mut self, queue_id: u16) {
        if self.is_required() {
            self.pending.insert(queue_id);
        }
    }

    pub(super) fn queue_closed(&mut self, queue_id: u16) {
        self.pending.remove(queue_id);
        self.exchanges.retain(|(id, _)| *id != queue_id);
    }

    pub(super) fn is_pending(&self, queue_id: u16) -> bool {
        self.pending.contains(queue_id)
    }

    fn exchange(&mut self, queue_id: u16) -> &mut Exchange {
        let index = self.exchanges.iter().position(|(id, _)| *id == queue_id);
        let index = index.unwrap_or_else(|| {
            self.exchanges.push((queue_id, Exchange::default()));
            self.exchanges.len() - 1
        });
        &mut self.exchanges[index].1
    }
}

/// Whether the command is one of authentication.
pub(super) fn is_authentication(command: &Command) -> bool {
    let kind = command.fabrics_type();
    command.is_fabrics()
        && matches!(
            kind,
            fabrics_type::AUTHENTICATION_SEND | fabrics_type::AUTHENTICATION_RECEIVE
        )
}

impl Controller {
    /// The plan of a command of a queue that has to authenticate first, and of commands that do so.
    pub(super) fn begin_authentication(&mut self, command: &Command) -> Plan {
        if !is_authentication(command) {
            return Plan::fail(command, StatusCode::AuthenticationRequired.permanent());
        }
        if !self.authentication.is_required() {
            return Plan::fail(command, StatusCode::InvalidOpcode.permanent());
        }
        match transfer_length(command) {
            None => Plan::fail(command, StatusCode::InvalidField.permanent()),
            Some(length) if command.fabrics_type() == fabrics_type::AUTHENTICATION_SEND => Plan::Receive { length },
            Some(length) => Plan::Produce { length },
        }
    }

    /// A message of the host. It is answered with success whatever it is: the host then fetches what became of it.
    pub(super) fn received_authentication(&mut self, queue_id: u16, command: &Command, message: &[u8]) -> Plan {
        // On the admin queue a host may authenticate itself anew: with the keys of now.
        let renewed = match &self.kind {
            Kind::Subsystem(subsystem) if queue_id == 0 => subsystem.requirement(&self.identity.host_nqn),
            Kind::Subsystem(_) | Kind::Discovery => None,
        };
        let credentials = match renewed {
            Some(Requirement::Credentials(credentials)) => Some(Arc::clone(credentials)),
            Some(Requirement::NoUsableKey) => None,
            None => self.authentication.credentials.clone(),
        };
        let parties = Parties {
            host_nqn: &self.identity.host_nqn,
            subsystem_nqn: &self.identity.subsystem_nqn,
        };
        let exchange = self.authentication.exchange(queue_id);
        exchange.take(message, parties, credentials.as_ref(), system_entropy);
        if credentials.is_some() {
            self.authentication.credentials = credentials;
        }
        Plan::succeed(command)
    }

    /// The host fetches what there is for it.
    pub(super) fn produce_authentication(&mut self, queue_id: u16, command: &Command, out: &mut [u8]) -> Completion {
        let status = match self.authentication.exchange(queue_id).fetch(out) {
            Ok(()) => Status::SUCCESS,
            Err(FetchError::OutOfOrder) => StatusCode::CommandSequenceError.permanent(),
            Err(FetchError::TooLong) => StatusCode::InvalidField.permanent(),
        };
        Completion::with_status(command, status)
    }

    /// The queue must authenticate before anything else: end it if it does not in time.
    #[must_use]
    pub fn authentication_pending(&self, queue_id: u16) -> bool {
        self.authentication.is_pending(queue_id)
    }

    /// The queue's host began to authenticate itself, for the first time or anew: end the queue if it does not in time.
    #[must_use]
    pub fn authentication_under_way(&self, queue_id: u16) -> bool {
        let mut exchanges = self.authentication.exchanges.iter();
        exchanges.any(|(id, exchange)| *id == queue_id && exchange.is_under_way())
    }

    /// What became of a queue's authentication since the last call. After a success the queue takes commands.
    pub fn take_authentication_outcome(&mut self, queue_id: u16) -> Option<Outcome> {
        let outcome = self.authentication.exchange(queue_id).take_outcome()?;
        if outcome == Outcome::Authenticated {
            self.authentication.queue_closed(queue_id);
        }
        Some(outcome)
    }

    /// The queue's host failed and was told so: close the queue after the command in hand.
    #[must_use]
    pub fn authentication_failed(&self, queue_id: u16) -> bool {
        let mut exchanges = self.authentication.exchanges.iter();
        exchanges.any(|(id, exchange)| *id == queue_id && exchange.is_over())
    }
}
