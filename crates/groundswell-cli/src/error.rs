//! Why a command failed, said in one line that says what to do next.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use groundswell::{
    ClaimError, ClaimFailure, ClaimRefusal, CursorError, DeclareError, GiveError, KeyError, KvError, KvOpenError,
    ManageError, Name, OpenError, Path, PathError, ReadError, ShutdownError, Source, StorageError, SurfError,
    TicketError, WriteError,
};

use crate::{builtin::Builtin, peer_name::PeerNameError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("cannot start: {0}; are there too many processes or open files?")]
    Runtime(io::Error),
    #[error("no data directory: neither --data, GROUNDSWELL_DATA, XDG_DATA_HOME nor HOME says where; give --data DIR")]
    NoDataDir,
    #[error("no node runs in {dir}: start one with `groundswell up --data {dir}`", dir = dir.display())]
    NoNode { dir: PathBuf },
    #[error("cannot talk to the node in {dir}: {source}; is it this user's?", dir = dir.display())]
    Connect { dir: PathBuf, source: io::Error },
    #[error(
        "cannot listen on {path}: {source}; check that this user may write there", path = path.display()
    )]
    Listen { path: PathBuf, source: io::Error },
    #[error(
        "the data directory {dir} is in use by {holder}, which takes no commands there: `groundswell up` does when it has started, unless it is stopping; a program that uses the library does not",
        dir = dir.display()
    )]
    TakesNoCommands { dir: PathBuf, holder: String },
    #[error("the socket in {dir} is that of user {user}, who has no business there: see who else may write to that directory", dir = dir.display())]
    ForeignSocket { dir: PathBuf, user: u32 },
    #[error(
        "the node stopped before it had answered: start it again with `groundswell up`; what it acknowledged is there"
    )]
    Lost,
    #[error(
        "the outcome is unknown: the node stopped before it had answered, and may have done it; start it again with `groundswell up`, and read the state to find out, or repeat it with the same --id"
    )]
    LostInWrite,
    /// The node does not know what became of it, in these words.
    #[error("{0}")]
    Unknown(String),
    #[error("the node answers in a way that this tool does not know ({0}): are both of the same version?")]
    Answer(String),
    #[error("the node does not know this request ({0}): are the tool and the node of the same version?")]
    Request(String),
    /// The node refused, in these words.
    #[error("{0}")]
    Said(String),
    #[error(
        "{0} is not an address of loopback, so that other computers could get in: listen on 127.0.0.1, or name this device as they do with --http-public, whose help says what that means"
    )]
    NotLoopback(SocketAddr),
    #[error(
        "cannot serve the HTTP interface on {addr}: {source}; choose another with --http ADDR, or none with --no-http"
    )]
    HttpListen { addr: SocketAddr, source: io::Error },
    #[error("this node serves no HTTP interface: start it without --no-http")]
    NoHttp,
    #[error(transparent)]
    Http(#[from] groundswell_web::AppError),
    #[error(transparent)]
    Serve(#[from] groundswell_web::ServeError),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// No failure: a script that tries again would do it twice.
    #[error("it is done, but its answer cannot be written to standard output: {0}")]
    Unprinted(io::Error),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// Waves are given in several transactions, and some were done before the one that failed.
    #[error("{} given: do not give {} again. As to the waves after that: {error}",
        if *given == 1 { "the first wave is".to_owned() } else { format!("the first {given} waves are") },
        if *given == 1 { "it" } else { "them" })]
    GivenBefore { given: u64, error: Box<ToolError> },
    #[error("{what} {number} was refused: {reason}; {given}")]
    WaveRefused { what: &'static str, number: u64, reason: String, given: String },
    #[error("{path} is a {held} on agent {agent}: use --lake {held}, or another path")]
    PublishedAs { agent: Name, path: Path, held: Builtin },
    #[error("{path} is followed as a {held} here: use --lake {held}, or `groundswell quit PEER {path}` first")]
    FollowedAs { path: Path, held: Builtin },
    #[error(
        "no address is known for peer {peer}: give its ticket instead of its id once (its `groundswell status` shows it)"
    )]
    UnknownPeer { peer: String },
    #[error("no peer whose id begins with {0} is known here: `groundswell status` lists those that are")]
    NoSuchPeer(String),
    #[error("{short} is the beginning of more than one id ({ids}): give more of it")]
    AmbiguousPeer { short: String, ids: String },
    #[error("{path} was killed while it was given to; give again, and it begins from the default state")]
    KilledMeanwhile { path: Path },
    #[error(
        "{path} has ended for this node: it was killed, or is no longer open to it; leave out --no-wait to wait for it"
    )]
    HasEnded { path: Path },
    #[error("{0} found: see what the doctor says of each")]
    Problems(String),
    #[error(
        "{path} of agent {agent} on {peer} is not followed here: `groundswell status` lists what is",
        path = .0.path, agent = .0.agent, peer = .0.peer
    )]
    NotFollowed(Source),
    #[error("there is no state on {0} here: `groundswell status` lists what there is")]
    NothingToRead(String),
    #[error("{path} is not available at that peer (yet): leave out --no-wait to wait for it")]
    NotAvailable { path: Path },
    #[error("{path} is {} at that peer: {}",
        if lake.as_str() == asked.name() { format!("another version of lake {lake}") } else { format!("a {lake}") },
        match Builtin::of_name(lake.as_str()) {
            Some(lake) if lake == *asked => "update the older side".to_owned(),
            Some(lake) => format!("use --lake {lake}"),
            None => "this tool has no such lake".to_owned(),
        })]
    OtherLake { path: Path, lake: Name, asked: Builtin },
    #[error("{path} is refused: {reason}; leave out --no-wait to wait for it")]
    SurfRefused { path: Path, reason: String },
    #[error("{path} can't be reached within {seconds} s: is the peer up? Leave out --no-wait to wait for it")]
    NotReached { path: Path, seconds: u64 },
    #[error(
        "{what} is for a {needed}, and this node is a {role}: `groundswell up --role {needed}`, in a directory of its own, starts one"
    )]
    OtherRole { what: &'static str, needed: &'static str, role: &'static str },
    #[error("{dir} is the directory of a machine or a manager, and stays that: leave out --role, or use another directory", dir = dir.display())]
    KeepsRole { dir: PathBuf },
    #[error("this node is a manager: say which machine with --machine ID (`groundswell machines` lists them)")]
    WhichMachine,
    #[error(
        "a manager releases one machine: say which, as in `groundswell release ID` (`groundswell machines` lists them)"
    )]
    WhichToRelease,
    #[error("this node is a machine, and has no others: leave the id out")]
    OwnMachine,
    #[error("no machine of this manager has an id that begins with {0}: `groundswell machines` lists them")]
    NoSuchMachine(String),
    #[error("this machine has no manager: there is nothing to release (`groundswell release --wipe` deletes its keys)")]
    NothingToRelease,
    #[error(
        "--wipe is for a machine: run it there. A manager that releases a machine always deletes what it had of it: leave --wipe out"
    )]
    WipeAtMachine,
    #[error(
        "not everything is at the other side after {} s: it goes there by itself when that is in reach; `groundswell status` tells how it stands",
        within.as_secs()
    )]
    NotDelivered { within: Duration },
    #[error("{key} has no value here: `groundswell kv ls` lists the keys that have one")]
    NoValue { key: String },
    #[error(
        "standard input is no terminal, so that nobody can be asked whether the PINs are the same: run it in one, or say --yes if nobody can be between the two sides"
    )]
    NobodyToAsk,
    /// How far a claim had come when it was interrupted.
    #[error("{0}")]
    ClaimInterrupted(String),
    #[error("{0}")]
    Claim(String),
    #[error("cannot use the file {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// What was written on the command line can't be meant.
    #[error("{0}")]
    Usage(String),
    #[error("cannot make a temporary directory in {path}: {source}; set TMPDIR to one that can be written", path = path.display())]
    TempDir { path: PathBuf, source: io::Error },
    #[error("the demo could not go on: {0}")]
    Demo(String),
    #[error("the demo found something wrong: {0}; please report it, with what GROUNDSWELL_LOG=debug says")]
    DemoFailed(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    KvOpen(#[from] KvOpenError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error(transparent)]
    Peer(#[from] PeerNameError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Declare(#[from] DeclareError),
    #[error(transparent)]
    Give(#[from] GiveError),
    #[error(transparent)]
    Manage(#[from] ManageError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Surf(SurfError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Shutdown(#[from] ShutdownError),
}

impl ToolError {
    /// Whether what was asked for may have been done.
    pub(crate) fn is_unknown(&self) -> bool {
        let failed = if let Self::GivenBefore { error, .. } = self { error } else { self };
        matches!(
            failed,
            Self::LostInWrite
                | Self::Unknown(_)
                | Self::Give(GiveError::Unknown { .. })
                | Self::Manage(ManageError::Unknown(_))
                | Self::Kv(KvError::Unknown(_))
                | Self::Declare(DeclareError::Unknown(_))
                | Self::Surf(SurfError::Unknown(_))
                | Self::Write(WriteError::Unknown(_))
        )
    }

    /// Whether it only says that who read our output reads no more.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) | Self::Unprinted(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<SurfError> for ToolError {
    fn from(error: SurfError) -> Self {
        match error {
            SurfError::UnknownPeer { peer } => Self::UnknownPeer { peer: peer.to_string() },
            other => Self::Surf(other),
        }
    }
}

impl From<ClaimError> for ToolError {
    fn from(error: ClaimError) -> Self {
        let next = match error {
            ClaimError::Claim(
                ClaimFailure::DeclinedHere
                | ClaimFailure::DeclinedThere
                | ClaimFailure::Refused(ClaimRefusal::Declined),
            ) => ": claim again, and say yes on both sides if both show the same PIN",
            ClaimError::Claim(ClaimFailure::OutOfOrder(_)) => ": are both sides of the same version?",
            _ => "",
        };
        Self::Claim(format!("{error}{next}"))
    }
}
