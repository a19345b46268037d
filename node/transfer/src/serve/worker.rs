//! One served stream, from `Open` to its end.
//!
//! Requests are read ahead into a bounded queue while answers are written, so a client's window is
//! never idle for a round trip. Wants are taken in order; runs of small blocks are read in one go
//! on one blocking thread and written with one flush. Between two answers the client hears what is
//! new of the root. What it does not want any more is left out, and a large block is written in
//! pieces, so that it ends early when it is cancelled.

use std::{sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use shoal_ground::{deadline::within, pool::Pool};
use shoal_net::ExchangeStream;
use shoal_protocol::{
    address::{Cid, Digest},
    exchange::{self, Reason, Request, Response, pace},
    turns::WANTS_LOOKED_AT_MAX,
};
use shoal_store::disks::SILENT_AFTER;
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    sync::{Notify, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    ServeStats, Server, Slot,
    budget::{Account, Appetite},
    busy::{self, ROOM_RETRY},
    line::LinePlace,
    news::{News, Sources},
    outgoing::{At, Outgoing},
    parts::{self, Batch, Part, Source},
    pieces::Pieces,
    queue::{Queue, Want},
    served::{Client, Served},
    wire::{Ended, Reader, Writer, deadline, encode, read_request, write, write_frames},
};
use crate::limits::{Class, Limiter};

/// Batches that wait for the writer: one is written, one is ready.
const ANSWERS_AHEAD: usize = 1;
/// Blocks below this are copied behind their header, so that many leave in one write.
const COALESCE_BYTES_MAX: usize = 64 * 1024;
/// Bytes that one deadline is for: what [`pace::time_for`] allows for them is the slowest a client
/// may be.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// How often a client whose wants wait for their turn is told so: sooner than anybody gives up on a
/// silent server.
const PUT_OFF_INTERVAL: Duration = Duration::from_secs(3);
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

/// What a look at files may take before the peer hears of the share as it was last known: that it has
/// changed and is gone, or, in doubt, that it is there; then each block is hashed before it is sent.
const LOOK_AGAIN_PATIENCE: Duration = Duration::from_secs(2);

/// Serves one stream.
pub(super) struct Worker {
    sources: Arc<Sources>,
    stats: Arc<ServeStats>,
    limits: Limiter,
    account: Account,
    appetite: Mutex<Appetite>,
    place: LinePlace,
    slot: Slot,
    pool: Pool,
    shutdown: CancellationToken,
    /// Behind whom it sends now.
    class: Mutex<Class>,
    queue: Mutex<Queue>,
    pieces: Mutex<Pieces>,
    asked: Notify,
}

/// What was sent of a part.
struct Sent {
    bytes: usize,
    /// Whether the block goes on behind the part.
    goes_on: bool,
}

/// What the reading half does next.
enum Next {
    Read(Vec<Want>),
    /// What the client wants waits for its turn.
    PutOff,
    /// The client wants nothing more.
    Done,
}

/// What the writing half does next.
enum Answer {
    Blocks(Batch),
    PutOff,
}

impl Worker {
    /// A worker of `server` for the stream that has this slot.
    pub(super) fn new(server: &Server, slot: Slot) -> Self {
        Self {
            sources: Arc::clone(&server.sources),
            stats: Arc::clone(&server.stats),
            limits: server.limits.clone(),
            account: server.stats.budget.account(slot.peer()),
            appetite: Mutex::default(),
            place: server.line.place(&slot.peer()),
            slot,
            pool: server.pool.clone(),
            shutdown: server.shutdown.clone(),
            class: Mutex::new(Class::Serve),
            queue: Mutex::default(),
            pieces: Mutex::default(),
            asked: Notify::new(),
        }
    }

    pub(super) async fn run(self, stream: ExchangeStream) -> Ended {
        let client = Client::of(&stream);
        let (reader, writer) = tokio::io::split(stream);
        let (mut reader, mut writer) = (BufReader::new(reader), Outgoing::new(writer));
        let ended = self.serve(client, &mut reader, &mut writer).await;
        let reason = match &ended {
            Ended::Done => Reason::Done,
            Ended::ShuttingDown => Reason::ShuttingDown,
            // The status has said why.
            Ended::NotServed => Reason::Done,
            Ended::Protocol(_) => Reason::Protocol,
            Ended::Spent(_) | Ended::GaveWay => Reason::Busy,
            Ended::TooSlow => Reason::TooSlow,
            Ended::Lost => return ended,
        };
        let at = writer.at();
        if at == At::Within {
            // Dropped without a shutdown, the stream is reset.
            return ended;
        }
        // Best effort: the client also notices the end of the stream.
        let goodbye = async {
            if at == At::BetweenPieces {
                let end = exchange::piece_head(0);
                deadline(end.len(), writer.write_all(&end)).await?;
            }
            write(&mut writer, &Response::Close(reason)).await?;
            writer.shutdown().await.map_err(|_| Ended::Lost)
        };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, goodbye).await;
        ended
    }

    async fn serve(&self, client: Client, reader: &mut Reader, writer: &mut Writer) -> Ended {
        let root = match within(OPEN_TIMEOUT, read_request(reader)).await {
            Some(Ok(Some(Request::Open { root }))) => root,
            Some(Ok(_)) => return Ended::Protocol("the first request is not an opening".into()),
            Some(Err(ended)) => return ended,
            None => return Ended::TooSlow,
        };
        if self.limits.spent().is_some() {
            return self.say_busy(root, client, writer, SPENT_RETRY).await;
        }
        let library = &self.sources.library;
        library.look_again(&root, LOOK_AGAIN_PATIENCE).await;
        if library.is_copy(&root) {
            self.place.serves_copy();
        }
        let served = Served::new(&self.sources, root.clone(), client);
        let is_for_others = served.is_for_others();
        if is_for_others && !self.slot.take_copy() {
            self.sources.replicator.turned_away();
            return self.say_busy(root, client, writer, ROOM_RETRY).await;
        }
        let mut news = News::new(&self.sources, root, (client.peer, client.ip));
        if let Err(ended) = tell(&mut news, writer).await {
            return ended;
        }
        if is_for_others {
            self.sources.replicator.pass_on(&served.source.root);
        }
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ended::ShuttingDown,
            () = self.slot.must_give_way() => Ended::GaveWay,
            ended = self.read(reader, &served) => ended,
            ended = self.answer(&served, news, writer) => ended,
        }
    }

    /// Says that there is nothing now, and when to come back.
    async fn say_busy(
        &self,
        root: Cid,
        client: Client,
        writer: &mut Writer,
        retry_after: Duration,
    ) -> Ended {
        let mut news = News::new(&self.sources, root, (client.peer, client.ip));
        match busy::say(&mut news, writer, retry_after).await {
            Ok(()) => Ended::NotServed,
            Err(ended) => ended,
        }
    }

    /// Takes requests into the queue. Ends only on an error: after the client's end marker it waits
    /// for the answering half to finish.
    async fn read(&self, reader: &mut Reader, served: &Served) -> Ended {
        loop {
            let request = match self.next_request(reader).await {
                Ok(Some(request)) => request,
                Ok(None) => Request::Close,
                Err(ended) => return ended,
            };
            self.slot.moved();
            if request == Request::HAS_ALL {
                served.has_all();
            }
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
                Request::Nearby { helpers } => {
                    served.nominated(helpers);
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
    async fn answer(&self, served: &Served, mut news: News, writer: &mut Writer) -> Ended {
        let (answers, mut ready) = mpsc::channel(ANSWERS_AHEAD);
        let reading = async {
            loop {
                let answer = match self.next_wants(&served.source).await {
                    Next::Read(wants) => self
                        .read_blocks(&served.source, wants)
                        .await
                        .map(Answer::Blocks),
                    Next::PutOff => Some(Answer::PutOff),
                    Next::Done => None,
                };
                let Some(answer) = answer else {
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
                    // Nothing else can be said in the middle of a block.
                    () = news.changed(), if !self.lock_queue().is_open() => tell(&mut news, writer).await,
                    () = served.question(), if !self.lock_queue().is_open() => {
                        write(writer, &served.take_question()).await
                    }
                    answer = ready.recv() => match answer {
                        Some(Answer::Blocks(batch)) => self.write_batch(writer, served, batch).await,
                        Some(Answer::PutOff) => self.put_off(&news, writer).await,
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

    /// The next wants that may be answered.
    async fn next_wants(&self, source: &Source) -> Next {
        let put_off_at = Instant::now() + PUT_OFF_INTERVAL;
        loop {
            let asked = self.asked.notified();
            let first = {
                let mut queue = self.lock_queue();
                if queue.is_empty() && queue.is_closed() {
                    return Next::Done;
                }
                let has_turn = !self.place.is_slow() || queue.rest().is_some();
                if !queue.is_empty() && has_turn {
                    return Next::Read(queue.take());
                }
                queue.first(WANTS_LOOKED_AT_MAX)
            };
            if first.is_empty() {
                asked.await;
                continue;
            }
            tokio::select! {
                biased;
                want = self.next_on_slow_line(source, first) => {
                    if let Some(want) = want {
                        return Next::Read(vec![want]);
                    }
                }
                () = asked => {}
                () = tokio::time::sleep_until(put_off_at) => return Next::PutOff,
            }
        }
    }

    /// The next of these wants on a slow line: a small block at once, another when it has its turn.
    /// None when it was taken back, or when the line is not slow any more.
    async fn next_on_slow_line(&self, source: &Source, wants: Vec<Digest>) -> Option<Want> {
        let source = source.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let small = parts::first_small(&source, &wants);
            (small, wants)
        });
        let (small, wants) = looked.await.ok()?;
        if let Some(small) = small {
            return self.lock_queue().take_one(&small);
        }
        let digest = self.place.turn(&wants).await?;
        let want = self.lock_queue().take_turn(&digest);
        if want.is_none() {
            self.place.skipped();
        }
        want
    }

    /// Reads blocks on a thread of their disk, as much as the client takes at a time. Lengths are not
    /// known before the look-up, so what is too much goes back to the front of the queue.
    async fn read_blocks(&self, source: &Source, wants: Vec<Want>) -> Option<Batch> {
        let wish = self.lock_appetite().wish();
        let room = self.account.take(wish).await;
        let (source, pool) = (source.clone(), self.pool.clone());
        let disk = source.library.disk_of(&source.root);
        let asked = wants.clone();
        let job = disk.run(SILENT_AFTER, move || {
            parts::read(&source, wants, room, &pool)
        });
        let (batch, rest) = job.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "blocks that were asked for cannot be read");
            (Batch::unreadable(asked), Vec::new())
        });
        if !rest.is_empty() {
            self.lock_queue().put_back(rest);
        }
        Some(batch)
    }

    async fn write_batch(
        &self,
        writer: &mut Writer,
        served: &Served,
        batch: Batch,
    ) -> Result<(), Ended> {
        let begun = Instant::now();
        let mut frames = Vec::new();
        for (want, part) in &batch.parts {
            let is_next = match want.is_rest() {
                true => self.lock_queue().is_begun(want.id),
                false => self.lock_queue().begin(want.id),
            };
            if !is_next {
                self.end_turn(want.id, false);
                continue;
            }
            let goes_on = match part {
                Ok(part) => {
                    *self.class.lock() = served.class_of(part);
                    let to = (&mut *writer, served);
                    let sent = self.write_part(to, &mut frames, want, part).await?;
                    self.stats.count(part.kind, sent.bytes);
                    sent.goes_on
                }
                Err(why) if !want.is_rest() => {
                    let (id, why) = (want.id, *why);
                    encode(&Response::Missing { id, why }, &mut frames);
                    self.end_turn(id, false);
                    false
                }
                // What was sent of it is good.
                Err(_) => self.end_early(want.id, &mut frames),
            };
            if !goes_on {
                self.lock_queue().finish(want.id);
            }
        }
        self.write_pieces(writer, &frames).await?;
        deadline(0, writer.flush()).await?;
        if let Some(room) = &batch.room {
            self.lock_appetite().took(room.bytes(), begun.elapsed());
        }
        Ok(())
    }

    /// Writes a part of a block behind `frames`, in pieces between which the block may be cancelled;
    /// a small one stays in `frames`. Each piece counts when it is out, so that on a slow line the
    /// rate of the peer is steady. Returns how much of the part was sent.
    async fn write_part(
        &self,
        (writer, served): (&mut Writer, &Served),
        frames: &mut Vec<u8>,
        want: &Want,
        part: &Part,
    ) -> Result<Sent, Ended> {
        let id = want.id;
        if !want.is_rest() {
            let bytes = part.block_bytes.saturating_sub(want.start);
            let len = u32::try_from(bytes).unwrap_or(u32::MAX);
            encode(&Response::Block { id, len }, frames);
            if part.block_bytes > parts::SMALL_BYTES {
                self.lock_queue().begin_turn(id);
                self.place.begins(want.digest);
            }
        }
        let mut rest: &[u8] = &part.bytes;
        while !rest.is_empty() {
            let is_begun = want.is_rest() || rest.len() < part.bytes.len();
            if is_begun && !self.lock_queue().goes_on(id) {
                return Ok(Sent {
                    bytes: part.bytes.len() - rest.len(),
                    goes_on: self.end_early(id, frames),
                });
            }
            let wish = self.lock_pieces().len_of(rest.len());
            let (piece, after) = rest.split_at(wish);
            rest = after;
            let is_last = rest.is_empty() && part.is_last(want);
            self.write_piece(writer, frames, piece, is_last).await?;
            served.sent(part, piece.len());
        }
        if part.is_last(want) {
            self.end_turn(id, true);
        }
        Ok(Sent {
            bytes: part.bytes.len(),
            goes_on: !part.is_last(want),
        })
    }

    /// Writes a piece of a block behind `frames`. The last one stays there if it is small, so that
    /// many leave in one write where the line is fast.
    async fn write_piece(
        &self,
        writer: &mut Writer,
        frames: &mut Vec<u8>,
        piece: &[u8],
        is_last: bool,
    ) -> Result<(), Ended> {
        let len = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        frames.extend_from_slice(&exchange::piece_head(len));
        let is_small = piece.len() < COALESCE_BYTES_MAX;
        if is_small {
            frames.extend_from_slice(piece);
            if is_last && frames.len() < self.lock_pieces().len_of(usize::MAX) {
                return Ok(());
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
        Ok(())
    }

    /// Says that a block ends before its end. It does not go on.
    fn end_early(&self, id: u32, frames: &mut Vec<u8>) -> bool {
        frames.extend_from_slice(&exchange::piece_head(0));
        self.end_turn(id, false);
        false
    }

    /// A block that may have had its turn is over, sent whole or not at all.
    fn end_turn(&self, id: u32, is_sent: bool) {
        if !self.lock_queue().end_turn(id) {
            return;
        }
        match is_sent {
            true => self.place.sent(),
            false => self.place.skipped(),
        }
    }

    /// Tells the client that its wants are not forgotten.
    async fn put_off(&self, news: &News, writer: &mut Writer) -> Result<(), Ended> {
        let Some(status) = news.again().filter(|_| self.lock_queue().is_busy()) else {
            return Ok(());
        };
        write(writer, &status).await
    }

    /// Writes as much at a time as the limits let through, each under the deadline, so that it
    /// bounds a stall and not a slow link or our own limit.
    async fn write_pieces(&self, writer: &mut Writer, bytes: &[u8]) -> Result<(), Ended> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let wish = rest.len().min(WRITE_BYTES_MAX);
            let asked = Instant::now();
            let (piece, after) = rest.split_at(self.limits.send(self.class(), wish).await?);
            let begun = Instant::now();
            deadline(piece.len(), writer.write_all(piece)).await?;
            self.place
                .wrote(piece.len(), begun.elapsed(), asked.elapsed());
            self.slot.moved();
            rest = after;
        }
        Ok(())
    }

    fn class(&self) -> Class {
        *self.class.lock()
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    fn lock_pieces(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock()
    }

    fn lock_appetite(&self) -> MutexGuard<'_, Appetite> {
        self.appetite.lock()
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
