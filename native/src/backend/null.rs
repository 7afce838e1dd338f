//! The backing that discards writes and reads zeroes: what is left when the disk is taken away, for benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{BackingFacts, IoOperation, IoRequest};

/// Logical block size as a power of two.
const BLOCK_SHIFT: u8 = 12;

/// Discards writes, reads zeroes.
#[derive(Debug)]
pub(super) struct NullBacking {
    size_bytes: AtomicU64,
}

impl NullBacking {
    pub(super) fn new(size_bytes: u64) -> Self {
        Self {
            size_bytes: AtomicU64::new(size_bytes),
        }
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn grow(&self, size_bytes: u64) {
        self.size_bytes.fetch_max(size_bytes, Ordering::Relaxed);
    }

    pub(super) fn facts(&self) -> BackingFacts {
        BackingFacts {
            size_bytes: self.size_bytes(),
            block_shift: BLOCK_SHIFT,
            volatile: true,
            read_only: false,
            write_cache: false,
        }
    }

    /// Carries out a checked request at once.
    pub(super) fn execute(&self, request: &IoRequest) -> i32 {
        if request.operation == IoOperation::Read {
            // SAFETY: the caller of `push` lends `length` writable bytes at `memory` until completion.
            unsafe { std::ptr::write_bytes(request.memory as *mut u8, 0, request.length as usize) };
        }
        0
    }
}
