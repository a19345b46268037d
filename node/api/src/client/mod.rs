//! The client of the daemon's API: one method per operation, most of them made of `table.rs`.
//!
//! A daemon whose process ends in the middle of an operation is an error at once: the system closes
//! the connection. One that is only silent is waited for: it may be stopped, wait for a disk, or run
//! on a machine that sleeps. Who wants to know is told after four missed heartbeats
//! ([`Client::on_silence`]). Before the first sign of an answer the waiting is bounded; afterwards it
//! lasts as long as the connection, unless [`Client::silent_for`] says otherwise. Nothing is retried.
//! All operations fail with what the daemon said, or with [`ErrorCode::DaemonLost`]. Dropping the
//! future of a streamed operation closes its connection, which cancels the operation in the daemon.

mod bytes;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use reqwest::{RequestBuilder, Response, Url};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

pub use self::bytes::{ByteStream, Part};
use crate::{
    ApiError, ErrorBody, ErrorCode, HEARTBEAT_INTERVAL, HomeLock, table::operations, types::*,
};

/// Four missed heartbeats: a person is told within 5 s that the daemon does not answer.
const SILENCE_TOLD: Duration = HEARTBEAT_INTERVAL.saturating_mul(4);

/// The longest silence before the first sign of an answer: a machine that slept for a minute, or a
/// disk that hangs as long, is waited for.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(80);

/// The longest line is the listing of the largest tree: 1 M entries with a name of 255 bytes, an
/// address of 60 and as many for field names.
const LINE_BYTES_MAX: usize = 400 << 20;

/// The host of every URL; the connection goes to the socket, whatever it says.
const ORIGIN: &str = "http://localhost";

/// The API of the daemon of one home.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    origin: Url,
    patience: Patience,
}

/// What a client tells of a daemon's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing has come for some seconds.
    Begins {
        /// The process that holds the home, as far as that is known.
        process: Option<u32>,
    },
    /// The daemon answers again.
    Ends,
}

/// How long a daemon may be silent, and who is told.
#[derive(Clone)]
struct Patience {
    home: PathBuf,
    /// Before the first sign of an answer.
    first: Duration,
    /// Afterwards; none for as long as the connection lasts.
    later: Option<Duration>,
    tell: Option<Arc<dyn Fn(Silence) + Send + Sync>>,
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, later) = (self.first, self.later);
        write!(f, "Patience({first:?}, then {later:?})")
    }
}

/// The methods of all operations that `table.rs` defines.
macro_rules! client_methods {
    (
        plain { $(
            $(#[doc = $plain_doc:tt])*
            $plain_method:ident $plain_path:tt $plain:ident -> $plain_answer:ident, $plain_says:tt;
        )* }
        named { $(
            $(#[doc = $named_doc:tt])*
            $named_method:ident $named_path:tt $named:ident($param:tt, $param_says:tt)
                -> $named_answer:ident, $named_says:tt;
        )* }
        sent { $(
            $(#[doc = $sent_doc:tt])*
            $sent_method:ident $sent_path:tt $sent:ident($sent_request:ident)
                -> $sent_answer:ident, $sent_says:tt;
        )* }
        streamed { $(
            $(#[doc = $streamed_doc:tt])*
            $streamed_method:ident $streamed_path:tt
                $streamed:ident($streamed_request:ident, $streamed_progress:ident)
                -> $streamed_answer:ident, $streamed_says:tt;
        )* }
    ) => {
        $(
            $(#[doc = $plain_doc])*
            pub async fn $plain(&self) -> Result<$plain_answer, ApiError> {
                let url = self.url(&segments($plain_path));
                self.patience.unary(self.http.$plain_method(url)).await
            }
        )*
        $(
            $(#[doc = $named_doc])*
            pub async fn $named(&self, target: &str) -> Result<$named_answer, ApiError> {
                let mut path = segments($named_path);
                if let Some(last) = path.last_mut() {
                    *last = target;
                }
                let url = self.url(&path);
                self.patience.unary(self.http.$named_method(url)).await
            }
        )*
        $(
            $(#[doc = $sent_doc])*
            pub async fn $sent(&self, request: &$sent_request) -> Result<$sent_answer, ApiError> {
                let url = self.url(&segments($sent_path));
                self.patience
                    .unary(self.http.$sent_method(url).json(request))
                    .await
            }
        )*
        $(
            $(#[doc = $streamed_doc])*
            pub async fn $streamed(
                &self,
                request: &$streamed_request,
                on_progress: impl FnMut($streamed_progress),
            ) -> Result<$streamed_answer, ApiError> {
                let url = self.url(&segments($streamed_path));
                self.patience
                    .events(self.http.$streamed_method(url).json(request), on_progress)
                    .await
            }
        )*
    };
}

impl Client {
    operations!(client_methods);

    /// The daemon of a home.
    ///
    /// # Errors
    /// [`ErrorCode::NoDaemon`] when none answers, [`ErrorCode::NoPermission`] when it is somebody
    /// else's.
    pub async fn connect(home: &Path) -> Result<Self, ApiError> {
        let path = crate::socket_path(home).map_err(|error| unreachable(home, &error))?;
        UnixStream::connect(&path)
            .await
            .map_err(|error| unreachable(home, &error))?;
        Self::of(home)
    }

    /// The daemon of a home, of which nothing is asked yet: it may be gone, or come later.
    ///
    /// # Errors
    /// When there can be no socket in this home.
    pub fn of(home: &Path) -> Result<Self, ApiError> {
        let path = crate::socket_path(home).map_err(|error| unreachable(home, &error))?;
        let internal = |error: String| ApiError::new(ErrorCode::Internal, error);
        let http = reqwest::Client::builder()
            .unix_socket(path)
            .build()
            .map_err(|error| internal(error.to_string()))?;
        let origin = Url::parse(ORIGIN).map_err(|error| internal(error.to_string()))?;
        Ok(Self {
            http,
            origin,
            patience: Patience {
                home: home.to_owned(),
                first: FIRST_ANSWER_MAX,
                later: None,
                tell: None,
            },
        })
    }

    /// The same, for a daemon that is given up when it has been silent for so long at any time.
    #[must_use]
    pub fn silent_for(mut self, time: Duration) -> Self {
        self.patience.first = time;
        self.patience.later = Some(time);
        self
    }

    /// The same, which tells when the daemon falls silent, and when it answers again.
    #[must_use]
    pub fn on_silence(mut self, tell: impl Fn(Silence) + Send + Sync + 'static) -> Self {
        self.patience.tell = Some(Arc::new(tell));
        self
    }

    /// Has it stop in order; it has begun to when this returns.
    pub async fn stop(&self) -> Result<Stopping, ApiError> {
        self.patience
            .unary(self.http.post(self.url(&["stop"])))
            .await
    }

    /// Has it connect to a peer.
    pub async fn connect_to(&self, request: &ConnectRequest) -> Result<Connected, ApiError> {
        self.post("peers", request, |(): ()| {}).await
    }

    /// Has it share files, to the end of the first announcement if that was asked for.
    pub async fn share(
        &self,
        request: &ShareRequest,
        on_progress: impl FnMut(ShareProgress),
    ) -> Result<ShareResult, ApiError> {
        self.post("shares", request, on_progress).await
    }

    /// Takes a share back.
    pub async fn unshare(&self, request: &UnshareRequest) -> Result<Unshared, ApiError> {
        let url = match request {
            UnshareRequest::Cid(cid) => self.url(&["shares", cid]),
            UnshareRequest::Path(path) => {
                let mut url = self.url(&["shares"]);
                let path = path.as_path().to_string_lossy();
                url.query_pairs_mut().append_pair("path", &path);
                url
            }
        };
        self.patience
            .events(self.http.delete(url), |(): ()| {})
            .await
    }

    /// Changes every share of a root, or the one at a path.
    pub async fn change_share(&self, cid: &str, change: &ShareChange) -> Result<Shares, ApiError> {
        let url = self.url(&["shares", cid]);
        self.patience.unary(self.http.patch(url).json(change)).await
    }

    /// The bytes of a file as they come.
    pub async fn cat(
        &self,
        request: &CatRequest,
    ) -> Result<ByteStream<FetchProgress, CatResult>, ApiError> {
        let request = self.http.post(self.url(&["cat"])).json(request);
        Ok(ByteStream::new(
            self.patience.answer(request).await?,
            self.patience.clone(),
        ))
    }

    /// Has a transfer pause, resume or be cancelled: `what` is the last part of the path.
    pub async fn tell_transfer(&self, target: &str, what: &str) -> Result<Transfer, ApiError> {
        let url = self.url(&["transfers", target, what]);
        self.patience.events(self.http.post(url), |(): ()| {}).await
    }

    /// Changes what a transfer may receive.
    pub async fn change_transfer(
        &self,
        target: &str,
        change: TransferChange,
    ) -> Result<Transfer, ApiError> {
        let url = self.url(&["transfers", target]);
        self.patience
            .unary(self.http.patch(url).json(&change))
            .await
    }

    async fn post<Q: Serialize, P: DeserializeOwned, R: DeserializeOwned>(
        &self,
        path: &str,
        request: &Q,
        on_progress: impl FnMut(P),
    ) -> Result<R, ApiError> {
        self.patience
            .events(self.http.post(self.url(&[path])).json(request), on_progress)
            .await
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.origin.clone();
        // Only a URL without a host has no segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(["api", "v1"]).extend(path);
        }
        url
    }
}

impl Patience {
    /// An answer that comes at once.
    async fn unary<R: DeserializeOwned>(&self, request: RequestBuilder) -> Result<R, ApiError> {
        let response = self.answer(request).await?;
        let body = self.wait(self.later, response.bytes()).await?;
        serde_json::from_slice(&body).map_err(|error| not_understood(&error))
    }

    /// An answer that is a line of JSON per event, up to the last.
    async fn events<P: DeserializeOwned, R: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        mut on_progress: impl FnMut(P),
    ) -> Result<R, ApiError> {
        let mut lines = Lines::new(self.answer(request).await?, self.clone());
        while let Some(line) = lines.next().await? {
            match serde_json::from_slice(&line).map_err(|error| not_understood(&error))? {
                StreamEvent::Progress(progress) => on_progress(progress),
                StreamEvent::Heartbeat => {}
                StreamEvent::Done { result } => return Ok(result),
                StreamEvent::Error { error } => return Err(error),
            }
        }
        Err(lost("it closed the connection"))
    }

    /// The answer's head, or the error that is its body.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, ApiError> {
        let response = self.wait(Some(self.first), request.send()).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.wait(self.later, response.bytes()).await?;
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => body.error,
            Err(_) => ApiError::new(ErrorCode::Internal, format!("the daemon answered {status}")),
        })
    }

    /// Waits for something from the daemon, at most `until`.
    ///
    /// Silence is counted in ticks of this process. One that was stopped for a minute, or slept with
    /// its machine, has heard nothing for one tick, and looks at what has arrived meanwhile first.
    async fn wait<T>(
        &self,
        until: Option<Duration>,
        future: impl Future<Output = Result<T, reqwest::Error>>,
    ) -> Result<T, ApiError> {
        let mut future = pin!(future);
        let mut silent = Duration::ZERO;
        let result = loop {
            let ticked = tokio::time::timeout(HEARTBEAT_INTERVAL, future.as_mut());
            if let Ok(result) = ticked.await {
                break result;
            }
            silent += HEARTBEAT_INTERVAL;
            if silent == SILENCE_TOLD {
                self.tell(Silence::Begins {
                    process: self.process(),
                });
            }
            if until.is_some_and(|until| silent >= until) {
                return Err(self.silent(silent));
            }
        };
        let value = result.map_err(|_| lost("it closed the connection"))?;
        if silent >= SILENCE_TOLD {
            self.tell(Silence::Ends);
        }
        Ok(value)
    }

    fn tell(&self, silence: Silence) {
        if let Some(tell) = &self.tell {
            tell(silence);
        }
    }

    /// The process that holds the home. Looking into its lock blocks for microseconds.
    fn process(&self) -> Option<u32> {
        HomeLock::holder(&self.home).ok().flatten()
    }

    fn silent(&self, time: Duration) -> ApiError {
        let process = self.process();
        let process = process.map_or(String::new(), |pid| format!(" (process {pid})"));
        let message = format!(
            "the daemon{process} does not answer: it has been silent for {} s",
            time.as_secs()
        );
        ApiError::new(ErrorCode::DaemonLost, message).hint(
            "it may be stopped, or wait for a disk; see its log, and repeat the command when it goes on",
        )
    }
}

/// The parts of a path as the table of operations writes it.
fn segments(path: &str) -> Vec<&str> {
    path.split('/').skip(1).collect()
}

/// The lines of a body as they arrive.
struct Lines {
    response: Response,
    patience: Patience,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that hold no line end.
    searched: usize,
}

impl Lines {
    fn new(response: Response, patience: Patience) -> Self {
        Self {
            response,
            patience,
            buffer: Vec::new(),
            searched: 0,
        }
    }

    /// The next whole line; none at the end of the body.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(end) = fresh.iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                self.searched = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                let message = format!("an answer of more than {LINE_BYTES_MAX} bytes");
                return Err(ApiError::new(ErrorCode::Internal, message));
            }
            match self
                .patience
                .wait(self.patience.later, self.response.chunk())
                .await?
            {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

fn lost(how: &str) -> ApiError {
    ApiError::new(
        ErrorCode::DaemonLost,
        format!("the daemon went away: {how}"),
    )
    .hint("see its log, start it again with `shoal daemon`, and repeat the command")
}

fn not_understood(error: &serde_json::Error) -> ApiError {
    ApiError::new(
        ErrorCode::Internal,
        format!("the daemon's answer is not understood: {error}"),
    )
    .hint("it may be of another version; restart it")
}

fn unreachable(home: &Path, error: &io::Error) -> ApiError {
    let home = home.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ApiError::new(
            ErrorCode::NoDaemon,
            format!("no daemon is running on {home}"),
        )
        .hint("start one with `shoal daemon --detach`, or choose its home with --home"),
        _ => ApiError::of_io(error, format!("cannot reach the daemon on {home}"))
            .hint("choose a home of your own with --home or SHOAL_HOME"),
    }
}
