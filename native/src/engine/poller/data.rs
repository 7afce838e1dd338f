//! Data buffers and the host's data: who waits for a buffer, what is fetched, what is handed to the controller.

use crate::backend::Backend;
use crate::engine::buffers::BufferClass;
use crate::engine::messages::Handle;
use crate::engine::poller::Poller;
use crate::engine::request::{HostData, Request, State, Work};
use crate::engine::share::Share;
use crate::nvme::completion::Completion;
use crate::nvme::status::StatusCode;
use crate::provider::Provider;

impl<P: Provider, B: Backend> Poller<P, B> {
    /// Gives the request the buffers its work takes, at once or when its turn comes.
    pub(super) fn obtain_buffers(&mut self, handle: Handle) {
        let request = &self.requests[handle];
        let (needed, privileged) = (request.buffers_needed(), request.privileged);
        if needed == 0 {
            return self.begin_transfer(handle);
        }
        let share = &mut self.shares[request.share];
        let Some(class) = share.class_for(request.data_bytes, needed, privileged) else {
            // The controller holds transfers to what hosts were told; a port served degraded may hold less.
            let completion = Completion::with_status(&request.command, StatusCode::InternalError.retryable());
            return self.respond(handle, completion);
        };
        if share.waiting(class, privileged).is_empty() && share.buffers_available(class, privileged) >= needed {
            self.take_buffers(handle, class);
            self.begin_transfer(handle);
        } else {
            self.requests[handle].state = State::WaitingBuffer(class);
            share.waiting(class, privileged).push_back(&mut self.requests, handle);
        }
    }

    fn take_buffers(&mut self, handle: Handle, class: BufferClass) {
        let request = &mut self.requests[handle];
        let share = &mut self.shares[request.share];
        for index in 0..request.buffers_needed() {
            let buffer = share.take_buffer(class, request.privileged);
            assert!(
                request.buffers[index].is_none() && buffer.is_some(),
                "buffers were counted before"
            );
            request.buffers[index] = buffer;
        }
    }

    /// Serves everyone who waits for something of the port, as far as there is something.
    pub(super) fn serve_waiting(&mut self) {
        for slot in self.shares.slots() {
            let Some(share) = self.shares.handle(slot) else {
                continue;
            };
            for class in BufferClass::ALL {
                for privileged in [true, false] {
                    self.serve_buffer_queue(share, class, privileged);
                }
            }
            self.serve_backlog(share);
        }
        self.serve_backend_queue();
    }

    /// The first in the queue goes first: one that needs two buffers is not overtaken by one that needs one.
    fn serve_buffer_queue(&mut self, share: Handle, class: BufferClass, privileged: bool) {
        while let Some(handle) = self.shares[share].waiting(class, privileged).front(&self.requests) {
            if self.shares[share].buffers_available(class, privileged) < self.requests[handle].buffers_needed() {
                return;
            }
            self.shares[share]
                .waiting(class, privileged)
                .remove(&mut self.requests, handle);
            self.requests[handle].state = State::Planned;
            self.take_buffers(handle, class);
            self.begin_transfer(handle);
        }
    }

    fn begin_transfer(&mut self, handle: Handle) {
        let request = &mut self.requests[handle];
        let keyed = matches!(request.host_data, HostData::Keyed { .. });
        if request.needs_host_data() && keyed && request.data_bytes > 0 {
            request.state = State::FetchQueued;
            self.queue_send(handle);
        } else {
            self.proceed(handle);
        }
    }

    /// Buffers and host data are there: does the work.
    pub(super) fn proceed(&mut self, handle: Handle) {
        match self.requests[handle].work {
            Work::Connect(connect) => self.connect(handle, &connect),
            Work::Receive => self.receive(handle),
            Work::Produce => self.produce(handle),
            Work::Io(_) | Work::Deallocate(_) => self.submit(handle),
            Work::Respond => unreachable!("a request without work is answered at once"),
        }
    }

    fn receive(&mut self, handle: Handle) {
        let now = self.now;
        let Self {
            requests,
            shares,
            queue_pairs,
            associations,
            ..
        } = self;
        let request = &mut requests[handle];
        let queue_pair = &queue_pairs[request.queue_pair];
        let association = queue_pair
            .association
            .expect("only connected queues receive for their controller");
        let command = request.command;
        let data = host_data(&mut shares[request.share], request);
        let controller = &mut associations[association].controller;
        let plan = controller.received(queue_pair.queue_id, &command, data, now);
        if command.is_fabrics() {
            self.after_authentication_command(handle);
        }
        self.carry_out(handle, plan);
    }

    fn produce(&mut self, handle: Handle) {
        let now = self.now;
        let Self {
            requests,
            shares,
            queue_pairs,
            associations,
            ..
        } = self;
        let request = &mut requests[handle];
        let association = queue_pairs[request.queue_pair]
            .association
            .expect("only connected queues produce");
        let command = request.command;
        let length = request.data_bytes as usize;
        let share = &shares[request.share];
        let out = match &mut request.buffers[0] {
            Some(buffer) => share.bytes(buffer, length),
            None => &mut [],
        };
        let queue_id = queue_pairs[request.queue_pair].queue_id;
        let controller = &mut associations[association].controller;
        let completion = controller.produce(queue_id, &command, out, now);
        request.sends_data = completion.status.is_success() && request.buffers[0].is_some();
        if command.is_fabrics() {
            self.after_authentication_command(handle);
        }
        self.respond(handle, completion);
        self.send_association_events(association);
    }

    /// Lends the host's data of a request.
    pub(super) fn with_host_data<T>(&mut self, handle: Handle, look: impl FnOnce(&[u8]) -> T) -> T {
        let request = &mut self.requests[handle];
        look(host_data(&mut self.shares[request.share], request))
    }
}

/// The host's data of a request that has it: in its receive, or in its first buffer.
fn host_data<'a, P: Provider>(share: &'a mut Share<P>, request: &'a mut Request) -> &'a [u8] {
    let length = request.data_bytes as usize;
    match (request.host_data, request.receive, &mut request.buffers[0]) {
        (HostData::InCapsule { at }, Some(receive), _) => {
            let at = at as usize;
            &share.receives.capsule(receive, at + length)[at..]
        }
        (HostData::Keyed { .. }, _, Some(buffer)) => share.bytes(buffer, length),
        _ => {
            assert!(length == 0, "a request that needs data has it");
            &[]
        }
    }
}
