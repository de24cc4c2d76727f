//! `status`: what the node is doing.

use std::path::PathBuf;

use serde::Deserialize;

use super::machines::{now_ms, status_line};
use crate::{
    control::{
        client,
        protocol::{ClaimsLine, Pair, Request},
    },
    error::ToolError,
    output::Output,
    peer_name::shown,
};

/// A node's status, as this command and the doctor look at it.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) ticket: String,
    pub(super) peers: Vec<String>,
    pub(super) publications: Vec<SeenTide>,
    pub(super) replicas: Vec<SeenTide>,
    pub(super) metrics: SeenMetrics,
    #[serde(default)]
    pub(super) streams: u64,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    connections: SeenConnections,
    /// How a machine stands with its manager.
    #[serde(default)]
    pub(super) manager: Option<Pair>,
    /// How a manager stands with its machines.
    #[serde(default)]
    pub(super) machines: Option<Vec<Pair>>,
    /// Whether a machine takes claims.
    #[serde(default)]
    pub(super) claims: Option<ClaimsLine>,
}

#[derive(Debug, Deserialize)]
pub(super) struct SeenTide {
    pub(super) peer: String,
    agent: String,
    pub(super) path: String,
    lake: Option<String>,
    pub(super) aeon: Option<u64>,
    kept_waves: u64,
    kept_rocks: usize,
    public: Option<bool>,
    allowed: Option<Vec<String>>,
    pub(super) freshness: String,
    pub(super) detail: Option<String>,
    pub(super) offline_since_ms: Option<u64>,
}

/// Who is connected.
#[derive(Debug, Default, Deserialize)]
struct SeenConnections {
    handshakes: u64,
    strangers: u64,
    followers: u64,
    known: u64,
}

/// The counters that the doctor and this command look at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SeenMetrics {
    #[serde(default)]
    handshakes_given_up: u64,
    #[serde(default)]
    addresses_validated: u64,
    #[serde(default)]
    newcomers_put_off: u64,
    #[serde(default)]
    connections_refused: u64,
    #[serde(default)]
    strangers_evicted: u64,
    #[serde(default)]
    followers_evicted: u64,
    pub(super) replicas_now: u64,
    pub(super) commit_failures: u64,
    /// The same for keys; an earlier node does not say it.
    #[serde(default)]
    pub(super) key_commit_failures: u64,
}

/// Prints the status.
pub(super) async fn run(dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (_sender, mut answers) = client::ask(&dir, &Request::Status).await?;
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.json(line).await?;
        } else {
            let seen: Seen = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
            output.lines(for_people(&seen)).await?;
        }
    }
    output.flush().await
}

fn for_people(seen: &Seen) -> Vec<String> {
    let mut lines = vec![format!("id      {}", seen.id), format!("ticket  {}", seen.ticket)];
    lines.push(match seen.peers.as_slice() {
        [] => "peers   none connected".to_owned(),
        [first, ..] => format!("peers   {first}"),
    });
    lines.extend(seen.peers.iter().skip(1).map(|peer| format!("        {peer}")));
    lines.push(format!("private {}", if seen.private { "yes: takes only peers that it knows" } else { "no" }));
    lines.push(format!("strangers {}", strangers(seen)));
    let now = now_ms();
    if let Some(pair) = &seen.manager {
        lines.push(format!("manager {}", status_line(pair, now)));
    }
    if let Some(claims) = &seen.claims {
        lines.push(format!("claims  {}", claims_line(claims)));
    }
    if let Some(machines) = &seen.machines {
        lines.push(if machines.is_empty() { "machines none".to_owned() } else { "machines:".to_owned() });
        lines.extend(machines.iter().map(|pair| format!("  {}", status_line(pair, now))));
    }
    let heading = ["PATH", "LAKE", "AEON", "AGENT", "PEER", "KEPT", "STATE"].map(str::to_owned);
    for (title, tides) in [("publishes", &seen.publications), ("follows", &seen.replicas)] {
        if tides.is_empty() {
            lines.push(format!("{title} nothing"));
            continue;
        }
        lines.push(format!("{title}:"));
        let mut rows = vec![heading.clone()];
        rows.extend(tides.iter().map(|tide| row(tide, &seen.id)));
        lines.extend(table(&rows));
    }
    lines
}

/// Whether a machine takes claims, and who has claimed it in vain.
pub(super) fn claims_line(claims: &ClaimsLine) -> String {
    let seconds = |ms: u64| ms.div_ceil(1_000);
    let open = match (claims.open, claims.open_for_ms) {
        (true, Some(ms)) => format!("taken for {} s", seconds(ms)),
        (true, None) => "taken while somebody waits for one".to_owned(),
        (false, _) => "not taken: `groundswell claims` opens this machine".to_owned(),
    };
    let ticket = claims.secret_for_ms.map(|ms| format!("with its one-time ticket for {} s", seconds(ms)));
    [Some(open), ticket, claims.by_whom()].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Who is connected that the node does not know, and what was refused to such peers since it was started.
fn strangers(seen: &Seen) -> String {
    let SeenConnections { handshakes, strangers, followers, known } = seen.connections;
    let SeenMetrics { handshakes_given_up, addresses_validated, newcomers_put_off, .. } = seen.metrics;
    let SeenMetrics { connections_refused, strangers_evicted, followers_evicted, .. } = seen.metrics;
    let mut line = format!("{strangers}, beside {followers} followers and {known} connections of known peers");
    let deeds = [
        (handshakes, "handshakes under way"),
        (handshakes_given_up, "handshakes given up"),
        (addresses_validated, "addresses validated"),
        (newcomers_put_off, "packets of newcomers put off"),
        (connections_refused, "connections refused"),
        (strangers_evicted, "strangers closed to make room"),
        (followers_evicted, "followers closed to make room"),
    ];
    for (count, what) in deeds.into_iter().filter(|(count, _)| *count > 0) {
        line.push_str(&format!("; {count} {what}"));
    }
    line
}

fn row(tide: &SeenTide, own: &str) -> [String; 7] {
    let none = || "-".to_owned();
    let peer = if tide.peer == own { "here" } else { shown(&tide.peer) };
    let detail = tide.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    [
        tide.path.clone(),
        tide.lake.clone().unwrap_or_else(none),
        tide.aeon.map_or_else(none, |aeon| aeon.to_string()),
        tide.agent.clone(),
        peer.to_owned(),
        format!("{} waves, {} rocks", tide.kept_waves, tide.kept_rocks),
        format!("{}{detail}{}", tide.freshness.replace('_', " "), access(tide)),
    ]
}

/// Who may read it, where not everyone may.
fn access(tide: &SeenTide) -> String {
    match (tide.public, tide.allowed.as_deref()) {
        (Some(false), Some([])) => ", secret".to_owned(),
        (Some(false), Some(peers)) => {
            format!(", open to {}", peers.iter().map(|peer| shown(peer)).collect::<Vec<_>>().join(" "))
        }
        _ => String::new(),
    }
}

/// Rows with their columns under each other.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> Vec<String> {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_a_table() {
        let tide = |peer: &str, path: &str| SeenTide {
            peer: peer.to_owned(),
            agent: "main".to_owned(),
            path: path.to_owned(),
            lake: Some("log".to_owned()),
            aeon: Some(3),
            kept_waves: 3,
            kept_rocks: 1,
            public: Some(false),
            allowed: Some(vec![]),
            freshness: "not_available".to_owned(),
            detail: None,
            offline_since_ms: None,
        };
        let seen = Seen {
            id: "me".to_owned(),
            ticket: "t".to_owned(),
            peers: vec![],
            publications: vec![tide("me", "/a"), tide("me", "/long/path")],
            replicas: vec![],
            metrics: SeenMetrics::default(),
            streams: 0,
            claims: None,
            private: false,
            connections: SeenConnections::default(),
            manager: None,
            machines: Some(vec![Pair {
                machine: Some("0123456789ab".to_owned()),
                link: "online".to_owned(),
                ..Pair::default()
            }]),
        };
        let text = for_people(&seen).join("\n");
        assert!(
            text.contains("  /a          log   3     main   here  3 waves, 1 rocks  not available, secret\n"),
            "{text}"
        );
        assert!(text.contains("\nmachines:\n  0123456789  online, "), "{text}");
        assert!(text.ends_with("follows nothing"));
    }
}
