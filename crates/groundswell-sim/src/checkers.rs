//! What watches a world: it knows the whole history, and looks at everything that is shown.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Digest, Epoch, Lake,
    encoding::{DecodeError, decode},
    wire::Message,
};

use crate::{
    disk::{Rows, Write},
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
    /// When the faults stop, everyone comes to the publisher's head, and is told so.
    Convergence,
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
    /// The wave that leads to each aeon after `begin`.
    waves: Vec<Bytes>,
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
        self.waves.get(self.index(aeon)?.checked_sub(1)?)
    }
}

/// The whole truth, and the questions asked of it.
#[derive(Debug, Default)]
pub(crate) struct Checkers {
    histories: BTreeMap<Epoch, History>,
    /// Where the publisher's disk stands, and the rock there: folded here, not by the publisher.
    head: Option<(Cursor, Rock)>,
    /// The epoch that was begun last.
    latest: Option<Epoch>,
}

impl Checkers {
    /// Where the publisher's disk stands.
    pub(crate) fn head(&self) -> Option<Cursor> {
        self.head.as_ref().map(|(at, _)| *at)
    }

    /// The epoch that was begun last, wherever backups have brought the disk since.
    pub(crate) fn latest(&self) -> Option<Epoch> {
        self.latest
    }

    /// A transaction of the publisher became durable.
    pub(crate) fn published(&mut self, write: &Write) -> Result<(), Broken> {
        match write {
            Write::Begin { at, rock, .. } => {
                let history = History { begin: at.aeon, digests: vec![Digest::of(rock)], waves: Vec::new() };
                if self.histories.insert(at.epoch, history).is_some() {
                    return Err(Law::OneHistory.broken(format!("epoch {} begins twice", at.epoch)));
                }
                self.head = Some((*at, decode(rock)?));
                self.latest = Some(at.epoch);
                Ok(())
            }
            Write::Change { changes, rocks, given } => {
                if let Some(epoch) = changes.new_epoch() {
                    self.renewed(epoch)?;
                }
                for wave in given {
                    self.given(wave)?;
                }
                let Some((at, _)) = &self.head else { return Err(Law::Storage.broken("changes of nothing")) };
                if at.aeon != changes.head() {
                    return Err(Law::Storage.broken(format!("at {} instead of {}", changes.head(), at.aeon)));
                }
                let epoch = at.epoch;
                rocks.iter().try_for_each(|(aeon, rock)| {
                    self.same_rock(Cursor { epoch, aeon: *aeon }, Digest::of(rock), "the publisher's own rock")
                })
            }
        }
    }

    fn renewed(&mut self, epoch: Epoch) -> Result<(), Broken> {
        let Some((at, _)) = &mut self.head else { return Err(Law::Storage.broken("an epoch of nothing")) };
        let mut history = self.histories.get(&at.epoch).cloned();
        if let Some(history) = &mut history {
            let kept = history.index(at.aeon).unwrap_or(0);
            history.waves.truncate(kept);
            history.digests.truncate(kept + 1);
        }
        at.epoch = epoch;
        self.latest = Some(epoch);
        match history.and_then(|history| self.histories.insert(epoch, history)) {
            None => Ok(()),
            Some(_) => Err(Law::OneHistory.broken(format!("epoch {epoch} begins twice"))),
        }
    }

    fn given(&mut self, wave: &Bytes) -> Result<(), Broken> {
        let Some((at, rock)) = &mut self.head else { return Err(Law::Storage.broken("a wave of nothing")) };
        at.aeon = at.aeon.next();
        let Some(history) = self.histories.get_mut(&at.epoch) else {
            return Err(Law::OneHistory.broken(format!("epoch {} never began", at.epoch)));
        };
        if history.head().next() != at.aeon {
            return Err(Law::OneHistory.broken(format!("{at} is published twice")));
        }
        Ledger::wash(rock, &decode(wave)?).map_err(|error| Law::Storage.broken(error))?;
        history.waves.push(wave.clone());
        history.digests.push(lake::digest(rock)?);
        Ok(())
    }

    /// The publisher's disk holds these rows now, from a backup.
    pub(crate) fn restored(&mut self, rows: &Rows) -> Result<(), Broken> {
        let Some(at) = rows.cursor() else { return Err(Law::Storage.broken("an empty backup")) };
        self.head = Some((at, rows.fold()?));
        Ok(())
    }

    /// The publisher hands a message to the network, and its disk holds these rows.
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
