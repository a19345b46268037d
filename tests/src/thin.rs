//! A thin line to a node: a relay on loopback that lets through so many bytes per second, and takes
//! its time.
//!
//! What comes from the node is held back, over all connections together and fairly between them;
//! what goes to it is not. Both ways take the delay. Its buffers are small, so that the node feels
//! the line and not the relay. Threads end with their connections, and the relay with the process.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use socket2::{Domain, SockRef, Socket, Type};

/// The most bytes that pass at a time; on a slow line what passes in [`PIECE_TIME`].
const PIECE_BYTES_MAX: usize = 16 << 10;
/// A slow line lets something through as often as that.
const PIECE_TIME: Duration = Duration::from_millis(125);
/// Pieces on their way at a time: 4 MiB, the product of 400 Mbit/s and 80 ms.
const PIECES_MAX: usize = 256;
/// What the system may hold for the relay, per connection and way: a second's worth within these.
const BUFFER_BYTES: RangeInclusive<usize> = 16 << 10..=64 << 10;
/// The payload of a segment on Ethernet. Those of loopback hold 64 KiB: more than a small buffer, so the
/// node would send by the timer that probes a closed window, seconds apart.
const SEGMENT_BYTES: u32 = 1448;
/// What the line has not carried for so long, because the system had nothing for it yet, it makes up
/// for: small windows on loopback open in steps.
const CREDIT: Duration = Duration::from_millis(500);

/// A running relay.
pub struct ThinLine {
    /// The node's address by way of the relay, with its peer id.
    pub address: String,
    line: Arc<Line>,
}

impl ThinLine {
    /// Starts a relay to the node at `address`, a loopback multiaddr with TCP, that lets through
    /// `bytes_per_second` of what the node sends.
    ///
    /// # Panics
    /// When the address is another, or the system refuses.
    #[must_use]
    pub fn to(address: &str, bytes_per_second: u64) -> Self {
        Self::with_delay(address, bytes_per_second, Duration::ZERO)
    }

    /// The same, with everything `delay` later, both ways.
    ///
    /// # Panics
    /// As [`ThinLine::to`].
    #[must_use]
    pub fn with_delay(address: &str, bytes_per_second: u64, delay: Duration) -> Self {
        let mut parts: Vec<&str> = address.split('/').collect();
        assert_eq!(parts[1..4], ["ip4", "127.0.0.1", "tcp"], "{address}");
        let node: u16 = parts[4].parse().expect("a port");
        let node = SocketAddr::from(([127, 0, 0, 1], node));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener
            .local_addr()
            .expect("an address")
            .port()
            .to_string();
        let line = Arc::new(Line {
            bytes_per_second,
            delay,
            free_at: Mutex::new(Instant::now()),
            passed: AtomicU64::new(0),
        });
        let relayed = Arc::clone(&line);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The client sees an error here as a lost connection.
                let _ = relay(client, node, &relayed);
            }
        });
        parts[4] = &port;
        Self {
            address: parts.join("/"),
            line,
        }
    }

    /// Bytes of the node that have passed so far, over all connections.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.line.passed.load(Relaxed)
    }
}

struct Line {
    bytes_per_second: u64,
    delay: Duration,
    free_at: Mutex<Instant>,
    passed: AtomicU64,
}

impl Line {
    /// Bytes that it carries in a time.
    fn bytes_in(&self, time: Duration) -> usize {
        let bytes = u128::from(self.bytes_per_second) * time.as_millis() / 1000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Waits until so many bytes have passed, behind those that came before.
    fn pass(&self, bytes: usize) {
        let time = Duration::from_secs(1) * u32::try_from(bytes).expect("a piece")
            / u32::try_from(self.bytes_per_second).expect("a thin line");
        let until = {
            let mut free_at = self.free_at.lock();
            let now = Instant::now();
            *free_at = (*free_at).max(now.checked_sub(CREDIT).unwrap_or(now)) + time;
            *free_at
        };
        // This is the line: bytes take their time, whatever else happens.
        thread::sleep(until.saturating_duration_since(Instant::now()));
        self.passed.fetch_add(bytes as u64, Relaxed);
    }
}

fn relay(client: TcpStream, node: SocketAddr, line: &Arc<Line>) -> io::Result<()> {
    let second = line.bytes_in(Duration::from_secs(1));
    let buffer = second.clamp(*BUFFER_BYTES.start(), *BUFFER_BYTES.end());
    let to_node = Socket::new(Domain::for_address(node), Type::STREAM, None)?;
    to_node.set_recv_buffer_size(buffer)?;
    to_node.set_tcp_mss(SEGMENT_BYTES)?;
    to_node.connect(&node.into())?;
    let node = TcpStream::from(to_node);
    SockRef::from(&client).set_send_buffer_size(buffer)?;
    let piece = line.bytes_in(PIECE_TIME).clamp(1, PIECE_BYTES_MAX);
    let (up, down) = ((client.try_clone()?, node.try_clone()?), (node, client));
    let delay = line.delay;
    let line = Arc::clone(line);
    pump(up, delay, PIECE_BYTES_MAX, |_| {})?;
    pump(down, delay, piece, move |bytes| line.pass(bytes))
}

/// Passes on what comes from one side to the other, so many bytes at a time, in threads of its own.
fn pump(
    (mut from, mut to): (TcpStream, TcpStream),
    delay: Duration,
    piece_bytes: usize,
    pass: impl Fn(usize) + Send + 'static,
) -> io::Result<()> {
    let (sender, on_its_way) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let source = from.try_clone()?;
    thread::spawn(move || {
        let mut piece = vec![0; piece_bytes];
        while let Ok(bytes @ 1..) = from.read(&mut piece) {
            pass(bytes);
            let piece = (Instant::now() + delay, piece[..bytes].to_vec());
            if sender.send(piece).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, piece) in on_its_way {
            // This is the line: it takes its time.
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // Either may be closed already.
        let _ = to.shutdown(Shutdown::Write);
        let _ = source.shutdown(Shutdown::Read);
    });
    Ok(())
}
