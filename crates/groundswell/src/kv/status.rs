//! How a document stands with the other side.

use serde::Serialize;

use super::{session::End, storage::Standing};
use crate::Moment;

/// Whether the other side can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KvLink {
    /// There is no other side: the machine is not claimed.
    Unclaimed,
    /// It has not been reached since this node was started.
    Connecting,
    /// It is connected.
    Online,
    /// It can't be reached.
    Offline {
        /// Since when. Of a side that fell silent: when that was noticed, less the
        /// [silence](crate::limits::IDLE_TIMEOUT) after which it is.
        since: Moment,
    },
    /// It answers, and does not know this pair. It may have been started without its files, or they are lost, or it has
    /// not stored the claim. The pair is kept, and the other side is asked again until it knows it, or the pairing
    /// is released here.
    NotKnown {
        /// Since when.
        since: Moment,
    },
    /// It has ended the pairing.
    Released,
}

/// That this side's storage is of an earlier time than what the other side knows of it: a backup was restored, or files were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WentBack {
    /// When that was noticed, in this run of the node.
    pub at: Moment,
    /// Whether this side has taken back what the other side has of its writes. Until then nothing counts as delivered.
    pub agreed: bool,
    /// How many writes of this side have lost to others that it had lost and has taken back: those have greater stamps. Among
    /// them are writes of before that the other side had not been sent.
    pub overruled: u64,
}

/// What is known of the other side of a document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LinkStatus {
    /// Whether it can be reached.
    pub link: KvLink,
    /// Whether everything that it had when it was reached is here, and what follows is live.
    pub current: bool,
    /// When the document was last known to be current; not set while it is.
    pub current_at: Option<Moment>,
    /// Since when something that was written here has not been delivered: the other side has not said that it is durable
    /// there. It is set once that has lasted for [a second](crate::limits::KV_DELIVERED_WITHIN), whether the other side
    /// counts as online or not. Of what was written in an earlier run of this node it is known once the other side
    /// was reached. [`KvSpace::until_delivered`](crate::KvSpace::until_delivered) waits for it.
    pub undelivered_since: Option<Moment>,
    /// By how many milliseconds its wall clock is ahead of this one's; behind, where negative. As it
    /// was when it was reached last. Nothing depends on it but timestamps for people.
    pub skew_ms: Option<i64>,
    /// Another device has the same identity, as a copied disk does: give one of them a new one.
    pub duplicate: bool,
    /// What hinders, in words: why the other side refuses, or what failed here.
    pub problem: Option<String>,
    /// This side went back in time. It is told until the node is restarted after both have agreed.
    pub went_back: Option<WentBack>,
    /// How many reconciliations have found both sides alike, since this node was started.
    pub reconciled: u64,
    /// The other side broke the protocol: that it connects again is no reason to forget it. A reconciliation that finds
    /// nothing to object to is.
    #[serde(skip)]
    pub(crate) distrusted: bool,
    /// The problem is a value that is left out.
    #[serde(skip)]
    pub(crate) left_out: bool,
}

impl LinkStatus {
    pub(crate) fn unclaimed() -> Self {
        Self::new(&Standing::Unclaimed)
    }

    pub(crate) fn new(standing: &Standing) -> Self {
        let link = match standing {
            Standing::Unclaimed => KvLink::Unclaimed,
            Standing::Paired { .. } => KvLink::Connecting,
            Standing::Released { .. } | Standing::Releasing { .. } | Standing::Former { .. } => KvLink::Released,
        };
        Self {
            link,
            current: false,
            current_at: None,
            undelivered_since: None,
            skew_ms: None,
            duplicate: false,
            problem: None,
            went_back: None,
            reconciled: 0,
            distrusted: false,
            left_out: false,
        }
    }

    /// A connection has ended so.
    pub(crate) fn hindered_by(&mut self, end: &End) {
        let violation = matches!(end, End::Violation(_));
        if let Some(problem) = end.problem()
            && (violation || !self.distrusted)
        {
            self.problem = Some(problem.to_owned());
        }
        self.distrusted |= violation;
    }

    /// A value is left out, which matters less than a side that broke the protocol; whether that is new.
    pub(crate) fn leaves_out(&mut self, what: String) -> bool {
        if self.distrusted || self.problem.as_ref() == Some(&what) {
            return false;
        }
        self.left_out = true;
        self.problem = Some(what);
        true
    }

    /// No value is left out any more; whether that is new.
    pub(crate) fn leaves_out_nothing(&mut self) -> bool {
        let was = std::mem::take(&mut self.left_out);
        if was && !self.distrusted {
            self.problem = None;
        }
        was
    }

    /// A reconciliation has found both sides alike.
    pub(crate) fn found_alike(&mut self) {
        self.reconciled += 1;
        self.leaves_out_nothing();
        if std::mem::take(&mut self.distrusted) {
            self.problem = None;
        }
    }

    /// The other side answers that it does not know this pair.
    pub(crate) fn is_not_known(&mut self, now: Moment) {
        self.is_not_current(now);
        if !self.distrusted {
            self.problem = None;
        }
        if !matches!(self.link, KvLink::NotKnown { .. } | KvLink::Unclaimed | KvLink::Released) {
            self.link = KvLink::NotKnown { since: now };
        }
    }

    fn is_not_current(&mut self, since: Moment) {
        if std::mem::take(&mut self.current) {
            self.current_at = Some(since);
        }
    }

    /// The other side can't be reached since then any more, or not yet.
    pub(crate) fn went_offline(&mut self, since: Moment) {
        self.is_not_current(since);
        if !matches!(self.link, KvLink::Offline { .. } | KvLink::Unclaimed | KvLink::Released) {
            self.link = KvLink::Offline { since };
        }
    }
}
