//! TCP over an emulated link, below security.
//!
//! Who dials says first, in clear, which node it is, and is told the same: both have to know whose
//! link it is before anything else is said. Who does not say it is refused. From then on each side
//! holds back what it sends, as the link and its own line demand, and reads no faster than its own
//! line carries. Dialling takes a round trip, and waits where the link is blocked.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use libp2p::futures::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

use super::Carriers;
use crate::emulation::{AHEAD_MAX, Emulator, Path, Payer, PipeReader, PipeWriter, Timer, pipe};

/// What an emulated node says first, and its version. It begins as no protocol does that others
/// expect, so that they hang up at once.
const MAGIC: [u8; 15] = *b"\xff\xff\xffshoal-link/1";

/// The magic, and the node's number.
const PREAMBLE_BYTES: usize = MAGIC.len() + 4;

/// What the system may hold of an emulated connection each way. It comes on top of what the link
/// holds, so it is little: at 20 Mbit/s it is 26 ms.
const SOCKET_BYTES: usize = 64 << 10;

/// What is carried from a link to its socket at once.
const CARRY_BYTES: usize = 64 << 10;

/// A TCP connection over an emulated link.
pub(in crate::transport) struct LinkedStream {
    socket: Compat<OwnedReadHalf>,
    inbound: Path,
    /// When more may be read.
    next_turn: Duration,
    timer: Timer,
    outbound: PipeWriter,
}

/// Puts the link between a connected socket and what is above it. The caller sets the deadline.
///
/// # Errors
/// When the other side is not emulated, or goes away.
pub(in crate::transport) async fn linked(
    socket: TcpStream,
    dialled: bool,
    emulator: Emulator,
    node: usize,
    carriers: Carriers,
) -> io::Result<LinkedStream> {
    let mut socket = socket.0;
    let shallow = SockRef::from(&socket);
    shallow.set_recv_buffer_size(SOCKET_BYTES)?;
    shallow.set_send_buffer_size(SOCKET_BYTES)?;
    let far = if dialled {
        socket.write_all(&preamble(node)).await?;
        read_preamble(&mut socket).await?
    } else {
        let far = read_preamble(&mut socket).await?;
        socket.write_all(&preamble(node)).await?;
        far
    };
    let (near, far) = (Some(node), Some(far));
    if dialled {
        emulator.round_trip(near, far).await;
    }
    let (read, write) = socket.into_split();
    let (outbound, carried) = pipe(emulator.path(near, far, Payer::Sender));
    carriers.spawn(carry(carried, write));
    Ok(LinkedStream {
        socket: read.compat(),
        inbound: emulator.path(far, near, Payer::Receiver),
        next_turn: Duration::ZERO,
        timer: Timer::default(),
        outbound,
    })
}

fn preamble(node: usize) -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    let number = u32::try_from(node).unwrap_or(u32::MAX).to_be_bytes();
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&number);
    bytes
}

async fn read_preamble(socket: &mut tokio::net::TcpStream) -> io::Result<usize> {
    let mut magic = [0; MAGIC.len()];
    let read = socket.read_exact(&mut magic).await;
    if read.is_err() || magic != MAGIC {
        tracing::debug!("a connection from or to a node without emulated links is refused");
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the other side has no emulated links",
        ));
    }
    let number = socket.read_u32().await?;
    usize::try_from(number).map_err(io::Error::other)
}

/// Writes to the socket what the link has carried, until either ends.
async fn carry(mut link: PipeReader, mut socket: OwnedWriteHalf) {
    let mut buffer = vec![0; CARRY_BYTES];
    loop {
        match link.read(&mut buffer).await {
            Ok(0) => {
                // The other side learns that no more comes; whether it still listens is its matter.
                let _ = socket.shutdown().await;
                return;
            }
            Ok(bytes) => {
                if socket.write_all(&buffer[..bytes]).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

impl AsyncRead for LinkedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.outbound.look_on(cx)?;
        this.inbound.refresh();
        let emulator = this.inbound.emulator();
        let turn = this.next_turn.saturating_sub(AHEAD_MAX);
        ready!(this.timer.poll(cx, emulator, turn));
        let room = to.len().min(this.inbound.turn_bytes());
        let read = ready!(Pin::new(&mut this.socket).poll_read(cx, &mut to[..room]))?;
        let now = emulator.now();
        this.next_turn = this.inbound.send(now, read).leaves;
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for LinkedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.outbound).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outbound).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.outbound).poll_close(cx)
    }
}
