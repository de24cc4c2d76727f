//! The manager of the demo: it claims machines, follows all that they have, and sets their prices.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use groundswell::{
    Aeon, Event, Freshness, KvAuthor, KvEvent, KvFilter, KvFleetEvent, KvFleetSubscription, KvLink, LinkStatus,
    Machine, Manager, Node, PeerId, ReadError, Source, Subscriptions, Updates,
    lakes::{Log, Sum},
};
use tokio::{sync::watch, task::JoinSet};

use super::{
    Books,
    ledger::{PATHS, Seen},
    machine::{BALANCE, GOODS, STOCK, TEMPERATURE, Vendor, price_key},
};
use crate::{
    builtin::ToolLake,
    control::protocol::Started,
    error::ToolError,
    registry::Registry,
    store::Store,
    web::{Listen, Web},
};

/// How long the streams may take to end when the node has ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// The manager, and a task for each stream.
pub(super) struct Office {
    node: Node,
    manager: Manager,
    web: Web,
    sales: Subscriptions<Log>,
    till: Subscriptions<Sum>,
    machines: Vec<Followed>,
    board: Arc<Board>,
    books: Arc<Books>,
    streams: JoinSet<()>,
}

/// A machine that was claimed.
struct Followed {
    id: PeerId,
    sales: Source,
    till: Source,
}

/// What is known of the machines, kept up by their events.
#[derive(Default)]
struct Board(Mutex<Vec<(PeerId, Reported)>>);

/// What a machine has reported by the store.
#[derive(Debug, Clone, Default)]
struct Reported {
    link: &'static str,
    stock: BTreeMap<String, i64>,
    balance: i64,
    temperature: i64,
}

/// What is to be shown of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) link: &'static str,
    /// Pieces of all goods.
    pub(super) stock: i64,
    /// Cents, by the store.
    pub(super) balance: i64,
    /// In tenths of a degree.
    pub(super) temperature: i64,
    /// How many sales were published, and the newest.
    pub(super) sales: usize,
    pub(super) last: String,
    /// Cents, by the sum of the sales.
    pub(super) till: i64,
}

impl Office {
    pub(super) async fn start(dir: &Path, books: Arc<Books>) -> Result<Self, ToolError> {
        let node = Node::builder().data_dir(dir).offline().bind(super::LOOPBACK).spawn().await?;
        let manager = Manager::builder().node(node.clone()).spawn().await?;
        let store = Store::Manager(manager.clone());
        let started = Started { offline: true, bind: Some(super::LOOPBACK) };
        // The dashboard shows what is followed here, by the same declarations.
        let registry = Arc::new(Registry::restore(node.clone(), store, started).await?);
        let sales = registry.replicas(&groundswell::Path::new(PATHS[0])?).await?;
        let till = registry.replicas(&groundswell::Path::new(PATHS[1])?).await?;
        let web = Web::start(manager.clone().into(), Some(registry), dir, &Listen::default()).await?;
        let board = Arc::<Board>::default();
        let mut streams = JoinSet::new();
        // One stream over all machines, those that are claimed later included.
        let fleet = manager.subscribe_all_kv_entries(KvFilter::All).await?;
        streams.spawn(follow_fleet(fleet, board.clone(), books.clone()));
        Ok(Self { node, manager, web, sales, till, machines: Vec::new(), board, books, streams })
    }

    /// Claims a machine, whose two persons look at the PINs here, and follows all that it has.
    pub(super) async fn claim(&mut self, number: usize, machine: &Machine) -> Result<(), ToolError> {
        self.board.lock().push((machine.id(), Reported { link: "connecting", ..Reported::default() }));
        let _open = machine.hold_claims_open();
        let here = self.manager.begin_claim(&machine.ticket()).await?;
        let there = machine.await_incoming_claim().await;
        let there = there.ok_or_else(|| ToolError::Demo("a machine ended before it was claimed".to_owned()))?;
        let same = here.pin == there.pin && there.manager == self.manager.id();
        let (there, here) = tokio::join!(there.answer(same), here.answer(same));
        there?;
        let id = here?;
        let link = self.manager.machine_status_changes(id)?;
        self.streams.spawn(follow_link(link, number, self.board.clone(), self.books.clone()));
        // The claim has taught this node where the machine is.
        let (sales, till) = (Source::new(id, "main", PATHS[0])?, Source::new(id, "main", PATHS[1])?);
        self.streams.spawn(follow(self.sales.surf(sales.clone()).await?, self.books.clone(), number, 0));
        self.streams.spawn(follow(self.till.surf(till.clone()).await?, self.books.clone(), number, 1));
        self.machines.push(Followed { id, sales, till });
        Ok(())
    }

    /// The dashboard.
    pub(super) fn web(&self) -> &Web {
        &self.web
    }

    /// How many machines are this manager's.
    pub(super) fn pairings(&self) -> usize {
        self.manager.list_machine_ids().len()
    }

    /// Sets a price at every machine, in reach or not.
    pub(super) async fn set_price(&self, goods: usize, cents: i64) -> Result<(), ToolError> {
        let (key, value) = (price_key(goods), cents.to_string());
        for (number, machine) in self.machines.iter().enumerate() {
            self.books.store.writing(number, &key, &value);
            self.manager.set_kv_value(machine.id, &key, &value).await?;
            self.books.store.written();
        }
        Ok(())
    }

    /// Sets the first price of everything.
    pub(super) async fn set_prices(&self) -> Result<(), ToolError> {
        for (goods, (_, cents)) in GOODS.iter().enumerate() {
            self.set_price(goods, *cents).await?;
        }
        Ok(())
    }

    /// What is to be shown of each machine. What is not there yet is shown as nothing.
    pub(super) async fn view(&self) -> Vec<View> {
        let reported: Vec<Reported> = self.board.lock().iter().map(|(_, reported)| reported.clone()).collect();
        let mut views = Vec::new();
        for (machine, reported) in self.machines.iter().zip(reported) {
            let sales =
                self.sales.with_rock(&machine.sales, |rock, _| (rock.len(), rock.last().cloned().unwrap_or_default()));
            let (sales, last) = sales.await.unwrap_or_default();
            let till = self.till.with_rock(&machine.till, |rock, _| *rock).await.unwrap_or_default();
            let Reported { link, stock, balance, temperature } = reported;
            views.push(View { link, stock: stock.values().sum(), balance, temperature, sales, last, till });
        }
        views
    }

    /// Compares what both sides have, the states byte for byte; says where they differ.
    pub(super) async fn differences(&self, vendors: &[Vendor]) -> Result<Vec<String>, ToolError> {
        let mut differences = Vec::new();
        for vendor in vendors {
            let number = vendor.number();
            let Some(machine) = self.machines.iter().find(|machine| machine.id == vendor.id()) else {
                differences.push(format!("machine {} is not claimed", number + 1));
                continue;
            };
            let here = [rock(&self.sales, &machine.sales).await?, rock(&self.till, &machine.till).await?];
            for ((path, there), here) in PATHS.iter().zip(vendor.states().await?).zip(here) {
                if here.as_ref() != Some(&there) {
                    let at = here.map_or("none".to_owned(), |(aeon, _)| aeon.to_string());
                    differences.push(format!("{path} of machine {}: aeon {} there, {at} here", number + 1, there.0));
                }
            }
            if self.manager.get_kv_entries(machine.id).await? != vendor.entries().await? {
                differences.push(format!("the store of machine {}", number + 1));
            }
        }
        Ok(differences)
    }

    /// Ends the dashboard, the node, then the streams.
    pub(super) async fn end(mut self) {
        self.web.shutdown().await;
        // What is temporary is not worth a complaint.
        let _ = self.node.shutdown().await;
        let ended = async { while self.streams.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_EVENTS, ended).await;
    }
}

impl Board {
    /// A panic elsewhere has not left any of this half-written.
    fn lock(&self) -> MutexGuard<'_, Vec<(PeerId, Reported)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn rock<L: ToolLake>(
    subscriptions: &Subscriptions<L>,
    source: &Source,
) -> Result<Option<(Aeon, String)>, ToolError> {
    match subscriptions.with_rock(source, |rock, aeon| (aeon, L::rock_json(rock))).await {
        Ok((aeon, rock)) => Ok(Some((aeon, rock.map_err(|error| ToolError::Answer(error.to_string()))?.to_string()))),
        Err(ReadError::NoState(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Books each entry that a machine wrote, and puts it on the board, until the stream ends.
async fn follow_fleet(mut fleet: KvFleetSubscription, board: Arc<Board>, books: Arc<Books>) {
    while let Some(event) = fleet.next().await {
        let KvFleetEvent::Update { machine, update } = event else { continue };
        let KvEvent::Put(entry) = &update.event else { continue };
        if entry.author != KvAuthor::Machine {
            continue;
        }
        let mut machines = board.lock();
        let Some(number) = machines.iter().position(|(id, _)| *id == machine) else { continue };
        let reported = &mut machines[number].1;
        let value = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        match std::str::from_utf8(entry.key.as_bytes()) {
            Ok(BALANCE) => reported.balance = value,
            Ok(TEMPERATURE) => reported.temperature = value,
            Ok(key) => {
                if let Some(goods) = key.strip_prefix(STOCK) {
                    reported.stock.insert(goods.to_owned(), value);
                }
            }
            Err(_) => {}
        }
        drop(machines);
        books.store.saw(number, entry, update.live);
    }
}

/// Puts on the board whether a machine is there, until the manager ends.
async fn follow_link(mut link: watch::Receiver<LinkStatus>, number: usize, board: Arc<Board>, books: Arc<Books>) {
    loop {
        let (word, away) = match link.borrow_and_update().link {
            KvLink::Online => ("online", false),
            KvLink::Offline { .. } => ("offline", true),
            KvLink::NotKnown { .. } => ("not known", true),
            KvLink::Released => ("released", true),
            _ => ("connecting", true),
        };
        books.store.set_away(number, away);
        if let Some((_, reported)) = board.lock().get_mut(number) {
            reported.link = word;
        }
        if link.changed().await.is_err() {
            return;
        }
    }
}

/// Books each event of a path, until the stream ends.
async fn follow<L: ToolLake>(mut updates: Updates<L>, books: Arc<Books>, machine: usize, path: usize) {
    let ledger = &books.waves;
    let (mut before, mut away) = (None, false);
    while let Some(event) = updates.next().await {
        match event {
            Event::Update(update) => {
                let aeon = update.aeon();
                ledger.see(machine, path, Seen { aeon, wave: update.wave.is_some(), live: update.live, before });
                before = Some(aeon);
            }
            Event::CaughtUp { .. } => ledger.account(machine, path).caught_up(std::mem::take(&mut away)),
            Event::Freshness(freshness) => {
                away |= matches!(freshness, Freshness::Offline { .. });
                ledger.account(machine, path).set_freshness(freshness.kind());
            }
            _ => {}
        }
    }
}
