//! Little-endian fields at fixed offsets. Every wire format of NVMe is little endian.
//!
//! The getters take fixed-size arrays or slices whose length the caller has checked; offsets are constants of the
//! formats in this folder.

/// Two bytes at `at`.
#[must_use]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes at `at`.
#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Eight bytes at `at`.
#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

/// Stores two bytes at `at`.
pub fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Stores four bytes at `at`.
pub fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Stores eight bytes at `at`.
pub fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Stores a 128-bit count at `at`.
pub fn put_u128(bytes: &mut [u8], at: usize, value: u128) {
    bytes[at..at + 16].copy_from_slice(&value.to_le_bytes());
}

/// Stores `text` at `at`, cut to `length` bytes and padded with spaces (serial and model numbers).
pub fn put_padded(bytes: &mut [u8], at: usize, length: usize, text: &str) {
    let field = &mut bytes[at..at + length];
    field.fill(b' ');
    let count = text.len().min(length);
    field[..count].copy_from_slice(&text.as_bytes()[..count]);
}

/// Stores `text` at `at`, cut to `length - 1` bytes and ended with zeroes (qualified names).
pub fn put_terminated(bytes: &mut [u8], at: usize, length: usize, text: &str) {
    let field = &mut bytes[at..at + length];
    field.fill(0);
    let count = text.len().min(length.saturating_sub(1));
    field[..count].copy_from_slice(&text.as_bytes()[..count]);
}
