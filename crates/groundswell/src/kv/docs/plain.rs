//! Documents without iroh-docs: a set of entries in memory, which speaks the same reconciliation.
//!
//! Nothing is kept over a restart. The feeder fills each document from our own storage then, as it does after a loss of
//! iroh-docs' store.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    io::ErrorKind,
    path::Path,
    sync::{Arc, Mutex, RwLock},
};

use super::{
    Docs, EngineError, Inserted, Message, NamespaceId, NamespaceSecret, Part, Range, RecordIdentifier, SignedEntry,
    message::ContentStatus,
};
use crate::{
    kv::{document::Identity, storage::Storage},
    source::PeerId,
    sync::{lock, read, write},
};

/// The documents that are open; `None` after the shutdown.
type Open = Option<HashMap<NamespaceId, Arc<Mutex<Set>>>>;

/// Every document of this node, in memory.
pub(crate) struct Engine(RwLock<Open>);

impl Engine {
    fn document(&self, id: NamespaceId) -> Result<Arc<Mutex<Set>>, EngineError> {
        let open = read(&self.0);
        let documents = open.as_ref().ok_or_else(ended)?;
        documents.get(&id).cloned().ok_or_else(|| EngineError("the document is not open".to_owned()))
    }

    /// Works on a document where that keeps no other task waiting.
    async fn on<T: Send + 'static>(
        &self,
        id: NamespaceId,
        work: impl FnOnce(&mut Set) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let document = self.document(id)?;
        let done = tokio::task::spawn_blocking(move || work(&mut lock(&document))).await;
        done.map_err(|error| EngineError::of(&error))
    }
}

fn ended() -> EngineError {
    EngineError("it has ended".to_owned())
}

impl Docs for Engine {
    /// A store of iroh-docs is removed. It would be behind what our own storage says of it once iroh-docs is used again.
    fn open(path: &Path, _: &Storage, _: &[Arc<Identity>]) -> Result<Self, EngineError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(EngineError::of(&error)),
            Ok(()) | Err(_) => Ok(Self(RwLock::new(Some(HashMap::new())))),
        }
    }

    async fn open_document(&self, secret: &NamespaceSecret) -> Result<bool, EngineError> {
        let (mut open, mut fresh) = (write(&self.0), false);
        open.as_mut().ok_or_else(ended)?.entry(secret.id()).or_insert_with(|| {
            fresh = true;
            Arc::default()
        });
        Ok(fresh)
    }

    async fn insert(&self, id: NamespaceId, entry: &SignedEntry, _: PeerId) -> Result<Inserted, EngineError> {
        let document = self.document(id)?;
        Ok(lock(&document).put(entry.clone()))
    }

    async fn flush(&self) -> Result<(), EngineError> {
        read(&self.0).as_ref().map(|_| ()).ok_or_else(ended)
    }

    async fn drop_document(&self, id: NamespaceId) -> Result<(), EngineError> {
        write(&self.0).as_mut().ok_or_else(ended)?.remove(&id);
        Ok(())
    }

    async fn first_message(&self, id: NamespaceId) -> Result<Message, EngineError> {
        self.on(id, |set| set.first_message()).await
    }

    async fn process(&self, id: NamespaceId, message: Message, _: PeerId) -> Result<Message, EngineError> {
        self.on(id, |set| set.process(message)).await
    }

    async fn answers(&self) -> bool {
        self.flush().await.is_ok()
    }

    async fn is_healthy(&self, id: NamespaceId) -> bool {
        self.document(id).is_ok()
    }

    async fn rebuild(&self) -> Result<(), EngineError> {
        *write(&self.0) = Some(HashMap::new());
        Ok(())
    }

    async fn stop(&self) {
        *write(&self.0) = None;
    }

    #[cfg(test)]
    fn in_memory() -> Self {
        Self(RwLock::new(Some(HashMap::new())))
    }

    #[cfg(test)]
    async fn die(&self) {
        self.stop().await;
    }

    #[cfg(test)]
    async fn has(&self, id: NamespaceId, author: super::AuthorId, key: [u8; 32], counter: u64) -> bool {
        let document = self.document(id).unwrap();
        let held = lock(&document).0.get(&RecordIdentifier::new(id, author, key)).map(|held| held.entry.counter());
        held.is_some_and(|held| held >= counter)
    }
}

struct Held {
    entry: SignedEntry,
    fingerprint: [u8; 32],
}

/// The entries of one document.
#[derive(Default)]
struct Set(BTreeMap<RecordIdentifier, Held>);

impl Set {
    fn put(&mut self, entry: SignedEntry) -> Inserted {
        let known = self.0.get(entry.id());
        if known.is_some_and(|known| rank(&known.entry) >= rank(&entry)) {
            return Inserted::Known;
        }
        let fingerprint = fingerprint_of(&entry);
        self.0.insert(entry.id().clone(), Held { entry, fingerprint });
        Inserted::Yes
    }

    /// What is here in a range, in the order of the identifiers. A range past the end of all has its second piece first.
    fn within<'a>(&'a self, range: &'a Range) -> impl Iterator<Item = &'a Held> {
        let (x, y) = (&range.x, &range.y);
        let pieces = match x.cmp(y) {
            Ordering::Equal => (self.0.range::<RecordIdentifier, _>(..), None),
            Ordering::Less => (self.0.range(x..y), None),
            Ordering::Greater => (self.0.range(..y), Some(self.0.range(x..))),
        };
        pieces.0.chain(pieces.1.into_iter().flatten()).map(|(_, held)| held)
    }

    /// The fingerprints of all that is here in a range, combined by XOR, and how many there are.
    fn fingerprint(&self, range: &Range) -> ([u8; 32], usize) {
        self.within(range).fold((*blake3::hash(b"").as_bytes(), 0), |(mut sum, count), held| {
            sum.iter_mut().zip(held.fingerprint).for_each(|(sum, one)| *sum ^= one);
            (sum, count + 1)
        })
    }

    fn first_message(&self) -> Message {
        let first = self.0.keys().next().cloned().unwrap_or_default();
        let range = Range { x: first.clone(), y: first };
        let (fingerprint, _) = self.fingerprint(&range);
        Message { parts: vec![Part::Fingerprint { range, fingerprint }] }
    }

    /// A part with those entries of a range that are not left out.
    fn item(&self, range: Range, have_local: bool, is_left_out: impl Fn(&SignedEntry) -> bool) -> Part {
        let entries = self.within(&range).map(|held| &held.entry).filter(|entry| !is_left_out(entry));
        // As iroh-docs has it where it holds no contents.
        let values = entries.map(|entry| (entry.clone(), ContentStatus::Missing)).collect();
        Part::Item { range, values, have_local }
    }

    /// The answer to a message, part by part the one that iroh-docs gives. Those to entries come first.
    fn process(&mut self, message: Message) -> Message {
        let (mut answer, mut compared) = (Message::default(), Vec::new());
        for part in message.parts {
            match part {
                Part::Fingerprint { range, fingerprint } => compared.push((range, fingerprint)),
                Part::Item { range, values, have_local } => {
                    let is_theirs = |ours: &SignedEntry| {
                        let is_same = |theirs: &SignedEntry| theirs.id() == ours.id() && rank(theirs) >= rank(ours);
                        values.iter().any(|(theirs, _)| is_same(theirs))
                    };
                    let lacking = (!have_local).then(|| self.item(range, true, is_theirs));
                    for (entry, _) in values {
                        self.put(entry);
                    }
                    answer.parts.extend(lacking.filter(|part| !part.values().is_empty()));
                }
            }
        }
        for (range, fingerprint) in compared {
            self.compare(range, fingerprint, &mut answer.parts);
        }
        answer
    }

    /// Answers a fingerprint: nothing if it is the same here, all entries where either side has next to nothing, and otherwise
    /// both halves of the range.
    fn compare(&self, range: Range, theirs: [u8; 32], answer: &mut Vec<Part>) {
        let (ours, count) = self.fingerprint(&range);
        if ours == theirs {
            return;
        }
        if count <= 1 || theirs == *blake3::hash(b"").as_bytes() {
            return answer.push(self.item(range, false, |_| false));
        }
        let ids: Vec<&RecordIdentifier> = self.within(&range).map(|held| held.entry.id()).collect();
        // Where the range begins among them: one past the end of all goes on at the first.
        let begin = ids.iter().take_while(|id| ***id < range.x).count();
        let middle = ids[(begin + count / 2) % count];
        // The whole is divided at two identifiers that are here, since it has no bounds of its own.
        let (x, y) = match range.is_all().then(|| ids[begin % count].clone()) {
            Some(first) => (middle.clone(), first),
            None => (range.x.clone(), middle.clone()),
        };
        let rest = if range.is_all() { x.clone() } else { range.y.clone() };
        for half in [Range { x, y: y.clone() }, Range { x: y, y: rest }] {
            match self.fingerprint(&half) {
                (_, 0 | 1) => answer.push(self.item(half, false, |_| false)),
                (fingerprint, _) => answer.push(Part::Fingerprint { range: half, fingerprint }),
            }
        }
    }
}

/// What decides between two entries of one author under one key.
fn rank(entry: &SignedEntry) -> (u64, &[u8; 32]) {
    (entry.counter(), entry.content_hash())
}

/// What an entry adds to the fingerprint of a range.
fn fingerprint_of(entry: &SignedEntry) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(entry.id().as_bytes());
    hasher.update(&entry.counter().to_be_bytes());
    hasher.update(entry.content_hash());
    *hasher.finalize().as_bytes()
}
