//! An evil peer beside the daemons of a test.

use std::sync::Arc;

use shoal_protocol::address::Cid;
use shoal_testnet::evil::{self, Behaviour, Blocks, Deeds, EvilConfig};
use tokio::runtime::Runtime;

use crate::peer::loopback;

/// A running evil peer; it ends when dropped.
pub struct Evil {
    /// Its address with its peer id.
    pub address: String,
    /// Its peer id.
    pub peer_id: String,
    peer: evil::Evil,
    runtime: Runtime,
}

impl Evil {
    /// Starts a peer that does harm with the content of `root`, which is among `blocks`, in the
    /// network of whoever is at `bootstrap`.
    pub fn start(behaviour: Behaviour, root: &Cid, blocks: Blocks, bootstrap: &[&str]) -> Self {
        Self::start_as(0, behaviour, root, blocks, bootstrap)
    }

    /// The same, one of several of a kind: each number is another peer.
    pub fn start_as(
        number: u64,
        behaviour: Behaviour,
        root: &Cid,
        blocks: Blocks,
        bootstrap: &[&str],
    ) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let seed = blake3::hash(format!("{} {number}", behaviour.name()).as_bytes());
        let config = EvilConfig {
            net: loopback(bootstrap),
            key_seed: *seed.as_bytes(),
            behaviour,
            claims: vec![root.clone()],
            blocks: Arc::new(blocks),
            seed: 1,
        };
        let starting = runtime.block_on(evil::Evil::start(config));
        let peer = starting.expect("an evil peer");
        let address = peer.addresses().first().expect("an address").to_string();
        Self {
            address,
            peer_id: peer.peer_id().to_string(),
            peer,
            runtime,
        }
    }

    /// What it has done so far.
    pub fn deeds(&self) -> Deeds {
        self.peer.deeds()
    }

    /// Ends it and waits until nothing of it runs.
    pub fn end(self) {
        let ended = self.runtime.block_on(self.peer.shutdown());
        ended.expect("an end in order");
    }
}
