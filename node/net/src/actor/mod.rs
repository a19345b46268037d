//! The network task: the one owner of the swarm.
//!
//! It moves messages and nothing else: no disk, no hashing of content, no byte of a stream passes
//! here. Commands come through one bounded inbox, what happens in the swarm comes as events, and
//! once a second it looks at what is due. It ends when it is told to or when the last handle is
//! gone; every waiter then sees its channel close.

mod addresses;
mod connections;
mod dials;
mod listeners;
mod queries;
mod start;
mod upgrades;
mod waking;

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::Swarm;
use libp2p::{Multiaddr, PeerId};
use shoal_ground::clock_gap::{ClockGaps, LOOK_INTERVAL};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::dials::{Dials, Waiter};
use self::listeners::Listeners;
use self::upgrades::Upgrades;
use self::waking::Waking;
use super::announce::{AnnounceState, Announcer};
use super::behaviour::Behaviour;
use super::book::Book;
use super::config::Protocols;
use super::counters::Counters;
use super::exchange::Opener;
use super::foreign::{Foreign, Foreigners};
use super::heard::Heard;
use super::interfaces::Watch;
use super::journal::Journal;
use super::lookups::{Lookup, Lookups, ProviderFound};
use super::peers::{PeerInfo, Peers};
use super::reach::Reach;
use super::records::{Announced, Key, unix_now};
use super::seeds::Seeds;
use super::{DhtStatus, LookupError, NetEvent, OpenError, OwnAddresses, Reachability};

pub use self::start::NetDeps;
pub(super) use self::start::{Ends, start};

/// How often the task looks at what is due, and whether it has slept.
const TICK: Duration = LOOK_INTERVAL;

/// After how many ticks records that have expired are dropped: ten minutes.
const SWEEP_TICKS: u64 = 600;

/// After how many ticks it is chosen anew who is kept: three pings have shown by then how near a new
/// peer is.
const NEIGHBOURS_TICKS: u64 = 10;

/// After how many ticks a routing table of few peers is refreshed: five minutes.
const REFILL_TICKS: u64 = 300;

/// After how many ticks any is: six hours, so that it is a sixth of the 20 MB that an idle node may
/// cost a day. Who comes, goes or does not answer is noticed before.
const REFRESH_TICKS: u64 = 6 * 3600;

/// How long connections may take to close in good order.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// How long the tasks of connections may take to end once the swarm is gone.
const TASKS_TIMEOUT: Duration = Duration::from_secs(5);

/// Which of the protocols a stream is opened for.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    Exchange,
    Replicate,
}

/// What the handle asks of the task.
pub(super) enum Command {
    Connect {
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        waiter: Waiter,
    },
    Open {
        peer: PeerId,
        protocol: Protocol,
        opener: Opener,
    },
    /// Further addresses for a peer that is being dialled.
    TryToo {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    },
    /// Asks to be told when the peer is connected by TCP, or will not be.
    PreferTcp {
        peer: PeerId,
        waiter: upgrades::Waiter,
    },
    Learn {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        told_by: PeerId,
    },
    Introduce {
        peers: Vec<PeerId>,
        to: PeerId,
        most: usize,
        reply: oneshot::Sender<Vec<(PeerId, Vec<Multiaddr>)>>,
    },
    Locate {
        peers: Vec<PeerId>,
        reply: oneshot::Sender<Vec<PeerId>>,
    },
    Lookup {
        key: Key,
        results: mpsc::Sender<ProviderFound>,
        reply: oneshot::Sender<Result<(), LookupError>>,
    },
    Announce(Vec<Key>),
    Withdraw(Vec<Key>),
    AnnounceState {
        key: Key,
        reply: oneshot::Sender<AnnounceState>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    Dht {
        reply: oneshot::Sender<DhtStatus>,
    },
    Foreign {
        reply: oneshot::Sender<Vec<Foreign>>,
    },
    Ban {
        peer: PeerId,
        duration: Duration,
    },
    Disconnect {
        peer: PeerId,
    },
}

pub(super) struct Actor {
    swarm: Swarm<Behaviour>,
    protocols: Protocols,
    inbox: mpsc::Receiver<Command>,
    shutdown: CancellationToken,
    events: broadcast::Sender<NetEvent>,
    addresses: watch::Sender<OwnAddresses>,
    /// What is known of where this node is.
    reach: Reach,
    reachability: watch::Sender<Reachability>,
    /// Whether this node is to answer others in the DHT, as far as it can be reached.
    serves_dht: bool,
    book: Book,
    peers: Peers,
    seeds: Seeds,
    dials: Dials,
    upgrades: Upgrades,
    interfaces: Watch,
    lookups: Lookups,
    announcer: Announcer,
    /// When earlier runs announced what; taken out as keys are added.
    announced: Announced,
    foreigners: Foreigners,
    gaps: ClockGaps,
    waking: Waking,
    counters: Counters,
    /// Whoever waits for providers hears of them here.
    heard: Heard,
    /// The tasks of connections.
    tasks: TaskTracker,
    /// Ends what carries bytes over emulated links.
    links_end: DropGuard,
    journal: Journal,
    listeners: Listeners,
    ticks: u64,
}

impl Actor {
    /// Runs until it is told to end, then closes everything in order.
    pub(super) async fn run(mut self) {
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = ticker.tick() => self.handle_tick(),
                command = self.inbox.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => break,
                },
                () = self.interfaces.changed() => self.publish_addresses(),
                event = self.swarm.select_next_some() => self.handle_event(event),
            }
            self.start_queries();
        }
        self.close().await;
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Connect {
                peer,
                addresses,
                waiter,
            } => {
                self.handle_connect(peer, addresses, waiter);
            }
            Command::Open {
                peer,
                protocol,
                opener,
            } => self.handle_open(peer, protocol, opener),
            Command::TryToo { peer, addresses } => self.handle_try_too(peer, addresses),
            Command::PreferTcp { peer, waiter } => self.handle_prefer_tcp(peer, waiter),
            Command::Learn {
                peer,
                addresses,
                told_by,
            } => {
                self.handle_learn(peer, &addresses, told_by);
            }
            Command::Introduce {
                peers,
                to,
                most,
                reply,
            } => {
                reply.send(self.introduction(&peers, to, most)).ok();
            }
            Command::Locate { peers, reply } => {
                reply.send(self.located(peers)).ok();
            }
            Command::Lookup {
                key,
                results,
                reply,
            } => {
                let waits = self.lookups.wait(Lookup::new(key, results));
                if waits.is_err() {
                    self.counters.lookups_refused.add();
                }
                reply.send(waits.map_err(|_| LookupError::Busy)).ok();
            }
            Command::Announce(keys) => self.handle_announce(keys),
            Command::Withdraw(keys) => self.handle_withdraw(&keys),
            Command::AnnounceState { key, reply } => {
                reply.send(self.announcer.state(&key)).ok();
            }
            Command::Peers { reply } => {
                reply.send(self.peers.snapshot()).ok();
            }
            Command::Dht { reply } => {
                reply.send(self.swarm.behaviour_mut().dht.status()).ok();
            }
            Command::Foreign { reply } => {
                reply.send(self.foreigners.all(Instant::now())).ok();
            }
            Command::Ban { peer, duration } => self.handle_ban(peer, duration),
            Command::Disconnect { peer } => self.disconnect(peer),
        }
    }

    fn handle_open(&mut self, peer: PeerId, protocol: Protocol, opener: Opener) {
        let behaviour = self.swarm.behaviour_mut();
        let opened = match protocol {
            Protocol::Exchange => behaviour.exchange.open(peer, opener),
            Protocol::Replicate => behaviour.replicate.open(peer, opener),
        };
        if let Err(opener) = opened {
            opener
                .send(Err(OpenError::Lost("not connected".to_owned())))
                .ok();
        }
    }

    fn handle_announce(&mut self, keys: Vec<Key>) {
        let now = unix_now();
        for key in keys {
            let last = self.announced.remove(&key);
            self.announcer.add(key, last, now);
            self.swarm.behaviour_mut().dht.records().provide(key);
        }
    }

    fn handle_withdraw(&mut self, keys: &[Key]) {
        for key in keys {
            self.announcer.remove(key);
            self.announced.remove(key);
            self.swarm.behaviour_mut().dht.records().withdraw(key);
        }
    }

    fn handle_tick(&mut self) {
        self.ticks += 1;
        self.look_for_gap();
        self.listen_later();
        self.dial_seeds(Instant::now());
        self.dial_unattended();
        self.probe();
        for query in self.lookups.abandoned() {
            self.swarm.behaviour_mut().dht.finish(query);
        }
        if self.ticks.is_multiple_of(NEIGHBOURS_TICKS) {
            self.choose_neighbours();
            if self.reach.sweep(Instant::now()) {
                self.publish_addresses();
            }
        }
        if self.ticks.is_multiple_of(REFRESH_TICKS) {
            self.swarm.behaviour_mut().dht.refresh();
        } else if self.ticks.is_multiple_of(REFILL_TICKS) {
            self.swarm.behaviour_mut().dht.refill();
        }
        if self.ticks.is_multiple_of(SWEEP_TICKS) {
            self.swarm.behaviour_mut().dht.records().sweep();
        }
    }

    fn emit(&self, event: NetEvent) {
        // Nobody has to listen.
        self.events.send(event).ok();
    }

    /// Says goodbye to peers, ends all tasks and waits until what was remembered is written.
    async fn close(mut self) {
        for peer in self.peers.ids() {
            self.disconnect(peer);
        }
        let drained = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, drained).await.is_err() {
            tracing::debug!("connections were cut, not closed");
        }
        let Self {
            swarm,
            seeds,
            tasks,
            links_end,
            journal,
            ..
        } = self;
        // The store and the seeds hold the writers that the journal waits for.
        drop((swarm, seeds));
        drop(links_end);
        tasks.close();
        if tokio::time::timeout(TASKS_TIMEOUT, tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = tasks.len(),
                "tasks of connections did not end in time"
            );
        }
        let finished = tokio::task::spawn_blocking(|| journal.finish());
        if finished.await.is_err() {
            tracing::error!("what the network remembers may not be written");
        }
    }
}
