//! What the interface needs of publications and subscriptions, whatever their lakes: waves and rocks as JSON.

mod builtin;
mod json_lake;
mod keyed;

use futures_util::{future::BoxFuture, stream::BoxStream};
use groundswell::{
    Aeon, Cursor, DeclareError, Ended, Frequency, Freshness, GiveError, IdError, ManageError, Name, Path, PathError,
    ReadError, Rule, Source, StorageError, SurfError, WriteError, WriteId,
};
use serde_json::value::RawValue;

pub use builtin::BuiltinLakes;
pub use json_lake::{JsonLake, rock_json, surf};
pub use keyed::Keyed;

/// The agent that publishes and follows where none is named.
pub const DEFAULT_AGENT: &str = "main";

/// What a method of [`Lakes`] answers, in time.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, LakeError>>;

/// Publications and subscriptions with their types erased. [`BuiltinLakes`] knows `log`, `sum` and `json`; a program
/// with lakes of its own implements it for them, with [`JsonLake`] and [`surf`], and hands it to
/// [`Config::lakes`](crate::Config::lakes).
///
/// A node has one `Lakes` at a time that declares its paths: two that declared one path would be in each other's way.
/// The futures may be dropped; what was handed over by then happens.
pub trait Lakes: Send + Sync + 'static {
    /// Publishes the default rock, if nothing is published there.
    fn open<'a>(&'a self, agent: &'a Name, path: &'a Path, lake: Option<&'a str>) -> Answer<'a, Aeon>;

    /// Gives waves, all of them or none; with an id, once, as [`groundswell::Publications::give_all_once`] does. The
    /// last one's aeon.
    fn give<'a>(
        &'a self,
        agent: &'a Name,
        path: &'a Path,
        lake: Option<&'a str>,
        id: Option<WriteId>,
        waves: Vec<Box<RawValue>>,
    ) -> Answer<'a, Aeon>;

    /// Reads a state.
    fn read<'a>(&'a self, tide: &'a Tide) -> Answer<'a, State>;

    /// Follows a source, now and after every restart. A node's own publications can be followed too.
    fn follow<'a>(&'a self, source: &'a Source, lake: Option<&'a str>) -> Answer<'a, ()>;

    /// The same, with a stream of what happens to it. The stream ends after [`LakeEvent::Ended`].
    fn surf<'a>(
        &'a self,
        source: &'a Source,
        lake: Option<&'a str>,
        surf: Surf,
    ) -> Answer<'a, BoxStream<'static, LakeEvent>>;

    /// Stops following a source.
    fn quit<'a>(&'a self, source: &'a Source) -> Answer<'a, ()>;

    /// Changes a rule; the whole of it.
    fn rule<'a>(&'a self, tide: &'a Tide, change: RuleChange) -> Answer<'a, Rule>;

    /// Makes a rock now, and drops the rest.
    fn wipe<'a>(&'a self, tide: &'a Tide) -> Answer<'a, ()>;

    /// Ends a path.
    fn kill<'a>(&'a self, agent: &'a Name, path: &'a Path) -> Answer<'a, ()>;

    /// Begins an empty path with the state and the history of another.
    fn fork<'a>(&'a self, agent: &'a Name, from: &'a Path, to: &'a Path) -> Answer<'a, Aeon>;

    /// Begins an empty path with those of a source.
    fn copy<'a>(&'a self, source: &'a Source, agent: &'a Name, to: &'a Path) -> Answer<'a, Aeon>;
}

/// What is kept here under a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tide {
    /// What this node publishes.
    Own {
        /// The agent.
        agent: Name,
        /// The path.
        path: Path,
    },
    /// What it follows of another.
    Replica(Source),
}

/// A state.
#[derive(Debug)]
pub struct State {
    /// The name of its lake.
    pub lake: String,
    /// Its newest aeon and rock; `None` for a source that has given nothing yet.
    pub rock: Option<(Aeon, Box<RawValue>)>,
    /// Whether it may be behind its source.
    pub stale: bool,
    /// What the agent's handler said when it failed on it.
    pub fail: Option<String>,
}

/// How a stream of a source is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surf {
    /// Where to begin.
    pub begin: Begin,
    /// With which events the rock comes.
    pub rocks: Rocks,
}

/// Where a stream of a source begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With the newest rock.
    Newest,
    /// After this place, where the waves since are kept; otherwise with the newest rock.
    Cursor(Cursor),
    /// So many waves back, likewise.
    Waves(u64),
}

/// With which events the rock comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rocks {
    /// With none.
    Never,
    /// With updates that have no wave, and with `caught_up`.
    #[default]
    Needed,
    /// With each.
    Always,
}

/// A change of a rule; what is not named stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleChange {
    /// When rocks are made.
    pub frequency: Option<Frequency>,
    /// How many waves back they are kept; `Some(None)` for as far as there is anything.
    pub horizon: Option<Option<u64>>,
}

impl RuleChange {
    /// The rule that a change makes of another.
    pub fn apply(self, rule: Rule) -> Rule {
        Rule { frequency: self.frequency.unwrap_or(rule.frequency), horizon: self.horizon.unwrap_or(rule.horizon) }
    }
}

/// What happens to a source.
#[derive(Debug)]
pub enum LakeEvent {
    /// The state changed.
    Update {
        /// Where it stands with this.
        cursor: Cursor,
        /// The wave; `None` where the state was replaced by a rock.
        wave: Option<Box<RawValue>>,
        /// The rock, where it was asked for.
        rock: Option<Box<RawValue>>,
        /// Whether it came after the reader had caught up.
        live: bool,
        /// Whether it may be behind its source.
        stale: bool,
    },
    /// Everything that the source had is here.
    CaughtUp {
        /// The aeon; of the rock, if there is one.
        aeon: Aeon,
        /// The rock, where it was asked for. It may be newer than the last update.
        rock: Option<Box<RawValue>>,
    },
    /// What is known of the source changed.
    Freshness(Freshness),
    /// The stream ends.
    Ended(Ended),
}

/// Why something was not done to a publication or a subscription.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakeError {
    /// There is no such lake here.
    #[error("there is no lake `{name}` here: there are {known}")]
    UnknownLake {
        /// What was named.
        name: String,
        /// Which there are.
        known: String,
    },
    /// There is no state that would tell the lake.
    #[error("nothing is on {0} yet that would tell its lake: name it")]
    LakeNeeded(Path),
    /// The path holds another lake.
    #[error("{0}")]
    LakeDiffers(String),
    /// Another part of the program has declared the path.
    #[error("{0}")]
    Declared(String),
    /// The target is not empty.
    #[error("{0}")]
    NotEmpty(String),
    /// The source is not followed.
    #[error("{0} is not followed here: GET /api/v1/subscriptions lists what is")]
    NotFollowed(Source),
    /// There is no state.
    #[error("there is no state on {0} here: GET /api/v1/publications and /api/v1/subscriptions list what there is")]
    NoState(Path),
    /// No address of the peer is known.
    #[error("{0}")]
    UnknownPeer(String),
    /// A wave was refused. None was given.
    #[error("wave {index} was refused: {reason}; none of them was given")]
    Refused {
        /// Which, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The access can't be changed so.
    #[error("{0}")]
    Access(String),
    /// Something that was named is malformed.
    #[error("{0}")]
    Invalid(String),
    /// Something is too large.
    #[error("{0}")]
    TooLarge(String),
    /// There are as many streams as may be.
    #[error("{0}")]
    TooManyStreams(String),
    /// Storage failed. Nothing was done.
    #[error("{0}")]
    Storage(String),
    /// It may have been done.
    #[error("{0}")]
    Unknown(String),
    /// The id of a give is refused. Nothing was given.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The node is shut down.
    #[error("the node is shut down")]
    ShutDown,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<PathError> for LakeError {
    fn from(error: PathError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl From<StorageError> for LakeError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error.to_string())
    }
}

impl From<WriteError> for LakeError {
    fn from(error: WriteError) -> Self {
        let said = error.to_string();
        match error {
            WriteError::Storage(_) => Self::Storage(said),
            WriteError::Unknown(_) => Self::Unknown(said),
            WriteError::ShutDown => Self::ShutDown,
            _ => Self::Other(said),
        }
    }
}

impl From<DeclareError> for LakeError {
    fn from(error: DeclareError) -> Self {
        let said = error.to_string();
        match error {
            DeclareError::Path(_) => Self::Invalid(said),
            DeclareError::Overlap { .. } => Self::Declared(said),
            DeclareError::LakeVersion { .. } => Self::LakeDiffers(said),
            DeclareError::Storage(_) | DeclareError::Damaged { .. } => Self::Storage(said),
            DeclareError::Unknown(_) => Self::Unknown(said),
            DeclareError::ShutDown => Self::ShutDown,
            _ => Self::Other(said),
        }
    }
}

impl From<GiveError> for LakeError {
    fn from(error: GiveError) -> Self {
        let said = error.to_string();
        match error {
            GiveError::Path(_) | GiveError::NotDeclared { .. } => Self::Invalid(said),
            GiveError::Refused { index, reason } | GiveError::Panicked { index, message: reason } => {
                Self::Refused { index, reason }
            }
            GiveError::WaveTooLarge { .. } | GiveError::RockTooLarge { .. } | GiveError::TooMany => {
                Self::TooLarge(said)
            }
            GiveError::LakeVersion { .. } => Self::LakeDiffers(said),
            GiveError::Storage(_) => Self::Storage(said),
            GiveError::Unknown { .. } => Self::Unknown(said),
            GiveError::Id(error) => Self::Id(error),
            GiveError::ShutDown => Self::ShutDown,
            _ => Self::Other(said),
        }
    }
}

impl From<ManageError> for LakeError {
    fn from(error: ManageError) -> Self {
        let said = error.to_string();
        match error {
            ManageError::Path(_) | ManageError::NotDeclared { .. } => Self::Invalid(said),
            ManageError::NoState(path) => Self::NoState(path),
            ManageError::NotEmpty(_) | ManageError::SamePath(_) => Self::NotEmpty(said),
            ManageError::Access(_) => Self::Access(said),
            ManageError::LakeVersion { .. } => Self::LakeDiffers(said),
            ManageError::NoRock { .. } => Self::TooLarge(said),
            ManageError::Storage(_) => Self::Storage(said),
            ManageError::Unknown(_) => Self::Unknown(said),
            ManageError::ShutDown => Self::ShutDown,
            _ => Self::Other(said),
        }
    }
}

impl From<ReadError> for LakeError {
    fn from(error: ReadError) -> Self {
        let said = error.to_string();
        match error {
            ReadError::Path(_) => Self::Invalid(said),
            ReadError::NoState(path) => Self::NoState(path),
            ReadError::Unreadable(_) => Self::Storage(said),
            ReadError::LakeType { .. } => Self::Declared(said),
            _ => Self::Other(said),
        }
    }
}

impl From<SurfError> for LakeError {
    fn from(error: SurfError) -> Self {
        let said = error.to_string();
        match error {
            SurfError::Path(_) | SurfError::NotDeclared { .. } => Self::Invalid(said),
            SurfError::UnknownPeer { peer } => Self::UnknownPeer(format!(
                "no address is known for peer {peer}: give its ticket in place of its id once"
            )),
            SurfError::TooManySubscriptions => Self::TooManyStreams(said),
            SurfError::LakeVersion { .. } => Self::LakeDiffers(said),
            SurfError::LakeType { .. } => Self::Declared(said),
            SurfError::Damaged { .. } | SurfError::Storage(_) => Self::Storage(said),
            SurfError::Unknown(_) => Self::Unknown(said),
            SurfError::ShutDown => Self::ShutDown,
            _ => Self::Other(said),
        }
    }
}
