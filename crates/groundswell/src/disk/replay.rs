//! Brings the records of a journal that tables lack into them.

use groundswell_core::encoding::decode;
use redb::{Database, WriteTransaction};

use super::{
    Result, Row, apply,
    bodies::Left,
    failed, guarded,
    journal::{Found, Record},
    number_in, set_number, states,
};
use crate::error::StorageError;

/// One durable transaction.
pub(super) fn transaction(database: &Database, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
    guarded(|| {
        let txn = database.begin_write().map_err(failed)?;
        work(&txn)?;
        txn.commit().map_err(failed)
    })
}

/// The records of a journal that tables lack which have those up to one number. Records after the newest that is wanted are left
/// out: nobody was told of them.
pub(super) fn lacking(found: Found, applied: u64, newest: u64) -> Result<Vec<Record>> {
    let mut upto = applied;
    let mut lacking = Vec::new();
    let wanted = |record: &Record| record.number > applied && record.number <= newest;
    for record in found.records.into_iter().filter(wanted) {
        if record.number != upto + 1 {
            let Record { number, .. } = record;
            return Err(StorageError::new(format!(
                "the tables end with record {upto} and the journal continues with {number}: the records between are damaged, or \
                 the two files are not of the same time; restore both from one backup"
            )));
        }
        upto = record.number;
        lacking.push(record);
    }
    if let Some(beyond) = found.beyond.filter(|beyond| *beyond > upto && *beyond <= newest) {
        return Err(StorageError::new(format!(
            "the journal is readable up to record {upto} and has record {beyond}: the records between were acknowledged, and are \
             damaged; check the disk, and restore the journal and the tables from one backup"
        )));
    }
    Ok(lacking)
}

/// Brings the records that the tables lack into them, durably. Returns up to which record the tables are then.
pub(super) fn replay(database: &Database, found: Found, newest: u64) -> Result<u64> {
    let applied = number_in(database, states::META_APPLIED)?.unwrap_or_default();
    let lacking = lacking(found, applied, newest)?;
    let upto = lacking.last().map_or(applied, |last| last.number);
    let mut rows = Vec::new();
    for record in lacking {
        rows.extend(decode::<Vec<Row>>(&record.body).map_err(StorageError::new)?);
    }
    transaction(database, |txn| {
        // Bodies that are orphans now are found at the end of the opening.
        apply(txn, &rows, &mut Left::default())?;
        set_number(txn, states::META_APPLIED, upto)
    })?;
    Ok(upto)
}
