//! "A reader that never reads does not slow the publisher or another reader, and costs no growing memory":
//! with a backlog that dwarfs every buffer there is.

use std::{convert::Infallible, fs, time::Instant};

use crate::common::{Pair, next_update, raw, until, within};
use groundswell::{Aeon, Event, Freshness, Lake, Publications, Source, Updates};

/// The newest line is the state, so that a rock is as small as a wave, whatever was given.
struct LastLine;
impl Lake for LastLine {
    const NAME: &'static str = "last line";
    type Rock = String;
    type Wave = String;
    type Error = Infallible;
    fn wash(rock: &mut String, wave: &String) -> Result<(), Infallible> {
        rock.clone_from(wave);
        Ok(())
    }
}

/// How many bytes a wave has, how many waves are given at once, and how many make a block: 40 MiB.
const WAVE_BYTES: usize = 2_048;
const AT_ONCE: u64 = 200;
const BLOCK: u64 = 20_000;

/// With how many blocks behind it a reader stalls: 200,000 waves, 400 MiB.
const BLOCKS: u64 = 10;

/// What a reader that does not read may hold: what the QUIC stream takes in at the other end and on the way
/// (1.25 MB each, by default), and one batch. In waves, with room.
const HELD_WAVES: u64 = 3_000;

/// By how much the process may grow while 400 MiB pass a reader that does not read: room for the allocator.
/// Caches are full by then.
const GROWTH_BYTES: u64 = 48 * 1024 * 1024;

/// How much longer a block may take beside stalled readers, at best. It takes no longer; this is room for what else
/// the machine does, which the measurement without them, before and after, has part of too.
const SLOWER: f64 = 1.5;

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Gives a block, and waits until the live reader has the newest state; how many seconds it took.
async fn block(lines: &Publications<LastLine>, live: &mut Updates<LastLine>) -> f64 {
    let begun = Instant::now();
    let mut last = Aeon(0);
    for n in 0..BLOCK / AT_ONCE {
        let waves = (0..AT_ONCE).map(|wave| format!("{n} {wave} {}", "x".repeat(WAVE_BYTES)));
        last = lines.give_all("/line", waves).await.unwrap();
    }
    while live.cursor().is_none_or(|at| at.aeon < last) {
        next_update(live).await;
    }
    begun.elapsed().as_secs_f64()
}

async fn best_of(count: u64, lines: &Publications<LastLine>, live: &mut Updates<LastLine>) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..count {
        best = best.min(block(lines, live).await);
    }
    best
}

/// "A reader that never reads does not slow the publisher or another reader, and costs no growing memory."
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_400_mib_slows_no_one_and_costs_no_memory() {
    let pair = Pair::new().await;
    let agent = pair.publisher.agent("main").unwrap();
    let lines = agent.publications::<LastLine>("/line").await.unwrap();
    lines.give("/line", "first".to_owned()).await.unwrap();
    let source = Source::new(pair.publisher.id(), "main", "/line").unwrap();
    let inbox = pair.follower.agent("main").unwrap().subscriptions::<LastLine>("/line").await.unwrap();
    let mut live = inbox.surf(source.clone()).await.unwrap();
    until("the live reader", || live.freshness() == Freshness::Live).await;
    // Without anyone else; the first of these fills the caches.
    block(&lines, &mut live).await;
    let alone = best_of(3, &lines, &mut live).await;
    // One remote reader asks and never reads; one local reader looks once and never again.
    let stalled = raw::endpoint().await;
    let connection = stalled.connect(raw::address(&pair.publisher.ticket()), raw::ALPN).await.unwrap();
    raw::hello(&connection).await;
    let (_send, mut unread) = raw::ask(&connection, &raw::surf("main", "/line", "last line", None)).await;
    until("the stalled reader", || pair.publisher.metrics().remote_readers_now == 2).await;
    let own = agent.subscriptions::<LastLine>("/line").await.unwrap();
    let mut stalled_local = own.surf(source.clone()).await.unwrap();
    next_update(&mut stalled_local).await;
    // A few waves at a time, until its stream is full: one that falls behind before goes on with a rock, again and again.
    let reader_lag = || pair.publisher.status().publications[0].reader_lag;
    let mut given = 0;
    let stalled_at = loop {
        assert!(given < 10 * HELD_WAVES, "its stream takes all");
        for _ in 0..50 {
            given += 20;
            let waves = (0..20).map(|wave| format!("{given} {wave} {}", "x".repeat(WAVE_BYTES)));
            let last = lines.give_all("/line", waves).await.unwrap();
            while live.cursor().is_none_or(|at| at.aeon < last) {
                next_update(&mut live).await;
            }
            while stalled_local.cursor().is_none_or(|at| at.aeon < last) {
                next_update(&mut stalled_local).await;
            }
        }
        // The other two have everything.
        let lag = reader_lag();
        if lag > 1_000 {
            break lag;
        }
    };
    println!("stalled after {given} waves, {stalled_at} behind");
    let (before, sent) = (resident(), pair.publisher.metrics().waves_sent);
    let applied = pair.follower.metrics().waves_applied;
    let beside = best_of(BLOCKS, &lines, &mut live).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "grown by {grown} bytes");
    // It is stalled indeed: it was sent what its stream holds, and the live one all the rest.
    let live_ones = pair.follower.metrics().waves_applied - applied;
    let to_stalled = (pair.publisher.metrics().waves_sent - sent).saturating_sub(live_ones);
    assert!(to_stalled < HELD_WAVES, "{to_stalled} of {} waves were sent to it", BLOCKS * BLOCK);
    assert!(reader_lag() >= BLOCKS * BLOCK, "{} behind", reader_lag());
    // When they look again, both get the newest state by a rock: not the history.
    let newest = lines.read()[&"/line".parse::<groundswell::Path>().unwrap()].cursor.aeon;
    let next = next_update(&mut stalled_local).await;
    assert_eq!((next.aeon(), next.wave), (newest, None));
    assert!(!matches!(stalled_local.next().await, Some(Event::Update(_))), "and nothing more");
    assert!(reader_lag() >= BLOCKS * BLOCK - HELD_WAVES, "the remote one is {} behind", reader_lag());
    let (mut rocks, mut waves) = (0, 0);
    within("all that the stalled reader gets", async {
        loop {
            let message = raw::read_message(&mut unread).await.expect("a message");
            rocks += u64::from(message.starts_with("Rock"));
            waves += u64::from(message.starts_with("Wave"));
            if message == format!("CaughtUp({newest:?})") {
                return;
            }
        }
    })
    .await;
    assert!(rocks >= 2, "the one it began with, and the one that took the place of the waves between: {rocks}");
    // The horizon's waves may follow that rock.
    assert!(waves < HELD_WAVES + 2_000, "{waves} waves");
    until("no reader that is behind", || reader_lag() == 0).await;
    connection.close(0u32.into(), b"");
    drop(stalled_local);
    let alone = best_of(3, &lines, &mut live).await.max(alone);
    println!("a block of {BLOCK} waves: {alone:.2} s alone, {beside:.2} s beside two stalled; grown by {grown} bytes");
    assert!(beside < alone * SLOWER, "{beside:.2} s instead of {alone:.2} s");
    pair.publisher.shutdown().await.unwrap();
    pair.follower.shutdown().await.unwrap();
}
