//! Connections between the two sides of a document: frames in order, late, until a cut.

use std::collections::VecDeque;

use groundswell_core::kv::KvAuthor;

use super::{
    context::{Event, SideId},
    world::World,
};

#[derive(Debug)]
struct Frame {
    arrives: u64,
    is_ack: bool,
    bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) doc: usize,
    pub(crate) dialled_by: KvAuthor,
    /// Whether more can be sent.
    pub(crate) open: bool,
    /// To each author's side.
    queues: [VecDeque<Frame>; 2],
    /// Which sides have heard the other's hello.
    pub(crate) heard: [bool; 2],
    /// Which sides have said in their hellos that they hold none of their own entries.
    pub(crate) agrees_first: [bool; 2],
    slowest: u64,
    /// How many frames may be under way to one side.
    window: usize,
}

impl World {
    /// Makes a connection.
    pub(crate) fn connect(&mut self, doc: usize, dialled_by: KvAuthor) -> u64 {
        let number = self.cx.number();
        let slowest = if self.cx.rng.chance(20) { 400 } else { 40 };
        let window = if self.bulk && self.cx.rng.chance(70) { 4_000 } else { 2 + self.cx.rng.index(20) };
        let slowest = self.cx.rng.within(1..=slowest);
        let queues = [VecDeque::new(), VecDeque::new()];
        let connection = Connection {
            doc,
            dialled_by,
            open: true,
            queues,
            heard: [false; 2],
            agrees_first: [false; 2],
            slowest,
            window,
        };
        self.connections.insert(number, connection);
        number
    }

    /// Whether this side may send another frame.
    pub(crate) fn has_room(&self, from: SideId, connection: u64) -> bool {
        let to = from.author.other().index();
        self.connections.get(&connection).is_some_and(|one| one.open && one.queues[to].len() < one.window)
    }

    /// Sends a frame; what is sent on a connection that was cut is lost.
    pub(crate) fn send(&mut self, from: SideId, connection: u64, bytes: Vec<u8>, is_ack: bool) {
        let side = from.other();
        let Some(one) = self.connections.get_mut(&connection).filter(|one| one.open) else { return };
        let late = self.cx.now + self.cx.rng.within(1..=one.slowest);
        let queue = &mut one.queues[side.author.index()];
        let arrives = queue.back().map_or(late, |last| last.arrives.max(late));
        queue.push_back(Frame { arrives, is_ack, bytes });
        self.cx.at(arrives, Event::Arrive { side, connection });
    }

    /// Takes the next frame that has arrived. Its sender has room again.
    pub(crate) fn take_frame(&mut self, side: SideId, connection: u64) -> Option<Vec<u8>> {
        let one = self.connections.get_mut(&connection)?;
        let was_full = one.queues[side.author.index()].len() == one.window;
        let frame = one.queues[side.author.index()].pop_front_if(|frame| frame.arrives <= self.cx.now)?;
        if was_full {
            self.cx.at(self.cx.now, Event::Pump { side: side.other(), connection });
        }
        Some(frame.bytes)
    }

    /// Cuts a connection: any tail of what is under way is lost, and each side learns of it some time. What was under way
    /// to `closed_by` is lost in any case.
    pub(crate) fn cut(&mut self, connection: u64, closed_by: Option<KvAuthor>) {
        let Some(one) = self.connections.get_mut(&connection).filter(|one| one.open) else { return };
        one.open = false;
        let doc = one.doc;
        for author in KvAuthor::BOTH {
            let queue = &mut one.queues[author.index()];
            let kept = if closed_by == Some(author) { 0 } else { self.cx.rng.index(queue.len() + 1) };
            let lost = queue.split_off(kept);
            self.cx.report.frames_lost += lost.len() as u64;
            self.cx.report.acks_lost += lost.iter().filter(|frame| frame.is_ack).count() as u64;
            let last = queue.back().map_or(self.cx.now, |frame| frame.arrives.max(self.cx.now));
            let at = last + self.cx.rng.within(0..=300);
            self.cx.at(at, Event::Closed { side: SideId { doc, author }, connection });
        }
        self.cx.note(|| format!("connection {connection} of document {doc} is cut"));
    }
}
