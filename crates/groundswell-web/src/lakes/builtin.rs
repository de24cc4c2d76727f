//! The lakes `log`, `sum` and `json` by their names, over a node: each path is declared when it is first named and,
//! after a restart, from what is stored.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt, stream::BoxStream};
use groundswell::{
    Aeon, Lake, ManageError, Name, Node, Path, Publications, Rule, Source, Subscriptions, WriteId,
    lakes::{Json, Log, Sum},
};
use serde_json::value::RawValue;
use tokio::sync::{Mutex, OwnedRwLockReadGuard};

use super::{
    Answer, DEFAULT_AGENT, Keyed, LakeError, LakeEvent, Lakes, RuleChange, State, Surf, Tide,
    json_lake::{self, JsonLake, rock_json},
};

/// What is published under one declaration.
trait Published: Send + Sync {
    fn open<'a>(&'a self, path: &'a Path) -> Answer<'a, Aeon>;
    fn give<'a>(&'a self, path: &'a Path, id: Option<WriteId>, waves: Vec<Box<RawValue>>) -> Answer<'a, Aeon>;
    fn rock<'a>(&'a self, path: &'a Path) -> Answer<'a, (Aeon, Box<RawValue>)>;
    fn fork<'a>(&'a self, from: &'a Path, to: &'a Path) -> Answer<'a, Aeon>;
    fn copy<'a>(&'a self, source: &'a Source, to: &'a Path) -> Answer<'a, Aeon>;
    fn is_empty(&self) -> bool;
    fn withdraw(&self);
}

impl<L: JsonLake> Published for Publications<L> {
    fn open<'a>(&'a self, path: &'a Path) -> Answer<'a, Aeon> {
        async move { Ok(Publications::open(self, path.as_str()).await?) }.boxed()
    }

    fn give<'a>(&'a self, path: &'a Path, id: Option<WriteId>, waves: Vec<Box<RawValue>>) -> Answer<'a, Aeon> {
        let parsed = waves
            .iter()
            .enumerate()
            .map(|(index, wave)| L::wave(wave).map_err(|reason| LakeError::Refused { index, reason }));
        let parsed: Result<Vec<L::Wave>, LakeError> = parsed.collect();
        async move {
            Ok(match id {
                None => self.give_all(path.as_str(), parsed?).await?,
                Some(id) => self.give_all_once(path.as_str(), id, parsed?).await?,
            })
        }
        .boxed()
    }

    fn rock<'a>(&'a self, path: &'a Path) -> Answer<'a, (Aeon, Box<RawValue>)> {
        async move {
            let (aeon, rock) = self.with_rock(path.as_str(), |rock, aeon| (aeon, rock_json::<L>(rock))).await?;
            Ok((aeon, made(rock)?))
        }
        .boxed()
    }

    fn fork<'a>(&'a self, from: &'a Path, to: &'a Path) -> Answer<'a, Aeon> {
        async move { Ok(Publications::fork(self, from.as_str(), to.as_str()).await?) }.boxed()
    }

    fn copy<'a>(&'a self, source: &'a Source, to: &'a Path) -> Answer<'a, Aeon> {
        async move { Ok(Publications::copy(self, source, to.as_str()).await?) }.boxed()
    }

    fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    fn withdraw(&self) {
        Publications::withdraw(self.clone());
    }
}

/// What is followed under one declaration.
trait Followed: Send + Sync {
    fn follow<'a>(&'a self, source: &'a Source) -> Answer<'a, ()>;
    fn surf<'a>(&'a self, source: &'a Source, surf: Surf) -> Answer<'a, BoxStream<'static, LakeEvent>>;
    fn rock<'a>(&'a self, source: &'a Source) -> Answer<'a, (Aeon, Box<RawValue>)>;
    fn rule<'a>(&'a self, source: &'a Source, rule: Rule) -> Answer<'a, ()>;
    fn wipe<'a>(&'a self, source: &'a Source) -> Answer<'a, ()>;
    fn sources(&self) -> Vec<Source>;
    fn withdraw(&self);
}

impl<L: JsonLake> Followed for Subscriptions<L> {
    fn follow<'a>(&'a self, source: &'a Source) -> Answer<'a, ()> {
        async move { Ok(Subscriptions::follow(self, source.clone()).await?) }.boxed()
    }

    fn surf<'a>(&'a self, source: &'a Source, surf: Surf) -> Answer<'a, BoxStream<'static, LakeEvent>> {
        json_lake::surf(self, source, surf).boxed()
    }

    fn rock<'a>(&'a self, source: &'a Source) -> Answer<'a, (Aeon, Box<RawValue>)> {
        async move {
            let (aeon, rock) = self.with_rock(source, |rock, aeon| (aeon, rock_json::<L>(rock))).await?;
            Ok((aeon, made(rock)?))
        }
        .boxed()
    }

    fn rule<'a>(&'a self, source: &'a Source, rule: Rule) -> Answer<'a, ()> {
        async move { Ok(Subscriptions::rule(self, source, rule).await?) }.boxed()
    }

    fn wipe<'a>(&'a self, source: &'a Source) -> Answer<'a, ()> {
        async move { Ok(Subscriptions::wipe(self, source).await?) }.boxed()
    }

    fn sources(&self) -> Vec<Source> {
        self.read().into_keys().collect()
    }

    fn withdraw(&self) {
        Subscriptions::withdraw(self.clone());
    }
}

fn made(json: serde_json::Result<Box<RawValue>>) -> Result<Box<RawValue>, LakeError> {
    json.map_err(|error| LakeError::Other(error.to_string()))
}

/// The names of the built-in lakes.
const NAMES: [&str; 3] = [Log::NAME, Sum::NAME, Json::NAME];

fn known(name: &str) -> Result<&'static str, LakeError> {
    let found = NAMES.into_iter().find(|known| *known == name);
    found.ok_or_else(|| LakeError::UnknownLake { name: name.to_owned(), known: NAMES.join(", ") })
}

/// A declaration, and the name of its lake.
struct Declared<T: ?Sized> {
    lake: &'static str,
    handle: Arc<T>,
}

/// The lakes `log`, `sum` and `json` of a node.
pub struct BuiltinLakes {
    node: Node,
    /// Held while something is declared, so that two requests never declare one path for two lakes; and never while a
    /// replica is waited for.
    tables: Mutex<Tables>,
    /// Held while a source of a path is followed or changed: alone while the path becomes one of another lake.
    paths: Keyed<Path>,
    /// Held while a rule is read and written.
    rules: Keyed<Tide>,
}

#[derive(Default)]
struct Tables {
    published: BTreeMap<(Name, Path), Declared<dyn Published>>,
    /// What the agent [`DEFAULT_AGENT`] follows, by path.
    followed: BTreeMap<Path, Declared<dyn Followed>>,
}

impl std::fmt::Debug for BuiltinLakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltinLakes").field("node", &self.node.id()).finish_non_exhaustive()
    }
}

impl BuiltinLakes {
    /// Declares again what earlier runs of the node have published and followed, so that it goes on. What can't be
    /// declared, as it is another program's or has been declared by this one, is logged and left as it is.
    pub async fn restore(node: Node) -> Result<Self, LakeError> {
        let lakes = Self { node, tables: Mutex::default(), paths: Keyed::default(), rules: Keyed::default() };
        let mut tables = lakes.tables.lock().await;
        for stored in lakes.node.stored()? {
            let lake = stored.lake.as_str();
            let declared = match &stored.source {
                None => lakes.published(&mut tables, &stored.agent, &stored.path, Some(lake)).await.map(drop),
                Some(_) if stored.agent.as_str() == DEFAULT_AGENT => {
                    lakes.followed(&mut tables, &stored.path, Some(lake)).await.map(drop)
                }
                Some(_) => Ok(()),
            };
            if let Err(error) = declared {
                tracing::info!(agent = %stored.agent, path = %stored.path, %error, "left as it is");
            }
        }
        drop(tables);
        Ok(lakes)
    }

    /// The handle to publish on a path, declared if it is not yet.
    async fn published(
        &self,
        tables: &mut Tables,
        agent: &Name,
        path: &Path,
        lake: Option<&str>,
    ) -> Result<Arc<dyn Published>, LakeError> {
        let lake = lake.map(known).transpose()?;
        let key = (agent.clone(), path.clone());
        if let Some(declared) = tables.published.get(&key) {
            if lake.is_none_or(|lake| lake == declared.lake) {
                return Ok(declared.handle.clone());
            }
            if !declared.handle.is_empty() {
                let held = declared.lake;
                return Err(LakeError::LakeDiffers(format!("{path} is a {held} on agent {agent}: use it as one")));
            }
            // Nothing came of that declaration, and it is in no one's way.
            declared.handle.withdraw();
            tables.published.remove(&key);
        }
        let lake = lake.ok_or_else(|| LakeError::LakeNeeded(path.clone()))?;
        let owner = self.node.agent(agent.as_str())?;
        let handle: Arc<dyn Published> = match lake {
            Log::NAME => Arc::new(owner.publications::<Log>(path.as_str()).await?),
            Sum::NAME => Arc::new(owner.publications::<Sum>(path.as_str()).await?),
            _ => Arc::new(owner.publications::<Json>(path.as_str()).await?),
        };
        tables.published.insert(key, Declared { lake, handle: handle.clone() });
        Ok(handle)
    }

    /// The handle to follow a path of whatever peer, declared if it is not yet.
    async fn followed(
        &self,
        tables: &mut Tables,
        path: &Path,
        lake: Option<&str>,
    ) -> Result<Arc<dyn Followed>, LakeError> {
        let lake = lake.map(known).transpose()?;
        if let Some(declared) = tables.followed.get(path) {
            if lake.is_none_or(|lake| lake == declared.lake) {
                return Ok(declared.handle.clone());
            }
            let sources = declared.handle.sources();
            if sources.iter().any(|source| source.peer != self.node.id()) {
                let held = declared.lake;
                return Err(LakeError::LakeDiffers(format!("{path} is followed as a {held} here: quit it first")));
            }
            // Who has looked at this node's own path has followed it. It is another lake now.
            for own in sources {
                self.node.agent(DEFAULT_AGENT)?.quit(&own).await?;
            }
            declared.handle.withdraw();
            tables.followed.remove(path);
        }
        let lake = lake.ok_or_else(|| LakeError::LakeNeeded(path.clone()))?;
        let owner = self.node.agent(DEFAULT_AGENT)?;
        let handle: Arc<dyn Followed> = match lake {
            Log::NAME => Arc::new(owner.subscriptions::<Log>(path.as_str()).await?),
            Sum::NAME => Arc::new(owner.subscriptions::<Sum>(path.as_str()).await?),
            _ => Arc::new(owner.subscriptions::<Json>(path.as_str()).await?),
        };
        tables.followed.insert(path.clone(), Declared { lake, handle: handle.clone() });
        Ok(handle)
    }

    /// The lake of a source, where it is not named: that of the publication, if it is this node's own.
    fn lake_of_own<'a>(&self, tables: &Tables, source: &Source, lake: Option<&'a str>) -> Option<&'a str> {
        let own = source.peer == self.node.id();
        let key = (source.agent.clone(), source.path.clone());
        lake.or_else(|| tables.published.get(&key).filter(|_| own).map(|declared| declared.lake))
    }

    /// The handle to follow a source, and what keeps its path from becoming one of another lake meanwhile.
    async fn follower(
        &self,
        source: &Source,
        lake: Option<&str>,
    ) -> Result<(Arc<dyn Followed>, OwnedRwLockReadGuard<()>), LakeError> {
        let beside = self.paths.beside(&source.path).await;
        let tables = self.tables.lock().await;
        let lake = self.lake_of_own(&tables, source, lake);
        if let Some(declared) = tables.followed.get(&source.path)
            && lake.is_none_or(|lake| lake == declared.lake)
        {
            return Ok((declared.handle.clone(), beside));
        }
        let lake = lake.map(str::to_owned);
        drop((tables, beside));
        let alone = self.paths.alone(&source.path).await;
        let handle = self.followed(&mut *self.tables.lock().await, &source.path, lake.as_deref()).await?;
        Ok((handle, alone.downgrade()))
    }

    /// The declaration under which a source is followed.
    fn replica<'a>(tables: &'a Tables, source: &Source) -> Result<&'a Declared<dyn Followed>, LakeError> {
        let declared = tables.followed.get(&source.path).filter(|declared| declared.handle.sources().contains(source));
        declared.ok_or_else(|| LakeError::NotFollowed(source.clone()))
    }

    /// Its handle, and what keeps the path from becoming one of another lake meanwhile.
    async fn kept_replica(&self, source: &Source) -> Result<(Arc<dyn Followed>, OwnedRwLockReadGuard<()>), LakeError> {
        let beside = self.paths.beside(&source.path).await;
        let handle = Self::replica(&*self.tables.lock().await, source)?.handle.clone();
        Ok((handle, beside))
    }

    /// The declaration of a publication that has a state.
    fn publication<'a>(
        tables: &'a Tables,
        agent: &Name,
        path: &Path,
    ) -> Result<&'a Declared<dyn Published>, LakeError> {
        let declared = tables.published.get(&(agent.clone(), path.clone()));
        declared.filter(|declared| !declared.handle.is_empty()).ok_or_else(|| LakeError::NoState(path.clone()))
    }

    /// The handle to publish where nothing is published yet.
    async fn empty(
        &self,
        tables: &mut Tables,
        agent: &Name,
        path: &Path,
        lake: &'static str,
    ) -> Result<Arc<dyn Published>, LakeError> {
        self.published(tables, agent, path, Some(lake)).await.map_err(|error| match error {
            // That it is another lake is not what is wrong with it.
            LakeError::LakeDiffers(_) => LakeError::NotEmpty(ManageError::NotEmpty(path.clone()).to_string()),
            other => other,
        })
    }

    async fn present_rule(&self, tide: &Tide) -> Result<Rule, LakeError> {
        match tide {
            Tide::Own { agent, path } => {
                let state = self.node.agent(agent.as_str())?.published().remove(path);
                state.map(|state| state.rule).ok_or_else(|| LakeError::NoState(path.clone()))
            }
            Tide::Replica(source) => {
                let state = self.node.agent(DEFAULT_AGENT)?.followed().remove(source);
                let state = state.ok_or_else(|| LakeError::NotFollowed(source.clone()))?;
                state.rule.ok_or_else(|| LakeError::NoState(source.path.clone()))
            }
        }
    }
}

impl Lakes for BuiltinLakes {
    fn open<'a>(&'a self, agent: &'a Name, path: &'a Path, lake: Option<&'a str>) -> Answer<'a, Aeon> {
        async move {
            let handle = self.published(&mut *self.tables.lock().await, agent, path, lake).await?;
            handle.open(path).await
        }
        .boxed()
    }

    fn give<'a>(
        &'a self,
        agent: &'a Name,
        path: &'a Path,
        lake: Option<&'a str>,
        id: Option<WriteId>,
        waves: Vec<Box<RawValue>>,
    ) -> Answer<'a, Aeon> {
        async move {
            let handle = self.published(&mut *self.tables.lock().await, agent, path, lake).await?;
            handle.give(path, id, waves).await
        }
        .boxed()
    }

    fn read<'a>(&'a self, tide: &'a Tide) -> Answer<'a, State> {
        async move {
            let tables = self.tables.lock().await;
            match tide {
                Tide::Own { agent, path } => {
                    let declared = Self::publication(&tables, agent, path)?;
                    let (lake, handle) = (declared.lake.to_owned(), declared.handle.clone());
                    drop(tables);
                    Ok(State { lake, rock: Some(handle.rock(path).await?), stale: false, fail: None })
                }
                Tide::Replica(source) => {
                    let declared = Self::replica(&tables, source)?;
                    let (lake, handle) = (declared.lake.to_owned(), declared.handle.clone());
                    drop(tables);
                    let rock = match handle.rock(source).await {
                        Ok(rock) => Some(rock),
                        Err(LakeError::NoState(_)) => None,
                        Err(error) => return Err(error),
                    };
                    let known = self.node.agent(DEFAULT_AGENT)?.followed().remove(source);
                    let known = known.ok_or_else(|| LakeError::NotFollowed(source.clone()))?;
                    Ok(State { lake, rock, stale: known.stale(), fail: known.fail })
                }
            }
        }
        .boxed()
    }

    fn follow<'a>(&'a self, source: &'a Source, lake: Option<&'a str>) -> Answer<'a, ()> {
        async move {
            let (handle, _path) = self.follower(source, lake).await?;
            handle.follow(source).await
        }
        .boxed()
    }

    fn surf<'a>(
        &'a self,
        source: &'a Source,
        lake: Option<&'a str>,
        surf: Surf,
    ) -> Answer<'a, BoxStream<'static, LakeEvent>> {
        async move {
            let (handle, _path) = self.follower(source, lake).await?;
            handle.surf(source, surf).await
        }
        .boxed()
    }

    fn quit<'a>(&'a self, source: &'a Source) -> Answer<'a, ()> {
        async move {
            let _path = self.paths.beside(&source.path).await;
            Self::replica(&*self.tables.lock().await, source)?;
            Ok(self.node.agent(DEFAULT_AGENT)?.quit(source).await?)
        }
        .boxed()
    }

    fn rule<'a>(&'a self, tide: &'a Tide, change: RuleChange) -> Answer<'a, Rule> {
        async move {
            // What one request reads, no other changes before it has written.
            let _rule = self.rules.alone(tide).await;
            let present = self.present_rule(tide).await?;
            let rule = change.apply(present);
            if rule != present {
                match tide {
                    Tide::Own { agent, path } => self.node.agent(agent.as_str())?.rule(path.as_str(), rule).await?,
                    Tide::Replica(source) => {
                        let (replica, _path) = self.kept_replica(source).await?;
                        replica.rule(source, rule).await?;
                    }
                }
            }
            Ok(rule)
        }
        .boxed()
    }

    fn wipe<'a>(&'a self, tide: &'a Tide) -> Answer<'a, ()> {
        async move {
            match tide {
                Tide::Own { agent, path } => Ok(self.node.agent(agent.as_str())?.wipe(path.as_str()).await?),
                Tide::Replica(source) => {
                    let (replica, _path) = self.kept_replica(source).await?;
                    replica.wipe(source).await
                }
            }
        }
        .boxed()
    }

    fn kill<'a>(&'a self, agent: &'a Name, path: &'a Path) -> Answer<'a, ()> {
        async move {
            let tables = self.tables.lock().await;
            Self::publication(&tables, agent, path)?;
            Ok(self.node.agent(agent.as_str())?.kill(path.as_str()).await?)
        }
        .boxed()
    }

    fn fork<'a>(&'a self, agent: &'a Name, from: &'a Path, to: &'a Path) -> Answer<'a, Aeon> {
        async move {
            let mut tables = self.tables.lock().await;
            let lake = Self::publication(&tables, agent, from)?.lake;
            let target = self.empty(&mut tables, agent, to, lake).await?;
            drop(tables);
            target.fork(from, to).await
        }
        .boxed()
    }

    fn copy<'a>(&'a self, source: &'a Source, agent: &'a Name, to: &'a Path) -> Answer<'a, Aeon> {
        async move {
            let mut tables = self.tables.lock().await;
            let lake = match source.peer == self.node.id() {
                true => Self::publication(&tables, &source.agent, &source.path)?.lake,
                false => Self::replica(&tables, source)?.lake,
            };
            let target = self.empty(&mut tables, agent, to, lake).await?;
            drop(tables);
            target.copy(source, to).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::lakes::{Begin, Rocks};

    /// A replica that is at a washer for as long as the test lasts.
    struct Slow {
        source: Source,
        asked: Arc<Semaphore>,
    }

    impl Slow {
        fn never<'a, T: Send + 'a>(&'a self) -> Answer<'a, T> {
            self.asked.add_permits(1);
            future::pending().boxed()
        }
    }

    impl Followed for Slow {
        fn follow<'a>(&'a self, _: &'a Source) -> Answer<'a, ()> {
            self.never()
        }

        fn surf<'a>(&'a self, _: &'a Source, _: Surf) -> Answer<'a, BoxStream<'static, LakeEvent>> {
            self.never()
        }

        fn rock<'a>(&'a self, _: &'a Source) -> Answer<'a, (Aeon, Box<RawValue>)> {
            self.never()
        }

        fn rule<'a>(&'a self, _: &'a Source, _: Rule) -> Answer<'a, ()> {
            self.never()
        }

        fn wipe<'a>(&'a self, _: &'a Source) -> Answer<'a, ()> {
            self.never()
        }

        fn sources(&self) -> Vec<Source> {
            vec![self.source.clone()]
        }

        fn withdraw(&self) {}
    }

    type Wait = fn(Arc<BuiltinLakes>, Source) -> future::BoxFuture<'static, ()>;

    /// However long a replica takes, whoever waits for it holds up nobody who gives, reads or follows something else.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_waits_for_a_replica_holds_up_nobody_else() {
        let dir = tempfile::TempDir::new().unwrap();
        let node = Node::builder().data_dir(dir.path()).offline().bind("127.0.0.1:0".parse().unwrap()).spawn();
        let node = node.await.unwrap();
        let lakes = Arc::new(BuiltinLakes::restore(node.clone()).await.unwrap());
        let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
        let slow = Source::new(peer, DEFAULT_AGENT, "/slow").unwrap();
        let asked = Arc::new(Semaphore::new(0));
        let handle = Arc::new(Slow { source: slow.clone(), asked: asked.clone() });
        lakes.tables.lock().await.followed.insert(slow.path.clone(), Declared { lake: Log::NAME, handle });
        let waiting: [Wait; 4] = [
            |lakes, slow| async move { drop(lakes.follow(&slow, None).await) }.boxed(),
            |lakes, slow| {
                async move { drop(lakes.surf(&slow, None, Surf { begin: Begin::Newest, rocks: Rocks::Never }).await) }
                    .boxed()
            },
            |lakes, slow| async move { drop(lakes.wipe(&Tide::Replica(slow)).await) }.boxed(),
            |lakes, slow| async move { drop(lakes.read(&Tide::Replica(slow)).await) }.boxed(),
        ];
        let waiting: Vec<_> = waiting.iter().map(|wait| tokio::spawn(wait(lakes.clone(), slow.clone()))).collect();
        let patience = Duration::from_secs(20);
        let all = asked.acquire_many(waiting.len() as u32);
        drop(tokio::time::timeout(patience, all).await.expect("all of them wait").unwrap());
        let (agent, path) = (DEFAULT_AGENT.parse().unwrap(), "/own".parse().unwrap());
        let others = async {
            lakes
                .give(&agent, &path, Some(Log::NAME), None, vec![RawValue::from_string("\"wave\"".to_owned()).unwrap()])
                .await
                .unwrap();
            lakes.read(&Tide::Own { agent: agent.clone(), path: path.clone() }).await.unwrap();
            lakes.follow(&Source::new(node.id(), DEFAULT_AGENT, "/own").unwrap(), None).await.unwrap();
        };
        tokio::time::timeout(patience, others).await.expect("nobody waits");
        waiting.iter().for_each(|waiting| waiting.abort());
        node.shutdown().await.unwrap();
    }
}
