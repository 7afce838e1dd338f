//! Network links and their addresses, followed by rtnetlink.
//!
//! Every notification is only a hint: the monitor re-reads the level from the kernel and shows it as a [`LinkView`].
//! What the level alone cannot show, a flap between two reads, is kept as counters in the view.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::RawFd;

mod message;
mod monitor;
pub mod scripted;

pub use monitor::Monitor;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The address itself.
    pub ip: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_length: u8,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface name, for example `eth1`.
    pub name: String,
    /// `IFF_UP`: switched on by the administrator.
    pub admin_up: bool,
    /// `IFF_LOWER_UP`: has carrier.
    pub lower_up: bool,
    /// RFC 2863 state as the kernel numbers it (`IF_OPER_*`): 0 unknown, 6 up.
    pub operational_state: u8,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Usable addresses, ascending; tentative ones are left out.
    pub addresses: Vec<LinkAddress>,
    /// Times the link was seen to go down, also between two reads.
    pub downs: u64,
}

impl Link {
    /// The link can carry traffic, as far as the kernel knows.
    #[must_use]
    pub fn is_up(&self) -> bool {
        const UNKNOWN: u8 = 0;
        const UP: u8 = 6;
        self.admin_up && self.lower_up && matches!(self.operational_state, UNKNOWN | UP)
    }
}

/// All links at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkView {
    /// By interface index.
    pub links: BTreeMap<u32, Link>,
    /// Times an address was removed, also between two reads; only addresses that were.
    pub address_removals: BTreeMap<IpAddr, u64>,
}

impl LinkView {
    /// A link by its name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The link that has this address.
    #[must_use]
    pub fn by_address(&self, ip: IpAddr) -> Option<&Link> {
        self.links
            .values()
            .find(|link| link.addresses.iter().any(|address| address.ip == ip))
    }

    /// Times this address was removed.
    #[must_use]
    pub fn removals(&self, ip: IpAddr) -> u64 {
        self.address_removals.get(&ip).copied().unwrap_or(0)
    }
}

/// Where the control loop learns of links: the kernel, or a test's script.
pub trait LinkSource: std::fmt::Debug + Send {
    /// Descriptor that becomes readable on a hint; `None` if there is none (tests).
    fn fd(&self) -> Option<RawFd>;
    /// Takes all hints and re-reads the level if there were any; whether the view changed.
    ///
    /// # Errors
    /// The system's error when the level cannot be read; the view stays as it was and the next call reads again.
    fn refresh(&mut self) -> std::io::Result<bool>;
    /// Re-reads the level although there was no hint yet; whether the view changed. A link that is being taken down
    /// right now counts as down: the kernel answers after it is done, while its hint may still be on its way.
    ///
    /// # Errors
    /// As [`LinkSource::refresh`].
    fn reread(&mut self) -> std::io::Result<bool>;
    /// The level as last read.
    fn view(&self) -> &LinkView;
}
