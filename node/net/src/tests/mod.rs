//! Real nodes over loopback: every test runs whole networks and waits for what happens, never for
//! time to pass.

#![allow(clippy::unwrap_used)]

mod addresses;
mod connecting;
mod discovery;
mod ends;
mod foreign;
#[cfg(feature = "emulation")]
mod links;
mod streams;
mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{broadcast, mpsc};

use super::journal::memory::MemoryLog;
use super::{ExchangeStream, Key, Net, NetConfig, NetDeps, NetEvent};

/// Generous: a loaded machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, happens).await {
        Ok(value) => value,
        Err(_) => panic!("did not happen: {what}"),
    }
}

/// What of a node outlives its runs.
#[derive(Clone)]
struct Home {
    keypair: Keypair,
    providers: MemoryLog,
    peers: MemoryLog,
}

impl Home {
    fn new() -> Self {
        let keypair = Keypair::generate_ed25519();
        Self {
            keypair,
            providers: MemoryLog::default(),
            peers: MemoryLog::default(),
        }
    }

    async fn start(&self, config: NetConfig) -> Node {
        let deps = NetDeps {
            providers: Arc::new(self.providers.clone()),
            peers: Arc::new(self.peers.clone()),
            journal: None,
        };
        let (net, incoming) = Net::spawn(config, &self.keypair, deps).await.unwrap();
        Node {
            events: net.events(),
            net,
            incoming: incoming.exchange,
            replicate: incoming.replicate,
        }
    }
}

/// A running node.
struct Node {
    net: Net,
    incoming: mpsc::Receiver<ExchangeStream>,
    replicate: mpsc::Receiver<ExchangeStream>,
    events: broadcast::Receiver<NetEvent>,
}

impl Node {
    async fn new(bootstrap: &[&Self]) -> Self {
        Home::new().start(config(bootstrap)).await
    }

    fn id(&self) -> PeerId {
        self.net.peer_id()
    }

    /// Its first address, with its id.
    fn address(&self) -> Multiaddr {
        self.net.dial_addresses().remove(0)
    }

    /// Waits for one event.
    async fn event(&mut self, want: &NetEvent) {
        let seen = async { while self.events.recv().await.unwrap() != *want {} };
        within(&format!("{want:?}"), seen).await;
    }

    async fn met(&mut self, other: &Self) {
        let peer = other.id();
        self.event(&NetEvent::PeerConnected { peer }).await;
    }

    async fn connect(&self, other: &Self) {
        within("connect", self.net.connect(other.address()))
            .await
            .unwrap();
    }

    /// Announces and waits until somebody was told.
    async fn announce(&mut self, key: Key) {
        self.net.announce(key).await;
        let told = async {
            loop {
                if let NetEvent::Announced { key: told, .. } = self.events.recv().await.unwrap()
                    && told == key
                {
                    break;
                }
            }
        };
        within("announced", told).await;
    }

    /// Waits until it holds so many records of others; an announcement has no receipt.
    async fn holds(&self, records: usize) {
        let held = async {
            while self.net.dht().await.records != records {
                tokio::task::yield_now().await;
            }
        };
        within("records arrive", held).await;
    }

    /// The providers that one lookup finds.
    async fn lookup(&self, key: Key) -> Vec<super::ProviderFound> {
        let mut found = self.net.find_providers(key).await.unwrap();
        let all = async {
            let mut all = Vec::new();
            while let Some(provider) = found.recv().await {
                all.push(provider);
            }
            all
        };
        within("lookup ends", all).await
    }

    async fn stop(self) {
        within("shutdown", self.net.shutdown()).await.unwrap();
    }
}

/// A node on loopback TCP that knows only these peers.
fn config(bootstrap: &[&Node]) -> NetConfig {
    NetConfig {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap: bootstrap.iter().map(|node| node.address()).collect(),
        mdns: false,
        ..NetConfig::default()
    }
}

fn key(n: u8) -> Key {
    [n; 32]
}
