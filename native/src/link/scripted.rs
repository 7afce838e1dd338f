//! Links as a test's script says.

use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Link, LinkAddress, LinkSource, LinkView};

/// The script, and how many more reads of it fail.
#[derive(Debug, Default)]
struct Script {
    view: LinkView,
    failures: u32,
    /// Changes so far, so that a read that finds none costs little.
    version: u64,
}

/// Both ends of a scripted world: the control loop reads it, the test changes it through a clone.
#[derive(Debug, Clone, Default)]
pub struct ScriptedLinks {
    shared: Arc<Mutex<Script>>,
    view: LinkView,
    /// Version of `view`.
    seen: u64,
}

impl ScriptedLinks {
    /// A world with these links, all up, each with one address.
    #[must_use]
    pub fn with(links: &[(&str, IpAddr, u8)]) -> Self {
        let script = Self::default();
        for (index, (name, ip, prefix_length)) in (1..).zip(links) {
            script.change(|view| {
                view.links.insert(
                    index,
                    Link {
                        name: (*name).to_owned(),
                        admin_up: true,
                        lower_up: true,
                        operational_state: 6,
                        mtu: 4200,
                        addresses: vec![LinkAddress {
                            ip: *ip,
                            prefix_length: *prefix_length,
                        }],
                        downs: 0,
                    },
                );
            });
        }
        script
    }

    /// Carrier comes or goes.
    pub fn set_up(&self, name: &str, up: bool) {
        self.change_link(name, |link| {
            link.downs += u64::from(link.lower_up && !up);
            link.lower_up = up;
            link.operational_state = if up { 6 } else { 2 };
        });
    }

    /// Carrier goes and comes back before anybody reads.
    pub fn flap(&self, name: &str) {
        self.change_link(name, |link| link.downs += 1);
    }

    /// The largest packet changes.
    pub fn set_mtu(&self, name: &str, mtu: u32) {
        self.change_link(name, |link| link.mtu = mtu);
    }

    /// An address is added.
    pub fn add_address(&self, name: &str, ip: IpAddr, prefix_length: u8) {
        self.change_link(name, |link| {
            link.addresses.push(LinkAddress { ip, prefix_length });
            link.addresses.sort_unstable();
        });
    }

    /// An address is removed.
    pub fn remove_address(&self, ip: IpAddr) {
        self.change(|view| {
            for link in view.links.values_mut() {
                link.addresses.retain(|address| address.ip != ip);
            }
            *view.address_removals.entry(ip).or_default() += 1;
        });
    }

    fn change_link(&self, name: &str, change: impl FnOnce(&mut Link)) {
        self.change(|view| {
            if let Some(link) = view.links.values_mut().find(|link| link.name == name) {
                change(link);
            }
        });
    }

    /// The next reads fail, as when the system has no memory for them.
    pub fn fail_reads(&self, count: u32) {
        self.script().failures = count;
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut LinkView)) {
        let mut script = self.script();
        change(&mut script.view);
        script.version += 1;
    }
}

impl LinkSource for ScriptedLinks {
    fn fd(&self) -> Option<RawFd> {
        None
    }

    fn refresh(&mut self) -> io::Result<bool> {
        let mut script = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = script.failures.checked_sub(1) {
            script.failures = left;
            return Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        }
        if script.version == self.seen {
            return Ok(false);
        }
        self.seen = script.version;
        let changed = script.view != self.view;
        self.view.clone_from(&script.view);
        Ok(changed)
    }

    fn reread(&mut self) -> io::Result<bool> {
        self.refresh()
    }

    fn view(&self) -> &LinkView {
        &self.view
    }
}
