//! `up`: runs the node.

use std::{path::PathBuf, sync::Arc};

use groundswell::Node;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    args::Up,
    control::{protocol::Started, server::Server},
    error::ToolError,
    output::{Output, say_warning},
    registry::Registry,
    stop::Stop,
};

/// The line that says that commands are served from now on.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    id: String,
    ticket: String,
}

/// Runs the node until it is asked to stop.
pub(super) async fn run(up: Up, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let mut stop = Stop::new()?;
    let mut builder = Node::builder().data_dir(&dir);
    if up.offline {
        builder = builder.offline();
    }
    if let Some(addr) = up.bind {
        builder = builder.bind(addr);
    }
    if up.secret {
        builder = builder.secret_by_default();
    }
    let node = builder.spawn().await?;
    let started = Started { offline: up.offline, bind: up.bind };
    let registry = Registry::restore(node.clone(), started).await?;
    for problem in registry.standing_still() {
        say_warning(output.is_json(), &problem.said);
    }
    let server = Server::bind(&dir)?;
    let closing = CancellationToken::new();
    let serving = tokio::spawn(server.run(Arc::new(registry), closing.clone()));
    // A node whose first words no one reads runs on.
    let _ = say_ready(&node, &dir, output).await;
    stop.asked().await;
    // The socket goes before the data directory is let go of: the next node's is not ours to remove.
    closing.cancel();
    let clients = serving.await;
    let ended = node.shutdown().await;
    if let Ok(clients) = clients {
        clients.end().await;
    }
    Ok(ended?)
}

async fn say_ready(node: &Node, dir: &std::path::Path, output: &mut Output) -> Result<(), ToolError> {
    let (id, ticket) = (node.id().to_string(), node.ticket().to_string());
    if output.is_json() {
        output.object(&Ready { ready: true, id, ticket }).await?;
    } else {
        let data = dir.display();
        output.line(format!("The node {id} is up. Its ticket:\n\n  {ticket}\n")).await?;
        output.line("Next, in another terminal, publish a line:\n").await?;
        output.line(format!("  groundswell --data {data} give /log/today 'hello' --lake log\n")).await?;
        output.line("and follow it, on this machine or another, where `groundswell up` runs too:\n").await?;
        output.line("  groundswell surf TICKET /log/today --lake log\n\nCtrl-C stops the node.").await?;
    }
    output.flush().await
}
