//! Who is connected.

use std::collections::BTreeMap;

use super::Now;
use crate::engine::messages::HostIdentity;

/// Poller, subsystem NQN, controller id.
type HostKey = (usize, String, u16);

/// An association.
#[derive(Debug)]
pub struct Host {
    /// Who.
    pub identity: HostIdentity,
    /// Queue pairs, the admin queue's included.
    pub queue_pairs: u16,
    /// Unix milliseconds.
    pub since_unix_ms: u64,
}

/// Every association.
#[derive(Debug, Default)]
pub struct Hosts {
    hosts: BTreeMap<HostKey, Host>,
}

impl Hosts {
    pub(super) fn connected(&mut self, poller: usize, identity: HostIdentity, now: Now) {
        let key = (poller, identity.subsystem_nqn.clone(), identity.controller_id);
        self.hosts.insert(
            key,
            Host {
                identity,
                queue_pairs: 1,
                since_unix_ms: now.unix_ms,
            },
        );
    }

    pub(super) fn disconnected(&mut self, poller: usize, identity: &HostIdentity) {
        self.hosts
            .remove(&(poller, identity.subsystem_nqn.clone(), identity.controller_id));
    }

    pub(super) fn queues(&mut self, poller: usize, subsystem_nqn: &str, controller_id: u16, queue_pairs: u16) {
        if let Some(host) = self.hosts.get_mut(&(poller, subsystem_nqn.to_owned(), controller_id)) {
            host.queue_pairs = queue_pairs;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    pub(super) fn len(&self) -> usize {
        self.hosts.len()
    }
}
