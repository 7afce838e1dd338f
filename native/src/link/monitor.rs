//! The kernel's links, by rtnetlink.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, send, socket_with, sockopt,
};

use super::message::{Dump, Message, dump_request, parse};
use super::{Link, LinkSource, LinkView};

/// Multicast groups of links and of both kinds of addresses (`RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`,
/// `RTMGRP_IPV6_IFADDR`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Room for hints that come in a burst; a node may see hundreds of interfaces come and go.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// A dump's datagrams are at most 32 KiB.
const DATAGRAM_BYTES: usize = 64 * 1024;

/// Times a dump that changes meanwhile is asked for again before the last answer is taken as it is.
const DUMP_ATTEMPTS_MAX: u32 = 4;

/// Follows the kernel's links: one socket for hints, one for reading the level. Neither ever blocks.
#[derive(Debug)]
pub struct Monitor {
    hints: OwnedFd,
    requests: OwnedFd,
    sequence: u32,
    stale: bool,
    seen: Seen,
    carrier_downs: BTreeMap<u32, u32>,
    view: LinkView,
    /// One datagram.
    buffer: Box<[u8]>,
}

/// What the hints themselves said, which a later level may no longer show.
#[derive(Debug, Default)]
struct Seen {
    links_down: Vec<u32>,
    addresses_gone: Vec<std::net::IpAddr>,
}

impl Monitor {
    /// Opens the sockets and reads the level once.
    ///
    /// # Errors
    /// The system's error, for example when the process may have no more descriptors.
    pub fn open() -> io::Result<Self> {
        let hints = open_socket()?;
        bind(&hints, &netlink::SocketAddrNetlink::new(0, GROUPS))?;
        let mut monitor = Self {
            hints,
            requests: open_socket()?,
            sequence: 0,
            stale: true,
            seen: Seen::default(),
            carrier_downs: BTreeMap::new(),
            view: LinkView::default(),
            buffer: vec![0; DATAGRAM_BYTES].into_boxed_slice(),
        };
        monitor.refresh()?;
        Ok(monitor)
    }

    fn take_hints(&mut self) {
        loop {
            match recv(&self.hints, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) if length > 0 => {
                    self.stale = true;
                    for (_, message) in parse(&self.buffer[..length.min(DATAGRAM_BYTES)]) {
                        self.seen.note(&message);
                    }
                }
                Err(Errno::INTR) => {}
                // Hints were lost: nothing but the level can be trusted.
                Err(Errno::NOBUFS) => self.stale = true,
                Ok(_) | Err(_) => break,
            }
        }
    }

    fn read_level(&mut self) -> io::Result<LinkView> {
        let mut next = LinkView {
            links: BTreeMap::new(),
            address_removals: self.view.address_removals.clone(),
        };
        let mut carrier_downs = BTreeMap::new();
        for message in self.dump(Dump::Links)? {
            let Message::Link(link) = message else { continue };
            let before = self.view.links.get(&link.index);
            let carrier_before = self
                .carrier_downs
                .get(&link.index)
                .copied()
                .unwrap_or(link.carrier_downs);
            let mut known = Link {
                name: link.name,
                admin_up: link.admin_up,
                lower_up: link.lower_up,
                operational_state: link.operational_state,
                mtu: link.mtu,
                addresses: Vec::new(),
                downs: before.map_or(0, |before| before.downs),
            };
            let went_down = before.is_some_and(Link::is_up) && !known.is_up();
            let missed_down = known.is_up()
                && (link.carrier_downs != carrier_before || self.seen.links_down.contains(&link.index))
                && before.is_some_and(Link::is_up);
            known.downs += u64::from(went_down || missed_down);
            carrier_downs.insert(link.index, link.carrier_downs);
            next.links.insert(link.index, known);
        }
        for message in self.dump(Dump::Addresses)? {
            let Message::Address {
                index,
                address,
                usable: true,
            } = message
            else {
                continue;
            };
            if let Some(link) = next.links.get_mut(&index) {
                link.addresses.push(address);
            }
        }
        for link in next.links.values_mut() {
            link.addresses.sort_unstable();
        }
        for ip in &self.seen.addresses_gone {
            *next.address_removals.entry(*ip).or_default() += 1;
        }
        self.carrier_downs = carrier_downs;
        self.seen = Seen::default();
        Ok(next)
    }

    fn dump(&mut self, dump: Dump) -> io::Result<Vec<Message>> {
        for attempt in 1.. {
            let (messages, interrupted) = self.dump_once(dump)?;
            if !interrupted || attempt >= DUMP_ATTEMPTS_MAX {
                return Ok(messages);
            }
        }
        unreachable!("the loop returns at its last attempt")
    }

    fn dump_once(&mut self, dump: Dump) -> io::Result<(Vec<Message>, bool)> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        send(&self.requests, &dump_request(dump, self.sequence), SendFlags::empty())?;
        let mut messages = Vec::new();
        loop {
            // The kernel answers a dump while it is asked: there is always something to read until the end.
            let (length, _) = match recv(&self.requests, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => continue,
                outcome => outcome?,
            };
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (sequence, message) in parse(&self.buffer[..length.min(DATAGRAM_BYTES)]) {
                match message {
                    // Left over from a dump that was given up.
                    _ if sequence != self.sequence => {}
                    Message::Done { interrupted } => return Ok((messages, interrupted)),
                    Message::Error { errno } => return Err(io::Error::from_raw_os_error(errno)),
                    message => messages.push(message),
                }
            }
        }
    }
}

impl Seen {
    fn note(&mut self, message: &Message) {
        match message {
            Message::Link(link) if !(link.admin_up && link.lower_up) => self.links_down.push(link.index),
            Message::LinkGone { index } => self.links_down.push(*index),
            Message::AddressGone { address, .. } => self.addresses_gone.push(address.ip),
            _ => {}
        }
    }
}

impl LinkSource for Monitor {
    fn fd(&self) -> Option<RawFd> {
        Some(self.hints.as_raw_fd())
    }

    fn refresh(&mut self) -> io::Result<bool> {
        self.take_hints();
        if !self.stale {
            return Ok(false);
        }
        let next = self.read_level()?;
        self.stale = false;
        let changed = next != self.view;
        self.view = next;
        Ok(changed)
    }

    fn reread(&mut self) -> io::Result<bool> {
        self.stale = true;
        self.refresh()
    }

    fn view(&self) -> &LinkView {
        &self.view
    }
}

fn open_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    // Best effort: the limit of the system may be lower, and overrun hints are noticed anyway.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::link_message;
    use super::*;

    #[test]
    fn the_loopback_link_of_this_machine_is_seen_with_its_address() {
        let mut monitor = Monitor::open().unwrap();
        let loopback = monitor.view().by_address("127.0.0.1".parse().unwrap());
        if let Some(loopback) = loopback {
            assert_eq!(loopback.name, "lo");
            assert!(loopback.is_up());
        } else {
            // A sandbox whose loopback is down still has the interface.
            assert!(monitor.view().by_name("lo").is_some());
        }
        assert!(!monitor.refresh().unwrap(), "nothing changed");
    }

    #[test]
    fn hints_about_links_and_addresses_that_are_already_back_are_remembered() {
        let mut seen = Seen::default();
        let link = |flags| parse(&link_message(7, flags, "x", 0));
        for (_, message) in link(0).into_iter().chain(link(0x1_0001)) {
            seen.note(&message);
        }
        assert_eq!(seen.links_down, [7]);
    }
}
