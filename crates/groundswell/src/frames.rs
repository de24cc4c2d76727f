//! Frames on a QUIC stream: reading them without copying more than once, and never more than
//! a peer may send.

use groundswell_core::wire::{FRAME_HEADER_BYTES, FrameError, frame_length_within};
use iroh::endpoint::{ReadError, RecvStream};

/// How much is read from a stream at once.
const READ_BYTES: usize = 64 * 1024;

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFrameError {
    /// The connection or the stream broke.
    #[error(transparent)]
    Stream(#[from] ReadError),
    /// The peer ended the stream.
    #[error("the stream ended")]
    Ended,
    /// The peer ended the stream within a frame.
    #[error("the stream ended within a frame")]
    Cut,
    /// The peer announced a frame that may not be.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads frames from a stream.
pub(crate) struct FrameReader {
    stream: RecvStream,
    buffer: Vec<u8>,
    start: usize,
    max: usize,
}

impl FrameReader {
    /// Reads frames whose bodies have at most so many bytes.
    pub(crate) fn new(stream: RecvStream, max: usize) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, max }
    }

    /// The body of the next frame, if all of it has been read already.
    pub(crate) fn buffered(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some((header, body)) = self.buffer[self.start..].split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = frame_length_within(self.max, *header)?;
        if body.len() < length {
            return Ok(None);
        }
        let body = self.start + FRAME_HEADER_BYTES;
        self.start = body + length;
        Ok(Some(&self.buffer[body..self.start]))
    }

    /// Reads more from the stream; how many bytes came. Dropping this loses nothing.
    pub(crate) async fn fill(&mut self) -> Result<usize, ReadFrameError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let cut = !self.buffer.is_empty();
        match self.stream.read_chunk(READ_BYTES.min(self.max)).await? {
            Some(bytes) => {
                self.buffer.extend_from_slice(&bytes);
                Ok(bytes.len())
            }
            None if cut => Err(ReadFrameError::Cut),
            None => Err(ReadFrameError::Ended),
        }
    }

    /// The body of the next frame.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, ReadFrameError> {
        loop {
            if let Some(body) = self.buffered()? {
                return Ok(body.to_vec());
            }
            self.fill().await?;
        }
    }

    /// The stream, after the one frame that it was read for; `None` where more has come.
    pub(crate) fn into_stream(self) -> Option<RecvStream> {
        (self.start == self.buffer.len()).then_some(self.stream)
    }
}
