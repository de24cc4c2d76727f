//! `cargo xtask tools`: installs what tests need beyond the toolchain, where it is missing and
//! can be installed. A test whose tool is missing all the same says so and why.

use std::path::Path;
use std::process::{Command, Stdio};

/// A Debian package, and how it is seen to be there.
type Package = (&'static str, fn() -> bool);

const PACKAGES: &[Package] = &[("faketime", has_faketime)];

/// Installs the missing packages with apt-get. Being unable to is no failure: it is said.
pub(crate) fn run(_root: &Path) -> Result<(), String> {
    let missing: Vec<&str> = PACKAGES.iter().filter(|(_, there)| !there()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        println!("everything is installed");
        return Ok(());
    }
    println!("installing {}", missing.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(&missing);
    // The lists of a fresh machine are empty until they are fetched.
    if apt(&install) || (apt(&["update"]) && apt(&install)) {
        return Ok(());
    }
    println!("cannot install them (not root, or no apt-get): tests that need them will say that they are skipped");
    Ok(())
}

fn has_faketime() -> bool {
    let Ok(places) = std::fs::read_dir("/usr/lib") else { return false };
    places.flatten().any(|place| place.path().join("faketime/libfaketime.so.1").exists())
}
