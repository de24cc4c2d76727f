//! The rule of a tide: when it makes rocks, and how far back it keeps them.

use serde::{Deserialize, Serialize};

use crate::limits::DEFAULT_HORIZON;

/// When a tide makes a rock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Frequency {
    /// When the waves since the last rock outweigh it: what a new reader has to fetch, and
    /// what it costs to make rocks, both stay within a constant factor of the least possible.
    #[default]
    Automatic,
    /// Every so many waves; at least 1.
    Every(core::num::NonZeroU64),
    /// Never. Rocks that exist stay, as far as they are needed.
    Never,
}

/// The retention of a tide. Whatever it says, the newest rock stays, and every wave since,
/// so that any reader can be brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// When a rock is made.
    pub frequency: Frequency,
    /// How many waves back from the newest aeon rocks and waves are kept at least.
    /// `None` keeps the oldest rock and the newest, and every wave since the oldest. A rock goes when it is
    /// beyond the horizon, even while it is sent: where rocks are large and made often, a horizon of
    /// less than is given in the time that a rock takes to travel lets slow newcomers begin again and again.
    pub horizon: Option<u64>,
}

impl Default for Rule {
    /// Automatic rocks, and a horizon of 1,000 waves.
    fn default() -> Self {
        Self { frequency: Frequency::Automatic, horizon: Some(DEFAULT_HORIZON) }
    }
}
