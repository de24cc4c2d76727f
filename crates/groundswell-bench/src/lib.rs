//! Benchmarks of Groundswell. Each runs what it is compared with in the same run, on the same
//! machine, in turns, and prints the ratio: absolute figures move with the machine.

#![forbid(unsafe_code)]

pub mod kv;
pub mod latency;
pub mod per_wave;
mod spread;
pub mod throughput;

pub use spread::Spread;

use std::path::Path;

use groundswell::Node;

/// A failed benchmark says why in one line.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// A node on loopback, without any public service.
pub(crate) async fn node(dir: &Path) -> Result<Node> {
    Ok(Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse()?).spawn().await?)
}
