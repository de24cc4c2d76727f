//! Lake evolution: two versions of one lake, between sides and in storage.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use crate::common::{PATIENCE, spawn_node, until};
use groundswell::{
    Aeon, DeclareError, Event, Freshness, Lake, Node, Older, Publications, Source, Subscriptions, SurfError,
    UpgradeError,
};
use tempfile::TempDir;

/// Guests by name.
struct GuestsV1;
impl Lake for GuestsV1 {
    const NAME: &'static str = "guests";
    type Rock = Vec<String>;
    type Wave = String;
    type Error = Infallible;
    fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
        rock.push(wave.clone());
        Ok(())
    }
}

/// Guests by name, and how many come with each.
struct GuestsV2;
impl Lake for GuestsV2 {
    const NAME: &'static str = "guests";
    const VERSION: u32 = 2;
    type Rock = Vec<(String, u32)>;
    type Wave = (String, u32);
    type Error = Infallible;
    fn wash(rock: &mut Vec<(String, u32)>, wave: &(String, u32)) -> Result<(), Infallible> {
        rock.push(wave.clone());
        Ok(())
    }
    fn upgrade(older: Older<'_>) -> Result<Vec<(String, u32)>, UpgradeError> {
        match older.version() {
            1 => Ok(older.fold::<GuestsV1>()?.into_iter().map(|guest| (guest, 1)).collect()),
            _ => Err(older.unknown()),
        }
    }
}

/// The third version, whose upgrade fails.
struct GuestsV3;
impl Lake for GuestsV3 {
    const NAME: &'static str = "guests";
    const VERSION: u32 = 3;
    type Rock = u32;
    type Wave = u32;
    type Error = Infallible;
    fn wash(rock: &mut u32, wave: &u32) -> Result<(), Infallible> {
        *rock += wave;
        Ok(())
    }
    fn upgrade(older: Older<'_>) -> Result<u32, UpgradeError> {
        match older.version() {
            2 => Err(UpgradeError::Failed("too many guests".to_owned())),
            _ => panic!("not thought of"),
        }
    }
}

async fn guests(node: &Node) -> Result<Publications<GuestsV2>, DeclareError> {
    node.agent("main").unwrap().publications::<GuestsV2>("/guests/*").await
}

/// State stored under another version is never decoded as this one: opening gives `LakeVersion`, or
/// runs the lake's `upgrade`, which mints a new epoch.
#[tokio::test]
async fn what_an_older_version_stored_is_upgraded_or_refused() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let old = agent.publications::<GuestsV1>("/guests/*").await.unwrap();
    for n in 0..300 {
        // Enough for rocks and for waves since.
        old.give("/guests/a", format!("guest {n} {}", "x".repeat(500))).await.unwrap();
    }
    old.give("/guests/b", "ann".to_owned()).await.unwrap();
    old.secret("/guests/b").await.unwrap();
    let epoch = old.read()[&"/guests/b".parse().unwrap()].cursor.epoch;
    node.shutdown().await.unwrap();
    // The third version has no way from the first: it panics, and nothing changes.
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    let refused = agent.publications::<GuestsV3>("/guests/*").await.map(drop).unwrap_err();
    assert!(matches!(&refused, DeclareError::Upgrade { reason, .. } if reason.contains("not thought of")), "{refused}");
    // The second does.
    let new = guests(&node).await.unwrap();
    let a = new.with_rock("/guests/a", |rock, aeon| (rock.len(), rock[299].1, aeon)).await.unwrap();
    assert_eq!(a, (300, 1, Aeon(300)), "at the same aeon");
    assert_ne!(new.read()[&"/guests/b".parse().unwrap()].cursor.epoch, epoch, "in a new epoch");
    assert_eq!(new.give("/guests/b", ("ben".to_owned(), 3)).await.unwrap(), Aeon(2));
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let agent = node.agent("main").unwrap();
    // Back to the first version there is no way, and none is taken.
    let refused = agent.publications::<GuestsV1>("/guests/*").await.map(drop).unwrap_err();
    assert!(matches!(refused, DeclareError::LakeVersion { .. }), "{refused}");
    let refused = agent.publications::<GuestsV3>("/guests/*").await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("too many guests"), "{refused}");
    let new = guests(&node).await.unwrap();
    let b = new.with_rock("/guests/b", |rock, aeon| (rock.clone(), aeon)).await.unwrap();
    assert_eq!(b, (vec![("ann".to_owned(), 1), ("ben".to_owned(), 3)], Aeon(2)));
    assert_eq!(new.read()[&"/guests/b".parse().unwrap()].access, groundswell::Access::secret(), "access stays");
    node.shutdown().await.unwrap();
}

/// A replica that is stored under an older version is upgraded too, and readable before its source is
/// there; one without a way is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_stored_replica_is_upgraded_and_readable() {
    let crate::common::Pair { publisher, follower, follower_dir, publisher_dir: _dir } =
        crate::common::Pair::new().await;
    let old = publisher.agent("main").unwrap().publications::<GuestsV1>("/guests").await.unwrap();
    old.give("/guests", "ann".to_owned()).await.unwrap();
    let source = Source::new(publisher.id(), "main", "/guests").unwrap();
    let inbox = follower.agent("main").unwrap().subscriptions::<GuestsV1>("/guests").await.unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    crate::common::until_caught_up(&mut updates).await;
    follower.shutdown().await.unwrap();
    publisher.shutdown().await.unwrap();
    let follower = spawn_node(follower_dir.path()).await;
    let agent = follower.agent("main").unwrap();
    let refused = agent.subscriptions::<GuestsV3>("/guests").await.map(drop).unwrap_err();
    assert!(matches!(refused, DeclareError::Upgrade { .. }), "{refused}");
    let inbox = agent.subscriptions::<GuestsV2>("/guests").await.unwrap();
    let rock = inbox.with_rock(&source, |rock, aeon| (rock.clone(), aeon)).await.unwrap();
    assert_eq!(rock, (vec![("ann".to_owned(), 1)], Aeon(1)));
    assert!(inbox.read()[&source].stale());
    // Another agent of this run, of an older version, is in its way.
    let other = follower.agent("other").unwrap().subscriptions::<GuestsV1>("/guests").await.unwrap();
    assert!(matches!(other.surf(source).await.map(drop), Err(SurfError::LakeVersion { .. })));
    follower.shutdown().await.unwrap();
}

/// Whether a node could follow its own path after an upgrade depended on what was declared first.
#[tokio::test]
async fn a_node_follows_its_own_upgraded_path_whatever_is_declared_first() {
    let dir = TempDir::new().unwrap();
    let node = spawn_node(dir.path()).await;
    let source = Source::new(node.id(), "till", "/guests").unwrap();
    let old = node.agent("till").unwrap().publications::<GuestsV1>("/guests").await.unwrap();
    old.give("/guests", "ann".to_owned()).await.unwrap();
    let inbox = node.agent("screen").unwrap().subscriptions::<GuestsV1>("/guests").await.unwrap();
    inbox.surf(source.clone()).await.unwrap();
    node.shutdown().await.unwrap();
    let node = spawn_node(dir.path()).await;
    let inbox = node.agent("screen").unwrap().subscriptions::<GuestsV2>("/guests").await.unwrap();
    node.agent("till").unwrap().publications::<GuestsV2>("/guests").await.unwrap();
    let rock = inbox.with_rock(&source, |rock, _| rock.clone()).await.unwrap();
    assert_eq!(rock, [("ann".to_owned(), 1)]);
    node.shutdown().await.unwrap();
}

/// Tells a parent process, line by line.
fn tell(line: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@ {line}").unwrap();
    out.flush().unwrap();
}

/// The lines of the parent process.
fn orders() -> tokio::sync::mpsc::Receiver<String> {
    let (sender, orders) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    orders
}

trait Guests: Lake {
    fn wave(name: &str) -> Self::Wave;
    fn count(rock: &Self::Rock) -> usize;
}

impl Guests for GuestsV1 {
    fn wave(name: &str) -> String {
        name.to_owned()
    }
    fn count(rock: &Vec<String>) -> usize {
        rock.len()
    }
}

impl Guests for GuestsV2 {
    fn wave(name: &str) -> (String, u32) {
        (name.to_owned(), 2)
    }
    fn count(rock: &Vec<(String, u32)>) -> usize {
        rock.len()
    }
}

async fn publish<L: Guests>(node: &Node) {
    let guests = node.agent("main").unwrap().publications::<L>("/guests").await.unwrap();
    guests.open("/guests").await.unwrap();
    tell(format!("ticket {}", node.ticket()));
    let mut orders = orders();
    while let Some(name) = orders.recv().await {
        let aeon = guests.give("/guests", L::wave(&name)).await.unwrap();
        tell(format!("gave {aeon}"));
    }
}

async fn follow<L: Guests>(node: &Node, ticket: &str) {
    let peer = node.add_peer(&ticket.parse().unwrap()).await.unwrap();
    let inbox: Subscriptions<L> = node.agent("main").unwrap().subscriptions("/guests").await.unwrap();
    let source = Source::new(peer, "main", "/guests").unwrap();
    let mut updates = inbox.surf(source.clone()).await.unwrap();
    let mut orders = orders();
    loop {
        tokio::select! {
            event = updates.next() => {
                let rock = inbox.with_rock(&source, |rock, _| L::count(rock)).await.unwrap_or_default();
                match event {
                    Some(Event::CaughtUp { .. }) => tell(format!("live with {rock}")),
                    Some(Event::Freshness(Freshness::Refused(why))) => tell(format!("parked with {rock}: {why}")),
                    Some(_) => {}
                    None => return,
                }
            }
            order = orders.recv() => if order.is_none() { return },
        }
    }
}

/// A process with one version of the lake, for the test below. On its own it has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn one_process_of_two() {
    let Ok(role) = std::env::var("GROUNDSWELL_TEST_ROLE") else { return };
    let dir = std::env::var("GROUNDSWELL_TEST_DIR").unwrap();
    let node = spawn_node(dir.as_ref()).await;
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["publish", "1"] => publish::<GuestsV1>(&node).await,
        ["publish", "2"] => publish::<GuestsV2>(&node).await,
        ["follow", "1", ticket] => follow::<GuestsV1>(&node, ticket).await,
        ["follow", "2", ticket] => follow::<GuestsV2>(&node, ticket).await,
        _ => panic!("{role}"),
    }
    node.shutdown().await.unwrap();
}

/// A process that runs one version of the lake.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(role: &str, dir: &TempDir) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "versions::one_process_of_two", "--nocapture"])
            .env("GROUNDSWELL_TEST_ROLE", role)
            .env("GROUNDSWELL_TEST_DIR", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Some((_, told)) = line.split_once("@ ") {
                    let _ = sender.send(told.to_owned());
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that begins so; its rest.
    fn wait_for(&self, what: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited for {what}"));
            if let Some(rest) = line.strip_prefix(what) {
                return rest.trim().to_owned();
            }
        }
    }

    fn order(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

/// A publisher and a subscriber whose lake version differs get a clear error at once, never a divergent
/// state; the subscription stays parked and recovers by itself when the versions agree again.
/// Two versions in two processes, then the upgrade of the older: nothing is lost.
#[test]
fn two_versions_in_two_processes_park_and_the_upgrade_of_the_older_recovers() {
    let (here, there) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // The publisher is the older one.
    let mut publisher = Process::start("publish 1", &here);
    let ticket = publisher.wait_for("ticket");
    publisher.order("ann");
    publisher.wait_for("gave 1");
    let follower = Process::start(&format!("follow 1 {ticket}"), &there);
    follower.wait_for("live with 1");
    follower.stop();
    let follower = Process::start(&format!("follow 2 {ticket}"), &there);
    let why = follower.wait_for("parked with 1:");
    assert!(why.contains("guests version 1"), "{why}");
    publisher.order("ben");
    publisher.wait_for("gave 2");
    publisher.stop();
    let mut publisher = Process::start("publish 2", &here);
    assert_eq!(publisher.wait_for("ticket"), ticket, "at the same port");
    follower.wait_for("live with 2");
    publisher.order("cem");
    publisher.wait_for("gave 3");
    follower.stop();
    // The subscriber is the older one.
    let third = TempDir::new().unwrap();
    let follower = Process::start(&format!("follow 1 {ticket}"), &third);
    let why = follower.wait_for("parked with 0:");
    assert!(why.contains("guests version 2") && why.contains("by itself"), "{why}");
    follower.stop();
    let follower = Process::start(&format!("follow 2 {ticket}"), &third);
    follower.wait_for("live with 3");
    follower.stop();
    publisher.stop();
}

/// While the versions differ, the subscription is parked; it recovers by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_recovers_by_itself_when_the_versions_agree_again() {
    let pair = crate::common::Pair::new().await;
    let agent = pair.publisher.agent("main").unwrap();
    let old = agent.publications::<GuestsV1>("/guests").await.unwrap();
    old.give("/guests", "ann".to_owned()).await.unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<GuestsV2>("/guests").await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/guests").unwrap();
    inbox.surf(source.clone()).await.unwrap();
    until("the refusal", || matches!(inbox.read()[&source].freshness, Freshness::Refused(_))).await;
    assert_eq!(inbox.read()[&source].cursor, None, "nothing of it was taken");
    // Without any restart: the path ends, and begins again as the other version.
    old.kill("/guests").await.unwrap();
    old.withdraw();
    let new = agent.publications::<GuestsV2>("/guests").await.unwrap();
    new.give("/guests", ("ben".to_owned(), 2)).await.unwrap();
    until("the recovery", || inbox.read()[&source].freshness == Freshness::Live).await;
    let rock = inbox.with_rock(&source, |rock, aeon| (rock.clone(), aeon)).await.unwrap();
    assert_eq!(rock, (vec![("ben".to_owned(), 2)], Aeon(3)));
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}
