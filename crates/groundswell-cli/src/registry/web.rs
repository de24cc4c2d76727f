//! The registry as the HTTP interface sees it, so that both share every declaration: what one publishes, follows or
//! ends is so for the other.

use futures_util::stream::BoxStream;
use groundswell::{Aeon, Name, Path, Rule, Source, WriteId};
use groundswell_web::lakes::{
    self, Answer, JsonLake, LakeError, LakeEvent, Lakes, RuleChange, State, Surf, Tide, rock_json,
};
use serde_json::value::RawValue;

use super::Registry;
use crate::{
    builtin::{Builtin, ToolLake, for_lake},
    control::protocol::Horizon,
    error::ToolError,
};

impl Registry {
    /// The lake to publish on a path: the named one, or that of what is published there.
    async fn lake_to_publish(&self, agent: &Name, path: &Path, lake: Option<&str>) -> Result<Builtin, LakeError> {
        match lake {
            Some(name) => known(name),
            None => {
                let held = self.tables.lock().await.published_as(&(agent.clone(), path.clone()));
                held.ok_or_else(|| LakeError::LakeNeeded(path.clone()))
            }
        }
    }

    /// The lake to follow a source as: the named one, that of this node's own publication, or that of what is followed
    /// under the path.
    async fn lake_to_follow(&self, source: &Source, lake: Option<&str>) -> Result<Builtin, LakeError> {
        if let Some(name) = lake {
            return known(name);
        }
        let mut tables = self.tables.lock().await;
        let own = (source.agent.clone(), source.path.clone());
        let published = if source.peer == self.node.id() { tables.published_as(&own) } else { None };
        let held = published.or_else(|| tables.followed_as(&(self.follower.clone(), source.path.clone())));
        held.ok_or_else(|| LakeError::LakeNeeded(source.path.clone()))
    }

    async fn state_of<L: ToolLake>(&self, tide: &Tide) -> Result<State, LakeError> {
        let mut tables = self.tables.lock().await;
        let lake = L::BUILTIN.name().to_owned();
        let look = |rock: &L::Rock, aeon| (aeon, rock_json::<L>(rock));
        match tide {
            Tide::Own { agent, path } => {
                let declared = L::table(&mut tables).publications.get(&(agent.clone(), path.clone())).cloned();
                drop(tables);
                let declared = declared.ok_or_else(|| LakeError::NoState(path.clone()))?;
                let (aeon, rock) = declared.with_rock(path.as_str(), look).await?;
                Ok(State { lake, rock: Some((aeon, made(rock)?)), stale: false, fail: None })
            }
            Tide::Replica(source) => {
                let key = (self.follower.clone(), source.path.clone());
                let declared = L::table(&mut tables).subscriptions.get(&key).cloned();
                drop(tables);
                let declared = declared.ok_or_else(|| LakeError::NotFollowed(source.clone()))?;
                let rock = match declared.with_rock(source, look).await {
                    Ok((aeon, rock)) => Some((aeon, made(rock)?)),
                    Err(groundswell::ReadError::NoState(_)) => None,
                    Err(error) => return Err(error.into()),
                };
                let known = declared.read().remove(source).ok_or_else(|| LakeError::NotFollowed(source.clone()))?;
                Ok(State { lake, rock, stale: known.stale(), fail: known.fail })
            }
        }
    }

    async fn surf_as<L: ToolLake>(
        &self,
        source: &Source,
        surf: Surf,
    ) -> Result<BoxStream<'static, LakeEvent>, LakeError> {
        let _source = self.sources.alone(source).await;
        let events = lakes::surf(&self.replicas::<L>(&source.path).await?, source, surf).await?;
        self.tables.lock().await.keep(source);
        Ok(events)
    }
}

impl Lakes for Registry {
    fn open<'a>(&'a self, agent: &'a Name, path: &'a Path, lake: Option<&'a str>) -> Answer<'a, Aeon> {
        Box::pin(async move {
            for_lake!(self.lake_to_publish(agent, path, lake).await?, L => {
                Ok(self.publications::<L>(agent, path).await?.open(path.as_str()).await?)
            })
        })
    }

    fn give<'a>(
        &'a self,
        agent: &'a Name,
        path: &'a Path,
        lake: Option<&'a str>,
        id: Option<WriteId>,
        waves: Vec<Box<RawValue>>,
    ) -> Answer<'a, Aeon> {
        Box::pin(async move {
            for_lake!(self.lake_to_publish(agent, path, lake).await?, L => {
                let mut parsed = Vec::with_capacity(waves.len());
                for (index, wave) in waves.iter().enumerate() {
                    parsed.push(L::wave(wave).map_err(|reason| LakeError::Refused { index, reason })?);
                }
                let publications = self.publications::<L>(agent, path).await?;
                Ok(match id {
                    None => publications.give_all(path.as_str(), parsed).await?,
                    Some(id) => publications.give_all_once(path.as_str(), id, parsed).await?,
                })
            })
        })
    }

    fn read<'a>(&'a self, tide: &'a Tide) -> Answer<'a, State> {
        Box::pin(async move {
            let mut tables = self.tables.lock().await;
            let lake = match tide {
                Tide::Own { agent, path } => {
                    let held = tables.published_as(&(agent.clone(), path.clone()));
                    held.ok_or_else(|| LakeError::NoState(path.clone()))?
                }
                Tide::Replica(source) => {
                    let held = tables.lake_of(&self.follower, source);
                    held.ok_or_else(|| LakeError::NotFollowed(source.clone()))?
                }
            };
            drop(tables);
            for_lake!(lake, L => self.state_of::<L>(tide).await)
        })
    }

    fn follow<'a>(&'a self, source: &'a Source, lake: Option<&'a str>) -> Answer<'a, ()> {
        Box::pin(async move {
            for_lake!(self.lake_to_follow(source, lake).await?, L => {
                let _source = self.sources.alone(source).await;
                self.replicas::<L>(&source.path).await?.follow(source.clone()).await?;
                self.tables.lock().await.keep(source);
                Ok(())
            })
        })
    }

    fn surf<'a>(
        &'a self,
        source: &'a Source,
        lake: Option<&'a str>,
        surf: Surf,
    ) -> Answer<'a, BoxStream<'static, LakeEvent>> {
        Box::pin(async move {
            for_lake!(self.lake_to_follow(source, lake).await?, L => {
                self.surf_as::<L>(source, surf).await
            })
        })
    }

    fn quit<'a>(&'a self, source: &'a Source) -> Answer<'a, ()> {
        Box::pin(async move { Ok(Registry::quit(self, source).await?) })
    }

    fn rule<'a>(&'a self, tide: &'a Tide, change: RuleChange) -> Answer<'a, Rule> {
        Box::pin(async move {
            let horizon = change.horizon.map(|horizon| horizon.map_or(Horizon::Unlimited, Horizon::Waves));
            Ok(Registry::rule(self, tide, change.frequency, horizon).await?)
        })
    }

    fn wipe<'a>(&'a self, tide: &'a Tide) -> Answer<'a, ()> {
        Box::pin(async move { Ok(Registry::wipe(self, tide).await?) })
    }

    fn kill<'a>(&'a self, agent: &'a Name, path: &'a Path) -> Answer<'a, ()> {
        Box::pin(async move { Ok(Registry::kill(self, agent, path).await?) })
    }

    fn fork<'a>(&'a self, agent: &'a Name, from: &'a Path, to: &'a Path) -> Answer<'a, Aeon> {
        Box::pin(async move { Ok(Registry::fork(self, agent, from, to).await?) })
    }

    fn copy<'a>(&'a self, source: &'a Source, agent: &'a Name, to: &'a Path) -> Answer<'a, Aeon> {
        Box::pin(async move { Ok(Registry::copy(self, source, agent, to).await?) })
    }
}

fn known(name: &str) -> Result<Builtin, LakeError> {
    use clap::ValueEnum;
    let all = || Builtin::value_variants().iter().map(|lake| lake.name()).collect::<Vec<_>>().join(", ");
    Builtin::of_name(name).ok_or_else(|| LakeError::UnknownLake { name: name.to_owned(), known: all() })
}

fn made(json: serde_json::Result<Box<RawValue>>) -> Result<Box<RawValue>, LakeError> {
    json.map_err(|error| LakeError::Other(error.to_string()))
}

impl From<ToolError> for LakeError {
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::PublishedAs { agent, path, held } => {
                Self::LakeDiffers(format!("{path} is a {held} on agent {agent}: use it as one"))
            }
            ToolError::FollowedAs { path, held } => {
                Self::LakeDiffers(format!("{path} is followed as a {held} here: quit it first"))
            }
            ToolError::Path(error) => error.into(),
            ToolError::Declare(error) => error.into(),
            ToolError::Give(error) => error.into(),
            ToolError::Manage(error) => error.into(),
            ToolError::Read(error) => error.into(),
            ToolError::Surf(error) => error.into(),
            ToolError::Storage(error) => error.into(),
            ToolError::NotFollowed(source) => Self::NotFollowed(source),
            other => Self::Other(other.to_string()),
        }
    }
}
