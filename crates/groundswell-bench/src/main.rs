//! Runs every benchmark, or those named on the command line: `per-wave`, `latency`, `throughput`,
//! `kv`.

#![forbid(unsafe_code)]

use groundswell::Durability;
use groundswell_bench::{Result, kv, latency, per_wave, throughput};

const NAMES: [&str; 4] = ["per-wave", "latency", "throughput", "kv"];

#[tokio::main]
async fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|one| one == name);
    if let Some(unknown) = named.iter().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(format!("there is no benchmark {unknown}: {}", NAMES.join(", ")).into());
    }
    if wanted("per-wave") {
        for durability in [Durability::Memory, Durability::Disk] {
            println!("{}\n", per_wave::run(durability, 2_000).await?);
        }
    }
    if wanted("latency") {
        println!("{}\n", latency::run(2_000).await?);
    }
    if wanted("throughput") {
        println!("{}\n", throughput::run(2_000).await?);
    }
    if wanted("kv") {
        println!("{}", kv::run(kv::Size::FULL).await?);
    }
    Ok(())
}
