//! One tide as the driver holds it: its cell, its fold, and how to load the rock again.

use std::sync::Arc;

use bytes::Bytes;
use groundswell_core::{
    Aeon, Digest, Visible,
    limits::{MAX_ROCK_BYTES, ROCK_CHUNK_BYTES},
    tide::{Changes, RockInfo, Tide},
};

use crate::{
    cell::TideCell,
    disk::Ahead,
    error::StorageError,
    fold::{Fold, WashError},
    limits::{BODY_SLICE_CHUNKS, MAX_BATCH_BYTES},
    metrics::Metrics,
    store::{Backing, TideRow},
    washers::Pace,
};

pub(crate) struct Entry {
    pub(crate) cell: Arc<TideCell>,
    pub(crate) fold: Box<dyn Fold>,
    pub(crate) row: TideRow,
    pub(crate) backing: Backing,
    /// Whether it has begun a new epoch in this run because a reader was ahead of it.
    pub(crate) epoch_renewed: bool,
    /// The rock could not be loaded again after a failure: nothing is washed onto it until it is.
    pub(crate) broken: bool,
    /// Where it begins if it has no state yet.
    pub(crate) begins_at: Aeon,
    /// Whether its last turn took long, if it is a replica.
    pub(crate) pace: Pace,
}

/// What one batch is about to change in one tide.
pub(crate) struct Staged {
    /// The tide, where the cell has none yet.
    pub(crate) begun: Option<Tide>,
    /// Whether any command of the batch succeeded on it. A tide that was only begun for a
    /// command that was then refused is not kept.
    pub(crate) kept: bool,
    pub(crate) changes: Changes,
    pub(crate) rocks: Vec<(Aeon, Bytes)>,
    /// The bodies of those that are stored already.
    pub(crate) ahead: Vec<Ahead>,
}

impl Staged {
    /// Makes the rock of the newest aeon if the rule wants one.
    pub(crate) fn make_rock(&mut self, entry: &mut Entry, metrics: &Metrics) -> Result<(), RockRefused> {
        let wanted = entry.with_tide(self, |tide, staged| staged.changes.wants_rock(tide));
        if wanted {
            let (info, rock) = entry.encode_rock(metrics)?;
            self.push_rock(info, rock);
        }
        Ok(())
    }

    /// Stages the rock of the newest aeon.
    pub(crate) fn push_rock(&mut self, info: RockInfo, rock: Bytes) {
        self.changes.push_rock(info);
        self.rocks.push((self.changes.head(), rock));
    }
}

/// Why a rock was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RockRefused {
    #[error("it would have {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Encode(String),
}

/// Why a rock could not be loaded again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("its newest rock is missing")]
    NoRock,
    #[error("the rock of aeon {0} does not have its digest")]
    WrongDigest(Aeon),
    #[error("the rock of aeon {aeon} does not decode: {}", Visible(.reason))]
    BadRock { aeon: Aeon, reason: String },
    #[error("the wave of aeon {aeon} cannot be washed again: {}", Visible(.reason))]
    BadWave { aeon: Aeon, reason: String },
    #[error("the wave of aeon {0} is missing")]
    Gap(Aeon),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Entry {
    /// A tide as it is loaded, or is to begin.
    pub(crate) fn new(cell: Arc<TideCell>, fold: Box<dyn Fold>, row: TideRow, backing: Backing) -> Self {
        Self { cell, fold, row, backing, epoch_renewed: false, broken: false, begins_at: Aeon::ZERO, pace: Pace::Quick }
    }

    /// Stores the bodies of large rocks of a replica, before the driver makes the changes durable that they belong to.
    pub(crate) fn store_ahead(&self, staged: &mut Staged) -> Result<(), StorageError> {
        let Backing::Disk { store, .. } = &self.backing else { return Ok(()) };
        for (aeon, rock) in &staged.rocks {
            let is_kept = staged.changes.rocks().iter().any(|(at, _)| at == aeon);
            if is_kept && rock.len() > BODY_SLICE_CHUNKS as usize * ROCK_CHUNK_BYTES {
                staged.ahead.push(store.disk().write_ahead(*aeon, rock)?);
            }
        }
        Ok(())
    }

    /// Encodes the rock as it is now.
    pub(crate) fn encode_rock(&mut self, metrics: &Metrics) -> Result<(RockInfo, Bytes), RockRefused> {
        let rock = self.fold.encode(metrics).map_err(|error| RockRefused::Encode(error.to_string()))?;
        if rock.len() > MAX_ROCK_BYTES {
            return Err(RockRefused::TooLarge(rock.len()));
        }
        Ok((RockInfo { bytes: rock.len() as u64, digest: Digest::of(&rock) }, rock.into()))
    }

    /// Runs something on the tide that the staged changes are of.
    pub(crate) fn with_tide<T: Default>(&self, staged: &mut Staged, run: impl FnOnce(&Tide, &mut Staged) -> T) -> T {
        match staged.begun.take() {
            Some(tide) => {
                let result = run(&tide, staged);
                staged.begun = Some(tide);
                result
            }
            None => self.cell.with_tide(|tide| run(tide, staged)).unwrap_or_default(),
        }
    }

    /// Loads the rock as the committed tide has it: the newest stored rock and the waves since.
    pub(crate) fn load_committed(&mut self) -> Result<(), LoadError> {
        let at = self.cell.with_tide(|tide| (tide.cursor().aeon, tide.rocks().last()));
        let Some((head, Some((rock_at, info)))) = at else {
            return self.load_rock(Aeon::ZERO, None);
        };
        let rock = self.backing.rock(rock_at, info)?.ok_or(LoadError::NoRock)?;
        if Digest::of(&rock) != info.digest {
            return Err(LoadError::WrongDigest(rock_at));
        }
        self.load_rock(rock_at, Some(&rock))?;
        drop(rock);
        self.wash_stored(rock_at.next(), head)
    }

    /// Loads the rock as the staged changes have it: from the newest rock that is staged, or else as it is committed.
    /// Storage may have the changes already, and so not the rock any more that they replace.
    pub(crate) fn load_staged(&mut self, staged: &Staged) -> Result<(), LoadError> {
        let newest = match staged.changes.rocks().last() {
            None => {
                self.load_committed()?;
                None
            }
            Some((at, _)) => {
                let rock = staged.rocks.iter().find(|(aeon, _)| aeon == at).map(|(_, rock)| rock.clone());
                self.load_rock(*at, Some(&rock.ok_or(LoadError::NoRock)?))?;
                Some(*at)
            }
        };
        let mut since = staged.changes.waves().filter(|(aeon, _)| Some(*aeon) > newest);
        since.try_for_each(|(aeon, wave)| self.rewash(aeon, wave))
    }

    fn load_rock(&mut self, aeon: Aeon, rock: Option<&[u8]>) -> Result<(), LoadError> {
        self.fold.load(rock).map_err(|error| LoadError::BadRock { aeon, reason: error.to_string() })
    }

    fn wash_stored(&mut self, mut first: Aeon, last: Aeon) -> Result<(), LoadError> {
        while first <= last {
            let waves = self.backing.waves(first, last, MAX_BATCH_BYTES)?;
            if waves.is_empty() {
                return Err(LoadError::Gap(first));
            }
            for wave in waves {
                self.rewash(first, &wave)?;
                first = first.next();
            }
        }
        Ok(())
    }

    pub(super) fn rewash(&mut self, aeon: Aeon, wave: &Bytes) -> Result<(), LoadError> {
        self.fold.wash(wave).map_err(|error| LoadError::BadWave {
            aeon,
            reason: match error {
                WashError::Decode(error) => error.to_string(),
                WashError::Refused(reason) | WashError::Panicked(reason) => reason,
            },
        })
    }
}
