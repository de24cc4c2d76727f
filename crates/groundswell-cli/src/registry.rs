//! What the node's agents have declared through the tool: a handle for each path and direction.
//!
//! The tool declares exact paths, when a command first names them and, after a restart, from
//! what is stored. So any mix of lakes fits on one agent.

use std::collections::BTreeMap;

use groundswell::{
    Cursor, Name, Node, Path, Pattern, PeerId, PeerTicket, Publications, ReadError, Source, Subscriptions, Updates,
    lakes::{Json, Log, Sum},
};
use tokio::sync::Mutex;

use crate::{
    builtin::{Builtin, ToolLake, for_lake},
    control::protocol::State,
    error::ToolError,
};

/// The agent that follows others when the tool is asked to.
pub(crate) const FOLLOWER: &str = "main";

/// The node, and what is declared on it.
pub(crate) struct Registry {
    node: Node,
    follower: Name,
    /// Held while something is declared or followed, so that two commands never declare one
    /// path for two lakes.
    tables: Mutex<Tables>,
}

/// The handles by lake.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) log: Table<Log>,
    pub(crate) sum: Table<Sum>,
    pub(crate) json: Table<Json>,
}

/// The handles of one lake, by agent and path.
pub(crate) struct Table<L: ToolLake> {
    publications: BTreeMap<(Name, Path), Publications<L>>,
    subscriptions: BTreeMap<(Name, Path), Subscriptions<L>>,
}

impl<L: ToolLake> Default for Table<L> {
    fn default() -> Self {
        Self { publications: BTreeMap::new(), subscriptions: BTreeMap::new() }
    }
}

/// One state that can be read.
pub(crate) struct Readable {
    lake: Builtin,
    /// The agent that publishes or follows it.
    agent: Name,
    path: Path,
    /// Where it comes from, if it is followed.
    source: Option<Source>,
    stale: bool,
}

impl Registry {
    /// Declares again what is stored, so that what earlier runs published and followed goes on
    /// by itself. What can't be declared is told, and stops nothing else.
    pub(crate) async fn restore(node: Node) -> Result<(Self, Vec<String>), ToolError> {
        let follower = node.agent(FOLLOWER)?.name().clone();
        let registry = Self { node, follower, tables: Mutex::default() };
        let mut problems = Vec::new();
        for stored in registry.node.stored()? {
            let (agent, path) = (&stored.agent, &stored.path);
            let Some(lake) = Builtin::of_name(stored.lake.as_str()) else {
                problems
                    .push(format!("{path} of agent {agent} is left as it is: this tool has no lake {}", stored.lake));
                continue;
            };
            let declared = for_lake!(lake, L => match &stored.source {
                None => registry.publications::<L>(agent, path).await.map(drop),
                Some(_) => {
                    let mut tables = registry.tables.lock().await;
                    registry.subscriptions::<L>(&mut tables, agent, path).await.map(drop)
                }
            });
            if let Err(error) = declared {
                problems.push(format!("{path} of agent {agent} stands still: {error}"));
            }
        }
        Ok((registry, problems))
    }

    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// The source that a ticket or an id, an agent and a path stand for. The addresses in
    /// a ticket are remembered.
    pub(crate) async fn source(&self, peer: &str, agent: Name, path: Path) -> Result<Source, ToolError> {
        let ticket: PeerTicket = peer.parse()?;
        let peer = self.node.add_peer(&ticket).await?;
        Ok(Source { peer, agent, path })
    }

    /// The handle to publish on a path, declared if it is not yet.
    pub(crate) async fn publications<L: ToolLake>(
        &self,
        agent: &Name,
        path: &Path,
    ) -> Result<Publications<L>, ToolError> {
        let mut tables = self.tables.lock().await;
        let key = (agent.clone(), path.clone());
        if let Some(declared) = L::table(&mut tables).publications.get(&key) {
            return Ok(declared.clone());
        }
        if let Some(held) = tables.published_as(&key) {
            return Err(ToolError::PublishedAs { agent: key.0, path: key.1, held });
        }
        let declared = self.node.agent(agent.as_str())?.publications::<L>(path.as_str()).await?;
        L::table(&mut tables).publications.insert(key, declared.clone());
        Ok(declared)
    }

    /// Follows a source, from now on, and gives the stream of its updates.
    pub(crate) async fn surf<L: ToolLake>(
        &self,
        source: Source,
        from: Option<Cursor>,
    ) -> Result<Updates<L>, ToolError> {
        let mut tables = self.tables.lock().await;
        let subscriptions = self.subscriptions::<L>(&mut tables, &self.follower, &source.path).await?;
        Ok(subscriptions.surf_from(source, from).await?)
    }

    /// The handle to follow a path of whatever peer, declared if it is not yet.
    async fn subscriptions<L: ToolLake>(
        &self,
        tables: &mut Tables,
        agent: &Name,
        path: &Path,
    ) -> Result<Subscriptions<L>, ToolError> {
        let key = (agent.clone(), path.clone());
        if let Some(declared) = L::table(tables).subscriptions.get(&key) {
            return Ok(declared.clone());
        }
        if let Some(held) = tables.followed_as(&key) {
            return Err(ToolError::FollowedAs { path: key.1, held });
        }
        let declared = self.node.agent(agent.as_str())?.subscriptions::<L>(path.as_str()).await?;
        L::table(tables).subscriptions.insert(key, declared.clone());
        Ok(declared)
    }

    /// Stops following a source, and drops its replica.
    pub(crate) async fn quit(&self, source: &Source) -> Result<(), ToolError> {
        // Nothing new is followed meanwhile.
        let _tables = self.tables.lock().await;
        let stored = self.node.stored()?;
        if !stored.iter().any(|one| one.agent == self.follower && one.source.as_ref() == Some(source)) {
            let (agent, path) = (source.agent.clone(), source.path.clone());
            return Err(ToolError::NotFollowed { peer: source.peer.to_string(), agent, path });
        }
        Ok(self.node.agent(self.follower.as_str())?.quit(source).await?)
    }

    /// The states on these paths and of this peer; on all, of all, where neither is given.
    pub(crate) async fn readable(&self, paths: Option<&Pattern>, peer: Option<PeerId>) -> Vec<Readable> {
        let tables = self.tables.lock().await;
        let mut all = tables.log.readable();
        all.extend(tables.sum.readable());
        all.extend(tables.json.readable());
        drop(tables);
        let own = self.node.id();
        all.retain(|one| {
            let from = one.source.as_ref().map_or(own, |source| source.peer);
            // What this node follows of itself is what it publishes.
            let twice = one.source.is_some() && from == own;
            !twice && peer.is_none_or(|peer| peer == from) && paths.is_none_or(|paths| paths.covers(&one.path))
        });
        all.sort_by(|a, b| (&a.path, &a.source, &a.agent).cmp(&(&b.path, &b.source, &b.agent)));
        all
    }

    /// Reads a state; `None` where there is no such state any more.
    pub(crate) async fn read(&self, which: Readable) -> Result<Option<State>, ToolError> {
        for_lake!(which.lake, L => self.read_as::<L>(which).await)
    }

    async fn read_as<L: ToolLake>(&self, which: Readable) -> Result<Option<State>, ToolError> {
        let mut tables = self.tables.lock().await;
        let key = (which.agent, which.path);
        let publications = L::table(&mut tables).publications.get(&key).cloned();
        let subscriptions = L::table(&mut tables).subscriptions.get(&key).cloned();
        drop(tables);
        let look = |rock: &L::Rock, aeon| (aeon, L::rock_json(rock));
        let (agent, path) = key;
        let (read, agent) = match (&which.source, publications, subscriptions) {
            (None, Some(published), _) => (published.with_rock(path.as_str(), look).await, agent),
            (Some(source), _, Some(followed)) => (followed.with_rock(source, look).await, source.agent.clone()),
            _ => return Ok(None),
        };
        let (aeon, rock) = match read {
            Ok((aeon, rock)) => (Some(aeon.0), Some(rock.map_err(|error| ToolError::Answer(error.to_string()))?)),
            Err(ReadError::NoState(_)) if which.source.is_some() => (None, None),
            // It was declared, and nothing was given.
            Err(ReadError::NoState(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let source = which.source.map(|source| source.peer.to_string());
        Ok(Some(State { path, source, agent, lake: L::BUILTIN, aeon, rock, stale: which.stale, fail: false }))
    }
}

impl<L: ToolLake> Table<L> {
    /// The lake, if something is published under this declaration. One that nothing came of
    /// is taken back, so that it is in no one's way.
    fn published(&mut self, key: &(Name, Path)) -> Option<Builtin> {
        let declared = self.publications.remove(key)?;
        if declared.read().is_empty() {
            declared.withdraw();
            return None;
        }
        self.publications.insert(key.clone(), declared);
        Some(L::BUILTIN)
    }

    /// The same for what is followed.
    fn followed(&mut self, key: &(Name, Path)) -> Option<Builtin> {
        let declared = self.subscriptions.remove(key)?;
        if declared.read().is_empty() {
            declared.withdraw();
            return None;
        }
        self.subscriptions.insert(key.clone(), declared);
        Some(L::BUILTIN)
    }

    fn readable(&self) -> Vec<Readable> {
        let lake = L::BUILTIN;
        let mut all = Vec::new();
        for (agent, path) in self.publications.keys() {
            all.push(Readable { lake, agent: agent.clone(), path: path.clone(), source: None, stale: false });
        }
        for ((agent, path), followed) in &self.subscriptions {
            for (source, state) in followed.read() {
                let stale = state.stale();
                all.push(Readable { lake, agent: agent.clone(), path: path.clone(), source: Some(source), stale });
            }
        }
        all
    }
}

impl Tables {
    /// As which lake an agent publishes a path, if it does.
    fn published_as(&mut self, key: &(Name, Path)) -> Option<Builtin> {
        let one = self.log.published(key).or_else(|| self.sum.published(key));
        one.or_else(|| self.json.published(key))
    }

    /// As which lake an agent follows a path, if it does.
    fn followed_as(&mut self, key: &(Name, Path)) -> Option<Builtin> {
        let one = self.log.followed(key).or_else(|| self.sum.followed(key));
        one.or_else(|| self.json.followed(key))
    }
}
