//! Looking after what is held: verifying it, and taking out what nothing needs.

use axum::{extract::State, response::Response};

use super::Api;
use crate::{
    ApiError, ErrorBody, Service,
    body::JsonBody,
    stream,
    types::{
        Collected, GcProgress, GcRequest, StreamEvent, Verified, VerifyProgress, VerifyRequest,
    },
};

/// Reads and hashes what is shared.
///
/// What is found to have changed is not served any more; what is found whole again is.
#[utoipa::path(post, path = "/verify", request_body = VerifyRequest, responses(
    (
        status = 200,
        description = "Its progress, then what was found",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<VerifyProgress, Verified>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn verify<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<VerifyRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.verify(request, progress, cancel).await
    })
}

/// Takes out what nothing needs, and gives its space back.
#[utoipa::path(post, path = "/gc", request_body = GcRequest, responses(
    (
        status = 200,
        description = "Its progress, then what was taken out",
        content_type = "application/x-ndjson",
        item_schema = StreamEvent<GcProgress, Collected>,
    ),
    (status = "default", description = "The failure", body = ErrorBody),
))]
pub(super) async fn gc<S: Service>(
    State(api): State<Api<S>>,
    JsonBody(request): JsonBody<GcRequest>,
) -> Result<Response, ApiError> {
    stream::respond(&api.operations, |progress, cancel| async move {
        api.service.gc(request, progress, cancel).await
    })
}
