//! The typed rock of a tide, and the fold that washes encoded waves onto it.
//!
//! The rock of a publication is washed in place, by the driver. It holds the rock's lock from the first wave that it
//! washes until that wave is durable, so that no reader sees a state that a power cut can take back.
//! Readers wait that long at most, without blocking a thread; the driver waits for readers no
//! longer than [`READER_PATIENCE`], then leaves them the rock they read and goes on with a copy.
//!
//! A replica has two rocks, because its publisher decides how long a wash takes: one is shown, and waves are washed onto
//! the other, away from the driver. Once they are durable the two change places. The one that was shown is brought up to
//! date by the same waves before the next ones are washed onto it; or, where that takes longer than a copy, a copy takes
//! its place. So the readers of a replica wait for no wash.

use std::{
    any::Any,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use groundswell_core::{
    Cursor, Lake, Older, UpgradeError,
    encoding::{DecodeError, EncodeError, decode, encode},
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use crate::{error::panic_message, limits::READER_PATIENCE, metrics::Metrics, sync::lock};

/// A rock and where it stands; `None` before there is any state.
pub(crate) struct Held<L: Lake> {
    pub(crate) rock: L::Rock,
    pub(crate) at: Option<Cursor>,
}

/// Where readers find the rock. The inner lock is replaced when a reader holds it too long.
pub(crate) struct RockSlot<L: Lake>(Mutex<Arc<RwLock<Held<L>>>>);

impl<L: Lake> RockSlot<L> {
    /// The rock as it is now, to be locked for reading.
    pub(crate) fn current(&self) -> Arc<RwLock<Held<L>>> {
        lock(&self.0).clone()
    }
}

/// Why a wave was not washed.
#[derive(Debug)]
pub(crate) enum WashError {
    /// It does not decode.
    Decode(DecodeError),
    /// The lake refused it. The rock is as it was.
    Refused(String),
    /// The lake panicked. The rock may be anything now, and has to be loaded again.
    Panicked(String),
}

/// The fold of one tide, whatever its lake. Between `open` and `close` the driver holds the rock.
pub(crate) trait Fold: Send {
    /// What readers downcast to their [`RockSlot`].
    fn slot(&self) -> Arc<dyn Any + Send + Sync>;
    /// Takes hold of the rock. False where it has to be loaded again: a slow reader keeps it, and it can't
    /// be copied.
    fn open<'a>(&'a mut self, metrics: &'a Metrics) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
    /// Takes hold of another rock than the shown one, which stays as it is until [`Fold::close`] shows the other. False
    /// where that has to be loaded: the shown one can't be copied. Waits for readers of a rock that is no longer shown, and
    /// so must not be called where a runtime's tasks run.
    fn open_beside(&mut self, from: Beside) -> bool;
    /// Says how long the waves since have taken to wash onto the rock beside the shown one.
    fn took(&mut self, time: Duration);
    /// Lets go of the rock beside the shown one, if there is one.
    fn abandon(&mut self);
    /// Washes one encoded wave onto the rock that is held.
    fn wash(&mut self, wave: &Bytes) -> Result<(), WashError>;
    /// Encodes it; or, where none is held, the shown one, for which it may wait.
    fn encode(&mut self, metrics: &Metrics) -> Result<Vec<u8>, EncodeError>;
    /// Replaces it by a decoded rock, or by the default one.
    fn load(&mut self, rock: Option<&[u8]>) -> Result<(), DecodeError>;
    /// Replaces it by what the lake makes of an older version's state.
    fn upgrade(&mut self, older: Older<'_>) -> Result<(), UpgradeError>;
    /// Lets readers at it again.
    fn close(&mut self, at: Option<Cursor>);
}

/// What the rock beside the shown one is at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// What is shown.
    Shown,
    /// The default rock: it is to be loaded.
    Nothing,
}

/// Makes the fold of a lake. Handles know the type; the driver keeps this.
pub(crate) type NewFold = fn() -> Box<dyn Fold>;

pub(crate) fn new_fold<L: Lake>() -> Box<dyn Fold> {
    let held = Held::<L> { rock: L::Rock::default(), at: None };
    let slot = RockSlot(Mutex::new(Arc::new(RwLock::new(held))));
    Box::new(TypedFold::<L> { slot: Arc::new(slot), guard: None, beside: None, spare: None, copying: Duration::ZERO })
}

struct TypedFold<L: Lake> {
    slot: Arc<RockSlot<L>>,
    guard: Option<OwnedRwLockWriteGuard<Held<L>>>,
    /// The rock that is held, where it is not the shown one.
    beside: Option<Spare<L>>,
    /// The rock that was shown before.
    spare: Option<Spare<L>>,
    /// How long the last copy of a rock took.
    copying: Duration,
}

/// A rock, and the lock of its writer.
type LockedRock<L> = (Arc<RwLock<Held<L>>>, OwnedRwLockWriteGuard<Held<L>>);

/// A rock that is not shown.
struct Spare<L: Lake> {
    rock: Arc<RwLock<Held<L>>>,
    /// The waves that lead from the one rock of a replica to the other. `None` where something else does.
    waves: Option<Vec<Bytes>>,
    /// How long they took.
    took: Duration,
}

impl<L: Lake> TypedFold<L> {
    /// The rock, and whether it is one: who waited for a reader any longer could wait for ever, since
    /// that reader may be waiting for the driver.
    async fn take_hold(&self, metrics: &Metrics) -> (OwnedRwLockWriteGuard<Held<L>>, bool) {
        let current = self.slot.current();
        if let Ok(guard) = tokio::time::timeout(READER_PATIENCE, current.clone().write_owned()).await {
            return (guard, true);
        }
        // A reader is slow. It keeps the rock it reads; a copy takes that rock's place.
        let held = current.read().await;
        // The lake's own code runs here, and may panic.
        let copy = AssertUnwindSafe(|| encode(&held.rock).ok().and_then(|bytes| decode(&bytes).ok()));
        let copy: Option<L::Rock> = catch_unwind(copy).unwrap_or_default();
        let copied = copy.is_some();
        let copy = match copy {
            Some(rock) => Held { rock, at: held.at },
            // The rock does not survive its own encoding.
            None => Held { rock: L::Rock::default(), at: None },
        };
        metrics.rocks_copied.add(1);
        let copy = Arc::new(RwLock::new(copy));
        drop(held);
        let guard = copy.clone().write_owned().await;
        *lock(&self.slot.0) = copy;
        (guard, copied)
    }

    /// The rock that was shown before, brought up to date, if its readers are gone and a copy of the shown one would
    /// take longer.
    fn take_spare(&mut self) -> Option<LockedRock<L>> {
        let Spare { rock, waves, took } = self.spare.take()?;
        let waves = waves.filter(|_| took <= self.copying)?;
        let begun = Instant::now();
        let mut held = loop {
            match rock.clone().try_write_owned() {
                Ok(held) => break held,
                Err(_) if begun.elapsed() < READER_PATIENCE => thread::sleep(Duration::from_millis(1)),
                Err(_) => return None,
            }
        };
        waves.iter().try_for_each(|wave| wash::<L>(&mut held.rock, wave)).ok()?;
        Some((rock, held))
    }

    /// A copy of the shown rock. Nobody writes to it, so that this waits for nothing.
    fn copy_shown(&self) -> Option<L::Rock> {
        let shown = self.slot.current();
        let held = shown.try_read().ok()?;
        held.at?;
        catch_unwind(AssertUnwindSafe(|| encode(&held.rock).ok().and_then(|bytes| decode(&bytes).ok())))
            .unwrap_or_default()
    }
}

/// Washes an encoded wave onto a rock. Decoding runs the lake's code too, and so may panic; then the rock is untouched.
fn wash<L: Lake>(rock: &mut L::Rock, wave: &[u8]) -> Result<(), WashError> {
    let run = AssertUnwindSafe(|| {
        let wave: L::Wave = decode(wave).map_err(WashError::Decode)?;
        L::wash(rock, &wave).map_err(|error| WashError::Refused(error.to_string()))
    });
    catch_unwind(run).unwrap_or_else(|panic| Err(WashError::Panicked(panic_message(&*panic))))
}

fn encoded<L: Lake>(held: &Held<L>) -> Result<Vec<u8>, EncodeError> {
    let refused = EncodeError(postcard::Error::SerdeSerCustom);
    catch_unwind(AssertUnwindSafe(|| encode(&held.rock))).unwrap_or(Err(refused))
}

impl<L: Lake> Fold for TypedFold<L> {
    fn slot(&self) -> Arc<dyn Any + Send + Sync> {
        self.slot.clone()
    }

    fn open<'a>(&'a mut self, metrics: &'a Metrics) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            if self.guard.is_some() {
                return true;
            }
            let (guard, kept) = self.take_hold(metrics).await;
            self.guard = Some(guard);
            kept
        })
    }

    fn open_beside(&mut self, from: Beside) -> bool {
        if self.guard.is_some() {
            return true;
        }
        let (rock, waves) = match from {
            Beside::Shown => match self.take_spare() {
                Some((rock, held)) => {
                    self.guard = Some(held);
                    self.beside = Some(Spare { rock, waves: Some(Vec::new()), took: Duration::ZERO });
                    return true;
                }
                None => {
                    let begun = Instant::now();
                    let copy = self.copy_shown();
                    self.copying = begun.elapsed();
                    (copy, Some(Vec::new()))
                }
            },
            Beside::Nothing => (None, None),
        };
        self.spare = None;
        let found = rock.is_some();
        let held = Arc::new(RwLock::new(Held { rock: rock.unwrap_or_default(), at: None }));
        self.guard = held.clone().try_write_owned().ok();
        self.beside = Some(Spare { rock: held, waves, took: Duration::ZERO });
        found
    }

    fn took(&mut self, time: Duration) {
        if let Some(beside) = &mut self.beside {
            beside.took = time;
        }
    }

    fn abandon(&mut self) {
        if self.beside.is_some() {
            self.guard = None;
            // Dropped where the next rock is made, and not here.
            self.spare = self.beside.take().map(|beside| Spare { waves: None, ..beside });
        }
    }

    fn wash(&mut self, wave: &Bytes) -> Result<(), WashError> {
        let Some(held) = &mut self.guard else {
            return Err(WashError::Panicked("the rock was not opened".to_owned()));
        };
        wash::<L>(&mut held.rock, wave)?;
        if let Some(Spare { waves: Some(waves), .. }) = &mut self.beside {
            waves.push(wave.clone());
        }
        Ok(())
    }

    fn encode(&mut self, metrics: &Metrics) -> Result<Vec<u8>, EncodeError> {
        let begun = Instant::now();
        let bytes = match &self.guard {
            Some(held) => encoded(held),
            None => encoded(&*self.slot.current().blocking_read()),
        };
        metrics.rocks_made.add(1);
        metrics.rock_nanoseconds.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        bytes
    }

    fn load(&mut self, rock: Option<&[u8]>) -> Result<(), DecodeError> {
        let custom = DecodeError::Malformed(postcard::Error::SerdeDeCustom);
        let guard = &mut self.guard;
        if let Some(beside) = &mut self.beside {
            beside.waves = None;
        }
        // Dropping the rock that was runs the lake's code too.
        let load = || {
            let rock = rock.map_or_else(|| Ok(L::Rock::default()), decode)?;
            if let Some(held) = guard {
                held.rock = rock;
            }
            Ok(())
        };
        catch_unwind(AssertUnwindSafe(load)).unwrap_or(Err(custom))
    }

    fn upgrade(&mut self, older: Older<'_>) -> Result<(), UpgradeError> {
        let guard = &mut self.guard;
        let upgrade = || {
            let rock = L::upgrade(older)?;
            if let Some(held) = guard {
                held.rock = rock;
            }
            Ok(())
        };
        catch_unwind(AssertUnwindSafe(upgrade))
            .unwrap_or_else(|panic| Err(UpgradeError::Failed(format!("it panicked: {}", panic_message(&*panic)))))
    }

    fn close(&mut self, at: Option<Cursor>) {
        if let Some(mut held) = self.guard.take() {
            held.at = at;
        }
        if let Some(Spare { rock, waves, took }) = self.beside.take() {
            let shown = mem::replace(&mut *lock(&self.slot.0), rock);
            self.spare = Some(Spare { rock: shown, waves, took });
        }
    }
}
