//! Finds handles by something that many may have in common: a host, a controller id.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::engine::messages::Handle;

/// Handles by key, oldest first. A key without handles is not kept.
pub struct HandleIndex<K> {
    handles: BTreeMap<K, Vec<Handle>>,
}

impl<K> Default for HandleIndex<K> {
    fn default() -> Self {
        Self {
            handles: BTreeMap::new(),
        }
    }
}

impl<K: Ord> HandleIndex<K> {
    /// Puts one in, behind the others of its key.
    pub fn insert(&mut self, key: K, handle: Handle) {
        self.handles.entry(key).or_default().push(handle);
    }

    /// Takes one out, if it is there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q, handle: Handle)
    where
        K: Borrow<Q>,
    {
        if let Some(handles) = self.handles.get_mut(key) {
            handles.retain(|other| *other != handle);
            if handles.is_empty() {
                self.handles.remove(key);
            }
        }
    }

    /// Those of a key.
    pub fn of<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = Handle> + '_
    where
        K: Borrow<Q>,
    {
        self.handles.get(key).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_found_by_key_oldest_first_and_no_empty_key_is_kept() {
        let [first, second] = [3, 1].map(|slot| Handle { slot, generation: 1 });
        let mut index = HandleIndex::<String>::default();
        index.insert("host".to_owned(), first);
        index.insert("host".to_owned(), second);
        assert_eq!(index.of("host").collect::<Vec<_>>(), [first, second]);
        assert_eq!(index.of("other").count(), 0);
        index.remove("other", first);
        index.remove("host", first);
        assert_eq!(index.of("host").collect::<Vec<_>>(), [second]);
        index.remove("host", second);
        assert!(index.handles.is_empty());
    }
}
