//! `Idempotency-Key`: a write that is repeated with it is done once.

use serde_json::{Value, json};

use crate::common::{Reply, Up, machine, node};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn send(up: &Up, method: &str, path: &str, key: &str, body: &str) -> Reply {
    up.http.send(method, path, &[("idempotency-key", key), JSON], body.to_owned()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn waves_are_given_once() {
    let node = node().await;
    let waves = "/api/v1/publication/waves?path=/till&lake=sum";
    let give = async |key: &str, body: Value| send(&node, "POST", waves, key, &body.to_string()).await;
    for _ in 0..3 {
        assert_eq!(give("sale-1", json!({ "waves": [100] })).await.well(), json!({ "aeon": 1 }));
    }
    assert_eq!(give("sale-2", json!({ "waves": [1, 2] })).await.well(), json!({ "aeon": 3 }));
    give("sale-1", json!({ "waves": [7] })).await.problem(409, "id-reused");
    let elsewhere = "/api/v1/publication/waves?path=/other&lake=sum";
    send(&node, "POST", elsewhere, "sale-1", r#"{"waves":[100]}"#).await.problem(409, "id-reused");
    give(&"x".repeat(129), json!({ "waves": [1] })).await.problem(400, "bad-request");
    let two = [("idempotency-key", "a"), ("idempotency-key", "b"), JSON];
    node.http.send("POST", waves, &two, r#"{"waves":[1]}"#).await.problem(400, "bad-request");
    let rock = node.http.get("/api/v1/publication?path=/till").await.well()["rock"].clone();
    assert_eq!(rock, json!(103));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_written_once() {
    let machine = machine().await;
    let entry = "/api/v1/machines/self/entry?key=total";
    let first = send(&machine, "PUT", entry, "1", "100").await.well();
    machine.http.put(entry, "200").await.well();
    assert_eq!(send(&machine, "PUT", entry, "1", "100").await.well(), first);
    assert_eq!(machine.http.get(entry).await.body, "200");
    send(&machine, "PUT", entry, "1", "300").await.problem(409, "id-reused");
    send(&machine, "DELETE", entry, "1", "").await.problem(409, "id-reused");
    assert_eq!(send(&machine, "DELETE", entry, "2", "").await.well(), json!({ "deleted": true }));
    machine.http.put(entry, "400").await.well();
    assert_eq!(send(&machine, "DELETE", entry, "2", "").await.well(), json!({ "deleted": true }));
    assert_eq!(machine.http.get(entry).await.body, "400");
    send(&machine, "PUT", entry, &"x".repeat(129), "1").await.problem(400, "bad-request");
    machine.stop().await;
}
