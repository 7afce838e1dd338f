//! Registered buffers: the pieces they are cut from, and the free list of one class (small or large).

use crate::engine::messages::PortSizing;
use crate::provider::{Arena, Provider, Sge};

/// A piece of registered memory cut into equal buffers. Field order is destruction order.
#[derive(Debug)]
pub struct BufferRegion<P: Provider> {
    /// The registration.
    pub region: P::MemoryRegion,
    /// The memory.
    pub arena: Arena,
    /// First byte of the piece in the arena.
    pub offset: usize,
    /// Bytes of one buffer.
    pub buffer_bytes: u32,
    /// Buffers in this piece.
    pub buffer_count: u32,
}

/// Which pool a buffer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferClass {
    /// Up to `small_buffer_bytes`.
    Small = 0,
    /// Up to `large_buffer_bytes`.
    Large = 1,
}

impl BufferClass {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// The smallest class that `length` bytes fit in; `None` if they fit in neither.
    #[must_use]
    pub fn for_length(length: u32, sizing: &PortSizing) -> Option<Self> {
        if length <= sizing.small_buffer_bytes {
            Some(Self::Small)
        } else if length <= sizing.large_buffer_bytes {
            Some(Self::Large)
        } else {
            None
        }
    }
}

/// One buffer, owned: there is exactly one value for it, in the pool or with a request.
#[derive(Debug)]
pub struct Buffer {
    piece: u32,
    index: u32,
    class: BufferClass,
    address: u64,
    local_key: u32,
}

impl Buffer {
    /// Which pool it goes back to.
    #[must_use]
    pub fn class(&self) -> BufferClass {
        self.class
    }

    /// Virtual address of its first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its first `length` bytes for a work request.
    #[must_use]
    pub fn sge(&self, length: u32) -> Sge {
        Sge {
            address: self.address,
            length,
            local_key: self.local_key,
        }
    }
}

/// Registered memory that buffers were cut from.
#[derive(Debug)]
struct Piece {
    arena: Arena,
    offset: usize,
}

/// The free buffers of one class. Grows only when memory is added, never on the way of an I/O.
#[derive(Debug)]
pub struct BufferPool {
    class: BufferClass,
    buffer_bytes: u32,
    pieces: Vec<Piece>,
    free: Vec<Buffer>,
    total: usize,
    /// Buffers that only privileged requests (admin, Connect) may take.
    reserved: usize,
}

impl BufferPool {
    /// A pool without buffers.
    #[must_use]
    pub fn new(class: BufferClass, buffer_bytes: u32, reserved: usize) -> Self {
        Self {
            class,
            buffer_bytes,
            pieces: Vec::new(),
            free: Vec::new(),
            total: 0,
            reserved,
        }
    }

    /// Cuts a registered piece into buffers; how many there are now more.
    pub fn add<P: Provider>(&mut self, provider: &P, piece: &BufferRegion<P>) -> usize {
        assert!(
            piece.buffer_bytes == self.buffer_bytes,
            "buffers of one pool are of one size"
        );
        let local_key = provider.local_key(&piece.region);
        let number = u32::try_from(self.pieces.len()).expect("few pieces");
        self.pieces.push(Piece {
            arena: piece.arena.clone(),
            offset: piece.offset,
        });
        self.total += piece.buffer_count as usize;
        self.free.reserve(self.total - self.free.len());
        // In reverse: buffers are taken from the end, so the lowest addresses are used first and stay warm.
        for index in (0..piece.buffer_count).rev() {
            let address = piece
                .arena
                .address(piece.offset + index as usize * self.buffer_bytes as usize);
            self.free.push(Buffer {
                piece: number,
                index,
                class: self.class,
                address,
                local_key,
            });
        }
        piece.buffer_count as usize
    }

    /// Takes a buffer. Requests that are not privileged leave the reserve alone.
    pub fn take(&mut self, privileged: bool) -> Option<Buffer> {
        if self.available(privileged) == 0 {
            None
        } else {
            self.free.pop()
        }
    }

    /// Buffers that could be taken now.
    #[must_use]
    pub fn available(&self, privileged: bool) -> usize {
        self.free.len().saturating_sub(self.reserved(privileged))
    }

    /// Buffers that could be taken if all were free.
    #[must_use]
    pub fn obtainable(&self, privileged: bool) -> usize {
        self.total - self.reserved(privileged)
    }

    /// A small pool reserves less, so that I/O finds something at all.
    fn reserved(&self, privileged: bool) -> usize {
        if privileged {
            0
        } else {
            self.reserved.min(self.total / 4)
        }
    }

    /// Gives a buffer back. Only when nothing posted and no backend I/O names it.
    pub fn give_back(&mut self, buffer: Buffer) {
        assert!(buffer.class == self.class, "a buffer goes back to its own pool");
        assert!(self.free.len() < self.total, "more buffers came back than there are");
        self.free.push(buffer);
    }

    /// Buffers there are.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Buffers nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// The whole buffer as a slot to be cut further.
    #[must_use]
    pub fn slot(&self, buffer: &Buffer) -> RegisteredSlot {
        let piece = &self.pieces[buffer.piece as usize];
        RegisteredSlot {
            arena: piece.arena.clone(),
            offset: piece.offset + buffer.index as usize * self.buffer_bytes as usize,
            local_key: buffer.local_key,
            bytes: self.buffer_bytes,
        }
    }

    /// The first `length` bytes of a buffer. Only between posted work: the caller's request says that neither the
    /// device nor the backend uses the buffer now.
    pub fn bytes<'a>(&'a self, buffer: &'a mut Buffer, length: usize) -> &'a mut [u8] {
        assert!(length <= self.buffer_bytes as usize, "slice beyond its buffer");
        let piece = &self.pieces[buffer.piece as usize];
        let offset = piece.offset + buffer.index as usize * self.buffer_bytes as usize;
        // SAFETY: the range lies in this buffer, for which `buffer` is the only value, borrowed exclusively; callers
        // ask only while nothing is posted on it, as the request's state says.
        unsafe { piece.arena.slice(offset, length) }
    }
}

/// A fixed slot of registered memory, for receives and response capsules. Copied freely inside its owner; the owner
/// keeps one user a slot.
#[derive(Clone)]
pub struct RegisteredSlot {
    arena: Arena,
    offset: usize,
    local_key: u32,
    bytes: u32,
}

/// A share has hundreds; which memory they name is shown with the region they are cut from.
impl std::fmt::Debug for RegisteredSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisteredSlot").finish_non_exhaustive()
    }
}

impl RegisteredSlot {
    /// Cuts a piece into slots.
    pub fn cut<P: Provider>(provider: &P, piece: &BufferRegion<P>, slots: &mut Vec<Self>) {
        let local_key = provider.local_key(&piece.region);
        slots.extend((0..piece.buffer_count).map(|index| Self {
            arena: piece.arena.clone(),
            offset: piece.offset + index as usize * piece.buffer_bytes as usize,
            local_key,
            bytes: piece.buffer_bytes,
        }));
    }

    /// The part of this slot from `offset`, as a slot.
    #[must_use]
    pub fn part(&self, offset: u32, bytes: u32) -> Self {
        assert!(
            u64::from(offset) + u64::from(bytes) <= u64::from(self.bytes),
            "part beyond its slot"
        );
        Self {
            arena: self.arena.clone(),
            offset: self.offset + offset as usize,
            local_key: self.local_key,
            bytes,
        }
    }

    /// The slot's first `length` bytes for a work request.
    #[must_use]
    pub fn sge(&self, length: u32) -> Sge {
        assert!(length <= self.bytes, "work request beyond its slot");
        Sge {
            address: self.arena.address(self.offset),
            length,
            local_key: self.local_key,
        }
    }

    /// Bytes of the slot.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Virtual address of a byte of the slot.
    #[must_use]
    pub fn address(&self, at: u32) -> u64 {
        assert!(at <= self.bytes, "address beyond its slot");
        self.arena.address(self.offset + at as usize)
    }

    /// The slot's first `length` bytes. Only while nothing is posted on the slot.
    pub fn slice(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.bytes as usize, "slice beyond its slot");
        // SAFETY: the range lies in this slot; its owner borrows it exclusively, and asks only while neither a posted
        // work request nor a backend I/O names it.
        unsafe { self.arena.slice(self.offset, length) }
    }
}
