//! Frames on a QUIC stream: reading them without copying more than once, and never more than
//! a peer may send.

use futures_util::FutureExt;
use groundswell_core::wire::{FRAME_HEADER_BYTES, FrameError, frame_length_within};
use iroh::endpoint::{ReadError, RecvStream};

use crate::network::CloseCode;

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
    /// The peer announced a frame that is not allowed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl ReadFrameError {
    /// The reason for which the peer has ended the stream, where it has chosen one.
    pub(crate) fn code(&self) -> Option<CloseCode> {
        if let Self::Stream(ReadError::Reset(code)) = self { CloseCode::of(*code) } else { None }
    }
}

/// Reads frames from a stream.
pub(crate) struct FrameReader {
    stream: RecvStream,
    buffer: Vec<u8>,
    start: usize,
    max: usize,
    /// What came after the bytes that were read last.
    failed: Option<Box<ReadError>>,
}

impl FrameReader {
    /// Reads frames whose bodies have at most so many bytes.
    pub(crate) fn new(stream: RecvStream, max: usize) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, max, failed: None }
    }

    /// From here on the bodies of frames may have so many bytes.
    pub(crate) fn allow(&mut self, max: usize) {
        self.max = max;
    }

    /// Asks the other side to send nothing more, for this reason.
    pub(crate) fn stop(&mut self, why: CloseCode) {
        // It may have ended already.
        let _ = self.stream.stop(why.code());
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

    /// Reads more from the stream, what is there already, and waits where nothing is; how many bytes came. Dropping this
    /// loses nothing.
    pub(crate) async fn fill(&mut self) -> Result<usize, ReadFrameError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let cut = !self.buffer.is_empty();
        if !cut {
            // An idle stream keeps nothing of what a burst needed.
            self.buffer = Vec::new();
        }
        if let Some(failed) = self.failed.take() {
            return Err(ReadFrameError::Stream(*failed));
        }
        let most = READ_BYTES.min(self.max);
        let Some(bytes) = self.stream.read_chunk(most).await? else {
            return Err(if cut { ReadFrameError::Cut } else { ReadFrameError::Ended });
        };
        let mut came = bytes.len();
        self.buffer.extend_from_slice(&bytes);
        // A chunk is what one packet brought. Who makes them durable does so with all that have come.
        while came < most {
            match self.stream.read_chunk(most - came).now_or_never() {
                Some(Ok(Some(bytes))) => {
                    came += bytes.len();
                    self.buffer.extend_from_slice(&bytes);
                }
                Some(Err(error)) => {
                    self.failed = Some(Box::new(error));
                    break;
                }
                // The end is told again.
                Some(Ok(None)) | None => break,
            }
        }
        Ok(came)
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

#[cfg(test)]
mod tests {
    use groundswell_core::limits::MAX_FRAME_BYTES;
    use iroh::{
        Endpoint,
        endpoint::{Builder, presets},
    };

    use super::*;
    use crate::network::own_address;

    const ALPN: &[u8] = b"frames";

    async fn endpoint() -> Endpoint {
        let loopback = "127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap();
        let builder = Builder::new(presets::Minimal).alpns(vec![ALPN.to_vec()]).clear_ip_transports();
        builder.bind_addr(loopback).unwrap().bind().await.unwrap()
    }

    /// What one packet brings is little: who is behind takes all that has come at once.
    #[tokio::test]
    async fn all_that_has_come_is_read_together_and_then_what_ended_it() {
        const FRAMES: usize = 300;
        const BYTES: usize = 100;
        let (here, there) = (endpoint().await, endpoint().await);
        let (to, from) = tokio::join!(here.connect(own_address(&there), ALPN), async {
            there.accept().await.unwrap().accept().unwrap().await.unwrap()
        });
        let (to, body) = (to.unwrap(), |number: usize| [u8::try_from(number % 256).unwrap(); BYTES]);
        let frame = |number| [&u32::try_from(BYTES).unwrap().to_le_bytes()[..], &body(number)].concat();
        let frames: Vec<u8> = (0..FRAMES).flat_map(frame).collect();
        let mut send = to.open_uni().await.unwrap();
        send.write_all(&frames).await.unwrap();
        send.finish().unwrap();
        // The other side has all of it.
        assert_eq!(send.stopped().await.unwrap(), None);
        let mut reader = FrameReader::new(from.accept_uni().await.unwrap(), MAX_FRAME_BYTES);
        assert_eq!(reader.fill().await.unwrap(), frames.len());
        for number in 0..FRAMES {
            assert_eq!(reader.buffered().unwrap().unwrap(), body(number));
        }
        assert!(reader.buffered().unwrap().is_none());
        assert!(matches!(reader.fill().await, Err(ReadFrameError::Ended)));
        assert_eq!(reader.buffer.capacity(), 0, "an idle stream keeps nothing");
        // What breaks a stream is told as what it was.
        let mut send = to.open_uni().await.unwrap();
        send.write_all(&frame(7)).await.unwrap();
        let mut reader = FrameReader::new(from.accept_uni().await.unwrap(), MAX_FRAME_BYTES);
        reader.fill().await.unwrap();
        send.reset(9_u32.into()).unwrap();
        let broken = reader.fill().await.unwrap_err();
        assert!(matches!(broken, ReadFrameError::Stream(ReadError::Reset(code)) if code == 9_u32.into()), "{broken}");
        tokio::join!(here.close(), there.close());
    }
}
