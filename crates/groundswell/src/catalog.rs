//! The catalog: which cell stands for which path or source, and what agents have declared.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
};

use groundswell_core::{Access, Name, Pattern};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cell::TideCell,
    changes::StatusChanges,
    error::DeclareError,
    limits::MAX_SUBSCRIPTIONS,
    source::{PeerId, Source},
    store::{Fail, TideKey},
    sync::lock,
};

/// Which way a declaration goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Out,
    In,
}

#[derive(Default)]
pub(crate) struct Catalog {
    cells: Mutex<HashMap<TideKey, Arc<TideCell>>>,
    declared: Mutex<HashMap<(Name, Direction), Vec<Pattern>>>,
    /// Which agents follow which source, and how the task that follows it is stopped.
    followers: Mutex<HashMap<Source, Followers>>,
    /// Which agent's handler failed on which state.
    fails: Mutex<HashMap<(Name, Source), Fail>>,
    /// Which peers some path is open to by name.
    pub(crate) allowed: Allowed,
    /// Counts the changes of who follows what, for those who handle everything that an agent follows.
    followed: watch::Sender<u64>,
    /// Told of all that a status shows.
    pub(crate) changes: StatusChanges,
}

/// The peers that some path is open to by name, and by how many paths each is named.
#[derive(Default)]
pub(crate) struct Allowed(Mutex<HashMap<PeerId, usize>>);

impl Allowed {
    pub(crate) fn contains(&self, peer: PeerId) -> bool {
        lock(&self.0).contains_key(&peer)
    }

    /// Notes the access of a path in the place of what it had.
    pub(crate) fn change(&self, before: Option<&Access<PeerId>>, after: &Access<PeerId>) {
        let mut allowed = lock(&self.0);
        if let Access::Only(peers) = after {
            for peer in peers {
                *allowed.entry(*peer).or_default() += 1;
            }
        }
        if let Some(Access::Only(peers)) = before {
            for peer in peers {
                if let Entry::Occupied(mut paths) = allowed.entry(*peer) {
                    *paths.get_mut() -= 1;
                    if *paths.get() == 0 {
                        paths.remove();
                    }
                }
            }
        }
    }
}

/// What an agent that follows a source is to know.
pub(crate) struct Followed {
    /// No agent did before, so that the caller has to begin.
    pub(crate) first: bool,
    /// Set when this agent quits.
    pub(crate) quit: CancellationToken,
    /// Set when the last agent has.
    pub(crate) all_quit: CancellationToken,
}

#[derive(Default)]
struct Followers {
    /// Each says when its agent has quit.
    agents: HashMap<Name, CancellationToken>,
    /// Says when the last of them has.
    quit: CancellationToken,
}

impl Catalog {
    /// The cell of a key; without state, where nothing is there yet.
    pub(crate) fn cell(&self, key: &TideKey) -> Arc<TideCell> {
        let mut cells = lock(&self.cells);
        cells.entry(key.clone()).or_insert_with(|| Arc::new(TideCell::new(key.clone(), self.changes.clone()))).clone()
    }

    /// The cell of a key, where one is.
    pub(crate) fn existing(&self, key: &TideKey) -> Option<Arc<TideCell>> {
        lock(&self.cells).get(key).cloned()
    }

    /// Every cell that there is.
    pub(crate) fn cells(&self) -> Vec<Arc<TideCell>> {
        lock(&self.cells).values().cloned().collect()
    }

    /// The cell of this key is gone; who comes later gets another.
    pub(crate) fn forget(&self, key: &TideKey) {
        lock(&self.cells).remove(key);
        self.changes.note();
    }

    /// Lets go of a cell that was waited at. One without state that no one else holds is
    /// forgotten, so that asking for paths that do not exist takes no lasting memory.
    pub(crate) fn release(&self, cell: Arc<TideCell>) {
        let mut cells = lock(&self.cells);
        // The map's own and the caller's.
        if !cell.has_state() && !cell.is_killed() && Arc::strong_count(&cell) <= 2 {
            cells.remove(cell.key());
            self.changes.note();
        }
        // Let go of under the lock, so that of two who do so at once the second sees it.
        drop(cell);
    }

    /// Notes a declaration, or refuses it where it overlaps another of the same agent and direction.
    pub(crate) fn declare(&self, agent: &Name, direction: Direction, pattern: &Pattern) -> Result<(), DeclareError> {
        let mut declared = lock(&self.declared);
        let patterns = declared.entry((agent.clone(), direction)).or_default();
        if let Some(other) = patterns.iter().find(|other| other.overlaps(pattern)) {
            return Err(DeclareError::Overlap {
                agent: agent.clone(),
                pattern: pattern.clone(),
                declared: other.clone(),
            });
        }
        patterns.push(pattern.clone());
        Ok(())
    }

    /// Takes back a declaration that could not be carried out.
    pub(crate) fn undeclare(&self, agent: &Name, direction: Direction, pattern: &Pattern) {
        let mut declared = lock(&self.declared);
        if let Some(patterns) = declared.get_mut(&(agent.clone(), direction)) {
            patterns.retain(|other| other != pattern);
        }
    }

    /// Notes that an agent follows a source, and tells when it, and when every agent, has quit.
    pub(crate) fn follow(&self, source: &Source, agent: &Name) -> Followed {
        let mut followers = lock(&self.followers);
        let followers = followers.entry(source.clone()).or_default();
        let first = followers.agents.is_empty();
        let all_quit = followers.quit.clone();
        let quit = followers.agents.entry(agent.clone()).or_insert_with(|| all_quit.child_token()).clone();
        self.followed.send_modify(|changes| *changes = changes.wrapping_add(1));
        Followed { first, quit, all_quit }
    }

    /// Notes that an agent no longer follows a source; true where no agent does any more.
    pub(crate) fn unfollow(&self, source: &Source, agent: &Name) -> bool {
        let mut all = lock(&self.followers);
        lock(&self.fails).remove(&(agent.clone(), source.clone()));
        let Some(followers) = all.get_mut(source) else { return true };
        if let Some(quit) = followers.agents.remove(agent) {
            quit.cancel();
        }
        let last = followers.agents.is_empty();
        if last {
            followers.quit.cancel();
            all.remove(source);
        }
        self.followed.send_modify(|changes| *changes = changes.wrapping_add(1));
        last
    }

    /// Whether an agent follows a source.
    pub(crate) fn follows(&self, agent: &Name, source: &Source) -> bool {
        lock(&self.followers).get(source).is_some_and(|followers| followers.agents.contains_key(agent))
    }

    /// Wakes whenever any agent begins or ends to follow anything.
    pub(crate) fn watch_followed(&self) -> watch::Receiver<u64> {
        self.followed.subscribe()
    }

    /// How an agent's handler failed on the state of a source, if it did.
    pub(crate) fn fail(&self, agent: &Name, source: &Source) -> Option<Fail> {
        lock(&self.fails).get(&(agent.clone(), source.clone())).cloned()
    }

    /// Notes that it did, or no longer does.
    pub(crate) fn set_fail(&self, agent: &Name, source: &Source, fail: Option<Fail>) {
        let key = (agent.clone(), source.clone());
        match fail {
            Some(fail) => lock(&self.fails).insert(key, fail),
            None => lock(&self.fails).remove(&key),
        };
    }

    /// Whether as many sources are followed as a node may, and this is not one of them. So many, with this one, are about
    /// to be followed, and count too.
    pub(crate) fn is_full(&self, source: &Source, beginning: usize) -> bool {
        let all = lock(&self.followers);
        all.len() + beginning > MAX_SUBSCRIPTIONS && !all.contains_key(source)
    }

    /// What says that an agent has quit a source, while it follows it.
    pub(crate) fn quit_of(&self, source: &Source, agent: &Name) -> Option<CancellationToken> {
        lock(&self.followers).get(source)?.agents.get(agent).cloned()
    }

    /// The sources that an agent follows.
    pub(crate) fn followed_by(&self, agent: &Name) -> Vec<Source> {
        let all = lock(&self.followers);
        let followed = all.iter().filter(|(_, followers)| followers.agents.contains_key(agent));
        followed.map(|(source, _)| source.clone()).collect()
    }
}
