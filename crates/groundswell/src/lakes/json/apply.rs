//! Applies a JSON Patch (RFC 6902) in place: all operations or none, within bounds.
//!
//! The library `json-patch` parses patches. It does not apply them here, because it bounds nothing and
//! compares `1` and `1.0` as different.

use std::{io, mem};

use json_patch::{PatchOperation, jsonptr::Pointer};
use serde_json::{Number, Value};

use super::JsonError;

/// What one patch may cost. All of it is counted, never timed, so that every node decides alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How deep a value may be nested in the document, after each operation.
    pub(super) depth: usize,
    /// How many bytes of JSON text all `copy` operations may copy.
    pub(super) copied_bytes: usize,
    /// How much work all operations may do: elements of arrays that move to another index, and
    /// [`VISIT_WORK`] for each value that is looked at to learn how deep it is nested.
    pub(super) work: u64,
}

/// What looking at one value counts: as much as moving 8 elements of an array, which takes about as long.
const VISIT_WORK: u64 = 8;

/// Why one operation does not apply.
enum Fault {
    /// It does not fit the document; in words.
    Unfit(&'static str),
    /// It exceeds a bound.
    Bound(JsonError),
}

const NO_SUCH_PLACE: Fault = Fault::Unfit("the path leads nowhere");
const NO_SUCH_SOURCE: Fault = Fault::Unfit("\"from\" leads nowhere");

/// How to take back one change. Where `was` is `None`, the value is the one that the step before, while
/// taking back, took out: a `move` holds no copy.
enum Undo<'a> {
    /// A value was replaced.
    Replaced { at: &'a Pointer, was: Value },
    /// An object got a member.
    NewMember { at: &'a Pointer },
    /// An object lost a member.
    LostMember { at: &'a Pointer, was: Option<Value> },
    /// An array got an element.
    NewElement { array: &'a Pointer, index: usize },
    /// An array lost an element.
    LostElement { array: &'a Pointer, index: usize, was: Option<Value> },
}

/// Applies all operations, or leaves the document as it was.
pub(super) fn apply(document: &mut Value, operations: &[PatchOperation], bounds: Bounds) -> Result<(), JsonError> {
    let mut applying = Applying { document, undo: Vec::new(), bounds };
    for (index, operation) in operations.iter().enumerate() {
        if let Err(fault) = applying.one(operation) {
            applying.take_back();
            return Err(match fault {
                Fault::Bound(error) => error,
                Fault::Unfit(why) => {
                    JsonError::Patch(format!("operation {index} at path {:?}: {why}", operation.path().as_str()))
                }
            });
        }
    }
    Ok(())
}

struct Applying<'a> {
    document: &'a mut Value,
    undo: Vec<Undo<'a>>,
    /// What is left of the bounds.
    bounds: Bounds,
}

impl<'a> Applying<'a> {
    fn one(&mut self, operation: &'a PatchOperation) -> Result<(), Fault> {
        match operation {
            PatchOperation::Add(add) => {
                self.check_depth(&add.path, &add.value)?;
                self.put(&add.path, add.value.clone())
            }
            PatchOperation::Replace(replace) => {
                self.check_depth(&replace.path, &replace.value)?;
                let target = resolve(self.document, &replace.path).ok_or(NO_SUCH_PLACE)?;
                let was = mem::replace(target, replace.value.clone());
                self.undo.push(Undo::Replaced { at: &replace.path, was });
                Ok(())
            }
            PatchOperation::Remove(remove) => {
                let was = self.take(&remove.path)?.ok_or(NO_SUCH_PLACE)?;
                self.keep(was);
                Ok(())
            }
            PatchOperation::Move(one) => {
                if one.from == one.path {
                    let there = self.document.pointer(one.from.as_str());
                    return there.map(drop).ok_or(NO_SUCH_SOURCE);
                }
                if one.path.starts_with(&one.from) {
                    return Err(Fault::Unfit("a value cannot be moved into itself"));
                }
                let value = self.take(&one.from)?.ok_or(NO_SUCH_SOURCE)?;
                if let Err(fault) = self.check_depth_counted(&one.path, &value) {
                    self.keep(value);
                    return Err(fault);
                }
                self.put(&one.path, value)
            }
            PatchOperation::Copy(copy) => {
                let source = self.document.pointer(copy.from.as_str()).ok_or(NO_SUCH_SOURCE)?;
                // Measured before it is copied, and no further than may be copied.
                let mut left = Left(self.bounds.copied_bytes);
                if serde_json::to_writer(&mut left, source).is_err() {
                    return Err(Fault::Bound(JsonError::CopiesTooMuch));
                }
                let value = source.clone();
                self.bounds.copied_bytes = left.0;
                self.check_depth_counted(&copy.path, &value)?;
                self.put(&copy.path, value)
            }
            PatchOperation::Test(test) => {
                let found = self.document.pointer(test.path.as_str()).ok_or(NO_SUCH_PLACE)?;
                if equal(found, &test.value) { Ok(()) } else { Err(Fault::Unfit("the value is another one")) }
            }
        }
    }

    /// Puts a value where `add` does. If that fails, the value is kept by the step that took it out.
    fn put(&mut self, at: &'a Pointer, value: Value) -> Result<(), Fault> {
        let Some((parent, last)) = at.split_back() else {
            let was = mem::replace(self.document, value);
            self.undo.push(Undo::Replaced { at, was });
            return Ok(());
        };
        let fault = match resolve(self.document, parent) {
            Some(Value::Object(members)) => {
                let undo = match members.insert(last.decoded().into_owned(), value) {
                    Some(was) => Undo::Replaced { at, was },
                    None => Undo::NewMember { at },
                };
                self.undo.push(undo);
                return Ok(());
            }
            Some(Value::Array(elements)) => {
                let index = last.to_index().ok().and_then(|index| index.for_len_incl(elements.len()).ok());
                match index.map(|index| (index, spend(&mut self.bounds.work, elements.len() - index))) {
                    Some((index, Ok(()))) => {
                        elements.insert(index, value);
                        self.undo.push(Undo::NewElement { array: parent, index });
                        return Ok(());
                    }
                    Some((_, Err(fault))) => fault,
                    None => NO_SUCH_PLACE,
                }
            }
            _ => NO_SUCH_PLACE,
        };
        self.keep(value);
        Err(fault)
    }

    /// Takes a value out, if it is there. The caller puts it elsewhere or gives it to [`Applying::keep`].
    fn take(&mut self, at: &'a Pointer) -> Result<Option<Value>, Fault> {
        let Some((parent, last)) = at.split_back() else {
            return Err(Fault::Unfit("a document cannot be removed: replace it"));
        };
        match resolve(self.document, parent) {
            Some(Value::Object(members)) => {
                let Some(value) = members.remove(last.decoded().as_ref()) else { return Ok(None) };
                self.undo.push(Undo::LostMember { at, was: None });
                Ok(Some(value))
            }
            Some(Value::Array(elements)) => {
                let Some(index) = last.to_index().ok().and_then(|index| index.for_len(elements.len()).ok()) else {
                    return Ok(None);
                };
                spend(&mut self.bounds.work, elements.len() - index - 1)?;
                let value = elements.remove(index);
                self.undo.push(Undo::LostElement { array: parent, index, was: None });
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    /// Keeps a value for the step that took it out, if the newest one did.
    fn keep(&mut self, value: Value) {
        if let Some(Undo::LostMember { was: was @ None, .. } | Undo::LostElement { was: was @ None, .. }) =
            self.undo.last_mut()
        {
            *was = Some(value);
        }
    }

    fn check_depth(&self, at: &Pointer, value: &Value) -> Result<(), Fault> {
        if at.count() + depth(value) > self.bounds.depth {
            return Err(Fault::Bound(JsonError::TooDeep));
        }
        Ok(())
    }

    /// The same for a value of the document, which can be far larger than the patch.
    fn check_depth_counted(&mut self, at: &Pointer, value: &Value) -> Result<(), Fault> {
        let left = self.bounds.depth.checked_sub(at.count()).ok_or(Fault::Bound(JsonError::TooDeep))?;
        visit(value, left, &mut self.bounds.work)
    }

    fn take_back(mut self) {
        let mut hand = Value::Null;
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Replaced { at, was } => {
                    if let Some(target) = resolve(self.document, at) {
                        hand = mem::replace(target, was);
                    }
                }
                Undo::NewMember { at } => {
                    if let Some((members, key)) = member(self.document, at) {
                        hand = members.remove(&key).unwrap_or_default();
                    }
                }
                Undo::LostMember { at, was } => {
                    if let Some((members, key)) = member(self.document, at) {
                        members.insert(key, was.unwrap_or_else(|| hand.take()));
                    }
                }
                Undo::NewElement { array, index } => {
                    if let Some(Value::Array(elements)) = resolve(self.document, array) {
                        hand = elements.remove(index);
                    }
                }
                Undo::LostElement { array, index, was } => {
                    if let Some(Value::Array(elements)) = resolve(self.document, array) {
                        elements.insert(index, was.unwrap_or_else(|| hand.take()));
                    }
                }
            }
        }
    }
}

fn resolve<'d>(document: &'d mut Value, at: &Pointer) -> Option<&'d mut Value> {
    document.pointer_mut(at.as_str())
}

fn member<'d>(document: &'d mut Value, at: &Pointer) -> Option<(&'d mut serde_json::Map<String, Value>, String)> {
    let (parent, last) = at.split_back()?;
    let members = resolve(document, parent)?.as_object_mut()?;
    Some((members, last.decoded().into_owned()))
}

fn spend(left: &mut u64, work: usize) -> Result<(), Fault> {
    *left = left.checked_sub(work as u64).ok_or(Fault::Bound(JsonError::TooMuchWork))?;
    Ok(())
}

/// How deep a value of a patch is nested. The parser of the patch has bounded it.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(elements) => 1 + elements.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Looks at a value and all in it, and counts that. Errs where it is nested deeper than `levels`.
fn visit(value: &Value, levels: usize, work: &mut u64) -> Result<(), Fault> {
    *work = work.checked_sub(VISIT_WORK).ok_or(Fault::Bound(JsonError::TooMuchWork))?;
    let inner = || levels.checked_sub(1).ok_or(Fault::Bound(JsonError::TooDeep));
    match value {
        Value::Array(elements) => {
            let levels = inner()?;
            elements.iter().try_for_each(|element| visit(element, levels, work))
        }
        Value::Object(members) => {
            let levels = inner()?;
            members.values().try_for_each(|member| visit(member, levels, work))
        }
        _ => Ok(()),
    }
}

/// Whether two values are equal as `test` means it (RFC 6902, section 4.6): numbers by what they
/// denote, so that 1, 1.0 and 1e0 are the same.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => same_number(one, other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let same = |(key, value): (&String, &Value)| other.get(key).is_some_and(|other| equal(value, other));
            one.len() == other.len() && one.iter().all(same)
        }
        _ => one == other,
    }
}

/// Whether two numbers denote the same, exactly: 2^53 + 1 is not the `f64` that it would be rounded to.
fn same_number(one: &Number, other: &Number) -> bool {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.as_f64() == other.as_f64(),
        (Some(whole), None) => is_whole(other, whole),
        (None, Some(whole)) => is_whole(one, whole),
    }
}

/// Whether a floating-point number is this whole one. The conversion saturates, and no whole number of a
/// document is that large.
fn is_whole(number: &Number, whole: i128) -> bool {
    number.as_f64().is_some_and(|float| float.fract() == 0.0 && float as i128 == whole)
}

/// Takes so many bytes and keeps none of them.
struct Left(usize);

impl io::Write for Left {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
