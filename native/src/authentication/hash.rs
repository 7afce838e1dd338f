//! Hash functions of DH-HMAC-CHAP.

use std::ops::Deref;

use arrayvec::ArrayVec;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use zeroize::Zeroize;

/// Bytes of the longest hash.
pub const HASH_BYTES_MAX: usize = 64;

/// A hash value, cleared when it is dropped.
#[derive(Debug)]
pub struct HashValue(ArrayVec<u8, HASH_BYTES_MAX>);

impl HashValue {
    /// A value of these bytes, at most [`HASH_BYTES_MAX`].
    ///
    /// # Panics
    /// When there are more.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.iter().copied().collect())
    }
}

impl Deref for HashValue {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for HashValue {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Identifier on the wire and in keys.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha384 => 2,
            Self::Sha512 => 3,
        }
    }

    /// The hash with this identifier.
    #[must_use]
    pub const fn of_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Sha256),
            2 => Some(Self::Sha384),
            3 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Bytes of a value.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Hash of some bytes.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> HashValue {
        match self {
            Self::Sha256 => HashValue::new(&Sha256::digest(data)),
            Self::Sha384 => HashValue::new(&Sha384::digest(data)),
            Self::Sha512 => HashValue::new(&Sha512::digest(data)),
        }
    }

    /// HMAC of the parts, one after another.
    #[must_use]
    pub fn hmac(self, key: &[u8], parts: &[&[u8]]) -> HashValue {
        match self {
            Self::Sha256 => mac::<Hmac<Sha256>>(key, parts),
            Self::Sha384 => mac::<Hmac<Sha384>>(key, parts),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, parts),
        }
    }
}

fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> HashValue {
    let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    HashValue::new(&mac.finalize().into_bytes())
}
