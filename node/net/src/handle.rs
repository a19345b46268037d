//! The handle to a running network.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use shoal_ground::clock_gap::ClockGaps;
use shoal_protocol::near::Nearness;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::actor::{self, Command, Ends, NetDeps, Protocol};
use super::counters::Counters;
use super::foreign::Foreign;
use super::heard::Heard;
use super::lookups::PROVIDERS_PER_LOOKUP_MAX;
use super::meter::Traffic;
use super::nearby::{NearPeer, Nearby};
use super::scope::{Scope, peer_of};
use super::{
    AnnounceState, ConnectError, DhtStatus, ExchangeStream, Incoming, Key, LookupError, Misfit,
    NetConfig, NetCounters, NetError, NetEvent, OpenError, OwnAddresses, PeerInfo, ProviderFound,
    Reachability,
};

/// Commands that wait for the network task. It does nothing slow, so more would only hide a
/// standstill.
const INBOX_MAX: usize = 256;

/// Events that a slow observer may lag behind before it loses some.
const EVENTS_MAX: usize = 256;

/// Keys in one command, so that a node with very many shares does not hold up others at start.
const KEYS_PER_COMMAND_MAX: usize = 1024;

/// How long a connect may take: three addresses in a row at the handshake timeout.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a stream waits for TCP to a peer that is connected by QUIC only. A far peer, to which a
/// handshake by TCP takes longer, is as well served by QUIC: there the line is the limit.
const TCP_TIMEOUT: Duration = Duration::from_millis(500);

/// How long opening a stream on an open connection may take; the protocol's own deadline is
/// shorter.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A running network. Cheap to clone; the network ends with [`Net::shutdown`], or when the last
/// handle is dropped.
#[derive(Clone)]
pub struct Net {
    local: PeerId,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<NetEvent>,
    addresses: watch::Receiver<OwnAddresses>,
    reachability: watch::Receiver<Reachability>,
    counters: Counters,
    traffic: Traffic,
    heard: Heard,
    nearby: Nearby,
    gaps: ClockGaps,
    shutdown: CancellationToken,
    task: Arc<Task>,
}

/// The network task and, once it has ended, how.
struct Task {
    running: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Sender<Option<Result<(), NetError>>>,
}

impl Net {
    /// Starts the network; returns when it listens and its addresses are known.
    ///
    /// Inbound streams come out of the receivers. Their queues are bounded: streams that nobody takes
    /// in time are reset. When a receiver is dropped, all of its streams are.
    ///
    /// # Errors
    /// [`NetError`], above all [`NetError::PortInUse`]; nothing keeps running then.
    pub fn spawn(
        config: NetConfig,
        keypair: &Keypair,
        deps: NetDeps,
    ) -> BoxFuture<'_, Result<(Self, Incoming), NetError>> {
        // On the heap: a whole swarm is built in it. And compiled here, which what is not boxed would
        // be where it is awaited.
        Box::pin(Self::start(config, keypair, deps))
    }

    async fn start(
        config: NetConfig,
        keypair: &Keypair,
        deps: NetDeps,
    ) -> Result<(Self, Incoming), NetError> {
        let (commands, inbox) = mpsc::channel(INBOX_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (published, addresses) = watch::channel(OwnAddresses::default());
        let (judged, reachability) = watch::channel(Reachability::default());
        let (ended, _) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let (counters, traffic) = (Counters::default(), Traffic::default());
        let (heard, nearby) = (Heard::default(), Nearby::default());
        let gaps = ClockGaps::default();
        let ends = Ends {
            inbox,
            shutdown: shutdown.clone(),
            events: events.clone(),
            addresses: published,
            reachability: judged,
            counters: counters.clone(),
            traffic: traffic.clone(),
            heard: heard.clone(),
            nearby: nearby.clone(),
            gaps: gaps.clone(),
        };
        let (actor, incoming) = actor::start(config, keypair, deps, ends).await?;
        let running = Mutex::new(Some(tokio::spawn(actor.run())));
        let net = Self {
            local: keypair.public().to_peer_id(),
            commands,
            events,
            addresses,
            reachability,
            counters,
            traffic,
            heard,
            nearby,
            gaps,
            shutdown,
            task: Arc::new(Task { running, ended }),
        };
        Ok((net, incoming))
    }

    /// This node's id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.local
    }

    /// Where this node listens and what it tells others of it, as of now.
    #[must_use]
    pub fn addresses(&self) -> OwnAddresses {
        self.addresses.borrow().clone()
    }

    /// Who can connect to this node, and why that is thought, as of now.
    #[must_use]
    pub fn reachability(&self) -> Reachability {
        self.reachability.borrow().clone()
    }

    /// What to give others to dial: [`OwnAddresses::external`], each with this node's id.
    #[must_use]
    pub fn dial_addresses(&self) -> Vec<Multiaddr> {
        let own = self.addresses.borrow();
        own.external
            .iter()
            .filter_map(|address| address.clone().with_p2p(self.local).ok())
            .collect()
    }

    /// What to write into a link: [`OwnAddresses::linked`], each with this node's id.
    #[must_use]
    pub fn link_addresses(&self) -> Vec<Multiaddr> {
        let own = self.addresses.borrow();
        let linked = own.linked.iter();
        linked
            .filter_map(|address| address.clone().with_p2p(self.local).ok())
            .collect()
    }

    /// The widest scope that this node is in.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        self.addresses.borrow().scope
    }

    /// What has passed the sockets, a count that goes on.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Gaps in this machine's own time; while the network runs, one is noticed within a second.
    #[must_use]
    pub fn clock_gaps(&self) -> ClockGaps {
        self.gaps.clone()
    }

    /// What was refused, dropped or lost so far.
    #[must_use]
    pub fn counters(&self) -> NetCounters {
        self.counters.snapshot()
    }

    /// Events from now on. Whoever is slow loses the oldest and is told how many.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<NetEvent> {
        self.events.subscribe()
    }

    /// How near a connected peer is, by what was measured; none until something was.
    #[must_use]
    pub fn nearness(&self, peer: &PeerId) -> Option<Nearness> {
        self.nearby.of(peer)
    }

    /// The connected peers that are near and speak of replicas, in no order.
    #[must_use]
    pub fn near_peers(&self) -> Vec<NearPeer> {
        self.nearby.replicating()
    }

    /// Has [`Net::heard_of`] tell when a peer says here that it provides one of `keys`; of others no
    /// longer.
    pub fn listen_for(&self, keys: HashSet<Key>) {
        self.heard.listen_for(keys);
    }

    /// Waits until a peer says here that it provides keys that are listened for, and returns these
    /// keys. Cancel-safe; for one listener.
    pub async fn heard_of(&self) -> HashSet<Key> {
        self.heard.next().await
    }

    /// Who is connected, oldest connection first; empty when the network has ended.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        self.ask(|reply| Command::Peers { reply })
            .await
            .unwrap_or_default()
    }

    /// Peers of Shoal, met in the last ten minutes, that this node does not understand: of another
    /// network or with another number of the exchange protocol. The latest first, at most 64.
    pub async fn foreign(&self) -> Vec<Foreign> {
        self.ask(|reply| Command::Foreign { reply })
            .await
            .unwrap_or_default()
    }

    /// Why this node and `peer` do not understand each other, if that was found out.
    pub async fn misfit(&self, peer: PeerId) -> Option<Misfit> {
        let mut foreign = self.foreign().await.into_iter();
        foreign.find(|it| it.peer == peer).map(|it| it.misfit)
    }

    /// How the DHT stands; all zero when the network has ended.
    pub async fn dht(&self) -> DhtStatus {
        self.ask(|reply| Command::Dht { reply })
            .await
            .unwrap_or_default()
    }

    /// Connects with whoever is at `address`; if it ends in `/p2p/…`, with that peer only.
    ///
    /// At once if that peer is connected already. Cancel-safe: the dial goes on, its result is
    /// dropped.
    ///
    /// # Errors
    /// [`ConnectError`], after 30 s at the latest.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, ConnectError> {
        if peer_of(&address) == Some(self.local) {
            return Err(ConnectError::Myself(address));
        }
        self.dial(peer_of(&address), vec![address]).await
    }

    /// Connects with a peer, at these addresses or any other that is known of it.
    ///
    /// The addresses are dialled as they are: what a peer hinted at goes through [`Self::learn`].
    /// At once if it is connected already. Cancel-safe: the dial goes on, its result is dropped.
    ///
    /// # Errors
    /// [`ConnectError`], after 30 s at the latest.
    pub async fn connect_peer(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
    ) -> Result<PeerId, ConnectError> {
        if peer == self.local {
            return Err(ConnectError::Myself(Multiaddr::empty()));
        }
        self.dial(Some(peer), addresses).await
    }

    async fn dial(
        &self,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
    ) -> Result<PeerId, ConnectError> {
        let connected = self.ask(|waiter| Command::Connect {
            peer,
            addresses,
            waiter,
        });
        match self.gaps.timeout(CONNECT_TIMEOUT, connected).await {
            Ok(answer) => answer.unwrap_or(Err(ConnectError::Closed)),
            Err(_) => Err(ConnectError::Timeout),
        }
    }

    /// Has further addresses of a peer tried beside those at which it is being dialled. Dialled as
    /// they are, like those of [`Self::connect_peer`]; forgotten when the network task is too busy
    /// to hear of them.
    pub fn try_too(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let command = Command::TryToo { peer, addresses };
        self.commands.try_send(command).ok();
    }

    /// Takes note of where a peer is, as `told_by` says, without dialling it.
    ///
    /// For hints of peers: believed are IP addresses that reach as far as the teller itself does.
    pub async fn learn(&self, peer: PeerId, addresses: Vec<Multiaddr>, told_by: PeerId) {
        self.tell(Command::Learn {
            peer,
            addresses,
            told_by,
        })
        .await;
    }

    /// What to tell `to` of where these peers are: at most `most` of them, those first that are
    /// likely to be near it, with addresses that reach as far as `to` does. A peer without such an
    /// address is named only where both are connected from one subnet; see [`Self::locate`].
    pub async fn introduce(
        &self,
        peers: Vec<PeerId>,
        to: PeerId,
        most: usize,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        self.ask(|reply| Command::Introduce {
            peers,
            to,
            most,
            reply,
        })
        .await
        .unwrap_or_default()
    }

    /// Which of these peers this node can connect with by what it knows itself: they are connected,
    /// or an address is known, by multicast for instance. Empty when the network has ended.
    pub async fn locate(&self, peers: Vec<PeerId>) -> Vec<PeerId> {
        self.ask(|reply| Command::Locate { peers, reply })
            .await
            .unwrap_or_default()
    }

    /// Opens an exchange stream to a peer, connecting with it first if need be, at the addresses
    /// known of it. The peer hears of it with the first bytes that are written and flushed; one that
    /// does not speak this network's exchange protocol says so with its first answer.
    ///
    /// Cancel-safe: a stream that nobody waits for is reset.
    ///
    /// # Errors
    /// [`OpenError`]; 30 s for the connection, half a second for a better one and 15 s for the
    /// stream at the latest.
    pub async fn open_exchange(&self, peer: PeerId) -> Result<ExchangeStream, OpenError> {
        self.connect_peer(peer, Vec::new()).await?;
        let by_tcp = self.ask(|waiter| Command::PreferTcp { peer, waiter });
        // Where TCP takes longer, the stream goes over what there is.
        let _ = tokio::time::timeout(TCP_TIMEOUT, by_tcp).await;
        self.open(peer, Protocol::Exchange).await
    }

    /// Opens a stream of replication to a peer, connecting with it first if need be, at the addresses
    /// known of it. It does not keep the connection open. As for [`Self::open_exchange`], a peer that
    /// does not speak it says so with its first answer. Cancel-safe.
    ///
    /// # Errors
    /// [`OpenError`]; 30 s for the connection and 15 s for the stream at the latest.
    pub async fn open_replicate(&self, peer: PeerId) -> Result<ExchangeStream, OpenError> {
        self.connect_peer(peer, Vec::new()).await?;
        self.open(peer, Protocol::Replicate).await
    }

    async fn open(&self, peer: PeerId, protocol: Protocol) -> Result<ExchangeStream, OpenError> {
        let opened = self.ask(|opener| Command::Open {
            peer,
            protocol,
            opener,
        });
        match self.gaps.timeout(OPEN_TIMEOUT, opened).await {
            Ok(Some(opened)) => opened,
            Ok(None) if self.commands.is_closed() => Err(ConnectError::Closed.into()),
            Ok(None) => Err(OpenError::Lost("the connection was closed".to_owned())),
            Err(_) => Err(OpenError::Timeout),
        }
    }

    /// Looks up who provides `key`; providers come as they are found, each once.
    ///
    /// The receiver ends with the lookup: at once when there is nobody to ask, and at the latest
    /// after twice [`DhtConfig::query_timeout`](super::DhtConfig::query_timeout) from its turn on,
    /// for the address of a provider may have to be asked for. Dropping it ends the lookup.
    ///
    /// # Errors
    /// [`LookupError::Busy`] when too many lookups wait.
    pub async fn find_providers(
        &self,
        key: Key,
    ) -> Result<mpsc::Receiver<ProviderFound>, LookupError> {
        let (results, found) = mpsc::channel(PROVIDERS_PER_LOOKUP_MAX);
        let started = self
            .ask(|reply| Command::Lookup {
                key,
                results,
                reply,
            })
            .await;
        started.unwrap_or(Err(LookupError::Closed)).map(|()| found)
    }

    /// Announces a key, now and before the record runs out, until it is withdrawn;
    /// [`NetEvent::Announced`] tells when peers were told. Announcing it again changes nothing.
    pub async fn announce(&self, key: Key) {
        self.announce_all(vec![key]).await;
    }

    /// Announces many keys, those that an earlier run announced when they are due again.
    pub async fn announce_all(&self, keys: Vec<Key>) {
        for keys in keys.chunks(KEYS_PER_COMMAND_MAX) {
            self.tell(Command::Announce(keys.to_vec())).await;
        }
    }

    /// Stops announcing a key. Records that others hold run out by themselves.
    pub async fn withdraw(&self, key: Key) {
        self.tell(Command::Withdraw(vec![key])).await;
    }

    /// How an own key stands.
    pub async fn announced(&self, key: Key) -> AnnounceState {
        let state = self
            .ask(|reply| Command::AnnounceState { key, reply })
            .await;
        state.unwrap_or(AnnounceState::Unknown)
    }

    /// Disconnects a peer and refuses connections with it for `duration`. Forgotten at a restart.
    pub async fn ban(&self, peer: PeerId, duration: Duration) {
        self.tell(Command::Ban { peer, duration }).await;
    }

    /// Closes all connections with a peer.
    pub async fn disconnect(&self, peer: PeerId) {
        self.tell(Command::Disconnect { peer }).await;
    }

    /// Ends the network and waits until all its tasks and threads have ended, a few seconds at the
    /// most.
    ///
    /// Idempotent; every caller waits for the same end. Cancel-safe: the network ends nevertheless.
    ///
    /// # Errors
    /// [`NetError::Panicked`] when the network task had panicked.
    pub async fn shutdown(&self) -> Result<(), NetError> {
        self.shutdown.cancel();
        self.ended().await
    }

    /// Waits until the network has ended, by a shutdown or by a panic.
    ///
    /// # Errors
    /// [`NetError::Panicked`] when the network task panicked.
    pub async fn ended(&self) -> Result<(), NetError> {
        let mut ended = self.task.ended.subscribe();
        let running = self.task.running.lock().take();
        if let Some(running) = running {
            let task = Arc::clone(&self.task);
            // A task of its own, so that whoever waits may be cancelled and the others still hear
            // of the end.
            tokio::spawn(async move {
                let end = running
                    .await
                    .map_err(|error| NetError::Panicked(error.to_string()));
                task.ended.send_replace(Some(end));
            });
        }
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ok(())),
            // The sender lives in `self`.
            Err(_) => Ok(()),
        }
    }

    /// Sends a command and waits for its answer; `None` when the network has ended or dropped the
    /// question.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await;
        answer.await.ok()
    }

    /// Sends a command; a network that has ended has nothing to do with it.
    async fn tell(&self, command: Command) {
        self.commands.send(command).await.ok();
    }
}
