//! A seeded world for the core of Groundswell.
//!
//! Two publishers of a path each and a few subscribers live in it, each with a model disk, with
//! a network between them, and with programs that read the replicas. They drive the core as a real
//! driver does: stage, make durable, commit; persist before transmit. Paths are killed and opened
//! again, forked, copied, and opened to some and not to others. Everything fails: commits, links,
//! power, whole disks; backups come back; a lake is not deterministic. Time is virtual, one seed
//! decides everything, and checkers that know the whole history watch each step.
//!
//! In the other kind of world, a manager and its machines share keys: [`run_kv`] runs one, with laws and deliberate bugs
//! ([`KvBug`]) of its own, and `tests/it/kv.rs` runs many.
//!
//! In the third kind, managers claim machines, and people end that again: [`run_pairs`], [`PairBug`], `tests/it/pairs.rs`.
//!
//! [`run`] runs one world. `tests/it/seeds.rs` runs many; `GROUNDSWELL_SEED=n` replays one of them
//! there, and prints what happened. `tests/it/deliberate_bugs.rs` switches on one [`Bug`] at a time,
//! and expects the checkers to find it.

#![forbid(unsafe_code)]

mod bug;
mod checkers;
mod context;
mod disk;
mod kv;
mod lake;
mod link;
mod pairs;
mod publisher;
mod queue;
mod reader;
mod report;
mod rng;
mod serve;
mod subscriber;
mod whole;
mod world;

use std::fmt;

pub use bug::Bug;
pub use checkers::{Broken, Law};
pub use kv::{KvBug, KvOptions, KvReport, run_kv, trace_kv};
pub use pairs::{PairBug, PairOptions, PairReport, run_pairs, trace_pairs};

/// How a world is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A mistake that the drivers make.
    pub bug: Option<Bug>,
    /// Records a trace of all events, which slows the run.
    pub trace: bool,
}

/// A world in which a law was broken.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Run again with this, it fails again.
    pub seed: u64,
    /// When, in virtual time.
    pub time: u64,
    /// Which law, and how.
    pub broken: Broken,
    /// What happened until then, if it was written down.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        write!(f, "seed {}, at {}: {}", self.seed, self.time, self.broken)
    }
}

report::report! {
    /// How often what happened, so that a test can see that it happened at all.
    Report:
    /// Events in all.
    events,
    /// Waves that were given.
    given,
    /// Waves that the lake refused.
    refused,
    /// Transactions of the publisher.
    commits,
    /// Transactions that failed.
    failed_commits,
    /// Processes that were killed.
    crashes,
    /// Connections that were cut.
    cuts,
    /// Streams that were begun.
    streams,
    /// Waves that were sent.
    waves_sent,
    /// How often waves had to be read from disk.
    read_from_disk,
    /// Rocks that were announced.
    rocks_sent,
    /// Rocks that were pruned while they were sent.
    rocks_gone,
    /// Rocks that took the place of a replica's state.
    rocks_applied,
    /// How often a subscriber was told that it has caught up.
    caught_up,
    /// How often a path became unavailable under a stream.
    interruptions,
    /// How often a subscriber was told that there is nothing for it.
    absences,
    /// How often a subscriber was told that its source has ended.
    ends,
    /// Subscriptions to another version of the lake that were refused.
    lakes_refused,
    /// Subscribers that learnt the lake of their source.
    updates,
    /// Changes of who may read.
    access_changes,
    /// Paths that were killed.
    kills,
    /// Paths that were opened again.
    reopenings,
    /// Wipes.
    wipes,
    /// Forks.
    forks,
    /// Copies of replicas.
    copies,
    /// States that came to be at a subscriber after it could no longer read.
    late_states,
    /// How often a reader was found to be ahead.
    aheads,
    /// Epochs that were begun with the history kept.
    epochs_renewed,
    /// Backups that were restored.
    restores,
    /// Backups that were restored, and no one said so.
    unnoticed_restores,
    /// Disks of the publisher that were lost.
    lost_disks,
    /// Replicas that were dropped.
    quits,
    /// Waves that a lake which is not deterministic washed wrongly.
    faulty_washes,
    /// Replicas that a digest showed to differ.
    divergences,
    /// Rocks that were too old to heal with.
    rocks_too_old,
    /// Waves that local readers read.
    reader_waves,
    /// Rocks that local readers read.
    reader_rocks,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64, options: &Options) -> Result<Report, Box<Failure>> {
    trace(seed, options).map(|(report, _)| report)
}

/// The same, with what happened, if it was to be written down.
pub fn trace(seed: u64, options: &Options) -> Result<(Report, Vec<String>), Box<Failure>> {
    let (result, time, trace) = world::World::new(seed, options).run();
    match result {
        Ok(report) => Ok((report, trace)),
        Err(broken) => Err(Box::new(Failure { seed, time, broken, trace })),
    }
}
