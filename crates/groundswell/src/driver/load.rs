//! What the driver reads from storage: tides that a declaration or a subscription asks for.

use std::sync::Arc;

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Digest, Epoch, LakeId, Name, Older, Rule, UpgradeError,
    limits::MAX_ROCK_BYTES,
    tide::{RockInfo, Tide},
};
use tokio::sync::oneshot;

use super::{
    Declared, Driver,
    entry::{Entry, LoadError},
    manage::Upgraded,
};
use crate::{
    cell::{Body, TideCell},
    changes::StatusChanges,
    driver::Durability,
    error::{DeclareError, StorageError, SurfError, WriteError},
    fold::Beside,
    limits::MAX_REPLICA_HISTORY_BYTES,
    metrics::Metrics,
    source::{PeerId, Source},
    store::{Backing, Store, TideKey, TideRow, Write},
};

/// The epoch of a replica that has received no rock yet; nothing is stored of it.
const NO_EPOCH: Epoch = Epoch([0; 16]);

/// Where the replica of a wanted source is.
enum Wanted {
    Here(Arc<TideCell>),
    /// In storage, to be loaded.
    Stored((u64, TideRow)),
}

/// Why a tide of another version was not upgraded.
pub(super) enum UpgradeFailed {
    /// The lake has no upgrade from there, or it is another lake.
    NoWay,
    Failed(String),
    Storage(StorageError),
}

impl From<StorageError> for UpgradeFailed {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl Driver {
    /// Loads every stored publication that the declaration covers. All of them can be loaded,
    /// or none is published.
    pub(super) fn declare(&mut self, declared: &Declared) -> Result<(), DeclareError> {
        let covered = |key: &TideKey| match key {
            TideKey::Publication { agent, path } => *agent == declared.agent && declared.pattern.covers(path),
            TideKey::Replica(_) => false,
        };
        let keys: Vec<TideKey> = self.stored.keys().filter(|key| covered(key)).cloned().collect();
        let older: Vec<_> = keys.iter().filter_map(|key| self.stored.get(key)).cloned().collect();
        let older: Vec<_> = older.into_iter().filter(|(_, row)| row.lake != declared.lake).collect();
        // Tried before any is stored, so that an older program can still open them all. One by one:
        // together they may not fit into memory.
        for store in [false, true] {
            for (id, row) in older.iter().filter(|_| store || older.len() > 1) {
                let upgraded = Loading::new(self, &row.key).upgrade(*id, row, declared).map_err(|error| {
                    let (path, stored) = (row.key.path().clone(), row.lake.clone());
                    let declared = declared.lake.clone();
                    match error {
                        UpgradeFailed::NoWay => DeclareError::LakeVersion { path, stored, declared },
                        UpgradeFailed::Storage(error) => error.into(),
                        UpgradeFailed::Failed(reason) => DeclareError::Upgrade { path, stored, declared, reason },
                    }
                })?;
                if store {
                    self.store_upgraded(upgraded)?;
                }
            }
        }
        let mut loaded = Vec::new();
        for key in keys {
            let Some((id, row)) = self.stored.get(&key).cloned() else { continue };
            let entry = Loading::new(self, &key).load(id, row, declared);
            let entry = entry.map_err(|error| match error {
                LoadError::Storage(error) => error.into(),
                error => DeclareError::Damaged { path: key.path().clone(), reason: error.to_string() },
            })?;
            loaded.push((key, entry));
        }
        for (key, (entry, body)) in loaded {
            self.stored.remove(&key);
            entry.cell.begin(body);
            entry.cell.wake();
            self.entries.insert(key, entry);
        }
        Ok(())
    }

    pub(super) fn store_upgraded(&mut self, upgraded: Upgraded) -> Result<(), WriteError> {
        self.whole(move |driver| {
            driver.store.write(&upgraded.writes())?;
            let Upgraded { id, row, .. } = &upgraded;
            tracing::info!(path = %row.key, lake = %row.lake, "upgraded");
            driver.stored.insert(row.key.clone(), (*id, row.clone()));
            Ok(())
        })
    }

    fn store_want(&mut self, agent: Name, source: Source, lake: LakeId) -> Result<(), WriteError> {
        let write =
            move |driver: &mut Self| driver.store.write(&[Write::Want { agent: &agent, source: &source, lake: &lake }]);
        self.whole(write)
    }

    /// Notes that an agent follows a source, and answers with the source's cell, its replica loaded.
    pub(super) fn want(
        &mut self,
        declared: Arc<Declared>,
        source: Source,
        reply: oneshot::Sender<Result<Arc<TideCell>, SurfError>>,
    ) {
        // Whoever no longer waits for the answer does not need it.
        match self.note_want(&declared, &source) {
            Err(error) => drop(reply.send(Err(error))),
            Ok(Wanted::Here(cell)) => drop(reply.send(Ok(cell))),
            Ok(Wanted::Stored(stored)) => self.load_replica(stored, declared, source, reply),
        }
    }

    fn note_want(&mut self, declared: &Declared, source: &Source) -> Result<Wanted, SurfError> {
        let store = |driver: &mut Self| {
            driver.store_want(declared.agent.clone(), source.clone(), declared.lake.clone()).map_err(SurfError::from)
        };
        if source.peer == self.id {
            // Its own publication needs no replica. A wish for the wrong lake is refused before
            // it is noted: noted, it would be in the way of the right one at each start.
            let key = TideKey::Publication { agent: source.agent.clone(), path: source.path.clone() };
            // One that is only stored may be an older version, which is upgraded when it is declared.
            let loaded = self.catalog.existing(&key).and_then(|cell| cell.lake());
            let loaded = loaded.filter(|lake| *lake != declared.lake);
            let stored = self.stored.get(&key).map(|(_, row)| row.lake.clone());
            let newer = |lake: &LakeId| lake.name != declared.lake.name || lake.version > declared.lake.version;
            if let Some(stored) = loaded.or(stored.filter(newer)) {
                return Err(SurfError::LakeVersion { stored, declared: declared.lake.clone() });
            }
            store(self)?;
            return Ok(Wanted::Here(self.catalog.cell(&key)));
        }
        let key = TideKey::Replica(source.clone());
        if let Some(held) = self.entries.get(&key) {
            let (stored, cell) = (held.row.lake.clone(), held.cell.clone());
            if stored != declared.lake {
                return Err(SurfError::LakeVersion { stored, declared: declared.lake.clone() });
            }
            store(self)?;
            return Ok(Wanted::Here(cell));
        }
        if let Some((id, row)) = self.stored.get(&key).cloned() {
            // One of another version is upgraded before the wish is noted.
            if row.lake == declared.lake {
                store(self)?;
            }
            return Ok(Wanted::Stored((id, row)));
        }
        store(self)?;
        // Nothing is stored of a replica before its first rock.
        let backing = self.new_backing(Durability::Disk);
        let row = TideRow { key: key.clone(), lake: declared.lake.clone(), epoch: NO_EPOCH, rule: Rule::default() };
        let cell = self.catalog.cell(&key);
        let fold = (declared.new_fold)();
        if self.tombstones.contains_key(&key) {
            cell.set_killed(true);
        }
        self.entries.insert(key, Entry::new(cell.clone(), fold, row, backing));
        Ok(Wanted::Here(cell))
    }

    /// Notes that an agent no longer follows a source; `last` says that no other does.
    pub(super) fn unwant(&mut self, agent: &Name, source: &Source, last: bool) -> Result<(), WriteError> {
        let (agent, source, key) = (agent.clone(), source.clone(), TideKey::Replica(source.clone()));
        if !last || source.peer == self.id {
            return self.whole(move |driver| driver.store.write(&[Write::Unwant { agent: &agent, source: &source }]));
        }
        // An agent that an earlier run had, and that this one has not declared yet, still wants it.
        let wanted = self.store.wanted()?.iter().any(|(other, from, _)| *from == source && *other != agent);
        let stored = self.replica_stored(&key);
        self.whole(move |driver| {
            let mut writes = vec![Write::Unwant { agent: &agent, source: &source }];
            if let (Some((id, _)), false) = (&stored, wanted) {
                writes.push(Write::Drop { id: *id });
                writes.push(Write::NoTombstone { key: &key });
            }
            driver.store.write(&writes)?;
            driver.forget_replica(&key);
            if !wanted {
                driver.tombstones.remove(&key);
            }
            match stored.clone().filter(|_| wanted) {
                Some(stored) => driver.stored.insert(key.clone(), stored),
                None => driver.stored.remove(&key),
            };
            Ok(())
        })
    }

    pub(super) fn new_backing(&mut self, durability: Durability) -> Backing {
        match durability {
            Durability::Disk => {
                let id = self.next_id;
                self.next_id += 1;
                Backing::Disk { store: self.store.clone(), id }
            }
            Durability::Memory => Backing::Memory(Arc::default()),
        }
    }
}

/// What loading a stored tide takes, so that it can be done away from the driver.
pub(super) struct Loading {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    cell: Arc<TideCell>,
    access: Access<PeerId>,
    killed: bool,
}

impl Loading {
    pub(super) fn new(driver: &Driver, key: &TideKey) -> Self {
        let access = match key {
            TideKey::Publication { agent, path } => {
                driver.access.get(&(agent.clone(), path.clone())).cloned().unwrap_or_default()
            }
            TideKey::Replica(_) => Access::secret(),
        };
        Self {
            store: driver.store.clone(),
            metrics: driver.metrics.clone(),
            cell: driver.catalog.cell(key),
            access,
            killed: driver.tombstones.contains_key(key),
        }
    }

    /// What the declared lake makes of a tide that is stored under another version.
    pub(super) fn upgrade(&self, id: u64, row: &TideRow, declared: &Declared) -> Result<Upgraded, UpgradeFailed> {
        if row.lake.name != declared.lake.name || row.lake.version > declared.lake.version {
            return Err(UpgradeFailed::NoWay);
        }
        let stored = self.store.tide(id)?;
        let backing = Backing::Disk { store: self.store.clone(), id };
        let failed = |reason: &dyn std::fmt::Display| UpgradeFailed::Failed(reason.to_string());
        let (&newest, info) = stored.rocks.last_key_value().ok_or_else(|| failed(&LoadError::NoRock))?;
        let rock = backing.rock(newest, *info)?.ok_or_else(|| failed(&LoadError::NoRock))?;
        if Digest::of(&rock) != info.digest {
            return Err(failed(&LoadError::WrongDigest(newest)));
        }
        let mut waves: Vec<Bytes> = Vec::new();
        let head = stored.waves.map_or(newest, |(_, last)| last.max(newest));
        while newest.0 + (waves.len() as u64) < head.0 {
            let next = Aeon(newest.0 + waves.len() as u64).next();
            let more = backing.waves(next, head, crate::limits::MAX_BATCH_BYTES)?;
            if more.is_empty() {
                return Err(failed(&LoadError::Gap(next)));
            }
            waves.extend(more);
        }
        let mut fold = (declared.new_fold)();
        fold.open_beside(Beside::Nothing);
        fold.upgrade(Older::new(row.lake.version, &rock, &waves)).map_err(|error| match error {
            UpgradeError::NoWay { .. } => UpgradeFailed::NoWay,
            UpgradeError::Failed(reason) => UpgradeFailed::Failed(reason),
        })?;
        let rock = fold.encode(&self.metrics).map_err(|error| failed(&error))?;
        if rock.len() > MAX_ROCK_BYTES {
            return Err(UpgradeFailed::Failed(format!("the rock would have {} bytes", rock.len())));
        }
        let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(&rock) };
        let row = TideRow { lake: declared.lake.clone(), epoch: Epoch(rand::random()), ..row.clone() };
        Ok(Upgraded::new(id, row, head, info, rock))
    }

    /// Makes the entry of a stored tide, its rock loaded and checked.
    pub(super) fn load(self, id: u64, row: TideRow, declared: &Declared) -> Result<(Entry, Body), LoadError> {
        let backing = Backing::Disk { store: self.store.clone(), id };
        let stored = self.store.tide(id)?;
        let oversize = stored.rocks.values().any(|info| info.bytes > MAX_ROCK_BYTES as u64);
        let newest = stored.rocks.last_key_value().map(|(aeon, _)| *aeon).filter(|_| !oversize);
        let newest = newest.ok_or(LoadError::NoRock)?;
        // What an agent of this node gives is not weighed.
        let weighed = matches!(row.key, TideKey::Replica(_));
        let first = stored.waves.map(|(first, _)| first).filter(|_| weighed).unwrap_or(newest.next());
        let sizes = sizes(&backing, first, stored.waves.map(|(_, last)| last))?;
        let bytes_since_rock = sizes.iter().filter(|(aeon, _)| *aeon > newest).map(|(_, bytes)| bytes).sum();
        let tide = Tide::restore(row.epoch, row.rule, stored.rocks, stored.waves, bytes_since_rock)
            .map_err(|_| LoadError::Gap(newest.next()))?;
        let tide = if weighed { tide.bounded(MAX_REPLICA_HISTORY_BYTES, sizes) } else { tide };
        let mut fold = (declared.new_fold)();
        fold.open_beside(Beside::Nothing);
        let slot = fold.slot();
        // The entry is loaded against a cell of its own, so that no reader sees it half-way.
        let draft = Arc::new(TideCell::new(row.key.clone(), StatusChanges::default()));
        let body = || Body {
            lake: row.lake.clone(),
            tide: tide.clone(),
            backing: backing.clone(),
            rock: slot.clone(),
            access: self.access.clone(),
        };
        draft.begin(body());
        let mut entry = Entry::new(draft, fold, row.clone(), backing.clone());
        entry.load_committed()?;
        entry.fold.close(Some(tide.cursor()));
        let body = body();
        if self.killed {
            self.cell.set_killed(true);
        }
        entry.cell = self.cell;
        Ok((entry, body))
    }
}

/// The sizes of stored waves, from this one on.
fn sizes(backing: &Backing, mut first: Aeon, last: Option<Aeon>) -> Result<Vec<(Aeon, u64)>, StorageError> {
    let mut sizes = Vec::new();
    while let Some(last) = last.filter(|last| first <= *last) {
        let waves = backing.waves(first, last, crate::limits::MAX_BATCH_BYTES)?;
        if waves.is_empty() {
            break;
        }
        sizes.extend((first.0..).map(Aeon).zip(waves.iter().map(|wave| wave.len() as u64)));
        first = Aeon(first.0 + waves.len() as u64);
    }
    Ok(sizes)
}
