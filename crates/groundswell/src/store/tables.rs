//! The tables, their keys and values. Changing one means a new [`super::FORMAT`].

use std::ops::RangeInclusive;

use redb::{TableDefinition, WriteTransaction};

/// The node's own values by name.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Tide id -> its encoded row.
pub(super) const TIDES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("tides");
/// (tide id, aeon) -> the encoded wave that leads to that aeon.
pub(super) const WAVES: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("waves");
/// (tide id, aeon) -> size and digest of the rock at that aeon, and the number of its body.
pub(super) const ROCKS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("rocks");
/// (number of a body, 0, index) -> a chunk of that body: see [`super::bodies`]. Formats before 4: (tide id, aeon, index).
pub(super) const CHUNKS: TableDefinition<'_, (u64, u64, u32), &[u8]> = TableDefinition::new("chunks");
/// Encoded (agent, source) -> the encoded identity of the lake that it is followed as.
pub(super) const WANTED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("wanted");
/// Peer id -> its encoded addresses.
pub(super) const PEERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("peers");
/// Encoded (agent, path) -> who may read it. A published path without a row is public.
pub(super) const ACCESS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("access");
/// Encoded key of a tide -> what is left of it, or of what its source had, after it was killed.
pub(super) const TOMBSTONES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tombstones");
/// Encoded (agent, source) -> how the agent's handler failed on the source's state.
pub(super) const FAILS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("fails");
/// Encoded (agent, id of a write) -> what the write was, and what came of it.
pub(super) const IDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("ids");

/// In [`META`]: the format of these tables, four bytes, little-endian.
pub(super) const META_FORMAT: &str = "format";
/// In [`META`]: the mark of the newest run: see [`super::marks`].
pub(super) const META_MARK: &str = "mark";
/// In [`META`]: the number of the newest transaction, eight bytes, little-endian.
pub(super) const META_WRITE: &str = "write";
/// In [`META`]: the UDP port that the node had last, two bytes, little-endian.
pub(crate) const META_PORT: &str = "port";
/// In [`META`]: whether the node is private, one byte.
pub(crate) const META_PRIVATE: &str = "private";
/// In [`META`]: whose directory this is, one byte: 1 a machine's, 2 a manager's. Without it, nobody's yet, or that of a
/// version which did not remember it.
pub(crate) const META_ROLE: &str = "role";
/// In [`META`]: encoded addresses of followers, each with when it was seen.
pub(crate) const META_FOLLOWERS: &str = "followers";

/// Every key of one tide.
pub(super) fn of_tide(id: u64) -> RangeInclusive<(u64, u64)> {
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
