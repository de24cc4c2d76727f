//! The third kind of world: managers that claim machines, and people who end that again.
//!
//! Here nobody writes keys. What matters is who thinks that it shares a document with whom, while claims and releases cross, flushes
//! fail, processes are killed at any moment, connections break with whatever is on its way, and backups come back. The truth
//! knows what each side has given up, and what each of its backups knows of that.

mod bug;
mod laws;
mod link;
mod node;
mod world;

pub use bug::PairBug;

use crate::{Failure, report::report};

/// How a world of pairs is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct PairOptions {
    /// A mistake that the drivers make.
    pub bug: Option<PairBug>,
    /// Records a trace of all events, which slows the run.
    pub trace: bool,
}

report! {
    /// How often what happened in a world of pairs.
    PairReport:
    /// Events in all.
    events,
    /// Machines that stored a claim.
    claimed,
    /// Managers that stored a machine.
    machines,
    /// Managers that were handed over the document that they had.
    again,
    /// Documents that were handed over and had been given up.
    given_up_again,
    /// Releases by a person at a machine.
    released_by_machine,
    /// Releases by a person at a manager.
    released_by_manager,
    /// Releases that were honoured.
    honoured,
    /// Releases that were of another pairing by the time that they were to be honoured.
    too_late,
    /// Sides that learnt that the other one knows of a release.
    told,
    /// Former documents that were forgotten for a later pairing.
    forgotten,
    /// Hellos that led to a session.
    sessions,
    /// Hellos that led to the statement.
    exchanges,
    /// Hellos for documents of which nothing was known.
    not_known,
    /// Connections that broke.
    cuts,
    /// Flushes that failed.
    failed_flushes,
    /// Processes that were killed.
    kills,
    /// Kills before what was to be done was durable.
    undone,
    /// Backups that were restored.
    restores,
    /// Claims and releases by which people repaired pairs at the end, after a restored backup.
    mended,
}

/// Runs the world of pairs of a seed to its end.
pub fn run_pairs(seed: u64, options: &PairOptions) -> Result<PairReport, Box<Failure>> {
    trace_pairs(seed, options).map(|(report, _)| report)
}

/// The same, with what happened, if it was to be written down.
pub fn trace_pairs(seed: u64, options: &PairOptions) -> Result<(PairReport, Vec<String>), Box<Failure>> {
    let (result, time, trace) = world::World::new(seed, options).run();
    match result {
        Ok(report) => Ok((report, trace)),
        Err(broken) => Err(Box::new(Failure { seed, time, broken, trace })),
    }
}
