//! Who may read a path.

use alloc::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_ALLOWED_PEERS;

/// Who may read a path: everyone, or these peers. `P` is how a peer is identified.
///
/// The agents of the publishing node itself are not asked: they may always read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Access<P: Ord> {
    /// Everyone.
    #[default]
    Public,
    /// These peers alone; nobody, where the set is empty.
    Only(BTreeSet<P>),
}

/// Why access was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A peer can't be blocked from what everyone may read.
    #[error("the path is public, so that nobody can be blocked from it: make it secret, then allow who may read it")]
    BlockOnPublic,
    /// Too many peers.
    #[error("{peers} peers would be allowed: at most {MAX_ALLOWED_PEERS} can be; make the path public, or spread it")]
    TooManyPeers {
        /// How many there would be.
        peers: usize,
    },
}

impl<P: Ord> Access<P> {
    /// Nobody.
    pub fn secret() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Whether this peer may read.
    pub fn allows(&self, peer: &P) -> bool {
        match self {
            Self::Public => true,
            Self::Only(peers) => peers.contains(peer),
        }
    }

    /// Allows these peers too. On a public path they are allowed already, and nothing changes.
    pub fn allow(mut self, peers: impl IntoIterator<Item = P>) -> Result<Self, AccessError> {
        if let Self::Only(allowed) = &mut self {
            allowed.extend(peers);
        }
        self.checked()
    }

    /// Allows these peers no longer; who was not allowed stays so. On a public path it is refused:
    /// it could not be done.
    pub fn block(mut self, peers: impl IntoIterator<Item = P>) -> Result<Self, AccessError> {
        let Self::Only(allowed) = &mut self else { return Err(AccessError::BlockOnPublic) };
        for peer in peers {
            allowed.remove(&peer);
        }
        Ok(self)
    }

    /// The same access, if it is within the limit.
    pub fn checked(self) -> Result<Self, AccessError> {
        match &self {
            Self::Only(peers) if peers.len() > MAX_ALLOWED_PEERS => {
                Err(AccessError::TooManyPeers { peers: peers.len() })
            }
            _ => Ok(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_what_they_say() {
        let public = Access::<u8>::default();
        assert!(public.allows(&1));
        assert_eq!(public.clone().allow([1]), Ok(Access::Public), "everyone is allowed already");
        assert_eq!(public.block([1]), Err(AccessError::BlockOnPublic));
        let secret = Access::<u8>::secret();
        assert!(!secret.allows(&1));
        let some = secret.allow([1, 2]).unwrap();
        assert!(some.allows(&1) && some.allows(&2) && !some.allows(&3));
        let fewer = some.block([2, 3]).unwrap();
        assert!(fewer.allows(&1) && !fewer.allows(&2));
        assert_eq!(fewer.block([1]), Ok(Access::secret()));
    }

    #[test]
    fn the_limit_of_allowed_peers_is_met_at_its_edge() {
        let most = 0..u32::try_from(MAX_ALLOWED_PEERS).unwrap();
        let full = Access::secret().allow(most).unwrap();
        assert!(full.clone().allow([0]).is_ok(), "one of them again");
        assert_eq!(full.allow([u32::MAX]), Err(AccessError::TooManyPeers { peers: MAX_ALLOWED_PEERS + 1 }));
    }
}
