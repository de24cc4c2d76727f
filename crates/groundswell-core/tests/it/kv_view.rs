//! The view and its readers: whatever the order of delivery, two views of the same entries
//! agree; whatever the filter, the lag and the restarts, a reader that has caught up holds
//! exactly what matches, was told nothing twice, and for no key went back in time.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use std::collections::BTreeMap;

use bytes::Bytes;
use groundswell_core::{
    Aeon, Cursor, Epoch,
    kv::{
        Applied, Change, Envelope, KvAuthor, KvEntry, KvEvent, KvFilter, KvKey, KvReader, KvUpdate, KvView, ReaderStep,
        ResetReason, SpaceName, Stamp, TooManyKeys,
    },
    limits::{FEW_KEYS, MAX_KV_KEYS, MAX_VIEW_KEYS, READER_SCAN_KEYS},
};
use proptest::prelude::*;

const KEYS: [&[u8]; 9] = [b"", b"a", b"ab", b"ab\0", b"abc", b"b", b"c", b"\xff", b"\xff\xff"];
const READERS: usize = 3;

fn key(bytes: impl AsRef<[u8]>) -> KvKey {
    KvKey::new(bytes).unwrap()
}

fn epoch(number: u8) -> Epoch {
    Epoch([number; 16])
}

fn space(number: usize) -> SpaceName {
    [SpaceName::default(), SpaceName::new("other").unwrap()][number].clone()
}

fn write(key: &KvKey, stamp: u64, change: Change) -> Envelope {
    let stamp = Stamp { wall_ms: stamp, count: 0 };
    Envelope { space: SpaceName::default(), key: key.clone(), stamp, timestamp: stamp.wall_ms, change }
}

fn put(key: &KvKey, stamp: u64, value: &'static str) -> Envelope {
    write(key, stamp, Change::Put(Bytes::from_static(value.as_bytes())))
}

/// What a key's entry comes to.
type Winning = (Stamp, KvAuthor, Change, u64);
type Model = BTreeMap<(SpaceName, KvKey), Winning>;

/// The simplest thing that is right: the greatest of all that came.
fn model_apply(model: &mut Model, author: KvAuthor, envelope: &Envelope) -> bool {
    let place = (envelope.space.clone(), envelope.key.clone());
    let new = (envelope.stamp, author, envelope.change.clone(), envelope.timestamp);
    let wins = model.get(&place).is_none_or(|old| new > *old);
    if wins {
        model.insert(place, new);
    }
    wins
}

fn model_entries(model: &Model, space: &SpaceName, filter: &KvFilter) -> Vec<KvEntry> {
    let entries = model.iter().filter_map(|((of, key), (_, author, change, timestamp))| {
        let Change::Put(value) = change else { return None };
        let (key, value) = (key.clone(), value.clone());
        (of == space).then_some(KvEntry { key, value, author: *author, timestamp: *timestamp })
    });
    entries.filter(|entry| filter.matches(entry)).collect()
}

fn author() -> impl Strategy<Value = KvAuthor> {
    prop_oneof![Just(KvAuthor::Machine), Just(KvAuthor::Manager)]
}

fn any_key() -> impl Strategy<Value = KvKey> {
    prop::sample::select(KEYS.to_vec()).prop_map(key)
}

/// Few keys, few stamps and few values, so that everything meets.
fn entry() -> impl Strategy<Value = (KvAuthor, Envelope)> {
    let change = prop_oneof![
        5 => prop::collection::vec(0_u8..4, 0..3).prop_map(|value| Change::Put(value.into())),
        2 => Just(Change::Delete),
    ];
    let space = prop_oneof![5 => Just(0_usize), 1 => Just(1)].prop_map(space);
    (author(), space, any_key(), 0_u64..25, 0_u64..2, change).prop_map(
        |(author, space, key, wall_ms, count, change)| {
            let stamp = Stamp { wall_ms, count };
            (author, Envelope { space, key, stamp, timestamp: wall_ms * 10, change })
        },
    )
}

fn filter() -> impl Strategy<Value = KvFilter> {
    let bound = || (0..3_u8, any_key());
    let bound = move || {
        bound().prop_map(|(kind, key)| match kind {
            0 => core::ops::Bound::Unbounded,
            1 => core::ops::Bound::Included(key),
            _ => core::ops::Bound::Excluded(key),
        })
    };
    let leaf = prop_oneof![
        2 => Just(KvFilter::All),
        3 => any_key().prop_map(KvFilter::Key),
        3 => any_key().prop_map(KvFilter::prefix),
        2 => (bound(), bound()).prop_map(|(from, to)| KvFilter::Range(from, to)),
        2 => author().prop_map(KvFilter::Author),
        1 => Just(KvFilter::predicate(|entry| entry.value.len() == 1)),
        1 => Just(KvFilter::predicate(|entry| entry.timestamp % 20 == 0 && !entry.key.as_bytes().is_empty())),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(KvFilter::AnyOf))
}

/// One who follows a store: a reader, and what it has made of the events so far.
struct Client {
    space: SpaceName,
    filter: KvFilter,
    reader: KvReader,
    held: BTreeMap<KvKey, KvEntry>,
    /// The aeon of the newest change of each key that was told.
    told: BTreeMap<KvKey, Aeon>,
    cursor: Option<Cursor>,
    caught_up: bool,
    /// The reader has not resumed, so that it knows what it has shown.
    exact: bool,
    /// The last key of the snapshot so far.
    walked: Option<KvKey>,
    /// Nothing has changed since that should wake it.
    asleep: bool,
}

impl Client {
    fn new(space: SpaceName, filter: KvFilter) -> Self {
        let reader = KvReader::new(space.clone(), filter.clone(), None);
        Self {
            space,
            filter,
            reader,
            held: BTreeMap::new(),
            told: BTreeMap::new(),
            cursor: None,
            caught_up: false,
            exact: true,
            walked: None,
            asleep: false,
        }
    }

    /// The process of the client is restarted; it has stored what it holds, and its cursor.
    fn resume(&mut self) {
        self.reader = KvReader::new(self.space.clone(), self.filter.clone(), self.cursor);
        self.caught_up = false;
        self.exact = self.cursor.is_none();
        self.walked = None;
        self.asleep = false;
    }

    /// One step; whether there may be more.
    fn step(&mut self, view: &KvView) -> bool {
        let step = self.reader.next(view);
        assert!(!self.asleep || step == ReaderStep::Wait, "{:?} was not woken for {step:?}", self.filter);
        match step {
            ReaderStep::Event(update) => self.take(view, update),
            ReaderStep::More => {}
            ReaderStep::Wait => {
                assert!(self.caught_up);
                let expected = view.entries(&self.space, &self.filter);
                let held: Vec<_> = self.held.values().cloned().collect();
                assert_eq!(held, expected, "{:?} holds something else than what matches", self.filter);
                self.asleep = true;
                return false;
            }
        }
        true
    }

    fn take(&mut self, view: &KvView, update: KvUpdate) {
        let KvUpdate { event, cursor, live } = update;
        assert_eq!(cursor.epoch, view.cursor().epoch);
        if let KvEvent::Reset { .. } = event {
            self.held.clear();
            self.told.clear();
            (self.caught_up, self.exact, self.walked, self.cursor) = (false, true, None, None);
        }
        assert_eq!(live, self.caught_up, "{event:?}");
        assert!(self.cursor.is_none_or(|before| before.aeon <= cursor.aeon), "the cursor went back: {event:?}");
        self.cursor = Some(cursor);
        let mut goes_on = |key: &KvKey| {
            let aeon = view.winner(&self.space, key).unwrap().aeon;
            let before = self.told.insert(key.clone(), aeon);
            assert!(before.is_none_or(|before| before < aeon), "told twice, or back in time: {event:?}");
        };
        match &event {
            KvEvent::Put(entry) => {
                goes_on(&entry.key);
                assert_eq!(view.get(&self.space, &entry.key).as_ref(), Some(entry));
                assert!(self.filter.matches(entry));
                if cursor.aeon == Aeon::ZERO {
                    let walked = self.walked.replace(entry.key.clone());
                    assert!(walked.is_none_or(|before| before < entry.key), "the snapshot is not in order");
                }
                self.held.insert(entry.key.clone(), entry.clone());
            }
            KvEvent::Delete { key, author, .. } => {
                goes_on(key);
                let winner = view.winner(&self.space, key).unwrap();
                assert!(winner.deleted && winner.author == *author);
                let held = self.held.remove(key);
                assert!(held.is_some() || self.filter.is_by_key() || !self.exact, "{event:?} of nothing");
            }
            KvEvent::Left { key } => {
                goes_on(key);
                assert!(!self.filter.matches(&view.get(&self.space, key).unwrap()));
                let held = self.held.remove(key);
                assert!(!self.filter.is_by_key() && (held.is_some() || !self.exact), "{event:?} of nothing");
            }
            KvEvent::CaughtUp => {
                assert!(!self.caught_up, "caught up twice");
                self.caught_up = true;
            }
            KvEvent::Reset { .. } => assert_eq!(cursor.aeon, Aeon::ZERO),
        }
        if cursor.aeon > Aeon::ZERO {
            self.holds_all_up_to(view, cursor.aeon);
        }
    }

    /// Of every key that has not changed since, the client holds what matches.
    fn holds_all_up_to(&self, view: &KvView, aeon: Aeon) {
        for key in KEYS.map(key) {
            if view.winner(&self.space, &key).is_some_and(|winner| winner.aeon <= aeon) {
                let expected = view.get(&self.space, &key).filter(|entry| self.filter.matches(entry));
                assert_eq!(self.held.get(&key), expected.as_ref(), "{key} at aeon {aeon} for {:?}", self.filter);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Apply(KvAuthor, Envelope),
    /// This client reads so many steps.
    Read(usize, usize),
    /// This client reads all that there is.
    ReadAll(usize),
    /// This client comes back with its cursor.
    Resume(usize),
    /// This client's reader is dropped for a new one.
    Anew(usize),
    /// The process of the store restarts: all entries, a new epoch.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => entry().prop_map(|(author, envelope)| Op::Apply(author, envelope)),
        12 => (0..READERS, 1_usize..5).prop_map(|(reader, steps)| Op::Read(reader, steps)),
        4 => (0..READERS).prop_map(Op::ReadAll),
        3 => (0..READERS).prop_map(Op::Resume),
        1 => (0..READERS).prop_map(Op::Anew),
        1 => Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_entries_in_any_order_make_the_same_view(
        entries in prop::collection::vec(entry(), 0..40),
        order in any::<prop::sample::Index>(),
        twice in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        filter in filter(),
    ) {
        let mut model = Model::new();
        let mut one = KvView::new(epoch(1));
        for (author, envelope) in &entries {
            let before = one.clone();
            let wins = model_apply(&mut model, *author, envelope);
            match one.apply(*author, envelope.clone()).unwrap() {
                Applied::Won { aeon, previous } => {
                    prop_assert!(wins);
                    prop_assert_eq!(one.winner(&envelope.space, &envelope.key).unwrap().aeon, aeon);
                    let replaced = before.get(&envelope.space, &envelope.key).map(|entry| entry.author);
                    prop_assert_eq!(previous, replaced);
                }
                Applied::Lost => {
                    prop_assert!(!wins);
                    prop_assert_eq!(one.cursor(), before.cursor(), "nothing changed");
                }
            }
        }
        // Another order, with some of them twice.
        let mut other = KvView::new(epoch(2));
        let mut deliveries = entries.clone();
        deliveries.reverse();
        if !entries.is_empty() {
            deliveries.rotate_left(order.index(entries.len()));
            deliveries.extend(twice.iter().map(|index| index.get(&entries).clone()));
        }
        for (author, envelope) in deliveries {
            other.apply(author, envelope).unwrap();
        }
        let live = model.values().filter(|(_, _, change, _)| *change != Change::Delete).count();
        for view in [&one, &other] {
            for bytes in 0..4 {
                for author in [KvAuthor::Machine, KvAuthor::Manager] {
                    let large = model.iter().filter(|(_, (_, by, change, _))| {
                        *by == author && matches!(change, Change::Put(value) if value.len() > bytes)
                    });
                    let large: Vec<_> = large.map(|(place, _)| place.clone()).collect();
                    prop_assert_eq!(view.larger_than(bytes, author), large);
                }
            }
            prop_assert_eq!((view.keys_used(), view.keys_live()), (model.len(), live));
            let newest = entries.iter().map(|(_, envelope)| envelope.stamp).max().unwrap_or_default();
            prop_assert_eq!(view.newest_stamp(), newest);
            let values = (0..2).flat_map(|of| view.entries(&space(of), &KvFilter::All));
            prop_assert_eq!(values.map(|entry| entry.value.len() as u64).sum::<u64>(), view.value_bytes());
            for of in [space(0), space(1)] {
                prop_assert_eq!(view.entries(&of, &KvFilter::All), model_entries(&model, &of, &KvFilter::All));
                prop_assert_eq!(view.entries(&of, &filter), model_entries(&model, &of, &filter));
            }
            for ((of, key), (stamp, author, change, _)) in &model {
                let winner = view.winner(of, key).unwrap();
                prop_assert_eq!((winner.stamp, winner.author), (*stamp, *author));
                prop_assert_eq!(winner.deleted, *change == Change::Delete);
            }
        }
    }

    #[test]
    fn every_reader_comes_to_hold_what_matches(
        filters in prop::collection::vec((filter(), prop_oneof![4 => Just(0_usize), 1 => Just(1)]), READERS),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut clients: Vec<_> = filters.into_iter().map(|(filter, of)| Client::new(space(of), filter)).collect();
        let mut store = Vec::new();
        let mut epochs = 1;
        let mut view = KvView::new(epoch(epochs));
        for op in ops {
            match op {
                Op::Apply(author, envelope) => {
                    store.push((author, envelope.clone()));
                    let (of, key) = (envelope.space.clone(), envelope.key.clone());
                    if let Applied::Won { previous, .. } = view.apply(author, envelope).unwrap() {
                        for client in clients.iter_mut().filter(|client| client.space == of) {
                            client.asleep &= !client.filter.could_match(&key, author, previous);
                        }
                    }
                }
                Op::Read(reader, steps) => {
                    let _ = (0..steps).all(|_| clients[reader].step(&view));
                }
                Op::ReadAll(reader) => while clients[reader].step(&view) {},
                Op::Resume(reader) => clients[reader].resume(),
                Op::Anew(reader) => {
                    let Client { space, filter, .. } = &clients[reader];
                    clients[reader] = Client::new(space.clone(), filter.clone());
                }
                Op::Restart => {
                    epochs += 1;
                    view = KvView::new(epoch(epochs));
                    for (author, envelope) in store.iter().rev() {
                        view.apply(*author, envelope.clone()).unwrap();
                    }
                    clients.iter_mut().for_each(|client| client.asleep = false);
                }
            }
        }
        for client in &mut clients {
            let mut steps = 0;
            while client.step(&view) {
                steps += 1;
                prop_assert!(steps < 100, "a reader of a view that rests comes to no end");
            }
        }
    }

    #[test]
    fn ranges_hold_the_keys_that_a_filter_covers(filter in filter(), bytes in prop::collection::vec(any::<u8>(), 0..4)) {
        let ranges = filter.key_ranges();
        let mut view = KvView::new(epoch(1));
        let more = [key(bytes), key([0xff; 3]), key("ab\0\0"), key("b\0"), key("z")];
        let keys: Vec<KvKey> = KEYS.map(key).into_iter().chain(more).collect();
        for one in &keys {
            view.apply(KvAuthor::Machine, put(one, 1, "v")).unwrap();
        }
        // The author is the machine's: those filters cover every key.
        for one in &keys {
            let entry = view.get(&space(0), one).unwrap();
            prop_assert!(filter.covers(one) || !filter.matches(&entry));
        }
        let found = view.entries(&space(0), &filter);
        let all = view.entries(&space(0), &KvFilter::All);
        let expected: Vec<_> = all.into_iter().filter(|entry| filter.matches(entry)).collect();
        prop_assert_eq!(found, expected, "{:?} leave something out, or have it twice", ranges);
    }
}

/// Everything that a reader has to tell just now.
fn events(reader: &mut KvReader, view: &KvView) -> Vec<KvEvent> {
    let mut events = Vec::new();
    loop {
        match reader.next(view) {
            ReaderStep::Event(update) => events.push(update.event),
            ReaderStep::More => {}
            ReaderStep::Wait => return events,
        }
    }
}

fn machine(view: &mut KvView, envelope: Envelope) {
    assert!(matches!(view.apply(KvAuthor::Machine, envelope), Ok(Applied::Won { .. })));
}

fn keys(events: &[KvEvent]) -> Vec<String> {
    let name = |event: &KvEvent| match event {
        KvEvent::Put(entry) => format!("+{}", entry.key),
        KvEvent::Delete { key, .. } => format!("-{key}"),
        KvEvent::Left { key } => format!("<{key}"),
        KvEvent::CaughtUp => "|".into(),
        KvEvent::Reset { reason } => format!("{reason:?}"),
    };
    events.iter().map(name).collect()
}

#[test]
fn an_empty_store_is_caught_up_with_at_once() {
    for filter in [KvFilter::All, KvFilter::Key(key("a")), KvFilter::Author(KvAuthor::Machine), KvFilter::any_of([])] {
        let view = KvView::new(epoch(1));
        let mut reader = KvReader::new(space(0), filter.clone(), None);
        assert_eq!(keys(&events(&mut reader, &view)), ["|"], "{filter:?}");
        // Its cursor is one to come back with.
        let mut reader = KvReader::new(space(0), filter, Some(view.cursor()));
        assert_eq!(keys(&events(&mut reader, &view)), ["|"]);
    }
}

#[test]
fn a_snapshot_has_what_is_there_and_no_tombstones() {
    let mut view = KvView::new(epoch(1));
    for (stamp, name) in ["c", "a", "b"].into_iter().enumerate() {
        machine(&mut view, put(&key(name), stamp as u64, "v"));
    }
    machine(&mut view, write(&key("b"), 9, Change::Delete));
    machine(&mut view, write(&key("d"), 9, Change::Delete));
    let mut reader = KvReader::new(space(0), KvFilter::All, None);
    assert_eq!(keys(&events(&mut reader, &view)), ["+a", "+c", "|"]);
    // A delete says who and when; the key can be written again.
    machine(&mut view, write(&key("a"), 10, Change::Delete));
    let deleted = KvEvent::Delete { key: key("a"), author: KvAuthor::Machine, timestamp: 10 };
    assert_eq!(events(&mut reader, &view), [deleted]);
    machine(&mut view, put(&key("a"), 11, "again"));
    assert_eq!(keys(&events(&mut reader, &view)), ["+a"]);
    // Written and deleted between two looks: nobody has to be told.
    machine(&mut view, put(&key("new"), 12, "v"));
    machine(&mut view, write(&key("new"), 13, Change::Delete));
    assert_eq!(keys(&events(&mut reader, &view)), [""; 0]);
}

#[test]
fn what_changes_during_a_snapshot_comes_after_it() {
    let mut view = KvView::new(epoch(1));
    for name in ["a", "b", "c", "d"] {
        machine(&mut view, put(&key(name), 1, "old"));
    }
    let mut reader = KvReader::new(space(0), KvFilter::All, None);
    let ReaderStep::Event(first) = reader.next(&view) else { panic!() };
    assert_eq!(keys(&[first.event]), ["+a"]);
    // Behind the reader, ahead of it, and new.
    machine(&mut view, put(&key("a"), 2, "newer"));
    machine(&mut view, put(&key("c"), 2, "newer"));
    machine(&mut view, write(&key("a"), 3, Change::Delete));
    machine(&mut view, put(&key("e"), 2, "newer"));
    let rest = events(&mut reader, &view);
    assert_eq!(keys(&rest), ["+b", "+d", "+c", "-a", "+e", "|"]);
}

#[test]
fn a_hot_key_keeps_no_reader_from_catching_up() {
    let mut view = KvView::new(epoch(1));
    for name in ["a", "b", "c", "d"] {
        machine(&mut view, put(&key(name), 1, "old"));
    }
    let mut reader = KvReader::new(space(0), KvFilter::All, None);
    for stamp in 2..20 {
        if let ReaderStep::Event(KvUpdate { event: KvEvent::CaughtUp, .. }) = reader.next(&view) {
            return;
        }
        for name in ["a", "b"] {
            machine(&mut view, put(&key(name), stamp, "hot"));
        }
    }
    panic!("a reader that is slower than two writers never catches up");
}

#[test]
fn an_entry_that_no_longer_matches_has_left() {
    let mut view = KvView::new(epoch(1));
    let mut reader = KvReader::new(space(0), KvFilter::Author(KvAuthor::Machine), None);
    machine(&mut view, put(&key("a"), 1, "mine"));
    assert_eq!(keys(&events(&mut reader, &view)), ["+a", "|"]);
    let won = view.apply(KvAuthor::Manager, put(&key("a"), 2, "theirs")).unwrap();
    let Applied::Won { previous, .. } = won else { panic!("{won:?}") };
    assert!(reader.filter().could_match(&key("a"), KvAuthor::Manager, previous), "it has to be woken");
    assert_eq!(keys(&events(&mut reader, &view)), ["<a"]);
    view.apply(KvAuthor::Manager, put(&key("a"), 3, "theirs")).unwrap();
    view.apply(KvAuthor::Manager, write(&key("a"), 4, Change::Delete)).unwrap();
    assert_eq!(keys(&events(&mut reader, &view)), [""; 0], "it is gone already");
    machine(&mut view, put(&key("a"), 5, "mine"));
    assert_eq!(keys(&events(&mut reader, &view)), ["+a"]);
}

#[test]
fn a_cursor_leads_on_or_resets() {
    let mut view = KvView::new(epoch(1));
    for name in ["a", "b", "c"] {
        machine(&mut view, put(&key(name), 1, "v"));
    }
    let there = view.cursor();
    machine(&mut view, put(&key("b"), 2, "v"));
    machine(&mut view, write(&key("a"), 2, Change::Delete));
    let resume = |cursor, filter: &KvFilter| {
        let mut reader = KvReader::new(space(0), filter.clone(), Some(cursor));
        keys(&events(&mut reader, &view))
    };
    for filter in
        [KvFilter::All, KvFilter::predicate(|_| true), KvFilter::any_of([key("a"), key("b")].map(KvFilter::Key))]
    {
        assert_eq!(resume(there, &filter), ["+b", "-a", "|"], "{filter:?}");
    }
    let beyond = Cursor { aeon: Aeon(99), ..there };
    assert_eq!(resume(beyond, &KvFilter::All), ["UnknownCursor", "+b", "+c", "|"]);
    let elsewhere = Cursor { epoch: epoch(2), ..there };
    assert_eq!(resume(elsewhere, &KvFilter::All), ["OtherEpoch", "+b", "+c", "|"]);
    let unfinished = Cursor { aeon: Aeon::ZERO, ..there };
    assert_eq!(resume(unfinished, &KvFilter::All), ["SnapshotUnfinished", "+b", "+c", "|"]);
    // A view that takes the place of another, as after a release, begins with a Reset too.
    let mut reader = KvReader::new(space(0), KvFilter::All, None);
    events(&mut reader, &view);
    let reset = KvEvent::Reset { reason: ResetReason::OtherEpoch };
    assert_eq!(events(&mut reader, &KvView::new(epoch(3))), [reset, KvEvent::CaughtUp]);
}

#[test]
fn a_filter_looks_at_no_more_keys_than_it_covers_and_a_call_at_no_more_than_its_share() {
    let mut view = KvView::new(epoch(1));
    let many = 5 * READER_SCAN_KEYS;
    for number in 0..many {
        machine(&mut view, put(&key(format!("slot/{number}")), 1, "v"));
    }
    machine(&mut view, put(&key("z"), 1, "v"));
    let calls = |filter: KvFilter, view: &KvView| {
        let mut reader = KvReader::new(space(0), filter, None);
        let (mut calls, mut events) = (0, 0);
        loop {
            match reader.next(view) {
                ReaderStep::Event(_) => events += 1,
                ReaderStep::More => {}
                ReaderStep::Wait => break (calls, events, reader),
            }
            calls += 1;
        }
    };
    // One event for each of the keys, and CaughtUp.
    let (_, events, _) = calls(KvFilter::prefix("slot/"), &view);
    assert_eq!(events, many + 1);
    let (made, events, mut single) = calls(KvFilter::Key(key("z")), &view);
    assert_eq!((made, events), (2, 2));
    let (made, events, mut few) = calls(KvFilter::prefix("z"), &view);
    assert_eq!((made, events), (2, 2));
    let (made, events, _) = calls(KvFilter::predicate(|entry| entry.key.as_bytes() == b"z"), &view);
    assert_eq!(events, 2);
    assert_eq!(made, 2 + 5, "a call looks at {READER_SCAN_KEYS} keys at most");
    // One key is looked up, whatever else has changed; a prefix goes through what has.
    for number in 0..many {
        machine(&mut view, put(&key(format!("slot/{number}")), 2, "v"));
    }
    assert_eq!(single.next(&view), ReaderStep::Wait);
    assert_eq!(few.next(&view), ReaderStep::More);
    assert!(size_of::<KvReader>() <= 512, "{}", size_of::<KvReader>());
}

#[test]
fn many_single_keys_are_followed_like_few() {
    let mut view = KvView::new(epoch(1));
    for count in [FEW_KEYS, FEW_KEYS + 1] {
        let wanted = (0..count).map(|number| KvFilter::Key(key(format!("{number:02}"))));
        let mut reader = KvReader::new(space(0), KvFilter::any_of(wanted.chain([KvFilter::Key(key("00"))])), None);
        events(&mut reader, &view);
        for name in ["05", "zz", "03"] {
            machine(&mut view, put(&key(name), count as u64, "v"));
        }
        assert_eq!(keys(&events(&mut reader, &view)), ["+05", "+03"]);
    }
}

#[test]
fn deleting_twice_is_one_event() {
    let mut view = KvView::new(epoch(1));
    machine(&mut view, put(&key("a"), 1, "v"));
    let mut reader = KvReader::new(space(0), KvFilter::All, None);
    events(&mut reader, &view);
    machine(&mut view, write(&key("a"), 2, Change::Delete));
    assert_eq!(keys(&events(&mut reader, &view)), ["-a"]);
    let won = view.apply(KvAuthor::Manager, write(&key("a"), 3, Change::Delete)).unwrap();
    assert!(matches!(won, Applied::Won { previous: None, .. }));
    assert_eq!(keys(&events(&mut reader, &view)), [""; 0]);
    assert_eq!(view.winner(&space(0), &key("a")).map(|winner| winner.author), Some(KvAuthor::Manager));
}

#[test]
fn keys_are_limited_and_those_of_both_sides_agree() {
    let mut view = KvView::new(epoch(1));
    let name = |number: usize| key(u32::try_from(number).unwrap().to_be_bytes());
    for number in 0..MAX_KV_KEYS {
        assert_eq!(view.check_room(&space(0), &name(number)), Ok(()));
        let change = if number % 2 == 0 { Change::Delete } else { Change::Put(Bytes::new()) };
        machine(&mut view, write(&name(number), 1, change));
    }
    // A key that was used can be written for ever; another can't.
    assert_eq!(view.check_room(&space(0), &name(0)), Ok(()));
    let full = TooManyKeys { limit: MAX_KV_KEYS };
    assert_eq!(view.check_room(&space(0), &name(MAX_KV_KEYS)), Err(full));
    assert_eq!(view.check_room(&space(1), &name(0)), Err(full), "spaces share the limit");
    // The other side wrote as many while the two were apart, and has to be agreed with.
    for number in MAX_KV_KEYS..MAX_VIEW_KEYS {
        assert!(view.apply(KvAuthor::Manager, write(&name(number), 1, Change::Delete)).is_ok());
    }
    let before = view.cursor();
    let full = TooManyKeys { limit: MAX_VIEW_KEYS };
    assert_eq!(view.apply(KvAuthor::Manager, write(&name(MAX_VIEW_KEYS), 1, Change::Delete)), Err(full));
    let elsewhere = Envelope { space: space(1), ..write(&name(0), 1, Change::Delete) };
    assert_eq!(view.apply(KvAuthor::Manager, elsewhere), Err(full));
    assert_eq!(view.cursor(), before);
    assert!(matches!(view.apply(KvAuthor::Manager, put(&name(0), 2, "v")), Ok(Applied::Won { .. })));
}
