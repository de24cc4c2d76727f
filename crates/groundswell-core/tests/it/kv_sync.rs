//! Two sides of a document that talk by nothing but the messages of their state machines.

use std::collections::{BTreeMap, VecDeque};

use groundswell_core::{
    kv::{
        KvAuthor,
        sync::{EntryKey, Heard, KvSync, Step},
        wire::{Held, KvMessage},
    },
    limits::{KV_ACKNOWLEDGE_AFTER_MS, MAX_KV_WANTS},
};
use proptest::prelude::*;

/// A side with a storage that never fails: of each author's keys the newest counter.
struct Peer {
    ours: KvAuthor,
    entries: BTreeMap<EntryKey, u64>,
    held: Held,
    sync: KvSync,
    delivered: u64,
    current: bool,
    finished: bool,
    missing: Vec<EntryKey>,
    out: VecDeque<KvMessage<'static>>,
}

fn key(n: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    key
}

impl Peer {
    fn new(ours: KvAuthor, entries: BTreeMap<EntryKey, u64>, held: Held, theirs: Held) -> Self {
        Self {
            ours,
            entries,
            held,
            sync: KvSync::new(ours, held, theirs, 0),
            delivered: 0,
            current: false,
            finished: false,
            missing: Vec::new(),
            out: VecDeque::new(),
        }
    }

    fn write(&mut self, n: u64) {
        let counter = self.held.of(self.ours) + 1;
        self.entries.insert((self.ours, key(n)), counter);
        self.held.raise(self.ours, counter);
    }

    /// An entry travels as its place and its counter.
    fn entry(place: EntryKey, counter: u64) -> KvMessage<'static> {
        let signed = [&[place.0.index() as u8][..], &place.1, &counter.to_be_bytes()].concat();
        KvMessage::Entry { signed: signed.into(), envelope: Vec::new().into() }
    }

    fn work(&mut self, now_ms: u64, piece: usize) {
        self.sync.holds(self.held, now_ms);
        loop {
            match self.sync.poll(now_ms) {
                Step::Say(message) => self.out.push_back(message),
                Step::Entries { author, after, upto } => {
                    let of_author = self.entries.iter().filter(|((by, _), counter)| *by == author && **counter > after);
                    let mut found: Vec<_> = of_author.map(|(place, counter)| (*counter, *place)).collect();
                    found.sort();
                    found.truncate(piece);
                    let last = if found.len() < piece { upto } else { found[piece - 1].0 };
                    for (counter, place) in found {
                        self.out.push_back(Self::entry(place, counter));
                    }
                    self.out.push_back(KvMessage::UpTo { author, counter: last });
                    self.sync.entries_sent(author, last);
                }
                Step::Agree { .. } => self.sync.agreed(),
                Step::Answer(wants) => {
                    for place in wants {
                        if let Some(counter) = self.entries.get(&place) {
                            self.out.push_back(Self::entry(place, *counter));
                        }
                    }
                }
                Step::LookUpMissing { after } => {
                    let from = self.missing.iter().position(|one| Some(*one) == after).map_or(0, |place| place + 1);
                    let wants: Vec<_> = self.missing[from..].iter().take(MAX_KV_WANTS).copied().collect();
                    self.sync.want(wants);
                }
                Step::Finish => {
                    self.finished = true;
                    return;
                }
                Step::Wait { .. } => return,
            }
        }
    }

    fn hear(&mut self, messages: impl Iterator<Item = KvMessage<'static>>) {
        let mut came = Vec::new();
        for message in messages {
            match self.sync.handle(message) {
                Heard::Nothing | Heard::ShuttingDown => {}
                Heard::Delivered(upto) => self.delivered = self.delivered.max(upto),
                Heard::Released(_) => panic!("nobody releases anything here"),
                Heard::Entry { signed, .. } => {
                    let place = (KvAuthor::BOTH[usize::from(signed[0])], signed[1..33].try_into().unwrap());
                    came.push((place, u64::from_be_bytes(signed[33..].try_into().unwrap())));
                }
            }
        }
        let received = self.sync.received();
        for (place, counter) in came {
            let newest = self.entries.entry(place).or_default();
            *newest = counter.max(*newest);
            self.missing.retain(|one| *one != place);
        }
        for author in KvAuthor::BOTH {
            self.held.raise(author, received.upto(author).unwrap_or(0));
        }
        self.current |= self.sync.stored(received);
    }
}

/// Lets two sides talk until neither has anything to say.
fn settle(one: &mut Peer, two: &mut Peer, piece: usize) {
    for round in 0..10_000 {
        let now = round * (KV_ACKNOWLEDGE_AFTER_MS / 2 + 1);
        one.work(now, piece);
        two.work(now, piece);
        if one.out.is_empty() && two.out.is_empty() && round > 4 {
            return;
        }
        let (to_two, to_one) = (std::mem::take(&mut one.out), std::mem::take(&mut two.out));
        two.hear(to_two.into_iter());
        one.hear(to_one.into_iter());
    }
    panic!("they do not come to rest");
}

proptest! {
    /// Whatever each had written and had of the other before, both have everything in the end, say so, and know it.
    #[test]
    fn two_sides_come_to_hold_the_same(
        at_machine in 0..60_u64,
        at_manager in 0..60_u64,
        known_to_manager in 0..60_u64,
        known_to_machine in 0..60_u64,
        keys in 1..20_u64,
        piece in 1..9_usize,
        later in 0..20_u64,
    ) {
        let held = |counter: u64, other: u64, ours: KvAuthor| {
            let mut held = Held::default();
            held.raise(ours, counter);
            held.raise(ours.other(), other);
            held
        };
        let write = |entries: &mut BTreeMap<EntryKey, u64>, author, upto| {
            for counter in 1..=upto {
                entries.insert((author, key(counter % keys)), counter);
            }
        };
        let (known_to_manager, known_to_machine) = (known_to_manager.min(at_machine), known_to_machine.min(at_manager));
        let (mut of_machine, mut of_manager) = (BTreeMap::new(), BTreeMap::new());
        write(&mut of_machine, KvAuthor::Machine, at_machine);
        write(&mut of_machine, KvAuthor::Manager, known_to_machine);
        write(&mut of_manager, KvAuthor::Manager, at_manager);
        write(&mut of_manager, KvAuthor::Machine, known_to_manager);
        let machine_held = held(at_machine, known_to_machine, KvAuthor::Machine);
        let manager_held = held(at_manager, known_to_manager, KvAuthor::Manager);
        let mut machine = Peer::new(KvAuthor::Machine, of_machine, machine_held, manager_held);
        let mut manager = Peer::new(KvAuthor::Manager, of_manager, manager_held, machine_held);
        settle(&mut machine, &mut manager, piece);
        prop_assert!(machine.current && manager.current);
        for n in 0..later {
            machine.write(n % keys);
            manager.write(n % keys);
        }
        machine.sync.part();
        settle(&mut machine, &mut manager, piece);
        prop_assert!(machine.finished && !manager.finished);
        prop_assert_eq!(&machine.entries, &manager.entries);
        prop_assert_eq!(machine.held, manager.held);
        prop_assert_eq!(manager.delivered, at_manager + later);
        prop_assert!(machine.delivered >= at_machine);
    }

    /// Values that one side knows of and lacks are asked for in turns, each once.
    #[test]
    fn what_is_missing_is_asked_for(missing in 0..3_000_u64, again in 0..100_u64) {
        let entries: BTreeMap<_, _> = (0..missing + again).map(|n| ((KvAuthor::Machine, key(n)), n + 1)).collect();
        let mut held = Held::default();
        held.raise(KvAuthor::Machine, missing + again);
        let mut machine = Peer::new(KvAuthor::Machine, entries.clone(), held, held);
        let mut manager = Peer::new(KvAuthor::Manager, BTreeMap::new(), held, held);
        manager.missing = (0..missing).map(|n| (KvAuthor::Machine, key(n))).collect();
        settle(&mut machine, &mut manager, 100);
        prop_assert_eq!(manager.entries.len() as u64, missing);
        manager.missing = (missing..missing + again).map(|n| (KvAuthor::Machine, key(n))).collect();
        manager.sync.found_missing();
        settle(&mut machine, &mut manager, 100);
        prop_assert_eq!(&manager.entries, &entries);
    }
}

/// A side that floods another with wants makes it hold a bounded number.
#[test]
fn wants_beyond_the_limit_are_ignored() {
    let mut sync = KvSync::new(KvAuthor::Machine, Held::default(), Held::default(), 0);
    for n in 0..3 * MAX_KV_WANTS as u64 {
        assert_eq!(sync.handle(KvMessage::Want { author: KvAuthor::Manager, key: key(n) }), Heard::Nothing);
    }
    let Step::Answer(wants) = sync.poll(0) else { panic!("an answer is due") };
    assert_eq!(wants.len(), MAX_KV_WANTS);
    assert_eq!(sync.poll(0), Step::Say(KvMessage::Answered { wants: MAX_KV_WANTS as u32 }));
}

/// What is found missing while as much as may be is asked for is asked for afterwards, though nothing follows in the order
/// of the look-ups.
#[test]
fn what_is_found_before_the_last_that_was_asked_for_is_asked_for_too() {
    let mut sync = KvSync::new(KvAuthor::Manager, Held::default(), Held::default(), 0);
    assert_eq!(sync.poll(0), Step::LookUpMissing { after: None });
    let all: Vec<EntryKey> = (1..=MAX_KV_WANTS as u64).map(|n| (KvAuthor::Machine, key(n))).collect();
    sync.want(all.clone());
    for (author, key) in &all {
        assert_eq!(sync.poll(0), Step::Say(KvMessage::Want { author: *author, key: *key }));
    }
    // The first of all keys is found missing meanwhile.
    sync.found_missing();
    assert_eq!(sync.poll(0), Step::Say(KvMessage::CaughtUp));
    assert_eq!(sync.handle(KvMessage::Answered { wants: MAX_KV_WANTS as u32 }), Heard::Nothing);
    let received = sync.received();
    assert!(!sync.stored(received));
    assert_eq!(sync.poll(0), Step::LookUpMissing { after: all.last().copied() });
    sync.want(Vec::new());
    assert_eq!(sync.poll(0), Step::LookUpMissing { after: None });
    sync.want(vec![(KvAuthor::Machine, key(0))]);
    assert_eq!(sync.poll(0), Step::Say(KvMessage::Want { author: KvAuthor::Machine, key: key(0) }));
    assert_eq!(sync.poll(0), Step::Wait { until_ms: None });
}

/// What a side says next, as long as it says anything.
fn said(sync: &mut KvSync, now_ms: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        match sync.poll(now_ms) {
            Step::Wait { .. } => return steps,
            Step::LookUpMissing { .. } => sync.want(Vec::new()),
            step => {
                if let Step::Entries { author, upto, .. } = step {
                    sync.entries_sent(author, upto);
                }
                steps.push(step.clone());
                if let Step::Agree { .. } = step {
                    return steps;
                }
            }
        }
    }
}

/// A side that went back sends nothing of its own, and holds nothing of it by its own word, before it has all of it back.
#[test]
fn a_side_that_went_back_agrees_first() {
    let (held, theirs) = (Held { machine: 900, manager: 4 }, Held { machine: 7, manager: 3 });
    let mut sync = KvSync::new(KvAuthor::Machine, held, theirs, 0);
    sync.agree_first();
    let steps = said(&mut sync, KV_ACKNOWLEDGE_AFTER_MS);
    let ack = Step::Say(KvMessage::Ack(Held { machine: 0, manager: 4 }));
    assert_eq!(
        steps,
        [ack, Step::Entries { author: KvAuthor::Manager, after: 3, upto: 4 }],
        "the other side's are sent"
    );
    let _ = sync.handle(KvMessage::UpTo { author: KvAuthor::Machine, counter: 6 });
    let received = sync.received();
    sync.stored(received);
    assert_eq!(said(&mut sync, 100), [], "not all is back");
    let _ = sync.handle(KvMessage::UpTo { author: KvAuthor::Machine, counter: 7 });
    let received = sync.received();
    assert_eq!(said(&mut sync, 100), [], "it is not durable");
    sync.stored(received);
    assert!(sync.is_asked());
    assert_eq!(said(&mut sync, 100), [Step::Agree { upto: 7 }]);
    assert_eq!(said(&mut sync, 100), [Step::Agree { upto: 7 }], "it is not signed anew");
    sync.agreed();
    let steps = said(&mut sync, 100);
    let own = Step::Entries { author: KvAuthor::Machine, after: 7, upto: 900 };
    assert_eq!(steps, [own, Step::Say(KvMessage::CaughtUp)]);
}

/// With a side that has nothing there is nothing to take back.
#[test]
fn a_side_that_went_back_agrees_at_once_with_one_that_has_nothing() {
    let mut sync = KvSync::new(KvAuthor::Manager, Held { machine: 0, manager: 9 }, Held::default(), 0);
    sync.agree_first();
    assert_eq!(said(&mut sync, 0), [Step::Agree { upto: 0 }]);
}

#[test]
fn what_ranks_above_an_entry_that_came_is_sent_back() {
    let mut sync = KvSync::new(KvAuthor::Manager, Held::default(), Held::default(), 0);
    said(&mut sync, 0);
    let one = (KvAuthor::Machine, key(1));
    sync.send_back([one, one]);
    assert!(sync.is_asked());
    assert_eq!(said(&mut sync, 0), [Step::Answer(vec![one])], "without an answer to a want");
    sync.send_back((0..5_000).map(|n| (KvAuthor::Machine, key(n))));
    let steps = said(&mut sync, 0);
    assert!(matches!(&steps[..], [Step::Answer(all)] if all.len() == MAX_KV_WANTS), "it has a bound");
}
