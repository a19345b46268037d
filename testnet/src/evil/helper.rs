//! Near helpers that are none: they speak of copies as a helper does, and have not a byte of them.
//!
//! A false helper takes the streams about replicas of everybody and answers every ask and offer. It has
//! a stream of its own to each near peer, on which it tells what it claims to hold. What it does with
//! streams of content is its peer's [`Manner`](super::Manner). It ends with its peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use futures::stream::{FuturesUnordered, StreamExt as _};
use libp2p::PeerId;
use parking_lot::Mutex;
use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{
    address::Cid,
    exchange::{LeafRanges, List},
    replicate::{
        Answer, HELD_RANGES_MAX, Held, Hello, Key, Peer, RANGES_MAX, Reply, Request, Response,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Provider,
    deeds::Counters,
    words::{Ear, say},
};

/// How often it looks whom it has not told of a key: a peer may tell four times a second.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Peers that it has a stream to, as many as a node has near helpers.
const TOLD_MAX: usize = 64;
/// Keys that it claims to hold, 40 bytes each.
const KEYS_MAX: usize = 1024;
/// Keys in one message: with the most ranges that each may have, of up to 12 bytes, they take
/// 16 x (33 + 64 x 12) bytes = 12.5 KiB of the 16 KiB of a frame.
const TOLD_AT_ONCE_MAX: usize = 16;
/// How long it may take to open one stream, and to say one thing on it.
const SAY_TIMEOUT: Duration = Duration::from_secs(2);
/// From the end of a stream until the peer gets another one.
const REOPEN_AFTER: Duration = Duration::from_secs(10);
/// Honest peers that one answer names as holders.
const VICTIMS_MAX: usize = 8;
/// How much room it says it has, in MiB: a terabyte.
const FREE_MIB: u32 = 1 << 20;

/// What a false helper says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    /// It wants whatever it is asked for, accepts every offer, and from then on holds it.
    Accepts,
    /// It holds what it was never offered, or names honest peers as the holders.
    Holds,
}

/// Has `provider` be a false helper; `streams` are those that others open to it. Of `claims` it says
/// from the beginning that it holds them, if that is its lie.
pub(super) fn start(
    provider: &Provider,
    streams: mpsc::Receiver<ExchangeStream>,
    lie: Lie,
    claims: &[Cid],
) {
    let claimed = match lie {
        Lie::Accepts => BTreeMap::new(),
        Lie::Holds => {
            let digests = claims.iter().filter_map(Cid::digest).take(KEYS_MAX);
            digests
                .map(|digest| (Key::of(&digest), LeafRanges::all()))
                .collect()
        }
    };
    provider.attack(move |net, counters| {
        let helper = FalseHelper {
            net,
            counters,
            lie,
            held: Mutex::new(claimed),
        };
        helper.run(streams)
    });
}

struct FalseHelper {
    net: Net,
    counters: Arc<Counters>,
    lie: Lie,
    /// What it claims to hold.
    held: Mutex<BTreeMap<Key, LeafRanges>>,
}

/// What one peer was told, on a stream to it.
struct Listener {
    /// None between two streams.
    stream: Option<ExchangeStream>,
    told: BTreeSet<Key>,
    reopen_at: Instant,
}

impl FalseHelper {
    async fn run(self, mut streams: mpsc::Receiver<ExchangeStream>) {
        let talking = async {
            let mut talks = FuturesUnordered::new();
            loop {
                tokio::select! {
                    Some(stream) = streams.recv() => talks.push(self.talk(stream)),
                    // An error is a peer that went away.
                    Some(_) = talks.next() => {}
                    else => return,
                }
            }
        };
        tokio::join!(talking, self.tell_all());
    }

    /// Answers what one peer asks and offers.
    async fn talk(&self, mut stream: ExchangeStream) -> io::Result<()> {
        let peer = stream.peer();
        self.counters.streams_served.add(1);
        say(&mut stream, &Response::Hello(hello())).await?;
        let mut ear = Ear::<Request>::default();
        let mut turn = 0_u64;
        loop {
            let response = match ear.next(&mut stream).await? {
                Request::Ask { id, key, .. } => {
                    turn += 1;
                    let answer = self.answer(key, turn, peer).await;
                    self.counters.asks_misled.add(1);
                    Response::Answer { id, answer }
                }
                Request::Offer(offer) => {
                    self.counters.offers_swallowed.add(1);
                    if let Some(digest) = offer.root.digest() {
                        self.hold(Key::of(&digest), offer.ranges.clone());
                    }
                    let (id, ranges) = (offer.id, offer.ranges);
                    let reply = Reply::Accept { ranges };
                    Response::Reply { id, reply }
                }
                Request::Hello(_) | Request::Holding { .. } => continue,
            };
            say(&mut stream, &response).await?;
        }
    }

    async fn answer(&self, key: Key, turn: u64, to: PeerId) -> Answer {
        let held = self.held.lock().get(&key).cloned();
        match (self.lie, held) {
            (Lie::Accepts, None) => Answer::Want,
            (Lie::Accepts, Some(ranges)) => {
                let wants = false;
                Answer::Have { ranges, wants }
            }
            (Lie::Holds, _) => {
                let victims = match turn.is_multiple_of(2) {
                    true => self.victims(to).await,
                    false => Vec::new(),
                };
                self.hold(key, LeafRanges::all());
                self.counters.victims_named.add(victims.len() as u64);
                match victims.is_empty() {
                    true => Answer::Have {
                        ranges: LeafRanges::all(),
                        wants: false,
                    },
                    false => Answer::Elsewhere {
                        holders: List::first_of(victims),
                        closer: List::default(),
                    },
                }
            }
        }
    }

    fn hold(&self, key: Key, ranges: LeafRanges) {
        let mut held = self.held.lock();
        if held.len() < KEYS_MAX && ranges.iter().len() <= RANGES_MAX {
            held.insert(key, ranges);
        }
    }

    /// Peers that hold nothing, with their addresses.
    async fn victims(&self, to: PeerId) -> Vec<Peer> {
        let peers = self.net.peers().await.into_iter().map(|it| it.peer_id);
        let peers = peers.filter(|it| *it != to).collect();
        let known = self.net.introduce(peers, to, VICTIMS_MAX).await;
        let named = known
            .into_iter()
            .filter_map(|(peer, addresses)| Peer::new(peer.to_bytes(), &addresses));
        named.collect()
    }

    /// Tells every near peer what it claims to hold; never ends by itself.
    async fn tell_all(&self) {
        let mut listeners: BTreeMap<PeerId, Listener> = BTreeMap::new();
        let mut rounds = interval(TELL_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            let near: BTreeSet<_> = self.net.near_peers().iter().map(|it| it.peer).collect();
            listeners.retain(|peer, _| near.contains(peer));
            for peer in near {
                if listeners.len() < TOLD_MAX {
                    listeners.entry(peer).or_insert_with(|| Listener {
                        stream: None,
                        told: BTreeSet::new(),
                        reopen_at: Instant::now(),
                    });
                }
            }
            let telling = listeners.iter_mut().map(|(peer, it)| self.tell(*peer, it));
            futures::future::join_all(telling).await;
        }
    }

    /// Tells one peer what it has not been told, in one message.
    async fn tell(&self, peer: PeerId, listener: &mut Listener) {
        let news = self.news(&listener.told);
        let is_closed = listener.stream.is_none();
        if is_closed && Instant::now() < listener.reopen_at || !is_closed && news.is_empty() {
            return;
        }
        let keys: Vec<Key> = news.iter().map(|it| it.key).collect();
        let stream = listener.stream.take();
        match timeout(SAY_TIMEOUT, self.say_to(peer, stream, news)).await {
            Ok(Ok(stream)) => {
                listener.stream = Some(stream);
                self.counters.holdings_invented.add(keys.len() as u64);
                listener.told.extend(keys);
            }
            Ok(Err(_)) | Err(_) => {
                listener.told.clear();
                listener.reopen_at = Instant::now() + REOPEN_AFTER;
            }
        }
    }

    async fn say_to(
        &self,
        peer: PeerId,
        stream: Option<ExchangeStream>,
        news: Vec<Held>,
    ) -> io::Result<ExchangeStream> {
        let mut stream = match stream {
            Some(stream) => stream,
            None => {
                let opened = self.net.open_replicate(peer).await;
                let mut stream = opened.map_err(io::Error::other)?;
                self.counters.streams_opened.add(1);
                say(&mut stream, &Request::Hello(hello())).await?;
                stream
            }
        };
        if !news.is_empty() {
            let held = List::first_of(news);
            say(&mut stream, &Request::Holding { held }).await?;
        }
        Ok(stream)
    }

    fn news(&self, told: &BTreeSet<Key>) -> Vec<Held> {
        let held = self.held.lock();
        let untold = held.iter().filter(|(key, _)| !told.contains(key));
        let news = untold.map(|(key, ranges)| Held {
            key: *key,
            ranges: LeafRanges::new(ranges.iter().take(HELD_RANGES_MAX).collect())
                .unwrap_or_default(),
            busy: false,
        });
        news.take(TOLD_AT_ONCE_MAX).collect()
    }
}

fn hello() -> Hello {
    Hello {
        helps: true,
        free_mib: FREE_MIB,
        near: List::default(),
    }
}
