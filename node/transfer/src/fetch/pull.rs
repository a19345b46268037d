//! Pulling a replica: nodes from the root down, then the runs that were accepted.
//!
//! A pull is a fetch without a place: it has a planner and sessions like any other, is a member of
//! the root's swarm, comes after all else under a limit, and never takes more than a quarter of one.
//! What comes goes into the replica store, run by run, and is served from there at once. It refuses
//! a root whose leaves are not as many as the offer said, and one whose providers name a mark that
//! forbids copies; of either nothing stays. Its logs have no root, name or digest. It ends with its
//! runs, after [`PATIENCE`] without a byte, or with the node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use shoal_ground::units::Rate;
use shoal_protocol::{
    address::{CHUNK_BYTES, Codec, Digest},
    exchange::LeafRanges,
    link::{Link, Marks},
    replicate::{Key, RUN_LEAVES, Why},
    walk::{EntryKind, FileStep, FileWalk, Tree},
};
use shoal_store::replicas::AdmitError;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    FetchError, Fetcher, FetcherInner,
    halves::{Halves, Purpose, Sought},
    heard::Heard,
    inquiry::candidate,
    supply::{Need, Supply, whole},
    transfer::Sink,
    verdict::Deadlines,
};
use crate::{
    limits::Pace,
    replicate::{PullOrder, Replicator},
    swarm::Member,
};

/// For so long a pull waits for its first block: the peer that offered the root has some of it, and
/// one that does not is not to keep the place of a pull.
const FIRST_WITHIN: Duration = Duration::from_secs(20);

/// Without a byte for so long a pull ends; a person's fetch would wait longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all pulls together receive where no limit says how fast the line is, in bytes a second: a
/// quarter of a line of 128 Mbit/s.
const RATE_MAX: u64 = 4 << 20;

/// All pulls together have one part in so many of the limit on what is received.
const LIMIT_PART: u64 = 4;

/// A pull has its part of these whether others run or not.
const PULLS_MAX: u64 = shoal_protocol::replicate::helper::PULLS_MAX as u64;

/// How often a pull looks whether what copies may use of the line is used up, or they were switched
/// off.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes of leaves that are asked for and not stored yet. A run of the longest leaves fits.
const WINDOW_BYTES: u64 = 8 << 20;

/// Nodes that are stored together, in bytes.
const NODES_BYTES: usize = 1 << 20;

/// How a pull ended that nothing went wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulled {
    /// All that was accepted is here.
    Complete,
    /// The policy or the disk takes no more: what came stays.
    Stopped(&'static str),
    /// The root is not what the offer said: nothing stays.
    Untrue,
    /// A provider names a mark that forbids copies: nothing stays.
    Refused,
}

impl Fetcher {
    /// Pulls what was accepted, as many at a time as the policy allows, until nobody accepts any
    /// more or the node ends.
    pub fn pull_orders(self, orders: mpsc::Receiver<PullOrder>) -> BoxFuture<'static, ()> {
        // Compiled here, and not where it is awaited.
        Box::pin(self.inner.pull_all(orders))
    }
}

impl FetcherInner {
    async fn pull_all(self: Arc<Self>, mut orders: mpsc::Receiver<PullOrder>) {
        while let Some(Some(order)) = self.shutdown.run_until_cancelled(orders.recv()).await {
            self.tasks.spawn(Arc::clone(&self).pull(order));
        }
    }

    async fn pull(self: Arc<Self>, order: PullOrder) {
        tracing::debug!(runs = order.accepted.runs.len(), "a replica is pulled");
        // What came by an earlier pull is sound: an offer that is not has no say over it.
        let key = Key::of(&order.digest);
        let had = self.replicator.replicas().held(key);
        let is_new = had.as_ref().is_none_or(LeafRanges::is_empty);
        let (outcome, is_kept) = match self.try_pull(&order, had).await {
            Ok(Pulled::Complete) => ("complete", true),
            Ok(Pulled::Stopped(why)) => (why, true),
            Ok(Pulled::Untrue) => ("untrue", false),
            Ok(Pulled::Refused) => ("refused", false),
            Err(error) => (failure(&error), true),
        };
        tracing::info!(outcome, "a pull of a replica has ended");
        let (replicator, digest) = (self.replicator.clone(), order.digest);
        let ending = tokio::task::spawn_blocking(move || {
            let (replicas, now) = (replicator.replicas(), replicator.clock().now());
            if !is_kept && is_new {
                replicas.drop_root(key, now)?;
            }
            replicas.end_pull(&digest, now)
        });
        match ending.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the end of a pull was not recorded"),
            Err(panic) => tracing::error!(%panic, "the end of a pull was not recorded"),
        }
        self.replicator.pull_ended(&order.root, outcome);
    }

    /// Waits until copies may use the line no more.
    async fn no_more_copies(&self) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        while self.replicator.may_use_line() {
            looks.tick().await;
        }
    }

    /// Pulls what was accepted, beside what is held already.
    async fn try_pull(
        self: &Arc<Self>,
        order: &PullOrder,
        had: Option<LeafRanges>,
    ) -> Result<Pulled, FetchError> {
        let tasks = TaskTracker::new();
        let link = Link::new(order.root.clone());
        let heard = Arc::new(Heard::new(Marks::default()));
        let (member, guests) = self.swarms.join_unannounced(&order.root);
        // Who reads them hears of them from the beginning.
        if let Some(held) = had {
            member.landed(held);
        }
        let limit = self.limits.receiving_rate();
        let all = limit.map_or(RATE_MAX, |limit| (limit / LIMIT_PART).min(RATE_MAX));
        let rate = (all / PULLS_MAX).max(1);
        let sought = Sought {
            link: &link,
            peers: &[],
            deadlines: Deadlines {
                timeout: FIRST_WITHIN,
                patience: PATIENCE,
            },
            pace: &Pace::of(Rate::from_bytes_per_second(rate)),
            is_whole: true,
            heard: &heard,
            purpose: Purpose::Others(order.holders.iter().cloned().map(candidate).collect()),
        };
        let Halves {
            mut transfer,
            supply,
            ..
        } = self.halves(&sought, &Arc::default(), &tasks, None);
        // It is slow, so nobody is to leave anything to it.
        transfer.meet(guests, None);
        let pull = Pull {
            supply,
            order: order.clone(),
            replicator: self.replicator.clone(),
            member,
        };
        let pulling = tasks.spawn_blocking(move || pull.run());
        let sink = Sink {
            journal: None,
            landing: None,
        };
        let pulled = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(Pulled::Stopped("ended")),
            _ = heard.marked_beyond(Marks::default()) => Ok(Pulled::Refused),
            () = self.no_more_copies() => Ok(Pulled::Stopped("spent")),
            pulled = transfer.drive(&sink, pulling) => pulled,
        };
        drop(transfer);
        // The blocking half, the sessions and the look-ups notice that their transfer is gone.
        tasks.close();
        tasks.wait().await;
        pulled
    }
}

/// The word for why a pull failed. Errors name roots, which no log is to have.
fn failure(error: &FetchError) -> &'static str {
    match error {
        FetchError::NotFound { .. } | FetchError::Denied { .. } => "nobody",
        FetchError::NoProgress { .. } => "silent",
        FetchError::Refused(_) => "malformed",
        FetchError::Spent(_) => "spent",
        FetchError::Store(_) => "store",
        _ => "failed",
    }
}

/// The blocking half of a pull.
struct Pull {
    supply: Supply,
    order: PullOrder,
    replicator: Replicator,
    member: Member,
}

/// A leaf that is to be pulled.
struct Planned {
    leaf: u64,
    digest: Digest,
    len: Option<u32>,
}

/// Nodes that were read and are not stored yet.
#[derive(Default)]
struct Basket {
    nodes: BTreeMap<Digest, Vec<u8>>,
    bytes: usize,
}

/// Why the blocking half ends early.
enum Stop {
    Pulled(Pulled),
    Failed(FetchError),
}

impl From<FetchError> for Stop {
    fn from(error: FetchError) -> Self {
        Self::Failed(error)
    }
}

impl From<AdmitError> for Stop {
    fn from(error: AdmitError) -> Self {
        match error {
            AdmitError::Declined(Why::Budget) => Self::Pulled(Pulled::Stopped("budget")),
            AdmitError::Declined(Why::Room) => Self::Pulled(Pulled::Stopped("room")),
            // It was dropped, or switched off, while it was pulled.
            AdmitError::Declined(_) => Self::Pulled(Pulled::Stopped("dropped")),
            AdmitError::Floor => Self::Pulled(Pulled::Stopped("floor")),
            AdmitError::Store(error) => Self::Failed(FetchError::Store(error)),
        }
    }
}

impl Pull {
    fn run(self) -> Result<Pulled, FetchError> {
        let mut basket = Basket::default();
        let pulled = self.plan(&mut basket).and_then(|planned| {
            self.store_nodes(&mut basket)?;
            self.pull_runs(planned)
        });
        match pulled {
            Ok(()) => Ok(Pulled::Complete),
            Err(Stop::Pulled(pulled)) => Ok(pulled),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Walks the whole DAG and finds the leaves of the accepted runs.
    fn plan(&self, basket: &mut Basket) -> Result<Vec<Planned>, Stop> {
        let tree = self.list(basket)?;
        let runs: BTreeSet<u64> = self.order.accepted.runs.iter().copied().collect();
        let (mut planned, mut leaves) = (Vec::new(), 0);
        // A run of which a leaf stands in a node is no run of blocks, and is left out.
        let mut partial = BTreeSet::new();
        let most = self.order.shape.leaves;
        let mut count = |leaf: Option<(Digest, Option<u32>)>| {
            let number = leaves;
            // A few nodes can name more leaves than anybody could ever walk.
            if number == most {
                return Err(Stop::Pulled(Pulled::Untrue));
            }
            leaves += 1;
            let run = number / RUN_LEAVES;
            match leaf {
                Some((digest, len)) if runs.contains(&run) => planned.push(Planned {
                    leaf: number,
                    digest,
                    len,
                }),
                None if runs.contains(&run) => {
                    partial.insert(run);
                }
                Some(_) | None => {}
            }
            Ok(())
        };
        let entries = tree.entries.iter().map(|entry| &entry.kind);
        for kind in std::iter::once(&tree.root).chain(entries) {
            let EntryKind::File { cid, .. } = kind else {
                continue;
            };
            match (cid.codec(), cid.digest()) {
                _ if whole(cid).is_some() => {}
                (Codec::Raw, Some(digest)) => count(Some((digest, None)))?,
                (Codec::Raw, None) => {}
                (Codec::DagPb, _) => self.walk(FileWalk::new(cid.clone()), basket, &mut count)?,
            }
        }
        if leaves != most {
            return Err(Stop::Pulled(Pulled::Untrue));
        }
        planned.retain(|it| !partial.contains(&(it.leaf / RUN_LEAVES)));
        Ok(planned)
    }

    fn list(&self, basket: &mut Basket) -> Result<Tree, Stop> {
        let mut stop = None;
        let listed = self
            .supply
            .list_below(&self.order.root, true, &mut |digest, bytes| {
                basket.put(digest, bytes);
                self.store_enough(basket).map_err(|why| {
                    stop = Some(why);
                    FetchError::Cancelled
                })
            });
        match stop {
            Some(stop) => Err(stop),
            None => Ok(listed?),
        }
    }

    /// Walks one file, and counts its leaves as a fetch does.
    fn walk(
        &self,
        mut walk: FileWalk,
        basket: &mut Basket,
        count: &mut impl FnMut(Option<(Digest, Option<u32>)>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        loop {
            // Nodes that are here ask for nothing, and so would not notice.
            if self.supply.needs.is_closed() {
                return Err(Stop::Failed(FetchError::Cancelled));
            }
            match walk.step().map_err(FetchError::from)? {
                FileStep::Need(cid) => {
                    let digest = cid.digest();
                    let known = digest.and_then(|digest| basket.nodes.get(&digest).cloned());
                    let bytes = match known {
                        Some(bytes) => bytes,
                        None => self.supply.node(&cid)?,
                    };
                    if let Some(digest) = digest {
                        basket.put(&digest, &bytes);
                        self.store_enough(basket)?;
                    }
                    walk.feed(&cid, &bytes).map_err(FetchError::from)?;
                }
                FileStep::Leaf { len, cid, .. } => {
                    if let Some(digest) = cid.digest() {
                        let len = len.and_then(|len| u32::try_from(len).ok());
                        count(Some((digest, len)))?;
                    }
                }
                FileStep::Inline { .. } => count(None)?,
                FileStep::Done { .. } => return Ok(()),
            }
        }
    }

    fn store_enough(&self, basket: &mut Basket) -> Result<(), Stop> {
        match basket.bytes >= NODES_BYTES {
            true => self.store_nodes(basket),
            false => Ok(()),
        }
    }

    fn store_nodes(&self, basket: &mut Basket) -> Result<(), Stop> {
        let taken = std::mem::take(basket);
        let nodes: Vec<_> = taken
            .nodes
            .iter()
            .map(|(digest, bytes)| (*digest, bytes.as_slice()))
            .collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let now = self.replicator.clock().now();
        let replicas = self.replicator.replicas();
        Ok(replicas.admit_nodes(&self.order.digest, &nodes, now)?)
    }

    /// Pulls run after run, and asks ahead within the window.
    fn pull_runs(&self, planned: Vec<Planned>) -> Result<(), Stop> {
        let mut ahead = Ahead::new(&self.supply, planned);
        while let Some(run) = ahead.next_run()? {
            let leaves: Vec<_> = run
                .leaves
                .iter()
                .map(|(digest, bytes)| (*digest, bytes.as_slice()))
                .collect();
            let now = self.replicator.clock().now();
            let replicas = self.replicator.replicas();
            replicas.admit_run(&self.order.digest, run.number, &leaves, now)?;
            if let Some(held) = replicas.held(Key::of(&self.order.digest)) {
                self.member.landed(held);
            }
        }
        Ok(())
    }
}

impl Basket {
    fn put(&mut self, digest: &Digest, bytes: &[u8]) {
        if !self.nodes.contains_key(digest) {
            self.bytes += bytes.len();
            self.nodes.insert(*digest, bytes.to_vec());
        }
    }
}

/// Leaves that come, from the first that is not handed on.
struct Ahead<'a> {
    supply: &'a Supply,
    planned: Vec<Planned>,
    /// How many of these were handed on, and how many were asked for.
    done: usize,
    asked: usize,
    /// What the ones between these two count as, in bytes.
    bytes: u64,
    /// Their bytes as they come, and how often each is among them.
    wanted: HashMap<Digest, (usize, Option<Vec<u8>>)>,
}

/// A run whose leaves are here.
struct Run {
    number: u64,
    leaves: Vec<(Digest, Vec<u8>)>,
}

impl<'a> Ahead<'a> {
    fn new(supply: &'a Supply, planned: Vec<Planned>) -> Self {
        Self {
            supply,
            planned,
            done: 0,
            asked: 0,
            bytes: 0,
            wanted: HashMap::new(),
        }
    }

    /// The next run, once all of its leaves are here.
    fn next_run(&mut self) -> Result<Option<Run>, FetchError> {
        let Some(first) = self.planned.get(self.done) else {
            return Ok(None);
        };
        let number = first.leaf / RUN_LEAVES;
        let rest = self.planned.get(self.done..).unwrap_or_default();
        let count = rest
            .iter()
            .take_while(|it| it.leaf / RUN_LEAVES == number)
            .count();
        let end = self.done + count;
        let mut leaves = Vec::with_capacity(count);
        while self.done < end {
            self.ask(end)?;
            let leaf = self.take()?;
            leaves.push(leaf);
        }
        Ok(Some(Run { number, leaves }))
    }

    /// Asks for all leaves before `end`, and for further ones while the window has room.
    fn ask(&mut self, end: usize) -> Result<(), FetchError> {
        while let Some(Planned { leaf, digest, len }) = self.planned.get(self.asked)
            && (self.asked < end || self.bytes < WINDOW_BYTES)
        {
            self.bytes += assumed(*len);
            self.asked += 1;
            let (count, _) = self.wanted.entry(*digest).or_insert((0, None));
            *count += 1;
            if *count == 1 {
                self.supply.need(Need::Leaf {
                    digest: *digest,
                    len: *len,
                    leaf: Some(*leaf),
                })?;
            }
        }
        Ok(())
    }

    /// The next leaf, once it is here.
    fn take(&mut self) -> Result<(Digest, Vec<u8>), FetchError> {
        let lost = || FetchError::Internal("a leaf was not asked for".to_owned());
        let planned = self.planned.get(self.done).ok_or_else(lost)?;
        let (digest, len) = (planned.digest, planned.len);
        loop {
            let (count, bytes) = self.wanted.get_mut(&digest).ok_or_else(lost)?;
            if let Some(bytes) = bytes {
                let bytes = bytes.clone();
                *count -= 1;
                if *count == 0 {
                    self.wanted.remove(&digest);
                }
                self.bytes = self.bytes.saturating_sub(assumed(len));
                self.done += 1;
                return Ok((digest, bytes));
            }
            let (came, bytes) = self.supply.received()?;
            if let Some((_, wanted)) = self.wanted.get_mut(&came) {
                *wanted = Some(bytes);
            }
        }
    }
}

/// What a leaf counts in the window.
fn assumed(len: Option<u32>) -> u64 {
    len.map_or(CHUNK_BYTES as u64, u64::from)
}
