//! The machine's side: whose it is, whether it takes claims, and the few that may be under way.

use alloc::{vec, vec::Vec};

use super::{
    CLAIM_VERSIONS, ClaimError, ClaimPayload, ClaimPin, ClaimSecret, ClaimSecrets, PeerKey, Refusal, ToMachine,
    ToManager, commitment,
    door::{Door, Way},
};
use crate::{
    limits::{CLAIM_REVEAL_TIMEOUT_MS, CLAIM_TIMEOUT_MS, MAX_CLAIM_ATTEMPTS, MAX_CLAIMS_AT_ONCE},
    wire::Extension,
};

/// One claim among all that a machine was asked for in this run. An answer or an end that comes
/// late belongs to its own claim, and does nothing to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

/// What happened to a claim that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineInput {
    /// The manager sent this.
    Message(ToMachine),
    /// The manager sent what can't be read.
    Unreadable,
    /// The person has looked at the PIN, and it is the other side's, or not.
    Answer(bool),
    /// What [`MachineOutput::Store`] asks for is durable; this goes to the manager.
    Stored(ClaimPayload),
    /// It could not be stored.
    StoreFailed,
    /// The connection has ended.
    Disconnected,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineOutput {
    /// Send this to the manager.
    Send(ToManager),
    /// Show the PIN, and ask the person: [`MachineInput::Answer`].
    ShowPin(ClaimPin),
    /// Both people have confirmed: store whose the machine is, with what the manager sent
    /// along, and say [`MachineInput::Stored`].
    Store {
        /// The manager.
        manager: PeerKey,
        /// What it sent along.
        payload: ClaimPayload,
    },
    /// The claim has ended. With a pair, the handover is sent before.
    Ended(Result<PeerKey, ClaimError>),
}

/// Whether a machine takes claims now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimsOpen {
    /// Whether any manager may claim it.
    pub open: bool,
    /// For how long, in milliseconds, where a person has opened it for a time.
    pub open_for_ms: Option<u64>,
    /// For how long the one-time secret of a ticket admits a claim, in milliseconds, where there is one.
    pub secret_for_ms: Option<u64>,
    /// How many claims more may be in vain before all are refused.
    pub attempts_left: usize,
    /// Who has claimed it in vain, and how often, those with the most first.
    pub attempts: Vec<(PeerKey, usize)>,
}

/// The machine's side of pairing, for as long as its process runs.
#[derive(Debug)]
pub struct MachinePairing {
    manager: Option<PeerKey>,
    /// The oldest first, at most [`MAX_CLAIMS_AT_ONCE`] that are not to end.
    pending: Vec<Pending>,
    claims: u64,
    timeout_ms: u64,
    door: Door,
}

#[derive(Debug)]
struct Pending {
    id: ClaimId,
    manager: PeerKey,
    /// It has proved the one-time secret, or is of the machine's own manager: no stranger's claim is in its way.
    preferred: bool,
    began_ms: u64,
    stage: Stage,
    /// Why it is to end, where another claim or a release has decided so.
    ending: Option<ClaimError>,
}

#[derive(Debug)]
enum Stage {
    /// The manager is bound to its nonce, and knows ours.
    Bound { secrets: ClaimSecrets, commitment: [u8; 32] },
    /// Both sides show the PIN.
    Shown { ours: bool, theirs: Option<ClaimPayload> },
    /// Both people have confirmed. Nothing but the storage decides now.
    Storing,
}

impl Pending {
    fn is_storing(&self) -> bool {
        matches!(self.stage, Stage::Storing)
    }

    fn deadline_ms(&self, timeout_ms: u64) -> u64 {
        match self.stage {
            Stage::Bound { .. } => self.began_ms.saturating_add(timeout_ms.min(CLAIM_REVEAL_TIMEOUT_MS)),
            Stage::Shown { .. } => self.began_ms.saturating_add(timeout_ms),
            Stage::Storing => u64::MAX,
        }
    }
}

impl MachinePairing {
    /// The machine as it is stored: with its manager, or unclaimed. It takes no claims yet.
    pub fn new(manager: Option<PeerKey>) -> Self {
        Self { manager, pending: Vec::new(), claims: 0, timeout_ms: CLAIM_TIMEOUT_MS, door: Door::default() }
    }

    /// The same with another time for a claim, in milliseconds, in place of [`CLAIM_TIMEOUT_MS`].
    pub fn with_timeout(self, timeout_ms: u64) -> Self {
        Self { timeout_ms, ..self }
    }

    /// Whose the machine is.
    pub fn manager(&self) -> Option<PeerKey> {
        self.manager
    }

    /// A person lets managers claim the machine, for so long and at most
    /// [`MAX_CLAIMS_OPEN_MS`](crate::limits::MAX_CLAIMS_OPEN_MS). Claims in vain before are forgiven.
    pub fn open(&mut self, now_ms: u64, for_ms: u64) {
        self.door.open(now_ms, for_ms);
    }

    /// A person ends that. Claims under way go on.
    pub fn close(&mut self) {
        self.door.close();
    }

    /// Somebody waits for a claim: the machine takes claims until [`Self::let_go`].
    pub fn hold(&mut self) {
        self.door.hold();
    }

    /// Who waited waits no more.
    pub fn let_go(&mut self) {
        self.door.let_go();
    }

    /// A ticket with this secret admits claims, once, for so long and at most
    /// [`MAX_CLAIM_SECRET_MS`](crate::limits::MAX_CLAIM_SECRET_MS). It takes the place of the secret before.
    pub fn offer(&mut self, now_ms: u64, secret: &ClaimSecret, for_ms: u64) {
        self.door.offer(now_ms, secret, for_ms);
    }

    /// Whether the machine takes claims.
    pub fn claims_open(&self, now_ms: u64) -> ClaimsOpen {
        let attempts = self.door.attempts(now_ms);
        let used: usize = attempts.iter().map(|(_, count)| count).sum();
        ClaimsOpen {
            open: self.door.is_open(now_ms),
            open_for_ms: self.door.open_for_ms(now_ms),
            secret_for_ms: self.door.secret_for_ms(now_ms),
            attempts_left: MAX_CLAIM_ATTEMPTS.saturating_sub(used),
            attempts,
        }
    }

    /// Which claims are under way, and by whom, the oldest first.
    pub fn pending(&self) -> impl Iterator<Item = (ClaimId, PeerKey)> {
        self.pending.iter().map(|pending| (pending.id, pending.manager))
    }

    /// When [`Self::tick`] is to be called for a claim.
    pub fn deadline_ms(&self, claim: ClaimId) -> Option<u64> {
        let pending = self.pending.iter().find(|pending| pending.id == claim && !pending.is_storing())?;
        Some(pending.deadline_ms(self.timeout_ms))
    }

    /// The first message of a new connection of this peer. If the claim is admitted, what follows
    /// on that connection, and what the person answers, goes to [`Self::handle`] until it
    /// has [ended](MachineOutput::Ended). Otherwise the refusal is sent and the connection closed.
    ///
    /// The machine's own manager may claim again: it is asked for the PIN like any other, and gets the same document.
    /// Its claim, and one with a one-time secret, takes the place of the oldest other one where all places are
    /// taken: see [`Self::tick`].
    pub fn claim(
        &mut self,
        now_ms: u64,
        manager: PeerKey,
        secrets: ClaimSecrets,
        message: &ToMachine,
    ) -> Result<(ClaimId, ToManager), Refusal> {
        let ToMachine::Claim { versions, commitment, proof, .. } = message else { return Err(Refusal::Malformed) };
        // The messages of a claim are the same in every version so far.
        let _version = CLAIM_VERSIONS.common(*versions).map_err(Refusal::Versions)?;
        if self.manager.is_some_and(|owner| owner != manager) {
            return Err(Refusal::Taken);
        }
        let way = self.door.way(now_ms, manager, &secrets.keying, commitment, proof.as_ref())?;
        let preferred = way == Way::Secret || self.manager == Some(manager);
        let going = || self.pending.iter().filter(|pending| pending.ending.is_none());
        if going().any(|pending| pending.manager == manager || pending.is_storing()) {
            return Err(Refusal::Busy);
        }
        if going().count() >= MAX_CLAIMS_AT_ONCE {
            let place = going().find(|pending| preferred && !pending.preferred).map(|pending| pending.id);
            self.end_later(ClaimError::Superseded, |pending| Some(pending.id) == place);
            place.ok_or(Refusal::Busy)?;
        }
        self.door.count(now_ms, manager, way);
        let stage = Stage::Bound { secrets, commitment: *commitment };
        self.claims += 1;
        let id = ClaimId(self.claims);
        self.pending.push(Pending { id, manager, preferred, began_ms: now_ms, stage, ending: None });
        let (versions, nonce, extension) = (CLAIM_VERSIONS, secrets.nonce, Extension::default());
        Ok((id, ToManager::Nonce { versions, nonce, extension }))
    }

    /// Something happened to a claim. To one that is over nothing does.
    pub fn handle(&mut self, claim: ClaimId, input: MachineInput) -> Vec<MachineOutput> {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == claim) else { return Vec::new() };
        if let Some(why) = pending.ending {
            return self.end(claim, why);
        }
        match (&mut pending.stage, input) {
            (Stage::Storing, MachineInput::Stored(payload)) => {
                let manager = pending.manager;
                self.manager = Some(manager);
                self.pending.retain(|pending| pending.id != claim);
                self.door.paired();
                vec![MachineOutput::Send(ToManager::Handover { payload }), MachineOutput::Ended(Ok(manager))]
            }
            (Stage::Storing, MachineInput::StoreFailed) => self.end(claim, ClaimError::Storage),
            // Both have confirmed. A manager that is gone claims again, and gets the same.
            (Stage::Storing, _) => Vec::new(),
            (_, MachineInput::Stored(_) | MachineInput::StoreFailed) => Vec::new(),
            (_, MachineInput::Disconnected) => self.end(claim, ClaimError::Disconnected),
            (_, MachineInput::Unreadable) => self.end(claim, ClaimError::OutOfOrder("bytes that are no message")),
            (_, MachineInput::Message(ToMachine::Decline)) => self.end(claim, ClaimError::DeclinedThere),
            (Stage::Bound { secrets, commitment: bound }, MachineInput::Message(ToMachine::Reveal { nonce })) => {
                if commitment(&nonce) != *bound {
                    return self.end(claim, ClaimError::WrongCommitment);
                }
                let pin = ClaimPin::derive(&secrets.keying, &nonce, &secrets.nonce);
                pending.stage = Stage::Shown { ours: false, theirs: None };
                vec![MachineOutput::ShowPin(pin)]
            }
            (Stage::Shown { ours: false, .. }, MachineInput::Answer(false)) => {
                self.end(claim, ClaimError::DeclinedHere)
            }
            (Stage::Shown { ours, .. }, MachineInput::Answer(true)) => {
                *ours = true;
                self.store_if_both(claim)
            }
            // Nothing is shown yet, or it was answered.
            (_, MachineInput::Answer(_)) => Vec::new(),
            (Stage::Shown { theirs, .. }, MachineInput::Message(ToMachine::Confirm { payload }))
                if theirs.is_none() =>
            {
                *theirs = Some(payload);
                self.store_if_both(claim)
            }
            (_, MachineInput::Message(message)) => self.end(claim, ClaimError::OutOfOrder(message.name())),
        }
    }

    /// The time has come that [`Self::deadline_ms`] named, or another claim or a release may have decided that this
    /// one is to end. Otherwise nothing follows.
    pub fn tick(&mut self, claim: ClaimId, now_ms: u64) -> Vec<MachineOutput> {
        let Some(pending) = self.pending.iter().find(|pending| pending.id == claim) else { return Vec::new() };
        let timed_out = !pending.is_storing() && now_ms >= pending.deadline_ms(self.timeout_ms);
        match pending.ending.or(timed_out.then_some(ClaimError::TimedOut)) {
            Some(why) => self.end(claim, why),
            None => Vec::new(),
        }
    }

    /// A release is durable: the machine has a new document, and no manager. Claims that are under way end at their
    /// next [`Self::tick`], unless they are being stored. The driver releases nothing between [`MachineOutput::Store`] and
    /// [`MachineInput::Stored`].
    pub fn released(&mut self) {
        self.manager = None;
        self.end_later(ClaimError::Released, |_| true);
    }

    fn store_if_both(&mut self, claim: ClaimId) -> Vec<MachineOutput> {
        let Some(pending) = self.pending.iter_mut().find(|pending| pending.id == claim) else { return Vec::new() };
        let payload = match &mut pending.stage {
            Stage::Shown { ours: true, theirs } => theirs.take(),
            _ => None,
        };
        let Some(payload) = payload else { return Vec::new() };
        pending.stage = Stage::Storing;
        let manager = pending.manager;
        // The person has found the one that was meant.
        self.end_later(ClaimError::Superseded, |pending| pending.id != claim);
        vec![MachineOutput::Store { manager, payload }]
    }

    /// Claims end at their next tick, unless they are being stored.
    fn end_later(&mut self, why: ClaimError, which: impl Fn(&Pending) -> bool) {
        for pending in self.pending.iter_mut().filter(|pending| !pending.is_storing() && which(pending)) {
            pending.ending.get_or_insert(why);
        }
    }

    /// Ends a claim in vain, and tells the manager, if it is there.
    fn end(&mut self, claim: ClaimId, why: ClaimError) -> Vec<MachineOutput> {
        self.pending.retain(|pending| pending.id != claim);
        let refusal = match why {
            ClaimError::DeclinedHere | ClaimError::Released => Some(Refusal::Declined),
            ClaimError::TimedOut => Some(Refusal::TimedOut),
            ClaimError::Superseded => Some(Refusal::Busy),
            ClaimError::Storage => Some(Refusal::Storage),
            ClaimError::WrongCommitment | ClaimError::OutOfOrder(_) => Some(Refusal::Malformed),
            ClaimError::DeclinedThere | ClaimError::Disconnected | ClaimError::Refused(_) => None,
        };
        let told = refusal.map(|refusal| MachineOutput::Send(ToManager::Refused(refusal)));
        told.into_iter().chain([MachineOutput::Ended(Err(why))]).collect()
    }
}
