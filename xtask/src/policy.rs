//! `cargo xtask policy`: what may stand in the dependency tree.
//!
//! Load-bearing crates exist in one version, because two of them are two types that
//! look alike and do not fit, or two runtimes that do not know of each other. And
//! every crate comes under a licence that this project can be distributed with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;

use crate::cargo;

/// Crates that may exist only once. A star at the end stands for any continuation.
const SINGLE: &[&str] =
    &["iroh*", "noq*", "redb", "tokio", "tokio-*", "serde", "serde_*", "postcard", "bytes", "blake3", "rustls"];

/// Licences under which a dependency is accepted, as SPDX names them. `deny.toml`
/// holds the same list for cargo-deny.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "CC0-1.0",
    "MPL-2.0",
    "CDLA-Permissive-2.0",
    "Unlicense",
    "BSL-1.0",
];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    let lock =
        fs::read_to_string(root.join("Cargo.lock")).map_err(|error| format!("cannot read Cargo.lock: {error}"))?;
    let duplicates = duplicates(&lock);
    let mut problems = forbidden_duplicates(&duplicates);

    let others: Vec<&str> = duplicates.keys().filter(|name| !is_single(name)).map(String::as_str).collect();
    if !others.is_empty() {
        println!("in more than one version, accepted: {}", others.join(" "));
    }

    let tree = licences_in_use(root)?;
    problems.extend(unacceptable(&tree));

    for problem in &problems {
        println!("{problem}");
    }
    match problems.len() {
        0 => {
            println!("policy: {} packages, nothing to object to", tree.len());
            Ok(())
        }
        count => Err(format!("objections: {count}")),
    }
}

/// The names that a lock file holds in more than one version, with those versions.
fn duplicates(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = None;
    for line in lock.lines() {
        // Cargo writes one `key = "value"` a line, the name before the version.
        let value = |key: &str| {
            let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
            rest.strip_suffix('"').map(str::to_string)
        };
        if line == "[[package]]" {
            name = None;
        } else if let Some(found) = value("name") {
            name = Some(found);
        } else if let (Some(name), Some(version)) = (&name, value("version")) {
            versions.entry(name.clone()).or_default().insert(version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
}

fn forbidden_duplicates(duplicates: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let forbidden = duplicates.iter().filter(|(name, _)| is_single(name));
    forbidden
        .map(|(name, versions)| {
            let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
            format!(
                "Cargo.lock: {name} in versions {}; bring the dependencies that ask for it to one \
                 (`cargo tree --invert {name}@{}` shows who asks)",
                versions.join(" and "),
                versions[0],
            )
        })
        .collect()
}

fn is_single(name: &str) -> bool {
    SINGLE.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *pattern,
    })
}

/// Every package that this workspace can build on any platform, as `name vVERSION`
/// with its licence expression.
///
/// `cargo tree` prints exactly these two fields, which spares a parser for the JSON of
/// `cargo metadata`. It also leaves out the entries of the lock file that no feature
/// reaches and that are therefore never compiled.
fn licences_in_use(root: &Path) -> Result<BTreeMap<String, String>, String> {
    // Without the network first: that is quick and works for whoever has built before.
    let mut output = tree(root, true)?;
    if !output.status.success() {
        output = tree(root, false)?;
    }
    if output.status.success() {
        Ok(parse_tree(&String::from_utf8_lossy(&output.stdout)))
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("cargo tree failed:\n{}", said.trim_end()))
    }
}

fn tree(root: &Path, offline: bool) -> Result<Output, String> {
    let mut command = cargo();
    command.current_dir(root).args([
        "tree",
        "--workspace",
        "--all-features",
        "--target=all",
        "--locked",
        "--prefix=none",
        "--format={p}\t{l}",
    ]);
    if offline {
        command.arg("--offline");
    }
    let output = command.output();
    output.map_err(|error| format!("cannot start cargo: {error}"))
}

fn parse_tree(output: &str) -> BTreeMap<String, String> {
    let mut packages = BTreeMap::new();
    for (package, licence) in output.lines().filter_map(|line| line.split_once('\t')) {
        // Behind the version stands where a package comes from, and behind the licence
        // a star if the package was printed before.
        let package: Vec<&str> = package.split(' ').take(2).collect();
        let licence = licence.strip_suffix("(*)").unwrap_or(licence).trim();
        packages.insert(package.join(" "), licence.to_string());
    }
    packages
}

fn unacceptable(packages: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    for (package, licence) in packages {
        if licence.is_empty() {
            problems.push(format!(
                "{package}: names no licence; a member of this workspace needs \
                 `license.workspace = true`, a dependency has to be replaced"
            ));
        } else if !acceptable(licence) {
            problems.push(format!(
                "{package}: its licence `{licence}` is not accepted; replace the package, or add \
                 the licence to xtask/src/policy.rs and deny.toml with a reason"
            ));
        }
    }
    problems
}

/// Whether the licences on the list satisfy an SPDX expression. A slash, which old
/// manifests use, means `OR`. What cannot be read is not acceptable.
fn acceptable(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest) == Some(true) && rest.is_empty()
}

/// `A OR B …`, which binds weakest. `None` stands for an expression without sense.
fn any_of(rest: &mut &[&str]) -> Option<bool> {
    let mut met = all_of(rest)?;
    while let ["OR", tail @ ..] = rest {
        *rest = tail;
        // The alternative is read even if it no longer matters, to get behind it.
        met |= all_of(rest)?;
    }
    Some(met)
}

fn all_of(rest: &mut &[&str]) -> Option<bool> {
    let mut met = one(rest)?;
    while let ["AND", tail @ ..] = rest {
        *rest = tail;
        met &= one(rest)?;
    }
    Some(met)
}

/// A licence, perhaps with an exception, or an expression in parentheses.
fn one(rest: &mut &[&str]) -> Option<bool> {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = any_of(rest)?;
            *rest = rest.strip_prefix(&[")"])?;
            Some(met)
        }
        [")" | "AND" | "OR" | "WITH", ..] | [] => None,
        [name, "WITH", exception, tail @ ..] => {
            *rest = tail;
            Some(LICENCES.contains(&format!("{name} WITH {exception}").as_str()))
        }
        [name, tail @ ..] => {
            *rest = tail;
            Some(LICENCES.contains(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str)]) -> String {
        let entry =
            |(name, version): &(&str, &str)| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n");
        packages.iter().map(entry).collect()
    }

    fn objections(packages: &[(&str, &str)]) -> usize {
        forbidden_duplicates(&duplicates(&lock(packages))).len()
    }

    #[test]
    fn a_load_bearing_crate_exists_once() {
        for name in ["iroh", "iroh-base", "noq-proto", "tokio", "tokio-util", "serde_core", "rustls"] {
            assert_eq!(objections(&[(name, "1.0.0"), (name, "2.0.0")]), 1, "{name}");
            assert_eq!(objections(&[(name, "1.0.0"), ("x", "2.0.0")]), 0, "{name}");
        }
    }

    #[test]
    fn other_crates_may_exist_twice() {
        for name in ["syn", "rustls-webpki", "tokioish", "bytestring"] {
            let twice = lock(&[(name, "1.0.0"), (name, "2.0.0")]);
            assert_eq!(duplicates(&twice).len(), 1, "{name}");
            assert!(forbidden_duplicates(&duplicates(&twice)).is_empty(), "{name}");
        }
    }

    #[test]
    fn the_version_of_the_lock_file_itself_is_no_package() {
        let text = format!("version = 4\n\n{}", lock(&[("syn", "1.0.0")]));
        assert!(duplicates(&text).is_empty());
    }

    #[test]
    fn one_alternative_is_enough() {
        assert!(acceptable("MIT"));
        assert!(acceptable("MIT OR GPL-3.0-only"));
        assert!(acceptable("GPL-3.0-only / MIT"));
        assert!(acceptable("MIT/Apache-2.0"));
        assert!(!acceptable("GPL-3.0-only OR AGPL-3.0-only"));
    }

    #[test]
    fn every_part_of_a_conjunction_counts() {
        assert!(acceptable("Apache-2.0 AND ISC"));
        assert!(acceptable("(MIT OR GPL-2.0-only) AND Unicode-3.0"));
        assert!(!acceptable("MIT AND GPL-3.0-only"));
        assert!(!acceptable("(MIT OR ISC) AND GPL-3.0-only"));
        assert!(acceptable("MIT OR GPL-2.0-only AND GPL-3.0-only"));
    }

    #[test]
    fn an_exception_is_part_of_the_licence() {
        assert!(acceptable("Apache-2.0 WITH LLVM-exception"));
        assert!(!acceptable("MIT WITH LLVM-exception"));
        assert!(!acceptable("GPL-2.0-only WITH Classpath-exception-2.0"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for expression in ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH"] {
            assert!(!acceptable(expression), "{expression}");
        }
    }

    #[test]
    fn the_output_of_cargo_tree_is_understood() {
        let output = "a v1.0.0 (/somewhere/a)\t\n\
                      b v2.0.0\tMIT\n\n\
                      c v3.0.0 (proc-macro)\tGPL-3.0-only\n\
                      b v2.0.0\tMIT (*)\n";
        let packages = parse_tree(output);
        assert_eq!(packages.len(), 3);
        assert_eq!(packages.get("b v2.0.0").map(String::as_str), Some("MIT"));
        let problems = unacceptable(&packages);
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("a v1.0.0: names no licence"));
        assert!(problems[1].starts_with("c v3.0.0: its licence `GPL-3.0-only`"));
    }

    #[test]
    fn cargo_deny_has_the_same_list() {
        let config = include_str!("../../deny.toml");
        let list = config
            .split_once("[licenses]")
            .and_then(|(_, rest)| rest.split_once("allow = ["))
            .and_then(|(_, rest)| rest.split_once(']'))
            .map_or("", |(list, _)| list);
        let names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(names, LICENCES);
    }
}
