//! Who may use the interface: the token of the data directory, one-time links, and the sessions that they open.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use data_encoding::BASE64URL_NOPAD;

use crate::limits::{CODE_LIFETIME, MAX_CODES, SESSION_LIFETIME};

/// The name of the token's file in the data directory.
pub(crate) const TOKEN_FILE: &str = "http-token";

const TOKEN_BYTES: usize = 32;

/// Why the token can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file can't be read or written.
    #[error("cannot use {}: {source}; it has to be a file of this user's, in a directory that this user may write", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} can be read by others (mode {mode:o}): somebody may know it; remove it, and a new one is made", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} does not hold a token: remove it, and a new one is made", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// The token, and what is derived from it.
pub(crate) struct Keys {
    token: String,
    /// Signs sessions, so that none has to be stored and all end when the token's file is removed.
    session_key: [u8; 32],
    codes: Mutex<VecDeque<(blake3::Hash, Instant)>>,
}

impl Keys {
    /// The token of a data directory, made where there is none.
    pub(crate) fn open(dir: &Path) -> Result<Self, TokenError> {
        let path = dir.join(TOKEN_FILE);
        let failed = |source| TokenError::Io { path: path.clone(), source };
        let token = match fs::read_to_string(&path) {
            Ok(text) => {
                check_mode(&path)?;
                let token = text.trim().to_owned();
                let decoded = BASE64URL_NOPAD.decode(token.as_bytes());
                if decoded.map_or(0, |bytes| bytes.len()) != TOKEN_BYTES {
                    return Err(TokenError::Malformed { path });
                }
                token
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = BASE64URL_NOPAD.encode(&rand::random::<[u8; TOKEN_BYTES]>());
                write_new(dir, &path, &token).map_err(failed)?;
                token
            }
            Err(error) => return Err(failed(error)),
        };
        let session_key = blake3::derive_key("groundswell http v1: sessions", token.as_bytes());
        Ok(Self { token, session_key, codes: Mutex::default() })
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn is_token(&self, given: &[u8]) -> bool {
        // Hashes are compared in constant time.
        blake3::hash(given) == blake3::hash(self.token.as_bytes())
    }

    /// A code for one link.
    pub(crate) fn new_code(&self) -> String {
        let code = BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() >= MAX_CODES {
            codes.pop_front();
        }
        codes.push_back((blake3::hash(code.as_bytes()), Instant::now()));
        code
    }

    /// Uses up a code; whether it was valid.
    pub(crate) fn use_code(&self, code: &[u8]) -> bool {
        let given = blake3::hash(code);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|(_, made)| made.elapsed() < CODE_LIFETIME);
        let before = codes.len();
        codes.retain(|(known, _)| *known != given);
        codes.len() < before
    }

    /// A new session, as the value of a cookie: when it ends, a nonce, and what shows that we made it.
    pub(crate) fn new_session(&self, now_ms: u64) -> String {
        let lifetime = u64::try_from(SESSION_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let nonce = BASE64URL_NOPAD.encode(&rand::random::<[u8; 16]>());
        let claim = format!("{}.{nonce}", now_ms.saturating_add(lifetime));
        let mac = blake3::keyed_hash(&self.session_key, claim.as_bytes());
        format!("{claim}.{}", mac.to_hex())
    }

    pub(crate) fn is_session(&self, cookie: &str, now_ms: u64) -> bool {
        let Some((claim, mac)) = cookie.rsplit_once('.') else { return false };
        let Ok(mac) = blake3::Hash::from_hex(mac) else { return false };
        let ends: Option<u64> = claim.split_once('.').and_then(|(ends, _)| ends.parse().ok());
        // Hashes are compared in constant time.
        blake3::keyed_hash(&self.session_key, claim.as_bytes()) == mac && ends.is_some_and(|ends| now_ms < ends)
    }
}

/// Writes a file that only this user can read, under its name only when it is whole.
fn write_new(dir: &Path, path: &Path, text: &str) -> io::Result<()> {
    let part = dir.join(format!("{TOKEN_FILE}.{:016x}", rand::random::<u64>()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&part).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    let named = written.and_then(|()| fs::rename(&part, path));
    if named.is_err() {
        // What could not be named is of no use; why it could not is what counts.
        let _ = fs::remove_file(&part);
    }
    named
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), TokenError> {
    use std::os::unix::fs::PermissionsExt;
    let found = fs::metadata(path).map_err(|source| TokenError::Io { path: path.to_owned(), source })?;
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), TokenError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (tempfile::TempDir, Keys) {
        let dir = tempfile::TempDir::new().unwrap();
        let keys = Keys::open(dir.path()).unwrap();
        (dir, keys)
    }

    #[test]
    fn a_token_is_made_once_for_this_user_alone() {
        let (dir, keys) = keys();
        let path = dir.path().join(TOKEN_FILE);
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), keys.token());
        assert_eq!(Keys::open(dir.path()).unwrap().token(), keys.token(), "the next run has the same");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
        assert!(keys.is_token(keys.token().as_bytes()));
        assert!(!keys.is_token(b"") && !keys.is_token(&keys.token().as_bytes()[1..]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(Keys::open(dir.path()), Err(TokenError::Exposed { mode: 0o640, .. })));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::write(&path, "short").unwrap();
        assert!(matches!(Keys::open(dir.path()), Err(TokenError::Malformed { .. })));
    }

    #[test]
    fn a_code_is_valid_once_and_the_oldest_makes_room() {
        let (_dir, keys) = keys();
        let code = keys.new_code();
        assert!(!keys.use_code(b"") && !keys.use_code(&code.as_bytes()[1..]));
        assert!(keys.use_code(code.as_bytes()));
        assert!(!keys.use_code(code.as_bytes()), "used up");
        let oldest = keys.new_code();
        let newer: Vec<String> = (0..MAX_CODES).map(|_| keys.new_code()).collect();
        assert!(!keys.use_code(oldest.as_bytes()));
        assert!(newer.iter().all(|code| keys.use_code(code.as_bytes())));
    }

    #[test]
    fn a_code_is_valid_for_five_minutes() {
        let (_dir, keys) = keys();
        let code = keys.new_code();
        let Some(long_ago) = Instant::now().checked_sub(CODE_LIFETIME) else {
            println!("not shown: this device was started less than five minutes ago");
            return;
        };
        keys.codes.lock().unwrap().iter_mut().for_each(|(_, made)| *made = long_ago);
        assert!(!keys.use_code(code.as_bytes()));
    }

    #[test]
    fn a_session_holds_for_its_time_over_restarts_and_no_other_is_accepted() {
        let (dir, keys) = keys();
        let lifetime = u64::try_from(SESSION_LIFETIME.as_millis()).unwrap();
        let session = keys.new_session(1_000);
        assert!(keys.is_session(&session, 1_000) && keys.is_session(&session, 999 + lifetime));
        assert!(!keys.is_session(&session, 1_000 + lifetime));
        assert!(Keys::open(dir.path()).unwrap().is_session(&session, 1_000), "after a restart");
        let later = session.replacen(&(1_000 + lifetime).to_string(), &(2_000 + lifetime).to_string(), 1);
        assert_ne!(later, session);
        for wrong in ["", ".", "1.2.3", &later, &session[..session.len() - 1]] {
            assert!(!keys.is_session(wrong, 1_000), "{wrong}");
        }
        fs::remove_file(dir.path().join(TOKEN_FILE)).unwrap();
        assert!(!Keys::open(dir.path()).unwrap().is_session(&session, 1_000), "another token ends all sessions");
    }
}
