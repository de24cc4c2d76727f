//! The manager's side of one claim.

use alloc::{vec, vec::Vec};

use super::{
    CLAIM_VERSIONS, ClaimError, ClaimPayload, ClaimPin, ClaimSecret, ClaimSecrets, Refusal, ToMachine, ToManager,
    commitment,
};
use crate::{limits::CLAIM_TIMEOUT_MS, wire::Extension};

/// What happened to the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagerInput {
    /// The machine sent this.
    Message(ToManager),
    /// The machine sent what can't be read.
    Unreadable,
    /// The person has looked at the PIN, and it is the other side's, or not.
    Answer(bool),
    /// What [`ManagerOutput::Store`] asks for is durable.
    Stored,
    /// It could not be stored.
    StoreFailed,
    /// The connection has ended.
    Disconnected,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManagerOutput {
    /// Send this to the machine.
    Send(ToMachine),
    /// Show the PIN, and ask the person: [`ManagerInput::Answer`].
    ShowPin(ClaimPin),
    /// The machine is this manager's: store what it handed over, and say [`ManagerInput::Stored`].
    Store(ClaimPayload),
    /// The claim has ended: the machine is paired, or why not.
    Ended(Result<(), ClaimError>),
}

/// One claim, from the connection to its end.
#[derive(Debug)]
pub struct ManagerClaim {
    secrets: ClaimSecrets,
    /// What the machine gets with the consent of the person here.
    payload: ClaimPayload,
    deadline_ms: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The commitment was sent.
    Bound,
    /// Both sides show the PIN.
    Shown,
    /// The person here has confirmed.
    Confirmed,
    /// The machine is ours. Nothing but the storage decides now.
    Storing,
    /// It is over.
    Ended,
}

impl ManagerClaim {
    /// A claim, and its first message. The payload is what the machine gets once the person here
    /// has confirmed the PIN; the secret is that of the machine's ticket, if it has one.
    pub fn new(
        now_ms: u64,
        secrets: ClaimSecrets,
        payload: ClaimPayload,
        one_time: Option<&ClaimSecret>,
    ) -> (Self, ToMachine) {
        let deadline_ms = now_ms.saturating_add(CLAIM_TIMEOUT_MS);
        let (versions, extension) = (CLAIM_VERSIONS, Extension::default());
        let commitment = commitment(&secrets.nonce);
        let proof = one_time.map(|secret| secret.prove(&secrets.keying, &commitment));
        let first = ToMachine::Claim { versions, commitment, proof, extension };
        (Self { secrets, payload, deadline_ms, stage: Stage::Bound }, first)
    }

    /// The same with another time for it, in milliseconds from now, in place of [`CLAIM_TIMEOUT_MS`].
    pub fn with_timeout(self, now_ms: u64, timeout_ms: u64) -> Self {
        Self { deadline_ms: now_ms.saturating_add(timeout_ms), ..self }
    }

    /// When [`Self::tick`] is to be called.
    pub fn deadline_ms(&self) -> Option<u64> {
        (!matches!(self.stage, Stage::Storing | Stage::Ended)).then_some(self.deadline_ms)
    }

    /// Something happened. After the claim has ended, nothing follows.
    pub fn handle(&mut self, input: ManagerInput) -> Vec<ManagerOutput> {
        match (self.stage, input) {
            (Stage::Ended, _) => Vec::new(),
            (Stage::Storing, ManagerInput::Stored) => {
                self.stage = Stage::Ended;
                vec![ManagerOutput::Ended(Ok(()))]
            }
            (Stage::Storing, ManagerInput::StoreFailed) => self.end(ClaimError::Storage),
            // All that was needed is here.
            (Stage::Storing, _) => Vec::new(),
            (_, ManagerInput::Stored | ManagerInput::StoreFailed) => Vec::new(),
            (_, ManagerInput::Disconnected) => self.end(ClaimError::Disconnected),
            (_, ManagerInput::Unreadable) => self.end(ClaimError::OutOfOrder("bytes that are no message")),
            (_, ManagerInput::Message(ToManager::Refused(refusal))) => self.end(ClaimError::Refused(refusal)),
            (Stage::Bound, ManagerInput::Message(ToManager::Nonce { versions, nonce, .. })) => {
                // The machine has refused a claim without a common version, unless it is at fault.
                if let Err(mismatch) = CLAIM_VERSIONS.common(versions) {
                    return self.end(ClaimError::Refused(Refusal::Versions(mismatch.for_other_side())));
                }
                self.stage = Stage::Shown;
                let pin = ClaimPin::derive(&self.secrets.keying, &self.secrets.nonce, &nonce);
                let reveal = ToMachine::Reveal { nonce: self.secrets.nonce };
                vec![ManagerOutput::Send(reveal), ManagerOutput::ShowPin(pin)]
            }
            (Stage::Shown, ManagerInput::Answer(false)) => self.end(ClaimError::DeclinedHere),
            (Stage::Shown, ManagerInput::Answer(true)) => {
                self.stage = Stage::Confirmed;
                vec![ManagerOutput::Send(ToMachine::Confirm { payload: self.payload.clone() })]
            }
            // Nothing is shown yet, or it was answered.
            (Stage::Bound | Stage::Confirmed, ManagerInput::Answer(_)) => Vec::new(),
            (Stage::Confirmed, ManagerInput::Message(ToManager::Handover { payload })) => {
                self.stage = Stage::Storing;
                vec![ManagerOutput::Store(payload)]
            }
            (_, ManagerInput::Message(message)) => self.end(ClaimError::OutOfOrder(message.name())),
        }
    }

    /// The time has come that [`Self::deadline_ms`] named, or not yet.
    pub fn tick(&mut self, now_ms: u64) -> Vec<ManagerOutput> {
        match self.deadline_ms() {
            Some(deadline) if now_ms >= deadline => self.end(ClaimError::TimedOut),
            _ => Vec::new(),
        }
    }

    /// Ends the claim in vain, and tells the machine, if it waits still.
    fn end(&mut self, why: ClaimError) -> Vec<ManagerOutput> {
        let waits = !matches!(why, ClaimError::Disconnected | ClaimError::Refused(_) | ClaimError::Storage);
        self.stage = Stage::Ended;
        let told = waits.then_some(ManagerOutput::Send(ToMachine::Decline));
        told.into_iter().chain([ManagerOutput::Ended(Err(why))]).collect()
    }
}
