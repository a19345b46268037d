//! The bytes of one file, in order and verified, for a reader instead of a place on the disk.
//!
//! A stream is no transfer: it has no record, lands nothing, keeps nothing and ends with its
//! reader. The blocking half ([`Supply::stream`]) walks the leaves in order, takes from this disk
//! what is here, asks for a window of the rest and hands on what has its turn. A reader that does
//! not read holds up everything, within the window, for as long as it likes.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use libp2p::{Multiaddr, PeerId};
use parking_lot::{Mutex, MutexGuard};
use shoal_ground::budgets::STREAMS_MAX;
use shoal_protocol::{
    address::{CHUNK_BYTES, Cid, Codec, Digest},
    link::Link,
    replicate::Shape,
    unixfs::{DagError, FileNode, Node, parse_node},
    walk::{FileStep, FileWalk},
};
use tokio::sync::mpsc;

use super::{
    Estimate, FetchError, Fetcher, Snapshot, Totals,
    halves::{Halves, NODES_QUEUED_MAX, Purpose, Sought},
    inquiry::ShapeTeller,
    only::Only,
    progress::{MEASURE_INTERVAL, Phase, Progress},
    supply::{Need, Supply},
    transfer::Sink,
    verdict::Deadlines,
};
use crate::{limits::Pace, replicate::ReadSoFar};

/// Bytes asked for and not handed on: enough for 1 Gbit/s at a round trip of 60 ms.
const WINDOW_BYTES: u64 = 8 << 20;

/// Leaves asked for and not handed on, for files of small ones: as many as the window has of 64
/// KiB.
const WINDOW_LEAVES: usize = 128;
const _: () = assert!(
    WINDOW_LEAVES < NODES_QUEUED_MAX,
    "what a stream asks for has room when it comes"
);

/// What to stream.
#[derive(Clone, Debug)]
pub struct StreamRequest {
    /// The link to the file, or to a folder that holds it.
    pub link: Link,
    /// Which file of the folder that the link leads to; nothing where it leads to a file.
    pub only: Only,
    /// Peers to try before the DHT answers, beside those of the link.
    pub peers: Vec<Multiaddr>,
    /// How long it does without bytes, for which not the reader is the reason.
    pub deadlines: Deadlines,
}

/// A file that was handed on to its end.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// The address of the file.
    pub cid: Cid,
    /// Its bytes.
    pub size: u64,
    /// The time from the request to the last byte.
    pub elapsed: Duration,
    /// Bytes that peers sent.
    pub downloaded_bytes: u64,
    /// Bytes that came from this node.
    pub local_bytes: u64,
    /// The peers that sent bytes, and how many.
    pub from: Vec<(PeerId, u64)>,
}

/// Hears how far a stream is, and how fast.
pub type Report<'a> = dyn Fn(Snapshot, Estimate) + Send + Sync + 'a;

impl Fetcher {
    /// Hands the bytes of the file that a link leads to on to `out`, and how far it is to `report`
    /// now and then, with how fast.
    ///
    /// # Errors
    /// Like a fetch; [`FetchError::NotAFile`] for a folder, [`FetchError::Streams`] when too many
    /// run. Bytes that were handed on before are right. Dropping the future ends it.
    pub fn stream<'a>(
        &'a self,
        request: &'a StreamRequest,
        out: mpsc::Sender<Vec<u8>>,
        report: &'a Report<'a>,
    ) -> BoxFuture<'a, Result<Streamed, FetchError>> {
        Box::pin(self.stream_to(request, out, report))
    }

    async fn stream_to(
        &self,
        request: &StreamRequest,
        out: mpsc::Sender<Vec<u8>>,
        report: &Report<'_>,
    ) -> Result<Streamed, FetchError> {
        let StreamRequest {
            link,
            only,
            peers,
            deadlines,
        } = request;
        let inner = &self.inner;
        let Some(running) = inner.streams.begin() else {
            return Err(FetchError::Streams(STREAMS_MAX));
        };
        let (started, progress) = (Instant::now(), &running.progress);
        let Halves {
            mut transfer,
            supply,
            shape,
        } = {
            let sought = Sought {
                link,
                peers,
                deadlines: *deadlines,
                pace: &Pace::default(),
                is_whole: false,
                heard: &Arc::new(inner.heard(link)),
                purpose: Purpose::Own { stays: false },
            };
            inner.halves(&sought, progress, &inner.tasks, None)
        };
        let (link, only) = (link.clone(), only.clone());
        let streaming = inner
            .tasks
            .spawn_blocking(move || supply.stream(&link, &only, &shape, &out));
        let sink = Sink {
            journal: None,
            landing: None,
        };
        let (cid, size) = {
            let driven = transfer.drive(&sink, streaming);
            let driven = inner.shutdown.run_until_cancelled(driven);
            let driven = reporting(driven, progress, report).await;
            driven.unwrap_or(Err(FetchError::Cancelled))?
        };
        let done = progress.snapshot();
        let received = transfer.received().iter();
        Ok(Streamed {
            cid,
            size,
            elapsed: started.elapsed(),
            downloaded_bytes: done.downloaded,
            local_bytes: done.local,
            from: received.map(|(peer, bytes)| (*peer, *bytes)).collect(),
        })
    }
}

/// The streams of a node: those that run, and the payload of the others.
#[derive(Default)]
pub(super) struct Streams {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    running: Vec<Arc<Progress>>,
    ended: Totals,
}

/// The place of a stream that runs, given back however it ends.
struct Running<'a> {
    streams: &'a Streams,
    progress: Arc<Progress>,
}

impl Streams {
    /// Adds the payload of all streams since the process started.
    pub(super) fn add_to(&self, totals: &mut Totals) {
        let table = self.lock();
        totals.add_all(&table.ended);
        let running = table.running.iter();
        running.for_each(|progress| totals.add(&progress.snapshot()));
    }

    /// A place for one more stream, if there is room.
    fn begin(&self) -> Option<Running<'_>> {
        let mut table = self.lock();
        if table.running.len() >= STREAMS_MAX {
            return None;
        }
        let progress = Arc::<Progress>::default();
        table.running.push(Arc::clone(&progress));
        Some(Running {
            streams: self,
            progress,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut table = self.streams.lock();
        table
            .running
            .retain(|other| !Arc::ptr_eq(other, &self.progress));
        table.ended.add(&self.progress.snapshot());
    }
}

/// Runs `work`, and reports how far it is meanwhile.
async fn reporting<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    report: &Report<'_>,
) -> T {
    let mut ticks = tokio::time::interval(MEASURE_INTERVAL);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = ticks.tick() => {
                progress.measure();
                let at = progress.snapshot();
                report(at, progress.estimate(&at));
            }
        }
    }
}

impl Supply {
    /// Hands on the file that a link leads to, or the one that is wanted of a folder, until its end
    /// or until nobody takes it; its address and its size. Blocking.
    fn stream(
        &self,
        link: &Link,
        only: &Only,
        shape: &ShapeTeller,
        out: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(Cid, u64), FetchError> {
        let root = match only.is_all() {
            true => self.follow(link)?,
            false => only.choose_file(self.list(link, false)?.1)?,
        };
        let mut walk = FileWalk::new(root.clone());
        let read = ReadSoFar::default();
        if root.codec() == Codec::DagPb {
            let bytes = self.node(&root)?;
            match parse_node(&bytes)? {
                Node::File(file) => {
                    self.progress.total(Some(file.size), 1);
                    if let Some(known) = shape_of(&file).filter(|_| root == link.root) {
                        shape.tell_of_reader(known, &read);
                    }
                }
                Node::Directory { .. } | Node::Shard { .. } => return Err(FetchError::NotAFile),
                Node::Symlink { .. } => return Err(FetchError::BareSymlink),
            }
            if let FileStep::Need(cid) = walk.step()? {
                walk.feed(&cid, &bytes)?;
            }
            self.progress.phase(Phase::Fetching);
        }
        let window = Window {
            supply: self,
            walk,
            turns: VecDeque::new(),
            held_bytes: 0,
            wanted: HashMap::new(),
            walked: false,
            read,
        };
        Ok((root, window.hand_on(out)?))
    }
}

/// What comes next in a file, from the first byte that was not handed on.
struct Window<'a> {
    supply: &'a Supply,
    walk: FileWalk,
    /// In the order of the file.
    turns: VecDeque<Turn>,
    held_bytes: u64,
    /// What was asked for, or is here before its turn.
    wanted: HashMap<Digest, Wanted>,
    /// Whether the walk has come to its end.
    walked: bool,
    /// How many leaves were handed on.
    read: ReadSoFar,
}

/// What a file is like of which every leaf stands in its root.
fn shape_of(file: &FileNode) -> Option<Shape> {
    let is_flat =
        file.inline.is_empty() && file.children.iter().all(|it| it.cid.codec() == Codec::Raw);
    is_flat.then_some(Shape {
        leaves: file.children.len() as u64,
        size: file.size,
    })
}

/// One piece of a file.
enum Turn {
    Here(Vec<u8>),
    /// A leaf, with its exact length where its parent states it.
    Leaf(Digest, Option<u64>),
}

#[derive(Default)]
struct Wanted {
    /// How often it comes in the window.
    turns: usize,
    bytes: Option<Vec<u8>>,
}

impl Window<'_> {
    /// Hands on the whole file; its size.
    fn hand_on(mut self, out: &mpsc::Sender<Vec<u8>>) -> Result<u64, FetchError> {
        let (mut size, mut leaves) = (0, 0_u64);
        loop {
            while !self.walked && self.has_room() {
                self.advance()?;
            }
            let Some(turn) = self.turns.pop_front() else {
                break;
            };
            let bytes = match turn {
                Turn::Here(bytes) => bytes,
                Turn::Leaf(digest, len) => {
                    self.held_bytes -= assumed(len);
                    let bytes = self.take(&digest)?;
                    check_len(len, bytes.len() as u64)?;
                    leaves += 1;
                    bytes
                }
            };
            size += bytes.len() as u64;
            if !bytes.is_empty() {
                let sent = out.blocking_send(bytes);
                sent.map_err(|_| FetchError::Cancelled)?;
            }
            self.read.set(leaves);
        }
        self.supply.progress.total(Some(size), 1);
        self.supply.progress.file_done();
        Ok(size)
    }

    fn has_room(&self) -> bool {
        self.held_bytes < WINDOW_BYTES && self.turns.len() < WINDOW_LEAVES
    }

    /// Goes one step further in the file.
    fn advance(&mut self) -> Result<(), FetchError> {
        match self.walk.step()? {
            FileStep::Need(cid) => {
                let bytes = self.node(&cid)?;
                self.walk.feed(&cid, &bytes)?;
            }
            FileStep::Leaf { len, cid, .. } => {
                if let Some(digest) = cid.digest() {
                    self.ask(digest, len)?;
                    self.held_bytes += assumed(len);
                    self.turns.push_back(Turn::Leaf(digest, len));
                }
            }
            FileStep::Inline { data, .. } => {
                self.supply.progress.local(data.len() as u64);
                self.turns.push_back(Turn::Here(data));
            }
            FileStep::Done { .. } => self.walked = true,
        }
        Ok(())
    }

    /// Takes a leaf from this disk if it is whole here, and asks for it otherwise.
    fn ask(&mut self, digest: Digest, len: Option<u64>) -> Result<(), FetchError> {
        let wanted = match self.wanted.entry(digest) {
            Entry::Occupied(wanted) => wanted.into_mut(),
            Entry::Vacant(wanted) => {
                let bytes = self.supply.on_disk(&digest);
                if bytes.is_none() {
                    let len = len.and_then(|len| u32::try_from(len).ok());
                    self.supply.need(Need::Leaf {
                        digest,
                        len,
                        leaf: None,
                    })?;
                }
                wanted.insert(Wanted { turns: 0, bytes })
            }
        };
        wanted.turns += 1;
        Ok(())
    }

    /// A node on the way to the leaves.
    fn node(&mut self, cid: &Cid) -> Result<Vec<u8>, FetchError> {
        let Some(digest) = cid.digest() else {
            return Ok(cid.inline().unwrap_or_default().to_vec());
        };
        let here = self.supply.store.sound_block(&digest)?;
        if let Some(bytes) = here.or_else(|| self.supply.kept_for_others(&digest)) {
            return Ok(bytes);
        }
        if let Entry::Vacant(wanted) = self.wanted.entry(digest) {
            self.supply.need(Need::Node(digest))?;
            wanted.insert(Wanted::default());
        }
        if let Some(wanted) = self.wanted.get_mut(&digest) {
            wanted.turns += 1;
        }
        self.take(&digest)
    }

    /// The bytes of what was asked for, once they have come.
    fn take(&mut self, digest: &Digest) -> Result<Vec<u8>, FetchError> {
        loop {
            let Entry::Occupied(mut wanted) = self.wanted.entry(*digest) else {
                return Err(FetchError::Internal("a leaf was not asked for".to_owned()));
            };
            if wanted.get().bytes.is_some() {
                wanted.get_mut().turns -= 1;
                let again = wanted.get().turns > 0;
                let bytes = match again {
                    true => wanted.get().bytes.clone(),
                    false => wanted.remove().bytes,
                };
                return Ok(bytes.unwrap_or_default());
            }
            let received = self.supply.nodes.recv();
            let (digest, bytes) = received.map_err(|_| FetchError::Cancelled)?;
            if let Some(wanted) = self.wanted.get_mut(&digest) {
                wanted.bytes = Some(bytes);
            }
        }
    }
}

impl Supply {
    /// A leaf from another share, if its bytes are right.
    fn on_disk(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        if digest.matches(&bytes) {
            return Some(bytes);
        }
        if self.library.read(digest, None, &mut bytes).is_err() {
            bytes = self.kept_for_others(digest)?;
        }
        let right = digest.matches(&bytes);
        right.then(|| {
            self.progress.local(bytes.len() as u64);
            bytes
        })
    }
}

/// What a leaf counts in the window.
fn assumed(len: Option<u64>) -> u64 {
    len.unwrap_or(CHUNK_BYTES as u64)
}

fn check_len(expected: Option<u64>, actual: u64) -> Result<(), DagError> {
    match expected {
        Some(expected) if expected != actual => Err(DagError::Length { expected, actual }),
        _ => Ok(()),
    }
}
