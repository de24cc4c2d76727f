//! What machines and managers take they give back. In a program of its own, so that nothing else in the
//! process opens and closes anything meanwhile: the counts are exact.

#![cfg(target_os = "linux")] // counted by /proc

use crate::kv_common::{Pair, spawn_machine, until, within};
use groundswell::KvFilter;

/// File handles, threads, and tasks of the runtime.
fn held() -> [usize; 3] {
    let count = |dir: &str| std::fs::read_dir(dir).unwrap().count();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    [count("/proc/self/fd"), count("/proc/self/task"), tasks]
}

/// A pair that comes, works, is left by its readers, and goes: in order, and as in a crash.
async fn round() {
    let mut pair = Pair::new().await;
    let mut streams = Vec::new();
    for (writer, reader) in pair.turns() {
        for _ in 0..100 {
            streams.push(reader.watch("key").await);
        }
        drop(reader.subscribe(KvFilter::All).await);
        let value = writer.author().to_string();
        writer.set("key", &value).await;
        until("the value", async || reader.get("key").await.is_some_and(|entry| entry.value == value)).await;
    }
    // Without a word, as in a crash.
    drop(std::mem::replace(&mut pair.machine, spawn_machine(tempfile::TempDir::new().unwrap().path()).await));
    let machine = spawn_machine(pair.machine_dir.path()).await;
    machine.shutdown().await.unwrap();
    pair.shutdown().await;
    for stream in &mut streams {
        while within("the end of a stream", stream.next()).await.is_some() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_resources_returned() {
    let _alone = crate::ALONE.lock().await;
    // What the runtime and the libraries keep for good is there after the first.
    round().await;
    // Threads of the pool for blocking work are kept for ten seconds, and end by themselves.
    let at_rest = 3 + std::thread::available_parallelism().unwrap().get();
    until("idle threads to end", async || held()[1] <= at_rest).await;
    let before = held();
    for _ in 0..3 {
        round().await;
    }
    until("what the rounds took to be given back", async || {
        held().iter().zip(&before).all(|(now, before)| now <= before)
    })
    .await;
    println!("handles, threads and tasks: {before:?} before three more rounds, {:?} after", held());
}
