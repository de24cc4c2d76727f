//! The rows that are more than bytes. Their encoding is postcard; a golden file holds each.

use std::fmt;

use groundswell_core::{Epoch, LakeId, Name, Path, Rule};
use serde::{Deserialize, Serialize};

use crate::source::Source;

/// Which tide it is: an agent's own path, or the replica of a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum TideKey {
    Publication { agent: Name, path: Path },
    Replica(Source),
}

impl TideKey {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Publication { path, .. } | Self::Replica(Source { path, .. }) => path,
        }
    }
}

impl fmt::Display for TideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publication { agent, path } => write!(f, "{agent}{path}"),
            Self::Replica(source) => source.fmt(f),
        }
    }
}

/// What is stored of a tide beside its waves and rocks. Its newest aeon is that of its newest
/// wave or rock, so that giving a wave changes no row but the wave's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TideRow {
    pub(crate) key: TideKey,
    pub(crate) lake: LakeId,
    pub(crate) epoch: Epoch,
    pub(crate) rule: Rule,
}
