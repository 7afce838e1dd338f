//! What is up now: links, addresses, devices. Every event is only a hint to look.

use super::port::{Endpoint, Port, Reason, async_event_name};
use super::{Control, Now, PollerHost, RECHECK, address};
use crate::backend::Backend;
use crate::engine::control::events::{Event as Reported, Level};
use crate::engine::messages::PortId;
use crate::lifecycle::{Event, Phase};
use crate::provider::{AsyncEvent, PortState, Provider};

/// Async events taken from one device in one step.
const ASYNC_EVENTS_PER_STEP: usize = 256;

impl<P: Provider, B: Backend, H: PollerHost<P, B>> Control<P, B, H> {
    /// Takes what devices report. Events belong to a device and not to whoever has it open, so each device is asked
    /// once, and every port on it hears.
    pub(super) fn take_async_events(&mut self, now: Now) {
        let mut asked: Vec<String> = Vec::new();
        let ids: Vec<PortId> = self.ports.keys().copied().collect();
        for id in ids {
            let Some((port, name)) = self.ports.get(&id).and_then(|port| Some((port, port.device_name()?))) else {
                continue;
            };
            if asked.contains(&name) {
                continue;
            }
            let mut events = Vec::new();
            for device in port.devices() {
                let next = || self.provider.next_async_event(device);
                events.extend(std::iter::from_fn(next).take(ASYNC_EVENTS_PER_STEP));
            }
            for event in events {
                self.async_event(&name, event, now);
            }
            asked.push(name);
        }
    }

    fn async_event(&mut self, device: &str, event: AsyncEvent, now: Now) {
        let on_device: Vec<PortId> = self
            .ports
            .values()
            .filter(|port| port.device_name().as_deref() == Some(device))
            .map(|port| port.id)
            .collect();
        if event == AsyncEvent::DeviceFatal {
            let event = Reported::DeviceFatal {
                device: device.to_owned(),
                message: fatal_message(device),
            };
            self.journal.report(event, now);
        }
        for id in on_device {
            self.port_async_event(id, device, event, now);
        }
    }

    fn port_async_event(&mut self, id: PortId, device: &str, event: AsyncEvent, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        *port.statistics.async_events.entry(async_event_name(event)).or_default() += 1;
        match event {
            AsyncEvent::PortError | AsyncEvent::PortActive | AsyncEvent::GidChange => self.levels_stale = true,
            AsyncEvent::DeviceFatal => {
                port.statistics.device_fatal += 1;
                let reason = Reason::new("DeviceFatal", fatal_message(device));
                self.feed(id, Event::DeviceFatal, Some(reason), now);
            }
            AsyncEvent::QueuePairFatal(number) => self.queue_pair_fatal(id, number),
            AsyncEvent::CompletionQueueError | AsyncEvent::SharedReceiveQueueError => {
                let message = format!(
                    "device {device} reported {}; the port is built anew",
                    async_event_name(event)
                );
                self.feed(id, Event::Restart, Some(Reason::new("QueueError", message)), now);
            }
            // A hint that nothing waits for: some devices never send it.
            AsyncEvent::LastWorkRequestReached(_) | AsyncEvent::Other(_) => {}
        }
    }

    /// Re-reads links, addresses and devices if there was any hint, and tells the ports.
    pub(super) fn follow_levels(&mut self, now: Now) {
        match self.links.refresh() {
            Ok(changed) => self.levels_stale |= changed,
            // Read again at the next step; until then the level as last read holds.
            Err(_) => self.recheck_at = Some(now.instant + RECHECK),
        }
        if self.recheck_at.is_some_and(|at| at <= now.instant) {
            self.recheck_at = None;
            self.levels_stale = true;
        }
        if !std::mem::take(&mut self.levels_stale) {
            return;
        }
        if !self.links_known {
            self.verify_links();
        }
        if std::mem::take(&mut self.devices_stale) || self.ports.values().any(|port| self.lacks_device(port)) {
            self.list_devices();
        }
        let ids: Vec<PortId> = self.ports.keys().copied().collect();
        for id in ids {
            self.follow_port(id, now);
        }
        // Also of ports that moved meanwhile or are gone: what counts is the path of each connection.
        self.tell_all_hosts(now);
        if self
            .ports
            .values()
            .any(|port| port.unresolved.is_some() && !port.removed)
        {
            self.recheck_at = Some(now.instant + RECHECK);
        }
    }

    /// Devices are listed only when somebody needs a new list: it costs thousands of system calls, and a link that just
    /// went down must not wait for them.
    fn list_devices(&mut self) {
        match self.provider.devices() {
            Ok(devices) => (self.devices, self.devices_problem) = (devices, None),
            Err(error) => {
                self.devices.clear();
                self.devices_problem = Some(Reason::new("RdmaUnavailable", error.to_string()));
            }
        }
    }

    /// A port's address is there as far as links go, but not a device as last listed.
    fn lacks_device(&self, port: &Port<P>) -> bool {
        let found = self.resolve(port);
        !port.removed && found.is_err_and(|reason| matches!(reason.code, "NoRdmaDevice" | "DeviceNotFound"))
    }

    fn resolve(&self, port: &Port<P>) -> Result<Endpoint, Reason> {
        let current = port.endpoint.as_ref().map(|endpoint| endpoint.ip);
        let spec = &port.spec;
        address::resolve(
            &spec.address_from,
            spec.address_family,
            current,
            self.links.view(),
            &self.devices,
        )
    }

    fn follow_port(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get(&id) else { return };
        let problem = self.devices_problem.as_ref();
        if let (Some(_), Some(endpoint), true) = (problem, &port.endpoint, port.state.phase.holds_epoch()) {
            // That devices cannot be listed does not mean that the one in use is gone.
            let endpoint = endpoint.clone();
            self.resolved(id, endpoint, now);
            return;
        }
        let found = self.resolve(port);
        // Without any device, why there is none says more.
        let found = found.map_err(|reason| match problem {
            Some(problem) if reason.code == "NoRdmaDevice" => problem.clone(),
            _ => reason,
        });
        let Some(port) = self.ports.get_mut(&id) else { return };
        match found {
            Ok(endpoint) => {
                port.unresolved = None;
                self.resolved(id, endpoint, now);
            }
            Err(reason) => {
                port.unresolved = Some(reason.clone());
                let was_up = port.path_usable();
                let event = if matches!(reason.code, "NoRdmaDevice" | "DeviceNotFound" | "RdmaUnavailable") {
                    Event::DeviceRemoved
                } else {
                    Event::AddressLost
                };
                self.feed(id, event, Some(reason), now);
                if was_up {
                    self.link_changed(id, false, now);
                }
            }
        }
    }

    /// A port's address is there: is it the same one, and can it be reached?
    fn resolved(&mut self, id: PortId, endpoint: Endpoint, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        let view = self.links.view();
        let Some(link) = view.by_name(&endpoint.netdev) else {
            return;
        };
        let link_up = link.is_up();
        let flaps = (link.downs, view.removals(endpoint.ip));
        let mtu = link.mtu;
        let seen = std::mem::replace(&mut port.seen_flaps, flaps);
        if std::mem::replace(&mut port.seen_mtu, mtu) != mtu {
            // The device hears of it a moment after we do.
            let at = now.instant + RECHECK;
            self.recheck_at = Some(self.recheck_at.map_or(at, |before| before.min(at)));
        }
        let was_up = port.path_usable();
        let moved = port.endpoint.as_ref().is_some_and(|before| *before != endpoint);
        let message = format!("{} is on {} ({}) now", endpoint.ip, endpoint.netdev, endpoint.device);
        let same = port.endpoint.as_ref() == Some(&endpoint);
        port.endpoint = Some(endpoint);
        if moved && was_up {
            self.feed(
                id,
                Event::AddressLost,
                Some(Reason::new("AddressChanged", message)),
                now,
            );
            self.link_changed(id, false, now);
        } else if same && seen.1 != flaps.1 && was_up {
            let reason = Reason::new("AddressChanged", "the address was removed and added again");
            self.feed(id, Event::AddressLost, Some(reason), now);
            self.link_changed(id, false, now);
        } else if same && seen.0 != flaps.0 && was_up {
            // It went down, and may be up again already: connections may have broken meanwhile.
            self.link_went_down(id, now);
        }
        if link_up && self.device_port_active(id) {
            self.link_came_up(id, now);
            self.follow_mtu(id, now);
        } else {
            self.link_went_down(id, now);
        }
    }

    /// Queue pairs that were made for larger packets than the interface takes now would send them for ever: they are
    /// made anew. When it takes larger ones than before, nothing has to change.
    fn follow_mtu(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get_mut(&id).filter(|port| port.state.phase.serves()) else {
            return;
        };
        let Some(service) = port.epochs.get_mut(&port.state.epoch) else {
            return;
        };
        let Ok(mtu) = self.provider.active_mtu(&service.device) else {
            return;
        };
        if mtu >= service.mtu {
            service.mtu = mtu;
            return;
        }
        let message = format!(
            "device {} takes packets of {mtu} bytes now, and {} before: connections are made anew; give the interfaces \
             of the hosts the same MTU",
            service.device_name, service.mtu
        );
        self.feed(id, Event::Restart, Some(Reason::new("MtuReduced", message)), now);
    }

    /// The level of the device's own port, where the device is open.
    fn device_port_active(&self, id: PortId) -> bool {
        let Some(port) = self.ports.get(&id) else { return false };
        let device = port.service().map(|service| &service.device);
        // A device that cannot even be asked is not better than one that is down; arming finds out more.
        device.is_none_or(|device| matches!(self.provider.port_state(device), Ok(PortState::Active)))
    }

    fn link_came_up(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get(&id) else { return };
        if port.path_usable() {
            return;
        }
        self.link_changed(id, true, now);
        let waits = Reason::new("LinkStabilizing", "the link is up; waiting until it was for a while");
        let rests = self
            .ports
            .get(&id)
            .is_some_and(|port| matches!(port.state.phase, Phase::Down | Phase::Quarantined) && port.state.wanted);
        self.feed(id, Event::LinkUp, rests.then_some(waits), now);
    }

    fn link_went_down(&mut self, id: PortId, now: Now) {
        let Some(port) = self.ports.get(&id) else { return };
        let was_up = port.path_usable();
        // Elsewhere the reason that is shown already says more.
        if !was_up && port.state.phase != Phase::Down {
            return;
        }
        let reason = port.link_down_reason();
        self.feed(id, Event::LinkDown, Some(reason), now);
        if was_up {
            self.link_changed(id, false, now);
        }
    }

    fn link_changed(&mut self, id: PortId, up: bool, now: Now) {
        let Some(port) = self.ports.get_mut(&id) else { return };
        if !up {
            port.management.path_lost();
        }
        let statistics = &mut port.statistics;
        *(if up {
            &mut statistics.link_ups
        } else {
            &mut statistics.link_downs
        }) += 1;
        let netdev = port
            .endpoint
            .as_ref()
            .map_or_else(String::new, |endpoint| endpoint.netdev.clone());
        let event = Reported::LinkState {
            listener: port.name.to_string(),
            netdev,
            up,
        };
        let level = if up { Level::Info } else { Level::Warning };
        self.journal.report_as(level, event, now);
    }
}

fn fatal_message(device: &str) -> String {
    format!(
        "RDMA device {device} reported a fatal error; its ports drain and are tried again at long intervals; if that \
         does not help, reset the device or its driver"
    )
}
