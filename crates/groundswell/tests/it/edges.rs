//! The edges of a node: as many subscriptions as it may have, a shutdown that someone is in the way of,
//! and a lake that panics at the subscriber alone.

use std::{
    convert::Infallible,
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::common::{Pair, next, next_update, raw, spawn_node, until, until_caught_up, within};
use groundswell::{Aeon, Ended, Event, Freshness, Lake, Source, SurfError, lakes::Log};
use tempfile::TempDir;

/// "A peer over its limit of streams" is refused; so is who has 10,000 on its own node: the error names the
/// limit and the remedy, and one that is dropped makes room.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_subscriptions_as_a_node_may_have() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let logs = agent.publications::<Log>("/log").await.unwrap();
    logs.give("/log", "one".to_owned()).await.unwrap();
    let inbox = agent.subscriptions::<Log>("/log").await.unwrap();
    let source = Source::new(node.id(), "main", "/log").unwrap();
    let mut all = Vec::new();
    for _ in 0..10_000 {
        all.push(inbox.surf(source.clone()).await.unwrap());
    }
    for _ in 0..3 {
        let refused = inbox.surf(source.clone()).await.err().unwrap();
        assert!(matches!(refused, SurfError::TooManySubscriptions), "{refused}");
        assert!(refused.to_string().contains("10000") && refused.to_string().contains("drop some"), "{refused}");
    }
    assert_eq!(node.metrics().local_readers_now, 10_000);
    logs.give("/log", "two".to_owned()).await.unwrap();
    for updates in all.iter_mut().step_by(999) {
        assert_eq!(next_update(updates).await.aeon(), Aeon(2), "those that are there go on");
    }
    all.truncate(9_999);
    let mut again = inbox.surf(source.clone()).await.unwrap();
    assert_eq!(until_caught_up(&mut again).await, Aeon(2));
    node.shutdown().await.unwrap();
}

/// Whether the wash of [`Stuck`] waits, and what wakes it.
static SHUT: Mutex<bool> = Mutex::new(false);
static OPENED: Condvar = Condvar::new();

/// Its wash waits for as long as that says.
struct Stuck;
impl Lake for Stuck {
    const NAME: &'static str = "stuck";
    type Rock = u32;
    type Wave = u32;
    type Error = Infallible;
    fn wash(rock: &mut u32, wave: &u32) -> Result<(), Infallible> {
        drop(OPENED.wait_while(SHUT.lock().unwrap(), |shut| *shut).unwrap());
        *rock += wave;
        Ok(())
    }
}

/// How long a shutdown may take, and a moment for the test itself.
const DEADLINE: Duration = Duration::from_millis(10_500);

/// A shutdown ends in time though a wash never does. It says what it was doing, local streams end, and nothing that
/// was acknowledged is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_that_a_wash_is_in_the_way_of() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let stuck = agent.publications::<Stuck>("/stuck").await.unwrap();
    stuck.give("/stuck", 1).await.unwrap();
    let source = Source::new(node.id(), "main", "/stuck").unwrap();
    let mut updates = agent.subscriptions::<Stuck>("/stuck").await.unwrap().surf(source).await.unwrap();
    until_caught_up(&mut updates).await;
    *SHUT.lock().unwrap() = true;
    let giver = stuck.clone();
    let giving = tokio::spawn(async move { giver.give("/stuck", 2).await });
    // The rock is held from the moment at which the driver begins with the wave.
    until("the wash", || futures_util::FutureExt::now_or_never(stuck.with_rock("/stuck", |_, _| ())).is_none()).await;
    let begun = Instant::now();
    let error = node.shutdown().await.unwrap_err();
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert!(error.to_string().contains("cut off while committing"), "{error}");
    assert_eq!(next(&mut updates).await, Event::Ended(Ended::ShutDown));
    *SHUT.lock().unwrap() = false;
    OPENED.notify_all();
    // What became of the wave is its giver's to be told, or not; the one before it is there.
    let _ = within("the giver", giving).await.unwrap();
    drop((node, agent, stuck, updates));
    let again = within("the directory", async {
        loop {
            let builder = groundswell::Node::builder().data_dir(dir.path()).offline();
            if let Ok(node) = builder.bind("127.0.0.1:0".parse().unwrap()).spawn().await {
                return node;
            }
        }
    })
    .await;
    let stuck = again.agent("main").unwrap().publications::<Stuck>("/stuck").await.unwrap();
    let (sum, aeon) = stuck.with_rock("/stuck", |sum, aeon| (*sum, aeon)).await.unwrap();
    assert!([(1, Aeon(1)), (3, Aeon(2))].contains(&(sum, aeon)), "{sum} at {aeon}");
    again.shutdown().await.unwrap();
}

/// A shutdown ends in time, and well, though a remote reader does not read what it is sent and another peer never
/// says hello.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_that_peers_are_in_the_way_of() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let logs = node.agent("main").unwrap().publications::<Log>("/log").await.unwrap();
    logs.open("/log").await.unwrap();
    let peer = raw::endpoint().await;
    let connection = peer.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    let (_send, _unread) = raw::ask(&connection, &raw::surf("main", "/log", "log", None)).await;
    until("the reader", || node.metrics().remote_readers_now == 1).await;
    // More than its stream takes in.
    for _ in 0..20 {
        logs.give("/log", "x".repeat(1_000_000)).await.unwrap();
    }
    // It has 3 s for its hello, whatever the disk took for that.
    let silent = peer.connect(raw::address(&node.ticket()), raw::ALPN).await.unwrap();
    let begun = Instant::now();
    node.shutdown().await.unwrap();
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert_eq!(within("the close", raw::closed(&connection)).await, (0, "shutting down".to_owned()));
    assert_eq!(within("the close", raw::closed(&silent)).await.0, 0);
    spawn_node(dir.path()).await.shutdown().await.unwrap();
}

/// Panics at 13, where it runs at the subscriber.
struct Superstitious;
/// The same lake, without the superstition.
struct Bold;

impl Lake for Superstitious {
    const NAME: &'static str = "numbers";
    type Rock = Vec<u32>;
    type Wave = u32;
    type Error = Infallible;
    fn wash(rock: &mut Vec<u32>, wave: &u32) -> Result<(), Infallible> {
        rock.push(*wave);
        assert_ne!(*wave, 13, "unlucky");
        Ok(())
    }
}

impl Lake for Bold {
    const NAME: &'static str = "numbers";
    type Rock = Vec<u32>;
    type Wave = u32;
    type Error = Infallible;
    fn wash(rock: &mut Vec<u32>, wave: &u32) -> Result<(), Infallible> {
        rock.push(*wave);
        Ok(())
    }
}

/// "Wash that panics", at the subscriber: the replica stands where it was, and says so; other states of the node go
/// on; and the publisher's next rock heals it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wash_that_panics_at_the_subscriber() {
    let pair = Pair::new().await;
    let theirs = pair.publisher.agent("main").unwrap().publications::<Bold>("/n/*").await.unwrap();
    let ours = pair.follower.agent("main").unwrap().subscriptions::<Superstitious>("/n/*").await.unwrap();
    let [bad, good] = ["/n/bad", "/n/good"].map(|path| Source::new(pair.publisher.id(), "main", path).unwrap());
    theirs.give_all("/n/bad", [1, 2]).await.unwrap();
    theirs.give("/n/good", 1).await.unwrap();
    let mut bad_updates = ours.surf(bad.clone()).await.unwrap();
    let mut good_updates = ours.surf(good.clone()).await.unwrap();
    until_caught_up(&mut bad_updates).await;
    until_caught_up(&mut good_updates).await;
    theirs.give_all("/n/bad", [3, 13, 4]).await.unwrap();
    until("it to be said", || matches!(bad_updates.freshness(), Freshness::Diverged | Freshness::Unusable { .. }))
        .await;
    assert_eq!(ours.with_rock(&bad, |rock, aeon| (rock.clone(), aeon)).await.unwrap(), (vec![1, 2, 3], Aeon(3)));
    theirs.give("/n/good", 2).await.unwrap();
    assert_eq!(next_update(&mut good_updates).await.wave, Some(2));
    // The publisher has no newer rock than that of aeon 0: it is not gone back to.
    until("the older rock to be refused", || matches!(bad_updates.freshness(), Freshness::Unusable { .. })).await;
    assert_eq!(ours.read()[&bad].cursor.unwrap().aeon, Aeon(3), "never back");
    // Enough for a rock.
    let last = theirs.give_all("/n/bad", vec![5; 3_000]).await.unwrap();
    within("the rock that heals it", async {
        while ours.read()[&bad].cursor.is_none_or(|at| at.aeon < last) {
            bad_updates.next().await;
        }
    })
    .await;
    let rock = theirs.with_rock("/n/bad", |rock, _| rock.clone()).await.unwrap();
    assert_eq!(ours.with_rock(&bad, |rock, _| rock.clone()).await.unwrap(), rock);
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}
