//! `cargo xtask web`: the tests of what is written for browsers and runs without one: the dashboard's logic, and the client
//! in TypeScript. They need Node.js, which `tools` installs. The page in a browser is tested by `crates/groundswell-cli/tests/process/browser*.rs`.

use std::path::Path;
use std::process::Command;

use crate::{test::finish, tools::on_path};

/// Where, and which command. They install what their lock files name, from the npm registry.
const STEPS: &[(&str, &[&str])] = &[
    ("crates/groundswell-web/dashboard", &["node", "--test", "tests/"]),
    ("clients/typescript", &["npm", "ci", "--no-audit", "--no-fund"]),
    ("clients/typescript", &["npm", "test"]),
];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    if !on_path("node") || !on_path("npm") {
        println!(
            "SKIPPED: Node.js and npm are not installed, and could not be: nothing of the page and the client was run"
        );
        return Ok(());
    }
    for (place, command) in STEPS {
        println!("-- {place}: {}", command.join(" "));
        let (program, arguments) = command.split_first().ok_or("an empty command")?;
        finish(Command::new(program).args(arguments).current_dir(root.join(place)))?;
    }
    Ok(())
}
