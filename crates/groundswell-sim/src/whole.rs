//! What a publisher does to its path as a whole: it begins and ends it, says who may read it, and
//! begins it with the history of another. Each is a transaction of its own.

use bytes::Bytes;
use groundswell_core::{Access, Aeon, Cursor, Tide, Tombstone};

use crate::{
    bug::Bug,
    checkers::Broken,
    context::Context,
    disk::{Import, Rows, Write},
    lake::{self, Rock},
    publisher::{Publisher, Run},
};

/// A tide that another path can begin with, as it is stored and as it is in memory.
pub(crate) struct Origin {
    pub(crate) rows: Rows,
    pub(crate) tide: Tide,
    pub(crate) rock: Rock,
    /// Of a path of this publisher's kind, who may read it; a replica is copied.
    pub(crate) access: Option<Access<usize>>,
}

impl Publisher {
    /// Publishes the default rock: at aeon 0 of a new epoch, or after the tombstone.
    pub(crate) fn open(&mut self, cx: &mut Context) -> Result<(), Broken> {
        let tombstone = self.disk.rows().tombstone;
        let at = match tombstone {
            Some(tombstone) if cx.has(Bug::ReopenAtSameAeon) => tombstone.at,
            Some(tombstone) => tombstone.reopened_at(),
            None => Cursor { epoch: cx.new_epoch(), aeon: Aeon::ZERO },
        };
        cx.report.reopenings += u64::from(tombstone.is_some());
        let rule = tombstone.map_or(self.rule, |tombstone| tombstone.rule);
        let rock = Bytes::from(lake::rock_bytes(&Rock::default())?);
        self.write(cx, Write::Begin { at, rule, rock });
        Ok(())
    }

    /// Ends the path.
    pub(crate) fn kill(&mut self, cx: &mut Context) {
        let Some(Run { tide: Some(tide), .. }) = &self.run else { return };
        let tombstone = tide.tombstone();
        cx.report.kills += 1;
        self.write(cx, Write::Kill { tombstone });
    }

    /// A path that had ended came back with a backup: what readers saw after it is lost.
    pub(crate) fn renew_tombstone(&mut self, cx: &mut Context) {
        let Some(Tombstone { mut at, rule }) = self.disk.rows().tombstone else { return };
        if !cx.has(Bug::RestoredTombstoneKeepsEpoch) {
            at.epoch = cx.new_epoch();
        }
        self.write(cx, Write::Kill { tombstone: Tombstone { at, rule } });
    }

    /// Changes who may read. What can't be done is not done.
    pub(crate) fn change_access(
        &mut self,
        cx: &mut Context,
        change: impl FnOnce(Access<usize>, &mut Context) -> Option<Access<usize>>,
    ) {
        let Some(before) = self.run.as_ref().map(|run| run.access.clone()) else { return };
        let Some(access) = change(before, cx) else { return };
        if let (Some(run), true) = (&mut self.run, cx.has(Bug::AccessBeforePersist)) {
            run.access = access.clone();
            crate::serve::wake(cx, run);
        }
        cx.report.access_changes += 1;
        self.write(cx, Write::Access { access });
    }

    /// What another path can begin with.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let run = self.run.as_ref().filter(|_| self.is_ready())?;
        let (rows, rock, access) = (self.disk.rows().clone(), run.rock.clone(), Some(run.access.clone()));
        Some(Origin { rows, tide: run.tide.clone()?, rock, access })
    }

    /// Begins the path with the state and the history of another tide, in an epoch of its own. A copy
    /// is secret; a fork keeps what was said of this path, or else has what its origin has.
    pub(crate) fn replicate(&mut self, cx: &mut Context, origin: Origin) {
        let from = origin.tide.cursor();
        let epoch = if cx.has(Bug::ForkKeepsEpoch) { from.epoch } else { cx.new_epoch() };
        let tide = origin.tide.forked(epoch);
        let copied = origin.access.is_none();
        let access = match origin.access {
            None if cx.has(Bug::CopyIsPublic) => Access::Public,
            None => Access::secret(),
            Some(access) => self.disk.rows().access.clone().unwrap_or(access),
        };
        let rows = Rows {
            tide: Some((epoch, tide.rule())),
            restored: false,
            tombstone: None,
            access: Some(access),
            ended: false,
            ..origin.rows
        };
        cx.report.copies += u64::from(copied);
        cx.report.forks += u64::from(!copied);
        self.write(cx, Write::Import(Box::new(Import { rows, tide, rock: origin.rock, from, copied })));
    }
}
