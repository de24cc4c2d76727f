//! Lake `json`: a JSON document, changed by JSON Patch (RFC 6902).

mod apply;

use std::{borrow::Cow, str::FromStr};

use groundswell_core::{Lake, Older, UpgradeError, Visible, limits::MAX_WAVE_BYTES};
use json_patch::Patch;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

use apply::{Bounds, apply};

/// How deep a document may be nested. A reader of JSON gives up at 128, and a document that
/// could not be read again must not come to be.
pub const MAX_JSON_DEPTH: usize = 100;

/// How many bytes of values a patch may copy within the document (1 MiB, what it could add if it
/// spelled them out), so that small patches can't double a document again and again.
const MAX_COPIED_BYTES: usize = MAX_WAVE_BYTES;

/// How much work a patch may do beyond what its own bytes bound, in elements of arrays that move to another index
/// (4,194,304). Moving so many takes a few hundredths of a second at most, for which the readers of the path may wait.
/// Inserting an element moves those after it; moving or copying a value counts 8 for each value inside it.
pub const MAX_JSON_WORK: u64 = 4 * 1024 * 1024;

/// What a patch may cost.
const BOUNDS: Bounds = Bounds { depth: MAX_JSON_DEPTH, copied_bytes: MAX_COPIED_BYTES, work: MAX_JSON_WORK };

/// What a patch that version 1 accepted may cost: its work had no bound, and a document could be nested deeper for
/// the time of one patch.
const BOUNDS_OF_VERSION_1: Bounds = Bounds { depth: 10 * MAX_JSON_DEPTH, work: u64::MAX, ..BOUNDS };

/// Lake `json`: a rock is a JSON document, `null` at first; a wave is a JSON Patch. A patch that
/// does not apply, whose `test` fails, or that would cost too much, is refused whole.
///
/// A patch costs what it changes, whatever the size of the document: see [`MAX_JSON_WORK`].
#[derive(Debug, Clone, Copy)]
pub struct Json;

/// Version 1, whose states are brought to this version. A patch that it accepted has the same effect now.
struct JsonV1;

/// A JSON document. Its encoding is its text, with the keys of objects in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JsonDocument(pub Value);

/// A JSON Patch: a list of operations, all of which apply or none. Parse it from JSON text.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPatch(pub Patch);

/// Why a patch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// An operation does not apply, or a `test` failed.
    #[error("the patch does not apply: {}", Visible(.0))]
    Patch(String),
    /// The document would be nested too deep.
    #[error("the document would be nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    /// The patch copies too much.
    #[error("the patch copies more than {MAX_COPIED_BYTES} bytes within the document")]
    CopiesTooMuch,
    /// The patch moves too much.
    #[error(
        "the patch moves more than {MAX_JSON_WORK} elements of arrays: spread it over several waves, or keep large collections in objects"
    )]
    TooMuchWork,
}

impl Lake for Json {
    const NAME: &'static str = "json";
    const VERSION: u32 = 2;
    type Rock = JsonDocument;
    type Wave = JsonPatch;
    type Error = JsonError;

    fn wash(rock: &mut JsonDocument, wave: &JsonPatch) -> Result<(), JsonError> {
        apply(&mut rock.0, &wave.0, BOUNDS)
    }

    fn upgrade(older: Older<'_>) -> Result<JsonDocument, UpgradeError> {
        match older.version() {
            1 => older.fold::<JsonV1>(),
            _ => Err(older.unknown()),
        }
    }
}

impl Lake for JsonV1 {
    const NAME: &'static str = "json";
    type Rock = JsonDocument;
    type Wave = JsonPatch;
    type Error = JsonError;

    fn wash(rock: &mut JsonDocument, wave: &JsonPatch) -> Result<(), JsonError> {
        apply(&mut rock.0, &wave.0, BOUNDS_OF_VERSION_1)
    }
}

/// The same value with the keys of every object in order, whatever order the map keeps: that
/// depends on features which another crate in the same program may have chosen.
fn ordered(value: &Value) -> Cow<'_, Value> {
    match value {
        Value::Array(items) => Cow::Owned(Value::Array(items.iter().map(|item| ordered(item).into_owned()).collect())),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            let ordered = fields.into_iter().map(|(key, value)| (key.clone(), ordered(value).into_owned()));
            Cow::Owned(Value::Object(ordered.collect()))
        }
        _ => Cow::Borrowed(value),
    }
}

impl Serialize for JsonDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&ordered(&self.0).to_string())
    }
}

impl<'de> Deserialize<'de> for JsonDocument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        serde_json::from_str(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for JsonPatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let patch = serde_json::to_value(&self.0).map_err(ser::Error::custom)?;
        serializer.serialize_str(&ordered(&patch).to_string())
    }
}

impl<'de> Deserialize<'de> for JsonPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl FromStr for JsonPatch {
    type Err = serde_json::Error;
    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }
}
