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
    store::Store,
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
    let store = Store::open(&node, &dir, up.role).await?;
    let role = store.role();
    let started = Started { offline: up.offline, bind: up.bind };
    let registry = Registry::restore(node.clone(), store, started).await?;
    for problem in registry.standing_still() {
        say_warning(output.is_json(), &problem.said);
    }
    let server = Server::bind(&dir)?;
    let closing = CancellationToken::new();
    let serving = tokio::spawn(server.run(Arc::new(registry), closing.clone()));
    // A node whose first words no one reads runs on.
    let _ = say_ready(&node, role, &dir, output).await;
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

async fn say_ready(node: &Node, role: &str, dir: &std::path::Path, output: &mut Output) -> Result<(), ToolError> {
    let (id, ticket) = (node.id().to_string(), node.ticket().to_string());
    let what = if role == "peer" { "node" } else { role };
    if output.is_json() {
        output.object(&Ready { ready: true, id, ticket }).await?;
    } else {
        output.line(format!("The {what} {id} is up. Its ticket:\n\n  {ticket}\n")).await?;
        output.line(next_steps(role, dir)).await?;
        output.line("\nCtrl-C stops the node.").await?;
    }
    output.flush().await
}

/// What a person may want to do next, in another terminal.
fn next_steps(role: &str, dir: &std::path::Path) -> String {
    let tool = format!("  groundswell --data {}", dir.display());
    match role {
        "machine" => format!(
            "Next, in another terminal, wait for the manager who claims it:\n\n{tool} claims\n\n\
             and use its keys and values, claimed or not:\n\n{tool} kv set stock/cola 12"
        ),
        "manager" => format!(
            "Next, in another terminal, claim a machine (`groundswell up --role machine` shows its ticket):\n\n\
             {tool} claim TICKET\n\nand follow what its machines have:\n\n{tool} kv subscribe --all"
        ),
        _ => format!(
            "Next, in another terminal, publish a line:\n\n{tool} give /log/today 'hello' --lake log\n\n\
             and follow it, on this machine or another, where `groundswell up` runs too:\n\n  \
             groundswell surf TICKET /log/today --lake log"
        ),
    }
}
