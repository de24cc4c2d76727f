//! A machine of the demo: a node that sells things and publishes what it sells.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use groundswell::{
    Aeon, Node, PeerId, PeerTicket, Publications,
    lakes::{Json, JsonPatch, Log, Sum},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::ledger::{Ledger, PATHS};
use crate::{builtin::ToolLake, error::ToolError};

/// How long it is from one sale of a machine to its next, about.
const BETWEEN_SALES: Duration = Duration::from_millis(120);

/// What is sold, and for how many cents.
const GOODS: [(&str, i64); 4] = [("espresso", 220), ("tea", 180), ("water", 150), ("chocolate", 260)];

/// How many things a full machine holds.
const FULL_STOCK: i64 = 40;

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

/// A machine that is on.
pub(super) struct Machine {
    number: usize,
    dir: PathBuf,
    ledger: Arc<Ledger>,
    node: Node,
    sales: Publications<Log>,
    till: Publications<Sum>,
    state: Publications<Json>,
    stock: i64,
    sold: u64,
}

impl Machine {
    /// Switches a new machine on.
    pub(super) async fn start(number: usize, dir: PathBuf, ledger: Arc<Ledger>) -> Result<Self, ToolError> {
        let (node, sales, till, state) = switch_on(&dir).await?;
        Ok(Self { number, dir, ledger, node, sales, till, state, stock: FULL_STOCK, sold: 0 })
    }

    pub(super) fn ticket(&self) -> PeerTicket {
        self.node.ticket()
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn id(&self) -> PeerId {
        self.node.id()
    }

    /// Takes its node, to be shut down.
    pub(super) fn into_node(self) -> Node {
        self.node
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
                    self.node.shutdown().await?;
                    // The sender outlives the machine; without it there is no power any more.
                    let _ = plug.wait_for(|plug| *plug != Plug::Out).await;
                    (self.node, self.sales, self.till, self.state) = switch_on(&self.dir).await?;
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
        self.sales.open(PATHS[0]).await?;
        self.till.open(PATHS[1]).await?;
        let document = serde_json::json!([{
            "op": "add", "path": "", "value": { "stock": FULL_STOCK, "temperature": 40, "last": null }
        }]);
        self.give(2, &self.state, patch(&document)?).await
    }

    /// One sale is three waves, given at once.
    async fn sell(&mut self) -> Result<(), ToolError> {
        self.sold += 1;
        // Any pattern will do that is not the same for every machine.
        let chance = self.sold.wrapping_mul(2_654_435_761).wrapping_add(self.number as u64 * 97) >> 8;
        let (goods, cents) = GOODS[usize::try_from(chance % GOODS.len() as u64).unwrap_or(0)];
        let pieces = i64::try_from(chance / 8 % 3).unwrap_or(0) + 1;
        let temperature = 40 + i64::try_from(chance / 32 % 9).unwrap_or(0);
        self.stock = if self.stock <= pieces { FULL_STOCK } else { self.stock - pieces };
        let price = pieces * cents;
        let line = format!("{pieces} {goods} for {}.{:02}", price / 100, price % 100);
        let document = serde_json::json!([
            { "op": "replace", "path": "/stock", "value": self.stock },
            { "op": "replace", "path": "/temperature", "value": temperature },
            { "op": "replace", "path": "/last", "value": goods },
        ]);
        tokio::try_join!(
            self.give(0, &self.sales, line),
            self.give(1, &self.till, price),
            self.give(2, &self.state, patch(&document)?),
        )?;
        Ok(())
    }

    async fn give<L: ToolLake>(
        &self,
        path: usize,
        publications: &Publications<L>,
        wave: L::Wave,
    ) -> Result<(), ToolError> {
        let account = self.ledger.account(self.number, path);
        account.giving();
        let aeon = publications.give(PATHS[path], wave).await?;
        account.has_given(aeon);
        Ok(())
    }

    /// The aeon and the text of the states, in the order of [`PATHS`].
    pub(super) async fn states(&self) -> Result<[(Aeon, String); 3], ToolError> {
        Ok([rock(&self.sales, PATHS[0]).await?, rock(&self.till, PATHS[1]).await?, rock(&self.state, PATHS[2]).await?])
    }
}

async fn rock<L: ToolLake>(publications: &Publications<L>, path: &str) -> Result<(Aeon, String), ToolError> {
    let (aeon, rock) = publications.with_rock(path, |rock, aeon| (aeon, L::rock_json(rock))).await?;
    Ok((aeon, rock.map_err(|error| ToolError::Answer(error.to_string()))?.to_string()))
}

async fn switch_on(dir: &Path) -> Result<(Node, Publications<Log>, Publications<Sum>, Publications<Json>), ToolError> {
    let node = Node::builder().data_dir(dir).offline().bind(super::LOOPBACK).spawn().await?;
    let agent = node.agent("main")?;
    let sales = agent.publications(PATHS[0]).await?;
    let till = agent.publications(PATHS[1]).await?;
    let state = agent.publications(PATHS[2]).await?;
    Ok((node, sales, till, state))
}

fn patch(operations: &serde_json::Value) -> Result<JsonPatch, ToolError> {
    operations.to_string().parse().map_err(|error: serde_json::Error| ToolError::Demo(error.to_string()))
}
