//! A global allocator that counts, so that "the way of an I/O allocates nothing" is a test and not a claim.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Install with `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator;

// SAFETY: everything is handed to the system's allocator; counting touches thread-locals that need no allocation and no
// destructor.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn count() {
    if COUNTING.get() {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

/// Counts the allocations and releases of `action` on this thread; the number is added to the total.
pub fn counted<R>(action: impl FnOnce() -> R) -> R {
    let before = COUNTING.replace(true);
    let result = action();
    COUNTING.set(before);
    result
}

/// Does not count those of `action`, inside of [`counted`].
pub fn uncounted<R>(action: impl FnOnce() -> R) -> R {
    let before = COUNTING.replace(false);
    let result = action();
    COUNTING.set(before);
    result
}

/// Allocations and releases counted on this thread so far.
pub fn total() -> u64 {
    ALLOCATIONS.get()
}
