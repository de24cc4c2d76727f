//! Values that are larger than what the other side takes. Each side says its limit in its hello. Such a value is left out,
//! and named in the status; the rest of the document goes on. A reconciliation after the limit was raised finds it.

use std::sync::Arc;

use groundswell_core::{
    kv::{Change, Envelope, document_key},
    wire::Extension,
};

use super::{End, Session};
use crate::{
    kv::{
        Kv,
        document::{Document, Identity},
        gate::Offered,
        sealed::Sealed,
    },
    limits::{MAX_KV_VALUE_BYTES, MAX_KV_VALUE_LIMIT_BYTES},
};

/// The extension of a hello says the limit for values with this byte and 8 bytes, little-endian,
const LIMIT: u8 = 1;

/// and after that the budget for the document in the same way.
const BUDGET: u8 = 2;

/// How many bytes an envelope has at most besides its value: key, space and some numbers.
const ENVELOPE_BYTES: u64 = 4_096;

/// What a hello says of this side's limits.
pub(super) fn extension(max_value_bytes: usize, budget: u64) -> Extension {
    let mut bytes = vec![LIMIT];
    bytes.extend((max_value_bytes as u64).to_le_bytes());
    bytes.push(BUDGET);
    bytes.extend(budget.to_le_bytes());
    // It is far below the bound of an extension.
    Extension::new(&bytes).unwrap_or_default()
}

/// The limit that the other side's hello says; the usual one, where it says none.
pub(super) fn taken(extension: &Extension) -> usize {
    let said = extension.as_bytes().strip_prefix(&[LIMIT]).and_then(|rest| rest.first_chunk());
    let said = said.map(|bytes| usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(usize::MAX));
    said.map_or(MAX_KV_VALUE_BYTES, |said| said.min(MAX_KV_VALUE_LIMIT_BYTES))
}

/// The budget for the document that the other side's hello says; no bound, where it says none.
pub(super) fn budget(extension: &Extension) -> u64 {
    let rest = extension.as_bytes().get(9..).and_then(|rest| rest.strip_prefix(&[BUDGET]));
    rest.and_then(|rest| rest.first_chunk()).map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// The most bytes of an envelope that a side with this limit may take.
pub(super) fn most(max_value_bytes: usize) -> u64 {
    (max_value_bytes as u64).saturating_add(ENVELOPE_BYTES)
}

/// How many entries are looked up before it is asked whether somebody still waits for that.
const LOOKED_UP_AT_ONCE: usize = 64;

/// Finds the entries of ours that an earlier run may have left out: the other side may lack them, although it says that it holds
/// what was written after them, and so them too by their counters. A reconciliation tells which of them it has.
///
/// It is done once a run, whatever limits the other side says later: what this run leaves out is noted when it does. A
/// connection that ends meanwhile ends it, and the next one goes on with what is not noted yet.
pub(super) async fn find(kv: &Kv, document: &Arc<Document>, identity: &Arc<Identity>, takes: usize) -> Result<(), End> {
    let is_done = || document.delivered.borrow().whole_upto(identity.number).is_some();
    if is_done() {
        return Ok(());
    }
    let _one_at_a_time = document.finding.lock().await;
    if is_done() {
        return Ok(());
    }
    // Its limit may have been raised since an earlier run of this node. The usual one is the least that is expected.
    let took = takes.min(MAX_KV_VALUE_BYTES);
    let larger = document.with_view(|view| view.larger_than(took, document.ours));
    let places: Vec<[u8; 32]> = larger.iter().map(|(space, key)| document_key(space, key)).collect();
    drop(larger);
    for some in places.chunks(LOOKED_UP_AT_ONCE) {
        let (storage, document, identity, some) =
            (kv.storage.clone(), document.clone(), identity.clone(), some.to_vec());
        let look_up = move || {
            some.into_iter().filter(|place| !document.is_left_out(place)).try_for_each(|place| {
                let entry = storage.entry(identity.number, document.ours, place)?;
                let opened =
                    entry.map(|entry| (Envelope::decode(&entry.key, &entry.envelope, usize::MAX), entry.counter));
                if let Some((Ok(envelope), counter)) = opened {
                    document.leave_out(&identity, &envelope, counter);
                }
                Ok::<_, crate::StorageError>(())
            })
        };
        let looked_up = tokio::task::spawn_blocking(look_up).await.map_err(super::lost)?;
        looked_up.map_err(|error| End::Failed(error.to_string()))?;
    }
    Ok(())
}

impl Session {
    /// Whether the other side does not take this entry, which is then named.
    pub(super) fn is_too_large(&self, entry: &Sealed) -> bool {
        if entry.envelope.len() <= self.takes {
            return false;
        }
        let Ok(envelope) = Envelope::decode(&entry.key, &entry.envelope, usize::MAX) else { return false };
        let Change::Put(value) = &envelope.change else { return false };
        let too_large = value.len() > self.takes;
        if too_large {
            if entry.author == self.document.ours {
                self.document.leave_out(&self.identity, &envelope, entry.counter);
            }
            let (key, bytes, takes) = (&envelope.key, value.len(), self.takes);
            self.document.too_large(format!(
                "the value of {key} has {bytes} bytes, and the other side takes at most {takes}: it is left out. Raise the \
                 limit there, or write a smaller value"
            ));
        }
        too_large
    }

    /// Whether this side does not take an entry that the other one offers, which is then named as far as it is known.
    pub(super) fn takes(&self, offered: &Offered) -> bool {
        let takes = self.kv.max_value_bytes;
        let fits = offered.bytes <= most(takes);
        if !fits {
            let bytes = offered.bytes;
            self.document.too_large(format!(
                "an entry of the other side has {bytes} bytes, and this side takes values of at most {takes}: it is left \
                 out. Raise the limit here, or have a smaller value written there"
            ));
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_what_was_said() {
        for limit in [0, 1, 255, 65_536, MAX_KV_VALUE_LIMIT_BYTES] {
            let said = extension(limit, 7);
            assert_eq!((taken(&said), budget(&said)), (limit, 7));
        }
        assert_eq!(taken(&extension(usize::MAX, 0)), MAX_KV_VALUE_LIMIT_BYTES);
        for unknown in [&b""[..], b"\x01", b"\x01\x00\x00", b"of a later version"] {
            let said = Extension::new(unknown).unwrap();
            assert_eq!((taken(&said), budget(&said)), (MAX_KV_VALUE_BYTES, u64::MAX));
        }
        // As a node said it that knew of no budgets.
        for more in [&b""[..], b"\x02\x00", b"\x03\x00\x00\x00\x00\x00\x00\x00\x00"] {
            let said = [&b"\x01\x07\x00\x00\x00\x00\x00\x00\x00"[..], more].concat();
            let said = Extension::new(&said).unwrap();
            assert_eq!((taken(&said), budget(&said)), (7, u64::MAX));
        }
    }
}
