//! Diffie-Hellman in the groups of RFC 7919. Exponents are secret: everything is computed in constant time.

use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use zeroize::Zeroizing;

use super::moduli;

/// A finite field group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// ffdhe2048.
    Ffdhe2048,
    /// ffdhe3072.
    Ffdhe3072,
    /// ffdhe4096.
    Ffdhe4096,
    /// ffdhe6144.
    Ffdhe6144,
    /// ffdhe8192.
    Ffdhe8192,
}

/// Bits of private exponents. RFC 7919 asks for at least 225 (2048 bits) to 400 (8192 bits) in safe-prime groups,
/// where short exponents lose nothing; the time of an exponentiation is proportional to them.
const EXPONENT_BITS: u32 = 512;
/// Bytes of private exponents.
pub const EXPONENT_BYTES: usize = EXPONENT_BITS as usize / 8;

/// A private exponent.
pub type Exponent = Zeroizing<[u8; EXPONENT_BYTES]>;

impl Group {
    /// Identifier on the wire.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Ffdhe2048 => 1,
            Self::Ffdhe3072 => 2,
            Self::Ffdhe4096 => 3,
            Self::Ffdhe6144 => 4,
            Self::Ffdhe8192 => 5,
        }
    }

    /// Bytes of public values and of the shared secret.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Ffdhe2048 => 256,
            Self::Ffdhe3072 => 384,
            Self::Ffdhe4096 => 512,
            Self::Ffdhe6144 => 768,
            Self::Ffdhe8192 => 1024,
        }
    }

    fn modulus(self) -> Odd<BoxedUint> {
        let digits = match self {
            Self::Ffdhe2048 => moduli::FFDHE2048,
            Self::Ffdhe3072 => moduli::FFDHE3072,
            Self::Ffdhe4096 => moduli::FFDHE4096,
            Self::Ffdhe6144 => moduli::FFDHE6144,
            Self::Ffdhe8192 => moduli::FFDHE8192,
        };
        let bits = u32::try_from(self.bytes() * 8).expect("at most 8192");
        let modulus = BoxedUint::from_be_hex(digits, bits).expect("the constant is hexadecimal and as long as it says");
        modulus.to_odd().expect("a modulus is odd")
    }

    /// The public value of a private exponent, big endian, [`Group::bytes`] long.
    #[must_use]
    pub fn public(self, exponent: &Exponent) -> Vec<u8> {
        let bits = u32::try_from(self.bytes() * 8).expect("at most 8192");
        let generator = BoxedUint::from_be_slice(&[2], bits).expect("fits");
        self.power(generator, &self.modulus(), exponent).to_vec()
    }

    /// The secret shared with whoever has this public value. `None` for a value that is none: of another length, or
    /// outside of 2 … p − 2, for which the secret could be guessed.
    #[must_use]
    pub fn shared_secret(self, exponent: &Exponent, public: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        if public.len() != self.bytes() {
            return None;
        }
        let modulus = self.modulus();
        let value = BoxedUint::from_be_slice(public, u32::try_from(public.len() * 8).ok()?).ok()?;
        let one = BoxedUint::one_with_precision(value.bits_precision());
        let highest = modulus.as_ref().wrapping_sub(&one);
        (value > one && value < highest).then(|| self.power(value, &modulus, exponent))
    }

    /// What an exchange costs: two of these, on the poller's own thread, whose other queues wait meanwhile. One takes
    /// 1.6 ms (ffdhe2048), 3.4 ms (3072), 6.0 ms (4096), 13 ms (6144), 24 ms (8192), the shortest of 50 in a release
    /// build on a virtual AMD EPYC; see the test `cost_of_an_exponentiation`.
    fn power(self, base: BoxedUint, modulus: &Odd<BoxedUint>, exponent: &Exponent) -> Zeroizing<Vec<u8>> {
        let parameters = BoxedMontyParams::new(modulus.clone());
        let exponent = Zeroizing::new(BoxedUint::from_be_slice(&exponent[..], EXPONENT_BITS).expect("fits"));
        let power = BoxedMontyForm::new(base, parameters).pow_bounded_exp(&exponent, EXPONENT_BITS);
        let power = Zeroizing::new(power.retrieve());
        Zeroizing::new(power.to_be_bytes().into_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::hash::Hash;
    use crate::authentication::response::tests::hex;

    const ALL: [Group; 5] = [
        Group::Ffdhe2048,
        Group::Ffdhe3072,
        Group::Ffdhe4096,
        Group::Ffdhe6144,
        Group::Ffdhe8192,
    ];

    /// 28 bytes of one value.
    fn exponent(byte: u8) -> Exponent {
        let mut bytes = Zeroizing::new([0; EXPONENT_BYTES]);
        bytes[EXPONENT_BYTES - 28..].fill(byte);
        bytes
    }

    /// SHA-256 of the public value of 5a5a…, and of the secret it shares with 3333…: computed with Python's integers, with
    /// moduli that keys made by OpenSSL agree with.
    const EXPECTED: [(&str, &str); 5] = [
        (
            "951dacdd8dac0614a16ef26a6327a5b047e57ac9c2fabb417641e751a2afc721",
            "796a75f865e595ca2288dfa2c0902a6a9db1bfff7eee24edff54b18c8ef7fc56",
        ),
        (
            "f1c24d46fda8a8293519e164ffe15f605b4e422b7d7272c68f343256375a3db8",
            "f8420a4566d4a017611158a5f8c795bbd44cffb2da57d965b25f66ac89b03318",
        ),
        (
            "af9ff7051b2e7db871589f1a86239bf367081f92f30dd75489c218bfd090928b",
            "df15211beed0a224dea55c1584ffb33329f92fa4b7907110033c048e7b027aa6",
        ),
        (
            "1af4d0345c5847ca49f6484e97f667a08dde9bd3d43c155bc76a157883265c32",
            "201f3d0e371d85723403a42f0b21a7205ddad3482d896d7336294ec619fc9f4d",
        ),
        (
            "97e170475ef96ee3e857300afc332190948e0db8c47bfe2fef7e39ca9599277a",
            "35cdb6d7fa11481fab58003f6ba320cdc66adb1cf95156efcacc86f5b651e196",
        ),
    ];

    #[test]
    fn every_group_computes_what_others_compute() {
        for (group, (public, secret)) in ALL.into_iter().zip(EXPECTED) {
            let digest = |bytes: &[u8]| hex(&Hash::Sha256.digest(bytes));
            assert_eq!(digest(&group.public(&exponent(0x5a))), public, "{group:?}");
            let shared = group.shared_secret(&exponent(0x5a), &group.public(&exponent(0x33)));
            assert_eq!(digest(&shared.unwrap()), secret, "{group:?}");
        }
    }

    #[test]
    fn public_values_with_a_secret_that_can_be_guessed_are_refused() {
        let group = Group::Ffdhe2048;
        let refused = |value: &[u8]| group.shared_secret(&exponent(0x5a), value).is_none();
        let mut value = vec![0; 256];
        assert!(refused(&value));
        value[255] = 1;
        assert!(refused(&value));
        value[255] = 2;
        assert!(!refused(&value));
        assert!(refused(&value[1..]));
        let mut modulus = group.modulus().as_ref().to_be_bytes().into_vec();
        assert!(refused(&modulus));
        modulus[255] -= 1;
        assert!(refused(&modulus));
        modulus[255] -= 1;
        assert!(!refused(&modulus));
        assert!(refused(&[0xff; 256]));
    }

    /// Not a check: prints what [`Group`] says an exponentiation costs.
    /// `cargo test --release --lib cost_of_an_exponentiation -- --ignored --nocapture`
    #[test]
    #[ignore = "a measurement"]
    fn cost_of_an_exponentiation() {
        for group in ALL {
            let shortest = |compute: &dyn Fn()| {
                let times = (0..50).map(|_| {
                    let start = std::time::Instant::now();
                    compute();
                    start.elapsed()
                });
                times.min().unwrap()
            };
            let theirs = group.public(&exponent(0x33));
            let public = shortest(&|| drop(std::hint::black_box(group.public(&exponent(0x5a)))));
            let secret = shortest(&|| drop(std::hint::black_box(group.shared_secret(&exponent(0x5a), &theirs))));
            println!("{group:?}: public value {public:?}, shared secret {secret:?}");
        }
    }
}
