//! The discovery log: every subsystem the host may connect to, at every listener, and nothing more.

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
        self.model
            .listeners
            .iter()
            .enumerate()
            .flat_map(move |(index, listener)| {
                let address = listener.address;
                // At most 16 listeners.
                let port_id = index as u16 + 1;
                let here = self.local_address.is_none_or(|local| local == address);
                let current = here.then_some((EntryKind::Current, DISCOVERY_NQN));
                let others = subsystems
                    .clone()
                    .map(|subsystem| (EntryKind::Subsystem, subsystem.nqn.as_str()));
                let entry = move |(kind, subsystem_nqn)| Entry {
                    kind,
                    port_id,
                    address,
                    subsystem_nqn,
                };
                current.into_iter().chain(others).map(entry)
            })
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
