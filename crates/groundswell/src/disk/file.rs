//! A redb file that knows when it is suspect.
//!
//! The system tells of a flush that failed once. From then on its pages count as written: they can be read for as long as the
//! system keeps them, and need not be on the disk (see <https://lwn.net/Articles/752063/>). So what can be read of such a file
//! proves nothing of what a power cut leaves, and whatever is written to it stands on that. It is copied to a new file, whose
//! checksums are checked and whose flush succeeds, and which then takes its place. Until that is done, nothing is written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redb::{Database, StorageBackend, backends::FileBackend};

#[cfg(test)]
use super::failing::Plan;
use super::{Overlay, failed, guarded};
use crate::{
    error::StorageError,
    files::{self, private},
    sync::lock,
};

type Result<T, E = StorageError> = std::result::Result<T, E>;

/// How much of a file is copied at once.
const COPY_BYTES: usize = 1024 * 1024;

/// How long after a rewriting that failed the next one is tried (10 s): it may copy a large file, and fill the disk.
const AGAIN_AFTER: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(10) };

/// A file of redb, whether it is open or not.
#[derive(Debug)]
pub(crate) struct RedbFile {
    path: PathBuf,
    cache_bytes: usize,
    suspect: Arc<AtomicBool>,
    /// Nothing is rewritten any more.
    closed: AtomicBool,
    /// When a rewriting has failed, and why.
    failure: Mutex<Option<(Instant, StorageError)>>,
}

impl RedbFile {
    /// The file at this path, whose cache may have so many bytes. It is suspect if an earlier process has left word of that.
    pub(crate) fn new(path: &Path, cache_bytes: usize) -> Self {
        let suspect = mark(path).exists();
        Self {
            path: path.to_owned(),
            cache_bytes,
            suspect: Arc::new(AtomicBool::new(suspect)),
            closed: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::SeqCst)
    }

    /// Opens the file, which is rewritten first if it is suspect. redb takes an empty file for a new one.
    pub(crate) fn open(&self) -> Result<Database> {
        if self.is_suspect() {
            self.rewrite()?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&self.path).map_err(StorageError::of_disk)?;
        let spare = spare(&self.path);
        if !spare.exists() {
            // Renamed, it is the mark, also where the disk takes no further file.
            let _ = private(OpenOptions::new().write(true).create(true).truncate(true)).open(spare);
        }
        self.database(&self.path, file)
    }

    /// Gives up what is being rewritten, and rewrites nothing more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Opens a file at another path as this one is opened.
    pub(crate) fn database(&self, path: &Path, file: File) -> Result<Database> {
        let backend = Watched {
            file: FileBackend::new(file).map_err(failed)?,
            path: self.path.clone(),
            suspect: self.suspect.clone(),
            #[cfg(test)]
            plan: Plan::of(path),
        };
        #[cfg(not(test))]
        let _ = path;
        guarded(|| self.builder().create_with_backend(backend).map_err(failed))
    }

    /// Opens the file to be read: what is written to it stays in memory.
    pub(crate) fn look(&self) -> Result<Database> {
        // redb locks what it opens, which takes the right to write.
        let file = OpenOptions::new().read(true).write(true).open(&self.path).map_err(StorageError::of_disk)?;
        guarded(|| self.builder().create_with_backend(Overlay::new(file).map_err(failed)?).map_err(failed))
    }

    fn builder(&self) -> redb::Builder {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        builder
    }

    /// Puts a copy in the place of the file, which nobody may have open to write. The copy is on the disk, and every page of it was
    /// checked.
    pub(crate) fn rewrite(&self) -> Result<()> {
        let mut failure = lock(&self.failure);
        if let Some((_, error)) = failure.as_ref().filter(|(at, _)| at.elapsed() < AGAIN_AFTER) {
            return Err(error.clone());
        }
        let draft = self.path.with_extension("redb.new");
        let rewritten = self.copy(&draft).and_then(|()| {
            guarded(|| {
                let file = OpenOptions::new().read(true).write(true).open(&draft).map_err(StorageError::of_disk)?;
                let backend = FileBackend::new(file).map_err(failed)?;
                let mut database = self.builder().create_with_backend(backend).map_err(failed)?;
                // Where pages are lost, it goes back to what was durable before them, or says that it can't.
                database.check_integrity().map_err(failed)?;
                database.close().map_err(failed)
            })?;
            self.put_in_place(&draft).map_err(StorageError::of_disk)
        });
        if let Err(error) = rewritten {
            let _ = fs::remove_file(&draft);
            let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let error = StorageError::of_disk(format_args!(
                "a flush of {name} has failed, so that the disk may lack some of it, and it cannot be rewritten yet ({error}): \
                 free as much space as it takes, or replace the disk"
            ));
            tracing::error!(%error, "nothing is written to it until then; what was acknowledged can be read");
            *failure = Some((Instant::now(), error.clone()));
            return Err(error);
        }
        *failure = None;
        self.suspect.store(false, Ordering::SeqCst);
        tracing::warn!(file = %self.path.display(), "a flush has failed: the file was checked and rewritten");
        Ok(())
    }

    /// Copies the bytes themselves: a copy that shares blocks of the disk with the file would share what is missing there.
    fn copy(&self, draft: &Path) -> Result<()> {
        let copied = || -> io::Result<()> {
            #[cfg(test)]
            Plan::of(&self.path).before_copy()?;
            let mut from = File::open(&self.path)?;
            files::room_for(&self.path, from.metadata()?.len())?;
            let mut options = OpenOptions::new();
            let mut into = private(options.write(true).create(true).truncate(true)).open(draft)?;
            let mut buffer = vec![0; COPY_BYTES];
            while !self.closed.load(Ordering::SeqCst) {
                match from.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => into.write_all(&buffer[..read])?,
                }
            }
            Err(io::Error::other("it is shut down"))
        };
        copied().map_err(StorageError::of_disk)
    }

    fn put_in_place(&self, draft: &Path) -> io::Result<()> {
        File::open(draft)?.sync_all()?;
        fs::rename(draft, &self.path)?;
        #[cfg(test)]
        Plan::of(&self.path).is_rewritten();
        self.path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())?;
        // It is the spare from now on.
        let _ = fs::rename(mark(&self.path), spare(&self.path));
        Ok(())
    }
}

/// The file that becomes the mark.
fn spare(path: &Path) -> PathBuf {
    path.with_extension("redb.spare")
}

/// The file that tells the next process of a file that is suspect.
fn mark(path: &Path) -> PathBuf {
    path.with_extension("redb.suspect")
}

/// A file that becomes suspect when a flush fails.
#[derive(Debug)]
struct Watched {
    file: FileBackend,
    path: PathBuf,
    suspect: Arc<AtomicBool>,
    /// How the file fails, as a unit test says.
    #[cfg(test)]
    plan: Arc<Plan>,
}

impl StorageBackend for Watched {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        #[cfg(test)]
        self.plan.before_growth(len)?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        #[cfg(test)]
        let flushed = self.plan.before_flush().and_then(|()| self.file.sync_data());
        #[cfg(not(test))]
        let flushed = self.file.sync_data();
        if flushed.is_err() {
            self.suspect.store(true, Ordering::SeqCst);
            if fs::rename(spare(&self.path), mark(&self.path)).is_err() {
                let _ = File::create(mark(&self.path));
            }
        }
        flushed
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        #[cfg(test)]
        self.plan.before_write(offset, data, |half| self.file.write(offset, half))?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    delegate_locks!();
}
