//! The discovery log: every subsystem the host may connect to, at every listener, and nothing more.

use std::net::SocketAddr;

use crate::nvme::discovery_log::{ENTRY_BYTES, Entry, EntryKind, HEADER_BYTES, header};
use crate::nvme::log_page::{LogRequest, LogWindow};
use crate::nvme::qualified_name::DISCOVERY_NQN;
use crate::nvme::status::Status;

use super::Controller;

impl Controller {
    /// Entries of the discovery log: for each listener the discovery subsystem itself where the host is connected,
    /// then the subsystems.
    fn discovery_entries(&self) -> impl Iterator<Item = Entry<'_>> + Clone {
        let subsystems = self.model.subsystems_of(&self.identity.host_nqn);
        let local = self.local_listener();
        let listeners = self.model.listeners.iter().enumerate();
        listeners.flat_map(move |(index, listener)| {
            let here = local.is_none_or(|local| local == index);
            let current = here.then_some((EntryKind::Current, DISCOVERY_NQN));
            let others = subsystems
                .clone()
                .map(|found| (EntryKind::Subsystem, found.nqn.as_str()));
            let entry = move |(kind, subsystem_nqn)| Entry {
                kind,
                // At most 16 listeners.
                port_id: index as u16 + 1,
                address: listener.address,
                subsystem_nqn,
            };
            current.into_iter().chain(others).map(entry)
        })
    }

    /// Index of the listener the host connected to, if it serves now. Scope and flow of an IPv6 address do not count.
    fn local_listener(&self) -> Option<usize> {
        let local = self.local_address?;
        let is_local = |address: SocketAddr| (address.ip(), address.port()) == (local.ip(), local.port());
        let mut listeners = self.model.listeners.iter();
        listeners.position(|listener| is_local(listener.address))
    }

    /// Fills the part of the discovery log that is asked for. `out` holds zeroes.
    pub(super) fn write_discovery_log(&self, request: &LogRequest, out: &mut [u8]) -> Result<(), Status> {
        let entries = self.discovery_entries().count() as u64;
        let log_bytes = HEADER_BYTES as u64 + entries * ENTRY_BYTES as u64;
        let mut window = LogWindow::new(request.offset, out, log_bytes)?;
        window.put(0, &header(self.discovery_generation, entries));
        let mut position = HEADER_BYTES as u64;
        for entry in self.discovery_entries() {
            if window.wants(position, ENTRY_BYTES) {
                window.put(position, &entry.encode());
            }
            position += ENTRY_BYTES as u64;
        }
        Ok(())
    }
}
