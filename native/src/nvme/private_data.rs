//! RDMA connection manager private data (NVMe/RDMA transport 1.0, section "Connection Management").

use crate::nvme::bytes::{put_u16, u16_at};

/// Bytes of every form.
pub const PRIVATE_DATA_BYTES: usize = 32;
/// The only record format.
const RECORD_FORMAT: u16 = 0;

/// Why a connect request is rejected; the number goes into the reject's `sts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum RejectStatus {
    /// Private data missing or short.
    InvalidLength = 1,
    /// Record format not supported.
    InvalidRecordFormat = 2,
    /// Queue id not possible.
    InvalidQueueId = 3,
    /// Host send queue size not possible.
    InvalidHostSendQueueSize = 4,
    /// Host receive queue size not possible.
    InvalidHostReceiveQueueSize = 5,
    /// No resources now (also: the port is not serving). Hosts try again.
    NoResources = 6,
    /// Inbound RDMA READ depth not possible.
    InvalidInboundReadDepth = 7,
    /// Outbound RDMA READ depth not possible.
    InvalidOutboundReadDepth = 8,
}

impl RejectStatus {
    /// CamelCase name, the label of the reject counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidLength => "InvalidLength",
            Self::InvalidRecordFormat => "InvalidRecordFormat",
            Self::InvalidQueueId => "InvalidQueueId",
            Self::InvalidHostSendQueueSize => "InvalidHostSendQueueSize",
            Self::InvalidHostReceiveQueueSize => "InvalidHostReceiveQueueSize",
            Self::NoResources => "NoResources",
            Self::InvalidInboundReadDepth => "InvalidInboundReadDepth",
            Self::InvalidOutboundReadDepth => "InvalidOutboundReadDepth",
        }
    }

    /// The reject's private data. Only the first four bytes carry information.
    #[must_use]
    pub fn encode(self) -> [u8; PRIVATE_DATA_BYTES] {
        let mut bytes = [0; PRIVATE_DATA_BYTES];
        put_u16(&mut bytes, 0, RECORD_FORMAT);
        put_u16(&mut bytes, 2, self as u16);
        bytes
    }
}

/// What a host says of the queue it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectRequestData {
    /// Queue id; 0 is the admin queue.
    pub queue_id: u16,
    /// Receives the host posts: responses it can take at once.
    pub host_receive_queue_size: u16,
    /// Entries of the submission queue, 0's based.
    pub host_send_queue_size: u16,
    /// Controller id of an I/O queue's association; newer hosts only, else 0.
    pub controller_id: u16,
}

/// Entries an admin queue may have at most (0's based 31 is what Linux asks for).
pub const ADMIN_QUEUE_ENTRIES_MAX: u16 = 128;

impl ConnectRequestData {
    /// Reads the request's private data; connection managers may hand over more bytes than the host sent.
    ///
    /// # Errors
    /// The reject status for missing or short data, or another record format.
    pub fn parse(bytes: &[u8]) -> Result<Self, RejectStatus> {
        let Some(bytes) = bytes.first_chunk::<PRIVATE_DATA_BYTES>() else {
            return Err(RejectStatus::InvalidLength);
        };
        if u16_at(bytes, 0) != RECORD_FORMAT {
            return Err(RejectStatus::InvalidRecordFormat);
        }
        Ok(Self {
            queue_id: u16_at(bytes, 2),
            host_receive_queue_size: u16_at(bytes, 4),
            host_send_queue_size: u16_at(bytes, 6),
            controller_id: u16_at(bytes, 8),
        })
    }

    /// Checks the request against our limits; the queue's entries (1-based), at most `queue_depth` for I/O queues.
    ///
    /// # Errors
    /// The reject status: queue id beyond `io_queues_max`, a queue of fewer than two entries, or one longer than we
    /// offer.
    pub fn queue_entries(&self, io_queues_max: u16, queue_depth: u16) -> Result<u16, RejectStatus> {
        if self.queue_id > io_queues_max {
            return Err(RejectStatus::InvalidQueueId);
        }
        let entries_max = if self.queue_id == 0 {
            ADMIN_QUEUE_ENTRIES_MAX
        } else {
            queue_depth
        };
        if self.host_send_queue_size == 0 || self.host_send_queue_size >= entries_max {
            return Err(RejectStatus::InvalidHostSendQueueSize);
        }
        if self.host_receive_queue_size == 0 {
            return Err(RejectStatus::InvalidHostReceiveQueueSize);
        }
        Ok(self.host_send_queue_size + 1)
    }

    /// The request as a host sends it.
    #[must_use]
    pub fn encode(&self) -> [u8; PRIVATE_DATA_BYTES] {
        let mut bytes = [0; PRIVATE_DATA_BYTES];
        put_u16(&mut bytes, 0, RECORD_FORMAT);
        put_u16(&mut bytes, 2, self.queue_id);
        put_u16(&mut bytes, 4, self.host_receive_queue_size);
        put_u16(&mut bytes, 6, self.host_send_queue_size);
        put_u16(&mut bytes, 8, self.controller_id);
        bytes
    }
}

/// The accept's private data: `receive_queue_size` is how many commands the controller takes on this queue.
#[must_use]
pub fn encode_accept(receive_queue_size: u16) -> [u8; PRIVATE_DATA_BYTES] {
    let mut bytes = [0; PRIVATE_DATA_BYTES];
    put_u16(&mut bytes, 0, RECORD_FORMAT);
    put_u16(&mut bytes, 2, receive_queue_size);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADMIN: ConnectRequestData = ConnectRequestData {
        queue_id: 0,
        host_receive_queue_size: 32,
        host_send_queue_size: 31,
        controller_id: 0,
    };

    #[test]
    fn a_linux_hosts_admin_and_io_requests_are_taken() {
        assert_eq!(ConnectRequestData::parse(&ADMIN.encode()), Ok(ADMIN));
        assert_eq!(ADMIN.queue_entries(16, 128), Ok(32));
        let io = ConnectRequestData {
            queue_id: 16,
            host_receive_queue_size: 128,
            host_send_queue_size: 127,
            controller_id: 3,
        };
        let mut padded = io.encode().to_vec();
        padded.extend([0; 24]);
        assert_eq!(ConnectRequestData::parse(&padded), Ok(io));
        assert_eq!(io.queue_entries(16, 128), Ok(128));
    }

    #[test]
    fn hostile_private_data_gets_the_specifications_reject_status() {
        assert_eq!(ConnectRequestData::parse(&[]), Err(RejectStatus::InvalidLength));
        assert_eq!(ConnectRequestData::parse(&[0; 31]), Err(RejectStatus::InvalidLength));
        let mut bytes = ADMIN.encode();
        bytes[0] = 1;
        assert_eq!(
            ConnectRequestData::parse(&bytes),
            Err(RejectStatus::InvalidRecordFormat)
        );
        let check = |request: ConnectRequestData| request.queue_entries(16, 128);
        assert_eq!(
            check(ConnectRequestData { queue_id: 17, ..ADMIN }),
            Err(RejectStatus::InvalidQueueId)
        );
        for (queue_id, size) in [(0, 0), (0, 128), (1, 128), (1, 0), (1, u16::MAX)] {
            let request = ConnectRequestData {
                queue_id,
                host_send_queue_size: size,
                ..ADMIN
            };
            assert_eq!(check(request), Err(RejectStatus::InvalidHostSendQueueSize));
        }
        let request = ConnectRequestData {
            host_receive_queue_size: 0,
            ..ADMIN
        };
        assert_eq!(check(request), Err(RejectStatus::InvalidHostReceiveQueueSize));
    }

    #[test]
    fn answers_have_their_numbers_in_bytes_two_and_three() {
        assert_eq!(RejectStatus::NoResources.encode()[..4], [0, 0, 6, 0]);
        assert_eq!(encode_accept(0x180)[..4], [0, 0, 0x80, 1]);
    }

    proptest! {
        #[test]
        fn no_private_data_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..64), queues in any::<u16>(), depth in any::<u16>(),
        ) {
            if let Ok(request) = ConnectRequestData::parse(&bytes) {
                let _ = request.queue_entries(queues, depth);
            }
        }
    }
}
