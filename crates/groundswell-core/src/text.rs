//! The one gate for text from elsewhere: what a peer, a file, another library or a person's clipboard has said passes it
//! before it reaches a terminal, a log or an error message.
//!
//! Such text can hold characters that are not seen but act: escape sequences that clear a screen or set its title, line
//! feeds that forge a line of a log, controls that reverse the order of what is read, and invisible characters that make
//! two different names look the same. Each becomes an escape that is seen, such as `\n` or `\u{1b}`. The rest stays.

use alloc::{borrow::Cow, string::String};
use core::fmt::{self, Write};

/// Characters that are invisible or act on the text around them, beyond the control characters of Unicode (category Cc,
/// which is fixed): line and paragraph separators, the format characters (Cf) without those of Arabic, Syriac and Kaithi
/// that have a glyph, and whatever may be ignored when text is shown (`Default_Ignorable_Code_Point`): joiners, variation
/// selectors and Hangul fillers among it. So an emoji that is joined from others is shown as its parts and escapes.
/// Unassigned places in the ranges that Unicode reserves for such characters are included.
const HIDDEN: [(char, char); 18] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a character is not seen by who reads it: a control character, or one that is invisible or acts on the text
/// around it.
pub fn is_hidden(c: char) -> bool {
    // The ranges are in order: the first that does not end before it is the only one that can hold it.
    let at = HIDDEN.partition_point(|(_, last)| *last < c);
    c.is_control() || HIDDEN.get(at).is_some_and(|(first, _)| *first <= c)
}

/// Text with every hidden character as an escape. What was made visible stays as it is when it passes again.
///
/// ```
/// use groundswell_core::visible;
/// assert_eq!(visible("well\x1b[2J\nforged"), r"well\u{1b}[2J\nforged");
/// assert_eq!(visible("grün 🙂"), "grün 🙂");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut seen = String::with_capacity(text.len() + 16);
    // A string takes all that is written to it.
    let _ = Gate(&mut seen).write_str(text);
    Cow::Owned(seen)
}

/// Something that is written for people, with every hidden character as an escape: [`visible`] for what has no text yet,
/// such as an error whose text a peer has chosen.
#[derive(Debug, Clone, Copy)]
pub struct Visible<T>(pub T);

impl<T: fmt::Display> fmt::Display for Visible<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Gate(f), "{}", self.0)
    }
}

/// A ticket or an id as it was meant, from what a shell, a page or a clipboard makes of it: without spaces and line ends,
/// wherever a line was wrapped, without characters that are not seen, without quotes or brackets around it, in lower case
/// and without the `0x` that some put before hexadecimal digits. None of these is part of a ticket or an id.
///
/// ```
/// assert_eq!(groundswell_core::pasted(" \"AE58FF\n 88\u{200b}33\" "), "ae58ff8833");
/// ```
pub fn pasted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_whitespace() && !is_hidden(*c)).collect();
    let around = |c: char| "'\"`<>()[],.;:\u{ab}\u{bb}\u{2018}\u{2019}\u{201a}\u{201c}\u{201d}\u{201e}".contains(c);
    let text = text.trim_matches(around).to_ascii_lowercase();
    text.strip_prefix("0x").map(String::from).unwrap_or(text)
}

/// What is written through it is seen.
struct Gate<W>(W);

impl<W: Write> Write for Gate<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            self.0.write_str(&rest[..at])?;
            match c {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                c => write!(self.0, "{}", c.escape_unicode())?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}
