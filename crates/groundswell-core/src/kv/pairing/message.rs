//! The messages of a claim. Their order and their fields are the protocol: append, never insert.

use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    encoding::{DecodeError, decode, raw},
    limits::{MAX_CLAIM_ATTEMPTS, MAX_CLAIM_ATTEMPTS_OF_PEER, MAX_CLAIM_MESSAGE_BYTES, MAX_CLAIM_PAYLOAD_BYTES},
    wire::{Extension, VersionMismatch, VersionRange},
};

/// The versions of a claim's messages that this side speaks. Each side says its own in its first message.
pub const CLAIM_VERSIONS: VersionRange = VersionRange::only(2);

/// What a manager sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMachine {
    /// The first message, the manager's hello.
    Claim {
        /// The versions that the manager speaks. They stay in this place in every version.
        versions: VersionRange,
        /// The [commitment](super::commitment) to the manager's nonce.
        commitment: [u8; 32],
        /// The [proof](super::ClaimSecret::prove) of the ticket's one-time secret, where the ticket has one.
        proof: Option<[u8; 32]>,
        /// What later versions add.
        extension: Extension,
    },
    /// The nonce that was committed to.
    Reveal {
        /// The nonce.
        nonce: [u8; 32],
    },
    /// The person at the manager has confirmed the PIN.
    Confirm {
        /// What the machine has to know of the manager.
        payload: ClaimPayload,
    },
    /// The person at the manager has said no, or the manager gave up.
    Decline,
}

/// What a machine sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToManager {
    /// The claim is admitted: the machine's hello.
    Nonce {
        /// The versions that the machine speaks. They stay in this place in every version.
        versions: VersionRange,
        /// The machine's nonce.
        nonce: [u8; 32],
        /// What later versions add.
        extension: Extension,
    },
    /// Both people have confirmed, and the machine has stored whose it is.
    Handover {
        /// What the manager gets: the document, and what it has to know of the machine.
        payload: ClaimPayload,
    },
    /// The claim is refused, or has ended.
    Refused(Refusal),
}

/// Why a machine refuses a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The two sides speak no common version. The bytes of this one stay as they are in every version.
    #[error(
        "the machine speaks {} of the messages of a claim and the manager {}: update the {}",
        .0.ours, .0.theirs, if .0.ours_is_older() { "machine" } else { "manager" }
    )]
    Versions(
        /// As the machine sees it.
        VersionMismatch,
    ),
    /// Another manager has it.
    #[error("the machine is taken by another manager: release it first, from either side")]
    Taken,
    /// Others are under way, or one of this manager.
    #[error(
        "another claim of the machine is under way: answer it at the machine, or wait a minute. If strangers keep it busy, make a \
         ticket there with `groundswell claims --ticket`, and claim with that"
    )]
    Busy,
    /// There were too many claims in vain, of this manager or of all.
    #[error(
        "too many claims of the machine were in vain, {MAX_CLAIM_ATTEMPTS_OF_PEER} of this manager or \
         {MAX_CLAIM_ATTEMPTS} of all: open pairing at the machine again, or try again in {} s. If strangers use them up, make \
         a ticket there with `groundswell claims --ticket`, and claim with that",
        retry_after_ms.div_ceil(1_000)
    )]
    TooManyAttempts {
        /// When the next may come, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The person at the machine said no.
    #[error("the claim was declined at the machine")]
    Declined,
    /// Not both people answered in time.
    #[error("the claim timed out at the machine: claim again, and confirm the PIN on both sides sooner")]
    TimedOut,
    /// The machine could not make sense of a message.
    #[error("the machine could not follow the claim: is one side much older?")]
    Malformed,
    /// The machine's storage failed. Whether it has stored the pair is not known; claiming again completes it.
    #[error("the machine's storage failed, and it may have stored the pair or not: see its log, and claim again")]
    Storage,
    /// Nobody has opened pairing at the machine.
    #[error("the machine is not open for claims: run `groundswell claims` there, or press its button")]
    Closed,
    /// Nobody has opened pairing at the machine, and the ticket's one-time secret does not.
    #[error(
        "the machine is not open for claims, and the one-time secret of this ticket is used, expired or of another \
         machine: make a new ticket there with `groundswell claims --ticket`, or run `groundswell claims`"
    )]
    Secret,
}

/// What a side hands over with its consent: bytes that are the driver's, 4 KiB at most. What
/// they are is not printed, because a machine hands over the key to its document.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ClaimPayload(Bytes);

/// A payload that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a claim's payload of {bytes} bytes: at most {MAX_CLAIM_PAYLOAD_BYTES} are allowed")]
pub struct PayloadTooLong {
    /// How many bytes it has.
    pub bytes: usize,
}

impl ClaimPayload {
    /// Checks a payload and copies it.
    pub fn new(bytes: &[u8]) -> Result<Self, PayloadTooLong> {
        if bytes.len() > MAX_CLAIM_PAYLOAD_BYTES {
            return Err(PayloadTooLong { bytes: bytes.len() });
        }
        Ok(Self(Bytes::copy_from_slice(bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClaimPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClaimPayload({} bytes)", self.0.len())
    }
}

impl Serialize for ClaimPayload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        raw::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for ClaimPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(raw::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Bytes that are no message of a claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimMessageError {
    /// They are too many.
    #[error("a claim's message of {bytes} bytes: at most {MAX_CLAIM_MESSAGE_BYTES} are allowed")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// They can't be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

fn decode_within<'bytes, M: Deserialize<'bytes>>(bytes: &'bytes [u8]) -> Result<M, ClaimMessageError> {
    if bytes.len() > MAX_CLAIM_MESSAGE_BYTES {
        return Err(ClaimMessageError::TooLong { bytes: bytes.len() });
    }
    Ok(decode(bytes)?)
}

/// Reads the first message of a manager of any version; what to answer where it is no claim that this side
/// understands.
pub fn decode_claim(bytes: &[u8]) -> Result<ToMachine, Refusal> {
    // The number of the first message, then the versions.
    let (0, hello) = postcard::take_from_bytes::<u32>(bytes).map_err(|_| Refusal::Malformed)? else {
        return Err(Refusal::Malformed);
    };
    let theirs = VersionRange::of_hello(hello).map_err(|_| Refusal::Malformed)?;
    CLAIM_VERSIONS.common(theirs).map_err(Refusal::Versions)?;
    decode_to_machine(bytes).map_err(|_| Refusal::Malformed)
}

/// Reads what a manager sent: the body of a frame.
pub fn decode_to_machine(bytes: &[u8]) -> Result<ToMachine, ClaimMessageError> {
    decode_within(bytes)
}

/// Reads what a machine sent: the body of a frame.
pub fn decode_to_manager(bytes: &[u8]) -> Result<ToManager, ClaimMessageError> {
    decode_within(bytes)
}

impl ToMachine {
    /// Its name, for errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Claim { .. } => "a claim",
            Self::Reveal { .. } => "a nonce",
            Self::Confirm { .. } => "a confirmation",
            Self::Decline => "a refusal",
        }
    }
}

impl ToManager {
    /// Its name, for errors.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Nonce { .. } => "a nonce",
            Self::Handover { .. } => "a handover",
            Self::Refused(_) => "a refusal",
        }
    }
}
