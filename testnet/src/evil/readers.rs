//! Peers that ask for everything and take next to nothing of it.
//!
//! Each kind tries to hold as much of a server as it can: its memory, its streams, its turns on the
//! line. All of them ask for chunks that the server has, so nothing short of looking at what they
//! take tells them from others.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use futures::StreamExt as _;
use libp2p::{PeerId, identity::Keypair};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use shoal_net::{ExchangeStream, Net, NetConfig, PeerInfo};
use shoal_protocol::{
    address::{Cid, Digest},
    exchange::{self, Request, WANTS_PER_MESSAGE_MAX, Wants},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{EvilError, Provider, blocks::Blocks, deeds::Counters, provider::dial_only};

/// How often every peer is attacked.
const EVERY: Duration = Duration::from_secs(1);
/// How long it may take to open one stream: a victim that does not answer costs no more than this.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams that one peer holds open at a time; the oldest gives way. What is sent on them and not
/// taken lies in this process, up to the 16 MiB of a stream's window.
const STREAMS_HELD_MAX: usize = 3;
/// How often the oldest stream gives way to a new one: a server ends those on which nothing moves.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Identities at a time, each with a stream to [`IDENTITY_VICTIMS_MAX`] peers.
const IDENTITIES_MAX: usize = 4;
/// How long the newest identity is alone.
const IDENTITY_EVERY: Duration = Duration::from_secs(2);
/// Peers that one of many identities attacks.
const IDENTITY_VICTIMS_MAX: usize = 1;
/// How long a new identity may take to know somebody.
const ACQUAINTED_TIMEOUT: Duration = Duration::from_secs(5);
/// A slow reader takes a byte in this time.
const SIP_EVERY: Duration = Duration::from_secs(1);

/// Identities of a [`Crowd`] that are on their way at a time.
const COMING_MAX: usize = 32;

/// Many identities at once, each of which asks one peer for a chunk and then does nothing, or asks
/// for everything and takes it back. They end when dropped.
pub struct Crowd {
    _identities: Vec<(Net, ExchangeStream)>,
    count: usize,
}

impl Crowd {
    /// Starts so many, who know nobody but whom `net` names to begin with. Those that are refused are
    /// left out. If they `cancel`, they take everything back as soon as they have asked for it.
    ///
    /// # Errors
    /// [`EvilError`] when not one comes through.
    pub async fn start(
        net: &NetConfig,
        count: usize,
        roots: Vec<Cid>,
        blocks: Arc<Blocks>,
        cancel: bool,
    ) -> Result<Self, EvilError> {
        let greed = Greed {
            roots,
            blocks,
            wants: match cancel {
                true => WANTS_PER_MESSAGE_MAX,
                false => 1,
            },
            seed: 0,
        };
        let coming = (0..count as u64).map(|number| {
            let (net, greed) = (net.clone(), greed.clone());
            async move { comes(net, &greed, number, cancel).await.ok() }
        });
        let identities: Vec<_> = futures::stream::iter(coming)
            .buffer_unordered(COMING_MAX)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if identities.is_empty() {
            return Err(EvilError::Swarm("nobody got through".to_owned()));
        }
        Ok(Self {
            count: identities.len(),
            _identities: identities,
        })
    }

    /// How many have come through.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

async fn comes(
    config: NetConfig,
    greed: &Greed,
    number: u64,
    cancel: bool,
) -> io::Result<(Net, ExchangeStream)> {
    let mut dice = StdRng::seed_from_u64(number);
    let mut seed: [u8; 32] = dice.random();
    let key = Keypair::ed25519_from_bytes(&mut seed).map_err(io::Error::other)?;
    let net = dial_only(config, &key).await.map_err(io::Error::other)?;
    let victims = timeout(ACQUAINTED_TIMEOUT, acquainted(&net)).await?;
    let victim = *victims.first().ok_or(io::ErrorKind::NotFound)?;
    let counters = Counters::default();
    let asked = ask(&net, &counters, greed, victim, &mut dice);
    let mut stream = timeout(OPEN_TIMEOUT, asked).await??;
    if cancel {
        let mut frame = Vec::new();
        let all = Request::Cancel {
            id: 0,
            count: u32::MAX,
        };
        exchange::encode(&all, &mut frame).map_err(io::Error::other)?;
        stream.write_all(&frame).await?;
        stream.flush().await?;
    }
    Ok((net, stream))
}

/// What all these peers ask for.
#[derive(Clone)]
pub(super) struct Greed {
    pub(super) roots: Vec<Cid>,
    pub(super) blocks: Arc<Blocks>,
    /// How many chunks on each stream, at most [`WANTS_PER_MESSAGE_MAX`].
    pub(super) wants: usize,
    pub(super) seed: u64,
}

/// Has `provider` ask everybody it is connected with for everything, and take a byte a second.
pub(super) fn sip(provider: &Provider, greed: Greed) {
    provider.attack(move |net, counters| attack_all(net, counters, greed, true));
}

/// Has `provider` ask everybody it is connected with for everything, and take nothing.
pub(super) fn freeze(provider: &Provider, greed: Greed) {
    provider.attack(move |net, counters| attack_all(net, counters, greed, false));
}

/// Has `provider` take one identity after the other, each of which does what [`freeze`] does.
pub(super) fn multiply(provider: &Provider, config: NetConfig, greed: Greed) {
    provider.attack(move |_, counters| attack_as_many(config, counters, greed));
}

async fn attack_all(net: Net, counters: Arc<Counters>, greed: Greed, sips: bool) {
    let mut dice = StdRng::seed_from_u64(greed.seed);
    let mut held = VecDeque::new();
    let mut rounds = interval(EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_sip = Instant::now();
    let mut renew_at = Instant::now() + RENEW_EVERY;
    loop {
        rounds.tick().await;
        if renew_at <= Instant::now() {
            renew_at = Instant::now() + RENEW_EVERY;
            held.pop_front();
        }
        let room = STREAMS_HELD_MAX - held.len();
        let peers = match room {
            0 => Vec::new(),
            _ => net.peers().await,
        };
        for victim in some(&peers, room, &mut dice) {
            let opened = ask(&net, &counters, &greed, victim, &mut dice);
            let Ok(Ok(stream)) = timeout(OPEN_TIMEOUT, opened).await else {
                continue;
            };
            held.push_back(stream);
            if !sips {
                counters.readers_frozen.add(1);
            }
        }
        if sips && next_sip <= Instant::now() {
            next_sip += SIP_EVERY;
            for stream in &mut held {
                // What is not there yet is taken another time.
                let sip = timeout(Duration::from_millis(1), stream.read_u8());
                if let Ok(Ok(_)) = sip.await {
                    counters.bytes_sipped.add(1);
                }
            }
        }
    }
}

/// As many of these peers, drawn by the dice.
fn some(peers: &[PeerInfo], most: usize, dice: &mut StdRng) -> Vec<PeerId> {
    let mut drawn: Vec<PeerId> = peers.iter().map(|peer| peer.peer_id).collect();
    drawn.shuffle(dice);
    drawn.truncate(most);
    drawn
}

async fn attack_as_many(config: NetConfig, counters: Arc<Counters>, greed: Greed) {
    let mut dice = StdRng::seed_from_u64(greed.seed);
    let mut identities: VecDeque<(Net, Vec<ExchangeStream>)> = VecDeque::new();
    loop {
        let mut seed: [u8; 32] = dice.random();
        let Ok(key) = Keypair::ed25519_from_bytes(&mut seed) else {
            continue;
        };
        let Ok(net) = dial_only(config.clone(), &key).await else {
            tokio::time::sleep(EVERY).await;
            continue;
        };
        counters.identities_used.add(1);
        let victims = timeout(ACQUAINTED_TIMEOUT, acquainted(&net)).await;
        let mut streams = Vec::new();
        for victim in victims
            .unwrap_or_default()
            .into_iter()
            .take(IDENTITY_VICTIMS_MAX)
        {
            let opened = ask(&net, &counters, &greed, victim, &mut dice);
            if let Ok(Ok(stream)) = timeout(OPEN_TIMEOUT, opened).await {
                streams.push(stream);
                counters.readers_frozen.add(1);
            }
        }
        identities.push_back((net, streams));
        if identities.len() > IDENTITIES_MAX
            && let Some((oldest, streams)) = identities.pop_front()
        {
            drop(streams);
            // It is over, in order or not.
            let _ = oldest.shutdown().await;
        }
        tokio::time::sleep(IDENTITY_EVERY).await;
    }
}

/// Whom a new identity knows, once it knows anybody.
pub(super) async fn acquainted(net: &Net) -> Vec<PeerId> {
    loop {
        let peers = net.peers().await;
        if !peers.is_empty() {
            return peers.iter().map(|peer| peer.peer_id).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Opens a stream and asks for chunks.
async fn ask(
    net: &Net,
    counters: &Counters,
    greed: &Greed,
    victim: PeerId,
    dice: &mut StdRng,
) -> io::Result<ExchangeStream> {
    let Some(root) = greed
        .roots
        .get(dice.random_range(0..greed.roots.len().max(1)))
    else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let opened = net.open_exchange(victim).await;
    let mut stream = opened.map_err(io::Error::other)?;
    counters.streams_opened.add(1);
    let root = root.clone();
    let mut frames = Vec::new();
    exchange::encode(&Request::Open { root }, &mut frames).map_err(io::Error::other)?;
    let wants: Vec<Digest> = greed.blocks.chunk_digests(greed.wants, dice);
    if !wants.is_empty() {
        let count = wants.len() as u64;
        let blocks = Wants::first_of(wants);
        exchange::encode(&Request::Want { id: 0, blocks }, &mut frames)
            .map_err(io::Error::other)?;
        counters.wants_sent.add(count);
    }
    stream.write_all(&frames).await?;
    stream.flush().await?;
    Ok(stream)
}
