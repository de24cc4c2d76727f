//! The server: connections with limits and time-outs, and their end in order.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::{Router, http::Request};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioTimer, service::TowerToHyperService};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app::{App, Counts, Refusal},
    caller::Ends,
    io::{Answering, Connection},
    limits::{BUFFER_BYTES, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HEADERS, MAX_STRANGERS, SHUTDOWN_DEADLINE},
};

/// How long accepting waits after the system had no file for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a listener is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It is not on loopback.
    #[error(
        "{0} is not an address of loopback, so that other computers could get in: listen on 127.0.0.1, or call Config::for_other_computers, which says what that means"
    )]
    NotLoopback(SocketAddr),
    /// It has no address.
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] io::Error),
}

/// Shutting down took longer than it may, and what was left was cut off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{connections} connections were cut off after {deadline} s", deadline = SHUTDOWN_DEADLINE.as_secs())]
pub struct ShutdownError {
    /// How many connections had not ended.
    pub connections: usize,
}

/// A listener that is served. Dropping it cuts all connections off.
#[derive(Debug)]
pub struct Server {
    app: App,
    addr: SocketAddr,
    /// Nothing more is accepted, and connections end after their answer.
    closing: CancellationToken,
    /// Connections end now.
    closed: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
        self.closed.cancel();
    }
}

impl App {
    /// Serves a listener, which has to be on loopback unless [`crate::Config::for_other_computers`] was called. It
    /// needs a tokio runtime, and goes on until [`Server::shutdown`].
    ///
    /// At most 768 connections are open, 128 of them without a valid request: at one more the oldest of those is closed.
    /// A connection has 10 s for the head of a request and 30 s for a body; one that takes nothing of what is sent to it is cut
    /// off after 120 s.
    pub fn serve(&self, listener: TcpListener) -> Result<Server, ServeError> {
        let addr = listener.local_addr()?;
        if !addr.ip().is_loopback() && !self.inner.for_other_computers {
            return Err(ServeError::NotLoopback(addr));
        }
        let (closing, closed, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let acceptor = Acceptor {
            router: self.router(),
            counts: self.inner.counts.clone(),
            strangers: Arc::default(),
            closing: closing.clone(),
            closed: closed.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.run(listener));
        tracing::info!(%addr, "the HTTP interface is up");
        Ok(Server { app: self.clone(), addr, closing, closed, tasks })
    }
}

impl Server {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new one-time link to the dashboard. It is valid for five minutes, once.
    pub fn open_link(&self) -> String {
        self.link(&self.app.new_code())
    }

    /// As [`Self::open_link`], for one account of this device alone: see [`App::new_code_for`].
    pub fn open_link_for(&self, account: u32) -> String {
        self.link(&self.app.new_code_for(account))
    }

    fn link(&self, code: &str) -> String {
        let ip = if self.addr.ip().is_unspecified() { "localhost".to_owned() } else { host_of(self.addr) };
        format!("http://{ip}:{}/open?code={code}", self.addr.port())
    }

    /// Shuts the server down within 5 seconds:
    ///
    /// 1. nothing more is accepted;
    /// 2. all streams of the application end, each with the event `ended`: shut the node down before, and they end with
    ///    what was committed;
    /// 3. connections end after the answer that they are at;
    /// 4. what is left then is cut off, which is an error.
    ///
    /// A second call returns at once. Dropping the future cuts nothing off but the order.
    pub async fn shutdown(&self) -> Result<(), ShutdownError> {
        let deadline = Instant::now() + SHUTDOWN_DEADLINE;
        self.closing.cancel();
        self.tasks.close();
        let ended = async {
            self.app.shutdown().await;
            self.tasks.wait().await;
        };
        if tokio::time::timeout_at(deadline, ended).await.is_ok() {
            return Ok(());
        }
        let connections = self.tasks.len();
        self.closed.cancel();
        if connections == 0 { Ok(()) } else { Err(ShutdownError { connections }) }
    }
}

fn host_of(addr: SocketAddr) -> String {
    match addr {
        SocketAddr::V4(addr) => addr.ip().to_string(),
        SocketAddr::V6(addr) => format!("[{}]", addr.ip()),
    }
}

/// Accepts connections.
struct Acceptor {
    router: Router,
    counts: Arc<Counts>,
    strangers: Arc<Mutex<Strangers>>,
    closing: CancellationToken,
    closed: CancellationToken,
    tasks: TaskTracker,
}

/// The connections on which no valid request has come yet, the oldest first.
#[derive(Debug, Default)]
struct Strangers {
    next: u64,
    waiting: BTreeMap<u64, CancellationToken>,
}

impl Strangers {
    /// Closes the oldest; whether there was one.
    fn close_oldest(&mut self) -> bool {
        self.waiting.pop_first().map(|(_, closing)| closing.cancel()).is_some()
    }
}

/// A connection, as its requests know it.
#[derive(Clone)]
pub(crate) struct Stranger {
    number: u64,
    strangers: Arc<Mutex<Strangers>>,
}

impl Stranger {
    /// A valid request has come.
    pub(crate) fn is_known(&self) {
        locked(&self.strangers).waiting.remove(&self.number);
    }
}

fn locked(strangers: &Mutex<Strangers>) -> std::sync::MutexGuard<'_, Strangers> {
    strangers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a connection while it is open.
struct Open {
    counts: Arc<Counts>,
    stranger: Stranger,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
        self.stranger.is_known();
    }
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.closing.cancelled() => return,
            };
            match accepted {
                Ok((stream, from)) => self.admit(stream, from),
                Err(error) => {
                    // As there is no file for another connection, one that says nothing makes room.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    locked(&self.strangers).close_oldest();
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, from: SocketAddr) {
        let full = self.counts.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS;
        let (number, closing) = {
            let mut strangers = locked(&self.strangers);
            if full || strangers.waiting.len() >= MAX_STRANGERS {
                let (logged, made_room) = (self.counts.refused(), strangers.close_oldest());
                if let Some(Refusal { refused, left_out }) = logged {
                    let why = if made_room {
                        "it made room for another before it said anything"
                    } else {
                        "too many are open"
                    };
                    tracing::warn!(refused, left_out, why, "a connection is refused");
                }
                if !made_room {
                    return;
                }
            }
            strangers.next += 1;
            let (number, closing) = (strangers.next, self.closed.child_token());
            strangers.waiting.insert(number, closing.clone());
            (number, closing)
        };
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        let stranger = Stranger { number, strangers: self.strangers.clone() };
        let open = Open { counts: self.counts.clone(), stranger: stranger.clone() };
        let ends = stream.local_addr().ok().map(|own| Ends::new(from, own));
        let (router, ending) = (self.router.clone(), self.closing.clone());
        self.tasks.spawn(async move {
            let _open = open;
            // An event is to be there when it is written, not when more has come.
            let _ = stream.set_nodelay(true);
            serve(stream, ends, router, stranger, ending, closing).await;
        });
    }
}

/// Serves one connection.
async fn serve(
    stream: TcpStream,
    ends: Option<Ends>,
    router: Router,
    stranger: Stranger,
    ending: CancellationToken,
    closing: CancellationToken,
) {
    let (application, answering) = (TowerToHyperService::new(router), Answering::default());
    let io = Connection::new(stream, answering.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        answering.begin();
        request.extensions_mut().insert(stranger.clone());
        if let Some(ends) = &ends {
            request.extensions_mut().insert(ends.clone());
        }
        let (answered, answering) = (application.call(request), answering.clone());
        async move { answered.await.map(|answer| answering.watch(answer)) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .half_close(false);
    let mut connection = builder.serve_connection(io, service);
    let served = tokio::select! {
        served = &mut connection => served,
        () = closing.cancelled() => return,
        () = ending.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                served = &mut connection => served,
                () = closing.cancelled() => return,
            }
        }
    };
    if let Err(error) = &served {
        tracing::debug!(%error, "a connection has ended");
    }
    // Who has said nothing in time is not waited for.
    if !served.is_err_and(|error| error.is_timeout()) {
        tokio::select! {
            () = connection.into_parts().io.linger() => {}
            () = closing.cancelled() => {}
            () = ending.cancelled() => {}
        }
    }
}
