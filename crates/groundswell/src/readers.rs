//! Who reads a cell: how many do, and how far each has come, for the node's status. Nothing waits for it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex},
};

use groundswell_core::Aeon;
use tokio::sync::watch;

use crate::{changes::StatusChanges, sync::lock};

/// The place of one that is not to be waited for: it reads nothing, since it may not, or has asked for another lake.
const NOWHERE: u64 = u64::MAX;

/// The readers of one cell. Clones are the same.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Inner>);

struct Inner {
    /// Told that there is one more or less. How far they have come changes with each wave, and is not told.
    changes: StatusChanges,
    places: Mutex<Places>,
}

/// One number a reader, as there may be thousands.
#[derive(Default)]
struct Places {
    places: Vec<u64>,
    /// Which of them no reader has now.
    free: Vec<usize>,
}

impl Readers {
    pub(crate) fn new(changes: StatusChanges) -> Self {
        Self(Arc::new(Inner { changes, places: Mutex::default() }))
    }

    /// One more, which counts for as long as it is there.
    pub(crate) fn add(&self, versions: watch::Receiver<u64>) -> Reader {
        let mut places = lock(&self.0.places);
        let place = match places.free.pop() {
            Some(place) => place,
            None => {
                places.places.push(NOWHERE);
                places.places.len() - 1
            }
        };
        drop(places);
        self.0.changes.note();
        Reader { versions, place, among: self.clone() }
    }

    /// How many there are, those included that wait for the path.
    pub(crate) fn count(&self) -> usize {
        let places = lock(&self.0.places);
        places.places.len() - places.free.len()
    }

    /// How many waves the slowest is away from this aeon.
    pub(crate) fn lag(&self, newest: Aeon) -> u64 {
        let places = lock(&self.0.places);
        places.places.iter().map(|place| newest.0.saturating_sub(*place)).max().unwrap_or(0)
    }
}

/// A reader of a cell. It wakes at each change of anything there.
pub(crate) struct Reader {
    versions: watch::Receiver<u64>,
    place: usize,
    among: Readers,
}

impl Reader {
    /// It has everything up to this aeon: 0, where it has nothing yet.
    pub(crate) fn has(&self, aeon: Option<Aeon>) {
        self.stands(aeon.map_or(0, |aeon| aeon.0));
    }

    /// There is nothing for it to read.
    pub(crate) fn has_no_place(&self) {
        self.stands(NOWHERE);
    }

    fn stands(&self, at: u64) {
        if let Some(place) = lock(&self.among.0.places).places.get_mut(self.place) {
            *place = at;
        }
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
        let mut places = lock(&self.among.0.places);
        if let Some(place) = places.places.get_mut(self.place) {
            *place = NOWHERE;
        }
        places.free.push(self.place);
        drop(places);
        // By now it can be seen that it is gone.
        self.among.0.changes.note();
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
        assert_eq!((readers.lag(Aeon(9)), readers.count()), (0, 2));
        // Who comes after it does not stand where it stood.
        let next = readers.add(version.subscribe());
        assert_eq!((readers.lag(Aeon(9)), readers.count()), (0, 3));
        next.has(Some(Aeon(8)));
        assert_eq!(readers.lag(Aeon(9)), 1);
    }
}
