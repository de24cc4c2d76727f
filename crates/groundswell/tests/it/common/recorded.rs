//! Sessions as they were recorded: the frames that one side of them sends, a frame a line, in hexadecimal digits.
//!
//! The file of a version that was released is never written again: it shows that the node still speaks that version.

use std::{fs, path::PathBuf};

use groundswell_core::wire::VersionRange;

/// One side of a protocol.
pub struct Recorded {
    /// Of the file, with the version in place of `{}`.
    pub name: &'static str,
    /// The versions that the node speaks.
    pub versions: VersionRange,
}

impl Recorded {
    fn file(&self, version: u16) -> PathBuf {
        let name = self.name.replace("{}", &version.to_string());
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sessions").join(format!("{name}.golden"))
    }

    /// The sessions of every version that the node speaks. With `UPDATE_GOLDEN` in the environment, these frames are
    /// written first as the session of the newest one.
    pub fn sessions(&self, newest: &[Vec<u8>]) -> Vec<Vec<Vec<u8>>> {
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let hex = |frame: &Vec<u8>| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let lines: Vec<String> = newest.iter().map(hex).collect();
            let file = self.file(self.versions.highest());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("# What this side sends, a frame a line.\n{}\n", lines.join("\n"))).unwrap();
        }
        let byte = |line: &str, at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let frame = |line: &str| (0..line.len()).step_by(2).map(|at| byte(line, at)).collect();
        let read = |version| {
            let file = self.file(version);
            let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            text.lines().filter(|line| !line.starts_with('#')).map(frame).collect()
        };
        (self.versions.lowest()..=self.versions.highest()).map(read).collect()
    }
}
