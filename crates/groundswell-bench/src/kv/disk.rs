//! What the disk alone costs: a durable commit of raw redb, and a plain write with fdatasync.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use super::VALUE_BYTES;
use crate::Result;

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

pub(super) struct Disk {
    database: Database,
    file: File,
    rows: u64,
}

impl Disk {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let database = Database::create(dir.join("raw.redb"))?;
        let file = File::options().create(true).append(true).open(dir.join("plain"))?;
        Ok(Self { database, file, rows: 0 })
    }

    /// So many commits of one row: how long each took.
    pub(super) fn redb(&mut self, commits: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(commits);
        for _ in 0..commits {
            let begun = Instant::now();
            let transaction = self.database.begin_write()?;
            transaction.open_table(ROWS)?.insert(self.rows, &[7; VALUE_BYTES][..])?;
            transaction.commit()?;
            times.push(begun.elapsed());
            self.rows += 1;
        }
        Ok(times)
    }

    /// So many writes to the end of a file, each flushed: how long each took.
    pub(super) fn fdatasync(&mut self, writes: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(writes);
        for _ in 0..writes {
            let begun = Instant::now();
            self.file.write_all(&[7; VALUE_BYTES])?;
            self.file.sync_data()?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }
}
