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
};

use super::home::{Bound, HomeError, HomeLock};

/// Connections at once: the operations there may be, as many short requests beside them, and 32
/// listeners to events. More wait in the backlog.
pub(super) const CONNECTIONS_MAX: usize = 160;

/// When the process is out of file descriptors, accepting again at once would only burn the
/// processor.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Binds the API socket of a home.
///
/// # Errors
/// [`HomeError::Io`] when the file system refuses. Needs a tokio runtime.
pub fn bind(lock: &HomeLock) -> Result<ApiListener, HomeError> {
    let bound = lock.bind()?;
    let listener = bound
        .listener
        .try_clone()
        .and_then(UnixListener::from_std)
        .map_err(|source| HomeError::Io {
            action: "listen on",
            path: bound.path.clone(),
            source,
        })?;
    Ok(ApiListener {
        listener,
        bound,
        room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    })
}

/// A bound API socket; its files go when it is dropped.
#[derive(Debug)]
pub struct ApiListener {
    listener: UnixListener,
    bound: Bound,
    room: Arc<Semaphore>,
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

    /// The next connection, once there is room for it. Cancel-safe.
    pub(super) async fn accept(&self) -> Connection {
        loop {
            // The semaphore is never closed; were it, no connection would be better than one
            // without a cap.
            let Ok(permit) = Arc::clone(&self.room).acquire_owned().await else {
                std::future::pending().await
            };
            match self.listener.accept().await {
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
