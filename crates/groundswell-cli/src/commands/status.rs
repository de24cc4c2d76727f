//! `status`: what the node is doing.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{
    control::{client, protocol::Request},
    error::ToolError,
    output::Output,
};

/// How much of a peer's id is shown to people.
const SHOWN_ID_BYTES: usize = 10;

/// A node's status, as this command looks at it.
#[derive(Debug, Deserialize)]
struct Seen {
    id: String,
    ticket: String,
    peers: Vec<String>,
    publications: Vec<SeenTide>,
    replicas: Vec<SeenTide>,
}

#[derive(Debug, Deserialize)]
struct SeenTide {
    peer: String,
    agent: String,
    path: String,
    lake: Option<String>,
    aeon: Option<u64>,
    kept_waves: u64,
    kept_rocks: usize,
    freshness: String,
    detail: Option<String>,
}

/// Prints the status.
pub(super) async fn run(dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (_sender, mut answers) = client::ask(&dir, &Request::Status).await?;
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.line(line).await?;
        } else {
            let seen: Seen = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
            output.line(for_people(&seen)).await?;
        }
    }
    output.flush().await
}

fn for_people(seen: &Seen) -> String {
    let mut lines = vec![format!("id      {}", seen.id), format!("ticket  {}", seen.ticket)];
    lines.push(match seen.peers.as_slice() {
        [] => "peers   none connected".to_owned(),
        peers => format!("peers   {}", peers.join("\n        ")),
    });
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
    lines.join("\n")
}

fn row(tide: &SeenTide, own: &str) -> [String; 7] {
    let none = || "-".to_owned();
    let peer = if tide.peer == own { "here" } else { tide.peer.get(..SHOWN_ID_BYTES).unwrap_or(&tide.peer) };
    let detail = tide.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    [
        tide.path.clone(),
        tide.lake.clone().unwrap_or_else(none),
        tide.aeon.map_or_else(none, |aeon| aeon.to_string()),
        tide.agent.clone(),
        peer.to_owned(),
        format!("{} waves, {} rocks", tide.kept_waves, tide.kept_rocks),
        format!("{}{detail}", tide.freshness.replace('_', " ")),
    ]
}

/// Rows with their columns under each other.
fn table(rows: &[[String; 7]]) -> Vec<String> {
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 7]| {
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
            freshness: "not_available".to_owned(),
            detail: None,
        };
        let seen = Seen {
            id: "me".to_owned(),
            ticket: "t".to_owned(),
            peers: vec![],
            publications: vec![tide("me", "/a"), tide("me", "/long/path")],
            replicas: vec![],
        };
        let text = for_people(&seen);
        assert!(text.contains("  /a          log   3     main   here  3 waves, 1 rocks  not available\n"), "{text}");
        assert!(text.ends_with("follows nothing"));
    }
}
