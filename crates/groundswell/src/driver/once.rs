//! Gives that have an id: each is done once, however often it is asked for.

use bytes::Bytes;
use groundswell_core::{Digest, Path};

use super::{Command, Driver, Unknown};
use crate::{
    error::{OutcomeUnknown, WriteError},
    ids,
};

/// Of all that a give says.
pub(super) fn digest(path: &Path, waves: &[Bytes]) -> Digest {
    ids::digest([path.as_str().as_bytes()].into_iter().chain(waves.iter().map(|wave| &wave[..])))
}

impl Driver {
    /// Gives a command back, unless it is a give whose id says at once what to answer: one that was done before, which is
    /// durable whatever becomes of anything else, or one that may not be done.
    pub(super) fn unless_known(&self, command: Command) -> Option<Command> {
        let Command::Give { declared, path, waves, id: Some(id), reply } = command else { return Some(command) };
        let known = ids::look(self.ids.get(&declared.agent), None, &id, || digest(&path, &waves));
        // A caller that no longer waits needs no answer.
        match known {
            Ok(None) => return Some(Command::Give { declared, path, waves, id: Some(id), reply }),
            Ok(Some(aeon)) => drop(reply.send(Ok(aeon))),
            Err(error) => drop(reply.send(Err(error.into()))),
        }
        None
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
