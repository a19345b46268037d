//! Counts of what the network refused, dropped or lost: every limit that was hit can be seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One count. It only grows; a reader may see it some nanoseconds late.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live counts, shared by all parts of the network.
        #[derive(Debug, Clone, Default)]
        pub(super) struct Counters(Arc<Cells>);

        #[derive(Debug, Default)]
        pub(super) struct Cells {
            $(pub(super) $name: Counter,)*
        }

        /// What the network has refused, dropped or lost since it started.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct NetCounters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl NetCounters {
            /// Each count with its name.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> NetCounters {
                NetCounters { $($name: self.0.$name.value(),)* }
            }
        }
    };
}

impl std::ops::Deref for Counters {
    type Target = Cells;

    fn deref(&self) -> &Cells {
        &self.0
    }
}

counters! {
    /// Connections refused by a limit.
    connections_refused,
    /// Idle connections closed to make room for new ones.
    connections_gave_way,
    /// Connections refused because the peer is banned.
    connections_banned,
    /// Peers disconnected because they do not speak this network's protocols.
    strangers,
    /// Inbound exchange streams refused because the connection or the node has as many as it may.
    streams_over_limit,
    /// Inbound exchange streams refused because nobody took the ones before in time.
    streams_not_taken,
    /// Provider records refused by a quota.
    records_refused,
    /// Provider records dropped to make room for nearer ones.
    records_evicted,
    /// Peers that stayed out of the routing table because their subnet has its part of it.
    routes_refused,
    /// Value records refused; this network has none.
    values_refused,
    /// Changes to remembered records or peers that were not written because the disk was too slow
    /// or failed.
    writes_lost,
    /// Lookups refused because too many were waiting.
    lookups_refused,
    /// Announcements that reached no peer and are tried again.
    announce_retries,
    /// Requests of peers to connect to an address that is not on the internet or not their own.
    dial_backs_forbidden,
    /// Requests of peers to connect to them that came too often.
    dial_backs_refused,
    /// Peers that said to have connected to this node when asked to, and had not.
    dial_backs_false,
}
