//! Peers that do harm, for tests and scenarios.
//!
//! An [`Evil`] is a peer of the network with one [`Behaviour`]. All but one of them are real nodes
//! below: real connections, the real DHT, the real exchange; only what is sent over these is made
//! up. Junk records need a swarm of their own, for the network of a node lets nobody send them. It
//! counts what it has done, so that a test can prove that the attack took place, and every attack
//! is bounded by a named number, so that a whole network of them fits on one machine.
//!
//! It owns its tasks and its network and ends with [`Evil::shutdown`], which waits for both. A
//! [`Provider`] is the part of it that tests use by itself: a peer whose blocks are made up and
//! which may behave well.

mod behaviour;
mod blocks;
mod deeds;
mod flood;
mod helper;
mod junk;
mod provider;
mod readers;
mod spam;
mod strangers;
mod words;

use std::sync::Arc;

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use shoal_net::{NetConfig, NetError};
use shoal_protocol::{address::Cid, exchange::WANTS_PER_MESSAGE_MAX};
use tokio::sync::Semaphore;

pub use behaviour::{Behaviour, UnknownBehaviour};
pub use blocks::Blocks;
pub use deeds::Deeds;
pub use provider::{Provider, nothing_kept};
pub use readers::Crowd;
pub use words::{Ear, say};

use self::{
    deeds::Counters,
    helper::Lie,
    junk::JunkPeer,
    provider::{Manner, Stock},
    readers::Greed,
    strangers::Aim,
};

/// What an evil peer is to be.
#[derive(Clone, Debug)]
pub struct EvilConfig {
    /// Its network: where it listens, whom it knows.
    pub net: NetConfig,
    /// From which its key is made: the same seed is the same peer.
    pub key_seed: [u8; 32],
    /// What it does.
    pub behaviour: Behaviour,
    /// The roots that it says it has; it announces them, unless it does harm with copies.
    pub claims: Vec<Cid>,
    /// The blocks of these, which it needs to be believed.
    pub blocks: Arc<Blocks>,
    /// From which what it makes up is drawn.
    pub seed: u64,
}

/// Why an evil peer did not start, or did not end in order.
#[derive(Debug, thiserror::Error)]
pub enum EvilError {
    /// Its network failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Its own swarm failed.
    #[error("the swarm of junk records: {0}")]
    Swarm(String),
}

/// A running evil peer; it is cut off when dropped.
pub struct Evil {
    behaviour: Behaviour,
    counters: Arc<Counters>,
    peer: Kind,
}

enum Kind {
    Provider(Provider),
    Junk(JunkPeer),
}

impl Evil {
    /// Starts an evil peer; returns when it listens.
    ///
    /// # Errors
    /// [`EvilError`]; nothing is left running then.
    pub async fn start(config: EvilConfig) -> Result<Self, EvilError> {
        let counters = Arc::<Counters>::default();
        let mut seed = config.key_seed;
        let key = Keypair::ed25519_from_bytes(&mut seed)
            .map_err(|error| EvilError::Swarm(error.to_string()))?;
        let behaviour = config.behaviour;
        let Some(manner) = behaviour.manner() else {
            let junk = JunkPeer::start(&config.net, &key, config.seed, Arc::clone(&counters));
            return Ok(Self {
                behaviour,
                counters,
                peer: Kind::Junk(junk.await?),
            });
        };
        let greed = Greed {
            roots: config.claims.clone(),
            blocks: Arc::clone(&config.blocks),
            wants: WANTS_PER_MESSAGE_MAX,
            seed: config.seed,
        };
        let net = config.net.clone();
        let stock = Stock {
            blocks: config.blocks,
            manner,
            seed: config.seed,
            // It sends as much as it is asked for.
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            counters: Arc::clone(&counters),
        };
        let (provider, streams) = Provider::spawn(config.net, &key, stock).await?;
        if behaviour.announces() {
            provider.claim(&config.claims).await;
        }
        match behaviour {
            Behaviour::Flood => flood::start(&provider, config.seed),
            Behaviour::ProviderSpam => spam::start(&provider, config.seed),
            Behaviour::SlowReader => readers::sip(&provider, greed),
            Behaviour::FrozenReader => readers::freeze(&provider, greed),
            Behaviour::ManyIdentities => readers::multiply(&provider, net, greed),
            Behaviour::BlackHoleHelper => {
                helper::start(&provider, streams, Lie::Accepts, &config.claims);
            }
            Behaviour::FalseHolder => {
                helper::start(&provider, streams, Lie::Holds, &config.claims);
            }
            Behaviour::FakeAskers => {
                strangers::start(&provider, net, Aim::FakeDemand, config.seed);
            }
            Behaviour::FalseOffers => {
                strangers::start(&provider, net, Aim::FalseOffers, config.seed);
            }
            _ => {}
        }
        Ok(Self {
            behaviour,
            counters,
            peer: Kind::Provider(provider),
        })
    }

    /// What it does.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        self.behaviour
    }

    /// Its peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        match &self.peer {
            Kind::Provider(provider) => provider.peer_id(),
            Kind::Junk(junk) => junk.peer_id(),
        }
    }

    /// Where it is, each address with its id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        match &self.peer {
            Kind::Provider(provider) => provider.addresses(),
            Kind::Junk(junk) => junk.addresses(),
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn deeds(&self) -> Deeds {
        self.counters.snapshot()
    }

    /// Ends it and waits until nothing of it runs.
    ///
    /// # Errors
    /// [`EvilError`] when a part of it had panicked.
    pub async fn shutdown(self) -> Result<(), EvilError> {
        match self.peer {
            Kind::Provider(provider) => Ok(provider.shutdown().await?),
            Kind::Junk(junk) => junk.shutdown().await,
        }
    }
}
