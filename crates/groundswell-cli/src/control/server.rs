//! The node's side of the control protocol: the socket, and a task for each client.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::session::Session;
use crate::{
    data_dir::{self, Socket},
    error::ToolError,
    registry::Registry,
    web::Web,
};

/// The most commands that may talk to the node at once. Each holds two buffers of 64 KiB and
/// a wave at most.
const MAX_CLIENTS: usize = 256;

/// How long a client that is already answered may take to read its last lines when the node stops.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long the server waits when the system has no more files to open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How soon a socket that somebody has removed, such as what cleans up temporary files, is made again (2 s): a look at
/// one file each time.
const SOCKET_CHECK: Duration = Duration::from_secs(2);

/// The socket of a node, until it is dropped.
pub(crate) struct Server {
    socket: Socket,
    bound: Bound,
    uid: u32,
}

/// A listener, and which file is its socket.
struct Bound {
    listener: UnixListener,
    file: (u64, u64),
}

impl Bound {
    /// Binds the socket. What is there is replaced: it is of a process that died.
    fn new(socket: &Socket) -> io::Result<Self> {
        let address = socket.address()?;
        match fs::remove_file(address.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(address.path())?;
        fs::set_permissions(address.path(), fs::Permissions::from_mode(0o600))?;
        let file = file_of(address.path())?;
        Ok(Self { listener, file })
    }

    fn is_there(&self, socket: &Socket) -> bool {
        socket.address().and_then(|address| file_of(address.path())).is_ok_and(|file| file == self.file)
    }
}

/// Which file is at a path.
fn file_of(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl Server {
    /// Binds the socket of a data directory that this process holds. What a dead process has
    /// left there is replaced.
    pub(crate) fn bind(dir: &Path) -> Result<Self, ToolError> {
        let failed = |source| ToolError::Listen { path: dir.to_owned(), source };
        let socket = Socket::of(dir).map_err(failed)?;
        let bound = Bound::new(&socket).map_err(failed)?;
        let uid = data_dir::own_uid().map_err(failed)?;
        Ok(Self { socket, bound, uid })
    }

    /// Serves clients until `closing` is set. Then the socket is gone, and those that are there
    /// come to their end.
    pub(crate) async fn run(
        mut self,
        registry: Arc<Registry>,
        web: Option<Arc<Web>>,
        closing: CancellationToken,
    ) -> LastClients {
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        let tasks = TaskTracker::new();
        let cut = CancellationToken::new();
        let mut check = tokio::time::interval(SOCKET_CHECK);
        let mut told = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.bound.listener.accept() => accepted,
                _ = check.tick() => {
                    self.mend(&mut told);
                    continue;
                }
                () = closing.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "no command can be accepted for a moment");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            if !self.is_ours(&stream) {
                warn!("a command of another user was turned away");
                continue;
            }
            let Ok(permit) = clients.clone().try_acquire_owned() else {
                refuse(stream);
                continue;
            };
            let session = Session::new(stream, registry.clone(), web.clone(), closing.clone());
            let cut = cut.clone();
            tasks.spawn(async move {
                tokio::select! {
                    ended = session.run() => {
                        if let Err(error) = ended {
                            debug!(%error, "a command has gone");
                        }
                    }
                    () = cut.cancelled() => {}
                }
                drop(permit);
            });
        }
        tasks.close();
        LastClients { tasks, cut }
    }

    /// Makes the socket again, where it is not there any more.
    fn mend(&mut self, told: &mut bool) {
        if self.bound.is_there(&self.socket) {
            return;
        }
        match Bound::new(&self.socket) {
            Ok(bound) => {
                warn!("the socket of this node was removed, and is made again");
                (self.bound, *told) = (bound, false);
            }
            Err(error) if !*told => {
                warn!(%error, "the socket of this node was removed, and cannot be made again: commands do not reach it");
                *told = true;
            }
            Err(_) => {}
        }
    }

    /// The socket's permissions say so too; where it lies in a directory of others, this says it again.
    fn is_ours(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == self.uid || peer.uid() == 0)
    }
}

/// The clients that are still there when no more are accepted.
pub(crate) struct LastClients {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl LastClients {
    /// Lets them read their last lines, and cuts off who does not.
    pub(crate) async fn end(self) {
        if timeout(LAST_LINES, self.tasks.wait()).await.is_err() {
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Says that there are too many. The line fits the empty socket, so that nothing is waited for.
fn refuse(mut stream: UnixStream) {
    let line = format!("{{\"error\":\"{MAX_CLIENTS} commands talk to this node already: end some of them\"}}\n");
    let mut written = std::pin::pin!(stream.write_all(line.as_bytes()));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = written.as_mut().poll(&mut context);
}

impl Drop for Server {
    fn drop(&mut self) {
        // What stays does no harm: the next node replaces it.
        if self.bound.is_there(&self.socket) {
            let _ = self.socket.address().and_then(|address| fs::remove_file(address.path()));
        }
    }
}
