//! Where the data directory is, and in it the socket on which its node is spoken to.

use std::{
    env,
    fs::{self, TryLockError},
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::error::ToolError;

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

/// The file whose lock says that a process holds the directory, with its number.
const LOCK: &str = "node.lock";

/// The longest path of a socket. A system's address of one has room for 104 to 108 bytes.
const MAX_SOCKET_PATH_BYTES: usize = 100;

/// The data directory of this platform, where the user names none.
pub(crate) fn default_dir() -> Result<PathBuf, ToolError> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| {
        let home = absolute("HOME")?;
        let below = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
        Some(home.join(below))
    });
    Ok(data.ok_or(ToolError::NoDataDir)?.join("groundswell"))
}

/// The socket of a data directory. It always lies in that directory, and so depends on nothing else: not on where
/// temporary files are, and not on who looks for it.
#[derive(Debug)]
pub(crate) struct Socket {
    /// The directory, held open: whatever its path is or becomes, this is it.
    dir: fs::File,
    path: PathBuf,
}

/// A path to a socket that is short enough for a system's address of one.
#[derive(Debug)]
pub(crate) struct Address {
    path: PathBuf,
    /// What the path leads through, as long as it is needed.
    _link: Option<TempDir>,
}

impl Address {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Socket {
    /// That of a directory which exists.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: fs::File::open(dir)?, path: fs::canonicalize(dir)? })
    }

    /// The user whose directory it is.
    pub(crate) fn owner(&self) -> io::Result<u32> {
        Ok(self.dir.metadata()?.uid())
    }

    /// How it is reached: through the open directory, where the system has a path for that (Linux), which stays good when
    /// the directory is renamed; else by the directory's path; else, where that is too long, through a link to it.
    pub(crate) fn address(&self) -> io::Result<Address> {
        let open = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        if fs::metadata(&open).is_ok_and(|found| self.is(&found)) {
            return Ok(Address { path: open.join(SOCKET), _link: None });
        }
        let path = self.path.join(SOCKET);
        match path.as_os_str().len() {
            ..=MAX_SOCKET_PATH_BYTES => Ok(Address { path, _link: None }),
            _ => self.linked(),
        }
    }

    fn is(&self, found: &fs::Metadata) -> bool {
        self.dir.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
    }

    /// Through a link in a directory that is this user's alone.
    fn linked(&self) -> io::Result<Address> {
        let temp = tempfile::Builder::new().prefix("groundswell-").tempdir()?;
        let link = temp.path().join("d");
        std::os::unix::fs::symlink(&self.path, &link)?;
        Ok(Address { path: link.join(SOCKET), _link: Some(temp) })
    }
}

/// Which process holds a data directory, if one does: whether its node runs, asked without its socket.
pub(crate) fn holder(dir: &Path) -> Option<String> {
    let mut lock = fs::File::open(dir.join(LOCK)).ok()?;
    match lock.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        // It is let go of at once. A node that starts meanwhile tries again.
        _ => return None,
    }
    let mut said = String::new();
    let process = lock.read_to_string(&mut said).ok().and_then(|_| said.trim().parse::<u32>().ok());
    Some(process.map_or("another process".to_owned(), |process| format!("process {process}")))
}

/// The user who runs this process. A pair of sockets knows it without any unsafe call.
pub(crate) fn own_uid() -> io::Result<u32> {
    let (one, _other) = tokio::net::UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    /// A directory whose path is far too long for a socket's address.
    fn deep(temp: &TempDir) -> PathBuf {
        let deep = temp.path().join("x".repeat(150)).join("y".repeat(150));
        fs::create_dir_all(&deep).unwrap();
        deep
    }

    #[test]
    fn a_socket_lies_in_its_directory_however_long_the_path_is() {
        let temp = tempfile::tempdir().unwrap();
        for dir in [temp.path().to_owned(), deep(&temp)] {
            let here = Socket::of(&dir).unwrap();
            for (way, address) in [here.address(), here.linked()].into_iter().enumerate() {
                let address = address.unwrap();
                assert!(address.path().as_os_str().len() <= MAX_SOCKET_PATH_BYTES, "{address:?}");
                let _listener = UnixListener::bind(address.path()).unwrap();
                let found = Socket::of(&dir).unwrap();
                UnixStream::connect(found.address().unwrap().path()).unwrap();
                UnixStream::connect(found.linked().unwrap().path()).unwrap();
                assert!(dir.join(SOCKET).exists(), "{way}");
                fs::remove_file(dir.join(SOCKET)).unwrap();
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_is_reached_when_its_directory_was_renamed() {
        let temp = tempfile::tempdir().unwrap();
        let (before, after) = (temp.path().join("before"), temp.path().join("after"));
        fs::create_dir(&before).unwrap();
        let here = Socket::of(&before).unwrap();
        fs::rename(&before, &after).unwrap();
        let _listener = UnixListener::bind(here.address().unwrap().path()).unwrap();
        UnixStream::connect(after.join(SOCKET)).unwrap();
    }

    #[test]
    fn who_holds_a_directory_is_told() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(holder(temp.path()), None);
        let lock = temp.path().join(LOCK);
        fs::write(&lock, "42\n").unwrap();
        assert_eq!(holder(temp.path()), None, "that process has gone");
        let held = fs::File::open(&lock).unwrap();
        held.lock().unwrap();
        assert_eq!(holder(temp.path()).as_deref(), Some("process 42"));
        fs::write(&lock, "\u{1b}[2J").unwrap();
        assert_eq!(holder(temp.path()).as_deref(), Some("another process"));
    }
}
