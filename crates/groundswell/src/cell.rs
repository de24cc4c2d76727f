//! The cell: what readers, local and remote, see of one tide. The driver alone changes it.

use std::{
    any::Any,
    sync::{Arc, RwLock},
};

use bytes::Bytes;
use groundswell_core::{
    Access, Aeon, Cursor, Digest, Epoch, Lake, LakeId,
    limits::READ_BATCH_BYTES,
    publisher::{Outflow, Step},
    tide::{Changes, Next, Tide},
};
use tokio::sync::watch;

use crate::{
    Moment,
    changes::StatusChanges,
    error::StorageError,
    fold::RockSlot,
    freshness::{Ended, Freshness},
    readers::{Reader, Readers},
    source::PeerId,
    store::{Backing, TideKey},
    sync::{read, write},
};

/// One tide as its readers share it. A cell can be there before its state is: who waits for
/// a path that does not exist yet waits here.
pub(crate) struct TideCell {
    key: TideKey,
    state: RwLock<State>,
    version: watch::Sender<u64>,
    readers: Readers,
    changes: StatusChanges,
}

struct State {
    /// Boxed, since there may be thousands that have none: each path that somebody waits for.
    body: Option<Box<Body>>,
    /// The history is about to be replaced in storage: what is read there may be of either.
    replacing: bool,
    freshness: Freshness,
    /// What of the state counts as the catch-up; later waves are live. `None` while
    /// the source has not said that this is everything.
    caught_up: Option<Aeon>,
    current_at: Option<Moment>,
    /// It has ended: a publication was killed, or the source of a replica said so.
    killed: bool,
    /// How many times the source was live and then was not, so that no reader misses one.
    away: u64,
    ended: Option<Ended>,
}

/// The state of a cell that has one.
pub(crate) struct Body {
    pub(crate) lake: LakeId,
    pub(crate) tide: Tide,
    pub(crate) backing: Backing,
    pub(crate) rock: Arc<dyn Any + Send + Sync>,
    /// Which remote peers may read it; of a replica, which no one can, nobody.
    pub(crate) access: Access<PeerId>,
}

/// What a local reader is to do next.
pub(crate) enum LocalNext {
    /// Read these waves: from memory if they are given, otherwise from storage.
    Waves { first: Aeon, last: Aeon, recent: Option<Vec<Bytes>>, backing: Backing },
    /// Take the rock in memory, which stands at least here.
    Rock(Cursor),
    /// There is nothing new.
    Wait,
    /// There is no state yet.
    Nothing,
    /// The state is of another lake than the reader's.
    LakeDiffers(LakeId),
}

/// The standing of a cell beside its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) freshness: Freshness,
    pub(crate) caught_up: Option<Aeon>,
    pub(crate) current_at: Option<Moment>,
    pub(crate) away: u64,
    pub(crate) ended: Option<Ended>,
}

/// What the server of a remote reader is to do next.
pub(crate) enum RemoteNext {
    /// There is no state, or none for this peer: the path is not available.
    Nothing,
    /// The path holds another lake than was asked for.
    LakeDiffers(LakeId),
    /// A step of the protocol, with what memory holds for it.
    Step {
        step: Step,
        recent: Option<Vec<Bytes>>,
        /// The digests that travel with the waves of the step, where it is one of waves.
        digests: Vec<(Aeon, Digest)>,
        backing: Backing,
    },
}

impl TideCell {
    /// A cell without state.
    pub(crate) fn new(key: TideKey, changes: StatusChanges) -> Self {
        let freshness = match key {
            TideKey::Publication { .. } => Freshness::NotAvailable,
            TideKey::Replica(_) => Freshness::Connecting,
        };
        let state = State {
            body: None,
            replacing: false,
            freshness,
            caught_up: None,
            current_at: None,
            killed: false,
            away: 0,
            ended: None,
        };
        Self {
            key,
            state: RwLock::new(state),
            version: watch::Sender::new(0),
            readers: Readers::new(changes.clone()),
            changes,
        }
    }

    pub(crate) fn key(&self) -> &TideKey {
        &self.key
    }

    /// One that reads it from here on.
    pub(crate) fn watch(&self) -> Reader {
        self.readers.add(self.version.subscribe())
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn has_state(&self) -> bool {
        read(&self.state).body.is_some()
    }

    pub(crate) fn cursor(&self) -> Option<Cursor> {
        read(&self.state).body.as_ref().map(|body| body.tide.cursor())
    }

    pub(crate) fn lake(&self) -> Option<LakeId> {
        read(&self.state).body.as_ref().map(|body| body.lake.clone())
    }

    pub(crate) fn standing(&self) -> Standing {
        let state = read(&self.state);
        Standing {
            freshness: state.freshness.clone(),
            caught_up: state.caught_up,
            current_at: state.current_at,
            away: state.away,
            ended: state.ended.clone(),
        }
    }

    /// The typed rock, where there is one and it is of this type.
    pub(crate) fn slot<L: Lake>(&self) -> Result<Option<Arc<RockSlot<L>>>, LakeId> {
        let state = read(&self.state);
        let Some(body) = &state.body else { return Ok(None) };
        match body.rock.clone().downcast::<RockSlot<L>>() {
            Ok(slot) => Ok(Some(slot)),
            Err(_) => Err(body.lake.clone()),
        }
    }

    /// Runs something on the tide, where there is one.
    pub(crate) fn with_tide<T>(&self, run: impl FnOnce(&Tide) -> T) -> Option<T> {
        read(&self.state).body.as_ref().map(|body| run(&body.tide))
    }

    /// The one question, for a local reader. It gets the rock in memory rather than a stored one.
    pub(crate) fn local_next(&self, cursor: Option<Cursor>, lake: &LakeId) -> LocalNext {
        let state = read(&self.state);
        let Some(body) = &state.body else { return LocalNext::Nothing };
        if body.lake != *lake {
            return LocalNext::LakeDiffers(body.lake.clone());
        }
        match body.tide.next(cursor) {
            Next::Waves { first, last } => LocalNext::Waves {
                first,
                last,
                recent: body.tide.recent_from(first, READ_BATCH_BYTES),
                backing: body.backing.clone(),
            },
            Next::Rock { .. } | Next::Ahead => LocalNext::Rock(body.tide.cursor()),
            Next::Wait => LocalNext::Wait,
        }
    }

    /// The same for the server of a remote reader, with so many bytes of waves at most, or one.
    pub(crate) fn remote_next(&self, outflow: &Outflow, lake: &LakeId, peer: &PeerId, max_bytes: usize) -> RemoteNext {
        let state = read(&self.state);
        // Before anything else: what a peer may not read is to it as what does not exist.
        let Some(body) = state.body.as_ref().filter(|body| body.access.allows(peer)) else {
            return RemoteNext::Nothing;
        };
        if body.lake != *lake {
            return RemoteNext::LakeDiffers(body.lake.clone());
        }
        let step = outflow.poll(&body.tide);
        let (recent, digests) = match step {
            Step::Waves { first, last } => {
                let rocks = body.tide.rocks().filter(|(aeon, _)| (first..=last).contains(aeon));
                let digests = rocks.map(|(aeon, info)| (aeon, info.digest)).collect();
                (body.tide.recent_from(first, max_bytes), digests)
            }
            _ => (None, Vec::new()),
        };
        RemoteNext::Step { step, recent, digests, backing: body.backing.clone() }
    }

    /// Storage is about to replace the history by another. Said before, and taken back by
    /// [`TideCell::commit`] or with `false`.
    pub(crate) fn set_replacing(&self, replacing: bool) {
        write(&self.state).replacing = replacing;
    }

    /// Whether what has just been read from storage is of this epoch: aeons alone do not tell,
    /// since a history that replaces another has them too.
    pub(crate) fn is_still(&self, epoch: Epoch) -> bool {
        let state = read(&self.state);
        !state.replacing && state.body.as_ref().is_some_and(|body| body.tide.cursor().epoch == epoch)
    }

    /// Gives the cell its state. Readers are woken by [`TideCell::wake`].
    pub(crate) fn begin(&self, body: Body) {
        let mut state = write(&self.state);
        if matches!(self.key, TideKey::Publication { .. }) {
            state.freshness = Freshness::Live;
            state.caught_up = Some(body.tide.cursor().aeon);
            state.current_at = None;
            state.killed = false;
        }
        state.body = Some(Box::new(body));
    }

    /// Who may read it, where it has a state.
    pub(crate) fn access(&self) -> Option<Access<PeerId>> {
        read(&self.state).body.as_ref().map(|body| body.access.clone())
    }

    /// From here on these may read it, and no others; who serves them looks again.
    pub(crate) fn set_access(&self, access: Access<PeerId>) {
        if let Some(body) = &mut write(&self.state).body {
            body.access = access;
        }
        self.wake();
    }

    /// A publication has ended, and has no state any more.
    pub(crate) fn kill(&self) {
        let mut state = write(&self.state);
        state.body = None;
        state.replacing = false;
        state.killed = true;
        drop(state);
        self.set_freshness(Freshness::Killed);
    }

    /// Notes of a replica whether its source has ended for this node. What is known of it
    /// otherwise is told by [`TideCell::set_freshness`].
    pub(crate) fn set_killed(&self, killed: bool) {
        write(&self.state).killed = killed;
    }

    pub(crate) fn is_killed(&self) -> bool {
        read(&self.state).killed
    }

    /// Makes durable changes visible, and the rock with them: whoever has seen where the tide stands finds a rock that
    /// is no older, and no rock is ahead of its tide. Readers are woken by [`TideCell::wake`].
    pub(crate) fn commit(&self, changes: Changes, show_rock: impl FnOnce()) {
        let mut state = write(&self.state);
        state.replacing = false;
        if let Some(body) = &mut state.body {
            body.tide.commit(changes);
        }
        show_rock();
    }

    /// The source says that this is everything, up to this aeon.
    pub(crate) fn caught_up(&self, aeon: Aeon) {
        let mut state = write(&self.state);
        state.freshness = Freshness::Live;
        state.caught_up = Some(aeon);
        state.current_at = None;
        drop(state);
        self.wake();
    }

    /// What is known of the source changes. Leaving `Live` notes when the state was current last.
    pub(crate) fn set_freshness(&self, freshness: Freshness) {
        let mut state = write(&self.state);
        let offline = |freshness: &Freshness| matches!(freshness, Freshness::Offline { .. });
        // Several parts may find out that a source is away. The first of them knows since when.
        if state.freshness == freshness || (offline(&state.freshness) && offline(&freshness)) {
            return;
        }
        if state.freshness == Freshness::Live {
            state.current_at = Some(match freshness {
                Freshness::Offline { since } => since,
                _ => Moment::now(),
            });
            state.away += 1;
        }
        if freshness != Freshness::Live {
            state.caught_up = None;
        }
        state.freshness = freshness;
        drop(state);
        self.wake();
    }

    /// Every stream of this cell ends, after what was committed.
    pub(crate) fn end(&self, why: Ended) {
        write(&self.state).ended.get_or_insert(why);
        self.wake();
    }

    /// Wakes every reader to look again.
    pub(crate) fn wake(&self) {
        self.version.send_modify(|version| *version = version.wrapping_add(1));
        self.changes.note();
    }
}

/// Reads the waves that a step asks for from storage, so many bytes of them or one, on a thread that may block.
pub(crate) async fn stored_waves(
    backing: Backing,
    first: Aeon,
    last: Aeon,
    max_bytes: usize,
) -> Result<Vec<Bytes>, StorageError> {
    blocking(move || backing.waves(first, last, max_bytes)).await
}

/// Reads a chunk of a rock likewise.
pub(crate) async fn stored_chunk(backing: Backing, aeon: Aeon, index: u32) -> Result<Option<Bytes>, StorageError> {
    blocking(move || backing.chunk(aeon, index)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(StorageError::new(error)))
}
