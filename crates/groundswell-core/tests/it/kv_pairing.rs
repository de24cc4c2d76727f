//! Pairing: two people who confirm the same six digits make a pair, and nothing else does.
#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

use groundswell_core::{
    encoding::encode,
    kv::pairing::{
        CLAIM_VERSIONS, ClaimError, ClaimId, ClaimMessageError, ClaimPayload, ClaimPin, ClaimSecrets, MachineInput,
        MachineOutput, MachinePairing, ManagerClaim, ManagerInput, ManagerOutput, PayloadTooLong, PeerKey, Refusal,
        ReleaseError, ToMachine, ToManager, commitment, decode_claim, decode_to_machine, decode_to_manager,
    },
    limits::{CLAIM_TIMEOUT_MS, CLAIM_WINDOW_MS, MAX_CLAIM_ATTEMPTS, MAX_CLAIM_MESSAGE_BYTES, MAX_CLAIM_PAYLOAD_BYTES},
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
    ToMachine::Claim { versions: CLAIM_VERSIONS, commitment, extension: Extension::default() }
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
    let (mut manager, first) = ManagerClaim::new(now, secrets(7, 1), payload("manager"));
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
    assert_eq!((*paired, machine.manager(), machine.pending()), (who, Some(who), None));
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
    let (_, first) = ManagerClaim::new(0, secrets(7, 1), payload(""));
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
    assert_eq!((machine.deadline_ms(), manager.deadline_ms()), (Some(deadline), Some(deadline)));
    assert_eq!(machine.tick(deadline - 1), []);
    assert_eq!(manager.tick(deadline - 1), []);
    let refused = MachineOutput::Send(ToManager::Refused(Refusal::TimedOut));
    assert_eq!(machine.tick(deadline), [refused, MachineOutput::Ended(Err(ClaimError::TimedOut))]);
    let ended = ManagerOutput::Ended(Err(ClaimError::TimedOut));
    assert_eq!(manager.tick(deadline), [ManagerOutput::Send(ToMachine::Decline), ended]);
    assert_eq!((machine.deadline_ms(), manager.deadline_ms()), (None, None));
    // What comes late does nothing.
    assert_eq!(machine.handle(id, MachineInput::Answer(true)), []);
    assert_eq!(manager.handle(ManagerInput::Answer(true)), []);
    // The storage is not hurried: both people have confirmed.
    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    machine.handle(id, MachineInput::Answer(true));
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(confirm.clone()));
    assert_eq!((machine.deadline_ms(), machine.tick(u64::MAX)), (None, vec![]));
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
    assert_eq!(machine.pending(), Some((second, MANAGER)));
    assert!(matches!(machine.handle(second, MachineInput::Answer(true))[..], [MachineOutput::Store { .. }]));
}

#[test]
fn one_claim_at_a_time_and_few_in_vain() {
    let mut machine = MachinePairing::new(None);
    let claim = |machine: &mut MachinePairing, now| {
        let (_, first) = ManagerClaim::new(now, secrets(7, 1), payload(""));
        machine.claim(now, MANAGER, secrets(7, 2), &first).map(|(id, _)| id)
    };
    for attempt in 0..MAX_CLAIM_ATTEMPTS as u64 {
        let id = claim(&mut machine, attempt * 1_000).unwrap();
        assert_eq!(claim(&mut machine, attempt * 1_000), Err(Refusal::Busy));
        machine.handle(id, MachineInput::Disconnected);
    }
    let now = 60_000;
    assert_eq!(claim(&mut machine, now), Err(Refusal::TooManyAttempts { retry_after_ms: CLAIM_WINDOW_MS - now }));
    assert_eq!(claim(&mut machine, CLAIM_WINDOW_MS - 1), Err(Refusal::TooManyAttempts { retry_after_ms: 1 }));
    // One is forgotten, and one more may come.
    let id = claim(&mut machine, CLAIM_WINDOW_MS).unwrap();
    machine.handle(id, MachineInput::Disconnected);
    let refused = claim(&mut machine, CLAIM_WINDOW_MS);
    assert_eq!(refused, Err(Refusal::TooManyAttempts { retry_after_ms: 1_000 }));
    // A claim that succeeds is not in vain, and forgives those that were.
    let later = CLAIM_WINDOW_MS + 1_000;
    let (manager, id, _) = until_shown(&mut machine, later, MANAGER);
    to_the_end(&mut machine, manager, id, MANAGER);
    for _ in 0..MAX_CLAIM_ATTEMPTS {
        let id = claim(&mut machine, later).unwrap();
        machine.handle(id, MachineInput::Disconnected);
    }
    assert!(matches!(claim(&mut machine, later), Err(Refusal::TooManyAttempts { .. })));
}

#[test]
fn the_first_message_is_a_claim_of_this_version() {
    let mut machine = MachinePairing::new(None);
    let mut claim = |message: ToMachine| machine.claim(0, MANAGER, secrets(7, 2), &message).map(|_| ());
    assert_eq!(claim(ToMachine::Decline), Err(Refusal::Malformed));
    assert_eq!(claim(ToMachine::Reveal { nonce: [0; 32] }), Err(Refusal::Malformed));
    let of = |versions| ToMachine::Claim { versions, commitment: [0; 32], extension: Extension::default() };
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
    let (mut manager, _) = ManagerClaim::new(0, secrets(7, 1), payload(""));
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
fn either_side_releases_and_nobody_else() {
    let mut machine = MachinePairing::new(Some(MANAGER));
    assert_eq!(machine.release(Some(OTHER)), Err(ReleaseError::NotPaired));
    assert_eq!(machine.release(Some(MANAGER)), Ok(MANAGER));
    assert_eq!(machine.release(None), Ok(MANAGER));
    assert_eq!(machine.manager(), Some(MANAGER), "nothing is durable yet");
    // A claim that is being stored comes first.
    let (mut manager, id, _) = until_shown(&mut machine, 0, MANAGER);
    machine.handle(id, MachineInput::Answer(true));
    let outputs = manager.handle(ManagerInput::Answer(true));
    let [ManagerOutput::Send(confirm)] = &outputs[..] else { panic!("{outputs:?}") };
    machine.handle(id, MachineInput::Message(confirm.clone()));
    assert_eq!(machine.release(None), Err(ReleaseError::Storing));
    machine.handle(id, MachineInput::Stored(payload("machine")));
    // Any other ends with it.
    let (_, id, _) = until_shown(&mut machine, 0, MANAGER);
    assert_eq!(machine.release(None), Ok(MANAGER));
    let refused = MachineOutput::Send(ToManager::Refused(Refusal::Declined));
    assert_eq!(machine.released(), [refused, MachineOutput::Ended(Err(ClaimError::Released))]);
    assert_eq!(machine.handle(id, MachineInput::Answer(true)), []);
    assert_eq!(machine.release(None), Err(ReleaseError::NotPaired));
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

/// What a hostile manager, an absent-minded person and a driver can do, in any order.
#[derive(Debug, Clone)]
enum Act {
    /// A claim by one of two managers, bound to this nonce.
    Claim(PeerKey, u8),
    Reveal(u8),
    Confirm,
    Decline,
    Unreadable,
    Answer(bool),
    Stored,
    StoreFailed,
    Disconnected,
    Later(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let who = prop_oneof![Just(MANAGER), Just(OTHER)];
    prop_oneof![
        6 => (who, 0_u8..2).prop_map(|(who, nonce)| Act::Claim(who, nonce)),
        6 => (0_u8..2).prop_map(Act::Reveal),
        6 => Just(Act::Confirm),
        1 => Just(Act::Decline),
        1 => Just(Act::Unreadable),
        6 => prop::bool::weighted(0.8).prop_map(Act::Answer),
        4 => Just(Act::Stored),
        1 => Just(Act::StoreFailed),
        1 => Just(Act::Disconnected),
        1 => (0..CLAIM_TIMEOUT_MS).prop_map(Act::Later),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_makes_a_pair_without_both_people(acts in prop::collection::vec(act(), 0..40)) {
        let mut machine = MachinePairing::new(None);
        let mut now = 0;
        // What has happened to the claim under way: bound to this nonce, shown, answered, confirmed.
        let mut current: Option<(ClaimId, PeerKey, u8)> = None;
        let (mut shown, mut answered, mut confirmed, mut storing) = (false, false, false, false);
        for act in acts {
            let owner = machine.manager();
            let Some((id, who, bound)) = current else {
                if let Act::Claim(who, nonce) = act {
                    let message = first(commitment(&[nonce; 32]));
                    let admitted = machine.claim(now, who, secrets(7, 9), &message);
                    prop_assert!(admitted.is_err() || owner.is_none_or(|owner| owner == who));
                    current = admitted.ok().map(|(id, _)| (id, who, nonce));
                    (shown, answered, confirmed, storing) = (false, false, false, false);
                }
                continue;
            };
            let input = match act {
                Act::Claim(who, _) => {
                    let message = first([0; 32]);
                    prop_assert!(machine.claim(now, who, secrets(7, 9), &message).is_err());
                    continue;
                }
                Act::Later(ms) => {
                    now += ms;
                    let outputs = machine.tick(now);
                    if !outputs.is_empty() {
                        prop_assert!(!storing);
                        current = None;
                    }
                    continue;
                }
                Act::Reveal(nonce) => MachineInput::Message(ToMachine::Reveal { nonce: [nonce; 32] }),
                Act::Confirm => MachineInput::Message(ToMachine::Confirm { payload: payload("m") }),
                Act::Decline => MachineInput::Message(ToMachine::Decline),
                Act::Unreadable => MachineInput::Unreadable,
                Act::Answer(answer) => MachineInput::Answer(answer),
                Act::Stored => MachineInput::Stored(payload("k")),
                Act::StoreFailed => MachineInput::StoreFailed,
                Act::Disconnected => MachineInput::Disconnected,
            };
            answered |= shown && input == MachineInput::Answer(true);
            confirmed |= shown && matches!(input, MachineInput::Message(ToMachine::Confirm { .. }));
            for output in machine.handle(id, input.clone()) {
                match output {
                    MachineOutput::ShowPin(_) => {
                        prop_assert_eq!(&input, &MachineInput::Message(ToMachine::Reveal { nonce: [bound; 32] }));
                        prop_assert!(!shown, "two PINs in one claim");
                        shown = true;
                    }
                    MachineOutput::Store { manager, .. } => {
                        prop_assert!(shown && answered && confirmed && !storing && manager == who);
                        storing = true;
                    }
                    MachineOutput::Send(message) => {
                        let handover = matches!(message, ToManager::Handover { .. });
                        let stored = storing && matches!(input, MachineInput::Stored(_));
                        prop_assert_eq!(handover, stored, "{:?} after {:?}", message, input);
                    }
                    MachineOutput::Ended(result) => {
                        let stored = storing && matches!(input, MachineInput::Stored(_));
                        prop_assert_eq!(result.is_ok(), stored);
                        prop_assert_eq!(machine.manager(), if stored { Some(who) } else { owner });
                        current = None;
                    }
                }
            }
            prop_assert_eq!(machine.pending().map(|(id, _)| id), current.map(|(id, ..)| id));
        }
    }

    #[test]
    fn no_order_of_events_makes_a_manager_take_what_nobody_confirmed(acts in prop::collection::vec(act(), 0..20)) {
        let (mut manager, _) = ManagerClaim::new(0, secrets(7, 1), payload("manager"));
        let (mut shown, mut answered, mut stored, mut ended) = (false, false, false, false);
        for act in acts {
            let input = match act {
                Act::Reveal(nonce) => ManagerInput::Message(admitted([nonce; 32])),
                Act::Confirm => ManagerInput::Message(ToManager::Handover { payload: payload("k") }),
                Act::Decline => ManagerInput::Message(ToManager::Refused(Refusal::Declined)),
                Act::Unreadable => ManagerInput::Unreadable,
                Act::Answer(answer) => ManagerInput::Answer(answer),
                Act::Stored => ManagerInput::Stored,
                Act::StoreFailed => ManagerInput::StoreFailed,
                Act::Disconnected => ManagerInput::Disconnected,
                Act::Claim(..) | Act::Later(_) => continue,
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

/// The man in the middle: one connection to each side, of which he chooses the keys, and every
/// nonce and every order of messages is his. PINs are told apart by two digits here instead of
/// six, so that his luck can be counted: one try in a hundred.
mod man_in_the_middle {
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
            let (manager, first) = ManagerClaim::new(0, secrets, payload(""));
            let ToMachine::Claim { commitment: bound, .. } = first else { panic!("{first:?}") };
            let machine_keying = bytes(attempt, "keying with the machine");
            Self { attempt, manager, bound, machine: MachinePairing::new(None), manager_keying, machine_keying }
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
}
