//! Volatile namespaces: an anonymous mapping shared by all pollers.

use std::io;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use super::{BackingFacts, IoOperation, IoRequest};

/// Logical block size as a power of two; also the unit in which writes are atomic.
const BLOCK_SHIFT: u8 = 12;
const BLOCK_BYTES: u64 = 1 << BLOCK_SHIFT;

/// Locks that blocks are spread over. More than any plausible number of pollers, so that two rarely meet.
const STRIPES: usize = 64;

/// A zeroed, page-aligned anonymous mapping. Pages are taken from the system when they are first touched.
#[derive(Debug)]
pub(super) struct Pages {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: plain memory; the owner decides who touches which byte.
unsafe impl Send for Pages {}
// SAFETY: as above; nothing here reads or writes it.
unsafe impl Sync for Pages {}

impl Pages {
    pub(super) fn allocate(length: usize) -> io::Result<Self> {
        let length = length.max(1);
        // SAFETY: an anonymous private mapping with no address wish has no preconditions.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            base: NonNull::new(base.cast()).expect("mmap without MAP_FIXED never returns null"),
            length,
        })
    }

    /// Address of a byte inside the mapping.
    pub(super) fn address(&self, offset: usize) -> u64 {
        assert!(offset < self.length, "offset beyond the mapping");
        self.base.as_ptr() as u64 + offset as u64
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, and no reference into it is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// Volatile storage, shared by all pollers.
#[derive(Debug)]
pub(super) struct MemoryBacking {
    pages: Pages,
    size_bytes: u64,
    /// A block is copied under its stripe's lock: a read never sees half of a concurrent write of the block
    /// (NVMe's atomic write unit is one logical block), and no two threads touch a byte at once.
    stripes: Box<[Mutex<()>]>,
}

impl MemoryBacking {
    pub(super) fn new(size_bytes: u64) -> io::Result<Self> {
        let length = usize::try_from(size_bytes).map_err(|_| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self {
            pages: Pages::allocate(length)?,
            size_bytes,
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
        })
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn facts(&self) -> BackingFacts {
        BackingFacts {
            size_bytes: self.size_bytes,
            block_shift: BLOCK_SHIFT,
            volatile: true,
            read_only: false,
            write_cache: false,
        }
    }

    /// Carries out a request whose range was checked against [`Self::size_bytes`], at once.
    pub(super) fn execute(&self, request: &IoRequest) -> i32 {
        match request.operation {
            IoOperation::Flush => return 0,
            IoOperation::Deallocate => {
                self.give_back(request.offset, request.length);
                return 0;
            }
            IoOperation::Read | IoOperation::Write { .. } | IoOperation::WriteZeroes { .. } => {}
        }
        let end = request.offset + request.length;
        let mut at = request.offset;
        while at < end {
            let next = (at - at % BLOCK_BYTES + BLOCK_BYTES).min(end);
            let length = (next - at) as usize;
            let stripe = (at / BLOCK_BYTES) as usize % STRIPES;
            let _guard = self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: `at..next` is inside the mapping (range checked by the caller), this block's bytes are touched only
            // under the stripe's lock, and the caller of `push` lends `request.memory` until completion.
            unsafe {
                let here = self.pages.base.as_ptr().add(at as usize);
                let theirs = (request.memory + (at - request.offset)) as *mut u8;
                match request.operation {
                    IoOperation::Read => std::ptr::copy_nonoverlapping(here, theirs, length),
                    IoOperation::Write { .. } => std::ptr::copy_nonoverlapping(theirs, here, length),
                    _ => std::ptr::write_bytes(here, 0, length),
                }
            }
            at = next;
        }
        0
    }

    /// Whole pages inside the range go back to the system and read as zeroes.
    fn give_back(&self, offset: u64, length: u64) {
        let first = offset.next_multiple_of(BLOCK_BYTES);
        let end = (offset + length) & !(BLOCK_BYTES - 1);
        if first >= end {
            return;
        }
        // SAFETY: whole pages inside our own mapping; the kernel serialises this with other threads' accesses. A failure
        // leaves the old data, which a deallocated block may read as.
        unsafe {
            libc::madvise(
                self.pages.base.as_ptr().add(first as usize).cast(),
                (end - first) as usize,
                libc::MADV_DONTNEED,
            )
        };
    }
}
