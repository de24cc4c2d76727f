//! `completions` and `man`: what shells and readers of manuals know of the tool, made from its own arguments.

use std::{fs, path::Path};

use clap_complete::Shell;
use serde_json::json;

use crate::{args, error::ToolError, output::Output};

/// Prints the completions of a shell.
pub(super) async fn completions(shell: Shell, output: &mut Output) -> Result<(), ToolError> {
    output.exact(&completions_of(shell)).await?;
    output.flush().await
}

fn completions_of(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "groundswell", &mut script);
    script
}

/// Writes a page for the tool and for each of its commands into a directory, which is made where it is missing.
pub(super) async fn man(dir: &Path, output: &mut Output) -> Result<(), ToolError> {
    let failed = |source| ToolError::File { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(args::command(), dir).map_err(failed)?;
    if output.is_json() {
        output.object(&json!({ "man": dir.display().to_string() })).await?;
    } else {
        output.line(format!("the pages are in {0}: `man {0}/groundswell.1`", dir.display())).await?;
    }
    output.flush().await
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// The names of all commands and their own, as in `kv-get`, without `help`.
    fn commands() -> Vec<Vec<String>> {
        fn below(command: &clap::Command, names: &[String], all: &mut Vec<Vec<String>>) {
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                let names = [names, &[inner.get_name().to_owned()]].concat();
                all.push(names.clone());
                below(inner, &names, all);
            }
        }
        let mut all = Vec::new();
        below(&args::command(), &[], &mut all);
        all
    }

    #[test]
    fn completions_name_every_command() {
        let commands = commands();
        assert!(commands.len() > 25, "{commands:?}");
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions_of(*shell)).unwrap();
            for name in commands.iter().filter_map(|names| names.last()) {
                assert!(script.contains(name.as_str()), "{name} for {shell}");
            }
        }
    }

    #[tokio::test]
    async fn every_command_has_a_page() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("man1");
        man(&dir, &mut Output::new(true)).await.unwrap();
        let main = fs::read_to_string(dir.join("groundswell.1")).unwrap();
        for names in commands() {
            let page = fs::read_to_string(dir.join(format!("groundswell-{}.1", names.join("-")))).unwrap();
            assert!(page.contains("SYNOPSIS"), "{names:?}");
            // In a page a hyphen is written as `\-`.
            let first = names[0].replace('-', "\\-");
            assert!(main.contains(&first), "{first}");
        }
    }
}
