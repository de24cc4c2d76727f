//! The end of a pairing. The rules are the core's ([`pairs`](groundswell_core::kv::pairs)); here they get storage and connections.

use std::sync::Arc;

use groundswell_core::{
    kv::{
        KvAuthor, Release, ReleaseSignature,
        pairing::PeerKey,
        pairs::{Honour, Stands, honour},
        wire::{Held, KvHello, KvMessage, decode_kv_message, encode_kv_frame},
    },
    limits::MAX_REQUEST_BYTES,
    wire::{Extension, StreamKind},
};
use iroh::{
    Signature,
    endpoint::{Connection, SendStream},
};
use tokio::time::timeout;
use tracing::{Instrument, debug, info, info_span, warn};

use super::{
    Kv,
    docs::NamespaceId,
    document::{Document, Identity},
    error::{KvEnded, KvError},
    keeper::{Command, Contents},
    storage::{DocumentRow, Row, Standing},
};
use crate::{
    frames::FrameReader,
    limits::KV_RELEASE_TIMEOUT,
    link::{Backoff, Link, Want},
    network::CloseCode,
    source::PeerId,
    sync::lock,
};

/// A document that is given up, until that is stored.
struct Parted {
    former: Arc<Identity>,
    /// Those that are forgotten for it.
    forgets: Vec<Arc<Identity>>,
}

/// What becomes of a document that is given up: its place among the former ones, and the rows that store it there. The other side
/// may have been `told`. `None` where it is shared with nobody.
fn become_former(kv: &Kv, identity: &Identity, told: bool) -> Option<(Parted, Vec<Row>)> {
    let (peer, knows) = identity.standing().given_up()?;
    let author = identity.author(kv.ours.other()).map(|author| author.to_bytes());
    let row = DocumentRow { standing: Standing::Former { peer, author, told: told || knows }, ..identity.row() };
    let former = kv.identity_of(row.clone());
    let mut rows = Row::begin(former.number, row).to_vec();
    let forgets: Vec<_> = lock(&kv.former).beyond_room().into_iter().cloned().collect();
    rows.extend(forgets.iter().map(|one| Row::Drop { number: one.number }));
    Some((Parted { former, forgets }, rows))
}

/// Takes one in among the former ones whose rows are stored, and lets go of those whose rows went with that.
fn take_in(kv: &Kv, parted: Parted) -> Arc<Identity> {
    let mut former = lock(&kv.former);
    for forgotten in parted.forgets {
        if let Some((peer, false)) = forgotten.former() {
            warn!(peer = %peer.fmt_short(), "a release is forgotten before the other side was told: there are too many");
        }
        forgotten.replaced.cancel();
        former.forget(forgotten.namespace.as_bytes());
    }
    former.add(parted.former.clone());
    parted.former
}

/// A statement that its author has not signed.
#[derive(Debug)]
pub(crate) struct Forged;

/// Signs that this side has given up a document that was shared with this peer.
pub(super) fn sign(kv: &Kv, identity: &Identity, peer: PeerId) -> ReleaseSignature {
    let (by, to) = (PeerKey(*kv.shared.id.as_bytes()), PeerKey(*peer.as_bytes()));
    let release = Release { document: *identity.namespace.as_bytes(), by, to };
    kv.signer.sign(&release.to_bytes()).to_bytes().into()
}

/// Whether the author of the other side has signed that it has given this document up. `None` where the author is not
/// known any more, as of a document that has ended.
fn verify(kv: &Kv, identity: &Identity, peer: PeerId, signature: ReleaseSignature) -> Option<Result<(), Forged>> {
    let author = identity.author(kv.ours.other())?;
    let (by, to) = (PeerKey(*peer.as_bytes()), PeerKey(*kv.shared.id.as_bytes()));
    let release = Release { document: *identity.namespace.as_bytes(), by, to };
    let signature = Signature::from_bytes(&signature.into());
    Some(if author.has_signed(&release.to_bytes(), &signature) { Ok(()) } else { Err(Forged) })
}

/// The other side says that it has given the document up. If it has signed that, this side does so too: a machine goes on
/// by itself, and a manager keeps what it has, for reading. The session is closed when that is durable.
pub(crate) fn released(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    identity: &Arc<Identity>,
    peer: PeerId,
    signature: ReleaseSignature,
) -> Result<(), Forged> {
    verify(kv, identity, peer, signature).unwrap_or(Err(Forged))?;
    let (task, document, identity) = (kv.clone(), document.clone(), identity.clone());
    // In a task of its own: the session ends as soon as the document has another standing.
    kv.tasks.spawn(async move {
        let honoured = match task.ours {
            KvAuthor::Machine => {
                info!("the manager has released this machine");
                // What it has released is this document, also where it claims it again in this moment.
                let of = |one: &Identity| honour(task.ours, one, peer, identity.namespace.as_bytes()) == Honour::GoOn;
                part(&task, &document, of, true).await
            }
            KvAuthor::Manager => {
                info!("a machine has released itself");
                mark_released(&task, &document, &identity, peer).await
            }
        };
        if let Err(error) = honoured {
            warn!(%error, "a release cannot be stored yet; the other side says it again");
            document.close_session(CloseCode::Later);
        }
    });
    Ok(())
}

/// The machine's person ends the pairing. It is ended even if the caller leaves.
pub(crate) async fn release_own(kv: &Arc<Kv>, document: Arc<Document>) -> Result<(), KvError> {
    let peer = document.identity().peer().ok_or(KvError::NotClaimed)?;
    let task = kv.clone();
    // If it was ended by the other side in this moment, it is ended.
    kv.whole(async move { part(&task, &document, |identity| identity.peer() == Some(peer), false).await }).await
}

/// A machine gives up a pairing, and keeps what there is. The same manager may claim it again in this moment, so this is done when
/// the document is not `of` that pairing any more.
async fn part(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    of: impl Fn(&Identity) -> bool,
    told: bool,
) -> Result<(), KvError> {
    loop {
        let identity = document.identity();
        if !of(&identity) || renew(kv, document, &identity, Contents::Kept, told).await? {
            return Ok(());
        }
    }
}

/// The machine's person ends the pairing, if there is one, and the machine forgets what it had, even if the caller leaves.
pub(crate) async fn wipe_own(kv: &Arc<Kv>, document: Arc<Document>) -> Result<(), KvError> {
    let task = kv.clone();
    kv.whole(async move {
        // The other side may end the pairing in this moment, which keeps what there is: then that is wiped.
        while !renew(&task, &document, &document.identity(), Contents::Wiped, false).await? {}
        Ok(())
    })
    .await
}

/// A machine goes on with a new document that nobody else knows. What it had in the old one that was not deleted, it has
/// in the new one too, if it `keeps` it. The old one is former, and its other side is told of that, unless it knows.
/// Returns `false` if the document goes on as another one already: then nothing was done.
pub(crate) async fn renew(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    before: &Arc<Identity>,
    keeps: Contents,
    told: bool,
) -> Result<bool, KvError> {
    // A claim that is being stored comes first.
    let _changing = kv.pair_changes.lock().await;
    let identity = kv.new_identity(Standing::Unclaimed);
    let (parted, along) = become_former(kv, before, told).unzip();
    let along = along.unwrap_or_default();
    let (renewed, before) = (document.clone(), before.clone());
    let ask = |reply| Command::Renew { document: renewed, before, identity, keeps, along, reply };
    let renewed = kv.keeper.ask(ask).await??;
    if renewed {
        kv.tell_claims_of_release();
        if let Some(parted) = parted {
            spawn_telling(kv, take_in(kv, parted));
        }
    }
    Ok(renewed)
}

async fn mark_released(
    kv: &Arc<Kv>,
    document: &Arc<Document>,
    identity: &Arc<Identity>,
    peer: PeerId,
) -> Result<(), KvError> {
    let row = DocumentRow { standing: Standing::Released { peer }, ..identity.row() };
    match kv.keeper.restand(document, identity, kv.identity_again(identity.number, &row)).await {
        // It was released here, or claimed again.
        Err(KvError::NotClaimed) => return Ok(()),
        result => result?,
    }
    kv.machines_changed.send_modify(|changes| *changes += 1);
    Ok(())
}

/// A manager gives a machine up: what it has of it goes, and the machine is told, even if the caller leaves.
pub(crate) async fn release_machine(kv: &Arc<Kv>, machine: PeerId) -> Result<(), KvError> {
    let task = kv.clone();
    kv.whole(async move { give_up_machine(&task, machine).await }).await
}

async fn give_up_machine(kv: &Arc<Kv>, machine: PeerId) -> Result<(), KvError> {
    let document = kv.of_peer(machine).ok_or(KvError::UnknownMachine(machine))?;
    let identity = document.identity();
    let (parted, mut rows) = become_former(kv, &identity, false).ok_or(KvError::UnknownMachine(machine))?;
    rows.push(Row::Drop { number: identity.number });
    kv.keeper.rows(rows).await?;
    let former = take_in(kv, parted);
    kv.remove_machine(machine, &document);
    identity.replaced.cancel();
    document.end(KvEnded::Released);
    kv.close_document(&identity).await;
    spawn_telling(kv, former);
    Ok(())
}

/// The peer has said hello for this document: it has no earlier one. This one may have been given up in this moment.
pub(crate) async fn forget_earlier(kv: &Kv, peer: PeerId, document: NamespaceId) {
    let forgotten = lock(&kv.former).forget_earlier(peer, document.as_bytes());
    if forgotten.is_empty() {
        return;
    }
    let rows = forgotten.iter().map(|identity| {
        identity.replaced.cancel();
        Row::Drop { number: identity.number }
    });
    if let Err(error) = kv.keeper.rows(rows.collect()).await {
        debug!(%error, "a former document stays stored until the next start");
    }
}

/// Whether the other side knows that a document was given up here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has given the document up too.
    Yes,
    /// It answers, and does not know the document.
    NotKnown,
    /// It can't be reached, or has not answered.
    No,
}

/// Tells the other side of a former document, for as long as it takes.
pub(crate) fn spawn_telling(kv: &Arc<Kv>, former: Arc<Identity>) {
    let Some((peer, false)) = former.former() else { return };
    let task = kv.clone();
    let span = info_span!("release", peer = %peer.fmt_short());
    kv.tasks.spawn(
        async move {
            tokio::select! {
                () = keep_telling(&task, &former, peer) => {}
                // It was told by another stream, or need not be told any more.
                () = former.replaced.cancelled() => {}
                () = task.closing.cancelled() => {}
            }
        }
        .instrument(span),
    );
}

async fn keep_telling(kv: &Arc<Kv>, former: &Arc<Identity>, peer: PeerId) {
    let want = Want::to_tell(&kv.shared, peer);
    let (mut link, mut backoff) = (want.peer.link(), Backoff::new());
    loop {
        let now = link.borrow_and_update().clone();
        if let Link::Up(connection) = now {
            let told = tell(kv, former, &connection).await;
            if told == Told::Yes {
                return;
            }
            backoff.answered(told == Told::NotKnown);
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                _ = link.changed() => {}
            }
        } else if link.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the other side of a former document on a stream that is made for that.
pub(crate) async fn tell(kv: &Kv, former: &Arc<Identity>, connection: &Connection) -> Told {
    let opening = async {
        let (mut send, recv) = connection.open_bi().await.ok()?;
        send.write_all(&[StreamKind::Document.byte()]).await.ok()?;
        Some((send, recv))
    };
    let Ok(Some((send, recv))) = timeout(KV_RELEASE_TIMEOUT, opening).await else { return Told::No };
    exchange(kv, former, connection.remote_id(), send, FrameReader::new(recv, MAX_REQUEST_BYTES), true).await
}

/// The other side's answer to the statement that this one has given a document up.
enum Said {
    /// The same, and whether its author has signed that; `None` where the author is not known any more.
    Released(Option<Result<(), Forged>>),
    /// Nothing more, with this code where it has chosen one.
    Ended(Option<CloseCode>),
}

/// Says that this side has given a document up, on a stream where both know which one is meant, and hears what the
/// other has to say to that. The hello of the side that has accepted the stream is still to come. The peer is a
/// stranger by now: nothing larger than a hello is read.
pub(crate) async fn exchange(
    kv: &Kv,
    former: &Arc<Identity>,
    peer: PeerId,
    mut send: SendStream,
    mut reader: FrameReader,
    hello_follows: bool,
) -> Told {
    let Some(words) = words(kv, former, peer) else { return Told::No };
    let hearing = async {
        // If it fails, the other half of the stream says why.
        let _ = send.write_all(&words).await;
        let mut heard = if hello_follows { reader.next().await.map(drop) } else { Ok(()) };
        loop {
            if let Err(error) = heard {
                return Said::Ended(error.code());
            }
            // A side that shares the document still may send entries before it has read the statement.
            heard = match reader.next().await {
                Ok(body) => match decode_kv_message(kv.max_value_bytes, &body) {
                    Ok(KvMessage::Released { signature }) => {
                        return Said::Released(verify(kv, former, peer, signature));
                    }
                    _ => Ok(()),
                },
                Err(error) => Err(error),
            };
        }
    };
    let (told, why) = match timeout(KV_RELEASE_TIMEOUT, hearing).await {
        // Both have given it up, and the other side learns from the code that this one has.
        Ok(Said::Released(Some(Ok(())))) => (Told::Yes, CloseCode::Released),
        // The signer cannot be checked any more. This side has given the document up in any case.
        Ok(Said::Released(None)) => (Told::No, CloseCode::Released),
        Ok(Said::Released(Some(Err(Forged)))) => {
            kv.shared.metrics.violations.add(1);
            if let Some(left_out) = kv.shared.stranger_log.line() {
                warn!(left_out, "a release that its author has not signed");
            }
            (Told::No, CloseCode::Violation)
        }
        Ok(Said::Ended(Some(CloseCode::Released))) => (Told::Yes, CloseCode::Released),
        Ok(Said::Ended(Some(CloseCode::NotPaired))) => (Told::NotKnown, CloseCode::Later),
        Ok(Said::Ended(_)) | Err(_) => (Told::No, CloseCode::Later),
    };
    why.end(&mut send, &mut reader);
    settled(kv, former, told).await
}

/// A hello for the document and the statement, as frames.
fn words(kv: &Kv, former: &Identity, peer: PeerId) -> Option<Vec<u8>> {
    let hello = KvHello {
        document: *former.namespace.as_bytes(),
        wall_ms: (kv.wall_clock)(),
        held: Held::default(),
        extension: Extension::default(),
    };
    let mut words = Vec::new();
    encode_kv_frame(kv.max_value_bytes, &hello, &mut words).ok()?;
    let released = KvMessage::Released { signature: sign(kv, former, peer) };
    encode_kv_frame(kv.max_value_bytes, &released, &mut words).ok()?;
    Some(words)
}

/// Stores that the other side knows, if it does.
async fn settled(kv: &Kv, former: &Arc<Identity>, told: Told) -> Told {
    let Some((peer, false)) = former.former() else { return told };
    if told != Told::Yes {
        return told;
    }
    let author = former.author(kv.ours.other()).map(|author| author.to_bytes());
    let row = DocumentRow { standing: Standing::Former { peer, author, told: true }, ..former.row() };
    let number = former.number;
    if let Err(error) = kv.keeper.rows(vec![Row::Document { number, row: row.clone() }]).await {
        warn!(%error, "that the other side knows of a release is not stored; it is told again after the next start");
    }
    let was_there = lock(&kv.former).put(kv.identity_again(number, &row));
    if !was_there {
        // It was forgotten meanwhile.
        let _ = kv.keeper.rows(vec![Row::Drop { number }]).await;
    }
    former.replaced.cancel();
    told
}
