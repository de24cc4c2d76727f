//! `up`: runs the node.

use std::{path::PathBuf, sync::Arc};

use groundswell::Node;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Role, Up},
    control::{protocol::Started, server::Server},
    error::ToolError,
    output::{self, Output, say_warning},
    registry::Registry,
    stop::Stop,
    store::Store,
    web::Web,
};

/// The line that says that commands are served from now on.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    id: String,
    ticket: String,
    /// Where the HTTP interface is; null where there is none.
    http: Option<String>,
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
    builder = match up.said_private() {
        Some(true) => builder.private(),
        Some(false) => builder.not_private(),
        None if up.role == Some(Role::Machine) => builder.private_at_first(),
        // Its directory says what it is.
        None if up.role.is_none() => builder.private_at_first_if_machine(),
        None => builder,
    };
    let node = builder.spawn().await?;
    let store = Store::open(&node, &dir, up.role, up.budget()).await?;
    let role = store.role();
    let started = Started { offline: up.offline, bind: up.bind };
    let subject = store.subject(&node);
    let registry = Arc::new(Registry::restore(node.clone(), store, started).await?);
    for problem in registry.standing_still() {
        say_warning(output.is_json(), &problem.said);
    }
    let server = Server::bind(&dir)?;
    let web = match up.listen() {
        Some(listen) => match Web::start(subject, Some(registry.clone()), &dir, &listen).await {
            Ok(web) => Some(Arc::new(web)),
            Err(error) => {
                // Why it does not start is what counts.
                let _ = node.shutdown().await;
                return Err(error);
            }
        },
        None => None,
    };
    let closing = CancellationToken::new();
    let serving = tokio::spawn(server.run(registry, web.clone(), closing.clone()));
    // A node whose first words no one reads runs on, and ends when it is asked to.
    if stop.unless(say_ready(&node, role, &dir, web.as_deref(), output)).await.is_some() {
        stop.asked().await;
    }
    // The socket goes before the data directory is let go of: the next node's is not ours to remove.
    closing.cancel();
    let clients = serving.await;
    // Pages are told that it ends while the node is still there.
    if let Some(web) = &web {
        web.shutdown().await;
    }
    let ended = node.shutdown().await;
    if let Ok(clients) = clients {
        clients.end().await;
    }
    Ok(ended?)
}

async fn say_ready(
    node: &Node,
    role: &str,
    dir: &std::path::Path,
    web: Option<&Web>,
    output: &mut Output,
) -> Result<(), ToolError> {
    let (id, ticket) = (node.id().to_string(), node.ticket().to_string());
    let what = if role == "peer" { "node" } else { role };
    if output.is_json() {
        output.object(&Ready { ready: true, id, ticket, http: web.map(Web::address) }).await?;
    } else {
        output.lines([&format!("The {what} {id} is up. Its ticket:"), "", &format!("  {ticket}"), ""]).await?;
        if let Some(web) = web {
            output.lines(dashboard(web, dir)).await?;
        }
        output.lines(next_steps(role, dir)).await?;
        output.lines(["", "Ctrl-C stops the node."]).await?;
    }
    output.flush().await
}

/// Where the dashboard is. The link goes to a person alone, and not into a file.
fn dashboard(web: &Web, dir: &std::path::Path) -> Vec<String> {
    let again = format!("`groundswell --data {} open`", dir.display());
    let mut lines = match output::is_terminal() {
        true => vec![
            format!("See it in a browser; the link is good for once, within five minutes ({again} makes another):"),
            String::new(),
            format!("  {}", web.link(None)),
        ],
        false => vec![format!("Its HTTP interface is {}; {again} opens the dashboard.", web.address())],
    };
    lines.push(String::new());
    lines
}

/// What a person may want to do next, in another terminal.
fn next_steps(role: &str, dir: &std::path::Path) -> Vec<String> {
    let tool = format!("groundswell --data {}", dir.display());
    let steps = match role {
        "machine" => [
            "Next, in another terminal, wait for the manager who claims it:".to_owned(),
            format!("{tool} claims"),
            "and use its keys and values, claimed or not:".to_owned(),
            format!("{tool} kv set stock/cola 12"),
        ],
        "manager" => [
            "Next, in another terminal, claim a machine (`groundswell up --role machine` shows its ticket):".to_owned(),
            format!("{tool} claim TICKET"),
            "and follow what its machines have:".to_owned(),
            format!("{tool} kv subscribe --all"),
        ],
        _ => [
            "Next, in another terminal, publish a line:".to_owned(),
            format!("{tool} give /log/today 'hello' --lake log"),
            "and follow it, on this machine or another, where `groundswell up` runs too:".to_owned(),
            "groundswell surf TICKET /log/today --lake log".to_owned(),
        ],
    };
    let [first, one, second, other] = steps;
    vec![first, String::new(), format!("  {one}"), String::new(), second, String::new(), format!("  {other}")]
}
