//! Paths, patterns over paths, and names: parsed once, valid from then on.

use alloc::{string::String, sync::Arc};
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Visible,
    limits::{MAX_NAME_BYTES, MAX_PATH_SEGMENTS, MAX_SEGMENT_BYTES},
};

/// Why a text is not a path, a pattern or a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The text does not begin with `/`.
    #[error("a path begins with '/': write /{}", Visible(.0))]
    NotAbsolute(String),
    /// A segment is empty: `//`, a `/` at the end, or nothing but `/`.
    #[error("segment {0} is empty: a path is /segment/segment, with no '/' at its end")]
    EmptySegment(usize),
    /// There are too many segments.
    #[error("{0} segments: a path has at most {MAX_PATH_SEGMENTS}")]
    TooManySegments(usize),
    /// A segment is too long.
    #[error("segment {segment} has {bytes} bytes: at most {MAX_SEGMENT_BYTES} are allowed")]
    SegmentTooLong {
        /// Which one, from 1.
        segment: usize,
        /// How many bytes it has.
        bytes: usize,
    },
    /// A segment holds a control character.
    #[error("segment {0} holds a control character")]
    ControlCharacter(usize),
    /// A segment of a path is `*`, which only ends a pattern.
    #[error("segment {0} is '*', which may only be the last of a pattern, after at least one other")]
    Wildcard(usize),
    /// The text is a pattern, and a path goes here.
    #[error("a pattern is not allowed here: name one path")]
    Pattern,
    /// A name is empty, too long, or holds `/` or a control character.
    #[error("\"{}\" is not a name: 1 to {MAX_NAME_BYTES} bytes without '/' or control characters", Visible(.0))]
    BadName(String),
}

fn check_segments(text: &str) -> Result<(), PathError> {
    let Some(rest) = text.strip_prefix('/') else {
        return Err(PathError::NotAbsolute(text.chars().take(MAX_SEGMENT_BYTES).collect()));
    };
    let count = rest.split('/').count();
    if count > MAX_PATH_SEGMENTS {
        return Err(PathError::TooManySegments(count));
    }
    for (index, segment) in rest.split('/').enumerate() {
        let number = index + 1;
        if segment.is_empty() {
            return Err(PathError::EmptySegment(number));
        }
        if segment.len() > MAX_SEGMENT_BYTES {
            return Err(PathError::SegmentTooLong { segment: number, bytes: segment.len() });
        }
        if segment.chars().any(char::is_control) {
            return Err(PathError::ControlCharacter(number));
        }
        if segment == "*" {
            return Err(PathError::Wildcard(number));
        }
    }
    Ok(())
}

/// Where a state lives on an agent: `/segment/segment`, 1 to 16 segments of 1 to 255 bytes
/// of UTF-8 without `/` or control characters. No segment is `*`.
///
/// ```
/// use groundswell_core::Path;
/// let path: Path = "/chats/chat-1".parse()?;
/// assert_eq!(path.segments().collect::<Vec<_>>(), ["chats", "chat-1"]);
/// assert!("chats".parse::<Path>().is_err());
/// # Ok::<(), groundswell_core::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

impl Path {
    /// Parses a path.
    pub fn new(text: &str) -> Result<Self, PathError> {
        Self::without_wildcards(text).map_err(|error| match error {
            PathError::Wildcard(_) if Pattern::new(text).is_ok() => PathError::Pattern,
            error => error,
        })
    }

    fn without_wildcards(text: &str) -> Result<Self, PathError> {
        check_segments(text)?;
        Ok(Self(text.into()))
    }

    /// The path as text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, without their slashes.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

/// A path, or a path followed by `/*`, which covers that path and every path below it.
///
/// ```
/// use groundswell_core::{Path, Pattern};
/// let chats: Pattern = "/chats/*".parse()?;
/// assert!(chats.covers(&"/chats".parse()?));
/// assert!(chats.covers(&"/chats/chat-1/sub".parse()?));
/// assert!(!chats.covers(&"/chatsworth".parse()?));
/// # Ok::<(), groundswell_core::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    base: Path,
    below: bool,
}

impl Pattern {
    /// Parses a pattern.
    pub fn new(text: &str) -> Result<Self, PathError> {
        match text.strip_suffix("/*") {
            Some("") => Err(PathError::Wildcard(1)),
            Some(base) => Ok(Self { base: Path::without_wildcards(base)?, below: true }),
            None => Ok(Self { base: Path::without_wildcards(text)?, below: false }),
        }
    }

    /// Whether the path is the pattern's own, or below it where the pattern ends in `/*`.
    pub fn covers(&self, path: &Path) -> bool {
        match path.0.strip_prefix(&*self.base.0) {
            Some("") => true,
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }

    /// Whether some path is covered by both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(&other.base) || other.covers(&self.base)
    }

    /// What of a covered path stands for the `/*`: `chat-1/sub` of `/chats/chat-1/sub`
    /// under `/chats/*`, and nothing of `/chats` itself. `None` where the path is not covered.
    pub fn captured<'path>(&self, path: &'path Path) -> Option<&'path str> {
        let rest = path.0.strip_prefix(&*self.base.0)?;
        self.covers(path).then(|| rest.strip_prefix('/').unwrap_or(rest))
    }
}

impl From<Path> for Pattern {
    fn from(base: Path) -> Self {
        Self { base, below: false }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str())?;
        if self.below { f.write_str("/*") } else { Ok(()) }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}

impl FromStr for Pattern {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

/// The name of an agent or of a lake: 1 to 64 bytes of UTF-8 without `/` or control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks a name.
    pub fn new(text: &str) -> Result<Self, PathError> {
        let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES;
        if fits && !text.chars().any(|c| c == '/' || c.is_control()) {
            Ok(Self(text.into()))
        } else {
            Err(PathError::BadName(text.chars().take(MAX_NAME_BYTES).collect()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text forms that [`Path`] and [`Name`] share.
macro_rules! text_form {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.0)
            }
        }
        impl FromStr for $type {
            type Err = PathError;
            fn from_str(text: &str) -> Result<Self, PathError> {
                Self::new(text)
            }
        }
        impl TryFrom<&str> for $type {
            type Error = PathError;
            fn try_from(text: &str) -> Result<Self, PathError> {
                Self::new(text)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

text_form!(Path);
text_form!(Name);

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}
