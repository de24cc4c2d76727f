//! `cargo xtask screenshot`: takes the picture of the dashboard that the README shows, of the demo as it runs for a minute.

use std::path::Path;
use std::time::SystemTime;

use crate::cargo;
use crate::test::finish;

/// Where the picture is.
const PICTURE: &str = "docs/dashboard.png";

/// The test that looks at the demo takes it; no argument holds a space.
const ARGUMENTS: &str =
    "test --release --locked -p groundswell-cli --test process -- browser_look::the_demo_can_be_seen --nocapture";

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let root = root.canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
    let picture = root.join(PICTURE);
    let begun = SystemTime::now();
    let mut command = cargo();
    command.args(ARGUMENTS.split_whitespace()).env("GROUNDSWELL_PICTURE", &picture);
    finish(command.current_dir(&root))?;
    let written = picture.metadata().and_then(|file| file.modified());
    if written.is_ok_and(|written| written >= begun) {
        return Ok(());
    }
    Err(format!("{PICTURE} is as it was: the test was skipped, and says above what is missing"))
}
