//! A peer that serves whatever blocks it is given, well or badly.
//!
//! It is a real node's network; only its blocks are made up, and what it makes of them. It says
//! that it has everything, whatever it is asked for, and takes part in the DHT. One task per stream
//! serves it, and ends with the stream or with the peer.

use std::{io, sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use shoal_net::{Change, ExchangeStream, KvLog, Net, NetConfig, NetDeps, NetError};
use shoal_protocol::{
    address::{Cid, Digest},
    dht,
    exchange::{
        self, Availability, HINT_ADDRESSES_MAX, HINT_PEERS_MAX, LeafRanges, List, Missing,
        PeerClass, PeerHint, Request, Response,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{Mutex, Semaphore, mpsc},
    time::{MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    blocks::{Blocks, Found},
    deeds::Counters,
    junk,
};

/// A block that drips gives a byte in this time.
const DRIP_EVERY: Duration = Duration::from_secs(1);
/// How often one that repeats itself does so.
const REPEAT_EVERY: Duration = Duration::from_millis(10);
/// How many times it says the same then: 6,400 frames a second, some tens of kilobytes.
const REPEATS: usize = 64;
/// How often others are offered that do not exist: 160 of them a second.
const HINTS_EVERY: Duration = Duration::from_millis(100);
/// Of so many chunks one that overstates itself has one.
const HELD_ONE_IN: u8 = 16;

/// How it serves those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Everything as it is, as long as its gate lets it.
    Honest,
    /// A bit of each chunk is another.
    WrongBytes,
    /// Each chunk is a byte longer or shorter.
    WrongLengths,
    /// Chunks are not answered.
    Stall,
    /// Chunks come a byte at a time.
    Drip,
    /// Chunks are not answered, but it says again and again what it has.
    Repeating,
    /// Most chunks are not there.
    Lying,
    /// It says at once that it has nothing.
    Empty,
    /// It names peers that do not exist, and has no chunk itself.
    JunkHints,
    /// It holds a copy of everything, and answers no want.
    BlackHole,
    /// It holds a copy of everything, and lacks each block that it is asked for.
    FalseHolder,
}

/// A running peer; it is cut off when dropped, and ends in order with [`Provider::shutdown`].
pub struct Provider {
    net: Net,
    counters: Arc<Counters>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What every stream of a peer is served from.
#[derive(Clone)]
pub(super) struct Stock {
    pub(super) blocks: Arc<Blocks>,
    pub(super) manner: Manner,
    pub(super) seed: u64,
    /// One permit is one chunk.
    pub(super) gate: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
}

impl Provider {
    /// Starts a peer that serves these blocks as they are, a chunk for each permit of `gate`.
    ///
    /// # Errors
    /// [`NetError`]; nothing is left running then.
    pub async fn start(
        net: NetConfig,
        key: &Keypair,
        blocks: Blocks,
        gate: Arc<Semaphore>,
    ) -> Result<Self, NetError> {
        let stock = Stock {
            blocks: Arc::new(blocks),
            manner: Manner::Honest,
            seed: 0,
            gate,
            counters: Arc::default(),
        };
        let (provider, _) = Self::spawn(net, key, stock).await?;
        Ok(provider)
    }

    /// Starts a peer, and gives away the streams about replicas that others open to it: they are reset
    /// when nobody takes them.
    pub(super) async fn spawn(
        net: NetConfig,
        key: &Keypair,
        stock: Stock,
    ) -> Result<(Self, mpsc::Receiver<ExchangeStream>), NetError> {
        let (net, incoming) = Net::spawn(net, key, nothing_kept()).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let counters = Arc::clone(&stock.counters);
        let accepting = accept(stock, incoming.exchange, tasks.clone(), stop.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
        let provider = Self {
            net,
            counters,
            tasks,
            stop,
        };
        Ok((provider, incoming.replicate))
    }

    /// Its network.
    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    /// Announces roots as if it had them.
    pub(super) async fn claim(&self, roots: &[Cid]) {
        let digests = roots.iter().filter_map(|root| root.digest());
        let keys = digests.map(|digest| dht::key(&digest)).collect();
        self.net.announce_all(keys).await;
    }

    /// Has it do something besides serving, for as long as it runs.
    pub(super) fn attack<F>(&self, attack: impl FnOnce(Net, Arc<Counters>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let attack = attack(self.net.clone(), Arc::clone(&self.counters));
        let until_stopped = self.stop.clone().run_until_cancelled_owned(attack);
        self.tasks.spawn(until_stopped);
    }

    /// Its peer id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.net.peer_id()
    }

    /// Where it is, each address with its id.
    #[must_use]
    pub fn addresses(&self) -> Vec<Multiaddr> {
        self.net.dial_addresses()
    }

    /// How many chunks it has sent as they are.
    #[must_use]
    pub fn chunks_sent(&self) -> u64 {
        self.counters.snapshot().chunks_sent
    }

    /// How many blocks others have wanted of it.
    #[must_use]
    pub fn wants_heard(&self) -> u64 {
        self.counters.wants_heard.get()
    }

    /// Ends it and waits until nothing of it runs.
    ///
    /// # Errors
    /// [`NetError::Panicked`] when its network had panicked.
    pub async fn shutdown(self) -> Result<(), NetError> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.net.shutdown().await
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A network that listens nowhere, and answers nobody who opens a stream.
///
/// # Errors
/// [`NetError`]; nothing is left running then.
pub(super) async fn dial_only(mut net: NetConfig, key: &Keypair) -> Result<Net, NetError> {
    net.listen = Vec::new();
    let (net, _) = Net::spawn(net, key, nothing_kept()).await?;
    Ok(net)
}

/// What a network has of its node when it forgets all with its end.
#[must_use]
pub fn nothing_kept() -> NetDeps {
    NetDeps {
        providers: Arc::new(NoLog),
        peers: Arc::new(NoLog),
        journal: None,
    }
}

/// Serves every stream in a task of its own; the network bounds how many there are.
async fn accept(
    stock: Stock,
    mut streams: mpsc::Receiver<ExchangeStream>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut dice = StdRng::seed_from_u64(stock.seed);
    while let Some(stream) = streams.recv().await {
        stock.counters.streams_served.add(1);
        let serving = Serving {
            stock: stock.clone(),
            dice: StdRng::seed_from_u64(dice.random()),
        };
        // An error is a peer that went away.
        let served = async { drop(serving.serve(stream).await) };
        tasks.spawn(stop.clone().run_until_cancelled_owned(served));
    }
}

/// One stream that is served.
struct Serving {
    stock: Stock,
    dice: StdRng,
}

type Reader = ReadHalf<ExchangeStream>;
type Writer = Mutex<WriteHalf<ExchangeStream>>;

impl Serving {
    async fn serve(mut self, stream: ExchangeStream) -> io::Result<()> {
        let (mut reader, writer) = tokio::io::split(stream);
        let writer = Mutex::new(writer);
        let Request::Open { .. } = read(&mut reader).await? else {
            return Ok(());
        };
        let has = match self.stock.manner {
            Manner::Empty => Availability::Absent,
            Manner::BlackHole | Manner::FalseHolder => Availability::Held {
                ranges: LeafRanges::all(),
            },
            _ => Availability::Complete,
        };
        send(&writer, &Response::status(has), &[]).await?;
        let talking = talk(
            self.stock.clone(),
            StdRng::from_rng(&mut self.dice),
            &writer,
        );
        tokio::select! {
            ended = self.answer_all(reader, &writer) => ended,
            failed = talking => failed,
        }
    }

    async fn answer_all(&mut self, mut reader: Reader, writer: &Writer) -> io::Result<()> {
        loop {
            match read(&mut reader).await? {
                Request::Want { id, blocks } => {
                    self.stock.counters.wants_heard.add(blocks.len() as u64);
                    for (id, want) in (id..).zip(blocks.iter()) {
                        self.answer(writer, (id, 0), want).await?;
                    }
                }
                Request::Rest { id, block, offset } => {
                    self.stock.counters.wants_heard.add(1);
                    let offset = usize::try_from(offset.get()).map_err(io::Error::other)?;
                    self.answer(writer, (id, offset), &block).await?;
                }
                Request::Open { .. } | Request::Cancel { .. } | Request::Nearby { .. } => {}
                Request::Close => return Ok(()),
            }
        }
    }

    /// Answers a want by its id, from an offset on.
    async fn answer(
        &mut self,
        writer: &Writer,
        (id, offset): (u32, usize),
        want: &Digest,
    ) -> io::Result<()> {
        match self.stock.manner {
            Manner::BlackHole => {
                self.stock.counters.wants_ignored.add(1);
                return Ok(());
            }
            Manner::FalseHolder => return self.deny(writer, id).await,
            _ => {}
        }
        let (blocks, digest) = (Arc::clone(&self.stock.blocks), *want);
        let found = tokio::task::spawn_blocking(move || blocks.find(&digest)).await??;
        match found {
            None => self.deny(writer, id).await,
            Some(Found::Chunk(chunk)) => self.answer_chunk(writer, (id, offset), want, chunk).await,
            Some(Found::Node(node)) => {
                self.stock.counters.nodes_sent.add(1);
                send_block(writer, (id, offset), &node).await
            }
        }
    }

    async fn answer_chunk(
        &mut self,
        writer: &Writer,
        (id, offset): (u32, usize),
        want: &Digest,
        mut chunk: Vec<u8>,
    ) -> io::Result<()> {
        let counters = &self.stock.counters;
        match self.stock.manner {
            Manner::Honest => {
                let turn = self.stock.gate.acquire().await.map_err(io::Error::other)?;
                turn.forget();
                counters.chunks_sent.add(1);
            }
            Manner::WrongBytes => {
                let middle = offset.max(chunk.len() / 2);
                if let Some(byte) = chunk.get_mut(middle) {
                    *byte ^= 1;
                }
                counters.chunks_wrong.add(1);
            }
            Manner::WrongLengths => {
                match self.dice.random() {
                    true => chunk.push(0),
                    false => drop(chunk.pop()),
                }
                counters.chunks_wrong.add(1);
            }
            Manner::Lying if holds(want) => counters.chunks_sent.add(1),
            Manner::Stall | Manner::Repeating | Manner::BlackHole => {
                counters.wants_ignored.add(1);
                return Ok(());
            }
            Manner::Drip => {
                let rest = chunk.get(offset..).unwrap_or_default();
                return self.drip(writer, id, rest).await;
            }
            Manner::Lying | Manner::Empty | Manner::JunkHints | Manner::FalseHolder => {
                return self.deny(writer, id).await;
            }
        }
        send_block(writer, (id, offset), &chunk).await
    }

    async fn deny(&self, writer: &Writer, id: u32) -> io::Result<()> {
        self.stock.counters.wants_denied.add(1);
        let why = Missing::NotHere;
        send(writer, &Response::Missing { id, why }, &[]).await
    }

    async fn drip(&self, writer: &Writer, id: u32, chunk: &[u8]) -> io::Result<()> {
        let len = u32::try_from(chunk.len()).map_err(io::Error::other)?;
        send(writer, &Response::Block { id, len }, &[]).await?;
        let mut drops = interval(DRIP_EVERY);
        for byte in chunk {
            drops.tick().await;
            let mut piece = exchange::piece_head(1).to_vec();
            piece.push(*byte);
            let mut writer = writer.lock().await;
            writer.write_all(&piece).await?;
            writer.flush().await?;
            self.stock.counters.bytes_dripped.add(1);
        }
        Ok(())
    }
}

/// Says what nobody asked for; never ends by itself.
async fn talk(stock: Stock, mut dice: StdRng, writer: &Writer) -> io::Result<()> {
    let every = match stock.manner {
        Manner::Repeating => REPEAT_EVERY,
        Manner::JunkHints => HINTS_EVERY,
        _ => return std::future::pending().await,
    };
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if stock.manner == Manner::JunkHints {
            let peers = List::first_of((0..HINT_PEERS_MAX).map(|_| nobody(&mut dice)));
            stock.counters.peers_invented.add(HINT_PEERS_MAX as u64);
            send(writer, &Response::Hint { peers }, &[]).await?;
            continue;
        }
        let mut frames = Vec::new();
        for _ in 0..REPEATS {
            let same = Response::status(Availability::Complete);
            exchange::encode(&same, &mut frames).map_err(io::Error::other)?;
        }
        let mut writer = writer.lock().await;
        writer.write_all(&frames).await?;
        writer.flush().await?;
        stock.counters.frames_sent.add(REPEATS as u64);
    }
}

/// A peer that does not exist, at addresses of which some are none.
fn nobody(dice: &mut StdRng) -> PeerHint {
    let addresses = (0..HINT_ADDRESSES_MAX).map(|_| match dice.random_ratio(1, 4) {
        true => List::first_of(dice.random::<[u8; 16]>()),
        false => List::first_of(junk::nowhere(dice).to_vec()),
    });
    let addresses = List::first_of(addresses.collect::<Vec<_>>());
    PeerHint {
        peer: List::first_of(junk::nobody(dice).to_bytes()),
        class: PeerClass::Holder,
        addresses,
    }
}

/// Whether one that overstates itself has a chunk: the same for everybody who asks.
fn holds(chunk: &Digest) -> bool {
    let key = chunk.key();
    key.last().is_some_and(|byte| byte % HELD_ONE_IN == 0)
}

async fn read(reader: &mut Reader) -> io::Result<Request> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await?;
    let mut body = vec![0; exchange::frame_len(head).map_err(io::Error::other)?];
    reader.read_exact(&mut body).await?;
    exchange::decode_request(&body).map_err(io::Error::other)
}

/// Sends what follows an offset of a block, in one piece.
async fn send_block(writer: &Writer, (id, offset): (u32, usize), block: &[u8]) -> io::Result<()> {
    let Some(rest) = block
        .get(offset..)
        .filter(|rest| offset == 0 || !rest.is_empty())
    else {
        let why = Missing::Beyond;
        return send(writer, &Response::Missing { id, why }, &[]).await;
    };
    let len = u32::try_from(rest.len()).map_err(io::Error::other)?;
    let mut payload = Vec::with_capacity(exchange::PIECE_HEAD_BYTES + rest.len());
    if !rest.is_empty() {
        payload.extend_from_slice(&exchange::piece_head(len));
        payload.extend_from_slice(rest);
    }
    send(writer, &Response::Block { id, len }, &payload).await
}

async fn send(writer: &Writer, response: &Response, bytes: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    exchange::encode(response, &mut frame).map_err(io::Error::other)?;
    let mut writer = writer.lock().await;
    writer.write_all(&frame).await?;
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Rows that are forgotten with the peer.
struct NoLog;

impl KvLog for NoLog {
    fn load(&self, _visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _changes: &[Change]) -> io::Result<()> {
        Ok(())
    }
}
