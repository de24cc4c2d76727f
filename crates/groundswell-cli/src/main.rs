//! `groundswell`: the command-line tool. Each command but `up`, `demo`, `completions` and `man` speaks to the node that
//! runs in a data directory; the node is `up`.

#![forbid(unsafe_code)]

mod args;
mod browser;
mod builtin;
mod bytes;
mod commands;
mod control;
mod data_dir;
mod error;
mod lines;
mod output;
mod peer_name;
mod registry;
mod stop;
mod store;
mod web;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use crate::{args::Args, error::ToolError};

/// The exit status where what was asked for may have been done. That of any other failure is 1, and of wrong usage 2.
const OUTCOME_UNKNOWN: u8 = 3;

fn main() -> ExitCode {
    let args = Args::parse();
    start_log();
    let json = args.json;
    if matches!(args.command, args::Command::Up(_) | args::Command::Demo(_) | args::Command::Doctor(_)) {
        // Whatever a part of the node or a library makes in the data directory is for this user alone.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads our output has had enough: that is no error.
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(ToolError::Usage(wrong)) => Args::command().error(ErrorKind::ValueValidation, wrong).exit(),
        Err(error) => {
            output::say_error(json, &error);
            if error.is_unknown() { ExitCode::from(OUTCOME_UNKNOWN) } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: Args) -> Result<(), ToolError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ToolError::Runtime)?;
    let result = runtime.block_on(commands::run(args));
    // A thread that waits for standard input or output is not waited for.
    runtime.shutdown_background();
    result
}

/// What is logged unless the environment says otherwise: Groundswell's own words. What the network
/// library complains of at this level is mostly that a peer has gone or that we end.
const DEFAULT_LOG: &str = "groundswell=warn";

/// The log goes to standard error, so that standard output is the command's own.
fn start_log() {
    let from_env = ["GROUNDSWELL_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::new(from_env.as_deref().unwrap_or(DEFAULT_LOG));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
