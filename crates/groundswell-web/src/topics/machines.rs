//! The topics `machines` and `claims`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use groundswell::{KvError, Machine, PeerId};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    app::Inner,
    claims::Claims,
    events::{Data, Item},
    sse::Feed,
    subject::Subject,
    views::{MachineView, PairingView, now_ms},
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

/// Waits until then, or for ever.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
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

/// The claims of this run, and at a machine whether it takes any, as that changes.
struct ClaimsFeed {
    claims: Arc<Claims>,
    subject: Subject,
    changes: watch::Receiver<u64>,
    /// Of a machine's pairing.
    pairing_changes: Option<watch::Receiver<u64>>,
    pairing: Option<PairingView>,
    /// When the pairing is looked at though nothing has changed: it is open for a time.
    again: Option<Instant>,
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
    let pairing_changes = subject.own_machine().ok().map(Machine::claims_open_changes);
    let (pairing, again, told, ready) = (None, None, 0, VecDeque::new());
    let mut feed = ClaimsFeed { claims, subject, changes, pairing_changes, pairing, again, told, ready, over: false };
    feed.look();
    feed.look_at_pairing();
    feed.ready.push_back(Item::caught_up());
    let items = stream::unfold(feed, |mut feed| async move {
        let item = feed.next().await?;
        Some((item, feed))
    });
    items.boxed()
}

/// Two moments that were taken of one time at different times are no further apart.
const SAME_TIME: Duration = Duration::from_millis(500);

impl ClaimsFeed {
    fn look_at_pairing(&mut self) {
        let Ok(machine) = self.subject.own_machine() else { return };
        if let Some(changes) = &mut self.pairing_changes {
            changes.borrow_and_update();
        }
        let pairing = PairingView::from(machine.claims_open());
        let again = pairing.until_ms().map(|ms| Instant::now() + Duration::from_millis(ms));
        // Opened again it is open for longer, which is news.
        let longer = again.zip(self.again).is_some_and(|(again, told)| again > told + SAME_TIME);
        self.again = again;
        if longer || self.pairing.as_ref().map(PairingView::without_times) != Some(pairing.without_times()) {
            self.ready.push_back(Item::new(&Data::Pairing { pairing: &pairing }));
            self.pairing = Some(pairing);
        }
    }

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
                () = changed(&mut self.pairing_changes) => self.look_at_pairing(),
                () = at(self.again) => self.look_at_pairing(),
                () = self.subject.until_shutdown() => self.ready.push_back(Item::ended("shut_down", None)),
            }
        }
    }
}
