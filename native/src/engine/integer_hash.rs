//! A hasher for small integers that this process gives out itself: no host chooses the keys, so nothing has to be
//! mixed against collisions, and a look-up on the way of every I/O costs one multiplication.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{Deref, DerefMut};

type Map<K, V> = HashMap<K, V, BuildHasherDefault<IntegerHasher>>;

/// A map keyed by integers of our own. Shown in the order of its keys, so that equal maps look equal.
pub struct IntegerMap<K, V>(Map<K, V>);

impl<K, V> Default for IntegerMap<K, V> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<K, V> Deref for IntegerMap<K, V> {
    type Target = Map<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K, V> DerefMut for IntegerMap<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: Ord + fmt::Debug, V: fmt::Debug> fmt::Debug for IntegerMap<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        formatter.debug_map().entries(entries).finish()
    }
}

/// 2^64 divided by the golden ratio: spreads consecutive numbers over the high bits (Knuth, volume 3, section 6.4).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module's text.
#[derive(Debug, Default, Clone, Copy)]
pub struct IntegerHasher(u64);

impl Hasher for IntegerHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0 ^ value).wrapping_mul(MULTIPLIER);
        // The map takes its bucket from the low bits; the product's high bits are the well-mixed ones.
        self.0 = mixed ^ mixed >> 32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_shown_in_the_order_of_their_keys() {
        let mut map = IntegerMap::default();
        map.extend((0..100_u32).rev().map(|number| (number, ())));
        let sorted: std::collections::BTreeMap<u32, ()> = (0..100).map(|number| (number, ())).collect();
        assert_eq!(format!("{map:?}"), format!("{sorted:?}"));
    }

    #[test]
    fn consecutive_numbers_are_found_again_and_spread_over_the_low_bits() {
        let mut map = IntegerMap::default();
        map.extend((0..1000_u32).map(|number| (number, number + 1)));
        assert!((0..1000).all(|number| map[&number] == number + 1));
        let low_bits: std::collections::BTreeSet<_> = (0..64_u32)
            .map(|number| {
                let mut hasher = IntegerHasher::default();
                hasher.write_u32(number);
                hasher.finish() & 63
            })
            .collect();
        assert!(low_bits.len() > 32, "{} of 64 buckets", low_bits.len());
    }
}
