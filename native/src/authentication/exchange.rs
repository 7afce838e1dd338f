//! The exchange of one queue, seen from the controller: what the host sent goes in, what it fetches next comes out.

use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::group::{EXPONENT_BYTES, Exponent};
use super::hash::{HASH_BYTES_MAX, HashValue};
use super::response::{Claim, augmented};
use super::{Credentials, Entropy};
use crate::nvme::authentication::{ControllerMessage, Explanation, HostMessage, Negotiate, Reply};

/// Who authenticates to whom.
#[derive(Debug, Clone, Copy)]
pub struct Parties<'a> {
    /// Host's NQN.
    pub host_nqn: &'a str,
    /// Subsystem's NQN.
    pub subsystem_nqn: &'a str,
}

/// What became of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host is who it says it is, and content with who we are.
    Authenticated,
    /// It is not, or is not; CamelCase, for events and counters.
    Failed(&'static str),
}

/// Nothing is there to be fetched, or it does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchError {
    /// The host has to send something first.
    OutOfOrder,
    /// The host's room is too small for it.
    TooLong,
}

/// A challenge that was made.
struct Challenge {
    transaction: u16,
    credentials: Arc<Credentials>,
    sequence: u32,
    bytes: HashValue,
    exponent: Option<Exponent>,
}

#[derive(Default)]
enum State {
    /// The host has to begin.
    #[default]
    Idle,
    /// It may fetch this challenge.
    ChallengeReady(Box<Challenge>, Vec<u8>),
    /// It has to reply.
    ReplyExpected(Box<Challenge>),
    /// It may fetch that it succeeded; then we are done, or it has to accept our response in this transaction.
    SuccessReady(Vec<u8>, Option<u16>),
    /// It has to accept our response in this transaction.
    AcceptanceExpected(u16),
    /// It may fetch that it failed.
    FailureReady(Vec<u8>),
    /// It failed and knows: nothing more is taken.
    Over,
}

/// See the module's text.
#[derive(Default)]
pub struct Exchange {
    state: State,
    outcome: Option<Outcome>,
    /// Since the host authenticated itself last.
    negotiations: u8,
}

/// Without anything secret.
impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Idle => "Idle",
            State::ChallengeReady(..) => "ChallengeReady",
            State::ReplyExpected(_) => "ReplyExpected",
            State::SuccessReady(..) => "SuccessReady",
            State::AcceptanceExpected(_) => "AcceptanceExpected",
            State::FailureReady(_) => "FailureReady",
            State::Over => "Over",
        };
        f.debug_struct("Exchange")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// A failure: what the host is told, and what is reported.
struct Failure(Explanation, &'static str);

/// Negotiations without success that a queue may begin: each costs an exponentiation, and a host needs one.
const NEGOTIATIONS_MAX: u8 = 3;

/// A host that must authenticate itself, but whose key we have not got: it is refused.
pub const KEY_UNUSABLE: &str = "AuthenticationKeyUnusable";

/// A message with wrong contents or out of order.
const PROTOCOL_ERROR: &str = "AuthenticationProtocolError";

impl From<Explanation> for Failure {
    fn from(explanation: Explanation) -> Self {
        Self(explanation, PROTOCOL_ERROR)
    }
}

impl Exchange {
    /// Takes a message of the host. A negotiation begins anew with `credentials`; without them the host fails.
    pub fn take(
        &mut self,
        message: &[u8],
        parties: Parties<'_>,
        credentials: Option<&Arc<Credentials>>,
        entropy: Entropy,
    ) {
        let state = std::mem::take(&mut self.state);
        let transaction = message.get(4..6).map_or(0, |id| u16::from_le_bytes([id[0], id[1]]));
        let next = match (state, HostMessage::parse(message)) {
            (State::Over, _) => Ok(State::Over),
            // It knows already what it failed for, or will: that comes first.
            (State::FailureReady(failure), Ok(HostMessage::Failure2 { .. })) => Ok(State::FailureReady(failure)),
            (_, Ok(HostMessage::Failure2 { .. })) => {
                self.outcome = Some(Outcome::Failed("AuthenticationRefusedByHost"));
                Ok(State::Over)
            }
            (State::FailureReady(failure), _) => Ok(State::FailureReady(failure)),
            (_, Ok(HostMessage::Negotiate(negotiate))) => {
                self.negotiations = self.negotiations.saturating_add(1);
                if self.negotiations > NEGOTIATIONS_MAX {
                    Err(Explanation::IncorrectMessage.into())
                } else {
                    challenge(&negotiate, credentials, entropy)
                }
            }
            (State::ReplyExpected(challenge), Ok(HostMessage::Reply(reply))) => verify(&challenge, &reply, parties),
            (State::AcceptanceExpected(expected), Ok(HostMessage::Success2 { transaction })) => {
                if transaction == expected {
                    self.succeed();
                    Ok(State::Idle)
                } else {
                    Err(Explanation::IncorrectPayload.into())
                }
            }
            (_, Ok(HostMessage::Reply(_) | HostMessage::Success2 { .. })) => Err(Explanation::IncorrectMessage.into()),
            (_, Err(explanation)) => Err(explanation.into()),
        };
        self.state = next.unwrap_or_else(|Failure(explanation, reason)| {
            self.outcome = Some(Outcome::Failed(reason));
            let failure = ControllerMessage::Failure1 {
                transaction,
                explanation: explanation as u8,
            };
            State::FailureReady(failure.encode())
        });
    }

    /// The host fetches what is there for it into `out`; the rest of it stays as it is.
    ///
    /// # Errors
    /// When nothing is there, or no room for it. Nothing changes then.
    pub fn fetch(&mut self, out: &mut [u8]) -> Result<(), FetchError> {
        let message = match &self.state {
            State::ChallengeReady(_, message) | State::SuccessReady(message, _) | State::FailureReady(message) => {
                message
            }
            State::Idle | State::ReplyExpected(_) | State::AcceptanceExpected(_) | State::Over => {
                return Err(FetchError::OutOfOrder);
            }
        };
        out.get_mut(..message.len())
            .ok_or(FetchError::TooLong)?
            .copy_from_slice(message);
        self.state = match std::mem::take(&mut self.state) {
            State::ChallengeReady(challenge, _) => State::ReplyExpected(challenge),
            State::SuccessReady(_, Some(transaction)) => State::AcceptanceExpected(transaction),
            State::SuccessReady(_, None) => {
                self.succeed();
                State::Idle
            }
            State::FailureReady(_) => State::Over,
            other @ (State::Idle | State::ReplyExpected(_) | State::AcceptanceExpected(_) | State::Over) => other,
        };
        Ok(())
    }

    fn succeed(&mut self) {
        self.outcome = Some(Outcome::Authenticated);
        self.negotiations = 0;
    }

    /// What became of it, once.
    pub fn take_outcome(&mut self) -> Option<Outcome> {
        self.outcome.take()
    }

    /// The host began, and did not yet hear how it ended.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// The host failed and knows it: its queue is to be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

fn challenge(
    negotiate: &Negotiate<'_>,
    credentials: Option<&Arc<Credentials>>,
    entropy: Entropy,
) -> Result<State, Failure> {
    let Some(credentials) = credentials else {
        return Err(Failure(Explanation::Failed, KEY_UNUSABLE));
    };
    if negotiate.secure_channel != 0 {
        // TLS is of TCP; RDMA has nothing to concatenate with.
        return Err(Failure(
            Explanation::ConcatenationMismatch,
            "AuthenticationSecureChannel",
        ));
    }
    let protocol = Failure(Explanation::ProtocolNotUsable, "AuthenticationProtocolNotUsable");
    let (hashes, groups) = negotiate.offer().ok_or(protocol)?;
    let Credentials { hash, group, .. } = **credentials;
    if !hashes.contains(&hash.id()) {
        return Err(Failure(Explanation::HashNotUsable, "AuthenticationHashNotUsable"));
    }
    let group_id = group.map_or(0, |group| group.id());
    if !groups.contains(&group_id) {
        return Err(Failure(Explanation::GroupNotUsable, "AuthenticationGroupNotUsable"));
    }
    let mut random = Zeroizing::new([0; HASH_BYTES_MAX + EXPONENT_BYTES + 4]);
    if !entropy(&mut random[..]) {
        return Err(Failure(Explanation::Failed, "NoRandomNumbers"));
    }
    let (nonce, rest) = random.split_at(HASH_BYTES_MAX);
    let (secret, number) = rest.split_at(EXPONENT_BYTES);
    let sequence = u32::from_le_bytes([number[0], number[1], number[2], number[3]]).max(1);
    let exponent = group.map(|_| {
        let mut exponent = Zeroizing::new([0; EXPONENT_BYTES]);
        exponent.copy_from_slice(secret);
        exponent
    });
    let public = match (group, &exponent) {
        (Some(group), Some(exponent)) => group.public(exponent),
        _ => Vec::new(),
    };
    let bytes = hash.digest(nonce);
    let message = ControllerMessage::Challenge {
        transaction: negotiate.transaction,
        hash: hash.id(),
        group: group_id,
        sequence,
        challenge: &bytes,
        public: &public,
    }
    .encode();
    let challenge = Challenge {
        transaction: negotiate.transaction,
        credentials: Arc::clone(credentials),
        sequence,
        bytes,
        exponent,
    };
    Ok(State::ChallengeReady(Box::new(challenge), message))
}

fn verify(challenge: &Challenge, reply: &Reply<'_>, parties: Parties<'_>) -> Result<State, Failure> {
    let Credentials {
        hash,
        group,
        ref host_key,
        ref controller_key,
    } = *challenge.credentials;
    if reply.transaction != challenge.transaction || reply.response.len() != hash.bytes() {
        return Err(Explanation::IncorrectPayload.into());
    }
    let secret = match (group, &challenge.exponent) {
        (Some(group), Some(exponent)) => {
            let secret = group.shared_secret(exponent, reply.public);
            Some(secret.ok_or(Explanation::IncorrectPayload)?)
        }
        _ if reply.public.is_empty() => None,
        _ => return Err(Explanation::IncorrectPayload.into()),
    };
    let bound = |value: &[u8]| match &secret {
        Some(secret) => augmented(hash, secret, value),
        None => HashValue::new(value),
    };
    let claim = |sequence| Claim {
        hash,
        sequence,
        transaction: challenge.transaction,
        host_nqn: parties.host_nqn,
        subsystem_nqn: parties.subsystem_nqn,
    };
    let expected = claim(challenge.sequence).of_host(&host_key.of_party(parties.host_nqn), &bound(&challenge.bytes));
    if !bool::from(expected.ct_eq(reply.response)) {
        return Err(Failure(Explanation::Failed, "AuthenticationWrongResponse"));
    }
    let response = match (reply.challenge, controller_key) {
        (None, _) => None,
        (Some(_), None) => return Err(Failure(Explanation::Failed, "AuthenticationNoControllerKey")),
        // Ours sent back to us: whoever does so lets us compute for it.
        (Some((theirs, _)), _) if theirs == &challenge.bytes[..] => {
            return Err(Explanation::IncorrectPayload.into());
        }
        (Some((theirs, sequence)), Some(key)) => {
            let key = key.of_party(parties.subsystem_nqn);
            Some(claim(sequence).of_controller(&key, &bound(theirs)))
        }
    };
    let message = ControllerMessage::Success1 {
        transaction: challenge.transaction,
        hash_bytes: hash.bytes() as u8,
        response: response.as_deref(),
    };
    Ok(State::SuccessReady(
        message.encode(),
        response.is_some().then_some(challenge.transaction),
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::authentication::group::Group;
    use crate::authentication::hash::Hash;
    use crate::authentication::key::Key;
    use crate::nvme::authentication::offer_descriptor;
    use proptest::prelude::*;

    pub const HOST_KEY: &str = "DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
    pub const CONTROLLER_KEY: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
    pub const PARTIES: Parties<'_> = Parties {
        host_nqn: "nqn.2026-11.dev.weir:host-a",
        subsystem_nqn: "nqn.2026-11.dev.weir:fast",
    };
    const TRANSACTION: u16 = 77;

    /// The same ones again and again: tests are deterministic.
    fn entropy(out: &mut [u8]) -> bool {
        for (index, byte) in out.iter_mut().enumerate() {
            *byte = index as u8 ^ 0x5c;
        }
        true
    }

    pub fn credentials(hash: Hash, group: Option<Group>) -> Arc<Credentials> {
        Arc::new(Credentials {
            hash,
            group,
            host_key: Key::parse(HOST_KEY).unwrap(),
            controller_key: Some(Key::parse(CONTROLLER_KEY).unwrap()),
        })
    }

    /// A host: computes by itself what it is to send and to expect.
    pub struct Host {
        key: Key,
        controller_key: Option<Key>,
        own_challenge: Vec<u8>,
        secret: Option<Vec<u8>>,
        hash: Hash,
    }

    impl Host {
        pub fn new(key: &str, controller_key: Option<&str>) -> Self {
            Self {
                key: Key::parse(key).unwrap(),
                controller_key: controller_key.map(|key| Key::parse(key).unwrap()),
                own_challenge: Vec::new(),
                secret: None,
                hash: Hash::Sha256,
            }
        }

        pub fn negotiate() -> Vec<u8> {
            let descriptor = offer_descriptor(&[1, 2, 3], &[0, 1, 2, 3, 4, 5]);
            HostMessage::Negotiate(Negotiate::new(TRANSACTION, 0, &descriptor)).encode()
        }

        fn claim(&self, sequence: u32) -> Claim<'static> {
            Claim {
                hash: self.hash,
                sequence,
                transaction: TRANSACTION,
                host_nqn: PARTIES.host_nqn,
                subsystem_nqn: PARTIES.subsystem_nqn,
            }
        }

        fn bound(&self, challenge: &[u8]) -> HashValue {
            match &self.secret {
                Some(secret) => augmented(self.hash, secret, challenge),
                None => HashValue::new(challenge),
            }
        }

        pub fn reply(&mut self, message: &[u8]) -> Vec<u8> {
            let Some(ControllerMessage::Challenge {
                hash,
                group,
                sequence,
                challenge,
                public,
                ..
            }) = ControllerMessage::parse(message)
            else {
                panic!("no challenge: {message:?}");
            };
            self.hash = Hash::of_id(hash).unwrap();
            let group = [Group::Ffdhe2048, Group::Ffdhe3072]
                .into_iter()
                .find(|known| known.id() == group);
            let mut exponent = Zeroizing::new([0; EXPONENT_BYTES]);
            exponent[40..].fill(0x21);
            self.secret = group.map(|group| group.shared_secret(&exponent, public).unwrap().to_vec());
            let own = group.map_or_else(Vec::new, |group| group.public(&exponent));
            let key = self.key.of_party(PARTIES.host_nqn);
            let response = self.claim(sequence).of_host(&key, &self.bound(challenge));
            self.own_challenge = vec![0xa5; self.hash.bytes()];
            HostMessage::Reply(Reply {
                transaction: TRANSACTION,
                response: &response,
                challenge: self.controller_key.is_some().then_some((&self.own_challenge[..], 3)),
                public: &own,
            })
            .encode()
        }

        pub fn accepts(&self, message: &[u8]) -> bool {
            let Some(ControllerMessage::Success1 { response, .. }) = ControllerMessage::parse(message) else {
                panic!("no success: {message:?}");
            };
            match (&self.controller_key, response) {
                (None, None) => true,
                (Some(key), Some(response)) => {
                    let key = key.of_party(PARTIES.subsystem_nqn);
                    let expected = self.claim(3).of_controller(&key, &self.bound(&self.own_challenge));
                    response == &expected[..]
                }
                _ => false,
            }
        }
    }

    fn fetched(exchange: &mut Exchange) -> Vec<u8> {
        let mut out = vec![0; 4096];
        exchange.fetch(&mut out).unwrap();
        out
    }

    fn take(exchange: &mut Exchange, message: &[u8], credentials: &Arc<Credentials>) {
        exchange.take(message, PARTIES, Some(credentials), entropy);
    }

    fn explanation(exchange: &mut Exchange) -> u8 {
        match ControllerMessage::parse(&fetched(exchange)) {
            Some(ControllerMessage::Failure1 { explanation, .. }) => explanation,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn a_host_with_the_key_is_authenticated_with_every_hash_and_group() {
        for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            for group in [None, Some(Group::Ffdhe2048), Some(Group::Ffdhe3072)] {
                let credentials = credentials(hash, group);
                let mut exchange = Exchange::default();
                let mut host = Host::new(HOST_KEY, None);
                take(&mut exchange, &Host::negotiate(), &credentials);
                let reply = host.reply(&fetched(&mut exchange));
                take(&mut exchange, &reply, &credentials);
                assert_eq!(exchange.take_outcome(), None);
                assert!(host.accepts(&fetched(&mut exchange)));
                assert_eq!(exchange.take_outcome(), Some(Outcome::Authenticated));
                assert_eq!(exchange.take_outcome(), None);
            }
        }
    }

    #[test]
    fn both_sides_authenticate_when_the_host_asks_for_it() {
        let credentials = credentials(Hash::Sha384, Some(Group::Ffdhe2048));
        let mut exchange = Exchange::default();
        let mut host = Host::new(HOST_KEY, Some(CONTROLLER_KEY));
        // Twice: a host may authenticate again on the same queue.
        for _ in 0..2 {
            take(&mut exchange, &Host::negotiate(), &credentials);
            let reply = host.reply(&fetched(&mut exchange));
            take(&mut exchange, &reply, &credentials);
            assert!(host.accepts(&fetched(&mut exchange)));
            assert_eq!(
                exchange.take_outcome(),
                None,
                "the host has to accept our response first"
            );
            let success2 = HostMessage::Success2 {
                transaction: TRANSACTION,
            };
            take(&mut exchange, &success2.encode(), &credentials);
            assert_eq!(exchange.take_outcome(), Some(Outcome::Authenticated));
        }
    }

    #[test]
    fn a_host_with_another_key_fails_and_its_queue_ends() {
        for group in [None, Some(Group::Ffdhe2048)] {
            let credentials = credentials(Hash::Sha256, group);
            let mut exchange = Exchange::default();
            // The same bytes, but not transformed.
            let mut host = Host::new(CONTROLLER_KEY, None);
            take(&mut exchange, &Host::negotiate(), &credentials);
            let reply = host.reply(&fetched(&mut exchange));
            take(&mut exchange, &reply, &credentials);
            assert_eq!(
                exchange.take_outcome(),
                Some(Outcome::Failed("AuthenticationWrongResponse"))
            );
            assert!(!exchange.is_over());
            // Not a second try, even with a new negotiation.
            take(&mut exchange, &Host::negotiate(), &credentials);
            assert_eq!(explanation(&mut exchange), Explanation::Failed as u8);
            assert!(exchange.is_over());
            take(&mut exchange, &Host::negotiate(), &credentials);
            assert!(exchange.is_over());
            assert_eq!(exchange.fetch(&mut [0; 4096]), Err(FetchError::OutOfOrder));
        }
    }

    #[test]
    fn a_host_that_refuses_our_response_fails() {
        let credentials = credentials(Hash::Sha256, None);
        let mut exchange = Exchange::default();
        let mut host = Host::new(HOST_KEY, Some(HOST_KEY));
        take(&mut exchange, &Host::negotiate(), &credentials);
        let reply = host.reply(&fetched(&mut exchange));
        take(&mut exchange, &reply, &credentials);
        assert!(!host.accepts(&fetched(&mut exchange)));
        let failure2 = HostMessage::Failure2 {
            transaction: TRANSACTION,
            explanation: 1,
        };
        take(&mut exchange, &failure2.encode(), &credentials);
        assert_eq!(
            exchange.take_outcome(),
            Some(Outcome::Failed("AuthenticationRefusedByHost"))
        );
        assert!(exchange.is_over());
    }

    #[test]
    fn a_host_that_wants_our_proof_gets_none_without_a_key_of_ours() {
        let mut without = Credentials::clone(&credentials(Hash::Sha256, None));
        without.controller_key = None;
        let without = Arc::new(without);
        let mut exchange = Exchange::default();
        take(&mut exchange, &Host::negotiate(), &without);
        let reply = Host::new(HOST_KEY, Some(CONTROLLER_KEY)).reply(&fetched(&mut exchange));
        take(&mut exchange, &reply, &without);
        assert_eq!(
            exchange.take_outcome(),
            Some(Outcome::Failed("AuthenticationNoControllerKey"))
        );
    }

    #[test]
    fn what_is_offered_must_hold_what_is_wanted() {
        let wanted = credentials(Hash::Sha512, Some(Group::Ffdhe2048));
        let offers: [(u8, [u8; 64], Explanation); 4] = [
            (0, offer_descriptor(&[1, 2], &[1]), Explanation::HashNotUsable),
            (0, offer_descriptor(&[3], &[0, 2]), Explanation::GroupNotUsable),
            (0, [0; 64], Explanation::ProtocolNotUsable),
            (2, offer_descriptor(&[3], &[1]), Explanation::ConcatenationMismatch),
        ];
        for (secure_channel, descriptor, expected) in offers {
            let mut exchange = Exchange::default();
            let message = HostMessage::Negotiate(Negotiate::new(1, secure_channel, &descriptor)).encode();
            take(&mut exchange, &message, &wanted);
            assert!(matches!(exchange.take_outcome(), Some(Outcome::Failed(_))));
            assert_eq!(explanation(&mut exchange), expected as u8);
        }
        let mut exchange = Exchange::default();
        exchange.take(&Host::negotiate(), PARTIES, None, entropy);
        assert_eq!(
            exchange.take_outcome(),
            Some(Outcome::Failed("AuthenticationKeyUnusable"))
        );
        let mut exchange = Exchange::default();
        exchange.take(&Host::negotiate(), PARTIES, Some(&wanted), |_| false);
        assert_eq!(exchange.take_outcome(), Some(Outcome::Failed("NoRandomNumbers")));
    }

    #[test]
    fn messages_out_of_order_or_of_another_transaction_fail() {
        let credentials = credentials(Hash::Sha256, Some(Group::Ffdhe2048));
        let success2 = HostMessage::Success2 {
            transaction: TRANSACTION,
        }
        .encode();
        let mut exchange = Exchange::default();
        take(&mut exchange, &success2, &credentials);
        assert_eq!(explanation(&mut exchange), Explanation::IncorrectMessage as u8);

        let mut exchange = Exchange::default();
        take(&mut exchange, &Host::negotiate(), &credentials);
        let reply = Host::new(HOST_KEY, None).reply(&fetched(&mut exchange));
        let changes: [(usize, u8); 4] = [
            // Transaction, hash length, length of the public value, public value 0….
            (4, 1),
            (6, 31),
            (10, 255),
            (8, 2),
        ];
        for (at, value) in changes {
            let mut exchange = Exchange::default();
            take(&mut exchange, &Host::negotiate(), &credentials);
            let _ = fetched(&mut exchange);
            let mut wrong = reply.clone();
            wrong[at] = value;
            take(&mut exchange, &wrong, &credentials);
            assert_eq!(
                exchange.take_outcome(),
                Some(Outcome::Failed(PROTOCOL_ERROR)),
                "byte {at}"
            );
        }
    }

    #[test]
    fn a_host_that_only_begins_fails_in_the_end() {
        let credentials = credentials(Hash::Sha256, None);
        let mut exchange = Exchange::default();
        for _ in 0..NEGOTIATIONS_MAX {
            take(&mut exchange, &Host::negotiate(), &credentials);
            assert_eq!(exchange.take_outcome(), None);
        }
        take(&mut exchange, &Host::negotiate(), &credentials);
        assert_eq!(exchange.take_outcome(), Some(Outcome::Failed(PROTOCOL_ERROR)));
    }

    #[test]
    fn our_own_challenge_sent_back_gets_no_response() {
        let credentials = credentials(Hash::Sha256, None);
        let mut exchange = Exchange::default();
        let mut host = Host::new(HOST_KEY, Some(CONTROLLER_KEY));
        take(&mut exchange, &Host::negotiate(), &credentials);
        let challenge = fetched(&mut exchange);
        let mut reply = host.reply(&challenge);
        reply[48..80].copy_from_slice(&challenge[16..48]);
        take(&mut exchange, &reply, &credentials);
        assert_eq!(exchange.take_outcome(), Some(Outcome::Failed(PROTOCOL_ERROR)));
    }

    #[test]
    fn without_room_for_the_message_nothing_is_lost() {
        let credentials = credentials(Hash::Sha256, None);
        let mut exchange = Exchange::default();
        assert_eq!(exchange.fetch(&mut [0; 4096]), Err(FetchError::OutOfOrder));
        take(&mut exchange, &Host::negotiate(), &credentials);
        assert_eq!(exchange.fetch(&mut [0; 47]), Err(FetchError::TooLong));
        assert_eq!(exchange.fetch(&mut [0; 48]), Ok(()));
    }

    proptest! {
        /// Whatever a host without the key sends, in any order: no panic, and never success.
        #[test]
        fn nobody_gets_in_without_the_key(
            steps in prop::collection::vec(
                (0_u8..6, prop::collection::vec(any::<u8>(), 0..400), any::<bool>()), 1..12,
            ),
        ) {
            let credentials = credentials(Hash::Sha256, None);
            let mut exchange = Exchange::default();
            let mut out = vec![0; 4096];
            for (kind, mut bytes, fetch) in steps {
                match kind {
                    0 => bytes = Host::negotiate(),
                    1 => {
                        bytes.resize(80, 0);
                        bytes[..8].copy_from_slice(&[1, 2, 0, 0, TRANSACTION as u8, 0, 32, 0]);
                        bytes[8..12].fill(0);
                    }
                    2 => bytes = HostMessage::Success2 { transaction: TRANSACTION }.encode(),
                    _ => {}
                }
                take(&mut exchange, &bytes, &credentials);
                if fetch {
                    let _ = exchange.fetch(&mut out);
                }
                prop_assert_ne!(exchange.take_outcome(), Some(Outcome::Authenticated));
            }
        }
    }
}
