//! The states in the tables of the node's disk: what is written to them and read from them.

mod backing;
mod reading;
pub(crate) mod rows;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Digest, Epoch, LakeId, Name, Path as PublishedPath, Tombstone,
    encoding::encode,
    tide::{Changes, RockInfo},
};
use iroh::EndpointAddr;
use serde::Serialize;

pub(crate) use self::{
    backing::{Backing, History},
    rows::{Fail, TideKey, TideRow},
};
use crate::{
    disk::{
        Ahead, Disk, Row,
        states::{Row as StateRow, Table},
    },
    error::{OpenError, StorageError, WriteError},
    identity::DataDir,
    ids::{Done, WriteId},
    metrics::Metrics,
    source::{PeerId, Source},
};

/// One change of states. A list of them is one record.
pub(crate) enum Write<'a> {
    /// A tide's own row.
    Tide { id: u64, row: &'a TideRow },
    /// What a tide's changes put and drop. `rocks` holds the encodings of the rocks that the
    /// changes name, and perhaps of more; those in `ahead` are stored already.
    Changes { id: u64, changes: &'a Changes, rocks: &'a [(Aeon, Bytes)], ahead: &'a [Ahead] },
    /// A tide goes, with everything it has.
    Drop { id: u64 },
    /// A tide gets the history of another.
    Import { id: u64, from: &'a History },
    /// Who may read a path.
    Access { agent: &'a Name, path: &'a PublishedPath, access: &'a Access<PeerId> },
    /// A tide was killed.
    Tombstone { key: &'a TideKey, tombstone: &'a Tombstone },
    /// It begins again.
    NoTombstone { key: &'a TideKey },
    /// An agent's handler failed on a state, or no longer does.
    Fail { agent: &'a Name, source: &'a Source, fail: Option<&'a Fail> },
    /// A write of an agent's has this id.
    Id { agent: &'a Name, id: &'a WriteId, done: &'a Done<Aeon> },
    /// The id is forgotten.
    ForgetId { agent: &'a Name, id: &'a WriteId },
    /// An agent wants to follow a source.
    Want { agent: &'a Name, source: &'a Source, lake: &'a LakeId },
    /// It no longer does.
    Unwant { agent: &'a Name, source: &'a Source },
    /// Where a peer was reached last, and when, in seconds since 1970.
    Peer { addr: &'a EndpointAddr, seen: u64 },
    /// A peer is forgotten.
    ForgetPeer { peer: PeerId },
    /// A value of the node's own.
    Meta { key: &'static str, value: &'a [u8] },
}

/// What storage knows of one tide at its opening.
pub(crate) struct StoredTide {
    pub(crate) rocks: BTreeMap<Aeon, RockInfo>,
    pub(crate) waves: Option<(Aeon, Aeon)>,
}

/// The states of a node.
pub(crate) struct Store {
    disk: Arc<Disk>,
    metrics: Arc<Metrics>,
}

/// Decoded rows of a table with encoded keys.
type Rows<K, V> = Vec<(K, V)>;

type Result<T, E = StorageError> = std::result::Result<T, E>;

impl Store {
    /// Opens the disk of a data directory. After a restoration every publication continues in a new epoch, and every document agrees
    /// with its other side first.
    pub(crate) fn open(data_dir: DataDir, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let dir = &*data_dir.path().to_owned();
        let (disk, is_restored) = Disk::open(data_dir)?;
        let store = Self { disk: Arc::new(disk), metrics };
        if is_restored {
            let keys = || crate::kv::went_back(&store);
            store.renew_epochs().and_then(|()| keys()).map_err(|error| OpenError::of_write(dir, error))?;
        }
        store.disk.mark_run(dir)?;
        Ok(store)
    }

    /// Opens the disk to be looked at: see [`Disk::look`]. Everything that a start reads is read.
    pub(crate) fn look(dir: &Path) -> Result<Option<Self>, OpenError> {
        let Some(disk) = Disk::look(dir)? else { return Ok(None) };
        let store = Self { disk: Arc::new(disk), metrics: Arc::default() };
        let read = || {
            store.tides()?;
            store.wanted()?;
            store.access()?;
            store.tombstones()?;
            store.fails()?;
            store.ids()?;
            store.peers()
        };
        read().map_err(|error| OpenError::of_storage(dir, error))?;
        Ok(Some(store))
    }

    pub(crate) fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The storage is not the one that this directory had last: a backup was restored, perhaps of an older day. The waves that
    /// readers saw since then are lost, so that every publication continues in a new epoch, and never in the one that it had.
    fn renew_epochs(&self) -> Result<(), WriteError> {
        tracing::warn!("the storage is a restored copy: every publication begins a new epoch");
        let mut tides = self.tides()?;
        tides.retain(|(_, row)| matches!(row.key, TideKey::Publication { .. }));
        for (_, row) in &mut tides {
            row.epoch = Epoch(rand::random());
        }
        let mut tombstones = self.tombstones()?;
        tombstones.retain(|(key, _)| matches!(key, TideKey::Publication { .. }));
        for (_, tombstone) in &mut tombstones {
            tombstone.at.epoch = Epoch(rand::random());
        }
        let mut writes: Vec<Write<'_>> = tides.iter().map(|(id, row)| Write::Tide { id: *id, row }).collect();
        writes.extend(tombstones.iter().map(|(key, tombstone)| Write::Tombstone { key, tombstone }));
        self.write(&writes)
    }

    /// Makes changes durable, all or none, or reports that the outcome is unknown: see [`Disk::write`]. A write with an unknown
    /// outcome is to be repeated before anything else.
    pub(crate) fn write(&self, writes: &[Write<'_>]) -> Result<(), WriteError> {
        let mut rows = Vec::new();
        for one in writes {
            self.rows(one, &mut rows)?;
        }
        let named =
            |ahead: &&Ahead| rows.iter().any(|row| matches!(row, StateRow::Rock { body, .. } if *body == ahead.body));
        let ahead = writes.iter().flat_map(|one| if let Write::Changes { ahead, .. } = one { *ahead } else { &[] });
        // An earlier try of the same may be on the disk: it keeps what it names.
        let kept: Vec<&Ahead> = ahead.filter(named).filter(|ahead| ahead.keep()).collect();
        let begun = Instant::now();
        let result = self.disk.write(rows.into_iter().map(Row::State).collect());
        match &result {
            Ok(()) => {
                self.metrics.commits.add(1);
                self.metrics.commit_time.note(begun.elapsed());
            }
            Err(_) => self.metrics.commit_failures.add(1),
        }
        if matches!(result, Err(WriteError::Storage(_) | WriteError::ShutDown)) {
            kept.into_iter().for_each(Ahead::let_go);
        }
        result
    }

    /// The rows of a change.
    fn rows(&self, one: &Write<'_>, rows: &mut Vec<StateRow>) -> Result<()> {
        let row = match one {
            Write::Tide { id, row } => StateRow::Tide { id: *id, row: (*row).clone() },
            Write::Changes { id, changes, rocks, ahead } => return self.changed(*id, changes, (rocks, ahead), rows),
            Write::Drop { id } => StateRow::Drop { id: *id },
            Write::Import { id, from: History::Disk { id: from } } => {
                StateRow::Import { id: *id, from: *from, bodies: self.disk.body_numbers() }
            }
            Write::Import { id, from: History::Memory(history) } => {
                let waves = history.waves().map(|(aeon, wave)| (aeon.0, wave.clone())).collect();
                rows.push(StateRow::Waves { id: *id, waves });
                for (aeon, rock) in history.rocks() {
                    let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(rock) };
                    self.rock(*id, aeon, info, rock, rows);
                }
                return Ok(());
            }
            Write::Want { agent, source, lake } => put(Table::Wanted, &(agent, source), lake)?,
            Write::Unwant { agent, source } => {
                rows.push(remove(Table::Wanted, &(agent, source))?);
                remove(Table::Fails, &(agent, source))?
            }
            Write::Access { agent, path, access } => put(Table::Access, &(agent, path), access)?,
            Write::Tombstone { key, tombstone } => put(Table::Tombstones, key, tombstone)?,
            Write::NoTombstone { key } => remove(Table::Tombstones, key)?,
            Write::Fail { agent, source, fail: Some(fail) } => put(Table::Fails, &(agent, source), fail)?,
            Write::Fail { agent, source, fail: None } => remove(Table::Fails, &(agent, source))?,
            Write::Id { agent, id, done } => put(Table::Ids, &(agent, id), done)?,
            Write::ForgetId { agent, id } => remove(Table::Ids, &(agent, id))?,
            Write::Peer { addr, seen } => {
                let value = encoded(&(addr, seen))?;
                StateRow::Put { table: Table::Peers, key: Bytes::copy_from_slice(addr.id.as_bytes()), value }
            }
            Write::ForgetPeer { peer } => {
                StateRow::Remove { table: Table::Peers, key: Bytes::copy_from_slice(peer.as_bytes()) }
            }
            Write::Meta { key, value } => {
                StateRow::Meta { key: (*key).to_owned(), value: Bytes::copy_from_slice(value) }
            }
        };
        rows.push(row);
        Ok(())
    }

    /// The rows of the changes of a tide, in the order in which they are to be made.
    fn changed(
        &self,
        id: u64,
        changes: &Changes,
        (rocks, ahead): (&[(Aeon, Bytes)], &[Ahead]),
        rows: &mut Vec<StateRow>,
    ) -> Result<()> {
        if changes.reset().is_some() {
            rows.push(StateRow::DropHistory { id });
        }
        let waves: Vec<_> = changes.waves().map(|(aeon, wave)| (aeon.0, wave.clone())).collect();
        if !waves.is_empty() {
            rows.push(StateRow::Waves { id, waves });
        }
        let dropped = changes.dropped_waves();
        if !dropped.is_empty() {
            rows.push(StateRow::DropWaves { id, from: dropped.start.0, to: dropped.end.0 });
        }
        for (aeon, info) in changes.rocks() {
            if let Some(ahead) = ahead.iter().find(|ahead| ahead.aeon == *aeon) {
                rows.push(StateRow::Rock { id, aeon: aeon.0, info: *info, body: ahead.body });
                continue;
            }
            let Some((_, rock)) = rocks.iter().find(|(at, _)| at == aeon) else {
                return Err(StorageError::new("a rock without its bytes was to be stored"));
            };
            self.rock(id, *aeon, *info, rock, rows);
        }
        rows.extend(changes.dropped_rocks().iter().map(|aeon| StateRow::DropRock { id, aeon: aeon.0 }));
        Ok(())
    }

    /// The rows of a rock and its body.
    fn rock(&self, id: u64, aeon: Aeon, info: RockInfo, rock: &Bytes, rows: &mut Vec<StateRow>) {
        let body = self.disk.body_number();
        rows.push(StateRow::Body { body, first: 0, bytes: rock.clone() });
        rows.push(StateRow::Rock { id, aeon: aeon.0, info, body });
    }

    pub(crate) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.disk.meta(key)
    }
}

fn encoded(value: &impl Serialize) -> Result<Bytes> {
    Ok(encode(value).map_err(StorageError::new)?.into())
}

fn put(table: Table, key: &impl Serialize, value: &impl Serialize) -> Result<StateRow> {
    Ok(StateRow::Put { table, key: encoded(key)?, value: encoded(value)? })
}

fn remove(table: Table, key: &impl Serialize) -> Result<StateRow> {
    Ok(StateRow::Remove { table, key: encoded(key)? })
}

#[cfg(test)]
mod tests;
