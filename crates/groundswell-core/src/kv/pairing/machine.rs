//! The machine's side: whose it is, and the one claim that may be under way.

use alloc::{collections::VecDeque, vec, vec::Vec};

use super::{
    CLAIM_VERSIONS, ClaimError, ClaimPayload, ClaimPin, ClaimSecrets, PeerKey, Refusal, ToMachine, ToManager,
    commitment,
};
use crate::{
    limits::{CLAIM_TIMEOUT_MS, CLAIM_WINDOW_MS, MAX_CLAIM_ATTEMPTS},
    wire::Extension,
};

/// One claim among all that a machine was asked for in this run. An answer or an end that comes
/// late belongs to its own claim, and does nothing to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(u64);

/// What happened to the claim that is under way.
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

/// Why a machine can't be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It has no manager, or not the one who asks.
    #[error("there is no such pair to release")]
    NotPaired,
    /// A claim by its manager is being stored.
    #[error("a claim is being stored: release again in a moment")]
    Storing,
}

/// The machine's side of pairing, for as long as its process runs.
#[derive(Debug)]
pub struct MachinePairing {
    manager: Option<PeerKey>,
    pending: Option<Pending>,
    claims: u64,
    timeout_ms: u64,
    /// When the claims began that were in vain so far, the newest last.
    in_vain: VecDeque<u64>,
}

#[derive(Debug)]
struct Pending {
    id: ClaimId,
    manager: PeerKey,
    deadline_ms: u64,
    stage: Stage,
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

impl MachinePairing {
    /// The machine as it is stored: with its manager, or unclaimed.
    pub fn new(manager: Option<PeerKey>) -> Self {
        Self { manager, pending: None, claims: 0, timeout_ms: CLAIM_TIMEOUT_MS, in_vain: VecDeque::new() }
    }

    /// The same with another time for a claim, in milliseconds, in place of [`CLAIM_TIMEOUT_MS`].
    pub fn with_timeout(self, timeout_ms: u64) -> Self {
        Self { timeout_ms, ..self }
    }

    /// Whose the machine is.
    pub fn manager(&self) -> Option<PeerKey> {
        self.manager
    }

    /// Which claim is under way, and by whom.
    pub fn pending(&self) -> Option<(ClaimId, PeerKey)> {
        self.pending.as_ref().map(|pending| (pending.id, pending.manager))
    }

    /// When [`Self::tick`] is to be called.
    pub fn deadline_ms(&self) -> Option<u64> {
        let pending = self.pending.as_ref().filter(|pending| !matches!(pending.stage, Stage::Storing));
        pending.map(|pending| pending.deadline_ms)
    }

    /// The first message of a new connection of this peer. If the claim is admitted, what follows
    /// on that connection, and what the person answers, goes to [`Self::handle`] until it
    /// has [ended](MachineOutput::Ended). Otherwise the refusal is sent and the connection closed.
    ///
    /// The machine's own manager may claim again, as often as it likes: it is asked for the PIN
    /// like any other, and gets the same document.
    pub fn claim(
        &mut self,
        now_ms: u64,
        manager: PeerKey,
        secrets: ClaimSecrets,
        message: &ToMachine,
    ) -> Result<(ClaimId, ToManager), Refusal> {
        let ToMachine::Claim { versions, commitment, .. } = message else { return Err(Refusal::Malformed) };
        // The messages of a claim are the same in every version so far.
        let _version = CLAIM_VERSIONS.common(*versions).map_err(Refusal::Versions)?;
        if self.manager.is_some_and(|owner| owner != manager) {
            return Err(Refusal::Taken);
        }
        if self.pending.is_some() {
            return Err(Refusal::Busy);
        }
        while self.in_vain.front().is_some_and(|began| now_ms.saturating_sub(*began) >= CLAIM_WINDOW_MS) {
            self.in_vain.pop_front();
        }
        if let Some(oldest) = self.in_vain.front().filter(|_| self.in_vain.len() >= MAX_CLAIM_ATTEMPTS) {
            let retry_after_ms = CLAIM_WINDOW_MS - now_ms.saturating_sub(*oldest);
            return Err(Refusal::TooManyAttempts { retry_after_ms });
        }
        self.in_vain.push_back(now_ms);
        let deadline_ms = now_ms.saturating_add(self.timeout_ms);
        let stage = Stage::Bound { secrets, commitment: *commitment };
        self.claims += 1;
        let id = ClaimId(self.claims);
        self.pending = Some(Pending { id, manager, deadline_ms, stage });
        let (versions, nonce, extension) = (CLAIM_VERSIONS, secrets.nonce, Extension::default());
        Ok((id, ToManager::Nonce { versions, nonce, extension }))
    }

    /// Something happened to a claim. To one that is over nothing does.
    pub fn handle(&mut self, claim: ClaimId, input: MachineInput) -> Vec<MachineOutput> {
        let Some(pending) = self.pending.as_mut().filter(|pending| pending.id == claim) else { return Vec::new() };
        match (&mut pending.stage, input) {
            (Stage::Storing, MachineInput::Stored(payload)) => {
                let manager = pending.manager;
                self.manager = Some(manager);
                self.pending = None;
                self.in_vain.clear();
                vec![MachineOutput::Send(ToManager::Handover { payload }), MachineOutput::Ended(Ok(manager))]
            }
            (Stage::Storing, MachineInput::StoreFailed) => self.end(ClaimError::Storage),
            // Both have confirmed. A manager that is gone claims again, and gets the same.
            (Stage::Storing, _) => Vec::new(),
            (_, MachineInput::Stored(_) | MachineInput::StoreFailed) => Vec::new(),
            (_, MachineInput::Disconnected) => self.end(ClaimError::Disconnected),
            (_, MachineInput::Unreadable) => self.end(ClaimError::OutOfOrder("bytes that are no message")),
            (_, MachineInput::Message(ToMachine::Decline)) => self.end(ClaimError::DeclinedThere),
            (Stage::Bound { secrets, commitment: bound }, MachineInput::Message(ToMachine::Reveal { nonce })) => {
                if commitment(&nonce) != *bound {
                    return self.end(ClaimError::WrongCommitment);
                }
                let pin = ClaimPin::derive(&secrets.keying, &nonce, &secrets.nonce);
                pending.stage = Stage::Shown { ours: false, theirs: None };
                vec![MachineOutput::ShowPin(pin)]
            }
            (Stage::Shown { ours: false, .. }, MachineInput::Answer(false)) => self.end(ClaimError::DeclinedHere),
            (Stage::Shown { ours, .. }, MachineInput::Answer(true)) => {
                *ours = true;
                self.store_if_both()
            }
            // Nothing is shown yet, or it was answered.
            (_, MachineInput::Answer(_)) => Vec::new(),
            (Stage::Shown { theirs, .. }, MachineInput::Message(ToMachine::Confirm { payload }))
                if theirs.is_none() =>
            {
                *theirs = Some(payload);
                self.store_if_both()
            }
            (_, MachineInput::Message(message)) => self.end(ClaimError::OutOfOrder(message.name())),
        }
    }

    /// The time has come that [`Self::deadline_ms`] named, or not yet.
    pub fn tick(&mut self, now_ms: u64) -> Vec<MachineOutput> {
        match self.deadline_ms() {
            Some(deadline) if now_ms >= deadline => self.end(ClaimError::TimedOut),
            _ => Vec::new(),
        }
    }

    /// Whether the pair may be released: by the person here (`None`), or by this peer. It returns
    /// whose the machine was. Nothing changes until [`Self::released`] says that it is durable.
    pub fn release(&self, by: Option<PeerKey>) -> Result<PeerKey, ReleaseError> {
        let manager = self.manager.ok_or(ReleaseError::NotPaired)?;
        if by.is_some_and(|peer| peer != manager) {
            return Err(ReleaseError::NotPaired);
        }
        match &self.pending {
            Some(Pending { stage: Stage::Storing, .. }) => Err(ReleaseError::Storing),
            _ => Ok(manager),
        }
    }

    /// The release is durable: the machine has a new document, and no manager. A claim that was
    /// under way ends, unless it is being stored.
    pub fn released(&mut self) -> Vec<MachineOutput> {
        self.manager = None;
        match &self.pending {
            Some(pending) if !matches!(pending.stage, Stage::Storing) => self.end(ClaimError::Released),
            _ => Vec::new(),
        }
    }

    fn store_if_both(&mut self) -> Vec<MachineOutput> {
        let Some(pending) = &mut self.pending else { return Vec::new() };
        let payload = match &mut pending.stage {
            Stage::Shown { ours: true, theirs } => theirs.take(),
            _ => None,
        };
        let Some(payload) = payload else { return Vec::new() };
        pending.stage = Stage::Storing;
        vec![MachineOutput::Store { manager: pending.manager, payload }]
    }

    /// Ends the claim under way in vain, and tells the manager, if it is there.
    fn end(&mut self, why: ClaimError) -> Vec<MachineOutput> {
        self.pending = None;
        let refusal = match why {
            ClaimError::DeclinedHere | ClaimError::Released => Some(Refusal::Declined),
            ClaimError::TimedOut => Some(Refusal::TimedOut),
            ClaimError::Storage => Some(Refusal::Storage),
            ClaimError::WrongCommitment | ClaimError::OutOfOrder(_) => Some(Refusal::Malformed),
            ClaimError::DeclinedThere | ClaimError::Disconnected | ClaimError::Refused(_) => None,
        };
        let told = refusal.map(|refusal| MachineOutput::Send(ToManager::Refused(refusal)));
        told.into_iter().chain([MachineOutput::Ended(Err(why))]).collect()
    }
}
