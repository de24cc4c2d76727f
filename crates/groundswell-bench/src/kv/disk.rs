//! What the disk alone costs: a durable commit of raw redb, and a plain write with fdatasync, at the end of a file
//! (whose length has to become durable too) and within one that is as long already.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, Instant},
};

use redb::{Database, TableDefinition};

use super::VALUE_BYTES;
use crate::Result;

/// The length of the file that is written within.
const LENGTH: u64 = 4 * 1024 * 1024;

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");

pub(super) struct Disk {
    database: Database,
    growing: File,
    fixed: File,
    rows: u64,
}

impl Disk {
    pub(super) fn new(dir: &Path) -> Result<Self> {
        let database = Database::create(dir.join("raw.redb"))?;
        let growing = File::options().create(true).append(true).open(dir.join("growing"))?;
        let mut fixed = File::options().create(true).truncate(true).write(true).open(dir.join("fixed"))?;
        fixed.write_all(&vec![0; usize::try_from(LENGTH)?])?;
        fixed.sync_all()?;
        Ok(Self { database, growing, fixed, rows: 0 })
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
    pub(super) fn append(&mut self, writes: usize) -> Result<Vec<Duration>> {
        flushed(&mut self.growing, writes)
    }

    /// The same within a file that is as long already.
    pub(super) fn within(&mut self, writes: usize) -> Result<Vec<Duration>> {
        // Not beyond its end: then it would grow.
        if self.fixed.stream_position()? + (writes * VALUE_BYTES) as u64 > LENGTH {
            self.fixed.seek(SeekFrom::Start(0))?;
        }
        flushed(&mut self.fixed, writes)
    }
}

fn flushed(file: &mut File, writes: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(writes);
    for _ in 0..writes {
        let begun = Instant::now();
        file.write_all(&[7; VALUE_BYTES])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
