//! Gives that have an id: each is done once, however often it is asked for.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use groundswell_core::{Aeon, Digest, Name, Path};

use super::{Command, Driver, Durability, Unknown};
use crate::{
    error::{OutcomeUnknown, StorageError, WriteError},
    ids::{self, IdError, Ids, WriteId},
    limits::MAX_WRITE_IDS,
    store::Store,
};

/// The ids that are remembered of each agent's gives. Those to publications in memory go with the process, and have a window
/// of their own. So they push no stored id out, and the window of the stored ones is after a restart what it was before: one
/// that is full then has all of its ids, which tells that others were forgotten.
pub(super) type Windows = HashMap<(Name, Durability), Ids<Aeon>>;

/// An agent's windows.
pub(super) const BOTH: [Durability; 2] = [Durability::Disk, Durability::Memory];

/// Those that storage holds.
pub(super) fn stored(store: &Store) -> Result<Windows, StorageError> {
    let mut ids: HashMap<Name, BTreeMap<_, _>> = HashMap::new();
    for ((agent, id), done) in store.ids()? {
        ids.entry(agent).or_default().insert(id, done);
    }
    let restored = |(agent, kept)| ((agent, Durability::Disk), Ids::restore(MAX_WRITE_IDS, kept));
    Ok(ids.into_iter().map(restored).collect())
}

/// Of all that a give says.
pub(super) fn digest(path: &Path, waves: &[Bytes]) -> Digest {
    ids::digest([path.as_str().as_bytes()].into_iter().chain(waves.iter().map(|wave| &wave[..])))
}

impl Driver {
    /// Gives a command back, unless it is a give whose id says at once what to answer: one that was done before, which is
    /// durable whatever becomes of anything else, or one that may not be done.
    pub(super) fn unless_known(&self, command: Command) -> Option<Command> {
        let Command::Give { declared, path, waves, id: Some(id), reply } = command else { return Some(command) };
        let known = self.look(&declared.agent, &id, || digest(&path, &waves));
        // A caller that no longer waits needs no answer.
        match known {
            Ok(None) => return Some(Command::Give { declared, path, waves, id: Some(id), reply }),
            Ok(Some(aeon)) => drop(reply.send(Ok(aeon))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        None
    }

    /// What came of a give that has this id. One that sorts before either full window may have been in it.
    fn look(&self, agent: &Name, id: &WriteId, digest: impl FnOnce() -> Digest) -> Result<Option<Aeon>, IdError> {
        let windows = || BOTH.into_iter().filter_map(|durability| self.ids.get(&(agent.clone(), durability)));
        match windows().find(|ids| ids.has(id)) {
            Some(ids) => ids::look(Some(ids), None, id, digest),
            None => windows().try_for_each(|ids| ids.check_age(id)).map(|()| None),
        }
    }

    /// Refuses a command. Nothing was done, unless it repeats a give that was done, or one whose outcome is unknown.
    pub(super) fn refuse(&self, command: Command, why: WriteError) {
        let Some(command) = self.unless_known(command) else { return };
        let is_unknown = match (&command, &self.unknown) {
            (Command::Give { declared, id: Some(id), .. }, Some(Unknown::Batch(batch))) => {
                batch.has(&declared.agent, id)
            }
            _ => false,
        };
        command.refuse(if is_unknown { OutcomeUnknown::earlier(why).into() } else { why });
    }
}
