//! Completion queues: capsules that came in, work requests that were executed.

use std::time::Duration;

use crate::backend::Backend;
use crate::engine::messages::{CloseReason, Handle, ToControl};
use crate::engine::poller::Poller;
use crate::engine::request::{After, State};
use crate::engine::share::{Polling, WaitingCapsule};
use crate::engine::token::{self, TokenKind};
use crate::nvme::command::COMMAND_BYTES;
use crate::provider::{CompletionStatus, Provider, ProviderError, WorkCompletion};

/// Completions taken from one queue in one step.
const BATCH: usize = 32;

/// How long polling may fail before the queue counts as broken.
const POLLING_FAILS_MAX: Duration = Duration::from_millis(100);

/// `IBV_WC_LOC_LEN_ERR`: the host sent more than a receive holds.
const LOCAL_LENGTH_ERROR: u32 = 1;

impl<P: Provider, B: Backend> Poller<P, B> {
    pub(super) fn poll_completion_queues(&mut self) -> bool {
        let mut worked = false;
        for slot in self.shares.slots() {
            if let Some(share) = self.shares.handle(slot) {
                worked |= self.poll_completion_queue(share);
            }
        }
        worked
    }

    fn poll_completion_queue(&mut self, share: Handle) -> bool {
        let mut batch = [WorkCompletion::EMPTY; BATCH];
        let queue = &self.shares[share].resources.completion_queue;
        let count = match self.provider.poll_completions(queue, &mut batch) {
            Ok(count) => count,
            Err(error) => {
                self.polling_failed(share, error);
                return false;
            }
        };
        self.shares[share].polling = Polling::Works;
        self.shares[share].look.taken(count, self.step);
        for completion in &batch[..count] {
            match token::unpack(completion.token) {
                Some((TokenKind::Receive, receive)) => self.complete_receive(share, receive, completion),
                Some((kind @ (TokenKind::Fetch | TokenKind::Data | TokenKind::Response), request)) => {
                    self.complete_send(share, kind, request, completion.status);
                }
                Some((TokenKind::Backend, _)) | None => self.count_stale(share),
            }
        }
        count > 0
    }

    /// Once may be chance. A queue that goes on failing has an async event (CQ_ERR) at best: without it, the port would
    /// stand still for ever.
    #[cold]
    fn polling_failed(&mut self, share: Handle, error: ProviderError) {
        let now = self.now;
        let found = &mut self.shares[share];
        match found.polling {
            Polling::Works => found.polling = Polling::Fails { since: now },
            Polling::Fails { since } if now.saturating_duration_since(since) >= POLLING_FAILS_MAX => {
                found.polling = Polling::Broken;
                let (port, epoch) = (found.resources.port, found.resources.epoch);
                self.outbox.send(ToControl::QueueBroken { port, epoch, error });
            }
            Polling::Fails { .. } | Polling::Broken => {}
        }
    }

    fn count_stale(&self, share: Handle) {
        self.counters.stale_completions.increment();
        self.shares[share].resources.counters.stale_completions.increment();
    }

    fn complete_receive(&mut self, share: Handle, receive: Handle, completion: &WorkCompletion) {
        if !self.shares[share].receives.complete(receive) {
            return self.count_stale(share);
        }
        let Some(queue_pair) = self.shares[share].numbers.get(&completion.queue_pair_number).copied() else {
            self.shares[share].receives.release(receive.slot);
            return self.count_stale(share);
        };
        if let Err(broken) = self.accept_capsule(queue_pair, completion) {
            self.shares[share].receives.release(receive.slot);
            if let Some(reason) = broken {
                self.close_queue_pair(queue_pair, reason);
            }
            return;
        }
        let capsule = WaitingCapsule {
            receive: receive.slot,
            queue_pair,
            length: completion.byte_length,
        };
        self.admit_capsule(share, capsule);
    }

    /// Whether the capsule is to be looked at; if not, why the queue pair is taken down (`None`: it already is).
    fn accept_capsule(&mut self, handle: Handle, completion: &WorkCompletion) -> Result<(), Option<CloseReason>> {
        let receive_bytes = self.shares[self.queue_pairs[handle].share]
            .resources
            .sizing
            .receive_bytes;
        let queue_pair = &mut self.queue_pairs[handle];
        if !queue_pair.is_active() {
            return Err(None);
        }
        match completion.status {
            CompletionStatus::Success => {}
            CompletionStatus::Error(LOCAL_LENGTH_ERROR) => return Err(Some(CloseReason::ProtocolError)),
            CompletionStatus::Flushed | CompletionStatus::Error(_) => return Err(Some(CloseReason::TransportError)),
        }
        // The transport cannot deliver more than it was given room for; a shorter capsule holds no command.
        if (completion.byte_length as usize) < COMMAND_BYTES || completion.byte_length > receive_bytes {
            return Err(Some(CloseReason::ProtocolError));
        }
        if queue_pair.outstanding >= u32::from(queue_pair.queue_size) {
            return Err(Some(CloseReason::ProtocolError));
        }
        queue_pair.outstanding += 1;
        queue_pair.advance_head();
        Ok(())
    }

    fn complete_send(&mut self, share: Handle, kind: TokenKind, handle: Handle, status: CompletionStatus) {
        let Some(request) = self.requests.get_mut(handle).filter(|request| request.share == share) else {
            return self.count_stale(share);
        };
        let posted = &mut request.posted;
        let reaped = match kind {
            TokenKind::Fetch => u32::from(std::mem::take(&mut posted.fetch)),
            TokenKind::Data => u32::from(std::mem::take(&mut posted.data)),
            TokenKind::Response if posted.response => {
                // Work requests of a queue pair complete in order: the unsignaled RDMA WRITE before it is done too.
                let with_data = std::mem::take(&mut posted.data);
                posted.response = false;
                1 + u32::from(with_data)
            }
            TokenKind::Response | TokenKind::Receive | TokenKind::Backend => 0,
        };
        if reaped == 0 {
            return self.count_stale(share);
        }
        let (abandoned, after, owner) = (request.abandoned, request.after, request.queue_pair);
        let queue_pair = &mut self.queue_pairs[owner];
        queue_pair.return_credits(reaped);
        if status != CompletionStatus::Success && queue_pair.is_active() {
            // The request is abandoned with all others, and released once the device is done with it.
            self.close_queue_pair(owner, CloseReason::TransportError);
            return self.release_if_idle(handle);
        }
        if abandoned {
            return self.release_if_idle(handle);
        }
        if !queue_pair.sends.is_empty() {
            self.mark_dirty(owner);
        }
        match kind {
            TokenKind::Fetch => self.host_data_arrived(handle),
            TokenKind::Response => {
                self.release(handle);
                if let After::Close(reason) = after {
                    self.close_queue_pair(owner, reason);
                }
            }
            TokenKind::Data | TokenKind::Receive | TokenKind::Backend => {}
        }
    }

    fn host_data_arrived(&mut self, handle: Handle) {
        assert!(
            self.requests[handle].state == State::Fetching,
            "data arrives for a request that fetches"
        );
        self.requests[handle].state = State::Planned;
        self.proceed(handle);
    }
}
