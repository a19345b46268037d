//! A peer of the network that serves whatever blocks a test gives it, and as many as it lets.
//!
//! It is a real node, with real connections and the real exchange; only its blocks are made up. It
//! says that it has everything, serves what it has under the address that it was given, and stops
//! before the next chunk until the test lets it go on.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use libp2p::identity::Keypair;
use shoal_node::net::{Change, ExchangeStream, KvLog, Net, NetConfig, NetDeps};
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Digest, HashFn},
    exchange::{self, Availability, Missing, Request, Response},
    unixfs::{Attributes, Block, FileBuilder},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    sync::Semaphore,
};

/// Lets every chunk go that a test could ask for.
const UNLIMITED: usize = 1 << 24;

/// What a peer holds.
#[derive(Clone, Default)]
pub struct Blocks {
    nodes: HashMap<Digest, Vec<u8>>,
    chunks: HashMap<Digest, Vec<u8>>,
}

impl Blocks {
    /// Adds a DAG node, which is served at once.
    pub fn node(&mut self, node: Block) {
        let digest = node.cid.digest().expect("a digest");
        self.nodes.insert(digest, node.data);
    }

    /// Adds a chunk, under whatever address.
    pub fn chunk(&mut self, digest: Digest, bytes: Vec<u8>) {
        self.chunks.insert(digest, bytes);
    }

    /// Adds a file as `shoal share` would, and returns its root.
    pub fn file(&mut self, content: &[u8]) -> Cid {
        let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
        let mut nodes = Vec::new();
        for chunk in content.chunks(CHUNK_BYTES) {
            let digest = Digest::of(HashFn::Blake3, chunk);
            self.chunk(digest, chunk.to_vec());
            builder.push(Cid::raw(digest), chunk.len() as u64, &mut |block| {
                nodes.push(block);
            });
        }
        let built = builder.finish(&mut |block| nodes.push(block));
        nodes.into_iter().for_each(|node| self.node(node));
        built.cid
    }

    /// Changes every chunk, whose address stays.
    pub fn spoil(&mut self) {
        for bytes in self.chunks.values_mut() {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }
}

/// A running peer; it ends when dropped.
pub struct Peer {
    /// Its address with its peer id.
    pub address: String,
    sent: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
    _runtime: Runtime,
    _net: Net,
}

impl Peer {
    /// Starts a peer that sends as many chunks as it is asked for.
    pub fn start(blocks: Blocks) -> Self {
        Self::start_gated(blocks, UNLIMITED)
    }

    /// Starts a peer that stops once it has sent `chunks` of them.
    pub fn start_gated(blocks: Blocks, chunks: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let config = NetConfig {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")],
            mdns: false,
            ..NetConfig::default()
        };
        let deps = NetDeps {
            providers: Arc::new(NoLog),
            peers: Arc::new(NoLog),
        };
        let (sent, gate) = (Arc::default(), Arc::new(Semaphore::new(chunks)));
        let service = Service {
            blocks: Arc::new(blocks),
            sent: Arc::clone(&sent),
            gate: Arc::clone(&gate),
        };
        let net = runtime.block_on(async {
            let key = Keypair::generate_ed25519();
            let (net, mut streams) = Net::spawn(config, &key, deps).await.expect("a network");
            tokio::spawn(async move {
                while let Some(stream) = streams.recv().await {
                    tokio::spawn(service.clone().serve(stream));
                }
            });
            net
        });
        let address = net
            .dial_addresses()
            .first()
            .expect("an address")
            .to_string();
        Self {
            address,
            sent,
            gate,
            _runtime: runtime,
            _net: net,
        }
    }

    /// How many chunks it has sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
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

#[derive(Clone)]
struct Service {
    blocks: Arc<Blocks>,
    sent: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
}

impl Service {
    async fn serve(self, mut stream: ExchangeStream) -> io::Result<()> {
        loop {
            let mut head = [0; 4];
            stream.read_exact(&mut head).await?;
            let mut body = vec![0; exchange::frame_len(head).map_err(io::Error::other)?];
            stream.read_exact(&mut body).await?;
            match exchange::decode_request(&body).map_err(io::Error::other)? {
                Request::Open { .. } => {
                    let status = Response::Status(Availability::Complete);
                    send(&mut stream, &status, &[]).await?;
                }
                Request::Want { id, blocks: wants } => {
                    for (id, want) in (id..).zip(wants.iter()) {
                        self.answer(&mut stream, id, want).await?;
                    }
                }
                Request::Cancel { .. } => {}
                Request::Close => return Ok(()),
            }
        }
    }

    async fn answer(&self, stream: &mut ExchangeStream, id: u32, want: &Digest) -> io::Result<()> {
        let bytes = match (self.blocks.nodes.get(want), self.blocks.chunks.get(want)) {
            (Some(node), _) => node,
            (None, Some(chunk)) => {
                let turn = self.gate.acquire().await.map_err(io::Error::other)?;
                turn.forget();
                self.sent.fetch_add(1, SeqCst);
                chunk
            }
            (None, None) => {
                let why = Missing::NotHere;
                return send(stream, &Response::Missing { id, why }, &[]).await;
            }
        };
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        send(stream, &Response::Block { id, len }, bytes).await
    }
}

async fn send(stream: &mut ExchangeStream, response: &Response, bytes: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    exchange::encode(response, &mut frame).map_err(io::Error::other)?;
    stream.write_all(&frame).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Rows that are forgotten with the test.
struct NoLog;

impl KvLog for NoLog {
    fn load(&self, _visit: &mut dyn FnMut(&[u8], &[u8])) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, _changes: &[Change]) -> io::Result<()> {
        Ok(())
    }
}
