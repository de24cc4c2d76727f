//! The tide beside a model of it that forgets nothing: whatever is given, dropped, pruned,
//! begun anew and restored, every cursor is answered as the history says.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::{collections::BTreeMap, collections::BTreeSet, num::NonZeroU64};

use crate::common::{Store, cursor, epoch, info};
use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Epoch, Frequency, Rule, Tide,
    limits::{
        AUTOMATIC_ROCK_FLOOR_BYTES, DEFAULT_HORIZON, PRUNE_SLACK_WAVES, RECENT_BYTES, ROCK_CHUNK_BYTES,
        WAVE_OVERHEAD_BYTES,
    },
    publisher::{Outflow, Step},
    tide::{Changes, Next, RestoreError, RockInfo},
};
use proptest::prelude::*;

/// One commit, or one that does not happen.
#[derive(Debug, Clone)]
struct Op {
    /// Begin anew, in this epoch, so far ahead.
    anew: Option<(u8, u64)>,
    /// Keep the history, in this epoch.
    renew: Option<u8>,
    rule: Option<Rule>,
    /// The sizes of the waves that are given.
    waves: Vec<usize>,
    /// Then so many more of one byte.
    more: usize,
    /// Give so many waves more, with their rocks, and take them back.
    take_back: usize,
    /// A rock at the end, whatever the rule says.
    wipe: bool,
    /// Whether it becomes durable and is committed, or is dropped.
    durable: bool,
    /// Restart afterwards.
    restart: bool,
}

fn rule() -> impl Strategy<Value = Rule> {
    let frequency = prop_oneof![
        2 => Just(Frequency::Automatic),
        3 => (1_u64..40).prop_map(|waves| Frequency::Every(NonZeroU64::new(waves).unwrap())),
        1 => Just(Frequency::Never),
    ];
    let horizon = prop_oneof![
        1 => Just(None),
        4 => (0_u64..60).prop_map(Some),
        1 => Just(Some(DEFAULT_HORIZON)),
        1 => Just(Some(u64::MAX)),
    ];
    (frequency, horizon).prop_map(|(frequency, horizon)| Rule { frequency, horizon })
}

fn op() -> impl Strategy<Value = Op> {
    let more = prop_oneof![6 => Just(0), 1 => 0..350_usize];
    (
        prop::option::weighted(0.1, (0_u8..3, 0_u64..50)),
        prop::option::weighted(0.25, rule()),
        prop::collection::vec(prop_oneof![2 => 0..100_usize, 1 => 0..2_000_usize], 0..40),
        more,
        prop_oneof![3 => Just(0), 1 => 1..20_usize],
        prop::option::weighted(0.1, 0_u8..3),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.15),
    )
        .prop_map(|(anew, rule, waves, more, take_back, renew, wipe, durable, restart)| Op {
            anew,
            renew,
            rule,
            waves,
            more,
            take_back,
            wipe,
            durable,
            restart,
        })
}

/// The whole history since the tide last began, and what may have been lost of it.
#[derive(Debug, Clone)]
struct Model {
    epoch: Epoch,
    begin: Aeon,
    rule: Rule,
    /// The waves after `begin`, all of them.
    history: Vec<Bytes>,
    /// The rocks that the rules so far keep.
    rocks: BTreeMap<Aeon, RockInfo>,
    /// Every rule so far kept the waves after this aeon.
    lost: Aeon,
}

impl Model {
    fn head(&self) -> Aeon {
        Aeon(self.begin.0 + self.history.len() as u64)
    }

    fn wave(&self, aeon: Aeon) -> &Bytes {
        &self.history[(aeon.0 - self.begin.0 - 1) as usize]
    }

    fn newest_rock(&self) -> Aeon {
        *self.rocks.last_key_value().unwrap().0
    }

    fn oldest_rock(&self) -> Aeon {
        *self.rocks.first_key_value().unwrap().0
    }

    /// What the rule keeps, as its documentation says it.
    fn prune(&mut self) {
        let (oldest, newest, head) = (self.oldest_rock(), self.newest_rock(), self.head());
        self.rocks.retain(|aeon, _| {
            *aeon == newest
                || match self.rule.horizon {
                    Some(waves) => *aeon >= head.back(waves),
                    None => *aeon == oldest,
                }
        });
        self.lost = self.lost.max(match self.rule.horizon {
            Some(waves) => head.back(waves),
            None => oldest,
        });
    }

    fn wants_rock(&self) -> bool {
        let since = &self.history[(self.newest_rock().0 - self.begin.0) as usize..];
        match self.rule.frequency {
            Frequency::Automatic => {
                let weight: u64 = since.iter().map(|wave| wave.len() as u64 + WAVE_OVERHEAD_BYTES).sum();
                weight > AUTOMATIC_ROCK_FLOOR_BYTES.max(self.rocks[&self.newest_rock()].bytes)
            }
            Frequency::Every(waves) => since.len() as u64 >= waves.get(),
            Frequency::Never => false,
        }
    }
}

/// The tide under test, its store, and the model beside them.
struct World {
    tide: Tide,
    store: Store,
    model: Model,
    waves_made: u64,
}

impl World {
    fn new(rule: Rule) -> Self {
        let (store, tide) = Store::begin(cursor(0, 0), rule, b"rock 0".to_vec());
        let rocks = tide.rocks().collect();
        let model = Model { epoch: epoch(0), begin: Aeon::ZERO, rule, history: Vec::new(), rocks, lost: Aeon::ZERO };
        Self { tide, store, model, waves_made: 0 }
    }

    /// A wave such as there was none before.
    fn new_wave(&mut self, size: usize) -> Bytes {
        self.waves_made += 1;
        self.waves_made.to_be_bytes().iter().rev().copied().cycle().take(size).collect()
    }

    fn push(&mut self, changes: &mut Changes, model: &mut Model, rocks: &mut BTreeMap<Aeon, Vec<u8>>, size: usize) {
        let wave = self.new_wave(size);
        let aeon = changes.push_wave(wave.clone());
        model.history.push(wave);
        assert_eq!(aeon, model.head());
        assert_eq!(changes.wants_rock(&self.tide), model.wants_rock(), "at {aeon}");
        if changes.wants_rock(&self.tide) {
            push_rock(changes, model, rocks);
        }
    }

    fn run(&mut self, op: &Op) {
        let mut changes = self.tide.stage();
        let mut model = self.model.clone();
        let mut rocks = BTreeMap::new();
        assert!(changes.is_empty());
        if let Some((number, ahead)) = op.anew {
            // In its own epoch a tide never begins anew behind itself.
            let same = epoch(number) == model.epoch;
            let at = cursor(number, if same { model.head().0 + ahead } else { ahead });
            let rock = format!("rock {} anew {}", at.aeon, self.waves_made).into_bytes();
            changes.begin_anew(at, info(&rock));
            model = Model {
                epoch: at.epoch,
                begin: at.aeon,
                rule: model.rule,
                history: Vec::new(),
                rocks: BTreeMap::from([(at.aeon, info(&rock))]),
                lost: at.aeon,
            };
            rocks.insert(at.aeon, rock);
        }
        if let Some(rule) = op.rule {
            changes.set_rule(rule);
            model.rule = rule;
        }
        for size in op.waves.iter().copied().chain(std::iter::repeat_n(1, op.more)) {
            self.push(&mut changes, &mut model, &mut rocks, size);
        }
        if op.take_back > 0 {
            let mark = changes.mark();
            let (before, mut model, mut rocks) = (format!("{changes:?}"), model.clone(), rocks.clone());
            for _ in 0..op.take_back {
                self.push(&mut changes, &mut model, &mut rocks, 1_500);
            }
            push_rock(&mut changes, &mut model, &mut rocks);
            changes.roll_back(mark);
            assert_eq!(format!("{changes:?}"), before, "taken back, and not as before");
        }
        if let Some(number) = op.renew {
            changes.renew_epoch(epoch(number));
            model.epoch = epoch(number);
        }
        if op.wipe {
            push_rock(&mut changes, &mut model, &mut rocks);
        }
        changes.prune(&self.tide);
        model.prune();
        assert_eq!(changes.head(), model.head());
        if op.durable {
            self.store.apply(&changes, &rocks);
            self.tide.commit(changes);
            self.model = model;
            self.check_bounds(op.rule.is_some());
        }
        if op.restart {
            self.tide = self.store.restore();
        }
    }

    /// What may be kept at most, right after a commit.
    fn check_bounds(&self, rule_changed: bool) {
        let (tide, model) = (&self.tide, &self.model);
        let needed = model.head().0 - model.oldest_rock().0;
        let wanted = match model.rule.horizon {
            Some(waves) => needed.max(waves),
            None => needed,
        };
        let slack = if rule_changed { 0 } else { PRUNE_SLACK_WAVES };
        let kept = tide.kept_waves();
        assert!(kept <= wanted.saturating_add(slack), "{kept} waves kept, {wanted} wanted by {:?}", model.rule);
    }

    fn check(&self) {
        let (tide, store, model) = (&self.tide, &self.store, &self.model);
        let head = model.head();
        assert_eq!(tide.cursor(), Cursor { epoch: model.epoch, aeon: head });
        assert_eq!((tide.rule(), store.rule), (model.rule, model.rule));
        // What the tide says is kept is what is stored, all of it, as it was given.
        assert_eq!(tide.rocks().collect::<BTreeMap<_, _>>(), model.rocks);
        let stored: BTreeMap<_, _> = store.rocks.iter().map(|(aeon, rock)| (*aeon, info(rock))).collect();
        assert_eq!(stored, model.rocks);
        let kept = Aeon(head.0 + 1 - tide.kept_waves());
        assert!(store.waves.keys().copied().eq((kept.0..=head.0).map(Aeon)), "gaps or leftovers");
        assert!(store.waves.iter().all(|(aeon, wave)| wave == model.wave(*aeon)));
        assert!(kept <= model.newest_rock().next(), "a wave since the newest rock is gone");
        assert!(kept <= model.lost.next(), "waves that every rule kept are gone");
        for aeon in model.begin.0.saturating_sub(2)..=head.0 + 2 {
            self.check_cursor(kept, Aeon(aeon));
            assert_eq!(tide.digest_at(Aeon(aeon)), model.rocks.get(&Aeon(aeon)).map(|info| info.digest));
        }
        self.check_reader_from_nothing();
        self.check_recent();
        self.check_restored();
    }

    fn check_cursor(&self, kept: Aeon, aeon: Aeon) {
        let (tide, model) = (&self.tide, &self.model);
        let head = model.head();
        let newest = model.newest_rock();
        let rock = Next::Rock { aeon: newest, info: model.rocks[&newest] };
        assert_eq!(tide.next(Some(Cursor { epoch: epoch(77), aeon })), rock);
        let answer = tide.next(Some(Cursor { epoch: model.epoch, aeon }));
        match answer {
            Next::Ahead => assert!(aeon > head),
            Next::Wait => assert_eq!(aeon, head),
            Next::Waves { first, last } => {
                assert_eq!((first, last), (aeon.next(), head));
                assert!(aeon < head && first >= kept && aeon >= model.begin);
            }
            Next::Rock { .. } => {
                assert_eq!(answer, rock);
                assert!(aeon < newest, "a rock never brings a reader of its epoch back");
                assert!(aeon < model.lost, "a reader within every horizon gets its waves");
            }
        }
    }

    /// Whatever the rule: a rock that is stored, and every wave after it.
    fn check_reader_from_nothing(&self) {
        let Next::Rock { aeon, info: told } = self.tide.next(None) else { panic!("nothing but a rock will do") };
        assert_eq!(told, info(&self.store.rocks[&aeon]));
        let at = Cursor { epoch: self.model.epoch, aeon };
        match self.tide.next(Some(at)) {
            Next::Wait => assert_eq!(aeon, self.model.head()),
            Next::Waves { first, last } => {
                assert_eq!((first, last), (aeon.next(), self.model.head()));
                assert!((first.0..=last.0).all(|aeon| self.store.waves.contains_key(&Aeon(aeon))));
            }
            other => panic!("{other:?} after the rock"),
        }
    }

    fn check_recent(&self) {
        let (tide, model) = (&self.tide, &self.model);
        let head = model.head().0;
        let pruned = Aeon(head - tide.kept_waves());
        assert_eq!(tide.recent_from(pruned, 0), None, "a pruned wave is held in memory");
        let step = (model.history.len() / 16).max(1);
        let firsts = (model.begin.0 + 1..=head).step_by(step).chain([head.max(1), head + 1]);
        for first in firsts.filter(|first| *first > model.begin.0).map(Aeon) {
            for most in [0, 150, 3_000, usize::MAX] {
                let Some(waves) = tide.recent_from(first, most) else { continue };
                assert!((first.0..).map(Aeon).zip(&waves).all(|(aeon, wave)| wave == model.wave(aeon)));
                let weight = |waves: &[Bytes]| waves.iter().map(|wave| wave.len() + WAVE_OVERHEAD_BYTES as usize).sum();
                assert_eq!(waves.is_empty(), first.0 == head + 1);
                let all = first.0 + waves.len() as u64 == head + 1;
                let weight: usize = weight(&waves);
                assert!(waves.len() <= 1 || weight <= most, "more than was asked for");
                let next = first.0 + waves.len() as u64;
                let fits = |more: usize| weight + more + WAVE_OVERHEAD_BYTES as usize <= most;
                assert!(all || !fits(model.wave(Aeon(next)).len()), "less than was asked for");
                assert!(waves.iter().map(Bytes::len).sum::<usize>() <= RECENT_BYTES);
            }
        }
    }

    fn check_restored(&self) {
        let (tide, again) = (&self.tide, self.store.restore());
        assert_eq!(again.cursor(), tide.cursor());
        assert_eq!(again.rule(), tide.rule());
        assert_eq!(again.kept_waves(), tide.kept_waves());
        assert!(again.rocks().eq(tide.rocks()));
        assert_eq!(again.stage().wants_rock(&again), tide.stage().wants_rock(tide));
        let places = (0..=self.model.head().0 + 2).map(|aeon| Cursor { epoch: self.model.epoch, aeon: Aeon(aeon) });
        assert!(places.map(Some).chain([None]).all(|place| again.next(place) == tide.next(place)));
    }
}

fn push_rock(changes: &mut Changes, model: &mut Model, rocks: &mut BTreeMap<Aeon, Vec<u8>>) {
    let aeon = model.head();
    if model.rocks.contains_key(&aeon) {
        // A second rock of one aeon is none.
        changes.push_rock(info(b"another"));
        return;
    }
    // A few rocks are large, so that the automatic rule has something to weigh waves against.
    let size = (aeon.0 * 7_919) % if aeon.0.is_multiple_of(16) { 150_000 } else { 100 };
    let rock: Vec<u8> = aeon.0.to_be_bytes().into_iter().cycle().take(size as usize).collect();
    changes.push_rock(info(&rock));
    model.rocks.insert(aeon, info(&rock));
    rocks.insert(aeon, rock);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_cursor_is_answered_as_the_history_says(first in rule(), ops in prop::collection::vec(op(), 1..12)) {
        let mut world = World::new(first);
        world.check();
        for op in &ops {
            world.run(op);
            world.check();
        }
    }
}

/// A tide of so many waves under a rule, each in a commit of its own.
fn tide_of(waves: u64, rule: Rule) -> World {
    let mut world = World::new(rule);
    let op = Op {
        anew: None,
        renew: None,
        rule: None,
        waves: vec![1],
        more: 0,
        take_back: 0,
        wipe: false,
        durable: true,
        restart: false,
    };
    for _ in 0..waves {
        world.run(&op);
    }
    world
}

fn every(waves: u64, horizon: Option<u64>) -> Rule {
    Rule { frequency: Frequency::Every(NonZeroU64::new(waves).unwrap()), horizon }
}

#[test]
fn the_horizon_has_its_edge_at_its_number() {
    // With the slack gathered, exactly the horizon is left.
    let horizon = 10;
    let world = tide_of(PRUNE_SLACK_WAVES + horizon + 1, every(1, Some(horizon)));
    assert_eq!(world.tide.kept_waves(), horizon);
    let head = world.tide.cursor();
    let edge = Cursor { aeon: head.aeon.back(horizon), ..head };
    assert!(matches!(world.tide.next(Some(edge)), Next::Waves { .. }));
    let beyond = Cursor { aeon: edge.aeon.back(1), ..head };
    assert!(matches!(world.tide.next(Some(beyond)), Next::Rock { .. }));
    assert_eq!(world.tide.rocks().count() as u64, horizon + 1);
    // One wave fewer, and nothing was dropped yet.
    assert_eq!(
        tide_of(PRUNE_SLACK_WAVES + horizon, every(1, Some(horizon))).tide.kept_waves(),
        PRUNE_SLACK_WAVES + horizon
    );
}

#[test]
fn a_rule_prunes_at_once() {
    let mut world = tide_of(50, every(10, Some(DEFAULT_HORIZON)));
    assert_eq!((world.tide.kept_waves(), world.tide.rocks().count()), (50, 6));
    let mut changes = world.tide.stage();
    changes.set_rule(every(10, Some(15)));
    changes.prune(&world.tide);
    assert!(!changes.is_empty());
    assert_eq!(changes.dropped_rocks(), [Aeon(0), Aeon(10), Aeon(20), Aeon(30)]);
    assert_eq!(changes.dropped_waves(), Aeon(1)..Aeon(36));
    world.tide.commit(changes);
    assert_eq!((world.tide.kept_waves(), world.tide.rocks().count()), (15, 2));
}

#[test]
fn no_horizon_keeps_the_oldest_and_the_newest_rock_and_all_between() {
    let world = tide_of(2_000, every(7, None));
    let rocks: BTreeSet<_> = world.tide.rocks().map(|(aeon, _)| aeon.0).collect();
    assert_eq!(rocks, BTreeSet::from([0, 1_995]));
    assert_eq!(world.tide.kept_waves(), 2_000);
}

#[test]
fn a_tide_that_never_makes_rocks_keeps_its_whole_history() {
    let world = tide_of(2_000, Rule { frequency: Frequency::Never, horizon: Some(0) });
    assert_eq!(world.tide.kept_waves(), 2_000);
    assert_eq!(world.tide.rocks().count(), 1);
}

#[test]
fn rows_that_do_not_join_are_refused() {
    let rocks = BTreeMap::from([(Aeon(10), info(b"rock"))]);
    let restore = |rocks: &BTreeMap<_, _>, waves: Option<(u64, u64)>| {
        let waves = waves.map(|(first, last)| (Aeon(first), Aeon(last)));
        Tide::restore(epoch(0), Rule::default(), rocks.clone(), waves, 0).map(|tide| tide.cursor().aeon.0)
    };
    let gap = |first, last| Err(RestoreError::Gap { first: Aeon(first), last: Aeon(last), rock: Aeon(10) });
    assert_eq!(restore(&BTreeMap::new(), Some((1, 5))), Err(RestoreError::NoRock));
    assert_eq!(restore(&rocks, None), Ok(10));
    assert_eq!(restore(&rocks, Some((11, 12))), Ok(12));
    assert_eq!(restore(&rocks, Some((3, 10))), Ok(10));
    assert_eq!(restore(&rocks, Some((12, 15))), gap(12, 15));
    assert_eq!(restore(&rocks, Some((3, 9))), gap(3, 9));
    assert_eq!(restore(&rocks, Some((12, 11))), gap(12, 11));
}

/// A tide whose newest rock is of several chunks, at its head.
fn tide_with_large_rock(rule: Rule, waves: u64) -> (Tide, RockInfo) {
    let mut tide = tide_of(waves, rule).tide;
    let large = info(&vec![7; 3 * ROCK_CHUNK_BYTES]);
    let mut changes = tide.stage();
    changes.push_wave(Bytes::from_static(b"w"));
    changes.push_rock(large);
    tide.commit(changes);
    (tide, large)
}

fn give(tide: &mut Tide, waves: u64, rock: bool) {
    let mut changes = tide.stage();
    for _ in 0..waves {
        changes.push_wave(Bytes::from_static(b"w"));
    }
    if rock {
        changes.push_rock(info(b"small"));
    }
    changes.prune(tide);
    tide.commit(changes);
}

#[test]
fn a_reader_that_falls_behind_is_told_again_when_it_has_caught_up() {
    let mut tide = tide_of(3, every(1, Some(2))).tide;
    let mut outflow = Outflow::new(Some(cursor(0, 3)));
    outflow.resumed();
    assert_eq!(outflow.poll(&tide), Step::CaughtUp(Aeon(3)));
    outflow.told_caught_up();
    assert_eq!(outflow.poll(&tide), Step::Wait);
    // A live wave is live: nothing more is said.
    give(&mut tide, 1, true);
    assert_eq!(outflow.poll(&tide), Step::Waves { first: Aeon(4), last: Aeon(4) });
    outflow.waves_sent(Aeon(4));
    assert_eq!(outflow.poll(&tide), Step::Wait);
    // A rock in the stream is a gap: what follows it is a catch-up once more.
    give(&mut tide, 400, true);
    let Step::BeginRock { at, info } = outflow.poll(&tide) else { panic!("a rock for a reader behind") };
    outflow.rock_begun(at, info);
    outflow.chunk_sent(info.bytes);
    assert!(!outflow.is_caught_up());
    assert_eq!(outflow.poll(&tide), Step::CaughtUp(Aeon(404)));
}

#[test]
fn after_a_rock_that_went_comes_a_newer_one_and_then_its_waves() {
    let never = Rule { frequency: Frequency::Never, horizon: Some(0) };
    let (mut tide, large) = tide_with_large_rock(never, 0);
    let mut outflow = Outflow::new(None);
    let Step::BeginRock { at, info: told } = outflow.poll(&tide) else { panic!("a rock for a new reader") };
    assert_eq!((at, told), (cursor(0, 1), large));
    outflow.rock_begun(at, told);
    assert_eq!(outflow.poll(&tide), Step::Chunk { aeon: Aeon(1), index: 0 });
    outflow.chunk_sent(ROCK_CHUNK_BYTES as u64);
    assert_eq!(outflow.poll(&tide), Step::Chunk { aeon: Aeon(1), index: 1 });
    // Meanwhile the tide goes on, and drops that rock: storage has no such row.
    give(&mut tide, 400, true);
    give(&mut tide, 3, false);
    assert_eq!(tide.digest_at(Aeon(1)), None);
    outflow.rock_gone();
    let newer = Step::BeginRock { at: cursor(0, 401), info: info(b"small") };
    assert_eq!(outflow.poll(&tide), newer);
    outflow.rock_begun(cursor(0, 401), info(b"small"));
    outflow.chunk_sent(5);
    assert_eq!(outflow.cursor(), Some(cursor(0, 401)));
    assert_eq!(outflow.poll(&tide), Step::Waves { first: Aeon(402), last: Aeon(404) });
    outflow.waves_sent(Aeon(404));
    assert_eq!(outflow.poll(&tide), Step::CaughtUp(Aeon(404)));
    assert!(!outflow.is_caught_up());
    outflow.told_caught_up();
    assert!(outflow.is_caught_up());
    assert_eq!(outflow.poll(&tide), Step::Wait);
}

#[test]
fn a_rock_under_way_is_not_finished_with_another_of_the_same_aeon() {
    for same_epoch in [true, false] {
        let (mut tide, large) = tide_with_large_rock(Rule::default(), 0);
        let mut outflow = Outflow::new(None);
        outflow.rock_begun(cursor(0, 1), large);
        outflow.chunk_sent(ROCK_CHUNK_BYTES as u64);
        assert_eq!(outflow.poll(&tide), Step::Chunk { aeon: Aeon(1), index: 1 });
        let other = info(&vec![8; 3 * ROCK_CHUNK_BYTES]);
        let at = cursor(if same_epoch { 0 } else { 1 }, 1);
        let mut changes = tide.stage();
        changes.begin_anew(at, other);
        tide.commit(changes);
        assert_eq!(outflow.poll(&tide), Step::BeginRock { at, info: other });
        outflow.rock_begun(at, other);
        assert_eq!(outflow.poll(&tide), Step::Chunk { aeon: Aeon(1), index: 0 });
    }
}

#[test]
fn a_reader_that_knows_more_is_never_sent_waves() {
    let tide = tide_of(5, Rule::default()).tide;
    assert_eq!(Outflow::new(Some(cursor(0, 6))).poll(&tide), Step::Ahead);
    assert_eq!(Outflow::new(Some(cursor(0, u64::MAX))).poll(&tide), Step::Ahead);
    assert_eq!(Outflow::new(Some(cursor(0, 5))).poll(&tide), Step::Resume(cursor(0, 5)));
    assert!(matches!(Outflow::new(Some(cursor(1, 5))).poll(&tide), Step::BeginRock { .. }));
}
