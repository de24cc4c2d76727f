//! `read`: prints states.

use std::path::PathBuf;

use super::access::in_words;
use crate::{
    args::Read,
    builtin::Builtin,
    control::{
        client,
        protocol::{Request, SeenState},
    },
    error::ToolError,
    output::Output,
};

/// Prints the states that are asked for.
pub(super) async fn run(read: Read, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let request = Request::Read { paths: read.path, source: read.source.map(|peer| peer.to_string()) };
    let (_sender, mut answers) = client::ask(&dir, &request).await?;
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.json(line).await?;
        } else {
            let state = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
            print(&state, output).await?;
        }
    }
    output.flush().await
}

/// A head line, then the rock: a log line by line, anything else as JSON.
async fn print(state: &SeenState<'_>, output: &mut Output) -> Result<(), ToolError> {
    let from = match &state.source {
        None => format!("published by agent {}", state.agent),
        Some(peer) => format!("from agent {} on {peer}", state.agent),
    };
    let stale = if state.stale { ", stale" } else { "" };
    let access = state.access.as_ref().map(|access| format!(", {}", in_words(access))).unwrap_or_default();
    let fail = state.fail_reason.as_deref().map(|reason| format!(", its handler failed: {reason}")).unwrap_or_default();
    let head = match state.aeon {
        None => format!("{} ({}, {from}): no state yet", state.path, state.lake),
        Some(aeon) => format!("{} ({}, {from}) at aeon {aeon}{stale}{access}{fail}:", state.path, state.lake),
    };
    output.line(head).await?;
    let Some(rock) = state.rock else { return Ok(()) };
    if state.lake == Builtin::Log {
        let lines: Vec<String> =
            serde_json::from_str(rock.get()).map_err(|error| ToolError::Answer(error.to_string()))?;
        for line in lines {
            output.line(format!("  {line}")).await?;
        }
        return Ok(());
    }
    output.line(format!("  {rock}")).await
}
