//! Whole paths: any order of give, rule, wipe, kill, open, fork, copy, changes of access, cuts and
//! restarts leaves every permitted reader at the publisher's state, and no other with anything that
//! was given since it was not permitted.
//!
//! Three nodes: two publish three paths each, and everyone follows every path of the others. Readers
//! are driven by an [`Outflow`] over a store, through encoded frames that arrive late or never, into
//! an [`Inflow`] and a tide of their own, from which a path can be copied. Beside them stands a model
//! that knows what was given when, and who could read it then.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

mod common;

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    num::NonZeroU64,
};

use bytes::Bytes;
use common::{Log, Store, epoch, info, rock_bytes, wash};
use groundswell_core::{
    Access, AccessError, Aeon, Cursor, Digest, Epoch, Frequency, Lake, Rule, Tide, Tombstone,
    encoding::{decode, encode},
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
    subscriber::{Inflow, Intake},
    tide::{Changes, Next},
    wire::{FRAME_HEADER_BYTES, Message, encode_frame, frame_length},
};
use proptest::{prelude::*, test_runner::TestRunner};

/// Without optimisation a tenth of them takes as long.
const CASES: u32 = if cfg!(debug_assertions) { 1_500 } else { 12_000 };
const NODES: usize = 3;
const PUBLISHERS: usize = 2;
const PATHS: usize = 3;
const HOMES: usize = PUBLISHERS * PATHS;
const STREAMS: usize = HOMES * (NODES - 1);
/// No stream of these cases needs as many steps, unless it never ends.
const MANY_STEPS: usize = 20_000;
/// A wave of so many bytes makes its rock larger than one chunk.
const LARGE: usize = 70_000;

/// A change of who may read; peers are bits.
#[derive(Debug, Clone, Copy)]
enum Change {
    Public,
    Secret,
    Allow(u8),
    Block(u8),
}

/// What is done to one path by its publisher, as one transaction.
#[derive(Debug, Clone)]
enum Deed {
    Open,
    /// Give waves, of which some are large.
    Give(Vec<u8>),
    /// Give so many small ones.
    GiveMany(usize),
    Rule(Rule),
    Wipe,
    Kill,
    /// Fork another path of the same publisher onto this one.
    Fork(usize),
    /// Copy a path of the other publisher onto this one.
    Copy(usize),
    Access(Change),
}

#[derive(Debug, Clone)]
enum Op {
    Do {
        home: usize,
        deed: Deed,
        /// Whether its transaction succeeds.
        durable: bool,
    },
    /// Let every stream go on a little: the publisher by so many steps, the reader by so many frames.
    Flow {
        steps: [usize; 5],
        frames: [usize; 5],
        batch: usize,
    },
    /// These streams are made, where they are not.
    Connect(u16),
    /// These streams are cut; what was under way is lost.
    Cut(u16),
    Restart(usize),
    ReplicaRule(usize, Rule),
    ReplicaWipe(usize),
    Quit(usize),
    Settle,
}

fn rule() -> impl Strategy<Value = Rule> {
    let frequency = prop_oneof![
        1 => Just(Frequency::Automatic),
        3 => (1_u64..8).prop_map(|waves| Frequency::Every(NonZeroU64::new(waves).unwrap())),
        1 => Just(Frequency::Never),
    ];
    let horizon = prop_oneof![1 => Just(None), 4 => (0_u64..12).prop_map(Some), 1 => Just(Some(1_000))];
    (frequency, horizon).prop_map(|(frequency, horizon)| Rule { frequency, horizon })
}

fn change() -> impl Strategy<Value = Change> {
    let peers = 0_u8..1 << NODES;
    prop_oneof![
        3 => Just(Change::Public),
        2 => Just(Change::Secret),
        4 => peers.clone().prop_map(Change::Allow),
        4 => peers.prop_map(Change::Block),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        2 => Just(Deed::Open),
        60 => prop::collection::vec(any::<u8>(), 1..6).prop_map(Deed::Give),
        1 => (255_usize..280).prop_map(Deed::GiveMany),
        8 => rule().prop_map(Deed::Rule),
        8 => Just(Deed::Wipe),
        12 => Just(Deed::Kill),
        10 => (0..PATHS).prop_map(Deed::Fork),
        20 => (0..PATHS).prop_map(Deed::Copy),
        24 => change().prop_map(Deed::Access),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let flow = (prop::array::uniform5(0_usize..6), prop::array::uniform5(0_usize..6), 1_usize..4);
    let done = (0..HOMES, deed(), prop::bool::weighted(0.92));
    prop_oneof![
        60 => done.prop_map(|(home, deed, durable)| Op::Do { home, deed, durable }),
        35 => flow.prop_map(|(steps, frames, batch)| Op::Flow { steps, frames, batch }),
        8 => any::<u16>().prop_map(Op::Connect),
        4 => any::<u16>().prop_map(Op::Cut),
        4 => (0..NODES).prop_map(Op::Restart),
        2 => (0..STREAMS, rule()).prop_map(|(stream, rule)| Op::ReplicaRule(stream, rule)),
        2 => (0..STREAMS).prop_map(Op::ReplicaWipe),
        2 => (0..STREAMS).prop_map(Op::Quit),
        4 => Just(Op::Settle),
    ]
}

/// How often what happened: what never happened was not tested.
type Counts = BTreeMap<&'static str, u64>;

/// One aeon of one epoch, as it was made.
#[derive(Clone)]
struct State {
    rock: Digest,
    wave: Option<Bytes>,
    /// When it was made durable.
    made: usize,
}

/// What the model knows of one path.
struct Model {
    at: Option<Cursor>,
    killed_at: Option<Cursor>,
    public: bool,
    allowed: [bool; NODES],
    /// Access was given to this path itself.
    access_said: bool,
    wiped: bool,
    /// Since when each node may not read it; `None` where it may.
    closed_since: [Option<usize>; NODES],
    ever_open: [bool; NODES],
}

/// What a publisher's disk holds of a path.
#[derive(Clone, Default)]
struct Rows {
    store: Option<Store>,
    tombstone: Option<Tombstone>,
    access: Option<Access<usize>>,
}

/// A path at its publisher: what is durable, and what is in memory.
struct Home {
    rows: Rows,
    tide: Option<Tide>,
    rock: Vec<String>,
    access: Access<usize>,
}

impl Home {
    /// From what is durable, as after a restart.
    fn load(rows: Rows, default_access: &Access<usize>) -> Self {
        let tide = rows.store.as_ref().map(Store::restore);
        let rock = rows.store.as_ref().map(Store::fold::<Log>).unwrap_or_default();
        let access = rows.access.clone().unwrap_or_else(|| default_access.clone());
        Self { rows, tide, rock, access }
    }

    fn commit(&mut self, mut changes: Changes, rocks: &BTreeMap<Aeon, Vec<u8>>, durable: bool) {
        let (Some(tide), Some(store)) = (&mut self.tide, &mut self.rows.store) else { panic!("no path to change") };
        changes.prune(tide);
        if durable {
            store.apply(&changes, rocks);
            tide.commit(changes);
        } else {
            self.rock = store.fold::<Log>();
        }
    }
}

/// A reader of a path: its replica, and the stream that feeds it.
struct Reader {
    home: usize,
    node: usize,
    rows: Option<Store>,
    tide: Option<Tide>,
    rock: Vec<String>,
    rule: Rule,
    /// The source has ended for this reader.
    killed: bool,
    /// The newest aeon of each epoch that it ever had.
    newest: BTreeMap<Epoch, Aeon>,
    stream: Option<Stream>,
}

struct Stream {
    outflow: Outflow,
    parked: bool,
    inflow: Inflow,
    pipe: VecDeque<Vec<u8>>,
    /// What was sent since it last was a stream that is served, or since it began.
    closed_bytes: Vec<u8>,
    /// Whether what arrived has led to a state, and how many bytes of a rock are to come until then.
    led: bool,
    rock_left: Option<u64>,
    caught_up: bool,
}

struct World {
    default_access: Access<usize>,
    homes: Vec<Home>,
    models: Vec<Model>,
    readers: Vec<Reader>,
    truth: BTreeMap<Epoch, BTreeMap<Aeon, State>>,
    now: usize,
    epochs: u8,
    waves: u32,
    not_available: Vec<u8>,
    counts: Counts,
}

fn frame(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_frame(message, &mut bytes).unwrap();
    bytes
}

impl World {
    fn new(default_public: bool) -> Self {
        let default_access = if default_public { Access::Public } else { Access::secret() };
        let homes = (0..HOMES).map(|_| Home::load(Rows::default(), &default_access)).collect();
        let models = (0..HOMES).map(|_| Model {
            at: None,
            killed_at: None,
            public: default_public,
            allowed: [false; NODES],
            access_said: false,
            wiped: false,
            closed_since: [Some(0); NODES],
            ever_open: [false; NODES],
        });
        let pairs = (0..HOMES).flat_map(|home| (0..NODES).map(move |node| (home, node)));
        let readers = pairs.filter(|(home, node)| home / PATHS != *node).map(|(home, node)| Reader {
            home,
            node,
            rows: None,
            tide: None,
            rock: Vec::new(),
            rule: Rule::default(),
            killed: false,
            newest: BTreeMap::new(),
            stream: None,
        });
        let mut world = Self {
            default_access,
            homes,
            models: models.collect(),
            readers: readers.collect(),
            truth: BTreeMap::new(),
            now: 0,
            epochs: 0,
            waves: 0,
            not_available: frame(&Message::NotAvailable),
            counts: Counts::new(),
        };
        assert_eq!(world.readers.len(), STREAMS);
        // Who asks before there is anything waits, and is served as the others are.
        world.connect(u16::MAX);
        world
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn run(&mut self, op: &Op) {
        self.now += 1;
        match op {
            Op::Do { home, deed, durable } => {
                self.act(*home, deed, *durable);
                self.note_who_may_read(*home);
                self.check_home(*home);
            }
            Op::Flow { steps, frames, batch } => {
                for reader in 0..STREAMS {
                    // Neither number divides the other's period, so that streams differ.
                    for _ in 0..steps[reader % 5] {
                        self.serve(reader, *batch);
                    }
                    for _ in 0..frames[(reader * 2) % 5] {
                        self.deliver(reader);
                    }
                }
            }
            Op::Connect(which) => self.connect(*which),
            Op::Cut(which) => {
                for reader in (0..STREAMS).filter(|reader| which >> reader & 1 == 1) {
                    self.readers[reader].stream = None;
                }
            }
            Op::Restart(node) => self.restart(*node),
            Op::ReplicaRule(reader, rule) => self.change_replica(*reader, Some(*rule)),
            Op::ReplicaWipe(reader) => self.change_replica(*reader, None),
            Op::Quit(reader) => {
                let Reader { home, node, .. } = self.readers[*reader];
                let fresh = Reader {
                    home,
                    node,
                    rows: None,
                    tide: None,
                    rock: Vec::new(),
                    rule: Rule::default(),
                    killed: false,
                    newest: BTreeMap::new(),
                    stream: None,
                };
                self.readers[*reader] = fresh;
            }
            Op::Settle => self.settle(),
        }
    }

    fn act(&mut self, home: usize, deed: &Deed, durable: bool) {
        if !durable {
            self.count("transactions that failed");
        }
        match deed {
            Deed::Open => self.open(home, durable),
            Deed::Give(waves) => {
                let length = |wave: &u8| if wave.is_multiple_of(128) { LARGE } else { usize::from(wave % 5) };
                self.give(home, waves.iter().map(length), durable);
            }
            Deed::GiveMany(count) => self.give(home, std::iter::repeat_n(0, *count), durable),
            Deed::Rule(rule) => self.set_rule(home, *rule, durable),
            Deed::Wipe => self.wipe(home, durable),
            Deed::Kill => self.kill(home, durable),
            Deed::Fork(from) => self.fork(home / PATHS * PATHS + from, home, durable),
            Deed::Copy(from) => {
                let from = (1 - home / PATHS) * PATHS + from;
                let own = |reader: &Reader| reader.home == from && reader.node == home / PATHS;
                let reader = self.readers.iter().position(own).unwrap();
                self.copy(reader, home, durable);
            }
            Deed::Access(change) => self.change_access(home, *change, durable),
        }
    }

    fn new_epoch(&mut self) -> Epoch {
        self.epochs += 1;
        epoch(self.epochs)
    }

    /// Publishes the default rock, unless the path is published.
    fn open(&mut self, home: usize, durable: bool) {
        if self.homes[home].tide.is_some() || !durable {
            return;
        }
        let new = self.new_epoch();
        let (at, rule) = match self.homes[home].rows.tombstone {
            Some(tombstone) => (tombstone.reopened_at(), tombstone.rule),
            None => (Cursor { epoch: new, aeon: Aeon::ZERO }, Rule::default()),
        };
        let rock = rock_bytes::<Log>(&Vec::new());
        let model = &mut self.models[home];
        match model.killed_at.take() {
            Some(killed) => {
                assert_eq!(at, Cursor { aeon: Aeon(killed.aeon.0 + 1), ..killed }, "reopened elsewhere");
                *self.counts.entry("paths reopened").or_default() += 1;
            }
            None => assert_eq!(at, Cursor { epoch: new, aeon: Aeon::ZERO }),
        }
        model.at = Some(at);
        let state = State { rock: Digest::of(&rock), wave: None, made: self.now };
        let before = self.truth.entry(at.epoch).or_default().insert(at.aeon, state);
        assert!(before.is_none(), "{at} is published twice");
        let (store, tide) = Store::begin(at, rule, rock);
        let home = &mut self.homes[home];
        home.rows.store = Some(store);
        home.rows.tombstone = None;
        (home.tide, home.rock) = (Some(tide), Vec::new());
    }

    fn give(&mut self, home: usize, lengths: impl Iterator<Item = usize>, durable: bool) {
        self.open(home, durable);
        let Some(tide) = &self.homes[home].tide else { return };
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        let mut given = Vec::new();
        for length in lengths {
            self.waves += 1;
            // No two waves are equal, so that no history is another by chance.
            let line = format!("{}{}", self.waves, "x".repeat(length));
            let Home { rock, tide: Some(tide), .. } = &mut self.homes[home] else { return };
            let Ok(()) = Log::wash(rock, &line);
            let (wave, bytes) = (Bytes::from(encode(&line).unwrap()), rock_bytes::<Log>(rock));
            let aeon = changes.push_wave(wave.clone());
            given.push((aeon, State { rock: Digest::of(&bytes), wave: Some(wave), made: self.now }));
            if changes.wants_rock(tide) {
                changes.push_rock(info(&bytes));
                rocks.insert(aeon, bytes);
            }
        }
        self.homes[home].commit(changes, &rocks, durable);
        if !durable {
            return;
        }
        let model = &mut self.models[home];
        let at = model.at.as_mut().unwrap();
        for (aeon, state) in given {
            assert_eq!(aeon, at.aeon.next());
            at.aeon = aeon;
            let before = self.truth.get_mut(&at.epoch).unwrap().insert(aeon, state);
            assert!(before.is_none(), "{at} is published twice");
        }
        model.wiped = false;
    }

    fn set_rule(&mut self, home: usize, rule: Rule, durable: bool) {
        let Home { tide: Some(tide), rock, .. } = &self.homes[home] else { return };
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        changes.set_rule(rule);
        if changes.wants_rock(tide) {
            let bytes = rock_bytes::<Log>(rock);
            changes.push_rock(info(&bytes));
            rocks.insert(changes.head(), bytes);
        }
        self.homes[home].commit(changes, &rocks, durable);
        let kept = self.homes[home].tide.as_ref().unwrap().rule();
        assert_eq!(self.homes[home].rows.store.as_ref().unwrap().rule, kept);
        assert!(!durable || kept == rule);
    }

    fn wipe(&mut self, home: usize, durable: bool) {
        let Home { tide: Some(tide), rock, .. } = &self.homes[home] else { return };
        let (changes, rocks) = wiped(tide, rock);
        self.homes[home].commit(changes, &rocks, durable);
        self.models[home].wiped |= durable;
        self.count("wipes");
    }

    fn kill(&mut self, home: usize, durable: bool) {
        let at_home = &mut self.homes[home];
        let Some(tide) = at_home.tide.as_ref().filter(|_| durable) else { return };
        at_home.rows.tombstone = Some(tide.tombstone());
        at_home.rows.store = None;
        (at_home.tide, at_home.rock) = (None, Vec::new());
        let model = &mut self.models[home];
        model.killed_at = model.at.take();
        model.wiped = false;
        self.count("kills");
    }

    fn fork(&mut self, from: usize, to: usize, durable: bool) {
        let Home { tide: Some(tide), rows, rock, access } = &self.homes[from] else { return };
        let copied = (tide.clone(), rows.store.clone().unwrap(), rock.clone());
        let access = self.homes[to].rows.access.clone().unwrap_or_else(|| access.clone());
        let (public, allowed) = (self.models[from].public, self.models[from].allowed);
        if self.replicate(copied, to, access, durable) {
            self.count("forks");
            let model = &mut self.models[to];
            if !std::mem::replace(&mut model.access_said, true) {
                (model.public, model.allowed) = (public, allowed);
            }
        }
    }

    fn copy(&mut self, from: usize, to: usize, durable: bool) {
        let Reader { tide: Some(tide), rows: Some(store), rock, home: source, .. } = &self.readers[from] else {
            return;
        };
        let stale = self.models[*source].at != Some(tide.cursor());
        let copied = (tide.clone(), store.clone(), rock.clone());
        if self.replicate(copied, to, Access::secret(), durable) {
            self.count(if stale { "copies of stale replicas" } else { "copies of live replicas" });
            let model = &mut self.models[to];
            (model.access_said, model.public, model.allowed) = (true, false, [false; NODES]);
        }
    }

    fn replicate(
        &mut self,
        (tide, mut store, rock): (Tide, Store, Vec<String>),
        to: usize,
        access: Access<usize>,
        durable: bool,
    ) -> bool {
        if self.homes[to].tide.is_some() || !durable {
            return false;
        }
        let (old, new) = (tide.cursor(), self.new_epoch());
        let tide = tide.forked(new);
        store.epoch = new;
        let at = Cursor { epoch: new, ..old };
        assert_eq!(tide.cursor(), at);
        assert_eq!(tide.rule(), store.rule);
        let history = self.truth[&old.epoch].range(..=old.aeon);
        // To its readers all of it is made now.
        let history = history.map(|(aeon, state)| (*aeon, State { made: self.now, ..state.clone() })).collect();
        assert!(self.truth.insert(new, history).is_none(), "{new} is an epoch twice");
        assert_eq!(self.truth[&new][&at.aeon].rock, Digest::of(&rock_bytes::<Log>(&rock)));
        self.homes[to] =
            Home::load(Rows { store: Some(store), tombstone: None, access: Some(access) }, &self.default_access);
        // What stands in memory is the fork, not what a restart makes of its rows.
        self.homes[to].tide = Some(tide);
        let model = &mut self.models[to];
        (model.at, model.killed_at, model.wiped) = (Some(at), None, false);
        true
    }

    fn change_access(&mut self, home: usize, change: Change, durable: bool) {
        let peers = |mask: u8| (0..NODES).filter(move |node| mask >> node & 1 == 1);
        let before = self.homes[home].access.clone();
        let after = match change {
            Change::Public => Ok(Access::Public),
            Change::Secret => Ok(Access::secret()),
            Change::Allow(mask) => before.allow(peers(mask)),
            Change::Block(mask) => before.block(peers(mask)),
        };
        let model = &mut self.models[home];
        if model.public && matches!(change, Change::Block(_)) {
            assert_eq!(after, Err(AccessError::BlockOnPublic));
            self.count("blocks refused on a public path");
            return;
        }
        let after = after.unwrap();
        if !durable {
            return;
        }
        match change {
            Change::Public => model.public = true,
            Change::Secret => (model.public, model.allowed) = (false, [false; NODES]),
            Change::Allow(_) if model.public => {}
            Change::Allow(mask) => peers(mask).for_each(|node| model.allowed[node] = true),
            Change::Block(mask) => peers(mask).for_each(|node| model.allowed[node] = false),
        }
        if model.public {
            model.allowed = [false; NODES];
        }
        model.access_said = true;
        self.homes[home].rows.access = Some(after.clone());
        self.homes[home].access = after;
    }

    /// Whether this node may read this path now, as the model has it.
    fn may_read(&self, home: usize, node: usize) -> bool {
        let model = &self.models[home];
        model.at.is_some() && (model.public || model.allowed[node])
    }

    fn note_who_may_read(&mut self, home: usize) {
        for node in 0..NODES {
            let may = self.may_read(home, node);
            let model = &mut self.models[home];
            model.ever_open[node] |= may;
            model.closed_since[node] = if may { None } else { model.closed_since[node].or(Some(self.now)) };
        }
    }

    fn restart(&mut self, node: usize) {
        for home in (0..HOMES).filter(|home| home / PATHS == node) {
            let rows = self.homes[home].rows.clone();
            self.homes[home] = Home::load(rows, &self.default_access);
            self.check_home(home);
        }
        for reader in &mut self.readers {
            if reader.home / PATHS == node || reader.node == node {
                reader.stream = None;
            }
            if reader.node == node {
                reader.tide = reader.rows.as_ref().map(Store::restore);
                reader.rock = reader.rows.as_ref().map(Store::fold::<Log>).unwrap_or_default();
            }
        }
    }

    fn change_replica(&mut self, reader: usize, rule: Option<Rule>) {
        let reader = &mut self.readers[reader];
        reader.rule = rule.unwrap_or(reader.rule);
        let (Some(tide), Some(store)) = (&mut reader.tide, &mut reader.rows) else { return };
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        match rule {
            Some(rule) => changes.set_rule(rule),
            None => (changes, rocks) = wiped(tide, &reader.rock),
        }
        changes.prune(tide);
        store.apply(&changes, &rocks);
        tide.commit(changes);
        if rule.is_none() {
            assert_eq!((store.rocks.len(), store.waves.len()), (1, 0), "a wiped replica");
        }
    }

    fn connect(&mut self, which: u16) {
        for (number, reader) in self.readers.iter_mut().enumerate() {
            if which >> number & 1 == 0 || reader.stream.is_some() {
                continue;
            }
            let stands = reader.tide.as_ref().map(Tide::cursor);
            reader.stream = Some(Stream {
                outflow: Outflow::new(stands),
                parked: false,
                inflow: Inflow::new(stands, stands),
                pipe: VecDeque::new(),
                closed_bytes: Vec::new(),
                led: false,
                rock_left: None,
                caught_up: false,
            });
        }
    }

    /// The publisher takes one step of a stream. False where it waits.
    fn serve(&mut self, number: usize, batch: usize) -> bool {
        let reader = &mut self.readers[number];
        let Some(stream) = &mut reader.stream else { return false };
        let home = &self.homes[reader.home];
        let Some(tide) = home.tide.as_ref().filter(|_| home.access.allows(&reader.node)) else {
            if std::mem::replace(&mut stream.parked, true) {
                return false;
            }
            // What was told counts for nothing now; where the reader stands does.
            stream.outflow = Outflow::new(stream.outflow.cursor());
            self.send(number, &frame(&Message::NotAvailable));
            return true;
        };
        stream.parked = false;
        let store = home.rows.store.as_ref().unwrap();
        let mut wire = Vec::new();
        match stream.outflow.poll(tide) {
            Step::Resume(cursor) => {
                wire.push(frame(&Message::Resumed(cursor)));
                stream.outflow.resumed();
            }
            Step::BeginRock { at, info } => {
                wire.push(frame(&Message::Rock { at, bytes: info.bytes, digest: info.digest }));
                stream.outflow.rock_begun(at, info);
            }
            Step::Chunk { aeon, index } => match store.chunk(aeon, index) {
                Some(chunk) => {
                    wire.push(frame(&Message::Chunk(Cow::Borrowed(chunk))));
                    stream.outflow.chunk_sent(chunk.len() as u64);
                    *self.counts.entry("chunks after the first").or_default() += u64::from(index > 0);
                }
                None => {
                    stream.outflow.rock_gone();
                    *self.counts.entry("rocks gone under way").or_default() += 1;
                }
            },
            Step::Waves { first, last } => {
                let stored = || store.waves.range(first..=last).map(|(_, wave)| wave.clone()).collect();
                let waves = tide.recent_from(first, READ_BATCH_BYTES).unwrap_or_else(stored);
                for (aeon, wave) in (first.0..=last.0).map(Aeon).zip(waves).take(batch) {
                    let digest = tide.digest_at(aeon);
                    wire.push(frame(&Message::Wave { aeon, digest, wave: Cow::Borrowed(&wave) }));
                    stream.outflow.waves_sent(aeon);
                }
                assert!(!wire.is_empty(), "no wave is stored");
            }
            Step::CaughtUp(aeon) => {
                assert_eq!(Some(aeon), self.models[reader.home].at.map(|at| at.aeon));
                wire.push(frame(&Message::CaughtUp(aeon)));
                stream.outflow.told_caught_up();
            }
            Step::Wait => return false,
            Step::Ahead => panic!("no reader is ahead of a publisher that lost nothing"),
        }
        for frame in wire {
            self.send(number, &frame);
        }
        true
    }

    /// A frame goes onto the wire: to who may not read, the one that says so, once, and no other.
    fn send(&mut self, number: usize, frame: &[u8]) {
        let (home, node) = (self.readers[number].home, self.readers[number].node);
        let may = self.may_read(home, node);
        let Some(stream) = &mut self.readers[number].stream else { return };
        if may {
            assert_ne!(frame, self.not_available, "who may read is told that there is nothing");
            stream.closed_bytes.clear();
        } else {
            stream.closed_bytes.extend_from_slice(frame);
            assert_eq!(stream.closed_bytes, self.not_available, "sent to who may not read");
        }
        stream.pipe.push_back(frame.to_vec());
    }

    /// A reader takes the next frame, if there is one.
    fn deliver(&mut self, number: usize) -> bool {
        let Some(stream) = &mut self.readers[number].stream else { return false };
        let Some(frame) = stream.pipe.pop_front() else { return false };
        let (header, body) = frame.split_first_chunk::<FRAME_HEADER_BYTES>().unwrap();
        assert_eq!(frame_length(*header).unwrap(), body.len());
        let message: Message<'_> = decode(body).unwrap();
        let (led, mid_rock) = (stream.led, stream.rock_left.is_some());
        match &message {
            Message::Resumed(_) => stream.led = true,
            Message::Rock { bytes, .. } => stream.rock_left = Some(*bytes),
            Message::Chunk(chunk) => stream.rock_left = stream.rock_left.map(|left| left - chunk.len() as u64),
            Message::NotAvailable => (stream.led, stream.rock_left, stream.caught_up) = (false, None, false),
            _ => {}
        }
        stream.led |= stream.rock_left.take_if(|left| *left == 0).is_some();
        let ends = matches!(message, Message::NotAvailable);
        let intake = stream.inflow.handle(message).unwrap();
        if ends && mid_rock {
            *self.counts.entry("rocks that were ended under way").or_default() += 1;
        }
        match intake {
            Intake::Nothing => {}
            Intake::NotAvailable => assert!(ends && !led, "an end is told as an absence"),
            Intake::Killed => {
                assert!(ends && led, "an absence is told as an end");
                self.readers[number].killed = true;
                self.count("readers that were told of an end");
            }
            Intake::Rock { at, digest, rock } => {
                assert_eq!(digest, Digest::of(&rock));
                stream.caught_up = false;
                self.take_rock(number, at, rock);
            }
            Intake::Wave { aeon, digest, wave } => self.take_wave(number, aeon, digest, wave),
            Intake::CaughtUp(aeon) => {
                stream.caught_up = true;
                let reader = &mut self.readers[number];
                assert_eq!(Some(aeon), reader.tide.as_ref().map(|tide| tide.cursor().aeon));
                reader.killed = false;
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn take_rock(&mut self, number: usize, at: Cursor, bytes: Vec<u8>) {
        let reader = &mut self.readers[number];
        reader.rock = decode(&bytes).unwrap();
        match (&mut reader.tide, &mut reader.rows) {
            (Some(tide), Some(store)) => {
                let mut changes = tide.stage();
                changes.begin_anew(at, info(&bytes));
                changes.prune(tide);
                store.apply(&changes, &BTreeMap::from([(at.aeon, bytes)]));
                tide.commit(changes);
            }
            _ => {
                let (store, tide) = Store::begin(at, reader.rule, bytes);
                (reader.rows, reader.tide) = (Some(store), Some(tide));
            }
        }
        self.check_taken(number, at);
    }

    fn take_wave(&mut self, number: usize, aeon: Aeon, digest: Option<Digest>, wave: Vec<u8>) {
        let reader = &mut self.readers[number];
        let (Some(tide), Some(store)) = (&mut reader.tide, &mut reader.rows) else { panic!("a wave before a rock") };
        let before = tide.cursor();
        assert_eq!(aeon, before.aeon.next(), "a gap or a repeat");
        let at = Cursor { aeon, ..before };
        assert_eq!(self.truth[&at.epoch][&aeon].wave.as_deref(), Some(&wave[..]));
        wash::<Log>(&mut reader.rock, &wave);
        let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
        changes.push_wave(wave.into());
        if digest.is_some() || changes.wants_rock(tide) {
            let bytes = rock_bytes::<Log>(&reader.rock);
            assert!(digest.is_none_or(|digest| digest == Digest::of(&bytes)), "the digest differs");
            changes.push_rock(info(&bytes));
            rocks.insert(aeon, bytes);
        }
        changes.prune(tide);
        store.apply(&changes, &rocks);
        tide.commit(changes);
        self.check_taken(number, at);
    }

    /// What a reader has taken is what was given, was given while it could read, and is nothing older
    /// than what it had.
    fn check_taken(&mut self, number: usize, at: Cursor) {
        let reader = &mut self.readers[number];
        assert_eq!(reader.tide.as_ref().map(Tide::cursor), Some(at));
        let state = &self.truth[&at.epoch][&at.aeon];
        assert_eq!(Digest::of(&rock_bytes::<Log>(&reader.rock)), state.rock, "another state at {at}");
        let newest = reader.newest.entry(at.epoch).or_insert(at.aeon);
        assert!(at.aeon >= *newest, "back from {newest} to {at}");
        *newest = at.aeon;
        let model = &self.models[reader.home];
        assert!(model.ever_open[reader.node], "a reader that was never permitted has {at}");
        if let Some(closed) = model.closed_since[reader.node] {
            assert!(state.made <= closed, "{at} was given after the reader could read");
            self.count("states that arrived after the end");
        }
    }

    /// What a path keeps brings any reader up to date, is what its tide says, and survives a restart.
    fn check_home(&self, home: usize) {
        let (home, model) = (&self.homes[home], &self.models[home]);
        assert_eq!(home.tide.as_ref().map(Tide::cursor), model.at);
        assert_eq!(home.rows.tombstone.map(|tombstone| tombstone.at), model.killed_at);
        let (Some(tide), Some(store)) = (&home.tide, &home.rows.store) else {
            assert!(home.tide.is_none() && home.rows.store.is_none(), "a killed path keeps rows");
            return;
        };
        self.check_kept(tide, store);
        assert_eq!(rock_bytes::<Log>(&home.rock), rock_bytes::<Log>(&store.fold::<Log>()));
        if model.wiped {
            assert_eq!((tide.rocks().count(), tide.kept_waves()), (1, 0), "a wiped tide");
        }
    }

    fn check_kept(&self, tide: &Tide, store: &Store) {
        let at = tide.cursor();
        assert_eq!(store.epoch, at.epoch);
        assert!(store.rocks.keys().copied().eq(tide.rocks().map(|(aeon, _)| aeon)));
        let first = Aeon(at.aeon.0 + 1 - tide.kept_waves());
        assert!(store.waves.keys().copied().eq((first.0..=at.aeon.0).map(Aeon)), "gaps or leftovers");
        let Next::Rock { aeon, info: told } = tide.next(None) else { panic!("nothing but a rock will do") };
        assert_eq!(told, info(&store.rocks[&aeon]));
        assert!(first <= aeon.next(), "a wave since the newest rock is gone");
        assert_eq!(Digest::of(&rock_bytes::<Log>(&store.fold::<Log>())), self.truth[&at.epoch][&at.aeon].rock);
        let again = store.restore();
        assert_eq!((again.cursor(), again.rule(), again.kept_waves()), (at, tide.rule(), tide.kept_waves()));
    }

    /// Nothing fails any more, and everything arrives.
    fn settle(&mut self) {
        self.connect(u16::MAX);
        for reader in 0..STREAMS {
            let steps = (0..MANY_STEPS).take_while(|_| self.serve(reader, 4)).count();
            assert!(steps < MANY_STEPS, "the stream does not end");
            while self.deliver(reader) {}
            self.check_settled(reader);
        }
        (0..HOMES).for_each(|home| self.check_home(home));
    }

    fn check_settled(&mut self, number: usize) {
        let reader = &self.readers[number];
        let (home, model) = (&self.homes[reader.home], &self.models[reader.home]);
        let Some(stream) = &reader.stream else { panic!("not connected") };
        let stands = reader.tide.as_ref().map(Tide::cursor);
        if let (Some(tide), Some(store)) = (&reader.tide, &reader.rows) {
            self.check_kept(tide, store);
        }
        assert_eq!(reader.rows.is_some(), !reader.newest.is_empty(), "what a reader has stays readable");
        if self.may_read(reader.home, reader.node) {
            assert_eq!(stands, home.tide.as_ref().map(Tide::cursor));
            assert_eq!(rock_bytes::<Log>(&reader.rock), rock_bytes::<Log>(&home.rock));
            assert!(stream.caught_up && !reader.killed);
            self.count("readers that may read");
            return;
        }
        assert_eq!(stream.closed_bytes, self.not_available, "all that a reader without leave is sent");
        assert!(!stream.caught_up);
        if !model.ever_open[reader.node] {
            assert_eq!(stands, None);
            self.count("readers that never could");
        } else if let (Some(at), Some(closed)) = (stands, model.closed_since[reader.node]) {
            assert!(self.truth[&at.epoch][&at.aeon].made <= closed);
            self.count("readers that no longer may, and keep what they had");
        }
    }
}

/// A rock at the head, and nothing else.
fn wiped(tide: &Tide, rock: &Vec<String>) -> (Changes, BTreeMap<Aeon, Vec<u8>>) {
    let (mut changes, mut rocks) = (tide.stage(), BTreeMap::new());
    changes.wipe();
    if !changes.has_rock() {
        let bytes = rock_bytes::<Log>(rock);
        changes.push_rock(info(&bytes));
        rocks.insert(changes.head(), bytes);
    }
    (changes, rocks)
}

#[test]
fn who_may_read_has_the_state_and_no_one_else_has_anything() {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    let counts = RefCell::new(Counts::new());
    let history = (any::<bool>(), prop::collection::vec(op(), 1..80));
    let result = TestRunner::new(config).run(&history, |(default_public, ops)| {
        let mut world = World::new(default_public);
        for op in &ops {
            world.run(op);
        }
        world.settle();
        let mut counts = counts.borrow_mut();
        world.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    println!("{:#?}", counts.borrow());
    for what in [
        "blocks refused on a public path",
        "chunks after the first",
        "copies of live replicas",
        "copies of stale replicas",
        "forks",
        "kills",
        "paths reopened",
        "readers that may read",
        "readers that never could",
        "readers that no longer may, and keep what they had",
        "readers that were told of an end",
        "rocks gone under way",
        "rocks that were ended under way",
        "states that arrived after the end",
        "transactions that failed",
        "wipes",
    ] {
        assert!(counts.borrow().contains_key(what), "{what}: never in {CASES} cases");
    }
}
