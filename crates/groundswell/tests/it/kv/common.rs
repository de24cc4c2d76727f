//! What the tests share: pairs on loopback, either side behind one face, and waiting for conditions.
#![allow(unreachable_pub)] // as in a library

use std::{path::Path, sync::Arc, time::Duration};

use groundswell::{
    KvAuthor, KvEntry, KvError, KvEvent, KvFilter, KvLink, KvSubscription, KvUpdate, KvWatch, LinkStatus, Machine,
    MachineBuilder, Manager, ManagerBuilder, PeerId,
};
use tempfile::TempDir;

/// How long a test waits for something before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Logs to the test's output, as far as RUST_LOG says.
pub fn init_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

pub fn machine_builder(dir: &Path) -> MachineBuilder {
    init_log();
    Machine::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap())
}

pub fn manager_builder(dir: &Path) -> ManagerBuilder {
    init_log();
    Manager::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse().unwrap())
}

/// A machine in this directory, as soon as an earlier one has let go of it.
pub async fn spawn_machine(dir: &Path) -> Machine {
    within("the machine's directory", async {
        loop {
            match machine_builder(dir).spawn().await {
                Ok(machine) => return machine,
                Err(error) => assert!(in_use(&error.to_string()), "{error}"),
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

pub async fn spawn_manager(dir: &Path) -> Manager {
    within("the manager's directory", async {
        loop {
            match manager_builder(dir).spawn().await {
                Ok(manager) => return manager,
                Err(error) => assert!(in_use(&error.to_string()), "{error}"),
            }
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// A process that ends lets go of its files; here tasks do, one after another.
fn in_use(error: &str) -> bool {
    error.contains("in use") || error.contains("already open")
}

/// Longer than any test takes: the time for which a person opens a machine for claims.
pub const OPEN: Duration = Duration::from_secs(600);

/// Claims a machine, with both persons saying yes.
pub async fn pair(machine: &Machine, manager: &Manager) -> PeerId {
    let ticket = machine.ticket();
    let (asked, claimed) = tokio::join!(machine.await_next_incoming_claim_request(), async {
        within("the claim", manager.begin_claim(&ticket)).await.unwrap()
    });
    let (pin, answer) = asked.unwrap();
    assert_eq!(pin, claimed.pin, "both sides show the same");
    answer.send(true).unwrap();
    within("the pair", claimed.answer(true)).await.unwrap()
}

/// A machine and its manager, online.
pub struct Pair {
    pub machine: Machine,
    pub manager: Manager,
    pub id: PeerId,
    pub machine_dir: TempDir,
    pub manager_dir: TempDir,
}

impl Pair {
    pub async fn new() -> Self {
        Self::with_clocks(None, None).await
    }

    /// A pair whose wall clocks show what these say.
    pub async fn with_clocks(machine: Option<Clock>, manager: Option<Clock>) -> Self {
        let (machine_dir, manager_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let (mut of_machine, mut of_manager) =
            (machine_builder(machine_dir.path()), manager_builder(manager_dir.path()));
        if let Some(clock) = machine {
            of_machine = of_machine.wall_clock(move || clock());
        }
        if let Some(clock) = manager {
            of_manager = of_manager.wall_clock(move || clock());
        }
        let (machine, manager) = (of_machine.spawn().await.unwrap(), of_manager.spawn().await.unwrap());
        let id = pair(&machine, &manager).await;
        let pair = Self { machine, manager, id, machine_dir, manager_dir };
        pair.online().await;
        pair
    }

    /// Waits until both sides are connected and current.
    pub async fn online(&self) {
        let mut status = self.manager.machine_status_changes(self.id).unwrap();
        within("the manager to be online", status.wait_for(is_current)).await.unwrap();
        let mut status = self.machine.status_changes();
        within("the machine to be online", status.wait_for(is_current)).await.unwrap();
    }

    pub fn side(&self, author: KvAuthor) -> Side {
        match author {
            KvAuthor::Machine => Side::Machine(self.machine.clone()),
            KvAuthor::Manager => Side::Manager(self.manager.clone(), self.id),
        }
    }

    pub fn sides(&self) -> [Side; 2] {
        [self.side(KvAuthor::Machine), self.side(KvAuthor::Manager)]
    }

    /// Each side with the other one: the machine first, then the manager.
    pub fn turns(&self) -> [(Side, Side); 2] {
        let [machine, manager] = self.sides();
        [(machine.clone(), manager.clone()), (manager, machine)]
    }

    pub async fn shutdown(self) {
        let (machine, manager) = tokio::join!(self.machine.shutdown(), self.manager.shutdown());
        machine.unwrap();
        manager.unwrap();
    }
}

pub fn is_current(status: &LinkStatus) -> bool {
    status.link == KvLink::Online && status.current
}

pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Either side of a pair.
#[derive(Clone)]
pub enum Side {
    Machine(Machine),
    Manager(Manager, PeerId),
}

impl Side {
    pub fn author(&self) -> KvAuthor {
        match self {
            Self::Machine(_) => KvAuthor::Machine,
            Self::Manager(..) => KvAuthor::Manager,
        }
    }

    pub async fn get(&self, key: impl AsRef<[u8]>) -> Option<KvEntry> {
        match self {
            Self::Machine(machine) => machine.get_kv_value(key).await.unwrap(),
            Self::Manager(manager, id) => manager.get_kv_value(*id, key).await.unwrap(),
        }
    }

    pub async fn try_set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<KvEntry, KvError> {
        match self {
            Self::Machine(machine) => machine.set_kv_value(key, value).await,
            Self::Manager(manager, id) => manager.set_kv_value(*id, key, value).await,
        }
    }

    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> KvEntry {
        self.try_set(key, value).await.unwrap()
    }

    pub async fn delete(&self, key: impl AsRef<[u8]>) -> bool {
        match self {
            Self::Machine(machine) => machine.delete_kv_value(key).await.unwrap(),
            Self::Manager(manager, id) => manager.delete_kv_value(*id, key).await.unwrap(),
        }
    }

    pub async fn entries(&self, filter: KvFilter) -> Vec<KvEntry> {
        match self {
            Self::Machine(machine) => machine.get_kv_entries_matching(filter).await.unwrap(),
            Self::Manager(manager, id) => manager.get_kv_entries_matching(*id, filter).await.unwrap(),
        }
    }

    pub async fn watch(&self, key: impl AsRef<[u8]>) -> KvWatch {
        self.try_watch(key).await.unwrap()
    }

    pub async fn try_watch(&self, key: impl AsRef<[u8]>) -> Result<KvWatch, KvError> {
        match self {
            Self::Machine(machine) => machine.watch_kv_key(key).await,
            Self::Manager(manager, id) => manager.watch_kv_key(*id, key).await,
        }
    }

    /// How many keys it knows of.
    pub fn keys_used(&self) -> usize {
        match self {
            Self::Machine(machine) => machine.kv_usage().keys,
            Self::Manager(manager, id) => manager.kv_usage(*id).unwrap().keys,
        }
    }

    pub async fn subscribe(&self, filter: KvFilter) -> KvSubscription {
        match self {
            Self::Machine(machine) => machine.subscribe_kv_entries(filter).await.unwrap(),
            Self::Manager(manager, id) => manager.subscribe_kv_entries(*id, filter).await.unwrap(),
        }
    }
}

/// Waits for something, or fails with its name.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Waits until a condition holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    within(what, async {
        while !holds().await {
            // A poll for a condition: time is under test only as patience.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Something that yields updates.
pub trait Updates {
    fn update(&mut self) -> impl Future<Output = Option<KvUpdate>>;
}

impl Updates for KvWatch {
    fn update(&mut self) -> impl Future<Output = Option<KvUpdate>> {
        self.next()
    }
}

impl Updates for KvSubscription {
    fn update(&mut self) -> impl Future<Output = Option<KvUpdate>> {
        self.next()
    }
}

/// The next event of a stream that has not ended, in a few words: `put k=v by machine`, `delete k by
/// manager`, `left k`, `caught up`, `reset`. One that is live has a `!` before it.
pub async fn next(stream: &mut impl Updates) -> String {
    match within("an event", stream.update()).await {
        Some(update) => words(&update),
        None => panic!("the stream has ended"),
    }
}

pub fn words(update: &KvUpdate) -> String {
    let what = match &update.event {
        KvEvent::Put(entry) => {
            format!("put {}={} by {}", entry.key, String::from_utf8_lossy(&entry.value), entry.author)
        }
        KvEvent::Delete { key, author, .. } => format!("delete {key} by {author}"),
        KvEvent::Left { key } => format!("left {key}"),
        KvEvent::CaughtUp => "caught up".to_owned(),
        KvEvent::Reset { .. } => "reset".to_owned(),
    };
    if update.live { format!("!{what}") } else { what }
}

/// Reads until the newest value of a key is this, whatever comes before.
pub async fn until_put(stream: &mut impl Updates, key: &str, value: &str) {
    let wanted = format!("put {key}={value} by");
    while !next(stream).await.trim_start_matches('!').starts_with(&wanted) {}
}
