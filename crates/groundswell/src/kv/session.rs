//! A session between the two sides of a document, on a stream of their connection: what each lacks, what is new, and
//! reconciliation now and then.
//!
//! The side that sends is a reader of the document's logs: it goes on from where the other says
//! that it stands, and waits for more. Catching up and pushing are the same. The side that
//! receives verifies, has the keeper make it durable and show it, and acknowledges.

mod back;
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
        restored::Returned,
        skew_ms,
        sync::{EntryKey, Heard, KvSync, Received, Step},
        wire::{KvMessage, decode_kv_message, encode_kv_frame, max_kv_frame_bytes},
    },
    limits::{MAX_KV_WANTS, MAX_REQUEST_BYTES},
};
use iroh::endpoint::{Connection, SendStream};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span, warn};

use super::{
    Kv,
    document::{Document, Identity},
    error::KvError,
    keeper::{Command, Opened},
    parting, restored,
    sealed::Sealed,
    status::KvLink,
    storage::Storage,
};
use crate::{
    error::{StorageError, WriteError},
    frames::FrameReader,
    limits::{BACKOFF_LAST, HELLO_TIMEOUT, KV_RECEIVE_BYTES, READ_ENTRIES_BYTES},
    link::{Peer, Stream},
    network::CloseCode,
    source::PeerId,
    sync::lock,
};

pub(crate) use ends::{End, lost};
pub(crate) use hello::{Greeted, open};
use hello::{Unheard, hear, held, say_hello};
pub(crate) use place::Active;
use place::Place;

/// How many entries are verified without leaving the task to others: a verification takes about 0.1 ms.
const VERIFY_HERE: usize = 8;

/// Hands a stream of a document to a task of our own.
pub(crate) fn accept(kv: &Arc<Kv>, stream: Stream) {
    if kv.closing.is_cancelled() {
        return stream.refuse(CloseCode::ShutDown);
    }
    let task = kv.clone();
    let span = info_span!("kv", peer = %stream.peer.id.fmt_short());
    kv.tasks.spawn(
        async move {
            tokio::select! {
                () = answer(&task, stream) => {}
                () = task.closed.cancelled() => {}
            }
        }
        .instrument(span),
    );
}

/// Hands the stream of a reconciliation to the session of the document that the two share.
pub(crate) fn accept_reconciliation(kv: &Kv, stream: Stream) {
    let active = kv.of_peer(stream.peer.id).and_then(|document| document.session.borrow().clone());
    let Some(active) = active else { return stream.refuse(CloseCode::Later) };
    let Stream { send, recv, .. } = stream;
    // An honest side begins the next one when the one before is over. Dropped, it ends.
    let _ = active.reconciliations.try_send((send, recv));
}

/// The accepting side. A peer that is not paired learns nothing.
async fn answer(kv: &Arc<Kv>, stream: Stream) {
    let Stream { peer, connection, place: _place, share, mut send, recv } = stream;
    // The peer may be a stranger: it may have lost the document, or have been released.
    let mut reader = FrameReader::new(recv, MAX_REQUEST_BYTES);
    let not_known = || {
        let claiming = lock(&kv.claiming).contains_key(&peer.id);
        if claiming { CloseCode::Later } else { CloseCode::NotPaired }
    };
    let document = kv.of_peer(peer.id);
    if document.is_none() && !lock(&kv.former).is_with(peer.id) {
        return not_known().end(&mut send, &mut reader);
    }
    // One hello of a document at a time is heard and answered.
    let answering = match &document {
        Some(document) => match document.answering.clone().try_lock_owned() {
            Ok(answering) => Some(answering),
            Err(_) => return CloseCode::Later.end(&mut send, &mut reader),
        },
        None => None,
    };
    let hello = match timeout(HELLO_TIMEOUT, hear(&mut reader)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(Unheard::Ended(_))) => return,
        Ok(Err(Unheard::Malformed)) | Err(_) => {
            kv.shared.metrics.violations.add(1);
            return CloseCode::Hello.end(&mut send, &mut reader);
        }
    };
    let identity = document.as_ref().map(|document| document.identity());
    let answer = pairs::answer(identity.as_ref(), &lock(&kv.former), peer.id, &hello.document).cloned();
    match (answer, document, identity) {
        (Answer::Session, Some(document), Some(identity)) => {
            reader.allow(max_kv_frame_bytes(kv.max_value_bytes));
            let (opened, opened_by) =
                (Greeted { send, reader, hello, agrees_first: false, answering }, document.ours.other());
            drop(share);
            run(kv, &document, &identity, &peer, &connection, opened, opened_by).await;
        }
        (Answer::Exchange(ended), ..) => drop(parting::exchange(kv, &ended, peer.id, send, reader, false).await),
        _ => not_known().end(&mut send, &mut reader),
    }
}

/// Runs a session whose other side has said hello, to its end.
pub(crate) async fn run(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    identity: &Arc<Identity>,
    peer: &Peer,
    connection: &Connection,
    mut opened: Greeted,
    opened_by: KvAuthor,
) -> End {
    let noticed = restored::look_at(kv, document, identity, opened.hello.held.of(document.ours)).await;
    if let Err(end) = noticed {
        CloseCode::Later.end(&mut opened.send, &mut opened.reader);
        return end;
    }
    if opened_by != document.ours {
        match timeout(HELLO_TIMEOUT, say_hello(kv, document, identity, &mut opened.send)).await {
            Ok(Ok(agrees_first)) => opened.agrees_first = agrees_first,
            Ok(Err(end)) => return end,
            Err(_) => return lost("the other side takes no hello"),
        }
    }
    let agrees_first = opened.agrees_first;
    if document.agrees_first() && !agrees_first {
        CloseCode::Later.end(&mut opened.send, &mut opened.reader);
        return lost("this side went back, and has said otherwise");
    }
    let (theirs, takes) = (opened.hello.held, oversized::taken(&opened.hello.extension));
    document.set_their_budget(oversized::budget(&opened.hello.extension));
    // First, so that what the hello says is held is not taken for more than it is.
    let found = tokio::select! {
        found = oversized::find(kv, document, identity, takes) => found,
        error = connection.closed() => return lost(error),
        () = identity.replaced.cancelled() => return End::Lost,
    };
    if let Err(end) = found {
        CloseCode::Later.end(&mut opened.send, &mut opened.reader);
        return end;
    }
    let skew = skew_ms((kv.wall_clock)(), opened.hello.wall_ms);
    let (begun_by_other, reconciliations) = mpsc::channel(1);
    let place = Place::take(document, identity, connection, opened_by, opened, begun_by_other);
    let Some(mut place) = place else { return End::Lost };
    document.status.send_modify(|status| {
        status.duplicate |= peer.is_duplicate();
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
    parting::forget_earlier(kv, peer.id, identity.namespace).await;
    let begun = Instant::now();
    kv.shared.metrics.document_sessions.add(1);
    let _online = kv.shared.metrics.documents_online_now.while_kept();
    let over = CancellationToken::new();
    let _over = over.clone().drop_guard();
    let mut sync = KvSync::new(document.ours, held(document), theirs, 0);
    if agrees_first {
        sync.agree_first();
    }
    let session = Arc::new(Session {
        kv: kv.clone(),
        document: document.clone(),
        identity: identity.clone(),
        peer: peer.id,
        takes,
        begun,
        over: over.clone(),
        sync: Mutex::new(sync),
        returned: agrees_first.then(Mutex::default),
        asked: Notify::new(),
    });
    let active = place.active.clone();
    let end = tokio::select! {
        end = session.receive(&mut place.reader) => end,
        end = session.send(&mut place.send) => end,
        end = session.clone().reconcile(connection, reconciliations) => end,
        error = connection.closed() => lost(error),
        () = active.closing.cancelled() => End::Lost,
        () = identity.replaced.cancelled() => End::Lost,
        () = kv.closed.cancelled() => End::Lost,
    };
    place.end = end.clone();
    // A session that lasted for long was a good one.
    if matches!(end, End::Lost) && begun.elapsed() > BACKOFF_LAST {
        document.complains(false);
    }
    if matches!(end, End::Violation(_)) {
        kv.shared.metrics.violations.add(1);
    }
    if let Some(problem) = end.problem()
        && document.complains(true)
    {
        warn!(problem, violation = matches!(end, End::Violation(_)), "the session ends");
    }
    end
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
    /// Set when the session has ended. A reconciliation, which has a task of its own, waits for the other side no more then.
    over: CancellationToken,
    sync: Mutex<KvSync>,
    /// What the other side has sent back of ours, where this side agrees first: no more than it ever signed.
    returned: Option<Mutex<Returned>>,
    /// Told when the other side wants something, or has answered.
    asked: Notify,
}

impl Session {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what the state machine says, until the connection ends.
    async fn send(&self, stream: &mut SendStream) -> End {
        match self.steps(stream).await {
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
                Step::Agree { upto } => {
                    let (document, identity) = (self.document.clone(), self.identity.clone());
                    let returned =
                        self.returned.as_ref().map(|all| std::mem::take(&mut *lock(all))).unwrap_or_default();
                    self.asks(|reply| Command::Agree { document, identity, upto, returned, reply }).await?;
                    lock(&self.sync).agreed();
                }
                Step::Entries { author, after, upto } => {
                    if author == self.document.ours {
                        self.is_sent(upto).await?;
                    }
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
                // Not beyond the head, up to which it is noted that they are sent.
                let upto_head: Vec<_> = entries.iter().take_while(|entry| entry.counter <= head).collect();
                for entry in &upto_head {
                    self.push_entry(entry, buffer)?;
                }
                upto_head.last().map_or(head, |last| last.counter)
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
        stream.write_all(buffer).await?;
        self.kv.shared.metrics.bytes_sent.add(buffer.len() as u64);
        buffer.clear();
        // What one burst needed is not kept for an idle connection.
        buffer.shrink_to(1024);
        Ok(())
    }

    /// Takes what the other side sends, until the connection ends.
    async fn receive(&self, reader: &mut FrameReader) -> End {
        loop {
            if let Err(end) = self.take_buffered(reader).await {
                return end;
            }
            // Read last: some may have come together with the hello.
            match reader.fill().await {
                Ok(read) => self.kv.shared.metrics.bytes_received.add(read as u64),
                Err(error) => return error.into(),
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
                Heard::Delivered(upto) => {
                    restored::look_at(&self.kv, &self.document, &self.identity, upto).await?;
                    if self.document.agrees_first() && self.returned.is_none() {
                        return Err(lost("this side went back, and has said otherwise"));
                    }
                    self.delivered(upto);
                }
                Heard::Released(signature) => {
                    return match parting::released(&self.kv, &self.document, &self.identity, self.peer, signature) {
                        // The stream ends when that is durable.
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
        self.look_over(&opened).await?;
        for author in KvAuthor::BOTH {
            if let Some(counter) = received.upto(author) {
                self.commit(std::mem::take(&mut opened), Some((author, counter))).await?;
            }
        }
        if opened.is_empty() { Ok(()) } else { self.commit(opened, None).await }
    }

    async fn commit(&self, entries: Vec<Opened>, upto: Option<(KvAuthor, u64)>) -> Result<(), End> {
        let (document, identity) = (self.document.clone(), self.identity.clone());
        self.asks(|reply| Command::Take { document, identity, entries, upto, reply }).await
    }

    async fn asks(&self, command: impl FnOnce(oneshot::Sender<Result<(), KvError>>) -> Command) -> Result<(), End> {
        match self.kv.keeper.ask(command).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(KvError::ShutDown)) | Err(WriteError::ShutDown) => Err(End::Lost),
            // It is asked for again in the next session, from where storage stands.
            Ok(Err(KvError::OverBudget(over))) => Err(End::Full(over.to_string())),
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
