//! An agent's own program: one handler for everything that it follows.
//!
//! One task runs each program. It waits for news of any source that the agent follows under the
//! program's declarations, and calls the handler for one after the other, never for two at once.
//! Nothing is queued: a source's place is a cursor, and a handler that lags is given the newest rock.

use std::{
    collections::HashSet,
    error::Error,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use groundswell_core::{Aeon, Cursor, Lake, Path};
use tokio::sync::OwnedRwLockReadGuard;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::{
    Agent, Ended, Event, Freshness, Subscriptions, Updates, driver::Command, error::panic_message, fold::Held,
    limits::MAX_FAIL_BYTES, shared::Shared, source::Source, store::Fail,
};

/// Why a handler failed: any error, by `?`.
pub type HandlerError = Box<dyn Error + Send + Sync>;

/// What an agent does when a state of lake `L` that it follows has changed.
///
/// A program implements it for each lake that it follows, and matches on the path where one lake
/// stands for several things: [`Surfed::segments`] is made for that.
///
/// ```
/// use groundswell::{HandlerError, OnRock, Surfed, lakes::{Log, Sum}};
///
/// struct Screen;
///
/// impl OnRock<Log> for Screen {
///     async fn on_rock(&mut self, surfed: Surfed<Log>) -> Result<(), HandlerError> {
///         match surfed.segments()[..] {
///             ["chats", room] => println!("{room}: {:?}", surfed.rock().last()),
///             _ => println!("{}: {} lines", surfed.path(), surfed.rock().len()),
///         }
///         Ok(())
///     }
/// }
///
/// impl OnRock<Sum> for Screen {
///     async fn on_rock(&mut self, surfed: Surfed<Sum>) -> Result<(), HandlerError> {
///         println!("{} is {}{}", surfed.source, surfed.rock(), if surfed.stale { " or newer" } else { "" });
///         Ok(())
///     }
/// }
/// ```
pub trait OnRock<L: Lake>: Send + 'static {
    /// The state of a source has changed, or whether it may be stale. Called at first for each
    /// state that is there, then for each change, in order.
    ///
    /// [`Surfed::wave`] is the wave that led from the rock of the call before to this very rock. It is
    /// `None` where a rock replaced the state, where only `stale` changed, and where this handler
    /// was behind: then it gets the newest rock, and the waves between are skipped.
    ///
    /// If it returns an error or panics, the agent's state of this source is flagged as failed
    /// ([`ReplicaState::fail`]) until it has handled a later update, over restarts too. The state stays
    /// readable, and nothing else stops.
    ///
    /// [`ReplicaState::fail`]: crate::ReplicaState::fail
    fn on_rock(&mut self, surfed: Surfed<L>) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// What is known of a source has changed: it is not available, refused, out of reach or back. To
    /// handle it is optional; states tell whether they are stale by themselves.
    fn on_freshness(&mut self, source: &Source, freshness: &Freshness) {
        let _ = (source, freshness);
    }
}

/// A state that an agent follows, as its handler gets it.
///
/// It holds the rock: a writer waits for it up to 5 ms, then goes on with a copy. A handler that
/// takes longer, or awaits something, takes what it needs and drops this first.
pub struct Surfed<L: Lake> {
    /// Where the state comes from.
    pub source: Source,
    /// The wave that led to this very rock, if one did.
    pub wave: Option<L::Wave>,
    /// Whether the state is another than at the call before; where it is not, `stale` is.
    pub changed: bool,
    /// Whether the state may be behind its source.
    pub stale: bool,
    /// Whether the change happened after this replica had caught up.
    pub live: bool,
    at: Cursor,
    agent: Agent,
    held: OwnedRwLockReadGuard<Held<L>>,
}

impl<L: Lake> Surfed<L> {
    /// The state.
    pub fn rock(&self) -> &L::Rock {
        &self.held.rock
    }

    /// The aeon of the state.
    pub fn aeon(&self) -> Aeon {
        self.at.aeon
    }

    /// Its path at the source.
    pub fn path(&self) -> &Path {
        &self.source.path
    }

    /// The segments of the path, to be matched: `["chats", room, rest @ ..]`.
    pub fn segments(&self) -> Vec<&str> {
        self.source.path.segments().collect()
    }

    /// The agent, whose current states are [`Agent::published`] and [`Agent::followed`].
    pub fn agent(&self) -> &Agent {
        &self.agent
    }
}

/// A program that is to be started: see [`Agent::program`].
pub struct ProgramBuilder<H> {
    agent: Agent,
    handler: H,
    follows: Vec<Box<dyn Follows<H>>>,
}

impl Agent {
    /// Begins a program: a handler for what this agent follows.
    ///
    /// ```no_run
    /// # use groundswell::{HandlerError, Node, OnRock, PeerId, Source, Surfed, lakes::Log};
    /// # struct Screen;
    /// # impl OnRock<Log> for Screen {
    /// #     async fn on_rock(&mut self, _: Surfed<Log>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// # async fn example(node: Node, peer: PeerId) -> Result<(), Box<dyn std::error::Error>> {
    /// let agent = node.agent("screen")?;
    /// let logs = agent.subscriptions::<Log>("/log/*").await?;
    /// let program = agent.program(Screen).handles(&logs).start();
    /// logs.follow(Source::new(peer, "main", "/log/today")?).await?; // the handler has it from here on
    /// # program.stop().await; Ok(()) }
    /// ```
    pub fn program<H: Send + 'static>(&self, handler: H) -> ProgramBuilder<H> {
        ProgramBuilder { agent: self.clone(), handler, follows: Vec::new() }
    }
}

impl<H: Send + 'static> ProgramBuilder<H> {
    /// The handler gets what is followed under this declaration, now and later: by this agent, or by
    /// another one of this node, whose state it then is that may fail.
    pub fn handles<L: Lake>(mut self, subscriptions: &Subscriptions<L>) -> Self
    where
        H: OnRock<L>,
    {
        self.follows.push(Box::new(subscriptions.clone()));
        self
    }

    /// Starts the program. It runs until it is stopped, its handle is dropped, or the node shuts
    /// down; it then ends after the call that is under way. A node that shuts down delivers
    /// what was committed first, within its deadline.
    pub fn start(self) -> Program {
        let stop = CancellationToken::new();
        let done = CancellationToken::new();
        let shared = self.agent.shared().clone();
        let span = info_span!("program", agent = %self.agent.name());
        let running = Running {
            shared: shared.clone(),
            handler: self.handler,
            follows: self.follows,
            sources: HashSet::new(),
            readers: FuturesUnordered::new(),
        };
        let (stopped, ended) = (stop.clone(), done.clone().drop_guard());
        shared.programs.spawn(
            async move {
                running.run(stopped).await;
                drop(ended);
            }
            .instrument(span),
        );
        Program { _stops: stop.clone().drop_guard(), stop, done }
    }
}

/// A program that runs. Dropping it stops it, after the call that is under way.
#[must_use = "a program stops when its handle is dropped"]
pub struct Program {
    stop: CancellationToken,
    done: CancellationToken,
    _stops: tokio_util::sync::DropGuard,
}

impl Program {
    /// Stops the program, and returns when its handler is dropped. What the agent follows stays
    /// followed. Dropping the future lets go of the wait alone.
    pub async fn stop(self) {
        self.stop.cancel();
        self.done.cancelled().await;
    }

    /// Waits until the program has ended, because the node was shut down.
    pub async fn ended(&self) {
        self.done.cancelled().await;
    }
}

/// What waits for news of one source, and then calls the handler with it.
type Waiting<H> = Pin<Box<dyn Future<Output = Box<dyn News<H>>> + Send>>;
type Numbered<H> = Pin<Box<dyn Future<Output = (usize, Box<dyn News<H>>)> + Send>>;
/// A call of the handler.
type Call<'a, H> = Pin<Box<dyn Future<Output = After<H>> + Send + 'a>>;

/// What is to be done after a call.
enum After<H> {
    /// Wait for the next news of the source.
    Wait(Waiting<H>),
    /// The source was quit; it may be followed again.
    Quit,
    /// There will be no more news in this run.
    Ended,
}

/// The sources of one declaration.
trait Follows<H>: Send {
    /// What is followed under it.
    fn sources(&self) -> Vec<Source>;
    /// Begins to read a source; `None` where it is not followed any more.
    fn read(&self, source: &Source) -> Option<Waiting<H>>;
}

/// News of one source.
trait News<H>: Send {
    fn source(&self) -> &Source;
    fn call<'a>(self: Box<Self>, handler: &'a mut H) -> Call<'a, H>;
}

impl<L: Lake, H: OnRock<L>> Follows<H> for Subscriptions<L> {
    fn sources(&self) -> Vec<Source> {
        let mut sources = self.shared().catalog.followed_by(self.agent().name());
        sources.retain(|source| self.pattern().covers(&source.path));
        sources
    }

    fn read(&self, source: &Source) -> Option<Waiting<H>> {
        let updates = self.reader(source)?;
        Some(Reader { agent: self.agent(), updates, told: None }.wait())
    }
}

/// The place of a program in one source.
struct Reader<L: Lake> {
    agent: Agent,
    updates: Updates<L>,
    /// The state that the handler was called with last, and whether it was stale.
    told: Option<(Cursor, bool)>,
}

struct ReaderNews<L: Lake> {
    reader: Reader<L>,
    event: Option<Event<L::Wave>>,
}

impl<L: Lake> Reader<L> {
    fn wait<H: OnRock<L>>(mut self) -> Waiting<H> {
        Box::pin(async move {
            let event = self.updates.next().await;
            Box::new(ReaderNews { reader: self, event }) as Box<dyn News<H>>
        })
    }

    /// Calls the handler with the state as it is, if there is one and it is news.
    async fn tell<H: OnRock<L>>(&mut self, handler: &mut H, update: Option<(Cursor, Option<L::Wave>, bool)>) {
        let Some(held) = self.updates.hold().await else { return };
        let Some(at) = held.at else { return };
        let stale = self.updates.is_stale();
        let (wave, live) = match update {
            Some((cursor, wave, live)) if cursor == at => (wave, live),
            // The rock has moved on: the updates between are skipped.
            Some((_, _, live)) => (None, live),
            None => (None, false),
        };
        if self.told == Some((at, stale)) {
            return;
        }
        self.updates.skip_to(at);
        let changed = self.told.is_none_or(|(told, _)| told != at);
        self.told = Some((at, stale));
        let source = self.updates.source().clone();
        let surfed = Surfed { source: source.clone(), wave, changed, stale, live, at, agent: self.agent.clone(), held };
        let call = async { handler.on_rock(surfed).await.map_err(|error| error.to_string()) };
        let result = caught(call).await;
        self.note(&source, at, result.err()).await;
    }

    /// Keeps the flag of this agent's state as it is to be.
    async fn note(&self, source: &Source, at: Cursor, failed: Option<String>) {
        let (shared, agent) = (self.agent.shared(), self.agent.name());
        let flagged = shared.catalog.fail(agent, source);
        let fail = match failed {
            Some(reason) => {
                warn!(%source, %reason, "the handler failed; its state is flagged");
                let end = reason.floor_char_boundary(MAX_FAIL_BYTES);
                Some(Fail { at, reason: reason[..end].to_owned() })
            }
            // It stands until a later update was handled.
            None if flagged.is_none_or(|fail| fail.at == at) => return,
            None => None,
        };
        let (agent, source) = (agent.clone(), source.clone());
        let noted = shared.driver.ask(|reply| Command::Fail { agent, source, fail, reply }).await;
        if let Ok(Err(error)) = noted {
            warn!(%error, "whether a handler has failed could not be stored");
        }
    }
}

impl<L: Lake, H: OnRock<L>> News<H> for ReaderNews<L> {
    fn source(&self) -> &Source {
        self.reader.updates.source()
    }

    fn call<'a>(mut self: Box<Self>, handler: &'a mut H) -> Call<'a, H> {
        Box::pin(async move {
            if self.reader.updates.is_quit() {
                return After::Quit;
            }
            let Some(event) = self.event.take() else { return After::Ended };
            match event {
                Event::Update(update) => {
                    self.reader.tell(handler, Some((update.cursor, update.wave, update.live))).await;
                }
                Event::CaughtUp { .. } => self.reader.tell(handler, None).await,
                Event::Freshness(freshness) => {
                    let source = self.reader.updates.source();
                    let told = catch_unwind(AssertUnwindSafe(|| handler.on_freshness(source, &freshness)));
                    if let Err(panic) = told {
                        warn!(%source, reason = panic_message(&*panic), "the handler of a freshness panicked");
                    }
                    self.reader.tell(handler, None).await;
                }
                Event::Ended(Ended::Quit) => return After::Quit,
                Event::Ended(_) => return After::Ended,
            }
            After::Wait(self.reader.wait())
        })
    }
}

/// Runs a handler's future; a panic in it is an error.
async fn caught(call: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let mut call = pin!(call);
    let polled = poll_fn(|context| {
        let poll = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        match poll {
            Ok(poll) => poll,
            Err(panic) => std::task::Poll::Ready(Err(format!("it panicked: {}", panic_message(&*panic)))),
        }
    });
    polled.await
}

struct Running<H> {
    shared: Arc<Shared>,
    handler: H,
    follows: Vec<Box<dyn Follows<H>>>,
    /// The sources that are read, and by which declaration; also those that have ended for this run.
    sources: HashSet<(usize, Source)>,
    readers: FuturesUnordered<Numbered<H>>,
}

impl<H: Send + 'static> Running<H> {
    async fn run(mut self, stop: CancellationToken) {
        let mut followed = self.shared.catalog.watch_followed();
        followed.mark_changed();
        loop {
            let (number, news) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Nothing new is begun while the node shuts down.
                Ok(()) = followed.changed(), if !self.shared.closing.is_cancelled() => {
                    self.read_new();
                    continue;
                }
                Some(news) = self.readers.next() => news,
                () = self.shared.closing.cancelled(), if self.readers.is_empty() => break,
                () = self.shared.closed.cancelled() => break,
            };
            let source = news.source().clone();
            tokio::select! {
                after = news.call(&mut self.handler) => match after {
                    After::Wait(waiting) => self.readers.push(numbered(number, waiting)),
                    After::Quit => {
                        self.sources.remove(&(number, source));
                        // It may be followed again already.
                        followed.mark_changed();
                    }
                    After::Ended => {}
                },
                // The time to finish is over.
                () = self.shared.closed.cancelled() => break,
            }
        }
        debug!("the program has ended");
    }

    /// Begins to read what is followed and this program does not read yet.
    fn read_new(&mut self) {
        for (number, follows) in self.follows.iter().enumerate() {
            for source in follows.sources() {
                let key = (number, source);
                if self.sources.contains(&key) {
                    continue;
                }
                if let Some(waiting) = follows.read(&key.1) {
                    self.readers.push(numbered(number, waiting));
                    self.sources.insert(key);
                }
            }
        }
    }
}

/// Notes by which declaration a source is read.
fn numbered<H: 'static>(number: usize, waiting: Waiting<H>) -> Numbered<H> {
    Box::pin(async move { (number, waiting.await) })
}
