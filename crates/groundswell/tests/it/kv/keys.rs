//! Keys are independent, however they begin: for set, delete, watch and prefix subscription, whichever side
//! writes and whichever looks.

use std::collections::BTreeSet;

use groundswell::{KvAuthor, KvEvent, KvFilter, KvWatch};

use crate::kv::common::{Pair, Side, Updates, next, until, within};

/// `a`, `ab`, `slot/1`, `slot/10`, the empty key and all 256 keys of one byte, the longer ones first.
fn keys() -> Vec<Vec<u8>> {
    let mut keys: BTreeSet<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    keys.extend(["", "a", "ab", "slot/1", "slot/10"].map(|key| key.as_bytes().to_vec()));
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_independent_for_set_delete_and_watch() {
    let pair = Pair::new().await;
    for (writer, reader) in pair.turns() {
        for looking in [&writer, &reader] {
            let mut watches = Vec::new();
            for key in keys() {
                let mut watch = looking.watch(&key).await;
                while next(&mut watch).await != "caught up" {}
                watches.push((key, watch));
            }
            // One after another; each watch is told of its own key and of nothing else.
            for (key, watch) in &mut watches {
                writer.set(&*key, &*key).await;
                assert_eq!(own_event(watch, key).await, Some(writer.author()));
            }
            until("all of them", async || looking.entries(KvFilter::All).await.len() == keys().len()).await;
            // A deletion takes no other key along.
            for (left, (key, watch)) in watches.iter_mut().enumerate().rev() {
                assert!(writer.delete(&*key).await);
                assert_eq!(own_event(watch, key).await, None);
                assert_eq!(looking.entries(KvFilter::All).await.len(), left, "after {key:?}");
            }
            // Whoever looks next begins with nothing.
            until("an empty store", async || reader.entries(KvFilter::All).await.is_empty()).await;
        }
    }
    pair.shutdown().await;
}

/// The next event of a watch, which is of its own key: who has put its value, or `None` for a deletion.
async fn own_event(watch: &mut KvWatch, own: &[u8]) -> Option<KvAuthor> {
    match within("an event", watch.update()).await.unwrap().event {
        KvEvent::Put(entry) => {
            assert_eq!((entry.key.as_bytes(), &entry.value[..]), (own, own));
            Some(entry.author)
        }
        KvEvent::Delete { key, .. } => {
            assert_eq!(key.as_bytes(), own);
            None
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_independent_for_prefix_subscriptions() {
    let pair = Pair::new().await;
    for (writer, reader) in pair.turns() {
        for looking in [&writer, &reader] {
            let prefixes = ["", "a", "ab", "abc", "s", "slot/", "slot/1", "slot/10", "slot/100"];
            let mut live = Vec::new();
            for prefix in prefixes {
                let mut subscription = looking.subscribe(KvFilter::prefix(prefix)).await;
                while next(&mut subscription).await != "caught up" {}
                live.push(subscription);
            }
            set_all(&writer).await;
            for (prefix, subscription) in prefixes.iter().zip(&mut live) {
                let expected: BTreeSet<_> =
                    keys().into_iter().filter(|key| key.starts_with(prefix.as_bytes())).collect();
                let mut seen = BTreeSet::new();
                while seen.len() < expected.len() {
                    match within("an event", subscription.update()).await.unwrap().event {
                        KvEvent::Put(entry) => assert!(seen.insert(entry.key.as_bytes().to_vec()), "none comes twice"),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(seen, expected, "below {prefix:?}");
            }
            // A deletion is told where its key belongs, and nowhere else: what comes next there is the last key.
            for key in ["slot/1", "a", ""] {
                assert!(writer.delete(key).await);
            }
            writer.set("slot/100", "last").await;
            for (prefix, subscription) in prefixes.iter().zip(&mut live) {
                let mut deleted: Vec<String> = Vec::new();
                let below = |key: &str| key.starts_with(prefix);
                let count = ["slot/1", "a", ""].into_iter().filter(|key| below(key)).count();
                for _ in 0..count {
                    deleted.push(next(subscription).await);
                }
                deleted.sort();
                let mut expected: Vec<String> = ["slot/1", "a", ""]
                    .into_iter()
                    .filter(|key| below(key))
                    .map(|key| format!("!delete {key} by {}", writer.author()))
                    .collect();
                expected.sort();
                assert_eq!(deleted, expected, "below {prefix:?}");
                if below("slot/100") {
                    assert_eq!(next(subscription).await, format!("!put slot/100=last by {}", writer.author()));
                }
            }
            for entry in writer.entries(KvFilter::All).await {
                writer.delete(entry.key.as_bytes()).await;
            }
            until("an empty store", async || reader.entries(KvFilter::All).await.is_empty()).await;
        }
    }
    pair.shutdown().await;
}

async fn set_all(writer: &Side) {
    for key in keys() {
        writer.set(&key, &key).await;
    }
}
