//! The events of streams, as JSON: the names and fields that the command line prints.

use std::borrow::Cow;

use data_encoding::BASE64;
use groundswell::{Cursor, FreshnessKind, KvAuthor, KvEntry, KvEvent, KvUpdate, Moment, PeerId, ResetReason, Source};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    claims::ClaimView,
    views::{MachineView, NodeView, PairingView, PublicationView, SubscriptionView},
};

/// One event, before it is on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: &'static str,
    pub(crate) json: String,
    /// Where its topic stands with it: in which part of the topic, and where there.
    pub(crate) place: Option<(Part, Cursor)>,
}

/// A part of a topic with a cursor of its own, as a machine is. It is told by the text that names both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part(pub(crate) [u8; 4]);

impl Part {
    pub(crate) fn new(topic: &str, machine: Option<PeerId>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(topic.as_bytes());
        if let Some(machine) = machine {
            hasher.update(machine.as_bytes());
        }
        let mut tag = [0; 4];
        hasher.finalize_xof().fill(&mut tag);
        Self(tag)
    }
}

impl Item {
    pub(crate) fn new(data: &Data<'_>) -> Self {
        match serde_json::to_string(data) {
            // A foreign lake's JSON may have line ends between its tokens, and an event is one line.
            Ok(json) => Self { name: data.name(), json: json.replace(['\n', '\r'], " "), place: None },
            Err(error) => Self::ended("other", Some(error.to_string())),
        }
    }

    pub(crate) fn at(mut self, part: Part, cursor: Cursor) -> Self {
        self.place = Some((part, cursor));
        self
    }

    /// The last event, with its reason.
    pub(crate) fn ended(reason: &str, detail: Option<String>) -> Self {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let detail = detail.map_or_else(String::new, |detail| format!(r#","detail":{}"#, text(&detail)));
        let json = format!(r#"{{"type":"ended","reason":{}{detail}}}"#, text(reason));
        Self { name: "ended", json, place: None }
    }

    pub(crate) fn is_end(&self) -> bool {
        self.name == "ended"
    }

    /// What happened to the entries of a machine.
    pub(crate) fn of_kv(update: &KvUpdate, machine: &str, space: &str, part: Part) -> Self {
        let cursor = update.cursor.to_string();
        let (live, space) = (update.live, Some(space).filter(|space| !space.is_empty()));
        let data = match &update.event {
            KvEvent::Put(entry) => Data::Put { entry: EntryView::new(entry, true), live, cursor, machine, space },
            KvEvent::Delete { key, author, timestamp } => {
                let (key, author, timestamp) = (KeyView::new(key.as_bytes()), author_word(*author), *timestamp);
                Data::Delete { key, author, timestamp, live, cursor, machine, space }
            }
            KvEvent::Left { key } => Data::Left { key: KeyView::new(key.as_bytes()), live, cursor, machine, space },
            KvEvent::CaughtUp => {
                Data::CaughtUp { cursor: Some(cursor), machine: Some(machine), space, aeon: None, rock: None }
            }
            KvEvent::Reset { reason } => Data::Reset { reason: reason_word(*reason), cursor, machine, space },
        };
        Self::new(&data).at(part, update.cursor)
    }

    /// A topic is caught up as a whole.
    pub(crate) fn caught_up() -> Self {
        Self::new(&Data::CaughtUp { cursor: None, machine: None, space: None, aeon: None, rock: None })
    }
}

pub(crate) fn author_word(author: KvAuthor) -> &'static str {
    match author {
        KvAuthor::Machine => "machine",
        KvAuthor::Manager => "manager",
    }
}

fn reason_word(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::OtherEpoch => "other_epoch",
        ResetReason::SnapshotUnfinished => "snapshot_unfinished",
        _ => "unknown_cursor",
    }
}

/// A key: text where it is UTF-8, base64 otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct KeyView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
}

impl<'a> KeyView<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let key = std::str::from_utf8(bytes).ok();
        Self { key, key_base64: key.is_none().then(|| BASE64.encode(bytes)) }
    }
}

/// An entry, likewise.
#[derive(Debug, Serialize)]
pub(crate) struct EntryView<'a> {
    #[serde(flatten)]
    key: KeyView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    author: &'static str,
    timestamp: u64,
}

impl<'a> EntryView<'a> {
    /// An entry, with its value or without.
    pub(crate) fn new(entry: &'a KvEntry, with_value: bool) -> Self {
        let value = std::str::from_utf8(&entry.value).ok().filter(|_| with_value);
        Self {
            key: KeyView::new(entry.key.as_bytes()),
            value: value.map(Cow::Borrowed),
            value_base64: (with_value && value.is_none()).then(|| BASE64.encode(&entry.value)),
            author: author_word(entry.author),
            timestamp: entry.timestamp,
        }
    }
}

/// What an event says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Data<'a> {
    Hello {
        node: &'a str,
        run: &'a str,
        started_ms: u64,
        heartbeat_ms: u64,
    },
    Heartbeat {
        now_ms: u64,
    },
    Put {
        #[serde(flatten)]
        entry: EntryView<'a>,
        live: bool,
        cursor: String,
        machine: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<&'a str>,
    },
    Delete {
        #[serde(flatten)]
        key: KeyView<'a>,
        author: &'static str,
        timestamp: u64,
        live: bool,
        cursor: String,
        machine: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<&'a str>,
    },
    Left {
        #[serde(flatten)]
        key: KeyView<'a>,
        live: bool,
        cursor: String,
        machine: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<&'a str>,
    },
    Reset {
        reason: &'static str,
        cursor: String,
        machine: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<&'a str>,
    },
    CaughtUp {
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        machine: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        space: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        aeon: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rock: Option<Box<RawValue>>,
    },
    Update {
        aeon: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        wave: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rock: Option<Box<RawValue>>,
        live: bool,
        stale: bool,
        cursor: String,
    },
    NotAvailable,
    Killed,
    Freshness {
        state: FreshnessKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        since_ms: Option<Moment>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    Gone {
        machine: &'a str,
    },
    Machine {
        machine: &'a MachineView,
        now_ms: u64,
    },
    Claim {
        claim: &'a ClaimView,
        now_ms: u64,
    },
    Pairing {
        pairing: &'a PairingView,
    },
    Node {
        node: &'a NodeView,
    },
    Publication {
        publication: &'a PublicationView,
    },
    PublicationGone {
        agent: &'a str,
        path: &'a str,
    },
    Subscription {
        subscription: &'a SubscriptionView,
        now_ms: u64,
    },
    SubscriptionGone {
        source: &'a Source,
    },
}

impl Data<'_> {
    /// The name of the event, which is its type too.
    fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Left { .. } => "left",
            Self::Reset { .. } => "reset",
            Self::CaughtUp { .. } => "caught_up",
            Self::Update { .. } => "update",
            Self::NotAvailable => "not_available",
            Self::Killed => "killed",
            Self::Freshness { .. } => "freshness",
            Self::Gone { .. } => "gone",
            Self::Machine { .. } => "machine",
            Self::Claim { .. } => "claim",
            Self::Pairing { .. } => "pairing",
            Self::Node { .. } => "node",
            Self::Publication { .. } => "publication",
            Self::PublicationGone { .. } => "publication_gone",
            Self::Subscription { .. } => "subscription",
            Self::SubscriptionGone { .. } => "subscription_gone",
        }
    }
}

#[cfg(test)]
mod tests {
    use groundswell::{Aeon, Epoch, KvKey};

    use super::*;

    fn cursor() -> Cursor {
        Cursor { epoch: Epoch([1; 16]), aeon: Aeon(7) }
    }

    fn put(key: &[u8], value: &[u8]) -> Item {
        let entry = KvEntry {
            key: KvKey::new(key).unwrap(),
            value: value.to_vec().into(),
            author: KvAuthor::Manager,
            timestamp: 5,
        };
        let update = KvUpdate { event: KvEvent::Put(entry), cursor: cursor(), live: true };
        Item::of_kv(&update, "m", "", Part([0; 4]))
    }

    #[test]
    fn a_put_has_the_fields_of_the_command_line() {
        let item = put(b"price/1", b"250\n");
        let place = cursor();
        let expected = format!(
            r#"{{"type":"put","key":"price/1","value":"250\n","author":"manager","timestamp":5,"live":true,"cursor":"{place}","machine":"m"}}"#
        );
        assert_eq!((item.name, item.json), ("put", expected));
    }

    #[test]
    fn bytes_that_are_no_text_come_as_base64() {
        let json = put(b"\xff", b"\xfe\xfd").json;
        assert!(json.contains(r#""key_base64":"/w==""#) && json.contains(r#""value_base64":"/v0=""#), "{json}");
        assert!(!json.contains(r#""key":"#) && !json.contains(r#""value":"#), "{json}");
    }

    #[test]
    fn an_event_is_one_line_whatever_a_lake_writes() {
        let wave = RawValue::from_string("[1,\n 2]".to_owned()).unwrap();
        let data =
            Data::Update { aeon: 1, wave: Some(wave), rock: None, live: true, stale: false, cursor: String::new() };
        let item = Item::new(&data);
        assert!(!item.json.contains('\n') && item.json.contains("[1,  2]"), "{}", item.json);
        assert_eq!(
            Item::ended("quit", Some("\"\n".into())).json,
            r#"{"type":"ended","reason":"quit","detail":"\"\n"}"#
        );
    }

    #[test]
    fn the_name_of_an_event_is_its_type() {
        let samples = [
            Data::Hello { node: "", run: "", started_ms: 0, heartbeat_ms: 0 },
            Data::Heartbeat { now_ms: 0 },
            Data::NotAvailable,
            Data::Killed,
            Data::Gone { machine: "" },
            Data::PublicationGone { agent: "", path: "" },
            Data::CaughtUp { cursor: None, machine: None, space: None, aeon: None, rock: None },
            Data::Reset { reason: "", cursor: String::new(), machine: "", space: None },
            Data::Left { key: KeyView::new(b""), live: true, cursor: String::new(), machine: "", space: None },
        ];
        for data in samples {
            let item = Item::new(&data);
            let parsed: serde_json::Value = serde_json::from_str(&item.json).unwrap();
            assert_eq!(parsed["type"], item.name);
        }
    }
}
