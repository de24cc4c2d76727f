//! The measures. Each runs in a process of its own, on a directory of its own.

use std::{
    io::Write,
    ops::Range,
    path::Path,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use crate::engine::{Engine, Kind, Result, Row, Table, text};

/// How many durable writes there are, one after the other, and how many with [`IN_FLIGHT`] at a time. A quick run has a
/// tenth of all numbers.
pub(crate) const ALONE: u64 = 2_000;
pub(crate) const GIVES: u64 = 100_000;
pub(crate) const WAVES: u64 = 1_000_000;
pub(crate) const ENTRIES: u64 = 100_000;
pub(crate) const OVERWRITES: u64 = 100_000;

/// How many overwrites have a large value.
pub(crate) const LARGE: u64 = 10_000;

/// After so many acknowledged waves, or up to half as many more, a process is killed.
pub(crate) const KILLED_AFTER: u64 = 300_000;

const IN_FLIGHT: usize = 256;

/// In how many turns latencies are measured.
const TURNS: u64 = 50;

/// How many commands the node takes together for one flush.
const COMMANDS_A_FLUSH: u64 = 1_024;

const WAVE_BYTES: usize = 100;
const ENTRY_BYTES: usize = 300;

/// Of a large value: fjall keeps it apart from its key.
const LARGE_BYTES: usize = 16 * 1024;

/// How many bytes of entries a first sync makes durable together.
const SYNC_BYTES: usize = 256 * 1024;

/// How many keys are set, with large values too, and how many are overwritten.
const SET_KEYS: u64 = 100;
const OVERWRITTEN_KEYS: u64 = 8;

fn random(bytes: usize) -> Vec<u8> {
    let mut value = vec![0; bytes];
    rand::fill(&mut value[..]);
    value
}

fn keyed(first: u64, second: u64) -> Vec<u8> {
    [first.to_be_bytes(), second.to_be_bytes()].concat()
}

fn give(aeon: u64) -> Row {
    Row { table: Table::Waves, key: keyed(7, aeon), value: Some(random(WAVE_BYTES)) }
}

/// Document, author, and the digest of a key, as in the tables of the node.
fn place(key: u64) -> Vec<u8> {
    let mut place = vec![0; 9];
    place.extend(blake3::hash(&key.to_le_bytes()).as_bytes());
    place
}

fn log_key(counter: u64, key: u64) -> Vec<u8> {
    let place = place(key);
    [&place[..9], &counter.to_be_bytes()[..], &place[9..]].concat()
}

/// The rows of an entry without its mark.
fn entry(key: u64, counter: u64, before: Option<u64>, bytes: usize) -> Vec<Row> {
    let mut value = counter.to_be_bytes().to_vec();
    value.extend(random(bytes - value.len()));
    let mut rows = vec![
        Row { table: Table::Entries, key: place(key), value: Some(value) },
        Row { table: Table::Log, key: log_key(counter, key), value: Some(Vec::new()) },
    ];
    rows.extend(before.map(|before| Row { table: Table::Log, key: log_key(before, key), value: None }));
    rows
}

fn mark(counter: u64) -> Row {
    Row { table: Table::Marks, key: vec![0; 10], value: Some(counter.to_be_bytes().to_vec()) }
}

/// The set of this counter, where so many keys are set in turn.
fn set(counter: u64, keys: u64, bytes: usize) -> Vec<Row> {
    let mut rows = entry(counter % keys, counter, counter.checked_sub(keys), bytes);
    rows.push(mark(counter));
    rows
}

/// Measures latencies of all kinds in one process, in many short turns: other programs slow a disk down for a second,
/// and would else slow down one kind alone.
pub(crate) fn latencies(dir: &Path, scale: u64) -> Result<()> {
    let mut sides = Vec::new();
    for kind in Kind::ALL {
        sides.push(Side {
            kind,
            engine: kind.open(&dir.join(kind.name()))?,
            times: Default::default(),
            lasted: Duration::ZERO,
        });
    }
    let turn = |count: u64, turn: u64| count * turn / TURNS..count * (turn + 1) / TURNS;
    for number in 0..TURNS {
        sides.rotate_left(1);
        for Side { engine, times: [gives, sets, _], .. } in &mut sides {
            one_by_one(gives, turn(ALONE / scale, number), |n| engine.write(vec![give(n)]))?;
            one_by_one(sets, turn(ALONE / scale, number), |n| engine.write(set(n, SET_KEYS, ENTRY_BYTES)))?;
        }
    }
    for Side { engine, .. } in &sides {
        check_waves(&**engine, ALONE / scale)?;
        check_sets(&**engine, ALONE / scale, SET_KEYS, ENTRY_BYTES)?;
    }
    for number in 0..TURNS {
        sides.rotate_left(1);
        for Side { engine, times: [.., times], lasted, .. } in &mut sides {
            let begun = Instant::now();
            in_flight(&**engine, turn(GIVES / scale, number), times)?;
            *lasted += begun.elapsed();
        }
    }
    for Side { kind, engine, times, lasted } in sides {
        check_waves(&*engine, ALONE.max(GIVES) / scale)?;
        for (mut times, (name, unit)) in times.into_iter().zip([("give", 1e6), ("set", 1e6), ("in-flight", 1e3)]) {
            times.sort();
            println!("{}/{name}-50 {}", kind.name(), at(&times, 0.5) * unit);
            println!("{}/{name}-99 {}", kind.name(), at(&times, 0.99) * unit);
        }
        println!("{}/in-flight {}", kind.name(), (GIVES / scale) as f64 / lasted.as_secs_f64());
    }
    Ok(())
}

struct Side {
    kind: Kind,
    engine: Box<dyn Engine>,
    /// Of gives alone, of sets alone, and of gives in flight.
    times: [Vec<Duration>; 3],
    lasted: Duration,
}

/// Does one measure, and prints its figures.
pub(crate) fn run(measure: &str, kind: Kind, dir: &Path, scale: u64) -> Result<()> {
    if measure == "fill" {
        return fill(kind, dir);
    }
    let begun = Instant::now();
    let engine = kind.open(dir)?;
    let opened = begun.elapsed();
    let say = |name: &str, value: f64| println!("{}/{name} {value}", kind.name());
    match measure {
        "waves" => {
            let begun = Instant::now();
            for first in (0..WAVES / scale).step_by(COMMANDS_A_FLUSH as usize) {
                engine.write((first..(WAVES / scale).min(first + COMMANDS_A_FLUSH)).map(give).collect())?;
            }
            say("waves-in", begun.elapsed().as_secs_f64());
            let begun = Instant::now();
            check_waves(&*engine, WAVES / scale)?;
            say("waves-out", begun.elapsed().as_secs_f64());
            drop(engine);
            say("waves-disk", on_disk(dir)? / 1e6);
            say("waves-memory", peak_memory()?);
            say("waves-processor", processor_time()?);
            return Ok(());
        }
        "sync" => {
            let begun = Instant::now();
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for counter in 0..ENTRIES / scale {
                batch.extend(entry(counter, counter, None, ENTRY_BYTES));
                bytes += ENTRY_BYTES;
                if bytes + ENTRY_BYTES > SYNC_BYTES || counter + 1 == ENTRIES / scale {
                    batch.push(mark(counter));
                    engine.write(std::mem::take(&mut batch))?;
                    bytes = 0;
                }
            }
            say("sync", begun.elapsed().as_secs_f64());
            check_sets(&*engine, ENTRIES / scale, ENTRIES / scale, ENTRY_BYTES)?;
            say("sync-read", begun.elapsed().as_secs_f64());
            drop(engine);
            say("sync-memory", peak_memory()?);
            return Ok(());
        }
        "overwrites" | "large" => {
            let (count, keys, bytes, together) = match measure {
                "large" => (LARGE / scale, SET_KEYS, LARGE_BYTES, SYNC_BYTES / LARGE_BYTES),
                _ => (OVERWRITES / scale, OVERWRITTEN_KEYS, ENTRY_BYTES, IN_FLIGHT),
            };
            let begun = Instant::now();
            for first in (0..count).step_by(together) {
                let counters = first..count.min(first + together as u64);
                engine.write(counters.flat_map(|counter| set(counter, keys, bytes)).collect())?;
            }
            say(measure, begun.elapsed().as_secs_f64());
            check_sets(&*engine, count, keys, bytes)?;
            drop(engine);
            say(&format!("{measure}-disk"), on_disk(dir)? / 1e6);
            say(&format!("{measure}-memory"), peak_memory()?);
            return Ok(());
        }
        "recovered" => {
            say("recovery", opened.as_secs_f64() * 1e3);
            say("found", check_no_hole(&*engine)? as f64);
        }
        other => return Err(format!("there is no measure {other}")),
    }
    Ok(())
}

fn one_by_one(times: &mut Vec<Duration>, numbers: Range<u64>, write: impl Fn(u64) -> Result<()>) -> Result<()> {
    for number in numbers {
        let begun = Instant::now();
        write(number)?;
        times.push(begun.elapsed());
    }
    Ok(())
}

fn at(sorted: &[Duration], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize].as_secs_f64()
}

/// A client that keeps so many gives in flight, and a writer that takes together what there is.
fn in_flight(engine: &dyn Engine, aeons: Range<u64>, times: &mut Vec<Duration>) -> Result<()> {
    let (commands, queue) = channel::<(Instant, Row)>();
    let (acknowledge, acknowledged) = channel::<Vec<Instant>>();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || -> Result<()> {
            while let Ok(first) = queue.recv() {
                let more = queue.try_iter().take(COMMANDS_A_FLUSH as usize - 1);
                let (sent, rows) = std::iter::once(first).chain(more).unzip();
                engine.write(rows)?;
                // The client has ended only where it has everything.
                let _ = acknowledge.send(sent);
            }
            Ok(())
        });
        let mut waiting = 0;
        for aeon in aeons {
            commands.send((Instant::now(), give(aeon))).map_err(text)?;
            waiting += 1;
            if waiting == IN_FLIGHT {
                let Ok(done) = acknowledged.recv() else { break };
                waiting -= done.len();
                times.extend(done.into_iter().map(|sent| sent.elapsed()));
            }
        }
        drop(commands);
        times.extend(acknowledged.iter().flatten().map(|sent| sent.elapsed()));
        writer.join().unwrap()
    })
}

/// Every wave is there, in order.
fn check_waves(engine: &dyn Engine, count: u64) -> Result<()> {
    match check_no_hole(engine)? {
        found if found == count => Ok(()),
        found => Err(format!("{found} waves instead of {count}")),
    }
}

/// How many waves there are, each next to the one before.
fn check_no_hole(engine: &dyn Engine) -> Result<u64> {
    let (mut next, mut wrong) = (0, None);
    engine.each(Table::Waves, &mut |key, value| {
        if key != keyed(7, next) || value.len() != WAVE_BYTES {
            wrong.get_or_insert(next);
        }
        next += 1;
    })?;
    wrong.map_or(Ok(next), |wrong| Err(format!("the wave {wrong} is not where it should be")))
}

/// The last entry of each key is there, and the log has these alone.
fn check_sets(engine: &dyn Engine, count: u64, keys: u64, bytes: usize) -> Result<()> {
    let newest = count.saturating_sub(keys)..count;
    let mut logged = Vec::new();
    engine.each(Table::Log, &mut |key, _| {
        logged.push(u64::from_be_bytes(key[9..17].try_into().unwrap()));
    })?;
    if !logged.iter().copied().eq(newest.clone()) {
        return Err(format!("the log has {} rows, and not those of {newest:?}", logged.len()));
    }
    for counter in newest {
        let found = engine.get(Table::Entries, &place(counter % keys))?;
        if found.is_none_or(|value| value.len() != bytes || value[..8] != counter.to_be_bytes()) {
            return Err(format!("the entry {counter} is not there"));
        }
    }
    match engine.get(Table::Marks, &[0; 10])? {
        Some(mark) if mark == (count - 1).to_be_bytes() => Ok(()),
        mark => Err(format!("the mark is {mark:?}")),
    }
}

/// Writes waves, 64 a flush, until it is killed, and says how many are acknowledged.
fn fill(kind: Kind, dir: &Path) -> Result<()> {
    let engine = kind.open(dir)?;
    let mut out = std::io::stdout().lock();
    for first in (0..).step_by(64) {
        engine.write((first..first + 64).map(give).collect())?;
        writeln!(out, "{}", first + 64).and_then(|()| out.flush()).map_err(text)?;
    }
    Ok(())
}

/// The bytes that the files of a directory occupy on the disk, without the holes in them.
pub(crate) fn on_disk(dir: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for file in std::fs::read_dir(dir).map_err(text)? {
        let path = file.map_err(text)?.path();
        let metadata = path.metadata().map_err(text)?;
        bytes += match metadata.is_dir() {
            true => on_disk(&path)?,
            false => std::os::unix::fs::MetadataExt::blocks(&metadata) as f64 * 512.0,
        };
    }
    Ok(bytes)
}

/// The most memory that this process has held, in MB.
fn peak_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(text)?;
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    peak.map(|kib| kib * 1024.0 / 1e6).ok_or_else(|| "the system does not tell of memory".to_owned())
}

/// How long this process has used a processor, in seconds.
fn processor_time() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").map_err(text)?;
    // After the name, which may hold anything: user and system time are the 12th and the 13th field, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Ok(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0)
}
