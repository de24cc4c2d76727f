//! What came of a demo.

use std::time::Duration;

use serde::Serialize;

use super::{
    MACHINES,
    ledger::{Ledger, PATHS, Totals},
};

/// The summary, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// How long machines sold, in seconds.
    seconds: f64,
    machines: usize,
    /// States that were published and followed.
    states: usize,
    /// Waves that the machines gave.
    waves_given: u64,
    /// Waves that the follower's streams yielded, one by one.
    updates_seen: u64,
    /// Those among them that were live; the others came in a catch-up.
    updates_live: u64,
    /// Updates that brought a rock in place of waves, after the first one.
    rock_jumps: u64,
    /// Updates whose aeon did not follow from the one before.
    out_of_order: u64,
    /// From the call of give, disk flush included, to the follower's stream; of live updates.
    latency_ms: LatencyMs,
    /// Machines that were switched off and on.
    restarts: u64,
    /// Those of them of which every path came back.
    restarts_survived: u64,
    states_equal: bool,
    differences: Vec<String>,
    /// Nothing asks again and again whether there is something new.
    polls: u64,
}

#[derive(Debug, Serialize)]
struct LatencyMs {
    count: u64,
    p50: f64,
    p99: f64,
    max: f64,
}

impl Summary {
    pub(super) fn new(ledger: &Ledger, lasted: Duration, restarts: u64, differences: &[String]) -> Self {
        let Totals { given, seen, live, jumps, out_of_order, returns } = ledger.totals();
        let latency = ledger.latency();
        let latency_ms = LatencyMs {
            count: latency.count(),
            p50: milliseconds(latency.quantile(0.5)),
            p99: milliseconds(latency.quantile(0.99)),
            max: milliseconds(latency.max()),
        };
        Self {
            seconds: (lasted.as_secs_f64() * 10.0).round() / 10.0,
            machines: MACHINES,
            states: MACHINES * PATHS.len(),
            waves_given: given,
            updates_seen: seen,
            updates_live: live,
            rock_jumps: jumps,
            out_of_order,
            latency_ms,
            restarts,
            restarts_survived: restarts.min(returns / PATHS.len() as u64),
            states_equal: differences.is_empty(),
            differences: differences.to_vec(),
            polls: 0,
        }
    }

    /// Whether all went as it should.
    pub(super) fn is_good(&self) -> bool {
        self.states_equal
            && self.out_of_order == 0
            && self.restarts == self.restarts_survived
            && (self.rock_jumps > 0 || self.waves_given == self.updates_seen)
    }

    /// What went wrong, in one line.
    pub(super) fn problems(&self) -> String {
        let mut problems = self.differences.clone();
        if self.out_of_order > 0 {
            problems.push(format!("{} updates out of order", self.out_of_order));
        }
        if self.restarts != self.restarts_survived {
            problems.push("a machine did not come back in time".to_owned());
        }
        if self.rock_jumps == 0 && self.waves_given != self.updates_seen {
            problems.push(format!("{} waves were given and {} seen", self.waves_given, self.updates_seen));
        }
        problems.join("; ")
    }

    /// The summary for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let lost = if self.rock_jumps == 0 && self.waves_given == self.updates_seen { ", none lost" } else { "" };
        let equal = match self.differences.as_slice() {
            [] => format!("all {} equal, byte for byte", self.states),
            differences => format!("DIFFERENT: {}", differences.join("; ")),
        };
        let LatencyMs { count, p50, p99, max } = self.latency_ms;
        vec![
            String::new(),
            format!("After {} s, {} machines, one follower, over QUIC on loopback:", self.seconds, self.machines),
            format!("  waves given     {}", self.waves_given),
            format!(
                "  updates seen    {}{lost} ({} live, {} in catch-ups)",
                self.updates_seen,
                self.updates_live,
                self.updates_seen.saturating_sub(self.updates_live)
            ),
            format!("  latency         p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms"),
            format!(
                "                  from the call of give, disk flush included, to the follower's stream; {count} live updates"
            ),
            format!("  restarts        {} of {} survived", self.restarts_survived, self.restarts),
            format!("  states          {equal}"),
            "  polls           none: everything was pushed".to_owned(),
        ]
    }
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
