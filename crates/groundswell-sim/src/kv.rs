//! The other kind of world: one manager and one to three machines, which share a document each.
//!
//! Each side has what a node has: a clock and a counter with durable bounds, a view, the newest entry of each author and
//! key, readers, and a session. The manager has one disk for all its documents. The drivers here do what
//! the node's do: stage, make durable, show, answer. Flushes fail or end in doubt, power goes, links lose what is under way,
//! both sides dial at once, wall clocks are wrong, single values go missing, and the limits of values differ. The truth,
//! which knows every entry that was ever durable, watches each step.

mod actions;
mod bug;
mod context;
mod disk;
mod keeper;
mod link;
mod readers;
mod reconcile;
mod restored;
mod session;
mod side;
mod truth;
mod world;

pub use bug::KvBug;

use crate::{Failure, report::report};

/// How a world of keys is run.
#[derive(Debug, Clone, Copy, Default)]
pub struct KvOptions {
    /// A mistake that the drivers make.
    pub bug: Option<KvBug>,
    /// Records a trace of all events, which slows the run.
    pub trace: bool,
}

report! {
    /// How often what happened in a world of keys.
    KvReport:
    /// Events in all.
    events,
    /// Writes that were acknowledged.
    writes,
    /// Deletes that were acknowledged.
    deletes,
    /// Writes that failed.
    failed_writes,
    /// Writes of unknown outcome.
    unknown_writes,
    /// Flushes that were done.
    flushes,
    /// Flushes that failed, and were not done.
    failed_flushes,
    /// Flushes of unknown outcome.
    unknown_flushes,
    /// Flushes of unknown outcome that were found done after a crash.
    unknown_survived,
    /// Power cuts.
    power_cuts,
    /// Graceful partings.
    partings,
    /// Partings whose word the other side heard.
    partings_heard,
    /// Wall clocks that jumped.
    clock_jumps,
    /// Connections that were cut.
    cuts,
    /// Frames that were lost.
    frames_lost,
    /// Acknowledgements among them.
    acks_lost,
    /// Sessions that were begun, at each side.
    sessions,
    /// Sessions that took the place of another.
    superseded,
    /// Connections that were refused, since both sides had dialled.
    crossed,
    /// Entries that were sent.
    entries_sent,
    /// Acknowledgements that were sent.
    acks,
    /// Reads of a step that took a while.
    slow_reads,
    /// Entries of the other side that failed to be stored.
    failed_takes,
    /// How often a side was told that it is current.
    current,
    /// Values that were left out, since the other side takes none so large.
    left_out,
    /// Left-out values that a reconciliation found to be at the other side.
    left_out_resolved,
    /// Limits that were changed.
    limit_changes,
    /// Single values that went missing.
    went_missing,
    /// Wants.
    wants,
    /// Missing values that arrived.
    found_again,
    /// Sessions that had as many wants in flight as there may be.
    full_wants,
    /// Reconciliations.
    reconciliations,
    /// Reconciliations that found both sides alike.
    found_alike,
    /// Values that readers were shown.
    reader_puts,
    /// Deletes that they were shown.
    reader_deletes,
    /// Values that ceased to match their filter.
    reader_lefts,
    /// Copies of a disk that were taken.
    backups,
    /// Disks that went back, which the next start knows.
    restored,
    /// Disks that went back, which nothing here tells.
    rolled_back,
    /// Times that both sides went back at once.
    both_restored,
    /// Sides that noticed by the other side's word that they went back.
    noticed,
    /// Own entries that a side has taken back.
    taken_back,
    /// Own entries that came back, and lost to what was written since.
    came_back_older,
    /// Entries that were signed anew.
    signed_anew,
    /// Entries that were to be sent back to their author, who has lost them.
    sent_back,
    /// Agreements.
    agreed,
    /// Agreements that a power cut came upon.
    agreements_cut,
    /// Resets of readers.
    reader_resets,
    /// Readers that went on from their cursor.
    reader_resumes,
}

/// Runs the world of keys of a seed to its end.
pub fn run_kv(seed: u64, options: &KvOptions) -> Result<KvReport, Box<Failure>> {
    trace_kv(seed, options).map(|(report, _)| report)
}

/// The same, with what happened, if it was to be written down.
pub fn trace_kv(seed: u64, options: &KvOptions) -> Result<(KvReport, Vec<String>), Box<Failure>> {
    let (result, time, trace) = world::World::new(seed, options).run();
    match result {
        Ok(report) => Ok((report, trace)),
        Err(broken) => Err(Box::new(Failure { seed, time, broken, trace })),
    }
}
