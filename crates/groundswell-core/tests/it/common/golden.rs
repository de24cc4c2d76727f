//! Golden files: the bytes of what peers send and disks keep, which change only with a version.
//!
//! A file's first line says what it is, and the others are its bytes in hexadecimal digits, 32 a line.

#![allow(clippy::expect_used, reason = "a test fails where it panics")]

use std::{collections::BTreeSet, env, fmt::Debug, fs, path::PathBuf};

/// The golden files of one format.
pub(crate) struct Golden(pub(crate) &'static str);

impl Golden {
    fn directory(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(self.0)
    }

    /// Compares the bytes of a value with its file, and returns those of the file. With
    /// `UPDATE_GOLDEN` in the environment the file is written first.
    pub(crate) fn check(&self, name: &str, what: &dyn Debug, bytes: &[u8]) -> Vec<u8> {
        let hex: Vec<String> =
            bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
        let expected = format!("# {what:?}\n{}\n", hex.join("\n"));
        let file = self.directory().join(format!("{name}.golden"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(self.directory()).expect("the directory of golden files");
            fs::write(&file, &expected).expect("a golden file is written");
        }
        let stored =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}; run with UPDATE_GOLDEN=1"));
        assert_eq!(
            stored, expected,
            "the bytes of {name} have changed: who has the version before cannot read them. \
             Append instead, or raise the version and run with UPDATE_GOLDEN=1"
        );
        let lines = stored.lines().filter(|line| !line.starts_with('#'));
        let digits: String = lines.flat_map(str::chars).filter(|digit| !digit.is_whitespace()).collect();
        let byte = |index: usize| u8::from_str_radix(&digits[index..index + 2], 16).expect("hexadecimal digits");
        (0..digits.len()).step_by(2).map(byte).collect()
    }

    /// The directory holds these files and nothing else.
    pub(crate) fn holds_only(&self, names: impl IntoIterator<Item = &'static str>) {
        let known: BTreeSet<String> = names.into_iter().map(|name| format!("{name}.golden")).collect();
        for entry in fs::read_dir(self.directory()).expect("the directory of golden files") {
            let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
            assert!(known.contains(&name), "{name} belongs to nothing");
        }
    }
}
