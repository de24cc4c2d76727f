//! The command's side of the control protocol.

use std::{io, path::Path, time::Duration};

use tokio::{
    io::{AsyncWriteExt, BufWriter},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::Instant,
};

use super::protocol::{DONE, FAILURE_BEGINS, Failure, Request};
use crate::{
    data_dir::{self, Socket},
    error::ToolError,
    lines::Lines,
};

/// How long a node that holds its directory may take to listen (3 s): it is starting, or its socket was removed and it
/// makes another.
const SOCKET_PATIENCE: Duration = Duration::from_secs(3);

/// How soon it is tried again (50 ms).
const CONNECT_AGAIN: Duration = Duration::from_millis(50);

/// The answers to one request.
pub(crate) struct Answers {
    lines: Lines<OwnedReadHalf>,
    /// Whether the request changes something: then nobody knows what became of it where the answer does not come.
    writes: bool,
}

/// What an answer line is.
pub(crate) enum Answer<'a> {
    /// A line for standard output.
    Line(&'a [u8]),
    /// The answer is complete.
    Done,
    /// Something went wrong.
    Failed(Failure),
}

/// The way in which more follows a request. Closing it says that this was all.
pub(crate) type Sender = BufWriter<OwnedWriteHalf>;

/// Asks the node of a data directory. The sender has to be kept for as long as answers are wanted.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<(Sender, Answers), ToolError> {
    let stream = connect(dir).await?;
    let (reader, writer) = stream.into_split();
    let mut sender = BufWriter::new(writer);
    let mut line = serde_json::to_vec(request).map_err(|error| ToolError::Answer(error.to_string()))?;
    line.push(b'\n');
    let sent = async {
        sender.write_all(&line).await?;
        sender.flush().await
    };
    // A node that refuses has said why before it closed: that is read, not that it closed.
    let _: io::Result<()> = sent.await;
    Ok((sender, Answers { lines: Lines::of_socket(reader), writes: request.writes() }))
}

async fn connect(dir: &Path) -> Result<UnixStream, ToolError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ToolError::NoNode { dir: dir.to_owned() },
        _ => ToolError::Connect { dir: dir.to_owned(), source },
    };
    let socket = Socket::of(dir).map_err(failed)?;
    let deadline = Instant::now() + SOCKET_PATIENCE;
    let stream = loop {
        let address = socket.address().map_err(failed)?;
        let error = match UnixStream::connect(address.path()).await {
            Ok(stream) => break stream,
            Err(error) => error,
        };
        // No socket, or that of a process that died.
        if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            return Err(failed(error));
        }
        match data_dir::holder(dir) {
            None => return Err(ToolError::NoNode { dir: dir.to_owned() }),
            Some(holder) if Instant::now() >= deadline => {
                return Err(ToolError::TakesNoCommands { dir: dir.to_owned(), holder });
            }
            Some(_) => tokio::time::sleep(CONNECT_AGAIN).await,
        }
    };
    // A directory may be such that others can write to it: no secret goes to another user than its own.
    let peer = stream.peer_cred().map_err(failed)?.uid();
    let (own, owner) = (data_dir::own_uid().map_err(failed)?, socket.owner().map_err(failed)?);
    match peer {
        _ if [own, owner, 0].contains(&peer) => Ok(stream),
        _ => Err(ToolError::ForeignSocket { dir: dir.to_owned(), user: peer }),
    }
}

impl Answers {
    /// The next answer.
    pub(crate) async fn next(&mut self) -> Result<Answer<'_>, ToolError> {
        // The node is trusted, and its rocks are as large as they are.
        match self.lines.next(usize::MAX).await {
            Ok(Some(DONE)) => Ok(Answer::Done),
            Ok(Some(line)) if line.starts_with(FAILURE_BEGINS) => {
                let failure = serde_json::from_slice(line).map_err(|error| ToolError::Answer(error.to_string()))?;
                Ok(Answer::Failed(failure))
            }
            Ok(Some(line)) => Ok(Answer::Line(line)),
            Ok(None) | Err(_) => Err(if self.writes { ToolError::LostInWrite } else { ToolError::Lost }),
        }
    }

    /// The next line, or `None` at the end; a failure is an error.
    pub(crate) async fn next_line(&mut self) -> Result<Option<&[u8]>, ToolError> {
        match self.next().await? {
            Answer::Line(line) => Ok(Some(line)),
            Answer::Done => Ok(None),
            Answer::Failed(failure) => Err(failure.into_error()),
        }
    }

    /// Whether another line is here already.
    pub(crate) fn has_next(&self) -> bool {
        self.lines.has_next()
    }
}
