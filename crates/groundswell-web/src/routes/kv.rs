//! Keys and values.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
};
use groundswell::KvError;
use serde_json::json;

use super::{Answer, Once, Part};
use crate::{
    app::Inner,
    body::{self, json},
    events::{EntryView, author_word},
    limits::{DEFAULT_LIST_ENTRIES, MAX_DELIVERED_SECONDS, MAX_LIST_BYTES, MAX_LIST_ENTRIES},
    problem::{Kind, Problem},
    query::{FILTER_FIELDS, Query},
    subject::Space,
};

const AUTHOR: HeaderName = HeaderName::from_static("groundswell-author");
const TIMESTAMP: HeaderName = HeaderName::from_static("groundswell-timestamp");

/// The space that a path and a query name.
fn space(app: &Inner, machine: &str, query: &Query) -> Result<Space, Problem> {
    app.subject.space(app.subject.machine(machine)?, query.text("space")?.unwrap_or_default())
}

pub(super) async fn spaces(State(app): State<Arc<Inner>>, Part(machine): Part) -> Answer {
    json(&json!({ "spaces": app.subject.spaces(app.subject.machine(&machine)?)? }))
}

pub(super) async fn get(State(app): State<Arc<Inner>>, Part(machine): Part, query: Query) -> Answer {
    query.only(&["key", "space"])?;
    let (space, key) = (space(&app, &machine, &query)?, query.key()?);
    let Some(entry) = space.get(&key).await? else {
        return Err(Problem::new(
            Kind::NoEntry,
            format!(
                "the key {key} has no entry there: GET /api/v1/machines/{machine}/entries lists those that there are"
            ),
        ));
    };
    let headers = [
        // Whatever the value is, it is no page of ours.
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (AUTHOR, HeaderValue::from_static(author_word(entry.author))),
        (TIMESTAMP, HeaderValue::from(entry.timestamp)),
    ];
    Ok((headers, entry.value).into_response())
}

pub(super) async fn put(
    State(app): State<Arc<Inner>>,
    Part(machine): Part,
    query: Query,
    Once(id): Once,
    body: Body,
) -> Answer {
    query.only(&["key", "space"])?;
    let (space, key) = (space(&app, &machine, &query)?, query.key()?);
    let value = body::read(body, app.max_value_bytes, Kind::ValueTooLarge).await?;
    let entry = space.set(&key, value, id).await?;
    json(&EntryView::new(&entry, true))
}

pub(super) async fn delete(State(app): State<Arc<Inner>>, Part(machine): Part, query: Query, Once(id): Once) -> Answer {
    query.only(&["key", "space"])?;
    let (space, key) = (space(&app, &machine, &query)?, query.key()?);
    json(&json!({ "deleted": space.delete(&key, id).await? }))
}

pub(super) async fn delivered(State(app): State<Arc<Inner>>, Part(machine): Part, query: Query) -> Answer {
    query.only(&["within"])?;
    let within = query.number("within")?.unwrap_or(0);
    if within > MAX_DELIVERED_SECONDS {
        return Err(Problem::bad(format!("`within` is 0 to {MAX_DELIVERED_SECONDS} seconds: ask again for longer")));
    }
    let space = app.subject.space(app.subject.machine(&machine)?, "")?;
    let delivered = tokio::select! {
        // It looks before it waits: with no time at all, what has been delivered already is told.
        biased;
        delivered = space.until_delivered() => delivered.map(|()| true)?,
        () = tokio::time::sleep(Duration::from_secs(within)) => false,
        // The interface ends before the node does.
        () = app.closing.cancelled() => return Err(KvError::ShutDown.into()),
    };
    json(&json!({ "delivered": delivered }))
}

#[derive(serde::Serialize)]
struct Page<'a> {
    entries: Vec<EntryView<'a>>,
    more: bool,
}

pub(super) async fn entries(State(app): State<Arc<Inner>>, Part(machine): Part, query: Query) -> Answer {
    query.only(&[FILTER_FIELDS, &["space", "after", "limit", "values"]].concat())?;
    let limit =
        query.number("limit")?.map_or(DEFAULT_LIST_ENTRIES, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    if !(1..=MAX_LIST_ENTRIES).contains(&limit) {
        return Err(Problem::bad(format!("`limit` is 1 to {MAX_LIST_ENTRIES}: ask for the next page with `after`")));
    }
    let with_values = match query.text("values")? {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => return Err(Problem::bad(format!("`values` is true or false, and not `{other}`"))),
    };
    let after = query.bytes("after")?;
    let entries = space(&app, &machine, &query)?.entries(query.filter()?).await?;
    let begins = after.map_or(0, |after| entries.partition_point(|entry| entry.key.as_bytes() <= after));
    let rest = entries.get(begins..).unwrap_or_default();
    let mut bytes = 0;
    let fits = |entry: &&groundswell::KvEntry| {
        bytes += entry.key.as_bytes().len() + if with_values { entry.value.len() } else { 0 };
        bytes <= MAX_LIST_BYTES
    };
    // One is given however large it is, so that every page goes on.
    let count = rest.iter().take(limit).take_while(fits).count().max(rest.len().min(1));
    let page: Vec<_> = rest.iter().take(count).map(|entry| EntryView::new(entry, with_values)).collect();
    json(&Page { entries: page, more: count < rest.len() })
}
