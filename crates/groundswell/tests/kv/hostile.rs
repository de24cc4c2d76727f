//! A side that is paired and says what it should not: it harms its own connection, and nothing that stays.

use groundswell::KvAuthor;
use groundswell_core::kv::wire::{Held, KvMessage, decode_kv_message};

use crate::{
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
    let knock = knock(&hostile, address(&pair.machine.ticket()), stored.documents()[0]).await.unwrap();
    assert!(knock.hello.is_some(), "it is the manager");
    (pair, hostile, knock)
}

/// It waits for the answer to the wants it has sent, and says how many entries came before.
async fn until_answered(knock: &mut Knock) -> usize {
    let mut entries = 0;
    loop {
        let body = within("an answer", hear(&mut knock.recv)).await.expect("the connection goes on");
        match decode_kv_message(MAX_VALUE_BYTES, &body).unwrap() {
            KvMessage::Entry { .. } => entries += 1,
            KvMessage::Answered { .. } => return entries,
            _ => {}
        }
    }
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
    until_answered(&mut knock).await;
    machine.set_kv_value("after", "2").await.unwrap();
    machine.delete_kv_value("before").await.unwrap();
    knock.connection.close(0_u32.into(), b"");
    hostile.close().await;
    let manager = spawn_manager(pair.manager_dir.path()).await;
    until_put(&mut manager.watch_kv_key(pair.id, "after").await.unwrap(), "after", "2").await;
    assert_eq!(manager.get_kv_value(pair.id, "before").await.unwrap(), None);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// A machine writes faster than the other side reads, without a pause: who asks for something gets it
/// meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_writes_without_a_pause_still_answers() {
    const ENOUGH: usize = 4_000;
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
    // It is in the flow now.
    for _ in 0..100 {
        within("an entry", hear(&mut knock.recv)).await.unwrap();
    }
    say(&mut knock.send, &KvMessage::Want { author: KvAuthor::Machine, key: [7; 32] }).await;
    let entries = until_answered(&mut knock).await;
    assert!(entries < ENOUGH, "{entries} entries came before the answer");
    println!("{entries} entries came before the answer");
    let Pair { machine, .. } = pair;
    machine.shutdown().await.unwrap();
    for writer in writers {
        writer.await.unwrap();
    }
    hostile.close().await;
}
