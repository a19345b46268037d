//! The two halves of a fetch, made and joined.

use std::sync::{Arc, mpsc as blocking};

use libp2p::Multiaddr;
use shoal_protocol::{dht, link::Link};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    FetcherInner,
    contacts::Contacts,
    discovery::{self, Candidate, Discovery},
    heard::Heard,
    inquiry::{Inquiry, Providers, ShapeTeller},
    journal::LandingJournal,
    progress::Progress,
    span,
    supply::{NODES_ASKED_MAX, Supply},
    transfer::{NEEDS_QUEUED_MAX, Setup, Transfer},
    verdict::Deadlines,
};
use crate::limits::{Class, Pace};

/// Nodes and leaves that have come and are not read yet: twice those that a listing or a stream asks
/// for at a time, so that the threads that hand them on never wait for the half that asks for them.
pub(super) const NODES_QUEUED_MAX: usize = 256;
const _: () = assert!(NODES_ASKED_MAX < NODES_QUEUED_MAX);

/// What is fetched.
pub(super) struct Sought<'a> {
    pub(super) link: &'a Link,
    /// To try first, before those of the link.
    pub(super) peers: &'a [Multiaddr],
    /// How long it does without bytes.
    pub(super) deadlines: Deadlines,
    /// What it may receive.
    pub(super) pace: &'a Pace,
    /// Whether it is all that the link's root holds, so that leaves have their numbers.
    pub(super) is_whole: bool,
    /// What is known of its marks.
    pub(super) heard: &'a Arc<Heard>,
    /// For whom it is fetched.
    pub(super) purpose: Purpose,
}

/// For whom something is fetched.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// For a person: near helpers are asked for it.
    Own {
        /// Whether it is served here from then on.
        stays: bool,
    },
    /// For others, as a replica: nobody is asked, and these may have it.
    Others(Vec<Candidate>),
}

/// What finds out what is needed, and what gets it.
pub(super) struct Halves {
    pub(super) transfer: Transfer,
    pub(super) supply: Supply,
    /// Where the near helpers that are asked hear what the root is like.
    pub(super) shape: ShapeTeller,
}

impl FetcherInner {
    /// Makes both halves for what is sought, and starts to look for providers.
    pub(super) fn halves(
        &self,
        sought: &Sought<'_>,
        progress: &Arc<Progress>,
        tasks: &TaskTracker,
        journal: Option<Arc<LandingJournal>>,
    ) -> Halves {
        let Sought {
            link,
            peers,
            deadlines,
            pace,
            is_whole,
            heard,
            ref purpose,
        } = *sought;
        let key = link.root.digest().map(|digest| dht::key(&digest));
        let (sender, found) = mpsc::channel(discovery::FOUND_QUEUED_MAX);
        let hurry = Arc::new(Notify::new());
        let (named, class) = match purpose {
            Purpose::Own { .. } => (Vec::new(), Class::User),
            Purpose::Others(named) => (named.clone(), Class::Replicate),
        };
        let asks_near = matches!(purpose, Purpose::Own { .. })
            && heard.marks().may_replicate()
            && self.replicator.knows_whom_to_ask();
        let (providers, known) = watch::channel(Providers::default());
        let shape = match purpose {
            Purpose::Own { stays } => {
                let inquiry = Inquiry {
                    replicator: self.replicator.clone(),
                    root: link.root.clone(),
                    stays: *stays,
                    heard: Arc::clone(heard),
                    providers: known,
                    found: sender.clone(),
                };
                let (shape, asking) = inquiry.start();
                span::spawn(tasks, asking);
                shape
            }
            Purpose::Others(_) => ShapeTeller::default(),
        };
        let discovery = Discovery {
            net: self.net.clone(),
            named,
            key,
            heard: Arc::clone(heard),
            hints: hints(link, peers),
            hurry: Arc::clone(&hurry),
        };
        span::spawn(tasks, discovery.run(sender));
        let (contacts, opened) = Contacts::new(self.net.clone(), tasks.clone());
        let (nodes_sender, nodes) = blocking::sync_channel(NODES_QUEUED_MAX);
        let (needs_sender, needs) = mpsc::channel(NEEDS_QUEUED_MAX);
        let transfer = Transfer::new(Setup {
            root: link.root.clone(),
            contacts,
            opened,
            found,
            hurry,
            heard: Arc::clone(heard),
            // What is not kept is read as it comes.
            in_order: journal.is_none() && class == Class::User,
            needs,
            nodes: nodes_sender,
            buffers: self.buffers.clone(),
            progress: Arc::clone(progress),
            offences: Arc::clone(&self.offences),
            limits: self.limits.paced(pace.clone()).of_class(class),
            _paced: keep_pace(pace, tasks),
            net: self.net.clone(),
            tasks: tasks.clone(),
            deadlines,
            strict: self.strict,
            providers,
            asks_near,
        });
        let supply = Supply {
            store: self.store.clone(),
            library: self.library.clone(),
            replicas: self.replicator.reader(&link.root),
            progress: Arc::clone(progress),
            journal,
            is_whole,
            needs: needs_sender,
            nodes,
        };
        Halves {
            transfer,
            supply,
            shape,
        }
    }
}

/// Has the limit of a transfer hold for as long as what comes back lives.
fn keep_pace(pace: &Pace, tasks: &TaskTracker) -> DropGuard {
    let end = CancellationToken::new();
    tasks.spawn(pace.clone().keep(end.clone()));
    end.drop_guard()
}

/// The peers to try first: those of the request before those of the link. What a link says that is
/// no address is left out; the DHT may still know better.
pub(super) fn hints(link: &Link, peers: &[Multiaddr]) -> Vec<Multiaddr> {
    let of_link = link.peers.iter().filter_map(|peer| peer.parse().ok());
    peers.iter().cloned().chain(of_link).collect()
}
