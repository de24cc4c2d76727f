//! Following many entries, on either side.

use std::collections::BTreeMap;

use groundswell::{KvAuthor, KvEvent, KvFilter, KvFleetEvent, KvKey};

use crate::kv::common::{Pair, Updates, next, pair, spawn_machine, within};

#[tokio::test(flavor = "multi_thread")]
async fn entries_subscription_new_updated_and_deleted_entries() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let author = side.author();
        let (one, two) = (format!("{author}/1"), format!("{author}/2"));
        side.set(&one, "a").await;
        let mut entries = side.subscribe(KvFilter::prefix(format!("{author}/"))).await;
        assert_eq!(next(&mut entries).await, format!("put {one}=a by {author}"));
        assert_eq!(next(&mut entries).await, "caught up");
        side.set(&two, "b").await;
        assert_eq!(next(&mut entries).await, format!("!put {two}=b by {author}"));
        side.set(&one, "c").await;
        assert_eq!(next(&mut entries).await, format!("!put {one}=c by {author}"));
        side.delete(&two).await;
        assert_eq!(next(&mut entries).await, format!("!delete {two} by {author}"));
        // A reader that comes back goes on where it was; one of another run is told to begin anew.
        let cursor = entries.cursor();
        drop(entries);
        side.set(&one, "d").await;
        let mut again = match &side {
            crate::kv::common::Side::Machine(machine) => {
                machine.subscribe_kv_entries_from(KvFilter::prefix(format!("{author}/")), cursor).await.unwrap()
            }
            crate::kv::common::Side::Manager(manager, id) => {
                let filter = KvFilter::prefix(format!("{author}/"));
                manager.subscribe_kv_entries_from(*id, filter, cursor).await.unwrap()
            }
        };
        assert_eq!(next(&mut again).await, format!("put {one}=d by {author}"));
        assert_eq!(next(&mut again).await, "caught up");
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_subscription_prefix_range_and_author_filters() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    for key in ["a", "ab", "b", "c"] {
        machine.set(key, "x").await;
    }
    let mut seen = manager.watch("c").await;
    crate::kv::common::until_put(&mut seen, "c", "x").await;
    manager.set("ab", "y").await;
    crate::kv::common::until_put(&mut machine.watch("ab").await, "ab", "y").await;
    let key = |name: &str| KvKey::new(name).unwrap();
    let cases: [(KvFilter, &[&str]); 6] = [
        (KvFilter::prefix("a"), &["a", "ab"]),
        (KvFilter::range(key("ab")..key("c")), &["ab", "b"]),
        (KvFilter::Author(KvAuthor::Manager), &["ab"]),
        (KvFilter::Author(KvAuthor::Machine), &["a", "b", "c"]),
        (KvFilter::any_of([KvFilter::Key(key("c")), KvFilter::Author(KvAuthor::Manager)]), &["ab", "c"]),
        (KvFilter::predicate(|entry| entry.value == "y"), &["ab"]),
    ];
    for side in pair.sides() {
        for (filter, expected) in &cases {
            let keys: Vec<String> = side.entries(filter.clone()).await.iter().map(|one| one.key.to_string()).collect();
            assert_eq!(keys, *expected, "{filter:?}");
            let mut stream = side.subscribe(filter.clone()).await;
            for key in *expected {
                assert!(next(&mut stream).await.starts_with(&format!("put {key}=")), "{filter:?}");
            }
            assert_eq!(next(&mut stream).await, "caught up", "{filter:?}");
        }
    }
    // What no longer matches has left.
    let mut of_manager = machine.subscribe(KvFilter::Author(KvAuthor::Manager)).await;
    assert_eq!(next(&mut of_manager).await, "put ab=y by manager");
    assert_eq!(next(&mut of_manager).await, "caught up");
    machine.set("ab", "z").await;
    assert_eq!(next(&mut of_manager).await, "!left ab");
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_subscription_an_empty_store() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let mut entries = side.subscribe(KvFilter::All).await;
        assert_eq!(next(&mut entries).await, "caught up");
        assert_eq!(side.entries(KvFilter::All).await, []);
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_subscription_thousands_of_entries() {
    const COUNT: usize = 5_000;
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..50 {
        let machine = machine.clone();
        writers.spawn(async move {
            for number in (writer..COUNT).step_by(50) {
                machine.set(format!("key/{number:05}"), number.to_string()).await;
            }
        });
    }
    let mut held = BTreeMap::new();
    let mut entries = manager.subscribe(KvFilter::All).await;
    let mut caught_up = 0;
    while held.len() < COUNT {
        match within("an event", entries.update()).await.unwrap().event {
            KvEvent::Put(entry) => assert_eq!(held.insert(entry.key.clone(), entry), None, "none comes twice"),
            KvEvent::CaughtUp => caught_up += 1,
            other => panic!("{other:?}"),
        }
    }
    writers.join_all().await;
    assert_eq!(caught_up, 1);
    assert_eq!(machine.entries(KvFilter::All).await, held.values().cloned().collect::<Vec<_>>());
    // A new reader gets all of it as its snapshot, in order.
    let mut fresh = machine.subscribe(KvFilter::All).await;
    for entry in held.values() {
        let update = within("an event", fresh.update()).await.unwrap();
        assert_eq!((&update.event, update.live), (&KvEvent::Put(entry.clone()), false));
    }
    assert_eq!(next(&mut fresh).await, "caught up");
    pair.shutdown().await;
}

/// The manager's stream over all its machines: those that are claimed later too, and their end.
#[tokio::test(flavor = "multi_thread")]
async fn entries_subscription_over_all_machines() {
    let one = Pair::new().await;
    let mut fleet = one.manager.subscribe_all_kv_entries(KvFilter::All).await.unwrap();
    let mut events = Vec::new();
    while !events.contains(&"all caught up".to_owned()) {
        events.push(in_words(fleet.next().await.unwrap()));
    }
    one.machine.set_kv_value("stock", "1").await.unwrap();
    assert_eq!(in_words(within("the first", fleet.next()).await.unwrap()), format!("{}: !put stock=1", one.id));
    let dir = tempfile::TempDir::new().unwrap();
    let second = spawn_machine(dir.path()).await;
    second.set_kv_value("stock", "2").await.unwrap();
    let id = pair(&second, &one.manager).await;
    let mut events = Vec::new();
    while !events.iter().any(|event: &String| event.ends_with("put stock=2")) {
        events.push(in_words(within("the second", fleet.next()).await.unwrap()));
    }
    assert!(events.iter().all(|event| event.starts_with(&id.to_string())), "{events:?}");
    assert_eq!(one.manager.list_machine_ids().len(), 2);
    one.manager.release(id).await.unwrap();
    let mut gone = within("the end of the second", fleet.next()).await.unwrap();
    while !matches!(gone, KvFleetEvent::Gone { .. }) {
        gone = within("the end of the second", fleet.next()).await.unwrap();
    }
    assert_eq!(gone, KvFleetEvent::Gone { machine: id });
    let manager = one.manager.clone();
    second.shutdown().await.unwrap();
    one.shutdown().await;
    while within("the end", fleet.next()).await.is_some() {}
    assert_eq!(fleet.ended(), Some(groundswell::KvEnded::ShutDown));
    assert!(manager.subscribe_all_kv_entries(KvFilter::All).await.is_err());
}

fn in_words(event: KvFleetEvent) -> String {
    match event {
        KvFleetEvent::Update { machine, update } => {
            let words = crate::kv::common::words(&update);
            format!("{machine}: {}", words.split(" by ").next().unwrap())
        }
        KvFleetEvent::CaughtUp => "all caught up".to_owned(),
        other => format!("{other:?}"),
    }
}
