//! How much of this side's document one message may ask for.
//!
//! iroh-docs answers a part that asks for a range with every entry that it has there, and a copy of each is held several times
//! until the answer is encoded. The answer itself has a bound in bytes. So a range is narrowed before iroh-docs sees it: what
//! lies beyond would be built for nothing, as often as the other side asks.

use groundswell_core::kv::KvAuthor;
use iroh_docs::{AuthorId, RecordIdentifier};

use super::{Identity, Message, PREFIX_BYTES, Part, Range};

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

impl Message {
    /// Narrows what asks for all that this side has in a range, so that all of it together asks for `most` entries at most;
    /// whether it did. `walk` goes over the keys that are here. A later reconciliation finds the rest.
    pub(crate) fn narrow<E>(
        &mut self,
        identity: &Identity,
        most: usize,
        mut walk: impl FnMut(Keys, usize) -> Result<Walk, E>,
    ) -> Result<bool, E> {
        let (mut left, mut narrowed, mut failed) = (most, false, None);
        self.parts.retain_mut(|part| {
            let range = match part {
                Part::Item { range, have_local: false, .. } => range,
                // The other side has nothing there.
                Part::Fingerprint { range, fingerprint } if *fingerprint == *blake3::hash(b"").as_bytes() => range,
                _ => return true,
            };
            let before = left;
            for keys in range.keys(identity) {
                match walk(keys, left) {
                    Ok(Walk::End(count)) => left = left.saturating_sub(count),
                    Ok(Walk::More(key)) => {
                        left = 0;
                        narrowed = true;
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
            true
        });
        failed.map_or(Ok(narrowed), Err)
    }
}

impl Range {
    /// The keys of both authors in it, in the order of iroh-docs.
    fn keys(&self, identity: &Identity) -> Vec<Keys> {
        let (x, y) = (self.x.as_ref(), self.y.as_ref());
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
            self.x = RecordIdentifier::new(identity.namespace, AuthorId::from([0; 32]), [0; 32]);
        }
        self.y = RecordIdentifier::new(identity.namespace, author, key);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, convert::Infallible};

    use proptest::prelude::*;

    use super::super::tests::{entry, id, identity, item, machine, manager};
    use super::*;

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

    /// How many entries it asks for.
    fn asked(message: &Message, here: &Here) -> usize {
        let is_asked = |(author, key): &&(AuthorId, u8)| {
            let id = RecordIdentifier::new(identity().namespace, *author, [*key; 32]);
            message.parts.iter().any(|part| match part {
                Part::Fingerprint { range, fingerprint } => {
                    *fingerprint == *blake3::hash(b"").as_bytes() && range.contains(&id)
                }
                Part::Item { range, have_local, .. } => !have_local && range.contains(&id),
            })
        };
        here.iter().filter(is_asked).count()
    }

    fn narrow(message: &mut Message, here: &Here, most: usize) -> bool {
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

    /// What does not ask for what is here stays as it is.
    #[test]
    fn what_only_tells_is_left_alone() {
        let here: Here = (0..40).map(|key| (machine().id(), key)).collect();
        let told = Part::Item {
            range: Range { x: id(0), y: id(0) },
            values: vec![(entry(&machine(), &[5; 32], 1), iroh_docs::ContentStatus::Complete)],
            have_local: true,
        };
        let mut message = Message { parts: vec![told] };
        assert!(!narrow(&mut message, &here, 0));
        let mut message =
            Message { parts: vec![Part::Fingerprint { range: Range { x: id(0), y: id(0) }, fingerprint: [7; 32] }] };
        assert!(!narrow(&mut message, &here, 0));
        assert_eq!(message.parts.len(), 1);
    }
}
