//! One connection between the two sides of a document: hellos, what each lacks, what is new, and
//! reconciliation now and then.
//!
//! The side that sends is a reader of the document's logs: it goes on from where the other says
//! that it stands, and waits for more. Catching up and pushing are the same. The side that
//! receives verifies, has the keeper make it durable and show it, and acknowledges.

mod ends;
mod hello;
mod oversized;
mod place;
mod reconcile;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use groundswell_core::{
    kv::{
        Envelope, KvAuthor,
        pairs::{self, Answer},
        skew_ms,
        sync::{EntryKey, Heard, KvSync, Received, Step},
        wire::{KvHello, KvMessage, decode_kv_message, encode_kv_frame, max_kv_frame_bytes},
    },
    limits::{MAX_KV_WANTS, MAX_REQUEST_BYTES},
    wire::BootId,
};
use iroh::endpoint::{Connection, ConnectionError, ReadError, SendStream};
use tokio::{sync::Notify, time::timeout};
use tracing::{Instrument, info_span, warn};

use super::{
    Kv,
    document::{Document, Identity},
    error::KvError,
    keeper::{Command, Opened},
    parting,
    sealed::Sealed,
    status::KvLink,
    storage::Storage,
    supervisor,
};
use crate::{
    error::{StorageError, WriteError},
    frames::{FrameReader, ReadFrameError},
    limits::{HELLO_TIMEOUT, KV_BACKOFF_LAST, KV_RECEIVE_BYTES, READ_ENTRIES_BYTES},
    network,
    source::PeerId,
    sync::lock,
};

use ends::lost;
pub(crate) use ends::{End, KvCloseCode};
use hello::{Unheard, hear, held, say_hello};
use place::Place;

/// How many entries are verified without leaving the task to others: a verification takes about 0.1 ms.
const VERIFY_HERE: usize = 8;

/// The connection that synchronises a document now.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) connection: Connection,
    boot: BootId,
    dialled_by: PeerId,
    since: Instant,
}

/// Hands a connection to a task of our own.
pub(crate) fn accept(kv: &Arc<Kv>, connection: Connection) {
    let task = kv.clone();
    let span = info_span!("kv", peer = %connection.remote_id().fmt_short());
    kv.tasks.spawn(
        async move {
            tokio::select! {
                () = answer(&task, &connection) => {}
                () = task.closed.cancelled() => {}
            }
        }
        .instrument(span),
    );
}

/// The accepting side: who is not paired learns nothing.
async fn answer(kv: &Arc<Kv>, connection: &Connection) {
    let refuse = |why: KvCloseCode| why.close(connection);
    let peer = connection.remote_id();
    let not_known = || {
        let claiming = lock(&kv.claiming).contains_key(&peer);
        if claiming { KvCloseCode::Later } else { KvCloseCode::NotPaired }
    };
    if kv.closing.is_cancelled() {
        return refuse(KvCloseCode::ShutDown);
    }
    let document = kv.of_peer(peer);
    if document.is_none() && !lock(&kv.former).is_with(peer) {
        return refuse(not_known());
    }
    let opening = async {
        let (mut send, recv) = connection.accept_bi().await.map_err(|_| Unheard::Hello)?;
        // The peer may be a stranger: it may have lost the document, or have been released.
        let mut reader = FrameReader::new(recv, MAX_REQUEST_BYTES);
        match hear(&mut reader).await {
            Err(Unheard::Versions(mismatch)) => {
                // The other side has to know why: it gets our versions before the connection is closed.
                if let Some(document) = &document {
                    say_hello(kv, document, &document.identity(), &mut send).await?;
                    let _ = send.finish();
                    let _ = send.stopped().await;
                }
                Err(Unheard::Versions(mismatch))
            }
            hello => Ok((send, reader, hello?)),
        }
    };
    let (send, mut reader, hello) = match timeout(HELLO_TIMEOUT, opening).await.unwrap_or(Err(Unheard::Hello)) {
        Ok(opened) => opened,
        Err(why) => {
            why.close(connection);
            if let (Unheard::Versions(mismatch), Some(document)) = (why, document) {
                document.status.send_modify(|status| status.problem = Some(mismatch.to_string()));
            }
            return;
        }
    };
    let identity = document.as_ref().map(|document| document.identity());
    let answer = pairs::answer(identity.as_ref(), &lock(&kv.former), peer, &hello.document).cloned();
    match (answer, document, identity) {
        (Answer::Session, Some(document), Some(identity)) => {
            reader.allow(max_kv_frame_bytes(kv.max_value_bytes));
            run(kv, &document, &identity, connection, send, reader, hello, peer).await;
        }
        (Answer::Exchange(ended), ..) => drop(parting::exchange(kv, &ended, connection, send, reader, false).await),
        _ => refuse(not_known()),
    }
}

/// The dialling side: runs a session until it ends.
pub(crate) async fn dialled(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    identity: &Arc<Identity>,
    connection: Connection,
) -> End {
    let opening = async {
        let (mut send, recv) = connection.open_bi().await.map_err(|_| Unheard::Hello)?;
        say_hello(kv, document, identity, &mut send).await?;
        let mut reader = FrameReader::new(recv, max_kv_frame_bytes(kv.max_value_bytes));
        let hello = hear(&mut reader).await?;
        Ok::<_, Unheard>((send, reader, hello))
    };
    match timeout(HELLO_TIMEOUT, opening).await {
        Ok(Ok((send, reader, hello))) => {
            let dialled_by = kv.shared.id;
            run(kv, document, identity, &connection, send, reader, hello, dialled_by).await
        }
        Ok(Err(why @ Unheard::Versions(mismatch))) => {
            why.close(&connection);
            End::Refused(mismatch.to_string())
        }
        _ => {
            // What the other side says, if it has closed the connection, is what counts.
            let closed = timeout(Duration::from_millis(100), connection.closed()).await;
            let why = KvCloseCode::Hello;
            connection.close(why.code(), why.reason());
            match closed {
                Ok(error) if KvCloseCode::NotPaired.is(&error) => End::NotKnown,
                // It is starting or ending, and will say more in a moment.
                Ok(error) if KvCloseCode::Later.is(&error) || KvCloseCode::ShutDown.is(&error) => lost(error),
                // Its words are the other side's.
                Ok(error) => End::Refused(groundswell_core::Visible(error).to_string()),
                Err(_) => End::Refused(String::from_utf8_lossy(why.reason()).into_owned()),
            }
        }
    }
}

/// A session whose other side has said hello.
#[allow(clippy::too_many_arguments, reason = "the two sides open it differently, and from here on it is one")]
async fn run(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    identity: &Arc<Identity>,
    connection: &Connection,
    mut send: SendStream,
    reader: FrameReader,
    hello: KvHello,
    dialled_by: PeerId,
) -> End {
    let peer = connection.remote_id();
    if dialled_by == peer
        && let Err(why) = say_hello(kv, document, identity, &mut send).await
    {
        why.close(connection);
        return End::Lost;
    }
    document.meet(hello.boot);
    let active = Active { connection: connection.clone(), boot: hello.boot, dialled_by, since: Instant::now() };
    let takes = oversized::taken(&hello.extension);
    // First, so that what the hello says is held is not taken for more than it is.
    let found = tokio::select! {
        found = oversized::find(kv, document, identity, takes) => found,
        error = connection.closed() => return closed(&error),
        () = identity.replaced.cancelled() => return End::Lost,
    };
    if let Err(end) = found {
        KvCloseCode::Later.close(connection);
        return end;
    }
    let Some(mut place) = Place::take(document, identity, active, hello.held.of(document.ours)) else {
        connection.close(KvCloseCode::Superseded.code(), KvCloseCode::Superseded.reason());
        return End::Lost;
    };
    let skew = skew_ms((kv.wall_clock)(), hello.wall_ms);
    document.status.send_modify(|status| {
        // Released in this moment, it has a status that is not this session's.
        if identity.replaced.is_cancelled() {
            return;
        }
        status.link = KvLink::Online;
        status.skew_ms = Some(skew);
        if !status.distrusted && !status.left_out {
            status.problem = None;
        }
    });
    network::widen(connection);
    supervisor::remember(kv, connection).await;
    parting::forget_earlier(kv, peer, identity.namespace).await;
    let begun = Instant::now();
    kv.shared.metrics.document_sessions.add(1);
    let _online = kv.shared.metrics.documents_online_now.while_kept();
    let session = Arc::new(Session {
        kv: kv.clone(),
        document: document.clone(),
        identity: identity.clone(),
        peer,
        takes,
        begun,
        sync: Mutex::new(KvSync::new(document.ours, held(document), hello.held, 0)),
        asked: Notify::new(),
    });
    let end = tokio::select! {
        end = session.receive(reader) => end,
        end = session.send(send) => end,
        end = session.clone().reconcile(connection) => end,
        error = connection.closed() => closed(&error),
        () = identity.replaced.cancelled() => End::Lost,
        () = kv.closed.cancelled() => End::Lost,
    };
    place.end = match end {
        // The other side closed the connection and said why.
        End::Lost => connection.close_reason().map_or(End::Lost, |error| closed(&error)),
        end => end,
    };
    let end = place.end.clone();
    // A session that lasted for long was a good one.
    if matches!(end, End::Lost) && begun.elapsed() > KV_BACKOFF_LAST {
        document.complains(false);
    }
    if matches!(end, End::Violation(_)) {
        kv.shared.metrics.violations.add(1);
    }
    if let End::Violation(problem) | End::Failed(problem) | End::Refused(problem) = &end
        && document.complains(true)
    {
        warn!(problem, violation = matches!(end, End::Violation(_)), "the session ends");
    }
    end
}

fn closed(error: &ConnectionError) -> End {
    if KvCloseCode::NotPaired.is(error) { End::NotKnown } else { lost(error) }
}

struct Session {
    kv: Arc<Kv>,
    document: Arc<Document>,
    identity: Arc<Identity>,
    peer: PeerId,
    /// The most bytes of a value that the other side takes.
    takes: usize,
    /// The zero of the state machine's clock.
    begun: Instant,
    sync: Mutex<KvSync>,
    /// Told when the other side wants something, or has answered.
    asked: Notify,
}

impl Session {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what the state machine says, until the connection ends.
    async fn send(&self, mut stream: SendStream) -> End {
        match self.steps(&mut stream).await {
            Ok(()) => End::Lost,
            Err(end) => end,
        }
    }

    async fn steps(&self, stream: &mut SendStream) -> Result<(), End> {
        let mut heads = self.document.heads.subscribe();
        let mut buffer = Vec::new();
        let mut parting = false;
        loop {
            heads.mark_unchanged();
            let step = {
                let (mut sync, now) = (lock(&self.sync), self.now_ms());
                sync.holds(held(&self.document), now);
                sync.poll(now)
            };
            match step {
                Step::Say(message) => self.push(&message, &mut buffer)?,
                Step::Entries { author, after, upto } => {
                    let sent = self.some_after(author, after, upto, &mut buffer).await?;
                    lock(&self.sync).entries_sent(author, sent);
                    self.flush(stream, &mut buffer).await?;
                }
                Step::Answer(wants) => self.answer(wants, stream, &mut buffer).await?,
                Step::LookUpMissing { after } => {
                    let number = self.identity.number;
                    let missing = self.read(move |storage| storage.missing_after(number, after, MAX_KV_WANTS)).await?;
                    lock(&self.sync).want(missing);
                }
                Step::Finish => {
                    self.flush(stream, &mut buffer).await?;
                    let _ = stream.finish();
                    // Until the other side has it.
                    let _ = stream.stopped().await;
                    return Ok(());
                }
                Step::Wait { until_ms } => {
                    self.flush(stream, &mut buffer).await?;
                    let until = until_ms.map(|ms| (self.begun + Duration::from_millis(ms)).into());
                    tokio::select! {
                        () = at(until) => {}
                        () = self.asked.notified() => {}
                        () = self.document.missing.notified() => lock(&self.sync).found_missing(),
                        changed = heads.changed() => changed.map_err(|_| End::Lost)?,
                        () = self.kv.parting.cancelled(), if !parting => {
                            parting = true;
                            lock(&self.sync).part();
                        }
                    }
                }
            }
        }
    }

    /// Puts some of an author's entries after this counter into the buffer, and up to where they go.
    async fn some_after(&self, author: KvAuthor, after: u64, head: u64, buffer: &mut Vec<u8>) -> Result<u64, End> {
        let upto = match self.document.recent_after(author, after) {
            Some(entries) => {
                for entry in &entries {
                    self.push_entry(entry, buffer)?;
                }
                entries.last().map_or(head, |last| last.counter)
            }
            None => {
                let number = self.identity.number;
                let entries = self.read(move |storage| storage.entries_after(number, author, after, head)).await?;
                for entry in &entries {
                    self.push_entry(entry, buffer)?;
                }
                entries.last().map_or(head, |last| last.counter)
            }
        };
        self.push(&KvMessage::UpTo { author, counter: upto }, buffer)?;
        Ok(upto)
    }

    /// Reads storage, which may wait for the disk.
    async fn read<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, End> {
        let storage = self.kv.storage.clone();
        let read = tokio::task::spawn_blocking(move || what(&storage)).await.map_err(lost)?;
        read.map_err(|error| End::Failed(error.to_string()))
    }

    fn push_entry(&self, entry: &Sealed, buffer: &mut Vec<u8>) -> Result<(), End> {
        if self.is_too_large(entry) {
            return Ok(());
        }
        self.kv.shared.metrics.entries_sent.add(1);
        let signed = entry.to_sent();
        self.push(&KvMessage::Entry { signed: (&signed[..]).into(), envelope: (&entry.envelope[..]).into() }, buffer)
    }

    fn push(&self, message: &KvMessage<'_>, buffer: &mut Vec<u8>) -> Result<(), End> {
        // An entry may be from a time when this side's own limit was higher.
        encode_kv_frame(self.kv.max_value_bytes.max(self.takes), message, buffer)
            .map_err(|error| End::Failed(error.to_string()))
    }

    /// Sends those of these entries that are here.
    async fn answer(&self, wants: Vec<EntryKey>, stream: &mut SendStream, buffer: &mut Vec<u8>) -> Result<(), End> {
        let number = self.identity.number;
        for (author, key) in wants {
            if let Some(entry) = self.read(move |storage| storage.entry(number, author, key)).await? {
                self.push_entry(&entry, buffer)?;
            }
            if buffer.len() > READ_ENTRIES_BYTES {
                self.flush(stream, buffer).await?;
            }
        }
        Ok(())
    }

    /// Sends what is in the buffer.
    async fn flush(&self, stream: &mut SendStream, buffer: &mut Vec<u8>) -> Result<(), End> {
        if buffer.is_empty() {
            return Ok(());
        }
        stream.write_all(buffer).await.map_err(lost)?;
        self.kv.shared.metrics.bytes_sent.add(buffer.len() as u64);
        buffer.clear();
        // What one burst needed is not kept for an idle connection.
        buffer.shrink_to(1024);
        Ok(())
    }

    /// Takes what the other side sends, until the connection ends.
    async fn receive(&self, mut reader: FrameReader) -> End {
        loop {
            if let Err(end) = self.take_buffered(&mut reader).await {
                return end;
            }
            // Read last: some may have come together with the hello.
            match reader.fill().await {
                Ok(read) => self.kv.shared.metrics.bytes_received.add(read as u64),
                // The other side has nothing more to say; the connection tells why.
                Err(ReadFrameError::Ended | ReadFrameError::Stream(ReadError::ConnectionLost(_))) => {
                    return std::future::pending().await;
                }
                Err(error) => return lost(error),
            }
        }
    }

    /// Takes what has arrived.
    async fn take_buffered(&self, reader: &mut FrameReader) -> Result<(), End> {
        let violation = |error: &dyn std::fmt::Display| End::Violation(error.to_string());
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(body) = reader.buffered().map_err(|error| violation(&error))? {
            let message = decode_kv_message(self.kv.max_value_bytes, body).map_err(|error| violation(&error))?;
            let heard = lock(&self.sync).handle(message);
            match heard {
                Heard::Nothing => {}
                Heard::Entry { signed, envelope } => {
                    let entry = Sealed::from_sent(&signed, &envelope).map_err(|error| violation(&error))?;
                    bytes += entry.weight();
                    entries.push(entry);
                }
                Heard::Delivered(upto) => self.delivered(upto),
                Heard::Released(signature) => {
                    return match parting::released(&self.kv, &self.document, &self.identity, self.peer, signature) {
                        // The connection is closed when that is durable.
                        Ok(()) => std::future::pending().await,
                        Err(parting::Forged) => Err(violation(&"a release that its author has not signed")),
                    };
                }
                Heard::ShuttingDown => {
                    self.take(entries).await?;
                    return Err(End::Lost);
                }
            }
            if bytes >= KV_RECEIVE_BYTES {
                bytes = 0;
                self.take(std::mem::take(&mut entries)).await?;
            }
        }
        self.take(entries).await
    }

    fn delivered(&self, upto: u64) {
        self.document.delivered.send_if_modified(|delivered| {
            let more = delivered.number == self.identity.number && delivered.upto < Some(upto);
            if more {
                delivered.upto = Some(upto);
            }
            more
        });
    }

    /// Verifies entries and has them made durable and shown, with the marks that came with them.
    async fn take(&self, entries: Vec<Sealed>) -> Result<(), End> {
        let received = lock(&self.sync).received();
        self.store(entries, &received).await?;
        let (caught_up, is_asked) = {
            let mut sync = lock(&self.sync);
            (sync.stored(received), sync.is_asked())
        };
        if is_asked {
            self.asked.notify_one();
        }
        if caught_up {
            self.document.status.send_if_modified(|status| !std::mem::replace(&mut status.current, true));
        }
        Ok(())
    }

    async fn store(&self, entries: Vec<Sealed>, received: &Received) -> Result<(), End> {
        let (identity, max) = (self.identity.clone(), self.kv.max_value_bytes);
        let opened = if entries.len() <= VERIFY_HERE {
            open_all(entries, &identity, max)
        } else {
            tokio::task::spawn_blocking(move || open_all(entries, &identity, max)).await.map_err(lost)?
        };
        let mut opened = opened.map_err(End::Violation)?;
        for author in KvAuthor::BOTH {
            if let Some(counter) = received.upto(author) {
                self.commit(std::mem::take(&mut opened), Some((author, counter))).await?;
            }
        }
        if opened.is_empty() { Ok(()) } else { self.commit(opened, None).await }
    }

    async fn commit(&self, entries: Vec<Opened>, upto: Option<(KvAuthor, u64)>) -> Result<(), End> {
        let (document, identity) = (self.document.clone(), self.identity.clone());
        let asked = self.kv.keeper.ask(|reply| Command::Take { document, identity, entries, upto, reply }).await;
        match asked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(KvError::ShutDown)) | Err(WriteError::ShutDown) => Err(End::Lost),
            // It is asked for again at the next connection, from where storage stands.
            Ok(Err(error @ KvError::TooManyKeys(_))) => Err(End::Violation(error.to_string())),
            Ok(Err(error)) => Err(End::Failed(error.to_string())),
            Err(error) => Err(End::Failed(error.to_string())),
        }
    }
}

/// Waits until then, or for ever.
pub(crate) async fn at(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Verifies and opens entries, all or none.
fn open_all(entries: Vec<Sealed>, identity: &Identity, max_value_bytes: usize) -> Result<Vec<Opened>, String> {
    let open = |entry: Sealed| {
        let author = identity.author(entry.author).ok_or("an entry of an author that is not known")?;
        entry.verify(identity.namespace, author, &identity.keys).map_err(|error| error.to_string())?;
        let envelope = Envelope::decode(&entry.key, &entry.envelope, max_value_bytes);
        envelope.map(|envelope| (entry, envelope)).map_err(|error| error.to_string())
    };
    entries.into_iter().map(open).collect()
}
