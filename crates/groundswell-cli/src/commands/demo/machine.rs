//! A machine of the demo: it sells things, says in the store what it has, publishes its sales, and
//! follows the prices that its manager sets.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use groundswell::{
    Aeon, KvEntry, KvEvent, KvWatch, Machine, Node, PeerId, Publications,
    lakes::{Log, Sum},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{Books, ledger::PATHS};
use crate::{builtin::ToolLake, error::ToolError};

/// How long it is from one sale of a machine to its next, about.
const BETWEEN_SALES: Duration = Duration::from_millis(120);

/// What is sold, and for how many cents at first.
pub(super) const GOODS: [(&str, i64); 4] = [("espresso", 220), ("tea", 180), ("water", 150), ("chocolate", 260)];

/// How many pieces of each a full machine holds.
const FULL_STOCK: i64 = 40;

/// After so many sales the temperature is reported.
const SALES_A_TEMPERATURE: u64 = 5;

/// The keys under which a machine reports.
pub(super) const BALANCE: &str = "balance";
pub(super) const TEMPERATURE: &str = "temperature";
pub(super) const STOCK: &str = "stock/";

/// The key of a price.
pub(super) fn price_key(goods: usize) -> String {
    format!("price/{}", GOODS[goods].0)
}

/// Whether a machine has power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plug {
    /// It sells.
    In,
    /// It is off.
    Out,
    /// It has sold enough, and is only to be looked at.
    Done,
}

/// A machine, and what it knows while it is off too.
pub(super) struct Vendor {
    number: usize,
    dir: PathBuf,
    books: Arc<Books>,
    on: On,
    stock: [i64; GOODS.len()],
    balance: i64,
    sold: u64,
}

/// What there is of a machine while it is on.
struct On {
    node: Node,
    machine: Machine,
    sales: Publications<Log>,
    till: Publications<Sum>,
    /// In cents; 0 where none is known.
    prices: Arc<[AtomicI64; GOODS.len()]>,
    /// They end with their streams, which end with the node.
    _watches: JoinSet<()>,
}

impl Vendor {
    /// Switches a new machine on.
    pub(super) async fn start(number: usize, dir: PathBuf, books: Arc<Books>) -> Result<Self, ToolError> {
        let on = switch_on(number, &dir, &books).await?;
        Ok(Self { number, dir, books, on, stock: [FULL_STOCK; GOODS.len()], balance: 0, sold: 0 })
    }

    pub(super) fn machine(&self) -> &Machine {
        &self.on.machine
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn id(&self) -> PeerId {
        self.on.node.id()
    }

    /// Takes its node, to be shut down.
    pub(super) fn into_node(self) -> Node {
        self.on.node
    }

    /// Sells while there is power, until it is done; then the machine is on.
    pub(super) async fn run(mut self, mut plug: watch::Receiver<Plug>) -> Result<Self, ToolError> {
        self.set_up().await?;
        let mut next_sale =
            interval(BETWEEN_SALES + Duration::from_millis(7) * u32::try_from(self.number).unwrap_or(0));
        next_sale.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = *plug.borrow_and_update();
            match now {
                Plug::Done => return Ok(self),
                Plug::Out => {
                    self.on.node.shutdown().await?;
                    // The sender outlives the machine; without it there is no power any more.
                    let _ = plug.wait_for(|plug| *plug != Plug::Out).await;
                    self.on = switch_on(self.number, &self.dir, &self.books).await?;
                }
                Plug::In => {
                    tokio::select! {
                        _ = next_sale.tick() => {}
                        _ = plug.changed() => continue,
                    }
                    self.sell().await?;
                }
            }
        }
    }

    async fn set_up(&self) -> Result<(), ToolError> {
        self.on.sales.open(PATHS[0]).await?;
        self.on.till.open(PATHS[1]).await?;
        for ((goods, _), pieces) in GOODS.iter().zip(self.stock) {
            self.set(&format!("{STOCK}{goods}"), pieces).await?;
        }
        self.set(BALANCE, 0).await?;
        self.set(TEMPERATURE, 40).await
    }

    /// One sale is two waves and two or three entries, written at once.
    async fn sell(&mut self) -> Result<(), ToolError> {
        // Any pattern will do that is not the same for every machine.
        let chance = (self.sold + 1).wrapping_mul(2_654_435_761).wrapping_add(self.number as u64 * 97) >> 8;
        let which = usize::try_from(chance % GOODS.len() as u64).unwrap_or(0);
        let (goods, cents) = (GOODS[which].0, self.on.prices[which].load(Ordering::Relaxed));
        if cents == 0 {
            // The manager has not said yet what it costs.
            return Ok(());
        }
        self.sold += 1;
        let wanted = i64::try_from(chance / 8 % 3).unwrap_or(0) + 1;
        let pieces = wanted.min(self.stock[which]);
        self.stock[which] = if self.stock[which] == pieces { FULL_STOCK } else { self.stock[which] - pieces };
        self.balance += pieces * cents;
        let line = format!("{pieces} {goods} for {}.{:02}", pieces * cents / 100, pieces * cents % 100);
        let stock = format!("{STOCK}{goods}");
        tokio::try_join!(
            self.give(0, &self.on.sales, line),
            self.give(1, &self.on.till, pieces * cents),
            self.set(&stock, self.stock[which]),
            self.set(BALANCE, self.balance),
        )?;
        if self.sold.is_multiple_of(SALES_A_TEMPERATURE) {
            self.set(TEMPERATURE, 40 + i64::try_from(chance / 32 % 9).unwrap_or(0)).await?;
        }
        Ok(())
    }

    async fn set(&self, key: &str, value: i64) -> Result<(), ToolError> {
        let value = value.to_string();
        self.books.store.writing(self.number, key, &value);
        self.on.machine.set_kv_value(key, value).await?;
        self.books.store.written();
        Ok(())
    }

    async fn give<L: ToolLake>(
        &self,
        path: usize,
        publications: &Publications<L>,
        wave: L::Wave,
    ) -> Result<(), ToolError> {
        let account = self.books.waves.account(self.number, path);
        account.giving();
        let aeon = publications.give(PATHS[path], wave).await?;
        account.has_given(aeon);
        Ok(())
    }

    /// The aeon and the text of the states, in the order of [`PATHS`].
    pub(super) async fn states(&self) -> Result<[(Aeon, String); 2], ToolError> {
        Ok([rock(&self.on.sales, PATHS[0]).await?, rock(&self.on.till, PATHS[1]).await?])
    }

    /// What is in its store.
    pub(super) async fn entries(&self) -> Result<Vec<KvEntry>, ToolError> {
        Ok(self.on.machine.get_kv_entries().await?)
    }
}

async fn rock<L: ToolLake>(publications: &Publications<L>, path: &str) -> Result<(Aeon, String), ToolError> {
    let (aeon, rock) = publications.with_rock(path, |rock, aeon| (aeon, L::rock_json(rock))).await?;
    Ok((aeon, rock.map_err(|error| ToolError::Answer(error.to_string()))?.to_string()))
}

async fn switch_on(number: usize, dir: &Path, books: &Arc<Books>) -> Result<On, ToolError> {
    let node = Node::builder().data_dir(dir).offline().bind(super::LOOPBACK).spawn().await?;
    let machine = Machine::builder().node(node.clone()).spawn().await?;
    let agent = node.agent("main")?;
    let sales = agent.publications(PATHS[0]).await?;
    let till = agent.publications(PATHS[1]).await?;
    let prices = Arc::<[AtomicI64; GOODS.len()]>::default();
    let mut watches = JoinSet::new();
    for goods in 0..GOODS.len() {
        let watch = machine.watch_kv_key(price_key(goods)).await?;
        watches.spawn(follow_price(watch, goods, prices.clone(), number, books.clone()));
    }
    Ok(On { node, machine, sales, till, prices, _watches: watches })
}

/// Takes each price that the manager sets, until the stream ends.
async fn follow_price(
    mut watch: KvWatch,
    goods: usize,
    prices: Arc<[AtomicI64; GOODS.len()]>,
    number: usize,
    books: Arc<Books>,
) {
    while let Some(update) = watch.next().await {
        if let KvEvent::Put(entry) = update.event {
            books.store.saw(number, &entry, update.live);
            // What is no price is none.
            let cents = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
            prices[goods].store(cents.unwrap_or(0), Ordering::Relaxed);
        }
    }
}
