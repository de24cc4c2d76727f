//! Where the data directory is, and in it the socket on which its node is spoken to.

use std::{
    env, fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::error::ToolError;

/// The socket's name in the data directory.
const SOCKET: &str = "control.sock";

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

/// Where the node of an existing data directory listens. Where that path would be too long for
/// a socket, it is in a directory of this user below the one for temporary files, named by a
/// hash of the data directory.
pub(crate) fn socket_path(dir: &Path) -> std::io::Result<PathBuf> {
    let dir = fs::canonicalize(dir)?;
    let path = dir.join(SOCKET);
    if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
        return Ok(path);
    }
    let hash = blake3::hash(dir.as_os_str().as_encoded_bytes()).to_hex();
    Ok(env::temp_dir().join(format!("groundswell-{}", &hash[..16])).join(SOCKET))
}

/// Makes sure that the directory of the socket is there, and no one else's: in the directory
/// for temporary files anyone could have made it before us. True where it is outside the data directory.
pub(crate) fn prepare_socket_dir(data_dir: &Path, socket: &Path) -> Result<bool, ToolError> {
    let Some(dir) = socket.parent() else { return Ok(false) };
    let io = |source| ToolError::Listen { path: socket.to_owned(), source };
    if fs::canonicalize(data_dir).map_err(io)? == dir {
        return Ok(false);
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(dir).map_err(io)?;
    if !found.is_dir() || found.uid() != own_uid().map_err(io)? {
        return Err(ToolError::ForeignSocketDir { path: dir.to_owned() });
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io)?;
    Ok(true)
}

/// The user who runs this process. A pair of sockets knows it without any unsafe call.
pub(crate) fn own_uid() -> std::io::Result<u32> {
    let (one, _other) = tokio::net::UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_gets_a_short_socket_elsewhere() {
        let temp = tempfile::tempdir().unwrap();
        let near = socket_path(temp.path()).unwrap();
        assert_eq!(near, fs::canonicalize(temp.path()).unwrap().join(SOCKET));
        let deep = temp.path().join("x".repeat(60)).join("y".repeat(60));
        fs::create_dir_all(&deep).unwrap();
        let far = socket_path(&deep).unwrap();
        assert!(far.as_os_str().len() <= MAX_SOCKET_PATH_BYTES, "{far:?}");
        assert_eq!(far, socket_path(&deep).unwrap());
    }

    #[tokio::test]
    async fn a_socket_directory_of_someone_else_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("sockets");
        assert!(prepare_socket_dir(temp.path(), &dir.join(SOCKET)).unwrap());
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let elsewhere = temp.path().join("link");
        std::os::unix::fs::symlink(&dir, &elsewhere).unwrap();
        let refused = prepare_socket_dir(temp.path(), &elsewhere.join(SOCKET));
        assert!(matches!(refused, Err(ToolError::ForeignSocketDir { .. })));
    }
}
