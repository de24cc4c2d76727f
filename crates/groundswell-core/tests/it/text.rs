//! Text from elsewhere passes one gate before people see it: nothing of it acts on a terminal or forges a line of a log,
//! and what is harmless stays as it is.

use groundswell_core::{
    Cursor, Name, Path, Pattern, Visible, is_hidden,
    kv::{KvKey, SpaceName},
    visible,
};
use proptest::prelude::*;

/// Text with more than its share of what must not come through.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::char::range('\0', '\u{a0}').prop_map(String::from),
        proptest::char::range('\u{2000}', '\u{2070}').prop_map(String::from),
        proptest::char::range('\u{e0000}', '\u{e0fff}').prop_map(String::from),
        "[ -~]{0,8}",
    ];
    proptest::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

/// What the escapes stand for, where the text itself has no backslash.
fn undone(text: &str) -> String {
    let mut back = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        back += &rest[..at];
        rest = &rest[at + 1..];
        let (c, length) = match rest.as_bytes()[0] {
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            _ => {
                let end = rest.find('}').unwrap();
                (char::from_u32(u32::from_str_radix(&rest[2..end], 16).unwrap()).unwrap(), end + 1)
            }
        };
        back.push(c);
        rest = &rest[length..];
    }
    back + rest
}

proptest! {
    #[test]
    fn nothing_hidden_comes_through_and_nothing_else_changes(text in hostile()) {
        let seen = visible(&text);
        prop_assert!(!seen.contains(is_hidden), "{seen:?}");
        prop_assert_eq!(seen.lines().count(), usize::from(!text.is_empty()), "one line");
        prop_assert_eq!(visible(&seen), &*seen, "a second time changes nothing");
        prop_assert_eq!(Visible(&text).to_string(), &*seen);
        if !text.contains('\\') {
            prop_assert_eq!(undone(&seen), text, "it says what was there");
        }
    }
}

#[test]
fn what_acts_on_a_terminal_or_a_reader_is_hidden() {
    let ranges = [
        '\0'..='\u{1f}',
        '\u{7f}'..='\u{9f}',
        '\u{ad}'..='\u{ad}',
        '\u{61c}'..='\u{61c}',
        '\u{180e}'..='\u{180e}',
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{fe00}'..='\u{fe0f}',
        '\u{feff}'..='\u{feff}',
        '\u{fff9}'..='\u{fffb}',
        '\u{e0000}'..='\u{e007f}',
        '\u{e0100}'..='\u{e01ef}',
    ];
    for c in ranges.into_iter().flatten() {
        assert!(is_hidden(c), "{:x}", u32::from(c));
        assert!(visible(&format!("a{c}b")).starts_with("a\\"));
    }
}

/// An error repeats what was written, and that passes the gate too.
#[test]
fn errors_of_the_core_repeat_no_hidden_character() {
    let hostile = "a\u{1b}[2J\nforged\u{202e}\u{200b}\u{200c}\u{fe0f}\u{feff}\u{e0041}\u{2028}";
    let errors = [
        Path::new(hostile).unwrap_err().to_string(),
        Pattern::new(hostile).unwrap_err().to_string(),
        Name::new(hostile).unwrap_err().to_string(),
        hostile.parse::<Cursor>().unwrap_err().to_string(),
        SpaceName::new(hostile).unwrap_err().to_string(),
        KvKey::new([b'x'; 5_000]).unwrap_err().to_string(),
    ];
    for error in errors {
        assert!(!error.contains(is_hidden), "{error:?}");
    }
}

#[test]
fn what_people_write_is_not() {
    for text in
        ["", "price/cola = 2.50 €", "grün", "日本語", "العربية", "עברית", "🙂", "a\\nb", "\u{a0}", "e\u{301}", "~"]
    {
        assert_eq!(visible(text), text);
    }
    assert_eq!(visible("a\tb\r\nc\u{7f}"), r"a\tb\r\nc\u{7f}");
    assert_eq!(visible("\u{202e}gpj.exe\u{2066}"), r"\u{202e}gpj.exe\u{2066}");
}
