//! A local reader of a document, as a stream of events: a cursor into the view, and no buffer.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::{Stream, task::AtomicWaker};
use groundswell_core::{
    Cursor,
    kv::{KvAuthor, KvFilter, KvKey, KvReader, KvUpdate, ReaderStep, SpaceName},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{document::Document, error::KvEnded};

/// Wakes one reader: set by who changes the view, taken by the reader before it looks.
#[derive(Debug)]
pub(crate) struct Wake {
    space: SpaceName,
    filter: KvFilter,
    set: AtomicBool,
    waker: AtomicWaker,
}

impl Wake {
    pub(crate) fn wake(&self) {
        if !self.set.swap(true, Ordering::SeqCst) {
            self.waker.wake();
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    pub(crate) fn concerns(
        &self,
        space: &SpaceName,
        key: &KvKey,
        author: KvAuthor,
        previous: Option<KvAuthor>,
    ) -> bool {
        self.space == *space && self.filter.could_match(key, author, previous)
    }

    /// The one key that it waits for, if it is one.
    pub(crate) fn only_key(&self) -> Option<(SpaceName, KvKey)> {
        match &self.filter {
            KvFilter::Key(key) => Some((self.space.clone(), key.clone())),
            _ => None,
        }
    }
}

/// A stream of the events of those entries of a document that match a filter: what there is at
/// present, then [`KvEvent::CaughtUp`], then every change.
///
/// It is a cursor, no buffer. A reader that pauses costs nothing and holds up no one; it skips the
/// values of a key that were replaced meanwhile, and never misses the newest. Dropping it frees all
/// that it held. [`KvSubscription::next`] is cancel safe. When the machine or the manager is shut
/// down, the stream yields what was committed, then ends; [`KvSubscription::ended`] says why.
///
/// The absence of the other side does not end it, nor does a restart of that side. A release is
/// followed by [`KvEvent::Reset`] at the machine, and ends the streams at the manager.
///
/// [`KvEvent::CaughtUp`]: crate::KvEvent::CaughtUp
/// [`KvEvent::Reset`]: crate::KvEvent::Reset
pub struct KvSubscription {
    document: Arc<Document>,
    reader: KvReader,
    wake: Arc<Wake>,
    cursor: Option<Cursor>,
    ended: Option<KvEnded>,
    /// Until it has ended.
    _permit: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for KvSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvSubscription").field("reader", &self.reader).field("ended", &self.ended).finish()
    }
}

impl KvSubscription {
    pub(crate) fn new(
        document: Arc<Document>,
        space: SpaceName,
        filter: KvFilter,
        resume: Option<Cursor>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let reader = KvReader::new(space.clone(), filter.clone(), resume);
        let wake = Arc::new(Wake { space, filter, set: AtomicBool::new(true), waker: AtomicWaker::new() });
        document.add_reader(&wake);
        Self { document, reader, wake, cursor: resume, ended: None, _permit: permit }
    }

    /// The next event; `None` after the stream has ended.
    pub async fn next(&mut self) -> Option<KvUpdate> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// Where this reader stands, if it was given anything. Give it to a later subscription to go on there.
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// Why the stream ended, if it has.
    pub fn ended(&self) -> Option<KvEnded> {
        self.ended
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<KvUpdate>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        loop {
            // Registered and taken first, then looked: a change in between wakes once too often,
            // never once too few.
            self.wake.waker.register(context.waker());
            self.wake.set.store(false, Ordering::SeqCst);
            let ending = self.document.ended();
            match self.document.with_view(|view| self.reader.next(view)) {
                ReaderStep::Event(update) => {
                    self.wake.set.store(true, Ordering::SeqCst);
                    self.cursor = Some(update.cursor);
                    return Poll::Ready(Some(update));
                }
                ReaderStep::More => {
                    // Others get their turn.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                ReaderStep::Wait if ending.is_some() => {
                    self.ended = ending;
                    self._permit = None;
                    return Poll::Ready(None);
                }
                ReaderStep::Wait if self.wake.is_set() => {}
                ReaderStep::Wait => return Poll::Pending,
            }
        }
    }
}

impl Stream for KvSubscription {
    type Item = KvUpdate;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<KvUpdate>> {
        self.get_mut().poll(context)
    }
}

impl Drop for KvSubscription {
    fn drop(&mut self) {
        self.document.remove_reader(&self.wake);
    }
}

/// A stream of the events of one key: its present value if it has one, then
/// [`KvEvent::CaughtUp`], then every change. In all else it is as [`KvSubscription`].
///
/// [`KvEvent::CaughtUp`]: crate::KvEvent::CaughtUp
#[derive(Debug)]
pub struct KvWatch(pub(crate) KvSubscription);

impl KvWatch {
    /// The next event; `None` after the stream has ended.
    pub async fn next(&mut self) -> Option<KvUpdate> {
        self.0.next().await
    }

    /// Where this reader stands, if it was given anything. Give it to a later watch to go on there.
    pub fn cursor(&self) -> Option<Cursor> {
        self.0.cursor()
    }

    /// Why the stream ended, if it has.
    pub fn ended(&self) -> Option<KvEnded> {
        self.0.ended()
    }
}

impl Stream for KvWatch {
    type Item = KvUpdate;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<KvUpdate>> {
        self.get_mut().0.poll(context)
    }
}
