//! Who may claim a machine, and when: a person opens it, somebody waits for a claim, or a ticket has a one-time secret.
//! Strangers who try all day keep nobody out.

use std::time::Duration;

use groundswell::{ClaimError, ClaimFailure, ClaimRefusal, ClaimTicket, Machine, MachineState, Manager, PendingClaim};
use groundswell_core::{
    encoding::decode,
    kv::pairing::{CLAIM_VERSIONS, ToMachine, ToManager, commitment},
    wire::Extension,
};
use iroh::Endpoint;
use tempfile::TempDir;

use crate::kv::{
    common::{OPEN, spawn_machine, spawn_manager, until, within},
    raw::{self, CLAIM_ALPN, address, hear, say},
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
    let connection = within("a connection", stranger.connect(address(&machine.ticket()), CLAIM_ALPN)).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
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

/// Strangers who hold claims, up to their PINs, are in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn claims_that_strangers_hold_do_not_keep_the_manager_out() {
    let (machine, manager, _dirs) = both().await;
    machine.open_claims(OPEN);
    let dirs: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    let (mut strangers, mut held) = (Vec::new(), Vec::new());
    for dir in &dirs {
        let stranger = spawn_manager(dir.path()).await;
        held.push(stranger.begin_claim(&machine.ticket()).await.unwrap());
        strangers.push(stranger);
    }
    // There is a place for one more, and the person finds it by its PIN.
    let claim = manager.begin_claim(&machine.ticket()).await.unwrap();
    let mut asked = Vec::new();
    while asked.len() < 4 {
        asked.push(within("the requests", machine.await_admitted_claim()).await.unwrap());
    }
    let place = asked.iter().position(|asked| asked.pin == claim.pin).unwrap();
    let meant = asked.remove(place);
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
