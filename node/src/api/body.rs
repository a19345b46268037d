//! Request bodies: JSON, small, in time, or an error that says what is wrong.

use std::time::Duration;

use axum::{
    body,
    extract::{FromRequest, Request},
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

/// A request body of type `T`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !is_json(&request) {
            return Err(usage("the body has to be application/json"));
        }
        let body = body::to_bytes(request.into_body(), BODY_BYTES_MAX);
        let bytes = tokio::time::timeout(BODY_DEADLINE, body)
            .await
            .map_err(|_| usage("the body did not arrive in time"))?
            .map_err(|error| body_error(&error))?;
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

fn usage(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Usage, message)
}

fn body_error(error: &axum::Error) -> ApiError {
    if is_length_limit(error) {
        return ApiError::new(
            ErrorCode::TooLarge,
            format!("the request is larger than {BODY_BYTES_MAX} bytes"),
        )
        .hint("name a folder instead of its files");
    }
    usage(format!("the request broke off: {error}"))
}

fn is_length_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        // `axum::body::to_bytes` documents this source, whose type is
        // `http_body_util::LengthLimitError`.
        if error.to_string() == "length limit exceeded" {
            return true;
        }
        source = error.source();
    }
    false
}
