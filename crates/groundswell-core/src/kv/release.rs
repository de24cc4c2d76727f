//! The statement that ends a pairing. No other message does: "I do not know you" can be said by a side that has
//! lost its files, or that has not read them yet.
//!
//! A side signs a [`Release`] with the key of its author, which the other side has had since the claim. The document's
//! id is in it, and both peers, so it ends the pairing that it was made for and no other. A document that was released
//! is never shared again, so a repeated statement has nothing left to end.

use serde::{Deserialize, Serialize};

use super::pairing::PeerKey;

/// What the signed bytes begin with. No entry of a document begins so: those begin with the document's id, and are
/// signed by the same key.
const DOMAIN: &[u8] = b"groundswell kv v1: released";

/// How many bytes are signed.
pub const RELEASE_BYTES: usize = DOMAIN.len() + 3 * 32;

/// A side has given up a document that it shared with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The document's id.
    pub document: [u8; 32],
    /// The side that has given it up, and signs.
    pub by: PeerKey,
    /// The side that it was shared with, and that is told.
    pub to: PeerKey,
}

impl Release {
    /// The bytes that are signed. All parts have one length, so that no two statements have the same bytes.
    pub fn to_bytes(&self) -> [u8; RELEASE_BYTES] {
        let mut bytes = [0; RELEASE_BYTES];
        let (domain, ids) = bytes.split_at_mut(DOMAIN.len());
        domain.copy_from_slice(DOMAIN);
        for (place, id) in ids.chunks_exact_mut(32).zip([&self.document, &self.by.0, &self.to.0]) {
            place.copy_from_slice(id);
        }
        bytes
    }
}

/// An ed25519 signature over the bytes of a [`Release`]: 64 bytes on the wire, without a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSignature([[u8; 32]; 2]);

impl From<[u8; 64]> for ReleaseSignature {
    fn from(bytes: [u8; 64]) -> Self {
        let mut halves = [[0; 32]; 2];
        for (half, bytes) in halves.iter_mut().zip(bytes.chunks_exact(32)) {
            half.copy_from_slice(bytes);
        }
        Self(halves)
    }
}

impl From<ReleaseSignature> for [u8; 64] {
    fn from(signature: ReleaseSignature) -> Self {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.0.as_flattened());
        bytes
    }
}
