//! More streams, wants and frames than anybody needs.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use libp2p::PeerId;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{
    address::{Cid, Digest, HashFn},
    exchange::{self, Request, WANTS_OUTSTANDING_MAX, WANTS_PER_MESSAGE_MAX, Wants},
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::Mutex,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Provider, deeds::Counters};

/// How often every peer is attacked.
const EVERY: Duration = Duration::from_millis(100);
/// How long one attack may take: a victim that does not answer costs no more than this.
const ATTACK_TIMEOUT: Duration = Duration::from_secs(2);
/// Peers that are attacked in one round.
const VICTIMS_MAX: usize = 16;
/// Streams that are opened at a time, and twice as many as a node serves to one peer.
const STREAMS_PER_ATTACK: usize = 32;
/// Streams that are kept open for nothing: the oldest gives way. A few KiB each.
const STREAMS_HELD_MAX: usize = 512;
/// Messages of wants in one attack: one more than may be outstanding.
const MESSAGES_OF_WANTS: usize = WANTS_OUTSTANDING_MAX / WANTS_PER_MESSAGE_MAX + 1;
/// Bytes of noise in one attack: the largest frame that there may be.
const NOISE_BYTES: usize = 64 << 10;

/// Has `provider` attack everybody it is connected with.
pub(super) fn start(provider: &Provider, seed: u64) {
    provider.attack(move |net, counters| {
        let flood = Flood {
            net,
            counters,
            held: Mutex::default(),
        };
        flood.run(StdRng::seed_from_u64(seed))
    });
}

struct Flood {
    net: Net,
    counters: Arc<Counters>,
    held: Mutex<VecDeque<ExchangeStream>>,
}

impl Flood {
    async fn run(self, mut dice: StdRng) {
        let mut rounds = interval(EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let peers = self.net.peers().await;
            let victims = peers.iter().take(VICTIMS_MAX);
            let attacks = victims.map(|victim| {
                let attack = self.attack(victim.peer_id, StdRng::from_rng(&mut dice));
                timeout(ATTACK_TIMEOUT, attack)
            });
            // A victim that defends itself fails the attack; there is another round.
            futures::future::join_all(attacks).await;
        }
    }

    async fn attack(&self, victim: PeerId, mut dice: StdRng) -> io::Result<()> {
        match dice.random_range(0..3) {
            0 => self.open_many(victim).await,
            1 => self.want_much(victim, dice).await,
            _ => self.make_noise(victim, dice).await,
        }
    }

    /// Opens streams, says half a header on each and leaves them.
    async fn open_many(&self, victim: PeerId) -> io::Result<()> {
        for _ in 0..STREAMS_PER_ATTACK {
            let mut stream = self.open(victim).await?;
            stream.write_all(&[0, 0]).await?;
            stream.flush().await?;
            let mut held = self.held.lock().await;
            if held.len() >= STREAMS_HELD_MAX {
                held.pop_front();
            }
            held.push_back(stream);
        }
        Ok(())
    }

    /// Asks for more blocks than may be asked for, none of which is there.
    async fn want_much(&self, victim: PeerId, mut dice: StdRng) -> io::Result<()> {
        let mut stream = self.open(victim).await?;
        let mut digest = || Digest::of(HashFn::Blake3, &dice.random::<[u8; 8]>());
        let root = Cid::raw(digest());
        let mut frames = Vec::new();
        exchange::encode(&Request::Open { root }, &mut frames).map_err(io::Error::other)?;
        let mut id = 0;
        for _ in 0..MESSAGES_OF_WANTS {
            let blocks = Wants::first_of((0..WANTS_PER_MESSAGE_MAX).map(|_| digest()));
            let count = u32::try_from(blocks.len()).map_err(io::Error::other)?;
            let want = Request::Want { id, blocks };
            exchange::encode(&want, &mut frames).map_err(io::Error::other)?;
            id += count;
        }
        stream.write_all(&frames).await?;
        stream.flush().await?;
        self.counters.wants_sent.add(id.into());
        Ok(())
    }

    /// Sends a header that announces too much, or a right one with noise behind it.
    async fn make_noise(&self, victim: PeerId, mut dice: StdRng) -> io::Result<()> {
        let mut stream = self.open(victim).await?;
        let mut noise = vec![0; NOISE_BYTES];
        dice.fill(noise.as_mut_slice());
        let announced: u32 = if dice.random() { u32::MAX } else { 4096 };
        stream.write_all(&announced.to_be_bytes()).await?;
        stream.write_all(&noise).await?;
        stream.flush().await?;
        self.counters.frames_sent.add(1);
        Ok(())
    }

    async fn open(&self, victim: PeerId) -> io::Result<ExchangeStream> {
        let opened = self.net.open_exchange(victim).await;
        let stream = opened.map_err(io::Error::other)?;
        self.counters.streams_opened.add(1);
        Ok(stream)
    }
}
