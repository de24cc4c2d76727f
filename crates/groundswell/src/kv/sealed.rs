//! A sealed entry: an envelope with the signatures that make it an entry of a document.
//!
//! Of a document's entry only what can't be told from the rest is kept and sent: the signatures and
//! the counter. Its namespace and author are those of the document, its key, hash and length those
//! of the envelope.

use bytes::Bytes;
use groundswell_core::kv::{EnvelopeRank, KvAuthor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::docs::{
    Author, AuthorId, NamespaceId, NamespaceSecret, Record, RecordIdentifier, SIGNATURE_BYTES, SignedEntry,
    VerifyingKeys,
};

/// What is sent of an entry besides its envelope: author, document key, counter, signatures.
const SENT_BYTES: usize = 1 + 32 + 8 + SIGNATURE_BYTES;

/// An entry that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    #[error("a stored entry is cut")]
    Cut,
    #[error("the entry is not signed by its author for this document")]
    Signature,
}

/// An author's entry of a document key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) author: KvAuthor,
    pub(crate) key: [u8; 32],
    pub(crate) counter: u64,
    pub(crate) signature: [u8; SIGNATURE_BYTES],
    pub(crate) envelope: Bytes,
}

impl Sealed {
    /// Signs an envelope.
    pub(crate) fn sign(
        secret: &NamespaceSecret,
        signer: &Author,
        author: KvAuthor,
        key: [u8; 32],
        counter: u64,
        envelope: Bytes,
    ) -> Self {
        let signed = SignedEntry::sign(secret, signer, key, Record::of(&envelope, counter));
        Self { author, key, counter, signature: signed.signatures(), envelope }
    }

    fn record(&self) -> Record {
        Record::of(&self.envelope, self.counter)
    }

    /// What decides between two entries of one author under one key: as in a view, and the counter only where that is the same.
    /// Counters alone would decide otherwise than the view, once a side has gone back.
    pub(crate) fn rank(&self) -> (Option<EnvelopeRank<'_>>, u64) {
        (EnvelopeRank::of(&self.envelope), self.counter)
    }

    /// The hash of its envelope.
    pub(crate) fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.envelope).as_bytes()
    }

    /// The entry as it is in the document.
    pub(crate) fn to_entry(&self, document: NamespaceId, author: AuthorId) -> SignedEntry {
        let id = RecordIdentifier::new(document, author, self.key);
        SignedEntry::from_parts(id, self.record(), &self.signature)
    }

    /// Whether its author has signed it for this document.
    pub(crate) fn verify(
        &self,
        document: NamespaceId,
        author: AuthorId,
        keys: &VerifyingKeys,
    ) -> Result<(), SealError> {
        if self.to_entry(document, author).is_signed(keys) { Ok(()) } else { Err(SealError::Signature) }
    }

    /// How many bytes it takes on its way, about.
    pub(crate) fn weight(&self) -> usize {
        self.envelope.len() + SIGNATURE_BYTES + 48
    }

    /// What is sent of it besides the envelope.
    pub(crate) fn to_sent(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SENT_BYTES);
        bytes.push(match self.author {
            KvAuthor::Machine => 0,
            KvAuthor::Manager => 1,
        });
        bytes.extend(self.key);
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.signature);
        bytes
    }

    pub(crate) fn from_sent(signed: &[u8], envelope: &[u8]) -> Result<Self, SealError> {
        let signed: &[u8; SENT_BYTES] = signed.try_into().map_err(|_| SealError::Cut)?;
        let (author, rest) = signed.split_first().ok_or(SealError::Cut)?;
        let author = match author {
            0 => KvAuthor::Machine,
            1 => KvAuthor::Manager,
            _ => return Err(SealError::Signature),
        };
        let (key, rest) = rest.split_first_chunk::<32>().ok_or(SealError::Cut)?;
        Self::from_stored(author, *key, &[rest, envelope].concat())
    }

    /// The bytes of its row in storage, whose key says the rest.
    pub(crate) fn to_stored(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + SIGNATURE_BYTES + self.envelope.len());
        bytes.extend(self.counter.to_le_bytes());
        bytes.extend(self.signature);
        bytes.extend(&self.envelope[..]);
        bytes
    }

    /// The counter of a row in storage.
    pub(crate) fn stored_counter(bytes: &[u8]) -> Result<u64, SealError> {
        bytes.first_chunk().map(|counter| u64::from_le_bytes(*counter)).ok_or(SealError::Cut)
    }

    pub(crate) fn from_stored(author: KvAuthor, key: [u8; 32], bytes: &[u8]) -> Result<Self, SealError> {
        let (counter, rest) = bytes.split_first_chunk::<8>().ok_or(SealError::Cut)?;
        let (signature, envelope) = rest.split_first_chunk::<SIGNATURE_BYTES>().ok_or(SealError::Cut)?;
        let envelope = Bytes::copy_from_slice(envelope);
        Ok(Self { author, key, counter: u64::from_le_bytes(*counter), signature: *signature, envelope })
    }
}

/// Bytes that are written as such.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// In the journal: author, document key, and the bytes of its row.
impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.author, self.key, Raw(&self.to_stored())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (author, key, stored) = <(KvAuthor, [u8; 32], &[u8])>::deserialize(deserializer)?;
        Self::from_stored(author, key, stored).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_entry_makes_the_entry_again() {
        let (secret, author) = (NamespaceSecret::from_bytes(&[3; 32]), Author::from_bytes(&[4; 32]));
        let (envelope, other) = (Bytes::from_static(b"some envelope"), Author::from_bytes(&[5; 32]).id());
        let keys = VerifyingKeys::new(secret.id(), [author.id(), other]);
        let sealed = Sealed::sign(&secret, &author, KvAuthor::Machine, [9; 32], 17, envelope);
        let whole = SignedEntry::sign(&secret, &author, [9; 32], Record::of(&sealed.envelope, 17));
        assert_eq!(sealed.to_entry(secret.id(), author.id()), whole);
        assert_eq!(Sealed::from_sent(&sealed.to_sent(), &sealed.envelope).unwrap(), sealed);
        assert_eq!(Sealed::from_sent(&sealed.to_sent()[1..], &sealed.envelope), Err(SealError::Cut));
        assert_eq!(Sealed::from_stored(KvAuthor::Machine, [9; 32], &sealed.to_stored()).unwrap(), sealed);
        sealed.verify(secret.id(), author.id(), &keys).unwrap();
        assert_eq!(sealed.verify(secret.id(), other, &keys), Err(SealError::Signature));
        assert!(sealed.verify(NamespaceSecret::from_bytes(&[6; 32]).id(), author.id(), &keys).is_err());
        let changed = Sealed { envelope: Bytes::from_static(b"another envelope"), ..sealed.clone() };
        assert_eq!(changed.verify(secret.id(), author.id(), &keys), Err(SealError::Signature));
        assert_eq!(Sealed { counter: 18, ..sealed }.verify(secret.id(), author.id(), &keys), Err(SealError::Signature));
    }
}
