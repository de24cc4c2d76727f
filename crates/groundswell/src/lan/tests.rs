use std::time::{Duration, Instant};

use iroh::{
    EndpointId, SecretKey, TransportAddr,
    address_lookup::{EndpointData, Item},
};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{
    book::{Book, Meter},
    message::{self, Message},
};
use crate::limits::{
    LAN_ANSWER_EVERY, LAN_LOOKUP_TIME, LAN_PACKETS_PER_SECOND, LAN_TIME_PER_SECOND, MAX_LAN_ADDRESSES,
    MAX_LAN_ANSWERS_OF_LOOKUP, MAX_LAN_LOOKUPS, MAX_LAN_PACKET_BYTES, MAX_LAN_RECORDS,
};

const SECOND: Duration = Duration::from_secs(1);

fn key(n: u16) -> SecretKey {
    let mut bytes = [7; 32];
    bytes[..2].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_bytes(&bytes)
}

fn id(n: u16) -> EndpointId {
    key(n).public()
}

fn ip(addr: &str) -> TransportAddr {
    TransportAddr::Ip(addr.parse().unwrap())
}

fn relay(url: &str) -> TransportAddr {
    TransportAddr::Relay(url.parse().unwrap())
}

fn hosts(from: u16, count: u16) -> Vec<TransportAddr> {
    (from..from + count).map(|n| ip(&format!("192.0.2.{}:{}", n % 250 + 1, 1_000 + n))).collect()
}

/// An answer of peer `n`, with this number.
fn numbered(n: u16, number: u64, addrs: &[TransportAddr]) -> Vec<u8> {
    message::answer(&key(n), number, addrs).unwrap()
}

fn answer(n: u16, addrs: &[TransportAddr]) -> Vec<u8> {
    numbered(n, 1, addrs)
}

fn parse(bytes: &[u8]) -> Option<Message> {
    message::parse(bytes, 0, |_| true)
}

fn question(ids: &[u16]) -> Vec<u8> {
    message::question(&ids.iter().map(|n| *id(*n).as_bytes()).collect::<Vec<_>>()).unwrap()
}

/// The addresses that are said of a peer.
fn said(bytes: &[u8]) -> Vec<TransportAddr> {
    match parse(bytes) {
        Some(Message::Answer(answer)) => answer.addrs,
        other => panic!("no answer: {other:?}"),
    }
}

fn got(answers: &mut mpsc::Receiver<Item>) -> Vec<TransportAddr> {
    std::iter::from_fn(|| answers.try_recv().ok()).flat_map(|item| item.addrs().cloned().collect::<Vec<_>>()).collect()
}

/// A node 0 that has said its address and looks for peer 1.
fn looking(now: Instant) -> (Book, mpsc::Receiver<Item>) {
    let mut book = Book::new(key(0));
    book.publish(&EndpointData::new(hosts(0, 1)), 1);
    let (_, answers) = book.look_for(id(1), now).unwrap();
    for n in 0..4 {
        book.packets(now - SECOND * (4 - n));
    }
    book.packets(now);
    (book, answers)
}

#[test]
fn the_two_messages_say_what_they_were_made_of() {
    let addrs = [ip("192.0.2.1:7"), ip("[2001:db8::1]:8"), relay("https://relay.example./")];
    assert_eq!(said(&answer(3, &addrs)), addrs);
    let ids: Vec<u16> = (0..16).collect();
    let asked: Vec<_> = ids.iter().map(|n| *id(*n).as_bytes()).collect();
    assert_eq!(parse(&question(&ids)), Some(Message::Question(asked)));
    // Both fit into one frame of Ethernet, with the largest addresses too.
    let large: Vec<_> = (0..16).map(|n| ip(&format!("[2001:1111:2222:3333:4444:5555:6666:777{n:x}]:65535"))).collect();
    let all = [large, vec![relay(&format!("https://{}.example./", "x".repeat(60)))]].concat();
    assert!(question(&ids).len() < 1_232 && answer(3, &all).len() < 1_232);
    assert_eq!(said(&answer(3, &all)), all);
}

#[test]
fn the_names_of_other_programs_may_have_capitals() {
    let mut bytes = question(&[1]);
    bytes[13..13 + 52].make_ascii_uppercase();
    assert_eq!(parse(&bytes), Some(Message::Question(vec![*id(1).as_bytes()])));
}

#[test]
fn addresses_that_no_other_machine_has_are_neither_said_nor_taken() {
    let good = [ip("192.0.2.1:7"), ip("[2001:db8::1]:7")];
    let bad = ["0.0.0.0:7", "192.0.2.1:0", "224.0.0.251:7", "255.255.255.255:7", "127.0.0.1:7", "[::]:7", "[::1]:7"];
    let bad = bad.into_iter().chain(["[ff02::fb]:7", "[2001:db8::1]:0", "[::ffff:127.0.0.1]:7"]).map(ip);
    let all: Vec<_> = bad.chain(good.clone()).collect();
    assert_eq!(message::published(all.iter()), good);
    assert_eq!(said(&answer(3, &all)), good);
}

#[test]
fn an_address_of_one_interface_is_that_of_the_interface_on_which_it_came() {
    let bytes = answer(3, &[ip("[fe80::1%7]:9"), ip("[2001:db8::1]:9")]);
    let Some(Message::Answer(answer)) = message::parse(&bytes, 4, |_| true) else { panic!("no answer") };
    assert_eq!(answer.addrs, [ip("[fe80::1%4]:9"), ip("[2001:db8::1]:9")]);
}

#[test]
fn sixteen_addresses_and_one_relay_are_said_and_taken() {
    let all = [hosts(0, 40), vec![relay("https://one.example./"), relay("https://two.example./")]].concat();
    let some = [hosts(0, 16), vec![relay("https://one.example./")]].concat();
    assert_eq!(MAX_LAN_ADDRESSES, 16);
    assert_eq!(message::published(all.iter()), some, "the first ones, in their order");
    assert_eq!(said(&answer(3, &all)), some);
}

#[test]
fn packets_of_others_and_packets_that_are_too_large_are_ignored() {
    let good = question(&[1]);
    assert!(parse(&good).is_some());
    let other = String::from_utf8_lossy(&good).replace("_groundswell", "_otherthings").into_bytes();
    assert_eq!(parse(&other), None);
    let long = [good.clone(), vec![0; MAX_LAN_PACKET_BYTES - good.len()]].concat();
    assert!(parse(&long).is_some());
    assert_eq!(parse(&[long, vec![0]].concat()), None);
    assert_eq!(parse(&question(&(0..17).collect::<Vec<_>>())), None, "one more than {MAX_LAN_RECORDS}");
    // A record that was withdrawn.
    let mut withdrawn = answer(1, &hosts(0, 1));
    let ttl = withdrawn.windows(4).position(|bytes| bytes == [0, 0, 0, 120]).unwrap();
    withdrawn[ttl + 3] = 0;
    assert_eq!(parse(&withdrawn), None);
}

/// "A question for the own name is answered, at most once a second, and no other."
#[test]
fn a_question_for_the_own_name_is_answered_once_a_second_at_most() {
    let now = Instant::now();
    let (mut book, _answers) = looking(now);
    let later = now + SECOND * 20;
    book.packets(later);
    assert_eq!(book.next(later), None, "all is said");
    book.take(&question(&[1, 2, 3]), 0, now);
    assert_eq!(book.next(later), None, "others are asked");
    let mut said_at = Vec::new();
    for step in 0..500 {
        let at = later + Duration::from_millis(10) * step;
        // Sooner than it may be answered.
        book.take(&question(&[5, 0]), 0, now);
        let packets = book.packets(at);
        if !packets.is_empty() {
            assert_eq!(packets.iter().map(|packet| said(packet)).collect::<Vec<_>>(), [hosts(0, 1)]);
            said_at.push(at - later);
        }
    }
    assert_eq!(said_at, [0, 1, 2, 3, 4].map(|n| LAN_ANSWER_EVERY * n));
    // The last of them was asked after the last answer, and is answered when that is allowed.
    assert_eq!(book.next(later + SECOND * 5), Some(later + SECOND * 5));
}

#[test]
fn new_addresses_are_announced_twice_and_the_same_ones_are_not() {
    let now = Instant::now();
    let mut book = Book::new(key(0));
    assert_eq!(book.next(now), None, "nothing to say");
    book.take(&question(&[0]), 0, now);
    assert!(book.packets(now).is_empty(), "and nothing to answer");
    book.publish(&EndpointData::new(hosts(0, 2)), 50);
    assert_eq!(book.packets(now).len(), 1);
    book.publish(&EndpointData::new(hosts(0, 2)), 51);
    assert_eq!(book.packets(now + SECOND / 2).len(), 0);
    assert_eq!(book.packets(now + SECOND).len(), 1);
    assert_eq!(book.next(now + SECOND), None);
    // The clock of the system was set back: it is the newer answer all the same.
    book.publish(&EndpointData::new(hosts(4, 1)), 20);
    assert_eq!(book.packets(now + SECOND).len(), 0, "at most once a second");
    assert_eq!(book.packets(now + SECOND * 2), [numbered(0, 51, &hosts(4, 1))]);
    book.publish(&EndpointData::new(hosts(5, 1)), 1_000);
    assert_eq!(book.packets(now + SECOND * 3), [numbered(0, 1_000, &hosts(5, 1))]);
    book.publish(&EndpointData::new(Vec::new()), 1_001);
    assert!(book.packets(now + SECOND * 4).is_empty() && !book.is_in_use(), "nothing to say");
}

#[test]
fn a_look_up_asks_three_times_gets_each_answer_once_and_ends() {
    let now = Instant::now();
    let mut book = Book::new(key(0));
    let (_, mut first) = book.look_for(id(1), now).unwrap();
    let (_, mut second) = book.look_for(id(1), now).unwrap();
    let mut asked = Vec::new();
    for step in 0..=100 {
        let at = now + SECOND * step / 10;
        let packets = book.packets(at);
        asked.extend(packets.iter().map(|packet| (step, packet.clone())));
        if step == 5 {
            book.take(&answer(2, &hosts(9, 1)), 0, now);
            book.take(&numbered(1, 7, &hosts(0, 2)), 0, now);
            book.take(&numbered(1, 7, &hosts(0, 2)), 0, now);
            book.take(&numbered(1, 8, &hosts(2, 1)), 0, now);
        }
    }
    assert_eq!(asked, [0, 10, 30].map(|at| (at, question(&[1]))), "one question for both");
    for answers in [&mut first, &mut second] {
        assert_eq!(got(answers), hosts(0, 3));
        assert!(answers.is_closed(), "its time is over");
    }
    assert!(!book.is_in_use());
    assert_eq!(book.next(now + LAN_LOOKUP_TIME), None);
}

#[test]
fn a_look_up_that_nobody_waits_for_is_forgotten() {
    let now = Instant::now();
    let mut book = Book::new(key(0));
    let (key, _first) = book.look_for(id(1), now).unwrap();
    let (_, mut second) = book.look_for(id(1), now).unwrap();
    book.forget(key);
    book.take(&answer(1, &hosts(0, 1)), 0, now);
    assert_eq!(got(&mut second), hosts(0, 1));
    book.end();
    assert!(second.is_closed() && !book.is_in_use());
}

#[test]
fn look_ups_are_bounded_and_so_are_the_questions_of_a_packet() {
    let now = Instant::now();
    let mut book = Book::new(key(0));
    assert!(book.look_for(id(0), now).is_none(), "itself");
    let all: Vec<_> = (1..=256).map(|n| book.look_for(id(n), now).unwrap()).collect();
    assert_eq!(all.len(), MAX_LAN_LOOKUPS);
    assert!(book.look_for(id(300), now).is_none());
    let packets = book.packets(now);
    assert_eq!(packets.len(), 256 / MAX_LAN_RECORDS);
    for packet in &packets {
        let Some(Message::Question(ids)) = parse(packet) else { panic!("a question") };
        assert_eq!(ids.len(), MAX_LAN_RECORDS);
    }
    book.forget(all[7].0);
    assert!(book.look_for(id(300), now).is_some());
}

/// An answer with other addresses than those that were signed.
fn forged(n: u16, number: u64, addrs: &[TransportAddr]) -> Vec<u8> {
    let mut bytes = numbered(n, number, addrs);
    let at = bytes.windows(5).position(|window| window == b"addr=").unwrap();
    // Another digit of the first address.
    bytes[at + 5] ^= 1;
    bytes
}

/// A look-up gets what the peer has signed, whatever others say before it: with another key, with changed addresses or without a
/// signature.
#[test]
fn only_the_peer_itself_says_where_it_is() {
    let now = Instant::now();
    let (mut book, mut answers) = looking(now);
    for n in 0..200 {
        book.take(&forged(1, n + 2, &hosts(7, 16)), 0, now);
        // The answer of another one, under the name of this one.
        let (own, other) = (answer(1, &hosts(0, 1)), numbered(9, n + 2, &hosts(0, 1)));
        let name = |bytes: &[u8]| bytes[12..12 + 53].to_vec();
        let renamed = [&other[..12], &name(&own), &other[12 + 53..]].concat();
        assert_eq!((name(&renamed), renamed.len()), (name(&own), other.len()));
        book.take(&renamed, 0, now);
        let mut unsigned = numbered(1, n + 2, &hosts(7, 1));
        let at = unsigned.windows(4).position(|window| window == b"sig=").unwrap();
        unsigned[at] = b't';
        book.take(&unsigned, 0, now);
    }
    assert!(got(&mut answers).is_empty());
    book.take(&answer(1, &hosts(0, 3)), 0, now);
    assert_eq!(got(&mut answers), hosts(0, 3));
}

/// Somebody has recorded answers and sends them again. So many are taken at most; what the peer itself says is taken all the same.
#[test]
fn old_answers_that_are_sent_again_hide_no_new_one() {
    let begun = Instant::now();
    let (mut book, mut answers) = looking(begun);
    // The clock of the peer was ahead once.
    for n in 1_000..1_200 {
        book.take(&numbered(1, n, &hosts(20, 1)), 0, begun);
    }
    assert_eq!(got(&mut answers).len(), MAX_LAN_ANSWERS_OF_LOOKUP);
    let mut all = Vec::new();
    for step in 1..=9 {
        let now = begun + SECOND * step;
        // Old ones again, before and after the one that the peer gives once a second.
        book.take(&numbered(1, 1_000 + u64::from(step), &hosts(20, 1)), 0, now);
        book.take(&numbered(1, 5_000, &hosts(5, 1)), 0, now);
        book.take(&numbered(1, 1_100 + u64::from(step), &hosts(20, 1)), 0, now);
        book.packets(now);
        all.extend(got(&mut answers));
    }
    assert_eq!(all.iter().filter(|addr| **addr == hosts(5, 1)[0]).count(), 1, "the newest, once");
    assert!(all[0] == hosts(5, 1)[0] && all.len() <= 9, "one a second: {all:?}");
    // Each look-up has its own. One that was begun while the clock of the peer is wrong takes what has a lower number too.
    let (_, mut next) = book.look_for(id(1), begun).unwrap();
    for n in [5_000, 7] {
        book.take(&numbered(1, n, &hosts(5, 1)), 0, begun);
        assert_eq!(got(&mut next), hosts(5, 1));
    }
    let (_, mut next) = book.look_for(id(1), begun).unwrap();
    book.take(&numbered(1, 7, &hosts(5, 1)), 0, begun);
    for n in 0..40 {
        book.take(&numbered(1, 7, &hosts(5, 1)), 0, begun + SECOND * n);
    }
    assert_eq!(got(&mut next), hosts(5, 1), "one answer once");
}

/// A packet has the check of one signature done, however many answers it has.
#[test]
fn only_the_first_answer_of_a_packet_counts() {
    let (bytes, wrong) = (answer(1, &hosts(0, 1)), forged(1, 9, &hosts(0, 1)));
    let both = |first: &[u8], second: &[u8]| {
        let mut both = [first, &second[12..]].concat();
        both[7] = 2;
        both
    };
    assert_eq!(said(&both(&bytes, &wrong)), hosts(0, 1));
    assert_eq!(parse(&both(&wrong, &bytes)), None);
    // One of a peer that nobody looks for is not read.
    let other = answer(2, &hosts(8, 1));
    let Some(Message::Answer(answer)) = message::parse(&both(&other, &bytes), 0, |one| one == id(1).as_bytes()) else {
        panic!("no answer")
    };
    assert_eq!((answer.id, answer.addrs), (id(1), hosts(0, 1)));
}

#[test]
fn a_second_has_so_many_packets() {
    let begun = Instant::now();
    let mut meter = Meter::default();
    for n in 0..LAN_PACKETS_PER_SECOND {
        let at = begun + Duration::from_micros(500) * n;
        assert_eq!(meter.pause(at), None);
        meter.count(at, Duration::from_micros(1));
    }
    assert_eq!(meter.pause(begun + SECOND / 2), Some(begun + SECOND));
    assert_eq!(meter.pause(begun + SECOND), None);
    meter.count(begun + SECOND, Duration::ZERO);
    assert_eq!(meter.pause(begun + SECOND), None);
}

/// Packets that are made to be slow take so much of a second, and no more.
#[test]
fn a_second_has_so_much_time_for_packets() {
    let begun = Instant::now();
    let mut meter = Meter::default();
    for _ in 0..10 {
        assert_eq!(meter.pause(begun), None);
        meter.count(begun, LAN_TIME_PER_SECOND / 10);
    }
    assert_eq!(meter.pause(begun + SECOND / 2), Some(begun + SECOND));
    assert_eq!(meter.pause(begun + SECOND), None);
}

/// The slowest packets that are known: names of one pointer after the other, as many as fit, and answers of a peer that is looked
/// for. A name has a pointer only to what is before it, so that each ends.
#[test]
fn the_slowest_packets_cost_a_fraction_of_a_millisecond() {
    let mut chain = vec![0, 0, 0x84, 0, 0, 0, 0, 16, 0, 0, 0, 0];
    // A record with the name of this program, whose text consists of pointers, each to the one before it.
    chain.extend(b"\x0c_groundswell\x04_udp\x05local\x00\x00\x10\x00\x01\x00\x00\x00\x78");
    let pointers = u16::try_from((MAX_LAN_PACKET_BYTES - chain.len() - 3 - 15 * 24) / 2).unwrap();
    let length = pointers * 2;
    chain.extend(length.to_be_bytes());
    let first = u16::try_from(chain.len()).unwrap();
    for n in 0..pointers {
        let before = if n == 0 { 12 } else { first + 2 * (n - 1) };
        chain.extend((0xc000 | before).to_be_bytes());
    }
    let last = (0xc000 | (first + 2 * (pointers - 1))).to_be_bytes();
    for _ in 0..15 {
        // MINFO, which has two names more.
        chain.extend([&last[..], &[0, 14, 0, 1, 0, 0, 0, 120, 0, 4], &last[..], &last[..]].concat());
    }
    assert!(chain.len() <= MAX_LAN_PACKET_BYTES);
    let now = Instant::now();
    let (mut book, _answers) = looking(now);
    let mut cost = |packet: &[u8]| {
        let runs: Vec<Duration> = (0..20)
            .map(|_| {
                let begun = Instant::now();
                book.take(packet, 0, now);
                begun.elapsed()
            })
            .collect();
        *runs.iter().min().unwrap()
    };
    let (chain, forged) = (cost(&chain), cost(&forged(1, 9, &hosts(0, 16))));
    println!("a chain of {pointers} pointers takes {chain:?}, a wrong signature {forged:?}");
    assert!(chain.max(forged) < Duration::from_millis(1));
}

/// What an answer of any kind may consist of.
fn packets() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..300);
    // It gets as far as the parser: a likely header, and the label of this program somewhere.
    let marked =
        (noise.clone(), noise.clone(), [0u8..4, 0..4, 0..4, 0..4], any::<bool>()).prop_map(|(a, b, counts, reply)| {
            let mut header = vec![0, 0, if reply { 0x84 } else { 0 }, 0];
            counts.iter().for_each(|count| header.extend([0, *count]));
            [header, a, b"\x0c_groundswell\x04_udp\x05local\x00".to_vec(), b].concat()
        });
    let real = prop_oneof![
        prop::collection::vec(2u16..500, 1..16).prop_map(|ids| question(&ids)),
        (2u16..500, 0u16..200, 0u16..16).prop_map(|(n, from, count)| answer(n, &hosts(from, count))),
    ];
    let changed = (real, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8));
    let changed = changed.prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![noise, marked, changed]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    /// "Nothing is kept of names that nobody here looks for", whatever is sent: the book is the same afterwards, and nothing
    /// is to be sent. No bytes panic.
    #[test]
    fn what_concerns_nobody_here_changes_nothing(packets in prop::collection::vec(packets(), 1..20)) {
        let now = Instant::now();
        let (mut book, mut answers) = looking(now);
        let (before, next) = (format!("{book:?}"), book.next(now));
        for packet in packets {
            book.take(&packet, 1, now);
        }
        prop_assert_eq!(format!("{book:?}"), before);
        prop_assert_eq!(book.next(now), next);
        prop_assert!(got(&mut answers).is_empty());
    }
}
