//! A peer of the network that answers requests for chunks by a script: half of one and no more, a
//! wrong byte in the rest of one.
//!
//! It says that it has everything, and serves nodes and what the script has no word for as they are.
//! What it was asked for is written down.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use parking_lot::{Mutex, MutexGuard};
use shoal_net::{ExchangeStream, Net};
use shoal_protocol::{
    address::{Cid, Digest, HashFn},
    exchange::{self, Availability, Request, Response},
    unixfs::{Attributes, FileBuilder},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
    sync::watch,
};

use crate::peer::{address_of, start_alone};

/// What the peer does about one request for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It sends half of what was asked for, ends the stream, and waits until the fetcher did.
    Half,
    /// The same, with a wrong byte.
    WrongHalf,
    /// It sends what was asked for with a wrong byte.
    Wrong,
    /// It says that the block ends before the offset.
    Beyond,
    /// It declares a block that is a byte longer than it is.
    Longer,
}

/// A running peer; it ends when dropped.
pub struct Scripted {
    /// Its address with its peer id.
    pub address: String,
    /// Its peer id.
    pub peer_id: String,
    state: Arc<State>,
    _net: Net,
    _runtime: Runtime,
}

struct State {
    blocks: Vec<(Digest, Vec<u8>)>,
    chunk: Digest,
    script: Mutex<VecDeque<Act>>,
    /// How many acts of the script are to be completed.
    acts_left: AtomicUsize,
    /// The offsets at which the chunk was asked for.
    asked: Mutex<Vec<usize>>,
    /// Whether it answers openings.
    open: watch::Sender<bool>,
    /// It has nothing once its script is done.
    leaves: bool,
}

/// A file of one chunk and a node above it; returns its root.
pub fn one_chunk(content: &[u8]) -> (Cid, Vec<(Digest, Vec<u8>)>) {
    let chunk = Digest::of(HashFn::Blake3, content);
    let mut blocks = vec![(chunk, content.to_vec())];
    let attributes = Attributes {
        mode: Some(0o644),
        ..Attributes::default()
    };
    let mut builder = FileBuilder::new(HashFn::Blake3, attributes);
    let mut add = |block: shoal_protocol::unixfs::Block| {
        blocks.push((block.cid.digest().expect("a digest"), block.data));
    };
    builder.push(Cid::raw(chunk), content.len() as u64, &mut add);
    let root = builder.finish(&mut add).cid;
    (root, blocks)
}

impl Scripted {
    /// Starts a peer that has these blocks, of which the first is the chunk. One that `leaves` has
    /// nothing once its script is done.
    pub fn start(blocks: &[(Digest, Vec<u8>)], script: &[Act], leaves: bool) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let state = Arc::new(State {
            blocks: blocks.to_vec(),
            chunk: blocks.first().expect("a chunk").0,
            script: Mutex::new(script.iter().copied().collect()),
            acts_left: AtomicUsize::new(script.len()),
            asked: Mutex::default(),
            open: watch::Sender::new(true),
            leaves,
        });
        let (net, incoming) = start_alone(&runtime);
        let mut streams = incoming.exchange;
        let serving = Arc::clone(&state);
        runtime.spawn(async move {
            while let Some(stream) = streams.recv().await {
                // An error is a peer that went away.
                tokio::spawn(serve(Arc::clone(&serving), stream));
            }
        });
        Self {
            address: address_of(&net),
            peer_id: net.peer_id().to_string(),
            state,
            _net: net,
            _runtime: runtime,
        }
    }

    /// Has it answer openings, or let them wait.
    pub fn set_open(&self, open: bool) {
        self.state.open.send_replace(open);
    }

    /// The offsets at which it was asked for the chunk, in order.
    pub fn asked(&self) -> Vec<usize> {
        lock(&self.state.asked).clone()
    }

    /// Whether all of its script is done.
    pub fn is_done(&self) -> bool {
        self.state.acts_left.load(SeqCst) == 0
    }
}

async fn serve(state: Arc<State>, mut stream: ExchangeStream) -> io::Result<()> {
    let Request::Open { .. } = read(&mut stream).await? else {
        return Ok(());
    };
    let mut open = state.open.subscribe();
    open.wait_for(|open| *open)
        .await
        .map_err(io::Error::other)?;
    let is_gone = state.leaves && lock(&state.script).is_empty();
    let has = match is_gone {
        true => Availability::Absent,
        false => Availability::Complete,
    };
    send(&mut stream, &Response::status(has), &[]).await?;
    loop {
        match read(&mut stream).await? {
            Request::Want { id, blocks } => {
                for (id, want) in (id..).zip(blocks.iter()) {
                    answer(&state, &mut stream, id, (want, 0)).await?;
                }
            }
            Request::Rest { id, block, offset } => {
                answer(&state, &mut stream, id, (&block, offset.get() as usize)).await?;
            }
            Request::Open { .. } | Request::Cancel { .. } | Request::Nearby { .. } => {}
            Request::Close => return Ok(()),
        }
    }
}

async fn answer(
    state: &State,
    stream: &mut ExchangeStream,
    id: u32,
    (want, offset): (&Digest, usize),
) -> io::Result<()> {
    let why = exchange::Missing::NotHere;
    let Some((_, block)) = state.blocks.iter().find(|(digest, _)| digest == want) else {
        return send(stream, &Response::Missing { id, why }, &[]).await;
    };
    let mut rest = block.get(offset..).unwrap_or_default().to_vec();
    let act = match *want == state.chunk {
        true => {
            lock(&state.asked).push(offset);
            lock(&state.script).pop_front()
        }
        false => None,
    };
    if matches!(act, Some(Act::Wrong | Act::WrongHalf))
        && let Some(byte) = rest.first_mut()
    {
        *byte ^= 1;
    }
    let mut len = rest.len();
    match act {
        None | Some(Act::Wrong) => {}
        Some(Act::Half | Act::WrongHalf) => rest.truncate(len / 2),
        Some(Act::Longer) => {
            rest.push(0);
            len += 1;
        }
        Some(Act::Beyond) => {
            state.acts_left.fetch_sub(1, SeqCst);
            let why = exchange::Missing::Beyond;
            return send(stream, &Response::Missing { id, why }, &[]).await;
        }
    }
    let announced = Response::Block {
        id,
        len: u32::try_from(len).map_err(io::Error::other)?,
    };
    send(stream, &announced, &rest).await?;
    match act {
        Some(Act::Half | Act::WrongHalf) => {
            stream.shutdown().await?;
            while read(stream).await.is_ok() {}
            state.acts_left.fetch_sub(1, SeqCst);
            Err(io::ErrorKind::ConnectionAborted.into())
        }
        Some(_) => {
            state.acts_left.fetch_sub(1, SeqCst);
            Ok(())
        }
        None => Ok(()),
    }
}

async fn read(stream: &mut ExchangeStream) -> io::Result<Request> {
    let mut head = [0; exchange::FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; exchange::frame_len(head).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    exchange::decode_request(&body).map_err(io::Error::other)
}

/// Sends a message, and the payload in one piece.
async fn send(stream: &mut ExchangeStream, response: &Response, bytes: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    exchange::encode(response, &mut frame).map_err(io::Error::other)?;
    if !bytes.is_empty() {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        frame.extend_from_slice(&exchange::piece_head(len));
        frame.extend_from_slice(bytes);
    }
    stream.write_all(&frame).await?;
    stream.flush().await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}
