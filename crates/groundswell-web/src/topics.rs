//! What can be followed: each topic as a feed of events.

mod kv;
mod lists;
mod machines;
mod tides;

use std::sync::{Arc, Mutex, PoisonError};

use groundswell::{Aeon, Cursor, Epoch, PeerId};

use crate::{
    app::Inner,
    events::Part,
    places::Places,
    problem::Problem,
    query::{FILTER_FIELDS, Query, cursor},
    sse::{self, Feed},
};

pub(crate) use kv::entries;
pub(crate) use tides::{PUBLICATION_FIELDS, SUBSCRIPTION_FIELDS, publication, source_of, subscription};

/// Where a reader stood, if it comes back.
#[derive(Clone)]
pub(crate) enum Resume {
    /// The cursor of a stream of one topic.
    One(Option<Cursor>),
    /// The cursors of a stream of many, and the text of this topic.
    Many { topic: String, before: Option<Arc<Before>> },
}

impl Resume {
    /// What the id of an event says.
    pub(crate) fn one(id: Option<&str>) -> Self {
        Self::One(id.map(cursor))
    }

    /// The name of a part of the topic, and where to go on there. Who comes back and has no place in this part holds
    /// what nobody knows: the place that no store has makes it begin with a reset.
    pub(crate) fn of(&self, machine: Option<PeerId>) -> (Part, Option<Cursor>) {
        const NOWHERE: Cursor = Cursor { epoch: Epoch([0; 16]), aeon: Aeon(1) };
        match self {
            Self::One(cursor) => (Part([0; 4]), *cursor),
            Self::Many { topic, before } => {
                let part = Part::new(topic, machine);
                (part, before.as_ref().map(|before| before.go_on(part).unwrap_or(NOWHERE)))
            }
        }
    }
}

/// What a stream of many topics was told when its reader came back.
#[derive(Default)]
pub(crate) struct Before {
    places: Places,
    /// Those that a topic of this stream goes on from. The others are forgotten: their readers have left them, and what
    /// they held of them with them.
    used: Mutex<Places>,
}

impl Before {
    pub(crate) fn new(id: &str) -> Self {
        Self { places: Places::parse(id), used: Mutex::default() }
    }

    fn go_on(&self, part: Part) -> Option<Cursor> {
        let cursor = self.places.get(part)?;
        self.used.lock().unwrap_or_else(PoisonError::into_inner).moved(part, cursor);
        Some(cursor)
    }

    pub(crate) fn used(&self) -> Places {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A topic, taken apart.
#[derive(Debug)]
pub(crate) struct Topic {
    kind: Kind,
    query: Query,
    text: String,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Node,
    Machines,
    Claims,
    Publications,
    Subscriptions,
    Kv,
    Publication,
    Subscription,
}

impl Topic {
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let (kind, fields): (Kind, &[&str]) = match name {
            "node" => (Kind::Node, &[]),
            "machines" => (Kind::Machines, &[]),
            "claims" => (Kind::Claims, &[]),
            "publications" => (Kind::Publications, &[]),
            "subscriptions" => (Kind::Subscriptions, &[]),
            "kv" => (Kind::Kv, &["machine", "space"]),
            "publication" => (Kind::Publication, tides::PUBLICATION_FIELDS),
            "subscription" => (Kind::Subscription, tides::SUBSCRIPTION_FIELDS),
            other => return Err(Problem::bad(format!("there is no topic `{other}`: see /api/v1/openapi.json"))),
        };
        let query = Query::parse(query)?;
        let filter = if matches!(kind, Kind::Kv) { FILTER_FIELDS } else { &[] };
        query.only(&[fields, filter].concat())?;
        match kind {
            Kind::Kv => {
                query.needed("machine")?;
                query.filter()?;
            }
            Kind::Publication => drop((query.path()?, query.agent()?, tides::surf_of(&query, &Resume::One(None))?)),
            Kind::Subscription => {
                query.needed("peer")?;
                drop((query.path()?, query.agent()?, tides::surf_of(&query, &Resume::One(None))?));
            }
            _ => {}
        }
        Ok(Self { kind, query, text: text.to_owned() })
    }

    /// Follows the topic. What can't be followed (any more) ends at once, so that the others go on.
    pub(crate) async fn feed(self, app: &Arc<Inner>, before: Option<Arc<Before>>) -> Feed {
        let resume = Resume::Many { topic: self.text, before };
        let feed = match self.kind {
            Kind::Node => Ok(lists::node(app)),
            Kind::Machines => Ok(machines::machines(app)),
            Kind::Claims => Ok(machines::claims(app)),
            Kind::Publications => Ok(lists::publications(app)),
            Kind::Subscriptions => Ok(lists::subscriptions(app)),
            Kind::Kv => kv::topic(app, &self.query, resume).await,
            Kind::Publication => publication(app, &self.query, &resume).await,
            Kind::Subscription => subscription(app, &self.query, &resume).await,
        };
        feed.unwrap_or_else(|problem| sse::refused(&problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_checked_before_anything_is_followed() {
        for good in ["node", "kv?machine=*", "kv?machine=self&prefix=a%2F&author=manager", "publication?path=/a&last=5"]
        {
            assert!(Topic::parse(good).is_ok(), "{good}");
        }
        let bad = [
            "",
            "nodes",
            "node?x=1",
            "kv",
            "kv?machine=*&agent=a",
            "kv?machine=*&author=x",
            "publication",
            "publication?path=a",
            "publication?path=/a&rocks=some",
            "subscription?path=/a",
            "publication?path=/a&last=x",
        ];
        for bad in bad {
            assert!(Topic::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_comes_back_without_a_place_begins_with_a_reset() {
        let new = Resume::Many { topic: "kv?machine=*".into(), before: None };
        assert_eq!(new.of(None).1, None);
        let back = Resume::Many { topic: "kv?machine=*".into(), before: Some(Arc::default()) };
        assert_eq!(back.of(None).1.map(|cursor| cursor.epoch), Some(Epoch([0; 16])));
    }
}
