//! Bytes on their way to the engine.

use std::fmt;
use std::ops::Deref;

/// A command capsule of a host.
pub(super) struct Capsule(Vec<u8>);

impl Capsule {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Deref for Capsule {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// In words of 16 bytes, each as a hexadecimal number in the order of memory, repetitions as their number: a block of data
/// is one word again and again.
impl fmt::Debug for Capsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        let mut words = self.0.chunks(16).peekable();
        while let Some(word) = words.next() {
            let mut count = 1;
            while words.next_if_eq(&word).is_some() {
                count += 1;
            }
            let mut padded = [0; 16];
            padded[..word.len()].copy_from_slice(word);
            write!(f, " {:x}", u128::from_be_bytes(padded))?;
            if count > 1 {
                write!(f, "*{count}")?;
            }
        }
        f.write_str(" \"")
    }
}
