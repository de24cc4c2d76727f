//! The messages of a reconciliation: those of iroh-docs, in the same bytes.
//!
//! Both sides of one send what they have in ranges of identifiers: as fingerprints, or as the entries themselves. A range
//! whose fingerprints differ is divided, until one side has next to nothing in it.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{RecordIdentifier, SignedEntry};

/// A message. iroh-docs calls it `ranger::Message`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) parts: Vec<Part>,
}

/// What a message says of one range. iroh-docs calls it `ranger::MessagePart`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// What the sender has in a range, in short.
    Fingerprint { range: Range, fingerprint: [u8; 32] },
    /// What the sender has in a range. Unless it has what is here already, it asks for what it lacks.
    Item { range: Range, values: Vec<(SignedEntry, ContentStatus)>, have_local: bool },
}

/// How much of an entry's content its sender has. Nobody looks at it here, since content travels with its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ContentStatus {
    Complete,
    Incomplete,
    Missing,
}

/// From `x` up to before `y`, past the end of all keys if `y` is before `x`; everything where both are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) x: RecordIdentifier,
    pub(crate) y: RecordIdentifier,
}

impl Part {
    pub(crate) fn values(&self) -> &[(SignedEntry, ContentStatus)] {
        match self {
            Self::Item { values, .. } => values,
            Self::Fingerprint { .. } => &[],
        }
    }
}

impl Range {
    pub(crate) fn contains(&self, id: &RecordIdentifier) -> bool {
        match self.x.cmp(&self.y) {
            Ordering::Equal => true,
            Ordering::Less => self.x <= *id && *id < self.y,
            Ordering::Greater => self.x <= *id || *id < self.y,
        }
    }

    pub(crate) fn is_all(&self) -> bool {
        self.x == self.y
    }
}

impl Message {
    pub(crate) fn values(&self) -> impl Iterator<Item = &SignedEntry> {
        self.parts.iter().flat_map(Part::values).map(|(entry, _)| entry)
    }

    /// How many entries it has.
    pub(crate) fn value_count(&self) -> usize {
        self.values().count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
