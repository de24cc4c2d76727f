//! A side that is paired and says what it should not: it harms its own connection, and nothing that stays.

use std::time::Duration;

use groundswell::KvAuthor;
use groundswell_core::kv::wire::{Held, KvMessage, decode_kv_message};

use crate::kv::{
    common::{Pair, spawn_manager, until_put, within},
    raw::{Knock, Stored, address, endpoint, hear, knock, say},
};

/// Of a limit that both sides have by default.
const MAX_VALUE_BYTES: usize = groundswell::limits::MAX_KV_VALUE_BYTES;

/// A pair whose manager is shut down, and somebody in its place that has its identity and speaks by hand.
async fn in_the_managers_place() -> (Pair, iroh::Endpoint, Knock) {
    let pair = Pair::new().await;
    pair.machine.set_kv_value("before", "1").await.unwrap();
    until_put(&mut pair.manager.watch_kv_key(pair.id, "before").await.unwrap(), "before", "1").await;
    pair.manager.shutdown().await.unwrap();
    let stored = Stored::read(pair.manager_dir.path());
    let hostile = endpoint(Some(stored.key.clone())).await;
    let knock = knock(&hostile, address(&pair.machine.ticket()), stored.documents()[0]).await;
    assert!(knock.hello.is_some(), "it is the manager");
    (pair, hostile, knock)
}

/// How many entries may come before an answer: some are on their way when it is asked for.
const ENOUGH: usize = 200;

/// How slowly a slow side reads.
const PACE: Duration = Duration::from_millis(20);

/// It waits for the answer to the wants it has sent, and reads so slowly.
async fn until_answered(knock: &mut Knock, pace: Duration) {
    let mut entries = 0;
    while entries < ENOUGH {
        // Time is under test: this is a side that reads slowly.
        tokio::time::sleep(pace).await;
        let body = within("an answer", hear(&mut knock.recv)).await.expect("the connection goes on");
        match decode_kv_message(MAX_VALUE_BYTES, &body).unwrap() {
            KvMessage::Entry { .. } => entries += 1,
            KvMessage::Answered { .. } => {
                println!("{entries} entries came before the answer");
                return;
            }
            _ => {}
        }
    }
    panic!("{entries} entries, and no answer");
}

/// It claims to hold what was never written, of both authors, and wants what does not exist, more often
/// than it may. The machine works on, and what it writes comes to the manager, once that is itself again.
#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_lies_about_what_it_holds_stops_nothing() {
    let (pair, hostile, mut knock) = in_the_managers_place().await;
    let machine = &pair.machine;
    for author in [KvAuthor::Machine, KvAuthor::Manager] {
        say(&mut knock.send, &KvMessage::UpTo { author, counter: u64::MAX }).await;
    }
    say(&mut knock.send, &KvMessage::Ack(Held { machine: u64::MAX, manager: u64::MAX })).await;
    say(&mut knock.send, &KvMessage::Answered { wants: u32::MAX }).await;
    for n in 0..10_000_u32 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        say(&mut knock.send, &KvMessage::Want { author: KvAuthor::Machine, key }).await;
    }
    until_answered(&mut knock, Duration::ZERO).await;
    machine.set_kv_value("after", "2").await.unwrap();
    machine.delete_kv_value("before").await.unwrap();
    knock.connection.close(0_u32.into(), b"");
    hostile.close().await;
    let manager = spawn_manager(pair.manager_dir.path()).await;
    until_put(&mut manager.watch_kv_key(pair.id, "after").await.unwrap(), "after", "2").await;
    assert_eq!(manager.get_kv_value(pair.id, "before").await.unwrap(), None);
    // And so does what is written while it is connected, at once and not by a reconciliation.
    let mut live = manager.watch_kv_key(pair.id, "live").await.unwrap();
    within("all of them", async {
        for n in 0..10 {
            machine.set_kv_value("live", format!("{n}")).await.unwrap();
            until_put(&mut live, "live", &format!("{n}")).await;
        }
    })
    .await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A machine writes faster than the other side reads, without a pause: who asks for something gets it
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_writes_without_a_pause_still_answers() {
    let (pair, hostile, mut knock) = in_the_managers_place().await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let machine = pair.machine.clone();
            tokio::spawn(async move {
                let value = vec![writer; 60_000];
                for n in 0_u64.. {
                    if machine.set_kv_value(format!("{writer}/{}", n % 8), value.clone()).await.is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    // Until the machine is ahead of it by more than what is on its way.
    for _ in 0..50 {
        // Time is under test: this is a side that reads slowly.
        tokio::time::sleep(PACE).await;
        within("an entry", hear(&mut knock.recv)).await.unwrap();
    }
    say(&mut knock.send, &KvMessage::Want { author: KvAuthor::Machine, key: [7; 32] }).await;
    until_answered(&mut knock, PACE).await;
    let Pair { machine, .. } = pair;
    machine.shutdown().await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    hostile.close().await;
}
