//! First-in-first-out lists of requests, linked through the requests themselves: joining and leaving cost no
//! allocation and no search.

use crate::engine::messages::Handle;
use crate::engine::request::Request;
use crate::engine::table::Table;

const NIL: u32 = u32::MAX;

/// Which of a request's two links a list uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// The requests of one queue pair.
    Owner = 0,
    /// What the request waits for: it is in one such list at most.
    Wait = 1,
}

/// A request's place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    previous: u32,
    next: u32,
    linked: bool,
}

impl Link {
    /// In no list.
    pub const NONE: Self = Self {
        previous: NIL,
        next: NIL,
        linked: false,
    };

    /// Whether the request is in a list of this kind.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.linked
    }
}

/// A list of requests.
#[derive(Debug)]
pub struct RequestList {
    kind: LinkKind,
    head: u32,
    tail: u32,
    length: u32,
}

impl RequestList {
    /// An empty list over links of this kind.
    #[must_use]
    pub fn new(kind: LinkKind) -> Self {
        Self {
            kind,
            head: NIL,
            tail: NIL,
            length: 0,
        }
    }

    /// Requests in the list.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.length
    }

    /// Nobody is in the list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The request that came first.
    #[must_use]
    pub fn front(&self, requests: &Table<Request>) -> Option<Handle> {
        if self.head == NIL {
            None
        } else {
            requests.handle(self.head)
        }
    }

    /// The request behind this one.
    #[must_use]
    pub fn next(&self, requests: &Table<Request>, handle: Handle) -> Option<Handle> {
        let next = requests[handle].links[self.kind as usize].next;
        if next == NIL { None } else { requests.handle(next) }
    }

    /// Joins at the end.
    pub fn push_back(&mut self, requests: &mut Table<Request>, handle: Handle) {
        let tail = self.tail;
        let link = self.link(requests, handle.slot);
        assert!(!link.linked, "a request joins one list of a kind at a time");
        *link = Link {
            previous: tail,
            next: NIL,
            linked: true,
        };
        if tail == NIL {
            self.head = handle.slot;
        } else {
            self.link(requests, tail).next = handle.slot;
        }
        self.tail = handle.slot;
        self.length += 1;
    }

    /// Joins at the front: it was there before and goes back to its place.
    pub fn push_front(&mut self, requests: &mut Table<Request>, handle: Handle) {
        let head = self.head;
        let link = self.link(requests, handle.slot);
        assert!(!link.linked, "a request joins one list of a kind at a time");
        *link = Link {
            previous: NIL,
            next: head,
            linked: true,
        };
        if head == NIL {
            self.tail = handle.slot;
        } else {
            self.link(requests, head).previous = handle.slot;
        }
        self.head = handle.slot;
        self.length += 1;
    }

    /// Takes the first one out.
    pub fn pop_front(&mut self, requests: &mut Table<Request>) -> Option<Handle> {
        let handle = self.front(requests)?;
        self.remove(requests, handle);
        Some(handle)
    }

    /// Leaves the list, from wherever it stands.
    pub fn remove(&mut self, requests: &mut Table<Request>, handle: Handle) {
        let link = *self.link(requests, handle.slot);
        assert!(link.linked, "a request leaves a list it is in");
        if link.previous == NIL {
            assert!(self.head == handle.slot, "the request is in another list");
            self.head = link.next;
        } else {
            self.link(requests, link.previous).next = link.next;
        }
        if link.next == NIL {
            assert!(self.tail == handle.slot, "the request is in another list");
            self.tail = link.previous;
        } else {
            self.link(requests, link.next).previous = link.previous;
        }
        *self.link(requests, handle.slot) = Link::NONE;
        self.length -= 1;
    }

    fn link<'a>(&self, requests: &'a mut Table<Request>, slot: u32) -> &'a mut Link {
        let handle = requests.handle(slot).expect("a listed request is alive");
        &mut requests[handle].links[self.kind as usize]
    }
}
