//! What the node's agents have declared through the tool: a handle for each path and direction.
//!
//! The tool declares exact paths, when a command first names them and, after a restart, from
//! what is stored. So any mix of lakes fits on one agent. What is done to whole paths is in
//! `registry/paths.rs`; how the HTTP interface sees it all in `registry/web.rs`.

mod paths;
mod web;

use std::collections::{BTreeMap, BTreeSet};

use groundswell::{
    Access, Cursor, MetricsSnapshot, Name, Node, Path, Pattern, PeerId, PeerTicket, Publications, ReadError, Source,
    Subscriptions, Updates,
    lakes::{Json, Log, Sum},
};
use groundswell_web::lakes::{Keyed, Tide, rock_json};
use tokio::sync::{Mutex, RwLock};

use crate::{
    builtin::{Builtin, ToolLake, for_lake},
    control::protocol::{Readers, StandingStill, Started, State, Status},
    error::ToolError,
    peer_name::PeerName,
    store::Store,
};

/// The agent that follows others when the tool is asked to.
pub(crate) const FOLLOWER: &str = "main";

/// The node, and what is declared on it.
pub(crate) struct Registry {
    node: Node,
    /// Its part in the key-value store.
    store: Store,
    follower: Name,
    /// Held while something is declared, so that two commands never declare one path for two lakes; and never
    /// while a replica is waited for, which may take as long as a wash.
    tables: Mutex<Tables>,
    /// Held while a source is begun to be followed, or is quit.
    sources: Keyed<Source>,
    /// Held while a rule is read and written.
    rules: Keyed<Tide>,
    /// How often a path was killed in this run. Who gives holds it for each batch, so that nothing
    /// that began before a kill gives after it, and opens the path again.
    kills: RwLock<Kills>,
    started: Started,
    standing_still: Vec<StandingStill>,
}

/// How often which paths were killed.
type Kills = BTreeMap<(Name, Path), u64>;

/// The handles by lake.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) log: Table<Log>,
    pub(crate) sum: Table<Sum>,
    pub(crate) json: Table<Json>,
    /// The commands that follow something right now.
    surfs: BTreeMap<Source, Surfs>,
}

/// The commands that follow one source.
struct Surfs {
    count: usize,
    /// The source stays followed when they end.
    keep: bool,
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
    /// What the agent's handler said when it failed on it.
    fail: Option<String>,
    /// Who may read it, where it is published.
    access: Option<Access<PeerId>>,
}

impl Registry {
    /// Declares again what is stored, so that what earlier runs published and followed goes on
    /// by itself. What can't be declared is told, and stops nothing else.
    pub(crate) async fn restore(node: Node, store: Store, started: Started) -> Result<Self, ToolError> {
        let follower = node.agent(FOLLOWER)?.name().clone();
        let (tables, kills) = (Mutex::default(), RwLock::default());
        let (sources, rules) = (Keyed::default(), Keyed::default());
        let standing_still = Vec::new();
        let mut registry = Self { node, store, follower, tables, sources, rules, kills, started, standing_still };
        let mut problems = Vec::new();
        for stored in registry.node.stored()? {
            let (agent, path) = (&stored.agent, &stored.path);
            let Some(lake) = Builtin::of_name(stored.lake.as_str()) else {
                let said = format!("{path} of agent {agent} is left as it is: this tool has no lake {}", stored.lake);
                problems.push(StandingStill { said, unknown_lake: true });
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
                let said = format!("{path} of agent {agent} stands still: {error}");
                problems.push(StandingStill { said, unknown_lake: false });
            }
        }
        registry.standing_still = problems;
        Ok(registry)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The node's id.
    pub(crate) fn id(&self) -> PeerId {
        self.node.id()
    }

    /// What the node is doing.
    pub(crate) fn status(&self) -> Status {
        self.store.status(&self.node)
    }

    /// What the node has counted.
    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        self.node.metrics()
    }

    pub(crate) fn started(&self) -> &Started {
        &self.started
    }

    pub(crate) fn standing_still(&self) -> &[StandingStill] {
        &self.standing_still
    }

    /// The source that a peer's name, an agent and a path stand for. The addresses in
    /// a ticket are remembered.
    pub(crate) async fn source(&self, peer: &str, agent: Name, path: Path) -> Result<Source, ToolError> {
        let peer = self.node.add_peer(&self.ticket(peer)?).await?;
        Ok(Source { peer, agent, path })
    }

    /// The peer of this name, which may be the beginning of the id of one that is known here.
    pub(crate) fn ticket(&self, peer: &str) -> Result<PeerTicket, ToolError> {
        let short = match peer.parse()? {
            PeerName::Ticket(ticket) => return Ok(ticket),
            PeerName::Short(short) => short,
        };
        let status = self.node.status();
        let mut known: BTreeSet<String> = status.peers.into_iter().chain([status.id]).collect();
        known.extend(self.store.others().iter().map(ToString::to_string));
        known.extend(status.replicas.into_iter().map(|replica| replica.peer));
        known.extend(status.publications.into_iter().flat_map(|publication| publication.allowed).flatten());
        known.extend(self.node.stored()?.into_iter().filter_map(|one| one.source).map(|from| from.peer.to_string()));
        known.retain(|id| id.starts_with(&short));
        let mut found = known.into_iter();
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(id.parse()?),
            (None, _) => Err(ToolError::NoSuchPeer(short)),
            (Some(one), Some(other)) => {
                let ids: Vec<String> = [one, other].into_iter().chain(found).collect();
                Err(ToolError::AmbiguousPeer { short, ids: ids.join(", ") })
            }
        }
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

    /// Follows a source, from now on, and gives the stream of its updates. Each call that did well
    /// is followed by one of [`Registry::end_surf`].
    pub(crate) async fn surf<L: ToolLake>(
        &self,
        source: Source,
        from: Option<Cursor>,
    ) -> Result<Updates<L>, ToolError> {
        let _source = self.sources.alone(&source).await;
        let subscriptions = self.replicas::<L>(&source.path).await?;
        let before = subscriptions.read().contains_key(&source);
        let updates = subscriptions.surf_from(source.clone(), from).await?;
        let mut tables = self.tables.lock().await;
        let surfs = tables.surfs.entry(source).or_insert(Surfs { count: 0, keep: before });
        surfs.count += 1;
        Ok(updates)
    }

    /// A command that followed a source has ended. Where none wants to keep it, and it was not followed before, it is not
    /// followed any more.
    pub(crate) async fn end_surf(&self, source: &Source, keep: bool) -> Result<(), ToolError> {
        let _source = self.sources.alone(source).await;
        let mut tables = self.tables.lock().await;
        let Some(surfs) = tables.surfs.get_mut(source) else { return Ok(()) };
        surfs.count -= 1;
        surfs.keep |= keep;
        let (count, keep) = (surfs.count, surfs.keep);
        if count > 0 {
            return Ok(());
        }
        tables.surfs.remove(source);
        drop(tables);
        if keep { Ok(()) } else { Ok(self.node.agent(self.follower.as_str())?.quit(source).await?) }
    }

    /// The handle to follow a path of whatever peer, for a part of this program that follows it itself.
    pub(crate) async fn replicas<L: ToolLake>(&self, path: &Path) -> Result<Subscriptions<L>, ToolError> {
        self.subscriptions(&mut *self.tables.lock().await, &self.follower, path).await
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
        let _source = self.sources.alone(source).await;
        let stored = self.node.stored()?;
        if !stored.iter().any(|one| one.agent == self.follower && one.source.as_ref() == Some(source)) {
            return Err(paths::not_followed(source));
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
        let look = |rock: &L::Rock, aeon| (aeon, rock_json::<L>(rock));
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
        Ok(Some(State {
            path,
            source: which.source.map(|source| source.peer.to_string()),
            agent,
            lake: L::BUILTIN,
            aeon,
            rock,
            stale: which.stale,
            fail: which.fail.is_some(),
            fail_reason: which.fail,
            access: which.access.as_ref().map(Readers::from),
        }))
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
        for ((agent, _), published) in &self.publications {
            for (path, state) in published.read() {
                let (agent, access) = (agent.clone(), Some(state.access));
                all.push(Readable { lake, agent, path, source: None, stale: false, fail: None, access });
            }
        }
        for ((agent, path), followed) in &self.subscriptions {
            for (source, state) in followed.read() {
                let (agent, path, stale) = (agent.clone(), path.clone(), state.stale());
                all.push(Readable { lake, agent, path, source: Some(source), stale, fail: state.fail, access: None });
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

    /// A source stays followed when the commands that follow it end.
    fn keep(&mut self, source: &Source) {
        if let Some(surfs) = self.surfs.get_mut(source) {
            surfs.keep = true;
        }
    }

    /// As which lake an agent follows a path, if it does.
    fn followed_as(&mut self, key: &(Name, Path)) -> Option<Builtin> {
        let one = self.log.followed(key).or_else(|| self.sum.followed(key));
        one.or_else(|| self.json.followed(key))
    }
}
