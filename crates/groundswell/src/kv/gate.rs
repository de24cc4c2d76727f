//! The gate of reconciliation: each message of the other side is looked at before the docs engine processes it.
//!
//! The engine relies on that. iroh-docs itself checks only that an entry belongs to the document and is signed by the author
//! that it names. The other side holds the document's secret, so it could sign entries of any number of invented authors,
//! under keys of any length, and iroh-docs would store them all. It would also panic on an identifier that is too short. The
//! engine without iroh-docs checks nothing.

mod narrow;

use std::ops::ControlFlow;

use groundswell_core::{
    encoding::{DecodeError, EncodeError, decode, encode},
    kv::KvAuthor,
};

pub(crate) use self::narrow::{Keys, Most, Walk};
use super::{
    docs::{Message, NamespaceId, PREFIX_BYTES, Part, Range, RecordIdentifier, SignedEntry, VerifyingKeys},
    document::Identity,
};
use crate::limits::{
    MAX_RECONCILE_BYTES, MAX_RECONCILE_ENTRIES, MAX_RECONCILE_MESSAGES, MAX_RECONCILE_TOTAL_BYTES, RECONCILE_PATIENCE,
};

/// The bytes of an identifier whose key is a hash.
const ID_BYTES: usize = PREFIX_BYTES + 32;

/// The most bytes of a part without its entries: two identifiers, and some small numbers.
const RANGE_BYTES: usize = 2 * ID_BYTES + 16;

/// How many values of one part the engine is given: it compares each of them with each of ours in that range. An honest
/// side sends one, or a whole range of which this side had nothing.
const VALUES_COMPARED: usize = 16;

/// What the other side sent in a reconciliation that the protocol does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("a message that cannot be decoded: {0}")]
    Malformed(DecodeError),
    #[error("an entry of another document")]
    OtherDocument,
    #[error("an entry of an author that does not belong to the document")]
    UnknownAuthor,
    #[error("an entry whose key has {0} bytes instead of 32")]
    Key(usize),
    #[error("an entry without content")]
    Empty,
    #[error("an entry that its author has not signed")]
    Signature,
    #[error("an entry outside the range that it is sent for")]
    OutOfRange,
    #[error("ranges that overlap or that are not of the document")]
    Ranges,
    #[error("more keys than a document may hold ({limit})")]
    TooManyKeys { limit: usize },
    #[error("a message of more than {MAX_RECONCILE_BYTES} bytes")]
    MessageTooLong,
    #[error("more than {MAX_RECONCILE_MESSAGES} messages in one reconciliation")]
    TooManyMessages,
    #[error("more than {MAX_RECONCILE_TOTAL_BYTES} bytes in one reconciliation")]
    TooManyBytes,
    #[error("a reconciliation for which it was waited longer than {} s", RECONCILE_PATIENCE.as_secs())]
    TooSlow,
}

/// An entry that the other side has, as far as this side needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) author: KvAuthor,
    pub(crate) key: [u8; 32],
    pub(crate) counter: u64,
    /// The bytes of its envelope.
    pub(crate) bytes: u64,
}

impl Message {
    /// Decodes a message and checks its form: only entries of this document's two authors, under keys of 32 bytes, in
    /// ranges that do not overlap. Signatures are not checked here: that takes long.
    pub(crate) fn decode(body: &[u8], identity: &Identity) -> Result<Self, Violation> {
        // Parts without proper bounds take little on the wire and much in memory.
        let (parts, _) = postcard::take_from_bytes::<u64>(body)
            .map_err(|error| Violation::Malformed(DecodeError::Malformed(error)))?;
        if parts > (body.len() / (2 * ID_BYTES)) as u64 + 1 {
            return Err(Violation::Ranges);
        }
        let message: Self = decode(body).map_err(Violation::Malformed)?;
        message.check_ranges(identity.namespace)?;
        for part in &message.parts {
            let Part::Item { range, values, .. } = part else { continue };
            for (entry, _) in values {
                let length = entry.id().as_bytes().len();
                if length < PREFIX_BYTES {
                    return Err(Violation::Key(0));
                }
                if entry.id().namespace() != identity.namespace.as_bytes() {
                    return Err(Violation::OtherDocument);
                }
                author_of(entry, identity)?;
                if length != ID_BYTES {
                    return Err(Violation::Key(length - PREFIX_BYTES));
                }
                if entry.is_empty() {
                    return Err(Violation::Empty);
                }
                if !range.contains(entry.id()) {
                    return Err(Violation::OutOfRange);
                }
            }
        }
        Ok(message)
    }

    /// The ranges of an honest message divide the document, so that one message costs at most a few looks at each of
    /// our entries. Overlapping ones could ask for the whole document thousands of times.
    fn check_ranges(&self, document: NamespaceId) -> Result<(), Violation> {
        let mut pieces: Vec<(&RecordIdentifier, Option<&RecordIdentifier>)> = Vec::with_capacity(self.parts.len() + 1);
        let nothing = RecordIdentifier::default();
        for part in &self.parts {
            let (Part::Fingerprint { range, .. } | Part::Item { range, .. }) = part;
            let is_ours =
                |id: &RecordIdentifier| id.as_bytes().len() == ID_BYTES && id.namespace() == document.as_bytes();
            if range.is_all() {
                // The bounds of a side that has nothing are zeros.
                if self.parts.len() > 1 || !(is_ours(&range.x) || range.x == nothing) {
                    return Err(Violation::Ranges);
                }
                return Ok(());
            }
            if !is_ours(&range.x) || !is_ours(&range.y) {
                return Err(Violation::Ranges);
            }
            if range.x < range.y {
                pieces.push((&range.x, Some(&range.y)));
            } else {
                pieces.push((&nothing, Some(&range.y)));
                pieces.push((&range.x, None));
            }
        }
        pieces.sort();
        let overlap = pieces.windows(2).any(|two| two[0].1.is_none_or(|end| end > two[1].0));
        if overlap { Err(Violation::Ranges) } else { Ok(()) }
    }

    /// Checks that every entry is signed by its author for this document: about 0.1 ms each.
    pub(crate) fn verify(&self, keys: &VerifyingKeys) -> Result<(), Violation> {
        let signed = self.values().all(|entry| entry.is_signed(keys));
        if signed { Ok(()) } else { Err(Violation::Signature) }
    }

    /// What it offers, in the order of its entries.
    pub(crate) fn offered(&self, identity: &Identity) -> Result<Vec<Offered>, Violation> {
        let offered = |entry: &SignedEntry| {
            let author = author_of(entry, identity)?;
            let key = entry.id().key();
            let key = <[u8; 32]>::try_from(key).map_err(|_| Violation::Key(key.len()))?;
            Ok(Offered { author, key, counter: entry.counter(), bytes: entry.content_len() })
        };
        self.values().map(offered).collect()
    }

    /// Takes out what the engine is not to see: the entries that are not in our storage, by their place among all. It
    /// then stores nothing that we do not have ourselves. Parts that need no answer and hold nothing are taken out whole.
    fn keep(&mut self, held: &[bool]) {
        let mut held = held.iter().copied();
        self.parts.retain_mut(|part| match part {
            Part::Fingerprint { .. } => true,
            Part::Item { values, have_local, .. } => {
                let many = values.len() > VALUES_COMPARED;
                values.retain(|_| held.next().unwrap_or(false) && !many);
                // What came later than its neighbours is inserted here: the feeder is beyond its counter.
                !*have_local || !values.is_empty()
            }
        });
    }

    /// Leaves out what does not fit into so many bytes; whether it did. A later reconciliation finds it.
    pub(crate) fn cut(&mut self, most: usize) -> Result<bool, EncodeError> {
        // The count of parts comes first.
        let mut left = most.saturating_sub(5);
        let mut fitting = 0;
        let cut = self.parts.iter_mut().try_for_each(|part| {
            let bytes = match encode(part) {
                Ok(bytes) => bytes.len(),
                Err(error) => return ControlFlow::Break(Err(error)),
            };
            if bytes <= left {
                left -= bytes;
                fitting += 1;
                return ControlFlow::Continue(());
            }
            if let Part::Item { values, .. } = part
                && !values.is_empty()
            {
                // All entries have the same size, but for the two numbers in each.
                let room = left.saturating_sub(RANGE_BYTES) / (bytes / values.len() + 20);
                values.truncate(room);
                fitting += usize::from(room > 0);
            }
            ControlFlow::Break(Ok(()))
        });
        self.parts.truncate(fitting);
        match cut {
            ControlFlow::Continue(()) => Ok(false),
            ControlFlow::Break(result) => result.map(|()| true),
        }
    }
}

/// Which of the two sides has written an entry.
fn author_of(entry: &SignedEntry, identity: &Identity) -> Result<KvAuthor, Violation> {
    let is_of = |one: &KvAuthor| identity.author(*one).is_some_and(|author| entry.id().author() == author.as_bytes());
    KvAuthor::BOTH.into_iter().find(is_of).ok_or(Violation::UnknownAuthor)
}

/// What one reconciliation may still cost this side.
pub(crate) struct Budget {
    messages: usize,
    bytes: usize,
    patience: std::time::Duration,
    /// How many of this side's entries the next message may have compared.
    entries: usize,
}

impl Budget {
    /// The budget of one reconciliation, where this side has at most so many entries of the document.
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            messages: MAX_RECONCILE_MESSAGES,
            bytes: MAX_RECONCILE_TOTAL_BYTES,
            patience: RECONCILE_PATIENCE,
            entries,
        }
    }

    /// A message of so many bytes has come: how many of this side's entries it may concern.
    pub(crate) fn message(&mut self, bytes: usize) -> Result<Most, Violation> {
        self.messages = self.messages.checked_sub(1).ok_or(Violation::TooManyMessages)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Violation::TooManyBytes)?;
        // The first message may compare all that is here. Some more leaves room for what is written meanwhile.
        let most = Most { asked: MAX_RECONCILE_ENTRIES, compared: self.entries + MAX_RECONCILE_ENTRIES };
        self.entries /= 2;
        Ok(most)
    }

    /// Waits for the other side, within what is left of the time for it. Time that this side needs itself does not count.
    pub(crate) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Violation> {
        let begun = tokio::time::Instant::now();
        let done = tokio::time::timeout(self.patience, work).await.map_err(|_| Violation::TooSlow)?;
        self.patience = self.patience.saturating_sub(begun.elapsed());
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use proptest::prelude::*;

    use super::*;
    use crate::kv::{
        DocumentRow, Standing,
        docs::{Author, AuthorId, ContentStatus, Docs, IrohEngine, NamespaceSecret, PlainEngine, Record},
    };

    fn secret() -> NamespaceSecret {
        NamespaceSecret::from_bytes(&[7; 32])
    }

    pub(super) fn machine() -> Author {
        Author::from_bytes(&[1; 32])
    }

    pub(super) fn manager() -> Author {
        Author::from_bytes(&[2; 32])
    }

    fn peer() -> crate::source::PeerId {
        iroh::SecretKey::from_bytes(&[3; 32]).public()
    }

    pub(super) fn identity() -> Arc<Identity> {
        // Properties ask for it thousands of times, and keys take their time.
        static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| {
            let standing = Standing::Paired { peer: peer(), author: machine().id().to_bytes() };
            let row = DocumentRow { secret: secret().to_bytes(), standing };
            Identity::new(1, &row, KvAuthor::Manager, manager().id())
        });
        IDENTITY.clone()
    }

    pub(super) fn entry(author: &Author, key: &[u8], counter: u64) -> SignedEntry {
        SignedEntry::sign(&secret(), author, key, Record::of(b"some content", counter))
    }

    pub(super) fn id(byte: u8) -> RecordIdentifier {
        RecordIdentifier::new(secret().id(), machine().id(), [byte; 32])
    }

    pub(super) fn item(x: RecordIdentifier, y: RecordIdentifier, entries: Vec<SignedEntry>) -> Part {
        let values = entries.into_iter().map(|entry| (entry, ContentStatus::Complete)).collect();
        Part::Item { range: Range { x, y }, values, have_local: false }
    }

    fn whole(entries: Vec<SignedEntry>) -> Message {
        Message { parts: vec![item(id(0), id(0), entries)] }
    }

    fn check(message: &Message) -> Result<(), Violation> {
        let decoded = Message::decode(&encode(message).unwrap(), &identity())?;
        assert_eq!(decoded, *message);
        decoded.verify(&identity().keys)
    }

    /// An engine that has these entries.
    async fn docs<E: Docs>(entries: &[SignedEntry]) -> E {
        let docs = E::in_memory();
        docs.open_document(&secret()).await.unwrap();
        for entry in entries {
            docs.insert(secret().id(), entry, peer()).await.unwrap();
        }
        docs
    }

    /// Whatever two honest sides have, with iroh-docs or without, each of their messages passes, and after what is not held was
    /// taken out of it too.
    #[tokio::test]
    async fn honest_reconciliations_pass() {
        // Two of a kind give the same answers: a property of both engines.
        reconcile::<IrohEngine, PlainEngine>().await;
        reconcile::<PlainEngine, IrohEngine>().await;
    }

    async fn reconcile<L: Docs, R: Docs>() {
        let of = |range: std::ops::Range<u8>| range.map(|key| entry(&machine(), &[key; 32], 1));
        let manager = &manager();
        let of_manager = |range: std::ops::Range<u8>| range.map(move |key| entry(manager, &[key; 32], 1));
        let cases: [(Vec<SignedEntry>, Vec<SignedEntry>); 7] = [
            (Vec::new(), Vec::new()),
            (of(0..40).collect(), Vec::new()),
            (Vec::new(), of(0..40).collect()),
            (of(0..40).collect(), of(20..60).collect()),
            (of(0..40).chain(of_manager(9..33)).collect(), of(3..5).chain(of_manager(0..99)).collect()),
            (of(0..255).collect(), of(250..255).chain(of_manager(7..9)).collect()),
            (of(100..105).chain(of_manager(7..9)).collect(), of(0..255).chain(of_manager(0..255)).collect()),
        ];
        for (left, right) in cases {
            for taken_out in [false, true] {
                let (left_docs, right_docs): (L, R) = (docs(&left).await, docs(&right).await);
                let mut next = Some(left_docs.first_message(secret().id()).await.unwrap());
                let (mut answers_right, mut half) = (true, [right.len(), left.len()].map(|count| 2 * count));
                for _ in 0..MAX_RECONCILE_MESSAGES {
                    let Some(message) = next.take() else { break };
                    let has = if answers_right { &right } else { &left };
                    let seen = passed(&message, has, taken_out, &mut half[usize::from(!answers_right)]);
                    let answer = if answers_right {
                        right_docs.process(secret().id(), seen, peer()).await.unwrap()
                    } else {
                        left_docs.process(secret().id(), seen, peer()).await.unwrap()
                    };
                    next = (!answer.is_empty()).then_some(answer);
                    answers_right = !answers_right;
                }
                assert!(next.is_none(), "it comes to an end");
                for entry in left.iter().chain(&right).filter(|_| !taken_out) {
                    let author = AuthorId::from_bytes(entry.id().author().try_into().unwrap());
                    let key = entry.id().key().try_into().unwrap();
                    assert!(left_docs.has(secret().id(), author, key, 1).await);
                    assert!(right_docs.has(secret().id(), author, key, 1).await);
                }
                left_docs.stop().await;
                right_docs.stop().await;
            }
        }
    }

    /// What the gate lets through of a message for a side that has these entries. Each range that a message has compared has at
    /// most half of the entries of those of the message before, so that one at least is never left out.
    fn passed(message: &Message, has: &[SignedEntry], taken_out: bool, half: &mut usize) -> Message {
        let bytes = encode(message).unwrap();
        let mut seen = Message::decode(&bytes, &identity()).unwrap();
        seen.verify(&identity().keys).unwrap();
        assert_eq!(encode(&seen).unwrap(), bytes);
        assert_eq!(seen.offered(&identity()).unwrap().len(), seen.value_count());
        if taken_out {
            // An odd one is in one of the halves.
            *half = half.div_ceil(2);
            for range in seen.parts.iter().filter_map(|part| part.compared()) {
                let count = has.iter().filter(|entry| range.contains(entry.id())).count();
                assert!(count <= *half, "{count} in a range, and {half} in half of the last");
            }
            seen.keep(&vec![false; seen.value_count()]);
            assert_eq!(seen.value_count(), 0);
        }
        seen
    }

    #[test]
    fn what_may_not_be_in_a_message_has_its_own_name() {
        let good = || entry(&machine(), &[5; 32], 1);
        assert_eq!(check(&whole(vec![good()])), Ok(()));
        let invented = entry(&Author::from_bytes(&[9; 32]), &[5; 32], 1);
        assert_eq!(check(&whole(vec![good(), invented])), Err(Violation::UnknownAuthor));
        for length in [0, 31, 33, 3_000] {
            let odd = entry(&machine(), &vec![5; length], 1);
            assert_eq!(check(&whole(vec![odd])), Err(Violation::Key(length)));
        }
        let other = NamespaceSecret::from_bytes(&[8; 32]);
        let of_other = SignedEntry::sign(&other, &machine(), [5; 32], Record::of(b"x", 1));
        assert_eq!(check(&whole(vec![of_other])), Err(Violation::OtherDocument));
        let empty = SignedEntry::sign(&secret(), &machine(), [5; 32], Record::of(b"", 1));
        assert_eq!(check(&whole(vec![empty])), Err(Violation::Empty));
        let mut forged = encode(&good()).unwrap();
        forged[3] ^= 1;
        assert_eq!(check(&whole(vec![decode(&forged).unwrap()])), Err(Violation::Signature));
        let outside = Message { parts: vec![item(id(6), id(9), vec![good()])] };
        assert_eq!(check(&outside), Err(Violation::OutOfRange));
        assert!(matches!(Message::decode(b"\x01\x07", &identity()), Err(Violation::Malformed(_))));
    }

    /// An identifier that is too short has no document and no author, and ends the thread of iroh-docs.
    #[test]
    fn identifiers_of_any_length_are_harmless() {
        for length in [0, 1, 31, 32, 63, 64, 95, 97] {
            let bytes = encode(&serde_bytes_of(length)).unwrap();
            let odd: RecordIdentifier = decode(&bytes).unwrap();
            let range = Message { parts: vec![item(odd.clone(), id(9), Vec::new())] };
            assert_eq!(check(&range), Err(Violation::Ranges), "{length}");
            let range = Message { parts: vec![item(odd.clone(), odd.clone(), Vec::new())] };
            assert_eq!(check(&range), Err(Violation::Ranges), "{length}");
            let mut entry = encode(&entry(&machine(), &[5; 32], 1)).unwrap();
            // Behind the signatures.
            assert_eq!(entry[128], 96);
            entry.splice(128..128 + 97, bytes);
            let entry: SignedEntry = decode(&entry).unwrap();
            assert!(check(&whole(vec![entry])).is_err(), "{length}");
        }
    }

    fn serde_bytes_of(length: usize) -> Vec<u8> {
        vec![7; length]
    }

    #[test]
    fn ranges_that_overlap_are_refused() {
        let part = |x, y| item(id(x), id(y), Vec::new());
        let of = |parts: Vec<Part>| check(&Message { parts });
        assert_eq!(of(vec![part(1, 3), part(3, 5), part(5, 1)]), Ok(()));
        assert_eq!(of(vec![part(5, 1), part(3, 5)]), Ok(()));
        let overlapping = [
            vec![part(1, 3), part(2, 5)],
            vec![part(1, 3), part(1, 3)],
            vec![part(1, 9), part(2, 3)],
            vec![part(5, 2), part(1, 3)],
            vec![part(5, 1), part(6, 7)],
            vec![part(5, 1), part(7, 2)],
            vec![part(0, 0), part(1, 2)],
            vec![part(0, 0), part(0, 0)],
        ];
        for parts in overlapping {
            assert_eq!(of(parts.clone()), Err(Violation::Ranges), "{parts:?}");
        }
    }

    #[test]
    fn a_budget_ends_at_its_edge() {
        let mut budget = Budget::new(0);
        for _ in 0..MAX_RECONCILE_MESSAGES {
            budget.message(1).unwrap();
        }
        assert_eq!(budget.message(1), Err(Violation::TooManyMessages));
        let mut budget = Budget::new(0);
        budget.message(MAX_RECONCILE_TOTAL_BYTES).unwrap();
        assert_eq!(budget.message(1), Err(Violation::TooManyBytes));
    }

    /// A byte now and then does not buy more time, and what this side needs itself does not count.
    #[tokio::test]
    async fn the_time_for_the_other_side_is_counted_in_all() {
        let pause = std::time::Duration::from_millis(20);
        let mut budget = Budget { patience: 10 * pause, ..Budget::new(0) };
        // Here time is under test.
        tokio::time::sleep(pause).await;
        assert_eq!(budget.patience, 10 * pause);
        let mut waits = 0;
        // Time is under test.
        while let Ok(()) = budget.wait(tokio::time::sleep(pause)).await {
            waits += 1;
            assert!(waits <= 10, "{:?} are left", budget.patience);
        }
        assert_eq!(budget.wait(std::future::pending::<()>()).await, Err(Violation::TooSlow));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes, &identity());
        }

        /// What is left out is at the end, and the rest fits.
        #[test]
        fn a_message_is_cut_to_what_fits(counts in proptest::collection::vec(0_u8..20, 0..10), most in 0_usize..20_000) {
            let mut parts = Vec::new();
            for (place, count) in counts.into_iter().enumerate() {
                let place = place as u8;
                let entries = (0..count).map(|_| entry(&machine(), &[place; 32], 1)).collect();
                parts.push(item(id(place), id(place + 1), entries));
            }
            let all = Message { parts };
            let mut cut = all.clone();
            let was_cut = cut.cut(most).unwrap();
            prop_assert!(was_cut || cut == all);
            prop_assert!(cut.is_empty() || encode(&cut).unwrap().len() <= most);
            prop_assert!(all.value_count() >= cut.value_count());
        }
    }
}
