//! The commands: one file each, but for those whose answer is one line, which are in
//! `commands/access.rs` and `commands/paths.rs`.

mod access;
mod claim;
mod demo;
mod doctor;
mod give;
mod kv;
mod machines;
mod metrics;
mod open;
mod pages;
mod paths;
mod read;
mod status;
mod surf;
mod up;
mod watch;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{
    args::{Args, Command, Open},
    control::{client, protocol::Request},
    data_dir,
    error::ToolError,
    output::Output,
};

/// Runs the command that was asked for.
pub(crate) async fn run(args: Args) -> Result<(), ToolError> {
    let mut output = Output::new(args.json);
    do_it(args.command, Data(args.data), &mut output).await?;
    output.end()
}

async fn do_it(command: Command, data: Data, output: &mut Output) -> Result<(), ToolError> {
    match command {
        Command::Up(up) => up::run(up, data.dir()?, output).await,
        Command::Give(give) => give::run(give, data.dir()?, output).await,
        Command::Open(Open { path: Some(path), lake: Some(lake), agent, .. }) => {
            paths::open(path, lake, agent, data.dir()?, output).await
        }
        // A path and its lake are given together, or neither is.
        Command::Open(open) => open::dashboard(open.no_browser, &data.dir()?, output).await,
        Command::Surf(surf) => surf::run(surf, data.dir()?, output).await,
        Command::Read(read) => read::run(read, data.dir()?, output).await,
        Command::Quit(quit) => paths::quit(quit, data.dir()?, output).await,
        Command::Public(public) => access::public(public, data.dir()?, output).await,
        Command::Secret(secret) => access::secret(secret, data.dir()?, output).await,
        Command::Allow(allow) => access::allow(allow, data.dir()?, output).await,
        Command::Block(block) => access::block(block, data.dir()?, output).await,
        Command::Rule(rule) => paths::rule(rule, data.dir()?, output).await,
        Command::Wipe(wipe) => paths::wipe(wipe, data.dir()?, output).await,
        Command::Kill(kill) => paths::kill(kill, data.dir()?, output).await,
        Command::Fork(fork) => paths::fork(fork, data.dir()?, output).await,
        Command::Copy(copy) => paths::copy(copy, data.dir()?, output).await,
        Command::Claim(claim) => claim::claim(claim, data.dir()?, output).await,
        Command::Claims(claims) => claim::claims(claims, data.dir()?, output).await,
        Command::Machines(_) => machines::machines(data.dir()?, output).await,
        Command::Release(release) => machines::release(release, data.dir()?, output).await,
        Command::Kv(kv) => kv::run(kv, data.dir()?, output).await,
        Command::Watch(watch) => watch::run(watch, data.dir()?, output).await,
        Command::Doctor(_) => doctor::run(data.dir()?, output).await,
        Command::Status(_) => status::run(data.dir()?, output).await,
        Command::Metrics(_) => metrics::run(data.dir()?, output).await,
        Command::Demo(demo) => demo::run(demo, output).await,
        Command::Completions(completions) => pages::completions(completions.shell, output).await,
        Command::Man(man) => pages::man(&man.dir, output).await,
    }
}

/// The data directory, as the user names it. Only commands that need one ask for it.
struct Data(Option<PathBuf>);

impl Data {
    fn dir(self) -> Result<PathBuf, ToolError> {
        self.0.map_or_else(data_dir::default_dir, Ok)
    }
}

/// Asks the node something that it answers in one line, and prints that: as it is, or in words.
async fn answer<T: for<'a> Deserialize<'a>>(
    dir: &Path,
    request: &Request,
    output: &mut Output,
    in_words: impl Fn(T) -> String,
) -> Result<(), ToolError> {
    let (_sender, mut answers) = client::ask(dir, request).await?;
    if request.writes() {
        output.goes_on();
    }
    while let Some(line) = answers.next_line().await? {
        if output.is_json() {
            output.json(line).await?;
        } else {
            let answer = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
            output.line(in_words(answer)).await?;
        }
    }
    output.flush().await
}
