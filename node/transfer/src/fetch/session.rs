//! One exchange stream to one provider, seen from the fetching side.
//!
//! A [`Session`] owns the stream from `Open` to its end. It asks for what the transfer tells it to,
//! reads what comes back into buffers that the process-wide budget allows, and hands whole blocks
//! on unverified: verification and writing belong to [`super::landing`]. A block is read into the
//! [slot](super::assembly::Slot) of its request, from which the transfer takes what there is when it
//! has another provider go on, or when the session ends in the middle. It enforces what can be seen
//! on the wire: caps on frames and lengths, and that nothing arrives that was not asked. It ends when
//! the transfer drops its handle, when the stream ends, or on the first violation, and always says why
//! with [`SessionEvent::Ended`].

use std::{
    fmt,
    future::poll_fn,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use shoal_ground::deadline::within;
use shoal_net::ExchangeStream;
use shoal_protocol::{
    address::{BLOCK_BYTES_MAX, Cid, Digest},
    exchange::{
        self, Availability, Helper, List, Missing, NEARBY_HELPERS_MAX, PIECE_HEAD_BYTES, PeerHint,
        Reason, Request, Response, pace,
    },
    link::Marks,
    planner::{ProviderId, WantId},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf},
    sync::mpsc,
};

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    asked::{Ask, Asked},
    assembly::Assembly,
    buffers::Buffers,
    span,
};
use crate::limits::Limiter;

/// Bytes read from the muxer at a time; payloads larger than this bypass the buffer.
const READ_BUFFER_BYTES: usize = 16 * 1024;
/// Commands waiting for the writer. The transfer sends at most one per planner action.
const COMMANDS_QUEUED_MAX: usize = 64;
/// A provider that does not answer the opening for longer than this will not do: its answer may
/// wait behind all that other streams of the connection have under way.
const STATUS_TIMEOUT: Duration = pace::SILENCE_MAX;
/// A session that was dropped may take this long to say goodbye to a provider that does not read.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// A payload is reported as it grows, this often at the most, so that a slow link is not taken for a
/// dead one.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// What is thrown away at a time, of an answer that nobody waits for any more.
const SCRATCH_BYTES: usize = 4 * 1024;

/// A block as it came from the wire: not verified.
pub(super) struct Received {
    pub(super) want: WantId,
    pub(super) digest: Digest,
    pub(super) block: Assembly,
    /// How many bytes of it came since its growth was last told.
    pub(super) grown: u32,
}

/// What a session tells its transfer, and which session it was.
pub(super) type SourceEvent = (Source, SessionEvent);

/// Which session tells something: a provider may have had others before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) provider: ProviderId,
    pub(super) serial: Serial,
}

/// What a session tells.
pub(super) enum SessionEvent {
    /// What the provider says it has; first after opening, again when it changes.
    /// With what the sharer asks for.
    Available(Availability, Marks),
    /// So many more bytes of a block came in, which is not whole yet.
    Progress(WantId, u32),
    /// A whole block came in.
    Block(Received),
    /// The provider cannot serve this block, or not the rest of it.
    Missing(WantId, Missing),
    /// What the provider would send does not fit the bytes that are there from others.
    Misfit(WantId),
    /// So many bytes came of what was taken back.
    Wasted(u32),
    /// Others who hold the root, as (peer, addresses) in their binary form.
    Hint(Vec<PeerHint>),
    /// The provider wants to know helpers near this node.
    Nominate,
    /// The session is over; nothing of it follows.
    Ended(SessionEnd),
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The transfer had no more use for it.
    Dropped,
    /// The provider said goodbye, with its reason.
    Closed(Reason),
    /// The stream broke or ended without an end marker.
    Lost(String),
    /// The provider broke the protocol.
    Violation(String),
}

/// Tells the sessions of one provider apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Serial(pub(super) u64);

/// The transfer's handle to a session; dropping it ends the session.
pub(super) struct Session {
    serial: Serial,
    commands: mpsc::Sender<Command>,
    /// Whether its provider has not said yet what it has.
    is_new: bool,
    _alive: DropGuard,
}

enum Command {
    Want(Vec<Ask>),
    Cancel(WantId),
    HasAll,
    Nearby(List<Helper, NEARBY_HELPERS_MAX>),
}

/// Where helpers are named to a provider, while its session runs.
pub(super) struct Nominator(mpsc::WeakSender<Command>);

impl Nominator {
    /// Names them; best effort.
    pub(super) fn name(&self, helpers: List<Helper, NEARBY_HELPERS_MAX>) {
        if let Some(commands) = self.0.upgrade() {
            let _ = commands.try_send(Command::Nearby(helpers));
        }
    }
}

impl Session {
    /// Starts a session for `root` over `stream`, as a task of `tasks`.
    pub(super) fn start(
        source: Source,
        stream: ExchangeStream,
        root: Cid,
        buffers: Buffers,
        limits: Limiter,
        events: mpsc::Sender<SourceEvent>,
        tasks: &TaskTracker,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let dropped = CancellationToken::new();
        let alive = dropped.clone().drop_guard();
        let worker = Worker {
            source,
            buffers,
            limits,
            events,
            asked: Mutex::default(),
        };
        span::spawn(tasks, worker.run(stream, root, inbox, dropped));
        Self {
            serial: source.serial,
            commands,
            is_new: true,
            _alive: alive,
        }
    }

    pub(super) fn serial(&self) -> Serial {
        self.serial
    }

    /// Whether its provider has not said yet what it has.
    pub(super) fn is_unheard(&self) -> bool {
        self.is_new
    }

    /// Whether this is asked for the first time.
    pub(super) fn is_new(&mut self) -> bool {
        std::mem::replace(&mut self.is_new, false)
    }

    /// Asks for blocks. False when the session cannot take more now or is over.
    pub(super) fn want(&self, asks: Vec<Ask>) -> bool {
        self.commands.try_send(Command::Want(asks)).is_ok()
    }

    /// Where helpers can be named to the provider.
    pub(super) fn nominator(&self) -> Nominator {
        Nominator(self.commands.downgrade())
    }

    /// Says that all of the root is here; best effort.
    pub(super) fn has_all(&self) {
        let _ = self.commands.try_send(Command::HasAll);
    }

    /// Says that a block is no longer needed; best effort.
    pub(super) fn cancel(&self, want: WantId) {
        // A lost cancel costs one block of bandwidth, which is counted as waste.
        let _ = self.commands.try_send(Command::Cancel(want));
    }
}

struct Worker {
    source: Source,
    buffers: Buffers,
    limits: Limiter,
    events: mpsc::Sender<SourceEvent>,
    /// Held for look-ups only, never over an await.
    asked: Mutex<Asked>,
}

/// A payload that is being read.
struct Payload {
    /// What is to come of it, in bytes.
    left: usize,
    /// When its growth was last reported.
    reported: Instant,
    /// What came since, in bytes.
    grown: u32,
    /// What was thrown away, in bytes.
    wasted: u32,
}

type Reader = BufReader<ReadHalf<ExchangeStream>>;
type Writer = WriteHalf<ExchangeStream>;

impl Worker {
    async fn run(
        self,
        stream: ExchangeStream,
        root: Cid,
        inbox: mpsc::Receiver<Command>,
        dropped: CancellationToken,
    ) {
        let unwanted = async {
            dropped.cancelled().await;
            tokio::time::sleep(GOODBYE_TIMEOUT).await;
        };
        let end = tokio::select! {
            biased;
            // The transfer went away: nobody listens any more.
            () = self.events.closed() => SessionEnd::Dropped,
            end = self.serve(stream, root, inbox) => end,
            () = unwanted => SessionEnd::Dropped,
        };
        let _ = self.emit(SessionEvent::Ended(end)).await;
    }

    async fn serve(
        &self,
        stream: ExchangeStream,
        root: Cid,
        inbox: mpsc::Receiver<Command>,
    ) -> SessionEnd {
        let (reader, writer) = tokio::io::split(stream);
        let reader = BufReader::with_capacity(READ_BUFFER_BYTES, reader);
        // The two directions never wait for each other, and neither future is dropped half-way
        // through a frame unless the session is over.
        tokio::select! {
            end = self.read(reader) => end,
            end = self.write(writer, root, inbox) => end,
        }
    }

    async fn write(
        &self,
        mut writer: Writer,
        root: Cid,
        mut inbox: mpsc::Receiver<Command>,
    ) -> SessionEnd {
        if let Err(end) = send(&mut writer, &Request::Open { root }).await {
            return end;
        }
        while let Some(command) = inbox.recv().await {
            for request in self.requests(command) {
                if let Err(end) = send(&mut writer, &request).await {
                    return end;
                }
            }
        }
        // Best effort: the provider also notices the end of the stream.
        // What is not answered is taken back, so that a slow line is not kept busy with it.
        let outstanding = self.asked.lock().take_all_back();
        for request in outstanding.into_iter().chain([Request::Close]) {
            let _ = send(&mut writer, &request).await;
        }
        let _ = writer.shutdown().await;
        SessionEnd::Dropped
    }

    fn requests(&self, command: Command) -> Vec<Request> {
        let mut asked = self.asked.lock();
        match command {
            Command::Want(asks) => asked.ask(asks),
            Command::Cancel(want) => asked.take_back(want),
            Command::HasAll => vec![Request::HAS_ALL],
            Command::Nearby(helpers) => vec![Request::Nearby { helpers }],
        }
    }

    async fn read(&self, mut reader: Reader) -> SessionEnd {
        let first = match within(STATUS_TIMEOUT, read_response(&mut reader)).await {
            Some(Ok(first @ (Response::Status { .. } | Response::Close(_)))) => first,
            Some(Ok(_)) => return violation("the first answer is not a status"),
            Some(Err(end)) => return end,
            None => return SessionEnd::Lost("no answer to the opening message".into()),
        };
        tracing::debug!(provider = ?self.source.provider, "the provider has answered");
        if let Err(end) = self.handle(&mut reader, first).await {
            return end;
        }
        loop {
            let handled = match read_response(&mut reader).await {
                Ok(response) => self.handle(&mut reader, response).await,
                Err(end) => Err(end),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn handle(&self, reader: &mut Reader, response: Response) -> Result<(), SessionEnd> {
        let event = match response {
            Response::Status {
                availability,
                marks,
            } => SessionEvent::Available(availability, marks),
            Response::Hint { peers } => SessionEvent::Hint(peers.into_vec()),
            Response::Nominate => SessionEvent::Nominate,
            Response::Missing { id, why } => match self.ended(id)? {
                // Nobody waits for it.
                ask if ask.slot.is_closed() => return Ok(()),
                ask => SessionEvent::Missing(ask.want, why),
            },
            Response::Block { id, len } => {
                let ask = self.asked.lock().begin(id).ok_or_else(unasked)?;
                let event = self.receive(reader, ask, len).await?;
                self.asked.lock().end(id);
                event
            }
            Response::Close(reason) => return Err(SessionEnd::Closed(reason)),
        };
        self.emit(event).await
    }

    /// Reads a payload. The length was capped when the frame was decoded, and is checked against
    /// what the parent block says before a byte is read.
    async fn receive(
        &self,
        reader: &mut Reader,
        ask: Ask,
        len: u32,
    ) -> Result<SessionEvent, SessionEnd> {
        let cap = u32::try_from(BLOCK_BYTES_MAX).unwrap_or(u32::MAX);
        let whole = match ask.offset.checked_add(len) {
            Some(whole) if whole <= ask.bytes_max.min(cap) => whole,
            _ => return Err(violation("a block is longer than its parent says")),
        };
        if !ask.slot.begin(ask.offset as usize, whole as usize) {
            ask.slot.close();
            self.emit(SessionEvent::Misfit(ask.want)).await?;
        } else if ask.slot.lacks_buffer() {
            ask.slot.put(Assembly::new(self.buffers.take(whole).await));
        }
        let mut payload = Payload {
            left: len as usize,
            reported: Instant::now(),
            grown: 0,
            wasted: 0,
        };
        while payload.left > 0 {
            let mut head = [0; PIECE_HEAD_BYTES];
            reader.read_exact(&mut head).await.map_err(|e| lost(&e))?;
            let piece = exchange::piece_len(head, payload.left);
            let piece = piece.map_err(|e| violation(&e.to_string()))?;
            if piece == 0 {
                break;
            }
            self.receive_piece(reader, &ask, piece, &mut payload)
                .await?;
        }
        match ask.slot.is_closed() {
            true => Ok(SessionEvent::Wasted(payload.wasted)),
            // It does not say why, and what has come of it is kept.
            false if payload.left > 0 => Ok(SessionEvent::Missing(ask.want, Missing::NotHere)),
            false => Ok(match ask.slot.close() {
                Some(block) => SessionEvent::Block(Received {
                    want: ask.want,
                    digest: ask.digest,
                    block,
                    grown: payload.grown,
                }),
                None => SessionEvent::Wasted(payload.wasted),
            }),
        }
    }

    async fn receive_piece(
        &self,
        reader: &mut Reader,
        ask: &Ask,
        mut piece: usize,
        payload: &mut Payload,
    ) -> Result<(), SessionEnd> {
        while piece > 0 {
            // Reading less makes the provider send less. The transfer notices a spent budget.
            let allowed = self.limits.receive(piece).await;
            let allowed = allowed.map_err(|_| SessionEnd::Dropped)?;
            let count = self.fill(reader, ask, allowed, payload).await;
            let count = count.map_err(|e| lost(&e))?;
            if count == 0 {
                return Err(SessionEnd::Lost("the stream ended inside a block".into()));
            }
            piece -= count;
            payload.left -= count;
            self.limits.received(count);
            if payload.left > 0 && payload.reported.elapsed() >= PROGRESS_INTERVAL {
                payload.reported = Instant::now();
                let grown = std::mem::take(&mut payload.grown);
                self.emit(SessionEvent::Progress(ask.want, grown)).await?;
            }
        }
        Ok(())
    }

    /// Reads once, into the block's place or, where it was taken back, nowhere.
    async fn fill(
        &self,
        reader: &mut Reader,
        ask: &Ask,
        most: usize,
        payload: &mut Payload,
    ) -> std::io::Result<usize> {
        let from = self.source.provider;
        let filled = poll_fn(|cx| ask.slot.poll_fill(cx, reader, (from, most))).await?;
        if let Some(count) = filled {
            payload.grown = payload.grown.saturating_add(clamped(count));
            return Ok(count);
        }
        let mut scratch = [0; SCRATCH_BYTES];
        let most = most.min(SCRATCH_BYTES);
        let count = reader.read(&mut scratch[..most]).await?;
        payload.wasted = payload.wasted.saturating_add(clamped(count));
        Ok(count)
    }

    fn ended(&self, id: u32) -> Result<Ask, SessionEnd> {
        self.asked.lock().end(id).ok_or_else(unasked)
    }

    async fn emit(&self, event: SessionEvent) -> Result<(), SessionEnd> {
        self.events
            .send((self.source, event))
            .await
            .map_err(|_| SessionEnd::Dropped)
    }
}

fn unasked() -> SessionEnd {
    violation("an answer to what was not asked")
}

async fn send(writer: &mut Writer, request: &Request) -> Result<(), SessionEnd> {
    let mut frame = Vec::new();
    exchange::encode(request, &mut frame).map_err(|e| SessionEnd::Lost(e.to_string()))?;
    writer.write_all(&frame).await.map_err(|e| lost(&e))?;
    writer.flush().await.map_err(|e| lost(&e))
}

async fn read_response(reader: &mut Reader) -> Result<Response, SessionEnd> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await.map_err(|e| lost(&e))?;
    let len = exchange::frame_len(head).map_err(|e| violation(&e.to_string()))?;
    let mut body = vec![0; len];
    reader.read_exact(&mut body).await.map_err(|e| lost(&e))?;
    exchange::decode_response(&body).map_err(|e| violation(&e.to_string()))
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("not needed any more"),
            Self::Closed(reason) => f.write_str(match reason {
                Reason::Done => "said that everything is done",
                Reason::Gone => "does not share it any more",
                Reason::ShuttingDown => "is shutting down",
                Reason::Protocol => "did not understand this node",
                Reason::TooSlow => "found this node too slow",
                Reason::Busy => "is busy",
            }),
            Self::Lost(error) => write!(f, "was lost: {error}"),
            Self::Violation(what) => write!(f, "broke the protocol: {what}"),
        }
    }
}

fn clamped(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn lost(error: &std::io::Error) -> SessionEnd {
    SessionEnd::Lost(error.to_string())
}

fn violation(what: &str) -> SessionEnd {
    SessionEnd::Violation(what.to_owned())
}
