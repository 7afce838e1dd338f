//! A table whose handles carry a generation: a handle to a value that is gone finds nothing, even when its slot holds
//! another value by now.

use std::ops::{Index, IndexMut};

use crate::engine::messages::Handle;
#[cfg(feature = "simulation")]
use crate::simulation::deliberate_fault::DeliberateFault;

#[derive(Debug)]
struct Slot<T> {
    /// Generation of the value that is here, or of the next one.
    generation: u32,
    value: Option<T>,
}

impl<T> Slot<T> {
    fn is_named_by(&self, handle: Handle) -> bool {
        #[cfg(feature = "simulation")]
        if DeliberateFault::StaleHandleFollowed.is_built_in() {
            return true;
        }
        self.generation == handle.generation
    }
}

/// Values in slots with generations. Inserting allocates only beyond the reserved room.
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Table<T> {
    /// Makes vacant slots so that `additional` more values fit without an allocation.
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len() + additional;
        self.free.reserve(wanted.saturating_sub(self.free.len()));
        self.slots.reserve(wanted.saturating_sub(self.slots.len()));
        while self.slots.len() < wanted {
            let slot = slot_number(self.slots.len());
            self.slots.push(Slot {
                generation: 1,
                value: None,
            });
            self.free.push(slot);
        }
    }

    /// Values in the table.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// No value is in the table.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a value in and names it.
    pub fn insert(&mut self, value: T) -> Handle {
        if self.free.is_empty() {
            self.reserve(1);
        }
        let slot = self.free.pop().expect("a slot was just reserved");
        let entry = &mut self.slots[slot as usize];
        assert!(entry.value.is_none(), "a free slot holds a value");
        entry.value = Some(value);
        Handle {
            slot,
            generation: entry.generation,
        }
    }

    /// Takes a value out; its handle is stale from now on.
    pub fn remove(&mut self, handle: Handle) -> Option<T> {
        let entry = self.slots.get_mut(handle.slot as usize)?;
        if !entry.is_named_by(handle) {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1).max(1);
        self.free.push(handle.slot);
        Some(value)
    }

    /// The value of a handle; `None` if it is stale.
    #[must_use]
    pub fn get(&self, handle: Handle) -> Option<&T> {
        let entry = self.slots.get(handle.slot as usize)?;
        if entry.is_named_by(handle) {
            entry.value.as_ref()
        } else {
            None
        }
    }

    /// The value of a handle; `None` if it is stale.
    #[must_use]
    pub fn get_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let entry = self.slots.get_mut(handle.slot as usize)?;
        if entry.is_named_by(handle) {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// Handle of the value in a slot, if there is one.
    #[must_use]
    pub fn handle(&self, slot: u32) -> Option<Handle> {
        let entry = self.slots.get(slot as usize)?;
        entry.value.as_ref()?;
        Some(Handle {
            slot,
            generation: entry.generation,
        })
    }

    /// Every slot number there is, vacant ones too: for loops that change the table.
    pub fn slots(&self) -> std::ops::Range<u32> {
        0..slot_number(self.slots.len())
    }

    /// Every value with its handle, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            let value = entry.value.as_ref()?;
            Some((
                Handle {
                    slot: slot_number(slot),
                    generation: entry.generation,
                },
                value,
            ))
        })
    }

    /// Every value, changeable, with its handle, by slot.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, entry)| {
            let generation = entry.generation;
            let value = entry.value.as_mut()?;
            Some((
                Handle {
                    slot: slot_number(slot),
                    generation,
                },
                value,
            ))
        })
    }
}

fn slot_number(slot: usize) -> u32 {
    u32::try_from(slot).expect("a table has fewer than 2^32 slots")
}

/// For owners that know the value is there; a stale handle is a broken invariant.
impl<T> Index<Handle> for Table<T> {
    type Output = T;
    fn index(&self, handle: Handle) -> &T {
        self.get(handle).expect("handle of a live value")
    }
}

impl<T> IndexMut<Handle> for Table<T> {
    fn index_mut(&mut self, handle: Handle) -> &mut T {
        self.get_mut(handle).expect("handle of a live value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_stale_once_its_value_is_gone_even_if_the_slot_is_used_again() {
        let mut table = Table::default();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(first.slot, second.slot);
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table[second], "second");
    }

    #[test]
    fn reserved_room_is_counted_as_vacant() {
        let mut table: Table<u8> = Table::default();
        table.reserve(3);
        assert!(table.is_empty());
        assert_eq!(table.slots().len(), 3);
        let handle = table.insert(7);
        assert_eq!(table.len(), 1);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(handle, &7)]);
    }
}
