//! Get Log Page.

use crate::nvme::command::Command;
use crate::nvme::identify::{COMMAND_SET_NVM, ERROR_LOG_ENTRIES};
use crate::nvme::log_page::{
    ANA_GROUP_BYTES, ANA_HEADER_BYTES, AnaState, ERROR_LOG_ENTRY_BYTES, LogRequest, LogWindow, ana_group, ana_header,
    changed_namespaces, command_effects, firmware_slot, log, smart, supported_log_pages,
};
use crate::nvme::status::{Status, StatusCode};
use crate::subsystem::model::{NAMESPACE_ID_MAX, Subsystem};

use super::identify::FIRMWARE_REVISION;
use super::{Controller, Kind, Plan};

const INVALID_FIELD: Status = StatusCode::InvalidField.permanent();
const INVALID_LOG_PAGE: Status = StatusCode::InvalidLogPage.permanent();

/// Logs of an I/O controller.
const IO_LOGS: [u8; 7] = [
    log::SUPPORTED_LOG_PAGES,
    log::ERROR_INFORMATION,
    log::SMART,
    log::FIRMWARE_SLOT,
    log::CHANGED_NAMESPACES,
    log::COMMAND_EFFECTS,
    log::ASYMMETRIC_NAMESPACE_ACCESS,
];
/// Logs of a discovery controller.
const DISCOVERY_LOGS: [u8; 2] = [log::SUPPORTED_LOG_PAGES, log::DISCOVERY];

impl Controller {
    /// Get Log Page: bounds of the transfer; what it holds is decided when it is produced.
    pub(super) fn begin_get_log_page(&self, command: &Command) -> Result<Plan, Status> {
        let request = LogRequest::parse(command)?;
        if !self.logs().contains(&request.log) {
            return Err(INVALID_LOG_PAGE);
        }
        match u32::try_from(request.length) {
            Ok(length) if length <= self.limits.transfer_bytes_max() => Ok(Plan::Produce { length }),
            _ => Err(INVALID_FIELD),
        }
    }

    fn logs(&self) -> &'static [u8] {
        match self.kind {
            Kind::Subsystem(_) => &IO_LOGS,
            Kind::Discovery => &DISCOVERY_LOGS,
        }
    }

    /// Fills the part of a log page that is asked for. `out` holds zeroes.
    pub(super) fn produce_log_page(&mut self, command: &Command, out: &mut [u8]) -> Result<(), Status> {
        let request = LogRequest::parse(command)?;
        if !self.logs().contains(&request.log) {
            return Err(INVALID_LOG_PAGE);
        }
        match (request.log, &self.kind) {
            (log::SUPPORTED_LOG_PAGES, _) => put_whole(&request, out, &supported_log_pages(self.logs()))?,
            (log::DISCOVERY, _) => self.write_discovery_log(&request, out)?,
            (log::ERROR_INFORMATION, _) => {
                // No entries: a log of zeroes.
                let log_bytes = (u64::from(ERROR_LOG_ENTRIES) + 1) * ERROR_LOG_ENTRY_BYTES;
                LogWindow::new(request.offset, out, log_bytes)?;
            }
            (log::SMART, Kind::Subsystem(subsystem)) => {
                // Of the controller, or of a namespace: there is no difference in what is known.
                match command.namespace_id() {
                    0 | u32::MAX => {}
                    id @ 1..=NAMESPACE_ID_MAX if subsystem.namespace(id).is_some() => {}
                    _ => return Err(StatusCode::InvalidNamespace.permanent()),
                }
                put_whole(&request, out, &smart(&self.counters))?;
            }
            (log::FIRMWARE_SLOT, _) => put_whole(&request, out, &firmware_slot(FIRMWARE_REVISION))?,
            (log::CHANGED_NAMESPACES, _) => {
                put_whole(&request, out, &changed_namespaces(self.events.changed_namespaces.ids()))?;
                if !request.retain_event {
                    self.events.changed_namespaces.clear();
                }
            }
            (log::COMMAND_EFFECTS, _) if request.command_set != COMMAND_SET_NVM => return Err(INVALID_FIELD),
            (log::COMMAND_EFFECTS, _) => put_whole(&request, out, &command_effects())?,
            (log::ASYMMETRIC_NAMESPACE_ACCESS, Kind::Subsystem(subsystem)) => {
                let state = if self.model.paths.accessible() {
                    AnaState::Optimized
                } else {
                    AnaState::Inaccessible
                };
                write_ana_log(&request, out, subsystem, self.ana_changes, state)?;
                self.ana_changes_known = self.ana_changes;
            }
            _ => return Err(INVALID_LOG_PAGE),
        }
        if !request.retain_event {
            self.events.log_was_read(request.log);
        }
        Ok(())
    }
}

fn put_whole(request: &LogRequest, out: &mut [u8], log: &[u8]) -> Result<(), Status> {
    LogWindow::new(request.offset, out, log.len() as u64)?.put(0, log);
    Ok(())
}

/// Groups by ascending id, each with its namespaces by ascending id. Groups without namespaces are left out.
fn write_ana_log(
    request: &LogRequest,
    out: &mut [u8],
    subsystem: &Subsystem,
    change_count: u64,
    state: AnaState,
) -> Result<(), Status> {
    /// Return Groups Only.
    const GROUPS_ONLY: u8 = 1;
    let groups_only = request.specific & GROUPS_ONLY != 0;
    let mut groups: Vec<u32> = subsystem
        .namespaces
        .iter()
        .map(|namespace| namespace.ana_group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let ids = if groups_only { 0 } else { subsystem.namespaces.len() };
    let log_bytes = ANA_HEADER_BYTES + groups.len() * ANA_GROUP_BYTES + ids * 4;
    let mut window = LogWindow::new(request.offset, out, log_bytes as u64)?;
    // At most 128 groups.
    window.put(0, &ana_header(change_count, groups.len() as u16));
    let mut position = ANA_HEADER_BYTES as u64;
    for group in groups {
        let members = subsystem
            .namespaces
            .iter()
            .filter(|namespace| namespace.ana_group == group);
        let count = if groups_only { 0 } else { members.clone().count() as u32 };
        window.put(position, &ana_group(group, count, change_count, state));
        position += ANA_GROUP_BYTES as u64;
        for namespace in members.take(count as usize) {
            window.put(position, &namespace.id.to_le_bytes());
            position += 4;
        }
    }
    Ok(())
}
