//! Whole paths: any order of give, rule, wipe, kill, open, fork, copy, changes of access, cuts and
//! restarts leaves every permitted reader at the publisher's state, and no other with anything that
//! was given since it was not permitted.
//!
//! Three nodes: two publish three paths each, and everyone follows every path of the others. Readers
//! are driven by an [`Outflow`] over a store, through encoded frames that arrive late or never, into
//! an [`Inflow`] and a tide of their own, from which a path can be copied. Beside them stands a model
//! that knows what was given when, and who could read it then.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

mod deeds;
mod streams;

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    num::NonZeroU64,
};

use crate::common::{Log, Store, info, rock_bytes};
use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Cursor, Digest, Epoch, Frequency, Rule, Tide, Tombstone,
    publisher::Outflow,
    subscriber::Inflow,
    tide::{Changes, Next},
    wire::{Message, encode_frame},
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
