//! Request bodies: JSON, small, in time, or an error that says what is wrong.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequest, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
    http::header,
};
use serde::de::DeserializeOwned;

use super::{ApiError, ErrorCode};

/// The largest request is a list of paths. A command line has at most 2 MiB of them; as JSON, with
/// every byte escaped, seldom more than twice that.
const BODY_BYTES_MAX: usize = 4 << 20;

/// 4 MiB through a local socket take milliseconds; a client that is suspended for longer tries
/// again.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What keeps [`JsonBody`] from reading more than it takes; a layer of the router.
pub(super) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(BODY_BYTES_MAX)
}

/// A request body of type `T`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(usage("the body has to be application/json"));
        }
        let bytes = tokio::time::timeout(BODY_DEADLINE, Bytes::from_request(request, state))
            .await
            .map_err(|_| usage("the body did not arrive in time"))?
            .map_err(|rejection| refused(&rejection))?;
        // A list would pass for a request whose fields may all be left out.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(usage("the request is not understood: it is no object"));
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| usage(format!("the request is not understood: {error}")))
    }
}

/// Browsers send other types across origins without asking; this one they may not.
fn is_json(request: &Request) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
}

fn refused(rejection: &BytesRejection) -> ApiError {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            ApiError::new(
                ErrorCode::TooLarge,
                format!("the request is larger than {BODY_BYTES_MAX} bytes"),
            )
            .hint("name a folder instead of its files")
        }
        broken => usage(format!("the request broke off: {broken}")),
    }
}

fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Usage, message)
}
