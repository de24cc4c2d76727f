//! The publisher's side on the wire: one task for each subscription of a remote peer.
//!
//! The task is a cursor: it asks the cell what comes next, writes that, and waits for room on
//! the stream or for news. A peer that does not read blocks this task at its flow control, and
//! costs one batch of waves or one chunk of a rock, whatever is given meanwhile. Peers that the node does not know get smaller
//! batches, and share the room for them ([`crate::unknown`]).

use std::{pin::pin, sync::Arc};

use bytes::Bytes;
use groundswell_core::{
    Aeon, Digest, LakeId,
    encoding::decode,
    limits::{MAX_REQUEST_BYTES, READ_BATCH_BYTES, ROCK_CHUNK_BYTES},
    publisher::{Outflow, Step},
    wire::{Message, Refusal, Surf, encode_frame},
};
use iroh::endpoint::{Connection, RecvStream, SendStream};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, Span, debug, info_span, warn};

use crate::{
    cell::{RemoteNext, TideCell, stored_chunk, stored_waves},
    driver::Command,
    error::StorageError,
    frames::FrameReader,
    gate::Gate,
    limits::{HELLO_TIMEOUT, SENDING_BYTES_OF_EACH_UNKNOWN, SENDING_PATIENCE},
    link::{Peer, Stream, note_follower},
    metrics::Metrics,
    network::CloseCode,
    readers::Reader,
    shared::Shared,
    store::{Backing, TideKey},
    unknown::{Of, Share},
};

/// How many bytes a peer that the node does not know is sent at once.
const BATCH_OF_UNKNOWN: usize = SENDING_BYTES_OF_EACH_UNKNOWN as usize;

/// More than a message of a wave has beyond the wave: lengths, an aeon and a digest.
const WAVE_FRAME_BYTES: usize = 64;

/// Why a subscription is no longer served.
pub(crate) enum Stop {
    /// The peer is gone, or quit.
    Gone,
    /// It is refused, in words. Boxed: thousands of tasks have room for a reason.
    Refused(Box<Refusal>),
    /// It takes less than it has room for, and others wait for that. Nothing can be said on a stream that is full.
    InTheWay,
    /// The node shuts down.
    ShutDown,
    /// The time to say so is over.
    Closed,
}

impl Stop {
    fn refused(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A stream that can't be written to any more: the peer has let go of it.
impl From<iroh::endpoint::WriteError> for Stop {
    fn from(_: iroh::endpoint::WriteError) -> Self {
        Self::Gone
    }
}

/// One subscription that is served, or parked.
pub(crate) struct Serving {
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
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.writer.shared.metrics
    }

    fn span(&self) -> Span {
        self.span.as_deref().map_or_else(Span::none, Span::clone)
    }

    /// Reads the request. A malformed one is refused.
    pub(crate) async fn begin(shared: Arc<Shared>, stream: Stream, share: Share) -> Option<Self> {
        let Stream { peer, connection, send, recv, .. } = stream;
        let mut writer = Writer { stream: send, shared: shared.clone(), buffer: Vec::new() };
        let place = Place { share, parked: None };
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

    /// Does all that there is to do, until there is nothing but to wait; and whether it is parked then.
    pub(crate) async fn until_idle(&mut self) -> Result<bool, Stop> {
        let (closed, span) = (self.writer.shared.closed.clone(), self.span());
        let known = self.writer.shared.knows(self.peer.id);
        let mut room = Room { known, needed: BATCH_OF_UNKNOWN, share: None, lost_rock: None };
        let flow = async {
            loop {
                if let Some(parked) = self.turn(&mut room).await? {
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
    async fn turn(&mut self, room: &mut Room) -> Result<Option<bool>, Stop> {
        // Marked first, then looked: a change in between wakes once too often, never once too few.
        self.changes.borrow_and_update();
        let shared = &self.writer.shared;
        if !shared.welcomes(self.peer.id) {
            // The connection stays: the peer may have come for a claim or a former document, which have streams of their own.
            // Until the role is loaded, the peer may be the other side of a document: it asks again in a moment.
            let code = if shared.may_know(self.peer.id) { CloseCode::Later } else { CloseCode::Private };
            let _ = self.writer.stream.reset(code.code());
            return Err(Stop::Gone);
        }
        let why = match self.cell.remote_next(&self.outflow, &self.lake, &self.peer.id, room.bytes()) {
            RemoteNext::Step { step, recent, digests, backing } => {
                if self.place.serve(&self.writer.shared, &self.peer).map_err(Stop::refused)? {
                    note_follower(&self.writer.shared, &self.peer, &self.connection);
                    self.peer.allow_more(&self.connection);
                }
                self.changes.has(self.outflow.cursor().map(|at| at.aeon));
                let needed = match step {
                    Step::Wait => return Ok(Some(false)),
                    Step::Waves { .. } => room.needed,
                    Step::Chunk { .. } => ROCK_CHUNK_BYTES,
                    _ => 0,
                };
                if needed > room.bytes() {
                    // Nothing is held while there is none, and the tide is looked at again then.
                    drop((recent, digests, backing));
                    room.share = None;
                    room.share = Some(Box::pin(Share::room(&self.peer, needed)).await.map_err(Stop::refused)?);
                    return Ok(None);
                }
                // Boxed: those that are parked, of which there may be as many, do not get here.
                Box::pin(self.writer.step(&mut self.outflow, step, (recent, digests), backing, &self.cell, room))
                    .await?;
                room.share = None;
                self.peer.note_sent();
                return Ok(None);
            }
            RemoteNext::Nothing => None,
            RemoteNext::LakeDiffers(published) => Some(Refusal::LakeDiffers { published }),
        };
        self.changes.has_no_place();
        // Said once, then nothing is sent until it can begin, from where the reader stands.
        if self.place.park(&self.peer, room.known, self.cell.key(), &why).map_err(Stop::refused)? {
            self.peer.allow_more(&self.connection);
            self.writer.send(&why.map_or(Message::NotAvailable, Message::Refused)).await?;
            self.outflow = Outflow::new(self.outflow.cursor());
        }
        Ok(Some(true))
    }

    /// Waits for news; or says that there will be none.
    pub(crate) async fn news(&mut self) -> Option<Stop> {
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
    pub(crate) async fn end(self, stop: Stop) {
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
                    let _ = writer.refuse(*refusal).await;
                }
                Stop::InTheWay => {
                    shared.metrics.refusals.add(1);
                    debug!(parent: &span, "ended, since it takes too little");
                    // What it has not acknowledged is let go of too.
                    let _ = writer.stream.reset(CloseCode::Crowded.code());
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

/// Reads the request, and gives the stream back; or refuses a malformed one.
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
        CloseCode::Violation.close(connection);
        return None;
    };
    // More than the one frame ends the subscription before it has begun.
    Some((surf, reader.into_stream()?))
}

/// Which of a peer's places a subscription takes.
struct Place {
    share: Share,
    /// Boxed: it would take as much room of each stream that is served.
    parked: Option<Box<Parked>>,
}

struct Parked {
    _bytes: Share,
    why: Option<Refusal>,
}

impl Place {
    /// Takes a place among those that are served; true where this one had none.
    fn serve(&mut self, shared: &Shared, peer: &Arc<Peer>) -> Result<bool, Refusal> {
        if self.share.is_of(Of::Served) {
            return Ok(false);
        }
        let share = Share::take(peer, Of::Served, 1, shared.knows(peer.id))?;
        peer.note_sent();
        if !Gate::serves(shared, peer.id) {
            return Err(Refusal::Crowded);
        }
        *self = Self { share, parked: None };
        Ok(true)
    }

    /// Takes a place among those that are parked; true where the reason is news to the peer.
    fn park(&mut self, peer: &Arc<Peer>, known: bool, key: &TideKey, why: &Option<Refusal>) -> Result<bool, Refusal> {
        if let Some(parked) = &mut self.parked {
            let news = parked.why != *why;
            parked.why.clone_from(why);
            return Ok(news);
        }
        let [share, _bytes] = Share::park(peer, key, known)?;
        *self = Self { share, parked: Some(Box::new(Parked { _bytes, why: why.clone() })) };
        Ok(true)
    }
}

/// The room for what is sent next, and what else is needed only until there is nothing to send.
struct Room {
    /// Whether the node knows the peer, which then needs no share of it.
    known: bool,
    /// How much waves need: a batch, or one large wave.
    needed: usize,
    share: Option<Share>,
    /// The rock that was gone when its chunk was to be read.
    lost_rock: Option<Aeon>,
}

impl Room {
    fn bytes(&self) -> usize {
        if self.known { READ_BATCH_BYTES } else { self.share.as_ref().map_or(0, Share::count) }
    }

    /// Whether so many bytes of a wave find room after those that there are. Where they are the first and do not, they need more.
    fn takes(&mut self, before: usize, wave: usize) -> bool {
        if self.known || before + wave + WAVE_FRAME_BYTES <= self.bytes() {
            return true;
        }
        if before == 0 {
            self.needed = wave + WAVE_FRAME_BYTES;
        }
        false
    }
}

/// Writes frames to one stream.
struct Writer {
    stream: SendStream,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl Writer {
    async fn send(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        self.push(message)?;
        self.flush().await
    }

    fn push(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        encode_frame(message, &mut self.buffer).map_err(|error| {
            warn!(%error, "a message cannot be sent");
            Stop::refused(Refusal::Storage)
        })
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        self.stream.write_all(&self.buffer).await?;
        self.flushed();
        Ok(())
    }

    /// The same for what has a share of the room that unknown peers have: it is ended where the peer takes too little, and
    /// others wait.
    async fn flush_from(&mut self, room: &Room) -> Result<(), Stop> {
        let Some(share) = &room.share else { return self.flush().await };
        let mut late = pin!(sleep(SENDING_PATIENCE));
        let (mut written, mut looked_at) = (0, 0);
        while written < self.buffer.len() {
            tokio::select! {
                biased;
                more = self.stream.write(&self.buffer[written..]) => written += more?,
                () = &mut late => {
                    if written - looked_at < BATCH_OF_UNKNOWN && share.is_in_the_way() {
                        return Err(Stop::InTheWay);
                    }
                    looked_at = written;
                    late.set(sleep(SENDING_PATIENCE));
                }
            }
        }
        self.flushed();
        Ok(())
    }

    fn flushed(&mut self) {
        self.shared.metrics.bytes_sent.add(self.buffer.len() as u64);
        self.buffer.clear();
    }

    /// What one burst needed is not kept for an idle stream.
    fn let_go(&mut self) {
        self.buffer = Vec::new();
    }

    async fn refuse(&mut self, refusal: Refusal) -> Result<(), Stop> {
        self.shared.metrics.refusals.add(1);
        debug!(%refusal, "refused");
        self.buffer.clear();
        // A peer that does not read costs nothing for longer.
        timeout(HELLO_TIMEOUT, self.send(&Message::Refused(refusal))).await.unwrap_or(Err(Stop::Gone))?;
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
        room: &mut Room,
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
                    self.push(&Message::Chunk((&chunk[..]).into()))?;
                    let bytes = chunk.len() as u64;
                    // The peer may take its time: it is held once meanwhile.
                    drop(chunk);
                    self.flush_from(room).await?;
                    outflow.chunk_sent(bytes);
                }
                // A newer one has taken its place; if none has, storage has lost it.
                Ok(None) if room.lost_rock == Some(aeon) => {
                    return Err(storage_failed(&self.shared, &StorageError::new("a rock is missing")));
                }
                Ok(None) => {
                    room.lost_rock = Some(aeon);
                    outflow.rock_gone();
                }
                Err(error) => return Err(storage_failed(&self.shared, &error)),
            },
            Step::Waves { first, last } => {
                let waves = match recent {
                    Some(waves) => waves,
                    None => {
                        let waves = stored_waves(backing, first, last, room.bytes()).await;
                        let waves = waves.map_err(|error| storage_failed(&self.shared, &error))?;
                        let same = outflow.cursor().is_some_and(|at| cell.is_still(at.epoch));
                        if same { waves } else { Vec::new() }
                    }
                };
                self.waves(outflow, first, waves, digests, room).await?;
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
        room: &mut Room,
    ) -> Result<(), Stop> {
        if first.0.checked_add(waves.len() as u64).is_none_or(|end| end == first.0) {
            // They were pruned or replaced in this moment: the rock takes their place.
            *outflow = Outflow::new(None);
            return Ok(());
        }
        let mut digests = digests.into_iter().peekable();
        let (mut bytes, mut last) = (0, None);
        for (aeon, wave) in (first.0..).map(Aeon).zip(waves) {
            if !room.takes(bytes, wave.len()) {
                break;
            }
            let digest = digests.next_if(|(at, _)| *at == aeon).map(|(_, digest)| digest);
            self.push(&Message::Wave { aeon, digest, wave: (&wave[..]).into() })?;
            bytes += wave.len() + WAVE_FRAME_BYTES;
            last = Some(aeon);
        }
        // There is to be room for the first one first.
        let Some(last) = last else { return Ok(()) };
        room.needed = BATCH_OF_UNKNOWN;
        // Counted first, so that who has received a wave finds it counted.
        self.shared.metrics.waves_sent.add(last.0 - first.0 + 1);
        // By now a wave is held once, however long the peer takes for it.
        self.flush_from(room).await?;
        outflow.waves_sent(last);
        Ok(())
    }
}

fn storage_failed(shared: &Shared, error: &StorageError) -> Stop {
    // Each request of a stranger would write a line.
    if let Some(left_out) = shared.stranger_log.line() {
        warn!(%error, left_out, "a subscription cannot be served");
    }
    Stop::refused(Refusal::Storage)
}
