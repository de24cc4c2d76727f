//! The key-value store of a machine and its manager beside raw iroh-docs (two nodes with blobs and
//! gossip, everything on disk), and beside what a flush costs by itself. In the same run and in turns:
//! a turn begins when the work that the turn before has put off is over, and is long enough that most of
//! what it puts off itself falls into it.

mod disk;
mod load;
mod ours;
mod raw;

use std::{fmt, path::Path, time::Duration};

use tempfile::TempDir;

use crate::{Result, Spread};
use disk::Disk;
pub use load::Burst;
use load::{burst, latency, settle, writes};
use ours::Ours;
use raw::Raw;

/// The bytes of a value.
const VALUE_BYTES: usize = 100;

/// How many write at once where many do.
const WRITERS: usize = 64;

/// How many times as many writes are followed beside a stalled subscriber, and without, as otherwise; and how many of
/// them before the other is measured again.
const STALLED_SHARE: usize = 4;
const STALLED_BLOCK: usize = 20;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many turns each side has.
    pub turns: usize,
    /// Writes of a turn that are followed to the other side, one at a time.
    pub latency: usize,
    /// Writes of a turn by one writer; and flushes of a turn.
    pub one: usize,
    /// Writes of a turn by each of 64 writers.
    pub each: usize,
}

impl Size {
    /// What figures are taken from.
    pub const FULL: Self = Self { turns: 5, latency: 400, one: 400, each: 50 };

    /// So little that it only shows that everything works.
    pub const SMALL: Self = Self { turns: 2, latency: 20, one: 20, each: 2 };
}

/// The same measured of ours and of raw iroh-docs.
#[derive(Debug, Default)]
pub struct Both<T> {
    /// A machine and its manager: durable.
    pub ours: T,
    /// Raw iroh-docs: durable some time later.
    pub raw: T,
}

/// What a number of writers brought about, in each turn.
#[derive(Debug, Default)]
pub struct Bursts(pub Vec<Burst>);

impl Bursts {
    fn rates(&self, time: impl Fn(&Burst) -> Option<Duration>) -> Vec<f64> {
        self.0.iter().map(|burst| time(burst).map_or(0.0, |time| burst.writes as f64 / time.as_secs_f64())).collect()
    }

    /// Acknowledged writes a second, the median of the turns.
    pub fn acknowledged(&self) -> f64 {
        median(self.rates(|burst| Some(burst.acknowledged)))
    }

    /// Writes a second until the other side had all of them; 0 for a turn in which it never had.
    pub fn everywhere(&self) -> f64 {
        median(self.rates(|burst| burst.everywhere))
    }

    /// How many values never came to the other side.
    pub fn missing(&self) -> usize {
        self.0.iter().map(|burst| burst.missing).sum()
    }

    /// The longest total time of a writer over the median one, in the turn where it was greatest.
    pub fn slowest_writer(&self) -> f64 {
        let ratio = |burst: &Burst| over_median(&burst.of_writers);
        self.0.iter().map(ratio).fold(0.0, f64::max)
    }

    /// The longest wait for one write over the median one, in the turn where it was greatest.
    pub fn slowest_write(&self) -> f64 {
        self.0.iter().map(|burst| over_median(&burst.of_writes)).fold(0.0, f64::max)
    }

    /// The wait for one write, over all turns.
    pub fn waits(&self) -> Spread {
        Spread::of(self.0.iter().flat_map(|burst| burst.of_writes.iter().copied()).collect())
    }
}

fn over_median(times: &[Duration]) -> f64 {
    let spread = Spread::of(times.to_vec());
    spread.percentile(100).as_secs_f64() / spread.median().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What was measured.
#[derive(Debug)]
pub struct Kv {
    /// How much.
    pub size: Size,
    /// Where the data was.
    pub place: String,
    /// From the call of set to the event with a readable value at the other side.
    pub latency: Both<Spread>,
    /// One writer, each write awaited before the next.
    pub one: Both<Bursts>,
    /// 64 writers, likewise each.
    pub many: Both<Bursts>,
    /// Set alone: until it is acknowledged.
    pub set: Both<Spread>,
    /// A durable commit of one row by raw redb.
    pub redb: Spread,
    /// A write to the end of a file, and fdatasync: its length becomes durable too.
    pub append: Spread,
    /// A write within a file that is as long already, and fdatasync: the least that is durable.
    pub within: Spread,
    /// Set to event beside nobody, and beside a subscriber on either side that reads nothing; one a turn.
    pub alone: Vec<Spread>,
    /// See [`Self::alone`].
    pub beside_stalled: Vec<Spread>,
    /// Processor time of a write with all that was put off, of 64 writers, both nodes together.
    pub cost: Both<Duration>,
}

impl Kv {
    /// Ours over raw: the latency at this hundredth.
    pub fn latency_ratio(&self, percent: usize) -> f64 {
        ratio(self.latency.ours.percentile(percent), self.latency.raw.percentile(percent))
    }

    /// Ours over raw: acknowledged writes a second by one writer and by 64.
    pub fn throughput_ratios(&self) -> (f64, f64) {
        let ratio = |both: &Both<Bursts>| both.ours.acknowledged() / both.raw.acknowledged();
        (ratio(&self.one), ratio(&self.many))
    }

    /// The 99th hundredth beside a stalled subscriber over the one without: of all turns together, and the
    /// median of the turns' own.
    pub fn stalled_ratios(&self) -> (f64, f64) {
        let turns = self.alone.iter().zip(&self.beside_stalled);
        let of_turns = turns.map(|(alone, beside)| ratio(beside.percentile(99), alone.percentile(99))).collect();
        let (alone, beside) = (Spread::all(&self.alone), Spread::all(&self.beside_stalled));
        (ratio(beside.percentile(99), alone.percentile(99)), median(of_turns))
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl fmt::Display for Kv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { turns, latency, one, each } = self.size;
        writeln!(f, "key-value store beside raw iroh-docs: {VALUE_BYTES}-byte values, two nodes of one process over")?;
        writeln!(f, "loopback, data in {}, {turns} turns each; ours is flushed before it is", self.place)?;
        writeln!(f, "acknowledged and before it is shown at the other side, raw iroh-docs half a second later")?;
        writeln!(f, "1. set -> event with a readable value at the other side, one at a time, {latency} a turn")?;
        writeln!(f, "  ours: {}", self.latency.ours)?;
        writeln!(f, "  raw:  {}", self.latency.raw)?;
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.latency_ratio(percent));
        writeln!(f, "  ours / raw: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2} (promised: at most 1)")?;
        let (of_one, of_many) = self.throughput_ratios();
        let bursts = [("1 writer", one, &self.one, of_one, 1), ("64 writers", each, &self.many, of_many, 2)];
        for (name, each, both, ratio, promised) in bursts {
            writeln!(f, "2. throughput, {name}, {each} writes each a turn, each awaited before the next; writes/s")?;
            for (whose, bursts) in [("ours", &both.ours), ("raw", &both.raw)] {
                let (acknowledged, everywhere) = (bursts.acknowledged(), bursts.everywhere());
                write!(f, "  {whose}: acknowledged {acknowledged:.0}, until the other side had all {everywhere:.0}")?;
                match bursts.missing() {
                    0 => writeln!(f)?,
                    missing => writeln!(f, "; {missing} values never came")?,
                }
            }
            let everywhere = both.ours.everywhere() / both.raw.everywhere();
            write!(f, "  ours / raw: acknowledged {ratio:.2} (promised: at least {promised})")?;
            writeln!(f, ", until the other side had all {everywhere:.2}")?;
        }
        let (ours, raw) = (micros(self.cost.ours), micros(self.cost.raw));
        writeln!(f, "  processor time of a write of 64 writers, what was put off included, both nodes together:")?;
        writeln!(f, "  ours {ours:.0} us, raw {raw:.0} us")?;
        writeln!(f, "3. what the flush costs, one at a time, {one} a turn")?;
        writeln!(f, "  set, ours:                {}", self.set.ours)?;
        writeln!(f, "  set, raw, not flushed:    {}", self.set.raw)?;
        writeln!(f, "  redb, a row and a commit: {}", self.redb)?;
        writeln!(f, "  append and fdatasync:     {}", self.append)?;
        writeln!(f, "  overwrite and fdatasync:  {}", self.within)?;
        let set = self.set.ours.median();
        let (redb, plain) = (ratio(set, self.redb.median()), ratio(set, self.within.median()));
        writeln!(f, "  set, ours / redb: {redb:.2}; / overwrite and fdatasync: {plain:.2} (medians)")?;
        let beyond = micros(set) - micros(self.within.median());
        writeln!(f, "  set, ours, beyond the flush: {beyond:.0} us of {:.0} us (medians)", micros(set))?;
        writeln!(f, "4. 64 writers on one store: how long one waits, in the worst of {turns} turns")?;
        for (whose, bursts) in [("ours", &self.many.ours), ("raw", &self.many.raw)] {
            let (writer, write) = (bursts.slowest_writer(), bursts.slowest_write());
            write!(f, "  {whose}: slowest writer / median writer {writer:.2}")?;
            writeln!(f, ", slowest write / median write {write:.2}{}", promise(whose == "ours", "at most 10"))?;
            writeln!(f, "  {whose}: a write: {}", bursts.waits())?;
        }
        let latency = STALLED_SHARE * latency;
        writeln!(f, "5. a stalled subscriber on either side beside a busy one: set -> event, {latency} a turn")?;
        writeln!(f, "  alone:            {}", Spread::all(&self.alone))?;
        writeln!(f, "  beside a stalled: {}", Spread::all(&self.beside_stalled))?;
        let (all, of_turns) = self.stalled_ratios();
        write!(f, "  p99 beside / alone: {all:.2}, the median of the turns' own {of_turns:.2}")?;
        write!(f, "{}", promise(true, "at most 1.2"))
    }
}

fn promise(ours: bool, text: &str) -> String {
    if ours { format!(" (promised: {text})") } else { String::new() }
}

/// Measures everything, so much of each.
pub async fn run(size: Size) -> Result<Kv> {
    let dirs = [TempDir::new()?, TempDir::new()?];
    let mut ours = Ours::start(dirs[0].path()).await?;
    let mut raw = Raw::start(dirs[1].path()).await?;
    let mut disk = Disk::new(dirs[0].path())?;
    // Whatever a first write sets up is not measured.
    latency(&mut ours.side, 10).await?;
    latency(&mut raw.side, 10).await?;
    let (mut latencies, mut sets) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut measured = Kv {
        size,
        place: place(dirs[0].path()),
        latency: Both::default(),
        one: Both::default(),
        many: Both::default(),
        set: Both::default(),
        redb: Spread::default(),
        append: Spread::default(),
        within: Spread::default(),
        alone: Vec::new(),
        beside_stalled: Vec::new(),
        cost: Both::default(),
    };
    let (mut redb, mut append, mut within) = (Vec::new(), Vec::new(), Vec::new());
    let (mut our_cost, mut raw_cost) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..size.turns {
        settle().await;
        latencies[0].extend(latency(&mut ours.side, size.latency).await?);
        settle().await;
        latencies[1].extend(latency(&mut raw.side, size.latency).await?);
        settle().await;
        measured.one.ours.0.push(burst(&mut ours.side, 1, size.one).await?);
        settle().await;
        measured.one.raw.0.push(burst(&mut raw.side, 1, size.one).await?);
        let before = settle().await;
        measured.many.ours.0.push(burst(&mut ours.side, WRITERS, size.each).await?);
        let between = settle().await;
        measured.many.raw.0.push(burst(&mut raw.side, WRITERS, size.each).await?);
        let after = settle().await;
        our_cost += between.saturating_sub(before);
        raw_cost += after.saturating_sub(between);
        sets[0].extend(writes(&mut ours.side, size.one).await?);
        settle().await;
        sets[1].extend(writes(&mut raw.side, size.one).await?);
        settle().await;
        redb.extend(disk.redb(size.one)?);
        append.extend(disk.append(size.one)?);
        within.extend(disk.within(size.one)?);
        // In short blocks by turns: few writes decide a 99th hundredth, and what else the device does has to meet both.
        settle().await;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for block in 0..STALLED_SHARE * size.latency / STALLED_BLOCK {
            for stalled in [block % 2 == 0, block % 2 != 0] {
                let _stalled = if stalled { ours.stalled().await? } else { Vec::new() };
                let of_block = latency(&mut ours.side, STALLED_BLOCK).await?;
                if stalled { beside.extend(of_block) } else { alone.extend(of_block) }
            }
        }
        measured.alone.push(Spread::of(alone));
        measured.beside_stalled.push(Spread::of(beside));
    }
    let writes = u32::try_from(size.turns * WRITERS * size.each)?;
    measured.cost = Both { ours: our_cost / writes, raw: raw_cost / writes };
    let [our_latencies, raw_latencies] = latencies.map(Spread::of);
    measured.latency = Both { ours: our_latencies, raw: raw_latencies };
    let [our_sets, raw_sets] = sets.map(Spread::of);
    measured.set = Both { ours: our_sets, raw: raw_sets };
    measured.redb = Spread::of(redb);
    measured.append = Spread::of(append);
    measured.within = Spread::of(within);
    ours.stop().await?;
    raw.stop().await?;
    Ok(measured)
}

/// The directory and, where it can be told, the kind of its file system.
fn place(dir: &Path) -> String {
    let parent = dir.parent().unwrap_or(dir).display().to_string();
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = fields.filter(|fields| fields.len() > 2 && dir.starts_with(fields[1]));
    match holding.max_by_key(|fields| fields[1].len()) {
        Some(fields) => format!("{parent} ({})", fields[2]),
        None => parent,
    }
}
