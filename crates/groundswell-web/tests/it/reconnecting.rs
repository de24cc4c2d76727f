//! Readers that come back: they go on exactly where they were, or are told to begin anew.

use std::collections::BTreeSet;

use serde_json::json;

use crate::common::{Events, give_waves, machine, machine_in, manager, node, node_in, pair};

const OWN: &str = "/api/v1/machines/self";

async fn keys_up_to_caught_up(events: &mut Events) -> Vec<String> {
    let all = events.up_to("caught_up").await;
    let puts = all.iter().filter(|event| event.name == "put");
    puts.map(|event| event.data["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_right_after_the_last_event_that_it_saw() {
    let machine = machine().await;
    let path = format!("{OWN}/events");
    for number in 0..20 {
        machine.http.put(&format!("{OWN}/entry?key={number:02}"), "1").await.well();
    }
    let mut events = machine.http.events(&path).await;
    assert_eq!(keys_up_to_caught_up(&mut events).await.len(), 20);
    let mut last = events.last.clone();
    for round in 0..10 {
        drop(events);
        machine.http.put(&format!("{OWN}/entry?key={round:02}"), "2").await.well();
        machine.http.delete(&format!("{OWN}/entry?key=19")).await.well();
        machine.http.put(&format!("{OWN}/entry?key=19"), "2").await.well();
        events = machine.http.events_after(&path, &last).await;
        events.expect("hello").await;
        assert_eq!(events.expect("put").await.data["key"], format!("{round:02}"), "what changed, and nothing else");
        assert_eq!(events.expect("put").await.data["key"], "19");
        // Interrupted before or after it has caught up.
        if round % 2 == 0 {
            events.expect("caught_up").await;
        }
        last = events.last.clone();
    }
    // The address says it too, and the header counts before it.
    let mut by_address = machine.http.events_after(&format!("{path}?from={}", "0".repeat(33)), &last).await;
    by_address.expect("hello").await;
    by_address.expect("caught_up").await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_cut_off_begins_again() {
    let machine = machine().await;
    for number in 0..20 {
        machine.http.put(&format!("{OWN}/entry?key={number:02}"), "1").await.well();
    }
    let mut events = machine.http.events(&format!("{OWN}/events")).await;
    events.expect("hello").await;
    events.expect("put").await;
    let mut again = machine.http.events_after(&format!("{OWN}/events"), &events.last).await;
    again.expect("hello").await;
    assert_eq!(again.expect("reset").await.data["reason"], "snapshot_unfinished");
    assert_eq!(keys_up_to_caught_up(&mut again).await.len(), 20);
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_from_before_a_restart_gives_a_reset_and_all_there_is() {
    let machine = machine().await;
    machine.http.put(&format!("{OWN}/entry?key=kept"), "1").await.well();
    machine.http.put(&format!("{OWN}/entry?key=lost"), "1").await.well();
    let mut events = machine.http.events(&format!("{OWN}/events")).await;
    events.up_to("caught_up").await;
    let mut many = machine.http.events("/api/v1/stream?topic=kv%3Fmachine%3Dself").await;
    many.up_to("caught_up").await;
    machine.http.delete(&format!("{OWN}/entry?key=lost")).await.well();
    events.expect("delete").await;
    many.expect("delete").await;
    let (dir, addr) = machine.stop().await;
    events.expect("ended").await;
    let machine = machine_in(dir, &addr).await;
    assert_eq!(machine.server.local_addr().to_string(), addr, "the same address, the same token");
    let paths =
        [(format!("{OWN}/events"), &events.last), ("/api/v1/stream?topic=kv%3Fmachine%3Dself".into(), &many.last)];
    for (path, last) in paths {
        let mut again = machine.http.events_after(&path, last).await;
        again.expect("hello").await;
        assert_eq!(again.expect("reset").await.data["reason"], "other_epoch");
        assert_eq!(keys_up_to_caught_up(&mut again).await, ["kept"]);
    }
    // What is no place at all is answered alike: a browser that is refused would not come back.
    for nonsense in ["7", "m1.AAAA", "%00"] {
        let mut again = machine.http.events_after(&format!("{OWN}/events"), nonsense).await;
        again.expect("hello").await;
        again.expect("reset").await;
        again.expect("put").await;
    }
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_waves_misses_none_and_has_none_twice_over_reconnections_and_a_restart() {
    let mut node = node().await;
    let path = "/api/v1/publication/events?path=/log&rocks=never";
    give_waves(&node, "/log&lake=log", json!(["first"])).await;
    let mut events = node.http.events(path).await;
    events.up_to("caught_up").await;
    let mut last = events.last.clone();
    let mut expected = 1;
    for round in 0..6 {
        if round == 3 {
            let (dir, addr) = node.stop().await;
            node = node_in(dir, &addr).await;
        }
        let waves: Vec<String> = (0..10).map(|number| format!("{round}/{number}")).collect();
        give_waves(&node, "/log", json!(waves)).await;
        events = node.http.events_after(path, &last).await;
        events.expect("hello").await;
        for wave in waves.iter().take(7) {
            expected += 1;
            let update = events.expect("update").await;
            assert_eq!((&update.data["aeon"], &update.data["wave"]), (&json!(expected), &json!(wave)));
        }
        // Cut off in the middle: the rest comes at the next time.
        last = events.last.clone();
        drop(events);
        events = node.http.events_after(path, &last).await;
        events.expect("hello").await;
        for wave in waves.iter().skip(7) {
            expected += 1;
            let update = events.expect("update").await;
            assert_eq!((&update.data["aeon"], &update.data["wave"]), (&json!(expected), &json!(wave)));
        }
        last = events.last.clone();
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_changes_its_topics_and_goes_on_in_those_that_stay() {
    let (manager, one, other) = (manager().await, machine().await, machine().await);
    let (first, second) = (pair(&manager, &one).await, pair(&manager, &other).await);
    for id in [&first, &second] {
        manager.http.put(&format!("/api/v1/machines/{id}/entry?key=a"), "1").await.well();
    }
    give_waves(&manager, "/log&lake=log", json!(["x"])).await;
    let fleet = "topic=kv%3Fmachine%3D*";
    let mut events = manager.http.events(&format!("/api/v1/stream?{fleet}")).await;
    let whole = |event: &crate::common::Sse| event.name == "caught_up" && event.data.get("machines").is_some();
    events.find("both machines", whole).await;
    manager.http.put(&format!("/api/v1/machines/{first}/entry?key=b"), "2").await.well();
    events.find("the entry", |event| event.name == "put").await;
    let last = events.last.clone();
    drop(events);
    manager.http.put(&format!("/api/v1/machines/{second}/entry?key=c"), "3").await.well();
    // The topic stands elsewhere now, and another is new.
    let path = format!("/api/v1/stream?topic=publication%3Fpath%3D%2Flog&{fleet}&from={last}");
    let mut events = manager.http.events(&path).await;
    let (mut puts, mut resets, mut rock) = (Vec::new(), 0, None);
    loop {
        let event = events.find("all of both topics", |_| true).await;
        match event.name.as_str() {
            "put" => puts.push((event.data["machine"].clone(), event.data["key"].clone(), event.data["topic"].clone())),
            "reset" => resets += 1,
            "update" => rock = Some(event.data["rock"].clone()),
            "caught_up" if whole(&event) => {
                let machines: BTreeSet<&str> =
                    event.data["machines"].as_array().unwrap().iter().filter_map(|id| id.as_str()).collect();
                assert_eq!(machines, BTreeSet::from([first.as_str(), second.as_str()]));
                if rock.is_some() {
                    break;
                }
            }
            "caught_up" if event.data["topic"] == 0 && puts.len() == 1 => break,
            _ => {}
        }
    }
    assert_eq!(puts, [(json!(second), json!("c"), json!(1))], "what changed, and nothing else");
    assert_eq!((resets, rock), (0, Some(json!(["x"]))));
    for up in [manager, one, other] {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_left_out_begins_anew() {
    let machine = machine().await;
    for key in ["a", "b"] {
        machine.http.put(&format!("{OWN}/entry?key={key}"), "1").await.well();
    }
    let topic = |key: &str| format!("topic=kv%3Fmachine%3Dself%26key%3D{key}");
    let (a, b) = (topic("a"), topic("b"));
    let mut events = machine.http.events(&format!("/api/v1/stream?{a}&{b}")).await;
    let mut last = String::new();
    for (path, expected) in [
        (format!("{a}&{b}"), vec!["caught_up", "caught_up", "put", "put"]),
        (a.clone(), vec!["caught_up"]),
        // A page that did not follow it does not know what there is.
        (format!("{a}&{b}"), vec!["caught_up", "caught_up", "put", "reset"]),
    ] {
        if !last.is_empty() {
            events = machine.http.events(&format!("/api/v1/stream?{path}&from={last}")).await;
        }
        events.expect("hello").await;
        let mut names = Vec::new();
        while names.len() < expected.len() {
            names.push(events.find("the beginning", |_| true).await.name);
        }
        names.sort_unstable();
        assert_eq!(names, expected, "{path}");
        last = events.last.clone();
    }
    machine.stop().await;
}
