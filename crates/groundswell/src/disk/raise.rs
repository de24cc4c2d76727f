//! Raises a data directory from an earlier format, once.
//!
//! Formats 1 to 4 had the states in `node.redb` and, from its format 1 to 4 as well, the keys in `kv.redb` with the journal
//! `kv.journal`. This format has one file and one journal for both. The tables are made in a copy, which takes the place of
//! `node.redb` when it is whole and flushed. The files of before are kept in a directory of their own until a later start has opened
//! the raised ones.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use groundswell_core::encoding::decode;
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, Value,
    WriteTransaction, backends::InMemoryBackend,
};

use super::{
    FORMAT, HALF_BYTES, JOURNAL_FILE, RedbFile, Result, RunMarks, failed, guarded,
    journal::{Found, Journal},
    keys, make_tables, meta_in, replay, states,
};
use crate::{
    error::{OpenError, StorageError},
    files::{self, private},
    limits::STORE_CACHE_BYTES,
};

/// The directory of the files of before.
const EARLIER: &str = "before-format-5";

/// The files of the keys.
const KEYS_FILE: &str = "kv.redb";
const KEYS_JOURNAL: &str = "kv.journal";

/// The newest format of the file of the keys.
const KEYS_FORMAT: u64 = 4;

/// The numbers of the file of the keys, by name.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const IDS: TableDefinition<'_, (u64, &[u8]), &[u8]> = TableDefinition::new("ids");

/// Raises the files of a data directory.
pub(super) fn raise(dir: &Path, file: &RedbFile) -> Result<(), OpenError> {
    let path = file.path();
    let draft = path.with_extension("redb.new");
    // What an earlier try has left takes room.
    let _ = fs::remove_file(&draft);
    let raised = raise_beside(dir, file, &draft);
    if raised.is_err() {
        let _ = fs::remove_file(&draft);
    }
    raised
}

fn raise_beside(dir: &Path, file: &RedbFile, draft: &Path) -> Result<(), OpenError> {
    let path = file.path();
    let of_file = |error| OpenError::of_file(path, error);
    let unusable = |error| OpenError::of_storage(path, error);
    let before = fs::metadata(path).map_err(of_file)?.len();
    let (earlier, journal) = (dir.join(EARLIER), dir.join(JOURNAL_FILE));
    let kept = earlier.join(super::STORAGE_FILE);
    let copies = if kept.exists() { before } else { 2 * before };
    files::room_for(path, copies + keys_bytes(dir) + 2 * HALF_BYTES as u64).map_err(of_file)?;
    let keys = RedbFile::new(&dir.join(KEYS_FILE), STORE_CACHE_BYTES);
    if keys.path().is_file() && keys.is_suspect() {
        keys.rewrite().map_err(unusable)?;
    }
    copy(path, draft).map_err(of_file)?;
    let options = OpenOptions::new().read(true).write(true).open(draft).map_err(of_file)?;
    let database = RedbFile::new(path, STORE_CACHE_BYTES).database(draft, options).map_err(unusable)?;
    bring_up(&database, dir)?;
    guarded(|| database.close().map_err(failed)).map_err(unusable)?;
    files::create_private_dir(&earlier).map_err(of_file)?;
    copy(path, &kept).and_then(|()| sync(&earlier)).map_err(of_file)?;
    // A journal that is here is of this format, and of another time: somebody has put the files of before back.
    match fs::rename(&journal, earlier.join(JOURNAL_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::of_file(&journal, error)),
        Ok(()) | Err(_) => {}
    }
    Journal::create(&journal, HALF_BYTES).map_err(|error| OpenError::of_storage(&journal, error))?;
    fs::rename(draft, path).and_then(|()| sync(dir)).map_err(of_file)?;
    // It is the same storage in another file.
    RunMarks::read(dir)?.moved_to(path).write(dir)?;
    keep_keys(dir);
    tracing::info!(format = FORMAT, kept = %earlier.display(), "the storage was raised to a new format");
    Ok(())
}

/// Makes the tables of this format in a database of an earlier one, durably: those of the states are there, and those of the keys
/// come from their own file and its journal.
pub(super) fn bring_up(database: &Database, dir: &Path) -> Result<(), OpenError> {
    let remembered = meta_in(database, states::META_ROLE).map_err(|error| OpenError::of_storage(dir, error))?;
    let keys = earlier_keys(dir, remembered.is_some())?;
    let raised = replay::transaction(database, |txn| {
        make_tables(txn)?;
        let Some(keys) = &keys else { return Ok(()) };
        let from = keys.begin_read().map_err(failed)?;
        copy_table(&from, keys::DOCUMENTS, txn, keys::DOCUMENTS)?;
        copy_table(&from, keys::ENTRIES, txn, keys::ENTRIES)?;
        copy_table(&from, keys::LOG, txn, keys::LOG)?;
        copy_table(&from, keys::MARKS, txn, keys::MARKS)?;
        copy_table(&from, keys::CLOCKS, txn, keys::CLOCKS)?;
        copy_table(&from, keys::MISSING, txn, keys::MISSING)?;
        copy_table(&from, IDS, txn, keys::IDS)?;
        let role = number_of_keys(&from, "role")?.and_then(keys::Role::of_number);
        if let Some(role) = role.filter(|_| remembered.is_none()) {
            let mut meta = txn.open_table(states::META).map_err(failed)?;
            meta.insert(states::META_ROLE, &[role as u8][..]).map_err(failed)?;
        }
        Ok(())
    });
    raised.map_err(|error| OpenError::of_storage(dir, error))
}

/// Removes the files of before: a start has opened what was made of them.
pub(super) fn forget_earlier(dir: &Path) {
    let earlier = dir.join(EARLIER);
    if !earlier.is_dir() {
        return;
    }
    // A crash has kept them from their place.
    keep_keys(dir);
    if let Err(error) = fs::remove_dir_all(&earlier) {
        tracing::warn!(%error, dir = %earlier.display(), "the files of an earlier format cannot be removed, and are not used");
    }
}

/// Moves the files of the keys to the others of before. Nothing reads them any more.
fn keep_keys(dir: &Path) {
    for file in [KEYS_FILE, KEYS_JOURNAL] {
        let _ = fs::rename(dir.join(file), dir.join(EARLIER).join(file));
    }
    for left in ["kv.redb.spare", "kv.redb.suspect", "kv.redb.new", "kv.reserve"] {
        let _ = fs::remove_file(dir.join(left));
    }
}

fn keys_bytes(dir: &Path) -> u64 {
    fs::metadata(dir.join(KEYS_FILE)).map_or(0, |file| file.len())
}

/// Copies the bytes of a file to another, flushed.
fn copy(from: &Path, into: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut copied = private(options.write(true).create(true).truncate(true)).open(into)?;
    io::copy(&mut File::open(from)?, &mut copied)?;
    copied.sync_all()
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The tables of the keys as their own file and its journal have them, in memory beyond the file. `None` where no role was ever
/// opened here.
fn earlier_keys(dir: &Path, has_role: bool) -> Result<Option<Database>, OpenError> {
    let (path, journal) = (dir.join(KEYS_FILE), dir.join(KEYS_JOURNAL));
    let of_tables = |error: StorageError| OpenError::of_storage(&path, error);
    let of_journal = |error: StorageError| OpenError::of_storage(&journal, error);
    let length = fs::metadata(&journal).ok().map(|file| file.len());
    // A first opening that was cut off has left an empty file.
    let has_tables = fs::metadata(&path).is_ok_and(|file| file.len() > 0);
    if !has_tables && length.is_none_or(|length| length == 0) {
        let reason = "it is gone, and so is kv.journal: restore both, or start with a new directory".to_owned();
        return if has_role { Err(OpenError::Damaged { path, reason }) } else { Ok(None) };
    }
    let database = match has_tables {
        true => RedbFile::new(&path, STORE_CACHE_BYTES).look(),
        // All of it may be in the journal.
        false => Database::builder().create_with_backend(InMemoryBackend::new()).map_err(failed),
    };
    let database = database.map_err(of_tables)?;
    let number =
        |key: &str| guarded(|| number_of_keys(&database.begin_read().map_err(failed)?, key)).map_err(of_tables);
    let (format, applied) = (number("format")?, number("applied")?.unwrap_or_default());
    if let Some(found) = format.filter(|format| *format > KEYS_FORMAT) {
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        return Err(OpenError::NewerFormat { dir: path, found, known: KEYS_FORMAT as u32 });
    }
    let found = match length {
        // Format 1 had none. An empty file is the owner's word that it is lost.
        None if format == Some(1) || !has_role && (format.is_none() || applied == 0) => Found::default(),
        None => return Err(OpenError::JournalMissing { path: journal }),
        Some(0) => Found::default(),
        Some(_) => Journal::read_of_keys(&journal, format == Some(2)).map_err(of_journal)?,
    };
    let mut rows = Vec::new();
    for record in replay::lacking(found, applied, u64::MAX).map_err(of_journal)? {
        rows.extend(decode::<Vec<keys::Row>>(&record.body).map_err(StorageError::new).map_err(of_journal)?);
    }
    replay::transaction(&database, |txn| keys::apply(txn, rows.iter())).map_err(of_tables)?;
    Ok(Some(database))
}

fn number_of_keys(txn: &ReadTransaction, key: &str) -> Result<Option<u64>> {
    match txn.open_table(META) {
        Ok(table) => Ok(table.get(key).map_err(failed)?.map(|value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn copy_table<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    old: TableDefinition<'_, K, V>,
    into: &WriteTransaction,
    new: TableDefinition<'_, K, V>,
) -> Result<()> {
    let old = match from.open_table(old) {
        // Earlier formats lack some.
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        old => old.map_err(failed)?,
    };
    let mut new = into.open_table(new).map_err(failed)?;
    for row in old.iter().map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        new.insert(key.value(), value.value()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use groundswell_core::{encoding::encode, kv::KvAuthor};
    use tempfile::TempDir;

    use super::*;
    use crate::{
        disk::{Disk, Row, journal::earlier},
        identity::DataDir,
        kv::Sealed,
    };

    fn entry(counter: u64) -> keys::Row {
        let key = [counter as u8; 32];
        let envelope = counter.to_string().into();
        let entry = Sealed { author: KvAuthor::Machine, key, counter, signature: [7; 128], envelope };
        keys::Row::Entry { number: 1, entry }
    }

    /// A directory of a machine as an earlier format left it. Its tables have one entry, and the journal two more.
    fn directory(format: u64) -> TempDir {
        let dir = TempDir::new().unwrap();
        let open = |name: &str| {
            let file = File::create_new(dir.path().join(name)).unwrap();
            drop(file);
            RedbFile::new(&dir.path().join(name), STORE_CACHE_BYTES).open().unwrap()
        };
        let states = open(super::super::STORAGE_FILE);
        let make = |txn: &WriteTransaction| {
            states::create_all(txn).map_err(failed)?;
            let mut meta = txn.open_table(states::META).map_err(failed)?;
            meta.insert(states::META_FORMAT, &4u32.to_le_bytes()[..]).map_err(failed)?;
            Ok(())
        };
        replay::transaction(&states, make).unwrap();
        let keys = open(KEYS_FILE);
        let make = |txn: &WriteTransaction| {
            keys::apply(txn, [entry(1)].iter())?;
            let mut meta = txn.open_table(META).map_err(failed)?;
            for (key, value) in [("format", format), ("role", 1), ("applied", 1)] {
                meta.insert(key, value).map_err(failed)?;
            }
            Ok(())
        };
        replay::transaction(&keys, make).unwrap();
        let records: Vec<Vec<u8>> = (1..=3).map(|counter| encode(&vec![entry(counter)]).unwrap()).collect();
        if format > 1 {
            earlier::write(&dir.path().join(KEYS_JOURNAL), format == 2, &records);
        }
        dir
    }

    fn open(dir: &TempDir) -> Result<Disk, OpenError> {
        Ok(Disk::open(DataDir::open(dir.path())?)?.0)
    }

    fn entries(disk: &Disk) -> u64 {
        disk.reading(|txn| {
            redb::ReadableTableMetadata::len(&txn.open_table(keys::ENTRIES).map_err(failed)?).map_err(failed)
        })
        .unwrap()
    }

    #[test]
    fn every_earlier_format_of_the_keys_is_brought_in() {
        for format in 1..=4 {
            let dir = directory(format);
            let looked = Disk::look(dir.path()).unwrap().unwrap();
            let expected = if format == 1 { 1 } else { 3 };
            assert_eq!(entries(&looked), expected, "looked at, of format {format}");
            assert!(!dir.path().join(EARLIER).exists(), "nothing is written by looking");
            drop(looked);
            for _ in 0..2 {
                let disk = open(&dir).unwrap();
                assert_eq!(entries(&disk), expected, "format {format}");
                assert_eq!(disk.meta(states::META_ROLE).unwrap().unwrap(), [1]);
            }
        }
    }

    #[test]
    fn a_newer_format_of_the_keys_is_refused_untouched() {
        let dir = directory(KEYS_FORMAT + 1);
        let error = open(&dir).err().unwrap();
        assert!(matches!(error, OpenError::NewerFormat { found: 5, known: 4, .. }), "{error}");
        assert!(dir.path().join(KEYS_FILE).is_file() && !dir.path().join(EARLIER).exists());
    }

    /// A crash at each step of the raising: the next start ends with the same.
    #[test]
    fn a_raising_that_was_cut_off_is_done_again() {
        let whole = directory(4);
        let files =
            || ["node.redb", KEYS_FILE, KEYS_JOURNAL].map(|file| (file, fs::read(whole.path().join(file)).unwrap()));
        let before = files();
        drop(open(&whole).unwrap());
        let raised = fs::read(whole.path().join("node.redb")).unwrap();
        // The draft is there, perhaps not whole; the file of before is kept; the raised file is in its place, and the keys are not
        // moved yet.
        for (draft, kept, in_place) in [(true, false, false), (true, true, false), (false, true, true)] {
            let dir = TempDir::new().unwrap();
            for (file, bytes) in &before {
                fs::write(dir.path().join(file), bytes).unwrap();
            }
            if draft {
                fs::write(dir.path().join("node.redb.new"), &raised[..raised.len() / 2]).unwrap();
            }
            if kept {
                fs::create_dir(dir.path().join(EARLIER)).unwrap();
                fs::write(dir.path().join(EARLIER).join("node.redb"), &before[0].1).unwrap();
            }
            if in_place {
                fs::write(dir.path().join("node.redb"), &raised).unwrap();
            }
            assert_eq!(entries(&open(&dir).unwrap()), 3, "{draft} {kept} {in_place}");
            assert_eq!(entries(&open(&dir).unwrap()), 3);
            assert!(!dir.path().join(KEYS_FILE).exists() && !dir.path().join(EARLIER).exists());
        }
    }

    /// Somebody puts the files of before back: a journal that was written since is not theirs.
    #[test]
    fn files_of_before_that_are_put_back_are_raised_without_what_came_since() {
        let dir = directory(4);
        let disk = open(&dir).unwrap();
        disk.write(vec![Row::Key(entry(9))]).unwrap();
        assert_eq!(entries(&disk), 4);
        drop(disk);
        for file in ["node.redb", KEYS_FILE, KEYS_JOURNAL] {
            fs::rename(dir.path().join(EARLIER).join(file), dir.path().join(file)).unwrap();
        }
        assert_eq!(entries(&open(&dir).unwrap()), 3);
        assert_eq!(entries(&open(&dir).unwrap()), 3);
    }

    #[test]
    fn a_damaged_journal_of_the_keys_is_refused() {
        let dir = directory(4);
        let journal = dir.path().join(KEYS_JOURNAL);
        let whole = fs::read(&journal).unwrap();
        let mut damaged = whole.clone();
        damaged[3] ^= 1;
        fs::write(&journal, damaged).unwrap();
        let error = open(&dir).err().unwrap();
        assert!(matches!(&error, OpenError::Damaged { path, .. } if *path == journal), "{error}");
        assert!(!dir.path().join("node.redb.new").exists() && !dir.path().join(EARLIER).exists());
        fs::write(&journal, whole).unwrap();
        assert_eq!(entries(&open(&dir).unwrap()), 3);
    }
}
