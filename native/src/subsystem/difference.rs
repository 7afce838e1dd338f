//! What changed between two models, as seen by the hosts of one subsystem.

use super::model::{Model, Namespace, Subsystem};

/// Ids of namespaces that a host must look at again, ascending: added, removed, or with another identity, size, write
/// protection or group.
#[must_use]
pub fn changed_namespaces(old: &Subsystem, new: &Subsystem) -> Vec<u32> {
    let removed_or_different = old.namespaces.iter().filter(|namespace| {
        new.namespace(namespace.id)
            .is_none_or(|other| differs_for_host(namespace, other))
    });
    let added = new
        .namespaces
        .iter()
        .filter(|namespace| old.namespace(namespace.id).is_none());
    let mut changed: Vec<u32> = removed_or_different
        .chain(added)
        .map(|namespace| namespace.id)
        .collect();
    changed.sort_unstable();
    changed
}

/// Whether a host sees a difference. The backing behind a namespace is not the host's business.
fn differs_for_host(old: &Namespace, new: &Namespace) -> bool {
    let facts = |namespace: &Namespace| {
        (
            namespace.uuid,
            namespace.ana_group,
            namespace.read_only,
            namespace.size_blocks,
            namespace.block_shift,
        )
    };
    facts(old) != facts(new)
}

/// Whether the ANA log differs: another state, or another distribution of namespaces over groups.
#[must_use]
pub fn ana_changed(old: (&Model, &Subsystem), new: (&Model, &Subsystem)) -> bool {
    let groups = |subsystem: &Subsystem| -> Vec<(u32, u32)> {
        subsystem
            .namespaces
            .iter()
            .map(|namespace| (namespace.id, namespace.ana_group))
            .collect()
    };
    old.0.paths.accessible() != new.0.paths.accessible() || groups(old.1) != groups(new.1)
}

/// Whether the discovery log that this host may see differs.
#[must_use]
pub fn discovery_changed(old: &Model, new: &Model, host_nqn: &str) -> bool {
    let visible = |model: &Model| -> Vec<String> {
        model
            .subsystems_of(host_nqn)
            .map(|subsystem| subsystem.nqn.clone())
            .collect()
    };
    old.listeners != new.listeners || visible(old) != visible(new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::subsystem::fixture;
    use crate::subsystem::model::Paths;

    fn with_namespaces(ids: &[u32]) -> Subsystem {
        Subsystem {
            namespaces: ids.iter().map(|id| fixture::namespace(*id)).collect(),
            ..fixture::subsystem()
        }
    }

    #[test]
    fn added_removed_and_resized_namespaces_are_changed() {
        let old = with_namespaces(&[1, 2, 3]);
        let mut new = with_namespaces(&[2, 3, 4]);
        new.namespaces[1].size_blocks += 8;
        assert_eq!(changed_namespaces(&old, &new), [1, 3, 4]);
        assert_eq!(changed_namespaces(&old, &old.clone()), [0; 0]);
    }

    #[test]
    fn a_host_does_not_see_which_backing_is_behind_a_namespace() {
        let old = with_namespaces(&[1]);
        let mut new = old.clone();
        new.namespaces[0].backing = crate::backend::BackingId(99);
        assert_eq!(changed_namespaces(&old, &new), [0; 0]);
    }

    #[test]
    fn the_discovery_log_changes_only_with_what_the_host_may_see() {
        let old = fixture::model();
        let mut new = old.clone();
        let hidden = Subsystem {
            nqn: "nqn.2026-11.dev.weir:other".into(),
            ..fixture::subsystem()
        };
        let hidden = Subsystem {
            access: crate::subsystem::model::Access::AllowList(vec![]),
            ..hidden
        };
        new.subsystems.push(Arc::new(hidden));
        assert!(!discovery_changed(&old, &new, fixture::HOST_NQN));
        new.listeners[0].address.set_port(4421);
        assert!(discovery_changed(&old, &new, fixture::HOST_NQN));
    }

    #[test]
    fn leaving_changes_the_ana_log() {
        let old = fixture::model();
        let with = |paths| Model { paths, ..old.clone() };
        let subsystem = fixture::subsystem();
        let changed = |old: &Model, new: &Model| ana_changed((old, &subsystem), (new, &subsystem));
        assert!(changed(&old, &with(Paths::Inaccessible)));
        assert!(changed(&old, &with(Paths::Leaving)));
        assert!(changed(&with(Paths::Inaccessible), &old));
        assert!(!changed(&with(Paths::Inaccessible), &with(Paths::Leaving)));
        assert!(!changed(&old, &old));
    }
}
