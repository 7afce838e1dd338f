//! The model as it is published: the desired state, as far as it can be served now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, Now, PollerHost};
use crate::backend::Backend;
use crate::engine::control::events::Event;
use crate::engine::messages::ToPoller;
use crate::lifecycle::Phase;
use crate::provider::Provider;
use crate::subsystem::model::{Listener, Model, Namespace, Paths, QueueLimits};

/// A model that serves nothing, before the first desired state.
pub(super) fn empty() -> Model {
    Model {
        revision: 1,
        subsystems: Vec::new(),
        listeners: Vec::new(),
        limits: QueueLimits {
            io_queues_max: 1,
            queue_depth: 16,
            in_capsule_data_bytes: 0,
            io_size_max_bytes: 4096,
        },
        keep_alive_minimum_ms: 1000,
        drain_timeout: Duration::from_secs(15),
        paths: Paths::Accessible,
    }
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// Publishes a new model if one is due, then lets go of backings that no model names any more.
    pub(super) fn publish_model(&mut self, now: Now) {
        if self.backings.is_opening() {
            return;
        }
        if self.model_stale {
            self.model_stale = false;
            if let Some(model) = self.build_model() {
                let differs = Model {
                    revision: self.model.revision,
                    ..model.clone()
                } != *self.model;
                if differs {
                    self.model = Arc::new(model);
                }
                let model = Arc::clone(&self.model);
                // Also when nothing differs: pollers may be new.
                self.pollers.tell_all(|| ToPoller::Model(Arc::clone(&model)));
            }
        }
        let retired = self.backings.take_retired(self.pollers.len(), &mut self.journal, now);
        for id in retired {
            self.pollers.tell_all(|| ToPoller::DetachBacking(id));
        }
        if std::mem::take(&mut self.applied_pending) {
            self.journal.report(
                Event::Applied {
                    generation: self.generation,
                },
                now,
            );
        }
    }

    fn build_model(&self) -> Option<Model> {
        let spec = self.desired.as_ref()?;
        let subsystems = spec.subsystems.iter().map(|subsystem| {
            let served = subsystem.namespaces.iter().filter_map(|namespace| {
                let (id, facts, uuid) = self.backings.ready(&(subsystem.nqn.clone(), namespace.nsid))?;
                // While a backing cannot be replaced as asked for, it goes on under its own identity.
                Some(Namespace {
                    uuid,
                    ..namespace.served_from(&subsystem.nqn, id, &facts)
                })
            });
            Arc::new(subsystem.served_with(served.collect()))
        });
        let mut subsystems: Vec<_> = subsystems.collect();
        subsystems.sort_by(|left, right| left.nqn.cmp(&right.nqn));
        let mut listeners: Vec<Listener> = self
            .ports
            .values()
            .filter(|port| !port.removed && serves_or_may_soon(&port.state.phase))
            .filter_map(|port| {
                let endpoint = port.endpoint.as_ref()?;
                Some(port.spec.resolved(SocketAddr::new(endpoint.ip, port.spec.port)))
            })
            .collect();
        listeners.sort_by(|left, right| left.name.cmp(&right.name));
        Some(Model {
            revision: self.model.revision + 1,
            subsystems,
            listeners,
            limits: spec.queue_limits(),
            keep_alive_minimum_ms: spec.keep_alive_minimum_ms(),
            drain_timeout: self.drain_timeout(),
            paths: self.wanted_paths(),
        })
    }
}

/// A short flap does not change what discovery shows.
fn serves_or_may_soon(phase: &Phase) -> bool {
    phase.serves() || matches!(phase, Phase::Holding { .. })
}
