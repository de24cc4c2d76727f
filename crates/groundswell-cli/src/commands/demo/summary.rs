//! What came of a demo.

use std::time::Duration;

use serde::Serialize;

use super::{
    Books,
    book::StoreTotals,
    latency::Latency,
    ledger::{PATHS, Totals},
};

/// The summary, as `--json` prints it in its last line.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    /// How long machines sold, in seconds.
    seconds: f64,
    machines: usize,
    /// Machines that were claimed, with the same PIN on both sides.
    pairings: usize,
    store: StoreSummary,
    waves: WavesSummary,
    /// Machines that were switched off and on.
    restarts: u64,
    /// Those of them of which every path came back.
    restarts_survived: u64,
    /// Whether both sides have the same in the end: the states byte for byte, and every entry.
    equal: bool,
    differences: Vec<String>,
    /// Nothing asks again and again whether there is something new: there is no such code.
    polls: &'static str,
}

/// What was written by one side of a pair, and seen by the other.
#[derive(Debug, Serialize)]
struct StoreSummary {
    writes: u64,
    events: u64,
    /// Values that were replaced before the other side's reader got to them.
    skipped: u64,
    /// From the call of set, disk flush included, to the event at the other side, where the two were
    /// connected when it was called.
    latency_ms: LatencyMs,
}

/// What the machines published, and the manager's node followed.
#[derive(Debug, Serialize)]
struct WavesSummary {
    states: usize,
    given: u64,
    seen: u64,
    /// Those of them that were live; the others came in a catch-up.
    live: u64,
    /// Updates that brought a rock in place of waves, after the first one.
    rock_jumps: u64,
    /// Updates whose aeon did not follow from the one before.
    out_of_order: u64,
    /// From the call of give, disk flush included, to the event at the manager, of live updates.
    latency_ms: LatencyMs,
}

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct LatencyMs {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl LatencyMs {
    pub(super) fn of(latency: &Latency) -> Self {
        Self {
            count: latency.count(),
            p50: milliseconds(latency.quantile(0.5)),
            p99: milliseconds(latency.quantile(0.99)),
            max: milliseconds(latency.max()),
        }
    }

    /// In one line.
    pub(super) fn words(&self) -> String {
        format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", self.p50, self.p99, self.max)
    }
}

/// How the machines fared, beside what is in the books.
pub(super) struct Fared {
    pub(super) machines: usize,
    pub(super) pairings: usize,
    pub(super) lasted: Duration,
    pub(super) restarts: u64,
    pub(super) differences: Vec<String>,
}

impl Summary {
    pub(super) fn new(books: &Books, fared: Fared) -> Self {
        let Fared { machines, pairings, lasted, restarts, differences } = fared;
        let Totals { given, seen, live, jumps, out_of_order, returns } = books.waves.totals();
        let StoreTotals { writes, events, measured: _, skipped } = books.store.totals();
        Self {
            kind: "summary",
            seconds: (lasted.as_secs_f64() * 10.0).round() / 10.0,
            machines,
            pairings,
            store: StoreSummary { writes, events, skipped, latency_ms: LatencyMs::of(&books.store.latency()) },
            waves: WavesSummary {
                states: machines * PATHS.len(),
                given,
                seen,
                live,
                rock_jumps: jumps,
                out_of_order,
                latency_ms: LatencyMs::of(&books.waves.latency()),
            },
            restarts,
            restarts_survived: restarts.min(returns / PATHS.len() as u64),
            equal: differences.is_empty(),
            differences,
            polls: "none",
        }
    }

    /// Whether all went as it should.
    pub(super) fn is_good(&self) -> bool {
        self.problems().is_empty()
    }

    /// What went wrong, in one line.
    pub(super) fn problems(&self) -> String {
        let mut problems = self.differences.clone();
        if self.pairings != self.machines {
            problems.push(format!("{} of {} machines are claimed", self.pairings, self.machines));
        }
        if self.waves.out_of_order > 0 {
            problems.push(format!("{} updates out of order", self.waves.out_of_order));
        }
        if self.restarts != self.restarts_survived {
            problems.push("a machine did not come back in time".to_owned());
        }
        if self.waves.rock_jumps == 0 && self.waves.given != self.waves.seen {
            problems.push(format!("{} waves were given and {} seen", self.waves.given, self.waves.seen));
        }
        if self.store.writes != self.store.events + self.store.skipped {
            problems.push(format!("{} entries were written and {} seen", self.store.writes, self.store.events));
        }
        problems.join("; ")
    }

    /// The summary for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let StoreSummary { writes, events, skipped, latency_ms: store } = &self.store;
        let WavesSummary { given, seen, live, latency_ms: waves, .. } = &self.waves;
        let lost = if self.waves.rock_jumps == 0 && given == seen { ", none lost" } else { "" };
        let equal = match self.differences.as_slice() {
            [] => format!(
                "equal: {} states byte for byte, and every entry of {} stores",
                self.waves.states, self.machines
            ),
            differences => format!("DIFFERENT: {}", differences.join("; ")),
        };
        vec![
            String::new(),
            format!("After {} s, {} machines and their manager, over QUIC on loopback:", self.seconds, self.machines),
            format!("  pairings        {}, each with the same PIN on both sides", self.pairings),
            format!(
                "  store           {writes} entries written, {events} events at the other side, {skipped} skipped for newer ones"
            ),
            format!("                  {}", store.words()),
            format!(
                "                  from the call of set, disk flush included, to the event; {} measured",
                store.count
            ),
            format!("  waves           {given} given, {seen} seen{lost} ({live} live)"),
            format!("                  {}", waves.words()),
            format!(
                "                  from the call of give, disk flush included, to the event; {} measured",
                waves.count
            ),
            format!("  restarts        {} of {} survived", self.restarts_survived, self.restarts),
            format!("  both sides      {equal}"),
            "  polls           none: everything was pushed".to_owned(),
        ]
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
