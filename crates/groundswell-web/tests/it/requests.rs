//! Nodes, machines, claims, keys and values: each address, and what is wrong.

use serde_json::{Value, json};

use crate::common::{claim_answer, machine, manager, node, pair, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_claims_a_machine_sees_it_and_releases_it() {
    let (manager, machine) = (manager().await, machine().await);
    let id = pair(&manager, &machine).await;
    until("the machine to be online", async || {
        let view = manager.http.get(&format!("/api/v1/machines/{id}")).await.well();
        view["link"] == "online" && view["current"] == true
    })
    .await;
    let listed = manager.http.get("/api/v1/machines").await.well();
    assert_eq!(listed["machines"][0]["id"], id.as_str());
    assert_eq!(listed["machines"][0]["manager"], manager.id().await);
    let own = machine.http.get("/api/v1/machines/self").await.well();
    assert_eq!((&own["id"], &own["own"], &own["manager"]), (&json!(id), &json!(true), &json!(manager.id().await)));
    let ended = manager.http.get("/api/v1/claims/1").await.well();
    assert_eq!((&ended["state"], &ended["machine"]), (&json!("claimed"), &json!(id)));
    manager.http.post("/api/v1/claims/1/answer", &json!({ "same": true })).await.problem(409, "claim-over");

    // What one side writes the other has.
    machine.http.put("/api/v1/machines/self/entry?key=stock", "12").await.well();
    let entry = format!("/api/v1/machines/{id}/entry?key=stock");
    until("the entry", async || manager.http.get(&entry).await.body == "12").await;

    let released = manager.http.delete(&format!("/api/v1/machines/{id}")).await.well();
    assert_eq!(released, json!({ "released": true }));
    manager.http.get(&entry).await.problem(404, "unknown-machine");
    until("the machine to know", async || {
        machine.http.get("/api/v1/machines/self").await.well()["manager"] == Value::Null
    })
    .await;
    let alone = machine.http.delete("/api/v1/machines/self").await.problem(409, "not-claimed");
    assert!(alone["detail"].as_str().unwrap().contains("there is nothing to release"), "{alone}");
    // What it has it forgets only where that is asked for.
    machine.http.delete("/api/v1/machines/self?wipe=yes").await.problem(400, "bad-request");
    assert_eq!(machine.http.get("/api/v1/machines/self/entry?key=stock").await.body, "12");
    let wiped = machine.http.delete("/api/v1/machines/self?wipe=true").await.well();
    assert_eq!(wiped, json!({ "released": true, "wiped": true }));
    machine.http.get("/api/v1/machines/self/entry?key=stock").await.problem(404, "no-entry");
    assert_eq!(pair(&manager, &machine).await, id);
    manager.http.delete(&format!("/api/v1/machines/{id}?wipe=true")).await.problem(409, "wrong-role");
    manager.stop().await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_all_is_delivered_is_told_and_who_waits_for_it_holds_up_no_shutdown() {
    let (manager, machine) = (manager().await, machine().await);
    let id = pair(&manager, &machine).await;
    let (entry, delivered) =
        (format!("/api/v1/machines/{id}/entry?key=price"), format!("/api/v1/machines/{id}/delivered"));
    manager.http.put(&entry, "250").await.well();
    assert_eq!(manager.http.get(&format!("{delivered}?within=30")).await.well(), json!({ "delivered": true }));
    assert_eq!(machine.http.get("/api/v1/machines/self/entry?key=price").await.body, "250");
    machine.stop().await;
    manager.http.put(&entry, "260").await.well();
    assert_eq!(manager.http.get(&delivered).await.well(), json!({ "delivered": false }));
    let waits = format!("{delivered}?within=60");
    let (waited, ended) = tokio::join!(manager.http.get(&waits), async {
        // A connection is counted a moment before its request is read: the request is surely there when others that came
        // after it were answered.
        let seen = std::cell::Cell::new(0);
        until("the request to wait", async || {
            let connections = manager.http.get("/api/v1/node").await.well()["http"]["connections"].as_u64();
            seen.set(seen.get() + u32::from(connections >= Some(2)));
            seen.get() >= 5
        })
        .await;
        manager.server.shutdown().await
    });
    waited.problem(503, "shut-down");
    ended.unwrap();
    manager.stop().await;
}

/// A machine takes claims only while a person has opened it, or with its ticket's one-time secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_opened_for_claims_and_closed_and_has_a_ticket_for_one() {
    let (manager, machine) = (manager().await, machine().await);
    let claim = async |ticket: String| manager.http.post("/api/v1/claims", &json!({ "ticket": ticket })).await;
    let closed = json!({ "open": false, "open_ms": null, "ticket_ms": null, "attempts_left": 20, "in_vain": [] });
    assert_eq!(machine.http.get("/api/v1/pairing").await.well(), closed);
    let refused = claim(machine.ticket().await).await;
    assert!(refused.json()["detail"].as_str().unwrap().contains("not open for claims"), "{}", refused.text());
    refused.problem(409, "claim-failed");
    assert_eq!(machine.http.get("/api/v1/pairing").await.well(), closed, "it has cost nothing");

    let opened = machine.http.post("/api/v1/pairing", &json!({ "seconds": 600 })).await.well();
    assert!(opened["open"] == true && opened["open_ms"].as_u64().is_some_and(|ms| ms > 590_000), "{opened}");
    let begun = claim(machine.ticket().await).await.well();
    manager.http.post(&claim_answer(&begun), &json!({ "same": false })).await.well();
    let vain = machine.http.get("/api/v1/pairing").await.well();
    assert_eq!(vain["in_vain"], json!([{ "manager": manager.id().await, "claims": 1 }]));
    assert_eq!(vain["attempts_left"], 19);
    assert_eq!(machine.http.delete("/api/v1/pairing").await.well()["open"], false);
    claim(machine.ticket().await).await.problem(409, "claim-failed");

    let ticket = machine.http.post("/api/v1/pairing/ticket", &json!({})).await;
    assert_eq!(ticket.status, 201);
    let ticket = ticket.json()["ticket"].as_str().unwrap().to_owned();
    assert!(machine.http.get("/api/v1/pairing").await.well()["ticket_ms"].as_u64().unwrap() > 3_590_000);
    let begun = claim(ticket.clone()).await.well();
    let asked = machine.pending_claim().await;
    let (here, there, same) = (claim_answer(&begun), claim_answer(&asked), json!({ "same": true }));
    let (here, there) = tokio::join!(manager.http.post(&here, &same), machine.http.post(&there, &same));
    assert_eq!((here.well()["state"].clone(), there.well()["state"].clone()), (json!("claimed"), json!("claimed")));
    // It was good for one, and its machine is closed as before.
    claim(ticket).await.problem(409, "claim-failed");
    assert_eq!(machine.http.get("/api/v1/pairing").await.well(), closed);

    // No body says no more than `{}`; where something has to be said, it is said that it is missing.
    assert_eq!(machine.http.send("POST", "/api/v1/pairing/ticket", &[], "").await.status, 201);
    // A list of the fields is no object of them.
    for (path, list) in [("pairing", "[]"), ("pairing", " [60]"), ("pairing/ticket", "[]"), ("peers", "[\"x\"]")] {
        let answer = machine.http.send("POST", &format!("/api/v1/{path}"), &[], list).await;
        assert_eq!(answer.status, 400, "{path} {list}");
        let said = String::from_utf8_lossy(&answer.body);
        assert!(said.contains("an object goes here"), "{said}");
    }
    assert_eq!(machine.http.send("POST", "/api/v1/pairing", &[], "").await.well()["open"], true);
    let missing = manager.http.send("POST", "/api/v1/claims", &[], "").await.problem(400, "bad-request");
    assert_eq!(missing["detail"], "there is no body: JSON goes here");
    for seconds in [json!(0), json!(601), json!(-1), json!("x"), json!(1.5)] {
        machine.http.post("/api/v1/pairing", &json!({ "seconds": seconds })).await.problem(400, "bad-request");
    }
    machine.http.post("/api/v1/pairing/ticket", &json!({ "seconds": 86_401 })).await.problem(400, "bad-request");
    machine.http.post("/api/v1/pairing", &json!({ "second": 1 })).await.problem(400, "bad-request");
    manager.http.get("/api/v1/pairing").await.problem(409, "wrong-role");
    manager.http.post("/api/v1/pairing", &json!({})).await.problem(409, "wrong-role");
    manager.stop().await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_either_side_refuses_pairs_nobody() {
    let (manager, machine) = (manager().await, machine().await);
    machine.http.post("/api/v1/pairing", &json!({})).await.well();
    for machine_agrees in [true, false] {
        let begun = manager.http.post("/api/v1/claims", &json!({ "ticket": machine.ticket().await })).await.well();
        let asked = machine.pending_claim().await;
        let (here, there) = (claim_answer(&begun), claim_answer(&asked));
        if machine_agrees {
            let refused = manager.http.post(&here, &json!({ "same": false })).await.well();
            assert_eq!(refused["state"], "refused");
            // The machine is told, or was not asked in time.
            until("the machine's claim to be over", async || {
                let claim = machine.http.get(&format!("/api/v1/claims/{}", asked["claim"])).await.well();
                claim["state"] == "failed"
            })
            .await;
        } else {
            let refused = machine.http.post(&there, &json!({ "same": false })).await.well();
            assert_eq!(refused["state"], "refused");
            manager.http.post(&here, &json!({ "same": true })).await.problem(409, "claim-failed");
        }
    }
    assert_eq!(manager.http.get("/api/v1/machines").await.well(), json!({ "machines": [] }));
    assert_eq!(machine.http.get("/api/v1/machines/self").await.well()["link"], "unclaimed");
    manager.stop().await;
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_key_and_any_value_go_there_and_come_back() {
    let machine = machine().await;
    let all: String = (0..=255).map(|byte| format!("%{byte:02X}")).collect();
    let longest = "a".repeat(1_024);
    let keys = ["", "a", "a/b", "%2e", "..", "%25", "a+b", "a%2Bb", &all, &longest];
    for (number, key) in keys.iter().enumerate() {
        let path = format!("/api/v1/machines/self/entry?key={key}");
        machine.http.get(&path).await.problem(404, "no-entry");
        let value: Vec<u8> = std::iter::repeat_n([0, 0xff, number as u8], number).flatten().collect();
        let put = machine.http.put(&path, value.clone()).await.well();
        assert_eq!(put["author"], "machine");
        let got = machine.http.get(&path).await;
        assert_eq!((got.status.as_u16(), &*got.body), (200, &*value), "{key}");
        assert_eq!(got.header("content-type"), "application/octet-stream");
        assert_eq!(got.header("groundswell-author"), "machine");
        assert_eq!(got.header("groundswell-timestamp"), put["timestamp"].to_string());
    }
    let listed = machine.http.get("/api/v1/machines/self/entries").await.well();
    assert_eq!(listed["entries"].as_array().unwrap().len(), keys.len(), "all of them are different keys");
    assert_eq!(machine.http.delete("/api/v1/machines/self/entry?key=").await.well(), json!({ "deleted": true }));
    assert_eq!(machine.http.delete("/api/v1/machines/self/entry?key=").await.well(), json!({ "deleted": false }));
    // Spaces are apart.
    machine.http.put("/api/v1/machines/self/entry?key=a&space=other", "there").await.well();
    assert_eq!(machine.http.get("/api/v1/machines/self/entry?key=a&space=other").await.body, "there");
    assert_ne!(machine.http.get("/api/v1/machines/self/entry?key=a").await.body, "there");
    let spaces = machine.http.get("/api/v1/machines/self/spaces").await.well();
    assert_eq!(spaces, json!({ "spaces": ["", "other"] }));
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_filter_and_come_in_pages() {
    let machine = machine().await;
    for number in 0..25 {
        machine.http.put(&format!("/api/v1/machines/self/entry?key=slot/{number:02}"), number.to_string()).await.well();
    }
    machine.http.put("/api/v1/machines/self/entry?key=other", "x").await.well();
    let list = async |query: &str| {
        let list = machine.http.get(&format!("/api/v1/machines/self/entries?{query}")).await.well();
        let keys = list["entries"].as_array().unwrap().iter();
        let keys: Vec<String> = keys.map(|entry| entry["key"].as_str().unwrap().to_owned()).collect();
        (keys, list["more"].as_bool().unwrap())
    };
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let (keys, more) = list(&format!("prefix=slot/&limit=10{after}")).await;
        after = format!("&after={}", keys.last().unwrap());
        seen.extend(keys);
        if !more {
            break;
        }
    }
    let expected: Vec<String> = (0..25).map(|number| format!("slot/{number:02}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(list("key=other&key=slot/03").await.0, ["other", "slot/03"]);
    assert_eq!(list("start=slot/03&end=slot/05").await.0, ["slot/03", "slot/04"]);
    assert_eq!(list("author=manager").await, (Vec::new(), false));
    let bare = machine.http.get("/api/v1/machines/self/entries?key=other&values=false").await.well();
    assert_eq!(bare["entries"][0].get("value"), None);
    machine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_a_problem_that_says_so() {
    let (machine, manager, node) = (machine().await, manager().await, node().await);
    let entry = "/api/v1/machines/self/entry";
    let own = format!("{entry}?key=");
    for (path, status, word) in [
        (entry.to_owned(), 400, "bad-request"),
        (format!("{entry}?key=a&key=b"), 400, "bad-request"),
        (format!("{entry}?key=%zz"), 400, "bad-request"),
        (format!("{entry}?key=a&spaec=b"), 400, "bad-request"),
        (format!("{entry}?key=a&space=%2F"), 400, "bad-request"),
        (format!("{entry}?key={}", "a".repeat(1_025)), 400, "key-too-long"),
        ("/api/v1/machines/self/entries?limit=0".into(), 400, "bad-request"),
        ("/api/v1/machines/self/entries?limit=10001".into(), 400, "bad-request"),
        ("/api/v1/machines/self/entries?author=me".into(), 400, "bad-request"),
        ("/api/v1/machines/self/delivered?within=61".into(), 400, "bad-request"),
        ("/api/v1/machines/self/delivered".into(), 409, "not-claimed"),
        ("/api/v1/machines/other/entries".into(), 404, "unknown-machine"),
        (format!("/api/v1/machines/{}/entries", "0".repeat(64)), 404, "unknown-machine"),
        ("/api/v1/machines/%ff/entries".into(), 400, "bad-request"),
        ("/api/v1/claims/7".into(), 404, "unknown-claim"),
        ("/api/v1/claims/x".into(), 404, "unknown-claim"),
        ("/api/v1/publication?path=/none".into(), 404, "no-state"),
        ("/api/v1/publication?path=none".into(), 400, "bad-request"),
        ("/api/v1/publication/events?path=/none".into(), 404, "no-state"),
        ("/api/v1/subscription?peer=x&path=/none".into(), 400, "bad-request"),
        ("/api/v1/stream".into(), 400, "bad-request"),
        ("/api/v1/stream?topic=nothing".into(), 400, "bad-request"),
        (format!("/api/v1/stream?{}", ["topic=node"; 33].join("&")), 400, "bad-request"),
        ("/api/v1/nothing".into(), 404, "not-found"),
        ("/api/v2/node".into(), 404, "not-found"),
    ] {
        machine.http.get(&path).await.problem(status, word);
    }
    machine.http.delete("/api/v1/node").await.problem(405, "method-not-allowed");
    machine.http.post("/api/v1/claims", &json!({ "ticket": "x" })).await.problem(409, "wrong-role");
    machine.http.put(&own, vec![0; 1024 * 1024 + 1]).await.problem(413, "value-too-large");
    machine.http.put(&own, vec![0; 1024 * 1024]).await.well();
    manager.http.get("/api/v1/machines/self").await.problem(404, "unknown-machine");
    manager.http.post("/api/v1/claims", &json!({ "ticket": "x" })).await.problem(400, "bad-request");
    manager.http.post("/api/v1/claims", &json!({ "tick": "x" })).await.problem(400, "bad-request");
    manager
        .http
        .post("/api/v1/claims", &json!({ "ticket": manager.ticket().await }))
        .await
        .problem(409, "claim-failed");
    manager.http.send("POST", "/api/v1/claims", &[], "{").await.problem(400, "bad-request");
    node.http.get("/api/v1/machines/self").await.problem(409, "wrong-role");
    node.http.get("/api/v1/claims").await.problem(409, "wrong-role");
    assert_eq!(node.http.get("/api/v1/machines").await.well(), json!({ "machines": [] }));
    // A machine that is not there.
    let (gone, _) = {
        let gone = self::machine().await;
        let ticket = gone.ticket().await;
        (ticket, gone.stop().await)
    };
    manager.http.post("/api/v1/claims", &json!({ "ticket": gone })).await.problem(409, "unreachable");
    for up in [machine, manager, node] {
        up.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_and_its_peers_are_told() {
    let (one, other) = (node().await, node().await);
    let told = one.http.get("/api/v1/node").await.well();
    assert_eq!(told["role"], "peer");
    assert!(told["metrics"]["commits"].is_u64() && told["http"]["connections"].as_u64() >= Some(1));
    assert_eq!(one.http.get("/api/v1/peers").await.well(), json!({ "peers": [] }));
    let added = one.http.post("/api/v1/peers", &json!({ "ticket": other.ticket().await })).await.well();
    assert_eq!(added, json!({ "peer": other.id().await }));
    // By its id alone, since its address is known now.
    let id = other.id().await;
    one.http.put(&format!("/api/v1/subscription?peer={id}&path=/a&lake=log"), "").await.well();
    until("the connection", async || {
        one.http.get("/api/v1/peers").await.well() == json!({ "peers": [{ "id": id, "connected": true }] })
    })
    .await;
    one.stop().await;
    other.stop().await;
}
