//! What all peers that this node does not know may have here together. Each has limits of its own, but identities cost
//! nothing. A peer that the owner of this node has chosen takes nothing of it.

use std::sync::Arc;

use groundswell_core::wire::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    limits::{MAX_SERVED_OF_UNKNOWN, MAX_WAITING_BYTES_OF_UNKNOWN, MAX_WAITING_OF_UNKNOWN},
    store::TideKey,
};

/// A share of what unknown peers have, until it is dropped; `None` for a known one.
pub(crate) type Share = Option<OwnedSemaphorePermit>;

/// What is left for unknown peers.
pub(crate) struct Unknown {
    waiting: Arc<Semaphore>,
    waiting_bytes: Arc<Semaphore>,
    served: Arc<Semaphore>,
}

impl Default for Unknown {
    fn default() -> Self {
        let all = |count| Arc::new(Semaphore::new(count));
        Self {
            waiting: all(MAX_WAITING_OF_UNKNOWN),
            waiting_bytes: all(MAX_WAITING_BYTES_OF_UNKNOWN),
            served: all(MAX_SERVED_OF_UNKNOWN),
        }
    }
}

impl Unknown {
    /// A place for a stream that waits for its request, or for a path.
    pub(crate) fn waiting(&self, known: bool) -> Result<Share, Refusal> {
        take(&self.waiting, known, 1)
    }

    /// The same for one that waits for this path, which is kept.
    pub(crate) fn parked(&self, known: bool, key: &TideKey) -> Result<[Share; 2], Refusal> {
        let agent = match key {
            TideKey::Publication { agent, .. } => agent.as_str().len(),
            TideKey::Replica(_) => 0,
        };
        let bytes = agent + key.path().as_str().len();
        Ok([self.waiting(known)?, take(&self.waiting_bytes, known, bytes)?])
    }

    /// A place for one that is served.
    pub(crate) fn served(&self, known: bool) -> Result<Share, Refusal> {
        take(&self.served, known, 1)
    }
}

fn take(of: &Arc<Semaphore>, known: bool, count: usize) -> Result<Share, Refusal> {
    if known {
        return Ok(None);
    }
    let count = u32::try_from(count).map_err(|_| Refusal::Crowded)?;
    of.clone().try_acquire_many_owned(count).map(Some).map_err(|_| Refusal::Crowded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unknown_peers_wait_for_is_bounded_and_known_ones_take_nothing_of_it() {
        let unknown = Unknown::default();
        let key = |segment: &str| TideKey::Publication {
            agent: "main".parse().unwrap(),
            path: format!("/{}", vec![segment; 15].join("/")).parse().unwrap(),
        };
        let long = key(&"x".repeat(255));
        let held: Vec<_> = std::iter::from_fn(|| unknown.parked(false, &long).ok()).collect();
        assert_eq!(held.len(), MAX_WAITING_BYTES_OF_UNKNOWN / (4 + 15 * 256));
        assert!(unknown.parked(true, &long).is_ok_and(|shares| shares.iter().all(Option::is_none)));
        drop(held);
        let short = key("a");
        let held: Vec<_> = std::iter::from_fn(|| unknown.parked(false, &short).ok()).collect();
        assert_eq!(held.len(), MAX_WAITING_OF_UNKNOWN);
        assert!(unknown.waiting(true).is_ok());
        assert_eq!(unknown.waiting(false).err(), Some(Refusal::Crowded));
        drop(held);
        assert!(unknown.waiting(false).is_ok(), "what is let go of is there again");
    }
}
