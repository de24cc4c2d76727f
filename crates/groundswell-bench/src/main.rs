//! Runs every benchmark, or those named on the command line: `per-wave`, `latency`, `throughput`.

#![forbid(unsafe_code)]

use groundswell::Durability;
use groundswell_bench::{Result, latency, per_wave, throughput};

#[tokio::main]
async fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|one| one == name);
    if let Some(unknown) = named.iter().find(|name| !["per-wave", "latency", "throughput"].contains(&name.as_str())) {
        return Err(format!("there is no benchmark {unknown}: per-wave, latency, throughput").into());
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
        println!("{}", throughput::run(2_000).await?);
    }
    Ok(())
}
