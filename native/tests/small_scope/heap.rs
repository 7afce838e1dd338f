//! A heap of its own for what is explored, which can be saved and put back: the engine cannot be cloned, but every byte it
//! consists of can be copied.
//!
//! What runs inside of [`Held::run`] allocates from a region of addresses that belongs to its [`Held`]; everybody else
//! from the system. Saving is copying the pages that changed since the last time, putting back is copying them where they
//! were: all pointers stay right, as nothing moves. The allocator's own lists are in the region and go with it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Addresses of one heap. Only what is used becomes memory.
const HEAP_BYTES: usize = 64 << 20;
/// Heaps of a process: each worker of each scope has one, and none is ever given back.
const HEAPS_MAX: usize = 256;
/// What is compared, copied and shared between snapshots in one piece.
const PAGE_BYTES: usize = 4096;
/// Blocks are powers of two, from this size on.
const SMALLEST_BLOCK: usize = 16;
/// Sizes of blocks: up to 8 MiB.
const SIZES: usize = 20;

/// Where all heaps are; 0 before there is one.
static REGION: AtomicUsize = AtomicUsize::new(0);
static HEAPS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The heap that this thread allocates from; null is the system's.
    static CURRENT: Cell<*mut Header> = const { Cell::new(ptr::null_mut()) };
}

/// What stands at the beginning of a heap.
struct Header {
    /// Bytes in use, this included.
    used: usize,
    /// Free blocks of each size; each holds the address of the next.
    free: [*mut u8; SIZES],
}

impl Header {
    fn size_index(layout: Layout) -> usize {
        let size = layout.size().max(layout.align()).max(SMALLEST_BLOCK);
        (size.next_power_of_two() / SMALLEST_BLOCK).ilog2() as usize
    }

    /// A block, or null when there is no more room.
    fn take(&mut self, layout: Layout) -> *mut u8 {
        let index = Self::size_index(layout);
        if index >= SIZES || layout.align() > PAGE_BYTES {
            return ptr::null_mut();
        }
        let block = self.free[index];
        if !block.is_null() {
            // SAFETY: a free block is at least as large as an address, aligned for it, and holds that of the next one.
            self.free[index] = unsafe { block.cast::<*mut u8>().read() };
            return block;
        }
        let bytes = SMALLEST_BLOCK << index;
        let start = self.used.next_multiple_of(bytes.min(PAGE_BYTES));
        if start + bytes > HEAP_BYTES {
            return ptr::null_mut();
        }
        self.used = start + bytes;
        // SAFETY: the heap begins where its header does and has HEAP_BYTES.
        unsafe { ptr::from_mut(self).cast::<u8>().add(start) }
    }

    fn give_back(&mut self, block: *mut u8, layout: Layout) {
        let index = Self::size_index(layout);
        // SAFETY: the block was taken with this layout, so it has room for an address, and nobody uses it any more.
        unsafe { block.cast::<*mut u8>().write(self.free[index]) };
        self.free[index] = block;
    }
}

/// Install with `#[global_allocator]`.
#[derive(Debug)]
pub struct Allocator;

/// The heap that an address is in.
fn heap_of(block: *mut u8) -> Option<NonNull<Header>> {
    let region = REGION.load(Ordering::Relaxed);
    let offset = (block as usize).checked_sub(region)?;
    let within = region != 0 && offset < HEAPS_MAX * HEAP_BYTES;
    within.then(|| NonNull::new((region + offset / HEAP_BYTES * HEAP_BYTES) as *mut Header))?
}

// SAFETY: blocks of a heap are as large and aligned as asked for (see `Header::take`) and are given back to the heap they
// are from, which their address tells; a heap is used by the one thread that has its `Held`. All others are the system's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match NonNull::new(CURRENT.get()) {
            // SAFETY: `Held::run` set it to the header of its heap, which only this thread uses.
            Some(mut heap) => unsafe { heap.as_mut() }.take(layout),
            // SAFETY: the caller's promise, passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match heap_of(block) {
            // SAFETY: as in `alloc`; what a heap holds is not `Send` to other threads, see `Held`.
            Some(mut heap) => unsafe { heap.as_mut() }.give_back(block, layout),
            // SAFETY: the caller's promise, passed on.
            None => unsafe { System.dealloc(block, layout) },
        }
    }
}

fn region() -> usize {
    static RESERVED: OnceLock<usize> = OnceLock::new();
    *RESERVED.get_or_init(|| {
        // SAFETY: an anonymous private mapping with no address wish has no preconditions.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                HEAPS_MAX * HEAP_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(base != libc::MAP_FAILED, "no addresses for {HEAPS_MAX} heaps");
        REGION.store(base as usize, Ordering::Relaxed);
        base as usize
    })
}

/// This thread allocates from the system again when it goes.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        // What the engine noted for the thread was allocated inside, and does not stay.
        drop(weir_core::simulation::coverage::take());
        CURRENT.set(ptr::null_mut());
    }
}

fn inside<R>(heap: NonNull<Header>, action: impl FnOnce() -> R) -> R {
    CURRENT.set(heap.as_ptr());
    let _inside = Inside;
    action()
}

type Page = [u8; PAGE_BYTES];

/// What a heap holds at some moment. Pages that did not change are shared with other snapshots.
#[derive(Clone)]
pub struct Snapshot(Rc<[Rc<Page>]>);

/// A value that lives, with everything it owns, in a heap of its own. It is never dropped.
pub struct Held<T> {
    heap: NonNull<Header>,
    value: NonNull<T>,
    /// The pages when the heap was last saved or put back.
    last: Vec<Rc<Page>>,
}

impl<T> Held<T> {
    /// What `build` makes, with all that it allocates on the way.
    pub fn new(build: impl FnOnce() -> T) -> Self {
        let number = HEAPS.fetch_add(1, Ordering::Relaxed);
        assert!(number < HEAPS_MAX, "more than {HEAPS_MAX} heaps");
        let heap = NonNull::new((region() + number * HEAP_BYTES) as *mut Header).expect("the region is not at 0");
        let empty = Header {
            used: size_of::<Header>(),
            free: [ptr::null_mut(); SIZES],
        };
        // SAFETY: the start of a part of the region that nobody has had before, mapped, aligned to pages.
        unsafe { heap.write(empty) };
        let value = inside(heap, || NonNull::from(Box::leak(Box::new(build()))));
        Self {
            heap,
            value,
            last: Vec::new(),
        }
    }

    /// Lets the value do something. What comes out owns nothing, for what it owned would be in the heap; nor may `action`
    /// let anything outside of the value grow.
    pub fn run<R: Copy>(&mut self, action: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.value;
        // SAFETY: the value is in the heap, which nobody else has; the borrow ends with the call, and before the heap is
        // put back, as that needs `self`, too.
        inside(self.heap, || action(unsafe { value.as_mut() }))
    }

    /// Looks at the value. What that allocates is the system's.
    pub fn look<R>(&self, action: impl FnOnce(&T) -> R) -> R {
        // SAFETY: as in `run`.
        action(unsafe { self.value.as_ref() })
    }

    /// Pages in use now.
    fn pages(&self) -> &[Page] {
        // SAFETY: the header is there since `new`.
        let used = unsafe { self.heap.as_ref() }.used;
        let pages = self.heap.cast::<Page>().as_ptr();
        // SAFETY: so much of the heap is in use; all of it is mapped, and pages are bytes without alignment.
        unsafe { std::slice::from_raw_parts(pages, used.div_ceil(PAGE_BYTES)) }
    }

    /// What the heap holds now.
    pub fn save(&mut self) -> Snapshot {
        let mut last = std::mem::take(&mut self.last);
        let pages = self.pages();
        last.truncate(pages.len());
        for (shared, page) in last.iter_mut().zip(pages) {
            if **shared != *page {
                *shared = Rc::new(*page);
            }
        }
        let known = last.len();
        last.extend(pages[known..].iter().map(|page| Rc::new(*page)));
        let snapshot = Snapshot(last.as_slice().into());
        self.last = last;
        snapshot
    }

    /// Makes the heap hold again what it held when it was saved.
    pub fn put_back(&mut self, snapshot: &Snapshot) {
        for (index, page) in snapshot.0.iter().enumerate() {
            // SAFETY: the page is of this heap, as when it was saved; `self` is borrowed, so nothing in it is.
            let place = unsafe { &mut *self.heap.cast::<Page>().as_ptr().add(index) };
            if *place != **page {
                *place = **page;
            }
        }
        self.last.clear();
        self.last.extend_from_slice(&snapshot.0);
    }
}
