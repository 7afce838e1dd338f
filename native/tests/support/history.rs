//! What each block may hold, from the host's point of view: the judge of "no acknowledged write is lost, no ghost write".
//!
//! A host has at most one write to a block in flight. Then the block holds the last acknowledged value, or the value of a
//! write whose outcome the host never learned since. Reading such a block decides which, for good: a later change back, or
//! an older write that lands after a newer acknowledged one, is a violation.

use std::collections::BTreeSet;

/// Content of a block, as one number: 0 for zeroes.
pub type Value = u64;

#[derive(Debug, Clone)]
struct Block {
    possible: BTreeSet<Value>,
    in_flight: Option<Value>,
    /// The last write, if it was acknowledged.
    acknowledged: Option<Value>,
    /// Counts writes begun, so that a read knows whether one ran beside it.
    writes: u64,
}

/// Blocks of one host.
#[derive(Debug, Clone)]
pub struct History {
    blocks: Vec<Block>,
}

/// A read in flight: what it may see is decided when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    writes: u64,
    beside_a_write: bool,
}

impl History {
    /// Blocks that hold zeroes.
    pub fn new(blocks: usize) -> Self {
        let block = Block {
            possible: BTreeSet::from([0]),
            in_flight: None,
            acknowledged: None,
            writes: 0,
        };
        Self {
            blocks: vec![block; blocks],
        }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a write of the block is in flight.
    pub fn is_busy(&self, block: usize) -> bool {
        self.blocks[block].in_flight.is_some()
    }

    /// A write is sent.
    pub fn write_begins(&mut self, block: usize, value: Value) {
        let block = &mut self.blocks[block];
        assert!(block.in_flight.is_none(), "the host writes a block once at a time");
        block.in_flight = Some(value);
        block.acknowledged = None;
        block.writes += 1;
    }

    /// The write was acknowledged: the block holds nothing else from now on.
    pub fn write_succeeds(&mut self, block: usize) {
        let block = &mut self.blocks[block];
        let value = block.in_flight.take().expect("a write is in flight");
        block.possible = BTreeSet::from([value]);
        block.acknowledged = Some(value);
    }

    /// The write failed, or its association died: the block holds old or new.
    pub fn write_is_uncertain(&mut self, block: usize) {
        let block = &mut self.blocks[block];
        let value = block.in_flight.take().expect("a write is in flight");
        block.possible.insert(value);
    }

    /// The value of the last write, if that was acknowledged: what a durable write must have left on stable storage.
    pub fn acknowledged(&self, block: usize) -> Option<Value> {
        self.blocks[block].acknowledged
    }

    /// A read is sent.
    pub fn read_begins(&self, block: usize) -> ReadMark {
        let block = &self.blocks[block];
        ReadMark {
            writes: block.writes,
            beside_a_write: block.in_flight.is_some(),
        }
    }

    /// Whether no write of the block ran since this mark was made.
    pub fn is_unchanged(&self, block: usize, mark: ReadMark) -> bool {
        !mark.beside_a_write && self.blocks[block].writes == mark.writes
    }

    /// A read brought `value`.
    ///
    /// # Errors
    /// What was expected, when the block cannot hold it.
    pub fn read_ends(&mut self, block: usize, mark: ReadMark, value: Value) -> Result<(), String> {
        let index = block;
        let block = &mut self.blocks[block];
        let beside_a_write = mark.beside_a_write || block.writes != mark.writes;
        if beside_a_write {
            // What a write beside it leaves is not decided here; the reads that follow judge it.
            return Ok(());
        }
        if !block.possible.contains(&value) {
            return Err(format!(
                "block {index} holds {value:#x}, but only {:x?} is possible",
                block.possible
            ));
        }
        block.possible = BTreeSet::from([value]);
        Ok(())
    }

    /// Whether the block may hold `value` when nothing is in flight.
    pub fn allows(&self, block: usize, value: Value) -> bool {
        self.blocks[block].possible.contains(&value)
    }

    /// What the block may hold, in words.
    pub fn expectation(&self, block: usize) -> String {
        format!("{:x?}", self.blocks[block].possible)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(history: &mut History, value: Value) -> Result<(), String> {
        let mark = history.read_begins(0);
        history.read_ends(0, mark, value)
    }

    #[test]
    fn a_lost_acknowledged_write_is_found() {
        let mut history = History::new(1);
        history.write_begins(0, 1);
        history.write_succeeds(0);
        assert!(read(&mut history, 1).is_ok());
        assert!(read(&mut history, 0).is_err());
    }

    #[test]
    fn an_uncertain_write_is_old_or_new_but_not_both_in_turn() {
        let mut history = History::new(1);
        history.write_begins(0, 1);
        history.write_succeeds(0);
        history.write_begins(0, 2);
        history.write_is_uncertain(0);
        assert!(read(&mut history.clone(), 1).is_ok());
        assert!(read(&mut history, 2).is_ok());
        assert!(read(&mut history, 1).is_err());
    }

    #[test]
    fn a_ghost_write_is_found() {
        let mut history = History::new(1);
        history.write_begins(0, 1);
        history.write_is_uncertain(0);
        history.write_begins(0, 2);
        history.write_succeeds(0);
        assert!(read(&mut history, 1).is_err());
    }

    #[test]
    fn a_read_beside_a_write_decides_nothing() {
        let mut history = History::new(1);
        let before = history.read_begins(0);
        history.write_begins(0, 1);
        assert!(history.read_ends(0, before, 1).is_ok());
        history.write_is_uncertain(0);
        assert!(read(&mut history, 0).is_ok());
    }
}
