//! Whether what one side has written is at the other: waiting for it, and what the status says meanwhile.

use std::time::{Duration, Instant};

use groundswell::{KvError, KvLink, LinkStatus};
use tempfile::TempDir;

use crate::kv::common::{Pair, Side, spawn_machine, spawn_manager, within};

impl Side {
    async fn until_delivered(&self) -> Result<(), KvError> {
        match self {
            Self::Machine(machine) => machine.until_kv_delivered().await,
            Self::Manager(manager, id) => manager.until_kv_delivered(*id).await,
        }
    }

    fn status(&self) -> tokio::sync::watch::Receiver<LinkStatus> {
        match self {
            Self::Machine(machine) => machine.status_changes(),
            Self::Manager(manager, id) => manager.machine_status_changes(*id).unwrap(),
        }
    }
}

/// Long enough for a write to be told as not delivered, and not for a test to notice.
const A_WHILE: Duration = Duration::from_millis(1_500);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_delivered_is_at_the_other_side_already() {
    let pair = Pair::new().await;
    for (here, there) in pair.turns() {
        for number in 0..200 {
            let (key, value) = (format!("key/{}", number % 7), format!("{number} by {}", here.author()));
            here.set(&key, &value).await;
            within("the delivery", here.until_delivered()).await.unwrap();
            assert_eq!(there.get(&key).await.unwrap().value, value);
        }
        here.delete("key/0").await;
        within("the delivery", here.until_delivered()).await.unwrap();
        assert_eq!(there.get("key/0").await, None);
        // Nothing is on its way: there is nothing to wait for.
        within("nothing", here.until_delivered()).await.unwrap();
    }
    // Of any space.
    pair.machine.space("config").unwrap().set("key", "1").await.unwrap();
    within("the delivery", pair.machine.until_kv_delivered()).await.unwrap();
    assert!(pair.manager.space(pair.id, "config").unwrap().get("key").await.unwrap().is_some());
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_delivered_is_told_until_it_is() {
    let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
    let here = Side::Manager(manager.clone(), id);
    here.set("price", "249").await;
    within("the delivery", here.until_delivered()).await.unwrap();
    machine.shutdown().await.unwrap();
    within("the end", here.status().wait_for(|status| matches!(status.link, KvLink::Offline { .. }))).await.unwrap();
    assert_eq!(here.status().borrow().undelivered_since, None, "it has all that there is");
    here.set("price", "250").await;
    within("it to be told", here.status().wait_for(|status| status.undelivered_since.is_some())).await.unwrap();
    let since = here.status().borrow().undelivered_since.unwrap();
    // Time is under test: it does not return early.
    let waited = tokio::time::timeout(A_WHILE, here.until_delivered()).await;
    assert!(waited.is_err(), "nobody has it: {waited:?}");
    here.set("price", "251").await;
    assert_eq!(here.status().borrow().undelivered_since, Some(since), "since the first");

    // This side starts again before the other: what it knows no more, it does not say.
    manager.shutdown().await.unwrap();
    let manager = spawn_manager(manager_dir.path()).await;
    let here = Side::Manager(manager.clone(), id);
    let waited = tokio::time::timeout(A_WHILE, here.until_delivered()).await;
    assert!(waited.is_err(), "nobody has it: {waited:?}");
    assert_eq!(here.status().borrow().undelivered_since, None);
    here.set("stock", "1").await;
    within("it to be told", here.status().wait_for(|status| status.undelivered_since.is_some())).await.unwrap();
    let machine = spawn_machine(machine_dir.path()).await;
    within("the delivery", here.until_delivered()).await.unwrap();
    assert_eq!(machine.get_kv_value("price").await.unwrap().unwrap().value, "251");
    within("that to be told", here.status().wait_for(|status| status.undelivered_since.is_none())).await.unwrap();
    manager.shutdown().await.unwrap();
    machine.shutdown().await.unwrap();
}

/// A side that always has something on its way is told as late only where some of it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_always_writes_is_not_told_as_late() {
    const WRITERS: usize = 4;
    let pair = Pair::new().await;
    let [here, _] = pair.sides();
    let begun = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let here = here.clone();
        writers.spawn(async move {
            let mut longest = Duration::ZERO;
            // Time is under test: longer than a write may take before it is told.
            while begun.elapsed() < A_WHILE * 2 {
                let written = Instant::now();
                here.set(format!("key/{writer}"), "value").await;
                within("the delivery", here.until_delivered()).await.unwrap();
                longest = longest.max(written.elapsed());
            }
            longest
        });
    }
    let told = tokio::time::timeout(A_WHILE * 2, async {
        let mut status = here.status();
        status.wait_for(|status| status.undelivered_since.is_some()).await.unwrap().undelivered_since
    })
    .await;
    let longest = writers.join_all().await.into_iter().max().unwrap();
    println!("the longest delivery took {longest:?}");
    if let Ok(since) = told {
        assert!(longest >= Duration::from_secs(1), "told since {since:?}, and the longest took {longest:?}");
    }
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_delivery_is_told_when_there_will_be_none() {
    let dir = TempDir::new().unwrap();
    let unclaimed = spawn_machine(dir.path()).await;
    unclaimed.set_kv_value("key", "1").await.unwrap();
    assert!(matches!(unclaimed.until_kv_delivered().await, Err(KvError::NotClaimed)));
    assert_eq!(unclaimed.manager_status().undelivered_since, None);
    unclaimed.shutdown().await.unwrap();
    assert!(matches!(unclaimed.until_kv_delivered().await, Err(KvError::ShutDown)));

    // Its pairing is ended, from either side, or it is shut down.
    for (here, released) in [(0, true), (1, true), (0, false), (1, false)] {
        let Pair { machine, manager, id, machine_dir: _one, manager_dir: _two } = Pair::new().await;
        let side = [Side::Machine(machine.clone()), Side::Manager(manager.clone(), id)][here].clone();
        if here == 0 {
            manager.shutdown().await.unwrap()
        } else {
            machine.shutdown().await.unwrap()
        }
        side.set("key", "1").await;
        let waiting = side.clone();
        let waiting = tokio::spawn(async move { waiting.until_delivered().await });
        let mut status = side.status();
        within("it to be told", status.wait_for(|status| status.undelivered_since.is_some())).await.unwrap();
        match (here, released) {
            (0, true) => machine.release().await.unwrap(),
            (0, false) => machine.shutdown().await.unwrap(),
            (_, true) => manager.release(id).await.unwrap(),
            (_, false) => manager.shutdown().await.unwrap(),
        }
        let ended = within("the end of the wait", waiting).await.unwrap();
        match ended {
            Err(KvError::NotClaimed) if released => {}
            Err(KvError::ShutDown) if !released => {}
            ended => panic!("{ended:?} at side {here}"),
        }
        if here == 0 && released {
            within("that to be told", status.wait_for(|status| status.undelivered_since.is_none())).await.unwrap();
        }
        machine.shutdown().await.unwrap();
        manager.shutdown().await.unwrap();
    }
}
