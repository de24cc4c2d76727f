//! The node's side of the key-value store: storage, documents, synchronisation and readers.

mod document;
