//! The files of a data directory: for this user alone, and with some room in reserve.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    path::Path,
};

use tracing::warn;

use crate::{error::OpenError, limits::RESERVE_BYTES};

/// Files that no other user may read.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes a directory, with those above it, where it is missing. What it holds is for this user alone, and each name is
/// durable: else a power cut could take the whole directory with what was acknowledged in it.
pub(crate) fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above {
        create_private_dir(above)?;
    }
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    #[cfg(unix)]
    File::open(above.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// The file that the HTTP interface looks after itself: one that others could read is refused there, since somebody may
/// know what it holds, and a new one can be made.
const TOKEN_FILE: &str = "http-token";

/// Looks at a data directory that was found. One into which anybody may write is refused: they could put a key of their own
/// there. Files that others may read were made by an earlier version, or copied, and are closed to them.
#[cfg(unix)]
pub(crate) fn close_to_others(dir: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let io = |source| OpenError::of_file(dir, source);
    refuse_open_to_all(dir)?;
    let found = fs::metadata(dir).map_err(io)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o020 != 0 {
        warn!(dir = %dir.display(), "the group of the data directory may write into it: chmod g-w, unless that is meant");
    }
    for entry in fs::read_dir(dir).map_err(io)? {
        let entry = entry.map_err(io)?;
        // Of the file itself, not of what a link points to.
        let file = entry.metadata().map_err(io)?;
        let open = file.mode() & 0o077 != 0;
        if !file.is_file() || !open || file.uid() != found.uid() || entry.file_name() == TOKEN_FILE {
            continue;
        }
        let path = entry.path();
        let chmod = fs::set_permissions(&path, fs::Permissions::from_mode(file.mode() & 0o700));
        let after = || fs::symlink_metadata(&path).map(|file| file.mode());
        if !is_closed(chmod, after, || keeps_modes(dir)).map_err(|source| OpenError::of_file(&path, source))? {
            warn!(
                dir = %dir.display(),
                "the file system of the data directory keeps no modes: whom the mount lets read there can read the secret key of \
                 this node. Mount it for this user alone (umask=077), or choose another directory"
            );
            return Ok(());
        }
        warn!(file = %path.display(), mode = format!("{:o}", file.mode() & 0o7777), "others could use a file: it is closed to them now");
    }
    Ok(())
}

/// The same of the directory alone, and nothing is changed.
#[cfg(unix)]
pub(crate) fn refuse_open_to_all(dir: &Path) -> Result<(), OpenError> {
    let found = fs::metadata(dir).map_err(|source| OpenError::of_file(dir, source))?;
    let mode = std::os::unix::fs::MetadataExt::mode(&found) & 0o7777;
    match mode & 0o002 {
        0 => Ok(()),
        _ => Err(OpenError::OpenToAll { dir: dir.to_owned(), mode }),
    }
}

/// Whether a file was closed to others, by the outcome of chmod; not on a file system without modes. There chmod does nothing, or
/// fails as it does for a file of another user, so that only a new file tells which it is.
#[cfg(unix)]
fn is_closed(
    chmod: io::Result<()>,
    after: impl FnOnce() -> io::Result<u32>,
    keeps_modes: impl FnOnce() -> io::Result<bool>,
) -> io::Result<bool> {
    match chmod {
        Ok(()) => Ok(after()? & 0o077 == 0),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !keeps_modes()? => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a file that is made for this user alone is.
#[cfg(unix)]
fn keeps_modes(dir: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let path = dir.join("modes.probe");
    let made = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&path)?;
    let mode = made.metadata()?.mode();
    fs::remove_file(&path)?;
    Ok(mode & 0o077 == 0)
}

/// Where files have no modes, the directory's own rights are what there is.
#[cfg(not(unix))]
pub(crate) fn close_to_others(_dir: &Path) -> Result<(), OpenError> {
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn refuse_open_to_all(_dir: &Path) -> Result<(), OpenError> {
    Ok(())
}

/// Says that the disk has no room for so many bytes beside this file, before it is filled in vain.
pub(crate) fn room_for(path: &Path, bytes: u64) -> io::Result<()> {
    #[cfg(unix)]
    if let Ok(found) = rustix::fs::statvfs(path)
        && found.f_bavail.saturating_mul(found.f_frsize) < bytes
    {
        return Err(io::Error::new(io::ErrorKind::StorageFull, format!("a copy takes {bytes} bytes")));
    }
    let _ = (path, bytes);
    Ok(())
}

/// The file that keeps some room on the disk for the next start.
const RESERVE_FILE: &str = "node.reserve";

/// Opens something in a data directory. Where the disk is full, the room that was kept is given up for it, so that a node comes up
/// and can be read.
pub(crate) fn with_room<T>(dir: &Path, open: impl Fn() -> Result<T, OpenError>) -> Result<T, OpenError> {
    match open() {
        Err(OpenError::Storage { path, source }) => {
            if fs::remove_file(dir.join(RESERVE_FILE)).is_err() {
                return Err(OpenError::Storage { path, source });
            }
            warn!(error = %source, "storage does not open: the disk may be full. The room kept for that is used now");
            let opened = open()?;
            warn!(
                dir = %dir.display(),
                "the node is up without room on its disk: it can be read, and writes fail until there is room"
            );
            Ok(opened)
        }
        opened => opened,
    }
}

/// Keeps [`RESERVE_BYTES`] of the disk, or as many of them as there are. A disk without room is no error: the node is up, and says
/// so elsewhere.
pub(crate) fn keep_room(dir: &Path) {
    let (path, bytes) = (dir.join(RESERVE_FILE), RESERVE_BYTES);
    if fs::metadata(&path).is_ok_and(|found| found.len() >= bytes) {
        return;
    }
    let file = private(OpenOptions::new().write(true).create(true).truncate(true)).open(&path);
    // A start on a full disk has used some of the room: what is left of it is kept for the next one.
    let kept = file.and_then(|file| {
        let parts = (1..=ROOM_PARTS).rev();
        let mut last = Ok(());
        for part in parts {
            last = file.set_len(0).and_then(|()| allocate(&file, bytes / ROOM_PARTS * part));
            if last.is_ok() {
                break;
            }
        }
        last
    });
    if let Err(error) = kept {
        tracing::debug!(%error, "no room is kept on the disk");
        let _ = fs::remove_file(&path);
    }
}

/// In steps of which part of the whole less room is tried.
const ROOM_PARTS: u64 = 16;

/// Takes the blocks of a file without writing them.
#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes).map_err(io::Error::from)
}

#[cfg(not(target_os = "linux"))]
fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    // Zeros could be kept as a hole.
    let block: Vec<u8> = (0..64 * 1024).map(|_| rand::random()).collect();
    for _ in 0..bytes / block.len() as u64 {
        io::Write::write_all(&mut file, &block)?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// What chmod says on vfat, exFAT, CIFS and FUSE: a success that changes nothing, EPERM, or that there is no such call.
    #[test]
    fn a_file_system_without_modes_stops_no_start() {
        let failed = |number: i32| Err(io::Error::from_raw_os_error(number));
        let closed = |chmod, after: u32, modes: bool| is_closed(chmod, || Ok(after), || Ok(modes)).ok();
        let (eperm, eacces, erofs, enotsup) = (1, 13, 30, if cfg!(target_os = "linux") { 95 } else { 45 });
        assert_eq!(closed(Ok(()), 0o600, true), Some(true));
        assert_eq!(closed(Ok(()), 0o755, false), Some(false));
        assert_eq!(closed(failed(eperm), 0o755, false), Some(false));
        assert_eq!(closed(failed(enotsup), 0o755, true), Some(false));
        // Elsewhere it is what it was: somebody else's file, or a file that cannot be changed.
        assert_eq!(closed(failed(eperm), 0o644, true), None);
        assert_eq!(closed(failed(eacces), 0o644, true), None);
        assert_eq!(closed(failed(erofs), 0o644, false), None);
        assert!(keeps_modes(tempfile::tempdir().unwrap().path()).unwrap(), "here there are modes");
    }
}
