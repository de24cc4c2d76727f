//! What is done to whole paths: who may read them, what is kept of them, their end, their copies.

use clap::ValueEnum;
use groundswell::{Access, Aeon, Frequency, ManageError, Name, Path, PeerId, Publications, Rule, Source};
use groundswell_web::lakes::Tide;
use tokio::sync::RwLockReadGuard;

use super::{Kills, Registry, Tables};
use crate::{
    builtin::{Builtin, ToolLake, for_lake},
    control::protocol::{Change, Horizon},
    error::ToolError,
};

impl Registry {
    /// What is kept under a path: of this node itself, or of the peer of this name.
    pub(crate) fn tide(&self, path: &Path, agent: Name, source: Option<&str>) -> Result<Tide, ToolError> {
        let path = path.clone();
        let peer = source.map(|peer| self.ticket(peer)).transpose()?.map(|ticket| ticket.peer());
        Ok(match peer.filter(|peer| *peer != self.node.id()) {
            None => Tide::Own { agent, path },
            Some(peer) => Tide::Replica(Source { peer, agent, path }),
        })
    }

    /// Changes who may read a path, published or not.
    pub(crate) async fn access(&self, agent: &Name, path: &Path, change: Change) -> Result<Access<PeerId>, ToolError> {
        let agent = self.node.agent(agent.as_str())?;
        let path = path.as_str();
        let peers = |names: Vec<String>| {
            names.iter().map(|name| Ok(self.ticket(name)?.peer())).collect::<Result<Vec<PeerId>, ToolError>>()
        };
        Ok(match change {
            Change::Public => agent.public(path).await?,
            Change::Secret => agent.secret(path).await?,
            Change::Allow(names) => agent.allow(path, peers(names)?).await?,
            Change::Block(names) => agent.block(path, peers(names)?).await?,
        })
    }

    /// Changes what is named of a rule, and returns the whole of it.
    pub(crate) async fn rule(
        &self,
        tide: &Tide,
        frequency: Option<Frequency>,
        horizon: Option<Horizon>,
    ) -> Result<Rule, ToolError> {
        // What one command reads, no other changes before it has written.
        let _rule = self.rules.alone(tide).await;
        let (present, path) = match tide {
            Tide::Own { agent, path } => {
                let published = self.node.agent(agent.as_str())?.published();
                (published.get(path).map(|state| state.rule), path)
            }
            Tide::Replica(source) => {
                let followed = self.node.agent(self.follower.as_str())?.followed();
                let state = followed.get(source).ok_or_else(|| not_followed(source))?;
                (state.rule, &source.path)
            }
        };
        let mut rule = present.ok_or_else(|| ManageError::NoState(path.clone()))?;
        if frequency.is_none() && horizon.is_none() {
            return Ok(rule);
        }
        rule.frequency = frequency.unwrap_or(rule.frequency);
        rule.horizon = match horizon {
            None => rule.horizon,
            Some(Horizon::Unlimited) => None,
            Some(Horizon::Waves(waves)) => Some(waves),
        };
        match tide {
            Tide::Own { agent, path } => self.node.agent(agent.as_str())?.rule(path.as_str(), rule).await?,
            Tide::Replica(source) => {
                for_lake!(self.lake_of(source).await?, L => {
                    self.replicas::<L>(&source.path).await?.rule(source, rule).await?;
                });
            }
        }
        Ok(rule)
    }

    /// Makes a rock, and drops the rest.
    pub(crate) async fn wipe(&self, tide: &Tide) -> Result<(), ToolError> {
        match tide {
            Tide::Own { agent, path } => self.node.agent(agent.as_str())?.wipe(path.as_str()).await?,
            Tide::Replica(source) => {
                for_lake!(self.lake_of(source).await?, L => {
                    self.replicas::<L>(&source.path).await?.wipe(source).await?;
                });
            }
        }
        Ok(())
    }

    /// Ends a path, and every command that gives to it.
    pub(crate) async fn kill(&self, agent: &Name, path: &Path) -> Result<(), ToolError> {
        let mut kills = self.kills.write().await;
        self.node.agent(agent.as_str())?.kill(path.as_str()).await?;
        *kills.entry((agent.clone(), path.clone())).or_default() += 1;
        Ok(())
    }

    /// How often a path was killed, for who begins to give there.
    pub(crate) async fn kills_of(&self, agent: &Name, path: &Path) -> u64 {
        self.kills.read().await.get(&(agent.clone(), path.clone())).copied().unwrap_or_default()
    }

    /// Keeps a path from being killed while the guard is held, unless it was since then.
    pub(crate) async fn unless_killed(
        &self,
        agent: &Name,
        path: &Path,
        since: u64,
    ) -> Result<RwLockReadGuard<'_, Kills>, ToolError> {
        let kills = self.kills.read().await;
        if kills.get(&(agent.clone(), path.clone())).is_some_and(|kills| *kills != since) {
            return Err(ToolError::KilledMeanwhile { path: path.clone() });
        }
        Ok(kills)
    }

    /// Begins a path with the state and the history of another.
    pub(crate) async fn fork(&self, agent: &Name, from: &Path, to: &Path) -> Result<Aeon, ToolError> {
        let lake = self.tables.lock().await.published_as(&(agent.clone(), from.clone()));
        let lake = lake.ok_or_else(|| ManageError::NoState(from.clone()))?;
        for_lake!(lake, L => {
            let publications = self.empty::<L>(agent, to).await?;
            Ok(publications.fork(from.as_str(), to.as_str()).await?)
        })
    }

    /// Begins a path with those of a source.
    pub(crate) async fn copy(&self, source: &Source, publisher: &Name, to: &Path) -> Result<Aeon, ToolError> {
        let mut tables = self.tables.lock().await;
        let own = (source.agent.clone(), source.path.clone());
        let lake = match source.peer == self.node.id() {
            true => tables.published_as(&own).ok_or_else(|| ManageError::NoState(source.path.clone()))?,
            false => tables.lake_of(&self.follower, source).ok_or_else(|| not_followed(source))?,
        };
        drop(tables);
        for_lake!(lake, L => {
            let publications = self.empty::<L>(publisher, to).await?;
            Ok(publications.copy(source, to.as_str()).await?)
        })
    }

    /// As which lake a source is followed.
    async fn lake_of(&self, source: &Source) -> Result<Builtin, ToolError> {
        self.tables.lock().await.lake_of(&self.follower, source).ok_or_else(|| not_followed(source))
    }

    /// The handle to publish where nothing is published yet.
    async fn empty<L: ToolLake>(&self, agent: &Name, path: &Path) -> Result<Publications<L>, ToolError> {
        self.publications::<L>(agent, path).await.map_err(|error| match error {
            // That it is another lake is not what is wrong with it.
            ToolError::PublishedAs { path, .. } => ManageError::NotEmpty(path).into(),
            other => other,
        })
    }
}

pub(super) fn not_followed(source: &Source) -> ToolError {
    ToolError::NotFollowed(source.clone())
}

impl Tables {
    /// As which lake an agent follows a source, if it does.
    pub(super) fn lake_of(&mut self, agent: &Name, source: &Source) -> Option<Builtin> {
        let key = (agent.clone(), source.path.clone());
        Builtin::value_variants().iter().copied().find(|lake| {
            for_lake!(lake, L => {
                let declared = L::table(self).subscriptions.get(&key);
                declared.is_some_and(|declared| declared.read().contains_key(source))
            })
        })
    }
}
