//! A TLS connection as a stream of bytes: records read and written in large pieces.
//!
//! Owns one socket, its TLS state and the buffers between them. rustls' own buffers take 4 KiB from
//! the socket at a time; here one read takes up to 256 KiB, records are decrypted where they lie,
//! and what is written is encrypted in pieces that leave in one write. Nothing of TLS is decided
//! here: every record passes through rustls. After an error the stream is of no more use; it ends
//! like any socket, by closing it or by dropping it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use libp2p::futures::{AsyncRead, AsyncWrite};
use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};

use super::buffers::{Incoming, OUTGOING_BYTES_MAX, Outgoing, Received};
use super::shallow::Unsent;

/// Bytes encrypted at once: they stay in the cache until the socket has taken them.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// A TLS connection over `C`.
pub(super) struct TlsStream<C> {
    socket: C,
    side: Side,
    incoming: Incoming,
    received: Received,
    outgoing: Outgoing,
    /// How much leaves soon: on a slow line no more is encrypted, for a cancel waits behind it.
    unsent: Unsent,
    /// The peer said that it writes no more.
    peer_closed: bool,
    /// We said so.
    closed: bool,
}

/// Either end of a TLS connection.
pub(super) enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl Side {
    fn common(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }
}

/// What the caller of a step wants.
enum Wanted<'a> {
    /// Whatever there is to do.
    Progress,
    /// Decrypted bytes in this buffer.
    Read(&'a mut [u8]),
    /// These bytes encrypted.
    Write(&'a [u8]),
    /// To tell the peer that nothing more is written.
    Close,
}

/// What a step did.
enum TlsStep {
    /// Something; there may be more to do.
    Worked,
    /// Put so many bytes into the reader's buffer.
    Read(usize),
    /// Put what was to be said among the outgoing bytes.
    Written,
    /// Nothing: more must come in first.
    Idle,
    /// Nothing: the peer said that it writes no more.
    PeerClosed,
    /// Nothing: both have said so.
    Closed,
}

impl<C> TlsStream<C> {
    /// The certificates of the peer.
    pub(super) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.side.common().peer_certificates()
    }

    /// What was agreed on to be spoken over the connection.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.side.common().alpn_protocol()
    }

    /// One step of TLS.
    fn step(&mut self, wanted: Wanted<'_>) -> io::Result<TlsStep> {
        let (received, outgoing) = (&mut self.received, &mut self.outgoing);
        let incoming = self.incoming.filled();
        let (used, step) = match &mut self.side {
            Side::Client(tls) => take_step(
                tls.process_tls_records(incoming),
                wanted,
                received,
                outgoing,
            ),
            Side::Server(tls) => take_step(
                tls.process_tls_records(incoming),
                wanted,
                received,
                outgoing,
            ),
        };
        self.incoming.discard(used);
        step
    }
}

/// Does what the state of TLS asks for; says also how much of what came in is used up.
fn take_step<S>(
    status: UnbufferedStatus<'_, '_, S>,
    wanted: Wanted<'_>,
    received: &mut Received,
    outgoing: &mut Outgoing,
) -> (usize, io::Result<TlsStep>) {
    let mut used = status.discard;
    let step = match status.state {
        Err(error) => Err(invalid(error)),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let (mut buffer, mut count) = (Buffer::of(wanted), 0);
            loop {
                match traffic.next_record() {
                    None => break Ok(TlsStep::Read(count)),
                    Some(Err(error)) => break Err(invalid(error)),
                    Some(Ok(record)) => {
                        used += record.discard;
                        let fits = buffer.fill(record.payload);
                        count += fits;
                        received.append(record.payload.get(fits..).unwrap_or_default());
                    }
                }
            }
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => outgoing
            .append(|room| data.encode(room))
            .map(|()| TlsStep::Worked),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // Its bytes are among the outgoing ones, in order.
            data.done();
            Ok(TlsStep::Worked)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match wanted {
            Wanted::Write(bytes) => outgoing
                .append(|room| traffic.encrypt(bytes, room))
                .map(|()| TlsStep::Written),
            Wanted::Close => outgoing
                .append(|room| traffic.queue_close_notify(room))
                .map(|()| TlsStep::Written),
            Wanted::Progress | Wanted::Read(_) => Ok(TlsStep::Idle),
        },
        Ok(ConnectionState::BlockedHandshake) => Ok(TlsStep::Idle),
        Ok(ConnectionState::PeerClosed) => Ok(TlsStep::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(TlsStep::Closed),
        // Early data is the only other one, and not offered.
        Ok(_) => Err(io::Error::other("TLS is in a state that was not offered")),
    };
    (used, step)
}

/// What is left of a reader's buffer; empty when nobody reads.
struct Buffer<'a>(&'a mut [u8]);

impl<'a> Buffer<'a> {
    fn of(wanted: Wanted<'a>) -> Self {
        match wanted {
            Wanted::Read(buffer) => Self(buffer),
            _ => Self(&mut []),
        }
    }

    /// Copies as much as fits.
    fn fill(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.0.len());
        let (to, rest) = std::mem::take(&mut self.0).split_at_mut(count);
        to.copy_from_slice(bytes.get(..count).unwrap_or_default());
        self.0 = rest;
        count
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<C: AsyncRead + AsyncWrite + Unpin> TlsStream<C> {
    /// Shakes hands over `socket`.
    pub(super) async fn handshake(socket: C, side: Side) -> io::Result<Self> {
        let mut stream = Self {
            socket,
            side,
            incoming: Incoming::default(),
            received: Received::default(),
            outgoing: Outgoing::default(),
            unsent: Unsent::new(Instant::now()),
            peer_closed: false,
            closed: false,
        };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.step_or_alert(Wanted::Progress, cx)? {
                TlsStep::Idle if self.side.common().is_handshaking() => {
                    // Both sides may talk at once: who is not heard must listen all the same.
                    if let Poll::Ready(Err(error)) = self.poll_drain(cx) {
                        return Poll::Ready(Err(error));
                    }
                    ready!(self.poll_fill(cx))?;
                }
                TlsStep::Idle | TlsStep::Read(_) | TlsStep::Written => {
                    ready!(self.poll_drain(cx))?;
                    return Pin::new(&mut self.socket).poll_flush(cx);
                }
                TlsStep::Worked => {}
                TlsStep::PeerClosed | TlsStep::Closed => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        }
    }

    /// One step; when it fails, the peer is told why as far as the socket takes it now.
    fn step_or_alert(&mut self, wanted: Wanted<'_>, cx: &mut Context<'_>) -> io::Result<TlsStep> {
        self.step(wanted).inspect_err(|_| {
            while matches!(self.step(Wanted::Progress), Ok(TlsStep::Worked)) {}
            // The error that matters is known.
            let _ = self.poll_drain(cx);
        })
    }

    /// Reads from the socket once.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.incoming.room();
        if room.is_empty() {
            let error = "a TLS record that is longer than allowed";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
        }
        let count = ready!(Pin::new(&mut self.socket).poll_read(cx, room))?;
        if count == 0 {
            // Without the peer's word that it is the end, it may be a cut.
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.incoming.add(count);
        Poll::Ready(Ok(()))
    }

    /// Writes all outgoing bytes to the socket.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let socket = Pin::new(&mut self.socket);
            let written = socket.poll_write(cx, self.outgoing.filled());
            if written.is_pending() {
                self.unsent.blocked();
            }
            let count = ready!(written)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.discard(count);
            let _ = self.unsent.wrote(count, Instant::now());
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let count = this.received.take(buffer);
            if count > 0 || this.peer_closed {
                return Poll::Ready(Ok(count));
            }
            match this.step_or_alert(Wanted::Read(buffer), cx)? {
                TlsStep::Read(count) if count > 0 => return Poll::Ready(Ok(count)),
                TlsStep::Read(_) | TlsStep::Worked | TlsStep::Written => {}
                TlsStep::PeerClosed | TlsStep::Closed => this.peer_closed = true,
                TlsStep::Idle => {
                    // TLS may have had to answer something; nobody else may ever flush it.
                    if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
                        return Poll::Ready(Err(error));
                    }
                    ready!(this.poll_fill(cx))?;
                }
            }
        }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<C> {
    /// Encrypts a piece. It may stay here until a flush, or until there is much of it.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.outgoing.len() >= this.unsent.bytes().min(OUTGOING_BYTES_MAX) {
            ready!(this.poll_drain(cx))?;
        }
        let most = this.unsent.bytes().min(PIECE_BYTES_MAX);
        let piece = bytes.get(..most).unwrap_or(bytes);
        if piece.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            match this.step_or_alert(Wanted::Write(piece), cx)? {
                TlsStep::Written => return Poll::Ready(Ok(piece.len())),
                // What came in meanwhile waits for its reader.
                TlsStep::Read(_) | TlsStep::Worked => {}
                TlsStep::PeerClosed => this.peer_closed = true,
                TlsStep::Idle | TlsStep::Closed => {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.closed {
            match this.step_or_alert(Wanted::Close, cx)? {
                TlsStep::Written | TlsStep::Idle | TlsStep::Closed => this.closed = true,
                TlsStep::PeerClosed => this.peer_closed = true,
                TlsStep::Read(_) | TlsStep::Worked => {}
            }
        }
        ready!(this.poll_drain(cx))?;
        match ready!(Pin::new(&mut this.socket).poll_close(cx)) {
            // The peer was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            closed => Poll::Ready(closed),
        }
    }
}
