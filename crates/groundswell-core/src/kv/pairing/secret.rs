//! The one-time secret of a ticket: it admits one claim while the machine is not open for others.

use core::fmt;

/// Random bytes that a machine puts into a ticket. Who proves that it has them is admitted; the PIN is compared all the same.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimSecret(pub [u8; 16]);

impl fmt::Debug for ClaimSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimSecret(_)")
    }
}

impl ClaimSecret {
    /// What is kept in place of the secret, to check proofs with.
    pub(super) fn key(&self) -> [u8; 32] {
        blake3::derive_key("groundswell claim v2: the one-time secret of a ticket", &self.0)
    }

    /// What a manager sends to prove that it has the secret: for this connection and this claim alone. Somebody in
    /// between has other connections, for which it proves nothing.
    pub fn prove(&self, keying: &[u8; 32], commitment: &[u8; 32]) -> [u8; 32] {
        *proof(&self.key(), keying, commitment).as_bytes()
    }
}

/// Its comparison takes the same time, whatever is compared.
pub(super) fn proof(key: &[u8; 32], keying: &[u8; 32], commitment: &[u8; 32]) -> blake3::Hash {
    blake3::Hasher::new_keyed(key).update(keying).update(commitment).finalize()
}
