//! One document as this node has it in memory: its identity, the view, the newest entries of both
//! logs, who reads it, and how it stands with the other side.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use groundswell_core::{
    Epoch,
    kv::{
        Applied, Delivered, Envelope, KvAuthor, KvKey, KvView, LeftOut, SpaceName,
        pairs::{self, Stands},
    },
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    budget::{KvBudget, KvUsage},
    docs::{AuthorId, NamespaceId, NamespaceSecret, VerifyingKeys},
    error::KvEnded,
    sealed::Sealed,
    session::Active,
    status::LinkStatus,
    storage::{DocumentRow, Standing},
    subscription::Wake,
};
use crate::{
    limits::{KV_RECENT_BYTES, KV_RECONCILE_AFTER, KV_RECONCILE_PERIOD, MAX_KV_KEYS},
    network::CloseCode,
    source::PeerId,
    sync::{lock, read, write},
};

/// Which document this is, and with whom it is shared. It is replaced as a whole, by a release and by
/// a claim; whoever works for the one before ends then.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) number: u64,
    pub(crate) secret: NamespaceSecret,
    pub(crate) namespace: NamespaceId,
    /// Who signs the entries of either side.
    pub(crate) authors: [Option<AuthorId>; 2],
    pub(crate) standing: Standing,
    /// The public keys that entries are verified with, ready for use.
    pub(crate) keys: VerifyingKeys,
    /// Set when this is no longer the document's identity.
    pub(crate) replaced: CancellationToken,
}

impl Identity {
    pub(crate) fn new(number: u64, row: &DocumentRow, ours: KvAuthor, signer: AuthorId) -> Arc<Self> {
        let secret = NamespaceSecret::from_bytes(&row.secret);
        let mut authors = [None; 2];
        authors[ours.index()] = Some(signer);
        if let Standing::Paired { author, .. } | Standing::Former { author: Some(author), .. } = row.standing {
            authors[ours.other().index()] = Some(AuthorId::from_bytes(author));
        }
        let namespace = secret.id();
        let keys = VerifyingKeys::new(namespace, authors.into_iter().flatten());
        let replaced = CancellationToken::new();
        Arc::new(Self { number, secret, namespace, authors, standing: row.standing.clone(), keys, replaced })
    }

    /// The other side, if there is one.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        self.standing().peer()
    }

    /// With whom it was shared, and whether that peer knows that it is not any more, if this side has given it up.
    pub(crate) fn former(&self) -> Option<(PeerId, bool)> {
        self.standing().former()
    }

    pub(crate) fn author(&self, author: KvAuthor) -> Option<AuthorId> {
        self.authors[author.index()]
    }

    pub(crate) fn row(&self) -> DocumentRow {
        DocumentRow { secret: self.secret.to_bytes(), standing: self.standing.clone() }
    }
}

impl Stands for Identity {
    type Peer = PeerId;

    fn document(&self) -> [u8; 32] {
        *self.namespace.as_bytes()
    }

    fn standing(&self) -> pairs::Standing<PeerId> {
        match self.standing {
            Standing::Unclaimed => pairs::Standing::Unclaimed,
            Standing::Paired { peer, .. } => pairs::Standing::Paired(peer),
            Standing::Released { peer } => pairs::Standing::Left(peer),
            Standing::Releasing { peer } => pairs::Standing::Former { peer, told: false },
            Standing::Former { peer, told, .. } => pairs::Standing::Former { peer, told },
        }
    }
}

/// When the next reconciliation may begin, and how long the pause before it is.
pub(crate) type Reconciles = Option<(Instant, Duration)>;

/// The newest entries of an author, so that who is up to date reads no disk.
#[derive(Debug, Default)]
struct RecentLog {
    /// Of which document.
    number: u64,
    entries: VecDeque<Arc<Sealed>>,
    bytes: usize,
    /// Every entry after this counter is here.
    floor: u64,
}

impl RecentLog {
    fn push(&mut self, entry: Arc<Sealed>) {
        self.bytes += entry.weight();
        self.entries.push_back(entry);
        while self.bytes > KV_RECENT_BYTES
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.weight();
            self.floor = oldest.counter;
        }
    }
}

/// What was shown, and is still to be told.
#[must_use = "whoever waits is to be told"]
pub(crate) struct Shown {
    /// Space, key, who wrote it now, and who had before.
    changes: Vec<(SpaceName, KvKey, KvAuthor, Option<KvAuthor>)>,
    heads: [u64; 2],
}

/// Who reads a document, by what can concern them.
#[derive(Debug, Default)]
struct Readers {
    /// Those of one key.
    of_key: HashMap<(SpaceName, KvKey), Vec<Arc<Wake>>>,
    others: Vec<Arc<Wake>>,
}

pub(crate) struct Document {
    pub(crate) ours: KvAuthor,
    identity: RwLock<Arc<Identity>>,
    view: RwLock<KvView>,
    readers: Mutex<Readers>,
    logs: [Mutex<RecentLog>; 2],
    /// Up to which counter the entries of both authors are held here, durably.
    pub(crate) heads: watch::Sender<[u64; 2]>,
    pub(crate) status: watch::Sender<LinkStatus>,
    /// The other side was sent ours up to here at most, durably noted.
    pub(super) sent: AtomicU64,
    /// What we have written since this side went back has this counter or a greater one; the greatest of all if it did not.
    pub(super) written_since: AtomicU64,
    /// What the other side says that it holds of ours.
    pub(crate) delivered: watch::Sender<Delivered>,
    /// Locked after the view.
    left_out: Mutex<LeftOut>,
    /// When the other side last claimed to hold more of ours than it was sent, and did not show it.
    pub(super) claimed_in_vain: Mutex<Option<Instant>>,
    /// The budget of bytes that the other side has said it has for the document.
    their_budget: AtomicU64,
    /// Held while what an earlier run may have left out is looked up.
    pub(crate) finding: tokio::sync::Mutex<()>,
    /// Held while a reconciliation of it goes on, over whichever connection, and in the pause after it.
    pub(crate) reconciling: Arc<tokio::sync::Mutex<()>>,
    /// Up to where they are in the docs document.
    pub(crate) fed: watch::Sender<[u64; 2]>,
    /// Whether the docs engine has the document open.
    open_in_engine: AtomicBool,
    /// Told when a value was found missing.
    pub(crate) missing: Notify,
    /// Held while a hello of the other side is answered.
    pub(crate) answering: Arc<tokio::sync::Mutex<()>>,
    /// The one session that synchronises the document now.
    pub(crate) session: watch::Sender<Option<Arc<Active>>>,
    /// Whether the end of the newest session was told in the log as the fault of somebody.
    complained: AtomicBool,
    /// What the next reconciliation waits for after one that found differences or was not finished.
    /// A new connection changes neither: the other side could reconnect for another reconciliation.
    reconciles: Mutex<Reconciles>,
    ended: RwLock<Option<KvEnded>>,
}

impl Document {
    pub(crate) fn new(ours: KvAuthor, identity: Arc<Identity>, view: KvView, heads: [u64; 2]) -> Arc<Self> {
        let number = identity.number;
        let log = |head| Mutex::new(RecentLog { number, floor: head, ..RecentLog::default() });
        let status = LinkStatus::new(&identity.standing);
        Arc::new(Self {
            ours,
            identity: RwLock::new(identity),
            view: RwLock::new(view),
            readers: Mutex::default(),
            logs: heads.map(log),
            heads: watch::Sender::new(heads),
            status: watch::Sender::new(status),
            sent: AtomicU64::new(0),
            written_since: AtomicU64::new(u64::MAX),
            delivered: watch::Sender::default(),
            left_out: Mutex::default(),
            claimed_in_vain: Mutex::default(),
            their_budget: AtomicU64::new(u64::MAX),
            finding: tokio::sync::Mutex::default(),
            reconciling: Arc::default(),
            fed: watch::Sender::new([0; 2]),
            open_in_engine: AtomicBool::new(false),
            missing: Notify::new(),
            answering: Arc::default(),
            session: watch::Sender::new(None),
            complained: AtomicBool::new(false),
            reconciles: Mutex::default(),
            ended: RwLock::new(None),
        })
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        read(&self.identity).clone()
    }

    /// Takes another identity, with the view and the heads as they are.
    pub(crate) fn set_identity(&self, identity: Arc<Identity>) {
        let standing = identity.standing.clone();
        let before = std::mem::replace(&mut *write(&self.identity), identity);
        before.replaced.cancel();
        self.status.send_modify(|status| {
            let went_back = status.went_back;
            *status = LinkStatus { went_back, ..LinkStatus::new(&standing) };
        });
        // What is said of deliveries is of another identity by now.
        let mut left_out = lock(&self.left_out);
        *left_out = LeftOut::default();
        self.delivered
            .send_modify(|delivered| *delivered = Delivered { agreed: delivered.agreed, ..Delivered::default() });
    }

    /// Takes another identity that begins anew: its readers are told to.
    pub(crate) fn renew(&self, identity: Arc<Identity>, entries: Vec<(Sealed, Envelope)>, heads: [u64; 2]) {
        {
            let mut view = write(&self.view);
            *view = KvView::new(Epoch(rand::random()));
            for (entry, envelope) in entries {
                // It was in a view of the same size before.
                let _ = view.apply(entry.author, envelope);
            }
        }
        for (log, head) in self.logs.iter().zip(heads) {
            *lock(log) = RecentLog { number: identity.number, floor: head, ..RecentLog::default() };
        }
        self.set_their_budget(u64::MAX);
        self.set_identity(identity);
        self.began_anew();
        self.heads.send_replace(heads);
        self.wake_all();
    }

    /// The budget of bytes that the other side has for the document, as far as it has said so in this run.
    pub(crate) fn their_budget(&self) -> u64 {
        self.their_budget.load(Ordering::Relaxed)
    }

    pub(crate) fn set_their_budget(&self, bytes: u64) {
        self.their_budget.store(bytes, Ordering::Relaxed);
    }

    /// What the document uses of what this side may write into it.
    pub(crate) fn usage(&self, budget: &KvBudget) -> KvUsage {
        let (keys, bytes) = self.with_view(|view| (view.keys_used(), view.bytes()));
        KvUsage { keys, keys_limit: MAX_KV_KEYS, bytes, bytes_limit: budget.document.min(self.their_budget()) }
    }

    /// Looks at the view. Not for long: writers wait.
    pub(crate) fn with_view<T>(&self, look: impl FnOnce(&KvView) -> T) -> T {
        look(&read(&self.view))
    }

    /// Shows what is durable to who looks, and says whom it concerns.
    pub(crate) fn show(&self, entries: Vec<(Sealed, Envelope)>, heads: [u64; 2]) -> Shown {
        let mut changes = Vec::with_capacity(entries.len());
        let mut sealed = Vec::with_capacity(entries.len());
        {
            let mut view = write(&self.view);
            let mut left_out = lock(&self.left_out);
            for (entry, envelope) in entries {
                let (space, key) = (envelope.space.clone(), envelope.key.clone());
                match view.apply(entry.author, envelope) {
                    Ok(Applied::Won { previous, .. }) => {
                        left_out.replaced(&entry.key);
                        changes.push((space, key, entry.author, previous));
                    }
                    Ok(Applied::Lost) => {}
                    Err(error) => tracing::error!(%error, "an entry of the other side is not shown"),
                }
                sealed.push(Arc::new(entry));
            }
            self.tell_left_out(&left_out);
        }
        for entry in sealed {
            let mut log = lock(&self.logs[entry.author.index()]);
            let newest = log.entries.back().map_or(log.floor, |newest| newest.counter);
            if entry.counter > newest {
                log.push(entry);
            } else if entry.counter > log.floor && !log.entries.iter().any(|known| known.counter == entry.counter) {
                // One that had been lost is back: readers find it in storage.
                *log = RecentLog { number: log.number, floor: newest, ..RecentLog::default() };
            }
        }
        Shown { changes, heads }
    }

    /// Wakes who follows the logs, and whom it concerns of those who read here.
    pub(crate) fn tell(&self, shown: Shown) {
        let Shown { changes, heads } = shown;
        self.heads.send_if_modified(|now| {
            let before = *now;
            *now = [now[0].max(heads[0]), now[1].max(heads[1])];
            *now != before
        });
        if changes.is_empty() {
            return;
        }
        let readers = lock(&self.readers);
        for (space, key, author, previous) in changes {
            let place = (space, key);
            if let Some(of_key) = readers.of_key.get(&place) {
                of_key.iter().for_each(|wake| wake.wake());
            }
            let (space, key) = place;
            for wake in &readers.others {
                // One that is awake already need not be asked.
                if !wake.is_set() && wake.concerns(&space, &key, author, previous) {
                    wake.wake();
                }
            }
        }
    }

    /// The counter of our newest entry that is durable here, and of which document.
    pub(crate) fn own_head(&self) -> (u64, u64) {
        // What was shown is in the log before its writer knows, and its followers are told after that.
        let log = lock(&self.logs[self.ours.index()]);
        (log.number, log.entries.back().map_or(log.floor, |newest| newest.counter))
    }

    /// The entries of an author after this counter, if they are all in memory.
    pub(crate) fn recent_after(&self, author: KvAuthor, counter: u64) -> Option<Vec<Arc<Sealed>>> {
        let log = lock(&self.logs[author.index()]);
        if counter < log.floor {
            return None;
        }
        let from = log.entries.partition_point(|entry| entry.counter <= counter);
        Some(log.entries.range(from..).cloned().collect())
    }

    /// Adds a reader, that is woken from now on.
    pub(crate) fn add_reader(&self, wake: &Arc<Wake>) {
        let mut readers = lock(&self.readers);
        match wake.only_key() {
            Some(place) => readers.of_key.entry(place).or_default().push(wake.clone()),
            None => readers.others.push(wake.clone()),
        }
    }

    pub(crate) fn remove_reader(&self, wake: &Arc<Wake>) {
        let mut readers = lock(&self.readers);
        match wake.only_key() {
            Some(place) => {
                if let Some(of_key) = readers.of_key.get_mut(&place) {
                    of_key.retain(|other| !Arc::ptr_eq(other, wake));
                    if of_key.is_empty() {
                        readers.of_key.remove(&place);
                    }
                }
            }
            None => readers.others.retain(|other| !Arc::ptr_eq(other, wake)),
        }
    }

    pub(crate) fn is_open_in_engine(&self) -> bool {
        self.open_in_engine.load(Ordering::SeqCst)
    }

    pub(crate) fn set_open_in_engine(&self, open: bool) {
        self.open_in_engine.store(open, Ordering::SeqCst);
    }

    /// Whether the end of a session is to be told in the log: the first of several that fail one after another. Who
    /// connects again and again is not to fill it.
    pub(crate) fn complains(&self, failed: bool) -> bool {
        !self.complained.swap(failed, Ordering::SeqCst) && failed
    }

    /// An entry of ours is left out of what the other side is sent: it counts as not delivered, unless it is no longer the
    /// newest of its key.
    pub(crate) fn leave_out(&self, identity: &Identity, envelope: &Envelope, counter: u64) {
        let view = read(&self.view);
        let mut left_out = lock(&self.left_out);
        let newest = view.winner(&envelope.space, &envelope.key);
        let is_newest = newest.is_some_and(|newest| newest.author == self.ours && newest.stamp == envelope.stamp);
        if is_newest && !identity.replaced.is_cancelled() {
            left_out.add(envelope.document_key(), counter);
            self.tell_left_out(&left_out);
        }
    }

    /// Returns true if the newest entry of this document key is left out.
    pub(crate) fn is_left_out(&self, key: &[u8; 32]) -> bool {
        lock(&self.left_out).has(key)
    }

    /// A whole reconciliation of our entries up to this counter has offered these to the other side.
    pub(crate) fn offered(&self, identity: &Identity, upto: u64, offered: &HashSet<[u8; 32]>) {
        let mut left_out = lock(&self.left_out);
        if !left_out.is_empty() && !identity.replaced.is_cancelled() {
            left_out.reconciled(upto, |key| offered.contains(key));
            self.tell_left_out(&left_out);
        }
    }

    fn tell_left_out(&self, left_out: &LeftOut) {
        let lowest = left_out.lowest();
        self.delivered.send_if_modified(|delivered| std::mem::replace(&mut delivered.left_out, lowest) != lowest);
    }

    /// A value is left out, since one of the sides does not take any so large: which, in words.
    pub(crate) fn too_large(&self, what: String) {
        self.status.send_if_modified(|status| status.leaves_out(what));
    }

    /// A reconciliation has found no such value.
    pub(crate) fn nothing_too_large(&self) {
        self.status.send_if_modified(LinkStatus::leaves_out_nothing);
    }

    /// A reconciliation has found both sides alike. What was to be waited for before it counts on for a while: the other side
    /// may only say that they are.
    pub(crate) fn reconciled(&self, before: Reconciles) {
        self.status.send_modify(LinkStatus::found_alike);
        *lock(&self.reconciles) = before.filter(|(then, _)| then.elapsed() < KV_RECONCILE_PERIOD);
    }

    /// Puts off the next reconciliation.
    pub(crate) fn reconciles_after(&self, pause: Duration) {
        *lock(&self.reconciles) = Some((Instant::now() + pause, KV_RECONCILE_AFTER));
    }

    /// Puts off the next reconciliation for twice as long as the one before, up to [`KV_RECONCILE_PERIOD`]. Returns what was to be
    /// waited for until now.
    pub(crate) fn reconciles_later(&self) -> Reconciles {
        let mut reconciles = lock(&self.reconciles);
        let before = reconciles.map_or(KV_RECONCILE_AFTER, |(_, pause)| pause);
        let pause = (2 * before).min(KV_RECONCILE_PERIOD);
        reconciles.replace((Instant::now() + pause, pause))
    }

    /// For how long there is to be no reconciliation.
    pub(crate) fn reconciles_in(&self) -> Duration {
        lock(&self.reconciles).map_or(Duration::ZERO, |(then, _)| then.saturating_duration_since(Instant::now()))
    }

    /// Waits until no session synchronises the document.
    pub(crate) async fn until_no_session(&self) {
        // The sender lives in the document, which the caller holds.
        let _ = self.session.subscribe().wait_for(Option::is_none).await;
    }

    /// Ends the session that synchronises the document, if there is one.
    pub(crate) fn close_session(&self, why: CloseCode) {
        if let Some(active) = &*self.session.borrow() {
            active.close(why);
        }
    }

    fn wake_all(&self) {
        let readers = lock(&self.readers);
        readers.others.iter().chain(readers.of_key.values().flatten()).for_each(|wake| wake.wake());
    }

    /// Ends every stream, after what was shown before.
    pub(crate) fn end(&self, why: KvEnded) {
        write(&self.ended).get_or_insert(why);
        self.wake_all();
    }

    pub(crate) fn ended(&self) -> Option<KvEnded> {
        *read(&self.ended)
    }
}
