//! The publisher's side on the wire: one task for each subscription of a remote peer.
//!
//! The task is a cursor: it asks the cell what comes next, writes that, and waits for room on
//! the stream or for news. A peer that does not read blocks this task at its flow control, and
//! costs one batch of waves or one chunk of a rock, whatever is given meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use groundswell_core::{
    Aeon, Digest,
    encoding::decode,
    limits::MAX_REQUEST_BYTES,
    publisher::{Outflow, Step},
    wire::{Message, Refusal, Surf, encode_frame},
};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::time::timeout;
use tracing::{Instrument, debug, info_span, warn};

use crate::{
    cell::{RemoteNext, TideCell, stored_chunk, stored_waves},
    driver::Command,
    error::StorageError,
    frames::FrameReader,
    limits::{HELLO_TIMEOUT, MAX_PARKED_OF_PEER, MAX_SUBSCRIPTIONS_OF_PEER},
    network::CloseCode,
    peers::{Counted, Peer, remember},
    shared::Shared,
    store::{Backing, TideKey},
};

/// Why a subscription is no longer served.
enum Stop {
    /// The peer is gone, or quit.
    Gone,
    /// It is refused, in words.
    Refused(Refusal),
    /// The node shuts down.
    ShutDown,
}

/// A stream that can't be written to any more: the peer has let go of it.
impl From<iroh::endpoint::WriteError> for Stop {
    fn from(_: iroh::endpoint::WriteError) -> Self {
        Self::Gone
    }
}

pub(crate) fn spawn(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    connection: &Connection,
    send: SendStream,
    recv: RecvStream,
) {
    let (task, peer, connection) = (shared.clone(), peer.clone(), connection.clone());
    shared.tasks.spawn(async move {
        tokio::select! {
            () = serve(&task, &peer, &connection, send, recv) => {}
            () = task.closed.cancelled() => {}
        }
    });
}

async fn serve(shared: &Shared, peer: &Arc<Peer>, connection: &Connection, send: SendStream, recv: RecvStream) {
    let mut reader = FrameReader::new(recv, MAX_REQUEST_BYTES);
    let mut writer = Writer { stream: send, shared, buffer: Vec::new(), lost_rock: None };
    let surf = match timeout(HELLO_TIMEOUT, reader.next()).await {
        Ok(Ok(body)) => decode::<Surf>(&body),
        _ => {
            shared.metrics.violations.add(1);
            let _ = writer.refuse(Refusal::Malformed).await;
            return;
        }
    };
    let Ok(surf) = surf else {
        warn!(peer = %peer.id.fmt_short(), "a request that is none; the connection is closed");
        shared.metrics.violations.add(1);
        let _ = writer.refuse(Refusal::Malformed).await;
        let _ = timeout(HELLO_TIMEOUT, writer.stream.stopped()).await;
        connection.close(CloseCode::Violation.code(), CloseCode::Violation.reason().as_bytes());
        return;
    };
    let span = info_span!("serve", peer = %peer.id.fmt_short(), agent = %surf.agent, path = %surf.path);
    let key = TideKey::Publication { agent: surf.agent.clone(), path: surf.path.clone() };
    let cell = shared.catalog.cell(&key);
    shared.metrics.remote_readers_now.add(1);
    let stop = flow(shared, peer, connection, &cell, surf, &mut reader, &mut writer).instrument(span.clone()).await;
    shared.catalog.release(cell);
    match stop {
        Stop::Gone => {}
        Stop::Refused(refusal) => {
            let _ = writer.refuse(refusal).await;
        }
        Stop::ShutDown => {
            let _ = writer.send(&Message::ShuttingDown).await;
            let _ = writer.stream.finish();
            // Until the peer has it: the connection is closed after the last reader is gone.
            let _ = writer.stream.stopped().await;
        }
    }
    shared.metrics.remote_readers_now.less(1);
    debug!(parent: &span, "ended");
}

async fn flow(
    shared: &Shared,
    peer: &Arc<Peer>,
    connection: &Connection,
    cell: &Arc<TideCell>,
    surf: Surf,
    reader: &mut FrameReader,
    writer: &mut Writer<'_>,
) -> Stop {
    let mut outflow = Outflow::new(surf.cursor);
    let mut changes = cell.watch();
    let mut place = Place::None;
    loop {
        changes.borrow_and_update();
        let next = cell.remote_next(&outflow, &surf.lake, &peer.id);
        let why = match next {
            RemoteNext::Step { step, recent, digests, backing } => {
                match place.serve(peer) {
                    Ok(true) => remember(shared, peer, connection, false).await,
                    Ok(false) => {}
                    Err(refusal) => return Stop::Refused(refusal),
                }
                if step == Step::Wait {
                    match wait(shared, &mut changes, reader).await {
                        None => continue,
                        Some(stop) => return stop,
                    }
                }
                match writer.step(&mut outflow, step, (recent, digests), backing, cell).await {
                    Ok(()) => continue,
                    Err(stop) => return stop,
                }
            }
            RemoteNext::Nothing => None,
            RemoteNext::LakeDiffers(published) => Some(Refusal::LakeDiffers { published }),
        };
        match place.park(peer, &why) {
            // Said once, then nothing is sent until it can begin, from where the reader stands.
            Ok(true) => {
                let message = why.map_or(Message::NotAvailable, Message::Refused);
                if let Err(stop) = writer.send(&message).await {
                    return stop;
                }
                outflow = Outflow::new(outflow.cursor());
            }
            Ok(false) => {}
            Err(refusal) => return Stop::Refused(refusal),
        }
        shared.metrics.parked_readers_now.add(1);
        let waited = wait(shared, &mut changes, reader).await;
        shared.metrics.parked_readers_now.less(1);
        if let Some(stop) = waited {
            return stop;
        }
    }
}

/// Which of a peer's places a subscription takes.
enum Place {
    None,
    Served { _counted: Counted },
    Parked { _counted: Counted, why: Option<Refusal> },
}

impl Place {
    /// Takes a place among those that are served; true where this one had none.
    fn serve(&mut self, peer: &Arc<Peer>) -> Result<bool, Refusal> {
        if matches!(self, Self::Served { .. }) {
            return Ok(false);
        }
        let limit = MAX_SUBSCRIPTIONS_OF_PEER;
        let counted = Counted::within(peer, |peer| &peer.served, limit);
        let _counted = counted.ok_or(Refusal::TooManySubscriptions { limit })?;
        *self = Self::Served { _counted };
        Ok(true)
    }

    /// Takes a place among those that are parked; true where the reason is news to the peer.
    fn park(&mut self, peer: &Arc<Peer>, why: &Option<Refusal>) -> Result<bool, Refusal> {
        if let Self::Parked { why: told, .. } = self {
            let news = told != why;
            told.clone_from(why);
            return Ok(news);
        }
        let limit = MAX_PARKED_OF_PEER;
        let counted = Counted::within(peer, |peer| &peer.parked, limit);
        let _counted = counted.ok_or(Refusal::TooManyParked { limit })?;
        *self = Self::Parked { _counted, why: why.clone() };
        Ok(true)
    }
}

/// Waits for news; or says that there will be none.
async fn wait(
    shared: &Shared,
    changes: &mut tokio::sync::watch::Receiver<u64>,
    reader: &mut FrameReader,
) -> Option<Stop> {
    tokio::select! {
        // In this order: what is committed is sent before the goodbye.
        biased;
        changed = changes.changed() => changed.is_err().then_some(Stop::Gone),
        () = reader.ended() => Some(Stop::Gone),
        () = shared.parting.cancelled() => Some(Stop::ShutDown),
    }
}

/// Writes frames to one stream.
struct Writer<'a> {
    stream: SendStream,
    shared: &'a Shared,
    buffer: Vec<u8>,
    /// The rock that was gone when its chunk was to be read.
    lost_rock: Option<Aeon>,
}

impl Writer<'_> {
    async fn send(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        self.push(message)?;
        self.flush().await
    }

    fn push(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        encode_frame(message, &mut self.buffer).map_err(|error| {
            warn!(%error, "a message cannot be sent");
            Stop::Refused(Refusal::Storage)
        })
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        self.stream.write_all(&self.buffer).await?;
        self.shared.metrics.bytes_sent.add(self.buffer.len() as u64);
        self.buffer.clear();
        // What one burst needed is not kept for an idle stream.
        self.buffer.shrink_to(256);
        Ok(())
    }

    async fn refuse(&mut self, refusal: Refusal) -> Result<(), Stop> {
        self.shared.metrics.refusals.add(1);
        debug!(%refusal, "refused");
        self.buffer.clear();
        self.send(&Message::Refused(refusal)).await?;
        let _ = self.stream.finish();
        Ok(())
    }

    async fn step(
        &mut self,
        outflow: &mut Outflow,
        step: Step,
        (recent, digests): (Option<Vec<Bytes>>, Vec<(Aeon, Digest)>),
        backing: Backing,
        cell: &Arc<TideCell>,
    ) -> Result<(), Stop> {
        let metrics = &self.shared.metrics;
        match step {
            Step::Resume(cursor) => {
                metrics.resumes.add(1);
                self.push(&Message::Resumed(cursor))?;
                outflow.resumed();
            }
            Step::BeginRock { at, info } => {
                metrics.rocks_sent.add(1);
                self.send(&Message::Rock { at, bytes: info.bytes, digest: info.digest }).await?;
                outflow.rock_begun(at, info);
            }
            Step::Chunk { aeon, index } => match stored_chunk(backing, aeon, index).await {
                Ok(Some(chunk)) => {
                    self.send(&Message::Chunk((&chunk[..]).into())).await?;
                    outflow.chunk_sent(chunk.len() as u64);
                }
                // A newer one has taken its place; if none has, storage has lost it.
                Ok(None) if self.lost_rock == Some(aeon) => {
                    return Err(storage_failed(&StorageError::new("a rock is missing")));
                }
                Ok(None) => {
                    self.lost_rock = Some(aeon);
                    outflow.rock_gone();
                }
                Err(error) => return Err(storage_failed(&error)),
            },
            Step::Waves { first, last } => {
                let waves = match recent {
                    Some(waves) => waves,
                    None => {
                        let waves = stored_waves(backing, first, last).await.map_err(|error| storage_failed(&error))?;
                        let same = outflow.cursor().is_some_and(|at| cell.is_still(at.epoch));
                        if same { waves } else { Vec::new() }
                    }
                };
                self.waves(outflow, first, waves, digests).await?;
            }
            Step::CaughtUp(aeon) => {
                self.send(&Message::CaughtUp(aeon)).await?;
                outflow.told_caught_up();
            }
            Step::Wait => {}
            Step::Ahead => {
                let Some(ahead) = outflow.cursor() else { return Ok(()) };
                let cell = cell.clone();
                let _ = self.shared.driver.ask(|reply| Command::BeginEpoch { cell, ahead, reply }).await;
                // If no new epoch was begun (once a run is enough), the reader is told the newest
                // rock as to a new reader; it refuses to go back, and asks again later.
                *outflow = Outflow::new(None);
            }
        }
        Ok(())
    }

    async fn waves(
        &mut self,
        outflow: &mut Outflow,
        first: Aeon,
        waves: Vec<Bytes>,
        digests: Vec<(Aeon, Digest)>,
    ) -> Result<(), Stop> {
        let Some(end) = first.0.checked_add(waves.len() as u64).filter(|end| *end > first.0) else {
            // They were pruned or replaced in this moment: the rock takes their place.
            *outflow = Outflow::new(None);
            return Ok(());
        };
        let end = Aeon(end - 1);
        let mut digests = digests.into_iter().peekable();
        for (aeon, wave) in (first.0..).map(Aeon).zip(&waves) {
            let digest = digests.next_if(|(at, _)| *at == aeon).map(|(_, digest)| digest);
            self.push(&Message::Wave { aeon, digest, wave: (&wave[..]).into() })?;
        }
        // Counted first, so that who has received a wave finds it counted.
        self.shared.metrics.waves_sent.add(waves.len() as u64);
        self.flush().await?;
        outflow.waves_sent(end);
        Ok(())
    }
}

fn storage_failed(error: &StorageError) -> Stop {
    warn!(%error, "a subscription cannot be served");
    Stop::Refused(Refusal::Storage)
}
