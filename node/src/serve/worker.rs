//! One served stream, from `Open` to its end.
//!
//! Requests are read ahead into a bounded queue while answers are written, so a client's window is
//! never idle for a round trip. Wants are taken in order; runs of small blocks are read in one go
//! on one blocking thread and written with one flush. Between two answers the client hears what is
//! new of the root. What it does not want any more is left out, and a large block is written in
//! pieces, so that it ends early when it is cancelled.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use shoal_protocol::{
    address::{BLOCK_BYTES_MAX, CHUNK_BYTES, Cid},
    exchange::{self, Missing, Reason, Request, Response, pace},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

use super::{
    ServeStats, Server, busy,
    news::{News, Sources},
    pieces::Pieces,
    queue::{Queue, Want},
};
use crate::{
    deadline::within,
    disks::{SILENT_AFTER, SLOW_AFTER},
    limits::{Class, Limits, Spent},
    net::ExchangeStream,
    pool::{Pool, Pooled},
    store::{BlockKind, Held, Library, ReadError},
};

/// What one permit of the buffer budget stands for.
pub(super) const UNIT_BYTES: u32 = 4096;
/// Batches that wait for the writer: one is written, one is ready, one is being read.
const ANSWERS_AHEAD: usize = 1;
/// The most that one batch can hold: it stops at a chunk's worth, so the last block may overshoot.
const READ_BYTES_MAX: usize = CHUNK_BYTES + BLOCK_BYTES_MAX;
/// Blocks below this are copied behind their header, so that many leave in one write.
const COALESCE_BYTES_MAX: usize = 64 * 1024;
/// Bytes that one deadline is for: what [`pace::time_for`] allows for them is the slowest a client
/// may be.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// When a client may come back whom the month's budget does not allow any more: the longest rest
/// that clients take, for a month begins anew or a budget is raised without a word to them.
const SPENT_RETRY: Duration = Duration::from_secs(60);
/// A client must open within this: its opening may wait behind what it serves itself.
const OPEN_TIMEOUT: Duration = pace::SILENCE_MAX;
/// The last word may take this long. The client also notices the end of the stream, but would take
/// it for a break; so it gets what a full queue of a line of 64 KiB/s takes, and no slow peer delays
/// a shutdown by more.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(4);
/// A stream on which nothing is asked for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// What a look at the files of a changed share may take before its peer is told that it is gone.
const LOOK_AGAIN_PATIENCE: Duration = Duration::from_secs(2);

/// Why a served stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The client said that it is done.
    #[error("done")]
    Done,
    /// This node shuts down.
    #[error("this node shuts down")]
    ShuttingDown,
    /// The root is not served here, or not any more.
    #[error("the root is not served")]
    NotServed,
    /// The client broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Protocol(String),
    /// This month's traffic budget is used up.
    #[error(transparent)]
    Spent(#[from] Spent),
    /// The client was silent or did not read.
    #[error("the client was too slow")]
    TooSlow,
    /// The stream broke.
    #[error("the stream broke")]
    Lost,
}

type Reader = BufReader<ReadHalf<ExchangeStream>>;
pub(super) type Writer = WriteHalf<ExchangeStream>;

/// Serves one stream.
pub(super) struct Worker {
    sources: Arc<Sources>,
    stats: Arc<ServeStats>,
    limits: Limits,
    buffers: Arc<Semaphore>,
    peer_buffers: Arc<Semaphore>,
    pool: Pool,
    shutdown: CancellationToken,
    queue: Mutex<Queue>,
    pieces: Mutex<Pieces>,
    asked: Notify,
}

/// Blocks read from the library, ready to be written.
struct Answer {
    blocks: Blocks,
    _budget: Budget,
}

/// Room in the buffers, of the peer and of the node.
struct Budget {
    peer: OwnedSemaphorePermit,
    node: OwnedSemaphorePermit,
}

impl Budget {
    /// Waits for the peer's own part first, so that a peer that has used it up keeps nobody
    /// waiting.
    async fn take(peer: &Arc<Semaphore>, node: &Arc<Semaphore>, units: u32) -> Option<Self> {
        let peer = Arc::clone(peer).acquire_many_owned(units).await.ok()?;
        let node = Arc::clone(node).acquire_many_owned(units).await.ok()?;
        Some(Self { peer, node })
    }

    fn give_back(&mut self, units: usize) {
        drop(self.peer.split(units));
        drop(self.node.split(units));
    }
}

impl Worker {
    /// A worker of `server` for a peer that may have `peer_buffers` filled.
    pub(super) fn new(server: &Server, peer_buffers: Arc<Semaphore>) -> Self {
        Self {
            sources: Arc::clone(&server.sources),
            stats: Arc::clone(&server.stats),
            limits: server.limits.clone(),
            buffers: Arc::clone(&server.buffers),
            peer_buffers,
            pool: server.pool.clone(),
            shutdown: server.shutdown.clone(),
            queue: Mutex::default(),
            pieces: Mutex::default(),
            asked: Notify::new(),
        }
    }

    pub(super) async fn run(self, stream: ExchangeStream) -> Ended {
        let peer = stream.peer();
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = BufReader::new(reader);
        let ended = self.serve(peer, &mut reader, &mut writer).await;
        let reason = match &ended {
            Ended::Done => Reason::Done,
            Ended::ShuttingDown => Reason::ShuttingDown,
            // The status has said why.
            Ended::NotServed => Reason::Done,
            Ended::Protocol(_) => Reason::Protocol,
            Ended::Spent(_) => Reason::Busy,
            Ended::TooSlow => Reason::TooSlow,
            Ended::Lost => return ended,
        };
        // Best effort: the client also notices the end of the stream.
        let goodbye = async {
            write(&mut writer, &Response::Close(reason)).await?;
            writer.shutdown().await.map_err(|_| Ended::Lost)
        };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
        ended
    }

    async fn serve(&self, peer: PeerId, reader: &mut Reader, writer: &mut Writer) -> Ended {
        let root = match within(OPEN_TIMEOUT, read_request(reader)).await {
            Some(Ok(Some(Request::Open { root }))) => root,
            Some(Ok(_)) => return Ended::Protocol("the first request is not an opening".into()),
            Some(Err(ended)) => return ended,
            None => return Ended::TooSlow,
        };
        if self.limits.spent().is_some() {
            let mut news = News::new(&self.sources, root, peer);
            return match busy::say(&mut news, writer, SPENT_RETRY).await {
                Ok(()) => Ended::NotServed,
                Err(ended) => ended,
            };
        }
        let library = &self.sources.library;
        if library.held(&root) == Held::Changed {
            library.look_again(&root, LOOK_AGAIN_PATIENCE).await;
        }
        let mut news = News::new(&self.sources, root.clone(), peer);
        if let Err(ended) = tell(&mut news, writer).await {
            return ended;
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ended::ShuttingDown,
            ended = self.read(reader) => ended,
            ended = self.answer(&root, news, writer) => ended,
        }
    }

    /// Takes requests into the queue. Ends only on an error: after the client's end marker it waits
    /// for the answering half to finish.
    async fn read(&self, reader: &mut Reader) -> Ended {
        loop {
            let request = match self.next_request(reader).await {
                Ok(Some(request)) => request,
                Ok(None) => Request::Close,
                Err(ended) => return ended,
            };
            let pushed = match request {
                Request::Open { .. } => return Ended::Protocol("opened twice".into()),
                Request::Want { id, blocks } => self.lock_queue().push(id, &blocks),
                Request::Rest { id, block, offset } => {
                    self.lock_queue().push_rest(id, block, offset.get())
                }
                Request::Cancel { id, count } => {
                    self.lock_queue().cancel(id, count);
                    Ok(())
                }
                Request::Close => {
                    self.lock_queue().close();
                    self.asked.notify_one();
                    return std::future::pending().await;
                }
            };
            if let Err(ended) = pushed {
                return ended;
            }
            self.asked.notify_one();
        }
    }

    /// The next request. One that waits for answers may be silent for as long as they take.
    async fn next_request(&self, reader: &mut Reader) -> Result<Option<Request>, Ended> {
        // Kept over a time-out, so that half a frame is not lost with it.
        let mut request = std::pin::pin!(read_request(reader));
        loop {
            match within(IDLE_TIMEOUT, request.as_mut()).await {
                Some(request) => return request,
                None if self.lock_queue().is_busy() => {}
                None => return Err(Ended::TooSlow),
            }
        }
    }

    /// Reads and writes what was asked: one batch is read while the one before it is written.
    async fn answer(&self, root: &Cid, mut news: News, writer: &mut Writer) -> Ended {
        let (answers, mut ready) = mpsc::channel(ANSWERS_AHEAD);
        let reading = async {
            while let Some(wants) = self.next_wants().await {
                let Some(answer) = self.read_blocks(root, wants).await else {
                    break;
                };
                if answers.send(answer).await.is_err() {
                    break;
                }
            }
            drop(answers);
            std::future::pending::<Ended>().await
        };
        let writing = async {
            loop {
                let written = tokio::select! {
                    biased;
                    () = news.changed() => tell(&mut news, writer).await,
                    answer = ready.recv() => match answer {
                        Some(answer) => self.write_answer(writer, answer).await,
                        None => return Ended::Done,
                    },
                };
                if let Err(ended) = written {
                    return ended;
                }
            }
        };
        tokio::select! {
            ended = writing => ended,
            ended = reading => ended,
        }
    }

    /// The next wants in order; none when the client is done.
    async fn next_wants(&self) -> Option<Vec<Want>> {
        loop {
            let asked = self.asked.notified();
            {
                let mut queue = self.lock_queue();
                let wants = queue.take();
                if !wants.is_empty() {
                    return Some(wants);
                }
                if queue.is_closed() {
                    return None;
                }
            }
            asked.await;
        }
    }

    /// Reads blocks on a thread of their disk until a chunk's worth is together. Lengths are not
    /// known before the look-up, so what is too much goes back to the front of the queue. A disk that
    /// keeps them waiting does not keep the room that others need.
    async fn read_blocks(&self, root: &Cid, wants: Vec<Want>) -> Option<Answer> {
        let units = READ_BYTES_MAX.div_ceil(UNIT_BYTES as usize);
        let units = u32::try_from(units).ok()?;
        let mut budget = Budget::take(&self.peer_buffers, &self.buffers, units).await?;
        let (library, root) = (self.sources.library.clone(), root.clone());
        let pool = self.pool.clone();
        let disk = library.disk_of(&root);
        let asked = wants.clone();
        let job = disk.run(SILENT_AFTER, move || {
            read_batch(&library, &root, wants, &pool)
        });
        let mut job = std::pin::pin!(job);
        let read = match tokio::time::timeout(SLOW_AFTER, &mut job).await {
            Ok(read) => read,
            Err(_) => {
                drop(budget);
                let read = job.await;
                budget = Budget::take(&self.peer_buffers, &self.buffers, units).await?;
                read
            }
        };
        let (blocks, rest) = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "blocks that were asked for cannot be read");
            let unread = |want| (want, Err(Missing::Unreadable));
            (asked.into_iter().map(unread).collect(), Vec::new())
        });
        if !rest.is_empty() {
            self.lock_queue().put_back(rest);
        }
        let held: usize = blocks
            .iter()
            .map(|(_, block)| block.as_ref().map_or(0, |(_, bytes)| bytes.len()))
            .sum();
        let spare = (units as usize).saturating_sub(held.div_ceil(UNIT_BYTES as usize));
        budget.give_back(spare);
        Some(Answer {
            blocks,
            _budget: budget,
        })
    }

    async fn write_answer(&self, writer: &mut Writer, answer: Answer) -> Result<(), Ended> {
        let mut frames = Vec::new();
        for (want, block) in answer.blocks {
            if !self.lock_queue().begin(want.id) {
                continue;
            }
            let rest = match &block {
                Ok((kind, bytes)) => want.rest_of(bytes).map(|rest| (*kind, rest)),
                Err(why) => Err(*why),
            };
            match rest {
                Ok((kind, rest)) => {
                    let sent = self.write_block(writer, &mut frames, want.id, rest).await?;
                    self.stats.count(kind, sent);
                }
                Err(why) => encode(&Response::Missing { id: want.id, why }, &mut frames),
            }
            self.lock_queue().finish(want.id);
        }
        self.write_pieces(writer, &frames).await?;
        deadline(0, writer.flush()).await
    }

    /// Writes a block behind `frames`, in pieces between which it may be cancelled. Returns how
    /// many of its bytes are written; a small one stays in `frames`.
    async fn write_block(
        &self,
        writer: &mut Writer,
        frames: &mut Vec<u8>,
        id: u32,
        bytes: &[u8],
    ) -> Result<usize, Ended> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        encode(&Response::Block { id, len }, frames);
        let mut rest = bytes;
        while !rest.is_empty() {
            if rest.len() < bytes.len() && !self.lock_queue().goes_on(id) {
                frames.extend_from_slice(&exchange::piece_head(0));
                break;
            }
            let wish = self.lock_pieces().len_of(rest.len());
            let (piece, after) = rest.split_at(wish);
            let len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            frames.extend_from_slice(&exchange::piece_head(len));
            rest = after;
            let is_small = piece.len() < COALESCE_BYTES_MAX;
            if is_small {
                frames.extend_from_slice(piece);
                // Many leave in one write where the line is fast.
                if rest.is_empty() && frames.len() < self.lock_pieces().len_of(usize::MAX) {
                    break;
                }
            }
            let begun = Instant::now();
            self.write_pieces(writer, frames).await?;
            let mut written = frames.len();
            frames.clear();
            if !is_small {
                self.write_pieces(writer, piece).await?;
                written += piece.len();
            }
            self.lock_pieces().took(written, begun.elapsed());
        }
        Ok(bytes.len() - rest.len())
    }

    /// Writes as much at a time as the limits let through, each under the deadline, so that it
    /// bounds a stall and not a slow link or our own limit.
    async fn write_pieces(&self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Ended> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wish = rest.len().min(WRITE_BYTES_MAX);
            let (piece, after) = rest.split_at(self.limits.send(Class::Serve, wish).await?);
            deadline(piece.len(), writer.write_all(piece)).await?;
            rest = after;
        }
        Ok(())
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says what is new, if anything is. An error when that is that the root is not served.
async fn tell(news: &mut News, writer: &mut Writer) -> Result<(), Ended> {
    let mut frames = Vec::new();
    for message in news.next().await {
        encode(&message, &mut frames);
    }
    news.sent(frames.len());
    write_frames(writer, &frames).await?;
    if news.is_served() {
        Ok(())
    } else {
        Err(Ended::NotServed)
    }
}

type Blocks = Vec<(Want, Result<(BlockKind, Pooled), Missing>)>;

/// Reads wants in order until [`CHUNK_BYTES`] are together; what is left comes back.
fn read_batch(library: &Library, root: &Cid, wants: Vec<Want>, pool: &Pool) -> (Blocks, Vec<Want>) {
    let mut blocks = Vec::with_capacity(wants.len());
    let mut spare = pool.take();
    let mut bytes = 0;
    let mut wants = wants.into_iter();
    while bytes < CHUNK_BYTES {
        let Some(want) = wants.next() else {
            break;
        };
        let digest = want.digest;
        let read = library.read(&digest, Some(root), &mut spare);
        let block = read.map(|kind| (kind, pool.hand_over(&mut spare)));
        let block = block.map_err(|error| match error {
            ReadError::NotHere => Missing::NotHere,
            ReadError::Changed => Missing::Changed,
            ReadError::Unreadable { .. } | ReadError::Store(_) => {
                tracing::warn!(%error, %digest, "a block that was asked for cannot be read");
                Missing::Unreadable
            }
        });
        bytes += block.as_ref().map_or(0, |(_, block)| block.len());
        blocks.push((want, block));
    }
    (blocks, wants.collect())
}

pub(super) async fn read_request(reader: &mut Reader) -> Result<Option<Request>, Ended> {
    let mut head = [0; 4];
    match reader.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(_) => return Err(Ended::Lost),
    }
    let protocol = |error: exchange::WireError| Ended::Protocol(error.to_string());
    let len = exchange::frame_len(head).map_err(protocol)?;
    let mut body = vec![0; len];
    reader
        .read_exact(&mut body)
        .await
        .map_err(|_| Ended::Lost)?;
    exchange::decode_request(&body).map(Some).map_err(protocol)
}

pub(super) async fn write(writer: &mut Writer, response: &Response) -> Result<(), Ended> {
    let mut frame = Vec::new();
    encode(response, &mut frame);
    write_frames(writer, &frame).await
}

/// Writes messages that are not content: a status and a hint, 75 KiB at the most.
pub(super) async fn write_frames(writer: &mut Writer, frames: &[u8]) -> Result<(), Ended> {
    deadline(frames.len(), writer.write_all(frames)).await?;
    deadline(0, writer.flush()).await
}

pub(super) fn encode(response: &Response, frames: &mut Vec<u8>) {
    // Only an over-long list can fail, and the server builds none.
    if let Err(error) = exchange::encode(response, frames) {
        tracing::error!(%error, "an answer could not be encoded");
    }
}

/// Bounds a write of so many bytes by what the slowest line takes for them.
async fn deadline(bytes: usize, io: impl Future<Output = io::Result<()>>) -> Result<(), Ended> {
    match within(pace::time_for(bytes as u64), io).await {
        Some(Ok(())) => Ok(()),
        Some(Err(_)) => Err(Ended::Lost),
        None => Err(Ended::TooSlow),
    }
}
