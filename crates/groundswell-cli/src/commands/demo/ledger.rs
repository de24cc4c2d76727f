//! The books of the waves: what the machines gave, what the manager's node saw of it, and when.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use groundswell::{Aeon, FreshnessKind};
use tokio::sync::watch;

use super::latency::Latency;

/// The paths of each machine, which stand in this order everywhere.
pub(super) const PATHS: [&str; 2] = ["/sales", "/till"];

/// How many waves of a path are remembered until they are seen. More are not under way in a second.
const MAX_UNDER_WAY: usize = 4_096;

/// The books of all machines.
pub(super) struct Ledger {
    machines: Vec<[Account; 2]>,
    latency: Mutex<Latency>,
}

/// The book of one path of one machine.
pub(super) struct Account {
    /// When the waves that were not seen yet were given, by aeon.
    under_way: Mutex<VecDeque<(Aeon, Instant)>>,
    given: AtomicU64,
    seen: AtomicU64,
    live: AtomicU64,
    jumps: AtomicU64,
    out_of_order: AtomicU64,
    returns: AtomicU64,
    newest_given: AtomicU64,
    standing: watch::Sender<Standing>,
}

/// How a path stands at the manager's node.
#[derive(Debug, Clone, Copy)]
struct Standing {
    newest_seen: u64,
    freshness: FreshnessKind,
}

/// The sums of all books.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    /// Waves given.
    pub(super) given: u64,
    /// Waves seen.
    pub(super) seen: u64,
    /// Those among them that were live.
    pub(super) live: u64,
    /// Updates that skipped waves.
    pub(super) jumps: u64,
    /// Updates whose aeon did not follow from the one before.
    pub(super) out_of_order: u64,
    /// How often a path came back after its machine was away.
    pub(super) returns: u64,
}

impl Ledger {
    pub(super) fn new(machines: usize) -> Self {
        let machines = (0..machines).map(|_| std::array::from_fn(|_| Account::new())).collect();
        Self { machines, latency: Mutex::new(Latency::new()) }
    }

    /// The book of a path; `path` counts as [`PATHS`] does.
    pub(super) fn account(&self, machine: usize, path: usize) -> &Account {
        &self.machines[machine][path]
    }

    pub(super) fn latency(&self) -> MutexGuard<'_, Latency> {
        lock(&self.latency)
    }

    /// The manager's node saw an update.
    pub(super) fn see(&self, machine: usize, path: usize, update: Seen) {
        let account = self.account(machine, path);
        let given = account.see(update);
        if let Some(given) = given.filter(|_| update.live) {
            self.latency().add(given.elapsed());
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for account in self.machines.iter().flatten() {
            let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            totals.given += get(&account.given);
            totals.seen += get(&account.seen);
            totals.live += get(&account.live);
            totals.jumps += get(&account.jumps);
            totals.out_of_order += get(&account.out_of_order);
            totals.returns += get(&account.returns);
        }
        totals
    }

    /// Waits until the manager's node has seen all that was given, and every machine is there again.
    pub(super) async fn settled(&self) {
        for account in self.machines.iter().flatten() {
            let newest = account.newest_given.load(Ordering::Relaxed);
            // The sender is in the account, which outlives this.
            let live = |at: &Standing| at.newest_seen >= newest && at.freshness == FreshnessKind::Live;
            let _ = account.standing.subscribe().wait_for(live).await;
        }
    }
}

/// What the manager's node saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) aeon: Aeon,
    /// Whether a wave led here, or a rock.
    pub(super) wave: bool,
    pub(super) live: bool,
    /// Where it stood before.
    pub(super) before: Option<Aeon>,
}

impl Account {
    fn new() -> Self {
        Self {
            under_way: Mutex::default(),
            given: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            live: AtomicU64::new(0),
            jumps: AtomicU64::new(0),
            out_of_order: AtomicU64::new(0),
            returns: AtomicU64::new(0),
            newest_given: AtomicU64::new(0),
            standing: watch::Sender::new(Standing { newest_seen: 0, freshness: FreshnessKind::Connecting }),
        }
    }

    /// A wave is about to be given: it will be the next one. A path has one giver.
    pub(super) fn giving(&self) {
        let next = Aeon(self.newest_given.load(Ordering::Relaxed)).next();
        let mut under_way = lock(&self.under_way);
        if under_way.len() == MAX_UNDER_WAY {
            under_way.pop_front();
        }
        under_way.push_back((next, Instant::now()));
    }

    /// It is given.
    pub(super) fn has_given(&self, aeon: Aeon) {
        self.given.fetch_add(1, Ordering::Relaxed);
        self.newest_given.store(aeon.0, Ordering::Relaxed);
    }

    /// Returns when the wave was given, if it is known.
    fn see(&self, update: Seen) -> Option<Instant> {
        let follows = update.before.is_none_or(|before| match update.wave {
            true => update.aeon == before.next(),
            false => update.aeon > before,
        });
        if !follows {
            self.out_of_order.fetch_add(1, Ordering::Relaxed);
        }
        match (update.wave, update.before) {
            (true, _) => {
                self.seen.fetch_add(1, Ordering::Relaxed);
            }
            (false, Some(_)) => {
                self.jumps.fetch_add(1, Ordering::Relaxed);
            }
            (false, None) => {}
        }
        if update.live {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
        let mut given = None;
        let mut under_way = lock(&self.under_way);
        while let Some((aeon, at)) = under_way.pop_front_if(|(aeon, _)| *aeon <= update.aeon) {
            given = (aeon == update.aeon).then_some(at);
        }
        drop(under_way);
        self.standing.send_modify(|at| at.newest_seen = update.aeon.0);
        given
    }

    /// What is known of the machine changed.
    pub(super) fn set_freshness(&self, freshness: FreshnessKind) {
        self.standing.send_modify(|at| at.freshness = freshness);
    }

    /// It has caught up; `again` says that it was away before.
    pub(super) fn caught_up(&self, again: bool) {
        if again {
            self.returns.fetch_add(1, Ordering::Relaxed);
        }
        self.set_freshness(FreshnessKind::Live);
    }
}

/// A panic elsewhere has not left any of this half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(aeon: u64, before: u64) -> Seen {
        Seen { aeon: Aeon(aeon), wave: true, live: true, before: Some(Aeon(before)) }
    }

    #[test]
    fn what_is_seen_is_booked_against_what_was_given() {
        let ledger = Ledger::new(1);
        let account = ledger.account(0, 0);
        for aeon in 1..=3 {
            account.giving();
            account.has_given(Aeon(aeon));
        }
        ledger.see(0, 0, Seen { aeon: Aeon(0), wave: false, live: false, before: None });
        ledger.see(0, 0, wave(1, 0));
        ledger.see(0, 0, Seen { aeon: Aeon(3), wave: false, live: false, before: Some(Aeon(1)) });
        let totals = Totals { given: 3, seen: 1, live: 1, jumps: 1, out_of_order: 0, returns: 0 };
        assert_eq!(ledger.totals(), totals);
        assert_eq!(ledger.latency().count(), 1);
        assert!(lock(&account.under_way).is_empty());
        ledger.see(0, 0, wave(5, 3));
        assert_eq!(ledger.totals().out_of_order, 1);
    }
}
