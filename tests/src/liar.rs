//! A provider that serves wrong bytes.
//!
//! It is a real node of the network, with real connections and the real exchange, whose every chunk
//! has one bit flipped. DAG nodes it serves as they are, so that a fetcher gets as far as the
//! chunks.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
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
    unixfs::{Attributes, FileBuilder},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
};

/// A running liar; it ends when dropped.
pub struct Liar {
    /// Its address with its peer id.
    pub address: String,
    served: Arc<AtomicU64>,
    _runtime: Runtime,
    _net: Net,
}

/// What the liar pretends to hold: blocks by address, and whether they are chunks.
type Blocks = HashMap<Digest, (Vec<u8>, bool)>;

impl Liar {
    /// Starts a liar that offers `file`, whose root is `cid`.
    pub fn start(file: &Path, cid: &str) -> Self {
        let blocks = Arc::new(blocks_of(
            &fs::read(file).expect("the file to lie about"),
            cid,
        ));
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
        let served = Arc::new(AtomicU64::new(0));
        let net = runtime.block_on(async {
            let key = Keypair::generate_ed25519();
            let (net, mut streams) = Net::spawn(config, &key, deps).await.expect("a network");
            let served = Arc::clone(&served);
            tokio::spawn(async move {
                while let Some(stream) = streams.recv().await {
                    tokio::spawn(serve(stream, Arc::clone(&blocks), Arc::clone(&served)));
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
            served,
            _runtime: runtime,
            _net: net,
        }
    }

    /// How many wrong chunks it has sent.
    pub fn served(&self) -> u64 {
        self.served.load(SeqCst)
    }
}

fn blocks_of(content: &[u8], cid: &str) -> Blocks {
    let mut blocks = Blocks::new();
    let mut builder = FileBuilder::new(HashFn::Blake3, Attributes::default());
    let mut nodes = Vec::new();
    for chunk in content.chunks(CHUNK_BYTES) {
        let digest = Digest::of(HashFn::Blake3, chunk);
        let mut wrong = chunk.to_vec();
        wrong[chunk.len() / 2] ^= 1;
        blocks.insert(digest, (wrong, true));
        builder.push(Cid::raw(digest), chunk.len() as u64, &mut |block| {
            nodes.push(block);
        });
    }
    let built = builder.finish(&mut |block| nodes.push(block));
    assert_eq!(built.cid.to_string(), cid, "the liar knows the file");
    for node in nodes {
        blocks.insert(node.cid.digest().expect("a digest"), (node.data, false));
    }
    blocks
}

async fn serve(
    mut stream: ExchangeStream,
    blocks: Arc<Blocks>,
    served: Arc<AtomicU64>,
) -> io::Result<()> {
    loop {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let mut body = vec![0; exchange::frame_len(head).map_err(io::Error::other)?];
        stream.read_exact(&mut body).await?;
        let mut answer = Vec::new();
        match exchange::decode_request(&body).map_err(io::Error::other)? {
            Request::Open { .. } => encode(&Response::Status(Availability::Complete), &mut answer),
            Request::Want { id, blocks: wants } => {
                for (id, want) in (id..).zip(wants.iter()) {
                    let Some((bytes, is_chunk)) = blocks.get(want) else {
                        encode(
                            &Response::Missing {
                                id,
                                why: Missing::NotHere,
                            },
                            &mut answer,
                        );
                        continue;
                    };
                    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
                    encode(&Response::Block { id, len }, &mut answer);
                    answer.extend_from_slice(bytes);
                    served.fetch_add(u64::from(*is_chunk), SeqCst);
                }
            }
            Request::Cancel { .. } => {}
            Request::Close => return Ok(()),
        }
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

fn encode(response: &Response, out: &mut Vec<u8>) {
    exchange::encode(response, out).expect("the answer fits a frame");
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
