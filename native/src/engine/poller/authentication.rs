//! What follows from the authentication of queues: who is let in, who is reported and taken down.

use std::time::Duration;

use crate::authentication::exchange::Outcome;
use crate::backend::Backend;
use crate::engine::messages::{CloseReason, Handle, PollerEvent};
use crate::engine::poller::Poller;
use crate::engine::request::After;
use crate::provider::Provider;

/// A queue that has to authenticate, or began to do so anew, and does not in this time is taken down (NVMe base 2.0
/// section 8.13.5.2 asks for a limit; reference targets: 120 s).
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(120);

impl<P: Provider, B: Backend> Poller<P, B> {
    /// A queue joined its association: one that has to authenticate has so long for it.
    pub(super) fn expect_authentication(&mut self, queue_pair: Handle, association: Handle) {
        let queue_id = self.queue_pairs[queue_pair].queue_id;
        if self.associations[association]
            .controller
            .authentication_pending(queue_id)
        {
            self.limit_authentication(queue_pair);
        }
    }

    /// The time for it begins, unless it runs already: beginning again does not make it longer.
    fn limit_authentication(&mut self, queue_pair: Handle) {
        let deadline = &mut self.queue_pairs[queue_pair].authentication_deadline;
        if deadline.is_none() {
            let end = self.now + AUTHENTICATION_TIMEOUT;
            *deadline = Some(end);
            self.schedule(end);
        }
    }

    /// A command of authentication was carried out, and not answered yet.
    pub(super) fn after_authentication_command(&mut self, handle: Handle) {
        let owner = self.requests[handle].queue_pair;
        let queue_pair = &self.queue_pairs[owner];
        let queue_id = queue_pair.queue_id;
        let Some(association) = queue_pair.association else {
            return;
        };
        let controller = &mut self.associations[association].controller;
        let outcome = controller.take_authentication_outcome(queue_id);
        if controller.authentication_failed(queue_id) {
            self.requests[handle].after = After::Close(CloseReason::AuthenticationFailed);
        }
        if controller.authentication_under_way(queue_id) {
            self.limit_authentication(owner);
        }
        match outcome {
            Some(Outcome::Authenticated) => {
                self.queue_pairs[owner].authentication_deadline = None;
                if queue_id == 0 {
                    self.admit(association);
                }
            }
            Some(Outcome::Failed(reason)) => {
                self.queue_pairs[owner].authentication_reported = true;
                self.report_authentication_failure(owner, association, reason);
            }
            None => {}
        }
    }

    /// A queue pair that has to authenticate, or began to do so anew, is taken down for this reason, before it did: says
    /// so, unless that was said, or it is nobody's fault.
    pub(super) fn report_unauthenticated(&mut self, handle: Handle, association: Handle, reason: CloseReason) {
        let queue_pair = &self.queue_pairs[handle];
        if queue_pair.authentication_deadline.is_none() || queue_pair.authentication_reported {
            return;
        }
        match reason {
            // A host without a key goes away at once.
            CloseReason::HostDisconnected => {
                self.report_authentication_failure(handle, association, "AuthenticationNotFinished");
            }
            CloseReason::AuthenticationFailed => {
                self.report_authentication_failure(handle, association, "AuthenticationTimedOut");
            }
            _ => {}
        }
    }

    fn report_authentication_failure(&mut self, queue_pair: Handle, association: Handle, reason: &'static str) {
        self.counters.authentication_failures.increment();
        let identity = &self.associations[association].identity;
        let event = PollerEvent::ConnectRefused {
            host_nqn: identity.host_nqn.clone(),
            subsystem_nqn: identity.subsystem_nqn.clone(),
            source: self.queue_pairs[queue_pair].source,
            reason,
        };
        self.outbox.report(event, &self.counters);
    }
}
