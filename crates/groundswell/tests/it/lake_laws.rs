//! The built-in lakes keep the lake laws, on generated histories with refused waves among them.

use groundswell::{
    Lake, check_lake,
    lakes::{Json, JsonError, JsonPatch, Log, Sum},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn patch(value: Value) -> JsonPatch {
    value.to_string().parse().unwrap()
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = Value> {
    let path = prop_oneof![Just(String::new()), "(/[a-c0-2]){1,3}", Just("/-".to_owned())];
    (0..6, path.clone(), path, any_json()).prop_map(|(kind, path, from, value)| match kind {
        0 => json!({"op": "add", "path": path, "value": value}),
        1 => json!({"op": "remove", "path": path}),
        2 => json!({"op": "replace", "path": path, "value": value}),
        3 => json!({"op": "move", "path": path, "from": from}),
        4 => json!({"op": "copy", "path": path, "from": from}),
        _ => json!({"op": "test", "path": path, "value": value}),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn json(history in prop::collection::vec(prop::collection::vec(any_operation(), 1..4), 0..12)) {
        let begin = patch(json!([{"op": "add", "path": "", "value": {"a": [1, {"b": 2}], "c": {}}}]));
        let waves = history.into_iter().map(|operations| patch(Value::from(operations)));
        check_lake::<Json>(std::iter::once(begin).chain(waves)).unwrap();
    }

    #[test]
    fn sum(waves in prop::collection::vec(any::<i64>(), 0..50)) {
        check_lake::<Sum>(waves).unwrap();
    }

    #[test]
    fn log(waves in prop::collection::vec(".*", 0..20)) {
        check_lake::<Log>(waves).unwrap();
    }
}

/// serde_json reads this number back as another one, unless it is told to be exact.
#[test]
fn a_number_survives_its_own_text() {
    check_lake::<Json>([patch(json!([{"op": "add", "path": "", "value": 8.020850887736267e-13}]))]).unwrap();
}

#[test]
fn a_document_cannot_be_nested_beyond_reading() {
    let mut document = Default::default();
    Json::wash(&mut document, &patch(json!([{"op": "add", "path": "", "value": {"a": {}}}]))).unwrap();
    let mut refused = None;
    for _ in 0..200 {
        // Moves the document into itself, one level deeper each time.
        let deeper = json!([
            {"op": "copy", "from": "/a", "path": "/b"}, {"op": "replace", "path": "/a", "value": {}},
            {"op": "move", "from": "/b", "path": "/a/x"}
        ]);
        if let Err(error) = Json::wash(&mut document, &patch(deeper)) {
            refused = Some(error);
            break;
        }
    }
    assert_eq!(refused, Some(JsonError::TooDeep));
    check_lake::<Json>([]).unwrap();
    let bytes = groundswell_core::encoding::encode(&document).unwrap();
    groundswell_core::encoding::decode::<groundswell::lakes::JsonDocument>(&bytes).unwrap();
}

#[test]
fn a_document_cannot_be_doubled_again_and_again() {
    let mut document = Default::default();
    let text = "x".repeat(100_000);
    Json::wash(&mut document, &patch(json!([{"op": "add", "path": "", "value": {"a": text}}]))).unwrap();
    let copies: Vec<Value> = (0..20).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/b{n}")})).collect();
    assert_eq!(Json::wash(&mut document, &patch(Value::from(copies))), Err(JsonError::CopiesTooMuch));
}
