//! Server-sent events: feeds as the body of an answer, written only as fast as it is read.
//!
//! There is no task and no queue behind a stream. Its feeds are asked for their next event when the connection has room,
//! so that a browser that reads slowly, or not at all, costs its cursors and one buffer.

use std::{convert::Infallible, fmt::Write, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{
    FutureExt, Stream, StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Interval, MissedTickBehavior, Sleep, interval_at, sleep},
};

use crate::{
    app::Inner,
    events::{Data, Item},
    limits::{CHUNK_BYTES, HEARTBEAT_PERIOD, LAST_WORDS, RETRY},
    places::Places,
    problem::Problem,
    views::now_ms,
};

/// The events of one topic. It ends after an event `ended`.
pub(crate) type Feed = BoxStream<'static, Item>;

/// A stream of one topic, whose ids are its cursor.
pub(crate) fn one(app: &Arc<Inner>, permit: OwnedSemaphorePermit, feed: Feed) -> Response {
    respond(app, permit, vec![feed], None)
}

/// A stream of many topics, whose ids are the cursors of all.
pub(crate) fn many(app: &Arc<Inner>, permit: OwnedSemaphorePermit, feeds: Vec<Feed>, places: Places) -> Response {
    respond(app, permit, feeds, Some(places))
}

struct Writer {
    app: Arc<Inner>,
    feeds: SelectAll<BoxStream<'static, (usize, Item)>>,
    /// Where all topics stand, if there are many.
    places: Option<Places>,
    heartbeat: Interval,
    begun: bool,
    /// When the stream ends whatever there is to tell, once the interface is shut down.
    last_words: Option<Pin<Box<Sleep>>>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

fn respond(app: &Arc<Inner>, permit: OwnedSemaphorePermit, feeds: Vec<Feed>, places: Option<Places>) -> Response {
    let numbered = feeds.into_iter().enumerate();
    let feeds = numbered.map(|(topic, feed)| feed.map(move |item| (topic, item)).boxed()).collect();
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT_PERIOD, HEARTBEAT_PERIOD);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let writer = Writer {
        app: app.clone(),
        feeds,
        places,
        heartbeat,
        begun: false,
        last_words: None,
        over: false,
        _permit: permit,
    };
    let chunks = stream::unfold(writer, |mut writer| async move {
        let chunk = writer.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(chunk)), writer))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

impl Writer {
    /// What is to be sent next; `None` after the end.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        let mut chunk = String::new();
        if !std::mem::replace(&mut self.begun, true) {
            // Writing to a string does not fail.
            let _ = writeln!(chunk, "retry: {}", RETRY.as_millis());
            let node = self.app.subject.node().id().to_string();
            let heartbeat_ms = u64::try_from(HEARTBEAT_PERIOD.as_millis()).unwrap_or(u64::MAX);
            write(
                &mut chunk,
                None,
                &Item::new(&Data::Hello {
                    node: &node,
                    run: self.app.keys.run(),
                    started_ms: self.app.started.unix_ms(),
                    heartbeat_ms,
                }),
            );
            return Some(chunk);
        }
        while chunk.is_empty() {
            self.step(&mut chunk).await;
        }
        Some(chunk)
    }

    async fn step(&mut self, chunk: &mut String) {
        let closing = self.app.closing.clone();
        tokio::select! {
            biased;
            () = passed(&mut self.last_words) => {
                self.over = true;
                write(chunk, None, &Item::ended("shut_down", None));
            }
            () = closing.cancelled(), if self.last_words.is_none() => {
                let grace = if self.app.subject.is_shutdown() { LAST_WORDS } else { Duration::ZERO };
                self.last_words = Some(Box::pin(sleep(grace)));
            }
            _ = self.heartbeat.tick() => write(chunk, None, &Item::new(&Data::Heartbeat { now_ms: now_ms() })),
            next = self.feeds.next() => {
                self.take(chunk, next);
                // What is ready goes along.
                while chunk.len() < CHUNK_BYTES && !self.over {
                    let Some(next) = self.feeds.next().now_or_never() else { break };
                    self.take(chunk, next);
                }
            }
        }
    }

    fn take(&mut self, chunk: &mut String, next: Option<(usize, Item)>) {
        match (next, &mut self.places) {
            (Some((_, item)), None) => {
                let id = item.place.map(|(_, cursor)| cursor.to_string());
                self.over = item.is_end();
                write(chunk, id.as_deref(), &item);
            }
            (Some((topic, mut item)), Some(places)) => {
                let id = item.place.map(|(part, cursor)| {
                    places.moved(part, cursor);
                    places.id()
                });
                // Every event is an object with a type.
                if item.json.pop().is_some() {
                    let _ = write!(item.json, r#","topic":{topic}}}"#);
                }
                write(chunk, id.as_deref(), &item);
            }
            (None, places) => {
                self.over = true;
                if places.is_some() {
                    let reason = if self.app.subject.is_shutdown() { "shut_down" } else { "topics_ended" };
                    write(chunk, None, &Item::ended(reason, None));
                }
            }
        }
    }
}

/// Waits for the moment, if there is to be one.
async fn passed(moment: &mut Option<Pin<Box<Sleep>>>) {
    match moment {
        Some(moment) => moment.await,
        None => std::future::pending().await,
    }
}

fn write(chunk: &mut String, id: Option<&str>, item: &Item) {
    if let Some(id) = id {
        let _ = writeln!(chunk, "id: {id}");
    }
    let _ = write!(chunk, "event: {}\ndata: {}\n\n", item.name, item.json);
}

/// A feed of these events up to `ended`, which comes even where they end without.
pub(crate) fn until_end(items: impl Stream<Item = Item> + Send + 'static) -> Feed {
    let items = stream::unfold(Some(items.boxed()), |items| async move {
        let mut items = items?;
        let item = items.next().await.unwrap_or_else(|| Item::ended("other", None));
        let rest = if item.is_end() { None } else { Some(items) };
        Some((item, rest))
    });
    items.boxed()
}

/// The feed of a topic that could not be followed, among others that can.
pub(crate) fn refused(problem: &Problem) -> Feed {
    let item = Item::ended(problem.kind.word(), Some(problem.detail.clone()));
    stream::once(async move { item }).boxed()
}
