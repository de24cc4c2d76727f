//! The handles of an agent: what it publishes, and what it follows.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc, time::Instant};

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Cursor, Lake, LakeId, Name, Path, Pattern, Rule, Tide,
    encoding::encode,
    limits::{MAX_GIVE_BYTES, MAX_WAVE_BYTES, MAX_WAVES_AT_ONCE},
};

use tokio_util::sync::CancellationToken;

use crate::{
    Moment,
    catalog::Direction,
    cell::TideCell,
    driver::{Command, Declared, Durability},
    error::{DeclareError, GiveError, OutcomeUnknown, ReadError, SurfError, WriteError},
    fold::new_fold,
    follow,
    freshness::Freshness,
    ids::WriteId,
    reader::{Updates, with_rock},
    shared::Shared,
    source::{PeerId, Source},
    store::TideKey,
};

/// A named program on a node. It declares which lakes it publishes and follows on which paths,
/// and each declaration gives the handle to do so.
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
    name: Name,
}

/// A declaration that is taken back when this is dropped, unless it was carried out.
struct Declaring<'a> {
    agent: &'a Agent,
    direction: Direction,
    /// Nothing once it was carried out.
    pattern: Option<Pattern>,
}

impl Declaring<'_> {
    fn done(mut self) {
        self.pattern = None;
    }
}

impl Drop for Declaring<'_> {
    fn drop(&mut self) {
        if let Some(pattern) = &self.pattern {
            self.agent.shared.catalog.undeclare(&self.agent.name, self.direction, pattern);
        }
    }
}

impl Agent {
    pub(crate) fn new(shared: Arc<Shared>, name: Name) -> Self {
        Self { shared, name }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The agent's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Declares that this agent publishes lake `L` on a path or, with `/*`, on everything below
    /// one. What an earlier run published there is published again from here on. The declaration
    /// holds until the node is shut down; clone the handle to share it.
    ///
    /// Refused where it overlaps another declaration of this agent, and where another lake, or
    /// another version of it, is stored on a path that it covers.
    pub async fn publications<L: Lake>(&self, pattern: &str) -> Result<Publications<L>, DeclareError> {
        self.publications_with(pattern, Durability::Disk).await
    }

    /// The same, with the durability of the publications that it begins.
    pub async fn publications_with<L: Lake>(
        &self,
        pattern: &str,
        durability: Durability,
    ) -> Result<Publications<L>, DeclareError> {
        let declared = self.declare::<L>(pattern, Direction::Out, durability)?;
        let declaring = Declaring { agent: self, direction: Direction::Out, pattern: Some(declared.pattern.clone()) };
        let command = |reply| Command::Declare { declared: declared.clone(), reply };
        self.shared.driver.ask(command).await.map_err(WriteError::from)??;
        declaring.done();
        Ok(Publications { shared: self.shared.clone(), declared, _lake: PhantomData })
    }

    /// Declares that this agent follows lake `L` on paths that the pattern covers, of any source.
    /// What an earlier run followed there is followed again from here on.
    ///
    /// Refused as [`Agent::publications`] is. Publications and subscriptions do not overlap
    /// each other.
    pub async fn subscriptions<L: Lake>(&self, pattern: &str) -> Result<Subscriptions<L>, DeclareError> {
        let declared = self.declare::<L>(pattern, Direction::In, Durability::Disk)?;
        let declaring = Declaring { agent: self, direction: Direction::In, pattern: Some(declared.pattern.clone()) };
        let subscriptions = Subscriptions { shared: self.shared.clone(), declared, _lake: PhantomData };
        subscriptions.resume().await?;
        declaring.done();
        Ok(subscriptions)
    }

    /// Stops following a source, whatever its lake, declared or not: see [`Subscriptions::quit`].
    pub async fn quit(&self, source: &Source) -> Result<(), WriteError> {
        let (shared, agent, source) = (self.shared.clone(), self.name.clone(), source.clone());
        let quitting = async move {
            let _one_at_a_time = shared.following.lock(&source).await;
            let last = shared.catalog.unfollow(&source, &agent);
            let asked = shared.driver.ask(|reply| Command::Unwant { agent, source, last, reply }).await;
            asked.map_err(WriteError::from)?
        };
        // In a task of its own: a caller who leaves does not end it between memory and disk.
        self.shared.tasks.spawn(quitting).await.unwrap_or_else(|_| Err(OutcomeUnknown::no_answer().into()))
    }

    /// Everything that this agent publishes, by path, whatever its lake.
    pub fn published(&self) -> BTreeMap<Path, PublicationState> {
        let state = |cell: &Arc<TideCell>| match cell.key() {
            TideKey::Publication { agent, path } if *agent == self.name => {
                let (cursor, rule) = cell.with_tide(|tide| (tide.cursor(), tide.rule()))?;
                Some((path.clone(), PublicationState { cursor, access: cell.access()?, rule }))
            }
            _ => None,
        };
        self.shared.catalog.cells().iter().filter_map(state).collect()
    }

    /// Everything that this agent follows, by source, whatever its lake.
    pub fn followed(&self) -> BTreeMap<Source, ReplicaState> {
        let followed = self.shared.catalog.followed_by(&self.name);
        let state = |source: Source| {
            let cell = self.shared.catalog.existing(&self.shared.key_of(&source))?;
            let standing = cell.standing();
            let state = ReplicaState {
                cursor: cell.cursor(),
                freshness: standing.freshness,
                current_at: standing.current_at,
                rule: cell.with_tide(Tide::rule),
                fail: self.shared.catalog.fail(&self.name, &source).map(|fail| fail.reason),
            };
            Some((source, state))
        };
        followed.into_iter().filter_map(state).collect()
    }

    fn declare<L: Lake>(
        &self,
        pattern: &str,
        direction: Direction,
        durability: Durability,
    ) -> Result<Arc<Declared>, DeclareError> {
        if self.shared.closing.is_cancelled() {
            return Err(DeclareError::ShutDown);
        }
        let pattern = Pattern::new(pattern)?;
        let lake = LakeId::of::<L>()?;
        // If the lake's Default panics, it does so here, at its owner's, and not in the driver.
        drop(L::Rock::default());
        self.shared.catalog.declare(&self.name, direction, &pattern)?;
        Ok(Arc::new(Declared { agent: self.name.clone(), pattern, lake, new_fold: new_fold::<L>, durability }))
    }
}

/// What an agent publishes under one declaration.
pub struct Publications<L: Lake> {
    shared: Arc<Shared>,
    declared: Arc<Declared>,
    _lake: PhantomData<fn() -> L>,
}

impl<L: Lake> Clone for Publications<L> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), declared: self.declared.clone(), _lake: PhantomData }
    }
}

/// What is known of one publication.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublicationState {
    /// Where it stands.
    pub cursor: Cursor,
    /// Who may read it.
    pub access: Access<PeerId>,
    /// What is kept of it.
    pub rule: Rule,
}

/// What is known of one state that an agent follows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaState {
    /// Where it stands; `None` before there is any state.
    pub cursor: Option<Cursor>,
    /// What is known of its source.
    pub freshness: Freshness,
    /// When it was last known to be current, where it was once and is not now.
    pub current_at: Option<Moment>,
    /// What is kept of it here; `None` before there is any state.
    pub rule: Option<Rule>,
    /// What the agent's own handler said when it failed on this state, or on one since the last
    /// update that it did not fail on.
    pub fail: Option<String>,
}

impl ReplicaState {
    /// Whether the state may be behind its source.
    pub fn stale(&self) -> bool {
        self.freshness.is_stale()
    }
}

impl<L: Lake> Publications<L> {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn declared(&self) -> &Arc<Declared> {
        &self.declared
    }

    /// The agent that publishes them.
    pub fn agent(&self) -> Agent {
        Agent::new(self.shared.clone(), self.declared.agent.clone())
    }

    /// The pattern that they are declared on.
    pub fn pattern(&self) -> &Pattern {
        &self.declared.pattern
    }

    /// Publishes the default rock on a path, at aeon 0. Where the path is published already,
    /// nothing happens. Returns the newest aeon.
    pub async fn open(&self, path: &str) -> Result<Aeon, GiveError> {
        self.send(path, Vec::new(), None).await
    }

    /// Gives one wave, which publishes the path if it is not yet. Returns the aeon that the wave
    /// leads to, once the wave is durable (see [`Durability`]).
    ///
    /// Waves of one path are in one total order; concurrent calls share a flush. Dropping the
    /// future does not take the wave back if it was handed over.
    pub async fn give(&self, path: &str, wave: L::Wave) -> Result<Aeon, GiveError> {
        self.send(path, vec![encode_wave::<L>(&wave)?], None).await
    }

    /// Gives a wave once: asked for again with the same id, it is not given again, and the aeon of the first time is
    /// returned, over restarts too. So a give whose outcome is unknown can be repeated.
    ///
    /// An id belongs to one wave on one path of this agent: with any other it is refused ([`IdError::Reused`]). How
    /// long it is remembered says [`WriteId`]; of a publication in memory, no longer than the process lives.
    ///
    /// [`IdError::Reused`]: crate::IdError::Reused
    pub async fn give_once(&self, path: &str, id: impl AsRef<[u8]>, wave: L::Wave) -> Result<Aeon, GiveError> {
        self.send(path, vec![encode_wave::<L>(&wave)?], Some(WriteId::new(id)?)).await
    }

    /// Gives many waves at once: all of them, or none. Returns the last one's aeon. At most
    /// 65,536 waves of 64 MiB in all.
    pub async fn give_all(&self, path: &str, waves: impl IntoIterator<Item = L::Wave>) -> Result<Aeon, GiveError> {
        self.send(path, encode_waves::<L>(waves)?, None).await
    }

    /// Gives many waves at once, and once: see [`Publications::give_once`].
    pub async fn give_all_once(
        &self,
        path: &str,
        id: impl AsRef<[u8]>,
        waves: impl IntoIterator<Item = L::Wave>,
    ) -> Result<Aeon, GiveError> {
        self.send(path, encode_waves::<L>(waves)?, Some(WriteId::new(id)?)).await
    }

    /// Takes the declaration back, so that the agent can declare anew on these paths, for another
    /// lake if nothing is published there. What is published goes on, and clones of this
    /// handle go on working.
    pub fn withdraw(self) {
        self.shared.catalog.undeclare(&self.declared.agent, Direction::Out, &self.declared.pattern);
    }

    async fn send(&self, path: &str, waves: Vec<Bytes>, id: Option<WriteId>) -> Result<Aeon, GiveError> {
        let repeats = id.is_some();
        match self.hand_over(path, waves, id).await {
            // Asked for earlier with the same id, it may have been done.
            Err(GiveError::ShutDown) if repeats && self.shared.driver.is_uncertain() => {
                let outcome = OutcomeUnknown::earlier(GiveError::ShutDown);
                Err(GiveError::Unknown { aeon: None, outcome })
            }
            given => given,
        }
    }

    async fn hand_over(&self, path: &str, waves: Vec<Bytes>, id: Option<WriteId>) -> Result<Aeon, GiveError> {
        if self.shared.closing.is_cancelled() {
            return Err(GiveError::ShutDown);
        }
        let path = Path::new(path)?;
        if !self.declared.pattern.covers(&path) {
            return Err(GiveError::NotDeclared { path, pattern: self.declared.pattern.clone() });
        }
        let declared = self.declared.clone();
        let begun = Instant::now();
        let given = self.shared.driver.ask(|reply| Command::Give { declared, path, waves, id, reply }).await;
        let given = given.map_err(WriteError::from)?;
        if given.is_ok() {
            self.shared.metrics.give_time.note(begun.elapsed());
        }
        given
    }

    /// The publications under this declaration, by path.
    pub fn read(&self) -> BTreeMap<Path, PublicationState> {
        let mut states = BTreeMap::new();
        for (path, state) in self.agent().published() {
            if self.declared.pattern.covers(&path) {
                states.insert(path, state);
            }
        }
        states
    }

    /// The states that are published under this declaration, by path: copies of their rocks, with
    /// their aeons. To look at one without a copy, use [`Publications::with_rock`].
    pub async fn rocks(&self) -> BTreeMap<Path, (Aeon, L::Rock)>
    where
        L::Rock: Clone,
    {
        let mut rocks = BTreeMap::new();
        for path in self.read().into_keys() {
            if let Ok(rock) = self.with_rock(path.as_str(), |rock, aeon| (aeon, rock.clone())).await {
                rocks.insert(path, rock);
            }
        }
        rocks
    }

    /// Reads the newest rock of a path and its aeon, for the length of a closure. No rock is
    /// copied for it. It waits for a transaction that is under way on this path.
    ///
    /// `look` must not take long: who gives a wave waits for it, up to 5 ms, before
    /// the rock is copied.
    pub async fn with_rock<T>(&self, path: &str, look: impl FnOnce(&L::Rock, Aeon) -> T) -> Result<T, ReadError> {
        let path = Path::new(path)?;
        let key = TideKey::Publication { agent: self.declared.agent.clone(), path: path.clone() };
        let cell = self.shared.catalog.existing(&key).ok_or(ReadError::NoState(path))?;
        with_rock::<L, T>(&cell, look).await
    }
}

fn encode_waves<L: Lake>(waves: impl IntoIterator<Item = L::Wave>) -> Result<Vec<Bytes>, GiveError> {
    let mut encoded = Vec::new();
    let mut bytes = 0;
    for wave in waves {
        let wave = encode_wave::<L>(&wave)?;
        bytes += wave.len();
        encoded.push(wave);
        if encoded.len() > MAX_WAVES_AT_ONCE || bytes > MAX_GIVE_BYTES {
            return Err(GiveError::TooMany);
        }
    }
    Ok(encoded)
}

fn encode_wave<L: Lake>(wave: &L::Wave) -> Result<Bytes, GiveError> {
    let bytes = encode(wave)?;
    if bytes.len() > MAX_WAVE_BYTES {
        return Err(GiveError::WaveTooLarge { bytes: bytes.len() });
    }
    Ok(bytes.into())
}

/// When an agent asked for a source: in this run, which is told what is wrong with it, or before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Now,
    Before,
}

/// What an agent follows under one declaration.
pub struct Subscriptions<L: Lake> {
    shared: Arc<Shared>,
    declared: Arc<Declared>,
    _lake: PhantomData<fn() -> L>,
}

impl<L: Lake> Clone for Subscriptions<L> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), declared: self.declared.clone(), _lake: PhantomData }
    }
}

impl<L: Lake> Subscriptions<L> {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The agent that follows them.
    pub fn agent(&self) -> Agent {
        Agent::new(self.shared.clone(), self.declared.agent.clone())
    }

    /// The pattern that they are declared on.
    pub fn pattern(&self) -> &Pattern {
        &self.declared.pattern
    }

    /// Follows a source, now and after every restart, until it is quit; and returns a stream of
    /// its updates. It begins with the state as it is here, then everything that follows.
    ///
    /// It returns at once, whether the source is there or not: the stream says what is known of
    /// the source, and the state comes when it can. Following what one follows already is no
    /// error: all streams of a source on this node share its connection and its replica. A node
    /// may follow its own publications.
    pub async fn surf(&self, source: Source) -> Result<Updates<L>, SurfError> {
        self.surf_from(source, None).await
    }

    /// The same, without a stream: for who reads the state when it is wanted, or leaves it to
    /// the agent's [program](Agent::program).
    pub async fn follow(&self, source: Source) -> Result<(), SurfError> {
        self.want(&source, Asked::Now).await.map(drop)
    }

    /// The same, from a cursor of an earlier update: the waves since come one by one if they are
    /// kept, otherwise the state as it is.
    pub async fn surf_from(&self, source: Source, cursor: Option<Cursor>) -> Result<Updates<L>, SurfError> {
        let permit = self.shared.reader_permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| SurfError::TooManySubscriptions)?;
        let (cell, quit) = self.want(&source, Asked::Now).await?;
        let lake = self.declared.lake.clone();
        Ok(Updates::new(source, lake, cell, cursor, quit, self.shared.metrics.clone(), Some(permit)))
    }

    /// A stream of a source that the agent follows, for its own program.
    pub(crate) fn reader(&self, source: &Source) -> Option<Updates<L>> {
        let quit = self.shared.catalog.quit_of(source, &self.declared.agent)?;
        let cell = self.shared.catalog.cell(&self.key(source));
        let lake = self.declared.lake.clone();
        Some(Updates::new(source.clone(), lake, cell, None, quit, self.shared.metrics.clone(), None))
    }

    /// Stops following a source: this agent's streams of it end. When no agent of this node follows it
    /// any more, its replica goes, in memory and on disk.
    pub async fn quit(&self, source: &Source) -> Result<(), WriteError> {
        self.agent().quit(source).await
    }

    /// Takes the declaration back, so that the agent can declare anew on these paths. What is
    /// followed stays followed, and clones of this handle go on working.
    pub fn withdraw(self) {
        self.shared.catalog.undeclare(&self.declared.agent, Direction::In, &self.declared.pattern);
    }

    /// The states that are followed under this declaration, by source.
    pub fn read(&self) -> BTreeMap<Source, ReplicaState> {
        let mut states = self.agent().followed();
        states.retain(|source, _| self.declared.pattern.covers(&source.path));
        states
    }

    /// The states that are followed under this declaration, by source: copies of their rocks, with
    /// their aeons. To look at one without a copy, use [`Subscriptions::with_rock`].
    pub async fn rocks(&self) -> BTreeMap<Source, (Aeon, L::Rock)>
    where
        L::Rock: Clone,
    {
        let mut rocks = BTreeMap::new();
        for source in self.read().into_keys() {
            if let Ok(rock) = self.with_rock(&source, |rock, aeon| (aeon, rock.clone())).await {
                rocks.insert(source, rock);
            }
        }
        rocks
    }

    /// Reads the newest rock of a source and its aeon, for the length of a closure: see
    /// [`Publications::with_rock`].
    pub async fn with_rock<T>(&self, source: &Source, look: impl FnOnce(&L::Rock, Aeon) -> T) -> Result<T, ReadError> {
        let cell = self.shared.catalog.existing(&self.key(source));
        let cell = cell.ok_or_else(|| ReadError::NoState(source.path.clone()))?;
        with_rock::<L, T>(&cell, look).await
    }

    fn key(&self, source: &Source) -> TideKey {
        self.shared.key_of(source)
    }

    /// Notes that the source is followed, and sees that it is, even if the caller leaves.
    async fn want(&self, source: &Source, asked: Asked) -> Result<(Arc<TideCell>, CancellationToken), SurfError> {
        let (this, source) = (self.clone(), source.clone());
        let wanting = async move { this.want_whole(&source, asked).await };
        let wanted = self.shared.tasks.spawn(wanting).await;
        wanted.unwrap_or_else(|_| Err(SurfError::Unknown(OutcomeUnknown::no_answer())))
    }

    async fn want_whole(&self, source: &Source, asked: Asked) -> Result<(Arc<TideCell>, CancellationToken), SurfError> {
        if self.shared.closing.is_cancelled() {
            return Err(SurfError::ShutDown);
        }
        if !self.declared.pattern.covers(&source.path) {
            let (path, pattern) = (source.path.clone(), self.declared.pattern.clone());
            return Err(SurfError::NotDeclared { path, pattern });
        }
        let own = source.peer == self.shared.id;
        if asked == Asked::Now
            && !own
            && !self.shared.network.can_look_up()
            && !self.shared.peers.knows_address(source.peer)
        {
            let addr = self.shared.followers.find(source.peer).filter(|addr| !addr.is_empty());
            self.shared.peers.learn(&addr.ok_or(SurfError::UnknownPeer { peer: source.peer })?);
        }
        let _one_at_a_time = self.shared.following.lock(source).await;
        if asked == Asked::Now && self.shared.catalog.is_full(source, self.shared.following.count()) {
            return Err(SurfError::TooManySubscriptions);
        }
        if let Some(cell) = self.shared.catalog.existing(&self.key(source))
            && let Err(lake) = cell.slot::<L>()
        {
            // Another lake is of another type too; that it is another lake is what helps.
            let declared = self.declared.lake.clone();
            return Err(match lake == declared {
                true => SurfError::LakeType { lake },
                false => SurfError::LakeVersion { stored: lake, declared },
            });
        }
        let (declared, wanted) = (self.declared.clone(), source.clone());
        let cell = self.shared.driver.ask(|reply| Command::Want { declared, source: wanted, reply }).await;
        let cell = cell.map_err(WriteError::from)??;
        let followed = self.shared.catalog.follow(source, &self.declared.agent);
        if followed.first && !own {
            let (cell, lake) = (cell.clone(), self.declared.lake.clone());
            follow::spawn(&self.shared, cell, source.clone(), lake, followed.all_quit);
        }
        Ok((cell, followed.quit))
    }

    /// Follows again what an earlier run followed.
    async fn resume(&self) -> Result<(), DeclareError> {
        for (agent, source, stored) in self.shared.store.wanted()? {
            if agent != self.declared.agent || !self.declared.pattern.covers(&source.path) {
                continue;
            }
            let (path, declared) = (source.path.clone(), self.declared.lake.clone());
            if stored.name != declared.name {
                return Err(DeclareError::LakeVersion { path, stored, declared });
            }
            // A peer whose address is lost is followed all the same: it may come by itself, or
            // its ticket be given.
            match self.want(&source, Asked::Before).await {
                Ok(_) => {}
                Err(SurfError::ShutDown) => return Err(DeclareError::ShutDown),
                Err(SurfError::Storage(error)) => return Err(DeclareError::Storage(error)),
                Err(SurfError::Unknown(outcome)) => return Err(DeclareError::Unknown(outcome)),
                Err(SurfError::LakeVersion { stored, declared }) => {
                    return Err(DeclareError::LakeVersion { path, stored, declared });
                }
                Err(SurfError::Upgrade { stored, declared, reason }) => {
                    return Err(DeclareError::Upgrade { path, stored, declared, reason });
                }
                Err(error) => return Err(DeclareError::Damaged { path, reason: error.to_string() }),
            }
        }
        Ok(())
    }
}
