//! Publications and subscriptions.

use std::{num::NonZeroU64, sync::Arc};

use axum::{body::Body, extract::State, http::StatusCode};
use groundswell::{Frequency, Name, Path, PeerId, PeerTicket};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json, value::RawValue};

use super::{Answer, Once};
use crate::{
    app::Inner,
    body::{Named, json, json_with, read_json, whole},
    lakes::{DEFAULT_AGENT, LakeError, RuleChange, State as LakeState, Tide},
    limits::{MAX_JSON_BYTES, MAX_WAVES_BYTES},
    problem::{self, Problem},
    query::Query,
    topics::source_of,
    views::{AccessView, RuleView},
};

const OWN: &[&str] = &["path", "agent"];
const OTHERS: &[&str] = &["peer", "path", "agent"];

/// This node's own path that a query names.
fn own(query: &Query) -> Result<Tide, Problem> {
    query.only(OWN)?;
    Ok(Tide::Own { agent: query.agent()?, path: query.path()? })
}

/// The replica that a query names; of this node's own paths, the publication.
async fn replica(app: &Inner, query: &Query) -> Result<Tide, Problem> {
    query.only(OTHERS)?;
    let node = app.subject.node();
    let source = source_of(node, query).await?;
    Ok(match source.peer == node.id() {
        true => Tide::Own { agent: source.agent, path: source.path },
        false => Tide::Replica(source),
    })
}

pub(super) async fn publications(State(app): State<Arc<Inner>>) -> Answer {
    json(&Named("publications", &app.sampler.fresh().publications()))
}

pub(super) async fn subscriptions(State(app): State<Arc<Inner>>) -> Answer {
    json(&Named("subscriptions", &app.sampler.fresh().subscriptions()))
}

pub(super) async fn read_publication(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    read(&app, own(&query)?).await
}

pub(super) async fn read_subscription(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    read(&app, replica(&app, &query).await?).await
}

async fn read(app: &Inner, tide: Tide) -> Answer {
    #[derive(serde::Serialize)]
    struct View<'a> {
        agent: &'a str,
        path: &'a str,
        source: Option<String>,
        lake: String,
        aeon: Option<u64>,
        rock: Option<Box<RawValue>>,
        stale: bool,
        fail: Option<String>,
    }
    let LakeState { lake, rock, stale, fail } = app.lakes.read(&tide).await?;
    let (agent, path, source) = match &tide {
        Tide::Own { agent, path } => (agent, path, None),
        Tide::Replica(source) => (&source.agent, &source.path, Some(source.peer.to_string())),
    };
    let (aeon, rock) = rock.map(|(aeon, rock)| (aeon.0, rock)).unzip();
    json(&View { agent: agent.as_str(), path: path.as_str(), source, lake, aeon, rock, stale, fail })
}

pub(super) async fn open(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    query.only(&["path", "agent", "lake"])?;
    let aeon = app.lakes.open(&query.agent()?, &query.path()?, query.text("lake")?).await?;
    json(&json!({ "aeon": aeon.0 }))
}

pub(super) async fn kill(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    query.only(OWN)?;
    app.lakes.kill(&query.agent()?, &query.path()?).await?;
    json(&json!({ "killed": true }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waves {
    waves: Vec<Box<RawValue>>,
}

pub(super) async fn give(State(app): State<Arc<Inner>>, query: Query, Once(id): Once, body: Body) -> Answer {
    query.only(&["path", "agent", "lake"])?;
    let (agent, path) = (query.agent()?, query.path()?);
    let Waves { waves } = read_json(body, MAX_WAVES_BYTES).await?;
    if waves.is_empty() {
        return Err(Problem::bad("there is no wave in `waves`: to publish the default rock, PUT the publication"));
    }
    let aeon = app.lakes.give(&agent, &path, query.text("lake")?, id, waves).await?;
    json(&json!({ "aeon": aeon.0 }))
}

/// A change of a rule, in the words of the command line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleBody {
    #[serde(default, deserialize_with = "given")]
    frequency: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    horizon: Option<Value>,
}

/// A field that is there, and may be null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

async fn change_rule(app: &Inner, tide: Tide, body: Body) -> Answer {
    let RuleBody { frequency, horizon } = read_json(body, MAX_JSON_BYTES).await?;
    let frequency = match &frequency {
        None => None,
        Some(Value::String(word)) if word == "auto" => Some(Frequency::Automatic),
        Some(Value::String(word)) if word == "never" => Some(Frequency::Never),
        Some(other) => {
            let every = whole(other).and_then(NonZeroU64::new);
            let refused = || Problem::bad(format!("`frequency` is auto, never or a number from 1 on, and not {other}"));
            Some(Frequency::Every(every.ok_or_else(refused)?))
        }
    };
    let horizon = match &horizon {
        None => None,
        Some(Value::Null) => Some(None),
        Some(waves) => {
            let refused = || Problem::bad(format!("`horizon` is null or a number from 0 on, and not {waves}"));
            Some(Some(whole(waves).ok_or_else(refused)?))
        }
    };
    json(&RuleView::from(app.lakes.rule(&tide, RuleChange { frequency, horizon }).await?))
}

pub(super) async fn rule(State(app): State<Arc<Inner>>, query: Query, body: Body) -> Answer {
    change_rule(&app, own(&query)?, body).await
}

pub(super) async fn replica_rule(State(app): State<Arc<Inner>>, query: Query, body: Body) -> Answer {
    change_rule(&app, replica(&app, &query).await?, body).await
}

pub(super) async fn wipe(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    app.lakes.wipe(&own(&query)?).await?;
    json(&json!({ "wiped": true }))
}

pub(super) async fn wipe_replica(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    app.lakes.wipe(&replica(&app, &query).await?).await?;
    json(&json!({ "wiped": true }))
}

#[derive(Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
enum AccessChange {
    // Those without fields would take any, if they had no braces.
    Public {},
    Secret {},
    Allow { peers: Vec<String> },
    Block { peers: Vec<String> },
}

fn ids(peers: &[String]) -> Result<Vec<PeerId>, Problem> {
    peers.iter().map(|peer| Ok(problem::ticket::<PeerTicket>(peer)?.peer())).collect()
}

pub(super) async fn access(State(app): State<Arc<Inner>>, query: Query, body: Body) -> Answer {
    query.only(OWN)?;
    let (agent, path) = (query.agent()?, query.path()?);
    let change: AccessChange = read_json(body, MAX_JSON_BYTES).await?;
    let agent = app.subject.node().agent(agent.as_str())?;
    let changed = match change {
        AccessChange::Public {} => agent.public(path.as_str()).await,
        AccessChange::Secret {} => agent.secret(path.as_str()).await,
        AccessChange::Allow { peers } => agent.allow(path.as_str(), ids(&peers)?).await,
        AccessChange::Block { peers } => agent.block(path.as_str(), ids(&peers)?).await,
    };
    let access = AccessView::from(&changed.map_err(LakeError::from)?);
    json(&json!({ "access": access, "path": path.as_str() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    to: String,
    #[serde(default)]
    agent: Option<String>,
}

pub(super) async fn fork(State(app): State<Arc<Inner>>, query: Query, body: Body) -> Answer {
    query.only(OWN)?;
    let (agent, from) = (query.agent()?, query.path()?);
    let Target { to, agent: other } = read_json(body, MAX_JSON_BYTES).await?;
    let to = Path::new(&to)?;
    if other.is_some_and(|other| other != agent.as_str()) {
        return Err(Problem::bad("a fork stays with its agent: copy the path to give it to another"));
    }
    let aeon = app.lakes.fork(&agent, &from, &to).await?;
    json_with(StatusCode::CREATED, &json!({ "aeon": aeon.0 }))
}

pub(super) async fn follow(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    query.only(&["peer", "path", "agent", "lake"])?;
    let source = source_of(app.subject.node(), &query).await?;
    app.lakes.follow(&source, query.text("lake")?).await?;
    json(&Named("source", &source))
}

pub(super) async fn quit(State(app): State<Arc<Inner>>, query: Query) -> Answer {
    query.only(OTHERS)?;
    app.lakes.quit(&source_of(app.subject.node(), &query).await?).await?;
    json(&json!({ "quit": true }))
}

pub(super) async fn copy(State(app): State<Arc<Inner>>, query: Query, body: Body) -> Answer {
    query.only(OTHERS)?;
    let source = source_of(app.subject.node(), &query).await?;
    let Target { to, agent } = read_json(body, MAX_JSON_BYTES).await?;
    let (to, agent) = (Path::new(&to)?, Name::new(agent.as_deref().unwrap_or(DEFAULT_AGENT))?);
    let aeon = app.lakes.copy(&source, &agent, &to).await?;
    json_with(StatusCode::CREATED, &json!({ "aeon": aeon.0 }))
}
