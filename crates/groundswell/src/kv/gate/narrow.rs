//! How much of this side's document one message may ask for, and have compared.
//!
//! The docs engine answers a part that asks for a range with every entry that it has there, and a copy of each is held several
//! times until the answer is encoded. The answer itself has a bound in bytes. So a range is narrowed before the engine sees
//! it: what lies beyond would be built for nothing, as often as the other side asks.
//!
//! iroh-docs reads a range some five times whose fingerprint is another than its own, and holds half of it in memory. Between two honest
//! sides such ranges become smaller with each message: this side halves them by its own entries, so that what comes back has
//! half of them at most. A message that has more compared has the ranges beyond it left out.

use groundswell_core::kv::KvAuthor;

use super::{Identity, Message, PREFIX_BYTES, Part, Range};
use crate::kv::docs::{AuthorId, RecordIdentifier};

/// What a walk over one author's keys has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walk {
    /// So many keys, no more than were allowed.
    End(usize),
    /// The key after as many as were allowed.
    More([u8; 32]),
}

/// Some of an author's keys: from the first up to before the second, or to the last of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) author: KvAuthor,
    pub(crate) from: [u8; 32],
    pub(crate) below: Option<[u8; 32]>,
}

impl Part {
    /// The range, if it is compared. Where the other side has nothing, all is asked for.
    pub(super) fn compared(&self) -> Option<&Range> {
        match self {
            Self::Fingerprint { range, fingerprint } if *fingerprint != *blake3::hash(b"").as_bytes() => Some(range),
            Self::Fingerprint { .. } | Self::Item { .. } => None,
        }
    }
}

/// How many of this side's entries a message may concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Most {
    /// Entries that the message asks for.
    pub(crate) asked: usize,
    /// Entries in ranges whose fingerprints are compared.
    pub(crate) compared: usize,
}

impl Message {
    /// Makes of a message what the engine may see: without the entries that are not `held` here, and concerning no more entries
    /// of this side's than it may ([`Self::narrow`]); whether it had to be narrowed.
    pub(crate) fn admit<E>(
        &mut self,
        identity: &Identity,
        held: &[bool],
        most: Most,
        walk: impl FnMut(Keys, usize) -> Result<Walk, E>,
    ) -> Result<bool, E> {
        // First, since parts go with their entries below, and `held` goes by the place of an entry.
        self.keep(held);
        self.narrow(identity, most, walk)
    }

    /// Narrows what asks for all that this side has in a range, and leaves out ranges that are to be compared, so that all of it
    /// together concerns no more entries than it may; whether it did. `walk` goes over the keys that are here. A later
    /// reconciliation finds the rest.
    fn narrow<E>(
        &mut self,
        identity: &Identity,
        most: Most,
        mut walk: impl FnMut(Keys, usize) -> Result<Walk, E>,
    ) -> Result<bool, E> {
        let (mut left, mut narrowed, mut failed) = (most, false, None);
        self.parts.retain_mut(|part| {
            let asks = part.compared().is_none();
            let (Part::Item { range, have_local: false, .. } | Part::Fingerprint { range, .. }) = part else {
                return true;
            };
            let left = if asks { &mut left.asked } else { &mut left.compared };
            let mut after = *left;
            for keys in range.keys(identity) {
                match walk(keys, after) {
                    Ok(Walk::End(count)) => after = after.saturating_sub(count),
                    Ok(Walk::More(key)) => {
                        narrowed = true;
                        if !asks {
                            return false;
                        }
                        let before = std::mem::take(left);
                        range.end_at(identity, keys.author, key);
                        // It may ask for nothing at all any more.
                        return before > 0 && range.x != range.y;
                    }
                    Err(error) => {
                        failed = Some(error);
                        return true;
                    }
                }
            }
            *left = after;
            true
        });
        failed.map_or(Ok(narrowed), Err)
    }
}

impl Range {
    /// The keys of both authors in it, in the order of their identifiers.
    fn keys(&self, identity: &Identity) -> Vec<Keys> {
        let (x, y) = (self.x.as_bytes(), self.y.as_bytes());
        // From where, and up to before what.
        let segments: &[(&[u8], Option<&[u8]>)] = match x.cmp(y) {
            std::cmp::Ordering::Equal => &[(&[], None)],
            std::cmp::Ordering::Less => &[(x, Some(y))],
            std::cmp::Ordering::Greater => &[(x, None), (&[], Some(y))],
        };
        let known = KvAuthor::BOTH.into_iter().filter_map(|author| Some((identity.author(author)?, author)));
        let mut authors: Vec<(AuthorId, KvAuthor)> = known.collect();
        authors.sort();
        let mut keys = Vec::with_capacity(segments.len() * authors.len());
        for (from, below) in segments {
            for (id, author) in &authors {
                let prefix = [*identity.namespace.as_bytes(), *id.as_bytes()].concat();
                let (from_author, from) = from.split_at(from.len().min(PREFIX_BYTES));
                let below = below.map(|below| below.split_at(below.len().min(PREFIX_BYTES)));
                let is_before = below.is_some_and(|(author, _)| *author < *prefix);
                if *from_author > *prefix || is_before {
                    continue;
                }
                let from = if *from_author == *prefix { from.try_into().unwrap_or_default() } else { [0; 32] };
                let below = below.filter(|(author, _)| **author == *prefix);
                let below = below.map(|(_, key)| key.try_into().unwrap_or_default());
                keys.push(Keys { author: *author, from, below });
            }
        }
        keys
    }

    /// From now on it ends before this key.
    fn end_at(&mut self, identity: &Identity, author: KvAuthor, key: [u8; 32]) {
        let Some(author) = identity.author(author) else { return };
        if self.is_all() {
            self.x = RecordIdentifier::new(identity.namespace, AuthorId::from_bytes([0; 32]), [0; 32]);
        }
        self.y = RecordIdentifier::new(identity.namespace, author, key);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, convert::Infallible};

    use proptest::prelude::*;

    use super::super::{
        SignedEntry,
        tests::{entry, id, identity, item, machine, manager},
    };
    use super::*;
    use crate::kv::docs::ContentStatus;

    /// What is here: of both authors, under keys that begin with these bytes.
    type Here = BTreeSet<(AuthorId, u8)>;

    fn walk(here: &Here, keys: Keys, most: usize) -> Walk {
        let author = identity().author(keys.author).unwrap();
        let is_of = |(of, key): &&(AuthorId, u8)| {
            let key = [*key; 32];
            *of == author && keys.from <= key && keys.below.is_none_or(|below| key < below)
        };
        let mut found = here.iter().filter(is_of);
        match found.nth(most) {
            Some((_, key)) => Walk::More([*key; 32]),
            None => Walk::End(here.iter().filter(is_of).count()),
        }
    }

    /// How many entries are in ranges of parts like this.
    fn count(message: &Message, here: &Here, is_one: impl Fn(&Part) -> bool) -> usize {
        let is_in = |(author, key): &&(AuthorId, u8)| {
            let id = RecordIdentifier::new(identity().namespace, *author, [*key; 32]);
            message.parts.iter().filter(|part| is_one(part)).any(|part| {
                let (Part::Fingerprint { range, .. } | Part::Item { range, .. }) = part;
                range.contains(&id)
            })
        };
        here.iter().filter(is_in).count()
    }

    /// How many entries it asks for.
    fn asked(message: &Message, here: &Here) -> usize {
        count(message, here, |part| part.compared().is_none() && !matches!(part, Part::Item { have_local: true, .. }))
    }

    /// How many entries it has compared.
    fn compared(message: &Message, here: &Here) -> usize {
        count(message, here, |part| part.compared().is_some())
    }

    fn narrow(message: &mut Message, here: &Here, most: usize) -> bool {
        let most = Most { asked: most, compared: most };
        message.narrow(&identity(), most, |keys, most| Ok::<_, Infallible>(walk(here, keys, most))).unwrap()
    }

    fn asks(x: RecordIdentifier, y: RecordIdentifier, empty: bool) -> Part {
        let fingerprint = *blake3::hash(b"").as_bytes();
        if empty { Part::Fingerprint { range: Range { x, y }, fingerprint } } else { item(x, y, Vec::new()) }
    }

    proptest! {
        /// Whatever a message asks for, `most` entries at most are asked for afterwards: as many as that where there are more.
        #[test]
        fn no_more_is_asked_for_than_is_allowed(
            here in proptest::collection::btree_set((any::<bool>(), any::<u8>()), 0..60),
            cuts in proptest::collection::btree_set(any::<u8>(), 0..6),
            empty in any::<bool>(),
            wraps in any::<bool>(),
            most in 0_usize..40,
        ) {
            let author = |is_machine| if is_machine { machine().id() } else { manager().id() };
            let here: Here = here.into_iter().map(|(is_machine, key)| (author(is_machine), key)).collect();
            let cuts: Vec<u8> = cuts.into_iter().collect();
            let mut parts: Vec<Part> = cuts.windows(2).map(|two| asks(id(two[0]), id(two[1]), empty)).collect();
            match (cuts.first(), cuts.last()) {
                (Some(first), Some(last)) if wraps && first != last => parts.push(asks(id(*last), id(*first), empty)),
                (None, None) => parts.push(asks(RecordIdentifier::default(), RecordIdentifier::default(), empty)),
                _ => {}
            }
            let whole = Message { parts };
            let mut narrowed = whole.clone();
            let was_narrowed = narrow(&mut narrowed, &here, most);
            prop_assert_eq!(asked(&narrowed, &here), asked(&whole, &here).min(most));
            prop_assert_eq!(was_narrowed, asked(&whole, &here) > most);
            prop_assert!(was_narrowed || narrowed == whole);
            prop_assert_eq!(narrowed.check_ranges(identity().namespace), Ok(()));
        }
    }

    proptest! {
        /// Whatever ranges a message compares, those that stay have `most` entries at most, and are as they were. One that fits by
        /// itself stays where it is the first.
        #[test]
        fn no_more_is_compared_than_is_allowed(
            here in proptest::collection::btree_set((any::<bool>(), any::<u8>()), 0..60),
            cuts in proptest::collection::btree_set(any::<u8>(), 2..8),
            wraps in any::<bool>(),
            most in 0_usize..40,
        ) {
            let author = |is_machine| if is_machine { machine().id() } else { manager().id() };
            let here: Here = here.into_iter().map(|(is_machine, key)| (author(is_machine), key)).collect();
            let cuts: Vec<u8> = cuts.into_iter().collect();
            let part = |x, y| Part::Fingerprint { range: Range { x: id(x), y: id(y) }, fingerprint: [7; 32] };
            let mut parts: Vec<Part> = cuts.windows(2).map(|two| part(two[0], two[1])).collect();
            if wraps {
                parts.push(part(cuts[cuts.len() - 1], cuts[0]));
            }
            let whole = Message { parts };
            let mut narrowed = whole.clone();
            let was_narrowed = narrow(&mut narrowed, &here, most);
            prop_assert!(compared(&narrowed, &here) <= most);
            prop_assert_eq!(was_narrowed, compared(&whole, &here) > most);
            prop_assert!(narrowed.parts.iter().all(|part| whole.parts.contains(part)));
            let first = Message { parts: vec![whole.parts[0].clone()] };
            prop_assert_eq!(narrowed.parts.contains(&whole.parts[0]), compared(&first, &here) <= most);
        }
    }

    proptest! {
        /// Whatever is in a message, no entry is left in it afterwards that is not held here.
        #[test]
        fn nothing_stays_that_is_not_held(
            here in proptest::collection::btree_set(any::<u8>(), 0..60),
            parts in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..4), any::<bool>()), 1..10),
            most in 0_usize..20,
        ) {
            let parts: Vec<Part> = (0_u8..).zip(&parts).map(|(n, (keys, have_local))| {
                // Each has a range of its own, and entries of it.
                let keys = keys.iter().map(|key| entry(&machine(), &[n * 25 + key % 25; 32], 1));
                let values = keys.map(|entry| (entry, ContentStatus::Complete)).collect();
                Part::Item { range: Range { x: id(n * 25), y: id(n * 25 + 25) }, values, have_local: *have_local }
            }).collect();
            let mut message = Message { parts };
            let key = |entry: &SignedEntry| entry.id().key()[0];
            let held: Vec<bool> = message.values().map(|entry| here.contains(&key(entry))).collect();
            let of_machine: Here = here.iter().map(|key| (machine().id(), *key)).collect();
            let walk = |keys, most| Ok::<_, Infallible>(walk(&of_machine, keys, most));
            message.admit(&identity(), &held, Most { asked: most, compared: most }, walk).unwrap();
            prop_assert!(message.values().all(|entry| here.contains(&key(entry))));
        }
    }

    /// What neither asks for what is here nor has it compared stays as it is.
    #[test]
    fn what_only_tells_is_left_alone() {
        let here: Here = (0..40).map(|key| (machine().id(), key)).collect();
        let told = Part::Item {
            range: Range { x: id(0), y: id(0) },
            values: vec![(entry(&machine(), &[5; 32], 1), ContentStatus::Complete)],
            have_local: true,
        };
        let mut message = Message { parts: vec![told] };
        assert!(!narrow(&mut message, &here, 0));
    }
}
