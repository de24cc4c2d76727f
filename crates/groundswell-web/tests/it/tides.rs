//! Publications and subscriptions: what can be done to them over HTTP.

use serde_json::{Value, json};

use crate::common::{Up, give_waves as give, node, until};

async fn rock(up: &Up, path: &str) -> Value {
    up.http.get(&format!("/api/v1/publication?path={path}")).await.well()["rock"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lake_is_opened_given_to_and_read() {
    let node = node().await;
    for (lake, default, waves, after) in [
        ("log", json!([]), json!(["a", "b\nc"]), json!(["a", "b\nc"])),
        ("sum", json!(0), json!([5, -7]), json!(-2)),
        ("json", Value::Null, json!([[{ "op": "add", "path": "", "value": { "a": 1.5 } }]]), json!({ "a": 1.5 })),
    ] {
        let path = format!("/{lake}");
        let opened = node.http.put(&format!("/api/v1/publication?path={path}&lake={lake}"), "").await.well();
        assert_eq!(opened, json!({ "aeon": 0 }));
        assert_eq!(rock(&node, &path).await, default);
        let given = give(&node, &path, waves.clone()).await;
        assert_eq!(given["aeon"], waves.as_array().unwrap().len());
        assert_eq!(rock(&node, &path).await, after);
    }
    let listed = node.http.get("/api/v1/publications").await.well();
    let paths: Vec<&str> =
        listed["publications"].as_array().unwrap().iter().filter_map(|one| one["path"].as_str()).collect();
    assert_eq!(paths, ["/json", "/log", "/sum"]);
    assert_eq!(listed["publications"][1]["access"], "public");
    assert_eq!(listed["publications"][1]["rule"], json!({ "frequency": "auto", "horizon": 1000 }));
    // Another agent's path is another.
    node.http.post("/api/v1/publication/waves?path=/log&agent=other&lake=sum", &json!({ "waves": [1] })).await.well();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_that_cannot_be_are_refused_whole() {
    let node = node().await;
    let waves = "/api/v1/publication/waves?path=/sum";
    node.http.post(waves, &json!({ "waves": [1] })).await.problem(409, "lake-needed");
    node.http.post(&format!("{waves}&lake=guests"), &json!({ "waves": [1] })).await.problem(404, "unknown-lake");
    give(&node, "/sum&lake=sum", json!([i64::MAX - 1])).await;
    let refused = node.http.post(waves, &json!({ "waves": [1, 1] })).await.problem(409, "wave-refused");
    assert_eq!(refused["index"], 1);
    let refused = node.http.post(waves, &json!({ "waves": [1, "one"] })).await.problem(409, "wave-refused");
    assert_eq!(refused["index"], 1);
    assert_eq!(rock(&node, "/sum").await, json!(i64::MAX - 1), "none of them was given");
    node.http.post(waves, &json!({ "waves": [] })).await.problem(400, "bad-request");
    node.http.post(&format!("{waves}&lake=log"), &json!({ "waves": ["a"] })).await.problem(409, "lake-differs");
    let large = "x".repeat(8 * 1024 * 1024);
    node.http
        .post("/api/v1/publication/waves?path=/l&lake=log", &json!({ "waves": [large] }))
        .await
        .problem(413, "too-large");
    let large = "x".repeat(1024 * 1024 + 1);
    node.http
        .post("/api/v1/publication/waves?path=/l&lake=log", &json!({ "waves": [large] }))
        .await
        .problem(413, "too-large");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_is_ruled_wiped_forked_closed_and_killed() {
    let node = node().await;
    give(&node, "/a&lake=log", json!(["x", "y"])).await;
    let rule = "/api/v1/publication/rule?path=/a";
    assert_eq!(node.http.patch(rule, &json!({})).await.well(), json!({ "frequency": "auto", "horizon": 1000 }));
    assert_eq!(
        node.http.patch(rule, &json!({ "frequency": 5 })).await.well(),
        json!({ "frequency": 5, "horizon": 1000 })
    );
    assert_eq!(
        node.http.patch(rule, &json!({ "horizon": null })).await.well(),
        json!({ "frequency": 5, "horizon": null })
    );
    for wrong in
        [json!({ "frequency": 0 }), json!({ "frequency": "often" }), json!({ "horizn": 1 }), json!({ "horizon": -1 })]
    {
        node.http.patch(rule, &wrong).await.problem(400, "bad-request");
    }
    node.http.patch("/api/v1/publication/rule?path=/none", &json!({ "horizon": 1 })).await.problem(404, "no-state");
    assert_eq!(node.http.post("/api/v1/publication/wipe?path=/a", &json!({})).await.well(), json!({ "wiped": true }));
    let listed = node.http.get("/api/v1/publications").await.well();
    assert_eq!(listed["publications"][0]["kept_waves"], 0);

    let access = "/api/v1/publication/access?path=/a";
    let peer = "ae58ff8833241ac82d6ff7611046ed67b5072d142c588d0063e942d9a75502b6";
    let block = json!({ "change": "block", "peers": [peer] });
    node.http.post(access, &block).await.problem(409, "access-refused");
    node.http.post(access, &json!({ "change": "close" })).await.problem(400, "bad-request");
    assert_eq!(node.http.post(access, &json!({ "change": "secret" })).await.well()["access"], "secret");
    let allowed = node.http.post(access, &json!({ "change": "allow", "peers": [peer] })).await.well();
    assert_eq!(allowed, json!({ "path": "/a", "access": [peer] }));
    assert_eq!(node.http.post(access, &block).await.well()["access"], "secret");
    assert_eq!(node.http.post(access, &json!({ "change": "public" })).await.well()["access"], "public");

    let fork = "/api/v1/publication/fork?path=/a";
    let forked = node.http.post(fork, &json!({ "to": "/b" })).await;
    assert_eq!((forked.status.as_u16(), forked.json()), (201, json!({ "aeon": 2 })));
    node.http.post(fork, &json!({ "to": "/b" })).await.problem(409, "not-empty");
    node.http.post(fork, &json!({ "to": "b" })).await.problem(400, "bad-request");
    let itself = node.http.post(fork, &json!({ "to": "/a" })).await.problem(409, "not-empty");
    assert!(itself["detail"].as_str().unwrap().contains("is the source and the target"), "{itself}");
    assert_eq!(rock(&node, "/b").await, json!(["x", "y"]));

    assert_eq!(node.http.delete("/api/v1/publication?path=/a").await.well(), json!({ "killed": true }));
    node.http.get("/api/v1/publication?path=/a").await.problem(404, "no-state");
    let none = node.http.delete("/api/v1/publication?path=/a").await.problem(404, "no-state");
    assert!(!none["detail"].as_str().unwrap().contains("give to it"), "{none}");
    // What has ended may become another lake.
    give(&node, "/a&lake=sum", json!([4])).await;
    assert_eq!(rock(&node, "/a").await, json!(4));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_followed_read_ruled_copied_and_quit() {
    let (publisher, reader) = (node().await, node().await);
    give(&publisher, "/a&lake=log", json!(["x"])).await;
    let (id, ticket) = (publisher.id().await, publisher.ticket().await);
    let source = format!("peer={id}&path=/a");
    let read = format!("/api/v1/subscription?{source}");
    reader.http.get(&read).await.problem(404, "not-followed");
    reader.http.delete(&read).await.problem(404, "not-followed");
    let unknown = format!("/api/v1/subscription?peer={id}&path=/other&lake=log");
    reader.http.put(&unknown, "").await.problem(404, "unknown-peer");
    let by_ticket = format!("/api/v1/subscription?peer={ticket}&path=/a");
    reader.http.put(&by_ticket, "").await.problem(409, "lake-needed");
    let followed = reader.http.put(&format!("{by_ticket}&lake=log"), "").await.well();
    assert_eq!(followed, json!({ "source": { "peer": id, "agent": "main", "path": "/a" } }));
    until("the state", async || {
        let state = reader.http.get(&read).await.well();
        state["rock"] == json!(["x"]) && state["stale"] == false
    })
    .await;
    let listed = reader.http.get("/api/v1/subscriptions").await.well()["subscriptions"][0].clone();
    assert_eq!((&listed["freshness"], &listed["lag_ms"], &listed["aeon"]), (&json!("live"), &json!(0), &json!(1)));
    assert_eq!(listed["source"]["peer"], id.as_str());
    reader.http.put(&format!("{read}&lake=sum"), "").await.problem(409, "lake-differs");

    let rule = format!("/api/v1/subscription/rule?{source}");
    assert_eq!(
        reader.http.patch(&rule, &json!({ "horizon": 3 })).await.well(),
        json!({ "frequency": "auto", "horizon": 3 })
    );
    reader.http.post(&format!("/api/v1/subscription/wipe?{source}"), &json!({})).await.well();
    let copy = format!("/api/v1/subscription/copy?{source}");
    assert_eq!(reader.http.post(&copy, &json!({ "to": "/mine", "agent": "me" })).await.well(), json!({ "aeon": 1 }));
    reader.http.post(&copy, &json!({ "to": "/mine", "agent": "me" })).await.problem(409, "not-empty");
    let mine = reader.http.get("/api/v1/publications").await.well()["publications"][0].clone();
    assert_eq!((&mine["agent"], &mine["access"]), (&json!("me"), &json!("secret")), "copying leaks nothing");

    assert_eq!(reader.http.delete(&read).await.well(), json!({ "quit": true }));
    reader.http.get(&read).await.problem(404, "not-followed");
    assert_eq!(reader.http.get("/api/v1/subscriptions").await.well(), json!({ "subscriptions": [] }));
    publisher.stop().await;
    reader.stop().await;
}
