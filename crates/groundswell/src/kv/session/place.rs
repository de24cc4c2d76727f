//! The one place of a document that a session takes, and leaves however it ends.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use groundswell_core::kv::{Delivered, KvAuthor};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{End, hello::Greeted};
use crate::{
    frames::FrameReader,
    kv::document::{Document, Identity},
    limits::BOTH_DIALLED,
    network::{CloseCode, lost_at},
};

/// The time for which a session keeps its place at least, if the other side has opened it and opens another on the same
/// connection (100 ms): less than the first wait of an honest side.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The session that synchronises a document now.
#[derive(Debug)]
pub(crate) struct Active {
    /// The connection that it is on.
    pub(crate) connection: usize,
    opened_by: KvAuthor,
    since: Instant,
    /// Takes the reconciliations that the other side begins, one at a time.
    pub(super) reconciliations: mpsc::Sender<(SendStream, RecvStream)>,
    /// Set when the session is to end, for a reason if there is one.
    pub(super) closing: CancellationToken,
    why: OnceLock<CloseCode>,
}

impl Active {
    /// Ends the session. The other side is told why.
    pub(crate) fn close(&self, why: CloseCode) {
        let _ = self.why.set(why);
        self.closing.cancel();
    }
}

/// A session's place in its document. Dropping it ends the stream and frees the place, also where the session's future is
/// dropped halfway.
pub(super) struct Place<'a> {
    document: &'a Document,
    identity: &'a Arc<Identity>,
    connection: &'a Connection,
    pub(super) active: Arc<Active>,
    pub(super) send: SendStream,
    pub(super) reader: FrameReader,
    /// Why the session ends.
    pub(super) end: End,
}

impl<'a> Place<'a> {
    /// Makes a stream the one that synchronises the document. `None` if both sides have opened one at about the same time on
    /// the same connection and that of the manager stays, at either side.
    pub(super) fn take(
        document: &'a Document,
        identity: &'a Arc<Identity>,
        connection: &'a Connection,
        opened_by: KvAuthor,
        opened: Greeted,
        reconciliations: mpsc::Sender<(SendStream, RecvStream)>,
    ) -> Option<Self> {
        let Greeted { mut send, mut reader, hello, answering: _answering, .. } = opened;
        let active = Arc::new(Active {
            connection: connection.stable_id(),
            opened_by,
            since: Instant::now(),
            reconciliations,
            closing: CancellationToken::new(),
            why: OnceLock::new(),
        });
        let taken = document.session.send_if_modified(|current| {
            if let Some(old) = &*current {
                let crossed = old.connection == active.connection
                    && old.since.elapsed() < BOTH_DIALLED
                    && (old.opened_by, opened_by) == (KvAuthor::Manager, KvAuthor::Machine);
                // A side whose stream has ended waits before it opens the next one.
                let again = old.connection == active.connection
                    && old.opened_by == opened_by
                    && opened_by != document.ours
                    && old.since.elapsed() < AGAIN_AFTER;
                if crossed || again {
                    return false;
                }
                old.close(CloseCode::Superseded);
            }
            *current = Some(active.clone());
            // Under the same lock, so that of two streams the one that stays sets it.
            let (number, upto) = (identity.number, hello.held.of(document.ours));
            document.delivered.send_modify(|now| *now = Delivered { number, upto: Some(upto), ..*now });
            true
        });
        if !taken {
            CloseCode::Superseded.end(&mut send, &mut reader);
            return None;
        }
        Some(Self { document, identity, connection, active, send, reader, end: End::Lost })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let since = lost_at(self.connection);
        let why = match (&self.end, self.active.why.get()) {
            (End::Violation(_), _) => CloseCode::Violation,
            (End::Full(_), _) => CloseCode::Full,
            (End::Failed(_) | End::Refused(_), _) => CloseCode::Later,
            _ if is_given_up(self.document, self.identity) => CloseCode::Released,
            (_, Some(why)) => *why,
            (_, None) => CloseCode::ShutDown,
        };
        why.end(&mut self.send, &mut self.reader);
        let was_current = self.document.session.send_if_modified(|current| {
            let same = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.active));
            if same {
                *current = None;
            }
            same
        });
        if was_current {
            self.document.status.send_modify(|status| {
                // Another session may have taken the place meanwhile.
                if self.document.session.borrow().is_none() {
                    status.went_offline(since);
                }
                status.hindered_by(&self.end);
            });
        }
    }
}

/// Returns true if the document that had this identity is not shared with that peer any more.
fn is_given_up(document: &Document, before: &Arc<Identity>) -> bool {
    let now = document.identity();
    let is_same = now.namespace == before.namespace && now.peer() == before.peer();
    before.replaced.is_cancelled() && (Arc::ptr_eq(&now, before) || !is_same)
}
