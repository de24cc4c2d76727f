//! The signal that something has changed of what a node's status shows, whichever part of it has.

use std::sync::Arc;

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
}
