//! What takes minutes of the key-value store. `cargo xtask soak` runs it, and prints its figures.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests are not inside a #[test], and fail as one

#[allow(dead_code, reason = "the tests of machines and managers use the rest")]
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use super::common::{
    OPEN, Pair, Side, init_log, is_current, machine_builder, manager_builder, pair, spawn_machine, spawn_manager,
};
use groundswell::{ClaimError, ClaimFailure, ClaimRefusal, KvEntry, KvError, Manager, PeerId};
use tempfile::TempDir;
use tokio::task::JoinSet;

const MIB: u64 = 1024 * 1024;

/// How long a soak waits for what takes long.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LONG_PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LONG_PATIENCE:?} for {what}"),
    }
}

/// Waits until a condition holds, looking now and then.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    within(what, async {
        while !holds().await {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

/// The room on disk that all files of a directory take.
fn disk_use(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| size(&entry.unwrap())).sum()
}

fn size(entry: &std::fs::DirEntry) -> u64 {
    let metadata = entry.metadata().unwrap();
    if metadata.is_dir() {
        return disk_use(&entry.path());
    }
    #[cfg(unix)]
    let taken = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    let taken = 0;
    // Whichever is more: a file with holes may fill them.
    taken.max(metadata.len())
}

impl Pair {
    fn disk_use(&self) -> u64 {
        disk_use(self.machine_dir.path()) + disk_use(self.manager_dir.path())
    }

    /// Waits until a reconciliation has begun after now and found both alike: then nothing is put off any more.
    async fn reconciled_anew(&mut self) {
        reconciled_anew(&mut self.manager, self.manager_dir.path(), self.id).await;
    }
}

/// A reconciliation comes early in each connection. One that comes while a docs document is still being filled finds
/// that they differ, and the next one would be ten minutes later: then the manager begins another connection.
async fn reconciled_anew(manager: &mut Manager, dir: &Path, machine: PeerId) {
    let begun = Instant::now();
    loop {
        manager.shutdown().await.unwrap();
        *manager = spawn_manager(dir).await;
        let mut status = manager.machine_status_changes(machine).unwrap();
        let alike = status.wait_for(|status| status.reconciled > 0);
        if tokio::time::timeout(Duration::from_secs(30), alike).await.is_ok() {
            return;
        }
        assert!(begun.elapsed() < LONG_PATIENCE, "no reconciliation has found both sides alike");
    }
}

/// "A key overwritten 100,000 times: disk use after collection within 64 MiB of one that was written once."
/// Both data directories, every file. There is nothing to be called: collecting is part of each write.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `cargo xtask soak` runs it"]
async fn soak_a_key_overwritten_100_000_times_takes_no_more_disk_than_one_written_once() {
    const WRITES: usize = 100_000;
    const WRITERS: usize = 16;
    const VALUE_BYTES: usize = 4_096;
    init_log();
    let (mut once, mut often) = (Pair::new().await, Pair::new().await);
    let last = vec![b'l'; VALUE_BYTES];
    once.machine.set_kv_value("key", &last).await.unwrap();
    let begun = Instant::now();
    for side in often.sides() {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let side = side.clone();
            writers.spawn(async move {
                let mut value = vec![b'v'; VALUE_BYTES];
                for number in 0..WRITES / 2 / WRITERS {
                    value[..16].copy_from_slice(format!("{writer:04}/{number:011}").as_bytes());
                    side.set("key", &value).await;
                }
            });
        }
        writers.join_all().await;
    }
    let written = begun.elapsed();
    let most = often.disk_use();
    // A write wins over all that its writer knew of, and not over what was written in the same millisecond elsewhere.
    let [machine, manager] = often.sides();
    until("both sides to be alike", async || machine.get("key").await == manager.get("key").await).await;
    often.machine.set_kv_value("key", &last).await.unwrap();
    for pair in [&mut once, &mut often] {
        let [machine, manager] = pair.sides();
        until("the last value at both sides", async || {
            let (one, other) = (machine.get("key").await, manager.get("key").await);
            one == other && one.is_some_and(|entry| entry.value == last)
        })
        .await;
        pair.reconciled_anew().await;
    }
    let (of_once, of_often) = (once.disk_use(), often.disk_use());
    println!(
        "{WRITES} writes of {VALUE_BYTES} bytes to one key in {:.1} s: {:.2} MiB on disk at both sides right after, \
         {:.2} MiB when all was settled; written once: {:.2} MiB; all that was written: {} MiB",
        written.as_secs_f64(),
        most as f64 / MIB as f64,
        of_often as f64 / MIB as f64,
        of_once as f64 / MIB as f64,
        (WRITES * VALUE_BYTES) as u64 / MIB
    );
    assert!(of_often <= of_once + 64 * MIB, "{of_often} bytes after {WRITES} writes, {of_once} after one");
    often.shutdown().await;
    once.shutdown().await;
}

/// A document with as many keys as it may have: the next one is refused, known ones can be written, and a manager
/// that knows nothing yet gets it all.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `cargo xtask soak` runs it"]
async fn soak_a_document_of_100_000_keys_is_full_and_travels_whole() {
    const KEYS: usize = 100_000;
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let machine = spawn_machine(dirs[0].path()).await;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..64 {
        let machine = machine.clone();
        writers.spawn(async move {
            for number in (writer..KEYS).step_by(64) {
                machine.set_kv_value(format!("key/{number:06}"), number.to_string()).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let written = begun.elapsed();
    assert_eq!(machine.kv_usage().keys, KEYS);
    let error = machine.set_kv_value("one more", "").await.unwrap_err();
    assert!(matches!(error, KvError::TooManyKeys(_)), "{error}");
    assert!(machine.delete_kv_value("key/000007").await.unwrap());
    let error = machine.set_kv_value("one more", "").await.unwrap_err();
    assert!(matches!(error, KvError::TooManyKeys(_)), "a deleted key counts: {error}");
    machine.set_kv_value("key/000007", "again").await.unwrap();
    let manager = spawn_manager(dirs[1].path()).await;
    let id = pair(&machine, &manager).await;
    let begun = Instant::now();
    let mut status = manager.machine_status_changes(id).unwrap();
    within("the manager to be current", status.wait_for(is_current)).await.unwrap();
    let travelled = begun.elapsed();
    assert_eq!(manager.get_kv_entries(id).await.unwrap(), machine.get_kv_entries().await.unwrap());
    let error = manager.set_kv_value(id, "one more", "").await.unwrap_err();
    assert!(matches!(error, KvError::TooManyKeys(_)), "{error}");
    // A write does not wait for what goes on behind it.
    let begun = Instant::now();
    manager.set_kv_value(id, "key/000008", "by the manager").await.unwrap();
    crate::kv::common::until_put(
        &mut machine.watch_kv_key("key/000008").await.unwrap(),
        "key/000008",
        "by the manager",
    )
    .await;
    let live = begun.elapsed();
    println!(
        "{KEYS} keys: written in {:.1} s, at a new manager after {:.1} s; a write of one of them seen there after {:.1} ms",
        written.as_secs_f64(),
        travelled.as_secs_f64(),
        live.as_secs_f64() * 1e3,
    );
    // Reading all of them holds up who writes for as long as it takes.
    let begun = Instant::now();
    let all = machine.get_kv_entries().await.unwrap().len();
    let read = begun.elapsed();
    assert_eq!(all, KEYS);
    println!("all of them are read at once in {:.1} ms", read.as_secs_f64() * 1e3);
    assert!(read < Duration::from_millis(500), "{read:?}");
    let begun = Instant::now();
    let mut manager = manager;
    reconciled_anew(&mut manager, dirs[1].path(), id).await;
    println!("both documents are alike {:.1} s after that", begun.elapsed().as_secs_f64());
    machine.shutdown().await.unwrap();
    let begun = Instant::now();
    let machine = spawn_machine(dirs[0].path()).await;
    println!("{KEYS} keys are opened in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(machine.kv_usage().keys, KEYS);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// The last handle of either side is dropped, again and again, while both write: nothing that was acknowledged is lost,
/// and the two agree in the end. Each key has one writer, whose values count up. What a kill does is tried with
/// processes, by the tool's tests.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; `cargo xtask soak` runs it"]
async fn soak_100_drops_of_either_side_while_both_write_lose_nothing() {
    const KEYS: u64 = 500;
    let Pair { mut machine, mut manager, id, machine_dir, manager_dir } = Pair::new().await;
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut writes = 0;
    for round in 0..100_u64 {
        let (sender, mut acks) = tokio::sync::mpsc::unbounded_channel();
        let mut writers = JoinSet::new();
        for side in [Side::Machine(machine.clone()), Side::Manager(manager.clone(), id)] {
            for writer in 0..4 {
                let (side, sender) = (side.clone(), sender.clone());
                writers.spawn(async move {
                    for number in round * 1_000_000.. {
                        let key = format!("{}/{writer}/{}", side.author(), number % KEYS);
                        side.set(&key, number.to_string()).await;
                        let _ = sender.send((key, number));
                    }
                });
            }
        }
        until("some writes", async || acks.len() >= 500).await;
        // The last handle goes, with writes under way: without a shutdown.
        writers.shutdown().await;
        drop(sender);
        if round % 2 == 0 {
            drop(machine);
            machine = spawn_machine(machine_dir.path()).await;
        } else {
            drop(manager);
            manager = spawn_manager(manager_dir.path()).await;
        }
        while let Some((key, number)) = acks.recv().await {
            acknowledged.insert(key, number);
            writes += 1;
        }
        for (key, number) in &acknowledged {
            let here = match key.starts_with("machine/") {
                true => machine.get_kv_value(key).await.unwrap(),
                false => manager.get_kv_value(id, key).await.unwrap(),
            };
            assert!(here.is_some_and(|here| number_in(&here) >= *number), "{key} after drop {round}");
        }
    }
    until("both sides to be alike", async || {
        machine.get_kv_entries().await.unwrap() == manager.get_kv_entries(id).await.unwrap()
    })
    .await;
    for (key, number) in &acknowledged {
        assert!(number_in(&machine.get_kv_value(key).await.unwrap().unwrap()) >= *number, "{key}");
    }
    println!("100 drops, {writes} writes acknowledged, nothing lost, and both sides are alike");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

fn number_in(entry: &KvEntry) -> u64 {
    std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

/// With nothing said to a builder, a claim is over after a minute.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute, which is what is under test; `cargo xtask soak` runs it"]
async fn soak_a_claim_times_out_after_a_minute() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let machine = machine_builder(dirs[0].path()).spawn().await.unwrap();
    let manager = manager_builder(dirs[1].path()).spawn().await.unwrap();
    let begun = Instant::now();
    machine.open_claims(OPEN);
    let claim = manager.begin_claim(&machine.ticket()).await.unwrap();
    let _unanswered = machine.await_next_incoming_claim_request().await.unwrap();
    let error = within("the end of the claim", claim.answer(true)).await.unwrap_err();
    let timed_out =
        matches!(error, ClaimError::Claim(ClaimFailure::TimedOut | ClaimFailure::Refused(ClaimRefusal::TimedOut)));
    assert!(timed_out, "{error}");
    let took = begun.elapsed();
    assert!((Duration::from_secs(59)..Duration::from_secs(70)).contains(&took), "{took:?}");
    pair(&machine, &manager).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
