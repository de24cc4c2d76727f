use groundswell_core::kv::KvAuthor;
use tempfile::TempDir;

use super::{
    super::{
        Author, Part, RecordIdentifier,
        message::Range,
        tests::{entry, identity_of, peer, storage},
    },
    *,
};
use crate::kv::{Row, sealed::Sealed};

/// The engine's thread has work for long. Whoever gives up waiting for its end is not kept by that.
#[tokio::test]
async fn an_engine_that_is_busy_keeps_nobody_who_has_given_up() {
    let dir = TempDir::new().unwrap();
    let secret = NamespaceSecret::from_bytes(&[7; 32]);
    let ours = Author::from_bytes(&[1; 32]);
    let engine = Arc::new(Engine::open(&dir.path().join("docs.redb"), &storage(&dir), &[]).unwrap());
    engine.open_document(&secret).await.unwrap();
    for key in 0..2_000_u16 {
        let key = [key.to_le_bytes(); 16].concat();
        engine.insert(secret.id(), &entry(&secret, &ours, &key, 1), peer()).await.unwrap();
    }
    // Its fingerprint is another, so that each costs some looks at all entries.
    let mut message = engine.first_message(secret.id()).await.unwrap();
    let Part::Fingerprint { fingerprint, .. } = &mut message.parts[0] else { panic!("the first part compares") };
    fingerprint[0] ^= 1;
    let id = secret.id();
    for _ in 0..500 {
        let (task, message) = (engine.clone(), message.clone());
        tokio::spawn(async move { task.process(id, message, peer()).await });
    }
    tokio::task::yield_now().await;
    let begun = std::time::Instant::now();
    let waited = tokio::time::timeout(std::time::Duration::from_millis(50), engine.stop()).await;
    let took = begun.elapsed();
    println!("given up after {took:?}");
    assert!(waited.is_err(), "it was not busy");
    assert!(took < std::time::Duration::from_secs(1), "{took:?}");
}

/// What is asked in the moment in which the thread ends may stand behind the end in its queue, where nobody answers it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_behind_the_end_has_an_error() {
    for round in 0..200 {
        let engine = Engine::in_memory();
        let before = engine.running().unwrap();
        engine.stop().await;
        let asked = before.ask(before.handle.flush_store());
        let answer = tokio::time::timeout(std::time::Duration::from_secs(10), asked).await;
        assert!(answer.is_ok_and(|answer| answer.is_err()), "round {round}");
    }
}

/// An identifier that is too short ends iroh-docs' thread, if it gets there. Who waits has an error, and a new thread does
/// what the first one did.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_docs_thread_is_an_error_and_is_mended() {
    let dir = TempDir::new().unwrap();
    let secret = NamespaceSecret::from_bytes(&[7; 32]);
    let ours = Author::from_bytes(&[1; 32]);
    let engine = Engine::open(&dir.path().join("docs.redb"), &storage(&dir), &[]).unwrap();
    engine.open_document(&secret).await.unwrap();
    engine.insert(secret.id(), &entry(&secret, &ours, &[1; 32], 1), peer()).await.unwrap();
    engine.flush().await.unwrap();
    // One part: a fingerprint of the range between two identifiers of a byte each.
    let short = |byte| encoding::decode::<RecordIdentifier>(&[1, byte]).unwrap();
    let range = Range { x: short(7), y: short(9) };
    let message = Message { parts: vec![Part::Fingerprint { range, fingerprint: [0; 32] }] };
    let patience = std::time::Duration::from_secs(30);
    // What is asked while the thread ends is never answered by it.
    let told = async {
        assert!(engine.process(secret.id(), message, peer()).await.is_err());
        assert!(!engine.answers().await);
        assert!(engine.insert(secret.id(), &entry(&secret, &ours, &[2; 32], 2), peer()).await.is_err());
        assert!(engine.drop_document(secret.id()).await.is_err());
        engine.rebuild().await.unwrap();
    };
    tokio::time::timeout(patience, told).await.expect("whoever asks is told");
    engine.open_document(&secret).await.unwrap();
    assert!(engine.answers().await);
    assert!(engine.has(secret.id(), ours.id(), [1; 32], 1).await);
    engine.stop().await;
}

/// Whatever is in the store that storage does not have: of an invented author, under a long key, of the right author
/// and never stored. The store begins with nothing then, so that its file has its first size again. A document that is
/// gone is removed alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_storage_does_not_have_is_dropped_at_the_start() {
    let dir = TempDir::new().unwrap();
    let (secret, gone) = (NamespaceSecret::from_bytes(&[7; 32]), NamespaceSecret::from_bytes(&[8; 32]));
    let (ours, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
    let standing = Standing::Paired { peer: peer(), author: theirs.id().to_bytes() };
    let identity = identity_of(1, &secret, standing, &ours);
    let storage = storage(&dir);
    let sealed = Sealed::sign(&secret, &theirs, KvAuthor::Machine, [3; 32], 4, "kept".into());
    let kept = sealed.to_entry(secret.id(), theirs.id());
    storage.write(vec![Row::Entry { number: 1, entry: sealed }]).unwrap();
    let path = dir.path().join("docs.redb");
    let open = || Engine::open(&path, &storage, std::slice::from_ref(&identity)).unwrap();
    let invented = Author::from_bytes(&[9; 32]);
    let foreign = [
        None,
        Some(entry(&secret, &invented, &[1; 32], 1)),
        Some(entry(&secret, &theirs, &[1; 3_000], 1)),
        Some(entry(&secret, &theirs, &[1; 32], 1)),
        // Newer than what is stored.
        Some(entry(&secret, &theirs, &[3; 32], 5)),
    ];
    for foreign in foreign {
        let engine = open();
        engine.open_document(&secret).await.unwrap();
        engine.open_document(&gone).await.unwrap();
        engine.insert(secret.id(), &kept, peer()).await.unwrap();
        let is_foreign = foreign.is_some();
        if let Some(foreign) = foreign {
            engine.insert(secret.id(), &foreign, peer()).await.unwrap();
        }
        engine.flush().await.unwrap();
        engine.stop().await;
        let engine = open();
        assert!(engine.open_document(&gone).await.unwrap(), "it is not known any more");
        assert_eq!(engine.open_document(&secret).await.unwrap(), is_foreign, "fresh if it had something foreign");
        engine.stop().await;
    }
}

/// A machine that has released itself is not known by its author any more. Its replica alone goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_its_machine_has_left_takes_no_other_with_it() {
    let dir = TempDir::new().unwrap();
    let (left, other) = (NamespaceSecret::from_bytes(&[7; 32]), NamespaceSecret::from_bytes(&[8; 32]));
    let (ours, theirs) = (Author::from_bytes(&[1; 32]), Author::from_bytes(&[2; 32]));
    let paired = || Standing::Paired { peer: peer(), author: theirs.id().to_bytes() };
    let identity = |number, secret: &NamespaceSecret, standing| identity_of(number, secret, standing, &ours);
    let storage = storage(&dir);
    let path = dir.path().join("docs.redb");
    let engine = Engine::open(&path, &storage, &[identity(1, &left, paired()), identity(2, &other, paired())]).unwrap();
    for (number, secret) in [(1, &left), (2, &other)] {
        let sealed = Sealed::sign(secret, &theirs, KvAuthor::Machine, [3; 32], 4, "kept".into());
        engine.open_document(secret).await.unwrap();
        engine.insert(secret.id(), &sealed.to_entry(secret.id(), theirs.id()), peer()).await.unwrap();
        storage.write(vec![Row::Entry { number, entry: sealed }]).unwrap();
    }
    engine.flush().await.unwrap();
    engine.stop().await;
    let released = identity(1, &left, Standing::Released { peer: peer() });
    let engine = Engine::open(&path, &storage, &[released, identity(2, &other, paired())]).unwrap();
    assert!(!engine.open_document(&other).await.unwrap(), "it is not fresh");
    assert!(engine.has(other.id(), theirs.id(), [3; 32], 4).await);
    assert!(engine.open_document(&left).await.unwrap(), "nobody needs its replica any more");
    engine.stop().await;
}
