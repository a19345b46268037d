//! Carrying a script out on a network, and writing down what happens.
//!
//! Everything runs inside of one future: dropping it gives up all that is under way, and leaves the
//! network to whoever has it. Steps begin at their times, and do not wait for one another; what a
//! node does waits until it is up. A failure of a node is an entry in the record, never the end of
//! a run.

mod ledger;
mod tasks;
mod verify;

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, watch},
    time::{self, Instant, MissedTickBehavior},
};

use self::ledger::Ledger;
use super::{
    driver::Driver,
    files::Original,
    record::Record,
    script::{Action, Script, ScriptStep},
};
use crate::{Error, scenario::Scenario};

/// Each is a connection to its node and a few buffers; others begin when one has ended.
const FETCHES_AT_ONCE_MAX: usize = 512;

/// Enough that the network waits for none of them, few enough to tell how long one takes.
const LOOKUPS_AT_ONCE_MAX: usize = 16;

/// A node that starts keeps a processor busy for a moment.
const STARTS_AT_ONCE_MAX: usize = 4;

/// A plot shows no more than a thousand or so points.
const SAMPLES: u32 = 1200;
/// Twice a second is enough for a person who watches.
const SAMPLE_EVERY_MIN: Duration = Duration::from_millis(500);
/// Asking one node takes it a few milliseconds: so that takes a tenth of its time at the most.
const SAMPLE_EVERY_PER_NODE: Duration = Duration::from_millis(20);

/// Something that a run has to tell while it lasts.
#[derive(Clone, Debug)]
pub enum RunNews<'a> {
    /// What is being done before and after the timeline.
    Phase(&'a str),
    /// Something was done to the network, or could not be done.
    Happened(&'a super::record::Happening),
    /// How far it is.
    Live(&'a Live),
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Since its start.
    pub elapsed: Duration,
    /// Nodes.
    pub nodes: usize,
    /// Nodes that are up.
    pub up: usize,
    /// Fetches that run.
    pub fetching: usize,
    /// Fetches that are done.
    pub fetched: usize,
    /// Fetches that failed.
    pub failed: usize,
    /// Fetches that the script has in all.
    pub fetches: usize,
    /// Bytes that have landed.
    pub bytes: u64,
    /// Payload that owners have sent.
    pub sent_by_owners: u64,
    /// Payload that all others have sent.
    pub sent_by_others: u64,
    /// Lookups that are done.
    pub lookups: usize,
}

/// A run in progress.
struct Run<'a, D> {
    driver: &'a D,
    scenario: &'a Scenario,
    script: &'a Script,
    originals: Vec<Original>,
    start: Instant,
    nodes: Vec<watch::Sender<Life>>,
    roots: Vec<watch::Sender<Option<Root>>>,
    ledger: Ledger<'a>,
    fetches: Semaphore,
    lookups: Semaphore,
    starts: Semaphore,
    /// How many fetches of each node have not ended.
    to_fetch: Vec<AtomicUsize>,
}

/// How many fetches the script has of each node.
fn fetches_of(script: &Script, nodes: usize) -> Vec<AtomicUsize> {
    let counts: Vec<_> = (0..nodes).map(|_| AtomicUsize::new(0)).collect();
    for step in &script.steps {
        if let Action::Fetch { node, .. } = step.action {
            counts[node].fetch_add(1, Relaxed);
        }
    }
    counts
}

/// One of the lives of a node, from a start to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    up: bool,
    /// How often it was killed.
    number: u32,
    /// How often a new node took its place.
    fresh: u32,
}

/// What a content is known by once it is shared; nothing when that failed.
type Root = Result<String, ()>;

/// Runs `script` on `driver`, whose nodes are all up and whose files are made, and says what
/// happened. `tell` hears of it while it lasts.
///
/// # Errors
/// When copies cannot be compared. What nodes fail at is in the record.
pub(crate) async fn run<D: Driver>(
    driver: &D,
    scenario: &Scenario,
    script: &Script,
    originals: Vec<Original>,
    tell: &(dyn Fn(RunNews<'_>) + Sync),
) -> Result<Record, Error> {
    let nodes = scenario.members.len();
    let life = Life {
        up: true,
        number: 0,
        fresh: 0,
    };
    let run = Run {
        driver,
        scenario,
        script,
        to_fetch: fetches_of(script, nodes),
        originals,
        start: Instant::now(),
        nodes: (0..nodes).map(|_| watch::Sender::new(life)).collect(),
        roots: script
            .items
            .iter()
            .map(|_| watch::Sender::new(None))
            .collect(),
        ledger: Ledger::new(script, nodes, driver.memory_before(), tell),
        fetches: Semaphore::new(FETCHES_AT_ONCE_MAX),
        lookups: Semaphore::new(LOOKUPS_AT_ONCE_MAX),
        starts: Semaphore::new(STARTS_AT_ONCE_MAX),
    };
    let honest = scenario.members.honest();
    let in_time = time::timeout_at(run.start + scenario.limit, run.play());
    let cut_off = tokio::select! {
        over = in_time => over.is_err(),
        () = run.sample_forever(honest, scenario.limit) => true,
    };
    run.sample(honest).await;
    let originals = run.originals;
    let mut record = run.ledger.close(run.start.elapsed(), cut_off);
    tell(RunNews::Phase("comparing the copies with the originals"));
    verify::verify(&mut record, &originals).await?;
    Ok(record)
}

impl<D: Driver> Run<'_, D> {
    /// Begins every step at its time, and returns when all that was begun has ended.
    async fn play(&self) {
        let mut begun: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut steps = self.script.steps.iter().peekable();
        loop {
            let next = steps.peek().map(|step| self.start + step.at);
            if next.is_none() && begun.is_empty() {
                return;
            }
            let timer = async {
                match next {
                    Some(at) => time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = timer => begun.extend(steps.next().map(|step| self.perform(step).boxed())),
                Some(()) = begun.next() => {}
            }
        }
    }

    async fn perform(&self, step: &ScriptStep) {
        match step.action {
            Action::Share { node, item } => self.share(step, node, item).await,
            Action::Fetch { node, item } => self.fetch(node, item).await,
            Action::Lookup { node, item } => self.lookup(node, item).await,
            Action::Kill { node } => self.kill(step, node).await,
            Action::Start { node, fresh } => self.restart(step, node, fresh).await,
            Action::Links { ref plan, .. } => {
                let applied = self.driver.apply(plan).await;
                self.happened(step, None, applied.err());
            }
        }
    }

    async fn sample_forever(&self, honest: usize, limit: Duration) {
        let nodes = u32::try_from(honest).unwrap_or(u32::MAX);
        let every = SAMPLE_EVERY_MIN
            .max(SAMPLE_EVERY_PER_NODE.saturating_mul(nodes))
            .max(limit / SAMPLES);
        let mut ticks = time::interval_at(self.start, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample(honest).await;
        }
    }

    /// Asks every node that is up what it has counted.
    async fn sample(&self, honest: usize) {
        let up: Vec<_> = (0..honest).filter(|&node| self.life(node).up).collect();
        let asked = up.iter().map(|&node| self.count(node));
        futures::future::join_all(asked).await;
        let memory = self.driver.memory_bytes();
        self.ledger.sample(self.start.elapsed(), up.len(), memory);
    }

    /// Takes down what a node has counted in this life.
    async fn count(&self, node: usize) {
        let life = self.life(node).number;
        // One that does not answer is busy or gone; it is asked again.
        if let Ok(counters) = self.driver.counters(node).await {
            self.ledger.counted(node, life, counters);
        }
    }

    fn life(&self, node: usize) -> Life {
        *self.nodes[node].borrow()
    }

    fn happened(&self, step: &ScriptStep, node: Option<usize>, error: Option<Error>) {
        let done = self.start.elapsed();
        self.ledger.happened(step, node, done, error);
    }

    /// Where a node puts a copy; a new node has a place of its own.
    fn destination(&self, node: usize, fresh: u32, item: usize) -> PathBuf {
        let folder = match fresh {
            0 => format!("node-{node:02}"),
            life => format!("node-{node:02}-{life}"),
        };
        let name = &self.script.items[item].name;
        self.driver.files().join(folder).join(name)
    }
}
