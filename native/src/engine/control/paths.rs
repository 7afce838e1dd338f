//! Whether hosts may use the paths through this node, and whether all of them know when they may not.

use super::{Control, Now, PollerHost};
use crate::backend::Backend;
use crate::engine::control::events::Event;
use crate::provider::Provider;
use crate::subsystem::model::Paths;
use crate::subsystem::spec::PathsState;

/// Where the paths stand, for events and statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathsPhase {
    /// Hosts may use them.
    Accessible,
    /// They may not; some have not read so yet, or their I/O is in flight.
    Leaving,
    /// They may not, all that can be reached know it, and nothing is in flight.
    Inaccessible,
}

impl PathsPhase {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Accessible => "Accessible",
            Self::Leaving => "Leaving",
            Self::Inaccessible => "Inaccessible",
        }
    }
}

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// What the next model says of the paths.
    pub(super) fn wanted_paths(&self) -> Paths {
        let asked = self.desired.as_ref().map(|spec| spec.paths.state);
        match asked {
            _ if self.quiesce.is_some() => Paths::Leaving,
            Some(PathsState::Inaccessible) => Paths::Inaccessible,
            Some(PathsState::Accessible) | None => Paths::Accessible,
        }
    }

    pub(super) fn paths_phase(&self) -> PathsPhase {
        match self.inaccessible_since {
            None => PathsPhase::Accessible,
            Some(revision) if self.pollers.paths_clear_since(revision) => PathsPhase::Inaccessible,
            Some(_) => PathsPhase::Leaving,
        }
    }

    /// No host waits to be told that the paths are inaccessible, or there never was one.
    pub(super) fn paths_clear(&self) -> bool {
        self.desired.is_none() || self.paths_phase() == PathsPhase::Inaccessible
    }

    /// After a model may have been published.
    pub(super) fn follow_paths(&mut self, now: Now) {
        self.inaccessible_since = match self.model.paths {
            Paths::Accessible => None,
            Paths::Inaccessible | Paths::Leaving => self.inaccessible_since.or(Some(self.model.revision)),
        };
        let phase = self.paths_phase();
        if phase != self.paths_reported {
            let from = std::mem::replace(&mut self.paths_reported, phase).name();
            let to = phase.name();
            self.journal.report(Event::PathsChanged { from, to }, now);
        }
    }
}
