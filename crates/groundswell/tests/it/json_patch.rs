//! The lake `json` follows RFC 6902 in its edge cases, and what a patch may cost is bounded.

use groundswell::{
    Lake, Older, check_lake,
    lakes::{Json, JsonDocument, JsonError, JsonPatch, MAX_JSON_DEPTH, MAX_JSON_WORK},
};
use groundswell_core::encoding::encode;
use proptest::prelude::*;
use serde_json::{Value, json};

fn patch(value: &Value) -> JsonPatch {
    value.to_string().parse().unwrap()
}

/// What becomes of a document. A refused patch leaves it as it was.
fn washed(document: &Value, operations: &Value) -> Result<Value, JsonError> {
    let mut rock = JsonDocument(document.clone());
    let washed = Json::wash(&mut rock, &patch(operations));
    if washed.is_err() {
        assert_eq!(rock.0, *document, "{operations} was refused and left a trace");
    }
    washed.map(|()| rock.0)
}

#[track_caller]
fn accepted(document: Value, operations: Value, expected: Value) {
    assert_eq!(washed(&document, &operations), Ok(expected), "{document} and {operations}");
}

#[track_caller]
fn refused(document: Value, operations: Value) {
    // A change before it is taken back.
    let mut longer = vec![json!({"op": "add", "path": "", "value": document})];
    longer.extend(operations.as_array().unwrap().iter().cloned());
    for operations in [operations, Value::from(longer)] {
        let error = washed(&document, &operations).unwrap_err();
        assert!(matches!(error, JsonError::Patch(_)), "{document} and {operations}: {error}");
    }
}

/// The examples of RFC 6902, appendix A.
#[test]
fn the_examples_of_the_rfc() {
    accepted(
        json!({"foo": "bar"}),
        json!([{"op": "add", "path": "/baz", "value": "qux"}]),
        json!({"baz": "qux", "foo": "bar"}),
    );
    accepted(
        json!({"foo": ["bar", "baz"]}),
        json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
        json!({"foo": ["bar", "qux", "baz"]}),
    );
    accepted(json!({"baz": "qux", "foo": "bar"}), json!([{"op": "remove", "path": "/baz"}]), json!({"foo": "bar"}));
    accepted(
        json!({"foo": ["bar", "qux", "baz"]}),
        json!([{"op": "remove", "path": "/foo/1"}]),
        json!({"foo": ["bar", "baz"]}),
    );
    accepted(
        json!({"baz": "qux", "foo": "bar"}),
        json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
        json!({"baz": "boo", "foo": "bar"}),
    );
    accepted(
        json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
        json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
        json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
    );
    accepted(
        json!({"foo": ["all", "grass", "cows", "eat"]}),
        json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
        json!({"foo": ["all", "cows", "eat", "grass"]}),
    );
    let document = json!({"baz": "qux", "foo": ["a", 2, "c"]});
    accepted(
        document.clone(),
        json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
        document,
    );
    refused(json!({"baz": "qux"}), json!([{"op": "test", "path": "/baz", "value": "bar"}]));
    accepted(
        json!({"foo": "bar"}),
        json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
        json!({"foo": "bar", "child": {"grandchild": {}}}),
    );
    accepted(
        json!({"foo": "bar"}),
        json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
        json!({"foo": "bar", "baz": "qux"}),
    );
    refused(json!({"foo": "bar"}), json!([{"op": "add", "path": "/baz/bat", "value": "qux"}]));
    accepted(
        json!({"/": 9, "~1": 10}),
        json!([{"op": "test", "path": "/~01", "value": 10}]),
        json!({"/": 9, "~1": 10}),
    );
    refused(json!({"/": 9, "~1": 10}), json!([{"op": "test", "path": "/~01", "value": "10"}]));
    accepted(
        json!({"foo": ["bar"]}),
        json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
        json!({"foo": ["bar", ["abc", "def"]]}),
    );
}

/// "The target location MUST exist", the place after the last element, and the document as a whole.
#[test]
fn the_edges_of_each_operation() {
    let list = || json!({"a": [1, 2, 3]});
    accepted(list(), json!([{"op": "add", "path": "/a/3", "value": 4}]), json!({"a": [1, 2, 3, 4]}));
    accepted(list(), json!([{"op": "copy", "from": "/a/0", "path": "/a/-"}]), json!({"a": [1, 2, 3, 1]}));
    accepted(list(), json!([{"op": "move", "from": "/a/0", "path": "/a/-"}]), json!({"a": [2, 3, 1]}));
    accepted(json!({"a": 1}), json!([{"op": "add", "path": "/a", "value": null}]), json!({"a": null}));
    accepted(json!({"": {"": 1}}), json!([{"op": "replace", "path": "//", "value": 2}]), json!({"": {"": 2}}));
    accepted(
        json!({"a": {"-": 1, "0": 2}}),
        json!([{"op": "remove", "path": "/a/-"}, {"op": "remove", "path": "/a/0"}]),
        json!({"a": {}}),
    );
    for path in
        ["/a/4", "/a/-1", "/a/01", "/a/+1", "/a/1e0", "/a/b", "/a/", "/b/c", "/a/0/0", "/a/99999999999999999999"]
    {
        refused(list(), json!([{"op": "add", "path": path, "value": 0}]));
    }
    for path in ["/a/3", "/a/-", "/a/00", "/b", "/b/c", "/a/0/0"] {
        refused(list(), json!([{"op": "remove", "path": path}]));
        refused(list(), json!([{"op": "replace", "path": path, "value": 0}]));
        refused(list(), json!([{"op": "test", "path": path, "value": null}]));
        refused(list(), json!([{"op": "copy", "from": path, "path": "/c"}]));
        refused(list(), json!([{"op": "move", "from": path, "path": "/c"}]));
        refused(list(), json!([{"op": "move", "from": path, "path": path}]));
    }
    // A value that was taken out is put back where the place that it was to go to is none.
    refused(list(), json!([{"op": "move", "from": "/a", "path": "/b/c"}]));
    refused(list(), json!([{"op": "move", "from": "/a/1", "path": "/a/3"}]));
    refused(
        list(),
        json!([{"op": "remove", "path": "/a/0"}, {"op": "move", "from": "/a/0", "path": "/x"}, {"op": "remove", "path": "/y"}]),
    );
}

#[test]
fn the_document_as_a_whole() {
    let document = || json!({"a": {"b": [1]}});
    accepted(document(), json!([{"op": "replace", "path": "", "value": [1]}]), json!([1]));
    accepted(document(), json!([{"op": "add", "path": "", "value": null}]), json!(null));
    accepted(document(), json!([{"op": "test", "path": "", "value": {"a": {"b": [1]}}}]), document());
    accepted(
        document(),
        json!([{"op": "copy", "from": "", "path": "/a/c"}]),
        json!({"a": {"b": [1], "c": document()}}),
    );
    accepted(document(), json!([{"op": "copy", "from": "", "path": ""}]), document());
    accepted(document(), json!([{"op": "copy", "from": "/a", "path": ""}]), json!({"b": [1]}));
    accepted(document(), json!([{"op": "move", "from": "/a", "path": ""}]), json!({"b": [1]}));
    // Section 4.4 forbids a *proper* prefix: a move from a place to itself changes nothing.
    accepted(document(), json!([{"op": "move", "from": "", "path": ""}]), document());
    accepted(document(), json!([{"op": "move", "from": "/a", "path": "/a"}]), document());
    accepted(document(), json!([{"op": "move", "from": "/a/b/0", "path": "/a/b/0"}]), document());
    accepted(json!({"a": 1, "ab": 2}), json!([{"op": "move", "from": "/a", "path": "/ab"}]), json!({"ab": 1}));
    refused(document(), json!([{"op": "move", "from": "", "path": "/a/c"}]));
    refused(document(), json!([{"op": "move", "from": "/a", "path": "/a/c"}]));
    // Nothing would be left to apply the next operation to.
    refused(document(), json!([{"op": "remove", "path": ""}]));
}

/// Section 4.6: numbers are equal "if their values are numerically equal".
#[test]
fn numbers_are_compared_by_what_they_denote() {
    let holds = |held: &str, tested: &str| {
        let held: Value = serde_json::from_str(&format!(r#"{{"n":[{held}]}}"#)).unwrap();
        let wave = format!(r#"[{{"op":"test","path":"","value":{{"n":[{tested}]}}}}]"#);
        Json::wash(&mut JsonDocument(held), &wave.parse().unwrap()).is_ok()
    };
    let same = [
        "1 1.0",
        "1 1e0",
        "100 1e2",
        "100 1.0E+2",
        "0 -0",
        "0 0.0",
        "0 -0.0",
        "0 0e7",
        "-7 -7.0",
        "-7 -70e-1",
        "0.5 5e-1",
        "9007199254740992 9007199254740992.0",
        "9223372036854775807 9223372036854775807",
        "1e300 10e299",
        "18446744073709551615 18446744073709551615",
        "-9223372036854775808 -9223372036854775808.0",
        "100000000000000000000 1e20",
        "5e-324 5e-324",
    ];
    for pair in same {
        let (one, other) = pair.split_once(' ').unwrap();
        assert!(holds(one, other) && holds(other, one), "{pair}");
    }
    let different = [
        "1 2",
        "1 1.5",
        "1 -1",
        "1 \"1\"",
        "0 null",
        "0 false",
        "1 true",
        "1 [1]",
        "9007199254740993 9007199254740992.0",
        "18446744073709551615 18446744073709551616",
        "9223372036854775807 9223372036854775808.0",
        "1 1.0000000000000002",
        "0 5e-324",
        "-9223372036854775808 9223372036854775808",
    ];
    for pair in different {
        let (one, other) = pair.split_once(' ').unwrap();
        assert!(!holds(one, other) && !holds(other, one), "{pair}");
    }
}

fn long_array(elements: usize) -> Value {
    json!({"a": vec![0; elements]})
}

/// A patch of 400 kB that moves 312,000 elements 12,000 times.
#[test]
fn a_small_patch_cannot_do_much_work() {
    let insert = |count: usize| Value::from(vec![json!({"op": "add", "path": "/a/0", "value": 0}); count]);
    let document = long_array(312_000);
    assert_eq!(washed(&document, &insert(12_000)), Err(JsonError::TooMuchWork));
    let fits = usize::try_from(MAX_JSON_WORK).unwrap() / 312_100;
    assert!(washed(&document, &insert(fits)).is_ok());
    // At its end an array takes as many as a wave holds.
    let append = vec![json!({"op": "add", "path": "/a/-", "value": 0}); 12_000];
    assert!(washed(&document, &Value::from(append)).is_ok());
    // Every other way to move elements, and to look at a large value.
    for operations in [
        vec![json!({"op": "remove", "path": "/a/0"})],
        vec![json!({"op": "move", "from": "/a/0", "path": "/a/-"})],
        vec![json!({"op": "copy", "from": "/a/0", "path": "/a/0"})],
        vec![json!({"op": "move", "from": "/a", "path": "/b"}), json!({"op": "move", "from": "/b", "path": "/a"})],
    ] {
        let repeated: Vec<Value> = operations.into_iter().cycle().take(12_000).collect();
        assert_eq!(washed(&document, &Value::from(repeated)), Err(JsonError::TooMuchWork));
    }
}

/// A copy of the document in its own innermost value doubles its depth.
#[test]
fn copies_cannot_nest_a_document_beyond_reading() {
    let mut depth = 1;
    let mut operations = vec![json!({"op": "add", "path": "", "value": [[]]})];
    while depth < 100_000 {
        operations.push(json!({"op": "copy", "from": "", "path": "/0".repeat(depth + 1)}));
        depth = 2 * depth + 1;
    }
    assert!(operations.len() < 20);
    assert_eq!(washed(&Value::Null, &Value::from(operations)), Err(JsonError::TooDeep));
    // The depth is that of the document after each operation.
    let nested = |levels: usize| (0..levels).fold(json!(0), |inner, _| json!([inner]));
    for (levels, fits) in [(MAX_JSON_DEPTH, true), (MAX_JSON_DEPTH + 1, false)] {
        assert_eq!(washed(&Value::Null, &json!([{"op": "add", "path": "", "value": nested(levels)}])).is_ok(), fits);
        let document = json!({"a": nested(levels - 2), "b": {}});
        assert_eq!(washed(&document, &json!([{"op": "move", "from": "/a", "path": "/b/c"}])).is_ok(), fits);
        assert_eq!(washed(&document, &json!([{"op": "copy", "from": "/a", "path": "/b/c"}])).is_ok(), fits);
    }
}

/// What version 1 accepted is brought over, be it more work than a patch may do now.
#[test]
fn what_version_1_stored_is_upgraded() {
    assert_eq!(Json::VERSION, 2);
    let rock = encode(&JsonDocument(long_array(2_000))).unwrap();
    let insert = Value::from(vec![json!({"op": "add", "path": "/a/0", "value": 1}); 3_000]);
    let waves = [
        encode(&patch(&insert)).unwrap().into(),
        encode(&patch(&json!([{"op": "test", "path": "/a/0", "value": 1}]))).unwrap().into(),
    ];
    assert_eq!(washed(&long_array(2_000), &insert), Err(JsonError::TooMuchWork));
    let upgraded = Json::upgrade(Older::new(1, &rock, &waves)).unwrap();
    assert_eq!(upgraded.0["a"].as_array().unwrap().len(), 5_000);
    assert!(Json::upgrade(Older::new(3, &rock, &[])).is_err());
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..4i64).prop_map(Value::from), "[a-b]".prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_operation() -> impl Strategy<Value = Value> {
    let path = || prop_oneof![1 => Just(String::new()), 8 => "(/[a-c0-2]){1,3}", 2 => "(/[a-c0-2]){0,2}/-"];
    (0..6, path(), path(), any_value()).prop_map(|(kind, path, from, value)| match kind {
        0 => json!({"op": "add", "path": path, "value": value}),
        1 => json!({"op": "remove", "path": path}),
        2 => json!({"op": "replace", "path": path, "value": value}),
        3 => json!({"op": "move", "path": path, "from": from}),
        4 => json!({"op": "copy", "path": path, "from": from}),
        _ => json!({"op": "test", "path": path, "value": value}),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The library `json-patch` agrees, but for a move of the whole document onto itself, which it refuses. (Its own way
    /// to take a patch back panics where the target of a move does not exist.)
    #[test]
    fn another_implementation_agrees(document in any_value(), operations in prop::collection::vec(any_operation(), 1..6)) {
        prop_assume!(!operations.iter().any(|one| one["op"] == "move" && one["from"] == "" && one["path"] == ""));
        let operations = Value::from(operations);
        let mut theirs = document.clone();
        let applied = json_patch::patch_unsafe(&mut theirs, &patch(&operations).0);
        let ours = washed(&document, &operations);
        prop_assert_eq!(ours.is_ok(), applied.is_ok(), "{} and {}: {:?}", document, operations, applied);
        if let Ok(ours) = ours {
            prop_assert_eq!(ours, theirs);
        }
    }

    /// The laws hold in the neighbourhood of what is refused.
    #[test]
    fn the_laws_hold(document in any_value(), operations in prop::collection::vec(any_operation(), 1..6)) {
        let begin = patch(&json!([{"op": "add", "path": "", "value": document}]));
        check_lake::<Json>([begin, patch(&Value::from(operations))]).unwrap();
    }
}
