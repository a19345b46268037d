//! The bound API socket, with a cap on its connections.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Interval,
};

use super::{
    home::{HomeError, HomeLock},
    socket::{self, Bound},
};

/// Connections at once: the operations there may be, as many short requests beside them, and 32
/// listeners to events. More wait in the backlog.
pub(super) const CONNECTIONS_MAX: usize = 160;

/// When the process is out of file descriptors, accepting again at once would only burn the
/// processor.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks whether the socket is still where clients look for it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Binds the API socket of a home.
///
/// # Errors
/// [`HomeError::Io`] when the file system refuses. Needs a tokio runtime.
pub fn bind(lock: &HomeLock) -> Result<ApiListener, HomeError> {
    let bound = socket::bind(lock)?;
    let listener = listen(&bound)?;
    Ok(ApiListener {
        listener,
        bound,
        room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        heads: Heads::default(),
        accepted: None,
        watch: tokio::time::interval(LOOK_INTERVAL),
        looking: None,
    })
}

/// A bound API socket; its files go when it is dropped.
#[derive(Debug)]
pub struct ApiListener {
    listener: UnixListener,
    bound: Bound,
    room: Arc<Semaphore>,
    heads: Heads,
    /// A connection that waits for room.
    accepted: Option<UnixStream>,
    watch: Interval,
    /// Looks whether the socket is there; on a thread of its own, for the disk may hang.
    looking: Option<JoinHandle<Looked>>,
}

/// Nothing as long as the socket is there, else a new one.
type Looked = Option<Result<Bound, HomeError>>;

/// Has the runtime listen on a bound socket.
fn listen(bound: &Bound) -> Result<UnixListener, HomeError> {
    let listener = bound.listener.try_clone().and_then(UnixListener::from_std);
    listener.map_err(|source| HomeError::Io {
        action: "listen on",
        path: bound.path.clone(),
        source,
    })
}

impl ApiListener {
    /// Where it is bound.
    pub fn path(&self) -> &Path {
        &self.bound.path
    }

    /// Whoever wants to know how many connections there are.
    pub(super) fn connections(&self) -> Connections {
        Connections(Arc::clone(&self.room))
    }

    /// The next connection, once there is room for it; binds the socket anew where it was swept away.
    /// Cancel-safe.
    pub(super) async fn accept(&mut self) -> Connection {
        loop {
            tokio::select! {
                stream = next(&self.listener), if self.accepted.is_none() => {
                    self.accepted = Some(stream);
                    if self.room.available_permits() == 0 {
                        self.heads.evict_oldest();
                    }
                }
                permit = room(&self.room), if self.accepted.is_some() => {
                    if let Some(stream) = self.accepted.take() {
                        let head = self.heads.enter();
                        return Connection { stream, head, _permit: permit };
                    }
                }
                looked = finished(&mut self.looking) => {
                    self.looking = None;
                    self.take(looked);
                }
                _ = self.watch.tick(), if self.looking.is_none() => {
                    self.looking = Some(tokio::task::spawn_blocking(self.bound.look()));
                }
            }
        }
    }

    /// Listens on a socket that replaces the one that is gone.
    fn take(&mut self, looked: Looked) {
        let Some(found) = looked else {
            return;
        };
        let replaced = found.and_then(|bound| Ok((listen(&bound)?, bound)));
        match replaced {
            Ok((listener, bound)) => {
                tracing::warn!(path = %bound.path.display(), "the socket of the API was gone and is back");
                self.listener = listener;
                std::mem::replace(&mut self.bound, bound).leave();
            }
            Err(error) => tracing::warn!(%error, "the socket of the API is gone"),
        }
    }
}

/// The next connection of a listener. Cancel-safe.
async fn next(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
    }
}

/// Room for one more connection, once there is some. Cancel-safe.
async fn room(room: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match Arc::clone(room).acquire_owned().await {
        Ok(permit) => permit,
        // The semaphore is never closed; were it, no connection would be better than one without a
        // cap.
        Err(_) => std::future::pending().await,
    }
}

/// What a look has found, once it has; never where none is under way. Cancel-safe.
async fn finished(looking: &mut Option<JoinHandle<Looked>>) -> Looked {
    match looking {
        // One that panicked has found nothing, and the next may.
        Some(looking) => looking.await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// How many connections there are.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Semaphore>);

impl Connections {
    /// As of now; as many as may be when more wait.
    pub(super) fn open(&self) -> u64 {
        (CONNECTIONS_MAX - self.0.available_permits()) as u64
    }
}

/// The connections on which no request has come yet, the oldest first: at most
/// [`CONNECTIONS_MAX`]. Where there is no room for another connection, the oldest of them gives way:
/// who asks for something writes it at once.
#[derive(Clone, Debug, Default)]
struct Heads(Arc<Mutex<VecDeque<Arc<Notify>>>>);

impl Heads {
    fn enter(&self) -> Head {
        let evicted = Arc::new(Notify::new());
        self.lock().push_back(Arc::clone(&evicted));
        Head {
            evicted,
            heads: self.clone(),
        }
    }

    fn evict_oldest(&self) {
        if let Some(oldest) = self.lock().pop_front() {
            tracing::debug!("a connection to the API on which no request came gives way");
            oldest.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.0.lock()
    }
}

/// The first request of a connection, which is waited for.
#[derive(Clone, Debug)]
pub(super) struct Head {
    evicted: Arc<Notify>,
    heads: Heads,
}

impl Head {
    /// It has come: the connection stays.
    pub(super) fn has_come(&self) {
        let mut heads = self.heads.lock();
        heads.retain(|other| !Arc::ptr_eq(other, &self.evicted));
    }

    /// Ends when the connection has to give way to another. Cancel-safe.
    pub(super) async fn gives_way(&self) {
        self.evicted.notified().await;
    }
}

/// An accepted connection, counted while it lives.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    head: Head,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Its first request.
    pub(super) fn head(&self) -> Head {
        self.head.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.head.has_come();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
