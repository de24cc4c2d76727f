//! docs/http.md: its commands do what stands below them, with curl and a shell alone.

use std::process::{Command, Stdio};

use crate::common::{machine, manager, within};

const PAGE: &str = include_str!("../../../../docs/http.md");

/// What separates the outputs of two blocks.
const MARK: &str = "--- the end of a block ---";

/// The blocks of the page: commands, and what they are to print.
fn blocks() -> Vec<(String, Option<String>)> {
    let mut blocks: Vec<(String, Option<String>)> = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (kind, blocks.last_mut()) {
            ("sh", _) => blocks.push((text.join("\n"), None)),
            ("", Some((_, printed @ None))) => *printed = Some(text.join("\n")),
            other => panic!("a block that is neither commands nor what they print: {other:?}"),
        }
    }
    blocks
}

/// Whether a text is this pattern, in which `…` stands for anything on one line.
fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = text;
    let parts: Vec<&str> = pattern.split('…').collect();
    for (number, part) in parts.iter().enumerate() {
        let found = match number {
            0 => rest.starts_with(part).then_some(0),
            _ if number + 1 == parts.len() => {
                rest.len().checked_sub(part.len()).filter(|at| rest.get(*at..) == Some(*part))
            }
            _ => rest.find(part),
        };
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    parts.len() > 1 || rest.is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_do_what_it_says() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("not shown: there is no curl on this device");
        return;
    }
    let (manager, machine) = (manager().await, machine().await);
    let blocks = blocks();
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    let script: String = blocks.iter().map(|(commands, _)| format!("{commands}\necho '{MARK}'\n")).collect();
    let url = |up: &crate::common::Up| format!("http://{}", up.http.addr);
    let mut shell = Command::new("bash");
    shell.args(["-euc", &script]).env("NODE", url(&manager)).env("MACHINE_NODE", url(&machine));
    shell.env("DATA", manager.dir.path()).env("MACHINE_DATA", machine.dir.path());
    let ran = tokio::task::spawn_blocking(move || shell.output());
    let ran = within("the commands", ran).await.unwrap().unwrap();
    let (said, complained) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(ran.status.success(), "{complained}\n{said}");
    let mut outputs = said.split(MARK);
    for (commands, expected) in blocks {
        let output = outputs.next().unwrap_or_else(|| panic!("nothing came of\n{commands}")).trim();
        let Some(expected) = expected else { continue };
        let (expected, output): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), output.lines().collect());
        let alike = expected.len() == output.len()
            && expected.iter().zip(&output).all(|(expected, output)| matches(expected, output));
        assert!(alike, "of\n{commands}\nthe page says\n{}\nand it is\n{}", expected.join("\n"), output.join("\n"));
    }
    manager.stop().await;
    machine.stop().await;
}

#[test]
fn a_pattern_matches_what_it_leaves_open_and_nothing_else() {
    for (pattern, text) in [("a", "a"), ("a…c", "abc"), ("a…", "a"), ("…", ""), ("a…b…c", "a1b2b3c")] {
        assert!(matches(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("a", "ab"), ("a…c", "ab"), ("a…c", "xabc"), ("a…b", "ab1"), ("", "a")] {
        assert!(!matches(pattern, text), "{pattern} {text}");
    }
}
