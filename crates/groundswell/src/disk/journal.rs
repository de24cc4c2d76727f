//! The journal: a file of fixed size whose two halves are written in turn, one record per flush.
//!
//! A flush of a file that does not grow costs a disk no more than the blocks that were written, while a transaction of the
//! tables writes pages and the file system notes how the file has grown. A half is overwritten once everything in it is durable
//! in the tables. A record begins at a block, so that a write that is torn by a power cut harms no record before it.
//!
//! Numbers follow one another within a half. A record with a wrong digest is the end, unless a newer record stands behind it:
//! then the disk has lost something that was acknowledged, and the opening fails with that reason. Digests have a key of the
//! file's own, so that no value can hold bytes that pass for a record.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::Result;
use crate::{error::StorageError, files::private};

/// The bytes of a half (8 MiB): two thousand small records between two flushes of the tables, which disturb
/// those of the journal the less the rarer they are.
pub(crate) const HALF_BYTES: usize = 8 * 1024 * 1024;

/// What disks write whole (4 KiB). The file begins with one block that is written once, at its making.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// How the file begins: a name, a key, and a digest of both.
const MAGIC: [u8; 16] = *b"groundswell\0jrn4";
/// The same of the journal of keys alone, before format 5.
const MAGIC_OF_KEYS: [u8; 16] = *b"groundswell\0jrn3";

/// A record's header: the length of its body, its number, and a digest of both and of the body.
const HEADER_BYTES: usize = 4 + 8 + DIGEST_BYTES;
const DIGEST_BYTES: usize = 16;

/// How large a buffer is kept from one record to the next (64 KiB).
const KEPT_BYTES: usize = 64 * 1024;

/// A record that was found at the opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) body: Vec<u8>,
}

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Up to the end of both halves, in the order of their numbers.
    pub(super) records: Vec<Record>,
    /// The newest record behind what should be the end of a half: what is between is damaged, unless it
    /// is older than what is wanted.
    pub(super) beyond: Option<u64>,
}

/// With what the digests of a file are made.
#[derive(Debug, Clone, Copy)]
enum Digests {
    /// Of format 2, whose file had no first block.
    Format2,
    Keyed([u8; 32]),
}

#[derive(Debug)]
pub(super) struct Journal {
    file: JournalFile,
    digests: Digests,
    half_bytes: usize,
    half: usize,
    /// Where the next record goes in its half.
    offset: usize,
    /// The number of the newest record.
    number: u64,
    /// The newest record of each half that may still be needed.
    newest: [u64; 2],
    /// A record may be at the end that was refused to its caller.
    torn: bool,
    buffer: Vec<u8>,
}

fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

impl Digests {
    fn of(self, number: u64, body: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut hasher = match self {
            Self::Format2 => blake3::Hasher::new_derive_key("groundswell kv v2: a record of the journal"),
            Self::Keyed(key) => blake3::Hasher::new_keyed(&key),
        };
        hasher.update(&number.to_le_bytes()).update(body);
        let mut digest = [0; DIGEST_BYTES];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

impl Journal {
    /// Makes a new file in the place of what there is, whole or not at all.
    pub(super) fn create(path: &Path, half_bytes: usize) -> Result<()> {
        create(path, half_bytes).map_err(StorageError::of_disk)
    }

    /// Opens the file, and reads its records.
    pub(super) fn open(path: &Path, half_bytes: usize) -> Result<(Self, Found)> {
        let file = private(OpenOptions::new().read(true).write(true)).open(path);
        let mut file = file.map_err(StorageError::of_disk)?;
        let (digests, found) = look_through(&mut file, half_bytes, MAGIC)?;
        let file = JournalFile::new(file, path);
        let journal = Self {
            file,
            digests,
            half_bytes,
            half: 0,
            offset: 0,
            number: 0,
            newest: [0; 2],
            torn: false,
            buffer: Vec::new(),
        };
        Ok((journal, found))
    }

    /// The identity of the file, of its key, which is as old as the file. `None` where it has no whole beginning.
    pub(super) fn id_at(path: &Path) -> Result<Option<[u8; 16]>> {
        let mut file = File::open(path).map_err(StorageError::of_disk)?;
        let first = read_all(&mut file, BLOCK_BYTES).map_err(StorageError::of_disk)?;
        let id = |key: [u8; 32]| {
            let mut id = [0; 16];
            let mut hasher = blake3::Hasher::new_derive_key("groundswell storage v1: the identity of a journal");
            hasher.update(&key).finalize_xof().fill(&mut id);
            id
        };
        Ok(key_of(&first, &MAGIC).map(id))
    }

    /// Reads the records of a journal while another holds it open.
    pub(super) fn read(path: &Path, half_bytes: usize) -> Result<Found> {
        let mut file = File::open(path).map_err(StorageError::of_disk)?;
        Ok(look_through(&mut file, half_bytes, MAGIC)?.1)
    }

    /// Reads the records of a journal of keys alone: that of formats 3 and 4, or, where it can be one, that of format 2, which had no
    /// first block.
    pub(super) fn read_of_keys(path: &Path, is_format_2: bool) -> Result<Found> {
        let mut file = File::open(path).map_err(StorageError::of_disk)?;
        let bytes = read_all(&mut file, 2 * HALF_BYTES).map_err(StorageError::of_disk)?;
        match is_format_2 && bytes.get(..MAGIC_OF_KEYS.len()) != Some(&MAGIC_OF_KEYS) {
            true => Ok(find(&bytes, HALF_BYTES, Digests::Format2)),
            false => Ok(look_through(&mut file, HALF_BYTES, MAGIC_OF_KEYS)?.1),
        }
    }

    /// Continues after a record that is durable in the tables, and that may not have gone through the journal. Where a number is
    /// left out, the half begins again, since numbers follow one another within it.
    pub(super) fn go_on_after(&mut self, number: u64) {
        if number > self.number {
            self.number = number;
            self.offset = 0;
        }
    }

    pub(super) fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Returns true if a half can hold the record at all.
    pub(super) fn has_place_for(&self, body: &[u8]) -> bool {
        HEADER_BYTES + body.len() <= self.half_bytes
    }

    /// Returns true if the record fits into the rest of this half.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        self.offset + HEADER_BYTES + body.len() <= self.half_bytes
    }

    /// The record up to which the tables have to be durable before the other half may be overwritten.
    pub(super) fn needed_of_other(&self) -> u64 {
        self.newest[1 - self.half]
    }

    /// Continues in the other half, which holds no record that is still needed.
    pub(super) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.offset = 0;
    }

    /// Overwrites a record that was refused to its caller and may be on the disk all the same.
    pub(super) fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.write(&[0; BLOCK_BYTES])?;
            self.torn = false;
        }
        Ok(())
    }

    /// Makes a record durable and returns its number. After a failure the journal has to be [mended](Self::mend).
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<u64> {
        let number = self.next_number();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // A body is shorter than a half.
        buffer.extend((body.len() as u32).to_le_bytes());
        buffer.extend(number.to_le_bytes());
        buffer.extend(self.digests.of(number, body));
        buffer.extend(body);
        buffer.resize(blocks(buffer.len()), 0);
        self.torn = true;
        self.write(&buffer)?;
        self.torn = false;
        let bytes = buffer.len();
        if bytes <= KEPT_BYTES {
            self.buffer = buffer;
        }
        self.offset += bytes;
        self.number = number;
        self.newest[self.half] = number;
        Ok(number)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let place = BLOCK_BYTES + self.half * self.half_bytes + self.offset;
        self.file.write(place as u64, bytes)?;
        self.file.sync()
    }
}

/// The file under a journal.
#[derive(Debug)]
struct JournalFile {
    file: File,
    /// How the file fails, as a unit test says.
    #[cfg(test)]
    plan: std::sync::Arc<super::failing::Plan>,
}

impl JournalFile {
    fn new(file: File, path: &Path) -> Self {
        #[cfg(not(test))]
        let _ = path;
        Self {
            file,
            #[cfg(test)]
            plan: super::failing::Plan::of(path),
        }
    }

    fn write(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(place))?;
        #[cfg(test)]
        {
            let mut file = &self.file;
            self.plan.before_write(place, bytes, |half| file.write_all(half))?;
        }
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.plan.before_flush()?;
        self.file.sync_data()
    }
}

/// Writes the file under another name first, with its whole size, so that no later flush has to note how it grew.
fn create(path: &Path, half_bytes: usize) -> io::Result<()> {
    let draft = path.with_extension("journal-draft");
    let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&draft)?;
    let key: [u8; 32] = rand::random();
    let mut bytes = Vec::with_capacity(BLOCK_BYTES + 2 * half_bytes);
    bytes.extend(MAGIC);
    bytes.extend(key);
    bytes.extend(of_first_block(&key, &MAGIC));
    bytes.resize(BLOCK_BYTES + 2 * half_bytes, 0);
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

fn of_first_block(key: &[u8; 32], magic: &[u8]) -> [u8; DIGEST_BYTES] {
    Digests::Keyed(*key).of(0, magic)
}

fn read_all(file: &mut File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    file.seek(SeekFrom::Start(0))?;
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn look_through(file: &mut File, half_bytes: usize, magic: [u8; 16]) -> Result<(Digests, Found)> {
    let bytes = read_all(file, BLOCK_BYTES + 2 * half_bytes).map_err(StorageError::of_disk)?;
    let (first, halves) = bytes.split_at(bytes.len().min(BLOCK_BYTES));
    let Some(key) = key_of(first, &magic).filter(|_| halves.len() == 2 * half_bytes) else {
        return Err(StorageError::new("its beginning or its end is not that of a journal"));
    };
    let digests = Digests::Keyed(key);
    Ok((digests, find(halves, half_bytes, digests)))
}

/// The key in the first block of a file.
fn key_of(first: &[u8], magic: &[u8; 16]) -> Option<[u8; 32]> {
    let rest = first.strip_prefix(magic).and_then(|rest| rest.split_first_chunk::<32>());
    rest.filter(|(key, digest)| digest.starts_with(&of_first_block(key, magic))).map(|(key, _)| *key)
}

fn find(bytes: &[u8], half_bytes: usize, digests: Digests) -> Found {
    let halves: Vec<_> = bytes.chunks(half_bytes).map(|half| of_half(half, digests)).collect();
    let mut records: Vec<Record> = Vec::new();
    let mut rests = Vec::new();
    for (of_half, rest) in halves {
        records.extend(of_half);
        rests.push(rest);
    }
    records.sort_by_key(|record| record.number);
    let newest = records.last().map_or(0, |record| record.number);
    // What is left from an earlier turn is older than what is in front of it, or in the other half. Nothing that
    // is newer can be newer by more than there are blocks.
    let blocks = (bytes.len() / BLOCK_BYTES) as u64;
    let could_be = |number: u64| number > newest && number - newest <= blocks;
    let at = |rest: &[u8]| {
        Some(header_at(rest)?.number).filter(|number| could_be(*number) && record_at(rest, digests).is_some())
    };
    let places = rests.into_iter().flat_map(|rest| (0..rest.len()).step_by(BLOCK_BYTES).map(|place| &rest[place..]));
    let beyond = places.filter_map(at).max();
    Found { records, beyond }
}

/// The records of a half, up to the first that is torn, or left from an earlier turn; and what is behind them.
fn of_half(mut rest: &[u8], digests: Digests) -> (Vec<Record>, &[u8]) {
    let mut records: Vec<Record> = Vec::new();
    while let Some((number, body)) = record_at(rest, digests) {
        if records.last().is_some_and(|before| number != before.number + 1) {
            break;
        }
        records.push(Record { number, body: body.to_vec() });
        rest = rest.get(blocks(HEADER_BYTES + body.len())..).unwrap_or_default();
    }
    (records, rest)
}

/// What seems to stand at the beginning of these bytes.
struct Header<'a> {
    number: u64,
    digest: &'a [u8; DIGEST_BYTES],
    body: &'a [u8],
}

fn header_at(bytes: &[u8]) -> Option<Header<'_>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
    let body = rest.get(..u32::from_le_bytes(*length) as usize).filter(|body| !body.is_empty())?;
    Some(Header { number: u64::from_le_bytes(*number), digest, body })
}

/// The whole record that stands there.
fn record_at(bytes: &[u8], digests: Digests) -> Option<(u64, &[u8])> {
    let Header { number, digest, body } = header_at(bytes)?;
    (digests.of(number, body) == *digest).then_some((number, body))
}

/// Files of earlier formats, for tests.
#[cfg(test)]
pub(super) mod earlier {
    use super::*;

    /// Writes a journal of keys alone with these records in its first half: as format 2 had it, or formats 3 and 4.
    pub(in super::super) fn write(path: &Path, is_format_2: bool, bodies: &[Vec<u8>]) {
        let (mut bytes, digests) = match is_format_2 {
            true => (Vec::new(), Digests::Format2),
            false => {
                let key = [5; 32];
                let mut first = [&MAGIC_OF_KEYS[..], &key, &of_first_block(&key, &MAGIC_OF_KEYS)].concat();
                first.resize(BLOCK_BYTES, 0);
                (first, Digests::Keyed(key))
            }
        };
        let whole = bytes.len() + 2 * HALF_BYTES;
        for (number, body) in (1u64..).zip(bodies) {
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes.extend(digests.of(number, body));
            bytes.extend(body);
            bytes.resize(blocks(bytes.len()), 0);
        }
        bytes.resize(whole, 0);
        std::fs::write(path, bytes).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const HALF: usize = 16 * BLOCK_BYTES;

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(TempDir::new().unwrap());
            Journal::create(&place.path(), HALF).unwrap();
            place
        }

        fn path(&self) -> std::path::PathBuf {
            self.0.path().join("node.journal")
        }

        fn open(&self) -> (Journal, Found) {
            Journal::open(&self.path(), HALF).unwrap()
        }

        fn found(&self) -> Found {
            Journal::read(&self.path(), HALF).unwrap()
        }
    }

    fn bodies(found: &Found) -> Vec<&[u8]> {
        found.records.iter().map(|record| &record.body[..]).collect()
    }

    #[test]
    fn what_was_appended_is_found_in_order_over_both_halves() {
        let place = Place::new();
        let (mut journal, found) = place.open();
        assert_eq!(found, Found::default());
        journal.go_on_after(7);
        assert_eq!(journal.append(b"eight").unwrap(), 8);
        assert_eq!(journal.append(&vec![9; 3 * BLOCK_BYTES]).unwrap(), 9);
        assert_eq!(journal.needed_of_other(), 0);
        journal.turn();
        assert_eq!(journal.needed_of_other(), 9);
        assert_eq!(journal.append(b"ten").unwrap(), 10);
        let found = place.found();
        assert_eq!(found.records.iter().map(|record| record.number).collect::<Vec<_>>(), [8, 9, 10]);
        assert_eq!(bodies(&found), [&b"eight"[..], &vec![9; 3 * BLOCK_BYTES][..], b"ten"]);
        // The first half again: what there was of old does not count after what is new.
        journal.turn();
        assert_eq!(journal.append(b"eleven").unwrap(), 11);
        drop(journal);
        let (_, found) = place.open();
        assert_eq!(bodies(&found), [&b"ten"[..], b"eleven"]);
        assert_eq!(found.beyond, None);
    }

    #[test]
    fn a_half_is_filled_to_its_end_and_not_beyond() {
        let place = Place::new();
        let (mut journal, _) = place.open();
        let whole = vec![1; HALF - HEADER_BYTES];
        assert!(journal.has_place_for(&whole) && !journal.has_place_for(&vec![1; whole.len() + 1]));
        assert!(journal.fits(&whole));
        journal.append(&whole).unwrap();
        assert!(!journal.fits(b""));
        journal.turn();
        journal.append(b"next").unwrap();
        assert_eq!(bodies(&place.found()), [&whole[..], b"next"]);
        assert_eq!(std::fs::metadata(place.path()).unwrap().len(), (BLOCK_BYTES + 2 * HALF) as u64);
    }

    #[test]
    fn a_number_that_is_left_out_begins_the_half_anew() {
        let place = Place::new();
        let (mut journal, _) = place.open();
        journal.append(b"one").unwrap();
        journal.append(b"two").unwrap();
        journal.go_on_after(2);
        journal.append(b"three").unwrap();
        journal.go_on_after(4);
        journal.append(b"five").unwrap();
        journal.append(b"six").unwrap();
        assert_eq!(bodies(&place.found()), [&b"five"[..], b"six"]);
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        let place = Place::new();
        let whole = std::fs::read(place.path()).unwrap();
        let mut other_key = whole.clone();
        other_key[20] ^= 1;
        for bytes in [&whole[..whole.len() - 1], &other_key, b"", b"something else"] {
            std::fs::write(place.path(), bytes).unwrap();
            let error = Journal::open(&place.path(), HALF).unwrap_err();
            assert!(error.to_string().contains("not that of a journal"), "{error}");
        }
    }

    /// A value that holds the bytes of a record of another journal is no record of this one.
    #[test]
    fn no_value_passes_for_a_record() {
        let (place, other) = (Place::new(), Place::new());
        let (mut forger, _) = other.open();
        forger.go_on_after(1);
        forger.append(b"forged").unwrap();
        let forged = std::fs::read(other.path()).unwrap()[BLOCK_BYTES..][..BLOCK_BYTES].to_vec();
        let (mut journal, _) = place.open();
        let mut value = vec![0; BLOCK_BYTES - HEADER_BYTES];
        value.extend(forged);
        journal.append(&value).unwrap();
        journal.turn();
        journal.turn();
        journal.append(b"short").unwrap();
        // The forged record stands right after the newest one, with a number that would follow.
        let found = place.found();
        assert_eq!((bodies(&found), found.beyond), (vec![&b"short"[..]], None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A write that is torn at any byte, or a byte of it that is wrong, takes nothing from what
        /// was appended before; a byte that is wrong before the end is said.
        #[test]
        fn a_torn_record_harms_none_before_it(
            sizes in proptest::collection::vec(1usize..6_000, 2..6),
            torn in 1usize..9_000,
            at in any::<prop::sample::Index>(),
            flip in any::<bool>(),
        ) {
            let place = Place::new();
            let (mut journal, _) = place.open();
            let kept: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
            for body in &kept {
                journal.append(body).unwrap();
            }
            let start = BLOCK_BYTES + journal.offset;
            journal.append(&vec![0xee; torn]).unwrap();
            drop(journal);
            let whole = std::fs::read(place.path()).unwrap();
            let mut bytes = whole.clone();
            let hit = start + at.index(HEADER_BYTES + torn);
            if flip {
                bytes[hit] ^= 0x10;
            } else {
                // From here on the blocks have not come to the disk.
                bytes[hit..start + blocks(HEADER_BYTES + torn)].fill(0);
            }
            std::fs::write(place.path(), &bytes).unwrap();
            let found = place.found();
            prop_assert_eq!(bodies(&found), kept.iter().map(|body| &body[..]).collect::<Vec<_>>());
            prop_assert_eq!(found.beyond, None);
            let mut bytes = whole;
            bytes[BLOCK_BYTES + at.index(HEADER_BYTES + kept[0].len())] ^= 0x10;
            std::fs::write(place.path(), &bytes).unwrap();
            let found = place.found();
            prop_assert_eq!((found.records.len(), found.beyond), (0, Some(kept.len() as u64 + 1)));
        }

        /// Whatever is in the file, reading it ends, and panics nowhere.
        #[test]
        fn any_bytes_can_be_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            for digests in [Digests::Format2, Digests::Keyed([1; 32])] {
                let _ = find(&bytes, HALF, digests);
                bytes.splice(0..0, [0xff; 12]);
            }
        }
    }
}
