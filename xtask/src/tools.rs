//! `cargo xtask tools`: installs what tests need beyond the toolchain, where it is missing and
//! can be installed. A test whose tool is missing all the same says so and why.

use std::path::Path;
use std::process::{Command, Stdio};

/// A Debian package, and how it is seen to be there.
type Package = (&'static str, fn() -> bool);

const PACKAGES: &[Package] = &[
    ("faketime", has_faketime),
    ("iproute2", || on_path("ip")),
    ("curl", || on_path("curl")),
    ("tmux", || on_path("tmux")),
    ("python3-venv", has_venv),
    ("procps", || on_path("pkill")),
    ("nodejs", || on_path("node")),
    ("npm", || on_path("npm")),
    ("chromium", || on_path("chromium")),
    ("chromium-driver", || on_path("chromedriver")),
    // What the dashboard is drawn with where it is there: the picture of the README is.
    ("fonts-inter", || Path::new("/usr/share/fonts/opentype/inter").exists()),
];

/// What the tests of the page in a browser take from npm: axe-core, by its lock file.
const BROWSER_TESTS: &str = "crates/groundswell-web/dashboard/tests/browser";

/// Where schemathesis is, which asks the HTTP interface for all that its description says; and what it is.
const SCHEMATHESIS: &str = "target/tools/schemathesis";
const SCHEMATHESIS_PACKAGES: &str = "xtask/schemathesis.txt";

/// Installs what is missing. Being unable to is no failure: it is said.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    install_packages();
    let place = root.join(BROWSER_TESTS);
    if on_path("npm") && !place.join("node_modules/axe-core/axe.min.js").exists() {
        println!("-- {BROWSER_TESTS}: npm ci");
        let done = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(place).status();
        if !done.is_ok_and(|status| status.success()) {
            println!("cannot install axe-core: the test that needs it will say that it is skipped");
        }
    }
    if !install_schemathesis(root) {
        println!("cannot install schemathesis: the test that needs it will say that it is skipped");
    }
    Ok(())
}

/// Installs schemathesis in an environment of its own, unless these versions are there. Whether they are.
fn install_schemathesis(root: &Path) -> bool {
    let (place, wanted) = (root.join(SCHEMATHESIS), root.join(SCHEMATHESIS_PACKAGES));
    let (installed, wanted_text) = (place.join("installed.txt"), std::fs::read_to_string(&wanted).unwrap_or_default());
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted_text) {
        return true;
    }
    println!("-- {SCHEMATHESIS}: pip install");
    let ran = |command: &mut Command| command.stdin(Stdio::null()).status().is_ok_and(|status| status.success());
    ran(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&place))
        && ran(Command::new(place.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&wanted))
        && std::fs::write(&installed, wanted_text).is_ok()
}

/// Installs the missing packages with apt-get.
fn install_packages() {
    let missing: Vec<&str> = PACKAGES.iter().filter(|(_, there)| !there()).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        println!("every package is installed");
        return;
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
        return;
    }
    println!("cannot install them (not root, or no apt-get): tests that need them will say that they are skipped");
}

/// Whether there is such a program; some are not on the path of everyone.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.into_iter().any(|place| place.join(program).exists())
}

fn has_venv() -> bool {
    let mut command = Command::new("python3");
    command.args(["-c", "import ensurepip, venv"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn has_faketime() -> bool {
    let Ok(places) = std::fs::read_dir("/usr/lib") else { return false };
    places.flatten().any(|place| place.path().join("faketime/libfaketime.so.1").exists())
}
