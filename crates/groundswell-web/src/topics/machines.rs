//! The topics `machines` and `claims`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use groundswell::{KvError, PeerId};
use tokio::sync::watch;

use crate::{
    app::Inner,
    claims::Claims,
    events::{Data, Item},
    sse::Feed,
    subject::Subject,
    views::{MachineView, now_ms},
};

/// The machines with their status, as that changes.
struct Machines {
    subject: Subject,
    /// What was told of each.
    told: BTreeMap<PeerId, MachineView>,
    statuses: SelectAll<BoxStream<'static, PeerId>>,
    changes: Option<watch::Receiver<u64>>,
    ready: VecDeque<Item>,
    over: bool,
}

pub(super) fn machines(app: &Arc<Inner>) -> Feed {
    let subject = app.subject.clone();
    let changes = match &subject {
        Subject::Manager(manager) => Some(manager.machine_changes()),
        _ => None,
    };
    let (told, statuses, ready) = (BTreeMap::new(), SelectAll::new(), VecDeque::new());
    let mut machines = Machines { subject, told, statuses, changes, ready, over: false };
    machines.look();
    machines.ready.push_back(Item::caught_up());
    let items = stream::unfold(machines, |mut machines| async move {
        let item = machines.next().await?;
        Some((item, machines))
    });
    items.boxed()
}

impl Machines {
    /// Takes up new machines, and tells which have gone.
    fn look(&mut self) {
        if let Some(changes) = &mut self.changes {
            changes.borrow_and_update();
        }
        let ids = self.subject.machine_ids();
        let gone: Vec<PeerId> = self.told.keys().filter(|id| !ids.contains(id)).copied().collect();
        for id in gone {
            self.told.remove(&id);
            self.ready.push_back(Item::new(&Data::Gone { machine: &id.to_string() }));
        }
        for id in ids {
            if !self.told.contains_key(&id)
                && let Ok(status) = self.subject.status_changes(id)
            {
                let changes = stream::unfold(status, move |mut status| async move {
                    status.changed().await.ok()?;
                    Some((id, status))
                });
                self.statuses.push(changes.boxed());
            }
            self.tell(id);
        }
    }

    /// Tells how a machine is, if that is new.
    fn tell(&mut self, id: PeerId) {
        let Ok(view) = self.subject.view(id) else { return };
        if self.told.get(&id) != Some(&view) {
            self.ready.push_back(Item::new(&Data::Machine { machine: &view, now_ms: now_ms() }));
            self.told.insert(id, view);
        }
    }

    async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.over = item.is_end();
                return Some(item);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                changed = self.statuses.next(), if !self.statuses.is_empty() => {
                    if let Some(id) = changed {
                        self.tell(id);
                    }
                }
                () = changed(&mut self.changes) => self.look(),
                () = self.subject.until_shutdown() => self.ready.push_back(Item::ended("shut_down", None)),
            }
        }
    }
}

/// Waits for a change, if there can be one.
async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(changes) = changes
        && changes.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// The claims of this run, as they change.
struct ClaimsFeed {
    claims: Arc<Claims>,
    subject: Subject,
    changes: watch::Receiver<u64>,
    /// The last change that was told.
    told: u64,
    ready: VecDeque<Item>,
    over: bool,
}

pub(super) fn claims(app: &Arc<Inner>) -> Feed {
    if matches!(app.subject, Subject::Node(_)) {
        let problem = crate::problem::Problem::from(KvError::NotClaimed);
        return crate::sse::refused(&crate::problem::Problem { kind: crate::problem::Kind::WrongRole, ..problem });
    }
    let (claims, subject) = (app.claims.clone(), app.subject.clone());
    let changes = claims.changes();
    let mut feed = ClaimsFeed { claims, subject, changes, told: 0, ready: VecDeque::new(), over: false };
    feed.look();
    feed.ready.push_back(Item::caught_up());
    let items = stream::unfold(feed, |mut feed| async move {
        let item = feed.next().await?;
        Some((item, feed))
    });
    items.boxed()
}

impl ClaimsFeed {
    fn look(&mut self) {
        let (changed, last) = self.claims.changed_since(self.told);
        self.told = last;
        self.ready.extend(changed.iter().map(|claim| Item::new(&Data::Claim { claim, now_ms: now_ms() })));
    }

    async fn next(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                self.over = item.is_end();
                return Some(item);
            }
            if self.over {
                return None;
            }
            tokio::select! {
                changed = self.changes.changed() => match changed {
                    Ok(()) => self.look(),
                    Err(_) => self.over = true,
                },
                () = self.subject.until_shutdown() => self.ready.push_back(Item::ended("shut_down", None)),
            }
        }
    }
}
