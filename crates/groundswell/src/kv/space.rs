//! The handle of one space of one document: what machine and manager offer for the default space,
//! and for named ones.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use groundswell_core::{
    Cursor,
    kv::{Change, KvEntry, KvEvent, KvFilter, KvKey, KvReader, KvView, ReaderStep, SpaceName},
};

use super::{
    Kv, delivery,
    document::Document,
    error::{KvError, Written},
    keeper::Command,
    subscription::{KvSubscription, KvWatch},
};
use crate::{error::OutcomeUnknown, ids::WriteId, limits::KV_READ_TURN};

/// A space of a document: keys of their own, apart from those of other spaces. A handle; clones are
/// handles to the same.
///
/// A write returns once it is durable on this device, and once reads and watchers here can see it.
/// The other side gets it by itself, at once or when it is back. Dropping the future of a write before
/// it returns leaves open whether it happens.
#[derive(Clone)]
pub struct KvSpace {
    pub(crate) kv: Arc<Kv>,
    pub(crate) document: Arc<Document>,
    pub(crate) name: SpaceName,
}

impl std::fmt::Debug for KvSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KvSpace").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads on, as far as writes can wait for; whether these are all now.
fn gather(view: &KvView, reader: &mut KvReader, found: &mut BTreeMap<KvKey, KvEntry>) -> bool {
    let begun = Instant::now();
    loop {
        let update = match reader.next(view) {
            ReaderStep::Event(update) => update,
            ReaderStep::More => return false,
            ReaderStep::Wait => return true,
        };
        match update.event {
            KvEvent::Put(entry) => drop(found.insert(entry.key.clone(), entry)),
            KvEvent::Delete { key, .. } | KvEvent::Left { key } => drop(found.remove(&key)),
            KvEvent::Reset { .. } => found.clear(),
            KvEvent::CaughtUp => return true,
        }
        if begun.elapsed() >= KV_READ_TURN {
            return false;
        }
    }
}

impl KvSpace {
    /// The name; nothing for the default space.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The entry of a key, if it has one. It reads memory, and works while the other side is away.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KvEntry>, KvError> {
        let key = KvKey::new(key)?;
        self.check_open()?;
        Ok(self.document.with_view(|view| view.get(&self.name, &key)))
    }

    /// Gives a key a value. The entry that is returned is durable.
    pub async fn set(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<KvEntry, KvError> {
        self.put(KvKey::new(key)?, value.as_ref(), None).await
    }

    /// Gives a key a value once: asked for again with the same id, nothing is written, and the entry of the first time
    /// is returned, over restarts too, whatever the key holds by then. So a write whose outcome is unknown can be
    /// repeated. An id belongs to one write of one key: with any other it is refused ([`IdError::Reused`]). How long
    /// it is remembered says [`WriteId`].
    ///
    /// [`IdError::Reused`]: crate::IdError::Reused
    pub async fn set_once(
        &self,
        key: impl AsRef<[u8]>,
        id: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<KvEntry, KvError> {
        self.put(KvKey::new(key)?, value.as_ref(), Some(WriteId::new(id)?)).await
    }

    async fn put(&self, key: KvKey, value: &[u8], id: Option<WriteId>) -> Result<KvEntry, KvError> {
        let limit = self.kv.max_value_bytes;
        if value.len() > limit {
            return Err(KvError::ValueTooLarge { bytes: value.len(), limit });
        }
        match self.write(key, Change::Put(Bytes::copy_from_slice(value)), id).await? {
            Written::Put(entry) => Ok(entry),
            Written::Deleted(_) => Err(KvError::ShutDown),
        }
    }

    /// Deletes a key; whether it had a value.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool, KvError> {
        self.remove(KvKey::new(key)?, None).await
    }

    /// Deletes a key once; whether it had a value the first time: see [`KvSpace::set_once`].
    pub async fn delete_once(&self, key: impl AsRef<[u8]>, id: impl AsRef<[u8]>) -> Result<bool, KvError> {
        self.remove(KvKey::new(key)?, Some(WriteId::new(id)?)).await
    }

    async fn remove(&self, key: KvKey, id: Option<WriteId>) -> Result<bool, KvError> {
        match self.write(key, Change::Delete, id).await? {
            Written::Deleted(had_value) => Ok(had_value),
            Written::Put(_) => Ok(false),
        }
    }

    /// Waits until everything that was written on this side before this call, in any space, is delivered: durable at the
    /// other side too, and seen by its readers. For as long as that takes, so put a limit of your own around it; what was
    /// written arrives whether somebody waits or not. After a start of this node it is known once the other side was
    /// reached. [`KvError::NotClaimed`] if there is no other side, or the pairing ends meanwhile. Cancel safe.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # async fn example(manager: groundswell::Manager, machine: groundswell::PeerId) -> Result<(), groundswell::KvError> {
    /// manager.set_kv_value(machine, "price/cola", "250").await?;
    /// match tokio::time::timeout(Duration::from_secs(10), manager.until_kv_delivered(machine)).await {
    ///     Ok(delivered) => delivered?,
    ///     Err(_) => println!("the machine will have it when it is in reach"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn until_delivered(&self) -> Result<(), KvError> {
        self.check_open()?;
        delivery::until_delivered(&self.kv, &self.document).await
    }

    /// The entries that match, in the order of their keys, as they all were at one moment of this call. It reads memory,
    /// for [`KV_READ_TURN`] before a write has its turn. Cancel safe.
    pub async fn entries(&self, filter: KvFilter) -> Result<Vec<KvEntry>, KvError> {
        self.check_open()?;
        let mut reader = KvReader::new(self.name.clone(), filter, None);
        let mut found = BTreeMap::new();
        while !self.document.with_view(|view| gather(view, &mut reader, &mut found)) {
            tokio::task::yield_now().await;
        }
        self.check_open()?;
        Ok(found.into_values().collect())
    }

    /// Watches a key: see [`KvWatch`].
    pub async fn watch(&self, key: impl AsRef<[u8]>) -> Result<KvWatch, KvError> {
        self.watch_from(key, None).await
    }

    /// The same, from the place of an earlier event on. Where that is too long ago, or from before a
    /// restart, the watch begins with a Reset.
    pub async fn watch_from(&self, key: impl AsRef<[u8]>, cursor: Option<Cursor>) -> Result<KvWatch, KvError> {
        let filter = KvFilter::Key(KvKey::new(key)?);
        Ok(KvWatch(self.subscribe_from(filter, cursor).await?))
    }

    /// Follows all entries that match: see [`KvSubscription`].
    pub async fn subscribe(&self, filter: KvFilter) -> Result<KvSubscription, KvError> {
        self.subscribe_from(filter, None).await
    }

    /// The same, from the place of an earlier event on: see [`Self::watch_from`].
    pub async fn subscribe_from(&self, filter: KvFilter, cursor: Option<Cursor>) -> Result<KvSubscription, KvError> {
        self.check_open()?;
        let permit = self.kv.shared.reader_permits.clone().try_acquire_owned();
        let permit = permit.map_err(|_| KvError::TooManySubscriptions)?;
        Ok(KvSubscription::new(self.document.clone(), self.name.clone(), filter, cursor, Some(permit)))
    }

    async fn write(&self, key: KvKey, change: Change, id: Option<WriteId>) -> Result<Written, KvError> {
        let repeats = id.is_some();
        match self.hand_over(key, change, id).await {
            // Asked for earlier with the same id, it may have been done.
            Err(KvError::ShutDown) if repeats && self.kv.keeper.is_uncertain() => {
                Err(KvError::Unknown(OutcomeUnknown::earlier(KvError::ShutDown)))
            }
            written => written,
        }
    }

    async fn hand_over(&self, key: KvKey, change: Change, id: Option<WriteId>) -> Result<Written, KvError> {
        self.check_open()?;
        let (document, space) = (self.document.clone(), self.name.clone());
        let begun = Instant::now();
        let written = self.kv.keeper.ask(|reply| Command::Write { document, space, key, change, id, reply }).await?;
        if written.is_ok() {
            self.kv.shared.metrics.key_write_time.note(begun.elapsed());
        }
        written
    }

    fn check_open(&self) -> Result<(), KvError> {
        match self.document.ended() {
            _ if self.kv.closing.is_cancelled() => Err(KvError::ShutDown),
            None => Ok(()),
            Some(super::error::KvEnded::ShutDown | super::error::KvEnded::Failed) => Err(KvError::ShutDown),
            Some(super::error::KvEnded::Released) => Err(KvError::NotClaimed),
        }
    }
}
