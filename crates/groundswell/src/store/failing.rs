//! A storage that fails as a test says: a file, whose n-th write, growth or flush gives an
//! error, or whose flush is held up. It exists in unit tests alone.

use std::{
    collections::HashMap,
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, LazyLock, Mutex},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

use crate::sync::lock;

/// The plans of all tests, by the path of the storage.
static PLANS: LazyLock<Mutex<HashMap<PathBuf, Arc<Plan>>>> = LazyLock::new(Mutex::default);

/// How a storage fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Once, and nothing of the step is done.
    Once,
    /// Once, and half of what was to be written is.
    Torn,
    /// From this step on, as a disk that is full, until the fault is lifted.
    Lasting,
}

/// What a test wants of one storage, and what has become of it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Which step is to fail, counted from now: 0 is the next one.
    fault: Option<(u64, Fault)>,
    /// Whether it has.
    failed: bool,
    /// How many flushes fail, from now on; and whether what they were to flush never comes to the disk.
    flushes: u64,
    dropped: bool,
    /// Which flush is to be held, counted from now.
    hold: Option<u64>,
    holding: bool,
    /// What has come to the disk, and what was written since, for a test that asks for it.
    disk: Option<Disk>,
    /// The highest niceness of a thread that has flushed.
    #[cfg(target_os = "linux")]
    niceness: Option<i32>,
}

/// A disk under the cache of the system: what is written can be read, and is not on it before it is flushed.
#[derive(Debug, Default)]
struct Disk {
    bytes: Vec<u8>,
    cached: Vec<Cached>,
}

#[derive(Debug)]
enum Cached {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

impl Disk {
    fn flush(&mut self) {
        for cached in self.cached.drain(..) {
            match cached {
                Cached::Length(length) => self.bytes.resize(length as usize, 0),
                Cached::Bytes(offset, bytes) => self.bytes[offset as usize..][..bytes.len()].copy_from_slice(&bytes),
            }
        }
    }

    /// As Linux does after a flush that failed: the pages count as written, and can still be read.
    fn drop_bytes(&mut self) {
        self.cached.retain(|cached| matches!(cached, Cached::Length(_)));
    }
}

impl Plan {
    /// The plan of the storage at this path, from its next opening on.
    pub(super) fn of(path: &Path) -> Arc<Self> {
        let new = || Arc::new(Self { path: path.to_owned(), ..Self::default() });
        lock(&PLANS).entry(path.to_owned()).or_insert_with(new).clone()
    }

    /// Lets a step fail.
    pub(super) fn fail_at(&self, step: u64, fault: Fault) {
        let mut state = lock(&self.state);
        (state.fault, state.failed) = (Some((step, fault)), false);
    }

    /// Lets so many flushes fail, after everything was written. What they were to flush can be read all the same; where
    /// it is dropped, it never comes to the disk.
    pub(super) fn fail_flushes(&self, flushes: u64, dropped: bool) {
        let mut state = lock(&self.state);
        (state.flushes, state.dropped, state.failed) = (flushes, dropped, false);
    }

    /// From now on, what has come to the disk is kept.
    pub(super) fn keep_disk(&self) {
        let bytes = std::fs::read(&self.path).unwrap();
        lock(&self.state).disk = Some(Disk { bytes, cached: Vec::new() });
    }

    /// What a power cut would leave now; it is not kept any longer.
    pub(super) fn disk(&self) -> Vec<u8> {
        lock(&self.state).disk.take().unwrap().bytes
    }

    /// Nothing fails any more; whether something has.
    pub(super) fn lift(&self) -> bool {
        let mut state = lock(&self.state);
        state.fault = None;
        state.flushes = 0;
        state.failed
    }

    /// Holds a flush, until it is let go of.
    pub(super) fn hold_flush(&self, flush: u64) {
        lock(&self.state).hold = Some(flush);
    }

    /// The lowest priority (the highest niceness) of a thread that has flushed.
    #[cfg(target_os = "linux")]
    pub(super) fn lowest_priority(&self) -> Option<i32> {
        lock(&self.state).niceness
    }

    /// Whether a flush is being held.
    pub(super) fn is_holding(&self) -> bool {
        lock(&self.state).holding
    }

    /// Lets go of the flush that is held, and holds no other; whether one was held.
    pub(super) fn let_go(&self) -> bool {
        let mut state = lock(&self.state);
        state.hold = None;
        self.changed.notify_all();
        std::mem::take(&mut state.holding)
    }

    /// Whether the next step fails, and how.
    fn step(&self) -> Option<Fault> {
        let mut state = lock(&self.state);
        let (left, fault) = state.fault.as_mut()?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        if fault != Fault::Lasting {
            state.fault = None;
        }
        state.failed = true;
        Some(fault)
    }

    fn wrote(&self, cached: impl FnOnce() -> Cached) {
        if let Some(disk) = &mut lock(&self.state).disk {
            disk.cached.push(cached());
        }
    }

    /// Whether this flush fails.
    fn flush(&self) -> bool {
        let mut state = lock(&self.state);
        let fails = state.flushes > 0;
        state.flushes = state.flushes.saturating_sub(1);
        state.failed |= fails;
        let dropped = fails && state.dropped;
        if let Some(disk) = &mut state.disk {
            if dropped { disk.drop_bytes() } else { disk.flush() }
        }
        fails
    }

    fn wait_at_flush(&self) {
        let mut state = lock(&self.state);
        match &mut state.hold {
            Some(0) => {}
            Some(left) => {
                *left -= 1;
                return;
            }
            None => return,
        }
        state.holding = true;
        while state.holding {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// The storage.
#[derive(Debug)]
pub(super) struct FailingBackend {
    file: FileBackend,
    plan: Arc<Plan>,
}

impl FailingBackend {
    pub(super) fn new(path: &Path, file: FileBackend) -> Self {
        Self { file, plan: Plan::of(path) }
    }
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl StorageBackend for FailingBackend {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        match self.plan.step() {
            Some(_) => Err(full()),
            None => {
                self.plan.wrote(|| Cached::Length(len));
                self.file.set_len(len)
            }
        }
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        #[cfg(target_os = "linux")]
        {
            let mut state = lock(&self.plan.state);
            state.niceness = state.niceness.max(rustix::process::getpriority_process(None).ok());
        }
        self.plan.wait_at_flush();
        match self.plan.step() {
            Some(_) => Err(full()),
            None if self.plan.flush() => Err(full()),
            None => self.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        match self.plan.step() {
            Some(Fault::Torn) => {
                self.file.write(offset, &data[..data.len() / 2])?;
                Err(full())
            }
            Some(_) => Err(full()),
            None => {
                self.plan.wrote(|| Cached::Bytes(offset, data.to_vec()));
                self.file.write(offset, data)
            }
        }
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
