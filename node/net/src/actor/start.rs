//! How the network comes up: identity, transport and store, then listeners, then the task.

use std::io;
use std::num::NonZeroU8;
use std::sync::Arc;

use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::Swarm;
use libp2p::{Multiaddr, PeerId, core::upgrade::Version, swarm};
use shoal_ground::clock_gap::ClockGaps;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::DIAL_ADDRESSES_MAX;
use super::listeners::Listeners;
use super::{Actor, Command, Dials, Foreigners, Upgrades, Waking};
use crate::announce::Announcer;
use crate::behaviour::Behaviour;
use crate::book::Book;
use crate::counters::Counters;
use crate::emulation::Emulation;
use crate::exchange::Incoming;
use crate::heard::Heard;
use crate::interfaces::Watch;
use crate::journal::{Journal, KvLog};
use crate::lookups::Lookups;
use crate::meter::Traffic;
use crate::nearby::Nearby;
use crate::peers::Peers;
use crate::reach::{Contacts, Reach};
use crate::records::{Announced, Records, unix_now};
use crate::scope::{Scope, without_peer};
use crate::seeds::Seeds;
use crate::transport::{self, Links};
use crate::{NetConfig, NetError, OwnAddresses, Reachability};

/// Addresses of one peer that may be tried at once: all that one dial has. The transport says when
/// each of them starts.
const ATTEMPTS_AT_ONCE: NonZeroU8 = NonZeroU8::new(32).unwrap();
const _: () = assert!(ATTEMPTS_AT_ONCE.get() as usize == DIAL_ADDRESSES_MAX);

/// What the network needs of the rest of the node.
pub struct NetDeps {
    /// Where provider records are kept.
    pub providers: Arc<dyn KvLog>,
    /// Where peers are remembered.
    pub peers: Arc<dyn KvLog>,
    /// Who writes both: a thread of its own, unless networks of one process share one.
    pub journal: Option<Journal>,
}

/// How the handle reaches the actor.
pub(crate) struct Ends {
    pub(crate) inbox: mpsc::Receiver<Command>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) events: broadcast::Sender<crate::NetEvent>,
    pub(crate) addresses: watch::Sender<OwnAddresses>,
    pub(crate) reachability: watch::Sender<Reachability>,
    pub(crate) counters: Counters,
    pub(crate) traffic: Traffic,
    pub(crate) heard: Heard,
    pub(crate) nearby: Nearby,
    pub(crate) gaps: ClockGaps,
}

/// Builds an actor that listens; it only has to be run.
pub(crate) async fn start(
    config: NetConfig,
    keypair: &Keypair,
    deps: NetDeps,
    ends: Ends,
) -> Result<(Actor, Incoming), NetError> {
    let protocols = config.protocols()?;
    check_external(&config.external)?;
    let tasks = TaskTracker::new();
    let end = CancellationToken::new();
    let links = Links::of(&config, &tasks, &end);
    let links_end = end.clone().drop_guard();
    let in_memory = config.emulation.as_ref();
    let interfaces = match in_memory.is_some_and(Emulation::is_in_memory) {
        true => Watch::none(),
        false => Watch::start(&tasks, end).await,
    };
    let contacts = Contacts::default();
    let transport = transport::build(
        keypair,
        &config.limits,
        &ends.traffic,
        &ends.gaps,
        &contacts,
        &links,
    )?;
    let local = keypair.public().to_peer_id();
    let remembered = remembered(&config, local, deps, &ends.counters).await?;
    let Remembered {
        records,
        seeds,
        announced,
        journal,
    } = remembered;
    let (behaviour, incoming) = Behaviour::new(
        keypair,
        &config,
        &protocols,
        records,
        &ends.counters,
        &ends.gaps,
    );
    let tracker = tasks.clone();
    let swarm_config = swarm::Config::with_executor(move |task| {
        tracker.spawn(task);
    })
    .with_idle_connection_timeout(config.idle_timeout)
    .with_dial_concurrency_factor(ATTEMPTS_AT_ONCE)
    // A stream offers one protocol, so what it is opened for goes along with the offer: a round trip
    // less for every request to the DHT and every exchange.
    .with_substream_upgrade_protocol_override(Version::V1Lazy);
    if seeds.is_empty() {
        tracing::info!(
            mdns = config.mdns,
            "no bootstrap peers: this node joins by the peers in links and by the local network"
        );
    }
    let mut actor = Actor {
        swarm: Swarm::new(transport, behaviour, local, swarm_config),
        protocols,
        inbox: ends.inbox,
        shutdown: ends.shutdown,
        events: ends.events,
        addresses: ends.addresses,
        reach: Reach::new(config.external.iter().map(without_peer).collect(), contacts),
        reachability: ends.reachability,
        serves_dht: config.dht.serves,
        book: Book::default(),
        peers: Peers::new(ends.nearby, config.near, config.emulation.clone()),
        seeds,
        dials: Dials::default(),
        upgrades: Upgrades::default(),
        interfaces,
        lookups: Lookups::default(),
        announcer: Announcer::new(config.dht.announce_interval),
        announced,
        foreigners: Foreigners::default(),
        gaps: ends.gaps,
        waking: Waking::default(),
        counters: ends.counters,
        heard: ends.heard,
        tasks,
        links_end,
        journal,
        listeners: Listeners::new(&config),
        ticks: 0,
    };
    actor.listen(&config.listen).await?;
    Ok((actor, incoming))
}

/// Refuses configured addresses that nobody could dial.
fn check_external(external: &[Multiaddr]) -> Result<(), NetError> {
    let is_dialled = |address: &Multiaddr| {
        let parts: Vec<Protocol<'_>> = address.iter().collect();
        let host = match parts.as_slice() {
            [host, Protocol::Tcp(port)] if *port > 0 => host,
            [host, Protocol::Udp(port), Protocol::QuicV1] if *port > 0 => host,
            _ => return false,
        };
        match host {
            Protocol::Ip4(ip) => Scope::of_ip((*ip).into()).is_some(),
            Protocol::Ip6(ip) => Scope::of_ip((*ip).into()).is_some(),
            Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => true,
            _ => false,
        }
    };
    match external
        .iter()
        .find(|address| !is_dialled(&without_peer(address)))
    {
        Some(address) => Err(NetError::External {
            addr: address.clone(),
        }),
        None => Ok(()),
    }
}

/// What earlier runs left, and the thread that will write what this one leaves.
struct Remembered {
    records: Records,
    seeds: Seeds,
    announced: Announced,
    journal: Journal,
}

async fn remembered(
    config: &NetConfig,
    local: PeerId,
    deps: NetDeps,
    counters: &Counters,
) -> Result<Remembered, NetError> {
    let (dht, bootstrap, counters) = (
        config.dht.clone(),
        config.bootstrap.clone(),
        counters.clone(),
    );
    let load = move || {
        let failed = |what| {
            move |error: io::Error| NetError::Load {
                what,
                why: error.to_string(),
            }
        };
        let NetDeps {
            providers,
            peers,
            journal,
        } = deps;
        let journal = match journal {
            Some(shared) => shared,
            None => Journal::own().map_err(failed("records"))?,
        };
        let record_writer = journal.writer("records", providers.clone(), &counters);
        let peer_writer = journal.writer("peers", peers.clone(), &counters);
        let mut records = Records::new(
            local,
            dht.records_max,
            dht.record_ttl,
            record_writer,
            counters,
        );
        let announced = records
            .load(providers.as_ref())
            .map_err(failed("records"))?;
        let mut seeds = Seeds::new(&bootstrap, peer_writer);
        seeds
            .load(peers.as_ref(), unix_now())
            .map_err(failed("peers"))?;
        Ok(Remembered {
            records,
            seeds,
            announced,
            journal,
        })
    };
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.unwrap_or_else(|error| Err(NetError::Panicked(error.to_string())))
}
