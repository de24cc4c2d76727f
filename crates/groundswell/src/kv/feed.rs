//! Between our storage and the docs engine: feeding it what is durable, watching its live events for
//! what came to it another way, and its health.
//!
//! A feeder is a reader of a document's logs, like a session: it goes on from a mark that is stored
//! when the engine has flushed. Entries that were replaced meanwhile are in no log any more, so the
//! document is given the newest of each key only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use groundswell_core::kv::KvAuthor;
use iroh_docs::{AuthorId, Event, NamespaceId};
use tokio::sync::Notify;
use tracing::{Instrument, info_span, warn};

use super::{
    Kv,
    document::{Document, Identity},
    engine::EngineError,
    storage::{AUTHORS, Mark, Row, index},
};
use crate::{
    limits::{KV_FEED_LATEST, KV_FEED_PAUSE},
    peers::jittered,
    sync::lock,
};

/// How many live events may wait to be drained. The one docs thread waits beyond it, so that the
/// task that drains does nothing else.
pub(crate) const EVENT_QUEUE: usize = 1_024;

/// How often the engine's health is looked at.
const HEALTH_PERIOD: Duration = Duration::from_secs(30);

/// How soon after a failure the engine is rebuilt, at the earliest.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// How many entries are inserted before the engine is told to flush.
const FLUSH_ENTRIES: usize = 1_024;

/// An author's entry of a document key, in a document.
type Place = (NamespaceId, AuthorId, [u8; 32]);

/// The keys of documents whose entries came by reconciliation. It is bounded by the keys that
/// documents may have: a key is in it once.
#[derive(Default)]
struct Dirty {
    keys: Mutex<HashMap<Place, u64>>,
    changed: Notify,
}

/// Begins to drain live events, to look at what they brought, and to watch over the engine.
pub(crate) fn spawn(kv: &Arc<Kv>, events: async_channel::Receiver<Event>) {
    let dirty = Arc::<Dirty>::default();
    let (drained, closed, me) = (dirty.clone(), kv.closed.clone(), *kv.shared.id.as_bytes());
    kv.tasks.spawn(async move {
        tokio::select! {
            () = drain(&events, &drained, me) => {}
            () = closed.cancelled() => {}
        }
    });
    let resolver = kv.clone();
    kv.tasks.spawn(async move {
        tokio::select! {
            () = resolve(&resolver, &dirty) => {}
            () = resolver.closing.cancelled() => {}
        }
    });
    let guard = kv.clone();
    kv.tasks.spawn(async move {
        tokio::select! {
            () = watch_over(&guard) => {}
            () = guard.closing.cancelled() => {}
        }
    });
}

/// Takes events as they come, and calls nothing: the docs thread awaits this task.
async fn drain(events: &async_channel::Receiver<Event>, dirty: &Dirty, me: [u8; 32]) {
    while let Ok(event) = events.recv().await {
        let Event::RemoteInsert { namespace, entry, from, .. } = event else { continue };
        // What this node has inserted itself came from its storage.
        if from == me {
            continue;
        }
        let Ok(key) = <[u8; 32]>::try_from(entry.key()) else { continue };
        lock(&dirty.keys).insert((namespace, entry.author_bytes(), key), entry.timestamp());
        dirty.changed.notify_one();
    }
}

/// Looks at the keys that reconciliation has touched: what is not in storage is asked for.
async fn resolve(kv: &Arc<Kv>, dirty: &Dirty) {
    loop {
        dirty.changed.notified().await;
        let keys = std::mem::take(&mut *lock(&dirty.keys));
        note_missing(kv, keys).await;
    }
}

/// Notes what of this is not in storage, and has it asked for.
async fn note_missing(kv: &Arc<Kv>, keys: HashMap<Place, u64>) {
    let looker = kv.clone();
    // Reading storage may wait for the disk.
    let looked = tokio::task::spawn_blocking(move || look_at(&looker, keys)).await;
    let Ok((rows, documents)) = looked else { return };
    if rows.is_empty() {
        return;
    }
    if let Err(error) = kv.keeper.rows(rows).await {
        warn!(%error, "missing values are not noted; they are found again when the document is opened next");
    }
    documents.iter().for_each(|document| document.missing.notify_one());
}

/// What of this is not in storage, and whose it is.
fn look_at(kv: &Kv, keys: HashMap<Place, u64>) -> (Vec<Row>, Vec<Arc<Document>>) {
    let (mut wanted, mut places) = (Vec::new(), Vec::new());
    for ((namespace, author, key), counter) in keys {
        let Some(document) = kv.of_namespace(namespace) else { continue };
        let identity = document.identity();
        let author = AUTHORS.into_iter().find(|one| identity.author(*one) == Some(author));
        let Some(author) = author else { continue };
        places.push((identity.number, author, key));
        wanted.push((document, counter));
    }
    let held = kv.storage.held(&places).unwrap_or_else(|error| {
        warn!(%error, "what was reconciled cannot be looked at, and is asked for as if it were missing");
        vec![None; places.len()]
    });
    let (mut rows, mut documents) = (Vec::new(), Vec::new());
    for (((number, author, key), (document, counter)), held) in places.into_iter().zip(wanted).zip(held) {
        if held.is_none_or(|held| held < counter) {
            rows.push(Row::Missing { number, author, key, counter });
            documents.push(document);
        }
    }
    (rows, documents)
}

/// Looks at the engine now and then, and at once when it has failed somebody; rebuilds it if it is dead.
async fn watch_over(kv: &Arc<Kv>) {
    let mut pause = REBUILD_PAUSE;
    loop {
        tokio::select! {
            () = kv.engine_failed.notified() => {}
            () = tokio::time::sleep(jittered(HEALTH_PERIOD)) => {}
        }
        // A document that the engine has failed is closed, so that the engine itself is asked too.
        let mut healthy = kv.engine.answers().await;
        for document in kv.documents() {
            let identity = document.identity();
            if document.is_open_in_engine() && !kv.engine.is_healthy(identity.namespace).await {
                // Unless it was released in this moment.
                healthy = healthy && identity.replaced.is_cancelled();
            }
        }
        if healthy {
            pause = REBUILD_PAUSE;
            continue;
        }
        warn!("the docs engine does not answer and is rebuilt; nothing that was acknowledged depends on it");
        if let Err(error) = kv.engine.rebuild().await {
            warn!(%error, "the docs engine cannot be rebuilt yet");
            kv.engine_failed.notify_one();
        }
        kv.engine_runs.send_modify(|runs| *runs += 1);
        tokio::time::sleep(jittered(pause)).await;
        pause = (2 * pause).min(HEALTH_PERIOD);
    }
}

/// Begins to feed a document's entries to the engine.
pub(crate) fn spawn_feeder(kv: &Arc<Kv>, document: &Arc<Document>) {
    let (kv, document) = (kv.clone(), document.clone());
    let span = info_span!("feed", document = document.identity().number);
    kv.clone().tasks.spawn(
        async move {
            tokio::select! {
                () = feed(&kv, &document) => {}
                () = kv.closing.cancelled() => {}
            }
        }
        .instrument(span),
    );
}

async fn feed(kv: &Arc<Kv>, document: &Arc<Document>) {
    let mut runs = kv.engine_runs.subscribe();
    while document.ended().is_none() {
        let identity = document.identity();
        runs.borrow_and_update();
        let ended = tokio::select! {
            ended = feed_identity(kv, document, &identity) => ended,
            _ = runs.changed() => Ok(()),
            () = identity.replaced.cancelled() => {
                // Where the document was only paired, it goes on under the same id.
                if document.identity().namespace != identity.namespace {
                    document.set_open_in_engine(false);
                    if let Err(error) = kv.engine.drop_document(identity.namespace).await {
                        warn!(%error, "a released document is not removed from the docs engine");
                    }
                }
                Ok(())
            }
        };
        if let Err(error) = ended {
            document.set_open_in_engine(false);
            warn!(%error, "the docs engine failed; the entries are safe in storage");
            kv.engine_failed.notify_one();
            tokio::time::sleep(jittered(REBUILD_PAUSE)).await;
        }
    }
}

/// Feeds one document until something fails.
async fn feed_identity(kv: &Arc<Kv>, document: &Arc<Document>, identity: &Identity) -> Result<(), EngineError> {
    let storage = |error: crate::StorageError| EngineError::of(&error);
    let fresh = kv.engine.open_document(&identity.secret).await?;
    document.set_open_in_engine(true);
    if !fresh {
        // What a reconciliation had brought when the process or the engine ended, nobody else knows of.
        let entries = kv.engine.entries(identity.namespace).await?;
        let keys = entries.into_iter().map(|(author, key, counter)| ((identity.namespace, author, key), counter));
        note_missing(kv, keys.collect()).await;
    }
    let mut fed = if fresh { [0; 2] } else { kv.storage.fed(identity.number).map_err(storage)? };
    let mut heads = document.heads.subscribe();
    loop {
        let now = *heads.borrow_and_update();
        for author in AUTHORS {
            while fed[index(author)] < now[index(author)] {
                fed[index(author)] = feed_some(kv, document, identity, author, fed[index(author)]).await?;
            }
        }
        document.fed.send_replace(fed);
        if heads.changed().await.is_err() {
            return Ok(());
        }
        // What is written meanwhile over the same keys need not be inserted, and who writes comes first.
        let first = Instant::now();
        loop {
            heads.mark_unchanged();
            tokio::time::sleep(KV_FEED_PAUSE).await;
            if first.elapsed() >= KV_FEED_LATEST || !heads.has_changed().unwrap_or(false) {
                break;
            }
        }
    }
}

/// Inserts some entries, makes them durable there, and stores up to where.
async fn feed_some(
    kv: &Arc<Kv>,
    document: &Document,
    identity: &Identity,
    author: KvAuthor,
    after: u64,
) -> Result<u64, EngineError> {
    let until = document.heads.borrow()[index(author)];
    let (storage, number) = (kv.storage.clone(), identity.number);
    let read = tokio::task::spawn_blocking(move || storage.entries_after(number, author, after)).await;
    let entries = read.map_err(|error| EngineError::of(&error))?.map_err(|error| EngineError::of(&error))?;
    let mut upto = until;
    if let (Some(signer), Some(last)) = (identity.author(author), entries.last()) {
        upto = last.counter;
        for chunk in entries.chunks(FLUSH_ENTRIES) {
            for entry in chunk {
                let signed = entry.to_entry(identity.namespace, signer).map_err(|error| EngineError::of(&error))?;
                kv.engine.insert(kv.shared.id, signed).await?;
            }
        }
    }
    kv.engine.flush().await?;
    let row = Row::Mark { number, author, mark: Mark::Fed, counter: upto };
    kv.keeper.rows(vec![row]).await.map_err(|error| EngineError::of(&error))?;
    Ok(upto)
}
