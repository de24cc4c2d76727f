//! `cargo xtask tidy`: the house rules that neither the compiler nor clippy knows.
//!
//! Every rule is a function from one file to the lines that break it, and has a test
//! that shows both a breach and a clean file. CONTRIBUTING.md says the rules in words.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::code::{self, find_words, has_word};

/// A file may have this many lines before its tests. Longer ones are no longer read
/// from top to bottom.
const LONGEST: usize = 800;

/// The crate that must not know of clocks, disks, networks or threads.
const CORE: &str = "crates/groundswell-core";

/// Lines that break a rule, counted from 1, each with what is wrong and what to do.
type Breaches = Vec<(usize, String)>;

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let paths = list_files(root)?;
    let mut count = 0;
    for path in paths.iter().filter(|path| is_read(path)) {
        // A file that is not text by and large still has lines to look at.
        let bytes = fs::read(root.join(path)).map_err(|error| format!("cannot read {path}: {error}"))?;
        for (line, what) in check(path, &String::from_utf8_lossy(&bytes), &paths) {
            println!("{path}:{line}: {what}");
            count += 1;
        }
    }
    match count {
        0 => {
            println!("tidy: {} files, nothing to object to", paths.len());
            Ok(())
        }
        count => Err(format!("objections: {count}")),
    }
}

/// The files that git has or would add. A file that is deleted but not yet committed
/// is left out, because it is no longer there for a link to point to.
fn list_files(root: &Path) -> Result<BTreeSet<String>, String> {
    let output = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "-z"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cannot start git: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git ls-files failed: {}", said.trim_end()));
    }
    let names = String::from_utf8_lossy(&output.stdout);
    Ok(names.split_terminator('\0').filter(|path| root.join(path).is_file()).map(str::to_string).collect())
}

fn is_read(path: &str) -> bool {
    path.starts_with(".ci/") || [".rs", ".md", ".toml", ".sh"].iter().any(|ending| path.ends_with(ending))
}

/// Every breach of every rule in one file. `paths` is the whole repository.
fn check(path: &str, text: &str, paths: &BTreeSet<String>) -> Breaches {
    let mut breaches = machine_paths(path, text);
    if path.ends_with(".rs") {
        let rust = Rust::new(path, text);
        for rule in [unfinished, uses_unsafe, forbids_unsafe, ignored, too_long, sleeps, impure, prints] {
            breaches.extend(rule(&rust));
        }
    }
    if path.ends_with(".md") {
        breaches.extend(links(path, text, paths));
    }
    if path == "Cargo.toml" {
        breaches.extend(without_reason(text));
    }
    if path == format!("{CORE}/Cargo.toml") {
        breaches.extend(impure_dependencies(text));
    }
    breaches.sort();
    breaches
}

/// A Rust file as the rules look at it.
struct Rust<'a> {
    path: &'a str,
    /// The lines as they are written, for rules about comments and strings.
    written: Vec<&'a str>,
    /// The same lines without comments and strings.
    code: String,
    /// The index of the first line that belongs to tests; the number of lines if there
    /// is none, and 0 if the whole file is about tests.
    tests: usize,
}

impl<'a> Rust<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let code = code::only(text);
        let whole = path.split('/').any(|part| matches!(part, "tests" | "tests.rs"));
        let tests = if whole { 0 } else { start_of_tests(&code) };
        Rust { path, written: text.lines().collect(), code, tests }
    }

    /// The lines of code for which `wrong` holds, each with the same words.
    fn lines_where(&self, wrong: impl Fn(usize, &str) -> bool, what: &str) -> Breaches {
        let lines = self.code.lines().enumerate();
        lines.filter(|(index, line)| wrong(*index, line)).map(|(index, _)| (index + 1, what.to_string())).collect()
    }
}

/// Where the module of unit tests begins. A `#[cfg(test)]` before anything else, such
/// as an import or `mod tests;`, is one item among the code and not the end of it.
fn start_of_tests(code: &str) -> usize {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let opens_module = |index: usize| {
        let rest = lines.iter().skip(index);
        let item = rest.skip_while(|line| line.is_empty() || line.starts_with("#["));
        item.take(1).any(|line| has_word(line, "mod") && line.ends_with('{'))
    };
    (0..lines.len()).find(|&index| lines[index] == "#[cfg(test)]" && opens_module(index)).unwrap_or(lines.len())
}

fn unfinished(file: &Rust) -> Breaches {
    let left = ["todo!(", "unimplemented!(", "dbg!("];
    file.lines_where(
        |_, line| left.iter().any(|left| has_word(line, left)),
        "something unfinished is left here; finish it, or return an error that says what is missing",
    )
}

fn uses_unsafe(file: &Rust) -> Breaches {
    file.lines_where(
        |_, line| has_word(line, "unsafe"),
        "unsafe code; write it safely, or use a crate whose trade that is",
    )
}

/// The lint in the workspace's manifest counts only for a crate that inherits it; this
/// attribute can be seen in the crate itself and cannot be undone further down.
fn forbids_unsafe(file: &Rust) -> Breaches {
    let in_bin = file.path.contains("src/bin/");
    let is_top = ["src/lib.rs", "src/main.rs"].iter().any(|top| file.path.ends_with(top));
    if (is_top || in_bin) && !file.code.contains("#![forbid(unsafe_code)]") {
        let what = "a crate begins here without `#![forbid(unsafe_code)]`; add it";
        return vec![(1, what.to_string())];
    }
    Vec::new()
}

fn ignored(file: &Rust) -> Breaches {
    let says_why = |index: usize| {
        let line = file.written.get(index).copied().unwrap_or_default();
        let reason = line.split_once("ignore = \"").map(|(_, reason)| reason);
        reason.is_some_and(|reason| !reason.starts_with('"'))
    };
    file.lines_where(
        |index, line| {
            let attribute = line.contains("#[ignore") || line.contains("cfg_attr(") && has_word(line, "ignore");
            attribute && !says_why(index)
        },
        "a test is ignored without a reason; write `#[ignore = \"why\"]`",
    )
}

fn too_long(file: &Rust) -> Breaches {
    let lines = if file.tests == 0 { file.written.len() } else { file.tests };
    if lines <= LONGEST {
        return Vec::new();
    }
    let what = format!("{lines} lines before the tests, at most {LONGEST}; split the file by subject");
    vec![(LONGEST + 1, what)]
}

/// A test that sleeps for a fixed time is slow where the machine is quick and fails
/// where the machine is slow.
fn sleeps(file: &Rust) -> Breaches {
    let allowed = |line: Option<&&str>| {
        let comment = line.and_then(|line| line.split_once("//"));
        comment.is_some_and(|(_, said)| said.to_lowercase().contains("time is under test"))
    };
    file.lines_where(
        |index, line| {
            index >= file.tests
                && has_word(line, "sleep(")
                && !allowed(file.written.get(index))
                && !(index > 0 && allowed(file.written.get(index - 1)))
        },
        "a test sleeps; wait for the condition itself, or say in a comment here that time is under test",
    )
}

/// Where standard output and standard error are written to, and where bytes are written as they are.
const DOORS: [&str; 2] = ["crates/groundswell-cli/src/output.rs", "crates/groundswell-cli/src/log.rs"];
const EXACT: [&str; 3] = [
    "crates/groundswell-cli/src/commands/demo/screen.rs",
    "crates/groundswell-cli/src/commands/kv.rs",
    "crates/groundswell-cli/src/commands/pages.rs",
];

/// Each of the two streams has one door in the tool, and the library has none: there the text of a peer is made visible,
/// and a stream that cannot be written stops nobody. A macro that prints does neither, and panics.
fn prints(file: &Rust) -> Breaches {
    let product = ["", "-core", "-web", "-cli"].map(|name| format!("crates/groundswell{name}/src/"));
    if DOORS.contains(&file.path) || !product.iter().any(|part| file.path.starts_with(part)) {
        return Vec::new();
    }
    let printing = ["println!(", "print!(", "eprintln!(", "eprint!(", "stdout()", "stderr()"];
    let mut breaches = file.lines_where(
        |index, line| index < file.tests && printing.iter().any(|needle| has_word(line, needle)),
        "it writes past the doors to standard output and standard error; use `Output` or `log` of the tool",
    );
    if !EXACT.contains(&file.path) {
        breaches.extend(file.lines_where(
            |index, line| index < file.tests && has_word(line, "exact("),
            "bytes are written as they are; use `Output::line`, or name the file in the rule with a reason",
        ));
    }
    breaches
}

/// What belongs to one machine means nothing on another. A path that goes on from
/// something else, such as `docs/home/` or `~/work/`, is none of a machine. xtask is left
/// out because it spells the needles.
fn machine_paths(path: &str, text: &str) -> Breaches {
    if path.starts_with("xtask/") {
        return Vec::new();
    }
    let goes_on = |c: char| code::is_word(c) || "-.~)}*".contains(c);
    let mut breaches = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for needle in ["/work/", "/root/", "/home/"] {
            let absolute = line.match_indices(needle).any(|(at, _)| !line[..at].ends_with(goes_on));
            if absolute {
                let what = format!("`{needle}` is a place on one machine; use a relative path");
                breaches.push((index + 1, what));
            }
        }
    }
    breaches
}

/// Whether every relative link of a Markdown file leads to something in the repository.
fn links(path: &str, text: &str, paths: &BTreeSet<String>) -> Breaches {
    let mut breaches = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let prose = without_code(line);
        for link in link_targets(&prose) {
            // Behind the mark stands a place in the file, which is not looked for.
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !is_elsewhere(file) && !leads_somewhere(path, file, paths) {
                let what = format!("the link to `{link}` leads nowhere; correct or remove it");
                breaches.push((index + 1, what));
            }
        }
    }
    breaches
}

/// A line of Markdown with its `code` blanked out.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    let mut prose = String::new();
    for (index, part) in parts.iter().enumerate() {
        // An odd part is code, unless it is the last: then nothing closes it.
        if index % 2 == 0 || index + 1 == parts.len() {
            prose.push_str(part);
        } else {
            prose.push(' ');
        }
    }
    prose
}

/// The targets of `[text](target)`, `[name]: target`, `href="target"` and `src="target"`.
fn link_targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    for (open, close) in [("](", ')'), ("href=\"", '"'), ("src=\"", '"')] {
        for (at, _) in line.match_indices(open) {
            let rest = &line[at + open.len()..];
            targets.push(rest.split(close).next().unwrap_or_default());
        }
    }
    if line.starts_with('[') && !line.starts_with("[^") {
        targets.extend(line.split_once("]: ").map(|(_, target)| target));
    }
    for target in &mut targets {
        // A title may follow the target, and angle brackets may surround it.
        let first = target.split_whitespace().next().unwrap_or_default();
        *target = first.trim_start_matches('<').trim_end_matches('>');
    }
    targets
}

fn is_elsewhere(link: &str) -> bool {
    link.contains("://") || link.starts_with("mailto:")
}

fn leads_somewhere(from: &str, link: &str, paths: &BTreeSet<String>) -> bool {
    // A link that begins with a slash counts from the top of the repository.
    let mut parts: Vec<&str> = match link.starts_with('/') {
        true => Vec::new(),
        false => from.split('/').collect(),
    };
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            part => parts.push(part),
        }
    }
    let target = parts.join("/");
    let directory = format!("{target}/");
    let mut behind = paths.range(directory.clone()..);
    target.is_empty() || paths.contains(&target) || behind.next().is_some_and(|path| path.starts_with(&directory))
}

/// Whether every dependency in the workspace's manifest says in a comment, on its line
/// or the one above, why it is there.
fn without_reason(manifest: &str) -> Breaches {
    let mut breaches = Vec::new();
    let mut table = "";
    let mut depth = 0;
    let mut above = None;
    for (index, line) in manifest.lines().enumerate() {
        let (value, comment) = split_comment(line);
        let value = value.trim();
        let continued = depth > 0;
        if !continued && value.starts_with('[') {
            table = value.trim_matches(['[', ']']);
        } else {
            // Brackets in a string are rare enough in a manifest to be counted along.
            depth += value.matches(['[', '{']).count();
            depth = depth.saturating_sub(value.matches([']', '}']).count());
        }
        let name = if continued {
            None
        } else if value.starts_with('[') {
            table.strip_prefix("workspace.dependencies.")
        } else if table == "workspace.dependencies" {
            value.split_once('=').map(|(name, _)| name.trim())
        } else {
            None
        };
        let explained = [comment, above.filter(|_| index > 0)]
            .iter()
            .flatten()
            .any(|said: &&str| !said.trim_matches(['#', ' ']).is_empty());
        if let Some(name) = name
            && !explained
        {
            let what = format!("{name} is here without a reason; say in a comment what it is for");
            breaches.push((index + 1, what));
        }
        // Only a line that is nothing but a comment speaks about the line below it.
        above = comment.filter(|_| value.is_empty());
    }
    breaches
}

/// A line of a manifest, split where a comment begins.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return (&line[..at], Some(&line[at..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    (line, None)
}

const IMPURE_CRATES: [&str; 4] = ["tokio", "iroh", "redb", "rand"];
const IMPURE_MODULES: [&str; 4] = ["time", "fs", "net", "thread"];

/// Whether the core's manifest stays clear of the crates that bring clocks, disks,
/// networks or chance, under their own names or under others, for tests too: the core's
/// tests have to be replayable as well.
fn impure_dependencies(manifest: &str) -> Breaches {
    let is_impure =
        |name: &str| IMPURE_CRATES.contains(&name) || name.starts_with("tokio-") || name.starts_with("iroh-");
    let mut breaches = Vec::new();
    let mut in_table = false;
    for (index, line) in manifest.lines().enumerate() {
        let value = split_comment(line).0.trim();
        let dense = value.replace(' ', "");
        let mut names = Vec::new();
        if value.starts_with('[') {
            let table = value.trim_matches(['[', ']']);
            in_table = table.ends_with("dependencies");
            names.extend(table.split_once("dependencies.").map(|(_, name)| name));
        } else if in_table {
            names.extend(value.split(['=', '.', ' ']).next());
        }
        // A dependency can stand under another name than its package's.
        let package = dense.split_once("package=\"").map(|(_, rest)| rest);
        names.extend(package.and_then(|rest| rest.split('"').next()));
        if names.iter().any(|name| is_impure(name.trim_matches('"'))) {
            let what = "the core depends on a crate that is not pure; take what is needed as an argument";
            breaches.push((index + 1, what.to_string()));
        }
    }
    breaches
}

/// Whether the core's code stays clear of the modules of the standard library that bring
/// the same, also within `use std::{…}`.
fn impure(file: &Rust) -> Breaches {
    if !file.path.starts_with(&format!("{CORE}/src/")) {
        return Vec::new();
    }
    let code = &file.code;
    let mut places = Vec::new();
    for module in IMPURE_MODULES {
        places.extend(find_words(code, &format!("std::{module}")).map(|at| (at, module)));
    }
    for at in find_words(code, "std::{") {
        let group = at + "std::".len();
        for (offset, name) in names_in_group(&code[group..]) {
            let module = IMPURE_MODULES.into_iter().find(|module| *module == name);
            places.extend(module.map(|module| (group + offset, module)));
        }
    }
    places.sort_unstable();
    places
        .into_iter()
        .map(|(at, module)| {
            let line = code[..at].matches('\n').count() + 1;
            let what = format!("the core uses `std::{module}`; take what is needed as an argument");
            (line, what)
        })
        .collect()
}

/// The first name of each item in `{a::b, c::{d, e}}`: here `a` and `c`, with the places
/// where they begin.
fn names_in_group(group: &str) -> Vec<(usize, &str)> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut expected = false;
    for (at, c) in group.char_indices() {
        match c {
            '{' => {
                depth += 1;
                expected = depth == 1;
            }
            '}' => depth -= 1,
            ',' => expected = depth == 1,
            c if expected && code::is_word(c) => {
                expected = false;
                let end = group[at..].find(|c| !code::is_word(c));
                names.push((at, &group[at..end.map_or(group.len(), |end| at + end)]));
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a Rust file that break one rule.
    fn lines(rule: fn(&Rust) -> Breaches, path: &str, text: &str) -> Vec<usize> {
        numbers(rule(&Rust::new(path, text)))
    }

    fn numbers(breaches: Breaches) -> Vec<usize> {
        breaches.into_iter().map(|(line, _)| line).collect()
    }

    fn paths(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn nothing_unfinished_is_left() {
        let text = "fn f() {\n    todo!()\n}\nfn g() {\n    dbg!(1);\n    unimplemented!(\"x\")\n}\n";
        assert_eq!(lines(unfinished, "a.rs", text), [2, 5, 6]);
        let text = "// todo!()\nfn f() {\n    g(\"dbg!(1)\");\n    my_dbg!(1)\n}\n";
        assert!(lines(unfinished, "a.rs", text).is_empty());
    }

    #[test]
    fn nothing_is_unsafe() {
        let text = "unsafe fn f() {}\nfn g() {\n    unsafe { f() }\n}\nunsafe impl A for B {}\n";
        assert_eq!(lines(uses_unsafe, "a.rs", text), [1, 3, 5]);
        let text = "#![forbid(unsafe_code)]\n// unsafe { }\nfn f() -> &str { \"unsafe {}\" }\n";
        assert!(lines(uses_unsafe, "a.rs", text).is_empty());
    }

    #[test]
    fn every_crate_forbids_unsafe_code() {
        for path in ["crates/a/src/lib.rs", "xtask/src/main.rs", "a/src/bin/b.rs"] {
            assert_eq!(lines(forbids_unsafe, path, "//! A crate.\n"), [1]);
            let commented = "// #![forbid(unsafe_code)]\n";
            assert_eq!(lines(forbids_unsafe, path, commented), [1]);
            let clean = "//! A crate.\n#![forbid(unsafe_code)]\n";
            assert!(lines(forbids_unsafe, path, clean).is_empty());
        }
        assert!(lines(forbids_unsafe, "crates/a/src/other.rs", "").is_empty());
    }

    #[test]
    fn an_ignored_test_says_why() {
        let text = "#[ignore]\nfn a() {}\n#[ignore = \"\"]\nfn b() {}\n#[cfg_attr(windows, ignore)]\n";
        assert_eq!(lines(ignored, "a.rs", text), [1, 3, 5]);
        let text = "#[ignore = \"needs a network\"]\nfn a() {}\n// #[ignore]\n\
                    #[cfg_attr(windows, ignore = \"needs a shell\")]\n#[cfg_attr(test, path)]\n";
        assert!(lines(ignored, "a.rs", text).is_empty());
    }

    #[test]
    fn no_file_is_too_long() {
        let exactly = "fn f() {}\n".repeat(LONGEST);
        assert!(lines(too_long, "a.rs", &exactly).is_empty());
        let over = format!("{exactly}fn g() {{}}\n");
        assert_eq!(lines(too_long, "a.rs", &over), [LONGEST + 1]);
        assert_eq!(lines(too_long, "tests/a.rs", &over), [LONGEST + 1]);
        // What follows the tests' marker does not count.
        let tested = format!("{exactly}#[cfg(test)]\nmod tests {{\n{exactly}}}\n");
        assert!(lines(too_long, "a.rs", &tested).is_empty());
        // A marked import, or tests in another file, is no such marker.
        let import = format!("#[cfg(test)]\nuse a::b;\n#[cfg(test)]\nmod tests;\n{exactly}");
        assert_eq!(lines(too_long, "a.rs", &import), [LONGEST + 1]);
    }

    #[test]
    fn tests_do_not_sleep() {
        let text = "fn f() {\n    thread::sleep(d);\n}\n";
        assert_eq!(lines(sleeps, "crates/a/tests/b.rs", text), [2]);
        assert_eq!(lines(sleeps, "crates/a/src/b/tests.rs", text), [2]);
        assert!(lines(sleeps, "crates/a/src/b.rs", text).is_empty());

        let unit = format!("{text}#[cfg(test)]\n#[allow(dead_code)]\nmod tests {{\n{text}}}\n");
        assert_eq!(lines(sleeps, "crates/a/src/b.rs", &unit), [8]);

        let said = "f();\n// The time is under test here.\nsleep(d);\nsleep(d); // Time is under test.\n";
        assert!(lines(sleeps, "tests/a.rs", said).is_empty());
        let far = "// Time is under test.\n\nsleep(d);\nsleep_until(d);\n";
        assert_eq!(lines(sleeps, "tests/a.rs", far), [3]);
    }

    #[test]
    fn only_the_doors_write_to_the_standard_streams() {
        let text = "fn f() {\n    println!(\"x\");\n    io::stderr().lock();\n    eprint!(\"\");\n}\n";
        assert_eq!(lines(prints, "crates/groundswell-cli/src/a.rs", text), [2, 3, 4]);
        assert_eq!(lines(prints, "crates/groundswell/src/kv/a.rs", text), [2, 3, 4]);
        let exact = "fn f() {\n    output.exact(peer);\n}\n";
        assert_eq!(lines(prints, "crates/groundswell-cli/src/commands/surf.rs", exact), [2]);
        assert!(lines(prints, "crates/groundswell-cli/src/commands/kv.rs", exact).is_empty());
        for free in ["crates/groundswell-cli/src/log.rs", "crates/groundswell/examples/a.rs", "xtask/src/main.rs"] {
            assert!(lines(prints, free, text).is_empty(), "{free}");
        }
        let clean = "// println!()\nfn f() {\n    command.stdout(Stdio::null());\n    \"eprintln!()\";\n}\n\
                     #[cfg(test)]\nmod tests {\n    println!(\"x\");\n}\n";
        assert!(lines(prints, "crates/groundswell-cli/src/a.rs", clean).is_empty());
    }

    #[test]
    fn no_path_belongs_to_one_machine() {
        let text = "fine\ncd /work/x\n`/root/x` and file:///home/me/x\n";
        assert_eq!(numbers(machine_paths("a.md", text)), [2, 3, 3]);
        let text = "docs/work/a ~/work/ {dir}/root/ $HOME/home/ ./home/ example.com/home/\n/homework/\n";
        assert!(machine_paths("a.md", text).is_empty());
        assert!(machine_paths("xtask/src/tidy.rs", "/work/").is_empty());
    }

    #[test]
    fn links_lead_somewhere() {
        let paths = paths(&["README.md", "docs/a.md", "docs/deep/b.md"]);
        let found = |path, text| numbers(links(path, text, &paths));
        let text = "[a](docs/a.md) [b](docs/c.md)\n\n[c]: docs/deep/c.md\n\
                    <img src=\"x.png\"> ![d](y.png \"title\") [e](../a.md)\n";
        assert_eq!(found("README.md", text), [1, 3, 4, 4, 4]);
        assert_eq!(found("docs/a.md", "[a](docs/a.md)\n"), [1]);

        let text = "[a](docs/a.md#part) [b](<docs/deep/b.md> \"title\") [`c`](docs/) [d](#here)\n\
                    [e](https://example.com/x) [f](mailto:a@example.com) `[g](nowhere)` [h](/docs/a.md)\n\
                    ```\n[i](nowhere)\n```\n[j]: docs/deep\n[^1]: nowhere\n";
        assert!(found("README.md", text).is_empty());
        let text = "[a](a.md) [b](./deep/b.md) [c](../README.md) [d](..)\n";
        assert!(found("docs/a.md", text).is_empty());
    }

    #[test]
    fn every_dependency_says_why_it_is_there() {
        let text = "[package]\nname = \"x\"\n[workspace.dependencies]\na = \"1\"\n\
                    b = { version = \"1\", features = [\"#x\"] }\nc = \"1\" #\n\
                    d = \"1\" # Reads d.\ne = \"1\"\n\n[workspace.dependencies.f]\nversion = \"1\"\n";
        assert_eq!(numbers(without_reason(text)), [4, 5, 6, 8, 10]);
        let text = "[workspace.dependencies]\n# Reads a.\na = \"1\"\nb = \"1\" # Reads b.\n\
                    # Reads c.\nc = { version = \"1\", features = [\n    \"x\",\n] }\n\
                    # Reads d.\n[workspace.dependencies.d]\nversion = \"1\"\n[profile.dev]\ndebug = 1\n";
        assert!(without_reason(text).is_empty());
    }

    #[test]
    fn the_core_depends_on_nothing_impure() {
        let text = "[package]\nname = \"core\"\n[dependencies]\ntokio.workspace = true\nserde = \"1\"\n\
                    clock = { version = \"1\", package = \"tokio\" }\n[dev-dependencies]\nrand = \"1\"\n\
                    [target.'cfg(unix)'.dependencies]\niroh-base = \"1\"\n[dependencies.redb]\nversion = \"1\"\n";
        assert_eq!(numbers(impure_dependencies(text)), [4, 6, 8, 10, 11]);
        let text = "[package]\nname = \"tokio\"\n[dependencies]\nserde.workspace = true # not tokio\n\
                    randomize = \"1\"\n[features]\nrand = []\n";
        assert!(impure_dependencies(text).is_empty());
    }

    #[test]
    fn the_core_uses_nothing_impure() {
        let text = "use std::time::Instant;\nuse std::{\n    fmt,\n    net::{IpAddr, TcpStream},\n};\n\
                    fn f() {\n    ::std::fs::read(p);\n    std::thread::spawn(g);\n}\n";
        assert_eq!(lines(impure, "crates/groundswell-core/src/a.rs", text), [1, 4, 7, 8]);
        assert!(lines(impure, "crates/groundswell/src/a.rs", text).is_empty());
        let text = "use core::time::Duration;\nuse std::{fmt, collections::{time, BTreeMap}};\n\
                    // std::time\nuse std::network;\n";
        assert!(lines(impure, "crates/groundswell-core/src/a.rs", text).is_empty());
    }

    #[test]
    fn every_rule_is_asked() {
        let all = paths(&["README.md"]);
        let test = "#[ignore]\nfn f() {\n    todo!();\n    unsafe { sleep(d) }\n}\n// /work/x\n";
        assert_eq!(check("crates/a/tests/b.rs", test, &all).len(), 5);
        let core = format!("use std::fs;\n{}", "\n".repeat(LONGEST));
        assert_eq!(check("crates/groundswell-core/src/lib.rs", &core, &all).len(), 3);
        let manifest = "[dependencies]\ntokio = \"1\"\n";
        assert_eq!(check("crates/groundswell-core/Cargo.toml", manifest, &all).len(), 1);
        let manifest = "[workspace.dependencies]\ntokio = \"1\"\n";
        assert_eq!(check("Cargo.toml", manifest, &all).len(), 1);
        assert_eq!(check("README.md", "[a](b.md)\n", &all).len(), 1);
    }
}
