//! Wrong usage, said in the lines of the command line's own library, or in one line with `--json`. What was typed is
//! repeated there, and passes the gate as everything does that did not originate here.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use groundswell::visible;

use crate::args;

/// Whether errors are wanted as JSON, where the command line could not be read.
pub(crate) fn wants_json(line: &[OsString]) -> bool {
    line.iter().skip(1).take_while(|one| *one != "--").any(|one| one == "--json")
}

/// A usage that only the command itself could find wrong.
pub(crate) fn wrong(what: &str) -> clap::Error {
    args::command().error(ErrorKind::ValueValidation, what)
}

/// What is wrong, and what to do, in lines.
pub(crate) fn lines(mut wrong: clap::Error, line: &[OsString]) -> Vec<String> {
    // The lines of the message are its own: what was typed stays in the one in which it is repeated.
    let typed: Vec<(ContextKind, ContextValue)> =
        wrong.context().filter_map(|(kind, value)| Some((kind, seen(value)?))).collect();
    for (kind, value) in typed {
        wrong.insert(kind, value);
    }
    let mut lines: Vec<String> = wrong.to_string().lines().map(|line| visible(line).into_owned()).collect();
    let meant = match wrong.kind() {
        ErrorKind::MissingRequiredArgument => line.iter().find(|one| *one == "--").map(|_| "--".to_owned()),
        ErrorKind::UnknownArgument => match wrong.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(argument)) => Some(argument.clone()),
            _ => None,
        },
        _ => None,
    };
    // It may have been meant as a value, even where there is an argument with a similar name.
    if let Some(meant) = meant.filter(|meant| meant.starts_with('-'))
        && !lines.iter().any(|line| line.contains("use '-- "))
    {
        let at = lines.iter().position(|line| line.starts_with("Usage:")).unwrap_or(lines.len());
        lines.splice(at..at, [format!("  tip: to pass '{meant}' as a value, use '-- {meant}'"), String::new()]);
    }
    lines
}

/// What was typed, as it may be repeated.
fn seen(typed: &ContextValue) -> Option<ContextValue> {
    let seen = |one: &String| visible(one).into_owned();
    match typed {
        ContextValue::String(one) => Some(ContextValue::String(seen(one))),
        ContextValue::Strings(many) => Some(ContextValue::Strings(many.iter().map(seen).collect())),
        _ => None,
    }
}

/// The same in one line.
pub(crate) fn in_one_line(lines: &[String]) -> String {
    let paragraphs = lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty());
    let paragraphs = paragraphs.map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "));
    let line = paragraphs.collect::<Vec<_>>().join("; ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;

    fn said(line: &[&str]) -> Vec<String> {
        let line: Vec<OsString> = line.iter().map(OsString::from).collect();
        lines(Args::read(&line).unwrap_err(), &line)
    }

    #[test]
    fn what_was_typed_wrongly_is_repeated_without_its_controls() {
        for wrong in ["x\u{1b}[2J\nerror: forged", "\u{202e}x\r"] {
            for line in [
                &["groundswell", "kv", "get", "a", wrong][..],
                &["groundswell", "quit", wrong, "/a"],
                &["groundswell", "read", wrong],
                &["groundswell", "give", "/a", "x", "--lake", wrong],
                &["groundswell", wrong],
            ] {
                let lines = said(line);
                assert!(lines[0].contains(&*visible(wrong)), "{lines:?}");
                assert!(lines.iter().skip(1).all(|line| !line.starts_with("error")), "{lines:?}");
                assert!(!lines.concat().contains(groundswell::is_hidden));
            }
        }
    }

    #[test]
    fn a_request_for_help_after_a_value_may_be_a_value() {
        for line in
            [&["kv", "set", "note", "--help"][..], &["give", "/a", "--help"], &["give", "/a", "x", "--help", "y"]]
        {
            let lines = said(&[&["groundswell"], line].concat());
            assert!(lines[0].contains("'--help'"), "{lines:?}");
            assert!(lines.iter().any(|line| line.contains("use '-- --help'")), "{lines:?}");
        }
        for line in [&["--help"][..], &["kv", "--help"], &["kv", "set", "--help"], &["give", "--lake", "log", "--help"]]
        {
            let line: Vec<OsString> = ["groundswell"].iter().chain(line).map(OsString::from).collect();
            assert_eq!(Args::read(&line).unwrap_err().kind(), ErrorKind::DisplayHelp, "{line:?}");
        }
    }

    #[test]
    fn in_json_it_is_one_line_with_the_remedy() {
        let line = in_one_line(&said(&["groundswell", "kv", "set", "a", "-x"]));
        assert!(line.starts_with("unexpected argument '-x' found; tip: to pass '-x' as a value, use '-- -x'; Usage: "));
        for (typed, meant) in [("--", "--"), ("--help-me", "--help-me"), ("--jso=1", "--jso")] {
            let line = in_one_line(&said(&["groundswell", "kv", "set", "a", typed]));
            assert!(
                line.contains(&format!("; tip: to pass '{meant}' as a value, use '-- {meant}'; Usage: ")),
                "{line}"
            );
        }
    }
}
