//! The commands, one file each.

mod demo;
mod give;
mod open;
mod quit;
mod read;
mod status;
mod surf;
mod up;

use std::path::PathBuf;

use crate::{
    args::{Args, Command},
    data_dir,
    error::ToolError,
    output::Output,
};

/// Runs the command that was asked for.
pub(crate) async fn run(args: Args) -> Result<(), ToolError> {
    let mut output = Output::new(args.json);
    let data = Data(args.data);
    match args.command {
        Command::Up(up) => up::run(up, data.dir()?, &mut output).await,
        Command::Give(give) => give::run(give, data.dir()?, &mut output).await,
        Command::Open(open) => open::run(open, data.dir()?, &mut output).await,
        Command::Surf(surf) => surf::run(surf, data.dir()?, &mut output).await,
        Command::Read(read) => read::run(read, data.dir()?, &mut output).await,
        Command::Quit(quit) => quit::run(quit, data.dir()?, &mut output).await,
        Command::Status(_) => status::run(data.dir()?, &mut output).await,
        Command::Demo(demo) => demo::run(demo, &mut output).await,
    }
}

/// The data directory, as the user names it. Only commands that need one ask for it.
struct Data(Option<PathBuf>);

impl Data {
    fn dir(self) -> Result<PathBuf, ToolError> {
        self.0.map_or_else(data_dir::default_dir, Ok)
    }
}
