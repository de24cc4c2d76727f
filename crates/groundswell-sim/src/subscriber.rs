//! The subscriber's driver: it applies what comes to its replica, and lets local readers read it.

use std::collections::VecDeque;

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Digest, Epoch, Lake, Name, Path, Rule, Tide,
    encoding::decode,
    publisher::Outflow,
    subscriber::{Inflow, Intake, Violation},
    tide::Changes,
    wire::{Surf, encode_frame},
};

use crate::{
    bug::Bug,
    checkers::{Broken, Law, Seen},
    context::{Context, Event},
    disk::{Disk, Rows, Write, info},
    lake::{self, Ledger, Rock, Wave},
    link::{Link, Side, parse},
    reader::Reader,
    whole::Origin,
};

/// How many messages wait at most for the disk.
const INBOX: usize = 16;
/// How many steps a local reader takes at once.
const READS_AT_ONCE: usize = 4;

pub(crate) struct Subscriber {
    number: usize,
    /// Which publisher it follows.
    pub(crate) source: usize,
    disk: Disk,
    run: Option<Run>,
    runs: u64,
    rule: Rule,
    readers: Vec<Reader>,
    shown: Seen,
    /// The next transaction fails.
    pub(crate) fails_next: bool,
    /// Its lake is not deterministic now.
    pub(crate) faulty: bool,
    /// It knows another version of the lake than its source has.
    pub(crate) other_lake: bool,
    /// Its lake has been so: what it holds may differ until a digest says so.
    was_faulty: bool,
}

/// One run of the process.
struct Run {
    number: u64,
    state: Option<(Tide, Rock)>,
    stream: Option<(u64, Inflow)>,
    inbox: VecDeque<Intake>,
    /// What the transaction on its way brings, beyond its rows.
    staged: Staged,
    /// It asks for a rock, because what it holds is not what the publisher holds.
    healing: bool,
    caught_up: Option<Aeon>,
    /// It was told that there is nothing for it, and no more since.
    absent: bool,
}

#[derive(Debug, Default)]
struct Staged {
    /// After it, the replica is found to differ.
    diverged: bool,
    /// The publisher's digest was there to compare with.
    compared: bool,
    /// It is shown already: the bug of that name.
    shown_early: bool,
}

impl Subscriber {
    pub(crate) fn new(number: usize, source: usize, rule: Rule, readers: usize, cx: &mut Context) -> Self {
        let slowest = (0..readers).map(|_| if cx.rng.chance(50) { 500 } else { 30_000 });
        let readers = slowest.map(Reader::new).collect();
        Self {
            number,
            source,
            disk: Disk::default(),
            run: None,
            runs: 0,
            rule,
            readers,
            shown: Seen::default(),
            fails_next: false,
            faulty: false,
            other_lake: false,
            was_faulty: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.run.is_some()
    }

    pub(crate) fn set_faulty(&mut self) {
        self.faulty = true;
        self.was_faulty = true;
    }

    /// Where its disk stands.
    pub(crate) fn durable(&self) -> Option<Cursor> {
        self.disk.rows().cursor()
    }

    pub(crate) fn start(&mut self, cx: &mut Context) -> Result<(), Broken> {
        if self.run.is_some() {
            return Ok(());
        }
        let state = self.disk.rows().open()?;
        if let Some((tide, rock)) = &state {
            self.disk.rows().check(tide)?;
            // A transaction that got to the disk just before the crash may have brought it on.
            self.shown.rock(tide.cursor())?;
            cx.checkers.may_have(self.source, self.number, tide.cursor())?;
            if !self.was_faulty {
                cx.checkers.same_rock(tide.cursor(), lake::digest(rock)?, "a restored replica")?;
            }
        }
        self.runs += 1;
        self.run = Some(Run {
            number: self.runs,
            state,
            stream: None,
            inbox: VecDeque::new(),
            staged: Staged::default(),
            healing: false,
            caught_up: None,
            absent: false,
        });
        cx.note(|| format!("subscriber {} starts at {:?}", self.number, self.durable()));
        for reader in &mut self.readers {
            reader.outflow = None;
            reader.waits = true;
        }
        self.wake_readers(cx);
        cx.after(1_000, Event::Connect { subscriber: self.number });
        Ok(())
    }

    pub(crate) fn crash(&mut self, cx: &mut Context, survives: bool) {
        self.run = None;
        if survives {
            self.disk.sync(cx.bug);
        } else {
            self.disk.fail();
        }
    }

    /// Drops the replica, and begins to follow the source as if for the first time.
    pub(crate) fn quit(&mut self, cx: &mut Context, link: &mut Link) {
        self.disk.replace(Rows::default());
        self.shown = Seen::default();
        for reader in &mut self.readers {
            *reader = Reader::new(reader.slowest);
        }
        if let Some(run) = &mut self.run {
            // What is under way belongs to the replica that is gone.
            self.runs += 1;
            run.number = self.runs;
            run.state = None;
            run.healing = false;
            run.staged = Staged::default();
        }
        self.close(cx, link);
    }

    pub(crate) fn set_rule(&mut self, cx: &mut Context, rule: Rule) {
        self.rule = rule;
        let Some(run) = self.run.as_mut().filter(|_| !self.disk.is_busy()) else { return };
        let Some((tide, _)) = &run.state else { return };
        let mut changes = tide.stage();
        changes.set_rule(rule);
        run.staged = Staged::default();
        self.store(cx, changes, Vec::new(), Vec::new(), false);
    }

    /// Makes a rock now, and drops everything older.
    pub(crate) fn wipe(&mut self, cx: &mut Context) -> Result<(), Broken> {
        let Some(run) = self.run.as_mut().filter(|_| !self.disk.is_busy()) else { return Ok(()) };
        let Some((tide, rock)) = &run.state else { return Ok(()) };
        let (mut changes, mut rocks) = (tide.stage(), Vec::new());
        changes.wipe();
        if !changes.has_rock() {
            let bytes = Bytes::from(lake::rock_bytes(rock)?);
            changes.push_rock(info(&bytes));
            rocks.push((changes.head(), bytes));
        }
        run.staged = Staged::default();
        cx.report.wipes += 1;
        self.store(cx, changes, rocks, Vec::new(), true);
        Ok(())
    }

    /// What another path can begin with; of a replica that may differ from its source, nothing.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let run = self.run.as_ref().filter(|_| !self.disk.is_busy() && !self.was_faulty)?;
        let (tide, rock) = run.state.clone()?;
        Some(Origin { rows: self.disk.rows().clone(), tide, rock, access: None })
    }

    /// Asks the publisher, if there is no stream and nothing under way.
    pub(crate) fn connect(&mut self, cx: &mut Context, link: &mut Link, publisher_is_up: bool) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        if run.stream.is_some() {
            return Ok(());
        }
        if !publisher_is_up || link.down_until > cx.now || self.disk.is_busy() || !run.inbox.is_empty() {
            cx.after(5_000, Event::Connect { subscriber: self.number });
            return Ok(());
        }
        let stands = run.state.as_ref().map(|(tide, _)| tide.cursor());
        let mut asked = stands.filter(|_| !run.healing);
        let mut seen = stands;
        if cx.has(Bug::AcceptOlderRock) && cx.rng.chance(30) {
            (asked, seen) = (None, None);
        }
        let connection = link.open();
        run.stream = Some((connection, Inflow::new(asked, seen)));
        run.caught_up = None;
        run.absent = false;
        let lake = lake::id(self.other_lake)?;
        let name = |text| Name::new(text).map_err(|error| Law::Protocol.broken(error.to_string()));
        let path = Path::new("/ledger").map_err(|error| Law::Protocol.broken(error.to_string()))?;
        let surf = Surf { agent: name("sim")?, path, lake, cursor: asked };
        let mut frame = Vec::new();
        encode_frame(&surf, &mut frame).map_err(|error| Law::Protocol.broken(error.to_string()))?;
        link.send(cx, Side::Publisher, connection, frame);
        cx.report.streams += 1;
        Ok(())
    }

    pub(crate) fn closed(&mut self, cx: &mut Context, link: &mut Link, connection: u64) {
        let streams = self.run.as_ref().and_then(|run| run.stream.as_ref());
        if streams.is_some_and(|(number, _)| *number == connection) {
            self.close(cx, link);
        }
    }

    /// Ends the stream, and forgets what came on it and was not applied. It is tried again later.
    fn close(&mut self, cx: &mut Context, link: &mut Link) {
        let Some(run) = &mut self.run else { return };
        run.inbox.clear();
        run.caught_up = None;
        run.absent = false;
        if let Some((connection, _)) = run.stream.take()
            && link.connection() == Some(connection)
        {
            link.cut(cx);
        }
        cx.after(3_000, Event::Connect { subscriber: self.number });
    }

    /// Takes what has arrived, as far as there is room, and works on it.
    pub(crate) fn receive(&mut self, cx: &mut Context, link: &mut Link) -> Result<(), Broken> {
        loop {
            self.work(cx, link)?;
            let Some(run) = &mut self.run else { return Ok(()) };
            let Some((connection, inflow)) = &mut run.stream else { return Ok(()) };
            let connection = *connection;
            if run.inbox.len() >= INBOX {
                return Ok(());
            }
            let Some(frame) = link.take(cx.now, Side::Subscriber, connection) else { return Ok(()) };
            cx.after(100, Event::Pump { subscriber: self.number, connection });
            match inflow.handle(parse(&frame)?) {
                Ok(Intake::Nothing) => {}
                Ok(intake) => run.inbox.push_back(intake),
                Err(Violation::RockTooOld { .. }) if run.healing && self.was_faulty => {
                    cx.report.rocks_too_old += 1;
                    self.close(cx, link);
                }
                Err(violation) => return Err(Law::Protocol.broken(violation.to_string())),
            }
        }
    }

    /// Applies what is in the inbox, if the disk is free.
    fn work(&mut self, cx: &mut Context, link: &mut Link) -> Result<(), Broken> {
        while let Some(run) = self.run.as_mut().filter(|_| !self.disk.is_busy()) {
            match run.inbox.front() {
                None => break,
                Some(Intake::Wave { .. } | Intake::Rock { .. }) => {
                    run.absent = false;
                    self.apply(cx, link)?;
                }
                Some(Intake::CaughtUp(_)) if self.disk.rows().ended && !cx.has(Bug::StayEnded) => {
                    self.note_ended(cx, false);
                }
                Some(Intake::Killed) if !self.disk.rows().ended => {
                    cx.report.ends += 1;
                    if cx.has(Bug::DropAtEnd) {
                        self.disk.replace(Rows::default());
                        run.state = None;
                    }
                    self.note_ended(cx, true);
                }
                Some(Intake::CaughtUp(aeon)) => {
                    run.absent = false;
                    let stands = run.state.as_ref().map(|(tide, _)| tide.cursor().aeon);
                    if stands != Some(*aeon) {
                        return Err(Law::Protocol.broken(format!("caught up at {aeon}, and stands at {stands:?}")));
                    }
                    run.caught_up = Some(*aeon);
                    cx.report.caught_up += 1;
                    run.inbox.pop_front();
                }
                Some(other) => {
                    let refused = matches!(other, Intake::Refused(_));
                    cx.report.lakes_refused += u64::from(refused);
                    cx.report.absences += u64::from(*other == Intake::NotAvailable);
                    run.absent = !refused && *other != Intake::ShuttingDown;
                    run.caught_up = None;
                    run.inbox.pop_front();
                }
            }
        }
        Ok(())
    }

    /// Stores whether its source has ended for it.
    fn note_ended(&mut self, cx: &mut Context, ended: bool) {
        let Some(run) = &mut self.run else { return };
        run.staged = Staged::default();
        self.disk.write(Write::Ended { ended });
        cx.after(3_000, Event::SubscriberSynced { subscriber: self.number, run: run.number });
    }

    /// Stages some of what came, as one transaction.
    fn apply(&mut self, cx: &mut Context, link: &mut Link) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some((tide, rock)) = &mut run.state else {
            let Some(Intake::Rock { at, rock, .. }) = run.inbox.pop_front() else {
                return Err(Law::Protocol.broken("a wave came before any rock"));
            };
            run.staged = Staged { compared: true, ..Staged::default() };
            run.healing = false;
            self.disk.write(Write::Begin { at, rule: self.rule, rock: rock.into() });
            cx.after(3_000, Event::SubscriberSynced { subscriber: self.number, run: run.number });
            return Ok(());
        };
        let (mut changes, mut rocks, mut given) = (tide.stage(), Vec::new(), Vec::new());
        run.staged = Staged::default();
        for _ in 0..1 + cx.rng.index(8) {
            if !matches!(run.inbox.front(), Some(Intake::Wave { .. } | Intake::Rock { .. })) {
                break;
            }
            match run.inbox.pop_front() {
                Some(Intake::Rock { at, rock: bytes, .. }) => {
                    *rock = decode(&bytes)?;
                    changes.begin_anew(at, info(&bytes));
                    rocks = vec![(at.aeon, Bytes::from(bytes))];
                    given.clear();
                    run.staged.compared = true;
                    run.healing = false;
                    // A rock is a gap: the publisher says once more when this is everything.
                    run.caught_up = None;
                    cx.report.rocks_applied += 1;
                }
                Some(Intake::Wave { digest, wave, .. }) => {
                    let mark = changes.mark();
                    let refused = wash(cx, rock, &wave, self.faulty)?;
                    let wave = Bytes::from(wave);
                    changes.push_wave(wave.clone());
                    let bytes = (digest.is_some() || changes.wants_rock(tide)).then(|| lake::rock_bytes(rock));
                    let bytes = bytes.transpose()?;
                    let own = bytes.as_ref().map(|bytes| Digest::of(bytes));
                    let differs = digest.is_some() && own != digest && !cx.has(Bug::IgnoreDigest);
                    if refused || differs {
                        if !self.was_faulty {
                            return Err(Law::SameRock.broken("a lawful replica has diverged"));
                        }
                        changes.roll_back(mark);
                        run.staged.diverged = true;
                        break;
                    }
                    if let Some(bytes) = bytes {
                        changes.push_rock(info(&bytes));
                        rocks.push((changes.head(), Bytes::from(bytes)));
                    }
                    run.staged.compared = digest.is_some();
                    given.push(wave);
                }
                _ => {}
            }
        }
        let diverged = run.staged.diverged;
        if !self.store(cx, changes, rocks, given, false) && diverged {
            self.heal()?;
        }
        if diverged {
            cx.report.divergences += 1;
            cx.note(|| format!("subscriber {} has diverged", self.number));
            self.close(cx, link);
        }
        Ok(())
    }

    /// Puts changes on their way to the disk. False where there are none.
    fn store(
        &mut self,
        cx: &mut Context,
        mut changes: Changes,
        rocks: Vec<(Aeon, Bytes)>,
        given: Vec<Bytes>,
        wiped: bool,
    ) -> bool {
        let Some(run) = &mut self.run else { return false };
        let Some((tide, _)) = &mut run.state else { return false };
        changes.prune(tide);
        if changes.is_empty() {
            return false;
        }
        if cx.has(Bug::ShowBeforePersist) {
            tide.commit(changes.clone());
            run.staged.shown_early = true;
        }
        self.disk.write(Write::Change { changes, rocks, given, wiped });
        cx.after(3_000, Event::SubscriberSynced { subscriber: self.number, run: run.number });
        if cx.has(Bug::ShowBeforePersist) {
            self.wake_readers(cx);
        }
        true
    }

    /// The rock in memory is loaded again, and the publisher is asked for its own.
    fn heal(&mut self) -> Result<(), Broken> {
        let Some(run) = &mut self.run else { return Ok(()) };
        run.healing = true;
        if let Some((_, rock)) = &mut run.state {
            *rock = self.disk.rows().fold()?;
        }
        Ok(())
    }

    /// The disk has answered.
    pub(crate) fn synced(&mut self, cx: &mut Context, link: &mut Link, number: u64) -> Result<(), Broken> {
        let Some(run) = self.run.as_mut().filter(|run| run.number == number) else { return Ok(()) };
        let staged = std::mem::take(&mut run.staged);
        if std::mem::take(&mut self.fails_next) {
            cx.report.failed_commits += 1;
            self.disk.fail();
            run.state = self.disk.rows().open()?;
            run.healing |= staged.diverged;
            self.close(cx, link);
            return Ok(());
        }
        let Some(write) = self.disk.sync(cx.bug) else { return Ok(()) };
        let renewed = match write {
            Write::Begin { at, rule, rock } => {
                run.state = Some((Tide::begin(at, rule, info(&rock)), decode(&rock)?));
                true
            }
            Write::Change { changes, wiped, .. } => {
                if wiped {
                    self.disk.rows().check_wiped()?;
                }
                let renewed = changes.reset().is_some();
                if let Some((tide, _)) = &mut run.state
                    && !staged.shown_early
                {
                    tide.commit(changes);
                }
                renewed
            }
            _ => return self.receive(cx, link),
        };
        if staged.diverged {
            self.heal()?;
        }
        self.check(cx, renewed, staged.compared)?;
        self.wake_readers(cx);
        self.receive(cx, link)
    }

    /// What the replica shows from now on.
    fn check(&mut self, cx: &mut Context, renewed: bool, compared: bool) -> Result<(), Broken> {
        let Some((tide, rock)) = self.run.as_ref().and_then(|run| run.state.as_ref()) else { return Ok(()) };
        self.disk.rows().check(tide)?;
        let at = tide.cursor();
        cx.report.late_states += u64::from(cx.checkers.may_have(self.source, self.number, at)?);
        let before = self.shown.at();
        if renewed || before.is_none() {
            self.shown.rock(at)?;
        } else {
            let first = before.map_or(at.aeon, |before| before.aeon);
            for aeon in first.0 + 1..=at.aeon.0 {
                self.shown.wave(Cursor { epoch: at.epoch, aeon: Aeon(aeon) })?;
            }
            if self.shown.at() != Some(at) {
                return Err(Law::Order.broken(format!("a replica goes from {before:?} to {at}")));
            }
        }
        if compared || !self.was_faulty {
            cx.checkers.same_rock(at, lake::digest(rock)?, "a replica's rock")?;
        }
        Ok(())
    }

    fn wake_readers(&mut self, cx: &mut Context) {
        let Some(run) = &self.run else { return };
        for (number, reader) in self.readers.iter_mut().enumerate() {
            if std::mem::take(&mut reader.waits) {
                cx.after(reader.slowest, Event::Read { subscriber: self.number, run: run.number, reader: number });
            }
        }
    }

    /// One local reader reads on.
    pub(crate) fn read(&mut self, cx: &mut Context, number: u64, reader: usize) -> Result<(), Broken> {
        let Some(run) = &self.run else { return Ok(()) };
        let reading = &mut self.readers[reader];
        let state = run.state.as_ref().filter(|_| run.number == number);
        let Some((tide, _)) = state else {
            reading.waits |= run.number == number;
            return Ok(());
        };
        for _ in 0..READS_AT_ONCE {
            if !reading.step(cx, tide, self.disk.rows(), !self.was_faulty)? {
                reading.waits = true;
                return Ok(());
            }
        }
        cx.after(reading.slowest, Event::Read { subscriber: self.number, run: number, reader });
        Ok(())
    }

    /// At the end: who may read has everything, and was told so; who may not has what it had, and was
    /// told that there is nothing. In both cases every local reader has what the replica has.
    pub(crate) fn check_converged(&self, cx: &Context) -> Result<(), Broken> {
        let head = cx.checkers.head(self.source);
        let may_read = cx.checkers.may_read(self.source, self.number);
        let name = format!("subscriber {}", self.number);
        let missing = |what: &str| Err(Law::Convergence.broken(format!("{name} {what}; the head is {head:?}")));
        let Some(run) = &self.run else { return missing("is down") };
        let stands = run.state.as_ref().map(|(tide, _)| tide.cursor());
        if may_read {
            let Some((_, rock)) = &run.state else { return missing("has nothing") };
            if stands != head {
                return missing(&format!("stands at {stands:?}"));
            }
            if run.caught_up.is_none() {
                return missing("was not told that it has caught up");
            }
            if self.disk.rows().ended {
                return missing("takes its source for ended");
            }
            let at = head.unwrap_or(Cursor { epoch: Epoch([0; 16]), aeon: Aeon::ZERO });
            if cx.checkers.same_rock(at, lake::digest(rock)?, &name).is_err() {
                return missing("has another rock");
            }
        } else {
            if !run.absent {
                return missing("was not told that there is nothing");
            }
            if stands != self.shown.at() {
                return Err(Law::Ending.broken(format!("{name} had {:?}, and has {stands:?}", self.shown.at())));
            }
            if stands.is_some() && !cx.checkers.ever_could(self.source, self.number) {
                return Err(Law::Permission.broken(format!("{name} never could read, and has {stands:?}")));
            }
        }
        for reader in &self.readers {
            let told = reader.outflow.as_ref().is_some_and(Outflow::is_caught_up);
            if reader.seen.at() != stands || (stands.is_some() && !told) {
                return missing(&format!("has a reader at {:?}", reader.seen.at()));
            }
        }
        Ok(())
    }
}

/// Washes a wave, lawfully or not. True where it was refused.
fn wash(cx: &mut Context, rock: &mut Rock, wave: &[u8], faulty: bool) -> Result<bool, Broken> {
    if faulty && cx.rng.chance(1) {
        return Ok(true);
    }
    let wave: Wave = decode(wave)?;
    let refused = Ledger::wash(rock, &wave).is_err();
    if cx.has(Bug::WashTwice) && cx.rng.chance(2) {
        // The second time it may be refused, which is no excuse.
        let _ = Ledger::wash(rock, &wave);
    }
    if faulty && cx.rng.chance(4) {
        rock.chain ^= 1;
        cx.report.faulty_washes += 1;
    }
    Ok(refused)
}
