//! What watches a world: it knows the whole history, and looks at everything that is shown.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Cursor, Digest, Epoch, Lake,
    encoding::{DecodeError, decode},
    wire::Message,
};

use crate::{
    disk::{Import, Rows, Write},
    lake::{self, Ledger, Rock},
};

/// What may never happen, in the words of the design's invariants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Nothing is shown that a power cut can take back.
    PersistBeforeTransmit,
    /// The aeons of an epoch never go back at a reader, and have no gap except across a rock.
    Order,
    /// Two rocks of one epoch and aeon are equal, byte for byte.
    SameRock,
    /// An epoch has one history: no aeon of it is published twice.
    OneHistory,
    /// Two peers that follow the protocol never find a violation in one another.
    Protocol,
    /// Storage holds what the tide says it holds, and a restart finds it.
    Storage,
    /// Who may read a path that is published is served, and no one else: who may not is told that
    /// there is nothing, once, and has nothing that was given since it could read.
    Permission,
    /// A path that was killed goes on in its epoch, at the next aeon; its replicas stay.
    Ending,
    /// When the faults stop, every permitted reader comes to the publisher's head, and is told so.
    Convergence,
    /// What was acknowledged to who wrote a key is not lost, and wins over all that the writer knew; what was said to have
    /// failed never appears.
    Kept,
    /// What counts as delivered is durable at the other side.
    Delivery,
    /// An author's counters and stamps grow from one of its entries to the next.
    Once,
    /// What a reader of keys was shown, folded, is the view at its place; nothing comes twice.
    Reading,
    /// Nothing is sent twice or back within a session, unless it was asked for, and a world comes to rest.
    Rest,
    /// No more values are asked for at a time than may be, and each missing one arrives.
    Wants,
    /// A side is current only when it holds what the other one held when it said hello.
    Current,
    /// A side notes that it went back only if it did, has everything back when it has agreed, and comes to agree.
    Restored,
    /// A pairing begins when both sides have stored it, and ends only by a person or by a proof that the other side has ended it.
    /// A side learns of that, whatever else goes wrong. A document is shared with one manager.
    Pairing,
}

impl Law {
    pub(crate) fn broken(self, detail: impl Into<String>) -> Broken {
        Broken { law: self, detail: detail.into() }
    }
}

/// A law that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which law.
    pub law: Law,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.detail)
    }
}

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Self {
        Law::Protocol.broken(error.to_string())
    }
}

/// What one reader was shown so far, a replica or a reader of one.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    at: Option<Cursor>,
    /// The newest aeon of every epoch that it ever saw.
    newest: BTreeMap<Epoch, Aeon>,
}

impl Seen {
    pub(crate) fn at(&self) -> Option<Cursor> {
        self.at
    }

    /// It is shown a rock.
    pub(crate) fn rock(&mut self, at: Cursor) -> Result<(), Broken> {
        let newest = self.newest.entry(at.epoch).or_insert(at.aeon);
        if at.aeon < *newest {
            return Err(Law::Order.broken(format!("a reader that has seen aeon {newest} is shown the rock {at}")));
        }
        *newest = at.aeon;
        self.at = Some(at);
        Ok(())
    }

    /// It is shown a wave.
    pub(crate) fn wave(&mut self, at: Cursor) -> Result<(), Broken> {
        let expected = self.at.map(|before| Cursor { aeon: before.aeon.next(), ..before });
        if expected != Some(at) {
            let before = self.at.map_or_else(|| "nothing".to_owned(), |before| before.to_string());
            return Err(Law::Order.broken(format!("a reader at {before} is shown the wave {at}")));
        }
        self.newest.insert(at.epoch, at.aeon);
        self.at = Some(at);
        Ok(())
    }
}

/// All that was ever durable of one epoch, at the publisher.
#[derive(Debug, Clone)]
struct History {
    begin: Aeon,
    /// The digest of the rock of each aeon from `begin` on.
    digests: Vec<Digest>,
    /// The wave that leads to each aeon after `begin`; none where a killed path was opened again.
    waves: Vec<Option<Bytes>>,
    /// When each aeon was made.
    made: Vec<u64>,
}

impl History {
    fn head(&self) -> Aeon {
        Aeon(self.begin.0 + self.waves.len() as u64)
    }

    fn index(&self, aeon: Aeon) -> Option<usize> {
        usize::try_from(aeon.0.checked_sub(self.begin.0)?).ok()
    }

    fn digest(&self, aeon: Aeon) -> Option<Digest> {
        self.digests.get(self.index(aeon)?).copied()
    }

    fn wave(&self, aeon: Aeon) -> Option<&Bytes> {
        self.waves.get(self.index(aeon)?.checked_sub(1)?)?.as_ref()
    }

    /// The same up to an aeon, all of it made now.
    fn up_to(&self, aeon: Aeon, now: u64) -> Self {
        let mut history = self.clone();
        let kept = history.index(aeon).unwrap_or(0);
        history.waves.truncate(kept);
        history.digests.truncate(kept + 1);
        history.made = vec![now; history.digests.len()];
        history
    }
}

/// The truth of one path.
#[derive(Debug)]
struct Truth {
    /// Where the publisher's disk stands, and the rock there: folded here, not by the publisher.
    head: Option<(Cursor, Rock)>,
    /// Where it stood when it was killed.
    killed_at: Option<Cursor>,
    /// The epoch that was begun last.
    latest: Option<Epoch>,
    access: Access<usize>,
    /// Who may read until that is said.
    default_access: Access<usize>,
    /// Since when each subscriber may not read; `None` where it may.
    closed_since: Vec<Option<u64>>,
    ever_open: Vec<bool>,
}

/// The whole truth, and the questions asked of it.
#[derive(Debug, Default)]
pub(crate) struct Checkers {
    histories: BTreeMap<Epoch, History>,
    paths: Vec<Truth>,
    /// Counts what was published.
    now: u64,
    /// The connection of each subscriber that was told that there is nothing, and no more since.
    told: BTreeMap<usize, u64>,
}

impl Checkers {
    /// A path of which nothing is published yet, and so many subscribers.
    pub(crate) fn add_path(&mut self, default_access: Access<usize>, subscribers: usize) {
        self.paths.push(Truth {
            head: None,
            killed_at: None,
            latest: None,
            access: default_access.clone(),
            default_access,
            closed_since: vec![Some(0); subscribers],
            ever_open: vec![false; subscribers],
        });
    }

    /// Where the publisher's disk stands.
    pub(crate) fn head(&self, publisher: usize) -> Option<Cursor> {
        self.paths[publisher].head.as_ref().map(|(at, _)| *at)
    }

    /// The epoch that was begun last, wherever backups have brought the disk since.
    pub(crate) fn latest(&self, publisher: usize) -> Option<Epoch> {
        self.paths[publisher].latest
    }

    /// Whether a subscriber may read a path now.
    pub(crate) fn may_read(&self, publisher: usize, subscriber: usize) -> bool {
        let path = &self.paths[publisher];
        path.head.is_some() && path.access.allows(&subscriber)
    }

    /// Whether it ever could.
    pub(crate) fn ever_could(&self, publisher: usize, subscriber: usize) -> bool {
        self.paths[publisher].ever_open[subscriber]
    }

    /// That a subscriber may have this state: it can read, or could when the state was made. True
    /// where it no longer can.
    pub(crate) fn may_have(&self, publisher: usize, subscriber: usize, at: Cursor) -> Result<bool, Broken> {
        let path = &self.paths[publisher];
        let history = self.histories.get(&at.epoch);
        let made = history.and_then(|history| Some(history.made[history.index(at.aeon)?]));
        match (path.closed_since[subscriber], made) {
            (None, _) => Ok(false),
            (Some(closed), Some(made)) if path.ever_open[subscriber] && made <= closed => Ok(true),
            _ => Err(Law::Permission.broken(format!("subscriber {subscriber} has {at}, which was not given to it"))),
        }
    }

    /// A transaction of a publisher became durable.
    pub(crate) fn published(&mut self, publisher: usize, write: &Write) -> Result<(), Broken> {
        self.now += 1;
        match write {
            Write::Begin { at, rock, .. } => self.begun(publisher, *at, rock)?,
            Write::Kill { tombstone } => self.killed(publisher, tombstone.at)?,
            Write::Access { access } => self.paths[publisher].access = access.clone(),
            Write::Import(import) => self.imported(publisher, import)?,
            Write::Change { changes, rocks, given, .. } => {
                if let Some(epoch) = changes.new_epoch() {
                    self.renewed(publisher, epoch)?;
                }
                for wave in given {
                    self.given(publisher, wave)?;
                }
                let Some(at) = self.head(publisher) else { return Err(Law::Storage.broken("changes of nothing")) };
                if at.aeon != changes.head() {
                    return Err(Law::Storage.broken(format!("at {} instead of {}", changes.head(), at.aeon)));
                }
                rocks.iter().try_for_each(|(aeon, rock)| {
                    self.same_rock(Cursor { aeon: *aeon, ..at }, Digest::of(rock), "the publisher's own rock")
                })?;
            }
            Write::Ended { .. } => {}
        }
        self.note_who_may_read(publisher);
        Ok(())
    }

    fn note_who_may_read(&mut self, publisher: usize) {
        for subscriber in 0..self.paths[publisher].ever_open.len() {
            let may = self.may_read(publisher, subscriber);
            let path = &mut self.paths[publisher];
            path.ever_open[subscriber] |= may;
            let since = path.closed_since[subscriber].or(Some(self.now));
            path.closed_since[subscriber] = if may { None } else { since };
        }
    }

    fn begun(&mut self, publisher: usize, at: Cursor, rock: &Bytes) -> Result<(), Broken> {
        let path = &mut self.paths[publisher];
        let expected = path.killed_at.take().map(|killed| Cursor { aeon: killed.aeon.next(), ..killed });
        if at != expected.unwrap_or(Cursor { aeon: Aeon::ZERO, ..at }) {
            return Err(Law::Ending.broken(format!("a path begins at {at}, and was killed before {expected:?}")));
        }
        path.head = Some((at, decode(rock)?));
        path.latest = Some(at.epoch);
        let begun =
            || History { begin: at.aeon, digests: vec![Digest::of(rock)], waves: Vec::new(), made: vec![self.now] };
        match self.histories.get_mut(&at.epoch) {
            None => {
                self.histories.insert(at.epoch, begun());
            }
            Some(history) if expected.is_some() && history.head().next() == at.aeon => {
                history.digests.push(Digest::of(rock));
                history.waves.push(None);
                history.made.push(self.now);
            }
            Some(_) => return Err(Law::OneHistory.broken(format!("{at} is published twice"))),
        }
        Ok(())
    }

    fn killed(&mut self, publisher: usize, at: Cursor) -> Result<(), Broken> {
        let path = &mut self.paths[publisher];
        let stood = path.head.take().map(|(at, _)| at);
        // What was killed before has a new epoch, where a backup of it came back.
        let again = path.killed_at.map(|killed| Cursor { epoch: at.epoch, ..killed });
        path.killed_at = Some(at);
        if stood.or(again) == Some(at) {
            Ok(())
        } else {
            Err(Law::Ending.broken(format!("a path that stands at {stood:?} is killed at {at}")))
        }
    }

    fn imported(&mut self, publisher: usize, import: &Import) -> Result<(), Broken> {
        let at = import.tide.cursor();
        let path = &mut self.paths[publisher];
        if path.head.is_some() || import.rows.cursor() != Some(at) || at.aeon != import.from.aeon {
            return Err(Law::Storage.broken(format!("a fork of {} is stored at {at}", import.from)));
        }
        path.access = import.rows.access.clone().unwrap_or_else(|| path.default_access.clone());
        if import.copied && path.access != Access::secret() {
            return Err(Law::Permission.broken(format!("the copy {at} is not secret")));
        }
        path.head = Some((at, import.rows.fold()?));
        path.killed_at = None;
        path.latest = Some(at.epoch);
        self.begin_with_history(import.from, at.epoch)?;
        self.same_rock(at, lake::digest(&import.rock)?, "the rock of a fork")?;
        self.same_rock(at, lake::digest(&import.rows.fold()?)?, "the stored rock of a fork")
    }

    fn renewed(&mut self, publisher: usize, epoch: Epoch) -> Result<(), Broken> {
        let path = &mut self.paths[publisher];
        let Some((at, _)) = &mut path.head else { return Err(Law::Storage.broken("an epoch of nothing")) };
        let before = *at;
        at.epoch = epoch;
        path.latest = Some(epoch);
        self.begin_with_history(before, epoch)
    }

    fn begin_with_history(&mut self, of: Cursor, epoch: Epoch) -> Result<(), Broken> {
        let history = self.histories.get(&of.epoch).map(|history| history.up_to(of.aeon, self.now));
        let before = history.and_then(|history| self.histories.insert(epoch, history));
        match before {
            None => Ok(()),
            Some(_) => Err(Law::OneHistory.broken(format!("epoch {epoch} begins twice"))),
        }
    }

    fn given(&mut self, publisher: usize, wave: &Bytes) -> Result<(), Broken> {
        let head = &mut self.paths[publisher].head;
        let Some((at, rock)) = head else { return Err(Law::Storage.broken("a wave of nothing")) };
        at.aeon = at.aeon.next();
        let Some(history) = self.histories.get_mut(&at.epoch) else {
            return Err(Law::OneHistory.broken(format!("epoch {} never began", at.epoch)));
        };
        if history.head().next() != at.aeon {
            return Err(Law::OneHistory.broken(format!("{at} is published twice")));
        }
        Ledger::wash(rock, &decode(wave)?).map_err(|error| Law::Storage.broken(error))?;
        history.waves.push(Some(wave.clone()));
        history.digests.push(lake::digest(rock)?);
        history.made.push(self.now);
        Ok(())
    }

    /// A publisher's disk holds these rows now, from a backup, or none.
    pub(crate) fn restored(&mut self, publisher: usize, rows: &Rows) -> Result<(), Broken> {
        self.now += 1;
        let head = rows.cursor().map(|at| Ok::<_, Broken>((at, rows.fold()?))).transpose()?;
        let path = &mut self.paths[publisher];
        path.head = head;
        path.killed_at = rows.tombstone.map(|tombstone| tombstone.at);
        path.access = rows.access.clone().unwrap_or_else(|| path.default_access.clone());
        self.note_who_may_read(publisher);
        Ok(())
    }

    /// A publisher sends a message to a subscriber: may it?
    pub(crate) fn sent(
        &mut self,
        publisher: usize,
        subscriber: usize,
        connection: u64,
        message: &Message<'_>,
    ) -> Result<(), Broken> {
        let told = self.told.get(&subscriber) == Some(&connection);
        let is_absence = *message == Message::NotAvailable;
        let what = match (self.may_read(publisher, subscriber), is_absence) {
            (true, true) => "is told that there is nothing, and may read",
            (false, true) if told => "is told once more that there is nothing",
            (false, false) if *message != Message::ShuttingDown => "is sent something, and may not read",
            (_, absence) => {
                if absence {
                    self.told.insert(subscriber, connection);
                } else {
                    self.told.remove(&subscriber);
                }
                return Ok(());
            }
        };
        Err(Law::Permission.broken(format!("subscriber {subscriber} {what}: {message:.60?}")))
    }

    /// A publisher hands a message to the network, and its disk holds these rows.
    pub(crate) fn transmitted(&self, epoch: Option<Epoch>, message: &Message<'_>, rows: &Rows) -> Result<(), Broken> {
        let durable = rows.cursor();
        let is_durable = match message {
            Message::Wave { aeon, wave, digest } => {
                let stored = rows.waves.get(aeon).map(|stored| &stored[..]);
                let at = durable.filter(|at| Some(at.epoch) == epoch).map(|at| Cursor { aeon: *aeon, ..at });
                if let (Some(at), Some(digest)) = (at, digest) {
                    self.same_rock(at, *digest, "the digest that travels")?;
                }
                at.is_some() && stored == Some(&wave[..])
            }
            Message::Rock { at, digest, .. } => {
                self.same_rock(*at, *digest, "the rock that travels")?;
                durable.is_some_and(|durable| durable.epoch == at.epoch) && rows.rocks.contains_key(&at.aeon)
            }
            Message::Resumed(cursor) => {
                durable.is_some_and(|durable| durable.epoch == cursor.epoch && durable.aeon >= cursor.aeon)
            }
            Message::CaughtUp(aeon) => {
                if durable.is_some_and(|durable| *aeon < durable.aeon) {
                    return Err(Law::Protocol.broken(format!("caught up at {aeon}, and there is more")));
                }
                durable.is_some_and(|durable| durable.aeon == *aeon)
            }
            Message::Chunk(_) | Message::NotAvailable | Message::Refused(_) | Message::ShuttingDown => true,
        };
        if is_durable {
            Ok(())
        } else {
            Err(Law::PersistBeforeTransmit.broken(format!("{message:.60?} is sent, and is not durable")))
        }
    }

    /// Someone has a rock of this digest there.
    pub(crate) fn same_rock(&self, at: Cursor, digest: Digest, whose: &str) -> Result<(), Broken> {
        let expected = self.histories.get(&at.epoch).and_then(|history| history.digest(at.aeon));
        if expected == Some(digest) {
            Ok(())
        } else {
            Err(Law::SameRock.broken(format!("{whose} at {at} is not the fold of all waves")))
        }
    }

    /// Someone is shown this wave there.
    pub(crate) fn same_wave(&self, at: Cursor, wave: &[u8], whose: &str) -> Result<(), Broken> {
        let expected = self.histories.get(&at.epoch).and_then(|history| history.wave(at.aeon));
        if expected.map(|expected| &expected[..]) == Some(wave) {
            Ok(())
        } else {
            Err(Law::SameRock.broken(format!("{whose} at {at} is not the wave that was given")))
        }
    }
}
