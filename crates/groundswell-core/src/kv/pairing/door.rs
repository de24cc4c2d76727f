//! The door of a machine: who may claim it now, and how often that was tried in vain.

use alloc::{collections::VecDeque, vec::Vec};

use super::{ClaimSecret, PeerKey, Refusal, secret};
use crate::limits::{
    CLAIM_WINDOW_MS, MAX_CLAIM_ATTEMPTS, MAX_CLAIM_ATTEMPTS_OF_PEER, MAX_CLAIM_SECRET_MS, MAX_CLAIMS_OPEN_MS,
};

/// How a claim is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A person has opened the door.
    Door,
    /// With the one-time secret of a ticket.
    Secret,
}

/// A claim that was admitted, and came to nothing so far.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    at_ms: u64,
    peer: PeerKey,
}

/// The one-time secret that is valid now.
#[derive(Debug)]
struct OneTime {
    key: [u8; 32],
    expires_ms: u64,
    attempts: usize,
}

/// Whether a machine takes claims. Each closed door costs a stranger a message and the machine nothing.
#[derive(Debug, Default)]
pub(super) struct Door {
    open_until_ms: Option<u64>,
    /// How many wait for a claim.
    held: usize,
    secret: Option<OneTime>,
    /// At most [`MAX_CLAIM_ATTEMPTS`], the newest last.
    attempts: VecDeque<Attempt>,
}

impl Door {
    /// A person opens it: what was tried in vain before is forgiven.
    pub(super) fn open(&mut self, now_ms: u64, for_ms: u64) {
        self.open_until_ms = Some(now_ms.saturating_add(for_ms.min(MAX_CLAIMS_OPEN_MS)));
        self.attempts.clear();
    }

    /// A person closes what was opened for a time. It stays open for those that wait.
    pub(super) fn close(&mut self) {
        self.open_until_ms = None;
    }

    pub(super) fn hold(&mut self) {
        self.held += 1;
    }

    pub(super) fn let_go(&mut self) {
        self.held = self.held.saturating_sub(1);
    }

    pub(super) fn is_open(&self, now_ms: u64) -> bool {
        self.held > 0 || self.open_for_ms(now_ms).is_some()
    }

    /// For how long it is open, where that is for a time.
    pub(super) fn open_for_ms(&self, now_ms: u64) -> Option<u64> {
        self.open_until_ms.map(|until| until.saturating_sub(now_ms)).filter(|left| *left > 0)
    }

    /// A secret admits claims from now on, in the place of the one before.
    pub(super) fn offer(&mut self, now_ms: u64, secret: &ClaimSecret, for_ms: u64) {
        let expires_ms = now_ms.saturating_add(for_ms.min(MAX_CLAIM_SECRET_MS));
        self.secret = Some(OneTime { key: secret.key(), expires_ms, attempts: 0 });
    }

    pub(super) fn secret_for_ms(&self, now_ms: u64) -> Option<u64> {
        let secret = self.secret.as_ref()?;
        Some(secret.expires_ms.saturating_sub(now_ms)).filter(|left| *left > 0 && secret.attempts < MAX_CLAIM_ATTEMPTS)
    }

    /// Which way a claim may come in. Nothing is counted yet.
    pub(super) fn way(
        &mut self,
        now_ms: u64,
        peer: PeerKey,
        keying: &[u8; 32],
        commitment: &[u8; 32],
        proof: Option<&[u8; 32]>,
    ) -> Result<Way, Refusal> {
        if self.secret_for_ms(now_ms).is_none() {
            self.secret = None;
        }
        let proved = match (&self.secret, proof) {
            // A hash is compared in constant time.
            (Some(secret), Some(proof)) => secret::proof(&secret.key, keying, commitment) == *proof,
            _ => false,
        };
        if proved {
            return Ok(Way::Secret);
        }
        if !self.is_open(now_ms) {
            return Err(if proof.is_some() { Refusal::Secret } else { Refusal::Closed });
        }
        self.prune(now_ms);
        let of_peer = self.attempts.iter().filter(|attempt| attempt.peer == peer);
        let retry_at = |oldest: Option<&Attempt>| {
            let at_ms = oldest.map_or(now_ms, |oldest| oldest.at_ms);
            Refusal::TooManyAttempts { retry_after_ms: CLAIM_WINDOW_MS.saturating_sub(now_ms.saturating_sub(at_ms)) }
        };
        if of_peer.clone().count() >= MAX_CLAIM_ATTEMPTS_OF_PEER {
            return Err(retry_at(of_peer.clone().next()));
        }
        if self.attempts.len() >= MAX_CLAIM_ATTEMPTS {
            return Err(retry_at(self.attempts.front()));
        }
        Ok(Way::Door)
    }

    /// A claim is admitted. It counts from now on, however it ends: who breaks off before the PIN is shown may know it.
    pub(super) fn count(&mut self, now_ms: u64, peer: PeerKey, way: Way) {
        match (way, &mut self.secret) {
            (Way::Door, _) => self.attempts.push_back(Attempt { at_ms: now_ms, peer }),
            (Way::Secret, Some(secret)) => secret.attempts += 1,
            (Way::Secret, None) => {}
        }
    }

    /// A pair was made: the door is closed, the secret is used, and what was in vain is forgiven.
    pub(super) fn paired(&mut self) {
        self.open_until_ms = None;
        self.secret = None;
        self.attempts.clear();
    }

    /// Who has used up attempts, and how many, those that used most first.
    pub(super) fn attempts(&self, now_ms: u64) -> Vec<(PeerKey, usize)> {
        let mut counts: Vec<(PeerKey, usize)> = Vec::new();
        for attempt in self.attempts.iter().filter(|attempt| now_ms.saturating_sub(attempt.at_ms) < CLAIM_WINDOW_MS) {
            match counts.iter_mut().find(|(peer, _)| *peer == attempt.peer) {
                Some((_, count)) => *count += 1,
                None => counts.push((attempt.peer, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| core::cmp::Reverse(*count));
        counts
    }

    fn prune(&mut self, now_ms: u64) {
        while self.attempts.front().is_some_and(|oldest| now_ms.saturating_sub(oldest.at_ms) >= CLAIM_WINDOW_MS) {
            self.attempts.pop_front();
        }
    }
}
