//! The tool finds its node by the data directory alone, or says what is so: however long the directory's path is, wherever
//! temporary files are, and whatever has become of the directory or the socket since.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers outside of test functions

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::common::{Node, Ran, World, run, tool, until};

fn status(data: &Path, temp: &Path, stand_in: &Path) -> Ran {
    let mut command = tool();
    command.arg("--data").arg(data).args(["--json", "status"]).env("TMPDIR", temp).current_dir(stand_in);
    run(command, b"")
}

#[test]
fn a_node_is_found_by_every_way_to_its_directory() {
    let world = World::new();
    let read_only = world.dir("read-only");
    let other = world.dir("other");
    for dir in [&read_only, &other] {
        fs::create_dir(dir).unwrap();
    }
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
    for name in ["short".to_owned(), "a-directory-with-a-rather-long-name".repeat(6)] {
        let mut at = tool();
        at.env("TMPDIR", world.dir("missing"));
        let node = Node::up_as(&world.dir(&name), at);
        let link = world.dir(&format!("link-{}", name.len()));
        symlink(&node.dir, &link).unwrap();
        for temp in [world.dir("missing"), read_only.clone(), other.clone()] {
            for data in [node.dir.as_path(), &link, Path::new(&name), Path::new(&format!("./other/../{name}"))] {
                let ran = status(data, &temp, node.dir.parent().unwrap());
                assert_eq!(ran.only()["id"], node.id.as_str(), "{data:?}");
            }
        }
        assert!(node.dir.join("control.sock").exists(), "it lies in the directory");
        node.stop();
    }
    assert_eq!(fs::read_dir(&other).unwrap().count(), 0, "nothing is left behind");
}

/// A cleaner of temporary files, or a person, has removed the socket: the node makes it again, and a command that comes
/// meanwhile waits for that.
#[test]
fn a_socket_that_was_removed_is_made_again() {
    let world = World::new();
    let node = world.up("a");
    let socket = node.dir.join("control.sock");
    fs::remove_file(&socket).unwrap();
    node.run(&["give", "/a", "x", "--lake", "log"]).well();
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    // Something else in its place is replaced, too.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    until("the socket", || node.run(&["status"]).code == Some(0));
    node.stop();
    assert!(!socket.exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_is_found_where_its_directory_was_renamed_to() {
    let world = World::new();
    let node = world.up("before");
    let after = world.dir("after");
    fs::rename(&node.dir, &after).unwrap();
    let ran = status(&after, &world.dir("missing"), Path::new("."));
    assert_eq!(ran.only()["id"], node.id.as_str());
    fs::remove_file(after.join("control.sock")).unwrap();
    status(&after, &world.dir("missing"), Path::new(".")).well();
    // Another node in the old place is another node, and keeps its socket when the first one ends.
    let other = world.up("before");
    node.stop();
    assert_ne!(other.run(&["status"]).only()["id"], ran.only()["id"]);
    other.stop();
}

/// A program that uses the library holds its directory, and takes no commands.
#[test]
fn a_directory_that_is_held_without_a_socket_is_not_called_free() {
    let world = World::new();
    let dir = world.dir("a");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("node.lock"), format!("{}\n", std::process::id())).unwrap();
    let held = File::open(dir.join("node.lock")).unwrap();
    held.lock().unwrap();
    let ran = status(&dir, &world.dir("missing"), Path::new("."));
    let holder = format!("the data directory {} is in use by process {}", dir.display(), std::process::id());
    assert!(ran.error().starts_with(&holder), "{ran:?}");
    let mut doctor = tool();
    doctor.arg("--data").arg(&dir).args(["--json", "doctor"]);
    let found = run(doctor, b"").objects();
    let node = found.iter().find(|found| found["check"] == "node").unwrap();
    assert!(node["said"].as_str().unwrap().starts_with(&holder), "{node}");
    drop(held);
    assert!(status(&dir, &world.dir("missing"), Path::new(".")).error().starts_with("no node runs in"));
}
