//! From our storage to the docs engine: feeding it what is durable, and watching over its health. Nothing gets into it
//! another way.
//!
//! A feeder is a reader of a document's logs, like a session: it goes on from a mark that is stored
//! when the engine has flushed. Entries that were replaced meanwhile are in no log any more, so the
//! document is given the newest of each key only.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use groundswell_core::kv::KvAuthor;
use tracing::{Instrument, info_span, warn};

use super::{
    Kv,
    docs::{Docs, EngineError},
    document::{Document, Identity},
    storage::{Mark, Row},
};
use crate::{
    limits::{KV_FEED_LATEST, KV_FEED_PAUSE},
    link::jittered,
};

/// How often the engine's health is looked at.
const HEALTH_PERIOD: Duration = Duration::from_secs(30);

/// How soon after a failure the engine is rebuilt, at the earliest.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// How many entries are inserted before the engine is told to flush.
const FLUSH_ENTRIES: usize = 1_024;

/// Begins to watch over the engine.
pub(crate) fn spawn(kv: &Arc<Kv>) {
    let guard = kv.clone();
    kv.tasks.spawn(async move {
        tokio::select! {
            () = watch_over(&guard) => {}
            () = guard.closing.cancelled() => {}
        }
    });
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
        kv.engine_complaints.fails(&"it does not answer, and is rebuilt");
        if let Err(error) = kv.engine.rebuild().await {
            kv.engine_complaints.fails(&error);
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
            kv.engine_complaints.fails(&error);
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
    let mut fed = if fresh { [0; 2] } else { kv.storage.fed(identity.number).map_err(storage)? };
    let mut heads = document.heads.subscribe();
    loop {
        heads.mark_unchanged();
        for author in KvAuthor::BOTH {
            // Read again at each step: a document that is renewed has lower heads than before, and a loop up to an older
            // head would never end.
            while fed[author.index()] < document.heads.borrow()[author.index()] {
                fed[author.index()] = feed_some(kv, document, identity, author, fed[author.index()]).await?;
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
    let until = document.heads.borrow()[author.index()];
    let (storage, number) = (kv.storage.clone(), identity.number);
    let read = tokio::task::spawn_blocking(move || storage.entries_after(number, author, after, until)).await;
    let entries = read.map_err(|error| EngineError::of(&error))?.map_err(|error| EngineError::of(&error))?;
    let mut upto = until;
    if let (Some(signer), Some(last)) = (identity.author(author), entries.last()) {
        upto = last.counter;
        for chunk in entries.chunks(FLUSH_ENTRIES) {
            for entry in chunk {
                let (id, entry) = (identity.namespace, entry.to_entry(identity.namespace, signer));
                kv.engine.insert(id, &entry, kv.shared.id).await?;
            }
        }
    }
    kv.engine.flush().await?;
    kv.engine_complaints.works();
    let row = Row::Mark { number, author, mark: Mark::Fed, counter: upto };
    kv.keeper.rows(vec![row]).await.map_err(|error| EngineError::of(&error))?;
    Ok(upto)
}
