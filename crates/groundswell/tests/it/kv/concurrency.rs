//! Many at once: readers, writers, both sides.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use groundswell::{KvEntry, KvFilter};
use tempfile::TempDir;

use crate::kv::common::{Pair, Side, next, spawn_machine, until, until_put};

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_many_subscriptions_at_once() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..500 {
        let side = if number % 2 == 0 { machine.clone() } else { manager.clone() };
        readers.spawn(async move {
            if number % 5 == 0 {
                until_put(&mut side.subscribe(KvFilter::All).await, "key", "last").await;
            } else {
                until_put(&mut side.watch("key").await, "key", "last").await;
            }
        });
    }
    for value in 0..50 {
        machine.set("key", value.to_string()).await;
        manager.set("other", value.to_string()).await;
    }
    machine.set("key", "last").await;
    while let Some(read) = readers.join_next().await {
        read.unwrap();
    }
    pair.shutdown().await;
}

/// Both write the same key as fast as they can: both end with the same winner, and a watcher on
/// either side has seen it last.
#[tokio::test(flavor = "multi_thread")]
async fn concurrency_concurrent_writes_from_both_sides_to_the_same_key() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let (mut at_machine, mut at_manager) = (machine.watch("key").await, manager.watch("key").await);
    let write = async |side: &Side| {
        for value in 0..300 {
            side.set("key", format!("{}-{value}", side.author())).await;
        }
    };
    tokio::join!(write(&machine), write(&manager));
    until("one winner", async || machine.get("key").await == manager.get("key").await).await;
    let winner = machine.get("key").await.unwrap();
    let value = String::from_utf8_lossy(&winner.value).into_owned();
    until_put(&mut at_machine, "key", &value).await;
    until_put(&mut at_manager, "key", &value).await;
    assert!(value.ends_with("-299"), "the last write of one side wins: {value}");
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_concurrent_writes_from_both_sides_to_different_keys() {
    let pair = Pair::new().await;
    let [machine, manager] = pair.sides();
    let write = async |side: &Side| {
        for number in 0..500 {
            side.set(format!("{}/{number:03}", side.author()), number.to_string()).await;
        }
    };
    tokio::join!(write(&machine), write(&manager));
    until("all of both", async || {
        let (one, other) = (machine.entries(KvFilter::All).await, manager.entries(KvFilter::All).await);
        one.len() == 1_000 && one == other
    })
    .await;
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_a_stalled_subscriber_beside_a_busy_one() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let mut stalled = side.subscribe(KvFilter::All).await;
        while next(&mut stalled).await != "caught up" {}
        let mut busy = side.watch("key").await;
        while next(&mut busy).await != "caught up" {}
        for value in 0..2_000 {
            side.set("key", value.to_string()).await;
            assert_eq!(next(&mut busy).await, format!("!put key={value} by {}", side.author()));
        }
        // It skips what was replaced meanwhile, and gets the newest.
        assert_eq!(next(&mut stalled).await, format!("!put key=1999 by {}", side.author()));
    }
    pair.shutdown().await;
}

/// No writer waits more than ten times the median, and whatever was acknowledged is at both sides.
#[tokio::test(flavor = "multi_thread")]
async fn concurrency_contention_of_64_writers() {
    let pair = Pair::new().await;
    for side in pair.sides() {
        let side = Arc::new(side);
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..64 {
            let side = side.clone();
            writers.spawn(async move {
                let begun = Instant::now();
                for number in 0..100 {
                    side.set(format!("w/{writer}/{}", number % 10), number.to_string()).await;
                }
                begun.elapsed()
            });
        }
        let mut times = writers.join_all().await;
        times.sort_unstable();
        let (median, worst) = (times[32], times[63]);
        println!("64 writers of 100 on the {}: median {median:?}, slowest {worst:?}", side.author());
        assert!(worst < median * 10, "{worst:?} against a median of {median:?}");
        assert_eq!(side.entries(KvFilter::prefix("w/")).await.len(), 640);
        // All that was acknowledged is at both sides.
        let [machine, manager] = pair.sides();
        until("all of it at both sides", async || {
            let (one, other) = (machine.entries(KvFilter::All).await, manager.entries(KvFilter::All).await);
            one == other && one.iter().all(|entry| entry.value.starts_with(b"9") && entry.author == side.author())
        })
        .await;
    }
    pair.shutdown().await;
}

/// Everything is read a piece at a time, with writes between, and still is of one moment: of two keys at either end that
/// are written in turn, the first is never behind the last.
#[tokio::test(flavor = "multi_thread")]
async fn all_entries_are_read_as_they_were_at_one_moment_while_others_write() {
    const BETWEEN: usize = 20_000;
    const READS: usize = 100;
    let dir = TempDir::new().unwrap();
    let machine = spawn_machine(dir.path()).await;
    let mut writers = tokio::task::JoinSet::new();
    for part in 0..64 {
        let machine = machine.clone();
        writers.spawn(async move {
            for key in (part..BETWEEN).step_by(64) {
                machine.set_kv_value(format!("between/{key}"), "x").await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let reading = Arc::new(AtomicBool::new(true));
    let writer = tokio::spawn({
        let (machine, reading) = (machine.clone(), reading.clone());
        async move {
            let mut written = 0_u64;
            while reading.load(Ordering::Relaxed) {
                written += 1;
                for key in ["a", "z"] {
                    machine.set_kv_value(key, written.to_string()).await.unwrap();
                }
            }
            written
        }
    });
    until("both keys", async || machine.get_kv_value("z").await.unwrap().is_some()).await;
    let number = |entry: &KvEntry| std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap();
    for _ in 0..READS {
        let all = machine.get_kv_entries().await.unwrap();
        let (first, last) = (number(&all[0]), number(&all[all.len() - 1]));
        assert_eq!(all.len(), BETWEEN + 2);
        assert!(first == last || first == last + 1, "{first} and {last} were never there together");
    }
    reading.store(false, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert!(written > 10, "it wrote meanwhile: {written}");
    machine.shutdown().await.unwrap();
}
