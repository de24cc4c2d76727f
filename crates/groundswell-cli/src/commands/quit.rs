//! `quit`: stops following a source.

use std::path::PathBuf;

use crate::{
    args::Quit,
    control::{client, protocol::Request},
    error::ToolError,
    output::Output,
};

/// Asks the node to quit, and says that it has.
pub(super) async fn run(quit: Quit, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let request = Request::Quit { peer: quit.peer.to_string(), path: quit.path.clone(), agent: quit.agent };
    let (_sender, mut answers) = client::ask(&dir, &request).await?;
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.line(line).await?;
        } else {
            output.line(format!("{} is no longer followed", quit.path)).await?;
        }
    }
    output.flush().await
}
