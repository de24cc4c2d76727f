//! Dialling: for each peer that is wanted one task keeps a connection to it. Peers of earlier runs are told that this node is
//! back, and where an address of this node is gone its connections are made again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use iroh::{
    EndpointAddr,
    endpoint::{Connection, ConnectionError},
};
use tokio::{sync::watch, time::timeout};
use tracing::{Instrument, debug, info_span};

use super::{
    Greeted, Link, Peer, Refused,
    backoff::{Backoff, jittered},
    connection::{adopt, remember},
    moves::{NEXT_TRY, TRIED_FOR},
};
use crate::{
    gate::Gate,
    limits::{ABSENT_DIAL_TIMEOUT, BOTH_DIALLED, DIAL_TIMEOUT, HELLO_TIMEOUT},
    network::{self, CloseCode, STREAMS, allow_streams, widen},
    shared::Shared,
    source::PeerId,
    sync::lock,
};

/// The age from which a connection is replaced: at the other side, which may have greeted it a little later, it must not be
/// taken for one that both sides have dialled at once.
const REPLACEABLE_AFTER: Duration = BOTH_DIALLED.saturating_add(Duration::from_millis(500));

/// A connection that the other side closes to make room after so long was no stranger there: see [`crate::gate`].
const CROWDED_AFTER: Duration = HELLO_TIMEOUT;

/// A wish for a connection to a peer, until it is dropped.
pub(crate) struct Want {
    shared: Arc<Shared>,
    pub(crate) peer: Arc<Peer>,
    is_chosen: bool,
}

impl Want {
    /// Of a peer that the owner of this node has chosen: it is known from now on.
    pub(crate) fn new(shared: &Arc<Shared>, id: PeerId) -> Self {
        let want = Self::wish(shared, id, true);
        for greeted in &lock(&want.peer.state).connections {
            widen(&greeted.connection);
            allow_streams(&greeted.connection, STREAMS);
        }
        Gate::make_known(shared, id);
        want
    }

    /// Of a peer that is only to be told something.
    pub(crate) fn to_tell(shared: &Arc<Shared>, id: PeerId) -> Self {
        Self::wish(shared, id, false)
    }

    fn wish(shared: &Arc<Shared>, id: PeerId, is_chosen: bool) -> Self {
        let (peer, dialling) = shared.peers.with(id, |state| {
            state.wants += 1;
            state.chosen += usize::from(is_chosen);
            std::mem::replace(&mut state.dialling, true)
        });
        if !dialling {
            let span = info_span!("dial", peer = %id.fmt_short());
            let dialling = keep_connected(shared.clone(), peer.clone()).instrument(span);
            shared.tasks.spawn(dialling);
        }
        Self { shared: shared.clone(), peer, is_chosen }
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.peer.state);
            state.wants -= 1;
            state.chosen -= usize::from(self.is_chosen);
        }
        // The task that keeps the connection looks at the wish when its link changes or its wait is over.
        self.peer.link.send_modify(|_| {});
        self.shared.peers.reap(&self.peer);
    }
}

/// Dials a peer whenever there is no connection to it, until no one wants one.
async fn keep_connected(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut link = peer.link();
    let mut moves = shared.moves.subscribe();
    let mut backoff = Backoff::new();
    loop {
        {
            let mut state = lock(&peer.state);
            if state.wants == 0 || shared.closing.is_cancelled() {
                state.dialling = false;
                break;
            }
        }
        let is_up = matches!(*link.borrow_and_update(), Link::Up(_));
        let begun = Instant::now();
        let connected = if is_up {
            Ok(())
        } else {
            tokio::select! {
                dialled = dial(&shared, &peer, Dial::again(backoff.is_absent())) => dialled,
                // The peer may come to us first.
                () = until_up(&mut link) => Ok(()),
                () = shared.closing.cancelled() => continue,
            }
        };
        match connected {
            Ok(()) => {
                if let Some(connection) = peer.connection() {
                    remember_chosen(&shared, &peer, &connection).await;
                }
                // Connected: wait until that is over. A link that does not hold is not dialled at once.
                tokio::select! {
                    () = until_down(&mut link, &peer) => {}
                    () = shared.closing.cancelled() => {}
                }
                if lock(&peer.state).refused.is_none() {
                    backoff.connected(begun.elapsed());
                }
                // It has given the place to another: asked for at once, it would take that of a third.
                if begun.elapsed() > CROWDED_AFTER && std::mem::take(&mut lock(&peer.state).crowded) {
                    backoff.crowded();
                }
            }
            Err(error) => {
                debug!(%error, "the peer cannot be reached");
                peer.unreachable();
            }
        }
        backoff.answered(lock(&peer.state).refused.is_some());
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = until_up(&mut link) => {}
            // This node has moved: the peer may be in reach from here.
            Ok(()) = moves.changed() => backoff = Backoff::new(),
            () = shared.closing.cancelled() => {}
        }
    }
    shared.peers.reap(&peer);
}

/// Waits for a connection that is not about to be found closed.
async fn until_up(link: &mut watch::Receiver<Link>) {
    // The sender lives in the peer, which the caller holds.
    let _ = link.wait_for(|link| link.connection().is_some()).await;
}

async fn remember_chosen(shared: &Shared, peer: &Peer, connection: &Connection) {
    let is_chosen = lock(&peer.state).chosen > 0;
    if is_chosen {
        remember(shared, peer, connection).await;
    }
}

async fn until_down(link: &mut watch::Receiver<Link>, peer: &Peer) {
    loop {
        // The link is let go of before the state is locked: who changes the link holds the state.
        let up = matches!(*link.borrow_and_update(), Link::Up(_));
        if !up || lock(&peer.state).wants == 0 || link.changed().await.is_err() {
            return;
        }
    }
}

/// The manner of a dial.
#[derive(Clone, Copy)]
struct Dial {
    /// A person waits: it is dialled beside an attempt that is under way, perhaps at an older address.
    at_once: bool,
    /// The peer is away for long: those that were just lost do not wait for it, and a slow line has time to answer.
    absent: bool,
    /// The connection that another one is to take the place of.
    replaces: Option<usize>,
    within: Duration,
}

impl Dial {
    fn again(absent: bool) -> Self {
        Self { at_once: false, absent, replaces: None, within: if absent { ABSENT_DIAL_TIMEOUT } else { DIAL_TIMEOUT } }
    }
}

/// Why a peer cannot be reached.
#[derive(Debug)]
pub(crate) struct Unreached {
    /// It answers, and has closed the connection for this reason.
    pub(crate) code: Option<CloseCode>,
    why: String,
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<String> for Unreached {
    fn from(why: String) -> Self {
        Self { code: None, why }
    }
}

impl Unreached {
    /// A connection that ended before both have said hello.
    fn closed(refused: Option<Refused>, error: &ConnectionError) -> Self {
        let code = match error {
            ConnectionError::ApplicationClosed(close) => CloseCode::of(close.error_code),
            _ => None,
        };
        let why = match refused {
            Some(Refused::Versions(mismatch)) => mismatch.to_string(),
            _ => groundswell_core::Visible(error).to_string(),
        };
        Self { code, why }
    }
}

/// Dials a peer in its turn, and waits until the two have said hello. Does nothing where somebody else has a connection
/// meanwhile.
async fn dial(shared: &Arc<Shared>, peer: &Arc<Peer>, how: Dial) -> Result<(), Unreached> {
    if how.at_once {
        return greet_at_known(shared, peer, how.within).await;
    }
    let alone = async {
        let _alone = peer.dialled.lock().await;
        let is_new = |connection: Connection| how.replaces != Some(connection.stable_id());
        if peer.connection().is_some_and(is_new) {
            return Ok(());
        }
        greet_at_known(shared, peer, how.within).await
    };
    shared.dials.in_turn(how.absent, alone).await
}

async fn greet_at_known(shared: &Arc<Shared>, peer: &Arc<Peer>, within: Duration) -> Result<(), Unreached> {
    let addr = lock(&peer.state).addresses.of(peer.id);
    let known = shared.knows(peer.id);
    // Both are given back if this future is dropped while it dials.
    let place = known.then(|| Gate::dials(shared, peer.id)).transpose().map_err(CloseCode::reason)?;
    let held = shared.peers.hold(peer.id);
    let Some(endpoint) = shared.endpoint() else { return Err("the node is shut down".to_owned().into()) };
    let connected = timeout(within, network::connect(&endpoint, addr, known)).await;
    // An earlier refusal says nothing about a peer that is not there.
    lock(&peer.state).refused = None;
    let connection = connected.map_err(|_| "no answer".to_owned())??;
    let place = match place {
        Some(place) => place,
        None => Gate::has_dialled(shared, &connection).map_err(|code| {
            code.close(&connection);
            code.reason()
        })?,
    };
    let mut link = peer.link();
    link.mark_unchanged();
    adopt(shared, connection.clone(), shared.id, held, place);
    // Adopted means greeted, or closed.
    tokio::select! {
        () = until_up(&mut link) => Ok(()),
        error = connection.closed() => {
            let mut state = lock(&peer.state);
            state.refused = Refused::of(&error).or(state.refused);
            Err(Unreached::closed(state.refused, &error))
        }
    }
}

/// Connects to a peer at these addresses, or uses the open connection. A caller waits for it: the peer is dialled at once,
/// with the deadline of a slow line.
pub(crate) async fn connect(shared: &Arc<Shared>, addr: &EndpointAddr) -> Result<Connection, Unreached> {
    let held = shared.peers.hold(addr.id);
    let peer = held.0.clone();
    lock(&peer.state).addresses.learn(addr);
    let mut link = peer.link();
    let connected = async {
        if let Some(known) = peer.connection() {
            return Ok(known);
        }
        let how = Dial { at_once: true, within: ABSENT_DIAL_TIMEOUT, ..Dial::again(false) };
        tokio::select! {
            dialled = dial(shared, &peer, how) => dialled?,
            () = until_up(&mut link) => {}
        }
        peer.connection().ok_or_else(|| "the connection ended at once".to_owned().into())
    };
    let connected = connected.await;
    drop(held);
    shared.peers.reap(&peer);
    connected
}

/// Makes the connection to a peer again that was not chosen yet when it was made, and may have little on its way for that.
pub(crate) fn renew(shared: &Arc<Shared>, id: PeerId) {
    let (peer, ()) = shared.peers.with(id, |_| ());
    let task = shared.clone();
    shared.tasks.spawn(async move {
        tokio::select! {
            () = replace_link(&task, &peer) => {}
            () = task.closing.cancelled() => {}
        }
    });
}

/// Makes the connections to all peers again, each in a task of its own, after an address of this node is gone.
pub(super) fn connect_anew(shared: &Arc<Shared>) {
    let peers: Vec<Arc<Peer>> = lock(&shared.peers.all).values().cloned().collect();
    peers.iter().for_each(|peer| renew(shared, peer.id));
}

/// Dials a peer beside the connection that there is, until another is its link.
async fn replace_link(shared: &Arc<Shared>, peer: &Arc<Peer>) {
    let mut link = peer.link();
    let Link::Up(old) = link.borrow_and_update().clone() else { return };
    let is_old = |link: &Link| matches!(link, Link::Up(now) if now.stable_id() == old.stable_id());
    let of_old = |greeted: &&Greeted| greeted.connection.stable_id() == old.stable_id();
    let Some(since) = lock(&peer.state).connections.iter().find(of_old).map(|greeted| greeted.since) else { return };
    tokio::time::sleep_until((since + REPLACEABLE_AFTER).into()).await;
    let begun = Instant::now();
    let how = Dial { replaces: Some(old.stable_id()), ..Dial::again(false) };
    while begun.elapsed() < TRIED_FOR && is_old(&link.borrow_and_update()) {
        tokio::select! {
            // It may have to wait for its turn.
            _ = link.wait_for(|link| !is_old(link)) => return,
            dialled = dial(shared, peer, how) => if let Err(error) = dialled {
                debug!(%error, "the connection cannot be made again yet");
            },
        }
        tokio::select! {
            _ = link.wait_for(|link| !is_old(link)) => return,
            () = tokio::time::sleep(jittered(NEXT_TRY)) => {}
        }
    }
}

/// Tells a peer of an earlier run that this node is back: it need not wait for its own dialling.
pub(crate) async fn announce(shared: Arc<Shared>, addr: EndpointAddr) {
    let held = shared.peers.hold(addr.id);
    let peer = held.0.clone();
    lock(&peer.state).addresses.learn(&addr);
    let mut link = peer.link();
    let told = tokio::select! {
        // It may be off for long, and those that this node follows are not to wait for it.
        told = dial(&shared, &peer, Dial { absent: true, ..Dial::again(false) }) => told,
        () = until_up(&mut link) => Ok(()),
        () = shared.closing.cancelled() => Ok(()),
    };
    if let Err(error) = told {
        debug!(peer = %addr.id.fmt_short(), %error, "a peer of an earlier run is not there");
    }
    drop(held);
    shared.peers.reap(&peer);
}
