//! Pairing on the wire: the claims of a manager, and the machine's answers. What is said when, and
//! what it means, is the core's; here it gets a connection, a clock and storage.

mod manager;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use groundswell_core::{
    encoding::{decode, encode},
    kv::pairing::{
        CLAIM_KEYING_LABEL, ClaimError as CoreClaimError, ClaimId, ClaimPayload, ClaimPin, ClaimSecret, ClaimSecrets,
        MachineInput, MachineOutput, MachinePairing, PeerKey, ToManager, decode_claim, decode_to_machine,
    },
    limits::MAX_CLAIM_MESSAGE_BYTES,
    wire::encode_frame,
};
use iroh::{
    EndpointAddr,
    endpoint::{Connection, SendStream},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

pub use self::manager::PendingClaim;
pub(crate) use self::manager::claim;
use crate::{
    frames::FrameReader,
    gate::ClaimPlace,
    kv::{Claimed, DocumentRow, Kv, Standing, fault_point},
    limits::HELLO_TIMEOUT,
    link::{Stream, remember_addr},
    network::{self, CloseCode},
    source::PeerId,
    sync::lock,
};

/// Why a claim did not make a pair.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The machine can't be reached.
    #[error("the machine cannot be reached: {0}; is it on, and the ticket a fresh one?")]
    Unreachable(String),
    /// A manager can't claim its own node.
    #[error("this is the manager's own ticket: use the machine's")]
    OwnTicket,
    /// There is no machine at that address: it is a manager's, or nobody's.
    #[error("that node takes no claims: is the ticket a machine's, and not just shut down?")]
    NoMachine,
    /// The machine was restored from a backup of before its release, and has handed over the document of that time.
    #[error(
        "the machine has handed over a document that was released: it was restored from a backup; it is told of the release, \
         claim it again in a moment"
    )]
    GivenUp,
    /// The machine is starting, or ending.
    #[error("the machine is starting or shutting down: claim it again in a moment")]
    NotReady,
    /// Another claim of this manager is under way there, and there is one at a time.
    #[error("a claim of this manager's own is under way at the machine: answer that one, or wait a minute")]
    OwnUnderWay,
    /// It was refused, or not confirmed.
    #[error(transparent)]
    Claim(#[from] CoreClaimError),
    /// The other side has handed over what can't be used.
    #[error("the machine has handed over what cannot be used: is one side much older?")]
    Handover,
    /// The manager is shut down.
    #[error("it is shut down: start it again")]
    ShutDown,
}

/// What a manager sends along with its consent.
#[derive(Serialize, Deserialize)]
struct ManagerCard {
    author: [u8; 32],
    addr: EndpointAddr,
}

/// What a machine hands over.
#[derive(Serialize, Deserialize)]
struct MachineCard {
    secret: [u8; 32],
    author: [u8; 32],
    addr: EndpointAddr,
}

/// What became of a claim, once it is over.
type Outcome = watch::Receiver<Option<Result<PeerId, ClaimError>>>;

/// Waits until a claim is over. It can be asked again and again.
async fn outcome_of(outcome: &mut Outcome) -> Result<PeerId, ClaimError> {
    let over = outcome.wait_for(Option::is_some).await;
    over.ok().and_then(|over| over.clone()).unwrap_or(Err(ClaimError::ShutDown))
}

/// How long the other side may take to make room for a message of a claim, and to receive the last one. Without it, one that
/// takes no byte would keep its claim for ever.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The time for which a claim that was refused keeps its peer from the next one (100 ms).
const REFUSED_FOR: Duration = Duration::from_millis(100);

fn keying(connection: &Connection) -> Option<[u8; 32]> {
    let mut keying = [0; 32];
    connection.export_keying_material(&mut keying, CLAIM_KEYING_LABEL, &[]).ok()?;
    Some(keying)
}

fn own_addr(kv: &Kv) -> Option<EndpointAddr> {
    kv.shared.endpoint().map(|endpoint| network::own_address(&endpoint))
}

/// Whether a machine takes claims now, and who has claimed it in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimsOpen {
    /// Whether any manager may claim it.
    pub open: bool,
    /// For how long, where a person has [opened](crate::Machine::open_claims) it for a time.
    pub open_for: Option<Duration>,
    /// For how long the one-time secret of a [ticket](crate::Machine::claim_ticket) admits a claim, where there is one.
    pub secret_for: Option<Duration>,
    /// How many claims more may be in vain before all are refused.
    pub attempts_left: usize,
    /// Who has claimed it in vain, and how often, those with the most first.
    pub attempts: Vec<(PeerId, usize)>,
}

/// The machine's side: the claims under way, and what its person is asked.
pub(crate) struct Claims {
    kv: Arc<Kv>,
    pairing: Mutex<MachinePairing>,
    /// Claims that nobody has looked at yet, the oldest first. Those that are over are taken out when one comes in, so
    /// that there are at most a few more than are under way at once.
    shown: Mutex<VecDeque<IncomingClaim>>,
    /// Told when one is shown.
    looked_for: Notify,
    /// Counts what a claim under way, or who looks at the door, may have to look at.
    changes: watch::Sender<u64>,
    begun: Instant,
}

/// Keeps a machine open for claims until it is dropped.
#[must_use = "the machine is open for claims only while this is kept"]
pub struct ClaimsHeldOpen(Arc<Claims>);

impl std::fmt::Debug for ClaimsHeldOpen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClaimsHeldOpen")
    }
}

impl Drop for ClaimsHeldOpen {
    fn drop(&mut self) {
        self.0.with(|pairing, _| pairing.let_go());
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Claims {
    /// Answers the claims of a machine from now on. It takes none before it is opened.
    pub(crate) fn start(kv: &Arc<Kv>) -> Arc<Self> {
        let manager = kv.own().and_then(|own| own.identity().peer());
        let pairing = MachinePairing::new(manager.map(|peer| PeerKey(*peer.as_bytes())));
        let pairing = pairing.with_timeout(kv.claim_timeout_ms);
        let claims = Arc::new(Self {
            kv: kv.clone(),
            pairing: Mutex::new(pairing),
            shown: Mutex::default(),
            looked_for: Notify::new(),
            changes: watch::Sender::new(0),
            begun: Instant::now(),
        });
        kv.answer_claims(Box::new(Arc::downgrade(&claims)));
        claims
    }

    /// Changes something that claims under way, or those who look at the door, have to look at.
    fn with<T>(&self, change: impl FnOnce(&mut MachinePairing, u64) -> T) -> T {
        let changed = change(&mut lock(&self.pairing), self.now_ms());
        self.changes.send_modify(|changes| *changes += 1);
        changed
    }

    /// A person lets managers claim the machine for a time.
    pub(crate) fn open(&self, time: Duration) {
        self.with(|pairing, now| pairing.open(now, milliseconds(time)));
    }

    pub(crate) fn close(&self) {
        self.with(|pairing, _| pairing.close());
    }

    /// Somebody waits for a claim.
    fn hold(self: &Arc<Self>) -> ClaimsHeldOpen {
        self.with(|pairing, _| pairing.hold());
        ClaimsHeldOpen(self.clone())
    }

    /// A person waits for a claim: what was in vain before is forgiven.
    pub(crate) fn hold_open(self: &Arc<Self>) -> ClaimsHeldOpen {
        // Opened for no time, it stays open for what was granted before.
        self.with(|pairing, now| {
            let before = pairing.claims_open(now).open_for_ms.unwrap_or_default();
            pairing.open(now, before);
        });
        self.hold()
    }

    pub(crate) fn offer(&self, secret: &ClaimSecret, time: Duration) {
        self.with(|pairing, now| pairing.offer(now, secret, milliseconds(time)));
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn claims_open(&self) -> ClaimsOpen {
        let open = lock(&self.pairing).claims_open(self.now_ms());
        // Every one of these keys was proved by a connection.
        let peer = |(key, count): &(PeerKey, usize)| Some((PeerId::from_bytes(&key.0).ok()?, *count));
        ClaimsOpen {
            open: open.open,
            open_for: open.open_for_ms.map(Duration::from_millis),
            secret_for: open.secret_for_ms.map(Duration::from_millis),
            attempts_left: open.attempts_left,
            attempts: open.attempts.iter().filter_map(peer).collect(),
        }
    }

    /// Waits for a claim that nobody has looked at, until the machine is shut down. The machine is open meanwhile.
    pub(crate) async fn next_open(self: &Arc<Self>) -> Option<IncomingClaim> {
        let _open = self.hold();
        self.next().await
    }

    /// Waits for a claim that nobody has looked at, until the machine is shut down.
    pub(crate) async fn next(&self) -> Option<IncomingClaim> {
        loop {
            if let Some(claim) = self.take_shown() {
                return Some(claim);
            }
            tokio::select! {
                () = self.looked_for.notified() => {}
                () = self.kv.closing.cancelled() => return None,
            }
        }
    }

    /// The oldest claim that nobody has looked at. One that has ended before anybody looked is not shown.
    fn take_shown(&self) -> Option<IncomingClaim> {
        let mut shown = lock(&self.shown);
        shown.retain(|claim| !claim.answer.is_closed());
        shown.pop_front()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn answer(self: Arc<Self>, stream: Stream) {
        let Stream { peer, connection, place, share, mut send, recv } = stream;
        // In the order in which they come.
        let one_at_a_time = timeout(HELLO_TIMEOUT, peer.claiming.clone().lock_owned()).await;
        let peer = peer.id;
        let mut reader = FrameReader::new(recv, MAX_CLAIM_MESSAGE_BYTES);
        let (Ok(one_at_a_time), Some(keying)) = (one_at_a_time, keying(&connection)) else {
            return CloseCode::Later.end(&mut send, &mut reader);
        };
        let Ok(Ok(first)) = timeout(HELLO_TIMEOUT, reader.next()).await else {
            return CloseCode::Hello.end(&mut send, &mut reader);
        };
        let first = decode_claim(&first);
        let manager = PeerKey(*peer.as_bytes());
        let secrets = ClaimSecrets { keying, nonce: rand::random() };
        // Subscribed before it is admitted: from then on another claim may end it.
        let mut changes = self.changes.subscribe();
        let begun = first.and_then(|first| self.with(|pairing, now| pairing.claim(now, manager, secrets, &first)));
        let (id, nonce) = match begun {
            Ok(begun) => begun,
            Err(refusal) => {
                if let Some(left_out) = self.kv.shared.stranger_log.line() {
                    info!(%refusal, left_out, "a claim is refused");
                }
                say(&mut send, &ToManager::Refused(refusal)).await;
                last_words(send).await;
                // A peer that claims in vain comes again no faster.
                sleep(REFUSED_FOR).await;
                return;
            }
        };
        drop(one_at_a_time);
        drop(share);
        // Whatever happens here, the next claim finds the way free.
        let under_way = UnderWay { claims: self.clone(), id, _place: place.claims() };
        say(&mut send, &nonce).await;
        let mut answer: Option<oneshot::Receiver<bool>> = None;
        let over = watch::Sender::new(None);
        loop {
            let deadline = lock(&self.pairing).deadline_ms(id).map(|at| self.begun + Duration::from_millis(at));
            let outputs = tokio::select! {
                body = reader.next() => {
                    let input = match body {
                        Ok(body) => decode_to_machine(&body).map_or(MachineInput::Unreadable, MachineInput::Message),
                        Err(_) => MachineInput::Disconnected,
                    };
                    lock(&self.pairing).handle(id, input)
                }
                said = until_answered(&mut answer) => lock(&self.pairing).handle(id, MachineInput::Answer(said)),
                () = until(deadline) => lock(&self.pairing).tick(id, self.now_ms()),
                // The sender lives as long as this task.
                _ = changes.changed() => lock(&self.pairing).tick(id, self.now_ms()),
                () = self.kv.closing.cancelled() => {
                    // Who has said yes here already takes nothing back: the claim ends with the machine.
                    let mut pairing = lock(&self.pairing);
                    let mut outputs = pairing.handle(id, MachineInput::Answer(false));
                    outputs.extend(pairing.handle(id, MachineInput::Disconnected));
                    outputs
                }
            };
            let mut outputs: VecDeque<MachineOutput> = outputs.into();
            while let Some(output) = outputs.pop_front() {
                match output {
                    MachineOutput::Send(message) => say(&mut send, &message).await,
                    MachineOutput::ShowPin(pin) => {
                        let (said, receiver) = oneshot::channel();
                        answer = Some(receiver);
                        let claim = IncomingClaim { pin, manager: peer, answer: said, outcome: over.subscribe() };
                        let mut shown = lock(&self.shown);
                        shown.retain(|claim| !claim.answer.is_closed());
                        shown.push_back(claim);
                        drop(shown);
                        self.looked_for.notify_one();
                    }
                    MachineOutput::Store { manager: _, payload } => {
                        // The others end.
                        self.changes.send_modify(|changes| *changes += 1);
                        // Until the claim knows that it is stored, nobody ends the pairing.
                        let _changing = self.kv.pair_changes.lock().await;
                        fault_point!(self.kv.shared.kv, "storing a claim");
                        let input = match self.store(&connection, &payload).await {
                            Ok(payload) => MachineInput::Stored(payload),
                            Err(error) => {
                                warn!(error, "a claim cannot be stored");
                                MachineInput::StoreFailed
                            }
                        };
                        fault_point!(self.kv.shared.kv, "claim stored");
                        outputs.extend(self.with(|pairing, _| pairing.handle(id, input)));
                    }
                    MachineOutput::Ended(result) => {
                        match result {
                            Ok(manager) => info!(%manager, "claimed"),
                            Err(error) => {
                                if let Some(left_out) = self.kv.shared.stranger_log.line() {
                                    info!(%error, left_out, "a claim came to nothing");
                                }
                            }
                        }
                        // Who is to answer need not any more.
                        drop(answer);
                        drop(under_way);
                        over.send_replace(Some(result.map(|_| peer).map_err(ClaimError::Claim)));
                        return last_words(send).await;
                    }
                }
            }
        }
    }

    /// Stores whose the machine is, and makes what the manager gets.
    async fn store(&self, connection: &Connection, payload: &ClaimPayload) -> Result<ClaimPayload, String> {
        let card: ManagerCard = decode(payload.as_bytes()).map_err(|error| error.to_string())?;
        let (peer, kv) = (connection.remote_id(), &self.kv);
        let document = kv.own().ok_or("the machine has no document")?;
        let before = document.identity();
        let standing = Standing::Paired { peer, author: card.author };
        let row = DocumentRow { standing, ..before.row() };
        let stored = kv.keeper.restand(&document, &before, kv.identity_again(before.number, &row)).await;
        stored.map_err(|error| error.to_string())?;
        if card.addr.id == peer {
            remember_addr(&kv.shared, &card.addr).await;
        }
        let card = MachineCard {
            secret: row.secret,
            author: kv.signer.id().to_bytes(),
            addr: own_addr(kv).ok_or("the node is shut down")?,
        };
        let bytes = encode(&card).map_err(|error| error.to_string())?;
        ClaimPayload::new(&bytes).map_err(|error| error.to_string())
    }
}

impl Claimed for Weak<Claims> {
    fn claim(&self, stream: Stream) {
        let Some(claims) = self.upgrade() else { return };
        let kv = claims.kv.clone();
        kv.tasks.clone().spawn(async move {
            tokio::select! {
                () = claims.answer(stream) => {}
                () = kv.closed.cancelled() => {}
            }
        });
    }

    fn released(&self) {
        if let Some(claims) = self.upgrade() {
            claims.with(|pairing, _| pairing.released());
        }
    }
}

/// A claim that is answered by a task, until that ends in whatever way.
struct UnderWay {
    claims: Arc<Claims>,
    id: ClaimId,
    /// No newcomer takes the place of the peer meanwhile.
    _place: Option<ClaimPlace>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        drop(lock(&self.claims.pairing).handle(self.id, MachineInput::Disconnected));
    }
}

async fn until_answered(answer: &mut Option<oneshot::Receiver<bool>>) -> bool {
    match answer {
        None => std::future::pending().await,
        Some(receiver) => {
            // Who drops the request has not confirmed it.
            let said = receiver.await.unwrap_or(false);
            *answer = None;
            said
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn say<M: Serialize>(send: &mut SendStream, message: &M) {
    let mut frame = Vec::new();
    if encode_frame(message, &mut frame).is_err() {
        return;
    }
    match timeout(LAST_WORDS, send.write_all(&frame)).await {
        Ok(Ok(())) => {}
        // The end of the connection is noticed where it is read.
        Ok(Err(_)) => debug!("a message of a claim is not sent"),
        // Half of it may be sent, so that nothing more can be.
        Err(_) => drop(send.reset(CloseCode::Violation.code())),
    }
}

/// Waits until the other side has what was said.
async fn last_words(mut send: SendStream) {
    let _ = send.finish();
    let _ = timeout(LAST_WORDS, send.stopped()).await;
}

/// A claim that the machine's person has to answer. There can be a few at once: the one that is meant has the PIN that the
/// manager shows.
///
/// ```no_run
/// # async fn example(machine: groundswell::Machine) -> Result<(), groundswell::ClaimError> {
/// # fn the_person_sees_the_same(_: groundswell::ClaimPin) -> bool { true }
/// while let Some(claim) = machine.await_incoming_claim().await {
///     let same = the_person_sees_the_same(claim.pin);
///     println!("{} is the manager now", claim.answer(same).await?);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct IncomingClaim {
    /// The PIN, that the manager shows too if nobody is in between.
    pub pin: ClaimPin,
    /// The manager who claims.
    pub manager: PeerId,
    pub(crate) answer: oneshot::Sender<bool>,
    outcome: Outcome,
}

impl IncomingClaim {
    /// Waits until the claim is over although it was not answered here, and says why: the other side
    /// has declined, a minute has passed, the connection or the machine has ended. Cancel safe.
    pub async fn over(&mut self) -> ClaimError {
        // Without an answer from here there is no pair.
        outcome_of(&mut self.outcome).await.err().unwrap_or(ClaimError::ShutDown)
    }

    /// Says whether the PINs are the same, and waits for the other side to say so too, and for the pair
    /// to be stored here: a minute at most. It returns the manager. Dropping the future does not take
    /// the answer back. A claim that is dropped without an answer is declined.
    pub fn answer(self, same: bool) -> impl Future<Output = Result<PeerId, ClaimError>> + Send + 'static {
        let Self { answer, mut outcome, .. } = self;
        // A claim that has ended meanwhile says why below.
        let _ = answer.send(same);
        async move { outcome_of(&mut outcome).await }
    }
}
