//! What is done to a whole path: its access, its rule, its end, and its copies. Each is
//! a transaction of its own, after everything that was asked before it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use groundswell_core::{
    Access, AccessError, Aeon, Cursor, Epoch, Name, Path, Rule, Tide, Tombstone,
    tide::{Changes, RockInfo},
};

use super::{Batch, Declared, Driver, batch::stage, entry::Entry};
use crate::{
    cell::{Body, TideCell},
    error::{ManageError, StorageError, WriteError, panic_message},
    fold::{Beside, Fold},
    metrics::Metrics,
    source::PeerId,
    store::{Backing, History, TideKey, TideRow, Write},
    sync::write,
};

/// A change of who may read a path.
pub(crate) type AccessChange = Box<dyn FnOnce(Access<PeerId>) -> Result<Access<PeerId>, AccessError> + Send>;

impl Driver {
    /// Who may read a path, published or not.
    fn access_of(&self, key: &(Name, Path)) -> Access<PeerId> {
        if let Some(access) = self.access.get(key) {
            return access.clone();
        }
        let publication = TideKey::Publication { agent: key.0.clone(), path: key.1.clone() };
        let published = self.entries.contains_key(&publication)
            || self.stored.contains_key(&publication)
            || self.tombstones.contains_key(&publication);
        // What was published as public stays so, whatever the default has become since.
        if published { Access::Public } else { self.default_access.clone() }
    }

    /// Keeps who may read a path.
    pub(super) fn set_access(&mut self, key: (Name, Path), access: Access<PeerId>) {
        let before = self.access.get(&key);
        self.catalog.allowed.change(before, &access);
        self.access.insert(key, access);
    }

    /// Changes who may read a path. Once this returns, what is given reaches no one else.
    pub(super) fn change_access(
        &mut self,
        key: (Name, Path),
        change: AccessChange,
    ) -> Result<Access<PeerId>, ManageError> {
        let before = self.access_of(&key);
        let changed = catch_unwind(AssertUnwindSafe(|| change(before)));
        let access = changed.map_err(|panic| ManageError::Panicked(panic_message(&*panic)))??;
        let changed = access.clone();
        self.whole(move |driver| {
            driver.store.write(&[Write::Access { agent: &key.0, path: &key.1, access: &changed }])?;
            let publication = TideKey::Publication { agent: key.0.clone(), path: key.1.clone() };
            if let Some(entry) = driver.entries.get(&publication) {
                entry.cell.set_access(changed.clone());
            }
            driver.set_access(key.clone(), changed.clone());
            Ok(())
        })?;
        Ok(access)
    }

    /// Sets the rule of a publication, and does at once what it says.
    pub(super) async fn set_rule(&mut self, key: &TideKey, rule: Rule) -> Result<(), ManageError> {
        self.change_tide(key, |entry, changes| {
            entry.row.rule = rule;
            changes.set_rule(rule);
            entry.cell.with_tide(|tide| changes.wants_rock(tide)).unwrap_or_default()
        })
        .await
    }

    /// Makes a rock now, and drops everything older.
    pub(super) async fn wipe(&mut self, key: &TideKey) -> Result<(), ManageError> {
        self.change_tide(key, |_, changes| {
            changes.wipe();
            !changes.has_rock()
        })
        .await
    }

    /// Changes what is kept of a tide; `change` says whether a rock is to be made.
    async fn change_tide(
        &mut self,
        key: &TideKey,
        change: impl FnOnce(&mut Entry, &mut Changes) -> bool,
    ) -> Result<(), ManageError> {
        let no_state = || ManageError::NoState(key.path().clone());
        let entry = self.entries.get_mut(key).filter(|entry| entry.cell.has_state()).ok_or_else(no_state)?;
        let mut batch = Batch::default();
        let staged = stage(entry, &mut batch.staged, &self.metrics).await?;
        let wants_rock = change(entry, &mut staged.changes);
        let rock = wants_rock.then(|| entry.encode_rock(&self.metrics)).transpose();
        let refused = match rock {
            Ok(Some((info, rock))) => {
                staged.push_rock(info, rock);
                None
            }
            Ok(None) => None,
            Err(refused) => Some(refused.to_string()),
        };
        if let Some(reason) = refused {
            self.take_back(batch.staged).await;
            return Err(ManageError::NoRock { path: key.path().clone(), reason });
        }
        Ok(self.finish(batch).await?)
    }

    /// Ends a publication: its history goes, a tombstone stays. One that has ended stays ended.
    pub(super) async fn kill(&mut self, key: &TideKey) -> Result<(), ManageError> {
        let Some(entry) = self.entries.get_mut(key) else {
            let killed = self.tombstones.contains_key(key);
            return if killed { Ok(()) } else { Err(ManageError::NoState(key.path().clone())) };
        };
        let tombstone = entry.cell.with_tide(Tide::tombstone);
        let tombstone = tombstone.ok_or_else(|| ManageError::NoState(key.path().clone()))?;
        let (key, id) = (key.clone(), entry.backing.disk_id());
        Ok(self.whole(move |driver| {
            // Of one in memory there is nothing to drop: the next run begins it in a new epoch anyway.
            if let Some(id) = id {
                driver.store.write(&[Write::Tombstone { key: &key, tombstone: &tombstone }, Write::Drop { id }])?;
            }
            if let Some(entry) = driver.entries.remove(&key) {
                entry.cell.kill();
            }
            driver.tombstones.insert(key.clone(), tombstone);
            Ok(())
        })?)
    }

    /// Notes of a replica whether its source has ended for this node.
    pub(super) fn source_killed(&mut self, cell: &TideCell, killed: bool) -> Result<(), WriteError> {
        let key = cell.key();
        let Some(entry) = self.entries.get(key).filter(|entry| std::ptr::eq(&*entry.cell, cell)) else { return Ok(()) };
        let Some(tombstone) = entry.cell.with_tide(Tide::tombstone) else { return Ok(()) };
        let key = key.clone();
        self.whole(move |driver| {
            let write = match killed {
                true => Write::Tombstone { key: &key, tombstone: &tombstone },
                false => Write::NoTombstone { key: &key },
            };
            driver.store.write(&[write])?;
            match killed {
                true => driver.tombstones.insert(key.clone(), tombstone),
                false => driver.tombstones.remove(&key),
            };
            Ok(())
        })
    }

    /// Begins a publication with the state and the history of another one, in an epoch of its own.
    /// `access` is that of the new one; without it, it is the origin's.
    pub(super) async fn replicate(
        &mut self,
        from: &TideKey,
        declared: &Declared,
        to: Path,
        access: Option<Access<PeerId>>,
    ) -> Result<Aeon, ManageError> {
        self.may_copy(from, declared, &to)?;
        let no_state = || ManageError::NoState(from.path().clone());
        let no_rock = |reason: String| ManageError::NoRock { path: from.path().clone(), reason };
        let origin = self.entries.get_mut(from).ok_or_else(no_state)?;
        let rock = origin.copy_rock(&self.metrics).await?.map_err(no_rock)?;
        let mut fold = (declared.new_fold)();
        fold.open_beside(Beside::Nothing);
        fold.load(Some(&rock)).map_err(|error| no_rock(error.to_string()))?;
        self.begin_copy(from, declared, to, access, fold)
    }

    /// Whether a publication may begin with the state of another tide.
    pub(super) fn may_copy(&self, from: &TideKey, declared: &Declared, to: &Path) -> Result<(), ManageError> {
        let key = TideKey::Publication { agent: declared.agent.clone(), path: to.clone() };
        if self.entries.contains_key(&key) || self.stored.contains_key(&key) {
            return Err(ManageError::NotEmpty(to.clone()));
        }
        let origin = self.entries.get(from).filter(|entry| entry.cell.has_state());
        let origin = origin.ok_or_else(|| ManageError::NoState(from.path().clone()))?;
        if origin.row.lake != declared.lake {
            let (path, stored) = (from.path().clone(), origin.row.lake.clone());
            return Err(ManageError::LakeVersion { path, stored, declared: declared.lake.clone() });
        }
        Ok(())
    }

    /// The same, with the rock of the origin in a fold of its own.
    pub(super) fn begin_copy(
        &mut self,
        from: &TideKey,
        declared: &Declared,
        to: Path,
        access: Option<Access<PeerId>>,
        mut fold: Box<dyn Fold>,
    ) -> Result<Aeon, ManageError> {
        self.may_copy(from, declared, &to)?;
        let key = TideKey::Publication { agent: declared.agent.clone(), path: to.clone() };
        let no_state = || ManageError::NoState(from.path().clone());
        let origin = self.entries.get(from).ok_or_else(no_state)?;
        let epoch = Epoch(rand::random());
        let tide = origin.cell.with_tide(|tide| tide.forked(epoch)).ok_or_else(no_state)?;
        let backing = self.new_backing(declared.durability);
        let origin = self.entries.get(from).ok_or_else(no_state)?;
        let history = origin.backing.history(&tide, backing.disk_id().is_some())?;
        let own = (declared.agent.clone(), to);
        let from_access = match from {
            TideKey::Publication { agent, path } => self.access_of(&(agent.clone(), path.clone())),
            TideKey::Replica(_) => Access::secret(),
        };
        let access = access.unwrap_or(from_access);
        let row = TideRow { key: key.clone(), lake: declared.lake.clone(), epoch, rule: tide.rule() };
        let at = tide.cursor();
        fold.close(Some(at));
        let mut parts = Some((fold, tide, history));
        self.whole(move |driver| {
            let Some((_, _, history)) = &parts else { return Ok(()) };
            let mut writes = vec![Write::Access { agent: &own.0, path: &own.1, access: &access }];
            writes.push(Write::NoTombstone { key: &key });
            if let Some(id) = backing.disk_id() {
                writes.push(Write::Tide { id, row: &row });
                writes.push(Write::Import { id, from: history });
            }
            driver.store.write(&writes)?;
            let Some((fold, tide, history)) = parts.take() else { return Ok(()) };
            if backing.disk_id().is_none() {
                backing.fill(history);
            }
            let cell = driver.catalog.cell(&key);
            let (lake, rock) = (row.lake.clone(), fold.slot());
            cell.begin(Body { lake, tide, backing: backing.clone(), rock, access: access.clone() });
            cell.wake();
            driver.entries.insert(key.clone(), Entry::new(cell, fold, row.clone(), backing.clone()));
            driver.tombstones.remove(&key);
            driver.set_access(own.clone(), access.clone());
            Ok(())
        })?;
        Ok(at.aeon)
    }

    /// Where a publication begins: after its tombstone, where there is one.
    pub(super) fn tombstone_of(&self, key: &TideKey) -> Option<Tombstone> {
        self.tombstones.get(key).copied()
    }
}

impl Entry {
    /// The encoding of the rock as it is committed; or why it has none.
    async fn copy_rock(&mut self, metrics: &Metrics) -> Result<Result<Vec<u8>, String>, StorageError> {
        self.broken |= !self.fold.open(metrics).await;
        let loaded = if self.broken { self.load_committed().map_err(StorageError::new) } else { Ok(()) };
        self.broken &= loaded.is_err();
        let rock = loaded.map(|()| self.fold.encode(metrics).map_err(|error| error.to_string()));
        self.fold.close(self.cell.cursor().filter(|_| !self.broken));
        rock
    }
}

/// The rock of a tide that was upgraded, with what is known of it.
pub(super) struct Upgraded {
    pub(super) id: u64,
    pub(super) row: TideRow,
    pub(super) changes: Changes,
    pub(super) rocks: Vec<(Aeon, Bytes)>,
}

impl Upgraded {
    /// A new epoch at the same aeon, which begins with the upgraded rock.
    pub(super) fn new(id: u64, row: TideRow, at: Aeon, info: RockInfo, rock: Vec<u8>) -> Self {
        let cursor = Cursor { epoch: row.epoch, aeon: at };
        let mut changes = Tide::begin(cursor, row.rule, info).stage();
        changes.begin_anew(cursor, info);
        Self { id, row, changes, rocks: vec![(at, rock.into())] }
    }

    /// What is to be written for it.
    pub(super) fn writes(&self) -> [Write<'_>; 2] {
        let (id, row) = (self.id, &self.row);
        [Write::Tide { id, row }, Write::Changes { id, changes: &self.changes, rocks: &self.rocks, ahead: &[] }]
    }
}

/// Storage of a tide that is in memory gets a history.
impl Backing {
    fn fill(&self, history: History) {
        if let (Self::Memory(tide), History::Memory(history)) = (self, history) {
            *write(tide) = history;
        }
    }
}
