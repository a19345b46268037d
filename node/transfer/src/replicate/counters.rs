//! What this node has asked, answered, offered and pulled, since it started.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::{Mutex, MutexGuard};
use shoal_ground::metrics::Numbers;
use shoal_protocol::replicate::{
    Answer, Reply, Why, cache::Why as Gone, helper::Counters as Policy,
};
use shoal_store::replicas::ReplicaStats;

/// One count.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.add_all(1);
    }

    pub(super) fn add_all(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts told apart by a word; there are as many as the code has words.
#[derive(Debug, Default)]
pub(super) struct Kinds(Mutex<BTreeMap<&'static str, u64>>);

impl Kinds {
    pub(super) fn add(&self, kind: &'static str) {
        let mut kinds = self.lock();
        let count = kinds.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    fn values(&self) -> Vec<(&'static str, u64)> {
        self.lock()
            .iter()
            .map(|(kind, count)| (*kind, *count))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock()
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// What others answered to the asks of this node.
    pub(super) heard: Kinds,
    /// What this node answered to the asks of others.
    pub(super) answered: Kinds,
    /// What others replied to offers of this node.
    pub(super) replies: Kinds,
    /// How pulls of this node ended.
    pub(super) pulls: Kinds,
    /// Messages beyond a limit, dropped.
    pub(super) over_limit: Kinds,
    /// Streams of peers that had gone beyond limits again and again.
    pub(super) streams_shut_out: Count,
    /// Bytes of replicas that were sent to readers.
    pub(super) bytes_out: Count,
    /// Bytes of own replicas that fetches of this node read.
    pub(super) bytes_own: Count,
    /// Bytes of own replicas that were compared with their digests.
    pub(super) bytes_scrubbed: Count,
}

/// The word for an answer.
pub(super) fn of_answer(answer: &Answer) -> &'static str {
    match answer {
        Answer::Have { .. } => "have",
        Answer::Pulling => "pulling",
        Answer::Want => "want",
        Answer::Elsewhere { .. } => "elsewhere",
        Answer::No { .. } => "no",
    }
}

/// The word for a reply.
pub(super) fn of_reply(reply: &Reply) -> &'static str {
    match reply {
        Reply::Accept { .. } => "accept",
        Reply::Decline { why, .. } => declined_reason(*why),
    }
}

/// The word for why an ask or an offer is turned down.
#[must_use]
pub fn declined_reason(why: Why) -> &'static str {
    match why {
        Why::Off => "off",
        Why::Demand => "demand",
        Why::Enough => "enough",
        Why::Busy => "busy",
        Why::Budget => "budget",
        Why::Room => "room",
        Why::Place => "place",
        Why::Refused => "refused",
        Why::Untrue => "untrue",
        Why::Unasked => "unasked",
    }
}

impl Counters {
    /// Adds what is counted here.
    pub(super) fn measure(&self, numbers: &mut Numbers) {
        numbers.counters(
            "shoal_replica_asks_sent",
            "Asks of this node that near peers answered, by the answer.",
            "answer",
            self.heard.values(),
        );
        numbers.counters(
            "shoal_replica_asks_answered",
            "Asks of others that this node answered, by the answer.",
            "answer",
            self.answered.values(),
        );
        numbers.counters(
            "shoal_replica_offers_sent",
            "Offers of this node that near peers replied to: accepted, or why not.",
            "reply",
            self.replies.values(),
        );
        numbers.counters(
            "shoal_replica_pulls_ended",
            "Pulls of this node that ended, by how.",
            "outcome",
            self.pulls.values(),
        );
        numbers.counters(
            "shoal_replica_limits_hit",
            "Messages about replicas beyond what one peer may say, dropped, by what they were.",
            "saying",
            self.over_limit.values(),
        );
        numbers.counter(
            "shoal_replica_streams_shut_out",
            "Streams about replicas that were refused to peers which had gone beyond limits.",
            self.streams_shut_out.value(),
        );
        numbers.counters(
            "shoal_replica_read_bytes",
            "Bytes of replicas that were read: sent to others, used by fetches of this node, or \
             compared with their digests.",
            "reader",
            [
                ("others", self.bytes_out.value()),
                ("own", self.bytes_own.value()),
                ("scrub", self.bytes_scrubbed.value()),
            ],
        );
    }
}

/// Adds what the policy counts: what causes pulls, and what they cost.
pub(super) fn measure_helper(numbers: &mut Numbers, counters: &Policy, credit: u64) {
    numbers.counters(
        "shoal_replica_asks",
        "Asks of others: all, those that were the first of their asker, and those that pulls were \
         made for.",
        "kind",
        [
            ("all", counters.asks),
            ("distinct", counters.asks_distinct),
            ("spent", counters.asks_spent),
        ],
    );
    numbers.counters(
        "shoal_replica_pulls",
        "Pulls that began, by what caused them.",
        "cause",
        [
            ("asks", counters.pulls_for_asks),
            ("offers", counters.offers_accepted),
        ],
    );
    let declined = counters.declined.iter();
    numbers.counters(
        "shoal_replica_declined",
        "Asks and offers that were turned down, by the reason.",
        "why",
        declined.map(|(why, count)| (declined_reason(*why), *count)),
    );
    numbers.counters(
        "shoal_replica_bytes",
        "Bytes of replicas: pulled in, and read by distinct readers.",
        "direction",
        [
            ("in", counters.bytes_pulled),
            ("out", counters.bytes_served),
        ],
    );
    numbers.gauge(
        "shoal_replica_credit_bytes",
        "Bytes that this node may pull for others at present.",
        credit,
    );
}

/// Adds what the store counts: what is held, and what was let go.
pub(super) fn measure_stats(numbers: &mut Numbers, stats: &ReplicaStats) {
    numbers.gauges(
        "shoal_replica_held_bytes",
        "What replicas count as, and what they may.",
        "part",
        [("used", stats.used), ("quota", stats.quota)],
    );
    numbers.gauge(
        "shoal_replica_roots",
        "Roots of which replicas are held.",
        stats.roots,
    );
    numbers.gauge(
        "shoal_replica_runs",
        "Runs of leaves that are held.",
        stats.runs,
    );
    let gone = stats.gone.iter();
    numbers.counters(
        "shoal_replica_evictions",
        "Runs that were let go, by the reason.",
        "why",
        gone.map(|(why, count)| (gone_reason(*why), *count)),
    );
}

/// The word for why a run was let go of.
#[must_use]
pub fn gone_reason(why: Gone) -> &'static str {
    match why {
        Gone::Space => "space",
        Gone::Owner => "owner",
        Gone::Unread => "unread",
        Gone::Dropped => "dropped",
    }
}
