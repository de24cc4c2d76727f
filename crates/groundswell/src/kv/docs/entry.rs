//! Signed entries: the keys that sign them, the identifiers that name them, and the bytes that are signed.
//!
//! The format is that of iroh-docs. Its signatures are stored and sent, so it stays the same with and without iroh-docs: a
//! test compares both, byte by byte.

use bytes::Bytes;
use iroh::{PublicKey, SecretKey, Signature};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The bytes of both signatures of an entry.
pub(crate) const SIGNATURE_BYTES: usize = 2 * Signature::LENGTH;

/// The bytes of an identifier before its key: the document and the author.
pub(crate) const PREFIX_BYTES: usize = 64;

/// The id of a document: its public key, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamespaceId([u8; 32]);

/// The id of an author: its public key, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AuthorId([u8; 32]);

/// The key of a document. Whoever has it can sign entries for the document.
#[derive(Debug, Clone)]
pub(crate) struct NamespaceSecret(SecretKey);

/// The key of an author.
#[derive(Debug, Clone)]
pub(crate) struct Author(SecretKey);

impl NamespaceId {
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl AuthorId {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Returns true if this author has signed the message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &Signature) -> bool {
        PublicKey::from_bytes(&self.0).is_ok_and(|key| key.verify(message, signature).is_ok())
    }
}

impl NamespaceSecret {
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SecretKey::from_bytes(bytes))
    }

    pub(crate) fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    pub(crate) fn id(&self) -> NamespaceId {
        NamespaceId(*self.0.public().as_bytes())
    }
}

impl Author {
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SecretKey::from_bytes(bytes))
    }

    pub(crate) fn id(&self) -> AuthorId {
        AuthorId(*self.0.public().as_bytes())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }
}

/// The public keys that the entries of one document are verified with, ready for use.
#[derive(Debug, Default)]
pub(crate) struct VerifyingKeys(Vec<PublicKey>);

impl VerifyingKeys {
    /// Bytes that are no public key are left out: nothing verifies with them.
    pub(crate) fn new(document: NamespaceId, authors: impl IntoIterator<Item = AuthorId>) -> Self {
        let ids = std::iter::once(document.0).chain(authors.into_iter().map(|author| author.0));
        Self(ids.filter_map(|id| PublicKey::from_bytes(&id).ok()).collect())
    }

    fn verifies(&self, id: &[u8], message: &[u8], signature: &Signature) -> bool {
        let key = self.0.iter().find(|key| key.as_bytes() == id);
        key.is_some_and(|key| key.verify(message, signature).is_ok())
    }
}

/// What an entry is filed under: its document, its author and its key, in this order. One from the other side can have any
/// length until it was checked; parts that it does not have are empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordIdentifier(Bytes);

impl RecordIdentifier {
    pub(crate) fn new(document: NamespaceId, author: AuthorId, key: impl AsRef<[u8]>) -> Self {
        Self(Bytes::from([&document.0[..], &author.0, key.as_ref()].concat()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes of the document's id.
    pub(crate) fn namespace(&self) -> &[u8] {
        self.0.get(..32).unwrap_or_default()
    }

    /// The bytes of the author's id.
    pub(crate) fn author(&self) -> &[u8] {
        self.0.get(32..PREFIX_BYTES).unwrap_or_default()
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.0.get(PREFIX_BYTES..).unwrap_or_default()
    }
}

/// The identifier of nothing, by which a side that has no entries bounds its ranges.
impl Default for RecordIdentifier {
    fn default() -> Self {
        Self(Bytes::from_static(&[0; PREFIX_BYTES]))
    }
}

impl Serialize for RecordIdentifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RecordIdentifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(|bytes| Self(Bytes::copy_from_slice(bytes)))
    }
}

/// What an entry says of its content. Of two of one author under one key, the greater counter is the newer one, and the
/// greater hash where the counters are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    len: u64,
    hash: [u8; 32],
    /// iroh-docs has a timestamp here.
    counter: u64,
}

impl Record {
    /// The record of this content.
    pub(crate) fn of(content: &[u8], counter: u64) -> Self {
        Self { len: content.len() as u64, hash: *blake3::hash(content).as_bytes(), counter }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: RecordIdentifier,
    record: Record,
}

impl Entry {
    /// The bytes that are signed.
    fn to_signed_bytes(&self) -> Vec<u8> {
        let Record { len, hash, counter } = &self.record;
        [self.id.as_bytes(), &len.to_be_bytes(), hash, &counter.to_be_bytes()].concat()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signatures {
    author: Signature,
    document: Signature,
}

/// An entry with the signatures of its author and its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedEntry {
    signatures: Signatures,
    entry: Entry,
}

impl SignedEntry {
    /// Signs an entry.
    pub(crate) fn sign(document: &NamespaceSecret, author: &Author, key: impl AsRef<[u8]>, record: Record) -> Self {
        let entry = Entry { id: RecordIdentifier::new(document.id(), author.id(), key), record };
        let bytes = entry.to_signed_bytes();
        let signatures = Signatures { author: author.0.sign(&bytes), document: document.0.sign(&bytes) };
        Self { signatures, entry }
    }

    /// An entry with the signatures that were made for it. They are not checked here.
    pub(crate) fn from_parts(id: RecordIdentifier, record: Record, signatures: &[u8; SIGNATURE_BYTES]) -> Self {
        let (mut author, mut document) = ([0; Signature::LENGTH], [0; Signature::LENGTH]);
        author.copy_from_slice(&signatures[..Signature::LENGTH]);
        document.copy_from_slice(&signatures[Signature::LENGTH..]);
        let (author, document) = (Signature::from_bytes(&author), Signature::from_bytes(&document));
        Self { signatures: Signatures { author, document }, entry: Entry { id, record } }
    }

    /// Returns true if its author has signed it for its document. Takes about 0.1 ms.
    pub(crate) fn is_signed(&self, keys: &VerifyingKeys) -> bool {
        let (id, bytes) = (self.id(), self.entry.to_signed_bytes());
        keys.verifies(id.namespace(), &bytes, &self.signatures.document)
            && keys.verifies(id.author(), &bytes, &self.signatures.author)
    }

    /// Both signatures, the author's first.
    pub(crate) fn signatures(&self) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..Signature::LENGTH].copy_from_slice(&self.signatures.author.to_bytes());
        bytes[Signature::LENGTH..].copy_from_slice(&self.signatures.document.to_bytes());
        bytes
    }

    pub(crate) fn id(&self) -> &RecordIdentifier {
        &self.entry.id
    }

    pub(crate) fn counter(&self) -> u64 {
        self.entry.record.counter
    }

    /// The bytes of its content.
    pub(crate) fn content_len(&self) -> u64 {
        self.entry.record.len
    }

    pub(crate) fn content_hash(&self) -> &[u8; 32] {
        &self.entry.record.hash
    }

    /// Returns true if it has no content, or only its length or only its hash says so.
    pub(crate) fn is_empty(&self) -> bool {
        self.content_len() == 0 || *self.content_hash() == *blake3::hash(b"").as_bytes()
    }
}
