//! A file that fails as a test says: its n-th write, growth or flush gives an error, or a flush is held up. It exists in unit
//! tests alone.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, LazyLock, Mutex},
};

use crate::sync::lock;

/// The plans of all tests, by the path of the file.
static PLANS: LazyLock<Mutex<HashMap<PathBuf, Arc<Plan>>>> = LazyLock::new(Mutex::default);

/// The fate of the pages that a failed flush was to bring to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Loss {
    /// They come to the disk all the same.
    #[default]
    Nothing,
    /// They never do, and can be read for as long as the system keeps them.
    Dropped,
    /// They never do, and the system does not keep them.
    Evicted,
}

/// How a file fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Once, and nothing of the step is done.
    Once,
    /// Once, and half of what was to be written is.
    Torn,
    /// From this step on, as a disk that is full, until the fault is lifted.
    Lasting,
}

/// How one file is to fail, and how it has.
#[derive(Debug, Default)]
pub(crate) struct Plan {
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
    /// How many flushes fail, from now on; and what becomes of what they were to flush.
    flushes: u64,
    loss: Loss,
    /// How often the file was rewritten.
    rewritten: u64,
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
    /// The plan of the file at this path, from its next opening on.
    pub(crate) fn of(path: &Path) -> Arc<Self> {
        let new = || Arc::new(Self { path: path.to_owned(), ..Self::default() });
        lock(&PLANS).entry(path.to_owned()).or_insert_with(new).clone()
    }

    /// Lets a step fail.
    pub(crate) fn fail_at(&self, step: u64, fault: Fault) {
        let mut state = lock(&self.state);
        (state.fault, state.failed) = (Some((step, fault)), false);
    }

    /// Lets so many flushes fail, after everything was written.
    pub(crate) fn fail_flushes(&self, flushes: u64, loss: Loss) {
        let mut state = lock(&self.state);
        (state.flushes, state.loss, state.failed) = (flushes, loss, false);
    }

    /// From now on, what has come to the disk is kept.
    pub(crate) fn keep_disk(&self) {
        let bytes = std::fs::read(&self.path).unwrap();
        lock(&self.state).disk = Some(Disk { bytes, cached: Vec::new() });
    }

    /// What a power cut would leave now; it is not kept any longer.
    pub(crate) fn disk(&self) -> Vec<u8> {
        lock(&self.state).disk.take().unwrap().bytes
    }

    /// Nothing fails any more; whether something has.
    pub(crate) fn lift(&self) -> bool {
        let mut state = lock(&self.state);
        state.fault = None;
        state.flushes = 0;
        state.failed
    }

    /// Holds a flush, until it is let go of.
    pub(crate) fn hold_flush(&self, flush: u64) {
        lock(&self.state).hold = Some(flush);
    }

    /// The lowest priority (the highest niceness) of a thread that has flushed.
    #[cfg(target_os = "linux")]
    pub(crate) fn lowest_priority(&self) -> Option<i32> {
        lock(&self.state).niceness
    }

    /// Whether a flush is being held.
    pub(crate) fn is_holding(&self) -> bool {
        lock(&self.state).holding
    }

    /// Lets go of the flush that is held, and holds no other; whether one was held.
    pub(crate) fn let_go(&self) -> bool {
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
        let loss = if fails { state.loss } else { Loss::Nothing };
        if let Some(disk) = &mut state.disk {
            match loss {
                Loss::Nothing => disk.flush(),
                Loss::Dropped => disk.drop_bytes(),
                Loss::Evicted => {
                    disk.drop_bytes();
                    let mut bytes = disk.bytes.clone();
                    bytes.resize(std::fs::metadata(&self.path).unwrap().len() as usize, 0);
                    std::fs::write(&self.path, bytes).unwrap();
                }
            }
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

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

/// What the file asks before it does something.
impl Plan {
    pub(crate) fn before_growth(&self, len: u64) -> io::Result<()> {
        self.step().map_or(Ok(()), |_| Err(full()))?;
        self.wrote(|| Cached::Length(len));
        Ok(())
    }

    pub(crate) fn before_write(
        &self,
        offset: u64,
        data: &[u8],
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.step() {
            Some(Fault::Torn) => {
                let half = &data[..data.len() / 2];
                write(half)?;
                self.wrote(|| Cached::Bytes(offset, half.to_vec()));
                return Err(full());
            }
            Some(_) => return Err(full()),
            None => {}
        }
        self.wrote(|| Cached::Bytes(offset, data.to_vec()));
        Ok(())
    }

    pub(crate) fn before_flush(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            let mut state = lock(&self.state);
            state.niceness = state.niceness.max(rustix::process::getpriority_process(None).ok());
        }
        self.wait_at_flush();
        match self.step() {
            Some(_) => Err(full()),
            None if self.flush() => Err(full()),
            None => Ok(()),
        }
    }

    /// A copy of a file that is suspect is flushed too.
    pub(crate) fn before_copy(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        let is_full = matches!(state.fault, Some((0, Fault::Lasting)));
        let fails = state.flushes > 0;
        state.flushes = state.flushes.saturating_sub(1);
        state.failed |= fails || is_full;
        if fails || is_full { Err(full()) } else { Ok(()) }
    }

    /// Another file has taken the place of this one, and is on the disk.
    pub(crate) fn is_rewritten(&self) {
        let mut state = lock(&self.state);
        state.rewritten += 1;
        if let Some(disk) = &mut state.disk {
            *disk = Disk { bytes: std::fs::read(&self.path).unwrap_or_default(), cached: Vec::new() };
        }
    }

    /// How often that was.
    pub(crate) fn rewritten(&self) -> u64 {
        lock(&self.state).rewritten
    }
}
