//! What the person should look after: told by every status, and as an event when it begins.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use libp2p::PeerId;
use shoal_api::{events::Event, types as api};
use shoal_ground::{said::and_more, wall_clock};
use shoal_net::Foreign;
use shoal_protocol::name::escaped;
use shoal_store::{
    ShareId, ShareRecord, UnreadableFiles,
    disks::{SLOW_AFTER, Unanswering},
};

use super::{NodeHandle, NodeInner, answers, budgets, integrity, observe::Told, scrub};

/// Between two looks for what has become worth a warning; a look asks the network for its peers and
/// reads no file.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Peers that this node does not understand of which a person is told at a time: one says it all.
const FOREIGN_MAX: usize = 4;

/// Something worth a warning.
pub(super) struct Warning {
    about: About,
    /// One sentence. It may change while what it is about stays the same.
    pub(super) message: String,
}

/// What a warning is about; as long as that is there, it is the same warning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    ChangedShare(ShareId),
    /// A disk that does not answer, by where it is mounted.
    Disk(PathBuf),
    NoPeers,
    /// Whether the month's budget is used up, or will be soon.
    Budget {
        spent: bool,
    },
    Damage,
    /// What the sentence says of the database.
    Database(String),
    /// A peer that this node does not understand.
    Foreign(PeerId),
    /// Files of a share that cannot be read.
    Unreadable(ShareId),
    /// The clock of this machine.
    Clock,
}

/// What warnings are made of.
pub(super) struct Facts<'a> {
    pub(super) shares: &'a [Arc<ShareRecord>],
    /// Nobody is connected, and somebody should be.
    pub(super) lonely: bool,
    pub(super) limits: &'a api::Limits,
    pub(super) scrub: &'a api::Scrub,
    /// Peers that this node does not understand.
    pub(super) foreign: &'a [Foreign],
    pub(super) database: &'a api::Database,
    /// Disks that do not answer.
    pub(super) disks: &'a [Unanswering],
    /// Files that cannot be read.
    pub(super) unreadable: &'a [UnreadableFiles],
    /// What is wrong with the clock.
    pub(super) clock: Option<String>,
}

/// All warnings there are.
pub(super) fn of(facts: &Facts<'_>) -> Vec<Warning> {
    let warning = |about, message| Warning { about, message };
    let silent = facts.disks.iter().map(|disk| {
        let message = silent_disk(disk);
        warning(About::Disk(disk.at.clone()), message)
    });
    let changed = facts.shares.iter().filter_map(|share| {
        let message = answers::changed_warning(share)?;
        Some(warning(About::ChangedShare(share.id), message))
    });
    let unreadable = facts.unreadable.iter().map(|files| {
        let message = unreadable_files(files);
        warning(About::Unreadable(files.share.id), message)
    });
    let clock = facts.clock.clone();
    let clock = clock.map(|message| warning(About::Clock, message));
    let no_peers = facts.lonely.then(|| {
        let message = "no peer is connected any more, or none could be reached: check the network of \
             this machine; `shoal connect` adds a peer";
        warning(About::NoPeers, message.to_owned())
    });
    let spent = facts.limits.monthly.spent;
    let budget = budgets::warning(facts.limits);
    let budget = budget.map(|message| warning(About::Budget { spent }, message));
    let damage = scrub::warning(facts.scrub).map(|message| warning(About::Damage, message));
    let database = integrity::warnings(facts.database)
        .map(|message| warning(About::Database(message.clone()), message));
    let foreign = facts.foreign.iter().take(FOREIGN_MAX);
    let foreign = foreign.map(|it| warning(About::Foreign(it.peer), it.to_string()));
    silent
        .chain(clock)
        .chain(changed)
        .chain(unreadable)
        .chain(database)
        .chain(no_peers)
        .chain(budget)
        .chain(damage)
        .chain(foreign)
        .collect()
}

fn silent_disk(disk: &Unanswering) -> String {
    let at = disk.at.to_string_lossy();
    let seconds = disk.since.as_secs().max(1);
    format!(
        "the disk at {at} has not answered for {seconds} s; what is on it waits and goes on by itself \
         when it answers: check its device, server or mount",
        at = escaped(&at),
    )
}

/// What of a share cannot be read, and what helps.
fn unreadable_files(files: &UnreadableFiles) -> String {
    let name = escaped(&files.share.name);
    let first = match files.path.as_str() {
        "" => files.share.base.clone(),
        path => files.share.base.join(path),
    };
    let first = first.to_string_lossy();
    let more = and_more(files.total, 1);
    format!(
        "{name:?} is not served whole: {first}{more} cannot be read ({reason}); make what is shared, and \
         the folders above it, accessible for the user that runs the daemon",
        name = name.to_string(),
        first = escaped(&first),
        reason = files.reason,
    )
}

/// Has warnings published when they begin, until the node shuts down or is gone.
pub(super) fn start(node: &NodeHandle) {
    let shutdown = node.inner.shutdown.clone();
    // The task must not keep alive what it looks at.
    let looking = look_again(Arc::downgrade(&node.inner));
    let until_shutdown = async move { shutdown.run_until_cancelled(looking).await };
    node.inner.tasks.spawn(until_shutdown);
}

async fn look_again(node: Weak<NodeInner>) {
    let mut known = HashSet::new();
    loop {
        // Peers have to be found first; and nothing that begins is over so soon.
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(inner) = node.upgrade() else {
            return;
        };
        let node = NodeHandle { inner };
        let there = node.warnings().await;
        for warning in &there {
            if !known.contains(&warning.about) {
                let message = warning.message.clone();
                let warning = Event::Warning { message };
                node.inner.observed.tell(Told::Node(Box::new(warning)));
            }
        }
        known = there.into_iter().map(|warning| warning.about).collect();
    }
}

impl NodeHandle {
    /// Whether having so many peers needs somebody. A new node that was told of no peer has none,
    /// and a command that shares is fetched from by those who have its link.
    pub(super) fn is_lonely(&self, peers: usize) -> bool {
        let inner = &self.inner;
        let is_daemon = self.process().kind == api::ProcessKind::Daemon;
        let bootstrap = &inner.config.network.bootstrap;
        peers == 0 && is_daemon && (inner.observed.has_met_peers() || !bootstrap.is_empty())
    }

    async fn warnings(&self) -> Vec<Warning> {
        let inner = &self.inner;
        let disks = inner.library.disks();
        let disks = disks.unanswering(SLOW_AFTER.max(LOOK_INTERVAL));
        of(&Facts {
            shares: &inner.library.shares(),
            lonely: self.is_lonely(inner.net.peers().await.len()),
            limits: &self.limits_now(),
            scrub: &inner.scrub.status(),
            foreign: &inner.net.foreign().await,
            database: &inner.integrity.status().await,
            disks: &disks,
            unreadable: &inner.library.unreadable(),
            clock: wall_clock::wrong(SystemTime::now()),
        })
    }
}
