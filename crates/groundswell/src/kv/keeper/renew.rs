//! A document that goes on as another one.

use std::sync::Arc;

use groundswell_core::kv::{Change, Envelope, KvFilter, KvView, SpaceName};

use super::{Contents, Desk, Keeper, next_counter, next_stamp};
use crate::kv::{
    document::{Document, Identity},
    error::KvError,
    sealed::Sealed,
    storage::{Mark, Row},
};

impl Keeper {
    /// Writes the live entries of a document anew, into another that only this side knows, unless that was done before.
    pub(super) fn renew(
        &mut self,
        document: &Arc<Document>,
        before: &Identity,
        identity: Arc<Identity>,
        keeps: Contents,
        along: Vec<Row>,
    ) -> Result<bool, KvError> {
        // Both sides may end a pairing at once.
        if before.replaced.is_cancelled() {
            return Ok(false);
        }
        let number = identity.number;
        let mut desk = Desk::new();
        if let Some(old) = self.desks.get(&before.number) {
            desk.clock.observe(old.clock.last());
            if keeps == Contents::Kept {
                desk.ids = old.ids.clone();
            }
        }
        let spaces: Vec<SpaceName> = match keeps {
            Contents::Kept => document.with_view(|view| view.spaces().cloned().collect()),
            Contents::Wiped => Vec::new(),
        };
        let mut rows = Row::begin(number, identity.row()).to_vec();
        rows.extend(desk.ids.iter().map(|(id, done)| Row::Id { number, id: id.clone(), done: done.clone() }));
        let mut opened = Vec::new();
        let mut head = 0;
        for space in spaces {
            for entry in document.with_view(|view| view.entries(&space, &KvFilter::All)) {
                let envelope = Envelope {
                    space: space.clone(),
                    key: entry.key,
                    stamp: next_stamp(&mut desk, number, entry.timestamp, &mut rows)?,
                    timestamp: entry.timestamp,
                    change: Change::Put(entry.value),
                };
                head = next_counter(&mut desk, number, document.ours, &mut rows)?;
                let refused = |error: &dyn std::fmt::Display| KvError::Entry(error.to_string().into());
                let bytes = envelope.encode(usize::MAX).map_err(|error| refused(&error))?;
                let key = envelope.document_key();
                let sealed = Sealed::sign(&identity.secret, &self.signer, document.ours, key, head, bytes.into());
                rows.push(Row::Entry { number, entry: sealed.clone() });
                opened.push((sealed, envelope));
            }
        }
        let mut heads = [0; 2];
        heads[document.ours.index()] = head;
        rows.push(Row::Mark { number, author: document.ours, mark: Mark::Held, counter: head });
        rows.push(Row::Drop { number: before.number });
        rows.extend(along);
        self.store(rows)?;
        self.desks.remove(&before.number);
        self.desks.insert(number, desk);
        document.renew(identity, opened, heads);
        self.used.remove(before.number);
        self.used.set(number, document.with_view(KvView::bytes));
        Ok(true)
    }
}
