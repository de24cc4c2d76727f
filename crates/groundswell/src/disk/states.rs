//! The tables of states, and what a change does to them. A change of their keys or values takes a new [`super::FORMAT`].

use std::ops::RangeInclusive;

use bytes::Bytes;
use groundswell_core::{encoding::encode, tide::RockInfo};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::{
    Result,
    bodies::{Left, Rocks, insert_chunks},
    failed,
};
use crate::{error::StorageError, store::TideRow};

/// The node's own values by name.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Tide id -> its encoded row.
pub(crate) const TIDES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tides");
/// (tide id, aeon) -> the encoded wave that leads to that aeon.
pub(crate) const WAVES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("waves");
/// (tide id, aeon) -> size and digest of the rock at that aeon, and the number of its body.
pub(crate) const ROCKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("rocks");
/// (number of a body, 0, index) -> a chunk of that body: see [`super::bodies`]. Formats before 4: (tide id, aeon, index).
pub(crate) const CHUNKS: TableDefinition<'_, (u64, u64, u32), &[u8]> = TableDefinition::new("chunks");
/// Encoded (agent, source) -> the encoded identity of the lake that it is followed as.
pub(crate) const WANTED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("wanted");
/// Peer id -> its encoded addresses.
pub(crate) const PEERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("peers");
/// Encoded (agent, path) -> who may read it. A published path without a row is public.
pub(crate) const ACCESS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("access");
/// Encoded key of a tide -> what is left of it, or of what its source had, after it was killed.
pub(crate) const TOMBSTONES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tombstones");
/// Encoded (agent, source) -> how the agent's handler failed on the source's state.
pub(crate) const FAILS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("fails");
/// Encoded (agent, id of a write) -> what the write was, and what came of it.
pub(crate) const IDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ids");

/// In [`META`]: the format of all tables and of the journal, four bytes, little-endian.
pub(crate) const META_FORMAT: &str = "format";
/// In [`META`]: the mark of the newest run: see [`super::marks`].
pub(crate) const META_MARK: &str = "mark";
/// In [`META`]: the number of the newest record of the journal that is in the tables, eight bytes, little-endian.
pub(crate) const META_APPLIED: &str = "applied";
/// In [`META`]: the UDP port that the node had last, two bytes, little-endian.
pub(crate) const META_PORT: &str = "port";
/// In [`META`]: whether the node is private, one byte.
pub(crate) const META_PRIVATE: &str = "private";
/// In [`META`]: the role of the directory, one byte: 1 for a machine, 2 for a manager. It is missing before the first opening
/// of a role.
pub(crate) const META_ROLE: &str = "role";
/// In [`META`]: the public key of the node, 32 bytes: see [`super::belongs`].
pub(crate) const META_NODE: &str = "node";
/// In [`META`]: the identity of the journal, 16 bytes: see [`super::belongs`].
pub(crate) const META_JOURNAL: &str = "journal";
/// In [`META`]: encoded addresses of followers, each with when it was seen.
pub(crate) const META_FOLLOWERS: &str = "followers";

/// Every key of one tide.
pub(crate) fn of_tide(id: u64) -> RangeInclusive<(u64, u64)> {
    (id, 0)..=(id, u64::MAX)
}

pub(super) fn create_all(txn: &WriteTransaction) -> Result<(), redb::TableError> {
    txn.open_table(META)?;
    txn.open_table(TIDES)?;
    txn.open_table(WAVES)?;
    txn.open_table(ROCKS)?;
    txn.open_table(CHUNKS)?;
    txn.open_table(WANTED)?;
    txn.open_table(PEERS)?;
    txn.open_table(ACCESS)?;
    txn.open_table(TOMBSTONES)?;
    txn.open_table(FAILS)?;
    txn.open_table(IDS)?;
    Ok(())
}

/// A table whose keys and values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Table {
    Wanted,
    Peers,
    Access,
    Tombstones,
    Fails,
    Ids,
}

pub(crate) type EncodedTable<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

impl Table {
    pub(crate) fn definition(self) -> EncodedTable<'static> {
        match self {
            Self::Wanted => WANTED,
            Self::Peers => PEERS,
            Self::Access => ACCESS,
            Self::Tombstones => TOMBSTONES,
            Self::Fails => FAILS,
            Self::Ids => IDS,
        }
    }
}

/// One change of states. It is encoded in the journal: append variants, never insert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Row {
    Meta {
        key: String,
        value: Bytes,
    },
    Put {
        table: Table,
        key: Bytes,
        value: Bytes,
    },
    Remove {
        table: Table,
        key: Bytes,
    },
    Tide {
        id: u64,
        row: TideRow,
    },
    /// A tide goes, with its history.
    Drop {
        id: u64,
    },
    /// The waves and rocks of a tide go.
    DropHistory {
        id: u64,
    },
    /// Waves, each with its aeon.
    Waves {
        id: u64,
        waves: Vec<(u64, Bytes)>,
    },
    /// The waves from one aeon on go, up to before another.
    DropWaves {
        id: u64,
        from: u64,
        to: u64,
    },
    /// Chunks of the body of a rock, from this one on. Nothing refers to a body before its rock's row.
    Body {
        body: u64,
        first: u32,
        bytes: Bytes,
    },
    Rock {
        id: u64,
        aeon: u64,
        info: RockInfo,
        body: u64,
    },
    DropRock {
        id: u64,
        aeon: u64,
    },
    /// A tide gets a copy of the history of another. Its bodies have numbers from this one on.
    Import {
        id: u64,
        from: u64,
        bodies: u64,
    },
}

pub(super) fn apply<'a>(txn: &WriteTransaction, rows: impl Iterator<Item = &'a Row>, left: &mut Left) -> Result<()> {
    for row in rows {
        match row {
            Row::Meta { key, value } => {
                txn.open_table(META).map_err(failed)?.insert(&key[..], &value[..]).map_err(failed)?;
            }
            Row::Put { table, key, value } => {
                txn.open_table(table.definition()).map_err(failed)?.insert(&key[..], &value[..]).map_err(failed)?;
            }
            Row::Remove { table, key } => {
                txn.open_table(table.definition()).map_err(failed)?.remove(&key[..]).map_err(failed)?;
            }
            Row::Tide { id, row } => {
                let row = encode(row).map_err(StorageError::new)?;
                txn.open_table(TIDES).map_err(failed)?.insert(id, &row[..]).map_err(failed)?;
            }
            Row::Drop { id } => {
                txn.open_table(TIDES).map_err(failed)?.remove(id).map_err(failed)?;
                drop_history(txn, *id, left)?;
            }
            Row::DropHistory { id } => drop_history(txn, *id, left)?,
            Row::Waves { id, waves } => {
                let mut table = txn.open_table(WAVES).map_err(failed)?;
                for (aeon, wave) in waves {
                    table.insert((*id, *aeon), &wave[..]).map_err(failed)?;
                }
            }
            Row::DropWaves { id, from, to } => {
                let mut table = txn.open_table(WAVES).map_err(failed)?;
                table.retain_in((*id, *from)..(*id, *to), |_, _| false).map_err(failed)?;
            }
            Row::Body { body, first, bytes } => left.chunks += insert_chunks(txn, *body, *first, bytes)?,
            Row::Rock { id, aeon, info, body } => Rocks::open(txn, left)?.insert((*id, *aeon), info, *body)?,
            Row::DropRock { id, aeon } => Rocks::open(txn, left)?.remove((*id, *aeon))?,
            Row::Import { id, from, bodies } => import(txn, *id, *from, *bodies, left)?,
        }
    }
    Ok(())
}

/// Copies a history, one row at a time: it may be larger than memory.
fn import(txn: &WriteTransaction, id: u64, from: u64, bodies: u64, left: &mut Left) -> Result<()> {
    let mut waves = txn.open_table(WAVES).map_err(failed)?;
    // A table is not written while it is read.
    let mut next = 0;
    loop {
        let row = waves.range((from, next)..=(from, u64::MAX)).map_err(failed)?.next().transpose().map_err(failed)?;
        let Some((aeon, wave)) = row.map(|(key, wave)| (key.value().1, wave.value().to_vec())) else { break };
        waves.insert((id, aeon), &wave[..]).map_err(failed)?;
        next = aeon + 1;
    }
    Rocks::open(txn, left)?.copy(bodies, from, id)
}

fn drop_history(txn: &WriteTransaction, id: u64, left: &mut Left) -> Result<()> {
    let mut waves = txn.open_table(WAVES).map_err(failed)?;
    waves.retain_in(of_tide(id), |_, _| false).map_err(failed)?;
    Rocks::open(txn, left)?.remove_all(id)
}
