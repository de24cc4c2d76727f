//! Reconciliation: a check of both sides' documents against each other, soon after a connection begins and
//! now and then. Each message passes the [gate](super::super::gate) first. What the other side has and this one does not
//! is never put into the docs engine: it is noted as missing and asked for on our own stream, where it is checked like
//! everything else, and the engine is fed from storage.

use std::{collections::HashSet, sync::Arc};

use groundswell_core::{
    kv::{KvAuthor, KvView},
    limits::MAX_VIEW_KEYS,
    wire::{StreamKind, encode_frame_within},
};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::{
    sync::{OwnedMutexGuard, mpsc},
    time::timeout,
};
use tracing::debug;

use super::{End, Session, oversized};
use crate::{
    frames::{FrameReader, ReadFrameError},
    kv::{
        docs::{Docs, EngineError, Message},
        document::Document,
        gate::{Budget, Keys, Most, Offered, Violation, Walk},
        storage::{Row, Storage},
    },
    limits::{
        HELLO_TIMEOUT, KV_RECONCILE_AFTER, KV_RECONCILE_PAUSE, KV_RECONCILE_PERIOD, MAX_KV_MISSING,
        MAX_RECONCILE_BYTES, MAX_RECONCILE_TOTAL_BYTES, RECONCILE_PATIENCE,
    },
    link::jittered,
    network::CloseCode,
};

/// Why a reconciliation was not finished.
enum Unfinished {
    /// The other side did what the protocol does not allow.
    Violation(Violation),
    /// The stream or the connection broke.
    Lost,
    /// This node's own docs engine or storage failed.
    Here(EngineError),
}

impl From<Violation> for Unfinished {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<EngineError> for Unfinished {
    fn from(error: EngineError) -> Self {
        Self::Here(error)
    }
}

/// How many entries were sent and received in one reconciliation.
#[derive(Default)]
struct Moved {
    sent: usize,
    received: usize,
    /// Whether some were too large for one of the sides.
    too_large: bool,
    /// Those of this side that the other one was told of.
    offered: HashSet<[u8; 32]>,
    /// Neither side has left anything out of its messages.
    whole: bool,
    /// The first message said all: both sides have the same.
    alike: bool,
}

/// What was found out about the entries of a message.
struct Looked {
    /// The part of the message that the docs engine may see.
    message: Message,
    /// How many entries it had.
    received: usize,
    missing: Vec<Row>,
    /// Those of which this side may take none so large.
    too_large: Vec<Offered>,
    /// Whether it asked for more than this side gives at a time.
    narrowed: bool,
}

impl Session {
    /// The manager's side begins a reconciliation now and then; the machine's side answers.
    pub(super) async fn reconcile(
        self: Arc<Self>,
        connection: &Connection,
        mut begun_by_other: mpsc::Receiver<(SendStream, RecvStream)>,
    ) -> End {
        let begins = self.document.ours == KvAuthor::Manager;
        let mut wait = KV_RECONCILE_AFTER;
        loop {
            let begun = if begins {
                tokio::time::sleep(self.document.reconciles_in().max(jittered(wait))).await;
                if self.until_fed().await.is_none() {
                    return End::Lost;
                }
                None
            } else {
                // The session ends with the connection.
                let Some(streams) = begun_by_other.recv().await else { return std::future::pending().await };
                Some(streams)
            };
            let alone = self.document.reconciling.clone().lock_owned().await;
            let fed = self.document.fed.borrow()[self.document.ours.index()];
            // Before it begins: the other side may break off at any of its messages, and this is not gone on with then.
            let before = self.document.reconciles_later();
            let one = self.clone().reconcile_alone(alone, connection.clone(), begun);
            let Ok(result) = self.kv.tasks.spawn(one).await else { return End::Lost };
            if let Ok(Moved { whole: true, offered, .. }) = &result {
                self.document.offered(&self.identity, fed, offered);
            }
            if let Ok(moved) = &result {
                self.kv.shared.metrics.reconciliations.add(1);
                self.kv.shared.metrics.reconciliations_unlike.add(u64::from(!moved.alike));
            }
            match result {
                Ok(Moved { alike: true, .. }) => {
                    self.document.reconciled(before);
                    wait = KV_RECONCILE_PERIOD;
                }
                Ok(Moved { sent, received, too_large, .. }) => {
                    if !too_large {
                        self.document.nothing_too_large();
                    }
                    // One has a bound, so that there can be more to find.
                    debug!(sent, received, "a reconciliation has found differences");
                }
                Err(Unfinished::Violation(violation)) => {
                    self.document.reconciles_after(KV_RECONCILE_PERIOD);
                    return End::Violation(format!("it sent what a reconciliation does not allow: {violation}"));
                }
                Err(Unfinished::Lost) => {}
                Err(Unfinished::Here(error)) => {
                    debug!(%error, "a reconciliation failed");
                    self.kv.engine_failed.notify_one();
                    self.document.reconciles_after(KV_RECONCILE_PERIOD);
                }
            }
        }
    }

    /// Runs one reconciliation in a task of its own, which ends when all that it has begun has: the docs thread takes nothing back,
    /// also when the connection is gone. No other one of this document begins before, over whichever connection, nor within the
    /// pause after one that the other side has begun. A release and a shutdown end it at once.
    async fn reconcile_alone(
        self: Arc<Self>,
        alone: OwnedMutexGuard<()>,
        connection: Connection,
        begun_by_other: Option<(SendStream, RecvStream)>,
    ) -> Result<Moved, Unfinished> {
        let begins = begun_by_other.is_none();
        let beginning = async {
            match begun_by_other {
                Some(streams) => Some((None, streams)),
                None => {
                    // In the order in which they ask. It is never closed.
                    let turn = self.kv.reconciling.acquire().await.ok();
                    // The other side waits for the first message from the moment at which it hears of the stream. One that grants
                    // no stream has the turn for a few seconds.
                    Some((turn, timeout(HELLO_TIMEOUT, open(&connection)).await.ok().flatten()?))
                }
            }
        };
        let begun = tokio::select! {
            begun = beginning => begun,
            () = self.over.cancelled() => None,
        };
        let (turn, (mut send, recv)) = begun.ok_or(Unfinished::Lost)?;
        let result = tokio::select! {
            result = self.reconcile_once(&mut send, recv, begins) => result,
            // Nothing is said any more to a side that this one has parted from, and nothing waits for a shutdown.
            () = self.identity.replaced.cancelled() => Err(Unfinished::Lost),
            () = self.kv.closed.cancelled() => Err(Unfinished::Lost),
        };
        drop(turn);
        // Where it is not finished, the other side is not to take it for the end.
        let _ = if result.is_ok() { send.finish() } else { send.reset(CloseCode::Later.code()) };
        if !begins {
            let kv = self.kv.clone();
            self.kv.tasks.spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(KV_RECONCILE_PAUSE) => {}
                    () = kv.closed.cancelled() => {}
                }
                drop(alone);
            });
        }
        result
    }

    /// Waits for the other side, as long as the session lasts.
    async fn wait<T>(&self, budget: &mut Budget, io: impl Future<Output = T>) -> Result<T, Unfinished> {
        tokio::select! {
            result = budget.wait(io) => Ok(result?),
            () = self.over.cancelled() => Err(Unfinished::Lost),
        }
    }

    /// Waits until the docs document has what storage has now.
    async fn until_fed(&self) -> Option<()> {
        let (mut fed, [machine, manager]) = (self.document.fed.subscribe(), *self.document.heads.borrow());
        fed.wait_for(|fed| fed[0] >= machine && fed[1] >= manager).await.ok().map(|_| ())
    }

    /// Exchanges messages, a frame each, until one side has nothing more to say.
    async fn reconcile_once(&self, send: &mut SendStream, recv: RecvStream, begin: bool) -> Result<Moved, Unfinished> {
        let (engine, namespace) = (&self.kv.engine, self.identity.namespace);
        if !begin {
            // The other side waits meanwhile, for a limited time.
            let fed = timeout(RECONCILE_PATIENCE / 2, self.until_fed()).await;
            fed.ok().flatten().ok_or(Unfinished::Lost)?;
        }
        let mut reader = FrameReader::new(recv, MAX_RECONCILE_BYTES);
        // Each key can have an entry of either side.
        let entries = 2 * self.document.with_view(KvView::keys_used);
        let (mut moved, mut budget, mut left) = (Moved::default(), Budget::new(entries), MAX_RECONCILE_TOTAL_BYTES);
        let mut next = None;
        let (mut cut, mut bytes, mut rounds) = (false, 0, 0);
        if begin {
            next = Some(engine.first_message(namespace).await?);
        }
        loop {
            if let Some(mut message) = next.take() {
                // The other side takes no more either.
                cut |= message.cut(left.min(MAX_RECONCILE_BYTES)).map_err(EngineError::of_encoding)?;
                if message.is_empty() {
                    break;
                }
                let mut frame = Vec::new();
                encode_frame_within(MAX_RECONCILE_BYTES, &message, &mut frame).map_err(EngineError::of_encoding)?;
                left = left.saturating_sub(frame.len());
                moved.sent += message.value_count();
                for entry in message.offered(&self.identity)? {
                    if entry.author == self.document.ours {
                        moved.offered.insert(entry.key);
                    }
                    if entry.bytes > self.takes as u64 {
                        let (number, author, key) = (self.identity.number, entry.author, entry.key);
                        let storage = self.kv.storage.clone();
                        let read = tokio::task::spawn_blocking(move || storage.entry(number, author, key)).await;
                        let found = read.map_err(|error| EngineError::of(&error))?;
                        let found = found.map_err(|error| EngineError::of(&error))?;
                        moved.too_large |= found.is_some_and(|entry| self.is_too_large(&entry));
                    }
                }
                self.wait(&mut budget, send.write_all(&frame)).await?.map_err(|_| Unfinished::Lost)?;
            }
            let body = match self.wait(&mut budget, reader.next()).await? {
                Ok(body) => body,
                Err(ReadFrameError::Ended) => break,
                Err(ReadFrameError::Frame(_)) => return Err(Violation::MessageTooLong.into()),
                Err(ReadFrameError::Stream(_) | ReadFrameError::Cut) => return Err(Unfinished::Lost),
            };
            let most = budget.message(body.len())?;
            bytes += body.len();
            rounds += 1;
            let Looked { message, received, missing, too_large, narrowed } = self.look_at(body, most).await?;
            cut |= narrowed;
            moved.received += received;
            for entry in too_large {
                moved.too_large |= !self.takes(&entry);
            }
            if !missing.is_empty() {
                self.kv.keeper.rows(missing).await.map_err(|error| EngineError::of(&error))?;
                self.document.missing.notify_one();
            }
            let answer = engine.process(namespace, message, self.peer).await?;
            if answer.is_empty() {
                break;
            }
            next = Some(answer);
        }
        // A message that the other side has cut is about as long as one may be, or follows some that were.
        moved.whole = !cut && bytes < MAX_RECONCILE_BYTES / 2;
        moved.alike = moved.sent == 0 && moved.received == 0 && rounds == usize::from(!begin);
        Ok(moved)
    }

    /// Checks a message, and looks which of its entries are here. It may concern so many of those at most.
    async fn look_at(&self, body: Vec<u8>, concerned: Most) -> Result<Looked, Unfinished> {
        let (document, identity, storage) = (self.document.clone(), self.identity.clone(), self.kv.storage.clone());
        let most = oversized::most(self.kv.max_value_bytes);
        // It verifies signatures and reads storage, both of which take their time.
        let looking = tokio::task::spawn_blocking(move || {
            let mut message = Message::decode(&body, &identity)?;
            message.verify(&identity.keys)?;
            let offered = message.offered(&identity)?;
            let too_large: Vec<Offered> = offered.iter().filter(|entry| entry.bytes > most).copied().collect();
            let (held, missing) = compare(&storage, &document, identity.number, &offered, most)?;
            let walk = |Keys { author, from, below }, most| {
                Ok(match storage.keys(identity.number, author, from, below, most)? {
                    (_, Some(key)) => Walk::More(key),
                    (count, None) => Walk::End(count),
                })
            };
            let received = message.value_count();
            let narrowed = message.admit(&identity, &held, concerned, walk);
            let narrowed = narrowed.map_err(|error: crate::StorageError| EngineError::of(&error))?;
            Ok(Looked { message, received, missing, too_large, narrowed })
        });
        looking.await.map_err(|error| EngineError::of(&error))?
    }
}

async fn open(connection: &Connection) -> Option<(SendStream, RecvStream)> {
    let (mut send, recv) = connection.open_bi().await.ok()?;
    send.write_all(&[StreamKind::Reconciliation.byte()]).await.ok()?;
    Some((send, recv))
}

/// Which of these entries are in our storage, and what to note of the others.
fn compare(
    storage: &Storage,
    document: &Document,
    number: u64,
    offered: &[Offered],
    most: u64,
) -> Result<(Vec<bool>, Vec<Row>), Unfinished> {
    if offered.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let here = |error: crate::StorageError| EngineError::of(&error);
    let places: Vec<_> = offered.iter().map(|entry| (number, entry.author, entry.key)).collect();
    let counters = storage.held(&places).map_err(here)?;
    let noted = storage.missing_after(number, None, MAX_KV_MISSING).map_err(here)?;
    let held: Vec<bool> =
        offered.iter().zip(&counters).map(|(entry, held)| held.is_some_and(|held| held >= entry.counter)).collect();
    let unknown = counters.iter().filter(|held| held.is_none()).count();
    // Each key can have an entry of either side, so an honest side cannot come so far.
    if document.with_view(KvView::keys_used) + unknown > 2 * MAX_VIEW_KEYS {
        return Err(Violation::TooManyKeys { limit: MAX_VIEW_KEYS }.into());
    }
    let lacking = offered.iter().zip(&held).filter(|(entry, held)| !**held && entry.bytes <= most);
    let lacking = lacking.map(|(entry, _)| *entry);
    let missing: Vec<Row> = lacking
        .map(|Offered { author, key, counter, .. }| Row::Missing { number, author, key, counter })
        .take(MAX_KV_MISSING - noted.len())
        .collect();
    if missing.is_empty() && held.contains(&false) {
        debug!("more values are missing than are noted at a time; the rest is found by a later reconciliation");
    }
    Ok((held, missing))
}
