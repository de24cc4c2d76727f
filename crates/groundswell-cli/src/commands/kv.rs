//! `kv`: reads, writes and follows keys and values.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use tokio::io::AsyncWriteExt;

use super::answer;
use crate::{
    args::{Kv, KvCommand, KvGet, KvSet, Place},
    bytes::{Hex, for_people, from_hex, to_hex},
    control::{
        client,
        protocol::{Deleted, Delivered, KvAsk, KvKind, KvLine, KvPlace, MAX_VALUE_BYTES, Request},
    },
    error::ToolError,
    output::{Output, OutputReader},
    stop::{Stop, last_words},
};

/// Stands for standard input, or for standard output.
const STANDARD_STREAM: &str = "-";

/// Does what is asked for.
pub(super) async fn run(kv: Kv, dir: PathBuf, output: &mut Output) -> Result<(), ToolError> {
    match kv.command {
        KvCommand::Get(get) => self::get(get, &dir, output).await,
        KvCommand::Set(set) => self::set(set, &dir, output).await,
        KvCommand::Del(del) => {
            let ask = KvAsk::Del { key: written(&del.key, del.place.hex)?, id: del.once.id.clone() };
            let key = shown_key(&del.key, del.place.hex)?;
            let with_id = del.once.id.is_some();
            answer(&dir, &request(&del.place, ask), output, |done: Deleted| deleted_line(&key, &done, with_id)).await
        }
        KvCommand::Ls(ls) => {
            let ask = KvAsk::Ls { prefix: prefix(ls.prefix.as_deref(), ls.place.hex)? };
            answer(&dir, &request(&ls.place, ask), output, |entry: KvLine| entry_line(&entry)).await
        }
        KvCommand::Delivered(delivered) => {
            let place = KvPlace { machine: delivered.machine.map(|machine| machine.to_string()), ..KvPlace::default() };
            let ask = KvAsk::Delivered { within_ms: delivered.within.map(|seconds| seconds.saturating_mul(1_000)) };
            let said = |_: Delivered| "everything is at the other side".to_owned();
            answer(&dir, &Request::Kv { place, ask }, output, said).await
        }
        KvCommand::Watch(watch) => {
            let key = written(&watch.key, watch.place.hex)?;
            let ask = KvAsk::Watch { key, cursor: watch.following.cursor.map(|cursor| cursor.to_string()) };
            follow(&dir, &request(&watch.place, ask), watch.following.count, output, show).await
        }
        KvCommand::Subscribe(subscribe) => {
            let prefix = prefix(subscribe.prefix.as_deref(), subscribe.place.hex)?;
            let ask = if subscribe.all {
                KvAsk::SubscribeAll { prefix }
            } else {
                let cursor = subscribe.following.cursor.map(|cursor| cursor.to_string());
                KvAsk::Subscribe { prefix, cursor }
            };
            follow(&dir, &request(&subscribe.place, ask), subscribe.following.count, output, show).await
        }
    }
}

fn request(place: &Place, ask: KvAsk) -> Request {
    Request::Kv { place: place_of(place), ask }
}

/// The place, as it is asked for.
pub(super) fn place_of(place: &Place) -> KvPlace {
    let machine = place.machine.as_ref().map(ToString::to_string);
    let space = place.space.as_ref().map(ToString::to_string);
    KvPlace { machine, space, hex: place.hex }
}

/// The bytes of a key, a prefix or a value, as they are written.
fn written(text: &OsStr, hex: bool) -> Result<Hex, ToolError> {
    if !hex {
        return Ok(Hex(text.as_bytes().to_vec()));
    }
    let wrong =
        || ToolError::Usage(format!("{text:?} is not hexadecimal: with --hex, two digits are a byte, as in 00ff"));
    text.to_str().and_then(from_hex).map(Hex).ok_or_else(wrong)
}

pub(super) fn prefix(text: Option<&OsStr>, hex: bool) -> Result<Hex, ToolError> {
    text.map_or(Ok(Hex::default()), |text| written(text, hex))
}

fn shown_key(text: &OsStr, hex: bool) -> Result<String, ToolError> {
    let bytes = written(text, hex)?.0;
    let text = std::str::from_utf8(&bytes).ok().filter(|_| !hex);
    Ok(for_people(text, Some(&to_hex(&bytes))))
}

async fn get(get: KvGet, dir: &Path, output: &mut Output) -> Result<(), ToolError> {
    let ask = KvAsk::Get { key: written(&get.key, get.place.hex)? };
    let Some(path) = get.file else {
        return answer(dir, &request(&get.place, ask), output, |entry: KvLine| match entry.value.as_deref() {
            // A script wants nothing where there is nothing.
            Some("") => String::new(),
            _ => value_of(&entry),
        })
        .await;
    };
    if is_standard(&path) && output.is_json() {
        let why = "--file - writes the value alone to standard output, and --json an object: leave out one of the two";
        return Err(ToolError::Usage(why.to_owned()));
    }
    // The bytes come in hexadecimal, whatever they are.
    let mut asked = request(&get.place, ask);
    if let Request::Kv { place, .. } = &mut asked {
        place.hex = true;
    }
    let (_sender, mut answers) = client::ask(dir, &asked).await?;
    while let Some(line) = answers.next_line().await? {
        let unknown = |what: String| ToolError::Answer(what);
        let mut entry: KvLine = serde_json::from_slice(line).map_err(|error| unknown(error.to_string()))?;
        let value = entry.value_hex.take().and_then(|hex| from_hex(&hex));
        let value = value.ok_or_else(|| unknown("an entry without its value".to_owned()))?;
        if is_standard(&path) {
            output.exact(&value).await?;
            continue;
        }
        fs::write(&path, &value).map_err(|source| ToolError::File { path: path.clone(), source })?;
        entry.bytes = Some(value.len());
        if let (false, Some(key)) = (get.place.hex, get.key.to_str()) {
            // As it was written.
            (entry.key, entry.key_hex) = (Some(key.to_owned()), None);
        }
        if output.is_json() {
            output.object(&entry).await?;
        } else {
            output.line(format!("{} bytes are in {}", value.len(), path.display())).await?;
        }
    }
    output.flush().await
}

async fn set(set: KvSet, dir: &Path, output: &mut Output) -> Result<(), ToolError> {
    let key = written(&set.key, set.place.hex)?;
    let (value, bytes) = match (&set.file, &set.value) {
        (Some(path), _) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || read_value(&path)).await;
            read.map_err(|error| ToolError::Runtime(io::Error::other(error)))??
        }
        (None, value) => {
            let value = written(value.as_deref().unwrap_or_default(), set.place.hex)?;
            let bytes = value.0.len();
            (value, bytes)
        }
    };
    let ask = KvAsk::Set { key, bytes, id: set.once.id.clone() };
    let (mut sender, mut answers) = client::ask(dir, &request(&set.place, ask)).await?;
    output.goes_on();
    let mut line = serde_json::to_vec(&value).map_err(|error| ToolError::Answer(error.to_string()))?;
    line.push(b'\n');
    // A node that takes no value has said why, which is read below; the rest of the value is not waited for.
    let sending = async {
        let _: io::Result<()> = sender.write_all(&line).await;
        let _: io::Result<()> = sender.flush().await;
        std::future::pending::<()>().await;
    };
    let answered = async {
        while let Some(line) = answers.next_line().await? {
            if output.is_json() {
                output.json(line).await?;
            } else {
                let mut entry: KvLine =
                    serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
                // What is in a file may be long.
                entry.bytes = set.file.as_ref().map(|_| bytes);
                output.line(written_line(&entry, set.once.id.is_some())).await?;
            }
        }
        output.flush().await
    };
    tokio::select! {
        answered = answered => answered,
        () = sending => Ok(()),
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == STANDARD_STREAM
}

/// Reads a value from a file, no more of it than is needed to see that it is too large, and says how
/// many bytes there are, as far as that is known.
fn read_value(path: &Path) -> Result<(Hex, usize), ToolError> {
    let failed = |source| ToolError::File { path: path.to_owned(), source };
    let (input, size): (Box<dyn Read>, u64) = match path.to_str() {
        Some(STANDARD_STREAM) => (Box::new(io::stdin()), 0),
        _ => {
            let file = fs::File::open(path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            (Box::new(file), size)
        }
    };
    let mut value = Vec::new();
    input.take(MAX_VALUE_BYTES as u64 + 1).read_to_end(&mut value).map_err(failed)?;
    // One that is within the limit is what was read, whatever a file system says of its size.
    let bytes = match value.len() {
        0..=MAX_VALUE_BYTES => value.len(),
        more => usize::try_from(size).unwrap_or(usize::MAX).max(more),
    };
    Ok((Hex(value), bytes))
}

/// Shows lines until the stream ends, or is asked to, or so many entries were put, deleted or left. What shows a line
/// says what happened to an entry, if something did.
pub(super) async fn follow(
    dir: &Path,
    request: &Request,
    count: Option<u64>,
    output: &mut Output,
    show: impl AsyncFn(&[u8], &mut Output) -> Result<Option<KvKind>, ToolError>,
) -> Result<(), ToolError> {
    let mut stop = Stop::new()?;
    let mut reader = OutputReader::watch();
    let (_sender, mut answers) = client::ask(dir, request).await?;
    let mut happened = 0;
    loop {
        let line = tokio::select! {
            line = answers.next_line() => line?,
            () = stop.asked() => {
                let interrupted = KvLine { reason: Some("interrupted".to_owned()), ..KvLine::of(KvKind::Ended) };
                let line = serde_json::to_vec(&interrupted).map_err(|error| ToolError::Answer(error.to_string()))?;
                let said = async {
                    show(&line, output).await?;
                    output.flush().await
                };
                return last_words(said).await.unwrap_or(Ok(()));
            }
            () = reader.gone() => return Ok(()),
        };
        let Some(line) = line else { return output.flush().await };
        // Who asks for an end gets it, even while no one reads what is written.
        let Some(kind) = stop.unless(show(line, output)).await else { return Ok(()) };
        if matches!(kind?, Some(KvKind::Put | KvKind::Delete | KvKind::Left)) {
            happened += 1;
        }
        let enough = count.is_some_and(|most| happened >= most);
        if enough || !answers.has_next() {
            let Some(flushed) = stop.unless(output.flush()).await else { return Ok(()) };
            flushed?;
        }
        if enough {
            return Ok(());
        }
    }
}

/// Writes a line as it came, or as people read it.
async fn show(line: &[u8], output: &mut Output) -> Result<Option<KvKind>, ToolError> {
    let seen: KvLine = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
    if output.is_json() {
        output.json(line).await?;
    } else {
        output.line(event_line(&seen)).await?;
    }
    Ok(seen.kind)
}

pub(super) fn key_of(line: &KvLine) -> String {
    for_people(line.key.as_deref(), line.key_hex.as_deref())
}

pub(super) fn value_of(line: &KvLine) -> String {
    for_people(line.value.as_deref(), line.value_hex.as_deref())
}

fn author_of(line: &KvLine) -> &str {
    line.author.as_deref().unwrap_or_default()
}

fn entry_line(line: &KvLine) -> String {
    let value = line.bytes.map_or_else(|| value_of(line), |bytes| format!("{bytes} bytes"));
    format!("{} = {value}  ({})", key_of(line), author_of(line))
}

/// A write with an id may have been done before, which its answer does not tell, and the key have changed since.
fn written_line(line: &KvLine, with_id: bool) -> String {
    if with_id { format!("with this id: {}", entry_line(line)) } else { entry_line(line) }
}

fn deleted_line(key: &str, done: &Deleted, with_id: bool) -> String {
    match (done.deleted, with_id) {
        (true, false) => format!("{key} is deleted"),
        (true, true) => format!("with this id: {key} was deleted"),
        (false, false) => format!("{key} had no value"),
        (false, true) => format!("with this id: {key} had no value"),
    }
}

pub(super) fn event_line(line: &KvLine) -> String {
    let machine = line.machine.as_deref().map(|id| format!("{}  ", crate::peer_name::shown(id))).unwrap_or_default();
    let reason = || line.reason.as_deref().unwrap_or_default().replace('_', " ");
    let said = match line.kind {
        Some(KvKind::Put) | None => entry_line(line),
        Some(KvKind::Delete) => format!("{} is deleted  ({})", key_of(line), author_of(line)),
        Some(KvKind::Left) => format!("{} does not match any more", key_of(line)),
        Some(KvKind::CaughtUp) => "-- caught up".to_owned(),
        Some(KvKind::Reset) => format!("-- reset ({}): what is here follows anew", reason()),
        Some(KvKind::Gone) => "-- is not this manager's any more".to_owned(),
        Some(KvKind::Ended) => format!("-- ended: {}", reason()),
    };
    format!("{machine}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        event_line(&serde_json::from_str(line).unwrap())
    }

    #[test]
    fn lines_are_short_for_people() {
        let put =
            r#"{"type":"put","key":"a","value_hex":"ff","author":"machine","timestamp":1,"live":true,"cursor":"c"}"#;
        assert_eq!(shown(put), "a = hex:ff  (machine)");
        let delete = r#"{"type":"delete","machine":"0123456789ab","key":"","author":"manager","timestamp":1}"#;
        assert_eq!(shown(delete), "0123456789  hex: is deleted  (manager)");
        assert_eq!(shown(r#"{"type":"ended","reason":"shut_down"}"#), "-- ended: shut down");
    }

    #[test]
    fn of_a_write_with_an_id_it_is_not_said_what_is_there_now() {
        let entry: KvLine =
            serde_json::from_str(r#"{"key":"a","value":"1","author":"manager","timestamp":1}"#).unwrap();
        assert_eq!(written_line(&entry, false), "a = 1  (manager)");
        assert_eq!(written_line(&entry, true), "with this id: a = 1  (manager)");
        assert_eq!(deleted_line("a", &Deleted { deleted: true }, false), "a is deleted");
        assert_eq!(deleted_line("a", &Deleted { deleted: true }, true), "with this id: a was deleted");
    }

    #[test]
    fn with_hex_keys_are_hexadecimal_or_wrong_usage() {
        assert_eq!(written("ff".as_ref(), true).unwrap(), Hex(vec![255]));
        assert_eq!(written("ff".as_ref(), false).unwrap(), Hex(b"ff".to_vec()));
        assert!(matches!(written("f".as_ref(), true), Err(ToolError::Usage(_))));
        let no_text = OsStr::from_bytes(b"\xff");
        assert_eq!(written(no_text, false).unwrap(), Hex(vec![255]), "bytes as they are");
        assert!(matches!(written(no_text, true), Err(ToolError::Usage(_))));
        assert_eq!(
            (shown_key(no_text, false).unwrap(), shown_key("a".as_ref(), false).unwrap()),
            ("hex:ff".into(), "a".into())
        );
        assert_eq!(shown_key("61".as_ref(), true).unwrap(), "hex:61");
        assert_eq!(prefix(None, true).unwrap(), Hex::default());
        assert_eq!(prefix(Some("00".as_ref()), true).unwrap(), Hex(vec![0]));
    }
}
