//! A lake: the contract of one kind of replicated state.

use alloc::string::{String, ToString};
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    encoding::decode,
    path::{Name, PathError},
};

/// The contract of one kind of replicated state: its name and version, its rock (the state),
/// its wave (one instruction that turns a rock into the next) and its wash (how).
///
/// Publisher and subscriber run the same `wash` on their own rock. What it has to be, so that
/// they stay equal, are the **lake laws**; [`check_lake`](crate::check::check_lake) tests them:
///
/// - *deterministic*: the next rock depends on rock and wave alone, on no clock, no random
///   number, no environment, no iteration order of a hash map;
/// - *all or nothing*: where `wash` returns an error, the rock is as it was before;
/// - *round trip*: encoding and decoding a rock or a wave gives one that behaves the same;
/// - *canonical*: equal rocks have equal encodings, so use ordered maps and sets.
///
/// ```
/// use std::convert::Infallible;
/// use groundswell_core::Lake;
///
/// struct Guests;
/// impl Lake for Guests {
///     const NAME: &'static str = "guests";
///     type Rock = Vec<String>;
///     type Wave = String;
///     type Error = Infallible;
///     fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
///         rock.push(wave.clone());
///         Ok(())
///     }
/// }
/// groundswell_core::check::check_lake::<Guests>(["ann".into(), "ben".into()]).unwrap();
/// ```
pub trait Lake: Send + Sync + 'static {
    /// The lake's name, which both sides have to agree on: 1 to 64 bytes.
    const NAME: &'static str;
    /// The version of rock, wave and wash together. Two sides that differ in it do not talk:
    /// raise it whenever a change could make the same waves give another rock.
    const VERSION: u32 = 1;
    /// The state. Its default is what a path holds before any wave: aeon 0.
    type Rock: Default + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The diff.
    type Wave: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Why a wave is refused.
    type Error: fmt::Display + Send + Sync + 'static;

    /// Turns a rock into the next one, or refuses the wave and leaves the rock as it was.
    ///
    /// A panic counts as a refusal; the rock is then rebuilt from storage.
    fn wash(rock: &mut Self::Rock, wave: &Self::Wave) -> Result<(), Self::Error>;

    /// Turns what is stored under an older version of this lake into a rock of this version,
    /// when the path is declared. The default has no way, and the declaration is refused.
    ///
    /// The older version stays in the program as a lake of its own, by which [`Older::fold`]
    /// reads what is stored:
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// use groundswell_core::{Lake, Older, UpgradeError};
    ///
    /// struct GuestsV1;
    /// impl Lake for GuestsV1 {
    ///     const NAME: &'static str = "guests";
    ///     type Rock = Vec<String>;
    ///     # type Wave = String;
    ///     # type Error = Infallible;
    ///     # fn wash(rock: &mut Vec<String>, wave: &String) -> Result<(), Infallible> {
    ///     #     rock.push(wave.clone());
    ///     #     Ok(())
    ///     # }
    ///     // as it was
    /// }
    ///
    /// struct Guests;
    /// impl Lake for Guests {
    ///     const NAME: &'static str = "guests";
    ///     const VERSION: u32 = 2;
    ///     type Rock = Vec<(String, u32)>;
    ///     # type Wave = (String, u32);
    ///     # type Error = Infallible;
    ///     # fn wash(rock: &mut Vec<(String, u32)>, wave: &(String, u32)) -> Result<(), Infallible> {
    ///     #     rock.push(wave.clone());
    ///     #     Ok(())
    ///     # }
    ///     fn upgrade(older: Older<'_>) -> Result<Vec<(String, u32)>, UpgradeError> {
    ///         match older.version() {
    ///             1 => Ok(older.fold::<GuestsV1>()?.into_iter().map(|guest| (guest, 1)).collect()),
    ///             _ => Err(older.unknown()),
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// The upgraded state is a new epoch, at the same aeon: its readers get it as a rock.
    fn upgrade(older: Older<'_>) -> Result<Self::Rock, UpgradeError> {
        Err(older.unknown())
    }
}

/// What is stored under an older version of a lake: see [`Lake::upgrade`].
#[derive(Debug)]
pub struct Older<'a> {
    version: u32,
    rock: &'a [u8],
    waves: &'a [Bytes],
}

impl<'a> Older<'a> {
    /// A stored rock, and the waves since.
    pub fn new(version: u32, rock: &'a [u8], waves: &'a [Bytes]) -> Self {
        Self { version, rock, waves }
    }

    /// The version that it was stored under.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The state, as the older lake has it.
    pub fn fold<L: Lake>(&self) -> Result<L::Rock, UpgradeError> {
        let failed = |what: &dyn fmt::Display| UpgradeError::Failed(what.to_string());
        let mut rock: L::Rock = decode(self.rock).map_err(|error| failed(&error))?;
        for wave in self.waves {
            let wave: L::Wave = decode(wave).map_err(|error| failed(&error))?;
            L::wash(&mut rock, &wave).map_err(|error| failed(&error))?;
        }
        Ok(rock)
    }

    /// The error of a lake that knows no way from this version.
    pub fn unknown(&self) -> UpgradeError {
        UpgradeError::NoWay { version: self.version }
    }
}

/// Why stored state was not upgraded. It stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The lake knows no way from the stored version.
    #[error("the lake has no upgrade from version {version}")]
    NoWay {
        /// The stored version.
        version: u32,
    },
    /// It went wrong.
    #[error("the upgrade failed: {0}")]
    Failed(String),
}

/// What identifies a lake between two sides: its name and its version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LakeId {
    /// The lake's name.
    pub name: Name,
    /// The version of its rock, wave and wash.
    pub version: u32,
}

impl LakeId {
    /// The identity of a lake type, or an error where its `NAME` is none.
    pub fn of<L: Lake>() -> Result<Self, PathError> {
        Ok(Self { name: Name::new(L::NAME)?, version: L::VERSION })
    }
}

impl fmt::Display for LakeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}", self.name, self.version)
    }
}
