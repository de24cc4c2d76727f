//! What a node keeps on its disk: for its user alone, whatever the user's mask is, and readable on a full disk.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{Node, World, kv::claim, signal, tool, until};

/// The tool as a user starts it whose files everybody may read and write.
fn tool_of_a_careless_user() -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(tool().get_program());
    shell
}

/// The files below a directory, and the directory, that others may use.
fn open_to_others(dir: &Path) -> Vec<String> {
    let mut open = Vec::new();
    let mut look = |path: PathBuf| {
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            open.push(format!("{mode:o} {}", path.display()));
        }
    };
    look(dir.to_owned());
    let entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(entries.len() > 5, "{entries:?}");
    entries.into_iter().for_each(&mut look);
    open
}

fn write(node: &Node, arguments: &[&str]) {
    node.run(arguments).well();
}

/// Both roles with everything they write, and a docs store that was damaged and is put aside.
#[test]
fn nothing_in_a_data_directory_is_open_to_others() {
    let world = World::new();
    let up = |name: &str, role: &str| {
        let more = ["--role", role, "--http", "127.0.0.1:0"];
        Node::start(&world.dir(name).join("below"), tool_of_a_careless_user(), &more)
    };
    for name in ["machine", "manager"] {
        fs::create_dir(world.dir(name)).unwrap();
    }
    let (machine, manager) = (up("machine", "machine"), up("manager", "manager"));
    claim(&machine, &manager);
    write(&machine, &["kv", "set", "key", "value"]);
    write(&machine, &["give", "/log/today", "hello", "--lake", "log"]);
    write(&machine, &["kv", "delivered", "--within", "30"]);
    for (node, role) in [(machine, "machine"), (manager, "manager")] {
        let dir = node.dir.clone();
        assert_eq!(open_to_others(&dir), Vec::<String>::new());
        node.stop();
        fs::write(dir.join("docs.redb"), [7; 5_000]).unwrap();
        let node = up(role, role);
        until("the damaged store to be put aside", || dir.join("docs.damaged").exists());
        assert_eq!(open_to_others(&dir), Vec::<String>::new());
        node.stop();
    }
}

/// An installer made the directory, and a copy lost the modes: the files are closed, and that is said.
#[test]
fn files_that_others_could_read_are_closed_at_the_start() {
    let world = World::new();
    let node = world.machine("machine");
    let dir = node.dir.clone();
    write(&node, &["kv", "set", "key", "value"]);
    node.stop();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["secret.key", "node.journal", "docs.redb", "node.redb", "node.run"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let node = world.machine("machine");
    assert_eq!(open_to_others(&dir), [format!("755 {}", dir.display())]);
    let log = fs::read_to_string(dir.with_extension("log")).unwrap();
    assert!(log.contains("secret.key") && log.contains("closed"), "{log}");
    assert_eq!(node.run(&["kv", "get", "key"]).only()["value"], "value");
}

#[test]
fn a_directory_into_which_anybody_may_write_is_refused() {
    let world = World::new();
    let dir = world.dir("open");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let mut up = tool();
    up.arg("--data").arg(&dir).args(["up", "--offline", "--bind", "127.0.0.1:0"]);
    let refused = crate::common::run(up, b"");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("anybody may write") && refused.stderr.contains("chmod"), "{}", refused.stderr);
}

/// A small file system of a test's own; it takes root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&at).status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: it takes root to mount a small file system");
            return None;
        }
        fs::set_permissions(&at, fs::Permissions::from_mode(0o700)).unwrap();
        Some(Self(at))
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        use std::io::Write;
        let mut file = fs::File::options().create(true).append(true).open(self.0.join("fill")).unwrap();
        while file.write_all(&[7; 4_096]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that was killed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Writes until they are refused, a kill, and a start with no block free: what was acknowledged can be read, writes are
/// refused in words, and with room again they go on. Twice, since the room for a start is kept again.
#[test]
fn a_node_whose_disk_is_full_starts_and_can_be_read() {
    let world = World::new();
    // Its log is beside it, on a disk that has room.
    let Some(disk) = SmallDisk::new(world.dir("machine")) else { return };
    let up = || world.machine("machine");
    let mut node = up();
    write(&node, &["give", "/log/today", "hello", "--lake", "log"]);
    disk.fill();
    let value = "v".repeat(100_000);
    let mut acknowledged = 0;
    while node.run(&["kv", "set", &format!("key/{acknowledged}"), &value]).code == Some(0) {
        acknowledged += 1;
        assert!(acknowledged < 900, "it is full some time");
    }
    assert!(acknowledged > 0);
    for _ in 0..2 {
        signal("KILL", node.process());
        drop(node);
        disk.fill();
        node = up();
        for key in 0..acknowledged {
            let found = node.run(&["kv", "get", &format!("key/{key}")]);
            assert_eq!(found.only()["value"], value, "{key} of {acknowledged}");
        }
        assert_eq!(node.run(&["read", "/log/today"]).only()["aeon"], 1);
        let log = fs::read_to_string(disk.0.with_extension("log")).unwrap();
        assert!(log.contains("without room on its disk"), "{log}");
    }
    fs::remove_file(disk.0.join("fill")).unwrap();
    until("writes to go on", || node.run(&["kv", "set", "after", "1"]).code == Some(0));
    node.stop();
}
