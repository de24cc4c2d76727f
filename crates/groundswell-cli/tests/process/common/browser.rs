//! A headless Chromium that looks at the dashboard of a real node. A test binary takes this file as a module of its own,
//! so that others need no WebDriver. Of a test that fails, a picture of the page is left in `target/browser`.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)] // each test binary uses some of it

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, KeyAction, KeyActions},
    wd::{Capabilities, WebDriverCompatibleCommand},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use url::Url;

use super::{Node, PATIENCE};

/// Keys that have no letter, as WebDriver names them.
pub const ENTER: char = '\u{e007}';
pub const TAB: char = '\u{e004}';
pub const ESCAPE: char = '\u{e00c}';
pub const DOWN: char = '\u{e015}';
pub const END: char = '\u{e010}';
pub const DELETE: char = '\u{e017}';
const SHIFT: char = '\u{e008}';

/// A desktop's window, and a phone's.
pub const DESKTOP: (u32, u32) = (1400, 1000);
pub const PHONE: (u32, u32) = (390, 844);

/// Chromium as root, quietly, and with nothing that it would fetch by itself.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1400,1000",
];

pub struct Browser {
    runtime: Runtime,
    /// `None` once it is closed.
    client: Option<Client>,
    driver: Child,
    name: String,
    /// It is removed after the browser has ended.
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser for the test of this name. Where there is none the test is skipped, and says so.
    pub fn start(name: &str) -> Option<Self> {
        for program in ["chromium", "chromedriver"] {
            if Command::new(program).arg("--version").output().is_err() {
                println!("skipped: there is no {program}; `cargo xtask test` installs it where apt-get can");
                return None;
            }
        }
        let profile = tempfile::tempdir().unwrap();
        // Its own choice of a port is the one that is free.
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| line.split_once("started successfully on port ").map(|(_, port)| port.to_owned()))
            .expect("chromedriver says its port");
        thread::spawn(move || lines.for_each(drop));
        let mut flags: Vec<String> = FLAGS.iter().map(ToString::to_string).collect();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let options = json!({ "args": flags });
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({ "browser": "ALL" }));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities).connect(&address).await
        });
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                let _ = driver.kill();
                panic!("chromium does not start: {error}");
            }
        };
        let browser = Self { runtime, client: Some(client), driver, name: name.to_owned(), _profile: profile };
        browser.size(DESKTOP);
        Some(browser)
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("it is open")
    }

    #[track_caller]
    pub fn goto(&self, url: &str) {
        self.runtime.block_on(self.client().goto(url)).unwrap();
    }

    /// Opens a node's dashboard by a one-time link, and waits until all is there.
    #[track_caller]
    pub fn open(&self, node: &Node) {
        let link = node.run(&["open", "--no-browser"]).only()["link"].as_str().expect("a link").to_owned();
        self.goto(&link);
        self.live();
    }

    #[track_caller]
    pub fn live(&self) {
        self.until("document.querySelector('#connection')?.textContent === '● live'");
    }

    #[track_caller]
    pub fn reload(&self) {
        self.runtime.block_on(self.client().refresh()).unwrap();
        self.live();
    }

    /// Runs the body of a function in the page. What it returns, a promise included, is waited for.
    pub fn attempt(&self, script: &str, arguments: Vec<Value>) -> Result<Value, String> {
        self.runtime.block_on(self.client().execute(script, arguments)).map_err(|error| error.to_string())
    }

    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.attempt(script, Vec::new()).unwrap_or_else(|error| panic!("{error}: {script}"))
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn get(&self, expression: &str) -> Value {
        self.run(&format!("return ({expression})"))
    }

    #[track_caller]
    pub fn holds(&self, expression: &str) -> bool {
        self.get(&format!("!!({expression})")) == true
    }

    /// Waits until an expression holds in the page.
    #[track_caller]
    pub fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        // While the page is on its way to another address, nothing can be asked.
        while self.attempt(&format!("return !!({expression})"), Vec::new()) != Ok(json!(true)) {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {expression}\nthe page says:\n{}", self.page());
            // A poll for a condition: time is under test only as patience.
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the text of an element has this in it.
    #[track_caller]
    pub fn sees(&self, css: &str, text: &str) {
        self.until(&format!("document.querySelector({})?.textContent.includes({})", json!(css), json!(text)));
    }

    /// Waits until the row of this key shows this value.
    #[track_caller]
    pub fn sees_entry(&self, key: &str, value: &str) {
        self.until(&format!("({ROW_OF})({})?.querySelector('.value').textContent === {}", json!(key), json!(value)));
    }

    /// Waits until there is no row of this key.
    #[track_caller]
    pub fn sees_no_entry(&self, key: &str) {
        self.until(&format!("!({ROW_OF})({})", json!(key)));
    }

    #[track_caller]
    pub fn text(&self, css: &str) -> String {
        self.get(&format!("document.querySelector({})?.textContent ?? null", json!(css)))
            .as_str()
            .unwrap_or_else(|| panic!("there is no {css}"))
            .to_owned()
    }

    /// All that can be read on the page.
    fn page(&self) -> String {
        self.attempt("return document.body.innerText", Vec::new()).map_or_else(|error| error, |text| text.to_string())
    }

    /// Clicks as a person does: what is covered or hidden can't be.
    #[track_caller]
    pub fn click(&self, css: &str) {
        // Not under the head of the page, which stays where it is.
        self.run(&format!("document.querySelector({})?.scrollIntoView({{ block: 'center' }})", json!(css)));
        self.runtime
            .block_on(async { self.client().find(Locator::Css(css)).await?.click().await })
            .unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Clicks a button of the row of this key.
    #[track_caller]
    pub fn click_in_row(&self, key: &str, button: &str) {
        self.click(&format!("#entries-body button[aria-label='{button} {key}']"));
    }

    /// Replaces what stands in a field, by typing.
    #[track_caller]
    pub fn type_into(&self, css: &str, text: &str) {
        self.until(&format!("!document.querySelector({}).disabled", json!(css)));
        self.run(&format!("const field = document.querySelector({}); field.focus(); field.select();", json!(css)));
        self.keys(text.chars());
    }

    /// Presses keys, which go to what has the focus.
    #[track_caller]
    pub fn keys(&self, keys: impl IntoIterator<Item = char>) {
        let actions = keys.into_iter().fold(KeyActions::new("keyboard".to_owned()), |actions, value| {
            actions.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.runtime.block_on(self.client().perform_actions(actions)).unwrap();
    }

    /// Tab with Shift: back.
    #[track_caller]
    pub fn back_tab(&self) {
        let actions = KeyActions::new("keyboard".to_owned())
            .then(KeyAction::Down { value: SHIFT })
            .then(KeyAction::Down { value: TAB })
            .then(KeyAction::Up { value: TAB })
            .then(KeyAction::Up { value: SHIFT });
        self.runtime.block_on(self.client().perform_actions(actions)).unwrap();
    }

    /// Presses Tab until this has the focus; what never gets it can't be used by keyboard.
    #[track_caller]
    pub fn tab_to(&self, css: &str) {
        let has_focus = format!("document.activeElement?.matches({})", json!(css));
        for _ in 0..80 {
            if self.holds(&has_focus) {
                return;
            }
            self.keys([TAB]);
        }
        panic!("Tab does not come to {css}");
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.ask("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).unwrap()
    }

    fn ask(&self, path: &'static str, body: Value) -> Result<Value, String> {
        let asked = self.runtime.block_on(self.client().issue_cmd(Ask { path, body }));
        asked.map_err(|error| error.to_string())
    }

    pub fn size(&self, (width, height): (u32, u32)) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
    }

    /// `light` or `dark`.
    pub fn scheme(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// What the page has said on its console, and the browser about it, since this was asked last. That a node can't be
    /// reached is no fault of the page.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let said = self.ask("se/log", json!({ "type": "browser" })).unwrap();
        let lines = said.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap().to_owned());
        lines.filter(|line| !line.contains("net::ERR_") && !line.contains("Failed to load resource")).collect()
    }

    /// A picture of the window.
    pub fn picture(&self, path: &Path) {
        let png = self.runtime.block_on(self.client().screenshot()).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png).unwrap();
    }

    /// Where the pictures are.
    pub fn pictures() -> PathBuf {
        // The directory of the tool, `target/release`, is in it.
        Path::new(env!("CARGO_BIN_EXE_groundswell")).ancestors().nth(2).unwrap().join("browser")
    }
}

/// The row of a key, if it is among those in the page.
const ROW_OF: &str = "(key) => [...document.querySelectorAll('#entries-body [role=row]')].find((row) => row.querySelector('.key').title === key)";

impl Drop for Browser {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        if thread::panicking() {
            let path = Self::pictures().join(format!("failed-{}.png", self.name));
            if let Ok(png) = self.runtime.block_on(client.screenshot()) {
                let written = fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(&path, png));
                eprintln!("the page as it was: {} ({written:?})", path.display());
            }
        }
        let _ = self.runtime.block_on(client.close());
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// A command that fantoccini has no name for.
#[derive(Debug)]
struct Ask {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Ask {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
