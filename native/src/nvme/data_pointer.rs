//! SGL descriptor of the command (NVMe base 2.0 section 4.1.2; RDMA transport: keyed data block and in-capsule only).

use crate::nvme::bytes::{put_u32, put_u64, u32_at, u64_at};
use crate::nvme::status::{Status, StatusCode};

/// Bytes of an SGL descriptor.
pub const DESCRIPTOR_BYTES: usize = 16;

/// Data block with an offset into the capsule.
const IN_CAPSULE_OFFSET: u8 = 0x01;
/// Keyed data block with an address.
const KEYED: u8 = 0x40;
/// Keyed data block whose key the target invalidates with its answer.
const KEYED_INVALIDATE: u8 = 0x4f;

/// Where a command's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataPointer {
    /// Host memory, reached by RDMA READ and RDMA WRITE.
    Keyed {
        /// Host's virtual address.
        address: u64,
        /// Bytes, 24 bits on the wire.
        length: u32,
        /// Host's remote key.
        key: u32,
        /// Answer with SEND_WITH_INV of the key where the device can.
        invalidate: bool,
    },
    /// Bytes of the capsule, behind the command.
    InCapsule {
        /// Offset from the end of the command.
        offset: u64,
        /// Bytes.
        length: u32,
    },
}

impl DataPointer {
    /// The pointer of a command without data.
    pub const EMPTY: Self = Self::Keyed {
        address: 0,
        length: 0,
        key: 0,
        invalidate: false,
    };

    /// Reads a descriptor of 16 bytes.
    ///
    /// # Errors
    /// SGL Descriptor Type Invalid with DNR for every other type, and for a slice of another length.
    pub fn parse(descriptor: &[u8]) -> Result<Self, Status> {
        const TYPE_INVALID: Status = StatusCode::SglDescriptorTypeInvalid.permanent();
        let descriptor: &[u8; DESCRIPTOR_BYTES] = descriptor.try_into().map_err(|_| TYPE_INVALID)?;
        let kind = descriptor[15];
        match kind {
            KEYED | KEYED_INVALIDATE => Ok(Self::Keyed {
                address: u64_at(descriptor, 0),
                length: u32_at(descriptor, 8) & 0x00ff_ffff,
                key: u32_at(descriptor, 11),
                invalidate: kind == KEYED_INVALIDATE,
            }),
            IN_CAPSULE_OFFSET => Ok(Self::InCapsule {
                offset: u64_at(descriptor, 0),
                length: u32_at(descriptor, 8),
            }),
            _ => Err(TYPE_INVALID),
        }
    }

    /// The descriptor as a host sends it.
    #[must_use]
    pub fn encode(&self) -> [u8; DESCRIPTOR_BYTES] {
        let mut bytes = [0; DESCRIPTOR_BYTES];
        match *self {
            Self::Keyed {
                address,
                length,
                key,
                invalidate,
            } => {
                put_u64(&mut bytes, 0, address);
                put_u32(&mut bytes, 8, length & 0x00ff_ffff);
                put_u32(&mut bytes, 11, key);
                bytes[15] = if invalidate { KEYED_INVALIDATE } else { KEYED };
            }
            Self::InCapsule { offset, length } => {
                put_u64(&mut bytes, 0, offset);
                put_u32(&mut bytes, 8, length);
                bytes[15] = IN_CAPSULE_OFFSET;
            }
        }
        bytes
    }

    /// Bytes described.
    #[must_use]
    pub const fn length(&self) -> u32 {
        match *self {
            Self::Keyed { length, .. } | Self::InCapsule { length, .. } => length,
        }
    }

    /// Key to invalidate with the answer. Never for in-capsule or empty data: a wrong key starts the host's error
    /// recovery.
    #[must_use]
    pub const fn invalidate_key(&self) -> Option<u32> {
        match *self {
            Self::Keyed {
                length,
                key,
                invalidate: true,
                ..
            } if length > 0 => Some(key),
            _ => None,
        }
    }

    /// The part of `in_capsule` (the capsule behind its command) that holds the data.
    ///
    /// # Errors
    /// SGL Offset Invalid with DNR when it reaches beyond the capsule; SGL Descriptor Type Invalid with DNR when the
    /// data is not in the capsule.
    pub fn in_capsule_range(&self, in_capsule_bytes: u32) -> Result<std::ops::Range<usize>, Status> {
        match *self {
            Self::Keyed { .. } => Err(StatusCode::SglDescriptorTypeInvalid.permanent()),
            Self::InCapsule { offset, length } => match offset.checked_add(u64::from(length)) {
                Some(end) if end <= u64::from(in_capsule_bytes) => {
                    // Both are at most `in_capsule_bytes`, so they fit.
                    Ok(offset as usize..end as usize)
                }
                _ => Err(StatusCode::SglOffsetInvalid.permanent()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keyed_length_is_24_bits_and_key_follows_it() {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&0x1000_u64.to_le_bytes());
        bytes[8..11].copy_from_slice(&[0, 0x10, 0]);
        bytes[11..15].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        bytes[15] = 0x4f;
        let pointer = DataPointer::parse(&bytes).unwrap();
        assert_eq!(
            pointer,
            DataPointer::Keyed {
                address: 0x1000,
                length: 4096,
                key: 0xdead_beef,
                invalidate: true
            }
        );
        assert_eq!(pointer.invalidate_key(), Some(0xdead_beef));
        assert_eq!(pointer.encode(), bytes);
    }

    #[test]
    fn a_key_is_invalidated_only_when_asked_and_only_with_data() {
        let plain = DataPointer::Keyed {
            address: 1,
            length: 8,
            key: 5,
            invalidate: false,
        };
        let empty = DataPointer::Keyed {
            address: 1,
            length: 0,
            key: 5,
            invalidate: true,
        };
        let in_capsule = DataPointer::InCapsule { offset: 0, length: 8 };
        for pointer in [plain, empty, in_capsule] {
            assert_eq!(pointer.invalidate_key(), None);
        }
    }

    #[test]
    fn other_types_are_refused_with_do_not_retry() {
        for kind in [0x00_u8, 0x02, 0x10, 0x20, 0x30, 0x41, 0x50, 0x5a, 0xff] {
            let mut bytes = [0; 16];
            bytes[15] = kind;
            assert_eq!(
                DataPointer::parse(&bytes),
                Err(StatusCode::SglDescriptorTypeInvalid.permanent())
            );
        }
    }

    #[test]
    fn in_capsule_offset_plus_length_never_overflows() {
        let outside = DataPointer::InCapsule {
            offset: u64::MAX,
            length: 1,
        };
        assert_eq!(
            outside.in_capsule_range(4096),
            Err(StatusCode::SglOffsetInvalid.permanent())
        );
        let whole = DataPointer::InCapsule {
            offset: 96,
            length: 4000,
        };
        assert_eq!(whole.in_capsule_range(4096), Ok(96..4096));
        let one_more = DataPointer::InCapsule {
            offset: 97,
            length: 4000,
        };
        assert_eq!(
            one_more.in_capsule_range(4096),
            Err(StatusCode::SglOffsetInvalid.permanent())
        );
    }

    proptest! {
        #[test]
        fn any_descriptor_parses_without_panic_and_stays_in_its_capsule(
            bytes in prop::collection::vec(any::<u8>(), 0..20),
            capsule in any::<u32>(),
        ) {
            if let Ok(pointer) = DataPointer::parse(&bytes) {
                if let Ok(range) = pointer.in_capsule_range(capsule) {
                    prop_assert!(range.end as u64 <= u64::from(capsule));
                    prop_assert_eq!(range.len() as u64, u64::from(pointer.length()));
                }
            }
        }
    }
}
