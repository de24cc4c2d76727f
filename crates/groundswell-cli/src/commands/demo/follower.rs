//! The follower of the demo: one node that surfs every path of every machine.

use std::{path::Path, sync::Arc, time::Duration};

use groundswell::{
    Aeon, Event, Freshness, Node, PeerId, PeerTicket, ReadError, Source, Subscriptions, Updates,
    lakes::{Json, Log, Sum},
};
use tokio::task::JoinSet;

use super::{
    ledger::{Ledger, PATHS, Seen},
    machine::Machine,
};
use crate::{builtin::ToolLake, error::ToolError};

/// How long the streams may take to end when the node has ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// The follower, and a task for each stream.
pub(super) struct Follower {
    node: Node,
    sales: Subscriptions<Log>,
    till: Subscriptions<Sum>,
    state: Subscriptions<Json>,
    machines: Vec<[Source; 3]>,
    streams: JoinSet<()>,
}

/// What the follower holds of one machine, to be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// How many sales there are, and the newest.
    pub(super) sales: usize,
    pub(super) last: String,
    /// Cents in the till.
    pub(super) till: i64,
    /// The state as JSON.
    pub(super) state: String,
}

impl Follower {
    pub(super) async fn start(dir: &Path) -> Result<Self, ToolError> {
        let node = Node::builder().data_dir(dir).offline().bind(super::LOOPBACK).spawn().await?;
        let agent = node.agent("main")?;
        let sales = agent.subscriptions(PATHS[0]).await?;
        let till = agent.subscriptions(PATHS[1]).await?;
        let state = agent.subscriptions(PATHS[2]).await?;
        Ok(Self { node, sales, till, state, machines: Vec::new(), streams: JoinSet::new() })
    }

    /// Follows all that a machine publishes.
    pub(super) async fn follow(
        &mut self,
        machine: usize,
        ticket: PeerTicket,
        ledger: &Arc<Ledger>,
    ) -> Result<(), ToolError> {
        let peer = self.node.add_peer(&ticket).await?;
        let [sales, till, state] = sources(peer)?;
        self.streams.spawn(watch(self.sales.surf(sales.clone()).await?, ledger.clone(), machine, 0));
        self.streams.spawn(watch(self.till.surf(till.clone()).await?, ledger.clone(), machine, 1));
        self.streams.spawn(watch(self.state.surf(state.clone()).await?, ledger.clone(), machine, 2));
        self.machines.push([sales, till, state]);
        Ok(())
    }

    /// What is to be shown of each machine. What is not there yet is shown as nothing.
    pub(super) async fn view(&self) -> Vec<View> {
        let mut views = Vec::new();
        for [sales, till, state] in &self.machines {
            let sales = self.sales.with_rock(sales, |rock, _| (rock.len(), rock.last().cloned().unwrap_or_default()));
            let (sales, last) = sales.await.unwrap_or_default();
            let till = self.till.with_rock(till, |rock, _| *rock).await.unwrap_or_default();
            let state = self.state.with_rock(state, |rock, _| rock.0.to_string()).await.unwrap_or_default();
            views.push(View { sales, last, till, state });
        }
        views
    }

    /// Compares the rocks of both sides, byte for byte; says where they differ.
    pub(super) async fn differences(&self, machines: &[Machine]) -> Result<Vec<String>, ToolError> {
        let mut differences = Vec::new();
        for machine in machines {
            let [sales, till, state] = sources(machine.id())?;
            let here =
                [rock(&self.sales, &sales).await?, rock(&self.till, &till).await?, rock(&self.state, &state).await?];
            for ((path, there), here) in PATHS.iter().zip(machine.states().await?).zip(here) {
                if here.as_ref() != Some(&there) {
                    let at = here.map_or("none".to_owned(), |(aeon, _)| aeon.to_string());
                    let number = machine.number() + 1;
                    differences.push(format!("{path} of machine {number}: aeon {} there, {at} here", there.0));
                }
            }
        }
        Ok(differences)
    }

    /// Ends the node, then the streams.
    pub(super) async fn end(mut self) {
        // What is temporary is not worth a complaint.
        let _ = self.node.shutdown().await;
        let ended = async { while self.streams.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LAST_EVENTS, ended).await;
    }
}

fn sources(peer: PeerId) -> Result<[Source; 3], ToolError> {
    let [sales, till, state] = PATHS;
    Ok([Source::new(peer, "main", sales)?, Source::new(peer, "main", till)?, Source::new(peer, "main", state)?])
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

/// Books each event of a stream, until it ends.
async fn watch<L: ToolLake>(mut updates: Updates<L>, ledger: Arc<Ledger>, machine: usize, path: usize) {
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
