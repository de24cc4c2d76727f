//! The one place of a document that a session takes, and leaves however it ends.

use std::sync::Arc;

use groundswell_core::kv::Delivered;

use super::{Active, End, KvCloseCode};
use crate::{
    kv::document::{Document, Identity},
    limits::BOTH_DIALLED,
    network::lost_at,
};

/// A session's place in its document. Dropping it closes the connection and frees the place, also where the session's
/// future is dropped halfway: a connection that stayed there would keep the node's socket open after a shutdown.
pub(super) struct Place<'a> {
    document: &'a Document,
    identity: &'a Arc<Identity>,
    active: Arc<Active>,
    /// Why the session ends.
    pub(super) end: End,
}

impl<'a> Place<'a> {
    /// Makes a connection the one that synchronises the document. `None` if both sides have dialled at once and the
    /// other connection stays: that of the smaller id, at either side.
    pub(super) fn take(document: &'a Document, identity: &'a Arc<Identity>, active: Active, upto: u64) -> Option<Self> {
        let active = Arc::new(active);
        let taken = document.session.send_if_modified(|current| {
            if let Some(old) = &*current {
                let crossed = old.boot == active.boot
                    && old.since.elapsed() < BOTH_DIALLED
                    && old.connection.close_reason().is_none()
                    && old.dialled_by < active.dialled_by;
                if crossed {
                    return false;
                }
                old.connection.close(KvCloseCode::Superseded.code(), KvCloseCode::Superseded.reason());
            }
            *current = Some(active.clone());
            // Under the same lock, so that of two connections the one that stays sets it.
            let number = identity.number;
            document.delivered.send_modify(|now| *now = Delivered { number, upto: Some(upto), ..*now });
            true
        });
        taken.then(|| Self { document, identity, active, end: End::Lost })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let connection = &self.active.connection;
        // Read before the connection is closed here, which would become its reason.
        let since = lost_at(connection);
        let why = match &self.end {
            End::Violation(_) => KvCloseCode::Violation,
            End::Failed(_) | End::Refused(_) => KvCloseCode::Later,
            _ if is_given_up(self.document, self.identity) => KvCloseCode::Released,
            _ => KvCloseCode::ShutDown,
        };
        why.close(connection);
        let was_current = self.document.session.send_if_modified(|current| {
            let same = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.active));
            if same {
                *current = None;
            }
            same
        });
        if was_current {
            self.document.status.send_modify(|status| {
                status.went_offline(since);
                status.hindered_by(&self.end);
            });
        }
    }
}

/// Whether the document that had this identity is not shared with that peer any more.
fn is_given_up(document: &Document, before: &Arc<Identity>) -> bool {
    let now = document.identity();
    let is_same = now.namespace == before.namespace && now.peer() == before.peer();
    before.replaced.is_cancelled() && (Arc::ptr_eq(&now, before) || !is_same)
}
