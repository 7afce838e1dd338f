//! What was found so far: states, how they lead to one another, and the ends, in which all is well.

use std::collections::HashMap;

use crate::machine::Choice;

/// What came of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// States.
    pub states: usize,
    /// Transitions: choices that changed the state.
    pub transitions: usize,
    /// Most choices one after the other.
    pub depth_max: usize,
    /// States in which all is well and nothing is left to happen but the link going down. From each, reads and leaving
    /// were tried.
    pub ends: usize,
}

/// One state leads to another.
#[derive(Debug, Clone, Copy)]
struct Edge {
    from: u32,
    to: u32,
    link_down: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Found {
    /// Number of each state, by fingerprint.
    states: HashMap<u64, u32>,
    /// The state and choice by which each was found; of the first, itself.
    origins: Vec<(u32, Choice)>,
    edges: Vec<Edge>,
    ends: Vec<u32>,
    depth_max: usize,
}

/// States from which the port never comes to serve its host again.
pub struct Stuck {
    /// How many.
    pub count: usize,
    /// The way to one of them.
    pub path: Vec<Choice>,
}

impl Found {
    /// The first state.
    pub fn start(&mut self, fingerprint: u64) {
        self.number(fingerprint, (0, Choice::Time));
    }

    fn number(&mut self, fingerprint: u64, origin: (u32, Choice)) -> (u32, bool) {
        let next = u32::try_from(self.states.len()).expect("states fit 32 bits");
        let number = *self.states.entry(fingerprint).or_insert(next);
        if number == next {
            self.origins.push(origin);
        }
        (number, number == next)
    }

    /// A choice led from a state to one with this fingerprint: its number, and whether it is new.
    pub fn led_to(&mut self, from: u32, choice: Choice, link_down: bool, fingerprint: u64) -> (u32, bool) {
        let (to, is_new) = self.number(fingerprint, (from, choice));
        self.edges.push(Edge { from, to, link_down });
        (to, is_new)
    }

    /// All is well in this state.
    pub fn ends_at(&mut self, state: u32) {
        self.ends.push(state);
    }

    /// A state was found so many choices from the start.
    pub fn reached(&mut self, depth: usize) {
        self.depth_max = self.depth_max.max(depth);
    }

    /// In numbers.
    pub fn figures(&self) -> Figures {
        Figures {
            states: self.states.len(),
            transitions: self.edges.len(),
            depth_max: self.depth_max,
            ends: self.ends.len(),
        }
    }

    /// The states that do not lead to one in which all is well if the link only stays up: found backwards from those.
    pub fn stuck(&self) -> Option<Stuck> {
        let ups = self.edges.iter().filter(|edge| !edge.link_down);
        let mut back: Vec<(u32, u32)> = ups.map(|edge| (edge.to, edge.from)).collect();
        back.sort_unstable();
        let mut recovers = vec![false; self.states.len()];
        let mut queue = self.ends.clone();
        queue.iter().for_each(|state| recovers[*state as usize] = true);
        while let Some(state) = queue.pop() {
            let from = back.partition_point(|edge| edge.0 < state);
            for (_, source) in back[from..].iter().take_while(|edge| edge.0 == state) {
                if !std::mem::replace(&mut recovers[*source as usize], true) {
                    queue.push(*source);
                }
            }
        }
        let first = recovers.iter().position(|recovers| !recovers)?;
        Some(Stuck {
            count: recovers.iter().filter(|recovers| !**recovers).count(),
            path: self.path_to(first as u32),
        })
    }

    fn path_to(&self, mut state: u32) -> Vec<Choice> {
        let mut path = Vec::new();
        while state != 0 {
            let (from, choice) = self.origins[state as usize];
            path.push(choice);
            state = from;
        }
        path.reverse();
        path
    }
}
