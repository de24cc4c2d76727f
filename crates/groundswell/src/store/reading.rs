//! Reading the states.

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_core::{Access, Aeon, LakeId, Name, Path as PublishedPath, Tombstone, encoding::decode};
use iroh::EndpointAddr;
use redb::{ReadTransaction, ReadableTable};
use serde::de::DeserializeOwned;

use super::{Fail, Result, Rows, Store, StoredTide, TideKey, TideRow};
use crate::{
    disk::{
        self, failed,
        states::{self as tables, EncodedTable},
    },
    error::StorageError,
    ids::{Done, WriteId},
    source::{PeerId, Source},
};

impl Store {
    /// Every tide's id and row.
    pub(crate) fn tides(&self) -> Result<Vec<(u64, TideRow)>> {
        self.disk.reading(|txn| {
            let table = txn.open_table(tables::TIDES).map_err(failed)?;
            let mut tides = Vec::new();
            for row in table.iter().map_err(failed)? {
                let (id, row) = row.map_err(failed)?;
                tides.push((id.value(), decode(row.value()).map_err(StorageError::new)?));
            }
            Ok(tides)
        })
    }

    /// What an agent wants to follow, of every agent.
    pub(crate) fn wanted(&self) -> Result<Vec<(Name, Source, LakeId)>> {
        let rows = self.all::<(Name, Source), LakeId>(tables::WANTED)?;
        Ok(rows.into_iter().map(|((agent, source), lake)| (agent, source, lake)).collect())
    }

    /// Who may read which path, where that was said.
    pub(crate) fn access(&self) -> Result<Rows<(Name, PublishedPath), Access<PeerId>>> {
        self.all(tables::ACCESS)
    }

    /// What was killed.
    pub(crate) fn tombstones(&self) -> Result<Rows<TideKey, Tombstone>> {
        self.all(tables::TOMBSTONES)
    }

    /// Which agent's handler failed on which state.
    pub(crate) fn fails(&self) -> Result<Rows<(Name, Source), Fail>> {
        self.all(tables::FAILS)
    }

    /// The ids of writes that are remembered, of every agent.
    pub(crate) fn ids(&self) -> Result<Rows<(Name, WriteId), Done<Aeon>>> {
        self.all(tables::IDS)
    }

    /// Every row of a table with encoded keys.
    fn all<K: DeserializeOwned, V: DeserializeOwned>(&self, table: EncodedTable<'_>) -> Result<Vec<(K, V)>> {
        self.disk.reading(|txn| {
            let table = txn.open_table(table).map_err(failed)?;
            let mut rows = Vec::new();
            for row in table.iter().map_err(failed)? {
                let (key, value) = row.map_err(failed)?;
                let key = decode(key.value()).map_err(StorageError::new)?;
                rows.push((key, decode(value.value()).map_err(StorageError::new)?));
            }
            Ok(rows)
        })
    }

    /// Where peers were reached last, and when, in seconds since 1970.
    pub(crate) fn peers(&self) -> Result<Vec<(EndpointAddr, u64)>> {
        self.disk.reading(|txn| {
            let table = txn.open_table(tables::PEERS).map_err(failed)?;
            let mut peers = Vec::new();
            for row in table.iter().map_err(failed)? {
                let (_, addr) = row.map_err(failed)?;
                peers.push(decode(addr.value()).map_err(StorageError::new)?);
            }
            Ok(peers)
        })
    }

    pub(crate) fn tide(&self, id: u64) -> Result<StoredTide> {
        self.disk.reading(|txn| {
            let table = txn.open_table(tables::ROCKS).map_err(failed)?;
            let mut rocks = BTreeMap::new();
            for row in table.range(tables::of_tide(id)).map_err(failed)? {
                let (key, info) = row.map_err(failed)?;
                rocks.insert(Aeon(key.value().1), disk::rock_row(info.value())?.0);
            }
            let table = txn.open_table(tables::WAVES).map_err(failed)?;
            let mut waves = table.range(tables::of_tide(id)).map_err(failed)?;
            let first = waves.next().transpose().map_err(failed)?.map(|(key, _)| Aeon(key.value().1));
            let last = waves.next_back().transpose().map_err(failed)?.map(|(key, _)| Aeon(key.value().1));
            let waves = first.map(|first| (first, last.unwrap_or(first)));
            Ok(StoredTide { rocks, waves })
        })
    }

    /// The waves from `first` to `last`, as far as they fit into so many bytes (one always
    /// does), and without a gap: fewer where some were pruned meanwhile, or are not in the tables yet.
    pub(crate) fn waves(&self, id: u64, first: Aeon, last: Aeon, max_bytes: usize) -> Result<Vec<Bytes>> {
        let read = |txn: &ReadTransaction| {
            let table = txn.open_table(tables::WAVES).map_err(failed)?;
            let (mut waves, mut bytes) = (Vec::new(), 0);
            for (expected, row) in (first.0..).zip(table.range((id, first.0)..=(id, last.0)).map_err(failed)?) {
                let (key, wave) = row.map_err(failed)?;
                let wave = wave.value();
                bytes += wave.len();
                if key.value().1 != expected || (bytes > max_bytes && !waves.is_empty()) {
                    break;
                }
                waves.push(Bytes::copy_from_slice(wave));
            }
            Ok(waves)
        };
        // A reader that is behind does not wait for the newest writes.
        let waves = self.disk.reading_history(read)?;
        if waves.is_empty() { self.disk.reading(read) } else { Ok(waves) }
    }

    /// One chunk of a rock, or `None` where that rock is gone.
    pub(crate) fn chunk(&self, id: u64, aeon: Aeon, index: u32) -> Result<Option<Bytes>> {
        let read = |txn: &ReadTransaction| {
            let rocks = txn.open_table(tables::ROCKS).map_err(failed)?;
            let Some(rock) = rocks.get((id, aeon.0)).map_err(failed)? else { return Ok(None) };
            let (place, aeon) = disk::place((id, aeon.0), disk::rock_row(rock.value())?.1);
            let table = txn.open_table(tables::CHUNKS).map_err(failed)?;
            let row = table.get((place, aeon, index)).map_err(failed)?;
            Ok(row.map(|chunk| Bytes::copy_from_slice(chunk.value())))
        };
        match self.disk.reading_history(read)? {
            Some(chunk) => Ok(Some(chunk)),
            None => self.disk.reading(read),
        }
    }
}
