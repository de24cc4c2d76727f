//! Who may use the interface: the token of the data directory, one-time links, and the sessions that they open.

use std::{
    collections::VecDeque,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;

use crate::{
    caller::Caller,
    limits::{CODE_LIFETIME, MAX_CODES, SESSION_LIFETIME},
    views::now_ms,
};

/// The name of the token's file in the data directory.
pub(crate) const TOKEN_FILE: &str = "http-token";

const TOKEN_BYTES: usize = 32;

/// What stands in a session in place of an account where none is known.
const ANY_ACCOUNT: &str = "-";

/// A clock of the wall that shows an earlier time was never set (2025-01-01, in milliseconds since 1970): it does not tell
/// how old something is.
const SET_CLOCK_MS: u64 = 1_735_689_600_000;

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
    codes: Mutex<VecDeque<Code>>,
    /// Tells this run from others.
    run: String,
    begun: Instant,
}

/// A code of a one-time link.
struct Code {
    hash: blake3::Hash,
    made: Instant,
    /// The only account that may use it.
    account: Option<u32>,
}

impl Code {
    /// Returns true if this code was given and the caller may use it. `caller` is called only for the right code.
    fn is(&self, given: blake3::Hash, caller: impl FnOnce() -> Caller) -> bool {
        self.hash == given && self.made.elapsed() < CODE_LIFETIME && {
            let caller = caller();
            // A session of somebody who has gone would be bound to nobody.
            caller != Caller::Gone && self.account.is_none_or(|account| caller.may_be(account))
        }
    }
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
        let run = format!("{:016x}", rand::random::<u64>());
        Ok(Self { token, session_key, codes: Mutex::default(), run, begun: Instant::now() })
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The name of this run of the interface, by which another one is told from it, whatever a clock shows.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    pub(crate) fn is_token(&self, given: &[u8]) -> bool {
        // Hashes are compared in constant time.
        blake3::hash(given) == blake3::hash(self.token.as_bytes())
    }

    /// A code for one link, for whoever has it or for one account.
    pub(crate) fn new_code(&self, account: Option<u32>) -> String {
        let code = BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() >= MAX_CODES {
            codes.pop_front();
        }
        codes.push_back(Code { hash: blake3::hash(code.as_bytes()), made: Instant::now(), account });
        code
    }

    /// Returns true if a code is valid for this caller. The code stays valid. `caller` is called only for a known code.
    pub(crate) fn is_code(&self, code: &[u8], caller: impl Fn() -> Caller) -> bool {
        let given = blake3::hash(code);
        let codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.iter().any(|code| code.is(given, &caller))
    }

    /// Uses up a code; whether it was valid for this caller, who is asked for last. That of another account stays valid.
    pub(crate) fn use_code(&self, code: &[u8], caller: impl Fn() -> Caller) -> bool {
        let given = blake3::hash(code);
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|code| code.made.elapsed() < CODE_LIFETIME);
        let before = codes.len();
        codes.retain(|code| !code.is(given, &caller));
        codes.len() < before
    }

    /// A new session, as the value of a cookie: in which run it was begun, how old that run was, what the clock of the
    /// wall showed, a nonce, the account that began it where that is known, and what shows that we made it.
    pub(crate) fn new_session(&self, caller: Caller) -> String {
        self.new_session_at(caller, self.begun.elapsed(), now_ms())
    }

    /// Whether it is a session that this caller may use. The caller is asked for last.
    pub(crate) fn is_session(&self, cookie: &str, caller: impl FnOnce() -> Caller) -> bool {
        self.is_session_at(cookie, caller, self.begun.elapsed(), now_ms())
    }

    fn new_session_at(&self, caller: Caller, age: Duration, wall_ms: u64) -> String {
        let nonce = BASE64URL_NOPAD.encode(&rand::random::<[u8; 16]>());
        let account = caller.account().map_or_else(|| ANY_ACCOUNT.to_owned(), |account| account.to_string());
        let claim = format!("{}.{}.{wall_ms}.{nonce}.{account}", self.run, age.as_millis());
        let mac = blake3::keyed_hash(&self.session_key, claim.as_bytes());
        format!("{claim}.{}", mac.to_hex())
    }

    /// The session of this run lasts by the monotonic clock, which nobody sets. That of an earlier run lasts by the clock
    /// of the wall, which has to be set, then and now, and not to have gone back: otherwise it could last for ever. Who is
    /// refused because the clock is wrong is let in again when it is right, or opens a new link.
    fn is_session_at(&self, cookie: &str, caller: impl FnOnce() -> Caller, age: Duration, wall_ms: u64) -> bool {
        let Some((claim, mac)) = cookie.rsplit_once('.') else { return false };
        let Ok(mac) = blake3::Hash::from_hex(mac) else { return false };
        // Hashes are compared in constant time.
        if blake3::keyed_hash(&self.session_key, claim.as_bytes()) != mac {
            return false;
        }
        let mut parts = claim.split('.');
        let run = parts.next();
        let mut number = || parts.next().and_then(|number| number.parse::<u64>().ok());
        let (Some(begun_age), Some(begun_wall)) = (number(), number()) else { return false };
        let lasted = match run == Some(&self.run) {
            true => u64::try_from(age.as_millis()).unwrap_or(u64::MAX).checked_sub(begun_age),
            false if begun_wall >= SET_CLOCK_MS => wall_ms.checked_sub(begun_wall),
            false => None,
        };
        let lasts = lasted.is_some_and(|lasted| u128::from(lasted) < SESSION_LIFETIME.as_millis());
        lasts
            && match parts.nth(1) {
                Some(ANY_ACCOUNT) => true,
                Some(account) => account.parse().is_ok_and(|account| caller().may_be(account)),
                None => false,
            }
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
        let code = keys.new_code(None);
        assert!(!keys.use_code(b"", || Caller::Unknown) && !keys.use_code(&code.as_bytes()[1..], || Caller::Unknown));
        assert!(keys.use_code(code.as_bytes(), || Caller::Unknown));
        assert!(!keys.use_code(code.as_bytes(), || Caller::Unknown), "used up");
        let oldest = keys.new_code(None);
        let newer: Vec<String> = (0..MAX_CODES).map(|_| keys.new_code(None)).collect();
        assert!(!keys.use_code(oldest.as_bytes(), || Caller::Unknown));
        assert!(newer.iter().all(|code| keys.use_code(code.as_bytes(), || Caller::Unknown)));
    }

    #[test]
    fn a_code_is_valid_for_five_minutes() {
        let (_dir, keys) = keys();
        let code = keys.new_code(None);
        let Some(long_ago) = Instant::now().checked_sub(CODE_LIFETIME) else {
            println!("not shown: this device was started less than five minutes ago");
            return;
        };
        keys.codes.lock().unwrap().iter_mut().for_each(|code| code.made = long_ago);
        assert!(!keys.use_code(code.as_bytes(), || Caller::Unknown));
    }

    #[test]
    fn what_is_bound_to_an_account_is_no_other_accounts() {
        let (_dir, keys) = keys();
        let (own, other) = (Caller::Account(1000), Caller::Account(65_534));
        let code = keys.new_code(Some(1000));
        for not_his in [other, Caller::Account(0), Caller::Gone] {
            assert!(!keys.is_code(code.as_bytes(), || not_his) && !keys.use_code(code.as_bytes(), || not_his));
        }
        assert!(
            keys.is_code(code.as_bytes(), || own) && keys.use_code(code.as_bytes(), || own),
            "nobody has used it up"
        );
        let session = keys.new_session(own);
        assert!(keys.is_session(&session, || own) && keys.is_session(&session, || Caller::Unknown));
        assert!(!keys.is_session(&session, || other) && !keys.is_session(&session, || Caller::Gone));
        let unbound = keys.new_code(None);
        assert!(!keys.use_code(unbound.as_bytes(), || Caller::Gone), "the session would be bound to nobody");
        assert!(keys.use_code(unbound.as_bytes(), || Caller::Unknown));
        let asked = || panic!("whose a connection is costs a look at all of the system's");
        assert!(
            !keys.is_code(b"another", asked) && !keys.use_code(b"another", asked) && !keys.is_session("another", asked)
        );
        assert!(keys.is_session(&keys.new_session(Caller::Unknown), || other), "it was bound to none");
    }

    const NOW_MS: u64 = SET_CLOCK_MS + 1_000_000_000;

    #[test]
    fn a_session_holds_for_its_time_over_restarts_and_no_other_is_accepted() {
        let (dir, keys) = keys();
        let lifetime = u64::try_from(SESSION_LIFETIME.as_millis()).unwrap();
        let (young, tick) = (Duration::from_secs(5), Duration::from_millis(1));
        let session = keys.new_session_at(Caller::Unknown, young, NOW_MS);
        assert!(keys.is_session(&keys.new_session(Caller::Unknown), || Caller::Unknown));
        assert!(keys.is_session_at(&session, || Caller::Unknown, young, NOW_MS));
        assert!(keys.is_session_at(&session, || Caller::Unknown, young + SESSION_LIFETIME - tick, NOW_MS));
        assert!(!keys.is_session_at(&session, || Caller::Unknown, young + SESSION_LIFETIME, NOW_MS));
        let later = Keys::open(dir.path()).unwrap();
        assert!(later.is_session_at(&session, || Caller::Unknown, Duration::ZERO, NOW_MS), "after a restart");
        assert!(later.is_session_at(&session, || Caller::Unknown, Duration::ZERO, NOW_MS + lifetime - 1));
        assert!(!later.is_session_at(&session, || Caller::Unknown, Duration::ZERO, NOW_MS + lifetime));
        let forged = session.replacen(&NOW_MS.to_string(), &(NOW_MS + 1).to_string(), 1);
        assert_ne!(forged, session);
        for wrong in ["", ".", "1.2.3", "1.2.3.4.5", &forged, &session[..session.len() - 1]] {
            assert!(!keys.is_session_at(wrong, || Caller::Unknown, young, NOW_MS), "{wrong}");
        }
        fs::remove_file(dir.path().join(TOKEN_FILE)).unwrap();
        let other = Keys::open(dir.path()).unwrap();
        assert!(!other.is_session_at(&session, || Caller::Unknown, young, NOW_MS), "another token ends all sessions");
    }

    #[test]
    fn a_clock_that_is_set_neither_ends_a_session_nor_keeps_it() {
        let (dir, keys) = keys();
        let (young, lifetime) = (Duration::from_secs(5), u64::try_from(SESSION_LIFETIME.as_millis()).unwrap());
        // In the run that began it no clock of the wall counts.
        for (begun, now) in [(1_000, NOW_MS), (NOW_MS, 1_000), (NOW_MS, u64::MAX), (0, 0)] {
            let session = keys.new_session_at(Caller::Unknown, young, begun);
            assert!(keys.is_session_at(&session, || Caller::Unknown, young * 2, now), "{begun} {now}");
            assert!(!keys.is_session_at(&session, || Caller::Unknown, young + SESSION_LIFETIME, now), "{begun} {now}");
        }
        // In a later one, a clock that went back or was never set keeps nothing.
        let later = Keys::open(dir.path()).unwrap();
        let session = keys.new_session_at(Caller::Unknown, young, NOW_MS);
        for back in [0, 1_000, NOW_MS - 1] {
            assert!(!later.is_session_at(&session, || Caller::Unknown, young, back), "{back}");
        }
        assert!(
            later.is_session_at(&session, || Caller::Unknown, young, NOW_MS + 1),
            "and with the right time it is back"
        );
        let unset = keys.new_session_at(Caller::Unknown, young, 1_000);
        for now in [1_000, 2_000, 1_000 + lifetime - 1, NOW_MS] {
            assert!(
                !later.is_session_at(&unset, || Caller::Unknown, young, now),
                "begun at {now} by a clock that was not set"
            );
        }
    }
}
