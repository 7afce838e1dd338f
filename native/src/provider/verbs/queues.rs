//! Completion queues, shared receive queues, queue pairs, and posting and polling without allocation.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdma_mummy_sys as sys;

use super::connection::VerbsConnectionId;
use super::device::{VerbsDevice, VerbsProtectionDomain, keep_if_refused, mtu_bytes};
use super::error;
use crate::provider::{
    CompletionKind, CompletionStatus, ConnectParameters, ProviderError, ReceiveWorkRequest, SendOperation,
    SendWorkRequest, Sge, WorkCompletion,
};

/// Work requests given to the device in one call, and completions taken in one call. A longer slice takes several
/// calls, each with its own doorbell.
pub const CHAIN_MAX: usize = 32;

/// Attribute mask bits that old kernels' connection manager sets for itself, and that user space must not pass on.
const RESERVED_ATTRIBUTES: i32 = 0x1e0_0000;

/// A completion queue with a completion channel of its own.
#[derive(Debug, Clone)]
pub struct VerbsCompletionQueue(Arc<CompletionQueue>);

#[derive(Debug)]
struct CompletionQueue {
    queue: NonNull<sys::ibv_cq>,
    channel: Arc<CompletionChannel>,
}

#[derive(Debug)]
struct CompletionChannel {
    channel: NonNull<sys::ibv_comp_channel>,
    device: VerbsDevice,
}

// SAFETY: libibverbs' objects may be used from any thread, several at once.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}
// SAFETY: as above.
unsafe impl Send for CompletionChannel {}
// SAFETY: as above.
unsafe impl Sync for CompletionChannel {}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: ours alone; queue pairs hold this queue, so none is left. Every notification taken was acknowledged
        // at once (see `take_notifications`), so this does not wait.
        let errno = unsafe { sys::ibv_destroy_cq(self.queue.as_ptr()) };
        keep_if_refused(errno, self.channel.clone());
    }
}

impl Drop for CompletionChannel {
    fn drop(&mut self) {
        // SAFETY: ours alone; its queue is destroyed.
        let errno = unsafe { sys::ibv_destroy_comp_channel(self.channel.as_ptr()) };
        keep_if_refused(errno, self.device.clone());
    }
}

impl VerbsCompletionQueue {
    pub(super) fn create(device: &VerbsDevice, entries: u32) -> Result<Self, ProviderError> {
        let Ok(entries) = i32::try_from(entries) else {
            return Err(error::own("ibv_create_cq", libc::EINVAL, "too many entries"));
        };
        // SAFETY: open context.
        let channel = unsafe { sys::ibv_create_comp_channel(device.context()) };
        let channel = NonNull::new(channel).ok_or_else(|| error::last("ibv_create_comp_channel"))?;
        let channel = Arc::new(CompletionChannel {
            channel,
            device: device.clone(),
        });
        // SAFETY: the channel is alive.
        error::set_non_blocking(unsafe { channel.channel.as_ref().fd })?;
        // SAFETY: open context and channel of the same device; no context pointer.
        let queue =
            unsafe { sys::ibv_create_cq(device.context(), entries, ptr::null_mut(), channel.channel.as_ptr(), 0) };
        let queue = NonNull::new(queue).ok_or_else(|| error::last("ibv_create_cq"))?;
        Ok(Self(Arc::new(CompletionQueue { queue, channel })))
    }

    fn as_ptr(&self) -> *mut sys::ibv_cq {
        self.0.queue.as_ptr()
    }

    pub(super) fn fd(&self) -> RawFd {
        // SAFETY: the channel is alive.
        unsafe { self.0.channel.channel.as_ref().fd }
    }

    pub(super) fn arm(&self) -> Result<(), ProviderError> {
        // SAFETY: the queue is alive.
        match unsafe { sys::ibv_req_notify_cq(self.as_ptr(), 0) } {
            0 => Ok(()),
            errno => Err(error::from_errno("ibv_req_notify_cq", errno)),
        }
    }

    /// Takes and acknowledges, so that no notification is outstanding between calls.
    pub(super) fn take_notifications(&self) {
        let mut taken = 0;
        let mut queue = ptr::null_mut();
        let mut context = ptr::null_mut();
        // SAFETY: the channel is alive and does not block; both answers have room. Only our queue uses the channel.
        while unsafe { sys::ibv_get_cq_event(self.0.channel.channel.as_ptr(), &mut queue, &mut context) } == 0 {
            taken += 1;
        }
        if taken > 0 {
            // SAFETY: `taken` notifications of this queue were taken above and not yet acknowledged.
            unsafe { sys::ibv_ack_cq_events(self.as_ptr(), taken) };
        }
    }

    pub(super) fn poll(&self, completions: &mut [WorkCompletion]) -> Result<usize, ProviderError> {
        let mut filled = 0;
        while filled < completions.len() {
            let wanted = (completions.len() - filled).min(CHAIN_MAX);
            let mut entries = [const { MaybeUninit::<sys::ibv_wc>::uninit() }; CHAIN_MAX];
            // SAFETY: the queue is alive, and there is room for `wanted` entries.
            let got = unsafe { sys::ibv_poll_cq(self.as_ptr(), wanted as i32, entries.as_mut_ptr().cast()) };
            let Ok(got) = usize::try_from(got) else {
                if filled > 0 {
                    // What was taken must be delivered; the error comes again at the next call.
                    return Ok(filled);
                }
                return Err(error::own("ibv_poll_cq", libc::EIO, "the completion queue is broken"));
            };
            for (slot, entry) in completions[filled..].iter_mut().zip(&entries[..got]) {
                // SAFETY: the first `got` entries are filled in.
                *slot = completion(unsafe { entry.assume_init_ref() });
            }
            filled += got;
            if got < wanted {
                break;
            }
        }
        Ok(filled)
    }
}

fn completion(entry: &sys::ibv_wc) -> WorkCompletion {
    let status = match entry.status {
        sys::ibv_wc_status::IBV_WC_SUCCESS => CompletionStatus::Success,
        sys::ibv_wc_status::IBV_WC_WR_FLUSH_ERR => CompletionStatus::Flushed,
        other => CompletionStatus::Error(other),
    };
    let kind = match entry.opcode {
        sys::ibv_wc_opcode::IBV_WC_SEND => CompletionKind::Send,
        sys::ibv_wc_opcode::IBV_WC_RDMA_WRITE => CompletionKind::RdmaWrite,
        sys::ibv_wc_opcode::IBV_WC_RDMA_READ => CompletionKind::RdmaRead,
        _ => CompletionKind::Receive,
    };
    WorkCompletion {
        token: entry.wr_id,
        status,
        kind,
        byte_length: if status == CompletionStatus::Success {
            entry.byte_len
        } else {
            0
        },
        queue_pair_number: entry.qp_num,
    }
}

fn entry(sge: &Sge) -> sys::ibv_sge {
    sys::ibv_sge {
        addr: sge.address,
        length: sge.length,
        lkey: sge.local_key,
    }
}

/// A shared receive queue.
#[derive(Debug, Clone)]
pub struct VerbsSharedReceiveQueue(Arc<SharedReceiveQueue>);

#[derive(Debug)]
struct SharedReceiveQueue {
    queue: NonNull<sys::ibv_srq>,
    domain: VerbsProtectionDomain,
}

// SAFETY: libibverbs' objects may be used from any thread, several at once.
unsafe impl Send for SharedReceiveQueue {}
// SAFETY: as above.
unsafe impl Sync for SharedReceiveQueue {}

impl Drop for SharedReceiveQueue {
    fn drop(&mut self) {
        // SAFETY: ours alone; queue pairs hold this queue, so none is left.
        let errno = unsafe { sys::ibv_destroy_srq(self.queue.as_ptr()) };
        keep_if_refused(errno, self.domain.clone());
    }
}

impl VerbsSharedReceiveQueue {
    pub(super) fn create(domain: &VerbsProtectionDomain, entries: u32) -> Result<Self, ProviderError> {
        let mut attributes = sys::ibv_srq_init_attr {
            srq_context: ptr::null_mut(),
            attr: sys::ibv_srq_attr {
                max_wr: entries,
                max_sge: 1,
                srq_limit: 0,
            },
        };
        // SAFETY: the domain is alive, and the attributes are filled in.
        let queue = unsafe { sys::ibv_create_srq(domain.as_ptr(), &mut attributes) };
        let queue = NonNull::new(queue).ok_or_else(|| error::last("ibv_create_srq"))?;
        Ok(Self(Arc::new(SharedReceiveQueue {
            queue,
            domain: domain.clone(),
        })))
    }

    pub(super) fn post(&self, requests: &[ReceiveWorkRequest]) -> Result<(), (usize, ProviderError)> {
        for (index, chunk) in requests.chunks(CHAIN_MAX).enumerate() {
            self.post_chain(chunk)
                .map_err(|(posted, error)| (index * CHAIN_MAX + posted, error))?;
        }
        Ok(())
    }

    fn post_chain(&self, requests: &[ReceiveWorkRequest]) -> Result<(), (usize, ProviderError)> {
        let mut entries = [const { MaybeUninit::<sys::ibv_sge>::uninit() }; CHAIN_MAX];
        let mut chain = [const { MaybeUninit::<sys::ibv_recv_wr>::uninit() }; CHAIN_MAX];
        let entries_base: *mut sys::ibv_sge = entries.as_mut_ptr().cast();
        let base: *mut sys::ibv_recv_wr = chain.as_mut_ptr().cast();
        for (index, request) in requests.iter().enumerate() {
            let last = index + 1 == requests.len();
            // SAFETY: a chunk has at most CHAIN_MAX requests, so every pointer is inside its array.
            unsafe {
                entries_base.add(index).write(entry(&request.sge));
                base.add(index).write(sys::ibv_recv_wr {
                    wr_id: request.token,
                    next: if last { ptr::null_mut() } else { base.add(index + 1) },
                    sg_list: entries_base.add(index),
                    num_sge: 1,
                });
            }
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queue is alive; the chain is filled in and ends in null; the device reads it during the call only.
        let errno = unsafe { sys::ibv_post_srq_recv(self.0.queue.as_ptr(), base, &mut bad) };
        match errno {
            0 => Ok(()),
            errno => Err((
                position(base, bad, requests.len()),
                error::from_errno("ibv_post_srq_recv", errno),
            )),
        }
    }
}

/// How many requests of a chain came before the one that failed; 0 if the library did not say.
fn position<T>(base: *const T, bad: *const T, length: usize) -> usize {
    let bytes = (bad as usize).wrapping_sub(base as usize);
    let index = bytes / size_of::<T>();
    if index < length { index } else { 0 }
}

/// A queue pair.
#[derive(Debug)]
pub struct VerbsQueuePair {
    queue_pair: NonNull<sys::ibv_qp>,
    number: u32,
    domain: VerbsProtectionDomain,
    completion_queue: VerbsCompletionQueue,
    receive_queue: VerbsSharedReceiveQueue,
}

// SAFETY: libibverbs' objects may be used from any thread.
unsafe impl Send for VerbsQueuePair {}

impl Drop for VerbsQueuePair {
    fn drop(&mut self) {
        // SAFETY: ours alone. Async events are acknowledged when taken, so this does not wait.
        let errno = unsafe { sys::ibv_destroy_qp(self.queue_pair.as_ptr()) };
        let parents = (
            self.domain.clone(),
            self.completion_queue.clone(),
            self.receive_queue.clone(),
        );
        keep_if_refused(errno, parents);
    }
}

impl VerbsQueuePair {
    pub(super) fn create(
        domain: &VerbsProtectionDomain,
        completion_queue: &VerbsCompletionQueue,
        receive_queue: &VerbsSharedReceiveQueue,
        send_work_requests_max: u32,
    ) -> Result<Self, ProviderError> {
        let mut attributes = sys::ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: completion_queue.as_ptr(),
            recv_cq: completion_queue.as_ptr(),
            srq: receive_queue.0.queue.as_ptr(),
            cap: sys::ibv_qp_cap {
                max_send_wr: send_work_requests_max,
                max_recv_wr: 0,
                max_send_sge: 1,
                max_recv_sge: 0,
                max_inline_data: 0,
            },
            qp_type: sys::ibv_qp_type::IBV_QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: domain and queues are alive, and the attributes are filled in.
        let queue_pair = unsafe { sys::ibv_create_qp(domain.as_ptr(), &mut attributes) };
        let queue_pair = NonNull::new(queue_pair).ok_or_else(|| error::last("ibv_create_qp"))?;
        Ok(Self {
            queue_pair,
            // SAFETY: just created.
            number: unsafe { queue_pair.as_ref().qp_num },
            domain: domain.clone(),
            completion_queue: completion_queue.clone(),
            receive_queue: receive_queue.clone(),
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn ready(
        &mut self,
        connection: &VerbsConnectionId,
        parameters: &ConnectParameters,
    ) -> Result<(), ProviderError> {
        let (mut attributes, mask) = connection.queue_pair_attributes(sys::ibv_qp_state::IBV_QPS_INIT)?;
        // The host never reads or writes our memory.
        attributes.qp_access_flags = 0;
        self.modify(&mut attributes, mask)?;

        let (mut attributes, mask) = connection.queue_pair_attributes(sys::ibv_qp_state::IBV_QPS_RTR)?;
        attributes.max_dest_rd_atomic = parameters.responder_resources;
        // Larger packets than our own interface takes would be lost, and sent again, for ever.
        let (theirs, ours) = (mtu_bytes(attributes.path_mtu), self.domain.0.device.active_mtu()?);
        if theirs > ours {
            let message = format!(
                "the host sends packets of up to {theirs} bytes, and this device takes {ours}: give the interfaces of \
                 both the same MTU"
            );
            return Err(error::own("ibv_modify_qp", libc::EMSGSIZE, message));
        }
        self.modify(&mut attributes, mask)?;

        let (mut attributes, mask) = connection.queue_pair_attributes(sys::ibv_qp_state::IBV_QPS_RTS)?;
        attributes.max_rd_atomic = parameters.initiator_depth;
        attributes.retry_cnt = parameters.retry_count;
        attributes.rnr_retry = parameters.rnr_retry_count;
        attributes.timeout = parameters.ack_timeout;
        self.modify(&mut attributes, mask)
    }

    pub(super) fn fail(&mut self) -> Result<(), ProviderError> {
        // SAFETY: plain numbers: all-zero is a value, and only the state is used.
        let mut attributes: sys::ibv_qp_attr = unsafe { MaybeUninit::zeroed().assume_init() };
        attributes.qp_state = sys::ibv_qp_state::IBV_QPS_ERR;
        self.modify(&mut attributes, sys::ibv_qp_attr_mask::IBV_QP_STATE.0 as i32)
    }

    fn modify(&mut self, attributes: &mut sys::ibv_qp_attr, mask: i32) -> Result<(), ProviderError> {
        // SAFETY: the queue pair is alive, and the attributes named by the mask are filled in.
        let errno = unsafe { sys::ibv_modify_qp(self.queue_pair.as_ptr(), attributes, mask & !RESERVED_ATTRIBUTES) };
        match errno {
            0 => Ok(()),
            errno => Err(error::from_errno("ibv_modify_qp", errno)),
        }
    }

    pub(super) fn post(&mut self, requests: &[SendWorkRequest]) -> Result<(), (usize, ProviderError)> {
        for (index, chunk) in requests.chunks(CHAIN_MAX).enumerate() {
            self.post_chain(chunk)
                .map_err(|(posted, error)| (index * CHAIN_MAX + posted, error))?;
        }
        Ok(())
    }

    fn post_chain(&mut self, requests: &[SendWorkRequest]) -> Result<(), (usize, ProviderError)> {
        let mut entries = [const { MaybeUninit::<sys::ibv_sge>::uninit() }; CHAIN_MAX];
        let mut chain = [const { MaybeUninit::<sys::ibv_send_wr>::uninit() }; CHAIN_MAX];
        let entries_base: *mut sys::ibv_sge = entries.as_mut_ptr().cast();
        let base: *mut sys::ibv_send_wr = chain.as_mut_ptr().cast();
        for (index, request) in requests.iter().enumerate() {
            let last = index + 1 == requests.len();
            // SAFETY: a chunk has at most CHAIN_MAX requests, so every pointer is inside its array.
            unsafe {
                entries_base.add(index).write(entry(&request.sge));
                let mut value = send_work_request(request);
                value.next = if last { ptr::null_mut() } else { base.add(index + 1) };
                value.sg_list = entries_base.add(index);
                base.add(index).write(value);
            }
        }
        let mut bad = ptr::null_mut();
        // SAFETY: the queue pair is alive; the chain is filled in and ends in null; the device reads it during the call
        // only.
        let errno = unsafe { sys::ibv_post_send(self.queue_pair.as_ptr(), base, &mut bad) };
        match errno {
            0 => Ok(()),
            errno => Err((
                position(base, bad, requests.len()),
                error::from_errno("ibv_post_send", errno),
            )),
        }
    }
}

/// Everything of a work request but its place in the chain.
fn send_work_request(request: &SendWorkRequest) -> sys::ibv_send_wr {
    use sys::ibv_wr_opcode as opcode;
    // SAFETY: numbers, null pointers and unions of them: all-zero is a value.
    let mut value: sys::ibv_send_wr = unsafe { MaybeUninit::zeroed().assume_init() };
    value.wr_id = request.token;
    value.num_sge = i32::from(request.sge.length > 0);
    value.send_flags = if request.signaled {
        sys::ibv_send_flags::IBV_SEND_SIGNALED.0
    } else {
        0
    };
    match request.operation {
        SendOperation::Send => value.opcode = opcode::IBV_WR_SEND,
        SendOperation::SendWithInvalidate { remote_key } => {
            value.opcode = opcode::IBV_WR_SEND_WITH_INV;
            value.imm_data_invalidated_rkey_union.invalidated_rkey = remote_key;
        }
        SendOperation::RdmaWrite {
            remote_address,
            remote_key,
        } => {
            value.opcode = opcode::IBV_WR_RDMA_WRITE;
            value.wr.rdma = sys::rdma_t {
                remote_addr: remote_address,
                rkey: remote_key,
            };
        }
        SendOperation::RdmaRead {
            remote_address,
            remote_key,
        } => {
            value.opcode = opcode::IBV_WR_RDMA_READ;
            value.wr.rdma = sys::rdma_t {
                remote_addr: remote_address,
                rkey: remote_key,
            };
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: SendOperation, length: u32, signaled: bool) -> SendWorkRequest {
        SendWorkRequest {
            token: 7,
            operation,
            sge: Sge {
                address: 0x1000,
                length,
                local_key: 3,
            },
            signaled,
        }
    }

    #[test]
    fn a_work_request_carries_its_operation_keys_and_flags() {
        let read = SendOperation::RdmaRead {
            remote_address: 0xabc,
            remote_key: 9,
        };
        let value = send_work_request(&request(read, 512, true));
        assert_eq!((value.wr_id, value.num_sge), (7, 1));
        assert_eq!(value.opcode, sys::ibv_wr_opcode::IBV_WR_RDMA_READ);
        assert_eq!(value.send_flags, sys::ibv_send_flags::IBV_SEND_SIGNALED.0);
        // SAFETY: the operation wrote this member.
        let rdma = unsafe { value.wr.rdma };
        assert_eq!((rdma.remote_addr, rdma.rkey), (0xabc, 9));

        let invalidate = SendOperation::SendWithInvalidate { remote_key: 5 };
        let value = send_work_request(&request(invalidate, 16, false));
        assert_eq!(value.opcode, sys::ibv_wr_opcode::IBV_WR_SEND_WITH_INV);
        assert_eq!(value.send_flags, 0);
        // SAFETY: the operation wrote this member.
        assert_eq!(unsafe { value.imm_data_invalidated_rkey_union.invalidated_rkey }, 5);
    }

    #[test]
    fn a_length_of_zero_sends_no_memory() {
        assert_eq!(send_work_request(&request(SendOperation::Send, 0, true)).num_sge, 0);
    }

    #[test]
    fn the_failed_request_of_a_chain_is_found_by_its_pointer() {
        let chain = [0_u64; 4];
        let base = chain.as_ptr();
        assert_eq!(position(base, base.wrapping_add(2), 4), 2);
        assert_eq!(position(base, ptr::null(), 4), 0);
    }

    #[test]
    fn completions_tell_success_flush_and_failure_apart() {
        // SAFETY: plain numbers and a union of them: all-zero is a value.
        let mut entry: sys::ibv_wc = unsafe { MaybeUninit::zeroed().assume_init() };
        entry.opcode = sys::ibv_wc_opcode::IBV_WC_RECV;
        entry.byte_len = 64;
        entry.qp_num = 17;
        let value = completion(&entry);
        assert_eq!(
            (value.status, value.kind),
            (CompletionStatus::Success, CompletionKind::Receive)
        );
        assert_eq!((value.byte_length, value.queue_pair_number), (64, 17));
        entry.status = sys::ibv_wc_status::IBV_WC_WR_FLUSH_ERR;
        assert_eq!(completion(&entry).status, CompletionStatus::Flushed);
        assert_eq!(completion(&entry).byte_length, 0);
        entry.status = sys::ibv_wc_status::IBV_WC_LOC_QP_OP_ERR;
        assert_eq!(completion(&entry).status, CompletionStatus::Error(2));
    }
}
