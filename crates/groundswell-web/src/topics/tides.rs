//! The topics `publication` and `subscription`: what happens to one path.

use std::sync::Arc;

use futures_util::StreamExt;
use groundswell::{Ended, Freshness, Node, PeerTicket, Source};

use super::Resume;
use crate::{
    app::Inner,
    events::{Data, Item, Part},
    lakes::{Begin, LakeEvent, Rocks, Surf},
    limits::MAX_LAST_WAVES,
    problem::{self, Problem},
    query::Query,
    sse::{self, Feed},
};

/// The fields that say how a stream is to be.
pub(crate) const PUBLICATION_FIELDS: &[&str] = &["path", "agent", "rocks", "last"];

pub(crate) const SUBSCRIPTION_FIELDS: &[&str] = &["peer", "path", "agent", "lake", "rocks", "last"];

/// How a query wants its stream.
pub(super) fn surf_of(query: &Query, resume: &Resume) -> Result<(Surf, Part), Problem> {
    let rocks = match query.text("rocks")? {
        None | Some("needed") => Rocks::Needed,
        Some("never") => Rocks::Never,
        Some("always") => Rocks::Always,
        Some(other) => return Err(Problem::bad(format!("`rocks` is never, needed or always, and not `{other}`"))),
    };
    let last = query.number("last")?;
    if last.is_some_and(|last| last > MAX_LAST_WAVES) {
        return Err(Problem::bad(format!("`last` is at most {MAX_LAST_WAVES}: read the rock for what is older")));
    }
    let (part, from) = resume.of(None);
    let begin = match (from, last) {
        (Some(cursor), _) => Begin::Cursor(cursor),
        (None, Some(waves)) => Begin::Waves(waves),
        (None, None) => Begin::Newest,
    };
    Ok((Surf { begin, rocks }, part))
}

/// The source that a query names; the addresses in a ticket are remembered.
pub(crate) async fn source_of(node: &Node, query: &Query) -> Result<Source, Problem> {
    let ticket: PeerTicket = problem::ticket(query.needed("peer")?)?;
    let (agent, path) = (query.agent()?, query.path()?);
    Ok(Source { peer: node.add_peer(&ticket).await?, agent, path })
}

/// What happens to a publication of this node.
pub(crate) async fn publication(app: &Arc<Inner>, query: &Query, resume: &Resume) -> Result<Feed, Problem> {
    let node = app.subject.node();
    let (agent, path) = (query.agent()?, query.path()?);
    if !node.agent(agent.as_str())?.published().contains_key(&path) {
        return Err(crate::lakes::LakeError::NoState(path).into());
    }
    surf(app, Source { peer: node.id(), agent, path }, None, surf_of(query, resume)?).await
}

/// What happens to a source, which is followed from here on.
pub(crate) async fn subscription(app: &Arc<Inner>, query: &Query, resume: &Resume) -> Result<Feed, Problem> {
    let source = source_of(app.subject.node(), query).await?;
    surf(app, source, query.text("lake")?, surf_of(query, resume)?).await
}

async fn surf(app: &Inner, source: Source, lake: Option<&str>, (surf, part): (Surf, Part)) -> Result<Feed, Problem> {
    let events = app.lakes.surf(&source, lake, surf).await?;
    Ok(sse::until_end(events.map(move |event| item(event, part))))
}

fn item(event: LakeEvent, part: Part) -> Item {
    match event {
        LakeEvent::Update { cursor, wave, rock, live, stale } => {
            let text = cursor.to_string();
            let data = Data::Update { aeon: cursor.aeon.0, wave, rock, live, stale, cursor: text };
            Item::new(&data).at(part, cursor)
        }
        LakeEvent::CaughtUp { aeon, rock } => {
            Item::new(&Data::CaughtUp { cursor: None, machine: None, space: None, aeon: Some(aeon.0), rock })
        }
        LakeEvent::Freshness(Freshness::NotAvailable) => Item::new(&Data::NotAvailable),
        LakeEvent::Freshness(Freshness::Killed) => Item::new(&Data::Killed),
        LakeEvent::Freshness(freshness) => {
            let (since_ms, detail) = match &freshness {
                Freshness::Offline { since } => (Some(*since), None),
                Freshness::Refused(refusal) => (None, Some(refusal.to_string())),
                Freshness::Unusable { reason } => (None, Some(reason.clone())),
                _ => (None, None),
            };
            Item::new(&Data::Freshness { state: freshness.kind(), since_ms, detail })
        }
        LakeEvent::Ended(ended) => match ended {
            Ended::Quit => Item::ended("quit", None),
            Ended::ShutDown => Item::ended("shut_down", None),
            Ended::Storage(reason) => Item::ended("storage", Some(reason)),
            other => Item::ended("other", Some(other.to_string())),
        },
    }
}
