//! `open`: publishes the default rock.

use std::path::PathBuf;

use crate::{
    args::Open,
    control::{
        client,
        protocol::{Given, Request},
    },
    error::ToolError,
    output::Output,
};

/// Asks the node to publish, and prints the aeon.
pub(super) async fn run(open: Open, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let request = Request::Open { path: open.path.clone(), lake: open.kind.lake, agent: open.agent };
    let (_sender, mut answers) = client::ask(&dir, &request).await?;
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.line(line).await?;
        } else {
            let Given { aeon } = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
            output.line(format!("{} is open at aeon {aeon}", open.path)).await?;
        }
    }
    output.flush().await
}
