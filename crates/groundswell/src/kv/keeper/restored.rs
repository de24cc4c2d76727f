//! A side that went back: what comes back to it, and what it signs anew. See [`groundswell_core::kv::restored`].

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use groundswell_core::kv::{
    AuthorCounter, Envelope,
    restored::{self, Back, Returned},
};

use super::{Batch, Keeper, Opened, next_counter, staged_of};
use crate::kv::{
    document::{Document, Identity},
    error::KvError,
    sealed::Sealed,
    storage::{Mark, Row},
};
use crate::limits::MAX_BATCH_BYTES;

impl Keeper {
    /// Notes that this side went back, and leaves a gap in its counters.
    pub(super) fn went_back(
        &mut self,
        document: &Document,
        identity: &Identity,
        held_there: u64,
    ) -> Result<(), KvError> {
        let Some(desk) = self.desks.get(&identity.number).filter(|_| !identity.replaced.is_cancelled()) else {
            return Err(KvError::NotClaimed);
        };
        // Two streams may have noticed it.
        if document.agrees_first() {
            return Ok(());
        }
        let from = restored::after_gap(desk.counter.reserve(0), held_there, rand::random());
        // What was not sent may have been written since, with counters that were given before.
        let since = document.sent().saturating_add(1);
        let [bound, _] = Row::went_back(identity.number, document.ours, from);
        let [_, restored] = Row::went_back(identity.number, document.ours, since);
        self.store(vec![bound, restored])?;
        if let Some(desk) = self.desks.get_mut(&identity.number) {
            desk.counter = AuthorCounter::restore(from);
        }
        document.went_back(since);
        Ok(())
    }

    /// What is to be stored of entries that came from the other side: of ours among them those that rank above what is here. One
    /// whose counter is not the greatest of its key gets a fresh one, so that documents, which go by counters, keep it too.
    pub(super) fn take_back(
        &mut self,
        batch: &mut Batch,
        document: &Arc<Document>,
        identity: &Identity,
        entries: Vec<Opened>,
    ) -> Result<Vec<Opened>, KvError> {
        let (number, ours) = (identity.number, document.ours);
        let keys: Vec<[u8; 32]> =
            entries.iter().filter(|(entry, _)| entry.author == ours).map(|(entry, _)| entry.key).collect();
        if keys.is_empty() {
            return Ok(entries);
        }
        // What is here is read from storage.
        self.finish(std::mem::take(batch));
        let here = self.storage.entries(number, ours, &keys)?;
        let mut here: HashMap<[u8; 32], Sealed> = here.into_iter().flatten().map(|entry| (entry.key, entry)).collect();
        let since = document.written_since.load(Ordering::SeqCst);
        let mut taken = Vec::with_capacity(entries.len());
        for (mut entry, envelope) in entries {
            if entry.author == ours {
                let stands = here.get(&entry.key);
                let back = restored::returned(stands.map(Sealed::rank), entry.rank());
                let overruled = u64::from(stands.is_some_and(|stands| stands.counter >= since));
                match back {
                    Back::Known => continue,
                    Back::Kept => {}
                    Back::Anew => entry = self.sign_anew(batch, document, identity, &entry)?,
                }
                staged_of(&mut batch.staged, document, number).overruled += overruled;
                here.insert(entry.key, entry.clone());
            }
            taken.push((entry, envelope));
        }
        Ok(taken)
    }

    /// Signs anew each entry of ours that the other side may lack, and notes that both have agreed.
    pub(super) fn agree(
        &mut self,
        document: &Arc<Document>,
        identity: &Identity,
        upto: u64,
        returned: &Returned,
    ) -> Result<(), KvError> {
        let (number, author) = (identity.number, document.ours);
        if identity.replaced.is_cancelled() || !self.desks.contains_key(&number) {
            return Err(KvError::NotClaimed);
        }
        let mut batch = Batch::default();
        if let Some(desk) = self.desks.get_mut(&number)
            && upto >= desk.counter.reserve(0)
        {
            // It holds counters of another run from the same backup: what is signed, now and later, is to be beyond them.
            let from = restored::after_gap(desk.counter.reserve(0), upto, rand::random());
            desk.counter = AuthorCounter::restore(from);
            batch.rows.push(Row::Mark { number, author, mark: Mark::Bound, counter: from });
        }
        let (mut after, mut bytes) = (0, 0);
        loop {
            let some = self.storage.entries_after(number, author, after, upto)?;
            let Some(last) = some.last() else { break };
            after = last.counter;
            if bytes > MAX_BATCH_BYTES {
                bytes = 0;
                if let Some(error) = self.finish(std::mem::take(&mut batch)) {
                    return Err(error.into());
                }
            }
            for entry in some {
                if returned.lacks(upto, &entry.key, entry.counter, &entry.hash()) {
                    let opened = Envelope::decode(&entry.key, &entry.envelope, usize::MAX);
                    let envelope = opened.map_err(|error| KvError::Entry(error.to_string().into()))?;
                    let anew = self.sign_anew(&mut batch, document, identity, &entry)?;
                    bytes += anew.weight();
                    batch.rows.push(Row::Entry { number, entry: anew.clone() });
                    staged_of(&mut batch.staged, document, number).entries.push((anew, envelope));
                }
            }
        }
        let head = staged_of(&mut batch.staged, document, number).heads[author.index()];
        batch.rows.push(Row::Mark { number, author, mark: Mark::Restored, counter: 0 });
        batch.rows.push(Row::Mark { number, author, mark: Mark::Sent, counter: document.sent().max(upto) });
        if let Some(error) = self.finish(batch) {
            return Err(error.into());
        }
        if upto > document.sent() && !returned.shows_more(document.sent()) {
            document.was_claimed_in_vain();
        }
        document.is_sent(upto);
        document.has_agreed(head);
        Ok(())
    }

    fn sign_anew(
        &mut self,
        batch: &mut Batch,
        document: &Arc<Document>,
        identity: &Identity,
        entry: &Sealed,
    ) -> Result<Sealed, KvError> {
        let desk = self.desks.get_mut(&identity.number).ok_or(KvError::NotClaimed)?;
        let counter = next_counter(desk, identity.number, document.ours, &mut batch.rows)?;
        let (author, key, envelope) = (document.ours, entry.key, entry.envelope.clone());
        // It is sent as a write of now is.
        let head = &mut staged_of(&mut batch.staged, document, identity.number).heads[author.index()];
        *head = counter.max(*head);
        Ok(Sealed::sign(&identity.secret, &self.signer, author, key, counter, envelope))
    }
}
