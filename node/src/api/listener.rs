//! The bound API socket, with a cap on its connections.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::Interval,
};

use super::{
    home::{HomeError, HomeLock},
    socket::Bound,
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
    let bound = lock.bind()?;
    let listener = listen(&bound)?;
    Ok(ApiListener {
        listener,
        bound,
        room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
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
                connection = next(&self.listener, &self.room) => return connection,
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

/// The next connection of a listener, once there is room for it. Cancel-safe.
async fn next(listener: &UnixListener, room: &Arc<Semaphore>) -> Connection {
    loop {
        // The semaphore is never closed; were it, no connection would be better than one without a
        // cap.
        let Ok(permit) = Arc::clone(room).acquire_owned().await else {
            std::future::pending().await
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                return Connection {
                    stream,
                    _permit: permit,
                };
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the API");
                tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
            }
        }
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

/// An accepted connection, counted while it lives.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
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
