//! Who may claim a machine, and when: a person opens it, somebody waits for a claim, or a ticket has a one-time secret.
//! Strangers who try all day keep nobody out.

use std::time::Duration;

use groundswell::{
    ClaimError, ClaimFailure, ClaimRefusal, ClaimTicket, IncomingClaim, Machine, MachineState, Manager, PendingClaim,
    limits::MAX_STRANGERS,
};
use groundswell_core::{
    encoding::decode,
    kv::pairing::{CLAIM_VERSIONS, ToMachine, ToManager, commitment},
    limits::MAX_CLAIMS_AT_ONCE,
    wire::{Extension, StreamKind},
};
use iroh::{Endpoint, endpoint::QuicTransportConfig};
use tempfile::TempDir;

use crate::kv::{
    common::{OPEN, machine_builder, spawn_machine, spawn_manager, until, within},
    raw::{self, address, hear, say},
};

/// A machine that nobody has opened, and a manager.
async fn both() -> (Machine, Manager, [TempDir; 2]) {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    (spawn_machine(dirs[0].path()).await, spawn_manager(dirs[1].path()).await, dirs)
}

async fn refused(manager: &Manager, ticket: impl Into<ClaimTicket>) -> ClaimRefusal {
    match within("the refusal", manager.begin_claim(ticket)).await {
        Err(ClaimError::Claim(ClaimFailure::Refused(refusal))) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Both persons say yes to a claim that has begun.
async fn confirm(machine: &Machine, claim: PendingClaim) {
    let manager = within("the request", async {
        loop {
            let asked = machine.await_admitted_claim().await.unwrap();
            if asked.pin == claim.pin {
                let manager = asked.manager;
                let (here, there) = tokio::join!(asked.answer(true), claim.answer(true));
                assert_eq!((here.unwrap(), there.unwrap()), (manager, machine.id()));
                return manager;
            }
        }
    })
    .await;
    assert_eq!(machine.get_machine_state(), MachineState::Claimed { manager });
}

/// A claim that ends as soon as the machine's nonce is there; the machine's answer.
async fn half_claim(stranger: &Endpoint, machine: &Machine) -> ToManager {
    let (connection, mut send, mut recv) = raw::begin(stranger, address(&machine.ticket()), StreamKind::Claim).await;
    let (versions, extension) = (CLAIM_VERSIONS, Extension::default());
    say(&mut send, &ToMachine::Claim { versions, commitment: commitment(&[7; 32]), proof: None, extension }).await;
    let answer = decode(&within("the machine", hear(&mut recv)).await.unwrap()).unwrap();
    connection.close(0_u32.into(), b"");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_nobody_has_opened_refuses_and_it_costs_nothing() {
    let (machine, manager, _dirs) = both().await;
    let before = machine.claims_open();
    for _ in 0..30 {
        assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed);
    }
    assert_eq!(machine.claims_open(), before);
    assert!(!before.open && before.attempts.is_empty());
    // A button, for a time.
    machine.open_claims(Duration::from_secs(600));
    confirm(&machine, manager.begin_claim(&machine.ticket()).await.unwrap()).await;
    assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed, "a pair closes it");
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_opened_for_a_time_closes_by_itself_and_what_is_held_with_its_holder() {
    let (machine, manager, _dirs) = both().await;
    machine.open_claims(Duration::from_millis(300));
    until("the machine to close", async || !machine.claims_open().open).await;
    assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed);
    machine.open_claims(OPEN);
    machine.close_claims();
    assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed);
    let held = machine.hold_claims_open();
    drop(manager.begin_claim(&machine.ticket()).await.unwrap());
    drop(held);
    assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed);
    // A program that waits for a claim opens it while it waits, and no longer.
    let waiting = machine.clone();
    let waits = tokio::spawn(async move { waiting.await_next_incoming_claim_request().await });
    until("the program to wait", async || machine.claims_open().open).await;
    waits.abort();
    until("the program to wait no more", async || !machine.claims_open().open).await;
    // Who only looks does not open it.
    let looking = machine.clone();
    let looks = tokio::spawn(async move { looking.await_admitted_claim().await });
    assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed);
    looks.abort();
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_half_claims_of_a_stranger_and_then_the_manager() {
    let (machine, manager, _dirs) = both().await;
    machine.open_claims(OPEN);
    // One identity, and then a new one each time.
    let stranger = raw::endpoint(None).await;
    for _ in 0..10 {
        half_claim(&stranger, &machine).await;
    }
    for _ in 0..10 {
        half_claim(&raw::endpoint(None).await, &machine).await;
    }
    let open = machine.claims_open();
    let of_stranger = open.attempts.iter().find(|(peer, _)| *peer == stranger.id());
    assert!(of_stranger.is_some_and(|(_, count)| (1..=5).contains(count)), "{open:?}");
    until("the claim to be admitted", async || match manager.begin_claim(&machine.ticket()).await {
        Ok(claim) => {
            confirm(&machine, claim).await;
            true
        }
        // The strangers' hang-ups are still to be noticed.
        Err(ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Busy))) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// With identities enough all attempts are used up; the person opens the machine again, and they are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_opens_it_again_forgives_what_was_in_vain() {
    let (machine, manager, _dirs) = both().await;
    machine.open_claims(OPEN);
    until("the attempts to be used up", async || {
        half_claim(&raw::endpoint(None).await, &machine).await;
        machine.claims_open().attempts_left == 0
    })
    .await;
    let refusal = refused(&manager, &machine.ticket()).await;
    assert!(matches!(refusal, ClaimRefusal::TooManyAttempts { .. }), "{refusal}");
    assert!(refusal.to_string().contains("open pairing at the machine again"), "{refusal}");
    // With a ticket of the machine's own none of that counts.
    let ticket = machine.claim_ticket(OPEN);
    drop(manager.begin_claim(&ticket).await.unwrap());
    machine.open_claims(OPEN);
    assert_eq!(machine.claims_open().attempts, []);
    until("the claim to be admitted", async || match manager.begin_claim(&machine.ticket()).await {
        Ok(claim) => {
            confirm(&machine, claim).await;
            true
        }
        Err(_) => false,
    })
    .await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_with_a_secret_lets_in_who_has_it_once_and_for_a_time() {
    let (machine, manager, _dirs) = both().await;
    let first = machine.claim_ticket(OPEN);
    assert!(first.has_secret() && !machine.claims_open().open);
    assert_eq!(refused(&manager, &machine.ticket()).await, ClaimRefusal::Closed, "without the secret");
    let written: ClaimTicket = first.to_string().parse().unwrap();
    let last = first.to_string();
    let (all_but_last, digit) = last.split_at(last.len() - 1);
    let wrong: ClaimTicket = format!("{all_but_last}{}", if digit == "0" { "1" } else { "0" }).parse().unwrap();
    assert_eq!(refused(&manager, &wrong).await, ClaimRefusal::Secret);
    // A newer one takes its place, and runs out.
    let second = machine.claim_ticket(Duration::from_millis(1));
    assert_eq!(refused(&manager, &written).await, ClaimRefusal::Secret);
    until("it to run out", async || machine.claims_open().secret_for.is_none()).await;
    assert_eq!(refused(&manager, &second).await, ClaimRefusal::Secret);
    // A claim in vain leaves it as it is; a pair uses it up.
    let third = machine.claim_ticket(OPEN);
    let claim = manager.begin_claim(&third).await.unwrap();
    assert!(claim.answer(false).await.is_err());
    until("the claim to be admitted", async || match manager.begin_claim(&third).await {
        Ok(claim) => {
            confirm(&machine, claim).await;
            true
        }
        Err(_) => false,
    })
    .await;
    assert_eq!(refused(&manager, &third).await, ClaimRefusal::Secret);
    assert_eq!(machine.claims_open().secret_for, None);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Strangers have used up all attempts, and hold all places up to their PINs. The manager who has a ticket with a secret gets in
/// all the same, and the person finds the claim by its PIN.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_all_places_and_all_attempts_do_not_keep_out_who_has_the_ticket() {
    let (machine, manager, _dirs) = both().await;
    machine.open_claims(OPEN);
    within("all attempts but four to be used up", async {
        let mut half = raw::endpoint(None).await;
        while machine.claims_open().attempts_left > MAX_CLAIMS_AT_ONCE {
            // Five are allowed to one identity, and each is noticed to be over a moment later.
            if matches!(half_claim(&half, &machine).await, ToManager::Refused(ClaimRefusal::TooManyAttempts { .. })) {
                half = raw::endpoint(None).await;
            }
        }
    })
    .await;
    let dirs: Vec<TempDir> = (0..MAX_CLAIMS_AT_ONCE).map(|_| TempDir::new().unwrap()).collect();
    let (mut strangers, mut held) = (Vec::new(), Vec::new());
    for dir in &dirs {
        let stranger = spawn_manager(dir.path()).await;
        let claim = within("a place to be free", async {
            loop {
                match stranger.begin_claim(&machine.ticket()).await {
                    Ok(claim) => return claim,
                    Err(ClaimError::Claim(ClaimFailure::Refused(ClaimRefusal::Busy))) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        held.push(claim.await);
        strangers.push(stranger);
    }
    assert_eq!(machine.claims_open().attempts_left, 0);
    // Each refusal names the way out.
    let refusal = refused(&manager, &machine.ticket()).await;
    assert!(matches!(refusal, ClaimRefusal::TooManyAttempts { .. }), "{refusal}");
    assert!(refusal.to_string().contains("`groundswell claims --ticket`"), "{refusal}");
    machine.open_claims(OPEN);
    let refusal = refused(&manager, &machine.ticket()).await;
    assert_eq!(refusal, ClaimRefusal::Busy);
    assert!(refusal.to_string().contains("`groundswell claims --ticket`"), "{refusal}");
    // It takes the place of the oldest.
    let claim = manager.begin_claim(&machine.claim_ticket(OPEN)).await.unwrap();
    let mut asked = Vec::new();
    within("the requests", async {
        while asked.iter().all(|asked: &IncomingClaim| asked.pin != claim.pin) {
            asked.push(machine.await_admitted_claim().await.unwrap());
        }
    })
    .await;
    let meant = asked.pop().unwrap();
    let (here, there) = tokio::join!(meant.answer(true), claim.answer(true));
    assert_eq!((here.unwrap(), there.unwrap()), (manager.id(), machine.id()));
    // The others are over, at both sides.
    for mut other in asked {
        let over = within("the end", other.over()).await;
        assert!(matches!(over, ClaimError::Claim(ClaimFailure::Superseded)), "{over}");
    }
    for mut held in held {
        within("the end", held.over()).await;
    }
    for stranger in strangers {
        assert_eq!(stranger.list_machine_ids(), []);
        stranger.shutdown().await.unwrap();
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// Strangers connect all the time, more than a private machine has places for, while the manager dials and two people compare
/// their PINs.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_connect_all_the_time_throw_out_no_claim() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let machine = machine_builder(dirs[0].path()).private().spawn().await.unwrap();
    let manager = spawn_manager(dirs[1].path()).await;
    let evicted = || machine.node().metrics().strangers_evicted;
    let (mut flood, target) = (tokio::task::JoinSet::new(), address(&machine.ticket()));
    for _ in 0..24 {
        let endpoint = raw::endpoint(None).await;
        // As many connections as one peer may have.
        for _ in 0..8 {
            let (endpoint, target) = (endpoint.clone(), target.clone());
            flood.spawn(async move {
                loop {
                    if let Ok(connection) = endpoint.connect(target.clone(), crate::common::raw::ALPN).await {
                        connection.closed().await;
                    }
                }
            });
        }
    }
    until("all places to be taken", async || evicted() > 0).await;
    let claim = within("the claim", manager.begin_claim(&machine.claim_ticket(OPEN))).await.unwrap();
    let asked = within("the request", machine.await_admitted_claim()).await.unwrap();
    assert_eq!(asked.pin, claim.pin);
    // While the people look, every stranger of before has made room for another.
    let before = evicted();
    until("the places to be taken by others", async || evicted() > before + MAX_STRANGERS as u64).await;
    let (here, there) = tokio::join!(asked.answer(true), claim.answer(true));
    assert_eq!((here.unwrap(), there.unwrap()), (manager.id(), machine.id()));
    // What it held is given back.
    flood.shutdown().await;
    until("the strangers to be gone", async || machine.node().connections().strangers == 0).await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_peer_that_grants_no_stream_ends() {
    let dir = TempDir::new().unwrap();
    let manager = spawn_manager(dir.path()).await;
    let no_stream = QuicTransportConfig::builder().max_concurrent_bidi_streams(0u32.into()).build();
    let no_machine = raw::grudging_endpoint(None, no_stream).await;
    let accepting = no_machine.clone();
    let accepted = tokio::spawn(async move { accepting.accept().await.unwrap().await.unwrap() });
    let error = within("the refusal", manager.begin_claim(&raw::ticket(&no_machine))).await.unwrap_err();
    assert!(matches!(error, ClaimError::Unreachable(_)), "{error}");
    drop(accepted.await.unwrap());
    manager.shutdown().await.unwrap();
}

/// One that claims, and does not take the machine's nonce.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_peer_that_takes_no_byte_ends() {
    let (machine, manager, _dirs) = both().await;
    machine.open_claims(OPEN);
    let key = iroh::SecretKey::generate();
    // The machine's hello fits, and its nonce does not.
    let no_bytes = QuicTransportConfig::builder().stream_receive_window(24u32.into()).build();
    let stranger = raw::grudging_endpoint(Some(key.clone()), no_bytes).await;
    let (_connection, mut send, _recv) = raw::begin(&stranger, address(&machine.ticket()), StreamKind::Claim).await;
    let (versions, extension) = (CLAIM_VERSIONS, Extension::default());
    say(&mut send, &ToMachine::Claim { versions, commitment: commitment(&[7; 32]), proof: None, extension }).await;
    until("the claim to be under way", async || !machine.claims_open().attempts.is_empty()).await;
    let again = raw::endpoint(Some(key)).await;
    until("the claim to be over", async || {
        !matches!(half_claim(&again, &machine).await, ToManager::Refused(ClaimRefusal::Busy))
    })
    .await;
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
