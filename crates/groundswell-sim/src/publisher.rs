//! The driver of a publisher and its one path, as it would be around a real disk and a real network.

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Epoch, Lake, Rule, Tide,
    encoding::{decode, encode},
    tide::Changes,
};

use crate::{
    bug::Bug,
    checkers::{Broken, Law},
    context::{Context, Event},
    disk::{Disk, Rows, Write, info},
    lake::{self, Ledger, Rock, Wave},
    serve::{Stream, wake},
};

pub(crate) struct Publisher {
    pub(crate) number: usize,
    pub(crate) disk: Disk,
    pub(crate) run: Option<Run>,
    runs: u64,
    backup: Option<Rows>,
    /// The rule of a path that begins.
    pub(crate) rule: Rule,
    /// Who may read the path until that is said.
    default_access: Access<usize>,
    /// The next transaction fails.
    pub(crate) fails_next: bool,
    /// A backup of this epoch came back unnoticed, and a reader is ahead of it. Nothing is given
    /// until that reader has told so: what were given before would be two histories of one epoch.
    quiet: Option<Epoch>,
}

/// One run of the process: what a crash ends.
pub(crate) struct Run {
    number: u64,
    /// None where the path is not published.
    pub(crate) tide: Option<Tide>,
    pub(crate) rock: Rock,
    pub(crate) access: Access<usize>,
    pub(crate) wants_epoch: bool,
    /// What is on its way to the disk is shown already: the bug of that name.
    shown_early: bool,
    pub(crate) streams: BTreeMap<(usize, u64), Stream>,
}

/// What one commit is made of.
struct Batch {
    changes: Changes,
    rocks: Vec<(Aeon, Bytes)>,
    given: Vec<Bytes>,
    wiped: bool,
}

impl Batch {
    fn new(tide: &Tide) -> Self {
        Self { changes: tide.stage(), rocks: Vec::new(), given: Vec::new(), wiped: false }
    }

    fn push_rock(&mut self, rock: &Rock) -> Result<(), Broken> {
        let bytes = Bytes::from(lake::rock_bytes(rock)?);
        self.changes.push_rock(info(&bytes));
        self.rocks.push((self.changes.head(), bytes));
        Ok(())
    }
}

impl Publisher {
    pub(crate) fn new(number: usize, rule: Rule, default_access: Access<usize>) -> Self {
        Self {
            number,
            disk: Disk::default(),
            run: None,
            runs: 0,
            backup: None,
            rule,
            default_access,
            fails_next: false,
            quiet: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.run.is_some()
    }

    /// Whether it can be asked for a change now.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_up() && !self.disk.is_busy() && !self.disk.rows().restored
    }

    /// Whether waves can be given now.
    pub(crate) fn takes_waves(&self, cx: &Context) -> bool {
        let forgetful = cx.has(Bug::ForgetNewEpoch) && self.is_up() && !self.disk.is_busy();
        (self.is_ready() || forgetful) && !self.is_quiet()
    }

    /// Whether it waits for the reader that is ahead of it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.is_some_and(|quiet| self.disk.rows().tide.is_some_and(|(epoch, _)| epoch == quiet))
    }

    /// Whether its path is published.
    pub(crate) fn is_open(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.tide.is_some())
    }

    /// Starts, from what the disk holds.
    pub(crate) fn start(&mut self, cx: &mut Context) -> Result<(), Broken> {
        if self.run.is_some() {
            return Ok(());
        }
        let (tide, rock) = self.disk.rows().open()?.unzip();
        if let (Some(tide), Some(rock)) = (&tide, &rock) {
            self.disk.rows().check(tide)?;
            cx.checkers.same_rock(tide.cursor(), lake::digest(rock)?, "the publisher's restored rock")?;
        }
        let (number, at) = (self.number, tide.as_ref().map(Tide::cursor));
        cx.note(|| format!("publisher {number} starts at {at:?}"));
        self.runs += 1;
        let access = self.disk.rows().access.clone().unwrap_or_else(|| self.default_access.clone());
        self.run = Some(Run {
            number: self.runs,
            tide,
            rock: rock.unwrap_or_default(),
            access,
            wants_epoch: false,
            shown_early: false,
            streams: BTreeMap::new(),
        });
        self.renew_if_wanted(cx)
    }

    /// Ends, in the middle of whatever it does. What was on its way to the disk may have got there.
    pub(crate) fn crash(&mut self, cx: &mut Context, survives: bool) -> Result<(), Broken> {
        self.run = None;
        if survives {
            if let Some(write) = self.disk.sync(cx.bug) {
                cx.checkers.published(self.number, &write)?;
            }
        } else {
            self.disk.fail();
        }
        Ok(())
    }

    pub(crate) fn make_backup(&mut self) {
        self.backup = Some(self.disk.rows().clone());
    }

    /// The backup, where there is one of a path that began.
    pub(crate) fn backup(&self) -> Option<&Rows> {
        self.backup.as_ref().filter(|rows| rows.tide.is_some() || rows.tombstone.is_some())
    }

    /// Whether a subscriber may read what these rows hold.
    pub(crate) fn lets_in(&self, rows: &Rows, subscriber: usize) -> bool {
        rows.access.as_ref().unwrap_or(&self.default_access).allows(&subscriber)
    }

    /// Puts the backup in the disk's place. Known to be one, it is marked so; otherwise
    /// only its readers can tell.
    pub(crate) fn restore_backup(&mut self, cx: &mut Context, known: bool) -> Result<(), Broken> {
        let Some(mut rows) = self.backup.clone() else { return Ok(()) };
        let epoch = rows.tide.map(|(epoch, _)| epoch);
        rows.restored = known;
        self.quiet = if known { None } else { epoch };
        self.disk.replace(rows);
        cx.checkers.restored(self.number, self.disk.rows())
    }

    /// The disk is lost, and the process with it.
    pub(crate) fn lose_disk(&mut self, cx: &mut Context) -> Result<(), Broken> {
        self.disk.replace(Rows::default());
        cx.checkers.restored(self.number, self.disk.rows())
    }

    /// Gives waves in one commit: each for itself, or all or none. A path that is not published is
    /// opened instead.
    pub(crate) fn give(&mut self, cx: &mut Context, waves: &[Wave], all_or_none: bool) -> Result<(), Broken> {
        if !self.is_open() {
            return self.open(cx);
        }
        let Some(Run { tide: Some(tide), rock: current, .. }) = &mut self.run else { return Ok(()) };
        let mut batch = Batch::new(tide);
        let mark = batch.changes.mark();
        for wave in waves {
            let before = (cx.has(Bug::StaleRock) && cx.rng.chance(20)).then(|| current.clone());
            if Ledger::wash(current, wave).is_err() {
                cx.report.refused += 1;
                if !all_or_none {
                    continue;
                }
                batch.changes.roll_back(mark);
                batch.rocks.clear();
                batch.given.clear();
                *current = self.disk.rows().fold()?;
                break;
            }
            let bytes = Bytes::from(encode(wave).map_err(|error| Law::Storage.broken(error.to_string()))?);
            batch.changes.push_wave(bytes.clone());
            batch.given.push(bytes);
            if batch.changes.wants_rock(tide) {
                batch.push_rock(before.as_ref().unwrap_or(current))?;
            }
        }
        cx.report.given += batch.given.len() as u64;
        self.store(cx, batch);
        Ok(())
    }

    pub(crate) fn set_rule(&mut self, cx: &mut Context, rule: Rule) -> Result<(), Broken> {
        let Some(Run { tide: Some(tide), rock, .. }) = &self.run else { return Ok(()) };
        let mut batch = Batch::new(tide);
        batch.changes.set_rule(rule);
        if batch.changes.wants_rock(tide) {
            batch.push_rock(rock)?;
        }
        self.store(cx, batch);
        Ok(())
    }

    /// Makes a rock now, and drops everything older.
    pub(crate) fn wipe(&mut self, cx: &mut Context) -> Result<(), Broken> {
        let Some(Run { tide: Some(tide), rock, .. }) = &self.run else { return Ok(()) };
        let mut batch = Batch { wiped: true, ..Batch::new(tide) };
        batch.changes.wipe();
        if !batch.changes.has_rock() && !cx.has(Bug::WipeWithoutRock) {
            batch.push_rock(rock)?;
        }
        cx.report.wipes += 1;
        self.store(cx, batch);
        Ok(())
    }

    pub(crate) fn renew_if_wanted(&mut self, cx: &mut Context) -> Result<(), Broken> {
        let restored = self.disk.rows().restored && !cx.has(Bug::ForgetNewEpoch);
        let wanted = restored || self.run.as_ref().is_some_and(|run| run.wants_epoch);
        if self.disk.is_busy() || !wanted {
            return Ok(());
        }
        let Some(run) = &self.run else { return Ok(()) };
        let Some(tide) = &run.tide else {
            self.renew_tombstone(cx);
            return Ok(());
        };
        let mut batch = Batch::new(tide);
        batch.changes.renew_epoch(cx.new_epoch());
        cx.report.epochs_renewed += 1;
        self.store(cx, batch);
        Ok(())
    }

    /// Step two of a change: on its way to the disk.
    fn store(&mut self, cx: &mut Context, mut batch: Batch) {
        let Some(Run { tide: Some(tide), .. }) = &mut self.run else { return };
        batch.changes.prune(tide);
        if batch.changes.is_empty() {
            return;
        }
        let early = cx.has(Bug::TransmitBeforePersist);
        if early {
            tide.commit(batch.changes.clone());
        }
        let Batch { changes, rocks, given, wiped } = batch;
        self.write(cx, Write::Change { changes, rocks, given, wiped });
        if let Some(run) = self.run.as_mut().filter(|_| early) {
            run.shown_early = true;
            wake(cx, run);
        }
    }

    /// One transaction is on its way to the disk.
    pub(crate) fn write(&mut self, cx: &mut Context, write: Write) {
        let Some(run) = &self.run else { return };
        self.disk.write(write);
        cx.after(3_000, Event::PublisherSynced { publisher: self.number, run: run.number });
    }

    /// Step three: the disk has answered.
    pub(crate) fn synced(&mut self, cx: &mut Context, number: u64) -> Result<(), Broken> {
        let Some(run) = self.run.as_mut().filter(|run| run.number == number) else { return Ok(()) };
        if std::mem::take(&mut self.fails_next) {
            cx.report.failed_commits += 1;
            cx.note(|| "publisher fails to store".to_owned());
            let failed = self.disk.fail();
            if let Some(Write::Change { changes, .. }) = failed
                && let Some(tide) = &mut run.tide
            {
                if cx.has(Bug::CommitAfterFailure) {
                    tide.commit(changes);
                    wake(cx, run);
                } else if !cx.has(Bug::KeepRockAfterFailure) {
                    run.rock = self.disk.rows().fold()?;
                }
            }
        } else if let Some(write) = self.disk.sync(cx.bug) {
            cx.checkers.published(self.number, &write)?;
            cx.report.commits += 1;
            self.show(cx, write)?;
        }
        self.renew_if_wanted(cx)
    }

    /// What is durable becomes visible.
    fn show(&mut self, cx: &mut Context, write: Write) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        match write {
            Write::Begin { at, rule, rock } => {
                run.tide = Some(Tide::begin(at, rule, info(&rock)));
                run.rock = decode(&rock)?;
            }
            Write::Change { changes, wiped, .. } => {
                let Some(tide) = &mut run.tide else { return Ok(()) };
                cx.note(|| format!("publisher {} stored up to {}", self.number, changes.head()));
                // Wanted until it is stored: a reader that is ahead asks once, not after each failure.
                run.wants_epoch &= changes.new_epoch().is_none();
                if !std::mem::take(&mut run.shown_early) {
                    tide.commit(changes);
                }
                if wiped {
                    self.disk.rows().check_wiped()?;
                }
            }
            Write::Kill { tombstone } => {
                cx.note(|| format!("publisher {} killed its path at {}", self.number, tombstone.at));
                (run.tide, run.rock, run.wants_epoch) = (None, Rock::default(), false);
            }
            Write::Access { access } => run.access = access,
            Write::Import(import) => {
                cx.note(|| format!("publisher {} goes on from {}", self.number, import.from));
                (run.tide, run.rock) = (Some(import.tide), import.rock);
                run.access = self.disk.rows().access.clone().unwrap_or_else(|| self.default_access.clone());
            }
            Write::Ended { .. } => {}
        }
        if let Some(tide) = &run.tide {
            self.disk.rows().check(tide)?;
        }
        wake(cx, run);
        Ok(())
    }
}
