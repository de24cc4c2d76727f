//! The bytes of a connection: how long it may stand still, how it ends, and what it says to what is not HTTP.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, HttpBody},
    response::Response,
};
use bytes::{Buf, Bytes};
use hyper::{
    body::{Frame, SizeHint},
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};

use crate::{
    limits::{LINGER_BYTES, LINGER_PAUSE, LINGER_TIMEOUT, STALLED_TIMEOUT},
    problem::{Kind, Problem},
};

/// Whether a request is being answered: from its arrival until its answer has been written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answering {
    /// From the arrival until the answer is flushed.
    now: Arc<AtomicBool>,
    /// The whole answer has been handed over; it is written with the next flush.
    whole: Arc<AtomicBool>,
}

impl Answering {
    /// A request has come.
    pub(crate) fn begin(&self) {
        self.whole.store(false, Ordering::Relaxed);
        self.now.store(true, Ordering::Relaxed);
    }

    /// Its answer, watched until it has been handed over.
    pub(crate) fn watch(&self, answer: Response) -> Response {
        answer.map(|body| Body::new(Watched { body, whole: self.whole.clone() }))
    }
}

/// A body that says when nothing more of it is wanted.
struct Watched {
    body: Body,
    whole: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.whole.store(true, Ordering::Relaxed);
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that counts as dead when it takes nothing for [`STALLED_TIMEOUT`].
pub(crate) struct Connection {
    io: TokioIo<TcpStream>,
    /// Since it took nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    answering: Answering,
    /// What is left to be written in place of what hyper says.
    instead: Option<Bytes>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, answering: Answering) -> Self {
        Self { io: TokioIo::new(stream), stalled: None, answering, instead: None }
    }

    /// What came of an attempt to write.
    fn watch<T>(&mut self, context: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            self.stalled = None;
            return tried;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALLED_TIMEOUT)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Writes a problem document in place of the empty answer that hyper gives to what is not HTTP. No request is being
    /// answered then, so these are no bytes of ours. `None`: write them.
    fn write_instead(&mut self, context: &mut Context<'_>, said: &[&[u8]]) -> Option<Poll<io::Result<usize>>> {
        if self.instead.is_none() {
            if self.answering.now.load(Ordering::Relaxed) {
                return None;
            }
            self.instead = Some(problem_for(&said.concat())?);
        }
        let taken = said.iter().map(|part| part.len()).sum();
        while let Some(left) = self.instead.as_mut().filter(|left| left.has_remaining()) {
            let tried = Pin::new(&mut self.io).poll_write(context, left);
            match self.watch(context, tried) {
                Poll::Ready(Ok(written)) => {
                    if let Some(left) = &mut self.instead {
                        left.advance(written.min(left.remaining()));
                    }
                }
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(error))),
                Poll::Pending => return Some(Poll::Pending),
            }
        }
        self.instead = None;
        Some(Poll::Ready(Ok(taken)))
    }

    /// Reads on for a while after the last answer. A socket that is closed with unread bytes resets the connection, and
    /// who is still sending them would not get to read the answer.
    pub(crate) async fn linger(self) {
        let mut stream = self.io.into_inner();
        let reading = async {
            // The other side may be gone.
            if stream.shutdown().await.is_err() {
                return;
            }
            let (mut left, mut buffer) = (LINGER_BYTES, vec![0; 16 * 1024]);
            while left > 0 {
                match timeout(LINGER_PAUSE, stream.read(&mut buffer)).await {
                    Ok(Ok(read)) if read > 0 => left = left.saturating_sub(read),
                    _ => return,
                }
            }
        };
        // Whoever is not through by then has had its time.
        let _ = timeout(LINGER_TIMEOUT, reading).await;
    }
}

/// The problem for an answer without a body by which hyper refuses what is not HTTP, or too large a head.
fn problem_for(said: &[u8]) -> Option<Bytes> {
    let status = said.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let problem = match status {
        b"400" => Problem::bad(
            "this is not HTTP/1.1: send a method, an address whose characters beyond letters, digits and -._~!$&'()*+,;=:@/? are percent-encoded, and headers of a name and a value",
        ),
        b"414" => Problem::new(Kind::AddressTooLong, "the address is longer than 64 KiB: say less in its query"),
        b"431" => Problem::new(Kind::HeadTooLarge, "the head of the request has more than 64 lines, or than 64 KiB"),
        _ => return None,
    };
    let (status, body) = (problem.kind.status(), problem.document());
    let length = body.len();
    Some(
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/problem+json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .into(),
    )
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(written) = self.write_instead(context, &[bytes]) {
            return written;
        }
        let tried = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch(context, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let parts: Vec<&[u8]> = bytes.iter().map(|part| &**part).collect();
        if let Some(written) = self.write_instead(context, &parts) {
            return written;
        }
        let tried = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.watch(context, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        if self.answering.whole.swap(false, Ordering::Relaxed) {
            self.answering.now.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_refuses_a_head_is_replaced() {
        for (said, word) in [
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "bad-request"),
            ("HTTP/1.1 414 URI Too Long\r\ncontent-length: 0\r\n\r\n", "address-too-long"),
            ("HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n", "head-too-large"),
        ] {
            let problem = String::from_utf8(problem_for(said.as_bytes()).unwrap().to_vec()).unwrap();
            let (head, body) = problem.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(said.split_once("\r\n").unwrap().0), "{head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
            assert!(body.contains(&format!("urn:groundswell:problem:{word}\"")), "{body}");
        }
        for other in ["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 4", "400"] {
            assert!(problem_for(other.as_bytes()).is_none(), "{other}");
        }
    }
}
