//! The few rtnetlink messages the monitor needs (`linux/netlink.h`, `linux/rtnetlink.h`, `linux/if_link.h`,
//! `linux/if_addr.h`). Host byte order. Malformed input yields nothing, never a panic.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::LinkAddress;

const HEADER_BYTES: usize = 16;
const LINK_BODY_BYTES: usize = 16;
const ADDRESS_BODY_BYTES: usize = 8;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

const IFF_UP: u32 = 0x1;
const IFF_LOWER_UP: u32 = 0x1_0000;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_CARRIER_DOWN_COUNT: u16 = 48;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What is asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dump {
    Links,
    Addresses,
}

/// One message of interest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Link(LinkMessage),
    LinkGone {
        index: u32,
    },
    Address {
        index: u32,
        address: LinkAddress,
        usable: bool,
    },
    AddressGone {
        index: u32,
        address: LinkAddress,
    },
    /// The answer to a request is complete; `interrupted`: things changed meanwhile, ask again.
    Done {
        interrupted: bool,
    },
    /// The kernel refused, with a positive `errno`.
    Error {
        errno: i32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkMessage {
    pub index: u32,
    pub name: String,
    pub admin_up: bool,
    pub lower_up: bool,
    pub operational_state: u8,
    pub carrier_downs: u32,
    pub mtu: u32,
}

/// A dump request.
pub(super) fn dump_request(dump: Dump, sequence: u32) -> Vec<u8> {
    let (kind, body) = match dump {
        Dump::Links => (RTM_GETLINK, LINK_BODY_BYTES),
        Dump::Addresses => (RTM_GETADDR, ADDRESS_BODY_BYTES),
    };
    let mut request = vec![0; HEADER_BYTES + body];
    if dump == Dump::Links {
        request.extend(8u16.to_ne_bytes());
        request.extend(IFLA_EXT_MASK.to_ne_bytes());
        request.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    }
    let length = u32::try_from(request.len()).expect("a request is a few bytes");
    request[0..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&kind.to_ne_bytes());
    request[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
    request
}

/// The messages of one datagram, with the sequence number of each (0 for notifications).
pub(super) fn parse(datagram: &[u8]) -> Vec<(u32, Message)> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while rest.len() >= HEADER_BYTES {
        let length = u32_at(rest, 0).unwrap_or(0) as usize;
        if length < HEADER_BYTES || length > rest.len() {
            break;
        }
        let kind = u16_at(rest, 4).unwrap_or(0);
        let flags = u16_at(rest, 6).unwrap_or(0);
        let sequence = u32_at(rest, 8).unwrap_or(0);
        if let Some(message) = parse_body(kind, flags, &rest[HEADER_BYTES..length]) {
            messages.push((sequence, message));
        }
        rest = &rest[align(length).min(rest.len())..];
    }
    messages
}

fn parse_body(kind: u16, flags: u16, body: &[u8]) -> Option<Message> {
    match kind {
        NLMSG_DONE => Some(Message::Done {
            interrupted: flags & NLM_F_DUMP_INTR != 0,
        }),
        NLMSG_ERROR => {
            let errno = i32::from_ne_bytes(body.get(0..4)?.try_into().ok()?).checked_neg()?;
            (errno != 0).then_some(Message::Error { errno })
        }
        RTM_NEWLINK => parse_link(body).map(Message::Link),
        RTM_DELLINK => Some(Message::LinkGone {
            index: u32_at(body, 4)?,
        }),
        RTM_NEWADDR => {
            let (index, address, usable) = parse_address(body)?;
            Some(Message::Address { index, address, usable })
        }
        RTM_DELADDR => {
            let (index, address, _) = parse_address(body)?;
            Some(Message::AddressGone { index, address })
        }
        _ => None,
    }
}

fn parse_link(body: &[u8]) -> Option<LinkMessage> {
    let flags = u32_at(body, 8)?;
    let mut link = LinkMessage {
        index: u32_at(body, 4)?,
        name: String::new(),
        admin_up: flags & IFF_UP != 0,
        lower_up: flags & IFF_LOWER_UP != 0,
        operational_state: 0,
        carrier_downs: 0,
        mtu: 0,
    };
    for (kind, value) in attributes(body.get(LINK_BODY_BYTES..)?) {
        match kind {
            IFLA_IFNAME => {
                let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                link.name = String::from_utf8_lossy(text).into_owned();
            }
            IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
            IFLA_OPERSTATE => link.operational_state = value.first().copied().unwrap_or(0),
            IFLA_CARRIER_DOWN_COUNT => link.carrier_downs = u32_at(value, 0).unwrap_or(0),
            _ => {}
        }
    }
    Some(link)
}

fn parse_address(body: &[u8]) -> Option<(u32, LinkAddress, bool)> {
    let family = *body.first()?;
    let prefix_length = *body.get(1)?;
    let mut flags = u32::from(*body.get(2)?);
    let index = u32_at(body, 4)?;
    let mut local = None;
    let mut peer_or_local = None;
    for (kind, value) in attributes(body.get(ADDRESS_BODY_BYTES..)?) {
        match kind {
            IFA_LOCAL => local = ip(family, value),
            IFA_ADDRESS => peer_or_local = ip(family, value),
            IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL, where given, is always ours.
    let address = LinkAddress {
        ip: local.or(peer_or_local)?,
        prefix_length,
    };
    Some((index, address, flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0))
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?))),
        _ => None,
    }
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const ATTRIBUTE_HEADER_BYTES: usize = 4;
    const TYPE_MASK: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn align(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(align(bytes.len()), 0);
        bytes
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len() + HEADER_BYTES).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    pub(crate) fn link_message(index: u32, flags: u32, name: &str, downs: u32) -> Vec<u8> {
        message(RTM_NEWLINK, &link_body(index, flags, name, downs))
    }

    fn link_body(index: u32, flags: u32, name: &str, downs: u32) -> Vec<u8> {
        let mut body = vec![0; LINK_BODY_BYTES];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        body[8..12].copy_from_slice(&flags.to_ne_bytes());
        body.extend(attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat()));
        body.extend(attribute(IFLA_MTU, &4200u32.to_ne_bytes()));
        body.extend(attribute(IFLA_OPERSTATE, &[6]));
        body.extend(attribute(IFLA_CARRIER_DOWN_COUNT, &downs.to_ne_bytes()));
        body
    }

    #[test]
    fn a_link_message_shows_name_flags_state_and_carrier_count() {
        let datagram = message(RTM_NEWLINK, &link_body(7, IFF_UP | IFF_LOWER_UP, "rdma0", 3));
        assert_eq!(
            parse(&datagram),
            [(
                0,
                Message::Link(LinkMessage {
                    index: 7,
                    name: "rdma0".into(),
                    admin_up: true,
                    lower_up: true,
                    operational_state: 6,
                    carrier_downs: 3,
                    mtu: 4200,
                })
            )]
        );
    }

    #[test]
    fn an_address_is_ours_and_not_the_peers_and_a_tentative_one_is_not_usable() {
        let mut body = vec![AF_INET, 24, 0, 0];
        body.extend(7u32.to_ne_bytes());
        body.extend(attribute(IFA_ADDRESS, &[10, 9, 0, 9]));
        body.extend(attribute(IFA_LOCAL, &[10, 9, 0, 1]));
        body.extend(attribute(IFA_FLAGS, &IFA_F_TENTATIVE.to_ne_bytes()));
        let address = LinkAddress {
            ip: "10.9.0.1".parse().unwrap(),
            prefix_length: 24,
        };
        assert_eq!(
            parse(&message(RTM_NEWADDR, &body)),
            [(
                0,
                Message::Address {
                    index: 7,
                    address,
                    usable: false
                }
            )]
        );
        assert_eq!(
            parse(&message(RTM_DELADDR, &body)),
            [(0, Message::AddressGone { index: 7, address })]
        );
    }

    #[test]
    fn several_messages_of_one_datagram_are_all_read() {
        let mut datagram = message(RTM_NEWLINK, &link_body(1, 0, "lo", 0));
        datagram.extend(message(NLMSG_DONE, &[0; 4]));
        let kinds: Vec<_> = parse(&datagram).into_iter().map(|(_, message)| message).collect();
        assert!(
            matches!(kinds[..], [Message::Link(_), Message::Done { interrupted: false }]),
            "{kinds:?}"
        );
    }

    #[test]
    fn malformed_messages_yield_nothing_and_do_not_panic() {
        let good = message(RTM_NEWLINK, &link_body(1, 0, "lo", 0));
        for length in 0..good.len() {
            let _ = parse(&good[..length]);
        }
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(random >> 33).unwrap() % bytes.len();
                bytes[at] = u8::try_from((random >> 20) & 0xff).unwrap();
            }
            let _ = parse(&bytes);
        }
    }
}
