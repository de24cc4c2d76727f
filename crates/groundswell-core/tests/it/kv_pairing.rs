//! Pairing: two people who confirm the same six digits make a pair, and nothing else does.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

mod man_in_the_middle;

use groundswell_core::{
    encoding::encode,
    kv::pairing::{
        CLAIM_VERSIONS, ClaimError, ClaimId, ClaimMessageError, ClaimPayload, ClaimPin, ClaimSecret, ClaimSecrets,
        MachineInput, MachineOutput, MachinePairing, ManagerClaim, ManagerInput, ManagerOutput, PayloadTooLong,
        PeerKey, Refusal, ToMachine, ToManager, commitment, decode_claim, decode_to_machine, decode_to_manager,
    },
    limits::{
        CLAIM_REVEAL_TIMEOUT_MS, CLAIM_TIMEOUT_MS, CLAIM_WINDOW_MS, MAX_CLAIM_ATTEMPTS, MAX_CLAIM_ATTEMPTS_OF_PEER,
        MAX_CLAIM_MESSAGE_BYTES, MAX_CLAIM_PAYLOAD_BYTES, MAX_CLAIM_SECRET_MS, MAX_CLAIMS_AT_ONCE, MAX_CLAIMS_OPEN_MS,
    },
    wire::{Extension, VersionMismatch, VersionRange},
};
use proptest::prelude::*;

const MANAGER: PeerKey = PeerKey([1; 32]);
const OTHER: PeerKey = PeerKey([2; 32]);

fn secrets(keying: u8, nonce: u8) -> ClaimSecrets {
    ClaimSecrets { keying: [keying; 32], nonce: [nonce; 32] }
}

/// The first message of a manager.
fn first(commitment: [u8; 32]) -> ToMachine {
    ToMachine::Claim { versions: CLAIM_VERSIONS, commitment, proof: None, extension: Extension::default() }
}

/// The answer to it.
fn admitted(nonce: [u8; 32]) -> ToManager {
    ToManager::Nonce { versions: CLAIM_VERSIONS, nonce, extension: Extension::default() }
}

fn payload(text: &str) -> ClaimPayload {
    ClaimPayload::new(text.as_bytes()).unwrap()
}

/// A claim up to the PINs: what both sides show.
fn until_shown(machine: &mut MachinePairing, now: u64, who: PeerKey) -> (ManagerClaim, ClaimId, [ClaimPin; 2]) {
    let (mut manager, first) = ManagerClaim::new(now, secrets(7, 1), payload("manager"), None);
    machine.open(now, MAX_CLAIMS_OPEN_MS);
    let (id, nonce) = machine.claim(now, who, secrets(7, 2), &first).unwrap();
    let outputs = manager.handle(ManagerInput::Message(nonce));
    let [ManagerOutput::Send(reveal), ManagerOutput::ShowPin(at_manager)] = &outputs[..] else { panic!("{outputs:?}") };
    let outputs = machine.handle(id, MachineInput::Message(reveal.clone()));
    let [MachineOutput::ShowPin(at_machine)] = outputs[..] else { panic!("{outputs:?}") };
    (manager, id, [*at_manager, at_machine])
}

/// From there on to the pair.
fn to_the_end(machine: &mut MachinePairing, mut manager: ManagerClaim, id: ClaimId, who: PeerKey) {
    assert_eq!(machine.handle(id, MachineInput::Answer(true)), []);
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    let store = MachineOutput::Store { manager: who, payload: payload("manager") };
    assert_eq!(machine.handle(id, MachineInput::Message(confirm.clone())), [store]);
    let outputs = machine.handle(id, MachineInput::Stored(payload("machine")));
    let [MachineOutput::Send(handover), MachineOutput::Ended(Ok(paired))] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((*paired, machine.manager(), machine.pending().next()), (who, Some(who), None));
    let store = ManagerOutput::Store(payload("machine"));
    assert_eq!(manager.handle(ManagerInput::Message(handover.clone())), [store]);
    assert_eq!(manager.handle(ManagerInput::Stored), [ManagerOutput::Ended(Ok(()))]);
}

#[test]
fn two_people_who_confirm_the_same_pin_make_a_pair_and_may_do_so_again() {
    let mut machine = MachinePairing::new(None);
    for now in [0, 5_000] {
        let (manager, id, [one, other]) = until_shown(&mut machine, now, MANAGER);
        assert_eq!(one, other);
        assert_eq!(one.to_string().len(), 6);
        to_the_end(&mut machine, manager, id, MANAGER);
    }
    // It stays so after a restart, and for others it is taken.
    let mut machine = MachinePairing::new(machine.manager());
    let (_, first) = ManagerClaim::new(0, secrets(7, 1), payload(""), None);
    assert_eq!(machine.claim(0, OTHER, secrets(7, 2), &first), Err(Refusal::Taken));
    let (manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    to_the_end(&mut machine, manager, id, MANAGER);
}

#[test]
fn either_person_may_say_no() {
    let mut machine = MachinePairing::new(None);
    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    let outputs = machine.handle(id, MachineInput::Answer(false));
    let refused = ToManager::Refused(Refusal::Declined);
    assert_eq!(outputs, [MachineOutput::Send(refused.clone()), MachineOutput::Ended(Err(ClaimError::DeclinedHere))]);
    let ended = ManagerOutput::Ended(Err(ClaimError::Refused(Refusal::Declined)));
    assert_eq!(manager.handle(ManagerInput::Message(refused)), [ended]);

    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    let outputs = manager.handle(ManagerInput::Answer(false));
    let ended = ManagerOutput::Ended(Err(ClaimError::DeclinedHere));
    assert_eq!(outputs, [ManagerOutput::Send(ToMachine::Decline), ended]);
    let outputs = machine.handle(id, MachineInput::Message(ToMachine::Decline));
    assert_eq!(outputs, [MachineOutput::Ended(Err(ClaimError::DeclinedThere))]);
    assert_eq!(machine.manager(), None);
}

#[test]
fn a_claim_times_out_on_both_sides() {
    let mut machine = MachinePairing::new(None);
    let (mut manager, id, _) = until_shown(&mut machine, 1_000, MANAGER);
    let deadline = 1_000 + CLAIM_TIMEOUT_MS;
    assert_eq!((machine.deadline_ms(id), manager.deadline_ms()), (Some(deadline), Some(deadline)));
    assert_eq!(machine.tick(id, deadline - 1), []);
    assert_eq!(manager.tick(deadline - 1), []);
    let refused = MachineOutput::Send(ToManager::Refused(Refusal::TimedOut));
    assert_eq!(machine.tick(id, deadline), [refused, MachineOutput::Ended(Err(ClaimError::TimedOut))]);
    let ended = ManagerOutput::Ended(Err(ClaimError::TimedOut));
    assert_eq!(manager.tick(deadline), [ManagerOutput::Send(ToMachine::Decline), ended]);
    assert_eq!((machine.deadline_ms(id), manager.deadline_ms()), (None, None));
    // What comes late does nothing.
    assert_eq!(machine.handle(id, MachineInput::Answer(true)), []);
    assert_eq!(manager.handle(ManagerInput::Answer(true)), []);
    // The storage is not hurried: both people have confirmed.
    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    machine.handle(id, MachineInput::Answer(true));
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(confirm.clone()));
    assert_eq!((machine.deadline_ms(id), machine.tick(id, u64::MAX)), (None, vec![]));
    // Nor does it end with the connection. The manager claims again and gets the same.
    assert_eq!(machine.handle(id, MachineInput::Disconnected), []);
    let outputs = machine.handle(id, MachineInput::Stored(payload("machine")));
    assert_eq!(outputs.last(), Some(&MachineOutput::Ended(Ok(MANAGER))));
}

#[test]
fn an_answer_to_one_pin_is_none_to_the_next() {
    let mut machine = MachinePairing::new(None);
    let (_, first, _) = until_shown(&mut machine, 0, OTHER);
    machine.handle(first, MachineInput::Disconnected);
    let (mut manager, second, _) = until_shown(&mut machine, 0, MANAGER);
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(machine.handle(second, MachineInput::Message(confirm.clone())), []);
    for late in [MachineInput::Answer(true), MachineInput::Disconnected, MachineInput::Stored(payload(""))] {
        assert_eq!(machine.handle(first, late), []);
    }
    assert_eq!(machine.pending().collect::<Vec<_>>(), [(second, MANAGER)]);
    assert!(matches!(machine.handle(second, MachineInput::Answer(true))[..], [MachineOutput::Store { .. }]));
}

/// A claim of this peer that gets no further than the machine's nonce.
fn half_claim(machine: &mut MachinePairing, now: u64, who: PeerKey) -> Result<ClaimId, Refusal> {
    let (_, first) = ManagerClaim::new(now, secrets(7, 1), payload(""), None);
    machine.claim(now, who, secrets(7, 2), &first).map(|(id, _)| id)
}

/// The same, and hangs up.
fn in_vain(machine: &mut MachinePairing, now: u64, who: PeerKey) -> Result<(), Refusal> {
    let id = half_claim(machine, now, who)?;
    machine.handle(id, MachineInput::Disconnected);
    Ok(())
}

fn stranger(number: usize) -> PeerKey {
    PeerKey([u8::try_from(number).unwrap() + 100; 32])
}

/// The proof of the secret and the rest of the claim, up to the answer of the machine.
fn with_secret(machine: &mut MachinePairing, now: u64, who: PeerKey, secret: &ClaimSecret) -> Result<ClaimId, Refusal> {
    let (_, first) = ManagerClaim::new(now, secrets(7, 1), payload(""), Some(secret));
    machine.claim(now, who, secrets(7, 2), &first).map(|(id, _)| id)
}

#[test]
fn a_closed_door_costs_nothing_and_says_how_it_is_opened() {
    let mut machine = MachinePairing::new(None);
    for attempt in 0..1_000 {
        assert_eq!(in_vain(&mut machine, attempt, OTHER), Err(Refusal::Closed));
    }
    let open = machine.claims_open(1_000);
    assert_eq!((open.open, open.attempts_left, open.attempts), (false, MAX_CLAIM_ATTEMPTS, vec![]));
    // For a time, which has a limit.
    machine.open(1_000, 5_000);
    assert_eq!(machine.claims_open(1_001).open_for_ms, Some(4_999));
    assert_eq!(in_vain(&mut machine, 5_999, MANAGER), Ok(()));
    assert_eq!(in_vain(&mut machine, 6_000, MANAGER), Err(Refusal::Closed));
    machine.open(0, u64::MAX);
    assert_eq!(machine.claims_open(0).open_for_ms, Some(MAX_CLAIMS_OPEN_MS));
    machine.close();
    assert_eq!(in_vain(&mut machine, 1, MANAGER), Err(Refusal::Closed));
    // While somebody waits, however many do.
    machine.hold();
    machine.hold();
    machine.let_go();
    assert_eq!((machine.claims_open(0).open, machine.claims_open(0).open_for_ms), (true, None));
    assert_eq!(in_vain(&mut machine, 1, MANAGER), Ok(()));
    machine.let_go();
    assert_eq!(in_vain(&mut machine, 1, MANAGER), Err(Refusal::Closed));
    // A claim that is under way goes on behind a closed door, and a pair closes it.
    let (manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    machine.close();
    to_the_end(&mut machine, manager, id, MANAGER);
    let (manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    to_the_end(&mut machine, manager, id, MANAGER);
    assert_eq!(in_vain(&mut machine, 0, MANAGER), Err(Refusal::Closed));
}

#[test]
fn ten_half_claims_of_a_stranger_keep_the_manager_from_nothing() {
    let mut machine = MachinePairing::new(None);
    machine.open(0, MAX_CLAIMS_OPEN_MS);
    for attempt in 0..10 {
        let _ = in_vain(&mut machine, attempt, OTHER);
    }
    let open = machine.claims_open(10);
    assert_eq!(open.attempts, [(OTHER, MAX_CLAIM_ATTEMPTS_OF_PEER)], "it is told who has used them up");
    let (manager, first) = ManagerClaim::new(11, secrets(7, 1), payload("manager"), None);
    let (id, nonce) = machine.claim(11, MANAGER, secrets(7, 2), &first).unwrap();
    let mut manager = manager;
    let outputs = manager.handle(ManagerInput::Message(nonce));
    let [ManagerOutput::Send(reveal), ..] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(reveal.clone()));
    to_the_end(&mut machine, manager, id, MANAGER);
}

#[test]
fn few_claims_are_in_vain_until_a_person_forgives_them() {
    let mut machine = MachinePairing::new(None);
    machine.hold();
    for attempt in 0..MAX_CLAIM_ATTEMPTS_OF_PEER as u64 {
        assert_eq!(in_vain(&mut machine, attempt * 1_000, MANAGER), Ok(()));
    }
    // One peer has used up what one may, and others have not.
    let now = 60_000;
    let refused = Err(Refusal::TooManyAttempts { retry_after_ms: CLAIM_WINDOW_MS - now });
    assert_eq!(in_vain(&mut machine, now, MANAGER), refused);
    for number in MAX_CLAIM_ATTEMPTS_OF_PEER..MAX_CLAIM_ATTEMPTS {
        assert_eq!(in_vain(&mut machine, now, stranger(number)), Ok(()));
    }
    // With as many identities as one likes no more than that.
    assert_eq!(in_vain(&mut machine, now, stranger(0)), refused);
    let open = machine.claims_open(now);
    assert_eq!((open.attempts_left, open.attempts[0]), (0, (MANAGER, MAX_CLAIM_ATTEMPTS_OF_PEER)));
    // One is forgotten by itself, and one more may come.
    assert_eq!(in_vain(&mut machine, CLAIM_WINDOW_MS - 1, OTHER), Err(Refusal::TooManyAttempts { retry_after_ms: 1 }));
    assert_eq!(in_vain(&mut machine, CLAIM_WINDOW_MS, OTHER), Ok(()));
    assert!(in_vain(&mut machine, CLAIM_WINDOW_MS, OTHER).is_err());
    // Whoever waits anew is no person who forgives; whoever opens the door is.
    machine.let_go();
    machine.hold();
    assert!(in_vain(&mut machine, CLAIM_WINDOW_MS, OTHER).is_err());
    machine.open(CLAIM_WINDOW_MS, 1);
    assert_eq!(in_vain(&mut machine, CLAIM_WINDOW_MS, MANAGER), Ok(()));
    assert_eq!(machine.claims_open(CLAIM_WINDOW_MS).attempts_left, MAX_CLAIM_ATTEMPTS - 1);
}

#[test]
fn a_claim_that_is_held_is_in_nobodys_way() {
    let mut machine = MachinePairing::new(None);
    machine.open(0, MAX_CLAIMS_OPEN_MS);
    // One of a peer at a time.
    let held: Vec<ClaimId> =
        (0..MAX_CLAIMS_AT_ONCE - 1).map(|number| half_claim(&mut machine, 0, stranger(number)).unwrap()).collect();
    assert_eq!(half_claim(&mut machine, 0, stranger(0)), Err(Refusal::Busy));
    // There is a place for the manager still. The others end by themselves, since they reveal nothing.
    let last = half_claim(&mut machine, 0, MANAGER).unwrap();
    assert_eq!(half_claim(&mut machine, 0, OTHER), Err(Refusal::Busy));
    for id in held.iter().chain([&last]) {
        assert_eq!(machine.deadline_ms(*id), Some(CLAIM_REVEAL_TIMEOUT_MS));
        assert_eq!(machine.tick(*id, CLAIM_REVEAL_TIMEOUT_MS - 1), []);
        let ended = machine.tick(*id, CLAIM_REVEAL_TIMEOUT_MS);
        assert_eq!(ended.last(), Some(&MachineOutput::Ended(Err(ClaimError::TimedOut))));
    }
    assert!(half_claim(&mut machine, CLAIM_REVEAL_TIMEOUT_MS, OTHER).is_ok());
}

#[test]
fn the_claim_that_the_person_confirms_ends_the_others() {
    let mut machine = MachinePairing::new(None);
    let (_, stranger, _) = until_shown(&mut machine, 0, OTHER);
    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    machine.handle(id, MachineInput::Answer(true));
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(confirm.clone()));
    // Nothing can be confirmed beside it.
    let ended = MachineOutput::Ended(Err(ClaimError::Superseded));
    let refused = MachineOutput::Send(ToManager::Refused(Refusal::Busy));
    assert_eq!(machine.handle(stranger, MachineInput::Answer(true)), [refused, ended]);
    machine.handle(id, MachineInput::Stored(payload("machine")));
    assert_eq!(machine.manager(), Some(MANAGER));
}

#[test]
fn a_tickets_secret_admits_once_what_the_door_keeps_out() {
    let (secret, other) = (ClaimSecret([9; 16]), ClaimSecret([8; 16]));
    let mut machine = MachinePairing::new(None);
    assert_eq!(with_secret(&mut machine, 0, MANAGER, &secret), Err(Refusal::Secret), "none was made");
    machine.offer(0, &secret, 10_000);
    assert_eq!(in_vain(&mut machine, 1, MANAGER), Err(Refusal::Closed), "a claim without it");
    assert_eq!(with_secret(&mut machine, 1, MANAGER, &other), Err(Refusal::Secret), "a wrong one");
    // What somebody in between has heard proves nothing on his own connection, or for another nonce.
    let (_, heard) = ManagerClaim::new(1, secrets(6, 1), payload(""), Some(&secret));
    assert_eq!(machine.claim(1, OTHER, secrets(7, 2), &heard), Err(Refusal::Secret));
    let ToMachine::Claim { versions, proof, extension, .. } = heard else { panic!("a claim") };
    let moved = ToMachine::Claim { versions, commitment: commitment(&[3; 32]), proof, extension };
    assert_eq!(machine.claim(1, OTHER, secrets(6, 2), &moved), Err(Refusal::Secret));
    // It has attempts of its own, and takes none from others.
    for attempt in 0..MAX_CLAIM_ATTEMPTS as u64 {
        let id = with_secret(&mut machine, attempt, MANAGER, &secret).unwrap();
        machine.handle(id, MachineInput::Disconnected);
    }
    assert_eq!(machine.claims_open(100).attempts, []);
    assert_eq!(with_secret(&mut machine, 100, MANAGER, &secret), Err(Refusal::Secret), "it is worn out");
    // The next one takes its place, and has a time.
    machine.offer(100, &other, 10_000);
    assert_eq!(with_secret(&mut machine, 100, MANAGER, &secret), Err(Refusal::Secret));
    assert_eq!(machine.claims_open(100).secret_for_ms, Some(10_000));
    assert_eq!(with_secret(&mut machine, 10_100, MANAGER, &other), Err(Refusal::Secret));
    machine.offer(0, &other, u64::MAX);
    assert_eq!(machine.claims_open(0).secret_for_ms, Some(MAX_CLAIM_SECRET_MS));
    // A pair uses it up.
    let (mut manager, first) = ManagerClaim::new(0, secrets(7, 1), payload("manager"), Some(&other));
    let (id, nonce) = machine.claim(0, MANAGER, secrets(7, 2), &first).unwrap();
    let outputs = manager.handle(ManagerInput::Message(nonce));
    let [ManagerOutput::Send(reveal), ManagerOutput::ShowPin(_)] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(reveal.clone()));
    to_the_end(&mut machine, manager, id, MANAGER);
    assert_eq!(with_secret(&mut machine, 0, MANAGER, &other), Err(Refusal::Secret));
    // Where the door is open, an old one does no harm.
    machine.open(0, 1_000);
    assert!(with_secret(&mut machine, 0, MANAGER, &other).is_ok());
}

#[test]
fn a_claim_with_a_secret_and_one_of_the_own_manager_take_the_places_of_strangers() {
    let secret = ClaimSecret([9; 16]);
    for owner in [None, Some(MANAGER)] {
        let mut machine = MachinePairing::new(None);
        machine.open(0, MAX_CLAIMS_OPEN_MS);
        let held: Vec<ClaimId> =
            (0..MAX_CLAIMS_AT_ONCE).map(|number| half_claim(&mut machine, 0, stranger(number)).unwrap()).collect();
        assert_eq!(half_claim(&mut machine, 0, MANAGER), Err(Refusal::Busy));
        machine.offer(0, &secret, 1_000);
        if owner.is_none() {
            let id = with_secret(&mut machine, 0, MANAGER, &secret).unwrap();
            // The oldest stranger's ends, when its connection is looked at next, and no other.
            let ended: Vec<usize> = held.iter().map(|id| machine.tick(*id, 1).len()).collect();
            assert_eq!(ended, [2, 0, 0, 0]);
            assert_eq!(machine.tick(id, 1), []);
        }
    }
}

#[test]
fn the_first_message_is_a_claim_of_this_version() {
    let mut machine = MachinePairing::new(None);
    machine.hold();
    let mut claim = |message: ToMachine| machine.claim(0, MANAGER, secrets(7, 2), &message).map(|_| ());
    assert_eq!(claim(ToMachine::Decline), Err(Refusal::Malformed));
    assert_eq!(claim(ToMachine::Reveal { nonce: [0; 32] }), Err(Refusal::Malformed));
    let of =
        |versions| ToMachine::Claim { versions, commitment: [0; 32], proof: None, extension: Extension::default() };
    let newer = VersionRange::only(CLAIM_VERSIONS.highest() + 1);
    let mismatch = VersionMismatch { ours: CLAIM_VERSIONS, theirs: newer };
    assert_eq!(claim(of(newer)), Err(Refusal::Versions(mismatch)));
    let updating = VersionRange::new(CLAIM_VERSIONS.highest(), newer.highest()).unwrap();
    assert_eq!(claim(of(updating)), Ok(()));
}

/// A claim of any version is refused in words that a manager of any version reads.
#[test]
fn a_claim_of_another_version_is_refused_with_both_ranges() {
    let newer = VersionRange::new(CLAIM_VERSIONS.highest() + 1, CLAIM_VERSIONS.highest() + 2).unwrap();
    // Of a later version all is unknown but the range.
    let later = [&encode(&(0_u8, newer)).unwrap()[..], b"something else"].concat();
    let refused = decode_claim(&later).unwrap_err();
    assert_eq!(refused, Refusal::Versions(VersionMismatch { ours: CLAIM_VERSIONS, theirs: newer }));
    assert!(refused.to_string().ends_with("update the machine"), "{refused}");
    // The first version had a number in place of the range.
    let oldest = [&[0, 1][..], &[7; 32]].concat();
    let refused = decode_claim(&oldest).unwrap_err();
    assert_eq!(refused, Refusal::Versions(VersionMismatch { ours: CLAIM_VERSIONS, theirs: VersionRange::only(1) }));
    assert!(refused.to_string().ends_with("update the manager"), "{refused}");
    for malformed in [&[][..], &[0], &[1, 2, 2], &[0, 2, 3], &[0, 2, 2]] {
        assert_eq!(decode_claim(malformed), Err(Refusal::Malformed));
    }
    assert_eq!(decode_claim(&encode(&first([7; 32])).unwrap()), Ok(first([7; 32])));
    // A machine that admits a claim of no common version is at fault, and the manager says what is wrong.
    let (mut manager, _) = ManagerClaim::new(0, secrets(7, 1), payload(""), None);
    let nonce = ToManager::Nonce { versions: newer, nonce: [0; 32], extension: Extension::default() };
    let mismatch = VersionMismatch { ours: newer, theirs: CLAIM_VERSIONS };
    let ended = ManagerOutput::Ended(Err(ClaimError::Refused(Refusal::Versions(mismatch))));
    assert_eq!(manager.handle(ManagerInput::Message(nonce)), [ended]);
}

#[test]
fn storage_that_fails_leaves_no_pair_and_is_told() {
    let mut machine = MachinePairing::new(None);
    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    machine.handle(id, MachineInput::Answer(true));
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(confirm.clone()));
    let refused = ToManager::Refused(Refusal::Storage);
    let ended = MachineOutput::Ended(Err(ClaimError::Storage));
    assert_eq!(machine.handle(id, MachineInput::StoreFailed), [MachineOutput::Send(refused.clone()), ended]);
    assert_eq!(machine.manager(), None);
    let ended = ManagerOutput::Ended(Err(ClaimError::Refused(Refusal::Storage)));
    assert_eq!(manager.handle(ManagerInput::Message(refused)), [ended]);
}

#[test]
fn a_release_ends_the_claims_under_way_and_another_manager_may_claim() {
    let mut machine = MachinePairing::new(Some(MANAGER));
    let (_, id, _) = until_shown(&mut machine, 0, MANAGER);
    let refused = MachineOutput::Send(ToManager::Refused(Refusal::Declined));
    machine.released();
    assert_eq!(machine.tick(id, 0), [refused, MachineOutput::Ended(Err(ClaimError::Released))]);
    assert_eq!(machine.handle(id, MachineInput::Answer(true)), []);
    assert_eq!(machine.manager(), None);
    // Then another may claim it.
    let (manager, id, _) = until_shown(&mut machine, 0, OTHER);
    to_the_end(&mut machine, manager, id, OTHER);
}

#[test]
fn every_pin_is_as_likely_as_another_and_keeps_its_zeros() {
    let mut tenths = [0_u32; 10];
    let mut short = None;
    for number in 0..100_000_u32 {
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&number.to_le_bytes());
        let pin = ClaimPin::derive(&[7; 32], &nonce, &[2; 32]);
        assert!(pin.number() < ClaimPin::COUNT);
        tenths[pin.number() as usize / 100_000] += 1;
        short = short.or(Some(pin).filter(|pin| pin.number() < 1_000));
    }
    // Five standard deviations.
    assert!(tenths.iter().all(|count| (9_525..=10_475).contains(count)), "{tenths:?}");
    assert!(short.unwrap().to_string().starts_with("000"), "a number below 1,000 among 100,000");
    // It depends on everything that goes into it, and on which side said what.
    let pin = |keying, manager, machine| ClaimPin::derive(&[keying; 32], &[manager; 32], &[machine; 32]);
    for other in [pin(0, 2, 3), pin(1, 0, 3), pin(1, 2, 0), pin(1, 3, 2)] {
        assert_ne!(pin(1, 2, 3), other);
    }
}

#[test]
fn messages_are_bounded_before_they_are_read() {
    assert_eq!(
        ClaimPayload::new(&[0; MAX_CLAIM_PAYLOAD_BYTES + 1]),
        Err(PayloadTooLong { bytes: MAX_CLAIM_PAYLOAD_BYTES + 1 })
    );
    let largest = ClaimPayload::new(&[7; MAX_CLAIM_PAYLOAD_BYTES]).unwrap();
    assert_eq!(format!("{largest:?}"), "ClaimPayload(4096 bytes)", "it may hold a key");
    let message = ToMachine::Confirm { payload: largest.clone() };
    let bytes = encode(&message).unwrap();
    assert!(bytes.len() <= MAX_CLAIM_MESSAGE_BYTES);
    assert_eq!(decode_to_machine(&bytes), Ok(message));
    let message = ToManager::Handover { payload: largest };
    assert_eq!(decode_to_manager(&encode(&message).unwrap()), Ok(message));
    let bytes = MAX_CLAIM_MESSAGE_BYTES + 1;
    assert_eq!(decode_to_machine(&vec![0; bytes]), Err(ClaimMessageError::TooLong { bytes }));
    // A payload that is too long, in a message that is not; and one whose length lies.
    let payload = vec![7; MAX_CLAIM_PAYLOAD_BYTES + 1];
    let long = [&[2][..], &encode(&payload).unwrap()].concat();
    assert!(matches!(decode_to_machine(&long), Err(ClaimMessageError::Malformed(_))));
    assert!(matches!(decode_to_machine(&[2, 0xff, 0xff, 0xff, 0xff, 0x0f]), Err(ClaimMessageError::Malformed(_))));
}

/// What hostile managers, an absent-minded person and a driver can do, in any order.
#[derive(Debug, Clone)]
enum Act {
    /// A claim by one of the managers, bound to this nonce, with the proof of the right secret or none.
    Claim(PeerKey, u8, bool),
    /// Something of the claim under way that has this place among them.
    Of(usize, Happening),
    Later(u64),
    Open(u64),
    Close,
    Offer,
    Hold,
    LetGo,
}

#[derive(Debug, Clone)]
enum Happening {
    Reveal(u8),
    Confirm,
    Decline,
    Unreadable,
    Answer(bool),
    Stored,
    StoreFailed,
    Disconnected,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => (0_u8..2).prop_map(Happening::Reveal),
        6 => Just(Happening::Confirm),
        1 => Just(Happening::Decline),
        1 => Just(Happening::Unreadable),
        6 => prop::bool::weighted(0.8).prop_map(Happening::Answer),
        4 => Just(Happening::Stored),
        1 => Just(Happening::StoreFailed),
        1 => Just(Happening::Disconnected),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let who = (0_u8..8).prop_map(|number| PeerKey([number; 32]));
    prop_oneof![
        8 => (who, 0_u8..2, prop::bool::weighted(0.3)).prop_map(|(who, nonce, proves)| Act::Claim(who, nonce, proves)),
        24 => (0_usize..5, happening()).prop_map(|(place, happening)| Act::Of(place, happening)),
        1 => (0..CLAIM_TIMEOUT_MS).prop_map(Act::Later),
        2 => (0..2 * CLAIM_TIMEOUT_MS).prop_map(Act::Open),
        1 => Just(Act::Close),
        1 => Just(Act::Offer),
        1 => Just(Act::Hold),
        1 => Just(Act::LetGo),
    ]
}

/// What has happened to a claim under way.
#[derive(Debug)]
struct Known {
    id: ClaimId,
    who: PeerKey,
    bound: u8,
    shown: bool,
    answered: bool,
    confirmed: bool,
    storing: bool,
}

const SECRET: ClaimSecret = ClaimSecret([9; 16]);

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_makes_a_pair_without_both_people_or_admits_more_than_may_be(
        acts in prop::collection::vec(act(), 0..60),
    ) {
        let mut machine = MachinePairing::new(None);
        let mut now = 0;
        let mut known: Vec<Known> = Vec::new();
        // The door as it should be: until when it is open, how many wait, and until when the secret is good.
        let (mut open_until, mut held, mut secret_until) = (0, 0_usize, 0);
        // Admitted through the door since a person has opened it or a pair was made: when, and whose.
        let mut through: Vec<(u64, PeerKey)> = Vec::new();
        for act in acts {
            let open = held > 0 || now < open_until;
            prop_assert_eq!(machine.claims_open(now).open, open);
            match act {
                Act::Claim(who, nonce, proves) => {
                    let owner = machine.manager();
                    let secrets = secrets(7, 9);
                    let bound = commitment(&[nonce; 32]);
                    let proof = proves.then(|| SECRET.prove(&secrets.keying, &bound));
                    let (versions, extension) = (CLAIM_VERSIONS, Extension::default());
                    let message = ToMachine::Claim { versions, commitment: bound, proof, extension };
                    if let Ok((id, _)) = machine.claim(now, who, secrets, &message) {
                        let by_secret = proves && now < secret_until;
                        prop_assert!(by_secret || open, "admitted through a closed door");
                        prop_assert!(owner.is_none_or(|owner| owner == who), "another's machine");
                        if !by_secret {
                            through.retain(|(at, _)| now - at < CLAIM_WINDOW_MS);
                            through.push((now, who));
                            prop_assert!(through.len() <= MAX_CLAIM_ATTEMPTS);
                            let of_peer = through.iter().filter(|(_, peer)| *peer == who).count();
                            prop_assert!(of_peer <= MAX_CLAIM_ATTEMPTS_OF_PEER);
                        }
                        let (shown, answered, confirmed, storing) = (false, false, false, false);
                        known.push(Known { id, who, bound: nonce, shown, answered, confirmed, storing });
                    }
                }
                Act::Later(ms) => {
                    now += ms;
                    known.retain(|claim| {
                        let ended = !machine.tick(claim.id, now).is_empty();
                        assert!(!(ended && claim.storing), "a claim that is stored is hurried");
                        !ended
                    });
                }
                Act::Open(ms) => {
                    machine.open(now, ms);
                    open_until = now + ms;
                    through.clear();
                }
                Act::Close => {
                    machine.close();
                    open_until = 0;
                }
                Act::Offer => {
                    machine.offer(now, &SECRET, CLAIM_TIMEOUT_MS);
                    secret_until = now + CLAIM_TIMEOUT_MS;
                }
                Act::Hold => {
                    machine.hold();
                    held += 1;
                }
                Act::LetGo => {
                    machine.let_go();
                    held = held.saturating_sub(1);
                }
                Act::Of(place, happening) => {
                    let owner = machine.manager();
                    let Some(claim) = known.get_mut(place) else { continue };
                    let input = match happening {
                        Happening::Reveal(nonce) => MachineInput::Message(ToMachine::Reveal { nonce: [nonce; 32] }),
                        Happening::Confirm => MachineInput::Message(ToMachine::Confirm { payload: payload("m") }),
                        Happening::Decline => MachineInput::Message(ToMachine::Decline),
                        Happening::Unreadable => MachineInput::Unreadable,
                        Happening::Answer(answer) => MachineInput::Answer(answer),
                        Happening::Stored => MachineInput::Stored(payload("k")),
                        Happening::StoreFailed => MachineInput::StoreFailed,
                        Happening::Disconnected => MachineInput::Disconnected,
                    };
                    claim.answered |= claim.shown && input == MachineInput::Answer(true);
                    claim.confirmed |= claim.shown && matches!(input, MachineInput::Message(ToMachine::Confirm { .. }));
                    let mut over = false;
                    for output in machine.handle(claim.id, input.clone()) {
                        match output {
                            MachineOutput::ShowPin(_) => {
                                let reveal = ToMachine::Reveal { nonce: [claim.bound; 32] };
                                prop_assert_eq!(&input, &MachineInput::Message(reveal));
                                prop_assert!(!claim.shown, "two PINs in one claim");
                                claim.shown = true;
                            }
                            MachineOutput::Store { manager, .. } => {
                                prop_assert!(claim.shown && claim.answered && claim.confirmed && !claim.storing);
                                prop_assert_eq!(manager, claim.who);
                                claim.storing = true;
                            }
                            MachineOutput::Send(message) => {
                                let handover = matches!(message, ToManager::Handover { .. });
                                let stored = claim.storing && matches!(input, MachineInput::Stored(_));
                                prop_assert_eq!(handover, stored, "{:?} after {:?}", message, input);
                            }
                            MachineOutput::Ended(result) => {
                                let stored = claim.storing && matches!(input, MachineInput::Stored(_));
                                prop_assert_eq!(result.is_ok(), stored);
                                prop_assert_eq!(machine.manager(), if stored { Some(claim.who) } else { owner });
                                if stored {
                                    (open_until, secret_until) = (0, 0);
                                    through.clear();
                                }
                                over = true;
                            }
                        }
                    }
                    if over {
                        known.remove(place);
                    }
                }
            }
            prop_assert!(known.iter().filter(|claim| claim.storing).count() <= 1);
            let pending: Vec<ClaimId> = machine.pending().map(|(id, _)| id).collect();
            prop_assert_eq!(pending, known.iter().map(|claim| claim.id).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_order_of_events_makes_a_manager_take_what_nobody_confirmed(acts in prop::collection::vec(happening(), 0..20)) {
        let (mut manager, _) = ManagerClaim::new(0, secrets(7, 1), payload("manager"), None);
        let (mut shown, mut answered, mut stored, mut ended) = (false, false, false, false);
        for act in acts {
            let input = match act {
                Happening::Reveal(nonce) => ManagerInput::Message(admitted([nonce; 32])),
                Happening::Confirm => ManagerInput::Message(ToManager::Handover { payload: payload("k") }),
                Happening::Decline => ManagerInput::Message(ToManager::Refused(Refusal::Declined)),
                Happening::Unreadable => ManagerInput::Unreadable,
                Happening::Answer(answer) => ManagerInput::Answer(answer),
                Happening::Stored => ManagerInput::Stored,
                Happening::StoreFailed => ManagerInput::StoreFailed,
                Happening::Disconnected => ManagerInput::Disconnected,
            };
            answered |= shown && !ended && input == ManagerInput::Answer(true);
            for output in manager.handle(input.clone()) {
                prop_assert!(!ended, "{:?} after the end", output);
                match output {
                    ManagerOutput::Send(ToMachine::Confirm { .. }) => prop_assert!(answered),
                    ManagerOutput::Send(_) => {}
                    ManagerOutput::ShowPin(_) => {
                        prop_assert!(!shown, "two PINs in one claim");
                        shown = true;
                    }
                    ManagerOutput::Store(_) => {
                        prop_assert!(answered && !stored);
                        stored = true;
                    }
                    ManagerOutput::Ended(result) => {
                        prop_assert_eq!(result.is_ok(), stored && input == ManagerInput::Stored);
                        ended = true;
                    }
                }
            }
        }
    }
}
