//! One batch of commands: staged one by one, made durable together, then shown and answered.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Cursor, Digest, Epoch, Name, Path, Rule,
    tide::{RockInfo, Tide},
};
use iroh::EndpointAddr;
use tokio::sync::oneshot;

use super::{
    Declared, Driver, Durability, Unknown,
    entry::{Entry, RockRefused, Staged},
    once,
};
use crate::{
    cell::{Body, TideCell},
    disk::states::META_FOLLOWERS,
    error::{GiveError, StorageError, WriteError},
    fold::WashError,
    ids::{self, Done, IdError, Ids, WriteId},
    limits::{MAX_REMEMBERED_PEERS, MAX_WRITE_IDS},
    metrics::Metrics,
    source::Source,
    store::{Fail, TideKey, TideRow, Write},
};

/// An answer that waits for the transaction.
type Answer = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

#[derive(Default)]
pub(crate) struct Batch {
    pub(super) staged: HashMap<TideKey, Staged>,
    answers: Vec<Answer>,
    pub(super) peers: Vec<EndpointAddr>,
    /// Agents whose handlers failed on the state of a source, or no longer do.
    pub(super) fails: Vec<(Name, Source, Option<Fail>)>,
    /// The ids of what is given once, by agent, and by whether the publication is in memory.
    ids: HashMap<(Name, Durability), BTreeMap<WriteId, Done<Aeon>>>,
    given: u64,
    pub(super) applied: u64,
}

impl Batch {
    /// Answers when the transaction is over.
    pub(super) fn answer(&mut self, answer: impl FnOnce(Result<(), WriteError>) + Send + 'static) {
        self.answers.push(Box::new(answer));
    }

    /// Whether a give with this id is in it.
    pub(super) fn has(&self, agent: &Name, id: &WriteId) -> bool {
        self.windows(agent).any(|ids| ids.contains_key(id))
    }

    fn windows(&self, agent: &Name) -> impl Iterator<Item = &BTreeMap<WriteId, Done<Aeon>>> {
        once::BOTH.into_iter().filter_map(|durability| self.ids.get(&(agent.clone(), durability)))
    }

    /// Where a give with this id leads to, if it is in it.
    fn look(&self, agent: &Name, id: &WriteId, digest: Digest) -> Result<Option<Aeon>, IdError> {
        let staged = self.windows(agent).find(|ids| ids.contains_key(id));
        ids::look(None, staged, id, || digest)
    }

    fn answer_given(&mut self, aeon: Aeon, reply: oneshot::Sender<Result<Aeon, GiveError>>) {
        self.answer(move |result| {
            let _ = reply.send(result.map(|()| aeon).map_err(|error| match error {
                WriteError::Unknown(outcome) => GiveError::Unknown { aeon: Some(aeon), outcome },
                error => error.into(),
            }));
        });
    }
}

/// The number of the next meeting with a peer: higher than those of all that are remembered. Earlier releases stored
/// seconds since 1970, from which the numbers go on.
fn next_meeting<'a>(meetings: impl Iterator<Item = &'a u64>) -> u64 {
    meetings.max().map_or(0, |last| last.saturating_add(1))
}

impl Driver {
    /// Stages waves of an agent's own that were not given before; the first ones begin the publication.
    pub(super) async fn stage_give(
        &mut self,
        batch: &mut Batch,
        declared: &Declared,
        path: Path,
        waves: Vec<Bytes>,
        id: Option<WriteId>,
        reply: oneshot::Sender<Result<Aeon, GiveError>>,
    ) {
        let id = id.map(|id| (id, once::digest(&path, &waves)));
        if let Some((id, digest)) = &id {
            match batch.look(&declared.agent, id, *digest) {
                Ok(None) => {}
                // It is in this batch, whose outcome is its own.
                Ok(Some(aeon)) => return batch.answer_given(aeon, reply),
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                    return;
                }
            }
        }
        let key = TideKey::Publication { agent: declared.agent.clone(), path: path.clone() };
        if !self.entries.contains_key(&key) {
            let backing = self.new_backing(declared.durability);
            let (epoch, begins_at, rule) = match self.tombstone_of(&key) {
                Some(tombstone) => (tombstone.at.epoch, tombstone.reopened_at().aeon, tombstone.rule),
                None => (Epoch(rand::random()), Aeon::ZERO, Rule::default()),
            };
            let row = TideRow { key: key.clone(), lake: declared.lake.clone(), epoch, rule };
            let entry = Entry::new(self.catalog.cell(&key), (declared.new_fold)(), row, backing);
            self.entries.insert(key.clone(), Entry { begins_at, ..entry });
        }
        let Some(entry) = self.entries.get_mut(&key) else { return };
        if entry.row.lake != declared.lake {
            let stored = entry.row.lake.clone();
            let _ = reply.send(Err(GiveError::LakeVersion { path, stored, declared: declared.lake.clone() }));
            return;
        }
        let staged = match stage(entry, &mut batch.staged, &self.metrics).await {
            Ok(staged) => staged,
            Err(error) => {
                let _ = reply.send(Err(error.into()));
                if !self.entries.get(&key).is_some_and(|entry| entry.cell.has_state()) {
                    self.entries.remove(&key);
                }
                return;
            }
        };
        match give(entry, staged, &waves, &self.metrics) {
            Ok(aeon) => {
                batch.given += waves.len() as u64;
                if let Some((id, digest)) = id {
                    let durability =
                        if entry.backing.disk_id().is_some() { Durability::Disk } else { Durability::Memory };
                    let staged = batch.ids.entry((declared.agent.clone(), durability)).or_default();
                    staged.insert(id, Done { digest, result: aeon });
                }
                batch.answer_given(aeon, reply);
            }
            Err(error) => {
                self.metrics.waves_refused.add(1);
                let _ = reply.send(Err(error));
            }
        }
    }

    /// Stages a new epoch of a publication that a reader has overtaken, once a run: a peer that
    /// lies about its cursor can make everyone fetch one rock, not more.
    pub(super) async fn stage_epoch(&mut self, batch: &mut Batch, cell: &Arc<TideCell>, ahead: Cursor) {
        let Some(entry) = self.entries.get_mut(cell.key()).filter(|entry| Arc::ptr_eq(&entry.cell, cell)) else {
            return;
        };
        let overtaken = entry.cell.cursor().is_some_and(|at| at.epoch == ahead.epoch && at.aeon < ahead.aeon);
        if !overtaken || std::mem::replace(&mut entry.epoch_renewed, true) {
            return;
        }
        tracing::warn!(path = %cell.key(), "readers have seen aeons that this publication lost: it begins a new epoch");
        let Ok(staged) = stage(entry, &mut batch.staged, &self.metrics).await else { return };
        entry.row.epoch = Epoch(rand::random());
        staged.changes.renew_epoch(entry.row.epoch);
        staged.kept = true;
    }

    /// Makes a batch durable, shows it, and answers.
    pub(super) async fn finish(&mut self, mut batch: Batch) -> Result<(), WriteError> {
        if batch.staged.is_empty() && batch.peers.is_empty() && batch.fails.is_empty() && batch.answers.is_empty() {
            return Ok(());
        }
        let begun_for_nothing = batch.staged.extract_if(|_, staged| !staged.kept).collect();
        self.take_back(begun_for_nothing).await;
        for (key, staged) in &mut batch.staged {
            if let Some(entry) = self.entries.get(key) {
                entry.with_tide(staged, |tide, staged| staged.changes.prune(tide));
            }
        }
        for (key, staged) in &batch.staged {
            if let Some(entry) = self.entries.get(key).filter(|_| staged.changes.reset().is_some()) {
                entry.cell.set_replacing(true);
            }
        }
        let loaded = self.load_broken(&batch).map_err(WriteError::from);
        let result = loaded.and_then(|()| self.write(&batch));
        let answers = std::mem::take(&mut batch.answers);
        let tell = |answers: Vec<Answer>| answers.into_iter().for_each(|answer| answer(result.clone()));
        match &result {
            Ok(()) => self.done(batch),
            Err(WriteError::Unknown(_)) => {
                // They need not wait for what comes of it.
                tell(answers);
                // Why that fails has been said.
                let _ = self.write_again(Box::new(batch));
                return result;
            }
            Err(_) => self.take_back(batch.staged).await,
        }
        tell(answers);
        result
    }

    /// Everything of a batch is durable: shows it.
    fn done(&mut self, batch: Batch) {
        // Counted before anyone is woken, so that who has seen a wave finds it counted.
        self.metrics.waves_given.add(batch.given);
        self.metrics.waves_applied.add(batch.applied);
        for (window, new) in batch.ids {
            self.ids.entry(window).or_insert_with(|| Ids::new(MAX_WRITE_IDS)).remember(new);
        }
        self.show(batch.staged);
        for (agent, source, fail) in batch.fails {
            self.catalog.set_fail(&agent, &source, fail);
        }
    }

    /// Writes a batch whose outcome is unknown once more. Its rocks are held. If that fails too, they are shown as
    /// they were before it, as far as they can be read, until the batch is durable.
    fn write_again(&mut self, batch: Box<Batch>) -> Result<(), WriteError> {
        let result = self.write(&batch);
        if result.is_ok() {
            self.done(*batch);
            return result;
        }
        // Of a replica another rock is shown than the one that is held.
        for key in batch.staged.keys().filter(|key| matches!(key, TideKey::Publication { .. })) {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            entry.broken = entry.load_committed().is_err();
            entry.fold.close(entry.cell.cursor().filter(|_| !entry.broken));
        }
        self.is_unknown(Unknown::Batch(batch));
        result
    }

    /// The same later: the rocks become those of the batch again.
    pub(super) async fn repeat_batch(&mut self, batch: Box<Batch>) -> Result<(), WriteError> {
        let publications = |key: &TideKey| matches!(key, TideKey::Publication { .. });
        for (key, staged) in batch.staged.iter().filter(|(key, _)| publications(key)) {
            let Some(entry) = self.entries.get_mut(key) else { continue };
            entry.fold.open(&self.metrics).await;
            entry.broken = true;
            if entry.load_staged(staged).is_ok() {
                entry.broken = false;
            }
        }
        match self.load_broken(&batch) {
            Ok(()) => self.write_again(batch),
            Err(error) => {
                for key in batch.staged.keys().filter(|key| publications(key)) {
                    let Some(entry) = self.entries.get_mut(key) else { continue };
                    entry.broken = true;
                    entry.fold.close(None);
                }
                self.is_unknown(Unknown::Batch(batch));
                Err(error.into())
            }
        }
    }

    /// Loads rocks again that a refusal has left broken, before anyone could see them.
    fn load_broken(&mut self, batch: &Batch) -> Result<(), StorageError> {
        for (key, staged) in &batch.staged {
            if let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.broken) {
                entry.load_staged(staged).map_err(StorageError::new)?;
                entry.broken = false;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), WriteError> {
        // In the order in which they were met, whatever a clock shows.
        let seen = next_meeting(self.peers.values());
        let mut writes: Vec<Write<'_>> = batch.peers.iter().map(|addr| Write::Peer { addr, seen }).collect();
        let fails = batch.fails.iter();
        writes.extend(fails.map(|(agent, source, fail)| Write::Fail { agent, source, fail: fail.as_ref() }));
        self.peers.extend(batch.peers.iter().map(|addr| (addr.id, seen)));
        while self.peers.len() > MAX_REMEMBERED_PEERS {
            let Some((&peer, _)) = self.peers.iter().min_by_key(|(_, seen)| **seen) else { break };
            self.peers.remove(&peer);
            writes.push(Write::ForgetPeer { peer });
        }
        for (key, staged) in &batch.staged {
            let Some(entry) = self.entries.get(key) else { continue };
            if staged.begun.is_some() {
                if let TideKey::Publication { agent, path } = key
                    && self.default_access != Access::Public
                    && !self.access.contains_key(&(agent.clone(), path.clone()))
                {
                    // Said with its first wave, so that a later default does not change it.
                    writes.push(Write::Access { agent, path, access: &self.default_access });
                }
                if self.tombstones.contains_key(key) {
                    writes.push(Write::NoTombstone { key });
                }
            }
            let Some(id) = entry.backing.disk_id() else { continue };
            let changes = &staged.changes;
            if changes.reset().is_some() || changes.rule().is_some() || changes.new_epoch().is_some() {
                writes.push(Write::Tide { id, row: &entry.row });
            }
            if !staged.changes.is_empty() {
                writes.push(Write::Changes {
                    id,
                    changes: &staged.changes,
                    rocks: &staged.rocks,
                    ahead: &staged.ahead,
                });
            }
        }
        let stored = || batch.ids.iter().filter(|((_, durability), _)| *durability == Durability::Disk);
        let forgotten: Vec<(&Name, WriteId)> = stored()
            .flat_map(|(window, new)| {
                let forgotten = self.ids.get(window).map(|ids| ids.forgotten_by(new)).unwrap_or_default();
                forgotten.into_iter().map(move |id| (&window.0, id))
            })
            .collect();
        for ((agent, _), new) in stored() {
            writes.extend(new.iter().map(|(id, done)| Write::Id { agent, id, done }));
        }
        writes.extend(forgotten.iter().map(|(agent, id)| Write::ForgetId { agent, id }));
        if writes.is_empty() {
            return Ok(());
        }
        let followers = self.followers.due(false);
        if let Some(value) = &followers {
            writes.push(Write::Meta { key: META_FOLLOWERS, value });
        }
        self.store.write(&writes)
    }

    fn show(&mut self, staged: HashMap<TideKey, Staged>) {
        for (key, staged) in staged {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.backing.keep_in_memory(&staged.changes, &staged.rocks);
            let at = Cursor { epoch: entry.row.epoch, aeon: staged.changes.head() };
            match staged.begun {
                Some(mut tide) => {
                    tide.commit(staged.changes);
                    let (lake, backing) = (entry.row.lake.clone(), entry.backing.clone());
                    let access = match &key {
                        TideKey::Publication { agent, path } => {
                            self.tombstones.remove(&key);
                            let own = (agent.clone(), path.clone());
                            if self.default_access != Access::Public && !self.access.contains_key(&own) {
                                self.access.insert(own.clone(), self.default_access.clone());
                            }
                            self.access.get(&own).cloned().unwrap_or_default()
                        }
                        TideKey::Replica(_) => Access::secret(),
                    };
                    // Nobody can have this rock before the cell has it.
                    entry.fold.close(Some(at));
                    entry.cell.begin(Body { lake, tide, backing, rock: entry.fold.slot(), access });
                    entry.cell.set_replacing(false);
                }
                None => {
                    let fold = &mut entry.fold;
                    entry.cell.commit(staged.changes, || fold.close(Some(at)));
                }
            }
            entry.cell.wake();
        }
    }

    /// Nothing came of these changes: every rock goes back to what is durable.
    pub(super) async fn take_back(&mut self, staged: HashMap<TideKey, Staged>) {
        for (key, _) in staged {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            if matches!(key, TideKey::Replica(_)) {
                entry.cell.set_replacing(false);
                entry.give_up();
                continue;
            }
            if let Some(at) = entry.cell.cursor().filter(|at| at.epoch != entry.row.epoch) {
                entry.row.epoch = at.epoch;
                entry.epoch_renewed = false;
            }
            if let Some(rule) = entry.cell.with_tide(Tide::rule) {
                entry.row.rule = rule;
            }
            entry.cell.set_replacing(false);
            let loaded = entry.load_committed();
            entry.broken = loaded.is_err();
            if let Err(error) = loaded {
                tracing::error!(path = %key, %error, "the rock cannot be loaded again yet");
            }
            // A rock that could not be loaded stands nowhere, and is not shown.
            entry.fold.close(entry.cell.cursor().filter(|_| !entry.broken));
            if !entry.cell.has_state() && matches!(key, TideKey::Publication { .. }) {
                self.entries.remove(&key);
            }
        }
    }
}

/// The changes of this batch to a tide, begun if there are none yet. The rock is held from here on.
pub(super) async fn stage<'a>(
    entry: &mut Entry,
    all: &'a mut HashMap<TideKey, Staged>,
    metrics: &Metrics,
) -> Result<&'a mut Staged, StorageError> {
    use std::collections::hash_map::Entry as Slot;
    match all.entry(entry.row.key.clone()) {
        Slot::Occupied(staged) => {
            let staged = staged.into_mut();
            if entry.broken {
                entry.load_staged(staged).map_err(StorageError::new)?;
                entry.broken = false;
            }
            Ok(staged)
        }
        Slot::Vacant(slot) => {
            entry.broken |= !entry.fold.open(metrics).await;
            if entry.broken {
                let loaded = entry.load_committed();
                if let Err(error) = loaded {
                    entry.fold.close(None);
                    return Err(StorageError::new(error));
                }
                entry.broken = false;
            }
            let staged = match entry.cell.with_tide(Tide::stage) {
                Some(changes) => Staged { begun: None, kept: true, changes, rocks: Vec::new(), ahead: Vec::new() },
                None => begin(entry, metrics).inspect_err(|_| entry.fold.close(None))?,
            };
            Ok(slot.insert(staged))
        }
    }
}

/// A tide that does not exist yet begins with the default rock: at aeon 0, or after its tombstone.
/// A replica's first intake replaces that at once.
pub(super) fn begin(entry: &mut Entry, metrics: &Metrics) -> Result<Staged, StorageError> {
    entry.fold.load(None).map_err(StorageError::new)?;
    let rock = entry.fold.encode(metrics).map_err(StorageError::new)?;
    let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(&rock) };
    let at = Cursor { epoch: entry.row.epoch, aeon: entry.begins_at };
    let tide = Tide::begin(at, entry.row.rule, info);
    let mut staged =
        Staged { changes: tide.stage(), begun: Some(tide), kept: false, rocks: Vec::new(), ahead: Vec::new() };
    begin_anew(&mut staged, at, rock);
    Ok(staged)
}

pub(super) fn begin_anew(staged: &mut Staged, at: Cursor, rock: Vec<u8>) {
    let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(&rock) };
    staged.changes.begin_anew(at, info);
    staged.rocks = vec![(at.aeon, rock.into())];
}

/// Washes and stages waves, all or none.
fn give(entry: &mut Entry, staged: &mut Staged, waves: &[Bytes], metrics: &Metrics) -> Result<Aeon, GiveError> {
    let mark = staged.changes.mark();
    let rocks = staged.rocks.len();
    // A copy of what a hostile source had published can be there.
    if staged.changes.head().0.saturating_add(waves.len() as u64) > Aeon::LAST.0 {
        return Err(GiveError::LastAeon(entry.row.key.path().clone()));
    }
    for (index, wave) in waves.iter().enumerate() {
        let (refused, touched) = match entry.fold.wash(wave) {
            Ok(()) => {
                staged.changes.push_wave(wave.clone());
                match staged.make_rock(entry, metrics) {
                    Ok(()) => continue,
                    Err(RockRefused::TooLarge(bytes)) => (GiveError::RockTooLarge { bytes }, true),
                    Err(RockRefused::Encode(reason)) => (GiveError::Refused { index, reason }, true),
                }
            }
            Err(WashError::Decode(error)) => (GiveError::RoundTrip { index, error }, index > 0),
            Err(WashError::Refused(reason)) => (GiveError::Refused { index, reason }, index > 0),
            Err(WashError::Panicked(message)) => (GiveError::Panicked { index, message }, true),
        };
        staged.changes.roll_back(mark);
        staged.rocks.truncate(rocks);
        if touched {
            entry.broken = entry.load_staged(staged).is_err();
        }
        return Err(refused);
    }
    staged.kept = true;
    Ok(staged.changes.head())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_met_now_is_forgotten_last_whatever_clock_the_others_were_met_by() {
        let mut meetings = vec![3, 1_795_975_636, 7];
        for _ in 0..3 {
            let next = next_meeting(meetings.iter());
            assert!(meetings.iter().all(|before| *before < next));
            meetings.push(next);
        }
        assert_eq!(next_meeting([].iter()), 0);
    }
}
