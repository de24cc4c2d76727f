//! The data directory of a node: who holds it, and the key that is its identity.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use iroh::{PublicKey, SecretKey};

use crate::{
    error::OpenError,
    files::{close_to_others, create_private_dir, private, refuse_open_to_all},
};

pub(crate) const KEY_FILE: &str = "secret.key";
const LOCK_FILE: &str = "node.lock";

/// How often the lock of a data directory is tried, and how soon again (10 ms).
const LOCK_TRIES: u32 = 4;
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// A data directory that this process holds alone, until this is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// The lock is on this open file; the system releases it if the process dies.
    _lock: File,
}

/// The public half of the key in a data directory, where there is one.
pub(crate) fn public_key(dir: &Path) -> Result<Option<PublicKey>, OpenError> {
    let path = dir.join(KEY_FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(key_of(&path, bytes)?.public())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::of_file(&path, error)),
    }
}

fn key_of(path: &Path, bytes: Vec<u8>) -> Result<SecretKey, OpenError> {
    let found = bytes.len();
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| OpenError::BadKey { path: path.to_owned(), found })?;
    Ok(SecretKey::from_bytes(&bytes))
}

impl DataDir {
    /// Creates the directory where it is missing, readable by this user alone, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        create_private_dir(path).map_err(|source| OpenError::of_file(path, source))?;
        Self::hold(path, close_to_others)
    }

    /// Locks a directory that is there, and leaves its files as they are.
    pub(crate) fn look(path: &Path) -> Result<Self, OpenError> {
        Self::hold(path, refuse_open_to_all)
    }

    fn hold(path: &Path, check: impl FnOnce(&Path) -> Result<(), OpenError>) -> Result<Self, OpenError> {
        let io = |at: &Path| {
            let path = at.to_owned();
            move |source| OpenError::of_file(&path, source)
        };
        let lock_path = path.join(LOCK_FILE);
        let mut lock = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        let mut tries = LOCK_TRIES;
        let locked = loop {
            match lock.try_lock() {
                // Who only looks whether it is held, as the tool does, has it for a moment.
                Err(TryLockError::WouldBlock) if tries > 1 => std::thread::sleep(LOCK_AGAIN),
                other => break other,
            }
            tries -= 1;
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: where it can't be read, the error says so.
                let holder = match lock.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                    _ => "another process".to_owned(),
                };
                return Err(OpenError::InUse { dir: path.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }
        check(path)?;
        // A courtesy too, for which a full disk may have no room.
        if let Err(error) = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())) {
            tracing::debug!(%error, "the lock does not say which process holds it");
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the node has an identity already.
    pub(crate) fn has_key(&self) -> bool {
        self.path.join(KEY_FILE).exists()
    }

    /// Reads the secret key, or makes one at the first start. A half-written key can't be:
    /// it is written beside its place, made durable, and renamed.
    pub(crate) fn secret_key(&self) -> Result<SecretKey, OpenError> {
        let path = self.path.join(KEY_FILE);
        let io = |source| OpenError::of_file(&path, source);
        match fs::read(&path) {
            Ok(bytes) => key_of(&path, bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = SecretKey::generate();
                let draft = path.with_extension("key.new");
                let mut file =
                    private(OpenOptions::new().write(true).create(true).truncate(true)).open(&draft).map_err(io)?;
                file.write_all(&key.to_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
                fs::rename(&draft, &path).map_err(io)?;
                File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(io)?;
                Ok(key)
            }
            Err(error) => Err(io(error)),
        }
    }
}
