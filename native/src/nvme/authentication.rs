//! Messages of in-band authentication by DH-HMAC-CHAP (NVMe base 2.0 section 8.13.5), as Authentication Send and
//! Receive carry them.

use crate::nvme::bytes::{put_u16, put_u32, u16_at, u32_at};
use crate::nvme::command::{Command, CommandBuilder};
use crate::nvme::fabrics::fabrics_type;

/// Security protocol of NVMe authentication (SECP).
pub const SECURITY_PROTOCOL: u8 = 0xe9;
/// Both security-protocol-specific bytes (SPSP0, SPSP1).
const PROTOCOL_SPECIFIC: u8 = 0x01;
/// Least bytes of a message: a failure.
pub const MESSAGE_BYTES_MIN: u32 = 8;
/// Most bytes of a message that a host may send or have room for (Linux: 4096).
pub const MESSAGE_BYTES_MAX: u32 = 4096;
/// Bit 17 of a Connect's result: authenticate this queue before anything else (AUTHREQ.ATR).
pub const AUTHENTICATION_REQUIRED: u64 = 1 << 17;

const COMMON: u8 = 0x00;
const DHCHAP: u8 = 0x01;
const NEGOTIATE: u8 = 0x00;
const CHALLENGE: u8 = 0x01;
const REPLY: u8 = 0x02;
const SUCCESS1: u8 = 0x03;
const SUCCESS2: u8 = 0x04;
const FAILURE2: u8 = 0xf0;
const FAILURE1: u8 = 0xf1;
/// Bytes of one protocol descriptor of a negotiation.
const DESCRIPTOR_BYTES: usize = 64;
/// Most hash or group identifiers of a descriptor.
const IDENTIFIERS_MAX: usize = 30;
/// Bytes before the variable part of a challenge, a reply and a success.
const HEADER_BYTES: usize = 16;

/// Why an authentication fails (reason code explanation); the reason code is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explanation {
    /// A response does not fit the challenge.
    Failed = 1,
    /// The host offers no protocol that can be used.
    ProtocolNotUsable = 2,
    /// Secure channel concatenation does not fit.
    ConcatenationMismatch = 3,
    /// The host offers no hash that can be used.
    HashNotUsable = 4,
    /// The host offers no group that can be used.
    GroupNotUsable = 5,
    /// A message with wrong contents.
    IncorrectPayload = 6,
    /// A message out of order.
    IncorrectMessage = 7,
}

/// What the host offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiate<'a> {
    /// Transaction.
    pub transaction: u16,
    /// The host wants a secure channel (TLS) from it: 0 is none.
    pub secure_channel: u8,
    /// Protocol descriptors, whole ones.
    descriptors: &'a [u8],
}

impl<'a> Negotiate<'a> {
    /// Hash and group identifiers of the host's first DH-HMAC-CHAP offer.
    #[must_use]
    pub fn offer(&self) -> Option<(&'a [u8], &'a [u8])> {
        self.descriptors.chunks_exact(DESCRIPTOR_BYTES).find_map(|descriptor| {
            let (hashes, groups) = (usize::from(descriptor[2]), usize::from(descriptor[3]));
            let fits = descriptor[0] == DHCHAP && hashes <= IDENTIFIERS_MAX && groups <= IDENTIFIERS_MAX;
            fits.then(|| (&descriptor[4..4 + hashes], &descriptor[34..34 + groups]))
        })
    }
}

/// The host's answer to a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Transaction.
    pub transaction: u16,
    /// The host's response.
    pub response: &'a [u8],
    /// The host's own challenge and its sequence number, if the controller is to authenticate itself.
    pub challenge: Option<(&'a [u8], u32)>,
    /// The host's public value; empty without a group.
    pub public: &'a [u8],
}

/// A message of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMessage<'a> {
    /// It begins a transaction.
    Negotiate(Negotiate<'a>),
    /// It answers the challenge.
    Reply(Reply<'a>),
    /// It accepts the controller's response.
    Success2 {
        /// Transaction.
        transaction: u16,
    },
    /// It gives up, or refuses the controller's response.
    Failure2 {
        /// Transaction.
        transaction: u16,
        /// Its explanation, as sent.
        explanation: u8,
    },
}

impl<'a> HostMessage<'a> {
    /// Reads a message of a host.
    ///
    /// # Errors
    /// What a failure message answers it with: unknown messages and lengths that do not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Explanation> {
        if bytes.len() < MESSAGE_BYTES_MIN as usize {
            return Err(Explanation::IncorrectPayload);
        }
        let transaction = u16_at(bytes, 4);
        match (bytes[0], bytes[1]) {
            (COMMON, NEGOTIATE) => {
                let end = 8 + usize::from(bytes[7]) * DESCRIPTOR_BYTES;
                let descriptors = bytes.get(8..end).ok_or(Explanation::IncorrectPayload)?;
                Ok(Self::Negotiate(Negotiate {
                    transaction,
                    secure_channel: bytes[6],
                    descriptors,
                }))
            }
            (DHCHAP, REPLY) => Self::parse_reply(bytes, transaction).ok_or(Explanation::IncorrectPayload),
            (DHCHAP, SUCCESS2) => Ok(Self::Success2 { transaction }),
            (DHCHAP, FAILURE2) => Ok(Self::Failure2 {
                transaction,
                explanation: bytes[7],
            }),
            _ => Err(Explanation::IncorrectMessage),
        }
    }

    /// Room for the host's challenge is there even if there is none.
    fn parse_reply(bytes: &'a [u8], transaction: u16) -> Option<Self> {
        let rest = bytes.get(HEADER_BYTES..)?;
        let length = usize::from(bytes[6]);
        let (response, rest) = rest.split_at_checked(length)?;
        let (challenge, rest) = rest.split_at_checked(length)?;
        let public = rest.get(..usize::from(u16_at(bytes, 10)))?;
        let asked = match bytes[8] {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self::Reply(Reply {
            transaction,
            response,
            challenge: asked.then(|| (challenge, u32_at(bytes, 12))),
            public,
        }))
    }

    /// The message as a host sends it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Negotiate(negotiate) => {
                let mut bytes = begin(COMMON, NEGOTIATE, negotiate.transaction, 8);
                bytes[6] = negotiate.secure_channel;
                bytes[7] = (negotiate.descriptors.len() / DESCRIPTOR_BYTES) as u8;
                bytes.extend_from_slice(negotiate.descriptors);
                bytes
            }
            Self::Reply(reply) => {
                let mut bytes = begin(DHCHAP, REPLY, reply.transaction, HEADER_BYTES);
                let length = reply.response.len();
                bytes[6] = length as u8;
                bytes[8] = u8::from(reply.challenge.is_some());
                put_u16(&mut bytes, 10, reply.public.len() as u16);
                bytes.extend_from_slice(reply.response);
                match reply.challenge {
                    Some((challenge, sequence)) => {
                        put_u32(&mut bytes, 12, sequence);
                        bytes.extend_from_slice(challenge);
                    }
                    None => bytes.resize(HEADER_BYTES + 2 * length, 0),
                }
                bytes.extend_from_slice(reply.public);
                bytes
            }
            Self::Success2 { transaction } => begin(DHCHAP, SUCCESS2, transaction, HEADER_BYTES),
            Self::Failure2 {
                transaction,
                explanation,
            } => failure(FAILURE2, transaction, explanation),
        }
    }
}

/// A message of this type and transaction, with nothing else in it yet.
fn begin(kind: u8, id: u8, transaction: u16, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[0] = kind;
    bytes[1] = id;
    put_u16(&mut bytes, 4, transaction);
    bytes
}

/// Either side's failure: reason code 1 with this explanation.
fn failure(id: u8, transaction: u16, explanation: u8) -> Vec<u8> {
    let mut bytes = begin(DHCHAP, id, transaction, MESSAGE_BYTES_MIN as usize);
    bytes[6] = 1;
    bytes[7] = explanation;
    bytes
}

/// Descriptors of a negotiation: one offer of DH-HMAC-CHAP with these identifiers, at most 30 of each.
#[must_use]
pub fn offer_descriptor(hashes: &[u8], groups: &[u8]) -> [u8; DESCRIPTOR_BYTES] {
    let mut descriptor = [0; DESCRIPTOR_BYTES];
    descriptor[0] = DHCHAP;
    descriptor[2] = hashes.len() as u8;
    descriptor[3] = groups.len() as u8;
    descriptor[4..4 + hashes.len()].copy_from_slice(hashes);
    descriptor[34..34 + groups.len()].copy_from_slice(groups);
    descriptor
}

impl<'a> Negotiate<'a> {
    /// A negotiation with these descriptors (see [`offer_descriptor`]).
    #[must_use]
    pub const fn new(transaction: u16, secure_channel: u8, descriptors: &'a [u8]) -> Self {
        Self {
            transaction,
            secure_channel,
            descriptors,
        }
    }
}

/// A message of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControllerMessage<'a> {
    /// The host is to prove who it is.
    Challenge {
        /// Transaction.
        transaction: u16,
        /// Hash identifier.
        hash: u8,
        /// Group identifier; 0: none.
        group: u8,
        /// Never 0.
        sequence: u32,
        /// As long as the hash.
        challenge: &'a [u8],
        /// The controller's public value; empty without a group.
        public: &'a [u8],
    },
    /// The host proved who it is.
    Success1 {
        /// Transaction.
        transaction: u16,
        /// Bytes of the hash.
        hash_bytes: u8,
        /// The controller's response, if the host asked for one.
        response: Option<&'a [u8]>,
    },
    /// It did not.
    Failure1 {
        /// Transaction.
        transaction: u16,
        /// Explanation code.
        explanation: u8,
    },
}

impl<'a> ControllerMessage<'a> {
    /// The message as it is sent.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Challenge {
                transaction,
                hash,
                group,
                sequence,
                challenge,
                public,
            } => {
                let mut bytes = begin(DHCHAP, CHALLENGE, transaction, HEADER_BYTES);
                bytes[6] = challenge.len() as u8;
                bytes[8] = hash;
                bytes[9] = group;
                put_u16(&mut bytes, 10, public.len() as u16);
                put_u32(&mut bytes, 12, sequence);
                bytes.extend_from_slice(challenge);
                bytes.extend_from_slice(public);
                bytes
            }
            Self::Success1 {
                transaction,
                hash_bytes,
                response,
            } => {
                let mut bytes = begin(DHCHAP, SUCCESS1, transaction, HEADER_BYTES);
                bytes[6] = hash_bytes;
                bytes[8] = u8::from(response.is_some());
                bytes.extend_from_slice(response.unwrap_or_default());
                bytes
            }
            Self::Failure1 {
                transaction,
                explanation,
            } => failure(FAILURE1, transaction, explanation),
        }
    }

    /// Reads a message as a host does; `None` if it is none. Padding after it is allowed.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < MESSAGE_BYTES_MIN as usize || bytes[0] != DHCHAP {
            return None;
        }
        let transaction = u16_at(bytes, 4);
        match bytes[1] {
            CHALLENGE => {
                let (challenge, rest) = bytes.get(HEADER_BYTES..)?.split_at_checked(usize::from(bytes[6]))?;
                Some(Self::Challenge {
                    transaction,
                    hash: bytes[8],
                    group: bytes[9],
                    sequence: u32_at(bytes, 12),
                    challenge,
                    public: rest.get(..usize::from(u16_at(bytes, 10)))?,
                })
            }
            SUCCESS1 => {
                let length = usize::from(bytes[6]);
                let response = bytes.get(HEADER_BYTES..)?;
                Some(Self::Success1 {
                    transaction,
                    hash_bytes: bytes[6],
                    response: if bytes[8] == 1 {
                        Some(response.get(..length)?)
                    } else {
                        None
                    },
                })
            }
            FAILURE1 => Some(Self::Failure1 {
                transaction,
                explanation: bytes[7],
            }),
            _ => None,
        }
    }
}

/// Bytes that an Authentication Send carries, or that an Authentication Receive has room for; `None` for another
/// security protocol, and for lengths that no message has.
#[must_use]
pub fn transfer_length(command: &Command) -> Option<u32> {
    let bytes = command.as_bytes();
    let ours = bytes[43] == SECURITY_PROTOCOL && bytes[41] == PROTOCOL_SPECIFIC && bytes[42] == PROTOCOL_SPECIFIC;
    let length = u32_at(bytes, 44);
    (ours && (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&length)).then_some(length)
}

/// An Authentication Send of that many bytes, as a host builds it.
#[must_use]
pub fn build_send(command_id: u16, length: u32) -> CommandBuilder {
    build(fabrics_type::AUTHENTICATION_SEND, command_id, length)
}

/// An Authentication Receive with room for that many bytes, as a host builds it.
#[must_use]
pub fn build_receive(command_id: u16, length: u32) -> CommandBuilder {
    build(fabrics_type::AUTHENTICATION_RECEIVE, command_id, length)
}

fn build(kind: u8, command_id: u16, length: u32) -> CommandBuilder {
    CommandBuilder::fabrics(kind, command_id)
        .byte(41, PROTOCOL_SPECIFIC)
        .byte(42, PROTOCOL_SPECIFIC)
        .byte(43, SECURITY_PROTOCOL)
        .dword(11, length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_of_a_host_read_back_as_it_builds_them() {
        let descriptor = offer_descriptor(&[1, 2, 3], &[0, 1]);
        let messages = [
            HostMessage::Negotiate(Negotiate::new(7, 0, &descriptor)),
            HostMessage::Reply(Reply {
                transaction: 7,
                response: &[1; 32],
                challenge: Some((&[2; 32], 9)),
                public: &[3; 256],
            }),
            HostMessage::Reply(Reply {
                transaction: 7,
                response: &[1; 64],
                challenge: None,
                public: &[],
            }),
            HostMessage::Success2 { transaction: 7 },
            HostMessage::Failure2 {
                transaction: 7,
                explanation: 1,
            },
        ];
        for message in messages {
            assert_eq!(HostMessage::parse(&message.encode()), Ok(message));
        }
        assert_eq!(
            Negotiate::new(7, 0, &descriptor).offer(),
            Some((&[1_u8, 2, 3][..], &[0_u8, 1][..]))
        );
    }

    #[test]
    fn messages_of_the_controller_read_back() {
        let messages = [
            ControllerMessage::Challenge {
                transaction: 7,
                hash: 1,
                group: 2,
                sequence: 5,
                challenge: &[1; 32],
                public: &[4; 384],
            },
            ControllerMessage::Success1 {
                transaction: 7,
                hash_bytes: 32,
                response: Some(&[6; 32]),
            },
            ControllerMessage::Success1 {
                transaction: 7,
                hash_bytes: 32,
                response: None,
            },
            ControllerMessage::Failure1 {
                transaction: 7,
                explanation: 1,
            },
        ];
        for message in messages {
            let mut bytes = message.encode();
            bytes.resize(bytes.len() + 32, 0);
            assert_eq!(ControllerMessage::parse(&bytes), Some(message));
        }
    }

    #[test]
    fn a_message_cut_short_is_refused_at_every_length() {
        let reply = HostMessage::Reply(Reply {
            transaction: 1,
            response: &[1; 32],
            challenge: None,
            public: &[3; 256],
        });
        let negotiate = HostMessage::Negotiate(Negotiate::new(1, 0, &[1; 64]));
        for whole in [reply.encode(), negotiate.encode()] {
            for length in 0..whole.len() {
                assert_eq!(
                    HostMessage::parse(&whole[..length]),
                    Err(Explanation::IncorrectPayload),
                    "{length}"
                );
            }
        }
        assert_eq!(
            HostMessage::parse(&[1, 9, 0, 0, 0, 0, 0, 0]),
            Err(Explanation::IncorrectMessage)
        );
    }

    #[test]
    fn an_offer_with_more_identifiers_than_there_is_room_for_is_none() {
        let mut descriptor = offer_descriptor(&[1], &[1]);
        descriptor[2] = 31;
        assert_eq!(Negotiate::new(1, 0, &descriptor).offer(), None);
        let other = [offer_descriptor(&[2], &[0]).map(|_| 9), offer_descriptor(&[2], &[0])].concat();
        assert_eq!(Negotiate::new(1, 0, &other).offer(), Some((&[2_u8][..], &[0_u8][..])));
    }

    #[test]
    fn only_commands_of_our_protocol_with_a_length_that_a_message_has_are_taken() {
        assert_eq!(transfer_length(&build_send(1, 72).build()), Some(72));
        assert_eq!(transfer_length(&build_receive(1, 4096).build()), Some(4096));
        assert_eq!(transfer_length(&build_receive(1, 4097).build()), None);
        assert_eq!(transfer_length(&build_send(1, 7).build()), None);
        assert_eq!(transfer_length(&build_send(1, 72).byte(43, 0).build()), None);
    }

    proptest! {
        #[test]
        fn no_message_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..1300), kind in 0_u8..3, id in 0_u8..6) {
            let _ = HostMessage::parse(&bytes);
            let _ = ControllerMessage::parse(&bytes);
            if let [first, second, ..] = &mut bytes[..] {
                (*first, *second) = (kind, id);
            }
            if let Ok(HostMessage::Negotiate(negotiate)) = HostMessage::parse(&bytes) {
                let _ = negotiate.offer();
            }
            let _ = ControllerMessage::parse(&bytes);
        }
    }
}
