//! In-band authentication by DH-HMAC-CHAP (NVMe base 2.0 section 8.13.5), the controller's side: keys, the hash and
//! Diffie-Hellman computations, and the exchange of one queue. Pure but for random numbers, which the caller's
//! [`Entropy`] gives.

pub mod exchange;
pub mod group;
pub mod hash;
pub mod key;
mod moduli;
pub mod response;

use std::fmt;
use std::sync::Arc;

use group::Group;
use hash::Hash;
use key::Key;

/// Fills all of a buffer with random bytes that nobody can guess; `false` if there are none to be had.
pub type Entropy = fn(&mut [u8]) -> bool;

/// The system's random numbers. Does not block once the system is up.
#[must_use]
pub fn system_entropy(out: &mut [u8]) -> bool {
    let mut rest = out;
    while !rest.is_empty() {
        match rustix::rand::getrandom(&mut *rest, rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => rest = &mut rest[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// What a host must show, and what we show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Hash of challenges and responses.
    pub hash: Hash,
    /// Group of the Diffie-Hellman exchange, if there is one.
    pub group: Option<Group>,
    /// The host's key.
    pub host_key: Key,
    /// Our own, to prove who we are to a host that asks.
    pub controller_key: Option<Key>,
}

/// Without the keys.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("hash", &self.hash).field("group", &self.group);
        shown.finish_non_exhaustive()
    }
}

/// Whether a host must authenticate itself, and whether it can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// It must, with these.
    Credentials(Arc<Credentials>),
    /// It must, but we have no key that can be used: it is refused.
    NoUsableKey,
}
