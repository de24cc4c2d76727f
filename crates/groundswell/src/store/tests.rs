//! What storage is after it has failed at any of its steps, and that no reader is ahead of it.

mod bodies;
mod suspect;

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use groundswell_core::{Aeon, Cursor, Digest, LakeId, Rule, tide::Tide};
use tempfile::TempDir;

use super::*;
use crate::{
    Event, GiveError, Node, Publications, Subscriptions, Updates,
    disk::{
        JOURNAL_FILE, STORAGE_FILE,
        failing::{Fault, Loss, Plan},
    },
    lakes::{Log, Sum},
};

const FAULTS: [Fault; 3] = [Fault::Once, Fault::Torn, Fault::Lasting];

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(DataDir::open(dir)?, Arc::default())
}

/// How the journal is to fail, on whose flush a write waits.
fn plan(dir: &Path) -> Arc<Plan> {
    Plan::of(&dir.join(JOURNAL_FILE))
}

/// How the tables are to fail.
fn plan_of_tables(dir: &Path) -> Arc<Plan> {
    Plan::of(&dir.join(STORAGE_FILE))
}

/// A publication of one rock and some waves.
fn publication() -> (TideRow, Tide, Bytes) {
    let agent = Name::new("main").unwrap();
    let key = TideKey::Publication { agent, path: "/a".parse().unwrap() };
    let lake = LakeId { name: Name::new("log").unwrap(), version: 1 };
    let row = TideRow { key, lake, epoch: Epoch([1; 16]), rule: Rule::default() };
    let rock = Bytes::from_static(b"rock");
    let info = RockInfo { bytes: rock.len() as u64, digest: Digest::of(&rock) };
    let tide = Tide::begin(Cursor { epoch: row.epoch, aeon: Aeon(0) }, row.rule, info);
    (row, tide, rock)
}

/// Everything of the tide that is stored: how many rows it has, which waves, how many rocks.
fn stored(store: &Store) -> (usize, Vec<u8>, usize) {
    // Everything that was written is in the tables then.
    let (tides, rocks) = (store.tides().unwrap().len(), store.tide(1).unwrap().rocks.len());
    let waves = store.waves(1, Aeon(1), Aeon(u64::MAX >> 1), usize::MAX).unwrap();
    (tides, waves.iter().map(|wave| wave[0]).collect(), rocks)
}

fn write_waves(store: &Store, tide: &mut Tide, waves: &[Bytes]) -> Result<(), WriteError> {
    let mut changes = tide.stage();
    for wave in waves {
        changes.push_wave(wave.clone());
    }
    let written = store.write(&[Write::Changes { id: 1, changes: &changes, rocks: &[], ahead: &[] }]);
    if written.is_ok() {
        tide.commit(changes);
    }
    written
}

/// Whichever of its steps a write fails at: one that is said not to be done is not there, and will not be; one with an unknown
/// outcome is not seen, and writing it again leads to the same state.
#[test]
fn a_write_that_fails_at_any_step_is_not_there_or_can_be_written_again() {
    let (mut not_done, mut unknown) = (0, 0);
    for fault in FAULTS {
        for step in 0.. {
            let dir = TempDir::new().unwrap();
            let store = open(dir.path()).unwrap();
            let (row, mut tide, rock) = publication();
            let mut changes = tide.stage();
            let info = tide.rocks().next().unwrap().1;
            changes.begin_anew(tide.cursor(), info);
            let writes = [
                Write::Tide { id: 1, row: &row },
                Write::Changes { id: 1, changes: &changes, rocks: &[(Aeon(0), rock)], ahead: &[] },
            ];
            store.write(&writes).unwrap();
            let wave = |n: u8| Bytes::from(vec![n; 3_000]);
            write_waves(&store, &mut tide, &[wave(1)]).unwrap();
            let before = stored(&store);
            assert_eq!(before, (1, vec![1], 1));
            let plan = plan(dir.path());
            plan.fail_at(step, fault);
            let written = write_waves(&store, &mut tide, &[wave(2), wave(3)]);
            let failed = plan.lift();
            let Err(error) = written else {
                assert!(!failed, "{fault:?} at {step} was not noticed");
                break;
            };
            assert_eq!(stored(&store), before, "{fault:?} at {step}");
            let mut expected = before.1.clone();
            match error {
                WriteError::Storage(error) => {
                    not_done += 1;
                    assert!(error.to_string().contains("try again"), "{error}");
                }
                WriteError::Unknown(outcome) => {
                    assert!(!outcome.to_string().contains("try again"), "{outcome}");
                    unknown += 1;
                    write_waves(&store, &mut tide, &[wave(2), wave(3)]).unwrap();
                    expected.extend([2, 3]);
                }
                WriteError::ShutDown => panic!("{fault:?} at {step}"),
            }
            assert_eq!(stored(&store).1, expected, "{fault:?} at {step}");
            write_waves(&store, &mut tide, &[wave(4)]).unwrap();
            expected.push(4);
            assert_eq!(stored(&store).1, expected, "{fault:?} at {step}");
            drop(store);
            assert_eq!(stored(&open(dir.path()).unwrap()).1, expected, "{fault:?} at {step}, opened again");
        }
    }
    // On a disk that fails once, and on one that stays broken.
    assert!(not_done > 0 && unknown > 0, "{not_done} not done, {unknown} unknown");
}

/// A storage that cannot be made, at whichever step, leaves a directory that is still new; one
/// that cannot be opened is said to be the disk's fault, and keeps what it has.
#[test]
fn an_opening_that_fails_at_any_step_can_be_done_again() {
    let mut failures = 0;
    for fault in FAULTS {
        for step in 0.. {
            let dir = TempDir::new().unwrap();
            // Made beside its place at first.
            let draft = Plan::of(&dir.path().join("node.redb.new"));
            draft.fail_at(step, fault);
            let opened = open(dir.path());
            draft.lift();
            match opened {
                Ok(store) => {
                    drop(store);
                    break;
                }
                Err(OpenError::Storage { path, .. }) => assert_eq!(path, dir.path().join(STORAGE_FILE)),
                Err(other) => panic!("{fault:?} at {step}: {other}"),
            }
            failures += 1;
            assert!(!dir.path().join(STORAGE_FILE).exists(), "{fault:?} at {step}");
            drop(open(dir.path()).unwrap());
        }
        for step in 0.. {
            let dir = TempDir::new().unwrap();
            drop(open(dir.path()).unwrap());
            let plan = plan_of_tables(dir.path());
            plan.fail_at(step, fault);
            let opened = open(dir.path());
            let failed = plan.lift();
            match opened {
                Ok(store) if failed => drop(store),
                Ok(store) => {
                    drop(store);
                    break;
                }
                Err(error @ OpenError::Storage { .. }) => {
                    assert!(error.to_string().contains("disk's space"), "{error}");
                    failures += 1;
                }
                Err(other) => panic!("{fault:?} at {step}: {other}"),
            }
            drop(open(dir.path()).unwrap());
        }
    }
    assert!(failures > 10, "{failures}");
}

/// A process that died while it made the storage leaves a draft, whatever is in it.
#[test]
fn a_first_opening_that_was_cut_off_is_done_again() {
    for draft in [&b""[..], b"redb", &[0; 100_000]] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("node.redb.new"), draft).unwrap();
        drop(open(dir.path()).unwrap());
        assert!(!dir.path().join("node.redb.new").exists());
        drop(open(dir.path()).unwrap());
    }
}

async fn node(dir: &Path) -> Node {
    Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap()).spawn().await.unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await;
    assert!(waited.is_ok(), "waited for {what}");
}

async fn until_aeon(updates: &mut Updates<Log>, aeon: Aeon) -> Vec<Aeon> {
    let mut seen = Vec::new();
    while updates.cursor().is_none_or(|at| at.aeon < aeon) {
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), updates.next()).await;
        if let Event::Update(update) = next.expect("an event").expect("no end") {
            seen.push(update.aeon());
        }
    }
    seen
}

/// A publisher whose storage can be made to fail, with a local reader and a remote one.
struct World {
    publisher: Node,
    follower: Node,
    logs: Publications<Log>,
    inbox: Subscriptions<Log>,
    source: Source,
    local: Updates<Log>,
    remote: Updates<Log>,
    plan: Arc<Plan>,
    dirs: [TempDir; 2],
}

impl World {
    async fn new() -> Self {
        let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let (publisher, follower) = (node(dirs[0].path()).await, node(dirs[1].path()).await);
        follower.add_peer(&publisher.ticket()).await.unwrap();
        let agent = publisher.agent("main").unwrap();
        let logs = agent.publications::<Log>("/log").await.unwrap();
        logs.give("/log", "1".to_owned()).await.unwrap();
        // Something else to read, to see that what was sent would be there.
        agent.publications::<Sum>("/sums/*").await.unwrap().open("/sums/a").await.unwrap();
        let source = Source::new(publisher.id(), "main", "/log").unwrap();
        let own = agent.subscriptions::<Log>("/log").await.unwrap();
        let mut local = own.surf(source.clone()).await.unwrap();
        let inbox = follower.agent("main").unwrap().subscriptions::<Log>("/log").await.unwrap();
        let mut remote = inbox.surf(source.clone()).await.unwrap();
        until_aeon(&mut local, Aeon(1)).await;
        until_aeon(&mut remote, Aeon(1)).await;
        until("both to be live", || [&local, &remote].iter().all(|one| one.freshness() == crate::Freshness::Live))
            .await;
        // What else there is to be told is told.
        while local.next().now_or_never().is_some() {}
        while remote.next().now_or_never().is_some() {}
        let plan = plan(dirs[0].path());
        Self { publisher, follower, logs, inbox, source, local, remote, plan, dirs }
    }

    /// Restarts the publisher. Its local reader begins anew.
    async fn restart(&mut self) {
        self.publisher.shutdown().await.unwrap();
        self.publisher = node(self.dirs[0].path()).await;
        self.follower.add_peer(&self.publisher.ticket()).await.unwrap();
        let agent = self.publisher.agent("main").unwrap();
        self.logs = agent.publications::<Log>("/log").await.unwrap();
        let own = agent.subscriptions::<Log>("/log").await.unwrap();
        self.local = own.surf(self.source.clone()).await.unwrap();
    }

    async fn end(self) {
        self.publisher.shutdown().await.unwrap();
        self.follower.shutdown().await.unwrap();
    }
}

/// No reader, local or remote, is ahead of the disk: while a flush is held, the wave is nowhere
/// to be seen, and its giver has no answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_reader_is_never_ahead_of_the_disk() {
    let mut world = World::new().await;
    let log: groundswell_core::Path = "/log".parse().unwrap();
    let mut held = 0;
    for flush in 0..8 {
        let before = world.logs.read()[&log].cursor.aeon;
        world.plan.hold_flush(flush);
        let logs = world.logs.clone();
        let giving = tokio::spawn(async move { logs.give("/log", "next".to_owned()).await });
        until("the flush or the answer", || world.plan.is_holding() || giving.is_finished()).await;
        if !world.plan.is_holding() {
            // A transaction has fewer flushes than that.
            world.plan.let_go();
            giving.await.unwrap().unwrap();
            break;
        }
        held += 1;
        // A whole subscription is begun and served meanwhile, over the same connection: a wave that
        // had been sent would be here by now.
        let path = format!("/sums/none-{flush}");
        let agent = world.follower.agent("main").unwrap();
        let sums = agent.subscriptions::<Sum>(&path).await.unwrap();
        let parked = Source::new(world.publisher.id(), "main", &path).unwrap();
        let parked = sums.surf(parked).await.unwrap();
        until("an answer", || parked.freshness() == crate::Freshness::NotAvailable).await;
        assert!(!giving.is_finished(), "acknowledged before it is durable");
        assert_eq!(world.logs.read()[&log].cursor.aeon, before);
        assert!(world.local.next().now_or_never().is_none(), "seen by a local reader before it is durable");
        assert!(world.remote.next().now_or_never().is_none(), "seen by a remote reader before it is durable");
        assert_eq!(world.inbox.read()[&world.source].cursor.unwrap().aeon, before);
        let look = world.logs.with_rock("/log", |rock, aeon| (rock.len() as u64, aeon)).now_or_never();
        assert!(look.is_none(), "the rock can be read before it is durable: {look:?}");
        assert!(world.plan.let_go());
        let aeon = giving.await.unwrap().unwrap();
        assert_eq!(aeon, before.next());
        until_aeon(&mut world.local, aeon).await;
        until_aeon(&mut world.remote, aeon).await;
    }
    assert!(held > 0, "a transaction is flushed");
    world.end().await;
}

/// "A full disk or failing storage: earlier aeons stand, the node says so and goes on serving what it has": at whichever
/// step a give fails, readers see what is durable and nothing else. A give that is said not to be done never comes; one of
/// which nobody knows is there with the next that succeeds; and repeated with its id, either has one effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_give_that_fails_at_any_step_has_one_effect_by_its_id() {
    let (mut unknown, mut not_done, mut still_unknown) = (0, 0, 0);
    for fault in FAULTS {
        let mut world = World::new().await;
        let mut lines = vec!["1".to_owned()];
        for step in 0.. {
            world.plan.fail_at(step, fault);
            let failures = world.publisher.metrics().commit_failures;
            let (id, line) = (format!("{step:04}"), format!("fails at {step}"));
            let given = world.logs.give_once("/log", &id, line.clone()).await;
            if matches!(given, Err(GiveError::Unknown { .. })) {
                // While it fails on, who repeats it is not told that it was not done.
                let again = world.logs.give_once("/log", &id, line.clone()).await;
                assert!(matches!(again, Ok(_) | Err(GiveError::Unknown { .. })), "{fault:?} at {step}: {again:?}");
                still_unknown += u32::from(again.is_err());
            }
            let failed = world.plan.lift();
            if let Err(error) = &given {
                assert!(world.publisher.metrics().commit_failures > failures, "the node says so");
                match error {
                    GiveError::Storage(_) => {
                        not_done += 1;
                        // It is not there, and something else can come first.
                        lines.push("between".to_owned());
                        world.logs.give("/log", "between".to_owned()).await.unwrap();
                        let there = world.logs.with_rock("/log", |rock, _| rock.clone()).await.unwrap();
                        assert_eq!(there, lines, "{fault:?} at {step}: {error}");
                    }
                    GiveError::Unknown { aeon, .. } => {
                        unknown += 1;
                        assert_eq!(*aeon, Some(Aeon(lines.len() as u64 + 1)), "{fault:?} at {step}");
                        assert!(!error.to_string().contains("try again"), "{error}");
                    }
                    other => panic!("{fault:?} at {step}: {other}"),
                }
            } else {
                assert!(!failed, "{fault:?} at {step} was not noticed");
            }
            lines.push(line.clone());
            let aeon = Aeon(lines.len() as u64);
            for _ in 0..2 {
                let again = world.logs.give_once("/log", &id, line.clone()).await;
                assert_eq!(again.unwrap(), aeon, "{fault:?} at {step}");
            }
            let other = world.logs.give_once("/log", &id, "another".to_owned()).await;
            assert!(matches!(other, Err(GiveError::Id(crate::IdError::Reused(_)))), "{other:?}");
            for updates in [&mut world.local, &mut world.remote] {
                let from = updates.cursor().map_or(Aeon(0), |at| at.aeon);
                let seen = until_aeon(updates, aeon).await;
                let all: Vec<_> = (from.0 + 1..=aeon.0).map(Aeon).collect();
                assert_eq!(seen, all, "{fault:?} at {step}: after {from}");
            }
            let followed = world.inbox.with_rock(&world.source, |rock, _| rock.clone()).await.unwrap();
            assert_eq!(followed, lines, "{fault:?} at {step}");
            if !failed {
                break;
            }
        }
        world.restart().await;
        let stored = world.logs.with_rock("/log", |rock, _| rock.clone()).await.unwrap();
        assert_eq!(stored, lines, "{fault:?}, opened again");
        // The ids are remembered, and what they were is not done again.
        world.logs.give_once("/log", "0000", "fails at 0".to_owned()).await.unwrap();
        let stored = world.logs.with_rock("/log", |rock, _| rock.clone()).await.unwrap();
        assert_eq!(stored, lines, "{fault:?}, repeated after a restart");
        world.end().await;
    }
    assert!(unknown > 0 && not_done > 0, "{unknown} unknown, {not_done} not done");
    assert!(still_unknown > 0, "none was repeated while the disk failed");
}

/// A give that was done is not said to be undone by its repetition: while an earlier transaction is unknown, in one batch
/// with a give that fails, at whichever step, and by a driver that stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_give_that_was_done_is_answered_with_that_whatever_becomes_of_others() {
    let world = World::new().await;
    let (logs, plan) = (&world.logs, &world.plan);
    let done = || logs.give_once("/log", "done", "2".to_owned());
    assert_eq!(done().await.unwrap(), Aeon(2));
    plan.fail_flushes(u64::MAX, Loss::Nothing);
    let unknown = || logs.give_once("/log", "unknown", "3".to_owned());
    assert!(matches!(unknown().await, Err(GiveError::Unknown { .. })));
    assert_eq!(done().await.unwrap(), Aeon(2), "beside an earlier transaction whose outcome is unknown");
    let other = logs.give_once("/log", "done", "other".to_owned()).await;
    assert!(matches!(other, Err(GiveError::Id(crate::IdError::Reused(_)))), "{other:?}");
    let refused = logs.give_once("/log", "late", "4".to_owned()).await;
    assert!(matches!(refused, Err(GiveError::Storage(_))), "{refused:?}");
    plan.lift();
    assert_eq!(unknown().await.unwrap(), Aeon(3));
    #[allow(clippy::async_yields_async)] // its end is awaited later
    let held = async || {
        plan.hold_flush(0);
        let logs = logs.clone();
        let giving = tokio::spawn(async move { logs.give("/log", "held".to_owned()).await });
        until("the flush", || plan.is_holding()).await;
        giving
    };
    let mut not_done = 0;
    for step in 0.. {
        let giving = held().await;
        // Asked for while the flush is held: they are one batch.
        let (mut beside, mut again) = (Box::pin(logs.give("/log", "beside".to_owned())), Box::pin(done()));
        assert!((&mut beside).now_or_never().is_none() && (&mut again).now_or_never().is_none());
        plan.fail_at(step, Fault::Once);
        plan.let_go();
        let _ = giving.await.unwrap();
        not_done += u32::from(matches!(beside.await, Err(GiveError::Storage(_))));
        assert_eq!(again.await.unwrap(), Aeon(2), "beside one that fails at {step}");
        if !plan.lift() {
            break;
        }
    }
    assert!(not_done > 0, "none failed beside it");
    let giving = held().await;
    world.publisher.shared().driver.tell(crate::driver::Command::Stop).await;
    let (mut again, mut late) = (Box::pin(done()), Box::pin(logs.give("/log", "late".to_owned())));
    assert!((&mut again).now_or_never().is_none() && (&mut late).now_or_never().is_none());
    plan.let_go();
    giving.await.unwrap().unwrap();
    assert_eq!(again.await.unwrap(), Aeon(2), "by a driver that stops");
    assert!(matches!(late.await, Err(GiveError::ShutDown)));
    world.end().await;
}

/// A fault of the driver's thread: givers and readers are told, nobody waits for ever, and the node can be shut down.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_panics_hangs_nobody() {
    let mut world = World::new().await;
    world.publisher.shared().driver.tell(crate::driver::Command::Panic).await;
    let rest = async {
        let ended = loop {
            match world.local.next().await {
                Some(crate::Event::Ended(ended)) => break ended,
                Some(_) => {}
                None => panic!("no reason"),
            }
        };
        assert!(matches!(ended, crate::Ended::Storage(_)), "{ended}");
        let late = world.logs.give("/log", "late".to_owned()).await.unwrap_err();
        assert!(matches!(late, GiveError::ShutDown | GiveError::Unknown { .. }), "{late}");
        let there = world.logs.with_rock("/log", |rock, _| rock.clone()).await;
        assert!(there.is_ok(), "what is there can be read");
        let _ = world.publisher.shutdown().await;
    };
    tokio::time::timeout(Duration::from_secs(20), rest).await.expect("nobody waits");
    world.publisher = node(world.dirs[0].path()).await;
    let agent = world.publisher.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log").await.unwrap();
    logs.give("/log", "after".to_owned()).await.unwrap();
    world.end().await;
}

/// A publisher of a sum, and a flush that fails after everything was written. Whoever gave is told that nobody knows;
/// nobody sees the wave before it is on the disk; and repeated with its id it counts once.
#[tokio::test(flavor = "multi_thread")]
async fn a_wave_whose_flush_failed_is_seen_when_it_is_durable_and_counts_once() {
    for loss in [Loss::Nothing, Loss::Dropped, Loss::Evicted] {
        let mut world = World::new().await;
        let agent = world.publisher.agent("till").unwrap();
        let till = agent.publications::<Sum>("/till").await.unwrap();
        till.give("/till", 35).await.unwrap();
        let source = Source::new(world.publisher.id(), "till", "/till").unwrap();
        let follower = world.follower.agent("main").unwrap().subscriptions::<Sum>("/till").await.unwrap();
        follower.follow(source.clone()).await.unwrap();
        let sum = async |of: &Subscriptions<Sum>| of.with_rock(&source, |sum, _| *sum).await.ok();
        until("the follower", || sum(&follower).now_or_never().flatten() == Some(35)).await;
        world.plan.keep_disk();
        world.plan.fail_flushes(u64::MAX, loss);
        let given = till.give_once("/till", "sale-0001", 100).await.unwrap_err();
        assert!(matches!(given, GiveError::Unknown { aeon: Some(Aeon(2)), .. }), "{given}");
        // While it is written again, it is not to be seen: not here, not there.
        world.plan.hold_flush(0);
        world.plan.lift();
        let again = till.clone();
        let repeated = tokio::spawn(async move { again.give_once("/till", "sale-0001", 100).await });
        until("the flush", || world.plan.is_holding()).await;
        assert_eq!(follower.read()[&source].cursor.unwrap().aeon, Aeon(1));
        assert_eq!(till.read().values().next().unwrap().cursor.aeon, Aeon(1));
        assert!(!repeated.is_finished());
        assert!(world.plan.let_go());
        assert_eq!(repeated.await.unwrap().unwrap(), Aeon(2));
        assert_eq!(till.give_once("/till", "sale-0001", 100).await.unwrap(), Aeon(2));
        assert_eq!(till.give_once("/till", "sale-0002", 100).await.unwrap(), Aeon(3));
        until("the follower", || follower.read()[&source].cursor.unwrap().aeon == Aeon(3)).await;
        assert_eq!(sum(&follower).await, Some(235));
        assert_eq!(till.with_rock("/till", |sum, _| *sum).await.unwrap(), 235);
        // What was acknowledged is on the disk, and not only in what the system has cached of it.
        let disk = world.plan.disk();
        world.publisher.shutdown().await.unwrap();
        fs::write(world.dirs[0].path().join(JOURNAL_FILE), disk).unwrap();
        world.publisher = node(world.dirs[0].path()).await;
        let till = world.publisher.agent("till").unwrap().publications::<Sum>("/till").await.unwrap();
        assert_eq!(till.with_rock("/till", |sum, _| *sum).await.unwrap(), 235, "{loss:?}");
        assert_eq!(till.give_once("/till", "sale-0002", 100).await.unwrap(), Aeon(3));
        world.end().await;
    }
}

/// What is done to a whole path is likewise not to be seen before it is durable: it is, without another call, once the
/// disk is well. Until then everything else is refused, as not done.
#[tokio::test(flavor = "multi_thread")]
async fn whole_paths_and_gives_wait_for_what_is_unknown() {
    let world = World::new().await;
    let log = "/log".parse::<groundswell_core::Path>().unwrap();
    // The disk takes everything, and no flush succeeds.
    world.plan.fail_flushes(u64::MAX, Loss::Nothing);
    let killed = world.logs.kill("/log").await.unwrap_err();
    assert!(matches!(killed, crate::ManageError::Unknown(_)), "{killed}");
    assert!(world.logs.read().contains_key(&log), "it is seen before it is durable");
    let refused = world.logs.give("/log", "2".to_owned()).await.unwrap_err();
    assert!(matches!(refused, GiveError::Storage(_)), "{refused}");
    let refused = world.logs.secret("/log").await.unwrap_err();
    assert!(matches!(refused, crate::ManageError::Storage(_)), "{refused}");
    assert!(world.logs.read().contains_key(&log));
    world.plan.lift();
    until("the end of the path", || !world.logs.read().contains_key(&log)).await;
    until("the follower to know", || world.remote.freshness() == crate::Freshness::Killed).await;
    assert_eq!(world.logs.give("/log", "again".to_owned()).await.unwrap(), Aeon(3));
    world.end().await;
}
