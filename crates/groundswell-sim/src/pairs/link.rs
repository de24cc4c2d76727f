//! A connection between two nodes, and what is said on it.

use std::collections::VecDeque;

/// What is said on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Hello(u64),
    /// The sender has given this document up, and has signed that.
    Statement(u64),
    /// The sender, a manager, claims this machine, and both people have said yes.
    Claim,
    /// The machine's document.
    Handover(u64),
    /// The connection ends, since the sender knows of no such document.
    NotKnown,
    /// The connection ends, since the sender has given the document up too.
    GivenUp,
}

/// What a side of a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// It has dialled for this document, and waits for a hello.
    Dialled(u64),
    /// It was dialled.
    Waiting,
    Session(u64),
    /// It has said that it has given this document up.
    Exchange(u64),
    Claiming,
}

#[derive(Debug)]
pub(super) struct Connection {
    /// The one that has dialled comes first.
    pub(super) nodes: [usize; 2],
    pub(super) at: [At; 2],
    /// What is on its way to each.
    pub(super) under_way: [VecDeque<Message>; 2],
    pub(super) arrives: [u64; 2],
}
