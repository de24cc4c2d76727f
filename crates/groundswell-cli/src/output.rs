//! What a command says: its lines on standard output, its error on standard error. Nothing else writes to standard output.

use std::{
    borrow::Cow,
    io::{self, IsTerminal},
    os::fd::AsFd,
};

use groundswell::visible;
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, BufWriter, Interest, Stdout},
    net::unix::pipe,
};

use crate::{
    control::protocol::{Failure, Outcome},
    error::ToolError,
    log,
    stop::Stop,
};

/// How much output is gathered before it is written (64 KiB).
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// Standard output, as lines for people or as JSON objects. What is written is seen after
/// [`Output::flush`], so that a command which says much says it in large pieces.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
    /// Ends what waits for who reads, where the command itself does not.
    stop: Option<Stop>,
    /// Whether the command goes on after an output error.
    goes_on: bool,
    /// The first output error since then.
    unwritten: Option<io::Error>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, tokio::io::stdout());
        Self { json, out, stop: None, goes_on: false, unwritten: None }
    }

    /// From now on nothing that is written waits longer than a second after it was asked to stop.
    pub(crate) fn until(&mut self, stop: Stop) {
        self.stop = Some(stop);
    }

    /// From now on an output error does not end the command: it makes a change, and its exit status tells the outcome of that.
    pub(crate) fn goes_on(&mut self) {
        self.goes_on = true;
    }

    /// Ends a command that succeeded. Returns its first output error as [`ToolError::Unprinted`].
    pub(crate) fn end(self) -> Result<(), ToolError> {
        self.unwritten.map_or(Ok(()), |error| Err(ToolError::Unprinted(error)))
    }

    /// Whether only JSON objects may be written.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes one line for people: whatever is in it stays one line, and nothing of it acts on the terminal. It waits for
    /// who reads the output, for as long as they take.
    pub(crate) async fn line(&mut self, line: impl AsRef<str>) -> Result<(), ToolError> {
        self.exact(visible(line.as_ref()).as_bytes()).await?;
        self.exact(b"\n").await
    }

    /// Writes lines for people.
    pub(crate) async fn lines(&mut self, lines: impl IntoIterator<Item: AsRef<str>>) -> Result<(), ToolError> {
        for line in lines {
            self.line(line).await?;
        }
        Ok(())
    }

    /// Writes one line of JSON, as the node has sent it: what is in it is exact.
    pub(crate) async fn json(&mut self, line: &[u8]) -> Result<(), ToolError> {
        self.exact(line).await?;
        self.exact(b"\n").await
    }

    /// Writes bytes as they are: a value that is asked for as such, or what this program itself has drawn.
    pub(crate) async fn exact(&mut self, bytes: &[u8]) -> Result<(), ToolError> {
        let written = unless_stopped(&mut self.stop, self.out.write_all(bytes)).await;
        self.note(written)
    }

    /// Writes one JSON object.
    pub(crate) async fn object(&mut self, value: &impl Serialize) -> Result<(), ToolError> {
        let line = serde_json::to_vec(value).map_err(|error| ToolError::Answer(error.to_string()))?;
        self.json(&line).await
    }

    /// Makes what was written visible.
    pub(crate) async fn flush(&mut self) -> Result<(), ToolError> {
        let written = unless_stopped(&mut self.stop, self.out.flush()).await;
        self.note(written)
    }

    fn note(&mut self, written: io::Result<()>) -> Result<(), ToolError> {
        match written {
            Err(error) if self.goes_on => drop(self.unwritten.get_or_insert(error)),
            written => written.map_err(ToolError::Output)?,
        }
        Ok(())
    }
}

async fn unless_stopped(stop: &mut Option<Stop>, work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    match stop {
        Some(stop) => stop.unless(work).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())),
        None => work.await,
    }
}

/// Who reads our output, so that a command that has nothing to say notices that they have gone.
pub(crate) struct OutputReader(Option<pipe::Sender>);

impl OutputReader {
    /// Watches the reader of standard output, where it can be watched: that of a pipe can, on Linux.
    /// Elsewhere it is noticed at the next line.
    pub(crate) fn watch() -> Self {
        // Nothing is written here, so that it does not matter that writing may block.
        let watched = io::stdout().as_fd().try_clone_to_owned();
        Self(watched.and_then(pipe::Sender::from_owned_fd_unchecked).ok())
    }

    /// Waits until no one reads any more.
    pub(crate) async fn gone(&mut self) {
        if let Some(out) = &self.0
            && out.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Whether standard output is a terminal, so that a person is there.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says an error, in one line, and in JSON whether what was asked for may have been done.
pub(crate) fn say_error(json: bool, error: &str, outcome: Option<Outcome>) {
    if json {
        log::object(&Failure { error: log::seen(error), wave: None, outcome });
    } else {
        log::line(&format!("error: {error}"));
    }
}

/// Says what went wrong on the side, and does not end the command.
pub(crate) fn say_warning(json: bool, what: &str) {
    if json {
        log::object(&serde_json::json!({ "warning": log::seen(what) }));
    } else {
        log::line(&format!("warning: {what}"));
    }
}

/// A text cut to so many characters, with a sign that it was.
pub(crate) fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("grün", 4), "grün");
        assert_eq!(shorten("grüner", 3), "grü…");
    }
}
