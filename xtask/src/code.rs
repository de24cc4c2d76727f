//! Rust source without its comments and strings, so that a rule about code is not
//! set off by a sentence that mentions the forbidden thing.

/// Returns `source` with every comment and every string's content replaced by spaces.
/// Lines stay where they were, and a string keeps its two quotation marks.
///
/// This is a scanner and not a parser: it only has to know where comments and
/// literals begin and end.
pub(crate) fn only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let Some(end) = end_of_text(&chars, at) else {
            out.push(chars[at]);
            at += 1;
            continue;
        };
        let quoted = chars[at] != '/';
        for (i, &c) in chars.iter().enumerate().take(end).skip(at) {
            out.push(match c {
                '\n' => '\n',
                _ if quoted && (i == at || i + 1 == end) => '"',
                _ => ' ',
            });
        }
        at = end;
    }
    out
}

/// If a comment, a string or a character begins at `at`, the position behind its end.
fn end_of_text(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => Some(find(chars, at, |c| c == '\n')),
        '/' if next == Some('*') => Some(end_of_block_comment(chars, at)),
        '"' => Some(end_of_string(chars, at + 1, '"')),
        'r' if starts_literal(chars, at) => end_of_raw_string(chars, at + 1),
        // A quotation mark that closes two places on, or an escape, is a character;
        // anything else is a lifetime.
        '\'' if next == Some('\\') => Some(end_of_string(chars, at + 1, '\'')),
        '\'' if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    let rest = chars.iter().skip(from);
    from + rest.take_while(|&&c| !wanted(c)).count()
}

/// Block comments nest in Rust.
fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], start: usize, close: char) -> usize {
    let mut at = start;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == close => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// Whether the `r` at `at` can begin a raw string: it is no part of a longer word,
/// except for the `b` of bytes or the `c` of a C string before it.
fn starts_literal(chars: &[char], at: usize) -> bool {
    let word_before = |at: usize| at > 0 && is_word(chars[at - 1]);
    if !word_before(at) {
        return true;
    }
    matches!(chars[at - 1], 'b' | 'c') && !word_before(at - 1)
}

fn end_of_raw_string(chars: &[char], after_r: usize) -> Option<usize> {
    let open = find(chars, after_r, |c| c != '#');
    let hashes = open - after_r;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let mut at = open + 1;
    loop {
        at = find(chars, at, |c| c == '"') + 1;
        if at > chars.len() {
            return Some(chars.len());
        }
        if find(chars, at, |c| c != '#') >= at + hashes {
            return Some(at + hashes);
        }
    }
}

/// Whether `c` can be part of a Rust name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every place in `text` where `word` stands and is not the tail of a longer name.
/// The end is checked too if `word` itself ends like a name.
pub(crate) fn find_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let at = text.match_indices(word).map(|(at, _)| at);
    at.filter(move |&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let starts = !before.is_some_and(is_word);
        let ends = !word.ends_with(is_word) || !after.is_some_and(is_word);
        starts && ends
    })
}

/// Whether `word` stands in `text` as a name of its own.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    find_words(text, word).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text that is to vanish is spelled `GONE`, every other `kept`.
    fn check(source: &str, kept: usize) {
        let code = only(source);
        assert!(!code.contains("GONE"), "{code}");
        assert_eq!(code.matches("kept").count(), kept, "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
    }

    #[test]
    fn comments_vanish() {
        check("kept // GONE \" GONE\nkept", 2);
        check("kept /* GONE /* GONE */ GONE\n */ kept", 2);
        check("kept /* GONE without an end", 1);
    }

    #[test]
    fn strings_vanish() {
        check(r#"kept("GONE // GONE \" GONE") + kept"#, 2);
        check("kept(b\"GONE\\\\\") + kept(\"\nGONE\n\")", 2);
        check("kept(\"GONE without an end", 1);
    }

    #[test]
    fn raw_strings_vanish() {
        check("kept(r\"GONE\\\") + kept", 2);
        check("kept(br##\"GONE \"# GONE\"##) + kept", 2);
        check("kept(r#\"GONE without an end", 1);
        check("r#kept + for\"GONE\" + kept", 2);
    }

    #[test]
    fn characters_are_not_lifetimes() {
        check("kept('\"') + kept('\\'') + kept('\\\\')", 3);
        check("fn kept<'a>(x: &'a str) -> &'a str { kept }", 2);
    }

    #[test]
    fn words_stand_alone() {
        assert!(has_word("a unsafe {", "unsafe"));
        assert!(!has_word("unsafe_code, is_unsafe", "unsafe"));
        assert!(has_word("tokio::time::sleep(x)", "sleep("));
        assert!(!has_word("oversleep(x)", "sleep("));
    }
}
