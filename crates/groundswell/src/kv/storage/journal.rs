//! The journal: a file of fixed size whose two halves are written in turn, one record a flush.
//!
//! A flush of what is there already costs a disk no more than the blocks that were written, while a
//! transaction of the tables writes pages, and lets the file system note how the file has grown. A half
//! is written anew once everything in it is durable in the tables. A record begins a block, so that
//! a write that is torn by a power cut harms no record before it.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use super::Result;
use crate::{error::StorageError, identity::private};

/// The bytes of a half (8 MiB): two thousand small records between two flushes of the tables, which disturb
/// those of the journal the less the rarer they are.
pub(super) const HALF_BYTES: usize = 8 * 1024 * 1024;

/// What disks write whole (4 KiB).
const BLOCK_BYTES: usize = 4096;

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

#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    half: usize,
    /// Where the next record goes in its half.
    offset: usize,
    /// The number of the newest record.
    number: u64,
    /// A record may be at the end that was refused to its caller.
    torn: bool,
    buffer: Vec<u8>,
}

fn digest(number: u64, body: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut hasher = blake3::Hasher::new_derive_key("groundswell kv v2: a record of the journal");
    hasher.update(&number.to_le_bytes()).update(body);
    let mut digest = [0; DIGEST_BYTES];
    hasher.finalize_xof().fill(&mut digest);
    digest
}

fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

impl Journal {
    /// Opens the file, or makes it, and reads what it holds, in the order of the numbers.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Record>)> {
        let file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false)).open(path);
        let mut file = file.map_err(StorageError::of_disk)?;
        let records = prepare(&mut file, path).map_err(StorageError::of_disk)?;
        let journal = Self { file, half: 0, offset: 0, number: 0, torn: false, buffer: Vec::new() };
        Ok((journal, records))
    }

    /// What a journal holds, read beside the one who writes it.
    pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
        let mut file = File::open(path).map_err(StorageError::of_disk)?;
        read_all(&mut file).map(|bytes| records(&bytes)).map_err(StorageError::of_disk)
    }

    /// Goes on with numbers after this one.
    pub(super) fn begin_after(&mut self, number: u64) {
        self.number = self.number.max(number);
    }

    pub(super) fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// The half that is written now.
    pub(super) fn half(&self) -> usize {
        self.half
    }

    /// Whether a half can hold it at all.
    pub(super) fn has_place_for(body: &[u8]) -> bool {
        HEADER_BYTES + body.len() <= HALF_BYTES
    }

    /// Whether it fits into the rest of this half.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        self.offset + HEADER_BYTES + body.len() <= HALF_BYTES
    }

    /// Goes on in the other half, which holds nothing that is still needed.
    pub(super) fn turn(&mut self) {
        self.half = 1 - self.half;
        self.offset = 0;
    }

    /// Everything up to this number is durable elsewhere: goes on at the beginning of this half.
    pub(super) fn restart_after(&mut self, number: u64) {
        self.offset = 0;
        self.begin_after(number);
    }

    /// Takes back a record that was refused to its caller, and may have come to the disk all the same.
    pub(super) fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.write(self.offset, &[0; BLOCK_BYTES])?;
            self.torn = false;
        }
        Ok(())
    }

    /// Makes a record durable, and says its number. After a failure it is to be [mended](Self::mend).
    pub(super) fn append(&mut self, body: &[u8]) -> io::Result<u64> {
        let number = self.next_number();
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // A body is shorter than a half.
        buffer.extend((body.len() as u32).to_le_bytes());
        buffer.extend(number.to_le_bytes());
        buffer.extend(digest(number, body));
        buffer.extend(body);
        buffer.resize(blocks(buffer.len()), 0);
        self.torn = true;
        self.write(self.offset, &buffer)?;
        self.torn = false;
        let bytes = buffer.len();
        if bytes <= KEPT_BYTES {
            self.buffer = buffer;
        }
        self.offset += bytes;
        self.number = number;
        Ok(number)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start((self.half * HALF_BYTES + offset) as u64))?;
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }
}

/// Gives the file its size, so that no later flush has to note how it grew; what is in it already.
fn prepare(file: &mut File, path: &Path) -> io::Result<Vec<Record>> {
    let bytes = read_all(file)?;
    if bytes.len() < 2 * HALF_BYTES {
        file.seek(SeekFrom::End(0))?;
        file.write_all(&vec![0; 2 * HALF_BYTES - bytes.len()])?;
        file.sync_all()?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
    }
    Ok(records(&bytes))
}

fn read_all(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(2 * HALF_BYTES);
    file.seek(SeekFrom::Start(0))?;
    file.take(2 * HALF_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn records(bytes: &[u8]) -> Vec<Record> {
    let mut records: Vec<Record> = bytes.chunks(HALF_BYTES).flat_map(of_half).collect();
    records.sort_by_key(|record| record.number);
    records
}

/// The records of a half, up to the first that is torn, or left from an earlier turn.
fn of_half(mut rest: &[u8]) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let (length, header) = header.split_at(4);
        let (number, expected) = header.split_at(8);
        let length = length.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let number = number.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let Some(body) = after.get(..length) else { break };
        let follows = records.last().is_none_or(|before| number == before.number + 1);
        if length == 0 || !follows || digest(number, body) != expected {
            break;
        }
        records.push(Record { number, body: body.to_vec() });
        rest = rest.get(blocks(HEADER_BYTES + length)..).unwrap_or_default();
    }
    records
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn bodies(records: &[Record]) -> Vec<&[u8]> {
        records.iter().map(|record| &record.body[..]).collect()
    }

    #[test]
    fn what_was_appended_is_found_in_order_over_both_halves() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, records) = Journal::open(&path).unwrap();
        assert_eq!(records, []);
        journal.begin_after(7);
        assert_eq!(journal.append(b"eight").unwrap(), 8);
        assert_eq!(journal.append(&vec![9; 3 * BLOCK_BYTES]).unwrap(), 9);
        journal.turn();
        assert_eq!(journal.append(b"ten").unwrap(), 10);
        let found = Journal::read(&path).unwrap();
        assert_eq!(found.iter().map(|record| record.number).collect::<Vec<_>>(), [8, 9, 10]);
        assert_eq!(bodies(&found), [&b"eight"[..], &vec![9; 3 * BLOCK_BYTES][..], b"ten"]);
        // The first half again: what was there of old does not count after what is new.
        journal.turn();
        assert_eq!(journal.append(b"eleven").unwrap(), 11);
        drop(journal);
        let (_, found) = Journal::open(&path).unwrap();
        assert_eq!(bodies(&found), [&b"ten"[..], b"eleven"]);
    }

    #[test]
    fn a_half_is_filled_to_its_end_and_not_beyond() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("journal");
        let (mut journal, _) = Journal::open(&path).unwrap();
        let whole = vec![1; HALF_BYTES - HEADER_BYTES];
        assert!(Journal::has_place_for(&whole) && !Journal::has_place_for(&vec![1; whole.len() + 1]));
        assert!(journal.fits(&whole));
        journal.append(&whole).unwrap();
        assert!(!journal.fits(b""));
        journal.turn();
        journal.append(b"next").unwrap();
        assert_eq!(bodies(&Journal::read(&path).unwrap()), [&whole[..], b"next"]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * HALF_BYTES as u64);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A write that is torn at any byte, or a byte of it that is wrong, takes nothing from what
        /// was appended before.
        #[test]
        fn a_torn_record_harms_none_before_it(
            sizes in proptest::collection::vec(1usize..6_000, 1..6),
            torn in 1usize..9_000,
            at in any::<prop::sample::Index>(),
            flip in any::<bool>(),
        ) {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("journal");
            let (mut journal, _) = Journal::open(&path).unwrap();
            let kept: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
            for body in &kept {
                journal.append(body).unwrap();
            }
            let start = journal.offset;
            journal.append(&vec![0xee; torn]).unwrap();
            drop(journal);
            let mut bytes = std::fs::read(&path).unwrap();
            let place = start + at.index(HEADER_BYTES + torn);
            if flip {
                bytes[place] ^= 0x10;
            } else {
                // From here on the blocks have not come to the disk.
                bytes[place..start + blocks(HEADER_BYTES + torn)].fill(0);
            }
            std::fs::write(&path, &bytes).unwrap();
            let (_, found) = Journal::open(&path).unwrap();
            prop_assert_eq!(bodies(&found), kept.iter().map(|body| &body[..]).collect::<Vec<_>>());
        }

        /// Whatever is in the file, reading it ends, and panics nowhere.
        #[test]
        fn any_bytes_can_be_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let _ = records(&bytes);
            bytes.splice(0..0, [0xff; 12]);
            let _ = records(&bytes);
        }
    }
}
