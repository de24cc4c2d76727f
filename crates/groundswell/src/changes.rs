//! The signal that something has changed of what a node's status shows, whichever part of it has.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};

use tokio::sync::watch;

/// Counts changes. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct StatusChanges(Arc<watch::Sender<u64>>);

impl Default for StatusChanges {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl StatusChanges {
    /// Something has changed, and can be seen by now.
    pub(crate) fn note(&self) {
        self.0.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    /// A reader that is counted: that it is there is a change, and so is that it is gone.
    pub(crate) fn counted(&self, reader: watch::Receiver<u64>) -> CountedReader {
        self.note();
        CountedReader { reader, _gone: NoteWhenGone(self.clone()) }
    }
}

/// A reader of a cell, that counts for as long as it is there.
pub(crate) struct CountedReader {
    // The fields are dropped in this order: it is noted when the reader does not count any more.
    reader: watch::Receiver<u64>,
    _gone: NoteWhenGone,
}

impl Deref for CountedReader {
    type Target = watch::Receiver<u64>;
    fn deref(&self) -> &Self::Target {
        &self.reader
    }
}

impl DerefMut for CountedReader {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.reader
    }
}

struct NoteWhenGone(StatusChanges);

impl Drop for NoteWhenGone {
    fn drop(&mut self) {
        self.0.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_after_a_reader_was_noted_sees_whether_it_is_there() {
        let (changes, version) = (StatusChanges::default(), watch::Sender::new(0));
        let mut seen = changes.watch();
        let reader = changes.counted(version.subscribe());
        assert!(seen.has_changed().unwrap());
        assert_eq!((*seen.borrow_and_update(), version.receiver_count()), (1, 1));
        drop(reader);
        assert_eq!((*seen.borrow_and_update(), version.receiver_count()), (2, 0));
    }
}
