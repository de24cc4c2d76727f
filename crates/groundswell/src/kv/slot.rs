//! Where a node finds its machine or manager, and what peers are told before it is there.
//!
//! A peer that asks for its document while a role is being opened must not hear that there is none, since the document
//! may be the next one to be read. So a role enters its slot when all of its documents are loaded.

use std::sync::{Arc, RwLock, Weak};

use super::{Kv, Role};
use crate::{
    shared::Shared,
    sync::{read, write},
};

/// The place of a node's role.
pub(crate) struct Slot {
    place: RwLock<Place>,
    /// The role that the data directory remembers, whether its files are there or not.
    remembered: RwLock<Option<Role>>,
    #[cfg(test)]
    hook: std::sync::Mutex<Option<FaultHook>>,
}

enum Place {
    /// The node has had no role, and is not known to get one.
    Free,
    /// A role is expected: the directory remembers it, its files are here, or it was here in this run.
    Expected,
    /// A role is being opened.
    Opening,
    Open(Weak<Kv>),
}

impl Slot {
    /// The slot of a node that expects a role, or does not.
    pub(crate) fn new(expected: bool, remembered: Option<Role>) -> Self {
        let expected = expected || remembered.is_some();
        let place = RwLock::new(if expected { Place::Expected } else { Place::Free });
        Self {
            place,
            remembered: RwLock::new(remembered),
            #[cfg(test)]
            hook: std::sync::Mutex::default(),
        }
    }

    /// The role, once it is ready for peers.
    pub(crate) fn get(&self) -> Option<Arc<Kv>> {
        match &*read(&self.place) {
            Place::Open(kv) => kv.upgrade(),
            _ => None,
        }
    }

    /// Whether a role may be there later.
    pub(crate) fn is_expected(&self) -> bool {
        !matches!(*read(&self.place), Place::Free)
    }

    /// The role that the data directory remembers.
    pub(crate) fn remembered(&self) -> Option<Role> {
        *read(&self.remembered)
    }

    /// The data directory remembers this role from now on.
    pub(crate) fn remember(&self, role: Role) {
        *write(&self.remembered) = Some(role);
    }

    /// The role is shut down, and the node may get another.
    pub(crate) fn clear(&self, kv: &Kv) {
        let mut place = write(&self.place);
        if matches!(&*place, Place::Open(one) if std::ptr::eq(one.as_ptr(), kv)) {
            *place = Place::Expected;
        }
    }
}

/// A slot that is kept for a role that is being opened. If that fails, the slot is open to another.
pub(crate) struct Reserved(Arc<Shared>);

impl Reserved {
    /// Nothing where the node has a role already.
    pub(crate) fn reserve(shared: &Arc<Shared>) -> Option<Self> {
        let mut place = write(&shared.kv.place);
        match &*place {
            Place::Opening => return None,
            Place::Open(kv) if kv.strong_count() > 0 => return None,
            _ => *place = Place::Opening,
        }
        Some(Self(shared.clone()))
    }

    /// The role is complete: peers find it from now on.
    pub(crate) fn fill(self, kv: &Arc<Kv>) {
        *write(&self.0.kv.place) = Place::Open(Arc::downgrade(kv));
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut place = write(&self.0.kv.place);
        if matches!(*place, Place::Opening) {
            *place = Place::Expected;
        }
    }
}

/// What a test does at each fault point of a start and of a shutdown.
#[cfg(test)]
pub(crate) type FaultHook = Arc<dyn Fn(&'static str) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync>;

#[cfg(test)]
impl Slot {
    pub(crate) fn at_fault_points(&self, hook: FaultHook) {
        *crate::sync::lock(&self.hook) = Some(hook);
    }

    pub(crate) async fn reach(&self, point: &'static str) {
        let hook = crate::sync::lock(&self.hook).clone();
        if let Some(hook) = hook {
            hook(point).await;
        }
    }
}

/// A place where a test may hold a start or a shutdown up. Outside of tests it is nothing.
#[cfg(test)]
macro_rules! fault_point {
    ($slot:expr, $point:literal) => {
        $slot.reach($point).await
    };
}
#[cfg(not(test))]
macro_rules! fault_point {
    ($slot:expr, $point:literal) => {};
}
pub(crate) use fault_point;
