//! What a document knows of its side's going back in time, and how a session notices it: see
//! [`groundswell_core::kv::restored`].

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use groundswell_core::kv::restored::Claim;
use tracing::warn;

use super::{
    Kv, WentBack,
    document::{Document, Identity},
    keeper::Command,
    session::End,
};
use crate::{Moment, limits::CLAIMED_AGAIN_AFTER, sync::lock};

/// What a claim is that no side can make.
const IMPOSSIBLE: &str = "the other side says that it holds more of this side's keys than any side can have written";

impl Document {
    /// The other side may have been sent ours up to here.
    pub(crate) fn is_sent(&self, upto: u64) {
        self.sent.fetch_max(upto, Ordering::SeqCst);
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Returns true if this side went back, and has not agreed with the other one since.
    pub(crate) fn agrees_first(&self) -> bool {
        self.status.borrow().went_back.is_some_and(|went_back| !went_back.agreed)
    }

    /// This side went back, and goes on from this counter. Nothing counts as delivered before both have agreed.
    pub(crate) fn went_back(&self, from: u64) {
        self.written_since.store(from, Ordering::SeqCst);
        self.delivered.send_modify(|delivered| delivered.agreed = u64::MAX);
        let went_back = WentBack { at: Moment::now(), agreed: false, overruled: 0 };
        self.status.send_modify(|status| status.went_back = Some(went_back));
    }

    /// Both have agreed. What was signed anew for that goes up to this counter, and is delivered before anything counts as such.
    pub(super) fn has_agreed(&self, head: u64) {
        self.delivered.send_modify(|delivered| delivered.agreed = head);
        self.change(|went_back| went_back.agreed = true);
    }

    /// The other side has claimed more than it was sent, and has not shown it: it is not believed again for a while.
    pub(super) fn was_claimed_in_vain(&self) {
        *lock(&self.claimed_in_vain) = Some(Instant::now());
    }

    /// So many writes of this side have lost to what it has taken back.
    pub(super) fn overruled(&self, more: u64) {
        if more > 0 {
            self.change(|went_back| went_back.overruled += more);
        }
    }

    fn change(&self, change: impl FnOnce(&mut WentBack)) {
        self.status.send_if_modified(|status| status.went_back.as_mut().map(change).is_some());
    }

    /// It is another document from now on, which nobody was sent anything of.
    pub(super) fn began_anew(&self) {
        self.sent.store(0, Ordering::SeqCst);
        self.written_since.store(u64::MAX, Ordering::SeqCst);
        self.delivered.send_modify(|delivered| delivered.agreed = 0);
        self.status.send_modify(|status| status.went_back = None);
    }
}

/// The other side holds so much of ours, by its own word. Where it was never sent that, this side went back: that is noted, durably,
/// and the session ends where it has said otherwise in its hello.
pub(crate) async fn look_at(
    kv: &Kv,
    document: &Arc<Document>,
    identity: &Arc<Identity>,
    held_there: u64,
) -> Result<(), End> {
    match Claim::of(document.sent(), held_there) {
        Claim::More if !document.agrees_first() => {}
        // It cannot agree on what nobody has written.
        Claim::Impossible if document.agrees_first() => return Err(End::Violation(IMPOSSIBLE.to_owned())),
        // A lie is about the other side alone.
        Claim::Impossible | Claim::More | Claim::Sent => return Ok(()),
    }
    let in_vain = *lock(&document.claimed_in_vain);
    if in_vain.is_some_and(|at| at.elapsed() < CLAIMED_AGAIN_AFTER) {
        let again = "the other side says again that it holds more of this side's keys than it was sent, and has shown none of them";
        return Err(End::Violation(again.to_owned()));
    }
    let (document, identity) = (document.clone(), identity.clone());
    let noted = kv.keeper.ask(|reply| Command::WentBack { document, identity, held_there, reply }).await;
    let noted = noted.map_err(|error| End::Failed(error.to_string()))?;
    noted.map_err(|error| End::Failed(error.to_string()))?;
    warn!(
        held_there,
        "the other side holds more of this side's keys than it was sent: this data directory went back in time"
    );
    Ok(())
}
