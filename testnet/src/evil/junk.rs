//! A DHT server that answers with nonsense.
//!
//! It has a swarm of its own, over the transport of a node, for the network of a node believes and
//! tells only what it has seen. It enters the routing tables of others as any server does.

use std::{borrow::Cow, net::Ipv4Addr, sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, identify,
    identity::Keypair,
    kad::{
        self, Mode, ProviderRecord, Quorum, Record, RecordKey,
        store::{RecordStore, Result},
    },
    multiaddr::Protocol,
    multihash::Multihash,
    swarm::{self, NetworkBehaviour, SwarmEvent},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use shoal_net::{NetConfig, swarm_transport};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{EvilError, deeds::Counters};

/// How long it may take to listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Providers in one answer: as many as an answer may have.
const PROVIDERS_PER_ANSWER: usize = 20;
/// Peers that do not exist in its routing table, from which it names those nearest to a key.
const PEERS_INVENTED: usize = 256;
/// How often it leaves something with others.
const PUSH_EVERY: Duration = Duration::from_millis(200);
/// How often it looks for somebody when it has lost everybody.
const DIAL_EVERY: Duration = Duration::from_secs(2);
/// Bytes of a value that it leaves: a frame of the DHT holds 64 KiB.
const VALUE_BYTES: usize = 1024;
/// Bytes of a key that is none of this network, whose keys have 32.
const STRANGE_KEY_BYTES: usize = 48;
/// SHA2-256, by which ids of peers may be hashes.
const SHA2_256: u64 = 0x12;

/// A running peer; it is cut off when dropped.
pub(super) struct JunkPeer {
    id: PeerId,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<JunkStore>,
}

impl JunkPeer {
    /// Starts it; returns when it listens.
    pub(super) async fn start(
        config: &NetConfig,
        key: &Keypair,
        seed: u64,
        counters: Arc<Counters>,
    ) -> std::result::Result<Self, EvilError> {
        let id = key.public().to_peer_id();
        let stop = CancellationToken::new();
        let mut swarm = swarm(config, key, seed, (&counters, &stop))?;
        for address in &config.listen {
            let listening = swarm.listen_on(address.clone());
            listening.map_err(|error| EvilError::Swarm(error.to_string()))?;
        }
        let (told, mut addresses) = watch::channel(Vec::new());
        let task = Task {
            swarm,
            bootstrap: config.bootstrap.clone(),
            told,
            counters,
            dice: StdRng::seed_from_u64(seed),
        };
        let task = tokio::spawn(task.run(stop.clone()));
        let listening = addresses.wait_for(|known| !known.is_empty());
        let listens = matches!(
            tokio::time::timeout(LISTEN_TIMEOUT, listening).await,
            Ok(Ok(_))
        );
        let peer = Self {
            id,
            addresses,
            stop,
            task,
        };
        if listens {
            return Ok(peer);
        }
        peer.shutdown().await?;
        Err(EvilError::Swarm("it does not listen".to_owned()))
    }

    pub(super) fn peer_id(&self) -> PeerId {
        self.id
    }

    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    pub(super) async fn shutdown(mut self) -> std::result::Result<(), EvilError> {
        self.stop.cancel();
        let ended = (&mut self.task).await;
        ended.map_err(|error| EvilError::Swarm(error.to_string()))
    }
}

impl Drop for JunkPeer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn swarm(
    config: &NetConfig,
    key: &Keypair,
    seed: u64,
    (counters, stop): (&Arc<Counters>, &CancellationToken),
) -> std::result::Result<Swarm<Behaviour>, EvilError> {
    let id = key.public().to_peer_id();
    let protocol = |part: &str| format!("/shoal/{}/{part}/1", config.network);
    let kad_protocol = StreamProtocol::try_from_owned(protocol("kad"))
        .map_err(|error| EvilError::Swarm(error.to_string()))?;
    let store = JunkStore {
        seed,
        counters: Arc::clone(counters),
    };
    let mut kad = kad::Behaviour::with_config(id, store, kad::Config::new(kad_protocol));
    kad.set_mode(Some(Mode::Server));
    let mut dice = StdRng::seed_from_u64(seed);
    for _ in 0..PEERS_INVENTED {
        kad.add_address(&nobody(&mut dice), nowhere(&mut dice));
    }
    let identify = identify::Config::new(protocol("id"), key.public());
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(identify),
        kad,
    };
    let transport = swarm_transport(config, key, stop)?;
    let settings =
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(config.idle_timeout);
    Ok(Swarm::new(transport, behaviour, id, settings))
}

/// The task that owns the swarm.
struct Task {
    swarm: Swarm<Behaviour>,
    bootstrap: Vec<Multiaddr>,
    told: watch::Sender<Vec<Multiaddr>>,
    counters: Arc<Counters>,
    dice: StdRng,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        let mut pushes = interval(PUSH_EVERY);
        let mut dials = interval(DIAL_EVERY);
        pushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        dials.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = dials.tick() => self.handle_dials(),
                _ = pushes.tick() => self.handle_push(),
                event = self.swarm.select_next_some() => self.handle_event(event),
            }
        }
    }

    /// Looks for somebody, if there is nobody.
    fn handle_dials(&mut self) {
        if self.swarm.connected_peers().next().is_none() {
            for address in self.bootstrap.clone() {
                // There is another round.
                self.swarm.dial(address).ok();
            }
        }
    }

    /// Leaves a value and a provider record with whoever is near their keys.
    fn handle_push(&mut self) {
        if self.swarm.connected_peers().next().is_none() {
            return;
        }
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        let mut value = vec![0; VALUE_BYTES];
        self.dice.fill(value.as_mut_slice());
        let key = RecordKey::new(&self.dice.random::<[u8; 32]>());
        let kad = &mut self.swarm.behaviour_mut().kad;
        kad.put_record_to(Record::new(key, value), peers.into_iter(), Quorum::One);
        let strange: [u8; STRANGE_KEY_BYTES] = self.dice.random();
        // The store takes everything.
        kad.start_providing(RecordKey::new(&strange)).ok();
        self.counters.records_sent.add(2);
    }

    fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                self.swarm.add_external_address(address.clone());
                let id = *self.swarm.local_peer_id();
                self.told.send_modify(|known| {
                    known.extend(address.with_p2p(id).ok());
                });
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                for address in info.listen_addrs {
                    self.swarm
                        .behaviour_mut()
                        .kad
                        .add_address(&peer_id, address);
                }
            }
            _ => {}
        }
    }
}

/// A record store that has a record for everything, and keeps none.
struct JunkStore {
    seed: u64,
    counters: Arc<Counters>,
}

impl RecordStore for JunkStore {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, _: &RecordKey) -> Option<Cow<'_, Record>> {
        None
    }

    fn put(&mut self, _: Record) -> Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    /// Takes the word of everybody, and forgets it.
    fn add_provider(&mut self, _: ProviderRecord) -> Result<()> {
        Ok(())
    }

    /// The same providers whenever a key is asked for, none of whom exists.
    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.counters.lookups_misled.add(1);
        self.counters
            .peers_invented
            .add(PROVIDERS_PER_ANSWER as u64);
        let mut seed = blake3::Hasher::new();
        seed.update(&self.seed.to_be_bytes()).update(key.as_ref());
        let mut dice = StdRng::from_seed(seed.finalize().into());
        let invented = (0..PROVIDERS_PER_ANSWER).map(|_| {
            let addresses = vec![nowhere(&mut dice)];
            ProviderRecord::new(key.clone(), nobody(&mut dice), addresses)
        });
        invented.collect()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

/// A peer that does not exist.
pub(super) fn nobody(dice: &mut StdRng) -> PeerId {
    let hash = Multihash::wrap(SHA2_256, &dice.random::<[u8; 32]>());
    let hash = hash.expect("32 bytes fit a multihash");
    PeerId::from_multihash(hash).expect("a hash by SHA2-256 is an id")
}

/// An address on this machine where nobody listens: ports below 1024 are nobody's here.
pub(super) fn nowhere(dice: &mut StdRng) -> Multiaddr {
    Multiaddr::empty()
        .with(Protocol::Ip4(Ipv4Addr::new(
            127,
            0,
            0,
            dice.random_range(2..=254),
        )))
        .with(Protocol::Tcp(dice.random_range(1..1024)))
}
