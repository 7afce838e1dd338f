//! The few RDMA netlink messages that are needed (`rdma/rdma_netlink.h`, `linux/netlink.h`). Host byte order. Malformed
//! input yields nothing, never a panic.

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_HEADER_BYTES: usize = 4;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// `RDMA_NL_NLDEV`, in the place where a message's type has its client.
const CLIENT: u16 = 5 << 10;

pub(super) const ATTR_DEV_INDEX: u16 = 1;
pub(super) const ATTR_DEV_NAME: u16 = 2;
pub(super) const ATTR_RES_SUMMARY: u16 = 15;
pub(super) const ATTR_RES_SUMMARY_ENTRY: u16 = 16;
pub(super) const ATTR_RES_SUMMARY_ENTRY_NAME: u16 = 17;
pub(super) const ATTR_RES_SUMMARY_ENTRY_CURR: u16 = 18;
pub(super) const ATTR_NDEV_NAME: u16 = 51;
pub(super) const ATTR_LINK_TYPE: u16 = 65;
pub(super) const ATTR_CHARDEV_TYPE: u16 = 69;
pub(super) const ATTR_UVERBS_DRIVER_ID: u16 = 73;

/// `RDMA_DRIVER_RXE` of `rdma/ib_user_ioctl_verbs.h`.
pub(super) const DRIVER_RXE: u32 = 14;

/// What is asked of the kernel (`enum rdma_nldev_command`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Every device.
    ListDevices,
    /// A device's character device and driver.
    CharacterDevice,
    /// How many objects of each kind a device has.
    Resources,
    NewLink,
    DeleteLink,
}

impl Command {
    fn number(self) -> u16 {
        match self {
            Self::ListDevices => 1,
            Self::NewLink => 3,
            Self::DeleteLink => 4,
            Self::Resources => 9,
            Self::CharacterDevice => 15,
        }
    }

    fn flags(self) -> u16 {
        match self {
            Self::ListDevices => NLM_F_REQUEST | NLM_F_DUMP,
            _ => NLM_F_REQUEST | NLM_F_ACK,
        }
    }
}

/// A request with its attributes.
pub(super) fn request(command: Command, sequence: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    for (kind, value) in attributes {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(align(bytes.len()), 0);
    }
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&(CLIENT | command.number()).to_ne_bytes());
    bytes[6..8].copy_from_slice(&command.flags().to_ne_bytes());
    bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    bytes
}

/// A C string's bytes.
pub(super) fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// The attributes of one thing.
    Data(&'a [u8]),
    /// The last one; a positive `errno`, 0 for success.
    End { errno: i32 },
}

/// The answers of one datagram to the request with this sequence number.
pub(super) fn answers(datagram: &[u8], sequence: u32) -> Vec<Answer<'_>> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while rest.len() >= HEADER_BYTES {
        let length = u32_at(rest, 0).unwrap_or(0) as usize;
        if length < HEADER_BYTES || length > rest.len() {
            break;
        }
        let body = &rest[HEADER_BYTES..length];
        if u32_at(rest, 8) == Some(sequence) {
            found.push(match u16_at(rest, 4).unwrap_or(0) {
                NLMSG_DONE => Answer::End { errno: 0 },
                NLMSG_ERROR => Answer::End {
                    errno: error_of(body).unwrap_or(libc::EPROTO),
                },
                _ => Answer::Data(body),
            });
        }
        rest = &rest[align(length).min(rest.len())..];
    }
    found
}

fn error_of(body: &[u8]) -> Option<i32> {
    i32::from_ne_bytes(body.get(0..4)?.try_into().ok()?).checked_neg()
}

/// Every attribute, with its type.
pub(super) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & !NLA_F_NESTED & NLA_TYPE_MASK;
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of this type.
pub(super) fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// A C string without its end.
pub(super) fn string(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A `u32` or `u64` attribute's value.
pub(super) fn number(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => Some(u64::from(u32_at(value, 0)?)),
        8 => Some(u64::from_ne_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// How many objects of this kind a device has, from an answer to [`Command::Resources`].
pub(super) fn resource_count(body: &[u8], kind: &str) -> Option<u64> {
    let summary = attribute(body, ATTR_RES_SUMMARY)?;
    let mut entries = attributes(summary).filter(|(attribute, _)| *attribute == ATTR_RES_SUMMARY_ENTRY);
    let found = entries.find(|(_, entry)| {
        attribute(entry, ATTR_RES_SUMMARY_ENTRY_NAME).is_some_and(|name| string(name) == kind.as_bytes())
    });
    number(attribute(found?.1, ATTR_RES_SUMMARY_ENTRY_CURR)?)
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
mod tests {
    use super::*;

    fn nested(kind: u16, parts: &[(u16, &[u8])]) -> Vec<u8> {
        let inner = request(Command::NewLink, 0, parts)[HEADER_BYTES..].to_vec();
        request(Command::NewLink, 0, &[(kind | NLA_F_NESTED, &inner)])[HEADER_BYTES..].to_vec()
    }

    #[test]
    fn a_request_to_add_a_link_has_the_kernels_layout() {
        let (name, link_type, netdev) = (text("rxe0"), text("rxe"), text("eth1"));
        let bytes = request(
            Command::NewLink,
            7,
            &[
                (ATTR_DEV_NAME, &name),
                (ATTR_LINK_TYPE, &link_type),
                (ATTR_NDEV_NAME, &netdev),
            ],
        );
        assert_eq!(u32_at(&bytes, 0), Some(u32::try_from(bytes.len()).unwrap()));
        assert_eq!(u16_at(&bytes, 4), Some(0x1403), "client 5, command 3");
        assert_eq!(u16_at(&bytes, 6), Some(0x5), "request, acknowledge");
        assert_eq!(&bytes[HEADER_BYTES..HEADER_BYTES + 9], b"\x09\0\x02\0rxe0\0");
        assert_eq!(bytes.len(), 16 + 12 + 8 + 12);
    }

    #[test]
    fn answers_of_other_requests_are_left_out_and_errors_are_positive() {
        let mut datagram = request(Command::ListDevices, 3, &[(ATTR_DEV_INDEX, &1u32.to_ne_bytes())]);
        datagram.extend(request(
            Command::ListDevices,
            4,
            &[(ATTR_DEV_INDEX, &2u32.to_ne_bytes())],
        ));
        let mut error = request(Command::ListDevices, 4, &[]);
        error[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        error.extend((-libc::EPERM).to_ne_bytes());
        error[0..4].copy_from_slice(&20u32.to_ne_bytes());
        datagram.extend(error);
        let found = answers(&datagram, 4);
        let Answer::Data(body) = found[0] else {
            panic!("no data")
        };
        assert_eq!(attribute(body, ATTR_DEV_INDEX).and_then(number), Some(2));
        assert_eq!(found[1..], [Answer::End { errno: libc::EPERM }]);
    }

    #[test]
    fn resources_are_counted_by_their_kind() {
        let entry = |name: &str, count: u64| {
            let (name, count) = (text(name), count.to_ne_bytes());
            nested(
                ATTR_RES_SUMMARY_ENTRY,
                &[
                    (ATTR_RES_SUMMARY_ENTRY_NAME, &name[..]),
                    (ATTR_RES_SUMMARY_ENTRY_CURR, &count[..]),
                ],
            )
        };
        let inner = [entry("qp", 3), entry("ctx", 2)].concat();
        let mut body = u16::try_from(inner.len() + 4).unwrap().to_ne_bytes().to_vec();
        body.extend((ATTR_RES_SUMMARY | NLA_F_NESTED).to_ne_bytes());
        body.extend(inner);
        assert_eq!(resource_count(&body, "ctx"), Some(2));
        assert_eq!(resource_count(&body, "qp"), Some(3));
        assert_eq!(resource_count(&body, "mr"), None);
    }

    #[test]
    fn malformed_answers_yield_nothing_and_do_not_panic() {
        let good = request(Command::ListDevices, 1, &[(ATTR_DEV_NAME, &text("rxe0"))]);
        let mut random = 1u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(random >> 33).unwrap() % bytes.len();
                bytes[at] = u8::try_from((random >> 20) & 0xff).unwrap();
            }
            for answer in answers(&bytes, 1) {
                if let Answer::Data(body) = answer {
                    let _ = resource_count(body, "ctx");
                    let _ = attribute(body, ATTR_DEV_NAME).map(string);
                }
            }
        }
    }
}
