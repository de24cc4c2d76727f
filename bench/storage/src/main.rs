//! Compares the storage of a node, its journal with redb behind it, with fjall. README.md tells how to run it.

#![forbid(unsafe_code)]

mod engine;
mod faults;
mod measures;
mod ours;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use engine::{Kind, Result, text};
use measures::{ALONE, ENTRIES, GIVES, KILLED_AFTER, LARGE, OVERWRITES, WAVES};

/// Stands in for the node's module of this name, which the journal uses.
pub(crate) mod error {
    #[derive(Debug, Clone)]
    pub(crate) struct StorageError(String);

    impl StorageError {
        pub(crate) fn new(error: impl std::fmt::Display) -> Self {
            Self(error.to_string())
        }

        pub(crate) fn of_disk(error: impl std::fmt::Display) -> Self {
            Self::new(error)
        }
    }

    impl std::fmt::Display for StorageError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
}

/// Stands in for the node's module of this name, which the journal uses.
pub(crate) mod files {
    pub(crate) fn private(options: &mut std::fs::OpenOptions) -> &mut std::fs::OpenOptions {
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600)
    }
}

const MEASURES: [&str; 4] = ["waves", "sync", "overwrites", "large"];

/// The figures as they are printed: their name, what they are, and how many digits follow the point.
const FIGURES: [(&str, &str, usize); 22] = [
    ("give-50", "one durable give, median, µs", 0),
    ("give-99", "one durable give, 99th percentile, µs", 0),
    ("set-50", "one durable set, median, µs", 0),
    ("set-99", "one durable set, 99th percentile, µs", 0),
    ("in-flight", "256 gives in flight, gives a second", 0),
    ("in-flight-50", "256 gives in flight, median latency, ms", 2),
    ("in-flight-99", "256 gives in flight, 99th percentile, ms", 2),
    ("waves-in", "waves written in, 1,024 a flush, s", 2),
    ("waves-out", "waves read out in order, s", 2),
    ("waves-disk", "their bytes on disk, closed, MB", 1),
    ("waves-memory", "peak memory of that process, MB", 1),
    ("waves-processor", "processor time of that process, s", 2),
    ("sync", "first sync, 256 KiB of entries a flush, s", 2),
    ("sync-read", "until all of it was read back, s", 2),
    ("sync-memory", "peak memory of that process, MB", 1),
    ("overwrites", "overwrites of 8 keys, 256 a flush, s", 2),
    ("overwrites-disk", "bytes on disk after them, closed, MB", 1),
    ("overwrites-memory", "peak memory of that process, MB", 1),
    ("large", "overwrites of 100 keys with 16 KiB, 16 a flush, s", 2),
    ("large-disk", "bytes on disk after them, closed, MB", 1),
    ("large-memory", "peak memory of that process, MB", 1),
    ("recovery", "opening after kill -9, ms", 1),
];

struct Arguments {
    /// By which all numbers are divided.
    scale: u64,
    rounds: usize,
    dir: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = Arguments { scale: 1, rounds: 0, dir: PathBuf::from(".") };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--quick" => arguments.scale = 10,
            "--rounds" => arguments.rounds = given.next().ok_or("--rounds needs a number")?.parse()?,
            "--dir" => arguments.dir = given.next().ok_or("--dir needs a directory")?.into(),
            "--child" => {
                let [measure, kind, dir] = [given.next(), given.next(), given.next()].map(Option::unwrap_or_default);
                let kind = Kind::of_name(&kind).ok_or("there is no such storage")?;
                let scale = given.next().ok_or("there is no scale")?.parse()?;
                match measure.as_str() {
                    "latencies" => measures::latencies(Path::new(&dir), scale)?,
                    "faults" => faults::run(kind, Path::new(&dir))?,
                    measure => measures::run(measure, kind, Path::new(&dir), scale)?,
                }
                return Ok(());
            }
            other => return Err(format!("unknown argument {other}: use --quick, --rounds N or --dir DIRECTORY").into()),
        }
    }
    if arguments.rounds == 0 {
        arguments.rounds = if arguments.scale > 1 { 2 } else { 5 };
    }
    Ok(compare(&arguments)?)
}

fn compare(arguments: &Arguments) -> Result<()> {
    let begun = Instant::now();
    let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut note = |found: Vec<(String, f64)>| {
        for (name, value) in found {
            figures.entry(name).or_default().push(value);
        }
    };
    for round in 0..arguments.rounds {
        let progress = |what: &str| eprintln!("{:>5.0} s: round {}, {what}", begun.elapsed().as_secs_f64(), round + 1);
        progress("latencies");
        note(in_child(arguments, "latencies", Kind::Ours)?);
        for measure in MEASURES.into_iter().chain(["recovery"]) {
            // Another one first in every round.
            for turn in 0..Kind::ALL.len() {
                let kind = Kind::ALL[(round + turn) % Kind::ALL.len()];
                progress(&format!("{measure}, {}", kind.name()));
                note(match measure {
                    "recovery" => killed(arguments, kind)?,
                    measure => in_child(arguments, measure, kind)?,
                });
            }
        }
    }
    println!(
        "{} rounds, medians. redb {}, fjall {}. {} durable writes alone, {} in flight, {} waves of 100 bytes, \
         {} entries of 300 bytes, {} overwrites, {} with 16 KiB, killed after {} to {} waves.\n",
        arguments.rounds,
        version_of("redb").unwrap_or_default(),
        version_of("fjall").unwrap_or_default(),
        ALONE / arguments.scale,
        GIVES / arguments.scale,
        WAVES / arguments.scale,
        ENTRIES / arguments.scale,
        OVERWRITES / arguments.scale,
        LARGE / arguments.scale,
        KILLED_AFTER / arguments.scale,
        KILLED_AFTER / arguments.scale * 3 / 2,
    );
    println!(
        "| Measure | ours | fjall | fjall, small | fjall / ours | small / ours |\n| --- | --: | --: | --: | --: | --: |"
    );
    for (name, what, digits) in FIGURES {
        let [ours, fjall, small] = Kind::ALL.map(|kind| {
            let mut values = figures.remove(&format!("{}/{name}", kind.name())).unwrap_or_default();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        });
        println!(
            "| {what} | {ours:.digits$} | {fjall:.digits$} | {small:.digits$} | {:.2} | {:.2} |",
            fjall / ours,
            small / ours
        );
    }
    println!("\nEvery count and every order was checked. After kill -9 nothing acknowledged was missing.");
    for kind in [Kind::Ours, Kind::Fjall] {
        println!("\n| A flush of the journal fails once: {} | |\n| --- | --- |", kind.name());
        for line in failing(arguments, kind)? {
            println!("| {line} |");
        }
    }
    Ok(())
}

fn temporary(arguments: &Arguments) -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("storage-").tempdir_in(&arguments.dir).map_err(text)
}

fn child(arguments: &Arguments, measure: &str, kind: Kind, dir: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().map_err(text)?);
    command.args(["--child", measure, kind.name()]).arg(dir).arg(arguments.scale.to_string());
    command.stdout(Stdio::piped());
    Ok(command)
}

/// Runs it to its end, and returns the lines that it has printed.
fn lines(command: &mut Command) -> Result<Vec<String>> {
    let output = command.stderr(Stdio::inherit()).output().map_err(text)?;
    if !output.status.success() {
        return Err(format!("{command:?} has failed"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn figures(lines: &[String]) -> Result<Vec<(String, f64)>> {
    let figure = |line: &String| {
        let (name, value) = line.split_once(' ').ok_or(format!("no figure: {line}"))?;
        Ok((name.to_owned(), value.parse().map_err(text)?))
    };
    lines.iter().map(figure).collect()
}

fn in_child(arguments: &Arguments, measure: &str, kind: Kind) -> Result<Vec<(String, f64)>> {
    let dir = temporary(arguments)?;
    figures(&lines(&mut child(arguments, measure, kind, &dir.path().join("data"))?)?)
}

/// Kills a process that writes, and opens what it has left.
fn killed(arguments: &Arguments, kind: Kind) -> Result<Vec<(String, f64)>> {
    let dir = temporary(arguments)?;
    let data = dir.path().join("data");
    let least = KILLED_AFTER / arguments.scale;
    let until = rand::random_range(least..=least * 3 / 2);
    let mut writer = child(arguments, "fill", kind, &data)?.spawn().map_err(text)?;
    let mut acknowledged = 0;
    let out = BufReader::new(writer.stdout.take().ok_or("no output")?);
    let mut killed = false;
    // What it has said before it died counts too.
    for line in out.lines() {
        acknowledged = line.map_err(text)?.parse().map_err(text)?;
        if acknowledged >= until && !killed {
            writer.kill().map_err(text)?;
            killed = true;
        }
    }
    writer.wait().map_err(text)?;
    if !killed {
        return Err("the process that writes ended by itself".to_owned());
    }
    let found = figures(&lines(&mut child(arguments, "recovered", kind, &data)?)?)?;
    match found.iter().find(|(name, _)| name.ends_with("/found")) {
        Some((_, found)) if *found >= acknowledged as f64 => {}
        found => return Err(format!("{}: {acknowledged} were acknowledged, and {found:?}", kind.name())),
    }
    Ok(found)
}

fn failing(arguments: &Arguments, kind: Kind) -> Result<Vec<String>> {
    let dir = temporary(arguments)?;
    let root = dir.path().canonicalize().map_err(text)?;
    let shim = root.join("shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim.c");
    let mut compiler = Command::new("cc");
    lines(compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source).arg("-ldl"))?;
    let mut faults = child(arguments, "faults", kind, &root.join("data"))?;
    faults
        .env("LD_PRELOAD", shim)
        .env("STORAGE_FAIL", root.join("fail"))
        .env("STORAGE_MATCH", faults::journal_of(kind));
    lines(&mut faults)
}

/// The version of a crate in the lock file of this workspace.
fn version_of(name: &str) -> Option<&'static str> {
    let (_, after) = include_str!("../Cargo.lock").split_once(&format!("name = \"{name}\"\nversion = \""))?;
    after.split_once('"').map(|(version, _)| version)
}
