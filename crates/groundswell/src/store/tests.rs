//! What storage is after it has failed at any of its steps, and that no reader is ahead of it.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use groundswell_core::{Aeon, Cursor, Digest, LakeId, Rule, tide::Tide};
use tempfile::TempDir;

use super::{
    failing::{Fault, Plan},
    *,
};
use crate::{
    Event, GiveError, Node, Publications, ReadError, Subscriptions, Updates,
    lakes::{Log, Sum},
};

const FAULTS: [Fault; 3] = [Fault::Once, Fault::Torn, Fault::Lasting];

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(DataDir::open(dir)?, Arc::default())
}

fn plan(dir: &Path) -> Arc<Plan> {
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
    let waves = store.waves(1, Aeon(1), Aeon(u64::MAX >> 1), usize::MAX).unwrap();
    let waves = waves.iter().map(|wave| wave[0]).collect();
    (store.tides().unwrap().len(), waves, store.tide(1).unwrap().rocks.len())
}

fn write_waves(store: &Store, tide: &mut Tide, waves: &[Bytes]) -> Result<()> {
    let mut changes = tide.stage();
    for wave in waves {
        changes.push_wave(wave.clone());
    }
    let written = store.write(&[Write::Changes { id: 1, changes: &changes, rocks: &[] }]);
    if written.is_ok() || store.last_write_landed() {
        tide.commit(changes);
    }
    written
}

/// "A full disk or failing storage: the give fails, earlier aeons stand": whichever of its steps
/// a transaction fails at, what is stored is as before it or as after it, as
/// `last_write_landed` says; and the next transaction works.
#[test]
fn a_transaction_that_fails_at_any_step_is_there_or_is_not() {
    let (mut landed, mut lost, mut unknown) = (0, 0, 0);
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
                Write::Changes { id: 1, changes: &changes, rocks: &[(Aeon(0), rock)] },
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
            if written.is_ok() {
                assert!(!failed, "{fault:?} at {step} was not noticed");
                break;
            }
            assert_eq!(store.metrics.commit_failures.get(), 1);
            let failure = *lock(&store.failure);
            let now = stored(&store);
            match failure {
                Failure::Landed => {
                    landed += 1;
                    assert_eq!(now.1, [1, 2, 3], "{fault:?} at {step}");
                }
                Failure::Lost => {
                    lost += 1;
                    assert_eq!(now, before, "{fault:?} at {step}");
                }
                Failure::Unknown => {
                    unknown += 1;
                    assert_eq!(fault, Fault::Lasting);
                }
            }
            let again = write_waves(&store, &mut tide, &[wave(4)]);
            let mut expected = now.1.clone();
            if failure == Failure::Unknown && now != before {
                // It was taken for lost, and is there: nothing is written upon the wrong state.
                let refused = again.unwrap_err().to_string();
                assert!(refused.contains("restart the node"), "{refused}");
                assert!(write_waves(&store, &mut tide, &[wave(5)]).is_err(), "until then");
            } else {
                again.unwrap();
                expected.push(4);
            }
            assert_eq!(stored(&store).1, expected, "{fault:?} at {step}");
            store.close();
            assert_eq!(stored(&open(dir.path()).unwrap()).1, expected, "{fault:?} at {step}, opened again");
        }
    }
    // All kinds were met: that fail before the last flush, at it, and on a disk that stays broken.
    assert!(lost > 0 && landed > 0 && unknown > 0, "{lost} lost, {landed} landed, {unknown} unknown");
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
                    store.close();
                    break;
                }
                Err(OpenError::Storage { path, .. }) => assert_eq!(path, dir.path().join(STORAGE_FILE)),
                Err(other) => panic!("{fault:?} at {step}: {other}"),
            }
            failures += 1;
            assert!(!dir.path().join(STORAGE_FILE).exists(), "{fault:?} at {step}");
            open(dir.path()).unwrap().close();
        }
        for step in 0.. {
            let dir = TempDir::new().unwrap();
            open(dir.path()).unwrap().close();
            let plan = plan(dir.path());
            plan.fail_at(step, fault);
            let opened = open(dir.path());
            let failed = plan.lift();
            match opened {
                Ok(store) if failed => store.close(),
                Ok(store) => {
                    store.close();
                    break;
                }
                Err(error @ OpenError::Storage { .. }) => {
                    assert!(error.to_string().contains("disk's space"), "{error}");
                    failures += 1;
                }
                Err(other) => panic!("{fault:?} at {step}: {other}"),
            }
            open(dir.path()).unwrap().close();
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
        open(dir.path()).unwrap().close();
        assert!(!dir.path().join("node.redb.new").exists());
        open(dir.path()).unwrap().close();
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

/// "A full disk or failing storage: the give fails, earlier aeons stand, the node says so and goes
/// on serving what it has": at whichever step it fails, readers see what is stored and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_give_that_fails_at_any_step_shows_readers_what_is_stored() {
    let (mut landed, mut lost, mut restarts) = (0, 0, 0);
    for fault in FAULTS {
        let mut world = World::new().await;
        let mut lines = vec!["1".to_owned()];
        for step in 0.. {
            world.plan.fail_at(step, fault);
            let failures = world.publisher.metrics().commit_failures;
            let given = world.logs.give("/log", format!("fails at {step}")).await;
            let failed = world.plan.lift();
            let more = format!("fails at {step}");
            if let Err(error) = given {
                assert!(matches!(error, GiveError::Storage(_)), "{fault:?} at {step}: {error}");
                assert!(error.to_string().contains("disk's space"), "{error}");
                assert!(world.publisher.metrics().commit_failures > failures, "the node says so");
                match world.logs.with_rock("/log", |rock, _| rock.clone()).await {
                    Ok(there) if there.len() > lines.len() => {
                        landed += 1;
                        lines.push(more);
                        assert_eq!(there, lines, "{fault:?} at {step}");
                    }
                    Ok(there) => {
                        lost += 1;
                        assert_eq!(there, lines, "{fault:?} at {step}");
                    }
                    // The disk could not even be read.
                    Err(error) => assert!(matches!(error, ReadError::Unreadable(_)), "{fault:?} at {step}: {error}"),
                }
            } else {
                assert!(!failed, "{fault:?} at {step} was not noticed");
                lines.push(more);
            }
            // The next one works, and readers get it and no other.
            let mut given = world.logs.give("/log", "good".to_owned()).await;
            if let Err(error) = &given {
                assert!(error.to_string().contains("restart the node"), "{fault:?} at {step}: {error}");
                restarts += 1;
                lines.push(format!("fails at {step}"));
                world.restart().await;
                given = world.logs.give("/log", "good".to_owned()).await;
            }
            lines.push("good".to_owned());
            let aeon = given.unwrap();
            assert_eq!(aeon, Aeon(lines.len() as u64), "{fault:?} at {step}");
            for updates in [&mut world.local, &mut world.remote] {
                let from = updates.cursor().map_or(Aeon(0), |at| at.aeon);
                let seen = until_aeon(updates, aeon).await;
                let all: Vec<_> = (from.0 + 1..=aeon.0).map(Aeon).collect();
                assert!(seen == all || from == Aeon(0), "{fault:?} at {step}: {seen:?} after {from}");
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
        world.end().await;
    }
    assert!(lost > 0 && landed > 0 && restarts > 0, "{lost} lost, {landed} landed, {restarts} restarts");
}
