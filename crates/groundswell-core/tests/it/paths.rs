//! Paths, patterns and names: what parses, what does not and why, and what a pattern covers.

use groundswell_core::{
    Name, Path, PathError, Pattern,
    encoding::{decode, encode},
    limits::{MAX_NAME_BYTES, MAX_PATH_SEGMENTS, MAX_SEGMENT_BYTES},
};
use proptest::prelude::*;

/// What the documentation says of one segment, said once more.
fn is_segment(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text != "*" && !text.contains('/') && !text.chars().any(char::is_control)
}

/// What the documentation says of a path, said once more.
fn is_path(text: &str) -> bool {
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_segment) && rest.split('/').count() <= 16)
}

fn is_pattern(text: &str) -> bool {
    is_path(text) || text.strip_suffix("/*").is_some_and(is_path)
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && !text.contains('/') && !text.chars().any(char::is_control)
}

/// Texts near the border: mostly paths, now and then with something in them that may not be.
fn text() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        8 => "[a-c]{1,3}",
        2 => "\\PC{1,20}",
        1 => Just("*".to_owned()),
        1 => Just("**".to_owned()),
        1 => Just(String::new()),
        1 => "[\\x00-\\x20\\x7f-\\x9f]{1,3}",
        1 => (250_usize..260).prop_map(|length| "x".repeat(length)),
        1 => (120_usize..130).prop_map(|length| "é".repeat(length)),
    ];
    let path = prop::collection::vec(segment, 0..19)
        .prop_map(|segments| segments.iter().map(|segment| format!("/{segment}")).collect());
    prop_oneof![6 => path, 1 => ".{0,40}", 1 => "[a-c/*]{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_text_parses_exactly_if_it_is_one(text in text()) {
        prop_assert_eq!(Path::new(&text).is_ok(), is_path(&text));
        prop_assert_eq!(Pattern::new(&text).is_ok(), is_pattern(&text));
        prop_assert_eq!(Name::new(&text).is_ok(), is_name(&text));
    }

    #[test]
    fn what_parses_comes_back_unchanged(text in text()) {
        if let Ok(path) = Path::new(&text) {
            prop_assert_eq!(path.to_string(), &*text);
            prop_assert_eq!(path.as_str(), &text);
            prop_assert_eq!(text.parse(), Ok(path.clone()));
            prop_assert_eq!(path.segments().map(|segment| format!("/{segment}")).collect::<String>(), &*text);
            prop_assert_eq!(decode(&encode(&path).unwrap()), Ok(path.clone()));
            prop_assert_eq!(Pattern::from(path.clone()).to_string(), &*text);
            prop_assert!(Pattern::from(path.clone()).covers(&path));
        }
        if let Ok(pattern) = Pattern::new(&text) {
            prop_assert_eq!(pattern.to_string(), &*text);
            prop_assert_eq!(text.parse(), Ok(pattern.clone()));
            prop_assert_eq!(decode(&encode(&pattern).unwrap()), Ok(pattern));
        }
        if let Ok(name) = Name::new(&text) {
            prop_assert_eq!(name.to_string(), &*text);
            prop_assert_eq!(decode(&encode(&name).unwrap()), Ok(name));
        }
    }

    #[test]
    fn decoding_checks_as_parsing_does(text in text()) {
        let bytes = encode(&text).unwrap();
        prop_assert_eq!(decode::<Path>(&bytes).is_ok(), is_path(&text));
        prop_assert_eq!(decode::<Pattern>(&bytes).is_ok(), is_pattern(&text));
        prop_assert_eq!(decode::<Name>(&bytes).is_ok(), is_name(&text));
    }

    #[test]
    fn what_is_captured_completes_the_base(base in "(/[a-c]{1,2}){1,3}", below in "(/[a-c]{1,2}){0,3}", other in "(/[a-c]{1,2}){1,3}") {
        let pattern = Pattern::new(&format!("{base}/*")).unwrap();
        let path = Path::new(&format!("{base}{below}")).unwrap();
        prop_assert_eq!(pattern.captured(&path), Some(below.strip_prefix('/').unwrap_or("")));
        let other = Path::new(&other).unwrap();
        prop_assert_eq!(pattern.captured(&other).is_some(), pattern.covers(&other));
    }
}

/// Every path of up to four segments over a small alphabet in which names are prefixes of others.
fn all_paths(depth: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..depth {
        last = last.iter().flat_map(|base| ["a", "ab", "b"].map(|segment| format!("{base}/{segment}"))).collect();
        all.extend_from_slice(&last);
    }
    all.split_off(1)
}

#[test]
fn patterns_overlap_exactly_where_a_path_is_covered_by_both() {
    let paths: Vec<Path> = all_paths(4).iter().map(|text| Path::new(text).unwrap()).collect();
    let patterns: Vec<Pattern> = all_paths(3)
        .iter()
        .flat_map(|text| [text.clone(), format!("{text}/*")])
        .map(|text| Pattern::new(&text).unwrap())
        .collect();
    for one in &patterns {
        for other in &patterns {
            let common = paths.iter().any(|path| one.covers(path) && other.covers(path));
            assert_eq!(one.overlaps(other), common, "{one} and {other}");
            assert_eq!(one.overlaps(other), other.overlaps(one), "{one} and {other}");
        }
    }
}

#[test]
fn a_pattern_covers_whole_segments_only() {
    let table = [
        ("/chats", "/chats", true, Some("")),
        ("/chats", "/chats/one", false, None),
        ("/chats/*", "/chats", true, Some("")),
        ("/chats/*", "/chats/one", true, Some("one")),
        ("/chats/*", "/chats/one/two", true, Some("one/two")),
        ("/chats/*", "/chatsworth", false, None),
        ("/chats/*", "/chat", false, None),
        ("/chats/one/*", "/chats", false, None),
        ("/é/*", "/é/ü", true, Some("ü")),
    ];
    for (pattern, path, covers, captured) in table {
        let (pattern, path) = (Pattern::new(pattern).unwrap(), Path::new(path).unwrap());
        assert_eq!(pattern.covers(&path), covers, "{pattern} {path}");
        assert_eq!(pattern.captured(&path), captured, "{pattern} {path}");
    }
}

#[test]
fn each_edge_has_its_own_error() {
    let long = "x".repeat(MAX_SEGMENT_BYTES);
    let too_long = "x".repeat(MAX_SEGMENT_BYTES + 1);
    let deep = "/x".repeat(MAX_PATH_SEGMENTS);
    let table: [(String, Option<PathError>); 22] = [
        ("/a".into(), None),
        (deep.clone(), None),
        (format!("{deep}/x"), Some(PathError::TooManySegments(17))),
        (format!("/{long}"), None),
        (format!("/a/{too_long}"), Some(PathError::SegmentTooLong { segment: 2, bytes: 256 })),
        (format!("/{}x", "é".repeat(127)), None),
        (format!("/{}", "é".repeat(128)), Some(PathError::SegmentTooLong { segment: 1, bytes: 256 })),
        (String::new(), Some(PathError::NotAbsolute(String::new()))),
        ("a/b".into(), Some(PathError::NotAbsolute("a/b".into()))),
        ("x".repeat(1_000_000), Some(PathError::NotAbsolute(long.clone()))),
        ("/".into(), Some(PathError::EmptySegment(1))),
        ("//a".into(), Some(PathError::EmptySegment(1))),
        ("/a/".into(), Some(PathError::EmptySegment(2))),
        ("/a//b".into(), Some(PathError::EmptySegment(2))),
        ("/a/\0".into(), Some(PathError::ControlCharacter(2))),
        ("/\n".into(), Some(PathError::ControlCharacter(1))),
        ("/a\u{85}".into(), Some(PathError::ControlCharacter(1))),
        ("/a/*".into(), Some(PathError::Pattern)),
        ("/*".into(), Some(PathError::Wildcard(1))),
        ("/a/*/*".into(), Some(PathError::Wildcard(2))),
        ("/*/a".into(), Some(PathError::Wildcard(1))),
        ("/**/a*".into(), None),
    ];
    for (text, error) in table {
        assert_eq!(Path::new(&text).err(), error, "{text:.40}");
    }
}

#[test]
fn a_pattern_ends_in_at_most_one_star_after_a_base() {
    assert_eq!(Pattern::new("/*"), Err(PathError::Wildcard(1)));
    assert_eq!(Pattern::new("/a/*/*"), Err(PathError::Wildcard(2)));
    assert_eq!(Pattern::new("/a/*/b"), Err(PathError::Wildcard(2)));
    assert_eq!(Pattern::new("a/*"), Err(PathError::NotAbsolute("a".into())));
    // The longest base has nothing below it, and is covered itself.
    let deep = "/x".repeat(MAX_PATH_SEGMENTS);
    let pattern = Pattern::new(&format!("{deep}/*")).unwrap();
    assert!(pattern.covers(&Path::new(&deep).unwrap()));
}

#[test]
fn names_have_their_edges() {
    assert!(Name::new(&"n".repeat(MAX_NAME_BYTES)).is_ok());
    assert!(Name::new("*").is_ok());
    for bad in ["", "a/b", "a\tb", "\u{9f}", &"n".repeat(MAX_NAME_BYTES + 1), &"é".repeat(33)] {
        assert!(matches!(Name::new(bad), Err(PathError::BadName(_))), "{bad:?}");
    }
    // The error does not carry a hostile name whole.
    let Err(PathError::BadName(quoted)) = Name::new(&"n".repeat(1_000_000)) else { panic!("a long name") };
    assert_eq!(quoted.len(), MAX_NAME_BYTES);
}
