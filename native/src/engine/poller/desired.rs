//! New desired states, backings on their way out, quiescing.

use std::sync::Arc;

use crate::backend::{Backend, BackingId, Queue};
use crate::controller::Standing;
use crate::engine::messages::{CloseReason, ToControl};
use crate::engine::poller::{Poller, Quiesce};
use crate::provider::Provider;
use crate::subsystem::model::Model;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Serves the new state from the next command on. Hosts hear of what changed for them; those that may no longer be
    /// here are taken down.
    pub(super) fn apply_model(&mut self, model: Arc<Model>) {
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
}
