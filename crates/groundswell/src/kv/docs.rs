//! The documents below the key-value store: signed entries, and a reconciliation that finds what two sides have that the
//! other has not.
//!
//! Entries and messages are types of ours, in the bytes of iroh-docs. What holds them and answers messages is behind the
//! trait [`Docs`]: [`iroh`], the store of iroh-docs, by default, or [`plain`], a set in memory, without the feature
//! `iroh-docs`. Nothing else in this crate names iroh-docs, so that another version of it, or something else in its place,
//! concerns these files alone. docs/iroh.md says what both have in common.

mod entry;
#[cfg(any(test, feature = "iroh-docs"))]
mod iroh;
mod message;
#[cfg(any(test, not(feature = "iroh-docs")))]
mod plain;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

pub(crate) use self::{
    entry::{
        Author, AuthorId, NamespaceId, NamespaceSecret, PREFIX_BYTES, Record, RecordIdentifier, SIGNATURE_BYTES,
        SignedEntry, VerifyingKeys,
    },
    message::{Message, Part, Range},
};
#[cfg(test)]
pub(crate) use self::{iroh::Engine as IrohEngine, message::ContentStatus, plain::Engine as PlainEngine};
use super::{document::Identity, storage::Storage};
use crate::source::PeerId;

/// What a node holds its documents in.
#[cfg(feature = "iroh-docs")]
pub(crate) type Engine = self::iroh::Engine;
/// What a node holds its documents in.
#[cfg(not(feature = "iroh-docs"))]
pub(crate) type Engine = self::plain::Engine;

/// Why the engine did not do what it was asked. Nothing that was acknowledged depends on it: all
/// entries are in our own storage first.
#[derive(Debug, thiserror::Error)]
#[error("the docs engine: {0}")]
pub(crate) struct EngineError(String);

impl EngineError {
    /// A message that this node cannot encode.
    pub(crate) fn of_encoding(error: impl std::fmt::Display) -> Self {
        Self::of(&error)
    }

    /// What hindered the engine from outside.
    pub(crate) fn of(error: &dyn std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in the document now.
    Yes,
    /// The document has the same entry of this author, or a newer one.
    Known,
}

/// Every document of this node, with the newest entry of each author under each key. It is filled from our own storage, and
/// may lose all that it has: a document that it did not know is filled again.
///
/// Entries that are given to it were checked before: they are signed by an author of their document, under keys of 32
/// bytes. A method that can't be done because the engine has ended returns an error, also where the engine ends meanwhile.
pub(crate) trait Docs: Sized {
    /// Opens what is kept in this file, if anything is. It begins with nothing where it has anything that our own storage does
    /// not have. Blocks.
    fn open(path: &Path, storage: &Storage, documents: &[Arc<Identity>]) -> Result<Self, EngineError>;

    /// Opens a document for as long as the engine runs. Returns true if the engine did not know the document.
    async fn open_document(&self, secret: &NamespaceSecret) -> Result<bool, EngineError>;

    /// Inserts an entry of a document that is open.
    async fn insert(&self, id: NamespaceId, entry: &SignedEntry, from: PeerId) -> Result<Inserted, EngineError>;

    /// Makes what was inserted as durable as this engine keeps it.
    async fn flush(&self) -> Result<(), EngineError>;

    /// Removes a document with all its entries.
    async fn drop_document(&self, id: NamespaceId) -> Result<(), EngineError>;

    /// The message that begins a reconciliation of a document.
    async fn first_message(&self, id: NamespaceId) -> Result<Message, EngineError>;

    /// The answer to a message of a reconciliation that has passed the [gate](super::gate): without parts if there is nothing
    /// more to say. The entries of the message are inserted.
    async fn process(&self, id: NamespaceId, message: Message, from: PeerId) -> Result<Message, EngineError>;

    /// Returns true if the engine answers, and what it keeps can be written.
    async fn answers(&self) -> bool;

    /// Returns true if the engine answers, and has this document open.
    async fn is_healthy(&self, id: NamespaceId) -> bool;

    /// Ends the engine, and starts another on the same file. Documents have to be opened again.
    async fn rebuild(&self) -> Result<(), EngineError>;

    /// Ends the engine. What was inserted is made durable, also if nobody waits for that any more.
    async fn stop(&self);

    /// An engine that keeps nothing.
    #[cfg(test)]
    fn in_memory() -> Self;

    /// Ends the engine behind the back of whoever uses it.
    #[cfg(test)]
    async fn die(&self);

    /// Returns true if it has this entry, or a newer one.
    #[cfg(test)]
    async fn has(&self, id: NamespaceId, author: AuthorId, key: [u8; 32], counter: u64) -> bool;
}
