//! The node's storage: its very journal, with redb behind it.
//!
//! The thread behind the journal does what `applier.rs` of the node does: it brings rows into the tables without a
//! flush, many records at a time, and makes them durable before a half of the journal is overwritten.

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{CACHE_BYTES, Engine, Row, Table, text};

#[allow(dead_code)]
#[path = "../../../crates/groundswell/src/disk/journal.rs"]
mod journal;

use journal::{HALF_BYTES, Journal};

type Result<T, E = crate::error::StorageError> = std::result::Result<T, E>;

/// The numbers of `applier.rs`.
const QUEUE: usize = 1_024;
const GATHER: Duration = Duration::from_millis(2);
const MAX_ROWS: usize = 4_096;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const APPLIED: &str = "applied";

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

enum Task {
    Apply { number: u64, rows: Vec<Row> },
    Flush,
}

#[derive(Default)]
struct Progress {
    told: u64,
    applied: u64,
    durable: u64,
    hurry: bool,
    failed: Option<String>,
}

struct Tables {
    database: Database,
    progress: Mutex<Progress>,
    changed: Condvar,
    hurried: Condvar,
}

pub(crate) struct Ours {
    journal: Mutex<Journal>,
    tables: Arc<Tables>,
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(dir).map_err(text)?;
        let path = dir.join("tables.journal");
        if !path.exists() {
            Journal::create(&path, HALF_BYTES).map_err(text)?;
        }
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(dir.join("tables.redb")).map_err(text)?;
        commit(&database, 0, &[], Durability::Immediate)?;
        let (mut journal, found) = Journal::open(&path, HALF_BYTES).map_err(text)?;
        let mut applied = applied(&database)?;
        let mut lacking = Vec::new();
        for record in found.records {
            if record.number > applied {
                if record.number != applied + 1 {
                    return Err(format!("the journal goes on with {} after {applied}", record.number));
                }
                applied = record.number;
                lacking.extend(decode(&record.body));
            }
        }
        if found.beyond.is_some_and(|beyond| beyond > applied) {
            return Err(format!("the journal is damaged after record {applied}"));
        }
        commit(&database, applied, &lacking, Durability::Immediate)?;
        journal.go_on_after(applied);
        let progress = Progress { told: applied, applied, durable: applied, ..Progress::default() };
        let (changed, hurried) = (Condvar::new(), Condvar::new());
        let tables = Arc::new(Tables { database, progress: Mutex::new(progress), changed, hurried });
        let (tasks, receiver) = sync_channel(QUEUE);
        let worker = tables.clone();
        let thread = std::thread::spawn(move || worker.run(&receiver));
        Ok(Self { journal: Mutex::new(journal), tables, tasks: Some(tasks), thread: Some(thread) })
    }

    fn tell(&self, task: Task) {
        // A thread that has ended has left word of its failure.
        let _ = self.tasks.as_ref().map(|tasks| tasks.send(task));
    }
}

impl Drop for Ours {
    /// Makes everything durable in the tables.
    fn drop(&mut self) {
        self.tell(Task::Flush);
        drop(self.tasks.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Engine for Ours {
    fn write(&self, rows: Vec<Row>) -> Result<(), String> {
        let record = encode(&rows);
        let mut journal = self.journal.lock().unwrap();
        if let Some(failed) = self.tables.progress.lock().unwrap().failed.clone() {
            return Err(failed);
        }
        journal.mend().map_err(text)?;
        if !journal.fits(&record) {
            let needed = journal.needed_of_other();
            self.tell(Task::Flush);
            self.tables.wait_for(|progress| progress.durable >= needed)?;
            journal.turn();
        }
        match journal.append(&record) {
            Ok(number) => {
                self.tables.progress.lock().unwrap().told = number;
                self.tell(Task::Apply { number, rows });
                Ok(())
            }
            Err(error) => match journal.mend() {
                Ok(()) => Err(text(error)),
                Err(_) => Err(format!("unknown outcome: {error}")),
            },
        }
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.tables.wait_for(|progress| progress.applied >= progress.told)?;
        let txn = self.tables.database.begin_read().map_err(text)?;
        let value = txn.open_table(definition(table)).map_err(text)?.get(key).map_err(text)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn each(&self, table: Table, visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), String> {
        self.tables.wait_for(|progress| progress.applied >= progress.told)?;
        let txn = self.tables.database.begin_read().map_err(text)?;
        for row in txn.open_table(definition(table)).map_err(text)?.iter().map_err(text)? {
            let (key, value) = row.map_err(text)?;
            visit(key.value(), value.value());
        }
        Ok(())
    }
}

impl Tables {
    fn run(&self, tasks: &Receiver<Task>) {
        let mut next = tasks.recv().ok();
        while let Some(task) = next.take() {
            let result = match task {
                Task::Apply { number, rows } => {
                    let (mut upto, mut all) = (number, rows);
                    self.gather();
                    while all.len() < MAX_ROWS {
                        match tasks.try_recv() {
                            Ok(Task::Apply { number, rows }) => {
                                upto = number;
                                all.extend(rows);
                            }
                            other => {
                                next = other.ok();
                                break;
                            }
                        }
                    }
                    commit(&self.database, upto, &all, Durability::None)
                        .map(|()| self.progress.lock().unwrap().applied = upto)
                }
                Task::Flush => {
                    let applied = self.progress.lock().unwrap().applied;
                    commit(&self.database, applied, &[], Durability::Immediate)
                        .map(|()| self.progress.lock().unwrap().durable = applied)
                }
            };
            if let Err(error) = result {
                self.progress.lock().unwrap().failed = Some(error);
                self.changed.notify_all();
                return;
            }
            self.changed.notify_all();
            if next.is_none() {
                next = tasks.recv().ok();
            }
        }
    }

    fn gather(&self) {
        let progress = self.progress.lock().unwrap();
        self.hurried.wait_timeout_while(progress, GATHER, |progress| !progress.hurry).unwrap().0.hurry = false;
    }

    fn wait_for(&self, so_far: impl Fn(&Progress) -> bool) -> Result<(), String> {
        let mut progress = self.progress.lock().unwrap();
        while !so_far(&progress) {
            if let Some(failed) = &progress.failed {
                return Err(failed.clone());
            }
            progress.hurry = true;
            self.hurried.notify_one();
            progress = self.changed.wait(progress).unwrap();
        }
        Ok(())
    }
}

fn commit(database: &Database, number: u64, rows: &[Row], durability: Durability) -> Result<(), String> {
    let mut txn = database.begin_write().map_err(text)?;
    txn.set_durability(durability).map_err(text)?;
    {
        let mut meta = txn.open_table(META).map_err(text)?;
        // An opening begins with 0, which takes nothing back.
        let before = meta.get(APPLIED).map_err(text)?.map_or(0, |before| before.value());
        meta.insert(APPLIED, number.max(before)).map_err(text)?;
        let [waves, entries, log, marks] = Table::ALL.map(|table| txn.open_table(definition(table)).map_err(text));
        let mut tables = [waves?, entries?, log?, marks?];
        for Row { table, key, value } in rows {
            let table = &mut tables[*table as usize];
            match value {
                Some(value) => table.insert(&key[..], &value[..]).map_err(text)?,
                None => table.remove(&key[..]).map_err(text)?,
            };
        }
    }
    txn.commit().map_err(text)
}

fn applied(database: &Database) -> Result<u64, String> {
    let txn = database.begin_read().map_err(text)?;
    let applied = txn.open_table(META).map_err(text)?.get(APPLIED).map_err(text)?;
    Ok(applied.map_or(0, |applied| applied.value()))
}

/// A row as its table, its key with its length, and its value with its length, which is one more than it is.
fn encode(rows: &[Row]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Row { table, key, value } in rows {
        bytes.push(*table as u8);
        bytes.extend((key.len() as u32).to_le_bytes());
        bytes.extend(key);
        bytes.extend(value.as_ref().map_or(0, |value| value.len() as u32 + 1).to_le_bytes());
        bytes.extend(value.iter().flatten());
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Vec<Row> {
    fn part(bytes: &mut &[u8], shift: usize) -> Option<Vec<u8>> {
        let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
        let length = (u32::from_le_bytes(*length) as usize).checked_sub(shift);
        let (part, rest) = rest.split_at(length.unwrap_or_default());
        *bytes = rest;
        length.map(|_| part.to_vec())
    }
    let mut rows = Vec::new();
    while let Some((table, rest)) = bytes.split_first() {
        bytes = rest;
        let key = part(&mut bytes, 0).unwrap();
        rows.push(Row { table: Table::ALL[usize::from(*table)], key, value: part(&mut bytes, 1) });
    }
    rows
}
