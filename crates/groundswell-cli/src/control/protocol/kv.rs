//! The words of the key-value store and of pairing: what is asked, and the lines that answer it.

use std::time::Duration;

use groundswell::{
    ClaimPin, ClaimsOpen, KvEnded, KvEntry, KvEvent, KvKey, KvLink, KvUpdate, KvUsage, LinkStatus, Moment, NodeStatus,
    PeerId, ResetReason,
};
use serde::{Deserialize, Serialize};

use crate::bytes::{Hex, to_hex};

/// The most bytes of a value. It is the limit with which `up` starts a machine or a manager.
pub(crate) const MAX_VALUE_BYTES: usize = groundswell::limits::MAX_KV_VALUE_BYTES;

/// The most bytes of the line that answers a claim: `true` or `false`.
pub(crate) const MAX_ANSWER_BYTES: usize = 64;

/// Whose keys are meant, in which space, and whether the answer is to be in hexadecimal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct KvPlace {
    /// The machine, as it was named; at a manager.
    pub(crate) machine: Option<String>,
    /// The space, if it is one with a name.
    pub(crate) space: Option<String>,
    pub(crate) hex: bool,
}

/// What is asked of the keys and values.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KvAsk {
    Get {
        key: Hex,
    },
    /// A value of so many bytes follows, as a line that is a JSON string in hexadecimal.
    Set {
        key: Hex,
        bytes: usize,
        #[serde(default)]
        id: Option<String>,
    },
    Del {
        key: Hex,
        #[serde(default)]
        id: Option<String>,
    },
    Ls {
        prefix: Hex,
    },
    /// Whether everything that was written here is at the other side, after so long at most.
    Delivered {
        within_ms: Option<u64>,
    },
    Watch {
        key: Hex,
        cursor: Option<String>,
    },
    Subscribe {
        prefix: Hex,
        cursor: Option<String>,
    },
    /// The same of all machines of a manager.
    SubscribeAll {
        prefix: Hex,
    },
}

/// What happened to the entries that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KvKind {
    Put,
    Delete,
    Left,
    CaughtUp,
    Reset,
    /// The machine is not this manager's any more.
    Gone,
    Ended,
}

/// An entry, or what happened to one. A key that is UTF-8 is in `key`, any other in `key_hex`; so is
/// a value.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KvLine {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<KvKind>,
    /// The machine, where all are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_hex: Option<String>,
    /// How many bytes the value has, where it went to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<usize>,
    /// `machine` or `manager`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author: Option<String>,
    /// What the author's wall clock showed, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Why it was reset, or has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl KvLine {
    /// A line of this kind and nothing else.
    pub(crate) fn of(kind: KvKind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// An entry.
    pub(crate) fn entry(entry: &KvEntry, hex: bool) -> Self {
        let mut line = Self::default().with_key(&entry.key, hex);
        (line.value, line.value_hex) = text_or_hex(&entry.value, hex);
        line.author = Some(entry.author.to_string());
        line.timestamp = Some(entry.timestamp);
        line
    }

    /// An event.
    pub(crate) fn update(update: &KvUpdate, hex: bool) -> Self {
        let line = match &update.event {
            KvEvent::Put(entry) => Self { kind: Some(KvKind::Put), ..Self::entry(entry, hex) },
            KvEvent::Delete { key, author, timestamp } => Self {
                author: Some(author.to_string()),
                timestamp: Some(*timestamp),
                ..Self::of(KvKind::Delete).with_key(key, hex)
            },
            KvEvent::Left { key } => Self::of(KvKind::Left).with_key(key, hex),
            KvEvent::CaughtUp => Self::of(KvKind::CaughtUp),
            KvEvent::Reset { reason } => {
                let reason = match reason {
                    ResetReason::OtherEpoch => "other_epoch",
                    ResetReason::SnapshotUnfinished => "snapshot_unfinished",
                    ResetReason::UnknownCursor => "unknown_cursor",
                    _ => "other",
                };
                Self { reason: Some(reason.to_owned()), ..Self::of(KvKind::Reset) }
            }
        };
        let of_an_entry = matches!(line.kind, Some(KvKind::Put | KvKind::Delete | KvKind::Left));
        Self { live: of_an_entry.then_some(update.live), cursor: Some(update.cursor.to_string()), ..line }
    }

    /// The last line of a stream.
    pub(crate) fn ended(why: Option<KvEnded>) -> Self {
        let reason = match why {
            Some(KvEnded::Released) => "released",
            Some(KvEnded::Failed) => "failed",
            _ => "shut_down",
        };
        Self { reason: Some(reason.to_owned()), ..Self::of(KvKind::Ended) }
    }

    pub(crate) fn with_key(mut self, key: &KvKey, hex: bool) -> Self {
        (self.key, self.key_hex) = text_or_hex(key.as_bytes(), hex);
        self
    }
}

/// Bytes as text where they are, and in hexadecimal otherwise or where that is wanted.
fn text_or_hex(bytes: &[u8], hex: bool) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !hex => (Some(text.to_owned()), None),
        _ => (None, Some(to_hex(bytes))),
    }
}

/// The answer to a deletion.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deleted {
    pub(crate) deleted: bool,
}

/// The answer where everything is delivered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) delivered: bool,
}

/// What a claim has to be answered to: with a line, `true` or `false`, or where it has a number with a [`NumberedAnswer`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShownPin {
    pub(crate) pin: String,
    #[serde(flatten)]
    pub(crate) other: Other,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<u64>,
}

/// An answer to one of several claims. One that comes late is not taken for the answer to the next.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NumberedAnswer {
    pub(crate) claim: u64,
    pub(crate) same: bool,
}

/// A claim has come to nothing, and the next one is waited for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoPair {
    pub(crate) claim: u64,
    pub(crate) no_pair: String,
}

/// The last line of a claim that made a pair.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claimed {
    pub(crate) claimed: bool,
    #[serde(flatten)]
    pub(crate) other: Other,
}

/// The answer to a release.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Released {
    pub(crate) released: bool,
    /// With whom there was a pairing; nobody, if a machine without a manager was only wiped.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub(crate) other: Option<Other>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) wiped: bool,
}

/// The other side of a pair: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Other {
    Machine(String),
    Manager(String),
}

impl Other {
    pub(crate) fn machine(id: PeerId) -> Self {
        Self::Machine(id.to_string())
    }

    pub(crate) fn manager(id: PeerId) -> Self {
        Self::Manager(id.to_string())
    }
}

impl ShownPin {
    pub(crate) fn new(pin: ClaimPin, other: Other, claim: Option<u64>) -> Self {
        Self { pin: pin.to_string(), other, claim }
    }
}

/// How a document stands with its other side.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Pair {
    /// The machine, at its manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine: Option<String>,
    /// The manager, at its machine; not set where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manager: Option<String>,
    /// `unclaimed`, `connecting`, `online`, `offline`, `not_known` or `released`.
    pub(crate) link: String,
    /// Since when it is out of reach, in milliseconds since 1970 by this device's clock.
    pub(crate) offline_since_ms: Option<u64>,
    /// Since when it answers and does not know the pair, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_known_since_ms: Option<u64>,
    /// Whether everything that the other side had is here, and what follows is live.
    pub(crate) current: bool,
    /// When it was last known to be so, likewise; not set while it is.
    pub(crate) current_at_ms: Option<u64>,
    /// Since when something that was written here is not at the other side, likewise; not set while all is.
    pub(crate) undelivered_since_ms: Option<u64>,
    /// When it was noticed that this side went back in time, likewise; not set if it did not.
    #[serde(default)]
    pub(crate) went_back_at_ms: Option<u64>,
    /// Whether it has agreed with the other side since. Nothing counts as delivered before.
    #[serde(default)]
    pub(crate) agreed: Option<bool>,
    /// How many of its writes have lost to what it took back.
    #[serde(default)]
    pub(crate) overruled: u64,
    /// By how much the other side's wall clock is ahead.
    pub(crate) skew_ms: Option<i64>,
    /// Another device has the same identity.
    pub(crate) duplicate: bool,
    /// What hinders, in words.
    pub(crate) problem: Option<String>,
    /// How many reconciliations found both sides alike.
    pub(crate) reconciled: u64,
    /// How many keys were ever used, and how many may be.
    pub(crate) keys_used: usize,
    pub(crate) keys_limit: usize,
    /// How many bytes keys and values take, and how many this side writes at most.
    pub(crate) bytes_used: u64,
    pub(crate) bytes_limit: u64,
}

impl Pair {
    pub(crate) fn new(other: Option<Other>, status: &LinkStatus, usage: KvUsage) -> Self {
        let (machine, manager) = match other {
            Some(Other::Machine(id)) => (Some(id), None),
            Some(Other::Manager(id)) => (None, Some(id)),
            None => (None, None),
        };
        let (link, offline_since, not_known_since) = match status.link {
            KvLink::Unclaimed => ("unclaimed", None, None),
            KvLink::Connecting => ("connecting", None, None),
            KvLink::Online => ("online", None, None),
            KvLink::Offline { since } => ("offline", Some(since), None),
            KvLink::NotKnown { since } => ("not_known", None, Some(since)),
            KvLink::Released => ("released", None, None),
            _ => ("other", None, None),
        };
        Self {
            machine,
            manager,
            link: link.to_owned(),
            offline_since_ms: offline_since.map(Moment::unix_ms),
            not_known_since_ms: not_known_since.map(Moment::unix_ms),
            current: status.current,
            current_at_ms: status.current_at.map(Moment::unix_ms),
            undelivered_since_ms: status.undelivered_since.map(Moment::unix_ms),
            went_back_at_ms: status.went_back.map(|went_back| went_back.at.unix_ms()),
            agreed: status.went_back.map(|went_back| went_back.agreed),
            overruled: status.went_back.map_or(0, |went_back| went_back.overruled),
            skew_ms: status.skew_ms,
            duplicate: status.duplicate,
            problem: status.problem.clone(),
            reconciled: status.reconciled,
            keys_used: usage.keys,
            keys_limit: usage.keys_limit,
            bytes_used: usage.bytes,
            bytes_limit: usage.bytes_limit,
        }
    }
}

/// What a line of a watch is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WatchKind {
    /// A [`WatchedNode`].
    Node,
    /// A [`PairLine`].
    Pair,
    /// A [`KvLine`].
    #[serde(other)]
    Entry,
}

/// The first line of a watch: whose node it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WatchedNode {
    #[serde(rename = "type")]
    pub(crate) kind: WatchKind,
    pub(crate) id: String,
    /// `machine` or `manager`.
    pub(crate) role: String,
}

/// How a pair stands, in a watch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PairLine {
    #[serde(rename = "type")]
    pub(crate) kind: WatchKind,
    #[serde(flatten)]
    pub(crate) pair: Pair,
}

/// Whether a machine takes claims, and who has claimed it in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClaimsLine {
    pub(crate) open: bool,
    /// For how long, where it was opened for a time.
    pub(crate) open_for_ms: Option<u64>,
    /// For how long a ticket's one-time secret admits a claim.
    pub(crate) secret_for_ms: Option<u64>,
    /// How many claims more may be in vain.
    pub(crate) attempts_left: usize,
    /// Those with the most first.
    pub(crate) in_vain: Vec<InVain>,
}

/// Claims of one manager that were in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InVain {
    pub(crate) manager: String,
    pub(crate) claims: usize,
}

impl From<ClaimsOpen> for ClaimsLine {
    fn from(open: ClaimsOpen) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let in_vain = |(manager, claims): (PeerId, usize)| InVain { manager: manager.to_string(), claims };
        Self {
            open: open.open,
            open_for_ms: open.open_for.map(ms),
            secret_for_ms: open.secret_for.map(ms),
            attempts_left: open.attempts_left,
            in_vain: open.attempts.into_iter().map(in_vain).collect(),
        }
    }
}

impl ClaimsLine {
    /// Who has claimed it in vain, for people; nothing where nobody has.
    pub(crate) fn by_whom(&self) -> Option<String> {
        let one = |one: &InVain| format!("{} {}", one.claims, crate::peer_name::shown(&one.manager));
        let all: Vec<String> = self.in_vain.iter().map(one).collect();
        (!all.is_empty()).then(|| format!("claims in vain: {}", all.join(", ")))
    }
}

/// A ticket that admits a claim once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OneTimeTicket {
    pub(crate) ticket: String,
    /// For how long it is good from now on.
    pub(crate) seconds: u64,
}

/// What a node is doing, its part in the key-value store included.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    #[serde(flatten)]
    pub(crate) node: NodeStatus,
    /// `machine`, `manager` or `peer`.
    pub(crate) role: &'static str,
    /// How a machine stands with its manager, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manager: Option<Pair>,
    /// How a manager stands with its machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machines: Option<Vec<Pair>>,
    /// Whether a machine takes claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) claims: Option<ClaimsLine>,
}

#[cfg(test)]
mod tests {
    use groundswell::{Cursor, KvAuthor};

    use super::*;
    use crate::control::protocol::{FAILURE_BEGINS, MAX_REQUEST_BYTES, Request};

    fn entry(key: &[u8], value: &'static [u8]) -> KvEntry {
        KvEntry { key: KvKey::new(key).unwrap(), value: value.into(), author: KvAuthor::Machine, timestamp: 7 }
    }

    #[test]
    fn an_event_is_a_line_with_the_fields_of_the_design() {
        let cursor: Cursor = "00000000000000000000000000000001:5".parse().unwrap();
        let line = |event, live| serde_json::to_string(&KvLine::update(&KvUpdate { event, cursor, live }, false));
        assert_eq!(
            line(KvEvent::Put(entry(b"a", b"b")), false).unwrap(),
            format!(
                r#"{{"type":"put","key":"a","value":"b","author":"machine","timestamp":7,"live":false,"cursor":"{cursor}"}}"#
            )
        );
        let delete = KvEvent::Delete { key: KvKey::new("a").unwrap(), author: KvAuthor::Manager, timestamp: 8 };
        assert_eq!(
            line(delete, true).unwrap(),
            format!(
                r#"{{"type":"delete","key":"a","author":"manager","timestamp":8,"live":true,"cursor":"{cursor}"}}"#
            )
        );
        let caught_up = format!(r#"{{"type":"caught_up","cursor":"{cursor}"}}"#);
        assert_eq!(line(KvEvent::CaughtUp, false).unwrap(), caught_up);
        let ended = serde_json::to_string(&KvLine::ended(Some(KvEnded::Released))).unwrap();
        assert_eq!(ended, r#"{"type":"ended","reason":"released"}"#);
        assert!(!ended.as_bytes().starts_with(FAILURE_BEGINS));
    }

    #[test]
    fn bytes_that_are_no_text_have_a_field_of_their_own() {
        let line = |entry: &KvEntry, hex| {
            let text = serde_json::to_string(&KvLine::entry(entry, hex)).unwrap();
            assert_eq!(serde_json::from_str::<KvLine>(&text).unwrap(), KvLine::entry(entry, hex));
            text
        };
        let rest = r#""author":"machine","timestamp":7"#;
        assert_eq!(line(&entry(b"\xff", b""), false), format!(r#"{{"key_hex":"ff","value":"",{rest}}}"#));
        assert_eq!(line(&entry(b"ff", b"\x80a"), false), format!(r#"{{"key":"ff","value_hex":"8061",{rest}}}"#));
        assert_eq!(line(&entry(b"a", b"b"), true), format!(r#"{{"key_hex":"61","value_hex":"62",{rest}}}"#));
    }

    #[test]
    fn the_other_side_is_a_field_with_its_role_as_the_name() {
        let id: PeerId = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6".parse().unwrap();
        let text = serde_json::to_string(&Claimed { claimed: true, other: Other::machine(id) }).unwrap();
        assert_eq!(text, format!(r#"{{"claimed":true,"machine":"{id}"}}"#));
        let read: Claimed = serde_json::from_str(&text).unwrap();
        assert_eq!(read.other, Other::machine(id));
    }

    #[test]
    fn the_longest_argument_fits_a_request() {
        // What Linux allows an argument; it is refused as a key, by who knows the limit.
        let key = Hex(vec![0; 128 * 1024]);
        let request = Request::Kv { place: KvPlace::default(), ask: KvAsk::Get { key } };
        assert!(serde_json::to_vec(&request).unwrap().len() < MAX_REQUEST_BYTES);
    }
}
