//! The queues of one association.

use crate::nvme::private_data::ADMIN_QUEUE_ENTRIES_MAX;

/// Most I/O queues of a controller that the desired state may ask for.
pub const IO_QUEUES_MAX: u16 = 128;

const _: () = assert!(
    ADMIN_QUEUE_ENTRIES_MAX >= 32,
    "Linux connects an admin queue of 32 entries"
);

/// A set of queue ids, 0 to [`IO_QUEUES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueIds([u64; 3]);

impl QueueIds {
    pub(super) fn insert(&mut self, queue_id: u16) {
        self.0[usize::from(queue_id / 64)] |= 1 << (queue_id % 64);
    }

    pub(super) fn remove(&mut self, queue_id: u16) {
        self.0[usize::from(queue_id / 64)] &= !(1 << (queue_id % 64));
    }

    /// Whether the id is in the set.
    #[must_use]
    pub fn contains(&self, queue_id: u16) -> bool {
        self.0
            .get(usize::from(queue_id / 64))
            .is_some_and(|word| word & (1 << (queue_id % 64)) != 0)
    }

    /// Ids in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Iterator for QueueIds {
    type Item = u16;

    /// Takes the lowest id out of the set.
    fn next(&mut self) -> Option<u16> {
        let word = self.0.iter().position(|word| *word != 0)?;
        let bit = self.0[word].trailing_zeros();
        let queue_id = (word as u32 * 64 + bit) as u16;
        self.remove(queue_id);
        Some(queue_id)
    }
}

/// Which queues are connected, and how.
#[derive(Debug, Default)]
pub(super) struct Queues {
    connected: QueueIds,
    without_flow_control: QueueIds,
    to_close: QueueIds,
}

impl Queues {
    /// Connects a queue. The id is at most [`IO_QUEUES_MAX`] and not connected.
    pub(super) fn connect(&mut self, queue_id: u16, flow_control_disabled: bool) {
        self.connected.insert(queue_id);
        self.to_close.remove(queue_id);
        if flow_control_disabled {
            self.without_flow_control.insert(queue_id);
        } else {
            self.without_flow_control.remove(queue_id);
        }
    }

    pub(super) fn close(&mut self, queue_id: u16) {
        if queue_id <= IO_QUEUES_MAX {
            self.connected.remove(queue_id);
            self.to_close.remove(queue_id);
        }
    }

    pub(super) fn is_connected(&self, queue_id: u16) -> bool {
        self.connected.contains(queue_id)
    }

    pub(super) fn io_connected(&self) -> bool {
        let mut io = self.connected;
        io.remove(0);
        !io.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.connected.len()
    }

    pub(super) fn flow_control_disabled(&self, queue_id: u16) -> bool {
        self.without_flow_control.contains(queue_id)
    }

    /// Marks all I/O queues for closing.
    pub(super) fn close_all_io(&mut self) {
        self.to_close = self.connected;
        self.to_close.remove(0);
    }

    pub(super) fn take_to_close(&mut self) -> QueueIds {
        std::mem::take(&mut self.to_close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_out_once_in_ascending_order() {
        let mut queues = Queues::default();
        for id in [0, 1, 63, 64, 128] {
            queues.connect(id, id == 64);
        }
        assert_eq!(queues.count(), 5);
        assert!(queues.flow_control_disabled(64) && !queues.flow_control_disabled(1));
        queues.close_all_io();
        queues.close(63);
        queues.close(u16::MAX);
        assert_eq!(queues.take_to_close().collect::<Vec<_>>(), [1, 64, 128]);
        assert!(queues.take_to_close().is_empty());
        assert!(!queues.is_connected(u16::MAX));
    }
}
