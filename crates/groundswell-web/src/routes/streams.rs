//! Streams of events.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName},
};

use super::{Answer, Part};
use crate::{
    app::Inner,
    limits::MAX_TOPICS,
    problem::Problem,
    query::{FILTER_FIELDS, Query},
    sse,
    topics::{self, Before, Resume, Topic},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where a reader stood: what its browser says, which is newer than its address, or the address.
fn last_id<'a>(query: &'a Query, headers: &'a HeaderMap) -> Result<Option<&'a str>, Problem> {
    match headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        // What is no text is no id of ours either.
        Some(id) => Ok(Some(id.to_str().unwrap_or("?"))),
        None => query.text("from"),
    }
}

pub(super) async fn entries(
    State(app): State<Arc<Inner>>,
    Part(machine): Part,
    query: Query,
    headers: HeaderMap,
) -> Answer {
    query.only(&[FILTER_FIELDS, &["space", "from"]].concat())?;
    let resume = Resume::one(last_id(&query, &headers)?);
    let permit = app.stream_permit()?;
    let feed = topics::entries(&app, &machine, &query, &resume).await?;
    Ok(sse::one(&app, permit, feed))
}

pub(super) async fn publication(State(app): State<Arc<Inner>>, query: Query, headers: HeaderMap) -> Answer {
    query.only(&[topics::PUBLICATION_FIELDS, &["from"]].concat())?;
    let resume = Resume::one(last_id(&query, &headers)?);
    let permit = app.stream_permit()?;
    let feed = topics::publication(&app, &query, &resume).await?;
    Ok(sse::one(&app, permit, feed))
}

pub(super) async fn subscription(State(app): State<Arc<Inner>>, query: Query, headers: HeaderMap) -> Answer {
    query.only(&[topics::SUBSCRIPTION_FIELDS, &["from"]].concat())?;
    let resume = Resume::one(last_id(&query, &headers)?);
    let permit = app.stream_permit()?;
    let feed = topics::subscription(&app, &query, &resume).await?;
    Ok(sse::one(&app, permit, feed))
}

pub(super) async fn many(State(app): State<Arc<Inner>>, query: Query, headers: HeaderMap) -> Answer {
    query.only(&["topic", "from"])?;
    let text = |topic| std::str::from_utf8(topic).map_err(|_| Problem::bad("a topic is not UTF-8: encode it twice"));
    let topics: Vec<Topic> =
        query.all("topic").map(|topic| Topic::parse(text(topic)?)).collect::<Result<_, Problem>>()?;
    if topics.is_empty() || topics.len() > MAX_TOPICS {
        return Err(Problem::bad(format!("a stream has 1 to {MAX_TOPICS} topics, and not {}", topics.len())));
    }
    let before = last_id(&query, &headers)?.map(|id| Arc::new(Before::new(id)));
    let permit = app.stream_permit()?;
    let mut feeds = Vec::with_capacity(topics.len());
    for topic in topics {
        feeds.push(topic.feed(&app, before.clone()).await);
    }
    let places = before.map(|before| before.used()).unwrap_or_default();
    Ok(sse::many(&app, permit, feeds, places))
}
