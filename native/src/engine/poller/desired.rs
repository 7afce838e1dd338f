//! New desired states, backings on their way out, quiescing.

use std::sync::Arc;

use crate::backend::{Backend, BackingId, Queue};
use crate::controller::Standing;
use crate::engine::association::Association;
use crate::engine::messages::{CloseReason, ToControl};
use crate::engine::poller::{Poller, Quiesce};
use crate::provider::Provider;
use crate::subsystem::model::Model;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Serves the new state from the next command on. Hosts hear of what changed for them; those that may no longer be
    /// here are taken down.
    pub(super) fn apply_model(&mut self, model: Arc<Model>) {
        self.paths_cleared &= !model.paths.accessible();
        self.model = model;
        for slot in self.associations.slots() {
            let Some(association) = self.associations.handle(slot) else {
                continue;
            };
            match self.associations[association].controller.apply_model(&self.model) {
                Standing::Stays => self.send_association_events(association),
                Standing::NotAllowed => self.end_association(association, CloseReason::NotAllowed, None),
            }
        }
    }

    /// No model names the backing any more: it is given back after its last I/O.
    pub(super) fn detach_backing(&mut self, id: BackingId) {
        if !self.backings.detach(id) {
            self.counters.stale_messages.increment();
        }
    }

    pub(super) fn finish_detaching(&mut self) -> bool {
        let mut worked = false;
        while let Some(id) = self.backings.take_detached() {
            self.backend.detach(id);
            self.outbox.send(ToControl::BackingDetached(id));
            worked = true;
        }
        worked
    }

    /// After `Quiesce`: says so once every request is answered.
    pub(super) fn report_quiet(&mut self) {
        if self.quiesce == Quiesce::Asked && self.requests.is_empty() {
            self.quiesce = Quiesce::Reported;
            self.outbox.send(ToControl::Quiet);
        }
    }

    /// While paths are inaccessible: says so once every request is answered and every host that can be reached has read
    /// the new ANA states.
    pub(super) fn report_paths_clear(&mut self) {
        if self.model.paths.accessible() || self.paths_cleared || !self.requests.is_empty() {
            return;
        }
        let unaware = |association: &Association| {
            self.shares[association.share].may_post() && !association.controller.knows_ana_states()
        };
        if !self.associations.iter().any(unaware) {
            self.paths_cleared = true;
            self.outbox.send(ToControl::PathsClear {
                revision: self.model.revision,
            });
        }
    }
}
