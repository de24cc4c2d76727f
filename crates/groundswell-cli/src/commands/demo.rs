//! demo
use crate::{args::Demo, error::ToolError, output::Output};
pub(super) async fn run(_demo: Demo, _output: &mut Output) -> Result<(), ToolError> {
    Ok(())
}
