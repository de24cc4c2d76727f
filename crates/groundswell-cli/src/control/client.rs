//! The command's side of the control protocol.

use std::{io, path::Path};

use tokio::{
    io::{AsyncWriteExt, BufWriter},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::protocol::{DONE, FAILURE_BEGINS, Failure, Request};
use crate::{data_dir, error::ToolError, lines::Lines};

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
    let no_node = || ToolError::NoNode { dir: dir.to_owned() };
    let failed = |source: io::Error| match source.kind() {
        // No directory, no socket, or the socket of a process that died.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => no_node(),
        _ => ToolError::Connect { dir: dir.to_owned(), source },
    };
    let socket = data_dir::socket_path(dir).map_err(failed)?;
    let stream = UnixStream::connect(socket).await.map_err(failed)?;
    // The socket may be in a directory that others can write to: no secret goes to another user.
    let peer = stream.peer_cred().map_err(failed)?.uid();
    if peer != data_dir::own_uid().map_err(failed)? && peer != 0 {
        return Err(no_node());
    }
    Ok(stream)
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
