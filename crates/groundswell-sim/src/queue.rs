//! The events to come of a world, in the order of their times.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

#[derive(Debug)]
struct Timed<E> {
    at: u64,
    /// Events of one time happen in the order in which they were made.
    number: u64,
    event: E,
}

impl<E> Ord for Timed<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Timed<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Timed<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Timed<E> {}

/// Events with their times.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<Timed<E>>>,
    made: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), made: 0 }
    }
}

impl<E> Queue<E> {
    /// Lets something happen at a time.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        self.made += 1;
        self.heap.push(Reverse(Timed { at, number: self.made, event }));
    }

    /// The next event, and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.heap.pop().map(|Reverse(timed)| (timed.at, timed.event))
    }
}
