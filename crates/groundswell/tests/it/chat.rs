//! The example of a chat: its lake keeps the laws, and its members have one room.

use std::sync::{Arc, Mutex};

use crate::common::within;
use groundswell::check_lake;

#[allow(dead_code)] // its main is not run here
#[path = "../../examples/chat.rs"]
mod example;

use example::{Chat, Said, demo};

#[test]
fn the_chat_keeps_the_laws_and_refuses_what_does_not_fit() {
    let said = |who: &str, text: &str| Said { when: 7, who: who.to_owned(), text: text.to_owned() };
    let fit = [said("ann", "hello"), said(&"n".repeat(32), "x"), said("ben", &"t".repeat(2_000))];
    let unfit = [said("", "hello"), said("ann", ""), said(&"n".repeat(33), "x"), said("ann", "a\nb")];
    check_lake::<Chat>(fit.iter().chain(&unfit).chain(&fit).cloned()).unwrap();
    for wave in fit.iter().chain(&unfit) {
        let washed = <Chat as groundswell::Lake>::wash(&mut Default::default(), wave);
        assert_eq!(washed.is_ok(), fit.contains(wave), "{wave:?}");
    }
    let mut room = Default::default();
    for n in 0..1_500 {
        <Chat as groundswell::Lake>::wash(&mut room, &Said { when: n, ..said("ann", "hello") }).unwrap();
    }
    assert_eq!((room.len(), room[0].when), (1_000, 500));
}

/// Paths below a pattern are distinct states: two rooms, one within the other, at several peers.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_room_have_the_same_lines() {
    let screen = Arc::<Mutex<Vec<String>>>::default();
    let seen = screen.clone();
    let rooms = within("the demo", demo(Arc::new(move |line| seen.lock().unwrap().push(line)))).await.unwrap();
    let [garden, shed, bens_garden, bens_shed] = &rooms[..] else { panic!("{rooms:?}") };
    assert_eq!((garden, shed), (bens_garden, bens_shed));
    let speakers = |room: &[Said]| room.iter().map(|said| said.who.clone()).collect::<Vec<_>>();
    assert_eq!(speakers(garden).len(), 3);
    assert_eq!(speakers(shed).len(), 2);
    assert!(!speakers(shed).contains(&"cem".to_owned()));
    let screen = screen.lock().unwrap();
    assert!(screen.iter().any(|line| line.contains("ann can't say nothing")), "{screen:?}");
    // Each line is shown once to who hears it, however often its source's freshness changed.
    let mut lines = screen.clone();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), screen.len(), "{screen:?}");
}
