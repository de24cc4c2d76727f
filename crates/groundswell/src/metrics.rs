//! Counters of what a node does, since it was started.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Declares the counters and their snapshot together, so that none is forgotten in one.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The counters, as the parts of the node count.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $name: Counter,)*
        }

        /// The counters of a node at one moment. Each counts since the node was started,
        /// except those that say *now*.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// Waves that agents of this node gave and that are durable.
    waves_given,
    /// Waves that a wash refused.
    waves_refused,
    /// Waves sent to remote readers, each reader counted.
    waves_sent,
    /// Waves of remote publications applied to replicas.
    waves_applied,
    /// Rocks encoded: to be stored, or to be compared with a publisher's digest.
    rocks_made,
    /// Nanoseconds spent making them.
    rock_nanoseconds,
    /// Rocks sent to remote readers.
    rocks_sent,
    /// Rocks received from remote publications.
    rocks_received,
    /// Replicas found to differ from their publication.
    divergences,
    /// Remote readers that resumed by their cursor.
    resumes,
    /// Requests of remote readers that were refused.
    refusals,
    /// Messages of peers that may not be.
    violations,
    /// Local readers now.
    local_readers_now,
    /// Remote readers now, the parked ones included.
    remote_readers_now,
    /// Remote readers now that wait for a path that is not available.
    parked_readers_now,
    /// Replicas now.
    replicas_now,
    /// Streams on the wire now on which this node follows a remote publication.
    streams_followed_now,
    /// Connections now.
    connections_now,
    /// Handshakes that came to nothing: they took too long, or newer ones needed their place.
    handshakes_given_up,
    /// Newcomers that had to show first that their address is their own, since many handshakes were under way.
    addresses_validated,
    /// First packets of newcomers that were ignored, since the node was crowded and takes so many a second.
    newcomers_put_off,
    /// Connections that were refused for who the peer is: one with too many, unknown to a private node, or without room.
    connections_refused,
    /// Connections of strangers that were closed to make room for newer ones.
    strangers_evicted,
    /// Connections of followers that were closed to make room for newer ones.
    followers_evicted,
    /// Bytes of frames sent.
    bytes_sent,
    /// Bytes of frames received.
    bytes_received,
    /// Transactions made durable.
    commits,
    /// Nanoseconds spent making them durable.
    commit_nanoseconds,
    /// Transactions that failed.
    commit_failures,
    /// Rocks copied because a reader held one for longer than the driver waits.
    rocks_copied,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn less(&self, less: u64) {
        self.0.fetch_sub(less, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
