//! Work request and backend tokens: a kind and a generational handle in 64 bits, so that a completion that belongs to
//! nothing alive is recognised and never followed.
//!
//! Layout: bits 63–56 kind, bits 55–32 slot, bits 31–0 generation.

use crate::engine::messages::Handle;

/// Most slots a token can name.
pub const SLOTS_MAX: u32 = 1 << 24;

/// What was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// A receive of a shared receive queue; the slot is the receive's.
    Receive = 1,
    /// RDMA READ of host data; the slot is the request's, as in all that follow.
    Fetch = 2,
    /// RDMA WRITE of data to the host.
    Data = 3,
    /// SEND of the response capsule.
    Response = 4,
    /// A backend I/O.
    Backend = 5,
}

/// Packs a kind and a handle.
#[must_use]
pub fn pack(kind: TokenKind, handle: Handle) -> u64 {
    assert!(handle.slot < SLOTS_MAX, "slot does not fit a token");
    u64::from(kind as u8) << 56 | u64::from(handle.slot) << 32 | u64::from(handle.generation)
}

/// Unpacks a token; `None` if its kind is none of ours.
#[must_use]
pub fn unpack(token: u64) -> Option<(TokenKind, Handle)> {
    let kind = match token >> 56 {
        1 => TokenKind::Receive,
        2 => TokenKind::Fetch,
        3 => TokenKind::Data,
        4 => TokenKind::Response,
        5 => TokenKind::Backend,
        _ => return None,
    };
    let slot = (token >> 32) as u32 & (SLOTS_MAX - 1);
    #[allow(clippy::cast_possible_truncation)] // the generation is the low half
    let generation = token as u32;
    Some((kind, Handle { slot, generation }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_token_unpacks_to_the_same_kind_and_handle() {
        let handle = Handle {
            slot: SLOTS_MAX - 1,
            generation: u32::MAX,
        };
        for kind in [
            TokenKind::Receive,
            TokenKind::Fetch,
            TokenKind::Data,
            TokenKind::Response,
            TokenKind::Backend,
        ] {
            assert_eq!(unpack(pack(kind, handle)), Some((kind, handle)));
        }
    }

    #[test]
    fn a_token_of_unknown_kind_is_refused() {
        assert_eq!(unpack(0), None);
        assert_eq!(unpack(u64::MAX), None);
    }
}
