//! Marks of runs: how a restored backup of the storage is told from the storage itself.
//!
//! Each run writes a random mark into the storage and, with the one before, into a file beside
//! it that also holds the storage file's number in the file system. A storage whose mark that
//! file does not know, or that is another file, was put in place of the one that was there.
//!
//! A whole directory that is rolled back in place (a disk image) can't be told so. Then
//! a reader that is ahead of a publication gives it away.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    path::Path,
};

use crate::{error::OpenError, files::private};

pub(crate) const MARKS_FILE: &str = "node.run";
const MARK_BYTES: usize = 16;

/// The marks of the newest two runs, the newest first, and the numbers of the files of the tables and the journal. The journal's
/// comes last, since earlier versions did not have it, and read its bytes as a mark that no run has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RunMarks {
    marks: Vec<u8>,
    file_number: [u8; 8],
    journal_number: Option<[u8; 8]>,
}

impl RunMarks {
    pub(super) fn read(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(MARKS_FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let (file_number, marks) = bytes.split_first_chunk().map_or(([0; 8], &[][..]), |(a, b)| (*a, b));
                let (marks, rest) = marks.split_at(marks.len() - marks.len() % MARK_BYTES);
                Ok(Self { marks: marks.to_vec(), file_number, journal_number: rest.try_into().ok() })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(OpenError::of_file(&path, source)),
        }
    }

    /// Returns true if any run has left its mark: then there is a storage, whole and perhaps written to.
    pub(super) fn any(&self) -> bool {
        !self.marks.is_empty()
    }

    /// Returns true if the storage with this mark may be the one that was here last.
    pub(super) fn vouch_for(&self, mark: &[u8]) -> bool {
        self.marks.chunks(MARK_BYTES).any(|known| known == mark)
    }

    /// Returns true if the tables and the journal are the files that were here last.
    pub(super) fn are_of(&self, storage: &Path, journal: &Path) -> bool {
        let is_journal = self.journal_number.is_none_or(|number| number == file_number(journal));
        is_journal && self.file_number == file_number(storage)
    }

    /// Notes that the storage is another file now, with the same content.
    pub(super) fn moved_to(self, storage: &Path) -> Self {
        Self { file_number: file_number(storage), ..self }
    }

    /// The marks of a new run, after one with this mark.
    pub(super) fn next(&self, last: Option<Vec<u8>>, storage: &Path, journal: &Path) -> Self {
        let mut marks = rand::random::<[u8; MARK_BYTES]>().to_vec();
        marks.extend(last.unwrap_or_default());
        Self { marks, file_number: file_number(storage), journal_number: Some(file_number(journal)) }
    }

    pub(super) fn newest(&self) -> &[u8] {
        &self.marks[..self.marks.len().min(MARK_BYTES)]
    }

    /// Writes the file beside its place, makes it durable, and renames it.
    pub(super) fn write(&self, dir: &Path) -> Result<(), OpenError> {
        let path = dir.join(MARKS_FILE);
        let io = |source| OpenError::of_file(&path, source);
        let draft = path.with_extension("run.new");
        let mut file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&draft).map_err(io)?;
        let journal = self.journal_number.as_ref().map_or(&[][..], |number| number);
        file.write_all(&[&self.file_number[..], &self.marks, journal].concat()).map_err(io)?;
        file.sync_all().map_err(io)?;
        fs::rename(&draft, &path).map_err(io)?;
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }
}

/// A file's number in the file system, where it has one.
fn file_number(path: &Path) -> [u8; 8] {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path) {
        return std::os::unix::fs::MetadataExt::ino(&metadata).to_le_bytes();
    }
    let _ = path;
    [0; 8]
}
