//! A link between one subscriber and the publisher: frames in order, late, until it is cut.

use std::collections::VecDeque;

use groundswell_core::{
    encoding::decode,
    wire::{FRAME_HEADER_BYTES, Message, frame_length},
};

use crate::{
    checkers::{Broken, Law},
    context::{Context, Event},
    rng::Rng,
};

/// The two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Publisher,
    Subscriber,
}

#[derive(Debug)]
struct Frame {
    arrives: u64,
    bytes: Vec<u8>,
}

/// One link. Each connection over it has a number, so that what belongs to an old one is known.
#[derive(Debug)]
pub(crate) struct Link {
    subscriber: usize,
    connection: Option<u64>,
    connections: u64,
    to_publisher: VecDeque<Frame>,
    to_subscriber: VecDeque<Frame>,
    /// How many frames the publisher may have under way: a slow reader makes it wait.
    window: usize,
    slowest: u64,
    /// No connection is made before.
    pub(crate) down_until: u64,
}

impl Link {
    pub(crate) fn new(subscriber: usize, narrow: bool, rng: &mut Rng) -> Self {
        Self {
            subscriber,
            connection: None,
            connections: 0,
            to_publisher: VecDeque::new(),
            to_subscriber: VecDeque::new(),
            window: 1 + rng.index(if narrow { 2 } else { 16 }),
            slowest: rng.within(10..=if narrow { 10_000 } else { 3_000 }),
            down_until: 0,
        }
    }

    /// Makes a new connection.
    pub(crate) fn open(&mut self) -> u64 {
        self.connections += 1;
        self.connection = Some(self.connections);
        self.to_publisher.clear();
        self.to_subscriber.clear();
        self.connections
    }

    pub(crate) fn connection(&self) -> Option<u64> {
        self.connection
    }

    /// Whether the publisher may send another frame on this connection.
    pub(crate) fn has_room(&self, connection: u64) -> bool {
        self.connection == Some(connection) && self.to_subscriber.len() < self.window
    }

    /// Sends a frame; what is sent on a connection that was cut is lost.
    pub(crate) fn send(&mut self, cx: &mut Context, to: Side, connection: u64, bytes: Vec<u8>) {
        if self.connection != Some(connection) {
            return;
        }
        let late = cx.now + cx.rng.within(1..=self.slowest);
        let queue = match to {
            Side::Publisher => &mut self.to_publisher,
            Side::Subscriber => &mut self.to_subscriber,
        };
        let arrives = queue.back().map_or(late, |last| last.arrives.max(late));
        queue.push_back(Frame { arrives, bytes });
        cx.at(arrives, Event::Arrive { subscriber: self.subscriber, connection, to });
    }

    /// Takes the next frame that has arrived.
    pub(crate) fn take(&mut self, now: u64, to: Side, connection: u64) -> Option<Vec<u8>> {
        if self.connection != Some(connection) {
            return None;
        }
        let queue = match to {
            Side::Publisher => &mut self.to_publisher,
            Side::Subscriber => &mut self.to_subscriber,
        };
        let arrived = queue.front().is_some_and(|frame| frame.arrives <= now);
        if arrived { queue.pop_front().map(|frame| frame.bytes) } else { None }
    }

    /// Cuts the connection: what is under way is lost, and each side learns of it some time.
    pub(crate) fn cut(&mut self, cx: &mut Context) {
        let Some(connection) = self.connection.take() else { return };
        self.to_publisher.clear();
        self.to_subscriber.clear();
        for side in [Side::Publisher, Side::Subscriber] {
            cx.after(5_000, Event::Closed { subscriber: self.subscriber, connection, side });
        }
    }
}

/// The message of one frame.
pub(crate) fn parse(frame: &[u8]) -> Result<Message<'_>, Broken> {
    let whole = || Law::Protocol.broken("a frame is not whole");
    let (header, body) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or_else(whole)?;
    let length = frame_length(*header).map_err(|error| Law::Protocol.broken(error.to_string()))?;
    if length == body.len() { Ok(decode(body)?) } else { Err(whole()) }
}
