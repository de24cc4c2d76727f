//! A machine that publishes an entry and is gone before its value was there: by reconciliation, where an entry comes
//! without its value. The machine's part is played by hand, with its identity and its entries; then the real one comes
//! back.

use std::time::{Duration, Instant};

use groundswell::Manager;
use groundswell_core::{
    encoding::decode,
    kv::{
        KvAuthor,
        wire::{KvMessage, decode_kv_message},
    },
    limits::MAX_KV_VALUE_BYTES,
    wire::StreamKind,
};
use iroh_docs::{
    Author, Capability, ContentStatus, Entry, NamespaceSecret, Record, RecordIdentifier, SignedEntry, SyncOutcome,
    actor::{OpenOpts, SyncHandle},
    store::Store,
};

use crate::kv::{
    common::{Pair, next, spawn_machine, spawn_manager, within},
    raw::{self, Stored, StoredEntry, address, endpoint, hear, say},
};

/// Within this time of its return the machine's values are shown.
const SOON: Duration = Duration::from_secs(10);

/// How many entries are published: more than can be asked for at once.
const COUNT: usize = 1_500;

/// The entries of a machine in a document of iroh-docs, without a single value.
struct Publisher {
    stored: Stored,
    docs: SyncHandle,
}

impl Publisher {
    async fn new(stored: Stored) -> Self {
        let secret = NamespaceSecret::from_bytes(&stored.secrets[0]);
        let docs = SyncHandle::spawn(Store::memory(), None, "publisher".to_owned());
        docs.import_namespace(Capability::Write(secret.clone())).await.unwrap();
        docs.open(secret.id(), OpenOpts::default().sync()).await.unwrap();
        // How a node gets its author from its identity.
        let derived = blake3::derive_key("groundswell kv v1: the author of a node", &stored.key.to_bytes());
        let author = Author::from_bytes(&derived);
        for entry in stored.entries.iter().filter(|entry| entry.author == 0) {
            let signed = signed(entry, &secret, &author);
            docs.insert_remote(secret.id(), signed, [0; 32], ContentStatus::Complete).await.unwrap();
        }
        Self { stored, docs }
    }

    /// Connects as the machine, says that all was sent, publishes by a reconciliation, and goes when the manager asks for
    /// the first value.
    async fn publish_and_go(&self, manager: &Manager) {
        let (id, here) = (NamespaceSecret::from_bytes(&self.stored.secrets[0]).id(), self.stored.key.clone());
        let from = endpoint(Some(here)).await;
        let document = self.stored.documents()[0];
        let knock = raw::knock(&from, address(&manager.node().ticket()), document).await;
        assert!(knock.hello.is_some(), "it is the machine, for all that the manager can tell");
        let raw::Knock { connection, mut recv, send: mut talk, .. } = knock;
        let counter = self.stored.entries.iter().map(|entry| entry.counter).max().unwrap();
        say(&mut talk, &KvMessage::UpTo { author: KvAuthor::Machine, counter }).await;
        say(&mut talk, &KvMessage::CaughtUp).await;
        let (mut send, mut messages) = raw::accept(&connection, StreamKind::Reconciliation).await;
        let mut outcome = SyncOutcome::default();
        let reconciling = async {
            while let Some(body) = hear(&mut messages).await {
                let message = decode(&body).unwrap();
                let done = self.docs.sync_process_message(id, message, *manager.id().as_bytes(), outcome).await;
                let (reply, next) = done.unwrap();
                outcome = next;
                match reply {
                    Some(reply) => say(&mut send, &reply).await,
                    None => break,
                }
            }
            let _ = send.finish();
            outcome
        };
        let outcome = within("the end of the reconciliation", reconciling).await;
        assert!(outcome.num_sent >= COUNT, "{} entries were published", outcome.num_sent);
        let wanted = async {
            loop {
                let body = hear(&mut recv).await.expect("the manager goes on");
                if let KvMessage::Want { author, .. } = decode_kv_message(MAX_KV_VALUE_BYTES, &body).unwrap() {
                    return author;
                }
            }
        };
        assert_eq!(within("the manager to ask for a value", wanted).await, KvAuthor::Machine);
        // Killed before it serves one.
        from.close().await;
    }
}

fn signed(entry: &StoredEntry, secret: &NamespaceSecret, author: &Author) -> SignedEntry {
    let record = Record::new(entry.hash().into(), entry.envelope.len() as u64, entry.counter);
    let entry_of = Entry::new(RecordIdentifier::new(secret.id(), author.id(), entry.key), record);
    let bytes = [&entry.signatures[..], &postcard::to_allocvec(&entry_of).unwrap()].concat();
    let signed: SignedEntry = postcard::from_bytes(&bytes).unwrap();
    signed.verify(&()).unwrap();
    signed
}

/// "The manager shows the old value until it can show the new one, and shows it within 10 s of the machine's return",
/// also where the manager was restarted meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_were_published_and_not_served_are_shown_when_the_machine_is_back() {
    for restarted in [false, true] {
        let Pair { machine, mut manager, id, machine_dir, manager_dir } = Pair::new().await;
        machine.set_kv_value("key", "old").await.unwrap();
        crate::kv::common::until_put(&mut manager.watch_kv_key(id, "key").await.unwrap(), "key", "old").await;
        manager.shutdown().await.unwrap();
        machine.set_kv_value("key", "new").await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..COUNT {
            let machine = machine.clone();
            writers.spawn(async move { machine.set_kv_value(format!("more/{number}"), "x").await.unwrap() });
        }
        writers.join_all().await;
        machine.shutdown().await.unwrap();
        manager = spawn_manager(manager_dir.path()).await;
        let publisher = Publisher::new(Stored::read(machine_dir.path())).await;
        let mut watch = manager.watch_kv_key(id, "key").await.unwrap();
        assert_eq!(next(&mut watch).await, "put key=old by machine");
        assert_eq!(next(&mut watch).await, "caught up");
        publisher.publish_and_go(&manager).await;
        assert_eq!(manager.get_kv_value(id, "key").await.unwrap().unwrap().value, "old");
        if restarted {
            manager.shutdown().await.unwrap();
            manager = spawn_manager(manager_dir.path()).await;
            watch = manager.watch_kv_key(id, "key").await.unwrap();
            assert_eq!(next(&mut watch).await, "put key=old by machine");
            assert_eq!(next(&mut watch).await, "caught up");
        }
        let back = Instant::now();
        let machine = spawn_machine(machine_dir.path()).await;
        assert_eq!(next(&mut watch).await, "!put key=new by machine", "the old one until then, and nothing else");
        let all = async {
            while manager.kv_usage(id).unwrap().keys < COUNT + 1 {
                // A poll for a condition: time is under test only as patience.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("all of them", all).await;
        let took = back.elapsed();
        println!("{COUNT} published values are shown {took:?} after the machine was started again");
        assert!(took < SOON, "{took:?}");
        assert_eq!(manager.get_kv_entries(id).await.unwrap(), machine.get_kv_entries().await.unwrap());
        machine.shutdown().await.unwrap();
        manager.shutdown().await.unwrap();
    }
}
