//! The client of the daemon's API: one method per operation.
//!
//! A daemon that goes away in the middle of a command is an error within [`SILENCE_MAX`]; nothing
//! is retried. Dropping the future of a streamed operation closes its connection, which cancels the
//! operation in the daemon.

mod bytes;
#[cfg(test)]
mod tests;

use std::{io, path::Path, time::Duration};

use reqwest::{RequestBuilder, Response, Url};
use serde::{Serialize, de::DeserializeOwned};
use shoal_node::api::{
    self, ApiError, ErrorBody, ErrorCode, HEARTBEAT_INTERVAL,
    types::{
        CatRequest, CatResult, Collected, ConnectRequest, Connected, FetchProgress, FetchRequest,
        FetchResult, FindProgress, FindRequest, Found, GcProgress, GcRequest, Identity, Limits,
        LimitsChange, ListProgress, ListRequest, Listing, Peers, ShareProgress, ShareRequest,
        ShareResult, Shares, Status, Stopping, StreamEvent, Transfer, TransferChange, Transfers,
        UnshareRequest, Unshared, Verified, VerifyProgress, VerifyRequest,
    },
};
use tokio::net::UnixStream;

pub(crate) use self::bytes::{ByteStream, Part};

/// Four missed heartbeats: a person is told within 5 s that the daemon hangs.
pub(crate) const SILENCE_MAX: Duration = HEARTBEAT_INTERVAL.saturating_mul(4);

/// The longest line is the listing of the largest tree: 1 M entries with a name of 255 bytes, an
/// address of 60 and as many for field names.
const LINE_BYTES_MAX: usize = 400 << 20;

/// The host of every URL; the connection goes to the socket, whatever it says.
const ORIGIN: &str = "http://localhost";

/// A daemon that answered when it was made.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    origin: Url,
}

impl Client {
    /// The daemon of a home.
    ///
    /// # Errors
    /// [`ErrorCode::NoDaemon`] when none answers, [`ErrorCode::NoPermission`] when it is somebody
    /// else's.
    pub(crate) async fn connect(home: &Path) -> Result<Self, ApiError> {
        let path = api::socket_path(home).map_err(|error| unreachable(home, &error))?;
        UnixStream::connect(&path)
            .await
            .map_err(|error| unreachable(home, &error))?;
        let internal = |error: String| ApiError::new(ErrorCode::Internal, error);
        let http = reqwest::Client::builder()
            .unix_socket(path)
            .build()
            .map_err(|error| internal(error.to_string()))?;
        let origin = Url::parse(ORIGIN).map_err(|error| internal(error.to_string()))?;
        Ok(Self { http, origin })
    }

    pub(crate) async fn id(&self) -> Result<Identity, ApiError> {
        self.get("id").await
    }

    pub(crate) async fn status(&self) -> Result<Status, ApiError> {
        self.get("status").await
    }

    pub(crate) async fn peers(&self) -> Result<Peers, ApiError> {
        self.get("peers").await
    }

    pub(crate) async fn shares(&self) -> Result<Shares, ApiError> {
        self.get("shares").await
    }

    pub(crate) async fn limits(&self) -> Result<Limits, ApiError> {
        self.get("limits").await
    }

    pub(crate) async fn change_limits(&self, change: &LimitsChange) -> Result<Limits, ApiError> {
        unary(self.http.patch(self.url(&["limits"])).json(change)).await
    }

    pub(crate) async fn stop(&self) -> Result<Stopping, ApiError> {
        unary(self.http.post(self.url(&["stop"]))).await
    }

    pub(crate) async fn connect_to(&self, request: &ConnectRequest) -> Result<Connected, ApiError> {
        self.post("peers", request, |(): ()| {}).await
    }

    pub(crate) async fn share(
        &self,
        request: &ShareRequest,
        on_progress: impl FnMut(ShareProgress),
    ) -> Result<ShareResult, ApiError> {
        self.post("shares", request, on_progress).await
    }

    pub(crate) async fn unshare(&self, request: &UnshareRequest) -> Result<Unshared, ApiError> {
        let url = match request {
            UnshareRequest::Cid(cid) => self.url(&["shares", cid]),
            UnshareRequest::Path(path) => {
                let mut url = self.url(&["shares"]);
                let path = path.as_path().to_string_lossy();
                url.query_pairs_mut().append_pair("path", &path);
                url
            }
        };
        events(self.http.delete(url), |(): ()| {}).await
    }

    pub(crate) async fn fetch(
        &self,
        request: &FetchRequest,
        on_progress: impl FnMut(FetchProgress),
    ) -> Result<FetchResult, ApiError> {
        self.post("fetches", request, on_progress).await
    }

    /// The bytes of a file as they come.
    pub(crate) async fn cat(
        &self,
        request: &CatRequest,
    ) -> Result<ByteStream<FetchProgress, CatResult>, ApiError> {
        let request = self.http.post(self.url(&["cat"])).json(request);
        Ok(ByteStream::new(answer(request).await?))
    }

    pub(crate) async fn transfers(&self) -> Result<Transfers, ApiError> {
        self.get("transfers").await
    }

    /// Has a transfer pause, resume or be cancelled: `what` is the last part of the path.
    pub(crate) async fn tell_transfer(
        &self,
        target: &str,
        what: &str,
    ) -> Result<Transfer, ApiError> {
        let url = self.url(&["transfers", target, what]);
        events(self.http.post(url), |(): ()| {}).await
    }

    pub(crate) async fn change_transfer(
        &self,
        target: &str,
        change: TransferChange,
    ) -> Result<Transfer, ApiError> {
        let url = self.url(&["transfers", target]);
        unary(self.http.patch(url).json(&change)).await
    }

    pub(crate) async fn list(
        &self,
        request: &ListRequest,
        on_progress: impl FnMut(ListProgress),
    ) -> Result<Listing, ApiError> {
        self.post("ls", request, on_progress).await
    }

    pub(crate) async fn find(
        &self,
        request: &FindRequest,
        on_progress: impl FnMut(FindProgress),
    ) -> Result<Found, ApiError> {
        self.post("find", request, on_progress).await
    }

    pub(crate) async fn verify(
        &self,
        request: &VerifyRequest,
        on_progress: impl FnMut(VerifyProgress),
    ) -> Result<Verified, ApiError> {
        self.post("verify", request, on_progress).await
    }

    pub(crate) async fn gc(
        &self,
        request: &GcRequest,
        on_progress: impl FnMut(GcProgress),
    ) -> Result<Collected, ApiError> {
        self.post("gc", request, on_progress).await
    }

    async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ApiError> {
        unary(self.http.get(self.url(&[path]))).await
    }

    async fn post<Q: Serialize, P: DeserializeOwned, R: DeserializeOwned>(
        &self,
        path: &str,
        request: &Q,
        on_progress: impl FnMut(P),
    ) -> Result<R, ApiError> {
        events(self.http.post(self.url(&[path])).json(request), on_progress).await
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

/// An answer that comes at once.
async fn unary<R: DeserializeOwned>(request: RequestBuilder) -> Result<R, ApiError> {
    let response = answer(request).await?;
    let body = in_time(response.bytes()).await?;
    serde_json::from_slice(&body).map_err(|error| not_understood(&error))
}

/// An answer that is a line of JSON per event, up to the last.
async fn events<P: DeserializeOwned, R: DeserializeOwned>(
    request: RequestBuilder,
    mut on_progress: impl FnMut(P),
) -> Result<R, ApiError> {
    let mut lines = Lines::new(answer(request).await?);
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
async fn answer(request: RequestBuilder) -> Result<Response, ApiError> {
    let response = in_time(request.send()).await?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = in_time(response.bytes()).await?;
    Err(match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => body.error,
        Err(_) => ApiError::new(ErrorCode::Internal, format!("the daemon answered {status}")),
    })
}

async fn in_time<T>(
    future: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(SILENCE_MAX, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(lost("it closed the connection")),
        Err(_) => Err(lost(&format!(
            "it has been silent for {} s",
            SILENCE_MAX.as_secs()
        ))),
    }
}

/// The lines of a body as they arrive.
struct Lines {
    response: Response,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that hold no line end.
    searched: usize,
}

impl Lines {
    fn new(response: Response) -> Self {
        Self {
            response,
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
            match in_time(self.response.chunk()).await? {
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
        _ => ApiError::from_io(error, format!("cannot reach the daemon on {home}: {error}"))
            .hint("choose a home of your own with --home or SHOAL_HOME"),
    }
}
