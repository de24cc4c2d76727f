//! Lines from a socket or from standard input, none longer than it may be.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// How much is read ahead (64 KiB).
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A reader of lines.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    /// Whether the line was returned, and the next one begins.
    returned: bool,
    /// Whether what comes after the last line's end is a line too.
    last_needs_no_end: bool,
}

/// Why there is no next line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LineError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it has more than {0} bytes")]
    TooLong(usize),
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of a socket: what comes after the last line's end was cut off, and is no line.
    pub(crate) fn of_socket(reader: R) -> Self {
        Self::new(reader, false)
    }

    /// Lines of a text: the last one need not end.
    pub(crate) fn of_text(reader: R) -> Self {
        Self::new(reader, true)
    }

    fn new(reader: R, last_needs_no_end: bool) -> Self {
        let reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
        Self { reader, line: Vec::new(), returned: false, last_needs_no_end }
    }

    /// The next line, without its end; `None` when there is no more. Cancel safe.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Option<&[u8]>, LineError> {
        if std::mem::take(&mut self.returned) {
            self.line.clear();
        }
        loop {
            let here = self.reader.fill_buf().await?;
            if here.is_empty() {
                let is_line = self.last_needs_no_end && !self.line.is_empty();
                self.returned = true;
                return Ok(is_line.then_some(&self.line));
            }
            let end = here.iter().position(|byte| *byte == b'\n');
            let piece = &here[..end.unwrap_or(here.len())];
            if self.line.len() + piece.len() > most {
                return Err(LineError::TooLong(most));
            }
            self.line.extend_from_slice(piece);
            let used = end.map_or(piece.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                self.returned = true;
                return Ok(Some(&self.line));
            }
        }
    }

    /// Whether the next line is here already.
    pub(crate) fn has_next(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// Waits until the other side closes its sending half, or sends what no one asked for.
    pub(crate) async fn gone(&mut self) {
        // Whatever it is, there is nothing more to be said to it.
        let _ = self.reader.fill_buf().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn all(mut lines: Lines<&[u8]>) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(line) = lines.next(8).await.unwrap() {
            all.push(String::from_utf8(line.to_vec()).unwrap());
        }
        all
    }

    #[tokio::test]
    async fn a_line_that_was_cut_off_counts_only_in_a_text() {
        assert_eq!(all(Lines::of_socket(b"a\n\nb\nc".as_slice())).await, ["a", "", "b"]);
        assert_eq!(all(Lines::of_text(b"a\n\nb\nc".as_slice())).await, ["a", "", "b", "c"]);
        assert_eq!(all(Lines::of_text(b"a\n".as_slice())).await, ["a"]);
    }

    #[tokio::test]
    async fn a_line_that_was_begun_to_be_read_is_not_lost() {
        let (mut from, to) = tokio::io::duplex(64);
        let mut lines = Lines::of_socket(to);
        from.write_all(b"half").await.unwrap();
        tokio::select! {
            biased;
            _ = lines.next(64) => panic!("there is no line"),
            () = std::future::ready(()) => {}
        }
        from.write_all(b" and half\nnext\n").await.unwrap();
        assert_eq!(lines.next(64).await.unwrap(), Some(b"half and half".as_slice()));
        assert_eq!(lines.next(64).await.unwrap(), Some(b"next".as_slice()));
    }

    #[tokio::test]
    async fn a_line_has_as_many_bytes_as_it_may_and_no_more() {
        let text = b"12345678\n123456789\n".as_slice();
        let mut lines = Lines::of_socket(text);
        assert_eq!(lines.next(8).await.unwrap(), Some(b"12345678".as_slice()));
        assert!(lines.has_next());
        assert!(matches!(lines.next(8).await, Err(LineError::TooLong(8))));
    }
}
