//! Memory that a device or a backend may write behind the compiler's back.

use std::ptr::NonNull;
use std::sync::Arc;

/// A page-aligned, zeroed, anonymous mapping shared by counted handles; unmapped when the last handle goes.
/// Registered regions and in-flight I/O hold a handle, so memory never goes away under them.
#[derive(Debug, Clone)]
pub struct Arena {
    mapping: Arc<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is plain memory; access rules are the callers' (one owner per slice, see `slice`).
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` itself offers no unsynchronised access.
unsafe impl Sync for Mapping {}

#[cfg(not(feature = "simulation"))]
mod pages {
    use std::io;
    use std::ptr::NonNull;

    /// `length` bytes, a multiple of 4096.
    pub(super) fn map(length: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: an anonymous private mapping with no address wish has no preconditions.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(NonNull::new(base.cast()).expect("mmap without MAP_FIXED never returns null"))
    }

    /// # Safety
    /// They were mapped here with this length, and nobody uses them any more.
    pub(super) unsafe fn unmap(base: NonNull<u8>, length: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(base.as_ptr().cast(), length) };
    }
}

/// The same from the allocator, for simulations, which have to be able to copy everything the engine consists of.
#[cfg(feature = "simulation")]
mod pages {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::io;
    use std::ptr::NonNull;

    fn layout(length: usize) -> io::Result<Layout> {
        Layout::from_size_align(length, 4096).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    pub(super) fn map(length: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: an arena has at least one page.
        let base = unsafe { alloc_zeroed(layout(length)?) };
        NonNull::new(base).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// # Safety
    /// They were mapped here with this length, and nobody uses them any more.
    pub(super) unsafe fn unmap(base: NonNull<u8>, length: usize) {
        let layout = layout(length).expect("it was one before");
        // SAFETY: the caller's promise.
        unsafe { dealloc(base.as_ptr(), layout) };
    }
}

impl Arena {
    /// Maps `length` bytes (rounded up to whole pages).
    ///
    /// # Errors
    /// The system's error when the mapping fails, for example out of memory.
    pub fn allocate(length: usize) -> std::io::Result<Self> {
        let length = length.max(1).next_multiple_of(4096);
        let base = pages::map(length)?;
        Ok(Self {
            mapping: Arc::new(Mapping { base, length }),
        })
    }

    /// Length in bytes, whole pages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.length
    }

    /// Never: an arena has at least one page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Virtual address of a byte.
    #[must_use]
    pub fn address(&self, offset: usize) -> u64 {
        assert!(offset <= self.mapping.length, "offset beyond arena");
        self.mapping.base.as_ptr() as u64 + offset as u64
    }

    /// The bytes `offset .. offset + length`.
    ///
    /// # Safety
    /// The caller owns this range now: no device, backend or other slice touches it while the borrow lives.
    #[must_use]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, offset: usize, length: usize) -> &mut [u8] {
        let end = offset.checked_add(length).expect("slice end overflows");
        assert!(end <= self.mapping.length, "slice beyond arena");
        // SAFETY: in bounds by the assertion; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base.as_ptr().add(offset), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and length are those of our own mapping, and no handle is left.
        unsafe { pages::unmap(self.base, self.length) };
    }
}
