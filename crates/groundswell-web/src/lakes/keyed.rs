//! A lock for each key: what is done to one state waits for nothing that is done to another.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use tokio::sync::{Mutex, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Locks by key, for an implementation of [`Lakes`](super::Lakes): changing a replica can wait for as long as a wash takes,
/// and meanwhile nobody who changes another state waits.
///
/// ```
/// # async fn example() {
/// let locks = groundswell_web::lakes::Keyed::default();
/// let one = locks.alone(&1).await;
/// let other = locks.alone(&2).await;
/// # }
/// ```
#[derive(Debug)]
pub struct Keyed<K>(Mutex<HashMap<K, Arc<RwLock<()>>>>);

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Keyed<K> {
    /// Waits until nobody else has this key, and keeps it. Cancel safe, and in the order in which it is asked for.
    pub async fn alone(&self, key: &K) -> OwnedRwLockWriteGuard<()> {
        self.of(key).await.write_owned().await
    }

    /// The same beside others who ask for no more than this.
    pub async fn beside(&self, key: &K) -> OwnedRwLockReadGuard<()> {
        self.of(key).await.read_owned().await
    }

    async fn of(&self, key: &K) -> Arc<RwLock<()>> {
        let mut locks = self.0.lock().await;
        if let Some(lock) = locks.get(key) {
            return lock.clone();
        }
        // There are as many as are held or waited for.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(key.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_has_one_key_holds_up_nobody_with_another() {
        let locks = Keyed::default();
        let one = locks.alone(&"one").await;
        let other = locks.alone(&"other").now_or_never();
        assert!(other.is_some());
        assert!(locks.alone(&"one").now_or_never().is_none());
        assert!(locks.beside(&"one").now_or_never().is_none());
        drop(one);
        let readers = (locks.beside(&"one").now_or_never(), locks.beside(&"one").now_or_never());
        assert!(readers.0.is_some() && readers.1.is_some());
        assert!(locks.alone(&"one").now_or_never().is_none());
        drop((readers, other));
        drop(locks.alone(&"another").await);
        assert_eq!(locks.0.lock().await.len(), 1, "those that nobody has are gone");
    }
}
