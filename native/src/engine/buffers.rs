//! Registered buffers.

use crate::provider::{Arena, Provider};

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
