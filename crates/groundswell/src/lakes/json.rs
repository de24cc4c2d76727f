//! Lake `json`: a JSON document, changed by JSON Patch (RFC 6902).

use std::{borrow::Cow, str::FromStr};

use groundswell_core::Lake;
use json_patch::{Patch, PatchOperation, jsonptr::Pointer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::Value;

/// How deep a document may be nested. A reader of JSON gives up at 128, and a document that
/// could not be read again must not come to be.
pub const MAX_JSON_DEPTH: usize = 100;

/// How many bytes of values a patch may copy within the document (1 MiB, what it could add if it
/// spelled them out), so that small patches can't double a document again and again.
const MAX_COPIED_BYTES: usize = groundswell_core::limits::MAX_WAVE_BYTES;

/// Lake `json`: a rock is a JSON document, `null` at first; a wave is a JSON Patch. A patch that
/// does not apply, or whose `test` fails, is refused whole.
///
/// A patch with `move` or `copy` costs a copy of the document; others cost what they change.
#[derive(Debug, Clone, Copy)]
pub struct Json;

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
    #[error("the patch does not apply: {0}")]
    Patch(String),
    /// The document would be nested too deep.
    #[error("the document would be nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    /// The patch copies too much.
    #[error("the patch copies more than {MAX_COPIED_BYTES} bytes within the document")]
    CopiesTooMuch,
}

impl Lake for Json {
    const NAME: &'static str = "json";
    type Rock = JsonDocument;
    type Wave = JsonPatch;
    type Error = JsonError;

    fn wash(rock: &mut JsonDocument, wave: &JsonPatch) -> Result<(), JsonError> {
        let operations = &wave.0.0;
        let moves = |one: &PatchOperation| matches!(one, PatchOperation::Move(_) | PatchOperation::Copy(_));
        if operations.iter().any(|one| depth_after(one) > MAX_JSON_DEPTH) {
            return Err(JsonError::TooDeep);
        }
        if !operations.iter().any(moves) {
            return patch(&mut rock.0, operations);
        }
        // What is moved or copied is known only when its turn comes, so that it is tried out on a copy.
        let mut document = rock.0.clone();
        let mut copied = 0;
        for one in operations {
            if let PatchOperation::Copy(copy) = one {
                copied += size_at(&document, &copy.from);
                if copied > MAX_COPIED_BYTES {
                    return Err(JsonError::CopiesTooMuch);
                }
            }
            patch(&mut document, std::slice::from_ref(one))?;
        }
        if depth(&document) > MAX_JSON_DEPTH {
            return Err(JsonError::TooDeep);
        }
        rock.0 = document;
        Ok(())
    }
}

fn patch(document: &mut Value, operations: &[PatchOperation]) -> Result<(), JsonError> {
    json_patch::patch(document, operations).map_err(|error| JsonError::Patch(error.to_string()))
}

/// How deep the document can be where an operation has put a value.
fn depth_after(one: &PatchOperation) -> usize {
    let value = match one {
        PatchOperation::Add(add) => &add.value,
        PatchOperation::Replace(replace) => &replace.value,
        _ => return 0,
    };
    one.path().tokens().count() + depth(value)
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn size_at(document: &Value, at: &Pointer) -> usize {
    at.resolve(document).map_or(0, |value| value.to_string().len())
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
