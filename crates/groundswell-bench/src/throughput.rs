//! Durable waves a second, for 1 and for 64 concurrent givers and for `give_all`, beside raw
//! redb commits of as many rows, in the same run.

use std::{fmt, time::Instant};

use groundswell::{Publications, lakes::Log};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

use crate::{Result, node};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
const PAYLOAD: usize = 100;
const GIVERS: usize = 64;
const AT_ONCE: usize = 4_096;

/// Waves or rows a second.
#[derive(Debug)]
pub struct Throughput {
    /// One giver, one wave at a time; beside a redb commit of one row.
    pub one: (f64, f64),
    /// 64 givers; beside a redb commit of 64 rows.
    pub many: (f64, f64),
    /// `give_all` of 4,096; beside a redb commit of as many.
    pub all: (f64, f64),
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "throughput, {PAYLOAD}-byte waves, flushed to disk before acknowledged")?;
        let mut line = |name: &str, (ours, raw): (f64, f64)| {
            writeln!(f, "  {name}: {ours:.0} waves/s; raw redb {raw:.0} rows/s; ratio {:.2}", ours / raw)
        };
        line("1 giver", self.one)?;
        line("64 givers, each one at a time", self.many)?;
        line("give_all of 4,096", self.all)
    }
}

/// Gives and commits so many times each.
pub async fn run(rounds: usize) -> Result<Throughput> {
    let dir = TempDir::new()?;
    let node = node(dir.path()).await?;
    let logs = node.agent("bench")?.publications::<Log>("/log/*").await?;
    let database = Database::create(dir.path().join("raw.redb"))?;
    let one = (givers(&logs, "/log/one", 1, rounds).await?, raw(&database, 1, rounds)?);
    let many = (givers(&logs, "/log/many", GIVERS, rounds / 8).await?, raw(&database, GIVERS, rounds / 8)?);
    let batches = (rounds / 64).max(4);
    let begun = Instant::now();
    for _ in 0..batches {
        logs.give_all("/log/all", (0..AT_ONCE).map(|_| "x".repeat(PAYLOAD))).await?;
    }
    let ours = (batches * AT_ONCE) as f64 / begun.elapsed().as_secs_f64();
    let all = (ours, raw(&database, AT_ONCE, batches)?);
    node.shutdown().await?;
    Ok(Throughput { one, many, all })
}

async fn givers(logs: &Publications<Log>, path: &'static str, givers: usize, each: usize) -> Result<f64> {
    logs.open(path).await?;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..givers {
        let logs = logs.clone();
        tasks.spawn(async move {
            for _ in 0..each {
                logs.give(path, "x".repeat(PAYLOAD)).await?;
            }
            Ok::<_, groundswell::GiveError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok((givers * each) as f64 / begun.elapsed().as_secs_f64())
}

fn raw(database: &Database, rows: usize, commits: usize) -> Result<f64> {
    let payload = [7; PAYLOAD];
    let begun = Instant::now();
    for commit in 0..commits {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(ROWS)?;
            for row in 0..rows {
                table.insert((commit * rows + row) as u64, &payload[..])?;
            }
        }
        transaction.commit()?;
    }
    Ok((rows * commits) as f64 / begun.elapsed().as_secs_f64())
}
