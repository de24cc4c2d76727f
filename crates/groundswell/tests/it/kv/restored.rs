//! A side whose data directory is of an earlier time, partly or whole, emptied, or of another node; with the other side away and
//! present.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use groundswell::{KvAuthor, KvError, LinkStatus, OpenError};
use tempfile::TempDir;

use crate::kv::common::{
    Pair, Side, is_current, machine_builder, manager_builder, pair, spawn_machine, spawn_manager, until, within,
};

/// How a backup comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restored {
    /// As new files, which the marks of runs notice.
    AsNewFiles,
    /// Into the files that are there, as a disk image does: only what the other side holds tells it.
    InPlace,
}

const FILES: [&str; 5] = ["secret.key", "node.redb", "node.journal", "node.run", "docs.redb"];

fn copy(from: &Path, to: &Path, files: &[&str]) {
    for file in files {
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

fn restore(backup: &Path, to: &Path, files: &[&str], how: Restored) {
    for file in files {
        let (from, to) = (backup.join(file), to.join(file));
        if !from.exists() {
            continue;
        }
        let bytes = std::fs::read(&from).unwrap();
        if how == Restored::AsNewFiles {
            // The old one is kept until the new one is there, so that it has another number.
            let draft = to.with_extension("restored");
            std::fs::write(&draft, bytes).unwrap();
            std::fs::rename(&draft, &to).unwrap();
        } else {
            std::fs::write(&to, bytes).unwrap();
        }
    }
}

fn tomorrow() -> u64 {
    let day = Duration::from_secs(86_400);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + day;
    u64::try_from(now.as_millis()).unwrap()
}

/// A pair of which each side can be away.
struct World {
    dirs: [TempDir; 2],
    sides: [Option<Side>; 2],
    id: groundswell::PeerId,
    /// The wall clocks of those that are started from now on have gone on for a day.
    time_passes: bool,
}

impl World {
    async fn new() -> Self {
        let Pair { machine, manager, id, machine_dir, manager_dir } = Pair::new().await;
        let sides = [Some(Side::Machine(machine)), Some(Side::Manager(manager, id))];
        Self { dirs: [machine_dir, manager_dir], sides, id, time_passes: false }
    }

    fn side(&self, author: KvAuthor) -> &Side {
        self.sides[author.index()].as_ref().unwrap()
    }

    fn dir(&self, author: KvAuthor) -> &Path {
        self.dirs[author.index()].path()
    }

    async fn stop(&mut self, author: KvAuthor) {
        match self.sides[author.index()].take() {
            Some(Side::Machine(machine)) => machine.shutdown().await.unwrap(),
            Some(Side::Manager(manager, _)) => manager.shutdown().await.unwrap(),
            None => {}
        }
    }

    async fn start(&mut self, author: KvAuthor) {
        let dir = self.dirs[author.index()].path();
        self.sides[author.index()] = Some(match author {
            KvAuthor::Machine if self.time_passes => {
                Side::Machine(machine_builder(dir).wall_clock(tomorrow).spawn().await.unwrap())
            }
            KvAuthor::Manager if self.time_passes => {
                Side::Manager(manager_builder(dir).wall_clock(tomorrow).spawn().await.unwrap(), self.id)
            }
            KvAuthor::Machine => Side::Machine(spawn_machine(dir).await),
            KvAuthor::Manager => Side::Manager(spawn_manager(dir).await, self.id),
        });
    }

    async fn shutdown(mut self) {
        self.stop(KvAuthor::Machine).await;
        self.stop(KvAuthor::Manager).await;
    }

    /// Takes a backup of a side that stands still, and starts it again.
    async fn backup(&mut self, author: KvAuthor) -> TempDir {
        let backup = TempDir::new().unwrap();
        self.stop(author).await;
        copy(self.dir(author), backup.path(), &FILES);
        self.start(author).await;
        backup
    }

    /// Waits until both sides show this value.
    async fn show(&self, key: &str, value: Option<&str>) {
        for author in KvAuthor::BOTH {
            let side = self.side(author);
            let shows =
                || async { side.get(key).await.map(|entry| entry.value) == value.map(|value| value.to_owned().into()) };
            until(&format!("{key} = {value:?} at the {author}"), shows).await;
        }
    }

    async fn agreed(&self, author: KvAuthor) -> groundswell::WentBack {
        let mut status = self.side(author).link_status();
        let agreed = |status: &LinkStatus| status.went_back.is_some_and(|went_back| went_back.agreed);
        let status = within("both to agree", status.wait_for(agreed)).await.unwrap();
        status.went_back.unwrap()
    }
}

impl Side {
    async fn delivered(&self) -> Result<(), KvError> {
        match self {
            Self::Machine(machine) => machine.until_kv_delivered().await,
            Self::Manager(manager, id) => manager.until_kv_delivered(*id).await,
        }
    }

    fn link_status(&self) -> tokio::sync::watch::Receiver<LinkStatus> {
        match self {
            Self::Machine(machine) => machine.status_changes(),
            Self::Manager(manager, id) => manager.machine_status_changes(*id).unwrap(),
        }
    }
}

/// The case of the review: what is written after a restore is neither lost nor said to be delivered before it is.
async fn a_whole_directory_comes_back(author: KvAuthor, how: Restored, other_is_away: bool) {
    let mut world = World::new().await;
    world.side(author).set("till/total", "100").await;
    world.side(author).set("older", "1").await;
    within("the delivery", world.side(author).delivered()).await.unwrap();
    let backup = world.backup(author).await;
    for value in ["101", "102", "103"] {
        world.side(author).set("till/total", value).await;
    }
    world.side(author).set("newer", "1").await;
    world.side(author).delete("older").await;
    within("the delivery", world.side(author).delivered()).await.unwrap();
    world.stop(author).await;
    restore(backup.path(), world.dir(author), &FILES, how);
    // Rolled back in place, it does not know better than its wall clock; noticed, it does, although that stands still.
    world.time_passes = how == Restored::InPlace;
    if other_is_away {
        world.stop(author.other()).await;
        world.side_is_started_twice(author).await;
        // As many as it has lost, and more: with the same counters, if it does not notice.
        for number in 0..12 {
            world.side(author).set(format!("after/{number}"), "1").await;
        }
    } else {
        world.start(author).await;
    }
    let noticed = world.side(author).link_status().borrow().went_back.is_some();
    assert!(noticed || how == Restored::InPlace || !other_is_away);
    world.side(author).set("till/total", "777").await;
    assert_eq!(world.side(author).get("till/total").await.unwrap().value, "777");
    if other_is_away {
        world.start(author.other()).await;
    }
    within("the delivery", world.side(author).delivered()).await.unwrap();
    assert_eq!(world.side(author.other()).get("till/total").await.unwrap().value, "777", "it was said to be delivered");
    world.show("till/total", Some("777")).await;
    world.show("newer", Some("1")).await;
    world.show("older", None).await;
    if other_is_away {
        for number in 0..12 {
            let key = format!("after/{number}");
            assert_eq!(world.side(author.other()).get(&key).await.unwrap().value, "1");
        }
    }
    let went_back = world.agreed(author).await;
    assert_eq!(went_back.overruled, 0, "its clock goes forward");
    // Disk and memory have the same, at both sides.
    for author in KvAuthor::BOTH {
        world.stop(author).await;
        world.start(author).await;
    }
    world.show("till/total", Some("777")).await;
    world.side(author).set("till/total", "778").await;
    within("the delivery", world.side(author).delivered()).await.unwrap();
    world.show("till/total", Some("778")).await;
    assert_eq!(world.side(author).link_status().borrow().went_back, None, "both have agreed in an earlier run");
    world.shutdown().await;
}

impl World {
    /// A restart before the first contact forgets nothing.
    async fn side_is_started_twice(&mut self, author: KvAuthor) {
        self.start(author).await;
        self.side(author).set("between", "1").await;
        self.stop(author).await;
        self.start(author).await;
    }
}

macro_rules! whole {
    ($($name:ident: $author:ident $how:ident $away:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            a_whole_directory_comes_back(KvAuthor::$author, Restored::$how, $away).await;
        }
    )*};
}

whole! {
    a_restored_machine_whose_manager_is_away: Machine AsNewFiles true;
    a_restored_machine_whose_manager_is_there: Machine AsNewFiles false;
    a_restored_manager_whose_machine_is_away: Manager AsNewFiles true;
    a_restored_manager_whose_machine_is_there: Manager AsNewFiles false;
    a_machine_rolled_back_in_place_whose_manager_is_away: Machine InPlace true;
    a_machine_rolled_back_in_place_whose_manager_is_there: Machine InPlace false;
    a_manager_rolled_back_in_place_whose_machine_is_away: Manager InPlace true;
    a_manager_rolled_back_in_place_whose_machine_is_there: Manager InPlace false;
}

/// Both are restored, to different times, before they meet.
async fn both_come_back(how: Restored) {
    let mut world = World::new().await;
    let mut backups = Vec::new();
    for author in KvAuthor::BOTH {
        world.side(author).set("shared", format!("before, by the {author}")).await;
        world.side(author).set(format!("of the {author}"), "1").await;
        within("the delivery", world.side(author).delivered()).await.unwrap();
        backups.push((author, world.backup(author).await));
        for number in 0..5 {
            world.side(author).set("shared", format!("{number} by the {author}")).await;
            world.side(author).set(format!("lost/{author}/{number}"), "1").await;
            within("the delivery", world.side(author).delivered()).await.unwrap();
        }
    }
    for (author, backup) in &backups {
        world.stop(*author).await;
        restore(backup.path(), world.dir(*author), &FILES, how);
    }
    for author in KvAuthor::BOTH {
        world.start(author).await;
        for number in 0..8 {
            world.side(author).set(format!("after/{author}/{number}"), "1").await;
        }
        world.stop(author).await;
    }
    for author in KvAuthor::BOTH {
        world.start(author).await;
    }
    for author in KvAuthor::BOTH {
        within("the delivery", world.side(author).delivered()).await.unwrap();
        for number in 0..8 {
            let key = format!("after/{author}/{number}");
            assert_eq!(world.side(author.other()).get(&key).await.unwrap().value, "1", "{key}");
        }
    }
    let all = |author| world.side(author).entries(groundswell::KvFilter::All);
    until("both to show the same", || async { all(KvAuthor::Machine).await == all(KvAuthor::Manager).await }).await;
    world.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_restored_to_crossing_times() {
    both_come_back(Restored::AsNewFiles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_rolled_back_in_place_to_crossing_times() {
    both_come_back(Restored::InPlace).await;
}

/// Each file alone is of the earlier time. Where the other has what is missing, nothing is lost; else the start is refused.
#[tokio::test(flavor = "multi_thread")]
async fn single_files_come_back() {
    for author in KvAuthor::BOTH {
        for file in ["node.redb", "node.journal", "node.run", "docs.redb"] {
            let mut world = World::new().await;
            world.side(author).set("key", "1").await;
            within("the delivery", world.side(author).delivered()).await.unwrap();
            let backup = world.backup(author).await;
            world.side(author).set("key", "2").await;
            within("the delivery", world.side(author).delivered()).await.unwrap();
            world.stop(author).await;
            restore(backup.path(), world.dir(author), &[file], Restored::AsNewFiles);
            world.start(author).await;
            world.side(author).set("other", "3").await;
            within("the delivery", world.side(author).delivered()).await.unwrap();
            for (key, value) in [("key", "2"), ("other", "3")] {
                world.show(key, Some(value)).await;
            }
            // Of node.run an older one is as good as this one, and docs.redb follows.
            let went_back = world.side(author).link_status().borrow().went_back;
            let is_table = file == "node.redb" || file == "node.journal";
            assert!(went_back.is_some() || !is_table, "{file} of the {author}: {went_back:?}");
            world.shutdown().await;
        }
    }
}

/// A side whose storage is gone gets everything back, its own writes too, once it is claimed again.
#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_manager_gets_its_own_back() {
    let mut world = World::new().await;
    world.side(KvAuthor::Manager).set("price", "1").await;
    world.side(KvAuthor::Machine).set("state", "1").await;
    within("the delivery", world.side(KvAuthor::Manager).delivered()).await.unwrap();
    within("the delivery", world.side(KvAuthor::Machine).delivered()).await.unwrap();
    world.stop(KvAuthor::Manager).await;
    for file in ["node.redb", "node.journal", "node.run", "docs.redb"] {
        std::fs::remove_file(world.dir(KvAuthor::Manager).join(file)).unwrap_or_default();
    }
    let manager = spawn_manager(world.dir(KvAuthor::Manager)).await;
    let Side::Machine(machine) = world.side(KvAuthor::Machine).clone() else { panic!() };
    let id = pair(&machine, &manager).await;
    world.sides[1] = Some(Side::Manager(manager, id));
    world.side(KvAuthor::Manager).set("price", "2").await;
    within("the delivery", world.side(KvAuthor::Manager).delivered()).await.unwrap();
    world.show("price", Some("2")).await;
    world.show("state", Some("1")).await;
    world.shutdown().await;
}

/// Two directories whose files were swapped are refused before anything is changed, and work again once each has its own.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_files_are_refused() {
    let mut world = World::new().await;
    world.side(KvAuthor::Machine).set("key", "1").await;
    within("the delivery", world.side(KvAuthor::Machine).delivered()).await.unwrap();
    for author in KvAuthor::BOTH {
        world.stop(author).await;
    }
    let swap = |files: &[&str]| {
        for file in files {
            let [one, two] = KvAuthor::BOTH.map(|author| world.dir(author).join(file));
            let kept = one.with_extension("swapped");
            std::fs::rename(&one, &kept).unwrap();
            std::fs::rename(&two, &one).unwrap();
            std::fs::rename(&kept, &two).unwrap();
        }
    };
    let tables = ["node.redb", "node.journal", "node.run"];
    for files in [&tables[..], &["node.journal"]] {
        swap(files);
        let machine = machine_builder(world.dir(KvAuthor::Machine)).spawn().await.err().unwrap().to_string();
        let manager = manager_builder(world.dir(KvAuthor::Manager)).spawn().await.err().unwrap().to_string();
        let says = if files.len() == 1 { "is the journal of other tables" } else { "are those of the node" };
        assert!(machine.contains(says), "{machine}");
        assert!(manager.contains(says), "{manager}");
        for author in KvAuthor::BOTH {
            let looked = groundswell::Node::builder().data_dir(world.dir(author)).inspect().await;
            let refused = matches!(looked, Err(OpenError::OtherNode { .. } | OpenError::OtherJournal { .. }));
            assert!(refused, "{looked:?}");
        }
        swap(files);
    }
    for author in KvAuthor::BOTH {
        world.start(author).await;
    }
    for author in KvAuthor::BOTH {
        let mut status = world.side(author).link_status();
        let status = within("both to be current", status.wait_for(is_current)).await.unwrap().clone();
        assert_eq!(status.went_back, None, "each has its own files");
    }
    world.show("key", Some("1")).await;
    world.shutdown().await;
}
