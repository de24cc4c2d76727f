//! The behaviour after one flush that fails, and after a power cut behind it. The flushes of this process go through
//! `shim.c`.

use std::{collections::BTreeMap, fs, path::Path};

use crate::engine::{Engine, Kind, Result, Row, Table, text};

/// The unit of the system's page cache (4 KiB).
const PAGE_BYTES: usize = 4096;

/// Larger than some pages, so that some of them hold nothing else.
const VALUE_BYTES: usize = 20_000;

/// The part of a journal's name by which the shim knows it.
pub(crate) fn journal_of(kind: Kind) -> &'static str {
    if kind == Kind::Ours { ".journal" } else { ".jnl" }
}

fn row(name: &str) -> Row {
    let mut value = vec![0; VALUE_BYTES];
    rand::fill(&mut value[..]);
    Row { table: Table::Waves, key: name.as_bytes().to_vec(), value: Some(value) }
}

/// The files of the journal, as they can be read.
fn journals(kind: Kind, dir: &Path) -> Result<BTreeMap<std::path::PathBuf, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(dir).map_err(text)? {
        let path = file.map_err(text)?.path();
        if path.to_string_lossy().ends_with(journal_of(kind)) {
            let bytes = fs::read(&path).map_err(text)?;
            found.insert(path, bytes);
        }
    }
    Ok(found)
}

fn names(engine: &dyn Engine) -> Result<Vec<String>> {
    let mut names = Vec::new();
    engine.each(Table::Waves, &mut |key, _| names.push(String::from_utf8_lossy(key).into_owned()))?;
    Ok(names)
}

/// Writes A, lets the flush of B fail, writes C, opens the storage again, writes D and E, and cuts the power. Prints
/// the outcome of each.
///
/// The power cut takes what a system loses after a flush that failed: the pages that were to be written then, and that
/// nothing has written to since. They count as written, so that no later flush brings them to the disk.
pub(crate) fn run(kind: Kind, dir: &Path) -> Result<()> {
    let flag = std::env::var("STORAGE_FAIL").map_err(text)?;
    let engine = kind.open(dir)?;
    let mut acknowledged = Vec::new();
    let mut write = |engine: &dyn Engine, name: &'static str, what: &str| {
        let outcome = match engine.write(vec![row(name)]) {
            Ok(()) => {
                acknowledged.push(name);
                "acknowledged".to_owned()
            }
            Err(error) => format!("refused ({error})"),
        };
        println!("{name}, {what} | {outcome}");
    };
    write(&*engine, "A", "written before");
    let before = journals(kind, dir)?;
    fs::write(&flag, b"").map_err(text)?;
    write(&*engine, "B", "whose flush fails");
    if Path::new(&flag).exists() {
        return Err("no flush has failed".to_owned());
    }
    let failed = journals(kind, dir)?;
    write(&*engine, "C", "written next");
    drop(engine);
    let engine = kind.open(dir)?;
    println!("rows after it is opened again | {}", names(&*engine)?.join(" "));
    write(&*engine, "D", "written then");
    write(&*engine, "E", "written after it");
    // The process ends without closing anything: the tables may still need the journal.
    let copy = dir.with_extension("after");
    copy_dir(dir, &copy)?;
    for (path, mut now) in journals(kind, &copy)? {
        let name = dir.join(path.file_name().unwrap_or_default());
        let (Some(before), Some(failed)) = (before.get(&name), failed.get(&name)) else { continue };
        let mut lost = 0;
        let pages = now.chunks_mut(PAGE_BYTES).zip(before.chunks(PAGE_BYTES).zip(failed.chunks(PAGE_BYTES)));
        for (page, (before, failed)) in pages {
            if page == failed && failed != before {
                page.copy_from_slice(before);
                lost += 1;
            }
        }
        fs::write(&path, &now).map_err(text)?;
        println!("pages that the power cut takes | {lost}");
    }
    let after = match kind.open(&copy).and_then(|engine| names(&*engine)) {
        Ok(names) => names,
        Err(error) => {
            println!("rows after the power cut | it does not open: {error}");
            return Ok(());
        }
    };
    println!("rows after the power cut | {}", after.join(" "));
    acknowledged.retain(|name| !after.iter().any(|there| there == name));
    let lost = if acknowledged.is_empty() { "none".to_owned() } else { acknowledged.join(" ") };
    println!("rows that were acknowledged and are lost | {lost}");
    Ok(())
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(text)?;
    for file in fs::read_dir(from).map_err(text)? {
        let file = file.map_err(text)?;
        let into = to.join(file.file_name());
        match file.file_type().map_err(text)?.is_dir() {
            true => copy_dir(&file.path(), &into)?,
            false => drop(fs::copy(file.path(), into).map_err(text)?),
        }
    }
    Ok(())
}
