//! A storage that is opened to be looked at: what is written to it is kept in memory, and the file stays as it is. So the
//! functions that open a storage for use can try it, and repair it after a crash, while nothing changes on the disk.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
    sync::Mutex,
};

use redb::{StorageBackend, backends::FileBackend};

use crate::sync::lock;

/// The unit in which what is written is kept (4 KiB).
const BLOCK_BYTES: usize = 4096;

/// A file with what was written to it since it was opened.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// How long the storage is.
    len: u64,
    /// How much of the file counts: what is behind it was cut off, or was never there.
    of_file: u64,
    /// The blocks that were written, by their numbers, each with all of its bytes.
    blocks: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl Overlay {
    pub(crate) fn new(file: File) -> Result<Self, redb::Error> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        Ok(Self { file, written: Mutex::new(Written { len, of_file: len, blocks: BTreeMap::new() }) })
    }

    /// A block as it is now. What neither the file nor a write has is zero.
    fn block(&self, written: &Written, number: u64) -> io::Result<Box<[u8; BLOCK_BYTES]>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = Box::new([0; BLOCK_BYTES]);
        let begin = number * BLOCK_BYTES as u64;
        let there = written.of_file.saturating_sub(begin).min(BLOCK_BYTES as u64) as usize;
        if there > 0 {
            self.file.read(begin, &mut block[..there])?;
        }
        Ok(block)
    }
}

/// The parts of blocks that so many bytes from an offset on take: the number of each block, and which of its bytes.
fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let (mut at, end) = (offset, offset + bytes as u64);
    std::iter::from_fn(move || {
        let (number, first) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
        let last = (end - number * BLOCK_BYTES as u64).min(BLOCK_BYTES as u64) as usize;
        (at < end).then(|| {
            at += (last - first) as u64;
            (number, first..last)
        })
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(lock(&self.written).len)
    }

    fn read(&self, offset: u64, mut out: &mut [u8]) -> Result<(), io::Error> {
        let written = lock(&self.written);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            // In the words of a file that ends too soon.
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "failed to fill whole buffer"));
        }
        for (number, range) in parts(offset, out.len()) {
            let (part, rest) = out.split_at_mut(range.len());
            part.copy_from_slice(&self.block(&written, number)?[range]);
            out = rest;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut written = lock(&self.written);
        if len < written.len {
            written.of_file = written.of_file.min(len);
            let (number, first) = (len / BLOCK_BYTES as u64, (len % BLOCK_BYTES as u64) as usize);
            written.blocks.retain(|block, _| *block < number || *block == number && first > 0);
            // What it grows by later is zero.
            if let Some(block) = written.blocks.get_mut(&number) {
                block[first..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    /// There is nothing that could be lost.
    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, mut data: &[u8]) -> Result<(), io::Error> {
        let mut written = lock(&self.written);
        let end = offset.checked_add(data.len() as u64).ok_or(ErrorKind::InvalidInput)?;
        for (number, range) in parts(offset, data.len()) {
            let mut block = self.block(&written, number)?;
            let (part, rest) = data.split_at(range.len());
            block[range].copy_from_slice(part);
            written.blocks.insert(number, block);
            data = rest;
        }
        written.len = written.len.max(end);
        Ok(())
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    // A file in use cannot be overlaid, and an overlaid file cannot be opened for use.

    delegate_locks!();
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        Length(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let write = (0..20_000u64, prop::collection::vec(any::<u8>(), 1..9_000));
        prop_oneof![write.prop_map(|(at, data)| Step::Write(at, data)), (0..20_000u64).prop_map(Step::Length)]
    }

    proptest! {
        /// It reads as a file that has had the same writes, and the file underneath has had none.
        #[test]
        fn it_is_as_a_file_and_the_file_stays_as_it_is(
            before in prop::collection::vec(any::<u8>(), 0..20_000),
            steps in prop::collection::vec(step(), 0..12),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (path, twin) = (dir.path().join("looked at"), dir.path().join("used"));
            fs::write(&path, &before).unwrap();
            fs::write(&twin, &before).unwrap();
            let open = |path| File::options().read(true).write(true).open(path).unwrap();
            let (overlay, file) = (Overlay::new(open(&path)).unwrap(), FileBackend::new(open(&twin)).unwrap());
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        overlay.write(at, &data).unwrap();
                        file.write(at, &data).unwrap();
                    }
                    Step::Length(len) => {
                        overlay.set_len(len).unwrap();
                        file.set_len(len).unwrap();
                    }
                }
                let mut read = vec![0; usize::try_from(overlay.len().unwrap()).unwrap()];
                overlay.read(0, &mut read).unwrap();
                prop_assert!(overlay.read(1, &mut read).is_err());
                prop_assert_eq!(&read, &fs::read(&twin).unwrap());
            }
            prop_assert_eq!(fs::read(&path).unwrap(), before);
        }
    }
}
