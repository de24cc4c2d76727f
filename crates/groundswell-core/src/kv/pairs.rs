//! Who shares a document with whom, and how that ends: the rules of both sides, without input or output.
//!
//! A pairing ends for one of two reasons: a person releases it here, or the other side proves by a signed
//! [`Release`](super::Release) that it has given the document up. Neither a close code nor silence is such a proof: a side that
//! has lost its files says "I do not know you" too.
//!
//! A document that was given up stays in the list of [`Former`] ones. At first the other side is told, at each connection
//! and across restarts, until it says that it has given the document up too. After that it stays for a while, so that
//! a side which has missed the answer, or was restored from a backup, is answered again. All former documents of a peer go when
//! it says hello for the document of a later pairing.
//!
//! The driver makes a change durable first, and then it shows it, says it, or takes it into the list.

use alloc::{sync::Arc, vec::Vec};

use super::KvAuthor;

/// How a document stands with the other side, which `P` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<P> {
    /// It is a machine's own. No manager has claimed it.
    Unclaimed,
    /// It is shared with this peer.
    Paired(P),
    /// It is a manager's, and this machine has given it up. What is here can still be read.
    Left(P),
    /// It was given up here.
    Former {
        /// With whom it was shared.
        peer: P,
        /// The peer has acknowledged the release.
        told: bool,
    },
}

impl<P> Standing<P> {
    /// The peer that it is shared with.
    pub fn peer(self) -> Option<P> {
        match self {
            Self::Paired(peer) => Some(peer),
            Self::Unclaimed | Self::Left(_) | Self::Former { .. } => None,
        }
    }

    /// If it was given up here: the peer that it was shared with, and whether that was told.
    pub fn former(self) -> Option<(P, bool)> {
        match self {
            Self::Former { peer, told } => Some((peer, told)),
            Self::Unclaimed | Self::Paired(_) | Self::Left(_) => None,
        }
    }

    /// The same once this side's person gives it up. `None` where it is shared with nobody.
    pub fn given_up(self) -> Option<(P, bool)> {
        match self {
            Self::Paired(peer) => Some((peer, false)),
            // The machine knows, and may still want to hear that its manager does.
            Self::Left(peer) => Some((peer, true)),
            Self::Unclaimed | Self::Former { .. } => None,
        }
    }
}

/// A document that has a standing.
pub trait Stands {
    /// What names another device.
    type Peer: Copy + Eq;

    /// The document's id.
    fn document(&self) -> [u8; 32];

    /// How it stands.
    fn standing(&self) -> Standing<Self::Peer>;
}

impl<T: Stands> Stands for Arc<T> {
    type Peer = T::Peer;

    fn document(&self) -> [u8; 32] {
        T::document(self)
    }

    fn standing(&self) -> Standing<T::Peer> {
        T::standing(self)
    }
}

/// What a side says to a peer's hello for a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T> {
    /// They share it, and the session begins.
    Session,
    /// One of them has given it up. This side says so, signed, and hears what the peer has to say.
    Exchange(T),
    /// This side knows of no such document of the peer's. It says so, which proves nothing.
    NotKnown,
}

impl<T: Clone> Answer<&T> {
    /// The same without a reference.
    pub fn cloned(self) -> Answer<T> {
        match self {
            Self::Session => Answer::Session,
            Self::Exchange(one) => Answer::Exchange(one.clone()),
            Self::NotKnown => Answer::NotKnown,
        }
    }
}

/// Answers a peer's hello for a document. `shared` is what this side has of the peer's that is not former.
pub fn answer<'a, T: Stands>(
    shared: Option<&'a T>,
    former: &'a Former<T>,
    peer: T::Peer,
    document: &[u8; 32],
) -> Answer<&'a T> {
    match shared.filter(|one| one.document() == *document) {
        Some(one) if one.standing().peer() == Some(peer) => Answer::Session,
        Some(one) => Answer::Exchange(one),
        None => former.find(peer, document).map_or(Answer::NotKnown, Answer::Exchange),
    }
}

/// What a release that the other side has signed makes of this side's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honour {
    /// A machine goes on with a new document that it shares with nobody, and keeps what it has. The old one is former, and told.
    GoOn,
    /// A manager keeps what it has, for reading.
    Keep,
    /// Nothing: the release is of another pairing.
    Nothing,
}

/// What a side does whose `peer` has proved that it has given a document up.
pub fn honour<T: Stands>(ours: KvAuthor, shared: &T, peer: T::Peer, document: &[u8; 32]) -> Honour {
    match ours {
        _ if shared.document() != *document || shared.standing().peer() != Some(peer) => Honour::Nothing,
        KvAuthor::Machine => Honour::GoOn,
        KvAuthor::Manager => Honour::Keep,
    }
}

/// What a document is to a manager that a machine has handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// The one that they share.
    Again,
    /// Another one, which takes the place of what there was.
    Anew,
    /// A document that was released, which is never shared again. The machine has not heard of the release yet, or was restored
    /// from an older backup. It has to be told first.
    GivenUp,
}

/// What a manager does with the document that a machine has handed over. `shared` is what it has of that machine's.
pub fn handed_over<T: Stands>(
    shared: Option<&T>,
    former: &Former<T>,
    machine: T::Peer,
    document: &[u8; 32],
) -> HandedOver {
    match shared.filter(|one| one.document() == *document) {
        Some(one) if one.standing().peer() == Some(machine) => HandedOver::Again,
        Some(_) => HandedOver::GivenUp,
        None if former.find(machine, document).is_some() => HandedOver::GivenUp,
        None => HandedOver::Anew,
    }
}

/// The documents that this side has given up, in the order in which it did.
#[derive(Debug, Clone)]
pub struct Former<T> {
    all: Vec<T>,
    most: usize,
}

impl<T: Stands> Former<T> {
    /// An empty list, for so many at most.
    pub fn new(most: usize) -> Self {
        Self { all: Vec::new(), most }
    }

    /// Returns true if a released document was shared with this peer.
    pub fn is_with(&self, peer: T::Peer) -> bool {
        self.all.iter().any(|one| one.standing().former().is_some_and(|(with, _)| with == peer))
    }

    /// The document of this id that was shared with this peer.
    pub fn find(&self, peer: T::Peer, document: &[u8; 32]) -> Option<&T> {
        self.all
            .iter()
            .find(|one| one.standing().former().is_some_and(|(with, _)| with == peer) && one.document() == *document)
    }

    /// The documents whose other side has not acknowledged the release.
    pub fn untold(&self) -> impl Iterator<Item = &T> {
        self.all.iter().filter(|one| one.standing().former().is_some_and(|(_, told)| !told))
    }

    /// The documents to forget before another is added: the oldest acknowledged ones first, then the oldest.
    pub fn beyond_room(&self) -> Vec<&T> {
        let is_told = |one: &&T| one.standing().former().is_some_and(|(_, told)| told);
        let (told, untold): (Vec<_>, Vec<_>) = self.all.iter().partition(is_told);
        let beyond = (self.all.len() + 1).saturating_sub(self.most);
        told.into_iter().chain(untold).take(beyond).collect()
    }

    /// Adds one.
    pub fn add(&mut self, one: T) {
        self.all.push(one);
    }

    /// Removes one.
    pub fn forget(&mut self, document: &[u8; 32]) {
        self.all.retain(|one| one.document() != *document);
    }

    /// Removes those of earlier pairings with this peer than this one.
    pub fn forget_earlier(&mut self, peer: T::Peer, than: &[u8; 32]) -> Vec<T> {
        let is_earlier =
            |one: &mut T| one.document() != *than && one.standing().former().is_some_and(|(with, _)| with == peer);
        self.all.extract_if(.., is_earlier).collect()
    }

    /// Puts one that was told in the place of the same one that was not. Returns whether that was still there.
    pub fn put(&mut self, told: T) -> bool {
        let document = told.document();
        let place = self.all.iter_mut().find(|one| one.document() == document);
        place.map(|place| *place = told).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Row(u8, Standing<u8>);

    impl Stands for Row {
        type Peer = u8;

        fn document(&self) -> [u8; 32] {
            [self.0; 32]
        }

        fn standing(&self) -> Standing<u8> {
            self.1
        }
    }

    fn former(number: u8, peer: u8, told: bool) -> Row {
        Row(number, Standing::Former { peer, told })
    }

    /// A hello names a document and comes from a peer. Only where both are right there is a session, and what was given up is
    /// answered with the statement.
    #[test]
    fn a_hello_is_answered_by_document_and_peer() {
        let mut list = Former::new(9);
        list.add(former(1, 7, true));
        let paired = Row(2, Standing::Paired(7));
        let with = |shared: Option<&Row>, peer, document: u8| match answer(shared, &list, peer, &[document; 32]) {
            Answer::Session => (true, None),
            Answer::Exchange(row) => (true, Some(*row)),
            Answer::NotKnown => (false, None),
        };
        assert_eq!(with(Some(&paired), 7, 2), (true, None));
        assert_eq!(with(Some(&paired), 7, 1), (true, Some(former(1, 7, true))), "an earlier one");
        assert_eq!(with(Some(&paired), 7, 3), (false, None), "one of which nothing is known");
        assert_eq!(with(None, 8, 1), (false, None), "somebody else's");
        let left = Row(2, Standing::Left(7));
        assert_eq!(with(Some(&left), 7, 2), (true, Some(left)), "it may not know that this side knows");
    }

    #[test]
    fn a_release_ends_the_pairing_that_it_is_of() {
        let paired = Row(2, Standing::Paired(7));
        assert_eq!(honour(KvAuthor::Machine, &paired, 7, &[2; 32]), Honour::GoOn);
        assert_eq!(honour(KvAuthor::Manager, &paired, 7, &[2; 32]), Honour::Keep);
        for (shared, peer, document) in [(paired, 8, 2), (paired, 7, 1), (Row(2, Standing::Left(7)), 7, 2)] {
            assert_eq!(honour(KvAuthor::Manager, &shared, peer, &[document; 32]), Honour::Nothing);
        }
        assert_eq!(paired.1.given_up(), Some((7, false)));
        assert_eq!(Standing::Left(7).given_up(), Some((7, true)));
        assert_eq!(Standing::<u8>::Unclaimed.given_up(), None);
    }

    #[test]
    fn a_document_that_was_given_up_is_never_shared_again() {
        let mut list = Former::new(9);
        list.add(former(1, 7, false));
        let paired = Row(2, Standing::Paired(7));
        let of = |shared, document: u8| handed_over(shared, &list, 7, &[document; 32]);
        assert_eq!(
            [of(Some(&paired), 2), of(Some(&paired), 3), of(None, 3)],
            [HandedOver::Again, HandedOver::Anew, HandedOver::Anew]
        );
        assert_eq!(of(Some(&Row(2, Standing::Left(7))), 2), HandedOver::GivenUp, "the machine has gone back in time");
        assert_eq!(of(None, 1), HandedOver::GivenUp);
    }

    proptest! {
        /// However many are given up, the list keeps to its bound, and none that was not told goes before one that was.
        #[test]
        fn the_list_has_a_bound_and_lets_go_of_those_that_were_told_first(
            told in proptest::collection::vec(any::<bool>(), 0..40),
            most in 1_usize..8,
        ) {
            let mut list = Former::new(most);
            for (number, told) in (0..).zip(told) {
                let gone: Vec<Row> = list.beyond_room().into_iter().copied().collect();
                let untold_goes = gone.iter().any(|row| row.1.former().is_some_and(|(_, told)| !told));
                prop_assert!(!untold_goes || list.all.iter().all(|row| gone.contains(row) || !row.1.former().unwrap().1));
                gone.iter().for_each(|row| list.forget(&row.document()));
                list.add(former(number, number % 3, told));
                prop_assert!(list.all.len() <= most);
                prop_assert_eq!(list.all.last(), Some(&former(number, number % 3, told)));
            }
            let before = list.all.clone();
            let gone = list.forget_earlier(1, &[4; 32]);
            prop_assert!(gone.iter().all(|row| row.1.former().unwrap().0 == 1 && row.0 != 4));
            prop_assert_eq!(gone.len() + list.all.len(), before.len());
            prop_assert!(list.all.iter().all(|row| row.1.former().unwrap().0 != 1 || row.0 == 4));
            let untold = list.untold().next().copied();
            if let Some(row) = untold {
                let now = former(row.0, row.1.former().unwrap().0, true);
                prop_assert!(list.put(now) && list.all.contains(&now) && !list.all.contains(&row));
                prop_assert!(!list.put(former(99, 1, true)), "it was forgotten");
            }
        }
    }
}
