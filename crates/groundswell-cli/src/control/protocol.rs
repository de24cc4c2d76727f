//! The control protocol: one request a connection, as one line of JSON, and answer lines.
//!
//! Answer lines are the very lines that the command prints with `--json`, so that nothing has to
//! be taken apart on the way; after them comes one last line, [`DONE`] or a [`Failure`]. After
//! a [`Request::Give`] the client sends its waves, each as a line that is a JSON string, then
//! closes its sending half. The other requests are followed by nothing, and a client that closes
//! its sending half after one of them has gone.

use groundswell::{Name, Path, Pattern};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::builtin::Builtin;

/// The last line of an answer that is complete.
pub(crate) const DONE: &[u8] = br#"{"done":true}"#;

/// How a [`Failure`] begins, and no other answer does.
pub(crate) const FAILURE_BEGINS: &[u8] = br#"{"error":"#;

/// The most bytes of a request line. The longest path has less than 4 KiB, a ticket with all
/// its addresses less than 1 KiB, and in JSON a byte takes up to six.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// The most bytes of a line with a wave: the largest wave, as text that escapes each byte.
pub(crate) const MAX_WAVE_LINE_BYTES: usize = 6 * MAX_WAVE_TEXT_BYTES + 16;

/// The most bytes of a wave as text (1 MiB), as of an encoded wave.
pub(crate) const MAX_WAVE_TEXT_BYTES: usize = 1024 * 1024;

/// What a command asks of the node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Give the waves that follow.
    Give { path: Path, lake: Builtin, agent: Name },
    /// Publish the default rock.
    Open { path: Path, lake: Builtin, agent: Name },
    /// Follow a source and print what comes. `peer` is a ticket or an id.
    Surf { peer: String, path: Path, lake: Builtin, agent: Name, rocks: Rocks, from: Option<String> },
    /// Stop following a source.
    Quit { peer: String, path: Path, agent: Name },
    /// Print states.
    Read { paths: Option<Pattern>, source: Option<String> },
    /// Print what the node is doing.
    Status,
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
}

/// The answer to a give, after each batch and at its end, and to an open.
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

/// One line of a surf.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Surfed {
    /// There is nothing there for us; it begins by itself.
    NotAvailable,
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
}

/// The kinds of lines of a surf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SeenKind {
    NotAvailable,
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
    /// Whether the agent's own handler failed on it. The tool has none.
    pub(crate) fail: bool,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_begins_as_one() {
        let failure = serde_json::to_vec(&Failure { error: "no".into(), wave: None }).unwrap();
        assert!(failure.starts_with(FAILURE_BEGINS));
        for other in [serde_json::to_vec(&Surfed::NotAvailable), serde_json::to_vec(&Given { aeon: 1 })] {
            assert!(!other.unwrap().starts_with(FAILURE_BEGINS));
        }
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
