//! A peer of the network that serves whatever blocks a test gives it, and as many as it lets.
//!
//! It says that it has everything, serves what it has under the address that it was given, and
//! stops before the next chunk until the test lets it go on.

use std::sync::Arc;

use libp2p::identity::Keypair;
use shoal_net::{Incoming, Net, NetConfig};
use shoal_testnet::evil::{Provider, nothing_kept};
use tokio::{runtime::Runtime, sync::Semaphore};

pub use shoal_testnet::evil::Blocks;

/// Lets every chunk go that a test could ask for.
const UNLIMITED: usize = 1 << 24;

/// A running peer; it ends when dropped.
pub struct Peer {
    /// Its address with its peer id.
    pub address: String,
    gate: Arc<Semaphore>,
    provider: Provider,
    _runtime: Runtime,
}

impl Peer {
    /// Starts a peer that sends as many chunks as it is asked for.
    pub fn start(blocks: Blocks) -> Self {
        Self::start_gated(blocks, UNLIMITED)
    }

    /// Starts a peer that stops once it has sent `chunks` of them.
    pub fn start_gated(blocks: Blocks, chunks: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let gate = Arc::new(Semaphore::new(chunks));
        let key = Keypair::generate_ed25519();
        let starting = Provider::start(loopback(&[]), &key, blocks, Arc::clone(&gate));
        let provider = runtime.block_on(starting).expect("a network");
        let address = provider
            .addresses()
            .first()
            .expect("an address")
            .to_string();
        Self {
            address,
            gate,
            provider,
            _runtime: runtime,
        }
    }

    /// How many chunks it has sent.
    pub fn sent(&self) -> u64 {
        self.provider.chunks_sent()
    }

    /// How many blocks it was asked for.
    pub fn asked(&self) -> u64 {
        self.provider.wants_heard()
    }

    /// Lets it send this many more.
    pub fn let_through(&self, chunks: usize) {
        self.gate.add_permits(chunks);
    }

    /// Lets it send all chunks from now on.
    pub fn open(&self) {
        self.gate.add_permits(UNLIMITED);
    }
}

/// Starts a network on loopback that knows nobody and keeps nothing.
pub(crate) fn start_alone(runtime: &Runtime) -> (Net, Incoming) {
    let key = Keypair::generate_ed25519();
    let starting = Net::spawn(loopback(&[]), &key, nothing_kept());
    runtime.block_on(starting).expect("a network")
}

/// The first address of a network, with its peer id.
pub(crate) fn address_of(net: &Net) -> String {
    let addresses = net.dial_addresses();
    addresses.first().expect("an address").to_string()
}

/// A network on loopback that joins through the peers at these addresses.
pub fn loopback(bootstrap: &[&str]) -> NetConfig {
    let address = |text: &&str| text.parse().expect("an address");
    NetConfig {
        listen: vec![address(&"/ip4/127.0.0.1/tcp/0")],
        bootstrap: bootstrap.iter().map(address).collect(),
        mdns: false,
        ..NetConfig::default()
    }
}
