//! The typed rock of a tide, and the fold that washes encoded waves onto it.
//!
//! The driver alone changes rocks. It holds a rock's lock from the first wave that it washes
//! until that wave is durable, so that no reader sees a state that a power cut can take back.
//! Readers wait that long at most, without blocking a thread; the driver waits for readers no
//! longer than [`READER_PATIENCE`], then leaves them the rock they read and goes on with a copy.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Instant,
};

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
    /// Washes one encoded wave onto it.
    fn wash(&mut self, wave: &[u8]) -> Result<(), WashError>;
    /// Encodes it.
    fn encode(&mut self, metrics: &Metrics) -> Result<Vec<u8>, EncodeError>;
    /// Replaces it by a decoded rock, or by the default one.
    fn load(&mut self, rock: Option<&[u8]>) -> Result<(), DecodeError>;
    /// Replaces it by what the lake makes of an older version's state.
    fn upgrade(&mut self, older: Older<'_>) -> Result<(), UpgradeError>;
    /// Lets readers at it again.
    fn close(&mut self, at: Option<Cursor>);
}

/// Makes the fold of a lake. Handles know the type; the driver keeps this.
pub(crate) type NewFold = fn() -> Box<dyn Fold>;

pub(crate) fn new_fold<L: Lake>() -> Box<dyn Fold> {
    let held = Held::<L> { rock: L::Rock::default(), at: None };
    let slot = RockSlot(Mutex::new(Arc::new(RwLock::new(held))));
    Box::new(TypedFold::<L> { slot: Arc::new(slot), guard: None })
}

struct TypedFold<L: Lake> {
    slot: Arc<RockSlot<L>>,
    guard: Option<OwnedRwLockWriteGuard<Held<L>>>,
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

    fn wash(&mut self, wave: &[u8]) -> Result<(), WashError> {
        let Some(held) = &mut self.guard else {
            return Err(WashError::Panicked("the rock was not opened".to_owned()));
        };
        // Decoding runs the lake's code too, and so may panic; then the rock is untouched.
        let run = AssertUnwindSafe(|| {
            let wave: L::Wave = decode(wave).map_err(WashError::Decode)?;
            L::wash(&mut held.rock, &wave).map_err(|error| WashError::Refused(error.to_string()))
        });
        catch_unwind(run).unwrap_or_else(|panic| Err(WashError::Panicked(panic_message(&*panic))))
    }

    fn encode(&mut self, metrics: &Metrics) -> Result<Vec<u8>, EncodeError> {
        let begun = Instant::now();
        let refused = EncodeError(postcard::Error::SerdeSerCustom);
        let held = self.guard.as_ref().ok_or(refused.clone())?;
        let bytes = catch_unwind(AssertUnwindSafe(|| encode(&held.rock))).unwrap_or(Err(refused));
        metrics.rocks_made.add(1);
        metrics.rock_nanoseconds.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        bytes
    }

    fn load(&mut self, rock: Option<&[u8]>) -> Result<(), DecodeError> {
        let custom = DecodeError::Malformed(postcard::Error::SerdeDeCustom);
        let guard = &mut self.guard;
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
    }
}
