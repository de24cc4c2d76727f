//! What a washer does with the entry of a replica in one turn: everything that runs the code of its lake.

use std::time::Instant;

use bytes::Bytes;
use groundswell_core::{Aeon, Cursor, Digest, Rule, Tide, Visible, subscriber::Intake};

use super::{
    batch::{begin, begin_anew},
    entry::{Entry, LoadError, RockRefused, Staged},
};
use crate::{
    error::{ManageError, OutcomeUnknown, StorageError, WriteError, from_write_error},
    fold::{Beside, WashError},
    limits::{MAX_REPLICA_HISTORY_BYTES, WASH_TURN},
    metrics::Metrics,
};

/// Why what came from a source was not applied. What came before it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The replica's rock is not the publisher's: both differ from the same waves.
    #[error(
        "at aeon {0} this replica's rock differs from the publisher's; a lake whose wash is not deterministic? (see check_lake)"
    )]
    Diverged(Aeon),
    /// The lake does not take what the publisher's took.
    #[error("the wave of aeon {aeon} was refused here, and not at the publisher: {}", Visible(.reason))]
    Refused { aeon: Aeon, reason: String },
    /// The rock does not decode.
    #[error("the publisher's rock of aeon {aeon} cannot be decoded: {}", Visible(.reason))]
    BadRock { aeon: Aeon, reason: String },
    /// The replica is gone, or out of step with the stream.
    #[error("the replica was quit or replaced meanwhile")]
    Gone,
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Unknown(OutcomeUnknown),
    #[error("the node is shut down")]
    ShutDown,
}

from_write_error! {
    ApplyError: ApplyError::Unknown;
}

/// What came of a turn of waves and rocks.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) staged: Option<Staged>,
    pub(super) waves: u64,
    pub(super) failed: Option<ApplyError>,
    /// What the turn was too short for.
    pub(super) rest: Vec<Intake>,
}

/// A change of what is kept of a replica.
pub(super) enum Change {
    Rule(Rule),
    Wipe,
}

impl Entry {
    /// Nothing comes of what was staged.
    pub(super) fn give_up(&mut self) {
        self.fold.abandon();
        if let Some(at) = self.cell.cursor() {
            self.row.epoch = at.epoch;
        }
        if let Some(rule) = self.cell.with_tide(Tide::rule) {
            self.row.rule = rule;
        }
    }

    /// Takes hold of a rock that is as the committed one.
    fn open_committed(&mut self) -> Result<(), LoadError> {
        if self.fold.open_beside(Beside::Shown) { Ok(()) } else { self.load_committed() }
    }

    /// Washes what came from a source, for a turn at most.
    pub(super) fn apply(&mut self, intakes: Vec<Intake>, metrics: &Metrics) -> Applied {
        let begun = Instant::now();
        let opened = match intakes.first() {
            Some(Intake::Rock { .. }) => {
                self.fold.open_beside(Beside::Nothing);
                Ok(())
            }
            _ => self.open_committed(),
        };
        let staged = opened.map_err(StorageError::new).and_then(|()| self.stage_replica(metrics));
        let mut staged = match staged {
            Ok(staged) => staged,
            Err(error) => {
                self.give_up();
                return Applied { failed: Some(error.into()), ..Applied::default() };
            }
        };
        let washing = Instant::now();
        let mut applied = Applied::default();
        let mut intakes = intakes.into_iter();
        for intake in intakes.by_ref() {
            let result = match intake {
                Intake::Wave { aeon, digest, wave } => {
                    let result = self.apply_wave(&mut staged, aeon, digest, wave.into(), metrics);
                    applied.waves += u64::from(result.is_ok());
                    result
                }
                Intake::Rock { at, rock, .. } => self.apply_rock(&mut staged, at, rock, metrics),
                _ => Ok(()),
            };
            if let Err(error) = result {
                applied.failed = Some(error);
                break;
            }
            if begun.elapsed() > WASH_TURN {
                applied.rest = intakes.collect();
                break;
            }
        }
        self.fold.took(washing.elapsed());
        // What came before the one that failed stands, on a rock that nothing else has touched.
        let again = applied.failed.as_ref().filter(|_| staged.kept).map(|_| self.restage(&staged));
        match again.transpose() {
            Ok(_) if staged.kept => match self.store_ahead(&mut staged) {
                Ok(()) => applied.staged = Some(staged),
                Err(error) => {
                    self.give_up();
                    applied = Applied { failed: Some(error.into()), ..Applied::default() };
                }
            },
            Ok(_) => self.give_up(),
            Err(error) => {
                tracing::warn!(path = %self.row.key, %error, "what was washed before cannot be washed again");
                self.give_up();
                applied.waves = 0;
            }
        }
        applied
    }

    fn stage_replica(&mut self, metrics: &Metrics) -> Result<Staged, StorageError> {
        match self.cell.with_tide(Tide::stage) {
            Some(changes) => Ok(Staged { begun: None, kept: false, changes, rocks: Vec::new(), ahead: Vec::new() }),
            None => {
                let mut staged = begin(self, metrics)?;
                staged.begun = staged.begun.map(|tide| tide.bounded(MAX_REPLICA_HISTORY_BYTES, []));
                Ok(staged)
            }
        }
    }

    /// Makes the rock that the staged changes lead to, after one that was changed by a wave that failed.
    fn restage(&mut self, staged: &Staged) -> Result<(), LoadError> {
        self.fold.abandon();
        if staged.changes.reset().is_some() {
            self.fold.open_beside(Beside::Nothing);
            return self.load_staged(staged);
        }
        self.open_committed()?;
        staged.changes.waves().try_for_each(|(aeon, wave)| self.rewash(aeon, wave))
    }

    fn apply_wave(
        &mut self,
        staged: &mut Staged,
        aeon: Aeon,
        digest: Option<Digest>,
        wave: Bytes,
        metrics: &Metrics,
    ) -> Result<(), ApplyError> {
        if aeon != staged.changes.head().next() {
            return Err(ApplyError::Gone);
        }
        if let Err(error) = self.fold.wash(&wave) {
            let reason = match error {
                WashError::Decode(error) => error.to_string(),
                WashError::Refused(reason) => reason,
                WashError::Panicked(message) => format!("the wash panicked: {message}"),
            };
            return Err(ApplyError::Refused { aeon, reason });
        }
        let mark = staged.changes.mark();
        staged.changes.push_wave(wave);
        // The publisher's digest is compared wherever one comes. Whether the rock is kept is for this replica's own rule
        // to say: its publisher does not decide how many there are.
        let wanted = self.with_tide(staged, |tide, staged| staged.changes.wants_rock(tide));
        if wanted || digest.is_some() {
            match self.encode_rock(metrics) {
                Ok((info, rock)) if digest.is_none_or(|digest| digest == info.digest) => {
                    if wanted {
                        staged.push_rock(info, rock);
                    }
                }
                // A rock that is too large here, and was not there, is another state too.
                _ => {
                    staged.changes.roll_back(mark);
                    metrics.divergences.add(1);
                    return Err(ApplyError::Diverged(aeon));
                }
            }
        }
        staged.kept = true;
        Ok(())
    }

    fn apply_rock(
        &mut self,
        staged: &mut Staged,
        at: Cursor,
        rock: Vec<u8>,
        metrics: &Metrics,
    ) -> Result<(), ApplyError> {
        if let Err(error) = self.fold.load(Some(&rock)) {
            return Err(ApplyError::BadRock { aeon: at.aeon, reason: error.to_string() });
        }
        metrics.rocks_received.add(1);
        self.row.epoch = at.epoch;
        begin_anew(staged, at, rock);
        staged.kept = true;
        Ok(())
    }

    /// Stages a change of what is kept.
    pub(super) fn change(&mut self, change: &Change, metrics: &Metrics) -> Result<Staged, ManageError> {
        let no_state = || ManageError::NoState(self.row.key.path().clone());
        let changes = self.cell.with_tide(Tide::stage).ok_or_else(no_state)?;
        let mut staged = Staged { begun: None, kept: true, changes, rocks: Vec::new(), ahead: Vec::new() };
        let wants_rock = match change {
            Change::Rule(rule) => {
                staged.changes.set_rule(*rule);
                self.with_tide(&mut staged, |tide, staged| staged.changes.wants_rock(tide))
            }
            Change::Wipe => {
                staged.changes.wipe();
                !staged.changes.has_rock()
            }
        };
        if wants_rock {
            let path = self.row.key.path().clone();
            let no_rock = |reason: RockRefused| ManageError::NoRock { path, reason: reason.to_string() };
            let (info, rock) = self.encode_rock(metrics).map_err(no_rock)?;
            staged.push_rock(info, rock);
            self.store_ahead(&mut staged)?;
        }
        Ok(staged)
    }
}
