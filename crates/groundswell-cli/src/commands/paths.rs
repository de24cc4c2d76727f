//! `open`, `quit`, `rule`, `wipe`, `kill`, `fork` and `copy`: what is done to whole paths.

use std::path::PathBuf;

use groundswell::{Name, Path};
use serde_json::Value;

use super::answer;
use crate::{
    args::{Copy, Fork, Kill, Quit, Rule, Wipe},
    builtin::Builtin,
    control::protocol::{Given, PathRule, Request},
    error::ToolError,
    output::Output,
};

/// Publishes the default rock, and prints the aeon.
pub(super) async fn open(
    path: Path,
    lake: Builtin,
    agent: Name,
    dir: PathBuf,
    output: &mut Output,
) -> Result<(), ToolError> {
    let request = Request::Open { path: path.clone(), lake, agent };
    answer(&dir, &request, output, |given: Given| format!("{path} is open at aeon {}", given.aeon)).await
}

/// Stops following a source.
pub(super) async fn quit(quit: Quit, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let path = quit.path.clone();
    let request = Request::Quit { peer: quit.peer.to_string(), path: quit.path, agent: quit.agent };
    answer(&dir, &request, output, |_: Value| format!("{path} is no longer followed")).await
}

/// Changes what is kept of a path, and prints the rule.
pub(super) async fn rule(rule: Rule, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (at, source) = (rule.of.at, rule.of.source.map(|peer| peer.to_string()));
    let (frequency, horizon) = (rule.frequency, rule.horizon);
    let request = Request::Rule { path: at.path, agent: at.agent, source, frequency, horizon };
    answer(&dir, &request, output, |rule: PathRule| in_words(&rule)).await
}

fn in_words(rule: &PathRule) -> String {
    let frequency = match rule.frequency.as_u64() {
        Some(1) => "a rock is made after every wave".to_owned(),
        Some(waves) => format!("a rock is made after every {waves} waves"),
        None if rule.frequency == "never" => "no rock is made".to_owned(),
        None => "a rock is made when the waves outweigh the last one".to_owned(),
    };
    let horizon = match rule.horizon {
        Some(waves) => format!("at least {waves} waves back are kept"),
        None => "everything since the oldest rock is kept".to_owned(),
    };
    format!("{}: {frequency}; {horizon}", rule.path)
}

/// Drops a path's history.
pub(super) async fn wipe(wipe: Wipe, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (at, source) = (wipe.of.at, wipe.of.source.map(|peer| peer.to_string()));
    let path = at.path.clone();
    let request = Request::Wipe { path: at.path, agent: at.agent, source };
    answer(&dir, &request, output, |_: Value| format!("{path} has its state alone, and no history")).await
}

/// Ends a path.
pub(super) async fn kill(kill: Kill, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let path = kill.at.path.clone();
    let request = Request::Kill { path: kill.at.path, agent: kill.at.agent };
    answer(&dir, &request, output, |_: Value| format!("{path} is killed")).await
}

/// Begins a path with another's state, and prints the aeon.
pub(super) async fn fork(fork: Fork, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (from, to) = (fork.from.clone(), fork.to.clone());
    let request = Request::Fork { from: fork.from, to: fork.to, agent: fork.agent };
    answer(&dir, &request, output, |given: Given| format!("{to} begins as {from} is, at aeon {}", given.aeon)).await
}

/// Begins a path with a source's state, and prints the aeon.
pub(super) async fn copy(copy: Copy, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (from, to) = (copy.from.clone(), copy.to.clone());
    let Copy { peer, agent, publisher, .. } = copy;
    let request = Request::Copy { peer: peer.to_string(), from: copy.from, agent, to: copy.to, publisher };
    let said = |given: Given| {
        format!("{to} begins as {from} is, at aeon {}; it is secret until `groundswell public {to}`", given.aeon)
    };
    answer(&dir, &request, output, said).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_a_sentence() {
        let rule = |frequency: Value, horizon| in_words(&PathRule { path: "/a".to_owned(), frequency, horizon });
        let auto = rule("auto".into(), Some(1_000));
        assert_eq!(auto, "/a: a rock is made when the waves outweigh the last one; at least 1000 waves back are kept");
        assert_eq!(
            rule(5.into(), None),
            "/a: a rock is made after every 5 waves; everything since the oldest rock is kept"
        );
        assert!(rule("never".into(), None).contains("no rock is made;"));
    }
}
