//! One command's conversation with the node.

use std::{io, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, BufWriter},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    give, kv, pairing,
    protocol::{
        Condition, DONE, Dashboard, Failure, Given, HasQuit, IsKilled, IsWiped, MAX_REQUEST_BYTES, MetricLine, Outcome,
        PathAccess, PathRule, Readers, Request,
    },
    read, surf, watch,
};
use crate::{
    builtin::for_lake,
    error::ToolError,
    lines::{LineError, Lines},
    registry::Registry,
    store::Store,
    web::Web,
};

/// How much of an answer is gathered before it is sent (64 KiB).
const ANSWER_BUFFER_BYTES: usize = 64 * 1024;

/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A client, and what it talks to.
pub(crate) struct Session {
    pub(super) lines: Lines<OwnedReadHalf>,
    pub(super) answers: Answering,
    pub(super) registry: Arc<Registry>,
    /// The HTTP interface, if there is one.
    pub(super) web: Option<Arc<Web>>,
    /// Set when the node is about to stop.
    pub(super) closing: CancellationToken,
    /// Whose program asks, by the number of the account.
    account: Option<u32>,
}

/// The way to the client. Who writes here waits for the client to read.
pub(super) struct Answering(BufWriter<OwnedWriteHalf>);

/// Why a request came to no good end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    /// The client is told.
    #[error("{error}")]
    Failed { error: ToolError, wave: Option<u64> },
    /// There is no one to be told.
    #[error("its connection broke: {0}")]
    Gone(#[from] io::Error),
}

impl<E: Into<ToolError>> From<E> for Ending {
    fn from(error: E) -> Self {
        Self::Failed { error: error.into(), wave: None }
    }
}

impl Answering {
    pub(super) async fn line(&mut self, line: &impl Serialize) -> Result<(), Ending> {
        let mut line = serde_json::to_vec(line).map_err(|error| ToolError::Answer(error.to_string()))?;
        line.push(b'\n');
        Ok(self.0.write_all(&line).await?)
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.0.flush().await
    }
}

impl Session {
    pub(super) fn new(
        stream: UnixStream,
        registry: Arc<Registry>,
        web: Option<Arc<Web>>,
        closing: CancellationToken,
    ) -> Self {
        let account = stream.peer_cred().ok().map(|peer| peer.uid());
        let (reader, writer) = stream.into_split();
        let answers = Answering(BufWriter::with_capacity(ANSWER_BUFFER_BYTES, writer));
        Self { lines: Lines::of_socket(reader), answers, registry, web, closing, account }
    }

    /// Reads the request and answers it.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let last = match self.answer().await {
            Ok(()) => DONE.to_vec(),
            Err(Ending::Gone(error)) => return Err(error),
            Err(Ending::Failed { error, wave }) => {
                let outcome = error.is_unknown().then_some(Outcome::Unknown);
                serde_json::to_vec(&Failure { error: error.to_string(), wave, outcome })?
            }
        };
        self.answers.0.write_all(&last).await?;
        self.answers.0.write_all(b"\n").await?;
        self.answers.0.flush().await
    }

    async fn answer(&mut self) -> Result<(), Ending> {
        let refused = |reason: &dyn std::fmt::Display| ToolError::Request(reason.to_string());
        let line = match timeout(REQUEST_TIMEOUT, self.lines.next(MAX_REQUEST_BYTES)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Ok(None)) => return Err(Ending::Gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(Err(LineError::Io(error))) => return Err(Ending::Gone(error)),
            Ok(Err(error @ LineError::TooLong(_))) => return Err(refused(&error).into()),
            Err(_) => return Err(refused(&"it did not come").into()),
        };
        let request = serde_json::from_slice(line).map_err(|error| refused(&error))?;
        match request {
            Request::Give { path, lake, agent, id: None } => {
                for_lake!(lake, L => give::give::<L>(self, &agent, &path).await)
            }
            Request::Give { path, lake, agent, id: Some(id) } => {
                for_lake!(lake, L => give::give_once::<L>(self, &agent, &path, &id).await)
            }
            Request::Open { path, lake, agent } => {
                for_lake!(lake, L => {
                    let publications = self.registry.publications::<L>(&agent, &path).await?;
                    let aeon = publications.open(path.as_str()).await?;
                    self.answers.line(&Given { aeon: aeon.0 }).await
                })
            }
            Request::Surf { peer, path, lake, agent, rocks, from, no_wait } => {
                let source = self.registry.source(&peer, agent, path).await?;
                for_lake!(lake, L => surf::surf::<L>(self, source, rocks, from.as_deref(), no_wait).await)
            }
            Request::Quit { peer, path, agent } => {
                let source = self.registry.source(&peer, agent, path).await?;
                self.registry.quit(&source).await?;
                self.answers.line(&HasQuit { quit: true }).await
            }
            Request::Read { paths, source } => read::read(self, paths, source.as_deref()).await,
            Request::Access { path, agent, change } => {
                let access = self.registry.access(&agent, &path, change).await?;
                self.answers.line(&PathAccess { path: path.to_string(), access: Readers::from(&access) }).await
            }
            Request::Rule { path, agent, source, frequency, horizon } => {
                let tide = self.registry.tide(&path, agent, source.as_deref())?;
                let rule = self.registry.rule(&tide, frequency, horizon).await?;
                self.answers.line(&PathRule::new(&path, rule)).await
            }
            Request::Wipe { path, agent, source } => {
                let tide = self.registry.tide(&path, agent, source.as_deref())?;
                self.registry.wipe(&tide).await?;
                self.answers.line(&IsWiped { wiped: true }).await
            }
            Request::Kill { path, agent } => {
                self.registry.kill(&agent, &path).await?;
                self.answers.line(&IsKilled { killed: true }).await
            }
            Request::Fork { from, to, agent } => {
                let aeon = self.registry.fork(&agent, &from, &to).await?;
                self.answers.line(&Given { aeon: aeon.0 }).await
            }
            Request::Copy { peer, from, agent, to, publisher } => {
                let source = self.registry.source(&peer, agent, from).await?;
                let aeon = self.registry.copy(&source, &publisher, &to).await?;
                self.answers.line(&Given { aeon: aeon.0 }).await
            }
            Request::Claim { ticket } => pairing::claim(self, &ticket).await,
            Request::Claims { ticket, next } => pairing::claims(self, ticket, next).await,
            Request::Machines => {
                let registry = self.registry.clone();
                for pair in Store::machines(registry.store().manager("`machines`")?) {
                    self.answers.line(&pair).await?;
                }
                Ok(())
            }
            Request::Release { machine, wipe } => {
                let released = self.registry.store().release(machine.as_deref(), wipe).await?;
                self.answers.line(&released).await
            }
            Request::Kv { place, ask } => kv::kv(self, place, ask).await,
            Request::Watch { place, prefix } => watch::watch(self, place, &prefix).await,
            Request::Dashboard { own } => {
                let web = self.web.as_ref().ok_or(ToolError::NoHttp)?;
                let opened = Dashboard { http: web.address(), link: web.link(self.account.filter(|_| own)) };
                self.answers.line(&opened).await
            }
            Request::Status => {
                let status = self.registry.status();
                self.answers.line(&status).await
            }
            Request::Metrics => {
                for row in self.registry.metrics().rows() {
                    self.answers.line(&MetricLine::from(row)).await?;
                }
                Ok(())
            }
            Request::Doctor => {
                let (started, standing_still) = (self.registry.started(), self.registry.standing_still());
                let condition = Condition { status: self.registry.status(), started, standing_still };
                self.answers.line(&condition).await
            }
        }
    }
}
