//! A queue pair as its poller owns it.

use std::net::SocketAddr;
use std::time::Instant;

use crate::engine::list::{LinkKind, RequestList};
use crate::engine::messages::{CloseReason, ConnectionKey, Handle, NewQueuePair};
use crate::engine::share::Moment;
use crate::nvme::completion::NO_FLOW_CONTROL;
use crate::provider::Provider;

/// Whether a queue pair serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Commands are taken and answered.
    Active,
    /// In the error state: nothing is posted any more; it waits for what is in flight.
    Closing {
        /// Why.
        reason: CloseReason,
        /// When it was put into the error state, in the life of its completion queue.
        since: Moment,
        /// When it should be done.
        deadline: Instant,
        /// That passed, or its port's drain's deadline did.
        quarantined: bool,
    },
}

/// A queue pair and what is in flight on it.
#[derive(Debug)]
pub struct QueuePair<P: Provider> {
    /// The verbs object.
    pub verbs: P::QueuePair,
    /// Its number on the wire; names it in receive completions.
    pub number: u32,
    /// The control thread's record.
    pub connection: ConnectionKey,
    /// Its port's share.
    pub share: Handle,
    /// Queue id of the connection manager's private data.
    pub queue_id: u16,
    /// Most commands that may be outstanding.
    pub queue_size: u16,
    /// The host's address.
    pub source: SocketAddr,
    /// Address and port the host connected to.
    pub local: SocketAddr,
    /// Whether it serves.
    pub service: Service,
    /// Association, once a Connect command succeeded.
    pub association: Option<Handle>,
    /// When a queue pair without a Connect is taken down.
    pub connect_deadline: Instant,
    /// When it is taken down because it had to authenticate, or began to do so anew, and did not; `None` once it did, or
    /// need not.
    pub authentication_deadline: Option<Instant>,
    /// That its authentication failed was reported.
    pub authentication_reported: bool,
    /// Send-queue entries there are.
    pub send_credits_max: u32,
    /// Send-queue entries that are free. What is missing is posted and not reaped.
    pub send_credits: u32,
    /// Requests that want to send, first come first served.
    pub sends: RequestList,
    /// Every request of this queue pair.
    pub requests: RequestList,
    /// Commands received and not yet answered (event requests that the controller keeps are among them).
    pub outstanding: u32,
    /// In the poller's list of queue pairs with something to send.
    pub dirty: bool,
    /// Among its share's queue pairs that nothing is in flight on any more.
    pub settled: bool,
    queue_head: u16,
    flow_control: bool,
}

impl<P: Provider> QueuePair<P> {
    /// Takes over a queue pair that is in RTS.
    #[must_use]
    pub fn new(new: NewQueuePair<P>, number: u32, share: Handle, connect_deadline: Instant) -> Self {
        Self {
            verbs: new.queue_pair,
            number,
            connection: new.connection,
            share,
            queue_id: new.queue_id,
            queue_size: new.queue_size,
            source: new.source,
            local: new.local,
            service: Service::Active,
            association: None,
            connect_deadline,
            authentication_deadline: None,
            authentication_reported: false,
            send_credits_max: new.send_work_requests_max,
            send_credits: new.send_work_requests_max,
            sends: RequestList::new(LinkKind::Wait),
            requests: RequestList::new(LinkKind::Owner),
            outstanding: 0,
            dirty: false,
            settled: false,
            queue_head: 0,
            flow_control: true,
        }
    }

    /// Whether it serves.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.service == Service::Active
    }

    /// Admin commands and Connect: may use the reserves.
    #[must_use]
    pub fn is_privileged(&self) -> bool {
        self.queue_id == 0 || self.association.is_none()
    }

    /// The host connected without submission queue flow control.
    pub fn disable_flow_control(&mut self) {
        self.flow_control = false;
    }

    /// A command was taken from the submission queue.
    pub fn advance_head(&mut self) {
        self.queue_head = (self.queue_head + 1) % self.queue_size.max(1);
    }

    /// SQHD of the next response.
    #[must_use]
    pub fn reported_head(&self) -> u16 {
        if self.flow_control {
            self.queue_head
        } else {
            NO_FLOW_CONTROL
        }
    }

    /// A send-queue entry was reaped.
    pub fn return_credits(&mut self, count: u32) {
        self.send_credits += count;
        assert!(
            self.send_credits <= self.send_credits_max,
            "more work requests reaped than posted"
        );
    }

    /// Everything posted to the send queue is reaped.
    #[must_use]
    pub fn sends_reaped(&self) -> bool {
        self.send_credits == self.send_credits_max
    }
}
