//! The behaviours of a node, composed.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, identify, mdns};
use shoal_ground::clock_gap::ClockGaps;

use super::activity::Activities;
use super::config::{NetConfig, Protocols};
use super::counters::Counters;
use super::dht::Dht;
use super::exchange::{Exchange, Incoming};
use super::limits::ConnectionLimiter;
use super::records::Records;
use super::{ping, probe};

/// What this node calls itself.
const AGENT: &str = concat!("shoal/", env!("CARGO_PKG_VERSION"));

/// How often a node says again what it is. What changes is told at once.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(6 * 3600);

/// All protocols of a node. The limits come first: what they refuse, nobody else hears of.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: ConnectionLimiter,
    pub(super) identify: identify::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) dht: Dht,
    pub(super) exchange: Exchange,
    pub(super) replicate: Exchange,
    pub(super) probe: probe::Behaviour,
}

impl Behaviour {
    /// Composes the behaviours; inbound streams come out of the receivers.
    pub(super) fn new(
        keypair: &Keypair,
        config: &NetConfig,
        protocols: &Protocols,
        records: Records,
        counters: &Counters,
        gaps: &ClockGaps,
    ) -> (Self, Incoming) {
        let local = keypair.public().to_peer_id();
        let identify = identify::Config::new(protocols.id.clone(), keypair.public())
            .with_agent_version(AGENT.to_owned())
            .with_push_listen_addr_updates(true)
            .with_interval(IDENTIFY_INTERVAL)
            // Only the addresses that the actor has chosen: a machine with many containers has too
            // many, of which others would believe the wrong ones.
            .with_hide_listen_addrs(true)
            // Its cache hands out whatever a peer says of itself; the book keeps what is believed.
            .with_cache_size(0);
        let activities = Activities::default();
        let (exchange, incoming) = Exchange::new(
            protocols.exchange.clone(),
            &config.limits,
            counters.clone(),
            activities.clone(),
        );
        let (replicate, replicate_incoming) = Exchange::for_replication(
            protocols.replicate.clone(),
            counters.clone(),
            activities.clone(),
        );
        let behaviour = Self {
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(activities.clone(), gaps.clone()),
            limits: ConnectionLimiter::new(
                config.limits.clone(),
                config.dht.diversity,
                activities,
                counters.clone(),
            ),
            mdns: Toggle::from(mdns_behaviour(config.mdns, local)),
            dht: Dht::new(
                local,
                protocols.kad.clone(),
                records,
                &config.dht,
                counters.clone(),
            ),
            exchange,
            replicate,
            probe: probe::Behaviour::new(counters.clone()),
        };
        let incoming = Incoming {
            exchange: incoming,
            replicate: replicate_incoming,
        };
        (behaviour, incoming)
    }
}

/// The local network's discovery; a machine without multicast goes without it.
fn mdns_behaviour(enabled: bool, local: PeerId) -> Option<mdns::tokio::Behaviour> {
    if !enabled {
        return None;
    }
    mdns::tokio::Behaviour::new(mdns::Config::default(), local)
        .inspect_err(|error| tracing::warn!(%error, "no discovery on the local network"))
        .ok()
}
