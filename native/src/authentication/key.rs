//! Keys as users write them: `DHHC-1:<hash>:<base64 of key and CRC-32>:` (NVMe base 2.0 section 8.13.5.8).

use std::fmt;

use base64ct::{Base64, Encoding};
use zeroize::{Zeroize, Zeroizing};

use super::hash::Hash;

/// Appended to the NQN when a key is transformed.
const TRANSFORMATION: &[u8] = b"NVMe-over-Fabrics";
/// Bytes of the checksum after a key.
const CHECKSUM_BYTES: usize = 4;

/// Why a text is no key. None of them shows any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the format.
    #[error("is not of the form DHHC-1:00:…: (make one with nvme gen-dhchap-key)")]
    Format,
    /// Its hash identifier is none.
    #[error("names a hash other than 00, 01, 02 and 03 after DHHC-1:")]
    UnknownHash,
    /// Not base64.
    #[error("has a key that is not base64")]
    Encoding,
    /// A length that keys do not have.
    #[error("has a key of a wrong length: 32, 48 or 64 bytes, and as long as the hash that it names")]
    Length,
    /// The checksum is not that of the key.
    #[error("has a wrong checksum: it was mistyped or cut")]
    Checksum,
}

/// A secret key. Cleared when it is dropped, never shown, compared in constant time.
#[derive(Clone)]
pub struct Key {
    bytes: Zeroizing<Vec<u8>>,
    /// The key that is used is a hash of this one and a name.
    transformation: Option<Hash>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.transformation == other.transformation
            && bool::from(subtle::ConstantTimeEq::ct_eq(&self.bytes[..], &other.bytes[..]))
    }
}

impl Eq for Key {}

impl Key {
    /// Reads a key. White space around it (the line's end of a file) does not matter.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text.trim().strip_prefix("DHHC-1:").ok_or(KeyError::Format)?;
        let (hash, rest) = rest.split_once(':').ok_or(KeyError::Format)?;
        let encoded = rest.strip_suffix(':').ok_or(KeyError::Format)?;
        let transformation = match hash {
            "00" => None,
            "01" => Some(Hash::Sha256),
            "02" => Some(Hash::Sha384),
            "03" => Some(Hash::Sha512),
            _ => return Err(KeyError::UnknownHash),
        };
        let mut bytes = Zeroizing::new(Base64::decode_vec(encoded).map_err(|_| KeyError::Encoding)?);
        let length = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(KeyError::Length)?;
        let fits = transformation.is_none_or(|hash| hash.bytes() == length);
        if !matches!(length, 32 | 48 | 64) || !fits {
            return Err(KeyError::Length);
        }
        let (key, checksum) = bytes.split_at(length);
        if crc32fast::hash(key).to_le_bytes() != checksum {
            return Err(KeyError::Checksum);
        }
        bytes[length..].zeroize();
        bytes.truncate(length);
        Ok(Self { bytes, transformation })
    }

    /// The key that responses of the party with this NQN are made with.
    #[must_use]
    pub fn of_party(&self, nqn: &str) -> Zeroizing<Vec<u8>> {
        match self.transformation {
            None => self.bytes.clone(),
            Some(hash) => {
                let transformed = hash.hmac(&self.bytes, &[nqn.as_bytes(), TRANSFORMATION]);
                Zeroizing::new(transformed.to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::response::tests::hex;

    const PLAIN: &str = "DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:";
    const HOST: &str = "nqn.2026-11.dev.weir:host-a";

    /// Keys are 00 01 02 …; expected values: Python's hmac and hashlib.
    #[test]
    fn a_key_is_transformed_with_the_hash_it_names() {
        let of = |text: &str| hex(&Key::parse(text).unwrap().of_party(HOST));
        assert_eq!(of(PLAIN), hex(&(0..32).collect::<Vec<u8>>()));
        assert_eq!(
            of("DHHC-1:01:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:\n"),
            "5de1f0942e65d320ee41e2a31eb4fa0c44eac2174e9935db6515563bd2e2172a"
        );
        assert_eq!(
            of("DHHC-1:02:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vcSEgBQ==:"),
            "3f706ebe1dcbea57d91b29226b2919549e25e2c08b2e6b0904b1fd41803ee92754ad3fdcd8e612d67a0121ab62018e07"
        );
        assert_eq!(
            of(
                "DHHC-1:03:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P4zODhA=:"
            ),
            "1aedfc54ce54d8e3ecf52f510eccd21b1c91f9c1a8936804f4588218d6909c64\
             62397d89ac43e63c6562729fe922154395546db350b8e2866c671275619b1fd8"
        );
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_showing_it() {
        let wrong = [
            ("", KeyError::Format),
            ("DHHC-1:00:AAEC", KeyError::Format),
            ("DHHC-1:04:AAEC:", KeyError::UnknownHash),
            ("DHHC-1:00:A*EC:", KeyError::Encoding),
            ("DHHC-1:00:AAEC:", KeyError::Length),
            ("DHHC-1:00:AAECAwQFBgcI:", KeyError::Length),
            // A key of 32 bytes for a hash of 64.
            (
                "DHHC-1:03:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:",
                KeyError::Length,
            ),
            (
                "DHHC-1:00:ABECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:",
                KeyError::Checksum,
            ),
        ];
        for (text, error) in wrong {
            assert_eq!(Key::parse(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(format!("{:?}", Key::parse(PLAIN).unwrap()), "Key(secret)");
    }
}
