//! Reading states, published and followed.

use groundswell::Pattern;

use super::session::{Ending, Session};
use crate::error::ToolError;

/// Prints the states that are asked for, one a line, each as soon as it is read.
pub(super) async fn read(session: &mut Session, paths: Option<Pattern>, source: Option<&str>) -> Result<(), Ending> {
    let peer = source.map(|peer| session.registry.ticket(peer)).transpose()?.map(|ticket| ticket.peer());
    let mut found = false;
    for which in session.registry.readable(paths.as_ref(), peer).await {
        if let Some(state) = session.registry.read(which).await? {
            session.answers.line(&state).await?;
            found = true;
        }
    }
    match paths {
        Some(paths) if !found => Err(ToolError::NothingToRead(paths.to_string()).into()),
        _ => Ok(()),
    }
}
