//! Where the older waves and the rocks of one tide are: on disk, or, for those that say so,
//! in memory alone.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

use bytes::Bytes;
use groundswell_core::{
    Aeon,
    limits::{READ_BATCH_BYTES, ROCK_CHUNK_BYTES},
    tide::{Changes, RockInfo, Tide},
};

use super::Store;
use crate::{
    error::StorageError,
    sync::{read, write},
};

/// The storage of one tide.
#[derive(Clone)]
pub(crate) enum Backing {
    Disk { store: Arc<Store>, id: u64 },
    Memory(Arc<RwLock<MemoryTide>>),
}

/// A tide that is not on disk.
#[derive(Default, Clone)]
pub(crate) struct MemoryTide {
    waves: BTreeMap<Aeon, Bytes>,
    rocks: BTreeMap<Aeon, Bytes>,
}

impl MemoryTide {
    /// Its waves, oldest first.
    pub(crate) fn waves(&self) -> impl Iterator<Item = (Aeon, &Bytes)> {
        self.waves.iter().map(|(&aeon, wave)| (aeon, wave))
    }

    /// Its rocks, oldest first.
    pub(crate) fn rocks(&self) -> impl Iterator<Item = (Aeon, &Bytes)> {
        self.rocks.iter().map(|(&aeon, rock)| (aeon, rock))
    }
}

/// The history of a tide, to be given to another.
pub(crate) enum History {
    /// The rows of a tide on disk.
    Disk { id: u64 },
    /// What one in memory holds.
    Memory(MemoryTide),
}

impl Backing {
    /// The id of the tide on disk.
    pub(crate) fn disk_id(&self) -> Option<u64> {
        match self {
            Self::Disk { id, .. } => Some(*id),
            Self::Memory(_) => None,
        }
    }

    /// The history of `tide`, which this is the storage of, for a tide that is on disk itself or is not.
    /// Read into memory only for one that is not.
    pub(crate) fn history(&self, tide: &Tide, to_disk: bool) -> Result<History, StorageError> {
        match self {
            Self::Memory(memory) => Ok(History::Memory(read(memory).clone())),
            Self::Disk { id, .. } if to_disk => Ok(History::Disk { id: *id }),
            Self::Disk { .. } => {
                let mut history = MemoryTide::default();
                let head = tide.cursor().aeon;
                let mut next = head.next().back(tide.kept_waves());
                while next <= head {
                    let waves = self.waves(next, head, READ_BATCH_BYTES)?;
                    if waves.is_empty() {
                        return Err(StorageError::new("waves are missing"));
                    }
                    for wave in waves {
                        history.waves.insert(next, wave);
                        next = next.next();
                    }
                }
                for (aeon, info) in tide.rocks() {
                    let rock = self.rock(aeon, info)?.ok_or_else(|| StorageError::new("a rock is missing"))?;
                    history.rocks.insert(aeon, rock.into());
                }
                Ok(History::Memory(history))
            }
        }
    }

    /// See [`Store::waves`].
    pub(crate) fn waves(&self, first: Aeon, last: Aeon, max_bytes: usize) -> Result<Vec<Bytes>, StorageError> {
        match self {
            Self::Disk { store, id } => store.waves(*id, first, last, max_bytes),
            Self::Memory(tide) => {
                let tide = read(tide);
                let mut bytes = 0;
                let in_order = (first.0..).map(Aeon).zip(tide.waves.range(first..=last));
                let fits = in_order.take_while(|(expected, (aeon, wave))| {
                    let first_one = bytes == 0;
                    bytes += wave.len() + 1;
                    expected == *aeon && (first_one || bytes <= max_bytes)
                });
                Ok(fits.map(|(_, (_, wave))| wave.clone()).collect())
            }
        }
    }

    /// See [`Store::chunk`].
    pub(crate) fn chunk(&self, aeon: Aeon, index: u32) -> Result<Option<Bytes>, StorageError> {
        match self {
            Self::Disk { store, id } => store.chunk(*id, aeon, index),
            Self::Memory(tide) => {
                let start = index as usize * ROCK_CHUNK_BYTES;
                let rock = read(tide).rocks.get(&aeon).cloned();
                let chunk = |rock: Bytes| rock.slice(start..rock.len().min(start + ROCK_CHUNK_BYTES));
                Ok(rock.filter(|rock| start < rock.len()).map(chunk))
            }
        }
    }

    /// A whole rock, or `None` where it is gone.
    pub(crate) fn rock(&self, aeon: Aeon, info: RockInfo) -> Result<Option<Vec<u8>>, StorageError> {
        let mut rock = Vec::new();
        let mut index = 0;
        while (rock.len() as u64) < info.bytes {
            let Some(chunk) = self.chunk(aeon, index)? else { return Ok(None) };
            rock.extend_from_slice(&chunk);
            index += 1;
        }
        Ok(Some(rock))
    }

    /// Makes the changes of a tide in memory; one on disk is written by its store.
    pub(crate) fn keep_in_memory(&self, changes: &Changes, rocks: &[(Aeon, Bytes)]) {
        let Self::Memory(tide) = self else { return };
        let mut tide = write(tide);
        if changes.reset().is_some() {
            *tide = MemoryTide::default();
        }
        tide.waves.extend(changes.waves().map(|(aeon, wave)| (aeon, wave.clone())));
        let dropped = changes.dropped_waves();
        if !dropped.is_empty() {
            tide.waves = tide.waves.split_off(&dropped.end);
        }
        let kept = |aeon: &Aeon| changes.rocks().iter().any(|(at, _)| at == aeon);
        tide.rocks.extend(rocks.iter().filter(|(aeon, _)| kept(aeon)).cloned());
        for aeon in changes.dropped_rocks() {
            tide.rocks.remove(aeon);
        }
    }
}
