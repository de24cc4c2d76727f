//! Somebody in the middle of a claim, with a connection of his own to either side: a real manager, a real
//! machine, and in between one who speaks the protocol by hand and may choose whatever he sends after he
//! has seen what came. The core's test tries the same on the pure state machines, with every choice.

use futures_util::FutureExt;
use groundswell::{ClaimPin, Machine, MachineState, Manager};
use groundswell_core::{
    encoding::decode,
    kv::pairing::{CLAIM_KEYING_LABEL, CLAIM_VERSIONS, ToMachine, ToManager, commitment},
    wire::{Extension, StreamKind},
};
use iroh::{
    Endpoint,
    endpoint::{Connection, RecvStream, SendStream},
};
use tempfile::TempDir;

use crate::{
    common::raw::hello,
    kv::{
        common::{OPEN, spawn_machine, spawn_manager, within},
        raw::{self, address, hear, say},
    },
};

/// How often each trick is tried; the person opens the machine for each try.
const TRIES: u8 = 8;

/// One side of his, with a connection of its own.
struct Line {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
}

impl Line {
    fn keying(&self) -> [u8; 32] {
        let mut keying = [0; 32];
        self.connection.export_keying_material(&mut keying, CLAIM_KEYING_LABEL, &[]).unwrap();
        keying
    }

    async fn hear_manager(&mut self) -> ToMachine {
        decode(&within("the manager", hear(&mut self.recv)).await.unwrap()).unwrap()
    }

    async fn hear_machine(&mut self) -> ToManager {
        decode(&within("the machine", hear(&mut self.recv)).await.unwrap()).unwrap()
    }
}

/// Both of his lines, once the manager has dialled him, and the commitment that it sent.
async fn lines(between: &Endpoint, machine: &Machine) -> (Line, Line, [u8; 32]) {
    let connection = within("the manager", between.accept()).await.unwrap().await.unwrap();
    hello(&connection).await;
    let (send, recv) = raw::accept(&connection, StreamKind::Claim).await;
    let mut manager = Line { connection, send, recv };
    let ToMachine::Claim { commitment, .. } = manager.hear_manager().await else { panic!("a claim comes first") };
    let (connection, send, recv) = raw::begin(between, address(&machine.ticket()), StreamKind::Claim).await;
    (manager, Line { connection, send, recv }, commitment)
}

fn claim_with(commitment: [u8; 32]) -> ToMachine {
    ToMachine::Claim { versions: CLAIM_VERSIONS, commitment, proof: None, extension: Extension::default() }
}

fn nonce_of(nonce: [u8; 32]) -> ToManager {
    ToManager::Nonce { versions: CLAIM_VERSIONS, nonce, extension: Extension::default() }
}

/// Sets the three up and tries a trick again and again. Both PINs must differ each time, and nobody is
/// paired when the persons say what they see.
async fn differ(what: &str, trick: impl AsyncFn(&Endpoint, &Machine, u8) -> (Line, Line)) {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (machine, manager) = (spawn_machine(dirs[0].path()).await, spawn_manager(dirs[1].path()).await);
    for attempt in 0..TRIES {
        let between = raw::endpoint(None).await;
        let [at_machine, at_manager] =
            pins(&machine, &manager, &between, |between, machine| trick(between, machine, attempt).boxed_local()).await;
        println!("{what}, try {attempt}: the machine shows {at_machine}, the manager {at_manager}");
        assert_ne!(at_machine, at_manager, "{what}: by luck it is one in a million");
    }
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}

/// What both show with somebody in between; then both persons say that it differs.
async fn pins<'a>(
    machine: &'a Machine,
    manager: &Manager,
    between: &'a Endpoint,
    trick: impl FnOnce(&'a Endpoint, &'a Machine) -> futures_util::future::LocalBoxFuture<'a, (Line, Line)>,
) -> [ClaimPin; 2] {
    let ticket = raw::ticket(between);
    machine.open_claims(OPEN);
    let (claim, (_to_manager, mut to_machine)) = tokio::join!(manager.begin_claim(&ticket), trick(between, machine));
    let claim = claim.unwrap();
    let (pin, answer) = within("the request", machine.await_next_incoming_claim_request()).await.unwrap();
    let pins = [pin, claim.pin];
    answer.send(false).unwrap();
    assert!(within("the manager's end", claim.answer(false)).await.is_err());
    // Until then the machine tells this peer that it is busy.
    while within("the machine's end", hear(&mut to_machine.recv)).await.is_some() {}
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(manager.list_machine_ids(), []);
    pins
}

/// He passes on every message as it is. The connections are his, and so differ.
#[tokio::test(flavor = "multi_thread")]
async fn between_both_who_relays_a_claim_has_two_pins() {
    differ("relayed", async |between, machine, _| {
        let (mut manager, mut to_machine, committed) = lines(between, machine).await;
        say(&mut to_machine.send, &claim_with(committed)).await;
        say(&mut manager.send, &to_machine.hear_machine().await).await;
        say(&mut to_machine.send, &manager.hear_manager().await).await;
        (manager, to_machine)
    })
    .await;
}

/// He has nonces of his own towards both, chosen when he has seen all that he can see before.
#[tokio::test(flavor = "multi_thread")]
async fn between_both_who_has_nonces_of_his_own_has_two_pins() {
    differ("own nonces", async |between, machine, attempt| {
        let (mut manager, mut to_machine, _) = lines(between, machine).await;
        let own = [attempt; 32];
        say(&mut to_machine.send, &claim_with(commitment(&own))).await;
        let ToManager::Nonce { nonce, .. } = to_machine.hear_machine().await else { panic!("a nonce follows") };
        // The machine's PIN is settled by now, and he knows it.
        let shown = ClaimPin::derive(&to_machine.keying(), &own, &nonce);
        say(&mut to_machine.send, &ToMachine::Reveal { nonce: own }).await;
        // Towards the manager he would need its nonce, to search for one that makes the same. It is hidden.
        let guess =
            (0..100_000_u32).map(numbered).find(|guess| ClaimPin::derive(&manager.keying(), &own, guess) == shown);
        say(&mut manager.send, &nonce_of(guess.unwrap_or(own))).await;
        assert!(matches!(manager.hear_manager().await, ToMachine::Reveal { .. }));
        (manager, to_machine)
    })
    .await;
}

/// A nonce of this number.
fn numbered(number: u32) -> [u8; 32] {
    let mut nonce = [0; 32];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// He lets the manager reveal first, and searches for a nonce that makes the machine show the manager's PIN. He
/// finds one; it is not the one that he is bound to, and the machine shows nothing.
#[tokio::test(flavor = "multi_thread")]
async fn between_both_who_reveals_what_he_was_not_bound_to_is_found_out() {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let (machine, manager) = (spawn_machine(dirs[0].path()).await, spawn_manager(dirs[1].path()).await);
    let between = raw::endpoint(None).await;
    let ticket = raw::ticket(&between);
    machine.open_claims(OPEN);
    let (claim, (mut to_machine, wanted)) = tokio::join!(manager.begin_claim(&ticket), async {
        let (mut manager, mut to_machine, _) = lines(&between, &machine).await;
        say(&mut to_machine.send, &claim_with(commitment(&[7; 32]))).await;
        let ToManager::Nonce { nonce, .. } = to_machine.hear_machine().await else { panic!("a nonce follows") };
        say(&mut manager.send, &nonce_of([8; 32])).await;
        let ToMachine::Reveal { nonce: revealed } = manager.hear_manager().await else { panic!("then the manager's") };
        let wanted = ClaimPin::derive(&manager.keying(), &revealed, &[8; 32]);
        let keying = to_machine.keying();
        let found = (0..u32::MAX).map(numbered).find(|found| ClaimPin::derive(&keying, found, &nonce) == wanted);
        say(&mut to_machine.send, &ToMachine::Reveal { nonce: found.unwrap() }).await;
        // The manager's claim goes on; its person sees a PIN that no machine shows.
        tokio::spawn(async move { manager.connection.closed().await });
        (to_machine, wanted)
    });
    let claim = claim.unwrap();
    assert_eq!(claim.pin, wanted, "he has found what he searched for");
    while within("the machine to end it", hear(&mut to_machine.recv)).await.is_some() {}
    assert!(machine.await_next_incoming_claim_request().now_or_never().is_none(), "the machine shows nothing");
    assert!(within("the manager's end", claim.answer(false)).await.is_err());
    assert_eq!(machine.get_machine_state(), MachineState::Unclaimed);
    assert_eq!(manager.list_machine_ids(), []);
    machine.shutdown().await.unwrap();
    manager.shutdown().await.unwrap();
}
