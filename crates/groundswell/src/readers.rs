//! Who reads a cell: how many do, and how far each has come, for the node's status. Nothing waits for it.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use groundswell_core::Aeon;
use tokio::sync::watch;

use crate::{changes::StatusChanges, sync::lock};

/// The place of one that is not to be waited for: it reads nothing, since it may not, or has asked for another lake.
const NOWHERE: u64 = u64::MAX;

/// The readers of one cell. Clones are the same.
#[derive(Clone)]
pub(crate) struct Readers {
    /// Told that there is one more or less. How far they have come changes with each wave, and is not told.
    changes: StatusChanges,
    places: Arc<Mutex<Places>>,
}

#[derive(Default)]
struct Places {
    next: u64,
    by_reader: HashMap<u64, Arc<AtomicU64>>,
}

impl Readers {
    pub(crate) fn new(changes: StatusChanges) -> Self {
        Self { changes, places: Arc::default() }
    }

    /// One more, which counts for as long as it is there.
    pub(crate) fn add(&self, versions: watch::Receiver<u64>) -> Reader {
        let place = Arc::new(AtomicU64::new(NOWHERE));
        let mut places = lock(&self.places);
        let number = places.next;
        places.next += 1;
        places.by_reader.insert(number, place.clone());
        drop(places);
        self.changes.note();
        Reader { versions, place, number, among: self.clone() }
    }

    /// How many there are, those included that wait for the path.
    pub(crate) fn count(&self) -> usize {
        lock(&self.places).by_reader.len()
    }

    /// How many waves the slowest is away from this aeon.
    pub(crate) fn lag(&self, newest: Aeon) -> u64 {
        let places = lock(&self.places);
        let lags = places.by_reader.values().map(|place| newest.0.saturating_sub(place.load(Ordering::Relaxed)));
        lags.max().unwrap_or(0)
    }
}

/// A reader of a cell. It wakes at each change of anything there.
pub(crate) struct Reader {
    versions: watch::Receiver<u64>,
    place: Arc<AtomicU64>,
    number: u64,
    among: Readers,
}

impl Reader {
    /// It has everything up to this aeon: 0, where it has nothing yet.
    pub(crate) fn has(&self, aeon: Option<Aeon>) {
        self.place.store(aeon.map_or(0, |aeon| aeon.0), Ordering::Relaxed);
    }

    /// There is nothing for it to read.
    pub(crate) fn has_no_place(&self) {
        self.place.store(NOWHERE, Ordering::Relaxed);
    }
}

impl Deref for Reader {
    type Target = watch::Receiver<u64>;
    fn deref(&self) -> &Self::Target {
        &self.versions
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.versions
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        lock(&self.among.places).by_reader.remove(&self.number);
        // By now it can be seen that it is gone.
        self.among.changes.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_looks_after_a_reader_was_noted_sees_whether_it_is_there() {
        let (changes, version) = (StatusChanges::default(), watch::Sender::new(0));
        let (readers, mut seen) = (Readers::new(changes.clone()), changes.watch());
        let reader = readers.add(version.subscribe());
        assert!(seen.has_changed().unwrap());
        assert_eq!((*seen.borrow_and_update(), readers.count()), (1, 1));
        drop(reader);
        assert_eq!((*seen.borrow_and_update(), readers.count()), (2, 0));
    }

    #[test]
    fn the_slowest_of_those_who_read_says_how_far_they_are_behind() {
        let version = watch::Sender::new(0);
        let readers = Readers::new(StatusChanges::default());
        assert_eq!(readers.lag(Aeon(9)), 0);
        let [one, other, waiting] = std::array::from_fn(|_| readers.add(version.subscribe()));
        waiting.has_no_place();
        one.has(Some(Aeon(9)));
        other.has(None);
        assert_eq!(readers.lag(Aeon(9)), 9);
        other.has(Some(Aeon(7)));
        assert_eq!(readers.lag(Aeon(9)), 2);
        // A reader may have been told of a wave that is looked for a moment later.
        assert_eq!(readers.lag(Aeon(6)), 0);
        drop(other);
        assert_eq!(readers.lag(Aeon(9)), 0);
    }
}
