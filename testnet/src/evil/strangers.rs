//! Many identities behind one address that ask near helpers for what nobody wants, and offer it.
//!
//! Each identity is a node's network that listens nowhere. It knows a few peers, and meets further
//! helpers as any newcomer does, by whom they name. It stays within what one peer may say, for what is
//! beyond is dropped: its strength are its numbers. What it offers, it serves itself. All identities end
//! with the peer that they belong to.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use shoal_net::{ExchangeStream, Net, NetConfig};
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Digest, HashFn},
    exchange::{LeafRanges, List},
    replicate::{Answer, Hello, Key, Offer, Reply, Request, Response},
};
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep, timeout, timeout_at},
};

use super::{
    Provider,
    blocks::Blocks,
    deeds::Counters,
    provider::{Manner, Stock},
    readers::acquainted,
    words::{Ear, say},
};

/// Identities at a time: a node takes 16 connections from one address.
const IDENTITIES_MAX: usize = 12;
/// From one identity to the next.
const IDENTITY_EVERY: Duration = Duration::from_millis(500);
/// How long an identity lives: so there are never more than [`IDENTITIES_MAX`], and a pull of what it
/// offered has time to end.
const IDENTITY_TIME: Duration = Duration::from_secs(6);
/// How long a new identity may take to know somebody.
const ACQUAINTED_TIMEOUT: Duration = Duration::from_secs(3);
/// How long one answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Helpers that one identity talks with.
const VICTIMS_MAX: usize = 16;

/// Things that fake askers ask for, in turn.
const FAKES: u64 = 1000;
/// Bytes of each: one leaf, and so one run.
const FAKE_BYTES: usize = 512 << 10;
/// Asks of one identity to one helper: as many as a peer may make at once.
const ASKS_MAX: u64 = 64;
/// Identities that ask for the same things one after the other: the four that a network counts as.
const SAME_ASKS: u64 = 4;

/// Offers of one identity to one helper: as many as a peer may make at once.
const OFFERS_MAX: u64 = 8;
/// False things that are offered, in turn.
const FALSE_FILES: u64 = 64;
/// Bytes of each: two leaves, and a node above them.
const FALSE_BYTES: usize = CHUNK_BYTES + 7;
/// How many askers a false offer says there are.
const ASKED: u32 = 100;

/// What the identities do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// They ask for things of their own, and offer those that a helper wants: what it pulls is what it
    /// was promised.
    FakeDemand,
    /// They offer, without an ask, what does not verify: right nodes over wrong bytes, a root of fewer
    /// leaves than the offer says, a root that nobody has.
    FalseOffers,
}

/// Has `provider` send out one identity after the other.
pub(super) fn start(provider: &Provider, config: NetConfig, aim: Aim, seed: u64) {
    provider.attack(move |_, counters| async move {
        let drawn = tokio::task::spawn_blocking(move || draw(aim, seed)).await;
        // It fails where this program ends.
        let Ok((roots, blocks)) = drawn else { return };
        let strangers = Strangers {
            config,
            aim,
            roots,
            blocks: Arc::new(blocks),
            seed,
            counters,
        };
        strangers.run().await;
    });
}

/// The things that are asked for or offered.
fn draw(aim: Aim, seed: u64) -> (Vec<Cid>, Blocks) {
    let (count, bytes) = match aim {
        Aim::FakeDemand => (FAKES, FAKE_BYTES),
        Aim::FalseOffers => (FALSE_FILES, FALSE_BYTES),
    };
    let mut blocks = Blocks::default();
    let roots = (0..count).map(|number| blocks.drawn((seed, number), bytes));
    (roots.collect(), blocks)
}

struct Strangers {
    config: NetConfig,
    aim: Aim,
    roots: Vec<Cid>,
    blocks: Arc<Blocks>,
    seed: u64,
    counters: Arc<Counters>,
}

impl Strangers {
    async fn run(self) {
        let mut dice = StdRng::seed_from_u64(self.seed);
        let mut identities = FuturesUnordered::new();
        let mut turns = interval(IDENTITY_EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            tokio::select! {
                _ = turns.tick() => {
                    if identities.len() < IDENTITIES_MAX {
                        identities.push(self.live(number, dice.random()));
                        number += 1;
                    }
                }
                Some(()) = identities.next() => {}
            }
        }
    }

    /// The life of one identity.
    async fn live(&self, number: u64, mut seed: [u8; 32]) {
        let Ok(key) = Keypair::ed25519_from_bytes(&mut seed) else {
            return;
        };
        let config = NetConfig {
            listen: Vec::new(),
            ..self.config.clone()
        };
        let stock = Stock {
            blocks: Arc::clone(&self.blocks),
            manner: match self.aim {
                Aim::FakeDemand => Manner::Honest,
                Aim::FalseOffers => Manner::WrongBytes,
            },
            seed: self.seed,
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            counters: Arc::clone(&self.counters),
        };
        let Ok((identity, _)) = Provider::spawn(config, &key, stock).await else {
            return;
        };
        self.counters.identities_used.add(1);
        let over = sleep(IDENTITY_TIME);
        let bothering = async {
            self.bother(identity.net(), number).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = over => {}
            () = bothering => {}
        }
        // It is over, in order or not.
        let _ = identity.shutdown().await;
    }

    /// Talks with the peers that it knows, and with the helpers that these name.
    async fn bother(&self, net: &Net, number: u64) {
        let known = timeout(ACQUAINTED_TIMEOUT, acquainted(net)).await;
        let mut met: BTreeSet<PeerId> = BTreeSet::new();
        let mut next: VecDeque<PeerId> = known.unwrap_or_default().into();
        let mut talks = FuturesUnordered::new();
        loop {
            while let Some(victim) = next.pop_front() {
                if met.len() < VICTIMS_MAX && victim != net.peer_id() && met.insert(victim) {
                    talks.push(self.meet(net, number, victim));
                }
            }
            match talks.next().await {
                Some(named) => next.extend(named),
                None => return,
            }
        }
    }

    /// Talks with one peer, and says whom it named.
    async fn meet(&self, net: &Net, number: u64, victim: PeerId) -> Vec<PeerId> {
        let mut named = Vec::new();
        let talk = async {
            let mut talk = Talk::open(net, victim).await?;
            self.counters.streams_opened.add(1);
            for helper in talk.hello.near.iter() {
                let addresses = helper.addresses.iter();
                let addresses: Vec<_> = addresses
                    .filter_map(|it| Multiaddr::try_from(it.to_vec()).ok())
                    .collect();
                if let Ok(peer) = PeerId::from_bytes(&helper.peer) {
                    net.learn(peer, addresses, victim).await;
                    named.push(peer);
                }
            }
            if !talk.hello.helps {
                return Ok(());
            }
            match self.aim {
                Aim::FakeDemand => self.ask_all(&mut talk, number).await,
                Aim::FalseOffers => self.offer_all(&mut talk, number).await,
            }
        };
        // A peer that defends itself ends the talk; there are others.
        let _: io::Result<()> = talk.await;
        named
    }

    async fn ask_all(&self, talk: &mut Talk, number: u64) -> io::Result<()> {
        let first = number / SAME_ASKS * ASKS_MAX;
        let mut offers = 0;
        for index in first..first + ASKS_MAX {
            let Some(root) = self.root(index) else {
                return Ok(());
            };
            let Some(digest) = root.digest() else {
                continue;
            };
            self.counters.asks_sent.add(1);
            let answer = talk.ask(Key::of(&digest)).await?;
            let wants = matches!(answer, Answer::Want | Answer::Have { wants: true, .. });
            if wants && offers < OFFERS_MAX {
                offers += 1;
                self.offer(talk, root, (1, FAKE_BYTES as u64), 1).await?;
            }
        }
        Ok(())
    }

    async fn offer_all(&self, talk: &mut Talk, number: u64) -> io::Result<()> {
        for index in 0..OFFERS_MAX {
            let index = number * OFFERS_MAX + index;
            let Some(root) = self.root(index) else {
                return Ok(());
            };
            let shape = (2, FALSE_BYTES as u64);
            match index % 3 {
                0 => self.offer(talk, root, shape, ASKED).await?,
                1 => {
                    let more = (3, FALSE_BYTES as u64);
                    self.offer(talk, root, more, ASKED).await?;
                }
                _ => {
                    let none = Digest::of(HashFn::Blake3, &index.to_be_bytes());
                    self.offer(talk, &Cid::dag_pb(none), shape, ASKED).await?;
                }
            }
        }
        Ok(())
    }

    fn root(&self, index: u64) -> Option<&Cid> {
        let count = self.roots.len() as u64;
        let index = index.checked_rem(count)?;
        self.roots.get(usize::try_from(index).ok()?)
    }

    /// Offers a root of so many leaves and bytes.
    async fn offer(
        &self,
        talk: &mut Talk,
        root: &Cid,
        (leaves, size): (u64, u64),
        asked: u32,
    ) -> io::Result<()> {
        let whole = LeafRanges::new(std::iter::once(0..leaves).collect());
        let offer = Offer {
            id: 0,
            root: root.clone(),
            leaves,
            size,
            ranges: whole.map_err(io::Error::other)?,
            asked,
            holders: List::default(),
        };
        self.counters.offers_sent.add(1);
        if let Reply::Accept { .. } = talk.offer(offer).await? {
            self.counters.offers_taken.add(1);
        }
        Ok(())
    }
}

/// A stream about replicas on which one question is asked at a time.
struct Talk {
    stream: ExchangeStream,
    ear: Ear<Response>,
    /// What the peer said of itself.
    hello: Hello,
    next_id: u32,
}

impl Talk {
    async fn open(net: &Net, victim: PeerId) -> io::Result<Self> {
        let opened = timeout(ANSWER_TIMEOUT, net.open_replicate(victim)).await?;
        let mut stream = opened.map_err(io::Error::other)?;
        say(&mut stream, &Request::Hello(Hello::default())).await?;
        let mut talk = Self {
            stream,
            ear: Ear::default(),
            hello: Hello::default(),
            next_id: 0,
        };
        talk.hello = talk
            .hear(|it| match it {
                Response::Hello(hello) => Some(hello),
                _ => None,
            })
            .await?;
        Ok(talk)
    }

    async fn ask(&mut self, key: Key) -> io::Result<Answer> {
        let id = self.id();
        let stays = false;
        say(&mut self.stream, &Request::Ask { id, key, stays }).await?;
        self.hear(|it| match it {
            Response::Answer { id: of, answer } if of == id => Some(answer),
            _ => None,
        })
        .await
    }

    async fn offer(&mut self, mut offer: Offer) -> io::Result<Reply> {
        let id = self.id();
        offer.id = id;
        say(&mut self.stream, &Request::Offer(offer)).await?;
        self.hear(|it| match it {
            Response::Reply { id: of, reply } if of == id => Some(reply),
            _ => None,
        })
        .await
    }

    fn id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        id
    }

    /// The first message that is meant, in time.
    async fn hear<T>(&mut self, meant: impl Fn(Response) -> Option<T>) -> io::Result<T> {
        let until = tokio::time::Instant::now() + ANSWER_TIMEOUT;
        loop {
            let response = timeout_at(until, self.ear.next(&mut self.stream)).await??;
            if let Some(meant) = meant(response) {
                return Ok(meant);
            }
        }
    }
}
