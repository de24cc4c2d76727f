//! Writes that have an id: each is done once, however often it is asked for.

use std::sync::Arc;

use groundswell_core::{
    Digest,
    kv::{Change, KvEntry, KvKey, SpaceName},
};

use super::{Batch, Command, Keeper, staged_of};
use crate::{
    error::OutcomeUnknown,
    ids::{self, Done, IdError, WriteId},
    kv::{
        document::Document,
        error::{KvError, Written},
        storage::Outcome,
    },
};

/// Of all that a write says.
fn digest(space: &SpaceName, key: &KvKey, change: &Change) -> Digest {
    let (kind, value) = match change {
        Change::Put(value) => (&b"put"[..], &value[..]),
        Change::Delete => (&b"delete"[..], &[][..]),
    };
    ids::digest([kind, space.as_str().as_bytes(), key.as_bytes(), value])
}

/// What a write did that had this outcome.
fn written(outcome: Outcome, document: &Document, key: KvKey, change: Change, id: WriteId) -> Result<Written, KvError> {
    Ok(match (outcome, change) {
        (Outcome::Put { timestamp }, Change::Put(value)) => {
            Written::Put(KvEntry { key, value, author: document.ours, timestamp })
        }
        (Outcome::Deleted { had_value }, _) => Written::Deleted(had_value),
        (Outcome::Put { .. }, Change::Delete) => return Err(IdError::Reused(id).into()),
    })
}

impl Keeper {
    /// Gives a command back, unless it is a write whose id says at once what to answer: one that was done before, which is
    /// durable whatever becomes of anything else, or one that may not be done.
    pub(super) fn unless_known(&self, command: Command) -> Option<Command> {
        let Command::Write { document, space, key, change, id: Some(id), reply } = command else {
            return Some(command);
        };
        let desk = self.desks.get(&document.identity().number);
        let known = ids::look(desk.map(|desk| &desk.ids), None, &id, || digest(&space, &key, &change));
        // A caller that no longer waits needs no answer.
        match known {
            Ok(None) => return Some(Command::Write { document, space, key, change, id: Some(id), reply }),
            Ok(Some(outcome)) => drop(reply.send(written(outcome, &document, key, change, id))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        None
    }

    /// Whether this id is that of a write whose outcome is unknown.
    pub(super) fn is_unknown(&self, document: &Document, id: Option<&WriteId>) -> bool {
        id.is_some_and(|id| self.unknown.contains(&(document.identity().number, id.clone())))
    }

    /// Refuses a command. Nothing was done, unless it repeats a write that was done, or one whose outcome is unknown.
    pub(super) fn refuse(&self, command: Command) {
        let Some(command) = self.unless_known(command) else { return };
        match command {
            Command::Write { document, id, reply, .. } if self.is_unknown(&document, id.as_ref()) => {
                let _ = reply.send(Err(KvError::Unknown(OutcomeUnknown::earlier(KvError::ShutDown))));
            }
            command => command.refuse(),
        }
    }

    /// Stages a write that was not done before, unless it is in this batch already, by its id.
    pub(super) fn stage_once(
        &mut self,
        batch: &mut Batch,
        document: &Arc<Document>,
        space: SpaceName,
        key: KvKey,
        change: Change,
        id: Option<WriteId>,
    ) -> Result<Written, KvError> {
        let Some(id) = id else { return self.stage_write(batch, document, space, key, change) };
        let number = document.identity().number;
        let digest = digest(&space, &key, &change);
        let staged = batch.staged.get(&number).map(|staged| &staged.ids);
        if let Some(outcome) = ids::look(None, staged, &id, || digest)? {
            return written(outcome, document, key, change, id);
        }
        let written = self.stage_write(batch, document, space, key, change)?;
        let result = match &written {
            Written::Put(entry) => Outcome::Put { timestamp: entry.timestamp },
            Written::Deleted(had_value) => Outcome::Deleted { had_value: *had_value },
        };
        staged_of(&mut batch.staged, document, number).ids.insert(id, Done { digest, result });
        Ok(written)
    }
}
