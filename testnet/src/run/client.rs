//! The API of a node, over the socket in its home: one connection for many questions, where a
//! command would be a process for each.

use std::{path::Path, time::Duration};

use reqwest::{Method, Response};
use serde::{Serialize, de::DeserializeOwned};
use shoal_node::api::{
    self, ApiError, ErrorBody, ErrorCode, HEARTBEAT_INTERVAL, types::StreamEvent,
};

/// Eight missed heartbeats: a machine that runs a whole network is busier than that of one node.
const SILENCE_MAX: Duration = HEARTBEAT_INTERVAL.saturating_mul(8);

/// The longest line is the status of a node with all its peers, transfers and shares.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The connection goes to the socket, whatever host the URL names.
const ORIGIN: &str = "http://localhost/api/v1";

/// The API of one node, which may have ended since.
#[derive(Clone, Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// Of the node with this home. Asks nothing yet.
    pub(super) fn of(home: &Path) -> Result<Self, ApiError> {
        let failed = |error: String| ApiError::new(ErrorCode::Internal, error);
        let socket = api::socket_path(home).map_err(|error| failed(error.to_string()))?;
        let http = reqwest::Client::builder().unix_socket(socket);
        http.build()
            .map(Self)
            .map_err(|error| failed(error.to_string()))
    }

    /// What comes at once.
    pub(super) async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ApiError> {
        let request = self.0.request(Method::GET, format!("{ORIGIN}/{path}"));
        let body = in_time(answer(request).await?.bytes()).await?;
        serde_json::from_slice(&body).map_err(|error| not_understood(&error))
    }

    /// What takes time. Dropping the future has the node give it up.
    pub(super) async fn post<Q: Serialize + Sync, P: DeserializeOwned, R: DeserializeOwned>(
        &self,
        path: &str,
        body: &Q,
        on_progress: impl Fn(P) + Send,
    ) -> Result<R, ApiError> {
        let request = self.0.request(Method::POST, format!("{ORIGIN}/{path}"));
        let mut lines = Lines::of(answer(request.json(body)).await?);
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
}

/// The answer's head, or the error that is its body.
async fn answer(request: reqwest::RequestBuilder) -> Result<Response, ApiError> {
    let response = in_time(request.send()).await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = in_time(response.bytes()).await?;
    Err(match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => body.error,
        Err(_) => ApiError::new(ErrorCode::Internal, format!("the node answered {status}")),
    })
}

async fn in_time<T>(
    future: impl Future<Output = Result<T, reqwest::Error>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(SILENCE_MAX, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) => Err(lost("it closed the connection")),
        Err(_) => {
            let seconds = SILENCE_MAX.as_secs();
            Err(lost(&format!("it has been silent for {seconds} s")))
        }
    }
}

/// The lines of a body as they arrive.
struct Lines {
    response: Response,
    buffer: Vec<u8>,
}

impl Lines {
    fn of(response: Response) -> Self {
        Self {
            response,
            buffer: Vec::new(),
        }
    }

    /// The next whole line; none at the end of the body.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        let mut searched = 0;
        loop {
            let fresh = &self.buffer[searched..];
            if let Some(end) = fresh.iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            searched = self.buffer.len();
            if searched > LINE_BYTES_MAX {
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
    ApiError::new(ErrorCode::DaemonLost, format!("the node went away: {how}"))
}

fn not_understood(error: &serde_json::Error) -> ApiError {
    let message = format!("the node's answer is not understood: {error}");
    ApiError::new(ErrorCode::Internal, message)
}
