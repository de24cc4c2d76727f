//! One stream over all machines of a manager.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt, stream::SelectAll};
use groundswell_core::kv::{KvEvent, KvFilter, KvUpdate, SpaceName};
use tokio::sync::OwnedSemaphorePermit;

use super::{Kv, error::KvEnded, subscription::KvSubscription};
use crate::source::PeerId;

/// What a stream over all machines yields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KvFleetEvent {
    /// Something happened to the entries of a machine; each has its own snapshot and `CaughtUp`.
    Update {
        /// The machine.
        machine: PeerId,
        /// What happened.
        update: KvUpdate,
    },
    /// The snapshots of all machines that there were at the beginning are through.
    CaughtUp,
    /// The machine is not this manager's any more: forget what you hold of it.
    Gone {
        /// The machine.
        machine: PeerId,
    },
}

/// A stream of the events of all machines of a manager, those that are claimed later included. In all
/// else it is as [`KvSubscription`]; it counts as one subscription.
pub struct KvFleetSubscription {
    kv: Arc<Kv>,
    filter: KvFilter,
    parts: SelectAll<Part>,
    known: BTreeSet<PeerId>,
    /// Those whose snapshot is not through; `None` when that was told.
    behind: Option<BTreeSet<PeerId>>,
    /// Ends when the map of machines changes, so that it wakes this reader.
    changes: Pin<Box<dyn Stream<Item = ()> + Send>>,
    ended: Option<KvEnded>,
    _permit: OwnedSemaphorePermit,
}

/// One machine's part of the stream.
struct Part {
    machine: PeerId,
    subscription: KvSubscription,
    over: bool,
}

impl Stream for Part {
    type Item = (PeerId, Option<KvUpdate>);
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let part = self.get_mut();
        if part.over {
            return Poll::Ready(None);
        }
        part.subscription.poll_next_unpin(context).map(|update| {
            part.over = update.is_none();
            Some((part.machine, update))
        })
    }
}

impl KvFleetSubscription {
    pub(crate) fn new(kv: Arc<Kv>, filter: KvFilter, permit: OwnedSemaphorePermit) -> Self {
        let mut watch = kv.machines_changed.subscribe();
        watch.mark_changed();
        let changes = futures_util::stream::unfold(watch, |mut watch| async move {
            watch.changed().await.ok()?;
            Some(((), watch))
        });
        let mut fleet = Self {
            kv,
            filter,
            parts: SelectAll::new(),
            known: BTreeSet::new(),
            behind: None,
            changes: Box::pin(changes),
            ended: None,
            _permit: permit,
        };
        fleet.look_for_machines();
        fleet.behind = Some(fleet.known.clone());
        fleet
    }

    /// The next event; `None` after the stream has ended.
    pub async fn next(&mut self) -> Option<KvFleetEvent> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// Why the stream ended, if it has.
    pub fn ended(&self) -> Option<KvEnded> {
        self.ended
    }

    fn look_for_machines(&mut self) {
        for machine in self.kv.machine_ids() {
            if !self.known.contains(&machine)
                && let Some(document) = self.kv.of_peer(machine)
            {
                self.known.insert(machine);
                let subscription = KvSubscription::new(document, SpaceName::default(), self.filter.clone(), None, None);
                self.parts.push(Part { machine, subscription, over: false });
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<KvFleetEvent>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        loop {
            while let Poll::Ready(Some(())) = self.changes.poll_next_unpin(context) {
                self.look_for_machines();
            }
            if self.behind.as_ref().is_some_and(BTreeSet::is_empty) {
                self.behind = None;
                return Poll::Ready(Some(KvFleetEvent::CaughtUp));
            }
            match self.parts.poll_next_unpin(context) {
                Poll::Ready(Some((machine, Some(update)))) => {
                    if let (KvEvent::CaughtUp, Some(behind)) = (&update.event, &mut self.behind) {
                        behind.remove(&machine);
                    }
                    return Poll::Ready(Some(KvFleetEvent::Update { machine, update }));
                }
                Poll::Ready(Some((machine, None))) => {
                    if self.kv.closing.is_cancelled() {
                        continue;
                    }
                    self.known.remove(&machine);
                    if let Some(behind) = &mut self.behind {
                        behind.remove(&machine);
                    }
                    // It may have been claimed again already.
                    self.look_for_machines();
                    return Poll::Ready(Some(KvFleetEvent::Gone { machine }));
                }
                // All parts have ended, or there are none.
                _ if self.kv.streams_ended() && self.parts.is_empty() => {
                    self.ended = Some(KvEnded::ShutDown);
                    return Poll::Ready(None);
                }
                _ => return Poll::Pending,
            }
        }
    }
}

impl Stream for KvFleetSubscription {
    type Item = KvFleetEvent;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<KvFleetEvent>> {
        self.get_mut().poll(context)
    }
}

impl std::fmt::Debug for KvFleetSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvFleetSubscription").field("machines", &self.known).finish_non_exhaustive()
    }
}
