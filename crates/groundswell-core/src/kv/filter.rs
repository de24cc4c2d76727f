//! Filters: which entries a reader follows.

use alloc::{sync::Arc, vec::Vec};
use core::{fmt, ops::Bound};

use bytes::Bytes;

use crate::kv::{
    entry::{KvAuthor, KvEntry},
    key::KvKey,
};

/// A function that picks entries. It answers alike for equal entries, does not block, and does
/// not call the store that calls it. A reader whose predicate has panicked is to be dropped.
pub type Predicate = Arc<dyn Fn(&KvEntry) -> bool + Send + Sync>;

/// Which entries a reader follows.
///
/// ```
/// use groundswell_core::kv::{KvAuthor, KvFilter, KvKey};
/// let key = KvKey::new("slot/1")?;
/// let filter = KvFilter::any_of([KvFilter::prefix("slot/"), KvFilter::Author(KvAuthor::Manager)]);
/// assert!(filter.covers(&key));
/// # Ok::<(), groundswell_core::kv::KeyError>(())
/// ```
#[derive(Clone)]
pub enum KvFilter {
    /// Every entry.
    All,
    /// The entry of this key.
    Key(KvKey),
    /// The entries of all keys that begin with these bytes.
    Prefix(Bytes),
    /// The entries of all keys between these two, in the order of their bytes.
    Range(Bound<KvKey>, Bound<KvKey>),
    /// The entries that this side wrote.
    Author(KvAuthor),
    /// The entries that match any of these.
    AnyOf(Vec<KvFilter>),
    /// The entries for which this holds.
    Predicate(Predicate),
}

impl KvFilter {
    /// The entries of all keys that begin with these bytes.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Self::Prefix(Bytes::copy_from_slice(prefix.as_ref()))
    }

    /// The entries of all keys in this range: `from..`, `from..=to`, `..to` and so on.
    pub fn range(range: impl core::ops::RangeBounds<KvKey>) -> Self {
        Self::Range(range.start_bound().cloned(), range.end_bound().cloned())
    }

    /// The entries that match any of these.
    pub fn any_of(filters: impl IntoIterator<Item = KvFilter>) -> Self {
        Self::AnyOf(filters.into_iter().collect())
    }

    /// The entries for which this holds: see [`Predicate`].
    pub fn predicate(holds: impl Fn(&KvEntry) -> bool + Send + Sync + 'static) -> Self {
        Self::Predicate(Arc::new(holds))
    }

    /// Whether the entry matches.
    pub fn matches(&self, entry: &KvEntry) -> bool {
        match self {
            Self::Author(author) => *author == entry.author,
            Self::Predicate(holds) => holds(entry),
            Self::AnyOf(filters) => filters.iter().any(|filter| filter.matches(entry)),
            _ => self.covers(&entry.key),
        }
    }

    /// Whether some entry of this key could match.
    pub fn covers(&self, key: &KvKey) -> bool {
        match self {
            Self::All | Self::Author(_) | Self::Predicate(_) => true,
            Self::Key(only) => only == key,
            Self::Prefix(prefix) => key.as_bytes().starts_with(prefix),
            Self::Range(start, end) => core::ops::RangeBounds::contains(&(start.as_ref(), end.as_ref()), key),
            Self::AnyOf(filters) => filters.iter().any(|filter| filter.covers(key)),
        }
    }

    /// Whether a change could concern a reader with this filter, so that it has to be woken: one
    /// of this key, by this author, over a value of the previous author, if there was one.
    /// It costs no look at the entry.
    pub fn could_match(&self, key: &KvKey, author: KvAuthor, previous: Option<KvAuthor>) -> bool {
        match self {
            Self::Author(wanted) => *wanted == author || Some(*wanted) == previous,
            Self::AnyOf(filters) => filters.iter().any(|filter| filter.could_match(key, author, previous)),
            _ => self.covers(key),
        }
    }

    /// Whether a key's entries match all, or none: then a reader needs no memory of which ones
    /// it was given.
    pub fn is_by_key(&self) -> bool {
        match self {
            Self::All | Self::Key(_) | Self::Prefix(_) | Self::Range(..) => true,
            Self::Author(_) | Self::Predicate(_) => false,
            Self::AnyOf(filters) => filters.iter().all(Self::is_by_key),
        }
    }

    /// The keys whose entries could match: apart, in order, none of them empty.
    pub fn key_ranges(&self) -> Vec<KeyRange> {
        let mut ranges = Vec::new();
        self.collect_ranges(&mut ranges);
        ranges.sort_unstable_by(|one: &KeyRange, other| one.start().cmp(other.start()));
        let mut apart: Vec<KeyRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match apart.last_mut() {
                Some(last) if last.reaches(&range) => last.join(range),
                _ => apart.push(range),
            }
        }
        apart
    }

    fn collect_ranges(&self, into: &mut Vec<KeyRange>) {
        match self {
            Self::All | Self::Author(_) | Self::Predicate(_) => into.push(KeyRange::everything()),
            Self::Key(key) => into.push(KeyRange::One(key.clone())),
            Self::Prefix(prefix) => into.push(KeyRange::Span { start: prefix.clone(), end: after_prefix(prefix) }),
            Self::Range(start, end) => {
                let start = match start {
                    Bound::Included(key) => key.to_bytes(),
                    Bound::Excluded(key) => successor(key),
                    Bound::Unbounded => Bytes::new(),
                };
                let end = match end {
                    Bound::Included(key) => Some(successor(key)),
                    Bound::Excluded(key) => Some(key.to_bytes()),
                    Bound::Unbounded => None,
                };
                if end.as_ref().is_none_or(|end| start < *end) {
                    into.push(KeyRange::Span { start, end });
                }
            }
            Self::AnyOf(filters) => filters.iter().for_each(|filter| filter.collect_ranges(into)),
        }
    }
}

impl fmt::Debug for KvFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::Key(key) => f.debug_tuple("Key").field(key).finish(),
            Self::Prefix(prefix) => f.debug_tuple("Prefix").field(prefix).finish(),
            Self::Range(start, end) => f.debug_tuple("Range").field(start).field(end).finish(),
            Self::Author(author) => f.debug_tuple("Author").field(author).finish(),
            Self::AnyOf(filters) => f.debug_tuple("AnyOf").field(filters).finish(),
            Self::Predicate(_) => f.write_str("Predicate(_)"),
        }
    }
}

/// The bytes that come right after this key.
fn successor(key: &KvKey) -> Bytes {
    let bytes = key.as_bytes();
    let mut after = Vec::with_capacity(bytes.len() + 1);
    after.extend_from_slice(bytes);
    after.push(0);
    after.into()
}

/// The bytes that come right after everything that begins with this prefix, if any do.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after.into())
}

/// Where a range starts and ends.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRange {
    /// One key.
    One(KvKey),
    /// The keys from the start on, up to the end, which is not included. It holds some.
    Span {
        /// Where it starts.
        start: Bytes,
        /// Where it ends, if it does.
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// All keys.
    pub fn everything() -> Self {
        Self::Span { start: Bytes::new(), end: None }
    }

    /// The range as bounds; what is after one of its keys, if one is given. `None` where there
    /// is nothing after that.
    pub(super) fn bounds_after<'a>(&'a self, after: Option<&'a KvKey>) -> Option<Bounds<'a>> {
        match (self, after) {
            (Self::One(_), Some(_)) => None,
            (Self::One(key), None) => Some((Bound::Included(key.as_bytes()), Bound::Included(key.as_bytes()))),
            (Self::Span { start, end }, after) => {
                let start = after.map_or(Bound::Included(&**start), |key| Bound::Excluded(key.as_bytes()));
                Some((start, end.as_deref().map_or(Bound::Unbounded, Bound::Excluded)))
            }
        }
    }

    fn start(&self) -> &[u8] {
        match self {
            Self::One(key) => key.as_bytes(),
            Self::Span { start, .. } => start,
        }
    }

    /// Whether another range, which does not start before this one, overlaps it.
    fn reaches(&self, next: &Self) -> bool {
        match self {
            Self::One(key) => key.as_bytes() == next.start(),
            Self::Span { end, .. } => end.as_deref().is_none_or(|end| next.start() < end),
        }
    }

    /// Takes in a range that this one reaches.
    fn join(&mut self, next: Self) {
        match (&mut *self, next) {
            (Self::Span { .. } | Self::One(_), Self::One(_)) => {}
            (Self::One(_), span) => *self = span,
            (Self::Span { end, .. }, Self::Span { end: next, .. }) => {
                let ends = end.take().zip(next);
                *end = ends.map(|(one, other)| one.max(other));
            }
        }
    }
}
