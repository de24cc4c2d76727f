//! A program that reads a replica where that is, by way of the core's cursor.

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Digest, Lake, Tide,
    encoding::decode,
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
};

use crate::{
    bug::Bug,
    checkers::{Broken, Law, Seen},
    context::Context,
    disk::Rows,
    lake::{self, Ledger, Rock, Wave},
};

/// A program that follows the replica, and keeps its cursor over restarts.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) seen: Seen,
    rock: Rock,
    pub(crate) outflow: Option<Outflow>,
    assembled: Vec<u8>,
    pub(crate) waits: bool,
    pub(crate) slowest: u64,
}

impl Reader {
    /// A reader that waits for the replica. Once woken it reads on within this time.
    pub(crate) fn new(slowest: u64) -> Self {
        Self { slowest, waits: true, ..Self::default() }
    }

    /// Takes one step. False where it waits.
    pub(crate) fn step(&mut self, cx: &mut Context, tide: &Tide, rows: &Rows, lawful: bool) -> Result<bool, Broken> {
        let stands = self.seen.at();
        let outflow = self.outflow.get_or_insert_with(|| Outflow::new(stands));
        match outflow.poll(tide) {
            Step::Resume(_) => outflow.resumed(),
            Step::BeginRock { at, info } => {
                self.assembled.clear();
                outflow.rock_begun(at, info);
            }
            Step::Chunk { aeon, index } => match rows.chunk(aeon, index) {
                Some(chunk) => {
                    self.assembled.extend_from_slice(chunk);
                    outflow.chunk_sent(chunk.len() as u64);
                    if let Some(at) = outflow.cursor().filter(|at| at.aeon == aeon && Some(*at) != stands) {
                        self.take_rock(cx, at, lawful)?;
                    }
                }
                None => outflow.rock_gone(),
            },
            Step::Waves { first, last } => {
                let recent = tide.recent_from(first, READ_BATCH_BYTES);
                let waves = recent.unwrap_or_else(|| rows.waves(first, last));
                let batch = 1 + cx.rng.index(6);
                let skip = usize::from(cx.has(Bug::SkipWaveAtReader) && cx.rng.chance(5));
                let aeons = (first.0..=last.0).map(Aeon).zip(waves).skip(skip).take(batch);
                let read: Vec<_> = aeons.collect();
                for (aeon, wave) in &read {
                    outflow.waves_sent(*aeon);
                    if rows.waves.get(aeon) != Some(wave) {
                        let what = format!("a reader is shown the wave {aeon}, which its replica has not stored");
                        return Err(Law::PersistBeforeTransmit.broken(what));
                    }
                }
                if read.is_empty() && skip == 0 {
                    return Err(Law::Storage.broken(format!("the wave {first} is kept, and is not stored")));
                }
                self.take_waves(cx, tide, read, lawful)?;
            }
            Step::CaughtUp(_) => outflow.told_caught_up(),
            Step::Wait => return Ok(false),
            Step::Ahead => {
                return Err(
                    Law::Order.broken(format!("a reader at {stands:?} is ahead of its replica at {}", tide.cursor()))
                );
            }
        }
        Ok(true)
    }

    fn take_rock(&mut self, cx: &mut Context, at: Cursor, lawful: bool) -> Result<(), Broken> {
        cx.report.reader_rocks += 1;
        self.seen.rock(at)?;
        if lawful {
            cx.checkers.same_rock(at, Digest::of(&self.assembled), "a reader's rock")?;
        }
        self.rock = decode(&self.assembled)?;
        Ok(())
    }

    fn take_waves(
        &mut self,
        cx: &mut Context,
        tide: &Tide,
        waves: Vec<(Aeon, Bytes)>,
        lawful: bool,
    ) -> Result<(), Broken> {
        for (aeon, wave) in waves {
            let at = Cursor { epoch: tide.cursor().epoch, aeon };
            self.seen.wave(at)?;
            cx.checkers.same_wave(at, &wave, "a reader's wave")?;
            let wave: Wave = decode(&wave)?;
            if Ledger::wash(&mut self.rock, &wave).is_err() && lawful {
                return Err(Law::SameRock.broken(format!("a reader's wash refuses {at}")));
            }
            cx.report.reader_waves += 1;
        }
        match self.seen.at().filter(|_| lawful) {
            Some(at) => cx.checkers.same_rock(at, lake::digest(&self.rock)?, "a reader's fold"),
            None => Ok(()),
        }
    }
}
