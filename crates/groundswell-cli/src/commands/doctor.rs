//! `doctor`: looks at everything that a node depends on, and says what to do where something is wrong.
//!
//! What is found is judged in `doctor/checks.rs`; here it is asked for: of the node where one runs,
//! otherwise of its data directory.

pub(super) mod checks;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use groundswell::{Node, OpenError};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::status::Seen;
use crate::{
    control::{
        client,
        protocol::{Request, StandingStill, Started},
    },
    error::ToolError,
    output::Output,
};

/// How long a node may take to answer before it counts as one that does not.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// How it stands with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// It may be meant so, or pass.
    Warn,
    /// Something does not work, or is about to stop working.
    Problem,
}

/// What was found of one thing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, said: impl Into<String>) -> Self {
        Self { check, state: State::Ok, said: said.into(), todo: None }
    }

    fn warn(check: &'static str, said: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, state: State::Warn, said: said.into(), todo: Some(todo.into()) }
    }

    fn problem(check: &'static str, said: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { check, state: State::Problem, said: said.into(), todo: Some(todo.into()) }
    }

    /// One line for people.
    fn line(&self) -> String {
        let state = match self.state {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Problem => "PROBLEM",
        };
        let todo = self.todo.as_deref().map(|todo| format!(" -> {todo}")).unwrap_or_default();
        format!("{state:8} {:10} {}{todo}", self.check, self.said)
    }
}

/// What a node says of itself.
#[derive(Debug, Deserialize)]
struct Condition {
    status: Seen,
    started: Started,
    standing_still: Vec<StandingStill>,
}

/// Checks everything, and prints a line for each thing.
pub(super) async fn run(dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let mut findings = vec![checks::clock(SystemTime::now(), newest_write(&dir)), disk(&dir)];
    match ask(&dir).await {
        Ok(condition) => findings.extend(checks::running(&condition, SystemTime::now())),
        Err(ToolError::NoNode { .. }) => findings.extend(at_rest(&dir).await),
        Err(error @ ToolError::TakesNoCommands { .. }) => findings.push(takes_no_commands(&error)),
        Err(error) => {
            let todo = "stop it, by force if need be, and start it again: what it acknowledged is there";
            findings.push(Finding::problem("node", error.to_string(), todo));
        }
    }
    for finding in &findings {
        if output.is_json() {
            output.object(finding).await?;
        } else {
            output.line(finding.line()).await?;
        }
    }
    output.flush().await?;
    match findings.iter().filter(|finding| finding.state == State::Problem).count() {
        0 => Ok(()),
        1 => Err(ToolError::Problems("1 problem".to_owned())),
        many => Err(ToolError::Problems(format!("{many} problems"))),
    }
}

/// Asks the node how it is.
async fn ask(dir: &Path) -> Result<Condition, ToolError> {
    let asked = async {
        let (_sender, mut answers) = client::ask(dir, &Request::Doctor).await?;
        let Some(line) = answers.next_line().await? else { return Err(ToolError::Lost) };
        serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))
    };
    let silent = || ToolError::Said(format!("the node does not answer within {} s", ANSWER_PATIENCE.as_secs()));
    timeout(ANSWER_PATIENCE, asked).await.unwrap_or_else(|_| Err(silent()))
}

/// Looks at a data directory whose node does not run.
async fn at_rest(dir: &Path) -> Vec<Finding> {
    let start = format!("start it with `groundswell up --data {}`", dir.display());
    let storage = match Node::builder().data_dir(dir).inspect().await {
        Ok(Some(inspected)) => return checks::at_rest(&inspected, &start),
        Ok(None) => Finding::ok("storage", format!("nothing is stored in {} yet", dir.display())),
        Err(error @ OpenError::InUse { .. }) => {
            return vec![takes_no_commands(&error)];
        }
        Err(error) => Finding::problem("storage", error.to_string(), "do that before the node is started"),
    };
    vec![storage, Finding::warn("node", "no node runs here", start)]
}

/// A data directory that a process holds, on whose socket nobody answers.
fn takes_no_commands(error: &dyn std::fmt::Display) -> Finding {
    let todo = "if it is a program of yours, all is well; a `groundswell up` that goes on like this should be stopped and started again";
    Finding::warn("node", format!("{error}; is it starting, or stopping (10 s at most)?"), todo)
}

/// When anything in a data directory was written last.
fn newest_write(dir: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries.filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

/// The free space where the data directory is, or is going to be.
fn disk(dir: &Path) -> Finding {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let there = absolute.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(space) => checks::disk(space.f_bavail.saturating_mul(space.f_frsize)),
        Err(error) => {
            let said = format!("how much space is free at {} cannot be told: {error}", there.display());
            Finding::warn("disk", said, "see that this user may read it")
        }
    }
}
