//! The publisher's side on the wire: one task for each subscription of a remote peer.
//!
//! The task is a cursor: it asks the cell what comes next, writes that, and waits for room on
//! the stream or for news. A peer that does not read blocks this task at its flow control, and
//! costs one batch of waves or one chunk of a rock, whatever is given meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use groundswell_core::{
    Aeon, Digest, LakeId,
    encoding::decode,
    limits::MAX_REQUEST_BYTES,
    publisher::{Outflow, Step},
    wire::{Message, Refusal, Surf, encode_frame},
};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::time::timeout;
use tracing::{Instrument, Span, debug, info_span, warn};

use crate::{
    cell::{RemoteNext, TideCell, stored_chunk, stored_waves},
    driver::Command,
    error::StorageError,
    frames::FrameReader,
    limits::{HELLO_TIMEOUT, MAX_PARKED_OF_PEER, MAX_SUBSCRIPTIONS_OF_PEER},
    network::CloseCode,
    peers::{Counted, Peer, note_follower},
    readers::Reader,
    shared::Shared,
    store::{Backing, TideKey},
    unknown::Share,
};

/// Why a subscription is no longer served.
enum Stop {
    /// The peer is gone, or quit.
    Gone,
    /// It is refused, in words.
    Refused(Refusal),
    /// The node shuts down.
    ShutDown,
    /// The time to say so is over.
    Closed,
}

/// A stream that can't be written to any more: the peer has let go of it.
impl From<iroh::endpoint::WriteError> for Stop {
    fn from(_: iroh::endpoint::WriteError) -> Self {
        Self::Gone
    }
}

/// Serves one stream in a task of its own. Thousands of such tasks wait for news, so that each holds little while it
/// does: what it needs to read the request, to write and to end is in boxes that are gone by then.
pub(crate) fn spawn(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    connection: &Arc<Connection>,
    send: SendStream,
    recv: RecvStream,
) {
    let begun = Box::pin(Serving::begin(shared.clone(), peer.clone(), connection.clone(), send, recv));
    shared.tasks.spawn(async move {
        let Some(mut serving) = begun.await else { return };
        let stop = loop {
            let parked = match Box::pin(serving.until_idle()).await {
                Ok(parked) => u64::from(parked),
                Err(stop) => break stop,
            };
            serving.writer.shared.metrics.parked_readers_now.add(parked);
            let stop = serving.news().await;
            serving.writer.shared.metrics.parked_readers_now.less(parked);
            if let Some(stop) = stop {
                break stop;
            }
        };
        Box::pin(serving.end(stop)).await;
    });
}

/// One subscription that is served, or parked.
struct Serving {
    peer: Arc<Peer>,
    connection: Arc<Connection>,
    recv: RecvStream,
    writer: Writer,
    cell: Arc<TideCell>,
    changes: Reader,
    lake: LakeId,
    outflow: Outflow,
    place: Place,
    /// `None` where nobody records it, so that it takes no room then.
    span: Option<Box<Span>>,
}

impl Serving {
    fn span(&self) -> Span {
        self.span.as_deref().map_or_else(Span::none, Span::clone)
    }

    /// Reads the request. One that is none is refused.
    async fn begin(
        shared: Arc<Shared>,
        peer: Arc<Peer>,
        connection: Arc<Connection>,
        send: SendStream,
        recv: RecvStream,
    ) -> Option<Self> {
        let mut writer = Writer { stream: send, shared: shared.clone(), buffer: Vec::new(), lost_rock: None };
        let place = match shared.unknown.waiting(shared.knows(peer.id)) {
            Ok(_waiting) => Place::None { _waiting },
            Err(refusal) => {
                // A peer that does not read costs nothing for longer.
                let _ = timeout(HELLO_TIMEOUT, writer.refuse(refusal)).await;
                return None;
            }
        };
        let requested = tokio::select! {
            requested = request(&shared, &peer, &connection, recv, &mut writer) => requested,
            () = shared.closed.cancelled() => None,
        };
        let (Surf { agent, path, lake, cursor }, recv) = requested?;
        let span = info_span!("serve", peer = %peer.id.fmt_short(), %agent, %path);
        let span = (!span.is_disabled()).then(|| Box::new(span));
        let cell = shared.catalog.cell(&TideKey::Publication { agent, path });
        shared.metrics.remote_readers_now.add(1);
        let (changes, outflow) = (cell.watch(), Outflow::new(cursor));
        Some(Self { peer, connection, recv, writer, cell, changes, lake, outflow, place, span })
    }

    /// Does all that there is to do, until there is nothing but to wait; whether it is parked then.
    async fn until_idle(&mut self) -> Result<bool, Stop> {
        let (closed, span) = (self.writer.shared.closed.clone(), self.span());
        let flow = async {
            loop {
                if let Some(parked) = self.turn().await? {
                    self.writer.let_go();
                    return Ok(parked);
                }
            }
        };
        tokio::select! {
            idle = flow.instrument(span) => idle,
            () = closed.cancelled() => Err(Stop::Closed),
        }
    }

    /// Does one thing; or says that there is nothing to do, and whether it is parked.
    async fn turn(&mut self) -> Result<Option<bool>, Stop> {
        // Marked first, then looked: a change in between wakes once too often, never once too few.
        self.changes.borrow_and_update();
        if !self.writer.shared.welcomes(self.peer.id) {
            let code = CloseCode::Private;
            self.connection.close(code.code(), code.reason().as_bytes());
            return Err(Stop::Gone);
        }
        let why = match self.cell.remote_next(&self.outflow, &self.lake, &self.peer.id) {
            RemoteNext::Step { step, recent, digests, backing } => {
                if self.place.serve(&self.writer.shared, &self.peer).map_err(Stop::Refused)? {
                    note_follower(&self.writer.shared, &self.peer, &self.connection);
                    self.peer.allow_more(&self.connection);
                }
                self.changes.has(self.outflow.cursor().map(|at| at.aeon));
                if step == Step::Wait {
                    return Ok(Some(false));
                }
                self.writer.step(&mut self.outflow, step, (recent, digests), backing, &self.cell).await?;
                return Ok(None);
            }
            RemoteNext::Nothing => None,
            RemoteNext::LakeDiffers(published) => Some(Refusal::LakeDiffers { published }),
        };
        self.changes.has_no_place();
        // Said once, then nothing is sent until it can begin, from where the reader stands.
        if self.place.park(&self.writer.shared, &self.peer, self.cell.key(), &why).map_err(Stop::Refused)? {
            self.peer.allow_more(&self.connection);
            self.writer.send(&why.map_or(Message::NotAvailable, Message::Refused)).await?;
            self.outflow = Outflow::new(self.outflow.cursor());
        }
        Ok(Some(true))
    }

    /// Waits for news; or says that there will be none.
    async fn news(&mut self) -> Option<Stop> {
        tokio::select! {
            // In this order: what is committed is sent before the goodbye.
            biased;
            changed = self.changes.changed() => changed.is_err().then_some(Stop::Gone),
            // Whatever comes, and be it the end: a subscriber has nothing more to say.
            _ = self.recv.read_chunk(1) => Some(Stop::Gone),
            () = self.writer.shared.parting.cancelled() => Some(Stop::ShutDown),
        }
    }

    /// Says why it ends, where that is to be said, and lets go of everything.
    async fn end(self, stop: Stop) {
        if matches!(stop, Stop::Closed) {
            return;
        }
        let span = self.span();
        let Self { cell, mut writer, recv: _recv, place: _place, .. } = self;
        let shared = writer.shared.clone();
        shared.catalog.release(cell);
        let goodbye = async {
            match stop {
                Stop::Gone | Stop::Closed => {}
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
        };
        tokio::select! {
            () = goodbye => {
                shared.metrics.remote_readers_now.less(1);
                debug!(parent: &span, "ended");
            }
            () = shared.closed.cancelled() => {}
        }
    }
}

/// Reads the request, and gives the stream back; or refuses what is none.
async fn request(
    shared: &Shared,
    peer: &Peer,
    connection: &Connection,
    recv: RecvStream,
    writer: &mut Writer,
) -> Option<(Surf, RecvStream)> {
    let mut reader = FrameReader::new(recv, MAX_REQUEST_BYTES);
    let request = match timeout(HELLO_TIMEOUT, reader.next()).await {
        Ok(Ok(body)) => decode::<Surf>(&body),
        _ => {
            shared.metrics.violations.add(1);
            let _ = writer.refuse(Refusal::Malformed).await;
            return None;
        }
    };
    let Ok(surf) = request else {
        if let Some(left_out) = shared.stranger_log.line() {
            warn!(peer = %peer.id.fmt_short(), left_out, "a request does not decode; the connection is closed");
        }
        shared.metrics.violations.add(1);
        let _ = writer.refuse(Refusal::Malformed).await;
        let _ = timeout(HELLO_TIMEOUT, writer.stream.stopped()).await;
        connection.close(CloseCode::Violation.code(), CloseCode::Violation.reason().as_bytes());
        return None;
    };
    // More than the one frame ends the subscription before it has begun.
    Some((surf, reader.into_stream()?))
}

/// Which of a peer's places a subscription takes.
enum Place {
    None { _waiting: Share },
    Served { _counted: Counted, _served: Share },
    // The shares are boxed: they would take as much room of each stream that is served.
    Parked { _counted: Counted, _waits: Box<[Share; 2]>, why: Option<Box<Refusal>> },
}

impl Place {
    /// Takes a place among those that are served; true where this one had none.
    fn serve(&mut self, shared: &Shared, peer: &Arc<Peer>) -> Result<bool, Refusal> {
        if matches!(self, Self::Served { .. }) {
            return Ok(false);
        }
        let limit = MAX_SUBSCRIPTIONS_OF_PEER;
        let counted = Counted::within(peer, |peer| &peer.served, limit);
        let _counted = counted.ok_or(Refusal::TooManySubscriptions { limit })?;
        let _served = shared.unknown.served(shared.knows(peer.id))?;
        if !shared.gate.serves(peer.id) {
            return Err(Refusal::Crowded);
        }
        *self = Self::Served { _counted, _served };
        Ok(true)
    }

    /// Takes a place among those that are parked; true where the reason is news to the peer.
    fn park(
        &mut self,
        shared: &Shared,
        peer: &Arc<Peer>,
        key: &TideKey,
        why: &Option<Refusal>,
    ) -> Result<bool, Refusal> {
        if let Self::Parked { why: told, .. } = self {
            let news = told.as_deref() != why.as_ref();
            *told = why.clone().map(Box::new);
            return Ok(news);
        }
        let limit = MAX_PARKED_OF_PEER;
        let counted = Counted::within(peer, |peer| &peer.parked, limit);
        let _counted = counted.ok_or(Refusal::TooManyParked { limit })?;
        let _waits = Box::new(shared.unknown.parked(shared.knows(peer.id), key)?);
        *self = Self::Parked { _counted, _waits, why: why.clone().map(Box::new) };
        Ok(true)
    }
}

/// Writes frames to one stream.
struct Writer {
    stream: SendStream,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    /// The rock that was gone when its chunk was to be read.
    lost_rock: Option<Aeon>,
}

impl Writer {
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
        Ok(())
    }

    /// What one burst needed is not kept for an idle stream.
    fn let_go(&mut self) {
        self.buffer = Vec::new();
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
                    return Err(storage_failed(&self.shared, &StorageError::new("a rock is missing")));
                }
                Ok(None) => {
                    self.lost_rock = Some(aeon);
                    outflow.rock_gone();
                }
                Err(error) => return Err(storage_failed(&self.shared, &error)),
            },
            Step::Waves { first, last } => {
                let waves = match recent {
                    Some(waves) => waves,
                    None => {
                        let waves = stored_waves(backing, first, last).await;
                        let waves = waves.map_err(|error| storage_failed(&self.shared, &error))?;
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

fn storage_failed(shared: &Shared, error: &StorageError) -> Stop {
    // Each request of a stranger would write a line.
    if let Some(left_out) = shared.stranger_log.line() {
        warn!(%error, left_out, "a subscription cannot be served");
    }
    Stop::Refused(Refusal::Storage)
}
