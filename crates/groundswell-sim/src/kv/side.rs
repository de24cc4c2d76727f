//! What a node has in memory, and how it begins again from its disk.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use groundswell_core::{
    Epoch,
    kv::{
        AuthorCounter, Change, Clock, Delivered, KvAuthor, KvKey, KvView, LeftOut, SpaceName, Stamp,
        restored::Returned,
        sync::{EntryKey, KvSync, Received},
        wire::{Held, KvHello},
    },
};

use super::{
    KvBug,
    context::{Context, Event, SideId},
    disk::{Disk, Entry, Outcome, Rows, Stored},
    readers::Reader,
    world::World,
};
use crate::checkers::{Broken, Law};

/// What the keeper is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// A local write.
    Write { side: SideId, space: SpaceName, key: KvKey, change: Change },
    /// Entries that came from the other side, and a mark.
    Take { side: SideId, connection: u64, entries: Vec<Rc<Entry>>, upto: Option<(KvAuthor, u64)> },
    /// Values that a reconciliation found missing.
    Missing { side: SideId, places: Vec<(EntryKey, u64)> },
    /// The other side is going to be sent this side's entries up to here.
    Sent { side: SideId, connection: u64, counter: u64 },
    /// The other side holds more of this side's entries than it was sent. With a hello, its session has not begun.
    WentBack { side: SideId, connection: u64, held_there: u64, hello: Option<KvHello> },
    /// The other side has sent back what it has up to here.
    Agree { side: SideId, connection: u64, upto: u64, returned: Returned },
}

/// Who waits for a flush.
#[derive(Debug)]
pub(crate) enum Answer {
    Write { side: SideId, entry: Rc<Entry> },
    Take { side: SideId, connection: u64 },
    Missing { side: SideId, places: Vec<EntryKey> },
    Sent { side: SideId, connection: u64, counter: u64 },
    WentBack { side: SideId, connection: u64, from: Option<u64>, hello: Option<KvHello> },
    Agreed { side: SideId, connection: u64, upto: u64, head: u64 },
}

/// What a batch does to one side.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) entries: Vec<Rc<Entry>>,
    pub(crate) heads: Held,
    /// Which of the keys that are written in this batch have a value.
    pub(crate) live: BTreeMap<[u8; 32], ((Stamp, KvAuthor), bool)>,
}

/// What is made durable together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Rows,
    pub(crate) answers: Vec<Answer>,
    pub(crate) staged: BTreeMap<SideId, Staged>,
    /// What is sent as soon as it is durable.
    pub(crate) sent: Vec<(SideId, u64)>,
}

/// A process with a disk.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) run: u64,
    pub(crate) boot: u64,
    pub(crate) parting: bool,
    /// The most bytes of a value that it takes.
    pub(crate) limit: usize,
    /// The wall clock shows this at time 0.
    pub(crate) wall: u64,
    pub(crate) disk: Disk,
    pub(crate) queue: VecDeque<Command>,
    pub(crate) batch: Option<Batch>,
    /// How the next flushes end.
    pub(crate) fails: Option<(Outcome, u64)>,
    /// Copies of its disk, the oldest first.
    pub(crate) backups: Vec<Vec<Stored>>,
    /// It does not start before.
    pub(crate) down_until: u64,
}

impl Node {
    pub(crate) fn new(documents: usize, limit: usize, wall: u64) -> Self {
        Self {
            up: false,
            run: 0,
            boot: 0,
            parting: false,
            limit,
            wall,
            disk: Disk::new(documents),
            queue: VecDeque::new(),
            batch: None,
            fails: None,
            backups: Vec::new(),
            down_until: 0,
        }
    }
}

/// Entries, and up to where an author's are held with them.
pub(crate) type Commit = (Vec<Rc<Entry>>, Option<(KvAuthor, u64)>);

/// What a session has received and is being stored.
#[derive(Debug)]
pub(crate) struct Receiving {
    pub(crate) commits: VecDeque<Commit>,
    pub(crate) received: Received,
    /// Nothing more comes.
    pub(crate) ends: bool,
}

/// What a step of a session has read from disk.
#[derive(Debug)]
pub(crate) enum ReadRows {
    Entries { author: KvAuthor, entries: Vec<Rc<Entry>>, last: u64 },
    Answer(Vec<Rc<Entry>>),
    Missing(Vec<EntryKey>),
}

/// A session of one side.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: u64,
    pub(crate) dialled_by: KvAuthor,
    pub(crate) boot: u64,
    pub(crate) since: u64,
    pub(crate) sync: KvSync,
    /// The most bytes of a value that the other side takes.
    pub(crate) takes: usize,
    /// What the other side's hello said.
    pub(crate) hello: Held,
    pub(crate) receiving: Option<Receiving>,
    pub(crate) reading: Option<ReadRows>,
    /// It waits for the keeper before it goes on.
    pub(crate) noting: bool,
    /// What the other side has sent back, where this side agrees first.
    pub(crate) returned: Option<Returned>,
    pub(crate) finished: bool,
    /// How many wants are not answered.
    pub(crate) open_wants: usize,
    /// What was sent, what came, and what was wanted, in this session.
    pub(crate) sent: BTreeSet<(EntryKey, u64)>,
    pub(crate) came: BTreeSet<(EntryKey, u64)>,
    /// Up to where what came was marked as whole.
    pub(crate) marked: Held,
    pub(crate) wanted: BTreeMap<EntryKey, u64>,
    pub(crate) acked: Held,
    pub(crate) caught_up: bool,
    /// Marks that the state machine has not heard of, for a deliberate bug.
    pub(crate) late: Vec<(KvAuthor, u64)>,
}

/// One side of one document in memory.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) id: SideId,
    pub(crate) view: KvView,
    pub(crate) clock: Clock,
    pub(crate) counter: AuthorCounter,
    pub(crate) heads: Held,
    /// The other side was sent this side's entries up to here at most.
    pub(crate) sent: u64,
    /// This side went back, and agrees first.
    pub(crate) agrees: bool,
    pub(crate) delivered: Delivered,
    pub(crate) left_out: LeftOut,
    pub(crate) session: Option<Session>,
    /// The connection that this side has dialled and that has not been answered.
    pub(crate) dialling: Option<u64>,
    /// A value was found missing, and the session was not told.
    pub(crate) missing: bool,
    /// What was noted as missing and not asked for since.
    pub(crate) unasked: BTreeSet<EntryKey>,
    pub(crate) current: bool,
    pub(crate) readers: Vec<Reader>,
    /// A state machine of an earlier session, for a deliberate bug.
    pub(crate) kept: Option<KvSync>,
}

impl Side {
    pub(crate) fn new(id: SideId, readers: Vec<Reader>) -> Self {
        Self {
            id,
            view: KvView::new(Epoch([0; 16])),
            clock: Clock::restore(None),
            counter: AuthorCounter::restore(0),
            heads: Held::default(),
            sent: 0,
            agrees: false,
            delivered: Delivered::default(),
            left_out: LeftOut::default(),
            session: None,
            dialling: None,
            missing: false,
            unasked: BTreeSet::new(),
            current: false,
            readers,
            kept: None,
        }
    }

    /// Begins again from what is stored.
    fn load(&mut self, disk: &Disk, cx: &mut Context) -> Result<(), Broken> {
        let stored = &disk.documents[self.id.doc];
        self.view = KvView::new(Epoch(u128::from(cx.number()).to_be_bytes()));
        let (mut bound, mut heads) = (stored.bound, stored.held);
        for entry in stored.entries.values() {
            if entry.author == self.id.author && !cx.has(KvBug::CounterForgotten) {
                bound = bound.max(entry.counter + 1);
            }
            if entry.author == self.id.author {
                heads.raise(entry.author, entry.counter);
            }
            let applied = self.view.apply(entry.author, entry.envelope.clone());
            applied.map_err(|error| Law::Storage.broken(error.to_string()))?;
        }
        self.clock = Clock::restore(stored.clock);
        self.clock.observe(self.view.newest_stamp());
        if cx.has(KvBug::ClockForgotten) {
            self.clock = Clock::restore(None);
        }
        self.counter = AuthorCounter::restore(if cx.has(KvBug::CounterForgotten) { 0 } else { bound });
        self.heads = heads;
        self.sent = stored.sent;
        self.agrees = stored.restored > 0;
        self.delivered = Delivered::default();
        if self.agrees && !cx.has(KvBug::DeliveredBeforeAgreed) {
            self.delivered.agreed = u64::MAX;
        }
        self.left_out = LeftOut::default();
        (self.session, self.dialling, self.kept) = (None, None, None);
        (self.missing, self.current) = (false, false);
        self.unasked = stored.missing.keys().copied().collect();
        Ok(())
    }
}

impl World {
    pub(crate) fn side(&mut self, id: SideId) -> &mut Side {
        &mut self.sides[id.doc][id.author.index()]
    }

    pub(crate) fn sides_of(&self, node: usize) -> Vec<SideId> {
        let all = self.sides.iter().flatten().map(|side| side.id);
        all.filter(|id| id.node() == node).collect()
    }

    pub(crate) fn wall(&self, node: usize) -> u64 {
        self.nodes[node].wall.saturating_add(self.cx.now)
    }

    /// A node starts.
    pub(crate) fn start(&mut self, node: usize) -> Result<(), Broken> {
        if self.nodes[node].up {
            return Ok(());
        }
        let down_until = self.nodes[node].down_until;
        if self.cx.now < down_until {
            self.cx.at(down_until, Event::NodeUp { node });
            return Ok(());
        }
        let boot = self.cx.number();
        self.cx.note(|| format!("node {node} starts"));
        let one = &mut self.nodes[node];
        (one.up, one.boot, one.parting) = (true, boot, false);
        one.run += 1;
        for id in self.sides_of(node) {
            let disk = &self.nodes[node].disk;
            self.sides[id.doc][id.author.index()].load(disk, &mut self.cx)?;
            self.truth.restarted(id, disk)?;
            for reader in 0..self.side(id).readers.len() {
                self.revive(id, reader);
            }
            self.cx.after(500, Event::Dial { side: id });
        }
        // What one of them holds is not lost by a restart of the other.
        self.check_all_delivered()
    }

    /// A node's process ends: what is not durable is gone.
    pub(crate) fn end(&mut self, node: usize, is_power_cut: bool) -> Result<(), Broken> {
        if !self.nodes[node].up {
            return Ok(());
        }
        // A process that parts waits for its disk.
        let which = if is_power_cut { self.cx.rng.index(3) } else { 1 };
        self.cx.note(|| format!("node {node} ends{}", if is_power_cut { " without its power" } else { "" }));
        let one = &mut self.nodes[node];
        one.up = false;
        one.queue.clear();
        let outcome_known = one.batch.take().is_some_and(|batch| !batch.rows.is_empty());
        let survived = one.disk.crash(which, self.cx.bug());
        if which == 2 && !survived.is_empty() {
            self.cx.report.unknown_survived += 1;
        }
        self.cx.report.power_cuts += u64::from(is_power_cut && outcome_known);
        self.truth.register_rows(node, &survived)?;
        self.truth.forget_doubts(&self.sides_of(node));
        for id in self.sides_of(node) {
            self.side(id).session = None;
            let connections: Vec<u64> =
                self.connections.iter().filter(|(_, one)| one.doc == id.doc).map(|(n, _)| *n).collect();
            for connection in connections {
                self.cut(connection, Some(id.author));
            }
        }
        if is_power_cut && self.damages && self.cx.rng.chance(50) {
            self.damage(node);
        }
        Ok(())
    }

    /// Single values of the other side's vanish from a disk.
    fn damage(&mut self, node: usize) {
        for id in self.sides_of(node) {
            let stored = &mut self.nodes[node].disk.documents[id.doc];
            let theirs: Vec<EntryKey> = stored.entries.keys().filter(|place| place.0 != id.author).copied().collect();
            let percent = if self.bulk && self.cx.rng.chance(80) { 90 } else { 15 };
            for place in theirs {
                if self.cx.rng.chance(percent)
                    && let Some(lost) = stored.lose(&place)
                {
                    self.cx.report.went_missing += 1;
                    self.cx.note(|| format!("{id:?} loses its entry {} of {:?}", lost.counter, lost.envelope.key));
                    self.truth.damaged(id, place, lost.counter);
                }
            }
        }
    }
}
