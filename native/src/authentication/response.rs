//! What proves the possession of a key (NVMe base 2.0 section 8.13.5.4).

use super::hash::{Hash, HashValue};

/// Who proves something to whom, and in which transaction.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Hash that was agreed on.
    pub hash: Hash,
    /// Sequence number of the challenge.
    pub sequence: u32,
    /// Transaction.
    pub transaction: u16,
    /// Host's NQN.
    pub host_nqn: &'a str,
    /// Subsystem's NQN.
    pub subsystem_nqn: &'a str,
}

impl Claim<'_> {
    /// The host's response. `key`: see [`super::key::Key::of_party`], of the host.
    #[must_use]
    pub fn of_host(&self, key: &[u8], challenge: &[u8]) -> HashValue {
        self.response(key, challenge, "HostHost", self.host_nqn, self.subsystem_nqn)
    }

    /// The controller's response. `key`: see [`super::key::Key::of_party`], of the subsystem.
    #[must_use]
    pub fn of_controller(&self, key: &[u8], challenge: &[u8]) -> HashValue {
        self.response(key, challenge, "Controller", self.subsystem_nqn, self.host_nqn)
    }

    fn response(&self, key: &[u8], challenge: &[u8], role: &str, own: &str, other: &str) -> HashValue {
        let parts: [&[u8]; 8] = [
            challenge,
            &self.sequence.to_le_bytes(),
            &self.transaction.to_le_bytes(),
            // No secure channel.
            &[0],
            role.as_bytes(),
            own.as_bytes(),
            &[0],
            other.as_bytes(),
        ];
        self.hash.hmac(key, &parts)
    }
}

/// The challenge that is answered when a secret was agreed on: both are bound together.
#[must_use]
pub fn augmented(hash: Hash, secret: &[u8], challenge: &[u8]) -> HashValue {
    let key = hash.digest(secret);
    hash.hmac(&key, &[challenge])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::authentication::key::Key;

    pub fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const CLAIM: Claim<'_> = Claim {
        hash: Hash::Sha256,
        sequence: 0x0102_0304,
        transaction: 0x0506,
        host_nqn: "nqn.2026-11.dev.weir:host-a",
        subsystem_nqn: "nqn.2026-11.dev.weir:fast",
    };

    /// Expected values: Python's hmac and hashlib.
    #[test]
    fn responses_are_those_that_others_compute() {
        let key = Key::parse("DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:").unwrap();
        let of_host = CLAIM.of_host(&key.of_party(CLAIM.host_nqn), &[0xc1; 32]);
        assert_eq!(
            hex(&of_host),
            "20694f1bdb576af14780b2de47b56ec542fd5e93789e0c773e03a810be1da3f7"
        );
        let of_controller = CLAIM.of_controller(&key.of_party(CLAIM.subsystem_nqn), &[0xc1; 32]);
        assert_eq!(
            hex(&of_controller),
            "8700a65a6969325689be29411b9e5cdb7bb5df26ecf0c825e0d08e5c3a43d9ab"
        );
        assert_eq!(
            hex(&augmented(Hash::Sha256, &[0x77; 256], &[0xc1; 32])),
            "c0bbd0c49a99b42ee61c22e396cbd29db2d006c253b12a083666ed8869f8779c"
        );
    }
}
