//! `metrics`: what a node has counted.

use std::{path::PathBuf, time::Duration};

use super::status::table;
use crate::{
    control::{
        client,
        protocol::{MetricLine, Request, TimesLine},
    },
    error::ToolError,
    output::Output,
};

/// Prints the metrics: a table, or an object a line.
pub(super) async fn run(dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    let (_sender, mut answers) = client::ask(&dir, &Request::Metrics).await?;
    let mut rows = Vec::new();
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.json(line).await?;
        } else {
            let row: MetricLine = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
            rows.push([row.name.clone(), in_words(&row), row.about]);
        }
    }
    output.lines(table(&rows)).await?;
    output.flush().await
}

fn in_words(row: &MetricLine) -> String {
    let time = |nanoseconds| format!("{:.1?}", Duration::from_nanos(nanoseconds));
    match &row.times {
        None => row.count.to_string(),
        Some(_) if row.count == 0 => "0".to_owned(),
        Some(TimesLine { median_ns, p99_ns, longest_ns, .. }) => {
            format!("{}: median {}, 99 % {}, longest {}", row.count, time(*median_ns), time(*p99_ns), time(*longest_ns))
        }
    }
}
