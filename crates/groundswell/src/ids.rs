//! Ids of writes, by which a write that is repeated has one effect.
//!
//! An id is remembered together with what the write was and what came of it, in the same transaction. Only
//! so many are remembered, those that sort last. Whatever was forgotten sorts before all that are
//! remembered, so that an id which sorts there is refused: nobody knows whether it was used. That needs
//! no clock, and nothing of the caller but that ids ascend in the long run.

use std::{collections::BTreeMap, fmt};

use groundswell_core::Digest;
use serde::{Deserialize, Serialize, de::Error as _};

use crate::limits::MAX_WRITE_ID_BYTES;

/// The id of a write, chosen by who asks for it: 1 to 128 bytes, of any kind. A write that is repeated with
/// its id has one effect, and the same result, however often it is asked for, over restarts too.
///
/// Ids are compared by their bytes, and have to ascend in the long run: a UUID of version 7, a ULID, or a
/// number of fixed width does, also from several writers. A node remembers the ids that sort last: 10,000 of
/// each agent's gives, and 1,024 of each document's key writes. An id that sorts before all of them is
/// refused once others have been forgotten ([`IdError::Expired`]), since nobody can tell whether it was used.
///
/// ```
/// use groundswell::{IdError, WriteId};
/// assert!(WriteId::new("sale-0000000017")? > WriteId::new("sale-0000000009")?);
/// assert!(matches!(WriteId::new(""), Err(IdError::Length { bytes: 0 })));
/// # Ok::<(), IdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WriteId(Box<[u8]>);

impl WriteId {
    /// Checks an id and copies it.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, IdError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() || bytes.len() > MAX_WRITE_ID_BYTES {
            return Err(IdError::Length { bytes: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// The id's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for WriteId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The id as text, with what is not printable escaped.
impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_ascii().fmt(f)
    }
}

impl fmt::Debug for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteId({self})")
    }
}

impl<'de> Deserialize<'de> for WriteId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Box::<[u8]>::deserialize(deserializer)?;
        Self::new(bytes).map_err(D::Error::custom)
    }
}

/// Why the id of a write is refused. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// It is empty or too long.
    #[error("an id of {bytes} bytes: it has to have 1 to {MAX_WRITE_ID_BYTES}")]
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
    /// Another write has it.
    #[error("the id {0} was used for another write: give each write an id of its own")]
    Reused(WriteId),
    /// It sorts before all ids that are remembered, and some were forgotten.
    #[error(
        "the id {id} sorts before the oldest that is remembered ({oldest}), so that it is unknown whether it was used: read the state to find out, and use ids that ascend, as UUIDs of version 7 do"
    )]
    Expired {
        /// The id.
        id: WriteId,
        /// The first id that is remembered.
        oldest: WriteId,
    },
}

/// What is remembered of a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done<R> {
    /// Of all that the write said.
    pub(crate) digest: Digest,
    pub(crate) result: R,
}

/// The ids that are remembered of one writer.
#[derive(Debug, Clone)]
pub(crate) struct Ids<R> {
    /// How many are remembered. One more is kept, which tells what was forgotten.
    limit: usize,
    kept: BTreeMap<WriteId, Done<R>>,
}

/// Looks for what came of a write that has this id, in what is remembered and what is staged. What is remembered is durable,
/// so that a repetition is answered with it, whatever becomes of anything else. What is staged has the outcome of its batch.
pub(crate) fn look<R: Clone>(
    remembered: Option<&Ids<R>>,
    staged: Option<&BTreeMap<WriteId, Done<R>>>,
    id: &WriteId,
    digest: impl FnOnce() -> Digest,
) -> Result<Option<R>, IdError> {
    let found = staged.and_then(|staged| staged.get(id)).or_else(|| remembered.and_then(|ids| ids.kept.get(id)));
    match found {
        Some(done) if done.digest == digest() => Ok(Some(done.result.clone())),
        Some(_) => Err(IdError::Reused(id.clone())),
        None => remembered.map_or(Ok(()), |ids| ids.check_age(id)).map(|()| None),
    }
}

impl<R> Ids<R> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, kept: BTreeMap::new() }
    }

    /// What a storage holds of them.
    pub(crate) fn restore(limit: usize, kept: BTreeMap<WriteId, Done<R>>) -> Self {
        Self { limit, kept }
    }

    pub(crate) fn has(&self, id: &WriteId) -> bool {
        self.kept.contains_key(id)
    }

    /// Whatever was forgotten sorts before the first that is kept, and nothing is forgotten below the limit.
    pub(crate) fn check_age(&self, id: &WriteId) -> Result<(), IdError> {
        match self.kept.first_key_value() {
            Some((oldest, _)) if self.kept.len() > self.limit && id < oldest => {
                Err(IdError::Expired { id: id.clone(), oldest: oldest.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Which ids are forgotten where these are remembered: they may be among them.
    pub(crate) fn forgotten_by(&self, new: &BTreeMap<WriteId, Done<R>>) -> Vec<WriteId> {
        let excess = (self.kept.len() + new.len()).saturating_sub(self.limit + 1);
        let mut first: Vec<&WriteId> = self.kept.keys().take(excess).chain(new.keys().take(excess)).collect();
        first.sort_unstable();
        first.into_iter().take(excess).cloned().collect()
    }

    /// Remembers these.
    pub(crate) fn remember(&mut self, new: BTreeMap<WriteId, Done<R>>) {
        self.kept.extend(new);
        while self.kept.len() > self.limit + 1 {
            self.kept.pop_first();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&WriteId, &Done<R>)> {
        self.kept.iter()
    }
}

/// The digest of what a write says, part by part.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn id(n: u16) -> WriteId {
        WriteId::new(format!("{n:05}")).unwrap()
    }

    fn done(n: u16) -> Done<u16> {
        Done { digest: digest([&n.to_le_bytes()[..]]), result: n }
    }

    #[test]
    fn ids_have_a_length() {
        for bytes in [0, MAX_WRITE_ID_BYTES + 1] {
            assert_eq!(WriteId::new(vec![7; bytes]), Err(IdError::Length { bytes }));
        }
        assert_eq!(WriteId::new([0xff; MAX_WRITE_ID_BYTES]).unwrap().as_bytes(), [0xff; MAX_WRITE_ID_BYTES]);
        // As one that is stored, too.
        let stored = groundswell_core::encoding::encode(&vec![0u8; MAX_WRITE_ID_BYTES + 1]).unwrap();
        assert!(groundswell_core::encoding::decode::<WriteId>(&stored).is_err());
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(digest([&b"a"[..], b"bc"]), digest([&b"ab"[..], b"c"]));
        assert_ne!(digest([&b"a"[..]]), digest([&b"a"[..], b""]));
    }

    #[test]
    fn another_write_with_the_same_id_is_refused() {
        let mut ids = Ids::new(2);
        ids.remember([(id(1), done(1))].into());
        assert_eq!(look(Some(&ids), None, &id(1), || done(1).digest), Ok(Some(1)));
        assert_eq!(look(Some(&ids), None, &id(1), || done(2).digest), Err(IdError::Reused(id(1))));
        let staged = [(id(2), done(2))].into();
        assert_eq!(look(Some(&ids), Some(&staged), &id(2), || done(2).digest), Ok(Some(2)));
        assert_eq!(look(Some(&ids), Some(&staged), &id(2), || done(1).digest), Err(IdError::Reused(id(2))));
    }

    proptest! {
        /// In whatever order ids come, and however they are batched: an id has at most one effect, those within the
        /// window are answered with their result, no more are kept than may be, and what storage is told to forget is
        /// what memory forgets.
        #[test]
        fn no_id_has_two_effects(
            batches in prop::collection::vec(prop::collection::vec(0u16..60, 1..6), 1..60),
            limit in 1usize..12,
        ) {
            let mut ids = Ids::new(limit);
            let mut stored: BTreeMap<WriteId, Done<u16>> = BTreeMap::new();
            let mut effects = BTreeSet::new();
            for batch in batches {
                let mut staged = BTreeMap::new();
                for n in batch {
                    match look(Some(&ids), Some(&staged), &id(n), || done(n).digest) {
                        Ok(Some(result)) => {
                            prop_assert_eq!(result, n);
                            prop_assert!(effects.contains(&n));
                        }
                        Ok(None) => {
                            prop_assert!(effects.insert(n), "{} had its effect before", n);
                            staged.insert(id(n), done(n));
                        }
                        Err(IdError::Expired { oldest, .. }) => prop_assert!(id(n) < oldest && effects.len() > limit),
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                let forgotten = ids.forgotten_by(&staged);
                stored.extend(staged.clone());
                for id in forgotten {
                    stored.remove(&id);
                }
                ids.remember(staged);
                prop_assert_eq!(&ids.kept, &stored);
                prop_assert!(ids.kept.len() <= limit + 1);
                // Those that sort last are remembered.
                for n in effects.iter().rev().take(limit) {
                    let found = look(Some(&ids), None, &id(*n), || done(*n).digest);
                    prop_assert_eq!(found, Ok(Some(*n)));
                }
                ids = Ids::restore(limit, stored.clone());
            }
        }
    }
}
