//! The trait that both kinds of storage implement, and fjall behind it.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use crate::ours::Ours;

pub(crate) type Result<T, E = String> = std::result::Result<T, E>;

/// The text of any error.
pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The table of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Waves,
    Entries,
    Log,
    Marks,
}

impl Table {
    pub(crate) const ALL: [Self; 4] = [Self::Waves, Self::Entries, Self::Log, Self::Marks];

    pub(crate) fn name(self) -> &'static str {
        ["waves", "entries", "log", "marks"][self as usize]
    }
}

/// A change: a value, or none for a row that is removed.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) table: Table,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

pub(crate) trait Engine: Send + Sync {
    /// Makes rows durable, all or none.
    fn write(&self, rows: Vec<Row>) -> Result<()>;

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Reads every row of a table in the order of the keys.
    fn each(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()>;
}

/// The cache of either engine (64 MiB), which the node gives its tables.
pub(crate) const CACHE_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Fjall,
    /// With memtables of 8 MiB and journals of at most 64 MiB.
    FjallSmall,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Ours, Self::Fjall, Self::FjallSmall];

    pub(crate) fn name(self) -> &'static str {
        ["ours", "fjall", "fjall-small"][self as usize]
    }

    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn open(self, dir: &Path) -> Result<Box<dyn Engine>> {
        Ok(match self {
            Self::Ours => Box::new(Ours::open(dir)?),
            Self::Fjall => Box::new(Fjall::open(dir, None)?),
            Self::FjallSmall => Box::new(Fjall::open(dir, Some(8 * 1024 * 1024))?),
        })
    }
}

struct Fjall {
    keyspaces: [Keyspace; 4],
    database: Database,
}

impl Fjall {
    fn open(dir: &Path, memtable_bytes: Option<u64>) -> Result<Self> {
        let mut builder = Database::builder(dir).cache_size(CACHE_BYTES as u64);
        if memtable_bytes.is_some() {
            builder = builder.max_journaling_size(64 * 1024 * 1024);
        }
        let database = builder.open().map_err(text)?;
        let keyspace = |table: Table| {
            let options = || {
                // Its defaults are 64 MiB of memtable a keyspace, and values from 1 KiB on in files of their own.
                let values = (table == Table::Entries).then(KvSeparationOptions::default);
                let options = KeyspaceCreateOptions::default().with_kv_separation(values);
                memtable_bytes.map_or(options.clone(), |bytes| options.max_memtable_size(bytes))
            };
            database.keyspace(table.name(), options).map_err(text)
        };
        let [waves, entries, log, marks] = Table::ALL.map(keyspace);
        Ok(Self { keyspaces: [waves?, entries?, log?, marks?], database })
    }
}

impl Engine for Fjall {
    fn write(&self, rows: Vec<Row>) -> Result<()> {
        // An fdatasync a batch, as our journal has it.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for Row { table, key, value } in rows {
            let keyspace = &self.keyspaces[table as usize];
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit().map_err(text)
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.keyspaces[table as usize].get(key).map_err(text)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn each(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<()> {
        for row in self.keyspaces[table as usize].iter() {
            let (key, value) = row.into_inner().map_err(text)?;
            visit(&key, &value);
        }
        Ok(())
    }
}
