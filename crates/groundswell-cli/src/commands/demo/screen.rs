//! What a demo shows while it runs: a table that is drawn again on a terminal, lines elsewhere, and
//! with `--json` objects.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use groundswell::visible;
use serde_json::json;

use super::{
    Books,
    machine::GOODS,
    manager::View,
    summary::{LatencyMs, Summary},
};
use crate::{
    browser,
    error::ToolError,
    output::{Output, shorten},
    web::Web,
};

/// How often the table is drawn, and how often a line is written.
const REDRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(1);

/// How many of the newest notes stand under the table.
const NOTES: usize = 4;

/// The widest line that is drawn, in characters: a table that wraps can't be drawn over.
const WIDTH: usize = 79;

/// The most machines in the table: one that is higher than the terminal can't be drawn over either.
const ROWS: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Table,
    Lines,
    Objects,
}

pub(super) struct Screen<'a> {
    output: &'a mut Output,
    mode: Mode,
    begun: Instant,
    notes: VecDeque<String>,
    /// How many lines of the table stand there, to be drawn over.
    drawn: usize,
}

impl<'a> Screen<'a> {
    pub(super) fn new(output: &'a mut Output, terminal: bool) -> Self {
        let mode = match (output.is_json(), terminal) {
            (true, _) => Mode::Objects,
            (false, true) => Mode::Table,
            (false, false) => Mode::Lines,
        };
        Self { output, mode, begun: Instant::now(), notes: VecDeque::new(), drawn: 0 }
    }

    /// How often it is worth drawing.
    pub(super) fn pace(&self) -> Duration {
        if self.mode == Mode::Table { REDRAW } else { LINE }
    }

    /// Where the dashboard is; on a terminal it is opened, where there is a browser and it is wanted.
    pub(super) async fn dashboard(&mut self, web: &Web, no_browser: bool) -> Result<(), ToolError> {
        let (http, link) = (web.address(), web.link(None));
        match self.mode {
            Mode::Objects => {
                self.output.object(&json!({ "type": "dashboard", "http": http, "link": link })).await?;
            }
            _ => self.output.line(format!("the dashboard, once: {link}")).await?,
        }
        self.output.flush().await?;
        if self.mode == Mode::Table && !no_browser {
            // The link that is shown stays good.
            browser::open(&web.link(Some(rustix::process::geteuid().as_raw())));
        }
        Ok(())
    }

    /// Something has happened.
    pub(super) async fn note(&mut self, what: &str) -> Result<(), ToolError> {
        let elapsed = self.begun.elapsed();
        let note = format!("{:5.1} s  {what}", elapsed.as_secs_f64());
        match self.mode {
            Mode::Objects => {
                self.output.object(&json!({ "type": "note", "seconds": seconds(elapsed), "said": what })).await?;
                self.output.flush().await
            }
            Mode::Lines => {
                self.output.line(note).await?;
                self.output.flush().await
            }
            Mode::Table => {
                if self.notes.len() == NOTES {
                    self.notes.pop_front();
                }
                self.notes.push_back(note);
                Ok(())
            }
        }
    }

    /// Shows how things stand.
    pub(super) async fn draw(&mut self, views: &[View], prices: &[i64], books: &Books) -> Result<(), ToolError> {
        let elapsed = self.begun.elapsed();
        match self.mode {
            Mode::Objects => {
                self.output.object(&progress(elapsed, views, books)).await?;
                self.output.flush().await
            }
            Mode::Lines => {
                self.output.line(one_line(elapsed, views, books)).await?;
                self.output.flush().await
            }
            Mode::Table => {
                let mut lines = table(elapsed, views, prices, books);
                lines.extend(self.notes.iter().cloned());
                self.redraw(&lines).await
            }
        }
    }

    async fn redraw(&mut self, lines: &[String]) -> Result<(), ToolError> {
        // Up to the table's first line, then each line over the old one; what is left is cleared.
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for line in lines {
            text += &shorten(&visible(line), WIDTH);
            text += "\x1b[K\n";
        }
        text += "\x1b[J";
        self.drawn = lines.len();
        self.output.exact(text.as_bytes()).await?;
        self.output.flush().await
    }

    /// Says what came of it.
    pub(super) async fn summary(&mut self, summary: &Summary) -> Result<(), ToolError> {
        if self.mode == Mode::Objects {
            self.output.object(summary).await?;
        } else {
            for line in summary.lines() {
                self.output.line(line).await?;
            }
        }
        self.output.flush().await
    }
}

fn table(elapsed: Duration, views: &[View], prices: &[i64], books: &Books) -> Vec<String> {
    let mut lines = vec![
        format!("Groundswell: {} machines and their manager; {:.1} s", views.len(), elapsed.as_secs_f64()),
        String::new(),
        format!(
            "  {:10}  {:10}  {:>5}  {:>8}  {:>5}  {:>5}  {:>8}  {}",
            "MACHINE", "LINK", "STOCK", "BALANCE", "TEMP", "SALES", "TILL", "LAST SALE"
        ),
    ];
    for (machine, view) in views.iter().enumerate().take(ROWS) {
        lines.push(format!(
            "  {:10}  {:10}  {:>5}  {:>8}  {:>5}  {:>5}  {:>8}  {}",
            format!("machine {}", machine + 1),
            view.link,
            view.stock,
            money(view.balance),
            degrees(view.temperature),
            view.sales,
            money(view.till),
            view.last
        ));
    }
    if views.len() > ROWS {
        lines.push(format!("  and {} more", views.len() - ROWS));
    }
    let prices = GOODS.iter().zip(prices).map(|((goods, _), cents)| format!("{goods} {}", money(*cents)));
    lines.push(String::new());
    lines.push(format!("  prices: {}", prices.collect::<Vec<_>>().join(", ")));
    let (store, waves) = (books.store.totals(), books.waves.totals());
    lines.push(String::new());
    lines.push(format!("  store: {} entries written, {} events", store.writes, store.events));
    lines.push(format!("         {}", LatencyMs::of(&books.store.latency()).words()));
    lines.push(format!("  waves: {} given, {} seen", waves.given, waves.seen));
    lines.push(format!("         {}", LatencyMs::of(&books.waves.latency()).words()));
    lines.push("  (from the call, disk flush included, to the event at the other side)".to_owned());
    lines.push(String::new());
    lines
}

fn one_line(elapsed: Duration, views: &[View], books: &Books) -> String {
    let online = views.iter().filter(|view| view.link == "online").count();
    let sales: usize = views.iter().map(|view| view.sales).sum();
    let balance: i64 = views.iter().map(|view| view.balance).sum();
    let store = LatencyMs::of(&books.store.latency());
    let waves = LatencyMs::of(&books.waves.latency());
    format!(
        "{:5.1} s  {online} of {} online, {sales} sales, {}; store p50 {:.2} ms, p99 {:.2} ms; waves p50 {:.2} ms, p99 {:.2} ms",
        elapsed.as_secs_f64(),
        views.len(),
        money(balance),
        store.p50,
        store.p99,
        waves.p50,
        waves.p99
    )
}

fn progress(elapsed: Duration, views: &[View], books: &Books) -> serde_json::Value {
    let machines = views.iter().enumerate().map(|(machine, view)| {
        json!({
            "machine": machine + 1, "link": view.link, "stock": view.stock, "balance": view.balance,
            "temperature": view.temperature, "sales": view.sales, "till": view.till
        })
    });
    let (store, waves) = (books.store.totals(), books.waves.totals());
    json!({
        "type": "progress",
        "seconds": seconds(elapsed),
        "machines": machines.collect::<Vec<_>>(),
        "store": {
            "writes": store.writes, "events": store.events, "latency_ms": LatencyMs::of(&books.store.latency())
        },
        "waves": { "given": waves.given, "seen": waves.seen, "latency_ms": LatencyMs::of(&books.waves.latency()) }
    })
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

pub(super) fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents.rem_euclid(100))
}

fn degrees(tenths: i64) -> String {
    format!("{}.{}", tenths / 10, tenths.rem_euclid(10))
}
