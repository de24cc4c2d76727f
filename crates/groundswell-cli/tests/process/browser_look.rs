//! How the dashboard looks and for whom: the demo's, of which `cargo xtask screenshot` takes the picture of the README; the
//! checks of axe-core in light, in dark and on a phone; and the keyboard alone.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Instant,
};

use crate::common::browser::{Browser, DELETE, DESKTOP, DOWN, ENTER, ESCAPE, PHONE, TAB};
use crate::common::{Lines, PATIENCE, World, kv, signal, until, wait};
use serde_json::json;

/// Set by `cargo xtask screenshot`: where the picture of the README goes.
const PICTURE: &str = "GROUNDSWELL_PICTURE";
/// The most that it may have, in bytes: everyone who clones the repository gets it.
const PICTURE_BYTES: u64 = 300_000;
/// How much of the plots is to be drawn before it is taken, in milliseconds.
const DRAWN_MS: u32 = 50_000;

/// The demo, and the link of its dashboard. It is interrupted when this is dropped.
struct Demo {
    child: Child,
    link: String,
    /// What it says goes on being read.
    _lines: Lines,
}

impl Demo {
    fn start() -> Self {
        let mut command = crate::common::tool();
        command.args(["demo", "--json", "--machines", "3", "--for", "600"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = Lines::of(child.stdout.take().unwrap());
        let deadline = Instant::now() + PATIENCE;
        let link = loop {
            let line = lines.next_within(deadline - Instant::now()).expect("the link of the dashboard");
            if line["type"] == "dashboard" {
                break line["link"].as_str().unwrap().to_owned();
            }
        };
        Self { child, link, _lines: lines }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It removes its data when it ends by itself.
        signal("INT", self.child.id());
        wait(&mut self.child);
    }
}

#[test]
fn the_demo_can_be_seen() {
    let Some(browser) = Browser::start("demo") else { return };
    let demo = Demo::start();
    browser.scheme("light");
    browser.goto(&demo.link);
    browser.live();
    browser.until("document.querySelectorAll('#machines-body tr').length === 3");
    browser.until("document.querySelectorAll('#replicas-body tr').length === 6");
    browser.run(
        "[...document.querySelectorAll('#replicas-body button')].find((one) => one.textContent === '/sales').click()",
    );
    browser.sees("#waves li", " for ");
    browser.sees("#rock-value li", " for ");
    browser.sees("#entries-body .key", "balance");
    // One of the machines is switched off for a moment, and comes back.
    browser.until("document.querySelectorAll('#machines-body [data-tone=good]').length === 6");
    browser.until("Number(document.querySelector('#events-now').textContent) > 5");
    let wanted = env::var_os(PICTURE).map(PathBuf::from);
    if wanted.is_some() {
        browser.until(&format!("performance.now() > {DRAWN_MS}"));
        browser.until("!document.querySelector('#notice').textContent");
    }
    browser.run("document.activeElement.blur(); scrollTo(0, 0)");
    browser.size((DESKTOP.0, 940));
    browser.run("scrollTo(0, 0)");
    let shown = |name: &str| Browser::pictures().join(format!("{name}.png"));
    browser.picture(&shown("demo"));
    if let Some(path) = wanted {
        fs::copy(shown("demo"), &path).unwrap();
        println!("the picture is in {}", path.display());
    }
    browser.scheme("dark");
    browser.picture(&shown("demo-dark"));
    browser.size((PHONE.0, 2800));
    browser.picture(&shown("demo-phone"));
    assert!(browser.holds("document.documentElement.scrollWidth <= 390"), "a phone has to scroll sideways");
    assert!(fs::metadata(shown("demo")).unwrap().len() < PICTURE_BYTES);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// axe-core, which npm has put there; `cargo xtask tools` does that.
fn axe() -> Option<String> {
    let place = "../groundswell-web/dashboard/tests/browser/node_modules/axe-core/axe.min.js";
    let found = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(place));
    if found.is_err() {
        println!("skipped: axe-core is not installed; `cargo xtask test` installs it where npm can");
    }
    found.ok()
}

/// What axe-core finds wrong with the page as it is.
#[track_caller]
fn accessible(browser: &Browser, axe: &str, state: &str) {
    // Through the driver, since the page's policy lets nothing else in.
    browser.attempt(axe, Vec::new()).unwrap();
    let found = browser.run(
        "return axe.run(document, { resultTypes: ['violations'] }).then(({ violations, passes }) => ({
            passed: passes.length,
            wrong: violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.slice(0, 3).map(({ html }) => html).join(' | ')}`),
        }))",
    );
    assert_eq!(found["wrong"], json!([]), "{state}");
    assert!(found["passed"].as_u64().unwrap() > 10, "axe-core has looked at something: {found}");
}

#[test]
fn axe_core_finds_nothing_wrong_in_light_in_dark_and_on_a_phone() {
    let Some(axe) = axe() else { return };
    let Some(browser) = Browser::start("axe") else { return };
    let world = World::new();
    let (mut machine, mut manager) = world.pair();
    machine.kv(None, &["set", "stock/cola", "12"]).well();
    machine.kv(None, &["set", "--hex", "ff00", "fe"]).well();
    manager.run(&["give", "/till", "1200", "--lake", "sum"]).well();
    manager.run(&["give", "/log", "a line", "--lake", "log"]).well();
    manager
        .run(&["give", "/menu", r#"[{"op":"add","path":"","value":{"cola":{"price":250}}}]"#, "--lake", "json"])
        .well();
    browser.open(&manager);
    browser.sees_entry("stock/cola", "12");
    for scheme in ["light", "dark"] {
        for size in [DESKTOP, PHONE] {
            browser.scheme(scheme);
            browser.size(size);
            accessible(&browser, &axe, &format!("{scheme}, {size:?}"));
            assert!(browser.holds(&format!("document.documentElement.scrollWidth <= {}", size.0)), "{size:?}");
        }
    }
    browser.size(DESKTOP);
    for path in ["/till", "/log", "/menu"] {
        browser.run(&format!(
            "[...document.querySelectorAll('#publications-body button')].find((one) => one.textContent === '{path}').click()"
        ));
        browser.sees("#rock-title", path);
        browser.until("document.querySelector('#rock-value').textContent !== ''");
        accessible(&browser, &axe, path);
    }
    browser.click("#entry-new");
    accessible(&browser, &axe, "a new entry");
    browser.keys([ESCAPE]);
    browser.click("#machines-body button.small");
    accessible(&browser, &axe, "the question before a release");
    browser.keys([ESCAPE]);
    let other = world.machine("other");
    let _open = kv::Talk::begin(&other, &json!({"request": "claims"}));
    kv::until_open(&other);
    browser.type_into("#ticket", &other.ticket);
    browser.keys([ENTER]);
    browser.until("document.querySelector('#claims .pin')?.checkVisibility()");
    accessible(&browser, &axe, "a claim");
    machine.kill();
    browser.sees("#machines-body tr .standing", "offline");
    accessible(&browser, &axe, "a machine is offline");
    manager.kill();
    browser.until("document.querySelector('#banner').checkVisibility()");
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        accessible(&browser, &axe, &format!("the node is gone, {scheme}"));
        browser.picture(&Browser::pictures().join(format!("gone-{scheme}.png")));
    }
}

#[test]
fn the_keyboard_alone_is_enough() {
    let Some(browser) = Browser::start("keyboard") else { return };
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    for (key, value) in [("door", "shut"), ("price/cola", "250"), ("price/tea", "180")] {
        machine.kv(None, &["set", key, value]).well();
    }
    browser.open(&manager);

    // Claim: the ticket, the PIN, the answer.
    let mut there = kv::claims(&machine);
    browser.tab_to("#ticket");
    browser.keys(machine.ticket.chars().chain([ENTER]));
    browser.until("document.querySelector('#claims .pin')?.checkVisibility()");
    there.next();
    browser.tab_to("#claims .buttons button:last-child");
    browser.keys([ENTER]);
    browser.sees("#claims", "Claimed");
    browser.sees_entry("price/tea", "180");

    // Filter; from the filter on to the table, and to the row of the tea.
    browser.tab_to("#entries-filter");
    browser.keys("price".chars());
    browser.until("document.querySelectorAll('#entries-body [role=row]').length === 2");
    browser.tab_to("#entries-body [role=row]");
    browser.keys([DOWN]);
    browser.until("document.activeElement.querySelector('.key')?.textContent === 'price/tea'");

    // Edit: Escape leaves it as it was; Tab and Enter write it.
    browser.keys([ENTER]);
    browser.until("document.querySelector('#entry').open && !document.querySelector('#entry-value').disabled");
    browser.keys("9".chars());
    browser.keys([ESCAPE]);
    browser.until("!document.querySelector('#entry').open");
    browser.until("document.activeElement.querySelector('.key')?.textContent === 'price/tea'");
    assert_eq!(machine.kv(None, &["get", "price/tea"]).only()["value"], "180");
    browser.keys([ENTER]);
    browser.until("document.querySelector('#entry').open && !document.querySelector('#entry-value').disabled");
    browser.run("document.querySelector('#entry-value').select()");
    browser.keys("190".chars());
    browser.tab_to("#entry-write");
    browser.keys([ENTER]);
    browser.until("!document.querySelector('#entry').open");
    browser.sees_entry("price/tea", "190");
    until("the machine to have it", || machine.kv(None, &["get", "price/tea"]).only()["value"] == "190");

    // Delete: Enter on the question is a no at first.
    browser.keys([DELETE]);
    browser.until("document.querySelector('#confirm').open");
    browser.keys([ENTER]);
    browser.until("!document.querySelector('#confirm').open");
    assert_eq!(manager.kv(Some(&machine.id), &["get", "price/tea"]).only()["value"], "190");
    browser.keys([DELETE]);
    browser.until("document.querySelector('#confirm').open");
    browser.keys([TAB, ENTER]);
    browser.sees_no_entry("price/tea");
    until("the machine to have lost it", || machine.kv(None, &["get", "price/tea"]).code == Some(1));
    browser.until("document.querySelector('#entries-grid').contains(document.activeElement)");
    // And back, out of the table.
    browser.back_tab();
    assert!(browser.holds("document.activeElement.id === 'entry-new'"), "Shift and Tab leave the table");
}
