//! Announcing what nobody shares.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use shoal_net::{Key, NetEvent};
use tokio::sync::broadcast::error::RecvError;

use super::Provider;

/// Keys that are announced: with a key per share, what a thousand people share. Each is told to 20
/// peers.
const KEYS: usize = 4096;

/// Has `provider` announce keys that mean nothing, and counts those that others were told.
pub(super) fn start(provider: &Provider, seed: u64) {
    provider.attack(|net, counters| async move {
        let mut told = net.events();
        let mut dice = StdRng::seed_from_u64(seed);
        let keys: Vec<Key> = (0..KEYS).map(|_| dice.random()).collect();
        net.announce_all(keys).await;
        loop {
            match told.recv().await {
                Ok(NetEvent::Announced { .. }) => counters.records_sent.add(1),
                Err(RecvError::Lagged(missed)) => counters.records_sent.add(missed),
                Ok(_) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
}
