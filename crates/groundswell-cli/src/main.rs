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
mod log;
mod output;
mod peer_name;
mod registry;
mod stop;
mod store;
mod usage;
mod web;

use std::process::ExitCode;

use nix::sys::signal::Signal as NixSignal;

use crate::{args::Args, control::protocol::Outcome, error::ToolError};

/// What a command ends with that was written wrongly.
const WRONG_USAGE: u8 = 2;

/// The exit status where what was asked for may have been done. That of any other failure is 1.
const OUTCOME_UNKNOWN: u8 = 3;

fn main() -> ExitCode {
    // Before any thread is started: each begins with what is blocked in the one that starts it.
    stop::block(&[NixSignal::SIGXFSZ]);
    // What was said is written before the program ends, if it can be.
    let _flush = log::start();
    let line: Vec<_> = std::env::args_os().collect();
    let json = usage::wants_json(&line);
    let args = match Args::read(&line) {
        Ok(args) => args,
        Err(said) if !said.use_stderr() => {
            // The help, or the version; who reads it may have had enough.
            let _ = said.print();
            return ExitCode::SUCCESS;
        }
        Err(wrong) => return say_usage(wrong, &line, json),
    };
    if matches!(args.command, args::Command::Up(_) | args::Command::Demo(_) | args::Command::Doctor(_)) {
        // Whatever a part of the node or a library makes in the data directory is for this user alone.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    }
    if matches!(args.command, args::Command::Up(_) | args::Command::Demo(_)) {
        // A node in the background goes on when it says something on a terminal that is set to `tostop`.
        stop::block(&[NixSignal::SIGTTOU]);
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads our output has had enough: that is no error.
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(done @ ToolError::Unprinted(_)) => {
            output::say_warning(json, &done.to_string());
            ExitCode::SUCCESS
        }
        Err(ToolError::Usage(wrong)) => say_usage(usage::wrong(&wrong), &line, json),
        Err(error) => {
            let outcome = error.is_unknown().then_some(Outcome::Unknown);
            output::say_error(json, &error.to_string(), outcome);
            if outcome.is_some() { ExitCode::from(OUTCOME_UNKNOWN) } else { ExitCode::FAILURE }
        }
    }
}

fn say_usage(wrong: clap::Error, line: &[std::ffi::OsString], json: bool) -> ExitCode {
    let lines = usage::lines(wrong, line);
    if json {
        output::say_error(json, &usage::in_one_line(&lines), None);
    } else {
        lines.iter().for_each(|line| log::line(line));
    }
    ExitCode::from(WRONG_USAGE)
}

fn run(args: Args) -> Result<(), ToolError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ToolError::Runtime)?;
    let result = runtime.block_on(commands::run(args));
    // A thread that waits for standard input or output is not waited for.
    runtime.shutdown_background();
    result
}
