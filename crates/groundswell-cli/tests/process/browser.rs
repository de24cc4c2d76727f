//! The dashboard in a real browser, on real nodes: what a person does with machines, entries, publications and replicas, and
//! what the page says while a node is gone. No test reloads the page unless it says so.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{fs, thread, time::Duration};

use crate::common::browser::Browser;
use crate::common::{Node, World, signal};
use serde_json::json;

/// The PIN that the page shows, as digits.
fn pin(browser: &Browser) -> String {
    browser.until("document.querySelector('#claims .pin')?.checkVisibility()");
    browser.text("#claims .pin .unseen").chars().filter(char::is_ascii_digit).collect()
}

/// The button that says that both PINs are the same.
const CONFIRM: &str = "#claims li:first-child .buttons button:last-child";

/// Waits until the row of a machine, of which there is one, says this of it.
#[track_caller]
fn sees_machine(browser: &Browser, word: &str) {
    browser.sees("#machines-body tr .standing", word);
}

/// That the page is the very one, and was not loaded again.
fn mark(browser: &Browser) {
    browser.run("window.sameAsBefore = true");
}

#[track_caller]
fn was_not_reloaded(browser: &Browser) {
    assert!(browser.holds("window.sameAsBefore"), "the page was loaded again");
}

#[test]
fn a_machine_is_claimed_and_its_entries_are_seen_edited_and_deleted() {
    let Some(browser) = Browser::start("claim") else { return };
    let world = World::new();
    let (machine, manager) = (world.machine("machine"), world.manager("manager"));
    // The person at the machine opens it for claims.
    browser.open(&machine);
    browser.sees("#pairing-said", "Closed");
    browser.click("#pairing-open");
    browser.sees("#pairing-said", "Open for claims for");
    browser.open(&manager);
    browser.sees("#machines-none", "No machine is claimed yet");

    // The same person looks at both sides: the PIN is there after the page was left, and the same at the machine.
    browser.type_into("#ticket", &machine.ticket);
    browser.click("#claim-form button");
    let shown = pin(&browser);
    browser.open(&machine);
    assert_eq!(pin(&browser), shown);
    browser.until("document.title.startsWith('(claim)')");
    browser.click(CONFIRM);
    browser.sees("#claims", "Waiting for the other side");
    browser.open(&manager);
    assert_eq!(pin(&browser), shown);
    browser.click(CONFIRM);
    browser.sees("#claims", "Claimed");
    sees_machine(&browser, "online");
    mark(&browser);

    // An entry appears, and changes where it stands.
    machine.kv(None, &["set", "stock/cola", "12"]).well();
    browser.sees_entry("stock/cola", "12");
    browser.run("window.row = document.querySelector('#entries-body [role=row]')");
    machine.kv(None, &["set", "stock/cola", "11"]).well();
    browser.sees_entry("stock/cola", "11");
    assert!(browser.holds("window.row.isConnected && window.row.textContent.includes('11')"), "another row");
    browser.sees("#entries-body .author", "machine");

    // A price is made, changed on the page, and the machine has it.
    let mut prices = machine.kv_lines(None, &["watch", "price/cola"]);
    manager.kv(Some(&machine.id), &["set", "price/cola", "250"]).well();
    browser.sees_entry("price/cola", "250");
    prices.until_event("put price/cola=250 by manager");
    browser.click_in_row("price/cola", "Edit");
    browser.type_into("#entry-value", "275");
    browser.click("#entry-write");
    prices.until_event("put price/cola=275 by manager");
    browser.sees_entry("price/cola", "275");

    // A new one is written, too, at the one machine that there is.
    browser.click("#entry-new");
    browser.type_into("#entry-key", "greeting");
    browser.type_into("#entry-value", "grüß Gott");
    browser.click("#entry-write");
    browser.sees_entry("greeting", "grüß Gott");
    machine.kv_lines(None, &["watch", "greeting"]).until_event("put greeting=grüß Gott by manager");

    // The filter leaves what it names.
    browser.type_into("#entries-filter", "price");
    browser.until("document.querySelectorAll('#entries-body [role=row]').length === 1");
    browser.sees("#entries-summary", "1 shown of 3 entries");

    // Nothing is deleted before the question is answered, and what is deleted is gone at the machine.
    browser.click_in_row("price/cola", "Delete");
    browser.sees("#confirm-text", "“price/cola”");
    browser.click("#confirm-no");
    browser.until("!document.querySelector('#confirm').open");
    assert_eq!(machine.kv(None, &["get", "price/cola"]).only()["value"], "275");
    browser.click_in_row("price/cola", "Delete");
    browser.click("#confirm-yes");
    prices.until_event("delete price/cola by manager");
    browser.sees_no_entry("price/cola");
    browser.sees("#entries-none", "No entry matches the filter");

    // A released machine is gone from the page.
    browser.click("#machines-body button.small");
    browser.sees("#confirm-title", "Release machine");
    browser.click("#confirm-yes");
    browser.until("document.querySelectorAll('#machines-body tr').length === 0");
    browser.sees("#entries-summary", "0 entries");
    was_not_reloaded(&browser);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_node_that_is_killed_is_told_and_the_page_is_right_again_by_itself() {
    let Some(browser) = Browser::start("killed") else { return };
    let world = World::new();
    let (mut machine, mut manager) = world.pair();
    for (key, value) in [("stock/cola", "12"), ("stock/tea", "3"), ("door", "shut")] {
        machine.kv(None, &["set", key, value]).well();
    }
    browser.open(&manager);
    browser.sees_entry("stock/cola", "12");
    mark(&browser);

    // The manager's node is killed under the page. What it shows meanwhile is said to be old.
    manager.kill();
    browser.sees("#banner", "The node is out of reach since");
    browser.until("document.querySelector('#banner').checkVisibility() && document.title.startsWith('(gone)')");
    browser.sees("#connection", "out of reach");
    machine.kv(None, &["set", "stock/cola", "11"]).well();
    machine.kv(None, &["set", "coins", "7"]).well();
    machine.kv(None, &["del", "stock/tea"]).well();
    let address = manager.http.clone();
    let manager = world.up("manager");
    assert_eq!(manager.http, address, "at the address that the page knows");
    browser.live();
    browser.until("!document.querySelector('#banner').checkVisibility()");
    browser.sees("#notice", "The node was restarted. What was shown was out of date for");
    browser.sees_entry("stock/cola", "11");
    browser.sees_entry("coins", "7");
    browser.sees_entry("door", "shut");
    browser.sees_no_entry("stock/tea");
    sees_machine(&browser, "online");

    // The machine is killed: its entries stay, and say how old they are.
    machine.kill();
    sees_machine(&browser, "offline");
    browser.sees("#machines-body", "stale");
    browser.sees("#notice", "1 of 1 machines is offline");
    browser.sees_entry("coins", "7");
    // What is written meanwhile reaches it when it is back.
    manager.kv(Some(&machine.id), &["set", "price/cola", "250"]).well();
    browser.sees_entry("price/cola", "250");
    let machine = world.up("machine");
    sees_machine(&browser, "online");
    let mut watch = machine.kv_lines(None, &["watch", "price/cola"]);
    watch.until_event("put price/cola=250 by manager");
    machine.kv(None, &["set", "coins", "8"]).well();
    browser.sees_entry("coins", "8");
    browser.until("!document.querySelector('#notice').textContent.includes('offline')");
    was_not_reloaded(&browser);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_publication_of_a_peer_is_followed_wave_by_wave() {
    let Some(browser) = Browser::start("followed") else { return };
    let world = World::new();
    let (mut publisher, follower) = (world.up("publisher"), world.up("follower"));
    publisher.run(&["give", "/log/today", "the first line", "--lake", "log"]).well();
    publisher.run(&["give", "/till", "1200", "--lake", "sum"]).well();
    let menu = r#"[{"op":"add","path":"","value":{"cola":{"price":250,"hot":false}}}]"#;
    publisher.run(&["give", "/menu", menu, "--lake", "json"]).well();
    for (path, lake) in [("/log/today", "log"), ("/till", "sum"), ("/menu", "json")] {
        follower.run(&["surf", &publisher.ticket, path, "--lake", lake, "--once"]).well();
    }

    // Who gives sees its readers.
    browser.open(&publisher);
    browser.until("!document.querySelector('#machines').checkVisibility()");
    browser.until("document.querySelectorAll('#publications-body tr').length === 3");
    browser.sees("#publications-body", "public");
    browser.until("[...document.querySelectorAll('#publications-body [data-label=Readers]')].every((cell) => cell.textContent.startsWith('1'))");

    browser.open(&follower);
    browser.until("document.querySelectorAll('#replicas-body .standing[data-tone=good]').length === 3");
    mark(&browser);
    let look_at = |path: &str| {
        browser.run(&format!(
            "[...document.querySelectorAll('#replicas-body button')].find((one) => one.textContent === '{path}').click()"
        ));
        browser.sees("#rock-title", path);
    };
    look_at("/log/today");
    browser.sees("#rock-value", "the first line");
    publisher.run(&["give", "/log/today", "the second line", "--lake", "log"]).well();
    browser.sees("#rock-value", "the second line");
    browser.sees("#waves li", "the second line");
    browser.sees("#rock-summary", "aeon 2");
    look_at("/till");
    browser.sees("#rock-value .number", "1,200");
    publisher.run(&["give", "/till", "35", "--lake", "sum"]).well();
    browser.sees("#rock-value .number", "1,235");
    look_at("/menu");
    browser.sees("#rock-value", "250");
    let rise = r#"[{"op":"replace","path":"/cola/price","value":260}]"#;
    publisher.run(&["give", "/menu", rise, "--lake", "json"]).well();
    browser.sees("#rock-value", "260");
    browser.sees("#waves li", "replace /cola/price 260");

    // The publisher goes, and comes back.
    publisher.kill();
    browser.sees("#notice", "3 of 3 replicas are stale");
    browser.sees("#replicas-body", "offline");
    browser.sees("#rock-summary", "Stale");
    browser.sees("#rock-value", "260");
    let publisher = world.up("publisher");
    let fall = r#"[{"op":"replace","path":"/cola/price","value":255}]"#;
    publisher.run(&["give", "/menu", fall, "--lake", "json"]).well();
    browser.sees("#rock-value", "255");
    browser.until("!document.querySelector('#notice').textContent.includes('stale')");
    was_not_reloaded(&browser);

    // A page that is loaded again looks at what it looked at.
    browser.reload();
    browser.sees("#rock-value", "255");
    browser.sees("#rock-title", "/menu");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A device that sleeps: nothing of the page runs, and when it wakes its connection is long gone.
#[test]
fn a_page_that_slept_is_right_again() {
    let Some(browser) = Browser::start("slept") else { return };
    let world = World::new();
    let (machine, mut manager) = world.pair();
    machine.kv(None, &["set", "stock/cola", "12"]).well();
    browser.open(&manager);
    browser.sees_entry("stock/cola", "12");
    mark(&browser);
    browser.devtools("Page.setWebLifecycleState", &json!({ "state": "frozen" }));
    machine.kv(None, &["set", "stock/cola", "11"]).well();
    manager.kill();
    machine.kv(None, &["set", "stock/cola", "10"]).well();
    let manager = world.up("manager");
    let mut seen = manager.kv_lines(Some(&machine.id), &["watch", "stock/cola"]);
    seen.until_event("put stock/cola=10 by machine");
    browser.devtools("Page.setWebLifecycleState", &json!({ "state": "active" }));
    // What was frozen stays hidden, and is drawn when somebody looks.
    browser.devtools("Emulation.setFocusEmulationEnabled", &json!({ "enabled": true }));
    browser.sees_entry("stock/cola", "10");
    browser.live();
    browser.sees("#notice", "It is right again");
    machine.kv(None, &["set", "stock/cola", "9"]).well();
    browser.sees_entry("stock/cola", "9");
    was_not_reloaded(&browser);
}

/// A node that says nothing, over a connection that stands: only its missing heartbeats tell.
#[test]
#[ignore = "a node is silent for a minute"]
fn a_node_that_is_silent_for_a_minute_is_told_and_found_again() {
    let Some(browser) = Browser::start("silent") else { return };
    let world = World::new();
    let (machine, manager) = world.pair();
    machine.kv(None, &["set", "stock/cola", "12"]).well();
    browser.open(&manager);
    browser.sees_entry("stock/cola", "12");
    mark(&browser);
    signal("STOP", manager.process());
    browser.sees("#banner", "The node is out of reach since");
    machine.kv(None, &["set", "stock/cola", "11"]).well();
    // The minute is what is under test.
    thread::sleep(Duration::from_secs(60)); // time is under test: a minute of silence
    signal("CONT", manager.process());
    browser.live();
    browser.sees_entry("stock/cola", "11");
    browser.sees("#notice", "It is right again");
    was_not_reloaded(&browser);
}

/// The token was made anew, so that the page's session is worth nothing: that is told, and a new link mends it.
#[test]
fn a_page_whose_session_has_ended_says_so() {
    let Some(browser) = Browser::start("refused") else { return };
    let world = World::new();
    let mut node: Node = world.manager("manager");
    browser.open(&node);
    node.kill();
    browser.sees("#banner", "The node is out of reach since");
    fs::remove_file(node.dir.join("http-token")).unwrap();
    let node = world.up("manager");
    browser.sees("#banner", "The node no longer lets this page read");
    browser.open(&node);
    browser.until("!document.querySelector('#banner').checkVisibility()");
}
