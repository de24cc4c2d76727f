//! What holds of documents with and without iroh-docs, and that both are alike to the byte.

use groundswell_core::{
    encoding::{decode, encode},
    kv::KvAuthor,
};
use proptest::{collection::vec, prelude::*};
use tempfile::TempDir;

use super::*;
use crate::kv::{DocumentRow, Standing};

pub(super) fn entry(secret: &NamespaceSecret, author: &Author, key: &[u8], counter: u64) -> SignedEntry {
    let content = [key, &counter.to_le_bytes()].concat();
    SignedEntry::sign(secret, author, key, Record::of(&content, counter))
}

pub(super) fn peer() -> PeerId {
    ::iroh::SecretKey::from_bytes(&[3; 32]).public()
}

pub(super) fn storage(dir: &TempDir) -> Storage {
    Storage::open(dir.path())
}

/// A manager's document.
pub(super) fn identity_of(number: u64, secret: &NamespaceSecret, standing: Standing, ours: &Author) -> Arc<Identity> {
    Identity::new(number, &DocumentRow { secret: secret.to_bytes(), standing }, KvAuthor::Manager, ours.id())
}

fn secret() -> NamespaceSecret {
    NamespaceSecret::from_bytes(&[7; 32])
}

fn author(number: u8) -> Author {
    Author::from_bytes(&[number; 32])
}

/// The whole of what the store stands on: entries with counters for timestamps and signatures of our own go in, reconciliation
/// compares them, and no live actor runs.
#[tokio::test(flavor = "multi_thread")]
async fn own_timestamps_and_signatures_reconcile_without_the_live_actor() {
    reconcile_and_rebuild::<IrohEngine>(true).await;
    reconcile_and_rebuild::<PlainEngine>(false).await;
}

async fn reconcile_and_rebuild<E: Docs>(keeps: bool) {
    let (dir, secret, ours, theirs) = (TempDir::new().unwrap(), secret(), author(1), author(2));
    let standing = Standing::Paired { peer: peer(), author: theirs.id().to_bytes() };
    let (identity, storage) = (identity_of(1, &secret, standing, &ours), storage(&dir));
    let open = |name| E::open(&dir.path().join(name), &storage, std::slice::from_ref(&identity)).unwrap();
    let (left, right) = (open("left.redb"), open("right.redb"));
    assert!(left.open_document(&secret).await.unwrap(), "it is new");
    assert!(!left.open_document(&secret).await.unwrap(), "it is open already");
    right.open_document(&secret).await.unwrap();
    for key in 0..10 {
        let inserted = left.insert(secret.id(), &entry(&secret, &ours, &[key; 32], 5), peer()).await.unwrap();
        assert_eq!(inserted, Inserted::Yes);
    }
    let at_3 = |counter| entry(&secret, &ours, &[3; 32], counter);
    assert_eq!(left.insert(secret.id(), &at_3(5), peer()).await.unwrap(), Inserted::Known);
    assert_eq!(left.insert(secret.id(), &at_3(4), peer()).await.unwrap(), Inserted::Known);
    assert_eq!(right.insert(secret.id(), &entry(&secret, &theirs, &[3; 32], 1), peer()).await.unwrap(), Inserted::Yes);
    let other = NamespaceSecret::from_bytes(&[8; 32]);
    assert!(left.insert(other.id(), &entry(&other, &ours, &[1; 32], 6), peer()).await.is_err());
    let mut next = left.first_message(secret.id()).await.unwrap();
    for at in [&right, &left].into_iter().cycle().take(20) {
        if next.is_empty() {
            break;
        }
        next = at.process(secret.id(), next, peer()).await.unwrap();
    }
    assert!(next.is_empty(), "it comes to an end");
    assert!(left.has(secret.id(), theirs.id(), [3; 32], 1).await);
    for key in 0..10 {
        assert!(right.has(secret.id(), ours.id(), [key; 32], 5).await);
    }
    assert!(left.is_healthy(secret.id()).await);
    left.rebuild().await.unwrap();
    assert!(!left.is_healthy(secret.id()).await, "documents are opened again by who rebuilds");
    assert_eq!(left.open_document(&secret).await.unwrap(), !keeps);
    assert_eq!(left.has(secret.id(), ours.id(), [9; 32], 5).await, keeps);
    left.drop_document(secret.id()).await.unwrap();
    assert!(!left.is_healthy(secret.id()).await);
    assert!(left.open_document(&secret).await.unwrap(), "nothing is left of it");
    left.stop().await;
    right.stop().await;
    let inserted = left.insert(secret.id(), &at_3(6), peer()).await;
    assert!(inserted.is_err() && left.first_message(secret.id()).await.is_err());
    assert!(left.open_document(&secret).await.is_err() && left.drop_document(secret.id()).await.is_err());
    assert!(!left.answers().await && !left.is_healthy(secret.id()).await);
}

/// A store of iroh-docs does not outlive a run without iroh-docs: it would be behind the mark up to which it was fed.
#[tokio::test]
async fn a_run_without_iroh_docs_leaves_no_store_of_it() {
    let dir = TempDir::new().unwrap();
    let (storage, path) = (storage(&dir), dir.path().join("docs.redb"));
    IrohEngine::open(&path, &storage, &[]).unwrap().stop().await;
    assert!(path.is_file());
    PlainEngine::open(&path, &storage, &[]).unwrap().stop().await;
    assert!(!path.exists());
    PlainEngine::open(&path, &storage, &[]).unwrap().stop().await;
}

/// What iroh-docs makes of the same keys and the same content.
fn theirs(secret: [u8; 32], author: [u8; 32], key: &[u8], content: &[u8], counter: u64) -> iroh_docs::SignedEntry {
    let (secret, author) = (iroh_docs::NamespaceSecret::from_bytes(&secret), iroh_docs::Author::from_bytes(&author));
    let record = iroh_docs::Record::new(blake3::hash(content).into(), content.len() as u64, counter);
    iroh_docs::SignedEntry::from_parts(&secret, &author, key, record)
}

proptest! {
    /// Entries, their ids and their signatures have the bytes that iroh-docs gives them, and each verifies what the other has made.
    #[test]
    fn entries_are_those_of_iroh_docs(
        secret: [u8; 32],
        author: [u8; 32],
        key in vec(any::<u8>(), 0..70),
        content in vec(any::<u8>(), 0..40),
        counter: u64,
        damage: prop::sample::Index,
    ) {
        let theirs = theirs(secret, author, &key, &content, counter);
        let (secret, author) = (NamespaceSecret::from_bytes(&secret), Author::from_bytes(&author));
        let ours = SignedEntry::sign(&secret, &author, &key, Record::of(&content, counter));
        let bytes = encode(&ours).unwrap();
        prop_assert_eq!(&bytes, &encode(&theirs).unwrap());
        prop_assert_eq!(*secret.id().as_bytes(), theirs.entry().namespace().to_bytes());
        prop_assert_eq!(author.id().to_bytes(), theirs.author_bytes().to_bytes());
        prop_assert_eq!(&ours.signatures()[..], &encode(theirs.signature()).unwrap()[..]);
        prop_assert_eq!(ours.is_empty(), theirs.content_len() == 0 || theirs.validate_empty().is_err());
        prop_assert_eq!(ours.counter(), theirs.timestamp());
        let keys = VerifyingKeys::new(secret.id(), [author.id()]);
        prop_assert!(ours.is_signed(&keys) && theirs.verify(&()).is_ok());
        prop_assert!(!ours.is_signed(&VerifyingKeys::new(secret.id(), [])), "its author is not known");
        let mut damaged = bytes;
        let place = damage.index(damaged.len());
        damaged[place] ^= 1;
        let ours: Option<SignedEntry> = decode(&damaged).ok();
        let theirs: Option<iroh_docs::SignedEntry> = decode(&damaged).ok();
        prop_assert_eq!(ours.is_some(), theirs.is_some());
        // An identifier that is too short makes it panic; the gate refuses one.
        if let (Some(ours), Some(theirs)) = (ours, theirs.filter(|theirs| theirs.entry().id().as_bytes().len() >= 64)) {
            prop_assert!(!ours.is_signed(&keys) && theirs.verify(&()).is_err());
        }
    }
}

/// What is stored and sent stays what it is, also when there is no iroh-docs to compare with.
#[test]
fn an_entry_has_the_bytes_that_it_had() {
    let entry = entry(&secret(), &author(1), &[5; 32], 1_000);
    let bytes = encode(&entry).unwrap();
    assert_eq!(bytes.len(), SIGNATURE_BYTES + 1 + 96 + 1 + 32 + 2);
    assert_eq!(blake3::hash(&bytes).to_string(), "f47d55f348feb310e0614745f9bbaa93873fd38f8b25d4388a7f864a6732772b");
}

/// An entry of one of two authors, under one of a few keys.
fn some_entry() -> impl Strategy<Value = SignedEntry> {
    (1_u8..=2, 0_u8..12, 1_u64..4).prop_map(|(of, key, counter)| entry(&secret(), &author(of), &[key; 32], counter))
}

fn some_id() -> impl Strategy<Value = RecordIdentifier> {
    (1_u8..=2, 0_u8..13).prop_map(|(of, key)| RecordIdentifier::new(secret().id(), author(of).id(), [key; 32]))
}

fn some_part() -> impl Strategy<Value = Part> {
    let range = || {
        (some_id(), some_id(), any::<bool>())
            .prop_map(|(x, y, all)| if all { Range { x: x.clone(), y: x } } else { Range { x, y } })
    };
    let nothing = *blake3::hash(b"").as_bytes();
    let fingerprint = (range(), prop_oneof![Just(nothing), any::<[u8; 32]>()])
        .prop_map(|(range, fingerprint)| Part::Fingerprint { range, fingerprint });
    let item = (range(), vec(some_entry(), 0..4), any::<bool>()).prop_map(|(range, values, have_local)| {
        let values = values.into_iter().filter(|entry| range.contains(entry.id()));
        let values = values.map(|entry| (entry, ContentStatus::Complete)).collect();
        Part::Item { range, values, have_local }
    });
    prop_oneof![fingerprint, item]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever is there and whatever comes, both engines give the same answer, and have the same afterwards.
    #[test]
    fn both_engines_give_the_same_answers(
        here in vec(some_entry(), 0..30),
        parts in vec(some_part(), 0..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (iroh, plain, id) = (IrohEngine::in_memory(), PlainEngine::in_memory(), secret().id());
            iroh.open_document(&secret()).await.unwrap();
            plain.open_document(&secret()).await.unwrap();
            for entry in &here {
                assert_eq!(iroh.insert(id, entry, peer()).await.unwrap(), plain.insert(id, entry, peer()).await.unwrap());
            }
            assert_eq!(iroh.first_message(id).await.unwrap(), plain.first_message(id).await.unwrap());
            let message = Message { parts };
            let answer = iroh.process(id, message.clone(), peer()).await.unwrap();
            assert_eq!(answer, plain.process(id, message, peer()).await.unwrap());
            assert_eq!(iroh.first_message(id).await.unwrap(), plain.first_message(id).await.unwrap());
            iroh.stop().await;
        });
    }
}

proptest! {
    /// Whatever bytes are no message for one of the two are none for the other.
    #[test]
    fn messages_are_those_of_iroh_docs(
        parts in vec(some_part(), 0..4),
        damage in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = encode(&Message { parts }).unwrap();
        if let Some((place, byte)) = damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let (ours, theirs) = (decode::<Message>(&bytes), decode::<iroh_docs::ProtocolMessage>(&bytes));
        prop_assert!(damage.is_some() || ours.is_ok());
        prop_assert_eq!(ours.is_ok(), theirs.is_ok());
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(encode(&ours).unwrap(), encode(&theirs).unwrap());
        }
    }
}
