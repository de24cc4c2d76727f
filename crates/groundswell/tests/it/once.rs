//! A give that is repeated with its id has one effect, and the same result.

use groundswell::{Aeon, Durability, GiveError, IdError, Publications, lakes::Sum, limits::MAX_WRITE_IDS};
use tempfile::TempDir;

use crate::common::{Pair, next_update, spawn_node, until_caught_up};

async fn sum(of: &Publications<Sum>, path: &str) -> i64 {
    of.with_rock(path, |sum, _| *sum).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_give_counts_once_over_restarts_and_kills() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("till").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    assert_eq!(sums.give_once("/sum/a", "1", 5).await.unwrap(), Aeon(1));
    assert_eq!(sums.give_all_once("/sum/a", "2", [6, 7]).await.unwrap(), Aeon(3));
    for _ in 0..2 {
        assert_eq!(sums.give_once("/sum/a", "1", 5).await.unwrap(), Aeon(1));
        assert_eq!(sums.give_all_once("/sum/a", "2", [6, 7]).await.unwrap(), Aeon(3));
    }
    // One that was refused was not done, and its id is free.
    let refused = sums.give_once("/sum/a", "3", i64::MAX).await.unwrap_err();
    assert!(matches!(refused, GiveError::Refused { .. }), "{refused}");
    assert_eq!(sums.give_once("/sum/a", "3", 1).await.unwrap(), Aeon(4));
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("till").unwrap();
    let sums = agent.publications::<Sum>("/sum/*").await.unwrap();
    assert_eq!(sums.give_once("/sum/a", "1", 5).await.unwrap(), Aeon(1));
    assert_eq!(sum(&sums, "/sum/a").await, 19);
    // Nor is it given to a path that was ended since.
    sums.kill("/sum/a").await.unwrap();
    assert_eq!(sums.give_all_once("/sum/a", "2", [6, 7]).await.unwrap(), Aeon(3));
    assert!(sums.read().is_empty(), "the path is not begun again");
    // Another agent has ids of its own.
    let others = node.agent("other").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    assert_eq!(others.give_once("/sum/a", "1", 50).await.unwrap(), Aeon(1));
    assert_eq!(sum(&others, "/sum/a").await, 50);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_belongs_to_one_give() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("till").unwrap().publications::<Sum>("/sum/*").await.unwrap();
    sums.give_once("/sum/a", "id", 5).await.unwrap();
    let refused = [
        sums.give_once("/sum/a", "id", 6).await,
        sums.give_once("/sum/b", "id", 5).await,
        sums.give_all_once("/sum/a", "id", [5, 0]).await,
    ];
    for refused in refused {
        assert!(matches!(&refused, Err(GiveError::Id(IdError::Reused(id))) if id.as_bytes() == b"id"), "{refused:?}");
    }
    for bytes in [0, 129] {
        let refused = sums.give_once("/sum/a", vec![b'x'; bytes], 5).await;
        assert!(
            matches!(refused, Err(GiveError::Id(IdError::Length { bytes: found })) if found == bytes),
            "{refused:?}"
        );
    }
    assert_eq!(sum(&sums, "/sum/a").await, 5);
    assert_eq!(sums.read().len(), 1, "nothing was begun by what was refused");
    // Any bytes are an id.
    assert_eq!(sums.give_once("/sum/a", [0, 255], 1).await.unwrap(), Aeon(2));
    node.shutdown().await.unwrap();
}

/// Whoever asks for the same at the same time gets the same answer, and followers see one wave.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_give_at_the_same_time_counts_once() {
    let pair = Pair::new().await;
    let sums = pair.publisher.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
    sums.open("/till").await.unwrap();
    let source = groundswell::Source::new(pair.publisher.id(), "till", "/till").unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<Sum>("/till").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    until_caught_up(&mut updates).await;
    let givers: Vec<_> = (0..200)
        .map(|n| {
            let sums = sums.clone();
            let sale = n % 10;
            tokio::spawn(async move { (sale, sums.give_once("/till", format!("{sale:03}"), 1 << sale).await.unwrap()) })
        })
        .collect();
    let mut aeons = std::collections::BTreeMap::new();
    for giver in givers {
        let (sale, aeon) = giver.await.unwrap();
        assert_eq!(*aeons.entry(sale).or_insert(aeon), aeon, "one result for sale {sale}");
    }
    let mut distinct: Vec<Aeon> = aeons.into_values().collect();
    distinct.sort();
    assert_eq!(distinct, (1..=10).map(Aeon).collect::<Vec<_>>());
    assert_eq!(sum(&sums, "/till").await, 1_023);
    while next_update(&mut updates).await.aeon() < Aeon(10) {}
    assert_eq!(inbox.with_rock(&source, |sum, aeon| (*sum, aeon)).await.unwrap(), (1_023, Aeon(10)));
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}

/// Beyond the window an id is refused, never given again; after a restart too.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_may_be_forgotten_is_refused() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
    let all = MAX_WRITE_IDS + 300;
    let id = |n: usize| format!("{n:08}");
    let mut giving = tokio::task::JoinSet::new();
    for n in 0..all {
        let sums = sums.clone();
        giving.spawn(async move { sums.give_once("/till", format!("{n:08}"), 1).await.map(drop) });
    }
    while let Some(given) = giving.join_next().await {
        // Concurrent givers pass one another; an id that comes too late is refused, and is not given.
        assert!(matches!(given.unwrap(), Ok(()) | Err(GiveError::Id(IdError::Expired { .. }))));
    }
    let before = sum(&sums, "/till").await;
    assert!(before > MAX_WRITE_IDS as i64, "{before}");
    let check = async |sums: &Publications<Sum>| {
        let refused = sums.give_once("/till", id(0), 1).await.unwrap_err();
        assert!(matches!(&refused, GiveError::Id(IdError::Expired { .. })), "{refused}");
        // Within the window each is known.
        for n in [all - 1, all - MAX_WRITE_IDS / 2] {
            sums.give_once("/till", id(n), 1).await.unwrap();
        }
        assert_eq!(sum(sums, "/till").await, before);
    };
    check(&sums).await;
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let sums = node.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
    check(&sums).await;
    // And new ones go on.
    sums.give_once("/till", id(all), 1).await.unwrap();
    assert_eq!(sum(&sums, "/till").await, before + 1);
    node.shutdown().await.unwrap();
}

/// The ids of a publication in memory go with it: what was given is gone, so that it can be given again.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_a_publication_in_memory_go_with_it() {
    let dir = TempDir::new().unwrap();
    for _ in 0..2 {
        let node = spawn_node(dir.path()).await;
        let agent = node.agent("till").unwrap();
        let sums = agent.publications_with::<Sum>("/till", Durability::Memory).await.unwrap();
        for _ in 0..2 {
            assert_eq!(sums.give_once("/till", "1", 5).await.unwrap(), Aeon(1));
        }
        assert_eq!(sum(&sums, "/till").await, 5);
        node.shutdown().await.unwrap();
    }
}

/// Ids of gives in memory push no stored id out, however many there are: what is remembered of the stored ones is after a
/// restart what it was before, so that none of them is given again.
#[tokio::test(flavor = "multi_thread")]
async fn ids_of_gives_in_memory_push_no_stored_id_out() {
    let dir = TempDir::new().unwrap();
    let id = |n: usize| format!("{n:08}");
    let many = async |sums: &Publications<Sum>, path: &'static str, ids: std::ops::Range<usize>| {
        let mut giving = tokio::task::JoinSet::new();
        for n in ids {
            let sums = sums.clone();
            giving.spawn(async move { sums.give_once(path, format!("{n:08}"), 1).await });
        }
        while let Some(given) = giving.join_next().await {
            // Concurrent givers pass one another; an id that comes too late is refused.
            assert!(matches!(given.unwrap(), Ok(_) | Err(GiveError::Id(IdError::Expired { .. }))));
        }
    };
    let all = MAX_WRITE_IDS + 300;
    let mut full = 0;
    // Each run gives in memory from there on: the last one after all that is stored.
    for (run, first) in [1, 2, 3, 20].map(|n| n * all).into_iter().enumerate() {
        let node = spawn_node(dir.path()).await;
        let agent = node.agent("till").unwrap();
        let sums = agent.publications::<Sum>("/till").await.unwrap();
        let live = agent.publications_with::<Sum>("/live", Durability::Memory).await.unwrap();
        if run == 0 {
            assert_eq!(sums.give_once("/till", id(0), 1).await.unwrap(), Aeon(1));
        }
        live.give_once("/live", id(first), 1).await.unwrap();
        many(&live, "/live", first + 1..first + all).await;
        let forgotten = live.give_once("/live", id(first), 1).await;
        assert!(matches!(forgotten, Err(GiveError::Id(IdError::Expired { .. }))), "{forgotten:?}");
        match run {
            // The window of the stored ones is not full: the only one is remembered.
            0 | 1 => {
                assert_eq!(sums.give_once("/till", id(0), 1).await.unwrap(), Aeon(1), "run {run}");
                assert_eq!(sum(&sums, "/till").await, 1, "run {run}");
            }
            // It becomes full, and is known to be after a restart.
            _ => {
                if run == 2 {
                    many(&sums, "/till", 10 * all..11 * all).await;
                    full = sum(&sums, "/till").await;
                    assert!(full > MAX_WRITE_IDS as i64, "{full}");
                }
                let expired = sums.give_once("/till", id(0), 1).await;
                assert!(matches!(expired, Err(GiveError::Id(IdError::Expired { .. }))), "run {run}: {expired:?}");
                sums.give_once("/till", id(11 * all - 1), 1).await.unwrap();
                assert_eq!(sum(&sums, "/till").await, full, "run {run}");
            }
        }
        node.shutdown().await.unwrap();
        if run == 3 {
            // Nothing is in memory yet: the stored ones alone say that it is too old.
            let node = spawn_node(dir.path()).await;
            let sums = node.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
            let expired = sums.give_once("/till", id(0), 1).await;
            assert!(matches!(expired, Err(GiveError::Id(IdError::Expired { .. }))), "{expired:?}");
            assert_eq!(sum(&sums, "/till").await, full);
            node.shutdown().await.unwrap();
        }
    }
}

/// A node that shuts down says of each give that it is done or not done; and what it said is so.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_leaves_no_outcome_unknown() {
    let dir = TempDir::new().unwrap();
    let mut expected = 0;
    for round in 0..5 {
        let node = spawn_node(dir.path()).await;
        let sums = node.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
        let mut giving = tokio::task::JoinSet::new();
        for _ in 0..2_000 {
            let sums = sums.clone();
            giving.spawn(async move { sums.give("/till", 1).await });
        }
        // Some are under way.
        if let Some(given) = giving.join_next().await {
            given.unwrap().unwrap();
            expected += 1;
        }
        node.shutdown().await.unwrap();
        while let Some(given) = giving.join_next().await {
            match given.unwrap() {
                Ok(_) => expected += 1,
                Err(GiveError::ShutDown) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let node = spawn_node(dir.path()).await;
        let sums = node.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
        assert_eq!(sum(&sums, "/till").await, expected, "round {round}");
        node.shutdown().await.unwrap();
    }
}
