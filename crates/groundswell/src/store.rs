//! Storage: one redb file a node. docs/storage.md tells its tables and the life of a row.

/// Passes the file locks of a `redb::StorageBackend` on to `self.file`. The trait's own methods are `Unsupported`.
macro_rules! delegate_locks {
    () => {
        delegate_locks!(try_lock_range -> bool);
        delegate_locks!(try_lock_shared_range -> bool);
        delegate_locks!(lock_range -> ());
        delegate_locks!(lock_shared_range -> ());
        delegate_locks!(unlock_range -> ());
        delegate_locks!(query_lock_range -> bool);
    };
    ($name:ident -> $answer:ty) => {
        fn $name(
            &self,
            start: std::ops::Bound<u64>,
            end: std::ops::Bound<u64>,
        ) -> Result<$answer, redb::BackendError> {
            self.file.$name(start, end)
        }
    };
}

mod backing;
mod bodies;
#[cfg(test)]
pub(crate) mod failing;
mod file;
mod marks;
mod overlay;
mod reading;
pub(crate) mod rows;
mod tables;

pub(crate) use backing::{Backing, History};
pub(crate) use bodies::Ahead;
pub(crate) use file::RedbFile;
pub(crate) use marks::MARKS_FILE;
pub(crate) use overlay::Overlay;
pub(crate) use rows::{Fail, TideKey, TideRow};
pub(crate) use tables::{META_FOLLOWERS, META_PORT, META_PRIVATE, META_ROLE};

use bodies::{Bodies, Left};
use marks::RunMarks;

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Digest, Epoch, LakeId, Name, Path as PublishedPath, Tombstone,
    encoding::encode,
    tide::{Changes, RockInfo},
};
use iroh::EndpointAddr;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::Serialize;

use crate::{
    error::{OpenError, OutcomeUnknown, StorageError, WriteError, panic_message},
    files::private,
    identity::DataDir,
    ids::{Done, WriteId},
    limits::STORE_CACHE_BYTES,
    metrics::Metrics,
    source::{PeerId, Source},
    sync::{FairLock, lock, read, write},
};

/// The format of the tables. A newer one is refused, an older one would be converted here.
pub(crate) const FORMAT: u32 = 4;

/// Older formats lack tables. They are read, and raised: a program that does not know who may read a path must not
/// serve it (1), one that does not know which ids were used must not take any (2), and one that does not know where the
/// chunks of a rock are must not look for them (3).
const OLDER_FORMATS: [u32; 3] = [1, 2, 3];

/// The storage's file in the data directory.
pub(crate) const STORAGE_FILE: &str = "node.redb";

/// One change to storage. A list of them is one transaction.
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

/// The storage of a node. The database is replaced by a reopened one after a failure, since
/// redb refuses everything after an input or output error.
pub(crate) struct Store {
    file: RedbFile,
    database: RwLock<Option<Database>>,
    /// Closed for good: it is not opened again.
    closed: AtomicBool,
    /// The database is one that is only read, since the file is suspect.
    looking: AtomicBool,
    /// The number of the newest transaction that was tried, which each writes with what it holds.
    last_write: AtomicU64,
    /// Held from the number of a transaction until its outcome is known. The thread that writes rocks ahead takes it again and
    /// again, and the others have their turn in between.
    writing: FairLock,
    bodies: Bodies,
    metrics: Arc<Metrics>,
    /// Held for as long as the file is open, and let go of after it.
    data_dir: Mutex<Option<DataDir>>,
}

/// Decoded rows of a table with encoded keys.
type Rows<K, V> = Vec<(K, V)>;

type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Every error of redb becomes a [`StorageError`] with its text.
pub(crate) fn failed(error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        // A file that ends too soon, or is none of redb's, is no fault of the disk.
        redb::Error::Io(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            StorageError::new(error)
        }
        error @ (redb::Error::Io(_) | redb::Error::PreviousIo) => StorageError::of_disk(error),
        error @ redb::Error::DatabaseAlreadyOpen => StorageError::held(error),
        error => StorageError::new(error),
    }
}

/// redb asserts what it reads; a damaged file can make it panic instead of err.
pub(crate) fn guarded<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|panic| Err(StorageError::new(panic_message(&*panic))))
}

/// Looks for the storage's file. One that is gone while a run has left its mark is damage.
fn is_there(path: &Path, marks: &RunMarks) -> Result<bool, OpenError> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound && !marks.any() => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = "it is gone, and an earlier run had it".to_owned();
            Err(OpenError::Damaged { path: path.to_owned(), reason })
        }
        Err(error) => Err(OpenError::of_file(path, error)),
    }
}

impl Store {
    pub(crate) fn open(data_dir: DataDir, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let dir = &*data_dir.path().to_owned();
        let path = dir.join(STORAGE_FILE);
        let unwritten = |error| OpenError::of_write(&path, error);
        let marks = RunMarks::read(dir)?;
        if !is_there(&path, &marks)? {
            create(&path)?;
        }
        // Before it is opened, which may rewrite it.
        let is_same_file = marks.are_of(&path);
        let store = Self::of(dir, Some(data_dir), metrics, open_database)?;
        let mark = store.meta(tables::META_MARK).map_err(|error| OpenError::of_storage(&path, error))?;
        if mark.as_deref().is_some_and(|mark| !(is_same_file && marks.vouch_for(mark))) {
            store.renew_epochs().map_err(unwritten)?;
        }
        // The file beside the storage is written first and knows both marks, so that a crash in
        // between is no restoration.
        let next = marks.next(mark, &path);
        next.write(dir)?;
        store.write(&[Write::Meta { key: tables::META_MARK, value: next.newest() }]).map_err(unwritten)?;
        store.find_bodies().map_err(|error| OpenError::of_storage(&path, error))?;
        Ok(store)
    }

    /// Opens the storage to be looked at: as [`Self::open`] does, but what that writes is kept in memory, and no run leaves its
    /// mark. Everything that a start reads is read. `None` where there is no storage yet. The caller holds the directory.
    pub(crate) fn look(dir: &Path) -> Result<Option<Self>, OpenError> {
        let path = dir.join(STORAGE_FILE);
        if !is_there(&path, &RunMarks::read(dir)?)? {
            return Ok(None);
        }
        let store = Self::of(dir, None, Arc::default(), |file| {
            is_not_empty(file.path())?;
            file.look()
        })?;
        let read = || {
            store.find_bodies()?;
            store.tides()?;
            store.wanted()?;
            store.access()?;
            store.tombstones()?;
            store.fails()?;
            store.ids()?;
            store.peers()
        };
        read().map_err(|error| OpenError::of_storage(&path, error))?;
        Ok(Some(store))
    }

    /// The storage in a database that is opened so, brought to this format.
    fn of(
        dir: &Path,
        data_dir: Option<DataDir>,
        metrics: Arc<Metrics>,
        open: impl FnOnce(&RedbFile) -> Result<Database>,
    ) -> Result<Self, OpenError> {
        let path = dir.join(STORAGE_FILE);
        let unusable = |error: StorageError| OpenError::of_storage(&path, error);
        let file = RedbFile::new(&path, STORE_CACHE_BYTES);
        let database = match open(&file) {
            Err(error) if error.is_held() => {
                let holder = format!("another program, which has {} open", path.display());
                return Err(OpenError::InUse { dir: dir.to_owned(), holder });
            }
            opened => opened.map_err(unusable)?,
        };
        let store = Self {
            file,
            database: RwLock::new(Some(database)),
            closed: AtomicBool::new(false),
            looking: AtomicBool::new(false),
            // Begun at random, so that no number of an earlier run is met again.
            last_write: AtomicU64::new(rand::random()),
            writing: FairLock::default(),
            bodies: Bodies::start().map_err(StorageError::of_disk).map_err(unusable)?,
            metrics,
            data_dir: Mutex::new(data_dir),
        };
        let Some(format) = store.meta(tables::META_FORMAT).map_err(unusable)? else {
            return Err(OpenError::Damaged { path: path.clone(), reason: "it has no format".to_owned() });
        };
        let found = <[u8; 4]>::try_from(&format[..]).map(u32::from_le_bytes).unwrap_or(u32::MAX);
        if OLDER_FORMATS.contains(&found) {
            store.transaction(make_tables).map_err(unusable)?;
        } else if found != FORMAT {
            return Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT });
        }
        Ok(store)
    }

    /// The storage is not the one that this directory had last: a backup was restored, perhaps
    /// of an older day. What readers saw since then is lost, so that every publication goes on in
    /// a new epoch, never back in the one that it had.
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

    /// Makes changes durable, all or none, or says that nobody knows. After a failure the database is opened anew, so
    /// that what was acknowledged can be read. What has an unknown outcome is to be written again before anything else:
    /// every change can be, and leads to the same state.
    pub(crate) fn write(&self, writes: &[Write<'_>]) -> Result<(), WriteError> {
        let begun = Instant::now();
        let result = self.write_numbered(writes);
        match &result {
            Ok(()) => {
                self.metrics.commits.add(1);
                self.metrics.commit_time.note(begun.elapsed());
            }
            Err(error) => {
                self.metrics.commit_failures.add(1);
                tracing::error!(%error, "storage failed; what was acknowledged stands");
            }
        }
        result
    }

    fn write_numbered(&self, writes: &[Write<'_>]) -> Result<(), WriteError> {
        let mut left = Left::default();
        let ahead = || writes.iter().flat_map(|one| if let Write::Changes { ahead, .. } = one { *ahead } else { &[] });
        ahead().for_each(Ahead::keep);
        let result = self.one_at_a_time(|txn| {
            writes.iter().try_for_each(|one| apply(txn, one, &self.bodies, &mut left))?;
            left.swept = self.bodies.sweep(txn, left.chunks)?;
            Ok(())
        });
        match &result {
            Ok(()) => self.bodies.leave(left),
            Err(WriteError::Unknown(_)) => {}
            Err(_) => ahead().for_each(Ahead::let_go),
        }
        result
    }

    /// Does one transaction and finds out what came of it, whoever else writes at that time.
    fn one_at_a_time(&self, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<(), WriteError> {
        let _alone = self.writing.lock();
        let number = self.last_write.fetch_add(1, Ordering::SeqCst).wrapping_add(1).to_le_bytes();
        let committing = AtomicBool::new(false);
        let result = self.transaction(|txn| {
            work(txn)?;
            txn.open_table(tables::META).map_err(failed)?.insert(tables::META_WRITE, &number[..]).map_err(failed)?;
            committing.store(true, Ordering::SeqCst);
            Ok(())
        });
        let Err(error) = result else { return Ok(()) };
        let was_suspect = self.file.is_suspect();
        // redb refuses everything after an input or output error.
        self.reopen();
        // Before the commit nothing has touched what is stored.
        if !committing.load(Ordering::SeqCst) {
            return Err(error.into());
        }
        if self.file.is_suspect() {
            return Err(OutcomeUnknown::from(error).into());
        }
        match self.meta(tables::META_WRITE) {
            // The storage could be opened again, which has made the state before durable.
            Ok(stored) if stored.as_deref() != Some(&number[..]) => Err(error.into()),
            // The rewritten file has all of it, flushed.
            Ok(_) if was_suspect => Ok(()),
            // It can be read, or nothing can. What can be read need not be on the disk.
            _ => Err(OutcomeUnknown::from(error).into()),
        }
    }

    fn transaction(&self, work: impl FnOnce(&WriteTransaction) -> Result<()>) -> Result<()> {
        if read(&self.database).is_none() || self.file.is_suspect() {
            self.reopen();
        }
        if self.file.is_suspect() {
            return Err(StorageError::new(
                "a flush has failed, and nothing is written before the file is rewritten: see the log",
            ));
        }
        let guard = read(&self.database);
        let database = guard.as_ref().ok_or_else(|| StorageError::new("the storage file cannot be opened again"))?;
        guarded(|| {
            let txn = database.begin_write().map_err(failed)?;
            work(&txn)?;
            txn.commit().map_err(failed)
        })
    }

    /// Closes the file for good; whoever asks afterwards gets an error.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.file.close();
        drop(write(&self.database).take());
        drop(lock(&self.data_dir).take());
    }

    fn reopen(&self) {
        let rewritten = self.file.is_suspect().then(|| {
            if !self.looking.swap(true, Ordering::SeqCst) {
                // Readers go on meanwhile, with what is in the file, and nothing is written to it.
                self.replace_database(|| self.file.look());
            }
            self.file.rewrite()
        });
        if let Some(Err(_)) = rewritten {
            return;
        }
        self.looking.store(false, Ordering::SeqCst);
        if self.replace_database(|| open_database(&self.file))
            && rewritten.is_some()
            && let Err(error) = self.note_rewritten()
        {
            // No reader is wrong about that: it begins with a rock then.
            tracing::warn!(%error, "the next start takes the storage for a restored copy");
        }
    }

    /// Closes the database first, since the file is locked by who has it open. Returns true if another one was opened.
    fn replace_database(&self, open: impl FnOnce() -> Result<Database>) -> bool {
        let mut database = write(&self.database);
        if self.closed.load(Ordering::SeqCst) {
            return false;
        }
        drop(database.take());
        match open() {
            Ok(opened) => *database = Some(opened),
            Err(error) => tracing::error!(%error, "the storage cannot be opened again yet"),
        }
        database.is_some()
    }

    /// Notes that the storage's file is another one, so that the next start does not take it for a restored copy.
    fn note_rewritten(&self) -> Result<(), OpenError> {
        let path = self.file.path();
        let Some(dir) = path.parent() else { return Ok(()) };
        RunMarks::read(dir)?.moved_to(path).write(dir)
    }

    fn reading<T>(&self, work: impl FnOnce(&redb::ReadTransaction) -> Result<T>) -> Result<T> {
        if read(&self.database).is_none() {
            self.reopen();
        }
        let guard = read(&self.database);
        let database = guard.as_ref().ok_or_else(|| StorageError::new("the storage file cannot be opened again"))?;
        guarded(|| work(&database.begin_read().map_err(failed)?))
    }

    pub(crate) fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.reading(|txn| match txn.open_table(tables::META) {
            Ok(table) => Ok(table.get(key).map_err(failed)?.map(|value| value.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(failed(error)),
        })
    }
}

/// Makes every table that is missing, so that no reader meets one, and notes the format.
fn make_tables(txn: &WriteTransaction) -> Result<()> {
    tables::create_all(txn).map_err(failed)?;
    let mut meta = txn.open_table(tables::META).map_err(failed)?;
    meta.insert(tables::META_FORMAT, &FORMAT.to_le_bytes()[..]).map_err(failed)?;
    Ok(())
}

/// The first opening: makes a storage. It is made beside its place and moved there when it is whole. So a crash on the way leaves
/// a directory that is still new, and what is in its place and not whole is damaged.
fn create(path: &Path) -> Result<(), OpenError> {
    let draft = path.with_extension("redb.new");
    let of_file = |error| OpenError::of_file(path, error);
    // The data directory may be one that others can look into; its files are not theirs to read.
    let mut options = OpenOptions::new();
    let file = private(options.read(true).write(true).create(true).truncate(true)).open(&draft).map_err(of_file)?;
    let made = guarded(|| {
        let database = RedbFile::new(path, STORE_CACHE_BYTES).database(&draft, file)?;
        let txn = database.begin_write().map_err(failed)?;
        make_tables(&txn)?;
        txn.commit().map_err(failed)?;
        database.close().map_err(failed)
    });
    made.map_err(|error| OpenError::of_storage(path, error))?;
    fs::rename(&draft, path).map_err(of_file)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all()).map_err(of_file)
}

/// Opens a storage that is there. An empty file is none: redb would take it for a new one.
fn open_database(file: &RedbFile) -> Result<Database> {
    is_not_empty(file.path())?;
    file.open()
}

fn is_not_empty(path: &Path) -> Result<()> {
    match fs::metadata(path).map_err(StorageError::of_disk)?.len() {
        0 => Err(StorageError::new("it is empty")),
        _ => Ok(()),
    }
}

fn apply(txn: &WriteTransaction, one: &Write<'_>, bodies: &Bodies, left: &mut Left) -> Result<()> {
    let encoded = |error: groundswell_core::encoding::EncodeError| StorageError::new(error);
    match one {
        Write::Tide { id, row } => {
            let row = encode(row).map_err(encoded)?;
            txn.open_table(tables::TIDES).map_err(failed)?.insert(id, &row[..]).map_err(failed)?;
        }
        Write::Changes { id, changes, rocks, ahead } => apply_changes(txn, *id, changes, (rocks, ahead), bodies, left)?,
        Write::Drop { id } => {
            txn.open_table(tables::TIDES).map_err(failed)?.remove(id).map_err(failed)?;
            drop_history(txn, *id, left)?;
        }
        Write::Import { id, from } => import(txn, *id, from, bodies, left)?,
        Write::Want { agent, source, lake } => put(txn, tables::WANTED, &(agent, source), lake)?,
        Write::Unwant { agent, source } => {
            remove(txn, tables::WANTED, &(agent, source))?;
            remove(txn, tables::FAILS, &(agent, source))?;
        }
        Write::Access { agent, path, access } => put(txn, tables::ACCESS, &(agent, path), access)?,
        Write::Tombstone { key, tombstone } => put(txn, tables::TOMBSTONES, key, tombstone)?,
        Write::NoTombstone { key } => remove(txn, tables::TOMBSTONES, key)?,
        Write::Fail { agent, source, fail: Some(fail) } => put(txn, tables::FAILS, &(agent, source), fail)?,
        Write::Fail { agent, source, fail: None } => remove(txn, tables::FAILS, &(agent, source))?,
        Write::Id { agent, id, done } => put(txn, tables::IDS, &(agent, id), done)?,
        Write::ForgetId { agent, id } => remove(txn, tables::IDS, &(agent, id))?,
        Write::ForgetPeer { peer } => {
            txn.open_table(tables::PEERS).map_err(failed)?.remove(peer.as_bytes().as_slice()).map_err(failed)?;
        }
        Write::Peer { addr, seen } => {
            let row = encode(&(addr, seen)).map_err(encoded)?;
            let key = addr.id.as_bytes().as_slice();
            txn.open_table(tables::PEERS).map_err(failed)?.insert(key, &row[..]).map_err(failed)?;
        }
        Write::Meta { key, value } => {
            txn.open_table(tables::META).map_err(failed)?.insert(*key, *value).map_err(failed)?;
        }
    }
    Ok(())
}

type EncodedTable<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;

fn put(txn: &WriteTransaction, table: EncodedTable<'_>, key: &impl Serialize, value: &impl Serialize) -> Result<()> {
    let (key, value) = (encode(key).map_err(StorageError::new)?, encode(value).map_err(StorageError::new)?);
    txn.open_table(table).map_err(failed)?.insert(&key[..], &value[..]).map_err(failed)?;
    Ok(())
}

fn remove(txn: &WriteTransaction, table: EncodedTable<'_>, key: &impl Serialize) -> Result<()> {
    let key = encode(key).map_err(StorageError::new)?;
    txn.open_table(table).map_err(failed)?.remove(&key[..]).map_err(failed)?;
    Ok(())
}

fn apply_changes(
    txn: &WriteTransaction,
    id: u64,
    changes: &Changes,
    (rocks, ahead): (&[(Aeon, Bytes)], &[Ahead]),
    bodies: &Bodies,
    left: &mut Left,
) -> Result<()> {
    if changes.reset().is_some() {
        drop_history(txn, id, left)?;
    }
    let mut waves = txn.open_table(tables::WAVES).map_err(failed)?;
    for (aeon, wave) in changes.waves() {
        waves.insert((id, aeon.0), &wave[..]).map_err(failed)?;
    }
    let dropped = changes.dropped_waves();
    if !dropped.is_empty() {
        waves.retain_in((id, dropped.start.0)..(id, dropped.end.0), |_, _| false).map_err(failed)?;
    }
    let mut stored = bodies::Rocks::open(txn, left)?;
    for (aeon, info) in changes.rocks() {
        let body = match ahead.iter().find(|ahead| ahead.aeon == *aeon) {
            Some(ahead) => ahead.body,
            None => {
                let Some((_, rock)) = rocks.iter().find(|(at, _)| at == aeon) else {
                    return Err(StorageError::new("a rock without its bytes was to be stored"));
                };
                stored.insert_body(bodies, rock)?
            }
        };
        stored.insert((id, aeon.0), info, body)?;
    }
    for aeon in changes.dropped_rocks() {
        stored.remove((id, aeon.0))?;
    }
    Ok(())
}

/// Copies a history, row by row: it may be larger than memory.
fn import(txn: &WriteTransaction, id: u64, from: &History, bodies: &Bodies, left: &mut Left) -> Result<()> {
    let mut waves = txn.open_table(tables::WAVES).map_err(failed)?;
    let mut stored = bodies::Rocks::open(txn, left)?;
    let from = match from {
        History::Disk { id } => *id,
        History::Memory(history) => {
            for (aeon, wave) in history.waves() {
                waves.insert((id, aeon.0), &wave[..]).map_err(failed)?;
            }
            for (aeon, rock) in history.rocks() {
                let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(rock) };
                let body = stored.insert_body(bodies, rock)?;
                stored.insert((id, aeon.0), &info, body)?;
            }
            return Ok(());
        }
    };
    // One row at a time: a table is not written while it is read.
    let mut next = 0;
    loop {
        let row = waves.range((from, next)..=(from, u64::MAX)).map_err(failed)?.next().transpose().map_err(failed)?;
        let Some((aeon, wave)) = row.map(|(key, wave)| (key.value().1, wave.value().to_vec())) else { break };
        waves.insert((id, aeon), &wave[..]).map_err(failed)?;
        next = aeon + 1;
    }
    stored.copy(bodies, from, id)
}

fn drop_history(txn: &WriteTransaction, id: u64, left: &mut Left) -> Result<()> {
    let mut waves = txn.open_table(tables::WAVES).map_err(failed)?;
    waves.retain_in(tables::of_tide(id), |_, _| false).map_err(failed)?;
    bodies::Rocks::open(txn, left)?.remove_all(id)
}

#[cfg(test)]
mod tests;
