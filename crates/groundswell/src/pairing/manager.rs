//! The manager's side of a claim.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use groundswell_core::{
    encoding::{decode, encode},
    kv::{
        pairing::{
            ClaimError as CoreClaimError, ClaimPayload, ClaimPin, ClaimSecrets, ManagerClaim, ManagerInput,
            ManagerOutput, Refusal, decode_to_manager,
        },
        pairs::{HandedOver, handed_over},
    },
    limits::MAX_CLAIM_MESSAGE_BYTES,
    wire::StreamKind,
};
use iroh::endpoint::{Connection, SendStream};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tracing::warn;

use super::{
    ClaimError, LAST_WORDS, MachineCard, ManagerCard, Outcome, keying, outcome_of, own_addr, say, until, until_answered,
};
use crate::{
    frames::FrameReader,
    kv::{
        Document, DocumentRow, Identity, Kv, Row, Standing,
        docs::NamespaceSecret,
        parting::{self, Told},
    },
    limits::{ABSENT_DIAL_TIMEOUT, BACKOFF_FIRST, HELLO_TIMEOUT},
    link::{Unreached, connect, remember_addr, renew},
    network::CloseCode,
    source::{ClaimTicket, PeerId},
    sync::lock,
};

/// A claim that the manager's person has to answer.
#[derive(Debug)]
pub struct PendingClaim {
    /// The PIN, that the machine shows too if nobody is in between.
    pub pin: ClaimPin,
    /// The machine.
    pub machine: PeerId,
    pub(crate) answer: oneshot::Sender<bool>,
    outcome: Outcome,
}

impl PendingClaim {
    /// Waits until the claim is over although it was not answered here, and says why: the other side
    /// has declined, a minute has passed, the connection or the manager has ended. Cancel safe.
    pub async fn over(&mut self) -> ClaimError {
        // Without an answer from here there is no pair.
        outcome_of(&mut self.outcome).await.err().unwrap_or(ClaimError::ShutDown)
    }

    /// Says whether the PINs are the same, and waits for the other side to say so too, and for the pair
    /// to be stored: a minute at most. Dropping the future does not take the answer back.
    ///
    /// A claim that is dropped without an answer is declined.
    pub fn answer(self, same: bool) -> impl Future<Output = Result<PeerId, ClaimError>> + Send + 'static {
        let Self { answer, mut outcome, .. } = self;
        // A claim that has ended meanwhile says why below.
        let _ = answer.send(same);
        async move { outcome_of(&mut outcome).await }
    }
}

/// The error of a claim whose stream the other side has ended with this code.
fn turned_away(code: CloseCode) -> Option<ClaimError> {
    match code {
        CloseCode::NotPaired | CloseCode::Private => Some(ClaimError::NoMachine),
        CloseCode::Later | CloseCode::ShutDown | CloseCode::Crowded => Some(ClaimError::NotReady),
        _ => None,
    }
}

fn unreachable(error: impl std::fmt::Display) -> ClaimError {
    ClaimError::Unreachable(groundswell_core::Visible(error).to_string())
}

/// A machine that is being claimed, until this is dropped: it is known meanwhile.
struct Claiming {
    kv: Arc<Kv>,
    machine: PeerId,
    /// Another claim of it was under way before.
    is_second: bool,
}

impl Claiming {
    fn begin(kv: &Arc<Kv>, machine: PeerId) -> Self {
        let mut claiming = lock(&kv.claiming);
        let claims = claiming.entry(machine).or_default();
        *claims += 1;
        Self { kv: kv.clone(), machine, is_second: *claims > 1 }
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        let mut claiming = lock(&self.kv.claiming);
        match claiming.get_mut(&self.machine) {
            Some(claims) if *claims > 1 => *claims -= 1,
            _ => drop(claiming.remove(&self.machine)),
        }
    }
}

/// The manager's side: claims the machine of a ticket.
pub(crate) async fn claim(kv: &Arc<Kv>, ticket: &ClaimTicket) -> Result<PendingClaim, ClaimError> {
    let machine = ticket.peer();
    if machine == kv.shared.id {
        return Err(ClaimError::OwnTicket);
    }
    if kv.closing.is_cancelled() {
        return Err(ClaimError::ShutDown);
    }
    let claiming = Claiming::begin(kv, machine);
    let unreached = |why: Unreached| why.code.and_then(turned_away).unwrap_or_else(|| unreachable(why));
    let connection = connect(&kv.shared, &ticket.ticket.0).await.map_err(unreached)?;
    let was_paired = kv.of_peer(machine).is_some();
    tell_of_releases(kv, machine, &connection).await?;
    let keying = keying(&connection).ok_or_else(|| unreachable("the connection has no keys to derive a PIN from"))?;
    let card = ManagerCard { author: kv.signer.id().to_bytes(), addr: own_addr(kv).ok_or(ClaimError::ShutDown)? };
    let card = encode(&card).ok().and_then(|bytes| ClaimPayload::new(&bytes).ok()).ok_or(ClaimError::Handover)?;
    let begun = Instant::now();
    let secrets = ClaimSecrets { keying, nonce: rand::random() };
    let (state, first) = ManagerClaim::new(0, secrets, card, ticket.secret.as_ref());
    let state = state.with_timeout(0, kv.claim_timeout_ms);
    // A peer that grants no stream, and says nothing, is no machine.
    let opening = async {
        let (mut send, recv) = connection.open_bi().await.map_err(unreachable)?;
        send.write_all(&[StreamKind::Claim.byte()]).await.map_err(unreachable)?;
        Ok((send, recv))
    };
    let (mut send, recv) =
        timeout(HELLO_TIMEOUT, opening).await.unwrap_or_else(|_| Err(unreachable("it takes no message of a claim")))?;
    say(&mut send, &first).await;
    let reader = FrameReader::new(recv, MAX_CLAIM_MESSAGE_BYTES);
    let (shown, pin) = oneshot::channel();
    let (answer, answered) = oneshot::channel();
    let (ended, mut outcome) = watch::channel(None);
    let task = kv.clone();
    kv.tasks.spawn(async move {
        let mut driven = Driven {
            kv: task.clone(),
            connection,
            begun,
            state,
            shown: Some(shown),
            given_up: false,
            turned_away: None,
        };
        let result = tokio::select! {
            result = driven.run(send, reader, answered) => result,
            () = task.closing.cancelled() => Err(ClaimError::ShutDown),
        };
        let result = match result {
            Err(ClaimError::Claim(CoreClaimError::Disconnected)) => {
                let why = driven.turned_away.and_then(turned_away);
                Err(why.unwrap_or(ClaimError::Claim(CoreClaimError::Disconnected)))
            }
            // The machine refuses a second claim of a manager as it refuses one too many.
            Err(ClaimError::Claim(CoreClaimError::Refused(Refusal::Busy))) if claiming.is_second => {
                Err(ClaimError::OwnUnderWay)
            }
            Err(_) if driven.given_up => Err(ClaimError::GivenUp),
            result => result,
        };
        drop(claiming);
        if result.is_ok() && !was_paired {
            // The machine has taken the connection as that of a stranger.
            renew(&task.shared, machine);
        }
        ended.send_replace(Some(result));
    });
    match pin.await {
        Ok(pin) => Ok(PendingClaim { pin, machine, answer, outcome }),
        Err(_) => Err(outcome_of(&mut outcome).await.err().unwrap_or(ClaimError::Handover)),
    }
}

/// A machine that was released while it was away hears of that before it is claimed again. A document that was released
/// is never shared again, so that the claim gets another.
async fn tell_of_releases(kv: &Arc<Kv>, machine: PeerId, connection: &Connection) -> Result<(), ClaimError> {
    let begun = Instant::now();
    loop {
        let is_of_machine = |one: &Arc<Identity>| one.former().is_some_and(|(peer, _)| peer == machine);
        let Some(former) = kv.untold().into_iter().find(is_of_machine) else { return Ok(()) };
        match parting::tell(kv, &former, connection).await {
            Told::Yes => {}
            // It has lost the document, and may still get it back: the claim is of another.
            Told::NotKnown => return Ok(()),
            // Two streams can cross, or the machine is about to start.
            Told::No if begun.elapsed() < ABSENT_DIAL_TIMEOUT && connection.close_reason().is_none() => {
                tokio::time::sleep(BACKOFF_FIRST).await;
            }
            Told::No => return Err(ClaimError::NotReady),
        }
    }
}

/// The manager's side of one claim, as it is driven.
struct Driven {
    kv: Arc<Kv>,
    connection: Connection,
    begun: Instant,
    state: ManagerClaim,
    shown: Option<oneshot::Sender<ClaimPin>>,
    /// The machine has handed over a document that was given up.
    given_up: bool,
    /// The code with which the machine has ended the stream.
    turned_away: Option<CloseCode>,
}

impl Driven {
    async fn run(
        &mut self,
        mut send: SendStream,
        mut reader: FrameReader,
        answered: oneshot::Receiver<bool>,
    ) -> Result<PeerId, ClaimError> {
        let mut answer = Some(answered);
        loop {
            let deadline = self.state.deadline_ms().map(|at| self.begun + Duration::from_millis(at));
            let now_ms = || u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let outputs = tokio::select! {
                body = reader.next() => {
                    let input = match body {
                        Ok(body) => decode_to_manager(&body).map_or(ManagerInput::Unreadable, ManagerInput::Message),
                        Err(error) => {
                            self.turned_away = error.code();
                            ManagerInput::Disconnected
                        }
                    };
                    self.state.handle(input)
                }
                // It counts once the PIN was shown, which is when it can be given.
                said = until_answered(&mut answer), if self.shown.is_none() => {
                    self.state.handle(ManagerInput::Answer(said))
                }
                () = until(deadline) => { let now = now_ms(); self.state.tick(now) }
            };
            let mut outputs: VecDeque<ManagerOutput> = outputs.into();
            while let Some(output) = outputs.pop_front() {
                match output {
                    ManagerOutput::Send(message) => say(&mut send, &message).await,
                    ManagerOutput::ShowPin(pin) => {
                        if let Some(shown) = self.shown.take() {
                            let _ = shown.send(pin);
                        }
                    }
                    ManagerOutput::Store(payload) => {
                        let input = match self.store(&payload).await {
                            Ok(()) => ManagerInput::Stored,
                            Err(error) => {
                                warn!(error, "a claimed machine cannot be stored");
                                ManagerInput::StoreFailed
                            }
                        };
                        outputs.extend(self.state.handle(input));
                    }
                    ManagerOutput::Ended(result) => {
                        let _ = send.finish();
                        let _ = timeout(LAST_WORDS, send.stopped()).await;
                        return result.map(|()| self.connection.remote_id()).map_err(ClaimError::Claim);
                    }
                }
            }
        }
    }

    /// Stores the machine, in the place of what there was of it.
    async fn store(&mut self, payload: &ClaimPayload) -> Result<(), String> {
        let card: MachineCard = decode(payload.as_bytes()).map_err(|error| error.to_string())?;
        let (peer, kv) = (self.connection.remote_id(), &self.kv);
        let standing = Standing::Paired { peer, author: card.author };
        let row = DocumentRow { secret: card.secret, standing };
        if card.addr.id == peer {
            remember_addr(&kv.shared, &card.addr).await;
        }
        let id = NamespaceSecret::from_bytes(&card.secret).id();
        let before = kv.of_peer(peer).map(|document| (document.identity(), document));
        let shared = before.as_ref().map(|(identity, _)| identity);
        let is = handed_over(shared, &lock(&kv.former), peer, id.as_bytes());
        match (is, &before) {
            (HandedOver::GivenUp, _) => {
                self.given_up = true;
                return Err("the machine has handed over a document that was given up".to_owned());
            }
            (HandedOver::Again, Some((identity, document))) => {
                let stored = kv.keeper.restand(document, identity, kv.identity_again(identity.number, &row)).await;
                return stored.map_err(|error| error.to_string());
            }
            _ => {}
        }
        let identity = kv.identity_of(row.clone());
        let mut rows = Row::begin(identity.number, row).to_vec();
        if let Some((before, _)) = &before {
            rows.push(Row::Drop { number: before.number });
        }
        kv.keeper.rows(rows).await.map_err(|error| error.to_string())?;
        kv.begin(&identity).await;
        let document = Document::new(kv.ours, identity, crate::kv::new_view(), [0; 2]);
        if let Some(before) = kv.put_machine(peer, document.clone()) {
            before.identity().replaced.cancel();
            before.end(crate::kv::KvEnded::Released);
        }
        kv.work(&document);
        Ok(())
    }
}
