//! What can be written on the command line. What is done to whole paths is in `args/paths.rs`; a machine
//! and its manager are in `args/kv.rs`.

mod kv;
mod paths;

use std::{
    ffi::OsStr,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{
    Arg, ArgAction, Args as Arguments, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use groundswell::{Cursor, IdError, KvBudget, Name, Path, Pattern, WriteId};

pub(crate) use kv::{Claim, Claims, Kv, KvCommand, KvGet, KvSet, Machines, Place, Release, Role, Watch};
pub(crate) use paths::{Allow, Block, Copy, Doctor, Fork, Kill, OwnPath, Public, Rule, Secret, Wipe};

use crate::{builtin::Builtin, peer_name::PeerName, web::Listen};

/// Real-time replicated state between peers: keys that a machine and its manager share, and state that
/// one publishes and any number follow.
#[derive(Debug, Parser)]
#[command(name = "groundswell", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where the node keeps its key and its state [default: the platform's data directory].
    #[arg(long, value_name = "DIR", env = "GROUNDSWELL_DATA", global = true, hide_env_values = true)]
    pub(crate) data: Option<PathBuf>,

    /// Print one JSON object a line, and nothing else, on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Reads a command line, whose first word is the program's name.
    pub(crate) fn read(line: &[impl AsRef<OsStr>]) -> Result<Self, clap::Error> {
        match command().try_get_matches_from(line) {
            Err(error) if error.kind() == ErrorKind::DisplayHelp && has_values(line) => {
                let what = "unexpected argument '--help' found after a value";
                let mut wrong = command().error(ErrorKind::UnknownArgument, what);
                wrong.insert(ContextKind::InvalidArg, ContextValue::String("--help".to_owned()));
                Err(wrong)
            }
            read => Self::from_arg_matches(&read?),
        }
    }
}

/// Whether the command has a positional argument before `--help`. Then `--help` may be a value, and printing the help with
/// status 0 would look like success.
fn has_values(line: &[impl AsRef<OsStr>]) -> bool {
    let before = line.iter().map(AsRef::as_ref).take_while(|word| *word != "--help");
    let Ok(matches) = command().ignore_errors(true).try_get_matches_from(before) else { return false };
    let (mut command, mut matches) = (command(), &matches);
    while let Some((name, of_it)) = matches.subcommand() {
        let Some(found) = command.find_subcommand(name).cloned() else { return false };
        (command, matches) = (found, of_it);
    }
    command.get_positionals().any(|one| matches.value_source(one.get_id().as_str()) == Some(ValueSource::CommandLine))
}

/// What can be written. A command has no `-h`: a key, a value or a wave that begins with it would print the help, as if
/// all were well. It has `--help`.
pub(crate) fn command() -> clap::Command {
    fn without_short_help(command: clap::Command) -> clap::Command {
        let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print help");
        command.disable_help_flag(true).arg(help).mut_subcommands(without_short_help)
    }
    Args::command().mut_subcommands(without_short_help)
}

const EXAMPLES: &str = "\
Examples:
  groundswell demo                                   see it work, with nothing to set up
  groundswell up                                     run a node; it prints its ticket
  groundswell up --role machine                      run one that a manager can claim
  groundswell watch                                  see keys and machines change, in the terminal
  groundswell kv watch price/cola                    follow a key that the manager sets
  groundswell give /log/today 'hello' --lake log     publish a line, in another terminal
  groundswell surf TICKET /log/today --lake log      follow it, on another machine
  groundswell secret /log/today                      close it to everyone but those that are allowed
  groundswell doctor                                 see what is wrong here, and what to do

Exit status: 0, or 1 for an error said in one line on standard error, or 2 for wrong usage, or 3 where it is
not known whether what was asked for was done.
The log goes to standard error; GROUNDSWELL_LOG (or RUST_LOG) says how much of it, as in
GROUNDSWELL_LOG=groundswell=debug.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Up),
    Give(Give),
    Open(Open),
    Surf(Surf),
    Read(Read),
    Quit(Quit),
    Public(Public),
    Secret(Secret),
    Allow(Allow),
    Block(Block),
    Rule(Rule),
    Wipe(Wipe),
    Kill(Kill),
    Fork(Fork),
    Copy(Copy),
    Claim(Claim),
    Claims(Claims),
    Machines(Machines),
    Release(Release),
    Kv(Kv),
    Watch(Watch),
    Status(Status),
    Metrics(Metrics),
    Doctor(Doctor),
    Demo(Demo),
    Completions(Completions),
    Man(Man),
}

/// Run the node of a data directory until SIGINT or SIGTERM.
///
/// What earlier runs published, followed and shared goes on by itself.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell up
  groundswell up --data ./shop --offline
  groundswell up --data ./machine --role machine
  groundswell up --secret
  groundswell up --private
  groundswell up --http 127.0.0.1:8080
  groundswell up --http 192.168.1.5:8080 --http-public kiosk.lan
  groundswell up --bind 127.0.0.1:0 --offline --json | head -1")]
pub(crate) struct Up {
    /// What the node is in the key-value store. A data directory keeps its role, so that it need be said
    /// once [default: what the directory is, or peer].
    #[arg(long, value_name = "ROLE", value_enum)]
    pub(crate) role: Option<Role>,

    /// Do without public relays and look-up: peers are found by their tickets and on the local network.
    #[arg(long)]
    pub(crate) offline: bool,

    /// Bind this address alone instead of every interface; port 0, or none, takes the last one that was free.
    #[arg(long, value_name = "ADDR", value_parser = bind_address)]
    pub(crate) bind: Option<SocketAddr>,

    /// Take only peers that the node knows: those that it follows, those that a path is open to by name, and its manager or its
    /// machines. The data directory remembers it [default: what it remembers; otherwise so with --role machine].
    #[arg(long)]
    pub(crate) private: bool,

    /// Take whoever comes, whatever the data directory remembers.
    #[arg(long, conflicts_with = "private")]
    pub(crate) no_private: bool,

    /// How many MiB the keys and values of one machine may take, in memory and on disk. A write that would exceed it is
    /// refused at the side that makes it. Both sides keep to the smaller one of their two budgets [default: 64].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    pub(crate) document_budget: Option<u64>,

    /// The same of all machines of a manager together. Beyond it each may still have an equal part [default: 1024].
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1024 * 1024))]
    pub(crate) keys_budget: Option<u64>,

    /// What is published from here on is secret until it is made public, or peers are allowed.
    #[arg(long)]
    pub(crate) secret: bool,

    /// Serve the HTTP interface and the dashboard on this address; port 0, or none, takes the last one, if it is
    /// free [default: 127.0.0.1].
    #[arg(long, value_name = "ADDR", value_parser = bind_address)]
    pub(crate) http: Option<SocketAddr>,

    /// Let other computers use the HTTP interface, under this name or address of this device; more than one with commas.
    ///
    /// It is plain HTTP: whoever can read the traffic can read the token, all keys and all values, and with the token do
    /// all that you can do with this node. Say it behind a server that adds TLS, or on a network whose every participant
    /// may have that.
    #[arg(long, value_name = "NAME", value_delimiter = ',', requires = "http", value_parser = host_name)]
    pub(crate) http_public: Vec<String>,

    /// Serve no HTTP interface and no dashboard.
    #[arg(long, conflicts_with_all = ["http", "http_public"])]
    pub(crate) no_http: bool,
}

impl Up {
    /// How many bytes keys and values may take.
    pub(crate) fn budget(&self) -> KvBudget {
        let (mut budget, mib) = (KvBudget::default(), 1024 * 1024);
        budget.document = self.document_budget.map_or(budget.document, |said| said * mib);
        budget.node = self.keys_budget.map_or(budget.node, |said| said * mib);
        budget
    }

    /// Whether the node is to be private, where that is said.
    pub(crate) fn said_private(&self) -> Option<bool> {
        (self.private || self.no_private).then_some(self.private)
    }

    /// Where the HTTP interface is to be, if there is to be one.
    pub(crate) fn listen(&self) -> Option<Listen> {
        let default = Listen::default();
        let listen = Listen { addr: self.http.unwrap_or(default.addr), public: self.http_public.clone() };
        (!self.no_http).then_some(listen)
    }
}

/// A host's name or address, without a port.
fn host_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let is_address = text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if text.is_empty() || !text.bytes().all(fits) || (text.contains(':') && !is_address) {
        return Err("a name is kiosk.lan or 192.168.1.5, without a port".to_owned());
    }
    Ok(match text.parse() {
        // As it stands in a URL.
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => text.to_owned(),
    })
}

/// An address with its port, or without.
fn bind_address(text: &str) -> Result<SocketAddr, String> {
    let alone = |ip: IpAddr| SocketAddr::new(ip, 0);
    let parsed = text.parse().or_else(|_| text.parse().map(alone));
    parsed.map_err(|_| "an address is 127.0.0.1:4433, [::1]:4433, or either without a port".to_owned())
}

/// Publish waves on a path; print the aeon that they lead to, once they are durable.
///
/// Where a wave is refused, those before it are given, and the error says which one it was. With --id, all are given
/// together or none.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell give /log/today 'first line' 'second line' --lake log
  groundswell give /till -5 --lake sum
  groundswell give /menu '[{\"op\":\"add\",\"path\":\"\",\"value\":{\"tea\":2}}]' --lake json
  groundswell give /log/all --lake log -- '-a line that begins with -'
  groundswell give /till 100 --lake sum --id 0193e0e7-41d5-7c6e-9f1b-2b1c53a3c1a7
  tail -f access.log | groundswell give /log/access - --lake log")]
pub(crate) struct Give {
    /// Where to publish, such as /log/today.
    pub(crate) path: Path,

    /// The waves: lines for a log, whole numbers for a sum, JSON Patches for json. `-` reads waves
    /// from standard input, one a line.
    #[arg(required = true, value_name = "WAVE", allow_negative_numbers = true)]
    pub(crate) waves: Vec<String>,

    #[command(flatten)]
    pub(crate) kind: Kind,

    /// The agent that publishes.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,

    /// Print the aeon each time that some waves are durable, instead of once at the end.
    #[arg(long)]
    pub(crate) acks: bool,

    #[command(flatten)]
    pub(crate) once: Once,
}

/// The id of a write, by which it can be repeated.
#[derive(Debug, Arguments)]
pub(crate) struct Once {
    /// Do it once: repeated with the same id it is not done again, and answers as the first time; so repeat it where the
    /// outcome is unknown (status 3). 1 to 128 bytes; over HTTP only visible characters of ASCII can be said, without spaces.
    /// Ids have to ascend in the long run, as UUIDs of version 7 do.
    #[arg(long, value_name = "ID", value_parser = write_id)]
    pub(crate) id: Option<String>,
}

fn write_id(text: &str) -> Result<String, IdError> {
    WriteId::new(text).map(|_| text.to_owned())
}

/// Open the dashboard of the node that runs; with a path, publish the default state of a lake there.
///
/// The dashboard is opened by a link that is good for once, within five minutes; where there is no browser or no
/// terminal, the link is printed. With PATH and --lake, the default state (no lines, 0, null) is published, before any
/// wave.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell open                            the dashboard
  groundswell open --no-browser               a link to it
  groundswell open /log/today --lake log      a path")]
pub(crate) struct Open {
    /// Where to publish, such as /log/today.
    #[arg(requires = "lake")]
    pub(crate) path: Option<Path>,

    /// The kind of state.
    #[arg(long, value_name = "LAKE", requires = "path")]
    pub(crate) lake: Option<Builtin>,

    /// The agent that publishes.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,

    /// Print the link to the dashboard, and open no browser.
    #[arg(long, conflicts_with = "path")]
    pub(crate) no_browser: bool,
}

/// Follow a state: print what it is, then each change. It waits for what is not there yet.
///
/// The node goes on following it when this command ends, and after a restart, until `quit`. A path
/// that is killed, or closed to this node, is told (`killed`) and waited for: it comes back by itself. A path
/// of another lake is told too (`refused`). With --once, --count or --no-wait that is the end, with status 1; and what never
/// came and was not followed before is not followed afterwards.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell surf TICKET /log/today --lake log
  groundswell surf TICKET /till --lake sum --rock --json
  groundswell surf PEER-ID /till --lake sum --once --no-wait
  groundswell surf PEER-ID /till --lake sum --from CURSOR --json   with the cursor of an earlier line

A line an update, with the wave that led to it, or with the rock (the whole state) where there is
no wave: at first, and where this reader was too far behind.")]
pub(crate) struct Surf {
    /// The ticket of the publishing node, or its id if it is known here, whole or as `status` shows it.
    #[arg(value_name = "PEER")]
    pub(crate) peer: PeerName,

    /// The path on that node.
    pub(crate) path: Path,

    #[command(flatten)]
    pub(crate) kind: Kind,

    /// The agent that publishes it.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,

    /// End when caught up: the last line has the state as it is now.
    #[arg(long, conflicts_with = "count")]
    pub(crate) once: bool,

    /// End after so many updates. The first of a path that was not followed before may be its default state;
    /// for the state as it is now, use --once.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// End with status 1 where there is nothing to follow (any more), instead of waiting for it. What
    /// was not followed before, and has no state, is then not followed afterwards.
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// Print the rock with every update. One that lags then gets the newest rock, not every wave.
    #[arg(long)]
    pub(crate) rock: bool,

    /// Print no rock anywhere.
    #[arg(long, conflicts_with = "rock")]
    pub(crate) bare: bool,

    /// Go on after the update that had this cursor, if its waves are still kept.
    #[arg(long, value_name = "CURSOR")]
    pub(crate) from: Option<Cursor>,
}

/// Print states as they are now: one's own and those that are followed.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell read
  groundswell read /log/today
  groundswell read '/log/*' --source PEER-ID --json")]
pub(crate) struct Read {
    /// Only this path; with /* at its end, this path and all below it.
    pub(crate) path: Option<Pattern>,

    /// Only what this peer publishes, by ticket or id.
    #[arg(long, value_name = "PEER")]
    pub(crate) source: Option<PeerName>,
}

/// Stop following a state, and drop what is stored of it here.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell quit PEER-ID /log/today")]
pub(crate) struct Quit {
    /// The publishing node, by ticket or id.
    #[arg(value_name = "PEER")]
    pub(crate) peer: PeerName,

    /// The path on that node.
    pub(crate) path: Path,

    /// The agent that publishes it.
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) agent: Name,
}

/// Print what the node is doing: its ticket, its peers, what it publishes and follows, and how it stands
/// with its manager or its machines.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell status
  groundswell status --json | head -1")]
pub(crate) struct Status {}

/// Print what the node has counted since it was started, and how long it took: for states and for keys.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell metrics
  groundswell metrics --json | head -1")]
pub(crate) struct Metrics {}

/// Show it all in one process: vending machines and their manager, over real connections.
///
/// Machines are claimed, report stock, balance and temperature, publish their sales, and follow the prices that the
/// manager sets; one is switched off and on again. The manager's dashboard shows it live. Nothing has to be set up, and nothing is left behind. It ends
/// with a summary, and with status 1 if what the two sides have differs.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell demo
  groundswell demo --machines 10
  groundswell demo --for 10 --json     notes and progress, a line each; the last line is the summary")]
pub(crate) struct Demo {
    /// How many machines there are.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=MAX_DEMO_MACHINES))]
    pub(crate) machines: u64,

    /// End after so many seconds [default: at Ctrl-C; 30 where the output is no terminal].
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,

    /// Print the link to the dashboard, and open no browser.
    #[arg(long)]
    pub(crate) no_browser: bool,
}

/// Print the completions of a shell, to be kept where it looks for them.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell completions bash > ~/.local/share/bash-completion/completions/groundswell
  groundswell completions zsh > ~/.zfunc/_groundswell
  groundswell completions fish > ~/.config/fish/completions/groundswell.fish")]
pub(crate) struct Completions {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Write man pages of the tool and of each of its commands into a directory.
#[derive(Debug, Arguments)]
#[command(after_help = "\
Examples:
  groundswell man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// The directory. It is made where it is missing.
    pub(crate) dir: PathBuf,
}

/// The most machines of a demo: each is a node of its own, with files, threads and a socket.
const MAX_DEMO_MACHINES: u64 = 50;

/// Which kind of state it is.
#[derive(Debug, Clone, Copy, Arguments)]
pub(crate) struct Kind {
    /// The kind of state.
    #[arg(long, value_name = "LAKE")]
    pub(crate) lake: Builtin,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(line: &[&str]) -> Vec<String> {
        match Args::read(line).unwrap().command {
            Command::Give(give) => give.waves,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("groundswell "), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        command().get_subcommands().for_each(check);
    }

    /// docs/http.md says for each command which requests do the same; each is one that the interface has.
    #[test]
    fn every_command_has_its_requests_over_http() {
        // They start a node, or are of the device on which they run.
        const OF_THE_TOOL: [&str; 4] = ["up", "demo", "completions", "man"];
        let page = include_str!("../../../docs/http.md");
        let (_, section) = page.split_once("## What the tool does, by curl").unwrap();
        let (table, _) = section.split_once("\n## ").unwrap();
        let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let rows: Vec<(Vec<String>, Vec<String>)> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once(" | "))
            .map(|(commands, requests)| (code(&format!("`{commands}")), code(requests)))
            .collect();
        let named: Vec<&String> = rows.iter().flat_map(|(commands, _)| commands).collect();
        for command in command().get_subcommands().map(clap::Command::get_name) {
            let there = named.iter().filter(|named| **named == command).count();
            assert_eq!(there, usize::from(!OF_THE_TOOL.contains(&command)), "{command}");
        }
        let api: serde_json::Value = serde_json::from_str(include_str!("../../groundswell-web/openapi.json")).unwrap();
        let mut requests = 0;
        for request in rows.iter().flat_map(|(_, requests)| requests) {
            // A method alone is of the address that follows; what is neither is a topic or a word.
            let Some((method, path)) = request.split_once(' ').filter(|(_, path)| path.starts_with('/')) else {
                continue;
            };
            assert!(api["paths"][path][method.to_lowercase()].is_object(), "{request}");
            requests += 1;
        }
        assert!(requests >= rows.len(), "{rows:?}");
    }

    #[test]
    fn a_value_is_an_argument_or_a_file_and_may_be_negative() {
        let set = |more: &[&str]| Args::read(&[&["groundswell", "kv", "set", "key"], more].concat());
        for more in [&["-5"][..], &[""], &["--file", "x"], &["--", "-x"]] {
            assert!(set(more).is_ok(), "{more:?}");
        }
        for more in [&[][..], &["a", "--file", "x"], &["-x"], &["a", "--space", "a/b"]] {
            assert!(set(more).is_err(), "{more:?}");
        }
        for more in [&["--machine", "ae58ff"][..], &["--space", "a"], &["--cursor", "00:0"]] {
            let line = [&["groundswell", "kv", "subscribe", "--all"], more].concat();
            assert!(Args::read(&line).is_err(), "{more:?}");
        }
    }

    #[test]
    fn an_address_may_go_without_its_port() {
        for (text, address) in [("127.0.0.1:7", "127.0.0.1:7"), ("127.0.0.1", "127.0.0.1:0"), ("::1", "[::1]:0")] {
            assert_eq!(bind_address(text), Ok(address.parse().unwrap()));
        }
        for text in ["localhost:7", "7", "", "127.0.0.1:", "127.0.0.1:70000"] {
            assert!(bind_address(text).unwrap_err().contains("127.0.0.1:4433"), "{text}");
        }
    }

    #[test]
    fn other_computers_come_in_only_under_a_name() {
        let listen = |more: &[&str]| match Args::read(&[&["groundswell", "up"], more].concat())?.command {
            Command::Up(up) => Ok::<_, clap::Error>(up.listen()),
            other => panic!("{other:?}"),
        };
        assert!(listen(&["--no-http"]).unwrap().is_none());
        assert!(listen(&[]).unwrap().unwrap().addr.ip().is_loopback());
        let public = listen(&["--http", "0.0.0.0:80", "--http-public", "kiosk.lan,fe80::1"]).unwrap().unwrap();
        assert_eq!((public.addr.port(), public.public), (80, vec!["kiosk.lan".to_owned(), "[fe80::1]".to_owned()]));
        for wrong in [&["--http-public", "a"][..], &["--no-http", "--http", "127.0.0.1"], &["--http", "localhost"]] {
            assert!(listen(wrong).is_err(), "{wrong:?}");
        }
        for name in ["", "a b", "kiosk.lan:80", "http://kiosk.lan", "a/b"] {
            assert!(host_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn waves_may_be_negative_or_standard_input_or_begin_with_a_dash() {
        assert_eq!(waves(&["groundswell", "give", "/a", "-5", "7", "--lake", "sum"]), ["-5", "7"]);
        assert_eq!(waves(&["groundswell", "give", "/a", "--lake", "sum", "--", "-5"]), ["-5"]);
        assert_eq!(waves(&["groundswell", "give", "/a", "-", "--lake", "log"]), ["-"]);
        assert_eq!(waves(&["groundswell", "give", "/a", "--lake", "log", "--", "-x", "--y"]), ["-x", "--y"]);
        assert!(Args::read(&["groundswell", "give", "/a", "-x", "--lake", "log"]).is_err());
    }
}
