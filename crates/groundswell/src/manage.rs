//! What an agent does to whole paths: who may read them, what is kept of them, their end and
//! their copies.
//!
//! Every call returns when what it did is durable, and takes effect for live readers before it
//! returns. Calls on one path take effect in the order in which they were made, together with the
//! gives. A future that is dropped does not take the call back if it was handed over.

use std::sync::Arc;

use groundswell_core::{Access, AccessError, Aeon, Lake, Path, Rule};
use tokio::sync::oneshot;

use crate::{
    Agent, Publications, Subscriptions,
    driver::{AccessChange, Command, Declared, Manage},
    error::{ManageError, WriteError},
    shared::Shared,
    source::{PeerId, Source},
    store::TideKey,
};

async fn ask<T>(
    shared: &Shared,
    command: impl FnOnce(oneshot::Sender<Result<T, ManageError>>) -> Manage,
) -> Result<T, ManageError> {
    if shared.closing.is_cancelled() {
        return Err(ManageError::ShutDown);
    }
    shared.driver.ask(|reply| Command::Manage(command(reply))).await.map_err(WriteError::from)?
}

/// What an agent does to its own paths, whatever their lake. [`Publications`] has the same
/// methods, for the paths of one declaration.
///
/// Each returns when what it did is durable, and takes effect for live readers before it returns. Calls on one
/// path take effect in the order in which they were made, together with the gives. A future that is
/// dropped does not take the call back if it was handed over. While the node shuts down they are
/// refused. Who may read a path, and the word that it has ended, are kept for ever: paths that are
/// made and killed without end grow the storage by a row each.
impl Agent {
    fn own(&self, path: &str) -> Result<TideKey, ManageError> {
        Ok(TideKey::Publication { agent: self.name().clone(), path: Path::new(path)? })
    }

    /// Opens a path to everyone. Like all of access, it may be said before anything is
    /// published there, survives restarts and the path's end, and reaches live readers at once:
    /// parked subscriptions that may now read begin by themselves.
    pub async fn public(&self, path: &str) -> Result<Access<PeerId>, ManageError> {
        self.access(path, |_| Ok(Access::Public)).await
    }

    /// Closes a path to everyone but the agents of this node. Streams of others end at once, as
    /// for a path that was killed; when this returns, what is given reaches nobody.
    pub async fn secret(&self, path: &str) -> Result<Access<PeerId>, ManageError> {
        self.access(path, |_| Ok(Access::secret())).await
    }

    /// Allows peers to read a path that is not public, beside those that may already; at most
    /// 4,096 in all. On a public path nothing changes: they may read it anyway.
    pub async fn allow(
        &self,
        path: &str,
        peers: impl IntoIterator<Item = PeerId>,
    ) -> Result<Access<PeerId>, ManageError> {
        let peers: Vec<PeerId> = peers.into_iter().collect();
        self.access(path, |access| access.allow(peers)).await
    }

    /// Allows peers no longer to read a path. Their streams end at once, as for a path that was
    /// killed; when this returns, what is given no longer reaches them. What they have received
    /// they keep. On a public path it is refused, since a peer can always come with another identity.
    pub async fn block(
        &self,
        path: &str,
        peers: impl IntoIterator<Item = PeerId>,
    ) -> Result<Access<PeerId>, ManageError> {
        let peers: Vec<PeerId> = peers.into_iter().collect();
        self.access(path, |access| access.block(peers)).await
    }

    /// Changes who may read a path by a function, with nothing in between. It runs on the thread
    /// that every path of the node waits for, so it has to be quick. If it panics, nothing changes.
    pub async fn change_access(
        &self,
        path: &str,
        change: impl FnOnce(Access<PeerId>) -> Access<PeerId> + Send + 'static,
    ) -> Result<Access<PeerId>, ManageError> {
        self.access(path, |access| change(access).checked()).await
    }

    async fn access(
        &self,
        path: &str,
        change: impl FnOnce(Access<PeerId>) -> Result<Access<PeerId>, AccessError> + Send + 'static,
    ) -> Result<Access<PeerId>, ManageError> {
        let (agent, path) = (self.name().clone(), Path::new(path)?);
        let change: AccessChange = Box::new(change);
        ask(self.shared(), |reply| Manage::Access { agent, path, change, reply }).await
    }

    /// Sets what is kept of a path's history, and does at once what the rule says: drops what it no
    /// longer keeps, and makes a rock if one is due. Whatever the rule, the newest rock stays and
    /// every wave since, so that any reader can be brought up to date.
    pub async fn rule(&self, path: &str, rule: Rule) -> Result<(), ManageError> {
        let key = self.own(path)?;
        ask(self.shared(), |reply| Manage::Rule { key, rule, reply }).await
    }

    /// Makes a rock of a path now, and drops everything older. The rule stays. A reader that is
    /// behind gets that rock in place of the waves.
    pub async fn wipe(&self, path: &str) -> Result<(), ManageError> {
        let key = self.own(path)?;
        ask(self.shared(), |reply| Manage::Wipe { key, reply }).await
    }

    /// Ends a path: its history goes, and it is as if it had never been, but for the word that it
    /// has ended, which live readers get at once. Their replicas stay readable, and stale; agents of this
    /// node itself, which have no replica of it, have nothing to read any more. A path that has ended
    /// stays ended over restarts; killing it again does nothing.
    ///
    /// Giving or opening it again begins from the default rock, at the next aeon, with the
    /// rule and the access that it had; readers that still want it go on by themselves.
    pub async fn kill(&self, path: &str) -> Result<(), ManageError> {
        let key = self.own(path)?;
        ask(self.shared(), |reply| Manage::Kill { key, reply }).await
    }
}

impl<L: Lake> Publications<L> {
    fn covered(&self, path: &str) -> Result<Path, ManageError> {
        let path = Path::new(path)?;
        if !self.pattern().covers(&path) {
            return Err(ManageError::NotDeclared { path, pattern: self.pattern().clone() });
        }
        Ok(path)
    }

    fn agent_for(&self, path: &str) -> Result<Agent, ManageError> {
        self.covered(path)?;
        Ok(self.agent())
    }

    /// See [`Agent::public`].
    pub async fn public(&self, path: &str) -> Result<Access<PeerId>, ManageError> {
        self.agent_for(path)?.public(path).await
    }

    /// See [`Agent::secret`].
    pub async fn secret(&self, path: &str) -> Result<Access<PeerId>, ManageError> {
        self.agent_for(path)?.secret(path).await
    }

    /// See [`Agent::allow`].
    pub async fn allow(
        &self,
        path: &str,
        peers: impl IntoIterator<Item = PeerId>,
    ) -> Result<Access<PeerId>, ManageError> {
        self.agent_for(path)?.allow(path, peers).await
    }

    /// See [`Agent::block`].
    pub async fn block(
        &self,
        path: &str,
        peers: impl IntoIterator<Item = PeerId>,
    ) -> Result<Access<PeerId>, ManageError> {
        self.agent_for(path)?.block(path, peers).await
    }

    /// See [`Agent::change_access`].
    pub async fn change_access(
        &self,
        path: &str,
        change: impl FnOnce(Access<PeerId>) -> Access<PeerId> + Send + 'static,
    ) -> Result<Access<PeerId>, ManageError> {
        self.agent_for(path)?.change_access(path, change).await
    }

    /// See [`Agent::rule`].
    pub async fn rule(&self, path: &str, rule: Rule) -> Result<(), ManageError> {
        self.agent_for(path)?.rule(path, rule).await
    }

    /// See [`Agent::wipe`].
    pub async fn wipe(&self, path: &str) -> Result<(), ManageError> {
        self.agent_for(path)?.wipe(path).await
    }

    /// See [`Agent::kill`].
    pub async fn kill(&self, path: &str) -> Result<(), ManageError> {
        self.agent_for(path)?.kill(path).await
    }

    /// Begins a publication on an empty path with the state and the history of another path of
    /// this agent, of the same lake: a new epoch, at the same aeon. The two go apart from there.
    /// It keeps the other's rule and its access, whatever was said of its own path before.
    ///
    /// The path has to be covered by this declaration, and not be published; one that was killed
    /// is empty. Returns the aeon. Copying a long history holds up every other path meanwhile, gives
    /// and changes of access alike.
    pub async fn fork(&self, from: &str, to: &str) -> Result<Aeon, ManageError> {
        let from = self.agent().own(from)?;
        self.replicate(from, to, None).await
    }

    /// Begins a publication on an empty path with the state and the history of a source that an
    /// agent of this node follows, live or stale, of the same lake: as [`Publications::fork`],
    /// but secret, whatever the source is and was said of the path before, until it is made public or
    /// peers are allowed.
    pub async fn copy(&self, source: &Source, to: &str) -> Result<Aeon, ManageError> {
        let from = self.shared().key_of(source);
        self.replicate(from, to, Some(Access::secret())).await
    }

    async fn replicate(&self, from: TideKey, to: &str, access: Option<Access<PeerId>>) -> Result<Aeon, ManageError> {
        let to = self.covered(to)?;
        // That it is published is no reason to kill it.
        if matches!(&from, TideKey::Publication { agent, path } if agent == self.agent().name() && *path == to) {
            return Err(ManageError::SamePath(to));
        }
        let declared: Arc<Declared> = self.declared().clone();
        ask(self.shared(), |reply| Manage::Replicate { from, declared, to, access, reply }).await
    }
}

/// What is kept of a replica is its reader's to say. Agents of one node that follow one source share
/// its replica, and so its rule.
impl<L: Lake> Subscriptions<L> {
    /// Sets what is kept of a replica here: see [`Agent::rule`]. It needs a state: wait for the first
    /// update. It is kept over restarts, and goes with the replica.
    pub async fn rule(&self, source: &Source, rule: Rule) -> Result<(), ManageError> {
        let key = self.replica(source)?;
        ask(self.shared(), |reply| Manage::Rule { key, rule, reply }).await
    }

    /// Makes a rock of a replica now, and drops everything older here: see [`Agent::wipe`].
    pub async fn wipe(&self, source: &Source) -> Result<(), ManageError> {
        let key = self.replica(source)?;
        ask(self.shared(), |reply| Manage::Wipe { key, reply }).await
    }

    /// The replica of a source; of this node's own paths there is none, and the publisher's rule holds.
    fn replica(&self, source: &Source) -> Result<TideKey, ManageError> {
        match self.shared().key_of(source) {
            key @ TideKey::Replica(_) => Ok(key),
            TideKey::Publication { path, .. } => Err(ManageError::NoState(path)),
        }
    }
}
