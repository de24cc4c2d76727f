//! A tide whose history is bounded in bytes: that bound, beside what its rule keeps, holds after every commit and over
//! restarts, and nothing that a reader needs to be brought up to date ever goes.

use std::{collections::BTreeMap, num::NonZeroU64};

use crate::common::{Store, cursor, info};
use groundswell_core::{Aeon, Frequency, Rule, Tide, limits::WAVE_OVERHEAD_BYTES};
use proptest::prelude::*;

/// The bound, and the largest wave and rock: as a replica has them, a thousand times smaller.
const MOST: u64 = 64 * 1024;
const WAVE: usize = 1024;
const ROCK: usize = 2048;

#[derive(Debug, Clone)]
struct Op {
    waves: Vec<usize>,
    rule: Option<Rule>,
    anew: bool,
    restart: bool,
}

fn rule() -> impl Strategy<Value = Rule> {
    let frequency = prop_oneof![
        1 => Just(Frequency::Automatic),
        4 => (1..30_u64).prop_map(|waves| Frequency::Every(NonZeroU64::new(waves).unwrap())),
    ];
    let horizon = prop_oneof![1 => 0..100_u64, 2 => Just(1_000), 1 => Just(u64::MAX)];
    (frequency, horizon).prop_map(|(frequency, horizon)| Rule { frequency, horizon: Some(horizon) })
}

fn op() -> impl Strategy<Value = Op> {
    let waves = prop::collection::vec(prop_oneof![0..10_usize, 0..=WAVE], 0..60);
    (waves, prop::option::weighted(0.1, rule()), prop::bool::weighted(0.03), prop::bool::weighted(0.1))
        .prop_map(|(waves, rule, anew, restart)| Op { waves, rule, anew, restart })
}

fn bounded(tide: Tide, store: &Store) -> Tide {
    tide.bounded(MOST, store.waves.iter().map(|(aeon, wave)| (*aeon, wave.len() as u64)))
}

/// What is kept that no reader needs to be brought up to date.
fn history(store: &Store) -> u64 {
    let newest = *store.rocks.last_key_value().unwrap().0;
    let waves = store.waves.range(..=newest).map(|(_, wave)| wave.len() as u64 + WAVE_OVERHEAD_BYTES);
    waves.sum::<u64>() + store.rocks.range(..newest).map(|(_, rock)| rock.len() as u64).sum::<u64>()
}

/// Commits waves, with the rocks that the rule wants.
fn commit(tide: &mut Tide, store: &mut Store, op: &Op) {
    let mut changes = tide.stage();
    let mut rocks = BTreeMap::new();
    if op.anew {
        let at = cursor(0, changes.head().0 + 5);
        changes.begin_anew(at, info(&[0; ROCK]));
        rocks.insert(at.aeon, vec![0; ROCK]);
    }
    if let Some(rule) = op.rule {
        changes.set_rule(rule);
    }
    for size in &op.waves {
        let aeon = changes.push_wave(vec![1; *size].into());
        if changes.wants_rock(tide) {
            let rock = vec![2; (aeon.0 as usize * 37) % ROCK];
            changes.push_rock(info(&rock));
            rocks.insert(aeon, rock);
        }
    }
    changes.prune(tide);
    store.apply(&changes, &rocks);
    tide.commit(changes);
}

proptest! {
    #[test]
    fn a_history_keeps_to_its_bound(begin in rule(), ops in prop::collection::vec(op(), 1..60)) {
        let (mut store, tide) = Store::begin(cursor(0, 0), begin, Vec::new());
        let mut tide = bounded(tide, &store);
        for op in &ops {
            commit(&mut tide, &mut store, op);
            // What one commit brings behind a newer rock goes with the next.
            let added = op.waves.iter().map(|size| *size as u64 + WAVE_OVERHEAD_BYTES).sum::<u64>();
            prop_assert!(history(&store) <= MOST + added, "{} bytes", history(&store));
            // Readers can be brought up to date.
            let newest = *store.rocks.last_key_value().unwrap().0;
            let head = tide.cursor().aeon;
            let since = (newest.next().0..=head.0).map(Aeon);
            prop_assert!(since.clone().all(|aeon| store.waves.contains_key(&aeon)));
            let first = store.waves.first_key_value().map_or(head.next(), |(aeon, _)| *aeon);
            prop_assert_eq!(store.waves.len() as u64, head.next().0 - first.0, "a gap");
            prop_assert_eq!(tide.kept_waves(), store.waves.len() as u64);
            if op.restart {
                tide = bounded(store.restore(), &store);
            }
        }
    }
}

/// A thousand waves that fit are kept, however often the tide is restored; twice as much is not.
#[test]
fn what_fits_is_kept() {
    for (size, fits) in [(MOST / 1_200 - WAVE_OVERHEAD_BYTES, true), (2 * MOST / 1_000, false)] {
        let rule = Rule { frequency: Frequency::Every(NonZeroU64::new(500).unwrap()), horizon: Some(1_000) };
        let (mut store, tide) = Store::begin(cursor(0, 0), rule, Vec::new());
        let mut tide = bounded(tide, &store);
        for n in 0..2_000 {
            let op = Op { waves: vec![size as usize], rule: None, anew: false, restart: false };
            commit(&mut tide, &mut store, &op);
            if n % 333 == 0 {
                tide = bounded(store.restore(), &store);
            }
        }
        assert_eq!(store.waves.len() >= 1_000, fits, "{} waves of {size} bytes", store.waves.len());
    }
}

/// Who wants everything to be kept has it kept.
#[test]
fn a_rule_without_a_horizon_is_not_bounded() {
    let rule = Rule { frequency: Frequency::Automatic, horizon: None };
    let (mut store, tide) = Store::begin(cursor(0, 0), rule, Vec::new());
    let mut tide = bounded(tide, &store);
    for _ in 0..1_000 {
        commit(&mut tide, &mut store, &Op { waves: vec![WAVE], rule: None, anew: false, restart: false });
    }
    assert_eq!(store.waves.len(), 1_000);
}
