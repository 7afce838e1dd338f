//! Responses and doorbells. Everything that wants to be sent joins its queue pair's list; at the end of a step each
//! queue pair posts as much as its send queue has room for, with one doorbell.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::backend::Backend;
use crate::engine::list::Link;
use crate::engine::messages::{CloseReason, Handle};
use crate::engine::poller::Poller;
use crate::engine::request::{HostData, Request, State};
use crate::engine::token::{self, TokenKind};
use crate::nvme::command::{COMMAND_BYTES, Command};
use crate::nvme::completion::{COMPLETION_BYTES, Completion};
use crate::provider::{Provider, SendOperation, SendWorkRequest};

/// Work requests posted with one doorbell.
const CHAIN_MAX: usize = 32;

/// How long after its queue pair's failure an RDMA WRITE without a SEND behind it may take to fail. Devices flush a
/// failed queue pair in milliseconds.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

type Chain = ArrayVec<SendWorkRequest, CHAIN_MAX>;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Answers a request: what it no longer needs goes back at once, the response waits for its doorbell.
    pub(super) fn respond(&mut self, handle: Handle, completion: Completion) {
        let request = &mut self.requests[handle];
        assert!(
            request.is_idle() && !request.abandoned,
            "a request is answered once all of its work is done"
        );
        request.completion = completion;
        request.state = State::ResponseQueued;
        let share = &mut self.shares[request.share];
        let kept = usize::from(request.sends_data);
        for buffer in request.buffers[kept..].iter_mut().filter_map(Option::take) {
            share.give_back(buffer);
        }
        if let Some(receive) = request.receive.take() {
            share.receives.release(receive);
        }
        self.queue_send(handle);
    }

    /// Joins the queue pair's send list, for a fetch or a response.
    pub(super) fn queue_send(&mut self, handle: Handle) {
        let owner = self.requests[handle].queue_pair;
        let queue_pair = &mut self.queue_pairs[owner];
        assert!(queue_pair.is_active(), "nothing is queued on a queue pair in error");
        queue_pair.sends.push_back(&mut self.requests, handle);
        self.mark_dirty(owner);
    }

    pub(super) fn mark_dirty(&mut self, handle: Handle) {
        let queue_pair = &mut self.queue_pairs[handle];
        if !queue_pair.dirty {
            queue_pair.dirty = true;
            self.dirty.push(handle);
        }
    }

    pub(super) fn flush_sends(&mut self) {
        while let Some(handle) = self.dirty.pop() {
            if let Some(queue_pair) = self.queue_pairs.get_mut(handle) {
                queue_pair.dirty = false;
                self.flush_queue_pair(handle);
            }
        }
    }

    fn flush_queue_pair(&mut self, handle: Handle) {
        loop {
            let queue_pair = &self.queue_pairs[handle];
            if !queue_pair.is_active() || !self.shares[queue_pair.share].may_post() {
                return;
            }
            let chain = self.build_chain(handle);
            if chain.is_empty() {
                return;
            }
            self.counters.doorbells.increment();
            self.counters.send_work_requests.add(chain.len() as u64);
            let queue_pair = &mut self.queue_pairs[handle];
            if let Err((posted, _)) = self.provider.post_sends(&mut queue_pair.verbs, &chain) {
                let posted = posted + self.complete_pair(handle, &chain[posted..]);
                self.take_back(handle, &chain[posted..]);
                return self.close_queue_pair(handle, CloseReason::TransportError);
            }
        }
    }

    /// After a chain broke in the middle: if the data's RDMA WRITE was posted and the SEND that answers for both was
    /// not, posts that once more, so that there will be a completion to tell when the write is done. How many more
    /// are posted.
    fn complete_pair(&mut self, handle: Handle, unposted: &[SendWorkRequest]) -> usize {
        let Some(first) = unposted.first() else { return 0 };
        let (_, request) = token::unpack(first.token).expect("our own token");
        // The data of a chain's own response is posted before it: so it is the response that is missing.
        let missing = matches!(
            first.operation,
            SendOperation::Send | SendOperation::SendWithInvalidate { .. }
        );
        if !missing || !self.requests[request].posted.data {
            return 0;
        }
        let queue_pair = &mut self.queue_pairs[handle];
        usize::from(
            self.provider
                .post_sends(&mut queue_pair.verbs, std::slice::from_ref(first))
                .is_ok(),
        )
    }

    /// Takes requests from the send list, in order, as far as send queue and chain have room.
    fn build_chain(&mut self, handle: Handle) -> Chain {
        let mut chain = Chain::new();
        let now = self.now;
        let Self {
            queue_pairs,
            requests,
            shares,
            counters,
            ..
        } = self;
        let queue_pair = &mut queue_pairs[handle];
        while let Some(front) = queue_pair.sends.front(requests) {
            let credits = requests[front].send_credits();
            if credits > queue_pair.send_credits || chain.remaining_capacity() < credits as usize {
                break;
            }
            queue_pair.sends.remove(requests, front);
            queue_pair.send_credits -= credits;
            let request = &mut requests[front];
            if request.state == State::FetchQueued {
                chain.push(fetch(request, front));
                continue;
            }
            if request.sends_data {
                chain.push(data(request, front));
            }
            assert!(queue_pair.outstanding > 0, "every response answers a command");
            queue_pair.outstanding -= 1;
            let entry = request.completion.encode(queue_pair.reported_head());
            let slot = shares[request.share].response(request.response);
            slot.slice(COMPLETION_BYTES).copy_from_slice(&entry);
            let sge = slot.sge(entry.len() as u32);
            chain.push(SendWorkRequest {
                token: token::pack(TokenKind::Response, front),
                operation: match request.invalidate {
                    Some(remote_key) => SendOperation::SendWithInvalidate { remote_key },
                    None => SendOperation::Send,
                },
                sge,
                signaled: true,
            });
            request.posted.response = true;
            request.state = State::Responding;
            counters.record(
                request.operation,
                request.completion.status,
                request.data_bytes,
                now - request.received_at,
            );
        }
        chain
    }

    /// Work requests that were not posted after all: the queue pair is about to be taken down.
    fn take_back(&mut self, handle: Handle, unposted: &[SendWorkRequest]) {
        self.queue_pairs[handle].return_credits(unposted.len() as u32);
        for work_request in unposted {
            let (kind, request) = token::unpack(work_request.token).expect("our own token");
            let posted = &mut self.requests[request].posted;
            match kind {
                TokenKind::Fetch => posted.fetch = false,
                TokenKind::Data => posted.data = false,
                TokenKind::Response => posted.response = false,
                TokenKind::Receive | TokenKind::Backend => unreachable!("not a send"),
            }
            if kind == TokenKind::Response && posted.data && !unposted.iter().any(|other| is_data_of(other, request)) {
                self.orphans.push((request, self.now + ORPHAN_GRACE));
                self.schedule(self.now + ORPHAN_GRACE);
            }
        }
    }

    /// Ends the RDMA WRITEs that were posted without the SEND behind them and did not fail either: they were executed,
    /// silently. Their buffers stay out of use until the epoch ends, when queue pairs are destroyed before memory.
    pub(super) fn end_orphans(&mut self) {
        for (handle, deadline) in std::mem::take(&mut self.orphans) {
            let Some(request) = self.requests.get_mut(handle) else {
                continue;
            };
            if self.now < deadline {
                self.orphans.push((handle, deadline));
                self.schedule(deadline);
                continue;
            }
            assert!(
                request.abandoned && request.posted.data,
                "an orphan ends with its completion, or here"
            );
            request.posted.data = false;
            let buffer = request.buffers[0].take().expect("data is sent from a buffer");
            self.shares[request.share].strand(buffer);
            self.queue_pairs[request.queue_pair].return_credits(1);
            self.release(handle);
        }
    }

    /// Sends the async events of every association that has some.
    pub(super) fn send_events(&mut self) {
        if !std::mem::take(&mut self.events_blocked) {
            return;
        }
        for slot in self.associations.slots() {
            if let Some(association) = self.associations.handle(slot) {
                self.send_association_events(association);
            }
        }
    }

    pub(super) fn send_association_events(&mut self, association: Handle) {
        loop {
            let Some(found) = self.associations.get_mut(association) else {
                return;
            };
            let admin = found.queue_pairs[0].expect("an association lives as long as its admin queue");
            let Some(response) = self.shares[found.share].take_response(true) else {
                self.events_blocked = true;
                return;
            };
            let Some(completion) = found.controller.next_event() else {
                self.shares[found.share].return_response(response);
                return;
            };
            let handle = self.new_request(admin, Command::from_bytes([0; COMMAND_BYTES]), response);
            self.respond(handle, completion);
        }
    }

    pub(super) fn post_receives(&mut self) {
        for (_, share) in self.shares.iter_mut() {
            if share.may_post() && share.receives.idle() > 0 {
                // What could not be posted stays idle and is tried again in the next step.
                let _ = share
                    .receives
                    .post(&self.provider, &share.resources.shared_receive_queue);
            }
        }
    }

    /// Gives everything of a request back; its handle is stale from now on.
    pub(super) fn release(&mut self, handle: Handle) {
        self.end_fenced_write(handle);
        let request = self.requests.get_mut(handle).expect("a request ends once");
        assert!(
            request.is_idle(),
            "nothing posted and no backend I/O outlives its request"
        );
        assert!(request.links[1] == Link::NONE, "a request that ends waits for nothing");
        self.queue_pairs[request.queue_pair]
            .requests
            .remove(&mut self.requests, handle);
        let request = self.requests.remove(handle).expect("it was there");
        let share = &mut self.shares[request.share];
        for buffer in request.buffers.into_iter().flatten() {
            share.give_back(buffer);
        }
        if let Some(receive) = request.receive {
            share.receives.release(receive);
        }
        share.return_response(request.response);
        if let Some(backing) = request.backing {
            self.backings.release(backing);
        }
        self.note_settled(request.queue_pair);
    }

    pub(super) fn release_if_idle(&mut self, handle: Handle) {
        if self
            .requests
            .get(handle)
            .is_some_and(|request| request.abandoned && request.is_idle())
        {
            self.release(handle);
        }
    }
}

fn is_data_of(work_request: &SendWorkRequest, request: Handle) -> bool {
    token::unpack(work_request.token) == Some((TokenKind::Data, request))
}

fn fetch(request: &mut Request, handle: Handle) -> SendWorkRequest {
    let (remote_address, remote_key) = remote(request);
    let buffer = request.buffers[0].as_ref().expect("data is fetched into a buffer");
    request.posted.fetch = true;
    request.state = State::Fetching;
    SendWorkRequest {
        token: token::pack(TokenKind::Fetch, handle),
        operation: SendOperation::RdmaRead {
            remote_address,
            remote_key,
        },
        sge: buffer.sge(request.data_bytes),
        signaled: true,
    }
}

fn data(request: &mut Request, handle: Handle) -> SendWorkRequest {
    let (remote_address, remote_key) = remote(request);
    let buffer = request.buffers[0].as_ref().expect("data is sent from a buffer");
    request.posted.data = true;
    SendWorkRequest {
        token: token::pack(TokenKind::Data, handle),
        operation: SendOperation::RdmaWrite {
            remote_address,
            remote_key,
        },
        sge: buffer.sge(request.data_bytes),
        signaled: false,
    }
}

fn remote(request: &Request) -> (u64, u32) {
    match request.host_data {
        HostData::Keyed { address, key } => (address, key),
        HostData::InCapsule { .. } | HostData::None => unreachable!("only keyed data is moved by RDMA"),
    }
}
