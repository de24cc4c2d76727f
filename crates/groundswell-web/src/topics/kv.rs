//! The entries of a machine, or of all machines of a manager.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, SelectAll},
};
use groundswell::{KvEnded, KvError, KvEvent, KvFilter, KvSubscription, Manager, PeerId};
use serde_json::json;
use tokio::sync::watch;

use super::Resume;
use crate::{app::Inner, events::Item, problem::Problem, query::Query, sse::Feed, subject::Subject};

/// The topic `kv`: of one machine, or with `machine=*` of all.
pub(super) async fn topic(app: &Arc<Inner>, query: &Query, resume: Resume) -> Result<Feed, Problem> {
    match query.needed("machine")? {
        "*" => all(app, query, resume).await,
        machine => entries(app, machine, query, &resume).await,
    }
}

/// The entries of one machine.
pub(crate) async fn entries(app: &Arc<Inner>, machine: &str, query: &Query, resume: &Resume) -> Result<Feed, Problem> {
    let id = app.subject.machine(machine)?;
    let space = query.text("space")?.unwrap_or_default().to_owned();
    let events = part(&app.subject, id, &space, query.filter()?, resume).await?;
    let items = events.map(|event| match event {
        PartEvent::Item(item) | PartEvent::CaughtUp(item) => item,
        PartEvent::Ended(_, why) => ended(why),
    });
    Ok(items.boxed())
}

fn ended(why: Option<KvEnded>) -> Item {
    let word = match why {
        Some(KvEnded::ShutDown) => "shut_down",
        Some(KvEnded::Released) => "released",
        Some(KvEnded::Failed) => "failed",
        _ => "other",
    };
    Item::ended(word, why.map(|why| why.to_string()))
}

/// What happens to the entries of one machine.
enum PartEvent {
    Item(Item),
    CaughtUp(Item),
    Ended(PeerId, Option<KvEnded>),
}

async fn part(
    subject: &Subject,
    id: PeerId,
    space: &str,
    filter: KvFilter,
    resume: &Resume,
) -> Result<BoxStream<'static, PartEvent>, Problem> {
    let (part, from) = resume.of(Some(id));
    let subscription = subject.space(id, space)?.subscribe(filter, from).await?;
    let (machine, space) = (id.to_string(), space.to_owned());
    let next = move |subscription: Option<KvSubscription>| {
        let (machine, space) = (machine.clone(), space.clone());
        async move {
            let mut subscription = subscription?;
            let Some(update) = subscription.next().await else {
                return Some((PartEvent::Ended(id, subscription.ended()), None));
            };
            let item = Item::of_kv(&update, &machine, &space, part);
            let event = match update.event {
                KvEvent::CaughtUp => PartEvent::CaughtUp(item),
                _ => PartEvent::Item(item),
            };
            Some((event, Some(subscription)))
        }
    };
    Ok(stream::unfold(Some(subscription), next).boxed())
}

/// The entries of all machines of a manager, those that are claimed later included.
struct Fleet {
    manager: Manager,
    subject: Subject,
    space: String,
    filter: KvFilter,
    resume: Resume,
    parts: SelectAll<BoxStream<'static, PartEvent>>,
    known: BTreeSet<PeerId>,
    /// Those whose snapshot is not through; `None` when that was told.
    behind: Option<BTreeSet<PeerId>>,
    /// Why parts have ended that were not released: the topic ends when all have.
    ending: Option<KvEnded>,
    changes: watch::Receiver<u64>,
    ready: VecDeque<Item>,
    over: bool,
}

async fn all(app: &Arc<Inner>, query: &Query, resume: Resume) -> Result<Feed, Problem> {
    let Subject::Manager(manager) = &app.subject else {
        // A machine is all the machines that there are.
        return entries(app, "self", query, &resume).await;
    };
    let (manager, subject) = (manager.clone(), app.subject.clone());
    let mut fleet = Fleet {
        changes: manager.machine_changes(),
        manager,
        subject,
        space: query.text("space")?.unwrap_or_default().to_owned(),
        filter: query.filter()?,
        resume,
        parts: SelectAll::new(),
        known: BTreeSet::new(),
        behind: None,
        ending: None,
        ready: VecDeque::new(),
        over: false,
    };
    fleet.look().await?;
    // A machine that is claimed from here on is nothing that a reader could have known.
    if let Resume::Many { before, .. } = &mut fleet.resume {
        *before = None;
    }
    fleet.behind = Some(fleet.known.clone());
    let items = stream::unfold(fleet, |mut fleet| async move {
        let item = fleet.next().await?;
        Some((item, fleet))
    });
    Ok(items.boxed())
}

impl Fleet {
    /// Begins to read the machines that are not read yet.
    async fn look(&mut self) -> Result<(), Problem> {
        self.changes.borrow_and_update();
        for id in self.manager.list_machine_ids() {
            if self.known.contains(&id) {
                continue;
            }
            match part(&self.subject, id, &self.space, self.filter.clone(), &self.resume).await {
                Ok(part) => {
                    self.parts.push(part);
                    self.known.insert(id);
                }
                // It has gone in this moment.
                Err(problem) if problem.kind == Problem::from(KvError::UnknownMachine(id)).kind => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
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
            if self.behind.as_ref().is_some_and(BTreeSet::is_empty) {
                self.behind = None;
                return Some(self.caught_up());
            }
            tokio::select! {
                event = self.parts.next(), if !self.parts.is_empty() => match event {
                    Some(event) => self.take(event).await,
                    None => if self.ending.is_some() {
                        self.ready.push_back(ended(self.ending));
                    },
                },
                changed = self.changes.changed() => {
                    let looked = self.look().await;
                    self.note(looked);
                    self.over |= changed.is_err();
                }
                () = self.subject.until_shutdown(), if self.parts.is_empty() => {
                    self.ready.push_back(Item::ended("shut_down", None));
                }
            }
        }
    }

    async fn take(&mut self, event: PartEvent) {
        match event {
            PartEvent::Item(item) => self.ready.push_back(item),
            PartEvent::CaughtUp(item) => {
                let machine = item.place.map(|(part, _)| part);
                if let (Some(behind), Some(machine)) = (&mut self.behind, machine) {
                    let resume = &self.resume;
                    behind.retain(|id| resume.of(Some(*id)).0 != machine);
                }
                self.ready.push_back(item);
            }
            PartEvent::Ended(id, Some(KvEnded::Released)) => {
                self.known.remove(&id);
                if let Some(behind) = &mut self.behind {
                    behind.remove(&id);
                }
                self.ready.push_back(Item::new(&crate::events::Data::Gone { machine: &id.to_string() }));
                // It may have been claimed again already.
                let looked = self.look().await;
                self.note(looked);
            }
            // The others may have something to say still.
            PartEvent::Ended(_, ended) => self.ending = ended.or(Some(KvEnded::Failed)),
        }
    }

    /// What hinders the reading of a machine ends the topic, which would not be whole without it.
    fn note(&mut self, looked: Result<(), Problem>) {
        if let Err(problem) = looked {
            self.ready.push_back(Item::ended(problem.kind.word(), Some(problem.detail)));
        }
    }

    /// The snapshots are through. All machines are named, so that who comes back forgets those that have gone meanwhile.
    fn caught_up(&self) -> Item {
        let machines: Vec<String> = self.known.iter().map(ToString::to_string).collect();
        let json = json!({ "type": "caught_up", "machines": machines }).to_string();
        Item { name: "caught_up", json, place: None }
    }
}
