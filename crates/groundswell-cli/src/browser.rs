//! The person's browser, where there is one that a link can be opened in.

use std::{
    env,
    process::{Command, Stdio},
};

use crate::output;

/// Whether a browser can be opened: standard output is a terminal, and the session has a screen.
pub(crate) fn is_there() -> bool {
    output::is_terminal() && has_screen()
}

/// Opens a link in the browser of the person at the terminal; whether there was one to open it in. The link has to be for
/// this account alone: others can read it in the list of processes.
pub(crate) fn open(link: &str) -> bool {
    is_there() && start(link)
}

/// What opens a link on this system.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

fn has_screen() -> bool {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

fn start(link: &str) -> bool {
    let started =
        Command::new(OPENER).arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    // It may be the browser itself, and go on when this command has ended.
    started.is_ok()
}
