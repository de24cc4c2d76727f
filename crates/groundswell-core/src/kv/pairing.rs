//! Pairing: how a manager claims a machine, with two people who compare six digits.
//!
//! The connection between the two is encrypted, but its ends may not be who they should be:
//! somebody may sit in the middle, with a connection to each. So both sides show a PIN that is
//! taken from their connection's keying material, which differs from connection to connection,
//! and a nonce of each side. Six digits can be searched for by one who may choose his nonce
//! last, so nobody may: the manager first commits itself to its nonce, then the machine sends
//! its own, then the manager reveals. Whoever is in the middle has to choose his nonce towards
//! each side before he knows that side's, and is left with one chance in a million a try.
//!
//! How many tries he has is bounded too. A machine takes claims only while a person has opened its
//! door, for a time or by waiting for one, or from a manager that proves to have the one-time secret of a
//! ticket. Each claim that is admitted counts, and a person who opens the door again forgives all.
//!
//! ```text
//! manager                                  machine
//!    | -- Claim { versions, commitment } ---> |   refused: no common version, taken, closed, busy
//!    | <--------- Nonce { versions, nonce } - |
//!    | -- Reveal { nonce } -----------------> |
//!    |  both show the PIN; both people look   |
//!    | -- Confirm { payload } --------------> |
//!    |                    stores the manager  |
//!    | <------------- Handover { payload } -- |
//!    |  stores the machine                    |
//! ```
//!
//! Both state machines are told the time and never ask for it, in milliseconds of a clock
//! that does not go back.

mod door;
mod machine;
mod manager;
mod message;
mod secret;

use core::fmt;

pub use machine::{ClaimId, ClaimsOpen, MachineInput, MachineOutput, MachinePairing};
pub use manager::{ManagerClaim, ManagerInput, ManagerOutput};
pub use message::{
    CLAIM_VERSIONS, ClaimMessageError, ClaimPayload, PayloadTooLong, Refusal, ToMachine, ToManager, decode_claim,
    decode_to_machine, decode_to_manager,
};
pub use secret::ClaimSecret;

/// The label with which a connection's keying material is exported for a claim (32 bytes of it).
pub const CLAIM_KEYING_LABEL: &[u8] = b"groundswell claim v1";

/// A device's public key, which its connections prove.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub [u8; 32]);

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerKey({self})")
    }
}

/// What one side of a claim starts with.
#[derive(Clone, Copy)]
pub struct ClaimSecrets {
    /// What the claim's connection exports under [`CLAIM_KEYING_LABEL`].
    pub keying: [u8; 32],
    /// 32 random bytes, for this claim alone.
    pub nonce: [u8; 32],
}

impl fmt::Debug for ClaimSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimSecrets(_)")
    }
}

/// The six digits that both sides show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimPin(u32);

impl ClaimPin {
    /// How many PINs there are.
    pub const COUNT: u32 = 1_000_000;

    /// The PIN as a number below [`Self::COUNT`]. Show the text, which has all its zeros.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The PIN of a connection and the two sides' nonces. Every PIN is as likely as another, but for
    /// one part in 2^108.
    pub fn derive(keying: &[u8; 32], manager_nonce: &[u8; 32], machine_nonce: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("groundswell claim v1: the PIN");
        hasher.update(keying).update(manager_nonce).update(machine_nonce);
        let mut wide = [0; 16];
        hasher.finalize_xof().fill(&mut wide);
        // Below COUNT, so that it fits.
        Self((u128::from_le_bytes(wide) % u128::from(Self::COUNT)) as u32)
    }
}

impl fmt::Display for ClaimPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// What binds a manager to its nonce before it knows the machine's.
pub fn commitment(nonce: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key("groundswell claim v1: the commitment to a nonce", nonce)
}

/// Why a claim ended without a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The person at this side said no.
    #[error("the claim was declined here")]
    DeclinedHere,
    /// The person at the other side said no.
    #[error("the claim was declined at the other side")]
    DeclinedThere,
    /// Not both people answered in time.
    #[error("the claim timed out: claim again, and confirm the PIN on both sides sooner")]
    TimedOut,
    /// The connection ended.
    #[error("the connection ended before both sides had confirmed: claim again")]
    Disconnected,
    /// The manager revealed another nonce than the one that it was bound to.
    #[error("the other side cheated: it revealed a nonce that it had not committed to; somebody may be in between")]
    WrongCommitment,
    /// A message came where none may.
    #[error("the other side sent {0} where none may come")]
    OutOfOrder(&'static str),
    /// The machine refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This side's storage failed. Whether it has stored the pair is not known; claiming again completes it.
    #[error(
        "storage failed here, and the pair may be stored or not: mend the storage, restart the node, and claim again, \
         which completes it"
    )]
    Storage,
    /// The machine was released meanwhile.
    #[error("the machine was released during the claim: claim again")]
    Released,
    /// Another claim was confirmed, or has taken this one's place.
    #[error("another claim has taken the place of this one")]
    Superseded,
}
