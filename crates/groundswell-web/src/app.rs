//! The application: what it is made of, and what all its requests share.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use axum::Router;
use groundswell::{Moment, Node};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    claims::{AskedClaim, Claims},
    lakes::{BuiltinLakes, LakeError, Lakes},
    limits::{MAX_STREAMS, REQUESTS_PER_SECOND, STRANGE_REQUESTS_PER_SECOND},
    problem::{Kind, Problem},
    routes,
    sampler::Sampler,
    security::{self, Bucket},
    subject::Subject,
    token::{Keys, TokenError},
    views::{HttpView, NodeView, now_ms},
};

/// How the interface is to be.
#[derive(Clone)]
pub struct Config {
    data_dir: PathBuf,
    hosts: Vec<String>,
    pub(crate) for_other_computers: bool,
    lakes: Option<Arc<dyn Lakes>>,
    take_claims: bool,
    max_value_bytes: usize,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dir, hosts) = (&self.data_dir, &self.hosts);
        f.debug_struct("Config").field("data_dir", dir).field("hosts", hosts).finish_non_exhaustive()
    }
}

impl Config {
    /// An interface for programs on this device, with its token in the file `http-token` of this directory: the
    /// node's own data directory. The file is made, for this user alone, where it is missing.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            hosts: Vec::new(),
            for_other_computers: false,
            lakes: None,
            take_claims: true,
            max_value_bytes: 1024 * 1024,
        }
    }

    /// Lets other computers in, under these host names (or addresses), without ports.
    ///
    /// Without this call [`App::serve`] refuses a listener that is not on loopback, and requests for another host than
    /// this device by its loopback are refused. With it, **whoever can reach the listener can try to get in, and whoever
    /// can read the traffic can**: HTTP is not encrypted, so that the token, the session and all keys and values can be
    /// read on the way, and with the token everything can be done that this node's user can do. Call it behind a server
    /// that adds TLS, or on a network whose every participant may have that.
    pub fn for_other_computers(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.for_other_computers = true;
        self.hosts.extend(hosts.into_iter().map(Into::into));
        self
    }

    /// The publications and subscriptions, in place of [`BuiltinLakes`]: for programs with lakes of their own, and for
    /// those that have declared the paths already.
    pub fn lakes(mut self, lakes: Arc<dyn Lakes>) -> Self {
        self.lakes = Some(lakes);
        self
    }

    /// Leaves the claims that a machine is asked to the program, which waits for them itself. Otherwise the
    /// interface takes them; a program that answers them too gets them by [`App::await_incoming_claim`].
    pub fn leave_claims(mut self) -> Self {
        self.take_claims = false;
        self
    }

    /// The most bytes of a value, as the machine or the manager was built with; 1 MiB if this is not called.
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }
}

/// Why the interface could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The token can't be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// What is stored can't be read.
    #[error("the publications and subscriptions of earlier runs cannot be read: {0}")]
    Lakes(#[from] LakeError),
}

/// The interface of a node. Clones are handles to the same.
///
/// It holds a handle of its subject. When the last clone and the last router of it are dropped, its streams end and its
/// claims fail, as with [`App::shutdown`], but nobody waits for them.
#[derive(Clone)]
pub struct App {
    pub(crate) inner: Arc<Inner>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("subject", &self.inner.subject.role()).finish_non_exhaustive()
    }
}

/// What all requests share.
pub(crate) struct Inner {
    pub(crate) subject: Subject,
    pub(crate) keys: Keys,
    pub(crate) claims: Arc<Claims>,
    pub(crate) lakes: Arc<dyn Lakes>,
    pub(crate) sampler: Sampler,
    pub(crate) counts: Arc<Counts>,
    pub(crate) rates: Rates,
    pub(crate) started: Moment,
    pub(crate) max_value_bytes: usize,
    pub(crate) for_other_computers: bool,
    hosts: Vec<String>,
    streams: Arc<Semaphore>,
    /// Set when streams are to end and nothing more is begun.
    pub(crate) closing: CancellationToken,
    tasks: TaskTracker,
}

/// How many requests may come.
pub(crate) struct Rates {
    pub(crate) known: Bucket,
    pub(crate) strange: Bucket,
}

/// What the interface counts of itself.
pub(crate) struct Counts {
    pub(crate) connections: AtomicUsize,
    refused: AtomicU64,
    /// Whose log of strangers has a line of a refusal.
    node: Node,
}

/// A refusal that is to be logged.
pub(crate) struct Refusal {
    /// How many there were with it.
    pub(crate) refused: u64,
    /// How many lines of what strangers cause were left out before this one, of all parts of the node.
    pub(crate) left_out: u64,
}

impl Counts {
    fn new(node: Node) -> Self {
        Self { connections: AtomicUsize::default(), refused: AtomicU64::default(), node }
    }

    /// Counts a refusal, and says whether it is to be logged: a flood is not to fill the log.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        self.node.stranger_log().line().map(|left_out| Refusal { refused, left_out })
    }
}

impl App {
    /// The interface of a node, a machine or a manager. It reads or makes the token, declares what earlier runs have
    /// published and followed (with [`BuiltinLakes`]), and begins to take the claims that a machine is asked.
    pub async fn start(subject: impl Into<Subject>, config: Config) -> Result<Self, AppError> {
        let subject = subject.into();
        let keys = Keys::open(&config.data_dir)?;
        let lakes: Arc<dyn Lakes> = match config.lakes {
            Some(lakes) => lakes,
            None => Arc::new(BuiltinLakes::restore(subject.node().clone()).await?),
        };
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        let claims = Arc::new(Claims::new(tasks.clone(), closing.clone()));
        if let (Subject::Machine(machine), true) = (&subject, config.take_claims) {
            tasks.spawn(claims.clone().take_incoming(machine.clone()));
        }
        let inner = Inner {
            keys,
            claims,
            lakes,
            sampler: Sampler::new(subject.node().clone()),
            counts: Arc::new(Counts::new(subject.node().clone())),
            rates: Rates { known: Bucket::new(REQUESTS_PER_SECOND), strange: Bucket::new(STRANGE_REQUESTS_PER_SECOND) },
            started: Moment::now(),
            max_value_bytes: config.max_value_bytes,
            for_other_computers: config.for_other_computers,
            hosts: config.hosts,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            closing,
            tasks,
            subject,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The application's routes, to be mounted in a server of the user's own: at the root, or nested below a path that
    /// ends in `/`. The server then sees to connections and time-outs; see [`App::serve`] for what that is.
    ///
    /// ```
    /// # async fn example(app: groundswell_web::App) -> axum::Router {
    /// axum::Router::new()
    ///     .route("/", axum::routing::get(|| async { "the page of the shop" }))
    ///     .nest("/groundswell/", app.router())
    /// # }
    /// ```
    pub fn router(&self) -> Router {
        let guarded = axum::middleware::from_fn_with_state(self.inner.clone(), security::guard);
        routes::router().layer(guarded).with_state(self.inner.clone())
    }

    /// The token, which a program sends as `Authorization: Bearer`.
    pub fn token(&self) -> &str {
        self.inner.keys.token()
    }

    /// The code of a new one-time link, `/open?code=…`. It is valid for five minutes, once.
    pub fn new_code(&self) -> String {
        self.inner.keys.new_code(None)
    }

    /// As [`Self::new_code`], for one account of this device alone, by its number (uid): for a link that a browser is started
    /// with, since all accounts can read the arguments of a program. Where the system does not say whose a connection is, which
    /// Linux does, anybody may use it.
    pub fn new_code_for(&self, account: u32) -> String {
        self.inner.keys.new_code(Some(account))
    }

    /// Waits for the next claim that this machine is asked, for a program that answers claims beside the interface, as
    /// one with a terminal does: the first answer counts, from whichever side. Of several who wait, one gets a claim.
    /// `None` once the interface is shut down. With [`Config::leave_claims`], and for what is no machine, it waits until
    /// then. Cancel safe.
    pub async fn await_incoming_claim(&self) -> Option<AskedClaim> {
        self.inner.claims.take().await
    }

    /// Ends all streams, each with the event `ended`, and the claims that wait for an answer; returns when the tasks of
    /// the interface are over. Requests that only ask are answered still. A second call returns at once.
    pub async fn shutdown(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

impl Inner {
    pub(crate) fn is_own_host(&self, host: &str) -> bool {
        security::is_own_host(host, &self.hosts)
    }

    /// The name of the session's cookie: cookies do not know of ports, and there may be several nodes on a device.
    pub(crate) fn cookie_name(&self) -> String {
        let id = self.subject.node().id().to_string();
        format!("groundswell-{}", id.get(..8).unwrap_or_default())
    }

    /// A place among the open streams.
    pub(crate) fn stream_permit(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if self.closing.is_cancelled() {
            return Err(Problem::new(Kind::ShutDown, "the interface is shut down"));
        }
        self.streams.clone().try_acquire_owned().map_err(|_| {
            let detail = format!("{MAX_STREAMS} streams are open, the most that may be: follow several topics by one");
            Problem::new(Kind::TooManyStreams, detail)
        })
    }

    pub(crate) fn node_view(&self, peers: Vec<String>) -> NodeView {
        let node = self.subject.node();
        NodeView {
            id: node.id().to_string(),
            ticket: node.ticket().to_string(),
            role: self.subject.role(),
            version: env!("CARGO_PKG_VERSION"),
            run: self.keys.run().to_owned(),
            started_ms: self.started.unix_ms(),
            now_ms: now_ms(),
            peers,
            metrics: node.metrics(),
            http: HttpView {
                connections: self.counts.connections.load(Ordering::Relaxed),
                streams: MAX_STREAMS.saturating_sub(self.streams.available_permits()),
                refused: self.counts.refused.load(Ordering::Relaxed),
            },
        }
    }
}
