//! Which node the tables are of, and which journal is theirs. Files of another directory that were put in their place are refused,
//! before anything is changed.

use std::path::Path;

use redb::Database;

use super::{JOURNAL_FILE, Row, STORAGE_FILE, failed, journal::Journal, meta_in, replay, states};
use crate::{
    error::{OpenError, StorageError},
    identity,
    source::PeerId,
};

fn stored(database: &Database, dir: &Path, key: &str) -> Result<Option<Vec<u8>>, OpenError> {
    meta_in(database, key).map_err(|error| OpenError::of_storage(&dir.join(STORAGE_FILE), error))
}

/// Refuses tables of another node. Those of earlier versions say nothing, nor does a directory without a key.
pub(super) fn to_this_node(database: &Database, dir: &Path) -> Result<(), OpenError> {
    let Some(id) = identity::public_key(dir)? else { return Ok(()) };
    match stored(database, dir, states::META_NODE)? {
        Some(node) if node[..] != id.as_bytes()[..] => {
            let node = <[u8; 32]>::try_from(&node[..]).ok().and_then(|bytes| PeerId::from_bytes(&bytes).ok());
            Err(OpenError::OtherNode { dir: dir.to_owned(), id, node: node.map(Box::new) })
        }
        _ => Ok(()),
    }
}

/// Refuses the journal of other tables.
pub(super) fn to_these_tables(database: &Database, dir: &Path) -> Result<(), OpenError> {
    let Some(known) = stored(database, dir, states::META_JOURNAL)? else { return Ok(()) };
    let path = dir.join(JOURNAL_FILE);
    let id = Journal::id_at(&path).map_err(|error| OpenError::of_storage(&path, error))?;
    // One without a beginning is damaged, which is said when it is read.
    match id {
        Some(id) if id[..] != known[..] => Err(OpenError::OtherJournal { path }),
        _ => Ok(()),
    }
}

/// Whichever journal is made next is that of these tables.
pub(super) fn forget_journal(database: &Database) -> Result<(), StorageError> {
    replay::transaction(database, |txn| {
        txn.open_table(states::META).map_err(failed)?.remove(states::META_JOURNAL).map_err(failed)?;
        Ok(())
    })
}

/// What the tables are to remember of both.
pub(super) fn rows(dir: &Path) -> Result<Vec<Row>, OpenError> {
    let path = dir.join(JOURNAL_FILE);
    let journal = Journal::id_at(&path).map_err(|error| OpenError::of_storage(&path, error))?;
    let node = identity::public_key(dir)?;
    let row = |key: &str, value: Vec<u8>| Row::State(states::Row::Meta { key: key.to_owned(), value: value.into() });
    let journal = journal.map(|id| row(states::META_JOURNAL, id.to_vec()));
    let node = node.map(|id| row(states::META_NODE, id.as_bytes().to_vec()));
    Ok(journal.into_iter().chain(node).collect())
}
