//! A new desired state: what is different is changed, what is not is not touched.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use super::drive::wanted_sizes;
use super::events as control_events;
use super::port::{Port, Reason};
use super::{Control, Now, PollerHost};
use crate::backend::Backend;
use crate::engine::messages::{PortId, ToPoller};
use crate::lifecycle::{Event, Settings};
use crate::provider::Provider;
use crate::subsystem::spec::{DesiredState, ListenerSpec, NodeSpec};

/// Why a desired state is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The process is draining.
    #[error("the core is draining and takes no new desired state")]
    Draining,
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// Takes over a desired state that was validated. What of it cannot be had now is reported as state of its part
    /// (port, namespace) and tried again; nothing that served before is torn down because of it.
    ///
    /// # Errors
    /// When none is taken any more.
    pub fn apply(&mut self, desired: DesiredState, now: Now) -> Result<(), ApplyError> {
        if self.quiesce.is_some() {
            return Err(ApplyError::Draining);
        }
        self.generation = desired.generation;
        self.applied_pending = true;
        for event in std::mem::take(&mut self.early_reports) {
            self.journal.report(event, now);
        }
        let spec = Arc::new(desired.spec);
        if let Some(before) = &self.desired {
            // Paused: what is served goes on as it is; the changes are taken over with the first state that is not.
            if spec.paused || **before == *spec {
                return Ok(());
            }
        }
        let before = self.desired.replace(Arc::clone(&spec));
        for problem in spec.key_problems() {
            let event = control_events::Event::ApplyProblem {
                generation: self.generation,
                field: format!("access.hosts[{}].dhchap.secretRef", problem.host_nqn),
                reason: "SecretWithoutKey",
                message: problem.message.to_owned(),
            };
            self.journal.report(event, now);
        }
        self.backings.apply(&spec, &mut self.journal, now);
        self.apply_listeners(before.as_deref(), &spec, now);
        self.pollers.want(usize::from(spec.polling.cores), spec.polling.mode);
        self.model_stale = true;
        self.levels_stale = true;
        Ok(())
    }

    fn apply_listeners(&mut self, before: Option<&NodeSpec>, spec: &NodeSpec, now: Now) {
        let gone: Vec<PortId> = self
            .ports
            .values()
            .filter(|port| !port.removed && !spec.listeners.iter().any(|wanted| *wanted.name == *port.name))
            .map(|port| port.id)
            .collect();
        for id in gone {
            if let Some(port) = self.ports.get_mut(&id) {
                port.removed = true;
            }
            let reason = Reason::new("ListenerRemoved", "the desired state has no such listener any more");
            self.feed(id, Event::Stop, Some(reason), now);
        }
        let resized = before.is_some_and(|before| wanted_sizes(before) != wanted_sizes(spec));
        for listener in &spec.listeners {
            let known = self
                .ports
                .values_mut()
                .find(|port| !port.removed && *port.name == *listener.name);
            match known {
                Some(port) => {
                    port.settings = settings(spec, listener);
                    let moved = port.spec != *listener;
                    let id = port.id;
                    if moved {
                        // Resolved anew at this step's look at the levels; the drain below goes by the old address.
                        port.spec = listener.clone();
                        port.unresolved = None;
                    }
                    if moved || resized {
                        let what = if moved {
                            "the listener"
                        } else {
                            "a size of its queues or buffers"
                        };
                        let reason = Reason::new("SettingsChanged", format!("{what} changed in the desired state"));
                        self.feed(id, Event::Restart, Some(reason), now);
                    }
                }
                None => self.add_port(spec, listener, now),
            }
        }
    }

    fn add_port(&mut self, spec: &NodeSpec, listener: &ListenerSpec, now: Now) {
        self.last_port += 1;
        let id = PortId(self.last_port);
        let mut port = Port::new(id, listener.clone(), settings(spec, listener), now.unix_ms);
        port.counters = (0..self.pollers.len()).map(|_| Arc::default()).collect();
        if !self.pollers.serve() {
            // Started together with the pollers.
            port.state.wanted = false;
        }
        self.ports.insert(id, port);
    }

    /// Takes up that a block device has grown under its namespace.
    pub(super) fn follow_devices(&mut self, now: Now) {
        self.model_stale |= self.backings.follow_devices(&mut self.journal, now);
    }

    /// Opens what is to be opened, one backing in a step.
    pub(super) fn open_backings(&mut self, now: Now) {
        self.backings.retry_due(now.instant);
        if !self.backings.is_opening() {
            return;
        }
        if let Some((id, backing)) = self.backings.open_next(&mut self.journal, now) {
            self.pollers
                .tell_all(|| ToPoller::AttachBacking(id, Arc::clone(&backing)));
            self.model_stale = true;
        }
    }

    /// How long a drain may take, by the desired state.
    pub(super) fn drain_timeout(&self) -> Duration {
        let seconds = self.desired.as_ref().map_or(15, |spec| spec.link.drain_timeout_seconds);
        Duration::from_secs(u64::from(seconds))
    }
}

fn settings(spec: &NodeSpec, listener: &ListenerSpec) -> Settings {
    let mut hasher = DefaultHasher::new();
    (&spec.node_name, &listener.name).hash(&mut hasher);
    let link = &spec.link;
    Settings {
        hold: Duration::from_millis(u64::from(link.hold_milliseconds)),
        drain_timeout: Duration::from_secs(u64::from(link.drain_timeout_seconds)),
        up_stabilization: Duration::from_millis(u64::from(link.up_stabilization_milliseconds)),
        backoff_max: Duration::from_secs(u64::from(link.memory_registration.max_backoff_seconds)),
        seed: hasher.finish(),
    }
}
