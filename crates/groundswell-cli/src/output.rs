//! What a command says: its lines on standard output, its error on standard error.

use std::os::fd::AsFd;

use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, BufWriter, Interest, Stdout},
    net::unix::pipe,
};

use crate::{
    control::protocol::{Failure, Outcome},
    error::ToolError,
};

/// How much output is gathered before it is written (64 KiB).
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// Standard output, as lines for people or as JSON objects. What is written is seen after
/// [`Output::flush`], so that a command which says much says it in large pieces.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, out: BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, tokio::io::stdout()) }
    }

    /// Whether only JSON objects may be written.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes one line. It waits for who reads the output, for as long as they take.
    pub(crate) async fn line(&mut self, line: impl AsRef<[u8]>) -> Result<(), ToolError> {
        self.out.write_all(line.as_ref()).await.map_err(ToolError::Output)?;
        self.out.write_all(b"\n").await.map_err(ToolError::Output)
    }

    /// Writes a piece of text as it is.
    pub(crate) async fn text(&mut self, text: &str) -> Result<(), ToolError> {
        self.out.write_all(text.as_bytes()).await.map_err(ToolError::Output)
    }

    /// Writes one JSON object.
    pub(crate) async fn object(&mut self, value: &impl Serialize) -> Result<(), ToolError> {
        let line = serde_json::to_vec(value).map_err(|error| ToolError::Answer(error.to_string()))?;
        self.line(line).await
    }

    /// Makes what was written visible.
    pub(crate) async fn flush(&mut self) -> Result<(), ToolError> {
        self.out.flush().await.map_err(ToolError::Output)
    }
}

/// Who reads our output, so that a command that has nothing to say notices that they have gone.
pub(crate) struct OutputReader(Option<pipe::Sender>);

impl OutputReader {
    /// Watches the reader of standard output, where it can be watched: that of a pipe can, on Linux.
    /// Elsewhere it is noticed at the next line.
    pub(crate) fn watch() -> Self {
        // Nothing is written here, so that it does not matter that writing may block.
        let watched = std::io::stdout().as_fd().try_clone_to_owned();
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

/// Says an error, in one line.
pub(crate) fn say_error(json: bool, error: &ToolError) {
    let line = one_line(&error.to_string());
    if json {
        let outcome = error.is_unknown().then_some(Outcome::Unknown);
        let failure = Failure { error: line, wave: None, outcome };
        eprintln!("{}", serde_json::json!(failure));
    } else {
        eprintln!("error: {line}");
    }
}

/// Says what went wrong on the side, and does not end the command.
pub(crate) fn say_warning(json: bool, what: &str) {
    let line = one_line(what);
    if json {
        eprintln!("{}", serde_json::json!({ "warning": line }));
    } else {
        eprintln!("warning: {line}");
    }
}

/// What others say may have several lines; what the tool says has one.
fn one_line(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A text cut to so many characters, with a sign that it was.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_one_line() {
        assert_eq!(one_line("a\n  b\r\n\nc"), "a b c");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("grün", 4), "grün");
        assert_eq!(shorten("grüner", 3), "grü…");
    }
}
