//! The man in the middle: one connection to each side, of which he chooses the keys, and every
//! nonce and every order of messages is his. PINs are told apart by two digits here instead of
//! six, so that his luck can be counted: one try in a hundred.

use super::*;

const PINS: u32 = 100;
/// How often each way is tried. Luck leads to 40 of them, give or take 6.
const TRIES: u64 = 4_000;
const LUCK: std::ops::RangeInclusive<u64> = 10..=80;

fn digits(pin: ClaimPin) -> u32 {
    pin.number() % PINS
}

/// Bytes that differ for each try and purpose.
fn bytes(attempt: u64, purpose: &str) -> [u8; 32] {
    *blake3::Hasher::new_derive_key(purpose).update(&attempt.to_le_bytes()).finalize().as_bytes()
}

/// Searches for a nonce of his that leads to these digits.
fn search(attempt: u64, wanted: u32, pin: impl Fn(&[u8; 32]) -> ClaimPin) -> [u8; 32] {
    let mut nonce = bytes(attempt, "search");
    // One time in 10^13 there is none among so many.
    for number in 0..3_000_u32 {
        nonce[..4].copy_from_slice(&number.to_le_bytes());
        if digits(pin(&nonce)) == wanted {
            break;
        }
    }
    nonce
}

/// Both sides, and the keys of his connection to each.
struct Scene {
    attempt: u64,
    manager: ManagerClaim,
    bound: [u8; 32],
    machine: MachinePairing,
    manager_keying: [u8; 32],
    machine_keying: [u8; 32],
}

impl Scene {
    fn new(attempt: u64) -> Self {
        let manager_keying = bytes(attempt, "keying with the manager");
        let secrets = ClaimSecrets { keying: manager_keying, nonce: bytes(attempt, "the manager's nonce") };
        let (manager, first) = ManagerClaim::new(0, secrets, payload(""), None);
        let ToMachine::Claim { commitment: bound, .. } = first else { panic!("{first:?}") };
        let machine_keying = bytes(attempt, "keying with the machine");
        let mut machine = MachinePairing::new(None);
        machine.hold();
        Self { attempt, manager, bound, machine, manager_keying, machine_keying }
    }

    /// Gives the manager a nonce; the PIN that it shows, and its own nonce.
    fn answer(&mut self, nonce: [u8; 32]) -> Option<(ClaimPin, [u8; 32])> {
        let outputs = self.manager.handle(ManagerInput::Message(admitted(nonce)));
        match outputs[..] {
            [ManagerOutput::Send(ToMachine::Reveal { nonce }), ManagerOutput::ShowPin(pin)] => Some((pin, nonce)),
            _ => None,
        }
    }

    /// Binds himself towards the machine; its nonce.
    fn claim(&mut self, bound: [u8; 32]) -> (ClaimId, [u8; 32]) {
        let secrets = ClaimSecrets { keying: self.machine_keying, nonce: bytes(self.attempt, "the machine's") };
        let message = first(bound);
        match self.machine.claim(0, OTHER, secrets, &message) {
            Ok((id, ToManager::Nonce { nonce, .. })) => (id, nonce),
            other => panic!("{other:?}"),
        }
    }

    /// Reveals a nonce to the machine; the PIN that it shows.
    fn reveal(&mut self, id: ClaimId, nonce: [u8; 32]) -> Option<ClaimPin> {
        match self.machine.handle(id, MachineInput::Message(ToMachine::Reveal { nonce }))[..] {
            [MachineOutput::ShowPin(pin)] => Some(pin),
            _ => None,
        }
    }
}

/// How often both sides show the same digits.
fn wins(attack: impl Fn(Scene) -> Option<(ClaimPin, ClaimPin)>) -> u64 {
    let shown = (0..TRIES).map(|attempt| attack(Scene::new(attempt)));
    shown.filter(|pins| pins.is_some_and(|(one, other)| digits(one) == digits(other))).count() as u64
}

#[test]
fn who_answers_the_manager_last_does_not_know_its_nonce() {
    let won = wins(|mut scene| {
        let mine = bytes(scene.attempt, "mine");
        let (id, _) = scene.claim(commitment(&mine));
        let at_machine = scene.reveal(id, mine)?;
        // All that he has of the manager's nonce is what it is bound by.
        let (keying, guess) = (scene.manager_keying, scene.bound);
        let nonce = search(scene.attempt, digits(at_machine), |nonce| ClaimPin::derive(&keying, &guess, nonce));
        let (at_manager, _) = scene.answer(nonce)?;
        Some((at_manager, at_machine))
    });
    assert!(LUCK.contains(&won), "{won} of {TRIES}");
}

#[test]
fn who_answers_the_machine_last_is_bound_to_his_nonce() {
    let won = wins(|mut scene| {
        let (at_manager, _) = scene.answer(bytes(scene.attempt, "for the manager"))?;
        let mine = bytes(scene.attempt, "mine");
        let (id, _) = scene.claim(commitment(&mine));
        Some((at_manager, scene.reveal(id, mine)?))
    });
    assert!(LUCK.contains(&won), "{won} of {TRIES}");
}

#[test]
fn who_reveals_another_nonce_than_he_is_bound_to_is_refused() {
    let won = wins(|mut scene| {
        let (at_manager, _) = scene.answer(bytes(scene.attempt, "for the manager"))?;
        let (id, theirs) = scene.claim(commitment(&bytes(scene.attempt, "mine")));
        let keying = scene.machine_keying;
        let better = search(scene.attempt, digits(at_manager), |nonce| ClaimPin::derive(&keying, nonce, &theirs));
        Some((at_manager, scene.reveal(id, better)?))
    });
    assert_eq!(won, 0);
}

#[test]
fn who_sends_the_manager_a_second_nonce_is_refused() {
    let won = wins(|mut scene| {
        let mine = bytes(scene.attempt, "mine");
        let (id, _) = scene.claim(commitment(&mine));
        let at_machine = scene.reveal(id, mine)?;
        let (_, theirs) = scene.answer(bytes(scene.attempt, "first"))?;
        let keying = scene.manager_keying;
        let better = search(scene.attempt, digits(at_machine), |nonce| ClaimPin::derive(&keying, &theirs, nonce));
        let (at_manager, _) = scene.answer(better)?;
        Some((at_manager, at_machine))
    });
    assert_eq!(won, 0);
}

#[test]
fn who_passes_everything_on_has_two_connections_that_differ() {
    let won = wins(|mut scene| {
        let (id, theirs) = scene.claim(scene.bound);
        let (at_manager, revealed) = scene.answer(theirs)?;
        Some((at_manager, scene.reveal(id, revealed)?))
    });
    assert!(LUCK.contains(&won), "{won} of {TRIES}");
}

/// The same without commitment: the manager sends its nonce, the machine answers with its
/// own. This one is beaten each time, so that the attacks above are worth withstanding.
#[test]
fn without_commitment_he_always_wins() {
    let won = (0..TRIES)
        .filter(|attempt| {
            let (with_manager, with_machine) = (bytes(*attempt, "manager's keying"), bytes(*attempt, "machine's"));
            let (manager, machine) = (bytes(*attempt, "manager's nonce"), bytes(*attempt, "machine's nonce"));
            let at_machine = ClaimPin::derive(&with_machine, &bytes(*attempt, "mine"), &machine);
            let pin = |nonce: &[u8; 32]| ClaimPin::derive(&with_manager, &manager, nonce);
            let at_manager = pin(&search(*attempt, digits(at_machine), pin));
            digits(at_manager) == digits(at_machine)
        })
        .count() as u64;
    assert_eq!(won, TRIES);
}
