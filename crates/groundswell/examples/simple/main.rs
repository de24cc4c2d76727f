//! The prototype's example agent, in a terminal: a line is a poke, as `agent.rs` lists them.
//!
//! In two terminals on one machine:
//!
//! ```text
//! $ cargo run --release --example simple -- a      $ cargo run --release --example simple -- b
//! my ticket: endpoint…                             my ticket: endpoint…
//! log /log hello                                   surf-log TICKET-OF-A
//!                                                  last message from simple on 3f7c… is hello
//! ```

mod agent;

use std::sync::Arc;

use groundswell::{HandlerError, Node};

#[tokio::main]
async fn main() -> Result<(), HandlerError> {
    let dir = std::env::args().nth(1).unwrap_or_else(|| "simple-data".to_owned());
    let node = Node::builder().data_dir(dir).offline().bind("127.0.0.1:0".parse()?).spawn().await?;
    println!("my id: {}\nmy ticket: {}", node.id(), node.ticket());
    let simple = agent::Simple::start(node.clone(), Arc::new(|line| println!("{line}"))).await?;
    for line in std::io::stdin().lines() {
        match simple.poke(&line?).await {
            Ok(()) => println!("{}", simple.read().await),
            Err(error) => println!("no: {error}"),
        }
    }
    Ok(node.shutdown().await?)
}
