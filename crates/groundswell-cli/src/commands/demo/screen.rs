//! What a demo shows while it runs: a table that is drawn again on a terminal, lines elsewhere,
//! and with `--json` nothing before the summary.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{MACHINES, follower::View, ledger::Ledger, summary::Summary};
use crate::{
    error::ToolError,
    output::{Output, shorten},
};

/// How often the table is drawn, and how often a line is written.
const REDRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(1);

/// How many of the newest notes stand under the table.
const NOTES: usize = 4;

/// The widest line that is drawn, in characters: a table that wraps can't be drawn over.
const WIDTH: usize = 79;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Table,
    Lines,
    Silent,
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
            (true, _) => Mode::Silent,
            (false, true) => Mode::Table,
            (false, false) => Mode::Lines,
        };
        Self { output, mode, begun: Instant::now(), notes: VecDeque::new(), drawn: 0 }
    }

    /// How often it is worth drawing.
    pub(super) fn pace(&self) -> Duration {
        if self.mode == Mode::Table { REDRAW } else { LINE }
    }

    /// Something has happened.
    pub(super) async fn note(&mut self, what: &str) -> Result<(), ToolError> {
        let note = format!("{:5.1} s  {what}", self.begun.elapsed().as_secs_f64());
        match self.mode {
            Mode::Silent => Ok(()),
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
    pub(super) async fn draw(&mut self, views: &[View], ledger: &Ledger) -> Result<(), ToolError> {
        let elapsed = self.begun.elapsed();
        match self.mode {
            Mode::Silent => Ok(()),
            Mode::Lines => {
                self.output.line(one_line(elapsed, views, ledger)).await?;
                self.output.flush().await
            }
            Mode::Table => {
                let mut lines = table(elapsed, views, ledger);
                lines.extend(self.notes.iter().cloned());
                self.redraw(&lines).await
            }
        }
    }

    async fn redraw(&mut self, lines: &[String]) -> Result<(), ToolError> {
        // Up to the table's first line, then each line over the old one; what is left is cleared.
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for line in lines {
            text += &shorten(line, WIDTH);
            text += "\x1b[K\n";
        }
        text += "\x1b[J";
        self.drawn = lines.len();
        self.output.text(&text).await?;
        self.output.flush().await
    }

    /// Says what came of it.
    pub(super) async fn summary(&mut self, summary: &Summary) -> Result<(), ToolError> {
        if self.mode == Mode::Silent {
            self.output.object(summary).await?;
        } else {
            for line in summary.lines() {
                self.output.line(line).await?;
            }
        }
        self.output.flush().await
    }
}

fn link(ledger: &Ledger, machine: usize) -> String {
    serde_json::to_value(ledger.account(machine, 0).freshness())
        .ok()
        .and_then(|name| name.as_str().map(|name| name.replace('_', " ")))
        .unwrap_or_default()
}

fn table(elapsed: Duration, views: &[View], ledger: &Ledger) -> Vec<String> {
    let mut lines = vec![
        format!("Groundswell: {MACHINES} machines publish, one node follows; {:.1} s", elapsed.as_secs_f64()),
        String::new(),
        format!("  {:9}  {:10}  {:>6}  {:>10}  {}", "MACHINE", "LINK", "SALES", "TILL", "STATE"),
    ];
    for (machine, view) in views.iter().enumerate() {
        let name = format!("machine {}", machine + 1);
        let link = link(ledger, machine);
        lines.push(format!("  {name:9}  {link:10}  {:>6}  {:>10}  {}", view.sales, money(view.till), view.state));
    }
    lines.push(String::new());
    for (machine, view) in views.iter().enumerate() {
        lines.push(format!("  last sale of machine {}: {}", machine + 1, view.last));
    }
    let totals = ledger.totals();
    lines.push(String::new());
    lines.push(format!("  waves given {}, seen {}; {}", totals.given, totals.seen, latency(ledger)));
    lines.push("  (from the call of give, disk flush included, to the follower's stream)".to_owned());
    lines.push(String::new());
    lines
}

fn one_line(elapsed: Duration, views: &[View], ledger: &Ledger) -> String {
    let machines = views.iter().enumerate().map(|(machine, view)| {
        format!("{} {}, {} sales, {}", machine + 1, link(ledger, machine), view.sales, money(view.till))
    });
    let machines: Vec<String> = machines.collect();
    format!("{:5.1} s  {}; {}", elapsed.as_secs_f64(), machines.join("; "), latency(ledger))
}

fn latency(ledger: &Ledger) -> String {
    let latency = ledger.latency();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (p50, p99) = (ms(latency.quantile(0.5)), ms(latency.quantile(0.99)));
    format!("latency p50 {p50:.2} ms, p99 {p99:.2} ms, max {:.2} ms", ms(latency.max()))
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents.rem_euclid(100))
}
