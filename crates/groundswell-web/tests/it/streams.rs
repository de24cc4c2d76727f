//! Streams: what they tell, and how they end.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{give_waves, machine, manager, node, pair, within};

const OWN: &str = "/api/v1/machines/self";

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_entries_has_what_there_is_then_every_change() {
    let machine = machine().await;
    let put = async |key: &str, value: &'static str| {
        machine.http.put(&format!("{OWN}/entry?key={key}"), value).await.well();
    };
    put("slot/1", "1").await;
    put("other", "x").await;
    let mut events = machine.http.events(&format!("{OWN}/events?prefix=slot/")).await;
    let hello = events.expect("hello").await;
    assert_eq!(hello.data["node"], machine.id().await);
    let first = events.expect("put").await;
    assert_eq!(
        (&first.data["key"], &first.data["value"], &first.data["live"]),
        (&json!("slot/1"), &json!("1"), &json!(false))
    );
    assert_eq!(first.id.as_deref(), first.data["cursor"].as_str(), "the id is the cursor");
    events.expect("caught_up").await;
    put("other", "y").await;
    put("slot/2", "2").await;
    let second = events.expect("put").await;
    assert_eq!((&second.data["key"], &second.data["live"]), (&json!("slot/2"), &json!(true)));
    machine.http.delete(&format!("{OWN}/entry?key=slot/1")).await.well();
    let deleted = events.expect("delete").await;
    assert_eq!((&deleted.data["key"], &deleted.data["author"]), (&json!("slot/1"), &json!("machine")));
    // An empty store has a caught_up too.
    let mut empty = machine.http.events(&format!("{OWN}/events?space=empty")).await;
    empty.expect("hello").await;
    empty.expect("caught_up").await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_match_any_more_has_left() {
    let (manager, machine) = (manager().await, machine().await);
    let id = pair(&manager, &machine).await;
    manager.http.put(&format!("/api/v1/machines/{id}/entry?key=a"), "of the manager").await.well();
    let mut events = manager.http.events(&format!("/api/v1/machines/{id}/events?author=manager")).await;
    events.up_to("caught_up").await;
    // The machine writes over what it has seen.
    crate::common::until("the entry at the machine", async || {
        machine.http.get(&format!("{OWN}/entry?key=a")).await.body == "of the manager"
    })
    .await;
    machine.http.put(&format!("{OWN}/entry?key=a"), "of the machine").await.well();
    let left = events.expect("left").await;
    assert_eq!((&left.data["key"], left.data.get("value")), (&json!("a"), None));
    manager.stop().await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_reason() {
    let (manager, machine) = (manager().await, machine().await);
    let id = pair(&manager, &machine).await;
    let mut of_manager = manager.http.events(&format!("/api/v1/machines/{id}/events")).await;
    let mut of_machine = machine.http.events(&format!("{OWN}/events")).await;
    of_manager.up_to("caught_up").await;
    of_machine.up_to("caught_up").await;
    manager.http.delete(&format!("/api/v1/machines/{id}")).await.well();
    assert_eq!(of_manager.expect("ended").await.data["reason"], "released");
    of_manager.ends().await;
    // The machine goes on with a new document.
    assert_eq!(of_machine.expect("reset").await.data["reason"], "other_epoch");
    of_machine.expect("caught_up").await;

    // The interface alone ends.
    let mut cut = manager.http.events("/api/v1/stream?topic=machines&topic=node").await;
    cut.up_to("caught_up").await;
    manager.server.shutdown().await.unwrap();
    let ended = cut.find("the end", |event| event.name == "ended").await;
    assert_eq!((&ended.data["reason"], ended.data.get("topic")), (&json!("shut_down"), None));
    cut.ends().await;
    // The node ends, and its streams with it, after what was committed.
    machine.http.put(&format!("{OWN}/entry?key=last"), "words").await.well();
    let stopping = machine.stop();
    let (last, _) = tokio::join!(of_machine.up_to("ended"), stopping);
    // A release may give more than one reset; what counts is how it ends.
    let [.., put, ended] = &*last else { panic!("{last:?}") };
    assert_eq!(put.data["key"], "last", "{last:?}");
    assert_eq!(ended.data["reason"], "shut_down");
    of_machine.ends().await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_shows_that_it_lives() {
    let machine = machine().await;
    let mut events = machine.http.events(&format!("{OWN}/events")).await;
    let hello = events.expect("hello").await;
    assert_eq!(hello.data["heartbeat_ms"], 10_000);
    let heartbeat = within("a heartbeat", async {
        loop {
            let event = events.next().await.unwrap();
            if event.name == "heartbeat" {
                return event;
            }
        }
    })
    .await;
    assert!(heartbeat.data["now_ms"].is_u64() && heartbeat.id.is_none(), "the place stays as it is");
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_path_has_its_waves() {
    let (publisher, reader) = (node().await, node().await);
    give_waves(&publisher, "/a&lake=log", json!(["x", "y", "z"])).await;
    let mut own = publisher.http.events("/api/v1/publication/events?path=/a").await;
    own.expect("hello").await;
    let rock = own.expect("update").await;
    assert_eq!((&rock.data["rock"], &rock.data["aeon"]), (&json!(["x", "y", "z"]), &json!(3)));
    assert_eq!(own.expect("caught_up").await.data["rock"], json!(["x", "y", "z"]));
    let mut last = publisher.http.events("/api/v1/publication/events?path=/a&last=2&rocks=never").await;
    last.expect("hello").await;
    for wave in ["y", "z"] {
        let update = last.expect("update").await;
        assert_eq!((&update.data["wave"], update.data.get("rock")), (&json!(wave), None));
    }
    assert_eq!(last.expect("caught_up").await.data.get("rock"), None);

    let ticket = publisher.ticket().await;
    let path = format!("/api/v1/subscription/events?peer={ticket}&path=/a");
    let mut followed = reader.http.events(&format!("{path}&lake=log&rocks=always")).await;
    let caught_up = followed.find("caught_up", |event| event.name == "caught_up").await;
    assert_eq!((&caught_up.data["aeon"], &caught_up.data["rock"]), (&json!(3), &json!(["x", "y", "z"])));
    give_waves(&publisher, "/a", json!(["w"])).await;
    for events in [&mut own, &mut last, &mut followed] {
        let update = events.expect("update").await;
        assert_eq!(
            (&update.data["wave"], &update.data["live"], &update.data["aeon"]),
            (&json!("w"), &json!(true), &json!(4))
        );
    }
    publisher.http.delete("/api/v1/publication?path=/a").await.well();
    followed.find("the end of the path", |event| event.name == "killed").await;
    own.find("the end of the path", |event| event.name == "killed").await;
    let nothing = format!("/api/v1/subscription/events?peer={ticket}&path=/none&lake=log");
    let mut waiting = reader.http.events(&nothing).await;
    waiting.find("that there is nothing", |event| event.name == "not_available").await;
    reader.http.delete(&format!("/api/v1/subscription?peer={ticket}&path=/a")).await.well();
    let ended = followed.find("the end", |event| event.name == "ended").await;
    assert_eq!(ended.data["reason"], "quit");
    followed.ends().await;
    publisher.stop().await;
    reader.stop().await;
}

/// A list is told by what happens, and not by a look now and then: at once after a quiet time, and never without a reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_what_has_changed_when_it_has_and_nothing_else() {
    /// Less than a look now and then would take.
    const AT_ONCE: Duration = Duration::from_millis(500);
    /// Some of its periods.
    const LONG: Duration = Duration::from_secs(3);
    let (publisher, reader) = (node().await, node().await);
    give_waves(&publisher, "/sales&lake=sum", json!([5])).await;
    let mut events = publisher.http.events("/api/v1/stream?topic=publications").await;
    events.up_to("caught_up").await;
    let settled = |event: &crate::common::Sse| event.data["publication"]["waves_per_second"] == json!(0.0);
    events.find("a rate", settled).await;
    let quiet = async |events: &mut crate::common::Events| {
        // Time is under test: nothing happens, and so nothing is to be said.
        let said = tokio::time::timeout(LONG, events.find("anything", |event| event.name != "heartbeat")).await;
        assert!(said.is_err(), "{said:?}");
    };
    quiet(&mut events).await;
    let begun = Instant::now();
    give_waves(&publisher, "/sales", json!([7])).await;
    let told = events.find("the wave", |event| event.data["publication"]["aeon"] == 2).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(told.data["publication"]["readers"], 0);
    events.find("a rate", settled).await;
    quiet(&mut events).await;
    // One who reads, and then does not any more.
    let begun = Instant::now();
    let follower = publisher.http.events("/api/v1/stream?topic=publication%3Fpath%3D%2Fsales").await;
    events.find("a reader", |event| event.data["publication"]["readers"] == 1).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    drop(follower);
    events.find("no reader", |event| event.data["publication"]["readers"] == 0).await;
    // Its rule, its access, and its end.
    publisher.http.patch("/api/v1/publication/rule?path=/sales", &json!({ "horizon": 7 })).await.well();
    events.find("the rule", |event| event.data["publication"]["rule"]["horizon"] == 7).await;
    let secret = json!({ "change": "secret" });
    publisher.http.post("/api/v1/publication/access?path=/sales", &secret).await.well();
    events.find("the access", |event| event.data["publication"]["access"] == "secret").await;
    publisher.http.delete("/api/v1/publication?path=/sales").await.well();
    events.find("the end", |event| event.data["publication"]["killed"] == true).await;
    // A peer that connects is a change of the node.
    let mut of_node = publisher.http.events("/api/v1/stream?topic=node").await;
    of_node.up_to("caught_up").await;
    let source = format!("{}&path=/sales&lake=sum", publisher.ticket().await);
    reader.http.put(&format!("/api/v1/subscription?peer={source}"), "").await.well();
    let id = reader.id().await;
    of_node.find("the peer", |event| event.data["node"]["peers"].as_array().unwrap().contains(&json!(id))).await;
    reader.stop().await;
    of_node.find("no peer", |event| event.data["node"]["peers"] == json!([])).await;
    publisher.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_follows_everything_of_a_page() {
    let (manager, machine) = (manager().await, machine().await);
    give_waves(&manager, "/sales&lake=sum", json!([5])).await;
    let topics = "topic=machines&topic=claims&topic=kv%3Fmachine%3D*%26prefix%3Dprice%2F&topic=publication%3Fpath%3D%2Fsales&topic=publications&topic=kv%3Fmachine%3Dnone";
    let mut events = manager.http.events(&format!("/api/v1/stream?{topics}")).await;
    events.expect("hello").await;
    // Each topic says that it has caught up; the one that can't be followed ends alone.
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 6 {
        let event = events.find("the beginning", |_| true).await;
        let topic = event.data["topic"].as_u64().unwrap();
        if matches!(event.name.as_str(), "caught_up" | "ended") {
            seen.insert(topic, event);
        }
    }
    assert_eq!(seen[&2].data["machines"], json!([]));
    assert_eq!(seen[&3].data["rock"], json!(5));
    assert_eq!((seen[&5].name.as_str(), &seen[&5].data["reason"]), ("ended", &json!("unknown-machine")));

    let id = pair(&manager, &machine).await;
    let [claim, online] = events
        .find_all(
            "the claimed machine to be online",
            [&|event| event.name == "claim" && event.data["claim"]["state"] == "claimed", &|event| {
                event.name == "machine" && event.data["machine"]["link"] == "online"
            }],
        )
        .await;
    assert_eq!((&claim.data["topic"], &online.data["topic"]), (&json!(1), &json!(0)));
    assert_eq!(online.data["machine"]["id"], id.as_str());
    machine.http.put(&format!("{OWN}/entry?key=price/1"), "250").await.well();
    let put = events.find("the entry", |event| event.name == "put").await;
    assert_eq!((&put.data["machine"], &put.data["value"], &put.data["topic"]), (&json!(id), &json!("250"), &json!(2)));
    give_waves(&manager, "/sales", json!([7])).await;
    let [update, _] = events
        .find_all(
            "the wave, and the publication in its list",
            [&|event| event.name == "update", &|event| {
                event.name == "publication" && event.data["publication"]["aeon"] == 2
            }],
        )
        .await;
    assert_eq!((&update.data["wave"], &update.data["topic"]), (&json!(7), &json!(3)));

    manager.http.delete(&format!("/api/v1/machines/{id}")).await.well();
    let mut gone = std::collections::BTreeSet::new();
    while gone.len() < 2 {
        let event = events.find("the machine to be gone", |event| event.name == "gone").await;
        assert_eq!(event.data["machine"], id.as_str());
        gone.insert(event.data["topic"].as_u64().unwrap());
    }
    assert_eq!(gone, [0, 2].into());
    let (rest, _) = tokio::join!(
        events.find("the end of the stream", |event| event.name == "ended" && event.data.get("topic").is_none()),
        manager.stop()
    );
    assert_eq!(rest.data["reason"], "shut_down");
    events.ends().await;
    machine.stop().await;
}
