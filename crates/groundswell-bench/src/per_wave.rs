//! Does the cost of a wave grow with the rock? Lake `log`, a rock of 1,000 lines beside one of
//! 1,000,000, in turns: at the publisher (the time of `give`), and at a subscriber on another
//! node that reads the rock at each update (the time from the call of `give` to the end of that
//! look). Making rocks is amortised work that is reported apart.

use std::{
    fmt,
    time::{Duration, Instant},
};

use groundswell::{Durability, Event, Publications, Source, Updates, lakes::Log};
use tempfile::TempDir;

use crate::{Result, Spread, node};

const SMALL: usize = 1_000;
const LARGE: usize = 1_000_000;
/// Waves that are given at once while the rocks are filled.
const FILL: usize = 50_000;

/// What was measured.
#[derive(Debug)]
pub struct PerWave {
    /// The durability of the publications.
    pub durability: Durability,
    /// `give`, with the small rock and the large one.
    pub give: [Spread; 2],
    /// From `give` to the end of the look at the rock on the other node, likewise.
    pub look: [Spread; 2],
    /// How many rocks were made meanwhile, and how long that took.
    pub rocks: (u64, Duration),
}

impl PerWave {
    /// How many times as much a wave costs with the large rock as with the small one, at the publisher
    /// and at the subscriber: the least of the ratios of the quartiles and of the ninetieth hundredth.
    /// A cost that grows with the rock moves all of them. A thread that is moved to another core moves
    /// some: the times of a wave in memory have two heaps, of some 20 and some 100 microseconds.
    pub fn ratios(&self) -> (f64, f64) {
        let ratio = |[small, large]: &[Spread; 2]| {
            let at = |percent| large.percentile(percent).as_secs_f64() / small.percentile(percent).as_secs_f64();
            [25, 50, 75, 90].map(at).into_iter().fold(f64::INFINITY, f64::min)
        };
        (ratio(&self.give), ratio(&self.look))
    }
}

impl fmt::Display for PerWave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (give, look) = self.ratios();
        writeln!(f, "per wave, lake log, Durability::{:?}", self.durability)?;
        writeln!(f, "  give, rock of {SMALL:>9} lines: {}", self.give[0])?;
        writeln!(f, "  give, rock of {LARGE:>9} lines: {}", self.give[1])?;
        writeln!(f, "  ratio: {give:.2}")?;
        writeln!(f, "  give -> rock read on another node, {SMALL:>9} lines: {}", self.look[0])?;
        writeln!(f, "  give -> rock read on another node, {LARGE:>9} lines: {}", self.look[1])?;
        writeln!(f, "  ratio: {look:.2}")?;
        let (count, time) = self.rocks;
        write!(f, "  rocks made meanwhile, both nodes: {count}, {:.1} ms in all", time.as_secs_f64() * 1e3)
    }
}

/// Gives so many waves in turn to a small and a large rock, and measures each.
pub async fn run(durability: Durability, waves: usize) -> Result<PerWave> {
    let (here, there) = (TempDir::new()?, TempDir::new()?);
    let (publisher, follower) = (node(here.path()).await?, node(there.path()).await?);
    follower.add_peer(&publisher.ticket()).await?;
    let logs = publisher.agent("bench")?.publications_with::<Log>("/log/*", durability).await?;
    let inbox = follower.agent("bench")?.subscriptions::<Log>("/log/*").await?;
    let paths = [("/log/small", SMALL), ("/log/large", LARGE)];
    let mut streams = Vec::new();
    for (path, lines) in paths {
        fill(&logs, path, lines).await?;
        let mut updates = inbox.surf(Source::new(publisher.id(), "bench", path)?).await?;
        while !matches!(updates.next().await, Some(Event::CaughtUp { .. })) {}
        streams.push(updates);
    }
    let rocks = || {
        let (ours, theirs) = (publisher.metrics(), follower.metrics());
        (ours.rocks_made + theirs.rocks_made, ours.rock_nanoseconds + theirs.rock_nanoseconds)
    };
    let before = rocks();
    let (mut give, mut look) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for n in 0..waves {
        // Each comes first as often as the other.
        for which in [n % 2, 1 - n % 2] {
            let path = paths[which].0;
            let begun = Instant::now();
            let aeon = logs.give(path, format!("line {n}")).await?;
            give[which].push(begun.elapsed());
            read_until(&mut streams[which], aeon.0).await?;
            look[which].push(begun.elapsed());
        }
    }
    let after = rocks();
    publisher.shutdown().await?;
    follower.shutdown().await?;
    let spent = Duration::from_nanos(after.1 - before.1);
    Ok(PerWave {
        durability,
        give: give.map(Spread::of),
        look: look.map(Spread::of),
        rocks: (after.0 - before.0, spent),
    })
}

async fn fill(logs: &Publications<Log>, path: &str, lines: usize) -> Result<()> {
    for begin in (0..lines).step_by(FILL) {
        logs.give_all(path, (begin..lines.min(begin + FILL)).map(|n| format!("line {n}"))).await?;
    }
    Ok(())
}

/// Reads the rock at each update until it is at this aeon.
async fn read_until(updates: &mut Updates<Log>, aeon: u64) -> Result<()> {
    loop {
        let seen = updates.next_with_rock(|event, rock| match (event, rock) {
            (Event::Update(update), Some(rock)) => Some((update.aeon().0, rock.last().map(String::len))),
            _ => None,
        });
        match seen.await {
            Some(Some((at, Some(_)))) if at >= aeon => return Ok(()),
            Some(_) => {}
            None => return Err("the stream ended".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a hundred waves so many take the fast way and the others the slow one, with so much on top.
    fn waves(fast: usize, more: u64) -> Spread {
        let time =
            |at: usize| Duration::from_micros(if at < fast { 20 + at as u64 / 10 } else { 95 + at as u64 / 10 } + more);
        Spread::of((0..100).map(time).collect())
    }

    fn ratio(small: Spread, large: Spread) -> f64 {
        let (durability, rocks) = (Durability::Memory, (0, Duration::ZERO));
        let give = [small, large];
        PerWave { durability, look: give.clone(), give, rocks }.ratios().0
    }

    #[test]
    fn waves_that_take_the_slow_way_more_often_are_no_growth() {
        assert!(ratio(waves(60, 0), waves(40, 0)) <= 1.5);
        assert!(ratio(waves(80, 0), waves(10, 0)) <= 1.5);
    }

    #[test]
    fn a_cost_that_each_wave_has_is_growth_however_waves_go() {
        // Copying a million lines takes milliseconds.
        for fast in [10, 40, 60, 90] {
            assert!(ratio(waves(60, 0), waves(fast, 1_000)) > 5.0, "{fast}");
            assert!(ratio(waves(fast, 0), waves(fast, 80)) > 1.5, "{fast}");
        }
    }
}
