//! The control protocol: one request a connection, as one line of JSON, and answer lines.
//!
//! Answer lines are the very lines that the command prints with `--json`, so that nothing has to
//! be taken apart on the way; after them comes one last line, [`DONE`] or a [`Failure`]. After
//! a [`Request::Give`] the client sends its waves, each as a line that is a JSON string, then
//! closes its sending half; after the value of a [`KvAsk::Set`], one line, and after the answer to a claim,
//! another, it sends nothing more. The other requests are followed by nothing, and a client that closes
//! its sending half after one of them has gone.

mod kv;

pub(crate) use kv::{
    Claimed, ClaimsLine, Deleted, Delivered, KvAsk, KvKind, KvLine, KvPlace, MAX_ANSWER_BYTES, MAX_VALUE_BYTES, NoPair,
    NumberedAnswer, OneTimeTicket, Other, Pair, PairLine, Released, ShownPin, Status, WatchKind, WatchedNode,
};

use std::time::Duration;

use groundswell::{Access, Frequency, Metric, MetricValue, Name, Path, Pattern, PeerId, Rule, TimesSnapshot};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{builtin::Builtin, bytes::Hex, error::ToolError};

/// The last line of an answer that is complete.
pub(crate) const DONE: &[u8] = br#"{"done":true}"#;

/// How a [`Failure`] begins, and no other answer does.
pub(crate) const FAILURE_BEGINS: &[u8] = br#"{"error":"#;

/// The most bytes of a request line (320 KiB): as many ids as may be allowed on one path, 4,096 of 67
/// bytes each, and the longest path, which has less than 4 KiB, of which in JSON a byte takes up to six.
pub(crate) const MAX_REQUEST_BYTES: usize = 320 * 1024;

/// The most bytes of a line with a wave: the largest wave, as text that escapes each byte.
pub(crate) const MAX_WAVE_LINE_BYTES: usize = 6 * MAX_WAVE_TEXT_BYTES + 16;

/// The most bytes of a wave as text (1 MiB), as of an encoded wave.
pub(crate) const MAX_WAVE_TEXT_BYTES: usize = 1024 * 1024;

/// What a command asks of the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Give the waves that follow; with an id, all of them together, and once.
    Give {
        path: Path,
        lake: Builtin,
        agent: Name,
        #[serde(default)]
        id: Option<String>,
    },
    /// Publish the default rock.
    Open { path: Path, lake: Builtin, agent: Name },
    /// Follow a source and print what comes. `peer` is as it was named. With `no_wait` it ends when
    /// there is nothing to follow (any more), or the client leaves, and leaves no trace if nothing came.
    Surf { peer: String, path: Path, lake: Builtin, agent: Name, rocks: Rocks, from: Option<String>, no_wait: bool },
    /// Stop following a source.
    Quit { peer: String, path: Path, agent: Name },
    /// Print states.
    Read { paths: Option<Pattern>, source: Option<String> },
    /// Change who may read a path.
    Access { path: Path, agent: Name, change: Change },
    /// Print the rule of a path, published or followed of this peer, with these changes.
    Rule { path: Path, agent: Name, source: Option<String>, frequency: Option<Frequency>, horizon: Option<Horizon> },
    /// Make a rock of a path, and drop the rest.
    Wipe { path: Path, agent: Name, source: Option<String> },
    /// End a path.
    Kill { path: Path, agent: Name },
    /// Begin a path with the state and history of another.
    Fork { from: Path, to: Path, agent: Name },
    /// Begin a path with those of a source.
    Copy { peer: String, from: Path, agent: Name, to: Path, publisher: Name },
    /// Claim the machine of this ticket. The client answers the PIN; one that leaves has said no.
    Claim { ticket: String },
    /// Wait for a claim of this machine, and let the client answer it too. With `ticket` the machine is not open for
    /// all meanwhile: a ticket with a one-time secret is printed first. With `next`, one that comes to nothing does not end
    /// the request: each claim has a number, and the next one is waited for until one has made a pair.
    Claims {
        #[serde(default)]
        ticket: bool,
        #[serde(default)]
        next: bool,
    },
    /// Print how this manager stands with its machines.
    Machines,
    /// End a pairing; with a machine, as it was named, at a manager. A machine may forget its entries with it.
    Release {
        machine: Option<String>,
        #[serde(default)]
        wipe: bool,
    },
    /// Do something with keys and values.
    Kv { place: KvPlace, ask: KvAsk },
    /// Print what there is and what changes: a node line, how pairs stand, and entries whose keys begin so.
    Watch { place: KvPlace, prefix: Hex },
    /// Make a link that opens the dashboard: for the account that asks alone, where a browser is started with it.
    Dashboard {
        #[serde(default)]
        own: bool,
    },
    /// Print what the node has counted.
    Metrics,
    /// Print what the node is doing.
    Status,
    /// Print that, and how the node was started.
    Doctor,
}

/// A change of who may read a path. Peers are as they were named.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Public,
    Secret,
    Allow(Vec<String>),
    Block(Vec<String>),
}

/// How far back a path is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Horizon {
    /// As far as there is anything.
    Unlimited,
    /// So many waves at least.
    Waves(u64),
}

/// Where a surf prints the rock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rocks {
    /// Nowhere.
    Never,
    /// Where there is no wave, and where the state has caught up.
    WhereNeeded,
    /// There, and with each update.
    Always,
}

/// The last line of an answer that is not complete.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// What went wrong. It is the first field: see [`FAILURE_BEGINS`].
    pub(crate) error: String,
    /// Which wave was refused, from 1; those before it were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wave: Option<u64>,
    /// Whether it may have been done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<Outcome>,
}

/// What became of a request that failed, where that is not that nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It may have been done.
    Unknown,
}

impl Failure {
    /// The error that a command ends with.
    pub(crate) fn into_error(self) -> ToolError {
        match self.outcome {
            Some(Outcome::Unknown) => ToolError::Unknown(self.error),
            None => ToolError::Said(self.error),
        }
    }
}

impl Request {
    /// Whether it changes something.
    pub(crate) fn writes(&self) -> bool {
        match self {
            Self::Give { .. }
            | Self::Open { .. }
            | Self::Quit { .. }
            | Self::Access { .. }
            | Self::Rule { .. }
            | Self::Wipe { .. }
            | Self::Kill { .. }
            | Self::Fork { .. }
            | Self::Copy { .. }
            | Self::Release { .. } => true,
            Self::Kv { ask, .. } => matches!(ask, KvAsk::Set { .. } | KvAsk::Del { .. }),
            // A claim says itself how far it has come, and what follows a source goes on following it.
            Self::Claim { .. }
            | Self::Claims { .. }
            | Self::Surf { .. }
            | Self::Read { .. }
            | Self::Machines
            | Self::Watch { .. }
            | Self::Dashboard { .. }
            | Self::Metrics
            | Self::Status
            | Self::Doctor => false,
        }
    }
}

/// The answer to a give, after each batch and at its end, and to an open, a fork and a copy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    /// The newest aeon.
    pub(crate) aeon: u64,
}

/// The answer to a quit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HasQuit {
    pub(crate) quit: bool,
}

/// A row of the table of metrics.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MetricLine {
    pub(crate) name: String,
    /// What it counts.
    pub(crate) about: String,
    /// How often it happened, or how many there are.
    pub(crate) count: u64,
    /// How long it took, where that is measured.
    #[serde(flatten)]
    pub(crate) times: Option<TimesLine>,
}

/// How long something took, in nanoseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TimesLine {
    pub(crate) total_ns: u64,
    pub(crate) median_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) longest_ns: u64,
}

impl From<Metric> for MetricLine {
    fn from(row: Metric) -> Self {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (count, times) = match row.value {
            MetricValue::Times(TimesSnapshot { count, total, median, p99, longest, .. }) => {
                let times =
                    TimesLine { total_ns: ns(total), median_ns: ns(median), p99_ns: ns(p99), longest_ns: ns(longest) };
                (count, Some(times))
            }
            MetricValue::Count(count) => (count, None),
            // A kind of a later version of the library.
            _ => (0, None),
        };
        Self { name: row.name.to_owned(), about: row.about.to_owned(), count, times }
    }
}

/// The answer to a question for the dashboard.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Dashboard {
    /// Where the HTTP interface is.
    pub(crate) http: String,
    /// The link that opens the dashboard once, within five minutes.
    pub(crate) link: String,
}

/// The answer to a kill.
#[derive(Debug, Serialize)]
pub(crate) struct IsKilled {
    pub(crate) killed: bool,
}

/// The answer to a wipe.
#[derive(Debug, Serialize)]
pub(crate) struct IsWiped {
    pub(crate) wiped: bool,
}

/// Who may read a path, as it is printed: `public`, `secret`, or the ids of those who may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Readers {
    Word(String),
    Peers(Vec<String>),
}

impl From<&Access<PeerId>> for Readers {
    fn from(access: &Access<PeerId>) -> Self {
        match access {
            Access::Public => Self::Word("public".to_owned()),
            Access::Only(peers) if peers.is_empty() => Self::Word("secret".to_owned()),
            Access::Only(peers) => Self::Peers(peers.iter().map(ToString::to_string).collect()),
        }
    }
}

/// The answer to a change of access.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PathAccess {
    pub(crate) path: String,
    pub(crate) access: Readers,
}

/// The answer to a rule, in the words of the command line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PathRule {
    pub(crate) path: String,
    /// `auto`, `never` or a number.
    pub(crate) frequency: serde_json::Value,
    /// A number; null where it is none.
    pub(crate) horizon: Option<u64>,
}

impl PathRule {
    pub(crate) fn new(path: &Path, rule: Rule) -> Self {
        let frequency = match rule.frequency {
            Frequency::Automatic => "auto".into(),
            Frequency::Every(waves) => waves.get().into(),
            Frequency::Never => "never".into(),
        };
        Self { path: path.to_string(), frequency, horizon: rule.horizon }
    }
}

/// The answer to a doctor's question.
#[derive(Debug, Serialize)]
pub(crate) struct Condition<'a> {
    pub(crate) status: Status,
    pub(crate) started: &'a Started,
    pub(crate) standing_still: &'a [StandingStill],
}

/// A path that could not be declared again when the node started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StandingStill {
    /// Which, and why.
    pub(crate) said: String,
    /// The tool does not know its lake: it is another program's.
    pub(crate) unknown_lake: bool,
}

/// How the node was started, as far as the doctor wants to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Started {
    /// Without public relays and look-up.
    pub(crate) offline: bool,
    /// Bound to one address.
    pub(crate) bind: Option<std::net::SocketAddr>,
}

/// One line of a surf.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Surfed {
    /// There is nothing there for us; it begins by itself.
    NotAvailable,
    /// The path has ended for us: it was killed, or is no longer open to us. It comes back by itself.
    Killed,
    /// The state changed.
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
    /// This is all that the source has. The aeon is the rock's own.
    CaughtUp {
        aeon: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rock: Option<Box<RawValue>>,
    },
    /// What is known of the source changed.
    Freshness {
        state: groundswell::FreshnessKind,
        #[serde(skip_serializing_if = "Option::is_none")]
        since_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// What is published there, where it is refused as another lake than was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        lake: Option<Name>,
    },
    /// The stream ends.
    Ended {
        reason: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}

/// A line of a surf, as the command looks at it.
#[derive(Debug, Deserialize)]
pub(crate) struct SeenLine<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: SeenKind,
    #[serde(default)]
    pub(crate) aeon: u64,
    #[serde(default, borrow)]
    pub(crate) wave: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(crate) rock: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) stale: bool,
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) since_ms: Option<u64>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<String>,
    #[serde(default)]
    pub(crate) lake: Option<Name>,
}

/// The kinds of lines of a surf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SeenKind {
    NotAvailable,
    Killed,
    Update,
    CaughtUp,
    Freshness,
    Ended,
}

/// One state, published or followed.
#[derive(Debug, Serialize)]
pub(crate) struct State {
    pub(crate) path: Path,
    /// The peer that it comes from, where it is followed.
    pub(crate) source: Option<String>,
    /// The publishing agent.
    pub(crate) agent: Name,
    pub(crate) lake: Builtin,
    /// Where it stands, where there is any state.
    pub(crate) aeon: Option<u64>,
    pub(crate) rock: Option<Box<RawValue>>,
    pub(crate) stale: bool,
    /// Whether the handler of the agent that follows it failed on it. The tool has none; a program
    /// that ran on this data directory may have.
    pub(crate) fail: bool,
    /// What it said then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fail_reason: Option<String>,
    /// Who may read it, where it is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Readers>,
}

/// A state, as the command looks at it.
#[derive(Debug, Deserialize)]
pub(crate) struct SeenState<'a> {
    pub(crate) path: String,
    pub(crate) source: Option<String>,
    pub(crate) agent: String,
    pub(crate) lake: Builtin,
    pub(crate) aeon: Option<u64>,
    #[serde(borrow)]
    pub(crate) rock: Option<&'a RawValue>,
    pub(crate) stale: bool,
    #[serde(default)]
    pub(crate) fail_reason: Option<String>,
    #[serde(default)]
    pub(crate) access: Option<Readers>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_begins_as_one() {
        let failure = serde_json::to_vec(&Failure { error: "no".into(), wave: None, outcome: None }).unwrap();
        assert!(failure.starts_with(FAILURE_BEGINS));
        for other in [serde_json::to_vec(&Surfed::NotAvailable), serde_json::to_vec(&Given { aeon: 1 })] {
            assert!(!other.unwrap().starts_with(FAILURE_BEGINS));
        }
    }

    #[test]
    fn rules_and_access_are_printed_in_the_words_of_the_command_line() {
        let path = Path::new("/a").unwrap();
        let rule =
            |frequency, horizon| serde_json::to_string(&PathRule::new(&path, Rule { frequency, horizon })).unwrap();
        assert_eq!(rule(Frequency::Automatic, Some(9)), r#"{"path":"/a","frequency":"auto","horizon":9}"#);
        let every = Frequency::Every(5.try_into().unwrap());
        assert_eq!(rule(every, None), r#"{"path":"/a","frequency":5,"horizon":null}"#);
        let readers = |access: &Access<PeerId>| serde_json::to_string(&Readers::from(access)).unwrap();
        assert_eq!(
            (readers(&Access::Public), readers(&Access::secret())),
            (r#""public""#.into(), r#""secret""#.into())
        );
        let id = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
        assert_eq!(readers(&Access::Only([id.parse().unwrap()].into())), format!("[\"{id}\"]"));
    }

    #[test]
    fn the_largest_request_fits() {
        let id = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
        let longest = Path::new(&format!("/{}", "\"".repeat(255)).repeat(16)).unwrap();
        let change = Change::Allow(vec![id.to_owned(); 4_096]);
        let request = Request::Access { path: longest, agent: Name::new("main").unwrap(), change };
        assert!(serde_json::to_vec(&request).unwrap().len() < MAX_REQUEST_BYTES);
    }

    #[test]
    fn a_surf_line_is_read_as_it_was_written() {
        let wave = serde_json::value::to_raw_value("a \"line\"").unwrap();
        let line =
            Surfed::Update { aeon: 7, wave: Some(wave), rock: None, live: true, stale: false, cursor: "c".into() };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"type":"update","aeon":7,"wave":"a \"line\"","live":true,"stale":false,"cursor":"c"}"#);
        let seen: SeenLine<'_> = serde_json::from_str(&text).unwrap();
        assert_eq!((seen.kind, seen.aeon), (SeenKind::Update, 7));
        assert_eq!(seen.wave.map(RawValue::get), Some(r#""a \"line\"""#));
    }
}
