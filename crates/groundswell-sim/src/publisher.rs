//! The publisher's driver, as it would be around a real disk and a real network.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Epoch, Lake, Rule, Tide,
    encoding::{decode, encode},
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
    tide::Changes,
    wire::{FRAME_HEADER_BYTES, Message, Surf, encode_frame},
};

use crate::{
    bug::Bug,
    checkers::{Broken, Law},
    context::{Context, Event},
    disk::{Disk, Rows, Write, info},
    lake::{self, Ledger, Rock, Wave},
    link::{Link, Side},
};

/// How many steps of one stream are taken before others have their turn.
const STEPS_AT_ONCE: usize = 8;

pub(crate) struct Publisher {
    disk: Disk,
    run: Option<Run>,
    runs: u64,
    backup: Option<Rows>,
    epochs: u64,
    rule: Rule,
    /// The next transaction fails.
    pub(crate) fails_next: bool,
    /// A backup of this epoch came back unnoticed, and a reader is ahead of it. Nothing is given
    /// until that reader has told so: what were given before would be two histories of one epoch.
    quiet: Option<Epoch>,
    blocked: BTreeSet<usize>,
}

/// One run of the process: what a crash ends.
struct Run {
    number: u64,
    tide: Tide,
    rock: Rock,
    wants_epoch: bool,
    /// What is on its way to the disk is shown already: the bug of that name.
    shown_early: bool,
    streams: BTreeMap<(usize, u64), Stream>,
}

struct Stream {
    outflow: Outflow,
    asked: Option<Cursor>,
    parked: bool,
}

/// What one commit is made of.
struct Batch {
    changes: Changes,
    rocks: Vec<(Aeon, Bytes)>,
    given: Vec<Bytes>,
}

impl Batch {
    fn new(tide: &Tide) -> Self {
        Self { changes: tide.stage(), rocks: Vec::new(), given: Vec::new() }
    }

    fn push_rock(&mut self, rock: &Rock) -> Result<(), Broken> {
        let bytes = Bytes::from(lake::rock_bytes(rock)?);
        self.changes.push_rock(info(&bytes));
        self.rocks.push((self.changes.head(), bytes));
        Ok(())
    }
}

impl Publisher {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            disk: Disk::default(),
            run: None,
            runs: 0,
            backup: None,
            epochs: 0,
            rule,
            fails_next: false,
            quiet: None,
            blocked: BTreeSet::new(),
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

    fn new_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(u128::from(self.epochs).to_be_bytes())
    }

    /// Starts, from what the disk holds.
    pub(crate) fn start(&mut self, cx: &mut Context) -> Result<(), Broken> {
        if self.run.is_some() {
            return Ok(());
        }
        if self.disk.rows().tide.is_none() {
            let at = Cursor { epoch: self.new_epoch(), aeon: Aeon::ZERO };
            let rock = Bytes::from(lake::rock_bytes(&Rock::default())?);
            self.disk.write(Write::Begin { at, rule: self.rule, rock });
            if let Some(write) = self.disk.sync(cx.bug) {
                cx.checkers.published(&write)?;
            }
        }
        let Some((tide, rock)) = self.disk.rows().open()? else {
            return Err(Law::Storage.broken("a publication that was begun is not stored"));
        };
        self.disk.rows().check(&tide)?;
        cx.checkers.same_rock(tide.cursor(), lake::digest(&rock)?, "the publisher's restored rock")?;
        cx.note(|| format!("publisher starts at {}", tide.cursor()));
        self.runs += 1;
        let number = self.runs;
        let streams = BTreeMap::new();
        self.run = Some(Run { number, tide, rock, wants_epoch: false, shown_early: false, streams });
        self.renew_if_wanted(cx)
    }

    /// Ends, in the middle of whatever it does. What was on its way to the disk may have got there.
    pub(crate) fn crash(&mut self, cx: &mut Context, survives: bool) -> Result<(), Broken> {
        self.run = None;
        if survives {
            if let Some(write) = self.disk.sync(cx.bug) {
                cx.checkers.published(&write)?;
            }
        } else {
            self.disk.fail();
        }
        Ok(())
    }

    pub(crate) fn make_backup(&mut self) {
        self.backup = Some(self.disk.rows().clone());
    }

    /// The epoch and aeon of the backup.
    pub(crate) fn backup(&self) -> Option<Cursor> {
        self.backup.as_ref()?.cursor()
    }

    /// Puts the backup in the disk's place. Known to be one, it is marked so; otherwise
    /// only its readers can tell.
    pub(crate) fn restore_backup(&mut self, cx: &mut Context, known: bool) -> Result<(), Broken> {
        let Some(mut rows) = self.backup.clone() else { return Ok(()) };
        let epoch = rows.tide.map(|(epoch, _)| epoch);
        rows.restored = known;
        self.quiet = if known { None } else { epoch };
        self.disk.replace(rows);
        cx.checkers.restored(self.disk.rows())
    }

    /// The disk is lost, and the process with it.
    pub(crate) fn lose_disk(&mut self) {
        self.disk.replace(Rows::default());
    }

    /// Gives waves in one commit: each for itself, or all or none.
    pub(crate) fn give(&mut self, cx: &mut Context, waves: &[Wave], all_or_none: bool) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let mut batch = Batch::new(&run.tide);
        let mark = batch.changes.mark();
        for wave in waves {
            let before = (cx.has(Bug::StaleRock) && cx.rng.chance(20)).then(|| run.rock.clone());
            if Ledger::wash(&mut run.rock, wave).is_err() {
                cx.report.refused += 1;
                if !all_or_none {
                    continue;
                }
                batch.changes.roll_back(mark);
                batch.rocks.clear();
                batch.given.clear();
                run.rock = self.disk.rows().fold()?;
                break;
            }
            let bytes = Bytes::from(encode(wave).map_err(|error| Law::Storage.broken(error.to_string()))?);
            batch.changes.push_wave(bytes.clone());
            batch.given.push(bytes);
            if batch.changes.wants_rock(&run.tide) {
                batch.push_rock(before.as_ref().unwrap_or(&run.rock))?;
            }
        }
        cx.report.given += batch.given.len() as u64;
        self.store(cx, batch);
        Ok(())
    }

    pub(crate) fn set_rule(&mut self, cx: &mut Context, rule: Rule) {
        let Some(run) = &self.run else { return };
        let mut batch = Batch::new(&run.tide);
        batch.changes.set_rule(rule);
        self.store(cx, batch);
    }

    /// Makes a rock now, whatever the rule says.
    pub(crate) fn wipe(&mut self, cx: &mut Context) -> Result<(), Broken> {
        let Some(run) = &self.run else { return Ok(()) };
        let mut batch = Batch::new(&run.tide);
        batch.push_rock(&run.rock)?;
        self.store(cx, batch);
        Ok(())
    }

    fn renew_if_wanted(&mut self, cx: &mut Context) -> Result<(), Broken> {
        let restored = self.disk.rows().restored && !cx.has(Bug::ForgetNewEpoch);
        let wanted = restored || self.run.as_ref().is_some_and(|run| run.wants_epoch);
        if self.disk.is_busy() || !wanted {
            return Ok(());
        }
        let epoch = self.new_epoch();
        let Some(run) = &mut self.run else { return Ok(()) };
        let mut batch = Batch::new(&run.tide);
        batch.changes.renew_epoch(epoch);
        cx.report.epochs_renewed += 1;
        self.store(cx, batch);
        Ok(())
    }

    /// Step two of a change: on its way to the disk.
    fn store(&mut self, cx: &mut Context, mut batch: Batch) {
        let Some(run) = &mut self.run else { return };
        batch.changes.prune(&run.tide);
        if batch.changes.is_empty() {
            return;
        }
        if cx.has(Bug::TransmitBeforePersist) {
            run.tide.commit(batch.changes.clone());
            run.shown_early = true;
            wake(cx, run);
        }
        let Batch { changes, rocks, given } = batch;
        self.disk.write(Write::Change { changes, rocks, given });
        cx.after(3_000, Event::PublisherSynced { run: run.number });
    }

    /// Step three: the disk has answered.
    pub(crate) fn synced(&mut self, cx: &mut Context, number: u64) -> Result<(), Broken> {
        let Some(run) = self.run.as_mut().filter(|run| run.number == number) else { return Ok(()) };
        if std::mem::take(&mut self.fails_next) {
            cx.report.failed_commits += 1;
            cx.note(|| "publisher fails to store".to_owned());
            let failed = self.disk.fail();
            if let (true, Some(Write::Change { changes, .. })) = (cx.has(Bug::CommitAfterFailure), failed) {
                run.tide.commit(changes);
                wake(cx, run);
            } else if !cx.has(Bug::KeepRockAfterFailure) {
                run.rock = self.disk.rows().fold()?;
            }
        } else if let Some(write) = self.disk.sync(cx.bug) {
            cx.checkers.published(&write)?;
            let Write::Change { changes, .. } = write else { return Ok(()) };
            cx.note(|| format!("publisher stored up to {}", changes.head()));
            // Wanted until it is stored: a reader that is ahead asks once, not after each failure.
            run.wants_epoch &= changes.new_epoch().is_none();
            cx.report.commits += 1;
            if !std::mem::take(&mut run.shown_early) {
                run.tide.commit(changes);
            }
            self.disk.rows().check(&run.tide)?;
            wake(cx, run);
        }
        self.renew_if_wanted(cx)
    }

    /// A request has arrived.
    pub(crate) fn accept(
        &mut self,
        cx: &mut Context,
        link: &mut Link,
        subscriber: usize,
        connection: u64,
    ) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some(frame) = link.take(cx.now, Side::Publisher, connection) else { return Ok(()) };
        let surf: Surf = decode(frame.get(FRAME_HEADER_BYTES..).unwrap_or_default())?;
        let parked = self.blocked.contains(&subscriber);
        let stream = Stream { outflow: Outflow::new(surf.cursor), asked: surf.cursor, parked };
        run.streams.insert((subscriber, connection), stream);
        cx.note(|| format!("publisher is asked by {subscriber} with {:?}", surf.cursor));
        if parked {
            send(cx, link, connection, &Message::NotAvailable)?;
        }
        cx.after(100, Event::Pump { subscriber, connection });
        Ok(())
    }

    pub(crate) fn closed(&mut self, subscriber: usize, connection: u64) {
        if let Some(run) = &mut self.run {
            run.streams.remove(&(subscriber, connection));
        }
    }

    /// Takes the path away from a subscriber, or gives it back.
    pub(crate) fn block(
        &mut self,
        cx: &mut Context,
        link: &mut Link,
        subscriber: usize,
        block: bool,
    ) -> Result<(), Broken> {
        let changed = if block { self.blocked.insert(subscriber) } else { self.blocked.remove(&subscriber) };
        let (Some(run), Some(connection)) = (&mut self.run, link.connection()) else { return Ok(()) };
        let Some(stream) = run.streams.get_mut(&(subscriber, connection)).filter(|_| changed) else { return Ok(()) };
        stream.parked = block;
        if block {
            cx.report.interruptions += 1;
            // What was told counts for nothing now; where the reader stands does.
            let stands = if cx.has(Bug::ResumeFromStart) { stream.asked } else { stream.outflow.cursor() };
            stream.outflow = Outflow::new(stands);
            send(cx, link, connection, &Message::NotAvailable)
        } else {
            cx.after(100, Event::Pump { subscriber, connection });
            Ok(())
        }
    }

    /// Says goodbye to everyone: a crash follows.
    pub(crate) fn say_goodbye(&mut self, cx: &mut Context, links: &mut [Link]) -> Result<(), Broken> {
        let Some(run) = &self.run else { return Ok(()) };
        for &(subscriber, connection) in run.streams.keys() {
            send(cx, &mut links[subscriber], connection, &Message::ShuttingDown)?;
        }
        Ok(())
    }

    /// Lets one stream go on, as far as the link has room.
    pub(crate) fn pump(
        &mut self,
        cx: &mut Context,
        link: &mut Link,
        subscriber: usize,
        connection: u64,
    ) -> Result<(), Broken> {
        let serves = !self.disk.rows().restored || cx.has(Bug::ForgetNewEpoch);
        let Some(run) = self.run.as_mut().filter(|_| serves) else { return Ok(()) };
        let Some(stream) = run.streams.get_mut(&(subscriber, connection)) else { return Ok(()) };
        if stream.parked {
            return Ok(());
        }
        for _ in 0..STEPS_AT_ONCE {
            if !link.has_room(connection) {
                return Ok(());
            }
            match stream.outflow.poll(&run.tide) {
                Step::Resume(cursor) => {
                    transmit(cx, link, connection, &self.disk, stream, &Message::Resumed(cursor))?;
                    stream.outflow.resumed();
                }
                Step::BeginRock { at, info } => {
                    let message = Message::Rock { at, bytes: info.bytes, digest: info.digest };
                    transmit(cx, link, connection, &self.disk, stream, &message)?;
                    stream.outflow.rock_begun(at, info);
                    cx.report.rocks_sent += 1;
                }
                Step::Chunk { aeon, index } => match self.disk.rows().chunk(aeon, index) {
                    Some(chunk) => {
                        let message = Message::Chunk(Cow::Borrowed(chunk));
                        transmit(cx, link, connection, &self.disk, stream, &message)?;
                        stream.outflow.chunk_sent(chunk.len() as u64);
                    }
                    None => {
                        cx.report.rocks_gone += 1;
                        stream.outflow.rock_gone();
                    }
                },
                Step::Waves { first, last } => {
                    send_waves(cx, link, connection, &self.disk, &run.tide, stream, first, last)?;
                }
                Step::CaughtUp(aeon) => {
                    transmit(cx, link, connection, &self.disk, stream, &Message::CaughtUp(aeon))?;
                    stream.outflow.told_caught_up();
                }
                Step::Wait => return Ok(()),
                Step::Ahead => {
                    cx.report.aheads += 1;
                    run.wants_epoch = !cx.has(Bug::IgnoreAhead);
                    return self.renew_if_wanted(cx);
                }
            }
        }
        cx.after(50, Event::Pump { subscriber, connection });
        Ok(())
    }
}

#[expect(clippy::too_many_arguments, reason = "they are the borrowed parts of one publisher")]
fn send_waves(
    cx: &mut Context,
    link: &mut Link,
    connection: u64,
    disk: &Disk,
    tide: &Tide,
    stream: &mut Stream,
    first: Aeon,
    last: Aeon,
) -> Result<(), Broken> {
    if cx.has(Bug::EarlyCaughtUp) && cx.rng.chance(10) {
        return transmit(cx, link, connection, disk, stream, &Message::CaughtUp(first.back(1)));
    }
    let recent = tide.recent_from(first, READ_BATCH_BYTES);
    cx.report.read_from_disk += u64::from(recent.is_none());
    let waves = recent.unwrap_or_else(|| disk.rows().waves(first, last));
    if waves.is_empty() {
        return Err(Law::Storage.broken(format!("the wave {first} is kept, and is not stored")));
    }
    let batch = 1 + cx.rng.index(4);
    for (aeon, wave) in (first.0..=last.0).map(Aeon).zip(waves).take(batch) {
        let message = Message::Wave { aeon, digest: tide.digest_at(aeon), wave: Cow::Borrowed(&wave) };
        if !(cx.has(Bug::SkipWave) && cx.rng.chance(5)) {
            transmit(cx, link, connection, disk, stream, &message)?;
        }
        if cx.has(Bug::RepeatWave) && cx.rng.chance(5) {
            transmit(cx, link, connection, disk, stream, &message)?;
        }
        stream.outflow.waves_sent(aeon);
        cx.report.waves_sent += 1;
    }
    Ok(())
}

/// Hands a message to the network, past the checkers.
fn transmit(
    cx: &mut Context,
    link: &mut Link,
    connection: u64,
    disk: &Disk,
    stream: &Stream,
    message: &Message<'_>,
) -> Result<(), Broken> {
    let epoch = stream.outflow.cursor().map(|cursor| cursor.epoch);
    cx.checkers.transmitted(epoch, message, disk.rows())?;
    send(cx, link, connection, message)
}

fn send(cx: &mut Context, link: &mut Link, connection: u64, message: &Message<'_>) -> Result<(), Broken> {
    let mut frame = Vec::new();
    encode_frame(message, &mut frame).map_err(|error| Law::Protocol.broken(error.to_string()))?;
    link.send(cx, Side::Subscriber, connection, frame);
    Ok(())
}

/// Wakes every stream.
fn wake(cx: &mut Context, run: &Run) {
    for &(subscriber, connection) in run.streams.keys() {
        if !(cx.has(Bug::LostWakeup) && cx.rng.chance(20)) {
            cx.after(300, Event::Pump { subscriber, connection });
        }
    }
}
