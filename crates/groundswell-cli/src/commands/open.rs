//! `open` without a path: the dashboard of the node that runs.

use std::path::Path;

use crate::{
    browser,
    control::{
        client,
        protocol::{Dashboard, Request},
    },
    error::ToolError,
    output::Output,
};

/// Opens the dashboard in a browser; where there is none, or it is not wanted, prints the link.
pub(super) async fn dashboard(no_browser: bool, dir: &Path, output: &mut Output) -> Result<(), ToolError> {
    // All accounts of this device can read what a browser is started with.
    let own = !output.is_json() && !no_browser && browser::is_there();
    let (_sender, mut answers) = client::ask(dir, &Request::Dashboard { own }).await?;
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.json(line).await?;
            continue;
        }
        let made: Dashboard = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
        if own && browser::open(&made.link) {
            output.line(format!("The dashboard of {} opens in the browser.", made.http)).await?;
        } else {
            output.line(made.link).await?;
        }
    }
    output.flush().await
}
