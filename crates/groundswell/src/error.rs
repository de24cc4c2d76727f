//! The errors of the node: one enum an operation, each variant saying what to do next.

use std::{fmt, io, path::PathBuf, sync::Arc};

use groundswell_core::{
    AccessError, Aeon, LakeId, Name, Path, PathError, Pattern,
    encoding::{DecodeError, EncodeError},
    limits::{MAX_GIVE_BYTES, MAX_ROCK_BYTES, MAX_WAVE_BYTES, MAX_WAVES_AT_ONCE},
    visible,
};

use crate::{ids::IdError, limits, source::PeerId};

/// Why a data directory could not be opened, or a node not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the data directory open.
    #[error("the data directory {dir} is in use by {holder}: stop it, or choose another directory")]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, as far as it can be told.
        holder: String,
    },
    /// Anybody may write into the data directory.
    #[error(
        "anybody may write into the data directory {dir} (mode {mode:o}), and so put files of theirs in the place of yours: chmod o-w, or choose another directory"
    )]
    OpenToAll {
        /// The directory.
        dir: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file or directory can't be read or written.
    #[error("cannot use {path}: {source}; it has to be a directory (or in one) that this user may read and write")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file holds something else than a key.
    #[error(
        "{path} is not a key file: it holds {found} bytes instead of 32; restore it from a backup, or move it away to begin with a new identity"
    )]
    BadKey {
        /// The key file.
        path: PathBuf,
        /// How many bytes it has.
        found: usize,
    },
    /// The storage was written by a newer version of this program.
    #[error(
        "the data directory {dir} has format {found}, and this program knows up to format {known}: use the newer program"
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The format that was found.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The storage is damaged: truncated, overwritten, or no storage at all.
    #[error(
        "the storage {path} is damaged: {reason}; restore the directory from a backup, or move it away to begin anew"
    )]
    Damaged {
        /// The storage file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The journal of the key-value store is not beside its tables. It may hold writes that were acknowledged.
    #[error(
        "{path} is missing, and may hold writes that were acknowledged: put it back, or restore the directory from a backup; if it is lost, an empty file in its place goes on without them"
    )]
    JournalMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The directory is that of the other role.
    #[error(
        "the data directory {dir} and its documents are those of the other role, machine or manager: use another directory for this one"
    )]
    OtherRole {
        /// The directory.
        dir: PathBuf,
    },
    /// The tables are those of another node: files were swapped between two directories, or the key is another one.
    #[error(
        "the tables in {dir} are those of {other}, and its secret.key is that of {id}: put back the files that belong together, from one directory or one backup; if the key of that node is lost, move node.redb, node.journal and node.run away to begin anew",
        other = node.as_ref().map_or("another node".to_owned(), |node| format!("the node {node}"))
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// The node of the key.
        id: PeerId,
        /// The node of the tables, where they say one.
        node: Option<Box<PeerId>>,
    },
    /// The journal is that of other tables.
    #[error(
        "{path} is the journal of other tables than those beside it: put back the two files that belong together, from one directory or one backup; if its own journal is lost, an empty file in its place goes on without what that had"
    )]
    OtherJournal {
        /// The journal.
        path: PathBuf,
    },
    /// The storage can't be read or written: the disk under it is full, or failing.
    #[error("cannot open {path}: {source}")]
    Storage {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: StorageError,
    },
    /// The network endpoint could not be bound.
    #[error("cannot open the network endpoint: {0}; is the address of this machine, and the port free?")]
    Network(String),
}

impl OpenError {
    /// A file of the data directory that the system does not let us use.
    pub(crate) fn of_file(path: &std::path::Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let path = path.to_owned();
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => {
                Self::Storage { path, source: StorageError::of_disk(&source) }
            }
            _ => Self::Io { path, source },
        }
    }

    /// The first write of an opening did not come about, as far as is known. A later opening does it again.
    pub(crate) fn of_write(path: &std::path::Path, error: WriteError) -> Self {
        match error {
            WriteError::Storage(error) => Self::of_storage(path, error),
            error => Self::Storage { path: path.to_owned(), source: StorageError::of_disk(error) },
        }
    }

    /// A storage that does not open: the disk's fault, or that of what is on it.
    pub(crate) fn of_storage(path: &std::path::Path, source: StorageError) -> Self {
        let path = path.to_owned();
        match source.cause {
            Cause::Disk => Self::Storage { path, source },
            Cause::Content => Self::Damaged { path, reason: source.reason.to_string() },
            Cause::Held => {
                let holder = format!(
                    "whoever has {} open, as an earlier start that was given up has for a moment",
                    path.display()
                );
                Self::InUse { dir: path.parent().unwrap_or(&path).to_owned(), holder }
            }
        }
    }
}

/// Why storage failed. What was to be written was not written, and can be tried again; what was
/// acknowledged before stands.
#[derive(Debug, Clone, thiserror::Error)]
#[error("storage failed: {reason}; what was acknowledged stands; check the disk's space and health, and try again")]
pub struct StorageError {
    reason: Arc<str>,
    cause: Cause,
}

/// What was wrong when storage failed.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// What was read.
    Content,
    /// The system could not read or write.
    Disk,
    /// The file is open already.
    Held,
}

impl StorageError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string().into(), cause: Cause::Content }
    }

    /// The system could not do what it was asked.
    pub(crate) fn of_disk(reason: impl fmt::Display) -> Self {
        Self { cause: Cause::Disk, ..Self::new(reason) }
    }

    /// Returns true if the file is open already.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.cause, Cause::Held)
    }

    /// The file is open already.
    pub(crate) fn held(reason: impl fmt::Display) -> Self {
        Self { cause: Cause::Held, ..Self::new(reason) }
    }
}

/// A write that may have happened. Nobody sees its effect before it is durable: while the node runs, the
/// write is repeated until the disk takes it. After a crash it is there or not.
///
/// To repeat such a write blindly can do it twice. Read the state to find out, or repeat the write with the
/// same id, which has one effect: see [`WriteId`](crate::WriteId).
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "the outcome is unknown: {reason}; it may have happened: read the state to find out, or repeat it with the same id"
)]
pub struct OutcomeUnknown {
    reason: Arc<str>,
}

impl OutcomeUnknown {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string().into() }
    }

    /// The thread that writes died with the request.
    pub(crate) fn no_answer() -> Self {
        Self::new("the thread that writes ended before it answered")
    }

    /// A write was repeated whose outcome is unknown, and the repetition has failed.
    pub(crate) fn earlier(error: impl fmt::Display) -> Self {
        Self::new(format_args!("an earlier try may yet be done, and this one was not ({error})"))
    }
}

impl From<StorageError> for OutcomeUnknown {
    fn from(error: StorageError) -> Self {
        Self { reason: format!("storage failed while it was made durable: {}", error.reason).into() }
    }
}

/// Why something was not written, or not known to be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Storage failed, and it was not done.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It may have been done.
    #[error(transparent)]
    Unknown(#[from] OutcomeUnknown),
    /// The node is shut down. It was not done.
    #[error("the node is shut down")]
    ShutDown,
}

/// An error of an operation that writes has a variant for each [`WriteError`].
macro_rules! from_write_error {
    ($($error:ident: $unknown:expr;)*) => {$(
        impl From<WriteError> for $error {
            fn from(error: WriteError) -> Self {
                match error {
                    WriteError::Storage(error) => Self::Storage(error),
                    WriteError::Unknown(outcome) => $unknown(outcome),
                    WriteError::ShutDown => Self::ShutDown,
                }
            }
        }
    )*};
}
pub(crate) use from_write_error;

from_write_error! {
    DeclareError: DeclareError::Unknown;
    GiveError: |outcome| GiveError::Unknown { aeon: None, outcome };
    ManageError: ManageError::Unknown;
    SurfError: SurfError::Unknown;
}

/// Why a declaration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// The pattern is malformed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Another declaration covers some of the same paths.
    #[error(
        "{pattern} overlaps {declared}, which agent {agent} has declared already: keep and clone that handle, or choose patterns that share no path"
    )]
    Overlap {
        /// The agent.
        agent: Name,
        /// What was to be declared.
        pattern: Pattern,
        /// What is declared.
        declared: Pattern,
    },
    /// State is stored under another version of the lake, or another lake.
    #[error(
        "{path} is stored as lake {stored}, and {declared} was declared: declare the stored one, give the lake an upgrade, or publish on another path (quit the source, if it is followed)"
    )]
    LakeVersion {
        /// The path.
        path: Path,
        /// What the storage holds.
        stored: LakeId,
        /// What was declared.
        declared: LakeId,
    },
    /// State is stored under another version of the lake, and its upgrade failed. It stays as it was.
    #[error("{path} is stored as lake {stored}, and could not be brought to {declared}: {reason}; mend the upgrade")]
    Upgrade {
        /// The path.
        path: Path,
        /// What the storage holds.
        stored: LakeId,
        /// What was declared.
        declared: LakeId,
        /// What went wrong.
        reason: String,
    },
    /// Stored state does not decode.
    #[error("the stored state of {path} is damaged: {reason}; restore the data directory from a backup")]
    Damaged {
        /// The path.
        path: Path,
        /// What is wrong.
        reason: String,
    },
    /// Storage failed, and it was not done.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Storage failed while an upgrade was stored. To declare again is safe: it goes on from what is stored.
    #[error(transparent)]
    Unknown(OutcomeUnknown),
    /// The node is shut down. It was not done.
    #[error("the node is shut down")]
    ShutDown,
}

/// Why a wave was not given, or not known to be. Except for [`GiveError::Unknown`], nothing of it was stored or sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GiveError {
    /// The path is malformed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The declared pattern does not cover the path.
    #[error("{path} is not covered by {pattern}, which these publications are declared on")]
    NotDeclared {
        /// The path.
        path: Path,
        /// The declared pattern.
        pattern: Pattern,
    },
    /// The lake's wash refused the wave.
    #[error("wave {index} was refused: {reason}")]
    Refused {
        /// Which of the waves, from 0.
        index: usize,
        /// What wash said.
        reason: String,
    },
    /// The lake's wash panicked, which counts as a refusal.
    #[error("wave {index} was refused, since the lake's wash panicked: {message}")]
    Panicked {
        /// Which of the waves, from 0.
        index: usize,
        /// The panic's message.
        message: String,
    },
    /// The wave does not encode.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The wave does not decode from its own encoding.
    #[error("wave {index} does not decode from its own encoding ({error}): see check_lake")]
    RoundTrip {
        /// Which of the waves, from 0.
        index: usize,
        /// What decoding said.
        error: DecodeError,
    },
    /// A wave is too large.
    #[error("a wave of {bytes} bytes: at most {MAX_WAVE_BYTES} are allowed; give several smaller ones")]
    WaveTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The rock would be too large.
    #[error(
        "the rock would have {bytes} bytes: at most {MAX_ROCK_BYTES} are allowed; spread the state over several paths"
    )]
    RockTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The path has come to the last aeon that there may be, which no honest one does.
    #[error("{0} is at the last aeon that there may be: go on under another path")]
    LastAeon(Path),
    /// Too much at once.
    #[error("too much at once: at most {MAX_WAVES_AT_ONCE} waves and {MAX_GIVE_BYTES} bytes go into one give_all")]
    TooMany,
    /// The path holds another lake.
    #[error("{path} is stored as lake {stored}, and the wave is one of {declared}: give it to another path")]
    LakeVersion {
        /// The path.
        path: Path,
        /// What the path holds.
        stored: LakeId,
        /// What the wave belongs to.
        declared: LakeId,
    },
    /// Storage failed, and it was not done.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The waves may have been given. Nobody sees them before they are durable.
    #[error("{outcome}{}", aeon.map(|aeon| format!(" (it would be aeon {aeon})")).unwrap_or_default())]
    Unknown {
        /// The aeon that the last of them leads to if they were given, where it is known.
        aeon: Option<Aeon>,
        /// What happened.
        outcome: OutcomeUnknown,
    },
    /// The id of the write is refused.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The node is shut down. This call did nothing; what an earlier one with the same id did stands.
    #[error("the node is shut down")]
    ShutDown,
}

/// Why something was not done to a path: its rule, its access, its end, or its copy. Except for
/// [`ManageError::Unknown`], nothing of it was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// The path is malformed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The declared pattern does not cover the path.
    #[error("{path} is not covered by {pattern}, which this handle is declared on")]
    NotDeclared {
        /// The path.
        path: Path,
        /// The declared pattern.
        pattern: Pattern,
    },
    /// There is no state to do it to.
    #[error(
        "there is no state on {0} here, or none any more: check the path and the agent, and what the node's status lists"
    )]
    NoState(Path),
    /// The target of a fork or a copy is published already.
    #[error("{0} is published already: kill it first, or choose an empty path")]
    NotEmpty(Path),
    /// The target of a fork or a copy is its source.
    #[error("{0} is the source and the target: choose another path for the target")]
    SamePath(Path),
    /// The access can't be changed so.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The function that was to change the access panicked.
    #[error("the function that was to change the access panicked: {0}")]
    Panicked(String),
    /// The path holds another lake.
    #[error("{path} is held as lake {stored}, and {declared} is declared for the target: they have to be the same")]
    LakeVersion {
        /// The path.
        path: Path,
        /// What it holds.
        stored: LakeId,
        /// What was declared.
        declared: LakeId,
    },
    /// The rock that was to be made is too large, or can't be encoded.
    #[error("no rock can be made of {path}: {reason}")]
    NoRock {
        /// The path.
        path: Path,
        /// What is wrong with it.
        reason: String,
    },
    /// Storage failed, and it was not done.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// It may have been done.
    #[error(transparent)]
    Unknown(OutcomeUnknown),
    /// The node is shut down. It was not done.
    #[error("the node is shut down")]
    ShutDown,
}

/// Why a subscription was refused, or its replica can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurfError {
    /// The path or the agent's name is malformed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The declared pattern does not cover the path.
    #[error("{path} is not covered by {pattern}, which these subscriptions are declared on")]
    NotDeclared {
        /// The path.
        path: Path,
        /// The declared pattern.
        pattern: Pattern,
    },
    /// No address of the peer is known, and nothing could look it up.
    #[error("no address is known for peer {peer}, and look-up is off: give its ticket once (Node::add_peer)")]
    UnknownPeer {
        /// The peer's id.
        peer: crate::PeerId,
    },
    /// The node has as many streams as it may.
    #[error("this node has {limit} subscriptions, the most that it allows: drop some", limit = limits::MAX_SUBSCRIPTIONS)]
    TooManySubscriptions,
    /// Another agent, or an earlier run, holds the same source as another lake.
    #[error(
        "the source is held here as lake {stored}, and {declared} was declared: quit it first, give the lake an upgrade, or declare the same lake"
    )]
    LakeVersion {
        /// What is held.
        stored: LakeId,
        /// What was declared.
        declared: LakeId,
    },
    /// The replica is stored under another version of the lake, and its upgrade failed. It stays as it was.
    #[error(
        "the replica is stored as lake {stored}, and could not be brought to {declared}: {reason}; mend the upgrade"
    )]
    Upgrade {
        /// What is held.
        stored: LakeId,
        /// What was declared.
        declared: LakeId,
        /// What went wrong.
        reason: String,
    },
    /// The same source is open in this process under another Rust type of the same lake name.
    #[error(
        "the source is open in this process with another Rust type for lake {lake}: share one type between the agents"
    )]
    LakeType {
        /// The lake.
        lake: LakeId,
    },
    /// Stored state does not decode.
    #[error("the stored replica is damaged: {reason}; quit the source and surf it again")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// Storage failed, and it was not done.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Storage failed while it was noted that the source is followed. To surf again is safe, and so is to quit.
    #[error(transparent)]
    Unknown(OutcomeUnknown),
    /// The node is shut down. It was not done.
    #[error("the node is shut down")]
    ShutDown,
}

/// Why a rock can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The path or the agent's name is malformed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// There is no state there, or none yet.
    #[error("there is no state on {0} (yet)")]
    NoState(Path),
    /// There is a state, and storage failed when it was to be read again.
    #[error(
        "the state of {0} cannot be read from storage: check the disk's space and health; it is read again with the next wave, or when the node is restarted"
    )]
    Unreadable(Path),
    /// The state is of another lake, or of another Rust type.
    #[error("{path} holds lake {lake}, of another Rust type than asked for")]
    LakeType {
        /// The path.
        path: Path,
        /// What it holds.
        lake: LakeId,
    },
}

/// Why a ticket or a peer's id is refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TicketError(String);

impl TicketError {
    /// How much of what was written is repeated, in characters: enough to see what it was.
    const REPEATED: usize = 16;

    pub(crate) fn new(text: &str, reason: &str) -> Self {
        let (text, reason) = (Self::beginning(text), visible(reason));
        Self(format!(
            "{text} is neither a ticket nor a peer's id: {reason}; copy the whole of it, as the other side prints it"
        ))
    }

    /// A ticket with a one-time secret, where a peer is to be named.
    pub(crate) fn with_secret(ticket: &str) -> Self {
        let text = Self::beginning(ticket);
        Self(format!(
            "{text} is a ticket with a one-time secret, which is for a claim alone: leave out the dot and what follows it"
        ))
    }

    fn beginning(text: &str) -> String {
        let first: String = text.chars().take(Self::REPEATED).collect();
        let more = if first.len() < text.len() { "…" } else { "" };
        format!("\"{}{more}\"", visible(&first))
    }
}

/// What a panic said, as far as it can be told.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
